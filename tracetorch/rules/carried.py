"""Rules whose eligibilities have factors that go on from chunk to chunk, and from one learning moment to the next."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tracetorch import backends
from tracetorch.encode import Stream
from tracetorch.nn import Sequential
from tracetorch.rules.base import Rule
from tracetorch.rules.stepwise import Activity, StepwiseRule, blocks, part_of
from tracetorch.rules.surrogate import Surrogate


class CarriedRule(StepwiseRule):
    """Keeps sums over the past of each layer, (…, batch, features), and learns from a chunk of steps at once.

    The signal of a step passes down the layers within that step; a subclass defines what a layer does with it.

    Args: surrogate: as in `BPTT`, without `through_reset`.
    """

    _sums: list[dict[str, Tensor]]  # of each layer, by name
    _passes_down = True  # whether a layer's signal comes from the layer above

    def __init__(self, net: Sequential, surrogate: Surrogate | str):
        super().__init__(net, surrogate)
        self._restart()

    @abstractmethod
    def _carries(self, at: int) -> bool:
        """Whether layer `at` keeps sums."""

    @abstractmethod
    def _advance(self, at: int, activity: Activity) -> Any:
        """Take a chunk into the sums of layer `at`. Returns: what `_learn` needs of the chunk."""

    @abstractmethod
    def _learn(self, at: int, activity: Activity, factors: Any, signal: Tensor, steps: slice) -> Tensor:
        """Add the gradients of layer `at` over a block of steps; the last block of a chunk comes first.

        Args: factors: what `_advance` returned, for all steps; signal: dL/d output, (time, batch, out_features).
        Returns: dL/d currents at each step as it goes on to the layer below, (time, batch, out_features).
        """

    def _leave(self, at: int, activity: Activity, *, is_last: bool) -> None:
        """Called after a chunk was learned from. Args: is_last: whether it is the last one of the stretch."""

    def reset(self, mask: Tensor | None = None) -> None:
        """Start a new sequence: reset state and sums of all samples, or of those in `mask`, bool (batch,)."""
        if mask is None:
            super().reset()
            self._restart()
            return
        Rule.reset(self, mask)  # first: if the mask is invalid, the recording is kept
        self._keep_unlearnt()
        self._forget(mask)

    def forward(self, xs: Tensor | Stream, *, reduce: str | None = None, window: int | None = None) -> Tensor:
        """Run over a stretch of time; see `Sequential.run`. Under `torch.no_grad` the sums are dropped.

        `xs` is read again: it must not change until the next `backward`, `forward` or `reset`.
        """
        if torch.is_grad_enabled():
            self._keep_unlearnt()
        else:
            self._restart()
        return super().forward(xs, reduce=reduce, window=window)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, for a checkpoint right after a learning moment."""
        return {"sums": [{name: value.clone() for name, value in sums.items()} for sums in self._sums]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        found = state.get("sums") or [{} for _ in self.net]
        self._sums = [
            {name: value.to(layer.weight, copy=True) for name, value in sums.items()}
            for layer, sums in zip(self.net, found, strict=True)
        ]

    def _restart(self) -> None:
        """Forget all samples."""
        self._sums = [{} for _ in self.net]

    def _forget(self, mask: Tensor) -> None:
        """Forget some samples, bool (batch,)."""
        for sums in self._sums:
            for value in sums.values():
                value[..., mask, :] = 0

    @torch.no_grad()
    def _sum(self, at: int, name: str, added: Tensor, decay: float | Tensor) -> Tensor:
        """Continue a sum of layer `at`, `y ← d·y + x`.

        Args: added: x, (time, batch, features). Returns: y before the first step and after each: (time + 1, …).
        """
        sums, decay = self._sums[at], torch.as_tensor(decay, dtype=added.dtype, device=added.device)
        found = added.new_empty(len(added) + 1, *added.shape[1:])
        found[0] = sums.get(name, 0.0)
        backends.leak_scan(added, found[0].clone(), decay, found[1:])
        sums[name] = found[-1].clone()
        return found

    @torch.no_grad()
    def _sum_input(self, at: int, activity: Activity, decay: float) -> Tensor:
        """As `_sum`, of a layer's input. Returns: y before the first step."""
        like = activity.inputs(slice(0, 1))[0]
        before = self._sums[at].get("input", torch.zeros_like(like))
        trace = backends.TraceBuffers(before.clone(), like.new_tensor(decay))
        activity.add_inputs(trace)
        self._sums[at]["input"] = trace.values
        return before

    def _keep_unlearnt(self) -> None:
        """Add the last stretch to the sums, if it got no signal."""
        recording, self._recording = self._recording, None
        if recording is not None and self._needs_past:
            self._learn_recording(recording, None)

    @property
    def _needs_past(self) -> bool:  # type: ignore[override]
        return any(map(self._carries, range(len(self.net))))

    def _learn_chunk(self, activities: list[Activity], signal: Tensor | None, end: int, *, is_last: bool) -> None:
        factors = [self._advance(at, activity) for at, activity in enumerate(activities)]
        own = None if signal is None else part_of(signal, end, len(activities[0]))
        if own is not None:
            for steps in blocks(activities):
                down = own[steps]
                for at in reversed(range(len(activities))):
                    delta = self._learn(at, activities[at], factors[at], down, steps)
                    if at and self._passes_down:
                        down = delta @ activities[at].layer.weight
        for at, activity in enumerate(activities):
            self._leave(at, activity, is_last=is_last)
