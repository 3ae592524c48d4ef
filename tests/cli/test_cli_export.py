"""`tracetorch export`: what it writes, and what it refuses."""

import sys

import pytest
import torch

import tracetorch as tt
from tests.command_line import CLICKS, ran, refused
from tracetorch.cli.export_verb import _say_how_to_reset
from tracetorch.runs import load_checkpoint

pytest.importorskip("nir")
pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of clicks."""
    path = tmp_path_factory.mktemp("export") / "run"
    ran("run", *CLICKS, f"output.dir={path}")
    return path


def outputs(net):
    """The outputs of a network for the same random spikes at each call."""
    xs = (torch.rand(200, 2, net[0].in_features, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    net.reset()
    with torch.no_grad():
        return net.run(xs)


def test_both_formats_hold_the_network_of_the_checkpoint(folder, capsys):
    ran("export", str(folder), "--format", "safetensors")
    out = ran("export", str(folder), "--format", "nir", "--dt", "0.01", "--checkpoint", "latest").output
    assert f"from_nir('{folder / 'network.nir'}')" in out and "dt = 0.01 s" in out
    read = tt.interop.read_safetensors(folder / "network.safetensors")
    load_checkpoint(folder / "checkpoints" / "latest.pt", tt.interop.read_safetensors(folder / "network.safetensors"))
    assert torch.equal(outputs(read), outputs(tt.interop.from_nir(folder / "network.nir")))
    out = ran(
        "export",
        str(folder),
        "--format",
        "nir",
        "--for",
        "snntorch",
        "--readout",
        "current",
        "--out",
        f"{folder}/s.nir",
    )
    assert "leaky.reset_mechanism = 'subtract'" in out.output and (folder / "s.nir").is_file()
    for target, advice in (("norse", "norse reads these neurons as they are"), ("sinabs", "MembraneReset()")):
        _say_how_to_reset(target, 1.0, {"zero"})
        assert advice in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "why"),
    {
        "option of nir": (["--format", "safetensors", "--dt", "1"], "--dt has no effect on safetensors"),
        "dt": (["--format", "nir", "--dt", "-1"], "dt must be a length above 0"),
        "fixed dt": (["--format", "nir", "--dt", "1", "--for", "snntorch"], "reads every graph with dt=0.0001"),
        "readout": (["--format", "nir", "--for", "norse"], "norse reads no leaky integrators"),
        "folder": (["--format", "nir", "--out", "."], "is a folder"),
        "no folder": (["--format", "nir", "--out", "absent/x.nir"], "a folder that does not exist"),
        "checkpoint": (["--format", "nir", "--checkpoint", "best"], "there is no checkpoint"),
    }.values(),
)
def test_wrong_words_are_refused_and_write_nothing(folder, words, why, here):
    (folder / "checkpoints" / "best.pt").unlink(missing_ok=True)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert why in refused("export", str(folder), *words)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_missing_library_is_named_with_what_to_type(folder, monkeypatch, here):
    monkeypatch.setitem(sys.modules, "nir", None)
    assert "needs the package nir: pip install -c constraints.txt -e '.[nir]'" in refused(
        "export", str(folder), "--format", "nir"
    )
