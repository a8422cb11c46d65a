"""A FHIR R4 Bundle of one patient, read into evidence.

Every resource ends in one of two lists: used, with the finding it became, or ignored, with the
reason. What is not in the record is unknown, never absent.
"""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from epidural_dx.clinical.amounts import parse_amount
from epidural_dx.clinical.fhir_codes import RXNORM, Coding, FhirCodes, Meaning, load_fhir_codes
from epidural_dx.clinical.fhir_resources import (
    codings,
    date_of,
    mappings,
    moment_of,
    number_of,
    problem_of,
    quantity,
    text_of,
    words_of,
)
from epidural_dx.clinical.spelling import states_of
from epidural_dx.clinical.units import unit_key
from epidural_dx.errors import CaseError, EvidenceError
from epidural_dx.network.variable import Variable

if TYPE_CHECKING:
    from epidural_dx.model import Model

__all__ = ["FhirReading", "Ignored", "Used", "is_fhir", "read_fhir"]

#: Types that are read; the others are listed as not read.
READ_TYPES = (
    "Patient",
    "Observation",
    "Condition",
    "MedicationStatement",
    "MedicationRequest",
    "Procedure",
)
#: Read only where another resource points to them.
_POINTED_TO = ("Medication",)

_FINAL = ("final", "amended", "corrected")
_NOT_NOW = ("inactive", "remission", "resolved")
_NOT_SURE = ("unconfirmed", "provisional", "differential")
_DEEPEST = 4
_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Used:
    """One resource that became a finding.

    Attributes
    ----------
    variable : str
    value : object
        As in the evidence.
    reference : str
        Such as ``Observation/123``.
    code : str
        System, code and display.
    time : str or None
    note : str
    """

    variable: str
    value: object
    reference: str
    code: str
    time: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """One resource (or code) that set nothing, and why."""

    reference: str
    code: str
    reason: str


@dataclass(frozen=True)
class FhirReading:
    """What a record says, and what became of each of its resources.

    Attributes
    ----------
    evidence : mapping of str to object
        For ``model.diagnose``.
    used : tuple of Used
    ignored : tuple of Ignored
    conflicts : tuple of str
        Where the record contradicts itself, and what was done.
    notes : tuple of str
    subject : mapping
        Reference to the patient; empty if the record names none.
    reference_date : date or None
        For the age and for what is recent.
    has_lesion : bool
        Whether the record names a lesion in the spinal epidural space or what it does (compression
        of the cord): the model speaks about such patients only.
    """

    evidence: Mapping[str, object]
    used: tuple[Used, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    subject: Mapping[str, str] = field(default_factory=dict)
    reference_date: datetime.date | None = None
    has_lesion: bool = False

    @property
    def basis(self) -> tuple[str, ...]:
        """References to the resources used, each once, in order."""
        return tuple(dict.fromkeys(one.reference for one in self.used))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "evidence": dict(self.evidence),
            "used": [
                {
                    "variable": u.variable,
                    "value": u.value,
                    "reference": u.reference,
                    "code": u.code,
                    "time": u.time,
                    "note": u.note,
                }
                for u in self.used
            ],
            "ignored": [
                {"reference": i.reference, "code": i.code, "reason": i.reason} for i in self.ignored
            ],
            "conflicts": list(self.conflicts),
            "notes": list(self.notes),
            "subject": dict(self.subject),
            "reference_date": None if self.reference_date is None else str(self.reference_date),
            "has_lesion": self.has_lesion,
        }


def is_fhir(document: object) -> bool:
    """Whether a JSON document says that it is a FHIR resource."""
    return isinstance(document, Mapping) and isinstance(document.get("resourceType"), str)


