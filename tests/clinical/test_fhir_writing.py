"""Answers as FHIR R4: percent, intervals, references, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from epidural_dx.clinical.fhir_codes import SNOMED, load_fhir_codes
from epidural_dx.clinical.fhir_reading import read_fhir
from epidural_dx.clinical.fhir_resources import problem_of
from epidural_dx.clinical.fhir_writing import (
    answer_bundle,
    guidance_response,
    percent_told,
    probabilities_of,
    risk_assessment,
    service_requests,
)
from epidural_dx.errors import CaseError

EXAMPLES = Path(__file__).parent / "fhir_examples"
NAMES = sorted(p.stem for p in EXAMPLES.glob("*.json"))


@pytest.fixture(scope="module")
def codes(priors):
    """Read the codes."""
    return load_fhir_codes(priors)


@pytest.fixture(scope="module")
def answered(model):
    """Answer every example once, with intervals and tests."""
    found = {}
    for name in NAMES:
        record = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
        reading = read_fhir(record, model)
        found[name] = (reading, model.diagnose(reading.evidence).to_dict())
    return found


def references(value: Any) -> set[str]:
    """Collect every reference below a resource."""
    if isinstance(value, dict):
        own = {value["reference"]} if isinstance(value.get("reference"), str) else set()
        return own.union(*(references(v) for v in value.values()))
    if isinstance(value, list):
        return set().union(*(references(v) for v in value))
    return set()


def nulls_and_empties(value: Any) -> bool:
    """Whether there is a null, an empty list or an empty mapping anywhere."""
    if isinstance(value, dict):
        return not value or any(nulls_and_empties(v) for v in value.values())
    if isinstance(value, list):
        return not value or any(nulls_and_empties(v) for v in value)
    return value is None or value == ""


@pytest.mark.parametrize("name", NAMES)
def test_probabilities_and_intervals_come_back_as_they_went(answered, name):
    """A round trip through JSON keeps every probability and limit to six digits."""
    reading, document = answered[name]
    written = risk_assessment(document, subject=reading.subject, basis=reading.basis)
    back = probabilities_of(json.loads(json.dumps(written)))
    assert list(back) == [one["cause"] for one in document["causes"]]
    for one in document["causes"]:
        for got, meant in zip(
            back[one["cause"]], (one["probability"], one["lower"], one["upper"]), strict=True
        ):
            assert got == pytest.approx(meant, rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_probability_decimal_holds_percent_and_says_so(answered, name):
    """The decimals sum to 100; narrative, rationale and note name the unit."""
    _, document = answered[name]
    written = risk_assessment(document)
    total = sum(p["probabilityDecimal"] for p in written["prediction"])
    assert total == pytest.approx(100, abs=1e-3)
    assert all(0 <= p["probabilityDecimal"] <= 100 for p in written["prediction"])
    assert "percent" in written["text"]["div"] and "percent" in written["note"][0]["text"]
    assert all("%" in p["rationale"] for p in written["prediction"])
    spans = [p["extension"][0]["valueRange"] for p in written["prediction"]]
    assert all(end["code"] == "%" for span in spans for end in span.values())
    assert all(span["low"]["value"] <= span["high"]["value"] for span in spans)


@pytest.mark.parametrize("name", NAMES)
def test_everything_written_is_r4_without_nulls(answered, codes, name):
    """Fhirclient's models of 4.0.1 accept the Bundle and each resource in it."""
    reading, document = answered[name]
    bundle = answer_bundle(document, codes, reading=reading)
    assert problem_of(bundle) is None and not nulls_and_empties(bundle)
    kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
    assert kinds[0] == "RiskAssessment" and kinds[-1] == "GuidanceResponse"
    assert set(kinds[1:-1]) == {"ServiceRequest"}
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    for entry in bundle["entry"]:
        inner = {f"#{c['id']}" for c in entry["resource"].get("contained", [])}
        for target in references(entry["resource"]):
            assert target in urls | inner | set(reading.basis), target


