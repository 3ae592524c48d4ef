"""`tracetorch eval`: test a run's network again, also under other settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from tracetorch.cli.errors import UsageError, shorten
from tracetorch.cli.shared_arguments import Checkpoint, Folder, Traceback, Trust, changes_argument, with_home
from tracetorch.cli.terminal import say

Changes = Annotated[
    list[str] | None,
    changes_argument(parser=with_home, help="Values of the run's config to change, such as task.delay=4."),
]

_TRAIN_KEYS = ("window", "precision", "figures")  # the keys of `train` that a test uses


def command(
    folder: Folder,
    overrides: Changes = None,
    checkpoint: Checkpoint = None,
    trust: Trust = None,
    traceback: Traceback = False,
) -> None:
    """Test a run's network, also with changed keys such as task.delay=4 or device=cpu. Results go into DIR/eval."""
    from tracetorch.cli.folders import find_run, naming_the_other, tested_checkpoint, with_targets_of

    typed = overrides or []
    wrong = [line for line in typed if line.partition("=")[0].partition(".")[0] == "output"]
    if wrong:
        raise UsageError(f"'{wrong[0]}': an evaluation is written into the folder of its run; leave out this key")
    found = find_run(folder, trust or (), typed)
    _check_effect(typed, found.composed.config)
    weights = tested_checkpoint(found, checkpoint)

    from tracetorch import device
    from tracetorch.cli.check import OPTIONAL_PARTS
    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import (
        as_usage_errors,
        conclude,
        files_of,
        make_parts,
        metrics_and_batch_size,
        restoring_directory,
    )
    from tracetorch.experiments import evaluation
    from tracetorch.runs import Run

    composed = found.composed._replace(config=with_targets_of(found.composed.config, weights, typed))
    config = composed.config
    device.use_threads(config["threads"])
    settings = {name: config["train"][name] for name in _TRAIN_KEYS if name in config["train"]}
    with restoring_directory() as base:
        parts = {name: part for name, part in make_parts(config).items() if name not in ("optimizer", *OPTIONAL_PARTS)}
        display = Display(composed.experiment)
        metrics, batch_size = metrics_and_batch_size(parts["task"])
        display.metric = metrics[0]
        with as_usage_errors():
            run = Run(
                config,
                experiment=composed.experiment,
                root=folder,
                subfolder="eval",
                base=base,
                files=files_of(composed, typed),
                kind="evaluation",
                listener=display,
            )

        def test() -> None:
            evaluation.main(run, **parts, **settings, checkpoint=base / weights, device=config["device"])

        with naming_the_other(found.folder, "eval"):
            outcome = conclude(run, batch_size, test)
    code = display.conclude(outcome, traceback)
    others = [line.partition("=")[2] for line in typed if line.startswith("task.path=")]
    if others and not code and not any(line.startswith("task.test=") for line in typed):
        other = shorten(others[-1])
        say(f"this was the test part of {other}; for all of its samples, give task.test={other} instead of task.path")
    raise typer.Exit(code)


def _check_effect(typed: Iterable[str], config: dict[str, Any]) -> None:
    """Raises: UsageError for a key that a test does not use."""
    from tracetorch.cli.check import STARTS, nodes

    for line in typed:
        key, _, value = line.partition("=")
        part, _, name = key.partition(".")
        if part == "seed":
            # no value inside a list can be changed
            parts = (part for part, node in nodes(config["task"], "task") if "seed" in node and "[" not in part)
            keys = " ".join(f"{part}.seed={value}" for part in parts)
            advice = f"for other trials and spikes: {keys}" if keys else "leave out this key"
        elif part in ("optimizer", "diagnostics", "logger", *STARTS) or (part == "train" and name not in _TRAIN_KEYS):
            advice = f"leave out this key; of train, a test uses {', '.join(_TRAIN_KEYS)}"
        else:
            continue
        raise UsageError(f"'{shorten(line)}' has no effect on a test: {advice}")
