"""Information of panels against an independent library, and the laws of information."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import epidural_dx as edx
from epidural_dx.decision.elimination import EvidenceTables
from epidural_dx.decision.panels import (
    Outcomes,
    PanelCalculator,
    divergence,
    pair_information,
)
from epidural_dx.decision.ranking import WHEN, named_result, rank_tests

TARGET = ("etiology", "marrow_infiltration")
BLEEDING_BOY = {
    "age_group": "age_0_17",
    "sex": "male",
    "limb_weakness": "partial",
    "platelets": "very_low",
    "dic_isth_score": "at_least_5",
    "cytopenia_pattern": "pancytopenia",
    "cord_signal_change": "present",
}
DOUBTFUL = {
    "age_group": "age_60_plus",
    "fever": {"likelihood": {"absent": 0.3, "present": 0.8}},
    "vertebral_marrow": ["diffuse_low_t1", "edema"],
    "enhancement": {"not": "rim"},
    "known_cancer": "present",
}
EVIDENCES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "bleeding boy": BLEEDING_BOY,
    "doubtful": DOUBTFUL,
}


def calculator(
    model: edx.Model,
    evidence: dict[str, Any],
    target: tuple[str, ...],
    panels: list[tuple[str, ...]],
    **options: Any,
) -> tuple[PanelCalculator, list[tuple[int, ...]]]:
    """Build a calculator and the positions of its panels."""
    read = model.read_evidence(evidence)
    tables = EvidenceTables(model.plan.network, model.arrays(read))
    positions = [tuple(model.position(f) for f in p) for p in panels]
    goal = tables.open_variables([model.position(t) for t in target])
    return PanelCalculator(tables, goal, positions, **options), positions


def outcomes(
    model: edx.Model,
    evidence: dict[str, Any],
    target: tuple[str, ...],
    panel: tuple[str, ...],
    **options: Any,
) -> Outcomes:
    """Return the outcomes of one panel."""
    calculated, positions = calculator(model, evidence, target, [panel], **options)
    return calculated.outcomes(positions[0])


def brute_force(
    network: Any, model: edx.Model, evidence: dict[str, Any], panel: tuple[str, ...]
) -> float:
    """I(target; panel | evidence) from pyAgrum's posteriors, one outcome after another."""
    import pyagrum

    likelihoods = {
        name: list(weights) for name, weights in model.read_evidence(evidence).likelihoods.items()
    }
    likelihoods |= {name: [0.0, 1.0] for name in model.selection_evidence}
    engine = pyagrum.LazyPropagation(network)
    engine.addJointTarget(set(TARGET))
    engine.setEvidence(likelihoods)
    engine.makeInference()
    total = engine.evidenceProbability()
    prior = np.array(engine.jointPosterior(set(TARGET)).tolist()).reshape(-1)
    bits = 0.0
    for states in itertools.product(*(range(len(model.variables[f].states)) for f in panel)):
        seen = {
            f: [float(s == i) for i in range(len(model.variables[f].states))]
            for f, s in zip(panel, states, strict=True)
        }
        engine.setEvidence({**likelihoods, **seen})
        try:
            engine.makeInference()
        except pyagrum.IncompatibleEvidence:
            continue
        weight = engine.evidenceProbability() / total
        posterior = np.array(engine.jointPosterior(set(TARGET)).tolist()).reshape(-1)
        positive = posterior > 0
        ratio = posterior[positive] / prior[positive]
        bits += weight * float(posterior[positive] @ np.log2(ratio))
    return bits


