"""What the codes of a FHIR record say about variables, from terminology.csv and fhir.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from epidural_dx.clinical.terminology import (
    Code,
    load_terminology,
    loinc_is_valid,
    sctid_is_valid,
)
from epidural_dx.clinical.yaml_text import load_yaml
from epidural_dx.errors import ModelError
from epidural_dx.network.variable import Variable

__all__ = ["Coding", "FhirCodes", "Meaning", "load_fhir_codes"]

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
ICD10CM = "http://hl7.org/fhir/sid/icd-10-cm"
ATC = "http://www.whocc.no/atc"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"

#: Rows of the table that say something about a patient when a diagnosis or a history is coded.
_DIAGNOSES = ("condition", "finding", "history")
#: Rows that give numbers or words as a result.
_RESULTS = ("laboratory", "vital_sign", "demographic")

_SECTIONS = frozenset(
    """systems names skip presence abnormal_if_high needs_upper_limit meanings only_with_melanoma
    known lasting refutable recent_days begun_before_days stale_days lasting_results passing
    not_of_class answers answer_codes entry
    orders not_ordered implies_lesion barred_alike draft_orders
    draft_words""".split()
)
_STATE = re.compile(r"state=([a-z0-9_|]+)")
_LEVEL = re.compile(r"\blevel=([a-z_]+)")


@dataclass(frozen=True, slots=True)
class Coding:
    """One code as a record carries it."""

    system: str
    code: str
    display: str = ""

    def __str__(self) -> str:
        """Return the code with its system's short name, and the display if there is one."""
        names = {LOINC: "LOINC", SNOMED: "SNOMED CT", ICD10CM: "ICD-10-CM", ATC: "ATC"}
        names[RXNORM] = "RxNorm"
        told = f"{names.get(self.system, self.system or 'no system')} {self.code}".strip()
        return f"{told} ({self.display})" if self.display else told


@dataclass(frozen=True, slots=True)
class Meaning:
    """What one code stands for.

    Parameters
    ----------
    kind : {"result", "diagnosis", "medication", "site", "cause", "test", "skip"}
        ``cause`` names a possible cause of the lesion, which is the question and never evidence;
        ``skip`` is never evidence either, for another reason.
    item : str
        Variable, cause or test of the table.
    findings : mapping of str to tuple of str
        For diagnoses and medications: variable to the states that remain possible.
    reason : str
        Why a code of kind ``skip`` or ``cause`` sets nothing.
    row : Code or None
        The row of the table.
    """

    kind: str
    item: str
    findings: Mapping[str, tuple[str, ...]]
    reason: str = ""
    row: Code | None = None


def _nothing() -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({})


