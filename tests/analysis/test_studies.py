"""Value of knowing figures and of studies, against closed forms and the laws."""

from __future__ import annotations

import numpy as np
import pytest
from parameter_cases import CASES
from scipy import stats

from epidural_dx.analysis.studies import (
    DecisionDraws,
    decision_draws,
    fitted_values,
    partial_information,
    perfect_information,
    rank_series,
    rank_studies,
    sample_information,
    series_of,
    value_of_knowing,
    value_of_series,
    value_of_study,
)
from epidural_dx.clinical.case import read_case
from epidural_dx.errors import EvidenceError
from epidural_dx.model import Model

DRAWS = 120


@pytest.fixture(scope="module", params=["cause", "treatment"])
def problem(request: pytest.FixtureRequest, model: Model) -> DecisionDraws:
    """Decide on the patient with MDS and a multifocal lesion, whose answer is open."""
    evidence = read_case(CASES / "multifocal_mds.yaml").evidence().raw
    return decision_draws(model, evidence, request.param, draws=DRAWS)


def test_partial_information_of_a_normal_gain() -> None:
    """EVPPI of one normal term of a gain is the unit normal loss of its own spread."""
    rng = np.random.default_rng(0)
    known, rest = 0.6 * rng.standard_normal(4000), 0.8 * rng.standard_normal(4000)
    mean = -0.2
    values = np.column_stack([np.zeros(4000), mean + known + rest])
    scores = np.column_stack([np.zeros(4000), known])
    got, error = partial_information(values, scores)
    u = abs(mean) / 0.6
    expected = 0.6 * (stats.norm.pdf(u) - u * stats.norm.sf(u))
    assert abs(got - expected) < 4 * error + 0.005
    assert 0 < got < perfect_information(values)


def test_partial_information_of_three_decisions() -> None:
    """EVPPI with curved gains of three decisions agrees with numerical integration."""
    rng = np.random.default_rng(5)
    known, rest = rng.standard_normal((2, 6000))

    def gains(x: np.ndarray) -> np.ndarray:
        """Value of each decision where the rest is at its mean (it enters linearly)."""
        return np.stack([np.zeros_like(x), 0.3 * x - 0.05, 0.2 * np.exp(0.6 * x) - 0.3], axis=-1)

    noise = np.stack([np.zeros_like(rest), 0.5 * rest, -0.4 * rest], axis=-1)
    values = gains(known) + noise
    scores = np.stack([np.zeros_like(known), 0.3 * known, 0.12 * known], axis=-1)
    got, error = partial_information(values, scores)
    grid = np.linspace(-8, 8, 20001)
    density = stats.norm.pdf(grid) * (grid[1] - grid[0])
    after = (density * gains(grid).max(axis=1)).sum()
    expected = after - max((density[:, None] * gains(grid)).sum(axis=0))
    assert abs(got - expected) < 4 * error
    assert error < 0.1 * expected
    assert 0 < got < perfect_information(values)


def test_knowing_nothing_and_knowing_all_are_the_ends() -> None:
    """A score without influence is worth (nearly) nothing, the gain itself all of EVPI."""
    rng = np.random.default_rng(1)
    gain = rng.standard_normal(2000) - 0.1
    values = np.column_stack([np.zeros(2000), gain])
    nothing, _ = partial_information(values, np.column_stack([gain * 0, gain * 0]))
    noise, _ = partial_information(values, rng.standard_normal((2000, 2)))
    everything, _ = partial_information(values, values)
    assert nothing == 0.0
    assert noise < 0.02
    assert everything == pytest.approx(perfect_information(values), rel=0.02)


@pytest.mark.parametrize("patients", [1, 5, 40])
def test_a_binomial_study_has_its_conjugate_value(patients: int) -> None:
    """EVSI from draws of a Beta equals the value by conjugate updating."""
    a, b, threshold = 2.0, 3.0, 0.45
    p = stats.beta.ppf((np.arange(4000) + 0.5) / 4000, a, b)
    fitted = np.column_stack([np.zeros(4000), p - threshold])
    got, error = sample_information(fitted, np.column_stack([1 - p, p]), patients)
    k = np.arange(patients + 1)
    chance = stats.betabinom.pmf(k, patients, a, b)
    after = (a + k) / (a + b + patients) - threshold
    expected = (chance * np.maximum(after, 0)).sum() - max(0.0, a / (a + b) - threshold)
    assert got == pytest.approx(expected, abs=2e-4)
    assert error == 0.0


def test_a_multinomial_study_agrees_with_its_merged_form() -> None:
    """Three states of which two matter alike are worth what two are, within the error."""
    rng = np.random.default_rng(2)
    p = rng.beta(2, 3, 1500)
    fitted = np.column_stack([np.zeros(1500), p - 0.45])
    exact, _ = sample_information(fitted, np.column_stack([1 - p, p]), 10)
    split = np.column_stack([(1 - p) * 0.3, (1 - p) * 0.7, p])
    got, error = sample_information(fitted, split, 10)
    assert error > 0
    assert abs(got - exact) < 4 * error


def test_larger_studies_are_worth_more_and_series_correlation_caps_them() -> None:
    """EVSI grows with patients towards EVPPI, but not where series differ from each other."""
    rng = np.random.default_rng(3)
    p = rng.beta(2, 3, 800)
    fitted = np.column_stack([np.zeros(800), p - 0.45])
    shares = np.column_stack([1 - p, p])
    evppi = perfect_information(fitted)
    alone = [sample_information(fitted, shares, n)[0] for n in (1, 10, 100, 1000)]
    series = [sample_information(fitted, shares, n, 0.1)[0] for n in (1, 10, 100, 1000)]
    assert all(x <= y + 1e-12 for x, y in zip(alone, alone[1:], strict=False))
    assert alone[-1] == pytest.approx(evppi, rel=0.02)
    assert series[-1] < 0.95 * evppi
    assert all(0 <= s <= a + 1e-12 for s, a in zip(series, alone, strict=True))


