"""The figures: what is computed for them by hand, what is drawn by its labels and artists, and that files repeat."""

from __future__ import annotations

import math
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

import tracetorch as tt
from tracetorch import plot

WEIGHTS = torch.linspace(-1, 1, 6 * 12).reshape(6, 12)
SPIKES = (torch.arange(40 * 6).reshape(40, 6) % 7 == 0).float()
CLASSES = torch.tensor([0, 0, 1, 2, 2, 2])
EVIDENCE = torch.tensor([-1.0, -1, 1, 1, 2, 2])
RIGHT = torch.tensor([False, True, True, True, True, False])
RECORDS = [{"update": 20 * i, "split": "train", "loss": 1 / i, "accuracy": 1 - 0.5 / i} for i in range(1, 40)]
HELD_OUT = [{"update": 200 * i, "split": "validation", "loss": 0.5, "accuracy": 0.7} for i in range(1, 4)]


def network() -> tt.nn.Sequential:
    torch.manual_seed(0)
    decay, threshold = tt.constrain.spread(0.5, 0.99, 6), torch.linspace(0.5, 1.5, 6)
    return tt.nn.Sequential(tt.nn.LIF(12, 6, decay=decay, threshold=threshold, trace_decay=0.9), tt.nn.LIS(6, 3))


EVERY = {
    "raster": lambda: plot.raster({"input": SPIKES, "hidden": SPIKES * 0}, dt=0.001, marks={"clicks": (0, 0.03)}),
    "membrane": lambda: plot.membrane(SPIKES / 2, SPIKES, torch.ones(6), dt=None),
    "learning_curves": lambda: plot.learning_curves(
        [20, 40], {"a": [1, 2], "b": [math.nan, 1]}, half_lives=(1, 2), reference=3, validation=([40], [1.5])
    ),
    "learning": lambda: plot.learning(RECORDS + HELD_OUT, reference=0.99),
    "distributions": lambda: plot.distributions(network()),
    "receptive_fields": lambda: plot.receptive_fields(WEIGHTS, (3, 4), count=4),
    "confusion": lambda: plot.confusion(CLASSES, CLASSES.flip(0), ["zero", "one", "two"]),
    "psychometric": lambda: plot.psychometric(EVIDENCE, RIGHT, ideal=(EVIDENCE, torch.sigmoid(EVIDENCE))),
    "accuracy_map": lambda: plot.accuracy_map(RIGHT, EVIDENCE, EVIDENCE.abs(), ideal=torch.sigmoid(EVIDENCE.abs())),
}
EXPECTED = {
    "raster": ["time (ms)", "neuron", "input, 146 Hz", "hidden, 0 Hz", "no spikes", "clicks"],
    "membrane": ["time (steps)", "membrane (a.u.)", "θ", "neuron 5, 0.12 spikes per step"],
    "learning_curves": ["updates", "accuracy (fraction correct)", "ideal\nobserver", "a", "b", "validation", "1", "2"],
    "learning": ["updates", "loss", "accuracy (fraction correct)", "train", "validation", "half-life (updates)", "100"],
    "distributions": ["weight", "decay (per step)", "half-life (steps)", "threshold θ (a.u.)", "layer 0: LIF 12 → 6",
                      "layer 1: LIS 6 → 3", "no threshold", "input trace", "0.90", "share (%)"],
    "receptive_fields": ["weight", "strongest 4 of 6 neurons"],
    "confusion": ["true class", "predicted class", "share of true class (%)", "two", "0.0 % correct (n = 6)", "2"],
    "psychometric": ["log rate ratio γ", "P(choose right)", "network (n = 6, 95 % interval)", "ideal observer"],
    "accuracy_map": ["duration (s)", "|log rate ratio γ|", "correct (%)", "network: 66.7 %", "ideal observer: 78.1 %"],
}  # fmt: skip


def texts(fig: Figure) -> list[str]:
    fig.draw_without_rendering()
    return [text.get_text() for text in fig.findobj(Text) if text.get_text()]


