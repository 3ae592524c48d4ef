"""What people type wrong: every row ends as one sentence that names the culprit, and as nothing on disk."""

import gzip
import json
import re

import pytest
import yaml

from tests.command_line import CLICKS, DIGITS, tracetorch
from tests.idx_files import NAMES

LONG = "x" * 20_000

# what is typed after the overrides that make a run tiny, and a pattern that the sentence must match
CLICK_ROWS = [
    ("output.dir='\udcff'", "output.dir"),
    ("task=1", "tracetorch: task=1: choose by name"),
    ("+foo=1", "foo: a config has no such key"),
    ("~output", "output.root is missing from the config"),
    ("seed=99999999999999999999999", "seed must fit into 64 bits"),
    ("train._partial_=false", "train._partial_ must be true, got False"),
    ("output.dir=/dev/null/x", "cannot write to /dev/null/x: Not a directory; choose another output"),
    ("loss.floor=-1", "floor must lie between 0 and 1"),
    ("~task._target_", "task has no _target_"),
    ("network.neuron=3", "network.neuron(?!.*not callable)"),
    ("network.readout.trainable=[weight,threshold]", r"'threshold'; .*; type network\.readout\.trainable=\[weight\]"),
    ("train.precision=bfloat16 rule=bptt", "train.precision=bfloat16 needs rule=trace or three_factor: BPTT computes"),
    ("bogus=1", "bogus: there is no key 'bogus'.* there are task, network, rule"),
    ("rule.foo=1", r"rule.foo: there is no key 'foo'\.(?! Here rule has \.)"),
    ("task=poison_clicks", "task=poison_clicks: there is no such task. Did you mean 'poisson_clicks'"),
    ("task=", "task=: there is no such task. There are: .*mnist"),
    ("~loss", "loss is missing from the config; choose one with loss="),
    ("threads=1000000", "threads must be null or between 1 and the .* of this machine"),
    ("train.learn_every=5 train.update_every=often", "train.update_every must be a whole number or moment or null"),
    ("task.batch_size=true", "task.batch_size must be a whole number, got true"),
    ("task.stereo_click=1", "task.stereo_click must be true or false, got 1"),
    ("network.hidden=64", r"must be a list of whole numbers, got 64\. Write network\.hidden=\[64\]\."),
    ("task._target_=tracetorch.tasks.Nope", "task.*there is no 'tracetorch.tasks.Nope'"),
    ("device=gpu", "device=gpu is not a device: use auto, cpu, cuda"),
    ("device=cuda:99", "device=cuda:99: .*(sees no CUDA GPU|this machine has)"),
    ("train.updates=null", "train.updates and train.passes are both null: give one of them"),
    ("seed", "'seed' sets nothing: write key=value, such as seed=1"),
    ("=1", "tracetorch: '?=1"),
    ("", "sets nothing"),
    ("task.gamma=[1,2", "task.gamma: the value .* cannot be read; quote it twice"),
    ("seed=${nope}", "seed: .*nope"),
    (f"{LONG}=1", "there is no key 'xxxx"),
    (f"output.dir={LONG}", "cannot write to .*: File name too long"),
]
DIGIT_ROWS = [
    (f"task.source={LONG}", "source"),
    ("train.updates=null train.passes=-1", "train.passes must be above 0 and finite, got -1"),
    ("task.source=nowhere", "source=nowhere: there is no such folder; .*source=download or source=sample"),
    ("task.source=halves", "halves/train-images-idx3-ubyte.gz is damaged or cut short .*; fetch it again"),
    ("train.passes=2", "add train.passes=null to train for 2 updates, or train.updates=null to train for 2 passes"),
    ("train.updates=null train.passes=0.0001", "must give at least 1 update"),
]
VERB_ROWS = [
    ("list expriment", "unknown group 'expriment'. Did you mean 'experiment'"),
    ("plot evil", "evil/config.yaml: task calls 'os.system', which is not trusted"),
]
DEAD_ROWS = [  # training that cannot go on
    ("network.neuron.threshold=1e6", r"layer 0 \(LIF\(30, 4\)\) is silent: .* lower its threshold"),
]


@pytest.fixture(scope="module")
def shown():
    return yaml.safe_load(tracetorch("show", *CLICKS).stdout)


@pytest.fixture
def traps(here, shown):
    """A folder full of traps, and in it."""
    (here / "taken").mkdir()
    (here / "taken" / "precious").write_text("keep")
    (here / "halves").mkdir()
    for name in NAMES:
        sizes = [250] if "labels" in name else [250, 1, 1]
        whole = bytes([0, 0, 8, len(sizes)]) + b"".join(n.to_bytes(4, "big") for n in sizes) + bytes(range(250))
        (here / "halves" / f"{name}.gz").write_bytes(gzip.compress(whole)[:60])
    evil = {**shown, "task": {"_target_": "os.system", "command": "true"}}
    (here / "evil").mkdir()
    (here / "evil" / "config.yaml").write_text(yaml.safe_dump(evil))
    return here


@pytest.mark.parametrize(
    ("words", "phrase", "code"),
    [
        *((("run", *CLICKS, *typed.split(" ")), phrase, 2) for typed, phrase in CLICK_ROWS),
        *((("run", *DIGITS, *typed.split(" ")), phrase, 2) for typed, phrase in DIGIT_ROWS),
        *((typed.split(" "), phrase, 2) for typed, phrase in VERB_ROWS),
        *((("run", *CLICKS, *typed.split(" ")), phrase, 1) for typed, phrase in DEAD_ROWS),
    ],
    ids=[row[0][:50] or "(empty)" for row in (*CLICK_ROWS, *DIGIT_ROWS, *VERB_ROWS, *DEAD_ROWS)],
)
def test_what_is_typed_wrong_is_told_in_one_sentence(traps, words, phrase, code):
    before = set(traps.rglob("*"))
    result = tracetorch(*words)
    sentence = result.stderr
    assert result.exit_code == code, f"{result.exit_code}: {sentence[:300]}"
    assert len(sentence) < 600, f"{len(sentence)} letters: {sentence[:300]}"
    assert sentence.startswith("tracetorch: ") and sentence.count("\n") == 1 and sentence.endswith("\n"), sentence
    assert re.search(phrase, sentence), sentence
    assert not re.search("Traceback|should not have happened|Error:|unexpected keyword", sentence), sentence
    left = set(traps.rglob("*")) - before
    statuses = [json.loads(path.read_text())["status"] for path in left if path.name == "run.json"]
    assert statuses == ["failed"] if code == 1 else left == set()
