"""Pooling against examples worked out by hand, and the laws that every pool obeys."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epidural_dx.literature.pooling import (
    ExpertColumn,
    Observation,
    Pooled,
    Settings,
    interval_count,
    intraclass_correlation,
    pool,
    pool_experts,
    pool_group,
)

#: No over-dispersion and no floor to speak of: plain Dirichlet arithmetic.
PLAIN = Settings(correlation=0.0, floor=1e-12)


def seen(
    states: set[int],
    share: float,
    count: float,
    *,
    study: str | None = None,
    fixed: bool = False,
    counted: bool = True,
) -> Observation:
    """Make a figure; every figure is a study of its own unless a study is named."""
    row = f"{sorted(states)}:{share}:{count}"
    return Observation(frozenset(states), share, count, counted, study or row, fixed, row)


# ------------------------------------------------------------------ by hand


def test_one_count_is_added_to_the_uniform_default() -> None:
    """Three of ten, beside a default of one patient spread over two states, give 3.5 of 11."""
    pooled = pool(2, [seen({1}, 0.3, 10)], (), PLAIN)
    assert pooled.alpha == pytest.approx([0.5 + 7, 0.5 + 3])
    assert pooled.ess == pytest.approx(11)
    assert pooled.mean[1] == pytest.approx(3.5 / 11)
    assert pooled.grade == "counted"
    assert pooled.literature == pytest.approx(10)


def test_the_complement_of_a_single_state_is_spread_in_proportion() -> None:
    """Six of ten in the first state leave the experts' proportions of the rest as they were."""
    expert = ExpertColumn("A", np.array([0.2, 0.6, 0.2]), 5.0)
    settings = Settings(correlation=0.0, floor=1e-12, beside_counts=1.0)
    pooled = pool(3, [seen({0}, 0.6, 10)], [expert], settings)
    assert pooled.alpha[0] == pytest.approx(1 + 6)
    assert pooled.alpha[1] / pooled.alpha[2] == pytest.approx(3.0)
    assert pooled.alpha.sum() == pytest.approx(15)


def test_a_union_constrains_the_sum_and_keeps_the_proportions() -> None:
    """Eight of ten in "partial or complete" move the sum; the two keep their ratio of 3 to 1."""
    expert = ExpertColumn("A", np.array([0.6, 0.3, 0.1]), 10.0)
    settings = Settings(correlation=0.0, floor=1e-12, beside_counts=1.0)
    pooled = pool(3, [seen({1, 2}, 0.8, 10)], [expert], settings)
    assert pooled.mean[1] + pooled.mean[2] == pytest.approx((10 * 0.4 + 8) / 20)
    assert pooled.mean[1] / pooled.mean[2] == pytest.approx(3.0)


def test_union_and_part_together_reach_the_maximum_likelihood() -> None:
    """With 60 of 100 in a or b and 20 of 100 in a alone, the mean is 0.2, 0.4 and 0.4."""
    figures = [seen({0, 1}, 0.6, 1e6), seen({0}, 0.2, 1e6)]
    pooled = pool(3, figures, (), PLAIN)
    assert pooled.mean == pytest.approx([0.2, 0.4, 0.4], abs=1e-4)


def test_an_interval_becomes_the_patients_of_the_same_variance() -> None:
    """30 % with a 95 % interval of 20 to 40 % has the standard deviation of 79.7 patients."""
    sd = 0.2 / (2 * 1.959964)
    assert interval_count(0.3, 0.2, 0.4) == pytest.approx(0.21 / sd**2 - 1)
    assert interval_count(0.3, 0.2, 0.4) == pytest.approx(79.67, abs=0.01)
    assert interval_count(0.5, 0.0, 1.0) == pytest.approx(2.84, abs=0.01)
    assert interval_count(0.0, 0.0, 0.9) == 1.0


def test_a_registry_counts_no_more_than_the_inverse_correlation() -> None:
    """84,836 patients of one registry count as fewer than 1 / 0.02 = 50."""
    settings = Settings(correlation=0.02)
    pooled = pool(2, [seen({1}, 0.1, 84_836)], (), settings)
    assert pooled.literature == pytest.approx(84_836 / (1 + 84_835 * 0.02))
    assert 49.9 < pooled.literature < 50


def test_the_moment_estimate_of_the_correlation_by_hand() -> None:
    """Series of 20 with 2, 10 and 18 events: Q = 25.6, estimate 23.6 / 38, shrunk to the prior."""
    q = 20 * (0.4**2 + 0.4**2) / 0.25
    estimate = (q - 2) / (3 * (2 / 3) * 19)
    assert q == pytest.approx(25.6)
    found = intraclass_correlation([0.1, 0.5, 0.9], [20, 20, 20], 0.02, 2.0)
    assert found == pytest.approx((0.02 * 2 + estimate * 2) / 4)


