"""Completions of GROUP, KEY and KEY=VALUE: the keys of a config, and the values that they take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tracetorch.cli.adapter import GROUPS, PRESETS, compose, load, options, preset_file, quote_value
from tracetorch.cli.completion import CompletionItem
from tracetorch.cli.errors import shorten
from tracetorch.cli.list_verb import purpose
from tracetorch.cli.signatures import allowed_values, signature
from tracetorch.cli.suggest import Config, value_at
from tracetorch.files import expanded

Items = Iterable[CompletionItem]
_WIDEST = 40  # characters of a remark next to a key; a longer remark would push other keys off the screen


def completions(kind: str, param: Any, context: Any, incomplete: str) -> Items:
    """The completions of an incomplete GROUP, KEY or KEY=VALUE. Args: context: click's, with the typed arguments."""
    if kind == "GROUP":
        return map(CompletionItem, (*GROUPS, *PRESETS))
    if kind == "KEY":
        return keys(incomplete, compose([]).config, ending="")
    folders = [p for p in context.command.params if p.param_type_name == "argument" or "--from" in p.opts]
    typed = [context.params.get(p.name) for p in folders if (p.metavar or "").rstrip(".") == "DIR"]
    if folder := next((expanded(folder) for folder in typed if isinstance(folder, str | Path)), None):
        return changes(incomplete, lambda: load(folder / "config.yaml").config, (), False)  # its choices are fixed
    sweep, before = bool(context.params.get("multirun")), context.params.get(param.name) or ()
    return changes(incomplete, lambda: chosen(before, sweep), (*GROUPS, "sweep") if sweep else GROUPS, sweep)


def chosen(typed: Sequence[str], sweep: bool) -> Config:
    """Compose a config from the choices and targets among these changes; in a sweep, from the first of each list.

    Raises: UsageError.
    """
    pairs = [change.partition("=") for change in typed]  # other changes add no keys, and may be invalid
    lists = sweep and not any("{" in change for change in typed)
    choices = [(group, choice.partition(",")[0] if lists else choice) for group, equals, choice in pairs if equals]
    kept = [(key, choice) for key, choice in choices if key in GROUPS or key.endswith("._target_")]
    return compose([f"{key}={choice}" for key, choice in kept]).config


def changes(incomplete: str, config: Callable[[], Config], groups: Sequence[str], sweep: bool) -> Items:
    """The completions of an incomplete change.

    Args: config: composes the config, which is slow. groups: those to offer. sweep: whether `key=a,b` is allowed.
    """
    key, equals, value = incomplete.partition("=")
    name = re.sub(r"^(\+\+|\+|~)", "", key)  # Hydra's prefixes of a key: ++ sets or adds it, + adds it, ~ removes it
    mark = key.removesuffix(name)
    before, comma, _ = value.rpartition(",") if sweep else ("", "", value)
    if not equals:
        yield from keys(name, config(), () if mark else groups, mark, "" if mark == "~" else "=")
    elif name in ("output.root", "output.dir") and not comma:
        yield CompletionItem(value, type="dir", help=f"{key}=")
    elif mark != "~":
        for choice, remark in _values(name, config, groups).items():
            if choice not in before.split(","):
                yield CompletionItem(f"{key}={before}{comma}{choice}", help=remark)


def keys(name: str, config: Config, groups: Sequence[str] = (), mark: str = "", ending: str = "=") -> Items:
    """The groups, values and parts at the level of an incomplete name, prefixed by its mark; parts end in a dot."""
    stem, dot, _ = name.rpartition(".")
    for group in () if dot else groups:
        yield CompletionItem(f"{group}=", type="key", help=shorten(", ".join(options(group)), _WIDEST))
    node = value_at(config, stem) if stem else config
    if groups and isinstance(node, dict) and "_target_" in node and not node.get("_partial_"):
        for argument in signature(node["_target_"]) or {}:  # that the YAML file does not list
            if argument not in node:
                yield CompletionItem(f"{stem}{dot}{argument}=", type="key", help="not set")
    for part, value in _settings(node).items():
        if not isinstance(value, dict):
            remark = shorten(value if isinstance(value, str) else quote_value(value), _WIDEST)
            if mark != "+":  # a key that exists cannot be added
                yield CompletionItem(f"{mark}{stem}{dot}{part}{ending}", type="key" if ending else "plain", help=remark)
        elif inside := _settings(value):
            yield CompletionItem(f"{mark}{stem}{dot}{part}.", type="key", help=shorten(", ".join(inside), _WIDEST))


def _values(name: str, config: Callable[[], Config], groups: Sequence[str]) -> dict[str, str]:
    """The values that a key takes, each with a remark; none if they cannot be listed."""
    if name in GROUPS or name in groups:
        return {choice: purpose(preset_file(name, choice)) for choice in options(name) if name in groups}
    if name == "device":
        return dict.fromkeys(("auto", "cpu", "cuda", "mps"), "")
    composed, (stem, _, last) = config(), name.rpartition(".")
    arguments = signature(value_at(composed, f"{stem}._target_", "")) or {}
    is_bool = isinstance(value_at(composed, name), bool)
    values = allowed_values(arguments.get(last)) or ([True, False] if is_bool else [])
    return {quote_value(value): "" for value in values if values != [None]}  # not a lone null


def _settings(node: Any) -> Config:
    """The keys of a part and their values, without Hydra's keys and keys that are unsafe in a shell."""
    items = node.items() if isinstance(node, dict) else ()
    return {name: value for name, value in items if re.fullmatch(r"[^\W\d_]\w*", str(name))}
