"""E-prop: an eligibility for every synapse, and one learning signal for every neuron, sent down from the readout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.modes import unaffected, whole
from tracetorch.nn import Layer, Sequential
from tracetorch.nn.gradients import whole_gradients
from tracetorch.nn.local_gradient import At
from tracetorch.rules.base import Rule, check_at, needs_decay_alone, run_only
from tracetorch.rules.eligibility import Eligibility
from tracetorch.rules.stepwise import StepwiseGraph, run_stepwise
from tracetorch.rules.surrogate import Surrogate, surrogate_of_step
from tracetorch.rules.two_pass import Recording, check_signal, chunks, record


class EProp(Rule):
    """Learn from eligibility traces and a signal that the readout broadcasts.

        e = ψ·x̂ᵀ,    x̂ ← β·x̂ + x,    ē ← κ·ē + e          for every synapse of a hidden layer
        dL/dW = Σ_t L(t)·ē(t),    L = Bᵀ·δ                   δ: dL/d membrane of the readout, through that step

    ψ is the surrogate of the step, β the decay of the layer's input trace, κ that of the readout's membrane. The
    readout learns from δ and the trace of its own input.

    Args:
        net: hidden layers below a readout (`LI` or `LIS`; with spikes instead, κ is 0).
        feedback: "symmetric" takes for B the weights above, multiplied through; "random" takes fixed random ones.
        seed: of the random feedback.
        surrogate: as in `BPTT`; none that goes through the reset.
    Gradient: equal to backpropagation through time (with the same surrogate, not through the reset) for W and b of a
        tied readout and, if feedback is symmetric, of the tied hidden layer next to it: without recurrence, nothing is
        dropped there, back to the beginning of the sequence and across all learning moments in it. Approximate for
        layers further down, whose spikes act through those above (B is then the product of the weights above, which is
        ours), and for random feedback. Decays and thresholds get that of each step alone.
    Memory: of the chunk of 64 steps that is at hand and what the one before left, inputs and neurons of every layer. Of
        a sequence that goes on for longer, or in several stretches, also batch × inputs × neurons of every hidden layer
        that learns, for the eligibilities. Independent of time.
    Time: O(time × batch × weights): the signal comes at the end here, so the stretch is run twice. Within a chunk no
        eligibility is formed: what is still to come of the signal, Σ_{t' ≥ t} κ^(t' − t)·L(t'), meets ψ(t)·x̂(t)ᵀ in one
        matrix product over time × batch. A chunk is folded into the eligibilities once there is another after it, in
        the same stretch or, if the sequence goes on, in the next.
    Left out of the paper's: recurrent weights, adaptive thresholds, refractory times, the regularisation of rates, and
        feedback that learns.
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
        super().__init__(net)
        readout = net[len(net) - 1]
        if not readout.neuron.spiking and readout.neuron.raw_decay.numel() > 1:
            raise ValueError(
                "e-prop filters its eligibilities with the readout's decay, and needs a single one, got "
                f"{readout.neuron.raw_decay.numel()}: give network.readout.decay one number, or take rule=trace"
            )
        self.feedback, self.surrogate = feedback, surrogate_of_step(surrogate)
        generator = torch.Generator().manual_seed(whole(seed, "seed"))
        out = len(readout.weight)
        self._random = [torch.randn(out, len(layer.weight), generator=generator) / out**0.5 for layer in list(net)[:-1]]
        self._recording: Recording | None = None
        self._eligibilities = self._none_yet()

    def supports(self, layer: Layer) -> str:
        return needs_decay_alone(layer)

    def reset(self, mask: Tensor | None = None) -> None:
        """Start a new sequence: forget the state, and the eligibilities with it; of some samples alone, if `mask`."""
        super().reset(mask)
        if mask is None:
            self._recording, self._eligibilities = None, self._none_yet()
            return
        self._remember_unlearnt()
        for eligibility in self._eligibilities:
            eligibility.forget(mask)

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`.

        `xs` is read again later: it must stay as it is until the next `backward`, `forward` or `reset`. Under
        `torch.no_grad` no eligibilities are kept, and those that there were are over.
        """
        if not torch.is_grad_enabled():
            self._recording, self._eligibilities = None, self._none_yet()
            return run_only(self, xs, reduce, window)
        self._remember_unlearnt()
        output, self._recording = record(self.net, xs, reduce, window)
        return output

    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Add to the gradient of every learnable parameter, once for each `forward`.

        Args: signal: dL/d the mean that `forward` gave; or, if that was every step's output, dL/d the last one:
            (batch, out_features).
        Raises: RuntimeError if nothing was run since; ValueError for a signal of another shape.
        """
        check_at(self, at)
        recording = check_signal(self.net, self._recording, signal)
        self._recording = None
        self._second_pass(recording, signal)

    def state_dict(self) -> dict[str, Any]:
        """The eligibilities, for a checkpoint; to be written right after a learning moment."""
        return {"eligibilities": [eligibility.state_dict() for eligibility in self._eligibilities]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        for eligibility, found in zip(self._eligibilities, state.get("eligibilities", ()), strict=True):
            eligibility.load_state_dict(found)

    def _remember_unlearnt(self) -> None:
        """A stretch that nothing was said about has its eligibilities all the same."""
        recording, self._recording = self._recording, None
        if recording is not None and self._kept():
            self._second_pass(recording, None)

    @unaffected
    @whole_gradients()
    def _second_pass(self, recording: Recording, signal: Tensor | None) -> None:
        """Run a stretch again, for its eligibilities; and learn, if there is a signal."""
        xs, first, share, before, between = recording
        (*hidden, readout), states, above = self.net, list(before), between[-1]
        kept, feedback, eligibilities = self._kept(), self.feedback_weights(), self._eligibilities
        for start, part in chunks(xs):
            for eligibility in eligibilities:
                eligibility.fold(kept)
            graphs, value = list[StepwiseGraph](), part.to(readout.weight.dtype)
            for at, layer in enumerate(hidden):
                graphs.append(run_stepwise(layer, value, states[at], self.surrogate))
                states[at], value = graphs[at].after, graphs[at].outputs
            slopes, stop = [graph.slope() for graph in graphs], start + len(part)
            if signal is not None and stop > first:
                counting = value[max(0, first - start) :]
                top = run_stepwise(readout, counting, above, self.surrogate)
                above, delta = top.after, top.vjp((signal * share).repeat(len(counting), 1))
                top.learn(delta)
                deltas = delta.new_zeros(*value.shape[:2], delta.shape[1])
                deltas[-len(counting) :] = delta.view(*counting.shape[:2], -1)
                coming = _still_to_come(deltas, kept)
                for graph, slope, eligibility, sent in zip(graphs, slopes, eligibilities, feedback, strict=True):
                    graph.vjp((deltas @ sent).flatten(0, 1))
                    graph.learn((coming @ sent).flatten(0, 1) * slope)
                    eligibility.learn(kept * coming[0] @ sent)
            for eligibility, graph, slope in zip(eligibilities, graphs, slopes, strict=True):
                eligibility.take(graph, slope)

    def _none_yet(self) -> list[Eligibility]:
        return [Eligibility(layer) for layer in list(self.net)[:-1]]

    def _kept(self) -> float:
        """κ. A readout that fires filters nothing."""
        readout = self.net[len(self.net) - 1]
        return 0.0 if readout.neuron.spiking else float(readout.neuron.decay.detach())

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
