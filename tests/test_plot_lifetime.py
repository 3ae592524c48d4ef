"""The figures of a life: what is on them, and that they are of the records that they were given."""

import subprocess
import sys

import pytest
from matplotlib.colors import to_rgb

from tests.drawings import LIFE, texts
from tracetorch import plot
from tracetorch.plot.style import COLORS


def points(axes):
    return [line.get_xydata().tolist() for line in axes.get_lines()]


def test_a_life_has_a_line_for_each_average_and_one_of_memory():
    fig = plot.lifetime(LIFE)
    above, below = fig.axes
    assert [[100, 0.5], [200, 0.9]] in points(above) and [[100, 0.25], [200, 0.45]] in points(above)
    assert points(below)[0] == [[100, 500], [200, 510]]
    found = texts(fig)
    assert {"half-life 50 decisions", "half-life 500 decisions", "reversal", "memory (MiB)",
            "reward (running average)", "decisions, of 70 time steps each"} <= set(found)  # fmt: skip
    marks = {line.get_xdata()[0] for line in above.get_lines() if len(set(line.get_xdata())) == 1}
    assert marks == {150, 300}


def test_without_a_known_memory_there_is_no_panel_of_it():
    rows = [{**row, "memory_bytes": None} for row in LIFE]
    assert len(plot.lifetime(rows).axes) == 1


def test_of_labels_it_says_accuracy():
    rows = [{("accuracy" if name == "reward" else name): value for name, value in row.items()} for row in LIFE]
    assert "accuracy (running average)" in texts(plot.lifetime(rows))
    assert "accuracy (fastest average)" in texts(plot.recovery(rows))
    assert "accuracy 1" in texts(plot.policy(rows))


def test_recovery_tells_apart_what_was_not_learnt_again():
    fig = plot.recovery(LIFE)
    left, right = fig.axes
    assert points(left) == [[[1, 110]], [[2, 100]]]
    assert [line.get_markerfacecolor() for line in left.get_lines()] == [COLORS["blue"], "white"]
    assert [[1, 0.9], [2, 0.8]] in points(right) and [[1, 0.3], [2, 0.2]] in points(right)
    assert {"not before the next reversal", "time to recover (decisions)"} <= set(texts(fig))


def test_a_change_by_which_nothing_was_lost_has_no_time_to_recover():
    rows = [{**row, "fell": row["recovery_decisions"] is not None} if "switch" in row else row for row in LIFE]
    assert points(plot.recovery(rows).axes[0]) == [[[1, 110]], []]


def test_a_policy_is_coloured_by_what_was_taken_and_whether_it_paid():
    fig = plot.policy(LIFE, names=["left", "right"])
    colors = fig.axes[0].collections[0].get_array()  # (actions, records, rgb)
    assert colors[0, 0].tolist() == pytest.approx(list(to_rgb(COLORS["blue"])))
    assert colors[1, 1].tolist() == pytest.approx(list(to_rgb(COLORS["vermillion"])))
    assert colors[0, 1].tolist() == colors[1, 0].tolist() == [1, 1, 1]
    assert {"left", "right", "action", "reward 1", "reward 0.5", "reward 0"} <= set(texts(fig))


@pytest.mark.parametrize("draw", [plot.lifetime, plot.recovery, plot.policy])
def test_records_of_another_run_are_refused(draw):
    with pytest.raises(ValueError, match="needs records with the split"):
        draw([{"update": 1, "split": "train", "loss": 1.0, "accuracy": 0.5}])


def test_the_figures_of_a_life_load_no_torch():
    used = "plot.lifetime, plot.recovery, plot.policy"
    code = f"import sys; from tracetorch import plot; {used}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
