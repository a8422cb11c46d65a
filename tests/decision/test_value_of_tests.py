"""Utilities, the value of information, and its laws."""

from __future__ import annotations

import copy
import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import epidural_dx as edx
from epidural_dx.analysis.simulation import draw_patients
from epidural_dx.decision.catalog import read_catalog
from epidural_dx.decision.ranking import rank_tests
from epidural_dx.decision.utilities import ENDS, Utilities, read_utilities
from epidural_dx.decision.value import DECISION_VARIABLES
from epidural_dx.decision.workup import Workup, check_decision_files
from epidural_dx.inference.information import entropy
from epidural_dx.literature.base import LiteratureBase

EVIDENCES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "bleeding boy": {
        "age_group": "age_0_17",
        "sex": "male",
        "platelets": "very_low",
        "fibrinogen": "very_low",
        "limb_weakness": "partial",
    },
    "feverish": {"fever": "present", "crp": "marked", "iv_drug_use": "present"},
}
SMALL_PANELS = ["bone_marrow_biopsy", "ct_guided_biopsy", "inflammatory_markers", "blood_smear"]


def utilities_of(model: edx.Model, end: str = "value") -> Utilities:
    """Read the packaged utilities."""
    states = [model.variables[v].states for v in DECISION_VARIABLES]
    return read_utilities(model._priors, states[0], states[1], states[2], end)


def test_every_figure_is_a_probability_and_ranges_hold(model: edx.Model) -> None:
    """All outcomes lie between 0 and 1, and low and high ends enclose the values."""
    low, value, high = (utilities_of(model, end) for end in ("low", "value", "high"))
    for name in (
        "effect",
        "good_treated",
        "good_untreated",
        "lost_per_day",
        "utility_good",
        "utility_bad",
        "death_treated",
        "death_untreated",
        "death_per_day",
        "marrow_gain",
        "marrow_lost",
    ):
        below, middle, above = (getattr(u, name) for u in (low, value, high))
        assert (below >= 0).all() and (above <= 1).all(), name
        assert (below <= middle).all() and (middle <= above).all(), name
    assert set(ENDS) == {"low", "value", "high"}


def test_utility_follows_its_formula(model: edx.Model) -> None:
    """The arrays equal the formula of the docstring, written out for single cells."""
    u = utilities_of(model)
    table = u.lesion(48.0, 12.0)
    names = [a.name for a in u.actions]
    for action, cause, w in itertools.product(
        ("steroids_radiotherapy", "conservative"), ("abscess", "myeloma"), (0, 1, 2)
    ):
        a, c = names.index(action), u.causes.index(cause)
        good_treated = u.good_treated[c, w] * (1 - u.lost_per_day[c, w]) ** 2
        benefit = max(0.0, good_treated - u.good_untreated[c, w])
        good = u.good_untreated[c, w] + u.effect[a, c] * benefit
        treated = u.death_treated[c] + 2 * u.death_per_day[c]
        death = u.death_untreated[c] - u.effect[a, c] * max(0.0, u.death_untreated[c] - treated)
        expected = (1 - death) * (good * u.utility_good[c] + (1 - good) * u.utility_bad[c])
        assert table[a, c, w] == pytest.approx(expected, abs=1e-12)


def test_hematoma_follows_hours_since_onset(model: edx.Model) -> None:
    """The recovery of a hematoma is read off its curve, constant beyond both ends."""
    u = utilities_of(model)
    c, w = u.causes.index("hematoma"), u.weakness.index("partial")
    hours, good = u.curve_hours[c], u.curve_good[c][w]
    assert u.good(0.0, float(hours[0]))[c, w] == pytest.approx(good[0])
    assert u.good(float(hours[1] - hours[0]), float(hours[0]))[c, w] == pytest.approx(good[1])
    middle = (hours[1] + hours[2]) / 2
    assert u.good(0.0, float(middle))[c, w] == pytest.approx((good[1] + good[2]) / 2)
    assert u.good(1000.0, 1000.0)[c, w] == pytest.approx(good[-1])


def test_waiting_never_helps(model: edx.Model) -> None:
    """Every action is worth less, or the same, when it comes later."""
    u = utilities_of(model)
    for early, late in ((0.0, 6.0), (6.0, 48.0), (48.0, 500.0)):
        assert (u.lesion(late) <= u.lesion(early) + 1e-12).all()
        assert (u.marrow_value(late) <= u.marrow_value(early) + 1e-12).all()
    assert (u.loss_per_hour() >= 0).all()


