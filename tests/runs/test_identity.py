"""Which runs are the same experiment (`group`) and which are the same run (`id`)."""

import copy
import inspect
import os
from pathlib import Path

import pytest
import yaml

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


SAME, REPEATED, ANOTHER = (True, True), (True, False), (False, False)


@pytest.mark.parametrize(
    ("path", "value", "are_equal"),
    [
        ("device", "cuda:1", SAME),
        ("output.dir", "here", SAME),
        ("diagnostics", {"_target_": "tracetorch.diagnostics.Gradient", "every": 5}, SAME),
        ("task.resume", True, SAME),
        ("task", dict(reversed(CONFIG["task"].items())), SAME),
        ("seed", 1, REPEATED),
        ("task.seed", 1, REPEATED),
        ("task.source", "/mnt/other/mnist", ANOTHER),
        ("task.duration", ".1..1.2", ANOTHER),  # a range that begins with a point is no path
        ("train.updates", None, ANOTHER),
        ("more", 1, ANOTHER),
    ],
)
def test_which_changes_make_another_run_or_another_group(path, value, are_equal):
    config = changed(path, value)
    assert (group_of(config) == group_of(CONFIG), id_of(config) == id_of(CONFIG)) == are_equal


def test_hashes_and_names_never_change_and_all_tasks_with_files_are_known():
    config = changed("task.source", "sample")
    config["train"]["checkpoint_seconds"] = 30
    neuron = config["network"]["neuron"]
    for name in ("trainable", "learn"):  # a former name
        neuron |= {"threshold": 1.0, name: neuron.pop("trainable")}
        assert (group_of(config), id_of(config)) == ("364db147a67d", "9abcdc8d60de")
    names = {
        "torch.optim.AdamW": "adamw",
        "tracetorch.rules.TruncatedBPTT": "tbptt",
        "tracetorch.rules.ThreeFactor": "three_factor",
        "tracetorch.tasks.SequentialMNIST": "sequential_mnist",
    }
    assert {target: name_of(target) for target in names} == names
    for path in (Path(__file__).parents[2] / "conf" / "rule").glob("*.yaml"):
        assert name_of(yaml.safe_load(path.read_text())["_target_"]) == path.stem
    sources = {name for name in tasks.__all__ if "source" in inspect.signature(getattr(tasks, name)).parameters}
    assert sources == READERS.keys() - {"File"} and DIGITS == NAMES


def test_data_are_identified_by_their_content(tmp_path):
    for name in ("a", "b", "c"):
        write_folder(tmp_path / name, lambda file: file.encode())
    (tmp_path / "c" / NAMES[1]).write_bytes(b"another")
    configs = [changed("task.source", str(tmp_path / name)) for name in ("a", "b", "c", "absent")]
    for made in (group_of, id_of):
        assert made(configs[0]) == made(configs[1]) and len(set(map(made, configs))) == 3
    data = facts_of(configs[0])["data"]
    assert data.keys() == {"task.source"} and data != facts_of(configs[2])["data"]
    assert "data" not in facts_of(configs[3]) and "data" not in facts_of(changed("task.source", "sample"))
    (tmp_path / "a" / NAMES[0]).write_bytes(b"replaced")
    assert facts_of(configs[0])["data"] != data
    assert data_of({"task": {"_target_": "my.Blocks", "task": configs[1]["task"]}}).keys() == {"task.task.source"}
    (tmp_path / "b" / NAMES[2]).unlink()
    os.mkfifo(tmp_path / "b" / NAMES[2])  # which is not waited for
    assert data_of(configs[1]) == {}
