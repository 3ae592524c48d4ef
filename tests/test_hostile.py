"""What people type wrong: every row ends as one sentence that names the culprit, and as nothing on disk."""

import gzip
import json
import re

import pytest
import yaml

from tests.command_line import CLICKS, DIGITS, tracetorch
from tests.idx_files import NAMES

LONG = "x" * 20_000

# what is typed after the overrides that make a run tiny; the exit code; a pattern that the sentence must match
CLICK_ROWS = [
    # keys that there are not
    ("bogus=1", 2, "bogus: there is no key 'bogus'.* there are task, network, rule"),
    ("tsk.gamma=[1]", 2, "Did you mean 'task'"),
    ("task.gama=[1]", 2, "task.gama: there is no key 'gama'. Did you mean 'task.gamma'"),
    ("network.readout.threshold=1", 2, "network.readout has decay"),
    ("output.dri=x", 2, "Did you mean 'output.dir'"),
    ("optimizer.momentum=0.9", 2, "It belongs to optimizer=sgd"),
    ("optimizer.learning_rate=1", 2, "optimizer has lr"),
    ("task.gamma.low=1", 2, "task.gamma is a value"),
    ("+task.gamma2=1", 2, "PoissonClicks takes no 'gamma2'. Did you mean 'gamma'"),
    ("+network.readout.threshold=1", 2, "LIS takes no 'threshold'"),
    ("+foo=1", 2, "foo"),
    ("rule.foo=1", 2, r"rule.foo: there is no key 'foo'\.(?! Here rule has \.)"),
    ("hydra.run.dir=x", 2, "hydra"),
    # choices that there are not
    ("task=poison_clicks", 2, "task=poison_clicks: there is no such task. Did you mean 'poisson_clicks'"),
    ("optimizer=adm", 2, "Did you mean 'adam'.* There are: adam, adamw, sgd"),
    ("train.epochs=3", 2, "there is no key 'epochs'. Did you mean 'train.passes'"),
    ("network.layers=[3]", 2, "there is no key 'layers'. Did you mean 'network.hidden'"),
    ("rule=nothing", 2, "there is no such rule.*trace"),
    ("task=", 2, "task=: there is no such task. There are: .*mnist"),
    ("task=null", 2, "tracetorch: task=null: "),
    ("task=1", 2, "tracetorch: task=1: "),
    ("+experiment=mnist", 2, "experiment=mnist(?!')"),
    # groups and keys taken away
    ("~loss", 2, "loss is missing from the config; choose one with loss="),
    ("~output", 2, "output.root is missing from the config"),
    ("~network", 2, "network"),
    ("~network.neuron", 2, "network: .*missing.*neuron"),
    ("~task._target_", 2, "task.*_target_"),
    ("~seed", 2, "seed"),
    # values of the wrong kind
    ("seed=abc", 2, "seed must be a whole number, got 'abc'"),
    ("seed=1.5", 2, "seed must be a whole number, got 1.5"),
    ("device=3", 2, "device must be a string, got 3"),
    ("threads=0", 2, "threads must be null or between 1 and the .*, got 0"),
    ("threads=1000000", 2, "threads must be null or between 1 and the .* of this machine"),
    ("train.learn_every=5 train.update_every=often", 2, "train.update_every must be a whole number or moment or null"),
    ("optimizer.lr=fast", 2, "optimizer.lr must be a number, got 'fast'.\\n"),
    ("optimizer.lr=[0.1]", 2, "optimizer.lr must be a number, got \\[0.1\\]."),
    ("threads=many", 2, "threads must be a whole number or null, got 'many'"),
    ("train.precision=float16", 2, "train.precision must be .*float32.*bfloat16"),
    (
        "train.precision=bfloat16 rule=bptt",
        2,
        "train.precision=bfloat16 needs rule=trace or three_factor: BPTT computes",
    ),
    ("rule=tbptt rule.k=2.5", 2, "rule.k must be a whole number, got 2.5"),
    ("network.neuron.trace_bank=0.9", 2, "network.neuron.trace_bank"),
    (
        "network.readout.decay=[0.9,0.8] rule=eprop",
        2,
        "needs a single one, got 2: give network.readout.decay one number",
    ),
    ("task.delay=soon", 2, "delay must be a number, a list of numbers or a range such as .*, got 'soon'"),
    ("task.batch_size=true", 2, "task.batch_size must be a whole number, got true"),
    ("task.stereo_click=1", 2, "task.stereo_click must be true or false, got 1"),
    ("task.gamma=0.5", 2, "task.gamma must be a list of numbers or a .*range"),
    ("network.hidden=64", 2, r"must be a list of whole numbers, got 64\. Write network\.hidden=\[64\]\."),
    ("network.neuron.decay=slow", 2, "network.neuron.decay must be a number or a list of numbers, got 'slow'"),
    ("network.neuron.trainable=weight", 2, "network.neuron.trainable must be a list of strings"),
    ("network.neuron=3", 2, "network.neuron(?!.*not callable)"),
    ("network.readout=null", 2, "network.readout(?!.*not callable)"),
    ("optimizer.lr=abc", 2, "optimizer.lr|optimizer: lr"),
    ("optimizer.betas=[0.9]", 2, "betas"),
    ("loss.floor=low", 2, "loss.floor must be a number"),
    ("train.schedule=cos", 2, "train.schedule must be one of none, linear, cosine, got 'cos'"),
    ("train.figures=maybe", 2, "train.figures must be true or false, got 'maybe'"),
    ("output.dir=3", 2, "output.dir must be"),
    ("output.root=null", 2, "output.root must be"),
    ("task._target_=3", 2, "task._target_"),
    ("task._target_=tracetorch.tasks.Nope", 2, "task.*there is no 'tracetorch.tasks.Nope'"),
    ("train._partial_=false", 2, "train"),
    # values out of range
    ("seed=99999999999999999999999", 2, "seed"),
    ("device=gpu", 2, "device=gpu is not a device: use auto, cpu, cuda"),
    ("device=cuda:99", 2, "device=cuda:99: .*(sees no CUDA GPU|this machine has)"),
    ("task.delay=-1", 2, "task: delay must be at least 0, got -1"),
    ("task.delay=inf", 2, "delay must be"),
    ("task.cue=-1", 2, "cue must be"),
    ("network.neuron.decay=1", 2, "a decay must be between 0 and 1"),
    ("network.neuron.threshold=-1", 2, "a threshold must be a finite number above 0"),
    ("network.neuron.rate_map=linear", 2, "rate_map must be one of line, logistic"),
    ("network.neuron.trainable=[wieght]", 2, "did you mean 'weight'"),
    ("optimizer.lr=-1", 2, "optimizer: .*learning rate: -1"),
    ("loss.floor=-1", 2, "floor"),
    ("train.updates=0", 2, "train.updates must be at least 1, got 0"),
    ("train.updates=null", 2, "train.updates and train.passes are both null: give one of them"),
    ("train.updates=null train.passes=1", 2, "PoissonClicks never end; give train.updates, and train.passes=null"),
    ("train.log_every=0", 2, "log_every"),
    ("train.learn_every=-1", 2, "learn_every"),
    ("train.window=1000", 2, "window"),
    # what cannot be read
    ("seed", 2, "'seed' sets nothing: write key=value, such as seed=1"),
    ("=1", 2, "tracetorch: '?=1"),
    ("", 2, "sets nothing"),
    ("task.gamma=[1,2", 2, "task.gamma: the value .* cannot be read; quote it twice"),
    ("output.dir=grün", 2, "output.dir: the value 'grün' cannot be read; quote it twice"),
    ("bo\ngus=1", 2, "bo.*gus"),
    ("output.dir='\udcff'", 2, "output.dir"),
    ("seed=${nope}", 2, "seed: .*nope"),
    ("seed=${seed}", 2, "seed: Recursive"),
    ("seed=???", 2, "seed: .*[Mm]issing"),
    (f"{LONG}=1", 2, "there is no key 'xxxx"),
    (f"task.label={LONG}", 2, "label must be one of side, count"),
    (f"output.dir={LONG}", 2, "cannot write to .*: File name too long"),
    # sweeps
    ("seed=1,2", 2, "'seed=1,2' is a sweep over several values: tracetorch run -m seed=1,2"),
    ("seed=range(3)", 2, r"is a sweep over several values(?!.*\[range)"),
    # places
    ("output.dir=taken", 2, "output.dir=taken exists already; name another folder, or remove it first"),
    ("output.dir=taken/precious/x", 2, "cannot write to taken/precious/x: Not a directory; choose another output"),
    ("output.dir=/dev/null/x", 2, "cannot write to /dev/null/x: Not a directory"),
    ("output.dir='sp ace'  seed=x", 2, "seed must be"),
    # training that cannot go on
    ("network.neuron.threshold=1e6", 1, r"layer 0 \(LIF\(30, 4\)\) is silent: .* lower its threshold"),
    ("network.hidden=[4,5] optimizer.lr=1e30 train.updates=3 train.log_every=1", 1, r"layer \d \(LIF\(.*lower optim"),
    ("optimizer.lr=1e99", 1, r"update 1: the optimizer Adam cannot take its step: .*; lower optimizer.lr"),
    ("task.total_rate=0 task.cue_rate=0", 1, "the input is silent: .* look at the task's rates"),
]
DIGIT_ROWS = [
    ("task.source=nowhere", 2, "source=nowhere: there is no such folder; .*source=download or source=sample"),
    ("task.source=taken", 2, "taken holds no train-images-idx3-ubyte.gz and no train-images-idx3-ubyte"),
    ("task.source=halves", 2, "halves/train-images-idx3-ubyte.gz is damaged or cut short .*; fetch it again"),
    ("task.source=null", 2, "task.source must be a string, got null"),
    (f"task.source={LONG}", 2, "source"),
    ("task.gamma=[1]", 2, "It belongs to task=delayed_clicks and task=poisson_clicks"),
    ("task=patterns", 2, "task.source: tracetorch.tasks.Patterns takes no 'source'"),
    (
        "train.passes=2",
        2,
        "both set: add train.passes=null to train for 2 updates, or train.updates=null to train for 2 p",
    ),
    ("train.updates=null train.passes=nan", 2, "passes"),
    ("train.updates=null train.passes=inf", 2, "passes"),
    ("train.updates=null train.passes=0.0001", 2, "must make at least 1 update"),
    ("optimizer.lr=1e30 train.updates=3 train.log_every=1", 1, r"layer \d \(LI.*lower optimizer.lr"),
]
VERB_ROWS = [
    (("show", "bogus=1"), "bogus: there is no key"),
    (("show", "task.cue=x"), "task.cue must be a number"),
    (("list", "expriment"), "unknown group 'expriment'. Did you mean 'experiment'"),
    (("plot", "nowhere"), "there is no folder nowhere"),
    (("plot", "taken"), "taken is not a run folder"),
    (("plot", "bare"), "there is no checkpoint bare"),
    (("plot", "broken"), "broken/config.yaml is not valid YAML"),
    (("plot", "listed"), "listed/config.yaml is not a config"),
    (("plot", "evil"), "evil/config.yaml: task calls 'os.system', which is not trusted"),
]


