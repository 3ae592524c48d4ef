"""What was typed, override by override, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from tracetorch.cli.adapter.reading import check_plain
from tracetorch.cli.errors import UsageError, quote, shorten

_KEY = re.compile(r"[A-Za-z_][\w./@:-]*", re.ASCII)
_LONGEST_KEY = 200
_NO_WORDS = ("null", "true", "false", "nan", "inf")  # without quotes, they are something else


@lru_cache(maxsize=1024)  # the jobs of a sweep have most of their lines in common
def parse(line: str, *, sweep: bool = False, search: bool = False) -> Override:
    """Read one override, and refuse what no run can take.

    Args:
        sweep: whether several values, and settings of launchers, are allowed.
        search: whether it may change a search.
    Raises: UsageError, one sentence.
    """
    key, equals, value = line.partition("=")
    try:
        line.encode()
        override = OverridesParser.create().parse_override(line)
    except UnicodeEncodeError as error:
        raise UsageError(f"{shorten(repr(line))} is not UTF-8") from error
    except (HydraException, ValueError) as error:  # the second of a number of more than 4,300 digits
        if not equals:
            raise UsageError(f"'{shorten(line)}' sets nothing: write key=value, such as seed=1") from error
        if sweep and any(not part.strip() for part in value.split(",")):
            raise UsageError(f"'{shorten(line)}': a value is missing before or after a comma") from error
        advice = f"quote it twice, such as '{shorten(key)}=\"…\"'" if value else "give it a value"
        raise UsageError(f"{shorten(key)}: the value {shorten(value)!r} cannot be read; {advice}") from error
    name = override.key_or_group
    if not name:
        raise UsageError(f"'{shorten(line)}' names no key: write key=value, such as seed=1")
    if len(name) > _LONGEST_KEY:
        raise UsageError(f"there is no key '{shorten(name)}'")
    if name.partition(".")[0] == "sweep" and not sweep:
        raise UsageError(f"'{shorten(line)}' makes many runs: tracetorch run -m {quote(shorten(line))}")
    if name.partition(".")[0] == "search" and not search:
        raise UsageError(f"'{shorten(line)}' makes many runs: tracetorch tune {quote(shorten(line))}")
    if override.is_sweep_override() and not sweep:
        raise UsageError(f"'{shorten(line)}' is a sweep over several values: tracetorch run -m {quote(shorten(line))}")
    if is_hydra_override(override) and not (sweep and (name == "hydra/launcher" or name.startswith("hydra.launcher."))):
        use = "only hydra/launcher and its settings hydra.launcher.…" if sweep else "Hydra's own settings"
        effect = "have an effect on a sweep" if sweep else "have no effect on a run"
        raise UsageError(f"'{shorten(line)}': {use} {effect}; leave it out")
    return override


def check_foreign(lines: Iterable[str], where: object) -> None:
    r"""Changes that were read from a file hold plain values, name other values of the config, and choose by name.

    They are checked after parsing, because `$\{oc.env:TOKEN\}` is a reference as well.
    Raises: UsageError that names the first that does more.
    """
    for line in lines:
        override = parse(line)
        key, value = override.key_or_group, None if override.is_delete() else override.value()
        if not _KEY.fullmatch(f"{key}@{override.package}" if override.package else key):
            raise UsageError(f"{where}: {shorten(repr(key))} is not a key of a config, such as seed or task.delay")
        check_plain(value, where, key, references=True)
        if "." not in key and ".." in str(value).split("/"):
            raise UsageError(f"{where}: {shorten(line)} would read a file of another folder; choose by name")


def is_hydra_override(override: Override) -> bool:
    """Whether it is for Hydra and not for the config."""
    return override.key_or_group.replace("/", ".").partition(".")[0] == "hydra"


def quote_value(value: Any) -> str:
    """A plain value as it is typed behind `key=`: read again, it is the same."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() if re.fullmatch(r"[A-Za-z]\w*", value) and value.lower() not in _NO_WORDS:
            return value
        case str():
            return QuotedString(value.replace("${", "\\${"), Quote.single).with_quotes()
        case dict():
            return "{" + ",".join(f"{name}:{quote_value(inner)}" for name, inner in value.items()) + "}"
        case list() | tuple():
            return f"[{','.join(map(quote_value, value))}]"
    return repr(value)