def read_fhir(
    document: object,
    model: Model,
    *,
    reference_date: str | datetime.date | None = None,
    codes: FhirCodes | None = None,
) -> FhirReading:
    """Read a Bundle of one patient into evidence for a model.

    Parameters
    ----------
    document : mapping
        A FHIR R4 Bundle as JSON; Bundles inside it (pages of a search) are read too.
    model : Model
        Its variables, units and names are used.
    reference_date : str or date, optional
        The day for the age and for what is recent; by default the newest date in the record, never
        the clock.
    codes : FhirCodes, optional
        By default those of the model's folder of priors.

    Returns
    -------
    FhirReading

    Raises
    ------
    CaseError
        No Bundle, several patients, a reference date that is none or before the birth.
    EpiduralDxError
        The extra ``fhir`` is not installed.
    """
    if isinstance(reference_date, str):
        reference_date = date_of(reference_date)
    if isinstance(reference_date, datetime.datetime):
        reference_date = reference_date.date()
    return _Reader(model, codes or load_fhir_codes(model._priors), reference_date).read(document)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What one resource says about one variable."""

    variable: str
    key: str  # results with one key replace each other; "" for numbers and words
    reference: str
    coding: Coding
    time: datetime.datetime | None
    said: str | None  # the time as the record writes it
    raw: object = None  # a number with unit for `read_evidence`
    spelled: str = ""  # the name under which the number is read
    states: tuple[str, ...] = ()
    is_result: bool = False
    problem: str = ""
    note: str = ""

    @property
    def when(self) -> datetime.datetime:
        return self.time or _LONG_AGO

    @property
    def told(self) -> str:
        said = " or ".join(self.states)
        if isinstance(self.raw, Mapping):
            said = f"{self.raw.get('comparator', '')}{self.raw['value']} {self.raw.get('unit', '')}"
        return f"{said.strip()} ({self.reference}{', ' + self.said if self.said else ''})"


class _Reader:
    """Reads one record."""

    def __init__(self, model: Model, codes: FhirCodes, day: datetime.date | None) -> None:
        self.model = model
        self.codes = codes
        self.day = day
        self.variables: Mapping[str, Variable] = model.variables
        self.candidates: list[_Candidate] = []
        self.ignored: list[Ignored] = []
        self.conflicts: list[str] = []
        self.notes: list[str] = []
        self.used: list[Used] = []
        self.base: dict[str, object] = {}
        self.patient: Mapping[str, Any] = {}
        self.subjects: dict[str, None] = {}
        self.own: frozenset[str] = frozenset()
        self.pointed: dict[str, Mapping[str, Any]] = {}
        self.has_lesion = False

    # The Bundle ----------------------------------------------------------------------------------

    def read(self, document: object) -> FhirReading:
        resources = list(self._resources(document))
        self._find_patient(resources)
        checked = []
        for reference, resource in resources:
            if self._is_readable(reference, resource):
                checked.append((reference, resource))
        self._find_subject(checked)
        self._find_day(checked)
        self._read_patient()
        for reference, resource in checked:
            kind = resource["resourceType"]
            if kind != "Patient":
                getattr(self, f"_{kind.lower()}")(reference, resource)
        return self._resolved()

    def _resources(self, document: object) -> Iterable[tuple[str, Mapping[str, Any]]]:
        if not isinstance(document, Mapping) or document.get("resourceType") != "Bundle":
            kind = document.get("resourceType") if isinstance(document, Mapping) else None
            what = f"a FHIR {kind}" if isinstance(kind, str) else "no FHIR resource"
            raise CaseError(
                f"holds {what} instead of a FHIR Bundle (put the patient's resources into one)"
            )
        seen: set[str] = set()
        yield from self._entries(document, "entry", seen, 0)

    def _entries(
        self, bundle: Mapping[str, Any], where: str, seen: set[str], depth: int
    ) -> Iterable[tuple[str, Mapping[str, Any]]]:
        entries = bundle.get("entry", [])
        if not isinstance(entries, list):
            raise CaseError("the Bundle's entry is not a list")
        if any(one.get("relation") == "next" for one in mappings(bundle.get("link"))):
            self.notes.append("a Bundle has further pages that were not sent")
        for place, entry in enumerate(entries):
            at = f"{where}[{place}]"
            resource = entry.get("resource") if isinstance(entry, Mapping) else None
            if not isinstance(resource, Mapping):
                self.ignored.append(Ignored(at, "", "the entry holds no resource"))
                continue
            kind = resource.get("resourceType")
            if kind == "Bundle":
                if depth < _DEEPEST:
                    yield from self._entries(resource, at, seen, depth + 1)
                else:
                    self.ignored.append(Ignored(at, "", "Bundles are nested too deeply"))
                continue
            name, url = text_of(resource.get("id")), text_of(entry.get("fullUrl"))
            reference = f"{kind}/{name}" if name and isinstance(kind, str) else url or at
            if (name or url) and reference in seen:
                self.ignored.append(Ignored(reference, "", "stands twice, read once"))
                continue
            seen.add(reference)
            for pointer in (url, reference):
                if pointer:
                    self.pointed[pointer] = resource
            yield reference, resource

    def _is_readable(self, reference: str, resource: Mapping[str, Any]) -> bool:
        kind = resource.get("resourceType")
        if kind in _POINTED_TO:
            return False
        concept = resource.get("code") or resource.get("medicationCodeableConcept")
        code = _first(codings(concept), concept)
        if kind not in READ_TYPES:
            what = kind if isinstance(kind, str) else "unknown"
            self.ignored.append(
                Ignored(reference, code, f"resources of the type {what[:40]} are not read")
            )
            return False
        problem = problem_of(resource)
        if problem is not None:
            self.ignored.append(Ignored(reference, code, f"is not FHIR R4: {problem}"))
            if kind == "Patient":
                self.conflicts.append(
                    f"{reference} is not FHIR R4 ({problem}); age and sex unknown"
                )
            return False
        return True

    def _find_patient(self, resources: list[tuple[str, Mapping[str, Any]]]) -> None:
        patients = [(ref, one) for ref, one in resources if one.get("resourceType") == "Patient"]
        if len(patients) > 1:
            named = " and ".join(ref for ref, _ in patients[:3])
            raise CaseError(f"the Bundle is about several patients ({named}); one is allowed")
        for reference, patient in patients:
            urls = [url for url, one in self.pointed.items() if one is patient]
            self.own = frozenset({reference, *urls})
            self.subjects[reference] = None
            self.patient = patient

    def _find_subject(self, checked: list[tuple[str, Mapping[str, Any]]]) -> None:
        if self.own:
            if not any(one is self.patient for _, one in checked):
                self.patient = {}
            return
        for _, resource in checked:
            named = _subject(resource)
            if named:
                self.subjects[named] = None
        if len(self.subjects) > 1:
            named = " and ".join(list(self.subjects)[:3])
            raise CaseError(f"the Bundle is about several patients ({named}); one is allowed")

    def _find_day(self, checked: list[tuple[str, Mapping[str, Any]]]) -> None:
        if self.day is not None:
            return
        moments = [
            moment
            for _, resource in checked
            for key in _TIMES.get(resource["resourceType"], ())
            if (moment := moment_of(resource.get(key))) is not None
        ]
        if moments:
            self.day = max(moments).date()
            self.notes.append(
                f"the reference date is the newest date in the record, {self.day}; "
                "age and what is recent count from there"
            )

    # The patient ---------------------------------------------------------------------------------

    def _read_patient(self) -> None:
        if not self.patient:
            self.notes.append("the record holds no Patient: age and sex are not known from it")
            return
        reference = next(iter(self.subjects))
        gender = self.patient.get("gender")
        if gender in ("female", "male"):
            self._set("sex", gender, reference, "gender")
        elif gender is not None:
            self.ignored.append(
                Ignored(reference, "gender", f"{gender!r} has no state: sex is left unknown")
            )
        born = self.patient.get("birthDate")
        if isinstance(born, str):
            self._read_age(born, reference)

    def _read_age(self, born: str, reference: str) -> None:
        if self.day is None:
            self.ignored.append(
                Ignored(reference, "birthDate", "no date to count the age from (reference date)")
            )
            return
        first = _boundary(born, last=False)
        last = _boundary(born, last=True)
        if first is None or last is None:
            self.ignored.append(Ignored(reference, "birthDate", f"{born!r} is no date"))
            return
        if first > self.day:
            raise CaseError(
                f"the birth date {born} is after the reference date {self.day}", where=reference
            )
        oldest, youngest = _age(first, self.day), _age(min(last, self.day), self.day)
        value: object = {"value": oldest, "unit": "years"}
        if oldest != youngest:
            value = f"{youngest}-{oldest} years"
        self._set("age_group", value, reference, "birthDate", f"on {self.day}")

    def _set(self, variable: str, value: object, reference: str, code: str, note: str = "") -> None:
        try:
            self.model.read_evidence({variable: value})
        except EvidenceError as error:
            self.ignored.append(Ignored(reference, code, error.problem))
            return
        self.base[variable] = value
        self.used.append(Used(variable, value, reference, code, None, note))

    # Resources -----------------------------------------------------------------------------------

    def _is_own(self, reference: str, resource: Mapping[str, Any], code: str) -> bool:
        named = _subject(resource)
        if self.own and named and named not in self.own:
            self.ignored.append(Ignored(reference, code, f"is about another patient ({named})"))
            return False
        return True

    def _observation(self, reference: str, resource: Mapping[str, Any]) -> None:
        concept = resource.get("code")
        code = _first(codings(concept), concept)
        if not self._is_own(reference, resource, code):
            return
        if resource.get("status") not in _FINAL:
            status = resource.get("status")
            self.ignored.append(
                Ignored(reference, code, f"its status is {status}; {', '.join(_FINAL)} count")
            )
            return
        said = next(
            (
                resource[key]
                for key in ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued")
                if moment_of(resource.get(key)) is not None
            ),
            None,
        )
        time = moment_of(said)
        if isinstance(said, Mapping):
            said = said.get("end") or said.get("start")
        parts = mappings(resource.get("component"))
        if not parts or any(key.startswith("value") for key in resource):
            self._result(reference, resource, time, said)
        for part in parts:
            self._result(reference, part, time, said)

    def _result(
        self,
        reference: str,
        resource: Mapping[str, Any],
        time: datetime.datetime | None,
        said: str | None,
    ) -> None:
        concept = resource.get("code")
        named = codings(concept)
        code = _first(named, concept)

        def ignore(reason: str) -> None:
            self.ignored.append(Ignored(reference, code, reason))

        found = [(c, m) for c in named if (m := self.codes.result(c)) is not None]
        usable = [(c, m) for c, m in found if m.kind == "result"]
        if len({m.item for _, m in usable}) > 1:
            items = " and ".join(dict.fromkeys(m.item for _, m in usable))
            self.conflicts.append(f"{reference}: its codes mean {items}; it is not used")
            return ignore(f"its codes mean different things: {items}")
        if found and not usable:
            return ignore(found[0][1].reason)
        if not usable:
            return self._finding(reference, resource, named, code, time, said)
        coding, meaning = usable[0]
        spelled = self.codes.rule("names").get(meaning.item, meaning.item)
        variable = self.model.canonical_name(spelled)
        if variable is None or variable not in self.variables:
            return ignore(f"{meaning.item} is not a variable of the model")
        if variable in self.base:
            return ignore(f"{variable} is read from Patient")
        if resource.get("dataAbsentReason") and not any(k.startswith("value") for k in resource):
            why = next(words_of(resource["dataAbsentReason"]), "")
            why = why or _first(codings(resource["dataAbsentReason"]), None)
            return ignore(f"has no result ({why})" if why else "has no result")
        presence = self.codes.about("presence", coding)
        high = self.codes.about("abnormal_if_high", coding)
        source = _Candidate(
            variable=variable,
            key="",
            reference=reference,
            coding=coding,
            time=time,
            said=said,
            is_result=True,
        )
        if presence is not None or high is not None:
            ((name, state),) = (presence or high).items()
            found_ = self._present(resource) if presence else self._is_high(resource)
            if found_ is None:
                return ignore(
                    "does not say whether it is present"
                    if presence
                    else "has no range and no interpretation to compare with"
                )
            states = _states_of_presence(self.variables[name], state, found_)
            if states is None:
                return ignore(f"a normal result of one part does not make {name} normal")
            self.candidates.append(replace(source, key=state, states=states))
        elif self.variables[variable].thresholds:
            self.candidates.append(self._number(resource, meaning, spelled, source))
        else:
            self._words(resource, variable, source, ignore)

    def _present(self, resource: Mapping[str, Any]) -> bool | None:
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

    def _is_high(self, resource: Mapping[str, Any]) -> bool | None:
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

    def _number(
        self, resource: Mapping[str, Any], meaning: Meaning, spelled: str, source: _Candidate
    ) -> _Candidate:
        number, units, comparator = quantity(resource.get("valueQuantity"))
        variable = source.variable

        def unreadable(reason: str) -> _Candidate:
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
                    row.basis == "multiple" for row in self.variables[variable].thresholds
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

    def _number_in_text(self, text: str, kind: str, spelled: str, source: _Candidate) -> _Candidate:
        amount = parse_amount(text)
        if amount is None:
            named = states_of(self.variables[source.variable], text)
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
        source: _Candidate,
        note: str,
    ) -> _Candidate | None:
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
        try:
            self.model.read_evidence({**self.base, spelled: raw})
        except EvidenceError as error:
            near = f"; did you mean {error.nearest[0]}?" if error.nearest else ""
            return error.problem + near
        return "cannot be read"

    def _words(
        self, resource: Mapping[str, Any], variable: str, source: _Candidate, ignore: Any
    ) -> None:
        states = self.variables[variable].states
        concept = resource.get("valueCodeableConcept")
        for word in (*words_of(concept), text_of(resource.get("valueString")).strip()):
            named = states_of(self.variables[variable], word) if word else None
            if named:
                self.candidates.append(replace(source, states=tuple(named)))
                return
        marks = {c.code for c in codings(resource.get("interpretation"))}
        found = self._present(resource)
        if len(states) == 2 and found is not None:
            # absent/present, negative/positive, normal/abnormal: the second is the finding
            self.candidates.append(replace(source, states=(states[int(found)],)))
        elif "normal" in states and marks & {"N"}:
            self.candidates.append(replace(source, states=("normal",)))
        elif states == ("normal", "abnormal") and marks & {"A", "AA"}:
            self.candidates.append(replace(source, states=("abnormal",)))
        else:
            ignore(f"its value is none of the states of {variable} ({', '.join(states)})")

    def _finding(
        self,
        reference: str,
        resource: Mapping[str, Any],
        named: list[Coding],
        code: str,
        time: datetime.datetime | None,
        said: str | None,
    ) -> None:
        """Read an Observation whose code is a finding: present or absent by its value."""
        meaning, coding = self._diagnosis(named)
        if meaning is None or coding is None:
            if any(self.codes.is_test(c) for c in named):
                reason = "is the report of a test, whose text is not read"
            else:
                reason = "the code is not in the table" if named else "has no code"
            self.ignored.append(Ignored(reference, code, reason))
            return
        if meaning.kind != "diagnosis":
            self.ignored.append(Ignored(reference, code, meaning.reason))
            return
        found = self._present(resource)
        if found is None:
            self.ignored.append(Ignored(reference, code, "says neither present nor absent"))
            return
        if not found and not self.codes.is_listed("refutable", coding):
            reason = "is absent, which says nothing about the rest of its kind"
            self.ignored.append(Ignored(reference, code, reason))
            return
        self._diagnosed(reference, coding, meaning.findings, found, time, said, is_result=True)

    def _diagnosis(self, named: Iterable[Coding]) -> tuple[Any, Coding | None]:
        meanings = [
            (m, c) for c in named if (m := self.codes.diagnosis(c, self.variables)) is not None
        ]
        for wanted in ("diagnosis", "cause", "skip"):
            for meaning, coding in meanings:
                if meaning.kind == wanted:
                    return meaning, coding
        return None, None

    def _condition(self, reference: str, resource: Mapping[str, Any]) -> None:
        concept = resource.get("code")
        named = codings(concept)
        code = _first(named, concept)
        if not self._is_own(reference, resource, code):
            return

        def ignore(reason: str) -> None:
            self.ignored.append(Ignored(reference, code, reason))

        verified = _status(resource.get("verificationStatus"))
        clinical = _status(resource.get("clinicalStatus"))
        meaning, coding = self._diagnosis(named)
        if verified == "entered-in-error":
            return ignore("was entered in error")
        if verified != "refuted" and clinical not in _NOT_NOW:
            if any(self.codes.is_listed("entry", c) for c in named):
                self._lesion(reference, resource, meaning, coding)
        if meaning is None or coding is None:
            return ignore("the code is not in the table" if named else "has no code")
        if meaning.kind != "diagnosis":
            return ignore(meaning.reason)
        if verified in _NOT_SURE:
            return ignore(f"is {verified}, not confirmed")
        said = next(
            (
                resource[key]
                for key in ("recordedDate", "onsetDateTime")
                if moment_of(resource.get(key)) is not None
            ),
            None,
        )
        happened = moment_of(resource.get("onsetDateTime")) or moment_of(
            resource.get("onsetPeriod")
        )
        if verified == "refuted":
            if not self.codes.is_listed("refutable", coding):
                return ignore("was refuted, which says nothing about the rest of its kind")
            self._diagnosed(reference, coding, meaning.findings, False, moment_of(said), said)
            return
        findings = dict(meaning.findings)
        findings.update(self._known(findings))
        if clinical in _NOT_NOW:
            lasting = self.codes.rule("lasting")
            findings = {name: states for name, states in findings.items() if name in lasting}
            if not findings:
                return ignore(f"is {clinical}")
        if not self._is_recent(findings, happened or moment_of(said), ignore):
            return
        self._diagnosed(reference, coding, findings, True, moment_of(said), said)

    def _lesion(
        self, reference: str, resource: Mapping[str, Any], meaning: Any, coding: Coding | None
    ) -> None:
        self.has_lesion = True
        levels = {
            level
            for site in codings(resource.get("bodySite"))
            for level in self.codes.site(site, self.variables)
        }
        if meaning is not None and coding is not None and meaning.kind == "cause":
            levels.update(meaning.findings.get("level", ()))
        if levels:
            states = tuple(s for s in self.variables["level"].states if s in levels)
            self.candidates.append(
                _Candidate(
                    variable="level",
                    key="",
                    reference=reference,
                    coding=coding or Coding("", ""),
                    time=moment_of(resource.get("recordedDate")),
                    said=text_of(resource.get("recordedDate")) or None,
                    states=states,
                    note="where the lesion is; its name is not taken as given",
                )
            )

    def _known(self, findings: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Return the history that is known because the record names the disease."""
        known: dict[str, tuple[str, ...]] = {}
        for name, states in findings.items():
            histories = {self.codes.rule("known").get(name, {}).get(state) for state in states}
            if len(histories) == 1 and (history := histories.pop()) in self.variables:
                known[history] = ("present",)
        return known

    def _is_recent(
        self,
        findings: Mapping[str, tuple[str, ...]],
        happened: datetime.datetime | None,
        ignore: Any,
    ) -> bool:
        for name in findings:
            days = self.codes.rule("recent_days").get(name)
            if days is None:
                continue
            if happened is None or self.day is None:
                ignore(f"has no date, so it is not known to be recent ({days} days)")
                return False
            if not 0 <= (self.day - happened.date()).days <= days:
                ignore(f"was not within {days} days before {self.day}")
                return False
        return True

    def _diagnosed(
        self,
        reference: str,
        coding: Coding,
        findings: Mapping[str, tuple[str, ...]],
        found: bool,
        time: datetime.datetime | None,
        said: str | None,
        *,
        is_result: bool = False,
        note: str = "",
    ) -> None:
        for name, states in findings.items():
            kept = states
            if not found:
                kept = tuple(s for s in self.variables[name].states if s not in states)
                note = "the record says that it is not so"
            if kept:
                self.candidates.append(
                    _Candidate(
                        variable=name,
                        key=f"{coding.system} {coding.code}" if is_result else "",
                        reference=reference,
                        coding=coding,
                        time=time,
                        said=said,
                        states=kept,
                        is_result=is_result,
                        note=note,
                    )
                )

    def _medicationstatement(self, reference: str, resource: Mapping[str, Any]) -> None:
        self._medication(reference, resource, "effectivePeriod", "effectiveDateTime")

    def _medicationrequest(self, reference: str, resource: Mapping[str, Any]) -> None:
        self._medication(reference, resource, "", "authoredOn")

    def _medication(
        self, reference: str, resource: Mapping[str, Any], period: str, moment: str
    ) -> None:
        concept = self._drug(resource)
        named = codings(concept)
        code = _first(named, concept)
        if not self._is_own(reference, resource, code):
            return

        def ignore(reason: str) -> None:
            self.ignored.append(Ignored(reference, code, reason))

        if resource.get("status") != "active":
            return ignore(f"its status is {resource.get('status')}, not active")
        if resource.get("doNotPerform") is True:
            return ignore("says that the drug is not to be given")
        if resource.get("intent") in ("proposal", "option"):
            return ignore(f"is a {resource.get('intent')}, not an order")
        span = resource.get(period) if period else None
        began = moment_of(span.get("start")) if isinstance(span, Mapping) else None
        began = began or moment_of(resource.get(moment))
        ended = moment_of(span.get("end")) if isinstance(span, Mapping) else None
        if ended is not None and self.day is not None and ended.date() < self.day:
            return ignore(f"ended before {self.day}")
        meanings = [(c, m) for c in named if (m := self.codes.medication(c)) is not None]
        if not meanings:
            if any(c.system == RXNORM for c in named):
                return ignore(
                    "is none of the ingredients of the table (a product must be resolved)"
                )
            return ignore("the code is not in the table" if named else "has no code")
        coding, meaning = meanings[0]
        if meaning.kind != "medication":
            return ignore(meaning.reason)
        days = self.codes.rule("begun_before_days").get(meaning.item)
        if days is not None and began is not None and self.day is not None:
            if (self.day - began.date()).days < days:
                return ignore(
                    f"began less than {days} days before {self.day}: taken as treatment of the "
                    "lesion, not as exposure"
                )
        said = resource.get(moment) or (span.get("start") if isinstance(span, Mapping) else None)
        self._diagnosed(reference, coding, meaning.findings, True, began, text_of(said) or None)

    def _drug(self, resource: Mapping[str, Any]) -> object:
        concept = resource.get("medicationCodeableConcept")
        if concept is not None:
            return concept
        pointer = resource.get("medicationReference")
        target = text_of(pointer.get("reference")) if isinstance(pointer, Mapping) else ""
        if target.startswith("#"):
            for inner in mappings(resource.get("contained")):
                if inner.get("id") == target[1:]:
                    return inner.get("code")
        found = self.pointed.get(target) or self.pointed.get("/".join(target.split("/")[-2:]))
        if found is not None and found.get("resourceType") == "Medication":
            return found.get("code")
        return None

    def _procedure(self, reference: str, resource: Mapping[str, Any]) -> None:
        concept = resource.get("code")
        named = codings(concept)
        code = _first(named, concept)
        if not self._is_own(reference, resource, code):
            return

        def ignore(reason: str) -> None:
            self.ignored.append(Ignored(reference, code, reason))

        if resource.get("status") not in ("completed", "in-progress"):
            return ignore(f"its status is {resource.get('status')}, so it was not done")
        meaning, coding = self._diagnosis(named)
        if meaning is None or coding is None:
            return ignore("the code is not in the table" if named else "has no code")
        if meaning.kind != "diagnosis":
            return ignore(meaning.reason)
        said = resource.get("performedDateTime") or resource.get("performedPeriod")
        time = moment_of(said)
        if isinstance(said, Mapping):
            said = said.get("end") or said.get("start")
        if self._is_recent(meaning.findings, time, ignore):
            self._diagnosed(reference, coding, meaning.findings, True, time, text_of(said) or None)

    # Together ------------------------------------------------------------------------------------

    def _resolved(self) -> FhirReading:
        self._drop_sites_without_melanoma()
        by_variable: dict[str, list[tuple[int, _Candidate]]] = {}
        for place, candidate in enumerate(self.candidates):
            by_variable.setdefault(candidate.variable, []).append((place, candidate))
        evidence = dict(self.base)
        for name, placed in by_variable.items():
            if name in evidence:
                continue
            ordered = [c for _, c in sorted(placed, key=lambda p: (p[1].when, p[0]), reverse=True)]
            chosen = self._choose(name, ordered)
            if chosen is not None:
                evidence.update(chosen)
        subject: dict[str, str] = {}
        if self.subjects:
            subject["reference"] = next(iter(self.subjects))
        return FhirReading(
            evidence=evidence,
            used=tuple(self.used),
            ignored=tuple(self.ignored),
            conflicts=tuple(dict.fromkeys(self.conflicts)),
            notes=tuple(dict.fromkeys(self.notes)),
            subject=subject,
            reference_date=self.day,
            has_lesion=self.has_lesion,
        )

    def _drop_sites_without_melanoma(self) -> None:
        melanoma = any(
            c.variable in ("melanoma", "known_melanoma")
            and c.states == ("present",)
            and not self.codes.is_listed("only_with_melanoma", c.coding)
            for c in self.candidates
        )
        if melanoma:
            return
        kept = []
        for c in self.candidates:
            if self.codes.is_listed("only_with_melanoma", c.coding):
                reason = "does not say that the tumour is a melanoma"
                self.ignored.append(Ignored(c.reference, str(c.coding), reason))
            else:
                kept.append(c)
        self.candidates = kept

    def _choose(self, name: str, ordered: list[_Candidate]) -> dict[str, object] | None:
        """Return the evidence on one variable from what the record says, newest first."""
        results: dict[str, _Candidate] = {}
        for c in ordered:
            if not c.is_result:
                continue
            if c.key in results:
                newest = results[c.key]
                if c.when == newest.when and not _same(c, newest):
                    self.conflicts.append(
                        f"{name}: {newest.told} and {c.told} have the same time; "
                        "the later in the record is used"
                    )
                self._pass_over(c, f"a newer result counts: {newest.reference}")
                continue
            results[c.key] = c
        for key, c in list(results.items()):
            if c.problem:
                del results[key]
                self._pass_over(c, c.problem)
                self.conflicts.append(
                    f"{name}: the newest result ({c.reference}) is not used: {c.problem}"
                )
        coded = [c for c in ordered if not c.is_result]
        number = next((c for c in results.values() if c.raw is not None), None)
        if number is not None:
            return self._measured(
                name, number, [c for c in results.values() if c is not number], coded
            )
        return self._named(name, [*results.values(), *coded])

    def _measured(
        self, name: str, number: _Candidate, words: list[_Candidate], coded: list[_Candidate]
    ) -> dict[str, object] | None:
        """Return a number, or the symptom that a code names although the number is normal."""
        read = self.model.read_evidence({**self.base, number.spelled: number.raw})
        states = read.entries[name].states
        for c in (*words, *coded):
            if set(c.states) & set(states):
                self._pass_over(c, f"a measured value counts: {number.reference}")
            elif self.variables[name].group == "symptom" and "present" in c.states:
                self.conflicts.append(
                    f"{name}: {c.told}, measured {number.told}; the symptom counts as present"
                )
                self._pass_over(number, f"the record names the symptom: {c.reference}")
                return self._named(name, [c])
            else:
                self.conflicts.append(f"{name}: {c.told}, but measured {number.told}, which counts")
                self._pass_over(c, f"a measured value says otherwise: {number.reference}")
        self._take(number, number.raw)
        return {number.spelled: number.raw}

    def _named(self, name: str, said: list[_Candidate]) -> dict[str, object] | None:
        """Return the states that everything said leaves possible; the newest wins a conflict."""
        said = sorted(said, key=lambda c: c.when, reverse=True)
        left: tuple[str, ...] = self.variables[name].states
        taken: list[_Candidate] = []
        for c in said:
            both = tuple(s for s in left if s in c.states)
            if not both and name == "smear" and c.is_result:
                both = tuple(s for s in self.variables[name].states if s in (*left, *c.states))
                self.conflicts.append(f"{name}: {c.told} beside {taken[-1].told}; either may count")
            if not both:
                self.conflicts.append(
                    f"{name}: {taken[0].told} and {c.told} contradict; the newest counts"
                )
                self._pass_over(c, f"contradicts {taken[0].reference}, which is newer or as old")
                continue
            left = both
            taken.append(c)
        if not taken or left == self.variables[name].states:
            for c in taken:
                self._pass_over(c, "leaves every state possible")
            return None
        value: object = left[0] if len(left) == 1 else list(left)
        for c in taken:
            self._take(c, value)
        return {name: value}

    def _take(self, c: _Candidate, value: object) -> None:
        self.used.append(Used(c.variable, value, c.reference, str(c.coding), c.said, c.note))

    def _pass_over(self, c: _Candidate, reason: str) -> None:
        self.ignored.append(Ignored(c.reference, str(c.coding), f"{c.variable}: {reason}"))


