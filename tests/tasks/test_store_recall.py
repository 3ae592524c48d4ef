"""Store and recall: which populations fire when, the target, and the accuracies of shortcuts."""

import pytest
import torch

from tracetorch.tasks import StoreRecall


def trials(**changes):
    """A batch of a small task, and its spikes, (intervals, batch, populations)."""
    task = StoreRecall(interval=0.04, rate=200.0, neurons_per_channel=5, batch_size=300, **changes)
    batch = task.train_batch(0)
    return batch, batch.xs.dense().view(8, 40, 300, 4, 5).sum(dim=(1, 4))


def test_the_default_has_eight_intervals_with_the_rates_of_their_populations():
    task = StoreRecall(batch_size=50, noise=10.0)
    spikes = task.train_batch(0).xs.dense().view(8, 200, 50, 4, 10).mean(dim=(1, 4))
    assert float(spikes[-1, :, 3].mean()) == pytest.approx(0.05, abs=0.003)
    assert float(spikes[:-1, :, 3].mean()) == pytest.approx(0.01, abs=0.0005)
    assert float(spikes[:-1, :, :2].sum(dim=-1).mean()) == pytest.approx(0.06, abs=0.001)
    assert (task.steps, task.input_size, task.readout_window) == (8 * 200, 40, 200)
    batch, marks = task.example()
    store = 200 * (6 - int(batch.conditions["distractors"]))
    assert marks == {"store": (store, store + 200), "recall": (1400, 1600)}


def test_each_interval_but_the_last_has_a_value_and_the_target_is_the_one_at_store():
    batch, counted = trials()
    zero, one, store, recall = (counted > 0).unbind(dim=-1)
    assert torch.equal(zero[:-1], ~one[:-1]) and bool(recall[-1].all())
    assert not bool((zero | one)[-1].any() | recall[:-1].any())
    assert float(one[:-1].float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 2100**0.5)
    assert torch.equal(store.sum(dim=0), torch.ones(300, dtype=torch.int64))
    assert torch.equal(6 - store.long().argmax(dim=0), batch.conditions["distractors"])
    times = torch.bincount(batch.conditions["distractors"], minlength=7) / 300
    assert float((times - 1 / 7).abs().max()) < 4 * (1 / 7 * 6 / 7 / 300) ** 0.5
    assert torch.equal(batch.target, (one & store).any(dim=0).long())
    assert torch.equal(batch.conditions["last_value_accuracy"], (one[-2] == batch.target).float())
    most = one[:-1].float().mean(dim=0) > 0.5  # seven values: no tie
    assert torch.equal(batch.conditions["majority_accuracy"], (most == batch.target).float())


@pytest.mark.parametrize(
    ("intervals", "distractors", "last", "majority"),
    [(8, "0..6", 1 / 7 + 6 / 14, 1 / 2 + 5 / 32), (5, [2], 1 / 2, 11 / 16)],
)
def test_the_shortcuts_have_their_computed_accuracies(intervals, distractors, last, majority):
    given = {"interval": 0.001, "neurons_per_channel": 1, "batch_size": 4000}
    task = StoreRecall(intervals=intervals, distractors=distractors, **given)
    batch, wanted = task.train_batch(0), {"last_value_accuracy": last, "majority_accuracy": majority}
    assert task.summary(batch.conditions) == pytest.approx(wanted, abs=4 * 0.5 / 4000**0.5)
    ties = batch.conditions["majority_accuracy"] == 0.5  # of four values
    assert float(ties.float().mean()) == pytest.approx(6 / 16 if intervals == 5 else 0, abs=0.03)


def test_its_figure_has_the_accuracy_over_the_distractors():
    task = StoreRecall(batch_size=60, intervals=4, distractors=[0, 2])
    batch = task.train_batch(0)
    correct = (batch.conditions["distractors"] == 2).float()
    (axes,) = task.figures(batch.conditions | {"accuracy": correct})["distractors"].axes
    assert axes.containers[0].lines[0].get_xydata().tolist() == [[0, 0], [2, 1]]
