"""Compiled functions on disk: numba's cache, with one sealed file for each function and its argument types.

numba itself keeps two files and does not check them: after a truncated file every later run fails, and if a process
dies between writing the two, code of old sources runs. Here a file begins with a hash of its content and of all that it
depends on: numba's version, the source file, the processor and the types. Without a match, the code is compiled again.
"""

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
    """As `numba.njit(cache=True, nogil=True)`. Without a writable folder, every process compiles the function."""
    if function is None:
        return partial(compiled, **options)
    dispatcher = numba.njit(nogil=True, **options)(function)
    with suppress(RuntimeError):
        # The attribute is private; tests/backends/test_numba_cache.py fails if a new numba renames it.
        dispatcher._cache = _cache_of(function)
    return dispatcher


class _Cache(FunctionCache):
    """A cache whose errors only cost time: a function whose file cannot be read is compiled."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with _without_blas():
            target_context.refresh()
        path, dependencies = self._file(sig, target_context.codegen())
        with suppress(Exception):  # no such file, or a class of another package has changed since
            content = path.read_bytes()
            if content[:_SEAL_BYTES] == _seal(dependencies, content[_SEAL_BYTES:]):
                return self._impl.rebuild(target_context, pickle.loads(content[_SEAL_BYTES:]))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._impl.check_cachable(data):
            return
        path, dependencies = self._file(sig, data.codegen)
        code = self._cache_file._dump(self._impl.reduce(data))
        with suppress(OSError), self._cache_file._open_for_write(path) as file:  # such as a full disk
            file.write(_seal(dependencies, code) + code)

    def _file(self, sig: Any, codegen: Any) -> tuple[Path, str]:
        """The file for these types of arguments, and a text of all that its code depends on."""
        key = repr(self._index_key(sig, codegen))
        name = f"{self._impl.filename_base}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.nbc"
        return Path(self.cache_path, name), f"{numba.__version__} {self._cache_file._source_stamp} {key}"


@contextmanager
def _without_blas() -> Iterator[None]:
    """Context in which numba does not load SciPy's BLAS, which takes time and which no kernel uses."""
    name = "scipy.linalg.cython_blas"
    stand_in = ModuleType(name)
    found = sys.modules.setdefault(name, stand_in)
    try:
        yield
    finally:
        if found is stand_in:
            del sys.modules[name]


def _seal(dependencies: str, code: bytes) -> bytes:
    return hashlib.sha256(dependencies.encode() + code).digest()


def _cache_of(function: Callable[..., Any]) -> _Cache:
    """A cache in numba's or else in the temporary folder. Raises: RuntimeError if neither can be written to."""
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
    """A temporary folder that only this user can write to; "" if another user has taken its name."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"tracetorch-numba-{user}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o077:
            return str(folder)
    return ""


ANNOUNCED = "TRACETORCH_COMPILING"  # in the environment, so that processes of this one do not log the line again


class _Announcer(event.Listener):
    """Logs one line before kernels are compiled, once for a process and those that it starts; none if all are loaded.

    Networks, rules and devices have kernels of their own, so that later commands may compile, too.
    """

    def on_start(self, compiling: Any) -> None:
        if compiling.data["dispatcher"].py_func.__module__.startswith(f"{__package__}."):
            event.unregister("numba:compile", self)
            if ANNOUNCED not in os.environ:
                os.environ[ANNOUNCED] = "1"
                message = "compiling kernels that this processor has not used before, up to 20 seconds; they are kept"
                logging.getLogger("tracetorch").warning(message)

    def on_end(self, compiling: Any) -> None:
        pass


event.register("numba:compile", _Announcer())
