"""Texts that users read avoid words that earlier versions used and readers had to translate."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXTS = ("*.md", "docs/*.md", "benchmarks/*.md", "conf/**/*.yaml", "cli/**/*.py", "tracetorch/compare/*.j2")
MODULES = ("tracetorch/**/*.py", "experiments/**/*.py", "benchmarks/**/*.py")
"""Of these, the strings that users may read: messages, labels, helps."""

AVOIDED = {
    r"who(?:ever)|no(?:body)|some(?:body)|one who|for who\b": "things and programs are not people",
    r"a(?:new)": "write again, or new",
    r"for ever": "write without end, or endless",
    r"made up (one's|its) mind": "write deterministic policy",
    r"is told|are told|was told|told of|tells? of": "write gets, receives, reports; feedback, reward, label",
    r"(?<!there )(?:is|are|was|were) no (?!longer|more)\w+": "write is not a …",
    r"learnt": "one spelling: learned",
    r"by heart": "write memorise",
    r"side by side|beside (each|one) other": "write in parallel, or compared",
    r"sooner": "write faster, or earlier",
    r"goes? on with": "write continues",
    r"to the bit": "write exactly, or byte for byte",
}
"""Pattern of a phrase, and what to write instead."""


def avoided(lines: Iterable[tuple[int, str]], name: object = "") -> list[str]:
    """What is found in numbered lines of a file, and what to write instead."""
    return [
        f"{name}, line {number}: {match[0]!r}: {instead}"
        for number, line in lines
        for pattern, instead in AVOIDED.items()
        if (match := re.search(rf"\b(?:{pattern})\b", line, re.IGNORECASE))
    ]


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The strings of a module, without docstrings, and their lines."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def test_texts_messages_and_labels_avoid_these_words():
    texts, modules = ([path for one in some for path in ROOT.glob(one)] for some in (TEXTS, MODULES))
    assert len(texts) > 100 and len(modules) > 100
    found = [one for path in texts for one in avoided(enumerate(path.read_text("utf-8").splitlines(), 1), path)]
    found += [one for path in modules for one in avoided(strings(ast.parse(path.read_text("utf-8"))), path)]
    assert not found, "\n".join(found)
    line = "a policy that has settled is told of nothing, has made up its mind sooner, and goes on with it"
    assert len(avoided([(1, line)])) >= 3
