"""Checkpoints: what is put away comes back to the bit, and what cannot is refused in one sentence."""

import copy
import math
import pickle
import resource
import zipfile
from pathlib import Path

import pytest
import torch

from tracetorch.nn import LIF, LIS, Sequential
from tracetorch.runs import checkpoint, load_checkpoint, save_checkpoint
from tracetorch.runs.stored import read_stored


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


# ── files from others ───────────────────────────────────────────────────────────────────────────────────────────────


def repack(path, change, *, compression=zipfile.ZIP_STORED):
    """Write a checkpoint's zip again, each entry changed by `change(name, content)`."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


def sealed(path, **changes):
    """Change a checkpoint's content and give it a checksum that is right."""
    content = torch.load(path, weights_only=True) | changes
    del content["checksum"]
    torch.save(content | {"checksum": checkpoint._checksum(content)}, path)


def pickled(*parts):
    """Put a pickle of one's own into a checkpoint."""
    data = b"".join(parts)
    return lambda path: repack(path, lambda name, content: data if name.endswith("data.pkl") else content)


def crafted(shape, stride, count=4):
    """A checkpoint with a tensor as the file describes it, whatever its storage holds."""

    def write(path):
        torch.save({"a": torch.zeros(4)}, path)
        head = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n("
        storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        storage += pickle.dumps(count, protocol=2)[2:-1] + b"tQ"
        spread = b"".join(pickle.dumps(part, protocol=2)[2:-1] for part in (0, shape, stride))
        pickled(head, storage, spread, b"\x89N}t", b"Rs.")(path)

    return write


def nested(path):
    """Lists within lists, each ten times, ten deep: 10¹⁰ values in 100 bytes."""
    value = []
    for _ in range(10):
        value = [value] * 10
    sealed_value = pickle.dumps({"a": value}, protocol=2)
    pickled(sealed_value)(path)


BOMBS = {
    "compressed": lambda path: repack(path, lambda name, content: content, compression=zipfile.ZIP_DEFLATED),
    "unfolds-to-4-GB": crafted((1 << 30,), (0,)),
    "larger-than-its-storage": crafted((1 << 30,), (1,)),
    "storage-larger-than-its-entry": crafted((4,), (1,), count=1 << 30),
    "negative-stride": crafted((4,), (-1,)),
    "no-numbers": crafted(("a",), (1,)),
    "values-without-end": nested,
    "key-that-is-deep": pickled(b"\x80\x02}", b")", b"\x85" * 1_000_000, b"Ns."),
    "deep": pickled(b"\x80\x02", b"]" * 5000, b"a" * 4999, b"."),
    "memo": pickled(b"\x80\x02}r\xff\xff\xff\x7f."),
    "attribute": pickled(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb."),
    "call": pickled(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_checkpoint_that_would_unfold_is_refused_before_anything_is_allocated(tmp_path, name):
    path = tmp_path / "latest.pt"
    save_checkpoint(path, *trained(), update=3)
    BOMBS[name](path)
    assert path.stat().st_size < 2 << 20
    limit = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), limit[1]))
    try:
        with pytest.raises(ValueError, match=r"latest\.pt is damaged") as caught:
            load_checkpoint(path, *trained())
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    assert not isinstance(caught.value.__cause__, MemoryError)


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(12).reshape(3, 4).t(),
        torch.zeros(0, 3),
        torch.tensor(2.5, dtype=torch.bfloat16),
        torch.ones(1).expand(1000),
        torch.arange(10.0)[2::3],
        torch.tensor([1, 2], dtype=torch.uint16),
        {"a": [None, True, -(2**70), 0.1, "ü", b"\xff", (1,)], 3: torch.Size([2]), "t": torch.float16},
        torch.nn.Linear(2, 3).state_dict(),
    ],
    ids=["strided", "empty", "scalar", "expanded", "sliced", "new-type", "plain", "module"],
)
def test_what_torch_writes_is_read_as_torch_reads_it(tmp_path, value):
    torch.save({"a": value, "b": value}, tmp_path / "a.pt")
    mine, theirs = read_stored(tmp_path / "a.pt"), torch.load(tmp_path / "a.pt", weights_only=True)
    assert repr(mine) == repr(theirs) and checkpoint._checksum(mine) == checkpoint._checksum(theirs)
    if isinstance(value, torch.Tensor):
        assert [(mine[n].stride(), mine[n].storage_offset()) for n in "ab"] == [
            (theirs[n].stride(), theirs[n].storage_offset()) for n in "ab"
        ]
    assert getattr(mine["a"], "_metadata", None) == getattr(theirs["a"], "_metadata", None)


