"""A disk that fails at one operation: each operation of each verb.

    python -m tests.faults errors --count 0

An operation fails once with EIO; or with ENOSPC, together with all later ones that take space, as on a full disk; or a
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
from tests.faults.disk import Injection


class Failure(NamedTuple):
    """One operation of one case, and how it fails."""

    case: Case
    at: int
    error: int
    lasting: bool = False
    reads: bool = False

    def __str__(self) -> str:
        kind = "reads" if self.reads else "lasting" if self.lasting else "once"
        return f"{self.case} at {self.at} {errno.errorcode[self.error]} {kind}"


def all_failures(stage: Stage, chosen: list[Case]) -> Iterator[Failure]:
    """For each kind of operation and file name, failures of the first and the last such operation."""
    for case in chosen:
        if case == cases.JOBLIB:
            continue
        first, last = _occurrences(stage.reference(case)[0])
        for at in first:
            yield Failure(case, at, errno.EIO)
            yield Failure(case, at, errno.ENOSPC, lasting=True)
        for at in last - first:
            yield Failure(case, at, errno.EIO)
        first, last = _occurrences(stage.reference(case, reads=True)[0])
        for at in first | last:
            yield Failure(case, at, errno.EIO, reads=True)


def _occurrences(operations: list[str]) -> tuple[set[int], set[int]]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for at, operation in enumerate(operations, 1):
        kind, _, path = operation.partition(" ")
        name = f"{kind} {re.sub(r'[0-9a-f]{6,}|[0-9]+', '', Path(path).name)}"
        first.setdefault(name, at)
        last[name] = at
    return set(first.values()), set(last.values())


def check(stage: Stage, failure: Failure) -> tuple[int, str]:
    """Let the operation fail, then complete the command. Returns: the number of failures; the fault, "" if nfailure."""
    case, expected = failure.case, stage.reference(failure.case, failure.reads)[1]
    workdir = stage.new_folder(case)
    before, completed = cases.contents(workdir), cases.completed_files(workdir)
    unfinished_before = cases.unfinished(workdir)
    ended = tracetorch(
        *case.words, cwd=workdir, injection=Injection(failure.at, failure.error, failure.lasting, failure.reads)
    )
    if failure.at > len(ended.operations):
        return 0, ""  # it had fewer operations than the undisturbed command
    operation = ended.operations[failure.at - 1]
    fault = cases.wrong_output(ended)
    output = re.sub(r"[│\s]+", " ", ended.out + ended.err)  # a table breaks long reasons
    if not fault and ended.code and os.strerror(failure.error) not in output:
        fault = f"exit code {ended.code} without the reason: {output[-300:]}"
    is_reported = bool(ended.code or ended.err or (failure.reads and _folder_of(operation) in ended.out))
    if not fault and not is_reported:
        fault = cases.difference(expected, workdir) and f"exit code 0, but {cases.difference(expected, workdir)}"
    fault = fault or cases.first_lost(before, workdir, case)
    after = cases.contents(workdir)
    lost = [name for name, digest in completed.items() if after.get(name) != digest]
    fault = fault or (f"{lost[0]} of a completed run is lost" if lost else "")
    left = [name for name in cases.unfinished(workdir) if name not in unfinished_before]
    if not fault and set(left) - {"it/.workers"} and not operation.startswith(("remove", "rmdir")):
        fault = f"left over: {left}"
    if not fault and (is_reported or left):
        for next_ended in cases.complete(case, workdir):
            if next_ended.code:
                fault = f"then {next_ended}"
                break
        else:
            left = cases.unfinished(workdir)
            fault = cases.difference(expected, workdir) or (f"left over: {left}" if left else "")
            fault = fault and f"after it was completed, {fault}"
    return 1, fault and f"{operation}: {fault}"


def _folder_of(operation: str) -> str:
    """The folder of the run of a failed operation, which `compare` and `clean` report and leave out."""
    return operation.partition(" ")[2].partition("/")[0]
