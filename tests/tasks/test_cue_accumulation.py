"""The cue accumulation task: who fires when, what is asked, and what the shortcuts reach."""

import pytest
import torch

from tracetorch.tasks import CueAccumulation


def test_by_default_it_is_the_task_of_the_paper():
    task = CueAccumulation()
    assert (task.steps, task.input_size, task.readout_window) == (7 * 150 + 1050 + 150, 40, 150)
    _, marks = task.example()
    assert marks == {"cues": (0, 1050), "delay": (1050, 2100), "recall": (2100, 2250)}


def test_each_population_fires_at_its_rate_when_it_is_its_turn_and_never_else():
    task = CueAccumulation(batch_size=200)
    batch = task.train_batch(0)
    spikes = batch.xs.dense().view(task.steps, 200, 4, 10).mean(dim=-1)
    left, right, recall, noise = spikes.unbind(dim=-1)
    cued = torch.zeros(task.steps, dtype=torch.bool)
    for number in range(7):
        cued[150 * number : 150 * number + 100] = True
    assert float(left[~cued].sum() + right[~cued].sum() + recall[:2100].sum()) == 0
    assert float((left + right)[cued].mean()) == pytest.approx(0.04, abs=0.001)  # 40 Hz on one of the two sides
    assert float(recall[2100:].mean()) == pytest.approx(0.04, abs=0.001)
    assert float(noise.mean()) == pytest.approx(0.01, abs=0.0005)
    for number in range(7):  # one side only, and the same in the whole cue
        cue = slice(150 * number, 150 * number + 100)
        assert not bool(((left[cue].sum(dim=0) > 0) & (right[cue].sum(dim=0) > 0)).any())


def test_the_answer_is_the_side_with_more_cues():
    task = CueAccumulation(batch_size=100)
    batch = task.train_batch(3)
    sides = batch.xs.dense().view(task.steps, 100, 4, 10).sum(dim=-1)
    cues = torch.stack([sides[150 * n : 150 * n + 100].sum(dim=0) for n in range(7)])  # (cues, batch, populations)
    right = cues[..., 1] > cues[..., 0]
    assert torch.equal(batch.target, (right.sum(dim=0) > 3).long())
    assert torch.equal(batch.conditions["surplus"], 2.0 * right.sum(dim=0) - 7)
    assert torch.equal(batch.conditions["last_cue_accuracy"], (right[-1].long() == batch.target).float())
    assert torch.equal(
        batch.conditions["last_three_accuracy"], ((right[-3:].sum(dim=0) > 1).long() == batch.target).float()
    )


def test_the_shortcuts_reach_what_probability_says():
    from itertools import product

    task = CueAccumulation(test_trials=4000)
    parts = [task.score(torch.rand(len(b.target), 2), b) for b in task.eval_batches("test")]
    found = task.summary({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    wanted = {"last_cue_accuracy": 0.0, "last_three_accuracy": 0.0}
    for cues in product((0, 1), repeat=7):  # of a trial whose side is right
        chance = 0.7 ** sum(cues) * 0.3 ** (7 - sum(cues))
        most = sum(cues) > 3
        wanted["last_cue_accuracy"] += chance * (cues[-1] == most)
        wanted["last_three_accuracy"] += chance * ((sum(cues[-3:]) > 1) == most)
    assert found == pytest.approx(wanted, abs=0.02)
    assert abs(float(torch.cat([part["target"] for part in parts]).float().mean()) - 0.5) < 0.03


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"cues": 6}, "cues must be an odd number"),
        ({"cues": -1}, "cues must be an odd number"),
        ({"recall": -1}, "recall must be at least 0, got -1"),
        ({"recall": 0.0001}, "the recall lasts at least a step of 0.001 s, got 0.0001 s"),
        ({"interval": float("inf")}, "interval must be finite"),
        ({"bias": 0.3}, "bias"),
        ({"cue": 0.2}, "at most the interval"),
        ({"cue": 0.0}, "at least a step"),
        ({"dt": 0.0}, "dt must be above 0"),
        ({"rate": 2000.0}, "short enough"),
        ({"delay": -1.0}, "delay"),
        ({"batch_size": 0}, "batch_size"),
        ({"test_trials": 0}, "test_trials"),
    ],
    ids=str,
)
def test_what_makes_no_trial_is_refused(changes, phrase):
    with pytest.raises(ValueError, match=phrase):
        CueAccumulation(**changes)
