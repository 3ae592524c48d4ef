"""The reader of foreign files waits for nothing and unfolds nothing; the writer leaves the old file or the new one."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tracetorch import files
from tracetorch.printable import cell, printable


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    for name, error, why in (
        ("pipe", ValueError, "is not a regular file"),
        ("", ValueError, "is not a regular file"),
        ("nothing", FileNotFoundError, "No such file"),
        ("sparse", ValueError, "is larger than 67,108,864 bytes"),
    ):
        with pytest.raises(error, match=why):
            files.read_bytes(tmp_path / name)
    (tmp_path / "three").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("three")
    assert files.read_bytes(tmp_path / "three", 3) == files.read_bytes(tmp_path / "link") == b"abc"


def test_json_of_bounded_depth_and_size_is_read():
    for content, why in (
        (b'{"a":' * 5000, "nested more than 64 deep"),
        (b"[" * 65 + b"]" * 65, "nested more than 64 deep"),
        (b"[" + b"0," * 1_000_000 + b"0]", "more than 1,000,000 elements"),
        (b"{", "Expecting property name"),
        (b"\xff", "invalid start byte"),
    ):
        with pytest.raises(ValueError, match=why):
            files.parse_json(content)
    assert files.parse_json(b'{"a": [1, 2.5, null], "b": "[[[["}') == {"a": [1, 2.5, None], "b": "[[[["}
    assert files.parse_json(b"[" + b"[]," * 100 + b"[]]") == [[]] * 101  # wide, not deep
    assert files.parse_json(b"[" * 64 + b'"\\"' + b"[" * 200 + b'"' + b"]" * 64)
    assert files.parse_json(str(-(2**63)).encode()) == -(2**63)
    assert len(files.parse_json(b"[" + b"0," * 999_999 + b"0]")) == 1_000_000
    assert isinstance(files.parse_json(b"9" * 21), float) and math.isinf(files.parse_json(b"9" * 400))


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    opened = sorted(Path("/dev/fd").iterdir())
    for name in ("link", "other"):
        (tmp_path / name).symlink_to(outside)
    (tmp_path / f".link.{os.getpid()}").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    files.write_whole(tmp_path / "link", "new")
    for name in ("other", "pipe", "/dev/null"):
        with pytest.raises(OSError, match="not a regular file; remove it first"):
            files.append(tmp_path / name, "more")
    files.append(tmp_path / "link", " line")
    files.append(tmp_path / "new", "line")
    for name in ("link", "new"):
        assert (tmp_path / name).stat().st_mode == outside.stat().st_mode
    assert sorted(Path("/dev/fd").iterdir()) == opened
    assert outside.read_text() == "mine" and (tmp_path / "link").read_text() == "new line"
    assert {path.name for path in tmp_path.iterdir()} == {"link", "new", "other", "outside", "pipe"}
    assert not (tmp_path / "link").is_symlink()


def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number)))
    files.write_whole(tmp_path / "a", "new")
    assert synced[0].st_size == 3 and synced[0].st_ino == (tmp_path / "a").stat().st_ino
    files.sync_file(tmp_path / "a")
    files.sync_file(tmp_path / "nothing")
    assert [one.st_ino for one in synced[1:]] == [tmp_path.stat().st_ino, synced[0].st_ino]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch):
    files.write_whole(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", lambda number: (tmp_path / "nothing").stat())
    with pytest.raises(files.WriteError, match=r"No such file or directory: '.*/a'"):
        files.write_whole(tmp_path / "a", b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


def test_unfinished_files_of_dead_processes_are_removed(tmp_path, monkeypatch):
    def kill(process, number, kill=os.kill):
        if process == 1:  # another user's
            raise PermissionError
        kill(process, number)

    monkeypatch.setattr(os, "kill", kill)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead, alive, other = f".a.{ended.stdout.decode().strip()}", f".a.{os.getppid()}", ".b.4194304"  # too high a number
    for name in (dead, alive, ".a.1", other, ".hidden.txt"):
        (tmp_path / name).write_text("half")
    files.write_whole(tmp_path / "a", "new")
    assert {path.name for path in tmp_path.iterdir()} == {"a", alive, ".a.1", other, ".hidden.txt"}
    files.remove_remains(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a", ".hidden.txt"}


def test_printed_text_has_no_control_characters():
    assert printable("a\x1b[2J\u202eb\n c") == "a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}b c"
    assert printable("x" * 10**7, 80) == "x" * 79 + "…" and printable("x" * 80, 80) == "x" * 80
    assert [cell(one) for one in ("=1+1", "-0.5", "+x", 3, "a")] == ["'=1+1", "-0.5", "'+x", 3, "a"]
