"""The scripts in benchmarks/, as a test imports and starts them."""

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MACHINE = {"command", "cpu", "cores", "instructions", "memory_bytes", "threads", "device", "system", "python"}


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `python benchmarks/….py` does: siblings can be imported. They are forgotten at the end."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name, module in list(sys.modules.items()):
        if BENCHMARKS in Path(getattr(module, "__file__", None) or "/").parents:
            del sys.modules[name]


def start(monkeypatch, script: str, *words: str) -> int:
    """Run a script in this process, as from the command line; its exit code."""
    monkeypatch.setattr(sys, "argv", [script, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    return ended.value.code or 0


def run(monkeypatch, script: str, *words: str) -> dict:
    """Run it with `--quick --json`; what it wrote."""
    assert start(monkeypatch, script, "--quick", "--threads", "1", "--json", "out/new.json", *words) == 0
    written = json.loads(Path("out/new.json").read_text(encoding="utf-8"))
    assert written["benchmark"] == script.removesuffix(".py")
    assert set(written["provenance"]) >= MACHINE
    assert written["provenance"]["versions"]["torch"]
    return written
