r"""Two steps ahead: what to order now, and what then for each likely result.

The value of a first test with the best second one after each of its results is

.. math:: V_2(t) = E_f[\max(\text{act}, \max_u V_1(u | f))] - \text{harm} - \text{price}

against acting now. Second tests are judged by their most telling findings only (a lower bound of
their value); results of large first panels are sampled. A plan then orders the best first test
together with every test that fits into its waiting time and is worth its own harm and price (blood
is drawn while the scanner is awaited).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from epidural_dx.clinical.display import dollars, duration, percent, rounded_percent
from epidural_dx.decision.elimination import IntArray
from epidural_dx.decision.gates import UNTIL_CORRECTED, Admission
from epidural_dx.decision.panels import divergence
from epidural_dx.decision.samples import RowMemory
from epidural_dx.decision.value import Choice
from epidural_dx.decision.workup import Workup, require_hours
from epidural_dx.errors import EvidenceError
from epidural_dx.inference.network import FloatArray

if TYPE_CHECKING:
    from epidural_dx.model import Model

#: What a plan may maximise.
AIMS = ("value", "information")
#: Results of a first order that are looked at, and joint results of a second test.
FIRST_RESULTS = 32
SECOND_RESULTS = 16
#: Results of the final first order.
TREE_RESULTS = 128
#: First and second tests that are tried.
FIRST_TESTS = 4
SECOND_TESTS = 5
#: Branches of the tree, and named results of a second test.
BRANCHES = 4
#: First tests around which a whole order is made; the best order is the plan.
ORDERS_TRIED = 2
#: A plan for information stops when one cause with what the marrow holds is this likely.
CERTAIN = 0.9
#: ... or when no test tells this much any more.
NEGLIGIBLE_BITS = 0.02


@dataclass(frozen=True)
class Branch:
    """One group of results with what follows.

    Attributes
    ----------
    probability : float
        Of these results, given those above.
    results : tuple of str
        The findings that mark them, with their share in the branch.
    causes : tuple of (str, float)
        Leading causes after them.
    then : PlanStep or Choice
        The next order, or what to do.
    """

    probability: float
    results: tuple[str, ...]
    causes: tuple[tuple[str, float], ...]
    then: PlanStep | Choice

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "probability": self.probability,
            "results": list(self.results),
            "causes": [{"cause": c, "probability": p} for c, p in self.causes],
            "then": _then_dict(self.then),
        }


@dataclass(frozen=True)
class PlanStep:
    """Tests ordered together, and what follows.

    Attributes
    ----------
    tests : tuple of str
        The first is the one that the others accompany.
    hours : float
        From now until their results.
    price_usd : float
    gain : float
        Expected gain over acting at once: utility net of harm, delay and price, or bits.
    branches : tuple of Branch
    images_at_hand : tuple of str
        Those of the tests that have been done: their images are looked at again.
    """

    tests: tuple[str, ...]
    hours: float
    price_usd: float
    gain: float
    branches: tuple[Branch, ...] = ()
    images_at_hand: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The tests in words."""
        return " + ".join(
            test.replace("_", " ") + (" (look again)" if test in self.images_at_hand else "")
            for test in self.tests
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "order": list(self.tests),
            "images_at_hand": list(self.images_at_hand),
            "hours": self.hours,
            "price_usd": self.price_usd,
            "gain": self.gain,
            "branches": [b.as_dict() for b in self.branches],
        }


@dataclass(frozen=True)
class Plan:
    """What to do now and then.

    Attributes
    ----------
    by : {"value", "information"}
    act_now : Choice or None
        The best actions without any further test.
    first : PlanStep or None
        None: no test is worth it, act now.
    considered : tuple of (str, float, float)
        First tests that were tried: name, gain of the test alone, gain with a second one.
    """

    by: str
    act_now: Choice | None
    first: PlanStep | None
    considered: tuple[tuple[str, float, float], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "by": self.by,
            "act_now": None if self.act_now is None else _then_dict(self.act_now),
            "plan": None if self.first is None else self.first.as_dict(),
            "considered": [
                {"test": t, "one_step": one, "two_steps": two} for t, one, two in self.considered
            ],
        }

    def __str__(self) -> str:
        """Return it as text, so that ``print(plan)`` can be read."""
        return self.as_text()

    def as_text(self) -> str:
        """Return it as an indented tree for people."""
        lines = []
        if self.act_now is not None:
            lines.append(f"Acting now: {_action_text(self.act_now)}.")
        if self.first is None:
            lines.append("No test is worth its harm, delay and price: act now.")
        else:
            lines += _step_lines(self.first, "", "Order now", self.by)
        return "\n".join(lines)


