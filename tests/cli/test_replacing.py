"""A chosen part replaces the part before it, with its keys; keys of a preset that do not fit are left out and named."""

from pathlib import Path

import pytest

from tests.command_line import CLICKS, ran, refused, tracetorch
from tracetorch.cli.adapter import compose, fill, template
from tracetorch.cli.check import check_new
from tracetorch.cli.errors import UsageError
from tracetorch.cli.signatures import accepts, signature

MINE = '''
from dataclasses import dataclass
from typing import NamedTuple
import torch
import tracetorch as tt
from tracetorch.tasks import Patterns

class Own(Patterns):
    """A task with a further argument."""
    def __init__(self, *, path: str, scale: float = None, unit: "Values" = 1, **options):
        super().__init__(**options)
        self.path = path

class Same(tt.tasks.Patterns): ...
class Drawn(tt.tasks.Task): ...
class Circle(Circle): ...
class Open:
    def __init__(self, **options): ...

@dataclass
class Data:
    x: int = 1

class State(NamedTuple):
    x: int

class Wrapped(tt.tasks.RewardedTask):
    def __init__(self, path, /, x=1, **options):
        super().__init__(Own(path=path), **options)

class Neuron(tt.nn.neurons.LIF): ...

def adam(params, *, lr: float = 0.02): return torch.optim.Adam(params, lr)
'''


