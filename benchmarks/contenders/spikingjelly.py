"""SpikingJelly: multi-step mode, in which a layer sees all time steps before the next one does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from spikingjelly.activation_based import encoding, functional, neuron
from torch import Tensor
from torch.nn import ModuleList

from contenders.base import BLOCK, DECAY, THRESHOLD, Backpropagation, synapses

OUT_OF_REACH = 1e9
"""A threshold that no membrane reaches: a LIF neuron with it is a leaky integrator."""


class SpikingJelly(Backpropagation):
    """`LIFNode` in multi-step mode; the implementation for the device is the library's own choice.

    On a CPU that is its fused forward and backward in torch, the only one it has; on CUDA compiled or Triton kernels.
    `decay_input=False`, `v_reset=None` and τ = 1/(1 − β) make the network equal; a membrane exactly at its threshold
    fires here and not in ours. The readout is a `LIFNode` that never fires and keeps its voltages, which is on a CPU
    as fast as `SynapseFilter` and faster than `NonSpikingLIFNode`, and on CUDA has the fused kernels.

    Args: chunked: whether a stream is read 256 steps at a time, or one at a time (single-step mode).
    """

    def __init__(self, sizes: Sequence[int], device: torch.device, *, chunked: bool = False):
        super().__init__(sizes, device)
        self.encoder = encoding.PoissonEncoder(step_mode="m")
        self.synapses = synapses(sizes)
        self.spiking = [_node(THRESHOLD) for _ in sizes[1:-1]]
        self.readout = _node(OUT_OF_REACH, store_v_seq=True)
        self.net = ModuleList([*self.synapses, *self.spiking, self.readout])
        self._finish()
        self.chunked = chunked
        self.detail = f"multi-step, {functional.neuron_implementation('lif', device)['implementation']}"

    def encode(self, rates: Tensor, steps: int) -> Tensor:
        return self.encoder(rates.expand(steps, -1, -1))

    def mean(self, xs: Iterable[Tensor]) -> Tensor:
        self._rest("m")
        return self._advance(xs if isinstance(xs, Tensor) else torch.stack(list(xs))).mean(dim=0)

    def rest(self) -> None:
        self._rest("m" if self.chunked else "s")

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
        """The distribution of every step in `x`, in whichever mode the network is."""
        for synapse, node in zip(self.synapses, [*self.spiking, self.readout], strict=True):
            x = node(synapse(x))
        return torch.softmax(self.readout.v_seq if self.readout.store_v_seq else self.readout.v, dim=-1)

    def _rest(self, mode: str) -> None:
        """Forget; multi-step "m" or single-step "s", in which the voltages need not be kept."""
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
