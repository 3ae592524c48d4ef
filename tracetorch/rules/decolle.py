"""Deep continuous local learning (DECOLLE): every hidden layer has a loss of its own, at every step."""

import math

import torch
from torch import Tensor

from tracetorch.loss.target import as_distribution
from tracetorch.modes import check_number, whole
from tracetorch.nn import Sequential
from tracetorch.nn.local_gradient import At
from tracetorch.rules.stepwise import Activity, Recording, StepwiseRule, blocks, part_of
from tracetorch.rules.surrogate import Surrogate


class DECOLLE(StepwiseRule):
    """Learn from local losses: a fixed random readout of each hidden layer is to give the target at every step.

        y = G·s,    L = E + λ₁·mean of [v]₊ + λ₂·mean of [r − s̄]₊
        E: mean of the smooth absolute error of e = y − q: e²/2 for |e| < 1, |e| − 1/2 for others
        dL/dW = Σ_t δ(t)·â(t)ᵀ / rows,    â ← d·â + x
        δ = (Gᵀ·clamp(y − q, −1, 1)/outputs − λ₂/n·[s̄ < r])·ψ + λ₁/n·s/θ
        symbols: spikes s, local readout G, target q, surrogate derivative ψ of the step, input x, input trace â with
        decay d (the membrane's, if tied), rows: the samples × steps that count, v = (u − θ)/θ of membrane u
        before its reset and threshold θ, mean s̄ over the n neurons and the counted samples of a step

    No error reaches a layer from above. The network's readout learns from the loss of the training, as with `OTTT`. The
    term with λ₁ lowers membranes above their threshold; the term with λ₂ raises the membranes of layers that hardly
    spike.

    Args:
        net: any network of `tt.nn`.
        surrogate: as in `BPTT`, without `through_reset`.
        seed: of the local readouts, drawn from −1/(2·√n) to 1/(2·√n) for n neurons; they have no bias.
        membrane_penalty: λ₁ of spiking hidden layers, at least 0.
        silence_penalty: λ₂ of spiking hidden layers, at least 0.
        min_rate: r, spikes per neuron and step, 0 to 1.
    Raises: ValueError for a penalty that is negative or not finite, or a rate outside 0 to 1; TypeError for a setting
        that is not a number.
    Gradient: of other losses than the training's. For W and b of a tied hidden layer, equal to backpropagation through
        time of its local loss (with the same surrogate, not through the reset), the input of the layer held constant.
        Approximate for the readout, as in `OTTT`. Decays and thresholds get the gradient of each step alone,
        without the term of λ₁.
    Memory: as `OTTT`.
    Time: as `OTTT`.
    Not implemented from the paper: refractory times, an update at every step unless `train.learn_every=1`, and
        second-order synapses. Both penalties of the paper are functions of the membrane m, with a threshold of 0:
        [m + .01]₊, and [.1 − mean of m]₊; its code takes the mean of a sigmoid of m.
    Source: Kaiser, Mostafa, Neftci (2020), doi:10.3389/fnins.2020.00424, and its code, which has the loss E.
    """

    learns_from = "labels"

    def __init__(
        self,
        net: Sequential,
        *,
        surrogate: Surrogate | str = "fast_sigmoid",
        seed: int = 0,
        membrane_penalty: float = 0.0,
        silence_penalty: float = 0.0,
        min_rate: float = 0.1,
    ):
        super().__init__(net, surrogate)
        for name, value, most in (
            ("membrane_penalty", membrane_penalty, math.inf),
            ("silence_penalty", silence_penalty, math.inf),
            ("min_rate", min_rate, 1.0),
        ):
            check_number(value, name)
            if not (0 <= value <= most and math.isfinite(value)):
                allowed = "from 0 to 1" if most == 1 else "at least 0 and finite"
                raise ValueError(f"{name} must be {allowed}, got {value:g}")
        self.membrane_penalty, self.silence_penalty, self.min_rate = membrane_penalty, silence_penalty, min_rate
        generator = torch.Generator().manual_seed(whole(seed, "seed"))
        sizes = [len(layer.weight) for layer in net]  # the last: number of outputs
        self._readouts = [(torch.rand(sizes[-1], n, generator=generator) - 0.5) / n**0.5 for n in sizes[:-1]]
        self._label: tuple[Tensor, Tensor | None] | None = None

    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Refuse: use `backward_label`. Raises: RuntimeError, always."""
        raise RuntimeError(
            "DECOLLE learns from labels: call rule.backward_label(signal, target=target) in place of "
            "rule.backward(signal)"
        )

    def backward_label(self, signal: Tensor, *, target: Tensor, counted: Tensor | None = None) -> None:
        """Add to the gradients of every trainable parameter, once for each `forward`; see `Rule.backward_label`."""
        self._label = target, counted
        super().backward(signal)

    @torch.no_grad()
    def local_readouts(self) -> list[Tensor]:
        """Return G of each hidden layer, (out_features of the net, out_features of the layer)."""
        like = self.net[0].weight
        return [weight.to(like) for weight in self._readouts]

    def _learn_recording(self, recording: Recording, signal: Tensor | None) -> None:
        assert signal is not None and self._label is not None
        (target, counted), self._label = self._label, None
        target = target.to(signal.device)
        if counted is None:
            counted = torch.ones(signal.shape[:2], dtype=torch.bool, device=signal.device)
        if target.ndim == (2 if target.is_floating_point() else 1):  # one for each sample, which holds at every step
            target = target.expand(len(signal), *target.shape)
        self._targets, self._counted, self._rows = target, counted, max(1, int(counted.sum()))
        super()._learn_recording(recording, signal)
        del self._targets, self._counted

    def _learn_chunk(self, activities: list[Activity], signal: Tensor | None, end: int, *, is_last: bool) -> None:
        del is_last
        assert signal is not None
        deltas, targets, counted = (
            part_of(values, end, len(activities[0])) for values in (signal, self._targets, self._counted)
        )
        if deltas is None or targets is None or counted is None:
            return
        readouts = self.local_readouts()
        for steps in blocks(activities):
            activities[-1].learn(activities[-1].vjp(deltas[steps], steps), steps)
            is_counted = counted[steps]
            for activity, readout in zip(activities[:-1], readouts, strict=True):
                spikes = activity.output(steps)
                output = spikes @ readout.t()
                error, known = torch.zeros_like(output), output[is_counted]
                error[is_counted] = (known - as_distribution(targets[steps][is_counted], known)).clamp(-1, 1)
                of_silence, of_membranes = self._penalties(activity, spikes, is_counted)
                delta = activity.vjp(error @ readout / (self._rows * output.shape[-1]) - of_silence, steps)
                activity.learn(delta + of_membranes, steps)

    def _penalties(self, activity: Activity, spikes: Tensor, counted: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Return λ₂/(n·rows)·[s̄ < r] and λ₁/(n·rows)·s/θ at each step; 0 for a layer that does not spike.

        Args: spikes: (time, batch, n); counted: whether a step counts, (time, batch).
        """
        neuron = activity.layer.neuron
        if not neuron.spiking or not (self.membrane_penalty or self.silence_penalty):
            return 0.0, 0.0
        share, is_counted = 1 / (spikes.shape[-1] * self._rows), counted.to(spikes)
        rates = (spikes.mean(dim=-1) * is_counted).sum(dim=1) / is_counted.sum(dim=1).clamp(min=1)
        is_low = (rates < self.min_rate).to(spikes)[:, None] * is_counted
        threshold = getattr(neuron, "threshold", 1.0)  # of a neuron without one: in units of its membrane
        above = spikes * is_counted[..., None] / threshold
        return self.silence_penalty * share * is_low[..., None], self.membrane_penalty * share * above
