"""What `sweep=NAME` stands for: parameters as one would type them, and figures to draw at the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracetorch.cli.adapter import conf_dir, options, quote_value, read_yaml
from tracetorch.cli.errors import UsageError, did_you_mean, shorten
from tracetorch.cli.shared_arguments import with_home
from tracetorch.cli.sweep.parts import key_of, share_out
from tracetorch.files import expanded

_CONTENT = ("params", "parts", "figures")
_NAME = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@:-]*", re.ASCII)
_FIELDS = ("against", "metric", "by")


@dataclass(frozen=True)
class Figure:
    """One number against another; see `tracetorch compare --against`."""

    against: str
    metric: str | None = None  # the task's first, if None
    by: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Preset:
    """A sweep's file, combined with what was typed."""

    sweeps: list[list[str]]  # one after another, each as one would type it
    figures: list[Figure] = field(default_factory=list)
    origin: Path | None = None  # its file, if that is not one of ours: then its runs may call only what is trusted


def unfold(typed: list[str], config_dir: Path | None = None) -> Preset:
    """Put what a preset says in the place of `sweep=NAME`; of a key that is typed too, what is typed counts.

    Args: config_dir: a folder with further presets, in its folder `sweep`.
    Raises: UsageError, one sentence.
    """
    about = [line for line in typed if key_of(line).partition(".")[0] == "sweep"]
    if not about:
        return Preset([typed])
    first, *others = about
    if not first.startswith("sweep="):
        advice = "to change a value of a preset, type the key itself, such as seed=0,1"
        raise UsageError(f"'{shorten(first)}': {advice}")
    if others or "," in first:
        raise UsageError(f"{shorten(' '.join(about))}: give one preset at a time")
    path = _path(first.partition("=")[2], config_dir)
    origin = None if path.parent == conf_dir() / "sweep" else path
    where = shorten(path if origin else first)
    content = read_yaml(path, references=True)
    for name in content:
        if name not in _CONTENT:
            hint = did_you_mean(str(name), _CONTENT)
            raise UsageError(f"{where}: a sweep has no '{shorten(name)}'.{hint} It has {', '.join(_CONTENT)}.")
    rest = [line for line in typed if line is not first]
    sweeps = share_out(*_params_and_parts(content, where), rest)
    if not sweeps:
        raise UsageError(f"{where}: none of its parts has all of {shorten(' '.join(rest))}")
    return Preset(sweeps, figures(content.get("figures"), where), origin)


def _params_and_parts(content: Any, where: str) -> tuple[list[str], list[list[str]]]:
    """What is the same in all parts of a preset, and what each says."""
    parts, shared = content.get("parts", []), content.get("params")
    if "parts" in content and not (isinstance(parts, list) and parts):
        raise UsageError(f"{where}: parts must be a list such as [{{experiment: mnist}}], got {shorten(parts)}")
    lines = [_params(f"{where}: parts[{at}]", part) for at, part in enumerate(parts)]
    return [] if lines and shared in (None, {}) else _params(f"{where}: params", shared), lines


def figures(given: Any, where: str) -> list[Figure]:
    """Figures from plain values. Args: where: for messages. Raises: UsageError for the first invalid one."""
    if given is not None and not isinstance(given, list):
        raise UsageError(f"{where}: figures must be a list such as [{{against: task.delay}}], got {shorten(given)}")
    return [_figure(one, f"{where}: figures[{at}]") for at, one in enumerate(given or [])]


def _figure(given: Any, where: str) -> Figure:
    if not isinstance(given, dict):
        raise UsageError(f"{where} must be a mapping such as {{against: task.delay}}, got {shorten(given)}")
    for name in given:
        if name not in _FIELDS:
            hint = did_you_mean(str(name), _FIELDS)
            raise UsageError(f"{where} has no '{shorten(name)}'.{hint} There are: {', '.join(_FIELDS)}.")
    against, metric, by = (given.get(name) for name in _FIELDS)
    by = [by] if isinstance(by, str) else by or []
    if not isinstance(against, str) or not _is_word(against):
        raise UsageError(f"{where}.against must name a number, such as task.delay, got {shorten(repr(against))}")
    if metric is not None and not _is_word(metric):
        raise UsageError(f"{where}.metric must be a string or null, got {shorten(repr(metric))}")
    if not isinstance(by, list) or not all(map(_is_word, by)):
        raise UsageError(f"{where}.by must be a key or a list of keys, got {shorten(repr(by))}")
    return Figure(against, metric, by)


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
    return [
        with_home(f"{key}={value if isinstance(value, str) else quote_value(value)}") for key, value in given.items()
    ]


def _path(name: str, config_dir: Path | None) -> Path:
    known = options("sweep", config_dir)
    if name.endswith((".yaml", ".yml")) or "/" in name:
        path = expanded(name)
        if not path.is_file():
            raise UsageError(f"sweep={shorten(name)}: there is no such file")
        return path
    if name not in known:
        there = f"There are: {', '.join(known)}; or give a file, such as sweep=mine.yaml."
        raise UsageError(f"sweep={shorten(name)}: there is no such sweep.{did_you_mean(name, known)} {there}")
    folders: Sequence[Path] = [conf_dir(), *([config_dir] if config_dir else [])]
    return next(path for folder in folders if (path := folder / "sweep" / f"{name}.yaml").exists())


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()
