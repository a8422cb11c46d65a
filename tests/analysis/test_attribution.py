"""Shares of a variance against closed forms, and by source."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from parameter_cases import sentinel

from epidural_dx.analysis.attribution import attribute, first_order, pick_freeze, total_indices
from epidural_dx.analysis.parameters import parameters_of, source_shares
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
    first, second = (
        {k: rng.uniform(-np.pi, np.pi, 8000) for k in "abc"} for _ in range(2)
    )
    frame = pick_freeze(ishigami, first, second, {k: [k] for k in "abc"})
    variance = 7**2 / 8 + 0.1 * np.pi**4 / 5 + 0.1**2 * np.pi**8 / 18 + 0.5
    alone = np.array([0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2, 7**2 / 8, 0.0]) / variance
    both = 0.1**2 * np.pi**8 * (1 / 18 - 1 / 50) / variance
    total = alone + [both, 0.0, both]
    assert np.all(np.abs(frame["share"] - alone) <= 4 * frame["error"])
    assert np.all(np.abs(frame["total"] - total) <= 4 * frame["total_error"])
    assert np.all(frame["total_error"] < 0.03)


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
