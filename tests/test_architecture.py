"""The floors of the building: who may import whom, read from the source.

4  cli                       everything; tracetorch.run and tracetorch.load are its functions, loaded late
3  experiments               the library; never cli
2  plot, tasks, runs < compare, diagnostics, interop < training   each may import those before it as MAY_IMPORT says
1  nn, loss < rules          nn and loss know neither each other nor the rules
0  constrain, functional, encode, backends, data, device, memory, modes, files, printable, renamed, optional, loggers

"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from inspect import Parameter, signature
from pathlib import Path
from pydoc import locate

import yaml

import tracetorch as tt
from tests import common
from tests.common_environments import ENVIRONMENTS

ROOT = Path(__file__).parents[1]

ZERO = {"constrain", "files", "functional", "modes", "optional", "printable", "renamed", "encode"}
ZERO |= {"backends", "data", "device", "memory", "loggers"}
ONE = {"nn", "loss", "rules"}
TWO = {"plot", "tasks", "runs", "compare", "diagnostics", "training", "interop"}
MAY_IMPORT = {
    **dict.fromkeys(ZERO, ZERO),
    "nn": ZERO | {"nn"},
    "loss": ZERO | {"loss"},
    "rules": ZERO | ONE,
    "plot": ZERO | ONE | {"plot"},
    "tasks": ZERO | ONE | {"tasks"},
    "runs": ZERO | {"nn", "runs"},
    "compare": ZERO | ONE | {"plot", "runs", "compare"},
    "interop": ZERO | ONE | {"runs", "interop"},
    "diagnostics": ZERO | ONE | {"tasks", "runs", "diagnostics"},
    "training": ZERO | ONE | {"plot", "tasks", "runs", "diagnostics", "training"},
    "experiments": ZERO | ONE | TWO | {"experiments"},
    "cli": ZERO | ONE | TWO | {"experiments", "cli"},
}
OTHERS = {"backends": {"numba", "numpy", "triton"}, "data": {"numpy", "scipy", "pandas", "PIL", "h5py"}}
MAY_IMPORT_INSIDE_A_FUNCTION = {"tasks": {"plot"}}


def names_of(node: ast.AST) -> list[str]:
    """What a node imports, `from a import b` as a.b; `tracetorch.x` of a plain `import tracetorch` counts too."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tracetorch":
        return [f"tracetorch.{node.attr}"]
    return []


def imports(source: str) -> Iterator[tuple[str, bool]]:
    """Each imported name, and whether it is imported inside a function."""
    todo: list[tuple[ast.AST, bool]] = [(ast.parse(source), False)]
    while todo:
        node, lazy = todo.pop()
        yield from ((name, lazy) for name in names_of(node))
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        todo += [(child, inside) for child in ast.iter_child_nodes(node)]


def parts(source: str) -> list[tuple[str, str, bool]]:
    """Of each imported name: its root, such as "torch"; for our own, the part of it; whether inside a function."""
    split = [([*name.split("."), ""], lazy) for name, lazy in imports(source)]
    return [(root, part if root == "tracetorch" else "", lazy) for (root, part, *_), lazy in split]


def files(*folders: str) -> list[Path]:
    found = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    assert found, f"no files in {folders}"
    return found


def part_of(path: Path) -> str:
    folder, *inside = path.relative_to(ROOT).parts
    return folder if folder != "tracetorch" else inside[0].removesuffix(".py")


ENTRIES = {ROOT / "tracetorch" / name for name in ("__init__.py", "__main__.py")}
SOURCES = {path: path.read_text(encoding="utf-8") for path in files("tracetorch", "experiments", "cli")}
IMPORTS = {path: parts(source) for path, source in SOURCES.items() if path not in ENTRIES}


def test_the_reader_of_imports():
    source = "import torch.nn, tracetorch\nif 1:\n    from tracetorch.nn.layer import Layer\ntracetorch.runs\n"
    assert set(parts(source)) == {("torch", "", False), *(("tracetorch", part, False) for part in ("", "nn", "runs"))}
    assert set(parts("def draw(): from tracetorch import plot")) == {("tracetorch", "plot", True)}


