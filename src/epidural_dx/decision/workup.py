"""One patient's open questions: which tests still reveal what, at what risk, to which end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from epidural_dx.clinical.spelling import nearest
from epidural_dx.decision.catalog import (
    OrderedTest,
    entry_of,
    looked_at_again,
    read_catalog,
)
from epidural_dx.decision.elimination import EvidenceTables
from epidural_dx.decision.gates import Admission, Gatekeeper
from epidural_dx.decision.panels import EXACT_OUTCOMES, PanelCalculator
from epidural_dx.decision.utilities import ENDS
from epidural_dx.decision.value import DecisionProblem, coarsening
from epidural_dx.errors import EvidenceError
from epidural_dx.inference.network import FloatArray

if TYPE_CHECKING:
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model


#: Most joint states of the target of a ranking: about this many take some seconds.
MOST_TARGET_STATES = 5_000


def target_positions(model: Model, target: str | Sequence[str]) -> tuple[int, ...]:
    """Positions of the variables that information is asked about.

    Raises
    ------
    EvidenceError
        No variable, an unknown one, one twice, or so many that the answer would take minutes.
    """
    names = _names(target, "the target")
    if not names:
        raise EvidenceError("the target of the ranking names no variable")
    positions = []
    for name in names:
        if not isinstance(name, str) or name not in model.variables:
            raise EvidenceError(
                f"unknown target variable {name!r}",
                nearest=nearest(str(name), model.variables),
            )
        positions.append(model.position(name))
    if len(set(positions)) != len(positions):
        raise EvidenceError(f"the target names a variable twice: {', '.join(names)}")
    states = math.prod(len(model.variables[name].states) for name in names)
    if states > MOST_TARGET_STATES:
        raise EvidenceError(
            f"the target {', '.join(names)} has {states:,} joint states, and at most "
            f"{MOST_TARGET_STATES:,} can be ranked for: name fewer variables"
        )
    return tuple(positions)


def _names(given: Any, what: str) -> tuple[Any, ...]:
    """Return one name or several as a tuple.

    Raises
    ------
    EvidenceError
        Neither.
    """
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Iterable):
        raise EvidenceError(f"{what} must be a name or a list of names, got {given!r}")
    return tuple(given)


def chosen_tests(
    model: Model, exclude: Iterable[str] = (), only: Iterable[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the tests of the network without the excluded ones.

    Raises
    ------
    EvidenceError
        An unknown test.
    """
    exclude = _names(exclude, "exclude")
    wanted = tuple(model.tests) if only is None else _names(only, "only")
    for name in (*exclude, *wanted):
        if name not in model.tests:
            raise EvidenceError(f"unknown test {name!r}", nearest=nearest(str(name), model.tests))
    return {t: model.tests[t] for t in wanted if t not in exclude}


def open_findings(
    tests: Mapping[str, Sequence[str]], evidence: Evidence
) -> dict[str, tuple[str, ...]]:
    """Return the findings that each test would still reveal, without tests that have none.

    A finding with any evidence, also an uncertain observation, has been looked for already.
    """
    known = evidence.likelihoods
    found = {t: tuple(f for f in fs if f not in known) for t, fs in tests.items()}
    return {t: fs for t, fs in found.items() if fs}


def require_hours(name: str, hours: float | None) -> None:
    """Refuse a time that is no number of hours from 0 on.

    Raises
    ------
    EvidenceError
        A negative or infinite time, or no number.
    """
    if hours is None:
        return
    number = isinstance(hours, int | float) and not isinstance(hours, bool)
    if not (number and math.isfinite(hours) and hours >= 0):
        raise EvidenceError(f"{name} must be a number of hours from 0 on, got {hours!r}")


def check_decision_files(model: Model) -> None:
    """Read everything that decisions rest on once, so that an error is told before it is needed.

    Raises
    ------
    ModelError
        A test without a price, a gate on an unknown variable or state, a hole in the utilities, an
        action that is no test: one sentence with file and name.
    """
    catalog = read_catalog(model._priors)
    for test in model.tests:
        entry_of(catalog, test)
    tables = EvidenceTables(model.plan.network, {})
    gates = Gatekeeper(catalog, model.variables, model.tests, tables, ())
    for end in ENDS:
        DecisionProblem(model, tables, catalog, gates, None, (), None, end)


