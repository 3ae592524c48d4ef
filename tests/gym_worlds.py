"""Small environments for Gymnasium whose every number is known by hand."""

import gymnasium
import numpy as np
from gymnasium import spaces

LIMIT = 6


class Counter(gymnasium.Env):
    """Observes (steps of the episode, a random number of the episode, 0.1); action 3 ends it with a reward of 10."""

    resets = 0

    def __init__(self, kind="box", acts="discrete", forgetful=False, ends_at=None):
        box = spaces.Box(-np.inf, np.inf, (3,), np.float64)
        seen = {"discrete": spaces.Discrete(LIMIT + 1, start=5), "tuple": spaces.Tuple([box, box])}
        done = {"several": spaces.MultiDiscrete([2, 2])}
        self.kind, self.forgetful, self.ends_at = kind, forgetful, ends_at
        self.observation_space = seen.get(kind, box)
        self.action_space = done.get(acts, spaces.Discrete(3, start=2))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        Counter.resets += 1
        self.steps, self.own = 0, Counter.resets if self.forgetful else self.np_random.normal()
        return self._see(), {}

    def step(self, action):
        assert action in self.action_space
        self.steps += 1
        done = action == 3 or self.steps == self.ends_at
        return self._see(), 10.0 if action == 3 else 1.0, done, False, {}

    def _see(self):
        if self.kind == "discrete":
            return self.steps + 5
        return np.array([self.steps, self.own, 0.1])


def register():
    """Make them known as Counter-v0, cut off after LIMIT steps, and Endless-v0, which is not."""
    for name, limit in (("Counter-v0", LIMIT), ("Endless-v0", None)):
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=Counter, max_episode_steps=limit)