@pytest.mark.parametrize("name", EVERY)
def test_every_figure_says_what_it_shows_in_letters_that_can_be_read(name: str) -> None:
    before = dict(matplotlib.rcParams)
    fig = EVERY[name]()
    missing = set(EXPECTED[name]) - set(texts(fig))
    assert not missing
    assert min(text.get_fontsize() for text in fig.findobj(Text) if text.get_text()) >= 7
    assert fig.get_figwidth() <= 7
    assert dict(matplotlib.rcParams) == before, "the style leaked"


@pytest.mark.parametrize("name", EVERY)
def test_saving_repeats_to_the_byte(name: str, tmp_path) -> None:
    fig = EVERY[name]()
    first, again = plot.save(fig, tmp_path / "a.0"), plot.save(fig, tmp_path / "deep" / "b")
    anew = plot.save(EVERY[name](), tmp_path / "c")
    assert [path.name for path in first] == ["a.0.png", "a.0.svg"]
    for one, *others in zip(first, again, anew, strict=True):
        assert all(one.read_bytes() == other.read_bytes() for other in others)
    assert b"<dc:date>" not in first[1].read_bytes() and first[0].read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 5, "something is left beside the files"


def test_a_failing_save_leaves_the_old_files(tmp_path, monkeypatch) -> None:
    png, svg = plot.save(EVERY["confusion"](), tmp_path / "a")
    old = png.read_bytes(), svg.read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space"):
        plot.save(EVERY["psychometric"](), tmp_path / "a")
    assert (png.read_bytes(), svg.read_bytes()) == old and len(list(tmp_path.iterdir())) == 2


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys, torch, tracetorch.plot as p; p.confusion(torch.tensor([0]), torch.tensor([0]), ['a']);"
        "assert 'matplotlib.figure' in sys.modules; sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("k", "n", "z", "low", "high"),
    [
        (0, 10, 2.0, 0.0, 4 / 14),  # (0 + 2 ± 2·√(0 + 1)) / 14
        (10, 10, 2.0, 10 / 14, 1.0),
        (5, 10, 2.0, (7 - math.sqrt(14)) / 14, (7 + math.sqrt(14)) / 14),  # 2·√(2.5 + 1) = √14
        (0, 0, 1.96, 0.0, 1.0),
        (81, 263, 1.96, 0.25525, 0.36621),  # Newcombe (1998), Statistics in Medicine 17, table I: .2553 to .3662
    ],
)
def test_wilson_by_hand(k: int, n: int, z: float, low: float, high: float) -> None:
    found = plot.wilson(torch.tensor(k), torch.tensor(n), z)
    assert torch.stack(found).tolist() == pytest.approx([low, high], abs=1e-12 if n <= 10 else 5e-5)


@given(st.integers(0, 200), st.integers(0, 200))
def test_wilson_ends_solve_its_equation(k: int, failures: int) -> None:
    n = k + failures
    low, high = (end.item() for end in plot.wilson(k, n))
    assert 0 <= low <= high <= 1
    if n:
        assert low <= k / n + 1e-12 and k / n <= high + 1e-12
        for end in (low, high):  # (p̂ − p)² = z²·p(1 − p)/n
            assert (k / n - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) / n, abs=1e-12)


VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=40)
HALF_LIVES = st.lists(st.floats(0.1, 1000), min_size=1, max_size=3, unique=True)


@settings(deadline=None)
@given(VALUES, HALF_LIVES)
def test_the_meter_is_the_weighted_mean(values: list[float], half_lives: list[float]) -> None:
    meter, curves = (
        plot.TraceMeter(half_lives),
        plot.running_averages(torch.tensor(values, dtype=torch.float64), half_lives),
    )
    assert curves.shape == (len(half_lives), len(values)) and curves.dtype == torch.float64
    for n, value in enumerate(values, start=1):
        meter.update(value)
        for half_life, curve in zip(half_lives, curves, strict=True):
            weights = [2 ** (-(n - 1 - at) / half_life) for at in range(n)]
            mean = sum(w * v for w, v in zip(weights, values, strict=False)) / sum(weights)
            assert meter.averages[half_life] == pytest.approx(mean, rel=1e-9, abs=1e-9)
            assert curve[n - 1].item() == pytest.approx(meter.averages[half_life], rel=1e-12)


