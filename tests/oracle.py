"""An oracle for gradients: one autograd graph through all steps, which shares no code with the rules; in float64.

A new rule or neuron is tested like this:

    example = Example(xs, target, loss, window=3, learn_every=8)
    assert_oracle(net, MyRule, example, {"layers.1.weight": EXACT, "layers.0.weight": Bounds(cosine=(0.6, 1.0))},
                  surrogate=FastSigmoid())
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from tests.common import draw_weights, normal
from tracetorch import loss as losses
from tracetorch.nn import LI, LIF, LIS, Sequential
from tracetorch.rules.base import Rule
from tracetorch.rules.bptt import using
from tracetorch.rules.gradient_similarity import Example, Gradients, gradient_by_rule, gradient_similarity
from tracetorch.rules.surrogate import Surrogate, Triangle


class Bounds(NamedTuple):
    """The range in which the gradient of one parameter must lie."""

    cosine: tuple[float, float] = (-1.0, 1.0)
    norm_ratio: tuple[float, float] = (0.0, math.inf)
    distance: float = math.inf  # at most, ‖found − wanted‖ / ‖wanted‖


EXACT = Bounds(distance=1e-9)
TRIANGLE = Triangle(height=1.0)


def network(readout=LIS, *, seed: int = 0, hidden: int = 1, reset: str = "subtract", **options) -> Sequential:
    """Hidden layers of 16 neurons that fire, and a tied readout of 4; 12 inputs; float64."""
    torch.manual_seed(seed)
    sizes = [12, *[16] * hidden]
    below = [LIF(size, 16, decay=0.9, threshold=0.8, bias=True, reset=reset) for size in sizes[:-1]]
    net = Sequential(*below, readout(sizes[-1], 4, **{"decay": 0.8, "bias": True} | options)).double()
    for layer in net:
        layer.bias.data.uniform_(-0.02, 0.05)
        if layer.neuron.spiking:
            draw_weights(layer, -0.25, 0.35)
    return net


def example(seed: int = 0, readout=LIS, *, steps: int = 60, **moments) -> Example:
    """Eight samples with different rates."""
    generator = torch.Generator().manual_seed(seed)
    rates = 0.4 * torch.rand(8, 12, generator=generator)
    xs = (torch.rand(steps, 8, 12, generator=generator) < rates).double()
    if readout is LI:
        return Example(xs, normal(8, 4, seed=seed), losses.mse, **moments)
    return Example(xs, torch.arange(8) % 4, losses.cross_entropy, **moments)


def unrolled(
    net: Sequential, xs: Tensor, surrogate: Surrogate | None = None, *, forget_before: tuple[int, ...] = ()
) -> Tensor:
    """All outputs from the blank state, (time, batch, out_features), in one graph, detached before some steps.

    The steps of neurons with kernels are written out here; other neurons use their own `step`.
    """
    membranes = [torch.zeros(xs.shape[1], layer.out_features, dtype=xs.dtype) for layer in net]
    states = [layer.neuron.init_state(membrane) for layer, membrane in zip(net, membranes, strict=True)]
    outputs = []
    for step, x in enumerate(xs):
        if step in forget_before:
            membranes = [membrane.detach() for membrane in membranes]
            states = [type(state)(*(value.detach() for value in state)) for state in states]
        value = x
        for at, layer in enumerate(net):
            current = value @ layer.weight.T + (0 if layer.bias is None else layer.bias)
            if type(layer) not in (LIF, LI, LIS):
                with using(layer, surrogate):
                    value, states[at] = layer.neuron.step(current, states[at])
                continue
            membranes[at] = value = layer.neuron.decay * membranes[at] + current
            if isinstance(layer, LIF):
                value = _spikes(value, layer.neuron.threshold, surrogate)
                reset = value if surrogate is not None and surrogate.through_reset else value.detach()
                lost = layer.neuron.threshold if layer.neuron.reset == "subtract" else membranes[at]
                membranes[at] = membranes[at] - lost * reset
            elif isinstance(layer, LIS):
                value = torch.softmax(value, dim=-1)
        outputs.append(value)
    return torch.stack(outputs)


def _spikes(membrane: Tensor, threshold: Tensor, surrogate: Surrogate | None) -> Tensor:
    """0 or 1, with the derivative of the surrogate."""
    if surrogate is None:
        raise ValueError("the derivative of a spike is 0 almost everywhere: name a surrogate for it")
    above = (membrane - threshold) / threshold
    smooth = surrogate.value(above)
    return smooth + ((above > 0).to(smooth.dtype) - smooth).detach()


def full_gradients(
    net: Sequential, example: Example, *, surrogate: Surrogate | None = None, forget: bool = False
) -> Gradients:
    """The gradient of the sum of all losses; with `forget`, each stretch is detached from the one before."""
    outputs = unrolled(net, example.xs, surrogate, forget_before=_moments(example) if forget else ())
    total = torch.stack([example.loss(answer, example.target)[0] for answer in _answers(example, outputs)]).sum()
    named = {name: value for name, value in net.named_parameters() if value.requires_grad}
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    pairs = zip(named.items(), found, strict=True)
    return {name: torch.zeros_like(value) if gradient is None else gradient for (name, value), gradient in pairs}


def central_differences(net: Sequential, example: Example, name: str, *, change: float = 1e-6) -> Tensor:
    """(L(p + h) − L(p − h)) / 2h for every number p of a parameter, each loss from the network's own run."""
    spiking = [at for at, layer in enumerate(net) if layer.neuron.spiking and at >= int(name.split(".")[1])]
    if spiking:
        raise ValueError(
            f"the loss is a staircase in {name}, because layer {spiking[0]} spikes: differences say nothing"
        )
    parameter = net.get_parameter(name)
    found = torch.zeros_like(parameter)
    with torch.no_grad():
        for place in (tuple(index) for index in torch.ones_like(parameter).nonzero().tolist()):
            here = parameter[place].clone()
            losses = []
            for shift in (change, -change):
                parameter[place] = here + shift
                losses.append(loss_of(net, example))
            parameter[place] = here
            found[place] = (losses[0] - losses[1]) / (2 * change)
    return found


