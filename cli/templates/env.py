"""Own part: two levers, one of which pays more often.

An environment is a subclass of `Environment`: several copies that give observations and, after an action, rewards.
Rewards and observations depend only on the seed and the actions, and `state_dict` holds what changes, so that a killed
run continues exactly. A task with one correct answer per trial needs no environment of its own:
`tracetorch.tasks.RewardedTask` makes one of it.
"""

from typing import Any

import torch
from torch import Tensor

from tracetorch.backends import uniform
from tracetorch.encode import Stream, mix_seed, poisson
from tracetorch.tasks.environment import Choose, Environment, Outcome, check_actions
from tracetorch.tasks.task import Trials, check_split


class OwnPart(Environment):
    """Two levers with different probabilities of a reward of 1. The network sees spikes without information.

    Args: num_envs: environments in parallel. test_episodes: pulls in a test. pays: the probability for each lever.
    """

    input_size, output_size, steps = 4, 2, 5  # channels, actions, time steps of an observation

    def __init__(
        self, *, num_envs: int = 8, test_episodes: int = 200, pays: tuple[float, float] = (0.4, 0.8), seed: int = 0
    ):
        self.num_envs, self.test_episodes, self.pays, self.seed = num_envs, test_episodes, pays, seed
        self.reset()

    def reset(self) -> None:
        """Restart all environments."""
        self.pulls = 0

    def observe(self) -> Stream:
        """The present observation, (steps, num_envs, input_size); it stays the same until `act`."""
        return self._show(0, self.pulls, self.num_envs)

    def act(self, action: Tensor) -> Outcome:
        """Pull a lever in each environment. Args: action: its number, 0 or 1, (num_envs,)."""
        reward = self._pay(check_actions(action, self.num_envs, self.output_size), 0, self.pulls)
        self.pulls += 1
        terminated = torch.ones(self.num_envs, dtype=torch.bool)  # each pull is an episode
        return Outcome(reward, terminated, truncated=~terminated)

    def test(self, choose: Choose, split: str = "test") -> Trials:
        """The return of each held-out episode, by name, (test_episodes,). The training environments do not change."""
        check_split(split)
        purpose = 1 if split == "validation" else 2
        begins = torch.ones(self.test_episodes, dtype=torch.bool, device=self.device)
        action = choose(self._show(purpose, 0, self.test_episodes), begins)
        return {"return": self._pay(action.cpu(), purpose, 0)}

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, from which a killed run continues exactly."""
        return {"pulls": self.pulls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`. Raises: ValueError for the state of another environment."""
        if state.keys() != {"pulls"}:
            raise ValueError(f"the state is not that of own_part: it has {', '.join(state)}")
        self.pulls = state["pulls"]

    def _show(self, purpose: int, number: int, count: int) -> Stream:
        """The observations of `count` environments, (steps, count, input_size)."""
        rates = torch.full((count, self.input_size), 0.5, device=self.device)
        return poisson(rates, self.steps, mix_seed(self.seed, purpose), number * count + torch.arange(count))

    def _pay(self, action: Tensor, purpose: int, number: int) -> Tensor:
        """The rewards of actions, 0 or 1, (actions,)."""
        seed, samples = mix_seed(self.seed, 3 + purpose), torch.arange(len(action))
        luck = uniform(seed, range(number, number + 1), samples, 1)[0, :, 0]
        return (luck < torch.tensor(self.pays)[action]).float()
