"""The server answers what the command line prints, in the documented shape."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from server_patient import PATIENT
from starlette.testclient import TestClient

import epidural_dx as edx
from epidural_dx.documents import schema

ROOT = Path(__file__).parents[2]


def close(one: Any, other: Any) -> bool:
    """Whether two documents are the same but for rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return bool(one == other)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return what the command line prints with --json."""
    from epidural_dx.cli import main

    with pytest.raises(SystemExit) as left:
        main([*arguments, "--json"])
    out = capsys.readouterr()
    assert left.value.code == 0, out.err
    return json.loads(out.out)


QUESTIONS = [
    ("diagnose", [], "diagnose", {}),
    ("diagnose", ["--no-tests", "--no-intervals"], "diagnose",
     {"next_tests": False, "intervals": False}),
    ("next-tests", ["--by", "value", "--target", "lesion_cause"], "next-tests",
     {"by": "value", "target": "lesion_cause"}),
    ("next-tests", ["--by", "information-per-cost", "--exclude", "ct_spine", "--max-hours", "48",
                    "--hours-since-onset", "6", "--plan"], "next-tests",
     {"by": "information_per_cost", "exclude": ["ct_spine"], "max_hours": 48,
      "hours_since_onset": 6, "plan": True}),
    ("plan", ["--by", "information"], "plan", {"by": "information"}),
    ("plan", ["--max-hours", "24", "--exclude", "mri_plain", "--steps", "2"], "plan",
     {"max_hours": 24, "exclude": ["mri_plain"], "steps": 2}),
    ("explain", [], "explain", {}),
    ("explain", ["--cause", "abscess", "--against", "emh"], "explain",
     {"cause": "abscess", "against": "emh"}),
    ("uncertainty", ["--draws", "30", "--seed", "4"], "uncertainty", {"draws": 30, "seed": 4}),
    ("uncertainty", ["--draws", "30", "--quasi-random"], "uncertainty",
     {"draws": 30, "quasi_random": True}),
    pytest.param(
        "sensitivity", ["--by", "group", "--total", "--draws", "100", "--top", "3"], "sensitivity",
        {"by": "group", "total": True, "draws": 100, "top": 3}, marks=pytest.mark.slow),
    ("sensitivity", ["--parameter", "rate hematoma_dic"], "sensitivity",
     {"parameter": "rate hematoma_dic"}),
]  # fmt: skip


@pytest.mark.parametrize(("command", "arguments", "path", "options"), QUESTIONS)
def test_answer_is_what_the_command_line_prints(
    client: TestClient,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    arguments: list[str],
    path: str,
    options: dict[str, Any],
) -> None:
    """Every question has the members and numbers of the command line's document."""
    file = tmp_path / "case.json"
    file.write_text(json.dumps(PATIENT), encoding="utf-8")
    if "rate hematoma_dic" in arguments:
        listed = [r for r in edx.load_model().built.rates if r.startswith("hematoma_dic")]
        arguments = ["--parameter", f"rate {listed[0]}"]
        options = {"parameter": f"rate {listed[0]}"}
    expected = printed(capsys, command, str(file), *arguments)
    for own in ("case", "stage", "changes", "file"):
        expected.pop(own, None)
    reply = client.post(f"/v1/{path}", json={"evidence": PATIENT, **options})
    assert reply.status_code == 200, reply.text
    assert close(reply.json(), expected)


