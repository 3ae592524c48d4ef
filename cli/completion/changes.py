"""Changes to a config, KEY=VALUE: which keys there are, and which values they take."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tracetorch.cli.adapter import GROUPS, compose, conf_dir, options
from tracetorch.cli.completion.offer import Offer
from tracetorch.cli.errors import shorten
from tracetorch.cli.list import purpose
from tracetorch.cli.signatures import signature

Config = dict[str, Any]

_DEVICES = ("auto", "cpu", "cuda", "mps")
_FOLDERS = ("output.root", "output.dir")
_MARKS = ("++", "+", "~")
"""What Hydra takes before a key: to set it whether it is there or not, to add it, to leave it out."""
_WIDEST = 40  # of a remark: it stands next to a key, and must not push the others off the screen


def chosen(typed: Sequence[str], sweep: bool) -> Config:
    """The config that the choices among these changes compose to; in a sweep, the first of those for a group.

    Other changes are left out, as they add no keys: a mistake in one of them does no harm.
    Raises: UsageError if there is no such choice.
    """
    choices = []
    for change in typed:
        group, equals, choice = change.partition("=")
        if equals and group in GROUPS:
            choices.append(f"{group}={choice.partition(',')[0] if sweep else choice}")
    return compose(choices).config


def changes(incomplete: str, config: Callable[[], Config], groups: Sequence[str], sweep: bool) -> Iterator[Offer]:
    """What could stand in the place of an incomplete change to the config.

    Args:
        config: composes it, which takes a while; called only where the answer depends on it.
        groups: those from which something can be chosen.
        sweep: whether a key may have several values, separated by commas.
    """
    key, equals, value = incomplete.partition("=")
    mark = next((mark for mark in _MARKS if key.startswith(mark)), "")
    name = key.removeprefix(mark)
    if not equals:
        yield from keys(name, config(), () if mark else groups, mark)
        return
    before, comma, _ = value.rpartition(",") if sweep else ("", "", value)
    if name in _FOLDERS and not comma:
        yield Offer("folder", value, f"{key}=")
    elif mark != "~":
        for choice, remark in _values(name, config, groups).items():
            if choice not in before.split(","):
                yield Offer("word", f"{key}={before}{comma}{choice}", remark)


def keys(name: str, config: Config, groups: Sequence[str] = (), mark: str = "", ending: str = "=") -> Iterator[Offer]:
    """One level of keys, that of an incomplete name: groups and values, with their ending; parts, with a dot.

    Args: mark: what was typed before the name.
    """
    stem = name.rpartition(".")[0]
    node = _at(config, stem)
    prefix = f"{mark}{stem}." if stem else mark
    if mark == "~":
        ending = ""
    if not stem:
        yield from (Offer("key", f"{group}=", shorten(", ".join(options(group)), _WIDEST)) for group in groups)
    for part in _settings(node):
        value = node[part]
        if isinstance(value, dict):
            if inside := _settings(value):
                yield Offer("key", f"{prefix}{part}.", shorten(", ".join(inside), _WIDEST))
        elif mark != "+":  # what is there already cannot be added
            yield Offer("key" if ending else "word", f"{prefix}{part}{ending}", _yaml(value))


def _values(name: str, config: Callable[[], Config], groups: Sequence[str]) -> dict[str, str]:
    """The values that a key takes, each with a remark; none if there is no end of them."""
    if name in GROUPS or name in groups:
        return {one: purpose(conf_dir() / name / f"{one}.yaml") for one in options(name) if name in groups}
    if name == "device":
        return dict.fromkeys(_DEVICES, "")
    stem, _, last = name.rpartition(".")
    node = _at(config(), stem)
    arguments = signature(node["_target_"]) if "_target_" in node else None
    choices = _choices((arguments or {}).get(last))
    if isinstance(node.get(last), bool) and not choices:
        choices = ["true", "false"]
    return dict.fromkeys(choices if choices != ["null"] else [], "")  # a lone null says nothing of what could be there


def _choices(annotation: ast.expr | None) -> list[str]:
    """The values that an annotation names one by one, as YAML has them."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _choices(left) + _choices(right)
        case ast.Name(id="bool"):
            return ["true", "false"]
        case ast.Constant(value=None):
            return ["null"]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=allowed):
            elements = allowed.elts if isinstance(allowed, ast.Tuple) else [allowed]
            return [_yaml(element.value) for element in elements if isinstance(element, ast.Constant)]
    return []


def _at(config: Config, stem: str) -> Config:
    """The part of a config with this dotted name; empty if there is none."""
    node: Any = config
    for name in stem.split(".") if stem else ():
        node = node.get(name) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def _settings(node: Config) -> list[str]:
    """Its keys, without those that Hydra alone reads, or that no shell should be given: a run may be from elsewhere."""
    return [part for part in node if isinstance(part, str) and re.fullmatch(r"[^\W\d_]\w*", part)]


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return shorten(value, _WIDEST)
