"""How numbers and names stand in a figure, and in text: what needs no Matplotlib."""

from __future__ import annotations

import numpy as np

from dfmm.metrics import Difference, Interval

LABEL_LENGTH = 26  # characters of a method's name beside an axis


def describe_data(*, synthetic: bool) -> str:
    """The note every figure of a report carries: results on synthetic data are called so wherever they are shown."""
    return "synthetic data" if synthetic else ""


def format_interval(interval: Interval | None) -> str:
    """`0.932 [0.871, 0.981]`, or `–` where the value is undefined."""
    value, low, high = ((interval or {}).get(name) for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return format_number(value)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def format_difference(difference: Difference | None) -> str:
    """`+0.041 [-0.002, 0.084]`, with its paired interval where there is one, or `–` where it is undefined."""
    value, low, high = ((difference or {}).get(name) for name in ("difference", "low", "high"))
    if value is None:
        return "–"
    return f"{value:+.3f}" if low is None or high is None else f"{value:+.3f} [{low:.3f}, {high:.3f}]"


def format_number(value: float | None) -> str:
    """Three decimals, or `–` where the value is undefined."""
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def format_share(value: float | None) -> str:
    """Whole per cent, or `–` where the value is undefined."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.0f} %"


def shorten_text(text: str, length: int = LABEL_LENGTH) -> str:
    """The text's beginning, with an ellipsis where its end is left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def tell_amount(amount: float, unit: str) -> str:
    """`37 quality`, or `0.5 s early` of what is late by less than nothing; to three digits."""
    if amount < 0 and unit.endswith(" late"):
        amount, unit = -amount, unit.removesuffix("late") + "early"
    return f"{amount:.0f} {unit}" if abs(amount) >= 100 else f"{amount:.3g} {unit}"