@pytest.mark.slow
@pytest.mark.parametrize("name", EVIDENCES)
@pytest.mark.parametrize(
    "test", ["inflammatory_markers", "full_skin_examination", "pet_ct", "ct_guided_biopsy"]
)
def test_panel_information_is_that_of_an_independent_library(
    model: edx.Model, agrum_network: Any, name: str, test: str
) -> None:
    """Exact panel information equals that from pyAgrum's joint posteriors to 1e-9."""
    evidence = EVIDENCES[name]
    known = model.read_evidence(evidence).likelihoods
    panel = tuple(f for f in model.tests[test] if f not in known)
    expected = brute_force(agrum_network, model, evidence, panel)
    found = outcomes(model, evidence, TARGET, panel)
    assert found.method == "exact"
    assert found.standard_error == 0.0
    assert found.information == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "panel",
    [
        ("hemoglobin", "wbc"),  # parents of an observed finding
        ("pt_prolongation", "fibrinogen"),  # parents of an observed deterministic finding
        ("anticoagulant_use", "recent_trauma"),  # inner variables with a selection factor
        ("sensory_level", "sphincter_dysfunction"),
    ],
)
def test_findings_above_observed_ones_are_exact_too(
    model: edx.Model, agrum_network: Any, panel: tuple[str, ...]
) -> None:
    """A panel whose findings have observed children, or drive the lesion, is exact as well."""
    expected = brute_force(agrum_network, model, BLEEDING_BOY, panel)
    found = outcomes(model, BLEEDING_BOY, TARGET, panel)
    assert found.information == pytest.approx(expected, abs=1e-9)


def test_single_findings_agree_with_the_compiled_engine(model: edx.Model) -> None:
    """Panels of one finding have the information that the compiled engine reports."""
    read = model.read_evidence(BLEEDING_BOY)
    result = model.run(read, target=TARGET, want=("information",))
    assert result.information is not None
    for test, findings in model.tests.items():
        if len(findings) == 1 and findings[0] not in read.likelihoods:
            found = outcomes(model, BLEEDING_BOY, TARGET, findings)
            expected = result.information[0][model.position(findings[0])]
            assert found.information == pytest.approx(expected, abs=1e-9), test


@pytest.mark.parametrize("name", EVIDENCES)
def test_chain_rule_and_parts(model: edx.Model, name: str) -> None:
    """I(T; A, B) = I(T; A) + I(T; B | A), at least each part and at most the target's entropy."""
    evidence = EVIDENCES[name]
    a, b = ("crp", "esr"), ("ldh",)
    both = outcomes(model, evidence, TARGET, a + b)
    first = outcomes(model, evidence, TARGET, a)
    rest = 0.0
    shape = [len(model.variables[f].states) for f in a]
    for weight, states in zip(first.weights, np.ndindex(*shape), strict=True):
        seen = {f: model.variables[f].states[s] for f, s in zip(a, states, strict=True)}
        rest += weight * outcomes(model, {**evidence, **seen}, TARGET, b).information
    assert both.information == pytest.approx(first.information + rest, abs=1e-9)
    second = outcomes(model, evidence, TARGET, b)
    assert both.information >= max(first.information, second.information) - 1e-12
    prior = both.weights @ both.target
    entropy = -float(prior[prior > 0] @ np.log2(prior[prior > 0]))
    assert both.information <= entropy + 1e-9


@pytest.mark.parametrize("name", EVIDENCES)
def test_panels_asked_together_are_those_asked_alone(model: edx.Model, name: str) -> None:
    """What is summed out for all panels at once, or for all but the widest, changes no answer."""
    evidence = EVIDENCES[name]
    known = model.read_evidence(evidence).likelihoods
    panels = [tuple(f for f in findings if f not in known) for findings in model.tests.values()]
    panels.append(("transfusion_dependent", "splenectomy", "ldh"))  # reaches into the history
    together, positions = calculator(model, evidence, TARGET, [p for p in panels if p])
    for panel, at in zip([p for p in panels if p], positions, strict=True):
        if math.prod(len(model.variables[f].states) for f in panel) <= 400:
            alone = outcomes(model, evidence, TARGET, panel)
            found = together.outcomes(at)
            assert found.information == pytest.approx(alone.information, abs=1e-11)
            assert found.target == pytest.approx(alone.target, abs=1e-11)
            # the bits come from pieces of the table, the posteriors from the whole
            prior = found.weights @ found.target
            told = float(found.weights @ divergence(found.target, prior))
            assert found.information == pytest.approx(told, abs=1e-11)


def test_redundant_findings_score_below_their_sum(model: edx.Model) -> None:
    """CRP and ESR share one inflammation: together they tell less than the sum of the two."""
    crp = outcomes(model, {}, TARGET, ("crp",)).information
    esr = outcomes(model, {}, TARGET, ("esr",)).information
    both = outcomes(model, {}, TARGET, ("crp", "esr")).information
    assert max(crp, esr) < both < 0.95 * (crp + esr)


