"""Finding and reading runs: each once, and none that raises, whatever lies in its folder."""

import errno
import os

import pytest

from tests.run_folders import records, run_folder, usual_summary
from tracetorch.compare.collect import LeftOut, find_runs, flatten, read_config, read_run
from tracetorch.compare.comparison import NothingToCompareError, compare
from tracetorch.compare.tables import left_out, remarks
from tracetorch.compare.values import default_metric, known_metrics, measure


def names(folders, root):
    found, unreadable = find_runs(folders)
    assert not unreadable
    return [path.relative_to(root).as_posix() for path in found]


def test_runs_are_found_once_at_any_depth_and_not_in_other_runs_or_behind_links(tmp_path):
    for name in ("b/s/001", "b/s/000", "a", "a/eval/first", "a/plots/x", "a/inner", "eval/run"):
        run_folder(tmp_path / name)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "b")
    (tmp_path / "here" / "loop").symlink_to(tmp_path / "here")
    expected = ["a", "a/inner", "b/s/000", "b/s/001", "eval/run"]
    twice = [tmp_path / "a", tmp_path, tmp_path / "a" / "inner", tmp_path / "b" / ".." / "a"]
    assert names([tmp_path], tmp_path) == names(twice, tmp_path) == expected
    assert names([tmp_path / "here"], tmp_path) == []
    assert names([tmp_path / "here" / "link"], tmp_path) == ["here/link/s/000", "here/link/s/001"]


def test_a_folder_that_cannot_be_opened_is_left_out_with_the_reason(tmp_path, monkeypatch):
    run_folder(tmp_path / "good")
    run_folder(tmp_path / "locked" / "run")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("locked"):  # root may open every folder
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    reason = LeftOut(str(tmp_path / "locked"), "unreadable", "", "Permission denied")
    assert find_runs([tmp_path]) == ([tmp_path / "good"], [reason])


def test_links_and_pipes_in_place_of_files_affect_no_other_run(tmp_path):
    for seed, name in enumerate(("run.json", "config.yaml", "metrics.jsonl")):
        for kind, make in (("link", lambda path: path.symlink_to(path.name)), ("pipe", os.mkfifo)):
            folder = run_folder(tmp_path / kind / name, seed=seed)
            (folder / name).unlink()
            make(folder / name)  # a link to itself can not be opened, even by root
    links, pipes = compare([tmp_path / "link"]), compare([tmp_path / "pipe"])
    messages = [*left_out(links.left_out), *remarks(links)]
    assert len(messages) == 3 and all("symbolic links" in line for line in messages)
    assert [(one.status, one.why) for one in pipes.left_out] == [("broken", "run.json is not a regular file")]
    assert [run.remark for run in pipes.runs] == [
        "config.yaml cannot be read (is not a regular file)",
        "metrics.jsonl is broken: no curve",
    ]


