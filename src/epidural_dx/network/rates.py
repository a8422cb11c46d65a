r"""Competing rates: from yearly rates per 100,000 to the weight of every mechanism.

A lesion's mechanism :math:`m` arises in a person with conditions :math:`c` at the rate

.. math:: \lambda_m(c) = r_m \prod_j f_{mj}(c_j),

a product over single conditions. Published and elicited rates are marginal totals ("hematoma in
people on anticoagulants"), so the scales :math:`r_m` of mechanisms with a driver are what is left
of the total after every other mechanism of the same cause, never below zero:

.. math:: R_k = \sum_m r_m\, E\Bigl[\prod_j f_{mj}(c_j) \,\Big|\, c_k\Bigr],

solved for all drivers of a cause together by non-negative least squares on relative residuals.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from epidural_dx.errors import ModelError
from epidural_dx.literature.rows import Place, read_table

Array = NDArray[np.float64]
COLUMNS = (
    "id,cause,given,given_state,age_group,kind,rate_per_100k_year,scenario,use,expert,source_id,"
    "grade,note"
).split(",")


@dataclass(frozen=True)
class RateFigure:
    """One rate per 100,000 person-years: of a cause, in people with one condition."""

    id: str
    cause: str
    given: str
    state: str
    age_group: str
    kind: str
    rate: float
    scenario: str
    use: str
    source_id: str
    grade: str
    note: str = ""


@dataclass(frozen=True)
class PooledRate:
    """Geometric mean of several figures of one rate.

    Attributes
    ----------
    rate : float
        Per 100,000 person-years.
    log_sd : float
        Standard deviation of the logarithm: spread between the figures, never below the declared
        uncertainty of one figure.
    rows : tuple of str
    """

    rate: float
    log_sd: float
    rows: tuple[str, ...]


@dataclass(frozen=True)
class RateCheck:
    """A figure against the rate that the fitted model implies for the same people.

    Attributes
    ----------
    cause, given, state : str
    figure, implied : float
        Per 100,000 person-years.
    used : bool
        Whether the figure was fitted; the others are compared only.
    rows : tuple of str
    log_sd : float
        Uncertainty of the figure (:class:`PooledRate`).
    note : str
        What the file says of the figure, such as why the model has no mechanism for it.
    """

    cause: str
    given: str
    state: str
    figure: float
    implied: float
    used: bool
    rows: tuple[str, ...]
    log_sd: float
    note: str = ""

    @property
    def deviation(self) -> float:
        """Logarithm of implied over figure, in standard deviations of the figure."""
        return float(np.log(max(self.implied, TINY) / self.figure)) / self.log_sd

    @property
    def verdict(self) -> str:
        """One of :data:`VERDICTS`."""
        if abs(self.implied / self.figure - 1) <= MET:
            return "met"
        return "within" if abs(self.deviation) < NOTABLE else "differs"


#: What is said of a figure: met, missed by less than it is uncertain by, or by more.
VERDICTS = ("met", "within", "differs")
#: A relative difference up to this is none.
MET = 0.1
#: Standard deviations from which a difference matters.
NOTABLE = 2.0
#: Stands for a rate of nothing.
TINY = 1e-9

#: Uncertainty (log standard deviation) of a single elicited rate: a factor of two either way
#: holds about two thirds of the belief; experts' own first estimates moved by that much.
SINGLE_LOG_SD = float(np.log(2.0))


def read_rates(folder: Path) -> tuple[RateFigure, ...]:
    """Read ``rates.csv``.

    Raises
    ------
    ModelError
        A rate that is no positive number or stands twice, an unknown use, or a malformed file.
    """
    path = folder / "rates.csv"
    figures: list[RateFigure] = []
    seen: set[str] = set()
    for line, row in read_table(path, COLUMNS):
        where: Place = {"file": str(path), "line": line, "name": row["id"]}
        if row["id"] in seen:
            raise ModelError("the rate stands twice", **where)
        seen.add(row["id"])
        try:
            rate = float(row["rate_per_100k_year"])
        except ValueError:
            rate = -1.0
        if not 0 < rate < np.inf:
            raise ModelError(
                f"rate_per_100k_year must be a positive number, got {row['rate_per_100k_year']!r}",
                **where,
            )
        if row["use"] not in ("fit", "check"):
            raise ModelError(f"use {row['use']!r} is neither fit nor check", **where)
        if not row["source_id"]:
            raise ModelError("the rate has no source_id", **where)
        figures.append(
            RateFigure(
                id=row["id"],
                cause=row["cause"],
                given=row["given"],
                state=row["given_state"],
                age_group=row["age_group"],
                kind=row["kind"],
                rate=rate,
                scenario=row["scenario"],
                use=row["use"],
                source_id=row["source_id"],
                grade=row["grade"],
                note=row["note"],
            )
        )
    return tuple(figures)


def pool_rates(rates: Sequence[float], rows: Sequence[str]) -> PooledRate:
    """Pool figures of one rate on the logarithmic scale."""
    logs = np.log(np.asarray(rates, dtype=float))
    between = float(logs.std(ddof=1)) if len(logs) > 1 else 0.0
    return PooledRate(
        rate=float(np.exp(logs.mean())),
        log_sd=float(np.hypot(between, SINGLE_LOG_SD / np.sqrt(len(logs)))),
        rows=tuple(rows),
    )


class RateTable:
    """Look up pooled rates by cause, condition, state, age group and kind.

    Parameters
    ----------
    figures : sequence of RateFigure
    contexts : collection of str
        Figures of these settings replace the general ones with the same key.
    share : float
        Share of the people who live in those settings; the others have the general figures.
    """

    def __init__(
        self, figures: Sequence[RateFigure], contexts: Collection[str] = (), share: float = 1.0
    ) -> None:
        self._share = share
        self._general: dict[tuple[str, str, str, str, str], list[RateFigure]] = {}
        self._own: dict[tuple[str, str, str, str, str], list[RateFigure]] = {}
        for figure in figures:
            if figure.use != "fit":
                continue
            key = (figure.cause, figure.given, figure.state, figure.age_group, figure.kind)
            if figure.scenario in contexts:
                self._own.setdefault(key, []).append(figure)
            elif not figure.scenario:
                self._general.setdefault(key, []).append(figure)

    def find(
        self, cause: str, given: str = "", state: str = "", age_group: str = "", kind: str = "total"
    ) -> PooledRate | None:
        """Return the pooled rate, or None where no figure stands."""
        key = (cause, given, state, age_group, kind)
        own, general = (
            pool_rates([f.rate for f in figures], [f.id for f in figures]) if figures else None
            for figures in (self._own.get(key), self._general.get(key))
        )
        if own is None or general is None or self._share == 1:
            return own or general
        return PooledRate(
            rate=self._share * own.rate + (1 - self._share) * general.rate,
            log_sd=max(own.log_sd, general.log_sd),
            rows=(*own.rows, *general.rows),
        )

    def need(
        self, cause: str, given: str = "", state: str = "", age_group: str = "", kind: str = "total"
    ) -> PooledRate:
        """Return the pooled rate.

        Raises
        ------
        ModelError
            No figure for it stands in ``rates.csv``.
        """
        found = self.find(cause, given, state, age_group, kind)
        if found is None:
            what = " ".join(x for x in (kind, cause, given, state, age_group) if x)
            raise ModelError(f"no rate for {what}", file="rates.csv", name=cause)
        return found


def solve_excess(totals: Array, fixed: Array, exposure: Array) -> Array:
    """Scales of the mechanisms with a driver.

    Parameters
    ----------
    totals : ndarray, shape (figures,)
        Marginal totals, one per driver.
    fixed : ndarray, shape (figures,)
        Rate of the mechanisms whose scale is known (baselines) in the same people.
    exposure : ndarray, shape (figures, mechanisms)
        E[product of factors | condition of the figure] for every mechanism with unknown scale.

    Returns
    -------
    ndarray, shape (mechanisms,)
        Non-negative; relative residuals are minimised in least squares.
    """
    target = np.maximum(totals - fixed, 0.0) / totals
    solution, _ = nnls(exposure / totals[:, None], target)
    return np.asarray(solution, dtype=np.float64)


def factor_product(factors: Mapping[str, Array], variable: str, size: int) -> Array:
    """Return the factor on `variable`, or ones where the mechanism does not depend on it."""
    return factors.get(variable, np.ones(size))
