r"""Why an answer is what it is: weights of evidence, comparisons, conflict, stories.

All numbers are exact posteriors, asked in batches; nothing is fitted or approximated, except that
Shapley contributions of more than `EXACT_PLAYERS` findings are means over sampled orders, with
their standard error.

Formulas
--------
Weight of evidence of finding :math:`i` for a set of causes :math:`A` against :math:`B`, in decibans
(Good, Probability and the Weighing of Evidence, 1950):
:math:`10 \log_{10} \frac{P(A|e)/P(B|e)}{P(A|e_{-i})/P(B|e_{-i})}`, the leave-one-out weight. These
do not sum to the total where findings depend on each other. The order-averaged weight of the same
log odds :math:`v(S)` given a subset of the findings (Shapley, Contributions to the Theory of
Games II, 1953:307),
:math:`\phi_i = \sum_{S \not\ni i} \frac{|S|!(n-|S|-1)!}{n!} (v(S \cup i) - v(S))`, does.

Conflict (Jensen, Chamberlain, Nordahl, Jensen, UAI 1990):
:math:`\log_2 \prod_i P(e_i) / P(e)`; positive where the findings are less likely together than
apart. A hypothesis :math:`h` explains a conflict when
:math:`\log_2 P(h \mid e) / P(h)` is at least as large.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx.clinical.evidence import Evidence
from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from epidural_dx.literature.pooling import Pooled
    from epidural_dx.model import Model, RawEvidence

Array = NDArray[np.float64]
Booleans = NDArray[np.bool_]

#: Decibans per unit of natural log odds.
DECIBANS = 10 / math.log(10)
#: Up to this many findings, Shapley contributions are computed over all subsets.
EXACT_PLAYERS = 12
#: Conditions that a story tells, in the order of the chain that leads to the lesion.
STORY = ("melanoma_stage", "marrow_disease", "hemostasis", "systemic_infection")
#: A state of a condition that holds at least this share of a cause's patients belongs to the
#: sources of the cause's figures.
RELEVANT = 0.1
#: States that mean that there is nothing to tell.
_NOTHING = frozenset({"none", "normal", "absent"})


# ------------------------------------------------------------------ weights of evidence


def leave_one_out(model: Model, evidence: Evidence | RawEvidence) -> list[dict[str, Any]]:
    """Weight of every finding for the leading cause against all others.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping

    Returns
    -------
    list of dict
        ``finding``, ``text``, ``decibans`` (log odds of the leading cause with all findings minus
        those without this one), ``probability_without``, ``cause`` (the leading one) and
        ``leader_without`` (who leads without it); largest absolute weight first. Empty without
        informative evidence.

    Raises
    ------
    EvidenceError
        Evidence that cannot be read or is impossible.
    """
    read = model.read_evidence(evidence)
    names = read.informative
    groups = {name: (name,) for name in names}
    rows = leave_groups_out(model, read, groups)
    for row in rows:
        row["finding"] = row.pop("group")
        row["text"] = text_of(read, row["finding"])
        del row["findings"]
    return [
        {"finding": row.pop("finding"), "text": row.pop("text"), **row}
        for row in rows
    ]


def leave_groups_out(
    model: Model,
    evidence: Evidence | RawEvidence,
    groups: Mapping[str, Collection[str]] | None = None,
) -> list[dict[str, Any]]:
    """Weight of groups of findings for the leading cause, each group left out as a whole.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    groups : mapping of str to collection of str, optional
        Findings by group; by default all findings of one kind (history, laboratory, imaging …)
        together.

    Returns
    -------
    list of dict
        ``group``, ``findings``, ``decibans``, ``probability_without``, ``cause``,
        ``leader_without``; largest absolute weight first.

    Raises
    ------
    EvidenceError
        Bad or impossible evidence, or a group with a finding that was not observed.
    """
    read = model.read_evidence(evidence)
    groups = finding_groups(model, read) if groups is None else groups
    names = read.informative
    for members in groups.values():
        _check_observed(members, names)
    if not names:
        return []
    kept = np.ones((len(groups) + 1, len(names)), dtype=np.bool_)
    for row, members in enumerate(groups.values(), 1):
        kept[row, [names.index(m) for m in members]] = False
    posterior, _ = _subsets(model, read, names, kept)
    leader = int(posterior[0].argmax())
    odds = log_odds(posterior, [leader])
    rows = [
        {
            "group": name,
            "findings": list(members),
            "decibans": float(DECIBANS * (odds[0] - odds[i])),
            "probability_without": float(posterior[i, leader]),
            "cause": model.causes[leader],
            "leader_without": model.causes[int(posterior[i].argmax())],
        }
        for i, (name, members) in enumerate(groups.items(), 1)
    ]
    return sorted(rows, key=lambda row: -abs(float(str(row["decibans"]))))


def finding_groups(model: Model, evidence: Evidence) -> dict[str, tuple[str, ...]]:
    """Informative findings by the group of their variable (history, laboratory, imaging …)."""
    groups: dict[str, tuple[str, ...]] = {}
    for name in evidence.informative:
        group = model.variables[name].group
        groups[group] = (*groups.get(group, ()), name)
    return groups


def log_odds(posterior: Array, first: Sequence[int], second: Sequence[int] | None = None) -> Array:
    """Natural log odds of a set of classes against another, or against all the rest.

    Parameters
    ----------
    posterior : ndarray, shape (rows, classes)
    first, second : sequence of int
        Positions of classes.

    Returns
    -------
    ndarray, shape (rows,)
    """
    others = second
    if others is None:
        others = [i for i in range(posterior.shape[1]) if i not in set(first)]
    for_it = posterior[:, list(first)].sum(axis=1)
    against = posterior[:, list(others)].sum(axis=1)
    tiny = np.finfo(float).tiny
    return np.asarray(np.log(np.maximum(for_it, tiny)) - np.log(np.maximum(against, tiny)))


@dataclass(frozen=True)
class Shapley:
    """Order-averaged contributions to the log odds of a cause.

    Attributes
    ----------
    cause : str
        For which the odds speak.
    against : str
        Against which; ``all others`` for every other cause.
    contributions : mapping of str to float
        Decibans by finding (or group).
    errors : mapping of str to float
        Standard errors in decibans; 0 where exact.
    prior, posterior : float
        Log odds in decibans before and after; their difference is the sum of contributions.
    orders : int
        Number of sampled orders; 0 where exact.
    """

    cause: str
    against: str
    contributions: Mapping[str, float]
    errors: Mapping[str, float]
    prior: float
    posterior: float
    orders: int

    def rows(self) -> list[dict[str, Any]]:
        """Contributions as rows, largest first: finding, decibans, error."""
        return [
            {"finding": name, "decibans": value, "error": self.errors[name]}
            for name, value in sorted(self.contributions.items(), key=lambda item: -abs(item[1]))
        ]


def shapley(
    model: Model,
    evidence: Evidence | RawEvidence,
    cause: str | None = None,
    against: str | None = None,
    *,
    groups: Mapping[str, Collection[str]] | None = None,
    exact_up_to: int = EXACT_PLAYERS,
    orders: int = 200,
    seed: int = 1,
) -> Shapley:
    """Contributions of the findings that sum to the change of the log odds.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    cause : str, optional
        By default the leading cause.
    against : str, optional
        Another cause; by default all others together.
    groups : mapping of str to collection of str, optional
        Findings that count as one player; by default each alone.
    exact_up_to : int
        Largest number of players for which all subsets are asked (``2**n`` of them).
    orders, seed : int
        Sampled orders beyond that; each is taken forwards and backwards, so an even number of
        orders runs.

    Returns
    -------
    Shapley

    Raises
    ------
    EvidenceError
        Bad or impossible evidence, an unknown cause, or a group with an unobserved finding.
    """
    read = model.read_evidence(evidence)
    names = read.informative
    players = {name: (name,) for name in names} if groups is None else dict(groups)
    for members in players.values():
        _check_observed(members, names)
    player_names = tuple(players)
    n = len(player_names)
    member = np.zeros((n, len(names)), dtype=np.bool_)
    for row, who in enumerate(players.values()):
        member[row, [names.index(m) for m in who]] = True
    grouped = member.any(axis=0)

    def worth(coalitions: Booleans) -> Array:
        """Log odds in decibans of every coalition, shape (rows, players) to (rows,)."""
        kept = (coalitions.astype(np.int64) @ member.astype(np.int64)) > 0
        # findings outside every group are known to everybody
        kept = kept | ~grouped
        return np.asarray(
            DECIBANS * log_odds(_subsets(model, read, names, kept)[0], first, second)
        )

    whole = _subsets(model, read, names, np.ones((1, len(names)), dtype=np.bool_))[0]
    first = [_cause(model, cause) if cause is not None else int(whole[0].argmax())]
    second = None if against is None else [_cause(model, against)]
    if n <= exact_up_to:
        subsets = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.bool_)
        values = worth(subsets)
        contributions = exact_shapley(values, n)
        errors = np.zeros(n)
        prior, posterior, drawn = float(values[0]), float(values[-1]), 0
    else:
        generator = np.random.default_rng(seed)
        half = max(1, (orders + 1) // 2)
        gains = np.zeros((half, n))
        prior = posterior = 0.0
        for draw in range(half):
            order = generator.permutation(n)
            steps = np.zeros((2, n + 1, n), dtype=np.bool_)
            for direction, way in enumerate((order, order[::-1])):
                for place, player in enumerate(way):
                    steps[direction, place + 1 :, player] = True
            values = worth(steps.reshape(2 * (n + 1), n)).reshape(2, n + 1)
            prior, posterior = float(values[0, 0]), float(values[0, -1])
            for direction, way in enumerate((order, order[::-1])):
                gains[draw, way] += np.diff(values[direction]) / 2
        contributions = gains.mean(axis=0)
        errors = gains.std(axis=0, ddof=1) / math.sqrt(half) if half > 1 else np.full(n, np.nan)
        drawn = 2 * half
    return Shapley(
        cause=model.causes[first[0]],
        against=against or "all others",
        contributions=dict(zip(player_names, contributions.tolist(), strict=True)),
        errors=dict(zip(player_names, errors.tolist(), strict=True)),
        prior=prior,
        posterior=posterior,
        orders=drawn,
    )


def exact_shapley(values: Array, players: int) -> Array:
    """Shapley values of a game on all subsets (formula in the module docstring).

    Parameters
    ----------
    values : ndarray, shape (2**players,)
        Worth of every coalition; bit i of the index says whether player i is in.
    players : int

    Returns
    -------
    ndarray, shape (players,)
    """
    index = np.arange(len(values))
    size = np.array([int(i).bit_count() for i in index])
    result = np.zeros(players)
    for i in range(players):
        without = index[(index >> i) & 1 == 0]
        weights = np.array(
            [1 / (players * math.comb(players - 1, int(s))) for s in size[without]]
        )
        result[i] = float(weights @ (values[without | (1 << i)] - values[without]))
    return result


# ------------------------------------------------------------------ two causes


def compare(
    model: Model, evidence: Evidence | RawEvidence, cause_a: str, cause_b: str
) -> dict[str, Any]:
    """Weigh the findings for and against one cause compared with another, with their sources.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    cause_a, cause_b : str
        Two causes.

    Returns
    -------
    dict
        ``cause_a``, ``cause_b``, ``prior_decibans``, ``posterior_decibans`` (log odds of a over
        b), ``probability_a``, ``probability_b``, and ``findings``, strongest first: ``finding``,
        ``text``, ``decibans`` (exact, given all other findings: leave one out), ``p_a``, ``p_b``
        (probability of the finding given each cause, nothing else known),
        ``likelihood_ratio`` (p_a / p_b) with ``lower`` and ``upper`` (95 %, from the effective
        sizes of the columns behind it), and ``sources_a``, ``sources_b``: the pooled columns the
        probabilities rest on, each with ``given``, ``state``, ``weight``, ``grade``, ``patients``,
        ``rows`` (literature row ids) and ``sources``.

    Raises
    ------
    EvidenceError
        Bad or impossible evidence, or an unknown cause.
    """
    from epidural_dx.analysis.validation import cause_marginals

    read = model.read_evidence(evidence)
    a, b = _cause(model, cause_a), _cause(model, cause_b)
    names = read.informative
    kept = np.vstack(
        [
            np.ones((1, len(names)), dtype=np.bool_),
            np.zeros((1, len(names)), dtype=np.bool_),
            ~np.eye(len(names), dtype=np.bool_),
        ]
    )
    posterior, _ = _subsets(model, read, names, kept)
    odds = DECIBANS * log_odds(posterior, [a], [b])
    marginals = cause_marginals(model)
    shares = {c: {name: table[c] for name, table in marginals.items()} for c in (a, b)}
    findings = []
    for i, name in enumerate(names):
        weights = np.asarray(read.likelihoods[name], dtype=float)
        weights = weights / weights.max()
        p_a, p_b = (float(marginals[name][cause] @ weights) for cause in (a, b))
        behind = {cause: _columns_behind(model, name, shares[cause]) for cause in (a, b)}
        spread = math.sqrt(
            sum(
                (1 - p) / max(p, 1e-12) / (_patients(behind[cause]) + 1)
                for cause, p in ((a, p_a), (b, p_b))
            )
        )
        ratio = p_a / max(p_b, 1e-300)
        findings.append(
            {
                "finding": name,
                "text": text_of(read, name),
                "decibans": float(odds[0] - odds[2 + i]),
                "p_a": p_a,
                "p_b": p_b,
                "likelihood_ratio": ratio,
                "lower": ratio * math.exp(-1.96 * min(spread, 300.0)),
                "upper": ratio * math.exp(min(1.96 * spread, 300.0)),
                "sources_a": behind[a],
                "sources_b": behind[b],
            }
        )
    return {
        "cause_a": cause_a,
        "cause_b": cause_b,
        "prior_decibans": float(odds[1]),
        "posterior_decibans": float(odds[0]),
        "probability_a": float(posterior[0, a]),
        "probability_b": float(posterior[0, b]),
        "findings": sorted(findings, key=lambda row: -abs(float(str(row["decibans"])))),
    }


def _columns_behind(
    model: Model, finding: str, shares: Mapping[str, Array]
) -> list[dict[str, Any]]:
    """Pooled columns of a finding that matter in patients with a cause, weightiest first.

    ``shares`` holds P(variable | cause) of every variable.
    """
    result = []
    for (variable, given, state, context), pooled in model.built.columns.items():
        if variable != finding or given not in shares:
            continue
        states = model.variables[given].states
        if state not in states:
            continue
        weight = float(shares[given][states.index(state)])
        if weight >= RELEVANT:
            result.append(_column(model, pooled, given, state, context, weight))
    return sorted(result, key=lambda column: -float(str(column["weight"])))


def _column(
    model: Model, pooled: Pooled, given: str, state: str, context: str, weight: float
) -> dict[str, Any]:
    literature = model.literature
    sources = []
    for row in pooled.rows:
        try:
            source = literature.sources.get(literature.figure(row).source_id)
        except KeyError:
            continue
        if source is not None and source.citation not in sources:
            sources.append(source.citation)
    return {
        "given": given,
        "state": state,
        "context": context,
        "weight": weight,
        "grade": pooled.grade,
        "patients": pooled.ess,
        "rows": list(pooled.rows),
        "sources": sources,
    }


def _patients(columns: Sequence[Mapping[str, Any]]) -> float:
    """Effective patients behind a mixture of columns (variance of a weighted mean)."""
    total = sum(column["weight"] for column in columns)
    if not total:
        return 1.0
    return 1 / float(
        sum((column["weight"] / total) ** 2 / max(column["patients"], 0.5) for column in columns)
    )


# ------------------------------------------------------------------ conflict


def conflict(model: Model, evidence: Evidence | RawEvidence) -> dict[str, Any]:
    """Do the findings agree, which do not, and what would reconcile them.

    Returns
    -------
    dict
        ``bits`` (positive: less likely together than apart); ``findings``: each with ``bits``,
        the part of the conflict that vanishes without it (its surprise given the others minus its
        surprise alone), largest first; ``pairs``: the five pairs that conflict most by
        themselves; ``explained_by``: causes and mechanisms whose probability the findings raise
        by at least the conflict, with ``gain`` in bits.

    Raises
    ------
    EvidenceError
        Bad or impossible evidence.
    """
    read = model.read_evidence(evidence)
    names = read.informative
    n = len(names)
    if not n:
        return {"bits": 0.0, "findings": [], "pairs": [], "explained_by": []}
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    kept = np.zeros((1 + 2 * n + len(pairs), n), dtype=np.bool_)
    kept[0] = True
    kept[1 : n + 1] = ~np.eye(n, dtype=np.bool_)
    kept[n + 1 : 2 * n + 1] = np.eye(n, dtype=np.bool_)
    for row, (i, j) in enumerate(pairs, 2 * n + 1):
        kept[row, [i, j]] = True
    _, logs = _subsets(model, read, names, kept)
    logs = logs / math.log(2)
    alone = logs[n + 1 : 2 * n + 1]
    bits = float(alone.sum() - logs[0])
    findings = [
        {
            "finding": name,
            "text": text_of(read, name),
            "bits": float(alone[i] - (logs[0] - logs[1 + i])),
        }
        for i, name in enumerate(names)
    ]
    two = [
        {
            "findings": [names[i], names[j]],
            "bits": float(alone[i] + alone[j] - logs[2 * n + 1 + row]),
        }
        for row, (i, j) in enumerate(pairs)
    ]
    explained = []
    if bits > 0:
        marginals = model.run(read).marginals
        assert marginals is not None
        for variable in ("lesion_cause", "etiology"):
            after = marginals[model.position(variable)][0]
            before = model.base_marginals[variable]
            gains = np.log2(np.maximum(after, 1e-300) / np.maximum(before, 1e-300))
            explained += [
                {
                    "variable": variable,
                    "state": model.variables[variable].states[i],
                    "gain": float(gains[i]),
                    "probability": float(after[i]),
                }
                for i in np.flatnonzero(gains >= bits)
            ]
    return {
        "bits": bits,
        "findings": sorted(findings, key=lambda row: -float(str(row["bits"]))),
        "pairs": sorted(two, key=lambda row: -float(str(row["bits"])))[:5],
        "explained_by": sorted(explained, key=lambda row: -float(str(row["probability"]))),
    }


def surprise(model: Model, evidence: Evidence | RawEvidence) -> list[dict[str, Any]]:
    """How well every cause explains the whole evidence.

    Returns
    -------
    list of dict
        Best first: ``cause``, ``bits`` (of surprise: minus the binary log of P(evidence | cause)),
        ``against_apart`` (the same minus the surprise of the findings taken one by one: below 0
        where the cause explains them better than chance does). If no cause is below 0, nothing
        in the model explains the evidence well.

    Raises
    ------
    EvidenceError
        Bad or impossible evidence.
    """
    read = model.read_evidence(evidence)
    names = read.informative
    n = len(names)
    kept = np.vstack([np.ones((1, n), dtype=np.bool_), np.eye(n, dtype=np.bool_)])
    posterior, logs = _subsets(model, read, names, kept)
    logs = logs / math.log(2)
    prior = model.base_marginals["lesion_cause"]
    under = logs[0] + np.log2(np.maximum(posterior[0], 1e-300) / prior)
    apart = float(logs[1:].sum())
    return [
        {
            "cause": model.causes[i],
            "bits": float(-under[i]),
            "against_apart": float(apart - under[i]),
        }
        for i in np.argsort(-under, kind="stable")
    ]


# ------------------------------------------------------------------ stories and counterfactuals


@dataclass(frozen=True)
class Story:
    """One joint state of the main conditions and the mechanism.

    Attributes
    ----------
    states : mapping of str to str
        State of every condition and of ``etiology``.
    cause : str
        Cause of the lesion.
    probability : float
        Of all of them together, given the evidence.
    text : str
        The chain, such as ``melanoma_stage=metastatic → hemostasis=dic → hematoma_dic``.
    """

    states: Mapping[str, str]
    cause: str
    probability: float
    text: str


def stories(
    model: Model,
    evidence: Evidence | RawEvidence,
    conditions: Sequence[str] = STORY,
    count: int = 3,
) -> list[Story]:
    """Most probable joint explanations (maximum a posteriori over conditions and mechanism).

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    conditions : sequence of str
        What a story tells besides the mechanism; their joint states are enumerated.
    count : int
        How many stories.

    Returns
    -------
    list of Story
        Best first; the first is the most probable explanation.

    Raises
    ------
    EvidenceError
        Bad or impossible evidence, or an unknown condition.
    ValueError
        More than 20,000 joint states of the conditions.
    """
    read = model.read_evidence(evidence)
    model.run(read, want=())  # names the findings if they are impossible
    positions = [model.position(name) for name in conditions]
    joint = model.engine.joint(
        model.arrays(read), positions, target=(model.position("etiology"),), limit=20_000
    )[0]
    best = np.argsort(-joint, axis=None, kind="stable")[:count]
    mechanisms = {m.name: m for m in model.mechanisms}
    names = model.variables["etiology"].states
    result = []
    for flat in best:
        mechanism, *places = (int(i) for i in np.unravel_index(int(flat), joint.shape))
        states = {
            name: model.variables[name].states[place]
            for name, place in zip(conditions, places, strict=True)
        }
        chain = [f"{n}={s}" for n, s in states.items() if s not in _NOTHING]
        result.append(
            Story(
                states={**states, "etiology": names[mechanism]},
                cause=mechanisms[names[mechanism]].cause,
                probability=float(joint.flat[int(flat)]),
                text=" → ".join([*chain, names[mechanism]]),
            )
        )
    return result


def flips(model: Model, evidence: Evidence | RawEvidence) -> list[dict[str, Any]]:
    """Smallest counterfactuals: one finding, changed or unknown, that changes the leading cause.

    Returns
    -------
    list of dict
        ``finding``, ``text`` (as observed), ``instead`` (another state, or ``unknown``),
        ``leader`` and its ``probability`` then; most probable change first, by the probability of
        the changed finding given the others.

    Raises
    ------
    EvidenceError
        Bad or impossible evidence.
    """
    read = model.read_evidence(evidence)
    names = read.informative
    model.run(read, want=())
    rows: list[dict[int, Array]] = [model.arrays(read)]
    labels: list[tuple[str, str]] = [("", "")]
    for name in names:
        observed = np.asarray(read.likelihoods[name], dtype=float)
        here = model.position(name)
        states = model.variables[name].states
        for i in [None, *np.flatnonzero(observed == 0).tolist()]:
            changed = dict(rows[0])
            vector = np.ones(len(observed))
            if i is not None:
                vector = np.zeros(len(observed))
                vector[i] = 1.0
            changed[here] = vector
            rows.append(changed)
            labels.append((name, "unknown" if i is None else states[i]))
    batch = {
        position: np.vstack([row[position] for row in rows]) for position in rows[0]
    }
    if not batch:
        return []
    result = model.engine.run(batch, target=(model.position("lesion_cause"),), want=())
    leader = int(result.posterior[0].argmax())
    unknown = {
        name: result.log_evidence[i]
        for i, (name, state) in enumerate(labels)
        if state == "unknown"
    }
    found = []
    for i, (name, instead) in enumerate(labels):
        if i == 0 or not result.possible[i]:
            continue
        now = int(result.posterior[i].argmax())
        if now != leader:
            found.append(
                {
                    "finding": name,
                    "text": text_of(read, name),
                    "instead": instead,
                    "leader": model.causes[now],
                    "probability": float(result.posterior[i, now]),
                    "chance": float(np.exp(result.log_evidence[i] - unknown[name])),
                }
            )
    return sorted(found, key=lambda row: -float(str(row["chance"])))


# ------------------------------------------------------------------ asking


def text_of(evidence: Evidence, finding: str) -> str:
    """How a finding was given, for display."""
    entry = evidence.entries.get(finding)
    return entry.text if entry is not None else ""


def _cause(model: Model, cause: str) -> int:
    if cause in model.causes:
        return model.causes.index(cause)
    raise EvidenceError(
        f"{cause!r} is not a cause",
        value=cause,
        allowed=model.causes,
        nearest=nearest(str(cause), model.causes, 1),
    )


def _check_observed(members: Collection[str], names: Sequence[str]) -> None:
    for member in members:
        if member not in names:
            raise EvidenceError(
                "is not among the informative findings",
                variable=member,
                allowed=names,
                nearest=nearest(member, names, 1),
            )


def _subsets(
    model: Model, evidence: Evidence, names: Sequence[str], kept: Booleans
) -> tuple[Array, Array]:
    """Posterior of the causes and log evidence under subsets of the findings, in one batch.

    Parameters
    ----------
    kept : ndarray of bool, shape (rows, len(names))
        Which findings count in each row.

    Returns
    -------
    posterior : ndarray, shape (rows, causes)
    log_evidence : ndarray, shape (rows,)
        Natural logarithms of P(findings | a lesion exists), 0 without findings.

    Raises
    ------
    ImpossibleEvidenceError
        All findings together have probability 0.
    """
    # Many rows hold the same findings: each set is asked once. The empty set comes first, since the
    # engine's log evidence also holds the probability of the selection by a lesion.
    empty = np.zeros((1, len(names)), dtype=np.bool_)
    distinct, where = np.unique(np.vstack([empty, kept]), axis=0, return_inverse=True)
    where = where.ravel()
    batch: dict[int, Array] = {}
    for i, name in enumerate(names):
        weights = np.asarray(evidence.likelihoods[name], dtype=float)
        batch[model.position(name)] = np.where(distinct[:, i, None], weights, 1.0)
    result = model.engine.run(batch, target=(model.position("lesion_cause"),), want=())
    if not result.possible.all():
        model.run(evidence)  # raises, naming the findings that cannot stand together
    logs = result.log_evidence - result.log_evidence[where[0]]
    return np.asarray(result.posterior[where[1:]]), np.asarray(logs[where[1:]])
