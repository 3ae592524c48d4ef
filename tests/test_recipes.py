"""The recipes of CONTRIBUTING.md, each followed to the letter in a copy of the repository.

What the page says is written into the files that it names. The linter then accepts the copy, the suite's tests of the
new row pass, the commands of the new YAML train, and the result is better than chance.
"""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.test_docs import ROOT


class Recipe(NamedTuple):
    """What shows that a recipe works."""

    row: str = ""  # the name of the new rows in the suite's tables
    words: tuple[str, ...] = ()  # of its run: these, after those in the header of its YAML if it has one
    above: float = 0.0  # what the run's accuracy or return is in the end; more than guessing gives
    quick: bool = False  # whether `make test` follows it


CLICKS = ("task.test_trials=300", "task.validation_trials=50", "train.updates=60")
DIGITS = ("train.passes=null", "train.updates=60")
PATTERNS = ("experiment=patterns", "train.updates=150")
RECIPES = {
    "a neuron": Recipe("ReLI", DIGITS, above=0.4),
    "a connection": Recipe("LIF-sparse", DIGITS, above=0.4),
    "a rule": Recipe("Normalized", CLICKS, above=0.7),
    "a loss": Recipe("huber", ("train.updates=150",), above=0.7),
    "an encoder": Recipe("regular", (*PATTERNS, "task.encoding=regular"), above=0.7),
    "a task": Recipe("louder", ("train.updates=60",), above=0.7),
    "a task with rewards": Recipe("levers", ("train.updates=200",), above=0.7),
    "a plot": Recipe("speed", ("train.updates=2",), quick=True),
    "an option of `train`": Recipe("", PATTERNS, above=0.7),
    "a verb": Recipe("", ("train.updates=2", *CLICKS[:2])),
}

KERNELS = "tracetorch/backends/cpu/__pycache__"

ITEM = re.compile(
    r"^(?:- )?`(?P<path>[^`]+)`, (?P<where>[^:`]*(?:`[^`]+`)?):"  # such as: - `tests/common.py`, in `LAYERS`:
    r"(?: `(?P<code>[^\n]+)`$|\n\n(?P<indent> *)```\w+\n(?P<block>.*?)^ *```$)",
    re.MULTILINE | re.DOTALL,
)


