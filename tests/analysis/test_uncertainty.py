"""Draws of the parameters and the intervals that they give."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from parameter_cases import asked, rebuilt_whole, sentinel
from scipy import stats

from epidural_dx.analysis.parameters import parameter_draws
from epidural_dx.analysis.studies import perfect_information
from epidural_dx.analysis.uncertainty import (
    decision_table,
    decision_values,
    interval,
    posterior_draws,
    ranking_draws,
    ranking_table,
    to_datatree,
)
from epidural_dx.decision.utilities import read_utilities
from epidural_dx.errors import EvidenceError
from epidural_dx.literature.pooling import ExpertColumn, Settings, pool
from epidural_dx.model import Model, load_model
from epidural_dx.network.assembly import selection_form
from epidural_dx.network.draws import draw_parameters, draw_tables

DRAWS = 60


def test_draws_keep_the_mean_of_every_column(model: Model) -> None:
    """Means of drawn columns are the pooled means within Monte Carlo error, thin columns too."""
    draws = 1500
    thin = sorted(model.built.columns, key=lambda k: model.built.columns[k].ess)[:150]
    columns = {k: model.built.columns[k] for k in thin}
    drawn = draw_parameters(columns, {}, {}, model.literature.settings, draws, 7)
    z = np.concatenate(
        [
            (drawn[k].mean(axis=0) - p.mean) / (drawn[k].std(axis=0) / np.sqrt(draws) + 1e-15)
            for k, p in columns.items()
        ]
    )
    assert np.mean(np.abs(z) > 3) < 0.02
    assert np.abs(z).max() < 6


def test_disagreeing_experts_spread_the_draws() -> None:
    """Two experts with the same middle give wider draws where they disagree."""
    settings = Settings(log_sd_cap=5.0)
    spread = []
    for shift in (0.0, 0.3):
        experts = [
            ExpertColumn("a", np.array([0.5 - shift, 0.5 + shift]), 6.0),
            ExpertColumn("b", np.array([0.5 + shift, 0.5 - shift]), 6.0),
        ]
        pooled = pool(2, (), experts, settings)
        drawn = draw_parameters({("x", "", "", ""): pooled}, {}, {}, settings, 500, 0)
        spread.append(drawn["x", "", "", ""][:, 1].std())
    assert spread[1] > 1.2 * spread[0]


def test_the_same_seed_gives_the_same_bits(model: Model) -> None:
    """Draws depend on the seed alone."""
    one, two, other = (parameter_draws(model, 20, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(one[k], two[k]) for k in one)
    assert not all(np.array_equal(one[k], other[k]) for k in one)


@pytest.mark.slow
def test_intervals_equal_an_independent_monte_carlo(model: Model, agrum_network: Any) -> None:
    """Posteriors under 200 draws, and their intervals, are those that pyAgrum finds."""
    import pyagrum

    evidence = sentinel(model)
    draws = 200
    drawn, _ = draw_tables(
        model.built, model.built.structure, model.literature, model._priors, draws, 0
    )
    tables = dict(drawn.tables)
    network = pyagrum.BayesNet(agrum_network)
    findings = {n: list(w) for n, w in evidence.likelihoods.items()} | model.selection_evidence
    wanted = ["lesion_cause", "etiology", "marrow_infiltration"]
    found: dict[str, list[Any]] = {name: [] for name in wanted}
    for i in range(draws):
        one = dataclasses.replace(
            drawn,
            tables={n: _row(t, model.built.tables[n], i) for n, t in tables.items()},
            selection={n: _row(t, model.built.selection[n], i) for n, t in drawn.selection.items()},
            weights=drawn.weights[i],
        )
        _fill(network, one)
        engine = pyagrum.LazyPropagation(network)
        engine.setEvidence(findings)
        for name in wanted if i < 5 else wanted[:1]:
            engine.addTarget(name)
        engine.makeInference()
        for name in wanted if i < 5 else wanted[:1]:
            found[name].append(engine.posterior(name)[:])
    for name in wanted:
        got = posterior_draws(model, evidence, name, draws=draws)
        expected = np.array(found[name])
        assert np.allclose(got[: len(expected)], expected, atol=1e-9, rtol=0)
    causes = np.array(found["lesion_cause"])
    expected = np.quantile(causes, [0.05, 0.95], axis=0)
    answer = model.diagnose(evidence)
    assert np.allclose(answer.cause_limits, expected, atol=1e-9, rtol=0)


def _row(table: Any, base: Any, i: int) -> Any:
    return table[i] if table.ndim > base.ndim else table


def _fill(network: Any, built: Any) -> None:
    """Write other numbers into the tables of a pyAgrum network."""
    for table in selection_form(built):
        cpt = network.cpt(table.child)
        parents = [n for n in reversed(cpt.names) if n != table.child]
        order = [table.parents.index(p) for p in parents]
        cpt[:] = np.ascontiguousarray(table.table.transpose([*order, len(parents)]))


def test_a_fresh_model_draws_the_same_bits(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model built anew, without any stored file, gives the same draws to the last bit."""
    monkeypatch.setenv("EPIDURAL_DX_CACHE", "off")
    fresh = load_model()
    for quasi_random in (False, True):
        got = [
            posterior_draws(m, sentinel(m), draws=16, seed=5, quasi_random=quasi_random)
            for m in (model, fresh)
        ]
        assert np.array_equal(*got)


