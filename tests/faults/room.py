"""A disk that is full: each verb on a small one, of each size from that of what it begins with until it passes.

python -m tests.faults room --count 0      # as root: it mounts the disk
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults import cases
from tests.faults.cases import Case, Stage
from tests.faults.child import tracetorch

PAGE = 4096
NAMES = ("run", "run-lifetime", "run-figures", "resume", "eval", "plot", "compare-below", "clean", "sweep", "tune")
_ENOUGH = 1 << 14
_MORE = 8  # pages for what is written next to what it replaces


def can_mount() -> bool:
    """Whether a disk can be mounted here."""
    return os.name == "posix" and os.geteuid() == 0 and shutil.which("mount") is not None


@contextmanager
def disk(base: Path) -> Iterator[None]:
    """A disk at an empty folder, for as long as the body runs."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ENOUGH * PAGE}", "tmpfs", base], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", base], check=True)


def resize(base: Path, pages: int) -> None:
    """Let it have so much room; more, if that is less than the system counts as used, which may lag behind."""
    for size in range(max(1, pages), _ENOUGH + 1):
        command = ["mount", "-o", f"remount,size={size * PAGE}", base]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode:
            return
    raise OSError(f"{base} cannot be mounted again: {done.stderr}")


def every(stage: Stage, chosen: list[Case]) -> Iterator[tuple[Case, int]]:
    """All cases and sizes in pages, from none on top of what is there to what is left at the end and some more."""
    for case in chosen:
        if case.name in NAMES:
            for pages in range(stage.room(case, _pages) + _MORE):
                yield case, pages


def check(stage: Stage, case: Case, pages: int) -> tuple[int, str]:
    """Returns: whether there was too little room; what is wrong, "" if nothing is."""
    expected = stage.reference(case)[1]
    made = stage.set(case)
    base = made.with_name("disk")
    base.mkdir()
    with disk(base):
        shutil.copytree(made, base, symlinks=True, dirs_exist_ok=True)
        before, whole = cases.contents(base), cases.completed(base)
        already = cases.half_made(base)
        resize(base, _used(base) + pages)
        ended = tracetorch(*case.words, where=base)
        wrong = cases.spoken(ended) or cases.lost(before, base, case)
        if not wrong and ended.code and os.strerror(errno.ENOSPC) not in ended.out + ended.err:
            wrong = f"exit code {ended.code} without the reason: {(ended.out + ended.err)[-300:]}"
        if not wrong and not ended.code and not ended.err:
            wrong = cases.difference(expected, base)
        after = cases.contents(base)
        gone = [name for name, digest in whole.items() if after.get(name) != digest]
        left = [name for name in cases.half_made(base) if name not in already]
        wrong = wrong or (f"{gone[0]} of a completed run is lost" if gone else f"left over: {left}" if left else "")
        resize(base, _ENOUGH)
        if wrong or not (ended.code or ended.err):
            return bool(ended.code or ended.err), wrong
        for next_ended in cases.done(case, base):
            if next_ended.code:
                return 1, f"then {next_ended}"
        wrong = cases.difference(expected, base)
        return 1, wrong and f"after it has gone on, {wrong}"


def _used(base: Path) -> int:
    found = os.statvfs(base)
    return found.f_blocks - found.f_bfree


def _pages(base: Path) -> int:
    return sum(-(-path.stat().st_size // PAGE) for path in base.rglob("*") if path.is_file())