_TIMES: Mapping[str, tuple[str, ...]] = {
    "Observation": ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued"),
    "Condition": ("recordedDate", "onsetDateTime"),
    "MedicationStatement": ("effectiveDateTime", "dateAsserted"),
    "MedicationRequest": ("authoredOn",),
    "Procedure": ("performedDateTime", "performedPeriod"),
}


def _subject(resource: Mapping[str, Any]) -> str:
    named = resource.get("subject")
    target = text_of(named.get("reference")) if isinstance(named, Mapping) else ""
    if "/Patient/" in target:
        target = "/".join(target.split("/_history")[0].split("/")[-2:])
    return target


def _first(named: list[Coding], concept: object) -> str:
    if named:
        return str(named[0])
    return next(words_of(concept), "")


def _status(concept: object) -> str:
    found = codings(concept)
    return found[0].code if found else ""


def _dimer_kind(meaning: Meaning) -> str:
    """Return the basis that a LOINC code fixes, which the text of the unit often leaves out."""
    unit = "" if meaning.row is None else meaning.row.unit_ucum
    return next((kind for kind in ("FEU", "DDU") if kind in unit), "")


def _states_of_presence(variable: Variable, state: str, found: bool) -> tuple[str, ...] | None:
    if found:
        return (state,)
    rest = tuple(s for s in variable.states if s != state)
    # the absence of one sign rules out that pattern, but does not make the whole examination normal
    return None if rest == ("normal",) else rest


