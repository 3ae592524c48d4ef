"""Texts that users read avoid words that earlier versions used and readers had to translate."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "conf/**/*.yaml", "cli/**/*.py", "tracetorch/compare/*.j2")
    for path in ROOT.glob(pattern)
)
MODULES = sorted(path for part in ("tracetorch", "experiments", "benchmarks") for path in (ROOT / part).rglob("*.py"))
"""Of these, the strings that users may read: messages, labels, helps."""

AVOIDED = {
    r"whoever|nobody|somebody|one who|for who\b": "things and programs are not people",
    r"anew|begun anew": "write again, or new",
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


def avoided(lines: Iterable[tuple[int, str]]) -> str:
    """What is found in numbered lines, and what to write instead."""
    return "\n".join(
        f"line {number}: {match[0]!r}: {instead}"
        for number, line in lines
        for pattern, instead in AVOIDED.items()
        if (match := re.search(rf"\b(?:{pattern})\b", line, re.IGNORECASE))
    )


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The strings of a module, without docstrings, and their lines."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", TEXTS, ids=[str(path.relative_to(ROOT)) for path in TEXTS])
def test_a_text_avoids_these_words(path):
    found = avoided(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    assert not found, found


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(ROOT)) for path in MODULES])
def test_messages_and_labels_avoid_them_too(path):
    found = avoided(strings(ast.parse(path.read_text(encoding="utf-8"))))
    assert not found, found


def test_the_list_finds_what_it_names():
    line = "a policy that has settled is told of nothing, and nobody has made up its mind"
    assert sum(bool(re.search(rf"\b(?:{pattern})\b", line)) for pattern in AVOIDED) >= 3
