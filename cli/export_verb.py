"""`tracetorch export`: write a run's network in an exchange format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tracetorch.cli.errors import UsageError
from tracetorch.cli.shared_arguments import Checkpoint, Folder, Traceback, Trust
from tracetorch.cli.terminal import say
from tracetorch.files import WriteError, expanded

Format = Annotated[
    Literal["nir", "safetensors"],
    typer.Option("--format", help="nir: a graph for other frameworks; safetensors: weights by name, with the config."),
]
Out = Annotated[
    Path | None, typer.Option(metavar="FILE", parser=expanded, help="The file to write. Default: DIR/network.FORMAT.")
]
TargetName = Annotated[
    Literal["snntorch", "spikingjelly", "norse", "sinabs"] | None,
    typer.Option("--for", help="nir: the framework that will read the graph; see docs/exchange.md."),
]
Step = Annotated[
    float | None,
    typer.Option("--dt", metavar="SECONDS", help="nir: length of a step. Default: 0.0001, or that of --for."),
]
Readout = Annotated[
    Literal["neurons", "current"],
    typer.Option(help="nir: end with the readout's neurons, or with their current (frameworks without LI)."),
]


def command(
    folder: Folder,
    *,
    format_: Format,
    target: TargetName = None,
    dt: Step = None,
    readout: Readout = "neurons",
    out: Out = None,
    checkpoint: Checkpoint = None,
    trust: Trust = None,
    traceback: Traceback = False,
) -> None:
    """Write a run's network as a NIR graph or as safetensors. `tt.interop` reads both back."""
    if format_ == "safetensors":
        _refuse_for_safetensors({"--for": target, "--dt": dt, "--readout": readout != "neurons" or None})
    from tracetorch.cli.adapter import make
    from tracetorch.cli.execute import restoring_directory
    from tracetorch.cli.folders import find_run, naming_the_other, tested_checkpoint

    found = find_run(folder, trust or ())
    weights = tested_checkpoint(found, checkpoint)
    path = out or folder / f"network.{format_}"
    if path.is_dir() or not path.parent.is_dir():
        why = "is a folder" if path.is_dir() else "is in a folder that does not exist"
        raise UsageError(f"--out: {path} {why}: give the name of a file")

    from tracetorch import interop
    from tracetorch.training.setup import network_of

    config = found.composed.config
    with naming_the_other(found.folder, "export"), restoring_directory() as base:
        network = make(config["network"], "network")
        try:
            net = network_of(base / weights, network)
            if format_ == "safetensors":
                interop.write_safetensors(base / path, net, config, checkpoint=weights.stem)
            else:
                graph = interop.to_nir(net, dt=dt, readout=readout, target=target)
                interop.write_nir(base / path, graph)
        except ImportError as error:
            raise UsageError(str(error)) from error
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, WriteError):
                raise
            raise UsageError(f"{folder} cannot be exported: {error}") from error
    reader = "read_safetensors" if format_ == "safetensors" else "from_nir"
    is_ours = target is None and readout != "current"
    say(f"{path}: in Python, tracetorch.interop.{reader}({str(path)!r}) makes the network" if is_ours else f"{path}")
    if format_ == "nir":
        resets = {node.metadata["reset"] for node in graph.nodes.values() if "reset" in node.metadata}
        _say_how_to_reset(target, graph.metadata["dt"], resets)


def _refuse_for_safetensors(given: dict[str, object]) -> None:
    """Raises: UsageError for an option that was typed. Args: given: values by option; None for the default."""
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} has no effect on safetensors, which holds weights and the config; leave it out")


def _say_how_to_reset(target: str | None, dt: float, resets: set[str]) -> None:
    """Args: resets: those of the LIF neurons."""
    from tracetorch.interop import TARGETS

    fact = f"dt = {dt:g} s"
    if "subtract" in resets:
        fact += "; NIR does not record that LIF neurons reset by subtraction"
    if target is None:
        say(f"{fact}; to load it in another framework, export with --for NAME" if resets else fact)
        return
    framework = TARGETS[target]
    advice = {"subtract": framework.advice, "zero": framework.zero_advice}
    steps = [step for reset, step in advice.items() if reset in resets and step]
    say(f"{fact}; after loading it in {target}," if steps else f"{fact}; {target} reads these neurons as they are")
    for step in steps:
        say(f"  {step}")
