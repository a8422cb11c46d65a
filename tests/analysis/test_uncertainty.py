"""Draws of the parameters and the intervals that they give."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from parameter_cases import sentinel

from epidural_dx.analysis.parameters import parameter_draws
from epidural_dx.analysis.uncertainty import (
    interval,
    posterior_draws,
    ranking_draws,
    to_datatree,
)
from epidural_dx.errors import EvidenceError
from epidural_dx.literature.pooling import ExpertColumn, Settings, pool
from epidural_dx.model import Model
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


def test_posteriors_under_draws_equal_pyagrum(model: Model) -> None:
    """The engine under a bank of draws agrees with pyAgrum on networks of the same draws."""
    import pyagrum

    evidence = sentinel(model)
    got = posterior_draws(model, evidence, "etiology", draws=DRAWS)
    drawn, _ = draw_tables(
        model.built, model.built.structure, model.literature, model._priors, DRAWS, 0
    )
    for i in (0, DRAWS - 1):
        one = dataclasses.replace(
            drawn,
            tables={n: _row(t, model.built.tables[n], i) for n, t in drawn.tables.items()},
            selection={n: _row(t, model.built.selection[n], i) for n, t in drawn.selection.items()},
            weights=drawn.weights[i],
        )
        engine = pyagrum.ShaferShenoyInference(_agrum(model, one))
        engine.setEvidence(
            {n: list(w) for n, w in evidence.likelihoods.items()} | model.selection_evidence
        )
        engine.addTarget("etiology")
        engine.makeInference()
        assert np.allclose(engine.posterior("etiology")[:], got[i], atol=1e-9, rtol=0)


def _row(table: Any, base: Any, i: int) -> Any:
    return table[i] if table.ndim > base.ndim else table


def _agrum(model: Model, built: Any) -> Any:
    import pyagrum

    network = pyagrum.BayesNet("one draw")
    tables = selection_form(built)
    for table in tables:
        known = model.variables.get(table.child)
        labels = list(known.states if known else ("absent", "present"))
        network.add(pyagrum.LabelizedVariable(table.child, table.child, labels))
    for table in tables:
        for parent in table.parents:
            network.addArc(parent, table.child)
    for table in tables:
        cpt = network.cpt(table.child)
        parents = [n for n in reversed(cpt.names) if n != table.child]
        order = [table.parents.index(p) for p in parents]
        cpt[:] = np.ascontiguousarray(table.table.transpose([*order, len(parents)]))
    return network


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


def test_arviz_reads_the_draws(model: Model) -> None:
    """The tree has named dimensions, and arviz summarises it."""
    import arviz as az

    tree = to_datatree(model, sentinel(model), draws=DRAWS, chains=2)
    cause = tree.posterior["cause"]
    assert cause.dims == ("chain", "draw", "cause_name")
    assert cause.shape == (2, DRAWS // 2, len(model.causes))
    assert list(cause["cause_name"].values) == list(model.causes)
    assert np.allclose(cause.sum("cause_name"), 1)
    summary = az.summary(tree, var_names=["cause"])
    assert len(summary) == len(model.causes)


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


def test_an_unknown_test_is_refused(model: Model) -> None:
    """A test that does not exist is named with the nearest one."""
    with pytest.raises(EvidenceError, match="cbc"):
        ranking_draws(model, {}, ["cbcc"])