def test_the_meter_goes_on_from_its_state_and_passes_over_what_is_not_finite() -> None:
    one, other = plot.TraceMeter((2, 5)), plot.TraceMeter((2.0, 5.0))
    assert all(math.isnan(average) for average in one.averages.values())
    for value in (1.0, math.nan, 4.0, math.inf):
        one.update(value)
    assert one.averages[2] == pytest.approx((4 + 1 * 2**-0.5) / (1 + 2**-0.5))
    assert all(type(value) in (int, float) for value in one.state().values())
    other.load(one.state())
    one.update(7.0)
    other.update(7.0)
    assert other.averages == one.averages and other.state() == one.state()
    with pytest.raises(ValueError, match="this meter keeps"):
        plot.TraceMeter((3,)).load(one.state())


def test_running_averages_start_where_the_values_do() -> None:
    curve = plot.running_averages(torch.tensor([math.nan, 2.0, math.nan, 4.0]), (1,))[0]
    assert curve[0].isnan() and curve[1:].tolist() == pytest.approx([2, 2, (4 + 1) / 1.5])
    assert plot.running_averages(torch.zeros(0)).shape == (3, 0)


# ── what is drawn ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_raster_draws_each_spike_of_the_neurons_it_shows_at_its_time() -> None:
    spikes = torch.zeros(10, 100)
    spikes[3, 0] = spikes[4, 99] = spikes[5, 1] = 1  # of 11 shown neurons 1 is none
    fig = plot.raster({"x": spikes}, dt=0.5, neurons=11)
    (lines,) = fig.axes[0].collections
    where = [(segment[0, 0], segment[:, 1].mean()) for segment in lines.get_segments()]
    assert where == [(1.75, 0), (2.25, 10)]
    assert "x (11 of 100 neurons), 0.006 Hz" in texts(fig)
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["0", "99"]


def test_names_of_marks_stay_inside_and_apart() -> None:
    marks = {"fixation": (0, 1), "sample": (1, 2), "delay": (2, 19), "response": (19, 20)}
    fig = plot.raster({"x": SPIKES[:20]}, marks=marks)
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text in fig.axes[0].texts if text.get_text() in marks]
    assert len(boxes) == 4 and not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)
    panel = fig.axes[0].get_window_extent()
    assert all(panel.x0 <= box.x0 and box.x1 <= panel.x1 for box in boxes)


def test_marks_are_cut_where_the_panel_ends() -> None:
    marks = {"clicks": (0, 10), "no delay": (10, 10), "cue": (10, 60), "reward": (60, 70)}
    axes = plot.raster({"x": SPIKES}, marks=marks, dt=None).axes[0]
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(-0.5, 10), (9.5, 30)]
    assert {text.get_text() for text in axes.texts} == {"clicks", "cue"}


def test_membrane_draws_the_threshold_of_each_neuron_and_its_spikes() -> None:
    fig = plot.membrane(SPIKES / 2, SPIKES, torch.arange(1.0, 7.0), dt=0.001, neurons=3)
    assert [axes.lines[1].get_ydata()[0] for axes in fig.axes] == [1, 3, 6]  # neurons 0, 2, 5
    assert [len(axes.collections[0].get_segments()) for axes in fig.axes] == SPIKES.sum(0)[[0, 2, 5]].tolist()


def test_learning_curves_draw_one_average_for_each_half_life_that_fits() -> None:
    fig = plot.learning_curves(range(50), {"train": [float(i) for i in range(50)]}, half_lives=(5, 20, 100))
    raw, *averages = fig.axes[0].lines
    assert raw.get_ydata().tolist() == list(range(50)) and len(averages) == 2
    assert averages[0].get_linewidth() < averages[1].get_linewidth()
    assert averages[1].get_ydata()[1] == pytest.approx(1 / (1 + 2 ** (-1 / 20)))


