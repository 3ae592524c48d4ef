"""Suggestions for a key that does not exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tracetorch.cli.errors import did_you_mean, shorten
from tracetorch.cli.signatures import signature
from tracetorch.renamed import ARGUMENTS

Config = dict[str, Any]

_SYNONYMS = {  # names that other programs give to our keys
    **dict.fromkeys(("epoch", "epochs", "num_epochs", "max_epochs"), "passes"),
    **dict.fromkeys(("layers", "layer_sizes", "hidden_size", "hidden_sizes"), "hidden"),
    "learning_rate": "lr",
}
_MISSING = object()


def value_at(config: Config, name: str, default: Any = None) -> Any:
    """The value of a dotted key, or the default if a config does not have the key."""
    node: Any = config
    for part in name.split("."):
        if not isinstance(node, dict) or part not in node:
            return default
        node = node[part]
    return node


def has_key(config: Config, name: str) -> bool:
    """Whether a config has the dotted key `name`; a key that is set to null counts."""
    return value_at(config, name, _MISSING) is not _MISSING


def no_such_key(name: str, config: Config, keys_of: Callable[[str], dict[str, list[str]]] | None = None) -> str:
    """The message for a dotted key that a config does not have. Args: keys_of: the keys of each choice of a group."""
    parts = name.split(".")
    node: Any = config
    depth = 0
    while depth < len(parts) and isinstance(node, dict) and parts[depth] in node:
        node, depth = node[parts[depth]], depth + 1
    parent, word = ".".join(parts[:depth]), parts[min(depth, len(parts) - 1)]
    if not isinstance(node, dict):
        return f"{shorten(name)}: {parent} is a value ({shorten(node)}) and has no parts."
    known = [key for key in node if not key.startswith("_")]
    listing = f"{parent} has {', '.join(known) or 'no keys'}" if parent else f"there are {', '.join(known)}"
    prefix = f"{parent}." if parent else ""
    if (new_name := ARGUMENTS.get(word)) in known:
        return f"{shorten(name)} is now {prefix}{new_name}"
    hint = f" Did you mean '{prefix}{_SYNONYMS[word]}'?" if _SYNONYMS.get(word) in known else ""
    hint = hint or did_you_mean(word, known, prefix)
    if not hint and len(parts) == 2 and keys_of:
        hint = _in_another_choice(parts[0], word, keys_of(parts[0]))
    if not hint and not node.get("_partial_"):  # an argument that the config does not set
        hint = did_you_mean(word, signature(str(node.get("_target_"))) or {}, prefix)
    return f"{shorten(name)}: there is no key '{shorten(word)}'.{hint or _in_a_part(word, config)} Here {listing}."


def _in_another_choice(group: str, word: str, keys: dict[str, list[str]]) -> str:
    """The hint for a key that other choices of the group have; "" if no choice has it."""
    owners = [f"{group}={choice}" for choice, known in keys.items() if word in known]
    if owners:
        return f" It belongs to {' and '.join(filter(None, (', '.join(owners[:-1]), owners[-1])))}."
    every = list(dict.fromkeys(key for known in keys.values() for key in known))
    if not (hint := did_you_mean(word, every, f"{group}.")):
        return ""
    owner = next(choice for choice, known in keys.items() if any(f"'{group}.{key}'" in hint for key in known))
    return f"{hint[:-1]}, which {group}={owner} has?"


def _in_a_part(word: str, config: Config) -> str:
    """The hint for a key that a part of the config has; "" if no part has it."""
    keys = [f"{name}.{key}" for name, node in config.items() if isinstance(node, dict) for key in node]
    names = (word, _SYNONYMS.get(word))
    return next((f" Did you mean '{key}'?" for key in keys if key.rpartition(".")[2] in names), "")
