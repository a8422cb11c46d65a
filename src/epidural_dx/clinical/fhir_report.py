"""What became of every resource of a FHIR record."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FhirReading", "Ignored", "Used"]


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