def _then_dict(then: PlanStep | Choice) -> dict[str, Any]:
    if isinstance(then, PlanStep):
        return then.as_dict()
    return {
        "action": then.action,
        "done": then.done,
        "marrow_action": then.marrow_action,
        "expected_utility": then.expected_utility,
        "marrow_gain": then.marrow_gain,
    }


def _action_text(choice: Choice) -> str:
    worth = f"expected utility {choice.expected_utility - choice.marrow_gain:.2f}"
    if choice.marrow_gain != 0:
        worth += f", {choice.marrow_gain:+.2f} from treating the marrow"
    return f"{choice.words} ({worth})"


def _step_lines(step: PlanStep, indent: str, verb: str, by: str) -> list[str]:
    unit = "bits" if by == "information" else "utility"
    lines = [
        f"{indent}{verb}: {step.words} ({duration(step.hours)}, {dollars(step.price_usd)}, "
        f"gain {step.gain:.3f} {unit})"
    ]
    for branch in step.branches:
        causes = ", ".join(f"{c.replace('_', ' ')} {percent(p)}" for c, p in branch.causes)
        marks = "; ".join(branch.results) or "other results"
        lines.append(f"{indent}  {percent(branch.probability):>6}  {marks} -> {causes}")
        if isinstance(branch.then, PlanStep):
            lines += _step_lines(branch.then, indent + "        ", "then", by)
        else:
            lines.append(f"{indent}        do: {_action_text(branch.then)}")
    return lines


def plan_tests(
    model: Model,
    evidence: Any,
    *,
    by: str = "value",
    max_hours: float | None = None,
    exclude: Iterable[str] = (),
    hours_since_onset: float | None = None,
) -> Plan:
    """Plan two steps ahead.

    Parameters
    ----------
    model : Model
    evidence : mapping or Evidence
    by : {"value", "information"}
        Maximise the expected utility net of harm, delay and price, or the bits about the cause
        and the marrow.
    max_hours : float, optional
        No test whose result would come later than this from now.
    exclude : iterable of str
        Tests to leave out.
    hours_since_onset : float, optional

    Returns
    -------
    Plan

    Raises
    ------
    EvidenceError
        Bad evidence, an unknown aim or test, a negative time, or nothing left to find out.
    """
    if by not in AIMS:
        raise EvidenceError(f"a plan cannot maximise {by!r}", allowed=AIMS)
    require_hours("max_hours", max_hours)
    workup = Workup(
        model,
        evidence,
        ("lesion_cause", "marrow_infiltration"),
        exclude=exclude,
        hours_since_onset=hours_since_onset,
    )
    if workup.problem.utilities is None:
        raise EvidenceError("the network has no decision variables to plan for")
    if not workup.panels:
        why = "of every test that is not excluded" if exclude else "of every test"
        raise EvidenceError(f"there is nothing left to plan: every finding {why} is known")
    return _Planner(workup, by, max_hours).plan()


@dataclass(frozen=True, eq=False)
class _Results:
    """Results of an order: their weights, states, and what they say about the decision state."""

    weights: FloatArray
    states: Mapping[int, IntArray]
    posterior: FloatArray
    memory: RowMemory


@dataclass(frozen=True, eq=False)
class _Second:
    """A second test after each result of the first order: (rows,) by kind of start."""

    test: str
    findings: tuple[int, ...]
    joint: FloatArray
    hours: float
    cost: float
    lesion: Mapping[int | None, FloatArray]
    marrow: Mapping[int | None, FloatArray]
    bits: FloatArray


