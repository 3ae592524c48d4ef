"""One compiled kernel, split over the batch, in the threads of torch's own operations.

An OpenMP thread waits for work in a busy loop, for milliseconds. Other threads would share a processor with it; on two
cores, every kernel after a torch operation then took twice its time.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SERIAL = 1 << 15
"""With fewer numbers than this to work on, a second thread costs more than it saves."""

_Body = Callable[[int], None]
_SUBNORMAL = 5e-324


def parallel_for(kernel: Callable[..., Any], batch: int, work: int, *arguments: Any) -> list[Any]:
    """Call `kernel(first, last, *arguments)` for parts of the batch, in as many threads as torch may use.

    Args:
        kernel: compiled; it runs without the interpreter's lock.
        work: number of values to work on; this thread alone does fewer than `SERIAL`.
        arguments: tensors become arrays. Those that the kernel writes must be contiguous.
    Returns: the results of the calls.
    """
    plain = [argument.detach().numpy() if isinstance(argument, Tensor) else argument for argument in arguments]
    parts = 1 if work < SERIAL else min(torch.get_num_threads(), batch)
    if parts == 1:
        return [flushed(kernel, 0, batch, *plain)]
    results: dict[int, Any] = {}
    errors: list[BaseException] = []

    def body(part: int) -> None:
        try:
            results[part] = flushed(kernel, part * batch // parts, (part + 1) * batch // parts, *plain)
        except BaseException as error:  # an exception cannot cross a foreign thread
            errors.append(error)

    (_openmp() or _own_threads)(body, parts)
    if errors:
        raise errors[0]
    if len(results) < parts:  # interrupted between two parts, where no handler could raise
        raise KeyboardInterrupt
    return [results[part] for part in range(parts)]


def flushed(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Call a kernel with subnormal numbers (below 1e-38) flushed to 0 in this thread.

    Decaying values become subnormal after long silence and stay so, since .9 times the smallest rounds to itself;
    processors take ten times as long with them.
    """
    if _SUBNORMAL * 1.0 == 0.0:  # subnormal numbers are flushed already
        return kernel(*arguments)
    torch.set_flush_denormal(True)
    try:
        return kernel(*arguments)
    finally:
        torch.set_flush_denormal(False)


@cache
def _openmp() -> Callable[[_Body, int], None] | None:
    """A parallel region of the OpenMP library that torch has loaded; None without one."""
    library = _openmp_library()
    if library is None:
        return None
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    library.GOMP_parallel.argtypes = [callback, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    library.GOMP_parallel.restype = None

    def region(body: _Body, parts: int) -> None:
        def member(_: int | None) -> None:
            # A team may be smaller than requested; then its members take more than one part.
            for part in range(library.omp_get_thread_num(), parts, library.omp_get_num_threads()):
                body(part)

        library.GOMP_parallel(callback(member), None, parts, 0)

    return region


def _openmp_library() -> ctypes.CDLL | None:
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    mapped = {line.split(maxsplit=5)[-1] for line in lines if "omp" in line}
    home = str(Path(torch.__file__).parent.parent)  # torch's own, next to it or within, before any other that is loaded
    for path in sorted(mapped, key=lambda path: not path.startswith(home)):
        if Path(path).name.startswith(("libgomp", "libiomp5", "libomp")):
            with suppress(OSError):
                library = ctypes.CDLL(path)
                if hasattr(library, "GOMP_parallel"):
                    return library
    return None


def _own_threads(body: _Body, parts: int) -> None:
    futures = [_pool(parts - 1).submit(body, part) for part in range(1, parts)]
    body(0)
    for future in futures:
        future.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tracetorch")