def test_quasi_random_draws_fill_every_stratum(model: Model) -> None:
    """Of n quasi-random draws of a rate one lies in each of n equally likely ranges."""
    draws = 40
    drawn = parameter_draws(model, draws, 1, quasi_random=True)
    for name, rate in list(model.built.rates.items())[:20]:
        z = np.log(drawn["rate", name, "", ""][:, 0] / rate.rate) / rate.log_sd
        strata = np.floor(stats.norm.cdf(z) * draws).astype(int)
        assert sorted(strata) == list(range(draws))


def test_quasi_random_posteriors_are_those_of_their_draws(model: Model) -> None:
    """The bank of a hypercube holds the model built from the same draws of the parameters."""
    evidence = sentinel(model)
    drawn = parameter_draws(model, 8, 2, quasi_random=True)
    expected = asked(model, rebuilt_whole(model, drawn), evidence)
    got = posterior_draws(model, evidence, draws=8, seed=2, quasi_random=True)
    assert np.allclose(got, expected, atol=1e-12, rtol=0)
    assert not np.allclose(got, posterior_draws(model, evidence, draws=8, seed=2), atol=1e-3)


def test_the_answer_lies_inside_its_interval(model: Model) -> None:
    """The 90 % interval of the leading cause holds the plug-in posterior and has width."""
    evidence = sentinel(model)
    answer = model.diagnose(evidence)
    lower, upper = interval(posterior_draws(model, evidence, draws=DRAWS))
    leader = model.causes.index(answer.causes.index[0])
    assert lower[leader] < answer.causes.iloc[0] < upper[leader]
    assert upper[leader] - lower[leader] > 0.01


def test_intervals_are_quantiles() -> None:
    """A 90 % interval of equally spaced draws cuts 5 % at either end."""
    lower, upper = interval(np.linspace(0, 1, 101)[:, None])
    assert lower[0] == pytest.approx(0.05)
    assert upper[0] == pytest.approx(0.95)


@pytest.fixture(scope="module")
def tree(model: Model) -> Any:
    """Draws of the sentinel patient for arviz, with two tests and the decision."""
    return to_datatree(
        model,
        sentinel(model),
        draws=DRAWS,
        chains=2,
        tests=["bone_marrow_biopsy", "pet_ct"],
        decision="treatment",
    )


def test_draws_have_named_dimensions(model: Model, tree: Any) -> None:
    """Causes, mechanisms, tests and actions are coordinates, and the draws are those asked for."""
    cause = tree.posterior["lesion_cause"]
    assert cause.dims == ("chain", "draw", "cause")
    assert list(cause["cause"].values) == list(model.causes)
    assert np.allclose(cause.sum("cause"), 1)
    expected = posterior_draws(model, sentinel(model), draws=DRAWS)
    assert np.array_equal(cause.values.reshape(DRAWS, -1), expected)
    assert tree.posterior["etiology"].dims == ("chain", "draw", "mechanism")
    bits = tree.posterior["information_bits"]
    assert bits.dims == ("chain", "draw", "test")
    assert list(bits["test"].values) == ["bone_marrow_biopsy", "pet_ct"]
    for choice in ("lesion_action", "marrow_action"):
        assert tree.posterior[f"{choice}_value"].dims == ("chain", "draw", choice)


