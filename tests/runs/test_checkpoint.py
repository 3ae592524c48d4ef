"""Checkpoints: what is put away comes back to the bit, and what cannot is refused in one sentence."""

import copy
import math
import pickle
import re
import resource
import zipfile
from functools import reduce
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
    output = net.run(torch.ones(6, 2, 4), reduce="mean")
    net.backward(output - torch.eye(3)[:2])
    optimizer.step()
    optimizer.zero_grad()
    return output


def stored(path):
    return torch.load(path, weights_only=True)


def equal(left, right):
    return all(map(torch.equal, left.state_dict().values(), right.state_dict().values()))


@pytest.fixture
def path(tmp_path):
    """A good checkpoint, at the place where a run has it."""
    path = tmp_path / "checkpoints" / "latest.pt"
    save_checkpoint(path, *trained(), update=3, records=2)
    return path


def test_a_loaded_network_continues_to_the_bit_with_or_without_its_optimizer(path):
    net, optimizer = trained()
    save_checkpoint(path, net, optimizer, update=3, best=0.5)
    assert [found.name for found in path.parent.iterdir()] == ["latest.pt"]
    assert stored(path)["update"] == 3
    fresh, fresh_optimizer = trained(updates=0, seed=9)
    rest = load_checkpoint(path, fresh, fresh_optimizer)
    assert (rest.pop("random").keys(), rest) == ({"cpu": 0, "cuda": 0}.keys(), {"update": 3, "best": 0.5})
    for _ in range(3):
        assert torch.equal(go_on(fresh, fresh_optimizer), go_on(net, optimizer))
    assert equal(fresh, net)
    before = copy.deepcopy(fresh_optimizer.state_dict())
    load_checkpoint(path, fresh)  # without the optimizer
    assert repr(fresh_optimizer.state_dict()) == repr(before) and equal(fresh, trained()[0])
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*latest\.pt"):
        load_checkpoint(path, fresh)


OTHER = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])
MISFIT = "layers.0.connection.weight has the shape (6, 4) in it, and (5, 4) in this network"


def doubled(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", b"N.")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (doubled, "is damaged (ValueError)"),
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "is damaged (BadZipFile)"),
        (lambda path: torch.save({"net": print}, path), "is damaged (ValueError)"),
        (
            lambda path: torch.save(stored(path) | {"update": 9}, path),
            "is damaged: its content is not what was written",
        ),
        (lambda path: save_checkpoint(path, *trained(hidden=6)), f"belongs to another network or optimizer: {MISFIT}"),
        (
            lambda path: save_checkpoint(path, trained()[0], OTHER),
            "belongs to another network or optimizer (ValueError)",
        ),
    ],
)
def test_a_broken_or_foreign_checkpoint_is_refused(path, spoil, why):
    spoil(path)
    with pytest.raises(ValueError, match=rf"latest\.pt {re.escape(why)}$"):
        load_checkpoint(path, *trained())


def repack(path, change, *, compression=zipfile.ZIP_STORED):
    """Write a checkpoint's zip again, each entry changed by `change(name, content)`."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


def sealed(path, **changes):
    """Change a checkpoint's content and give it a checksum that is right."""
    content = stored(path) | changes
    del content["checksum"]
    torch.save(content | {"checksum": checkpoint.checksum_of(content)}, path)


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


