r"""Scores of probability forecasts over one set of classes: arrays only.

In all functions ``forecasts`` has the shape (cases, classes) with rows that sum to 1 and ``truth``
the shape (cases,) with positions of the true class.

Formulas
--------
Log score: :math:`\ln p_{i,t_i}` (Good, J R Stat Soc B 1952;14:107), at most 0, higher is better.
Brier score, multi-class: :math:`\sum_c (p_{ic} - [c = t_i])^2` (Brier, Mon Weather Rev
1950;78:1), 0 to 2, lower is better. Expected calibration error: with bins :math:`B` of the
confidence in the leading class, :math:`\sum_B \frac{|B|}{n} |\mathrm{acc}(B) - \mathrm{conf}(B)|`
(Naeini, Cooper, Hauskrecht, AAAI 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

#: A probability that a report can print as a logarithm.
SMALLEST = 1e-300


def ranks(forecasts: Array, truth: Integers) -> Integers:
    """Rank of the true class, 1 for the leader; a tie counts against it.

    Returns
    -------
    ndarray, shape (cases,)
    """
    own = forecasts[np.arange(len(truth)), truth]
    return np.asarray((forecasts >= own[:, None]).sum(axis=1), dtype=np.int64)


def log_scores(forecasts: Array, accepted: Booleans) -> Array:
    """Natural logarithm of the probability of the accepted classes together.

    Parameters
    ----------
    forecasts : ndarray, shape (cases, classes)
    accepted : ndarray of bool, shape (cases, classes)
        The true class alone, or with other classes that are true too.

    Returns
    -------
    ndarray, shape (cases,)
    """
    return np.asarray(np.log(np.maximum((forecasts * accepted).sum(axis=1), SMALLEST)))


def brier_scores(forecasts: Array, truth: Integers) -> Array:
    """Multi-class Brier score of every case, shape (cases,)."""
    hit = np.zeros_like(forecasts)
    hit[np.arange(len(truth)), truth] = 1.0
    return np.asarray(((forecasts - hit) ** 2).sum(axis=1))


def bin_of(probabilities: Array, edges: Sequence[float]) -> Integers:
    """Bin of every probability: bin b is ``edges[b] < p <= edges[b + 1]``, the first holds 0.

    Parameters
    ----------
    probabilities : ndarray
    edges : sequence of float
        Rising from 0 to 1.
    """
    inner = np.asarray(edges[1:-1], dtype=float)
    return np.asarray(np.searchsorted(inner, probabilities, side="left"), dtype=np.int64)


def calibration_error(confidence: Array, correct: Array, edges: Sequence[float]) -> float:
    """Average the calibration error over bins, 0 to 1 (0 for no forecasts).

    Parameters
    ----------
    confidence, correct : ndarray, shape (forecasts,)
        Stated probability, and 1 where the event came true, else 0.
    edges : sequence of float
        Of the bins.
    """
    if not len(confidence):
        return 0.0
    bins = len(edges) - 1
    place = bin_of(confidence, edges)
    gap = np.bincount(place, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def wilson(hits: float, total: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """Score interval of a proportion (Wilson, J Am Stat Assoc 1927;22:209).

    Returns
    -------
    lower, upper : float
        (0, 1) for no observations.
    """
    if total <= 0:
        return 0.0, 1.0
    share = hits / total
    middle = share + z * z / (2 * total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, float((middle - half) / scale)), min(1.0, float((middle + half) / scale))


@dataclass(frozen=True)
class CalibrationBin:
    """One bin of a calibration table.

    Attributes
    ----------
    low, high : float
        Limits of the stated probability.
    n : int
        Forecasts in the bin.
    stated, observed : float or None
        Mean stated probability and share that came true; None where the bin is empty.
    lower, upper : float
        95 % band of the observed share (Wilson).
    """

    low: float
    high: float
    n: int
    stated: float | None
    observed: float | None
    lower: float
    upper: float


def calibration_table(
    confidence: Array, correct: Array, edges: Sequence[float]
) -> tuple[CalibrationBin, ...]:
    """Stated against observed, bin by bin; parameters as `calibration_error`."""
    place = bin_of(confidence, edges)
    table = []
    for b in range(len(edges) - 1):
        here = place == b
        n = int(here.sum())
        hits = float(correct[here].sum())
        lower, upper = wilson(hits, n)
        table.append(
            CalibrationBin(
                low=float(edges[b]),
                high=float(edges[b + 1]),
                n=n,
                stated=float(confidence[here].mean()) if n else None,
                observed=hits / n if n else None,
                lower=lower,
                upper=upper,
            )
        )
    return tuple(table)


def resamples(cases: int, times: int, seed: int) -> Integers:
    """Cases drawn with replacement for the bootstrap, shape (times, cases)."""
    return np.random.default_rng(seed).integers(0, cases, size=(times, cases))


def bootstrap_interval(
    statistic: Callable[[Integers], float], draws: Integers, confidence: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of a statistic of the cases (Efron, Ann Stat 1979;7:1).

    Parameters
    ----------
    statistic : callable
        Positions of cases (with repeats) to a number.
    draws : ndarray of int, shape (times, cases)
        From `resamples`.
    confidence : float
        Mass of the interval.

    Returns
    -------
    lower, upper : float
    """
    values = np.array([statistic(draw) for draw in draws])
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(values, [tail, 1 - tail])
    return float(lower), float(upper)


@dataclass(frozen=True)
class Difference:
    """Mean difference of a score of two forecasters on the same cases.

    Attributes
    ----------
    cases : int
    mean : float
        First minus second.
    lower, upper : float
        Bootstrap interval over cases.
    share_positive : float
        Share of the resamples in which the first is better.
    better, worse : int
        Cases in which the first scored higher, lower.
    """

    cases: int
    mean: float
    lower: float
    upper: float
    share_positive: float
    better: int
    worse: int


def paired_difference(
    first: Array, second: Array, *, times: int = 2000, seed: int = 1, confidence: float = 0.95
) -> Difference:
    """Paired bootstrap of the difference of two forecasters' scores, case by case.

    Parameters
    ----------
    first, second : ndarray, shape (cases,)
        Scores of the same cases in the same order, higher is better.
    times, seed, confidence
        Of the bootstrap.

    Raises
    ------
    ValueError
        Different numbers of cases, or none.
    """
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"scores of shape {first.shape} and {second.shape} cannot be paired")
    gap = first - second
    means = gap[resamples(len(gap), times, seed)].mean(axis=1)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(means, [tail, 1 - tail])
    return Difference(
        cases=len(gap),
        mean=float(gap.mean()),
        lower=float(lower),
        upper=float(upper),
        share_positive=float((means > 0).mean()),
        better=int((gap > 0).sum()),
        worse=int((gap < 0).sum()),
    )