def test_a_part_imports_only_parts_below_it_and_the_lower_ones_only_torch():
    wrong = {part_of(path) for path in IMPORTS} ^ set(MAY_IMPORT)
    assert not wrong, f"say in MAY_IMPORT, and in CONTRIBUTING.md, which floor they are on: {wrong}"
    ours = {"torch", "tracetorch"} | set(sys.stdlib_module_names)
    for path, found in IMPORTS.items():
        part = part_of(path)
        others = ours | OTHERS.get(part, set())
        for root, own, lazy in found:
            allowed = MAY_IMPORT[part] | (MAY_IMPORT_INSIDE_A_FUNCTION.get(part, set()) if lazy else set())
            if (root == "tracetorch" and own in MAY_IMPORT.keys() - allowed) or root in ("cli", "experiments", "tests"):
                wrong.add(f"{path}: {root}.{own}")
            if part in ZERO | ONE | {"experiments"} and root not in others:
                wrong.add(f"{path}: {root}")
    assert not wrong


def test_only_the_command_line_imports_hydra_and_only_its_public_names():
    banned, private = {"hydra", "omegaconf", "optuna", "typer", "rich"}, []
    roots = {path: {root for root, _, _ in found} for path, found in IMPORTS.items()}
    assert not [(path, some & banned) for path, some in roots.items() if part_of(path) != "cli" and some & banned]
    assert banned <= set().union(*roots.values())
    for path in [path for path, some in roots.items() if some & {"hydra", "omegaconf"}]:
        nodes = list(ast.walk(ast.parse(SOURCES[path])))
        private += [(path, name) for node in nodes for name in names_of(node) if "._" in name]
        own = {node.name for node in nodes if isinstance(node, ast.FunctionDef)} | {"_replace"}  # of a NamedTuple
        for node in nodes:
            if isinstance(node, ast.Attribute):
                hidden = re.match("_[^_]", node.attr) and node.attr not in own
                private += [(path, node.attr)] * bool(hidden or isinstance(node.ctx, ast.Store))  # nothing is replaced
    assert not private


def test_the_package_itself_offers_two_functions_of_the_command_line_and_loads_them_late():
    stub = (ROOT / "tracetorch" / "__init__.pyi").read_text(encoding="utf-8")
    assert re.findall(r"^from \.cli\S* import (\w+)", stub, re.MULTILINE) == ["load", "run"]
    assert "cli" not in (ROOT / "tracetorch" / "__init__.py").read_text(encoding="utf-8")


def test_the_command_line_prints_through_one_module():
    prints = re.compile(r"(?<![\w.])print\(|\bConsole\(|\becho\(")
    assert {path.name for path in files("cli") if prints.search(SOURCES[path])} == {"terminal.py"}


