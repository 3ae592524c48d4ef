"""Presets of sweeps, `sweep=NAME`: keys with their values, perhaps in several parts, and figures to draw."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracetorch.cli.adapter import conf_dir, quote_value, read_yaml
from tracetorch.cli.adapter.presets import find_preset
from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.shared_arguments import with_home
from tracetorch.renamed import FIGURE, present

_CONTENT = ("params", "parts", "figures")
_NAME = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@:-]*", re.ASCII)
_BRACKETS = re.compile(r"[\[\](){}'\"]")
_FIELDS = ("scatter", "metric", "by")


@dataclass(frozen=True)
class Figure:
    """A plot of one number against another; see `tracetorch compare --scatter`."""

    scatter: str  # the number on the x axis
    metric: str | None = None  # None: the task's first
    by: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Preset:
    """A sweep's file, combined with the typed overrides."""

    sweeps: list[list[str]]  # run one after another; each is a list of overrides
    figures: list[Figure] = field(default_factory=list)
    origin: Path | None = None  # a user's file, whose runs may call trusted parts only


def unfold(typed: list[str], config_dir: Path | None = None) -> Preset:
    """Replace `sweep=NAME` by the content of the preset; other typed keys override it.

    Args: config_dir: a folder with further presets, in its folder `sweep`.
    Raises: UsageError, one sentence.
    """
    sweep_lines = [line for line in typed if key_of(line).partition(".")[0] == "sweep"]
    if not sweep_lines:
        return Preset([typed])
    first, *others = sweep_lines
    if not first.startswith("sweep="):
        advice = "to change a value of a preset, type the key itself, such as seed=0,1"
        raise UsageError(f"'{shorten(first)}': {advice}")
    if others or "," in first:
        raise UsageError(f"{shorten(' '.join(sweep_lines))}: give one preset at a time")
    path = find_preset("sweep", first.partition("=")[2], config_dir)
    origin = None if path.parent == conf_dir() / "sweep" else path
    where = shorten(path if origin else first)
    content = read_yaml(path, references=True)
    for name in content:
        if name not in _CONTENT:
            hint = did_you_mean(str(name), _CONTENT)
            raise UsageError(f"{where}: a sweep has no '{shorten(name)}'.{hint} It has {', '.join(_CONTENT)}.")
    given, shared = content.get("parts", []), content.get("params")
    if "parts" in content and not (isinstance(given, list) and given):
        raise UsageError(f"{where}: parts must be a list such as [{{experiment: mnist}}], got {shorten(given)}")
    parts = [_params(f"{where}: parts[{at}]", part) for at, part in enumerate(given)]
    params = [] if parts and shared in (None, {}) else _params(f"{where}: params", shared)
    rest = [line for line in typed if line is not first]
    sweeps = _combine(params, parts or [[]], rest)
    if not sweeps:
        raise UsageError(f"{where}: none of its parts has all of {shorten(' '.join(rest))}")
    return Preset(sweeps, figures(content.get("figures"), where), origin)


def _params(where: str, given: Any) -> list[str]:
    if not isinstance(given, dict) or not given:
        raise UsageError(f"{where} must name keys and their values, such as seed: 0,1,2; got {shorten(given)}")
    for key in given:
        if not _NAME.fullmatch(str(key)):
            raise UsageError(f"{where}: {shorten(repr(key))} is not a key of a config, such as seed or task.delay")
        if key_of(str(key)).replace("/", ".").partition(".")[0] in ("hydra", "sweep"):
            raise UsageError(
                f"{where}.{shorten(key)} chooses how runs are launched: type it on the command line instead"
            )
    texts = {key: value if isinstance(value, str) else quote_value(value) for key, value in given.items()}
    return [with_home(f"{key}={text}") for key, text in texts.items()]


def figures(given: Any, where: str) -> list[Figure]:
    """Figures from plain values. Args: where: for messages. Raises: UsageError for the first invalid figure."""
    if given is not None and not isinstance(given, list):
        raise UsageError(f"{where}: figures must be a list such as [{{scatter: task.delay}}], got {shorten(given)}")
    return [_figure(each, f"{where}: figures[{at}]") for at, each in enumerate(given or [])]


def _figure(given: Any, where: str) -> Figure:
    if not isinstance(given, dict):
        raise UsageError(f"{where} must be a mapping such as {{scatter: task.delay}}, got {shorten(given)}")
    given = present(FIGURE, given)
    for name in given:
        if name not in _FIELDS:
            hint = did_you_mean(str(name), _FIELDS)
            raise UsageError(f"{where} has no '{shorten(name)}'.{hint} There are: {', '.join(_FIELDS)}.")
    scatter, metric, by = (given.get(name) for name in _FIELDS)
    by = [by] if isinstance(by, str) else by or []
    if not isinstance(scatter, str) or not _is_word(scatter):
        raise UsageError(f"{where}.scatter must name a number, such as task.delay, got {shorten(repr(scatter))}")
    if metric is not None and not _is_word(metric):
        raise UsageError(f"{where}.metric must be a string or null, got {shorten(repr(metric))}")
    if not isinstance(by, list) or not all(map(_is_word, by)):
        raise UsageError(f"{where}.by must be a key or a list of keys, got {shorten(repr(by))}")
    return Figure(scatter, metric, by)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _combine(shared: list[str], parts: list[list[str]], typed: list[str]) -> list[list[str]]:
    """The overrides of each part, combined with the shared and the typed lines.

    A typed key that only some parts have changes only those parts. If the parts list all typed values of a key, each
    part keeps its own values; a part without any of them is left out.
    """
    chosen = [part for part in parts if all(_reduced_to(line, part, parts) for line in typed)]
    typed_keys = set(map(key_of, typed))
    part_keys = {key_of(line) for part in chosen for line in part} - set(map(key_of, shared))
    sweeps = []
    for part in chosen:
        own = set(map(key_of, part))
        kept = [line for line in shared if key_of(line) not in own] + part
        applicable = [line for line in typed if key_of(line) in own or key_of(line) not in part_keys]
        reduced = [_reduced_to(line, part, parts) for line in applicable]
        sweeps.append([*(line for line in kept if key_of(line) not in typed_keys), *reduced])
    return sweeps


def key_of(line: str) -> str:
    """The key of an override, such as task.delay."""
    return line.lstrip("+~").partition("=")[0]


def _reduced_to(typed: str, part: list[str], parts: list[list[str]]) -> str:
    """A typed line reduced to the values of one part; "" if all its values belong to other parts."""
    own, wanted = _values(part, key_of(typed)), _values([typed], key_of(typed))
    listed = {value for each in parts for value in _values(each, key_of(typed))}
    if not own or not listed.issuperset(wanted):
        return typed
    common = [value for value in wanted if value in own]
    return f"{typed.partition('=')[0]}={','.join(common)}" if common else ""


def _values(lines: list[str], key: str) -> list[str]:
    """The values of a key, split at commas; a text with brackets or quotes is one value."""
    texts = [line.partition("=")[2] for line in lines if key_of(line) == key]
    return [value for text in texts for value in ([text] if _BRACKETS.search(text) else text.split(","))]
