"""Searches: the files in `conf/search/`, changes to them, and the messages for mistakes in either."""

import json
import re
import shlex

import pytest
import yaml

from tests.cli.test_configs import header
from tests.command_line import CLICKS, TINY, refused
from tests.test_docs import ROOT, commands
from tracetorch.cli.adapter import compose, conf_dir, parse, quote_value
from tracetorch.cli.errors import UsageError
from tracetorch.cli.tuning.search import Choices, Range, parameter, read_search, search_from, split_search
from tracetorch.cli.tuning.validate import Composer, validate


def prepared(*words: str):
    search_lines, overrides = split_search([*CLICKS, *words])
    return validate(read_search(search_lines), Composer(overrides, None, []))


def test_each_file_has_a_header_whose_commands_work(here):
    found = sorted((conf_dir() / "search").glob("*.yaml"))
    assert found
    for path in found:
        what, run, override = header(path)[:3]
        assert len(what) > 15 and re.search("[.:?]", what), path
        assert run == f"Run:       tracetorch tune search={path.stem}", path
        words = shlex.split(override)[1:]
        assert words[:3] == ["tracetorch", "tune", f"search={path.stem}"] and len(words) > 3, path
        prepared(words[2])
        prepared(*words[2:])
        (here / "mine.yaml").write_text(path.read_text(encoding="utf-8"))
        assert read_search(["search=mine.yaml"]) == read_search([words[2]])


def test_the_searches_of_the_document_pass_the_checks():
    path = ROOT / "docs" / "tune.md"
    typed = [[word for word in words if "=" in word and word[0] != "-"] for _, *words in commands(path)]
    named = [words for words in typed if any(word.startswith("search=") for word in words)]
    assert len(named) > 2
    for words in named:
        if "search=mine.yaml" not in words:
            prepared(*words)
    (block,) = re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    validate(search_from(yaml.safe_load(block)), Composer(list(TINY), None, []))


def test_a_quoted_value_is_read_as_that_value():
    strings = ["adam", "null", "True", "0.1..1.2", "it's", "a\\b", ""]
    for value in [None, True, 3, -2, 1e-05, 0.1, 1e30, *strings, [1, [2.5]], {"a": 1, "b": "c d"}, ["x", None]]:
        read_again = parse(f"key={quote_value(value)}").value()
        assert read_again == value and type(read_again) is type(value)
    assert parse(f"key={quote_value('${x}')}").value() == "\\${x}"  # OmegaConf removes the backslash


def test_typed_words_change_the_space_of_a_search(here):
    for change, expected in [
        ("search.trials=3", Range(1e-4, 0.3, log=True)),
        ("search.space.optimizer.lr.high=1", Range(1e-4, 1, log=True)),
        ("search.space.optimizer.lr.log=false", Range(1e-4, 0.3)),
        ("search.space.optimizer.lr={low: 0.1, high: 0.5, step: 0.1}", Range(0.1, 0.5, step=0.1)),
        ("search.space.optimizer.lr={choices: [0.1, 0.2]}", Choices((0.1, 0.2))),
    ]:
        assert read_search(["search=learning_rate", change]).space == {"optimizer.lr": expected}
    found = read_search(
        ["search=learning_rate", "search.trials=3", "search.metric=loss", "search.direction=minimize",
         "search.pruner=none", "search.space.train.learn_every={low: 1, high: 9}", "~search.space.optimizer.lr"]
    )  # fmt: skip
    assert (found.trials, found.metric, found.direction, found.pruner) == (3, "loss", "minimize", "none")
    assert list(found.space) == ["train.learn_every"]
    assert search_from(json.loads(json.dumps(found.content()))) == found
    (here / "mine.yaml").write_text("space: {optimizer.lr: {low: 1e-4, high: 1e-1, log: true}}\n")  # text in YAML 1.1
    assert read_search(["search=mine.yaml"]).space == {"optimizer.lr": Range(1e-4, 0.1, log=True)}
    assert parameter("x", {"low": 1, "high": 1}) == Range(1, 1)
    assert parameter("x", {"low": 0.1, "high": 0.7, "step": 0.1}).step == 0.1  # 0.6/0.1 is below 6 in floats


