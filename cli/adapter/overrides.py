"""Overrides in Hydra's syntax, as they are typed: one value, a choice from a group, or the values of a sweep."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice, product
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, Quote, QuotedString, RangeSweep
from hydra.errors import HydraException

from tracetorch.cli.adapter.presets import config_folders, options
from tracetorch.cli.adapter.reading import check_plain
from tracetorch.cli.check import nodes
from tracetorch.cli.errors import UsageError, quote, shorten

GROUPS = ("experiment", "task", "network", "rule", "loss", "optimizer", "train", "diagnostics", "logger", "output")

_KEY = re.compile(r"[A-Za-z_][\w./@:-]*", re.ASCII)
_LONGEST_KEY = 200
_UNQUOTED = re.compile(r"[A-Za-z_]\w* ?(=|!=|<=|>=|<|>) ?[\w.,-]+|[\w./ -]*(\{[A-Za-z_]\w*\}[\w./ -]*)+", re.ASCII)
"""Texts that Hydra's grammar accepts only with quotes: index<5, speaker=ann, {label}_{index}.wav."""
_NOT_STRINGS = ("null", "true", "false", "nan", "inf")  # unless they are quoted
_MOST_JOBS = 10_000  # of a sweep, so that its plan can be read again; see `files.MOST_ELEMENTS`


@lru_cache(maxsize=1024)  # the jobs of a sweep have most of their overrides in common
def parse(line: str, *, sweep: bool = False, search: bool = False) -> Override:
    """Parse one override, and refuse one that no run accepts.

    Args:
        sweep: whether several values, and settings of launchers, are allowed.
        search: whether changes of a search are allowed.
    Raises: UsageError, one sentence.
    """
    key, equals, value = line.partition("=")
    shown = shorten(line)
    try:
        line.encode()
        override = _parsed(line, sweep)
    except UnicodeEncodeError as error:
        raise UsageError(f"{shorten(repr(line))} is not UTF-8") from error
    except (HydraException, ValueError) as error:  # ValueError for a number of more than 4,300 digits
        if not equals:
            raise UsageError(f"'{shown}' sets nothing: write key=value, such as seed=1") from error
        if sweep and any(not part.strip() for part in value.split(",")):
            raise UsageError(f"'{shown}': a value is missing before or after a comma") from error
        advice = f"quote it twice, such as '{shorten(key)}=\"…\"'" if value else "give it a value"
        raise UsageError(f"{shorten(key)}: the value {shorten(value)!r} cannot be read; {advice}") from error
    name = override.key_or_group
    if not name:
        raise UsageError(f"'{shown}' names no key: write key=value, such as seed=1")
    if len(name) > _LONGEST_KEY:
        raise UsageError(f"there is no key '{shorten(name)}'")
    if name.partition(".")[0] == "sweep" and not sweep:
        raise UsageError(f"'{shown}' makes many runs: tracetorch run -m {quote(shown)}")
    if name.partition(".")[0] == "search" and not search:
        raise UsageError(f"'{shown}' makes many runs: tracetorch tune {quote(shown)}")
    if override.is_sweep_override() and not sweep:
        raise UsageError(f"'{shown}' is a sweep over several values: tracetorch run -m {quote(shown)}")
    is_of_launcher = name == "hydra/launcher" or name.startswith("hydra.launcher.")
    if _is_hydra_override(override) and not (sweep and is_of_launcher):
        use = "only hydra/launcher and its settings hydra.launcher.…" if sweep else "Hydra's own settings"
        effect = "have an effect on a sweep" if sweep else "have no effect on a run"
        raise UsageError(f"'{shown}': {use} {effect}; leave it out")
    return override


def _parsed(line: str, sweep: bool) -> Override:
    """Parse by Hydra's grammar; conditions and patterns of file names need no quotes. Raises: HydraException."""
    try:
        return OverridesParser.create().parse_override(line)
    except HydraException:
        key, _, value = line.partition("=")
        texts = value.split(",") if sweep else [value]
        if not all(_UNQUOTED.fullmatch(text) for text in texts):
            raise
        return OverridesParser.create().parse_override(f"{key}={','.join(map(quote_value, texts))}")


def _is_hydra_override(override: Override) -> bool:
    """Whether an override changes settings of Hydra itself, such as the launcher."""
    return override.key_or_group.replace("/", ".").partition(".")[0] == "hydra"


def check_foreign(lines: Iterable[str], origin: object) -> None:
    r"""Check overrides from a file: they may hold plain values, refer to values of the config, and choose by name.

    The check follows the parsing, because `$\{oc.env:TOKEN\}` is a reference as well.
    Raises: UsageError that names the first other override.
    """
    for line in lines:
        override = parse(line)
        key, value = override.key_or_group, None if override.is_delete() else override.value()
        if not _KEY.fullmatch(f"{key}@{override.package}" if override.package else key):
            raise UsageError(f"{origin}: {shorten(repr(key))} is not a key of a config, such as seed or task.delay")
        check_plain(value, origin, key, references=True)
        if "." not in key and ".." in str(value).split("/"):
            raise UsageError(f"{origin}: {shorten(line)} would read a file of another folder; choose by name")


