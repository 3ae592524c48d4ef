"""docs/coming-from.md: every name in its tables runs, those of other libraries where they are installed."""

import re
from pathlib import Path

import pytest
import torch

import tracetorch as tt
from tests.command_line import ran

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```(snntorch|spikingjelly|norse)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
ROWS = [[cell.strip() for cell in line.split(" | ")] for line in re.findall(r"^\| (.*) \|$", PAGE, re.MULTILINE)]
PYTHON = [row for row in ROWS if len(row) == 5]
TYPED = [right for _, right in (row for row in ROWS if len(row) == 2 and row[0] != "NeuroTrain")]


@pytest.mark.filterwarnings("ignore")  # of the other libraries
@pytest.mark.parametrize("library", ["snntorch", "spikingjelly", "norse"])
def test_the_neurons_of_another_library_spike_as_ours(library):
    pytest.importorskip(library)
    torch.manual_seed(0)
    xs = (torch.rand(200, 3, 20) < 0.3).float()
    space = {"torch": torch, "tt": tt, "xs": xs}
    with torch.no_grad():
        exec(compile(BLOCKS[library], library, "exec"), space)
    for theirs, ours in (("theirs", "ours"), ("theirs_zero", "ours_zero")):
        assert torch.equal(space[theirs], space[ours])
        assert 0.005 < space[ours].mean() < 0.9
    assert not torch.equal(space["ours"], space["ours_zero"])


BEFORE = {  # what the expressions of a column of the first table need
    "snntorch": """
import snntorch as snn
from snntorch import export_nir, functional, spikegen, surrogate, utils
cell, state = snn.Leaky(0.9), None
model = snn.Leaky(0.9, init_hidden=True)
""",
    "norse": """
import norse.torch as norse
from norse.torch.functional.lif_box import LIFBoxParameters
from norse.torch.functional.reset import reset_subtract
cell, state = norse.LIFBoxCell(), None
model = norse.SequentialState(cell)
""",
    "spikingjelly": """
from spikingjelly.activation_based import encoding, functional, layer, monitor, neuron, nir_exchange, surrogate
cell = neuron.LIFNode()
model = nn.Sequential(layer.Linear(20, 8), cell)
""",
    "tracetorch": """
import tracetorch as tt
net = tt.nn.Sequential(tt.nn.LIF(20, 8), tt.nn.LIS(8, 2))
net(x)
""",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", BEFORE)
def test_each_row_of_names_runs(library):
    pytest.importorskip(library)
    column = list(BEFORE).index(library) + 1
    xs, space = torch.rand(5, 3, 20), {"torch": torch, "nn": torch.nn}
    space |= {
        "xs": xs,
        "x": xs[0],
        "values": xs[0],
        "target": torch.tensor([0, 1, 0]),
        "mask": torch.tensor([True, False, True]),
    }
    exec(BEFORE[library], space)
    expressions = [
        one for row in PYTHON for one in re.findall(r"`([^`]+)`", row[column]) if not one.startswith("tracetorch ")
    ]
    assert len(expressions) > 10
    for expression in expressions:
        eval(expression, space)


TINY = {
    "experiment": "mnist_sample",
    "network.hidden": "[8]",
    "task.steps": "4",
    "train.passes": "1",
    "train.figures": "false",
    "task.batch_size": "500",
    "device": "cpu",
}


@pytest.mark.parametrize("cell", TYPED)
def test_each_row_of_commands_runs(cell, here):
    typed = [one.split() for one in re.findall(r"`([^`]+)`", cell)]
    assert typed
    for given in typed:
        verb, *words = given[1:] if given[0] == "tracetorch" else ["run", *given]
        settings = TINY if verb in ("run", "tune") else {}
        keys = {word.partition("=")[0] for word in words}
        ran(verb, *(f"{key}={value}" for key, value in settings.items() if key not in keys), *words)
