"""What would have to be different, and what is not known that would matter.

All probabilities are exact posteriors, asked in batches. A counterfactual replaces the observed
state of a finding by one that the observation excluded, or takes the finding away.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx.analysis.explanation import text_of

if TYPE_CHECKING:
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model, RawEvidence

Array = NDArray[np.float64]

#: The state that takes a finding away.
UNKNOWN = "unknown"
#: Most sets of changes that are tried.
MOST_SETS = 20_000
#: Changes shown.
MOST_SHOWN = 5
#: Open findings that tell less than this (bits) are not named.
TELLING = 0.002
#: A result must be at least this likely to be told.
LIKELY_RESULT = 0.02


@dataclass(frozen=True)
class Change:
    """One finding, other than it was.

    Attributes
    ----------
    finding, text : str
        Its name, and how it was observed.
    instead : str
        The other state, or ``unknown``.
    """

    finding: str
    text: str
    instead: str


@dataclass(frozen=True)
class Counterfactual:
    """A smallest set of changes that makes another cause lead.

    Attributes
    ----------
    changes : tuple of Change
    leader : str
        Who leads then.
    probability : float
        Of that cause then.
    chance : float
        Probability of the changed findings given the others, between 0 (far-fetched) and 1.
    """

    changes: tuple[Change, ...]
    leader: str
    probability: float
    chance: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "changes": [
                {"finding": c.finding, "text": c.text, "instead": c.instead} for c in self.changes
            ],
            "leader": self.leader,
            "probability": self.probability,
            "chance": self.chance,
        }


@dataclass(frozen=True)
class Counterfactuals:
    """What changes the leading cause.

    Attributes
    ----------
    leader : str
        Who leads now.
    size : int or None
        Smallest number of findings that must be different; None where no set that was tried
        changes the leader.
    exact : bool
        Whether every smaller set was tried. Otherwise ``size`` is an upper bound.
    found : tuple of Counterfactual
        Of that size, most plausible first; at most :data:`MOST_SHOWN`.
    """

    leader: str
    size: int | None
    exact: bool
    found: tuple[Counterfactual, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "leader": self.leader,
            "size": self.size,
            "exact": self.exact,
            "found": [one.as_dict() for one in self.found],
        }


def smallest_changes(
    model: Model, evidence: Evidence | RawEvidence, *, most: int = MOST_SETS
) -> Counterfactuals:
    """Find the smallest change of the evidence that changes the leading cause.

    Sets of one finding are tried, then of two, as long as there are at most `most` of them; then
    findings are taken away greedily, always the one that hurts the leader most.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    most : int
        Largest number of sets of one size that are tried.

    Returns
    -------
    Counterfactuals

    Raises
    ------
    EvidenceError
        Bad or impossible evidence.
    """
    read = model.read_evidence(evidence)
    names = read.informative
    model.run(read, want=())  # names the findings if they are impossible
    asked = _Asked(model, read, names)
    leader = asked.leader
    name = model.causes[leader]
    if not names:
        return Counterfactuals(name, None, True, ())
    tried = 0
    for size in (1, 2):
        sets = [
            choice
            for members in itertools.combinations(range(len(names)), size)
            for choice in itertools.product(*(asked.options[i] for i in members))
        ]
        if not sets or len(sets) > most:
            break
        tried = size
        found = asked.flipping(sets)
        if found:
            return Counterfactuals(name, size, True, tuple(found[:MOST_SHOWN]))
    taken: tuple[tuple[int, int | None], ...] = ()
    while len(taken) < len(names):
        left = [i for i in range(len(names)) if i not in {t[0] for t in taken}]
        sets = [(*taken, (i, None)) for i in left]
        result = asked.run(sets)
        odds = np.where(result.possible, result.posterior[:, leader], np.inf)
        taken = sets[int(odds.argmin())]
        found = asked.flipping([taken])
        if found:
            return Counterfactuals(name, len(taken), len(taken) == tried + 1, tuple(found))
    return Counterfactuals(name, None, False, ())


class _Asked:
    """Questions about one patient with some findings changed."""

    def __init__(self, model: Model, evidence: Evidence, names: Sequence[str]) -> None:
        self.model, self.evidence, self.names = model, evidence, names
        self.observed = model.arrays(evidence)
        #: For every finding: (its number, a state that the observation excluded or None).
        self.options = [
            [
                (i, None),
                *(
                    (i, int(state))
                    for state in np.flatnonzero(np.asarray(evidence.likelihoods[name]) == 0)
                ),
            ]
            for i, name in enumerate(names)
        ]
        self.leader = int(self.run([()]).posterior[0].argmax())

    def run(self, sets: Sequence[Sequence[tuple[int, int | None]]]) -> Any:
        """Answer with each set of changes; one row each."""
        batch = {p: np.tile(v, (len(sets), 1)) for p, v in self.observed.items()}
        if not batch:
            return self.model.engine.run(
                {}, target=(self.model.position("lesion_cause"),), want=()
            )
        for row, changes in enumerate(sets):
            for number, state in changes:
                vector = batch[self.model.position(self.names[number])]
                vector[row] = 1.0 if state is None else 0.0
                if state is not None:
                    vector[row, state] = 1.0
        return self.model.engine.run(
            batch, target=(self.model.position("lesion_cause"),), want=()
        )

    def flipping(self, sets: Sequence[Sequence[tuple[int, int | None]]]) -> list[Counterfactual]:
        """Keep the sets after which another cause leads, most plausible first."""
        result = self.run(sets)
        leaders = result.posterior.argmax(axis=1)
        flipped = np.flatnonzero(result.possible & (leaders != self.leader)).tolist()
        if not flipped:
            return []
        away = self.run([[(number, None) for number, _ in sets[i]] for i in flipped])
        found = []
        for row, i in enumerate(flipped):
            now = int(leaders[i])
            changes = tuple(
                Change(
                    finding=self.names[number],
                    text=text_of(self.evidence, self.names[number]),
                    instead=UNKNOWN
                    if state is None
                    else self.model.variables[self.names[number]].states[state],
                )
                for number, state in sets[i]
            )
            found.append(
                Counterfactual(
                    changes=changes,
                    leader=self.model.causes[now],
                    probability=float(result.posterior[i, now]),
                    chance=float(
                        np.exp(min(0.0, result.log_evidence[i] - away.log_evidence[row]))
                    ),
                )
            )
        return sorted(found, key=lambda one: -one.chance)


# ------------------------------------------------------------------ what is not known


@dataclass(frozen=True)
class Outcome:
    """One result that a finding could have.

    Attributes
    ----------
    state : str
    chance : float
        Its probability given everything known.
    leader : str
        Who leads after it.
    probability : float
        Of that cause after it.
    """

    state: str
    chance: float
    leader: str
    probability: float


@dataclass(frozen=True)
class OpenFinding:
    """A finding that is not known.

    Attributes
    ----------
    finding : str
    information_bits : float
        Mutual information with the cause, given everything known.
    changes_lead : float
        Probability that it makes another cause lead.
    tests : tuple of str
        Tests that reveal it.
    outcomes : tuple of Outcome
        Its results, likeliest first, those above :data:`LIKELY_RESULT`.
    """

    finding: str
    information_bits: float
    changes_lead: float
    tests: tuple[str, ...]
    outcomes: tuple[Outcome, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "finding": self.finding,
            "information_bits": self.information_bits,
            "changes_lead": self.changes_lead,
            "tests": list(self.tests),
            "outcomes": [
                {
                    "state": o.state,
                    "chance": o.chance,
                    "leader": o.leader,
                    "probability": o.probability,
                }
                for o in self.outcomes
            ],
        }


def open_findings(
    model: Model, evidence: Evidence | RawEvidence, *, count: int = 5
) -> list[OpenFinding]:
    """List findings that are not known and would tell most about the cause.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    count : int
        How many at most; those below :data:`TELLING` are left out.

    Returns
    -------
    list of OpenFinding
        Most informative first; only what can be asked or some test reveals.

    Raises
    ------
    EvidenceError
        Bad or impossible evidence.
    """
    read = model.read_evidence(evidence)
    result = model.run(read, target=("lesion_cause",), want=("joints", "information"))
    assert result.joints is not None and result.information is not None
    leader = int(result.posterior[0].argmax())
    open_ = [
        name
        for name, variable in model.variables.items()
        if name not in read.likelihoods
        and (variable.group == "patient" or any(name in f for f in model.tests.values()))
    ]
    bits = {name: float(result.information[0, model.position(name)]) for name in open_}
    found = []
    for name in sorted(open_, key=lambda n: -bits[n])[:count]:
        if bits[name] < TELLING:
            break
        joint = result.joints[model.position(name)][0]
        chances = joint.sum(axis=0)
        after = joint / np.maximum(chances, 1e-300)
        leaders = after.argmax(axis=0)
        outcomes = [
            Outcome(
                state=state,
                chance=float(chances[i]),
                leader=model.causes[int(leaders[i])],
                probability=float(after[leaders[i], i]),
            )
            for i, state in enumerate(model.variables[name].states)
            if chances[i] >= LIKELY_RESULT
        ]
        found.append(
            OpenFinding(
                finding=name,
                information_bits=bits[name],
                changes_lead=float(chances[leaders != leader].sum()),
                tests=tuple(t for t, findings in model.tests.items() if name in findings),
                outcomes=tuple(sorted(outcomes, key=lambda o: -o.chance)),
            )
        )
    return found
