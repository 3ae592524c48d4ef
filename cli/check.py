"""Config values held against the signatures that they will meet, which are read from source: nothing is imported.

A config names what it calls in `_target_`. This finds the definition in the package's files, reads the annotations of
its arguments, and says which value does not fit, before anything slow or lasting happens.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tracetorch.cli.errors import UsageError, did_you_mean, shorten

import tracetorch

_NEEDED = ("task", "network", "rule", "loss", "optimizer", "train", "output", "seed", "device")
_HYDRA_KEYS = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
_TRUSTED = ("tracetorch.", "torch.optim.", "torch.nn.")
_KINDS = {
    "int": ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    "float": ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool)),
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "str": ("a word", lambda v: isinstance(v, str)),
    "None": ("null", lambda v: v is None),
}
_LISTS = ("Sequence", "Iterable", "list", "tuple")


def check(config: dict[str, Any]) -> None:
    """Hold every part of a config against the signature of its `_target_`, and the plain keys against their kinds.

    Raises: UsageError that names the first key that does not fit, and what would.
    """
    for key in _NEEDED:
        if key not in config:
            raise UsageError(f"{key} is missing from the config; choose one with {key}=…")
    for key, kind in {"seed": "int", "device": "str"}.items():
        _check_value(key, config.get(key), ast.parse(kind, mode="eval").body)
    for path, node in _targets(config, ""):
        signature = _signature(node["_target_"])
        if signature is None:
            continue
        for name, value in node.items():
            if name in _HYDRA_KEYS:
                continue
            if name not in signature:
                known = ", ".join(signature)
                hint = did_you_mean(name, signature)
                raise UsageError(f"{path}.{name}: {node['_target_']} takes no '{name}'.{hint} It takes {known}.")
            if not (isinstance(value, dict) and "_target_" in value):
                _check_value(f"{path}.{name}", value, signature[name])


def check_trusted(config: dict[str, Any], where: Path) -> None:
    """A config that comes from a folder may make only what is traceTorch's, or torch's optimizers and modules.

    Raises: UsageError that names the first other target.
    """
    for path, node in _targets(config, ""):
        target = str(node["_target_"])
        if not target.startswith(_TRUSTED) or ".." in target:
            raise UsageError(f"{where}: {path} wants to call {shorten(target)!r}, which is not trusted")


def _targets(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for name, inner in node.items():
            yield from _targets(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(node, list):
        for at, inner in enumerate(node):
            yield from _targets(inner, f"{path}[{at}]")


def _check_value(path: str, value: Any, annotation: ast.expr | None) -> None:
    wanted = _misfit(value, annotation)
    if wanted:
        raise UsageError(f"{path} must be {' or '.join(dict.fromkeys(wanted))}, got {shorten(repr(value))}.")


def _misfit(value: Any, annotation: ast.expr | None) -> list[str]:
    """What would have fitted; empty if the value does, or if the annotation says nothing that can be checked."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            sides = _misfit(value, left), _misfit(value, right)
            return sides[0] + sides[1] if all(sides) else []
        case ast.Constant(value=None):
            return [] if value is None else ["null"]
        case ast.Name(id="Values"):  # nn.parameters: float | Sequence[float] | Tensor
            numbers = value if isinstance(value, list) else [value]
            return [] if all(_KINDS["float"][1](number) for number in numbers) else ["a number", "a list of numbers"]
        case ast.Name(id=name) if name in _KINDS:
            words, fits = _KINDS[name]
            return [] if fits(value) else [words]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=allowed)):
            names = [element.value for element in allowed if isinstance(element, ast.Constant)]
            return [] if value in names else [f"one of {', '.join(map(str, names))}"]
        case ast.Subscript(value=ast.Name(id=name), slice=inner) if name in _LISTS:
            element = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
            if isinstance(value, list | tuple) and not any(_misfit(v, element) for v in value):
                return []
            kind = _misfit(object(), element)
            return [f"a list of {kind[0].removeprefix('a ')}s" if kind else "a list"]
    return []


@cache
def _signature(target: str) -> dict[str, ast.expr | None] | None:
    """Arguments and annotations of a function or class of this package; None for anything else."""
    if not target.startswith("tracetorch."):
        return None
    module, _, name = target.rpartition(".")
    definition = _find(module, name)
    if isinstance(definition, ast.ClassDef):
        definition = next(
            (f for f in definition.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), definition
        )
    if not isinstance(definition, ast.FunctionDef):
        raise UsageError(f"_target_: there is no {shorten(target)!r} in traceTorch")
    arguments = definition.args
    return {a.arg: a.annotation for a in [*arguments.args, *arguments.kwonlyargs] if a.arg != "self"}


def _find(module: str, name: str) -> ast.stmt | None:
    """The definition of a name in a module, followed through re-exports."""
    path = _source(module)
    for statement in ast.parse(path.read_text(encoding="utf-8")).body if path else []:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return statement
        if isinstance(statement, ast.ImportFrom) and any((a.asname or a.name) == name for a in statement.names):
            return _find(statement.module or "", next(a.name for a in statement.names if (a.asname or a.name) == name))
    return None


def _source(module: str) -> Path | None:
    parts = module.split(".")[1:]
    # `experiments/` stands beside `tracetorch/` in a checkout, and inside it once installed
    for root in (Path(tracetorch.__file__).parent, Path(__file__).parents[1]):
        for path in (root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py")):
            if path.is_file():
                return path
    return None
