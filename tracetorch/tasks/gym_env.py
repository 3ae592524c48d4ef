"""One copy of a Gymnasium environment: made, checked, and so played that it can be brought to the same place again."""

from __future__ import annotations

import math
import operator
import traceback
from array import array
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tracetorch.printable import printable


class ReplayableEnv:
    """One copy of an environment, episode after episode.

    Its state is a function of the seed of the present episode and of the actions since then, which are stored;
    Gymnasium promises this of an environment that draws from its own `np_random` alone.

    Args: env: from `make`. seed_of: the seed of the episode with this number. episode: the number of the first one.
    Memory: 4 bytes for each action of the present episode.
    """

    def __init__(self, env: Any, seed_of: Callable[[int], int], episode: int):
        self.env, self._seed_of = env, seed_of
        self._first_observation = int(getattr(env.observation_space, "start", 0))
        self._features = features_of(env)
        self._values = np.eye(self._features) if is_discrete(env.observation_space) else None
        # The type that `sample` gives: Gymnasium's check of a Python number takes longer than a step of CartPole.
        self._first_action, self._number = int(env.action_space.start), env.action_space.dtype.type
        self.begin(episode)

    def begin(self, episode: int) -> None:
        """Begin the episode with this number."""
        self.episode, self.actions = episode, array("i")
        came = self._ask("reset", _RESET, self.env.reset, seed=self._seed_of(episode))
        if not isinstance(came, tuple) or len(came) != 2:
            raise self._wrong("reset", came, _RESET)
        self._see("reset", came[0])

    def act(self, action: int) -> tuple[float, bool, bool]:
        """Returns: reward, whether the episode terminated, whether it was truncated."""
        self.actions.append(action)
        came = self._ask("step", _STEP, self.env.step, self._number(action + self._first_action))
        if not isinstance(came, tuple) or len(came) != 5:
            raise self._wrong("step", came, _STEP)
        observation, reward, terminated, truncated, _ = came
        self._see("step", observation)
        number = _number(reward)
        if number is None:
            raise self._wrong("step", reward, "a reward that is a finite number")
        for name, value in {"terminated": terminated, "truncated": truncated}.items():
            if value is True or value is False:
                continue
            if np.ndim(value) or not isinstance(value, bool | np.bool_ | int | np.integer) or value not in (0, 1):
                raise self._wrong("step", value, f"`{name}` as True or False")
        return number, bool(terminated), bool(truncated)

    def replay(self, episode: int, actions: list[int], expected: np.ndarray) -> None:
        """Repeat these actions of this episode. Raises: ValueError if the last observation is not the expected one."""
        self.begin(episode)
        for action in actions:
            self.act(action)
        if not np.allclose(self.seen, expected, rtol=1e-4, atol=1e-6):
            raise ValueError(
                f"{self.env.spec.id} is not deterministic: with the same seed and actions its episode differs; "
                "to continue with new episodes, add task.resume=new_episodes"
            )

    def _ask(self, method: str, wanted: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Call a method. Raises: ValueError if Gymnasium's own code fails in it; else the method's own error."""
        try:
            return call(*given, **named)
        except Exception as error:
            *_, (frame, _) = traceback.walk_tb(error.__traceback__)
            if str(frame.f_globals.get("__name__")).partition(".")[0] != "gymnasium":
                raise
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ValueError(
                f"{self.env.spec.id}: Gymnasium cannot use its {method} ({why}); wanted: {wanted}"
            ) from error

    def _wrong(self, method: str, given: Any, wanted: str) -> ValueError:
        shape = f" of shape {np.shape(given)}" if isinstance(given, np.ndarray) else ""
        return ValueError(f"{self.env.spec.id}: {method} gave {printable(repr(given), 80)}{shape}; wanted: {wanted}")

    def _see(self, method: str, observation: Any) -> None:
        try:
            if self._values is None:
                self.seen = np.array(observation, dtype=np.float64).reshape(-1)
                fits = len(self.seen) == self._features
            else:
                at = operator.index(observation) - self._first_observation
                fits = 0 <= at < len(self._values)
                self.seen = self._values[at if fits else 0]
        except (TypeError, ValueError):
            fits = False
        if not fits:
            wanted = f"an observation in {printable(self.env.observation_space, 80)}"
            raise self._wrong(method, observation, wanted)


_RESET = "(observation, info) from reset(seed=…, options=…)"
_STEP = "(observation, reward, terminated, truncated, info)"


def _number(value: Any) -> float | None:
    """A finite number as Python's own; None for anything else."""
    try:
        is_one = isinstance(value, float) or not (isinstance(value, str) or np.ndim(value))
        number = float(value) if is_one else math.nan
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def stacked(seen: list[np.ndarray], name: str) -> Tensor:
    """The observations as one tensor, (num_envs, features), float64. Raises: ValueError if one is not finite."""
    rows = np.stack(seen)
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} gave an observation that is not finite")
    return torch.from_numpy(rows)


def make(id: str, max_episode_steps: int | None, options: Mapping[str, Any]) -> Any:
    """Make one copy; for an id such as "module:Name-v0" the module is imported first, which registers the environment.

    Raises: ValueError if it cannot be had or played; see `Gym`. Errors of the module.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ValueError("Gymnasium is missing: pip install -c constraints.txt -e '.[rl]'") from error
    module, colon, name = id.rpartition(":")
    if colon:
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"id={id}: {module!r} is not a module; write module:Name-v0")
        import_module(module)
    if name not in gymnasium.registry:
        names = {known.lower(): known for known in gymnasium.registry}
        close = [names[found] for found in get_close_matches(name.lower(), list(names), 1, 0.6)]
        hint = f" Did you mean {f'{module}{colon}' if colon else ''}{close[0]}?" if close else ""
        other = "for one that another package registers, write id=package:Name-v0"
        own = f"{module} registers none of this name" if colon else other
        raise ValueError(
            f"id={id}: Gymnasium knows no such environment.{hint} `python -c 'import gymnasium; "
            f"gymnasium.pprint_registry()'` lists them; {own}"
        )
    try:
        # Without Gymnasium's checker: it warns, and ends in bare assertions; `ReplayableEnv` checks what counts here.
        env = gymnasium.make(name, max_episode_steps=max_episode_steps, **{"disable_env_checker": True, **options})
    except Exception as error:  # what the environment's own code raises
        words = " ".join(str(error).split())
        raise ValueError(f"{id} cannot be made: {type(error).__name__}: {words}") from error
    try:
        _check(env, gymnasium.spaces)
    except ValueError:
        env.close()
        raise
    return env


def is_discrete(space: Any) -> bool:
    """Whether the numbers of a space are names, and not quantities."""
    return type(space).__name__ == "Discrete"


def features_of(env: Any) -> int:
    """How many numbers an observation has; a discrete one has a place for each value."""
    space = env.observation_space
    return int(space.n) if is_discrete(space) else int(np.prod(space.shape, dtype=np.int64))


def _check(env: Any, spaces: Any) -> None:
    name = env.spec.id
    seen, done = (getattr(env, space, None) for space in ("observation_space", "action_space"))
    if seen is None or done is None:
        missing = "observation_space" if seen is None else "action_space"
        raise ValueError(f"{name} has no {missing}; its class must set one, such as gymnasium.spaces.Discrete(2)")
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