def test_whole_numbers_are_searched_where_the_key_takes_no_others():
    for key, low, high, whole in (
        ("train.updates", 1, 4, True),
        ("train.patience", 1, 4, True),  # null by default, and takes no fractions
        ("optimizer.lr", 1, 4, False),
        ("task.delay", 0.1, 0.2, False),
    ):
        composer = Composer([*CLICKS, "task.delay=0.1"], None, [])
        search, _ = validate(search_from({"space": {key: {"low": low, "high": high}}}), composer)
        assert search.space[key].whole is whole
        assert search.space[key].typed(low) == (str(low) if whole else repr(float(low)))


def test_a_searched_key_must_exist_for_every_choice_of_its_group():
    search, _ = prepared("search=network")
    assert search.space["optimizer"].ends() == {"choices[0]=adam": "adam", "choices[1]=adamw": "adamw"}
    assert compose(["optimizer=adamw", "optimizer.lr=0.5"]).config["optimizer"]["lr"] == 0.5
    momentum = "search.space.optimizer.momentum={low: 0, high: 0.9}"
    words = ["search=learning_rate", "~search.space.optimizer.lr", momentum]
    found, _ = prepared(*words, "search.space.optimizer={choices: [sgd]}")
    assert list(found.space) == ["optimizer.momentum", "optimizer"]
    with pytest.raises(UsageError, match=r"optimizer\.choices\[1\]=adam: optimizer\.momentum: there is no key"):
        prepared(*words, "search.space.optimizer={choices: [sgd, adam]}")