def test_conflicting_series_widen_the_distribution() -> None:
    """Two series of 10 and 90 % weigh less together than two series of 50 %."""
    conflict = pool(2, [seen({1}, 0.1, 40), seen({1}, 0.9, 40, study="b")], (), Settings())
    harmony = pool(2, [seen({1}, 0.5, 40), seen({1}, 0.5, 40, study="b")], (), Settings())
    assert conflict.mean == pytest.approx(harmony.mean, abs=1e-6)
    assert conflict.correlation > 5 * harmony.correlation
    assert conflict.ess < harmony.ess / 3


def test_recalled_figures_weigh_their_fixed_two_patients() -> None:
    """A recalled percentage adds its declared weight whatever the over-dispersion is."""
    settings = Settings(correlation=0.5)
    pooled = pool(2, [seen({1}, 0.9, 2, fixed=True, counted=False)], (), settings)
    assert pooled.literature == pytest.approx(2)
    assert pooled.mean[1] == pytest.approx((0.5 + 1.8) / 3)
    assert pooled.grade == "estimated"


def test_figures_of_one_study_share_its_patients() -> None:
    """Two figures on the same fifty patients weigh as one study of fifty, not as two."""
    settings = Settings(correlation=0.0, floor=1e-12, default_count=1e-3)
    one, two = seen({0}, 0.5, 50, study="s"), seen({1}, 0.3, 50, study="s")
    apart = pool(3, [seen({0}, 0.5, 50), seen({1}, 0.3, 50)], (), settings)
    shared = pool(3, [one, two], (), settings)
    assert apart.literature == pytest.approx(100)
    assert shared.literature == pytest.approx(50)
    assert shared.mean == pytest.approx([0.5, 0.3, 0.2], abs=1e-3)


def test_experts_who_agree_keep_their_weight() -> None:
    """Two identical columns of weight 6 pool to the same column of weight 6."""
    column = np.array([0.2, 0.3, 0.5])
    pair = [ExpertColumn("A", column, 6.0), ExpertColumn("B", column, 6.0)]
    mean, ess = pool_experts(pair, 3, Settings())
    assert mean == pytest.approx(column)
    assert ess == pytest.approx(6.0)


def test_experts_who_disagree_widen_the_distribution() -> None:
    """The variance is that within plus that between the experts (law of total variance)."""
    pair = [
        ExpertColumn("A", np.array([0.8, 0.2]), 6.0),
        ExpertColumn("B", np.array([0.4, 0.6]), 6.0),
    ]
    mean, ess = pool_experts(pair, 2, Settings())
    within = (0.16 / 7 + 0.24 / 7) / 2
    assert mean == pytest.approx([0.6, 0.4])
    assert ess == pytest.approx(0.24 / (within + 0.04) - 1)
    assert ess < 6


def test_counts_outweigh_the_experts() -> None:
    """Beside forty counted patients two experts weigh half, and the mean lies at the counts."""
    experts = [ExpertColumn(x, np.array([0.9, 0.1]), 6.0) for x in "AB"]
    pooled = pool(2, [seen({1}, 0.8, 40)], experts, PLAIN)
    assert pooled.alpha == pytest.approx([2.7 + 8, 0.3 + 32])
    assert pooled.grade == "counted"
    assert pool(2, (), experts, PLAIN).grade == "expert"


def test_silence_is_a_declared_default() -> None:
    """Without figures and experts the column is uniform, weighs one patient, grade assumed."""
    pooled = pool(4, (), (), Settings())
    assert pooled.mean == pytest.approx([0.25] * 4)
    assert pooled.ess == pytest.approx(1.0)
    assert pooled.grade == "assumed"


# -------------------------------------------------------------------- groups


def phases(literature: float = 0.0) -> list[Pooled]:
    """Make three columns (the phases of a hematoma)."""
    means = ([0.7, 0.3], [0.5, 0.5], [0.2, 0.8])
    return [Pooled(np.array(m), 6.0, "expert", literature=literature) for m in means]


def test_a_figure_on_a_group_moves_all_members_and_meets_the_mixture() -> None:
    """Forty patients of any phase move every phase; their mixture is the pooled mean."""
    shares = [0.6, 0.3, 0.1]
    before = np.array(shares) @ np.stack([m.mean for m in phases()])
    moved = pool_group(phases(), shares, [seen({1}, 0.9, 40)], PLAIN)
    mixture = np.array(shares) @ np.stack([m.mean for m in moved])
    expected = (3 * before[1] + 36) / 43  # six patients' worth of experts count half
    assert mixture[1] == pytest.approx(expected)
    for old, new in zip(phases(), moved, strict=True):
        assert new.mean[1] > old.mean[1]
        assert new.rows == ("[1]:0.9:40",)
    assert moved[0].mean[1] < moved[1].mean[1] < moved[2].mean[1]


