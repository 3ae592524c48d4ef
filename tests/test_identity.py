"""Which runs are the same experiment (`group`) and which are the same run (`id`)."""

import copy
import inspect
import os

import pytest

from tests.idx_files import NAMES, write_folder
from tracetorch import tasks
from tracetorch.runs import group_of, id_of
from tracetorch.runs.identity import DIGITS, READERS, data_of, facts_of, name_of

CONFIG = {
    "seed": 0,
    "device": "auto",
    "threads": None,
    "output": {"root": "outputs", "dir": None},
    "task": {"_target_": "tracetorch.tasks.MNIST", "source": "/data/mnist", "seed": 0, "duration": "0.1..1.2"},
    "network": {"hidden": [64], "neuron": {"_target_": "tracetorch.nn.LIF", "decay": 0.9, "trainable": ["weight"]}},
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
        ("task.source", "/mnt/other/mnist"),
        ("task.environment", "ALE/Pong-v5"),
        ("task.duration", "0.1..1.3"),
        ("network.hidden", [64, 64]),
        ("network.hidden", [65]),
        ("network.neuron.decay", 0.91),
        ("network.neuron.trainable", []),
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


@pytest.mark.parametrize("name", ["learn", "trainable"])
def test_hashes_stay_what_they_were(name):
    config = changed("task.source", "sample")
    config["network"]["neuron"] |= {"threshold": 1.0, name: config["network"]["neuron"].pop("trainable")}
    config["train"]["checkpoint_seconds"] = 30
    assert (group_of(config), id_of(config)) == ("364db147a67d", "9abcdc8d60de")


def test_data_are_what_is_in_their_files_wherever_they_lie(tmp_path):
    for name in ("a", "b", "c"):
        write_folder(tmp_path / name, lambda file: file.encode())
    (tmp_path / "c" / NAMES[1]).write_bytes(b"another")
    configs = [changed("task.source", str(tmp_path / name)) for name in ("a", "b", "c", "absent")]
    assert group_of(configs[0]) == group_of(configs[1]) and id_of(configs[0]) == id_of(configs[1])
    assert len(set(map(group_of, configs))) == len(set(map(id_of, configs))) == 3
    data = facts_of(configs[0])["data"]
    assert data.keys() == {"task.source"} and data != facts_of(configs[2])["data"]
    assert "data" not in facts_of(configs[3]) and "data" not in facts_of(changed("task.source", "sample"))
    (tmp_path / "a" / NAMES[0]).write_bytes(b"replaced")
    assert facts_of(configs[0])["data"] != data
    assert data_of({"task": {"_target_": "my.Blocks", "task": configs[1]["task"]}}).keys() == {"task.task.source"}


def test_no_pipe_in_place_of_data_is_waited_for(tmp_path):
    write_folder(tmp_path / "a", lambda file: file.encode())
    (tmp_path / "a" / NAMES[2]).unlink()
    os.mkfifo(tmp_path / "a" / NAMES[2])
    assert data_of(changed("task.source", str(tmp_path / "a"))) == {}


def test_every_task_that_reads_files_is_known():
    sources = {name for name in tasks.__all__ if "source" in inspect.signature(getattr(tasks, name)).parameters}
    assert sources == READERS.keys() and DIGITS == NAMES


def test_the_order_of_keys_does_not_matter():
    turned = {name: CONFIG[name] for name in reversed(CONFIG)}
    turned["task"] = dict(reversed(CONFIG["task"].items()))
    assert same(turned) == (True, True)


def test_hashes_are_short_hexadecimal_and_differ_from_each_other():
    for made in (group_of(CONFIG), id_of(CONFIG)):
        assert len(made) == 12 and int(made, 16) >= 0
    assert group_of(CONFIG) != id_of(CONFIG)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("torch.optim.AdamW", "adamw"),
        ("tracetorch.rules.TruncatedBPTT", "tbptt"),
        ("tracetorch.rules.ThreeFactor", "three_factor"),
        ("tracetorch.tasks.PoissonClicks", "poisson_clicks"),
        ("tracetorch.tasks.SequentialMNIST", "sequential_mnist"),
        ("tracetorch.loss.cross_entropy", "cross_entropy"),
    ],
)
def test_a_part_goes_by_the_name_that_is_typed_for_it(target, name):
    assert name_of(target) == name
