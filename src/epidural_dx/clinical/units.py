"""Units as laboratories write them: to one canonical unit per variable and scale.

The spellings seen in practice are rows of priors/units.csv and need no library. Anything else goes
through pint, which is imported only then.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from epidural_dx.clinical.tables import read_table
from epidural_dx.errors import EvidenceError, ModelError

__all__ = ["Conversion", "Units", "load_units", "unit_key"]

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_FEU = re.compile(r"\{?\bFEU\b\}?|fibrinogen[ -]?equivalent([ -]units?)?", re.IGNORECASE)
_DDU = re.compile(r"\{?\b(?:DDU|D-DU)\b\}?|d-?dimer[ -]units?", re.IGNORECASE)
_TEN = re.compile(r"10(?:\*\*|\*|\^|exp|[eE])\+?(\d{1,2})(?!\d)")
_LONE_EXPONENT = re.compile(r"^[eE]\+?0?(\d{1,2})(?=/)")
_LOST_SUPERSCRIPT = re.compile(r"^10(3|4|5|6|9|12)(?=/)")
_PINT_TEXT = re.compile(r"[A-Za-z%][A-Za-z0-9/*^. ()-]{0,39}\Z|1/[A-Za-z0-9/*^. ()-]{1,39}\Z")
_PINT_EXPONENT = re.compile(r"(?:\^|\*\*)-?\d{1,2}(?![\d^*])")
_PINT_TARGET = re.compile(r"(?:(?:[mun]?(?:g|mol)|U)/[dmu]?L|s|years|mm/h|10\^9/L)\Z")


@functools.lru_cache(maxsize=4096)
def unit_key(text: str) -> str:
    """Return a unit in one spelling, case kept.

    Parameters
    ----------
    text : str
        As written, such as ``×10⁹/L``, ``10*9/l``, ``E+9/L`` or ``cells per µL``.

    Returns
    -------
    str
        Such as ``10^9/L`` or ``cells/uL``; braces of UCUM annotations are dropped.
    """
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^" + run.group().translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text).replace("μ", "u").replace("µ", "u")
    text = re.sub(r"\{[^}]*\}", "", text).replace("[", "").replace("]", "")
    text = re.sub(r"\bper\b(?!\s*mille)", "/", text, flags=re.IGNORECASE)
    text = re.sub(r"\blit(?:er|re)s?\b", "L", text, flags=re.IGNORECASE)
    text = re.sub(r"\bmc(?=[gl])", "u", text, flags=re.IGNORECASE)
    text = re.sub(r"\bcu?\.?\s?mm\b\.?", "cumm", text, flags=re.IGNORECASE)
    text = re.sub(r"\s+", "", text).strip(".,;")
    text = re.sub(r"^[x×X*·](?=10|[eE][+\d])", "", text)
    text = _LONE_EXPONENT.sub(r"10^\1", text)
    text = _TEN.sub(r"10^\1", text)
    text = _LOST_SUPERSCRIPT.sub(r"10^\1", text)
    text = text.replace("mm^3", "mm3").replace("**", "^")
    return re.sub(r"(?<=[/dmunk])l\b", "L", text)


@dataclass(frozen=True, slots=True)
class Conversion:
    """How numbers in one unit become numbers in a unit that has cut-offs.

    Parameters
    ----------
    unit : str
        The unit reached.
    factor, offset : float
        ``value * factor + offset``.
    text : str
        The unit converted from, in a readable spelling.
    note : str
        What a reader should know, such as that DDU were doubled; often empty.
    """

    unit: str
    factor: float
    offset: float
    text: str
    note: str = ""

    def __call__(self, number: float) -> float:
        """Convert a number (infinite ends of bounds stay infinite)."""
        if math.isinf(number):
            return number
        # Twelve digits: 500 ng/mL must be 0.5 mg/L exactly, or the cut falls on the wrong side.
        return float(f"{number * self.factor + self.offset:.12g}")


@dataclass(frozen=True)
class Units:
    """The spellings of units for each variable.

    Parameters
    ----------
    exact, folded : mapping of str to mapping of str to Conversion
        Variable to `unit_key` (case kept, lower case) to conversion. ``G/L`` (giga per litre) is
        only in ``exact``, so that ``g/l`` does not pass for it.
    spellings : mapping of str to tuple of str
        Variable to its units as the file writes them, the canonical one first.
    traps : mapping of str to mapping of str to str
        Variable to lower-case `unit_key` of units that measure something else, to the reason.
    """

    exact: Mapping[str, Mapping[str, Conversion]]
    folded: Mapping[str, Mapping[str, Conversion]]
    spellings: Mapping[str, tuple[str, ...]]
    traps: Mapping[str, Mapping[str, str]]

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle through plain dictionaries."""
        return (
            _rebuild_units,
            (
                {name: dict(table) for name, table in self.exact.items()},
                {name: dict(table) for name, table in self.folded.items()},
                dict(self.spellings),
                {name: dict(table) for name, table in self.traps.items()},
            ),
        )

    def conversions(self, variable: str) -> tuple[Conversion, ...]:
        """Return every conversion of a variable in the order of the file.

        Parameters
        ----------
        variable : str
            The variable.

        Returns
        -------
        tuple of Conversion
            Empty if the variable takes no units.
        """
        return tuple(self.exact.get(variable, {}).values())

    def candidates(self, variable: str, text: str) -> tuple[Conversion, ...]:
        """Return what a unit may mean for a variable.

        Parameters
        ----------
        variable : str
            The variable.
        text : str
            The unit as written.

        Returns
        -------
        tuple of Conversion
            One; or two for a D-dimer whose unit says neither FEU nor DDU.

        Raises
        ------
        EvidenceError
            If the unit is unknown or measures something else.
        """
        exact = self.exact.get(variable, {})
        reason = self.traps.get(variable, {}).get(unit_key(text).lower())
        if reason is not None:
            raise EvidenceError(
                f"{text.strip()!r} is not a unit of this variable: {reason}",
                variable=variable,
                value=text,
            )
        kinds = _dimer_kinds(exact)
        if kinds:
            text, kind = _split_dimer(text)
            key = unit_key(text)
            wanted = (kind,) if kind else kinds
            found = [self._look_up(variable, f"{key} {one}") for one in wanted]
            if all(found):
                return tuple(conversion for conversion in found if conversion)
            plain = self._look_up(variable, key)
            if plain:
                return (plain,)
            given = tuple(
                through
                for one in wanted
                if (through := _through_pint(exact, key, f" {one}")) is not None
            )
            if given:
                return given
        else:
            key = unit_key(text)
            conversion = self._look_up(variable, key) or _through_pint(exact, key, "")
            if conversion:
                return (conversion,)
        raise self._refusal(variable, text)

    def _look_up(self, variable: str, key: str) -> Conversion | None:
        exact = self.exact.get(variable, {})
        return exact.get(key) or self.folded.get(variable, {}).get(key.lower())

    def _refusal(self, variable: str, text: str) -> EvidenceError:
        from difflib import get_close_matches

        spellings = self.spellings.get(variable, ())
        by_folded = {spelling.lower(): spelling for spelling in reversed(spellings) if spelling}
        close = get_close_matches(text.strip().lower(), list(by_folded), n=1, cutoff=0.75)
        return EvidenceError(
            f"{text.strip()!r} is not a unit of this variable",
            variable=variable,
            value=text,
            allowed=tuple(spelling for spelling in spellings if spelling)[:8],
            nearest=tuple(by_folded[match] for match in close),
        )


