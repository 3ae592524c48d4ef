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

CLICKS = ("task.test_trials=300", "task.validation_trials=50")


class Recipe(NamedTuple):
    """What shows that a recipe works."""

    row: str = ""  # the name of the new rows in the suite's tables
    shrink: tuple[str, ...] = ()  # overrides that make its runs short
    metric: str = "accuracy"
    above: float = 0.0  # what the metric is after the first run
    quick: bool = False  # whether `make test` follows it


RECIPES = {
    "a neuron": Recipe("ReLI", ("train.updates=60", *CLICKS), above=0.75, quick=True),
    "a connection": Recipe("LIF-sparse", ("train.updates=60", *CLICKS), above=0.75),
    "a rule": Recipe("Normalized", ("train.updates=60", *CLICKS), above=0.75),
    "a loss": Recipe("huber", ("train.updates=200",), above=0.9),
    "an encoder": Recipe("regular"),
    "a task": Recipe("louder", ("train.updates=100",), above=0.8, quick=True),
    "a task with rewards": Recipe("levers", ("train.updates=300",), "return", above=0.6),
    "a plot": Recipe("speed"),
    "an option of `train`": Recipe(),
    "a verb": Recipe(quick=True),
}

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
            shutil.copy(ROOT / name, copy / name)
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


def trained(copy: Path, *words: str, into: str) -> dict:
    """What `tracetorch run` with these words leaves in run.json."""
    main = "from tracetorch.cli.main import main; main()"
    ran(copy, "-c", main, *words, "device=cpu", f"output.dir={into}", where=copy.parent)
    return json.loads((copy.parent / into / "run.json").read_text())


def each(*names: str) -> pytest.MarkDecorator:
    rows = [pytest.param(name, name, id=name, marks=[pytest.mark.slow] * (not RECIPES[name].quick)) for name in names]
    return pytest.mark.parametrize(("copy", "name"), rows, indirect=["copy"])


@each(*RECIPES)
def test_a_recipe_works(copy, name):
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
    for path, where, code in found:
        if path.endswith(".yaml") and where == "a new file":
            first, second = (shlex.split(line.partition(":")[2])[2:] for line in code.splitlines()[1:3])
            facts = trained(copy, *first, *recipe.shrink, "train.figures=false", into="first")
            assert facts["summary"][recipe.metric] > recipe.above
            assert re.search(r"^_target_: (.*)", code, re.MULTILINE)[1] in json.dumps(facts["config"])
            trained(copy, *second, *recipe.shrink, "train.updates=2", "train.figures=false", into="second")
