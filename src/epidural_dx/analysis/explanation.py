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
apart. It compares the model with a straw model, in which the findings are independent (Laskey,
UAI 1991); a second straw model lets them depend on the cause,
:math:`\sum_h P(h) \prod_i P(e_i \mid h)`. Since :math:`E[Q(e)/P(e)] \le 1` for any distribution
:math:`Q` when patients come from :math:`P`, at most :math:`2^{-b}` of the model's own patients
conflict by :math:`b` bits or more (Markov's inequality). A hypothesis :math:`h` explains a conflict
when :math:`\log_2 P(h \mid e) / P(h)` is at least as large.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx.analysis.uncertainty import DEFAULT_DRAWS, interval
from epidural_dx.analysis.wording import (
    cause_words,
    condition_words,
    driver_words,
    listed,
    mechanism_words,
)
from epidural_dx.clinical.evidence import Evidence
from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from epidural_dx.literature.pooling import Pooled
    from epidural_dx.model import Mechanism, Model, RawEvidence

Array = NDArray[np.float64]
Booleans = NDArray[np.bool_]

#: Decibans per unit of natural log odds.
DECIBANS = 10 / math.log(10)
#: Up to this many findings, Shapley contributions are computed over all subsets.
EXACT_PLAYERS = 12
#: Conditions that a story tells, in the order of the chain that leads to the lesion.
STORY = ("melanoma_stage", "marrow_disease", "systemic_infection", "hemostasis")
#: A state of a condition that holds at least this share of a cause's patients belongs to the
#: sources of the cause's figures.
RELEVANT = 0.1
#: A finding with less probability than this, given all others, is unexpected.
UNEXPECTED = 0.02
#: States that mean that there is nothing to tell.
NOTHING = frozenset({"none", "normal", "absent"})


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

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "cause": self.cause,
            "against": self.against,
            "prior_decibans": self.prior,
            "posterior_decibans": self.posterior,
            "orders": self.orders,
            "findings": self.rows(),
        }


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
    first = [cause_position(model, cause) if cause is not None else int(whole[0].argmax())]
    second = None if against is None else [cause_position(model, against)]
    if n <= exact_up_to:
        subsets = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.bool_)
        values = worth(subsets)
        contributions = exact_shapley(values, n)
        errors = np.zeros(n)
        prior, posterior, drawn = float(values[0]), float(values[-1]), 0
    else:
        generator = np.random.default_rng(seed)
        half = max(1, (orders + 1) // 2)
        ways = []
        for _ in range(half):
            order = generator.permutation(n)
            ways += [order, order[::-1]]
        steps = np.zeros((2 * half, n + 1, n), dtype=np.bool_)
        for row, way in enumerate(ways):
            for place, player in enumerate(way):
                steps[row, place + 1 :, player] = True
        values = worth(steps.reshape(-1, n)).reshape(2 * half, n + 1)
        prior, posterior = float(values[0, 0]), float(values[0, -1])
        gains = np.zeros((half, n))
        for row, way in enumerate(ways):
            gains[row // 2, way] += np.diff(values[row]) / 2
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
    model: Model,
    evidence: Evidence | RawEvidence,
    cause_a: str,
    cause_b: str,
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Weigh the findings for and against one cause compared with another, with their sources.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    cause_a, cause_b : str
        Two causes.
    draws, seed : int
        Joint draws of the figures behind the intervals.

    Returns
    -------
    dict
        ``cause_a``, ``cause_b``, ``prior_decibans``, ``posterior_decibans`` (log odds of a over
        b), ``probability_a``, ``probability_b``, and ``findings``, strongest first: ``finding``,
        ``text``, ``decibans`` (exact, given all other findings: leave one out), ``p_a``, ``p_b``
        (probability of the finding given each cause, nothing else known),
        ``likelihood_ratio`` (p_a / p_b) with ``lower`` and ``upper`` (90 % under joint draws of all
        figures), and ``sources_a``, ``sources_b``: the pooled columns the
        probabilities rest on, each with ``given``, ``state``, ``weight``, ``grade``, ``patients``,
        ``rows`` (literature row ids) and ``sources``.

    Raises
    ------
    EvidenceError
        Bad or impossible evidence, or an unknown cause.
    """
    from epidural_dx.analysis.validation import cause_marginals

    read = model.read_evidence(evidence)
    a, b = cause_position(model, cause_a), cause_position(model, cause_b)
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
    drawn = _ratio_draws(model, read, names, a, b, draws, seed)
    findings = []
    for i, name in enumerate(names):
        weights = np.asarray(read.likelihoods[name], dtype=float)
        weights = weights / weights.max()
        p_a, p_b = (float(marginals[name][cause] @ weights) for cause in (a, b))
        lower, upper = interval(drawn[:, i])
        findings.append(
            {
                "finding": name,
                "text": text_of(read, name),
                "decibans": float(odds[0] - odds[2 + i]),
                "p_a": p_a,
                "p_b": p_b,
                "likelihood_ratio": p_a / max(p_b, 1e-300),
                "lower": float(lower),
                "upper": float(upper),
                "sources_a": _columns_behind(model, name, shares[a]),
                "sources_b": _columns_behind(model, name, shares[b]),
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


def _ratio_draws(
    model: Model,
    evidence: Evidence,
    names: Sequence[str],
    first: int,
    second: int,
    draws: int,
    seed: int,
) -> Array:
    """Likelihood ratio of every finding by itself in every draw of the figures.

    Returns
    -------
    ndarray, shape (draws, len(names))
    """
    bank = model.bank(draws, seed)
    single = subset_batch(model, evidence, names, np.eye(len(names), dtype=np.bool_))
    target = (model.position("lesion_cause"),)
    after = model.engine.run(single, target=target, want=(), bank=bank).posterior
    before = model.engine.run({}, target=target, want=(), bank=bank).posterior
    tiny = np.finfo(float).tiny
    # P(finding | a) / P(finding | b) is the change of the odds of a over b
    ratio = np.maximum(after[..., first], tiny) / np.maximum(after[..., second], tiny)
    with np.errstate(over="ignore"):  # infinite where the finding excludes the second cause
        return np.asarray((ratio * before[..., second] / before[..., first]).T)


# ------------------------------------------------------------------ conflict


def conflict(model: Model, evidence: Evidence | RawEvidence) -> dict[str, Any]:
    """Do the findings agree, which do not, and what would reconcile them.

    Returns
    -------
    dict
        ``bits`` (positive: less likely together than apart); ``bits_given_cause`` (the same with
        the findings independent given the cause as straw model); ``chance`` (the largest share
        of the model's own patients with the same findings known that conflict as much or more);
        ``findings``: each with ``bits``,
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
        return {
            "bits": 0.0,
            "bits_given_cause": 0.0,
            "chance": 1.0,
            "findings": [],
            "pairs": [],
            "explained_by": [],
        }
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
        "bits_given_cause": _conflict_given_cause(model, read, float(logs[0])),
        "chance": min(1.0, 2.0**-bits),
        "findings": sorted(findings, key=lambda row: -float(str(row["bits"]))),
        "pairs": sorted(two, key=lambda row: -float(str(row["bits"])))[:5],
        "explained_by": sorted(explained, key=lambda row: -float(str(row["probability"]))),
    }


def _conflict_given_cause(model: Model, evidence: Evidence, log_evidence: float) -> float:
    """Conflict in bits against findings that are independent given the cause.

    ``log_evidence`` is the binary logarithm of P(findings | a lesion exists).
    """
    from epidural_dx.analysis.validation import naive_likelihoods

    straw = naive_likelihoods(model, [evidence])[0] + np.log(model.base_marginals["lesion_cause"])
    return float(np.logaddexp.reduce(straw) / math.log(2) - log_evidence)


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


def unexplained_findings(model: Model, evidence: Evidence | RawEvidence) -> list[dict[str, Any]]:
    """List findings that all the others did not let expect, and what would explain them.

    Age, sex and history are left out: rare exposures need no explanation.

    Returns
    -------
    list of dict
        Most surprising first, those with a probability below :data:`UNEXPECTED` given all other
        findings: ``finding``, ``text``, ``chance`` (that probability), ``cause`` (under which the
        finding would be likeliest), ``chance_given_cause`` and ``probability`` (of that cause now).

    Raises
    ------
    EvidenceError
        Bad or impossible evidence.
    """
    read = model.read_evidence(evidence)
    names = read.informative
    n = len(names)
    kept = np.vstack([np.ones((1, n), dtype=np.bool_), ~np.eye(n, dtype=np.bool_)])
    posterior, logs = _subsets(model, read, names, kept)
    found = []
    for i, name in enumerate(names):
        chance = float(np.exp(logs[0] - logs[1 + i])) / max(read.likelihoods[name])
        if chance >= UNEXPECTED or model.variables[name].group in ("patient", "history"):
            continue
        under = chance * posterior[0] / np.maximum(posterior[1 + i], 1e-300)
        best = int(under.argmax())
        found.append(
            {
                "finding": name,
                "text": text_of(read, name),
                "chance": chance,
                "cause": model.causes[best],
                "chance_given_cause": float(under[best]),
                "probability": float(posterior[0, best]),
            }
        )
    return sorted(found, key=lambda row: float(str(row["chance"])))


# ------------------------------------------------------------------ stories


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
        The chain in words, such as ``melanoma in the marrow → disseminated intravascular
        coagulation → epidural hematoma``; what does not lead to the mechanism follows it, such as
        ``, with platelet inhibition``.
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
        end = mechanisms[names[mechanism]]
        drives = _conditions_behind(model, mechanism, conditions)
        told = {n: words for n, s in states.items() if (words := condition_words(n, s))}
        chain = [words for n, words in told.items() if n in drives]
        beside = [words for n, words in told.items() if n not in drives]
        result.append(
            Story(
                states={**states, "etiology": names[mechanism]},
                cause=end.cause,
                probability=float(joint.flat[int(flat)]),
                text=" → ".join([*chain, _end(end, chain)])
                + (f", with {listed(beside)}" if beside else ""),
            )
        )
    return result


def _conditions_behind(
    model: Model, mechanism: int, conditions: Sequence[str]
) -> frozenset[str]:
    """Conditions that lead to a mechanism: its rate depends on them, or on what they bring about.

    A function of other variables (``marrow_disease`` of the blood's and the tumour's part) also
    counts where one of its arguments leads there.
    """
    names = list(model.variables)
    parents = {f.child: f.variables[:-1] for f in model.plan.network.factors if f.child is not None}
    reached = {
        axis
        for f in model.plan.network.factors
        if f.child is None and len(f.variables) == 2 and np.ptp(f.table[mechanism]) > 0
        for axis in f.variables[1:]
        if model.variables[names[axis]].group != "patient"
    }
    waiting = list(reached)
    while waiting:
        above = [p for p in parents.get(waiting.pop(), ()) if p not in reached]
        reached.update(above)
        waiting += above
    return frozenset(
        name
        for name in conditions
        if (here := model.position(name)) in reached
        or (
            model.variables[name].kind in ("deterministic", "dominance")
            and reached.intersection(parents.get(here, ()))
        )
    )


def _end(mechanism: Mechanism, chain: Sequence[str]) -> str:
    """Return the mechanism as the last link: its driver is not said twice."""
    if driver_words(mechanism.driver) in chain:
        return cause_words(mechanism.cause)
    return mechanism_words(mechanism.name, mechanism.cause, mechanism.driver)


# ------------------------------------------------------------------ asking


def text_of(evidence: Evidence, finding: str) -> str:
    """How a finding was given, for display."""
    entry = evidence.entries.get(finding)
    return entry.text if entry is not None else ""


def cause_position(model: Model, cause: str) -> int:
    """Position of a cause.

    Raises
    ------
    EvidenceError
        There is no such cause.
    """
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


def subset_batch(
    model: Model, evidence: Evidence, names: Sequence[str], kept: Booleans
) -> dict[int, Array]:
    """Evidence of many subsets of the findings as one batch for the engine.

    Parameters
    ----------
    kept : ndarray of bool, shape (rows, len(names))
        Which findings count in each row.

    Returns
    -------
    dict of int to ndarray, shape (rows, states)
    """
    batch: dict[int, Array] = {}
    for i, name in enumerate(names):
        weights = np.asarray(evidence.likelihoods[name], dtype=float)
        batch[model.position(name)] = np.where(kept[:, i, None], weights, 1.0)
    return batch


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
    batch = subset_batch(model, evidence, names, distinct)
    result = model.engine.run(batch, target=(model.position("lesion_cause"),), want=())
    if not result.possible.all():
        model.run(evidence)  # raises, naming the findings that cannot stand together
    logs = result.log_evidence - result.log_evidence[where[0]]
    return np.asarray(result.posterior[where[1:]]), np.asarray(logs[where[1:]])
