"""What every task says that answers with rewards: what is seen, what may be done, and what came of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.tasks.base import BaseTask, Trials
from tracetorch.tasks.task import first_sample

Choose = Callable[[Stream, Tensor], Tensor]
"""`choose(xs, begins)` gives the action in each lane, (lanes,), for what is to be seen there.

`begins`, (lanes,), bool, says where an episode begins, so that what was seen before is to be forgotten. Where it begins
everywhere, there may be another number of lanes than before.
"""


class Outcome(NamedTuple):
    """What came of an action, in each lane."""

    reward: Tensor  # (lanes,), any real number
    terminated: Tensor  # (lanes,), bool: the episode is over, and nothing is to be expected from it
    truncated: Tensor  # (lanes,), bool: the episode was cut off, though it would have gone on
    final: Stream | None = None
    """Where an episode was cut off, the last that was to be seen of it; elsewhere as `observe`. None if none was."""


class Environment(BaseTask):
    """Several lanes, independent of each other and side by side: in each, something is seen, done and rewarded.

    What happens is a function of the environment's seed and of the actions. A lane whose episode is over begins the
    next one by itself: what `observe` gives then belongs to it. No label and no right answer is in what `observe` and
    `act` give.

    A final subclass sets the sizes and `lanes`, and writes `begin`, `observe`, `act` and `test`; the rest has
    defaults.
    """

    lanes: int
    actions_per_pass: int | None = None
    """How often to act in one pass over the training data; None if they never end."""
    metrics: tuple[str, ...] = ("return",)
    """Columns of `test` that are averaged and reported; the first (larger is better) says which network is best."""
    restarted: bool = False
    """Whether `load_state_dict` began new episodes in all lanes instead of continuing the old ones."""

    @property
    def phase(self) -> int:
        """How often the world has changed so far without telling anybody; for who keeps records, not for who learns."""
        return 0

    @property
    def batch_size(self) -> int:
        """How many lanes there are, by the name that `Task` has for it."""
        return self.lanes

    @abstractmethod
    def begin(self) -> None:
        """Restart all lanes, as after construction."""

    @abstractmethod
    def observe(self) -> Stream:
        """What is to be seen now, (steps, lanes, input_size); the same however often it is asked."""

    @abstractmethod
    def act(self, action: Tensor) -> Outcome:
        """Do something in each lane, and go on to what is to be seen next.

        Args: action: whole numbers from 0 to `output_size − 1`, (lanes,).
        Raises: ValueError for anything else.
        """

    @abstractmethod
    def test(self, choose: Choose, split: str = "test") -> Trials:
        """Play episodes that are never learnt from; nothing of the lanes that are learnt from changes by it.

        Args:
            choose: who acts; see `Choose`.
            split: "validation" or "test".
        Returns: a value for each episode under each name, in a fixed order: "return", the sum of its rewards, and
            whatever `summary` and `figures` need. No columns at all if nothing is held out in this split.
        """

    def example(self) -> tuple[Stream, dict[str, tuple[float, float]]]:
        """One observation to draw, (steps, 1, input_size), and its named stretches of time (start, stop, in steps)."""
        return first_sample(self.observe()), {}

    def state_dict(self) -> dict[str, Any]:
        """Where all lanes are, and what was learnt of the observations, in tensors and plain values.

        Loaded into an environment that was made alike, `load_state_dict` lets it go on as this one does, to the bit.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises: ValueError if it is of another environment."""
        del state

    def load_for_test(self, state: dict[str, Any]) -> None:
        """Be, for `test`, what another one was that gave this `state_dict`; where its lanes were does not matter.

        That is what was learnt of the observations, and what actions mean by now. Nothing, by default.
        """
        del state


def check_actions(action: Tensor, lanes: int, actions: int) -> Tensor:
    """The actions, on the CPU. Raises: ValueError if they are not one whole number for each lane, 0 … actions − 1."""
    if action.shape != (lanes,) or action.is_floating_point() or action.dtype == torch.bool:
        kind = f"{str(action.dtype).removeprefix('torch.')} of shape {tuple(action.shape)}"
        raise ValueError(f"act takes a whole number for each of the {lanes} environments, got {kind}")
    action = action.detach().cpu()
    low, high = (int(end) for end in action.aminmax())
    if not 0 <= low <= high < actions:
        raise ValueError(f"actions are numbered 0 to {actions - 1}, got one of {low} to {high}")
    return action