@pytest.mark.parametrize(
    ("path", "document", "options"),
    [
        ("diagnose", schema.Diagnosis, {}),
        ("next-tests", schema.NextTests, {}),
        ("plan", schema.PlanDocument, {"steps": 2}),
        ("next-tests", schema.NextTests, {"plan": True}),
        ("explain", schema.Explanation, {}),
        ("explain", schema.Explanation, {"only": "contributions"}),
        ("uncertainty", schema.Uncertainty, {}),
        ("sensitivity", schema.Sensitivity, {"draws": 50, "ranking": True}),
    ],
)
def test_answer_has_the_documented_shape(
    client: TestClient, path: str, document: type[schema.Document], options: dict[str, Any]
) -> None:
    """Every answer is readable by the pydantic model that describes it, and named in OpenAPI."""
    reply = client.post(f"/v1/{path}", json={"evidence": PATIENT, **options})
    assert reply.status_code == 200
    document.model_validate(reply.json())
    described = client.get("/openapi.json").json()
    answer = described["paths"][f"/v1/{path}"]["post"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"]["$ref"].endswith(f"/{document.__name__}")


def test_every_order_and_aim_can_be_asked_for() -> None:
    """The questions take every order of tests, aim of plans and level of shares there is."""
    from typing import get_args

    from epidural_dx.analysis.parameters import LEVELS
    from epidural_dx.decision.plan import AIMS
    from epidural_dx.decision.ranking import ORDERS
    from epidural_dx.documents import questions

    def choices(question: Any) -> tuple[Any, ...]:
        return get_args(question.model_fields["by"].annotation)

    assert choices(questions.NextTestsQuestion) == ORDERS
    assert set(choices(questions.PlanQuestion)) == set(AIMS)
    assert set(get_args(choices(questions.SensitivityQuestion)[0])) == set(LEVELS)


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("model", schema.ModelDocument),
        ("scenarios", schema.ScenarioList),
        ("variables", schema.VariableList),
        ("variables/platelets", schema.VariableDocument),
        ("variables/hb", schema.VariableDocument),
        ("variables/platelets/sources", schema.VariableSources),
        ("tests", schema.TestList),
        ("causes", schema.CauseList),
        ("causes?scenario=child", schema.CauseList),
        ("causes/hematoma/sources", schema.CauseSources),
        ("sources", schema.SourceList),
        ("sources?query=thalassemia", schema.SourceList),
        ("sources?topic=emh-in-thalassemia", schema.SourceList),
        ("sources?cause=emh", schema.SourceList),
        ("cases", schema.CaseList),
    ],
)
def test_catalogue_has_the_documented_shape(
    client: TestClient, path: str, document: type[schema.Document]
) -> None:
    """Everything that can be looked up is readable by the pydantic model that describes it."""
    reply = client.get(f"/v1/{path}")
    assert reply.status_code == 200, reply.text
    document.model_validate(reply.json())


def test_every_variable_and_cause_shows_its_sources(client: TestClient, model: edx.Model) -> None:
    """Each pooled column names figures that are given in full, each with a source."""
    pooled = 0
    for name in model.variables:
        found = client.get(f"/v1/variables/{name}/sources").json()
        given = {row["id"] for row in found["rows"]}
        for column in found["columns"]:
            assert set(column["rows"]) <= given
            assert sum(column["sources"].values()) == pytest.approx(1)
            assert sum(column["probabilities"].values()) == pytest.approx(1, abs=1e-6)
            pooled += 1
        for row in found["rows"]:
            assert row["citation"]
    assert pooled > 500
    for cause in model.causes:
        found = client.get(f"/v1/causes/{cause}/sources").json()
        assert found["rates"], cause
        assert all(rate["figures"] for rate in found["rates"])


@pytest.mark.parametrize("path", sorted((ROOT / "cases").glob("*.yaml")), ids=lambda p: p.stem)
def test_published_patient_can_be_asked_about_stage_by_stage(
    client: TestClient, model: edx.Model, path: Path
) -> None:
    """The findings that the server gives for a stage are findings that it takes."""
    given = client.get(f"/v1/cases/{path.stem}")
    assert given.status_code == 200
    case = schema.CaseDocument.model_validate(given.json())
    findings: dict[str, Any] = {}
    for stage in case.stages:
        findings |= stage.findings
        reply = client.post(
            "/v1/diagnose", json={"evidence": findings, "next_tests": False, "intervals": False}
        )
        assert reply.status_code == 200, reply.text
    expected = model.diagnose(edx.read_case(path))
    if set(findings) == set(expected.evidence.entries):
        assert reply.json()["causes"][0]["cause"] == expected.causes.index[0]


