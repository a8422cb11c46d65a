r"""Does the leader survive: left-out sources, other base rates, contaminated priors, other models.

ε-contamination. With the base rates known only up to :math:`(1 - ε) π + ε q` for any q, the
posterior of a set H of classes with likelihoods :math:`L_c = P(e \mid c)` lies between

.. math::

    \frac{(1-ε) P(H, e)}{(1-ε) P(e) + ε \max_{c \notin H} L_c} \quad\text{and}\quad
    \frac{(1-ε) P(H, e) + ε \max_{c \in H} L_c}{(1-ε) P(e) + ε \max_{c \in H} L_c}

(Huber, Ann Stat 1973;1:1; Berger, Berliner, Ann Stat 1986;14:461).

Imprecise Dirichlet. With s unseen patients added to every column of a variable, each wherever it
matters most (Walley, J R Stat Soc B 1996;58:3), a posterior is a quotient of two functions that are
linear in all these columns together; its bounds are those of a linear-fractional program over a
product of simplices, found by Dinkelbach's iteration (Manage Sci 1967;13:492).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epidural_dx.analysis.parameters import expert_source, parameters_of
from epidural_dx.analysis.response import table_map
from epidural_dx.analysis.sensitivity import one_way
from epidural_dx.analysis.validation import naive_likelihoods
from epidural_dx.clinical.evidence import Evidence
from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import EvidenceError
from epidural_dx.literature.rows import Figure
from epidural_dx.network.declared import read_scenarios
from epidural_dx.network.parameters import ColumnKey
from epidural_dx.network.rates import read_rates

if TYPE_CHECKING:
    import pandas as pd

    from epidural_dx.model import Model, RawEvidence

Array = NDArray[np.float64]

#: Imprecise Dirichlet: unseen patients (Walley's choice is between 1 and 2).
UNSEEN = 1.0
#: Columns of the tables of variants.
COLUMNS = ["variant", "leader", "probability", "leader_before", "change", "distance", "survives"]


def _compare(model: Model, names: Sequence[str], base: Array, posteriors: Array) -> pd.DataFrame:
    """One row per variant: who leads, and what became of the present leader."""
    import pandas as pd

    first = int(np.argmax(base))
    rows = []
    for name, p in zip(names, posteriors, strict=True):
        leader = int(np.argmax(p))
        rows.append(
            (
                name,
                model.causes[leader],
                float(p[leader]),
                float(p[first]),
                float(p[first] - base[first]),
                float(0.5 * np.abs(p - base).sum()),
                leader == first,
            )
        )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame.attrs.update(leader=model.causes[first], posterior=float(base[first]))
    return frame


def _posterior(model: Model, read: Evidence) -> Array:
    return np.asarray(model.run(read, target=("lesion_cause",), want=()).posterior[0])


def leave_sources_out(
    model: Model,
    evidence: Evidence | RawEvidence,
    sources: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Answer without each source in turn.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    sources : sequence of str, optional
        Source ids; by default both experts and every source that feeds a column of a finding that
        was observed.

    Returns
    -------
    pandas.DataFrame
        Columns variant (the source), leader, probability (of that leader), leader_before (what is
        left of the present leader), change, distance (total variation), survives, rows (figures,
        rates and experts' cells left out), citation; largest distance first.

    Raises
    ------
    EvidenceError
        A source that is not in the base, bad or impossible evidence.
    """
    read = model.read_evidence(evidence)
    base = _posterior(model, read)
    literature = model.literature
    known = literature.sources
    rows = Counter(f.source_id for f in literature.figures if f.id in model.built.used_rows)
    rows += Counter(expert_source(c.expert) for c in literature.experts)
    rows += Counter(f.source_id for f in read_rates(model._priors) if f.use == "fit")
    if sources is None:
        figures = {f.id: f for f in literature.figures}
        observed = set(read.informative)
        found = {
            figures[row].source_id
            for key, column in model.built.columns.items()
            if key[0] in observed
            for row in column.rows
            if row in figures
        }
        chosen = sorted(found | {expert_source(c.expert) for c in literature.experts})
    else:
        chosen = list(sources)
    for name in chosen:
        if name not in known:
            raise EvidenceError(
                f"the source {name!r} is not in the literature base",
                variable=name,
                nearest=nearest(name, known),
            )
    if not chosen:
        return _compare(model, [], base, np.zeros((0, len(base)))).assign(rows=[], citation=[])
    tables = table_map(model)
    bank = tables.stacked([tables.without(name) for name in chosen])
    posteriors = model.engine.run(
        model.arrays(read), target=(model.position("lesion_cause"),), want=(), bank=bank
    ).posterior[0]
    frame = _compare(model, chosen, base, posteriors)
    frame["rows"] = [rows[name] for name in chosen]
    frame["citation"] = [known[name].citation for name in chosen]
    attrs = frame.attrs
    frame = frame.sort_values("distance", ascending=False, kind="stable", ignore_index=True)
    frame.attrs.update(attrs)
    return frame


