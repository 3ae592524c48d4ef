"""The interface of tasks with rewards: observations, actions and their outcome."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.modes import check_tensor
from tracetorch.renamed import RefusesFormerReset
from tracetorch.tasks.task import BaseTask, Trials, one_sample

Choose = Callable[[Stream, Tensor], Tensor]
"""`choose(xs, begins)` returns the action in each environment, (num_envs,), for its observation.

`begins`, (num_envs,), bool, marks environments in which an episode begins: their network state is reset. If episodes
begin in all environments, num_envs may differ from the call before.
"""


class Outcome(NamedTuple):
    """The outcome of an action, in each environment."""

    reward: Tensor  # (num_envs,), any real number
    terminated: Tensor  # (num_envs,), bool: the episode is over, and its return is complete
    truncated: Tensor  # (num_envs,), bool: the episode was cut off before its end
    final: Stream | None = None
    """The last observation of a truncated episode; for other environments, what `observe` returns.

    None without truncation.
    """


class Environment(BaseTask, RefusesFormerReset):
    """Several independent environments in parallel: each gives observations, takes actions and gives rewards.

    Observations and rewards are functions of the environment's seed and of the actions. After the end of an episode,
    `observe` returns the first observation of the next episode. There are no labels.

    A final subclass sets the sizes and `num_envs`, and writes `reset`, `observe`, `act` and `test`; the rest has
    defaults.
    """

    num_envs: int
    actions_per_pass: int | None = None  # actions in one pass over the training data; None if the data never end
    metrics: tuple[str, ...] = ("return",)
    """Columns of `test` that are averaged and reported; the first selects the best network: the largest, but
    of a name such as `mean_error`, the smallest (`runs.folder.lower_is_better`)."""
    restarted: bool = False
    """Whether `load_state_dict` began new episodes in all environments instead of continuing the stored episodes."""

    @property
    def context(self) -> int:
        """Number of context changes so far, which observations do not signal; for records, not for learning."""
        return 0

    @property
    def batch_size(self) -> int:
        """`num_envs`, under the name that `Task` uses."""
        return self.num_envs

    @abstractmethod
    def reset(self) -> None:
        """Restart all environments, as after construction."""

    @abstractmethod
    def observe(self) -> Stream:
        """Return the present observation, (steps, num_envs, input_size). It stays the same until `act`."""

    @abstractmethod
    def act(self, action: Tensor) -> Outcome:
        """Act in each environment, and advance to the next observation.

        Args: action: whole numbers from 0 to `output_size − 1`, (num_envs,).
        Raises: ValueError for anything else.
        """

    @abstractmethod
    def test(self, choose: Choose, split: str = "test") -> Trials:
        """Run held-out episodes; the training environments do not change.

        Args: choose: the policy; see `Choose`. split: "validation" or "test".
        Returns: a value for each episode under each name, in a fixed order: "return", the sum of its rewards, and the
            columns that `summary` and `figures` need. No columns if nothing is held out in this split.
        """

    def example(self, trial: int = 0) -> tuple[Stream, dict[str, tuple[float, float]]]:
        """Return an observation to draw, (steps, 1, input_size), and its named intervals (start, stop, in steps).

        Args: trial: the number of an environment.
        Raises: ValueError for a number that no environment has.
        """
        if not 0 <= trial < self.num_envs:
            raise ValueError(f"there are {self.num_envs} environments, 0 to {self.num_envs - 1}, got trial {trial}")
        return one_sample(self.observe(), trial), {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all environments and statistics of the observations, as tensors and plain values.

        After `load_state_dict`, an environment with the same arguments continues exactly from this state.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`. Raises: ValueError for the state of another environment."""
        del state

    def load_for_test(self, state: dict[str, Any]) -> None:
        """Load the parts of a `state_dict` that `test` needs: observation statistics, the present meaning of actions.

        Default: load nothing.
        """


def check_actions(action: Tensor, num_envs: int, actions: int) -> Tensor:
    """Return the actions on the CPU.

    Raises: TypeError unless `action` is a tensor; ValueError unless it has a whole number, 0 … actions − 1, for each
        environment.
    """
    check_tensor(action, "act")
    if action.shape != (num_envs,) or action.is_floating_point() or action.dtype == torch.bool:
        kind = f"{str(action.dtype).removeprefix('torch.')} of shape {tuple(action.shape)}"
        raise ValueError(f"act takes a whole number for each of the {num_envs} environments, got {kind}")
    action = action.detach().cpu()
    low, high = (int(bound) for bound in action.aminmax())
    if not 0 <= low <= high < actions:
        raise ValueError(f"actions are numbered 0 to {actions - 1}, got {low} to {high}")
    return action
