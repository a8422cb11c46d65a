"""Whether the leader survives: left-out sources, contaminated base rates, other models."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from parameter_cases import asked, rebuilt_whole, sentinel

from epidural_dx.analysis.robustness import (
    contamination_bounds,
    diff,
    imprecise_dirichlet,
    leave_sources_out,
    robustness,
)
from epidural_dx.errors import EvidenceError
from epidural_dx.model import Model, load_model
from epidural_dx.network.build import build
from epidural_dx.network.draws import factor_tables


def test_leaving_a_source_out_equals_a_model_without_it(model: Model) -> None:
    """The quick answer is that of the model built again without the source's rows."""
    evidence = sentinel(model)
    used = [f for f in model.literature.figures if f.id in model.built.used_rows]
    seen = [f.source_id for f in used if f.given == "lesion_subtype" and f.verified == "seen"]
    source = max(sorted(set(seen)), key=seen.count)
    frame = leave_sources_out(model, evidence, [source])
    without = build(
        model.built.structure,
        model.literature,
        model._priors,
        model.scenario,
        keep=lambda f: f.source_id != source or f.use == "prevalence",
    )
    tables = [t[None] for t in factor_tables(without, model.plan.network)]
    at = model.position("lesion_cause")
    expected = model.engine.run(
        model.arrays(evidence), target=(at,), want=(), bank=model.engine.bank(tables)
    ).posterior[0, 0]
    row = frame.iloc[0]
    assert row.probability == pytest.approx(expected.max(), abs=1e-12)
    assert row.leader == model.causes[int(expected.argmax())]
    assert row.rows >= 1
    assert row.distance > 0


@pytest.mark.parametrize("expert", ["A", "B"])
def test_leaving_an_expert_out_equals_files_without_him(
    model: Model, tmp_path: Path, expert: str
) -> None:
    """The quick answer is that of a model loaded from files without the expert's rows."""
    folder = tmp_path / "priors"
    shutil.copytree(model._priors, folder)
    for name in ("elicited/lesion.csv", "elicited/condition.csv"):
        _keep(folder / name, lambda row: row["expert"] != expert)
    with (folder / "rates.csv").open(encoding="utf-8", newline="") as handle:
        rates = list(csv.DictReader(handle))
    about = ("cause", "given", "given_state", "age_group", "kind", "scenario", "use")
    others = {tuple(r[c] for c in about) for r in rates if r["expert"] != expert}
    _keep(
        folder / "rates.csv",
        lambda row: row["expert"] != expert or tuple(row[c] for c in about) not in others,
    )
    evidence = sentinel(model)
    expected = load_model(priors=folder).diagnose(evidence).causes
    row = leave_sources_out(model, evidence, [f"expert_{expert.lower()}"]).iloc[0]
    assert row.leader == expected.index[0]
    assert row.probability == pytest.approx(expected.iloc[0], abs=1e-9)
    assert row.leader_before == pytest.approx(expected["hematoma"], abs=1e-9)
    assert row.distance > 0.01


def _keep(path: Path, wanted: Callable[[dict[str, str]], bool]) -> None:
    """Rewrite a CSV file with some of its rows."""
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        columns, rows = reader.fieldnames or [], [row for row in reader if wanted(row)]
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_the_experts_are_among_the_sources_left_out(model: Model) -> None:
    """By default every source that bears on the findings is left out in turn, the experts too."""
    frame = leave_sources_out(model, sentinel(model))
    assert {"expert_a", "expert_b"} <= set(frame["variant"])
    assert (frame["rows"] > 0).all()
    assert frame["distance"].is_monotonic_decreasing
    assert frame.attrs["leader"] == "hematoma"


def test_an_unknown_source_is_refused(model: Model) -> None:
    """A source that is not in the base gets a sentence with the nearest one."""
    name = next(s for s in model.literature.sources if s.startswith("doi:"))
    with pytest.raises(EvidenceError, match="not in the literature base"):
        leave_sources_out(model, {}, [name + "x"])


def test_variants_of_the_whole_model(model: Model, child_model: Model) -> None:
    """Scenario variants equal the models loaded with that scenario; naive Bayes is one of them."""
    raw = {"fever": "present", "back_pain": "present", "onset": "acute_days"}
    frame = robustness(model, raw).set_index("variant")
    causes = child_model.diagnose(raw).causes
    row = frame.loc["scenario child"]
    assert row.leader == causes.index[0]
    assert row.probability == pytest.approx(causes.iloc[0], abs=1e-9)
    wanted = {"recalled figures dropped", "published counts only, experts kept", "naive Bayes"}
    assert wanted <= set(frame.index)
    assert (frame["survives"] == (frame["leader"] == frame["leader"].iloc[0])).any()
    assert ((frame["distance"] >= 0) & (frame["distance"] <= 1)).all()


