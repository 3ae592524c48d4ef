"""Weights as safetensors: the round trip, and files that are refused."""

import json
import re

import pytest
import torch

import tracetorch as tt
from tests.tiny_training import NET
from tracetorch.interop import read_safetensors, write_safetensors

pytest.importorskip("safetensors")

LAYER = {"_target_": "tracetorch.nn.LIF", "_partial_": True, "decay": 0.8, "trainable": ["weight"]}
READOUT = {"_target_": "tracetorch.nn.LI", "_partial_": True}
FEEDFORWARD = {"_target_": "tracetorch.nn.feedforward", "_partial_": True, "hidden": [8]}
CONFIG = {"network": {**FEEDFORWARD, "neuron": LAYER, "readout": READOUT}, "seed": 3}


def are_equal(net, other):
    """Whether the parameters of two networks are equal, by name."""
    weights, others = net.state_dict(), other.state_dict()
    return list(weights) == list(others) and all(torch.equal(value, others[name]) for name, value in weights.items())


def test_weights_come_back_by_name_with_the_config(tmp_path):
    path, net = tmp_path / "net.safetensors", tt.nn.feedforward(12, 3, hidden=[8], neuron=tt.nn.LIF, readout=tt.nn.LI)
    write_safetensors(path, net, CONFIG)
    read = read_safetensors(path)
    assert are_equal(read, net) and [layer.kind for layer in read] == ["LIF", "LI"]
    assert not read[0].neuron.raw_threshold.requires_grad  # as the config says
    from safetensors import safe_open

    with safe_open(path, "pt") as file:  # as other programs read it
        assert set(file.keys()) == set(net.state_dict())
        assert json.loads(file.metadata()["config"]) == CONFIG


def test_weights_fill_a_network_that_is_given(tmp_path):
    path, net = tmp_path / "net.safetensors", NET(12, 3).double()
    write_safetensors(path, net)
    other = NET(12, 3).double()
    assert not are_equal(other, net)
    assert read_safetensors(path, other) is other and are_equal(other, net)
    with pytest.raises(
        ValueError, match=r"layers.0.connection.weight is shape .8, 12. in it, shape .8, 4. in this one"
    ):
        read_safetensors(path, NET(4, 3))
    with pytest.raises(ValueError, match=r"its metadata have no config.*: give one, net="):
        read_safetensors(path)


@pytest.mark.parametrize(
    ("change", "why"),
    {
        "a large network": ({"hidden": [10**9]}, "larger network than its weights"),
        "another network": ({"hidden": [7]}, "belongs to another network"),
        "code": ({"neuron": {"_target_": "os.system", "_partial_": True}}, "os.system is not part of tracetorch.nn"),
        "inner code": ({"neuron": {"_target_": "tracetorch.nn.layer.torch.load"}}, "is not part of tracetorch.nn"),
        "another function": ({"_target_": "tracetorch.nn.Sequential"}, "is not tracetorch.nn.feedforward"),
        "no network": (None, "does not say how to make its network"),
    }.values(),
)
def test_a_hostile_config_makes_nothing(tmp_path, change, why):
    path = tmp_path / "net.safetensors"
    network = None if change is None else {**CONFIG["network"], **change}
    write_safetensors(path, NET(12, 3), {"network": network})
    with pytest.raises(ValueError, match=why) as refused:
        read_safetensors(path)
    assert "\n" not in str(refused.value)


def with_header(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


CLAIM = {"x": {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 4 << 30]}}


@pytest.mark.parametrize(
    "content",
    {
        "empty": b"",
        "a header of 4 GB": with_header(b"{}", length=4 << 30),
        "weights of 4 GB": with_header(CLAIM),
        "overlapping weights": with_header(
            {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, b"0000"
        ),
        "no JSON": with_header(b"not JSON"),
        "a list": with_header([]),
        "deep": with_header(b'{"a":' * 5000 + b"1" + b"}" * 5000),
        "not finite": with_header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"\x00\x00\xc0\x7f"),
    }.values(),
)
def test_hostile_files_are_refused_with_one_sentence(tmp_path, content):
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))) as refused:
        read_safetensors(path, NET(12, 3))
    assert "\n" not in str(refused.value)