class FhirCodes:
    """Codes of hospital systems, ready to be looked up.

    Parameters
    ----------
    rows : iterable of Code
        The table.
    rules : mapping
        The file ``fhir.yaml``.
    file : path-like
        For errors.
    """

    def __init__(self, rows: Iterable[Code], rules: Mapping[str, Any], file: Path) -> None:
        self._file = file
        unknown = sorted(set(rules) - _SECTIONS)
        missing = sorted(_SECTIONS - set(rules))
        if unknown or missing:
            what = "is no section of this file" if unknown else "is missing"
            raise ModelError(what, file=file, name=(unknown or missing)[0])
        self._rules = rules
        self.systems: dict[str, str] = dict(rules["systems"])
        self._exact: dict[tuple[str, str], list[Code]] = {}
        self._prefix: list[Code] = []
        for row in rows:
            self._exact.setdefault((row.system, row.code.removesuffix("-")), []).append(row)
            if row.code.endswith("-") or (row.system == ATC and len(row.code) < 7):
                self._prefix.append(row)
        self._by_code = {
            section: self._flat(section)
            for section in ("skip", "presence", "abnormal_if_high", "meanings", "answer_codes")
        }
        self._listed = {
            section: frozenset(
                (self._system(short), str(code).removesuffix("-"))
                for short, codes in rules[section].items()
                for code in codes
            )
            for section in ("needs_upper_limit", "only_with_melanoma", "refutable", "entry")
        }
        self._check_digits()
        self.words = {
            str(word).casefold(): state
            for state in ("present", "absent")
            for word in rules["answers"][state]
        }

    def _system(self, short: str) -> str:
        if short not in self.systems:
            raise ModelError("is no system of this file", file=self._file, name=str(short))
        return self.systems[short]

    def _flat(self, section: str) -> dict[tuple[str, str], Any]:
        return {
            (self._system(short), str(code).removesuffix("-")): value
            for short, codes in self._rules[section].items()
            for code, value in codes.items()
        }

    def _check_digits(self) -> None:
        keys = [k for table in self._by_code.values() for k in table]
        keys += [k for listed in self._listed.values() for k in listed]
        for system, code in keys:
            valid = {SNOMED: sctid_is_valid, LOINC: loinc_is_valid}.get(system)
            if valid and not code.startswith("LA") and not valid(code):
                raise ModelError("the check digit is wrong", file=self._file, name=code)

    # Rules ---------------------------------------------------------------------------------------

    def rule(self, section: str) -> Any:
        """Return a section of ``fhir.yaml`` as it stands."""
        return self._rules[section]

    def about(self, section: str, coding: Coding) -> Any:
        """Return what a section says about a code; None if nothing."""
        return self._by_code[section].get(self._key(coding))

    def is_listed(self, section: str, coding: Coding) -> bool:
        """Whether a section lists a code (or the category that it belongs to)."""
        return self._key(coding) in self._listed[section]

    def _key(self, coding: Coding) -> tuple[str, str]:
        """Return a code as fhir.yaml names it: itself, or the longest prefix in the table."""
        key = (coding.system, coding.code)
        if any(key in table for table in (*self._by_code.values(), *self._listed.values())):
            return key
        rows = self._diagnosis_rows(coding)
        return (coding.system, rows[0].code.removesuffix("-")) if rows else key

    def answer(self, text: str) -> str | None:
        """Return ``present`` or ``absent`` for the words of a result; None for other words."""
        return self.words.get(" ".join(text.casefold().split()).strip(" ."))

    # Codes ---------------------------------------------------------------------------------------

    def _rows(self, coding: Coding, types: Iterable[str]) -> list[Code]:
        """Return the rows of the longest match among rows of some types."""
        types = tuple(types)
        exact = [
            r for r in self._exact.get((coding.system, coding.code), ()) if r.item_type in types
        ]
        if exact:
            return exact
        found: list[Code] = []
        for row in self._prefix:
            stem = row.code.removesuffix("-")
            if (
                row.system == coding.system
                and row.item_type in types
                and (coding.code.startswith(stem) or coding.code == stem.rstrip("."))
            ):
                longest = len(found[0].code.removesuffix("-")) if found else -1
                if len(stem) > longest:
                    found = [row]
                elif len(stem) == longest:
                    found.append(row)
        return found

    def _diagnosis_rows(self, coding: Coding) -> list[Code]:
        return self._rows(coding, _DIAGNOSES)

    def result(self, coding: Coding) -> Meaning | None:
        """Return what the code of a result stands for; None if the table does not hold it."""
        rows = self._exact.get((coding.system, coding.code), [])
        trap = next((r for r in rows if r.item_type == "trap"), None)
        if trap is not None:
            return _skipped(trap, f"is not {trap.item}: {trap.note}")
        row = next((r for r in rows if r.item_type in _RESULTS), None)
        if row is None:
            return None
        reason = self.about("skip", coding)
        if reason is not None:
            return _skipped(row, str(reason))
        return Meaning("result", row.item, _nothing(), row=row)

    def diagnosis(self, coding: Coding, variables: Mapping[str, Variable]) -> Meaning | None:
        """Return what a coded diagnosis, finding or history stands for.

        Parameters
        ----------
        coding : Coding
        variables : mapping of str to Variable

        Returns
        -------
        Meaning or None
            None if the table does not hold the code.
        """
        exact = self._exact.get((coding.system, coding.code), [])
        trap = next((r for r in exact if r.item_type == "trap"), None)
        if trap is not None:
            return _skipped(trap, f"is not {trap.item}: {trap.note}")
        rows = self._diagnosis_rows(coding)
        if not rows:
            causes = self._rows(coding, ("cause",))
            if not causes:
                return None
            item = causes[0].item
            return Meaning(
                "cause",
                item,
                self._level(causes[0], variables),
                f"names a possible cause of the lesion ({item}): the question, not evidence",
                causes[0],
            )
        reason = self.about("skip", coding)
        if reason is not None:
            return _skipped(rows[0], str(reason))
        findings: dict[str, tuple[str, ...]] = {}
        given = self.about("meanings", coding)
        if given is not None:
            for name, states in given.items():
                if name in variables:
                    findings[name] = self._states(variables[name], states)
        else:
            for row in rows:
                named = _row_states(row, variables)
                if named is not None:
                    findings[row.item] = named
        if not findings:
            return _skipped(rows[0], f"does not say which state of {rows[0].item}")
        return Meaning("diagnosis", rows[0].item, MappingProxyType(findings), row=rows[0])

    def _states(self, variable: Variable, given: object) -> tuple[str, ...]:
        excluded: list[str] = []
        if isinstance(given, Mapping):
            excluded = list(given["not"])
            states = [s for s in variable.states if s not in excluded]
        else:
            states = list(given) if isinstance(given, list) else [str(given)]
        for state in (*states, *excluded):
            if state not in variable.states:
                raise ModelError(
                    f"{state!r} is no state of {variable.name}", file=self._file, name="meanings"
                )
        return tuple(states)

    def _level(self, row: Code, variables: Mapping[str, Variable]) -> Mapping[str, tuple[str, ...]]:
        match = _LEVEL.search(row.note)
        if match is None or "level" not in variables:
            return _nothing()
        name = {"lumbosacral": ("lumbar", "sacral")}.get(match.group(1), (match.group(1),))
        states = tuple(s for s in variables["level"].states if s in name)
        return MappingProxyType({"level": states}) if states else _nothing()

    def medication(self, coding: Coding) -> Meaning | None:
        """Return which use of a drug a code stands for; None if the table does not hold it."""
        if coding.system == ATC:
            excluded = self._rules["not_of_class"].get(coding.code)
            if excluded is not None:
                return Meaning("skip", "", _nothing(), str(excluded))
        rows = self._rows(coding, ("medication",))
        if not rows:
            return None
        item = rows[0].item
        return Meaning("medication", item, MappingProxyType({item: ("present",)}), row=rows[0])

    def site(self, coding: Coding, variables: Mapping[str, Variable]) -> tuple[str, ...]:
        """Return the levels of the spine that a body site stands for; empty if none."""
        for row in self._rows(coding, ("body_site",)):
            match = _STATE.search(row.note)
            if match and "level" in variables and match.group(1) in variables["level"].states:
                return (match.group(1),)
        return ()

    def is_test(self, coding: Coding) -> bool:
        """Whether a code is that of a test or its report."""
        return bool(self._rows(coding, ("test",)))

    def order_code(self, test: str, system: str) -> str | None:
        """Return the first code of a system for a test in the table; None if it has none."""
        rows = (row for found in self._exact.values() for row in found)
        return next(
            (r.code for r in rows if (r.item_type, r.item, r.system) == ("test", test, system)),
            None,
        )

    def ordered_test(self, codings: Iterable[Coding], text: str) -> str | None:
        """Return the test that an order asks for; None if it is none that the model knows.

        Parameters
        ----------
        codings : iterable of Coding
        text : str
            The words of the order, which count only if no code is known.
        """
        own = self._rules["draft_orders"]
        for coding in codings:
            for short, tests in own.items():
                if self.systems[short] == coding.system and coding.code in tests:
                    return str(tests[coding.code])
            for row in self._rows(coding, ("test",)):
                return row.item
        words = f" {re.sub(r'[^a-z0-9]+', ' ', text.casefold())} "
        for phrase, test in self._rules["draft_words"].items():
            if f" {phrase} " in words:
                return str(test)
        return None


