"""Changes to the values of a config: what Hydra makes of them, made without composing again."""

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from tracetorch.cli.adapter import compose, conf_dir
from tracetorch.cli.errors import UsageError


@pytest.mark.parametrize(
    "typed",
    [
        "++optimizer.lr=0.3 ++optimizer.fused=true optimizer.lr=0.1 optimizer.lr=0.2 ~task.noise",
        "~optimizer.lr=0.002 +optimizer.lr=1 network.neuron={decay:0.5} network.hidden=[1,2] network.hidden.0=3",
        "+network.neuron={decay:0.5,more:[1]} +network.hidden=[1,2,3] ~optimizer.lr",
        "++network.neuron={more:0.5} +x.y.z=1 x.y.z=2 ~x.y",
        "+x={a:{b:1}} +x={a:{c:2}} ++y=null +y=3 +seed.x=3",
        "optimizer.lr=${seed} seed=3",
        "task=mnist rule=bptt ++task.seed=7 device=null",
    ],
)
def test_a_changed_config_is_the_one_that_hydra_composes(typed):
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        wanted = OmegaConf.to_container(hydra_compose("config", overrides=typed.split()), resolve=True)
    found = compose(typed.split()).config
    assert found == wanted and list(found) == list(wanted)


@pytest.mark.parametrize(
    ("typed", "phrase"),
    [
        ("+optimizer.lr=0.3", "there is a value for optimizer.lr already; write optimizer.lr=0.3"),
        ("~optimizer.lr=0.1", "~optimizer.lr=0.1: optimizer.lr is 0.002; write ~optimizer.lr"),
        ("seed.x=3", "seed.x: seed is a value (0) and has no parts"),
        ("network.neuron={decya:0.5}", "network.neuron has no 'decya'. Did you mean 'decay'?"),
        ("seed@x=1", "seed@x=1: seed is not a config group"),
        ("search=x", "makes many runs: tracetorch tune search=x"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(typed, phrase):
    with pytest.raises(UsageError) as told:
        compose(typed.split())
    assert phrase in str(told.value) and "\n" not in str(told.value)
