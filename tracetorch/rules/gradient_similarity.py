"""How close one gradient comes to another: the angle between them, and how long one is beside the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.rules.base import Rule
from tracetorch.rules.bptt import BPTT

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(output, target) to (loss, signal)."""

Teach = Callable[[Any, Tensor, Tensor], None]
"""(rule, output, target): tell the rule, in its own way."""

Gradients = dict[str, Tensor]
"""By the name of the parameter, such as "layers.0.weight"; of every learnable one, zero where nothing reached it."""


class GradientSimilarity(NamedTuple):
    """How close the gradient that was found comes to the one that was wanted, for one parameter."""

    cosine: float  # of the angle between them; of a single number, whether the signs agree: 1 or −1. NaN if one is zero
    norm_ratio: float  # length of the found one over that of the wanted one; NaN if that is zero


def gradient_similarity(found: Tensor, wanted: Tensor) -> GradientSimilarity:
    """Compare two gradients of one parameter.

        cosine = ⟨g, h⟩ / (‖g‖·‖h‖),    norm ratio = ‖g‖ / ‖h‖                                        in float64

    Args:
        found: g, any shape.
        wanted: h, the same shape.
    Returns: NaN for what is not defined because a gradient is zero, or not finite.
    Raises: ValueError for other shapes.
    Example:
        >>> from tracetorch.rules.gradient_similarity import gradient_similarity
        >>> round(gradient_similarity(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0])).cosine, 4)
        0.7071
    """
    if found.shape != wanted.shape:
        raise ValueError(f"two gradients of one parameter have one shape, got {(*found.shape,)} and {(*wanted.shape,)}")
    g, h = (gradient.detach().cpu().double().flatten() for gradient in (found, wanted))
    cosine = (g / g.norm() @ (h / h.norm())).clamp(-1, 1)
    ratio = g.norm() / h.norm() if bool(h.any()) else torch.tensor(torch.nan)
    return GradientSimilarity(float(cosine), float(ratio))


def gradient_similarities(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, GradientSimilarity]:
    """Compare parameter by parameter. Raises: ValueError unless both are of the same parameters."""
    if found.keys() != wanted.keys():
        raise ValueError(f"the gradients belong to different parameters: {', '.join(found)} and {', '.join(wanted)}")
    return {name: gradient_similarity(found[name], gradient) for name, gradient in wanted.items()}


class Example(NamedTuple):
    """A batch of sequences, what is told of them, and when."""

    xs: Tensor | Stream  # (time, batch, in_features)
    target: Tensor
    loss: Loss
    window: int | None = None  # steps before each learning moment that are read as the answer; all since the last one
    learn_every: int | None = None  # steps from one learning moment to the next; one moment, at the end, if None
    teach: Teach | None = None  # by the loss' signal, if None

    def stretches(self) -> list[tuple[int, int, int]]:
        """For each learning moment: where the steps since the last one begin, which are read, and where they end."""
        steps = len(self.xs)
        size = self.learn_every or steps
        ends = [(start, min(start + size, steps)) for start in range(0, steps, size)]
        return [(start, max(start, stop - (self.window or size)), stop) for start, stop in ends]


def gradient_by_rule(rule: Rule, example: Example) -> Gradients:
    """The gradient that a rule finds in an example, with the weights as they are: the sum over the learning moments.

    Args: rule: its network's state and `.grad` are overwritten.
    """
    rule.net.zero_grad()
    rule.reset()
    for start, first, stop in example.stretches():
        output = rule.forward(example.xs[start:stop], reduce="mean", window=stop - first)
        if example.teach is None:
            rule.backward(example.loss(output, example.target)[1])
        else:
            example.teach(rule, output, example.target)
    return _gradients_of(rule.net)


def gradient_through_time(rule: BPTT, example: Example) -> Gradients:
    """What `gradient_by_rule` is measured by: the gradient of the same losses through all that led to each of them.

    With several learning moments this is more than `BPTT` would learn, to which what lies before the last one is
    constant: here the gradient goes back to the beginning from each.

    Args: rule: as for `gradient_by_rule`.
    Memory: O(time × batch × (inputs + neurons)).
    """
    rule.net.zero_grad()
    rule.reset()
    outputs = rule.forward(example.xs)
    signal = torch.zeros_like(outputs)
    for _, first, stop in example.stretches():
        signal[first:stop] = example.loss(outputs[first:stop].mean(dim=0), example.target)[1] / (stop - first)
    rule.backward(signal)
    return _gradients_of(rule.net)


def _gradients_of(net: Sequential) -> Gradients:
    named = {name: value for name, value in net.named_parameters() if value.requires_grad}
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in named.items()}
