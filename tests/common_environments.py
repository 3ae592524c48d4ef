"""THE TABLE, continued: tasks with rewards, for test_environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tracetorch as tt
from tests.common import TASKS, Row

# ── `make(seed=…)` → a small environment; `says`: "apart" if its environments share nothing at all ────────────────

_TASKS = {row.name: row.make for row in TASKS}


def _gym(**changes: Any) -> Callable[..., Any]:
    def make(seed: int = 0) -> Any:
        pytest.importorskip("gymnasium", reason="the extra rl is not installed")
        small = {"num_envs": 3, "steps": 5, "validation_episodes": 2, "test_episodes": 7}
        return tt.tasks.Gym(**small | changes, seed=seed)

    return make


def _rewarded(name: str) -> Callable[..., Any]:
    return lambda seed=0: tt.tasks.RewardedTask(_TASKS[name](seed=seed))


def _switching(make: Callable[..., Any]) -> Callable[..., Any]:
    return lambda seed=0: tt.tasks.Reversal(make(seed=seed), every=5, seed=seed)


ENVIRONMENTS = [
    Row("bandit", "RewardedTask", _rewarded("mnist"), says="apart"),
    Row("clicks-reward", "RewardedTask", _rewarded("clicks"), says="apart"),
    Row("blocks-reward", "RewardedTask", _rewarded("blocks"), says="apart"),
    Row("store-reward", "RewardedTask", _rewarded("store-recall"), says="apart"),
    Row("cartpole", "Gym", _gym()),
    Row("cartpole-spikes", "Gym", _gym(code="population", encoding="poisson", observed=[0, 2])),
    Row("cartpole-raw", "Gym", _gym(normalize=False), says="apart"),
    Row("frozen-lake", "Gym", _gym(id="FrozenLake-v1", encoding="poisson"), says="apart"),
    Row("switching-bandit", "Reversal", _switching(_rewarded("mnist")), says="apart"),
    Row("switching-cartpole", "Reversal", _switching(_gym())),
]
