"""CDS Hooks 2.0: discovery, calls, cards, feedback, and who may call."""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import jsonschema
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from server_patient import wait_until_ready

from epidural_dx.clinical.fhir_resources import problem_of
from epidural_dx.errors import ModelError
from epidural_dx.server.cds_hooks import DIFFERENTIAL, NEEDED, ORDER_CHECK, PREFETCH, cds_router
from epidural_dx.server.cds_trust import Client, Trust, read_trust

HERE = Path(__file__).parent
SCHEMA = json.loads((HERE / "cds_hooks.schema.json").read_text(encoding="utf-8"))
RECORD = json.loads(
    (HERE.parent / "clinical" / "fhir_examples" / "hematoma_dic.json").read_text(encoding="utf-8")
)
INSTANCE = "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea"
VIEW = f"/cds-services/{DIFFERENTIAL}"
CHECK = f"/cds-services/{ORDER_CHECK}"
BASE = "https://cds.example.org"


def validate(document: object, part: str) -> None:
    """Validate a document against a part of the schema, formats included."""
    schema = {**SCHEMA, "$ref": f"#/$defs/{part}"}
    jsonschema.validate(document, schema, format_checker=jsonschema.FormatChecker())


def resources(kind: str, keep: Any = lambda _: True) -> dict[str, Any]:
    """Take the resources of one type out of the record, as the result of a search."""
    found = [e["resource"] for e in RECORD["entry"] if e["resource"]["resourceType"] == kind]
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [{"resource": r} for r in found if keep(r)],
    }


def prefetch(**changes: Any) -> dict[str, Any]:
    """Give every key its data; a change to ... leaves the key out."""
    data: dict[str, Any] = {
        "patient": RECORD["entry"][0]["resource"],
        "conditions": resources("Condition"),
        "laboratory": resources("Observation"),
        "vitals": None,
        "statements": resources("MedicationStatement"),
        "requests": resources("MedicationRequest"),
        "procedures": resources("Procedure"),
    }
    data |= changes
    return {key: value for key, value in data.items() if value is not ...}


def request(hook: str = "patient-view", **changes: Any) -> dict[str, Any]:
    """Make a call in the shape of the specification's example."""
    body: dict[str, Any] = {
        "hookInstance": INSTANCE,
        "fhirServer": "https://ehr.example.org/r4",
        "hook": hook,
        "fhirAuthorization": {
            "access_token": "some-opaque-fhir-access-token",
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": "user/Patient.read user/Observation.read",
            "subject": "cds-service4",
        },
        "context": {
            "userId": "Practitioner/example",
            "patientId": "lesion-1",
            "encounterId": "89284",
        },
        "prefetch": prefetch(),
    }
    return {k: v for k, v in {**body, **changes}.items() if v is not ...}


def order(name: str, text: str, code: str | None = None) -> dict[str, Any]:
    """Make a draft ServiceRequest."""
    concept: dict[str, Any] = {"text": text}
    if code is not None:
        concept["coding"] = [{"system": "http://snomed.info/sct", "code": code}]
    return {
        "resourceType": "ServiceRequest",
        "id": name,
        "status": "draft",
        "intent": "order",
        "code": concept,
        "subject": {"reference": "Patient/lesion-1"},
    }


PUNCTURE = order("lp", "Lumbar puncture", "277762005")
BIOPSY = order("bx", "CT guided biopsy", "277591006")
BLOOD = order("cbc", "Blood count")


def signing(*orders: dict[str, Any], selections: Any = ..., **changes: Any) -> dict[str, Any]:
    """Make a call about draft orders."""
    context = {
        "userId": "Practitioner/example",
        "patientId": "lesion-1",
        "draftOrders": {"resourceType": "Bundle", "entry": [{"resource": o} for o in orders]},
    }
    if selections is not ...:
        context["selections"] = selections
    hook = "order-sign" if selections is ... else "order-select"
    return request(hook, **{"context": context, **changes})


@pytest.fixture(scope="module")
def client(model):
    """Serve the router alone."""
    app = FastAPI()
    app.include_router(cds_router(lambda: model, public_url=f"{BASE}/"))
    return TestClient(app)


# Discovery ------------------------------------------------------------------------------------


