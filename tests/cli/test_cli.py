"""The command line outside of a run: what it lists, shows and refuses."""

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml

from tests.command_line import ran, tracetorch
from tests.terminals import tracetorch_in_terminal
from tracetorch import __version__
from tracetorch.cli import adapter
from tracetorch.cli.adapter import options
from tracetorch.cli.main import main, start
from tracetorch.runs import provenance


def test_help_and_lists_show_what_to_type():
    for words, says, not_a_word in (
        ("eval --help", "config to change, such as task.delay=4.", "experiment="),
        ("tune --help", "search=NAME", "experiment=mnist"),
        ("run --help", "Config keys to change, such as experiment=mnist or optimizer.lr=0.001.", "--root"),
        ("plot -h", "Usage: tracetorch plot [OPTIONS] {DIR} [KEY=VALUE]...", "experiment="),
        ("--help", "Look: list List experiments, tasks, networks, rules, losses, …", "Options: --json"),
        ("--help", "completion ", "--install-completion"),
        ("--version", f"tracetorch {__version__}", "Usage"),
        ("list", "sweep (tracetorch run -m sweep=NAME) delays", "optimizer (tracetorch"),
        ("list search", "search (tracetorch tune search=NAME) decays", "sweep (tracetorch"),
    ):
        ended = tracetorch(*words.split())
        shown = " ".join(ended.stdout.split())
        assert ended.exit_code == 0 and says in shown and not_a_word not in shown


def test_list_names_every_choice_of_every_group_or_of_one():
    result = ran("list")
    groups = (*adapter.GROUPS, *adapter.PRESETS)
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [name for group in groups for name in (group, *options(group))]
    assert all(len(line.split()) > 3 for line in lines if line.startswith("  "))
    result = tracetorch("list", "diagnostics")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["diagnostics", "gradient", "none"]
    found = json.loads(ran("list", "--json").stdout)
    assert {group: [*choices] for group, choices in found.items()} == {group: options(group) for group in groups}


def test_in_a_terminal_a_description_is_wrapped_below_its_start(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = tracetorch_in_terminal(monkeypatch, "list", "rule")[1].splitlines()
    assert max(map(len, lines)) <= 60 and len(lines) > len(options("rule")) + 1
    assert all(line.startswith(" " * 10) or line.split()[0] in ("rule", *options("rule")) for line in lines)
    assert " ".join(lines).split() == ran("list", "rule").stdout.split()


def test_show_prints_the_config_and_runs_nothing(here):
    result = ran("show", "experiment=mnist_sample", "seed=7")
    assert result.stdout.startswith("# experiment: mnist_sample\n")
    config = yaml.safe_load(result.stdout)
    assert (config["seed"], config["task"]["seed"], config["task"]["source"]) == (7, 7, "sample")
    assert "hydra" not in config
    assert list(here.iterdir()) == []


def test_info_prints_versions_devices_and_folders():
    result = ran("info")
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if not line.startswith("data cache"))
    assert facts["tracetorch"] == __version__ and facts["torch"] == torch.__version__
    assert facts["devices"].startswith("cpu") and facts["threads"] == str(torch.get_num_threads())
    assert facts["configs"] == str(adapter.conf_dir()) and " on cpu" in facts["kernels"]
    assert "\ndata cache  /" in result.stdout
    assert ("revision" in facts) is bool(provenance.git_revision())