def _same(a: _Candidate, b: _Candidate) -> bool:
    return (a.raw, a.states) == (b.raw, b.states)


def _boundary(born: str, *, last: bool) -> datetime.date | None:
    """First or last day that a birth date of a year, month or day may mean."""
    parts = born.split("-")
    try:
        numbers = [int(part) for part in parts]
        year = numbers[0]
        month = numbers[1] if len(numbers) > 1 else (12 if last else 1)
        day = 1
        if len(numbers) > 2:
            day = numbers[2]
        elif last:
            day = calendar.monthrange(year, month)[1]
        return datetime.date(year, month, day)
    except (ValueError, IndexError, calendar.IllegalMonthError):
        return None


def _age(born: datetime.date, day: datetime.date) -> float:
    """Age in years: completed years, and the share of the year since the last birthday."""
    years = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    since = _birthday(born, born.year + years)
    following = _birthday(born, born.year + years + 1)
    share = (day - since).days / (following - since).days
    return float(f"{years + share:.4f}")


def _birthday(born: datetime.date, year: int) -> datetime.date:
    """Return the birthday in a year; born on 29 February means 1 March in common years."""
    if born.month == 2 and born.day == 29 and not calendar.isleap(year):
        return datetime.date(year, 3, 1)
    return born.replace(year=year)
