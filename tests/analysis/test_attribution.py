"""Shares of a variance against closed forms, and by source."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from parameter_cases import sentinel
from scipy import special, stats

from epidural_dx.analysis.attribution import (
    attribute,
    attribute_ranking,
    column_labels,
    first_order,
    pick_freeze,
    total_indices,
)
from epidural_dx.analysis.parameters import parameter_draws, parameters_of, source_shares
from epidural_dx.analysis.uncertainty import ranking_draws
from epidural_dx.errors import EvidenceError
from epidural_dx.model import Model

DRAWS = 120


def test_a_linear_function_gives_the_closed_form() -> None:
    """Of a sum of independent terms each has its variance as its share, groups their sums."""
    rng = np.random.default_rng(0)
    slopes = np.array([3.0, 2.0, 1.0, 0.5, 0.0])
    x = rng.standard_normal((2000, 5))
    scores = np.column_stack([x * slopes, (x * slopes)[:, 1:4].sum(axis=1)])
    share, error = first_order((x * slopes).sum(axis=1), scores)
    part = slopes**2 / (slopes**2).sum()
    expected = np.append(part, part[1:4].sum())
    assert np.all(np.abs(share - expected) <= 4 * error + 0.01)
    assert share[4] == 0.0


def test_a_score_without_influence_has_no_share() -> None:
    """The estimate for an irrelevant score is 0 within its error."""
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((1000, 40))
    share, error = first_order(rng.standard_normal(1000), scores)
    assert abs(share.mean()) < 0.002
    assert np.all(np.abs(share) < 0.03)
    assert np.all(error < 0.02)


def ishigami(x: Mapping[str, np.ndarray]) -> np.ndarray:
    """Evaluate the test function of Ishigami and Homma (1990), a = 7, b = 0.1."""
    return np.sin(x["a"]) + 7 * np.sin(x["b"]) ** 2 + 0.1 * x["c"] ** 4 * np.sin(x["a"])


def test_pick_freeze_gives_the_indices_of_ishigami() -> None:
    """First-order and total indices agree with the closed form, interactions included."""
    rng = np.random.default_rng(2)
    first, second = ({k: rng.uniform(-np.pi, np.pi, 8000) for k in "abc"} for _ in range(2))
    frame = pick_freeze(ishigami, first, second, {k: [k] for k in "abc"})
    variance = 7**2 / 8 + 0.1 * np.pi**4 / 5 + 0.1**2 * np.pi**8 / 18 + 0.5
    alone = np.array([0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2, 7**2 / 8, 0.0]) / variance
    both = 0.1**2 * np.pi**8 * (1 / 18 - 1 / 50) / variance
    total = alone + [both, 0.0, both]
    assert np.all(np.abs(frame["share"] - alone) <= 4 * frame["error"])
    assert np.all(np.abs(frame["total"] - total) <= 4 * frame["total_error"])
    assert np.all(frame["total_error"] < 0.03)


def test_pick_freeze_agrees_with_salib() -> None:
    """On SALib's own sample of the same function both give the same indices."""
    from SALib.analyze import sobol as analyze
    from SALib.sample import sobol as sample

    names = list("abc")
    problem = {"num_vars": 3, "names": names, "bounds": [[-np.pi, np.pi]] * 3}
    rows = sample.sample(problem, 4096, calc_second_order=False, seed=3)
    outcome = ishigami({k: rows[:, i] for i, k in enumerate(names)})
    theirs = analyze.analyze(problem, outcome, calc_second_order=False, seed=0)
    blocks = rows.reshape(4096, 5, 3)  # one of both sets, one of each mixture
    first, second = ({k: blocks[:, at, i] for i, k in enumerate(names)} for at in (0, 4))
    ours = pick_freeze(ishigami, first, second, {k: [k] for k in names})
    np.testing.assert_allclose(ours["total"], theirs["ST"], atol=1e-9)
    np.testing.assert_allclose(ours["share"], theirs["S1"], atol=2e-3)


def test_given_data_indices_agree_with_salib() -> None:
    """From one sample of a monotone function both estimate the same first-order indices."""
    from SALib.analyze import rbd_fast

    rng = np.random.default_rng(4)
    x = rng.standard_normal((4000, 4))
    outcome = special.expit(2 * x[:, 0] + x[:, 1] - 0.5 * x[:, 2])
    problem = {"num_vars": 4, "names": list("abcd"), "bounds": [[-5, 5]] * 4}
    theirs = rbd_fast.analyze(problem, x, outcome, seed=0)["S1"]
    ours, error = first_order(outcome, x)
    np.testing.assert_allclose(ours, theirs, atol=0.03)
    assert np.all(error < 0.03)


def test_sources_of_a_parameter_sum_to_one(model: Model) -> None:
    """What a figure rests on is divided without rest, over sources that exist."""
    parameters = parameters_of(model)
    shares = source_shares(model, parameters)
    known = {*model.literature.sources, "expert_tables", "declared_default"}
    assert all(sum(s.values()) == pytest.approx(1) for s in shares)
    assert {name for s in shares for name in s} <= known
    counted = [s for p, s in zip(parameters, shares, strict=True) if p.grade == "counted"]
    published = [1 - sum(w for n, w in s.items() if n.startswith("expert")) for s in counted]
    assert np.median(published) > 0.5


