"""One number against another: which runs make a point, which points a line, and what is said of it."""

import csv
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.command_line import files, tracetorch
from tests.drawings import texts
from tests.run_folders import run_folder, usual_summary
from tracetorch.compare.comparison import compare
from tracetorch.compare.groups import UnknownNameError
from tracetorch.compare.scatter import NoNumberError, draw_scatter, make_scatter, rows, table

MIB = 2**20


def runs(folder, rule="trace", *, delays=(1, 10), seeds=3, experiment="clicks", memory=1.0, **more):
    """Runs with accuracies .9 + delay/1000 + seed/100, which took `memory` MiB for a second of delay, and some."""
    for delay in delays:
        for seed in range(seeds):
            value = 0.9 + delay / 1000 + seed / 100
            task = {"_target_": "tracetorch.tasks.PoissonClicks", "delay": delay, "seed": seed}
            summary = usual_summary(value) | {"training_memory_bytes": MIB * (memory * delay + seed)}
            summary |= {"chance_accuracy": 0.5 + seed / 1000}
            path = folder / f"{experiment}-{rule}-{delay}-{seed}-{len(list(folder.glob('*')))}"
            name = {"experiment": experiment, "timings": {"train_seconds": 2.0 * delay}}
            run_folder(path, value, rule=rule, seed=seed, task=task, summary=summary, facts=name, **more)
    return folder


def lines_of(scatter):
    """For each experiment and line: x, mean and n of its points."""
    lines = {}
    for p in scatter.points:
        lines.setdefault((p.experiment, p.line), []).append((round(p.x.mean, 6), round(p.y.mean, 6), p.y.n))
    return lines


# ── points and lines ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_of_the_config_makes_a_point_of_the_runs_with_the_same_value(tmp_path):
    runs(runs(tmp_path), "bptt", delays=(10,), seeds=2)
    found = make_scatter(compare([tmp_path], by=["rule"]), "task.delay")
    assert found.is_set and found.stem == "accuracy_against_task.delay"
    assert lines_of(found) == {
        ("clicks", "bptt"): [(10, 0.915, 2)],
        ("clicks", "trace"): [(1, 0.911, 3), (10, 0.92, 3)],
    }
    assert found.chances["clicks"] == pytest.approx(0.501)


def test_what_was_measured_makes_a_point_of_the_runs_that_differ_by_chance_alone(tmp_path):
    found = make_scatter(compare([runs(tmp_path)], by=["rule"]), "training_memory_bytes")
    assert not found.is_set
    assert lines_of(found) == {("clicks", "trace"): [(2 * MIB, 0.911, 3), (11 * MIB, 0.92, 3)]}
    point = found.points[0]
    assert (point.x.least, point.x.most) == (MIB, 3 * MIB)


def test_without_groups_a_line_is_made_of_runs_that_differ_in_the_key_alone(tmp_path):
    runs(runs(runs(tmp_path), lr=0.1), lr=0.1, rule="bptt", delays=(1,))
    set_ = make_scatter(compare([tmp_path]), "task.delay")
    assert {label: len(points) for (_, label), points in lines_of(set_).items()} == {
        "rule=trace, lr=0.002": 2, "rule=trace, lr=0.1": 2, "rule=bptt, lr=0.1": 1,
    }  # fmt: skip
    alone = make_scatter(compare([runs(tmp_path / "x")]), "task.delay")
    assert list(lines_of(alone)) == [("clicks", "")]
    measured = make_scatter(compare([tmp_path / "x"]), "training_memory_bytes")
    assert list(lines_of(measured)) == [("clicks", "delay=1"), ("clicks", "delay=10")]


def test_each_experiment_has_a_panel_unless_lines_are_made_of_them(tmp_path):
    runs(runs(tmp_path), experiment="cues", lr=0.5)
    apart = make_scatter(compare([tmp_path], by=["rule"]), "task.delay")
    assert sorted(apart.chances) == ["clicks", "cues"]
    beside = make_scatter(compare([tmp_path], by=["experiment"]), "task.delay")
    assert list(dict.fromkeys(point.line for point in beside.points)) == ["clicks", "cues"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("train_seconds", [2.0, 20.0]),  # of the timings
        ("wall_seconds", None),
        ("loss", None),  # of the summary, though a config has a part of that name
        ("network.hidden", [64.0]),  # a list of one
        ("seed", [0.0, 1.0, 2.0]),
    ],
)
def test_any_number_will_do(tmp_path, key, expected):
    found = make_scatter(compare([runs(tmp_path)], by=["rule"]), key)
    if expected is not None:
        assert [point.x.mean for point in found.points] == expected


