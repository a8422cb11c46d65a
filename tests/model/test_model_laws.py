"""The laws of probability on the packaged model, for random patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_patients import findings, observable

import epidural_dx as edx

MODEL = edx.load_model()
PATIENTS = findings(MODEL)
CLOSE = {"abs": 1e-10, "rel": 1e-9}


def same(first: edx.Answer, second: edx.Answer) -> bool:
    """Say whether two answers agree on every marginal."""
    return all(
        np.allclose(first.marginals[n], second.marginals[n], rtol=1e-9, atol=1e-10)
        for n in MODEL.variables
    )


@given(PATIENTS)
def test_every_posterior_is_a_distribution(patient: dict[str, Any]) -> None:
    """For any patient all variables have probabilities in 0..1 that sum to 1, causes sorted."""
    answer = MODEL.diagnose(patient)
    for name, marginal in answer.marginals.items():
        assert marginal.sum() == pytest.approx(1.0, abs=1e-9), name
        assert marginal.min() >= 0, name
        assert marginal.max() <= 1 + 1e-12, name
    assert answer.causes.sum() == pytest.approx(1.0)
    assert answer.etiology.sum() == pytest.approx(1.0)
    assert answer.causes.is_monotonic_decreasing
    assert answer.etiology.is_monotonic_decreasing


@given(PATIENTS)
def test_causes_are_the_sums_of_their_mechanisms(patient: dict[str, Any]) -> None:
    """P(cause) is the sum over the mechanisms of that cause."""
    answer = MODEL.diagnose(patient)
    for cause in MODEL.causes:
        mechanisms = [m.name for m in MODEL.mechanisms if m.cause == cause]
        assert answer.causes[cause] == pytest.approx(answer.etiology[mechanisms].sum(), **CLOSE)


@given(PATIENTS, st.randoms(use_true_random=False))
def test_the_order_of_findings_does_not_matter(patient: dict[str, Any], random: Any) -> None:
    """Findings told in another order give the same answer."""
    items = list(patient.items())
    random.shuffle(items)
    assert same(MODEL.diagnose(patient), MODEL.diagnose(dict(items)))


@given(PATIENTS)
def test_a_state_is_a_likelihood_of_one_and_zeros(patient: dict[str, Any]) -> None:
    """Hard findings, lists of one and one-hot likelihoods are the same evidence."""
    as_list = {n: [v] if isinstance(v, str) else v for n, v in patient.items()}
    as_weights = {
        n: {"likelihood": {s: float(s == v) for s in MODEL.variables[n].states}}
        if isinstance(v, str)
        else v
        for n, v in patient.items()
    }
    answer = MODEL.diagnose(patient)
    assert same(answer, MODEL.diagnose(as_list))
    assert same(answer, MODEL.diagnose(as_weights))


@given(PATIENTS, st.sampled_from(observable(MODEL)))
def test_one_of_all_states_says_nothing(patient: dict[str, Any], name: str) -> None:
    """The disjunction of every state, and a flat likelihood, leave the answer as it was."""
    rest = {n: v for n, v in patient.items() if n != name}
    states = list(MODEL.variables[name].states)
    answer = MODEL.diagnose(rest)
    assert same(answer, MODEL.diagnose({**rest, name: states}))
    flat = {"likelihood": dict.fromkeys(states, 0.3)}
    assert same(answer, MODEL.diagnose({**rest, name: flat}))


@given(PATIENTS, st.data())
def test_not_a_state_is_one_of_the_others(patient: dict[str, Any], data: st.DataObject) -> None:
    """A negation is the disjunction of the remaining states."""
    name = data.draw(st.sampled_from(observable(MODEL)))
    states = list(MODEL.variables[name].states)
    out = data.draw(st.sampled_from(states))
    others = [s for s in states if s != out]
    denied = MODEL.diagnose({**patient, name: {"not": out}})
    assert same(denied, MODEL.diagnose({**patient, name: others}))
    assert denied.marginals[name][states.index(out)] == 0


@given(PATIENTS, st.floats(1e-6, 1e6))
def test_the_scale_of_a_likelihood_does_not_matter(patient: dict[str, Any], scale: float) -> None:
    """Likelihoods are ratios: a common factor changes nothing."""
    scaled = {
        n: {"likelihood": {s: w * scale for s, w in v["likelihood"].items()}}
        if isinstance(v, dict) and "likelihood" in v
        else v
        for n, v in patient.items()
    }
    assert same(MODEL.diagnose(patient), MODEL.diagnose(scaled))


@given(PATIENTS, st.sampled_from(observable(MODEL)))
def test_the_posterior_is_the_mean_of_what_a_finding_would_make_of_it(
    patient: dict[str, Any], name: str
) -> None:
    """P(cause) is the expectation of P(cause | finding) over the finding (total probability)."""
    rest = {n: v for n, v in patient.items() if n != name}
    before = MODEL.diagnose(rest)
    mean = np.zeros(len(MODEL.causes))
    for state, weight in zip(MODEL.variables[name].states, before.marginals[name], strict=True):
        if weight > 1e-14:
            mean += weight * MODEL.diagnose({**rest, name: state}).marginals["lesion_cause"]
    assert mean == pytest.approx(before.marginals["lesion_cause"], abs=1e-9)


@given(PATIENTS, st.sampled_from(observable(MODEL)), st.data())
def test_bayes_theorem_holds_finding_by_finding(
    patient: dict[str, Any], name: str, data: st.DataObject
) -> None:
    """P(e, f) = P(e) P(f | e): the log evidence grows by the log of the finding's posterior."""
    rest = {n: v for n, v in patient.items() if n != name}
    states = MODEL.variables[name].states
    state = data.draw(st.sampled_from(states))
    before = MODEL.diagnose(rest)
    after = MODEL.diagnose({**rest, name: state})
    told = float(np.log(before.marginals[name][states.index(state)]))
    assert after.log_evidence - before.log_evidence == pytest.approx(told, abs=1e-8)


