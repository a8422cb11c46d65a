r"""Expected utility of acting now, and what a test is worth before acting.

With the utilities U of :mod:`epidural_dx.decision.utilities` and the decision state
S = (lesion_cause, limb_weakness, marrow_infiltration), the best action now is worth
:math:`\max_a E[U(a, S)]`. A test with outcome f is worth (Raiffa and Schlaifer, Applied Statistical
Decision Theory, 1961; Howard, Information value theory, 1966)

.. math:: EVSI = E_f[\max_a E[U(a, S) | f]] - \max_a E[U(a, S)]

between 0 and the value of perfect information,
:math:`EVPI = E[\max_a U(a, S)] - \max_a E[U(a, S)]`. The net value takes the harm and price of the
test off and acts only when the result is there, except that an action which can be changed later
(``bridge``) may be started now and kept, or replaced, at the price of its own harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from epidural_dx.clinical.spelling import nearest
from epidural_dx.decision.catalog import Catalog, OrderedTest
from epidural_dx.decision.elimination import EvidenceTables
from epidural_dx.decision.gates import Admission, Gatekeeper
from epidural_dx.decision.panels import EXACT_OUTCOMES, Outcomes, PanelCalculator
from epidural_dx.decision.utilities import Action, Utilities, read_utilities
from epidural_dx.errors import ModelError
from epidural_dx.inference.network import FloatArray

if TYPE_CHECKING:
    from epidural_dx.model import Model

#: Utilities that differ by less than this are equal.
EQUAL = 1e-9
#: Variables that utility depends on, in the order of the decision state.
DECISION_VARIABLES = ("lesion_cause", "limb_weakness", "marrow_infiltration")


@dataclass(frozen=True)
class Choice:
    """The best that can be done with a state of knowledge.

    Attributes
    ----------
    action, marrow_action : str
        What to do about the lesion, and about the marrow. An operation that has been done already
        stands for doing no more than that about the lesion.
    expected_utility : float
        Of both together.
    marrow_gain : float
        The part of it that treating the marrow adds to doing nothing about it.
    done : bool
        The action about the lesion has been done already.
    """

    action: str
    marrow_action: str
    expected_utility: float
    marrow_gain: float
    done: bool = False

    @property
    def words(self) -> str:
        """What to do, in words."""
        text = self.action.replace("_", " ")
        if self.done:
            text = f"nothing more about the lesion ({text} has been done)"
        if self.marrow_gain != 0:
            text += f" and {self.marrow_action.replace('_', ' ')}"
        return text


def after_operations(utilities: Utilities, done: frozenset[str]) -> Utilities:
    """Return the utilities of actions in a patient who has been operated on.

    The operation can do no harm any more, and its benefit stays whatever is done next.
    """
    rows = [i for i, a in enumerate(utilities.actions) if a.name in done]
    effect = np.maximum(utilities.effect, utilities.effect[rows].max(axis=0))
    extra = utilities.extra_harm.copy()
    extra[rows] = 0.0
    actions = tuple(
        replace(a, bridge=True) if i in rows else a for i, a in enumerate(utilities.actions)
    )
    return replace(utilities, effect=effect, extra_harm=extra, actions=actions)


def coarsening(
    model: Model, target: tuple[int, ...], wanted: tuple[int, ...]
) -> FloatArray | None:
    """Return the 0/1 matrix that adds a target up to some variables that it determines.

    None where the target leaves one of them open. A variable is determined if it is part of the
    target or a deterministic child of one part.
    """
    network = model.plan.network
    sizes = [network.cardinalities[v] for v in target]
    labels = np.indices(sizes).reshape(len(sizes), -1)
    columns = np.zeros(labels.shape[1], dtype=np.int64)
    count = 1
    for v in wanted:
        if v in target:
            state = labels[target.index(v)]
        else:
            factor = next((f for f in network.factors if f.child == v), None)
            if (
                factor is None
                or len(factor.variables) != 2
                or factor.variables[0] not in target
                or not np.isin(factor.table, (0.0, 1.0)).all()
            ):
                return None
            state = factor.table.argmax(axis=1)[labels[target.index(factor.variables[0])]]
        k = network.cardinalities[v]
        columns = columns * k + state
        count *= k
    matrix: FloatArray = np.eye(count)[columns]
    return matrix


class DecisionProblem:
    """One patient's decision: states, actions, utilities, and the outcomes of panels.

    Parameters
    ----------
    model : Model
    tables : EvidenceTables
    catalog : Catalog
    gates : Gatekeeper
    draws : PanelCalculator or None
        Where to take the samples of large panels from.
    panels : sequence of tuple of int
        Open findings of the tests that will be asked for.
    hours_since_onset : float, optional
    end : {"value", "low", "high"}
        Which end of the ranges of the utilities to use.
    exact_outcomes : int, optional
        Panels with more joint outcomes are sampled; by default as in ``draws``.
    """

    def __init__(
        self,
        model: Model,
        tables: EvidenceTables,
        catalog: Catalog,
        gates: Gatekeeper,
        draws: PanelCalculator | None,
        panels: Sequence[tuple[int, ...]],
        hours_since_onset: float | None = None,
        end: str = "value",
        exact_outcomes: int | None = None,
    ) -> None:
        missing = [v for v in DECISION_VARIABLES if v not in model.variables]
        self.utilities: Utilities | None = None
        self.causes: tuple[str, ...] = ()
        if missing:
            return
        states = [model.variables[v].states for v in DECISION_VARIABLES]
        self.utilities = read_utilities(model._priors, states[0], states[1], states[2], end)
        self.causes = states[0]
        self.catalog = catalog
        self.hours_since_onset = hours_since_onset
        positions = [model.position(v) for v in DECISION_VARIABLES]
        open_ = tables.open_variables(positions)
        self._shape = tuple(
            len(s) if p in open_ else 1 for p, s in zip(positions, states, strict=True)
        )
        self._index = tuple(
            slice(None) if p in open_ else slice(tables.fixed[p], tables.fixed[p] + 1)
            for p in positions
        )
        if exact_outcomes is None:
            exact_outcomes = EXACT_OUTCOMES if draws is None else draws.exact_outcomes
        self._tables = tables
        self._open = tuple(open_)
        self._panels = panels
        self._draws = draws
        self._exact_outcomes = exact_outcomes
        self._from_target = None if draws is None else coarsening(model, draws.target, self._open)
        self._derived: dict[tuple[int, ...], Outcomes] = {}
        for action in self.utilities.actions:
            if action.as_test is not None and action.as_test not in catalog.tests:
                close = nearest(str(action.as_test), catalog.tests, 1)
                raise ModelError(
                    f"as_test: {action.as_test!r} is no test of tests.csv"
                    + (f"; did you mean {close[0]!r}?" if close else ""),
                    file=model._priors / "utilities.yaml",
                    name=f"actions.{action.name}",
                )
        self._gates = gates
        self.done = frozenset(
            a.name for a in self.utilities.actions if a.as_test and gates.has_been_read(a.as_test)
        )
        if self.done:
            self.utilities = after_operations(self.utilities, self.done)
        self._cache: dict[float, tuple[FloatArray, FloatArray]] = {}
        self._by_state: dict[float, FloatArray] = {}
        self._parts_of: dict[tuple[tuple[int, ...], str], tuple[FloatArray, FloatArray]] = {}

    @cached_property
    def harm(self) -> FloatArray:
        """Expected harm of every action in this patient; 0 of those that have been done."""
        assert self.utilities is not None
        by_test = [
            0.0 if a.as_test is None else self._gates.harms(a.as_test)[1]
            for a in self.utilities.actions
        ]
        done = [a.name in self.done for a in self.utilities.actions]
        harm: FloatArray = np.where(done, 0.0, self.utilities.harm + np.array(by_test))
        return harm

    @cached_property
    def prior(self) -> FloatArray:
        """P(decision state | evidence), shape (1, states)."""
        if self._draws is not None and self._from_target is not None:
            return (self._draws.prior @ self._from_target).reshape(1, -1)
        return self.calculator.prior.reshape(1, -1)

    @cached_property
    def loss_per_hour(self) -> float:
        """Expected utility lost by each hour of delay; 0 without decision variables."""
        if self.utilities is None:
            return 0.0
        rates = self.utilities.loss_per_hour(self.hours_since_onset)[self._index[:2]]
        return max(float((self._part(self.prior, "lesion") @ rates.reshape(-1))[0]), 0.0)

    @cached_property
    def calculator(self) -> PanelCalculator:
        """Outcomes of panels, with the decision state as the target."""
        if self._draws is not None and self._draws.target == self._open:
            return self._draws
        return PanelCalculator(
            self._tables,
            self._open,
            self._panels,
            exact_outcomes=self._exact_outcomes,
            draws_of=self._draws,
            informative=False,
        )

    def outcomes(self, panel: tuple[int, ...]) -> Outcomes:
        """Return the outcomes of a panel, and what each says about the decision state.

        Where the target of the ranking determines the decision state, they are those of the
        target, added up. The information is that about the target then.
        """
        if self._draws is None or self._from_target is None:
            return self.calculator.outcomes(panel)
        if panel not in self._derived:
            found, to_state = self._draws.outcomes(panel), self._from_target
            self._derived[panel] = replace(found, told=lambda: found.rows @ to_state)
        return self._derived[panel]

    # ------------------------------------------------------------ the state

    # Sums over a part of the state are matrix products: a sum over a short axis is far slower.

    @cached_property
    def _parts(self) -> dict[str, FloatArray]:
        """0/1 matrices that add decision states up to a part of them, shape (states, part)."""
        c, w, m = self._shape
        cause, weakness, marrow = np.indices(self._shape).reshape(3, -1)
        return {
            "cause": np.eye(c)[cause],
            "lesion": np.eye(c * w)[cause * w + weakness],
            "marrow": np.eye(m)[marrow],
            "diagnosis": np.eye(c * m)[cause * m + marrow],
        }

    def _part(self, posterior: FloatArray, name: str) -> FloatArray:
        part: FloatArray = posterior.reshape(-1, math.prod(self._shape)) @ self._parts[name]
        return part

    def cause_outcomes(self, panel: tuple[int, ...]) -> tuple[FloatArray, FloatArray] | None:
        """Probabilities of a panel's outcomes and P(cause | outcome), or None if it is fixed."""
        if self.utilities is None or self._shape[0] == 1:
            return None
        return self._told(panel, "cause")

    def marrow_outcomes(self, panel: tuple[int, ...]) -> tuple[FloatArray, FloatArray] | None:
        """As :meth:`cause_outcomes`, of what the marrow holds."""
        if self.utilities is None or self._shape[2] == 1:
            return None
        return self._told(panel, "marrow")

    def _told(self, panel: tuple[int, ...], part: str) -> tuple[FloatArray, FloatArray]:
        """Probabilities of outcomes, and what they say about a part of the decision state."""
        if (panel, part) not in self._parts_of:
            outcomes = self.outcomes(panel)
            self._parts_of[panel, part] = outcomes.weights, self._part(outcomes.target, part)
        return self._parts_of[panel, part]

    def marrow_of(self, posterior: FloatArray) -> FloatArray:
        """Return P(marrow infiltration | row), shape (rows, marrow states that are open)."""
        return self._part(posterior, "marrow")

    # -------------------------------------------------------------- utility

    def _matrices(self, hours: float) -> tuple[FloatArray, FloatArray]:
        """Utilities net of harm after a delay: (cause x weakness, actions), (marrow, actions)."""
        if hours not in self._cache:
            assert self.utilities is not None
            u = self.utilities
            lesion = u.lesion(hours, self.hours_since_onset)
            lesion = lesion - u.extra_harm[:, :, None] - self.harm[:, None, None]
            lesion = lesion[(slice(None), *self._index[:2])].reshape(len(u.actions), -1)
            marrow = u.marrow_value(hours) - u.marrow_harm[:, None]
            marrow = marrow[:, self._index[2]]
            self._cache[hours] = (lesion.T.copy(), marrow.T.copy())
        return self._cache[hours]

    def utilities_of(
        self, posterior: FloatArray, hours: float = 0.0
    ) -> tuple[FloatArray, FloatArray]:
        """Return the expected utility of every action for every row.

        Parameters
        ----------
        posterior : ndarray, shape (outcomes, states)
            P(decision state | outcome).
        hours : float
            Delay until the action.

        Returns
        -------
        lesion : ndarray, shape (outcomes, actions)
        marrow : ndarray, shape (outcomes, marrow actions)
        """
        if hours not in self._by_state:
            lesion, marrow = self._matrices(hours)
            wide = (self._parts["lesion"] @ lesion, self._parts["marrow"] @ marrow)
            self._by_state[hours] = np.concatenate(wide, axis=1)
        assert self.utilities is not None
        states = math.prod(self._shape)
        found = posterior.reshape(-1, states) @ self._by_state[hours]
        count = len(self.utilities.actions)
        return found[:, :count], found[:, count:]

    def best(self, posterior: FloatArray, hours: float = 0.0) -> FloatArray:
        """Return the expected utility of the best actions for every row, shape (outcomes,)."""
        lesion, marrow = self.utilities_of(posterior, hours)
        result: FloatArray = lesion.max(axis=1) + marrow.max(axis=1)
        return result

    def choice(self, posterior: FloatArray | None = None, hours: float = 0.0) -> Choice:
        """Return the best actions for one state of knowledge (by default what is known now)."""
        assert self.utilities is not None
        lesion, marrow = self.utilities_of(self.prior if posterior is None else posterior, hours)
        a, b = self._preferred(lesion[0]), int(marrow[0].argmax())
        return Choice(
            self.utilities.actions[a].name,
            self.utilities.marrow_actions[b].name,
            float(lesion[0, a] + marrow[0, b]),
            float(marrow[0, b]),
            self.utilities.actions[a].name in self.done,
        )

    def _preferred(self, lesion: FloatArray) -> int:
        """Return the best action; among equals one that has been done already."""
        assert self.utilities is not None
        equal = np.flatnonzero(lesion >= lesion.max() - EQUAL)
        done = [i for i in equal if self.utilities.actions[i].name in self.done]
        return int(done[0] if done else lesion.argmax())

    @property
    def act_now(self) -> float:
        """Expected utility of the best actions now."""
        return float(self.best(self.prior)[0])

    @property
    def perfect_information(self) -> float:
        """Expected value of knowing the decision state at once (EVPI)."""
        lesion, marrow = self._matrices(0.0)
        known = self._part(self.prior, "lesion") @ lesion.max(axis=1)
        known = known + self._part(self.prior, "marrow") @ marrow.max(axis=1)
        return max(float(known[0]) - self.act_now, 0.0)

    def sample_information(self, panel: tuple[int, ...]) -> float:
        """Return the expected value of a panel's result, at once, without harm or price (EVSI)."""

        def at_once(weights: FloatArray, posterior: FloatArray) -> float:
            return float(weights @ self.best(posterior))

        return max(self._gained(self.outcomes(panel), at_once), 0.0)

    def _gained(
        self, outcomes: Outcomes, expected: Callable[[FloatArray, FloatArray], float]
    ) -> float:
        """Return an expected utility after a panel, minus that of acting now.

        Of a sampled panel only what it adds to its most telling findings is an average over
        samples; those are enumerated (a control variate). More findings never gain less, and
        nothing gains more than knowing everything.

        Parameters
        ----------
        outcomes : Outcomes
        expected : callable
            Utility for weights and posteriors of outcomes.
        """
        after = expected(outcomes.weights, outcomes.target)
        if outcomes.control_outcome is not None:
            known = self.outcomes(outcomes.control)
            more = after - expected(outcomes.weights, known.target[outcomes.control_outcome])
            gained = expected(known.weights, known.target) + max(more, 0.0) - self.act_now
        else:
            prior = (outcomes.weights @ outcomes.target)[None, :]
            gained = after - float(self.best(prior)[0])
        return min(gained, self.perfect_information)

    def after(self, weights: FloatArray, posterior: FloatArray, hours: float) -> float:
        """Return the expected utility when a result comes late and the best is done then.

        Either one waits, or one starts the best action that can be changed later and keeps or
        replaces it when the result is there.

        Parameters
        ----------
        weights : ndarray, shape (outcomes,)
        posterior : ndarray, shape (outcomes, states)
        hours : float

        Returns
        -------
        float
        """
        assert self.utilities is not None
        lesion_now, marrow_now = self.utilities_of(posterior)
        lesion_then, marrow_then = self.utilities_of(posterior, hours)
        marrow_harm = np.broadcast_to(self.utilities.marrow_harm, marrow_now.shape)
        return self._start_and_switch(
            weights, lesion_now, lesion_then, self.utilities.actions, self._start_harm(posterior)
        ) + self._start_and_switch(
            weights, marrow_now, marrow_then, self.utilities.marrow_actions, marrow_harm
        )

    def start_harms(self, posterior: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the harm of having started each action, for lesion and marrow.

        Linear in the rows, which need not be normalised.
        """
        assert self.utilities is not None
        marrow = posterior.sum(axis=1)[:, None] * self.utilities.marrow_harm
        return self._start_harm(posterior), marrow

    def causes_of(self, posterior: FloatArray) -> FloatArray:
        """Return P(cause | row), shape (rows, causes that are open)."""
        return self._part(posterior, "cause")

    def diagnosis_of(self, posterior: FloatArray) -> FloatArray:
        """Return P(cause, marrow infiltration | row), shape (rows, open causes x marrow states)."""
        return self._part(posterior, "diagnosis")

    @property
    def open_causes(self) -> tuple[str, ...]:
        """Names of the causes in the order of :meth:`causes_of`."""
        return self.causes[self._index[0]]

    def _start_harm(self, posterior: FloatArray) -> FloatArray:
        """Harm of having started each action, shape (outcomes, actions); linear in the rows."""
        return posterior @ self._harms

    @cached_property
    def _harms(self) -> FloatArray:
        """Harm of having started each action by decision state, shape (states, actions)."""
        assert self.utilities is not None
        extra = self.utilities.extra_harm[:, self._index[0]]
        harms: FloatArray = self._parts["cause"] @ (extra + self.harm[:, None]).T
        return harms

    def net_value(
        self, panel: tuple[int, ...], entry: OrderedTest, admission: Admission
    ) -> float | None:
        """Value of a test net of harm, delay and price; None without decision variables.

        Negative where acting now is better.
        """
        if self.utilities is None:
            return None
        outcomes = self.outcomes(panel)
        hours = entry.turnaround_hours + admission.correction_hours
        operations = [i for i, a in enumerate(self.utilities.actions) if a.as_test == entry.name]
        if operations:
            return self._operation(outcomes, operations[0], admission.correction_hours, hours)
        gained = self._gained(outcomes, lambda w, posterior: self.after(w, posterior, hours))
        price = entry.price_usd / self.catalog.weights.usd_per_utility
        return gained - admission.loss - price

    def _operation(
        self, outcomes: Outcomes, action: int, start_hours: float, result_hours: float
    ) -> float:
        """Value of a test that is itself an action: its benefit and harm are those of the action.

        The tissue serves the choice about the marrow; the treatment that follows the histology
        is part of the action's effect.
        """
        prior = (outcomes.weights @ outcomes.target)[None, :]
        lesion, _ = self.utilities_of(prior, start_hours)
        assert self.utilities is not None
        _, marrow_now = self.utilities_of(outcomes.target)
        _, marrow_then = self.utilities_of(outcomes.target, result_hours)
        marrow = self._start_and_switch(
            outcomes.weights,
            marrow_now,
            marrow_then,
            self.utilities.marrow_actions,
            np.broadcast_to(self.utilities.marrow_harm, marrow_now.shape),
        )
        return float(lesion[0, action]) + marrow - float(self.best(prior)[0])

    @staticmethod
    def _start_and_switch(
        weights: FloatArray,
        now: FloatArray,
        then: FloatArray,
        actions: Sequence[Action],
        harms: FloatArray,
    ) -> float:
        """Return the expected utility of waiting, or of the best start if that is better."""
        switched = then.max(axis=1)
        best = float(weights @ switched)
        for a, action in enumerate(actions):
            if action.bridge:
                kept = np.maximum(now[:, a], switched - harms[:, a])
                best = max(best, float(weights @ kept))
        return best
