"""Presets of sweeps that have parts: sweeps one after another, and how what is typed is shared out among them."""

import shutil

import pytest
import yaml

from tests.command_line import CLICKS, tracetorch
from tests.test_sweep_preset import write
from tracetorch.cli.sweep.plan import plan
from tracetorch.cli.sweep.preset import unfold

PARTS = {
    "params": {"seed": "0,1", "train.updates": 2},
    "parts": [{"experiment": "poisson_clicks,cue_accumulation"}, {"experiment": "delayed_clicks", "task.delay": "1,2"}],
}


@pytest.mark.parametrize(
    ("typed", "sweeps"),
    [
        ([], ["seed=0,1 train.updates=2 experiment=poisson_clicks,cue_accumulation",
              "seed=0,1 train.updates=2 experiment=delayed_clicks task.delay=1,2"]),
        (["seed=5"], ["train.updates=2 experiment=poisson_clicks,cue_accumulation seed=5",
                      "train.updates=2 experiment=delayed_clicks task.delay=1,2 seed=5"]),
        (["task.delay=3"], ["seed=0,1 train.updates=2 experiment=poisson_clicks,cue_accumulation",
                            "seed=0,1 train.updates=2 experiment=delayed_clicks task.delay=3"]),
        (["experiment=cue_accumulation", "task.delay=3"],
         ["seed=0,1 train.updates=2 experiment=cue_accumulation task.delay=3"]),
        (["experiment=delayed_clicks,poisson_clicks"], ["seed=0,1 train.updates=2 experiment=poisson_clicks",
         "seed=0,1 train.updates=2 task.delay=1,2 experiment=delayed_clicks"]),
        (["experiment=patterns"], ["seed=0,1 train.updates=2 experiment=patterns",
                                   "seed=0,1 train.updates=2 task.delay=1,2 experiment=patterns"]),
    ],
    ids=["as it is", "what all share", "what some have", "of one part", "of each part its own", "of none"],
)  # fmt: skip
def test_parts_are_sweeps_one_after_another(here, typed, sweeps):
    write(here / "mine.yaml", PARTS)
    assert unfold(["sweep=mine.yaml", *typed]).sweeps == [line.split(" ") for line in sweeps]


def test_a_part_has_its_own_word_on_what_the_others_share(here):
    write(here / "mine.yaml", {"params": {"seed": 0}, "parts": [{"rule": "trace"}, {"rule": "bptt", "seed": "1,2"}]})
    assert unfold(["sweep=mine.yaml"]).sweeps == [["seed=0", "rule=trace"], ["rule=bptt", "seed=1,2"]]
    assert unfold(["sweep=mine.yaml", "seed=7"]).sweeps == [["rule=trace", "seed=7"], ["rule=bptt", "seed=7"]]
    write(here / "mine.yaml", {"params": {}, "parts": [{"network.hidden": "[8],[4,4]"}]})
    assert unfold(["sweep=mine.yaml"]).sweeps == [["network.hidden=[8],[4,4]"]]
    assert unfold(["sweep=mine.yaml", "network.hidden=[8]"]).sweeps == [["network.hidden=[8]"]]


def test_what_two_parts_share_is_run_once(here):
    write(here / "mine.yaml", {"parts": [{"seed": "0,1", "rule": "trace"}, {"rule": "trace,bptt", "seed": 1}]})
    found = plan(["sweep=mine.yaml"])
    assert [job.varies for job in found.jobs] == ["seed=0, rule=trace", "seed=1, rule=trace", "seed=1, rule=bptt"]


def test_the_parts_of_a_sweep_lie_in_one_folder_and_say_what_they_are(here):
    write(here / "mine.yaml", {"parts": [{"seed": "0,1"}, {"seed": 5, "optimizer.lr": 0.01}]})
    ended = tracetorch("run", "-m", "sweep=mine.yaml", *CLICKS, "output.dir=sweep")
    assert ended.exit_code == 0, ended.output
    assert {path.name for path in (here / "sweep").glob("0*")} == {"000_seed=0", "001_seed=1", "002_seed=5,lr=0.01"}
    shutil.rmtree(here / "sweep" / "002_seed=5,lr=0.01")
    assert tracetorch("resume", "sweep").exit_code == 0
    config = yaml.safe_load((here / "sweep" / "002_seed=5,lr=0.01" / "config.yaml").read_text())
    assert (config["seed"], config["optimizer"]["lr"]) == (5, 0.01)
