"""Explanations: contributions that add up, and agree with brute force on a small model."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_model import FEVER, LEVEL, PRIOR, RASH

import epidural_dx as edx
from epidural_dx.analysis.explanation import (
    compare,
    conflict,
    exact_shapley,
    finding_groups,
    leave_groups_out,
    leave_one_out,
    shapley,
    stories,
    surprise,
    unexplained_findings,
)
from epidural_dx.errors import EvidenceError

FINDINGS = {"fever": "present", "rash": "present", "level": ["mid", "up"]}
PATIENT = {
    "age_years": 30,
    "sex": "male",
    "known_thalassemia": "present",
    "hemoglobin": "79 g/L",
    "t1_signal": ["iso", "hypo"],
    "enhancement": {"not": "rim"},
    "paravertebral_mass": "bilateral_lobulated",
}


def joint(kept: frozenset[str]) -> Any:
    """P(cause, kept findings of FINDINGS) of the small model, summed by hand."""
    fever = [1] if "fever" in kept else [0, 1]
    rash = [1] if "rash" in kept else [0, 1]
    level = [1, 2] if "level" in kept else [0, 1, 2]
    return np.array(
        [
            sum(
                PRIOR[c] * FEVER[c, f] * RASH[c, f, r] * LEVEL[c, x]
                for f in fever
                for r in rash
                for x in level
            )
            for c in (0, 1)
        ]
    )


def odds(kept: Any) -> float:
    """Decibans for emh against cyst."""
    emh, cyst = joint(frozenset(kept))
    return 10 * math.log10(emh / cyst)


def test_leave_one_out_is_the_change_of_the_log_odds(toy: Any) -> None:
    """Each weight is the difference of two hand-computed log odds for the leading cause."""
    rows = leave_one_out(toy, FINDINGS)
    sign = 1 if odds(FINDINGS) > 0 else -1
    assert {row["cause"] for row in rows} == {"emh" if sign > 0 else "cyst"}
    for row in rows:
        without = [f for f in FINDINGS if f != row["finding"]]
        assert row["decibans"] == pytest.approx(sign * (odds(FINDINGS) - odds(without)), abs=1e-9)
        share = sign * odds(without) / 10
        assert row["probability_without"] == pytest.approx(10**share / (1 + 10**share))
    assert [abs(row["decibans"]) for row in rows] == sorted(
        (abs(row["decibans"]) for row in rows), reverse=True
    )


def test_a_single_finding_has_the_weight_of_its_likelihood_ratio(toy: Any) -> None:
    """With one finding, leaving it out gives back the prior odds."""
    (row,) = leave_one_out(toy, {"fever": "present"})
    assert row["cause"] == "emh"
    assert row["decibans"] == pytest.approx(10 * math.log10(0.8 / 0.1), abs=1e-9)
    assert row["probability_without"] == pytest.approx(0.3)
    assert row["leader_without"] == "cyst"


def test_without_findings_there_is_nothing_to_explain(toy: Any) -> None:
    """No finding, or one that says nothing, gives no rows and no conflict."""
    assert leave_one_out(toy, {}) == []
    assert leave_one_out(toy, {"level": ["low", "mid", "up"]}) == []
    assert conflict(toy, {})["bits"] == 0.0
    assert shapley(toy, {}).contributions == {}


def test_shapley_agrees_with_brute_force_over_orders(toy: Any) -> None:
    """Averaging hand-computed gains over all six orders gives the same contributions."""
    found = shapley(toy, FINDINGS, "emh", "cyst")
    expected = dict.fromkeys(FINDINGS, 0.0)
    for order in itertools.permutations(FINDINGS):
        for i, name in enumerate(order):
            expected[name] += (odds(order[: i + 1]) - odds(order[:i])) / 6
    assert found.contributions == pytest.approx(expected, abs=1e-9)
    assert found.prior == pytest.approx(odds([]), abs=1e-9)
    assert found.posterior == pytest.approx(odds(FINDINGS), abs=1e-9)


@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8))
def test_exact_shapley_values_share_out_the_whole_gain(values: list[float]) -> None:
    """For any game of three players the values sum to the gain of the grand coalition."""
    game = np.array(values)
    assert exact_shapley(game, 3).sum() == pytest.approx(game[7] - game[0], abs=1e-9)


@pytest.mark.parametrize("exact_up_to", [12, 3])
def test_contributions_sum_to_the_change_of_the_log_odds(
    model: edx.Model, exact_up_to: int
) -> None:
    """On the real model they sum to posterior minus prior, exact or sampled."""
    found = shapley(model, PATIENT, exact_up_to=exact_up_to, orders=10)
    total = sum(found.contributions.values())
    assert total == pytest.approx(found.posterior - found.prior, abs=1e-9)
    probability = float(model.diagnose(PATIENT).causes[found.cause])
    assert found.posterior == pytest.approx(
        10 * math.log10(probability / (1 - probability)), abs=1e-6
    )
    assert found.orders == (0 if exact_up_to == 12 else 10)


def test_sampled_shapley_is_within_its_error_of_the_exact_one(model: edx.Model) -> None:
    """Sampled contributions lie within five stated standard errors, with the same seed alike."""
    exact = shapley(model, PATIENT)
    sampled = shapley(model, PATIENT, exact_up_to=0, orders=100, seed=7)
    for name, value in exact.contributions.items():
        assert sampled.contributions[name] == pytest.approx(
            value, abs=5 * sampled.errors[name] + 1e-9
        )
    assert sampled == shapley(model, PATIENT, exact_up_to=0, orders=100, seed=7)


def test_groups_are_players_as_a_whole(toy: Any) -> None:
    """One group of all findings carries the whole change, by either measure."""
    groups = {"all": tuple(FINDINGS)}
    change = odds(FINDINGS) - odds([])
    assert shapley(toy, FINDINGS, "emh", groups=groups).contributions["all"] == pytest.approx(
        change
    )
    (row,) = leave_groups_out(toy, FINDINGS, groups)
    assert abs(row["decibans"]) == pytest.approx(abs(change))


def test_findings_are_grouped_by_kind(model: edx.Model) -> None:
    """Every informative finding is in exactly one group, imaging with imaging."""
    read = model.read_evidence(PATIENT)
    groups = finding_groups(model, read)
    assert sorted(name for members in groups.values() for name in members) == sorted(
        read.informative
    )
    assert {"t1_signal", "enhancement"} <= set(groups["imaging"])


def test_a_comparison_has_the_ratios_of_the_tables(toy: Any, monkeypatch: Any) -> None:
    """Marginal likelihood ratios and leave-one-out weights of two causes are those by hand."""
    monkeypatch.setitem(toy.__dict__, "built", type("Nothing", (), {"columns": {}})())
    level = np.stack([LEVEL, np.array([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])])  # two draws
    tables = [factor.table for factor in toy.plan.network.factors]
    bank = toy.engine.bank([level if t.shape == LEVEL.shape else t for t in tables])
    monkeypatch.setitem(toy._banks, (2, 0, False), bank)
    found = compare(toy, FINDINGS, "emh", "cyst", draws=2)
    rows = {row["finding"]: row for row in found["findings"]}
    rash = (FEVER * RASH[:, :, 1]).sum(axis=1)
    assert rows["rash"]["likelihood_ratio"] == pytest.approx(rash[0] / rash[1])
    assert rows["level"]["likelihood_ratio"] == pytest.approx(0.9 / 0.5)
    for name, row in rows.items():
        assert row["decibans"] == pytest.approx(
            odds(FINDINGS) - odds([f for f in FINDINGS if f != name]), abs=1e-9
        )
    # what is the same in both draws has no spread; the level's ratio is 1.8 in one, 1 in the other
    assert rows["rash"]["lower"] == pytest.approx(rash[0] / rash[1])
    assert rows["rash"]["upper"] == pytest.approx(rash[0] / rash[1])
    assert rows["level"]["lower"] == pytest.approx(1 + 0.05 * 0.8)
    assert rows["level"]["upper"] == pytest.approx(1 + 0.95 * 0.8)
    assert found["prior_decibans"] == pytest.approx(10 * math.log10(3 / 7))
    assert found["posterior_decibans"] == pytest.approx(odds(FINDINGS))


def test_a_comparison_names_the_figures_behind_it(model: edx.Model) -> None:
    """A finding of the lesion rests on literature rows that are about it and this cause."""
    found = compare(model, PATIENT, "emh", "leukemia")
    row = next(row for row in found["findings"] if row["finding"] == "paravertebral_mass")
    ids = [name for column in row["sources_a"] for name in column["rows"]]
    figures = [model.literature.figure(name) for name in ids]
    assert figures
    assert {figure.variable for figure in figures} == {"paravertebral_mass"}
    assert any("emh" in state for figure in figures for state in figure.given_states)


@pytest.mark.parametrize("cause", ["emhh", ""])
def test_an_unknown_cause_is_refused(toy: Any, cause: str) -> None:
    """Comparing with a cause that does not exist names what is allowed."""
    with pytest.raises(EvidenceError, match="emh, cyst"):
        compare(toy, FINDINGS, "emh", cause)


def test_a_group_with_an_unobserved_finding_is_refused(toy: Any) -> None:
    """A group may hold observed findings only."""
    with pytest.raises(EvidenceError, match="rash"):
        leave_groups_out(toy, {"fever": "present"}, {"skin": ("rash",)})


def test_conflict_is_the_log_ratio_of_apart_to_together(toy: Any) -> None:
    """The measure and each finding's part of it are those summed by hand."""
    found = conflict(toy, FINDINGS)
    apart = [joint(frozenset([name])).sum() for name in FINDINGS]
    together = joint(frozenset(FINDINGS)).sum()
    assert found["bits"] == pytest.approx(math.log2(math.prod(apart) / together), abs=1e-9)
    straw = (joint(frozenset(["fever"])) * joint(frozenset(["rash"]))
             * joint(frozenset(["level"])) / PRIOR**2).sum()
    assert found["bits_given_cause"] == pytest.approx(math.log2(straw / together), abs=1e-9)
    for row in found["findings"]:
        rest = joint(frozenset(FINDINGS) - {row["finding"]}).sum()
        alone = joint(frozenset([row["finding"]])).sum()
        assert row["bits"] == pytest.approx(math.log2(alone * rest / together), abs=1e-9)


