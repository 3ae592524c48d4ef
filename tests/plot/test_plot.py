"""Every figure says what it shows, is saved whole, repeats to the byte, and names what is wrong in one sentence."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib.text import Text

import tracetorch as tt
from tests import drawings
from tests.drawings import (
    CLASSES,
    EVIDENCE,
    GRADIENTS,
    HELD_OUT,
    LIFE,
    RECORDS,
    RIGHT,
    SPIKES,
    WEIGHTS,
    described,
    network,
)
from tracetorch import plot
from tracetorch.plot import Axis, Curve, Entry, Mark, Panel, Series, Tried

EVERY = {
    "raster": lambda: plot.raster({"input": SPIKES, "hidden": SPIKES * 0}, dt=0.001, marks={"clicks": (0, 0.03)}),
    "membrane": lambda: plot.membrane(SPIKES / 2, SPIKES, torch.ones(6), dt=None),
    "membranes": lambda: plot.membranes(
        {"layer 0": plot.Membrane(SPIKES / 2, SPIKES, 1.0), "layer 1": plot.Membrane(SPIKES - 1)}, marks={"cue": (0, 9)}
    ),
    "learning_curves": lambda: plot.learning_curves(
        [20, 40], {"a": [1, 2], "b": [math.nan, 1]}, widths=(1, 2), reference=3, validation=([40], [1.5])
    ),
    "learning": lambda: plot.learning(RECORDS + HELD_OUT, reference=0.99),
    "gradient": lambda: plot.gradient(RECORDS + GRADIENTS),
    "lifetime": lambda: plot.lifetime(LIFE),
    "policy": lambda: plot.policy(LIFE, names=["left", "right"]),
    "recovery": lambda: plot.recovery(LIFE),
    "distributions": lambda: plot.distributions(network()),
    "receptive_fields": lambda: plot.receptive_fields(WEIGHTS, (3, 4), count=4),
    "confusion": lambda: plot.confusion(CLASSES, CLASSES.flip(0), ["zero", "one", "two"]),
    "psychometric": lambda: plot.psychometric(EVIDENCE, RIGHT, ideal=(EVIDENCE, torch.sigmoid(EVIDENCE))),
    "accuracy_curve": lambda: plot.accuracy_curve(EVIDENCE.abs(), RIGHT, ideal=EVIDENCE.abs() / 2, xlabel="delay (s)"),
    "accuracy_map": lambda: plot.accuracy_map(RIGHT, EVIDENCE, EVIDENCE.abs(), ideal=torch.sigmoid(EVIDENCE.abs())),
    "returns": lambda: plot.returns(drawings.REWARDS),
    "episode": drawings.episode,
}
ROWS, MANY = torch.arange(60.0), torch.linspace(-2, 2, 240)
READOUT = ("layer 1, LIS", torch.stack([ROWS / 60, 1 - ROWS / 60], dim=1)[:40])
CURVE = Curve(ROWS.numpy(), ROWS.numpy() / 60, ROWS.numpy() / 80, ROWS.numpy() / 50, ROWS.numpy() < 40)
ENTRIES = [
    Entry("rule=trace, lr=0.1", (0.7, 0.8), 0.75, (0.7, 0.8), CURVE),
    *(Entry(f"a longer name, in two lines of {at}" * 2, (at / 10,), at / 10, None, None) for at in range(8)),
]
MARKS = [
    Mark(1.0, 0.5, None, (0.4, 0.6), [(1.0, 0.4), (1.0, 0.6)]),
    Mark(30.0, 0.9, (20.0, 40.0), (0.7, 1.2), [(30.0, 0.9)]),
]
PANELS = [Panel("clicks", [Series("trace", MARKS), Series("bptt", MARKS[:1])], 0.5)]
PANELS += [Panel("cues", [Series("trace", MARKS[1:])], None)] * 3
AXES = [Axis("optimizer.lr", (1e-4, 0.1), log=True), Axis("hidden", (0, 2), names=("[32]", "[64]", "[64, 64]"))]
AXES += [Axis("decay", (0.5, 1.0)), Axis("steps", (1, 40), whole=True), Axis("rate", (1, 20), log=True)]
TRIED = [
    Tried(at, [0.5, 0.8, 0.2, None][at % 4], ["completed", "pruned"][at % 2], [(at + 1) / 1000, at % 3, 0.7, at, 3])
    for at in range(8)
]
MANY_RETURNS = [{"update": at, "split": "train", "return": at % 3, "episodes": 40 * at} for at in range(1, 31)]
LONG_LIFE = [{**LIFE[at % 2], "update": 100 * at + 100} for at in range(1500)]


def one_layer() -> tt.nn.LI:
    torch.manual_seed(0)
    return tt.nn.LI(4, 2, decay=0.99, trace_decay=0.5)


MORE = {
    "raster and readout": lambda: plot.raster(
        {"input": SPIKES},
        dt=None,
        readout=READOUT,
        names=["no", "yes"],
        marks={"cue": (0, 3), "go": (38, 50)},
        neurons=3,
    ),
    "raster of currents": lambda: plot.raster({"a few": READOUT[1], "many": WEIGHTS.repeat(7, 1)[:40]}, neurons=8),
    "raster of seconds": lambda: plot.raster(
        {"input": SPIKES.repeat(1, 40)}, dt=0.1, readout=("x", SPIKES.repeat(1, 2))
    ),
    "membrane in ms": lambda: plot.membrane(SPIKES[:1] - 0.5, SPIKES[:1], 0.7, dt=0.001, neurons=1),
    "episode in ms": lambda: drawings.episode(
        threshold=torch.linspace(0.5, 1.5, 6), dt=0.001, names=["no", "yes"], whole=False, neurons=2
    ),
    "many curves": lambda: plot.learning_curves(
        ROWS, {"a": (ROWS + 1).tolist(), "b": (ROWS / 2 + 1).tolist()}, widths=(2, 10, 99)
    ),
    "long returns": lambda: plot.returns(MANY_RETURNS),
    "life without memory": lambda: plot.lifetime([{**row, "memory_bytes": None} for row in LIFE]),
    "long policy": lambda: plot.policy(LONG_LIFE),
    "one layer": lambda: plot.distributions(one_layer()),
    "many classes": lambda: plot.confusion(ROWS % 25, ROWS // 3, [f"class {at}" for at in range(25)]),
    "bins": lambda: plot.psychometric(MANY, MANY > 0.3),
    "accuracy over a decade": lambda: plot.accuracy_curve(ROWS + 1, ROWS > 20, ideal=ROWS / 60, chance=0.1, xlabel="n"),
    "map of bins": lambda: plot.accuracy_map(MANY > 0, MANY, MANY.roll(7) + 2),
    "recall": lambda: plot.recall(torch.tensor([1.0, 0.25, 0.5])),
    "comparison": lambda: plot.comparison(ENTRIES, of_curves="accuracy", of_values="final", note="n " * 90),
    "comparison of values": lambda: plot.comparison(ENTRIES[1:3], of_curves="accuracy", of_values="final"),
    "scatter": lambda: plot.scatter(PANELS, of_x="delay (s)", of_y="accuracy", connected=True, share=True, note="Bars"),
    "scatter of numbers": lambda: plot.scatter(PANELS[:1], of_x="memory", of_y="loss", connected=False),
    "search": lambda: plot.search(TRIED, AXES, metric="accuracy"),
    "search for the least": lambda: plot.search(TRIED[2:4], AXES[:0], metric="loss", maximize=False),
}
SHOWN = Path(__file__).with_name("figures.txt")


@pytest.mark.parametrize("name", [*EVERY, *MORE])
def test_a_figure_shows_what_it_showed(name) -> None:
    """After a change that is meant, `python -m tests.plot.test_plot` writes what the figures show now."""
    expected = dict(part.split("\n", 1) for part in SHOWN.read_text(encoding="utf-8").split("== ")[1:])
    assert described((EVERY | MORE)[name]()) == expected[name]


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_is_labelled_readable_and_repeats_byte_for_byte(name, tmp_path) -> None:
    before = dict(matplotlib.rcParams)
    fig = EVERY[name]()
    fig.draw_without_rendering()
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text()) >= 7
    assert fig.get_figwidth() <= 7
    assert dict(matplotlib.rcParams) == before, "the style leaked"
    first, again = plot.save(fig, tmp_path / "a.0"), plot.save(EVERY[name](), tmp_path / "deep" / "b")
    assert [path.name for path in first] == ["a.0.png", "a.0.svg"]
    assert [one.read_bytes() for one in first] == [one.read_bytes() for one in again]
    assert b"<dc:date>" not in first[1].read_bytes() and first[0].read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 3, "a file is left over"


def test_in_one_column_no_text_is_cut_and_no_ticks_touch() -> None:
    makers = EVERY | MORE | {"prediction": lambda: plot.prediction([(EVIDENCE, -EVIDENCE)] * 2)}
    for name in ("distributions", "accuracy_map", "prediction"):
        with plot.look(width=3.4):
            fig = makers[name]()
        fig.draw_without_rendering()
        unseen = set()
        for axis in (axis for axes in fig.axes for axis in (axes.xaxis, axes.yaxis)):
            low, high = sorted(axis.get_view_interval())
            ticks = [(tick.label1, low <= tick.get_loc() <= high) for tick in axis.get_major_ticks()]
            unseen |= {label for label, is_inside in ticks if not (is_inside and axis.axes.axison)}
            for label, other in pairwise(label for label, _ in ticks if label not in unseen and label.get_visible()):
                touches = label.get_window_extent().overlaps(other.get_window_extent())
                assert label.get_rotation() or not touches, (name, label.get_text(), other.get_text())
        for text in fig.findobj(Text):
            if text.get_visible() and text.get_text() and text not in unseen:
                corners = text.get_window_extent().corners()
                assert fig.bbox.padded(1).count_contains(corners) == 4, (name, text.get_text())


def test_a_failing_save_leaves_the_old_files(tmp_path, monkeypatch) -> None:
    png, svg = plot.save(EVERY["confusion"](), tmp_path / "a")
    old = png.read_bytes(), svg.read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        plot.save(EVERY["psychometric"](), tmp_path / "a")
    assert (png.read_bytes(), svg.read_bytes()) == old and len(list(tmp_path.iterdir())) == 2


WRONG = {
    "one axis": (lambda: plot.raster({"x": torch.zeros(4)}), r"\(time, neurons\)"),
    "nothing": (lambda: plot.raster({}), "at least one layer"),
    "a neuron too many": (lambda: plot.raster({"x": SPIKES}, neurons=[0, 6]), "x has 6 neurons, 0 to 5, got neuron 6"),
    "a narrow figure": (lambda: drawings.styled(width=0.5), "0.5 inches is not between 1 and 30"),
    "an unknown format": (lambda: plot.save(drawings.episode(), "x", ("gif",)), "png, svg, pdf, got 'gif'"),
    "no output": (lambda: plot.prediction([]), "at least one output"),
    "a shorter target": (lambda: plot.traces(SPIKES, SPIKES[1:], SPIKES[:, 0]), "must last equally long"),
    "unequal times": (lambda: plot.raster({"x": SPIKES, "y": SPIKES[1:]}), "equally long"),
    "mark backwards": (lambda: plot.raster({"x": SPIKES}, marks={"cue": (3, 2)}), "mark 'cue'"),
    "dt": (lambda: plot.raster({"x": SPIKES}, dt=0), "dt must be above 0"),
    "no neurons": (lambda: plot.raster({"x": SPIKES}, neurons=0), "at least 1"),
    "membrane": (lambda: plot.membrane(SPIKES, SPIKES[1:], torch.ones(6)), "same shape"),
    "half a class": (lambda: plot.confusion(CLASSES + 0.5, CLASSES, ["a"] * 4), "classes must be 0 to 3"),
    "threshold": (lambda: plot.membrane(SPIKES, SPIKES, torch.ones(5)), "threshold must be"),
    "no series": (lambda: plot.learning_curves([], {}), "at least one series"),
    "lengths": (lambda: plot.learning_curves([1, 2], {"x": [1]}), "one value for each step"),
    "validation": (lambda: plot.learning_curves([1], {"x": [1]}, validation=([1], [])), "'validation'"),
    "no gradients": (lambda: plot.gradient(RECORDS), "split .gradient. and keys"),
    "no network": (lambda: plot.distributions(torch.nn.Linear(2, 2)), "got a Linear"),
    "fields": (lambda: plot.receptive_fields(WEIGHTS, (3, 5)), r"\(neurons, 15\)"),
    "trials": (lambda: plot.psychometric(EVIDENCE, RIGHT[1:]), "same trials"),
    "infinite": (lambda: plot.psychometric(EVIDENCE / 0, RIGHT), "finite"),
    "map": (lambda: plot.accuracy_map(RIGHT, EVIDENCE, EVIDENCE, ideal=EVIDENCE[1:]), "same trials"),
    "curve": (lambda: plot.accuracy_curve(EVIDENCE, RIGHT[1:], xlabel="x"), "same trials"),
    "wilson": (lambda: plot.wilson(3, 2), "successes"),
    "values": (lambda: plot.running_averages(torch.zeros(2, 2)), r"\(n,\)"),
    "no half-life": (lambda: plot.TraceMeter(()), "one or more half-lives"),
    "half-lives alike": (lambda: plot.TraceMeter((1, 1.0)), "all different"),
    "half-life of 0": (lambda: plot.TraceMeter((0,)), "half-life"),
    "endless half-life": (lambda: plot.TraceMeter((1e18,)), "too long"),
    "a life": (lambda: plot.lifetime(RECORDS), "lifetime needs records with the split"),
    "no reversal": (lambda: plot.recovery(RECORDS), "recovery needs records with the split"),
    "no policy": (lambda: plot.policy(RECORDS), "policy needs records with the split"),
    "no episodes": (lambda: plot.returns(drawings.REWARDS[:1]), "train. and episodes that ended"),
    "membrane of an episode": (lambda: drawings.episode(membrane=SPIKES[1:]), "equally long, a multiple of the"),
    "policy of an episode": (lambda: drawings.episode(policy=RIGHT[:3, None], action=RIGHT[:3]), "a multiple of the"),
    "actions of an episode": (lambda: drawings.episode(action=RIGHT[:3]), "equally long, a multiple of the decisions"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_refused_in_one_sentence(name: str) -> None:
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


if __name__ == "__main__":
    figures = (f"== {name}\n{described(draw())}" for name, draw in (EVERY | MORE).items())
    SHOWN.write_text("".join(figures), encoding="utf-8")