def test_a_group_keeps_the_odds_ratios_between_its_members() -> None:
    """One factor per state: the odds ratio between two phases is what it was."""
    moved = pool_group(phases(), [0.6, 0.3, 0.1], [seen({1}, 0.9, 40)], PLAIN)

    def odds(p: Pooled) -> float:
        return float(p.mean[1] / p.mean[0])

    old = phases()
    assert odds(moved[2]) / odds(moved[0]) == pytest.approx(odds(old[2]) / odds(old[0]))


# ---------------------------------------------------------------------- laws


@st.composite
def figures(draw: st.DrawFn) -> tuple[int, list[Observation], list[ExpertColumn]]:
    """Draw a number of states, figures about them and up to two experts."""
    states = draw(st.integers(2, 5))
    count = draw(st.integers(0, 6))
    found = []
    for i in range(count):
        members = draw(st.sets(st.integers(0, states - 1), min_size=1, max_size=states - 1))
        share = draw(st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.9, 1.0]))
        size = draw(st.sampled_from([1.0, 5.0, 30.0, 400.0, 84_836.0]))
        study = draw(st.sampled_from(["s", f"own{i}"]))
        fixed = draw(st.booleans())
        found.append(
            Observation(
                frozenset(members),
                share,
                2.0 if fixed else size,
                not fixed,
                f"r{i}" if fixed else study,
                fixed,
                f"row{i}",
            )
        )
    experts = []
    for name in draw(st.sampled_from(["", "A", "AB"])):
        weights = np.array(
            draw(st.lists(st.sampled_from([0.0, 1.0, 2.0, 7.0]), min_size=states, max_size=states))
        )
        weights = weights + 0.1
        experts.append(ExpertColumn(name, weights / weights.sum(), draw(st.floats(1, 6))))
    return states, found, experts


@given(figures())
def test_every_pool_is_a_distribution_without_zeros(
    drawn: tuple[int, list[Observation], list[ExpertColumn]],
) -> None:
    """Means sum to 1, none is below nearly the floor, and the weights are positive and finite."""
    states, found, experts = drawn
    settings = Settings()
    pooled = pool(states, found, experts, settings)
    assert pooled.mean.sum() == pytest.approx(1.0, abs=1e-12)
    assert pooled.mean.min() >= settings.floor / (1 + states * settings.floor)
    assert 0 < pooled.ess < np.inf
    assert pooled.literature <= pooled.ess + 1e-9
    assert pooled.rows == tuple(o.row for o in found)


@given(figures(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(
    drawn: tuple[int, list[Observation], list[ExpertColumn]], random: object
) -> None:
    """Shuffled figures pool to the same column."""
    states, found, experts = drawn
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first = pool(states, found, experts, Settings())
    second = pool(states, shuffled, experts, Settings())
    assert second.mean == pytest.approx(first.mean, abs=1e-9)
    assert second.ess == pytest.approx(first.ess)
    assert second.grade == first.grade


@given(figures(), st.data())
def test_permuting_the_states_permutes_the_column(
    drawn: tuple[int, list[Observation], list[ExpertColumn]], data: st.DataObject
) -> None:
    """No state is special: renumbered states give the renumbered column."""
    states, found, experts = drawn
    order = data.draw(st.permutations(range(states)))
    place = {old: new for new, old in enumerate(order)}
    renamed = [
        Observation(
            frozenset(place[s] for s in o.states),
            o.share,
            o.count,
            o.counted,
            o.study,
            o.fixed,
            o.row,
        )
        for o in found
    ]
    moved = [ExpertColumn(e.expert, e.mean[list(order)], e.ess) for e in experts]
    first = pool(states, found, experts, Settings())
    second = pool(states, renamed, moved, Settings())
    assert second.mean == pytest.approx(first.mean[list(order)], abs=1e-9)
    assert second.ess == pytest.approx(first.ess)


@given(
    st.floats(0, 1),
    st.floats(1, 1e5),
    st.floats(1.01, 100),
    st.sampled_from([0.0, 0.02, 0.3]),
)
def test_more_patients_weigh_more(
    share: float, count: float, factor: float, correlation: float
) -> None:
    """A larger series never weighs less, and its mean comes nearer to the printed share."""
    settings = Settings(correlation=correlation)
    small = pool(2, [seen({1}, share, count)], (), settings)
    large = pool(2, [seen({1}, share, count * factor)], (), settings)
    assert large.ess >= small.ess
    assert abs(large.mean[1] - share) <= abs(small.mean[1] - share) + settings.floor


@given(
    st.lists(st.floats(0, 1), min_size=0, max_size=6),
    st.lists(st.floats(1, 1000), min_size=6, max_size=6),
)
def test_the_correlation_is_a_correlation(shares: list[float], counts: list[float]) -> None:
    """The intraclass correlation lies in 0 to 0.9 whatever the series are."""
    found = intraclass_correlation(shares, counts[: len(shares)], 0.02, 2.0)
    assert 0 <= found <= 0.9
