"""Competing rates: by hand, against the figures, and enumerated in plain Python."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyagrum
import pytest

import epidural_dx as edx
from epidural_dx.errors import ModelError
from epidural_dx.network.population import Population
from epidural_dx.network.rates import (
    COLUMNS,
    SINGLE_LOG_SD,
    RateCheck,
    RateFigure,
    RateTable,
    pool_rates,
    read_rates,
    solve_excess,
)
from epidural_dx.network.structure import read_structure

# ------------------------------------------------------------------ by hand


def test_an_excess_is_the_total_minus_the_baseline() -> None:
    """Totals of 10 and 6 over baselines of 2 and 1 leave 8 and 5."""
    found = solve_excess(np.array([10.0, 6.0]), np.array([2.0, 1.0]), np.eye(2))
    assert found == pytest.approx([8.0, 5.0])


def test_drivers_that_coexist_are_not_counted_twice() -> None:
    """The equations a + b/2 = 8 and a/5 + b = 5 give a = 55/9 and b = 34/9."""
    exposure = np.array([[1.0, 0.5], [0.2, 1.0]])
    found = solve_excess(np.array([10.0, 6.0]), np.array([2.0, 1.0]), exposure)
    assert found == pytest.approx([55 / 9, 34 / 9])


def test_an_excess_is_never_negative() -> None:
    """A driver whose people have less than the baseline adds nothing."""
    found = solve_excess(np.array([1.0, 6.0]), np.array([2.0, 1.0]), np.eye(2))
    assert found == pytest.approx([0.0, 5.0])


def test_rates_are_pooled_on_the_logarithmic_scale() -> None:
    """4 and 9 give 6, with the spread between them and the declared doubt of one figure."""
    pooled = pool_rates([4.0, 9.0], ["a", "b"])
    assert pooled.rate == pytest.approx(6.0)
    assert pooled.rows == ("a", "b")
    between = math.log(9 / 4) / math.sqrt(2)
    assert pooled.log_sd == pytest.approx(math.hypot(between, math.log(2) / math.sqrt(2)))
    assert pool_rates([4.0], ["a"]).log_sd == pytest.approx(SINGLE_LOG_SD)


def figure(rate: float, scenario: str = "", use: str = "fit", id: str = "r") -> RateFigure:
    """Make a rate of abscess in people with diabetes."""
    return RateFigure(
        id, "abscess", "diabetes", "present", "", "total", rate, scenario, use, "", ""
    )


def test_figures_of_a_setting_replace_the_general_ones() -> None:
    """A scenario's own figure is used alone in that scenario and not at all elsewhere."""
    figures = [figure(4), figure(9), figure(100, "child", id="c")]
    general, child = RateTable(figures), RateTable(figures, ("child",))
    assert general.need("abscess", "diabetes", "present").rate == pytest.approx(6)
    assert child.need("abscess", "diabetes", "present").rows == ("c",)


def test_a_setting_of_part_of_the_people_mixes_its_rate_with_the_general_one() -> None:
    """Where a quarter lives in a setting, the rate is the weighted mean of both rates."""
    figures = [figure(4), figure(9), figure(100, "child", id="c")]
    mixed = RateTable(figures, ("child",), 0.25).need("abscess", "diabetes", "present")
    assert mixed.rate == pytest.approx(0.25 * 100 + 0.75 * 6)
    assert mixed.rows == ("c", "r", "r")