def items(recipe: str) -> list[tuple[str, str, str]]:
    """The path, the place and the code of each item of a recipe."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## Add {re.escape(recipe)}\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL)
    found = list(ITEM.finditer(section))
    assert len(found) == len(re.findall(r"^(?:- )?`[\w./]+`, ", section, re.MULTILINE)), "an item is not understood"
    return [(one["path"], one["where"], one["code"] or textwrap.dedent(one["block"])) for one in found]


def with_entry(text: str, table: str, code: str) -> str:
    """The text of a module with one more entry at the end of a table."""
    (value,) = [
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and table in map(ast.unparse, node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    lines = text.splitlines(keepends=True)
    last = lines[value.end_lineno - 1].encode()
    at = sum(map(len, lines[: value.end_lineno - 1])) + len(last[: value.end_col_offset - 1].decode())
    before = text[:at].rstrip()
    return f"{before}{'' if before.endswith((',', '[', '{', '(')) else ','}\n    {code},\n{text[at:]}"


def follow(copy: Path, path: str, where: str, code: str) -> None:
    """Do what an item of a recipe says."""
    file, (place, _, name) = copy / path, where.rstrip("`").partition("`")
    if where == "a new file":
        assert not file.exists()
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
        return
    text = file.read_text(encoding="utf-8")
    if place == "in ":
        text = with_entry(text, name, code)
    elif where == "exported":
        text = with_entry(text, "__all__", f'"{code.rpartition(" ")[2]}"')
        text = re.sub(r"^(?=from )", f"{code}\n", text, count=1, flags=re.MULTILINE)
    elif where.startswith("in the section "):
        title = where.removeprefix("in the section ").strip("*")
        end = re.compile(rf"(^### {title}\n\n.*?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
        text, count = end.subn(rf"\1\n{code}", text)
        assert count == 1
    else:
        lines = text.splitlines()
        (at,) = [at for at, line in enumerate(lines) if line.strip().startswith(name)]
        indent = " " * (len(lines[at]) - len(lines[at].lstrip()))
        at += {"below ": 1, "above ": 0}[place]
        lines[at:at] = textwrap.indent(code, indent).removesuffix("\n").split("\n")
        text = "\n".join([*lines, ""])
    file.write_text(text, encoding="utf-8")


@pytest.fixture
def copy(tmp_path, request):
    """A copy of the repository in which a recipe was followed, as the only traceTorch that its processes can import."""
    copy = tmp_path / "copy"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for kernel in (ROOT / KERNELS).glob("*.nbc"):  # valid for sources of the same time; what is compiled is not
        (copy / KERNELS).mkdir(exist_ok=True)
        shutil.copy2(kernel, copy / KERNELS)
    for part in ("cli", "conf", "experiments"):  # what the installation does
        (copy / "tracetorch" / part).symlink_to(copy / part)
    for item in items(request.param):
        follow(copy, *item)
    return copy


def ran(copy: Path, *words: str, where: Path | None = None) -> str:
    """The output of a command of Python in the copy, which succeeds."""
    how = {"cwd": where or copy, "env": os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}}
    done = subprocess.run([sys.executable, *words], check=False, capture_output=True, text=True, **how)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def tracetorch(copy: Path, *words: str) -> str:
    """The output of a verb in the copy, in the folder above it."""
    return ran(copy, "-c", "from tracetorch.cli.main import main; main()", *words, where=copy.parent)


def result(copy: Path, folder: str, *words: str) -> float:
    """Run, and return the accuracy or return in the test."""
    tracetorch(copy, "run", *words, "device=cpu", f"output.dir={folder}")
    summary = json.loads((copy.parent / folder / "run.json").read_text())["summary"]
    return summary.get("accuracy", summary.get("return"))


@pytest.mark.parametrize(
    "copy",
    [pytest.param(name, marks=[pytest.mark.slow] * (not one.quick)) for name, one in RECIPES.items()],
    indirect=True,
)
def test_a_recipe_works(copy, request):
    name = request.node.callspec.params["copy"]
    recipe, found = RECIPES[name], items(name)
    ran(copy, "-m", "ruff", "check", "--fix", "--quiet", ".")
    ran(copy, "-m", "ruff", "format", "--quiet", ".")
    of_tests = [(path, where) for path, where, _ in found if path.startswith("tests/")]
    own = [path for path, where in of_tests if where == "a new file"]
    tables = re.compile("|".join(rf"\b{where[4:-1]}\b" for _, where in of_tests if where.startswith("in ")) or "^$")
    rows = [str(file) for file in (copy / "tests").rglob("test_*.py") if tables.search(file.read_text())]
    if own or rows:
        output = ran(copy, "-m", "pytest", "-q", *own, *rows, *(["-k", recipe.row] if rows else []))
        assert re.search(r"\b[1-9]\d* passed", output), output
    presets = [code for path, where, code in found if path.endswith(".yaml") and where == "a new file"]
    lines = [line for code in presets for line in code.splitlines()[1:3]]  # Run and Override
    typed = [shlex.split(line.partition("tracetorch run ")[2]) for line in lines] or [()]
    assert result(copy, "first", *typed[0], *recipe.words) > recipe.above
    for words in typed[1:]:  # what the header says to try
        result(copy, "second", *words, "train.updates=2", "train.figures=false")
    if name == "a plot":
        assert (copy.parent / "first/plots/speed.svg").is_file()
    if name == "an option of `train`":
        start = "train.start_from=first/checkpoints/latest.pt"
        assert result(copy, "second", "experiment=patterns", "train.updates=1", start) > recipe.above
    if name == "a verb":
        assert "own " in tracetorch(copy, "--help") and "Examples:" in tracetorch(copy, "own", "--help")
        assert "records in first/metrics.jsonl" in tracetorch(copy, "own", "first")


@pytest.mark.slow
@pytest.mark.parametrize("copy", ["a neuron"], indirect=True)
def test_the_neuron_of_the_page_learns_as_well_as_lif(copy):
    own = result(copy, "own", "network=own_neuron", "network.neuron.trainable=[weight]")
    lif = result(copy, "lif", "network=lif_lis")
    assert own > 0.9 * lif > 0.8
