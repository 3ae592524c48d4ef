"""What each figure draws: its lines, points, cells and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import tracetorch as tt
from tests.drawings import EVIDENCE, HELD_OUT, RECORDS, RIGHT, SPIKES, network, texts
from tracetorch import plot


def test_raster_draws_each_spike_of_the_neurons_it_shows_at_its_time() -> None:
    spikes = torch.zeros(10, 100)
    spikes[3, 0] = spikes[4, 99] = spikes[5, 1] = 1
    # of 11 shown, 3 fire; the other places go to 91 to 98
    fig = plot.raster({"x": spikes}, dt=0.5, neurons=11)
    (lines,) = fig.axes[0].collections
    where = [(segment[0, 0], segment[:, 1].mean()) for segment in lines.get_segments()]
    assert where == [(1.75, 0), (2.25, 10), (2.75, 1)]
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
    single.neuron.raw_decay.data.fill_(40.0)  # a decay that float32 rounds to 1
    texts(plot.distributions(single))
    single.neuron.raw_decay.data.fill_(math.nan)
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


def test_accuracy_curve_has_a_point_for_each_value_and_a_log_axis_for_a_decade() -> None:
    value, right = torch.tensor([1.0, 1, 10, 10, 10, 10]), torch.tensor([True, True, True, False, False, True])
    axes = plot.accuracy_curve(value, right, ideal=torch.linspace(0.5, 1, 6), chance=0.1, xlabel="x").axes[0]
    points, _, (bars,) = axes.containers[0].lines
    assert points.get_xdata().tolist() == [1, 10] and points.get_ydata().tolist() == [1, 0.5]
    low, high = plot.wilson(2, 4)
    assert bars.get_segments()[1][:, 1].tolist() == pytest.approx([low.item(), high.item()])
    (best,) = [line for line in axes.lines if line.get_label() == "ideal observer"]
    assert best.get_ydata().tolist() == pytest.approx([0.55, 0.85])
    assert axes.get_xscale() == "log" and axes.get_ylim()[0] < 0.1
    for narrow in (value.clamp(max=9), value - 1):
        assert plot.accuracy_curve(narrow, right, xlabel="x").axes[0].get_xscale() == "linear"


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