def test_values_of_the_model_obey_the_laws(problem: DecisionDraws) -> None:
    """EVPPI of every group lies between 0 and EVPI, and the options add up."""
    assert problem.perfect_information > 0
    assert all(0 < s <= 1 for s in problem.best_share)
    frame = value_of_knowing(problem, by="group", top=6)
    assert ((frame["evppi"] >= 0) & (frame["evppi"] <= problem.perfect_information)).all()
    assert frame["evppi"].is_monotonic_decreasing
    assert frame.attrs["best"] == problem.best
    # the estimate itself keeps below EVPI, not only after it is cut off there
    members = {p.group: [] for p in problem.functions.parameters}
    for p in problem.functions.parameters:
        members[p.group].append(p.key)
    for name in frame["name"]:
        scores = problem.scores(list(dict.fromkeys(members[name])))
        raw = sum(
            perfect_information(fitted_values(v, s))
            for v, s in zip(problem.values, scores, strict=True)
        )
        assert -1e-12 <= raw <= problem.perfect_information


def test_studies_are_worth_less_than_the_figure(problem: DecisionDraws) -> None:
    """EVSI of every study lies between 0 and the EVPPI of its column."""
    name = "enhancement=rim | lesion_subtype=emh_active"
    frame = value_of_study(problem, name, [5, 50, 500], correlation=0.0)
    assert ((frame["evsi"] >= 0) & (frame["evsi"] <= frame["evppi"] + 1e-12)).all()
    ranking = rank_studies(problem, 30, top=3)
    assert len(ranking) == 3
    assert ranking["evsi"].is_monotonic_decreasing


def test_a_series_of_one_column_is_worth_what_its_study_is(problem: DecisionDraws) -> None:
    """Where patients have one column in common, the two methods agree within their errors."""
    kinds = {name: keys for name, keys in series_of(problem).items() if len(keys) == 1}
    reach = {name: sum(s.var() for s in problem.scores(k)) for name, k in kinds.items()}
    name = max(reach, key=lambda n: reach[n])
    figure = next(p.name for p in problem.functions.parameters if p.key == kinds[name][0])
    one = value_of_study(problem, figure, 30).iloc[0]
    many = value_of_series(problem, name, 30).iloc[0]
    assert abs(many.evsi - one.evsi) <= 4 * np.hypot(one.error, many.error) + 1e-3
    assert many["columns"] == 1


def test_series_are_worth_more_with_patients_up_to_what_there_is_to_know(
    problem: DecisionDraws,
) -> None:
    """EVSI lies between 0 and EVPPI, and reaches it where series do not differ."""
    name = "lesion_subtype=leukemia"
    frame = value_of_series(problem, name, [2, 20, 20000], correlation=0.0)
    assert ((frame["evsi"] >= 0) & (frame["evsi"] <= frame["evppi"])).all()
    few, some, all_ = frame["evsi"]
    error = frame["error"].max()
    assert few <= some + error and some <= all_ + error
    assert all_ == pytest.approx(frame["evppi"].iloc[0], abs=0.05 * problem.perfect_information)
    assert frame["evppi"].iloc[0] <= problem.perfect_information
    ranking = rank_series(problem, 30, top=2)
    assert ranking["evsi"].is_monotonic_decreasing
    again = rank_series(problem, 30, top=2)
    assert list(again["evsi"]) == list(ranking["evsi"])


def test_a_series_needs_patients_that_a_column_is_about(problem: DecisionDraws) -> None:
    """Unknown kinds of patients, empty series and rankings of nothing are refused."""
    with pytest.raises(EvidenceError, match="lesion_subtype=leukemia"):
        value_of_series(problem, "lesion_subtype=leukaemia", 10)
    with pytest.raises(EvidenceError, match="at least 1 patient"):
        value_of_series(problem, "lesion_subtype=leukemia", 0)
    with pytest.raises(EvidenceError, match="top must be at least 1"):
        rank_series(problem, 10, top=0)


def test_the_cause_decision_names_the_leader(model: Model) -> None:
    """Naming the cause right gains the posterior under every draw."""
    problem = decision_draws(model, {"fever": "present"}, draws=60)
    assert np.allclose(problem.values[0].sum(axis=1), 1)
    assert problem.best[0] == model.causes[int(problem.values[0].mean(axis=0).argmax())]


def test_wrong_use_gets_a_sentence(model: Model, problem: DecisionDraws) -> None:
    """Unknown decisions, empty studies and rates as studies are refused."""
    with pytest.raises(EvidenceError, match="no decision"):
        decision_draws(model, {}, "guess")
    with pytest.raises(EvidenceError, match="at least 1 patient"):
        value_of_study(problem, "enhancement=rim | lesion_subtype=emh_active", 0)
    with pytest.raises(EvidenceError, match="no column of shares"):
        value_of_study(problem, "rate emh_no_known_disorder@age_40_59", 10)
    with pytest.raises(EvidenceError, match="must lie in 0..1"):
        value_of_study(problem, "enhancement=rim | lesion_subtype=emh_active", 10, correlation=1.5)
    with pytest.raises(EvidenceError, match="no level of EVPPI"):
        value_of_knowing(problem, by="source")
