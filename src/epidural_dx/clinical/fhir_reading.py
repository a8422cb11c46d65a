"""A FHIR R4 Bundle of one patient, read into evidence.

Every resource ends in one of two lists: used, with the finding it became, or ignored, with the
reason. What is not in the record is unknown, never absent.
"""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from epidural_dx.clinical.fhir_choice import Choice
from epidural_dx.clinical.fhir_codes import RXNORM, Coding, FhirCodes, load_fhir_codes
from epidural_dx.clinical.fhir_report import FhirReading, Ignored, Used
from epidural_dx.clinical.fhir_resources import (
    codings,
    date_of,
    day_of,
    mappings,
    moment_of,
    problem_of,
    text_of,
    words_of,
)
from epidural_dx.clinical.fhir_results import Candidate, Results
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

#: Takes the reason why a resource sets nothing.
Ignore = Callable[[str], None]

_FINAL = ("final", "amended", "corrected")
_DONE = ("completed", "in-progress")
#: What is planned, preliminary or wrong does not date a record.
_HAPPENED = {"Observation": _FINAL, "Procedure": _DONE}
_NOT_NOW = ("inactive", "remission", "resolved")
_NOT_SURE = ("unconfirmed", "provisional", "differential")
_DEEPEST = 4


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


class _Reader:
    """Reads one record."""

    def __init__(self, model: Model, codes: FhirCodes, day: datetime.date | None) -> None:
        self.model = model
        self.codes = codes
        self.day = day
        self.variables: Mapping[str, Variable] = model.variables
        self.candidates: list[Candidate] = []
        self.ignored: list[Ignored] = []
        self.conflicts: list[str] = []
        self.notes: list[str] = []
        self.used: list[Used] = []
        self.base: dict[str, object] = {}
        self.results = Results(model, codes, self.base)
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
        days = [
            day
            for _, resource in checked
            if _has_happened(resource)
            for key in _TIMES.get(resource["resourceType"], ())
            if (day := day_of(resource.get(key))) is not None
        ]
        if days:
            self.day = max(days)
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

    def _opened(
        self, reference: str, resource: Mapping[str, Any], concept: object
    ) -> tuple[list[Coding], Ignore] | None:
        """Return the codes of a resource and a way to ignore it; None if it is of somebody else."""
        named = codings(concept)
        code = _first(named, concept)

        def ignore(reason: str) -> None:
            self.ignored.append(Ignored(reference, code, reason))

        subject = _subject(resource)
        if self.own and subject and subject not in self.own:
            ignore(f"is about another patient ({subject})")
            return None
        return named, ignore

    def _observation(self, reference: str, resource: Mapping[str, Any]) -> None:
        opened = self._opened(reference, resource, resource.get("code"))
        if opened is None:
            return
        _, ignore = opened
        if resource.get("status") not in _FINAL:
            return ignore(f"its status is {resource.get('status')}; {', '.join(_FINAL)} count")
        said = next(
            (
                resource[key]
                for key in ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued")
                if moment_of(resource.get(key)) is not None
            ),
            None,
        )
        if self._is_later(day_of(said)):
            return ignore(f"is later than {self.day}")
        time = moment_of(said)
        if isinstance(said, Mapping):
            said = said.get("end") or said.get("start")
        parts = mappings(resource.get("component"))
        if not parts or any(key.startswith("value") for key in resource):
            self._result(reference, resource, time, said)
        for part in parts:
            self._result(reference, part, time, said)

    def _is_later(self, day: datetime.date | None) -> bool:
        return day is not None and self.day is not None and day > self.day

    def _days_before(self, day: datetime.date | None) -> int | None:
        """Days from a day to the reference date; None if either is unknown."""
        return None if day is None or self.day is None else (self.day - day).days

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
        days = self._days_before(day_of(said))
        if days is not None and days > self.codes.rule("stale_days"):
            if variable not in self.codes.rule("lasting_results"):
                return ignore(f"is {days} days older than {self.day}: outdated")
        presence = self.codes.about("presence", coding)
        high = self.codes.about("abnormal_if_high", coding)
        source = Candidate(
            variable=variable,
            key="",
            reference=reference,
            coding=coding,
            time=time,
            said=said,
            is_result=True,
            note="" if said else "has no date",
        )
        if presence is not None or high is not None:
            ((name, state),) = (presence or high).items()
            found_ = self.results.present(resource) if presence else self.results.is_high(resource)
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
            self.candidates.append(self.results.number(resource, meaning, spelled, source))
        else:
            named_ = self.results.words(resource, source)
            if named_ is None:
                known = ", ".join(self.variables[variable].states)
                return ignore(f"its value is none of the states of {variable} ({known})")
            self.candidates.append(named_)

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
        found = self.results.present(resource)
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
        opened = self._opened(reference, resource, resource.get("code"))
        if opened is None:
            return
        named, ignore = opened
        verified = _status(resource.get("verificationStatus"))
        clinical = _status(resource.get("clinicalStatus"))
        meaning, coding = self._diagnosis(named)
        if verified == "entered-in-error":
            return ignore("was entered in error")
        said = next(
            (
                resource[key]
                for key in ("recordedDate", "onsetDateTime")
                if moment_of(resource.get(key)) is not None
            ),
            None,
        )
        happened = day_of(resource.get("onsetDateTime")) or day_of(resource.get("onsetPeriod"))
        recorded = day_of(said)
        if self._is_later(recorded) or self._is_later(happened):
            return ignore(f"is later than {self.day}")
        if verified != "refuted" and clinical not in _NOT_NOW:
            if any(self.codes.is_listed("entry", c) for c in named):
                self._lesion(reference, resource, meaning, coding)
        if meaning is None or coding is None:
            return ignore("the code is not in the table" if named else "has no code")
        if meaning.kind != "diagnosis":
            return ignore(meaning.reason)
        if verified in _NOT_SURE:
            return ignore(f"is {verified}, not confirmed")
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
        elif not clinical:
            days = self._days_before(recorded)
            past = set() if days is None else self._past(findings, days)
            findings = {name: states for name, states in findings.items() if name not in past}
            if not findings:
                return ignore(f"has no clinicalStatus and was recorded {days} days earlier")
        if not self._is_recent(findings, happened or recorded, ignore):
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
                Candidate(
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

    def _past(self, findings: Iterable[str], days: int) -> set[str]:
        """Return the findings that pass and were coded too long ago to be present."""
        rule = self.codes.rule("passing")
        if days <= rule["days"]:
            return set()
        return {
            name
            for name in findings
            if name in rule["variables"] or self.variables[name].group in rule["groups"]
        }

    def _is_recent(
        self,
        findings: Mapping[str, tuple[str, ...]],
        happened: datetime.date | None,
        ignore: Ignore,
    ) -> bool:
        for name in findings:
            days = self.codes.rule("recent_days").get(name)
            if days is None:
                continue
            if happened is None or self.day is None:
                ignore(f"has no date, so it is not known to be recent ({days} days)")
                return False
            if not 0 <= (self.day - happened).days <= days:
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
                    Candidate(
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
        opened = self._opened(reference, resource, self._drug(resource))
        if opened is None:
            return
        named, ignore = opened
        if resource.get("status") != "active":
            return ignore(f"its status is {resource.get('status')}, not active")
        if resource.get("doNotPerform") is True:
            return ignore("says that the drug is not to be given")
        if resource.get("intent") in ("proposal", "option"):
            return ignore(f"is a {resource.get('intent')}, not an order")
        span = resource.get(period) if period else None
        said = span.get("start") if isinstance(span, Mapping) else None
        said = said or resource.get(moment)
        began = day_of(said)
        ended = day_of(span.get("end")) if isinstance(span, Mapping) else None
        if ended is not None and self.day is not None and ended < self.day:
            return ignore(f"ended before {self.day}")
        if self._is_later(began):
            return ignore(f"is later than {self.day}")
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
        since = self._days_before(began)
        if days is not None and since is not None:
            if since < days:
                return ignore(
                    f"began less than {days} days before {self.day}: taken as treatment of the "
                    "lesion, not as exposure"
                )
        told = text_of(said) or None
        self._diagnosed(reference, coding, meaning.findings, True, moment_of(said), told)

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
        opened = self._opened(reference, resource, resource.get("code"))
        if opened is None:
            return
        named, ignore = opened
        if resource.get("status") not in _DONE:
            return ignore(f"its status is {resource.get('status')}, so it was not done")
        meaning, coding = self._diagnosis(named)
        if meaning is None or coding is None:
            return ignore("the code is not in the table" if named else "has no code")
        if meaning.kind != "diagnosis":
            return ignore(meaning.reason)
        said = resource.get("performedDateTime") or resource.get("performedPeriod")
        if self._is_later(day_of(said)):
            return ignore(f"is later than {self.day}")
        if self._is_recent(meaning.findings, day_of(said), ignore):
            time = moment_of(said)
            if isinstance(said, Mapping):
                said = said.get("end") or said.get("start")
            self._diagnosed(reference, coding, meaning.findings, True, time, text_of(said) or None)

    # Together ------------------------------------------------------------------------------------

    def _resolved(self) -> FhirReading:
        choice = Choice(self.model, self.codes, self.base)
        evidence = {**self.base, **choice.settle(self.candidates)}
        self.used += choice.used
        self.ignored += choice.ignored
        self.conflicts += choice.conflicts
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


_TIMES: Mapping[str, tuple[str, ...]] = {
    "Observation": ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "issued"),
    "Condition": ("recordedDate", "onsetDateTime"),
    "MedicationStatement": ("effectiveDateTime", "dateAsserted"),
    "MedicationRequest": ("authoredOn",),
    "Procedure": ("performedDateTime", "performedPeriod"),
}


def _has_happened(resource: Mapping[str, Any]) -> bool:
    statuses = _HAPPENED.get(resource["resourceType"])
    return statuses is None or resource.get("status") in statuses


def _subject(resource: Mapping[str, Any]) -> str:
    named = resource.get("subject")
    target = text_of(named.get("reference")) if isinstance(named, Mapping) else ""
    target = target.split("/_history/")[0]
    return "/".join(target.split("/")[-2:]) if "/Patient/" in target else target


def _first(named: list[Coding], concept: object) -> str:
    if named:
        return str(named[0])
    return next(words_of(concept), "")


def _status(concept: object) -> str:
    found = codings(concept)
    return found[0].code if found else ""


def _states_of_presence(variable: Variable, state: str, found: bool) -> tuple[str, ...] | None:
    if found:
        return (state,)
    rest = tuple(s for s in variable.states if s != state)
    # the absence of one sign rules out that pattern, but does not make the whole examination normal
    return None if rest == ("normal",) else rest


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
