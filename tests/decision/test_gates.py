"""Safety gates on probabilities, and the risk of a test in one patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import epidural_dx as edx
from epidural_dx.decision.catalog import read_catalog
from epidural_dx.decision.ranking import rank_tests
from epidural_dx.decision.workup import Workup

LOW_PLATELETS = {"age_years": 14, "sex": "male", "platelets": "24 10^9/L"}
SAFE = {
    "age_years": 50,
    "sex": "male",
    "platelets": "normal",
    "inr": "normal",
    "fibrinogen": "normal",
    "anticoagulant_use": "absent",
    "known_bleeding_disorder": "absent",
}


def test_low_platelets_put_the_needle_off(model: edx.Model) -> None:
    """With platelets of 24 the needle waits for a transfusion, and the sentence says so."""
    ranked = {r.test: r for r in rank_tests(model, LOW_PLATELETS)}
    needle = ranked["ct_guided_biopsy"]
    assert needle.allowed == "until corrected"
    assert "platelets very low (100 %)" in needle.reason
    assert "platelet transfusion" in needle.reason
    catalog = read_catalog(model._priors)
    waited = needle.turnaround_hours - catalog.tests["ct_guided_biopsy"].turnaround_hours
    assert waited >= 4
    assert ranked["bone_marrow_biopsy"].allowed is True
    allowed = [r.allowed is True for r in rank_tests(model, LOW_PLATELETS)]
    assert allowed == sorted(allowed, reverse=True)


def test_normal_coagulation_opens_the_needle(model: edx.Model) -> None:
    """With platelets, INR and fibrinogen normal and no anticoagulant the needle is allowed."""
    needle = next(r for r in rank_tests(model, SAFE) if r.test == "ct_guided_biopsy")
    assert needle.allowed is True
    assert (
        needle.turnaround_hours
        == read_catalog(model._priors).tests["ct_guided_biopsy"].turnaround_hours
    )


def test_unknown_gate_names_the_test_that_opens_it(model: edx.Model) -> None:
    """Nothing known of the platelets: a blood count is named before the needle."""
    needle = next(r for r in rank_tests(model, {}) if r.test == "ct_guided_biopsy")
    assert "cbc" in needle.first
    assert "platelets very low" in needle.reason


def test_gate_probability_is_the_posterior(model: edx.Model) -> None:
    """A gate's probability is the posterior of its states."""
    workup = Workup(model, {"known_leukemia": "present"})
    answer = model.diagnose({"known_leukemia": "present"})
    for gate in workup.catalog.gates["ct_guided_biopsy"]:
        if gate.variable is None:
            continue
        variable = model.variables[gate.variable]
        expected = sum(
            answer.marginals[gate.variable][variable.states.index(s)] for s in gate.states
        )
        assert workup.gates.probability(gate) == pytest.approx(expected, abs=1e-9)


def test_expected_harm_averages_over_the_posterior(model: edx.Model) -> None:
    """The expected serious harm of a needle is the average over the joint of its multipliers."""
    evidence = {"known_leukemia": "present", "mucosal_bleeding": "present"}
    workup = Workup(model, evidence)
    multipliers = [
        g for g in workup.catalog.gates["ct_guided_biopsy"] if g.effect == "risk_multiplier"
    ]
    names = list(dict.fromkeys(g.variable for g in multipliers))
    read = model.read_evidence(evidence)
    joint = model.engine.joint(model.arrays(read), [model.position(n) for n in names])[0]
    expected = 0.0
    for index in np.ndindex(joint.shape):
        factor = 1.0
        for g in multipliers:
            state = model.variables[g.variable].states[index[names.index(g.variable)]]
            if state in g.states and "serious" in g.multiplies:
                factor *= g.factor
        expected += joint[index] * factor
    harms, loss = workup.gates.harms("ct_guided_biopsy")
    basic = workup.catalog.tests["ct_guided_biopsy"].harms
    assert harms["serious"] == pytest.approx(basic["serious"] * expected, rel=1e-9)
    assert harms["minor"] == pytest.approx(basic["minor"])
    weights = workup.catalog.weights.harm_loss
    assert loss == pytest.approx(sum(harms[h] * weights[h] for h in harms))


def test_bleeding_lesions_make_the_needle_riskier(model: edx.Model) -> None:
    """A lesion that is likely EMH raises the expected harm of the needle."""
    plain = Workup(model, SAFE).gates.harms("ct_guided_biopsy")[1]
    marrow = {**SAFE, "known_thalassemia": "present", "coarse_trabeculae": "present"}
    marrow |= {"paravertebral_mass": "bilateral_lobulated"}
    assert Workup(model, marrow).gates.harms("ct_guided_biopsy")[1] > plain


def test_anaesthesia_makes_a_childs_scan_riskier(model: edx.Model) -> None:
    """The expected harm of an MRI is greater in a child, whose anesthesia it includes."""
    child = Workup(model, {"age_years": 5}).gates.harms("mri_plain")[1]
    adult = Workup(model, {"age_years": 40}).gates.harms("mri_plain")[1]
    assert child > 2 * adult


def test_pregnancy_bars_scintigraphy(model: edx.Model) -> None:
    """A known pregnancy bars PET-CT and scintigraphy and leaves plain MRI open."""
    evidence = {"age_years": 30, "sex": "female", "pregnancy": "present"}
    ranked = {r.test: r for r in rank_tests(model, evidence)}
    assert ranked["pet_ct"].allowed is False
    assert ranked["marrow_scintigraphy"].allowed is False
    assert ranked["mri_plain"].allowed is True
    assert "pregnancy present (100 %)" in ranked["pet_ct"].reason


def test_stains_need_tissue(model: edx.Model) -> None:
    """Melanoma stains wait for marrow or tissue, and are allowed once it has been looked at."""
    before = {r.test: r for r in rank_tests(model, {})}["melanoma_ihc"]
    assert before.allowed is False
    assert "bone_marrow_biopsy" in before.first
    evidence = {"marrow_biopsy": "unclassified_cells"}
    after = {r.test: r for r in rank_tests(model, evidence)}["melanoma_ihc"]
    assert after.allowed is True


def test_every_test_and_gate_of_the_network_is_priced(model: edx.Model, priors: Path) -> None:
    """Each test of the network has price, time and harm, and every gate names known states."""
    catalog = read_catalog(priors)
    assert set(model.tests) <= set(catalog.tests)
    for gates in catalog.gates.values():
        for gate in gates:
            if gate.variable is not None:
                assert set(gate.states) <= set(model.variables[gate.variable].states), gate.name
