"""What was done before a test weakens it: antibiotics, a transfusion, steroids, a lost spleen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import epidural_dx as edx
from epidural_dx.decision.ranking import rank_tests
from epidural_dx.network.tables import weakened

#: Finding, what weakens it, its quiet state, and a test that reveals it.
WEAKENED = [
    ("blood_culture", "antibiotic_use", "negative", "blood_culture"),
    ("lesion_culture", "antibiotic_use", "negative", "aspirate_culture"),
    ("hb_electrophoresis", "recent_transfusion", "normal", "hb_electrophoresis"),
    ("lesion_biopsy", "recent_steroids", "non_diagnostic", "ct_guided_biopsy"),
    ("lesion_surgical_pathology", "recent_steroids", "non_diagnostic", "surgical_pathology"),
]
FEVERISH = {"age_group": "age_40_59", "sex": "male", "fever": "present", "back_pain": "present"}


@given(
    p=st.floats(0.01, 0.9),
    other=st.floats(0.0, 0.05),
    kept=st.floats(0.05, 1.0),
    done=st.floats(0.0, 0.6),
)
def test_the_margin_stays(p: float, other: float, kept: float, done: float) -> None:
    """Mixed over who had it the column is as pooled, unless the test would be surer than 0.98."""
    table = np.array([[1 - p - other, p, other]])
    result = weakened(table, np.array(kept), np.array([[done]]), 0, [1])
    assert result.shape == (1, 2, 3)
    assert (result >= 0).all()
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-12)
    np.testing.assert_allclose(result[0, 1, 1], kept * result[0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(result[..., 2], other, atol=1e-12)
    if p / (1 - done * (1 - kept)) + other <= 0.98:
        mixed = (1 - done) * result[0, 0] + done * result[0, 1]
        np.testing.assert_allclose(mixed, table[0], atol=1e-12)


def test_each_share_that_is_left_is_the_declared_one(model: edx.Model) -> None:
    """The telling columns with and without the weakening differ by the share of stated.csv."""
    for finding, by, quiet, _ in WEAKENED:
        node = model.built.structure.nodes[finding]
        assert node.parents[-1] == by
        table = model.built.tables[finding]
        states = node.table["weakened"].get("only", [s for s in node.states if s != quiet])
        kept = model.built.columns[(finding, by, "present", "kept")].mean[0]
        for state in states:
            column = table[..., node.states.index(state)]
            np.testing.assert_allclose(column[..., 1], kept * column[..., 0], rtol=1e-9)


@pytest.mark.parametrize(("finding", "by", "quiet", "test"), WEAKENED)
def test_what_was_done_says_nothing_by_itself(
    model: edx.Model, finding: str, by: str, quiet: str, test: str
) -> None:
    """Antibiotics, a transfusion or steroids move no cause while the test has not been read."""
    if by == "recent_transfusion":  # it goes with regular transfusion, which is a finding
        known: dict[str, Any] = {**FEVERISH, "transfusion_dependent": "absent"}
    else:
        known = dict(FEVERISH)
    before = model.diagnose(known).causes
    after = model.diagnose({**known, by: "present"}).causes
    np.testing.assert_allclose(after[before.index], before, atol=1e-12)


@pytest.mark.parametrize(("finding", "by", "quiet", "test"), WEAKENED)
def test_a_quiet_result_says_less_and_the_test_is_worth_less(
    model: edx.Model, finding: str, by: str, quiet: str, test: str
) -> None:
    """Reading and ranking agree: a weakened test moves less when quiet, and tells fewer bits."""
    known: dict[str, Any] = {**FEVERISH, "transfusion_dependent": "absent"}
    before = model.diagnose(known).causes

    def moved(state: str) -> float:
        answer = model.diagnose({**known, by: state, finding: quiet}).causes
        return float(np.abs(answer[before.index] - before).sum())

    def bits(state: str) -> float:
        ranked = rank_tests(model, {**known, by: state})
        return next(r.information_bits for r in ranked if r.test == test)

    assert moved("present") < moved("absent")
    assert bits("present") < bits("absent")


def test_a_removed_spleen_is_not_felt(model: edx.Model) -> None:
    """After a splenectomy a missing spleen speaks less against a disease that enlarges it."""

    def thalassemia(findings: dict[str, Any]) -> float:
        return float(
            model.diagnose({**FEVERISH, **findings}).conditions["hemoglobinopathy"][1:].sum()
        )

    for removed in ("absent", "present"):
        without = thalassemia({"splenectomy": removed})
        not_felt = thalassemia({"splenectomy": removed, "splenomegaly": "absent"})
        ratio = not_felt / without
        if removed == "absent":
            kept_ratio = ratio
    assert kept_ratio < ratio == pytest.approx(1.0, abs=0.05)
