"""SpikingJelly in multi-step mode: each layer processes all time steps before the next layer starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from spikingjelly.activation_based import encoding, functional, neuron
from torch import Tensor
from torch.nn import ModuleList

from contenders.base import BLOCK, DECAY, THRESHOLD, Backpropagation, synapses

UNREACHABLE_THRESHOLD = 1e9
"""A threshold that no membrane reaches: a LIF neuron with it is a leaky integrator."""


class SpikingJelly(Backpropagation):
    """`LIFNode` in multi-step mode; the library selects the implementation for the device.

    On a CPU, it has one implementation: a fused forward and backward in torch. On CUDA, it selects compiled or Triton
    kernels. `decay_input=False`, `v_reset=None` and τ = 1/(1 − β) give the equations of `contenders.base`, with one
    exception: a membrane exactly at its threshold fires here. The readout is a `LIFNode` that never fires and stores
    its voltages. On a CPU, it is as fast as `SynapseFilter` and faster than `NonSpikingLIFNode`; on CUDA, it uses the
    fused kernels.

    Args: chunked: whether a stream is read 256 steps at a time, or one at a time (single-step mode).
    """

    def __init__(self, sizes: Sequence[int], device: torch.device, *, chunked: bool = False):
        super().__init__(sizes, device)
        self.encoder = encoding.PoissonEncoder(step_mode="m")
        self.synapses = synapses(sizes)
        self.spiking = [_node(THRESHOLD) for _ in sizes[1:-1]]
        self.readout = _node(UNREACHABLE_THRESHOLD, store_v_seq=True)
        self.net = ModuleList([*self.synapses, *self.spiking, self.readout])
        self._finish()
        self.chunked = chunked
        self.detail = f"multi-step, {functional.neuron_implementation('lif', device)['implementation']}"

    def encode(self, rates: Tensor, steps: int) -> Tensor:
        return self.encoder(rates.expand(steps, -1, -1))

    def mean_distribution(self, xs: Iterable[Tensor]) -> Tensor:
        self._reset("m")
        return self._advance(xs if isinstance(xs, Tensor) else torch.stack(list(xs))).mean(dim=0)

    def reset(self) -> None:
        self._reset("m" if self.chunked else "s")

    def step(self, x: Tensor) -> Tensor:
        return self._advance(x)

    @torch.no_grad()
    def stream(self, rates: Tensor, steps: int, seed: int) -> None:
        if not self.chunked:
            return super().stream(rates, steps, seed)
        torch.manual_seed(seed)
        for start in range(0, steps, BLOCK):
            self._advance(self.encode(rates, min(BLOCK, steps - start)))
        return None

    def _advance(self, x: Tensor) -> Tensor:
        """The class probabilities of every step in `x` (multi-step mode), or of the one step (single-step mode)."""
        for synapse, node in zip(self.synapses, [*self.spiking, self.readout], strict=True):
            x = node(synapse(x))
        return torch.softmax(self.readout.v_seq if self.readout.store_v_seq else self.readout.v, dim=-1)

    def _reset(self, mode: str) -> None:
        """Reset the state, and set the mode: multi-step "m", or single-step "s", which stores no voltages."""
        functional.reset_net(self.net)
        if self.readout.step_mode != mode:
            functional.set_step_mode(self.net, mode)
            self.readout.store_v_seq = mode == "m"


def _node(threshold: float, store_v_seq: bool = False) -> neuron.LIFNode:
    return neuron.LIFNode(
        tau=1 / (1 - DECAY),
        decay_input=False,
        v_threshold=threshold,
        v_reset=None,
        detach_reset=True,
        step_mode="m",
        store_v_seq=store_v_seq,
    )