class _Planner:
    """Works out one plan."""

    def __init__(self, workup: Workup, by: str, max_hours: float | None) -> None:
        self.workup = workup
        self.by = by
        self.max_hours = math.inf if max_hours is None else max_hours
        self.problem = workup.problem
        assert self.problem.utilities is not None
        self.utilities = self.problem.utilities
        self.calculator = self.problem.calculator
        self.operations = {a.as_test for a in self.utilities.actions if a.as_test}
        self.admissions = {t: workup.gates.judge(t) for t in workup.panels}
        self.hours = {t: workup.hours(t, a) for t, a in self.admissions.items()}
        self.alone = {t: self._one_step(t) for t in workup.panels}

    # ------------------------------------------------------------- one step

    def _cost(self, test: str, beside: Sequence[str] = ()) -> float:
        """Return the utility that a test costs through harm and price.

        Beside another test of its group it shares the session and its harm.
        """
        usd = self.workup.catalog.weights.usd_per_utility
        price = self._price(test, beside)
        alone = self.workup.entry(test).price_usd
        loss = self.admissions[test].loss if price == alone else 0.0
        return loss + price / usd

    def _price(self, test: str, beside: Sequence[str] = ()) -> float:
        """Return the price of a test, that as an addition if its session is ordered anyway."""
        tests = self.workup.catalog.tests
        entry = self.workup.entry(test)
        shared = any(tests[t].parallel_group == entry.parallel_group for t in beside if t != test)
        if entry.added_price_usd is None or not shared:
            return entry.price_usd
        return entry.added_price_usd

    def _one_step(self, test: str) -> float:
        panel = self.workup.positions[test]
        if self.by == "information":
            return self.workup.calculator.outcomes(panel).information
        entry = self.workup.entry(test)
        value = self.problem.net_value(panel, entry, self.admissions[test])
        assert value is not None
        return value

    def _orderable(self, test: str, after: Sequence[str] = ()) -> bool:
        """Whether a test may be ordered, once some others have been done.

        A gate that nobody has looked up yet keeps a test out until the test that opens it is done.
        """
        admission: Admission = self.admissions[test]
        if set(admission.openers) - set(after):
            return False
        if admission.allowed is True or admission.allowed == UNTIL_CORRECTED:
            return True
        takers = {
            taker
            for sample in self.workup.entry(test).needs
            for taker in self.workup.catalog.samples[sample]
        }
        return len(admission.barriers) == 1 and bool(takers & set(after))

    # ------------------------------------------------------------ two steps

    def _results(self, tests: Sequence[str], limit: int) -> _Results:
        """Results of tests ordered together: all of them if they are few, else samples."""
        panel = self.workup.union(tests)
        count = math.prod(self.calculator.sizes[v] for v in panel)
        if count <= limit:
            found = self.calculator.outcomes(panel)
            likely = found.weights > 0
            states = {v: s[likely] for v, s in zip(found.findings, found.states, strict=True)}
            return _Results(found.weights[likely], states, found.target[likely], RowMemory())
        draws = self.calculator.draws(limit)
        states = {v: draws[v] for v in panel}
        posterior = self.calculator.posterior(panel, [states[v] for v in panel])
        return _Results(np.full(limit, 1.0 / limit), states, posterior, RowMemory())

    def _starts(self, actions: Sequence[Any]) -> list[int | None]:
        return [None, *(i for i, a in enumerate(actions) if a.bridge)]

    def _stopped(self, results: _Results, hours: float) -> tuple[dict[int | None, FloatArray], ...]:
        """Return the utility of acting on each result, by what was started at the beginning."""
        now = self.problem.utilities_of(results.posterior)
        then = self.problem.utilities_of(results.posterior, hours)
        harms = self.problem.start_harms(results.posterior)
        found = []
        for part, actions in enumerate((self.utilities.actions, self.utilities.marrow_actions)):
            best = then[part].max(axis=1)
            by_start: dict[int | None, FloatArray] = {}
            for a in self._starts(actions):
                kept = best if a is None else np.maximum(now[part][:, a], best - harms[part][:, a])
                by_start[a] = kept
            found.append(by_start)
        return tuple(found)

    def _second(
        self, results: _Results, first_hours: float, test: str, done: Sequence[str]
    ) -> _Second | None:
        """Return a second test after every result of the first order."""
        panel = [v for v in self.workup.positions[test] if v not in results.states]
        hours = first_hours + self.hours[test]
        if not panel or hours > self.max_hours or not self._orderable(test, done):
            return None
        findings = self.calculator.most_telling(panel, SECOND_RESULTS)
        if not findings:
            return None
        joint = self.calculator.given(results.states, findings, results.memory)
        rows, k, outcomes = joint.shape
        flat = joint.transpose(0, 2, 1).reshape(rows * outcomes, k)
        start = self.problem.utilities_of(flat)
        middle = self.problem.utilities_of(flat, first_hours)
        end = self.problem.utilities_of(flat, hours)
        harms = self.problem.start_harms(flat)
        parts: list[dict[int | None, FloatArray]] = []
        for part, actions in enumerate((self.utilities.actions, self.utilities.marrow_actions)):
            best = end[part].max(axis=1)
            values: dict[int | None, FloatArray] = {}
            for a in self._starts(actions):
                kept = (
                    best if a is None else np.maximum(start[part][:, a], best - harms[part][:, a])
                )
                values[a] = kept.reshape(rows, outcomes).sum(axis=1)
            for a in self._starts(actions)[1:]:
                bridged = np.maximum(middle[part][:, a], best - harms[part][:, a])
                values[None] = np.maximum(values[None], bridged.reshape(rows, outcomes).sum(axis=1))
            parts.append(values)
        mass = flat.sum(axis=1)
        bits = np.zeros(rows)
        if self.by == "information":
            told = self.problem.diagnosis_of(flat / np.where(mass > 0, mass, 1.0)[:, None])
            before = np.repeat(self.problem.diagnosis_of(results.posterior), outcomes, axis=0)
            bits = (mass * divergence(told, before)).reshape(rows, outcomes).sum(axis=1)
        return _Second(test, findings, joint, hours, self._cost(test), parts[0], parts[1], bits)

    def _seconds(self, results: _Results, hours: float, done: Sequence[str]) -> list[_Second]:
        ranked = sorted(
            (t for t in self.workup.panels if t not in done and t not in self.operations),
            key=lambda t: -self.alone[t],
        )
        unlocked = [
            t for t in ranked if self.admissions[t].allowed is False and self._orderable(t, done)
        ]
        chosen = [t for t in ranked if self._orderable(t, done)][:SECOND_TESTS]
        chosen += [t for t in unlocked if t not in chosen]
        found = [self._second(results, hours, t, done) for t in chosen]
        return [s for s in found if s is not None]

    def _gain(
        self, results: _Results, hours: float, seconds: Sequence[_Second], cost: float
    ) -> tuple[float, IntArray, FloatArray]:
        """Return the gain over acting now, and for each row the best second test and its gain.

        A second test of -1 stands for acting.
        """
        none = np.full(len(results.weights), -1)
        nothing = np.zeros(len(results.weights))
        if self.by == "information":
            diagnosis = self.problem.diagnosis_of(results.posterior)
            prior = self.problem.diagnosis_of(self.problem.prior)
            told = float(results.weights @ divergence(diagnosis, prior))
            if not seconds:
                return told, none, nothing
            table = np.stack([s.bits for s in seconds])
            sure = diagnosis.max(axis=1) >= CERTAIN
            stop = sure | (table.max(axis=0) < NEGLIGIBLE_BITS)
            more = np.where(stop, 0.0, table.max(axis=0))
            pick = np.where(stop, -1, table.argmax(axis=0))
            return told + float(results.weights @ more), pick, more
        lesion, marrow = self._stopped(results, hours)
        best, pick, more = -math.inf, none, nothing
        for a, stop_lesion in lesion.items():
            for b, stop_marrow in marrow.items():
                rows = [stop_lesion + stop_marrow]
                rows += [s.lesion[a] + s.marrow[b] - s.cost for s in seconds]
                table = np.stack(rows)
                gain = float(results.weights @ table.max(axis=0))
                if gain > best + 1e-12:
                    best, pick = gain, table.argmax(axis=0) - 1
                    more = table.max(axis=0) - table[0]
        prior = (results.weights @ results.posterior)[None, :]
        # on few samples the best of many may seem to gain more than anything could
        gained = min(best - float(self.problem.best(prior)[0]), self.problem.perfect_information)
        return gained - cost, pick, more

    def two_steps(self, test: str) -> float:
        """Gain of a first test with the best second one after each result."""
        return self._expected_gain((test,))

    def _expected_gain(self, tests: tuple[str, ...]) -> float:
        if tests[0] in self.operations:
            return self.alone[tests[0]]
        return self._expected(tests, FIRST_RESULTS)[0]

    # ------------------------------------------------------------- the plan

    def plan(self) -> Plan:
        """Return the plan."""
        candidates = [
            t
            for t in sorted(self.alone, key=lambda t: -self.alone[t])
            if self._orderable(t) and self.hours[t] <= self.max_hours
        ]
        if self.by == "information":
            candidates = [t for t in candidates if t not in self.operations]
        tried = [(t, self.alone[t], self.two_steps(t)) for t in candidates[:FIRST_TESTS]]
        act_now = self.problem.choice()
        best = max(tried, key=lambda row: row[2], default=None)
        least = self.workup.catalog.weights.least_gain
        floor = NEGLIGIBLE_BITS if self.by == "information" else least
        if best is None or best[2] <= floor:
            return Plan(self.by, act_now, None, tuple(tried))
        # What fits beside a test into its wait may matter more than the test: whole orders compete.
        likely = sorted(tried, key=lambda row: -max(row[1], row[2]))[:ORDERS_TRIED]
        orders = [self._order_around(test) for test, _, _ in likely]
        gains = {(test,): gain for test, _, gain in tried}
        order = max(orders, key=lambda o: gains[o] if o in gains else self._expected_gain(o))
        return Plan(self.by, act_now, self._first_step(order), tuple(tried))

    def _companions(self, test: str) -> list[str]:
        """Return tests that fit into the waiting time and add more than their harm and price."""
        seen = set(self.workup.positions[test])
        found: list[str] = []
        least = self.workup.catalog.weights.least_gain
        known = self._known_gain((test,))
        for other in sorted(self.alone, key=lambda t: -self.alone[t]):
            panel = set(self.workup.positions[other])
            if (
                other == test
                or other in self.operations
                or not self._beside(other, test)
                or self.hours[other] > self.hours[test]
                or panel <= seen
                or seen <= panel
            ):
                continue
            cost = self._cost(other, (test, *found)) + least
            # Cheap to see: what a test is worth alone. Few add more than that to others.
            if self.problem.sample_information(self.workup.positions[other]) <= cost:
                continue
            together = self._known_gain((test, *found, other))
            if together - known > cost:
                found.append(other)
                seen |= panel
                known = together
        return found

    def _known_gain(self, tests: Sequence[str]) -> float:
        """Return the expected utility of the best actions once the tests are known."""
        results = self._results(tests, FIRST_RESULTS)
        return float(results.weights @ self.problem.best(results.posterior))

    def _beside(self, other: str, test: str) -> bool:
        """Whether a test may be ordered at once, if need be on the sample that another takes."""
        admission = self.admissions[other]
        if admission.openers:
            return False
        return admission.allowed is True or (
            admission.allowed is False and self._orderable(other, (test,))
        )

    def _order_around(self, test: str) -> tuple[str, ...]:
        return (test,) if test in self.operations else (test, *self._companions(test))

    def _expected(
        self, tests: tuple[str, ...], count: int
    ) -> tuple[float, _Results, list[_Second], IntArray, FloatArray]:
        """Return the gain of an order, what it may show, and what follows each result."""
        results = self._results(tests, count)
        hours = max(self.hours[t] for t in tests)
        seconds = self._seconds(results, hours, tests)
        cost = sum(self._cost(t, tests) for t in tests)
        gain, pick, more = self._gain(results, hours, seconds, cost)
        return gain, results, seconds, pick, more

    def _first_step(self, tests: tuple[str, ...]) -> PlanStep:
        hours = max(self.hours[t] for t in tests)
        price = sum(self._price(t, tests) for t in tests)
        if tests[0] in self.operations:
            return PlanStep(tests, hours, price, self.alone[tests[0]])
        gain, results, seconds, pick, more = self._expected(tests, TREE_RESULTS)
        branches = self._branches(results, hours, seconds, pick, more)
        return PlanStep(tests, hours, price, gain, branches, self._at_hand(tests))

    def _at_hand(self, tests: Iterable[str]) -> tuple[str, ...]:
        return tuple(test for test in tests if self.workup.gates.at_hand(test))

    def _branches(
        self,
        results: _Results,
        hours: float,
        seconds: Sequence[_Second],
        pick: IntArray,
        more: FloatArray,
    ) -> tuple[Branch, ...]:
        """Group results by what follows: the same second test, or the same actions."""
        lesion, marrow = self.problem.utilities_of(results.posterior, hours)
        groups: dict[tuple[int, int, int], list[int]] = {}
        for row, s in enumerate(pick):
            key = (int(s), -1, -1)
            if s < 0:
                key = (-1, int(lesion[row].argmax()), int(marrow[row].argmax()))
            groups.setdefault(key, []).append(row)
        ordered = sorted(groups.items(), key=lambda item: -results.weights[item[1]].sum())
        branches = []
        for (s, _, _), rows in ordered[:BRANCHES]:
            weights = results.weights[rows]
            share = float(weights.sum())
            posterior = (weights / share) @ results.posterior[rows]
            then: PlanStep | Choice
            if s >= 0:
                gained = float(weights @ more[rows]) / share
                then = self._second_step(seconds[s], rows, weights / share, gained)
            else:
                then = self.problem.choice(posterior[None, :], hours)
            branches.append(
                Branch(
                    share,
                    self._marks(results, rows),
                    self._leading(posterior),
                    then,
                )
            )
        return tuple(branches)

    def _second_step(
        self, second: _Second, rows: list[int], weights: FloatArray, gain: float
    ) -> PlanStep:
        joint = np.tensordot(weights, second.joint[rows], axes=1)
        shares = joint.sum(axis=0)
        states = np.unravel_index(
            np.arange(joint.shape[1]), [self.calculator.sizes[v] for v in self._order(second)]
        )
        branches = []
        for outcome in np.argsort(-shares, kind="stable")[:BRANCHES]:
            if shares[outcome] < 0.05:
                continue
            after = joint[:, outcome] / shares[outcome]
            named = tuple(
                f"{self._name(v)} {self._state(v, int(states[i][outcome]))}"
                for i, v in enumerate(self._order(second))
            )
            branches.append(
                Branch(
                    float(shares[outcome]),
                    named,
                    self._leading(after),
                    self.problem.choice(after[None, :], second.hours),
                )
            )
        price = self.workup.entry(second.test).price_usd
        tests = (second.test,)
        return PlanStep(
            tests, second.hours, price, gain, tuple(branches), self._at_hand(tests)
        )

    def _order(self, second: _Second) -> list[int]:
        """Return the findings of a second test in the order of its joint table."""
        target = self.calculator.target
        return [v for v in second.findings if v not in target] + [
            v for v in second.findings if v in target
        ]

    # --------------------------------------------------------------- in words

    def _name(self, v: int) -> str:
        return list(self.workup.model.variables)[v].replace("_", " ")

    def _state(self, v: int, state: int) -> str:
        variable = list(self.workup.model.variables.values())[v]
        return variable.states[state].replace("_", " ")

    def _leading(self, posterior: FloatArray) -> tuple[tuple[str, float], ...]:
        causes = self.problem.causes_of(posterior[None, :])[0]
        order = np.argsort(-causes, kind="stable")[:3]
        names = self.problem.open_causes
        return tuple((names[i], float(causes[i])) for i in order if causes[i] >= 0.03)

    def _marks(self, results: _Results, rows: list[int]) -> tuple[str, ...]:
        """Name the three findings whose share in a branch differs most from that in all results."""
        weights = results.weights[rows] / results.weights[rows].sum()
        found = []
        # what was done before a test says nothing about the patient by itself
        idle = {self.workup.model.position(by) for by, _ in self.workup.model.weakened.values()}
        for v, states in results.states.items():
            if v in idle:
                continue
            size = self.calculator.sizes[v]
            inside = np.bincount(states[rows], weights=weights, minlength=size)
            overall = np.bincount(states, weights=results.weights, minlength=size)
            best = int((inside - overall).argmax())
            found.append((float(inside[best] - overall[best]), v, best, float(inside[best])))
        found.sort(key=lambda row: -row[0])
        return tuple(
            f"{self._name(v)} {self._state(v, state)} ({rounded_percent(share)})"
            for lift, v, state, share in found[:3]
            if lift > 0.1
        )
