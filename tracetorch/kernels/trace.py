"""An input trace as the kernels take it: what is kept, and how it decays; and traces of that trace."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from tracetorch import functional as F


class Trace(NamedTuple):
    """The trace of a layer's input; kernels update it in place.

    values: t ← d·t + x, (batch, inputs); or (traces, batch, inputs) for several of the same input.
    decay: d, a number or (inputs,); for several (traces, 1, 1) or (traces, 1, inputs).
    second: e ← c·e + t with the t of before the step, (seconds, batch, inputs): traces of the trace. The first follows
        the first trace, and so on, and round again. One with c = d is ∂t/∂d. None if there are none.
    second_decay: c, (seconds, 1, 1) or (seconds, 1, inputs).
    """

    values: Tensor
    decay: Tensor
    second: Tensor | None = None
    second_decay: Tensor | None = None

    def take(self, x: Tensor) -> None:
        """One step, in plain torch. Args: x: (batch, inputs)."""
        values, decay, second, second_decay = self
        if second is not None and second_decay is not None:
            several = values if values.ndim == 3 else values[None]
            followed = several[[at % len(several) for at in range(len(second))]]
            second.copy_(F.trace_step(followed, second, second_decay))
        values.copy_(F.trace_step(x, values, decay))