def _rebuild_units(
    exact: dict[str, dict[str, Conversion]],
    folded: dict[str, dict[str, Conversion]],
    spellings: dict[str, tuple[str, ...]],
    traps: dict[str, dict[str, str]],
) -> Units:
    return Units(
        MappingProxyType({name: MappingProxyType(table) for name, table in exact.items()}),
        MappingProxyType({name: MappingProxyType(table) for name, table in folded.items()}),
        MappingProxyType(spellings),
        MappingProxyType({name: MappingProxyType(table) for name, table in traps.items()}),
    )


def _dimer_kinds(table: Mapping[str, Conversion]) -> tuple[str, ...]:
    if any(key.endswith(" DDU") for key in table):
        return ("FEU", "DDU")
    return ()


def _split_dimer(text: str) -> tuple[str, str | None]:
    for kind, pattern in (("FEU", _FEU), ("DDU", _DDU)):
        if pattern.search(text):
            return re.sub(r"\(\s*\)", "", pattern.sub(" ", text)).strip(), kind
    return text, None


def load_units(path: str | Path) -> Units:
    """Read and check priors/units.csv.

    Parameters
    ----------
    path : path-like
        The file: variable, unit_text, factor, offset, unit, note; the first row of a variable is
        its canonical unit, and a row without a factor is a trap whose note says why.

    Returns
    -------
    Units
        The table.

    Raises
    ------
    ModelError
        If a factor is not positive, or a spelling stands for two different conversions.
    """
    exact: dict[str, dict[str, Conversion]] = {}
    folded: dict[str, dict[str, Conversion]] = {}
    spellings: dict[str, list[str]] = {}
    traps: dict[str, dict[str, str]] = {}
    for row in read_table(path, ("variable", "unit_text", "factor", "offset", "unit", "note")):
        name, text = row["variable"], row["unit_text"]
        if row["factor"] == "":
            if not row["note"]:
                raise row.error(f"{text!r} has no factor and no reason", name)
            traps.setdefault(name, {})[unit_key(text).lower()] = row["note"]
            continue
        factor = row.number("factor")
        if factor <= 0:
            raise row.error(f"the factor of {text!r} is not positive", name)
        conversion = Conversion(row["unit"], factor, row.number("offset", 0.0), text, row["note"])
        bare, kind = _split_dimer(text)
        key = f"{unit_key(bare)} {kind}" if kind else unit_key(text)
        before = exact.setdefault(name, {}).get(key)
        # The same spelling on two scales (reticulocytes in % and per litre) would be ambiguous.
        if before and (before.unit, before.factor) != (conversion.unit, conversion.factor):
            raise row.error(f"the unit {text!r} has two meanings", name)
        exact[name].setdefault(key, conversion)
        if not key.startswith("G/"):
            folded.setdefault(name, {}).setdefault(key.lower(), conversion)
        spellings.setdefault(name, []).append(text)
    if not exact:
        raise ModelError("holds no units", file=path)
    return _rebuild_units(
        exact,
        folded,
        {name: tuple(dict.fromkeys(texts)) for name, texts in spellings.items()},
        traps,
    )