def test_sources_of_utilities_exist(priors: Path, literature: LiteratureBase) -> None:
    """Every block of utilities names sources, and each is a row or source of the literature."""
    document = yaml.safe_load((priors / "utilities.yaml").read_text(encoding="utf-8"))
    rows = {figure.id for figure in literature.figures}
    sources = set(literature.sources)
    for section in ("outcomes", "actions", "marrow_actions", "weights"):
        for name, block in document[section].items():
            assert block["sources"], name
            assert block["why"], name
            for source in block["sources"]:
                assert source in rows or source in sources, (name, source)


@pytest.mark.parametrize("name", EVIDENCES)
def test_sample_information_is_between_nothing_and_everything(model: edx.Model, name: str) -> None:
    """0 <= EVSI <= EVPI, and the net value of a test never exceeds its EVSI."""
    workup = Workup(model, EVIDENCES[name])
    ceiling = workup.problem.perfect_information
    assert ceiling > 0
    for test, panel in workup.positions.items():
        outcomes = workup.problem.outcomes(panel)
        # the ceiling of a sampled panel is that of its samples: allow for their error
        slack = 1e-9 if outcomes.method == "exact" else 0.02
        worth = workup.problem.sample_information(panel)
        assert 0 <= worth <= ceiling + slack, test
        net = workup.problem.net_value(panel, workup.catalog.tests[test], workup.gates.judge(test))
        assert net is not None and net <= worth + 1e-9, test


@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_laws_hold_in_drawn_patients(model: edx.Model, seed: int) -> None:
    """Whatever is known of a patient: 0 <= EVSI <= EVPI, parts <= whole, information <= entropy."""
    rng = np.random.default_rng(seed)
    drawn = draw_patients(model, 1, seed)
    findings = sorted({f for fs in model.tests.values() for f in fs})
    known = rng.choice(findings, size=int(rng.integers(0, 12)), replace=False)
    evidence = {f: model.variables[f].states[int(drawn[f][0])] for f in known}
    pair = ("inflammatory_markers", "bone_marrow_biopsy")
    goal = ("lesion_cause", "marrow_infiltration")
    workup = Workup(model, evidence, goal, together=[pair])
    problem, calculator = workup.problem, workup.calculator
    ceiling = problem.perfect_information
    for test in (*SMALL_PANELS, "blood_culture", "calcium", "tb_igra"):
        if test in workup.positions:
            panel = workup.positions[test]
            assert 0 <= problem.sample_information(panel) <= ceiling + 1e-9
            assert calculator.outcomes(panel).information <= entropy(calculator.prior) + 1e-9
    both = workup.union(pair)
    for test in pair:
        if test in workup.positions:
            part = workup.positions[test]
            whole = calculator.outcomes(both).information
            assert whole >= calculator.outcomes(part).information - 1e-9
            assert problem.sample_information(both) >= problem.sample_information(part) - 1e-9


@pytest.mark.parametrize("name", EVIDENCES)
def test_more_findings_are_worth_no_less(model: edx.Model, name: str) -> None:
    """The value of a panel is at least that of each of its parts."""
    workup = Workup(model, EVIDENCES[name], together=[("bone_marrow_biopsy", "blood_smear")])
    problem = workup.problem
    both = problem.sample_information(workup.union(("bone_marrow_biopsy", "blood_smear")))
    for test in ("bone_marrow_biopsy", "blood_smear"):
        assert both >= problem.sample_information(workup.positions[test]) - 1e-12


