"""Position of the decisive test, and scores without one source, against single questions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import epidural_dx as edx
from epidural_dx.analysis.decisive import (
    SETTLED_BY,
    decisive_rows,
    decisive_summary,
    leave_sources_out_of_scores,
)
from epidural_dx.analysis.validation import ValidationReport, validate
from epidural_dx.clinical.case import Case, Stage, read_cases

CASES = """
- id: tissue
  final_cause: emh
  decisive: surgery
  stages:
  - {name: presentation, findings: {known_thalassemia: present, back_pain: present}}
  - {name: surgery, findings: {}}
- id: culture
  final_cause: abscess
  decisive: laboratory
  stages:
  - {name: presentation, findings: {fever: present, back_pain: present}}
  - {name: laboratory, findings: {blood_culture: positive}}
- id: opinion
  final_cause: disc
  decisive: conclusion
  stages:
  - {name: presentation, findings: {back_pain: present}}
  - {name: conclusion, findings: {}}
"""


@pytest.fixture(scope="module")
def scored(
    model: edx.Model, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ValidationReport, tuple[Case, ...]]:
    """Score three patients, two of whom a test settled."""
    path = tmp_path_factory.mktemp("decisive") / "cases.yaml"
    path.write_text(CASES, encoding="utf-8")
    cases = read_cases(path)
    return validate(model, cases, bootstrap=5), cases


def test_the_decisive_test_is_found_by_findings_or_by_stage(
    model: edx.Model, scored: Any
) -> None:
    """Coded findings name the test, else the stage's name; an opinion is no test."""
    rows = {row["case"]: row for row in decisive_rows(model, *scored)}
    assert set(rows) == {"tissue", "culture"}
    assert rows["culture"]["tests"] == ["blood_culture"]
    assert set(rows["tissue"]["tests"]) <= set(SETTLED_BY["surgery"])


def test_the_position_is_that_in_the_ranking(model: edx.Model, scored: Any) -> None:
    """It counts the allowed tests that tell at least as much; chance is (N + 1)/(k + 1)."""
    row = next(r for r in decisive_rows(model, *scored) if r["case"] == "culture")
    evidence = {"fever": "present", "back_pain": "present"}
    ranked = model.rank_tests(evidence, target="lesion_cause")
    allowed = ranked[ranked["allowed"].map(lambda a: a is not False)]
    # whatever the hour: the ranking itself puts off what another test must open
    by_bits = allowed.sort_values("information_bits", ascending=False, kind="stable")
    assert row["information"] == [*by_bits["test"]].index("blood_culture") + 1
    assert row["ranked"] == len(allowed)
    assert row["chance"] == pytest.approx((len(allowed) + 1) / 2)
    by_value = allowed.sort_values("value", ascending=False, kind="stable")
    assert row["value"] == [*by_value["test"]].index("blood_culture") + 1


def test_the_summary_averages_the_positions(model: edx.Model, scored: Any) -> None:
    """Means over patients, with chance as the last row; nothing gives nothing."""
    rows = decisive_rows(model, *scored)
    summary = {row["order"]: row for row in decisive_summary(rows)}
    for order in ("information", "information_per_cost", "value"):
        assert summary[order]["mean_position"] == pytest.approx(
            np.mean([row[order] for row in rows])
        )
    assert summary["chance"]["first"] is None
    assert decisive_summary([]) == []


def test_tests_of_stages_exist(model: edx.Model) -> None:
    """No stage stands for a test that the network no longer has."""
    assert {test for tests in SETTLED_BY.values() for test in tests} <= set(model.tests)


def test_scores_without_a_source_are_those_of_a_model_without_it(model: edx.Model) -> None:
    """The score of one patient under the base rates is the posterior of the left-out model."""
    from epidural_dx.analysis.robustness import leave_sources_out

    evidence = {"known_thalassemia": "present", "paravertebral_mass": "bilateral_lobulated"}
    case = Case(
        "one",
        (Stage("presentation", evidence),),
        about={"final_cause": "emh"},
    )
    report = validate(model, [case], bootstrap=1)
    assert report.forecasts["base_rates", "model"][0].argmax() == model.causes.index("emh")
    rows = leave_sources_out_of_scores(model, report, "base_rates")
    changes = [abs(row["change"]) for row in rows]
    assert changes == sorted(changes, reverse=True)
    for row in rows[:3]:
        without = leave_sources_out(model, evidence, [row["source"]]).iloc[0]
        assert row["log_score"] == pytest.approx(np.log(without["leader_before"]), abs=1e-9)
        assert row["leaders"] == int(not without["survives"])
        assert row["largest"] == pytest.approx(without["distance"], abs=1e-9)


def test_cases_of_the_checkout_have_known_decisive_tests(model: edx.Model, cases: Path) -> None:
    """Published patients settled by tissue or stains are found."""
    read = read_cases(cases)
    rows = decisive_rows(model, validate(model, read, bootstrap=1), read)
    assert "melanoma_marrow_hematoma" in {row["case"] for row in rows}