def test_a_planted_contradiction_conflicts_and_its_pair_is_named(model: edx.Model) -> None:
    """Coagulation values of DIC agree; high platelets with used-up fibrinogen do not."""
    agreeing = {"platelets": "very_low", "fibrinogen": "very_low", "d_dimer": "strongly_raised"}
    against = {"platelets": "high", "fibrinogen": "very_low", "d_dimer": "normal"}
    assert conflict(model, agreeing)["bits"] < 0
    found = conflict(model, against)
    assert found["bits"] > 1
    assert "fibrinogen" in found["pairs"][0]["findings"]
    assert "fibrinogen" in {row["finding"] for row in found["findings"][:2]}


def test_surprise_is_the_likelihood_under_every_cause(toy: Any) -> None:
    """Bits of surprise are minus the binary logarithm of P(findings | cause), by hand."""
    likelihood = joint(frozenset(FINDINGS)) / PRIOR
    rows = {row["cause"]: row for row in surprise(toy, FINDINGS)}
    assert rows["emh"]["bits"] == pytest.approx(-math.log2(likelihood[0]), abs=1e-9)
    assert rows["cyst"]["bits"] == pytest.approx(-math.log2(likelihood[1]), abs=1e-9)


def test_the_first_story_is_the_most_probable_explanation(toy: Any) -> None:
    """The joint state of mechanism and an open finding with the largest probability leads."""
    read = {"fever": "present"}
    found = stories(toy, read, conditions=("rash", "level"), count=12)
    table = {
        (("emh_x", "cyst_x")[c], ("absent", "present")[r], ("low", "mid", "up")[x]): PRIOR[c]
        * FEVER[c, 1]
        * RASH[c, 1, r]
        * LEVEL[c, x]
        for c in (0, 1)
        for r in (0, 1)
        for x in (0, 1, 2)
    }
    total = sum(table.values())
    states = [(s.states["etiology"], s.states["rash"], s.states["level"]) for s in found]
    assert states[0] == max(table, key=table.__getitem__)
    assert [s.probability for s in found] == pytest.approx(
        [table[state] / total for state in states]
    )
    assert sum(s.probability for s in found) == pytest.approx(1.0)


