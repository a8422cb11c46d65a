"""Longer plans: tests that together tell most, one after another."""

from __future__ import annotations

from typing import Any

import pytest

import epidural_dx as edx
from epidural_dx.decision.sequence import greedy_sequence
from epidural_dx.decision.workup import Workup
from epidural_dx.inference.information import entropy

EVIDENCE: dict[str, Any] = {"age_years": 14, "sex": "female", "platelets": "very_low"}
SMALL = ("blood_smear", "bone_marrow_biopsy", "tb_igra", "calcium")


def test_small_sequences_are_exact_and_greedy(model: edx.Model) -> None:
    """Every step is the test that adds most to those before it, by exact joint information."""
    left_out = [t for t in model.tests if t not in SMALL]
    found = greedy_sequence(model, EVIDENCE, exclude=left_out)
    workup = Workup(model, EVIDENCE, ("lesion_cause", "marrow_infiltration"), together=[SMALL])
    done: list[str] = []
    for step in found:
        bits = {
            t: workup.calculator.outcomes(workup.union([*done, t])).information
            for t in SMALL
            if t not in done
        }
        assert step.test == max(bits, key=lambda t: bits[t])
        assert step.bits == pytest.approx(bits[step.test], abs=1e-12)
        done.append(step.test)
    assert sum(s.adds for s in found) == pytest.approx(found[-1].bits)
    assert found[-1].share == pytest.approx(
        found[-1].bits / float(entropy(workup.calculator.prior))
    )


def test_sequences_keep_gates_and_limits(model: edx.Model) -> None:
    """No needle before the count that opens it, no operation, nothing slower than allowed."""
    found = greedy_sequence(model, {"age_years": 30, "back_pain": "present"}, 6, max_hours=120.0)
    tests = [s.test for s in found]
    assert "surgical_pathology" not in tests
    if "ct_guided_biopsy" in tests:
        assert "cbc" in tests[: tests.index("ct_guided_biopsy")]
    assert all(s.hours <= 120 and s.adds > 0 and s.share <= 1 for s in found)
    assert greedy_sequence(model, EVIDENCE, 2, max_hours=0.5)[0].hours <= 0.5


@pytest.mark.parametrize("steps", [0, 11, 2.5, True])
def test_bad_lengths_are_refused(model: edx.Model, steps: Any) -> None:
    """A sequence has one to ten tests."""
    with pytest.raises(edx.EvidenceError, match="steps must be a whole number from 1 to 10"):
        greedy_sequence(model, EVIDENCE, steps)
