"""A search: the metric to optimize, and the keys that may change, each within a range or among choices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracetorch.cli.adapter import options, parse, quote_value, read_yaml
from tracetorch.cli.adapter.presets import find_preset
from tracetorch.cli.errors import UsageError, did_you_mean, shorten

_DEFAULTS = {"metric": "accuracy", "direction": "maximize", "trials": 20, "pruner": "median", "space": {}}
_FIELDS = ("low", "high", "log", "step", "choices")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    log: bool = False  # sampled uniformly on a logarithmic scale
    step: float | None = None
    whole: bool = False  # the key accepts whole numbers only

    def ends(self) -> dict[str, str]:
        """The values to check before a search starts: for each end, its name in messages, and its typed form."""
        return {f"low={self.low!r}": quote_value(self.low), f"high={self.high!r}": quote_value(self.high)}

    def typed(self, value: Any) -> str:
        """The typed form of a value."""
        return quote_value(int(value) if self.whole else float(value))

    def shown(self, value: Any) -> str:
        return f"{float(value):.4g}"

    def content(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, "log": self.log, "step": self.step}


@dataclass(frozen=True)
class Choices:
    """A list of values of any kind; optuna gets the typed form of each."""

    values: tuple[Any, ...]

    @property
    def labels(self) -> list[str]:
        return [quote_value(value) for value in self.values]

    def ends(self) -> dict[str, str]:
        """All choices, which are checked like the ends of a range."""
        return {f"choices[{at}]={label}": label for at, label in enumerate(self.labels)}

    def typed(self, value: Any) -> str:
        """The typed form of a label. Raises: UsageError if it is not a label of these choices."""
        if value not in self.labels:
            raise UsageError(f"the study has tried {shorten(value)!r}, which is not one of its choices")
        return str(value)

    def shown(self, value: Any) -> str:
        return shorten(value, 40).strip("'") if value in self.labels else "?"

    def content(self) -> dict[str, Any]:
        return {"choices": list(self.values)}


Parameter = Range | Choices
Space = Mapping[str, Parameter]  # by key


@dataclass(frozen=True)
class Search:
    """The metric to optimize, and the space to search."""

    metric: str  # of the validation records
    direction: str  # "maximize" or "minimize"
    trials: int  # of the whole study
    pruner: str  # "median" or "none"
    space: Space

    def content(self) -> dict[str, Any]:
        return {**vars(self), "space": {key: parameter.content() for key, parameter in self.space.items()}}


def split_search(typed: list[str]) -> tuple[list[str], list[str]]:
    """Split typed lines into those of the search and those of the runs."""
    search_lines = [line for line in typed if line.lstrip("+~").partition("=")[0].partition(".")[0] == "search"]
    return search_lines, [line for line in typed if line not in search_lines]


def read_search(search_lines: list[str]) -> Search:
    """Read a search from lines such as search=NAME and search.trials=50. Raises: UsageError, one sentence."""
    names = [line.partition("=")[2] for line in search_lines if line.startswith("search=")]
    if not names:
        known = options("search")
        raise UsageError(f"choose a search: tracetorch tune search={known[0]}. There are: {', '.join(known)}.")
    if len(names) > 1:
        raise UsageError(f"search is given {len(names)} times ({', '.join(map(shorten, names))}): a study has one")
    content = read_yaml(find_preset("search", names[0]))
    if not isinstance(content.get("space", {}), dict):
        raise UsageError(f"search={shorten(names[0])}: space must name keys, got {shorten(content['space'])}")
    for line in search_lines:
        if not line.startswith("search="):
            _change(content, line)
    return search_from(content)


def search_from(content: Any) -> Search:
    """A search from plain values. Raises: UsageError, one sentence, for the first invalid one."""
    if not isinstance(content, dict):
        raise UsageError(f"a search has {', '.join(_DEFAULTS)}; got {shorten(content)}")
    for name in content:
        if name not in _DEFAULTS:
            raise UsageError(_no_such(name))
    metric, direction, trials, pruner, space = ({**_DEFAULTS, **content}[name] for name in _DEFAULTS)
    if not isinstance(metric, str) or not metric:
        raise UsageError(f"search.metric must be a string, got {shorten(repr(metric))}")
    if direction not in ("maximize", "minimize"):
        raise UsageError(f"search.direction must be maximize or minimize, got {shorten(repr(direction))}")
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise UsageError(f"search.trials must be a whole number above 0, got {shorten(repr(trials))}")
    pruner = "none" if pruner is None else pruner
    if pruner not in ("median", "none"):
        raise UsageError(f"search.pruner must be median or none, got {shorten(repr(pruner))}")
    if not isinstance(space, dict) or not space:
        raise UsageError("search.space is empty: name a key and its range, such as optimizer.lr: {low: 1e-4, high: 1}")
    parameters: dict[str, Parameter] = {str(key): parameter(f"search.space.{key}", node) for key, node in space.items()}
    return Search(metric, direction, trials, pruner, parameters)


def _change(content: dict[str, Any], line: str) -> None:
    """Change the content of a search by a line such as search.trials=50, in place. Raises: UsageError."""
    override = parse(line, search=True)
    _, _, name = override.key_or_group.partition(".")
    if not name.startswith("space."):
        if name not in _DEFAULTS or override.is_delete():
            raise UsageError(f"'{shorten(line)}': {_no_such(name)}")
        content[name] = override.value()
        return
    space, key = content.setdefault("space", {}), name.removeprefix("space.")
    stem, _, field = key.rpartition(".")
    if override.is_delete():
        _entry(space, key, line)
        del space[key]
    elif field in _FIELDS and stem and key not in space:
        entry = _entry(space, stem, line)
        space[stem] = {**(entry if isinstance(entry, dict) else {}), field: override.value()}
    elif isinstance(override.value(), dict):
        space[key] = override.value()
    else:
        advice = f"write {key}.low=…, .high, .log, .step or .choices, or the whole entry as {{low: …, high: …}}"
        raise UsageError(f"'{shorten(line)}': {advice}")


def _entry(space: Mapping[str, Any], key: str, line: str) -> Any:
    """The entry of a key. Raises: UsageError if the space lacks it."""
    if key not in space:
        listing = f"The search has {', '.join(space) or 'none'}; {key}={{low: …, high: …}} adds one."
        raise UsageError(f"'{shorten(line)}': it has no {shorten(key)}.{did_you_mean(key, space)} {listing}")
    return space[key]


def _no_such(name: str) -> str:
    hint = did_you_mean(str(name), _DEFAULTS, "search.")
    return f"a search has no '{shorten(name)}'.{hint} There are: {', '.join(_DEFAULTS)}."


def parameter(where: str, node: Any) -> Parameter:
    """One entry of a space. Args: where: its name, for messages. Raises: UsageError, one sentence."""
    if not isinstance(node, dict) or not node:
        raise UsageError(f"{where} must be {{low: …, high: …}} or {{choices: […]}}, got {shorten(node)}")
    for name in node:
        if name not in _FIELDS:
            hint = did_you_mean(str(name), _FIELDS)
            raise UsageError(f"{where}: there is no '{shorten(name)}'.{hint} There are: {', '.join(_FIELDS)}.")
    if "choices" not in node:
        return _range(where, node)
    if len(node) > 1:
        raise UsageError(f"{where}: either choices, or low and high; not both")
    choices = node["choices"]
    if not isinstance(choices, list) or not choices:
        raise UsageError(f"{where}.choices must be a list of at least one value, got {shorten(choices)}")
    parsed = Choices(tuple(choices))
    if len(set(parsed.labels)) < len(choices):
        raise UsageError(f"{where}.choices names a value twice: {shorten(', '.join(parsed.labels))}")
    return parsed


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