@pytest.mark.parametrize("value", ["1" + "0" * 400, "[" * 2000 + "]" * 2000, '{"a": {}}', '"\\u001b[31m"', "NaN"])
def test_values_that_no_run_writes_affect_no_other_run(tmp_path, value):
    run_folder(tmp_path / "good")
    metric = f'"accuracy": {value}, "loss": {value}, "wall_seconds": {value}, "update": {value}'
    facts = "".join(f'"{name}": {value}, ' for name in ("started", "data", "id", "seed", "rule"))
    bad = f'{{"status": "completed", {facts} "summary": {{{metric}}}}}'
    (run_folder(tmp_path / "bad", seed=1) / "run.json").write_text(bad)
    rows = f'{{"split": "test", {metric}}}\n{{"split": {value}, {metric}}}\n'
    (run_folder(tmp_path / "worse", seed=2) / "metrics.jsonl").write_text(rows)
    found = compare([tmp_path])
    assert str(tmp_path / "good") in [run.run.name for run in found.runs]
    assert not [line for line in (*left_out(found.left_out), *remarks(found)) if not line.isprintable()]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"status": "completed", "summ', "run.json is broken: "),
        ("[1]", "run.json is broken: it is not a JSON object"),
        ('{"status": ["completed"]}', "status"),
        (b"\xff\xfe\x00", "broken"),
        ('{"status": "running"}', "without recording why"),
        ('{"status": "failed", "error": {"a": [1]}}', "it failed: run.json has no error message"),
        ('{"status": "failed", "error": "TrainingError: a\\nb"}', "it failed: TrainingError: a b"),
        ('{"status": "interrupted", "summary": {"updates": 40}}', "it was interrupted after 40 updates"),
        ('{"status": "interrupted", "summary": [1]}', "it was interrupted after 0 updates"),
    ],
)
def test_a_broken_or_unfinished_run_is_left_out(tmp_path, content, why):
    folder = run_folder(tmp_path / "run")
    (folder / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_run(folder)
    assert isinstance(found, LeftOut) and why in found.why and found.name == str(folder)
    assert "\n" not in found.why
    for by in ((), ("rule",)):
        with pytest.raises(NothingToCompareError, match="no run can be compared"):
            compare([tmp_path], by=by)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a: [", ""),
        ("7", "it holds no keys"),
        ("a: &x {k: [1]}\nb: [*x, *x]", "it has aliases or tags, which no run writes"),
        ("? {a: b}\n: c", "it has a key that is not a string"),
        ("a: !!python/object/apply:os.mkdir [made]", "it has aliases or tags, which no run writes"),
        (b"\xff\xfe", ""),
        ("x: " + "y" * (1 << 20), "is larger than 1,048,576 bytes"),
        ("a: " + "[" * 100_000 + "]" * 100_000, "it is nested more than 64 deep"),
        ("a: " + "{a: " * 65 + "}" * 65, "it is nested more than 64 deep"),
    ],
)
def test_a_broken_config_gets_a_remark(here, content, why):
    folder = run_folder(here / "run")
    (folder / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_run(folder)
    assert found.config is None and found.remark.startswith(f"config.yaml cannot be read ({why}")
    assert not (here / "made").exists()
    assert compare([here]).groups[0].statistics.mean == 0.9
    (folder / "config.yaml").write_text(f"a: {'[' * 64}{']' * 64}")
    assert read_run(folder).remark == ""


def test_a_config_is_read_as_it_would_be_typed(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "a: {b: [64, 32.5, [x]], c: null, d: }\nd: true\ne: {}\nf: 1e-05\ng: 0.30000000000000004\nh: 1.0\n2: 'x  y'\n"
        'i: "\\e[31m"\nj: 20261122-075732-ee2576\nk: [{l: 1}]\nm: "true"\n1.5: {true: 1}\n'
    )
    assert flatten(read_config(path)) == {
        "a.b": "[64,32.5,[x]]", "a.c": "null", "a.d": "null", "d": "true", "e": "{}", "f": "1e-05", "g": "0.3",
        "h": "1", "2": "x y", "i": "\N{REPLACEMENT CHARACTER}[31m", "j": "20261122-075732-ee2576", "k": "[{'l': '1'}]",
        "m": "'true'", "1.5.true": "1",
    }  # fmt: skip


def test_the_default_metric_is_the_first_of_the_task(tmp_path):
    run = read_run(run_folder(tmp_path / "a"))
    assert default_metric([run]) == "accuracy"
    assert default_metric([read_run(run_folder(tmp_path / "b", lines=[]))]) == "accuracy"
    bare = read_run(run_folder(tmp_path / "c", lines=[], summary={"updates": 3, "return": 7.0}))
    assert default_metric([bare, bare, run]) == "return"
    assert default_metric([read_run(run_folder(tmp_path / "d", lines=[], summary={}))]) == "loss"
    gap = {"update": 4, "split": "lost", "from_update": 2, "records": 3}
    lost = read_run(run_folder(tmp_path / "e", lines=[gap], summary={"accuracy": 0.5}))
    assert (known_metrics([bare]), known_metrics([lost])) == (["return"], ["accuracy"])
    assert {"loss", "of_ideal", "train_seconds"} <= set(known_metrics([run]))


def test_a_value_is_that_of_the_summary_or_of_the_last_record(tmp_path):
    every, not_finite = ("train", "validation", "test"), "its accuracy is not a finite number"
    for at, (summary, splits, value, remark) in enumerate(
        [
            (usual_summary(0.8), every, 0.8, ""),
            ("nonsense", every, 0.9, ""),
            ({}, ("train", "validation"), 0.8926, "no test: its accuracy is from the last record of validation"),
            ({}, ("train",), 0.8926, "no test: its accuracy is from the last record of train"),
            ({}, (), None, "it has no accuracy"),
            *(({"accuracy": wrong}, ("test",), None, not_finite) for wrong in (None, True, 10**400, float("nan"))),
        ]
    ):
        lines = [row for row in records(0.9) if row["split"] in splits]
        run = read_run(run_folder(tmp_path / str(at), summary=summary, lines=lines))
        found = measure(run, "accuracy", "accuracy")
        if value is None:
            assert isinstance(found, LeftOut) and found.why == remark
        else:
            assert found.value == pytest.approx(value, abs=1e-3) and found.remark == remark


def test_broken_metrics_cost_at_most_the_curve(tmp_path):
    for at, (before, after, points, remark) in enumerate(
        [
            ("", '{"update": 7', 10, ""),
            ("garbage\n", "", 0, "metrics.jsonl is broken in line 1: no curve"),
            ('7\nnull\n[]\n{}\n{"split": 5}\n{"split": "validation"}\n', "", 10, ""),
            ('{"split": "validation", "update": "x", "accuracy": 1}\n', "", 10, ""),
            ('{"split": "validation", "update": 3, "accuracy": NaN}\n', "", 10, ""),
        ]
    ):
        path = run_folder(tmp_path / str(at)) / "metrics.jsonl"
        path.write_text(before + path.read_text() + after)
        found = measure(read_run(path.parent), "accuracy", "accuracy")
        assert (found.value, found.remark) == (0.9, remark)
        assert len(found.curves.get(("accuracy", "validation"), [])) == points
