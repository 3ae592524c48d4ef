"""The end of a run: the test, the summary, the table of trials and the figures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from tracetorch import constrain, plot, runs
from tracetorch.encode import Stream
from tracetorch.files import WriteError
from tracetorch.nn import Sequential
from tracetorch.printable import printable
from tracetorch.rules.base import Rule
from tracetorch.runs.ending import sentence
from tracetorch.runs.records import COSTS, RESERVED
from tracetorch.tasks.counted import mean_output
from tracetorch.tasks.environment import Environment
from tracetorch.tasks.evaluate import Policy, evaluate, evaluate_policy, record_episode, watch
from tracetorch.tasks.task import Batch, CountedBatch, Task, Trials, means
from tracetorch.training.synaptic_costs import MOST_DECISIONS, SynapticCosts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN_STEPS, _DRAWN_DECISIONS = 4000, 50  # bounds of what a figure shows: time steps, and decisions of an episode


def report(
    run: runs.Run,
    learner: Rule,
    task: Task,
    loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    window: int | None,
    *,
    figures: bool,
) -> None:
    """Test the network as it is, and write numbers, trials and figures into the run's folder.

    Args: window: steps at the end of a trial that are read as the answer; None: all. figures: whether to draw.
    The run's own values in the summary have precedence over values of the same name from `Task.summary`.

    Raises: ValueError if the task has no test trials; files.WriteError.
    """
    with run.repeatable():
        with run.timed("evaluate_seconds"):
            test = evaluate(learner, task, loss, "test", window)
            if test is None:
                raise ValueError(f"{type(task).__name__} has no trials to test on")
            costs = SynapticCosts(learner.net)
            costs.add(next(task.eval_batches("test")).xs)  # the network has been reset
        extra = task.summary(test.trials) | chance_level(test.trials) | costs.summary(task.dt)
        if test.steps:
            run.folder.write_table("steps.csv", {name: value.tolist() for name, value in test.steps.items()})
        _finish(run, learner.net, task, test.trials, values=test.means, extra=extra, figures=figures, window=window)


def report_policy(
    run: runs.Run, net: Sequential, environment: Environment, policy: Policy, window: int | None, *, figures: bool
) -> None:
    """Run the test episodes with the network as it is, and write the same files as `report`.

    Raises: ValueError if the environment has no test episodes; files.WriteError.
    """
    costs = SynapticCosts(net, most_batches=MOST_DECISIONS)

    def count(xs: Stream) -> None:
        if costs.wants_more:
            costs.add(xs)

    with run.repeatable():
        with run.timed("evaluate_seconds"):
            played = evaluate_policy(net, environment, policy, "test", window, on_observation=count)
        if not played:
            raise ValueError(f"{type(environment).__name__} has no episodes to test on")
        values, extra = means(played, environment.metrics), environment.summary(played) | costs.summary(environment.dt)
        options = {"policy": policy, "window": window}
        _finish(run, net, environment, played, values=values, extra=extra, figures=figures, **options)


def _finish(
    run: runs.Run,
    net: Sequential,
    task: Task | Environment,
    trials: Trials,
    *,
    values: dict[str, float],
    extra: dict[str, float],
    figures: bool,
    **options: Any,
) -> None:
    """Write the results of a test.

    Args: values: of the test's record. extra: further values for the summary. options: of `draw`.
    """
    own = run.summary | values
    run.summary = own | extra | decays(net, task.dt) | own
    run.record({"update": run.summary["updates"], "split": "test", "loss": None, **values})
    columns: dict[str, list[Any]] = {name: value.tolist() for name, value in trials.items()}
    run.folder.write_table("trials.csv", columns | task.details(trials))
    if figures:
        with run.timed("plot_seconds"):
            _warn(run, draw(run.folder, net, task, trials, **options))


def decays(net: Sequential, dt: float | None) -> dict[str, float]:
    """Return trainable decays by layer: the mean over neurons (for a trace's decay, over inputs) and its time constant.

    Args: dt: length of a step in seconds, if steps have one.
    Returns: for example {"decay_1": .97, "time_constant_1": .328}; a time constant, of a membrane only, is in
        seconds and is given only with dt. Fixed decays are left out.
    """
    values = {}
    for at, layer in enumerate(net):
        for name, raw in (("decay", layer.neuron.raw_decay), ("trace_decay", layer.input_trace.raw_decay)):
            if raw is None or not raw.requires_grad:
                continue
            mean = constrain.decay_from_raw(raw.detach()).double().mean()
            values[f"{name}_{at}"] = float(mean)
            if name == "decay" and dt is not None:
                values[f"time_constant_{at}"] = float(constrain.time_constant_from_decay(mean, dt))
    return values


def chance_level(trials: Trials) -> dict[str, float]:
    """Return the accuracy of the best constant answer, the share of the most frequent target; {} without classes."""
    if not {"target", "prediction", "accuracy"} <= trials.keys():
        return {}
    counts = torch.unique(trials["target"], return_counts=True)[1]
    return {"chance_accuracy": float(counts.max()) / len(trials["target"])}


class Drawn(NamedTuple):
    """The figures of a run."""

    names: list[str]
    failed: dict[str, str]  # the reason, by the name of a figure or of a group of figures


class View(NamedTuple):
    """Which figures to draw, what those of activity show, and the format of the files."""

    figures: Collection[str] = ()  # their names; empty: all
    layer: int | None = None  # None: all
    neurons: tuple[int, ...] = ()  # of the layer; empty: a selection of active ones
    trial: int | None = None  # number of a test trial; None: the first
    formats: Sequence[str] = ("png", "svg")

    @property
    def shows_part(self) -> bool:
        """Whether a layer, neurons or a trial were chosen."""
        return self != View(self.figures, formats=self.formats)

    def file_name(self, figure: str) -> str:
        """The name of a figure's file; that of a chosen part differs from that of the run's own figure."""
        if not self.shows_part or figure not in (*OF_ACTIVITY, *OF_TRIAL):
            return figure
        layer = "" if self.layer is None or figure in OF_TRIAL else f"_layer{self.layer}"
        neurons = f"_neurons{'-'.join(map(str, self.neurons))}" if self.neurons and figure not in OF_TRIAL else ""
        return f"{figure}{layer}{neurons}_trial{self.trial or 0}"


OF_ACTIVITY = ("raster", "membrane")
"""Figures that show layers, neurons and a trial."""
OF_TRIAL = ("traces",)
"""Figures that show a trial."""
_MEMBERS = {
    "learning": ("gradient",),
    "raster": ("membrane", *OF_TRIAL),
    "returns": ("episode",),
    "lifetime": ("policy", "recovery"),
}
"""Further figures of a group, by its name."""


class ViewError(ValueError):
    """A run has no such figure, layer, neuron or trial.

    Args: name, known: for a figure, its name and the names of all figures of the run.
    """

    def __init__(self, message: str, name: str = "", known: Sequence[str] = ()):
        super().__init__(message)
        self.name, self.known = name, known


def _warn(run: runs.Run, drawn: Drawn) -> None:
    """Warn of failed figures, which do not make a trained and tested run fail."""
    for name, why in drawn.failed.items():
        run.warn(f"no figure {name}: {why}")


def draw(
    folder: runs.RunFolder,
    net: Sequential,
    task: Task | Environment,
    trials: Trials | None,
    *,
    policy: Policy | None = None,
    window: int | None = None,
    view: View = View(),  # noqa: B008 — immutable
) -> Drawn:
    """Draw a run's figures from the files in its folder; if one fails, the others are still drawn.

    Args:
        trials: of the test; None leaves out their figures.
        policy, window: as in `record_episode`. Without a policy, an environment has no episode, and a trial no answer.
        view: the figures to draw, and what they show.
    Raises: files.WriteError if a figure cannot be written; ViewError for a figure, layer, neuron or trial that the run
        does not have, before anything is written.
    """
    records = folder.records()

    def learning() -> dict[str, Figure]:
        ideal = None if trials is None else task.summary(trials).get("ideal_accuracy")
        return _of_records(records, task.metrics[0], ideal)

    return _save(
        folder,
        {
            "learning": learning,
            "parameters": lambda: {"parameters": plot.distributions(net)},
            f"of {type(task).__name__}": lambda: {} if trials is None else task.figures(trials),
            "lifetime": lambda: figures_of_life(records, task.output_names),
            "returns": lambda: _of_episodes(records, net, task, policy, window),
            "raster": lambda: _of_example(net, task, view, policy, window),
            "receptive_fields": lambda: _of_weights(net, task),
        },
        view,
    )


def draw_without_task(folder: runs.RunFolder, net: Sequential, view: View = View()) -> Drawn:  # noqa: B008
    """Draw the figures of `draw` that do not need the task: learning curves, parameters and lifetime.

    Raises: as `draw`.
    """
    records = folder.records()
    summary = folder.facts().get("summary")
    ideal = summary.get("ideal_accuracy") if isinstance(summary, dict) else None
    names = (name for record in records if record.get("split") in ("train", "validation") for name in record)
    metric = next((name for name in names if name not in RESERVED and not name.endswith(COSTS)), "loss")
    return _save(
        folder,
        {
            "learning": lambda: _of_records(records, metric, ideal),
            "parameters": lambda: {"parameters": plot.distributions(net)},
            "lifetime": lambda: figures_of_life(records, None),
        },
        view,
    )


def draw_life(run: runs.Run, names: Sequence[str] | None) -> None:
    """Draw `figures_of_life` of a run; a failed figure is a warning."""
    _warn(run, _save(run.folder, {"lifetime": lambda: figures_of_life(run.folder.records(), names)}))


def _save(
    folder: runs.RunFolder,
    groups: dict[str, Callable[[], dict[str, Figure]]],
    view: View = View(),  # noqa: B008
) -> Drawn:
    """Draw groups of figures, one function each, and save them; of figures with the same name, save the last.

    Raises: as `draw`.
    """
    figures: dict[str, Figure] = {}
    drawn = Drawn([], {})
    wanted = set(view.figures)
    for name, make in groups.items():
        if not wanted or name.startswith("of ") or wanted & {name, *_MEMBERS.get(name, ())}:
            with _collecting_errors(drawn.failed, name):
                figures |= make()
    if missing := sorted(wanted - figures.keys() - drawn.failed.keys()):
        known = {*figures}
        for make in groups.values():
            with suppress(Exception):
                known |= make().keys()
        reasons = "".join(f"; no figure {name}: {why}" for name, why in drawn.failed.items())
        raise ViewError(f"this run has no figure {printable(missing[0], 80)!r}{reasons}", missing[0], sorted(known))
    for name in [name for name in drawn.failed if wanted and name.startswith("of ")]:
        del drawn.failed[name]  # it has none of the wanted figures
    for name, figure in figures.items():
        if wanted and name not in wanted:
            continue
        file = view.file_name(name)
        with _collecting_errors(drawn.failed, file):
            plot.save(figure, folder.plot(file), view.formats)
            drawn.names.append(file)
    return drawn


@contextmanager
def _collecting_errors(failed: dict[str, str], name: str) -> Iterator[None]:
    try:
        yield
    except (WriteError, ViewError):
        raise
    except (Exception, SystemExit) as error:
        failed[printable(name)] = sentence(error)


def _of_records(records: list[dict[str, Any]], metric: str, reference: float | None) -> dict[str, Figure]:
    figures = {"learning": plot.learning(records, metric=metric, reference=reference)}
    if any(record.get("split") == "gradient" for record in records):
        figures["gradient"] = plot.gradient(records)
    return figures


def _of_episodes(
    records: list[dict[str, Any]],
    net: Sequential,
    task: Task | Environment,
    policy: Policy | None,
    window: int | None,
) -> dict[str, Figure]:
    if not isinstance(task, Environment) or not has_long_episodes(records, task.num_envs):
        return {}
    figures = {"returns": plot.returns(records)}
    if policy is not None:
        decisions = max(1, min(_DRAWN_DECISIONS, _DRAWN_STEPS // task.steps))
        played = record_episode(net, task, policy, window, decisions=decisions)
        hidden = dict(list(played.layers.items())[:-1])  # the policy shows the readout
        figures["episode"] = plot.episode(
            hidden,
            played.membranes[0],
            getattr(net[0].neuron, "threshold", None),
            played.policy,
            played.action,
            dt=task.dt,
            names=task.output_names,
            whole=played.ended,
            spikes=played.layers[list(played.layers)[1]] if net[0].neuron.spiking else None,
        )
    return figures


def has_long_episodes(records: list[dict[str, Any]], num_envs: int) -> bool:
    """Whether episodes last more than one decision; otherwise `learning` already shows their returns."""
    last = next((record for record in reversed(records) if "episodes" in record), None)
    return last is not None and 0 < last["episodes"] < last["update"] * num_envs


def _of_example(
    net: Sequential, task: Task | Environment, view: View, policy: Policy | None, window: int | None
) -> dict[str, Figure]:
    """The figures of the network's activity in one trial."""
    if view.layer is not None and not 0 <= view.layer < len(net):
        raise ViewError(f"the network has {len(net)} layers, 0 to {len(net) - 1}, got layer {view.layer}")
    try:
        example, marks = task.example(view.trial) if view.trial else task.example()
    except ValueError as error:
        raise ViewError(str(error)) from error
    xs = example.xs if isinstance(example, Batch) else example
    marks = {name: (start * (task.dt or 1), stop * (task.dt or 1)) for name, (start, stop) in marks.items()}
    net.reset()
    values, membranes, output = watch(net, xs[: min(xs.steps, _DRAWN_STEPS)].dense())
    net.reset()
    names = list(values)[1:]  # without the input
    shown = range(len(net)) if view.layer is None else [view.layer]
    for at in shown if view.neurons else ():
        count = values[names[at]].shape[1]
        if missing := [neuron for neuron in view.neurons if not 0 <= neuron < count]:
            raise ViewError(f"layer {at} has {count:,} neurons, 0 to {count - 1:,}, got neuron {missing[0]}")
    options: dict[str, Any] = {"dt": task.dt, "marks": marks}
    chosen: dict[str, Any] = {"neurons": view.neurons} if view.neurons else {}
    layers = values if view.layer is None else {names[view.layer]: values[names[view.layer]]}
    of_readout: dict[str, Any] = {}
    if not net[-1].neuron.spiking and names[-1] in layers and not view.neurons:
        is_whole = len(output) == xs.steps
        answer, marked = _answer(task, example, output, policy, window) if is_whole else ("", [])
        lines = task.in_units(values[names[-1]])
        separate = lines is not values[names[-1]]  # several quantities, each in its unit
        of_readout = {"readout": (f"{names[-1]}{answer}", lines), "names": task.output_names, "marked": marked}
        of_readout["separate"] = separate
        layers = {name: value for name, value in layers.items() if name != names[-1]}
    recorded = {}
    for at in shown:
        threshold = getattr(net[at].neuron, "threshold", None)
        spikes = values[names[at]] if net[at].neuron.spiking else None
        recorded[names[at]] = plot.Membrane(membranes[at], spikes, None if threshold is None else threshold.detach())
    most: dict[str, Any] = {"neurons": 4 if len(recorded) == 1 else 2}
    figures = {
        "raster": plot.raster(layers, frequencies=task.input_frequencies, **options, **of_readout, **chosen),
        "membrane": plot.membranes(recorded, **options, **(chosen or most)),
    }
    if isinstance(example, CountedBatch) and example.at_steps:
        figures["traces"] = _of_steps(task, example, output[:, 0])
    return figures


def _answer(
    task: Task | Environment, example: Batch | Stream, output: Tensor, policy: Policy | None, window: int | None
) -> tuple[str, list[int]]:
    """What a network answers in a trial, for a title, and the outputs of the answer and of the target.

    Args: output: at every step, (steps, 1, outputs). policy, window: as of `draw`.
    """
    if isinstance(example, CountedBatch):
        mean = mean_output(output, example.counted, window)[0]
        if example.at_steps:
            return "", mean.argmax(dim=-1).tolist()
    else:
        mean = output[-(window or len(output)) :].mean(dim=0)
    found: Trials = {}
    if isinstance(task, Task) and isinstance(example, Batch):
        found = task.score(mean, example)
    elif policy is not None:
        found = {"prediction": policy(mean).argmax(dim=-1)}
    chosen = [found[name] for name in ("prediction", "target") if name in found]
    if not chosen or any(one.shape != (1,) or one.is_floating_point() for one in chosen):
        return "", []
    numbers = [int(one) for one in chosen]
    names = [task.output_names[at] if task.output_names else str(at) for at in numbers]
    goal = "" if len(names) == 1 else ", correct" if numbers[0] == numbers[1] else f", target {names[1]}"
    return f", answer {names[0]}{goal}", numbers


def _of_steps(task: Task | Environment, example: CountedBatch, output: Tensor) -> Figure:
    steps, names = len(output), task.output_names
    target, counted = task.in_units(example.target[:steps, 0]), example.counted[:steps, 0]
    return plot.traces(task.in_units(output).cpu(), target.cpu(), counted.cpu(), dt=task.dt, names=names)


def _of_weights(net: Sequential, task: Task | Environment) -> dict[str, Figure]:
    image = task.input_image()
    if image is None or net[0].in_features is None:
        return {}
    return {"receptive_fields": plot.receptive_fields(net[0].weight.detach().cpu(), image)}


def figures_of_life(records: list[dict[str, Any]], names: Sequence[str] | None) -> dict[str, Figure]:
    """Return the figures of a lifetime by file name, from records as in `metrics.jsonl`; none for other kinds of run.

    Args: names: of the actions; None: their numbers.
    """
    figures = {}
    if any("switches" in record for record in records):
        figures["lifetime"] = plot.lifetime(records)
    if any("taken_0" in record for record in records):
        figures["policy"] = plot.policy(records, names=names)
    if any(record.get("split") == "switch" for record in records):
        figures["recovery"] = plot.recovery(records)
    return figures
