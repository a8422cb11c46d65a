r"""Which figure, finding or paper the uncertainty of an answer comes from.

First-order indices :math:`S_g = \mathrm{Var}(E[y \mid x_g]) / \mathrm{Var}(y)` from the same joint
draws that give the intervals (given-data estimation; Plischke, Borgonovo, Smith, Eur J Oper Res
2013;226:536). The draws of a column are summed up in its score, the change of the log odds that
its one-way sensitivity function makes; a group's score :math:`z_g` is the sum over its columns.
:math:`E[y \mid z_g]` is a cubic in the normal scores of :math:`z_g`, and :math:`S_g` its
adjusted coefficient of determination; for a group a lower bound, since only the score enters.
Scores with less than :data:`NEGLIGIBLE` of the scores' variance count as 0: their estimates would
be noise alone. Standard errors are those of the delete-a-group jackknife.

Total indices, which add the interactions, need new draws: pick-freeze with Jansen's estimator
(Comput Phys Commun 1999;117:35; Saltelli et al., Comput Phys Commun 2010;181:259).

A source has no share of its own in a pooled figure. Its ``index`` is that of everything it feeds,
its ``share`` splits the index of every column over the column's sources by effective patients.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from epidural_dx.analysis.parameters import (
    LEVELS,
    Parameter,
    parameter_draws,
    source_citation,
    source_shares,
)
from epidural_dx.analysis.response import table_map, table_response
from epidural_dx.analysis.sensitivity import OneWay, information_derivatives, one_way
from epidural_dx.analysis.uncertainty import (
    RANKING_OUTCOMES,
    panel_results,
    posterior_draws,
    ranking_draws,
)
from epidural_dx.clinical.spelling import nearest
from epidural_dx.decision.ranking import rank_tests
from epidural_dx.errors import EvidenceError
from epidural_dx.network.parameters import ColumnKey

if TYPE_CHECKING:
    import pandas as pd

    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model, RawEvidence

Array = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)

#: Draws that attribution uses when none are asked for.
DEFAULT_DRAWS = 500
#: Groups of draws that the jackknife leaves out in turn.
JACKKNIFE = 20
#: Share of the scores' variance below which a score is not estimated.
NEGLIGIBLE = 2e-4
#: A quotient is used while numerators and denominator keep this part of their present values.
SAFE = 0.05
#: Results of a test that its derivatives are taken from.
SLOPE_OUTCOMES = 64
#: Fewer draws than this say nothing about shares of a variance.
FEWEST_DRAWS = 50


def hermite_basis(scores: Array) -> Array:
    """Make normal scores of every column and their second and third Hermite polynomials.

    Parameters
    ----------
    scores : ndarray, shape (draws, groups)

    Returns
    -------
    ndarray, shape (groups, draws, 3)
        Columns with mean 0; zeros where a group's score is constant.
    """
    ranks = rankdata(scores, axis=0)
    u = ndtri((ranks - 0.5) / len(scores))
    basis = np.stack([u, u**2 - 1, u**3 - 3 * u], axis=-1).transpose(1, 0, 2)
    basis = basis - basis.mean(axis=1, keepdims=True)
    basis[np.ptp(scores, axis=0) == 0] = 0.0
    return np.asarray(basis)


def first_order(outcome: Array, scores: Array) -> tuple[Array, Array]:
    """First-order index of every score, with its standard error (module docstring).

    Parameters
    ----------
    outcome : ndarray, shape (draws,)
    scores : ndarray, shape (draws, groups)

    Returns
    -------
    index, error : ndarray, shape (groups,)
        The index is unbiased around 0 and so may be slightly negative; 0 where negligible.
    """
    spread = scores.var(axis=0)
    usable = spread > NEGLIGIBLE * spread.sum()
    found, found_error = np.zeros(scores.shape[1]), np.zeros(scores.shape[1])
    basis = hermite_basis(scores[:, usable])
    block = np.arange(len(outcome)) * JACKKNIFE // len(outcome)
    # sums of squares and products by block: every jackknife sample is the total less one block
    gram = np.stack([_gram(basis[:, block == b]) for b in range(JACKKNIFE)])
    cross = np.stack(
        [
            np.einsum("gni,n->gi", basis[:, block == b], outcome[block == b])
            for b in range(JACKKNIFE)
        ]
    )
    mean = np.stack([basis[:, block == b].sum(axis=1) for b in range(JACKKNIFE)])
    total = np.array([outcome[block == b].sum() for b in range(JACKKNIFE)])
    square = np.array([(outcome[block == b] ** 2).sum() for b in range(JACKKNIFE)])
    size = np.bincount(block, minlength=JACKKNIFE)

    def index(left_out: int | None) -> Array:
        keep = [b for b in range(JACKKNIFE) if b != left_out]
        n = size[keep].sum()
        center = mean[keep].sum(axis=0)
        g = gram[keep].sum(axis=0) - center[:, :, None] * center[:, None, :] / n
        c = cross[keep].sum(axis=0) - center * total[keep].sum() / n
        variance = square[keep].sum() - total[keep].sum() ** 2 / n
        if variance <= 1e-24 * n:
            return np.zeros(len(c))
        explained = np.einsum("gi,gij,gj->g", c, np.linalg.pinv(g, hermitian=True), c) / variance
        return np.asarray(1 - (1 - explained) * (n - 1) / (n - 1 - basis.shape[-1]))

    samples = np.stack([index(b) for b in range(JACKKNIFE)])
    error = np.sqrt((JACKKNIFE - 1) * np.mean((samples - samples.mean(axis=0)) ** 2, axis=0))
    found[usable], found_error[usable] = index(None), error
    return found, found_error


def _gram(basis: Array) -> Array:
    return np.asarray(np.matmul(basis.transpose(0, 2, 1), basis))


def column_scores(
    functions: OneWay, draws: Mapping[ColumnKey, Array], hypothesis: int
) -> dict[ColumnKey, Array]:
    """Change of the log odds of a hypothesis that the drawn values of each column alone make.

    P(h, e) and P(e) are linear in a whole column: with mean m and the derivative D_i of state i
    under proportional co-variation they change by sum_i D_i (1 - m_i) (x_i - m_i). Where a column
    acts through fits this extrapolates the derivatives; where that would leave 0..1, the change is
    taken linear in the log odds.

    Parameters
    ----------
    functions : OneWay
    draws : mapping
        Arrays of shape (draws, states) by key; columns that are left out have no score.
    hypothesis : int
        Position of the state.

    Returns
    -------
    dict
        Arrays of shape (draws,) by key.
    """
    changes = _changes(functions.model, functions.parameters, draws)
    joint = _by_column(functions.parameters, changes, functions.by_state[:, hypothesis])
    total = _by_column(functions.parameters, changes, functions.of_evidence)
    now = float(np.clip(functions.posterior[hypothesis], 1e-12, 1 - 1e-12))
    scores = {}
    for key, top in joint.items():
        against, whole = 1 + (total[key] - top) / (1 - now), 1 + total[key]
        towards = 1 + top / now
        if min(towards.min(), against.min(), whole.min()) > SAFE:
            scores[key] = np.log(towards) - np.log(against)
        else:
            scores[key] = (top - now * total[key]) / (now * (1 - now))
    return scores


def _changes(
    model: Model, parameters: Sequence[Parameter], draws: Mapping[ColumnKey, Array]
) -> list[Array | None]:
    """How far every draw is from the present value, in the units of the derivatives."""
    tables = table_map(model)
    found: list[Array | None] = []
    for p in parameters:
        if p.key not in draws:
            found.append(None)
            continue
        change = draws[p.key][:, p.state] - p.value
        if p.kind == "column":
            mean = tables.column_value(p.key)
            # of two states only one stands among the parameters, and it carries both changes
            if np.count_nonzero(mean > 1e-9) > 2:
                change = change * (1 - mean[p.state])
        found.append(change)
    return found


def _by_column(
    parameters: Sequence[Parameter], changes: Sequence[Array | None], slopes: Array
) -> dict[ColumnKey, Array]:
    """First-order change of an outcome by column, shape (draws,) each."""
    found: dict[ColumnKey, Array] = {}
    for p, change, slope in zip(parameters, changes, slopes, strict=True):
        if change is not None:
            found[p.key] = found.get(p.key, 0.0) + change * slope
    return found


def attribute(
    model: Model,
    evidence: Evidence | RawEvidence,
    hypothesis: str | None = None,
    *,
    by: str = "group",
    variable: str = "lesion_cause",
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    functions: OneWay | None = None,
) -> pd.DataFrame:
    """Share of the variance of a posterior that each parameter, group, cause or source makes.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    hypothesis : str, optional
        By default the leading state.
    by : {"parameter", "group", "cause", "source"}
        ``group`` is the finding or condition of a column, or all rates of a cause.
    variable : str
        Whose states are the hypotheses: the cause, the mechanism or a condition.
    draws, seed : int
        The bank of draws behind the intervals.
    functions : OneWay, optional
        Already computed functions of the same query.

    Returns
    -------
    pandas.DataFrame
        Columns name, share (of the variance), error (its standard error), parameters (how many
        columns); by source also index (of everything the source feeds) and citation. Largest share
        first. ``attrs``: hypothesis, mean, sd, explained (sum of the columns' indices).

    Raises
    ------
    EvidenceError
        Unknown level, hypothesis or variable, fewer than 50 draws, bad evidence.
    """
    _check(by, draws)
    found = functions or one_way(model, evidence, variable)
    h = found.state(hypothesis)
    outcome = posterior_draws(model, found.evidence, found.variable, draws=draws, seed=seed)[:, h]
    scores = column_scores(found, parameter_draws(model, draws, seed), h)
    frame = _split(model, found.parameters, outcome, scores, by)
    frame.attrs.update(hypothesis=found.states[h])
    return frame


def attribute_ranking(
    model: Model,
    evidence: Evidence | RawEvidence,
    tests: Sequence[str] | None = None,
    *,
    by: str = "group",
    draws: int = DEFAULT_DRAWS,
    outcomes: int = RANKING_OUTCOMES,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of the variance of a ranking of tests that each parameter, group or source makes.

    The outcome is the margin of one test over another in bits about the cause: what would turn
    their order. Scores are first-order changes of that margin
    (:func:`~epidural_dx.analysis.sensitivity.information_derivatives`).

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    tests : sequence of str, optional
        Two tests, or one for its information alone; by default the two that tell most about the
        cause among those allowed now.
    by : {"parameter", "group", "cause", "source"}
    draws, seed : int
    outcomes : int
        Results of a test that are enumerated or sampled.

    Returns
    -------
    pandas.DataFrame
        As :func:`attribute`; mean and sd are those of the margin in bits. ``attrs`` also: tests,
        first (share of the draws in which the first test tells more).

    Raises
    ------
    EvidenceError
        Unknown test or level, other than one or two tests, fewer than 50 draws, bad evidence,
        or a patient with no test left to rank.
    """
    _check(by, draws)
    read = model.read_evidence(evidence)
    if tests is None:
        ranked = rank_tests(model, read, "lesion_cause")
        tests = [t.test for t in ranked if t.allowed is True][:2]
    if not 1 <= len(tests) <= 2 or len(set(tests)) != len(tests):
        raise EvidenceError(
            f"a ranking is that of two different tests, got {len(tests)}: {', '.join(tests)}"
            if tests
            else "no test is left that could be ranked"
        )
    bits = ranking_draws(
        model, read, tests, draws=draws, outcomes=outcomes, seed=seed
    ).to_numpy()
    signs = (1.0, -1.0)[: len(tests)]
    outcome = bits @ np.array(signs)
    slope: Array | float = 0.0
    for sign, test in zip(signs, tests, strict=True):
        panel = panel_results(model, read, test, outcomes=min(outcomes, SLOPE_OUTCOMES), seed=seed)
        if panel is not None:
            slope = slope + sign * information_derivatives(model, read, panel)[1]
    parameters = table_response(model).parameters
    slopes = np.broadcast_to(slope, len(parameters))
    changes = _changes(model, parameters, parameter_draws(model, draws, seed))
    frame = _split(model, parameters, outcome, _by_column(parameters, changes, slopes), by)
    frame.attrs.update(tests=tuple(tests), first=float((outcome > 0).mean()))
    return frame


def _check(by: str, draws: int) -> None:
    if by not in LEVELS:
        raise EvidenceError(
            f"{by!r} is no level of attribution", value=by, allowed=LEVELS,
            nearest=nearest(by, LEVELS),
        )
    if draws < FEWEST_DRAWS:
        raise EvidenceError(
            f"attribution needs at least {FEWEST_DRAWS} draws, got {draws}", value=draws
        )


def _split(
    model: Model,
    parameters: Sequence[Parameter],
    outcome: Array,
    scores: Mapping[ColumnKey, Array],
    by: str,
) -> pd.DataFrame:
    """Split the variance of an outcome over columns, groups, causes or sources."""
    import pandas as pd

    keys = list(scores)
    columns = np.stack([scores[k] for k in keys], axis=1)
    of_key: dict[ColumnKey, Parameter] = {}
    for p in parameters:
        of_key.setdefault(p.key, p)
    index, error = first_order(outcome, columns)
    if by == "source":
        frame = _by_source(model, [of_key[k] for k in keys], columns, outcome, index, error)
    elif by == "parameter":
        labels = column_labels(parameters)
        frame = pd.DataFrame(
            {"name": [labels[k] for k in keys], "share": index, "error": error, "parameters": 1}
        )
    else:
        names = [of_key[k].group if by == "group" else of_key[k].cause for k in keys]
        groups = sorted(set(names))
        summed = np.stack(
            [columns[:, [n == group for n in names]].sum(axis=1) for group in groups], axis=1
        )
        share, share_error = first_order(outcome, summed)
        frame = pd.DataFrame(
            {
                "name": groups,
                "share": share,
                "error": share_error,
                "parameters": [names.count(group) for group in groups],
            }
        )
    frame = frame.sort_values("share", ascending=False, kind="stable", ignore_index=True)
    frame.attrs.update(
        by=by,
        mean=float(outcome.mean()),
        sd=float(outcome.std(ddof=1)),
        explained=float(index.sum()),
    )
    return frame


def column_labels(parameters: Sequence[Parameter]) -> dict[ColumnKey, str]:
    """Name of every column: that of its only parameter, or the column without a state."""
    count: dict[ColumnKey, int] = {}
    for p in parameters:
        count[p.key] = count.get(p.key, 0) + 1
    labels: dict[ColumnKey, str] = {}
    for p in parameters:
        if p.key not in labels:
            state = "=" + p.name.split("=")[1].split(" ")[0] if "=" in p.name else ""
            whole = p.kind == "column" and count[p.key] > 1
            labels[p.key] = p.name.replace(state, "", 1) if whole else p.name
    return labels


def _by_source(
    model: Model,
    parameters: Sequence[Parameter],
    columns: Array,
    outcome: Array,
    index: Array,
    error: Array,
) -> pd.DataFrame:
    import pandas as pd

    shares = source_shares(model, parameters)
    names = sorted({s for share in shares for s in share})
    weight = np.array([[share.get(n, 0.0) for n in names] for share in shares])
    fed = weight > 0
    whole, whole_error = first_order(outcome, np.asarray(columns @ fed))
    return pd.DataFrame(
        {
            "name": names,
            "share": index @ weight,
            "error": np.sqrt(error**2 @ weight**2),
            "index": whole,
            "index_error": whole_error,
            "parameters": fed.sum(axis=0),
            "citation": [source_citation(model, n) for n in names],
        }
    )


def pick_freeze(
    function: Callable[[Mapping[Key, Array]], Array],
    first: Mapping[Key, Array],
    second: Mapping[Key, Array],
    groups: Mapping[str, Collection[Key]],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """First-order and total indices by pick-freeze (Saltelli 2010, Jansen 1999).

    Parameters
    ----------
    function : callable
        From inputs (arrays with the draws first) to the outcome, shape (draws,).
    first, second : mapping
        Two independent sets of draws of all inputs.
    groups : mapping of str to collection of keys
    resamples, seed : int
        Of the bootstrap that gives the errors.

    Returns
    -------
    pandas.DataFrame
        Columns name, share, error, total, total_error in the order of the groups.
    """
    import pandas as pd

    a, b = function(first), function(second)
    center = float(np.mean([a.mean(), b.mean()]))
    a, b = a - center, b - center
    rows = []
    pick = np.random.default_rng(seed).integers(len(a), size=(resamples, len(a)))
    for name, keys in groups.items():
        mixed = {k: second[k] if k in set(keys) else v for k, v in first.items()}
        c = function(mixed) - center
        terms = np.stack([b * (c - a), (a - c) ** 2 / 2, (a**2 + b**2) / 2])
        now = terms.mean(axis=1)
        sampled = terms[:, pick].mean(axis=2)
        errors = np.std(sampled[:2] / sampled[2], axis=1, ddof=1)
        rows.append((name, now[0] / now[2], errors[0], now[1] / now[2], errors[1]))
    return pd.DataFrame(rows, columns=["name", "share", "error", "total", "total_error"])


def total_indices(
    model: Model,
    evidence: Evidence | RawEvidence,
    groups: Sequence[str],
    hypothesis: str | None = None,
    *,
    by: str = "group",
    draws: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """First-order and total indices of a few groups, by rebuilding the model for new draws.

    Costs (2 + groups) x draws rebuilt models; for the groups that :func:`attribute` shows first.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    groups : sequence of str
        Names as :func:`attribute` gives them.
    hypothesis : str, optional
        A cause; by default the leading one.
    by : {"parameter", "group", "cause", "source"}
        A source stands for all columns that it feeds.
    draws, seed : int

    Returns
    -------
    pandas.DataFrame
        Columns name, share, error, total, total_error.

    Raises
    ------
    EvidenceError
        Unknown group, level or hypothesis, fewer than 50 draws, bad evidence.
    """
    _check(by, draws)
    found = one_way(model, evidence)
    h = found.state(hypothesis)
    members = _members(model, found.parameters, by)
    for name in groups:
        if name not in members:
            raise EvidenceError(
                f"unknown {by} {name!r}", variable=name, nearest=nearest(name, members)
            )
    both = parameter_draws(model, 2 * draws, seed)
    tables = table_map(model)
    used = [k for k in both if k in tables.touched or k in tables.fitting]
    at = model.position("lesion_cause")
    arrays = model.arrays(found.evidence)

    def posterior(values: Mapping[ColumnKey, Array]) -> Array:
        bank = tables.bank(values)
        result = model.engine.run(arrays, target=(at,), want=(), bank=bank)
        return np.asarray(result.posterior[0][:, h])

    return pick_freeze(
        posterior,
        {k: both[k][:draws] for k in used},
        {k: both[k][draws:] for k in used},
        {name: members[name] for name in groups},
        seed=seed,
    )


def _members(
    model: Model, parameters: Sequence[Parameter], by: str
) -> dict[str, set[ColumnKey]]:
    """Columns of every group, cause or source, or each alone."""
    if by == "source":
        names = [list(shares) for shares in source_shares(model, parameters)]
    elif by == "parameter":
        labels = column_labels(parameters)
        names = [[labels[p.key]] for p in parameters]
    else:
        names = [[p.group if by == "group" else p.cause] for p in parameters]
    members: dict[str, set[ColumnKey]] = {}
    for p, several in zip(parameters, names, strict=True):
        for name in several:
            members.setdefault(name, set()).add(p.key)
    return members
