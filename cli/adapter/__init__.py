"""The only package that touches Hydra: it reads overrides and presets, composes configs, and makes their parts."""

from tracetorch.cli.adapter.composing import (
    PRESETS,
    Bases,
    Composed,
    Template,
    amend,
    compose,
    fill,
    keys_of,
    load,
    template,
)
from tracetorch.cli.adapter.making import function, make
from tracetorch.cli.adapter.overrides import GROUPS, check_foreign, parse, quote_value, typed_values
from tracetorch.cli.adapter.presets import conf_dir, note_of, options, preset_file
from tracetorch.cli.adapter.reading import check_plain, portable, read_yaml, restored
from tracetorch.cli.adapter.suggesting import is_own

__all__ = [
    "GROUPS",
    "PRESETS",
    "Bases",
    "Composed",
    "Template",
    "amend",
    "check_foreign",
    "check_plain",
    "compose",
    "conf_dir",
    "fill",
    "function",
    "is_own",
    "keys_of",
    "load",
    "make",
    "note_of",
    "options",
    "parse",
    "portable",
    "preset_file",
    "quote_value",
    "read_yaml",
    "restored",
    "template",
    "typed_values",
]
