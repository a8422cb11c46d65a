"""Tests ranked by what they tell, what that costs, and what it is worth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from epidural_dx.clinical.display import dollars, duration, rounded_percent
from epidural_dx.clinical.spelling import nearest
from epidural_dx.decision.gates import UNTIL_CORRECTED, Admission
from epidural_dx.decision.panels import (
    EXACT_OUTCOMES,
    Outcomes,
    divergence,
    pair_information,
)
from epidural_dx.decision.workup import Workup, require_hours
from epidural_dx.errors import EvidenceError
from epidural_dx.inference.information import mutual_information
from epidural_dx.inference.network import FloatArray

if TYPE_CHECKING:
    from epidural_dx.model import Model

#: Orders of the ranking.
ORDERS = ("information", "information_per_cost", "information_per_hour", "value")

#: When a test can be done, from now to never, in the order of the ranking: at once; once another
#: test has settled what might bar it; an operation, which is treatment; once something has been
#: corrected; not at all.
WHEN = ("now", "after", "operation", "until corrected", "barred")

#: Pairs of causes are named if they hold at least this share of the information on the cause.
PAIR_SHARE = 0.05
#: ... and at least this many bits.
PAIR_BITS = 0.005
#: At most this many pairs.
PAIRS = 4
#: Targets whose pairs of states have fields of their own.
TOLD_ELSEWHERE = frozenset({"etiology", "lesion_cause", "marrow_infiltration"})
#: At most this many results of a finding are told, each at least this likely.
RESULTS = 3
LIKELY_RESULT = 0.02
#: Findings named of a test whose images are looked at again.
LOOK_FOR = 4
#: Results that move the leading cause by less than this are summed up.
UNMOVED = 0.02


def named_result(finding: str, state: str) -> str:
    """Return a result in words: ``no fever``, ``enhancement: rim``."""
    name = finding.replace("_", " ")
    if state == "absent":
        return f"no {name}"
    return name if state == "present" else f"{name}: {state.replace('_', ' ')}"


def _subject(about: str, state: str) -> str:
    """Return a cause, or what the marrow holds, in words."""
    name = state.replace("_", " ")
    if about == "lesion_cause":
        return name
    return "a marrow without tumour" if state == "none" else f"{name} in the marrow"


def _sure(p: float) -> str:
    return "over 0.99" if p > 0.995 else "under 0.01" if p < 0.005 else f"{p:.2f}"


def _rarely(p: float) -> str:
    """Return a small probability as one in so many."""
    if p < 1e-5:
        return "next to never"
    if p >= 0.01:
        return f"in {rounded_percent(p)}"
    count = 1 / p
    digits = len(str(int(count))) - 2
    return f"once in {round(count, -digits):,.0f}"


@dataclass(frozen=True)
class Result:
    """One result of a finding and what it would do.

    Attributes
    ----------
    finding, state : str
    probability : float
    about : {"lesion_cause", "marrow_infiltration"}
        Whichever the test tells more about.
    leader : str
        The leading state of it after the result.
    leader_probability : float
    before : float
        The probability of that state now.
    """

    finding: str
    state: str
    probability: float
    about: str
    leader: str
    leader_probability: float
    before: float

    @property
    def words(self) -> str:
        """The result in words, to follow "if it shows"."""
        return (
            f"{named_result(self.finding, self.state)} ({rounded_percent(self.probability)}), "
            f"{_subject(self.about, self.leader)} leads with {_sure(self.leader_probability)} "
            f"(now {_sure(self.before)})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "finding": self.finding,
            "state": self.state,
            "probability": self.probability,
            "about": self.about,
            "leader": self.leader,
            "leader_probability": self.leader_probability,
            "before": self.before,
        }


@dataclass(frozen=True)
class RankedTest:
    """One test with its worth for one patient.

    Attributes
    ----------
    test, label : str
    findings : tuple of str
        What it would still reveal.
    information_bits : float
        Mutual information of the target and the joint outcome of the findings.
    standard_error : float
        Of the information; 0 when it is exact.
    method : {"exact", "quasi_monte_carlo"}
    cost_usd : float
        Price.
    turnaround_hours : float
        From order to result, corrections that must come first included.
    harm : float
        Expected utility lost through harm in this patient.
    serious_harm : float
        Probability of serious harm or death in this patient.
    value : float or None
        Expected utility of ordering it minus that of acting now, net of harm, delay and price;
        None where the network has no decision variables.
    information_per_cost : float
        Bits per 100 US dollars of price, delay and harm together.
    information_per_hour : float
        Bits per hour until the result (never below the shortest time of ``priors/utilities.yaml``).
    cost_equivalent_usd : float
        Price, delay and harm in dollars (weights: ``priors/utilities.yaml``).
    allowed : bool or "until corrected"
    when : str
        One of :data:`WHEN`.
    reason : str
        One sentence.
    separates : tuple of (str, float)
        Pairs of causes (``"emh | leukemia"``) with the bits that go into telling them apart.
    separates_marrow : tuple of (str, float)
        The same for what the marrow holds; empty where that is not asked about.
    separates_target : tuple of (str, float)
        The same for the states of what is asked about, where that is neither the cause nor the
        marrow.
    cause_bits, marrow_bits : float
        Information about ``lesion_cause``, and about ``marrow_infiltration`` if asked about.
    changes_lead : float
        Probability that the result changes the leading cause.
    expected_lead : float
        Probability that the leading cause will have on average once the result is there.
    images_at_hand : bool
        Done already: its images are looked at again, which costs minutes.
    first : tuple of str
        Tests to be done before.
    results : tuple of Result
        The likeliest results of its most telling finding, and what each would do.
    """

    test: str
    label: str
    findings: tuple[str, ...]
    information_bits: float
    standard_error: float
    method: str
    cost_usd: float
    turnaround_hours: float
    harm: float
    serious_harm: float
    value: float | None
    information_per_cost: float
    information_per_hour: float
    cost_equivalent_usd: float
    allowed: bool | str
    when: str
    reason: str
    separates: tuple[tuple[str, float], ...]
    separates_marrow: tuple[tuple[str, float], ...]
    separates_target: tuple[tuple[str, float], ...]
    cause_bits: float
    marrow_bits: float
    changes_lead: float
    expected_lead: float
    images_at_hand: bool = False
    first: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()

    @property
    def explanation(self) -> str:
        """What the likeliest results would do to the leading cause, and what it costs."""
        sentences = []
        if self.results:
            first = self.results[0]
            moved = max(abs(r.leader_probability - r.before) for r in self.results)
            if moved < UNMOVED and all(r.leader == first.leader for r in self.results):
                leader = _subject(first.about, first.leader)
                sentences.append(f"Whatever it shows, {leader} leads (now {_sure(first.before)}).")
            else:
                told = "; if ".join(r.words for r in self.results)
                sentences.append(f"If it shows {told}.")
        sentences.append(
            f"It costs {dollars(self.cost_usd)} and {duration(self.turnaround_hours)}; serious "
            f"harm or death {_rarely(self.serious_harm)}."
        )
        return " ".join(sentences)

    def as_row(self) -> dict[str, Any]:
        """Return the columns of the table of tests."""
        return {
            "test": self.test,
            "information_bits": self.information_bits,
            "standard_error": self.standard_error,
            "cost_usd": self.cost_usd,
            "turnaround_hours": self.turnaround_hours,
            "harm": self.harm,
            "value": self.value,
            "information_per_cost": self.information_per_cost,
            "information_per_hour": self.information_per_hour,
            "allowed": self.allowed,
            "when": self.when,
            "reason": self.reason,
            "label": self.label,
            "findings": len(self.findings),
            "method": self.method,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            **self.as_row(),
            "findings": list(self.findings),
            "images_at_hand": self.images_at_hand,
            "cost_equivalent_usd": self.cost_equivalent_usd,
            "serious_harm": self.serious_harm,
            "separates": [{"causes": pair, "bits": bits} for pair, bits in self.separates],
            "separates_marrow": [
                {"states": pair, "bits": bits} for pair, bits in self.separates_marrow
            ],
            "separates_target": [
                {"states": pair, "bits": bits} for pair, bits in self.separates_target
            ],
            "cause_bits": self.cause_bits,
            "marrow_bits": self.marrow_bits,
            "changes_lead": self.changes_lead,
            "expected_lead": self.expected_lead,
            "first": list(self.first),
            "results": [r.as_dict() for r in self.results],
            "explanation": self.explanation,
        }


def rank_tests(
    model: Model,
    evidence: Any,
    target: str | Sequence[str] = ("etiology", "marrow_infiltration"),
    by: str = "information",
    *,
    exclude: Iterable[str] = (),
    max_hours: float | None = None,
    hours_since_onset: float | None = None,
    exact_outcomes: int = EXACT_OUTCOMES,
) -> list[RankedTest]:
    """Rank the tests that would still reveal something, best first.

    Tests that can be done now come first, then those that another test must open, operations,
    those that wait for a correction, and barred ones (:data:`WHEN`).

    Parameters
    ----------
    model : Model
    evidence : mapping or Evidence
    target : str or sequence of str
        What the information is about.
    by : {"information", "information_per_cost", "information_per_hour", "value"}
    exclude : iterable of str
        Tests to leave out.
    max_hours : float, optional
        Leave out tests whose result comes later.
    hours_since_onset : float, optional
        For the value; by default as in ``priors/utilities.yaml``.
    exact_outcomes : int
        Panels with more joint outcomes are sampled.

    Returns
    -------
    list of RankedTest

    Raises
    ------
    EvidenceError
        Bad evidence, an unknown target, order or test, a negative time.
    """
    if by not in ORDERS:
        close = nearest(str(by), ORDERS)
        raise EvidenceError(f"unknown order {by!r}", allowed=ORDERS, nearest=close)
    require_hours("max_hours", max_hours)
    workup = Workup(
        model,
        evidence,
        target,
        exclude=exclude,
        hours_since_onset=hours_since_onset,
        exact_outcomes=exact_outcomes,
    )
    ranked = []
    for test in workup.panels:
        admission = workup.gates.judge(test)
        if max_hours is not None and workup.hours(test, admission) > max_hours:
            continue
        ranked.append(_ranked(workup, test, admission))
    return sorted(ranked, key=lambda r: (WHEN.index(r.when), -_score(r, by)))


def _score(ranked: RankedTest, by: str) -> float:
    if by == "information":
        return ranked.information_bits
    if by == "information_per_cost":
        return ranked.information_per_cost
    if by == "information_per_hour":
        return ranked.information_per_hour
    return -math.inf if ranked.value is None else ranked.value


def _when(workup: Workup, test: str, admission: Admission) -> str:
    if admission.allowed is False:
        return "barred"
    if admission.allowed == UNTIL_CORRECTED:
        return "until corrected"
    utilities = workup.problem.utilities
    if utilities is not None and test in {a.as_test for a in utilities.actions}:
        return "operation"
    return "after" if admission.first else "now"


def _ranked(workup: Workup, test: str, admission: Admission) -> RankedTest:
    entry = workup.entry(test)
    findings, panel = workup.panels[test], workup.positions[test]
    outcomes = workup.calculator.outcomes(panel)
    problem, weights = workup.problem, workup.catalog.weights
    hours = workup.hours(test, admission)
    floor = weights.floor_minutes / 60 * weights.usd_per_hour
    delay = hours * problem.loss_per_hour * weights.usd_per_utility
    cost = max(floor, entry.price_usd + delay + admission.loss * weights.usd_per_utility)
    causes, marrow = _told(workup, panel)
    told = marrow if marrow.bits > causes.bits else causes
    return RankedTest(
        test=test,
        label=entry.label,
        findings=findings,
        information_bits=outcomes.information,
        standard_error=outcomes.standard_error,
        method=outcomes.method,
        cost_usd=entry.price_usd,
        turnaround_hours=hours,
        harm=admission.loss,
        serious_harm=admission.harms["serious"] + admission.harms["death"],
        value=problem.net_value(panel, entry, admission),
        information_per_cost=outcomes.information / cost * 100,
        information_per_hour=outcomes.information / max(hours, weights.floor_minutes / 60),
        cost_equivalent_usd=cost,
        allowed=admission.allowed,
        when=_when(workup, test, admission),
        reason=_reason(workup, test, admission, told),
        separates=causes.pairs,
        separates_marrow=marrow.pairs,
        separates_target=_target_pairs(workup, outcomes),
        cause_bits=causes.bits,
        marrow_bits=marrow.bits,
        changes_lead=causes.change,
        expected_lead=causes.lead,
        images_at_hand=workup.gates.at_hand(test),
        first=admission.first,
        results=_results(workup, panel, told.about),
    )


def _told(workup: Workup, panel: tuple[int, ...]) -> tuple[_Told, _Told]:
    """Return what a panel says about the cause, and about the marrow if that is asked about."""
    problem = workup.problem
    causes = _separation("lesion_cause", problem.causes, problem.cause_outcomes(panel))
    marrow = _Told("marrow_infiltration")
    name = "marrow_infiltration"
    if name in workup.model.variables and workup.model.position(name) in workup.calculator.target:
        states = workup.model.variables[name].states
        marrow = _separation(name, states, problem.marrow_outcomes(panel))
    return causes, marrow


def _target_pairs(workup: Workup, outcomes: Outcomes) -> tuple[tuple[str, float], ...]:
    """Return the pairs of states of other targets than cause and marrow that are told apart."""
    target = workup.calculator.target
    names = [list(workup.model.variables)[v] for v in target]
    if not TOLD_ELSEWHERE.isdisjoint(names):
        return ()
    joint = outcomes.target.reshape(-1, *(workup.calculator.sizes[v] for v in target))
    found: list[tuple[str, float]] = []
    for axis, name in enumerate(names):
        others = tuple(1 + i for i in range(len(names)) if i != axis)
        told = _separation(
            name, workup.model.variables[name].states, (outcomes.weights, joint.sum(axis=others))
        )
        label = f"{name.replace('_', ' ')} " if len(names) > 1 else ""
        found += [(f"{label}{pair}", bits) for pair, bits in told.pairs]
    return tuple(sorted(found, key=lambda one: -one[1])[:PAIRS])


def _results(workup: Workup, panel: tuple[int, ...], about: str) -> tuple[Result, ...]:
    """Return the likeliest results of the finding that tells most about the cause or the marrow."""
    problem = workup.problem
    if about == "lesion_cause":
        found = problem.cause_outcomes(panel)
    else:
        found = problem.marrow_outcomes(panel)
    if found is None:
        return ()
    weights, posterior = found
    joint = weights[:, None] * posterior
    states = workup.problem.outcomes(panel).states
    best: tuple[float, int, FloatArray] | None = None
    for place, v in enumerate(panel):
        table = np.eye(workup.calculator.sizes[v])[states[place]].T @ joint
        bits = float(mutual_information(table))
        if best is None or bits > best[0]:
            best = (bits, v, table)
    assert best is not None
    _, v, table = best
    variable = list(workup.model.variables.values())[v]
    shares = table.sum(axis=1)
    part = problem.causes_of if about == "lesion_cause" else problem.marrow_of
    prior = part(problem.prior)[0]
    names = workup.model.variables[about].states
    results = []
    for state in np.argsort(-shares, kind="stable")[:RESULTS]:
        if shares[state] < LIKELY_RESULT:
            continue
        lead = int(table[state].argmax())
        results.append(
            Result(
                finding=variable.name,
                state=variable.states[state],
                probability=float(shares[state]),
                about=about,
                leader=names[lead],
                leader_probability=float(table[state, lead] / shares[state]),
                before=float(prior[lead]),
            )
        )
    return tuple(results)


@dataclass(frozen=True)
class _Told:
    """What a panel says about the cause, or about the marrow.

    Attributes
    ----------
    about : str
        The variable.
    pairs : tuple of (str, float)
        States that it tells apart, with bits.
    bits : float
        Information on the variable.
    change : float
        Chance of another leading state.
    lead : float
        Probability of the leading state on average afterwards.
    """

    about: str
    pairs: tuple[tuple[str, float], ...] = ()
    bits: float = 0.0
    change: float = 0.0
    lead: float = 1.0


def _separation(
    about: str, names: Sequence[str], outcomes: tuple[FloatArray, FloatArray] | None
) -> _Told:
    if outcomes is None:
        return _Told(about)
    weights, posterior = outcomes
    prior = weights @ posterior
    likely = np.flatnonzero(prior > 1e-6)
    pairs = pair_information(weights, posterior[:, likely])
    bits = max(float(weights @ divergence(posterior, prior)), 0.0)
    upper = [(i, j) for i in range(len(likely)) for j in range(i + 1, len(likely))]
    upper.sort(key=lambda ij: -pairs[ij])
    named = []
    for i, j in upper[:PAIRS]:
        if pairs[i, j] >= max(PAIR_SHARE * bits, PAIR_BITS):
            a, b = sorted((likely[i], likely[j]), key=lambda c: -prior[c])
            named.append((f"{names[a]} | {names[b]}", float(pairs[i, j])))
    return _Told(
        about,
        pairs=tuple(named),
        bits=bits,
        change=float(weights[posterior.argmax(axis=1) != int(prior.argmax())].sum()),
        lead=float(weights @ posterior.max(axis=1)),
    )


def _reason(workup: Workup, test: str, admission: Admission, told: _Told) -> str:
    """One or two sentences from the numbers."""
    parts = []
    if _when(workup, test, admission) == "operation":
        parts.append("an operation, which is treatment and gives tissue besides")
    if admission.allowed is not True:
        verb = "put off" if admission.allowed == UNTIL_CORRECTED else "not now"
        parts.append(f"{verb}: {'; '.join(admission.barriers)}")
        if admission.corrections:
            parts.append(
                f"opened by {' and '.join(admission.corrections)} "
                f"(about {duration(admission.correction_hours)})"
            )
    if admission.first:
        parts.append(f"first {' or '.join(admission.first)}".replace("_", " "))
        if admission.look_up:
            parts[-1] += f" to rule out {'; '.join(admission.look_up)}"
    elif admission.look_up:
        parts.append(f"ask first about {'; '.join(admission.look_up)}")
    what = "cause" if told.about == "lesion_cause" else "marrow"
    if told.pairs:
        (pair, bits), *others = told.pairs[:2]
        apart = f"{_apart(pair)} ({bits:.2f} of its {told.bits:.2f} bits on the {what})"
        apart += "".join(f" and {_apart(p)} ({b:.2f})" for p, b in others)
        parts.append(f"tells {'in the marrow ' if what == 'marrow' else ''}{apart}")
    else:
        parts.append(f"hardly moves the causes ({told.bits:.3f} bits)")
    leads = "another cause leads" if what == "cause" else "something else in the marrow leads"
    parts.append(f"{leads} after {rounded_percent(told.change)} of results")
    parts += _weakened(workup, test)
    open_count, all_count = len(workup.panels[test]), len(workup.tests[test])
    if workup.gates.at_hand(test):
        findings = [f.replace("_", " ") for f in workup.panels[test][:LOOK_FOR]]
        more = f" and {open_count - LOOK_FOR} more" if open_count > LOOK_FOR else ""
        parts.append(f"done already: look again for {', '.join(findings)}{more}")
    elif open_count < all_count:
        parts.append(f"{open_count} of {all_count} findings still open")
    text = ", ".join(parts)
    return text[0].upper() + text[1:] + "."


def _apart(pair: str) -> str:
    names = ["no tumour" if name == "none" else name for name in pair.split(" | ")]
    return " from ".join(names).replace("_", " ")


def _weakened(workup: Workup, test: str) -> list[str]:
    """Return what has been done before a test and weakens it, with the share that is left."""
    found: dict[str, str] = {}
    for finding in workup.panels[test]:
        by, kept = workup.model.weakened.get(finding, ("", 1.0))
        if by and workup.tables.fixed.get(workup.model.position(by)) == 1:
            name = by.replace("_", " ")
            found[by] = f"{name} leaves {rounded_percent(kept)} of its telling results"
    return list(found.values())
