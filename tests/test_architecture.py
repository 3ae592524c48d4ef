"""The floors of the building: who may import whom, read from the source.

4  cli                       everything
3  experiments               the library; never cli
2  plot, tasks, runs < compare, diagnostics < training   each may import those before it as MAY_IMPORT says
1  nn, loss < rules          nn and loss know neither each other nor the rules
0  constrain, functional, encode, backends, device, memory, files, printable, renamed

"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import tracetorch as tt
from tests import common
from tests.common_environments import ENVIRONMENTS

ROOT = Path(__file__).parents[1]

ZERO = {"constrain", "files", "functional", "modes", "printable", "renamed", "encode"}
ZERO |= {"backends", "device", "memory"}
ONE = {"nn", "loss", "rules"}
TWO = {"plot", "tasks", "runs", "compare", "diagnostics", "training"}
MAY_IMPORT = {
    **dict.fromkeys(ZERO, ZERO),
    "nn": ZERO | {"nn"},
    "loss": ZERO | {"loss"},
    "rules": ZERO | ONE,
    "plot": ZERO | ONE | {"plot"},
    "tasks": ZERO | ONE | {"tasks"},
    "runs": ZERO | {"nn", "runs"},
    "compare": ZERO | ONE | {"plot", "runs", "compare"},
    "diagnostics": ZERO | ONE | {"tasks", "runs", "diagnostics"},
    "training": ZERO | ONE | {"plot", "tasks", "runs", "diagnostics", "training"},
    "experiments": ZERO | ONE | TWO | {"experiments"},
    "cli": ZERO | ONE | TWO | {"experiments", "cli"},
}
MAY_IMPORT_INSIDE_A_FUNCTION = {"tasks": {"plot"}}


class Import(NamedTuple):
    """One imported name: the module's root, such as "torch"; for our own, the part of it; whether inside a function."""

    root: str
    part: str
    lazy: bool


def imports(source: str) -> Iterator[Import]:
    """All imports of a file, wherever they stand; `tracetorch.x` of a plain `import tracetorch` counts as one of x."""
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while todo:
        node, lazy = todo.pop()
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tracetorch":
            names = [f"tracetorch.{node.attr}"]
        for name in names:
            root, _, rest = name.partition(".")
            yield Import(root, rest.split(".")[0] if root == "tracetorch" else "", lazy)
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        todo += [(child, inside) for child in ast.iter_child_nodes(node)]


def files(*folders: str) -> list[Path]:
    found = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert found, f"no files in {folders}"
    return found


def part_of(path: Path) -> str:
    folder, *inside = path.relative_to(ROOT).parts
    return folder if folder != "tracetorch" else inside[0].removesuffix(".py")


ENTRIES = {ROOT / "tracetorch" / name for name in ("__init__.py", "__main__.py")}
LIBRARY = [path for path in files("tracetorch") if path not in ENTRIES]
SOURCES = LIBRARY + files("experiments", "cli")


def read(path: Path) -> list[Import]:
    return list(imports(path.read_text(encoding="utf-8")))


# ── floors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_counts_as_an_import():
    source = """
import torch.nn, tracetorch
from tracetorch import backends, functional as F
from tracetorch.nn.layer import Layer
if True:
    import hydra
def draw(): from tracetorch import plot
tracetorch.runs
"""
    assert set(imports(source)) == {
        Import("torch", "", False),
        Import("tracetorch", "", False),
        Import("tracetorch", "backends", False),
        Import("tracetorch", "functional", False),
        Import("tracetorch", "nn", False),
        Import("hydra", "", False),
        Import("tracetorch", "plot", True),
        Import("tracetorch", "runs", False),
    }


@pytest.mark.parametrize("part", sorted({part_of(path) for path in SOURCES}))
def test_a_part_imports_only_what_is_below_it(part):
    assert part in MAY_IMPORT, f"{part} is new: say in MAY_IMPORT, and in CONTRIBUTING.md, which floor it is on"
    wrong = []
    for path in SOURCES:
        if part_of(path) != part:
            continue
        for found in read(path):
            allowed = MAY_IMPORT[part] | (MAY_IMPORT_INSIDE_A_FUNCTION.get(part, set()) if found.lazy else set())
            own = found.root == "tracetorch" and found.part in MAY_IMPORT
            if (own and found.part not in allowed) or found.root in ("cli", "experiments", "tests"):
                wrong.append(f"{path.relative_to(ROOT)} imports {found.root}.{found.part}")
    assert not wrong


def test_every_floor_is_where_the_design_says():
    assert {part_of(path) for path in SOURCES} >= set(MAY_IMPORT)


def test_only_the_command_line_knows_hydra_and_terminals():
    banned = {"hydra", "omegaconf", "optuna", "typer", "rich"}
    below = files("tracetorch", "experiments")
    assert not [f"{path}: {found.root}" for path in below for found in read(path) if found.root in banned]
    assert banned <= {found.root for path in files("cli") for found in read(path)}


OF_HYDRA = [path for path in files("cli") if {"hydra", "omegaconf"} & {found.root for found in read(path)}]


