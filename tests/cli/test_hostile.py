"""What people type wrong: every row ends as one sentence that names the culprit, and as nothing on disk."""

import gzip
import re

import pytest

from tests.command_line import CLICKS, DIGITS, refused
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
    ("diagnostics=gradiant", r"no such diagnostics\. Did you mean 'gradient'\? There are: gradient, none\."),
    ("diagnostics.every=3", "It belongs to diagnostics=gradient"),
    ("diagnostics=gradient diagnostics.every=often", "diagnostics.every must be a whole number, got 'often'"),
    ("diagnostics=gradient diagnostics.every=0", "diagnostics: every must be at least 1, got 0"),
    ("diagnostics=gradient diagnostics.surrogate=step", "diagnostics: surrogate must be one of fast_sigmoid"),
]
DIGIT_ROWS = [
    (f"task.source={LONG}", "source"),
    ("train.updates=null train.passes=-1", "train.passes must be above 0 and finite, got -1"),
    ("task.source=nowhere", "source=nowhere: there is no such folder; .*source=download or source=sample"),
    ("task.source=halves", "halves/train-images-idx3-ubyte.gz is damaged or cut short .*; fetch it again"),
    ("train.passes=2", "add train.passes=null to train for 2 updates, or train.updates=null to train for 2 passes"),
    ("train.updates=null train.passes=0.0001", "must make at least 1 update"),
]
ROWS = [*((CLICKS, *row) for row in CLICK_ROWS), *((DIGITS, *row) for row in DIGIT_ROWS)]


@pytest.fixture
def halves(here):
    """The working directory, and in it a folder of digits that are cut short."""
    (here / "halves").mkdir()
    for name in NAMES:
        sizes = [250] if "labels" in name else [250, 1, 1]
        whole = bytes([0, 0, 8, len(sizes)]) + b"".join(n.to_bytes(4, "big") for n in sizes) + bytes(range(250))
        (here / "halves" / f"{name}.gz").write_bytes(gzip.compress(whole)[:60])


@pytest.mark.parametrize(("tiny", "typed", "phrase"), ROWS, ids=[typed[:50] or "(empty)" for _, typed, _ in ROWS])
def test_a_wrong_word_is_refused_in_one_sentence(halves, tiny, typed, phrase):
    sentence = refused("run", *tiny, *typed.split(" "))
    assert len(sentence) < 600, f"{len(sentence)} letters: {sentence[:300]}"
    assert re.search(phrase, sentence), sentence
    assert not re.search("Traceback|should not have happened|Error:|unexpected keyword", sentence), sentence
