"""An environment whose actions change their meaning without notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tracetorch.encode import Stream
from tracetorch.tasks.context_schedule import ContextSchedule
from tracetorch.tasks.environment import Choose, Environment, Outcome, check_actions
from tracetorch.tasks.task import Trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Reversal(Environment):
    """Another environment in which, every now and then, the actions change their meaning in all environments at once.

        in context c, action a does what action (a + o_c) mod n did at first;    o_0 = 0,    o_c ≠ o_(c−1)

    So at a switch every action takes the meaning of another one; of two actions, left and right swap. Observations do
    not show it. `switches` is for figures.

    Args:
        environment: with at least two actions.
        every: actions from one switch to the next, on average.
        jitter: by which part of that they vary; see `ContextSchedule`.
        seed: of the switches.
    Raises: ValueError for a single action, and for values that make no schedule.
    Memory: that of the environment; independent of the number of switches.
    """

    def __init__(self, environment: Environment, *, every: int = 1000, jitter: float = 0.2, seed: int = 0):
        if not isinstance(environment, Environment):
            raise ValueError(
                f"environment must answer with rewards, got {type(environment).__name__}; wrap a task in RewardedTask"
            )
        if environment.output_size < 2:
            raise ValueError("a switch needs at least two actions to swap, and this environment has one")
        self.environment, self.device, self.schedule = (
            environment,
            environment.device,
            ContextSchedule(every, jitter, seed),
        )
        self.input_size, self.output_size, self.num_envs = (
            environment.input_size,
            environment.output_size,
            environment.num_envs,
        )
        self.steps, self.readout_window, self.dt = environment.steps, environment.readout_window, environment.dt
        self.output_names, self.metrics = environment.output_names, environment.metrics
        self.actions_per_pass = environment.actions_per_pass
        self._acts, self._context, self._offset = 0, 0, 0

    @property
    def switches(self) -> list[int]:
        """How many actions had been taken in each environment at each switch so far."""
        return self.schedule.switches(self._acts)

    @property
    def context(self) -> int:
        return self._context + self.environment.context

    def to(self, device: torch.device) -> Reversal:
        self.environment.to(device)
        self.device = device
        return self

    def begin(self) -> None:
        self.environment.begin()
        self._go_to(0)

    def observe(self) -> Stream:
        return self.environment.observe()

    def act(self, action: Tensor) -> Outcome:
        check_actions(action, self.num_envs, self.output_size)
        outcome = self.environment.act(self._meant(action))
        self._go_to(self._acts + 1)
        return outcome

    def test(self, choose: Choose, split: str = "test") -> Trials:
        """As `Environment.test`, with what the actions mean at present."""
        return self.environment.test(lambda xs, begins: self._meant(choose(xs, begins)), split)

    def summary(self, trials: Trials) -> dict[str, float]:
        return self.environment.summary(trials)

    def figures(self, trials: Trials) -> dict[str, Figure]:
        return self.environment.figures(trials)

    def example(self) -> tuple[Stream, dict[str, tuple[float, float]]]:
        return self.environment.example()

    def input_image(self) -> tuple[int, int] | None:
        return self.environment.input_image()

    def state_dict(self) -> dict[str, Any]:
        return {"acts": self._acts, "environment": self.environment.state_dict()}

    def load_for_test(self, state: dict[str, Any]) -> None:
        self.environment.load_for_test(state["environment"])
        self._go_to(int(state["acts"]))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.keys() != {"acts", "environment"}:
            raise ValueError(f"the state is not that of a Reversal: it has {', '.join(map(str, state))}")
        self.environment.load_state_dict(state["environment"])
        self._go_to(int(state["acts"]))

    def _go_to(self, acts: int) -> None:
        self._acts, context = acts, self.schedule.context(acts)
        if context < self._context:
            self._context, self._offset = 0, 0
        for each in range(self._context + 1, context + 1):
            self._context, self._offset = each, (self._offset + self._turn(each)) % self.output_size

    def _turn(self, context: int) -> int:
        """By how much the meaning of all actions moves on at the beginning of this context: 1 … n − 1."""
        return 1 + int(float(self.schedule.draw(context, 1)[0]) * (self.output_size - 1))

    def _meant(self, action: Tensor) -> Tensor:
        return (action + self._offset) % self.output_size