@functools.lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()


def _through_pint(table: Mapping[str, Conversion], key: str, suffix: str) -> Conversion | None:
    """Convert an unlisted unit through pint; None if it has no fitting dimension."""
    rest = _PINT_EXPONENT.sub("", key)
    if not _PINT_TEXT.match(key) or "^" in rest or "**" in rest or re.search(r"\d{4}", key):
        return None
    registry = _registry()
    quantity = _parsed(registry, key)
    if quantity is None:
        return None
    for spelling, conversion in table.items():
        if suffix and not spelling.endswith(suffix):
            continue
        target = spelling.removesuffix(suffix) if suffix else spelling
        if not _PINT_TARGET.match(target) or conversion.offset:
            continue
        other = _parsed(registry, target)
        if other is None:
            continue
        ratio = (quantity / other).to_base_units()
        if ratio.dimensionless and math.isfinite(ratio.magnitude) and ratio.magnitude > 0:
            factor = float(f"{ratio.magnitude * conversion.factor:.12g}")
            return Conversion(conversion.unit, factor, 0.0, key + suffix, conversion.note)
    return None


def _parsed(registry: Any, text: str) -> Any:
    """Read a unit with pint; None if it is no multiplicative unit."""
    # pint raises many classes on odd text (tokenize, attribute, zero division, its own).
    try:
        quantity = registry.Quantity(1.0, registry.parse_units("dimensionless")) * (
            registry.parse_expression(text)
        )
        return quantity if quantity._is_multiplicative else None
    except Exception:
        return None
