"""Three-factor learning: the input, the score of the action, and a reward, which may come much later."""

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor

from tracetorch.modes import unaffected, without_graph
from tracetorch.nn import Layer, Sequential
from tracetorch.nn.local_gradient import At, average_current, through_neurons, whole_gradients
from tracetorch.rules.base import Rule, needs_dense
from tracetorch.rules.stepwise import add_gradient, by_group


class ThreeFactor(Rule):
    """Learn from an eligibility of every synapse when a reward comes.

        e ← λ·e + δ·āᵀ,    δ = ∂(score·output)/∂current        at every action: `observe`
        dL/dW = Σ over the samples of modulation·e             at every reward: `backward`

    ā is the layer's average input at the action. `Trace` averages scores and inputs separately, so that the product of
    each score with its input is lost. This matters where the right action depends on the present input, and where the
    reward comes after the next input.

    Args:
        net: any network of `tt.nn`; its trace banks are not used.
        decay: λ per action, in [0, 1): for how long rewards are credited to an action; at 0, only the next reward is.
        layers: "all"; or "last": only the readout has eligibilities, and the layers below it learn as with `Trace`,
            from their inputs at the reward and the trace of the score.
    Gradient: of W and b. Decays and thresholds of layers with eligibilities get no gradient from rewards, only from an
        exploration bonus. For a tied `LI` or `LIS` readout and the score of its present output, e is exactly the
        λ-discounted sum of the gradients of backpropagation through time, so that the gradient is that of REINFORCE
        with discounted eligibility. For the layers below, the gradient of each action is approximate, as in `Trace`.
    Memory: batch × synapses, of all layers or of the last one; independent of time.
    Source: Williams (1992), doi:10.1007/BF00992696; Gerstner, Lehmann, Liakoni, Corneil, Brea (2018),
        doi:10.3389/fncir.2018.00053.
    """

    takes_logits = is_online = takes_precision = True
    learns_from = "rewards"

    def __init__(self, net: Sequential, *, decay: float = 0.0, layers: Literal["all", "last"] = "all"):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay:g}")
        if layers not in ("all", "last"):
            raise ValueError(f'layers must be "all" or "last", got {layers!r}')
        super().__init__(net)
        self.decay, self.layers = decay, layers
        # "1.weight": (batch, out, in), "1.bias": (batch, out), "score": (batch, out)
        self._kept: dict[str, Tensor] = {}
        self._new: Tensor | None = None  # which samples have begun a new sequence since the last action

    def supports(self, layer: Layer) -> str:
        return needs_dense(layer)

    def reset(self, mask: Tensor | None = None) -> None:
        """Start a new sequence: reset the state now, and the eligibilities at the next action."""
        super().reset(mask)
        if mask is None:
            self._kept, self._new = {}, None
        else:
            self._new = mask.clone() if self._new is None else self._new | mask

    @unaffected
    @without_graph
    def observe(self, score: Tensor, *, at: At = "logits") -> None:
        """Observe an action, in the network's state at that action. Args: see `Rule.observe`."""
        layers = list(enumerate(self.net))
        if self.layers == "last":
            self._at = at
            self._keep("score", score)
            layers = layers[-1:]
        for number, layer in reversed(layers):
            average, delta, below = _vjp(layer, score, at)
            by_sample = by_group(layer, delta).unsqueeze(-1) * average.view(layer.input_trace.groups, len(score), 1, -1)
            self._keep(f"{number}.weight", by_sample.transpose(0, 1).flatten(1, 2))
            if layer.bias is not None:
                self._keep(f"{number}.bias", delta)
            score, at = below, "output"
        self._new = None

    @unaffected
    @without_graph
    @whole_gradients()
    def backward(self, modulation: Tensor, *, at: At = "output") -> None:
        """Add to the gradient of weights and biases. It may be called at any time and repeatedly.

        Args: modulation: dL/d log p of each sample, (batch,). at: not used; that of `observe` counts.
        Raises: RuntimeError before the first action.
        """
        del at
        if not self._kept:
            raise RuntimeError("no score was observed since the start: call rule.observe(score) before rule.backward")
        for name, eligibility in self._kept.items():
            number, _, parameter = name.partition(".")
            if parameter:
                add_gradient(
                    self.net[int(number)], parameter, torch.tensordot(modulation.to(eligibility), eligibility, 1)
                )
        if self.layers == "last":
            readout, score = self.net[len(self.net) - 1], self._kept["score"]
            _, _, signal = _vjp(readout, modulation.to(score)[:, None] * score, self._at)
            above = readout
            for layer in list(self.net)[-2::-1]:
                signal, above = cast(Tensor, layer.backward(signal, above)), layer

    def backward_reward(self, signal: Tensor, *, modulation: Tensor, bonus: Tensor | None, at: At) -> None:
        del signal
        self.backward(modulation)
        if bonus is not None:
            self.net.backward(bonus, at=at, return_input_grad=False)

    def state_dict(self) -> dict[str, Any]:
        """Return the eligibilities for a checkpoint."""
        return {"kept": {n: v.clone() for n, v in self._kept.items()}, "new": self._new, "at": getattr(self, "_at", "")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        if not state:
            return
        device = self.net[0].weight.device
        self._kept = {name: value.to(device, copy=True) for name, value in state["kept"].items()}
        self._new, self._at = None if state["new"] is None else state["new"].to(device), state["at"]

    def _keep(self, name: str, value: Tensor) -> None:
        kept = self._kept.get(name)
        if kept is None:
            self._kept[name] = value.clone(memory_format=torch.contiguous_format)
            return
        if self._new is not None:
            kept[self._new] = 0
        kept.mul_(self.decay).add_(value)


def _vjp(layer: Layer, signal: Tensor, at: At) -> tuple[Tensor, Tensor, Tensor]:
    """Return the average input, dL/d current and dL/d average input."""
    state = layer.live_state
    assert state is not None
    average = layer.average_input().detach()
    _, delta = through_neurons(layer.neuron, average_current(layer, average), state.steps, signal, at=at, trained=[])
    weight = layer.weight.view(layer.input_trace.groups, -1, layer.weight.shape[1])
    return average, delta, torch.bmm(by_group(layer, delta), weight).sum(dim=0)
