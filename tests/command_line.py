"""The command line, called in this process or in a fork of it; and overrides that make any run tiny."""

import json
import os
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from tracetorch.cli.main import app

ROOT = Path(__file__).parents[1]
TINY = ("train.updates=2", "train.figures=false", "network.hidden=[4]", "task.batch_size=4", "device=cpu")
CLICKS = (*TINY, "task.test_trials=10", "task.validation_trials=10", "task.duration=[0.2]")
DIGITS = ("experiment=mnist_sample", *TINY, "train.passes=null", "task.steps=4", "network.hidden=[32]")


def tracetorch(*words: str) -> Any:
    """Run `tracetorch` with these words."""
    return CliRunner().invoke(app, list(words))


def ran(*words: str) -> Any:
    """Run `tracetorch` with these words, which succeeds. Returns: what `tracetorch` does."""
    ended = tracetorch(*words)
    assert ended.exit_code == 0, (words, ended.output)
    return ended


def refused(*words: str) -> str:
    """Run `tracetorch` with these words, which is refused and changes no file. Returns: the sentence that says why."""
    assert Path().absolute() != ROOT, "other processes write here, and there is much to list: use the fixture `here`"
    before = set(Path().rglob("*"))
    ended = tracetorch(*words)
    assert ended.exit_code == 2, (words, ended.output)
    assert ended.stderr.startswith("tracetorch: ") and ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stdout == "" and set(Path().rglob("*")) == before, (words, "printed or wrote something")
    return ended.stderr


def start(*words: str) -> int:
    """Run `tracetorch` with these words in a fork of this process. Returns: its process."""
    child = os.fork()
    if child:
        return child
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        app(list(words), standalone_mode=True)
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(70)


def facts_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def change(path: Path, **facts: Any) -> None:
    """Change values in a JSON file, such as run.json."""
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def write(path: Path | str, content: Any) -> None:
    """Write text, or a value as YAML, into a file of a folder that is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))


def files(folder: Path) -> set[str]:
    """All files below a folder, by their paths from there."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
