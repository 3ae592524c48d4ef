"""The files of a folder or of a zip archive of unknown origin, read one at a time; see `tracetorch.files`."""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tracetorch import files

MOST_FILES = 1_000_000
MOST_FILE_BYTES = 256 << 20  # of one recording or image, decompressed
_CHUNK = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)
"""Errors of `zipfile` and its decompressors for damaged archives."""


class Container(Protocol):
    """Files by name."""

    path: Path
    names: list[str]
    """Paths of the files below the folder, or in the archive, with "/" between their parts, sorted."""

    def read(self, name: str) -> bytes:
        """Return the content of a file. Raises: OSError; ValueError that names the file."""


@contextmanager
def opened(path: Path) -> Iterator[Container]:
    """Yield a folder or a zip archive as a container.

    Raises: OSError; ValueError if the path is neither, or for an archive with too many files, too many bytes, or links.
    """
    if path.is_dir():
        yield Folder(path)
        return
    with files.open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield Archive(path, archive)
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise ValueError(f"{path} is neither a folder nor a zip archive that can be read: {error}") from None


class Folder:
    """The regular files below a folder, without hidden files and links to files outside of the folder."""

    def __init__(self, path: Path):
        self.path = path
        found = [file for file in path.rglob("*") if not _is_hidden(file.relative_to(path).as_posix())]
        self.names = sorted(
            file.relative_to(path).as_posix() for file in found if file.is_file() and not files.leads_out(file, path)
        )

    def read(self, name: str) -> bytes:
        return files.read_bytes(self.path / name, MOST_FILE_BYTES)


class Archive:
    """The files of a zip archive, without hidden ones. Raises: ValueError for too many files or bytes, or a link."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self.path, self._archive = path, archive
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(entries) > MOST_FILES:
            raise ValueError(f"{path} holds {len(entries):,} files; more than {MOST_FILES:,} are not read")
        total = sum(entry.file_size for entry in entries)
        if total > files.MOST_DATA_BYTES:
            raise ValueError(
                f"{path} says that it unpacks to {total:,} bytes; more than {files.MOST_DATA_BYTES:,} are not read"
            )
        self._entries = {entry.filename: entry for entry in entries if not _is_hidden(entry.filename)}
        for name, entry in self._entries.items():
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise ValueError(f"{path}: {name} is a link; an archive of data holds files alone")
        self.names = sorted(self._entries)

    def read(self, name: str) -> bytes:
        entry, body = self._entries[name], bytearray()
        if entry.file_size > MOST_FILE_BYTES:
            raise ValueError(f"{self.path}: {name} is larger than {MOST_FILE_BYTES:,} bytes")
        if entry.flag_bits & 1:
            raise ValueError(f"{self.path}: {name} is encrypted; unpack the archive, and give the folder")
        try:
            with self._archive.open(entry) as file:
                while len(body) <= entry.file_size and (part := file.read(_CHUNK)):
                    body += part  # grows with the data, not with the size in the header
        except _DAMAGE as error:
            raise ValueError(f"{self.path}: {name} is damaged: {error}") from None
        if len(body) != entry.file_size:
            more = "more" if len(body) > entry.file_size else "fewer"
            raise ValueError(f"{self.path}: {name} says that it holds {entry.file_size:,} bytes, and holds {more}")
        return bytes(body)


def _is_hidden(name: str) -> bool:
    """Whether a part of a path begins with a dot, or is the folder of metadata that macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
