"""SIGKILL at random moments of every verb and every training loop.

    python -m tests.faults kills --count 200

Between two operations on the disk a process leaves the same there, whenever it is killed; so the moment is drawn among
these operations, and a write may be cut in the middle. What goes on after it may be killed as well, and again.
"""

from __future__ import annotations

from tests.faults import cases
from tests.faults.cases import Case, Stage
from tests.faults.child import tracetorch
from tests.faults.disk import KILL, Fault

READERS = (
    ("info", "it"),
    ("info", "done"),
    ("compare", ".", "--out", "../compared-by-a-reader"),
    ("clean", "--failed", "--root", "."),
    ("clean", "--unfinished", "--older-than", "0m", "--root", "."),
)


def check(stage: Stage, case: Case, seed: object) -> tuple[int, str]:
    """Returns: how often it was killed; what is wrong, "" if nothing is."""
    chance = cases.chance("kill", seed)
    operations, expected = stage.reference(case)
    place = stage.set(case)
    words, kills, moments = case.words, 0, list[str]()
    before = cases.contents(place)
    while True:
        at = chance.randint(1, len(operations) + 1)
        whole = cases.completed(place)
        ended = tracetorch(*words, where=place, fault=Fault(at, KILL))
        if not ended.is_killed:
            if ended.code:
                return kills, f"{'; '.join(moments)}: {ended}"
            break
        kills += 1
        moments.append(f"{words[0]} killed at operation {at}, {ended.operations[-1]}")
        if case.name != "clean" and (gone := cases.lost(before, place, case)):
            return kills, f"{'; '.join(moments)}: {gone}"
        kept = cases.contents(place)
        if gone := [name for name, digest in whole.items() if kept.get(name) != digest]:
            return kills, f"{'; '.join(moments)}: {gone[0]} of a completed run is lost"
        reader = chance.choice(READERS)
        if wrong := cases.spoken(tracetorch(*reader, where=place)):
            return kills, f"{'; '.join(moments)}: then {' '.join(reader)}: {wrong}"
        if kills == 3 or chance.random() < 0.5:
            break
        words = case.goes_on(place)[-1]
    for ended in cases.done(case, place) if kills else ():
        if ended.code:
            return kills, f"{'; '.join(moments)}: {ended}"
    if wrong := cases.difference(expected, place):
        return kills, f"{'; '.join(moments)}: {wrong}"
    return kills, ""