def test_arviz_summarises_and_draws_at_once(model: Model, tree: Any) -> None:
    """Summary, forest, ridge and density of arviz take the draws as they are, in 0.23 and in 1."""
    import matplotlib

    matplotlib.use("Agg")
    import arviz as az
    import arviz_plots as azp
    import matplotlib.pyplot as plt

    summary = az.summary(tree, var_names=["lesion_cause"])
    assert len(summary) == len(model.causes)
    assert "lesion_cause[hematoma]" in summary.index
    assert len(az.summary(tree, var_names=["information_bits", "lesion_action_value"])) > 2
    some = {"var_names": ["lesion_cause"], "coords": {"cause": ["hematoma", "leukemia"]}}
    az.plot_forest(tree, **some)
    if int(az.__version__.split(".")[0]) >= 1:
        az.plot_ridge(tree, **some)
        az.plot_dist(tree, **some)
    else:
        az.plot_forest(tree, kind="ridgeplot", **some)
        az.plot_posterior(tree, **some)
    for plot in (azp.plot_forest, azp.plot_ridge, azp.plot_dist):
        plot(tree, backend="matplotlib", **some)
    plt.close("all")


@pytest.mark.parametrize(("draws", "chains"), [(10, 3), (10, 0)])
def test_chains_must_divide_the_draws(model: Model, draws: int, chains: int) -> None:
    """Draws that cannot be split evenly are refused in one sentence."""
    with pytest.raises(EvidenceError, match="chains"):
        to_datatree(model, sentinel(model), draws=draws, chains=chains)


def test_no_draws_are_refused(model: Model) -> None:
    """Zero draws are an error that says what is allowed."""
    with pytest.raises(EvidenceError, match="at least 1"):
        posterior_draws(model, sentinel(model), draws=0)
    with pytest.raises(EvidenceError, match="at least 1"):
        ranking_draws(model, {}, ["cbc"], draws=0)
    with pytest.raises(EvidenceError, match="at least 1"):
        decision_values(model, {}, draws=0)
    with pytest.raises(EvidenceError, match="at least 1"):
        parameter_draws(model, 0, 0)


def test_information_under_draws_is_exact_for_small_panels(model: Model) -> None:
    """A test's bits under a draw equal the mutual information that the engine gives for it."""
    raw = {"age_group": "age_40_59", "fever": "present", "back_pain": "present"}
    read = model.read_evidence(raw)
    single = next(t for t, v in model.tests.items() if len(v) == 1 and v[0] not in raw)
    frame = ranking_draws(model, raw, [single, "cbc"], draws=8, outcomes=64)
    at = model.position("lesion_cause")
    result = model.engine.run(
        model.arrays(read), target=(at,), want=("information",), bank=model.bank(8, 0)
    )
    expected = result.information[0][:, model.position(model.tests[single][0])]
    np.testing.assert_allclose(frame[single], expected, atol=1e-9)
    assert (frame >= 0).all(axis=None)
    assert frame.attrs["sampled"] == ("cbc",)


def test_sampled_panels_agree_with_enumeration(model: Model) -> None:
    """Information from sampled results is near the exact one."""
    raw = {"age_group": "age_40_59", "fever": "present", "back_pain": "present"}
    sizes = {
        t: int(np.prod([len(model.variables[f].states) for f in v]))
        for t, v in model.tests.items()
        if len(v) > 1 and not set(v) & set(raw)
    }
    name = min((t for t in sizes if sizes[t] >= 48), key=lambda t: sizes[t])
    size = sizes[name]
    exact = ranking_draws(model, raw, [name], draws=5, outcomes=size)
    rough = ranking_draws(model, raw, [name], draws=5, outcomes=size - 1)
    assert exact.attrs["sampled"] == ()
    assert rough.attrs["sampled"] == (name,)
    assert rough[name].mean() == pytest.approx(exact[name].mean(), rel=0.4)