BOMBS = {
    "compressed": lambda path: repack(path, lambda name, content: content, compression=zipfile.ZIP_DEFLATED),
    "unfolds-to-4-GB": crafted((1 << 30,), (0,)),
    "larger-than-its-storage": crafted((1 << 30,), (1,)),
    "storage-larger-than-its-entry": crafted((4,), (1,), count=1 << 30),
    "negative-stride": crafted((4,), (-1,)),
    "values-without-end": pickled(pickle.dumps(reduce(lambda inner, _: [inner] * 10, range(10), []), protocol=2)),
    "key-that-is-deep": pickled(b"\x80\x02}", b")", b"\x85" * 1_000_000, b"Ns."),
    "deep": pickled(b"\x80\x02", b"]" * 5000, b"a" * 4999, b"."),
    "memo": pickled(b"\x80\x02}r\xff\xff\xff\x7f."),
    "attribute": pickled(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb."),
    "call": pickled(b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R."),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_checkpoint_that_would_unfold_is_refused_before_anything_is_allocated(path, name):
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


def test_what_torch_writes_is_read_as_torch_reads_it(path):
    tensors = {
        "strided": torch.arange(12).reshape(3, 4).t(),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5, dtype=torch.bfloat16),
        "expanded": torch.ones(1).expand(1000),
        "sliced": torch.arange(10.0)[2::3],
        "new type": torch.tensor([1, 2], dtype=torch.uint16),
    }
    plain = {"a": [None, True, -(2**70), 0.1, "ü", b"\xff", (1,)], 3: torch.Size([2]), "t": torch.float16}
    module = torch.nn.Linear(2, 3).state_dict()
    torch.save({**tensors, "again": tensors, "plain": plain, "module": module}, path)
    mine, theirs = read_stored(path), stored(path)
    assert repr(mine) == repr(theirs) and checkpoint.checksum_of(mine) == checkpoint.checksum_of(theirs)
    for left, right in ((mine, theirs), (mine["again"], theirs["again"])):
        layouts = [[(one[name].stride(), one[name].storage_offset()) for name in tensors] for one in (left, right)]
        assert layouts[0] == layouts[1]
    assert mine["module"]._metadata == theirs["module"]._metadata


COUNTERS = [
    {"update": -1}, {"update": True}, {"wall_seconds": math.nan}, {"timings": {"train_seconds": "x"}},
    {"random": {"cpu": 1, "cuda": []}}, {"sizes": [3]}, {"run_id": 3},
]  # fmt: skip


@pytest.mark.parametrize("values", [*COUNTERS, {"lr": "x"}, {"lr": math.nan}, {"betas": [0.9, "x"]}], ids=repr)
def test_a_counter_or_optimizer_setting_of_the_wrong_type_is_named(path, values):
    (name,) = values
    optimizer = stored(path)["optimizer"]
    optimizer["param_groups"][0] |= {} if values in COUNTERS else values
    sealed(path, optimizer=optimizer, **(values if values in COUNTERS else {}))
    said = f"is damaged: '{name}' is not" if values in COUNTERS else f"cannot be used: the optimizer's {name} is"
    with pytest.raises(ValueError, match=rf"latest\.pt {said} [^\n]+$"):
        load_checkpoint(path, *trained())
    if values not in COUNTERS:
        load_checkpoint(path, trained()[0])  # without an optimizer it does not matter


def test_tensor_settings_of_an_optimizer_are_loaded(path):
    net, _ = trained()
    made = [torch.optim.Adafactor(net.parameters(), lr=lr) for lr in (0.1, torch.tensor(0.2))]
    save_checkpoint(path, net, made[1])
    load_checkpoint(path, net, made[0])
    assert float(made[0].param_groups[0]["lr"]) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (("net", "layers.0.connection.weight"), math.inf, r"layers\.0\.connection\.weight"),
        (("state", "0.membrane"), math.nan, r"state\.0\.membrane"),
        (("optimizer", "state", 0, "exp_avg"), math.nan, r"optimizer\.state\.0\.exp_avg"),
        (("parts", "loss", "mean"), math.nan, r"parts\.loss\.mean"),
        (("parts", "task", "mean"), math.nan, ""),  # of a task it may be a value that is missing
    ],
)
def test_what_is_not_finite_is_refused_and_nothing_is_loaded(path, at, value, said):
    content = stored(path)
    content["parts"] = {"loss": {"mean": torch.zeros(2)}, "task": {"mean": torch.zeros(2)}, "best": {"score": math.nan}}
    inner = content
    for name in at[:-1]:
        inner = inner[name]
    inner[at[-1]] = torch.full_like(inner[at[-1]], value)
    sealed(path, **content)
    net, optimizer = trained(seed=9)
    before = copy.deepcopy(net)
    if said:
        with pytest.raises(ValueError, match=rf"latest\.pt cannot be used: {said} is (NaN|not finite) in it$"):
            load_checkpoint(path, net, optimizer)
        assert equal(net, before)
    else:
        load_checkpoint(path, net, optimizer)


@pytest.mark.parametrize(
    ("run_id", "facts", "why"),
    [
        ("mine", '{"run_id": "other"}', r"$"),
        (None, "{}", ""),
        (None, '{"run_id": "mine", "resumed": ["2026-01-01"]}', ""),  # an older version's, which has one since then
        (None, '{"run_id": "mine", "resumed": []}', r" \(it has no run_id\)$"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(path, run_id, facts, why):
    save_checkpoint(path, *trained(), **({"run_id": run_id} if run_id else {}))
    (path.parent.parent / "run.json").write_text(facts)
    if why:
        with pytest.raises(ValueError, match=rf"latest\.pt is the checkpoint of another run than \S+{why}"):
            load_checkpoint(path, *trained())
    else:
        assert load_checkpoint(path, *trained()).get("run_id") == run_id
