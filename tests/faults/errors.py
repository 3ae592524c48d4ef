"""A disk that fails at one operation: for each verb, at each one until the verb passes.

    python -m tests.faults errors --count 0

An operation fails once with EIO, or with ENOSPC together with all later ones that take room, as on a full disk; or a
file cannot be read at the moment (EIO).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.faults import cases
from tests.faults.cases import Case, Stage
from tests.faults.child import tracetorch
from tests.faults.disk import Fault


class Try(NamedTuple):
    """One operation of one case, and how it fails."""

    case: Case
    at: int
    error: int
    lasting: bool = False
    reads: bool = False

    def __str__(self) -> str:
        kind = "reads" if self.reads else "lasting" if self.lasting else "once"
        return f"{self.case} at {self.at} {errno.errorcode[self.error]} {kind}"


def every(stage: Stage, chosen: list[Case]) -> Iterator[Try]:
    """Each operation, the first time and the last that it happens to a file of this name."""
    for case in chosen:
        if case == cases.JOBLIB:
            continue
        first, last = _occurrences(stage.reference(case)[0])
        for at in first:
            yield Try(case, at, errno.EIO)
            yield Try(case, at, errno.ENOSPC, lasting=True)
        for at in last - first:
            yield Try(case, at, errno.EIO)
        first, last = _occurrences(stage.reference(case, reads=True)[0])
        for at in first | last:
            yield Try(case, at, errno.EIO, reads=True)


def _occurrences(operations: list[str]) -> tuple[set[int], set[int]]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for at, operation in enumerate(operations, 1):
        kind, _, path = operation.partition(" ")
        name = f"{kind} {re.sub(r'[0-9a-f]{6,}|[0-9]+', '', Path(path).name)}"
        first.setdefault(name, at)
        last[name] = at
    return set(first.values()), set(last.values())


def check(stage: Stage, one: Try) -> tuple[int, str]:
    """Returns: how many operations failed; what is wrong, "" if nothing is."""
    case, expected = one.case, stage.reference(one.case, one.reads)[1]
    base = stage.set(case)
    before, whole = cases.contents(base), cases.completed(base)
    already = cases.half_made(base)
    ended = tracetorch(*case.words, where=base, fault=Fault(one.at, one.error, one.lasting, one.reads))
    if one.at > len(ended.operations):
        return 0, ""  # it came to fewer operations than the undisturbed one
    failed = ended.operations[one.at - 1]
    wrong = cases.spoken(ended)
    said = re.sub(r"[│\s]+", " ", ended.out + ended.err)  # a table breaks long reasons
    if not wrong and ended.code and os.strerror(one.error) not in said:
        wrong = f"exit code {ended.code} without the reason: {said[-300:]}"
    told = bool(ended.code or ended.err or (one.reads and _folder_of(failed) in ended.out))
    if not wrong and not told:
        wrong = cases.difference(expected, base) and f"exit code 0, but {cases.difference(expected, base)}"
    wrong = wrong or cases.lost(before, base, case)
    after = cases.contents(base)
    gone = [name for name, digest in whole.items() if after.get(name) != digest]
    wrong = wrong or (f"{gone[0]} of a completed run is lost" if gone else "")
    left = [name for name in cases.half_made(base) if name not in already]
    if not wrong and set(left) - {"it/.workers"} and not failed.startswith(("remove", "rmdir")):
        wrong = f"left over: {left}"
    if not wrong and (told or left):
        for next_ended in cases.done(case, base):
            if next_ended.code:
                wrong = f"then {next_ended}"
                break
        else:
            left = cases.half_made(base)
            wrong = cases.difference(expected, base) or (f"left over: {left}" if left else "")
            wrong = wrong and f"after it has gone on, {wrong}"
    return 1, wrong and f"{failed}: {wrong}"


def _folder_of(operation: str) -> str:
    """The run that a failed operation belongs to, which `compare` and `clean` name and leave out."""
    return operation.partition(" ")[2].partition("/")[0]
