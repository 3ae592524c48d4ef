"""`tracetorch run`: compose, train, record."""

from __future__ import annotations

from pathlib import Path

import typer

from tracetorch.cli.arguments import Overrides, Traceback
from tracetorch.cli.errors import DONE, FAILED, INTERRUPTED, UsageError, complain, shorten


def command(overrides: Overrides = None, traceback: Traceback = False) -> None:
    """Train a network and record everything; with no arguments, on the Poisson click test."""
    raise typer.Exit(execute(overrides or [], traceback))


def execute(overrides: list[str], show_traceback: bool) -> int:
    """Compose and run. Returns: the exit code. Raises: UsageError, with nothing left on disk."""
    from tracetorch.cli.adapter import compose, function, make
    from tracetorch.cli.check import PARTS, check

    composed = compose(overrides)
    check(composed.config)

    from tracetorch import device  # from here on it takes a second: torch is loaded
    from tracetorch.cli.display import Display
    from tracetorch.runs import Run

    config, output = composed.config, composed.config["output"]
    device.use_threads(config["threads"])
    parts = {name: make(config[name], name) for name in PARTS if name != "train"}
    train = function(config["train"])
    display = Display(composed.experiment, parts["task"].metrics[0])
    run = Run(
        config,
        experiment=composed.experiment,
        root=Path(output.get("root", "outputs")).expanduser(),
        exactly=Path(output["dir"]).expanduser() if output.get("dir") else None,
        files={
            "config.yaml": composed.yaml,
            "overrides.yaml": "".join(f"- {_quoted(text)}\n" for text in overrides) or "[]\n",
        },
        listener=display,
    )
    try:
        train(run, **parts, seed=config["seed"], device=config["device"])
    except Exception as error:
        if run.status == "new":  # it failed before it had a folder: the config is at fault, or the place to write
            raise UsageError(_sentence(error, config)) from error
        complain(f"{_sentence(error, config)} (see {run.folder.path})", error, show_traceback)
        return FAILED
    if run.status == "interrupted":
        done = run.summary.get("updates", 0)
        complain(f"interrupted after {done} update{'s' * (done != 1)}; all is in {run.folder.path}", None, False)
        return INTERRUPTED
    display.table(run, parts["task"].batch_size)
    return DONE


def _sentence(error: Exception, config: dict) -> str:
    if isinstance(error, FileExistsError):
        return f"output.dir={shorten(config['output']['dir'])} exists already; name another folder, or remove it first"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot write to {shorten(error.filename)}: {error.strerror}; choose another output.dir or output.root"
    return str(error) or type(error).__name__


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
