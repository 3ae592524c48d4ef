"""Gymnasium's environments: hand-computed episodes, the units and the encoding of observations, errors."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.command_line import tracetorch
from tests.common import normal
from tracetorch.cli.check import check_trusted
from tracetorch.cli.errors import UsageError
from tracetorch.runs import Run, RunFolder, id_of
from tracetorch.tasks import Gym
from tracetorch.tasks.gym import RunningMeanStd

gymnasium = pytest.importorskip("gymnasium", reason="the extra rl is not installed")

from tests.gym_worlds import LIMIT, register  # noqa: E402

register()


def make_counter(**changes):
    given = {"id": "Counter-v0", "num_envs": 2, "steps": 3, "normalize": False, "limit": 10.0, "max_rate": 10.0}
    options = {name: changes.pop(name) for name in ("kind", "acts", "forgetful", "ends_at") if name in changes}
    return Gym(**given | changes, options=options)


def observed(environment, env=0):
    """The present observation of an environment, in its units, from the two-sided code as a steady current."""
    dense = environment.observe().dense()
    assert bool((dense == dense[0]).all())
    positive, negative = dense[0, env].chunk(2)
    return (positive - negative).tolist()


def test_episodes_terminate_or_are_truncated_and_the_next_begins_at_once():
    environment, came = make_counter(), []
    own = [gymnasium.utils.seeding.np_random(environment._seed_of("train")(n))[0].normal() for n in range(4)]
    for action in (0, 1, 0, 0, 0, 0):  # 1 is what Gymnasium calls 3 here
        outcome = environment.act(torch.tensor([action, 0]))
        ends = (outcome.reward.tolist(), outcome.terminated.tolist(), outcome.truncated.tolist())
        came.append((*ends, [observed(environment, env)[0] for env in (0, 1)], outcome.final is None))
    none, one = [False, False], [1.0, 1.0]
    assert came == [
        (one, none, none, [1, 1], True),
        ([10.0, 1.0], [True, False], none, [0, 2], True),
        *((one, none, none, [1 + more, 3 + more], True) for more in range(3)),
        (one, none, [False, True], [4, 0], False),
    ]
    final = outcome.final.dense()[0]
    assert torch.equal(final[0], environment.observe().dense()[0, 0])
    assert (final[1].chunk(2)[0] - final[1].chunk(2)[1])[:2].tolist() == pytest.approx([LIMIT, own[1]])
    assert [observed(environment, env)[1] for env in (0, 1)] == pytest.approx(own[2:])  # of the next episodes
    environment = make_counter(ends_at=LIMIT)  # terminates in the step in which it would be truncated
    *_, last = [environment.act(torch.zeros(2, dtype=torch.long)) for _ in range(LIMIT)]
    assert bool(last.terminated.all()) and not bool(last.truncated.any()) and last.final is None


def test_every_episode_of_a_test_is_played_once_and_to_its_end():
    environment = make_counter(num_envs=3, test_episodes=7, validation_episodes=0)

    def choose(xs, begins):
        at = xs.dense()[0, :, 0].tolist()  # an environment ends its episode in its third step, but for the first
        return torch.tensor([int(env > 0 and step == 2) for env, step in enumerate(at)])

    trials, first = environment.test(choose), torch.arange(7) % 3 == 0
    assert torch.equal(trials["length"], torch.where(first, float(LIMIT), 3.0))
    assert torch.equal(trials["return"], torch.where(first, float(LIMIT), 12.0))
    assert torch.equal(trials["truncated"], first.float())
    assert environment.summary(trials) == {"episode_length": (3 * LIMIT + 12) / 7, "worst_return": float(LIMIT)}
    assert environment.test(choose, "validation") == {}
    seeds = [[environment._seed_of(split)(n) for n in range(2000)] for split in ("train", "validation", "test")]
    assert [{seed % 4 for seed in found} for found in seeds] == [{0}, {1}, {2}]  # no two splits share an episode
    assert all(len(set(found)) > 1990 and max(found) < 2**31 for found in seeds)


@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=20), offset=st.floats(-1e6, 1e6), seed=st.integers(0, 99))
def test_running_statistics_are_numpys_however_the_rows_come(sizes, offset, seed):
    rows = normal(sum(sizes), 4, seed=seed) * torch.tensor([1.0, 100.0, 0.01, 0.0]) + offset
    statistics = RunningMeanStd(4)
    assert not statistics.standardize(rows).any()  # before anything was seen
    for part in rows.split(sizes):
        resumed, state = RunningMeanStd(4), statistics.state_dict()
        statistics.update(part)  # does not change the stored state
        resumed.load_state_dict(state)
        resumed.update(part)
        assert torch.equal(resumed.mean, statistics.mean) and torch.equal(resumed.squares, statistics.squares)
    assert statistics.count == resumed.count == len(rows)
    assert np.allclose(statistics.mean, rows.numpy().mean(axis=0), rtol=1e-12, atol=1e-12)
    assert np.allclose(statistics.deviation, rows.numpy().std(axis=0), rtol=1e-6, atol=1e-9)
    assert not statistics.standardize(rows)[:, 3].any()  # of a constant, only rounding errors are left
    with pytest.raises(ValueError, match="the state has 4 features, this observation 3"):
        RunningMeanStd(3).load_state_dict(state)


def test_observations_are_standardized_by_the_statistics_of_all_environments():
    raw, scaled = make_counter(num_envs=3), make_counter(num_envs=3, normalize=True)
    rows = [observed(raw, env) for env in range(3)]
    for number in range(25):
        action = torch.tensor([number % 3, 0, (number + 1) % 2])
        raw.act(action)
        scaled.act(action)
        rows += [observed(raw, env) for env in range(3)]
    mean, deviation = np.mean(rows, axis=0), np.std(rows, axis=0)
    assert scaled.statistics.count == len(rows) and np.allclose(scaled.statistics.mean, mean)
    expected = (rows[-3:] - mean) / np.where([True, True, False], deviation, np.inf)  # the last one is constant
    assert np.allclose([observed(scaled, env) for env in range(3)], expected, atol=1e-4)


def test_a_part_of_an_observation_may_be_hidden():
    """In training, in tests and after `load_state_dict`; statistics are those of the visible numbers."""
    whole, part = make_counter(normalize=True), make_counter(normalize=True, observed=[1, 0])
    assert part.input_size == 4
    for number in range(4):
        assert observed(part) == observed(whole)[1::-1]
        for environment in (whole, part):
            environment.act(torch.tensor([number % 2, 0]))
    again = make_counter(normalize=True, observed=[1, 0])
    again.load_state_dict(part.state_dict())
    assert observed(again) == observed(part) == observed(whole)[1::-1]
    widths = []
    part.test(lambda xs, begins: widths.append(xs.shape[-1]) or torch.ones(len(begins), dtype=torch.long))
    assert set(widths) == {4}
    with pytest.raises(ValueError, match="the state has 2 features, this observation 3"):
        whole.load_state_dict(part.state_dict())
    wrong = r"observed must be a list of different indices from 0 to 2, .* Counter-v0, .*; got "
    for indices, kind, message in (([3], "box", wrong + r"\[3\]"), ([1, 1], "box", wrong), ([], "box", wrong),
                                   ([0], "discrete", "an observation of Counter-v0 is one category")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            make_counter(observed=indices, kind=kind)


def test_observations_are_encoded_as_currents_or_spikes():
    clipped, discrete = make_counter(limit=2.0, max_rate=0.5), make_counter(kind="discrete", normalize=True)
    population = make_counter(code="population", neurons=5, max_rate=1.0)
    spikes = make_counter(encoding="poisson", steps=4000, max_rate=0.5)
    assert (discrete.input_size, population.input_size) == (LIMIT + 1, 15)
    assert float(population.observe().dense()[0, 0, 2]) == 1.0  # 0 steps: the middle one
    for number, expected in enumerate((0.0, 0.25, 0.5, 0.5)):  # beyond the limit, the limit
        assert observed(clipped)[0] == expected
        assert torch.equal(discrete.observe().dense()[:, 0], 10.0 * torch.eye(LIMIT + 1)[number].expand(3, -1))
        for environment in (clipped, discrete, population, spikes):
            environment.act(torch.tensor([0, 0]))
    assert int(population.observe().dense()[0, 0, :5].argmax()) == 3  # 4 of 10: the one of a half
    drawn = spikes.observe().dense()[..., 0]
    assert set(drawn.unique().tolist()) == {0.0, 1.0} and not torch.equal(drawn[:, 0], drawn[:, 1])
    assert float(drawn.mean()) == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 8000) ** 0.5)


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ({"id": "Cartpole-v1"}, "id=Cartpole-v1: Gymnasium knows no such environment. Did you mean CartPole-v1?"),
        ({"id": "os:Cartpole-v1"}, "Did you mean os:CartPole-v1?.* os registers none of this name"),
        ({"id": "a b:CartPole-v1"}, "is not a module; write module:Name-v0"),
        ({"id": "Plugin-v0"}, "knows no such .*; for one that another package registers, write id=package:Name-v0"),
        ({"id": "Pendulum-v1"}, "Pendulum-v1 takes continuous actions, .*; only discrete ones are supported"),
        ({"id": "Endless-v0"}, "Endless-v0 sets no end to an episode: give max_episode_steps, such as 500"),
        ({"options": {"acts": "several"}}, "takes actions of the type MultiDiscrete; only Discrete ones"),
        ({"options": {"kind": "tuple"}}, "gives observations of the type Tuple; only Box and Discrete ones"),
        ({"options": {"speed": 3}}, "Counter-v0 cannot be made: .*speed"),
        ({"max_episode_steps": 0}, "max_episode_steps must be at least 1, got 0"),
        ({"resume": "never"}, "resume must be one of exact, new_episodes, got 'never'"),
        ({"code": "one_sided"}, "code must be one of two_sided, population, got 'one_sided'"),
        ({"encoding": "poison"}, "encoding must be one of poisson, latency, constant, got 'poison'"),
        ({"max_rate": 0.0}, "max_rate must be above 0 and finite, got 0"),
        ({"max_rate": float("inf")}, "max_rate must be above 0 and finite"),
        ({"max_rate": 1.1, "encoding": "poisson"}, "max_rate must be above 0 and at most 1, got 1.1"),
        ({"limit": float("nan")}, "limit must be above 0 and finite, got nan"),
    ],
    ids=str,
)
def test_an_invalid_environment_or_setting_is_refused_in_one_line(given, phrase):
    with pytest.raises(ValueError, match=phrase) as caught:
        Gym(**{"id": "Counter-v0"} | given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [{"num_envs": 3}, {"normalize": True}, {"kind": "discrete"}], ids=str)
def test_the_state_of_an_environment_with_other_settings_is_refused(changes):
    other = Gym(id="Endless-v0", num_envs=2, max_episode_steps=2, normalize=False).state_dict()
    for state, id in ((make_counter().state_dict(), "Counter-v0"), (other, "Endless-v0")):
        with pytest.raises(ValueError, match=f"the state belongs to 2 environments of {id}, or to other settings"):
            make_counter(**changes).load_state_dict(state)


def test_without_gymnasium_the_error_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ValueError, match=r"gymnasium: pip install -c constraints.txt -e '.\[rl\]'"):
        Gym()


STATE, THREE = np.zeros(2), {"observation_space": gymnasium.spaces.Discrete(3)}


def world(**methods):
    """Register an environment that is correct except for the given methods or spaces, and return its id."""
    box = gymnasium.spaces.Box(-1, 1, (2,), np.float64)
    given = {"observation_space": box, "action_space": gymnasium.spaces.Discrete(2)}
    given |= begins((STATE, {})) | gives(STATE, 1.0, False, False, {})
    name = f"Mistaken{len(gymnasium.registry)}-v0"
    kept = {key: value for key, value in (given | methods).items() if value is not None}
    gymnasium.register(name, entry_point=type("Mistaken", (gymnasium.Env,), kept), max_episode_steps=9)
    return name


def gives(*came):
    return {"step": lambda self, action: came if len(came) != 1 else came[0]}


def begins(came):
    return {"reset": lambda self, *, seed=None, options=None: came}


@pytest.mark.parametrize(
    ("methods", "phrase"),
    [
        (gives(STATE, np.ones(2), False, False, {}), r"step gave array\(.*\) of shape \(2,\); wanted: a reward"),
        (gives(STATE, None, False, False, {}), "step gave None; wanted: a reward that is a finite number"),
        (gives(STATE, "1", False, False, {}), "step gave '1'; wanted: a reward that is a finite number"),
        (gives(STATE, float("nan"), False, False, {}), "step gave nan; wanted: a reward that is a finite"),
        (gives(STATE, 1.0, False, {}), r"cannot use its step \(.*expected 5, got 4.*wanted: \(observation, rew"),
        (gives(None), r"cannot use its step .*; wanted: \(observation, reward, terminated, truncated, info\)"),
        (gives(np.zeros(3), 1.0, False, False, {}), r"gave array.* of shape \(3,\); wanted: an observation in Box"),
        (gives(STATE + np.nan, 1.0, False, False, {}), "gave an observation that is not finite"),
        (gives({"x": 1}, 1.0, False, False, {}), "step gave {'x': 1}; wanted: an observation in Box"),
        (gives(STATE, 1.0, None, False, {}), "step gave None; wanted: `terminated` as True or False"),
        (gives(STATE, 1.0, 2, False, {}), "step gave 2; wanted: `terminated` as True or False"),
        (gives(STATE, 1.0, False, np.zeros(2, bool), {}), r"step gave array.*wanted: `truncated` as True or False"),
        (begins(STATE), r"reset gave array.*wanted: \(observation, info\) from reset\(seed=…, options=…\)"),
        ({"reset": lambda self: (STATE, {})}, "cannot use its reset .*unexpected keyword argument 'seed'"),
        ({"reset": None}, r"reset gave None; wanted: \(observation, info\)"),
        ({"action_space": None}, r"has no action_space; its class must set one, such as .*Discrete\(2\)"),
        ({"observation_space": None}, "has no observation_space; its class must set one"),
        (THREE | begins((3, {})), r"reset gave 3; wanted: an observation in Discrete\(3\)"),
        (THREE | begins((STATE, {})), "reset gave array.*in Discrete"),
    ],
)
def test_a_mistake_of_an_environment_is_reported_with_its_name_and_the_expected_value(methods, phrase):
    name = world(**methods)
    with pytest.raises(ValueError, match=f"^{name}.*{phrase}") as caught:
        Gym(id=name, num_envs=2).act(torch.tensor([0, 1]))
    assert "\n" not in str(caught.value)


def test_an_error_of_the_environment_is_passed_on_and_numpy_bools_are_accepted():
    with pytest.raises(ZeroDivisionError):
        Gym(id=world(step=lambda self, action: 1 / 0), num_envs=1).act(torch.tensor([0]))
    environment = Gym(id=world(**gives([0.0, 0.0], np.float32(2), 1, np.False_, {})), num_envs=1)
    outcome = environment.act(torch.tensor([0]))
    assert (outcome.reward.tolist(), outcome.terminated.tolist()) == ([2.0], [True])


def config_of(id, **changes):
    return {"task": {"_target_": "tracetorch.tasks.Gym", "id": id} | changes}


def test_an_id_may_name_the_module_that_registers_it_if_trusted(tmp_path, monkeypatch):
    register = "gymnasium.register('Mine-v0', entry_point=Counter, max_episode_steps=9)"
    module = tmp_path / "worlds_of_mine.py"
    module.write_text(f"import gymnasium\nfrom tests.gym_worlds import Counter\n{register}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert Gym(id="worlds_of_mine:Mine-v0", num_envs=1).output_size == 3
    with pytest.raises(ValueError, match=r"Did you mean worlds_of_mine:Mine-v0\?.*worlds_of_mine registers none of th"):
        Gym(id="worlds_of_mine:Min-v0", num_envs=1)
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        Gym(id="not_there:Mine-v0", num_envs=1)
    config = config_of("worlds.deep:Mine-v0")  # from a folder
    for packages in ((), ("other",), ("worl",)):
        with pytest.raises(UsageError, match=r"id=worlds.deep:Mine-v0 imports 'worlds.deep', .*--trust worlds$"):
            check_trusted(config, Path("x"), packages)
    check_trusted(config, Path("x"), ("worlds",))
    check_trusted(config_of("CartPole-v1"), Path("x"))


def test_a_nondeterministic_environment_continues_with_new_episodes_if_asked():
    first = make_counter(forgetful=True, normalize=True)
    for _ in range(200):
        first.act(torch.tensor([0, 2]))
    state = first.state_dict()
    assert len(state["actions"]) < 2 * LIMIT  # memory is bounded by the length of an episode
    with pytest.raises(ValueError, match=r"Counter-v0 is not deterministic: .* episodes, add task\.resume=new_episode"):
        make_counter(forgetful=True, normalize=True).load_state_dict(state)
    second = make_counter(forgetful=True, normalize=True, resume="new_episodes")
    second.load_state_dict(state)
    assert second.restarted and second.statistics.count == first.statistics.count + 2
    assert [(env.episode, len(env.actions)) for env in second._envs] == [(env.episode + 2, 0) for env in first._envs]


def test_a_run_of_a_nondeterministic_environment_resumes_with_new_episodes_and_a_warning(here, monkeypatch):
    words = "experiment=cartpole task.id=Counter-v0 +task.options.forgetful=true task.num_envs=2 task.test_episodes=2 "
    words += "task.validation_episodes=0 network.hidden=[8] train.figures=false device=cpu train.updates=12 "
    words += "train.log_every=5 train.checkpoint_seconds=0 output.dir=run optimizer.lr=0.0001"
    with monkeypatch.context() as patch:
        patch.setattr(Run, "interrupted", property(lambda run: (run.folder.path / "metrics.jsonl").exists()))
        assert tracetorch("run", *words.split()).exit_code == 130
    refused = tracetorch("resume", "run"), tracetorch("resume", "run", "task.resume=new_episodes", "seed=3")
    assert [result.exit_code for result in refused] == [2, 2] and "add task.resume=new_episodes" in refused[0].stderr
    assert "'seed=3': a run continues with its own config" in refused[1].stderr
    ended = tracetorch("resume", "run", "task.resume=new_episodes")
    said = "the run continued with new episodes: those in progress at update 5 are lost"
    assert ended.exit_code == 0 and said in ended.stderr, ended.stderr
    facts = RunFolder("run").facts()
    assert facts["status"] == "completed" and said in facts["warnings"][0]
    configs = [config_of("x", **changes) for changes in ({}, {"resume": "exact"}, {"resume": "new_episodes"})]
    assert len(set(map(id_of, configs))) == 1  # `resume` is not part of a run's identity
