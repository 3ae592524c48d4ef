"""E-prop: an eligibility for every synapse, and one learning signal for every neuron, sent down from the readout."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.nn.layer import TraceLayer
from tracetorch.rules.passage import Passage, add_gradient, by_group, go_through
from tracetorch.rules.replayed import Recording, chunks, record
from tracetorch.rules.surrogate import Surrogate, surrogate_of


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
    Memory: of the chunk of 64 steps that is at hand, inputs and neurons of every layer. Of a stretch longer than that,
        also batch × inputs × neurons of every hidden layer, for the eligibilities. Independent of time.
    Time: the signal comes at the end here, so the stretch is run twice: O(time × batch × weights). Within a chunk no
        eligibility is formed: what is still to come of the signal, Σ_{t' ≥ t} κ^(t' − t)·L(t'), meets ψ(t)·x̂(t)ᵀ in one
        matrix product over time × batch. A chunk is folded into the eligibilities once there is another after it, in
        the same stretch or, if the sequence goes on, in the next.
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
        self._eligibilities = self._none_yet()

    def begin(self, lanes: Tensor | None = None) -> None:
        """Start a new sequence: forget the state, and the eligibilities with it; of some samples alone, if `lanes`."""
        if lanes is None:
            self._eligibilities = self._none_yet()
        else:
            self._remember_unlearnt()
            for eligibility in self._eligibilities:
                eligibility.forget(lanes)
        self._recording = None
        self.net.reset(lanes)

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. Under `torch.no_grad` no eligibilities are kept."""
        if not torch.is_grad_enabled():
            self._eligibilities = self._none_yet()
            return self.net.run(xs, reduce=reduce, window=window)
        self._remember_unlearnt()
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
        self._replay(self._recording, signal)
        self._recording = None

    def _remember_unlearnt(self) -> None:
        """A stretch that nothing was said about has its eligibilities all the same."""
        if self._recording is not None:
            self._replay(self._recording, None)

    def _replay(self, recording: Recording, signal: Tensor | None) -> None:
        """Run a stretch again, for its eligibilities; and learn, if there is a signal."""
        xs, first, share, before, between = recording
        (*hidden, readout), states, above = self.net, list(before), between[-1]
        kept, feedback, eligibilities = self._kept(), self.feedback_weights(), self._eligibilities
        for start, part in chunks(xs):
            passages, value = list[Passage](), part.to(readout.weight.dtype)
            for at, layer in enumerate(hidden):
                passages.append(go_through(layer, value, states[at], self.surrogate))
                states[at], value = passages[at].after, passages[at].outputs
            slopes, stop = [passage.slope() for passage in passages], start + len(part)
            for eligibility in eligibilities:
                eligibility.fold(kept)
            if signal is not None and stop > first:
                counting = value[max(0, first - start) :]
                top = go_through(readout, counting, above, self.surrogate)
                above, delta = top.after, top.pull((signal * share).repeat(len(counting), 1))
                top.learn(delta)
                deltas = delta.new_zeros(*value.shape[:2], delta.shape[1])
                deltas[-len(counting) :] = delta.view(*counting.shape[:2], -1)
                coming = _still_to_come(deltas, kept)
                for passage, slope, eligibility, sent in zip(passages, slopes, eligibilities, feedback, strict=True):
                    passage.pull((deltas @ sent).flatten(0, 1))
                    passage.learn((coming @ sent).flatten(0, 1) * slope)
                    eligibility.learn(kept * coming[0] @ sent)
            for eligibility, passage, slope in zip(eligibilities, passages, slopes, strict=True):
                eligibility.last = _Chunk(passage.trace, passage.ones_trace(), slope)

    def _none_yet(self) -> list[_Eligibility]:
        return [_Eligibility(layer) for layer in list(self.net)[:-1]]

    def _kept(self) -> float:
        """κ. A readout that fires filters nothing."""
        readout = self.net[len(self.net) - 1]
        return 0.0 if readout.spiking else float(readout.decay.detach())

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


def _still_to_come(deltas: Tensor, kept: float) -> Tensor:
    """Of a signal, at every step of a chunk: Σ_{t' ≥ t} κ^(t' − t)·δ(t'), the shape of δ."""
    steps = torch.arange(len(deltas), dtype=deltas.dtype, device=deltas.device)
    weights = (kept ** (steps - steps[:, None]).clamp(min=0)).triu()
    return (weights @ deltas.flatten(1)).view_as(deltas)


class _Chunk(NamedTuple):
    """What is left of a passage, to be folded."""

    trace: Tensor  # (groups, time, batch, in_features)
    ones_trace: Tensor  # (time, batch, 1 or out_features)
    slope: Tensor  # ψ, (rows, out_features)


class _Eligibility:
    """ē of every synapse and bias of a layer, after the chunks that were folded into it; nothing before the first."""

    def __init__(self, layer: TraceLayer):
        self.layer = layer
        self.last: _Chunk | None = None  # gone through, and not folded yet: there may be no signal after it
        self.weight: Tensor | None = None  # (groups × batch, neurons of the group, in_features)
        self.bias: Tensor | None = None  # (batch, out_features)

    @torch.no_grad()
    def fold(self, kept: float) -> None:
        """Take in the last chunk, of k steps: ē ← κᵏ·ē + Σ_t κ^(k − t)·ψ(t)·x̂(t)ᵀ. Args: kept: κ."""
        if self.last is None or not kept:
            return
        (trace, ones_trace, slope), self.last = self.last, None
        steps = len(ones_trace)
        ages = torch.arange(steps - 1, -1, -1, dtype=slope.dtype, device=slope.device)
        left = slope.unflatten(0, (steps, -1)) * (kept**ages)[:, None, None]
        slopes, traces = by_group(self.layer, left).permute(0, 2, 3, 1), trace.transpose(1, 2)
        factors = slopes.flatten(0, 1), traces.flatten(0, 1)  # (groups × batch, …, time) and (groups × batch, time, …)
        if self.weight is None:
            self.weight = torch.bmm(*factors)
        else:
            self.weight.baddbmm_(*factors, beta=kept**steps)
        if self.layer.bias is not None:
            new = (left * ones_trace).sum(dim=0)
            self.bias = new if self.bias is None else kept**steps * self.bias + new

    @torch.no_grad()
    def forget(self, lanes: Tensor) -> None:
        """Begin anew for some samples, bool (batch,)."""
        if self.last is not None:
            self.last.slope.view(-1, *lanes.shape, self.layer.out_features)[:, lanes] = 0
        if self.weight is not None:
            self.weight.unflatten(0, (-1, len(lanes)))[:, lanes] = 0
        if self.bias is not None:
            self.bias[lanes] = 0

    @torch.no_grad()
    def learn(self, told: Tensor) -> None:
        """Add `Σ L·ē` to the gradients. Args: told: L, (batch, out_features)."""
        if self.weight is None:
            return
        parts = by_group(self.layer, told)
        found = torch.einsum("gbo,gboi->goi", parts, self.weight.unflatten(0, parts.shape[:2]))
        add_gradient(self.layer, "weight", found.flatten(0, 1))
        if self.bias is not None:
            add_gradient(self.layer, "bias", (told * self.bias).sum(dim=0))