LIGHT = """
import sys, tracetorch
assert not {"torch", "numpy", "hydra", "tracetorch.cli"} & set(sys.modules)
import tracetorch.compare.comparison
assert not {"torch", "matplotlib"} & set(sys.modules)
from tracetorch import plot
assert plot.lifetime and plot.recovery and plot.policy and "torch" not in sys.modules
import torch
plot.confusion(torch.tensor([0]), torch.tensor([0]), ["a"])
assert "matplotlib.figure" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""


def test_the_package_loads_torch_and_matplotlib_where_they_are_used_and_never_pyplot():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


def module_of(path: Path) -> str:
    """The dotted name under which a file is imported."""
    parts = [part for part in path.relative_to(ROOT).with_suffix("").parts if part not in ("tracetorch", "__init__")]
    return ".".join(["tracetorch", *parts])


def circle(sources: dict[str, str]) -> list[str]:
    """Modules, by name, that import each other in a circle; none if there is no circle."""
    graph = {}
    for module, source in sources.items():
        names = [name for name, lazy in imports(source) if not lazy]
        graph[module] = {name if name in sources else name.rpartition(".")[0] for name in names} & sources.keys()
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_modules_import_each_other_in_a_circle():
    sources = {module_of(path): source for path, source in SOURCES.items()}
    assert {"tracetorch", "tracetorch.nn.layer", "tracetorch.cli.adapter", "tracetorch.training.loop"} <= set(sources)
    assert circle(sources) == []
    lazy = {"t": "", "t.a": "def f(): import t.b", "t.b": "from t import a"}
    assert circle(lazy) == [] and circle(lazy | {"t.a": "class A:\n    from t.b import x"})


def test_conf_holds_yaml_only():
    found = [path for path in (ROOT / "conf").rglob("*") if path.is_file()]
    assert found and not [path for path in found if path.suffix != ".yaml"]


FOR_REWARDS = {"ActorCritic", "Reflect", "RewardLoss", "ThreeFactor"}
"""They take no targets: loss/test_rewards, rules/test_three_factor; all of them in training/test_reinforcement."""


def kinds_of(base: type) -> set[str]:
    """The public names of `tasks` that are a kind of `base`, without it."""
    found = {name: getattr(tt.tasks, name) for name in tt.tasks.__all__}
    kinds = {name: kind for name, kind in found.items() if isinstance(kind, type)}  # others make a `File`
    return {name for name, kind in kinds.items() if issubclass(kind, base) and kind is not base}


def test_every_public_name_has_a_row_in_the_table():
    for rows, public in [
        (common.LAYERS, {"Sequential", "feedforward", *tt.nn.neurons.__all__} - {"Values"}),
        (common.LOSSES, set(tt.loss.__all__) - FOR_REWARDS),
        (common.ENCODERS, set(tt.encode.ENCODERS)),
        (common.RULES, set(tt.rules.__all__) - FOR_REWARDS - {"Rule"}),
        (common.TASKS, kinds_of(tt.tasks.Task)),
        (ENVIRONMENTS, kinds_of(tt.tasks.Environment)),
    ]:
        assert {row.of for row in rows} == public
        assert len({row.name for row in rows}) == len(rows)


def test_every_package_is_installed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in files("tracetorch", "cli", "experiments")}
    names = {f"tracetorch.{name}".replace("tracetorch.tracetorch", "tracetorch") for name in folders}
    assert set(listed) == {name.replace("/", ".") for name in names} | {"tracetorch.conf"}


def has_defaults(node: dict) -> Iterator[tuple[str, object, object]]:
    """Each value of a part of a preset and of its parts, by name, and the default of the function of its `_target_`."""
    known = signature(locate(node["_target_"])).parameters
    for name, value in node.items():
        if name in known and known[name].default is not Parameter.empty:
            default = known[name].default
            yield f"{node['_target_']}.{name}", value, list(default) if isinstance(default, tuple) else default
        if isinstance(value, dict) and "_target_" in value:
            yield from has_defaults(value)


def test_the_presets_show_the_defaults_of_python():
    """Those of layers are the defaults of their neurons, too."""
    tasks = "cue_accumulation", "manifolds", "mnist", "patterns", "poisson_clicks", "sequential_mnist", "store_recall"
    folders = "loss", "rule", "network", "diagnostics", "train"
    files = [path for folder in folders for path in ROOT.glob(f"conf/{folder}/*.yaml")]
    files += [ROOT / f"conf/task/{name}.yaml" for name in tasks]
    shown = [row for path in files for row in has_defaults(yaml.safe_load(path.read_text(encoding="utf-8")))]
    other = {name for name, value, default in shown if value != default and not name.endswith((".seed", ".trainable"))}
    assert len(shown) > 150
    updates = {f"tracetorch.experiments.{name}.main.updates" for name in ("supervised", "reinforcement")}
    assert other == updates | {"tracetorch.loss.Reflect.entropy"}
    for layer, neuron in ((tt.nn.LIF, tt.nn.neurons.LIF), (tt.nn.LI, tt.nn.neurons.LI), (tt.nn.LIS, tt.nn.Layer)):
        own, its = signature(layer).parameters, signature(neuron).parameters
        assert all(own[name].default == its[name].default for name in own.keys() & its.keys() - {"features"})
