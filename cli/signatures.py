"""Signatures read from source, so that a config can be checked against them before anything slow is imported."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from functools import cache, wraps
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import tracetorch
from tracetorch.cli import project
from tracetorch.files import MOST_CONFIG_BYTES, read_text

Signature = dict[str, ast.expr | None]  # annotations by argument; None for an argument without one
_Found = TypeVar("_Found")
_Function = ast.FunctionDef | ast.AsyncFunctionDef

_OURS = ("tracetorch", "torch")
_OTHER_MEANINGS = {"Values", "SampleSpace", "Tensor"}
"""Names in annotations that the check of values knows from traceTorch; in other code they may name something else."""

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


class Arguments(NamedTuple):
    """What a function or class accepts by name."""

    named: Signature
    required: frozenset[str]  # the names without a default
    any_name: bool  # whether it also accepts other names, as `**options` that it passes to no known function


_NOTHING = Arguments({}, frozenset(), False)


def _cached(function: Callable[[str], _Found]) -> Callable[[str], _Found]:
    """Cache the results for traceTorch and torch; a user's source may change while a process runs."""
    known = cache(function)

    @wraps(function)
    def call(name: str) -> _Found:
        return (known if name.partition(".")[0] in _OURS else function)(name)

    return call


def signature(target: str) -> Signature | None:
    """The arguments of the function or class with this dotted name.

    Returns: None if they are not known, or if it has `**options` that it passes to no known function.
    """
    found = arguments(target)
    return None if found is None or found.any_name else found.named


def requires(target: str, name: str) -> bool:
    """Whether the function or class with this dotted name is known to have an argument without a default."""
    found = arguments(target)
    return found is not None and name in found.required


def accepts(target: object, name: str) -> bool:
    """Whether the function or class with this dotted name is known to accept an argument."""
    found = arguments(target) if isinstance(target, str) else None
    return found is not None and (name in found.named or found.any_name)


@_cached
def arguments(target: str) -> Arguments | None:
    """The arguments of the function or class with this dotted name.

    Returns: None if they are not known: the source is not found, a base of a class without `__init__` is not found, a
        user's function is decorated, or an `__init__` is generated, as for a dataclass.
    """
    return _arguments(target, ())


def _arguments(target: str, below: tuple[str, ...]) -> Arguments | None:
    """As `arguments`. Args: below: the classes and functions that lead to this one, so that a circle ends."""
    module, node = _defined(target)
    if node is None or target in below or len(below) > 20:
        return None
    if isinstance(node, ast.ClassDef):
        methods = [method for method in node.body if isinstance(method, ast.FunctionDef)]
        init = next((method for method in methods if method.name == "__init__" and not _is_overload(method)), None)
        if init is None:
            return _inherited(module, node, (*below, target))
        parents, node = _parents(module, node), init
    else:
        parents = []
    if module.partition(".")[0] not in _OURS and node.decorator_list:
        return None
    own, defaults = _own(module, node)
    required = frozenset(own.keys() - defaults.keys())
    if node.args.kwarg is None:
        return Arguments(own, required, False)
    forwarded = _forwarded(module, node, node.args.kwarg.arg, parents, (*below, target))
    if forwarded is None:
        return Arguments(own, required, True)
    inherited = forwarded.required - own.keys()
    return Arguments({**forwarded.named, **own}, required | inherited, forwarded.any_name)


def _inherited(module: str, node: ast.ClassDef, below: tuple[str, ...]) -> Arguments | None:
    """The arguments of a class without an `__init__`; None if they are not known."""
    if node.decorator_list or node.keywords:  # such as a dataclass
        return None
    for parent in _parents(module, node):
        if parent in ("ABC", "abc.ABC", "object"):
            continue
        found = _arguments(parent, below) if isinstance(definition(parent), ast.ClassDef) else None
        if found != _NOTHING:
            return found
    return _NOTHING


def _parents(module: str, node: ast.ClassDef) -> list[str]:
    """The dotted names of the bases of a class; of a base that is not found, its name."""
    return [_full_name(module, ast.unparse(base)) for base in node.bases]


def _full_name(module: str, name: str) -> str:
    """The dotted name of the object called `name` in a module, by its definitions and imports; else `name` itself."""
    first, dot, rest = name.partition(".")
    for statement in _statements(module):
        if isinstance(statement, ast.ClassDef | _Function) and statement.name == name:
            return f"{module}.{name}"
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                if first == (alias.asname or alias.name.partition(".")[0]):
                    return f"{alias.name if alias.asname else first}{dot}{rest}"
        if isinstance(statement, ast.ImportFrom):
            origin = _origin(module, statement)
            for alias in statement.names:
                if first == (alias.asname or alias.name):
                    return f"{origin}.{alias.name}{dot}{rest}"
    return name


def _origin(module: str, statement: ast.ImportFrom) -> str:
    """The module from which a statement imports."""
    path = _source(module)
    parent = module if path and path.name == "__init__.py" else module.rpartition(".")[0]
    try:
        return resolve_name(f"{'.' * statement.level}{statement.module or ''}", parent)
    except ImportError:  # more dots than packages
        return ""


