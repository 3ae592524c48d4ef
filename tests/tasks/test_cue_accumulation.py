"""Cue accumulation: which populations fire when, the target, and the accuracies of shortcuts."""

import pytest
import torch

from tracetorch.tasks import CueAccumulation


def test_each_population_fires_in_its_intervals_and_the_target_is_the_side_with_more_cues():
    task = CueAccumulation(batch_size=200)
    assert (task.steps, task.input_size, task.readout_window) == (7 * 150 + 1050 + 150, 40, 150)  # Bellec et al. (2020)
    assert task.example()[1] == {"cues": (0, 1050), "delay": (1050, 2100), "recall": (2100, 2250)}
    batch = task.train_batch(0)
    spikes = batch.xs.dense().view(task.steps, 200, 4, 10).mean(dim=-1)
    left, right, recall, noise = spikes.unbind(dim=-1)
    cued = (torch.arange(task.steps) % 150 < 100) & (torch.arange(task.steps) < 1050)
    assert float(left[~cued].sum() + right[~cued].sum() + recall[:2100].sum()) == 0
    assert float((left + right)[cued].mean()) == pytest.approx(0.04, abs=0.001)  # 40 Hz on one of the two sides
    assert float(recall[2100:].mean()) == pytest.approx(0.04, abs=0.001)
    assert float(noise.mean()) == pytest.approx(0.01, abs=0.0005)
    cues = spikes[:1050].unflatten(0, (7, 150)).sum(dim=1)[..., :2] > 0  # (cues, batch, sides)
    on_right = cues[..., 1]
    assert torch.equal(on_right, ~cues[..., 0])  # exactly one side fires in each cue
    assert torch.equal(batch.target, (on_right.sum(dim=0) > 3).long())
    assert torch.equal(batch.conditions["surplus"], 2.0 * on_right.sum(dim=0) - 7)
    assert torch.equal(batch.conditions["last_cue_accuracy"], (on_right[-1] == batch.target).float())
    majority = on_right[-3:].sum(dim=0) > 1
    assert torch.equal(batch.conditions["last_three_accuracy"], (majority == batch.target).float())


def test_the_shortcuts_have_their_computed_accuracies():
    task = CueAccumulation(batch_size=4000, cue=0.1, interval=0.1, delay=0.0, recall=0.1, dt=0.1, rate=10.0)
    batch = task.train_batch(0)
    wanted = {"last_cue_accuracy": 0.7274, "last_three_accuracy": 0.8307}  # summed over the 2⁷ sequences of sides
    assert task.summary(batch.conditions) == pytest.approx(wanted, abs=0.02)
    assert float(batch.target.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert CueAccumulation(bias=0.5).bias == 0.5  # the lowest bias, with which cues carry no information


def test_the_x_axis_of_its_figure_is_labelled_with_the_surplus_of_cues():
    task = CueAccumulation(batch_size=20)
    batch = task.train_batch(0)
    trials = batch.conditions | {"prediction": batch.target}
    (axes,) = task.figures(trials)["psychometric"].axes
    assert axes.get_xlabel() == "cues on the right − cues on the left"
    points = axes.containers[0].lines[0].get_xydata()
    assert len(points) > 2 and ((points[:, 0] > 0) == points[:, 1]).all()
