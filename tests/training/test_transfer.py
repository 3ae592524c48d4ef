"""Training that starts from a trained network, and layers that are not trained."""

import shutil
from functools import partial

import pytest
import torch
import yaml

import tracetorch as tt
from tests.command_line import CLICKS, facts_in, ran, refused, tracetorch
from tests.tiny_training import NET, PATTERNS, assert_same, facts, stopping, train, weights
from tracetorch.runs import RunFolder, load_checkpoint
from tracetorch.runs.identity import experiment_of
from tracetorch.tasks import Patterns
from tracetorch.training import freeze, transfer
from tracetorch.training.setup import parameter_groups

STILL = partial(torch.optim.SGD, lr=0.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of a trained network."""
    return train(tmp_path_factory.mktemp("s"), seed=3, updates=4).folder.path


def equal(one, other, layers):
    """Whether two state dicts have the same values in these layers."""
    prefixes = tuple(f"layers.{at}." for at in layers)
    return all(torch.equal(value, other[name]) for name, value in one.items() if name.startswith(prefixes))


def test_a_network_starts_from_the_layers_of_another(tmp_path, source):
    run = train(tmp_path, init_from=source, optimizer=STILL)
    assert equal(weights(run.folder), weights(RunFolder(source)), [0, 1])
    init = facts(run)["init"]
    assert (init["folder"], init["layers"], init["update"], init["fresh"]) == (str(source), [0, 1], 4, {})
    assert init["run_id"] == facts_in(source)["run_id"] and "starts from" in run.notes[0]
    other = train(tmp_path, name="other", init_from=source, init_parts=["hidden"], optimizer=STILL)
    assert equal(weights(other.folder), weights(RunFolder(source)), [0])
    assert not equal(weights(other.folder), weights(RunFolder(source)), [1])


@pytest.mark.parametrize("rule", [tt.rules.Trace, tt.rules.BPTT, tt.rules.CoarseBPTT, tt.rules.EProp, tt.rules.OTTT])
@pytest.mark.parametrize(("frozen", "still"), [([0], [0]), (["readout"], [1]), ([-2], [0]), (["hidden"], [0])])
def test_frozen_layers_keep_their_weights_and_the_others_learn(tmp_path, source, rule, frozen, still):
    run = train(tmp_path, init_from=source, rule=rule, frozen=frozen, updates=2)
    before, after = weights(RunFolder(source)), weights(run.folder)
    assert equal(before, after, still) and not equal(before, after, {0, 1} - set(still))


def test_a_readout_of_another_size_stays_fresh_and_this_is_shown(tmp_path, source):
    run = train(tmp_path, init_from=source, optimizer=STILL, task=Patterns(**PATTERNS | {"outputs": 5}))
    net = NET(12, 5)
    load_checkpoint(run.folder.checkpoint("latest"), net)
    assert equal(net.state_dict(), weights(RunFolder(source)), [0])
    assert run.notes[0].endswith("layer 0; readout is fresh (its weight has the shape (3, 8), here (5, 8))")


def test_a_run_that_started_from_another_resumes_without_it(tmp_path, source):
    shutil.copytree(source, tmp_path / "source")
    options = {"init_from": tmp_path / "source", "init_parts": ["hidden", "readout", "optimizer"]}
    options |= {"updates": 6, "eval_every": 3}
    whole = train(tmp_path, name="whole", **options)
    for at in (1, 4):
        assert train(tmp_path, name=f"cut{at}", listener=stopping(at, "signal"), **options).status == "interrupted"
    shutil.rmtree(tmp_path / "source")
    for at in (1, 4):
        run = train(tmp_path, resume_from=RunFolder(tmp_path / f"cut{at}"), **options)
        assert_same(run, whole)
        assert facts(run)["init"] == facts(whole)["init"]


def test_the_state_of_the_optimizer_is_taken_and_its_settings_are_not(source):
    net = NET(12, 3)
    optimizer = torch.optim.Adam([{"params": list(net.parameters())[:0]}, {"params": []}], lr=0.1)
    with pytest.raises(ValueError, match="trained other parameters"):
        transfer(source, net, parts=["optimizer"], optimizer=optimizer)
    optimizer = torch.optim.Adam(parameter_groups(net), lr=0.1)
    transfer(source, net, parts=["hidden", "optimizer"], optimizer=optimizer)
    states = [optimizer.state[parameter] for parameter in net[0].parameters() if parameter.requires_grad]
    assert states and all(state["step"] == 4 for state in states) and optimizer.param_groups[0]["lr"] == 0.1
    assert net[1].weight not in optimizer.state
    with pytest.raises(ValueError, match="another kind of optimizer"):
        transfer(source, net, parts=["optimizer"], optimizer=torch.optim.SGD(net.parameters(), lr=1.0))


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"network": partial(NET, hidden=[9])}, r"layer 0 of .* does not fit: .* shape \(8, 12\), here \(9, 12\)"),
        ({"network": partial(NET, hidden=[8, 8])}, r"hidden layers is 1 in .*, and 2 here: give network.hidden=\[8\]"),
        (
            {"init_parts": ["hiden"]},
            "init_parts is a list of hidden, readout, optimizer, normalization; got \\['hiden'\\]",
        ),
        ({"init_parts": []}, "init_parts is a list"),
        ({"init_parts": ["normalization"]}, "no statistics of observations"),
        ({"frozen": [2]}, "there is no layer 2; there are 0 to 1, hidden, readout"),
        ({"frozen": ["all"]}, "there is no layer 'all'"),
        ({"frozen": "hidden"}, "frozen is a list"),
        ({"frozen": [0, 1]}, "leaves no parameter to train"),
        ({"init_from": "nowhere"}, "nowhere does not exist: give the folder of a run, or a checkpoint"),
        ({"init_from": "."}, r"\. is not the folder of a run"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, here, source, changes, phrase):
    with pytest.raises(ValueError, match=phrase):
        train(tmp_path, **{"init_from": source} | changes)
    assert not (tmp_path / "run").exists()


def test_statistics_of_observations_are_taken(tmp_path):
    pytest.importorskip("gymnasium")
    net, seen, fresh = (
        NET(12, 3),
        *(tt.tasks.Gym(id="CartPole-v1", num_envs=2, steps=3, seed=seed) for seed in (0, 1)),
    )
    for _ in range(5):
        seen.observe()
        seen.act(torch.tensor([0, 1]))
    optimizer = torch.optim.Adam(net.parameters())
    tt.runs.save_checkpoint(tmp_path / "it.pt", net, optimizer, parts={"task": seen.state_dict()})
    transfer(tmp_path / "it.pt", NET(12, 3), parts=["hidden", "normalization"], task=fresh)
    assert torch.equal(fresh.statistics.mean, seen.statistics.mean) and fresh.statistics.count == seen.statistics.count


def test_weights_that_are_not_finite_are_refused(source, tmp_path):
    net = NET(12, 3)
    load_checkpoint(source / "checkpoints" / "latest.pt", net)
    net[0].weight.data[0, 0] = float("nan")
    tt.runs.save_checkpoint(tmp_path / "bad.pt", net, torch.optim.Adam(net.parameters()))
    with pytest.raises(ValueError, match=r"layer 0: connection\.weight is not finite"):
        transfer(tmp_path / "bad.pt", NET(12, 3))
    with pytest.raises(ValueError, match="leaves no parameter"):
        freeze(net, ["hidden", "readout"])


def test_the_command_line_starts_from_a_run_and_records_it(here):
    ran("run", *CLICKS, "output.dir=one")
    ended = ran("run", *CLICKS, "output.dir=two", "init_from=one", "frozen=[hidden]")
    assert "starts from" in ended.stdout and facts_in(here / "two")["init"]["id"] == facts_in(here / "one")["id"]
    assert facts_in(here / "two")["group"] != facts_in(here / "one")["group"]
    assert "identical to two" in ran("run", "--from", "two", "output.dir=again").stdout
    ran("resume", "one", "train.updates=3")
    said = " ".join(tracetorch("run", "--from", "two", "output.dir=other").stderr.split())
    assert "not identical" in said and "the network of init_from had other weights" in said
    shutil.rmtree(here / "one")
    ran("resume", "two", "train.updates=3")
    ran("eval", "two")
    said = refused("run", *CLICKS, "init_from=one")
    assert "init_from: there is no folder one. Give the folder of a run" in said
    assert "frozen must be a list" in refused("run", *CLICKS, "frozen=0")


def test_hidden_layers_are_those_of_the_other_run_unless_others_are_typed(here):
    from tracetorch.cli.adapter import compose

    tiny = [word for word in CLICKS if not word.startswith("network")]
    shape = ("network.hidden=[5,3]", "network.neuron.decay=[0.8]", "network.neuron.threshold=0.05")
    ran("run", *tiny, *shape, "network.neuron.trainable=[weight]", "output.dir=one")
    assert f"as in one: {', '.join(shape)}\n" in ran("run", *tiny, "init_from=one").stdout
    assert "give network.hidden=[5,3]" in refused("run", *tiny, "init_from=one", "network.hidden=[4]")
    said = refused("run", *tiny, "init_from=one", "task.neurons_per_channel=2")
    assert "the other task has 30 inputs: init_parts=[readout] takes the readout alone" in said

    def network(*typed):
        return compose(["init_from=one", *typed]).config["network"]

    assert network("network.neuron.decay=0.7")["neuron"]["decay"] == 0.7
    assert network("init_parts=[readout]")["neuron"]["decay"] != [0.8] == network("network=lif_lif")["neuron"]["decay"]
    assert "weight" in network()["neuron"]["trainable"] != ["weight"]
    path = here / "one" / "config.yaml"
    for target, kind in (("tracetorch.nn.LI", "tracetorch.nn.LI"), ("os.system", "tracetorch.nn.LIF")):
        config = yaml.safe_load(path.read_text())
        config["network"]["neuron"] = {"_target_": target, "_partial_": True, "decay": 0.6}
        path.write_text(yaml.safe_dump(config))
        assert network()["neuron"]["_target_"] == kind
    assert "'os.system', which is not trusted" in compose(["init_from=one"]).notes[0]
    path.write_text("network: [")
    assert network()["hidden"] == [64]


def test_the_keys_do_not_change_the_identity_of_runs_without_them():
    config = {"task": {"a": 1}, "train": {"b": 2}}
    more = {"init_from": None, "init_parts": ["hidden", "readout"], "frozen": []}
    assert experiment_of(config | more, {}, seeds=True) == experiment_of(config, {}, seeds=True)
    assert experiment_of(config | more | {"init_from": "null"}, {}, seeds=True) == experiment_of(config, {}, seeds=True)
    assert experiment_of(config | more | {"frozen": [0]}, {}, seeds=True) != experiment_of(config, {}, seeds=True)
