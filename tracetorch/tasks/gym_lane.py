"""One copy of a Gymnasium environment: made, checked, and so played that it can be brought to the same place again."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Lane:
    """One copy of an environment, episode after episode.

    Where it stands is a function of the seed of its present episode and of the actions since that began, which is what
    it remembers; Gymnasium promises this of an environment that draws from its own `np_random` alone.

    Args:
        env: what `make` gave.
        seed_of: the seed of the episode with this number.
        episode: the number of the first one.
    Memory: 4 bytes for each action of the present episode.
    """

    def __init__(self, env: Any, seed_of: Callable[[int], int], episode: int):
        self.env, self._seed_of = env, seed_of
        self._first_observation = int(getattr(env.observation_space, "start", 0))
        self._values = np.eye(features_of(env)) if is_discrete(env.observation_space) else None
        self._first_action = int(env.action_space.start)
        self.begin(episode)

    def begin(self, episode: int) -> None:
        """Begin the episode with this number."""
        self.episode, self.actions = episode, array("i")
        self._see(self.env.reset(seed=self._seed_of(episode))[0])

    def act(self, action: int) -> tuple[float, bool, bool]:
        """Returns: reward, whether the episode terminated, whether it was truncated."""
        self.actions.append(action)
        observation, reward, terminated, truncated, _ = self.env.step(action + self._first_action)
        self._see(observation)
        return float(reward), bool(terminated), bool(truncated)

    def replay(self, episode: int, actions: list[int], expected: np.ndarray) -> None:
        """Go to where another copy was after these actions of this episode.

        Raises: ValueError if something else is seen there than was expected.
        """
        self.begin(episode)
        for action in actions:
            self.act(action)
        if not np.allclose(self.seen, expected, rtol=1e-4, atol=1e-6):
            raise ValueError(
                f"{self.env.spec.id} is not deterministic: with the same seed and actions its episode differs; "
                "the run cannot continue from here"
            )

    def _see(self, observation: Any) -> None:
        if self._values is None:
            self.seen = np.array(observation, dtype=np.float64).reshape(-1)
        else:
            self.seen = self._values[int(observation) - self._first_observation]


def stacked(seen: list[np.ndarray], name: str) -> Tensor:
    """What is seen in each lane, as one tensor, (lanes, features), float64. Raises: ValueError if it is not finite."""
    rows = np.stack(seen)
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} gave an observation that is not finite")
    return torch.from_numpy(rows)


def make(id: str, max_episode_steps: int | None, options: Mapping[str, Any]) -> Any:
    """Make one copy. Raises: ValueError, one sentence, if it cannot be had or cannot be played with; see `Gym`."""
    try:
        import gymnasium
    except ImportError as error:
        raise ValueError("Gymnasium is missing: pip install -c constraints.txt -e '.[rl]'") from error
    if id not in gymnasium.registry:  # also those that would import a module by its name, which no config may
        names = {name.lower(): name for name in gymnasium.registry}
        close = [names[found] for found in get_close_matches(str(id).lower(), list(names), 1, 0.6)]
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ValueError(
            f"id={id}: Gymnasium knows no such environment.{hint} `python -c 'import gymnasium; "
            "gymnasium.pprint_registry()'` lists them"
        )
    try:
        env = gymnasium.make(id, max_episode_steps=max_episode_steps, **options)
    except (ImportError, gymnasium.error.Error, TypeError, ValueError) as error:
        raise ValueError(f"{id} cannot be made: {' '.join(str(error).split())}") from error
    try:
        _check(env, gymnasium.spaces)
    except ValueError:
        env.close()
        raise
    return env


def is_discrete(space: Any) -> bool:
    """Whether a space is numbers that are names, and not a quantity."""
    return type(space).__name__ == "Discrete"


def features_of(env: Any) -> int:
    """How many numbers an observation is made of; a discrete one has a place for each value."""
    space = env.observation_space
    return int(space.n) if is_discrete(space) else int(np.prod(space.shape, dtype=np.int64))


def _check(env: Any, spaces: Any) -> None:
    name, seen, done = env.spec.id, env.observation_space, env.action_space
    if isinstance(done, spaces.Box):
        raise ValueError(f"{name} takes continuous actions, {done}; only discrete ones are supported")
    if not isinstance(done, spaces.Discrete):
        raise ValueError(f"{name} takes actions of the type {type(done).__name__}; only Discrete ones are supported")
    if not isinstance(seen, spaces.Box | spaces.Discrete) or not features_of(env):
        raise ValueError(
            f"{name} gives observations of the type {type(seen).__name__}; only Box and Discrete ones are supported"
        )
    if env.spec.max_episode_steps is None:
        raise ValueError(f"{name} sets no end to an episode: give max_episode_steps, such as 500")
