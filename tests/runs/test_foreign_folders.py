"""Run folders that another program wrote, or that cannot be read: a state, never an error, and nothing waited for."""

import errno
import fcntl
import json
import os
import shutil

import pytest

from tests.run_folders import run_folder
from tests.tiny_training import train
from tracetorch.files import open_to_append
from tracetorch.runs import BusyError, RunFolder, folder, lock
from tracetorch.runs import checkpoint as checkpoint_module
from tracetorch.runs.folder import last_record, metric_of, state_of
from tracetorch.runs.lock import Lock, is_locked
from tracetorch.runs.records import read_jsonl

DIGITS = "1" + "0" * 400


@pytest.mark.parametrize("content", ["[" * 5000, "[]", '{"status": ["completed"]}', "\xff", None])
def test_a_run_json_with_foreign_content_is_broken_and_one_that_cannot_be_opened_is_unreadable(tmp_path, content):
    (tmp_path / "run.json").symlink_to("run.json")  # which no user can open
    error = f"{tmp_path / 'run.json'} cannot be read: {os.strerror(errno.ELOOP)}"
    assert state_of(tmp_path) == ("unreadable", {}, error) and not state_of(tmp_path).is_over
    path = run_folder(tmp_path / "r") / "run.json"
    if content is None:
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_text(content, encoding="latin-1")
    state = state_of(tmp_path / "r")
    assert (state.status, state.is_over) == ("broken", True)
    assert str(path) in state.error and "\n" not in state.error and len(state.error) < 300


@pytest.mark.parametrize(
    ("line", "update", "metric"),
    [
        (f'{{"update": {DIGITS}, "accuracy": 1}}', 60, ("accuracy", 0.9)),
        (f'{{"update": 61, "loss": 2, "accuracy": {DIGITS}, "train_seconds": 3}}', 61, ("loss", 2.0)),
        ('{"update": 61, "loss": {"a": 1}, "accuracy": true}', 61, None),
        ('{"update": 61, "split": "gradient", "accuracy": 1}', 61, None),
    ],
)
def test_a_last_record_of_any_content_is_read_or_passed_over(tmp_path, line, update, metric):
    path = run_folder(tmp_path / "r") / "metrics.jsonl"
    path.write_text(path.read_text() + line + "\n")
    record = last_record(tmp_path / "r")
    assert (record["update"], metric_of(record)) == (update, metric)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "line 1, is not valid JSON"),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}\n{}\n", "line 1, .*deep"),
        (("[" + "[],[]," * 170_000 + "[]]\n") * 4, "line 1, "),
        (('{"a": [' + "0," * 500_000 + "0]}\n") * 5, "line 4, has more elements"),
        ("{}\n[]\n", "line 2, is not a JSON object"),
        ('{"a": 1}\n{"a": \n{"a": 3}\n', r"metrics\.jsonl, line 2, is not valid JSON"),
    ],
)
def test_invalid_or_oversized_records_are_refused(tmp_path, text, why):
    with (tmp_path / "metrics.jsonl").open("wb") as file:
        file.truncate(1 << 40) if text is None else file.write(text.encode())
    with pytest.raises(ValueError, match=why):
        read_jsonl(tmp_path / "metrics.jsonl")


def test_a_last_line_that_was_cut_short_is_left_out(tmp_path):
    path, line = tmp_path / "metrics.jsonl", '{"b": "ü"}'.encode()
    for kept in range(len(line)):
        path.write_bytes(b'{"a": 1}\n' + line[:kept])
        assert read_jsonl(path) == [{"a": 1}], kept


def test_a_run_that_starts_while_a_reader_looks_is_not_refused(tmp_path, monkeypatch):
    reader = (tmp_path / ".lock").open("w")
    fcntl.flock(reader, fcntl.LOCK_SH)
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: reader.close())
    mine = Lock(tmp_path)
    assert is_locked(tmp_path)
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0)
    with pytest.raises(BusyError, match="another process is at work in"):
        Lock(tmp_path)
    mine.release()
    assert not is_locked(tmp_path)


def test_a_lock_on_a_file_that_was_removed_is_no_lock(tmp_path, monkeypatch):
    """Else a run that waited for `clean` would go on in the folder that is no longer there."""
    (tmp_path / "r").mkdir()

    def open_and_remove(path):
        file = open_to_append(path)
        shutil.rmtree(path.parent)
        return file

    monkeypatch.setattr(lock, "open_to_append", open_and_remove)
    with pytest.raises(OSError, match="No such file"):
        Lock(tmp_path / "r")


LINES = [json.dumps({"update": update, "split": "train"}).encode() + b"\n" for update in (10, 20, 30, 40)]
TEST, LATER = b'{"update": 40, "split": "test"}\n', b'{"update": 50, "split": "train"}\n'
HOLE = bytes(len(LINES[0]))


@pytest.mark.parametrize(
    ("lines", "lost"),
    [
        ([*LINES, TEST, LATER], None),
        ([], (0, 4, 0, 40)),
        ([LINES[0], HOLE + HOLE + LINES[3]], (1, 3, 10, 40)),
        ([LINES[0], b"[" * 5000 + b"\n", *LINES[2:], TEST], (1, 1, 10, 30)),
        ([*LINES[:2], HOLE + HOLE + b"\n", TEST, LATER], (2, 2, 20, 40)),
    ],
)
def test_records_that_a_checkpoint_counts_are_kept_and_a_gap_is_marked_once(tmp_path, lines, lost):
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
    heard, sync, write = [], folder.sync_folder, checkpoint_module.write_whole
    monkeypatch.setattr(folder, "sync_file", lambda path: heard.append(path.name))
    monkeypatch.setattr(folder, "sync_folder", lambda path: heard.append(path.name) or sync(path))
    monkeypatch.setattr(
        checkpoint_module, "write_whole", lambda path, all_: heard.append(path.name) or write(path, all_)
    )
    train(tmp_path, updates=1, log_every=1, eval_every=1, figures=False)
    assert tmp_path.name in heard and heard[-3:] == ["metrics.jsonl", "run", "latest.pt"]
