"""The reader of foreign files waits for nothing and unfolds nothing; the writer leaves the old file or the new one."""

import math
import os

import pytest

from tracetorch import files
from tracetorch.printable import cell, printable


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises((ValueError, IsADirectoryError)):
            files.read_bytes(path)
    with pytest.raises(FileNotFoundError):
        files.read_bytes(tmp_path / "nothing")


def test_a_file_larger_than_the_bound_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="larger than"):
        files.read_bytes(path)
    path.write_bytes(b"abc")
    assert files.read_bytes(path, 3) == b"abc"


@pytest.mark.parametrize(
    "content", [b"[" * 5000, b'{"a":' * 5000, b"[" * 65 + b"]" * 65, b"[]," * 1_000_000, b"{", b"\xff"]
)
def test_json_that_no_run_writes(content):
    with pytest.raises(ValueError):
        files.parse_json(content)


def test_json_that_a_run_writes():
    assert files.parse_json(b'{"a": [1, 2.5, null], "b": "[[[["}') == {"a": [1, 2.5, None], "b": "[[[["}
    assert files.parse_json(b"[" + b"[]," * 100 + b"[]]") == [[]] * 101  # wide, not deep
    assert files.parse_json(b'"' + b"[" * 200 + b'"') == "[" * 200
    assert files.parse_json(str(-(2**63)).encode()) == -(2**63)
    assert math.isinf(files.parse_json(b"9" * 400))


def test_a_link_is_replaced_and_never_written_through(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for name in ("link", f".link.{os.getpid()}"):
        (tmp_path / name).symlink_to(outside)
    files.write_whole(tmp_path / "link", "new")
    assert outside.read_text() == "mine" and (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink() and len(list(tmp_path.iterdir())) == 2
    (tmp_path / "other").symlink_to(outside)
    with pytest.raises(OSError):
        files.append(tmp_path / "other", "more")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError):
        files.append(tmp_path / "pipe", "more")
    files.append(tmp_path / "link", " line")
    assert (tmp_path / "link").read_text() == "new line"


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "a"
    files.write_whole(path, "old")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        files.write_whole(path, "new")
    assert [one.name for one in tmp_path.iterdir()] == ["a"] and path.read_text() == "old"


def test_nothing_printed_is_obeyed():
    assert printable("a\x1b[2J\u202eb\n c") == "a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}b c"
    assert len(printable("x" * 10**7, 80)) == 80
    assert [cell(one) for one in ("=1+1", "-0.5", "+x", 3, "a")] == ["'=1+1", "-0.5", "'+x", 3, "a"]


def test_a_write_removes_what_killed_processes_had_written_of_the_same_file(tmp_path):
    for name in (".a.csv.4194304", ".b.csv.4194304"):  # no process has so high a number
        (tmp_path / name).write_text("half")
    files.write_whole(tmp_path / "a.csv", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".b.csv.4194304", "a.csv"]