def test_without_evidence_the_evidence_is_certain() -> None:
    """Log evidence is log P(evidence | a lesion exists): 0 for nobody knows what."""
    assert MODEL.diagnose({}).log_evidence == pytest.approx(0.0, abs=1e-9)


def test_no_conflict_is_claimed_where_there_is_none() -> None:
    """One finding cannot contradict itself: no conflict warning on none or a common one."""
    for patient in ({}, {"back_pain": "present"}):
        codes = [w.code for w in MODEL.diagnose(patient).warnings]
        assert "conflict" not in codes, patient


def test_an_observed_state_is_certain_afterwards() -> None:
    """The posterior of what was observed is what was observed."""
    for name in observable(MODEL):
        state = MODEL.variables[name].states[-1]
        marginal = MODEL.diagnose({name: state}).marginals[name]
        assert marginal[-1] == pytest.approx(1.0), name


@given(PATIENTS)
def test_the_main_job_agrees_with_the_answer(patient: dict[str, Any]) -> None:
    """`query` gives the same posteriors as `diagnose`; information is never negative."""
    result = MODEL.query(patient)
    answer = MODEL.diagnose(patient)
    assert result.etiology == pytest.approx(answer.marginals["etiology"], **CLOSE)
    assert result.lesion_cause == pytest.approx(answer.marginals["lesion_cause"], **CLOSE)
    assert result.information.min() >= -1e-12
    entropy = -float(sum(p * np.log2(p) for p in result.lesion_cause if p > 0))
    assert result.information.max() <= entropy + 1e-9


@pytest.mark.parametrize("age", MODEL.variables["age_group"].states)
@pytest.mark.parametrize(
    ("infiltration", "disease"),
    [
        ("melanoma", "melanoma_stage"),
        ("leukemia", "blood_disorder"),
        ("lymphoma", "blood_disorder"),
        ("carcinoma", "solid_tumor"),
    ],
)
def test_a_tumor_in_the_marrow_is_the_patients_tumor(
    age: str, infiltration: str, disease: str
) -> None:
    """The trace that stands for "never" is no second source of the rarest diseases.

    A marrow that holds melanoma belongs to a patient with melanoma, at every age; a floor of the
    order of the disease's own prevalence would cut the marrow from the skin.
    """
    answer = MODEL.diagnose({"age_group": age, "marrow_infiltration": infiltration})
    assert answer.marginals[disease][0] < 0.01


