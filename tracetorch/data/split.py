"""The choice of held-out samples: a fraction, or a condition on a field."""

from __future__ import annotations

import operator
import re
from difflib import get_close_matches

import numpy as np

_CONDITION = re.compile(r"\s*([A-Za-z_]\w*)\s*(!=|<=|>=|=|<|>)\s*(.+?)\s*")
_ORDERED = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def field_of(wanted: object) -> str | None:
    """Return the field that a condition names; None for a fraction."""
    found = _CONDITION.fullmatch(wanted) if isinstance(wanted, str) else None
    return found[1] if found else None


def held_out(
    wanted: float | str, fields: dict[str, np.ndarray], free: np.ndarray, *, seed: int | None, key: str
) -> np.ndarray:
    """Return the mask of the samples to hold out, bool (samples,).

    Args:
        wanted: a fraction in [0, 1) of the free samples; or a condition on a field: "index<5", "speaker=lucas",
            "speaker=lucas,theo", "speaker!=lucas".
        fields: columns, (samples,) each.
        free: mask of the samples that are not held out yet, bool (samples,).
        seed: draws the samples of a fraction; None: the fraction is the last samples.
        key: of the config, for messages.
    Raises: ValueError for anything else, for an unknown field, if no free sample fits the condition, and if no free
        sample is left.
    """
    if isinstance(wanted, str) and (condition := _CONDITION.fullmatch(wanted)):
        name, sign, text = condition.groups()
        taken = free & _fits((name, sign, text), fields, f"{key}={wanted}")
        if not taken.any():
            raise ValueError(f"{key}={wanted} holds out no sample: {_values(fields[name], name)}")
    else:
        taken = _fraction(wanted, free, seed, key)
    if not (free & ~taken).any():
        raise ValueError(f"{key}={wanted} holds out all samples, and leaves none to train on")
    return taken


def _fraction(wanted: float | str, free: np.ndarray, seed: int | None, key: str) -> np.ndarray:
    """Return the mask of a fraction of the free samples, at least one. Raises: ValueError outside of [0, 1)."""
    try:
        fraction = float(wanted)
    except (ValueError, TypeError):
        fraction = -1.0
    if not 0 <= fraction < 1:
        raise ValueError(
            f"{key}={wanted}: give a fraction below 1, such as 0.1, or a condition on a field, such as 'index<5'"
        )
    places = np.flatnonzero(free)
    count = min(len(places), max(1, round(fraction * len(places)))) if fraction else 0
    taken = np.zeros(len(free), dtype=bool)
    order = places[::-1] if seed is None else np.random.default_rng(seed).permutation(places)
    taken[order[:count]] = True
    return taken


def _fits(condition: tuple[str, str, str], fields: dict[str, np.ndarray], given: str) -> np.ndarray:
    """Return the mask of the samples that fit. Args: condition: field, sign and value. given: the key and its value.

    Raises: ValueError for an unknown field, and for an order among texts.
    """
    name, sign, text = condition
    if name not in fields:
        close = get_close_matches(name, list(fields), 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        known = f"the fields are {', '.join(fields)}" if fields else "these data have no fields"
        raise ValueError(f"{given}: there is no field {name}, {known}{hint}")
    column = fields[name]
    values = [part.strip() for part in text.split(",")]
    if sign in _ORDERED:
        try:
            found: np.ndarray = _ORDERED[sign](column.astype(float), float(text))
        except ValueError:
            raise ValueError(f"{given}: {sign} compares numbers; {_values(column, name)}") from None
        return found
    is_equal = np.isin(column.astype(str), values)
    if column.dtype.kind in "fiu":  # 01, 1 and 1.0 are the same number
        is_equal |= np.isin(column, [float(value) for value in values if _is_number(value)])
    return is_equal if sign == "=" else ~is_equal


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _values(column: np.ndarray, name: str) -> str:
    """Return the first values of a field, for a message."""
    values = np.unique(column)
    shown = ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else "")
    return f"{name} is {shown}"
