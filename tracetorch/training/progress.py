"""State of the loop in a checkpoint: the base class, the best evaluation so far, and means for the log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor


def check_alike(own: Any, found: Any, name: str = "state") -> None:
    """Raises: ValueError if a value of `found`, from a checkpoint, has another type or shape than in `own`."""
    if isinstance(own, Mapping) and isinstance(found, Mapping):
        for key in own.keys() & found.keys():
            check_alike(own[key], found[key], str(key))
        return
    shapes = [value.shape if isinstance(value, Tensor) else None for value in (own, found)]
    kinds = [
        next((kind for kind in ((int, float), Tensor, Mapping, list) if isinstance(value, kind)), type(value))
        for value in (own, found)
    ]
    if kinds[0] != kinds[1] or shapes[0] != shapes[1]:
        raise ValueError(f"{name!r} is {type(found).__name__}, not {type(own).__name__}")


class Stateful:
    """An object whose state goes into checkpoints."""

    kept: tuple[str, ...]  # names of numbers, tensors and dicts; the attributes may begin with an underscore

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the kept values, for a checkpoint."""
        return {name: _copy(getattr(self, self._attribute(name))) for name in self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`. Raises: KeyError, ValueError for the state of another class."""
        check_alike(self.state_dict(), state)
        for name in self.kept:
            setattr(self, self._attribute(name), _copy(state[name]))

    def _attribute(self, name: str) -> str:
        return name if hasattr(self, name) else f"_{name}"


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else dict(value) if isinstance(value, dict) else value


class Best(Stateful):
    """The best evaluation so far, and the number of evaluations since its score was first reached.

    Of equal scores the one with less loss is best; patience does not begin again with it.

    Args:
        patience: evaluations without a better score until training ends; None: no limit.
        minimize: whether lower scores are better.
    """

    kept = ("score", "loss", "waited")

    def __init__(self, patience: int | None, *, minimize: bool = False):
        self.score, self.loss, self.waited, self._patience = -math.inf, math.inf, 0, patience
        self._minimize = minimize

    def update(self, score: float, loss: float | None = None) -> bool:
        """Count an evaluation. Returns: whether it is the best so far; NaN is best only before any number."""
        score = -score if self._minimize else score
        known = math.inf if loss is None or math.isnan(loss) else loss
        is_better = score > self.score or (math.isnan(score) and self.score == -math.inf) or math.isnan(self.score)
        is_best = is_better or (score == self.score and known < self.loss)
        if is_best:
            self.score, self.loss = score, known
        self.waited = 0 if is_better else self.waited + 1
        return is_best

    def load_state_dict(self, state: dict[str, Any]) -> None:
        earlier = {"loss": -math.inf}  # checkpoints of earlier versions hold none: the first of equal ones stays
        super().load_state_dict(earlier | state)

    @property
    def exists(self) -> bool:
        """Whether there was an evaluation."""
        return self.score != -math.inf

    @property
    def is_final(self) -> bool:
        """Whether patience is exhausted."""
        return self._patience is not None and self.waited >= self._patience


class Log(Stateful):
    """Means since the last record, and the time steps of the whole run.

    Args: names: of the averaged values, for example ["loss", "accuracy"].
    """

    kept = ("steps", "steps_before", "seconds_before", "sums", "counts")

    def __init__(self, names: Iterable[str]):
        self.steps = 0
        self._steps_before, self._seconds_before = 0, 0.0
        self._sums = dict.fromkeys(names, 0.0)
        self._counts = dict.fromkeys(self._sums, 0)

    def add(self, values: Mapping[str, float | None], steps: int) -> None:
        """Count one update and its time steps; a value of None is left out."""
        for name in self._sums:
            value = values[name]
            if value is not None:
                self._sums[name], self._counts[name] = self._sums[name] + value, self._counts[name] + 1
        self.steps += steps

    def averages(self) -> dict[str, float]:
        """Return means since the last record; NaN for a name without values."""
        counts = self._counts
        return {name: total / counts[name] if counts[name] else math.nan for name, total in self._sums.items()}

    def take(self, seconds: float) -> dict[str, float]:
        """Return the means and the speed for a record, and restart both. Args: seconds: of training so far."""
        speed = (self.steps - self._steps_before) / max(seconds - self._seconds_before, 1e-9)
        values = {**self.averages(), "steps_per_second": speed, "train_seconds": seconds}
        self._steps_before, self._seconds_before = self.steps, seconds
        self._sums, self._counts = dict.fromkeys(self._sums, 0.0), dict.fromkeys(self._sums, 0)
        return values
