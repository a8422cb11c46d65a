"""Bad questions get a problem document with the command line's sentence, and never a 500."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from server_patient import PATIENT, ask
from starlette.testclient import TestClient

import epidural_dx as edx
from epidural_dx.documents import schema
from epidural_dx.server import Settings, create_app
from epidural_dx.server.gate import Guard
from epidural_dx.server.logs import JsonLines, logger


@pytest.mark.parametrize(
    "evidence",
    [
        {"bakc_pain": "present"},
        {"platelets": "24 parsecs"},
        {"platelets": "very_lwo"},
        {"age_years": -3},
        {"sex": "male", "pregnancy": {"likelihood": {"present": 0}}},
        {"enhancement": []},
        {"t1_signal": {"not": ["hyper", "iso", "hypo", "mixed"]}},
        {"age_years": [1, [2, [3]]]},
        {"etiology": "disc"},
        {"fever": None, "crp": {"value": "high", "unit": 3}},
    ],
)
def test_bad_evidence_has_the_sentence_of_the_python_interface(
    client: TestClient, model: edx.Model, evidence: dict[str, Any]
) -> None:
    """Sentence, variable, allowed values and nearest match are those of EvidenceError."""
    with pytest.raises(edx.EvidenceError) as raised:
        model.diagnose(evidence)
    reply = client.post("/v1/diagnose", json={"evidence": evidence})
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    schema.ProblemDocument.model_validate(problem)
    assert problem["detail"] == str(raised.value)
    assert problem["variable"] == raised.value.variable
    assert problem["allowed"] == list(raised.value.allowed)
    assert problem["nearest"] == list(raised.value.nearest)
    assert problem["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("diagnose", {"evidance": {}}, "did you mean evidence?"),
        ("diagnose", {}, "evidence is missing"),
        ("diagnose", {"evidence": [1]}, "must be a JSON object"),
        ("diagnose", [], "The body must be a JSON object"),
        ("diagnose", {"evidence": {}, "intervals": "yes"}, "must be true or false"),
        ("diagnose", {"evidence": {}, "scenario": "chld"}, "did you mean child?"),
        ("diagnose", {"evidence": {}, "cause_mix": {"emmh": 1}}, "did you mean emh?"),
        ("diagnose", {"evidence": {}, "cause_mix": {"emh": -1}}, "greater than or equal to 0"),
        ("diagnose", {"evidence": {}, "cause_mix": {"emh": 0}}, "all shares are 0"),
        ("next-tests", {"evidence": {}, "by": "valeu"}, "did you mean value?"),
        ("next-tests", {"evidence": {}, "target": "etiologie"}, "did you mean etiology?"),
        ("next-tests", {"evidence": {}, "exclude": ["mri"]}, "mri"),
        ("next-tests", {"evidence": {}, "max_hours": -1}, "greater than or equal to 0"),
        ("plan", {"evidence": {}, "exclude": ["nonsense"]}, "nonsense"),
        ("uncertainty", {"evidence": {}, "draws": 1}, "greater than or equal to 2"),
        ("uncertainty", {"evidence": {}, "draws": 4000}, "at most 1000 on this server"),
        ("sensitivity", {"evidence": {}, "parameter": "x", "by": "source"}, "ask for different"),
        ("sensitivity", {"evidence": {}, "parameter": "rate of nothing"}, "no figure"),
        ("sensitivity", {"evidence": {}, "cause": "emhh"}, "did you mean emh?"),
        ("batch/diagnose", {"patients": []}, "patients"),
        ("batch/diagnose", {"patients": [{"evidnce": {}}]}, "evidnce"),
    ],
)
def test_wrong_options_are_named(client: TestClient, path: str, body: Any, words: str) -> None:
    """A misspelt, missing, senseless or excessive option gets one sentence that names it."""
    reply = client.post(f"/v1/{path}", json=body)
    assert reply.status_code == 422, reply.text
    assert words in reply.json()["detail"]
    assert "\n" not in reply.json()["detail"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"evidence":{"a":NaN}}', "NaN"),
        (b'{"evidence":{"a":-Infinity}}', "Infinity"),
        (b'{"evidence":{"a":1e999}}', "beyond all"),
        (b'{"evidence":{"a":%s}}' % (b"9" * 5000), "too many digits"),
        (b'{"evidence":{"a":"\\ud800"}}', "surrogate"),
        (b'{"evidence":{},"evidence":{}}', "twice"),
        (b'{"evidence":{"fever":"absent","fever":"present"}}', "twice"),
        (b"[" * 100_000, "nested"),
        (b'{"evidence":' + b'{"a":' * 60 + b"1" + b"}" * 61, "nested deeper"),
    ],
)
def test_what_is_no_json_is_refused(client: TestClient, body: bytes, words: str) -> None:
    """What JSON does not allow, or what would be dropped in silence, is a 400 with the reason."""
    reply = client.post("/v1/diagnose", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400
    assert words in reply.json()["detail"]


def test_other_bodies_paths_and_methods_are_problems_too(client: TestClient) -> None:
    """Forms, compressed bodies, unknown paths and methods get problem documents."""
    form = client.post("/v1/diagnose", data={"evidence": "x"})
    assert form.status_code == 415
    plain = client.post("/v1/diagnose", content=b"{}", headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    packed = client.post(
        "/v1/diagnose",
        content=b"{}",
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )
    assert packed.status_code == 415
    lines = client.post(
        "/v1/diagnose", content=b"{}", headers={"Content-Type": "application/x-ndjson"}
    )
    assert lines.status_code == 415
    assert client.get("/v1/nothing").status_code == 404
    wrong = client.get("/v1/diagnose")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    unknown = client.get("/v1/variables/plateletts/sources")
    assert (unknown.status_code, unknown.json()["nearest"]) == (404, ["platelets"])
    assert client.get("/v1/cases/..%2f..%2fpyproject.toml").status_code == 404
    misspelt = client.get("/v1/sources?qurey=emh")
    assert (misspelt.status_code, misspelt.json()["nearest"]) == (422, ["query"])
    assert client.get("/v1/variables?group=labratory").status_code == 422
    for reply in (form, plain, packed, lines, wrong, unknown):
        assert reply.headers["content-type"] == "application/problem+json"


def test_sizes_are_limited(client: TestClient) -> None:
    """Bodies, findings, names and texts beyond the limits are refused without being read."""
    assert client.post("/v1/diagnose", json={"evidence": {"a": "x" * 300_000}}).status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(400):
            yield b" " * 1024

    chunked = client.post(
        "/v1/diagnose", content=pieces(), headers={"Content-Type": "application/json"}
    )
    assert chunked.status_code == 413
    many = client.post("/v1/diagnose", json={"evidence": {f"x{i}": 1 for i in range(401)}})
    assert many.status_code == 422
    assert "401 findings" in many.json()["detail"]
    long_name = client.post("/v1/diagnose", json={"evidence": {"x" * 101: 1}})
    assert long_name.status_code == 422
    assert len(long_name.content) < 1000
    long_text = client.post("/v1/diagnose", json={"evidence": {"fever": {"not": "x" * 501}}})
    assert long_text.status_code == 422
    assert len(long_text.content) < 1000


def test_a_question_before_the_model_is_ready_is_asked_to_come_back() -> None:
    """Without a model the server lives, is not ready, and says when to ask again."""
    cold = TestClient(create_app(Settings(hosts=("testserver",))))  # its lifespan never begins
    assert cold.get("/healthz").status_code == 200
    for reply in (cold.get("/readyz"), cold.post("/v1/diagnose", json={"evidence": {}})):
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) > 0
        assert reply.json()["type"] == "urn:epidural-dx:problem:starting"


def test_a_model_that_cannot_be_loaded_leaves_the_server_not_ready(tmp_path: Any) -> None:
    """With folders that hold no model readiness stays 503, and the probe of life still answers."""
    (tmp_path / "networks").mkdir()
    broken = create_app(Settings(hosts=("testserver",), networks=tmp_path / "networks"))
    with TestClient(broken) as client:
        for _ in range(200):
            reply = client.get("/readyz")
            if "cannot be loaded" in reply.json()["detail"]:
                break
        assert reply.status_code == 503
        assert str(tmp_path) not in reply.text
        assert client.get("/healthz").status_code == 200


def test_a_client_that_does_not_send_its_body_is_given_up() -> None:
    """A body that never arrives ends with 408 and not with a waiting connection."""
    sent: list[dict[str, Any]] = []

    async def never() -> dict[str, Any]:
        await asyncio.sleep(30)
        return {}

    async def keep(message: Any) -> None:
        sent.append(message)

    async def unreached(*_: Any) -> None:
        raise AssertionError("the question must not arrive")

    guard = Guard(unreached, Settings(body_seconds=0.05), lambda _: False)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/diagnose",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "state": {},
    }
    asyncio.run(guard(scope, never, keep))
    assert sent[0]["status"] == 408


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    """Catch what the server logs, as it would be written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_logs_name_the_request_and_never_the_patient(
    client: TestClient, log_lines: io.StringIO
) -> None:
    """Every request is one JSON line with its id; no finding, value, query or cause is in it."""
    ask(client, "diagnose", {"evidence": PATIENT}, headers={"X-Request-ID": "ward-7.bed-3"})
    ask(client, "diagnose", {"evidence": {"secretname": "secretvalue"}})
    ask(client, "explain", {"evidence": {**PATIENT, "platelets": "24.125 parsecs"}})
    client.get("/v1/sources?query=secretvalue")
    client.get("/v1/variables/secretname")
    client.get("/secretname?secretvalue")
    text = log_lines.getvalue()
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == 6
    assert lines[0]["request_id"] == "ward-7.bed-3"
    assert len({line["request_id"] for line in lines}) == 6
    assert [line["route"] for line in lines] == [
        "/v1/diagnose",
        "/v1/diagnose",
        "/v1/explain",
        "/v1/sources",
        "/v1/variables/{name}",
        "none",
    ]
    members = "time level event request_id method route status milliseconds bytes".split()
    assert all(list(line) == members for line in lines)
    for word in ("secretname", "secretvalue", "24.125", "back_pain", "very_low", "hypo"):
        assert word not in text


def test_a_failure_tells_the_client_nothing_and_the_log_no_value(
    app: FastAPI, client: TestClient, log_lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug gives 500 with a request id; the log has its class and places, never its message."""

    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("secretvalue of a patient")

    monkeypatch.setattr(type(app.state.service.shelf.main), "diagnose", broken)
    reply = ask(client, "diagnose", {"evidence": {"age_years": 41.5}})
    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/problem+json"
    assert "secretvalue" not in reply.text
    assert "KeyError" not in reply.text
    failure = json.loads(log_lines.getvalue().splitlines()[0])
    assert failure["error"] == "KeyError"
    assert failure["request_id"] == reply.json()["request_id"]
    assert any("broken" in place for place in failure["places"])
    assert "secretvalue" not in log_lines.getvalue()


def test_hostile_request_ids_are_replaced(client: TestClient) -> None:
    """An id that could forge a log line is not taken over."""
    for given in ("x" * 65, 'a"b', "a b", "<script>", ""):
        reply = client.get("/healthz", headers={"X-Request-ID": given})
        assert reply.headers["x-request-id"] != given
    assert client.get("/healthz", headers={"X-Request-ID": "A-1"}).headers["x-request-id"] == "A-1"
