r"""Which study next: what it is worth to know a group of figures better.

A decision d has the value NB(d, θ) under parameters θ: with ``decision="cause"`` one names a cause
and gains 1 if it is right, so that NB(d, θ) = P(cause d | findings, θ); with
``decision="treatment"`` one chooses an action on the lesion and one on the marrow and gains the
utilities of ``priors/utilities.yaml`` (harms that depend on the patient's tests are left out).

.. math::

    EVPI = E_θ[\max_d NB(d, θ)] - \max_d E_θ[NB(d, θ)], \qquad
    EVPPI(φ) = E_φ[\max_d E[NB(d, θ) \mid φ]] - \max_d E_θ[NB(d, θ)]

with the inner expectation by regression on the draws (Strong, Oakley, Brennan, Med Decis Making
2014;34:311): each decision's gain over the present best, as a cubic in the normal scores of the
change that the group φ makes of it. A study of n patients on one column is worth

.. math:: EVSI = E_x[\max_d E[NB(d, θ) \mid x]] - \max_d E_θ[NB(d, θ)]

its results x being drawn from the column's own draws; E[. | x] re-weights the draws by their
likelihood (Menzies, Med Decis Making 2016;36:308). One more series differs from the others as
series do: its counts are Dirichlet-multinomial with the intraclass correlation of pooling, so n
patients of one hospital never settle a figure.

A *series* notes every finding in the same patients, so it informs all columns of one disease at
once. Its EVSI is by regression on what one would then believe (Strong, Oakley, Brennan, Breeze,
Med Decis Making 2015;35:570): every draw makes counts, the counts make the columns' posterior
means, and the gains are regressed on the change that these make of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from epidural_dx.analysis.attribution import (
    DEFAULT_DRAWS,
    FEWEST_DRAWS,
    JACKKNIFE,
    column_scores,
    hermite_basis,
)
from epidural_dx.analysis.parameters import Parameter, find_parameter, parameter_draws
from epidural_dx.analysis.sensitivity import OneWay, one_way
from epidural_dx.analysis.uncertainty import decision_values
from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import EvidenceError
from epidural_dx.network.parameters import ColumnKey

if TYPE_CHECKING:
    import pandas as pd

    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model, RawEvidence

Array = NDArray[np.float64]

#: Series that are drawn under every draw.
REPLICATES = 8
#: What EVPPI is given for.
LEVELS = ("parameter", "group", "cause")


def perfect_information(values: Array) -> float:
    """EVPI of one decision: shape (draws, decisions) of values."""
    return float(values.max(axis=1).mean() - values.mean(axis=0).max())


def fitted_values(values: Array, scores: Array) -> Array:
    """Regress every decision's gain over the best on the scores of a group.

    Parameters
    ----------
    values : ndarray, shape (draws, decisions)
    scores : ndarray, shape (draws, decisions)
        What the group does to each decision's gain over the best; the column of the best is
        not read.

    Returns
    -------
    ndarray, shape (draws, decisions)
        Expected gain over the best decision given the group; the best one's is 0.
    """
    best = int(values.mean(axis=0).argmax())
    gain = values - values[:, [best]]
    basis = hermite_basis(scores)
    fitted = np.zeros_like(gain)
    for d in range(gain.shape[1]):
        if d != best:
            design = np.column_stack([np.ones(len(gain)), basis[d]])
            coefficients, *_ = np.linalg.lstsq(design, gain[:, d], rcond=None)
            fitted[:, d] = design @ coefficients
    return fitted


def partial_information(values: Array, scores: Array) -> tuple[float, float]:
    """EVPPI of one group by regression, with its standard error by delete-a-group jackknife.

    Parameters
    ----------
    values, scores : ndarray, shape (draws, decisions)
        As in :func:`fitted_values`.

    Returns
    -------
    evppi, error : float
        Between 0 and EVPI.
    """
    block = np.arange(len(values)) * JACKKNIFE // len(values)
    cap = perfect_information(values)

    def estimate(keep: NDArray[np.bool_]) -> float:
        return perfect_information(fitted_values(values[keep], scores[keep]))

    now = estimate(np.ones(len(values), dtype=bool))
    parts = np.array([estimate(block != b) for b in range(JACKKNIFE)])
    error = float(np.sqrt((JACKKNIFE - 1) * np.mean((parts - parts.mean()) ** 2)))
    return float(np.clip(now, 0.0, cap)), error


@dataclass(frozen=True, eq=False)
class DecisionDraws:
    """Values of every decision under joint draws of the parameters.

    Attributes
    ----------
    decision : str
    functions : OneWay
        Sensitivity of P(lesion_cause | findings).
    values : tuple of ndarray, shape (draws, options)
        One array per independent choice; what is gained in total is their sum.
    options : tuple of tuple of str
    weights : tuple of ndarray, shape (options, causes)
        Mean value of each option by cause, for the direction in which a parameter works.
    parameters : mapping of key to ndarray
        The draws behind them.
    """

    decision: str
    functions: OneWay
    values: tuple[Array, ...]
    options: tuple[tuple[str, ...], ...]
    weights: tuple[Array, ...]
    parameters: dict[ColumnKey, Array]

    @property
    def best(self) -> tuple[str, ...]:
        """Option of every choice with the largest mean value."""
        return tuple(
            o[int(v.mean(axis=0).argmax())] for o, v in zip(self.options, self.values, strict=True)
        )

    @property
    def best_share(self) -> tuple[float, ...]:
        """Share of the draws in which that option is the best of its choice."""
        return tuple(
            float(np.mean(v.argmax(axis=1) == v.mean(axis=0).argmax())) for v in self.values
        )

    @property
    def perfect_information(self) -> float:
        """EVPI about the parameters, all choices together."""
        return sum(perfect_information(v) for v in self.values)

    @cached_property
    def _scores(self) -> dict[ColumnKey, Array]:
        return self._changes(self.parameters)

    def _changes(self, draws: Mapping[ColumnKey, Array]) -> dict[ColumnKey, Array]:
        """Change of P(cause) made by each column, to first order in the log odds."""
        p = self.functions.posterior
        likely = np.flatnonzero(p > 1e-6)
        by_key: dict[ColumnKey, Array] = {}
        for h in likely:
            for key, score in column_scores(self.functions, draws, int(h)).items():
                change = by_key.setdefault(key, np.zeros((len(score), len(p))))
                change[:, h] = p[h] * (1 - p[h]) * score
        return by_key

    def scores(
        self, keys: Sequence[ColumnKey], draws: Mapping[ColumnKey, Array] | None = None
    ) -> tuple[Array, ...]:
        """Sum what a group of columns does to each option's gain, per choice (draws, options).

        Parameters
        ----------
        keys : sequence of key
        draws : mapping, optional
            Other values of these columns, one row per draw; by default the draws themselves.
        """
        changes = self._scores if draws is None else self._changes(draws)
        change = sum((changes[k] for k in keys if k in changes), np.zeros(()))
        found = []
        for value, weight in zip(self.values, self.weights, strict=True):
            if change.ndim == 0:
                found.append(np.zeros_like(value))
                continue
            best = int(value.mean(axis=0).argmax())
            found.append(change @ (weight - weight[best]).T)
        return tuple(found)


def decision_draws(
    model: Model,
    evidence: Evidence | RawEvidence,
    decision: str = "cause",
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> DecisionDraws:
    """Value of every decision under every draw of the parameters.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    decision : {"cause", "treatment"}
    draws, seed : int

    Returns
    -------
    DecisionDraws

    Raises
    ------
    EvidenceError
        Unknown decision, fewer than 50 draws, bad evidence.
    """
    if draws < FEWEST_DRAWS:
        raise EvidenceError(
            f"the value of studies needs at least {FEWEST_DRAWS} draws, got {draws}", value=draws
        )
    choices = decision_values(model, evidence, decision, draws=draws, seed=seed)
    return DecisionDraws(
        decision=decision,
        functions=one_way(model, evidence),
        values=tuple(c.values for c in choices),
        options=tuple(c.options for c in choices),
        weights=tuple(c.weights for c in choices),
        parameters=parameter_draws(model, draws, seed),
    )


def value_of_knowing(problem: DecisionDraws, *, by: str = "group", top: int = 20) -> pd.DataFrame:
    """EVPPI of every parameter, group or cause.

    Parameters
    ----------
    problem : DecisionDraws
    by : {"parameter", "group", "cause"}
        ``parameter`` is a whole column.
    top : int
        Rows; candidates are chosen by how far they move the decisions' gains.

    Returns
    -------
    pandas.DataFrame
        Columns name, evppi, error, share (of EVPI), parameters; largest first. ``attrs``: evpi,
        decision, best.

    Raises
    ------
    EvidenceError
        Unknown level, or `top` below 1.
    """
    import pandas as pd

    if by not in LEVELS:
        raise EvidenceError(
            f"{by!r} is no level of EVPPI", value=by, allowed=LEVELS, nearest=nearest(by, LEVELS)
        )
    if top < 1:
        raise EvidenceError(f"top must be at least 1, got {top}", value=top)
    members: dict[str, dict[ColumnKey, None]] = {}
    for p in problem.functions.parameters:
        name = {"group": p.group, "cause": p.cause}.get(by, column_name(p))
        members.setdefault(name, {})[p.key] = None
    scores = {name: problem.scores(list(keys)) for name, keys in members.items()}
    reach = {name: sum(float(s.var(axis=0).max()) for s in parts) for name, parts in scores.items()}
    evpi = problem.perfect_information
    rows = []
    for name in sorted(reach, key=lambda n: -reach[n])[:top]:
        found = [
            partial_information(v, s) for v, s in zip(problem.values, scores[name], strict=True)
        ]
        value = sum(v for v, _ in found)
        error = float(np.hypot.reduce([e for _, e in found]))
        rows.append((name, value, error, value / evpi if evpi > 0 else 0.0, len(members[name])))
    frame = pd.DataFrame(rows, columns=["name", "evppi", "error", "share", "parameters"])
    frame = frame.sort_values("evppi", ascending=False, kind="stable", ignore_index=True)
    frame.attrs.update(evpi=evpi, decision=problem.decision, best=problem.best)
    return frame


def column_name(parameter: Parameter) -> str:
    """Name of the whole column that a parameter stands in."""
    if parameter.kind != "column":
        return parameter.name
    head, _, tail = parameter.name.partition(" | ")
    return f"{head.split('=')[0]} | {tail}" if tail else head.split("=")[0]


def log_likelihoods(counts: Array, shares: Array, correlation: float) -> Array:
    """Log probability of counts, up to what does not depend on the shares.

    Multinomial, or with correlation ρ > 0 Dirichlet-multinomial with the parameters
    ``shares (1 - ρ) / ρ``.

    Parameters
    ----------
    counts : ndarray, shape (results, states)
    shares : ndarray, shape (draws, states)
    correlation : float
        In 0..1, 1 excluded.

    Returns
    -------
    ndarray, shape (results, draws)
    """
    if correlation == 0:
        return np.asarray(counts @ np.log(np.maximum(shares, 1e-300)).T)
    alpha = np.maximum(shares * (1 - correlation) / correlation, 1e-12)
    return np.asarray(
        (gammaln(counts[:, None, :] + alpha) - gammaln(alpha)).sum(axis=-1)
    )


def sample_information(
    fitted: Array,
    shares: Array,
    patients: int,
    correlation: float = 0.0,
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """EVSI of counting the states of one column in some patients.

    With two states all results are enumerated; with more, one result per draw is drawn.

    Parameters
    ----------
    fitted : ndarray, shape (draws, decisions)
        E[value | column] per draw, from :func:`fitted_values`.
    shares : ndarray, shape (draws, states)
        The column's draws.
    patients : int
    correlation : float
        Intraclass correlation of a series.
    seed : int

    Returns
    -------
    evsi, error : float
        Between 0 and the EVPPI of the same draws; the error is that of the drawn results (0 where
        enumerated).
    """
    now = float(fitted.mean(axis=0).max())
    cap = float(fitted.max(axis=1).mean()) - now
    if shares.shape[1] == 2:
        k = np.arange(patients + 1.0)
        counts = np.stack([patients - k, k], axis=1)
        ways = gammaln(patients + 1) - gammaln(counts + 1).sum(axis=1)
        logs = log_likelihoods(counts, shares, correlation)
        chance = np.exp(logs + ways[:, None] - _normalizer(patients, correlation))
        chance /= chance.sum(axis=0)
        joint = chance @ fitted / len(fitted)  # sum over draws of P(result) E[value | draw]
        return float(np.clip(joint.max(axis=1).sum() - now, 0.0, cap)), 0.0
    rng = np.random.default_rng(seed)
    p = shares
    if correlation > 0:
        gamma = rng.standard_gamma(np.maximum(shares * (1 - correlation) / correlation, 1e-12))
        p = np.maximum(gamma, 1e-300)
    p = p / p.sum(axis=1, keepdims=True)
    counts = rng.multinomial(patients, p).astype(float)
    logs = log_likelihoods(counts, shares, correlation)
    weight = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    after = weight @ fitted
    # the present best has the same mean over results as over draws: taken off, most noise goes
    gain = after.max(axis=1) - after[:, int(fitted.mean(axis=0).argmax())]
    error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    return float(np.clip(gain.mean(), 0.0, cap)), error


def _normalizer(patients: int, correlation: float) -> float:
    """Log of the factor of the Dirichlet-multinomial that neither counts nor shares change."""
    if correlation == 0:
        return 0.0
    size = (1 - correlation) / correlation
    return float(gammaln(patients + size) - gammaln(size))


def value_of_study(
    problem: DecisionDraws,
    parameter: str,
    patients: int | Sequence[int],
    *,
    correlation: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """EVSI of a study that counts the states of one column.

    Parameters
    ----------
    problem : DecisionDraws
    parameter : str
        A parameter of the column.
    patients : int or sequence of int
        Patients of the study.
    correlation : float, optional
        Intraclass correlation between series; by default that of pooling.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Columns patients, evsi, error, evppi (of the column).

    Raises
    ------
    EvidenceError
        Unknown parameter, one that is no column of shares, fewer than 1 patient, a correlation
        outside 0..1.
    """
    import pandas as pd

    parameters = problem.functions.parameters
    p = parameters[find_parameter(parameters, parameter)]
    if p.kind != "column":
        raise EvidenceError(
            "is no column of shares: a study counts patients by state", variable=p.name
        )
    sizes, rho = _design(problem, patients, correlation)
    shares = problem.parameters[p.key]
    shares = shares[:, shares.mean(axis=0) > 1e-9]
    fitted = [
        fitted_values(v, s)
        for v, s in zip(problem.values, problem.scores([p.key]), strict=True)
    ]
    evppi = sum(perfect_information(f) for f in fitted)
    rows = []
    for n in sizes:
        found = [sample_information(f, shares, n, rho, seed=seed) for f in fitted]
        error = float(np.hypot.reduce([e for _, e in found]))
        rows.append((n, sum(v for v, _ in found), error, evppi))
    frame = pd.DataFrame(rows, columns=["patients", "evsi", "error", "evppi"])
    frame.attrs.update(column=column_name(p), correlation=rho, evpi=problem.perfect_information)
    return frame


def _design(
    problem: DecisionDraws, patients: int | Sequence[int], correlation: float | None
) -> tuple[list[int], float]:
    """Sizes of a study and the correlation between series, checked."""
    sizes = [patients] if isinstance(patients, int) else list(patients)
    for n in sizes:
        if n < 1:
            raise EvidenceError(f"a study needs at least 1 patient, got {n}", value=n)
    settings = problem.functions.model.literature.settings
    rho = settings.correlation if correlation is None else correlation
    if not 0 <= rho < 1:
        raise EvidenceError(f"the correlation must lie in 0..1, got {rho:g}", value=rho)
    return sizes, rho


def series_of(problem: DecisionDraws) -> dict[str, list[ColumnKey]]:
    """Columns that a series of patients would inform, by what its patients have in common."""
    found: dict[str, dict[ColumnKey, None]] = {}
    for p in problem.functions.parameters:
        if p.kind == "column" and p.key[1] and p.key[2] and not p.key[3].startswith("prevalence"):
            found.setdefault(f"{p.key[1]}={p.key[2]}", {})[p.key] = None
    return {name: list(keys) for name, keys in found.items()}


def value_of_series(
    problem: DecisionDraws,
    patients_with: str,
    patients: int | Sequence[int],
    *,
    correlation: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """EVSI of a series that notes every finding in patients of one kind.

    Parameters
    ----------
    problem : DecisionDraws
    patients_with : str
        What they have in common, such as ``lesion_subtype=leukemia``.
    patients : int or sequence of int
    correlation : float, optional
        Intraclass correlation between series; by default that of pooling.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Columns patients, evsi, error, evppi, evppi_error (of all its columns together), columns
        (how many); EVSI lies between 0 and EVPPI.

    Raises
    ------
    EvidenceError
        No such kind of patients, fewer than 1 patient, a correlation outside 0..1.
    """
    import pandas as pd

    kinds = series_of(problem)
    if patients_with not in kinds:
        raise EvidenceError(
            f"no column is about patients with {patients_with!r}",
            value=patients_with,
            nearest=nearest(patients_with, kinds),
        )
    sizes, rho = _design(problem, patients, correlation)
    keys = kinds[patients_with]
    known = [
        partial_information(v, s)
        for v, s in zip(problem.values, problem.scores(keys), strict=True)
    ]
    evppi, evppi_error = sum(v for v, _ in known), float(np.hypot.reduce([e for _, e in known]))
    rows = []
    for n in sizes:
        believed = _believed_after(problem, keys, n, rho, np.random.default_rng(seed))
        found = [
            partial_information(np.repeat(v, REPLICATES, axis=0), s)
            for v, s in zip(problem.values, problem.scores(keys, believed), strict=True)
        ]
        error = float(np.hypot.reduce([e for _, e in found]))
        evsi = min(sum(v for v, _ in found), evppi)
        rows.append((n, evsi, error, evppi, evppi_error, len(keys)))
    columns = ["patients", "evsi", "error", "evppi", "evppi_error", "columns"]
    frame = pd.DataFrame(rows, columns=columns)
    frame.attrs.update(
        patients_with=patients_with, correlation=rho, evpi=problem.perfect_information
    )
    return frame


def _believed_after(
    problem: DecisionDraws,
    keys: Sequence[ColumnKey],
    patients: int,
    correlation: float,
    rng: np.random.Generator,
) -> dict[ColumnKey, Array]:
    """Draw the counts of some series under every draw, and return the means of the columns then.

    Returns
    -------
    dict
        Arrays of shape (draws * REPLICATES, states), the series of one draw one after another.
    """
    believed = {}
    for key in keys:
        pooled = problem.functions.model.built.columns[key]
        p = np.repeat(problem.parameters[key], REPLICATES, axis=0)
        if correlation > 0:
            gamma = rng.standard_gamma(np.maximum(p * (1 - correlation) / correlation, 1e-12))
            p = np.maximum(gamma, 1e-300)
        p = p / p.sum(axis=1, keepdims=True)
        counts = rng.multinomial(patients, p)
        # patients of one series count as fewer independent ones, as in pooling
        effective = patients / (1 + (patients - 1) * correlation)
        believed[key] = (pooled.alpha + counts * (effective / patients)) / (
            pooled.ess + effective
        )
    return believed


def rank_series(
    problem: DecisionDraws, patients: int = 50, *, top: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Series worth most: EVSI of noting every finding in so many patients of one kind.

    Parameters
    ----------
    problem : DecisionDraws
    patients : int
    top : int
        Rows.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Columns patients_with, patients, evsi, error, evppi, evppi_error, columns; best first.

    Raises
    ------
    EvidenceError
        Fewer than 1 patient or row.
    """
    import pandas as pd

    if top < 1:
        raise EvidenceError(f"top must be at least 1, got {top}", value=top)
    reach = {
        name: sum(float(s.var(axis=0).max()) for s in problem.scores(keys))
        for name, keys in series_of(problem).items()
    }
    chosen = sorted(reach, key=lambda name: -reach[name])[: 2 * top]
    parts = [value_of_series(problem, name, patients, seed=seed) for name in chosen]
    frame = pd.concat(parts, ignore_index=True)
    frame.insert(0, "patients_with", chosen)
    frame = frame.sort_values("evsi", ascending=False, kind="stable").head(top)
    frame.attrs.update(
        evpi=problem.perfect_information, decision=problem.decision, best=problem.best
    )
    return frame.reset_index(drop=True)


