"""`tracetorch plot`: draw a run's figures again."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tracetorch.cli.errors import FAILED, UsageError, complain, quote, shorten
from tracetorch.cli.shared_arguments import Checkpoint, Folder, Traceback, Trust, changes_argument, with_home
from tracetorch.cli.terminal import say

Data = Annotated[
    list[str] | None, changes_argument(parser=with_home, help="Where moved data are now: task.source=FOLDER.")
]


def command(
    folder: Folder,
    moved: Data = None,
    checkpoint: Checkpoint = None,
    trust: Trust = None,
    traceback: Traceback = False,
) -> None:
    """Draw a run's figures again, from the records and weights in its folder."""
    typed = moved or []
    for line in typed:
        parts = line.partition("=")[0].split(".")
        if (parts[0], parts[-1]) != ("task", "source"):
            advice = "leave it out"
            if parts[0] in ("task", "network", "loss"):
                advice = f"for other settings: tracetorch eval {quote(folder)} {quote(line)}"
            raise UsageError(f"'{shorten(line)}': only the place of the data can change here, task.source=…; {advice}")
    from tracetorch.cli.adapter import make
    from tracetorch.cli.check import nodes
    from tracetorch.cli.execute import contained
    from tracetorch.cli.folders import find_run, naming_the_other, tested_checkpoint

    found = find_run(folder, trust or (), typed)
    weights = tested_checkpoint(found, checkpoint)

    import torch

    from tracetorch.runs import RunFolder
    from tracetorch.training.report import draw, draw_without_task
    from tracetorch.training.setup import load_for_test, network_and_loss, network_of

    config = found.composed.config
    with naming_the_other(found.folder, "plot"), contained() as base:
        run = RunFolder(base / folder)
        network, loss = (make(config[name], name) for name in ("network", "loss"))
        task, fault = _task(config, found.state.facts)
        trials = None
        try:
            if (run.path / "trials.csv").is_file():
                trials = {name: torch.tensor(values) for name, values in run.table("trials.csv").items()}
            if task is None:
                drawn = draw_without_task(run, network_of(base / weights, network))
            else:
                net, task_loss = network_and_loss(task, network, loss)
                load_for_test(base / weights, net, task)
                window = config["train"].get("window") or task.readout_window
                drawn = draw(run, net, task, trials, policy=getattr(task_loss, "policy", None), window=window)
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"{folder} cannot be drawn: {error}") from error
    if trials is None:
        say("this run was not tested: the figures of test trials are left out")
    say(f"{len(drawn.names)} figures in {folder / 'plots'}: {', '.join(drawn.names)}")
    for name, reason in drawn.failed.items():
        complain(f"no figure {name}: {reason}")
    if fault:
        tasks = (key for key, node in nodes(config["task"], "task") if "source" in node)
        task_of_data = next((key for key in tasks if "[" not in key), "")  # no value inside a list can be changed
        advice = f"; if the data have moved: tracetorch plot {quote(folder)} {task_of_data}.source=FOLDER"
        reason = f"{fault.partition(';')[0]}{advice if task_of_data else ''}"
        complain(f"the figures that need the task are left out: {reason}")
    if drawn.failed or fault:
        raise typer.Exit(FAILED)


def _task(config: dict[str, Any], facts: dict[str, Any]) -> tuple[Any, str]:
    """The task of a run, and ""; None and the reason if its data are missing or differ from the data of the run."""
    from tracetorch.cli.adapter import make
    from tracetorch.runs.identity import data_of
    from tracetorch.runs.provenance import changed_data

    try:
        task = make(config["task"], "task")
    except UsageError as error:
        return None, str(error)
    if changed := changed_data(facts, {"data": data_of(config)}):
        return None, f"{changed[0]} names other data than the run read"
    return task, ""