@pytest.fixture
def mine(here, monkeypatch):
    """The name of an importable module with parts of a user's own."""
    (here / "mine_replacing.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(here))
    return "mine_replacing"


def test_the_arguments_of_a_users_part_are_read_without_importing_it(here, mine, monkeypatch):
    (here / "mine_replacing.py").write_text(MINE + "\nraise SystemExit(3)\n")
    patterns = signature("tracetorch.tasks.Patterns").keys()
    assert signature(f"{mine}.Own").keys() == {"path", "scale", "unit", *patterns}
    assert signature(f"{mine}.Same").keys() == patterns
    assert list(signature(f"{mine}.Neuron")) == ["features", "decay", "threshold", "rate_map", "reset"]
    assert signature(f"{mine}.Drawn") == {}
    assert list(signature(f"{mine}.Wrapped")) == ["x"]
    for unknown in ("Circle", "Open", "Data", "State", "nothing"):
        assert signature(f"{mine}.{unknown}") is None, unknown
    assert accepts(f"{mine}.Open", "anything") and not accepts(f"{mine}.Data", "x") and not accepts("no.such", "x")
    task = [f"task._target_={mine}.Own", "task.path=a", "loss=mse", "network=lif_lif"]
    check_new(compose([*task, "task.scale=null", "task.unit=[1,2]"]).config)
    for typed, message in (
        ("task.pth=1", f"task.pth: {mine}.Own takes no 'pth'. Did you mean 'path'?"),
        ("task.scale=much", "task.scale must be a number or null, got 'much'"),
    ):
        with pytest.raises(UsageError, match=message):
            check_new(compose([*task, typed]).config)


CASES = [  # typed, the part, its keys afterwards, the note
    ("task._target_=tracetorch.tasks.Patterns task.patterns=4", "task", {"seed": 0, "patterns": 4}, ""),
    ("task.patterns=4 task._target_=tracetorch.tasks.Patterns", "task", {"seed": 0, "patterns": 4}, ""),
    ("task={_target_:tracetorch.tasks.Patterns,patterns:4}", "task", {"seed": 0, "patterns": 4}, ""),
    ("optimizer={_target_:torch.optim.RMSprop,momentum:0.5}", "optimizer", {"momentum": 0.5}, ""),
    ("optimizer._target_=torch.optim.Adam", "optimizer", {"lr": 0.002, "betas": [0.9, 0.999], "weight_decay": 0.0}, ""),
    ("optimizer.eps=1e-7 optimizer=sgd optimizer.nesterov=true", "optimizer",
     {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "eps": 1e-7, "nesterov": True}, "error"),
    ("experiment=cartpole optimizer=sgd", "optimizer", {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.0}, ""),
    ("experiment=cartpole optimizer._target_=torch.optim.Rprop", "optimizer", {"lr": 0.001}, ""),
    ("experiment=mnist task=patterns", "task", None, "experiment=mnist sets task.source, which task=patterns does not "
     "take: it is left out"),
    ("experiment=cartpole loss=reflect", "loss", None, "experiment=cartpole sets loss.discount, which loss=reflect "
     "does not take: it is left out"),
    ("network.neuron={_target_:tracetorch.nn.neurons.LIF}", "network.neuron", {"decay": 0.999}, "the default "
     "experiment (poisson_clicks) sets network.neuron.trainable, which tracetorch.nn.neurons.LIF does not take: it is "
     "left out"),
    ("network._target_=tracetorch.nn.feedforward", "network", None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "part", "keys", "note"), CASES, ids=[typed for typed, *_ in CASES])
def test_of_an_earlier_part_stays_what_the_new_one_takes_of_the_preset(typed, part, keys, note):
    if note == "error":
        with pytest.raises(UsageError, match=r"optimizer\.eps: there is no key 'eps'"):
            compose(typed.split())
        return
    composed = compose(typed.split())
    assert composed.notes == ((note,) if note else ())
    found = composed.config
    for name in part.split("."):
        found = found[name]
    if keys is not None:
        assert {name: value for name, value in found.items() if name not in ("_target_", "_partial_")} == keys
    assert found.get("_partial_", False) is (part != "task")
    assert next(iter(found)) == "_target_"


def test_parts_inside_a_part_stay_if_the_new_one_takes_them(here, mine):
    (here / "mine_replacing.py").write_text("def net(inputs, outputs, *, neuron, readout, width=3): ...\n")
    network = compose([f"network._target_={mine}.net", "network.width=5"])
    assert network.config["network"].keys() == {"_target_", "_partial_", "neuron", "readout", "width"}
    assert network.notes == (
        f"the default experiment (poisson_clicks) sets network.hidden, which {mine}.net does not take: it is left out",
    )


def test_what_the_new_part_requires_is_taken_from_the_old_one(here, mine):
    (here / "mine_replacing.py").write_text("class Task:\n    def __init__(self, batch_size, *, delay=1, noise): ...\n")
    task = compose([f"task._target_={mine}.Task"]).config["task"]
    assert task == {"_target_": f"{mine}.Task", "batch_size": 64, "noise": 0.0}


def test_a_preset_with_a_whole_part_gives_way_to_a_choice(here):
    Path("own/experiment").mkdir(parents=True)
    Path("own/experiment/best.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /optimizer: adam\n"
        "optimizer: {_target_: torch.optim.Adam, _partial_: true, lr: 0.0123, betas: [0.5, 0.9]}\n"
    )
    typed, own = ["experiment=best"], Path("own")
    assert compose(typed, own).config["optimizer"]["lr"] == 0.0123
    composed = compose([*typed, "optimizer=sgd"], own)
    assert composed.config["optimizer"] == compose(["optimizer=sgd"]).config["optimizer"]
    assert composed.notes == (
        "experiment=best sets optimizer.betas, which optimizer=sgd does not take: it is left out",
    )


def test_every_verb_says_what_is_left_out_and_a_typed_key_that_is_not_taken_stays_an_error(here):
    typed, note = ("experiment=mnist_sample", "task=poisson_clicks"), "experiment=mnist_sample sets task.source, which"
    small = (*CLICKS, "train.passes=null", "optimizer=rmsprop", "optimizer.momentum=0.5", "train.clip_norm=1")
    assert f"# {note}" in ran("show", *typed).stdout
    assert f"# {note}" in ran("show", "-m", *typed, "optimizer=adam,rmsprop").stdout
    assert note in " ".join(ran("run", *typed, *small, "output.dir=it").stdout.split())
    assert ran("run", "-m", *typed, *small, "seed=0,1").stdout
    said = refused("run", *typed, "task.source=sample")
    assert "task.source: there is no key 'source'" in said and "It belongs to task=" in said
    said = refused("show", "optimizer={lr: 1}")
    assert "optimizer is chosen by name, or by optimizer={_target_: …}; to change single values" in said


def test_a_class_of_neurons_takes_the_place_of_a_layer(here):
    neuron = "network.neuron={_target_: tracetorch.nn.neurons.LIF, threshold: 0.5}"
    assert "which tracetorch.nn.neurons.LIF does not take" in ran("run", neuron, *CLICKS, "output.dir=it").stdout
    ran("eval", "it")


def test_a_search_may_change_an_argument_that_no_file_names():
    base = template(["optimizer=rmsprop"])
    assert fill(base, ["optimizer.eps=0.1"]).config["optimizer"]["eps"] == 0.1
    with pytest.raises(UsageError, match="there is no key 'epss'"):
        fill(base, ["optimizer.epss=0.1"])
    assert tracetorch("show", "optimizer=lbfgs").exit_code == 2
