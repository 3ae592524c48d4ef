"""The figure of a search: what is where, and that anything can be drawn."""

import math

import numpy as np
import pytest

from tests.drawings import texts
from tracetorch.plot import Axis, Tried, save, search

LR = Axis("optimizer.lr", (1e-4, 0.1), log=True)
HIDDEN = Axis("network.hidden", (0, 2), names=("[32]", "[64]", "[64,64]"))
TRIED = [
    Tried(0, None, "failed", [0.1, 0]),
    Tried(1, 0.5, "completed", [0.001, 1]),
    Tried(2, 0.0, "pruned", [0.002, 2]),
    Tried(4, 0.8, "completed", [0.01, 1]),
    Tried(5, 0.7, "completed", [0.02, 0]),
]


def points(panel, marker):
    """Where the markers of a kind lie, by x and y."""
    (found,) = [line for line in panel.lines if line.get_marker() == marker and line.get_linestyle() == "None"]
    return list(zip(found.get_xdata(), found.get_ydata(), strict=True))


def test_every_trial_is_drawn_at_its_values_and_named():
    figure = search(TRIED, [LR, HIDDEN], metric="accuracy (validation)")
    top, left, right = figure.axes
    assert points(top, "o") == [(1, 0.5), (4, 0.8), (5, 0.7)]
    assert points(left, "o") == [(0.001, 0.5), (0.01, 0.8), (0.02, 0.7)]
    assert points(top, "v") == [(2, 0.0)] and points(left, "v") == [(0.002, 0.0)]
    assert points(top, "x") == [(0, 0.03)] and points(left, "x") == [(0.1, 0.03)]  # of the height of the panel
    assert points(top, "D") == [(4, 0.8)] and points(left, "D") == [(0.01, 0.8)]
    spread = [x for x, _ in points(right, "o")]
    assert [round(x) for x in spread] == [1, 1, 0] and max(abs(x - round(x)) for x in spread) <= 0.2
    assert len(set(spread)) == 3
    assert (top.get_xscale(), left.get_xscale(), right.get_xscale()) == ("linear", "log", "linear")
    named = {"trial", "optimizer.lr", "network.hidden", "[64,64]", "accuracy (validation)"}
    assert named | {"completed", "pruned", "failed", "best so far"} <= set(texts(figure))
    assert "failed" not in texts(search(TRIED[1:], [LR, HIDDEN], metric="x"))


def test_the_best_so_far_is_a_line_in_steps():
    for maximize, expected in ((True, [0.5, 0.8, 0.8]), (False, [0.5, 0.5])):
        top = search(TRIED, [LR], metric="loss", maximize=maximize).axes[0]
        (line,) = [line for line in top.lines if line.get_drawstyle() == "steps-post"]
        assert line.get_ydata().tolist() == expected and line.get_xdata()[-1] == 5


def test_panels_stand_four_in_a_row_with_whole_ticks_for_whole_numbers():
    axes = [Axis(f"a.b{at}", (1, 4), whole=True) for at in range(9)]
    fig = search([Tried(0, 0.5, "completed", [3] * 9)], axes, metric="x")
    fig.draw_without_rendering()
    rows = [round(panel.get_position().y0, 2) for panel in fig.axes[1:]]
    assert [rows.count(row) for row in dict.fromkeys(rows)] == [4, 4, 1]
    labelled = [panel.yaxis.get_tick_params()["labelleft"] for panel in fig.axes[1:]]
    assert labelled == [True, False, False, False] * 2 + [True]
    assert [panel.get_ylabel() for panel in fig.axes[1:]] == ["x", "", "", ""] * 2 + ["x"]
    assert all(tick == round(tick) for panel in fig.axes for tick in panel.get_xticks())


def test_any_trials_can_be_drawn_and_those_that_are_not_finite_count_as_failed(tmp_path):
    for tried, axes in (
        ([Tried(0, None, "failed", [])], []),
        ([Tried(7, math.nan, "completed", [0.5])], [Axis("a", (0, 1))]),
        ([Tried(0, 0.5, "completed", [None])], [Axis("a", (0, 1))]),
        ([Tried(0, 0.5, "completed", [1.0])], [Axis("a", (1, 1), log=True)]),
        ([Tried(0, 0.5, "completed", [1.0])], [Axis("a", (1, 1))]),
        ([Tried(0, 0.5, "completed", [1e-30])], [Axis("$x$ 語", (1e-100, 1e100), log=True)]),
        ([Tried(0, 1e300, "completed", [0]), Tried(1, -1e300, "pruned", [0])], [Axis("", (0, 0), names=("$x\n語",))]),
        ([Tried(at, at / 7, "completed", [at % 30]) for at in range(900)], [Axis("a", (0, 29), names=["x" * 99] * 30)]),
    ):
        written = save(search(tried, axes, metric="$"), tmp_path / "search")
        assert [path.stat().st_size > 1000 for path in written] == [True, True]
    fig = search([Tried(0, math.inf, "completed", [0.5]), *TRIED[1:]], [Axis("a", (0, 1))], metric="x")
    assert np.isfinite(fig.axes[0].get_ylim()).all() and [x for x, _ in points(fig.axes[0], "x")] == [0]
    assert "no trial has a value" in texts(search([Tried(0, None, "failed", [])], [], metric="x"))
    with pytest.raises(ValueError, match="at least one trial"):
        search([], [LR], metric="x")
