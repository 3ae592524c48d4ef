"""Run folders that another program wrote, or that cannot be read: a state, never an error, and nothing waited for."""

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest

from tests.run_folders import run_folder
from tracetorch.files import open_to_append
from tracetorch.runs import BusyError, RunFolder
from tracetorch.runs import folder as folder_module
from tracetorch.runs import lock as lock_module
from tracetorch.runs.lock import Lock, is_locked
from tracetorch.runs.records import read_csv, read_jsonl
from tracetorch.runs.state import last_record, metric_of, state_of

DIGITS = "1" + "0" * 400


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_run_that_cannot_be_read_now_is_not_broken(tmp_path, monkeypatch, number):
    run_folder(tmp_path / "r")

    def fail(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(folder_module, "read_json", fail)
    state = state_of(tmp_path / "r")
    assert (state.status, state.is_over, state.facts) == ("unreadable", False, {})
    assert state.error == f"{tmp_path / 'r' / 'run.json'} cannot be read: {os.strerror(number)}"


@pytest.mark.parametrize("content", ["[" * 5000, '{"a":' * 5000, "{", "[]", '{"status": ["completed"]}', "\xff", None])
def test_content_that_no_run_writes_is_broken(tmp_path, content):
    path = run_folder(tmp_path / "r") / "run.json"
    if content is None:
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_text(content, encoding="latin-1")
    state = state_of(tmp_path / "r")
    assert (state.status, state.is_over) == ("broken", True)
    assert "\n" not in state.error and len(state.error) < 300


@pytest.mark.parametrize(
    ("line", "update", "metric"),
    [
        (f'{{"update": {DIGITS}, "accuracy": 1}}', 60, ("accuracy", 0.9)),
        (f'{{"update": 61, "loss": 2, "accuracy": {DIGITS}}}', 61, ("loss", 2.0)),
        ('{"update": 61, "accuracy": [1], "f1": 0.5}', 61, ("f1", 0.5)),
        ('{"update": 61, "loss": {"a": 1}, "accuracy": true}', 61, None),
        ('{"update": 61, "accuracy": ' + "[" * 5000 + "]" * 5000 + "}", 60, ("accuracy", 0.9)),
        ('{"update": "61", "accuracy": 1}', 60, ("accuracy", 0.9)),
        ("[1]", 60, ("accuracy", 0.9)),
        ("\0" * 100, 60, ("accuracy", 0.9)),
    ],
)
def test_a_last_record_of_any_content_is_read_or_passed_over(tmp_path, line, update, metric):
    path = run_folder(tmp_path / "r") / "metrics.jsonl"
    path.write_text(path.read_text() + line + "\n")
    record = last_record(tmp_path / "r")
    assert (record["update"], metric_of(record)) == (update, metric)


def test_no_pipe_in_the_place_of_records_or_tables_is_waited_for(tmp_path):
    for name in ("metrics.jsonl", "trials.csv"):
        os.mkfifo(tmp_path / name)
    folder = RunFolder(tmp_path)
    assert last_record(tmp_path) == {}
    for read in (folder.records, lambda: folder.table("trials.csv")):
        with pytest.raises(ValueError, match="is not a regular file"):
            read()
    with pytest.raises(OSError, match="not a regular file"):
        folder.append_record({"update": 1})


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (sparse, "line 1, is no JSON"),
        (lambda path: path.write_text('{"a": ' + "[" * 5000 + "]" * 5000 + "}\n{}\n"), "line 1, .*deep"),
        (lambda path: path.write_text(("[" + "[],[]," * 170_000 + "[]]\n") * 4), "line 1, "),
        (lambda path: path.write_text(('{"a": [' + "0," * 500_000 + "0]}\n") * 5), "line 4, has more elements"),
    ],
)
def test_records_that_would_unfold_are_refused(tmp_path, write, why):
    write(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=why):
        read_jsonl(tmp_path / "metrics.jsonl")


def test_a_cell_that_is_no_csv_is_named(tmp_path):
    (tmp_path / "trials.csv").write_text("a\n" + "x" * 200_000 + "\n")
    with pytest.raises(ValueError, match=r"trials\.csv is no table"):
        read_csv(tmp_path / "trials.csv")


# ── locks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.parent / "outside")])
def test_a_link_or_a_pipe_in_the_place_of_a_lock_is_refused(tmp_path, make):
    make(tmp_path / ".lock")
    assert not is_locked(tmp_path)
    with pytest.raises(OSError, match="not a regular file; remove it first"):
        Lock(tmp_path)
    assert not (tmp_path / "outside").exists()


def test_a_run_that_starts_while_a_reader_looks_is_not_refused(tmp_path, monkeypatch):
    reader = (tmp_path / ".lock").open("w")
    fcntl.flock(reader, fcntl.LOCK_SH)
    monkeypatch.setattr(lock_module.time, "sleep", lambda seconds: reader.close())
    lock = Lock(tmp_path)
    assert is_locked(tmp_path)
    monkeypatch.setattr(lock_module, "_PATIENCE_SECONDS", 0)
    with pytest.raises(BusyError):
        Lock(tmp_path)
    lock.release()
    assert not is_locked(tmp_path)


def test_a_lock_on_a_file_that_was_removed_is_no_lock(tmp_path, monkeypatch):
    """Else a run that waited for `clean` would go on in the folder that is no longer there."""
    place = tmp_path / "r"
    place.mkdir()

    def open_and_remove(path):
        file = open_to_append(path)
        shutil.rmtree(place)
        return file

    monkeypatch.setattr(lock_module, "open_to_append", open_and_remove)
    with pytest.raises(FileNotFoundError):
        Lock(place)


def test_any_number_of_runs_may_start_in_one_second(tmp_path, monkeypatch):
    class Stopped(folder_module.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2030, 1, 2, 3, 4, 5)

    monkeypatch.setattr(folder_module, "datetime", Stopped)
    first = RunFolder.reserve(tmp_path, "tiny", "abcdef").path
    for number in range(2, 1201):
        first.with_name(f"{first.name}-{number}").mkdir()
    assert RunFolder.reserve(tmp_path, "tiny", "abcdef").path == first.with_name(f"{first.name}-1201")
