"""`tracetorch plot`: draw a run's figures again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracetorch.cli.arguments import Traceback
from tracetorch.cli.errors import UsageError


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")], traceback: Traceback = False
) -> None:
    """Draw the figures of a run again, from the numbers and weights in its folder."""
    from tracetorch.cli.adapter import load, make
    from tracetorch.cli.check import check, check_trusted

    if not (folder / "config.yaml").is_file():
        raise UsageError(f"{folder} is no run folder: it has no config.yaml")
    config = load(folder / "config.yaml").config
    check_trusted(config, folder / "config.yaml")
    check(config)

    import torch

    from tracetorch.runs import RunFolder, load_checkpoint
    from tracetorch.runs.report import draw

    task, network = make(config["task"], "task"), make(config["network"], "network")
    run = RunFolder(folder)
    try:
        net = network(task.input_size, task.output_size)
        tested = run.facts().get("summary", {}).get("tested")
        load_checkpoint(run.checkpoint("best" if tested == "best" else "latest"), net)
        trials = None
        if (folder / "trials.csv").is_file():
            trials = {name: torch.tensor(values) for name, values in run.table("trials.csv").items()}
        names = draw(run, net, task, trials)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{folder} cannot be drawn: {error}") from error
    if trials is None:
        print("this run never came to its test: there is nothing to draw of its trials")
    print(f"{len(names)} figures in {folder / 'plots'}: {', '.join(names)}")
