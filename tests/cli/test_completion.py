"""What could be typed next, below the shells: a line goes into the environment, offers come out on stdout."""

import subprocess
import sys

import pytest

from tests.command_line import app, tracetorch
from tracetorch.cli.adapter import GROUPS, compose, options
from tracetorch.cli.check import check
from tracetorch.cli.completion import lead, split_line
from tracetorch.cli.completion.changes import changes, keys
from tracetorch.cli.main import start

VERBS = [command.name for command in app.registered_commands]


@pytest.fixture
def ask(monkeypatch, capsys):
    """Call with a line up to the cursor, without the program; returns the fields of each line of the answer."""

    def answered(line, word=None):
        with monkeypatch.context() as patch:
            patch.setenv("_TRACETORCH_COMPLETE", "complete")
            patch.setenv("_TRACETORCH_COMPLETE_LINE", f"tracetorch {line}")
            if word is not None:
                patch.setenv("_TRACETORCH_COMPLETE_WORD", word)
            start()
        said = capsys.readouterr()
        assert said.err == ""
        return [tuple(row.split("\x1f")) for row in said.out.splitlines()]

    return answered


def test_verbs_options_and_choices_are_offered_with_descriptions(ask):
    rows = ask("")
    assert [value for _, value, _ in rows] == VERBS
    assert all(kind == "word" and len(remark) > 10 for kind, _, remark in rows)
    for verb in VERBS:
        offered = {value for _, value, _ in ask(f"{verb} --")}
        assert {"--help", "--traceback"} <= offered, verb
        help_text = tracetorch(verb, "--help").output
        assert all(option in help_text for option in offered), verb
    for group in GROUPS:
        rows = ask(f"run {group}=")
        assert [value for _, value, _ in rows] == [f"{group}={choice}" for choice in options(group)]
        assert all(len(remark) > 15 for _, _, remark in rows), group


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        ("ru", "run runs"),
        ("--he", "--help"),
        ("list task ", ""),
        ("list opt", "optimizer"),
        ("plot --nope=outp", ""),
        ("plot --traceback=outp", ""),
        ("completion ", "bash zsh fish"),
        ("run --mul", "--multirun"),
        ("eval --checkpoint ", "latest best"),
        ("eval --checkpoint=la", "--checkpoint=latest"),
        ("compare x --by optimizer.l", "optimizer.lr"),
        # choices of a group
        ("show experiment=mn", "experiment=mnist experiment=mnist_sample"),
        ("run -m task=patterns,s", "task=patterns,sequential_mnist task=patterns,shd task=patterns,store_recall"),
        ("run --multirun loss=mse,reflect,a", "loss=mse,reflect,actor_critic"),
        ("run task=patterns,mn", ""),  # several values are for sweeps
        ("run -m sweep=r", "sweep=rules"),
        ("run sweep=r", ""),
        # keys
        ("run opt", "optimizer= optimizer."),
        ("run optimizer=sgd optimizer.mom", "optimizer.momentum="),
        ("run -m experiment=mnist,patterns seed=0,1,2 task.enc", "task.encoding="),
        ("run rule.", ""),  # it has no settings
        ("run ~optimizer.l", "~optimizer.lr"),
        ("run ++optimizer.l", "++optimizer.lr="),
        # values
        ("run train.schedule=", "train.schedule=none train.schedule=linear train.schedule=cosine"),
        ("run -m train.schedule=none,", "train.schedule=none,linear train.schedule=none,cosine"),
        ("run +optimizer.amsgrad=", "+optimizer.amsgrad=true +optimizer.amsgrad=false"),
        # quotes, and mistakes before the word
        ("run 'network.hidden=[1, 2]' device=a", "device=auto"),
        ("run dev\\ice=a", "device=auto"),
        ("run bogus=1 =x seed= device=a", "device=auto"),
        ("nope ", ""),
        ("run --nope=", ""),
    ],
)
def test_words_are_offered(ask, line, offers):
    assert {value for _, value, _ in ask(line)} == set(offers.split())


def test_the_figures_of_a_run_are_offered(ask, here):
    (here / "plots").mkdir()
    for name in ("raster.png", "raster.svg", "raster_layer1_trial0.png", "confusion.png"):
        (here / "plots" / name).touch()
    assert [value for _, value, _ in ask("plot . --figure ")] == ["confusion", "raster"]
    assert [value for _, value, _ in ask("plot . --figure raster,")] == ["raster,confusion"]
    assert [value for _, value, _ in ask("plot . --figure=co")] == ["--figure=confusion"]
    assert "learning" in [value for _, value, _ in ask("plot nowhere --figure l")]
    assert [value for _, value, _ in ask("plot . --format ")] == ["png", "svg", "pdf"]


