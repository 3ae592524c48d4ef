"""Gradients lie in memory as their parameters do: fused optimizers take that for granted, and would learn nonsense."""

from functools import partial

import pytest
import torch

from tests.common import IN, OUT, normal, spikes
from tracetorch import loss
from tracetorch.nn import LIF, LIS, Sequential
from tracetorch.rules import BPTT, OTTT, EProp, ThreeFactor, Trace, TruncatedBPTT


def network() -> Sequential:
    """Layers with groups of decays, with a bank, and with neither."""
    torch.manual_seed(0)
    return Sequential(LIF(IN, 8, decay=[0.8, 0.9]), LIF(8, 8, trace_bank=[0.99]), LIF(8, 8, bias=True), LIS(8, OUT))


def learn(rule, seed: int) -> None:
    rule.reset()
    output = rule.forward(spikes(seed=seed).float(), reduce="mean")
    if isinstance(rule, ThreeFactor):
        rule.observe(normal(*output.shape, seed=seed).float())
        rule.backward(normal(len(output), seed=seed).float())
    else:
        rule.backward(loss.mse(output, torch.zeros(len(output), dtype=torch.int64))[1])


@pytest.mark.parametrize(
    "rule", [Trace, BPTT, partial(TruncatedBPTT, k=5), EProp, OTTT, partial(ThreeFactor, layers="all")]
)
def test_a_fused_optimizer_learns_what_any_other_does(rule):
    nets = [network(), network()]
    optimizers = [torch.optim.Adam(net.parameters(), lr=0.01, fused=at == 1) for at, net in enumerate(nets)]
    for seed in range(3):
        for net, optimizer in zip(nets, optimizers, strict=True):
            optimizer.zero_grad()
            learn(rule(net), seed)
            optimizer.step()
    for plain, fused in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)
        assert fused.grad is None or fused.grad.stride() == fused.stride()
