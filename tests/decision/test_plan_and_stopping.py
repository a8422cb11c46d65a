"""Two-step plans, the same-decision probability, and the stop rule."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

import epidural_dx as edx
from epidural_dx.analysis.simulation import draw_patients
from epidural_dx.decision.plan import Branch, Plan, PlanStep, plan_tests
from epidural_dx.decision.stopping import same_decision_probability
from epidural_dx.decision.value import Choice
from epidural_dx.decision.workup import Workup
from epidural_dx.errors import EvidenceError

BOY: dict[str, Any] = {
    "age_years": 14,
    "sex": "male",
    "platelets": "24 10^9/L",
    "fibrinogen": "0.9 g/L",
    "limb_weakness": "partial",
}


@pytest.fixture(scope="module")
def plan(model: edx.Model) -> Plan:
    """Plan for the boy with low platelets."""
    return plan_tests(model, BOY)


def branches_of(step: PlanStep) -> list[Branch]:
    """All branches of a tree."""
    found = list(step.branches)
    for branch in step.branches:
        if isinstance(branch.then, PlanStep):
            found += branches_of(branch.then)
    return found


def test_plan_is_a_tree_of_probable_results(plan: Plan, model: edx.Model) -> None:
    """Branch probabilities are shares, causes are shares, and every leaf is an action."""
    assert plan.first is not None
    assert set(plan.first.tests) <= set(model.tests)
    for step in (plan.first, *(b.then for b in branches_of(plan.first))):
        if isinstance(step, PlanStep):
            assert sum(b.probability for b in step.branches) <= 1 + 1e-9
            assert step.hours > 0 and step.price_usd > 0
        else:
            assert isinstance(step, Choice)
    for branch in branches_of(plan.first):
        assert 0 < branch.probability <= 1
        assert sum(p for _, p in branch.causes) <= 1 + 1e-9


def test_second_step_never_takes_away(plan: Plan, model: edx.Model) -> None:
    """A first test followed by the best second one is worth at least the first alone."""
    for test, one, two in plan.considered:
        count = np.prod([len(model.variables[f].states) for f in model.tests[test]])
        # results of large panels are a smaller sample in the lookahead
        assert two >= one - (1e-9 if count <= 32 else 0.05), test


def test_plan_orders_what_fits_into_the_wait(plan: Plan, model: edx.Model) -> None:
    """Companions of the first test are allowed now and delay nothing."""
    assert plan.first is not None
    workup = Workup(model, BOY)
    first, *others = plan.first.tests
    for other in others:
        admission = workup.gates.judge(other)
        assert admission.allowed is True
        assert workup.hours(other, admission) <= plan.first.hours


def test_plan_keeps_the_needle_out_while_it_is_put_off(plan: Plan) -> None:
    """With platelets of 24 neither needle nor operation accompanies the first order."""
    assert plan.first is not None
    assert not {"ct_guided_biopsy", "surgical_pathology"} & set(plan.first.tests)


def test_plan_reads_as_text_and_json(plan: Plan) -> None:
    """The plan prints as a tree and is plain data."""
    text = plan.as_text()
    assert str(plan) == text
    assert not re.search(r"0\.\d+ h", text)
    assert text.startswith("Acting now: ")
    assert "Order now: " in text
    assert json.loads(json.dumps(plan.as_dict()))["plan"]["order"] == list(plan.first.tests)


def test_stop_rule_keeps_to_the_time_that_is_left(model: edx.Model) -> None:
    """A test whose result would come too late is no reason to go on."""
    known = {"age_years": 60, "sex": "male", "back_pain": "present", "known_cancer": "present"}
    free = same_decision_probability(model, known)
    soon = same_decision_probability(model, known, max_hours=0.5)
    assert set(soon.tests) < set(free.tests) and "mri_contrast" not in soon.tests
    assert soon.best_test in soon.tests
    with pytest.raises(EvidenceError, match="max_hours"):
        same_decision_probability(model, known, max_hours=-1)


def test_only_ratios_of_likelihoods_count(model: edx.Model) -> None:
    """Weights of any size rank and stop as the same ratios between 0 and 1 do."""

    def known(size: float) -> dict[str, Any]:
        weights = {"absent": 0.3 * size, "present": 0.7 * size}
        return {n: {"likelihood": weights} for n in ("antibiotic_use", "recent_steroids")}

    small, large = (same_decision_probability(model, known(s)) for s in (1.0, 1e160))
    assert large.best_value == pytest.approx(small.best_value, abs=1e-9)
    assert large.expected_regret == pytest.approx(small.expected_regret, abs=1e-9)


def test_no_plan_gains_more_than_knowing_everything(model: edx.Model) -> None:
    """Few samples must not promise what perfect information could not give."""
    known = {"age_years": 67, "known_myeloma": "present", "marrow_biopsy": "plasma_cells"}
    most = same_decision_probability(model, known).perfect_information
    plan = plan_tests(model, known)
    gains = [two for _, _, two in plan.considered]
    assert all(gain <= most + 1e-12 for gain in gains)
    assert plan.first is None or plan.first.gain <= most + 1e-12


def test_plan_looks_again_at_images_at_hand(model: edx.Model) -> None:
    """An order for a scan that has been done says so, in words and in the document."""
    others = [t for t in model.tests if t != "mri_plain"]
    known = {"age_years": 50, "t1_signal": "hyper", "craniocaudal_extent": "over_2_levels"}
    step = plan_tests(model, known, by="information", exclude=others).first
    assert step is not None and step.tests == ("mri_plain",)
    assert step.words == "mri plain (look again)"
    assert step.as_dict()["images_at_hand"] == ["mri_plain"]
    new = plan_tests(model, {"age_years": 50}, by="information", exclude=others).first
    assert new is not None and new.words == "mri plain" and new.images_at_hand == ()


def test_plan_respects_limits(model: edx.Model) -> None:
    """No result of the plan comes later than the limit, and excluded tests do not occur."""
    limited = plan_tests(model, BOY, max_hours=3.0, exclude=("history_review",))
    assert limited.first is not None
    steps = [limited.first]
    steps += [b.then for b in branches_of(limited.first) if isinstance(b.then, PlanStep)]
    assert all(s.hours <= 3.0 and "history_review" not in s.tests for s in steps)


def test_plan_for_information_tells_more_with_two_steps(model: edx.Model) -> None:
    """A plan for information starts with a test that tells something about the diagnosis."""
    found = plan_tests(model, BOY, by="information", max_hours=6.0)
    assert found.first is not None
    assert found.first.gain > 0
    assert all(two >= one - 0.1 for _, one, two in found.considered)


def test_plan_is_the_same_every_time(plan: Plan, model: edx.Model) -> None:
    """Sampling is seeded: the same question gives the same plan."""
    assert plan_tests(model, BOY).as_dict() == plan.as_dict()


def test_second_results_are_exact(model: edx.Model) -> None:
    """P(state, finding | first result) equals that of the engine for every first result."""
    workup = Workup(model, BOY)
    calculator = workup.problem.calculator
    first = workup.positions["bone_marrow_biopsy"]
    outcomes = calculator.outcomes(first)
    (smear,) = workup.positions["blood_smear"]
    joint = calculator.given(dict(zip(first, outcomes.states, strict=True)), (smear,))
    for row, state in enumerate(outcomes.states[0]):
        name = model.variables["marrow_biopsy"].states[state]
        read = model.read_evidence({**BOY, "marrow_biopsy": name})
        target = [model.position(v) for v in ("lesion_cause", "marrow_infiltration")]
        expected = model.engine.joint(model.arrays(read), [*target, smear])[0]
        assert joint[row] == pytest.approx(expected.reshape(joint.shape[1:]), abs=1e-9)


def test_findings_of_the_state_itself_are_handled(model: edx.Model) -> None:
    """A second test that shows limb weakness, part of the decision state, is exact as well."""
    workup = Workup(model, {"age_years": 50})
    calculator = workup.problem.calculator
    weakness = model.position("limb_weakness")
    smear = model.position("smear")
    states = np.array([0, 3])
    joint = calculator.given({smear: states}, (weakness,))
    shape = tuple(calculator.sizes[v] for v in calculator.target)
    cube = joint.reshape(2, *shape, calculator.sizes[weakness])
    axis = 1 + calculator.target.index(weakness)
    seen = np.moveaxis(cube, axis, -2).reshape(-1, shape[axis - 1], shape[axis - 1]).sum(axis=0)
    assert seen == pytest.approx(np.diag(np.diag(seen)))
    for row, state in enumerate(states):
        name = model.variables["smear"].states[state]
        expected = model.diagnose({"age_years": 50, "smear": name}).marginals["limb_weakness"]
        assert joint[row].sum(axis=0) == pytest.approx(expected, abs=1e-9)


def test_same_decision_probability_equals_enumeration(model: edx.Model) -> None:
    """The chance that the leading cause stays equals a loop over the results of a test."""
    evidence = {"age_years": 50, "fever": "present"}
    found = same_decision_probability(model, evidence, ["inflammatory_markers"], decision="cause")
    now = model.diagnose(evidence)
    lead = now.causes.index[0]
    assert found.decision == (lead,)
    total = 0.0
    variables = [model.variables[f] for f in model.tests["inflammatory_markers"]]
    for index in np.ndindex(*(len(v.states) for v in variables)):
        seen = {v.name: v.states[i] for v, i in zip(variables, index, strict=True)}
        answer = model.diagnose({**evidence, **seen})
        if answer.causes.index[0] == lead:
            total += np.exp(answer.log_evidence - now.log_evidence)
    assert found.same_decision_probability == pytest.approx(total, abs=1e-9)
    assert found.standard_error == 0.0


def test_regret_is_the_value_of_the_unseen_tests(model: edx.Model) -> None:
    """Expected regret is the EVSI of the tests together: at least that of each, at most EVPI."""
    evidence = {"age_years": 50, "fever": "present"}
    tests = ["inflammatory_markers", "blood_culture"]
    both = same_decision_probability(model, evidence, tests)
    for test in tests:
        one = same_decision_probability(model, evidence, [test])
        workup = Workup(model, evidence)
        worth = workup.problem.sample_information(workup.positions[test])
        assert one.expected_regret == pytest.approx(worth, abs=1e-9)
        assert one.expected_regret <= both.expected_regret + 1e-9
    assert both.expected_regret <= both.perfect_information + 1e-9
    assert 0 <= both.same_decision_probability <= 1


def test_stop_rule_follows_the_best_net_value(model: edx.Model) -> None:
    """Testing goes on while an allowed test has a positive net value, and stops otherwise."""
    found = same_decision_probability(model, BOY)
    assert found.best_value is not None
    least = Workup(model, {}).catalog.weights.least_gain
    assert found.stop is (found.best_value <= least)
    assert found.sentence.startswith("Stop" if found.stop else "Go on")
    assert json.loads(json.dumps(found.as_dict()))["sentence"] == found.sentence


def test_stop_when_the_answer_is_in_hand(model: edx.Model) -> None:
    """With pus in the biopsy and in the culture little could change, and testing stops."""
    evidence = {
        "age_years": 60,
        "fever": "present",
        "limb_weakness": "complete",
        "lesion_surgical_pathology": "pus_or_organism",
        "lesion_culture": "pyogenic",
        "blood_culture": "positive",
        "enhancement": "rim",
        "dwi_restriction": "present",
        "crp": "marked",
        "marrow_biopsy": "normal",
    }
    found = same_decision_probability(model, evidence)
    assert found.stop
    assert found.sentence.startswith("Stop")
    assert found.same_decision_probability > 0.9
    assert plan_tests(model, evidence).first is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: plan_tests(m, {}, by="entropy"), "information"),
        (lambda m: plan_tests(m, {}, max_hours=float("nan")), "max_hours"),
        (lambda m: same_decision_probability(m, {}, ["mri"]), "unknown test 'mri'"),
        (lambda m: same_decision_probability(m, {}, decision="fate"), "fate"),
        (
            lambda m: same_decision_probability(m, {"smear": "blasts"}, ["blood_smear"]),
            "nothing left to reveal",
        ),
    ],
)
def test_bad_questions_are_refused(model: edx.Model, call: Any, words: str) -> None:
    """Unknown aims, tests and decisions, and impossible times, get one sentence."""
    with pytest.raises(edx.EvidenceError, match=words) as error:
        call(model)
    assert "\n" not in str(error.value)


def test_nothing_left_to_plan(model: edx.Model) -> None:
    """With every finding of every test known there is nothing to plan, and that is said."""
    with pytest.raises(edx.EvidenceError, match="nothing left to plan"):
        plan_tests(model, {}, exclude=tuple(model.tests))


def test_a_patient_with_everything_known_has_no_plan(model: edx.Model) -> None:
    """Once every test has shown everything, ranking is empty, planning refuses, and one acts."""
    drawn = draw_patients(model, 1, seed=3)
    findings = {f for fs in model.tests.values() for f in fs}
    evidence = {f: model.variables[f].states[int(drawn[f][0])] for f in sorted(findings)}
    with pytest.raises(edx.EvidenceError, match="nothing left to plan.*known"):
        model.plan_tests(evidence)
    assert len(model.rank_tests(evidence)) == 0
    stopping = model.same_decision_probability(evidence)
    assert stopping.stop and stopping.best_test is None
    assert stopping.sentence.startswith("Stop: no test is left")


def test_two_steps_equal_plain_enumeration(model: edx.Model) -> None:
    """The gain of a marrow biopsy followed by a smear equals a loop over results and actions."""
    first, second = "bone_marrow_biopsy", "blood_smear"
    found = plan_tests(model, BOY, exclude=[t for t in model.tests if t not in (first, second)])
    two = {t: gain for t, _, gain in found.considered}[first]
    workup = Workup(model, BOY)
    problem, catalog = workup.problem, workup.catalog
    u = problem.utilities
    assert u is not None
    weak = u.weakness.index("partial")
    names = ("lesion_cause", "marrow_infiltration", "marrow_biopsy", "smear")
    read = model.read_evidence(BOY)
    joint = model.engine.joint(model.arrays(read), [model.position(n) for n in names])[0]
    h1 = workup.hours(first, workup.gates.judge(first))
    h2 = h1 + workup.hours(second, workup.gates.judge(second))
    harm = (u.extra_harm + problem.harm[:, None]).T
    kinds = {}
    for name, at, sums, harms, actions in (
        ("lesion", lambda h: u.lesion(h)[:, :, weak].T - harm, 1, harm, u.actions),
        (
            "marrow",
            lambda h: u.marrow_value(h).T - u.marrow_harm,
            0,
            np.broadcast_to(u.marrow_harm, u.marrow_value().T.shape),
            u.marrow_actions,
        ),
    ):
        part = joint.sum(axis=sums)  # states x first result x second result
        start, middle, end = (np.einsum("sfg,sa->fga", part, at(h)) for h in (0.0, h1, h2))
        loss = np.einsum("sfg,sa->fga", part, harms)
        bridges = [i for i, a in enumerate(actions) if a.bridge]
        stop, go = {}, {}
        for a in (None, *bridges):
            stopped = middle.sum(axis=1).max(axis=1)
            gone = end.max(axis=2).sum(axis=1)
            if a is None:
                for b in bridges:
                    kept = np.maximum(middle[:, :, b], end.max(axis=2) - loss[:, :, b])
                    gone = np.maximum(gone, kept.sum(axis=1))
            else:
                stopped = np.maximum(
                    start[:, :, a].sum(axis=1), stopped - loss[:, :, a].sum(axis=1)
                )
                kept = np.maximum(start[:, :, a], end.max(axis=2) - loss[:, :, a])
                gone = kept.sum(axis=1)
            stop[a], go[a] = stopped, gone
        kinds[name] = (stop, go)
    price = catalog.weights.usd_per_utility
    cost = {
        t: workup.gates.judge(t).loss + catalog.tests[t].price_usd / price for t in (first, second)
    }
    shares = joint.sum(axis=(0, 1, 3))
    (stop_lesion, go_lesion), (stop_marrow, go_marrow) = kinds["lesion"], kinds["marrow"]
    best = max(
        float(
            np.maximum(
                stop_lesion[a] + stop_marrow[b],
                go_lesion[a] + go_marrow[b] - cost[second] * shares,
            ).sum()
        )
        for a in stop_lesion
        for b in stop_marrow
    )
    assert two == pytest.approx(best - cost[first] - problem.act_now, abs=1e-9)


def test_no_second_test_is_ordered_at_a_loss(plan: Plan) -> None:
    """A second test stands in the plan only where it gains something over acting."""
    assert plan.first is not None
    for branch in plan.first.branches:
        if isinstance(branch.then, PlanStep):
            assert branch.then.gain > 0


def test_gates_nobody_looked_up_keep_the_needle_out(model: edx.Model) -> None:
    """With platelets unknown a plan never sticks a needle before the count has been seen."""
    for by in ("value", "information"):
        found = plan_tests(model, {"known_leukemia": "present"}, by=by)
        assert found.first is not None
        assert "ct_guided_biopsy" not in found.first.tests
        for branch in branches_of(found.first):
            if isinstance(branch.then, PlanStep) and "ct_guided_biopsy" in branch.then.tests:
                assert {"cbc", "coagulation_panel"} & set(found.first.tests)
