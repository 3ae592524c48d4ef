"""The best config of a study, as a preset that `tracetorch run --config-dir` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tracetorch.cli.adapter import Composed
from tracetorch.cli.check import PARTS
from tracetorch.cli.errors import quote
from tracetorch.files import read_text, write_whole

FOLDER = "presets"


def run_command(study: Path) -> str:
    """What to type to run the best."""
    return f"tracetorch run --config-dir {quote(study / FOLDER)} experiment=best"


def is_of(study: Path, found: str) -> bool:
    """Whether the preset is that of this trial. Args: found: see `write_preset`."""
    return best_of(study) == found


def best_of(study: Path) -> str:
    """What is said of the best trial, such as "accuracy 0.9312 in trial 12"; "" if there is none."""
    try:
        text = read_text(study / FOLDER / "experiment" / "best.yaml")
    except (OSError, ValueError):
        return ""
    line = next((line for line in text.splitlines() if line.startswith("# Best: ")), "")
    return line.removeprefix("# Best: ").partition(", of ")[0]


def write_preset(study: Path, composed: Composed, found: str) -> None:
    """Write the config of a trial as `presets/experiment/best.yaml`.

    Its parts are complete, so that it stays the same whatever becomes of the files in `conf/`; seed, device, threads
    and output are not in it.

    Args: found: what is said of it, such as "accuracy 0.9312 in trial 12".
    """
    seed = composed.config["seed"]
    parts = {name: _without(composed.config[name], seed) for name in PARTS}
    choices = {name: composed.choices[name] for name in PARTS if name in composed.choices}
    lines = [
        "# @package _global_",
        f"# Best: {found}, of {quote(study)} ({composed.experiment}).",
        f"# Run:       {run_command(study)}",
        f"# Override:  {run_command(study)} seed={seed + 1}",
    ]
    header = "\n".join(" ".join(line.splitlines()) for line in lines)
    defaults = "".join(f"  - override /{group}: {choice}\n" for group, choice in choices.items())
    path = study / FOLDER / "experiment" / "best.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{header}\ndefaults:\n{defaults}\n{yaml.safe_dump(parts, sort_keys=False, allow_unicode=True)}")


def _without(node: Any, seed: int) -> Any:
    """The same values without the seeds that follow that of the config: there, they follow the seed that is typed."""
    if isinstance(node, dict):
        return {name: _without(inner, seed) for name, inner in node.items() if not (name == "seed" and inner == seed)}
    return [_without(inner, seed) for inner in node] if isinstance(node, list) else node
