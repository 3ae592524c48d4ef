"""A full disk: each verb on small disks, from the size of its first files to a size at which it completes.

python -m tests.faults room --count 0      # requires root, to mount the disk
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
_LARGE = 1 << 14  # pages
_SPARE = 8  # pages for new versions of files, which exist next to the old ones


def can_mount() -> bool:
    """Whether this process can mount a disk."""
    return os.name == "posix" and os.geteuid() == 0 and shutil.which("mount") is not None


@contextmanager
def disk(folder: Path) -> Iterator[None]:
    """Mount a disk at an empty folder while the body runs."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_LARGE * PAGE}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def resize(folder: Path, pages: int) -> None:
    """Set the size of a disk; larger, if the system counts more pages as used, a count that may lag behind."""
    for size in range(max(1, pages), _LARGE + 1):
        command = ["mount", "-o", f"remount,size={size * PAGE}", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not done.returncode:
            return
    raise OSError(f"{folder} cannot be mounted again: {done.stderr}")


def all_sizes(stage: Stage, chosen: list[Case]) -> Iterator[tuple[Case, int]]:
    """The cases, each with numbers of free pages from 0 to slightly more than the command needs."""
    for case in chosen:
        if case.name in NAMES:
            for pages in range(stage.growth(case, _pages) + _SPARE):
                yield case, pages


def check(stage: Stage, case: Case, pages: int) -> tuple[int, str]:
    """Run a case on a disk with so many free pages. Returns: whether it was full; the fault found, "" if none."""
    expected = stage.reference(case)[1]
    source = stage.new_folder(case)
    workdir = source.with_name("disk")
    workdir.mkdir()
    with disk(workdir):
        shutil.copytree(source, workdir, symlinks=True, dirs_exist_ok=True)
        before, completed = cases.contents(workdir), cases.completed_files(workdir)
        unfinished_before = cases.unfinished(workdir)
        resize(workdir, _used(workdir) + pages)
        ended = tracetorch(*case.words, cwd=workdir)
        fault = cases.wrong_output(ended) or cases.first_lost(before, workdir, case)
        if not fault and ended.code and os.strerror(errno.ENOSPC) not in ended.out + ended.err:
            fault = f"exit code {ended.code} without the reason: {(ended.out + ended.err)[-300:]}"
        if not fault and not ended.code and not ended.err:
            fault = cases.difference(expected, workdir)
        after = cases.contents(workdir)
        lost = [name for name, digest in completed.items() if after.get(name) != digest]
        left = [name for name in cases.unfinished(workdir) if name not in unfinished_before]
        fault = fault or (f"{lost[0]} of a completed run is lost" if lost else f"left over: {left}" if left else "")
        resize(workdir, _LARGE)
        if fault or not (ended.code or ended.err):
            return bool(ended.code or ended.err), fault
        for next_ended in cases.complete(case, workdir):
            if next_ended.code:
                return 1, f"then {next_ended}"
        fault = cases.difference(expected, workdir)
        return 1, fault and f"after it was completed, {fault}"


def _used(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_blocks - stat.f_bfree


def _pages(folder: Path) -> int:
    return sum(-(-path.stat().st_size // PAGE) for path in folder.rglob("*") if path.is_file())
