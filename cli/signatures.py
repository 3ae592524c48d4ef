"""Signatures read from source, so that a config can be checked against them before anything slow is imported."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tracetorch

Signature = dict[str, ast.expr | None]  # annotations by argument; None for an argument without one

_TRUSTED = re.compile(
    r"tracetorch\.(constrain|diagnostics|encode|loss|nn|rules|tasks)\.[A-Za-z]\w*"
    r"|tracetorch\.(rules\.surrogate|nn\.neurons)\.[A-Z]\w*"
    r"|tracetorch\.experiments\.[a-z]\w*\.main"
    r"|torch\.(nn|optim)\.[A-Z]\w*"
)


def is_trusted(target: str) -> bool:
    """Whether a config from a folder may call this: a public part of traceTorch, or a module or optimizer of torch."""
    return _TRUSTED.fullmatch(target) is not None and definition(target) is not None


@cache
def signature(target: str) -> Signature | None:
    """The arguments of the function or class with this dotted name.

    Returns: None if its source is not part of traceTorch or torch, or if it checks the names of its arguments itself.
    """
    module, found = _defined(target)
    if isinstance(found, ast.ClassDef):
        inits = (f for f in found.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
        found = next(inits, None)
    if not isinstance(found, ast.FunctionDef):
        return None
    passed_on = _passed_on(module, found)
    if passed_on is None:
        return None
    named = {a.arg: a.annotation for a in [*found.args.args, *found.args.kwonlyargs] if a.arg != "self"}
    return {**passed_on, **named}


def _passed_on(module: str, function: ast.FunctionDef) -> Signature | None:
    """The arguments that a function takes as `**options`: those of the function that it calls with `**options`.

    Returns: None if it calls none.
    """
    options = function.args.kwarg
    if options is None:
        return {}
    for call in ast.walk(function):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        if any(k.arg is None and isinstance(k.value, ast.Name) and k.value.id == options.arg for k in call.keywords):
            given = {keyword.arg for keyword in call.keywords}
            arguments = list((signature(f"{module}.{call.func.id}") or {}).items())[len(call.args) :]
            return {name: annotation for name, annotation in arguments if name not in given}
    return None


def allowed_values(annotation: ast.expr | None) -> list[Any]:
    """The values that an annotation lists: those of a Literal, true and false, null."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return allowed_values(left) + allowed_values(right)
        case ast.Name(id="bool"):
            return [True, False]
        case ast.Constant(value=None):
            return [None]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=allowed):
            return [node.value for node in ast.walk(allowed) if isinstance(node, ast.Constant)]
    return []


def definition(target: str) -> ast.ClassDef | ast.FunctionDef | None:
    """The definition of a name, followed through imports within its package; None if it is not defined there."""
    return _defined(target)[1]


@cache
def _defined(target: str) -> tuple[str, ast.ClassDef | ast.FunctionDef | None]:
    """The module of a definition, and the definition."""
    module, _, name = target.rpartition(".")
    package = module.partition(".")[0]
    path = _source(module)
    for statement in ast.parse(path.read_text(encoding="utf-8")).body if path else []:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return module, statement
        if isinstance(statement, ast.ImportFrom) and not statement.level:
            for alias in statement.names:
                origin = f"{statement.module}.{alias.name}"
                if (alias.asname or alias.name) == name and origin.startswith(f"{package}.") and origin != target:
                    return _defined(origin)
    return module, None


def _source(module: str) -> Path | None:
    package, *parts = module.split(".")
    for root in _roots(package):
        for path in (root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py")):
            if path.is_file():
                return path
    return None


@cache
def _roots(package: str) -> list[Path]:
    if package == "tracetorch":  # in a checkout, `experiments/` is next to it, and inside it once installed
        return [Path(tracetorch.__file__).parent, Path(__file__).parents[1]]
    spec = find_spec(package) if package == "torch" else None  # finds torch without importing it
    return [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
