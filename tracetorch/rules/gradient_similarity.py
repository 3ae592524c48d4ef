"""Similarity of two gradients: the angle between them, and the ratio of their norms."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.loss import RewardLoss
from tracetorch.loss.base import log_prob
from tracetorch.nn import Sequential
from tracetorch.rules.base import Rule
from tracetorch.rules.bptt import BPTT

Loss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(output, target) to (loss, signal)."""

Teach = Callable[[Any, Tensor, Tensor], None]
"""(rule, output, target): calls the rule's `backward` or `backward_reward`."""

Gradients = dict[str, Tensor]
"""Gradient of every trainable parameter, by its name; zeros for a parameter without a gradient."""


class GradientSimilarity(NamedTuple):
    """Similarity of a gradient to a reference, for one parameter."""

    cosine: float  # of the angle between the two; 1 or −1 for a single number; NaN if one is zero
    norm_ratio: float  # norm of the gradient over that of the reference; NaN if that is zero


def gradient_similarity(found: Tensor, wanted: Tensor) -> GradientSimilarity:
    """Compare two gradients of one parameter.

        cosine = ⟨g, h⟩ / (‖g‖·‖h‖),    norm ratio = ‖g‖ / ‖h‖                                        in float64

    Args: found: g. wanted: h, the reference. Both of one shape.
    Returns: cosine and ratio; NaN where they are undefined, because a gradient is zero or not finite.
    Raises: ValueError for different shapes.
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
    """Compare parameter by parameter. Raises: ValueError unless both have the same parameters."""
    if found.keys() != wanted.keys():
        raise ValueError(f"the gradients belong to different parameters: {', '.join(found)} and {', '.join(wanted)}")
    return {name: gradient_similarity(found[name], gradient) for name, gradient in wanted.items()}


class Example(NamedTuple):
    """A batch of sequences, its targets, and its learning moments."""

    xs: Tensor | Stream  # (time, batch, in_features)
    target: Tensor
    loss: Loss
    window: int | None = None  # steps before each learning moment that are read as the answer; None: all since the last
    learn_every: int | None = None  # steps from one learning moment to the next; None: one moment, at the end
    teach: Teach | None = None  # None: `backward` with the signal of the loss

    def stretches(self) -> list[tuple[int, int, int]]:
        """Return, for each learning moment, its first step, the first step that is read, and its end."""
        steps = len(self.xs)
        size = self.learn_every or steps
        ends = [(start, min(start + size, steps)) for start in range(0, steps, size)]
        return [(start, max(start, stop - (self.window or size)), stop) for start, stop in ends]


def gradient_by_rule(rule: Rule, example: Example) -> Gradients:
    """Return the gradient of a rule, summed over the learning moments. Overwrites the network's state and `.grad`."""
    rule.net.zero_grad()
    rule.reset()
    for start, first, stop in example.stretches():
        output = rule.forward(example.xs[start:stop], reduce="mean", window=stop - first)
        if example.teach is None:
            rule.backward_label(example.loss(output, example.target)[1], target=example.target)
        else:
            example.teach(rule, output, example.target)
    return _gradients_of(rule.net)


def gradient_through_time(rule: BPTT, example: Example) -> Gradients:
    """Return the gradient of the same losses through all time, the reference for `gradient_by_rule`.

    The gradient goes back from each learning moment to the beginning; in training, `BPTT` stops at the previous moment.

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


def example_of_scores(xs: Tensor | Stream, action: Tensor, loss: RewardLoss, window: int | None = None) -> Example:
    """Return an example in which each action gets a reward of 1 and the expected reward is 0.

        L = −mean over the samples of log p(action)

    For another reward, multiply this gradient, sample by sample, by reward − expected reward. The value of a
    critic and exploration bonuses are left out.

    Args: xs: (time, batch, in_features). action: whole numbers, (batch,). window: of `Example`.
    """
    loss = copy.deepcopy(loss)
    floor = 1e-3 if loss.at == "output" else 0.0  # the ε that keeps the loss's score finite

    def negative_log_prob(output: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            leaf = output.detach().requires_grad_()
            value = -log_prob(loss.policy(leaf) + floor, action).mean()
        return value.detach(), torch.autograd.grad(value, leaf)[0]

    def teach(rule: Any, output: Tensor, action: Tensor) -> None:
        loss.reset()
        loss.observe(output, action)
        score = loss.score.clone()
        score[:, score.shape[1] - loss.values :] = 0
        rule.observe(score, at=loss.at)
        modulation = score.new_full((len(score),), -1 / len(score))
        rule.backward_reward(-score / len(score), modulation=modulation, bonus=None, at=loss.at)

    return Example(xs, action, negative_log_prob, window, teach=teach)