@pytest.mark.parametrize("name", EVIDENCES)
@pytest.mark.parametrize("test", SMALL_PANELS)
def test_sample_information_equals_plain_enumeration(
    model: edx.Model, name: str, test: str
) -> None:
    """EVSI equals a loop over outcomes, states and actions on posteriors of single patients."""
    workup = Workup(model, EVIDENCES[name])
    if test not in workup.panels:
        pytest.skip("nothing open")
    findings = workup.panels[test]
    u = workup.problem.utilities
    assert u is not None
    lesion, marrow = u.lesion(), u.marrow_value()
    harm = u.extra_harm + workup.problem.harm[:, None]

    def joint_of(extra: dict[str, Any]) -> tuple[np.ndarray, float]:
        read = model.read_evidence({**EVIDENCES[name], **extra})
        positions = [model.position(v) for v in DECISION_VARIABLES]
        joint = model.engine.joint(model.arrays(read), positions)[0]
        return joint, float(model.engine.run(model.arrays(read), want=()).log_evidence[0])

    def best(joint: np.ndarray) -> float:
        first = max(
            float((joint.sum(axis=2) * (lesion[a] - harm[a][:, None])).sum())
            for a in range(len(u.actions))
        )
        second = max(
            float((joint.sum(axis=(0, 1)) * (marrow[b] - u.marrow_harm[b])).sum())
            for b in range(len(u.marrow_actions))
        )
        return first + second

    now, log_now = joint_of({})
    total = 0.0
    states = [model.variables[f].states for f in findings]
    for outcome in itertools.product(*states):
        joint, log = joint_of(dict(zip(findings, outcome, strict=True)))
        total += np.exp(log - log_now) * best(joint)
    assert workup.problem.act_now == pytest.approx(best(now), abs=1e-9)
    found = workup.problem.sample_information(workup.positions[test])
    assert found == pytest.approx(total - best(now), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("test", ["bone_marrow_biopsy", "ct_guided_biopsy"])
def test_value_agrees_with_an_influence_diagram(
    model: edx.Model, agrum_network: Any, test: str
) -> None:
    """EVSI and EVPI equal those of a LIMID solved by pyAgrum on the reduced network."""
    import pyagrum

    evidence = EVIDENCES["bleeding boy"]
    workup = Workup(model, evidence)
    (finding,) = workup.panels[test]
    u = workup.problem.utilities
    assert u is not None
    weak = u.weakness.index("partial")
    # the joint of cause, marrow and finding comes from pyAgrum as well
    likelihoods = {k: list(v) for k, v in model.read_evidence(evidence).likelihoods.items()}
    likelihoods |= {name: [0.0, 1.0] for name in model.selection_evidence}
    engine = pyagrum.LazyPropagation(agrum_network)
    names = {"lesion_cause", "marrow_infiltration", finding}
    engine.addJointTarget(names)
    engine.setEvidence(likelihoods)
    engine.makeInference()
    raw = engine.jointPosterior(names)
    order = [raw.names[::-1].index(n) for n in ("lesion_cause", "marrow_infiltration", finding)]
    joint = np.array(raw.tolist()).transpose(order)
    causes, marrows, outcomes = joint.shape
    lesion = (u.lesion()[:, :, weak] - u.extra_harm - workup.problem.harm[:, None]).T
    marrow = (u.marrow_value() - u.marrow_harm[:, None]).T

    def expected_utility(seen: str) -> float:
        diagram = pyagrum.InfluenceDiagram()
        state = diagram.addChanceNode(pyagrum.RangeVariable("S", "", 0, causes * marrows - 1))
        result = diagram.addChanceNode(pyagrum.RangeVariable("F", "", 0, outcomes - 1))
        first = diagram.addDecisionNode(pyagrum.RangeVariable("A", "", 0, lesion.shape[1] - 1))
        second = diagram.addDecisionNode(pyagrum.RangeVariable("B", "", 0, marrow.shape[1] - 1))
        worth = diagram.addUtilityNode(pyagrum.RangeVariable("U", "", 0, 0))
        worth_too = diagram.addUtilityNode(pyagrum.RangeVariable("V", "", 0, 0))
        diagram.addArc(state, result)
        diagram.addArc(first, second)
        for node, decision in ((worth, first), (worth_too, second)):
            diagram.addArc(state, node)
            diagram.addArc(decision, node)
        for decision in (first, second):
            if seen == "finding":
                diagram.addArc(result, decision)
            elif seen == "state":
                diagram.addArc(state, decision)
        flat = joint.reshape(-1, outcomes)
        diagram.cpt(state)[:] = flat.sum(axis=1)
        for s, row in enumerate(flat):
            mass = row.sum()
            diagram.cpt(result)[{"S": s}] = row / mass if mass > 0 else [1 / outcomes] * outcomes
            for a in range(lesion.shape[1]):
                diagram.utility(worth)[{"S": s, "A": a}] = lesion[s // marrows, a]
            for b in range(marrow.shape[1]):
                diagram.utility(worth_too)[{"S": s, "B": b}] = marrow[s % marrows, b]
        solver = pyagrum.ShaferShenoyLIMIDInference(diagram)
        solver.makeInference()
        return float(solver.MEU()["mean"])

    now = expected_utility("nothing")
    assert workup.problem.act_now == pytest.approx(now, abs=1e-9)
    found = workup.problem.sample_information(workup.positions[test])
    assert found == pytest.approx(expected_utility("finding") - now, abs=1e-9)
    ceiling = expected_utility("state") - now
    assert workup.problem.perfect_information == pytest.approx(ceiling, abs=1e-9)


def test_delay_takes_value_away(model: edx.Model) -> None:
    """The same result is worth less when it comes later."""
    workup = Workup(model, EVIDENCES["bleeding boy"])
    outcomes = workup.problem.outcomes(workup.positions["bone_marrow_biopsy"])
    gained = [
        workup.problem.after(outcomes.weights, outcomes.target, h) for h in (0.0, 10.0, 100.0)
    ]
    assert gained[0] > gained[1] > gained[2]
    best = float(outcomes.weights @ workup.problem.best(outcomes.target))
    assert gained[0] == pytest.approx(best, abs=1e-12)


def test_value_orders_the_ranking(model: edx.Model) -> None:
    """Sorting by value puts the greatest net value first among the tests allowed now."""
    ranked = rank_tests(model, EVIDENCES["feverish"], by="value")
    values = [r.value for r in ranked if r.when == "now"]
    assert None not in values
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["outcomes"].pop("abscess"), "hole.*abscess"),
        (lambda d: d["actions"]["antibiotics"]["effect"].pop("otherwise"), "hole.*hematoma"),
        (lambda d: d["actions"]["antibiotics"].pop("effect"), "actions.antibiotics.effect"),
        (lambda d: d["actions"]["antibiotics"].pop("harm"), "actions.antibiotics.harm"),
        (lambda d: d["actions"]["antibiotics"]["effect"].update(absces=1.0), "abscess"),
        (lambda d: d["outcomes"]["emh"].update(utility_good=1.2), "between 0 and 1"),
        (lambda d: d["outcomes"]["emh"].update(utility_good=[0.5, 0.6, 0.7]), "outside its range"),
        (lambda d: d["outcomes"]["emh"].update(grade="sure"), "grade 'sure'"),
        (
            lambda d: d["outcomes"]["hematoma"]["good_by_hours"].update(hours=[6, 6, 7, 8, 9]),
            "hours",
        ),
        (
            lambda d: d["actions"]["antibiotics"]["effect"].clear(),
            "actions.antibiotics.effect.*hole",
        ),
        (lambda d: d["actions"].update(prayer={"grade": "expert"}), "actions.prayer.effect"),
        (
            lambda d: d["marrow_actions"]["leukemia_treatment"].pop("gain"),
            "leukemia_treatment.gain",
        ),
        (lambda d: d["outcomes"]["emh"]["good_treated"].pop("partial"), "hole.*partial"),
        (lambda d: d["outcomes"]["emh"].update(death_per_day=-0.1), "between 0 and 1"),
        (lambda d: d["outcomes"]["emh"].update(death_per_day="few"), "no number"),
        (lambda d: d.update(actions={}), "actions"),
        (lambda d: d.pop("marrow_actions"), "marrow_actions"),
    ],
)
def test_holes_and_errors_in_the_utilities_are_named(
    model: edx.Model, tmp_path: Path, change: Any, words: str
) -> None:
    """A utility table with a hole or a wrong number gets one sentence with file and name."""
    document = yaml.safe_load((model._priors / "utilities.yaml").read_text(encoding="utf-8"))
    change(document)
    (tmp_path / "utilities.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    states = [model.variables[v].states for v in DECISION_VARIABLES]
    with pytest.raises(edx.ModelError, match=words) as error:
        read_utilities(tmp_path, states[0], states[1], states[2])
    assert "\n" not in str(error.value)
    assert "utilities.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("tests.csv", ",10,,0.85,", ",-10,,0.85,", "line 7.*-10 is negative; allowed are numbers"),
        ("tests.csv", ",10,,0.85,", ",cheap,,0.85,", "not a number"),
        ("tests.csv", "marrow|tissue", "urine", "unknown sample 'urine'"),
        ("gates.csv", "needle_inr,ct_guided_biopsy", "needle_inr,ct_biopsy", "unknown test"),
        ("gates.csv", "inr,high,until_corrected", "inr,high,never", "never"),
        ("utilities.yaml", "floor_minutes: {value: 5,", "floor_minutes: {value: 50,", "range"),
        (
            "utilities.yaml",
            "usd_per_hour: {value: 43, low: 20",
            "usd_per_hour: {value: 43, low: -1",
            "negative",
        ),
    ],
)
def test_errors_in_prices_and_gates_are_named(
    priors: Path, tmp_path: Path, file: str, old: str, new: str, words: str
) -> None:
    """A negative price, an unknown sample, test or effect gets one sentence with the file."""
    for name in ("tests.csv", "gates.csv", "utilities.yaml"):
        shutil.copy(priors / name, tmp_path / name)
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(edx.ModelError, match=words) as error:
        read_catalog(tmp_path)
    assert "\n" not in str(error.value)
    assert file in str(error.value)


