"""`python -m tests.faults kills|errors|room|mutations`: one driver, and what it found, a line each."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONHASHSEED": "0"}

from tests.faults import cases, child, errors, kills, mutations, room


def main() -> int:
    """Returns: how many faults were found, at most 100."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("driver", choices=DRIVERS)
    parser.add_argument("--count", type=int, default=20, help="how many tries; 0: all that there are")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument("--only", type=int, help="only the try with this number")
    parser.add_argument("--verbose", action="store_true", help="say what is tried")
    given = parser.parse_args()
    began = time.perf_counter()
    child.prepare()
    tries, found = 0, 0
    with tempfile.TemporaryDirectory(prefix="tracetorch-faults-") as place:
        for tries_here, name, wrong in DRIVERS[given.driver](cases.Stage(Path(place)), given):
            tries += tries_here
            if given.verbose:
                print(f"{time.perf_counter() - began:6.1f} s  {name}", flush=True)
            if wrong:
                found += 1
                print(f"FAULT {name}: {wrong}", flush=True)
    print(json.dumps({"driver": given.driver, "tries": tries, "faults": found, "seed": given.seed}))
    print(f"{time.perf_counter() - began:.0f} seconds", file=sys.stderr)
    return min(found, 100)


Found = Iterator[tuple[int, str, str]]


def _kills(stage: cases.Stage, given: argparse.Namespace) -> Found:
    chosen = [case for case in cases.CASES if given.case in case.name]
    done, number = 0, -1
    while done < given.count:
        number += 1
        if given.only not in (None, number):
            continue
        case = chosen[number % len(chosen)]
        tries, wrong = kills.check(stage, case, (given.seed, number))
        done += max(tries, given.only is not None and given.count)
        yield tries, f"{case} (--only {number})", wrong


def _errors(stage: cases.Stage, given: argparse.Namespace) -> Found:
    chosen = [case for case in cases.CASES if given.case in case.name]
    for one in _chosen(list(errors.every(stage, chosen)), given):
        yield 1, f"{one}", errors.check(stage, one)


def _room(stage: cases.Stage, given: argparse.Namespace) -> Found:
    chosen = [case for case in cases.CASES if given.case in case.name]
    for case, pages in _chosen(list(room.every(stage, chosen)), given):
        yield 1, f"{case} with room for {pages} pages", room.check(stage, case, pages)


def _mutations(stage: cases.Stage, given: argparse.Namespace) -> Found:
    for number in [given.only] if given.only is not None else range(given.count):
        name, wrong = mutations.check(stage, (given.seed, number))
        yield 1, f"{name} (--only {number})", wrong


def _chosen(tries: list[Any], given: argparse.Namespace) -> list[Any]:
    if given.only is not None:
        return [tries[given.only]]
    if not 0 < given.count < len(tries):
        return tries
    return cases.chance(given.driver, given.seed).sample(tries, given.count)


DRIVERS: dict[str, Callable[[cases.Stage, argparse.Namespace], Found]] = {
    "kills": _kills,
    "errors": _errors,
    "room": _room,
    "mutations": _mutations,
}

if __name__ == "__main__":
    sys.exit(main())
