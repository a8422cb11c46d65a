"""Smallest changes of the evidence, and what is not known, against single questions."""

from __future__ import annotations

from typing import Any

import pytest

import epidural_dx as edx
from epidural_dx.analysis.counterfactuals import Counterfactual, open_findings, smallest_changes
from epidural_dx.errors import EvidenceError

THALASSEMIA: dict[str, Any] = {
    "age_years": 30,
    "known_thalassemia": "present",
    "transfusion_dependent": "present",
    "coarse_trabeculae": "present",
    "paravertebral_mass": "bilateral_lobulated",
    "enhancement": "faint",
    "epidural_position": "posterior",
}


def changed(evidence: dict[str, Any], one: Counterfactual) -> dict[str, Any]:
    """Return the evidence after the changes, with the names of the model."""
    names = {"age_years": "age_group"}
    result = {names.get(k, k): v for k, v in evidence.items()}
    result["age_group"] = "age_18_39"
    for change in one.changes:
        if change.instead == "unknown":
            del result[change.finding]
        else:
            result[change.finding] = change.instead
    return result


def test_every_counterfactual_has_the_leader_that_it_announces(model: edx.Model) -> None:
    """Entered as evidence, the changed findings make the named cause lead, as probable."""
    found = smallest_changes(model, THALASSEMIA)
    assert found.leader == "emh"
    assert found.exact
    assert found.found
    for one in found.found:
        assert len(one.changes) == found.size
        posterior = model.query(changed(THALASSEMIA, one)).lesion_cause
        assert model.causes[int(posterior.argmax())] == one.leader != "emh"
        assert posterior.max() == pytest.approx(one.probability)
        assert 0 <= one.chance <= 1


def test_no_smaller_change_is_overlooked(model: edx.Model) -> None:
    """Where two findings are needed, no single one, missing or different, is enough."""
    found = smallest_changes(model, THALASSEMIA)
    assert found.size == 2
    base = changed(THALASSEMIA, Counterfactual((), "", 0.0, 0.0))
    for name in base:
        for state in (None, *model.variables[name].states):
            evidence = {k: v for k, v in base.items() if k != name}
            if state is not None:
                evidence[name] = state
            posterior = model.query(evidence).lesion_cause
            assert model.causes[int(posterior.argmax())] == "emh"


def test_a_small_search_is_called_an_upper_bound(model: edx.Model) -> None:
    """With too many sets to try, findings are taken away one by one and it is said so."""
    full = smallest_changes(model, THALASSEMIA)
    found = smallest_changes(model, THALASSEMIA, most=30)
    assert full.size is not None and found.size is not None
    assert found.size >= full.size
    assert not found.exact or found.size == full.size
    for one in found.found:
        posterior = model.query(changed(THALASSEMIA, one)).lesion_cause
        assert model.causes[int(posterior.argmax())] == one.leader != found.leader


def test_without_findings_nothing_can_change(model: edx.Model) -> None:
    """The base rates have no counterfactual."""
    assert smallest_changes(model, {}).size is None


def test_open_findings_are_single_questions(model: edx.Model) -> None:
    """Each result's chance and leader are those of the answer with the result as evidence."""
    evidence = {"age_years": 30, "known_thalassemia": "present", "back_pain": "present"}
    found = open_findings(model, evidence, count=4)
    bits = [one.information_bits for one in found]
    assert bits == sorted(bits, reverse=True)
    assert min(bits) > 0
    query = model.query(evidence)
    leader = model.causes[int(query.lesion_cause.argmax())]
    for one in found:
        assert one.information_bits == pytest.approx(
            float(query.information[model.position(one.finding)])
        )
        marginal = model.diagnose(evidence).marginals[one.finding]
        other = 0.0
        for place, state in enumerate(model.variables[one.finding].states):
            posterior = model.query({**evidence, one.finding: state}).lesion_cause
            if model.causes[int(posterior.argmax())] != leader:
                other += float(marginal[place])
            told = next((o for o in one.outcomes if o.state == state), None)
            if told is not None:
                assert told.chance == pytest.approx(float(marginal[place]))
                assert told.probability == pytest.approx(float(posterior.max()))
                assert told.leader == model.causes[int(posterior.argmax())]
        assert one.changes_lead == pytest.approx(other)
        assert one.finding not in model.read_evidence(evidence).likelihoods


def test_impossible_evidence_is_refused(model: edx.Model) -> None:
    """Findings that cannot stand together are named."""
    for ask in (smallest_changes, open_findings):
        with pytest.raises(EvidenceError, match="cannot occur together"):
            ask(model, {"lesion_cause": "emh", "lesion_subtype": "disc"})
