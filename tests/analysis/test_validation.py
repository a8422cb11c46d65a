"""Validation on staged patients: what counts, what is skipped, and what the numbers are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_model import FEVER, LEVEL, PRIOR, RASH

import epidural_dx as edx
from epidural_dx.analysis.validation import (
    compare_reports,
    misdiagnosis_summary,
    naive_likelihoods,
    reweighted,
    summary_table,
    text_report,
    trace_misses,
    validate,
)
from epidural_dx.clinical.case import read_cases
from epidural_dx.errors import CaseError, EvidenceError, ModelError

TOY = """
- id: first
  final_cause: emh
  misdiagnosed_cause: cyst
  decisive: biopsy
  stages:
  - name: presentation
    findings: {fever: present}
  - name: mri
    findings: {rash: present}
  - name: biopsy
    findings: {level: low}
- id: second
  final_cause: cyst
  also_acceptable: [emh]
  stages:
  - name: presentation
    findings: {level: [mid, up]}
- id: third
  final_cause: cyst
  misdiagnosed_cause: [emh]
  decisive: presentation
  stages:
  - name: presentation
    findings: {fever: present}
- id: open
  stages:
  - name: presentation
    findings: {fever: absent}
"""


@pytest.fixture
def toy_file(tmp_path: Path) -> Path:
    """Write the toy patients."""
    path = tmp_path / "patients.yaml"
    path.write_text(TOY, encoding="utf-8")
    return path


def normal(weights: Any) -> Any:
    """Scale to sum 1."""
    weights = np.asarray(weights)
    return weights / weights.sum()


def by_hand(prior: Any) -> Any:
    """Posteriors of the three scored toy patients from the tables themselves."""
    first = prior * FEVER[:, 1] * RASH[:, 1, 1]
    second = prior * (LEVEL[:, 1] + LEVEL[:, 2])
    return np.array([normal(first), normal(second), normal(prior)])


def test_only_the_stages_before_the_decisive_one_count(toy: Any, toy_file: Path) -> None:
    """Posteriors are those of the earlier findings, computed by hand; the biopsy is not used."""
    report = validate(toy, toy_file)
    assert [case.name for case in report.cases] == ["first", "second", "third"]
    assert [case.stage for case in report.cases] == ["mri", "presentation", None]
    expected = by_hand(PRIOR)
    np.testing.assert_allclose(report.forecasts["base_rates", "model"], expected, atol=1e-12)


def test_the_mix_of_the_collection_is_the_second_prior(toy: Any, toy_file: Path) -> None:
    """One emh and two cysts make the prior a third and two thirds."""
    report = validate(toy, toy_file)
    assert report.priors["mix"] == pytest.approx([1 / 3, 2 / 3])
    expected = by_hand(np.array([1 / 3, 2 / 3]))
    np.testing.assert_allclose(report.forecasts["mix", "model"], expected, atol=1e-12)


def test_naive_bayes_multiplies_the_marginals_of_the_model(toy: Any, toy_file: Path) -> None:
    """The baseline takes P(rash | cause) summed over fever, as a hand computation does."""
    report = validate(toy, toy_file)
    rash = (FEVER * RASH[:, :, 1]).sum(axis=1)
    first = normal(PRIOR * FEVER[:, 1] * rash)
    np.testing.assert_allclose(report.forecasts["base_rates", "naive_bayes"][0], first, atol=1e-12)
    # a single finding leaves nothing to be naive about
    np.testing.assert_allclose(
        report.forecasts["base_rates", "naive_bayes"][1],
        report.forecasts["base_rates", "model"][1],
        atol=1e-12,
    )
    assert abs(report.forecasts["base_rates", "model"][0, 0] - first[0]) > 0.01


def test_scores_match_a_hand_computation(toy: Any, toy_file: Path) -> None:
    """Top-1, log score, union log score and Brier of the toy patients are those done by hand."""
    report = validate(toy, toy_file, bootstrap=50)
    row = next(r for r in report.rows() if (r["prior"], r["method"]) == ("base_rates", "model"))
    p = by_hand(PRIOR)
    own = [p[0, 0], p[1, 1], p[2, 1]]
    assert row["cases"] == 3
    assert row["top_1"] == pytest.approx(np.mean([p[0, 0] > 0.5, p[1, 1] > 0.5, True]))
    assert row["top_3"] == 1.0
    assert row["log_score"] == pytest.approx(np.mean(np.log(own)))
    assert row["log_score_acceptable"] == pytest.approx(
        (math.log(own[0]) + 0.0 + math.log(own[2])) / 3
    )
    assert row["brier"] == pytest.approx(np.mean([2 * (1 - q) ** 2 for q in own]))
    assert row["log_score_lower"] <= row["log_score"] <= row["log_score_upper"]
    prior = next(r for r in report.rows() if (r["prior"], r["method"]) == ("base_rates", "prior"))
    assert prior["log_score"] == pytest.approx((math.log(0.3) + 2 * math.log(0.7)) / 3)


def test_a_case_without_a_diagnosis_is_skipped_and_listed(toy: Any, toy_file: Path) -> None:
    """The patient whose cause nobody knows is named, not scored and not dropped."""
    report = validate(toy, toy_file)
    assert report.skipped == (("open", "no final_cause"),)
    assert "Skipped: open" in text_report(report)


def test_stages_are_scored_over_the_patients_who_have_them(toy: Any, toy_file: Path) -> None:
    """Each stage has its own patients; the decisive stage is shown apart."""
    rows = {row["stage"]: row for row in validate(toy, toy_file).stage_rows("base_rates")}
    assert {name: row["cases"] for name, row in rows.items()} == {
        "base rates": 3,
        "presentation": 2,
        "mri": 1,
        "all before the decisive stage": 3,
        "decisive stage": 2,
    }
    fever = normal(PRIOR * FEVER[:, 1])[0]
    level = normal(PRIOR * (LEVEL[:, 1] + LEVEL[:, 2]))[1]
    assert rows["presentation"]["log_score"] == pytest.approx(
        (math.log(fever) + math.log(level)) / 2
    )
    biopsy = normal(PRIOR * FEVER[:, 1] * RASH[:, 1, 1] * LEVEL[:, 0])[0]
    third = normal(PRIOR * FEVER[:, 1])[1]
    assert rows["decisive stage"]["log_score"] == pytest.approx(
        (math.log(biopsy) + math.log(third)) / 2
    )


def test_a_wrong_first_diagnosis_is_compared_with_the_truth(toy: Any, toy_file: Path) -> None:
    """The true cause stands above the wrong diagnosis where its probability is larger."""
    report = validate(toy, toy_file)
    rows = report.misdiagnosis_rows("base_rates")
    p = by_hand(PRIOR)
    assert [row["case"] for row in rows] == ["first", "third"]
    assert [row["above"] for row in rows] == [p[0, 0] > p[0, 1], p[2, 1] > p[2, 0]]
    assert misdiagnosis_summary(report, "base_rates")["n"] == 2


def test_confusion_and_causes_count_every_patient_once(toy: Any, toy_file: Path) -> None:
    """The confusion table and the table of causes add up to the patients."""
    report = validate(toy, toy_file)
    for prior in ("base_rates", "mix"):
        assert sum(row["n"] for row in report.confusion_rows(prior)) == 3
        assert sum(row["cases"] for row in report.cause_rows(prior)) == 3
        assert sum(row["n"] for row in report.calibration_rows(prior)) == 3
        assert sum(row["n"] for row in report.calibration_rows(prior, every_cause=True)) == 6


def test_intervals_depend_on_the_seed_only(toy: Any, toy_file: Path) -> None:
    """The same seed gives the same document, and the document is plain JSON."""
    one, two = (validate(toy, toy_file, bootstrap=100, seed=4).to_dict() for _ in range(2))
    assert json.dumps(one) == json.dumps(two)
    assert summary_table(validate(toy, toy_file, bootstrap=10))[0][0] == "prior"


def test_versions_are_compared_patient_by_patient(toy: Any, toy_file: Path) -> None:
    """A report differs from itself by nothing, and from another mix by the mean gap of scores."""
    first = validate(toy, toy_file)
    second = validate(toy, toy_file, mix={"emh": 0.9, "cyst": 0.1})
    assert compare_reports(first, first).mean == 0.0
    gap = compare_reports(first, second)
    assert gap.mean == pytest.approx(
        float(np.mean(first.log_scores("mix") - second.log_scores("mix")))
    )
    assert gap.mean != 0.0


def test_the_model_is_set_against_both_baselines(toy: Any, toy_file: Path) -> None:
    """Each comparison is the mean difference of the two log scores, by either way of scoring."""
    report = validate(toy, toy_file, bootstrap=50)
    rows = report.comparison_rows()
    assert len(rows) == 8
    for row in rows:
        union = row["score"] == "acceptable"
        ours = report.log_scores(row["prior"], union=union)
        theirs = report.log_scores(row["prior"], row["second"], union=union)
        assert row["mean"] == pytest.approx(float((ours - theirs).mean()))
        assert row["lower"] <= row["mean"] <= row["upper"]


def test_a_miss_is_traced_to_the_findings_that_made_it(model: edx.Model, tmp_path: Path) -> None:
    """An abscess in a patient with myeloma names the record as what misled."""
    path = tmp_path / "trap.yaml"
    path.write_text(
        "id: trap\nfinal_cause: abscess\ntrap: a record that misleads\n"
        "findings: {age_years: 67, known_myeloma: present, fever: present,"
        " bone_destruction: present, m_protein: present}\n",
        encoding="utf-8",
    )
    report = validate(model, path, bootstrap=5)
    (miss,) = trace_misses(model, report, "base_rates")
    assert miss["trap"] == "a record that misleads"
    assert miss["leading_cause"] == "myeloma"
    assert "known_myeloma" in {one["finding"] for one in miss["against"]}
    assert "fever" in {one["finding"] for one in miss["for"]}
    for one in (*miss["against"], *miss["for"]):
        assert all(model.literature.figure(row).variable for row in one["rows"])


def test_reports_on_different_patients_are_not_compared(toy: Any, toy_file: Path) -> None:
    """Comparing two collections is refused, naming a patient of one of them."""
    first = validate(toy, toy_file)
    second = validate(toy, edx.clinical.case.read_cases(toy_file)[:2])
    with pytest.raises(ValueError, match="third"):
        compare_reports(first, second)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("final_cause: emhh\nstages:\n- {name: a, findings: {fever: present}}", CaseError, "emh"),
        (
            "final_cause: emh\ndecisive: b\nstages:\n- {name: a, findings: {fever: present}}",
            CaseError,
            "no stage 'b'",
        ),
        (
            "final_cause: emh\nalso_acceptable: {emh: 1}\nstages:\n- {name: a, findings: {}}",
            CaseError,
            "also_acceptable",
        ),
        ("stages:\n- {name: a, findings: {fever: present}}", CaseError, "no case has"),
        (
            "final_cause: emh\nstages:\n- {name: a, findings: {feever: present}}",
            EvidenceError,
            "feever",
        ),
    ],
)
def test_bad_cases_are_one_clear_sentence(
    toy: Any, tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    """A wrong cause, stage, list or finding is refused with its name and the file's."""
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message) as caught:
        validate(toy, path)
    assert "bad.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({"emh": 1.0}, "lacks cyst"),
        ({"emh": 1.0, "cysts": 1.0}, "unknown cause 'cysts'"),
        ({"emh": 1.0, "cyst": 0.0}, "must be positive"),
    ],
)
def test_a_bad_mix_is_refused(
    toy: Any, toy_file: Path, mix: dict[str, float], message: str
) -> None:
    """A mix must give every cause a positive share."""
    with pytest.raises(ModelError, match=message):
        validate(toy, toy_file, mix=mix)


