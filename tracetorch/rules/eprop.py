"""E-prop: an eligibility for every synapse, and one learning signal from the readout for every neuron."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import Stream
from tracetorch.modes import whole
from tracetorch.nn import Layer, Sequential
from tracetorch.rules.base import Rule
from tracetorch.rules.stepwise import Activity, StepwiseRule, add_gradient, blocks, by_group, part_of
from tracetorch.rules.surrogate import Surrogate


class Eligibility:
    """ē of every synapse and bias of a layer, from the chunks that were folded in.

    Memory: the activity of the last chunk; from the second chunk on, also batch × synapses.
    """

    def __init__(self, layer: Layer):
        self.layer = layer
        self.last: Activity | None = None  # not folded yet
        self.weight: Tensor | None = None  # (batch, out_features, in_features)
        self.bias: Tensor | None = None  # (batch, out_features)

    def take(self, activity: Activity, kappa: float, *, is_last: bool) -> None:
        """Take in the next chunk. The last one of a stretch is kept, and folded in when another stretch follows."""
        # A layer that is frozen within a sequence goes on, because it may learn again.
        if not kappa or not (activity.learns or self.weight is not None):
            return
        self.last = activity
        if is_last:
            activity.keep()
        else:
            self.fold(kappa)

    @torch.no_grad()
    def fold(self, kappa: float) -> None:
        """Add the last chunk, of k steps: ē ← κᵏ·ē + Σ_t κ^(k − t)·ψ(t)·x̂(t)ᵀ. Args: kappa: κ."""
        if self.last is None or not kappa:
            return
        last, self.last = self.last, None
        steps, every = len(last), last.whole
        slope, last.membranes = last.slope(every), None
        ages = torch.arange(steps - 1, -1, -1, dtype=slope.dtype, device=slope.device)
        slope.mul_((kappa**ages)[:, None, None])
        if self.layer.bias is not None:
            new = (slope * last.ones_trace(every)).sum(dim=0)
            self.bias = new if self.bias is None else kappa**steps * self.bias + new
        if last.leak is not None:
            backends.leak_back(slope, None, last.leak)
        inputs = last.inputs(every) if last.leak is not None else last.traces[0]
        factors = slope.permute(1, 2, 0), inputs.transpose(0, 1)  # (batch, …, time) and (batch, time, …)
        if self.weight is None:
            self.weight = torch.bmm(*factors)
        else:
            self.weight.baddbmm_(*factors, beta=kappa**steps)
        if last.leak is not None:
            groups = self.layer.input_trace.groups
            first = (slope[0] * last.leak).unflatten(-1, (groups, -1))  # (batch, groups, neurons of the group)
            start = last.trace.view(groups, *last.trace.shape[-2:]).transpose(0, 1)  # (batch, groups, in_features)
            self.weight.unflatten(1, (groups, -1)).addcmul_(first[..., None], start[:, :, None])

    @torch.no_grad()
    def forget(self, mask: Tensor) -> None:
        """Reset some samples, bool (batch,)."""
        for value in (self.weight, self.bias):
            if value is not None:
                value[mask] = 0

    @torch.no_grad()
    def learn(self, signal: Tensor) -> None:
        """Add `Σ L·ē` to the gradients. Args: signal: L, (batch, out_features)."""
        if self.weight is None:
            return
        add_gradient(self.layer, "weight", torch.einsum("bo,boi->oi", signal, self.weight))
        if self.bias is not None:
            add_gradient(self.layer, "bias", (signal * self.bias).sum(dim=0))

    def state_dict(self) -> dict[str, Any]:
        """Return copies for a checkpoint."""
        found: dict[str, Any] = {"by_sample": self.weight, "bias": self.bias}
        found = {name: None if value is None else value.clone() for name, value in found.items()}
        if self.last is not None:
            every, last = self.last.whole, self.last
            parts = last.inputs(every), last.slope(every), last.trace, last.steps
            found["last"] = [value.clone() for value in parts]
            vars(last).pop("_given", None)  # drawn again when it is folded in
        return found

    def load_state_dict(self, state: dict[str, Any], kappa: float) -> None:
        """Restore the result of `state_dict`, also in its former layout: with traces, and weights by group."""
        like, groups = self.layer.weight.detach(), self.layer.input_trace.groups

        def own(value: Tensor) -> Tensor:
            return value.to(like.device, like.dtype if value.is_floating_point() else None, copy=True)

        self.last, weight, bias = None, state.get("by_sample"), state["bias"]
        if state.get("weight") is not None:
            weight = state["weight"].unflatten(0, (groups, -1)).transpose(0, 1).flatten(1, 2)
        self.weight, self.bias = (None if value is None else own(value) for value in (weight, bias))
        last = [own(value) for value in state.get("last") or ()]
        if len(last) == 4:
            xs, known, trace, steps = last
            self.last = Activity(self.layer, xs, trace, steps)
            self.last.known = known
        elif last and kappa:
            traces, ones_trace, slope = last
            count = len(ones_trace)
            ages = torch.arange(count - 1, -1, -1, dtype=like.dtype, device=like.device)
            decayed = slope.unflatten(0, (count, -1)) * (kappa**ages)[:, None, None]
            new = by_group(self.layer, decayed).permute(0, 2, 3, 1) @ traces.transpose(1, 2)
            new = new.transpose(0, 1).flatten(1, 2)
            self.weight = new if self.weight is None else kappa**count * self.weight + new
            if self.layer.bias is not None:
                new = (decayed * ones_trace).sum(dim=0)
                self.bias = new if self.bias is None else kappa**count * self.bias + new


class EProp(StepwiseRule):
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
    Memory: spikes and a membrane of every neuron for at most 128 steps, twice that for longer sequences; after
        `backward`, for hidden layers only, with a copy of a dense input. For longer sequences, or several stretches,
        also the eligibilities, batch × inputs × neurons of every hidden layer that learns. Independent of time.
    Time: O(time × batch × weights). The last 128 steps, and those before the window, run once; counted steps before
        them run again, because the signal is known only at the end. Within a chunk no eligibility is formed: the signal
        is filtered with κ from the last step to the first, Σ_{t' ≥ t} κ^(t' − t)·L(t'), multiplied by ψ(t), filtered
        with β in the same direction, and multiplied by the input. A chunk is folded into the eligibilities when the
        next one comes.
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
            eligibility.load_state_dict(found, self._kappa())

    def _keep_unlearnt(self) -> None:
        """Fold in the last stretch, also if it got no signal."""
        recording, self._recording = self._recording, None
        if recording is not None and self._needs_past:
            self._learn_recording(recording, None)
        for eligibility in self._eligibilities:
            eligibility.fold(self._kappa())

    @property
    def _needs_past(self) -> bool:  # type: ignore[override]
        return bool(self._kappa())

    def _learn_chunk(self, activities: list[Activity], signal: Tensor | None, end: int, *, is_last: bool) -> None:
        (*hidden, top), kappa = activities, self._kappa()
        own = None if signal is None else part_of(signal, end, len(top))
        if own is not None:
            feedback = self.feedback_weights()
            reach: Tensor | None = None  # Σ_{t' ≥ t} κ^(t' − t)·δ(t') at the first step t of the block before
            for steps in blocks(activities):
                delta = top.vjp(own[steps], steps)
                future = backends.leak_back(delta.clone(), reach, kappa)
                reach = future[0]
                for activity, matrix in zip(hidden, feedback, strict=True):
                    activity.learn_constants(delta, matrix, steps)
                    if activity.learns:
                        activity.learn_from(future @ matrix, steps)
                top.learn(delta, steps)
            assert reach is not None
            for eligibility, matrix in zip(self._eligibilities, feedback, strict=True):
                eligibility.learn(kappa * reach @ matrix)
        for eligibility, activity in zip(self._eligibilities, hidden, strict=True):
            eligibility.take(activity, kappa, is_last=is_last)

    def _new_eligibilities(self) -> list[Eligibility]:
        return [Eligibility(layer) for layer in list(self.net)[:-1]]

    def _kappa(self) -> float:
        """Return κ; 0 for a spiking readout."""
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
