r"""Pool published figures and expert tables into one Dirichlet per cell.

Arrays only: states are positions, a figure is a set of positions with a share and a count.

Formulas
--------
Over-dispersion. Series of one disease differ by more than chance. With series :math:`i` of
:math:`n_i` patients and shares :math:`p_i` of the same state, the intraclass correlation is the
moment estimate of Kleinman (J Am Stat Assoc 1973;68:46),

.. math:: \hat\rho = \frac{Q - (K - 1)}{\sum_i (1 - n_i/N)(n_i - 1)},\qquad
          Q = \sum_i \frac{n_i (p_i - \bar p)^2}{\bar p (1 - \bar p)},

shrunk towards a declared prior correlation. A series then counts as
:math:`n_i / (1 + (n_i - 1)\rho)` patients, which caps every registry at :math:`1/\rho`. A
series of other people than the model's (``indirect.csv``) differs by more, so a larger
correlation is declared for it (indirectness as in GRADE: Guyatt et al., J Clin Epidemiol
2011;64:1303).

Unions. A figure on a union of states ("partial or complete") states a sum. Its count is spread
over the members in proportion to the present mean, until nothing changes (expectation
maximisation for grouped multinomial counts; Dempster, Laird, Rubin, J R Stat Soc B 1977;39:1).

Experts. Means are pooled linearly with their effective sample sizes as weights; the variance is
the mean variance within experts plus the variance between them (law of total variance), and the
effective sample size is the one whose Dirichlet has that variance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GRADES = ("counted", "estimated", "expert", "assumed")


@dataclass(frozen=True)
class Settings:
    """Declared weights of pooling, read from ``priors/pooling.yaml``."""

    seen: float = 1.0
    own_count: float = 0.5
    recalled_count: float = 2.0
    point_without_n: float = 5.0
    interval_cap: float = 50.0
    correlation: float = 0.02
    correlation_studies: float = 2.0
    indirect_correlation: float = 0.18
    expert_cap: float = 6.0
    published_basis: float = 0.25
    beside_counts: float = 0.5
    default_count: float = 1.0
    floor: float = 0.0005
    log_sd_cap: float = 1.0
    prevalence_log_sd: float = 0.49


@dataclass(frozen=True)
class Observation:
    """One figure about one cell: the share of a set of states.

    Attributes
    ----------
    states : frozenset of int
        Positions of the states whose sum the figure states.
    share : float
        In 0..1.
    count : float
        Effective patients before over-dispersion.
    counted : bool
        True if k of n was printed (grade *counted*), False for a percentage or range.
    study : str
        Figures with the same study share their patients.
    fixed : bool
        True for recalled figures, whose small weight over-dispersion does not touch.
    row : str
        Id of the literature row.
    indirect : bool
        True where the figure's people or definition are not those of the cell.
    """

    states: frozenset[int]
    share: float
    count: float
    counted: bool
    study: str
    fixed: bool
    row: str
    indirect: bool = False


@dataclass(frozen=True)
class ExpertColumn:
    """One expert's distribution over the states (``mean`` sums to 1) and its weight."""

    expert: str
    mean: Array
    ess: float


@dataclass(frozen=True)
class Pooled:
    """One pooled cell column: a Dirichlet with its provenance.

    Attributes
    ----------
    mean : ndarray, shape (states,)
        Sums to 1, no zeros.
    ess : float
        Effective sample size; ``mean * ess`` are the Dirichlet's parameters.
    grade : {"counted", "estimated", "expert", "assumed"}
        What most of the weight rests on.
    rows : tuple of str
        Ids of the literature rows that fed it.
    literature : float
        Effective patients that came from the literature.
    correlation : float
        Intraclass correlation used for the series.
    """

    mean: Array
    ess: float
    grade: str
    rows: tuple[str, ...] = ()
    literature: float = 0.0
    counted: float = 0.0
    correlation: float = 0.0
    experts: tuple[str, ...] = field(default=())

    @property
    def alpha(self) -> Array:
        """Dirichlet parameters, shape (states,)."""
        return self.mean * self.ess


def interval_count(share: float, low: float, high: float) -> float:
    """Patients whose binomial 95 % interval has the printed width (moment matching).

    Parameters
    ----------
    share, low, high : float
        Proportion and its printed limits, in 0..1.

    Returns
    -------
    float
        ``share (1 - share) / sd**2 - 1`` with ``sd = (high - low) / (2 * 1.96)``, at least 1.
    """
    sd = max((high - low) / (2 * 1.959964), 1e-9)
    inside = min(max(share, 0.005), 0.995)
    return max(1.0, inside * (1 - inside) / sd**2 - 1)