def test_discovery_lists_services_as_the_specification_says(client):
    """Every service has its hook, id and description; the order check answers two hooks."""
    answer = client.get("/cds-services")
    assert answer.status_code == 200
    validate(answer.json(), "discovery")
    services = {(s["id"], s["hook"]) for s in answer.json()["services"]}
    assert services == {
        (DIFFERENTIAL, "patient-view"),
        (ORDER_CHECK, "order-select"),
        (ORDER_CHECK, "order-sign"),
    }


def test_prefetch_templates_keep_to_the_simple_subset():
    """Reads and searches by patient, token, date, _count and _sort; first-level tokens only."""
    for template in PREFETCH.values():
        assert set(re.findall(r"{{(.*?)}}", template)) == {"context.patientId"}
        read = re.fullmatch(r"[A-Z][A-Za-z]+/{{context\.patientId}}", template)
        kind, _, query = template.partition("?")
        allowed = {"patient", "category", "status", "code", "date", "_count", "_sort"}
        assert read or (kind.isalpha() and {p.split("=")[0] for p in query.split("&")} <= allowed)
    assert set(NEEDED) <= set(PREFETCH)


# The differential -----------------------------------------------------------------------------


def test_the_differential_is_a_valid_card_with_causes_and_intervals(client, model):
    """The card names causes, model, and proposals that are valid ServiceRequests."""
    answer = client.post(VIEW, json=request())
    assert answer.status_code == 200
    validate(answer.json(), "cards")
    (card,) = answer.json()["cards"]
    leading = model.diagnose(_evidence(model)).ranked_causes()
    detail = card["detail"].replace("\\", "")
    for cause, _ in leading[:3]:
        assert f"| {cause.replace('_', ' ')} |" in detail
    assert leading[0][0].replace("_", " ") in card["summary"]
    assert "90 % interval" in detail and " to " in detail and "Not a medical device" in detail
    assert card["indicator"] == "warning"  # weakness, and a needle is barred
    assert card["extension"]["invalid.epidural-dx.model"]["digest"] == model.digest
    assert card["source"]["url"] == f"{BASE}/" and card["links"][0]["type"] == "absolute"
    actions = [a for s in card["suggestions"] for a in s["actions"]]
    assert actions and all(a["type"] == "create" for a in actions)
    for action in actions:
        assert problem_of(action["resource"]) is None
        assert action["resource"]["subject"] == {"reference": "Patient/lesion-1"}
        assert (action["resource"]["status"], action["resource"]["intent"]) == ("draft", "proposal")
    assert sum(bool(s.get("isRecommended")) for s in card["suggestions"]) == 1


def _evidence(model: Any) -> Any:
    from epidural_dx.clinical.fhir_reading import read_fhir

    return read_fhir(RECORD, model).evidence


def test_the_same_call_gets_the_same_cards(client):
    """Identifiers come from the call and the model, not from chance."""
    assert client.post(VIEW, json=request()).content == client.post(VIEW, json=request()).content
    other = client.post(VIEW, json=request(hookInstance=str(uuid.uuid4()))).json()
    assert other["cards"][0]["uuid"] != client.post(VIEW, json=request()).json()["cards"][0]["uuid"]


def test_nothing_is_said_about_patients_without_a_lesion(client):
    """No compression or epidural lesion in the record: no card."""
    without = resources("Condition", lambda c: c["id"] not in ("cord", "abscess"))
    answer = client.post(VIEW, json=request(prefetch=prefetch(conditions=without)))
    assert answer.status_code == 200 and answer.json() == {"cards": []}
    nobody = client.post(VIEW, json=request(prefetch=prefetch(conditions=None)))
    assert nobody.json() == {"cards": []}


def test_null_is_no_data_and_a_missing_needed_key_is_412(client):
    """A key without data is fine; one that is needed and was not supplied is a precondition."""
    empty = client.post(VIEW, json=request(prefetch=prefetch(laboratory=None)))
    assert empty.status_code == 200 and len(empty.json()["cards"]) == 1
    for key in NEEDED:
        answer = client.post(VIEW, json=request(prefetch=prefetch(**{key: ...})))
        assert answer.status_code == 412 and key in answer.json()["detail"]
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.post(VIEW, json=request(prefetch=...)).status_code == 412
    optional = client.post(VIEW, json=request(prefetch=prefetch(procedures=...)))
    assert "procedures were not supplied" in optional.json()["cards"][0]["detail"]


def test_an_operation_outcome_is_an_error_of_the_client(client):
    """Instead of needed data it is 412, instead of other data it is told."""
    failed = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "timeout"}],
    }
    needed = client.post(VIEW, json=request(prefetch=prefetch(laboratory=failed)))
    assert needed.status_code == 412
    other = client.post(VIEW, json=request(prefetch=prefetch(statements=failed)))
    assert "statements could not be read" in other.json()["cards"][0]["detail"]


