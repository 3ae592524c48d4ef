"""A reference without surrogates: the slope of the loss of spiking networks, averaged over noise on their weights.

The loss is a staircase; its mean over normal noise ε of width σ is smooth, and its gradient is the mean of
ε·(L(W + σε) − L(W − σε)) / 2σ, whatever happens inside. Any guess g of it may be taken off each draw, as ε·⟨ε, g⟩, and
put back at the end: that leaves the mean where it is, and makes it surer the better the guess.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.oracle import example, full_gradients, loss_of, network, others
from tracetorch.rules import Trace
from tracetorch.rules.gradient_similarity import Gradients, gradient_by_rule, gradient_similarity
from tracetorch.rules.surrogate import FastSigmoid, Triangle

NAME, WIDTH = "layers.0.connection.weight", 0.05


def noisy(net, draws: int, seed: int, look: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean of `look(ε)`; as it looks, the weights are off by WIDTH·ε."""
    weight, generator = net.get_parameter(NAME), torch.Generator().manual_seed(seed)
    here, total = weight.detach().clone(), torch.zeros_like(weight)
    for _ in range(draws):
        noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
        with torch.no_grad():
            weight.copy_(here + WIDTH * noise)
        total += look(noise) / draws
    with torch.no_grad():
        weight.copy_(here)
    return total.detach()


def slope(net, given, guess: Tensor, seed: int) -> Tensor:
    """The gradient of the mean loss."""

    def look(noise: Tensor) -> Tensor:
        above = loss_of(net, given)
        with torch.no_grad():
            net.get_parameter(NAME).sub_(2 * WIDTH * noise)
        return noise * ((above - loss_of(net, given)) / (2 * WIDTH) - (noise * guess).sum())

    return guess + noisy(net, 1500, seed, look)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_trace_follows_the_slope_of_the_smoothed_loss_as_closely_as_bptt_does(seed):
    net, given = network(seed=seed), example(seed, learn_every=16, window=5)
    through_reset = Triangle(height=1.0, through_reset=True)

    def averaged(found: Callable[[], Gradients]) -> Tensor:
        return noisy(net, 50, 7, lambda noise: found()[NAME])

    wide = averaged(lambda: full_gradients(net, given, surrogate=through_reset))
    narrow = averaged(lambda: full_gradients(net, given, surrogate=FastSigmoid()))
    trace = averaged(lambda: gradient_by_rule(Trace(net), given))
    truth, again = slope(net, given, wide, seed=1), slope(net, given, trace, seed=2)
    assert gradient_similarity(truth, again).cosine > 0.97, "the reference is not sure"
    guesses = {"trace": trace, "fast": narrow, "wide": wide}
    found = {name: gradient_similarity(value, truth) for name, value in guesses.items()}
    assert found["trace"].cosine > 0.93 and 0.75 < found["trace"].norm_ratio < 1.0, found
    assert found["fast"].cosine > 0.93 and found["wide"].cosine > 0.96, found
    for what, wrong in others(given).items():
        close = gradient_similarity(averaged(partial(gradient_by_rule, Trace(net), wrong)), truth)
        assert close.cosine < 0.85, what
