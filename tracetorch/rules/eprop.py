"""E-prop: an eligibility for every synapse, and one learning signal for every neuron, sent down from the readout."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.rules.replayed import Local, Recording, add_gradient, add_traced, local_step, record, steps
from tracetorch.rules.surrogate import Surrogate, surrogate_of
from tracetorch.rules.unrolled import using


class EProp:
    """Learn from eligibility traces and a signal that the readout broadcasts.

        e = ψ·x̂ᵀ,    x̂ ← β·x̂ + x,    ē ← κ·ē + e          for every synapse of a hidden layer
        dL/dW = Σ_t L(t)·ē(t),    L = Bᵀ·δ                   δ: dL/d membrane of the readout, through that step

    ψ is the surrogate of the step, β the decay of the layer's input trace, κ that of the readout's membrane. The
    readout learns from δ and the trace of its own input.

    Args:
        net: hidden layers below a readout (`LI` or `LIS`; with spikes instead, κ is 0).
        feedback: "symmetric" takes for B the weights above, multiplied through; "random" takes fixed random ones.
        seed: of the random feedback.
        surrogate: as in `BPTT`.
    Gradient: equal to backpropagation through time (with the same surrogate, not through the reset) for W and b of a
        tied readout and, if feedback is symmetric, of the tied hidden layer next to it: without recurrence, nothing is
        dropped there. Approximate for layers further down, whose spikes act through those above, and for random
        feedback. Decays and thresholds get that of each step alone.
    Memory: batch × inputs × neurons of every hidden layer, for the eligibilities; independent of time.
    Time: the signal comes at the end here, so the sequence is run twice, and each step touches every eligibility:
        O(time × batch × weights).
    Source: Bellec, Scherr, Subramoney, Hajek, Salaj, Legenstein, Maass (2020), doi:10.1038/s41467-020-17236-y.
    """

    def __init__(
        self,
        net: Sequential,
        *,
        feedback: Literal["symmetric", "random"] = "symmetric",
        seed: int = 0,
        surrogate: Surrogate | str = "triangle",
    ):
        if feedback not in ("symmetric", "random"):
            raise ValueError(f"feedback must be symmetric or random, got {feedback!r}")
        readout = net[len(net) - 1]
        if not readout.spiking and readout.raw_decay.numel() > 1:
            raise ValueError("e-prop filters its eligibilities with the readout's decay, and needs a single one")
        self.net, self.feedback, self.surrogate = net, feedback, surrogate_of(surrogate)
        generator = torch.Generator().manual_seed(seed)
        out = readout.out_features
        self._random = [
            torch.randn(out, layer.out_features, generator=generator) / out**0.5 for layer in list(net)[:-1]
        ]
        self._recording: Recording | None = None

    def begin(self) -> None:
        """Start a new sequence: forget the state, and the eligibilities with it."""
        self.net.reset()
        self._recording = None

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`."""
        if not torch.is_grad_enabled():
            return self.net.run(xs, reduce=reduce, window=window)
        output, self._recording = record(self.net, xs, reduce, window)
        return output

    def backward(self, signal: Tensor) -> None:
        """Add to the gradient of every learnable parameter, once for each `forward`.

        Args: signal: dL/d the mean that `forward` gave; or, if that was every step's output, dL/d the last one.
        Raises: RuntimeError if nothing was run since.
        """
        if self._recording is None:
            raise RuntimeError(
                "nothing was run since the last learning moment: call rule.forward(xs) before rule.backward"
            )
        states, feedback = list(self._recording.states), self.feedback_weights()
        hidden, readout = list(self.net)[:-1], self.net[len(self.net) - 1]
        kept = 0.0 if readout.spiking else float(readout.decay.detach())
        batch = len(signal)
        eligible = [layer.weight.new_zeros(batch, layer.out_features, layer.in_features) for layer in hidden]
        eligible_bias = [layer.weight.new_zeros(batch, layer.out_features) for layer in hidden]
        for x, share in steps(self._recording):
            value, locals_ = x.to(readout.weight.dtype), list[Local]()
            for at, layer in enumerate(self.net):
                with using(layer, self.surrogate):
                    locals_.append(local_step(layer, value, states[at]))
                states[at], value = locals_[at].state, locals_[at].output.detach()
            for at, layer in enumerate(hidden):
                slope, input_trace = locals_[at].slope(), locals_[at].input_trace(layer)
                eligible[at].mul_(kept).addcmul_(slope[:, :, None], input_trace)
                eligible_bias[at].mul_(kept).add_(slope * locals_[at].ones_trace(layer))
            if not share:
                continue
            delta, others = locals_[-1].pull(readout, signal * share)
            add_traced(readout, delta, locals_[-1])
            for name, gradient in others.items():
                add_gradient(readout, name, gradient)
            for at, layer in enumerate(hidden):
                told = delta @ feedback[at]
                add_gradient(layer, "weight", torch.einsum("bo,boi->oi", told, eligible[at]))
                add_gradient(layer, "bias", (told * eligible_bias[at]).sum(dim=0))
                for name, gradient in locals_[at].pull(layer, told)[1].items():
                    add_gradient(layer, name, gradient)
        self._recording = None

    @torch.no_grad()
    def feedback_weights(self) -> list[Tensor]:
        """B of each hidden layer, (out_features of the net, out_features of the layer)."""
        readout = self.net[len(self.net) - 1].weight
        if self.feedback == "random":
            return [weight.to(readout) for weight in self._random]
        found, above = [], torch.eye(len(readout), dtype=readout.dtype, device=readout.device)
        for layer in reversed(list(self.net)[1:]):
            above = above @ layer.weight
            found.append(above)
        return found[::-1]