@pytest.mark.parametrize(
    "records",
    [
        [],
        RECORDS[:1],
        HELD_OUT[:1],
        [{"update": 1, "split": "train", "loss": math.nan, "accuracy": None}],
        [{**record, "accuracy": math.nan} for record in RECORDS],
        [{"update": 1, "split": "train", "loss": 0.1}, {"note": "no update"}],
    ],
    ids=["none", "one", "one held out", "not a number", "metric never finite", "metric missing"],
)
def test_learning_draws_whatever_there_is(records: list[dict]) -> None:
    fig = plot.learning(records, reference=0.9)
    points = [
        sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() not in ("", "None")) for axes in fig.axes
    ]
    finite = [[r for r in records if math.isfinite(r.get(key) or math.nan)] for key in ("loss", "accuracy")]
    assert texts(fig).count("nothing recorded") == sum(not some for some in finite)
    if len(records) == 1:
        assert points == [len(some) for some in finite], "a single record must show as a marker"


def test_distributions_draw_numbers_as_lines_and_many_as_shares() -> None:
    fig = plot.distributions(network())
    weight, decay, threshold = fig.axes[:3]
    for axes in (weight, decay, threshold):
        assert axes.patches[0].get_data().values.sum() == pytest.approx(100)
    (trace,) = decay.lines  # the one number, at its half-life
    assert trace.get_xdata()[0] == pytest.approx(math.log(0.5) / math.log(0.9), rel=1e-5)
    assert not fig.axes[5].axison and len(fig.axes[4].lines) == 1 and not fig.axes[4].patches
    single = tt.nn.LI(4, 2, decay=0.9)
    single.weight.data[0, 0] = math.nan
    assert "1 not finite" in texts(plot.distributions(single))
    single.raw_decay.data.fill_(40.0)  # a decay that float32 rounds to 1
    texts(plot.distributions(single))
    single.raw_decay.data.fill_(math.nan)
    assert texts(plot.distributions(single)).count("1 not finite") == 2


def test_receptive_fields_come_strongest_first_on_a_symmetric_scale() -> None:
    image = plot.receptive_fields(torch.tensor([[0.0, 1], [2, -3], [0, 0]]), (1, 2), count=2).axes[0].images[0]
    mosaic = np.ma.filled(image.get_array(), np.nan)
    assert mosaic.shape == (1, 5) and mosaic[0, [0, 1, 3, 4]].tolist() == [2, -3, 0, 1] and math.isnan(mosaic[0, 2])
    assert image.norm.vmin == -image.norm.vmax
    texts(plot.receptive_fields(torch.zeros(3, 4), (2, 2)))


def test_confusion_normalises_each_row_and_leaves_empty_ones_blank() -> None:
    targets, predictions = torch.tensor([0, 0, 0, 0, 2]), torch.tensor([0, 0, 0, 1, 2])
    fig = plot.confusion(targets, predictions, ["a", "b", "c"])
    shown = np.ma.filled(fig.axes[0].images[0].get_array(), np.nan)
    np.testing.assert_array_equal(shown, [[75, 25, 0], [math.nan] * 3, [0, 0, 100]])
    assert [text.get_text() for text in fig.axes[0].texts if text.get_text()] == ["3", "1", "1"]
    many = plot.confusion(torch.arange(13), torch.arange(13), [f"class {i}" for i in range(13)])
    assert not many.axes[0].texts


def test_psychometric_has_a_point_for_each_value_and_bins_for_many() -> None:
    (container,) = plot.psychometric(EVIDENCE, RIGHT).axes[0].containers
    points, _, (bars,) = container.lines
    assert points.get_xdata().tolist() == [-1, 1, 2] and points.get_ydata().tolist() == [0.5, 1, 0.5]
    low, high = plot.wilson(1, 2)
    assert bars.get_segments()[0][:, 1].tolist() == pytest.approx([low.item(), high.item()])
    x = torch.linspace(-2, 2, 240)
    (container,) = plot.psychometric(x, x > 0).axes[0].containers
    assert container.lines[0].get_xdata().tolist() == pytest.approx(x.reshape(12, 20).mean(1).tolist(), abs=1e-6)
    texts(plot.psychometric(torch.tensor([0.3]), torch.tensor([True])))