def _moments(example: Example) -> tuple[int, ...]:
    steps = len(example.xs)
    every = example.learn_every or steps
    return (*range(every, steps, every), steps)


def _answers(example: Example, outputs: Tensor) -> list[Tensor]:
    """The mean output that is read at each learning moment, (batch, out_features)."""
    moments = _moments(example)
    since = [outputs[start:stop] for start, stop in pairwise((0, *moments))]
    return [part[-(example.window or len(part)) :].mean(dim=0) for part in since]


@torch.no_grad()
def loss_of(net: Sequential, example: Example) -> float:
    """The sum of all losses, from the network's own run."""
    net.reset()
    answers = _answers(example, net.run(example.xs))
    net.reset()
    return sum(float(example.loss(answer, example.target)[0]) for answer in answers)


@torch.no_grad()
def assert_live(net: Sequential, example: Example, gradients: Gradients) -> None:
    """Half of the neurons of each layer fire at some steps and not at others; signals and gradients are not zero."""
    net.reset()
    values = example.xs
    for at, layer in enumerate(net):
        values = layer.run(values)
        rates = values.mean(dim=(0, 1))
        if layer.neuron.spiking:
            alive, mean = float(((rates > 0) & (rates < 1)).double().mean()), float(rates.mean())
            assert alive >= 0.5 and 0.02 <= mean <= 0.98, (
                f"layer {at} proves nothing: it fires at {100 * mean:.1f} % of the steps, {100 * alive:.0f} % of its "
                "neurons at some and not at others"
            )
    net.reset()
    signals = [example.loss(answer, example.target)[1] for answer in _answers(example, values)]
    for moment, signal in zip(_moments(example), signals, strict=True):
        assert _is_something(signal), f"the learning moment after step {moment} proves nothing: its signal is zero"
    empty = [name for name, gradient in gradients.items() if not _is_something(gradient)]
    assert not empty, f"a gradient that is zero or not finite proves nothing: {', '.join(empty)}"


def _is_something(value: Tensor) -> bool:
    return bool(value.isfinite().all()) and bool((value != 0).any())


def misfits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], bounds: Mapping[str, Bounds]) -> dict[str, str]:
    """A sentence for each parameter whose gradient lies outside its bounds."""
    said = {}
    for name, allowed in bounds.items():
        cosine, ratio = gradient_similarity(found[name], wanted[name])
        distance = float((found[name] - wanted[name]).norm() / wanted[name].norm())
        within = (
            allowed.cosine[0] <= cosine <= allowed.cosine[1]
            and allowed.norm_ratio[0] <= ratio <= allowed.norm_ratio[1]
            and distance <= allowed.distance
        )
        if not within:
            said[name] = (
                f"{name}: cosine {cosine:.6f}, norm ratio {ratio:.4g}, off by {distance:.3g}, outside {allowed}"
            )
    return said


def others(example: Example) -> dict[str, Example]:
    """Wrong examples, which a comparison must distinguish from the right one."""

    def misassigned(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        value, signal = example.loss(output, target)
        return value, signal.roll(1, dims=-1)

    return {
        "the targets of other samples": example._replace(target=example.target.roll(1, dims=0)),
        "the inputs of other channels": example._replace(xs=example.xs.roll(1, dims=-1)),
        "the signals of other neurons": example._replace(loss=misassigned),
    }


def assert_oracle(
    net: Sequential,
    rule: Callable[[Sequential], Rule],
    example: Example,
    bounds: Mapping[str, Bounds],
    *,
    surrogate: Surrogate | None = None,
    forget: bool = False,
) -> None:
    """Compare a rule's gradient with the oracle's; fails, too, if all wrong examples lie within the bounds."""
    net = copy.deepcopy(net)
    wanted = full_gradients(net, example, surrogate=surrogate, forget=forget)
    assert_live(net, example, {name: wanted[name] for name in bounds})
    said = misfits(gradient_by_rule(rule(net), example), wanted, bounds)
    assert not said, "\n".join(said.values())
    refused = [misfits(gradient_by_rule(rule(net), other), wanted, bounds) for other in others(example).values()]
    blind = [name for name in bounds if not any(name in some for some in refused)]
    assert not blind, f"a comparison that cannot fail: {', '.join(blind)} fits {', fits '.join(others(example))} too"
