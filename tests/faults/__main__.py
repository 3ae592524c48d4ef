"""Disturb every verb, and say what it led to.

    python -m tests.faults kills|errors|room|mutations… [--count N] [--seed N] [--case NAME] [--only N]

Each fault that was found is a line on stderr, with what plays it again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONHASHSEED": "0"}  # before torch is loaded

from tests.faults import cases, child, errors, kills, mutations, room

Try = tuple[str, Callable[[cases.Stage], tuple[int, str]]]
"""What is tried; and what does it: how often something was disturbed, and what is wrong, "" if nothing is."""


def main() -> int:
    """Returns: how many faults were found, at most 100."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("drivers", nargs="+", choices=DRIVERS, metavar="driver", help=", ".join(DRIVERS))
    parser.add_argument("--count", type=int, default=20, help="how many tries; 0: all that there are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--only", type=int, help="only the try with this number")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="tries at the same time")
    given = parser.parse_args()
    began = time.perf_counter()
    child.prepare()
    all_found = 0
    for driver in given.drivers:
        with tempfile.TemporaryDirectory(prefix="tracetorch-faults-") as base:
            stage = cases.Stage(Path(base))
            tries = DRIVERS[driver](stage, given)
            numbers = range(len(tries)) if given.only is None else [given.only]
            done, found = _share(stage, [(number, *tries[number]) for number in numbers], given.jobs)
        row = {"driver": driver, "tries": len(numbers), "disturbances": done, "faults": found, "seed": given.seed}
        print(json.dumps(row), flush=True)
        all_found += found
    print(f"{time.perf_counter() - began:.0f} seconds", file=sys.stderr)
    return min(all_found, 100)


def _share(stage: cases.Stage, tries: list[tuple[int, str, Any]], jobs: int) -> tuple[int, int]:
    """Try all, in as many processes. Returns: how often something was disturbed; how many faults were found."""
    readers = []
    for job in range(max(1, min(jobs, len(tries)))):
        reader, writer = os.pipe()
        if not os.fork():
            os.close(reader)
            code = 1
            try:
                mine = stage.of_job(job)
                for number, name, play in tries[job::jobs]:
                    done, wrong = play(mine)
                    if wrong:
                        print(f"FAULT --only {number} {name}: {wrong}", file=sys.stderr, flush=True)
                    os.write(writer, bytes([done, bool(wrong)]))
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)
        readers.append(reader)
    said = b"".join(Path(f"/proc/self/fd/{reader}").read_bytes() for reader in readers)
    failed = [os.wait()[1] for _ in readers]
    assert not any(failed), "a driver stopped: see above"
    return sum(said[::2]), sum(said[1::2])


def _kills(stage: cases.Stage, given: argparse.Namespace) -> list[Try]:
    chosen, tries = _cases(given), list[Try]()
    for number in range(given.count):
        case = chosen[number % len(chosen)]
        if given.only in (None, number):
            stage.reference(case)
        tries.append((case.name, partial(kills.check, case=case, seed=(given.seed, number))))
    return tries


def _errors(stage: cases.Stage, given: argparse.Namespace) -> list[Try]:
    chosen = _some(_cases(given), given)  # before each is played to find its operations
    every = _some(list(errors.every(stage, chosen)), given)
    return [(f"{one}", partial(errors.check, one=one)) for one in every]


def _room(stage: cases.Stage, given: argparse.Namespace) -> list[Try]:
    every = _some(list(room.every(stage, _cases(given))), given)
    return [(f"{case}, {pages} pages", partial(room.check, case=case, pages=pages)) for case, pages in every]


def _mutations(stage: cases.Stage, given: argparse.Namespace) -> list[Try]:
    stage.set(mutations.ALL)
    return [("", partial(mutations.check, number=(given.seed, number))) for number in range(given.count)]


def _cases(given: argparse.Namespace) -> list[cases.Case]:
    return [case for case in cases.CASES if given.case in case.name]


def _some(tries: list[Any], given: argparse.Namespace) -> list[Any]:
    if not 0 < given.count < len(tries):
        return tries
    return cases.chance("tries", given.seed).sample(tries, given.count)


DRIVERS: dict[str, Callable[[cases.Stage, argparse.Namespace], list[Try]]] = {
    "kills": _kills,
    "errors": _errors,
    "room": _room,
    "mutations": _mutations,
}

if __name__ == "__main__":
    sys.exit(main())
