"""Gymnasium's environments: episodes that end and are cut off, by hand; what is seen, and in which units; errors."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.command_line import tracetorch
from tracetorch.cli.check import check_trusted
from tracetorch.cli.errors import UsageError
from tracetorch.runs import Run, RunFolder, id_of
from tracetorch.tasks import Gym

gymnasium = pytest.importorskip("gymnasium", reason="the extra rl is not installed")

from tests.gym_worlds import LIMIT, register  # noqa: E402

register()


def counter(**changes):
    given = {"id": "Counter-v0", "num_envs": 2, "steps": 3, "normalize": False, "limit": 10.0, "max_rate": 10.0}
    options = {name: changes.pop(name) for name in ("kind", "acts", "forgetful", "ends_at") if name in changes}
    return Gym(**given | changes, options=options)


def seen(environment, env=0):
    """The numbers that are shown in an environment, in units of the environment; two-sided code, steady current."""
    dense = environment.observe().dense()
    assert bool((dense == dense[0]).all())
    positive, negative = dense[0, env].chunk(2)
    return (positive - negative).tolist()


def acts(*actions):
    return torch.tensor(actions)


# ── episodes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_episode_that_terminates_is_followed_by_the_next_at_once():
    environment = counter()
    own = seen(environment)[1]
    environment.act(acts(0, 0))
    assert seen(environment)[:2] == [1.0, own]
    outcome = environment.act(acts(1, 0))  # which Gymnasium calls 3 here
    assert outcome.reward.tolist() == [10.0, 1.0]
    assert (outcome.terminated.tolist(), outcome.truncated.tolist()) == ([True, False], [False, False])
    assert outcome.final is None
    assert seen(environment)[0] == 0.0 and seen(environment)[1] != own
    assert seen(environment, env=1)[0] == 2.0


def test_an_episode_that_is_cut_off_shows_its_last_observation_and_goes_on_with_the_next():
    environment = counter()
    environment.act(acts(0, 1))
    for _ in range(LIMIT - 2):
        assert not bool(environment.act(acts(0, 0)).truncated.any())
    last = seen(environment)
    outcome = environment.act(acts(2, 0))
    assert (outcome.terminated.tolist(), outcome.truncated.tolist()) == ([False, False], [True, False])
    final = outcome.final.dense()[0]
    assert torch.equal(final[1], environment.observe().dense()[0, 1])
    assert float(final[0, 0]) == LIMIT and (final[0].chunk(2)[0] - final[0].chunk(2)[1])[1].item() == last[1]
    assert seen(environment)[0] == 0.0 and seen(environment, env=1)[0] == LIMIT - 1


def test_what_ends_at_the_limit_by_itself_has_terminated():
    environment = counter(ends_at=LIMIT)
    outcomes = [environment.act(acts(0, 0)) for _ in range(LIMIT)]
    assert bool(outcomes[-1].terminated.all()) and not bool(outcomes[-1].truncated.any())
    assert outcomes[-1].final is None


def test_cartpole_is_gymnasiums_own():
    environment = Gym(num_envs=1, steps=1, normalize=False, limit=100.0, max_rate=100.0)
    alone = gymnasium.make("CartPole-v1")
    for episode in range(3):
        observation, _ = alone.reset(seed=environment._seed_of("train")(episode))
        done, number = False, 0
        while not done:
            assert torch.allclose(torch.tensor(seen(environment)), torch.from_numpy(observation), rtol=1e-5)
            action = (number // 3) % 2
            observation, reward, terminated, truncated, _ = alone.step(action)
            outcome = environment.act(acts(action))
            assert (float(outcome.reward), bool(outcome.terminated)) == (reward, terminated)
            done, number = terminated or truncated, number + 1


def test_every_episode_of_a_test_is_played_once_and_to_its_end():
    environment = counter(num_envs=3, test_episodes=7, validation_episodes=0)

    def choose(xs, begins):
        at = xs.dense()[0, :, 0].tolist()  # an environment ends its episode in its third step, but for the first
        return torch.tensor([int(env > 0 and step == 2) for env, step in enumerate(at)])

    trials = environment.test(choose)
    first = torch.arange(7) % 3 == 0
    assert torch.equal(trials["length"], torch.where(first, float(LIMIT), 3.0))
    assert torch.equal(trials["return"], torch.where(first, float(LIMIT), 12.0))
    assert torch.equal(trials["truncated"], first.float())
    assert environment.summary(trials) == {"episode_length": (3 * LIMIT + 12) / 7, "worst_return": float(LIMIT)}
    assert environment.test(choose, "validation") == {}


def test_no_two_splits_share_an_episode():
    environment = counter()
    seeds = {split: {environment._seed_of(split)(n) for n in range(2000)} for split in ("train", "validation", "test")}
    assert all(len(found) > 1990 and max(found) < 2**31 for found in seeds.values())
    assert [{seed % 4 for seed in found} for found in seeds.values()] == [{0}, {1}, {2}]


# ── what is seen ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_observations_are_standardized_by_everything_that_was_seen_in_any_environment():
    raw, scaled = counter(num_envs=3), counter(num_envs=3, normalize=True)
    shown = [[seen(raw, env) for env in range(3)]]
    for number in range(25):
        action = torch.tensor([number % 3, 0, (number + 1) % 2])
        raw.act(action)
        scaled.act(action)
        shown.append([seen(raw, env) for env in range(3)])
    rows = np.array(shown).reshape(-1, 3)
    assert scaled.statistics.count == len(rows)
    assert np.allclose(scaled.statistics.mean, rows.mean(axis=0))
    assert np.allclose(scaled.statistics.deviation[:2], rows.std(axis=0)[:2], rtol=1e-5)
    expected = (rows[-3:] - rows.mean(axis=0)) / np.where([True, True, False], rows.std(axis=0), np.inf)
    assert np.allclose([seen(scaled, env) for env in range(3)], expected, atol=1e-4)


def test_a_value_beyond_the_limit_counts_as_the_limit():
    environment = counter(limit=2.0, max_rate=0.5)
    for expected in (0.0, 0.25, 0.5, 0.5):
        assert seen(environment)[0] == expected
        environment.act(acts(0, 0))


def test_a_discrete_observation_has_a_neuron_for_each_value():
    environment = counter(kind="discrete", normalize=True)
    assert environment.input_size == LIMIT + 1
    for number in range(3):
        dense = environment.observe().dense()[:, 0]
        assert torch.equal(dense, 10.0 * torch.eye(LIMIT + 1)[number].expand(3, -1))
        environment.act(acts(0, 0))


def test_a_population_has_so_many_neurons_for_each_number():
    environment = counter(code="population", neurons=5, max_rate=1.0)
    dense = environment.observe().dense()[0, 0]
    assert environment.input_size == 15 and dense.shape == (15,)
    assert float(dense[2]) == 1.0 and int(dense[:5].argmax()) == 2  # 0 steps: the middle one
    for _ in range(LIMIT - 1):
        environment.act(acts(0, 0))
    assert int(environment.observe().dense()[0, 0, :5].argmax()) == 3  # 5 steps, in the middle between 0 and the limit


def test_poisson_spikes_come_as_often_as_the_current_would_be_strong():
    environment = counter(encoding="poisson", steps=4000, max_rate=0.5)
    for _ in range(4):
        environment.act(acts(0, 0))
    spikes = environment.observe().dense()
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert float(spikes[:, 0, 0].mean()) == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 4000) ** 0.5)
    assert not torch.equal(spikes[:, 0, 0], spikes[:, 1, 0])


# ── checkpoints ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_remembered_is_bounded_by_the_length_of_an_episode():
    environment = counter()
    for _ in range(200):
        environment.act(acts(0, 2))
    assert len(environment.state_dict()["actions"]) < 2 * LIMIT


def test_an_environment_that_does_not_repeat_itself_is_not_brought_back_in_silence():
    environment = counter(forgetful=True)
    environment.act(acts(0, 0))
    with pytest.raises(ValueError, match="Counter-v0 is not deterministic: with the same seed and actions"):
        counter(forgetful=True).load_state_dict(environment.state_dict())


@pytest.mark.parametrize("changes", [{"num_envs": 3}, {"normalize": True}, {"kind": "discrete"}], ids=str)
def test_the_state_of_one_that_was_made_otherwise_is_refused(changes):
    with pytest.raises(ValueError, match="the state belongs to 2 environments of Counter-v0, or to other settings"):
        counter(**changes).load_state_dict(counter().state_dict())


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "phrase"),
    [
        ({"id": "Cartpole-v1"}, "id=Cartpole-v1: Gymnasium knows no such environment. Did you mean CartPole-v1?"),
        ({"id": "os:Cartpole-v1"}, "Did you mean os:CartPole-v1?.* os registers none of this name"),
        ({"id": "a b:CartPole-v1"}, "is not a module; write module:Name-v0"),
        ({"id": "Plugin-v0"}, "knows no such .*; for one that another package registers, write id=package:Name-v0"),
        ({"id": ""}, "Gymnasium knows no such environment"),
        ({"id": "Pendulum-v1"}, "Pendulum-v1 takes continuous actions, .*; only discrete ones are supported"),
        ({"id": "Endless-v0"}, "Endless-v0 sets no end to an episode: give max_episode_steps, such as 500"),
        ({"options": {"acts": "several"}}, "takes actions of the type MultiDiscrete; only Discrete ones"),
        ({"options": {"kind": "tuple"}}, "gives observations of the type Tuple; only Box and Discrete ones"),
        ({"options": {"speed": 3}}, "Counter-v0 cannot be made: .*speed"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"neurons": 1}, "neurons must be at least 2, got 1"),
        ({"code": "one_sided"}, "code must be one of two_sided, population, got 'one_sided'"),
        ({"encoding": "poison"}, "encoding must be one of poisson, latency, constant, got 'poison'"),
        ({"max_rate": 0.0}, "max_rate must be above 0 and finite, got 0"),
        ({"max_rate": float("inf")}, "max_rate must be above 0 and finite"),
        ({"max_rate": 1.1, "encoding": "poisson"}, "max_rate must be above 0 and at most 1 spike per step, got 1.1"),
        ({"limit": float("nan")}, "limit must be above 0 and finite, got nan"),
        ({"test_episodes": 0}, "test_episodes must be at least 1, got 0"),
        ({"validation_episodes": -1}, "validation_episodes must be at least 0, got -1"),
        ({"max_episode_steps": 0}, "max_episode_steps must be at least 1, got 0"),
    ],
    ids=str,
)
def test_what_cannot_be_played_is_told_in_one_sentence(given, phrase):
    with pytest.raises(ValueError, match=phrase) as caught:
        Gym(**{"id": "Counter-v0"} | given)
    assert "\n" not in str(caught.value)


def test_an_end_that_is_given_takes_the_place_of_one_that_is_missing():
    environment = Gym(id="Endless-v0", num_envs=1, max_episode_steps=2)
    assert [bool(environment.act(acts(0)).truncated) for _ in range(4)] == [False, True, False, True]


def test_an_observation_that_is_not_finite_is_not_learnt_from():
    environment = counter(kind="nan")
    environment.act(acts(0, 0))
    with pytest.raises(ValueError, match="Counter-v0 gave an observation that is not finite"):
        environment.act(acts(0, 0))


def test_without_gymnasium_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ValueError, match=r"Gymnasium is missing: pip install -c constraints.txt -e '.\[rl\]'"):
        Gym()


# ── environments with mistakes ──────────────────────────────────────────────────────────────────────────────────────

STATE = np.zeros(2)


def world(**methods):
    """An environment, registered, that is sound but for some of its methods or spaces."""

    def reset(self, *, seed=None, options=None):
        return STATE, {}

    def step(self, action):
        return STATE, 1.0, False, False, {}

    box = gymnasium.spaces.Box(-1, 1, (2,), np.float64)
    given = {"observation_space": box, "action_space": gymnasium.spaces.Discrete(2), "reset": reset, "step": step}
    name = f"Mistaken{len(gymnasium.registry)}-v0"
    kept = {key: value for key, value in (given | methods).items() if value is not None}
    gymnasium.register(name, entry_point=type("Mistaken", (gymnasium.Env,), kept), max_episode_steps=9)
    return name


def gives(*came):
    return lambda self, action: came if len(came) != 1 else came[0]


def begins(came):
    return lambda self, *, seed=None, options=None: came


MISTAKES = {
    "reward-array": (
        {"step": gives(STATE, np.ones(2), False, False, {})},
        r"step gave array\(.*\) of shape \(2,\); wanted: a reward",
    ),
    "reward-none": (
        {"step": gives(STATE, None, False, False, {})},
        "step gave None; wanted: a reward that is a finite number",
    ),
    "reward-text": (
        {"step": gives(STATE, "1", False, False, {})},
        "step gave '1'; wanted: a reward that is a finite number",
    ),
    "reward-nan": (
        {"step": gives(STATE, float("nan"), False, False, {})},
        "step gave nan; wanted: a reward that is a finite",
    ),
    "four-values": (
        {"step": gives(STATE, 1.0, False, {})},
        r"cannot use its step \(.*expected 5, got 4.*wanted: \(observation, rew",
    ),
    "no-values": (
        {"step": gives(None)},
        r"cannot use its step .*; wanted: \(observation, reward, terminated, truncated, info\)",
    ),
    "other-shape": (
        {"step": gives(np.zeros(3), 1.0, False, False, {})},
        r"step gave array.* of shape \(3,\); wanted: an observation in Box",
    ),
    "dict": ({"step": gives({"x": 1}, 1.0, False, False, {})}, "step gave {'x': 1}; wanted: an observation in Box"),
    "terminated": (
        {"step": gives(STATE, 1.0, None, False, {})},
        "step gave None; wanted: `terminated` as True or False",
    ),
    "truncated": (
        {"step": gives(STATE, 1.0, False, np.zeros(2, bool), {})},
        r"step gave array.*wanted: `truncated` as True or False",
    ),
    "bare-reset": (
        {"reset": begins(STATE)},
        r"reset gave array.*wanted: \(observation, info\) from reset\(seed=…, options=…\)",
    ),
    "reset-without-a-seed": (
        {"reset": lambda self: (STATE, {})},
        "cannot use its reset .*unexpected keyword argument 'seed'",
    ),
    "no-reset": ({"reset": None}, r"reset gave None; wanted: \(observation, info\)"),
    "no-space": ({"action_space": None}, "has no action_space; its class must set one"),
    "discrete": (
        {"observation_space": gymnasium.spaces.Discrete(3), "reset": begins((7, {}))},
        r"reset gave 7; wanted: an observation in Discrete\(3\)",
    ),
    "not-discrete": (
        {"observation_space": gymnasium.spaces.Discrete(3), "reset": begins((STATE, {}))},
        "reset gave array.*in Discrete",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_an_environment_is_told_with_its_name_and_what_is_wanted(mistake):
    methods, phrase = MISTAKES[mistake]
    name = world(**methods)
    with pytest.raises(ValueError, match=f"^{name}.*{phrase}") as caught:
        Gym(id=name, num_envs=2).act(acts(0, 1))
    assert "\n" not in str(caught.value)


def test_an_error_of_the_environment_itself_stays_what_it_is():
    def broken(self, action):
        raise KeyError("cart")

    with pytest.raises(KeyError, match="cart"):
        Gym(id=world(step=broken), num_envs=1).act(acts(0))


def test_whole_numbers_say_whether_an_episode_ends_too():
    environment = Gym(id=world(step=gives([0.0, 0.0], np.float32(2), 1, np.False_, {})), num_envs=1)
    outcome = environment.act(acts(0))
    assert (outcome.reward.tolist(), outcome.terminated.tolist()) == ([2.0], [True])


# ── a module that registers it ──────────────────────────────────────────────────────────────────────────────────────


def test_an_id_may_name_the_module_that_registers_it(tmp_path, monkeypatch):
    (tmp_path / "worlds_of_mine.py").write_text(
        "import gymnasium\n"
        "from tests.gym_worlds import Counter\n"
        "gymnasium.register('Mine-v0', entry_point=Counter, max_episode_steps=9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert Gym(id="worlds_of_mine:Mine-v0", num_envs=1).output_size == 3
    with pytest.raises(ValueError, match=r"Did you mean worlds_of_mine:Mine-v0\?.*worlds_of_mine registers none of th"):
        Gym(id="worlds_of_mine:Min-v0", num_envs=1)
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        Gym(id="not_there:Mine-v0", num_envs=1)


def config_of(id):
    return {"task": {"_target_": "tracetorch.tasks.Gym", "id": id}}


@pytest.mark.parametrize("packages", [(), ("other",), ("worl",)])
def test_a_config_from_a_folder_imports_no_module_that_is_not_trusted(packages):
    with pytest.raises(
        UsageError, match=r"task.id=worlds.deep:Mine-v0 imports 'worlds.deep', which is not .*--trust worlds$"
    ):
        check_trusted(config_of("worlds.deep:Mine-v0"), Path("x"), packages)


def test_a_module_that_is_trusted_may_be_imported_for_an_environment():
    check_trusted(config_of("worlds.deep:Mine-v0"), Path("x"), ("worlds",))
    check_trusted(config_of("CartPole-v1"), Path("x"))


# ── environments that do not repeat themselves ──────────────────────────────────────────────────────────────────────


def test_one_that_does_not_repeat_itself_continues_with_new_episodes_if_asked():
    first = counter(forgetful=True, normalize=True)
    for _ in range(3):
        first.act(acts(0, 0))
    state = first.state_dict()
    with pytest.raises(ValueError, match=r"to continue with new episodes, add task\.resume=new_episodes"):
        counter(forgetful=True, normalize=True).load_state_dict(state)
    second = Gym(
        id="Counter-v0",
        num_envs=2,
        steps=3,
        limit=10.0,
        max_rate=10.0,
        options={"forgetful": True},
        resume="new_episodes",
    )
    assert not second.restarted
    second.load_state_dict(state)
    assert second.restarted
    assert [env.episode for env in second._envs] == [2, 3] and [len(env.actions) for env in second._envs] == [
        0,
        0,
    ]
    assert second.statistics.count == first.statistics.count + 2


def test_how_a_run_continues_is_no_part_of_what_it_is():
    old = config_of("CartPole-v1")
    new = {"task": old["task"] | {"resume": "exact"}}
    assert id_of(old) == id_of(new) == id_of({"task": old["task"] | {"resume": "new_episodes"}})


WORDS = (
    *(
        "experiment=cartpole",
        "task.id=Counter-v0",
        "+task.options.forgetful=true",
        "train.updates=30",
        "task.num_envs=2",
    ),
    *("task.validation_episodes=0", "task.test_episodes=2", "network.hidden=[8]", "train.figures=false", "device=cpu"),
    *("train.log_every=5", "train.checkpoint_seconds=0", "output.dir=run", "optimizer.lr=0.0001"),
)


def test_a_run_that_cannot_be_repeated_resumes_with_new_episodes_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "interrupted", property(lambda run: (run.folder.path / "metrics.jsonl").exists()))
        assert tracetorch("run", *WORDS).exit_code == 130
    refused = tracetorch("resume", "run")
    assert refused.exit_code == 2
    assert "not deterministic" in refused.stderr and "add task.resume=new_episodes" in refused.stderr
    wrong = tracetorch("resume", "run", "task.resume=never")
    assert wrong.exit_code == 2 and "task.resume must be one of exact, new_episodes, got 'never'" in wrong.stderr
    other = tracetorch("resume", "run", "seed=3")
    assert other.exit_code == 2 and "'seed=3': a run continues with its own config" in other.stderr
    ended = tracetorch("resume", "run", "task.resume=new_episodes")
    assert ended.exit_code == 0, ended.stderr
    assert "the run continued with new episodes everywhere: those under way at update 5 are lost" in ended.stderr
    facts = RunFolder("run").facts()
    assert facts["status"] == "completed" and "those under way at update 5 are lost" in facts["warnings"][0]
