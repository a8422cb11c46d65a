"""Codes of hospital systems for variables, causes and tests, from priors/terminology.csv."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from epidural_dx.clinical.tables import read_table

__all__ = ["Code", "load_terminology", "loinc_is_valid", "sctid_is_valid"]

ITEM_TYPES = (
    "laboratory",
    "vital_sign",
    "demographic",
    "test",
    "condition",
    "cause",
    "finding",
    "history",
    "medication",
    "body_site",
    "trap",
)

_COLUMNS = (
    "item_type",
    "item",
    "system",
    "code",
    "display",
    "unit_ucum",
    "normal_low",
    "normal_high",
    "verified",
    "source",
    "note",
)

# The dihedral group of Verhoeff's check digit, which SNOMED CT identifiers end with.
_MULTIPLY = tuple(
    tuple(
        (i + j) % 5
        if i < 5 and j < 5
        else (i + j - 5) % 5 + 5
        if i < 5
        else (i - 5 - j) % 5 + 5
        if j < 5
        else (i - j) % 5
        for j in range(10)
    )
    for i in range(10)
)
_PERMUTE = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


@dataclass(frozen=True, slots=True)
class Code:
    """One code and what it is taken for.

    Parameters
    ----------
    item_type : str
        One of laboratory, vital_sign, demographic, test, condition, cause, finding, history,
        medication, body_site; ``trap`` marks codes that must never set their item.
    item : str
        Variable, cause or test.
    system, code, display : str
        As in a FHIR Coding.
    unit_ucum : str
        Usual unit.
    normal_low, normal_high : float
        Adult reference interval; nan where none is given.
    verified : str
        ``seen`` or ``recalled``.
    source, note : str
        Where code and meaning were read; keys such as ``sex=female`` or ``state=tdt|ntdt``.
    """

    item_type: str
    item: str
    system: str
    code: str
    display: str
    unit_ucum: str
    normal_low: float
    normal_high: float
    verified: str
    source: str
    note: str


def load_terminology(path: str | Path) -> tuple[Code, ...]:
    """Read and check priors/terminology.csv.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    tuple of Code
        In the order of the file.

    Raises
    ------
    ModelError
        If a cell is wrong, a check digit fails, or a trap is also listed as a meaning of its item.
    """
    codes: list[Code] = []
    seen: set[tuple[str, ...]] = set()
    traps: set[tuple[str, str, str]] = set()
    plain: set[tuple[str, str, str]] = set()
    for row in read_table(path, _COLUMNS):
        code = Code(
            row.choice("item_type", ITEM_TYPES),
            row["item"],
            row["system"],
            row["code"],
            row["display"],
            row["unit_ucum"],
            row.number("normal_low", math.nan),
            row.number("normal_high", math.nan),
            row.choice("verified", ("seen", "recalled")),
            row["source"],
            row["note"],
        )
        if not (code.item and code.system and code.code):
            raise row.error("item, system and code must not be empty")
        if code.system == "http://loinc.org" and not loinc_is_valid(code.code):
            raise row.error("the check digit of this LOINC code is wrong", code.code)
        if code.system == "http://snomed.info/sct" and not sctid_is_valid(code.code):
            raise row.error("the check digit of this SNOMED CT code is wrong", code.code)
        key = (code.item_type, code.item, code.system, code.code, code.unit_ucum, code.note)
        if key in seen:
            raise row.error("stands twice", code.code)
        seen.add(key)
        (traps if code.item_type == "trap" else plain).add((code.item, code.system, code.code))
        if (code.item, code.system, code.code) in traps & plain:
            raise row.error("is both a trap and a meaning of its item", code.code)
        codes.append(code)
    return tuple(codes)


def loinc_is_valid(code: str) -> bool:
    """Say whether a LOINC code has the right check digit (Luhn).

    Parameters
    ----------
    code : str
        Such as ``777-3``.

    Returns
    -------
    bool
        True if it fits.
    """
    match = re.fullmatch(r"(\d{1,7})-(\d)", code)
    if match is None:
        return False
    total = 0
    for place, digit in enumerate(reversed(match.group(1))):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return (10 - total % 10) % 10 == int(match.group(2))


def sctid_is_valid(code: str) -> bool:
    """Say whether a SNOMED CT identifier has the right check digit (Verhoeff).

    Parameters
    ----------
    code : str
        Such as ``109989006``.

    Returns
    -------
    bool
        True if it fits.
    """
    if not re.fullmatch(r"[1-9]\d{5,17}", code):
        return False
    check = 0
    for place, digit in enumerate(reversed(code)):
        value = int(digit)
        for _ in range(place % 8):
            value = _PERMUTE[value]
        check = _MULTIPLY[check][value]
    return check == 0
