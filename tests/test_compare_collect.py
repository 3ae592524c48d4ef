"""Finding and reading runs: each once, and none that raises, whatever lies in its folder."""

import os

import pytest

from tests.run_folders import records, run_folder, usual_summary
from tracetorch.compare.collect import LeftOut, find_runs, flatten, read_config, read_run
from tracetorch.compare.comparison import NothingToCompareError, compare
from tracetorch.compare.tables import left_out, remarks
from tracetorch.compare.values import MeasuredRun, default_metric, known_metrics, measure


def names(folders, root):
    found, unreadable = find_runs(folders)
    assert not unreadable
    return [path.relative_to(root).as_posix() for path in found]


# ── finding ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_runs_are_found_wherever_they_lie_below(tmp_path):
    for name in ("b/sweeps/s/001", "b/sweeps/s/000", "a", "b/c"):
        run_folder(tmp_path / name)
    assert names([tmp_path], tmp_path) == ["a", "b/c", "b/sweeps/s/000", "b/sweeps/s/001"]
    assert names([tmp_path / "b" / "c"], tmp_path) == ["b/c"]


def test_each_is_found_once(tmp_path):
    run_folder(tmp_path / "a" / "run")
    given = [tmp_path / "a", tmp_path, tmp_path / "a" / "run", tmp_path / "a" / ".." / "a"]
    assert names(given, tmp_path) == ["a/run"]


def test_what_lies_in_a_run_is_not_a_run_but_another_run_is(tmp_path):
    for name in ("run", "run/eval/first", "run/plots/x", "run/inner", "eval/run"):
        run_folder(tmp_path / name)
    assert names([tmp_path], tmp_path) == ["eval/run", "run", "run/inner"]


def test_links_are_not_followed_out_of_the_folder(tmp_path):
    run_folder(tmp_path / "elsewhere" / "run")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "loop").symlink_to(tmp_path / "here")
    assert names([tmp_path / "here"], tmp_path) == []
    assert names([tmp_path / "here" / "link"], tmp_path) == ["here/link/run"]


def test_no_pipe_is_waited_for(tmp_path):
    folder = tmp_path / "pipe"
    folder.mkdir()
    os.mkfifo(folder / "run.json")
    assert find_runs([tmp_path])[1] == [LeftOut(str(folder), "broken", "", "run.json is not a regular file")]
    for seed, name in enumerate(("config.yaml", "metrics.jsonl")):
        folder = run_folder(tmp_path / name, seed=seed)
        (folder / name).unlink()
        os.mkfifo(folder / name)
    assert [run.remark for run in compare([tmp_path]).runs] == [
        "config.yaml cannot be read (is not a regular file)",
        "metrics.jsonl is broken: no curve",
    ]


def test_keys_that_are_no_words_are_keys_like_any_other(tmp_path):
    for at, value in enumerate((1, 2)):
        folder = run_folder(tmp_path / str(at))
        config = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(f"{config}1: {value}\n1.5: {{true: {value}, null: 3}}\n")
    assert [group.label for group in compare([tmp_path]).groups] == ["1=1, true=1", "1=2, true=2"]
    assert [group.label for group in compare([tmp_path], by=["1.5.true"]).groups] == ["1.5.true=1", "1.5.true=2"]


@pytest.mark.parametrize("name", ["run.json", "config.yaml", "metrics.jsonl"])
def test_what_the_system_cannot_read_keeps_nothing_from_the_other_runs(tmp_path, name):
    run_folder(tmp_path / "good")
    bad = run_folder(tmp_path / "bad", seed=1)
    (bad / name).unlink()
    (bad / name).symlink_to(name)  # which no user can open, not even root
    found = compare([tmp_path])
    said = [*left_out(found.left_out), *remarks(found)]
    assert len(said) == 1 and said[0].startswith(str(bad)) and "symbolic links" in said[0]