def test_accuracy_map_means_each_cell_on_one_scale() -> None:
    gamma, duration = torch.tensor([1.0, -1, 2, 2]), torch.tensor([0.1, 0.1, 0.1, 0.5])
    correct, ideal = torch.tensor([True, False, True, True]), torch.tensor([0.6, 0.8, 0.9, 1.0])
    network, best = (axes.images[0] for axes in plot.accuracy_map(correct, gamma, duration, ideal=ideal).axes[:2])
    np.testing.assert_allclose(np.ma.filled(network.get_array(), np.nan), [[50, math.nan], [100, 100]])
    np.testing.assert_allclose(np.ma.filled(best.get_array(), np.nan), [[70, math.nan], [90, 100]])
    assert network.origin == "lower" and [t.get_text() for t in network.axes.get_yticklabels()] == ["1", "2"]
    assert network.get_clim() == best.get_clim() == (50, 100)
    many = torch.rand(600, generator=torch.Generator().manual_seed(0))
    fig = plot.accuracy_map(many > 0.5, many, many.flip(0))
    assert fig.axes[0].images[0].get_array().shape == (6, 6)
    assert fig.axes[0].get_yticklabels()[0].get_text() == f"0.00–{many.sort().values[99]:.2f}"


WRONG = {
    "one axis": (lambda: plot.raster({"x": torch.zeros(4)}), r"\(time, neurons\)"),
    "nothing": (lambda: plot.raster({}), "at least one layer"),
    "no spikes": (lambda: plot.raster({"x": -SPIKES}), "spikes"),
    "unequal times": (lambda: plot.raster({"x": SPIKES, "y": SPIKES[1:]}), "equally long"),
    "mark backwards": (lambda: plot.raster({"x": SPIKES}, marks={"cue": (3, 2)}), "mark 'cue'"),
    "dt": (lambda: plot.raster({"x": SPIKES}, dt=0), "dt must be above 0"),
    "no neurons": (lambda: plot.raster({"x": SPIKES}, neurons=0), "at least 1"),
    "membrane": (lambda: plot.membrane(SPIKES, SPIKES[1:], torch.ones(6)), "same shape"),
    "threshold of two axes": (lambda: plot.membrane(SPIKES, SPIKES, torch.ones(6, 1)), "threshold must be"),
    "half a class": (lambda: plot.confusion(CLASSES + 0.5, CLASSES, ["a"] * 4), "classes must be 0 to 3"),
    "threshold": (lambda: plot.membrane(SPIKES, SPIKES, torch.ones(5)), "threshold must be"),
    "no series": (lambda: plot.learning_curves([], {}), "at least one series"),
    "lengths": (lambda: plot.learning_curves([1, 2], {"x": [1]}), "one value for each step"),
    "validation": (lambda: plot.learning_curves([1], {"x": [1]}, validation=([1], [])), "'validation'"),
    "no network": (lambda: plot.distributions(torch.nn.Linear(2, 2)), "got a Linear"),
    "fields": (lambda: plot.receptive_fields(WEIGHTS, (3, 5)), r"\(neurons, 15\)"),
    "trials": (lambda: plot.psychometric(EVIDENCE, RIGHT[1:]), "same trials"),
    "infinite": (lambda: plot.psychometric(EVIDENCE / 0, RIGHT), "finite"),
    "label": (lambda: plot.confusion(CLASSES, CLASSES, ["a", "b"]), "classes must be 0 to 1"),
    "map": (lambda: plot.accuracy_map(RIGHT, EVIDENCE, EVIDENCE, ideal=EVIDENCE[1:]), "same trials"),
    "wilson": (lambda: plot.wilson(3, 2), "successes"),
    "values": (lambda: plot.running_averages(torch.zeros(2, 2)), r"\(n,\)"),
    "no half-life": (lambda: plot.TraceMeter(()), "one or more half-lives"),
    "half-lives alike": (lambda: plot.TraceMeter((1, 1.0)), "all different"),
    "half-life of 0": (lambda: plot.TraceMeter((0,)), "half-life"),
    "half-life for ever": (lambda: plot.TraceMeter((1e18,)), "too long"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said_in_one_sentence(name: str) -> None:
    call, words = WRONG[name]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
