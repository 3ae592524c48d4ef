"""The only package that touches Hydra: composing configs, making what they describe, launching the jobs of a sweep."""

from tracetorch.cli.adapter.composing import (
    GROUPS,
    PRESETS,
    Composed,
    amend,
    compose,
    conf_dir,
    load,
    options,
    read_yaml,
)
from tracetorch.cli.adapter.making import function, make
from tracetorch.cli.adapter.overrides import parse, written

__all__ = [
    "GROUPS",
    "PRESETS",
    "Composed",
    "amend",
    "compose",
    "conf_dir",
    "function",
    "load",
    "make",
    "options",
    "parse",
    "read_yaml",
    "written",
]
