"""The figures of a run: which are drawn, and how much of a long trial or episode they show."""

from dataclasses import replace

import numpy as np
import torch

from tests.drawings import LIFE
from tests.tiny_world import NET, Lights
from tracetorch import nn, plot
from tracetorch.data import Samples
from tracetorch.runs import RunFolder
from tracetorch.tasks import PoissonClicks, SampledTask
from tracetorch.tasks.evaluate import Activity, watch
from tracetorch.training import report
from tracetorch.training.report import draw


def drawn(monkeypatch, folder, records, *parts, **options):
    """The figures by name; none has failed."""
    figures = {}
    monkeypatch.setattr(plot, "save", lambda figure, path, formats: figures.setdefault(path.name, figure))
    for record in records:
        RunFolder(folder).append_record(record)
    found = draw(RunFolder(folder), *parts, **options)
    assert not found.failed and found.names == list(figures)
    return figures


def test_the_figures_of_a_lifetime_show_a_bounded_part_of_a_long_trial(tmp_path, monkeypatch):
    task = PoissonClicks(duration=[0.2], delay=40.0, neurons_per_channel=1, test_trials=4)
    net = NET(task.input_size, 2)
    net.run(torch.ones(5, 1, task.input_size))  # the figures begin in the reset state
    figures = drawn(monkeypatch, tmp_path, LIFE, net, task, None)
    assert set(figures) == {"learning", "parameters", "lifetime", "policy", "recovery", "raster", "membrane"}
    raster, policy, membrane = (figures[name].axes[0] for name in ("raster", "policy", "membrane"))
    assert raster.get_xlim() == (0, 40.0)  # 4000 steps
    assert [(bar.get_x(), round(bar.get_width(), 3)) for bar in raster.patches] == [(0, 0.2), (0.2, 39.8)]
    assert [label.get_text() for label in policy.get_yticklabels()] == ["left", "right"]
    first = watch(net, task.example()[0].xs[:9].dense()).membranes[0]
    first = first[:, int(membrane.get_title("left").split()[4].strip(","))]
    torch.testing.assert_close(torch.tensor(membrane.lines[0].get_ydata()[:9]), first.double())


def test_the_figure_of_an_episode_shows_its_first_50_actions(tmp_path, monkeypatch):
    class Endless(Lights):
        def test(self, choose, split="test"):
            while True:
                choose(self.observe(), torch.zeros(self.num_envs).bool())

    records = [{"update": 100, "split": "train", "loss": 1.0, "return": 1.0, "episodes": 3}]
    options = {"policy": lambda output: output, "window": 2}
    figures = drawn(monkeypatch, tmp_path, records, NET(2, 2), Endless(), None, **options)
    said = "time (steps): the beginning of an episode, 50 actions of 4 steps each"
    assert "returns" in figures and figures["episode"].axes[-1].get_xlabel() == said


def test_the_readout_names_the_answer_over_its_window_not_that_of_the_last_step(tmp_path, monkeypatch):
    task = PoissonClicks(duration=[0.2], neurons_per_channel=1, test_trials=4)
    target = int(task.example()[0].target)
    output = torch.zeros(task.steps, 1, 2)
    output[:, 0, target] = 0.6
    output[-1] = torch.tensor([0.0, 1.0] if target == 0 else [1.0, 0.0])

    def seen(net, xs):
        found = watch(net, xs)
        values = found.layers | {list(found.layers)[-1]: output[:, 0]}
        return Activity(values, found.membranes, output)

    monkeypatch.setattr(report, "watch", seen)
    names = task.output_names
    for window, answer in ((None, f"{names[target]}, correct"), (1, f"{names[1 - target]}, target {names[target]}")):
        figures = drawn(monkeypatch, tmp_path, [], NET(task.input_size, 2), task, None, window=window)
        assert figures["raster"].axes[-1].get_title("left") == f"layer 1, LIS, answer {answer}"


def test_the_readout_of_values_is_in_the_units_of_the_data(tmp_path, monkeypatch):
    inputs = np.random.default_rng(0).normal(size=(20, 6, 2)).astype(np.float32)
    target = 300 + np.stack([inputs.mean((1, 2)), 100 * inputs[:, 0, 0]], axis=1)
    samples = Samples(list(inputs), 2, list(target), {}, [str(at) for at in range(20)], "data", target_names=("a", "b"))
    task = SampledTask(samples)
    net = nn.Sequential(nn.LIF(2, 8), nn.LI(8, 2))
    panels = drawn(monkeypatch, tmp_path, [], net, task, None)["raster"].axes[-2:]
    lines = task.in_units(watch(net, task.example()[0].xs.dense()).output[:, 0])
    for at, axes in enumerate(panels):  # a panel for each value, because their units differ
        (line,) = axes.lines
        np.testing.assert_allclose(line.get_ydata(), lines[:, at], rtol=1e-6)
        assert line.get_ydata().mean() > 200
        assert axes.get_ylabel() == "ab"[at]
    assert SampledTask(replace(samples, target_names=("y",))).output_names == ("y 0", "y 1")
