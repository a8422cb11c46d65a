"""An answer as FHIR R4: RiskAssessment, ServiceRequests of the best tests, GuidanceResponse.

``probabilityDecimal`` holds *percent*: R4 says so in the comment of the element and bounds it by
100. The narrative, the rationale of every prediction and a note repeat the unit.
"""

from __future__ import annotations

import datetime
import html
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from epidural_dx.clinical.fhir_codes import LOINC, SNOMED, FhirCodes
from epidural_dx.clinical.fhir_reading import FhirReading
from epidural_dx.clinical.fhir_resources import UCUM, check_resource, mappings, number_of, text_of
from epidural_dx.errors import CaseError

__all__ = [
    "answer_bundle",
    "guidance_response",
    "probabilities_of",
    "risk_assessment",
    "service_requests",
]

#: Where the names of this model's codes, extensions and modules begin unless told otherwise. The
#: domain never resolves (RFC 2606): whoever runs a public service names its own.
BASE = "https://epidural-dx.invalid/fhir"

PERCENT_NOTE = (
    "Probabilities are in percent (0 to 100), as FHIR R4 says of "
    "RiskAssessment.prediction.probabilityDecimal, not fractions."
)
_SHOWN = 5


def _interval_url(base: str) -> str:
    return f"{base}/StructureDefinition/credible-interval-90"


def _model_url(base: str) -> str:
    return f"{base}/StructureDefinition/model"


def _cause_system(base: str) -> str:
    return f"{base}/CodeSystem/lesion-cause"


def _identity(kind: str, document: Mapping[str, Any], *more: object) -> str:
    """Return an identifier that the same question to the same model gets again."""
    parts = [kind, document["model"]["digest"], document["evidence"], *more]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{BASE}#{text}"))


def _percent(fraction: float) -> float:
    return float(f"{100 * fraction:.6g}")


def percent_told(fraction: float) -> str:
    """Write a probability for people; nothing possible is shown as 0 or 100 %."""
    if fraction < 0.001:
        return "<0.1 %"
    if fraction > 0.999:
        return ">99.9 %"
    return f"{100 * fraction:.{0 if 0.0995 <= fraction < 0.995 else 1}f} %"


def interval_told(lower: float, upper: float) -> str:
    """Write a credible interval for people, the unit once."""
    return f"{percent_told(lower).removesuffix(' %')} to {percent_told(upper)}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _subject(subject: Mapping[str, str] | None) -> dict[str, str]:
    named = {k: v for k, v in dict(subject or {}).items() if k in ("reference", "display") and v}
    return named or {"display": "the patient of the request"}


def _model_extension(document: Mapping[str, Any], base: str) -> dict[str, Any]:
    model = document["model"]
    return {
        "url": _model_url(base),
        "extension": [
            {"url": key, "valueString": str(model[key])}
            for key in ("name", "version", "digest", "scenario")
        ],
    }


def _method(document: Mapping[str, Any], base: str) -> dict[str, Any]:
    model = document["model"]
    return {
        "coding": [
            {
                "system": f"{base}/CodeSystem/model",
                "version": model["version"],
                "code": f"{model['name']}-{model['version']}",
            }
        ],
        "text": f"{model['name']} {model['version']}, exact inference in a Bayesian network, "
        f"base rates {_words(model['scenario'])}, digest {model['digest']}",
    }


def drivers_of(document: Mapping[str, Any], cause: str) -> str:
    """Return what drives a cause, the shares in words; empty if it has but one mechanism.

    Parameters
    ----------
    document : mapping
        ``answer.to_dict()``.
    cause : str
    """
    named = [e for e in document["etiology"] if e["cause"] == cause]
    total = sum(e["probability"] for e in named)
    if len(named) < 2 or not total:
        return ""
    shares = [(e["driver"], e["probability"] / total) for e in named]
    return ", ".join(
        f"{'no driver' if driver == 'none' else _words(driver)} {percent_told(share)}"
        for driver, share in shares
        if share >= 0.1
    )


