"""Reading of files of unknown origin, and atomic writing.

Readers accept only regular files, and check size, depth and number of elements before they decode anything. They raise
`ValueError` for content that no run writes, and `OSError` if the system cannot read the file now.
"""

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

MOST_BYTES = 64 << 20  # of a file of records
MOST_CONFIG_BYTES = 1 << 20  # of a YAML file
MOST_DATA_BYTES = 2 << 30  # of a file of data, decompressed
DEEPEST = 64  # nested lists and objects; a config has 5
MOST_ELEMENTS = 1_000_000  # of one JSON text: an empty list takes 2 bytes in a file and 56 in memory
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"?|[][{}]', re.DOTALL)  # a bracket, or a string
_DEPTH_STEP = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}
_LONGEST_INTEGER = 20  # characters, enough for 64 bits

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading, without waiting for a named pipe or a device.

    Args: follow: whether the name may be a link.
    Raises: OSError as `open`, or for a link if not `follow`; ValueError if it is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT | (0 if follow else _NO_LINK))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is not a regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file. Raises: OSError; ValueError for other files, or more than `most` bytes."""
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
    """The value of a JSON text. An integer of more than 20 characters becomes a float, possibly infinite.

    Raises: ValueError if it is not JSON in UTF-8, is nested too deeply, or has too many elements.
    """
    brackets = content.count(b"[") + content.count(b"{")
    if brackets + content.count(b",") > MOST_ELEMENTS:
        raise ValueError(f"more than {MOST_ELEMENTS:,} elements")
    if brackets > DEEPEST and _depth(content) > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} deep")
    return _DECODER.decode(content.decode("utf-8"))


_DECODER = json.JSONDecoder(parse_int=lambda text: int(text) if len(text) <= _LONGEST_INTEGER else float(text))


def _depth(content: bytes) -> int:
    steps = (_DEPTH_STEP.get(found[0], 0) for found in _BRACKET.finditer(content))  # 0: a string
    return max(accumulate(steps, initial=0))


def find_idx(folder: Path, name: str) -> Path | None:
    """A file of MNIST, such as "train-images-idx3-ubyte", gzipped or not; None if the folder has none.

    Kaggle writes ".idx3" for "-idx3" and puts each file into a folder of its name; torchvision uses MNIST/raw.
    """
    dotted = name.replace("-idx", ".idx")
    names = (f"{name}.gz", name, f"{dotted}.gz", dotted, f"{name}/{name}", f"{dotted}/{dotted}")
    paths = (folder / inside / known for inside in ("", "MNIST/raw", "raw") for known in names)
    return next((path for path in paths if path.is_file()), None)


class WriteError(OSError):
    """traceTorch cannot write one of its files or folders. An OSError of a user's class is not a WriteError."""


@contextmanager
def writing(path: Path | None = None) -> Iterator[None]:
    """Turn an OSError into a WriteError. Args: path: the file to name, if not the one that the system names."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        if error.errno is None:
            raise WriteError(str(error)) from error
        raise WriteError(error.errno, error.strerror, str(path or error.filename or "the disk")) from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file atomically: a reader sees the old or the new content, also after a power cut.

    A link with this name is replaced, not followed. Temporary files of killed processes are removed.

    Raises: WriteError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        remove_remains_of(path)
        with suppress(FileNotFoundError):
            temporary.unlink()
        try:
            with open(os.open(temporary, _NEW, 0o666), "wb") as file:  # noqa: PTH123
                file.write(_encode(content))
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name without its content
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | getattr(os, "O_BINARY", 0)
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _NO_LINK | _NO_WAIT


def open_to_append(path: Path) -> BinaryIO:
    """Open a regular file at its end, or make it. Raises: WriteError, also for a link, a pipe or a device."""
    with writing(path):
        try:
            descriptor = os.open(path, _APPEND, 0o666)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe that no process reads
                raise _not_regular(path) from None
            raise
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _not_regular(path)
            return os.fdopen(descriptor, "ab")
        except BaseException:
            os.close(descriptor)
            raise


def append(path: Path, content: str | bytes) -> None:
    """Append to a regular file without syncing it. Raises: WriteError, as `open_to_append`."""
    with writing(path), open_to_append(path) as file:
        file.write(_encode(content))


def _encode(content: str | bytes) -> bytes:
    """UTF-8; lone surrogates, from a file name that is not UTF-8, become escapes, as in JSON."""
    return content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content


def _not_regular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file; remove it first", str(path))


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk. A missing file is not an error."""
    with suppress(FileNotFoundError), open_regular(path) as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system supports that."""
    with suppress(OSError):  # Windows opens no folders, and some file systems sync none
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def expanded(path: str | Path) -> Path:
    """A path with ~ replaced by the home folder, if that user exists."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path.expanduser raises for a user that does not exist


def real(path: Path) -> Path:
    """A path with its links followed; a link that leads back to itself stays as it is."""
    return Path(os.path.realpath(path))


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a path, links followed, lies outside of a folder."""
    return not real(path).is_relative_to(real(folder))


def remove_remains(folder: Path) -> None:
    """Remove temporary files of killed processes in a folder in which only the caller writes."""
    for path, _ in _temporary_files(folder):
        path.unlink(missing_ok=True)


def remove_remains_of(file: Path) -> None:
    """Remove temporary files of one file, except those of processes that are alive."""
    for path, process in _temporary_files(file.parent):
        if path.stem == f".{file.name}" and not _is_alive(process):
            path.unlink(missing_ok=True)


def _temporary_files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Temporary files of `write_whole`, with their process IDs."""
    for path in folder.glob(".*.*"):
        if path.suffix[1:].isdecimal() and path.is_file():
            yield path, int(path.suffix[1:])


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # on Windows, signal 0 is Ctrl-C
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's process
        pass
    return True