@pytest.mark.parametrize("bins", [(0.0, 1.0, 0.5), (0.1, 1.0), (0.0,)])
def test_bins_must_cover_all_probabilities(
    toy: Any, toy_file: Path, bins: tuple[float, ...]
) -> None:
    """Bins that do not rise from 0 to 1 are refused."""
    with pytest.raises(ValueError, match="bins"):
        validate(toy, toy_file, bins=bins)


def test_the_mix_as_prior_is_that_of_a_model_loaded_with_it(model: edx.Model) -> None:
    """Reweighting the posterior gives what compiling the mix into the rates gives."""
    mix = {cause: 1.0 + i for i, cause in enumerate(model.causes)}
    other = edx.load_model(scenario=model.scenario, cause_mix=mix)
    wanted = np.array(list(mix.values())) / sum(mix.values())
    evidence = {"age_years": 30, "known_thalassemia": "present", "fever": "absent"}
    base = model.base_marginals["lesion_cause"]
    ours = reweighted(model.query(evidence).lesion_cause[None], base, wanted)[0]
    np.testing.assert_allclose(ours, other.query(evidence).lesion_cause, atol=1e-9)


def test_a_mix_may_go_with_another_scenario(model: edx.Model) -> None:
    """The mix is applied to the second model, the base rates stay those of the first."""
    cases = read_cases(Path(__file__).parents[2] / "cases")
    everybody = edx.load_model(scenario="worldwide")
    both = validate(model, cases, mix_model=everybody, bootstrap=5)
    first, second = (validate(m, cases, bootstrap=5) for m in (model, everybody))
    for prior, alone in (("base_rates", first), ("mix", second)):
        np.testing.assert_allclose(both.forecasts[prior, "model"], alone.forecasts[prior, "model"])
        rows, wanted = both.stage_rows(prior), alone.stage_rows(prior)
        assert [r["log_score"] for r in rows] == pytest.approx([r["log_score"] for r in wanted])
    assert both.model["mix_scenario"] == "worldwide"


def test_naive_bayes_on_the_real_model_matches_single_questions(model: edx.Model) -> None:
    """Each factor of the baseline is the answer to a question about the cause alone."""
    read = model.read_evidence({"fever": "present", "t1_signal": ["iso", "hypo"]})
    logs = naive_likelihoods(model, [read])[0]
    for i in (0, 8, 15):
        answer = model.diagnose({"lesion_cause": model.causes[i]})
        t1 = dict(zip(model.variables["t1_signal"].states, answer.marginals["t1_signal"],
                      strict=True))
        fever = dict(zip(model.variables["fever"].states, answer.marginals["fever"], strict=True))
        assert logs[i] == pytest.approx(math.log(fever["present"] * (t1["iso"] + t1["hypo"])))


def test_the_projects_own_patients_can_be_scored(model: edx.Model, cases: Path) -> None:
    """The folder of cases is read; variants without a diagnosis are listed as skipped."""
    report = validate(model, cases, bootstrap=20)
    names = {case.name for case in report.cases}
    assert {"emh_thalassemia_major", "melanoma_marrow_hematoma"} <= names
    assert {name for name, _ in report.skipped}.isdisjoint(names)
    for table in report.forecasts.values():
        np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-9)
    assert len(text_report(report)) > 500