def robustness(model: Model, evidence: Evidence | RawEvidence) -> pd.DataFrame:
    """Answer under every other scenario, without recalled rows, and by naive Bayes.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping

    Returns
    -------
    pandas.DataFrame
        Columns as in :func:`leave_sources_out` up to survives. Variants: ``scenario …`` (base
        rates of the other settings), ``recalled figures dropped``, ``published counts only, experts
        kept``, and ``naive Bayes`` (findings independent given the cause, the same base rates).

    Raises
    ------
    EvidenceError
        Bad or impossible evidence, or a model whose mix of causes was set (it has no scenarios).
    """
    if model._cause_mix:
        raise EvidenceError("a model with a cause mix of its own has no scenarios to compare")
    read = model.read_evidence(evidence)
    base = _posterior(model, read)
    tables = table_map(model)
    names, variants = [], []
    for name, scenario in read_scenarios(model._priors).items():
        if name != model.scenario:
            names.append(f"scenario {name}")
            variants.append(tables.varied(scenario=scenario))

    def seen(figure: Figure) -> bool:
        return figure.verified == "seen"

    def counted(figure: Figure) -> bool:
        return figure.verified == "seen" and figure.n is not None

    for name, keep in (
        ("recalled figures dropped", seen),
        ("published counts only, experts kept", counted),
    ):
        names.append(name)
        variants.append(tables.varied(keep=keep))
    at = model.position("lesion_cause")
    result = model.engine.run(
        model.arrays(read), target=(at,), want=(), bank=tables.stacked(variants)
    )
    naive = naive_likelihoods(model, [read])[0] + np.log(model.base_marginals["lesion_cause"])
    naive = np.exp(naive - naive.max())
    posteriors = np.vstack([result.posterior[0], naive / naive.sum()])
    return _compare(model, [*names, "naive Bayes"], base, posteriors)


def contamination_bounds(
    model: Model,
    evidence: Evidence | RawEvidence,
    epsilon: float = 0.1,
    *,
    variable: str = "lesion_cause",
) -> pd.DataFrame:
    """Bounds of the posterior when a share of the base rates may be anything.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    epsilon : float
        That share, in 0..1.
    variable : {"lesion_cause", "etiology"}

    Returns
    -------
    pandas.DataFrame
        Index: states, best first; columns lower, probability, upper. ``attrs``: epsilon, survives
        (the leader's lower bound is above every upper bound), breakdown (the smallest epsilon at
        which another state may lead).

    Raises
    ------
    EvidenceError
        An epsilon outside 0..1, another variable, bad or impossible evidence.
    """
    import pandas as pd

    if not 0 <= epsilon <= 1:
        raise EvidenceError(f"epsilon must lie in 0..1, got {epsilon:g}", value=epsilon)
    if variable not in ("lesion_cause", "etiology"):
        raise EvidenceError(
            f"base rates are those of lesion_cause or etiology, not of {variable!r}",
            variable=variable,
            allowed=("lesion_cause", "etiology"),
        )
    read = model.read_evidence(evidence)
    posterior = model.run(read, target=(variable,), want=()).posterior[0]
    prior = model.base_marginals[variable]
    # likelihood over P(e): the scale does not matter
    likelihood = np.divide(posterior, prior, out=np.zeros_like(prior), where=prior > 0)
    others = np.array([np.delete(likelihood, i).max() for i in range(len(likelihood))])
    kept = (1 - epsilon) * posterior
    lower = _ratio(kept, (1 - epsilon) + epsilon * others)
    upper = _ratio(kept + epsilon * likelihood, (1 - epsilon) + epsilon * likelihood)
    leader = int(np.argmax(posterior))
    # a rival h with all contamination on it leads when (1-e) (p_leader - p_h) < e L_h
    gap = posterior[leader] - posterior
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.where(likelihood > 0, gap / (gap + likelihood), 1.0)
    needed[leader] = np.inf
    frame = pd.DataFrame(
        {"lower": lower, "probability": posterior, "upper": upper},
        index=list(model.variables[variable].states),
    ).sort_values("probability", ascending=False, kind="stable")
    breakdown = float(needed.min())
    frame.attrs.update(epsilon=epsilon, breakdown=breakdown, survives=bool(epsilon < breakdown))
    return frame