def test_figures_to_compare_are_not_fed_in() -> None:
    """A figure marked check is no rate of the model; asking for a missing rate names it."""
    table = RateTable([figure(4, use="check")])
    assert table.find("abscess", "diabetes", "present") is None
    with pytest.raises(ModelError, match="no rate for total abscess diabetes present"):
        table.need("abscess", "diabetes", "present")


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ({"rate_per_100k_year": "-1"}, "rate_per_100k_year must be a positive number, got '-1'"),
        ({"rate_per_100k_year": "inf"}, "must be a positive number, got 'inf'"),
        ({"rate_per_100k_year": "many"}, "must be a positive number, got 'many'"),
        ({"use": "pool"}, "use 'pool' is neither fit nor check"),
        ({"source_id": ""}, "the rate has no source_id"),
    ],
)
def test_a_wrong_rate_names_its_line(tmp_path: Path, cells: dict[str, str], sentence: str) -> None:
    """A rate that is no positive number, has no use or no source is one sentence."""
    row = {"id": "rate-1", "cause": "abscess", "rate_per_100k_year": "3", "use": "fit"}
    row = {**row, "source_id": "expert_a", **cells}
    text = ",".join(COLUMNS) + "\n" + ",".join(row.get(c, "") for c in COLUMNS) + "\n"
    (tmp_path / "rates.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        read_rates(tmp_path)
    assert sentence in caught.value.problem
    assert (caught.value.line, caught.value.name) == (2, "rate-1")


SMALL = """\
variables:
  etiology: {group: target, table: {method: mechanisms}}
  lesion_cause: {group: target, states: [hematoma, cyst], parents: [etiology], table: {method: x}}
  age: {group: patient, states: [young, old], table: {method: x}}
  drug: {group: history, states: [absent, present], parents: [age], table: {method: x}}
  ill: {group: latent, states: [absent, present], parents: [etiology, drug], table: {method: x}}
mechanisms:
  hematoma_spontaneous: {cause: hematoma, rate: {kind: baseline}}
  cyst: {cause: cyst, rate: {kind: baseline}}
"""


def test_expectations_over_the_population_by_hand(tmp_path: Path) -> None:
    """E[f(age) g(drug) | drug] and the weighted shares are the sums worked out on paper."""
    ill = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.5, 0.5], [0.5, 0.5]]])
    tables = {
        "age": np.array([0.7, 0.3]),
        "drug": np.array([[0.9, 0.1], [0.6, 0.4]]),
        "ill": ill,
    }
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    population = Population(read_structure(tmp_path), tables)
    by_age, by_drug = np.array([1.0, 3.0]), np.array([2.0, 5.0])
    weights = {
        (a, d): [0.7, 0.3][a] * [[0.9, 0.1], [0.6, 0.4]][a][d] for a in (0, 1) for d in (0, 1)
    }
    total = sum(p * by_age[a] * by_drug[d] for (a, d), p in weights.items())
    factors = {"age": by_age, "drug": by_drug}
    assert population.expectation(factors, {}) == pytest.approx(total)
    treated = {a: p for (a, d), p in weights.items() if d == 1}
    expected = 5 * sum(p * by_age[a] for a, p in treated.items()) / sum(treated.values())
    assert population.expectation(factors, {"drug": "present"}) == pytest.approx(expected)
    shares = population.conditional({"age": by_age}, "drug")
    assert shares[1] == pytest.approx((0.07 + 3 * 0.12) / (0.7 + 3 * 0.3))
    # a table that hangs on the lesion is read in the row of people without one
    assert population.conditional({}, "ill")[1] == pytest.approx(0.81 * 0.1 + 0.19 * 0.2)


# --------------------------------------------------- against the figures


def test_fitted_rates_give_back_their_figures(model: edx.Model, priors: Path) -> None:
    """Totals that were fitted are reproduced within 1 %, or within the spread of their kinds.

    Where a cause has a total and a rate in *known* disease as well, the two are pooled and the
    implied total lies between them; `check` prints what is left.
    """
    checks = [c for c in model.built.checks if c.used]
    assert len(checks) > 30
    two_kinds = {(f.cause, f.given, f.state) for f in read_rates(priors) if f.kind == "known"}
    for check in checks:
        off = abs(math.log(check.implied / check.figure))
        allowed = math.log(1.35) if (check.cause, check.given, check.state) in two_kinds else 0.01
        assert off < allowed, (check.cause, check.given, check.state, check.implied, check.figure)


@pytest.mark.parametrize("mechanism", ["myeloma_systemic", "metastasis_melanoma"])
def test_patients_are_as_old_as_published_where_no_rate_has_figures_by_age(mechanism: str) -> None:
    """Among people of all ages the adult patients of such a mechanism have the pooled ages."""
    everybody = edx.load_model(scenario="all_ages")
    cause = next(m.cause for m in everybody.mechanisms if m.name == mechanism)
    pooled = everybody.built.columns[("age_group", "lesion_cause", cause, "")].mean[1:]
    age = everybody.position("age_group")
    patients = everybody.run(everybody.read_evidence({"etiology": mechanism}))
    assert patients.marginals is not None
    adults = patients.marginals[age][0][1:]
    assert adults / adults.sum() == pytest.approx(pooled / pooled.sum(), rel=1e-6)


def test_every_driver_holds_a_rate(model: edx.Model) -> None:
    """Weights are positive and finite, and each mechanism keeps at least a trace."""
    weights = model.built.weights
    assert np.all(np.isfinite(weights))
    assert weights.min() > 0
    for variable, factors in model.built.selection.items():
        assert np.all(factors >= 0), variable
        assert np.all(factors.max(axis=1) > 0), variable


# ------------------------------------- the posterior, enumerated in plain Python

SUBMODEL_CAUSES = ("hematoma", "abscess", "disc")
PERSON = {
    "age_group": "age_18_39",
    "sex": "male",
    "blood_disorder": "none",
    "melanoma_stage": "none",
    "solid_tumor": "none",
    "metastatic_cancer": "absent",
}
EVIDENCE: dict[str, Mapping[str, str | Mapping[str, float]]] = {
    "nothing but the person": PERSON,
    "drugs and infection": {
        **PERSON,
        "anticoagulant_use": "present",
        "recent_infection": "present",
        "recent_trauma": "present",
    },
    "a sick marrow": {
        **PERSON,
        "age_group": "age_60_plus",
        "blood_disorder": "aml",
        "hereditary_bleeding": "absent",
        "liver_failure": "absent",
        "diabetes": "present",
        "platelets": "very_low",
        "d_dimer": "strongly_raised",
        "t1_signal": {"hypo": 0.1, "iso": 0.5, "hyper": 1.0},
    },
    "a young bleeder": {
        **PERSON,
        "age_group": "age_0_17",
        "sex": "female",
        "anticoagulant_use": "absent",
        "antiplatelet_use": "absent",
        "recent_spinal_procedure": "present",
        "aptt": "prolonged",
        "onset": "sudden",
        "enhancement": {"none": 1.0, "faint": 1.0},
    },
}