def test_a_number_of_the_records_will_do_too(tmp_path):
    lines = [{"update": at, "split": "train", "accuracy": 0.5, "grip": 3.0 + at} for at in (1, 2)]
    run_folder(tmp_path / "a", lines=lines)
    assert lines_of(make_scatter(compare([tmp_path]), "grip")) == {("poisson_clicks", ""): [(5.0, 0.9, 1)]}


def test_runs_without_the_number_are_left_out_and_listed(tmp_path):
    run_folder(runs(tmp_path) / "old", lr=7)
    found = make_scatter(compare([tmp_path], by=["rule"]), "training_memory_bytes")
    assert [(run.name.rpartition("/")[2], run.why) for run in found.left_out] == [
        ("old", "it has no training memory bytes")
    ]


def test_an_experiment_in_which_what_was_set_does_not_vary_is_left_out(tmp_path):
    runs(runs(tmp_path), experiment="cues", delays=(3,), seeds=2)
    found = make_scatter(compare([tmp_path], by=["rule"]), "task.delay")
    assert list(found.chances) == ["clicks"]
    assert [run.why for run in found.left_out] == ["task.delay is the same in all runs of cues"] * 2
    measured = make_scatter(compare([tmp_path], by=["rule"]), "training_memory_bytes")
    assert list(measured.chances) == ["clicks", "cues"] and not measured.left_out
    assert make_scatter(compare([runs(tmp_path / "x", delays=(3,))], by=["rule"]), "task.delay").points


def test_chance_levels_that_differ_are_none(tmp_path):
    for seed, chance in enumerate((0.5, 0.1)):
        run_folder(tmp_path / str(seed), seed=seed, summary=usual_summary(0.9) | {"chance_accuracy": chance})
    assert list(make_scatter(compare([tmp_path]), "seed").chances.values()) == [None]


@pytest.mark.parametrize(
    ("key", "error"),
    [("rule", NoNumberError), ("task", NoNumberError), ("task.label", UnknownNameError), ("", UnknownNameError)],
)
def test_what_is_no_number_or_nobody_has(tmp_path, key, error):
    with pytest.raises(error):
        make_scatter(compare([runs(tmp_path)]), key)


# ── table and figure ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_has_a_row_for_each_point(tmp_path):
    found = make_scatter(compare([runs(tmp_path)], by=["rule"]), "task.delay")
    assert table(found).rows == [
        ["trace", "1", "3", "0.911 ± 0.025", "0.9010–0.9210"],
        ["trace", "10", "3", "0.920 ± 0.025", "0.9100–0.9300"],
    ]
    memory = make_scatter(compare([tmp_path], by=["rule"], metric="training_memory_bytes"), "task.delay")
    assert table(memory).title == "training memory (MiB) against task.delay (s)"
    assert table(memory).rows[0][1:] == ["1", "3", "2.0 ± 2.5", "1.000–3.000"]
    first = rows(found)[0]
    assert (first["x"], first["x_ci_low"], first["runs"], first["seeds"], first["chance"]) == (1, 1, 3, 3, 0.501)


def drawn(found) -> tuple[Figure, list[str]]:
    figure = draw_scatter(found)
    return figure, [" ".join(text.split()) for text in texts(figure)]


def test_the_figure_says_what_it_shows(tmp_path):
    runs(runs(runs(tmp_path), "bptt", seeds=2), experiment="cues", lr=0.5)
    figure, shown = drawn(make_scatter(compare([tmp_path], by=["rule"]), "task.delay"))
    for text in ("task.delay (s)", "accuracy", "clicks", "cues", "chance", "trace (n=3)", "bptt (n=2)", "1", "10"):
        assert text in shown
    assert "Bars: 95 % interval of the mean (Student's t); for n=2, the range of the two runs." in " ".join(shown)
    assert figure.get_figwidth() <= 7


def test_groups_with_the_same_value_stand_next_to_each_other(tmp_path):
    figure = draw_scatter(make_scatter(compare([runs(runs(tmp_path), "bptt")], by=["rule"]), "task.delay"))
    axes = figure.axes[0]
    bars = [
        line
        for line in axes.get_lines()
        if line.get_xdata()[0] == line.get_xdata()[-1] == 1 and len(line.get_xdata()) == 2
    ]
    first, second = (line.get_transform().transform(line.get_xydata())[0, 0] for line in bars)
    assert 1 < abs(first - second) < 20
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert left < 1 < 10 < right and bottom < 0.901 < 0.93 < top


def test_a_learned_decay_names_its_layer_and_a_time_constant_its_unit(tmp_path):
    learned = usual_summary(0.9) | {"decay_1": 0.97, "time_constant_0": 0.3}
    run_folder(tmp_path / "run", summary=learned)
    for metric, words in [("decay_1", "decay, layer 1"), ("time_constant_0", "time constant, layer 0 (s)")]:
        found = make_scatter(compare([tmp_path], metric=metric), "seed")
        assert words in drawn(found)[1]
        assert table(found).title == f"{words} against seed"