def _own(module: str, function: _Function) -> tuple[Signature, dict[str, ast.expr]]:
    """The arguments of a function, without `self`, with their annotations; and the default values, by name."""
    positional = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    given = function.args.defaults
    defaults = dict(zip(positional[len(positional) - len(given) :], given, strict=True))
    keywords = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    defaults |= {argument.arg: default for argument, default in keywords if default is not None}
    both = (*function.args.args, *function.args.kwonlyargs)
    found: Signature = {each.arg: each.annotation for each in both if each.arg not in ("self", "cls")}
    if module.partition(".")[0] not in _OURS:
        found = {name: _foreign(annotation, defaults.get(name)) for name, annotation in found.items()}
    return found, defaults


def _foreign(annotation: ast.expr | None, default: ast.expr | None) -> ast.expr | None:
    """An annotation in a user's code, extended by None if that is the default.

    Returns: None if it contains a name that may mean something else than in traceTorch.
    """
    if annotation is None or any(
        isinstance(node, ast.Name) and node.id in _OTHER_MEANINGS for node in ast.walk(annotation)
    ):
        return None
    if isinstance(default, ast.Constant) and default.value is None:
        return ast.BinOp(annotation, ast.BitOr(), ast.Constant(None))
    return annotation


def _is_overload(function: ast.FunctionDef) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "overload" for node in function.decorator_list)


def _forwarded(
    module: str, function: _Function, options: str, parents: list[str], below: tuple[str, ...]
) -> Arguments | None:
    """The arguments that a function accepts as `**options`: those of the function to which it passes them.

    Args: parents: of the class whose `__init__` it is, for `super().__init__(**options)`.
    Returns: None if it passes them to no known function.
    """
    for call in ast.walk(function):
        if not isinstance(call, ast.Call):
            continue
        unpacked = (keyword.value for keyword in call.keywords if keyword.arg is None)
        if not any(isinstance(value, ast.Name) and value.id == options for value in unpacked):
            continue
        called = ast.unparse(call.func)
        targets = parents if called == "super().__init__" else [_full_name(module, called)]
        found = next((each for each in (_arguments(one, below) for one in targets) if each is not None), None)
        if found is not None:
            given = {keyword.arg for keyword in call.keywords}
            positional = sum(not isinstance(each, ast.Starred) for each in call.args)
            left = {name: each for name, each in list(found.named.items())[positional:] if name not in given}
            return found._replace(named=left, required=found.required & left.keys())
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


@_cached
def _defined(target: str) -> tuple[str, ast.ClassDef | ast.FunctionDef | None]:
    """The module of a definition, and the definition."""
    return _find(target, 0)


def _find(target: str, depth: int) -> tuple[str, ast.ClassDef | ast.FunctionDef | None]:
    module, _, name = target.rpartition(".")
    package = module.partition(".")[0]
    for statement in _statements(module) if depth < 20 else ():
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return module, statement
        if isinstance(statement, ast.ImportFrom):
            imported = _origin(module, statement)
            for alias in statement.names:
                is_star = alias.name == "*"
                is_found = name in _public_names(imported) if is_star else name == (alias.asname or alias.name)
                origin = f"{imported}.{name if is_star else alias.name}"
                if is_found and origin.startswith(f"{package}.") and origin != target:
                    return _find(origin, depth + 1)
    return module, None


def _public_names(module: str) -> list[Any]:
    """The `__all__` of a module; [] if its source has no list of constants of this name."""
    for statement in _statements(module):
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=ast.List(elts=elements)):
                return [element.value for element in elements if isinstance(element, ast.Constant)]
    return []


@_cached
def _statements(module: str) -> list[ast.stmt]:
    """The top level of a module's source; [] if it cannot be read. Nothing is imported."""
    path = _source(module)
    try:
        with warnings.catch_warnings(action="ignore"):  # of a user's strings such as "\d"
            return ast.parse(read_text(path, 4 * MOST_CONFIG_BYTES)).body if path else []
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):  # the import reports the reason
        return []


def _source(module: str) -> Path | None:
    package, *parts = module.split(".")
    for root in _roots(package):
        for path in (root.joinpath(*parts, "__init__.py"), root.joinpath(*parts).with_suffix(".py")):
            if path.is_file():
                return path
    return None


@_cached
def _roots(package: str) -> list[Path]:
    """The folders with the source of a package, or the path of a module without its ending; nothing is imported."""
    if package == "tracetorch":  # `experiments/` is next to the package in a checkout, and inside it once installed
        return [Path(tracetorch.__file__).parent, Path(__file__).parents[1]]
    own = None if package in _OURS else project.current()
    if own is not None and any((own.root / name).exists() for name in (f"{package}.py", package)):
        return [own.root / package]
    try:
        spec = find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):  # a module without a spec, such as __main__
        return []
    if spec is None:
        return []
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])]
    return folders or ([Path(spec.origin).with_suffix("")] if spec.origin and spec.has_location else [])
