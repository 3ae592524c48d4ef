"""Own part: leaky integrate-and-fire neurons whose input decays at the synapse before the membrane takes it.

A neuron is a subclass of `Neuron` with `step`, the dynamics of one time step, and `steady_state`, the average output
under a steady current, which the trace rule differentiates. It has no weights and no state: the layer holds them.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import Parameter

from tracetorch import constrain
from tracetorch import functional as F
from tracetorch.nn.neurons import Neuron, Values


class State(NamedTuple):
    """The state after a step, (batch, features) each. Figures draw `membrane`."""

    synapse: Tensor
    membrane: Tensor


class OwnPart(Neuron):
    """Current-based LIF neurons.

        s ← α·s + current,    m ← β·m + s,    spike = 1 if m > θ else 0,    m ← m − θ·spike

    Args: features: number of neurons. decay: β. synapse_decay: α, in (0, 1). threshold: θ > 0.
    """

    state_type = State
    spiking = True  # the outputs are 0 and 1
    raw_synapse_decay: Parameter
    raw_threshold: Parameter
    # decays_alone = True if the state is one membrane that only decays between spikes: rules eprop and ottt need it

    def __init__(
        self,
        features: int | None = None,
        *,
        decay: Values = 0.9,
        synapse_decay: Values = 0.5,
        threshold: Values = 1.0,
    ):
        super().__init__(features, decay=decay)
        # Stored without limits, as `raw_…`, and read within them: an optimizer cannot leave the range.
        self.store("synapse_decay", synapse_decay, constrain.raw_from_decay)
        self.store("threshold", threshold, constrain.raw_from_positive)

    @property
    def synapse_decay(self) -> Tensor:
        return constrain.decay_from_raw(self.raw_synapse_decay)

    @property
    def threshold(self) -> Tensor:
        return constrain.positive_from_raw(self.raw_threshold)

    def step(self, current: Tensor, state: State) -> tuple[Tensor, State]:
        synapse = F.li_step(current, state.synapse, self.synapse_decay)
        # `self.surrogate`, the derivative of a spike, is set by rules that differentiate steps; otherwise it is None.
        spikes, membrane = F.lif_step(synapse, state.membrane, self.decay, self.threshold, self.surrogate)
        return spikes, State(synapse, membrane)

    def steady_state(self, current: Tensor, steps: Tensor) -> Tensor:
        level = F.li_level(current, self.synapse_decay, steps)  # of the synapse, after so many steps
        return F.lif_rate(level, self.decay, self.threshold, steps)