@pytest.fixture(scope="module")
def shown():
    return yaml.safe_load(tracetorch("show", *CLICKS).stdout)


@pytest.fixture
def here(tmp_path, monkeypatch, shown):
    """A folder full of traps, and in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").write_text("keep")
    (tmp_path / "halves").mkdir()
    for name in NAMES:
        sizes = [250] if "labels" in name else [250, 1, 1]
        whole = bytes([0, 0, 8, len(sizes)]) + b"".join(n.to_bytes(4, "big") for n in sizes) + bytes(range(250))
        (tmp_path / "halves" / f"{name}.gz").write_bytes(gzip.compress(whole)[:60])
    configs = {"bare": shown, "listed": [1], "evil": {**shown, "task": {"_target_": "os.system", "command": "true"}}}
    for name, config in configs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("a: [1\nb: }")
    return tmp_path


def everything(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def refused(folder, words, code, phrase):
    before = everything(folder)
    result = tracetorch(*words)
    length, sentence = len(result.stderr), result.stderr[:2000]
    assert result.exit_code == code, f"{result.exit_code}: {sentence[:300]}"
    assert length < 600, f"{length} letters: {sentence[:300]}"
    assert sentence.startswith("tracetorch: ") and sentence.count("\n") == 1 and sentence.endswith("\n"), sentence
    assert re.search(phrase, sentence), sentence
    assert not re.search("Traceback|should not have happened|Error:|unexpected keyword", sentence), sentence
    left = everything(folder) - before
    if code == 2:
        assert left == set()
    else:
        (told,) = [path for path in left if path.endswith("run.json")]
        assert json.loads((folder / told).read_text())["status"] == "failed"


def named(rows):
    return pytest.mark.parametrize(("typed", "code", "phrase"), rows, ids=[row[0][:50] or "(empty)" for row in rows])


def words(typed):
    return typed.split("  ") if "  " in typed else typed.split(" ")


@named(CLICK_ROWS)
def test_a_wrong_override_is_told_in_one_sentence(here, typed, code, phrase):
    refused(here, ("run", *CLICKS, *words(typed)), code, phrase)


@named(DIGIT_ROWS)
def test_a_wrong_override_of_another_task_is_told_too(here, typed, code, phrase):
    refused(here, ("run", *DIGITS, *words(typed)), code, phrase)


@pytest.mark.parametrize(("typed", "phrase"), VERB_ROWS, ids=[" ".join(row[0]) for row in VERB_ROWS])
def test_the_other_verbs_do_the_same(here, typed, phrase):
    refused(here, typed, 2, phrase)
