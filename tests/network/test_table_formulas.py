"""The formulas behind the tables, each against an enumeration or a hand calculation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from epidural_dx.network import tables as formulas

Array = NDArray[np.float64]


def columns(seed: int, *shape: int) -> Array:
    """Draw random distributions over the last axis."""
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]) * 2, size=shape[:-1])


@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_associated_keeps_both_margins_and_the_odds_ratio(seed: int, theta: float) -> None:
    """The joint has the margins it was given and odds ratios exp(theta u v), exactly."""
    child, partner = columns(seed, 4, 3), columns(seed + 1, 4, 2)
    scores, other = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0])
    table = formulas.associated(child, partner, theta, scores, other)
    joint = table * partner[:, :, None]
    assert joint.sum(1) == pytest.approx(child, abs=1e-9)
    assert table.sum(-1) == pytest.approx(np.ones((4, 2)))
    for a, b in ((0, 1), (1, 2), (0, 2)):
        ratio = joint[:, 0, a] * joint[:, 1, b] / (joint[:, 0, b] * joint[:, 1, a])
        assert np.log(ratio) == pytest.approx(np.full(4, theta * (b - a)), abs=1e-7)


def test_association_can_be_confined_to_some_bases() -> None:
    """Where the log odds ratio is 0 the two findings stay independent given the base."""
    child, partner = columns(1, 2, 2), columns(2, 2, 2)
    theta = np.array([0.0, 2.0])
    table = formulas.associated(child, partner, theta, np.arange(2.0), np.arange(2.0))
    assert table[0, 0] == pytest.approx(child[0])
    assert table[0, 1] == pytest.approx(child[0])
    assert table[1, 1, 1] > child[1, 1] > table[1, 0, 1]


def test_noisy_or_is_the_enumeration_of_its_hidden_causes() -> None:
    """Summing over which of three hidden causes fires gives the table."""
    links = [np.array([0.02, 0.6]), np.array([0.0, 0.3, 0.9]), np.array([0.1, 0.5])]
    table = formulas.noisy_or(links)
    assert table.shape == (2, 3, 2, 2)
    for state in itertools.product(range(2), range(3), range(2)):
        fired = [float(link[s]) for link, s in zip(links, state, strict=True)]
        present = 0.0
        for hidden in itertools.product((0, 1), repeat=3):
            p = 1.0
            for h, q in zip(hidden, fired, strict=True):
                p *= q if h else 1 - q
            present += p * max(hidden)
        assert table[state] == pytest.approx([1 - present, present])


def test_noisy_max_is_the_enumeration_of_its_hidden_contributions() -> None:
    """Summing over all contributions and taking the highest gives the table."""
    parts = [columns(3, 2, 3), columns(4, 3, 3)]
    table = formulas.noisy_max([np.cumsum(p, -1) for p in parts])
    for a, b in itertools.product(range(2), range(3)):
        expected = np.zeros(3)
        for x, y in itertools.product(range(3), repeat=2):
            expected[max(x, y)] += parts[0][a, x] * parts[1][b, y]
        assert table[a, b] == pytest.approx(expected)


@given(st.integers(0, 10_000))
def test_a_cause_joined_to_its_reference_gives_the_column_back(seed: int) -> None:
    """Where a cause only raises, reference and relative contribution restore its column."""
    reference = columns(seed, 1, 3)
    raised = formulas.noisy_max([np.cumsum(reference, -1), np.cumsum(columns(seed + 1, 2, 3), -1)])
    relative = formulas.relative_cumulative(raised[0], reference)
    assert np.all(np.diff(relative, axis=-1) >= -1e-12)
    assert relative[..., -1] == pytest.approx(np.ones(2))
    back = formulas.noisy_max([np.cumsum(reference, -1), relative])
    assert back[0] == pytest.approx(raised[0], abs=1e-9)


def test_a_cause_below_its_reference_adds_nothing() -> None:
    """A column that lies lower than the reference contributes the lowest state for certain."""
    reference = np.array([[0.5, 0.3, 0.2]])
    relative = formulas.relative_cumulative(np.array([[0.9, 0.1, 0.0]]), reference)
    assert relative == pytest.approx(np.ones((1, 3)))


def test_the_excess_probability_restores_the_total() -> None:
    """Reference 0.1 and total 0.4 need a link of one third: 1 - 0.9 * 2/3 = 0.4."""
    link = formulas.excess_probability(np.array([0.4, 0.05]), 0.1)
    assert link == pytest.approx([1 / 3, 0.0])
    restored = formulas.noisy_or([np.array([0.1]), link])
    assert restored[0, 0, 1] == pytest.approx(0.4)


def test_ratio_at_the_reference_is_the_base() -> None:
    """The reference state of the modifier leaves every base column as it is."""
    base, modifier = columns(5, 3, 4), columns(6, 2, 4)
    table = formulas.ratio(base, modifier, 1)
    assert table[:, 1] == pytest.approx(base)
    expected = base[0] * modifier[0] / modifier[1]
    assert table[0, 0] == pytest.approx(expected / expected.sum())


def test_ratio_on_one_state_moves_its_odds_and_keeps_the_rest() -> None:
    """Only the named state's odds change, by the modifier's odds ratio; the rest keeps shape."""
    base = np.array([[0.5, 0.3, 0.2]])
    modifier = np.array([[0.6, 0.2, 0.2], [0.2, 0.3, 0.5]])
    table = formulas.ratio(base, modifier, 0, only=[2])
    odds = table[0, 1, 2] / (1 - table[0, 1, 2])
    assert odds == pytest.approx((0.2 / 0.8) * (0.5 / 0.5) / (0.2 / 0.8))
    assert table[0, 1, 0] / table[0, 1, 1] == pytest.approx(5 / 3)


def test_dominance_takes_the_first_rule_that_applies() -> None:
    """DIC before liver failure, liver failure before thrombocytopenia, else normal."""
    order = [(0, 2, 3), (1, 1, 2), (0, 1, 1)]
    table = formulas.dominance([3, 2], order, 0, 4)
    winners = table.argmax(-1)
    assert winners.tolist() == [[0, 2], [1, 2], [3, 3]]
    assert set(np.unique(table)) == {0.0, 1.0}


def test_the_isth_score_of_the_melanoma_patient() -> None:
    """Platelets 24 (2), D-dimer >20 (3), PT +1.2 s (0), fibrinogen 1.5 (0): five points, overt."""
    score = formulas.isth_score()
    platelets = ["high", "normal", "low_100_149", "low_50_99", "very_low"].index("very_low")
    assert score[platelets, 2, 0, 1].tolist() == [0.0, 1.0]
    # one class milder in platelets or D-dimer is four points: not overt
    assert score[platelets - 1, 2, 0, 1].tolist() == [1.0, 0.0]
    assert score[platelets, 1, 0, 1].tolist() == [1.0, 0.0]
    # each missing point can come from the prothrombin time or the fibrinogen
    assert score[platelets, 1, 1, 1].tolist() == [0.0, 1.0]
    assert score[platelets, 1, 0, 2].tolist() == [0.0, 1.0]


def test_the_isth_score_point_by_point() -> None:
    """Every cell of the table is the sum of the published points compared with five."""
    score = formulas.isth_score()
    points = ((0, 0, 0, 1, 2), (0, 2, 3), (0, 1, 2), (0, 0, 1))
    for cell in itertools.product(*(range(len(p)) for p in points)):
        total = sum(p[i] for p, i in zip(points, cell, strict=True))
        assert score[cell].tolist() == ([0.0, 1.0] if total >= 5 else [1.0, 0.0])


def test_reweighting_leaves_the_rate_of_the_group() -> None:
    """Weighted by the population, the factors average to one."""
    population, share = np.array([0.9, 0.1]), np.array([0.3, 0.7])
    factor = formulas.reweighting(share, population)
    assert float(factor @ population) == pytest.approx(1.0)
    assert factor * population == pytest.approx(share)


@given(st.integers(0, 10_000))
def test_formulas_keep_leading_axes(seed: int) -> None:
    """Parameter draws on a leading axis give, draw by draw, what single calls give."""
    child, partner = columns(seed, 5, 3, 2), columns(seed + 1, 5, 3, 4)
    scores, other = np.arange(2.0), np.arange(4.0)
    many = formulas.associated(child, partner, 0.7, scores, other)
    links = columns(seed + 2, 5, 3, 2)[..., 0], columns(seed + 3, 5, 4, 2)[..., 0]
    ors = formulas.noisy_or(links)
    ratios = formulas.ratio(child, columns(seed + 4, 5, 2, 2), 0)
    modifier = columns(seed + 4, 5, 2, 2)
    for draw in range(5):
        one = formulas.associated(child[draw], partner[draw], 0.7, scores, other)
        assert many[draw] == pytest.approx(one, abs=1e-9)
        assert ors[draw] == pytest.approx(formulas.noisy_or([link[draw] for link in links]))
        assert ratios[draw] == pytest.approx(formulas.ratio(child[draw], modifier[draw], 0))
