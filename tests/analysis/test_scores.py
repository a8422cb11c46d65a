"""Scores of forecasts against numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from epidural_dx.analysis.scores import (
    brier_scores,
    calibration_error,
    calibration_table,
    log_scores,
    paired_difference,
    ranks,
    wilson,
)

FORECASTS = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]])
TRUTH = np.array([0, 2, 1])


def test_ranks_count_ties_against_the_truth() -> None:
    """The true class is first, last, and second where it shares the lead."""
    assert ranks(FORECASTS, TRUTH).tolist() == [1, 3, 2]


def test_log_and_brier_scores_match_a_hand_computation() -> None:
    """Three forecasts have the scores that a pocket calculator gives."""
    own = np.eye(3, dtype=bool)[TRUTH]
    assert log_scores(FORECASTS, own) == pytest.approx(np.log([0.7, 0.2, 0.4]))
    assert brier_scores(FORECASTS, TRUTH) == pytest.approx(
        [0.09 + 0.04 + 0.01, 0.25 + 0.09 + 0.64, 0.16 + 0.36 + 0.04]
    )


def test_a_union_scores_the_sum_of_its_classes() -> None:
    """Accepting a second class adds its probability before the logarithm."""
    accepted = np.array([[True, True, False]] * 3)
    assert log_scores(FORECASTS, accepted) == pytest.approx(np.log([0.9, 0.8, 0.8]))


def test_calibration_error_weighs_the_gap_of_every_bin() -> None:
    """Two bins, gaps 0.2 and 0.1 of three and one forecasts, give their weighted mean."""
    confidence = np.array([0.4, 0.5, 0.3, 0.9])
    correct = np.array([1.0, 0.0, 1.0, 1.0])
    # the lower bin: stated 0.4, observed 2/3
    expected = (3 * abs(2 / 3 - 0.4) + 1 * abs(1 - 0.9)) / 4
    assert calibration_error(confidence, correct, (0, 0.5, 1)) == pytest.approx(expected)
    table = calibration_table(confidence, correct, (0, 0.5, 1))
    assert [one.n for one in table] == [3, 1]
    assert table[0].stated == pytest.approx(0.4)
    assert table[0].observed == pytest.approx(2 / 3)


def test_an_empty_bin_says_that_it_knows_nothing() -> None:
    """A bin without forecasts has no observed share and the widest band."""
    low, high = calibration_table(np.array([0.9]), np.array([1.0]), (0, 0.5, 1))
    assert (low.stated, low.observed, low.lower, low.upper) == (None, None, 0.0, 1.0)
    assert high.n == 1


@pytest.mark.parametrize(("hits", "total"), [(0, 5), (3, 7), (46, 46)])
def test_the_band_is_that_of_wilson(hits: int, total: int) -> None:
    """The band of a proportion agrees with scipy's."""
    reference = binomtest(hits, total).proportion_ci(method="wilson")
    assert wilson(hits, total) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_a_paired_difference_has_the_sign_and_size_of_the_gap() -> None:
    """A forecaster that is better by 0.5 in every case is better by exactly that, surely."""
    base = np.log(np.array([0.2, 0.9, 0.4, 0.1]))
    gap = paired_difference(base + 0.5, base, seed=3)
    assert gap.mean == pytest.approx(0.5)
    assert (gap.lower, gap.upper) == pytest.approx((0.5, 0.5))
    assert (gap.share_positive, gap.better, gap.worse) == (1.0, 4, 0)
    assert paired_difference(base, base + 0.5).mean == pytest.approx(-0.5)


def test_the_bootstrap_interval_has_the_width_of_the_standard_error() -> None:
    """The interval of a mean of many cases is about 1.96 standard errors either way."""
    generator = np.random.default_rng(5)
    gap = generator.normal(0.1, 1.0, size=400)
    found = paired_difference(gap, np.zeros(400), times=4000, seed=1)
    error = gap.std(ddof=1) / math.sqrt(400)
    assert (found.upper - found.lower) / 2 == pytest.approx(1.96 * error, rel=0.08)
    again = paired_difference(gap, np.zeros(400), times=4000, seed=1)
    assert again == found


def test_scores_of_different_cases_are_not_paired() -> None:
    """Two vectors of different length are refused."""
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_difference(np.zeros(3), np.zeros(2))