RATE = "search=learning_rate"
WRONG = [
    # the search
    ([], "choose a search: tracetorch tune search=decays"),
    (["search=learning_rte"], "Did you mean 'learning_rate'? There are: decays"),
    ([RATE, "search=decays"], "search is given 2 times (learning_rate, decays): a study has one"),
    (["search=mine.yaml"], "search=mine.yaml: there is no such file"),
    ([RATE, "search.trails=3"], "'search.trails=3': a search has no 'trails'. Did you mean 'search.trials'?"),
    ([RATE, "~search.trials"], "'~search.trials': a search has no 'trials'."),
    ([RATE, "search.trials=0"], "search.trials must be a whole number above 0, got 0"),
    ([RATE, "search.trials=true"], "search.trials must be a whole number above 0, got True"),
    ([RATE, "search.space=3"], "search.space is empty"),
    ([RATE, "search.direction=up"], "search.direction must be maximize or minimize, got 'up'"),
    ([RATE, "search.pruner=mean"], "search.pruner must be median or none, got 'mean'"),
    ([RATE, "search.metric=3"], "search.metric must be a string, got 3"),
    ([RATE, "search.metric=acuracy"], "does not report it. Did you mean 'accuracy'? It reports loss, acc"),
    ([RATE, "~search.space.optimizer.lr"], "search.space is empty"),
    ([RATE, "search.space.optimizer.rl.high=1"], "it has no optimizer.rl. Did you mean 'optimizer.lr'"),
    ([RATE, "search.space.optimizer.lr=1"], "write optimizer.lr.low=…"),
    # the keys of its space
    ([RATE, "search.space.optimizer.momentum={low: 0, high: 1}"], "It belongs to optimizer=rmsprop and optimizer=sgd"),
    ([RATE, "search.space.seed={low: 0, high: 9}"], "'seed' cannot be searched. A search changes task"),
    ([RATE, "search.space.optimzer.lr={low: 0, high: 9}"], "Did you mean 'search.space.optimizer'?"),
    ([RATE, "search.space.optimizer={choices: [adam, admw]}"], "Did you mean 'adamw'"),
    # the ranges and choices
    ([RATE, "search.space.optimizer.lr.low=0.5"], "low=0.5 is above high=0.3"),
    ([RATE, "search.space.optimizer.lr.low=0"], "a logarithmic scale begins above 0, and low=0"),
    ([RATE, "search.space.optimizer.lr.low=fast"], "lr.low must be a number, got 'fast'"),
    ([RATE, "search.space.optimizer.lr.low=true"], "lr.low must be a number, got True"),
    ([RATE, "search.space.optimizer.lr.high=inf"], "lr.high must be a number, got inf"),
    ([RATE, "search.space.optimizer.lr.log=maybe"], "lr.log must be true or false, got 'maybe'"),
    ([RATE, "search.space.optimizer.lr.step=0.1"], "a logarithmic scale has no steps"),
    ([RATE, "search.space.optimizer.lr.choices=[1]"], "either choices, or low and high; not both"),
    ([RATE, "search.space.optimizer.lr={choices: [1, 1]}"], "names a value twice"),
    ([RATE, "search.space.optimizer.lr={choices: []}"], "choices must be a list of at least one value, got []"),
    ([RATE, "search.space.optimizer.lr={low: 1}"], "has no high: give low and high, or choices"),
    ([RATE, "search.space.optimizer.lr={lo: 1}"], "there is no 'lo'. Did you mean 'low'?"),
    ([RATE, "search.space.optimizer.lr={low: 0, high: 1, step: 0.3}"], "the last is at 0.9"),
    ([RATE, "search.space.optimizer.lr={low: 0, high: 1, step: 0}"], "lr.step must be above 0, got 0"),
    ([RATE, "search.space.train.updates={low: 1.5, high: 3}"], "low=1.5: train.updates must be a whole"),
    ([RATE, "search.space.optimizer.lr={low: -1, high: 1}"], "optimizer.lr.low=-1: optimizer: "),
    # overrides and options next to the search
    ([RATE, "output.dir=x"], "the folder of a study is named by --study x"),
    ([RATE, "task.validation_trials=0"], "set task.validation_trials above 0"),
    ([RATE, "experiment=mnist_sample"], "set task.validation_digits above 0"),
    ([RATE, "experiment=bandit_sample"], "set task.task.validation_digits above 0"),
    ([RATE, "experiment=clicks_reward"], "search.metric=accuracy: the task does not report it. It reports return."),
    ([RATE, "experiment=clicks_lifetime"], "train=lifetime has none: choose another experiment"),
    ([RATE, "rule=tbptt", "rule.k=0"], "rule: k must be a whole number of steps, at least 1, got 0"),
    ([RATE, "loss=reflect"], "PoissonClicks gives labels, not rewards"),
    ([RATE, "optimizer.lr=1"], "the search chooses optimizer.lr; leave it out, or take the key out of the search"),
    (["--trust", "os", RATE], "--trust applies to an existing study"),
    (["--study", "nowhere"], "there is no study nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "phrase"), WRONG, ids=[" ".join(words) or "nothing" for words, _ in WRONG])
def test_a_mistake_is_refused_before_anything_runs(here, words, phrase):
    assert phrase in refused("tune", *words)


def test_a_search_file_with_a_mistake_and_a_missing_extra_are_refused(here, monkeypatch):
    for text, phrase in {
        "space: [": "is not valid YAML",
        "- a\n": "is not a config",
        "space: 3\n": "space must name keys, got 3",
        "space: {optimizer: {lr: {low: 1, high: 2}}}\n": "search.space.optimizer: there is no 'lr'",
        "space: {optimizer.lr: 3}\n": "search.space.optimizer.lr must be {low: …, high: …} or {choices: […]}, got 3",
        "space: {optimizer.lr: {}}\n": "search.space.optimizer.lr must be {low: …, high: …} or {choices: […]}, got {}",
        "space: {optimizer.lr: {choices: 3}}\n": "optimizer.lr.choices must be a list of at least one value, got 3",
        "sapce: {}\n": "a search has no 'sapce'. Did you mean 'search.space'?",
        'space: {optimizer.lr: {low: 1e-4, high: "${nope}"}}\n': "nope",
    }.items():
        (here / "mine.yaml").write_text(text)
        assert phrase in refused("tune", "search=mine.yaml")
    monkeypatch.setattr("tracetorch.cli.tune_verb.find_spec", lambda name: None)
    assert "pip install -c constraints.txt -e '.[tune]'" in refused("tune", "search=learning_rate")
