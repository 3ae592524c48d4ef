"""The one reader of files that another program may have written, and the one writer of files that are whole or absent.

A reader takes regular files only and bounds size, depth and element count before anything is allocated. It raises
`ValueError` for content that no run writes, and `OSError` where the system cannot read the file at the moment.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 64 << 20
"""Bound for a file of records."""

MOST_CONFIG_BYTES = 1 << 20
"""Bound for a YAML file."""

MOST_DATA_BYTES = 2 << 30
"""Bound for a file of data, unfolded."""

DEEPEST = 64
"""Bound for lists and objects within each other; a config has 5."""

MOST_ELEMENTS = 1_000_000
"""Bound for the values of one JSON text: an empty list takes 2 bytes in a file and 56 in memory."""

_OPENING = re.compile(rb'"(?:[^"\\]|\\.)*"?|[][{}]', re.DOTALL)
_LONGEST_INTEGER = 20  # characters: 64 bits and a sign


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading; a named pipe or a device is never waited for.

    Args: follow: whether the name may be a link; else that is an OSError.
    Raises: OSError as `open`; ValueError if it is anything but a regular file.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    number = os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise ValueError(f"{path} is not a regular file")
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file as long as it was when it was opened.

    Raises: OSError; ValueError if it is no regular file, or larger than `most`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{path} is larger than {most:,} bytes")
        return file.read(size)


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The UTF-8 text of a regular file. Raises: as `read_bytes`; UnicodeDecodeError (a ValueError)."""
    return read_bytes(path, most).decode("utf-8")


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """The value in a JSON file. Raises: OSError; ValueError that names the file, as `read_bytes` and `parse_json`."""
    content = read_bytes(path, most)
    try:
        return parse_json(content)
    except ValueError as error:
        raise ValueError(f"{path} is broken: {error}") from None


def parse_json(content: bytes) -> Any:
    """The value that a JSON text stands for. An integer of more than 64 bits becomes a float, possibly infinite.

    Raises: ValueError if it is no JSON in UTF-8, nested too deep, or has too many elements.
    """
    brackets = content.count(b"[") + content.count(b"{")
    if brackets + content.count(b",") > MOST_ELEMENTS:
        raise ValueError(f"more than {MOST_ELEMENTS:,} elements")
    if brackets > DEEPEST and _depth(content) > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} deep")
    return _DECODER.decode(content.decode("utf-8"))


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= _LONGEST_INTEGER else float(text)


_DECODER = json.JSONDecoder(parse_int=_integer)


def _depth(content: bytes) -> int:
    depth = deepest = 0
    for found in _OPENING.finditer(content):
        letter = found[0]
        if letter in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif letter in (b"]", b"}"):
            depth -= 1
    return deepest


def find_idx(folder: Path, name: str) -> Path | None:
    """A file of MNIST in a folder, gzipped or not, in the layouts of its distributors; None if there is none.

    Args: name: such as "train-images-idx3-ubyte". Kaggle writes ".idx3" for "-idx3", and puts each file into a folder
        of its name; torchvision puts all into MNIST/raw.
    """
    dotted = name.replace("-idx", ".idx")
    names = (f"{name}.gz", name, f"{dotted}.gz", dotted, f"{name}/{name}", f"{dotted}/{dotted}")
    paths = (folder / inside / known for inside in ("", "MNIST/raw", "raw") for known in names)
    return next((path for path in paths if path.is_file()), None)


class WriteError(OSError):
    """The project cannot write a file or a folder of its own; an OSError of a user's part is never one."""


@contextmanager
def writing(path: Path | None = None) -> Iterator[None]:
    """The body writes files of the project: an OSError in it becomes a WriteError.

    Args: path: the file to name, if it is another one than the system names, such as a temporary one.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.errno is None:
            raise WriteError(str(error)) from error
        raise WriteError(error.errno, error.strerror, str(path or error.filename or "the disk")) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it, and a power cut loses neither.

    A link with this name is replaced, not followed. What killed processes had written of it is removed.

    Raises: WriteError.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        remove_remains_of(path)
        with suppress(FileNotFoundError):
            beside.unlink()
        try:
            with open(os.open(beside, _NEW, 0o666), "wb") as file:  # noqa: PTH123
                file.write(_encode(content))
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name without its content
            beside.replace(path)
            sync_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_APPEND = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_APPEND
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
)


def open_to_append(path: Path) -> BinaryIO:
    """Open a regular file at its end, made if it does not exist; a link with this name is not followed.

    Raises: WriteError, also if the name is a link, a pipe or a device.
    """
    with writing(path):
        try:
            number = os.open(path, _APPEND, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe that no process reads
                raise _not_regular(path) from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise _not_regular(path)
            return os.fdopen(number, "ab")
        except BaseException:
            os.close(number)
            raise


def append(path: Path, content: str | bytes) -> None:
    """Add to the end of a regular file, as `open_to_append` opens it. The caller syncs it. Raises: WriteError."""
    with writing(path), open_to_append(path) as file:
        file.write(_encode(content))


def _encode(content: str | bytes) -> bytes:
    """UTF-8. A file name that is not UTF-8 is in a text as lone surrogates; they become escapes, as JSON has them."""
    return content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content


def _not_regular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file; remove it first", str(path))


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk. A missing file is no error."""
    with suppress(FileNotFoundError), open_regular(path) as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can say so."""
    with suppress(OSError):  # Windows opens no folders, and some file systems sync none
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def expanded(path: str | Path) -> Path:
    """A path as it was typed, with ~ for the home folder; as it is, where there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path.expanduser raises for a user that does not exist


def real(path: Path) -> Path:
    """Where a path leads, links followed. A link to itself leads nowhere: it stays as it is, and nothing is raised."""
    return Path(os.path.realpath(path))


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a path, links followed, lies outside of a folder."""
    return not real(path).is_relative_to(real(folder))


def remove_remains(folder: Path) -> None:
    """Remove what killed processes had begun to write in a folder; the caller is the only process at work there."""
    for path, _ in _begun(folder):
        path.unlink(missing_ok=True)


def remove_remains_of(file: Path) -> None:
    """Remove what killed processes had begun to write of one file; what other processes are writing now stays."""
    for path, process in _begun(file.parent):
        if path.stem == f".{file.name}" and not _is_another(process):
            path.unlink(missing_ok=True)


def _begun(folder: Path) -> Iterator[tuple[Path, int]]:
    """Files that `write_whole` has begun, with the number of the process that did."""
    for path in folder.glob(".*.*"):
        if path.suffix[1:].isdecimal() and path.is_file():
            yield path, int(path.suffix[1:])


def _is_another(process: int) -> bool:
    """Whether a process other than this one has this number."""
    return process != os.getpid() and _is_alive(process)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True