def test_data_of_another_patient_are_refused_or_left_out(client):
    """The prefetched Patient must be that of the context; foreign results are not used."""
    foreign = {**RECORD["entry"][0]["resource"], "id": "somebody"}
    answer = client.post(VIEW, json=request(prefetch=prefetch(patient=foreign)))
    assert answer.status_code == 422 and "not the patient" in answer.json()["detail"]
    mixed = json.loads(json.dumps(resources("Observation", lambda o: o["id"] == "plt")))
    mixed["entry"][0]["resource"]["subject"] = {"reference": "Patient/somebody"}
    told = client.post(VIEW, json=request(prefetch=prefetch(laboratory=mixed))).json()
    assert "another patient" in told["cards"][0]["detail"].replace("\\", "")


def test_a_configured_fetcher_supplies_what_is_missing(model):
    """Only where it is configured is anything fetched, with the tokens filled in."""
    asked = []

    def fetch(body: Any, key: str, query: str) -> Any:
        asked.append((key, query))
        return prefetch()[key]

    app = FastAPI()
    app.include_router(cds_router(lambda: model, fetch=fetch))
    answer = TestClient(app).post(VIEW, json=request(prefetch=prefetch(laboratory=...)))
    assert len(answer.json()["cards"]) == 1
    assert [key for key, _ in asked] == ["laboratory"] and "patient=lesion-1&" in asked[0][1]


def test_text_of_the_record_is_no_markup(client):
    """Displays of codes cannot put Markdown or HTML into a card."""
    hostile = json.loads(json.dumps(resources("Condition")))
    for entry in hostile["entry"]:
        for coding in entry["resource"]["code"]["coding"]:
            coding["display"] = "[x](javascript:alert(1)) <script>|** https://evil.example www.evil"
    detail = client.post(VIEW, json=request(prefetch=prefetch(conditions=hostile))).json()
    text = detail["cards"][0]["detail"]
    assert "script" in text and "evil" in text
    assert not re.search(r"(?<!\\)\](\(|\[)|(?<!\\)<|https?://evil|www\.evil", text)


def test_a_record_that_contradicts_itself_gets_a_card_and_no_numbers(client):
    """Findings that cannot occur together are told, not answered."""
    base = resources("Condition", lambda c: c["id"] == "cord")["entry"][0]["resource"]
    code = {"system": "http://hl7.org/fhir/sid/icd-10-cm"}
    both = [
        {**base, "id": name, "code": {"coding": [{**code, "code": name}]}}
        for name in ("D57.1", "C92.00")
    ]
    bundle = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [{"resource": r} for r in (base, *both)],
    }
    answer = client.post(VIEW, json=request(prefetch=prefetch(conditions=bundle)))
    validate(answer.json(), "cards")
    (card,) = answer.json()["cards"]
    assert "contradicts itself" in card["summary"] and "%" not in card["summary"]


# Draft orders ---------------------------------------------------------------------------------


def test_a_lumbar_puncture_below_a_mass_is_critical(client):
    """Barred whatever the blood says; the card offers to remove the draft."""
    answer = client.post(CHECK, json=signing(PUNCTURE, BLOOD))
    validate(answer.json(), "cards")
    (card,) = answer.json()["cards"]
    assert card["indicator"] == "critical" and "Lumbar puncture" in card["summary"]
    assert card["suggestions"][0]["actions"][0] == {
        "type": "delete",
        "description": "Remove the draft order ServiceRequest/lp",
        "resourceId": "ServiceRequest/lp",
    }
    assert "platelets very low" in card["detail"] and card["overrideReasons"]
    assert "doi:10.3171/jns.1986.64.2.0253" in card["detail"]


def test_a_biopsy_with_low_platelets_must_wait(client, model):
    """The barrier is the decision layer's own, with what corrects it."""
    (card,) = client.post(CHECK, json=signing(BIOPSY)).json()["cards"]
    assert card["indicator"] == "warning" and "platelets very low" in card["summary"]
    assert "platelet transfusion" in card["detail"]
    ranked = model.rank_tests(_evidence(model)).set_index("test")
    assert ranked.loc["ct_guided_biopsy", "allowed"] == "until corrected"


