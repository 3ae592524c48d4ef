"""docs/coming-from.md: in its blocks, neurons of other libraries spike as ours do; the names in its table exist."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

import tracetorch as tt

PAGE = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```(snntorch|spikingjelly|norse)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


@pytest.mark.filterwarnings("ignore")  # of the other libraries
@pytest.mark.parametrize("library", ["snntorch", "spikingjelly", "norse"])
def test_the_neurons_of_another_library_spike_as_ours(library):
    pytest.importorskip(library)
    torch.manual_seed(0)
    xs = (torch.rand(200, 3, 20) < 0.3).float()
    space = {"torch": torch, "tt": tt, "xs": xs}
    with torch.no_grad():
        exec(compile(BLOCKS[library], library, "exec"), space)
    assert torch.equal(space["theirs"], space["ours"])
    assert 0.005 < space["ours"].mean() < 0.9


NAMES = {
    "snntorch": "Leaky utils.reset surrogate.fast_sigmoid functional.ce_rate_loss spikegen.rate "
    "export_nir.export_to_nir",
    "norse.torch": "LIFBoxCell LIBoxCell PoissonEncoder SequentialState to_nir",
    "spikingjelly.activation_based": "layer.Linear neuron.LIFNode neuron.NonSpikingLIFNode functional.reset_net "
    "surrogate.Sigmoid encoding.PoissonEncoder nir_exchange.export_to_nir",
    "tracetorch": "nn.LIF nn.LI nn.LIS rules.BPTT loss.cross_entropy encode.poisson interop.to_nir",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("library", NAMES)
def test_the_names_in_the_table_exist_and_are_in_it(library):
    pytest.importorskip(library)
    for name in NAMES[library].split():
        module, _, attribute = f"{library}.{name}".rpartition(".")
        assert hasattr(import_module(module), attribute), name
        assert attribute in PAGE, name