def test_contamination_bounds_hold_every_prior(model: Model) -> None:
    """No contaminated prior leaves the bounds, and point masses reach them."""
    evidence = sentinel(model)
    epsilon = 0.05
    frame = contamination_bounds(model, evidence, epsilon).loc[list(model.causes)]
    prior = model.base_marginals["lesion_cause"]
    posterior = model.diagnose(evidence).causes.loc[list(model.causes)].to_numpy()
    rng = np.random.default_rng(0)
    shapes = np.vstack([rng.dirichlet(np.full(len(prior), 0.3), 200), np.eye(len(prior))])
    mixed = (1 - epsilon) * prior + epsilon * shapes
    answers = posterior / prior * mixed
    answers /= answers.sum(axis=1, keepdims=True)
    lower, upper = frame["lower"].to_numpy(), frame["upper"].to_numpy()
    assert np.all(answers >= lower - 1e-12)
    assert np.all(answers <= upper + 1e-12)
    np.testing.assert_allclose(answers.min(axis=0), lower, atol=1e-12)
    np.testing.assert_allclose(answers.max(axis=0), upper, atol=1e-12)


def test_contamination_ends(model: Model) -> None:
    """Without contamination the bounds are the posterior; with nothing else they say nothing."""
    evidence = sentinel(model)
    none = contamination_bounds(model, evidence, 0.0)
    np.testing.assert_allclose(none["lower"], none["probability"], atol=1e-12)
    np.testing.assert_allclose(none["upper"], none["probability"], atol=1e-12)
    all_ = contamination_bounds(model, evidence, 1.0)
    np.testing.assert_allclose(all_["lower"], 0, atol=1e-12)
    np.testing.assert_allclose(all_["upper"], 1, atol=1e-12)


def test_breakdown_is_where_the_leader_falls(model: Model) -> None:
    """Below the breakdown the leader survives every contamination, above it does not."""
    evidence = sentinel(model)
    breakdown = contamination_bounds(model, evidence, 0.1).attrs["breakdown"]
    assert contamination_bounds(model, evidence, 0.99 * breakdown).attrs["survives"]
    assert not contamination_bounds(model, evidence, 1.01 * breakdown).attrs["survives"]
    with pytest.raises(EvidenceError, match="must lie in 0..1"):
        contamination_bounds(model, evidence, 1.5)


def test_unseen_patients_move_the_answer_no_further(model: Model) -> None:
    """No way to add one patient to each column leaves the bounds, and they are not vacuous."""
    evidence = sentinel(model)
    lower, upper = imprecise_dirichlet(model, evidence, "level")
    causes = model.diagnose(evidence).causes
    assert 0 < lower < causes.iloc[0] < upper < 1
    rng = np.random.default_rng(0)
    columns = {k: p for k, p in model.built.columns.items() if k[0] == "level"}
    rows = 40
    values = {}
    for key, p in columns.items():
        added = np.eye(len(p.mean))[rng.integers(len(p.mean), size=rows)]
        values[key] = (p.alpha + added) / (p.ess + 1)
    answers = asked(model, rebuilt_whole(model, values), evidence)
    leader = answers[:, model.causes.index(causes.index[0])]
    assert np.all(leader >= lower - 1e-12)
    assert np.all(leader <= upper + 1e-12)
    assert upper - lower > 0.5 * np.ptp(leader)


def test_imprecise_dirichlet_says_what_it_cannot_do(model: Model) -> None:
    """Unknown findings, coupled tables and a negative number of patients get a sentence."""
    with pytest.raises(EvidenceError, match="unknown group"):
        imprecise_dirichlet(model, {}, "levle")
    with pytest.raises(EvidenceError, match="no exact bounds"):
        imprecise_dirichlet(model, {}, "t1_signal")
    with pytest.raises(EvidenceError, match="above 0"):
        imprecise_dirichlet(model, {}, "level", unseen=0)


def test_a_model_does_not_differ_from_itself(model: Model) -> None:
    """The difference of a model and itself is nothing."""
    causes, parameters = diff(model, model, {"fever": "present"})
    assert np.all(causes["change"] == 0)
    assert parameters.empty


def test_scenarios_differ_in_answer(model: Model, child_model: Model) -> None:
    """The difference of two scenarios is that of their answers, largest first."""
    raw = {"fever": "present"}
    causes, _ = diff(model, child_model, raw)
    expected = child_model.diagnose(raw).causes - model.diagnose(raw).causes
    np.testing.assert_allclose(causes["change"], expected[causes.index], atol=1e-12)
    assert causes["change"].abs().is_monotonic_decreasing
