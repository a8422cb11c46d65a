"""What the page relies on in the interface's documents."""

from __future__ import annotations

import pytest

import epidural_dx as edx
from epidural_dx.documents import answers, listings
from epidural_dx.errors import EvidenceError

EVIDENCE = {"age_years": 14, "sex": "female", "platelets": "24 10^9/L", "t1_signal": "hyper"}


def test_contributions_add_up_to_the_posterior(model: edx.Model) -> None:
    """Contributions lead from the base rate to the probability of the cause that was asked for."""
    evidence = model.read_evidence(EVIDENCE)
    plain = answers.weights(model, evidence)
    assert "contributions" not in plain
    for cause in (None, "leukemia"):
        document = answers.weights(model, evidence, contributions=True, cause=cause)
        found = document["contributions"]
        assert found["cause"] == (cause or plain["cause"])
        total = sum(one["decibans"] for one in found["findings"])
        assert total == pytest.approx(found["posterior_decibans"] - found["prior_decibans"])
        p = model.diagnose(EVIDENCE).causes[found["cause"]]
        assert 1 / (1 + 10 ** (-found["posterior_decibans"] / 10)) == pytest.approx(p)
        assert {one["finding"] for one in found["findings"]} == set(evidence.informative)


def test_contributions_of_an_unknown_cause_name_the_nearest(model: edx.Model) -> None:
    """A misspelt cause is refused with its nearest match."""
    with pytest.raises(EvidenceError, match="leukemia"):
        answers.weights(model, model.read_evidence(EVIDENCE), contributions=True, cause="leukaemai")


def test_listed_units_are_read_and_differ(model: edx.Model) -> None:
    """Every unit that a variable lists can be read, and no two mean the same number."""
    for name, variable in model.variables.items():
        units = model.units_of(name)
        assert len(units) == len(set(units))
        assert listings.variable(model, variable)["units"] == units
        for unit in units:
            try:
                model.read_evidence({name: f"1 {unit}"})
            except EvidenceError as error:
                assert "plausible" in str(error), f"{name}: {error}"


def test_other_names_mean_the_same(model: edx.Model) -> None:
    """A number under any listed name is read as under the variable's own."""
    listed = {name: model.other_names(name) for name in model.variables}
    assert "plt" in listed["platelets"] and "age_years" in listed["age_group"]
    assert not any("pt" in names for names in listed.values()), "a total is no prolongation"
    for name, names in listed.items():
        variable = model.variables[name]
        value = "38" if name == "fever" else "3" if variable.thresholds else variable.states[-1]
        try:
            own = model.read_evidence({name: value}).likelihoods
        except EvidenceError:
            continue
        for other in names:
            assert model.read_evidence({other: value}).likelihoods == own, other
