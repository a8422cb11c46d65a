"""Small FHIR resources for tests, in the shape of the public R4 examples."""

from __future__ import annotations

from typing import Any

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
ICD = "http://hl7.org/fhir/sid/icd-10-cm"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
ATC = "http://www.whocc.no/atc"
UCUM = "http://unitsofmeasure.org"
PATIENT = {"reference": "Patient/p"}
DAY = "2024-03-02"


def concept(system: str, code: str, display: str = "") -> dict[str, Any]:
    """Make a CodeableConcept with one coding."""
    coding = {"system": system, "code": code}
    if display:
        coding["display"] = display
    return {"coding": [coding]}


def patient(**elements: Any) -> dict[str, Any]:
    """Make a man of 55."""
    return {
        "resourceType": "Patient",
        "id": "p",
        "gender": "male",
        "birthDate": "1968-05-14",
        **elements,
    }


def observation(
    code: str,
    value: object = None,
    unit: str = "",
    *,
    id: str | None = None,
    ucum: str | None = None,
    system: str = LOINC,
    low: float | None = None,
    high: float | None = None,
    comparator: str | None = None,
    time: str | None = f"{DAY}T08:00:00Z",
    **elements: Any,
) -> dict[str, Any]:
    """Make a final Observation with a Quantity (none if the value is None)."""
    made: dict[str, Any] = {
        "resourceType": "Observation",
        "id": id or f"o-{code}",
        "status": "final",
        "code": concept(system, code),
        "subject": PATIENT,
    }
    if time is not None:
        made["effectiveDateTime"] = time
    if value is not None:
        quantity: dict[str, Any] = {"value": value}
        if unit:
            quantity["unit"] = unit
        if ucum is not None:
            quantity |= {"system": UCUM, "code": ucum}
        if comparator is not None:
            quantity["comparator"] = comparator
        made["valueQuantity"] = quantity
    ends = {"low": low, "high": high}
    sent = {end: {"value": limit} for end, limit in ends.items() if limit is not None}
    if sent:
        made["referenceRange"] = [sent]
    return {**made, **elements}


def condition(
    code: str,
    system: str = ICD,
    *,
    id: str | None = None,
    clinical: str | None = "active",
    verification: str | None = "confirmed",
    date: str | None = DAY,
    **elements: Any,
) -> dict[str, Any]:
    """Make a Condition."""
    made: dict[str, Any] = {
        "resourceType": "Condition",
        "id": id or f"c-{code}",
        "code": concept(system, code),
        "subject": PATIENT,
    }
    if clinical is not None:
        made["clinicalStatus"] = concept(
            "http://terminology.hl7.org/CodeSystem/condition-clinical", clinical
        )
    if verification is not None:
        made["verificationStatus"] = concept(
            "http://terminology.hl7.org/CodeSystem/condition-ver-status", verification
        )
    if date is not None:
        made["recordedDate"] = date
    return {**made, **elements}


def statement(code: str, system: str = RXNORM, **elements: Any) -> dict[str, Any]:
    """Make an active MedicationStatement."""
    return {
        "resourceType": "MedicationStatement",
        "id": f"m-{code}",
        "status": "active",
        "medicationCodeableConcept": concept(system, code),
        "subject": PATIENT,
        **elements,
    }


def procedure(code: str, date: str | None, status: str = "completed") -> dict[str, Any]:
    """Make a Procedure."""
    made: dict[str, Any] = {
        "resourceType": "Procedure",
        "id": f"x-{code}",
        "status": status,
        "code": concept(SNOMED, code),
        "subject": PATIENT,
    }
    if date is not None:
        made["performedDateTime"] = date
    return made


def bundle(*resources: dict[str, Any], with_patient: bool = True) -> dict[str, Any]:
    """Make a Bundle of the man of 55 and the resources."""
    entries = [patient(), *resources] if with_patient else list(resources)
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": one} for one in entries],
    }
