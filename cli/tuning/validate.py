"""Checks a search, so that errors of its trials are found before the first trial starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tracetorch.cli.adapter import Composed, Template, check_foreign, fill, make, template, typed_values
from tracetorch.cli.adapter.reading import check_plain, portable, restored
from tracetorch.cli.check import PARTS, check, check_new, check_own, check_trusted
from tracetorch.cli.errors import UsageError, did_you_mean, prefixed, quote, shorten
from tracetorch.cli.execute import metrics_and_batch_size, naming
from tracetorch.cli.folders import plain_name
from tracetorch.cli.suggest import value_at
from tracetorch.cli.tuning.search import Parameter, Range, Search, Space
from tracetorch.renamed import current, current_overrides

if TYPE_CHECKING:
    from tracetorch.tasks import Environment, Task


_STORED = ("config", "experiment", "choices")  # the fields of a template in a study's file
_BASE = "base"  # the key, in a study's file, of the template without any choice of the search


class Composer:
    """Makes the configs of trials. Presets are composed once for each choice from a group that the search tries.

    Args:
        overrides: common to all trials.
        origin: the file of the overrides if they were not typed now; then they may call trusted parts only.
        trust: packages that are trusted in addition to traceTorch and torch.
        templates: the result of `content` when the study started; if None, the presets are composed.
    Raises: UsageError if the templates hold anything but configs.
    """

    def __init__(self, overrides: list[str], origin: Path | None, trust: list[str], templates: Any = None):
        self._overrides, self._origin, self._trust = overrides, origin, trust
        self._may_compose = templates is None
        self._templates: dict[str, Template] = {}
        if origin is not None and self._may_compose:
            check_foreign(overrides, origin)
            self._overrides = current_overrides(overrides)
        for choice, node in _mapping(templates or {}, origin).items():
            config, experiment, choices = (_mapping(node, origin).get(name) for name in _STORED)
            check_plain(config, origin, choice, references=True)
            names = {group: name for group, name in _mapping(choices, origin).items() if isinstance(name, str)}
            config = _mapping(current(restored(config)), origin)
            self._templates[choice] = Template(config, plain_name(experiment), names)

    @property
    def notes(self) -> list[str]:
        """The notes of the templates: on keys of a preset that a chosen part does not take."""
        return list(dict.fromkeys(note for each in self._templates.values() for note in each.notes))

    def content(self) -> dict[str, Any]:
        """The templates, for the study's file."""
        templates = self._templates.items()
        plain = {
            choice: dict(zip(_STORED, (each.config, each.experiment, dict(each.choices)), strict=True))
            for choice, each in templates
        }
        return cast(dict[str, Any], portable(plain))

    def __call__(self, changes: list[str]) -> tuple[Composed, list[str]]:
        """The checked config of a trial, and the overrides that describe it. Raises: UsageError."""
        chosen = [line for line in changes if line.partition("=")[0] in PARTS]
        if self._origin is not None:
            check_foreign(changes, self._origin)
        base = self._template(_BASE)
        for line in chosen:
            part, other = line.partition("=")[0], self._template(line)
            experiment = other.experiment if part == "task" else base.experiment
            choices = {**base.choices, **({part: other.choices[part]} if part in other.choices else {})}
            base = Template({**base.config, part: other.config.get(part)}, experiment, choices)
        composed = fill(base, [line for line in changes if line not in chosen])
        if self._origin is not None:
            check_trusted(composed.config, self._origin, self._trust)
            check(composed.config)
        else:
            check_own(composed.config, typed_values(self._overrides))
            check_new(composed.config)
        return composed, [*self._overrides, *changes]

    def _template(self, choice: str) -> Template:
        if choice not in self._templates:
            if not self._may_compose:
                raise UsageError(f"{self._origin} holds no config for {shorten(choice)}")
            typed = [*self._overrides, *([choice] if choice != _BASE else [])]
            self._templates[choice] = template(typed, calls_own=self._origin is None)
        return self._templates[choice]


