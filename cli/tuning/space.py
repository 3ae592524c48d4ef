"""What a search may change: for each key a range of numbers, or choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracetorch.cli.adapter import quote_value
from tracetorch.cli.errors import UsageError, did_you_mean, shorten

FIELDS = ("low", "high", "log", "step", "choices")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False  # drawn evenly on a logarithmic scale
    step: float | None = None
    whole: bool = False  # whole numbers only, because the key takes no others

    def ends(self) -> dict[str, str]:
        """What to try before a search begins: how each is named in the search, and what to type for it."""
        return {f"low={self.low!r}": quote_value(self.low), f"high={self.high!r}": quote_value(self.high)}

    def typed(self, value: Any) -> str:
        """What to type for a value."""
        return quote_value(int(value) if self.whole else float(value))

    def shown(self, value: Any) -> str:
        """A value, in a table or a name."""
        return f"{float(value):.4g}"

    def content(self) -> dict[str, Any]:
        """As it is written in YAML."""
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}


@dataclass(frozen=True)
class Choices:
    """A list of values of any kind; a search knows each by what is typed for it."""

    values: tuple[Any, ...]

    @property
    def labels(self) -> list[str]:
        """What is typed for each."""
        return [quote_value(value) for value in self.values]

    def ends(self) -> dict[str, str]:
        """As of a range: here, all of them."""
        return {f"choices[{at}]={label}": label for at, label in enumerate(self.labels)}

    def typed(self, value: Any) -> str:
        """What to type for a label. Raises: UsageError for one of another search."""
        if value not in self.labels:
            raise UsageError(f"the study has tried {shorten(value)!r}, which is not one of its choices")
        return str(value)

    def shown(self, value: Any) -> str:
        """A label, in a table or a name."""
        return shorten(value, 40).strip("'") if value in self.labels else "?"

    def content(self) -> dict[str, Any]:
        """As it is written in YAML."""
        return {"choices": list(self.values)}


Parameter = Range | Choices
Space = Mapping[str, Parameter]


def parameter(where: str, node: Any) -> Parameter:
    """One entry of a space.

    Args: where: its name, for messages.
    Raises: UsageError, one sentence.
    """
    if not isinstance(node, dict) or not node:
        raise UsageError(f"{where} must be {{low: …, high: …}} or {{choices: […]}}, got {shorten(node)}")
    for name in node:
        if name not in FIELDS:
            hint = did_you_mean(str(name), FIELDS)
            raise UsageError(f"{where}: there is no '{shorten(name)}'.{hint} There are: {', '.join(FIELDS)}.")
    if "choices" not in node:
        return _range(where, node)
    if len(node) > 1:
        raise UsageError(f"{where}: either choices, or low and high; not both")
    choices = node["choices"]
    if not isinstance(choices, list) or not choices:
        raise UsageError(f"{where}.choices must be a list of at least one value, got {shorten(choices)}")
    found = Choices(tuple(choices))
    if len(set(found.labels)) < len(choices):
        raise UsageError(f"{where}.choices names a value twice: {shorten(', '.join(found.labels))}")
    return found


def _range(where: str, node: dict[str, Any]) -> Range:
    for name in ("low", "high"):
        if name not in node:
            raise UsageError(f"{where} has no {name}: give low and high, or choices")
    low, high, log, step = (node.get(name) for name in ("low", "high", "log", "step"))
    for name, value in {"low": low, "high": high, **({} if step is None else {"step": step})}.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"{where}.{name} must be a number, got {shorten(repr(value))}")
    if log not in (None, True, False):
        raise UsageError(f"{where}.log must be true or false, got {shorten(repr(log))}")
    assert low is not None and high is not None
    if low > high:
        raise UsageError(f"{where}: low={low!r} is above high={high!r}")
    if log and low <= 0:
        raise UsageError(f"{where}: a logarithmic scale begins above 0, and low={low!r}; raise it, or set log=false")
    if step is not None:
        _check_step(where, low, high, bool(log), step)
    return Range(low, high, bool(log), step)


def _check_step(where: str, low: float, high: float, log: bool, step: float) -> None:
    if log:
        raise UsageError(f"{where}: a logarithmic scale has no steps; leave out step, or set log=false")
    if step <= 0:
        raise UsageError(f"{where}.step must be above 0, got {step!r}")
    steps = round((high - low) / step)
    if not math.isclose(low + steps * step, high, rel_tol=1e-9, abs_tol=step * 1e-9):
        last = low + math.floor((high - low) / step) * step
        raise UsageError(f"{where}: steps of {step!r} from {low!r} do not reach high={high!r}; the last is at {last:g}")