def test_scenario_and_mix_change_base_rates(client: TestClient) -> None:
    """A scenario or a mix of causes gives the base rates of the Python interface."""
    child = client.post(
        "/v1/diagnose",
        json={"evidence": {}, "scenario": "child", "next_tests": False, "intervals": False},
    ).json()
    assert child["model"]["scenario"] == "child"
    mixed = client.post(
        "/v1/diagnose",
        json={
            "evidence": {},
            "cause_mix": {"emh": 1, "abscess": 3},
            "next_tests": False,
            "intervals": False,
        },
    ).json()
    shares = {row["cause"]: row["probability"] for row in mixed["causes"]}
    assert shares["abscess"] == pytest.approx(0.75, abs=0.001)
    assert shares["emh"] == pytest.approx(0.25, abs=0.001)
    assert mixed["model"]["scenario"] == "worldwide"
    assert mixed["model"]["digest"] != child["model"]["digest"]


def test_answer_can_be_reproduced_by_its_tag(client: TestClient) -> None:
    """The same question has the same ETag; another question or another option has another."""
    body = {"evidence": PATIENT, "intervals": False, "next_tests": False}
    first = client.post("/v1/diagnose", json=body)
    again = client.post("/v1/diagnose", json=dict(reversed(body.items())))
    assert first.headers["etag"] == again.headers["etag"]
    assert first.content == again.content
    assert first.headers["model-digest"] == first.json()["model"]["digest"]
    for other in (
        {**body, "intervals": True},
        {**body, "evidence": {**PATIENT, "fever": "present"}},
        {**body, "scenario": "cancer_center"},
    ):
        assert client.post("/v1/diagnose", json=other).headers["etag"] != first.headers["etag"]
    held = client.post(
        "/v1/diagnose", json=body, headers={"If-None-Match": f'"x", {first.headers["etag"]}'}
    )
    assert held.status_code == 412
    assert held.headers["etag"] == first.headers["etag"]


def test_listing_that_the_client_holds_is_not_sent_again(client: TestClient) -> None:
    """A listing's ETag in If-None-Match is answered with 304 and no body."""
    first = client.get("/v1/variables")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/v1/variables", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(
        "/v1/variables?group=imaging", headers={"If-None-Match": first.headers["etag"]}
    )
    assert other.status_code == 200


def test_batch_answers_each_patient_as_if_alone(client: TestClient, model: edx.Model) -> None:
    """A batch gives every patient's own answer, and a problem in place of it where one is wrong."""
    patients = [
        {"id": "a", "evidence": {"back_pain": "present"}},
        {"id": 2, "evidence": {"bakc_pain": "present"}},
        {"evidence": PATIENT},
    ]
    reply = client.post("/v1/batch/diagnose", json={"patients": patients})
    assert reply.status_code == 200
    schema.BatchAnswers.model_validate(reply.json())
    first, second, third = reply.json()["answers"]
    assert (first["id"], second["id"], third["id"]) == ("a", 2, None)
    assert close(
        first["answer"],
        model.diagnose({"back_pain": "present"}).to_dict(next_tests=False, intervals=False),
    )
    assert close(
        third["answer"], model.diagnose(PATIENT).to_dict(next_tests=False, intervals=False)
    )
    assert second["answer"] is None
    assert (
        second["problem"]["nearest"] == ["back_pain"] or "back_pain" in second["problem"]["nearest"]
    )


@pytest.mark.parametrize("form", ["lines", "accept"])
def test_large_batch_streams_one_line_per_patient(client: TestClient, form: str) -> None:
    """More patients than one document takes come back line by line, in order."""
    count = 300
    patients = [{"id": i, "evidence": {"age_years": 1 + i % 90}} for i in range(count)]
    if form == "lines":
        body = "\n".join(json.dumps(p) for p in patients) + "\nno patient\n"
        reply = client.post(
            "/v1/batch/diagnose",
            content=body,
            headers={"Content-Type": "application/x-ndjson"},
        )
    else:
        refused = client.post("/v1/batch/diagnose", json={"patients": patients})
        assert refused.status_code == 422
        assert "256" in refused.json()["detail"]
        reply = client.post(
            "/v1/batch/diagnose",
            json={"patients": patients},
            headers={"Accept": "application/x-ndjson"},
        )
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert [line["index"] for line in lines] == list(range(len(lines)))
    assert [line["id"] for line in lines[:count]] == list(range(count))
    assert all(line["answer"] for line in lines[:count])
    if form == "lines":
        assert lines[-1]["problem"]["status"] == 400
