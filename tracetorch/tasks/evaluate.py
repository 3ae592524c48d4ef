"""Evaluation on held-out trials and episodes, without learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.modes import without_graph
from tracetorch.nn import Sequential
from tracetorch.nn.network import state_aside
from tracetorch.nn.sequential import as_input
from tracetorch.rules.base import Rule
from tracetorch.tasks.counted import counted_loss, mean_output
from tracetorch.tasks.environment import Environment
from tracetorch.tasks.task import CountedBatch, Task, Trials, means

_MOST_STEP_ROWS = 500_000  # batches that would exceed it are left out

Policy = Callable[[Tensor], Tensor]  # the probabilities of the actions, as a function of the network's mean output


class Evaluation(NamedTuple):
    """The results on held-out trials."""

    means: dict[str, float]  # the loss and the task's metrics
    trials: Trials  # one value for each trial, on the CPU
    steps: Trials = {}  # noqa: RUF012 — immutable; of the test, one value for each step with a target


@torch.no_grad()
def evaluate(
    learner: Rule, task: Task, loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], split: str, window: int | None
) -> Evaluation | None:
    """Evaluate a network on all trials of a split.

    Args:
        learner: its network is reset before and after.
        split: "validation" or "test".
        window: steps at the end that are read as the answer; all, if None.
    Returns: the results; None if the split is empty.
    """
    columns: list[Trials] = []
    of_steps: list[Trials] = []
    step_rows = 0
    total_loss, count = 0.0, 0
    for batch in task.eval_batches(split):
        learner.reset()
        if not isinstance(batch, CountedBatch):
            output = learner.forward(batch.xs, reduce="mean", window=window)
            rows = len(batch.target)
            total_loss, count = total_loss + float(loss(output, batch.target)[0]) * rows, count + rows
        else:
            output = learner.forward(batch.xs)
            found = counted_loss(loss, output, batch, 0, window)
            if found is not None:
                total_loss, count = total_loss + float(found.loss) * found.rows, count + found.rows
            if not batch.at_steps:
                output = mean_output(output, batch.counted, window)[0]
            elif split == "test" and step_rows + int(batch.counted.sum()) <= _MOST_STEP_ROWS:
                of_steps.append({name: value.cpu() for name, value in task.score_steps(output, batch).items()})
                step_rows += int(batch.counted.sum())
        columns.append({name: value.cpu() for name, value in task.score(output, batch).items()})
    learner.reset()
    if not count:
        return None
    trials, steps = _joined(columns), _joined(of_steps)
    return Evaluation({"loss": total_loss / count, **means(trials, task.metrics)}, trials, steps)


def _joined(parts: list[Trials]) -> Trials:
    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}


@without_graph
def evaluate_policy(
    net: Sequential,
    environment: Environment,
    policy: Policy,
    split: str,
    window: int | None,
    *,
    on_observation: Callable[[Stream], None] | None = None,
) -> Trials:
    """Run all episodes of a split with the most probable action at every decision.

    Args:
        net: its state is restored at the end.
        split: "validation" or "test".
        window: steps at the end of an observation that are read as the answer; all, if None.
        on_observation: called with each observation before the network runs over it.
    Returns: as `Environment.test`; nothing if the split is empty.
    """

    def choose(xs: Stream, begins: Tensor) -> Tensor:
        net.reset(None if bool(begins.all()) else begins)
        if on_observation is not None:
            on_observation(xs)
        return policy(net.run(xs, reduce="mean", window=window)).argmax(dim=-1)

    with state_aside(net):
        net.reset()
        return environment.test(choose, split)


@without_graph
def look_ahead(net: Sequential, xs: Stream, window: int | None) -> Tensor:
    """Return the network's output for this observation, (num_envs, outputs), without changing its state."""
    with state_aside(net):
        return net.run(xs, reduce="mean", window=window)


class Activity(NamedTuple):
    """The activity of a network, step by step."""

    layers: dict[str, Tensor]  # "input" and the output of every layer for the first sample, (steps, neurons) each
    membranes: list[Tensor]  # of every layer for the first sample, (steps, neurons) each
    output: Tensor  # of the last layer, (steps, batch, outputs)


@torch.no_grad()
def watch(net: Sequential, xs: Tensor) -> Activity:
    """Run a network step by step, and record the activity of all its layers."""
    layer_values: list[list[Tensor]] = [[] for _ in range(len(net) + 1)]
    membranes: list[list[Tensor]] = [[] for _ in net]
    outputs = []
    for x in xs:
        values = [x]
        for layer in net:
            values.append(layer(as_input(layer, values[-1], 1)))
        for steps, value in zip(layer_values, values, strict=True):
            steps.append(value[0].flatten())
        for steps, layer in zip(membranes, net, strict=True):
            steps.append(layer.own_state(len(x)).of_sample(0))
        outputs.append(values[-1])
    names = ["input", *(f"layer {at}, {layer.kind}" for at, layer in enumerate(net))]
    layers = {name: torch.stack(steps).cpu() for name, steps in zip(names, layer_values, strict=True)}
    return Activity(layers, [torch.stack(steps).cpu() for steps in membranes], torch.stack(outputs))


class Episode(NamedTuple):
    """Activity and actions of one environment. A step is a time step of the network; a decision takes several."""

    layers: dict[str, Tensor]  # as in `Activity`
    membranes: list[Tensor]  # as in `Activity`
    policy: Tensor  # the probabilities of the actions, (decisions, actions)
    action: Tensor  # (decisions,)
    ended: bool  # whether the episode ended, not just the recording


class _RecordingEnd(Exception):  # noqa: N818 — not an error
    """Raised to end `Environment.test`."""


@torch.no_grad()
def record_episode(
    net: Sequential, environment: Environment, policy: Policy, window: int | None, *, decisions: int
) -> Episode:
    """Run the first test episode with the most probable actions, and record the activity of the network.

    Args:
        net: its state is restored at the end.
        window: steps at the end of an observation that are read as the answer; all, if None.
        decisions: largest number of recorded decisions.
    Memory: decisions × steps × (inputs + neurons).
    """
    saved = net.save_state()
    activities, policies, actions, ended = list[Activity](), list[Tensor](), list[Tensor](), False

    def choose(xs: Stream, begins: Tensor) -> Tensor:
        nonlocal ended
        ended = bool(begins[0]) and bool(actions)
        if ended or len(actions) == decisions:
            raise _RecordingEnd
        net.reset(None if bool(begins.all()) else begins)
        activity = watch(net, xs.dense())
        p = policy(activity.output[-(window or len(activity.output)) :].mean(dim=0))
        action = p.argmax(dim=-1)
        activities.append(activity._replace(output=p))
        policies.append(p[0].cpu())
        actions.append(action[0].cpu())
        return action

    net.reset()
    try:
        environment.test(choose)
        ended = True  # `test` returns only after the ends of its episodes
    except _RecordingEnd:
        pass
    finally:
        net.load_state(saved)
    layers = {name: torch.cat([activity.layers[name] for activity in activities]) for name in activities[0].layers}
    membranes = [torch.cat(parts) for parts in zip(*(activity.membranes for activity in activities), strict=True)]
    return Episode(layers, membranes, torch.stack(policies), torch.stack(actions), ended)