def test_a_biopsy_with_good_blood_gets_no_card(client):
    """Nothing to say is an empty list."""
    good = {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [
            {"resource": _laboratory(code, value, unit)}
            for code, value, unit in (
                ("777-3", 260, "10*9/L"),
                ("6301-6", 1.0, "{INR}"),
                ("3255-7", 3.1, "g/L"),
            )
        ],
    }
    answer = client.post(CHECK, json=signing(BIOPSY, prefetch=prefetch(laboratory=good)))
    assert answer.json() == {"cards": []}


def _laboratory(code: str, value: float, unit: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"good-{code}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "effectiveDateTime": "2024-03-02",
        "valueQuantity": {"value": value, "unit": unit},
    }


def test_order_select_looks_at_the_selected_orders_only(client):
    """Other drafts of the session get their card when they are selected or signed."""
    orders = (PUNCTURE, BIOPSY)
    chosen = client.post(CHECK, json=signing(*orders, selections=["ServiceRequest/bx"])).json()
    assert [c["indicator"] for c in chosen["cards"]] == ["warning"]
    assert client.post(CHECK, json=signing(*orders, selections=[])).json() == {"cards": []}
    assert len(client.post(CHECK, json=signing(*orders)).json()["cards"]) == 2


def test_without_a_lesion_only_a_spinal_needle_is_checked(client):
    """A lumbar puncture in a patient without a mass is none of this model's business."""
    without = prefetch(conditions=None)
    assert client.post(CHECK, json=signing(PUNCTURE, prefetch=without)).json() == {"cards": []}
    assert len(client.post(CHECK, json=signing(BIOPSY, prefetch=without)).json()["cards"]) == 1


def test_orders_are_known_by_their_words_where_they_have_no_code(client):
    """A draft with text alone is still a lumbar puncture."""
    words = order("t", "Diagnostic LUMBAR-PUNCTURE, urgent")
    assert len(client.post(CHECK, json=signing(words)).json()["cards"]) == 1
    drug = {"resourceType": "MedicationRequest", "id": "m", "status": "draft"}
    assert client.post(CHECK, json=signing(drug)).json() == {"cards": []}


# Feedback -------------------------------------------------------------------------------------


def test_feedback_is_taken(client):
    """Accepted and overridden cards, as in the examples of the specification."""
    body = {
        "feedback": [
            {
                "card": "4e0a3a1e-3283-4575-ab82-028d55fe2719",
                "outcome": "accepted",
                "acceptedSuggestions": [{"id": "e56e1945-20b3-4393-8503-a1a20fd73152"}],
                "outcomeTimestamp": "2021-12-11T10:05:31Z",
            },
            {
                "card": "9368d37b-283f-44a0-93ea-547cebab93ed",
                "outcome": "overridden",
                "overrideReason": {
                    "reason": {"code": "d7ecf885", "system": "https://example.com/reasons"},
                    "userComment": "A comment entered by the clinician.",
                },
                "outcomeTimestamp": "2020-12-11T00:00:00Z",
            },
        ]
    }
    assert client.post(f"{VIEW}/feedback", json=body).json() == {}
    del body["feedback"][0]["acceptedSuggestions"]
    assert client.post(f"{VIEW}/feedback", json=body).status_code == 422
    assert client.post("/cds-services/other/feedback", json={"feedback": []}).status_code == 404


