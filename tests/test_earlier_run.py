"""A run of an earlier version goes on: its folder, its checkpoint with other names of parameters, its optimizer.

`earlier_run/interrupted` was made when a layer was one module, by `tracetorch run experiment=poisson_clicks` with
learned decays, groups of neurons and a free trace, and was interrupted. `final.json` holds the parameters with which
that version ended it: single numbers, and for weights the sum of their squares.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.command_line import tracetorch

HERE = Path(__file__).parent / "earlier_run"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(HERE / "interrupted", "interrupted")
    return Path("interrupted")


def test_it_resumes_to_what_it_would_have_become(folder):
    result = tracetorch("resume", str(folder))
    assert result.exit_code == 0, result.output
    net = torch.load(folder / "checkpoints/latest.pt", weights_only=True)["net"]
    found = {name.replace("input_trace.raw_", "raw_trace_"): value for name, value in net.items()}
    found = {name.replace("connection.", "").replace("neuron.", ""): value for name, value in found.items()}
    for name, wanted in json.loads((HERE / "final.json").read_text()).items():
        value = found[name].flatten() if isinstance(wanted, list) else found[name].square().sum()
        torch.testing.assert_close(value, torch.tensor(wanted), rtol=1e-3, atol=1e-3)


def test_it_can_be_evaluated(folder):
    assert tracetorch("resume", str(folder)).exit_code == 0
    result = tracetorch("eval", str(folder))
    assert result.exit_code == 0, result.output
