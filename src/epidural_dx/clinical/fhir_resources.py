"""FHIR R4 resources as plain JSON: checked by fhirclient, taken apart without surprises.

fhirclient is generated from exactly FHIR 4.0.1; fhir.resources 8 holds R4B and R5 only.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from epidural_dx.clinical.fhir_codes import Coding
from epidural_dx.errors import CaseError, EpiduralDxError

__all__ = [
    "check_resource",
    "codings",
    "date_of",
    "mappings",
    "moment_of",
    "problem_of",
    "quantity",
]

UCUM = "http://unitsofmeasure.org"

#: Characters of the path of an element; no resource of use is nested so deeply.
_LONGEST_PATH = 200

#: Elements of R4 hold no decimals beyond this; a longer number is no measurement.
_LARGEST = 1e18


class FhirSupportError(EpiduralDxError):
    """The extra ``fhir`` is not installed."""


def _factory() -> Any:
    try:
        from fhirclient.models.fhirelementfactory import FHIRElementFactory
    except ImportError:
        raise FhirSupportError("FHIR needs the extra: pip install 'epidural-dx[fhir]'") from None
    return FHIRElementFactory


def problem_of(resource: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a resource as FHIR R4; None if nothing is.

    Parameters
    ----------
    resource : mapping
        JSON with a ``resourceType``.

    Returns
    -------
    str or None
        One line.
    """
    kind = resource.get("resourceType")
    factory = _factory()
    try:
        model = factory.instantiate(kind, dict(resource))
        if getattr(model, "resource_type", None) != kind:
            return f"{kind!r} is no resource of FHIR R4"
        model.as_json()
    except RecursionError:
        return "nested too deeply"
    except Exception as error:  # fhirclient raises several classes on odd shapes
        return min(_problems(error, ""))[:160]
    return None


def _problems(error: BaseException, path: str) -> list[str]:
    """Return what fhirclient found, in words and without addresses of its objects."""
    inner = getattr(error, "errors", None)
    if len(path) > _LONGEST_PATH:
        return ["nested too deeply"]
    if isinstance(inner, list) and inner:
        named = getattr(error, "path", None)
        below = ".".join(part for part in (path, str(named or "")) if part)
        return [told for one in inner for told in _problems(one, below)]
    said = str(error)
    match = re.search(r'"([^"]{1,60})"', said)
    element = ".".join(part for part in (path, match.group(1) if match else "") if part)
    if isinstance(error, AttributeError) and "Superfluous" in said:
        return [f"{element} is no element of it"]
    if isinstance(error, KeyError):
        return [f"{element} is missing"]
    if "expected format" in said:
        return [f"{path or 'an element'} has the wrong format"]
    return [f"{path or element or 'an element'} has the wrong type"]


def check_resource(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource made here if it is FHIR R4.

    Parameters
    ----------
    resource : mapping

    Returns
    -------
    dict
        The same content.

    Raises
    ------
    CaseError
        It is not FHIR R4.
    """
    problem = problem_of(resource)
    if problem is not None:
        raise CaseError(f"is not FHIR R4 ({problem})", where=str(resource.get("resourceType")))
    return dict(resource)


def mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the mappings in a list, or the mapping itself; nothing else."""
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [one for one in value if isinstance(one, Mapping)]
    return []


def text_of(value: object) -> str:
    """Return text, or nothing for anything else."""
    return value if isinstance(value, str) else ""


def codings(concept: object) -> list[Coding]:
    """Return the codings of CodeableConcepts in order."""
    return [
        Coding(
            text_of(one.get("system")),
            text_of(one.get("code")).strip(),
            text_of(one.get("display")),
        )
        for part in mappings(concept)
        for one in mappings(part.get("coding"))
        if text_of(one.get("code")).strip()
    ]


def words_of(concept: object) -> Iterator[str]:
    """Yield the text and the displays of a CodeableConcept."""
    for part in mappings(concept):
        for word in (
            part.get("text"),
            *(one.get("display") for one in mappings(part.get("coding"))),
        ):
            if isinstance(word, str) and word.strip():
                yield word.strip()


def number_of(value: object) -> float | None:
    """Return a finite number; None for anything else (a boolean is none)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) <= _LARGEST else None


def quantity(value: object) -> tuple[float | None, tuple[str, ...], str]:
    """Take a Quantity apart.

    Returns
    -------
    tuple
        The number (None if there is none), the units it names (the UCUM code first; none twice)
        and the comparator (often empty).
    """
    if not isinstance(value, Mapping):
        return None, (), ""
    code, unit = text_of(value.get("code")).strip(), text_of(value.get("unit")).strip()
    named = [code, unit] if value.get("system") == UCUM else [unit or code]
    units = tuple(dict.fromkeys(one for one in named if one))
    return number_of(value.get("value")), units, text_of(value.get("comparator"))


def moment_of(value: object) -> datetime.datetime | None:
    """Return the earliest moment that a FHIR date, dateTime, instant or Period's end may mean.

    Times without a zone count as UTC; nothing depends on the clock or zone of the machine.
    """
    if isinstance(value, Mapping):
        return moment_of(value.get("end")) or moment_of(value.get("start"))
    if not isinstance(value, str):
        return None
    text = value.replace(":60", ":59")
    if len(text) == 4:
        text += "-01"
    if len(text) == 7:
        text += "-01"
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return moment.replace(tzinfo=datetime.UTC)
        return moment.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None


def day_of(value: object) -> datetime.date | None:
    """Return the day of a FHIR time as it is written there, whatever its zone."""
    if isinstance(value, Mapping):
        return day_of(value.get("end")) or day_of(value.get("start"))
    if not isinstance(value, str) or moment_of(value) is None:
        return None
    return datetime.date.fromisoformat(f"{value}-01-01"[:10] if len(value) < 10 else value[:10])


def date_of(value: str) -> datetime.date:
    """Read a reference date.

    Raises
    ------
    CaseError
        It is no date of the form YYYY-MM-DD.
    """
    try:
        return datetime.date.fromisoformat(value[:10])
    except ValueError:
        raise CaseError(
            f"{value!r} is not a date of the form YYYY-MM-DD", where="reference date", value=value
        ) from None
