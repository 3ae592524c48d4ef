"""Norse: cells, lifted over time, that integrate a differential equation with Euler's method."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import ModuleList

from contenders.base import DECAY, THRESHOLD, Backpropagation, synapses

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it uses torch.jit, which torch deprecates
    from norse.torch import LIBoxCell, LIBoxParameters, LIFBoxCell, LIFBoxParameters
    from norse.torch.functional.encode import poisson_encode
    from norse.torch.functional.lift import lift
    from norse.torch.functional.reset import reset_subtract

DT = 1e-3
"""Length of a step in seconds, norse's default; 1/dt is the rate in hertz of one spike per step."""


class Norse(Backpropagation):
    """`LIFBoxCell` and `LIBoxCell`, which do not filter the current, over all steps of a layer at once.

    Their step is `v ← v + dt/τ·(i − v)`: with dt/τ = 1 − β and weights 1/(1 − β) times as large, it equals the
    equations of `contenders.base`. The time of `functional.lift` is linear in the steps. In training, the time of the
    module `Lift` is quadratic: it indexes each step, and the gradient of each index is as large as the whole sequence.
    """

    detail = "box cells, lifted"
    weight_unit = 1 / (1 - DECAY)

    def __init__(self, sizes: Sequence[int], device: torch.device):
        super().__init__(sizes, device)
        rate, zero, theta = (torch.tensor(value, device=device) for value in ((1 - DECAY) / DT, 0.0, THRESHOLD))
        lif = LIFBoxParameters(tau_mem_inv=rate, v_leak=zero, v_th=theta, v_reset=zero, reset_method=reset_subtract)
        self.synapses = synapses(sizes)
        self.spiking = [LIFBoxCell(lif, dt=DT) for _ in sizes[1:-1]]
        self.readout = LIBoxCell(LIBoxParameters(tau_mem_inv=rate, v_leak=zero), dt=DT)
        self.net = ModuleList([*self.synapses, *self.spiking, self.readout])
        self._finish()
        self.reset()

    def encode(self, rates: Tensor, steps: int) -> Tensor:
        return poisson_encode(rates, steps, f_max=1 / DT, dt=DT)

    def mean_distribution(self, xs: Iterable[Tensor]) -> Tensor:
        x = xs if isinstance(xs, Tensor) else torch.stack(list(xs))
        for synapse, cell in zip(self.synapses, [*self.spiking, self.readout], strict=True):
            x, _ = lift(cell)(synapse(x))
        return torch.softmax(x, dim=-1).mean(dim=0)

    def reset(self) -> None:
        self.states: list[tuple[Tensor, ...] | None] = [None] * len(self.synapses)

    def step(self, x: Tensor) -> Tensor:
        for at, (synapse, cell) in enumerate(zip(self.synapses, [*self.spiking, self.readout], strict=True)):
            x, self.states[at] = cell(synapse(x), self.states[at])
        return torch.softmax(x, dim=-1)
