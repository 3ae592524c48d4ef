"""Deep continuous local learning (DECOLLE): every hidden layer has a loss of its own, at every step."""

import torch
from torch import Tensor

from tracetorch.loss.target import as_distribution
from tracetorch.modes import whole
from tracetorch.nn import Sequential
from tracetorch.nn.local_gradient import At
from tracetorch.rules.stepwise import Activity, Recording, TwoPassRule, blocks, part_of
from tracetorch.rules.surrogate import Surrogate


class DECOLLE(TwoPassRule):
    """Learn from local losses: a fixed random readout of each hidden layer is to give the target at every step.

        y = G·s,    L = mean of the smooth absolute error of y − q: e²/2 for |e| < 1, |e| − 1/2 for others
        dL/dW = Σ_t (Gᵀ·clamp(y(t) − q, −1, 1)·ψ(t))·â(t)ᵀ / (rows · outputs),    â ← d·â + x
        symbols: spikes s, local readout G, target q, surrogate derivative ψ of the step, input x, input trace â with
        decay d (the membrane's, if tied), rows: the samples × steps that count

    No error reaches a layer from above. The network's readout learns from the loss of the training, as with `OTTT`.

    Args:
        net: any network of `tt.nn`.
        surrogate: as in `BPTT`, without `through_reset`.
        seed: of the local readouts, drawn from −1/(2·√n) to 1/(2·√n) for n neurons; they have no bias.
    Gradient: of other losses than the training's. For W and b of a tied hidden layer, equal to backpropagation through
        time of its local loss (with the same surrogate, not through the reset), the input of the layer held constant.
        Approximate for the readout, as in `OTTT`. Decays and thresholds get the gradient of each step alone.
    Memory: as `OTTT`.
    Time: as `OTTT`.
    Not implemented from the paper: refractory times, regularisation of rates and membranes, an update at every step
        unless `train.learn_every=1`, and second-order synapses.
    Source: Kaiser, Mostafa, Neftci (2020), doi:10.3389/fnins.2020.00424, and its code, which has this loss.
    """

    learns_from = "labels"

    def __init__(self, net: Sequential, *, surrogate: Surrogate | str = "fast_sigmoid", seed: int = 0):
        super().__init__(net, surrogate)
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

    def _second_pass(self, recording: Recording, signal: Tensor | None) -> None:
        assert signal is not None and self._label is not None
        (target, counted), self._label = self._label, None
        target = target.to(signal.device)
        if counted is None:
            counted = torch.ones(signal.shape[:2], dtype=torch.bool, device=signal.device)
        if target.ndim == (2 if target.is_floating_point() else 1):  # one for each sample, which holds at every step
            target = target.expand(len(signal), *target.shape)
        self._targets, self._counted, self._rows = target, counted, max(1, int(counted.sum()))
        super()._second_pass(recording, signal)
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
            for activity, readout in zip(activities, readouts, strict=False):
                output = activity.output(steps) @ readout.t()
                error, known = torch.zeros_like(output), output[is_counted]
                error[is_counted] = (known - as_distribution(targets[steps][is_counted], known)).clamp(-1, 1)
                delta = activity.vjp(error @ readout / (self._rows * output.shape[-1]), steps)
                activity.learn(delta, steps)