def _skipped(row: Code, reason: str) -> Meaning:
    return Meaning("skip", row.item, _nothing(), reason, row)


def _row_states(row: Code, variables: Mapping[str, Variable]) -> tuple[str, ...] | None:
    variable = variables.get(row.item)
    if variable is None:
        return None
    match = _STATE.search(row.note)
    if match is not None:
        named = set(match.group(1).split("|"))
        return (
            tuple(s for s in variable.states if s in named)
            if named <= set(variable.states)
            else None
        )
    return ("present",) if variable.states == ("absent", "present") else None


def load_fhir_codes(priors: str | Path) -> FhirCodes:
    """Read terminology.csv and fhir.yaml of a folder of priors (once, until they change).

    Parameters
    ----------
    priors : path-like

    Returns
    -------
    FhirCodes

    Raises
    ------
    ModelError
        A missing or broken file, a wrong check digit, an unknown section or state.
    """
    folder = Path(priors)
    stamps = []
    for name in ("terminology.csv", "fhir.yaml"):
        try:
            status = (folder / name).stat()
        except OSError:
            raise ModelError("the file does not exist", file=folder / name) from None
        stamps.append((status.st_size, status.st_mtime_ns))
    return _load(folder, tuple(stamps))


@lru_cache(maxsize=4)
def _load(folder: Path, _: object) -> FhirCodes:
    file = folder / "fhir.yaml"
    try:
        document = load_yaml(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read ({error})", file=file) from error
    except ModelError as error:
        raise ModelError(error.problem, file=file, line=error.line, name=error.name) from error
    if not isinstance(document, dict):
        raise ModelError("holds no mapping", file=file)
    return FhirCodes(load_terminology(folder / "terminology.csv"), document, file)