@pytest.mark.parametrize("by", ["parameter", "group", "cause", "source"])
def test_shares_of_the_sentinel_patient(model: Model, by: str) -> None:
    """Every level lists names once, largest share first, the same in every run."""
    frame = attribute(model, sentinel(model), by=by, draws=DRAWS)
    again = attribute(model, sentinel(model), by=by, draws=DRAWS)
    assert frame["share"].is_monotonic_decreasing
    assert frame["name"].is_unique
    assert np.array_equal(frame["share"], again["share"])
    assert frame["share"].iloc[0] > 0.02
    if by == "source":
        assert frame["share"].sum() == pytest.approx(frame.attrs["explained"])


def test_total_indices_need_a_known_group(model: Model) -> None:
    """An unknown group is refused with the nearest name, too few draws with the least number."""
    with pytest.raises(EvidenceError, match="t1_signal"):
        total_indices(model, sentinel(model), ["t1_signl"])
    with pytest.raises(EvidenceError, match="at least 50"):
        total_indices(model, sentinel(model), ["t1_signal"], draws=10)


def test_total_index_of_one_group(model: Model) -> None:
    """The total index of a group that matters is positive."""
    frame = total_indices(model, sentinel(model), ["t1_signal"], draws=50)
    assert frame["total"].iloc[0] > 0
    assert frame["total_error"].iloc[0] > 0


def test_total_index_of_a_source_is_that_of_all_it_feeds(model: Model) -> None:
    """A source that feeds everything that matters has nearly all of the variance."""
    names = ["expert_a", "doi:10.3389/fmed.2025.1601774"]
    frame = total_indices(model, sentinel(model), names, by="source", draws=60).set_index("name")
    assert frame.loc["expert_a", "total"] > 0.5
    assert frame.loc[names[1], "total"] < 0.2
    with pytest.raises(EvidenceError, match="unknown source"):
        total_indices(model, sentinel(model), ["expert_c"], by="source", draws=60)


@pytest.mark.parametrize("by", ["parameter", "source"])
def test_what_a_ranking_of_tests_hangs_on(model: Model, by: str) -> None:
    """The margin is that of the draws of both tests, and its spread is split the same each time."""
    tests = ["pet_ct", "bone_marrow_biopsy"]
    evidence = sentinel(model)
    options = {"by": by, "draws": DRAWS, "outcomes": 32}
    frame = attribute_ranking(model, evidence, tests, **options)
    bits = ranking_draws(model, evidence, tests, draws=DRAWS, outcomes=32)
    margin = bits["pet_ct"] - bits["bone_marrow_biopsy"]
    assert frame.attrs["mean"] == pytest.approx(margin.mean())
    assert frame.attrs["sd"] == pytest.approx(margin.std())
    assert frame.attrs["first"] == (margin > 0).mean()
    again = attribute_ranking(model, evidence, tests, **options)
    assert np.array_equal(frame["share"], again["share"])
    assert frame["share"].iloc[0] > 0.02
    if by == "source":
        assert frame["share"].sum() == pytest.approx(frame.attrs["explained"])


def test_the_share_of_a_figure_is_what_its_draws_explain(model: Model) -> None:
    """Of a rate, the share in a ranking is the fit of the bits by its own drawn values."""
    evidence = sentinel(model)
    draws = 200
    frame = attribute_ranking(
        model, evidence, ["pet_ct"], by="parameter", draws=draws, outcomes=32
    )
    shares = frame.set_index("name")["share"]
    name = next(n for n in frame["name"] if n.startswith("rate ") and shares[n] != 0)
    p = next(p for p in parameters_of(model) if p.name == name)
    bits = ranking_draws(model, evidence, ["pet_ct"], draws=draws, outcomes=32)["pet_ct"]
    drawn = parameter_draws(model, draws, 0)[p.key][:, 0]
    u = stats.norm.ppf((stats.rankdata(drawn) - 0.5) / draws)
    design = np.column_stack([np.ones(draws), u, u**2, u**3])
    residual = bits - design @ np.linalg.lstsq(design, bits, rcond=None)[0]
    unexplained = residual.var() / bits.var() * (draws - 1) / (draws - 4)
    assert shares[name] == pytest.approx(1 - unexplained, abs=1e-9)


def test_a_ranking_is_of_two_known_tests(model: Model) -> None:
    """Unknown tests, three, or one twice are refused; two are chosen where none is named."""
    evidence = sentinel(model)
    for tests, words in (
        (["pet_tc", "cbc"], "unknown test"),
        (["pet_ct", "pet_ct"], "two different tests"),
        (["pet_ct", "cbc", "ct_spine"], "two different tests"),
    ):
        with pytest.raises(EvidenceError, match=words):
            attribute_ranking(model, evidence, tests, draws=50)
    ranked = model.rank_tests(evidence, "lesion_cause")
    allowed = [t for t, a in zip(ranked["test"], ranked["allowed"], strict=True) if a is True]
    frame = attribute_ranking(model, evidence, draws=50, outcomes=8)
    assert list(frame.attrs["tests"]) == allowed[:2]


def test_columns_have_names_of_their_own(model: Model) -> None:
    """No two columns share a label, and a column of several states is named without one."""
    parameters = parameters_of(model)
    labels = column_labels(parameters)
    assert len(set(labels.values())) == len(labels)
    assert "t1_signal | lesion_subtype=leukemia" in labels.values()
    assert "sphincter_dysfunction=present | lesion_subtype=leukemia" in labels.values()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "paper"}, "no level of attribution"),
        ({"draws": 10}, "at least 50 draws"),
        ({"hypothesis": "haematoma"}, "no state of lesion_cause"),
    ],
)
def test_wrong_use_gets_a_sentence(model: Model, options: dict, words: str) -> None:
    """Unknown levels and hypotheses and too few draws are refused."""
    with pytest.raises(EvidenceError, match=words):
        attribute(model, sentinel(model), **options)
