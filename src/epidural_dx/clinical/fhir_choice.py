"""Which of several things that a record says about a variable counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from epidural_dx.clinical.fhir_codes import FhirCodes
from epidural_dx.clinical.fhir_report import Ignored, Used
from epidural_dx.clinical.fhir_results import Candidate

if TYPE_CHECKING:
    from epidural_dx.model import Model

__all__ = ["Choice"]


class Choice:
    """Settles what counts; says what was used, what was passed over, and what contradicts.

    The newest result of a variable counts, and no older one if it cannot be read. A number beats
    a code, except that a named symptom outlasts one normal number. Codes narrow each other; where
    they leave nothing, the newest counts.

    Parameters
    ----------
    model : Model
    codes : FhirCodes
    base : mapping of str to object
        Evidence from the Patient, which nothing else replaces.
    """

    def __init__(self, model: Model, codes: FhirCodes, base: Mapping[str, object]) -> None:
        self.model = model
        self.codes = codes
        self.base = base
        self.used: list[Used] = []
        self.ignored: list[Ignored] = []
        self.conflicts: list[str] = []

    def settle(self, candidates: list[Candidate]) -> dict[str, object]:
        """Return the evidence that the candidates amount to.

        Parameters
        ----------
        candidates : list of Candidate
            In the order of the record.
        """
        by_variable: dict[str, list[tuple[int, Candidate]]] = {}
        for place, candidate in enumerate(self._without_lone_sites(candidates)):
            by_variable.setdefault(candidate.variable, []).append((place, candidate))
        evidence: dict[str, object] = {}
        for name, placed in by_variable.items():
            ordered = [c for _, c in sorted(placed, key=lambda p: (p[1].when, p[0]), reverse=True)]
            if name in self.base:
                for c in ordered:
                    self._pass_over(c, "is read from Patient")
                continue
            evidence.update(self._choose(name, ordered) or {})
        return evidence

    def _without_lone_sites(self, candidates: list[Candidate]) -> list[Candidate]:
        """Leave out tumours of eye, nose and anus unless a melanoma is coded as well."""
        melanoma = any(
            c.variable in ("melanoma", "known_melanoma")
            and c.states == ("present",)
            and not self.codes.is_listed("only_with_melanoma", c.coding)
            for c in candidates
        )
        if melanoma:
            return candidates
        kept = []
        for c in candidates:
            if self.codes.is_listed("only_with_melanoma", c.coding):
                reason = "does not say that the tumour is a melanoma"
                self.ignored.append(Ignored(c.reference, str(c.coding), reason))
            else:
                kept.append(c)
        return kept

    def _choose(self, name: str, ordered: list[Candidate]) -> dict[str, object] | None:
        """Return the evidence on one variable from what the record says, newest first."""
        results: dict[str, Candidate] = {}
        count: dict[str, int] = {}
        for c in ordered:
            if not c.is_result:
                continue
            count[c.key] = count.get(c.key, 0) + 1
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
            if count[key] > 1:
                told = f"newest of {count[key]} results"
                results[key] = c = replace(c, note=f"{c.note}; {told}" if c.note else told)
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
        self, name: str, number: Candidate, words: list[Candidate], coded: list[Candidate]
    ) -> dict[str, object] | None:
        """Return a number, or the symptom that a code names although the number is normal."""
        read = self.model.read_evidence({**self.base, number.spelled: number.raw})
        states = read.entries[name].states
        for c in (*words, *coded):
            if set(c.states) & set(states):
                self._pass_over(c, f"a measured value counts: {number.reference}")
            elif self.model.variables[name].group == "symptom" and "present" in c.states:
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

    def _named(self, name: str, said: list[Candidate]) -> dict[str, object] | None:
        """Return the states that everything said leaves possible; the newest wins a conflict."""
        said = sorted(said, key=lambda c: c.when, reverse=True)
        left: tuple[str, ...] = self.model.variables[name].states
        taken: list[Candidate] = []
        for c in said:
            both = tuple(s for s in left if s in c.states)
            if not both and name == "smear" and c.is_result:
                both = tuple(
                    s for s in self.model.variables[name].states if s in (*left, *c.states)
                )
                self.conflicts.append(f"{name}: {c.told} beside {taken[-1].told}; either may count")
            if not both:
                self.conflicts.append(
                    f"{name}: {taken[0].told} and {c.told} contradict; the newest counts"
                )
                self._pass_over(c, f"contradicts {taken[0].reference}, which is newer or as old")
                continue
            left = both
            taken.append(c)
        if not taken or left == self.model.variables[name].states:
            for c in taken:
                self._pass_over(c, "leaves every state possible")
            return None
        value: object = left[0] if len(left) == 1 else list(left)
        for c in taken:
            self._take(c, value)
        return {name: value}

    def _take(self, c: Candidate, value: object) -> None:
        """Note that a candidate became the evidence."""
        self.used.append(Used(c.variable, value, c.reference, str(c.coding), c.said, c.note))

    def _pass_over(self, c: Candidate, reason: str) -> None:
        """Note that a candidate did not, and why."""
        self.ignored.append(Ignored(c.reference, str(c.coding), f"{c.variable}: {reason}"))


def _same(a: Candidate, b: Candidate) -> bool:
    return (a.raw, a.states) == (b.raw, b.states)