def typed_values(lines: Iterable[str]) -> set[tuple[str, str]]:
    """The keys and values, those inside typed mappings included, that are strings: ("task._target_", "mine.Task")."""
    found = set()
    for override in map(parse, lines):
        value = None if override.is_delete() else override.value()
        if isinstance(value, str):
            found.add((override.key_or_group, str(value)))
        for key, node in nodes(value, override.key_or_group):
            found |= {(f"{key}.{name}", inner) for name, inner in node.items() if isinstance(inner, str)}
    return found


def quote_value(value: Any) -> str:
    """Quote a plain value for use after `key=`, so that parsing returns the same value."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() if re.fullmatch(r"[A-Za-z]\w*", value) and value.lower() not in _NOT_STRINGS:
            return value
        case str():
            return QuotedString(value.replace("${", "\\${"), Quote.single).with_quotes()
        case dict():
            return "{" + ",".join(f"{name}:{quote_value(inner)}" for name, inner in value.items()) + "}"
        case list() | tuple():
            return f"[{','.join(map(quote_value, value))}]"
    return repr(value)


def check_group_choice(override: Override, config_dir: Path | None = None) -> None:
    """Check an override that chooses from a group; others pass.

    Raises: UsageError for a group with `+`, for another value than a name, a mapping with a `_target_` or (of logger) a
        list, and for a name that several folders have.
    """
    name, line = override.key_or_group, str(override.input_line)
    if name not in GROUPS or override.is_sweep_override():
        return
    if not override.is_delete() and isinstance(override.value(), dict) and name != "experiment":
        keys = cast(dict[str, Any], override.value())
        if isinstance(keys.get("_target_"), str):  # a part of the user's own
            return
        raise UsageError(
            f"{shorten(line)}: {name} is chosen by name, or by {name}={{_target_: …}}; "
            f"to change single values, type {name}.KEY=…"
        )
    if override.is_add():
        value = line.partition("=")[2]
        raise UsageError(f"'{shorten(line)}': there is a choice for {name} already; write {name}={shorten(value)}")
    several = name == "logger" and isinstance(override.value(), list)
    if not override.is_delete() and not several and not isinstance(override.value(), str):
        raise UsageError(f"{shorten(line)}: choose by name. There are: {', '.join(options(name, config_dir))}.")
    paths = [folder / name / f"{override.value()}.yaml" for folder in config_folders(config_dir)]
    first, *others = [path for path in paths if path.exists()] or paths[:1]
    if others:
        fault = "comes with tracetorch" if first == paths[0] else f"is in {shorten(first.parent)} too"
        raise UsageError(f"{shorten(line)}: a preset of this name {fault}; rename {shorten(others[0])}")


def split_settings(overrides: list[str]) -> tuple[list[str], list[str]]:
    """Split the overrides of a sweep into those for its runs and those for its launcher. Raises: UsageError."""
    parsed = [(line, parse(line, sweep=True)) for line in overrides]
    settings = [line for line, override in parsed if _is_hydra_override(override)]
    return [line for line, override in parsed if not _is_hydra_override(override)], settings


def check_job_count(count: int) -> None:
    """Raises: UsageError if these are more jobs than a plan can hold."""
    if count > _MOST_JOBS:
        raise UsageError(f"this sweep has more than {_MOST_JOBS:,} jobs, the most that there can be: give fewer values")


def expand(overrides: list[str], config_dir: Path | None = None) -> list[list[str]]:
    """All combinations of the values, each as the overrides of one run; the last key varies fastest.

    Raises: UsageError if there are no combinations, or too many; they are counted before any is made.
    """
    by_key: dict[str, list[str]] = {}  # the last line of a repeated key counts
    for line in overrides:
        override = parse(line, sweep=True)
        key = override.get_key_element()
        try:
            by_key[key] = [f"{key}={value}" for value in _values(override, config_dir)]
        except (HydraException, ValueError, ArithmeticError) as error:  # a step of 0; an end that is not a number
            raise UsageError(f"this sweep has no jobs: {shorten(line)}: {shorten(error, 200)}") from error
    check_job_count(math.prod(map(len, by_key.values())))
    jobs = [list(job) for job in product(*by_key.values())]
    if not jobs:
        raise UsageError(f"this sweep has no jobs: {shorten(' '.join(overrides))}")
    return jobs


def _values(override: Override, config_dir: Path | None) -> Iterable[object]:
    """The values in a line of a sweep, as typed; a range that is too long is cut at one more than the job limit."""
    value = override.value()
    if isinstance(value, Glob):
        return value.filter(options(override.key_or_group, config_dir))
    if override.is_interval_sweep():
        raise ValueError("an interval lists no values; write range(start,stop,step)")
    if isinstance(value, RangeSweep):
        values = list(islice(value.range(), _MOST_JOBS + 1))
        if len(values) > _MOST_JOBS:
            return values
    return override.sweep_string_iterator() if override.is_sweep_override() else [override.get_value_element_as_str()]
