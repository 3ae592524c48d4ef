"""The end of a run: the test, the summary, the table of trials and the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tracetorch import plot, runs
from tracetorch.nn import Sequential
from tracetorch.rules.rule import Rule
from tracetorch.runs.learnt import decays, guessing
from tracetorch.tasks.environment import Environment
from tracetorch.tasks.evaluate import evaluate, means
from tracetorch.tasks.play import play
from tracetorch.tasks.task import Batch, Task, Trials
from tracetorch.tasks.watch import watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN_STEPS, _DRAWN_DECISIONS = 4000, 50  # of an example, of an episode: more than a figure can show


def report(
    run: runs.Run,
    learner: Rule,
    task: Task,
    loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    window: int | None,
    *,
    figures: bool,
) -> None:
    """Test the network as it is, and leave numbers, trials and figures in the run's folder."""
    with run.timed("evaluate_seconds"):
        test = evaluate(learner, task, loss, "test", window)
    if test is None:
        raise ValueError(f"{type(task).__name__} has no trials to test on")
    run.summary |= test.means | task.summary(test.trials) | guessing(test.trials) | decays(learner.net, task.dt)
    run.record({"update": run.summary["updates"], "split": "test", **test.means})
    run.folder.write_table("trials.csv", {name: value.tolist() for name, value in test.trials.items()})
    if figures:
        with run.timed("plot_seconds"):
            draw(run.folder, learner.net, task, test.trials)


def report_play(
    run: runs.Run,
    net: Sequential,
    environment: Environment,
    policy: Callable[[Tensor], Tensor],
    window: int | None,
    *,
    figures: bool,
) -> None:
    """Play the episodes of the test with the network as it is; what is left is as `report` leaves it."""
    with run.timed("evaluate_seconds"):
        played = play(net, environment, policy, "test", window)
    if not played:
        raise ValueError(f"{type(environment).__name__} has no episodes to test on")
    found = means(played, environment.metrics)
    run.summary |= found | environment.summary(played) | decays(net, environment.dt)
    run.record({"update": run.summary["updates"], "split": "test", "loss": None, **found})
    run.folder.write_table("trials.csv", {name: value.tolist() for name, value in played.items()})
    if figures:
        with run.timed("plot_seconds"):
            draw(run.folder, net, environment, played, policy=policy, window=window)


def draw(
    folder: runs.RunFolder,
    net: Sequential,
    task: Task | Environment,
    trials: Trials | None,
    *,
    policy: Callable[[Tensor], Tensor] | None = None,
    window: int | None = None,
) -> list[str]:
    """Draw a run's figures from what its folder holds.

    Args:
        trials: of the test; None if the run never came so far, and then their figures are left out.
        policy, window: as `watch` takes them, for an episode of an environment; without the first none is drawn.
    Returns: the names of the figures.
    """
    reference = None if trials is None else task.summary(trials).get("ideal_accuracy")
    records = folder.records()
    figures = {
        "learning": plot.learning(records, metric=task.metrics[0], reference=reference),
        "parameters": plot.distributions(net),
        **({} if trials is None else task.figures(trials)),
    }
    if any(record.get("split") == "gradient" for record in records):
        figures["gradient"] = plot.gradient(records)
    figures |= figures_of_life(records, task.output_names)
    if isinstance(task, Environment) and has_long_episodes(records, task.lanes):
        figures["returns"] = plot.returns(records)
        if policy is not None:
            figures["episode"] = _episode(net, task, policy, window)
    shown, marks = task.example()
    xs = shown.xs if isinstance(shown, Batch) else shown
    marks = {name: (start * (task.dt or 1), stop * (task.dt or 1)) for name, (start, stop) in marks.items()}
    layers, membrane = _watch(net, xs[: min(xs.steps, _DRAWN_STEPS)].dense())
    spikes = {name: values for name, values in layers.items() if bool(((values == 0) | (values == 1)).all())}
    last = list(layers)[-1]
    if spikes:
        readout = None if last in spikes else (last, layers[last])
        figures["raster"] = plot.raster(spikes, dt=task.dt, marks=marks, readout=readout, names=task.output_names)
    first = net[0]
    threshold = getattr(first, "threshold", None)
    if threshold is not None:
        figures["membrane"] = plot.membrane(membrane, list(layers.values())[1], threshold.detach().cpu(), dt=task.dt)
    image = task.input_image()
    if image is not None:
        figures["receptive_fields"] = plot.receptive_fields(first.weight.detach().cpu(), image)
    for name, figure in figures.items():
        plot.save(figure, folder.plot(name))
    return list(figures)


def _episode(
    net: Sequential, environment: Environment, policy: Callable[[Tensor], Tensor], window: int | None
) -> Figure:
    decisions = max(1, min(_DRAWN_DECISIONS, _DRAWN_STEPS // environment.steps))
    seen = watch(net, environment, policy, window, decisions=decisions)
    below = dict(list(seen.layers.items())[:-1])  # of the readout the policy is what counts
    threshold, names = getattr(net[0], "threshold", None), environment.output_names
    done = (seen.policy, seen.action)
    return plot.episode(below, seen.membrane, threshold, *done, dt=environment.dt, names=names, whole=seen.ended)


def has_long_episodes(records: list[dict[str, Any]], lanes: int) -> bool:
    """Whether episodes last more than one decision; else their returns are what `learning` shows already."""
    last = next((record for record in reversed(records) if "episodes" in record), None)
    return last is not None and 0 < last["episodes"] < last["update"] * lanes


def draw_life(folder: runs.RunFolder, names: Sequence[str] | None) -> None:
    """Draw what `figures_of_life` gives for a run in its folder."""
    for name, figure in figures_of_life(folder.records(), names).items():
        plot.save(figure, folder.plot(name))


def figures_of_life(records: list[dict[str, Any]], names: Sequence[str] | None) -> dict[str, Figure]:
    """The figures of a lifetime by file name, from records as in `metrics.jsonl`; none if they are of another run.

    Args: names: what the actions are called; their numbers, if None.
    """
    figures = {}
    if any("switches" in record for record in records):
        figures["lifetime"] = plot.lifetime(records)
    if any("taken_0" in record for record in records):
        figures["policy"] = plot.policy(records, names=names)
    if any(record.get("split") == "switch" for record in records):
        figures["recovery"] = plot.recovery(records)
    return figures


def _watch(net: Sequential, xs: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """What every layer gives out in one trial, (time, neurons) each, and the membranes of the first layer."""
    net.reset()
    names = ["input", *(f"layer {at}, {type(layer).__name__}" for at, layer in enumerate(net))]
    seen: list[list[Tensor]] = [[] for _ in names]
    membranes = []
    for x in xs:
        outputs = [x]
        for layer in net:
            outputs.append(layer(outputs[-1]))
        for values, output in zip(seen, outputs, strict=True):
            values.append(output[0])
        membranes.append(net[0].state.membrane[0])
    net.reset()
    return {name: torch.stack(values).cpu() for name, values in zip(names, seen, strict=True)}, torch.stack(
        membranes
    ).cpu()