def risk_assessment(
    document: Mapping[str, Any],
    *,
    subject: Mapping[str, str] | None = None,
    basis: Iterable[str] = (),
    day: datetime.date | None = None,
    base: str = BASE,
) -> dict[str, Any]:
    """Return an answer as a RiskAssessment with one prediction per cause.

    Parameters
    ----------
    document : mapping
        ``answer.to_dict()``.
    subject : mapping, optional
        Reference to the patient.
    basis : iterable of str
        References to the resources that the answer rests on.
    day : date, optional
        The day that the answer is for.
    base : str
        Where the names of codes and extensions begin.

    Returns
    -------
    dict
        JSON, checked as FHIR R4. ``probabilityDecimal`` in percent; the 90 % interval in an
        extension of the prediction, in percent too.

    Raises
    ------
    CaseError
        It cannot be written as FHIR R4.
    """
    who = _subject(subject)
    predictions = []
    for one in document["causes"]:
        drivers = drivers_of(document, one["cause"])
        told = percent_told(one["probability"])
        prediction: dict[str, Any] = {}
        if one["lower"] is not None:
            told += f" (90 % interval {interval_told(one['lower'], one['upper'])})"
            limits = {
                end: {
                    "value": _percent(one[key]),
                    "unit": "%",
                    "system": UCUM,
                    "code": "%",
                }
                for end, key in (("low", "lower"), ("high", "upper"))
            }
            prediction["extension"] = [{"url": _interval_url(base), "valueRange": limits}]
        prediction["outcome"] = {
            "coding": [
                {
                    "system": _cause_system(base),
                    "code": one["cause"],
                    "display": _words(one["cause"]),
                }
            ],
            "text": f"spinal epidural lesion: {_words(one['cause'])}",
        }
        prediction["probabilityDecimal"] = _percent(one["probability"])
        prediction["rationale"] = told + (f"; drivers: {drivers}" if drivers else "")
        predictions.append(prediction)
    resource: dict[str, Any] = {
        "resourceType": "RiskAssessment",
        "id": _identity("RiskAssessment", document, who),
        "text": _narrative(document),
        "extension": [_model_extension(document, base)],
        "status": "preliminary",
        "method": _method(document, base),
        "code": {"text": "Cause of a spinal epidural lesion"},
        "subject": who,
        "prediction": predictions,
        "note": [{"text": PERCENT_NOTE}, {"text": document["notice"]}],
    }
    warnings = [w["message"] for w in document["warnings"] if w["code"] != "research_use"]
    resource["note"] += [{"text": message} for message in dict.fromkeys(warnings)]
    if day is not None:
        resource["occurrenceDateTime"] = str(day)
    references = [{"reference": one} for one in dict.fromkeys(basis)]
    if references:
        resource["basis"] = references
    return check_resource(resource)


def _narrative(document: Mapping[str, Any]) -> dict[str, str]:
    rows = "".join(
        f"<tr><td>{html.escape(_words(one['cause']))}</td><td>{html.escape(percent_told(one['probability']))}"
        "</td><td>"
        + (
            html.escape(interval_told(one["lower"], one["upper"]))
            if one["lower"] is not None
            else ""
        )
        + "</td></tr>"
        for one in document["causes"][:_SHOWN]
    )
    return {
        "status": "generated",
        "div": '<div xmlns="http://www.w3.org/1999/xhtml">'
        "<p>Cause of the spinal epidural lesion: probability and 90 % interval in percent.</p>"
        f"<table><tbody>{rows}</tbody></table>"
        f"<p>{html.escape(PERCENT_NOTE)} {html.escape(document['notice'])}</p></div>",
    }


