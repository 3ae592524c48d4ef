"""Compiled code that is kept on disk must be whole, and that of all the sources.

numba loads what it kept for a function as long as the file of that function is the same. The functions that it calls
lie in other files here: a change in one of those would never reach a kernel compiled before. A kernel that was killed
between its two files, or a file damaged since, would end every later call, or be run as it is. So each file of this
package's functions begins with a hash of the sources and of its content; a file that does not match is compiled again.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import pickle
import shutil
import stat
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba.core.caching import CacheImpl, IndexDataCacheFile, _CacheLocator, _SourceFileBackedLocatorMixin
from numba.core.dispatcher import Dispatcher

_FOLDER = Path(__file__).parent
_SOURCES = [*sorted(_FOLDER.glob("*.py")), _FOLDER.parent / "counter.py"]
_SEAL_BYTES = hashlib.sha256().digest_size


def stamp() -> None:
    """Let every compiled function of this package depend on every file of it. To be called before any has run."""
    everything = hashlib.sha256(b"".join(source.read_bytes() for source in _SOURCES)).hexdigest()
    modules = [module for name, module in sys.modules.items() if name.startswith(f"{__package__}.")]
    for module in modules:
        for value in vars(module).values():
            if isinstance(value, Dispatcher):
                # No public name leads there; tests/test_numba_cache.py fails if a new numba calls it otherwise.
                kept: Any = getattr(value, "_cache", None)
                if hasattr(kept, "_cache_file"):
                    kept._cache_file = _Sealed(kept._cache_path, kept._impl.filename_base, everything)


class _Sealed(IndexDataCacheFile):
    """The files of one function. What cannot be read is compiled; what cannot be written is compiled each time."""

    def save(self, key: Any, data: Any) -> None:
        with suppress(OSError):  # a full disk
            super().save(key, data)

    def _load_index(self) -> dict[Any, Any]:
        try:
            found: dict[Any, Any] = self._read(self._index_path)
        except OSError:
            return {}
        return found

    def _save_index(self, overloads: dict[Any, Any]) -> None:
        self._write(self._index_path, overloads)

    def _load_data(self, name: str) -> Any:
        return self._read(self._data_path(name))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _read(self, path: str) -> Any:
        content = Path(path).read_bytes()
        seal, data = content[:_SEAL_BYTES], content[_SEAL_BYTES:]
        if seal != self._seal(data):
            raise OSError(f"{path} is damaged, or of other sources")
        try:
            return pickle.loads(data)
        except Exception as error:  # a class of another package that has changed since
            raise OSError(f"{path} cannot be loaded") from error

    def _write(self, path: str, content: Any) -> None:
        data = self._dump(content)
        with self._open_for_write(path) as file:
            file.write(self._seal(data) + data)

    def _seal(self, data: bytes) -> bytes:
        return hashlib.sha256(f"{self._version} {self._source_stamp} ".encode() + data).digest()


class _Temporary(_SourceFileBackedLocatorMixin, _CacheLocator):
    """Where no other place is writable, a folder for temporary files keeps this package's functions."""

    def __init__(self, function: Any, file: str):
        self._py_file, self._lineno = file, function.__code__.co_firstlineno
        self._cache_path = str(_temporary() / self.get_suitable_cache_subpath(file))

    def get_cache_path(self) -> str:
        return self._cache_path

    @classmethod
    def from_function(cls, function: Any, file: str) -> Any:
        return super().from_function(function, file) if Path(file).is_relative_to(_FOLDER) else None


@cache
def _temporary() -> Path:
    """A folder that this user alone can write to: the same one for all processes, if no other user took its name."""
    own = os.getuid() if hasattr(os, "getuid") else None
    folder = Path(tempfile.gettempdir(), f"tracetorch-numba-{'' if own is None else own}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and (own is None or (found.st_uid == own and not found.st_mode & 0o077)):
            return folder
    folder = Path(tempfile.mkdtemp(prefix="tracetorch-numba-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


CacheImpl._locator_classes = [*CacheImpl._locator_classes, _Temporary]
