"""X"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
from numba.core import event
from numba.core.caching import FunctionCache

_SEAL_BYTES = hashlib.sha256().digest_size


def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """As `numba.njit(cache=True, nogil=True)`.

    Without a folder to write to, the function is compiled in every process.
    """
    if function is None:
        return partial(compiled, **options)
    dispatcher = numba.njit(nogil=True, **options)(function)
    with suppress(RuntimeError):
        # No public name leads there; tests/test_numba_cache.py fails if a new numba calls it otherwise.
        dispatcher._cache = _cache_of(function)
    return dispatcher


class _Cache(FunctionCache):
    """What cannot be read is compiled; what cannot be written is compiled in every process."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with _without_blas():
            target_context.refresh()
        path, wanted = self._file(sig, target_context.codegen())
        with suppress(Exception):  # no such file, or a class of another package has changed since
            content = path.read_bytes()
            if content[:_SEAL_BYTES] == _seal(wanted, content[_SEAL_BYTES:]):
                return self._impl.rebuild(target_context, pickle.loads(content[_SEAL_BYTES:]))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._impl.check_cachable(data):
            return
        path, wanted = self._file(sig, data.codegen)
        code = self._cache_file._dump(self._impl.reduce(data))
        with suppress(OSError), self._cache_file._open_for_write(path) as file:  # such as a full disk
            file.write(_seal(wanted, code) + code)

    def _file(self, sig: Any, codegen: Any) -> tuple[Path, str]:
        """Where the code for these types of arguments is, and what it depends on."""
        key = repr(self._index_key(sig, codegen))
        name = f"{self._impl.filename_base}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.nbc"
        return Path(self.cache_path, name), f"{numba.__version__} {self._cache_file._source_stamp} {key}"


@contextmanager
def _without_blas() -> Iterator[None]:
    """Let numba load without SciPy's BLAS, which it only looks for, and loads where a kernel multiplies matrices."""
    name = "scipy.linalg.cython_blas"
    stand_in = ModuleType(name)
    found = sys.modules.setdefault(name, stand_in)
    try:
        yield
    finally:
        if found is stand_in:
            del sys.modules[name]


def _seal(wanted: str, code: bytes) -> bytes:
    return hashlib.sha256(wanted.encode() + code).digest()


def _cache_of(function: Callable[..., Any]) -> _Cache:
    """The cache where numba finds a place; else in the folder for temporary files. Raises: RuntimeError without any."""
    try:
        return _Cache(function)
    except RuntimeError:
        config: Any = numba.config
        before, config.CACHE_DIR = config.CACHE_DIR, _temporary()
        try:
            return _Cache(function)
        finally:
            config.CACHE_DIR = before


def _temporary() -> str:
    """A folder for temporary files that this user alone can write to; "" if another user has taken its name."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"tracetorch-numba-{user}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077:
            return str(folder)
    return ""


class _Announcer(event.Listener):
    """Says it once a process, and only where something is compiled and not merely loaded."""

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        if function.__module__.startswith(f"{__package__}."):
            stop()
            words = "compiling kernels for this processor, about 20 seconds, once"
            logging.getLogger("tracetorch").warning(words)

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


_announcer = _Announcer()


def start() -> None:
    """Listen for numba's compiler. To be called before any kernel has run."""
    event.register("numba:compile", _announcer)


def stop() -> None:
    """Listen no longer."""
    event.unregister("numba:compile", _announcer)