def intraclass_correlation(
    shares: Sequence[float], counts: Sequence[float], prior: float, prior_studies: float
) -> float:
    """Moment estimate of the correlation within series, shrunk to `prior` (module docstring)."""
    n = np.asarray(counts, dtype=float)
    p = np.asarray(shares, dtype=float)
    keep = n > 1
    n, p = n[keep], p[keep]
    series = len(n)
    if series < 2:
        return prior
    total = n.sum()
    centre = float(np.clip((n * p).sum() / total, 0.5 / total, 1 - 0.5 / total))
    heterogeneity = float((n * (p - centre) ** 2).sum() / (centre * (1 - centre)))
    denominator = float(((1 - n / total) * (n - 1)).sum())
    estimate = max(0.0, (heterogeneity - (series - 1)) / denominator) if denominator > 0 else 0.0
    weight = prior_studies + series - 1
    return float(min(0.9, (prior * prior_studies + min(estimate, 0.9) * (series - 1)) / weight))


def pool_experts(
    columns: Sequence[ExpertColumn], states: int, settings: Settings
) -> tuple[Array, float]:
    """Linear pool of experts whose disagreement widens the result.

    Returns
    -------
    mean : ndarray, shape (states,)
    ess : float
        Zero where no expert spoke.
    """
    if not columns:
        return np.full(states, 1.0 / states), 0.0
    weights = np.array([c.ess for c in columns])
    weights = weights / weights.sum()
    means = np.stack([c.mean for c in columns])
    mean = weights @ means
    within = np.stack([c.mean * (1 - c.mean) / (c.ess + 1) for c in columns])
    variance = weights @ within + weights @ (means - mean) ** 2
    spread = mean * (1 - mean)
    # One concentration for the whole column: the ratio of the sums weighs each state by its spread.
    ess = float(spread.sum() / max(variance.sum(), 1e-12) - 1)
    return mean, max(ess, 0.5)


def pool(
    states: int,
    observations: Sequence[Observation],
    experts: Sequence[ExpertColumn],
    settings: Settings,
    prior: tuple[Array, float] | None = None,
) -> Pooled:
    """Pool figures and experts of one cell column into a Dirichlet.

    Parameters
    ----------
    states : int
        Number of states.
    observations : sequence of Observation
        Published figures on states or unions of states.
    experts : sequence of ExpertColumn
        The experts' distributions.
    settings : Settings
        Declared weights.
    prior : (ndarray, float), optional
        Mean and effective size to start from instead of the experts.

    Returns
    -------
    Pooled
    """
    correlation, sizes = _effective_counts(observations, settings)
    literature = sum(sizes)
    if prior is None:
        if literature > 2 * settings.recalled_count:
            experts = [
                ExpertColumn(c.expert, c.mean, c.ess * settings.beside_counts) for c in experts
            ]
        mean, ess = pool_experts(experts, states, settings)
    else:
        mean, ess = prior
    assumed = ess == 0.0
    if assumed:
        ess = settings.default_count
    start = np.maximum(mean, settings.floor)
    start = start / start.sum() * ess
    alpha = _spread_unions(start, observations, sizes)
    total = float(alpha.sum())
    mean = np.maximum(alpha / total, settings.floor)
    mean = mean / mean.sum()
    counted = sum(s for s, o in zip(sizes, observations, strict=True) if o.counted)
    if counted >= 0.5 * total:
        grade = "counted"
    elif literature >= 0.5 * total:
        grade = "estimated"
    elif assumed:
        grade = "assumed"
    else:
        grade = "expert"
    return Pooled(
        mean=mean,
        ess=total,
        grade=grade,
        rows=tuple(dict.fromkeys(o.row for o in observations)),
        literature=literature,
        counted=counted,
        correlation=correlation,
        experts=tuple(c.expert for c in experts),
    )


def _effective_counts(
    observations: Sequence[Observation], settings: Settings
) -> tuple[float, list[float]]:
    """Correlation of the cell, and effective patients per figure.

    Figures of one study share one set of patients, so each brings an equal part of them: the
    parts add up to the study once. The correlation is estimated from the set of states with the
    most patients, the more cautious (larger) one of several equally large sets.
    """
    by_set: dict[frozenset[int], list[Observation]] = {}
    for o in observations:
        if not o.fixed:
            by_set.setdefault(o.states, []).append(o)
    correlation = settings.correlation
    if by_set:
        patients = {s: math.fsum(o.count for o in group) for s, group in by_set.items()}
        most = max(patients.values())
        correlation = max(
            intraclass_correlation(
                [o.share for o in group],
                [o.count for o in group],
                settings.correlation,
                settings.correlation_studies,
            )
            for s, group in by_set.items()
            if patients[s] == most
        )
    per_study: dict[str, int] = {}
    for o in observations:
        per_study[o.study] = per_study.get(o.study, 0) + 1
    sizes = []
    for o in observations:
        within = max(correlation, settings.indirect_correlation) if o.indirect else correlation
        size = o.count if o.fixed else o.count / (1 + max(o.count - 1, 0) * within)
        sizes.append(size / per_study[o.study])
    return correlation, sizes


