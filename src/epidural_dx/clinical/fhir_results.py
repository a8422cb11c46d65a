"""Results of Observations: numbers with units and limits, words, and marks such as H or POS."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from epidural_dx.clinical.amounts import parse_amount
from epidural_dx.clinical.fhir_codes import Coding, FhirCodes, Meaning
from epidural_dx.clinical.fhir_resources import (
    codings,
    mappings,
    number_of,
    quantity,
    text_of,
    words_of,
)
from epidural_dx.clinical.spelling import states_of
from epidural_dx.clinical.units import unit_key
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from epidural_dx.model import Model

__all__ = ["Candidate", "Results"]

_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one resource says about one variable.

    Attributes
    ----------
    variable : str
    key : str
        Results with one key replace each other; empty for numbers and words.
    reference : str
    coding : Coding
    time : datetime or None
    said : str or None
        The time as the record writes it.
    raw : object
        A number with its unit for `read_evidence`, or None.
    spelled : str
        The name under which the number is read.
    states : tuple of str
        Without a number: the states that remain possible.
    is_result : bool
        Whether it is the result of an Observation.
    problem : str
        Why the result cannot be read; empty if it can.
    note : str
    """

    variable: str
    key: str
    reference: str
    coding: Coding
    time: datetime.datetime | None
    said: str | None
    raw: object = None
    spelled: str = ""
    states: tuple[str, ...] = ()
    is_result: bool = False
    problem: str = ""
    note: str = ""

    @property
    def when(self) -> datetime.datetime:
        """The time, for sorting; what has none is oldest."""
        return self.time or _LONG_AGO

    @property
    def told(self) -> str:
        """What it says, for people."""
        said = " or ".join(self.states)
        if isinstance(self.raw, Mapping):
            said = f"{self.raw.get('comparator', '')}{self.raw['value']} {self.raw.get('unit', '')}"
        return f"{said.strip()} ({self.reference}{', ' + self.said if self.said else ''})"