def test_info_lists_every_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(provenance, "device_name", lambda device: f"GPU {device.index}")
    assert "\ndevices     cpu, GPU 0, GPU 1\n" in ran("info").stdout


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        ("", "Usage: tracetorch"),
        ("rnu", "tracetorch: No such command 'rnu'. Did you mean 'run'?\n"),
        ("seed=1", "'seed=1' is a change to the config, and the verb is missing: tracetorch run seed=1"),
        ("run --nope", "No such option: --nope"),
        ("compare . --against task.delay", "No such option: --against. It is now --scatter\n"),
        ("run --seed 1", "No such option: --seed. Config keys have no dashes: write seed=1"),
        ("run --optimizer.lr=0.1", "write optimizer.lr=0.1"),
        ("run --train=3", "No such option: --train. Config keys have no dashes: write train=3\n"),
        ("run --lr 0.1", "No such option: --lr. Config keys have no dashes: write optimizer.lr=0.1"),
        ("run --epochs=3", "No such option: --epochs. Config keys have no dashes: write train.passes=3"),
        ("run seed=0,1", "'seed=0,1' is a sweep over several values: tracetorch run -m seed=0,1"),
        ("show sweep=rules", "makes many runs: tracetorch run -m sweep=rules"),
        ("run search=decays", "makes many runs: tracetorch tune search=decays"),
        ("run -m --config-dir nowhere seed=0,1", "tracetorch: --config-dir nowhere: there is no such folder"),
        ("plot", "tracetorch: Missing argument 'DIR'; usage: tracetorch plot [OPTIONS] {DIR} [KEY=VALUE]...\n"),
        ("runs --best 0", "tracetorch: Invalid value for '--best': must be at least 1; see tracetorch runs -h\n"),
        (
            "new nueron x",
            "tracetorch: Invalid value for 'KIND': 'nueron' is not one of 'task', 'neuron', 'connection', "
            "'rule', 'loss', 'env'. Did you mean 'neuron'?\n",
        ),
        ("list task rule", "unexpected extra argument"),
        ("list expriment", "unknown group 'expriment'. Did you mean 'experiment'"),
        ("eval it --checkpoint first", "Invalid value for '--checkpoint': 'first' is not one of 'latest', 'best'"),
        ("completion zhs", "tracetorch: no completion for 'zhs'. Did you mean 'zsh'? There are: bash, zsh, fish.\n"),
    ],
)
def test_wrong_words_end_with_2(here, words, phrase):
    result = tracetorch(*words.split())
    assert result.exit_code == 2 and phrase in (result.stderr if words else result.output)
    assert not words or (result.stderr.count("\n") == 1 and result.stderr.startswith("tracetorch: "))
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("how", ["--traceback", "HYDRA_FULL_ERROR"])
def test_an_option_or_variable_shows_the_traceback(monkeypatch, how):
    if how == "HYDRA_FULL_ERROR":
        monkeypatch.setenv(how, "1")
    result = tracetorch("run", "bogus=1", *([how] if how.startswith("--") else []))
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and "Traceback" in lines[0] and lines[-1].startswith("tracetorch: bogus: there is no")


def test_verbs_that_need_no_torch_do_not_load_it():
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from tracetorch.cli.main import app\n"
        "for words in (['--help'], ['list'], ['show'], ['run', 'bogus=1'], ['run', 'seed=x'], ['plot', 'nope']):\n"
        "    code = CliRunner().invoke(app, words).exit_code\n"
        "    assert code == (2 if words[0] in ('run', 'plot') else 0), (words, code)\n"
        "    assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules), words\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch brings another OpenMP library")
def test_waiting_threads_of_openmp_spin_shortly():
    script = "from tracetorch.cli.main import main; import sys; sys.argv[1:] = ['info']; main()"
    silent = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    surroundings = silent | {"OMP_DISPLAY_ENV": "verbose"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=surroundings, check=True)
    assert "GOMP_SPINCOUNT = '3000'" in done.stderr


def test_a_fault_of_the_program_is_one_sentence_and_ends_with_1(monkeypatch):
    monkeypatch.setattr("tracetorch.cli.list_verb.purpose", lambda path: int("x"))
    for option in ([], ["--traceback"]):
        ended = tracetorch("list", "rule", *option)
        *trace, last = ended.stderr.splitlines()
        assert last.startswith("tracetorch: this should not have happened: ValueError: invalid literal for int")
        assert ended.exit_code == 1 and ("Traceback" in "".join(trace)) is bool(trace) is bool(option)


def test_the_command_passes_its_exit_code_on(monkeypatch):
    codes = []
    monkeypatch.setattr("tracetorch.cli.main.leave", codes.append)
    monkeypatch.setattr(sys, "argv", ["tracetorch", "list", "rulle"])
    with pytest.raises(SystemExit):
        main()
    assert codes == [2]


@pytest.mark.parametrize(
    ("said", "count"), [({}, "3000"), ({"GOMP_SPINCOUNT": "77"}, "77"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_the_environment_may_set_how_long_threads_spin(said, count, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tracetorch", "list", "rule"])
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is as before after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("MPLBACKEND", "no such backend")
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        start()
    assert os.environ.get("GOMP_SPINCOUNT") == count and os.environ["MPLBACKEND"] == "agg"