def probabilities_of(
    resource: Mapping[str, Any],
) -> dict[str, tuple[float, float | None, float | None]]:
    """Read the predictions of a RiskAssessment of this model back.

    Parameters
    ----------
    resource : mapping

    Returns
    -------
    dict
        Cause to probability, lower and upper limit as fractions (limits None if there are none).

    Raises
    ------
    CaseError
        It is no RiskAssessment with predictions in percent.
    """
    if resource.get("resourceType") != "RiskAssessment":
        raise CaseError("is no RiskAssessment")
    found: dict[str, tuple[float, float | None, float | None]] = {}
    for prediction in mappings(resource.get("prediction")):
        outcome = prediction.get("outcome")
        coded = mappings(outcome.get("coding")) if isinstance(outcome, Mapping) else []
        percent = number_of(prediction.get("probabilityDecimal"))
        if not coded or percent is None or not 0 <= percent <= 100:
            raise CaseError("a prediction has no coded outcome with a percentage from 0 to 100")
        limits: list[float | None] = [None, None]
        for extension in mappings(prediction.get("extension")):
            if text_of(extension.get("url")).endswith("/credible-interval-90"):
                span = extension.get("valueRange", {})
                ends = [number_of(span.get(end, {}).get("value")) for end in ("low", "high")]
                limits = [None if end is None else end / 100 for end in ends]
        found[text_of(coded[0].get("code"))] = (percent / 100, limits[0], limits[1])
    return found


def best_tests(
    document: Mapping[str, Any], codes: FhirCodes, count: int = 3
) -> list[Mapping[str, Any]]:
    """Return the best next tests that can be ordered and are allowed now.

    Parameters
    ----------
    document : mapping
        ``answer.to_dict()`` with its next tests.
    codes : FhirCodes
        Names what is done at the bedside and not ordered.
    count : int
        At most this many.
    """
    bedside = codes.rule("not_ordered")
    return [
        test
        for test in document["next_tests"]
        if test["allowed"] is True and test["test"] not in bedside and not test["first"]
    ][:count]


def service_requests(
    document: Mapping[str, Any],
    codes: FhirCodes,
    *,
    subject: Mapping[str, str] | None = None,
    count: int = 3,
    snomed: bool = False,
) -> list[dict[str, Any]]:
    """Return the best next tests as proposals: drafts that somebody must still order.

    Parameters
    ----------
    document : mapping
        ``answer.to_dict()`` with its next tests.
    codes : FhirCodes
    subject : mapping, optional
        Reference to the patient.
    count : int
        At most this many.
    snomed : bool
        Also write SNOMED CT codes (needs the licence of SNOMED International in most settings).

    Returns
    -------
    list of dict
        ServiceRequests, best first, checked as FHIR R4.
    """
    who = _subject(subject)
    requests = []
    for test in best_tests(document, codes, count):
        name = test["test"]
        code: dict[str, Any] = {"text": test["label"]}
        coded = []
        loinc = codes.rule("orders").get(name)
        if loinc is not None:
            coded.append({"system": LOINC, "code": str(loinc)})
        if snomed and (sctid := codes.order_code(name, SNOMED)) is not None:
            coded.append({"system": SNOMED, "code": sctid})
        if coded:
            code["coding"] = coded
        notes = [t for t in (test["reason"], test["explanation"], document["notice"]) if t]
        requests.append(
            check_resource(
                {
                    "resourceType": "ServiceRequest",
                    "id": _identity("ServiceRequest", document, who, name),
                    "status": "draft",
                    "intent": "proposal",
                    "code": code,
                    "subject": who,
                    "reasonCode": [{"text": "Spinal epidural lesion of unsettled cause"}],
                    "note": [{"text": note} for note in notes],
                }
            )
        )
    return requests


