"""Checkpoints: what is put away comes back to the bit, and what cannot is refused in one sentence."""

import copy

import pytest
import torch

from tracetorch.nn import LIF, LIS, Sequential
from tracetorch.runs import load_checkpoint, save_checkpoint


def trained(updates=3, seed=0, hidden=5):
    """A network in the middle of a sequence, and its optimizer in the middle of a training."""
    torch.manual_seed(seed)
    net = Sequential(LIF(4, hidden), LIS(hidden, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(updates):
        go_on(net, optimizer)
    return net, optimizer


def go_on(net, optimizer):
    xs = torch.ones(6, 2, 4)
    output = net.run(xs, reduce="mean")
    net.backward(output - torch.eye(3)[:2])
    optimizer.step()
    optimizer.zero_grad()
    return output


def test_a_network_goes_on_as_if_nothing_had_happened(tmp_path):
    net, optimizer = trained()
    save_checkpoint(tmp_path / "latest.pt", net, optimizer, update=3, best=0.5)
    fresh, fresh_optimizer = trained(updates=0, seed=9)
    rest = load_checkpoint(tmp_path / "latest.pt", fresh, fresh_optimizer)
    assert (rest.pop("random").keys(), rest) == ({"cpu": 0, "cuda": 0}.keys(), {"update": 3, "best": 0.5})
    for _ in range(3):
        assert torch.equal(go_on(fresh, fresh_optimizer), go_on(net, optimizer))
    assert all(map(torch.equal, fresh.state_dict().values(), net.state_dict().values()))


def test_the_optimizer_may_be_left_alone(tmp_path):
    net, optimizer = trained()
    save_checkpoint(tmp_path / "latest.pt", net, optimizer)
    fresh, fresh_optimizer = trained(updates=1, seed=9)
    before = copy.deepcopy(fresh_optimizer.state_dict())
    assert load_checkpoint(tmp_path / "latest.pt", fresh).keys() == {"random"}
    assert torch.equal(fresh_optimizer.state_dict()["state"][0]["exp_avg"], before["state"][0]["exp_avg"])
    assert all(map(torch.equal, fresh.state_dict().values(), net.state_dict().values()))


def test_it_loads_without_running_code(tmp_path):
    net, optimizer = trained()
    save_checkpoint(tmp_path / "latest.pt", net, optimizer, update=3, counter=torch.tensor(7))
    assert torch.load(tmp_path / "latest.pt", weights_only=True)["update"] == 3


def test_a_checkpoint_is_whole_and_alone(tmp_path):
    net, optimizer = trained()
    for update in range(3):
        save_checkpoint(tmp_path / "latest.pt", net, optimizer, update=update)
    assert [path.name for path in tmp_path.iterdir()] == ["latest.pt"]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*latest\.pt"):
        load_checkpoint(tmp_path / "latest.pt", trained()[0])


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN = {
    "cut-in-half": cut,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("hello"),
    "a-list": lambda path: torch.save([1, 2], path),
    "no-net": lambda path: torch.save({"state": {}, "optimizer": {}}, path),
    "no-optimizer": lambda path: torch.save({"net": trained()[0].state_dict(), "state": {}}, path),
    "a-value-changed": lambda path: torch.save(torch.load(path, weights_only=True) | {"update": 9}, path),
    "code": lambda path: torch.save({"net": print}, path),
}
FOREIGN = {
    "another-network": lambda path: save_checkpoint(path, *trained(hidden=6)),
    "another-optimizer": lambda path: save_checkpoint(
        path, trained()[0], torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
    ),
}


@pytest.mark.parametrize("name", [*BROKEN, *FOREIGN])
def test_a_broken_or_foreign_checkpoint_is_refused(tmp_path, name):
    path = tmp_path / "latest.pt"
    save_checkpoint(path, *trained(), update=3)
    (BROKEN | FOREIGN)[name](path)
    why = "is damaged" if name in BROKEN else "belongs to another network or optimizer"
    with pytest.raises(ValueError, match=rf"latest\.pt {why}") as caught:
        load_checkpoint(path, *trained())
    assert "\n" not in str(caught.value)
