"""`tracetorch plot`: draw a run's figures again, or some of them in the size and style of a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tracetorch.cli.errors import FAILED, UsageError, complain, did_you_mean, quote, shorten
from tracetorch.cli.shared_arguments import Checkpoint, Folder, Traceback, Trust, changes_argument, with_home
from tracetorch.cli.terminal import say
from tracetorch.files import expanded

if TYPE_CHECKING:
    from tracetorch.cli.folders import Found
    from tracetorch.training.report import Drawn, ViewError

FORMATS = ("png", "svg", "pdf")  # those of `plot.save`; without loading matplotlib
_MOST_NEURONS = 100

_OF_EVERY_RUN = ("learning", "membrane", "parameters", "raster")
_PART = re.compile(r"_(layer|neurons|trial)\d.*")  # in the name of a figure of a part


def _drawn_figures(context: typer.Context, incomplete: str) -> list[str]:
    """The figures in the folder that is typed, after those that are already named in the word."""
    before, comma, _ = incomplete.rpartition(",")
    typed = [context.params.get("folder"), *context.args]  # click leaves words in `args` while an option has no value
    folder = next((word for word in typed if isinstance(word, str | Path)), None)
    plots = () if folder is None else (expanded(folder) / "plots").glob("*.*")
    found = {_PART.sub("", path.stem) for path in plots}
    return [f"{before}{comma}{name}" for name in sorted(found or _OF_EVERY_RUN) if name not in before.split(",")]


Data = Annotated[
    list[str] | None, changes_argument(parser=with_home, help="Where moved data are now: task.source=FOLDER.")
]
Figures = Annotated[
    list[str] | None,
    typer.Option(
        "--figure",
        metavar="NAME",
        help="Draw this figure only, such as raster or learning (repeatable).",
        autocompletion=_drawn_figures,
    ),
]
Layer = Annotated[
    int | None, typer.Option(min=0, help="Layer of raster and membrane, from 0. Default: all; with --neurons, 0.")
]
Neurons = Annotated[
    str | None, typer.Option(metavar="N,N,…", help="Neurons of the layer, such as 7,12. Default: active ones.")
]
Trial = Annotated[
    int | None, typer.Option(min=0, help="Trial of the test, from 0, in raster, membrane and traces. Default: 0.")
]
Formats = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="png, svg or pdf (repeatable). Default: png and svg.",
        autocompletion=lambda: FORMATS,
    ),
]
Width = Annotated[float | None, typer.Option(help="Width in inches: 3.4 fits one column of a paper, 7 fits two.")]
Style = Annotated[
    Path | None,
    typer.Option(metavar="FILE", parser=expanded, help="A style file of matplotlib, on top of traceTorch's style."),
]
Title = Annotated[str | None, typer.Option(help="A title above each figure. Default: none.")]


def command(
    folder: Folder,
    moved: Data = None,
    *,
    figure: Figures = None,
    layer: Layer = None,
    neurons: Neurons = None,
    trial: Trial = None,
    format_: Formats = None,
    width: Width = None,
    style: Style = None,
    title: Title = None,
    checkpoint: Checkpoint = None,
    trust: Trust = None,
    traceback: Traceback = False,
) -> None:
    """Draw a run's figures again, from the records and weights in its folder.

    Figures of a chosen layer, neurons or trial are files of their own: plots/membrane_layer1_neurons7_trial0.pdf.
    """
    typed = moved or []
    _check_moved(folder, typed)
    formats, numbers = _formats(format_), _numbers(neurons)
    chosen = _Choice(_words(figure, "--figure"), 0 if numbers and layer is None else layer, numbers, trial, formats)
    from tracetorch.cli.check import nodes
    from tracetorch.cli.folders import find_run, tested_checkpoint

    found = find_run(folder, trust or (), typed)
    weights = tested_checkpoint(found, checkpoint)
    with _look(width, style, title):
        drawn, fault, was_tested = _draw(found, folder, weights, chosen)
    if not was_tested:
        say("this run was not tested: the figures of test trials are left out")
    count = f"{len(drawn.names)} figure{'s' if len(drawn.names) != 1 else ''}"
    kinds = f" as {', '.join(formats)}" if format_ else ""
    say(f"{count} in {folder / 'plots'}{kinds}: {', '.join(drawn.names)}")
    for name, reason in drawn.failed.items():
        complain(f"no figure {name}: {reason}")
    if fault:
        tasks = (key for key, node in nodes(found.composed.config["task"], "task") if "source" in node)
        task_of_data = next((key for key in tasks if "[" not in key), "")  # no value inside a list can be changed
        advice = f"; if the data have moved: tracetorch plot {quote(folder)} {task_of_data}.source=FOLDER"
        reason = f"{fault.partition(';')[0]}{advice if task_of_data else ''}"
        complain(f"the figures that need the task are left out: {reason}")
    if drawn.failed or fault:
        raise typer.Exit(FAILED)


class _Choice(NamedTuple):
    """The typed choice of figures, with the fields of `View`, which cannot be imported without torch."""

    figures: list[str]
    layer: int | None
    neurons: tuple[int, ...]
    trial: int | None
    formats: tuple[str, ...]


def _check_moved(folder: Path, typed: list[str]) -> None:
    """Raises: UsageError for a change to anything but the place of data."""
    for line in typed:
        parts = line.partition("=")[0].split(".")
        if (parts[0], parts[-1]) != ("task", "source"):
            advice = "leave it out"
            if parts[0] in ("task", "network", "loss"):
                advice = f"for other settings: tracetorch eval {quote(folder)} {quote(line)}"
            raise UsageError(f"'{shorten(line)}': only the place of the data can change here, task.source=…; {advice}")


@contextmanager
def _look(width: float | None, style: Path | None, title: str | None) -> Iterator[None]:
    """As `plot.look`. Raises: UsageError."""
    from tracetorch.plot import look

    with ExitStack() as stack:
        try:
            stack.enter_context(look(width=width, style=style, title=title))
        except OSError as error:
            raise UsageError(f"--style {style} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(str(error)) from error
        yield


def _draw(found: Found, folder: Path, weights: Path, chosen: _Choice) -> tuple[Drawn, str, bool]:
    """Draw the figures.

    Returns: the figures; why the task cannot be used, or ""; whether the run has test trials.
    Raises: UsageError for a figure, layer, neuron or trial that the run does not have, or for unreadable files.
    """
    import torch

    from tracetorch.cli.adapter import make
    from tracetorch.cli.execute import restoring_directory
    from tracetorch.cli.folders import naming_the_other
    from tracetorch.runs import RunFolder
    from tracetorch.training.report import OF_ACTIVITY, OF_TRIAL, View, ViewError, draw, draw_without_task
    from tracetorch.training.setup import load_for_test, network_and_loss, network_of

    view = View(*chosen)
    of_part = OF_ACTIVITY if view.layer is not None or view.neurons else (*OF_ACTIVITY, *OF_TRIAL)
    if view.shows_part and view.figures and not {*view.figures} & {*of_part}:
        options = "--layer and --neurons" if of_part == OF_ACTIVITY else "--trial"
        shown = f"{', '.join(of_part[:-1])} and {of_part[-1]}"
        verb = "chooses" if options == "--trial" else "choose"
        raise UsageError(f"{options} {verb} what {shown} show, not what {shorten(chosen.figures[0])} shows")
    if view.shows_part:
        view = view._replace(figures=view.figures or OF_ACTIVITY)
    config = found.composed.config
    with naming_the_other(found.folder, "plot"), restoring_directory() as base:
        run = RunFolder(base / folder)
        network, loss = (make(config[name], name) for name in ("network", "loss"))
        task, fault = _task(config, found.state.facts)
        trials = None
        try:
            if (run.path / "trials.csv").is_file():
                columns = run.table("trials.csv", has_text=True)
                trials = {name: torch.tensor(values) for name, values in columns.items()}
            if task is None:
                drawn = draw_without_task(run, network_of(base / weights, network), view)
            else:
                net, task_loss = network_and_loss(task, network, loss)
                load_for_test(base / weights, net, task)
                window = config["train"].get("window") or task.readout_window
                policy = getattr(task_loss, "policy", None)
                drawn = draw(run, net, task, trials, policy=policy, window=window, view=view)
        except ViewError as error:
            raise UsageError(_advised(error, fault)) from error
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(f"{folder} cannot be drawn: {error}") from error
    return drawn, fault, trials is not None


def _words(typed: Iterable[str] | None, option: str) -> list[str]:
    """The words of a repeatable option, which may list several with commas. Raises: UsageError for an empty word."""
    words = [word.strip() for part in typed or () for word in part.split(",")]
    if "" in words:
        raise UsageError(f"{option}: a name is empty; leave {option} out, or give one")
    return words


def _formats(typed: list[str] | None) -> tuple[str, ...]:
    """The formats, without repetitions; by default, png and svg. Raises: UsageError for another format."""
    formats = tuple(dict.fromkeys(word.lower() for word in _words(typed, "--format"))) or FORMATS[:2]
    for word in formats:
        if word not in FORMATS:
            close = did_you_mean(word, FORMATS)
            raise UsageError(f"--format {shorten(word)}: figures are written as {', '.join(FORMATS)}.{close}")
    return formats


def _numbers(typed: str | None) -> tuple[int, ...]:
    """The numbers of neurons. Raises: UsageError for other text."""
    words = [] if typed is None else typed.split(",")
    if all(word.strip().isdecimal() and len(word) < 10 for word in words) and len(words) <= _MOST_NEURONS:
        return tuple(dict.fromkeys(map(int, words)))
    most = f"up to {_MOST_NEURONS} numbers from 0 on, with commas"
    raise UsageError(f"--neurons {shorten(str(typed))}: expected {most}, such as 7,12")


def _advised(error: ViewError, fault: str) -> str:
    """The message for a wrong choice of figures, with a close name and all names. Args: fault: as from `_task`."""
    if not error.name:
        return str(error)
    reason = f" ({fault.partition(';')[0]})" if fault else ""
    return f"{error}{reason}.{did_you_mean(error.name, error.known)} There are: {', '.join(error.known)}."


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