def test_an_operation_is_not_done_twice(model: edx.Model) -> None:
    """Once its tissue has been read, a decompression harms no more and keeps its benefit."""
    before = Workup(model, {"limb_weakness": "partial"}).problem
    after = Workup(
        model, {"limb_weakness": "partial", "lesion_surgical_pathology": "hematoma_or_fibrin"}
    ).problem
    assert before.utilities is not None and after.utilities is not None
    operation = [a.name for a in before.utilities.actions].index("decompression")
    assert before.harm[operation] > 0 and not before.done
    assert after.harm[operation] == 0 and after.done == {"decompression"}
    assert (after.utilities.effect >= before.utilities.effect).all()
    assert (after.utilities.effect >= before.utilities.effect[operation]).all()
    choice = after.choice()
    assert choice.done is (choice.action == "decompression")
    assert ("has been done" in choice.words) is choice.done


def test_values_do_not_depend_on_the_target_of_the_ranking(model: edx.Model) -> None:
    """The net value is the same whether the decision state follows from the target or not."""
    evidence = EVIDENCES["bleeding boy"]
    fine = {r.test: r for r in rank_tests(model, evidence)}
    other = {r.test: r for r in rank_tests(model, evidence, target="hemostasis")}
    for test, ranked in fine.items():
        if ranked.method == "exact":
            assert ranked.value == pytest.approx(other[test].value, abs=1e-9)
            assert ranked.cause_bits == pytest.approx(other[test].cause_bits, abs=1e-9)
            assert ranked.changes_lead == pytest.approx(other[test].changes_lead, abs=1e-9)


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("tests.csv", "\ncbc,", "\ncbcc,", "'cbc'|cbc.*no row in tests.csv; did you mean 'cbcc'"),
        ("tests.csv", ",10,,0.85,", ",-10,,0.85,", "line [0-9]+.*price_usd: -10 is negative"),
        ("gates.csv", "platelets,very_low,until", "platelets,tiny,until", "'tiny' is no state"),
        ("gates.csv", "inr,high,until", "inrr,high,until", "unknown variable 'inrr'"),
        ("gates.csv", ",platelet transfusion,4,", ",platelet transfusion,-4,", "-4 is negative"),
        (
            "utilities.yaml",
            "as_test: surgical_pathology",
            "as_test: surgical_patholgy",
            "actions.decompression.*'surgical_patholgy'.*did you mean 'surgical_pathology'",
        ),
        ("utilities.yaml", "emh: 0.7, ", "", "actions.decompression.effect.*hole.*emh"),
    ],
)
def test_decision_files_are_checked_before_they_are_needed(
    priors: Path, tmp_path: Path, file: str, old: str, new: str, words: str
) -> None:
    """``check`` and ``tests`` refuse a wrong price, gate or utility in one sentence."""
    shutil.copytree(priors, tmp_path / "priors")
    path = tmp_path / "priors" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    broken = copy.copy(edx.load_model())
    broken._priors = tmp_path / "priors"
    with pytest.raises(edx.ModelError, match=words) as error:
        check_decision_files(broken)
    assert "\n" not in str(error.value)


def test_decision_files_are_right(model: edx.Model) -> None:
    """The packaged prices, gates and utilities pass the check."""
    check_decision_files(model)


@pytest.mark.parametrize("test", ["mri_plain", "mri_dwi", "ct_spine", "cbc"])
def test_an_added_test_costs_no_more_than_alone(model: edx.Model, test: str) -> None:
    """What a test costs added to a session of its group is at most what it costs alone."""
    entry = read_catalog(model._priors).tests[test]
    added = entry.price_usd if entry.added_price_usd is None else entry.added_price_usd
    assert added <= entry.price_usd


def test_contrast_harms_at_least_as_much_as_the_plain_scan(model: edx.Model) -> None:
    """A scan that contains another one cannot be safer than it."""
    tests = read_catalog(model._priors).tests
    for harm, plain in tests["mri_plain"].harms.items():
        assert tests["mri_contrast"].harms[harm] >= plain