# Bad requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "status", "what"),
    [
        ("/cds-services/other", request(), 404, "no service"),
        (VIEW, request(hook="order-sign"), 422, "does not answer the hook"),
        (VIEW, request(hookInstance="me"), 422, "hookInstance"),
        (VIEW, request(context={"patientId": "lesion-1"}), 422, "context.userId is missing"),
        (VIEW, request(fhirServer=...), 422, "needs fhirServer"),
        (VIEW, request(prefetch=prefetch(patient="123")), 422, "no FHIR resource"),
        (CHECK, request(hook="order-sign"), 422, "context.draftOrders is missing"),
        (
            CHECK,
            signing(context={"userId": "u/1", "patientId": "lesion-1", "draftOrders": {}}),
            422,
            "no FHIR Bundle",
        ),
    ],
)
def test_bad_requests_get_a_problem_with_one_sentence(client, path, body, status, what):
    """What, where, and what is allowed, as a problem document."""
    answer = client.post(path, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert what in answer.json()["detail"] and "\n" not in answer.json()["detail"]


def test_a_body_that_is_no_json_is_400(client):
    """The parser's error is a problem too."""
    answer = client.post(VIEW, content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["status"] == 400


def test_endless_records_are_refused(client):
    """More resources than can be read in time get a problem, not a wait."""
    many = {"resourceType": "Bundle", "type": "searchset", "entry": [{}] * 5001}
    answer = client.post(VIEW, json=request(prefetch=prefetch(vitals=many)))
    assert answer.status_code == 422 and "at most 5,000" in answer.json()["detail"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=6),
    lambda i: (
        st.lists(i, max_size=2)
        | st.dictionaries(
            st.sampled_from(["resourceType", "entry", "resource", "id", "code", "coding"]),
            i | st.sampled_from(["Bundle", "Patient", "Observation", "ServiceRequest"]),
            max_size=3,
        )
    ),
    max_leaves=6,
)


@given(data=st.data())
@settings(max_examples=120)
def test_malformed_calls_get_only_documented_answers(client, data):
    """Any JSON anywhere in a call: cards or a client error, never a server error."""
    hook = data.draw(st.sampled_from(["patient-view", "order-sign", "order-select"]))
    body = (
        request()
        if hook == "patient-view"
        else signing(PUNCTURE, selections=["ServiceRequest/lp"] if "select" in hook else ...)
    )
    for _ in range(data.draw(st.integers(1, 2))):
        part = data.draw(st.sampled_from(["", "context", "prefetch"]))
        target = body if part == "" else body.get(part)
        if isinstance(target, dict) and target:
            target = dict(target)
            target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON)
            body = target if part == "" else {**body, part: target}
    path = VIEW if hook == "patient-view" else CHECK
    answer = client.post(path, json=body)
    assert answer.status_code in (200, 404, 412, 422)
    if answer.status_code == 200:
        validate(answer.json(), "cards")
    else:
        assert "\n" not in answer.json()["detail"]


# Who may call ---------------------------------------------------------------------------------

ISSUER = "https://ehr.example.org/"
ELLIPTIC = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_jwk(key: Any, name: str) -> dict[str, Any]:
    """Write the public half of a key as JWK."""
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else None
    kind = kind or jwt.algorithms.ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": name, "use": "sig"}


def token(
    path: str = "/cds-services",
    *,
    key: Any = ELLIPTIC,
    algorithm: str = "ES384",
    header: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    """Sign a token as a CDS client does."""
    now = int(time.time())
    payload = {
        "iss": ISSUER,
        "aud": BASE + path,
        "exp": now + 120,
        "iat": now,
        "jti": str(uuid.uuid4()),
        **claims,
    }
    payload = {k: v for k, v in payload.items() if v is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": "one", **(header or {})})


@pytest.fixture(scope="module")
def signed(model):
    """Serve signed calls only."""
    clients = {
        ISSUER: Client(
            ISSUER,
            {"one": public_jwk(ELLIPTIC, "one"), "two": public_jwk(RSA, "two")},
            ("https://ehr.example.org/jwks",),
        )
    }
    app = FastAPI()
    app.include_router(cds_router(lambda: model, trust=Trust(BASE, clients)))
    return TestClient(app)


def ask(signed: TestClient, bearer: str | None) -> tuple[int, str]:
    """Call discovery with a token."""
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    answer = signed.get("/cds-services", headers=headers)
    return answer.status_code, answer.json().get("detail", "")


def test_signed_calls_are_answered(signed):
    """ES384 and RS384, aud as text or list, with or without a listed jku."""
    assert ask(signed, token())[0] == 200
    assert ask(signed, token(key=RSA, algorithm="RS384", header={"kid": "two"}))[0] == 200
    assert ask(signed, token(aud=[f"{BASE}/cds-services"]))[0] == 200
    assert ask(signed, token(header={"jku": "https://ehr.example.org/jwks"}))[0] == 200
    headers = {"Authorization": f"Bearer {token(VIEW)}"}
    assert signed.post(VIEW, json=request(), headers=headers).status_code == 200


def unsigned() -> str:
    """Make a token with the algorithm none."""
    head, body, _ = token().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT","kid":"one"}').rstrip(b"=")
    return f"{none.decode()}.{body}."


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: None, "Authorization: Bearer"),
        (lambda: "x.y.z", "no JWT"),
        (unsigned, "signed with"),
        (lambda: token(key="k" * 48, algorithm="HS384"), "signed with"),
        (lambda: token(key=ec.generate_private_key(ec.SECP384R1())), "signature"),
        (lambda: token(iss="https://evil.example.org/"), "issuer"),
        (lambda: token(aud="https://other.example.org/cds-services"), "aud"),
        (lambda: token(VIEW), "aud"),
        (lambda: token(exp=int(time.time()) - 60, iat=int(time.time()) - 120), "expired"),
        (lambda: token(iat=int(time.time()) + 600), "future"),
        (lambda: token(exp=int(time.time()) + 10**6), "expire within"),
        (lambda: token(jti=None), "needs iss"),
        (lambda: token(header={"kid": "three"}), "kid"),
        (lambda: token(header={"jku": "https://evil.example.org/jwks"}), "jku"),
        (lambda: token(header={"typ": "at+jwt"}), "typ"),
    ],
)
def test_other_tokens_are_refused(signed, make, what):
    """No token, none and symmetric algorithms, foreign keys, times and addresses."""
    status, detail = ask(signed, make())
    assert status == 401 and what in detail