# ---------------------------------------------------------------- monotone


@pytest.mark.parametrize(
    ("start", "more", "variable", "state"),
    [
        ({"platelets": "very_low"}, {"d_dimer": "strongly_raised"}, "hemostasis", "dic"),
        (
            {"platelets": "very_low", "d_dimer": "strongly_raised"},
            {"fibrinogen": "low"},
            "hemostasis",
            "dic",
        ),
        (
            {"platelets": "very_low", "d_dimer": "strongly_raised", "fibrinogen": "low"},
            {"pt_prolongation": "from_3_to_6s"},
            "hemostasis",
            "dic",
        ),
        ({}, {"known_thalassemia": "present"}, "lesion_cause", "emh"),
        (
            {"known_thalassemia": "present"},
            {"paravertebral_mass": "bilateral_lobulated"},
            "lesion_cause",
            "emh",
        ),
        ({}, {"known_myeloma": "present"}, "lesion_cause", "myeloma"),
        ({}, {"known_leukemia": "present"}, "lesion_cause", "leukemia"),
        ({}, {"known_melanoma": "present"}, "lesion_cause", "metastasis_melanoma"),
        ({}, {"fever": "present"}, "lesion_cause", "abscess"),
        ({"fever": "present"}, {"crp": "marked"}, "lesion_cause", "abscess"),
        ({"fever": "present", "crp": "marked"}, {"enhancement": "rim"}, "lesion_cause", "abscess"),
        ({}, {"blood_culture": "positive"}, "lesion_cause", "abscess"),
        ({}, {"anticoagulant_use": "present"}, "etiology", "hematoma_anticoagulant"),
        ({}, {"onset": "sudden"}, "lesion_cause", "hematoma"),
        ({"onset": "sudden"}, {"t1_signal": "hyper"}, "lesion_cause", "hematoma"),
        ({}, {"m_protein": "present"}, "lesion_cause", "myeloma"),
        ({}, {"fat_suppression_loss": "present"}, "lesion_cause", "lipomatosis"),
        ({}, {"pigmented_skin_lesion": "present"}, "melanoma", "present"),
        (
            {"marrow_biopsy": "unclassified_cells"},
            {"melanoma_ihc": "positive"},
            "marrow_infiltration",
            "melanoma",
        ),
        ({}, {"lesion_biopsy": "granuloma"}, "lesion_cause", "tuberculosis"),
        ({}, {"tb_exposure": "present"}, "lesion_cause", "tuberculosis"),
    ],
)
def test_evidence_of_one_kind_moves_where_it_must(
    start: dict[str, str], more: dict[str, str], variable: str, state: str
) -> None:
    """One more finding that speaks for a state raises its probability."""
    at = MODEL.variables[variable].states.index(state)
    before = MODEL.diagnose(start).marginals[variable][at]
    after = MODEL.diagnose({**start, **more}).marginals[variable][at]
    assert after > before


@pytest.mark.parametrize("start", [{}, {"fever": "present"}, {"known_thalassemia": "present"}])
def test_rim_enhancement_speaks_for_abscess_against_hematopoiesis(start: dict[str, str]) -> None:
    """Whatever else is known, a rim raises the odds of abscess against EMH."""
    before = MODEL.diagnose(start).causes
    after = MODEL.diagnose({**start, "enhancement": "rim"}).causes
    assert after["abscess"] / after["emh"] > before["abscess"] / before["emh"]


def test_denying_is_the_opposite_of_affirming() -> None:
    """What raises a cause when present lowers it when absent."""
    for name, cause in (
        ("fever", "abscess"),
        ("known_thalassemia", "emh"),
        ("m_protein", "myeloma"),
        ("flow_voids", "vascular_malformation"),
    ):
        middle = MODEL.diagnose({}).causes[cause]
        assert MODEL.diagnose({name: "absent"}).causes[cause] < middle, name
        assert MODEL.diagnose({name: "present"}).causes[cause] > middle, name
