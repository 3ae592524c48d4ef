"""A small world with rewards: two lights, two arms, and the arm of the light that is on pays; for tests of the loop."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.tiny_training import start
from tracetorch import loss, nn, rules
from tracetorch.backends import uniform
from tracetorch.encode import Stream, constant, mix_seed
from tracetorch.experiments import lifetime, reinforcement
from tracetorch.runs import Run
from tracetorch.tasks import Reversal
from tracetorch.tasks.environment import Environment, Outcome, check_actions


class Lights(Environment):
    """In environment k an episode is 1 + k mod 3 decisions long; if `cut`, it is cut off there instead of ending."""

    input_size, output_size, steps, readout_window, actions_per_pass = 2, 2, 4, 2, 30

    def __init__(self, num_envs: int = 6, *, validation_episodes: int = 8, cut: bool = False, seed: int = 0):
        self.num_envs, self.validation_episodes, self.cut, self.seed = num_envs, validation_episodes, cut, seed
        self.reset()

    def reset(self) -> None:
        self.acts, self.ages = 0, torch.zeros(self.num_envs, dtype=torch.int64)

    def lights(self, acts: int | None = None) -> Tensor:
        chance = uniform(
            self.seed, range(1), torch.arange(self.num_envs) + (self.acts if acts is None else acts) * 1000, 1
        )
        return (chance[0, :, 0] < 0.5).long()

    def observe(self) -> Stream:
        return constant(torch.nn.functional.one_hot(self.lights(), 2).float(), self.steps)

    def act(self, action: Tensor) -> Outcome:
        reward = (check_actions(action, self.num_envs, 2) == self.lights()).float()
        self.acts, self.ages = self.acts + 1, self.ages + 1
        done = self.ages > torch.arange(self.num_envs) % 3
        self.ages[done] = 0
        never, final = torch.zeros_like(done), self.observe() if self.cut and bool(done.any()) else None
        return Outcome(reward, never if self.cut else done, done if self.cut else never, final)

    def test(self, choose, split="test"):
        count = self.validation_episodes if split == "validation" else 10
        if not count:
            return {}
        light = torch.arange(count) % 2
        action = choose(constant(torch.nn.functional.one_hot(light, 2).float(), self.steps), torch.ones(count).bool())
        return {"return": (action == light).float()}

    def state_dict(self):
        return {"acts": self.acts, "ages": self.ages.clone()}

    def load_state_dict(self, state):
        self.acts, self.ages = state["acts"], state["ages"]


NET = partial(nn.feedforward, hidden=[8], neuron=partial(nn.LIF, bias=True), readout=nn.LIS)
CRITIC = {"network": partial(NET, readout=nn.LI), "loss": loss.ActorCritic}
REWARDED = {"network": NET, "rule": rules.Trace}


def reinforce(tmp_path: Path, *, seed: int = 0, **changes: Any) -> Run:
    """A tiny run of `reinforcement`; `changes`: of its parts and options, and those of `tiny_training.start`."""
    parts = {"task": Lights(seed=mix_seed(seed, 5)), "loss": loss.Reflect, "updates": 6}
    parts |= {"optimizer": partial(torch.optim.Adam, lr=0.02)}
    return start(reinforcement.main, REWARDED | parts, tmp_path, seed=seed, **changes)


def run_lifetime(tmp_path: Path, *, seed: int = 0, **changes: Any) -> Run:
    """A tiny run of `lifetime` in a world that switches; `changes`: as in `reinforce`."""
    world = Reversal(Lights(seed=mix_seed(seed, 5)), every=150, seed=seed)
    parts = {"task": world, "loss": partial(loss.Reflect, baseline=0.9, uniform=0.1), "updates": 6, "averages": (5, 50)}
    parts |= {"optimizer": partial(torch.optim.Adam, lr=0.05)}
    return start(lifetime.main, REWARDED | parts, tmp_path, seed=seed, **changes)
