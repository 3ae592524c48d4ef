"""Disturb each verb, and report the faults that this reveals.

    python -m tests.faults kills|errors|room|mutations… [--count N] [--seed N] [--case NAME] [--only N]

Each fault is one line on stderr, with the options that repeat its try.
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
"""A description; and a function that returns the number of disturbances and the fault that was found, "" if none."""


def main() -> int:
    """Run the chosen drivers. Returns: the number of faults, at most 100."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("drivers", nargs="+", choices=DRIVERS, metavar="driver", help=", ".join(DRIVERS))
    parser.add_argument("--count", type=int, default=20, help="number of tries; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--only", type=int, help="only the try with this number")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="tries at the same time")
    options = parser.parse_args()
    start = time.perf_counter()
    child.prepare()
    fault_count = 0
    for driver in options.drivers:
        with tempfile.TemporaryDirectory(prefix="tracetorch-faults-") as base:
            stage = cases.Stage(Path(base))
            tries = DRIVERS[driver](stage, options)
            numbers = range(len(tries)) if options.only is None else [options.only]
            disturbances, faults = _share(stage, [(number, *tries[number]) for number in numbers], options.jobs)
        row = {
            "driver": driver,
            "tries": len(numbers),
            "disturbances": disturbances,
            "faults": faults,
            "seed": options.seed,
        }
        print(json.dumps(row), flush=True)
        fault_count += faults
    print(f"{time.perf_counter() - start:.0f} seconds", file=sys.stderr)
    return min(fault_count, 100)


def _share(stage: cases.Stage, tries: list[tuple[int, str, Any]], jobs: int) -> tuple[int, int]:
    """Divide tries among processes, `jobs` at most. Returns: the numbers of disturbances and of faults."""
    readers = []
    for job in range(max(1, min(jobs, len(tries)))):
        reader, writer = os.pipe()
        if not os.fork():
            os.close(reader)
            code = 1
            try:
                own_stage = stage.of_job(job)
                for number, name, check in tries[job::jobs]:
                    disturbances, fault = check(own_stage)
                    if fault:
                        print(f"FAULT --only {number} {name}: {fault}", file=sys.stderr, flush=True)
                    os.write(writer, bytes([disturbances, bool(fault)]))
                code = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)
        readers.append(reader)
    counts = b"".join(Path(f"/proc/self/fd/{reader}").read_bytes() for reader in readers)
    statuses = [os.wait()[1] for _ in readers]
    assert not any(statuses), "a driver stopped: see above"
    return sum(counts[::2]), sum(counts[1::2])


def _kills(stage: cases.Stage, options: argparse.Namespace) -> list[Try]:
    chosen, tries = _cases(options), list[Try]()
    for number in range(options.count):
        case = chosen[number % len(chosen)]
        if options.only in (None, number):
            stage.reference(case)
        tries.append((case.name, partial(kills.check, case=case, seed=(options.seed, number))))
    return tries


def _errors(stage: cases.Stage, options: argparse.Namespace) -> list[Try]:
    chosen = _some(_cases(options), options)  # before each one runs once to list its operations
    failures = _some(list(errors.all_failures(stage, chosen)), options)
    return [(f"{failure}", partial(errors.check, failure=failure)) for failure in failures]


def _room(stage: cases.Stage, options: argparse.Namespace) -> list[Try]:
    sizes = _some(list(room.all_sizes(stage, _cases(options))), options)
    return [(f"{case}, {pages} pages", partial(room.check, case=case, pages=pages)) for case, pages in sizes]


def _mutations(stage: cases.Stage, options: argparse.Namespace) -> list[Try]:
    stage.new_folder(mutations.ALL)
    return [("", partial(mutations.check, number=(options.seed, number))) for number in range(options.count)]


def _cases(options: argparse.Namespace) -> list[cases.Case]:
    return [case for case in cases.CASES if options.case in case.name]


def _some(tries: list[Any], options: argparse.Namespace) -> list[Any]:
    if not 0 < options.count < len(tries):
        return tries
    return cases.generator("tries", options.seed).sample(tries, options.count)


DRIVERS: dict[str, Callable[[cases.Stage, argparse.Namespace], list[Try]]] = {
    "kills": _kills,
    "errors": _errors,
    "room": _room,
    "mutations": _mutations,
}

if __name__ == "__main__":
    sys.exit(main())