def test_a_coarser_target_is_told_less(model: edx.Model) -> None:
    """Data processing: a panel says no more about the cause than about the mechanism."""
    panel = model.tests["ct_spine"]
    cause = outcomes(model, BLEEDING_BOY, ("lesion_cause",), panel).information
    mechanism = outcomes(model, BLEEDING_BOY, ("etiology",), panel).information
    pair = outcomes(model, BLEEDING_BOY, TARGET, panel).information
    assert 0 <= cause <= mechanism + 1e-12 <= pair + 2e-12


def test_a_target_inside_the_panel_is_told_whole(model: edx.Model) -> None:
    """A panel that contains its target removes all of the target's entropy."""
    found = outcomes(model, {}, ("anticoagulant_use",), ("anticoagulant_use", "onset"))
    prior = found.weights @ found.target
    assert found.information == pytest.approx(-float(prior @ np.log2(prior)), abs=1e-12)


@pytest.mark.parametrize("name", EVIDENCES)
@pytest.mark.parametrize("test", ["ct_spine", "cbc", "coagulation_panel", "physical_examination"])
@pytest.mark.parametrize("limit", [1, 8])  # without and with an enumerated part
def test_sampling_agrees_with_enumeration(
    model: edx.Model, name: str, test: str, limit: int
) -> None:
    """Quasi-Monte Carlo lies within four of its standard errors of the exact information."""
    evidence = EVIDENCES[name]
    known = model.read_evidence(evidence).likelihoods
    panel = tuple(f for f in model.tests[test] if f not in known)
    exact = outcomes(model, evidence, TARGET, panel)
    sampled = outcomes(model, evidence, TARGET, panel, exact_outcomes=limit)
    assert exact.method == "exact"
    assert sampled.method == "quasi_monte_carlo"
    assert sampled.standard_error > 0
    assert abs(sampled.information - exact.information) <= 4 * sampled.standard_error


def test_samples_follow_the_posterior(model: edx.Model) -> None:
    """Sampled outcomes of a large panel have the posterior shares of every finding."""
    panel = model.tests["mri_contrast"]
    found = outcomes(model, DOUBTFUL, TARGET, tuple(f for f in panel if f not in DOUBTFUL))
    read = model.read_evidence(DOUBTFUL)
    marginals = model.run(read, want=("marginals",)).marginals
    assert marginals is not None
    for position, states in zip(found.findings, found.states, strict=True):
        share = np.bincount(states, minlength=marginals[position].shape[-1]) / len(states)
        assert share == pytest.approx(marginals[position][0], abs=0.05)


def test_sampled_posteriors_are_those_of_the_engine(model: edx.Model) -> None:
    """The posterior of each sampled outcome is what diagnosing that outcome gives."""
    panel = model.tests["history_review"]
    found = outcomes(model, BLEEDING_BOY, ("etiology",), panel)
    for row in (0, 17, 500):
        seen = {f: model.variables[f].states[found.states[i][row]] for i, f in enumerate(panel)}
        posterior = model.run(model.read_evidence({**BLEEDING_BOY, **seen})).posterior[0]
        assert found.target[row] == pytest.approx(posterior, abs=1e-9)


@given(st.integers(2, 5), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_pairs_never_exceed_the_whole(states: int, rows: int, seed: int) -> None:
    """What is told about one pair of states is between 0 and the whole information."""
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.full(states * rows, 0.5)).reshape(rows, states)
    weights = joint.sum(axis=1)
    posterior = joint / np.where(weights > 0, weights, 1.0)[:, None]
    prior = weights @ posterior
    logs = np.log2(np.where(posterior > 0, posterior / prior, 1.0))
    whole = float(weights @ (posterior * logs).sum(axis=1))
    pairs = pair_information(weights, posterior)
    assert (pairs >= 0).all()
    assert pairs.max() <= whole + 1e-9
    if states == 2:
        assert pairs[0, 1] == pytest.approx(whole, abs=1e-9)


