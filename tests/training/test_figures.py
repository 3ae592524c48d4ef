"""The figures of a run: which are drawn, and how much of a long trial or episode they show."""

import torch

from tests.drawings import LIFE
from tests.tiny_world import NET, Lights
from tracetorch import plot
from tracetorch.runs import RunFolder
from tracetorch.tasks import PoissonClicks
from tracetorch.tasks.evaluate import watch
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