@pytest.mark.parametrize(
    "counter",
    [
        {"update": [3]},
        {"update": -1},
        {"update": True},
        {"records": -5},
        {"records": 1.5},
        {"wall_seconds": "x"},
        {"wall_seconds": math.nan},
        {"timings": {"train_seconds": None}},
        {"timings": 3},
        {"parts": [1]},
        {"random": {"cpu": 1, "cuda": []}},
        {"run_id": 3},
    ],
    ids=repr,
)
def test_a_counter_of_the_wrong_type_is_named(tmp_path, counter):
    path = tmp_path / "latest.pt"
    save_checkpoint(path, *trained(), update=3, records=2)
    sealed(path, **counter)
    with pytest.raises(ValueError, match=rf"latest\.pt is damaged: '{next(iter(counter))}' is not [^\n]+$"):
        load_checkpoint(path, *trained())


@pytest.mark.parametrize(
    ("setting", "value"),
    [("lr", "x"), ("lr", math.nan), ("lr", None), ("betas", [0.9, "x"]), ("betas", 0.9), ("maximize", []), ("eps", {})],
    ids=repr,
)
def test_a_setting_of_the_optimizer_of_the_wrong_type_is_named(tmp_path, setting, value):
    path = tmp_path / "latest.pt"
    net, optimizer = trained()
    save_checkpoint(path, net, optimizer)
    settled = optimizer.state_dict()
    settled["param_groups"][0] |= {setting: value}
    sealed(path, optimizer=settled)
    with pytest.raises(ValueError, match=rf"latest\.pt cannot be used: the optimizer's {setting} is [^\n]+$"):
        load_checkpoint(path, *trained())
    load_checkpoint(path, trained()[0])  # without an optimizer it does not matter


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, torch.optim.SGD, torch.optim.Adafactor, torch.optim.Rprop])
def test_the_settings_of_any_optimizer_are_taken_again(tmp_path, kind):
    net, _ = trained()
    made = [kind(net.parameters(), lr=lr) for lr in (0.1, torch.tensor(0.2))]
    save_checkpoint(tmp_path / "latest.pt", net, made[1])
    load_checkpoint(tmp_path / "latest.pt", net, made[0])
    assert float(made[0].param_groups[0]["lr"]) == pytest.approx(0.2)


def test_what_an_optimizer_or_a_part_goes_on_from_is_finite(tmp_path):
    path = tmp_path / "latest.pt"
    net, optimizer = trained()
    optimizer.state[net[0].weight]["exp_avg"][0] = math.nan
    save_checkpoint(path, net, optimizer)
    with pytest.raises(ValueError, match=r"cannot be used: optimizer\.state\.0\.exp_avg is not finite in it"):
        load_checkpoint(path, *trained())
    lost = {"mean": torch.tensor([1.0, math.nan])}
    save_checkpoint(path, *trained(), parts={"loss": lost})
    with pytest.raises(ValueError, match=r"parts\.loss\.mean is not finite in it"):
        load_checkpoint(path, *trained())
    save_checkpoint(path, *trained(), parts={"task": lost, "best": {"score": math.nan}})
    load_checkpoint(path, *trained())  # of a task it may be a value that is missing


def test_weights_and_states_that_are_not_finite_are_refused(tmp_path):
    path = tmp_path / "latest.pt"
    net, optimizer = trained()
    for group, name, value in (("net", "layers.0.connection.weight", math.inf), ("state", "0.membrane", math.nan)):
        save_checkpoint(path, net, optimizer)
        content = torch.load(path, weights_only=True)
        content[group][name] = torch.full_like(content[group][name], value)
        sealed(path, **{group: content[group]})
        before = copy.deepcopy(net.state_dict())
        with pytest.raises(ValueError, match=rf"latest\.pt cannot be used: .*{name} is not finite"):
            load_checkpoint(path, net)
        assert all(map(torch.equal, net.state_dict().values(), before.values()))


@pytest.mark.parametrize("facts", ['{"run_id": "mine"}', '{"run_id": "other"}', "{}", "[", None])
def test_the_checkpoint_of_another_run_is_refused(tmp_path, facts):
    path = tmp_path / "checkpoints" / "latest.pt"
    path.parent.mkdir()
    save_checkpoint(path, *trained(), run_id="mine")
    if facts is not None:
        (tmp_path / "run.json").write_text(facts)
    if facts == '{"run_id": "other"}':
        with pytest.raises(ValueError, match=r"latest\.pt is the checkpoint of another run than .*"):
            load_checkpoint(path, *trained())
    else:  # run.json is broken or of a version that wrote no id
        assert load_checkpoint(path, *trained())["run_id"] == "mine"


def test_a_checkpoint_without_an_id_is_that_of_an_older_version(tmp_path):
    path = tmp_path / "checkpoints" / "latest.pt"
    path.parent.mkdir()
    save_checkpoint(path, *trained())
    for facts in ("{}", '{"run_id": "mine", "resumed": ["2026-01-01"]}'):  # it gets an id when it is resumed
        (tmp_path / "run.json").write_text(facts)
        load_checkpoint(path, *trained())
    (tmp_path / "run.json").write_text('{"run_id": "mine", "resumed": []}')
    with pytest.raises(ValueError, match=r"is the checkpoint of another run than .* \(it has no run_id\)$"):
        load_checkpoint(path, *trained())
