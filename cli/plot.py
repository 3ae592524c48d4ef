"""`tracetorch plot`: draw a run's figures again."""

from __future__ import annotations

import typer

from tracetorch.cli.arguments import Checkpoint, Folder, Traceback, Trust
from tracetorch.cli.errors import FAILED, UsageError, complain
from tracetorch.cli.terminal import say


def command(folder: Folder, checkpoint: Checkpoint = None, trust: Trust = None, traceback: Traceback = False) -> None:
    """Draw a run's figures again, from the records and weights in its folder."""
    from tracetorch.cli.adapter import make
    from tracetorch.cli.execute import contained
    from tracetorch.cli.folders import find_run, naming_the_other, tested_checkpoint

    found = find_run(folder, trust or ())
    weights = tested_checkpoint(found, checkpoint)

    import torch

    from tracetorch.experiments.evaluation import build, load_tested
    from tracetorch.runs import RunFolder
    from tracetorch.runs.report import draw

    config = found.composed.config
    with naming_the_other(found.folder, "plot"), contained() as base:
        run = RunFolder(base / folder)
        task, network, loss = (make(config[name], name) for name in ("task", "network", "loss"))
        try:
            net, told = build(task, network, loss)
            load_tested(base / weights, net, task)
            trials = None
            if (run.path / "trials.csv").is_file():
                trials = {name: torch.tensor(values) for name, values in run.table("trials.csv").items()}
            window = config["train"].get("window") or task.readout_window
            drawn = draw(run, net, task, trials, policy=getattr(told, "policy", None), window=window)
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"{folder} cannot be drawn: {error}") from error
    if trials is None:
        say("this run was not tested: the figures of test trials are left out")
    say(f"{len(drawn.names)} figures in {folder / 'plots'}: {', '.join(drawn.names)}")
    for name, why in drawn.failed.items():
        complain(f"no figure {name}: {why}", None, traceback)
    if drawn.failed:
        raise typer.Exit(FAILED)