def test_a_token_is_good_once(signed):
    """A token that was heard cannot be played again."""
    once = token()
    assert ask(signed, once)[0] == 200
    status, detail = ask(signed, once)
    assert status == 401 and "used before" in detail


def test_every_route_needs_the_token(signed):
    """Discovery, calls and feedback alike."""
    assert signed.post(VIEW, json=request()).status_code == 401
    assert signed.post(f"{VIEW}/feedback", json={"feedback": []}).status_code == 401


def test_clients_are_read_from_a_file(tmp_path):
    """Public keys only, asymmetric algorithms only, one clear sentence otherwise."""
    file = tmp_path / "clients.json"
    good = {
        "base_url": BASE,
        "clients": [{"iss": ISSUER, "jwks": {"keys": [public_jwk(ELLIPTIC, "one")]}}],
    }
    file.write_text(json.dumps(good), encoding="utf-8")
    assert read_trust(file).verify(f"Bearer {token()}", "/cds-services")["iss"] == ISSUER
    private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ELLIPTIC)) | {"kid": "one"}
    symmetric = {"kty": "oct", "k": "c2VjcmV0", "kid": "one"}
    for wrong in (
        {**good, "algorithms": ["HS256"]},
        {**good, "algorithms": ["none"]},
        {**good, "clients": []},
        {**good, "base_url": "cds.example.org"},
        {"clients": good["clients"]},
        {**good, "clients": [{"iss": ISSUER, "jwks": {"keys": [private]}}]},
        {**good, "clients": [{"iss": ISSUER, "jwks": {"keys": [symmetric]}}]},
        [],
    ):
        file.write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(ModelError) as caught:
            read_trust(file)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError):
        read_trust(tmp_path / "none.json")


# On the server --------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Return a function that starts the application of the server."""
    pytest.importorskip("prometheus_client")
    from epidural_dx.server.app import create_app
    from epidural_dx.server.settings import Settings

    def start(clients: dict[str, Any] | None = None, **options: Any) -> TestClient:
        if clients is not None:
            file = tmp_path / "clients.json"
            file.write_text(json.dumps(clients), encoding="utf-8")
            monkeypatch.setenv("EPIDURAL_DX_CDS_CLIENTS", str(file))
        return TestClient(create_app(Settings(**options)), base_url="http://127.0.0.1")

    return start


def test_the_server_answers_hooks(served):
    """The application includes the routes, with its own limits and headers."""
    with served() as client:
        validate(client.get("/cds-services").json(), "discovery")
        wait_until_ready(client)
        answer = client.post(VIEW, json=request())
        validate(answer.json(), "cards")
        assert len(answer.json()["cards"]) == 1 and answer.headers["x-request-id"]
        padded = request(extension={"org.example.padding": "x" * 300_000})
        assert client.post(VIEW, json=padded).status_code == 200
        assert client.post("/cds-services/other", json=request()).status_code == 404


def test_signed_hooks_need_no_second_token(served):
    """Where clients are named, their JWT takes the place of the server's own bearer token."""
    clients = {
        "base_url": BASE,
        "clients": [{"iss": ISSUER, "jwks": {"keys": [public_jwk(ELLIPTIC, "one")]}}],
    }
    secret = "0123456789abcdef-secret"
    with served(clients, token=secret) as client:
        assert client.get("/cds-services").status_code == 401
        assert ask(client, token())[0] == 200
        assert ask(client, secret)[0] == 401
        assert (
            client.get("/v1/causes", headers={"Authorization": f"Bearer {token()}"}).status_code
            == 401
        )