def _spread_unions(
    start: Array, observations: Sequence[Observation], sizes: Sequence[float]
) -> Array:
    """Dirichlet parameters after spreading grouped counts by expectation maximisation."""
    if not observations:
        return start
    states = len(start)
    inside = np.zeros((len(observations), states))
    for row, o in zip(inside, observations, strict=True):
        row[list(o.states)] = 1.0
    share = np.array([o.share for o in observations])
    size = np.asarray(sizes)
    alpha = start.copy()
    for _ in range(500):
        mean = alpha / alpha.sum()
        within = inside * mean
        outside = (1 - inside) * mean
        within /= np.maximum(within.sum(1, keepdims=True), 1e-300)
        rest = outside.sum(1, keepdims=True)
        outside = np.where(rest > 0, outside / np.maximum(rest, 1e-300), 0.0)
        new = start + (size * share) @ within + (size * (1 - share)) @ outside
        if np.max(np.abs(new - alpha)) < 1e-10:
            alpha = new
            break
        alpha = new
    return alpha


def pool_group(
    members: Sequence[Pooled],
    shares: Sequence[float],
    observations: Sequence[Observation],
    settings: Settings,
) -> list[Pooled]:
    """Let figures about a mixture of columns move all its columns together.

    A series of hematomas of any age constrains the mixture of its three phases, not each phase.
    The mixture's mean is pooled with the figures; the members are then tilted by one factor per
    state so that their mixture equals the pooled mean, and gain its effective size.

    Parameters
    ----------
    members : sequence of Pooled
        The columns of the mixture.
    shares : sequence of float
        Their shares in the mixture.
    observations : sequence of Observation
        Figures about the mixture.
    settings : Settings
        Declared weights.
    """
    weights = np.asarray(shares, dtype=float)
    weights = weights / weights.sum()
    columns = np.stack([m.mean for m in members])
    states = columns.shape[1]
    before = weights @ columns
    size = float(weights @ np.array([m.ess for m in members]))
    has_literature = any(m.literature > 0 for m in members)
    start = size if has_literature else size * settings.beside_counts
    pooled = pool(states, observations, (), settings, prior=(before, max(start, 0.5)))
    tilt = np.ones(states)
    for _ in range(500):
        moved = columns * tilt
        moved /= moved.sum(1, keepdims=True)
        mixture = weights @ moved
        ratio = pooled.mean / np.maximum(mixture, 1e-300)
        tilt *= ratio
        if np.max(np.abs(ratio - 1)) < 1e-10:
            break
    moved = np.maximum(columns * tilt, 0)
    moved /= moved.sum(1, keepdims=True)
    result = []
    for member, mean, weight in zip(members, moved, weights, strict=True):
        mean = np.maximum(mean, settings.floor)
        # of a series of the mixture only the member's share are its own patients
        gained = weight * pooled.literature
        ess = member.ess * (1 if has_literature else settings.beside_counts) + gained
        counted = member.counted + weight * pooled.counted
        literature = member.literature + gained
        grade = (
            "counted"
            if counted >= 0.5 * ess
            else "estimated"
            if literature >= 0.5 * ess
            else member.grade
        )
        result.append(
            Pooled(
                mean=mean / mean.sum(),
                ess=ess,
                grade=grade,
                rows=tuple(dict.fromkeys((*member.rows, *pooled.rows))),
                literature=literature,
                counted=counted,
                correlation=max(member.correlation, pooled.correlation),
                experts=member.experts,
            )
        )
    return result


def settings_from(document: Mapping[str, object]) -> Settings:
    """Read :class:`Settings` from the mapping of ``pooling.yaml``.

    Raises
    ------
    KeyError
        A declared weight is missing.
    """

    def value(*path: str) -> float:
        node: object = document
        for key in path:
            node = node[key]  # type: ignore[index]
        return float(node["value"])  # type: ignore[index]

    return Settings(
        seen=value("quality", "seen"),
        own_count=value("quality", "own_count"),
        recalled_count=value("recalled_count"),
        point_without_n=value("point_without_n"),
        interval_cap=value("interval_cap"),
        correlation=value("overdispersion", "prior"),
        correlation_studies=value("overdispersion", "prior_studies"),
        indirect_correlation=value("overdispersion", "indirect"),
        expert_cap=value("experts", "cap"),
        published_basis=value("experts", "published_basis"),
        beside_counts=value("experts", "beside_counts"),
        default_count=value("default", "count"),
        floor=value("floor"),
        log_sd_cap=value("draws", "log_sd_cap"),
        prevalence_log_sd=value("draws", "prevalence_log_sd"),
    )
