"""Accuracy of every learning rule on every task, each with a step size and a surrogate chosen on validation data.

    python benchmarks/tuned_rules.py FOLDER --source mnist=FOLDER --source fashion=FOLDER --source digits=recordings.zip
    python benchmarks/tuned_rules.py FOLDER --task rows --rule bptt      # some of them
    python benchmarks/tuned_rules.py FOLDER --figure rules.png           # tables and figure of what is finished

For each task and rule, short runs try five step sizes, a factor of two apart, and up to three further ones while the
best is the smallest or the largest. Short runs with the best step size then try other surrogates. The best setting, and
the same with half the step size, are trained in full with three seeds each; the better of the two is tested. Settings
are compared by their accuracy on validation data, and short runs of equal accuracy by their loss. FOLDER keeps a JSON
file for each finished task and rule: the same command goes on where it was stopped, and several processes share the
work.
"""

from __future__ import annotations

import csv
import fcntl
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product, zip_longest
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import typer
from matplotlib.figure import Figure

from common import console, plain_errors, table
from tracetorch.files import write_whole
from tracetorch.plot.labels import value_axis
from tracetorch.plot.style import COLORS, DOUBLE, RIM, save
from tracetorch.plot.style import figure as make_figure

SURROGATES = ("fast_sigmoid", "triangle", "arctan")
"""Those tried: the rule's own with every step size, the others with the best one."""
OWN_SURROGATE = {"trace": "", "eprop": "triangle"}
"""Of the rules whose own surrogate is not `fast_sigmoid`; the trace rule has none."""
SEEDS = "0,1,2"
"""Of the runs that are tested."""
MEASURES = ("accuracy", "update_seconds", "training_memory_bytes")
"""Keys of a run's summary; the accuracy is that of the test."""
OURS = ("trace", "coarse")
"""Rules of traceTorch, blue in the figure."""
COLUMNS = 4
"""Panels in a row of the figure."""
LEAST_SPAN = 4.0
"""Points of accuracy that a panel spans at least."""


class Task(NamedTuple):
    """A task of the comparison."""

    overrides: str
    lr: float  # step size in the middle of those tried
    short: str  # overrides of the runs that choose
    full: str  # overrides of the runs that are tested
    tuned_at: str = ""  # another task, of which the chosen settings are used; it must come first


ROWS = "experiment=sequential_mnist task.source={mnist} task.validation_digits=5000"
PIXELS = "experiment=mnist task.validation_digits=5000 optimizer.weight_decay=0 network.hidden=[256]"
DIGITS = "experiment=spoken_digits task.path={digits} task.validation=0.1"
LAYERS = "experiment=mnist task.source={fashion} task.validation_digits=5000 optimizer.weight_decay=0 network.hidden="
TASKS = {
    "clicks": Task("experiment=poisson_clicks", 0.01, "train.updates=100 task.test_trials=64", ""),
    "manifolds": Task("experiment=manifolds", 0.02, "train.updates=200 task.test_trials=64", ""),
    "store_recall": Task(
        "experiment=store_recall network.hidden=[8] task.test_trials=500",
        0.02,
        "train.updates=60 task.test_trials=64",
        "train.updates=150",
    ),
    "delayed_clicks": Task("experiment=delayed_clicks", 0.01, "train.updates=50 task.test_trials=64", ""),
    "rows": Task(ROWS, 0.005, "train.updates=100 train.passes=null", "train.passes=1"),
    "digits": Task(f"{DIGITS} train.learn_every=null", 0.002, "train.passes=4", ""),
    "digits_moments": Task(f"{DIGITS} train.learn_every=8", 0.002, "train.passes=4", ""),
    "digits_speaker": Task(
        f"{DIGITS} train.learn_every=null task.test=speaker=lucas", 0.002, "", "", tuned_at="digits"
    ),
    "latency": Task(
        f"{PIXELS} task.source={{mnist}} task.encoding=latency task.steps=25",
        0.002,
        "train.updates=100 train.passes=null",
        "train.passes=1",
    ),
    "mnist": Task(f"{PIXELS} task.source={{mnist}}", 0.002, "train.updates=100 train.passes=null", "train.passes=2"),
    "fashion": Task(f"{LAYERS}[256]", 0.002, "train.updates=100 train.passes=null", "train.passes=2"),
    **{
        f"fashion_{depth}": Task(
            f"{LAYERS}[{','.join(['128'] * depth)}]",
            0.002,
            "train.updates=100 train.passes=null",
            "train.passes=1",
            tuned_at="" if depth == 3 else "fashion_3",
        )
        for depth in (3, 1, 2, 4, 5)  # 3 first: the others use its settings
    },
    "cues": Task(
        "experiment=cue_accumulation task.test_trials=500",
        0.005,
        "train.updates=20 task.test_trials=64",
        "train.updates=60",
    ),
}
RULES = ("trace", "coarse", "bptt", "tbptt", "eprop", "ottt", "otpe", "s_tllr", "es_d_rtrl", "decolle")

