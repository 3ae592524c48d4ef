"""Completions of a command line. A shell's script calls `tracetorch` with the typed line in its environment.

Each line of the answer has three fields: a kind, a completion, a remark. The shell itself completes lines of the kind
`folder`: their second field is the path as typed, their third the text before the path. A line of the kind `lead`, for
bash alone, has the start of the incomplete word, which the completions repeat and bash keeps.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, suppress
from functools import partial
from typing import Any

import typer
from typer._completion_classes import BashComplete, CompletionItem, click_split_arg_string  # Typer contains click

from tracetorch.printable import printable

VARIABLE = "_TRACETORCH_COMPLETE"
"""The variable that completion scripts set. Suffix _LINE: the line up to the cursor; _WORD: what bash replaces."""

_KINDS = {"plain": "word", "dir": "folder"}  # by click's type; our types `key` (a word without a space) and `lead` stay


def answer(app: typer.Typer) -> None:
    """Print the completions, one per line; nothing if the typed line is invalid."""
    line, word = os.environ.get(f"{VARIABLE}_LINE", ""), os.environ.get(f"{VARIABLE}_WORD")
    with suppress(Exception, KeyboardInterrupt), redirect_stderr(io.StringIO()):
        typed, incomplete = split_line(line)
        items = [] if word is None else [CompletionItem(lead(incomplete, word), type="lead")]
        items += complete(app, typed, incomplete)
        rows = [(_KINDS.get(item.type, item.type), item.value, printable(item.help or "")) for item in items]
        text = "".join("\x1f".join(row) + "\n" for row in rows)  # not tabs: `read` merges two
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))  # unchanged in any locale


def split_line(line: str) -> tuple[list[str], str]:
    """The words after the name of the program, quotes resolved; and the incomplete word."""
    *typed, incomplete = click_split_arg_string(f"{line}\0")  # a mark that no environment variable can hold
    program = next((at for at, word in enumerate(typed) if "=" not in word), 0)  # its index: after A=1, for example
    return typed[program + 1 :], incomplete.replace("\0", "")


def lead(incomplete: str, word: str) -> str:
    """The start of the incomplete word, which readline keeps. Args: word: the rest, which readline replaces."""
    replaced = (word, split_line(f"tracetorch {word}")[1])
    return next((incomplete.removesuffix(end) for end in replaced if incomplete.endswith(end)), "")


def complete(app: typer.Typer, typed: list[str], incomplete: str) -> list[CompletionItem]:
    """The completions of an incomplete word after the typed words. Raises: KeyError for an unknown verb."""
    root: Any = typer.main.get_command(app)
    name = next((word for word in typed if not word.startswith("-")), None)
    params = root.commands[name].params if name else []
    for param in params:
        param.shell_complete = partial(_items, param)
    option, equals, _ = incomplete.partition("=")
    glued = f"{option}=" if equals and option.startswith("-") else ""  # click removes it, as in --out=DIR
    if glued and not any(option in param.opts and not param.is_flag for param in params):
        return []  # click would complete an argument
    items = BashComplete(root, {}, "tracetorch", VARIABLE).get_completions(typed, incomplete)
    for item in items:
        if item.type == "dir":
            item.help = glued + (item.help or "")
        else:
            item.value = glued + item.value
    return items


def _items(param: Any, context: Any, incomplete: str) -> list[CompletionItem]:
    """Completions of an argument or option, by its metavar: a new verb with a DIR completes folders."""
    kind = (param.metavar or param.name.upper()).rstrip(".")
    if kind == "DIR":
        return [CompletionItem(incomplete, type="dir")]
    if kind not in ("KEY=VALUE", "KEY", "GROUP"):
        return list(type(param).shell_complete(param, context, incomplete))
    from tracetorch.cli.completion.changes import completions  # loads Hydra

    items = completions(kind, param, context, incomplete)
    return [item for item in items if item.type == "dir" or item.value.startswith(incomplete)]
