"""Run folders that another program wrote, or that cannot be read: a state, never an error, and nothing waited for."""

import errno
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.run_folders import run_folder
from tests.tiny_training import train
from tracetorch.files import open_to_append
from tracetorch.runs import BusyError, RunFolder
from tracetorch.runs import checkpoint as checkpoint_module
from tracetorch.runs import folder as folder_module
from tracetorch.runs import lock as lock_module
from tracetorch.runs.folder import last_record, metric_of, state_of
from tracetorch.runs.lock import Lock, is_locked
from tracetorch.runs.records import read_csv, read_jsonl

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
        (sparse, "line 1, is not valid JSON"),
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
    with pytest.raises(ValueError, match=r"trials\.csv is not a table"):
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
    with pytest.raises(OSError, match="No such file"):
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


# ── records that a checkpoint counts ────────────────────────────────────────────────────────────────────────────────

LINES = [json.dumps({"update": update, "split": "train"}).encode() + b"\n" for update in (10, 20, 30, 40)]
TEST, LATER = b'{"update": 40, "split": "test"}\n', b'{"update": 50, "split": "train"}\n'
HOLE = bytes(len(LINES[0]))


@pytest.mark.parametrize(
    ("lines", "lost"),
    [
        ([*LINES], None),
        ([*LINES, TEST, LATER], None),
        (LINES[:3], (3, 1, 30, 40)),
        ([*LINES[:3], LINES[3][:-1]], (3, 1, 30, 40)),
        ([], (0, 4, 0, 40)),
        ([LINES[0], HOLE + HOLE + LINES[3]], (1, 3, 10, 40)),
        ([LINES[0], HOLE + HOLE[:-1] + b"\n", LINES[3]], (1, 2, 10, 40)),
        ([LINES[0], b"[" * 5000 + b"\n", *LINES[2:], TEST], (1, 1, 10, 30)),
        ([*LINES[:2], HOLE + HOLE + b"\n", TEST, LATER], (2, 2, 20, 40)),
    ],
)
def test_what_a_checkpoint_counts_is_kept_and_a_gap_is_marked_once(tmp_path, lines, lost):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(lines))
    mark = RunFolder(tmp_path).keep_records(4, 40)
    records = RunFolder(tmp_path).records()
    if lost is None:
        assert (path.read_bytes(), mark) == (b"".join(LINES), None)
    else:
        at, count, first, last = lost
        assert mark == {"update": last, "split": "lost", "records": count, "from_update": first}
        assert records[at] == mark and len(records) == 4 - count + 1
        assert [row["update"] for row in records] == sorted(row["update"] for row in records)
        assert all(row["split"] != "test" and row["update"] <= 40 for row in records)
    before = path.read_bytes()
    assert RunFolder(tmp_path).keep_records(4, 40) is None  # killed before the next checkpoint, and gone on with again
    assert path.read_bytes() == before


def test_a_checkpoint_is_written_after_what_it_counts_is_on_the_disk(tmp_path, monkeypatch):
    heard = []

    def hear(call, name):
        def heard_call(path, *args):
            heard.append((name, path.name))
            return call(path, *args)

        return heard_call

    monkeypatch.setattr(folder_module, "sync_file", hear(folder_module.sync_file, "sync"))
    monkeypatch.setattr(folder_module, "sync_folder", hear(folder_module.sync_folder, "names"))
    monkeypatch.setattr(checkpoint_module, "write_whole", hear(checkpoint_module.write_whole, "write"))
    run = train(tmp_path, updates=1, log_every=1, eval_every=1, figures=False)
    outer = [path.name for path in (tmp_path, run.folder.path) if ("names", path.name) in heard]
    assert outer == [tmp_path.name, "run"]
    assert heard[-3:] == [("sync", "metrics.jsonl"), ("names", "run"), ("write", "latest.pt")]
