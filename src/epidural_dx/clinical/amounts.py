"""Numbers as people write them: ``24 ×10⁹/L``, ``>20 mg/L FEU``, ``24,000 /uL``, ``5-10``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from epidural_dx.network.variable import Interval

__all__ = ["Amount", "amount_of", "parse_amount", "split_remark", "with_comparator"]

_NUMBER = (
    # "350 109/L" is 350 with a lost superscript, not 350,109 per litre.
    r"[+-]?(?:\d{1,3}(?:[ ,'\u00a0\u202f](?!10\d/)\d{3})+(?!\d)(?:\.\d+)?"
    # "1.250.000" can only be a million and a quarter.
    r"|\d{1,3}(?:\.\d{3}){2,}(?![.\d])"
    r"|\d+(?:[.,]\d+)?|\.\d+)"
    r"(?:[eE][+-]?\d+)?"
)
_COMPARATOR = (
    r">=|=>|<=|=<|≥|≤|>|<|~|≈|about|at least|at most|up to|more than|less than|over|under"
    r"|above|below"
)
_AMOUNT = re.compile(
    rf"\s*(?P<sign>{_COMPARATOR})?\s*(?P<number>{_NUMBER})"
    rf"(?:\s*(?:-|–|to|\.\.)\s*(?P<second>{_NUMBER}))?(?P<plus>\+(?!\d))?\s*(?P<unit>.*?)\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_GROUPED_BY_DOT = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+")
_REMARK = re.compile(r"\(([^()]*)\)")

_LOWER = {">": False, "above": False, "over": False, "more than": False}
_LOWER_CLOSED = {">=": True, "=>": True, "≥": True, "at least": True, "ad": True}
_UPPER = {"<": False, "below": False, "under": False, "less than": False}
_UPPER_CLOSED = {"<=": True, "=<": True, "≤": True, "up to": True, "at most": True}
_ABOUT = frozenset({"", "~", "≈", "about", "="})


@dataclass(frozen=True, slots=True)
class Amount:
    """A number or a bound, before its unit is known.

    Parameters
    ----------
    interval : Interval
        The numbers that are possible.
    unit : str or None
        The unit as written; None if there is none.
    note : str
        How the text was read, if there was a choice.
    thousands : Interval or None
        The numbers that are possible if the dots separate thousands, as in German and Spanish
        (``12.500``); None if they cannot.
    """

    interval: Interval
    unit: str | None = None
    note: str = ""
    thousands: Interval | None = None

    @property
    def ends(self) -> tuple[float, ...]:
        """The finite ends of the interval."""
        both = (self.interval.low, self.interval.high)
        return tuple(dict.fromkeys(end for end in both if math.isfinite(end)))

    @property
    def text(self) -> str:
        """The number or bound for display."""
        low, high = self.interval.low, self.interval.high
        if low == high:
            return f"{low:.6g}"
        if high == math.inf:
            return f"{'≥' if self.interval.low_closed else '>'} {low:.6g}"
        if low == -math.inf:
            return f"{'≤' if self.interval.high_closed else '<'} {high:.6g}"
        return f"{low:.6g}–{high:.6g}"


def amount_of(number: float, sign: str = "") -> Amount | None:
    """Return a number with a comparator.

    Parameters
    ----------
    number : float
        Finite.
    sign : str
        ``<``, ``<=``, ``>``, ``>=`` (or the words for them), or nothing.

    Returns
    -------
    Amount or None
        None if the comparator is unknown.
    """
    word = sign.strip().casefold()
    if word in _ABOUT:
        return Amount(Interval(number, number, True, True))
    if word in _LOWER or word in _LOWER_CLOSED:
        return Amount(Interval(number, math.inf, word in _LOWER_CLOSED, False))
    if word in _UPPER or word in _UPPER_CLOSED:
        return Amount(Interval(-math.inf, number, False, word in _UPPER_CLOSED))
    return None


def parse_amount(text: str) -> Amount | None:
    """Read a number, a bound or a range with its unit.

    Parameters
    ----------
    text : str
        Such as ``"79 g/L"``, ``">20 mg/L FEU"``, ``"7,9"``, ``"24 000 /uL"``, ``"60+"``.

    Returns
    -------
    Amount or None
        None if the text does not begin with a number or a comparator and a number.
    """
    match = _AMOUNT.match(text)
    if match is None:
        return None
    unit = match["unit"].strip("_ ") or None
    sign = match["sign"] or ""
    if match["plus"]:
        if sign:
            return None
        sign = ">="
    written = [match["number"]] if match["second"] is None else [match["number"], match["second"]]
    numbers, notes = zip(*(_number(text) for text in written), strict=True)
    interval = _between(numbers, sign)
    if interval is None:
        return None
    thousands = None
    if all(_GROUPED_BY_DOT.fullmatch(text) for text in written):
        thousands = _between([float(text.replace(".", "")) for text in written], sign)
    return Amount(interval, unit, notes[0], None if thousands == interval else thousands)


def _between(numbers: Sequence[float], sign: str) -> Interval | None:
    """Return one number with its comparator, or a range, as an interval; None if it is neither."""
    if not all(math.isfinite(number) for number in numbers):
        return None
    if len(numbers) == 1:
        amount = amount_of(numbers[0], sign)
        return None if amount is None else amount.interval
    if sign or numbers[1] < numbers[0]:
        return None
    return Interval(numbers[0], numbers[1], True, True)


def _number(text: str) -> tuple[float, str]:
    plain = re.sub(r"[ '\u00a0\u202f]", "", text)
    note = ""
    if plain.count(".") > 1:
        note = f"the dots in {text} were read as thousands separators"
        return float(plain.replace(".", "")), note
    if "," in plain:
        grouped = re.match(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?!\d)", plain)
        plain, note = (
            (plain.replace(",", ""), f"the comma in {text} was read as a thousands separator")
            if grouped
            else (plain.replace(",", "."), f"the comma in {text} was read as a decimal point")
        )
    return float(plain), note


def with_comparator(amount: Amount, sign: str) -> Amount | None:
    """Turn a plain number into a bound.

    Parameters
    ----------
    amount : Amount
        A plain number.
    sign : str
        The comparator.

    Returns
    -------
    Amount or None
        None if the amount is a bound already and the comparator says otherwise, or is unknown.
    """
    if amount.interval.low != amount.interval.high:
        return amount if sign.strip().casefold() in _ABOUT else None
    bound = amount_of(amount.interval.low, sign)
    if bound is None:
        return None
    thousands = amount_of(amount.thousands.low, sign) if amount.thousands else None
    return replace(
        amount, interval=bound.interval, thousands=thousands.interval if thousands else None
    )


def split_remark(unit: str) -> tuple[str, str, str]:
    """Split a unit such as ``mg/L (>)`` or ``g/dL (printed as g/litre)``.

    Parameters
    ----------
    unit : str
        The unit as written.

    Returns
    -------
    tuple of str
        The unit without brackets, a comparator found in them, and the remark in them.
    """
    remarks = [remark.strip() for remark in _REMARK.findall(unit)]
    bare = _REMARK.sub(" ", unit).strip()
    sign = next((r for r in remarks if r in (">", "<", ">=", "<=", "≥", "≤")), "")
    kinds = [r for r in remarks if r.upper() in ("FEU", "DDU")]
    rest = "; ".join(r for r in remarks if r and r != sign and r not in kinds)
    return " ".join([bare, *kinds]), sign, rest
