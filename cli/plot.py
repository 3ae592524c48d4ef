"""`tracetorch plot`: draw a run's figures again."""

from __future__ import annotations

from tracetorch.cli.arguments import Folder, Traceback, Trust
from tracetorch.cli.errors import UsageError


def command(folder: Folder, trust: Trust = None, traceback: Traceback = False) -> None:
    """Draw the figures of a run again, from the numbers and weights in its folder."""
    from tracetorch.cli.adapter import make
    from tracetorch.cli.folders import find_run, tested_checkpoint

    found = find_run(folder, trust or ())
    checkpoint = tested_checkpoint(found)

    import torch

    from tracetorch.experiments.evaluation import build
    from tracetorch.runs import load_checkpoint
    from tracetorch.runs.report import draw

    config, run = found.composed.config, found.folder
    task, network, loss = (make(config[name], name) for name in ("task", "network", "loss"))
    try:
        net, _ = build(task, network, loss)
        load_checkpoint(checkpoint, net)
        trials = None
        if (folder / "trials.csv").is_file():
            trials = {name: torch.tensor(values) for name, values in run.table("trials.csv").items()}
        names = draw(run, net, task, trials)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{folder} cannot be drawn: {error}") from error
    if trials is None:
        print("this run never came to its test: there is nothing to draw of its trials")
    print(f"{len(names)} figures in {folder / 'plots'}: {', '.join(names)}")
