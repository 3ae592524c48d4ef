"""The run folder: reserved for one run, and telling the truth however the run ends."""

import csv
import json
import math
import os

import pytest
import torch

import tracetorch.runs.folder as folder_module
from tracetorch.files import write_whole
from tracetorch.runs import Run, RunFolder
from tracetorch.runs.records import read_jsonl

CONFIG = {"seed": 3, "rule": {"_target_": "tracetorch.rules.Trace"}, "train": {"updates": 2}}


def make(tmp_path, **changes):
    return Run(CONFIG, **{"experiment": "tiny", "root": tmp_path / "outputs"} | changes)


def facts(run):
    return json.loads((run.folder.path / "run.json").read_text(encoding="utf-8"))


# ── reserving ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_runs_of_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    class Stopped(folder_module.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2030, 1, 2, 3, 4, 5)

    monkeypatch.setattr(folder_module, "datetime", Stopped)
    paths = [RunFolder.reserve(tmp_path, "tiny", "abcdef123456").path for _ in range(3)]
    assert [path.name for path in paths] == [f"20300102-030405-abcdef{tail}" for tail in ("", "-2", "-3")]
    assert all(path.parent == tmp_path / "tiny" and path.is_dir() for path in paths)


def test_an_exact_folder_is_that_folder_and_its_parents_are_made(tmp_path):
    path = tmp_path / "a" / "b"
    assert RunFolder.reserve(tmp_path, "tiny", "abcdef", path).path == path
    assert path.is_dir() and sorted(tmp_path.iterdir()) == [tmp_path / "a"]


