"""The run folder: reserved for one run, and telling the truth while the run goes on and when it ends."""

import csv
import math
import os

import numpy as np
import pytest
import torch

import tracetorch.runs.folder as folder_module
from tracetorch.runs import Run, RunFolder

CONFIG = {"seed": 3, "rule": {"_target_": "tracetorch.rules.Trace"}, "train": {"updates": 2, "figures": True}}


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    class Stopped(folder_module.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2030, 1, 2, 3, 4, 5)

    monkeypatch.setattr(folder_module, "datetime", Stopped)
    paths = [RunFolder.reserve(tmp_path, "tiny", "abcdef123456").path for _ in range(11)]
    assert [path.name for path in paths[:2] + paths[-1:]] == [f"20300102-030405-abcdef{n}" for n in ("", "-2", "-11")]
    assert all(path.parent == tmp_path / "tiny" and path.is_dir() for path in paths)


def test_a_folder_that_cannot_be_made_leaves_no_parents(tmp_path, monkeypatch):
    made = folder_module.Path.mkdir

    def full(path, *args, **kwargs):
        if path.name == "last":
            raise OSError(28, "No space left on device", str(path))
        made(path)

    monkeypatch.setattr(folder_module.Path, "mkdir", full)
    with pytest.raises(OSError, match="No space"):
        RunFolder.reserve(tmp_path, "tiny", "abcdef", tmp_path / "x" / "y" / "last")
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_writes_and_what_its_listener_hears(tmp_path):
    heard = []

    def listen(event, values):
        heard.append((event, values))

    files = {"config.yaml": "seed: 3\n"}
    run = Run(CONFIG, experiment="tiny", root=tmp_path / "outputs", files=files, listener=listen)
    assert run.status == "new" and list(tmp_path.iterdir()) == []
    with run:
        assert run.folder.facts()["status"] == run.status == "running"
        run.summary["accuracy"] = 0.5
        run.progress(1, None, loss=0.5)
        with run.timed("train_seconds"):
            pass
        before = run.timings["train_seconds"]
        with pytest.raises(ValueError, match="inside"), run.timed("train_seconds"):
            raise ValueError("inside")
        assert run.timings["train_seconds"] > before > 0
        with run.timed("evaluate_seconds"):
            run.record({"update": 1})
    facts = run.folder.facts()
    assert (facts["status"], facts["error"], facts["seed"], facts["rule"]) == ("completed", None, 3, "trace")
    assert (facts["experiment"], facts["summary"]["accuracy"], facts["pid"]) == ("tiny", 0.5, os.getpid())
    assert facts["summary"]["wall_seconds"] >= facts["timings"]["train_seconds"] >= 0
    assert facts["summary"]["peak_memory_bytes"] > 2**20 and facts["versions"]["torch"] == torch.__version__
    assert facts["versions"]["numpy"] == np.__version__
    assert (run.folder.path / "config.yaml").read_text() == "seed: 3\n"
    assert not (run.folder.path / "error.txt").exists()
    assert heard == [
        ("start", {"folder": run.folder.path, "device": "cpu", "lost": None, "resumed": False, "notes": []}),
        ("progress", {"done": 1, "total": None, "left": None, "loss": 0.5}),
        ("phase", {"name": "evaluate_seconds"}),
        ("record", {"update": 1}),
        ("end", {"status": "completed"}),
    ]


def test_the_time_left_contains_evaluations_the_test_and_the_drawing(tmp_path, monkeypatch):
    left = []
    listener = lambda event, values: left.append(values.get("left"))  # noqa: E731
    with Run(CONFIG, experiment="tiny", root=tmp_path, listener=listener) as run:
        monkeypatch.setattr(run, "_session_seconds", lambda: 30.0)
        run.timings["evaluate_seconds"], run.eval_every = 10.0, 4
        for done in (4, 5, 10):
            run.progress(done, 10)
    # 20 s of training; at updates 4, 8 and 10 an evaluation follows, and then the test; figures take 4 s
    assert left[1:4] == [20 / 4 * 6 + 4, 20 / 5 * 5 + 10 * 3 + 4, 0 + 5 * 2 + 4]


def test_records_are_appended_and_numbers_that_are_not_finite_become_null_and_empty_cells(tmp_path):
    note = 'two\nlines a\u2028b a\u0085b ü "'
    with Run(CONFIG, experiment="tiny", root=tmp_path) as run:
        run.record({"update": 1, "loss": math.nan, "deep": [math.inf, {"x": -math.inf}]})
        first = (run.folder.path / "metrics.jsonl").read_bytes()
        run.record({"update": 2, "accuracy": 1.0, "note": note})
        assert (run.folder.path / "metrics.jsonl").read_bytes().startswith(first)
        run.summary["loss"] = math.nan
    assert run.folder.records() == [
        {"update": 1, "loss": None, "deep": [None, {"x": None}]},
        {"update": 2, "accuracy": 1.0, "note": note},
    ]
    assert run.folder.facts()["summary"]["loss"] is None
    with (run.folder.path / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["update", "loss", "deep", "accuracy", "note"]
    assert rows[1][:2] == ["1", ""] and rows[2] == ["2", "", "", "1.0", note]


def test_a_table_is_read_as_it_was_written_and_a_broken_one_is_named(tmp_path):
    folder, columns = RunFolder(tmp_path), {"a": [1.0, 2.5], "b": [0.1, -3.0]}
    folder.write_table("t.csv", columns)
    assert folder.table("t.csv") == columns
    for broken, phrase in {
        "a,b\n1\n": "is not a table: its rows differ in length",
        "a\nx\n": "holds something that is not a number",
        "": "is not a table",
        f"a\n{'x' * 200_000}\n": "is not a table: field larger",
    }.items():
        folder.write_text("t.csv", broken)
        with pytest.raises(ValueError, match=rf"t\.csv {phrase}"):
            folder.table("t.csv")