Folder = Annotated[Path, typer.Argument(help="Where results are kept.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="A task; repeatable. All, if not given.")]
Rules = Annotated[list[str] | None, typer.Option("--rule", help="A learning rule; repeatable. All, if not given.")]
Sources = Annotated[list[str] | None, typer.Option("--source", help="mnist=FOLDER, fashion=FOLDER, digits=PATH.")]
Drawing = Annotated[Path | None, typer.Option("--figure", help="Only draw what is finished, to this PNG.")]


def main(
    folder: Folder, task: Tasks = None, rule: Rules = None, source: Sources = None, figure: Drawing = None
) -> None:
    """Choose the settings, train, test, and print the table."""
    with plain_errors():
        for given, known in ((task or [], TASKS), (rule or [], RULES)):
            if wrong := next((name for name in given if name not in known), ""):
                raise ValueError(f"there is no {wrong!r}; there are {', '.join(known)}")
        sources = dict(text.split("=", 1) for text in source or [] if "=" in text)
        for name, own in [] if figure else product(task or TASKS, rule or RULES):
            needed = re.findall(r"{(\w+)}", TASKS[name].overrides)
            if missing := next((key for key in needed if key not in sources), ""):
                raise ValueError(f"{name} needs --source {missing}=PATH; or choose other tasks with --task")
            finish(folder, name, own, sources)
        cells = load(folder)
    print_tables(cells)
    if figure:
        with tempfile.TemporaryDirectory() as where:
            png, _ = save(draw(cells), Path(where) / "figure")
            figure.parent.mkdir(parents=True, exist_ok=True)
            write_whole(figure, png.read_bytes())


def finish(folder: Path, name: str, rule: str, sources: dict[str, str]) -> None:
    """Train and test one rule on one task, unless that is done or another process does it."""
    task, done = TASKS[name], result_of(folder, name, rule)
    if done.exists():
        return
    with claimed(done.with_suffix(".lock")) as free:
        if not free or done.exists():
            return
        runs = done.with_suffix("")
        own = [f"rule={rule}", *task.overrides.format(**sources).split()]
        if task.tuned_at:
            tuned = result_of(folder, task.tuned_at, rule)
            if not tuned.exists():  # it was not asked for, or another process works on it
                text = f"{name}, {rule}: left out until {task.tuned_at} is finished; give the same command again"
                console.print(text, markup=False)
                return
            chosen = json.loads(tuned.read_text(encoding="utf-8"))["chosen"]
            tried = []
        else:
            chosen, tried = choose(runs, [*own, *task.short.split()], task.lr, OWN_SURROGATE.get(rule, "fast_sigmoid"))
        options = [chosen]
        if tried:  # the best step size of a short run may be too large for a long one, or for another seed
            options.append({**chosen, "optimizer.lr": chosen["optimizer.lr"] / 2})
        trained = []
        for number, option in enumerate(options):
            full = [*own, *task.full.split(), *(f"{key}={value}" for key, value in option.items())]
            jobs = train(runs / f"full_{number}", [*full, f"seed={SEEDS}"])
            trained.append((fmean(score["accuracy"] for _, score in jobs), -number, option, full, jobs))
        validation, _, chosen, full, jobs = max(trained, key=lambda entry: entry[:2])
        tested = [facts["summary"] for facts, _ in jobs]
        found = {
            "task": name,
            "rule": rule,
            "chosen": chosen,
            "tried": tried,
            "validation": validation,
            **{key: [summary.get(key, math.nan) for summary in tested] for key in MEASURES},  # nan: the run failed
            "command": full,
        }
        write_whole(done, json.dumps(found, indent=1) + "\n")
        shutil.rmtree(runs)
    console.print(f"{name}, {rule}: {100 * fmean(found['accuracy']):.1f} % with {chosen}", markup=False)


def choose(runs: Path, own: list[str], lr: float, surrogate: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the best settings and all that were tried, with their scores on validation data."""
    tried = list[dict[str, Any]]()

    def attempt(label: str, key: str, values: list[Any], **others: Any) -> dict[str, Any]:
        given = [*own, *(f"{name}={value}" for name, value in others.items()), f"{key}={','.join(map(str, values))}"]
        for value, (_, score) in zip(values, train(runs / label, given), strict=True):
            tried.append({**others, key: value, **score})
        return max(tried, key=lambda row: (row["accuracy"], -row["loss"] if math.isfinite(row["loss"]) else -math.inf))

    best = attempt("sizes", "optimizer.lr", [lr * 2.0**power for power in (-2, -1, 0, 1, 2)])
    for further in range(3):
        sizes = sorted(row["optimizer.lr"] for row in tried)
        if best["optimizer.lr"] not in (sizes[0], sizes[-1]):
            break
        factor = 0.5 if best["optimizer.lr"] == sizes[0] else 2.0
        best = attempt(f"further_{further}", "optimizer.lr", [best["optimizer.lr"] * factor])
    if surrogate:
        others = [name for name in SURROGATES if name != surrogate]
        best = attempt("surrogates", "rule.surrogate", others, **{"optimizer.lr": best["optimizer.lr"]})
    return {key: value for key, value in best.items() if "." in key}, tried


def train(where: Path, overrides: list[str]) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Run a sweep. Returns: of each job, its run.json and its last score on validation data."""
    command = [
        Path(sys.executable).with_name("tracetorch"),
        "run",
        "-m",
        *overrides,
        "threads=1",
        "train.figures=false",
    ]
    shutil.rmtree(where, ignore_errors=True)
    done = subprocess.run([*command, f"output.dir={where}"], capture_output=True, text=True, check=False)
    found = []
    for path in sorted(where.glob("*/run.json")):
        rows = list(csv.DictReader((path.parent / "metrics.csv").open(encoding="utf-8")))
        scores = [row for row in rows if row["split"] == "validation"]
        # A run that ends before it is scored, for example because no hidden neuron fires any more, has learned nothing.
        last = (
            {key: float(scores[-1][key]) for key in ("accuracy", "loss")} if scores else {"accuracy": 0.0, "loss": 1e9}
        )
        found.append((json.loads(path.read_text(encoding="utf-8")), last))
    if len(found) != overrides[-1].count(",") + 1:
        raise ValueError(f"{' '.join(map(str, command))} failed: {done.stderr[-500:]}")
    return found


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Lock a file until the block ends. Yields: whether it was free; if not, another process is at work."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
            path.unlink()


def result_of(folder: Path, task: str, rule: str) -> Path:
    """Return the path of the JSON file of a task and rule."""
    return (folder / f"{task}-{rule}.json").absolute()


def load(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what is finished, by task and rule. Raises: ValueError if there is nothing."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise ValueError(f"{folder} has no results")
    return {(row["task"], row["rule"]): row for row in found}


def print_tables(cells: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Print mean test accuracies, step sizes and surrogates."""
    rules = [rule for rule in RULES if any(own == rule for _, own in cells)]
    for title, show in (("test accuracy, %", _accuracy), ("step size", _step), ("surrogate", _surrogate)):
        rows = [
            [task, *(show(cells[task, rule]) if (task, rule) in cells else "" for rule in rules)]
            for task in TASKS
            if any(own == task for own, _ in cells)
        ]
        table(title, ["task", *rules], rows)


def draw(cells: dict[tuple[str, str], dict[str, Any]]) -> Figure:
    """Draw a panel for each task: test accuracy of each rule; a small dot is a seed, a large one their mean."""
    tasks = [task for task in TASKS if any(own == task for own, _ in cells)]
    rules = [rule for rule in RULES if any(own == rule for _, own in cells)]
    rows = math.ceil(len(tasks) / COLUMNS)
    with make_figure(DOUBLE, 0.45 + rows * (0.45 + 0.13 * len(rules))) as fig:
        panels = fig.subplots(rows, COLUMNS, squeeze=False, sharey=True).flat
        for panel, task in zip_longest(panels, tasks):
            if task is None:
                panel.remove()
                continue
            for at, rule in enumerate(rules):
                if row := cells.get((task, rule)):
                    values = [100 * value for value in row["accuracy"]]
                    color = COLORS["vermillion" if "bptt" in rule else "blue" if rule in OURS else "grey"]
                    panel.plot(values, [at] * len(values), ".", color=color, markersize=2.5, alpha=0.6)
                    panel.plot(fmean(values), at, "o", color=color, markersize=4.5, **RIM)
            panel.set_title(task.replace("_", " "))
            panel.set_ylim(len(rules) - 0.5, -0.5)
            panel.set_yticks(range(len(rules)), rules)
            panel.grid(axis="y", linewidth=0.4, alpha=0.4)
            low, high = panel.get_xlim()
            wider = max(0.0, LEAST_SPAN - (high - low)) / 2  # so that chance does not look like a difference
            panel.set_xlim(low - wider, high + wider)
            value_axis(panel.xaxis, 4)
        fig.supxlabel("test accuracy (%)", fontsize=8)
    return fig


def _accuracy(row: dict[str, Any]) -> str:
    return f"{100 * fmean(row['accuracy']):.1f}"


def _step(row: dict[str, Any]) -> str:
    return f"{row['chosen']['optimizer.lr']:.3g}"


def _surrogate(row: dict[str, Any]) -> str:
    return str(row["chosen"].get("rule.surrogate") or OWN_SURROGATE.get(row["rule"], "fast_sigmoid"))


if __name__ == "__main__":
    typer.run(main)