def guidance_response(
    document: Mapping[str, Any],
    risk: Mapping[str, Any],
    *,
    reading: FhirReading | None = None,
    requests: Sequence[Mapping[str, Any]] = (),
    contained: bool = True,
    base: str = BASE,
) -> dict[str, Any]:
    """Return the answer as the response to a request for guidance.

    Parameters
    ----------
    document : mapping
        ``answer.to_dict()``.
    risk : mapping
        The RiskAssessment.
    reading : FhirReading, optional
        What was read; what was ignored and why becomes an OperationOutcome.
    requests : sequence of mapping
        ServiceRequests that stand beside the response in a Bundle.
    contained : bool
        Carry the RiskAssessment inside; else refer to it beside the response in a Bundle.
    base : str
        Where the names of modules begin.

    Returns
    -------
    dict
        GuidanceResponse, checked as FHIR R4. Its status is ``data-requested`` while tests would
        still tell something, else ``success``.
    """
    parts: list[dict[str, Any]] = []
    inner: list[dict[str, Any]] = []
    if contained:
        held = {k: v for k, v in risk.items() if k != "text"}
        inner.append({**held, "id": "risk"})
        parts.append({"name": "riskAssessment", "valueReference": {"reference": "#risk"}})
    else:
        parts.append({"name": "riskAssessment", "valueReference": {"reference": _urn(risk)}})
    parts += [
        {"name": "serviceRequest", "valueReference": {"reference": _urn(one)}} for one in requests
    ]
    inner.append({"resourceType": "Parameters", "id": "output", "parameter": parts})
    response: dict[str, Any] = {
        "resourceType": "GuidanceResponse",
        "id": _identity("GuidanceResponse", document, risk["subject"]),
        "moduleUri": f"{base}/epidural-dx/{document['model']['version']}",
        "status": "data-requested" if requests else "success",
        "subject": dict(risk["subject"]),
        "performer": {"display": f"epidural-dx {document['model']['version']}"},
        "extension": [_model_extension(document, base)],
        "note": [{"text": PERCENT_NOTE}, {"text": document["notice"]}],
        "outputParameters": {"reference": "#output"},
    }
    if "occurrenceDateTime" in risk:
        response["occurrenceDateTime"] = risk["occurrenceDateTime"]
    issues = [] if reading is None else _issues(reading)
    if issues:
        inner.append({"resourceType": "OperationOutcome", "id": "read", "issue": issues})
        response["evaluationMessage"] = [{"reference": "#read"}]
    response["contained"] = inner
    return check_resource(response)


def _issues(reading: FhirReading) -> list[dict[str, Any]]:
    issues: list[dict[str, Any]] = [
        {"severity": "warning", "code": "conflict", "diagnostics": text}
        for text in reading.conflicts
    ]
    issues += [
        {"severity": "information", "code": "informational", "diagnostics": text}
        for text in reading.notes
    ]
    issues += [
        {
            "severity": "information",
            "code": "not-supported",
            "diagnostics": f"{one.reference}{f', {one.code}' if one.code else ''}: {one.reason}",
        }
        for one in reading.ignored
    ]
    return issues


def _urn(resource: Mapping[str, Any]) -> str:
    return f"urn:uuid:{resource['id']}"


def answer_bundle(
    document: Mapping[str, Any],
    codes: FhirCodes,
    *,
    reading: FhirReading | None = None,
    subject: Mapping[str, str] | None = None,
    base: str = BASE,
    snomed: bool = False,
) -> dict[str, Any]:
    """Return an answer as one Bundle: RiskAssessment, ServiceRequests, GuidanceResponse.

    Parameters
    ----------
    document : mapping
        ``answer.to_dict()``.
    codes : FhirCodes
    reading : FhirReading, optional
        Gives the patient, the basis, the day and what was not read.
    subject : mapping, optional
        The patient where there is no reading.
    base : str
        Where the names of codes, extensions and modules begin.
    snomed : bool
        Also write SNOMED CT codes.

    Returns
    -------
    dict
        A Bundle of type ``collection``, checked as FHIR R4.
    """
    who = (reading.subject if reading is not None else None) or subject
    risk = risk_assessment(
        document,
        subject=who,
        basis=() if reading is None else reading.basis,
        day=None if reading is None else reading.reference_date,
        base=base,
    )
    requests = service_requests(document, codes, subject=who, snomed=snomed)
    response = guidance_response(
        document, risk, reading=reading, requests=requests, contained=False, base=base
    )
    return check_resource(
        {
            "resourceType": "Bundle",
            "id": _identity("Bundle", document, risk["subject"]),
            "type": "collection",
            "entry": [
                {"fullUrl": _urn(one), "resource": one} for one in (risk, *requests, response)
            ],
        }
    )
