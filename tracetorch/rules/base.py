"""The interface of learning rules. Training loops use only this interface, so they work with every rule."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.modes import kind_of, without_graph
from tracetorch.nn import Layer, Sequential
from tracetorch.nn.connections import is_dense, is_plain
from tracetorch.nn.local_gradient import At
from tracetorch.renamed import RefusesFormerReset


class Rule(RefusesFormerReset, ABC):
    """Computes the gradients of a network. All rules train the same layers, from the same weights and spikes.

    A subclass defines `backward`, and `forward` if that does more than run the network. A rule with a state of its own
    also overrides `reset`, `state_dict` and `load_state_dict`, so that a run can be resumed exactly.

    Args: net: any network of `tt.nn` whose layers the rule supports.
    Raises: TypeError for anything but a network; ValueError for a layer that the rule would train wrongly.
    """

    takes_logits = False
    """Whether `backward` takes signals at the logits, `at="logits"`."""
    is_online = False
    """Whether the rule can learn at any time of an endless stream. Other rules need sequences with an end."""
    online_option = ""
    """An option that makes the rule `is_online`, for messages: "rule.spacing=log or "."""
    takes_precision = False
    """Whether the rule learns from the spikes of rounded weights (`net.precision`)."""
    learns_from = "labels and rewards"
    """The feedback that the rule learns from: "labels and rewards", or "labels" or "rewards" alone."""

    def __init__(self, net: Sequential):
        if not isinstance(net, Sequential):
            kind = kind_of(net)
            raise TypeError(f"a rule takes a network of tt.nn, got {kind}: tt.nn.Sequential makes one of layers")
        for layer in net:
            if reason := self.supports(layer):
                raise ValueError(f"{type(self).__name__} would train {layer} wrongly: {reason}")
        self.net = net

    def supports(self, layer: Layer) -> str:
        """Return why the rule would train a layer wrongly; "" if it trains the layer correctly."""
        del layer
        return ""

    def reset(self, mask: Tensor | None = None) -> None:
        """Start a new sequence: reset the state of all samples, or of those in `mask`, bool (batch,)."""
        self.net.reset(mask)

    @without_graph
    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run the network over a stretch of time; see `Sequential.run`. Returns: the output, without a graph."""
        return self.net.run(xs, reduce=reduce, window=window)

    @abstractmethod
    def backward(self, signal: Tensor, *, at: At = "output") -> None:
        """Add to the gradient of every trainable parameter.

        Args:
            signal: dL/d output of `forward`, (batch, out_features): of the mean or, without `reduce`, of the last step;
                or, without `reduce`, of every step, (time, batch, out_features).
            at: the variable of this derivative: "output", or "logits" if `takes_logits`.
        """

    def observe(self, score: Tensor, *, at: At) -> None:
        """Observe an action. Args: score: d log p(action)/d output, or /d logits as `at` says, (batch, outputs)."""

    def backward_label(self, signal: Tensor, *, target: Tensor, counted: Tensor | None = None) -> None:
        """Add to the gradients after a label. A rule with losses of its own overrides this; others need no target.

        Args:
            signal: as of `backward`, at the output.
            target: of the loss: indices (batch,) or values (batch, outputs); or at steps, (time, batch, …).
            counted: bool, (time, batch): the steps of which the output counts, for a signal at every step; None: all.
        """
        del target, counted
        self.backward(signal)

    def backward_reward(self, signal: Tensor, *, modulation: Tensor, bonus: Tensor | None, at: At) -> None:
        """Add to the gradients after a reward. Args: signal, modulation, bonus: of the loss; see `RewardLoss`."""
        del modulation, bonus
        self.backward(signal, at=at)

    def state_dict(self) -> dict[str, Any]:
        """Return the rule's own state, without the network's, for a checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        del state


def check_at(rule: Rule, at: At) -> None:
    """Raises: ValueError for a signal at the logits, if the rule takes none."""
    if at != "output" and not rule.takes_logits:
        raise ValueError(f'{type(rule).__name__} takes signals at the output, got at="{at}"')


def needs_dense(layer: Layer) -> str:
    """Return why a rule that computes the gradient of `W·x + b` itself cannot train a layer; "" if it can."""
    if is_dense(layer.connection) and is_plain(layer.connection):
        return ""
    needed = "it needs a torch.nn.Linear with parameters as weights"
    return f"{needed}, and this connection is {layer.connection}; choose rule=trace or rule=bptt"


def needs_decay_alone(layer: Layer) -> str:
    """Return why a rule that assumes decay as the only dynamics of a membrane cannot train a layer; "" if it can."""
    if reason := needs_dense(layer):
        return reason
    if layer.neuron.decays_alone:
        return ""
    if getattr(layer.neuron, "reset", "") == "zero":
        needed = "it assumes that a membrane keeps its earlier input at a spike, and reset=zero erases it"
        return f"{needed}; choose reset=subtract, or rule=trace, three_factor, bptt, tbptt or coarse"
    return (
        "it assumes that a membrane only decays from one step to the next (such a neuron sets "
        "`decays_alone = True`); choose rule=trace or rule=bptt"
    )
