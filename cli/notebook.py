"""Runs from Python, as in a notebook: `tracetorch.run` makes one, `tracetorch.load` opens one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tracetorch.cli.errors import DONE, INTERRUPTED, UsageError, did_you_mean, shorten
from tracetorch.files import expanded, read_bytes

if TYPE_CHECKING:
    import torch

    from tracetorch.cli.execute import RunOutcome
    from tracetorch.cli.folders import Found
    from tracetorch.nn import Sequential
    from tracetorch.rules import Rule


def run(
    overrides: Sequence[str] = (),
    *,
    config_dir: str | Path | None = None,
    trust: Collection[str] = (),
    quiet: bool = False,
) -> SavedRun:
    """Train a network as `tracetorch run` does, test it, record everything. Returns: the run.

    Args:
        overrides: changes of the config, as typed: ["experiment=mnist_sample", "seed=1"].
        config_dir: a folder with presets of your own.
        trust: packages whose code these presets may call, in addition to traceTorch, torch and those of the project.
        quiet: whether to print warnings only.
    Raises: UsageError for a wrong config, with nothing left on disk; RuntimeError if the run failed; KeyboardInterrupt
        if it was interrupted, after everything is saved.
    Example: `accuracy = [tt.run([f"optimizer.lr={lr}"]).summary["accuracy"] for lr in (0.001, 0.01)]`
    """
    from tracetorch.cli.adapter import compose, note_of, typed_values
    from tracetorch.cli.check import check_new, check_own
    from tracetorch.cli.display import Display
    from tracetorch.cli.execute import execute
    from tracetorch.cli.shared_arguments import with_home

    lines = [with_home(line) for line in _as_list(overrides)]
    folder = None if config_dir is None else expanded(config_dir)
    composed = compose(lines, folder, calls_own=True)
    check_own(composed.config, typed_values(lines), folder, trust)
    check_new(composed.config)
    notes = filter(None, [note_of(composed.choices, folder), *composed.notes])
    display = None if quiet else Display(composed.experiment, "\n".join(notes))
    outcome = execute(composed, lines, display=display)
    if display is not None and outcome.code == DONE:
        display.conclude(outcome, False)
    return _opened(outcome)


def load(
    folder: str | Path,
    overrides: Sequence[str] = (),
    *,
    checkpoint: Literal["latest", "best"] | None = None,
    device: str | None = None,
    trust: Collection[str] = (),
) -> SavedRun:
    """Open the folder of a run. Its parts are made when they are first used.

    Args:
        folder: with config.yaml and, for the network, a checkpoint.
        overrides: changes of the config's values, such as ["task.delay=4"].
        checkpoint: the weights to use; None: those that the run tested.
        device: of the network and the task; None: as in the config.
        trust: packages whose code the config may call, in addition to traceTorch and torch.
    Raises: UsageError if the folder is not that of a run, if its config cannot be used, or if a given device or
        checkpoint does not exist.
    Example: `net = tt.load("outputs/mnist/20260101-000000-abcdef").net`
    """
    from tracetorch.cli.folders import find_run, tested_checkpoint
    from tracetorch.cli.shared_arguments import with_home

    if checkpoint not in (None, *CHECKPOINTS):
        known = " or ".join(map(repr, CHECKPOINTS))
        raise UsageError(f"checkpoint={checkpoint!r}: give {known}.{did_you_mean(str(checkpoint), CHECKPOINTS)}")
    changes = [*map(with_home, _as_list(overrides)), *([] if device is None else [f"device={device}"])]
    found = find_run(expanded(folder), trust, changes)
    if checkpoint is not None:
        tested_checkpoint(found, checkpoint)
    if any(line.startswith("device=") for line in changes):  # that of the config may exist on another machine only
        _check_device(found.composed.config["device"])
    return SavedRun(found, checkpoint, changes)


def _check_device(name: str) -> None:
    """Raises: UsageError for a device that does not exist, before a part is made for it."""
    if name in ("auto", "cpu"):  # always exist: torch need not be loaded
        return
    from tracetorch.device import resolve

    try:
        resolve(name)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _as_list(overrides: Sequence[str]) -> list[str]:
    """Raises: UsageError for one string, for values that are not strings, and for options of the command line."""
    if isinstance(overrides, str) or not all(isinstance(line, str) for line in overrides):
        raise UsageError(f'overrides must be a list of strings, such as ["seed=1"], got {shorten(repr(overrides))}')
    for line in overrides:
        if line.startswith("-"):
            raise UsageError(f"'{shorten(line)}': options are for the command line; a sweep is a loop over tt.run")
    return list(overrides)


def _opened(outcome: RunOutcome) -> SavedRun:
    """Open the folder of a run that has just ended. Raises: as `run`, unless it is completed."""
    if outcome.code == INTERRUPTED:
        raise KeyboardInterrupt(outcome.message)
    if outcome.code != DONE:
        raise RuntimeError(outcome.message) from outcome.error
    return load(outcome.run.folder.path, trust=_packages(outcome.run.config))


def _packages(config: dict[str, Any]) -> list[str]:
    """The packages that a config calls, except traceTorch and torch. They are trusted: its run has just called them."""
    from tracetorch.cli.check import nodes

    targets = (str(node["_target_"]) for _, node in nodes(config) if "_target_" in node)
    return sorted({target.partition(".")[0] for target in targets} - {"tracetorch", "torch"})


CHECKPOINTS = ("latest", "best")


class Picture(NamedTuple):
    """A figure of a run, which a notebook shows."""

    path: Path  # of the PNG file

    def _repr_png_(self) -> bytes:
        return read_bytes(self.path)


class _Parts(NamedTuple):
    net: Sequential
    rule: Rule
    optimizer: torch.optim.Optimizer


class SavedRun:
    """An opened run folder. Results are read when it is opened, the network and other parts when they are first used.

    The network has the weights of the checkpoint; its states are at rest. Only `task` and `evaluate` read the data.

    Attributes:
        folder: its absolute path.
        config: plain dicts and lists, with the changes given to `load`.
        experiment, status: such as "mnist" and "completed"; see docs/run-folder.md.
        summary: results by name, such as {"accuracy": .98, "loss": .07}; {} before the end of the run.
    Raises: UsageError or ValueError, when a part is first used, if it cannot be made or the checkpoint is missing or
        damaged.
    """

    def __init__(
        self, found: Found, checkpoint: Literal["latest", "best"] | None = None, changes: Collection[str] = ()
    ):
        self._found, self._checkpoint_name, self._changes = found, checkpoint, changes
        self.folder: Path = found.folder.path.absolute()
        self.config: dict[str, Any] = found.composed.config
        self.experiment, self.status = found.composed.experiment, found.state.status
        self.summary: dict[str, Any] = found.state.facts.get("summary") or {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.folder}: {self.experiment}, {self.status}>"

    @property
    def facts(self) -> dict[str, Any]:
        """The content of run.json when the folder was opened."""
        return self._found.state.facts

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The records of metrics.jsonl so far; `pandas.DataFrame(run.metrics)` makes a table of them."""
        return self._found.folder.records()

    @property
    def figures(self) -> dict[str, Picture]:
        """The figures in the folder, by name; a notebook shows `run.figures["raster"]`."""
        return {path.stem: Picture(path) for path in sorted((self.folder / "plots").glob("*.png"))}

    @cached_property
    def checkpoint(self) -> Path:
        """The path of the file with the weights. Raises: UsageError if there is none."""
        from tracetorch.cli.folders import tested_checkpoint

        return tested_checkpoint(self._found, self._checkpoint_name).absolute()

    @property
    def net(self) -> Sequential:
        """The trained network."""
        return self._parts.net

    @property
    def rule(self) -> Rule:
        """The learning rule of `net`, in its state at the checkpoint."""
        return self._parts.rule

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of `net`, in its state at the checkpoint, with the learning rate of the config."""
        return self._parts.optimizer

    @cached_property
    def _parts(self) -> _Parts:
        import torch

        from tracetorch import device
        from tracetorch.renamed import PARTS, present
        from tracetorch.runs import load_checkpoint
        from tracetorch.training.setup import freeze, network_of, parameter_groups

        net = network_of(self.checkpoint, self._made("network"))
        net.to(device.resolve(self.config["device"]))
        if self.config["train"].get("precision") == "bfloat16":
            net.precision = torch.bfloat16
        freeze(net, self.config.get("frozen") or [])
        rule, optimizer = self._made("rule")(net), self._made("optimizer")(parameter_groups(net))
        rates = [group["lr"] for group in optimizer.param_groups if "lr" in group]
        content = load_checkpoint(self.checkpoint, net, optimizer)
        for group, rate in zip(optimizer.param_groups, rates, strict=False):
            group["lr"] = rate  # a schedule may have lowered it to 0, and nothing would learn
        if "rule" in (states := present(PARTS, content["parts"])):
            rule.load_state_dict(states["rule"])
        net.reset()
        return _Parts(net, rule, optimizer)

    @cached_property
    def task(self) -> Any:
        """The task or environment. Raises: UsageError if its data cannot be read."""
        from tracetorch import device
        from tracetorch.cli.folders import with_targets_of
        from tracetorch.runs.checkpoint import read_checkpoint
        from tracetorch.tasks import Environment

        task = self._made("task", with_targets_of(self.config, self.checkpoint, self._changes))
        task.to(device.resolve(self.config["device"]))
        parts = read_checkpoint(self.checkpoint)["parts"]
        if isinstance(task, Environment) or "task" in parts:
            task.load_for_test(parts["task"])
        return task

    @cached_property
    def loss(self) -> Any:
        """The loss: a function of output and target to loss and signal, or a new loss for rewards."""
        loss = self._made("loss")
        return loss() if hasattr(getattr(loss, "func", loss), "observe") else loss

    def evaluate(self, split: Literal["test", "validation"] = "test") -> dict[str, float]:
        """Test the network as it is now, without learning.

        Returns: the mean loss and metrics over the trials of the split; for rewards, the metrics.
        Raises: UsageError if the task has no such trials, or if its data cannot be read.
        """
        from tracetorch.tasks import Environment
        from tracetorch.tasks.evaluate import evaluate, evaluate_policy
        from tracetorch.tasks.task import means

        window = self.config["train"].get("window") or self.task.readout_window
        if isinstance(self.task, Environment):
            played = evaluate_policy(self.net, self.task, self.loss.policy, split, window)
            if not played:
                raise UsageError(f"{type(self.task).__name__} has no {split} episodes")
            return means(played, self.task.metrics)
        found = evaluate(self.rule, self.task, self.loss, split, window)
        if found is None:
            raise UsageError(f"{type(self.task).__name__} has no {split} trials")
        return found.means

    def _made(self, name: str, config: dict[str, Any] | None = None) -> Any:
        from tracetorch.cli.adapter import make
        from tracetorch.cli.execute import restoring_directory

        with restoring_directory():
            return make((self.config if config is None else config)[name], name)