class Workup:
    """Everything that questions about the next tests of one patient share.

    Parameters
    ----------
    model : Model
    evidence : mapping or Evidence
    target : str or sequence of str
        What information is about.
    exclude : iterable of str
        Tests to leave out.
    together : sequence of sequence of str
        Sets of tests whose joint outcome will be asked for.
    hours_since_onset : float, optional
    exact_outcomes : int
        Panels with more joint outcomes are sampled.
    end : {"value", "low", "high"}
        Which end of the ranges of the utilities to use.

    Attributes
    ----------
    evidence : Evidence
    tests : dict of str to tuple of str
        All findings of the tests that are not excluded.
    panels : dict of str to tuple of str
        Open findings of the tests that have any.
    positions : dict of str to tuple of int
        The same as positions.
    catalog : Catalog
    gates : Gatekeeper
    calculator : PanelCalculator
        Of the target.
    problem : DecisionProblem

    Raises
    ------
    EvidenceError
        Bad or impossible evidence, an unknown target or test, a negative time.
    """

    def __init__(
        self,
        model: Model,
        evidence: Any,
        target: str | Sequence[str] = ("etiology", "marrow_infiltration"),
        *,
        exclude: Iterable[str] = (),
        together: Sequence[Sequence[str]] = (),
        hours_since_onset: float | None = None,
        exact_outcomes: int = EXACT_OUTCOMES,
        end: str = "value",
    ) -> None:
        require_hours("hours_since_onset", hours_since_onset)
        goal = target_positions(model, target)
        self.model = model
        self.tests = chosen_tests(model, exclude)
        self.evidence = model.read_evidence(evidence)
        self.panels = open_findings(self.tests, self.evidence)
        self.catalog = read_catalog(model._priors)
        self.tables = EvidenceTables(model.plan.network, model.arrays(self.evidence))
        self.gates = Gatekeeper(
            self.catalog, model.variables, model.tests, self.tables, self.evidence.likelihoods
        )
        for test in self._shown_by_another():
            del self.panels[test]
        self.positions = {t: tuple(model.position(f) for f in fs) for t, fs in self.panels.items()}
        panels = [*self.positions.values(), *(self.union(tests) for tests in together)]
        if not self.tables.open_variables(goal):
            known = " and ".join(list(model.variables)[v] for v in goal)
            raise EvidenceError(f"{known}: already known, so no test can tell more about it")
        prior, singles = self._from_engine(goal, panels)
        self.calculator = PanelCalculator(
            self.tables,
            self.tables.open_variables(goal),
            panels,
            exact_outcomes=exact_outcomes,
            singles=singles,
            prior=prior,
        )
        if self.calculator.prior.sum() == 0:
            model.run(self.evidence, want=())  # says which findings exclude each other
            raise EvidenceError("the evidence is too improbable to rank tests for")
        self.problem = DecisionProblem(
            model,
            self.tables,
            self.catalog,
            self.gates,
            self.calculator,
            panels,
            hours_since_onset,
            end,
        )

    def _from_engine(
        self, goal: tuple[int, ...], panels: Sequence[Sequence[int]]
    ) -> tuple[FloatArray | None, dict[int, FloatArray]]:
        """P(target | evidence), and P(target, finding | evidence) of every open finding.

        None and nothing if the engine does not know the target.
        """
        if self.tables.open_variables(goal) != goal:
            return None, {}
        for target in self.model.plan.targets:
            # a target that determines the goal will do: its joints are added up
            adds_up = coarsening(self.model, target, goal)
            if adds_up is not None and self.tables.open_variables(target) == target:
                break
        else:
            return None, {}
        result = self.model.engine.run(
            self.model.arrays(self.evidence), target=target, want=("joints",)
        )
        if not bool(result.possible[0]):
            return None, {}
        assert result.joints is not None
        findings = {v for p in panels for v in p}.difference(goal, target)
        prior, joints = result.posterior[0], {v: result.joints[v][0] for v in findings}
        if target != goal:
            prior, joints = prior @ adds_up, {v: adds_up.T @ j for v, j in joints.items()}
        return prior, joints

    def _shown_by_another(self) -> list[str]:
        """Return tests at hand whose open findings a larger one at hand leaves open as well."""
        at_hand = [t for t in self.panels if self.gates.at_hand(t)]
        whole = {t: set(self.tests[t]) for t in at_hand}
        left = {t: set(self.panels[t]) for t in at_hand}
        return [
            t for t in at_hand if any(whole[t] < whole[o] and left[t] <= left[o] for o in at_hand)
        ]

    def union(self, tests: Iterable[str]) -> tuple[int, ...]:
        """Return the open findings of several tests, each once."""
        found: dict[int, None] = {}
        for test in tests:
            found.update(dict.fromkeys(self.positions.get(test, ())))
        return tuple(found)

    def entry(self, test: str) -> OrderedTest:
        """Return what a test costs in this patient: minutes where its images are at hand."""
        entry = entry_of(self.catalog, test)
        return looked_at_again(entry, self.catalog.weights) if self.gates.at_hand(test) else entry

    def hours(self, test: str, admission: Admission) -> float:
        """Return the hours until the result, corrections included."""
        return self.entry(test).turnaround_hours + admission.correction_hours