def test_the_basis_is_what_was_used(answered):
    """Each resource that became a finding is referred to, and no other."""
    reading, document = answered["hematoma_dic"]
    written = risk_assessment(document, subject=reading.subject, basis=reading.basis)
    assert [r["reference"] for r in written["basis"]] == list(reading.basis)
    assert "Observation/plt" in reading.basis and "Observation/plt-prelim" not in reading.basis
    assert written["subject"] == {"reference": "Patient/lesion-1"}
    assert document["model"]["digest"] in written["method"]["text"]


def test_an_answer_without_intervals_has_no_extension(model, codes):
    """What was not computed is left out, not null."""
    document = model.diagnose({"age_years": 70}).to_dict(intervals=False, next_tests=False)
    bundle = answer_bundle(document, codes, subject={"display": "somebody"})
    risk = bundle["entry"][0]["resource"]
    assert "extension" not in risk["prediction"][0] and not nulls_and_empties(bundle)
    assert [e["resource"]["resourceType"] for e in bundle["entry"]] == [
        "RiskAssessment",
        "GuidanceResponse",
    ]
    assert bundle["entry"][-1]["resource"]["status"] == "success"


def test_identifiers_depend_on_question_and_model_only(answered, codes):
    """The same question gets the same identifiers, another patient others."""
    reading, document = answered["hematoma_dic"]
    once = answer_bundle(document, codes, reading=reading)
    again = answer_bundle(json.loads(json.dumps(document)), codes, reading=reading)
    assert once == again
    other = risk_assessment(document, subject={"reference": "Patient/else"})
    assert other["id"] != once["entry"][0]["resource"]["id"]


def test_guidance_holds_the_risk_and_what_was_not_read(answered, codes):
    """A response on its own contains the RiskAssessment; ignored resources are issues."""
    reading, document = answered["hematoma_dic"]
    risk = risk_assessment(document, subject=reading.subject)
    response = guidance_response(document, risk, reading=reading)
    assert problem_of(response) is None
    held = {c["id"]: c for c in response["contained"]}
    assert probabilities_of(held["risk"]) == probabilities_of(risk)
    told = " ".join(i["diagnostics"] for i in held["read"]["issue"])
    assert all(one.reference in told for one in reading.ignored)
    assert {"#risk", "#output", "#read"} <= references(response)


def test_proposals_are_drafts_of_tests_that_are_allowed(answered, codes):
    """No order: draft, proposal, only what may be done now, no SNOMED CT unless asked for."""
    reading, document = answered["hematoma_dic"]
    requests = service_requests(document, codes, subject=reading.subject)
    assert 1 <= len(requests) <= 3
    assert {(r["status"], r["intent"]) for r in requests} == {("draft", "proposal")}
    allowed = {t["label"] for t in document["next_tests"] if t["allowed"] is True}
    assert {r["code"]["text"] for r in requests} <= allowed
    plain = json.dumps(requests)
    assert SNOMED not in plain and "ama-assn.org/go/cpt" not in plain
    licensed = json.dumps(service_requests(document, codes, snomed=True))
    assert SNOMED in licensed


def test_every_code_for_an_order_names_its_test(codes, model):
    """Codes of orders are LOINC codes that the table lists for that very test."""
    from epidural_dx.clinical.fhir_codes import LOINC, Coding

    for test, code in codes.rule("orders").items():
        assert test in model.tests
        assert codes.ordered_test([Coding(LOINC, str(code))], "") == test


def test_nothing_possible_is_told_as_zero_or_certain():
    """Percent for people has no 0 % and no 100 %."""
    assert percent_told(0) == "<0.1 %" and percent_told(1) == ">99.9 %"
    assert percent_told(0.5) == "50 %" and percent_told(0.9967) == "99.7 %"


def test_a_fraction_or_a_foreign_assessment_is_not_mistaken(answered):
    """Only predictions with a coded outcome and a percentage are read back."""
    with pytest.raises(CaseError):
        probabilities_of({"resourceType": "Observation"})
    with pytest.raises(CaseError):
        probabilities_of(
            {"resourceType": "RiskAssessment", "prediction": [{"probabilityDecimal": 3}]}
        )