def _ratio(top: Array, bottom: Array) -> Array:
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def imprecise_dirichlet(
    model: Model,
    evidence: Evidence | RawEvidence,
    group: str,
    hypothesis: str | None = None,
    *,
    unseen: float = UNSEEN,
) -> tuple[float, float]:
    """Bounds of a cause's posterior when unseen patients join every column of a finding.

    Exact for a finding whose columns act linearly on one table (``form`` quotient in the table of
    sensitivities).

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    group : str
        The finding.
    hypothesis : str, optional
        A cause; by default the leading one.
    unseen : float
        Patients per column, above 0.

    Returns
    -------
    lower, upper : float

    Raises
    ------
    EvidenceError
        Unknown finding or cause, one whose columns do not act linearly, or no unseen patients.
    """
    if not unseen > 0:
        raise EvidenceError(f"unseen patients must be above 0, got {unseen:g}", value=unseen)
    found = one_way(model, evidence)
    h = found.state(hypothesis)
    index = [i for i, p in enumerate(found.parameters) if p.group == group and p.kind == "column"]
    if not index:
        groups = {p.group for p in found.parameters if p.kind == "column"}
        raise EvidenceError(
            f"unknown group {group!r}", variable=group, nearest=nearest(group, groups)
        )
    matrix = found.response.matrix
    factors = np.cumsum([0, *(f.table.size for f in model.plan.network.factors)])
    cells = np.unique(np.concatenate([matrix[[i]].indices for i in index]))
    same = len(set(np.searchsorted(factors, cells, side="right").tolist())) <= 1
    if not all(found.response.linear[i] for i in index) or not same:
        raise EvidenceError(
            f"the columns of {group!r} act through several tables or fits: no exact bounds",
            variable=group,
        )
    tops: dict[ColumnKey, Array] = {}
    bottoms: dict[ColumnKey, Array] = {}
    for i in index:
        p = found.parameters[i]
        column = model.built.columns[p.key]
        weight = unseen / (column.ess + unseen)
        # moving the column's mean towards the unit vector of a state by `weight`
        mean = column.mean
        size = len(mean)
        for kept, slope in ((tops, found.by_state[i, h]), (bottoms, found.of_evidence[i])):
            effect = kept.setdefault(p.key, np.zeros(size))
            held = np.count_nonzero(mean > 1e-9)
            factor = (1.0 if held == 2 else 1 - mean[p.state]) * slope * weight
            effect += factor * ((np.arange(size) == p.state) - mean[p.state])
    base = found.posterior[h]
    bounds = []
    for sign in (-1.0, 1.0):
        ratio = base
        for _ in range(100):
            top, bottom = base, 1.0
            for key, a in tops.items():
                b = bottoms[key]
                k = int(np.argmax(sign * (a - ratio * b)))
                top, bottom = top + a[k], bottom + b[k]
            new = top / bottom
            if abs(new - ratio) < 1e-15:
                break
            ratio = new
        bounds.append(float(ratio))
    return bounds[0], bounds[1]


def diff(
    first: Model,
    second: Model,
    evidence: Evidence | RawEvidence,
    second_evidence: Evidence | RawEvidence | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two models on one patient: what differs in the answer, and in the figures behind it.

    Parameters
    ----------
    first, second : Model
    evidence : mapping
        Read by each model.
    second_evidence : Evidence or mapping, optional
        What the second model is asked, where it reads the same findings in other words.

    Returns
    -------
    causes : pandas.DataFrame
        Index: causes, largest change first; columns first, second, change.
    parameters : pandas.DataFrame
        Parameters whose values differ or that only one model has: columns parameter, first,
        second (NaN where missing), log_ratio; largest first.

    Raises
    ------
    EvidenceError
        Evidence that one of the models cannot read or finds impossible.
    """
    import pandas as pd

    asked = (evidence, evidence if second_evidence is None else second_evidence)
    answers = [
        pd.Series(_posterior(m, m.read_evidence(e)), index=list(m.causes))
        for m, e in zip((first, second), asked, strict=True)
    ]
    causes = pd.DataFrame({"first": answers[0], "second": answers[1]}).fillna(0.0)
    causes["change"] = causes["second"] - causes["first"]
    causes = causes.loc[causes["change"].abs().sort_values(ascending=False, kind="stable").index]
    values = [{p.name: p.value for p in parameters_of(m)} for m in (first, second)]
    rows = []
    for name in dict.fromkeys([*values[0], *values[1]]):
        a, b = (v.get(name, float("nan")) for v in values)
        if a != b:
            ratio = np.log(b / a) if a > 0 and b > 0 else float("nan")
            rows.append((name, a, b, ratio))
    parameters = pd.DataFrame(rows, columns=["parameter", "first", "second", "log_ratio"])
    order = parameters["log_ratio"].abs().fillna(np.inf).sort_values(
        ascending=False, kind="stable"
    )
    return causes, parameters.loc[order.index].reset_index(drop=True)