class Results:
    """Reads results with the units and cut-offs of a model.

    Parameters
    ----------
    model : Model
    codes : FhirCodes
    base : dict of str to object
        Age and sex of the patient as evidence, on which limits depend; may be filled later.
    """

    def __init__(self, model: Model, codes: FhirCodes, base: Mapping[str, object]) -> None:
        self.model = model
        self.codes = codes
        self.base = base

    def present(self, resource: Mapping[str, Any]) -> bool | None:
        """Whether a result says that something was found; None if it says neither."""
        value = resource.get("valueBoolean")
        if isinstance(value, bool):
            return value
        for concept in (resource.get("valueCodeableConcept"), resource.get("interpretation")):
            for coding in codings(concept):
                answer = self.codes.about("answer_codes", coding)
                if answer is not None:
                    return bool(answer == "present")
        for word in (
            *words_of(resource.get("valueCodeableConcept")),
            text_of(resource.get("valueString")),
        ):
            answer = self.codes.answer(word)
            if answer is not None:
                return answer == "present"
        number, _, comparator = quantity(resource.get("valueQuantity"))
        if number is None:
            number = number_of(resource.get("valueInteger"))
        if number is None or number < 0:
            return None
        if comparator in ("<", "<="):
            return False if number == 0 else None
        return number > 0

    def is_high(self, resource: Mapping[str, Any]) -> bool | None:
        """Whether a number is above the range sent with it, or marked so; None if unknown."""
        marks = {c.code for c in codings(resource.get("interpretation"))}
        if marks & {"H", "HH", "A", "AA", "HU", "POS"}:
            return True
        if marks & {"N", "NEG", "L"}:
            return False
        number, units, comparator = quantity(resource.get("valueQuantity"))
        _, upper, _ = self._range(resource, units)
        if number is None or upper is None or comparator:
            return None
        return number > upper

    def _range(
        self, resource: Mapping[str, Any], units: tuple[str, ...]
    ) -> tuple[float | None, float | None, str]:
        """Return the limits sent with a result if they are clear, and a note if they are not."""
        sent = [
            one
            for one in mappings(resource.get("referenceRange"))
            if not codings(one.get("type")) or codings(one.get("type"))[0].code == "normal"
        ]
        if not sent:
            return None, None, ""
        if len(sent) > 1:
            return None, None, "several ranges were sent, none is used"
        limits: list[float | None] = []
        for end in ("low", "high"):
            number, named, _ = quantity(sent[0].get(end))
            mine = {unit_key(unit).lower() for unit in units}
            theirs = {unit_key(unit).lower() for unit in named}
            if number is not None and theirs and mine and not mine & theirs:
                return None, None, "the range sent has another unit and is not used"
            limits.append(number if number is not None and number > 0 else None)
        return limits[0], limits[1], ""

    def number(
        self, resource: Mapping[str, Any], meaning: Meaning, spelled: str, source: Candidate
    ) -> Candidate:
        """Return a number with its unit and limits, or the problem with it."""
        number, units, comparator = quantity(resource.get("valueQuantity"))
        variable = source.variable

        def unreadable(reason: str) -> Candidate:
            return replace(source, problem=reason)

        if number is None:
            text = text_of(resource.get("valueString")).strip()
            if not text:
                return unreadable("holds no number")
            return self._number_in_text(text, _dimer_kind(meaning), spelled, source)
        lower, upper, note = self._range(resource, units)
        if self.codes.is_listed("needs_upper_limit", source.coding) and upper is None:
            return unreadable("its scale is not known and no upper limit was sent with it")
        kind = _dimer_kind(meaning)
        if kind:
            said = {k for unit in units for k in ("FEU", "DDU") if k in unit.upper()}
            if said - {kind}:
                return unreadable(f"its code means {kind}, its unit {' '.join(sorted(said))}")
            units = tuple(unit if kind in unit.upper() else f"{unit} {kind}" for unit in units)
        if not units:
            try:
                self.model.read_evidence({spelled: {"value": number, "unit": ""}})
            except EvidenceError:
                if upper is None or not any(
                    row.basis == "multiple" for row in self.model.variables[variable].thresholds
                ):
                    return unreadable("a number without unit is not read")
            units = ("",)
        # a prothrombin time counts from the upper limit; the lower one has no meaning for it
        limits = {"lower_limit": lower if spelled == variable else None, "upper_limit": upper}
        limits = {key: value for key, value in limits.items() if value is not None}
        readings = []
        for unit in units:
            raw = {
                "value": number,
                "unit": unit,
                **({"comparator": comparator} if comparator else {}),
            }
            found = self._read(spelled, raw, limits, source, note)
            if found is not None:
                readings.append((unit, found))
        if not readings:
            return unreadable(self._why(spelled, {**raw, **limits}))
        if len(readings) > 1 and len({self._meaning(spelled, f.raw) for _, f in readings}) > 1:
            return unreadable(f"its units {' and '.join(units)} disagree")
        return readings[0][1]

    def _number_in_text(self, text: str, kind: str, spelled: str, source: Candidate) -> Candidate:
        """Read a result that was sent as text."""
        amount = parse_amount(text)
        if amount is None:
            named = states_of(self.model.variables[source.variable], text)
            if named is None:
                return replace(source, problem=f"{text[:40]!r} is no number and no state")
            return replace(source, states=tuple(named))
        if amount.unit is None:
            try:
                self.model.read_evidence({spelled: {"value": amount.ends[0], "unit": ""}})
            except EvidenceError:
                return replace(source, problem="a number without unit is not read")
        elif kind and not any(k in amount.unit.upper() for k in ("FEU", "DDU")):
            text = f"{text} {kind}"
        found = self._read(spelled, text, {}, source, "")
        return found or replace(source, problem=self._why(spelled, text))

    def _meaning(self, spelled: str, raw: object) -> tuple[object, ...]:
        """Return what a number means, to tell whether two units agree."""
        entry = next(
            e
            for name, e in self.model.read_evidence({**self.base, spelled: raw}).entries.items()
            if name == self.model.canonical_name(spelled)
        )
        number = None if entry.value is None else float(f"{entry.value:.9g}")
        return entry.states, number, entry.unit

    def _read(
        self,
        spelled: str,
        raw: Any,
        limits: Any,
        source: Candidate,
        note: str,
    ) -> Candidate | None:
        """Return a number that the model can read, with the limits sent if they fit."""
        tries = [({**raw, **limits}, note)] if limits else []
        tries.append(
            (raw, note or ("the range sent does not fit and is not used" if limits else ""))
        )
        for value, told in tries:
            try:
                self.model.read_evidence({**self.base, spelled: value})
            except EvidenceError:
                continue
            return replace(source, raw=value, spelled=spelled, note=told)
        return None

    def _why(self, spelled: str, raw: object) -> str:
        """Say why a number cannot be read."""
        try:
            self.model.read_evidence({**self.base, spelled: raw})
        except EvidenceError as error:
            near = f"; did you mean {error.nearest[0]}?" if error.nearest else ""
            return error.problem + near
        return "cannot be read"

    def words(self, resource: Mapping[str, Any], source: Candidate) -> Candidate | None:
        """Return a result in words or marks; None if it names no state of the variable."""
        variable = self.model.variables[source.variable]
        states = variable.states
        concept = resource.get("valueCodeableConcept")
        for word in (*words_of(concept), text_of(resource.get("valueString")).strip()):
            named = states_of(variable, word) if word else None
            if named:
                return replace(source, states=tuple(named))
        marks = {c.code for c in codings(resource.get("interpretation"))}
        found = self.present(resource)
        if len(states) == 2 and found is not None:
            # absent/present, negative/positive, normal/abnormal: the second is the finding
            return replace(source, states=(states[int(found)],))
        if "normal" in states and marks & {"N"}:
            return replace(source, states=("normal",))
        if states == ("normal", "abnormal") and marks & {"A", "AA"}:
            return replace(source, states=("abnormal",))
        return None


def _dimer_kind(meaning: Meaning) -> str:
    """Return the basis that a LOINC code fixes, which the text of the unit often leaves out."""
    unit = "" if meaning.row is None else meaning.row.unit_ucum
    return next((kind for kind in ("FEU", "DDU") if kind in unit), "")
