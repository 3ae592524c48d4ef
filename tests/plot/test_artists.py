"""What each figure draws: its lines, points, cells and limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

import tracetorch as tt
from tests import drawings
from tests.drawings import EVIDENCE, HELD_OUT, LIFE, RECORDS, RIGHT, SPIKES, network, texts
from tests.tiny_world import CRITIC
from tracetorch import plot
from tracetorch.plot.activity import HUES
from tracetorch.plot.style import COLORS
from tracetorch.tasks import Gym
from tracetorch.tasks.evaluate import evaluate_policy, record_episode


def test_raster_draws_each_spike_of_the_shown_neurons_at_its_time() -> None:
    spikes = torch.zeros(10, 100)
    spikes[3, 0] = spikes[4, 99] = spikes[5, 1] = 1
    fig = plot.raster({"x": spikes}, dt=0.5, neurons=11)
    (lines,) = fig.axes[0].collections
    where = [(segment[0, 0], segment[:, 1].mean()) for segment in lines.get_segments()]
    assert where == [(1.75, 0), (2.25, 10), (2.75, 1)]
    assert "x (11 of 100 neurons, 97 of 100 silent), 0.006\N{NO-BREAK SPACE}Hz" in texts(fig)
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["0", "99"]
    spikes[:, :60] = 1  # more fire than there is room for: the silent ones keep their share
    (lines,) = plot.raster({"x": spikes}, neurons=10).axes[0].collections
    assert len({segment[:, 1].mean() for segment in lines.get_segments()}) == 6
    (lines,) = plot.raster({"x": spikes}, neurons=[99, 70, 1]).axes[0].collections
    assert {segment[:, 1].mean() for segment in lines.get_segments()} == {0, 2}


def test_values_that_are_not_spikes_are_lines_or_an_image() -> None:
    currents = torch.randn(40, 12)
    few, many = (plot.raster({"x": currents[:, :count]}, marks={"cue": (0, 9)}).axes[0] for count in (3, 12))
    assert np.allclose([line.get_ydata() for line in few.lines], currents[:, :3].T)
    assert np.allclose(many.images[0].get_array(), currents.T) and len(many.patches) == 1
    low, high = currents.min().item(), currents.max().item()
    assert f"x, \N{MINUS SIGN}{-low:.2g} (white) to {high:.2g} (black)" in texts(many.figure)
    assert few.get_ylabel() == "value" and many.get_ylabel() == "neuron"
    title = plot.raster({"input": currents}, neurons=5).axes[0].get_title("left")
    assert title.startswith("input (5 of 12 channels)")
    axes = plot.raster({"input": currents}, frequencies=[50.0 * at for at in range(1, 13)]).axes[0]
    assert axes.get_ylabel() == "frequency (Hz)" and axes.get_ylim() == (-0.5, 11.5)  # low frequencies below
    assert [(tick.get_text(), y) for tick, y in zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)] == [
        ("100", 1), ("300", 5),
    ]  # fmt: skip


def test_marks_are_cut_at_the_end_of_the_panel_and_their_names_do_not_overlap() -> None:
    marks = {"fixation": (0, 1), "sample": (1, 2), "delay": (2, 19), "response": (19, 20)}
    axes = plot.raster({"x": SPIKES[:20]}, marks=marks).axes[0]
    axes.figure.draw_without_rendering()
    boxes, panel = (
        [text.get_window_extent() for text in axes.texts if text.get_text() in marks],
        axes.get_window_extent(),
    )
    assert len(boxes) == 4 and not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)
    assert all(panel.x0 <= box.x0 and box.x1 <= panel.x1 for box in boxes)
    marks = {"clicks": (0, 10), "no delay": (10, 10), "cue": (10, 60), "reward": (60, 70)}
    axes = plot.raster({"x": SPIKES}, marks=marks, dt=None).axes[0]
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(-0.5, 10), (9.5, 30)]
    assert {text.get_text() for text in axes.texts} == {"clicks", "cue"}


@pytest.mark.parametrize(
    ("ends", "named"),
    [
        ((0.1, 0.9, 0.85), {"b": 0.9, "c": 0.75, "a": 0.1}),  # moved, because there is no room for c next to b
        ((0.1, 0.9, 0.5), {"b": 0.9, "c": 0.5, "a": 0.1}),
        ((0.1, 0.1, 0.1), {"a": 0.357, "b": 0.207, "c": 0.0575}),  # a name below the panel would be lost
    ],
)
def test_outputs_are_named_at_the_ends_of_their_lines_without_overlap(ends, named) -> None:
    lines = torch.tensor([0.3, 0.1, 0.95]).lerp(torch.tensor(ends), torch.linspace(0, 1, len(SPIKES))[:, None])
    fig = plot.raster({"x": SPIKES}, readout=("output", lines), names=["a", "b", "c"])
    found = {text.get_text(): text.xy[1] for text in fig.axes[-1].texts}
    assert list(found) == list(named) and found == pytest.approx(named, abs=5e-3)


def test_of_many_outputs_the_marked_ones_have_colours_and_names_and_separate_ones_panels() -> None:
    lines = torch.linspace(0, 1, 12).expand(40, 12)
    axes = plot.raster({"x": SPIKES}, readout=("output", lines), marked=[3, 3, 7]).axes[-1]
    assert {text.get_text(): text.get_color() for text in axes.texts} == {"3": HUES[0], "7": HUES[1]}
    assert [line.get_ydata()[0] for line in axes.lines[-2:]] == pytest.approx([3 / 11, 7 / 11])  # in front
    fig = plot.raster({"x": SPIKES}, readout=("output", lines[:, :3]), separate=True, names=["a", "b", "c"])
    assert [axes.get_ylabel() for axes in fig.axes[1:]] == ["a", "b", "c"]
    assert [axes.get_title("left") for axes in fig.axes[1:]] == ["output", "", ""]


def test_membrane_draws_the_threshold_of_each_neuron_and_its_spikes() -> None:
    marks = {"clicks": (0, 0.03)}
    fig = plot.membrane(SPIKES / 2, SPIKES, torch.arange(1.0, 7.0), dt=0.001, neurons=[0, 2, 5], marks=marks)
    assert [axes.lines[1].get_ydata()[0] for axes in fig.axes] == [1, 3, 6]
    assert [len(axes.collections[0].get_segments()) for axes in fig.axes] == SPIKES.sum(0)[[0, 2, 5]].tolist()
    assert all(len(axes.patches) == 1 for axes in fig.axes)


def test_membranes_are_those_of_neurons_that_fire_or_else_move() -> None:
    membranes, spikes = torch.rand(50, 20) * 0.01, torch.zeros(50, 20)
    spikes[::2, 7] = spikes[::5, 12] = 1
    membranes[:, 3] *= 50
    layers = {"layer 0": plot.Membrane(membranes, spikes, 1.0), "layer 1": plot.Membrane(membranes[:, :4])}
    titles = [axes.get_title("left") for axes in plot.membranes(layers, neurons=3).axes]
    assert [title.split(", ")[0] + title.split(", ")[1] for title in titles[:3]] == [
        "layer 0neuron 3", "layer 0neuron 7", "layer 0neuron 12",
    ]  # fmt: skip
    assert titles[0].endswith("neuron 3, silent") and titles[1].endswith("0.5\N{NO-BREAK SPACE}Hz")
    assert "layer 1, neuron 3" in titles and len(titles) == 6


def test_an_episode_shows_actions_policy_membranes_and_every_spike() -> None:
    levels = torch.linspace(0.5, 1.5, 6)
    _, layer, *membranes, policy, strip = drawings.episode(threshold=levels).axes
    spans = [(bar.get_x(), bar.get_width(), to_rgba(bar.get_facecolor())) for bar in strip.patches]
    assert spans == [(10 * at - 0.5, 10, to_rgba(HUES[done])) for at, done in enumerate(drawings.ACTION.tolist())]
    assert np.allclose([stairs.get_data().values for stairs in policy.patches], drawings.POLICY.T)
    assert [len(axes.get_yticks()) > 0 for axes in (layer, policy, strip)] == [True, True, False]
    assert (policy.get_ylabel(), strip.get_ylabel()) == ("p(action)", "action")
    assert [axes.get_xlabel() != "" for axes in (layer, policy, strip)] == [False, False, True]
    assert len(layer.collections[0].get_segments()) == int(SPIKES.sum())
    drawn, thresholds = zip(*(axes.lines for axes in membranes), strict=True)
    assert [line.get_ydata().tolist() for line in drawn] == (SPIKES[:, [0, 1, 2]] / 2).T.tolist()
    assert [line.get_ydata()[0] for line in thresholds] == pytest.approx(levels[:3].tolist())
    *_, first, second, third, _, _ = drawings.episode(spikes=SPIKES * torch.tensor([0, 1, 0, 1, 0, 1])).axes
    assert [axes.get_title("left").split(",")[0] for axes in (first, second, third)] == [
        "neuron 1", "neuron 3", "neuron 5",
    ]  # fmt: skip
    spikes = torch.zeros(40, 90)
    spikes[3, 7] = spikes[4, 8] = spikes[5, 81] = 1
    layer = drawings.episode(layers={"layer 0": spikes}, membrane=spikes, neurons=3).axes[0]
    assert [label.get_text() for label in layer.get_yticklabels()] == ["0", "7", "81"]
    rate = "0.00083 spikes per step".replace(" ", "\N{NO-BREAK SPACE}")
    assert f"layer 0 (3 of 90 neurons, 87 of 90 silent), {rate}" in texts(layer.figure)
    said = texts(drawings.episode(names=["left", "right"], dt=0.01, whole=False, threshold=None))
    assert {"left", "right", "time (ms): the beginning of an episode, 4 actions of 10 steps each"} <= set(said)
    assert "θ" not in said


@pytest.mark.parametrize(("decisions", "ended"), [(3, False), (9, True)])
def test_the_recorded_episode_is_the_first_of_the_test(decisions, ended) -> None:
    pytest.importorskip("gymnasium", reason="the extra rl is not installed")
    torch.manual_seed(0)
    world = Gym(num_envs=3, steps=4, test_episodes=5, max_episode_steps=6, seed=1)
    net, played = CRITIC["network"](world.input_size, 3), []
    net.run(world.observe())

    def policy(output):
        played.append(torch.softmax(output[:, :2], dim=-1))
        return played[-1]

    trials = evaluate_policy(net, world, policy, "test", 2)
    asked = torch.stack([p[0] for p in played])
    seen = record_episode(net, world, policy, 2, decisions=decisions)
    length = min(decisions, int(trials["length"][0]))
    assert seen.ended is ended and len(seen.action) == length
    torch.testing.assert_close(seen.policy, asked[:length])
    assert torch.equal(seen.action, asked[:length].argmax(dim=-1))
    sizes = {"input": (4 * length, 8), "layer 0, LIF": (4 * length, 8), "layer 1, LI": (4 * length, 3)}
    assert {name: tuple(values.shape) for name, values in seen.layers.items()} == sizes
    assert [len(membrane) for membrane in seen.membranes] == [4 * length] * 2


def test_learning_curves_draw_one_average_for_each_width_that_fits() -> None:
    fig = plot.learning_curves(range(50), {"train": [float(i) for i in range(50)]}, widths=(0.5, 5, 15, 20))
    raw, *averages = fig.axes[0].lines
    assert raw.get_ydata().tolist() == list(range(50)) and len(averages) == 2
    assert averages[0].get_linewidth() < averages[1].get_linewidth() and raw.zorder < averages[0].zorder
    for average in averages:  # without a lag, also at the ends
        assert average.get_ydata() == pytest.approx(np.arange(50.0), abs=1e-9)


def test_a_learning_curve_has_one_average_of_a_round_width_unless_it_is_short() -> None:
    for count, width in ((300, "10"), (20, "2"), (5, None), (1, None)):
        fig = plot.learning_curves(range(count), {"train": [0.5] * count})
        found = [text for text in texts(fig) if text.startswith("average over")]
        assert found == ([] if width is None else [f"average over ±{width} updates"])


def test_learning_draws_any_records() -> None:
    for records in (
        [],
        RECORDS[:1],
        HELD_OUT[:1],
        [{"update": 1, "split": "train", "loss": math.nan, "accuracy": None}],
        [{**record, "accuracy": math.nan} for record in RECORDS],
        [{"update": 1, "split": "train", "loss": 0.1}, {"note": "no update"}],
    ):
        fig = plot.learning(records, reference=0.9)
        marked = [[line for line in axes.lines if line.get_marker() not in ("", "None")] for axes in fig.axes]
        finite = [[r for r in records if math.isfinite(r.get(key) or math.nan)] for key in ("loss", "accuracy")]
        assert texts(fig).count("nothing recorded") == sum(not some for some in finite)
        if len(records) == 1:  # a single record shows as a marker
            assert [sum(len(line.get_xdata()) for line in lines) for lines in marked] == [len(some) for some in finite]


def test_returns_are_drawn_over_ended_episodes_with_an_average_of_many() -> None:
    raw, validation, test = plot.returns(drawings.REWARDS).axes[0].lines
    assert raw.get_xydata().tolist() == [[100, 10], [140, 30]]  # nothing is drawn of a time when none had ended
    assert validation.get_xydata().tolist() == [[120, 15]]  # update 30 lies halfway between 100 and 140 episodes
    assert test.get_xydata().tolist() == [[140, 40]]
    rows = [{"update": at, "split": "train", "return": at % 2, "episodes": 3 * at} for at in range(1, 31)]
    fig = plot.returns(rows)
    raw, average = fig.axes[0].lines
    assert average.get_xdata().tolist() == raw.get_xdata().tolist() == [3 * at for at in range(1, 31)]
    assert np.ptp(average.get_ydata()[10:-5]) < 0.2 < np.ptp(raw.get_ydata()[10:])
    assert "average over ±2 actions" in texts(fig)
    assert "1,000" in texts(plot.returns([{**row, "episodes": 40 * row["episodes"]} for row in rows]))
    assert len(plot.returns(rows[:6]).axes[0].lines) == len(plot.returns(rows[:1]).axes[0].lines) == 1


def points(axes):
    return [line.get_xydata().tolist() for line in axes.get_lines()]


def test_a_lifetime_has_a_line_for_each_average_and_memory_and_marks_at_reversals() -> None:
    fig = plot.lifetime(LIFE)
    above, below = fig.axes
    assert [[100, 0.5], [200, 0.9]] in points(above) and [[100, 0.25], [200, 0.45]] in points(above)
    assert points(below)[0] == [[100, 500], [200, 510]]
    assert {"half-life 50 decisions", "half-life 60 decisions", "reward (running average)"} <= set(texts(fig))
    fast, slow = (next(line for line in above.lines if line.get_xydata().tolist()[0] == [100, y]) for y in (0.5, 0.25))
    assert fast.get_linewidth() < slow.get_linewidth()
    assert {line.get_xdata()[0] for line in above.get_lines() if len(set(line.get_xdata())) == 1} == {150, 300}
    unknown = [{**row, "memory_bytes": None} for row in LIFE]
    assert len(plot.lifetime(unknown).axes) == 1
    labels = [{("accuracy" if name == "reward" else name): value for name, value in row.items()} for row in LIFE]
    for draw, words in ((plot.lifetime, "accuracy (running average)"), (plot.recovery, "accuracy (fastest average)"),
                        (plot.policy, "mean accuracy")):  # fmt: skip
        assert words in texts(draw(labels))


def test_recovery_distinguishes_reversals_without_recovery_and_without_loss() -> None:
    fig = plot.recovery(LIFE)
    left, right = fig.axes
    assert points(left) == [[[1, 110]], [[2, 100]]]
    assert [line.get_markerfacecolor() for line in left.get_lines()] == [COLORS["blue"], "white"]
    assert [[1, 0.9], [2, 0.8]] in points(right) and [[1, 0.3], [2, 0.2]] in points(right)
    assert {"not before the next reversal", "minimum after it"} <= set(texts(fig))
    rows = [{**row, "fell": row["recovery_decisions"] is not None} if "switch" in row else row for row in LIFE]
    assert points(plot.recovery(rows).axes[0]) == [[[1, 110]], []]


def test_a_policy_shows_how_often_each_action_was_chosen_and_what_it_paid() -> None:
    fig = plot.policy(LIFE, names=["left", "right"])
    share, score = (np.ma.filled(axes.collections[0].get_array(), np.nan) for axes in fig.axes[:2])
    assert share.tolist() == [[100, 0], [0, 100]]  # (actions, records)
    np.testing.assert_array_equal(score, [[1, np.nan], [np.nan, 0]])
    assert {"left", "right", "chosen (%)", "mean reward", "reversal"} <= set(texts(fig))
    many = [{**LIFE[at % 2], "update": 100 * at + 100} for at in range(1500)]
    assert plot.policy(many).axes[0].collections[0].get_array().tolist() == [[50] * 150] * 2


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
    plot.confusion(targets, predictions, ["$\\bad$", "語", "a$b$" * 9]).draw_without_rendering()  # no mathematics
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
    assert axes.get_xscale() == "log" and axes.get_ylim()[0] < 0.1 and {"1", "10"} <= set(texts(axes.figure))
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
    fig = plot.accuracy_map(many > 0, many, torch.arange(600) // 20 / 10 + 0.2)  # ends with one decimal
    assert fig.axes[0].get_xticklabels()[0].get_text() == "0.2–0.6"
