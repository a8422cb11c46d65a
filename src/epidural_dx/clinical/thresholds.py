"""Cut-offs that turn numbers into states, as priors/thresholds.csv holds them.

The rows of one variable, unit, sex and age band cut the whole line into one interval per state;
the bands of each sex follow each other without a gap. A limit sent with a result replaces the
limit of the table (``basis`` limit and multiple).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from epidural_dx.clinical.tables import Row, read_table
from epidural_dx.errors import EvidenceError
from epidural_dx.network.variable import Interval, Threshold

__all__ = ["MULTIPLE", "SEXES", "Cuts", "Patient", "cuts_of", "load_thresholds"]

SEXES = ("female", "male")

#: The unit of a value that was divided by the upper limit of the laboratory.
MULTIPLE = "x upper limit"

_COLUMNS = (
    "variable",
    "state",
    "low",
    "high",
    "unit",
    "sex",
    "age_low_years",
    "age_high_years",
    "plausible_low",
    "plausible_high",
    "closed",
    "basis",
    "source_id",
    "grade",
    "note",
)


def load_thresholds(path: str | Path) -> dict[str, tuple[Threshold, ...]]:
    """Read and check priors/thresholds.csv.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    dict of str to tuple of Threshold
        For each variable its rows in the order of the file.

    Raises
    ------
    ModelError
        If a cell is wrong, a source is missing, or the rows of a variable leave a gap or overlap.
    """
    found: dict[str, list[tuple[Threshold, Row]]] = defaultdict(list)
    for row in read_table(path, _COLUMNS):
        found[row["variable"]].append((_threshold(row), row))
    for name, pairs in found.items():
        _check_variable(name, pairs)
    return {name: tuple(threshold for threshold, _ in pairs) for name, pairs in found.items()}


def _threshold(row: Row) -> Threshold:
    closed = row.choice("closed", ("none", "low", "high", "both"))
    if not row["source_id"]:
        raise row.error("has no source_id", row["variable"])
    threshold = Threshold(
        state=row["state"],
        low=row.number("low", -math.inf),
        high=row.number("high", math.inf),
        unit=row["unit"],
        sex=row.choice("sex", ("", *SEXES)),
        age_low=row.number("age_low_years", 0.0),
        age_high=row.number("age_high_years", math.inf),
        source_id=row["source_id"],
        low_closed=closed in ("low", "both"),
        high_closed=closed in ("high", "both"),
        basis=row.choice("basis", ("absolute", "limit", "multiple")),
        plausible_low=row.number("plausible_low", -math.inf),
        plausible_high=row.number("plausible_high", math.inf),
        grade=row.choice("grade", ("seen", "derived", "recalled", "assumed", "definition")),
        note=row["note"],
    )
    if threshold.interval.is_empty:
        raise row.error(f"the interval of {threshold.state} is empty", row["variable"])
    if threshold.age_low >= threshold.age_high:
        raise row.error("the age band is empty", row["variable"])
    return threshold


def _check_variable(name: str, pairs: Sequence[tuple[Threshold, Row]]) -> None:
    bands: dict[tuple[str, str, float, float], list[tuple[Threshold, Row]]] = defaultdict(list)
    for threshold, row in pairs:
        key = (threshold.unit, threshold.sex, threshold.age_low, threshold.age_high)
        bands[key].append((threshold, row))
    for members in bands.values():
        _check_band(name, members)
    for unit in {key[0] for key in bands}:
        for sex in SEXES:
            spans = sorted(
                (low, high, members[0][1])
                for (of, whose, low, high), members in bands.items()
                if of == unit and whose in ("", sex)
            )
            reached = 0.0
            for low, high, row in spans:
                if low != reached:
                    what = "is covered twice" if low < reached else "is not covered"
                    raise row.error(f"for {sex} the age of {min(low, reached):g} {what}", name)
                reached = high
            if reached != math.inf:
                raise pairs[0][1].error(f"for {sex} ages from {reached:g} are not covered", name)


def _check_band(name: str, members: Sequence[tuple[Threshold, Row]]) -> None:
    ordered = sorted(members, key=lambda pair: pair[0].low)
    first, last = ordered[0], ordered[-1]
    if first[0].low != -math.inf or last[0].high != math.inf:
        raise first[1].error("the states do not cover every number", name)
    if len({threshold.state for threshold, _ in members}) != len(members):
        raise first[1].error("a state has two intervals in one band", name)
    for (below, _), (above, row) in zip(ordered, ordered[1:], strict=False):
        if below.high != above.low:
            raise row.error(
                f"{below.state} ends at {below.high:g} but {above.state} begins at {above.low:g}",
                name,
            )
        if below.high_closed == above.low_closed:
            both = "both" if below.high_closed else "neither"
            raise row.error(
                f"{both} of {below.state} and {above.state} hold the cut {above.low:g}", name
            )


@dataclass(frozen=True, slots=True)
class Patient:
    """What is known of sex and age, as far as limits depend on them.

    Parameters
    ----------
    sexes : tuple of str
        The sexes that are possible.
    ages : tuple of Interval
        The ages in years that are possible.
    age_known : bool
        False if nothing was said about age, and the ages are the adult ones by default.
    """

    sexes: tuple[str, ...] = SEXES
    ages: tuple[Interval, ...] = (Interval(18.0, math.inf, True, False),)
    age_known: bool = False


@dataclass(frozen=True, slots=True)
class Cuts:
    """The cut-offs of one variable in one unit that may hold for a patient.

    Parameters
    ----------
    unit : str
        The unit; `MULTIPLE` for multiples of the upper limit.
    bands : tuple of tuple of Threshold
        One set of rows for each sex and age band that the patient may belong to.
    """

    unit: str
    bands: tuple[tuple[Threshold, ...], ...]

    @property
    def plausible(self) -> Interval:
        """Numbers that may occur at all."""
        rows = [row for band in self.bands for row in band]
        return Interval(
            min(row.plausible_low for row in rows),
            max(row.plausible_high for row in rows),
            True,
            True,
        )

    def states(self, value: Interval) -> tuple[frozenset[str], ...]:
        """Return, for each band, the states that hold some number of an interval.

        Parameters
        ----------
        value : Interval
            A number (both ends the same) or a bound, in `unit`.

        Returns
        -------
        tuple of frozenset of str
            One set per band.
        """
        return tuple(
            frozenset(row.state for row in band if row.interval.overlaps(value))
            for band in self.bands
        )

    def with_limits(self, lower: float | None, upper: float | None, variable: str) -> Cuts:
        """Return the cut-offs with the limits that the laboratory sent.

        Parameters
        ----------
        lower, upper : float or None
            The limits in `unit`.
        variable : str
            For the error.

        Returns
        -------
        Cuts
            With the limits in place of those of the table; unchanged where the cuts are absolute.

        Raises
        ------
        EvidenceError
            If a limit does not fit between the cuts that stay.
        """
        bands = tuple(_shift(band, lower, upper, variable) for band in self.bands)
        return Cuts(self.unit, tuple(dict.fromkeys(bands)))

    @property
    def takes_limits(self) -> bool:
        """Whether any cut is a reference limit."""
        return any(row.basis != "absolute" for band in self.bands for row in band)


def _shift(
    band: tuple[Threshold, ...], lower: float | None, upper: float | None, variable: str
) -> tuple[Threshold, ...]:
    normal = next((row for row in band if row.state == "normal"), None)
    if normal is None or normal.basis == "absolute":
        return band
    moved: dict[float, float] = {}
    if lower is not None and normal.low != -math.inf:
        moved[normal.low] = lower
    if upper is not None and normal.high != math.inf:
        if normal.basis == "multiple":
            factor = upper / normal.high
            return tuple(replace(row, low=row.low * factor, high=row.high * factor) for row in band)
        moved[normal.high] = upper
    shifted = tuple(
        replace(row, low=moved.get(row.low, row.low), high=moved.get(row.high, row.high))
        for row in band
    )
    for row in shifted:
        if row.interval.is_empty:
            sent = ", ".join(f"{limit:g}" for limit in (lower, upper) if limit is not None)
            raise EvidenceError(
                f"the limits sent with the result ({sent} {row.unit}".rstrip()
                + f") leave no room for {row.state}",
                variable=variable,
                value=sent,
            )
    return shifted


def cuts_of(thresholds: Iterable[Threshold], unit: str, patient: Patient) -> Cuts | None:
    """Select the cut-offs in one unit that may hold for a patient.

    Parameters
    ----------
    thresholds : iterable of Threshold
        All rows of a variable.
    unit : str
        The unit; `MULTIPLE` selects rows whose cuts are multiples of the upper limit.
    patient : Patient
        Sex and age.

    Returns
    -------
    Cuts or None
        None if the variable has no cut-offs in this unit.
    """
    bands: dict[tuple[str, float, float], list[Threshold]] = defaultdict(list)
    for row in thresholds:
        if unit == MULTIPLE:
            if row.basis != "multiple":
                continue
        elif row.unit != unit:
            continue
        if row.sex and row.sex not in patient.sexes:
            continue
        years = Interval(row.age_low, row.age_high, True, False)
        if any(years.overlaps(age) for age in patient.ages):
            bands[row.sex, row.age_low, row.age_high].append(row)
    if not bands:
        return None
    groups = [tuple(band) for band in bands.values()]
    if unit == MULTIPLE:
        groups = [_in_multiples(band) for band in groups]
    return Cuts(unit, tuple(dict.fromkeys(groups)))


def _in_multiples(band: tuple[Threshold, ...]) -> tuple[Threshold, ...]:
    limit = next(row.high for row in band if row.state == "normal")
    return tuple(
        replace(
            row,
            low=row.low / limit,
            high=row.high / limit,
            unit=MULTIPLE,
            plausible_low=row.plausible_low / limit,
            plausible_high=row.plausible_high / limit,
        )
        for row in band
    )
