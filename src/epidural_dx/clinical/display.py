"""Small things for reading and showing what users pass in."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

from epidural_dx.clinical.spelling import NOT_KNOWN, normal_form

__all__ = [
    "dollars",
    "duration",
    "is_unknown",
    "percent",
    "plain",
    "pretty",
    "rounded_percent",
    "short_number",
    "shown",
    "words",
]


def plain(value: object) -> object:
    """Return numpy and pandas scalars and arrays as Python's own."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > sys.float_info.max:
        return math.inf if value > 0 else -math.inf
    if value is None or isinstance(value, str | bool | int | float | Mapping | list | tuple):
        return value
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    dimensions = getattr(value, "ndim", None)
    if dimensions == 0 and hasattr(value, "item"):
        return value.item()
    if dimensions is not None and hasattr(value, "tolist"):
        return value.tolist()
    return value


def is_unknown(value: object) -> bool:
    """Say whether a value means that nothing is known."""
    return value is None or (isinstance(value, str) and normal_form(value) in NOT_KNOWN)


def shown(value: object) -> str:
    """Return a raw value for a message."""
    if isinstance(value, str):
        return f"'{value}'"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, Mapping):
        if "value" in value:
            parts = [value.get("comparator"), value["value"], value.get("unit")]
            return f"'{' '.join(str(part) for part in parts if part not in (None, ''))}'"
        return f"{{{', '.join(f'{key}: {shown(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(shown(one) for one in value)}]"
    return repr(value)


def words(value: object) -> str:
    """Return a raw state or list of states for a note."""
    return " or ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def pretty(unit: str) -> str:
    """Return a unit for display: ``10^9/L`` as ``×10⁹/L``."""
    if unit == "1":
        return ""
    head, sign, tail = unit.replace("10*", "10^").partition("^")
    if head != "10" or not sign:
        return unit
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    return f"×10{digits.translate(_SUPERSCRIPT)}{tail[len(digits) :]}"


def percent(probability: float) -> str:
    """Return a probability for people; nothing possible is shown as 0 % or 100 %."""
    if probability >= 0.9995:
        return ">99.9 %"
    if probability >= 0.995:
        return f"{100 * probability:.1f} %"
    if probability >= 0.0995:
        return f"{100 * probability:.0f} %"
    if probability >= 0.00095:
        return f"{100 * probability:.1f} %"
    return "<0.1 %"


def rounded_percent(share: float) -> str:
    """Return a share in whole percent, for sentences."""
    return "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"


def short_number(value: float) -> str:
    """Return a price or a count of hours: whole from 10 on, else with one decimal at most."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


def duration(hours: float) -> str:
    """Return a time in words: minutes below one hour."""
    return f"{60 * hours:.0f} min" if hours < 0.95 else f"{short_number(hours)} h"


def dollars(price: float) -> str:
    """Return a price in words."""
    return f"{short_number(price)} USD"