def test_the_driver_is_part_of_a_joint_target(model: Model) -> None:
    """A test tells no less about mechanism and marrow together than about the cause alone."""
    evidence = sentinel(model)
    tests = ["bone_marrow_biopsy", "pet_ct"]
    alone = ranking_draws(model, evidence, tests, draws=8)
    both = ranking_draws(model, evidence, tests, ("etiology", "marrow_infiltration"), draws=8)
    assert (both.to_numpy() >= alone.to_numpy() - 1e-12).all()
    assert (both["bone_marrow_biopsy"] > alone["bone_marrow_biopsy"]).all()


def test_the_table_of_a_ranking_counts_who_is_first() -> None:
    """Shares of first places, mean places and intervals are those of the draws."""
    bits = pd.DataFrame({"a": [0.1, 0.5, 0.5, 0.6], "b": [0.2, 0.4, 0.4, 0.4], "c": [0.0] * 4})
    table = ranking_table(bits).set_index("test")
    assert list(table.index) == ["a", "b", "c"]
    assert list(table["first"]) == [0.75, 0.25, 0.0]
    assert list(table["rank"]) == [1.25, 1.75, 3.0]
    assert table.loc["b", "bits_mean"] == pytest.approx(0.35)
    assert table.loc["a", "bits_upper"] == pytest.approx(np.quantile(bits["a"], 0.95))


def test_unknown_tests_targets_and_variables_are_refused(model: Model) -> None:
    """What does not exist is named with the nearest that does."""
    with pytest.raises(EvidenceError, match="cbc"):
        ranking_draws(model, {}, ["cbcc"])
    with pytest.raises(EvidenceError, match="not compiled for draws of fever"):
        ranking_draws(model, {}, ["cbc"], "fever")
    with pytest.raises(EvidenceError, match="marrow_infiltration"):
        posterior_draws(model, {}, "marrow_infiltratio", draws=2)
    with pytest.raises(EvidenceError, match="no decision"):
        decision_values(model, {}, "treatmen")


@pytest.mark.parametrize("decision", ["cause", "treatment"])
def test_how_sure_a_decision_is(model: Model, decision: str) -> None:
    """Options are best in shares that sum to 1; the regret of the best is the EVPI."""
    choices = decision_values(model, sentinel(model), decision, draws=DRAWS)
    table = decision_table(choices)
    for choice in choices:
        rows = table[table["choice"] == choice.name]
        assert rows["best_in"].sum() == pytest.approx(1)
        assert rows["value"].is_monotonic_decreasing
        evpi = perfect_information(choice.values)
        assert rows["regret"].iloc[0] == pytest.approx(evpi, abs=1e-12)
        assert (rows["regret"] >= evpi - 1e-12).all()
        assert (rows["lower"] <= rows["upper"]).all()
    if decision == "cause":
        draws = posterior_draws(model, sentinel(model), draws=DRAWS)
        leads = np.bincount(draws.argmax(axis=1), minlength=len(model.causes)) / DRAWS
        by_name = table.set_index("option")["best_in"]
        assert list(by_name[list(model.causes)]) == pytest.approx(list(leads))


def test_values_of_actions_are_expected_utilities(model: Model) -> None:
    """Under one draw, the value of an action is its utility weighed by cause and weakness."""
    evidence = sentinel(model, "presentation")
    lesion, _ = decision_values(model, evidence, "treatment", draws=4)
    weakness = model.variables["limb_weakness"].states
    u = read_utilities(
        model._priors, model.causes, weakness, model.variables["marrow_infiltration"].states
    )
    worth = u.lesion() - u.extra_harm[:, :, None] - u.harm[:, None, None]
    arrays = model.arrays(evidence)
    expected = np.zeros((4, len(lesion.options)))
    at = model.position("lesion_cause")
    for w in range(len(weakness)):
        rows = dict(arrays)
        seen = rows.get(model.position("limb_weakness"), np.ones(len(weakness)))
        rows[model.position("limb_weakness")] = seen * (np.arange(len(weakness)) == w)
        if not rows[model.position("limb_weakness")].any():
            continue
        bank = model.bank(4, 0)
        part = model.engine.run(rows, target=(at,), want=(), bank=bank)
        whole = model.engine.run(arrays, target=(at,), want=(), bank=bank)
        chance = np.exp(part.log_evidence[0] - whole.log_evidence[0])
        expected += chance[:, None] * part.posterior[0] @ worth[:, :, w].T
    assert np.allclose(lesion.values, expected, atol=1e-9)
