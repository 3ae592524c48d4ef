"""Spikes, sparsity and synaptic operations of a network, as NeuroBench defines them.

    activation sparsity = outputs that are 0 / outputs, over the layers of spiking neurons, steps and trials
    connection sparsity = weights that are 0 / weights
    synaptic operations = weights × inputs that they meet, over the steps of a trial: one for each pair
    effective           = those whose weight and input are not 0: accumulates (ACs) if all inputs of a step, in the
                          whole batch, are 0, 1 or −1, multiply-accumulates (MACs) otherwise

Biases, neurons, traces and learning are not counted, as in NeuroBench.

Source: Yik et al. (2025), The neurobench framework for benchmarking neuromorphic computing algorithms and systems,
doi:10.1038/s41467-025-56739-4.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.nn.network import chunk_steps, state_aside
from tracetorch.nn.sequential import as_input

MOST_TRIALS = 32  # of a batch of trials
MOST_DECISIONS = 32  # of a test with rewards, from its start, in all environments
_MOST_VALUES = 1 << 22  # inputs and outputs to count, over all steps; one trial is counted even if it has more
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WEIGHTLESS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.Flatten, nn.Unflatten, nn.Identity)


class SynapticCosts:
    """Counts spikes and operations while a network runs over a few test trials.

    Args: net: its state is not changed. most_batches: largest number of batches to count.
    Memory: a few numbers; during `add`, the inputs and outputs of one chunk of steps.
    """

    def __init__(self, net: Sequential, *, most_batches: int = 1):
        self.net, self.trials = net, 0
        self._batches, self._most_batches = 0, most_batches
        self._values = 0
        self._outputs, self._spikes = 0, 0
        self._dense, self._macs, self._acs = 0.0, 0.0, 0.0
        self._connections = [list(_leaves(layer.connection)) for layer in net]
        # The number of operations is known only for these kinds of connection.
        self._is_known = all(isinstance(one, _WEIGHTED + _WEIGHTLESS) for some in self._connections for one in some)

    @property
    def wants_more(self) -> bool:
        """Whether to count a further batch."""
        return self._batches < self._most_batches and self._values < _MOST_VALUES

    @torch.no_grad()
    def add(self, xs: Stream) -> None:
        """Count the first trials of a batch, from the present state of the network.

        Args: xs: (steps, batch, *in_shape). If the network is not at rest, all trials are counted.
        """
        width = torch.Size(xs.shape[1:]).numel() + sum(layer.out_features or 0 for layer in self.net)
        room = (_MOST_VALUES - self._values) // (xs.steps * width)
        count = max(1, min(xs.shape[0], MOST_TRIALS, room))
        if self.net[0].live_state is not None:
            count = xs.shape[0]  # the state holds all samples of the batch
        self._batches, self._values = self._batches + 1, self._values + xs.steps * count * width
        self.trials += count
        with state_aside(self.net):
            self.net._prepare(count, tuple(xs.shape[1:]))
            for chunk in xs.chunks(chunk_steps(self.net.chain, count)):
                self._run(chunk[:, :count].contiguous())

    def _run(self, xs: Tensor) -> None:
        for layer, connection in zip(self.net, self._connections, strict=True):
            xs = as_input(layer, xs, 2)
            if self._is_known:
                self._count(connection, xs)
            xs = layer.run(xs)
            if layer.neuron.spiking:
                self._outputs += xs.numel()
                self._spikes += int(torch.count_nonzero(xs))

    def _count(self, connection: list[nn.Module], xs: Tensor) -> None:
        """Count the operations of a connection. Args: xs: (time, batch, *in_shape)."""
        steps, batch = xs.shape[:2]
        for at, module in enumerate(connection):
            if isinstance(module, _WEIGHTED):
                present = xs != 0
                is_accumulated = (~present | (xs.abs() == 1)).flatten(1).all(dim=1)
                # The number of effective operations is linear in the number of times that each input is present.
                acs, macs = (self._effective(module, present[some]) for some in (is_accumulated, ~is_accumulated))
                ones = torch.ones_like(present[:1, :1])
                self._dense += steps * batch * self._effective(module, ones, dense=True)
                self._acs, self._macs = self._acs + acs, self._macs + macs
            if at < len(connection) - 1:
                xs = module(xs.flatten(0, 1)).unflatten(0, (steps, batch))

    @staticmethod
    def _effective(module: nn.Module, present: Tensor, *, dense: bool = False) -> float:
        counts = present.flatten(0, 1).sum(dim=0).double()
        weight = module.weight.detach()  # type: ignore[operator]
        meets = torch.ones_like(weight) if dense else (weight != 0)
        if isinstance(module, nn.Linear):
            return float(counts.reshape(-1, counts.shape[-1]).sum(dim=0) @ meets.sum(dim=0).double())
        convolve = module._conv_forward
        return float(convolve(counts[None], meets.double(), None).sum())  # type: ignore[operator]

    def summary(self, dt: float | None) -> dict[str, float]:
        """Return the numbers for the summary of a run; {} before the first `add`.

        Args: dt: length of a step in seconds, if steps have one.
        Returns: firing_rate_hz, or firing_rate_per_step without dt, per neuron; activation_sparsity and
            connection_sparsity, in [0, 1]; synaptic_operations, effective_acs and effective_macs, per trial (or
            decision). Values that are not known are left out.
        """
        if not self.trials:
            return {}
        values: dict[str, float] = {}
        if self._outputs:
            rate = self._spikes / self._outputs
            values |= {"firing_rate_hz": rate / dt} if dt else {"firing_rate_per_step": rate}
            values["activation_sparsity"] = 1 - rate
        if self._is_known:
            weights = [module.weight for some in self._connections for module in some if isinstance(module, _WEIGHTED)]
            zeros = sum(int((weight == 0).sum()) for weight in weights)
            values["connection_sparsity"] = zeros / sum(weight.numel() for weight in weights)
            values["synaptic_operations"] = self._dense / self.trials
            values |= {"effective_acs": self._acs / self.trials, "effective_macs": self._macs / self.trials}
        return values


def _leaves(connection: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of a connection in their order."""
    if isinstance(connection, nn.Sequential):
        for module in connection:
            yield from _leaves(module)
    else:
        yield connection