def test_known_findings_are_not_bought_again(model: edx.Model) -> None:
    """Known findings leave the panel; a test with nothing open is not ranked."""
    evidence = {**BLEEDING_BOY, "crp": "marked", "esr": "raised", "smear": "blasts"}
    ranked = {r.test: r for r in rank_tests(model, evidence)}
    assert ranked["inflammatory_markers"].findings == ("procalcitonin",)
    assert "blood_smear" not in ranked
    expected = outcomes(model, evidence, TARGET, ("procalcitonin",)).information
    assert ranked["inflammatory_markers"].information_bits == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"target": "lesion_kause"}, "lesion_cause"),
        ({"target": ()}, "names no variable"),
        ({"target": ("etiology", "etiology")}, "twice"),
        ({"target": 3}, "the target must be a name"),
        (
            {"target": ("etiology", "blood_state", "hemostasis")},
            "joint states, and at most 5,000.*fewer variables",
        ),
        ({"by": "entropy"}, "information_per_cost"),
        ({"exclude": 7}, "exclude must be a name"),
        ({"max_hours": "soon"}, "max_hours must be a number"),
        ({"exclude": ("mri_plane",)}, "mri_plain"),
        ({"max_hours": -1.0}, "max_hours"),
    ],
)
def test_bad_questions_get_one_sentence(
    model: edx.Model, arguments: dict[str, Any], words: str
) -> None:
    """An unknown target, order or test and a negative time are refused by name."""
    with pytest.raises(edx.EvidenceError, match=words) as error:
        rank_tests(model, {}, **arguments)
    assert "\n" not in str(error.value)


def test_ranking_is_sorted_and_complete(model: edx.Model) -> None:
    """Every test with something open stands once; within its group the best comes first."""
    ranked = rank_tests(model, BLEEDING_BOY)
    assert {r.test for r in ranked} == set(model.tests)
    assert len(ranked) == len(model.tests)
    for when in WHEN:
        bits = [r.information_bits for r in ranked if r.when == when]
        assert bits == sorted(bits, reverse=True)
    assert all(r.information_bits >= 0 for r in ranked)
    for r in ranked:
        assert {"test", "information_bits", "cost_usd", "allowed", "reason"} <= set(r.as_row())
        assert r.as_dict()["findings"] == list(r.findings)


def test_containing_panel_tells_at_least_as_much(model: edx.Model) -> None:
    """Contrast MRI, which contains plain MRI, tells more (within the error of sampling)."""
    ranked = {r.test: r for r in rank_tests(model, BLEEDING_BOY)}
    plain, contrast = ranked["mri_plain"], ranked["mri_contrast"]
    assert plain.method == contrast.method == "quasi_monte_carlo"
    slack = 4 * (plain.standard_error + contrast.standard_error)
    assert contrast.information_bits >= plain.information_bits - slack


def test_limits_and_exclusions_hold(model: edx.Model) -> None:
    """Excluded tests and those whose result comes too late are left out."""
    ranked = rank_tests(model, {}, exclude=("cbc",), max_hours=2.0)
    assert ranked
    assert all(r.turnaround_hours <= 2.0 and r.test != "cbc" for r in ranked)


def test_likeliest_results_are_posteriors(model: edx.Model) -> None:
    """What a result of a test of one finding would do is what diagnosing with it says."""
    evidence = {"age_years": 60, "back_pain": "present"}
    ranked = {r.test: r for r in rank_tests(model, evidence, "lesion_cause")}
    for result in ranked["bone_marrow_biopsy"].results:
        answer = model.diagnose({**evidence, result.finding: result.state})
        assert result.finding == "marrow_biopsy"
        assert result.about == "lesion_cause"
        assert answer.causes.index[0] == result.leader
        assert answer.causes.iloc[0] == pytest.approx(result.leader_probability, abs=1e-9)
        assert result.before == pytest.approx(model.diagnose(evidence).causes[result.leader])
    assert ranked["bone_marrow_biopsy"].explanation.startswith("If it shows marrow biopsy: ")