def _mapping(value: Any, origin: Path | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{origin} is broken: a config must have keys, got {shorten(repr(value))}")
    return value


def validate(search: Search, composer: Composer) -> tuple[Search, Composed]:
    """Compose the base config, and one config for each end of a range and for each choice; make the parts of all.

    Returns: the search, with ranges of whole numbers marked as such; the base config.
    Raises: UsageError that names the first invalid value.
    """
    composed, _ = composer([])
    if composed.config["output"].get("dir"):
        where = shorten(composed.config["output"]["dir"])
        raise UsageError(f"output.dir is for one run; the folder of a study is named by --study {quote(where)}")
    for key in search.space:
        root = key.partition(".")[0]
        if root not in PARTS:
            hint = did_you_mean(root, PARTS, "search.space.")
            listing = f"A search changes {', '.join(PARTS)}, and their keys."
            raise UsageError(f"search.space.{shorten(key)}: '{shorten(root)}' cannot be searched.{hint} {listing}")
    whole = {key: _whole(key, search.space, composed, composer) for key in search.space}
    search = replace(search, space=whole)
    configs = {}
    for key in search.space:
        for name, changes in _ends(key, search.space):
            where = f"search.space.{key}.{name}"
            with prefixed(f"{where}: "):
                configs[where] = key, composer(changes)[0].config
    task = _make_parts(composed.config, None)
    known = (*(["loss"] if hasattr(task, "eval_batches") else []), *metrics_and_batch_size(task)[0])
    if search.metric not in known:
        hint, listing = did_you_mean(search.metric, known), ", ".join(known)
        raise UsageError(
            f"search.metric={shorten(search.metric)}: the task does not report it.{hint} It reports {listing}."
        )
    for where, (key, config) in configs.items():
        with prefixed(f"{where}: "):
            _make_parts(config, None if key.partition(".")[0] == "task" else task)
    return search, composed


def _ends(key: str, space: Space) -> Iterator[tuple[str, list[str]]]:
    """The values of a key to check. Yields: the value's name in messages; the changes, with those of dependent keys."""
    dependent = []
    if key in PARTS:
        inner = {name: next(iter(each.ends().values())) for name, each in space.items() if name.startswith(f"{key}.")}
        dependent = [f"{name}={value}" for name, value in inner.items()]
    elif (group := key.partition(".")[0]) in space:
        dependent = [f"{group}={next(iter(space[group].ends().values()))}"]
    for name, value in space[key].ends().items():
        yield name, [f"{key}={value}", *dependent]


def _whole(key: str, space: Space, composed: Composed, composer: Composer) -> Parameter:
    """The parameter, as a range of whole numbers if the key holds a whole number or accepts nothing else."""
    parameter = space[key]
    if not isinstance(parameter, Range):
        return parameter
    if not all(isinstance(number, int) for number in (parameter.low, parameter.high, parameter.step or 1)):
        return parameter
    value = value_at(composed.config, key)
    if isinstance(value, int) and not isinstance(value, bool):
        return replace(parameter, whole=True)
    try:
        composer([f"{key}={parameter.low + 0.5}", *next(_ends(key, space))[1][1:]])
    except UsageError:
        return replace(parameter, whole=True)
    return parameter


def _make_parts(config: dict[str, Any], task: Task | Environment | None) -> Task | Environment:
    """Make the parts, which refuse some values that the signatures allow. Args: task: if None, it is made."""
    with naming("task"):
        if task is None:
            task = make(config["task"], "task")
            _check_validation(task, config)
        _ = task.input_size, task.output_size  # first, because otherwise the error would name the network
    with naming("network"):
        from tracetorch.training.setup import network_and_loss

        net, _ = network_and_loss(task, make(config["network"], "network"), make(config["loss"], "loss"))
    with naming("rule"):
        make(config["rule"], "rule")(net)
    with naming("optimizer"):
        make(config["optimizer"], "optimizer")(net.parameters())
    return task


def _check_validation(task: Task | Environment, config: dict[str, Any]) -> None:
    """Raises: UsageError if a run would have no validation records."""
    if config["train"]["_target_"] == "tracetorch.experiments.lifetime.main":
        raise UsageError("a search needs validation trials, and train=lifetime has none: choose another experiment")
    keys = dict(_keys_of_validation(config["task"], "task"))
    if hasattr(task, "eval_batches"):
        has_none = next(iter(task.eval_batches("validation")), None) is None
    else:  # an environment has no batches
        has_none = bool(keys) and not any(keys.values())
    if has_none:
        advice = f"; set {' or '.join(keys)} above 0" if keys else ""
        raise UsageError(f"the task has no validation trials, and a search must not use the test{advice}")


def _keys_of_validation(node: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """The keys of a task and of its parts that set the number of validation trials, with their values."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _keys_of_validation(value, f"{path}.{name}")
        elif name.startswith("validation"):
            yield f"{path}.{name}", value
