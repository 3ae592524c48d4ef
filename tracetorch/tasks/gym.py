"""Any Gymnasium environment with discrete actions; observations become spikes or currents."""

from __future__ import annotations

import math
import operator
import traceback
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from tracetorch.encode import ENCODERS, Stream, mix_seed, population, two_sided
from tracetorch.optional import library
from tracetorch.printable import printable
from tracetorch.renamed import TASK_STATE, present, takes_former_names
from tracetorch.tasks.environment import Choose, Environment, Outcome, check_actions
from tracetorch.tasks.task import SPLIT_NUMBERS, Trials, check_split, choices, whole_at_least


class ReplayableEnv:
    """One copy of an environment, which can replay its present episode.

    The state is a function of the episode's seed and of the actions since its start, which are stored. This holds for
    an environment that draws random numbers from its own `np_random` alone.

    Args: env: from `make`. seed_of: returns the seed of an episode by its number. episode: number of the first episode.
    Memory: 4 bytes for each action of the present episode.
    """

    def __init__(self, env: Any, seed_of: Callable[[int], int], episode: int):
        self.env, self._seed_of = env, seed_of
        self._first_observation = int(getattr(env.observation_space, "start", 0))
        self._features = features_of(env)
        self._one_hot = np.eye(self._features) if is_discrete(env.observation_space) else None
        # The type of `space.sample()`: Gymnasium's check of a Python number takes longer than a step of CartPole.
        self._first_action, self._action_type = int(env.action_space.start), env.action_space.dtype.type
        self.reset(episode)

    def reset(self, episode: int) -> None:
        """Begin the episode with this number."""
        self.episode, self.actions = episode, array("i")
        result = self._call("reset", _RESET, self.env.reset, seed=self._seed_of(episode))
        if not isinstance(result, tuple) or len(result) != 2:
            raise self._unexpected("reset", result, _RESET)
        self._store_observation("reset", result[0])

    def act(self, action: int) -> tuple[float, bool, bool]:
        """Returns: reward, whether the episode terminated, whether it was truncated."""
        self.actions.append(action)
        result = self._call("step", _STEP, self.env.step, self._action_type(action + self._first_action))
        if not isinstance(result, tuple) or len(result) != 5:
            raise self._unexpected("step", result, _STEP)
        observation, reward, terminated, truncated, _ = result
        self._store_observation("step", observation)
        finite_reward = _finite(reward)
        if finite_reward is None:
            raise self._unexpected("step", reward, "a reward that is a finite number")
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if isinstance(value, bool):
                continue
            if np.ndim(value) or not isinstance(value, np.bool_ | int | np.integer) or value not in (0, 1):
                raise self._unexpected("step", value, f"`{name}` as True or False")
        return finite_reward, bool(terminated), bool(truncated)

    def replay(self, episode: int, actions: list[int], expected: np.ndarray) -> None:
        """Repeat these actions of this episode. Raises: ValueError if the last observation is not the expected one."""
        self.reset(episode)
        for action in actions:
            self.act(action)
        if not np.allclose(self.observation, expected, rtol=1e-4, atol=1e-6):
            raise ValueError(
                f"{self.env.spec.id} is not deterministic: with the same seed and actions its episode differs; "
                "to continue with new episodes, add task.resume=new_episodes"
            )

    def _call(self, method: str, wanted: str, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a method. Raises: ValueError for an error in Gymnasium's own code; the method's errors, unchanged."""
        try:
            return call(*args, **options)
        except Exception as error:
            *_, (frame, _) = traceback.walk_tb(error.__traceback__)
            if str(frame.f_globals.get("__name__")).partition(".")[0] != "gymnasium":
                raise
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ValueError(
                f"{self.env.spec.id}: Gymnasium cannot use its {method} ({why}); wanted: {wanted}"
            ) from error

    def _unexpected(self, method: str, value: Any, wanted: str) -> ValueError:
        """Return the error for a value that a method must not return."""
        shape = f" of shape {np.shape(value)}" if isinstance(value, np.ndarray) else ""
        return ValueError(f"{self.env.spec.id}: {method} gave {printable(repr(value), 80)}{shape}; wanted: {wanted}")

    def _store_observation(self, method: str, observation: Any) -> None:
        try:
            if self._one_hot is None:
                self.observation = np.array(observation, dtype=np.float64).reshape(-1)
                fits = len(self.observation) == self._features
            else:
                index = operator.index(observation) - self._first_observation
                fits = 0 <= index < len(self._one_hot)
                self.observation = self._one_hot[index if fits else 0]
        except (TypeError, ValueError):
            fits = False
        if not fits:
            wanted = f"an observation in {printable(self.env.observation_space, 80)}"
            raise self._unexpected(method, observation, wanted)


_RESET = "(observation, info) from reset(seed=…, options=…)"
_STEP = "(observation, reward, terminated, truncated, info)"


def _finite(value: Any) -> float | None:
    """Return a finite number as a Python float; None for anything else."""
    try:
        is_number = isinstance(value, float) or not (isinstance(value, str) or np.ndim(value))
        number = float(value) if is_number else math.nan
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def stacked(observations: list[np.ndarray], name: str) -> Tensor:
    """Return the observations as one tensor, (num_envs, features), float64. Raises: ValueError if one is not finite."""
    rows = np.array(observations)
    if not np.isfinite(rows).all():
        raise ValueError(f"{name} gave an observation that is not finite")
    return torch.from_numpy(rows)


def make(id: str, max_episode_steps: int | None, options: Mapping[str, Any]) -> Any:
    """Make one environment. For an id such as "module:Name-v0", first import the module, which registers it.

    Raises: ValueError for a missing or unsupported environment; see `Gym`. Errors of the module, unchanged.
    """
    gymnasium = library("gymnasium", "rl")
    module, colon, name = id.rpartition(":")
    if colon:
        if not all(part.isidentifier() for part in module.split(".")):
            raise ValueError(f"id={id}: {module!r} is not a module; write module:Name-v0")
        import_module(module)
    if name not in gymnasium.registry:
        names = {known.lower(): known for known in gymnasium.registry}
        close = [names[match] for match in get_close_matches(name.lower(), list(names), 1, 0.6)]
        hint = f" Did you mean {f'{module}{colon}' if colon else ''}{close[0]}?" if close else ""
        advice = f"{module} registers none of this name"
        if not colon:
            advice = "for one that another package registers, write id=package:Name-v0"
        raise ValueError(
            f"id={id}: Gymnasium knows no such environment.{hint} `python -c 'import gymnasium; "
            f"gymnasium.pprint_registry()'` lists them; {advice}"
        )
    try:
        # Without Gymnasium's checker: it warns, and fails with bare assertions. `ReplayableEnv` has its own checks.
        env = gymnasium.make(name, max_episode_steps=max_episode_steps, **{"disable_env_checker": True, **options})
    except Exception as error:  # what the environment's own code raises
        message = " ".join(str(error).split())
        raise ValueError(f"{id} cannot be made: {type(error).__name__}: {message}") from error
    try:
        _check(env, gymnasium.spaces)
    except ValueError:
        env.close()
        raise
    return env


def is_discrete(space: Any) -> bool:
    """Whether the numbers of a space are categories, not quantities."""
    return type(space).__name__ == "Discrete"


def features_of(env: Any) -> int:
    """Return the number of features of an observation; a discrete one has a feature for each value."""
    space = env.observation_space
    return int(space.n) if is_discrete(space) else int(np.prod(space.shape, dtype=np.int64))


def _check(env: Any, spaces: Any) -> None:
    name = env.spec.id
    observations, actions = (getattr(env, space, None) for space in ("observation_space", "action_space"))
    if observations is None or actions is None:
        missing = "observation_space" if observations is None else "action_space"
        raise ValueError(f"{name} has no {missing}; its class must set one, such as gymnasium.spaces.Discrete(2)")
    if isinstance(actions, spaces.Box):
        raise ValueError(f"{name} takes continuous actions, {actions}; only discrete ones are supported")
    if not isinstance(actions, spaces.Discrete):
        raise ValueError(f"{name} takes actions of the type {type(actions).__name__}; only Discrete ones are supported")
    if not isinstance(observations, spaces.Box | spaces.Discrete) or not features_of(env):
        raise ValueError(
            f"{name} gives observations of the type {type(observations).__name__}; only Box and Discrete ones are "
            "supported"
        )
    if env.spec.max_episode_steps is None:
        raise ValueError(f"{name} sets no end to an episode: give max_episode_steps, such as 500")


_MIN_VARIATION = 1e-8
"""A feature with a smaller ratio of deviation to mean counts as constant: its variation is rounding error."""


class RunningMeanStd:
    """Mean and variance of each feature over all rows seen so far.

        n ← n + k,    δ = mean(rows) − μ,    μ ← μ + δ·k/n,    M ← M + Σ(rows − mean(rows))² + δ²·(n−k)·k/n
        σ² = M/n

    Args: features: number of features.
    Memory: two float64 numbers for each feature.
    Source: Welford (1962), Note on a method for calculating corrected sums of squares and products,
        doi:10.1080/00401706.1962.10490022; several rows at once: Chan, Golub and LeVeque (1983), Algorithms for
        computing the sample variance: analysis and recommendations, doi:10.1080/00031305.1983.10483115.
    Example:
        >>> statistics = RunningMeanStd(1)
        >>> statistics.update(torch.tensor([[1.0], [3.0]]))
        >>> statistics.standardize(torch.tensor([[3.0], [2.0]])).tolist()
        [[1.0], [0.0]]
    """

    def __init__(self, features: int):
        self.count = 0
        self.mean = torch.zeros(features, dtype=torch.float64)
        self.squares = torch.zeros(features, dtype=torch.float64)

    def update(self, rows: Tensor) -> None:
        """Add these rows, (rows, features), to the statistics."""
        values, mean = rows.to(torch.float64).numpy(), self.mean.numpy()  # faster than torch for few numbers
        num_rows, row_mean = len(values), values.mean(axis=0)
        total, delta = self.count + num_rows, row_mean - mean
        self.squares.numpy()[:] += ((values - row_mean) ** 2).sum(axis=0) + delta**2 * (self.count * num_rows / total)
        mean += delta * (num_rows / total)
        self.count = total

    @property
    def deviation(self) -> Tensor:
        """The population standard deviation of each feature over all rows, (features,), float64."""
        return torch.sqrt(self.squares / max(1, self.count))

    def standardize(self, rows: Tensor) -> Tensor:
        """Return (rows − mean) / standard deviation, float32; 0 for a constant feature."""
        mean, deviation = self.mean.numpy(), self.deviation.numpy()
        is_varying = deviation > _MIN_VARIATION * np.abs(mean)
        scaled = (rows.numpy().astype(np.float64) - mean) / np.where(is_varying, deviation, 1.0)
        return torch.from_numpy(np.where(is_varying, scaled, 0.0).astype(np.float32))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "mean": self.mean.clone(), "squares": self.squares.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`. Raises: ValueError for another number of features."""
        if state["mean"].shape != self.mean.shape:
            raise ValueError(f"the state has {len(state['mean'])} features, this observation {len(self.mean)}")
        self.count, self.mean, self.squares = state["count"], state["mean"].clone(), state["squares"].clone()


_EPISODES, _SPIKES, _FINAL = range(3)  # purposes of seeds
_SEED_BITS = 31  # some environments accept no longer seeds


class Gym(Environment):
    """Several copies of a Gymnasium environment with discrete actions, in parallel.

    Observations are standardized by the running mean and variance over all environments (their only shared
    state), clipped at ±`limit`, divided by it, and encoded by several neurons:

        two_sided     max(x, 0) and max(−x, 0)                                        2 neurons for each number
        population    exp(−(x − c_k)²/2σ²), c_k evenly in [−1, 1], σ their distance   `neurons` for each number

    times `max_rate`, for `steps` steps as `encoding` says. A discrete observation has one neuron for each value.
    With `observed` the network gets only these numbers of an observation, so that it needs a memory for the others.
    Terminated and truncated are as Gymnasium defines them (an episode that is both counts as terminated); the last
    observation of a truncated episode is in `Outcome.final`. Each episode is seeded by its own number. Held-out
    episodes are not used for learning.

    Args:
        id: such as CartPole-v1; or module:Name-v0 if importing the module registers the environment.
        num_envs: environments in parallel.
        steps: time steps for which an observation is shown.
        code: "two_sided" or "population".
        neurons: size of the population for each number of the observation.
        encoding: "constant" (a steady current), "poisson" (a new draw at every step) or "latency".
        max_rate: of a neuron at the limit: its current ("constant"), its spikes per step, at most 1 ("poisson"), or how
            early it spikes, at most 1 ("latency").
        limit: absolute value at which observations are clipped; in standard deviations, if `normalize`.
        normalize: whether observations are standardized.
        validation_episodes, test_episodes: numbers of episodes for validation and test; 0 for no validation.
        max_episode_steps: number of actions after which an episode is truncated; None: the environment's default.
        observed: indices of the numbers of an observation that the network gets, such as [0, 2] for position and angle
            of CartPole without their velocities; None: all.
        resume: how a run continues. "exact": each present episode is replayed, which needs a deterministic
            environment. "new_episodes": every environment begins a new episode.
        options: further arguments of `gymnasium.make`, such as {"is_slippery": False}.
        seed: of episodes and spikes.
    Raises: ValueError if Gymnasium or the environment is missing, for actions that are not discrete, observations other
        than Box and Discrete, episodes without an end, and other invalid values.
    Memory: the environments, and 4 bytes for each action of the present episodes. Checkpoints store these actions, and
        a resumed run replays them.
    Source: Towers et al. (2024), Gymnasium: a standard interface for reinforcement learning environments,
        doi:10.48550/arXiv.2407.17032.
    """

    @takes_former_names
    def __init__(
        self,
        *,
        id: str = "CartPole-v1",
        num_envs: int = 32,
        steps: int = 16,
        code: str = "two_sided",
        neurons: int = 8,
        encoding: str = "constant",
        max_rate: float = 1.0,
        limit: float = 3.0,
        normalize: bool = True,
        validation_episodes: int = 32,
        test_episodes: int = 100,
        max_episode_steps: int | None = None,
        observed: Sequence[int] | None = None,
        resume: Literal["exact", "new_episodes"] = "exact",
        options: dict[str, Any] | None = None,
        seed: int = 0,
    ):
        whole_at_least(1, num_envs=num_envs, steps=steps, test_episodes=test_episodes)
        whole_at_least(0, validation_episodes=validation_episodes)
        whole_at_least(2, neurons=neurons)
        if max_episode_steps is not None:
            whole_at_least(1, max_episode_steps=max_episode_steps)
        self.encode = ENCODERS[choices("encoding", encoding, ENCODERS)]
        self.resume = choices("resume", resume, ("exact", "new_episodes"))
        self.code = choices("code", code, ("two_sided", "population"))
        max_allowed = float("inf") if encoding == "constant" else 1.0
        for name, value, largest in (("max_rate", max_rate, max_allowed), ("limit", limit, float("inf"))):
            if not 0 < value <= largest or value == float("inf"):
                bound = "above 0 and at most 1" if largest == 1 else "above 0 and finite"
                raise ValueError(f"{name} must be {bound}, got {value:g}")
        self._make = lambda: make(id, max_episode_steps, dict(options or {}))
        self.id, self.num_envs, self.steps, self.seed = id, num_envs, steps, seed
        self.neurons, self.max_rate, self.limit = neurons, max_rate, limit
        self.episodes = {"validation": validation_episodes, "test": test_episodes}
        copies = [self._make() for _ in range(num_envs)]
        self.discrete = is_discrete(copies[0].observation_space)
        self.output_size, features = int(copies[0].action_space.n), features_of(copies[0])
        self.observed = None if observed is None else self._indices(observed, features)
        features = features if self.observed is None else len(self.observed)
        neurons_per_feature = 1 if self.discrete else 2 if code == "two_sided" else neurons
        self.input_size = features * neurons_per_feature
        self.statistics = RunningMeanStd(features) if normalize and not self.discrete else None
        self._envs = [ReplayableEnv(env, self._seed_of("train"), number) for number, env in enumerate(copies)]
        self._present = torch.empty(0)  # activity of the input neurons, (num_envs, input_size)
        self._stream: Stream | None = None  # of the present observations, once `observe` was called
        self.reset()

    def to(self, device: torch.device) -> Gym:
        self.device, self._present, self._stream = device, self._present.to(device), None
        return self

    def reset(self) -> None:
        self._num_acts = 0
        for number, env in enumerate(self._envs):
            env.reset(number)
        if self.statistics is not None:
            self.statistics = RunningMeanStd(len(self.statistics.mean))
        self._read_observations()

    def observe(self) -> Stream:
        if self._stream is None:
            self._stream = self._encoded(self._present, "train", self._num_acts)
        return self._stream

    def act(self, action: Tensor) -> Outcome:
        """As `Environment.act`. Raises: ValueError also for an invalid reward or observation."""
        chosen = check_actions(action, self.num_envs, self.output_size).tolist()
        self._num_acts += 1
        results = [env.act(number) for env, number in zip(self._envs, chosen, strict=True)]
        columns = zip(*results, strict=True)
        reward, terminated, truncated = (
            torch.from_numpy(np.array(values, dtype=kind)).to(self.device)
            for values, kind in zip(columns, (np.float32, np.bool_, np.bool_), strict=True)
        )
        observations = [env.observation for env in self._envs]
        for env, (_, is_terminated, is_truncated) in zip(self._envs, results, strict=True):
            if is_terminated or is_truncated:
                env.reset(env.episode + self.num_envs)
        self._read_observations()
        cut_off = truncated & ~terminated
        final = None
        if bool(cut_off.any()):
            rates = torch.where(cut_off[:, None], self._rates(stacked(observations, self.id)), self._present)
            final = self._encoded(rates, "train", self._num_acts, _FINAL)
        return Outcome(reward, terminated, cut_off, final)

    def test(self, choose: Choose, split: str = "test") -> Trials:
        """As `Environment.test`, with the columns return, length (decisions) and truncated (1 if truncated, else 0)."""
        check_split(split)
        total = self.episodes[split]
        count = min(self.num_envs, total)
        envs = [ReplayableEnv(self._make(), self._seed_of(split), number) for number in range(count)]
        rows = {name: torch.zeros(total) for name in ("return", "length", "truncated")} if total else {}
        counts = {name: row.numpy() for name, row in rows.items()}
        begins, num_acts = torch.ones(count, dtype=torch.bool), 0
        while any(env.episode < total for env in envs):
            rates = self._rates(stacked([env.observation for env in envs], self.id))
            action = choose(self._encoded(rates, split, num_acts), begins.to(self.device))
            chosen = check_actions(action, count, self.output_size).tolist()
            begins, num_acts = torch.zeros(count, dtype=torch.bool), num_acts + 1
            for index, (env, number) in enumerate(zip(envs, chosen, strict=True)):
                reward, terminated, truncated = env.act(number)
                if env.episode < total:  # finished copies run on, uncounted, until all have finished
                    counts["return"][env.episode] += reward
                    counts["length"][env.episode] += 1
                    counts["truncated"][env.episode] = truncated and not terminated
                if terminated or truncated:
                    env.reset(env.episode + count)
                    begins[index] = True
        for env in envs:
            env.env.close()
        return rows

    def summary(self, trials: Trials) -> dict[str, float]:
        """Return the mean length of an episode, in decisions, and the worst return."""
        return {
            "episode_length": float(trials["length"].double().mean()),
            "worst_return": float(trials["return"].min()),
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "acts": self._num_acts,
            "episodes": torch.tensor([env.episode for env in self._envs]),
            "lengths": torch.tensor([len(env.actions) for env in self._envs]),
            "actions": torch.tensor([action for env in self._envs for action in env.actions], dtype=torch.int32),
            "seen": stacked([env.observation for env in self._envs], self.id),
            "statistics": self.statistics.state_dict() if self.statistics else {},
        }

    def load_for_test(self, state: dict[str, Any]) -> None:
        if self.statistics:
            self.statistics.load_state_dict(present(TASK_STATE, state)["statistics"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Environment.load_state_dict`, or with the next episodes: see `resume`.

        Raises: ValueError for the state of another environment, or if the environment is not deterministic.
        """
        state = present(TASK_STATE, state)
        try:
            fits = (
                state["id"] == self.id
                and len(state["lengths"]) == self.num_envs
                and state["seen"].shape[1] == len(self._envs[0].observation)
                and bool(state["statistics"]) == bool(self.statistics)
            )
            if not fits:
                raise ValueError(
                    f"the state belongs to {len(state['lengths'])} environments of {state['id']}, or to other settings"
                )
            self.restarted = self.resume == "new_episodes"
            saved = zip(self._envs, state["episodes"].tolist(), state["seen"], strict=True)
            if self.restarted:
                for env, episode, _ in saved:
                    env.reset(episode + self.num_envs)
            else:
                played = state["actions"].split(state["lengths"].tolist())
                for (env, episode, observation), actions in zip(saved, played, strict=True):
                    env.replay(episode, actions.tolist(), observation.numpy())
            if self.statistics:
                self.statistics.load_state_dict(state["statistics"])
            self._num_acts = int(state["acts"])
        except KeyError as error:
            raise ValueError(f"the state is of another environment: it has no {error}") from error
        if self.restarted:
            self._read_observations()
        else:
            self._present, self._stream = self._rates(state["seen"]), None

    def _seed_of(self, split: str) -> Any:
        number = SPLIT_NUMBERS[split]  # in the last two bits, so that no two splits share an episode
        return lambda episode: (mix_seed(self.seed, _EPISODES, number, episode) >> (64 - _SEED_BITS + 2)) * 4 + number

    def _indices(self, observed: Sequence[int], features: int) -> list[int]:
        """Raises: ValueError unless `observed` selects some numbers of an observation, each once."""
        if self.discrete:
            raise ValueError(f"observed selects from several numbers, and an observation of {self.id} is one category")
        listed = list(observed) if isinstance(observed, Iterable) and not isinstance(observed, str) else []
        fit = all(type(index) is int and 0 <= index < features for index in listed)
        if not listed or not fit or len(set(listed)) < len(listed):
            raise ValueError(
                f"observed must be a list of different indices from 0 to {features - 1}, the numbers of an observation "
                f"of {self.id}, such as [0]; got {observed}"
            )
        return listed

    def _visible(self, observations: Tensor) -> Tensor:
        """Return what `observed` selects of observations, (num_envs, features)."""
        return observations if self.observed is None else observations[:, self.observed]

    def _read_observations(self) -> None:
        """Read the present observations of all environments, and add them to the statistics."""
        observations = stacked([env.observation for env in self._envs], self.id)
        if self.statistics is not None:
            self.statistics.update(self._visible(observations))
        self._present, self._stream = self._rates(observations), None

    def _rates(self, observations: Tensor) -> Tensor:
        """Return observations, (num_envs, features), as the activity of input neurons, (num_envs, input_size)."""
        observations = self._visible(observations)
        if self.discrete:
            activity = observations.to(torch.float32)
        else:
            values = (
                observations.to(torch.float32) if self.statistics is None else self.statistics.standardize(observations)
            )
            values = values.clamp(-self.limit, self.limit) / self.limit
            activity = two_sided(values) if self.code == "two_sided" else population(values, self.neurons)
        return (activity * self.max_rate).to(self.device)

    def _encoded(self, rates: Tensor, split: str, num_acts: int, purpose: int = _SPIKES) -> Stream:
        samples = torch.arange(len(rates), device=self.device)
        return self.encode(rates, self.steps, mix_seed(self.seed, purpose, SPLIT_NUMBERS[split], num_acts), samples)