def test_a_test_of_the_marrow_is_explained_by_the_marrow(model: edx.Model) -> None:
    """Where the cause is settled, results are told by what they say about the hidden driver."""
    evidence = {**BLEEDING_BOY, "lesion_surgical_pathology": "hematoma_or_fibrin"}
    marrow = next(r for r in rank_tests(model, evidence) if r.test == "bone_marrow_biopsy")
    assert marrow.marrow_bits > marrow.cause_bits
    assert "bits on the marrow" in marrow.reason
    for result in marrow.results:
        answer = model.diagnose({**evidence, result.finding: result.state})
        conditions = answer.conditions["marrow_infiltration"]
        assert result.about == "marrow_infiltration"
        assert conditions.idxmax() == result.leader
        assert conditions.max() == pytest.approx(result.leader_probability, abs=1e-9)
    # about the cause alone the marrow is not told of
    alone = next(
        r for r in rank_tests(model, evidence, "lesion_cause") if r.test == "bone_marrow_biopsy"
    )
    assert alone.marrow_bits == 0 and not alone.separates_marrow


def test_tests_that_cannot_be_done_at_once_stand_behind(model: edx.Model) -> None:
    """First what can be done now, then what another test must open, operations, and barred ones."""
    ranked = rank_tests(model, {"age_years": 30, "back_pain": "present"})
    places = [WHEN.index(r.when) for r in ranked]
    assert places == sorted(places)
    by = {r.test: r for r in ranked}
    assert by["surgical_pathology"].when == "operation"
    assert by["ct_guided_biopsy"].when == "after" and "cbc" in by["ct_guided_biopsy"].first
    assert by["melanoma_ihc"].when == "barred"
    assert ranked[0].when == "now"
    later = rank_tests(model, BLEEDING_BOY)
    assert {r.test: r.when for r in later}["ct_guided_biopsy"] == "until corrected"


def test_images_at_hand_are_looked_at_again_for_minutes(model: edx.Model) -> None:
    """Once a scan has been read, what is left of it costs minutes and no harm, another scan not."""
    before = {r.test: r for r in rank_tests(model, {"age_years": 8})}
    after = {r.test: r for r in rank_tests(model, {"age_years": 8, "t1_signal": "hyper"})}
    assert before["mri_plain"].cost_usd > 100 and before["mri_plain"].harm > 0
    assert after["mri_plain"].cost_usd < 10 and after["mri_plain"].harm == 0
    assert after["mri_plain"].turnaround_hours < 0.2
    assert "look again for" in after["mri_plain"].reason
    # images with contrast hold those without, and one line about both is enough
    contrast = {r.test: r for r in rank_tests(model, {"age_years": 8, "enhancement": "rim"})}
    assert "mri_plain" not in contrast and contrast["mri_contrast"].images_at_hand
    assert contrast["mri_contrast"].cost_usd < 10
    # a finding that other tests show too does not say that this one was done
    shared = {r.test: r for r in rank_tests(model, {"age_years": 8, "bone_destruction": "absent"})}
    for test in ("mri_contrast", "ct_spine", "cbc"):
        assert after[test].cost_usd == before[test].cost_usd
        assert shared[test].cost_usd == before[test].cost_usd


@pytest.mark.parametrize(
    ("finding", "state", "words"),
    [
        ("fever", "absent", "no fever"),
        ("fever", "present", "fever"),
        ("enhancement", "rim", "enhancement: rim"),
    ],
)
def test_results_are_named_as_people_say_them(finding: str, state: str, words: str) -> None:
    """Present and absent are not spelt out."""
    assert named_result(finding, state) == words


def test_unlikely_evidence_does_not_vanish(model: edx.Model) -> None:
    """A patient with the rarest result of a hundred findings still has exact information."""
    base = model.base_marginals
    evidence = {
        name: variable.states[int(base[name].argmin())]
        for name, variable in model.variables.items()
        if variable.group in ("symptom", "imaging", "examination", "laboratory")
        and name not in ("dic_isth_score", "ldh", "crp")
    }
    read = model.read_evidence(evidence)
    expected = model.run(read, target=("lesion_cause",), want=("information",))
    assert expected.information is not None
    for name in ("ldh", "crp"):
        found = outcomes(model, evidence, ("lesion_cause",), (name,)).information
        assert found == pytest.approx(expected.information[0][model.position(name)], abs=1e-9)


def test_impossible_evidence_is_refused(model: edx.Model) -> None:
    """A hemoglobinopathy that the blood disorder excludes cannot be ranked for."""
    evidence = {"blood_disorder": "aml", "hemoglobinopathy": "tdt", "age_years": 40}
    with pytest.raises(edx.ImpossibleEvidenceError, match="cannot occur together"):
        rank_tests(model, evidence)
