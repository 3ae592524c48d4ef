"""E-prop: an eligibility for every synapse, and one learning signal from the readout for every neuron."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.modes import unaffected, whole
from tracetorch.nn import Layer, Sequential
from tracetorch.nn.local_gradient import whole_gradients
from tracetorch.rules.base import Rule
from tracetorch.rules.stepwise import (
    Recording,
    StepwiseGraph,
    TwoPassRule,
    add_gradient,
    by_group,
    chunks,
    run_stepwise,
)
from tracetorch.rules.surrogate import Surrogate


class Factors(NamedTuple):
    """The factors of a chunk's eligibilities."""

    trace: Tensor  # (groups, time, batch, in_features)
    ones_trace: Tensor  # (time, batch, 1 or out_features)
    slope: Tensor  # ψ, (time·batch, out_features)


class Eligibility:
    """ē of every synapse and bias of a layer, from the chunks that were folded in.

    Memory: the factors of the last chunk; from the second chunk on, also batch × synapses.
    """

    def __init__(self, layer: Layer):
        self.layer = layer
        self.last: Factors | None = None  # not folded yet
        self.weight: Tensor | None = None  # (groups × batch, neurons of the group, in_features)
        self.bias: Tensor | None = None  # (batch, out_features)

    def take(self, graph: StepwiseGraph, slope: Tensor) -> None:
        """Keep a chunk, which is folded in when the next one comes. Args: slope: ψ."""
        if self.layer.weight.requires_grad or (self.layer.bias is not None and self.layer.bias.requires_grad):
            self.last = Factors(graph.trace, graph.ones_trace(), slope)

    @torch.no_grad()
    def fold(self, kappa: float) -> None:
        """Add the last chunk, of k steps: ē ← κᵏ·ē + Σ_t κ^(k − t)·ψ(t)·x̂(t)ᵀ. Args: kappa: κ."""
        if self.last is None or not kappa:
            return
        (trace, ones_trace, slope), self.last = self.last, None
        steps = len(ones_trace)
        ages = torch.arange(steps - 1, -1, -1, dtype=slope.dtype, device=slope.device)
        decayed = slope.unflatten(0, (steps, -1)) * (kappa**ages)[:, None, None]
        slopes, traces = by_group(self.layer, decayed).permute(0, 2, 3, 1), trace.transpose(1, 2)
        factors = slopes.flatten(0, 1), traces.flatten(0, 1)  # (groups × batch, …, time) and (groups × batch, time, …)
        if self.weight is None:
            self.weight = torch.bmm(*factors)
        else:
            self.weight.baddbmm_(*factors, beta=kappa**steps)
        if self.layer.bias is not None:
            new = (decayed * ones_trace).sum(dim=0)
            self.bias = new if self.bias is None else kappa**steps * self.bias + new

    @torch.no_grad()
    def forget(self, mask: Tensor) -> None:
        """Reset some samples, bool (batch,)."""
        if self.last is not None:
            self.last.slope.view(-1, *mask.shape, len(self.layer.weight))[:, mask] = 0
        if self.weight is not None:
            self.weight.unflatten(0, (-1, len(mask)))[:, mask] = 0
        if self.bias is not None:
            self.bias[mask] = 0

    @torch.no_grad()
    def learn(self, signal: Tensor) -> None:
        """Add `Σ L·ē` to the gradients. Args: signal: L, (batch, out_features)."""
        if self.weight is None:
            return
        parts = by_group(self.layer, signal)
        found = torch.einsum("gbo,gboi->goi", parts, self.weight.unflatten(0, parts.shape[:2]))
        add_gradient(self.layer, "weight", found.flatten(0, 1))
        if self.bias is not None:
            add_gradient(self.layer, "bias", (signal * self.bias).sum(dim=0))

    def state_dict(self) -> dict[str, Any]:
        """Return copies for a checkpoint."""
        sums = {"weight": self.weight, "bias": self.bias}
        last = None if self.last is None else [value.clone() for value in self.last]
        return {"last": last, **{name: None if value is None else value.clone() for name, value in sums.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        like = self.layer.weight
        self.last = Factors(*(value.to(like, copy=True) for value in state["last"])) if state["last"] else None
        found = (state["weight"], state["bias"])
        self.weight, self.bias = (None if value is None else value.to(like, copy=True) for value in found)


class EProp(TwoPassRule):
    """Learn from eligibility traces and a signal that the readout broadcasts.

        e = ψ·x̂ᵀ,    x̂ ← β·x̂ + x,    ē ← κ·ē + e          for every synapse of a hidden layer
        dL/dW = Σ_t L(t)·ē(t),    L = Bᵀ·δ                   δ: dL/d membrane of the readout, through that step

    ψ is the surrogate of the step, β the decay of the layer's input trace, κ that of the readout's membrane. The
    readout learns from δ and the trace of its own input.

    Args:
        net: hidden layers below a readout (`LI` or `LIS`; for a spiking readout, κ is 0).
        feedback: "symmetric": B is the product of the weights above; "random": B is random and fixed.
        seed: of the random feedback.
        surrogate: as in `BPTT`, without `through_reset`.
    Gradient: equal to backpropagation through time (with the same surrogate, not through the reset) for W and b of a
        tied readout and, if feedback is symmetric, of the tied hidden layer below it: without recurrence, no term is
        dropped there, back to the beginning of the sequence and across all its learning moments. Approximate for layers
        further down, whose spikes act through the layers above (their B, a product of weights, is not from the paper),
        and for random feedback. Decays and thresholds get the gradient of each step alone.
    Memory: inputs and neurons of every layer for two chunks of 64 steps. For longer sequences, or several stretches,
        also the eligibilities, batch × inputs × neurons of every hidden layer that learns. Independent of time.
    Time: O(time × batch × weights); the stretch runs twice, because the signal is known only at its end. Within a
        chunk no eligibility is formed: one matrix product over time × batch multiplies the future signal,
        Σ_{t' ≥ t} κ^(t' − t)·L(t'), by ψ(t)·x̂(t)ᵀ. A chunk is folded into the eligibilities when the next one comes.
    Not implemented from the paper: recurrent weights, adaptive thresholds, refractory times, regularisation of rates,
        and feedback that learns.
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
        super().__init__(net, surrogate)
        readout = net[len(net) - 1]
        if not readout.neuron.spiking and readout.neuron.raw_decay.numel() > 1:
            raise ValueError(
                "e-prop filters its eligibilities with the readout's decay, and needs a single one, got "
                f"{readout.neuron.raw_decay.numel()}: give network.readout.decay one number, or take rule=trace"
            )
        self.feedback = feedback
        generator = torch.Generator().manual_seed(whole(seed, "seed"))
        out = len(readout.weight)
        self._random = [torch.randn(out, len(layer.weight), generator=generator) / out**0.5 for layer in list(net)[:-1]]
        self._eligibilities = self._new_eligibilities()

    def reset(self, mask: Tensor | None = None) -> None:
        """Start a new sequence: reset state and eligibilities of all samples, or of those in `mask`."""
        if mask is None:
            super().reset()
            self._eligibilities = self._new_eligibilities()
            return
        Rule.reset(self, mask)  # first: if the mask is invalid, the recording is kept
        self._keep_unlearnt()
        for eligibility in self._eligibilities:
            eligibility.forget(mask)

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. Under `torch.no_grad` the eligibilities are dropped.

        `xs` is read again: it must not change until the next `backward`, `forward` or `reset`.
        """
        if torch.is_grad_enabled():
            self._keep_unlearnt()
        else:
            self._eligibilities = self._new_eligibilities()
        return super().forward(xs, reduce=reduce, window=window)

    def state_dict(self) -> dict[str, Any]:
        """Return the eligibilities, for a checkpoint right after a learning moment."""
        return {"eligibilities": [eligibility.state_dict() for eligibility in self._eligibilities]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        for eligibility, found in zip(self._eligibilities, state.get("eligibilities") or (), strict=bool(state)):
            eligibility.load_state_dict(found)

    def _keep_unlearnt(self) -> None:
        """Add the last stretch to the eligibilities, if it got no signal."""
        recording, self._recording = self._recording, None
        if recording is not None and self._kappa():
            self._second_pass(recording, None)

    @unaffected
    @whole_gradients()
    def _second_pass(self, recording: Recording, signal: Tensor | None) -> None:
        """Run a stretch again, for its eligibilities, and add the gradients of the signal."""
        xs, first = recording.xs, recording.first
        (*hidden, readout), states, readout_state = self.net, list(recording.start_states), recording.first_states[-1]
        kappa, feedback, eligibilities = self._kappa(), self.feedback_weights(), self._eligibilities
        for start, part in chunks(xs):
            for eligibility in eligibilities:
                eligibility.fold(kappa)
            graphs, values = list[StepwiseGraph](), part.to(readout.weight.dtype)
            for at, layer in enumerate(hidden):
                graphs.append(run_stepwise(layer, values, states[at], self.surrogate))
                states[at], values = graphs[at].after, graphs[at].outputs
            slopes, stop = [graph.slope() for graph in graphs], start + len(part)
            if signal is not None and stop > first:
                counted = values[max(0, first - start) :]
                top = run_stepwise(readout, counted, readout_state, self.surrogate)
                readout_state, delta = (
                    top.after,
                    top.vjp(signal[stop - first - len(counted) : stop - first].flatten(0, 1)),
                )
                top.learn(delta)
                deltas = delta.new_zeros(*values.shape[:2], delta.shape[1])
                deltas[-len(counted) :] = delta.view(*counted.shape[:2], -1)
                # The future signal at every step of a chunk: Σ_{t' ≥ t} κ^(t' − t)·δ(t').
                steps = torch.arange(len(deltas), dtype=deltas.dtype, device=deltas.device)
                weights = (kappa ** (steps - steps[:, None]).clamp(min=0)).triu()
                future = (weights @ deltas.flatten(1)).view_as(deltas)
                for graph, slope, eligibility, matrix in zip(graphs, slopes, eligibilities, feedback, strict=True):
                    if graph.trained_constants:
                        graph.vjp((deltas @ matrix).flatten(0, 1))
                    graph.learn((future @ matrix).flatten(0, 1) * slope)
                    eligibility.learn(kappa * future[0] @ matrix)
            for eligibility, graph, slope in zip(eligibilities, graphs, slopes, strict=True):
                eligibility.take(graph, slope)

    def _new_eligibilities(self) -> list[Eligibility]:
        return [Eligibility(layer) for layer in list(self.net)[:-1]]

    def _kappa(self) -> float:
        """Return κ; 0 for a spiking readout, which filters nothing."""
        readout = self.net[len(self.net) - 1]
        return 0.0 if readout.neuron.spiking else float(readout.neuron.decay.detach())

    @torch.no_grad()
    def feedback_weights(self) -> list[Tensor]:
        """Return B of each hidden layer, (out_features of the net, out_features of the layer)."""
        readout = self.net[len(self.net) - 1].weight
        if self.feedback == "random":
            return [weight.to(readout) for weight in self._random]
        found, product = [], torch.eye(len(readout), dtype=readout.dtype, device=readout.device)
        for layer in reversed(list(self.net)[1:]):
            product = product @ layer.weight
            found.append(product)
        return found[::-1]
