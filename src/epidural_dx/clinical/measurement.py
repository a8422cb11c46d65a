"""From a number with its unit to the states it leaves possible for one patient."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from epidural_dx.clinical.aliases import NameAlias
from epidural_dx.clinical.amounts import (
    Amount,
    amount_of,
    parse_amount,
    split_remark,
    with_comparator,
)
from epidural_dx.clinical.display import plain, pretty, shown
from epidural_dx.clinical.notes import RoutineNote
from epidural_dx.clinical.thresholds import MULTIPLE, Cuts, Patient, cuts_of
from epidural_dx.clinical.units import Conversion, Units, unit_key
from epidural_dx.errors import EvidenceError
from epidural_dx.network.variable import Interval, Variable

__all__ = ["Measured", "Measurement", "UnreadableUnitError", "amount_in", "limit_in"]

# A stated word may differ from the number only next to a reference limit, by this share of it:
# the laboratory's own limit was then another one. Not a probability; it decides what is an error.
_NEAR_LIMIT = 0.15

#: A bare number may have been meant in a unit 10 to 20 times smaller (17.1 µmol/L are 1 mg/dL):
#: far enough apart to change the state, too near for one of the readings to be implausible.
_CONFUSED = (0.05, 0.1)

#: Units that only whole numbers have.
_WHOLE = ("points", "levels")


class UnreadableUnitError(EvidenceError):
    """A number whose unit cannot be read; a state stated beside it may then count."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a number means.

    Parameters
    ----------
    states : tuple of str
        The states that remain possible.
    text : str
        The number as given and as converted.
    notes : tuple of str
        Conversions and defaults.
    interval : Interval
        The number (both ends the same) or bound in `unit`.
    unit : str
        The unit reached.
    """

    states: tuple[str, ...]
    text: str
    notes: tuple[str, ...]
    interval: Interval
    unit: str

    @property
    def number(self) -> float | None:
        """The number; None for a bound."""
        return self.interval.low if self.interval.low == self.interval.high else None


def amount_in(spelled: str, given: Mapping[Any, object]) -> tuple[Amount, str]:
    """Read the number of ``{"value", "unit", "comparator"}``.

    Parameters
    ----------
    spelled : str
        The variable as written, for errors.
    given : mapping
        The finding.

    Returns
    -------
    tuple of Amount and str
        The amount and the remark found in brackets in the unit (often empty).

    Raises
    ------
    EvidenceError
        If the value is no number, or unit and comparator do not fit it.
    """
    value = plain(given["value"])
    unit = plain(given.get("unit"))
    if unit is not None and not isinstance(unit, str):
        raise EvidenceError(f"the unit {unit!r} is not text", variable=spelled, value=dict(given))
    amount: Amount | None = None
    if isinstance(value, str):
        amount = parse_amount(value)
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        amount = amount_of(float(value))
    if amount is None:
        raise EvidenceError(
            f"the value {value!r} is not a number", variable=spelled, value=dict(given)
        )
    remark = sign = ""
    if unit is not None:
        unit, sign, remark = split_remark(unit)
        if amount.unit and unit and unit_key(amount.unit) != unit_key(unit):
            raise EvidenceError(
                f"has two units, {amount.unit!r} and {unit!r}", variable=spelled, value=dict(given)
            )
        remark = remark or sign
    comparator = plain(given.get("comparator"))
    if comparator is not None:
        sign = str(comparator)
    if sign:
        bound = with_comparator(amount, sign)
        if bound is None:
            raise EvidenceError(
                f"the comparator {sign!r} does not fit the value {value!r}",
                variable=spelled,
                value=dict(given),
                allowed=("<", "<=", ">", ">="),
            )
        amount = bound
    # An empty unit text is a unit of its own: INR and ratios have none.
    return replace(amount, unit=unit if unit is not None else amount.unit), remark


def limit_in(spelled: str, given: Mapping[Any, object], key: str) -> float | None:
    """Read ``lower_limit`` or ``upper_limit``, which share the unit of the value.

    Parameters
    ----------
    spelled : str
        The variable as written, for errors.
    given : mapping
        The finding.
    key : str
        Which limit.

    Returns
    -------
    float or None
        None if it was not sent.

    Raises
    ------
    EvidenceError
        If it is no positive number.
    """
    value = plain(given.get(key))
    if value is None:
        return None
    if isinstance(value, str):
        amount = parse_amount(value)
        if amount is not None and amount.unit is None and amount.ends == (amount.interval.low,):
            value = amount.interval.low
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value) and value > 0:
            return float(value)
    raise EvidenceError(
        f"the {key.replace('_', ' ')} {value!r} is not a number above 0",
        variable=spelled,
        value=dict(given),
    )


@functools.lru_cache(maxsize=4096)
def _cuts(variable: Variable, unit: str, patient: Patient) -> Cuts | None:
    return cuts_of(variable.thresholds, unit, patient)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number of one patient, to be turned into states.

    Parameters
    ----------
    variable : Variable
        The variable, with its cut-offs.
    spelled : str
        As the user wrote it, for errors and notes.
    value : object
        As the user gave it, for errors.
    units : Units or None
        Spellings of units; without it only the units of the cut-offs are understood.
    patient : Patient
        Sex and age.
    """

    variable: Variable
    spelled: str
    value: object
    units: Units | None
    patient: Patient

    def read(
        self,
        amount: Amount,
        alias: NameAlias | None = None,
        lower: float | None = None,
        upper: float | None = None,
    ) -> Measured:
        """Return what the number means.

        Parameters
        ----------
        amount : Amount
            The number or bound with its unit.
        alias : NameAlias, optional
            The name it was given under, if that name carries a unit or counts from elsewhere.
        lower, upper : float, optional
            Limits that the laboratory sent, in the unit of the amount.

        Returns
        -------
        Measured
            The states.

        Raises
        ------
        EvidenceError
            If the variable takes no numbers, the unit is unknown or ambiguous, or the number is
            outside of anything plausible.
        """
        if not self.variable.thresholds:
            raise self._error(
                f"takes states, not numbers such as {shown(self.value)}",
                allowed=self.variable.states,
            )
        if lower is not None and upper is not None and lower >= upper:
            raise self._error(f"the lower limit {lower:g} is not below the upper limit {upper:g}")
        if amount.thousands is not None:
            return self._with_or_without_thousands(amount, alias, lower, upper)
        if alias is not None and alias.less_upper_limit:
            if upper is None:
                raise self._error(
                    f"needs the upper limit of the laboratory beside {amount.text}: "
                    f'{{"value": {amount.text}, "upper_limit": ...}}, '
                    f"because {self.variable.name} counts from there"
                )
            amount, upper = _shifted(amount, -upper), None
        elif upper is not None and any(r.basis == "multiple" for r in self.variable.thresholds):
            return self._ratio(amount, upper)
        unit = amount.unit
        if unit is None and alias is not None:
            unit = alias.unit
        if unit is None:
            unit = self.variable.unit
        readings = [
            self._in_one_unit(amount, unit, conversion, lower, upper)
            for conversion in self._conversions(unit)
        ]
        if len({states for _, states, *_ in readings}) > 1:
            meanings = "; ".join(
                f"{conversion.text} means {' or '.join(states)}"
                for conversion, states, *_ in readings
            )
            raise UnreadableUnitError(
                f"{shown(self.value)} does not say which unit it is: {meanings}",
                variable=self.spelled,
                value=self.value,
                allowed=tuple(conversion.text for conversion, *_ in readings),
            )
        conversion, states, notes, interval = readings[0]
        if amount.note:
            notes = (*notes, f"{self.spelled}: {amount.note}")
        text = f"{amount.text} {pretty(unit if unit is not None else conversion.unit)}".strip()
        if len(readings) > 1:
            either = " and ".join(conversion.text for conversion, *_ in readings)
            notes = (*notes, f"{self.spelled}: {either} give the same state")
        elif conversion.factor != 1 or conversion.offset != 0:
            reached = replace(amount, interval=interval)
            text += f" = {reached.text} {pretty(conversion.unit)}".rstrip()
            notes = (*notes, RoutineNote(f"{self.spelled}: {text}"))
            if conversion.note:
                notes = (*notes, f"{self.spelled}: {conversion.note}")
        if amount.unit is None and alias is None and self.variable.group == "laboratory":
            notes = (*notes, *self._otherwise(amount, conversion, states))
        return Measured(states, text, notes, interval, conversion.unit)

    def is_near_limit(self, measured: Measured, stated: frozenset[str]) -> bool:
        """Say whether a number lies so near a reference limit that its other side may be true.

        Parameters
        ----------
        measured : Measured
            The number.
        stated : frozenset of str
            The states that somebody wrote beside it.

        Returns
        -------
        bool
            True if another laboratory's limit could make it one of these states.
        """
        cuts = _cuts(self.variable, measured.unit, self.patient)
        number = measured.number
        if number is None or cuts is None:
            return False
        ends = {
            end
            for band in cuts.bands
            for row in band
            if row.state in stated and row.basis != "absolute"
            for end in (row.low, row.high)
            if math.isfinite(end)
        }
        return any(abs(number - end) <= _NEAR_LIMIT * end for end in ends)

    def _error(
        self, problem: str, allowed: tuple[str, ...] = (), nearest: tuple[str, ...] = ()
    ) -> EvidenceError:
        return EvidenceError(
            problem, variable=self.spelled, value=self.value, allowed=allowed, nearest=nearest
        )

    def _with_or_without_thousands(
        self,
        amount: Amount,
        alias: NameAlias | None,
        lower: float | None,
        upper: float | None,
    ) -> Measured:
        """Read 12.500 as twelve and a half or as twelve thousand five hundred, if one fits."""
        assert amount.thousands is not None
        decimal = replace(amount, thousands=None)
        whole = replace(
            amount,
            interval=amount.thousands,
            thousands=None,
            note=f"the dot in {shown(self.value)} was read as a thousands separator",
        )
        read: list[tuple[Amount, Measured]] = []
        errors: list[EvidenceError] = []
        for candidate in (decimal, whole):
            try:
                read.append((candidate, self.read(candidate, alias, lower, upper)))
            except EvidenceError as error:
                errors.append(error)
        if not read:
            raise errors[0]
        if len({measured.states for _, measured in read}) > 1:
            unit = f" {amount.unit}" if amount.unit else ""
            meanings = "; ".join(
                f"{candidate.text}{unit} means {' or '.join(measured.states)}"
                for candidate, measured in read
            )
            raise self._error(
                f"the dot in {shown(self.value)} may be a decimal point or separate thousands: "
                f"{meanings}",
                allowed=tuple(f"{_plainly(candidate)}{unit}" for candidate, _ in read),
            )
        return read[0][1]

    def _otherwise(
        self, amount: Amount, taken: Conversion, states: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Say which unit a bare number was read in, where another common one would matter."""
        for other in self.units.conversions(self.variable.name) if self.units else ():
            cuts = _cuts(self.variable, other.unit, self.patient)
            ratio = other.factor / taken.factor
            if cuts is None or other.unit != taken.unit or other.offset != taken.offset:
                continue
            if not _CONFUSED[0] <= ratio < _CONFUSED[1]:
                continue
            interval = _converted(amount.interval, other)
            found = frozenset().union(*cuts.states(interval))
            if _is_plausible(interval, cuts) and not found & set(states):
                return (
                    f"{self.spelled}: no unit given, {amount.text} was read in "
                    f"{pretty(taken.unit)}; in {other.text} it would mean "
                    f"{' or '.join(s for s in self.variable.states if s in found)}",
                )
        return ()

    def _ratio(self, amount: Amount, upper: float) -> Measured:
        # Value and limit share their unit, whatever it is: their ratio needs none.
        times = Conversion(MULTIPLE, 1.0 / upper, 0.0, MULTIPLE)
        _, states, notes, interval = self._in_one_unit(amount, amount.unit, times, None, None)
        given = f"{amount.text} {pretty(amount.unit or '')}".strip()
        ratio = replace(amount, interval=interval)
        return Measured(
            states, f"{given} = {ratio.text} × upper limit", notes, interval, times.unit
        )

    def _conversions(self, unit: str | None) -> tuple[Conversion, ...]:
        scales = tuple(dict.fromkeys(row.unit for row in self.variable.thresholds))
        if unit is None:
            return (Conversion(scales[0], 1.0, 0.0, scales[0]),)
        if self.units is not None and self.variable.name in self.units.exact:
            try:
                return self.units.candidates(self.variable.name, unit)
            except EvidenceError as error:
                raise UnreadableUnitError(
                    error.problem.replace("this variable", self.variable.name),
                    variable=self.spelled,
                    value=self.value,
                    allowed=error.allowed,
                    nearest=error.nearest,
                ) from error
        for scale in scales:
            if unit_key(scale).lower() == unit_key(unit).lower():
                return (Conversion(scale, 1.0, 0.0, scale),)
        raise UnreadableUnitError(
            f"{unit!r} is not a unit of {self.variable.name}",
            variable=self.spelled,
            value=self.value,
            allowed=scales,
        )

    def _in_one_unit(
        self,
        amount: Amount,
        unit: str | None,
        conversion: Conversion,
        lower: float | None,
        upper: float | None,
    ) -> tuple[Conversion, tuple[str, ...], tuple[str, ...], Interval]:
        cuts = _cuts(self.variable, conversion.unit, self.patient)
        if cuts is None:
            raise self._error(f"has no cut-offs in {conversion.unit}")
        interval = _converted(amount.interval, conversion)
        self._check_plausible(amount, unit, interval, cuts, conversion)
        notes: tuple[str, ...] = ()
        if lower is not None or upper is not None:
            if cuts.takes_limits:
                cuts = cuts.with_limits(
                    None if lower is None else conversion(lower),
                    None if upper is None else conversion(upper),
                    self.spelled,
                )
                notes = (f"{self.spelled}: the limits sent with the result are used",)
            else:
                notes = (f"{self.spelled}: its cuts are fixed, the limits sent are not used",)
        found = cuts.states(interval)
        union = frozenset().union(*found)
        states = tuple(state for state in self.variable.states if state in union)
        if len(set(found)) > 1:
            notes = (*notes, self._blame())
        elif not self.patient.age_known and self._depends_on_age(conversion, interval):
            notes = (*notes, f"{self.spelled}: age is not known, the limits of adults are used")
        return conversion, states, notes, interval

    def _blame(self) -> str:
        missing = []
        if len(self.patient.sexes) > 1 and any(row.sex for row in self.variable.thresholds):
            missing.append("sex")
        if any(age.low != age.high for age in self.patient.ages):
            missing.append("age")
        return (
            f"{self.spelled}: the limits depend on {' and '.join(missing)}, not exactly known; "
            "every state that fits is left possible"
        )

    def _depends_on_age(self, conversion: Conversion, interval: Interval) -> bool:
        anyone = Patient(self.patient.sexes, (Interval(0.0, math.inf, True, False),))
        cuts = _cuts(self.variable, conversion.unit, anyone)
        return cuts is not None and len(set(cuts.states(interval))) > 1

    def _check_plausible(
        self,
        amount: Amount,
        unit: str | None,
        interval: Interval,
        cuts: Cuts,
        conversion: Conversion,
    ) -> None:
        plausible = cuts.plausible
        ends = [end for end in (interval.low, interval.high) if math.isfinite(end)]
        too_high = any(end > plausible.high for end in ends)
        too_low = any(end < plausible.low for end in ends) or not interval.overlaps(plausible)
        if not too_high and not too_low:
            if cuts.unit in _WHOLE and any(end != int(end) for end in ends):
                raise self._error(f"{amount.text} is not a whole number")
            return
        given = f"{amount.text} {pretty(unit if unit is not None else conversion.unit)}".strip()
        side, limit = ("above", plausible.high) if too_high else ("below", plausible.low)
        reach = f"{limit:g} {pretty(conversion.unit)}".strip()
        raise self._error(
            f"{given} is {side} any plausible value "
            f"({'at most' if too_high else 'at least'} {reach})",
            nearest=self._other_unit(amount, conversion),
        )

    def _other_unit(self, amount: Amount, tried: Conversion) -> tuple[str, ...]:
        """Return the number with the first unit of the table that makes it plausible."""
        for conversion in self.units.conversions(self.variable.name) if self.units else ():
            cuts = _cuts(self.variable, conversion.unit, self.patient)
            if (conversion.unit, conversion.factor) == (tried.unit, tried.factor) or cuts is None:
                continue
            interval = _converted(amount.interval, conversion)
            if conversion.text and _is_plausible(interval, cuts):
                return (f"{amount.text} {conversion.text}",)
        return ()


def _is_plausible(interval: Interval, cuts: Cuts) -> bool:
    """Say whether the finite ends of an interval are plausible."""
    ends = [end for end in (interval.low, interval.high) if math.isfinite(end)]
    return all(cuts.plausible.low < end <= cuts.plausible.high for end in ends)


def _plainly(amount: Amount) -> str:
    """Return a number as it may be typed: 12500, not 12.500."""
    low, high = amount.interval.low, amount.interval.high
    return f"{low:.15g}" if low == high else amount.text


def _converted(interval: Interval, conversion: Conversion) -> Interval:
    return Interval(
        conversion(interval.low),
        conversion(interval.high),
        interval.low_closed,
        interval.high_closed,
    )


def _shifted(amount: Amount, by: float) -> Amount:
    shift = Conversion("", 1.0, by, "")
    return replace(amount, interval=_converted(amount.interval, shift))