def test_the_most_probable_explanation_is_that_of_pgmpy() -> None:
    """The joint state of cause and open findings agrees with pgmpy's map_query on its own copy."""
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination
    from pgmpy.models import DiscreteBayesianNetwork
    from toy_model import toy_model

    network = DiscreteBayesianNetwork(
        [("cause", "fever"), ("cause", "rash"), ("fever", "rash"), ("cause", "level")]
    )
    network.add_cpds(
        TabularCPD("cause", 2, PRIOR[:, None]),
        TabularCPD("fever", 2, FEVER.T, ["cause"], [2]),
        TabularCPD("level", 3, LEVEL.T, ["cause"], [2]),
        TabularCPD("rash", 2, RASH.reshape(4, 2).T, ["cause", "fever"], [2, 2]),
    )
    model = toy_model()
    for place, fever in enumerate(("absent", "present")):
        found = stories(model, {"fever": fever}, conditions=("rash", "level"), count=1)[0]
        theirs = VariableElimination(network).map_query(
            ["cause", "rash", "level"], evidence={"fever": place}, show_progress=False
        )
        names = {"cause": "etiology", "rash": "rash", "level": "level"}
        for name, ours in names.items():
            state = model.variables[ours].states[int(theirs[name])]
            assert found.states[ours] == state


