"""A neuron as a user writes one, by the recipe of CONTRIBUTING: two states, a constant more, no kernel."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from tracetorch import constrain
from tracetorch import functional as F
from tracetorch.nn import Neuron


class CurrentState(NamedTuple):
    synapse: Tensor
    membrane: Tensor


class CurrentLIF(Neuron):
    """Current-based leaky integrate-and-fire neurons: the input decays at the synapse before the membrane takes it."""

    state_type = CurrentState
    spiking = True

    def __init__(self, features=None, *, decay=0.9, synapse_decay=0.5, threshold=1.0):
        super().__init__(features, decay=decay)
        self.store("synapse_decay", synapse_decay, constrain.raw_from_decay)
        self.store("threshold", threshold, constrain.raw_from_positive)

    @property
    def synapse_decay(self):
        return constrain.decay_from_raw(self.raw_synapse_decay)

    @property
    def threshold(self):
        return constrain.positive_from_raw(self.raw_threshold)

    def step(self, current, state):
        synapse = F.li_step(current, state.synapse, self.synapse_decay)
        spikes, membrane = F.lif_step(synapse, state.membrane, self.decay, self.threshold, self.surrogate)
        return spikes, CurrentState(synapse, membrane)

    def steady_state(self, current, steps):
        level = F.li_level(current, self.synapse_decay, steps)
        return F.lif_rate(level, self.decay, self.threshold, steps)
