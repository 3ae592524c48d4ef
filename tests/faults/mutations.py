"""Files of a stranger's: damaged, hostile, or no files at all; for each verb that reads a folder.

    python -m tests.faults mutations --count 1000

Each try takes one file of one folder, changes it, and gives the folder to verbs that read it. Nothing may be called,
lost, or left half-made; the verb says one sentence; memory and time are bounded.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.faults import cases
from tests.faults.cases import CLICKS, LIFETIME, SEARCH, SWEEP, Case, Stage, Words
from tests.faults.child import Ended, tracetorch

MARK = "mark-of-a-stranger"
MOST_CPU_SECONDS = 30.0
MOST_BYTES = 500 << 20

ALL = Case(
    "all",
    ("resume", "it"),
    before=(
        ("run", *CLICKS, "train.figures=true", "output.dir=done"),
        ("run", *CLICKS, "seed=1", "output.dir=keep"),
        ("run", *LIFETIME, "output.dir=life"),
        ("eval", "done"),
        (*SWEEP, "output.dir=sweep"),
        ("tune", *SEARCH, "search.trials=3", "--study", "study"),
        ("run", *CLICKS, "seed=2", "output.dir=it"),
    ),
    halfway=True,
)
"""A folder with one of each; the last is a run that was killed."""

_TREE: tuple[Words, ...] = (
    ("compare", ".", "--out", "compared"),
    ("clean", "--failed", "--unfinished", "--root", "."),
    ("clean", "--failed", "--unfinished", "--yes", "--root", "."),
    ("clean", "--older-than", "0m", "--keep-best", "1", "--root", "."),
)


def _of_run(name: str) -> tuple[Words, ...]:
    return (
        *(("info", name), ("eval", name), ("plot", name), ("resume", name)),
        *(("run", "--from", name, "output.dir=again"), ("compare", name, "keep", "--out", "compared")),
    )


_BEST: Words = ("run", "--config-dir", "study/presets", "experiment=best", "output.dir=again")
VERBS: dict[str, tuple[Words, ...]] = {
    "done": _of_run("done"),
    "life": _of_run("life"),
    "it": (("resume", "it"), *_of_run("it")),
    "sweep": (("resume", "sweep"), ("resume", "sweep"), ("compare", "sweep"), ("info", "sweep")),
    "study": (("tune", "--study", "study", "--trials", "4"), ("compare", "study"), _BEST),
}
"""For each folder, what reads it; there are those in `_TREE`, too, which read all folders."""

_OF_RUN = (
    *("config.yaml", "config.yaml", "config.yaml", "run.json", "run.json", "metrics.jsonl", "metrics.jsonl"),
    *("checkpoints/latest.pt", "checkpoints/latest.pt", "checkpoints/best.pt"),
    *("overrides.yaml", "trials.csv", "metrics.csv", ".lock", "checkpoints", "plots", "eval"),
)
FILES: dict[str, tuple[str, ...]] = {
    "done": _OF_RUN,
    "life": _OF_RUN,
    "it": (*_OF_RUN, "metrics.jsonl", "checkpoints/latest.pt"),
    "sweep": ("sweep.json", "sweep.json", "sweep.json", ".lock", "000_seed=0/config.yaml", "000_seed=0/run.json"),
    "study": ("study.json", "study.json", "study.jsonl", "study.jsonl", ".lock", "presets/experiment/best.yaml"),
}

# ── values that take the place of one in JSON or YAML ───────────────────────────────────────────────────────────────

CREATE = f"${{oc.create:{{_target_:os.mkdir,path:{MARK}}}}}"
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 10**400, 1e308, float("inf"), float("nan"), 2**63, "", "x" * 200_000, [], {}),
    *(
        "\x1b]0;title\x07\x1b[2J",
        "\u202egpj.exe",
        "a\nb",
        "=cmd|' /C calc'!A0",
        "1",
        "[1, 2",
        "../outside",
        "/etc/passwd",
    ),
    {"a": {0: 2, 1.5: 3, True: 4}},
    [[[[[[[[[[0]]]]]]]]]],
    list(range(3000)),
)
"""Each stands for something that a file can say, and that no run says."""

HOSTILE: tuple[Any, ...] = (
    *(
        "${oc.env:SECRET}",
        "\\${oc.env:SECRET}",
        "${oc.decode:'${oc.env:SECRET}'}",
        "${hydra:runtime.cwd}",
        "${nowhere}",
    ),
    *(CREATE, f"\\{CREATE}", f"\\\\{CREATE}", f'${{oc.decode:"{{_target_: os.mkdir, path: {MARK}}}"}}'),
    *(f"task.gamma='{CREATE}'", f"task.gamma='\\{CREATE}'", f"+task._target_=os.mkdir +task.path={MARK}"),
    *("output.dir=../outside", "hydra.run.dir=../outside", "task._target_=os.abort", "seed=${oc.env:SECRET}"),
    {"_target_": "os.mkdir", "path": MARK},
    {"_target_": "os.mkdir", "_partial_": True, "path": MARK},
    {"_target_": "os.system", "command": f"mkdir {MARK}"},
    {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.mkdir", "path": MARK}},
    {"_target_": "torch.load", "f": "done/checkpoints/latest.pt", "weights_only": False},
    {"_target_": "pathlib.Path.mkdir", "_args_": [MARK]},
    [{"_target_": "os.mkdir", "path": MARK}],
    *("os.mkdir", "os.system", "subprocess.run", "builtins.exec", "torch.hub.load", "tracetorch.cli.main.app"),
)
"""Each would run something, read the environment, or write elsewhere."""


def _nodes(content: Any) -> list[tuple[Any, Any]]:
    """All places in nested dicts and lists: what holds it, and its key."""
    found: list[tuple[Any, Any]] = []
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        found.append((content, key))
        found += _nodes(value)
    return found


def change_value(content: Any, chance: random.Random) -> Any:
    """The same with one value changed, added or taken away."""
    places = _nodes(content)
    if not places:
        return chance.choice(VALUES)
    if chance.random() < 0.03:
        return chance.choice(VALUES)
    holder, key = chance.choice(places)
    what = chance.random()
    if what < 0.35:
        holder[key] = chance.choice(HOSTILE)
    elif what < 0.7:
        holder[key] = chance.choice(VALUES)
    elif what < 0.8:
        del holder[key]
    elif isinstance(holder, dict):
        new = chance.choice(
            ("_target_", "_args_", "_partial_", "_convert_", "_recursive_", "\x1b[31mred", "split", "1", "")
        )
        holder[new] = chance.choice(VALUES) if what < 0.9 else holder.pop(key)
    else:
        holder.append(chance.choice(VALUES))
    return content


def _as_json(path: Path, chance: random.Random) -> str:
    content = json.loads(path.read_text())
    path.write_text(_json(change_value(content, chance)))
    return "value"


def _json(content: Any) -> str:
    return json.dumps(content, default=str, ensure_ascii=False)


def _as_lines(path: Path, chance: random.Random) -> str:
    rows = path.read_text().splitlines() or ["{}"]
    at = chance.randrange(len(rows))
    what = chance.choice(("value", "swap", "twice", "gone", "long number"))
    if what == "value":
        rows[at] = _json(change_value(json.loads(rows[at]), chance))
    elif what == "swap":
        rows.insert(0, rows.pop(at))
    elif what == "twice":
        rows.insert(at, rows[at])
    elif what == "gone":
        rows.pop(at)
    else:
        rows[at] = re.sub(r": -?\d[\d.e-]*", ": " + "9" * 5000, rows[at], count=1)
    path.write_text("\n".join(rows) + "\n")
    return what


def _as_yaml(path: Path, chance: random.Random) -> str:
    content = change_value(yaml.safe_load(path.read_text()), chance)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return "value"


def _unfolds(path: Path, chance: random.Random) -> str:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    path.write_text(chance.choice((text, text + path.read_text(), "a: &a [*a]\n", "a: &a {b: *a}\n", "? [1]\n: 2\n")))
    return "aliases"


def _as_csv(path: Path, chance: random.Random) -> str:
    rows = [line.split(",") for line in path.read_text().splitlines()] or [["a"]]
    row = chance.choice(rows)
    row[chance.randrange(len(row))] = str(chance.choice(VALUES))
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    return "cell"


def _as_checkpoint(path: Path, chance: random.Random) -> str:
    what = chance.choice(("pickle", "bomb", "stride", "value", "value", "value", "nan", "foreign"))
    if what == "pickle":
        path.write_bytes(chance.choice((pickle.dumps(_Maker()), _zip({"archive/data.pkl": pickle.dumps(_Maker(), 2)}))))
    elif what == "bomb":
        path.write_bytes(_zip({"archive/data.pkl": pickle.dumps({}, 2), "archive/data/0": bytes(1 << 30)}))
    elif what == "foreign":
        path.write_bytes(Path("keep/checkpoints/latest.pt").read_bytes())
    else:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content.pop("checksum", None)
        if what == "stride":
            first = next(iter(content["net"]))
            content["net"][first] = torch.zeros(1).as_strided((1 << 30,), (0,))
        elif what == "nan":
            first = chance.choice(list(content["net"]))
            content["net"][first] = torch.full_like(content["net"][first], chance.choice((float("nan"), float("inf"))))
        else:
            plain = [node for node in _nodes(content) if isinstance(node[1], str | int)]
            holder, key = chance.choice(plain)
            holder[key] = chance.choice([*VALUES[:15], torch.zeros(3), torch.zeros(0), [1, [2]], (1, 2)])
        from tracetorch.runs import checkpoint

        checksum = checkpoint._checksum(content) if what != "stride" else "0" * 64
        buffer = io.BytesIO()
        torch.save({**content, "checksum": checksum}, buffer)
        path.write_bytes(buffer.getvalue())
    return what


class _Maker:
    def __reduce__(self) -> Any:
        return os.mkdir, (MARK,)


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# ── what can happen to any file ─────────────────────────────────────────────────────────────────────────────────────


def _damaged(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content) + 1)
    what = chance.choice(("bits", "cut", "empty", "twice", "zeros", "noise", "inserted", "BOM", "carriage returns"))
    if what == "bits":
        for _ in range(chance.choice((1, 3, 50))):
            if content:
                content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    elif what == "cut":
        del content[at:]
    elif what == "empty":
        content.clear()
    elif what == "twice":
        content *= 2
    elif what == "zeros":
        content[at:] = bytes(len(content) - at)  # as some file systems leave it after a power cut
    elif what == "noise":
        content = bytearray(chance.randbytes(5000))
    elif what == "inserted":
        content[at:at] = chance.choice((b"\x00", b"\xff\xfe", b"\x1b[31m", b"\n\n", b'"', b"[" * 100_000, b"{" * 5000))
    elif what == "BOM":
        content[0:0] = b"\xef\xbb\xbf"
    else:
        content = content.replace(b"\n", b"\r\n")
    path.write_bytes(content)
    return what


def _nested(path: Path, chance: random.Random) -> str:
    deep = chance.choice((70, 5000, 200_000))
    path.write_text(
        chance.choice(
            ("[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep, '{"a": [' + "[]," * 2_000_000 + "1]}")
        )
    )
    return "nested"


def _large(path: Path, chance: random.Random) -> str:
    os.truncate(path, chance.choice((100 << 20, 5 << 30)))
    return "large"


def _no_file(path: Path, chance: random.Random) -> str:
    """Puts something else in its place."""
    what = chance.choice(
        ("pipe", "loop", "dangling", "outside", "device", "another", "folder", "gone", "gone", "not mine")
    )
    if what == "not mine":
        path.chmod(0)
        return what
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name("moved"))
    else:
        path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path.name)
    elif what == "dangling":
        path.symlink_to(chance.choice((Path("nowhere"), Path("../outside/new").resolve())))
    elif what == "outside":
        path.symlink_to(
            chance.choice((Path("../outside").resolve(), Path("../outside/precious").resolve(), "/etc/passwd"))
        )
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "another":
        path.symlink_to(f"../keep/{path.name}")
    elif what == "folder":
        path.mkdir()
        (path / "a").write_text("b")
    return what


Mutation = Callable[[Path, random.Random], str]


def _mutations(path: Path) -> tuple[Mutation, ...]:
    if path.is_dir():
        return (_no_file,)
    special: dict[str, tuple[Mutation, ...]] = {
        ".json": (_as_json,) * 8,
        ".jsonl": (_as_lines,) * 8,
        ".yaml": (*(_as_yaml,) * 8, _unfolds),
        ".csv": (_as_csv,) * 3,
        ".pt": (_as_checkpoint,) * 8,
    }
    return (*special.get(path.suffix, ()), _damaged, _damaged, _damaged, _nested, _large, _no_file, _no_file)


def mutate(base: Path, chance: random.Random) -> tuple[str, str, str]:
    """Change one file. Returns: its folder, its name, and what was done to it."""
    folder = chance.choice(list(VERBS))
    if chance.random() < 0.03:
        return folder, "", _renamed(base / folder, chance)
    name = chance.choice(FILES[folder])
    if not (base / folder / name).exists():
        name = "sweep.json" if folder == "sweep" else "study.json" if folder == "study" else "config.yaml"
    mutation = chance.choice(_mutations(base / folder / name))
    before = Path.cwd()
    os.chdir(base)
    try:
        return folder, name, f"{mutation.__name__.strip('_')}, {mutation(base / folder / name, chance)}"
    finally:
        os.chdir(before)


def _renamed(folder: Path, chance: random.Random) -> str:
    name = chance.choice(
        ("\x1b[31mred\x1b]0;x\x07", "=1+1", "a\nb", "-rf", "b\udcffd", "[bold]", "${oc.env:SECRET}", "c" * 200)
    )
    folder.rename(folder.with_name(name))
    return f"renamed {name!r}"


# ── what must come of it ────────────────────────────────────────────────────────────────────────────────────────────


def check(stage: Stage, number: object) -> tuple[int, str]:
    """Returns: how many verbs read it; what is wrong, "" if nothing is."""
    chance = cases.chance("mutation", number)
    base = stage.set(ALL)
    outside = base.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "precious").write_text("keep this\n")
    folder, name, what = mutate(base, chance)
    done = f"{folder}/{name}: {what}"
    near = [_BEST] if "best.yaml" in name else [one for one in VERBS[folder] if one != _BEST]
    chosen = chance.sample(_TREE, 2) if not name else [chance.choice(near), chance.choice([*near, *_TREE])]
    for words in chosen:
        before, already = _kept(base, folder, words), cases.half_made(base)
        ended = tracetorch(*words, where=base)
        done += f"; {' '.join(words)} → {ended.code} {ended.err.strip()[:160]}"
        if wrong := _wrong(ended, base, before, already, words):
            return 1, f"{done}: {wrong}"
        if {path.name: path.read_text() for path in outside.iterdir()} != {"precious": "keep this\n"}:
            return 1, f"{done}: it wrote outside: {list(outside.iterdir())}"
    return len(chosen), ""


def _kept(base: Path, folder: str, words: Words) -> dict[str, str]:
    """What the verb may not touch."""
    if words[0] == "clean":
        return {name: digest for name, digest in _contents(base).items() if name.startswith(("keep/", "life/config"))}
    target = (
        "compared"
        if words[0] == "compare"
        else f"{folder}/"
        if words[0] in ("resume", "tune")
        else f"{folder}/plots"
        if words[0] == "plot"
        else None
    )
    return {name: digest for name, digest in _contents(base).items() if target is None or not name.startswith(target)}


def _wrong(ended: Ended, base: Path, before: dict[str, str], already: list[str], words: Words) -> str:
    if wrong := cases.spoken(ended):
        return wrong
    if any(path.name == MARK for path in base.rglob("*")):
        return "it called what a file says"
    if ended.cpu_seconds > MOST_CPU_SECONDS:
        return f"{ended.cpu_seconds:.0f} seconds of a processor"
    if ended.peak_bytes > MOST_BYTES:
        return f"{ended.peak_bytes >> 20} MiB of memory"
    after = _contents(base)
    for name, digest in before.items():
        if after.get(name) != digest and not name.endswith(".lock"):
            return f"{name} is {'gone' if name not in after else 'another'}"
    if words[0] not in ("resume", "tune") and (left := [one for one in cases.half_made(base) if one not in already]):
        return f"left over: {left}"
    for name in after.keys() - before.keys():
        path = base / name
        is_small = path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 24
        if is_small and b"TheSecretOfThisUser" in path.read_bytes():
            return f"{name} holds the secret"
    if ended.code == 2 and words[0] in ("eval", "run", "info") and (new := after.keys() - before.keys()):
        return f"refused, but left {sorted(new)[:3]}"
    return ""


def _contents(base: Path) -> dict[str, str]:
    """As `cases.contents`, without opening what is no plain file, or is large."""
    found = {}
    for path in sorted(base.rglob("*")):
        name = path.relative_to(base).as_posix()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            large = path.stat().st_size > 1 << 24
            found[name] = f"{path.stat().st_size}" if large else cases.digest(path)
    return found
