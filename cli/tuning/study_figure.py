"""The figure of a study, from its trials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracetorch.cli.tuning.space import Parameter, Range

if TYPE_CHECKING:
    from tracetorch.cli.tuning.study import Study
    from tracetorch.plot import Axis


def draw_study(study: Study, folder: Path) -> Path | None:
    """Draw `plots/search.png` and `.svg`. Returns: the first; None if there is nothing to draw yet."""
    from optuna.trial import TrialState

    from tracetorch.plot import Tried, save, search

    names = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    space = study.search.space
    tried = [
        Tried(one.number, one.value, names[one.state], [_position(space[key], one.params.get(key)) for key in space])
        for one in study.trials()
        if one.state in names
    ]
    if not tried:
        return None
    axes = [_axis(key, one) for key, one in space.items()]
    metric = f"{study.search.metric} (validation)"
    fig = search(tried, axes, metric=metric, maximize=study.search.direction == "maximize")
    return save(fig, folder / "plots" / "search")[0]


def _axis(key: str, one: Parameter) -> Axis:
    from tracetorch.plot import Axis

    if isinstance(one, Range):
        return Axis(key, (one.low, one.high), log=one.log, whole=one.whole)
    return Axis(key, (0, len(one.values) - 1), names=[one.shown(label) for label in one.labels])


def _position(one: Parameter, value: Any) -> float | None:
    """Where a value lies on its axis: a choice, by its number."""
    if isinstance(one, Range):
        return float(value) if isinstance(value, int | float) else None
    return float(one.labels.index(value)) if value in one.labels else None