@pytest.mark.parametrize(
    ("delays", "metric", "scales"),
    [
        ((1, 10), "accuracy", ("linear", "linear")),
        ((1, 11), "accuracy", ("log", "linear")),
        ((0, 11), "accuracy", ("linear", "linear")),
        ((1, 11), "training_memory_bytes", ("log", "log")),
        ((5,), "accuracy", ("linear", "linear")),
    ],
)
def test_an_axis_is_logarithmic_where_values_span_more_than_a_decade(tmp_path, delays, metric, scales):
    found = compare([runs(tmp_path, delays=delays, memory=20)], metric=metric)
    axes = drawn(make_scatter(found, "task.delay"))[0].axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == scales


@pytest.mark.parametrize(("delays", "shown"), [((1, 3, 10), {1, 3, 10}), ((1, 1.05, 10), {2, 4, 6, 8, 10})])
def test_the_values_are_ticks_where_there_is_room_for_them(tmp_path, delays, shown):
    found = make_scatter(compare([runs(tmp_path, delays=delays)]), "task.delay")
    assert shown <= set(drawn(found)[0].axes[0].get_xticks())


def test_points_and_bars_are_where_the_numbers_are(tmp_path):
    found = make_scatter(compare([runs(tmp_path)], by=["rule"]), "training_memory_bytes")
    lines = [np.array(line.get_data()) for line in draw_scatter(found).axes[0].lines]
    point = found.points[0]
    assert any(np.allclose(line, [[2, 11], [0.911, 0.92]]) for line in lines if line.shape == (2, 2))
    assert any(np.allclose(line, [[2, 2], [point.y.low, point.y.high]]) for line in lines if line.shape == (2, 2))
    assert any(np.allclose(line, [[1, 2, 3], [0.901, 0.911, 0.921]]) for line in lines if line.shape == (2, 3))


def test_of_too_many_lines_the_best_are_drawn(tmp_path):
    for at in range(40):
        run_folder(tmp_path / str(at), 0.5 + at / 100, lr=at + 1)
    _, shown = drawn(make_scatter(compare([tmp_path]), "wall_seconds"))
    assert "lr=40 (n=1)" in shown and "lr=8 (n=1)" not in shown
    assert any("Only the best 32 groups are drawn" in text for text in shown)


@pytest.mark.parametrize("name", ["$\\bad$", "50 $ and 60 $", "語", "_x", "", "x" * 500])
def test_any_name_and_any_value_can_be_drawn(tmp_path, name):
    run_folder(tmp_path / "a", lr=1e-300, extra=name, facts={"experiment": name})
    run_folder(tmp_path / "b", lr=1e99, extra="b", facts={"experiment": "b"})
    found = make_scatter(compare([tmp_path]), "optimizer.lr")
    assert draw_scatter(found) and all(math.isfinite(row["x"]) for row in rows(found))


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_prints_a_table_and_leaves_it_with_a_figure(here):
    runs(here / "sweep")
    result = tracetorch("compare", "sweep", "--by", "rule", "--against", "task.delay")
    assert result.exit_code == 0, result.stderr
    assert ["trace", "10", "3", "0.920", "±", "0.025", "0.9100–0.9300"] in map(str.split, result.stdout.splitlines())
    names = {f"accuracy_against_task.delay.{kind}" for kind in ("png", "svg", "csv")}
    assert files(here / "sweep" / "compare") == names
    with (here / "sweep" / "compare" / "accuracy_against_task.delay.csv").open(newline="") as file:
        assert [row["mean"][:5] for row in csv.DictReader(file)] == ["0.911", "0.92"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--against", "delay"], "--against delay: no run has it. Did you mean 'task.delay'? There are: "),
        (["--against", "training_memory"], "Did you mean 'training_memory_bytes'?"),
        (["--against", "rule"], "--against rule: its values are not numbers (trace); to group by it: --by rule"),
        (["--against", ""], "--against: the name of a number is empty; leave --against out, or give one"),
        (["--against", "seed", "--metric", "acuracy"], "--metric acuracy: no run has it. Did you mean 'accuracy'?"),
        (["--against", "seed", "--out", "file"], "file is not a folder; choose another --out"),
    ],
)
def test_a_mistake_is_one_sentence(here, words, message):
    runs(here / "sweep")
    (here / "file").touch()
    before = files(here)
    result = tracetorch("compare", "sweep", *words)
    assert result.exit_code == 2, result.stdout
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert files(here) == before
