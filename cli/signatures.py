"""Signatures read from source, so that a config can be checked against them before anything slow is imported."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

import tracetorch

Signature = dict[str, ast.expr | None]  # annotations by argument; None for an argument without one

_TRUSTED = re.compile(
    r"tracetorch\.(constrain|diagnostics|encode|loggers|loss|nn|rules|tasks)\.[A-Za-z]\w*"
    r"|tracetorch\.(rules\.surrogate|nn\.neurons)\.[A-Z]\w*"
    r"|tracetorch\.experiments\.[a-z]\w*\.main"
)
_TRUSTED_CLASS = re.compile(r"torch\.(nn|optim)\.[A-Z]\w*")


def is_trusted(target: str) -> bool:
    """Whether a config from a folder may call a name without `--trust`.

    It may call public parts of traceTorch, `main` of an experiment, and the public classes of torch.nn and torch.optim.
    """
    if _TRUSTED_CLASS.fullmatch(target):
        return isinstance(definition(target), ast.ClassDef)
    return _TRUSTED.fullmatch(target) is not None and definition(target) is not None


@cache
def signature(target: str) -> Signature | None:
    """The arguments of the function or class with this dotted name.

    Returns: None if its source is not part of traceTorch or torch, if a class defines no `__init__`, or if it has
        `**options` that it passes to no function of its module.
    """
    module, node = _defined(target)
    if isinstance(node, ast.ClassDef):
        methods = (method for method in node.body if isinstance(method, ast.FunctionDef))
        node = next((method for method in methods if method.name == "__init__" and not _is_overload(method)), None)
    if not isinstance(node, ast.FunctionDef):
        return None
    forwarded = _forwarded_arguments(module, node)
    if forwarded is None:
        return None
    arguments = [*node.args.args, *node.args.kwonlyargs]
    named = {argument.arg: argument.annotation for argument in arguments if argument.arg != "self"}
    return {**forwarded, **named}


def _is_overload(function: ast.FunctionDef) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "overload" for node in function.decorator_list)


def _forwarded_arguments(module: str, function: ast.FunctionDef) -> Signature | None:
    """The arguments that a function accepts as `**options`: those of the function to which it passes them.

    Returns: {} without `**options`; None if it passes them to no function of its module.
    """
    options = function.args.kwarg
    if options is None:
        return {}
    for call in ast.walk(function):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        unpacked = (keyword.value for keyword in call.keywords if keyword.arg is None)
        if any(isinstance(value, ast.Name) and value.id == options.arg for value in unpacked):
            given = {keyword.arg for keyword in call.keywords}
            arguments = list((signature(f"{module}.{call.func.id}") or {}).items())[len(call.args) :]
            return {name: annotation for name, annotation in arguments if name not in given}
    return None


def allowed_values(annotation: ast.expr | None) -> list[Any]:
    """The values that an annotation allows: those of a Literal, true and false for bool, null for None; else []."""
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
    """The definition of a dotted name, followed through the imports in its package; None if it is not found.

    `from … import *` is followed for the names that the `__all__` of the imported module lists.
    """
    return _defined(target)[1]


@cache
def _defined(target: str) -> tuple[str, ast.ClassDef | ast.FunctionDef | None]:
    """The module of a definition, and the definition."""
    module, _, name = target.rpartition(".")
    package = module.partition(".")[0]
    path = _source(module)
    parent = module if path and path.name == "__init__.py" else module.rpartition(".")[0]
    for statement in _statements(module):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return module, statement
        if isinstance(statement, ast.ImportFrom):
            imported = resolve_name(f"{'.' * statement.level}{statement.module or ''}", parent)
            for alias in statement.names:
                is_star = alias.name == "*"
                is_found = name in _public_names(imported) if is_star else name == (alias.asname or alias.name)
                origin = f"{imported}.{name if is_star else alias.name}"
                if is_found and origin.startswith(f"{package}.") and origin != target:
                    return _defined(origin)
    return module, None


def _public_names(module: str) -> list[Any]:
    """The `__all__` of a module; [] if its source has no list of constants of this name."""
    for statement in _statements(module):
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=elements)):
                return [element.value for element in elements if isinstance(element, ast.Constant)]
    return []


@cache
def _statements(module: str) -> list[ast.stmt]:
    """The top level of a module's source; [] if it is not part of traceTorch or torch."""
    path = _source(module)
    return ast.parse(path.read_text(encoding="utf-8")).body if path else []


def _source(module: str) -> Path | None:
    package, *parts = module.split(".")
    for root in _roots(package):
        for path in (root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py")):
            if path.is_file():
                return path
    return None


@cache
def _roots(package: str) -> list[Path]:
    """The folders with the source of a package; [] for a package other than traceTorch and torch."""
    if package == "tracetorch":  # `experiments/` is next to the package in a checkout, and inside it once installed
        return [Path(tracetorch.__file__).parent, Path(__file__).parents[1]]
    spec = find_spec(package) if package == "torch" else None  # finds torch without importing it
    return [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