def rank_studies(
    problem: DecisionDraws, patients: int = 50, *, top: int = 10, seed: int = 0
) -> pd.DataFrame:
    """Studies worth most: EVSI of counting so many patients for each of the leading columns.

    Parameters
    ----------
    problem : DecisionDraws
    patients : int
    top : int
        Rows.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Columns study (the column to count), patients, evsi, error, evppi, evppi_error, grade
        (what the column rests on now); best first.

    Raises
    ------
    EvidenceError
        Fewer than 1 patient or row.
    """
    import pandas as pd

    by_name = {column_name(p): p for p in problem.functions.parameters if p.kind == "column"}
    known = value_of_knowing(problem, by="parameter", top=3 * top)
    rows = []
    for name, evppi, error in known[["name", "evppi", "error"]].itertuples(index=False):
        if name in by_name:
            p = by_name[name]
            found = value_of_study(problem, p.name, patients, seed=seed).iloc[0]
            rows.append((name, patients, found.evsi, found.error, evppi, error, p.grade))
    columns = ["study", "patients", "evsi", "error", "evppi", "evppi_error", "grade"]
    frame = pd.DataFrame(rows, columns=columns)
    frame = frame.sort_values("evsi", ascending=False, kind="stable").head(top)
    frame.attrs.update(known.attrs)
    return frame.reset_index(drop=True)