@pytest.mark.parametrize("path", OF_HYDRA, ids=[path.name for path in OF_HYDRA])
def test_hydra_is_used_by_its_public_names_only(path):
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [
        f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert not [name for name in names if "._" in name]
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef)} | {"_replace"}  # of a NamedTuple
    used = [node for node in nodes if isinstance(node, ast.Attribute)]
    assert not [node.attr for node in used if re.match("_[^_]", node.attr) and node.attr not in own]
    assert not [node.attr for node in used if isinstance(node.ctx, ast.Store)]  # nothing of Hydra is replaced


def test_the_command_line_prints_through_one_module():
    prints = re.compile(r"(?<![\w.])print\(|\bConsole\(|\becho\(")
    found = {path.name for path in files("cli") if prints.search(path.read_text(encoding="utf-8"))}
    assert found == {"terminal.py"}


def test_the_lower_floors_stand_on_torch_alone_and_experiments_on_the_library():
    ours = {"torch", "tracetorch"} | set(sys.stdlib_module_names)
    wrong = []
    for path in SOURCES:
        part = part_of(path)
        if part in ZERO | ONE | {"experiments"}:
            allowed = ours | ({"numba", "numpy", "triton"} if part == "backends" else set())
            wrong += [f"{path}: {found.root}" for found in read(path) if found.root not in allowed]
    assert not wrong


def test_importing_the_package_does_not_load_torch():
    code = "import sys, tracetorch; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ── circles ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def module_of(path: Path) -> str:
    """The dotted name under which a file is imported."""
    parts = [part for part in path.relative_to(ROOT).with_suffix("").parts if part not in ("tracetorch", "__init__")]
    return ".".join(["tracetorch", *parts])


def loaded(source: str, for_types: bool) -> Iterator[str]:
    """What a file imports while it is loaded, `from a import b` as a.b; `for_types`: also under `if TYPE_CHECKING`."""
    todo: list[ast.AST] = [ast.parse(source)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not for_types:
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        todo += ast.iter_child_nodes(node)


def circle(sources: dict[str, str], for_types: bool) -> list[str]:
    """Modules, by name, that import each other in a circle; none if there is no circle."""
    graph = {}
    for module, source in sources.items():
        names = loaded(source, for_types)
        graph[module] = {name if name in sources else name.rpartition(".")[0] for name in names} & sources.keys()
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("from t.b import x", "from t import a", True),
        ("from t.b import x", "import t.a", True),
        ("import t.a", "", True),
        ("if x:\n    import t.b", "class A:\n    import t.a", True),
        ("if TYPE_CHECKING:\n    from t.b import x", "from t.a import y", "for types"),
        ("if typing.TYPE_CHECKING:\n    x = 1\nelse:\n    import t.b", "from t.a import y", True),
        ("def f(): import t.b", "from t.a import y", False),
        ("from t.b import x", "from t.c import y", False),
    ],
)
def test_what_counts_as_a_circle(one, other, found):
    sources = {"t": "", "t.a": one, "t.b": other, "t.c": "import torch"}
    assert bool(circle(sources, for_types=True)) == bool(found)
    assert bool(circle(sources, for_types=False)) == (found is True)


def test_no_modules_import_each_other_in_a_circle():
    paths = files("tracetorch", "experiments", "cli")
    sources = {module_of(path): path.read_text(encoding="utf-8") for path in paths}
    assert {"tracetorch", "tracetorch.nn.layer", "tracetorch.cli.adapter", "tracetorch.training.loop"} <= set(sources)
    assert circle(sources, for_types=False) == []
    assert circle(sources, for_types=True) == []


# ── configs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_conf_holds_yaml_only():
    found = [path for path in (ROOT / "conf").rglob("*") if path.is_file()]
    assert found and not [path for path in found if path.suffix != ".yaml"]


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────


TOLD_OF_REWARDS = {"ActorCritic", "Reflect", "RewardLoss", "ThreeFactor"}
"""They take no targets: loss/test_rewards, rules/test_three_factor; all of them in training/test_reinforcement."""


def kinds_of(base: type) -> set[str]:
    """The public names of `tasks` that are a kind of `base`, without it."""
    found = {name: getattr(tt.tasks, name) for name in tt.tasks.__all__}
    return {name for name, kind in found.items() if issubclass(kind, base) and kind is not base}


@pytest.mark.parametrize(
    ("rows", "public"),
    [
        (common.LAYERS, {"Sequential", "feedforward", *tt.nn.neurons.__all__} - {"Values"}),
        (common.LOSSES, set(tt.loss.__all__) - TOLD_OF_REWARDS),
        (common.ENCODERS, set(tt.encode.ENCODERS)),
        (common.RULES, set(tt.rules.__all__) - TOLD_OF_REWARDS - {"Rule"}),
        (common.TASKS, kinds_of(tt.tasks.Task)),
        (ENVIRONMENTS, kinds_of(tt.tasks.Environment)),
    ],
    ids=["layers", "losses", "encoders", "rules", "tasks", "environments"],
)
def test_every_public_name_has_a_row_in_the_table(rows, public):
    assert {row.of for row in rows} == public
    assert len({row.name for row in rows}) == len(rows)