@pytest.mark.parametrize(
    "evidence",
    [PATIENT, {"platelets": "24 10^9/L", "d_dimer": "strongly_raised", "t1_signal": "hyper"}],
    ids=["thalassemia", "bleeding"],
)
def test_stories_are_the_joint_posterior_of_pyagrum(
    model: edx.Model, agrum_network: Any, evidence: dict[str, Any]
) -> None:
    """Best states and probabilities agree with pyAgrum's joint posterior of the same variables."""
    import pyagrum

    conditions = ("marrow_disease", "hemostasis")
    found = stories(model, evidence, conditions=conditions, count=3)
    engine = pyagrum.LazyPropagation(agrum_network)
    engine.addJointTarget({"etiology", *conditions})
    read = model.read_evidence(evidence)
    given = {name: list(weights) for name, weights in read.likelihoods.items()}
    given |= {name: "present" for name in model.selection_evidence}
    engine.setEvidence(given)
    engine.makeInference()
    joint = engine.jointPosterior({"etiology", *conditions})
    order = [str(name) for name in joint.names]
    values = np.asarray(joint[:]).transpose()  # pyAgrum's last axis is its first variable
    best = np.argsort(-values, axis=None, kind="stable")[: len(found)]
    for story, flat in zip(found, best, strict=True):
        place = np.unravel_index(int(flat), values.shape)
        states = {
            name: model.variables[name].states[int(i)] for name, i in zip(order, place, strict=True)
        }
        assert states == dict(story.states)
        assert story.probability == pytest.approx(float(values[place]), abs=1e-9)


def test_an_unexpected_finding_names_the_rare_cause_that_explains_it(model: edx.Model) -> None:
    """Blood-forming tissue where nothing let expect it is explained by EMH; its chance is exact."""
    rest = {"back_pain": "present", "level": "cervical", "known_leukemia": "absent"}
    evidence = {**rest, "lesion_biopsy": "hematopoietic_tissue"}
    (row,) = unexplained_findings(model, evidence)
    assert row["finding"] == "lesion_biopsy"
    assert row["cause"] == "emh"
    after, before = model.query(evidence), model.query(rest)
    chance = math.exp(after.log_evidence - before.log_evidence)
    assert row["chance"] == pytest.approx(chance)
    emh = model.causes.index("emh")
    assert row["chance_given_cause"] == pytest.approx(
        chance * after.lesion_cause[emh] / before.lesion_cause[emh]
    )
    assert unexplained_findings(model, rest) == []


def test_a_story_puts_bystanders_behind_the_mechanism(model: edx.Model) -> None:
    """Coagulation drives a hematoma and stands beside a myeloma; marrow drives both."""
    bleeding = {"platelets": "24 10^9/L", "fibrinogen": "very_low", "t1_signal": "hyper",
                "known_leukemia": "present"}
    hematoma = next(s for s in stories(model, bleeding, count=20) if s.cause == "hematoma")
    assert hematoma.text.endswith("→ disseminated intravascular coagulation → epidural hematoma")
    assert "leukemia in the marrow →" in hematoma.text
    known = {"known_myeloma": "present", "antiplatelet_use": "present"}
    first = next(s for s in stories(model, known, count=20)
                 if s.states["hemostasis"] == "antiplatelet" and s.cause == "myeloma")
    assert first.text.startswith("myeloma in the marrow → ")
    assert first.text.endswith(", with platelet inhibition")


def test_stories_tell_the_chain_to_the_mechanism(model: edx.Model) -> None:
    """In thalassemia the first story goes through the disease and ends in its mechanism."""
    first, *rest = stories(model, PATIENT)
    assert "thalassemia → extramedullary hematopoiesis" in first.text
    assert first.cause == "emh"
    assert first.states["marrow_disease"] in ("tdt", "ntdt")
    assert all(first.probability >= other.probability for other in rest)


def test_impossible_evidence_is_named(model: edx.Model) -> None:
    """Findings that cannot stand together are refused by every explanation."""
    impossible = {"lesion_cause": "emh", "lesion_subtype": "disc"}
    for explain in (leave_one_out, shapley, conflict, stories, unexplained_findings):
        with pytest.raises(EvidenceError, match="cannot occur together"):
            explain(model, impossible)
