"""Patients drawn from the model are diagnosed with calibrated probabilities."""

from __future__ import annotations

import numpy as np
import pytest

import epidural_dx as edx
from epidural_dx.analysis.simulation import draw_patients, self_consistency


def test_drawn_patients_have_the_marginals_of_the_model(model: edx.Model) -> None:
    """Frequencies among drawn patients are the engine's marginals up to chance."""
    patients = 4000
    drawn = draw_patients(model, patients, seed=2)
    assert set(drawn) == set(model.variables)
    worst = 0.0
    for name, states in drawn.items():
        expected = model.base_marginals[name]
        seen = np.bincount(states, minlength=len(expected)) / patients
        error = np.sqrt(np.maximum(expected * (1 - expected), 1e-4) / patients)
        worst = max(worst, float(np.abs((seen - expected) / error).max()))
    # some 400 states: the largest of as many standard normal deviates is near 3
    assert worst < 5


def test_drawn_patients_depend_on_the_seed_only(model: edx.Model) -> None:
    """The same seed draws the same patients, another seed others."""
    one, two, other = (draw_patients(model, 50, seed=s) for s in (3, 3, 4))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("findings", [4, 25])
def test_the_model_is_calibrated_on_its_own_patients(model: edx.Model, findings: int) -> None:
    """Log score and hits are what the stated probabilities promise, within chance."""
    found = self_consistency(model, 1500, findings, seed=5)
    assert abs(found.log_score - found.expected_log_score) < 4 * found.log_score_error
    error = np.sqrt(found.expected_top_1 * (1 - found.expected_top_1) / found.patients)
    assert abs(found.top_1 - found.expected_top_1) < 4 * error
    np.testing.assert_allclose(found.mean_posterior, found.prior, atol=0.04)
    assert sum(one.n for one in found.calibration) == found.patients


def test_more_findings_tell_more(model: edx.Model) -> None:
    """The log score rises with the number of findings known."""
    few, many = (self_consistency(model, 800, n, seed=6) for n in (2, 25))
    assert many.log_score > few.log_score
    assert many.top_1 > few.top_1


def test_conflict_is_quiet_on_the_models_own_patients(model: edx.Model) -> None:
    """Fewer than one drawn patient in twenty has findings that conflict enough for a warning."""
    assert self_consistency(model, 1000, 12, seed=7).conflicting < 0.05


@pytest.mark.parametrize(("patients", "findings"), [(0, 3), (5, 0), (5, 10_000)])
def test_impossible_numbers_are_refused(model: edx.Model, patients: int, findings: int) -> None:
    """No patients, no findings, or more findings than exist are errors."""
    with pytest.raises(ValueError, match="at least one|must be 1 to"):
        self_consistency(model, patients, findings)
