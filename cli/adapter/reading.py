"""Configs from and to YAML. Files are untrusted: reading one calls no function, expands no alias and does not block."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tracetorch import files
from tracetorch.cli.errors import UsageError, shorten

_REFERENCE = re.compile(r"\$\{([A-Za-z_.][\w.]*)\}", re.ASCII)
"""A plain reference to a value of the same config. Other references may call a function, and are refused."""

_LONGEST_CHAIN = 2 * files.DEEPEST  # levels of nesting and references; OmegaConf resolves about 50 references

_FLOAT = re.compile(
    r"""[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
       |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
       |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
       |[-+]?\.(?:inf|Inf|INF)
       |\.(?:nan|NaN|NAN)""",
    re.VERBOSE,
)
_NOT_FINITE = {".inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
_FLOAT_TAG, _DATE_TAG = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"


def _numbers_as_typed(resolver: Any) -> None:
    """Make a loader or dumper of PyYAML treat 1e-4 as a number, and a date as a string."""
    resolver.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in (_FLOAT_TAG, _DATE_TAG)]
        for first, known in resolver.yaml_implicit_resolvers.items()
    }
    pattern = re.compile(f"(?:{_FLOAT.pattern})$", re.VERBOSE)
    resolver.add_implicit_resolver(_FLOAT_TAG, pattern, list("-+0123456789."))


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A safe loader that refuses repeated keys; the C version, if PyYAML has it, is ten times as fast."""

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(problem=f"the key {shorten(key.value)!r} occurs twice")
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        return dict(super().construct_mapping(node, deep=deep))


class _Dumper(yaml.SafeDumper):
    """The dumper for `_Loader`; it writes a repeated list twice, because the loader refuses aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_numbers_as_typed(_Loader)
_numbers_as_typed(_Dumper)


def to_yaml(config: dict[str, Any]) -> str:
    """The YAML text of a config."""
    return str(yaml.dump(config, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False))


def portable(value: Any) -> Any:
    """Replace infinities and NaN, which JSON lacks, by the strings that YAML writes for them."""
    words = {repr(number): word for word, number in _NOT_FINITE.items()}
    return _map_leaves(value, lambda leaf: words.get(repr(leaf), leaf) if isinstance(leaf, float) else leaf)


def restored(value: Any) -> Any:
    """The inverse of `portable`; a string such as ".inf" becomes a number, too."""
    return _map_leaves(value, lambda leaf: _NOT_FINITE.get(leaf, leaf) if isinstance(leaf, str) else leaf)


def _map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _map_leaves(inner, change) for name, inner in value.items()}
    return [_map_leaves(inner, change) for inner in value] if isinstance(value, list) else change(value)


def read_yaml(path: Path, *, references: bool = False) -> dict[str, Any]:
    """Read the config in a YAML file. Raises: UsageError, as `read_config_text` and `parse_yaml`."""
    return parse_yaml(read_config_text(path), path, references=references)


def read_config_text(path: Path) -> str:
    """The text of a config file, without a byte order mark. Raises: UsageError if it cannot be read."""
    try:
        return files.read_text(path, files.MOST_CONFIG_BYTES).removeprefix("\ufeff")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not valid YAML: it is not UTF-8") from error
    except ValueError as error:
        raise UsageError(f"{path} is not a config: {str(error).removeprefix(f'{path} is ')}") from error


def parse_yaml(text: str, origin: Path, *, references: bool = False) -> dict[str, Any]:
    """Parse the config in a YAML text into plain values.

    Args: references: whether a value may refer to another, for example `${seed}`; references stay unresolved.
    Raises: UsageError, one sentence, for invalid YAML, a text without keys, a repeated key, anchors and aliases (a few
        lines expand to gigabytes), tags (which call functions), deep nesting, and what `check_plain` refuses.
    """
    try:
        _check_events(text, origin)
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{origin} is not valid YAML: {shorten(' '.join(str(error).split()), 300)}") from error
    if content is None and references:  # `references` is for presets, which may be empty
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{origin} is not a config: it has no keys")
    check_plain(content, origin, references=references)
    return content


def _check_events(text: str, origin: Path) -> None:
    depth = 0
    for event in yaml.parse(io.StringIO(text), _Loader):
        if getattr(event, "anchor", None):
            raise UsageError(f"{origin} has aliases, which are not supported: write the value itself")
        if getattr(event, "tag", None):
            raise UsageError(
                f"{origin} has the tag {shorten(str(event.tag))}, which is not supported: write a plain value"
            )
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > files.DEEPEST:
            raise UsageError(f"{origin} is not a config: it is nested more than {files.DEEPEST} deep")


def check_plain(value: Any, origin: object = "", key: str = "", *, references: bool = False) -> None:
    """Check that a config may hold a value: a string, number, boolean, null, list, or mapping with string keys.

    Args: origin, key: the file and the key that hold the value, for messages. references: see `parse_yaml`.
    Raises: UsageError that names the first key with another value, or with a reference that is not allowed.
    """
    location = f"{origin}: {key}" if origin and key else f"{origin}{key}"
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str) or "${" in name:
                raise UsageError(f"{location}: {shorten(repr(name))} is not a key of a config")
            check_plain(inner, origin, f"{key}.{shorten(name)}" if key else shorten(name), references=references)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            check_plain(inner, origin, f"{key}[{number}]", references=references)
    elif not isinstance(value, str | int | float | None):
        raise UsageError(f"{location} is of the type {type(value).__name__}, which a config cannot hold")
    elif isinstance(value, str) and "${" in value and not (references and has_plain_references(value)):
        start = min(value.index(mark) for mark in ("${", "\\") if mark in value)
        found = shorten(f"'{value[start:]}'", 60)
        fault = "is not a plain reference such as ${seed}" if references else "is not resolved here"
        raise UsageError(f"{location} contains {found}, which {fault}: write the value itself")


def has_plain_references(value: Any) -> bool:
    """Whether all references in a value are plain, such as `${seed}`; a reference in a text with a backslash is not."""
    if not isinstance(value, str) or "${" not in value:
        return True
    return "\\" not in value and "${" not in _REFERENCE.sub("", value)


def check_unfolded(config: dict[str, Any]) -> None:
    """Check that a config stays within the size limit of a config file once its references are resolved.

    Ten lines of nine references each would expand to gigabytes, so the sizes are added up without resolving. A
    reference to a missing value, or to itself, adds nothing: resolving it fails later.

    Raises: UsageError that names the first key that is too large or too deep, or a reference through a reference.
    """
    _size(config, (), 0, {})


_KeyPath = tuple[str, ...]
"""The parts of a dotted key of a config."""


def _size(
    config: dict[str, Any], path: _KeyPath, depth: int, known: dict[_KeyPath, tuple[int, int]]
) -> tuple[int, int]:
    """The size of a value once resolved (characters plus values), and its height (levels nested inside the value).

    A mapping, a list and a reference are one level each. Args: depth: levels above the value. known: results by path.
    """
    if path in known:
        return known[path]
    known[path] = 0, 0  # ends the recursion for a value that refers to itself
    value = _value_at(config, path)
    size, inner_paths = 1, []
    if isinstance(value, dict):
        size += sum(map(len, value))
        inner_paths = [(*path, name) for name in value]
    elif isinstance(value, list):
        inner_paths = [(*path, str(index)) for index in range(len(value))]
    else:
        size += len(_REFERENCE.sub("", str(value)))
        for name in _REFERENCE.findall(str(value)):
            dotted = name.lstrip(".")
            dots = len(name) - len(dotted)  # one for each level up; a name without a dot starts at the top
            inner_paths.append((*(path[:-dots] if dots else ()), *dotted.split(".")))
    height = 0
    for inner_path in inner_paths:
        is_too_deep = depth >= _LONGEST_CHAIN
        inner_size, inner_height = (0, _LONGEST_CHAIN) if is_too_deep else _size(config, inner_path, depth + 1, known)
        size, height = size + inner_size, max(height, inner_height + 1)
    if depth + height > _LONGEST_CHAIN:
        raise UsageError(f"{_key(path)}: lists and references are nested more than {_LONGEST_CHAIN} deep")
    if size > files.MOST_CONFIG_BYTES:
        limit = f"{files.MOST_CONFIG_BYTES:,} characters"
        raise UsageError(f"{_key(path)} is longer than {limit} once its references are resolved")
    known[path] = size, height
    return size, height


def _value_at(config: dict[str, Any], path: _KeyPath) -> Any:
    """The value at a path; None for a missing key. Raises: UsageError for a path through a reference."""
    value: Any = config
    for name in path:
        if isinstance(value, str) and "${" in value:
            raise UsageError(
                f"${{{_key(path)}}} passes through another reference, {shorten(value)}: name the value itself"
            )
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            value = None
    return value


def _key(path: _KeyPath) -> str:
    return shorten(".".join(path) or "the config")