def test_folders_are_left_to_the_shell(ask):
    for line, path, before in (
        ("plot outp", "outp", ""),
        ("compare a b", "b", ""),
        ("compare --out=a/b", "a/b", "--out="),
        ("run output.root=my\\ runs/x", "my runs/x", "output.root="),
        ("run bogus=1 'output.dir=my ru", "my ru", "output.dir="),
    ):
        assert ask(line) == [("folder", path, before)]


def test_a_run_offers_its_own_keys_and_nothing_harmful(ask, here):
    (here / "config.yaml").write_text(tracetorch("show", "experiment=mnist_sample").stdout)
    assert [value for _, value, _ in ask("eval . task.enc")] == ["task.encoding="]
    assert [value for _, value, _ in ask("eval . network.neuron.bias=t")] == ["network.neuron.bias=true"]
    assert ask("eval . task=") == ask("eval . exp") == ask("eval nowhere task.enc") == []
    assert ask("eval . train.schedule=none,") == []  # which would be a sweep
    (here / "config.yaml").write_text('{"$(touch x)": 1, "a b": 1, ";": {"x": 1}, fine: "\\e[2J\\n\\x1fx"}')
    assert ask("eval . ") == [("key", "fine=", "\N{REPLACEMENT CHARACTER}[2J x")]


def offered(stem, config):
    """All keys that are offered, level by level."""
    for offer in keys(stem, config):
        yield from offered(offer.value, config) if offer.value.endswith(".") else (offer.value,)


@pytest.mark.parametrize("experiment", ["poisson_clicks", "cartpole", "clicks_lifetime"])
def test_all_keys_of_a_config_are_offered_level_by_level(experiment):
    config = compose([f"experiment={experiment}"]).config

    def leaves(node, stem):
        for name, value in node.items():
            if not name.startswith("_"):
                yield from leaves(value, f"{stem}{name}.") if isinstance(value, dict) else (f"{stem}{name}=",)

    assert list(offered("", config)) == list(leaves(config, ""))


def test_offered_values_pass_the_checks():
    config = compose([]).config
    offers = [changes(key, lambda: config, (), False) for key in offered("", config)]
    listed = list(filter(None, ([one.value for one in some if one.type == "plain"] for some in offers)))
    assert {"device=cpu", "train.figures=true", "train.schedule=cosine"} < {word for words in listed for word in words}
    for at in (0, -1):
        check(compose([words[at] for words in listed]).config)


def test_readline_replaces_only_the_end_of_a_word(ask):
    for incomplete, word, kept in (
        ("experiment=mn", "mn", "experiment="),
        ("device=cuda:0", "0", "device=cuda:"),
        ("experiment=mn", "experiment=mn", ""),
        ("output.dir=my runs", "my\\ runs", "output.dir="),
        ("output.dir=my runs", "output.dir=my runs", ""),  # readline's word inside of quotes
        ("a", "b", ""),
    ):
        assert lead(incomplete, word) == kept
    assert ask("run device=a", "a") == [("lead", "device=", ""), ("word", "device=auto", "")]


def test_a_line_is_split_into_words():
    for line, typed, incomplete in (
        ("tracetorch run a ", ["run", "a"], ""),
        ("tracetorch", [], "tracetorch"),
        ("", [], ""),
        ("A=1 B=2 bin/tracetorch run a", ["run"], "a"),
        ("tracetorch run 'a b' \"c d", ["run", "a b"], "c d"),
        ("tracetorch run a\\ b\\", ["run"], "a b"),
        ("tracetorch run # a", ["run", "#"], "a"),
    ):
        assert split_line(line) == (typed, incomplete)


def test_completing_loads_no_torch_and_writes_nothing(here):
    lines = ["", "run optimizer.", "run train.schedule=", "run +optimizer.amsgrad=", "plot ", "run output.root=a"]
    script = (
        "import os, sys\n"
        "from tracetorch.cli.main import start\n"
        "os.environ['_TRACETORCH_COMPLETE'] = 'complete'\n"
        "for line in sys.argv[1:]:\n"
        "    os.environ['_TRACETORCH_COMPLETE_LINE'] = f'tracetorch {line}'\n"
        "    start()\n"
        "    print('-')\n"
        "assert not {'torch', 'numba', 'numpy', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *lines], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    answers = done.stdout.split("-\n")
    assert len(answers) == len(lines) + 1 and all(answers[:-1])
    assert list(here.iterdir()) == []
