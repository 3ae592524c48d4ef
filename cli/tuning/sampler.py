"""Which values a trial gets: by optuna's TPE, from a seed of its own."""

from __future__ import annotations

import hashlib
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial


class SeededSampler(BaseSampler):
    """A TPE sampler whose draws follow from the study's seed, the trial's number and the results so far.

    So an interrupted study continues as it would have, also where a process was killed between two values of one
    trial, and several processes never draw alike. (TPE itself remembers nothing: it looks at the trials that exist.
    Those at work count as bad ones, so that no other process tries what is close to them.)
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._tpe = self._seeded()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._tpe = self._seeded(trial.number)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        tpe = self._seeded(trial.number, param_name)
        return tpe.sample_independent(study, trial, param_name, param_distribution)

    def _seeded(self, *of: object) -> TPESampler:
        digest = hashlib.sha256(" ".join(map(str, (self._seed, *of))).encode()).digest()
        return TPESampler(seed=int.from_bytes(digest[:4], "big"), constant_liar=True)
