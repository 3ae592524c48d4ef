"""Which runs are the same experiment (`group`) and which are the same run (`id`)."""

import copy

import pytest

from tracetorch.runs import group_of, id_of

CONFIG = {
    "seed": 0,
    "device": "auto",
    "threads": None,
    "output": {"root": "outputs", "dir": None},
    "task": {"_target_": "tracetorch.tasks.MNIST", "source": "/data/mnist", "seed": 0, "duration": "0.1..1.2"},
    "network": {"hidden": [64], "neuron": {"decay": 0.9, "learn": ["weight"]}},
    "train": {"updates": 300, "passes": None, "figures": True},
}


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    node = config
    for name in parents:
        node = node[name]
    node[last] = value
    return config


def same(config):
    """Whether group and id are those of CONFIG."""
    return group_of(config) == group_of(CONFIG), id_of(config) == id_of(CONFIG)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("device", "cuda:1"),
        ("threads", 1),
        ("output.root", "elsewhere"),
        ("output.dir", "here"),
        ("diagnostics", {"_target_": "tracetorch.diagnostics.Gradient", "every": 5}),
        ("task.source", "/mnt/other/mnist"),
        ("task.source", "~/mnist"),
        ("task.source", "./mnist"),
    ],
)
def test_where_a_run_is_and_what_it_runs_on_change_nothing(path, value):
    assert same(changed(path, value)) == (True, True)


def test_a_seed_is_another_run_of_the_same_experiment():
    config = changed("seed", 1)
    config["task"]["seed"] = 1
    assert same(config) == (True, False)


def test_a_seed_of_the_task_alone_is_another_run_too():
    assert same(changed("task.seed", 1)) == (True, False)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("task._target_", "tracetorch.tasks.Patterns"),
        ("task.source", "sample"),
        ("task.duration", "0.1..1.3"),
        ("network.hidden", [64, 64]),
        ("network.hidden", [65]),
        ("network.neuron.decay", 0.91),
        ("network.neuron.learn", []),
        ("train.updates", 301),
        ("train.updates", None),
        ("train.passes", 1),
        ("train.figures", False),
        ("more", 1),
    ],
)
def test_anything_else_is_another_experiment(path, value):
    assert same(changed(path, value)) == (False, False)


def test_a_range_that_begins_with_a_point_is_no_path():
    one, other = changed("task.duration", ".1..1.2"), changed("task.duration", ".5..2")
    assert group_of(one) != group_of(other)
    assert id_of(one) != id_of(other)


def test_the_order_of_keys_does_not_matter():
    turned = {name: CONFIG[name] for name in reversed(CONFIG)}
    turned["task"] = dict(reversed(CONFIG["task"].items()))
    assert same(turned) == (True, True)


def test_hashes_are_short_hexadecimal_and_differ_from_each_other():
    for made in (group_of(CONFIG), id_of(CONFIG)):
        assert len(made) == 12 and int(made, 16) >= 0
    assert group_of(CONFIG) != id_of(CONFIG)