def test_an_exact_folder_that_exists_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("keep")
    with pytest.raises(FileExistsError):
        RunFolder.reserve(tmp_path, "tiny", "abcdef", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["precious"]


@pytest.mark.parametrize("where", ["path", "root"])
def test_a_folder_that_cannot_be_made_leaves_no_parents(tmp_path, monkeypatch, where):
    made = folder_module.Path.mkdir

    def full(path, *args, **kwargs):
        if path.name.startswith("last") or path.parent.name == "tiny":
            raise OSError(28, "No space left on device", str(path))
        made(path, *args, **kwargs)

    monkeypatch.setattr(folder_module.Path, "mkdir", full)
    with pytest.raises(OSError, match="No space"):
        RunFolder.reserve(tmp_path / "x" / "y", "tiny", "abcdef", tmp_path / "x" / "last" if where == "path" else None)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_cannot_write_its_first_files_leaves_no_folder(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(folder_module, "write_whole", full)
    with pytest.raises(OSError, match="No space"), make(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


# ── how a run ends ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_not_on_disk_before_it_is_entered(tmp_path):
    assert make(tmp_path).status == "new"
    assert list(tmp_path.iterdir()) == []


def test_run_json_says_running_and_then_completed(tmp_path):
    with make(tmp_path, files={"config.yaml": "seed: 3\n"}) as run:
        assert facts(run)["status"] == run.status == "running"
        run.summary["accuracy"] = 0.5
        with run.timed("train_seconds"):
            pass
    told = facts(run)
    assert (told["status"], told["error"], told["seed"], told["rule"]) == ("completed", None, 3, "trace")
    assert told["experiment"] == "tiny" and told["summary"]["accuracy"] == 0.5
    assert told["summary"]["wall_seconds"] >= told["timings"]["train_seconds"] >= 0
    assert told["summary"]["peak_memory_bytes"] > 2**20
    assert told["versions"]["torch"] == torch.__version__
    assert told["pid"] == os.getpid()
    assert (run.folder.path / "config.yaml").read_text() == "seed: 3\n"
    assert not (run.folder.path / "error.txt").exists()


def test_a_run_that_fails_says_why_and_lets_the_error_go_on(tmp_path):
    with pytest.raises(ZeroDivisionError), make(tmp_path) as run:
        run.record({"update": 1})
        1 / 0  # noqa: B018
    assert facts(run)["status"] == run.status == "failed"
    assert facts(run)["error"] == "ZeroDivisionError: division by zero"
    text = (run.folder.path / "error.txt").read_text()
    assert text.startswith("Traceback") and "test_runs.py" in text and "ZeroDivisionError" in text
    assert (run.folder.path / "metrics.csv").read_text() == "update\n1\n"


def test_a_second_interruption_ends_a_run_as_interrupted(tmp_path):
    with pytest.raises(KeyboardInterrupt), make(tmp_path) as run:
        raise KeyboardInterrupt
    assert (facts(run)["status"], facts(run)["error"]) == ("interrupted", None)
    assert not (run.folder.path / "error.txt").exists()


def test_the_listener_hears_everything_in_order(tmp_path):
    heard = []
    with make(tmp_path, listener=lambda event, values: heard.append((event, values))) as run:
        run.progress(1, None, loss=0.5)
        with run.timed("evaluate_seconds"):
            run.record({"update": 1})
    assert [event for event, _ in heard] == ["start", "progress", "phase", "record", "end"]
    assert heard[0][1] == {"folder": run.folder.path, "device": "cpu", "lost": None, "resumed": False}
    assert [values for _, values in heard[1:]] == [
        {"done": 1, "total": None, "left": None, "loss": 0.5},
        {"name": "evaluate_seconds"},
        {"update": 1},
        {"status": "completed"},
    ]


def test_the_time_left_contains_the_evaluations_to_come_and_the_test(tmp_path, monkeypatch):
    left = []
    run = make(tmp_path, listener=lambda event, values: left.append(values.get("left")))
    with run:
        monkeypatch.setattr(run, "_wall_seconds", lambda: 30.0)
        run.timings["evaluate_seconds"], run.eval_every = 10.0, 4
        for done in (4, 5, 10):
            run.progress(done, 10)
    # 20 s of training; at updates 4, 8 and 10 an evaluation follows, and then the test
    assert left[1:4] == [20 / 4 * 6, 20 / 5 * 5 + 10 * 3, 0 + 5 * 2]


@pytest.mark.parametrize("figures", [True, False])
def test_the_time_left_contains_the_drawing(tmp_path, monkeypatch, figures):
    left = []
    run = Run(
        {"seed": 0, "train": {"figures": figures}},
        experiment="tiny",
        root=tmp_path,
        listener=lambda event, values: left.append(values.get("left")),
    )
    monkeypatch.setattr(run, "_wall_seconds", lambda: 10.0)
    with run:
        run.progress(5, 10)
    assert left[1] == 10.0 + 4.0 * figures


def test_the_clock_adds_up(tmp_path):
    run = make(tmp_path)
    with run.timed("a_seconds"):
        pass
    before = run.timings["a_seconds"]
    with pytest.raises(ValueError, match="inside"), run.timed("a_seconds"):
        raise ValueError("inside")
    assert run.timings["a_seconds"] > before > 0


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_records_are_appended_and_never_rewritten(tmp_path):
    with make(tmp_path) as run:
        path, before = run.folder.path / "metrics.jsonl", b""
        for update in range(3):
            run.record({"update": update})
            content = path.read_bytes()
            assert content.startswith(before) and content != before
            before = content
    assert run.folder.records() == [{"update": 0}, {"update": 1}, {"update": 2}]


def test_a_number_that_is_not_finite_becomes_null_and_an_empty_cell(tmp_path):
    with make(tmp_path) as run:
        run.record({"loss": math.nan, "deep": [math.inf, {"x": -math.inf}], "kept": 0.5})
        run.summary["loss"] = math.nan
    assert run.folder.records() == [{"loss": None, "deep": [None, {"x": None}], "kept": 0.5}]
    assert facts(run)["summary"]["loss"] is None
    assert (run.folder.path / "metrics.csv").read_text().splitlines()[1].startswith(",")


def test_the_csv_has_the_columns_of_all_records(tmp_path):
    with make(tmp_path) as run:
        run.record({"update": 1, "loss": 0.5})
        run.record({"update": 2, "accuracy": 1.0})
    with (run.folder.path / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["update", "loss", "accuracy"], ["1", "0.5", ""], ["2", "", "1.0"]]


def test_a_table_is_read_as_it_was_written_and_a_broken_one_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    columns = {"a": [1.0, 2.5], "b": [0.1, -3.0]}
    folder.write_table("t.csv", columns)
    assert folder.table("t.csv") == columns
    for broken, phrase in (("a,b\n1\n", "rows differ in length"), ("a\nx\n", "not a number"), ("", "not a table")):
        folder.write_text("t.csv", broken)
        with pytest.raises(ValueError, match=rf"t\.csv .*{phrase}"):
            folder.table("t.csv")


@pytest.mark.parametrize("kept", range(9))
def test_a_last_line_that_was_cut_short_is_left_out(tmp_path, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n' + '{"b": 23}'[:kept])
    assert read_jsonl(path) == [{"a": 1}]


def test_a_line_cut_inside_of_a_letter_is_left_out_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"a": 1}\n' + '{"b": "ü'.encode()[:-1])
    assert read_jsonl(path) == [{"a": 1}]


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2, is not valid JSON"):
        read_jsonl(path)


@pytest.mark.parametrize("text", ["two\nlines", "a\u2028b", "a\u0085b", "ü", '"'])
def test_any_text_survives_a_record(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.append_record({"note": text})
    assert folder.records() == [{"note": text}]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    write_whole(path, "old")
    write_whole(path, "newer")
    assert path.read_text() == "newer"

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"newest")
    assert path.read_text() == "newer"
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]
