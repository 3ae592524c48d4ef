"""Answers to a shell that asks what could be typed next: it calls `tracetorch` with the line in its environment."""

from __future__ import annotations

import io
import os
import shlex
import sys
from contextlib import redirect_stderr, suppress
from functools import partial
from typing import Any

import typer
from typer._completion_classes import BashComplete  # click's, which some releases of Typer bring along as their own

from tracetorch.cli.completion.arguments import Helper, helper
from tracetorch.cli.completion.offer import Offer
from tracetorch.printable import printable

VARIABLE = "_TRACETORCH_COMPLETE"
"""Set to anything if a shell asks; with _LINE, the line up to the cursor, and bash's _WORD, what it will replace."""

_CURSOR = "\0"
"""Marks its place in a line: no variable of the environment can hold it."""
_SEPARATOR = "\x1f"


def answer(app: typer.Typer) -> None:
    """Print what could be typed next, a line each. Whatever is wrong with what was typed: print nothing."""
    line, word = os.environ.get(f"{VARIABLE}_LINE", ""), os.environ.get(f"{VARIABLE}_WORD")
    with suppress(Exception, KeyboardInterrupt), redirect_stderr(io.StringIO()):
        typed, incomplete = split(line)
        lines = [] if word is None else [("lead", lead(incomplete, word), "")]
        lines += [(offer.kind, offer.value, offer.remark) for offer in complete(app, typed, incomplete)]
        text = "".join(f"{_SEPARATOR.join(fields)}\n" for fields in lines)
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))  # as it came, whatever the locale
        sys.stdout.flush()


def split(line: str) -> tuple[list[str], str]:
    """The words of a line, quotes resolved, after the name of the program; and the last one, still to be completed."""
    lexer = shlex.shlex(line + _CURSOR, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:  # a quote was not closed: the last word goes up to the end
        words.append(lexer.token)
    *typed, incomplete = words
    at = next((at for at, word in enumerate(typed) if "=" not in word), 0)  # after assignments, as in `A=1 tracetorch`
    return typed[at + 1 :], incomplete.replace(_CURSOR, "")


def lead(incomplete: str, word: str) -> str:
    """The first part of the incomplete word, which readline leaves as it is; it replaces only the rest, the word."""
    for replaced in (word, split(f"tracetorch {word}")[1]):
        if incomplete.endswith(replaced):
            return incomplete[: len(incomplete) - len(replaced)]
    return ""


def complete(app: typer.Typer, typed: list[str], incomplete: str) -> list[Offer]:
    """What could stand in the place of an incomplete word after these words.

    Typer, through click, knows the verbs and options, and which argument the word is for; `helper` knows arguments.
    """
    root: Any = typer.main.get_command(app)
    name = next((word for word in typed if not word.startswith("-")), None)
    params = root.commands[name].params if name else []  # a KeyError for a verb that is not there, as for any mistake
    for param in params:
        if found := helper(param):
            param.shell_complete = partial(_offers, found, param)
    option, equals, _ = incomplete.partition("=")
    glued = f"{option}=" if equals and option.startswith("-") else ""  # which click takes off, as in --out=DIR
    if glued and not any(option in param.opts and not param.is_flag for param in params):
        return []  # click would take what is behind it for an argument
    items = BashComplete(root, {}, "tracetorch", VARIABLE).get_completions(typed, incomplete)
    offers = [item if isinstance(item, Offer) else Offer("word", item.value, item.help or "") for item in items]
    return [_tidy(offer, glued) for offer in offers]


def _offers(found: Helper, param: Any, context: Any, incomplete: str) -> list[Offer]:
    offers = found(param, context, incomplete)
    return [offer for offer in offers if offer.kind == "folder" or offer.value.startswith(incomplete)]


def _tidy(offer: Offer, glued: str) -> Offer:
    if offer.kind == "folder":
        return offer._replace(remark=glued + offer.remark)
    return offer._replace(value=glued + offer.value, remark=printable(offer.remark))
