"""Everything that explains one answer, and the letter that tells it.

The letter is made from the numbers alone: no sentence says what no number here holds. Figures are
exact posteriors except where a sentence says that they are sampled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epidural_dx.analysis.counterfactuals import (
    UNKNOWN,
    Counterfactuals,
    OpenFinding,
    open_findings,
    smallest_changes,
)
from epidural_dx.analysis.explanation import (
    Shapley,
    Story,
    cause_position,
    compare,
    conflict,
    finding_groups,
    leave_one_out,
    shapley,
    stories,
    surprise,
    unexplained_findings,
)
from epidural_dx.analysis.paths import Path, Reasons, paths
from epidural_dx.analysis.wording import (
    alternatives,
    cause_words,
    condition_words,
    driver_words,
    finding_words,
    label_words,
    listed,
    plain,
    sentence,
    state_words,
)
from epidural_dx.answer import CONFLICT
from epidural_dx.clinical.display import percent
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from epidural_dx.answer import Answer
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.decision.ranking import RankedTest
    from epidural_dx.model import Model, RawEvidence

#: Sampled orders of the findings, where there are too many for all subsets.
ORDERS = 60
#: Contributions below this many decibans are summed up.
SMALL = 1.0
#: Logarithm of a likelihood ratio that is worth naming.
TELLING_RATIO = math.log(1.2)
#: Findings named for and against.
MOST_NAMED = 5
#: A test that tells less than this (bits) is not advised.
WORTH = 0.01
#: A condition with less probability is not named on the way of a finding.
NAMED = 0.1
#: Sources named at most for one figure.
MOST_SOURCES = 2


@dataclass(frozen=True, eq=False)
class Consultation:
    """The explanation of one answer.

    Attributes
    ----------
    answer : Answer
    cause, rival : str
        The cause that is explained (the leading one unless another was asked for), and the one
        it is compared with.
    lower, upper : float
        90 % interval of its probability.
    weights : list of dict
        Leave-one-out weights for the leading cause (`explanation.leave_one_out`).
    contributions : Shapley
        Of every finding; they sum to the change of the log odds.
    groups : Shapley
        The same with findings of one kind together.
    paths : list of Path
        Through which conditions each finding acts.
    reasons : list of Reasons
        What made the conditions behind the cause likely.
    comparison : dict
        Cause against rival (`explanation.compare`).
    stories : list of Story
    changes : Counterfactuals
    missing : list of OpenFinding
    conflict : dict
        From `explanation.conflict`.
    unexpected : list of dict
        Findings that the others did not let expect (`explanation.unexplained_findings`).
    surprise : list of dict
        How well every cause explains everything (`explanation.surprise`).
    """

    answer: Answer
    cause: str
    rival: str
    lower: float
    upper: float
    weights: list[dict[str, Any]]
    contributions: Shapley
    groups: Shapley
    paths: list[Path]
    reasons: list[Reasons]
    comparison: dict[str, Any]
    stories: list[Story]
    changes: Counterfactuals
    missing: list[OpenFinding]
    conflict: dict[str, Any]
    unexpected: list[dict[str, Any]]
    surprise: list[dict[str, Any]]

    @property
    def model(self) -> Model:
        """The model that answered."""
        return self.answer.model

    @property
    def evidence(self) -> Evidence:
        """What is known."""
        return self.answer.evidence

    @property
    def probability(self) -> float:
        """Of the cause that is explained."""
        return dict(self.answer.ranked_causes())[self.cause]

    @property
    def unexplained(self) -> bool:
        """Whether every cause explains the findings worse than chance does."""
        return all(row["against_apart"] > 0 for row in self.surprise)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "cause": self.cause,
            "probability": self.probability,
            "lower": self.lower,
            "upper": self.upper,
            "rival": self.rival,
            "findings": self.weights,
            "contributions": {
                **self.contributions.as_dict(),
                "groups": [
                    {"group": row["finding"], **{k: row[k] for k in ("decibans", "error")}}
                    for row in self.groups.rows()
                ],
            },
            "paths": [path.as_dict() for path in self.paths],
            "conditions": [reasons.as_dict() for reasons in self.reasons],
            "comparison": self.comparison,
            "stories": [
                {
                    "text": s.text,
                    "cause": s.cause,
                    "probability": s.probability,
                    "states": dict(s.states),
                }
                for s in self.stories
            ],
            "counterfactuals": self.changes.as_dict(),
            "missing": [one.as_dict() for one in self.missing],
            "conflict": self.conflict,
            "unexpected": self.unexpected,
            "surprise": self.surprise,
            "unexplained": self.unexplained,
            "letter": [{"heading": h, "text": t} for h, t in letter(self)],
            "sources": list(references(self)),
        }


def consult(
    model: Model,
    evidence: Evidence | RawEvidence,
    *,
    cause: str | None = None,
    against: str | None = None,
    orders: int = ORDERS,
    seed: int = 1,
) -> Consultation:
    """Explain one answer in full.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    cause : str, optional
        Explain this cause; by default the leading one.
    against : str, optional
        Compare it with this one; by default the likeliest other.
    orders, seed : int
        Sampled orders for the contributions of many findings, and their seed.

    Returns
    -------
    Consultation

    Raises
    ------
    EvidenceError
        Bad or impossible evidence, an unknown cause, or a cause compared with itself.
    """
    answer = model.diagnose(evidence)
    read = answer.evidence
    ranked = answer.ranked_causes()
    named = ranked[0][0] if cause is None else model.causes[cause_position(model, cause)]
    rival = (
        next(c for c, _ in ranked if c != named)
        if against is None
        else model.causes[cause_position(model, against)]
    )
    if named == rival:
        raise EvidenceError(f"{named} cannot be compared with itself", value=rival)
    place = model.causes.index(named)
    limits = answer.cause_limits
    ways, reasons = paths(model, read, named, seed=seed)
    return Consultation(
        answer=answer,
        cause=named,
        rival=rival,
        lower=float(limits[0, place]),
        upper=float(limits[1, place]),
        weights=leave_one_out(model, read),
        contributions=shapley(model, read, named, orders=orders, seed=seed),
        groups=shapley(model, read, named, groups=finding_groups(model, read), seed=seed),
        paths=ways,
        reasons=reasons,
        comparison=compare(model, read, named, rival),
        stories=stories(model, read),
        changes=smallest_changes(model, read),
        missing=open_findings(model, read, count=7),
        conflict=conflict(model, read),
        unexpected=unexplained_findings(model, read),
        surprise=surprise(model, read),
    )


# ------------------------------------------------------------------- the letter


def letter(found: Consultation) -> list[tuple[str, str]]:
    """Write the explanation as short paragraphs.

    Parameters
    ----------
    found : Consultation

    Returns
    -------
    list of (str, str)
        Heading and paragraph; numbers in brackets are those of :func:`references`.
    """
    cite = _Citations(found)
    parts = [("Impression", _impression(found))]
    if found.evidence.informative:
        parts += [
            ("Full stories", _stories(found)),
            (f"For and against {cause_words(found.cause)}", _weights(found)),
            *_conditions(found),
            (
                f"{sentence(cause_words(found.cause))} or {cause_words(found.rival)}?",
                _comparison(found, cite),
            ),
            ("What would change this", _changes(found)),
        ]
    parts += [
        ("What is not known and would matter", _missing(found)),
        ("Next tests", _next(found)),
        ("Do the findings fit together", _fit(found)),
        ("What this rests on", _grounds(found, cite)),
    ]
    return [(heading, text) for heading, text in parts if text]


def references(found: Consultation) -> tuple[str, ...]:
    """List the sources that the letter cites, in the order of their numbers."""
    cite = _Citations(found)
    _comparison(found, cite)
    return tuple(cite.numbers)


class _Citations:
    """Sources get numbers in the order in which they are cited."""

    def __init__(self, found: Consultation) -> None:
        self.found = found
        self.numbers: dict[str, int] = {}

    def of(self, row: Mapping[str, Any]) -> str:
        """Return the numbers of what a compared finding rests on most, in brackets."""
        named = []
        for columns in (row["sources_a"], row["sources_b"]):
            for column in columns[:1]:
                named += [s for s in column["sources"] if s][:MOST_SOURCES]
        numbers = sorted(
            {self.numbers.setdefault(name, len(self.numbers) + 1) for name in named}
        )
        return f" [{', '.join(map(str, numbers))}]" if numbers else ""


def share(probability: float) -> str:
    """Write a probability for people; nothing possible is written as 0 or 100 %."""
    if probability >= 0.9995:
        return "more than 99.9 %"
    if probability >= 0.00095:
        return percent(probability)
    return f"{100 * probability:.1g} %" if probability >= 0.00005 else "less than 0.01 %"


def between(lower: float, upper: float) -> str:
    """Write an interval of probabilities in percent."""

    def short(p: float) -> str:
        return f"{100 * p:.0f}" if p >= 0.0995 or p < 0.0005 else f"{100 * p:.1f}"

    return f"{short(lower)} to {short(upper)} %"


def ratio(value: float) -> str:
    """Write a likelihood ratio with two digits."""
    if value >= 1e6:
        return "over a million"
    if value >= 1000:
        return f"{float(f'{value:.1e}'):,.0f}"
    return f"{value:.0f}" if value >= 9.5 else f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"


def _impression(found: Consultation) -> str:
    answer = found.answer
    ranked = answer.ranked_causes()
    leader, probability = ranked[0]
    count = len(found.evidence.informative)
    base = dict(
        zip(found.model.causes, found.model.base_marginals["lesion_cause"].tolist(), strict=True)
    )
    limits = dict(zip(found.model.causes, answer.cause_limits.T.tolist(), strict=True))
    where = plain(found.model.scenario)
    if not count:
        return (
            f"Nothing is known yet. By the base rates ({where}), {cause_words(leader)} has "
            f"{share(probability)}, then {_ranking(ranked[1:4])}."
        )
    strength = (
        "is all but certain at"
        if probability >= 0.99
        else "is most likely at"
        if probability >= 0.8
        else "leads with"
        if probability >= 0.5
        else "comes first, but with only"
    )
    low, high = limits[leader]
    text = (
        f"From {count} finding{'s' if count > 1 else ''}, {cause_words(leader)} {strength} "
        f"{share(probability)} (90 % interval {between(low, high)}; "
        f"{share(base[leader])} before any finding, base rates {where})"
    )
    text += f"{_drivers(found, leader)}."
    if probability < 0.99:
        text += f" Next: {_ranking([one for one in ranked[1:5] if one[1] >= 0.01])}."
    if found.cause != leader:
        place = [c for c, _ in ranked].index(found.cause) + 1
        text += (
            f" {sentence(cause_words(found.cause))}, which is explained here, has "
            f"{share(found.probability)} (90 % interval {between(found.lower, found.upper)}), "
            f"place {place} of {len(ranked)}."
        )
    if high - low > 0.5:
        text += (
            " The interval is wide: the published figures behind the answer would also allow "
            "another reading."
        )
    return text


def _ranking(ranked: Sequence[tuple[str, float]]) -> str:
    return listed([f"{cause_words(c)} {share(p)}" for c, p in ranked])


def _drivers(found: Consultation, cause: str) -> str:
    named = [(d, p) for _, c, d, p in found.answer.ranked_etiology() if c == cause]
    total = sum(p for _, p in named)
    if len(named) < 2 or total <= 0:
        return ""
    told = [(driver_words(d), p / total) for d, p in named]
    if told[0][1] < 0.5:
        first = [words or "none that is named" for words, _ in told[:3]]
        return f"; its driver is open ({alternatives(first)}, among others)"
    words, part = told[0]
    if not words or words == cause_words(cause):
        return ""
    much = "" if part >= 0.97 else f" ({share(part)} of it)"
    return f"; driver: {words}{much}"


def _stories(found: Consultation) -> str:
    told = [s for s in found.stories if s.probability >= 0.005]
    text = "\n".join(
        f"{number}. {sentence(s.text)}: {share(s.probability)}."
        for number, s in enumerate(told, 1)
    )
    if told and told[0].cause != found.answer.ranked_causes()[0][0]:
        text += (
            f"\nThe first story does not end in {cause_words(found.answer.ranked_causes()[0][0])}, "
            "whose probability is spread over many."
        )
    return text


def _weights(found: Consultation) -> str:
    shares = found.contributions
    ways = {path.finding: path for path in found.paths}
    rows = shares.rows()
    parts = []
    for sign, opening in ((1, "For it speak"), (-1, "Against it speak")):
        named = [r for r in rows if sign * r["decibans"] >= SMALL][:MOST_NAMED]
        if named:
            told = [
                f"{finding_words(found.model, found.evidence, r['finding'])} "
                f"({r['decibans']:+.1f}{_way(ways.get(r['finding']))})"
                for r in named
            ]
            only = opening.replace("speak", "speaks") if len(told) == 1 else opening
            parts.append(f"{only} {listed(told)}.")
    if not parts:
        parts.append("No single finding moves it by more than one deciban.")
    groups = listed(
        [f"{_group(r['finding'])} {r['decibans']:+.1f}" for r in found.groups.rows()]
    )
    worst = max(0.1, math.ceil(10 * max(shares.errors.values(), default=0.0)) / 10)
    sampled = (
        f" The contributions of the {len(rows)} findings are means over {shares.orders} sampled "
        f"orders (standard errors up to {worst:.1f})."
        if shares.orders
        else ""
    )
    parts.append(
        f"By kind: {groups}. All findings together take its log odds from {shares.prior:+.1f} to "
        f"{shares.posterior:+.1f} decibans (10 decibans: odds ten times as high).{sampled}"
    )
    return " ".join(parts)


def _way(path: Path | None) -> str:
    if path is None or not path.steps:
        return ""
    told = [
        words
        for s in path.steps
        if s.probability >= NAMED and (words := condition_words(s.condition, s.state))
    ][:2]
    return f", through {' and '.join(told)}" if told else ""


def _group(name: str) -> str:
    words = {"symptom": "symptoms", "patient": "age and sex", "condition": "conditions",
             "tissue": "tissue and marrow"}
    return words.get(name, plain(name))


def _conditions(found: Consultation) -> list[tuple[str, str]]:
    """One paragraph on what made the conditions behind the lesion likely."""
    told = []
    for reasons in found.reasons:
        words = condition_words(reasons.condition, reasons.state)
        named = [(f, db) for f, db in reasons.findings if db >= SMALL and f in reasons.direct][:4]
        if not words or not named:
            continue
        told.append(
            f"{sentence(words)} has {share(reasons.probability)} "
            f"({share(reasons.before)} before any finding), mostly by "
            + listed(
                [
                    f"{finding_words(found.model, found.evidence, f)} ({db:+.1f})"
                    for f, db in named
                ]
            )
            + "."
        )
    return [("What lies behind it", " ".join(told))] if told else []


def _log(ratio: float) -> float:
    """Return the logarithm of a likelihood ratio; a finding may exclude one of two causes."""
    return math.log(ratio) if ratio > 0 else -math.inf


def _comparison(found: Consultation, cite: _Citations) -> str:
    both = found.comparison
    model, evidence = found.model, found.evidence
    a, b = cause_words(found.cause), cause_words(found.rival)
    parts = [
        f"{sentence(a)} has {share(both['probability_a'])}, {b} {share(both['probability_b'])}: "
        f"log odds {both['posterior_decibans']:+.1f} decibans, {both['prior_decibans']:+.1f} "
        "before any finding."
    ]
    for sign, side in ((1, a), (-1, b)):
        named = [
            row
            for row in both["findings"]
            if sign * row["decibans"] >= SMALL
            and sign * _log(row["likelihood_ratio"]) > TELLING_RATIO
        ][:3]
        told = [
            f"{finding_words(model, evidence, row['finding'])}, likelihood ratio "
            f"{ratio(row['likelihood_ratio'])} ({share(row['p_a'])} against {share(row['p_b'])}; "
            f"90 % interval {ratio(row['lower'])} to {ratio(row['upper'])}){cite.of(row)}"
            for row in named
        ]
        if told:
            parts.append(f"For {side}: {'; '.join(told)}.")
    return " ".join(parts)


def _changes(found: Consultation) -> str:
    changes = found.changes
    leader = cause_words(changes.leader)
    if changes.size is None:
        return f"No change of the findings that was tried takes the lead from {leader}."
    model = found.model
    bedside = [
        one
        for one in changes.found
        if all(model.variables[c.finding].group != "patient" for c in one.changes)
    ]
    told: dict[frozenset[str], str] = {}
    for one in bedside or changes.found:
        what = listed(
            [
                f"were {finding_words(model, found.evidence, c.finding)} not stated"
                if c.instead == UNKNOWN
                else f"given {state_words(model, c.finding, c.instead)} instead of "
                f"{finding_words(model, found.evidence, c.finding)}"
                for c in one.changes
            ]
        )
        about = frozenset(c.finding for c in one.changes)
        told.setdefault(
            about, f"{cause_words(one.leader)} would lead ({share(one.probability)}), {what}"
        )
    number = {1: "One finding", 2: "Two findings"}.get(changes.size, f"{changes.size} findings")
    verb = "is" if changes.size == 1 else "are"
    opening = (
        f"{number}, missing or different, {verb} enough to take the lead from {leader}"
        if changes.exact
        else f"No two findings, missing or different, take the lead from {leader}; "
        f"{changes.size} missing ones would"
    )
    return f"{opening}: {'; '.join(list(told.values())[:3])}."


def _missing(found: Consultation) -> str:
    told: list[str] = []
    known: list[tuple[str, ...]] = []
    for one in found.missing:
        states = found.model.variables[one.finding].states
        # needle biopsy and surgical pathology tell the same: one of them is enough here
        if (one.changes_lead < 0.01 and told) or (len(states) > 2 and states in known):
            continue
        known.append(states)
        leader = found.answer.ranked_causes()[0][0]
        turning = [o for o in one.outcomes if o.leader != leader][:2]
        if turning:
            effect = ", or ".join(
                [
                    f"{state_words(found.model, one.finding, o.state)} ({share(o.chance)} likely) "
                    f"would make {cause_words(o.leader)} lead with {share(o.probability)}"
                    for o in turning
                ]
            )
        else:
            best = one.outcomes[0]
            likeliest = state_words(found.model, one.finding, best.state)
            effect = (
                f"no result would change the lead ({likeliest}: {cause_words(best.leader)} "
                f"{share(best.probability)})"
            )
        told.append(
            f"{label_words(found.model, one.finding)} ({one.information_bits:.2f} bits): {effect}"
        )
    if not told:
        return "No open finding would tell much more about the cause."
    return f"{sentence('; '.join(told[:4]))}."


def _next(found: Consultation) -> str:
    """Name the tests that would tell most, and those that are barred though they tell more."""
    ranked = found.answer.next_tests
    allowed: list[RankedTest] = []
    for test in ranked:
        new = not any(set(test.findings) <= set(other.findings) for other in allowed)
        if test.allowed is True and test.information_bits >= WORTH and new and len(allowed) < 3:
            allowed.append(test)
    if not allowed:
        return "No test that is allowed now would tell much more."
    told = [
        f"{_lower(t.label)} ({t.information_bits:.2f} bits; another cause would lead after "
        f"{share(t.changes_lead)} of its results)"
        for t in allowed
    ]
    text = (
        "Of what is allowed now, most about the cause, its driver and the marrow would be learned "
        f"from {', then '.join(told)}."
    )
    barred = [
        t
        for t in ranked
        if t.allowed is not True and t.information_bits > allowed[0].information_bits
    ]
    if barred:
        text += (
            " More, but barred"
            + (" until corrected" if all(t.allowed for t in barred) else "")
            + ": "
            + listed([f"{_lower(t.label)} ({t.information_bits:.2f} bits)" for t in barred[:2]])
            + "."
        )
    return text


def _lower(label: str) -> str:
    """Return a label inside a sentence; abbreviations keep their capitals."""
    first = label.split()[0]
    return label if first[1:] != first[1:].lower() else label[0].lower() + label[1:]


def _fit(found: Consultation) -> str:
    bits = found.conflict["bits"]
    parts = []
    if len(found.evidence.informative) > 1:
        if bits > CONFLICT:
            odd = listed(
                [
                    finding_words(found.model, found.evidence, r["finding"])
                    for r in found.conflict["findings"][:3]
                    if r["bits"] > 0
                ]
            )
            parts.append(
                f"The findings conflict by {bits:.1f} bits; at most {share(2.0**-bits)} of the "
                f"model's own patients do as much. The odd ones are {odd}."
            )
            rescue = [r for r in found.conflict["explained_by"] if r["variable"] == "lesion_cause"]
            if rescue:
                parts.append(
                    "They are reconciled by "
                    + listed([f"{cause_words(r['state'])} ({share(r['probability'])})"
                              for r in rescue[:3]])
                    + "."
                )
            else:
                parts.append("No single cause reconciles them: one of them may be wrong.")
        else:
            parts.append(
                "The findings support each other"
                if bits <= 0
                else "The findings agree less than by chance, within the usual"
            )
            parts[-1] += f" (conflict {bits:+.1f} bits)."
    for row in found.unexpected[:2]:
        words = finding_words(found.model, found.evidence, row["finding"])
        text = f"{sentence(words)} is unexpected: {share(row['chance'])} given all else."
        if row["chance_given_cause"] >= 5 * row["chance"]:
            text += (
                f" {sentence(cause_words(row['cause']))} would explain it "
                f"({share(row['chance_given_cause'])} of such patients) and reconcile it with the "
                f"rest, at a probability of {share(row['probability'])}."
            )
        else:
            text += " No cause explains it much better; it may be wrong."
        parts.append(text)
    if found.unexplained:
        parts.append(
            "Nothing in this model explains the findings well: every cause makes them less "
            "likely together than chance would. One of them may be wrong, or the cause is not in "
            "the model."
        )
    groups = {found.model.variables[name].group for name in found.evidence.informative}
    if not groups & {"imaging", "tissue"}:
        parts.append(
            "No finding of imaging is given: that there is an epidural lesion at all is assumed, "
            "not inferred."
        )
    other = dict(found.answer.ranked_causes()).get("other", 0.0)
    if other >= 0.1:
        parts.append(f"A lesion that none of the named causes covers has {share(other)}.")
    parts.append(
        "Lesions inside the dura, and spines without a lesion, are outside the model."
    )
    return " ".join(parts)


def _grounds(found: Consultation, cite: _Citations) -> str:
    """Grades of the columns behind the compared findings."""
    grades: dict[str, int] = {}
    for row in found.comparison["findings"]:
        for columns in (row["sources_a"], row["sources_b"]):
            for column in columns[:1]:
                grades[column["grade"]] = grades.get(column["grade"], 0) + 1
    total = sum(grades.values())
    if not total:
        return ""
    words = {
        "counted": "published counts",
        "estimated": "published percentages",
        "expert": "two experts' judgement",
        "assumed": "assumptions",
    }
    used = [g for g in words if g in grades]
    told = listed(
        [
            f"{share(grades[g] / total)} {'rest mostly ' if g == used[0] else ''}on {words[g]}"
            for g in used
        ]
    )
    text = (
        f"Of the {total} figures that weigh {cause_words(found.cause)} against "
        f"{cause_words(found.rival)}, {told}."
    )
    if cite.numbers:
        text += " Numbers in brackets are the sources below; figures without one are the experts'."
    return text