class Enumeration:
    """Sums of P(conditions, findings | mechanism) times the rate, term by term.

    Nothing here uses the engine, the export or numpy's linear algebra: tables become nested
    lists, and the sum runs over every assignment with a positive probability.
    """

    def __init__(self, model: edx.Model, evidence: Mapping[str, Any]) -> None:
        built = model.built
        self.nodes = built.structure.nodes
        self.tables = {n: t.tolist() for n, t in built.tables.items()}
        self.weights = built.weights.tolist()
        self.selection = {v: f.tolist() for v, f in built.selection.items()}
        self.mechanisms = list(built.structure.mechanisms.values())
        self.likelihoods: dict[str, list[float]] = {}
        for name, value in evidence.items():
            states = self.nodes[name].states
            weights = {value: 1.0} if isinstance(value, str) else value
            self.likelihoods[name] = [weights.get(s, 0.0) for s in states]

    def weight(self, m: int) -> float:
        """Sum over conditions c and findings of P(c, findings | m) lambda_m(c)."""
        factors = {v: table[m] for v, table in self.selection.items() if len(set(table[m])) > 1}
        constant = self.weights[m]
        for variable, table in self.selection.items():
            if variable not in factors:
                constant *= table[m][0]
        order = self._relevant({*factors, *self.likelihoods})
        return constant * sum(self._terms(order, 0, {"etiology": m}, 1.0, factors))

    def _relevant(self, wanted: set[str]) -> list[str]:
        """List the wanted variables and their ancestors, parents first, without etiology."""
        found = set(wanted)
        left = list(wanted)
        while left:
            for parent in self.nodes[left.pop()].parents:
                if parent not in found:
                    found.add(parent)
                    left.append(parent)
        return [n for n in self.nodes if n in found and n != "etiology"]

    def _terms(
        self,
        order: list[str],
        at: int,
        states: dict[str, int],
        product: float,
        factors: Mapping[str, list[float]],
    ) -> Iterator[float]:
        if at == len(order):
            yield product
            return
        name = order[at]
        column = self.tables[name]
        for parent in self.nodes[name].parents:
            column = column[states[parent]]
        likelihood = self.likelihoods.get(name)
        factor = factors.get(name)
        for state, probability in enumerate(column):
            term = product * probability
            if likelihood is not None:
                term *= likelihood[state]
            if factor is not None:
                term *= factor[state]
            if term > 0:
                states[name] = state
                yield from self._terms(order, at + 1, states, term, factors)


@pytest.mark.parametrize("name", EVIDENCE)
def test_the_posterior_is_the_sum_of_the_enumerated_rates(
    model: edx.Model, agrum_network: Any, name: str
) -> None:
    """Engine, pyAgrum and a plain sum of P(c) times the rates agree on every mechanism to 1e-9."""
    evidence = EVIDENCE[name]
    enumeration = Enumeration(model, evidence)
    chosen = [i for i, m in enumerate(enumeration.mechanisms) if m.cause in SUBMODEL_CAUSES]
    assert len(chosen) > 15
    sums = np.array([enumeration.weight(m) for m in chosen])
    assert np.count_nonzero(sums) > 15
    expected = sums / sums.sum()

    given: dict[str, object] = {
        n: v if isinstance(v, str) else {"likelihood": likelihood(model, n, v)}
        for n, v in evidence.items()
    }
    engine = model.diagnose(given).marginals["etiology"][chosen]
    assert engine / engine.sum() == pytest.approx(expected, abs=1e-9, rel=1e-9)

    exact = pyagrum.LazyPropagation(agrum_network)
    exact.setEvidence({**dict.fromkeys(model.selection_evidence, 1), **enumeration.likelihoods})
    exact.setTargets({"etiology"})
    exact.makeInference()
    other = exact.posterior("etiology").toarray()[chosen]
    assert other / other.sum() == pytest.approx(expected, abs=1e-9, rel=1e-9)


def likelihood(model: edx.Model, name: str, weights: Mapping[str, float]) -> dict[str, float]:
    """Name every state of the variable, 0 where the weights are silent."""
    return {s: weights.get(s, 0.0) for s in model.variables[name].states}


@pytest.mark.parametrize(
    ("implied", "verdict"),
    [(100.0, "met"), (109.0, "met"), (60.0, "within"), (190.0, "within"), (20.0, "differs")],
)
def test_a_rate_differs_where_it_is_off_by_more_than_it_is_uncertain_by(
    implied: float, verdict: str
) -> None:
    """Two standard deviations of the logarithm, here a factor of four, decide."""
    check = RateCheck("emh", "obesity", "present", 100.0, implied, False, (), math.log(2.0))
    assert check.verdict == verdict
    nothing = RateCheck("emh", "obesity", "present", 100.0, 0.0, False, (), math.log(2.0))
    assert nothing.verdict == "differs"