@pytest.mark.parametrize(
    "value", ["1" + "0" * 400, "[" * 2000 + "]" * 2000, "[1]", '{"a": {}}', '"\\u001b[31m"', "true", "NaN"]
)
@pytest.mark.parametrize("file", ["run.json", "metrics.jsonl"])
def test_what_no_run_writes_keeps_nothing_from_the_other_runs(tmp_path, file, value):
    run_folder(tmp_path / "good")
    bad = run_folder(tmp_path / "bad", seed=1)
    metric = f'"accuracy": {value}, "loss": {value}, "wall_seconds": {value}, "update": {value}'
    with (bad / file).open("w") as out:
        if file == "run.json":
            facts = "".join(f'"{name}": {value}, ' for name in ("started", "data", "id", "seed", "rule"))
            out.write(f'{{"status": "completed", {facts} "summary": {{{metric}}}}}')
        else:
            out.write(f'{{"split": "test", {metric}}}\n{{"split": {value}, {metric}}}\n')
    found = compare([tmp_path])
    assert str(tmp_path / "good") in [run.run.name for run in found.runs]
    assert not [line for line in (*left_out(found.left_out), *remarks(found)) if not line.isprintable()]


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"status": "completed", "summ', "broken"),
        ("", "broken"),
        ("[1]", "run.json"),
        ("7", "run.json"),
        ('{"status": "elated"}', "status"),
        ('{"status": ["completed"]}', "status"),
        ("[" * 100_000, "run.json"),
        (b"\xff\xfe\x00", "broken"),
        ('{"status": "running"}', "without recording why"),
        ('{"status": "failed"}', "it does not say why"),
        ('{"status": "failed", "error": {"a": [1]}}', "it failed: it does not say why"),
        ('{"status": "failed", "error": "TrainingError: a\\nb"}', "it failed: TrainingError: a b"),
        ('{"status": "interrupted", "summary": {"updates": 40}}', "it was interrupted after 40 updates"),
        ('{"status": "interrupted", "summary": [1]}', "it was interrupted after 0 updates"),
    ],
)
def test_a_run_that_did_not_end_well_is_left_out(tmp_path, content, why):
    folder = run_folder(tmp_path / "run")
    (folder / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_run(folder)
    assert isinstance(found, LeftOut) and why in found.why and found.name == str(folder)
    assert "\n" not in found.why
    with pytest.raises(NothingToCompareError, match="no run there can be compared"):
        compare([tmp_path])


@pytest.mark.parametrize(
    "content",
    [
        "a: [",
        "",
        "7",
        "- a",
        "a: &x [*x]",
        "a: &x {k: [1]}\nb: [*x, *x]",
        "? {a: b}\n: c",
        "a: !!int ''",
        "a: !!python/object/apply:os.mkdir [made]",
        "[" * 5000,
        "a: *x",
        b"\xff\xfe",
        "x: " + "y" * (1 << 20),
    ],
)
def test_a_broken_config_is_remarked_upon(tmp_path, content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = run_folder(tmp_path / "run")
    (folder / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    found = read_run(folder)
    assert found.config is None and found.remark.startswith("config.yaml cannot be read (")
    assert not (tmp_path / "made").exists()
    assert compare([tmp_path]).groups[0].summary.mean == 0.9


@pytest.mark.parametrize("deep", ["[" * 100_000 + "]" * 100_000, "[" * 65 + "]" * 65, "{a: " * 65 + "}" * 65])
def test_a_deep_config_is_refused_and_no_parser_crashes(tmp_path, deep):
    folder = run_folder(tmp_path / "run")
    (folder / "config.yaml").write_text(f"a: {deep}")
    assert read_run(folder).remark == "config.yaml cannot be read (it is nested more than 64 deep)"
    (folder / "config.yaml").write_text(f"a: {'[' * 64}{']' * 64}")
    assert read_run(folder).remark == ""


def test_a_config_comes_out_as_it_would_be_typed(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "a: {b: [64, 32.5, [x]], c: null, d: }\nd: true\ne: {}\nf: 1e-05\ng: 0.30000000000000004\nh: 1.0\n2: 'x  y'\n"
        'i: "\\e[31m"\nj: 20261122-075732-ee2576\nk: [{l: 1}]\n'
    )
    assert flatten(read_config(path)) == {
        "a.b": "[64,32.5,[x]]",
        "a.c": "null",
        "a.d": "null",
        "d": "true",
        "e": "{}",
        "f": "1e-05",
        "g": "0.3",
        "h": "1",
        "2": "x y",
        "i": "\N{REPLACEMENT CHARACTER}[31m",
        "j": "20261122-075732-ee2576",
        "k": "[{'l': '1'}]",
    }


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_usual_metric_is_the_tasks_first(tmp_path):
    run = read_run(run_folder(tmp_path / "a"))
    assert default_metric([run]) == "accuracy"
    assert default_metric([read_run(run_folder(tmp_path / "b", lines=[]))]) == "accuracy"
    bare = read_run(run_folder(tmp_path / "c", lines=[], summary={"updates": 3, "return": 7.0}))
    assert default_metric([bare, bare, run]) == "return"
    assert default_metric([read_run(run_folder(tmp_path / "d", lines=[], summary={}))]) == "loss"
    assert known_metrics([bare]) == ["return"]
    assert {"loss", "of_ideal", "train_seconds"} <= set(known_metrics([run]))
    gap = {"update": 4, "split": "lost", "from_update": 2, "records": 3}
    assert known_metrics([read_run(run_folder(tmp_path / "e", lines=[gap], summary={"accuracy": 0.5}))]) == ["accuracy"]


@pytest.mark.parametrize(
    ("summary", "splits", "value", "remark"),
    [
        (usual_summary(0.8), ("train", "validation", "test"), 0.8, ""),
        ({}, ("train", "validation", "test"), 0.9, ""),
        ("nonsense", ("train", "validation", "test"), 0.9, ""),
        ({}, ("train", "validation"), 0.8926, "no test: its accuracy is the last of validation"),
        ({}, ("train",), 0.8926, "no test: its accuracy is the last of train"),
        ({}, (), None, "it has no accuracy"),
        ({"accuracy": None}, ("test",), None, "its accuracy is not a finite number"),
        ({"accuracy": "high"}, ("test",), None, "its accuracy is not a finite number"),
        ({"accuracy": True}, ("test",), None, "its accuracy is not a finite number"),
        ({"accuracy": 10**400}, ("test",), None, "its accuracy is not a finite number"),
        ({"accuracy": float("nan")}, ("test",), None, "its accuracy is not a finite number"),
    ],
)
def test_where_a_value_is_taken_from(tmp_path, summary, splits, value, remark):
    lines = [row for row in records(0.9) if row["split"] in splits]
    found = measure(read_run(run_folder(tmp_path / "run", summary=summary, lines=lines)), "accuracy", "accuracy")
    if value is None:
        assert isinstance(found, LeftOut) and found.why == remark
    else:
        assert (
            isinstance(found, MeasuredRun) and found.value == pytest.approx(value, abs=1e-3) and found.remark == remark
        )


@pytest.mark.parametrize(
    ("spoil", "points", "remark"),
    [
        (lambda text: text[:-20], 10, ""),
        (lambda text: text + '{"update": 7', 10, ""),
        (lambda text: "garbage\n" + text, 0, "metrics.jsonl is broken in line 1: no curve"),
        (lambda text: "\x00\n" * 3 + text, 0, "metrics.jsonl is broken in line 1: no curve"),
        (lambda text: "7\nnull\n[]\n{}\n" + '{"split": 5}\n{"split": "validation"}\n' + text, 10, ""),
        (lambda text: '{"split": "validation", "update": "x", "accuracy": 1}\n' + text, 10, ""),
        (lambda text: '{"split": "validation", "update": 3, "accuracy": NaN}\n' + text, 10, ""),
        (lambda text: "", 0, ""),
    ],
)
def test_spoilt_metrics_cost_a_curve_at_most(tmp_path, spoil, points, remark):
    folder = run_folder(tmp_path / "run")
    (folder / "metrics.jsonl").write_text(spoil((folder / "metrics.jsonl").read_text()))
    found = measure(read_run(folder), "accuracy", "accuracy")
    assert (found.value, found.remark) == (0.9, remark)
    assert len(found.curves.get(("accuracy", "validation"), [])) == points
