"""Whether a test may be done in this patient, what must come first, and what it may cost him.

Gates are applied on probabilities: a platelet count that nobody has seen yet bars a needle if it
is likely enough to be low, and names the test that would settle it otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from epidural_dx.clinical.display import rounded_percent
from epidural_dx.decision.catalog import HARMS, Catalog, Gate, OrderedTest, entry_of
from epidural_dx.decision.elimination import EvidenceTables
from epidural_dx.errors import ModelError
from epidural_dx.inference.network import FloatArray
from epidural_dx.network.variable import Variable

#: Value of ``allowed`` where a test may be done once something has been corrected.
UNTIL_CORRECTED = "until corrected"


@dataclass(frozen=True)
class Admission:
    """Whether a test may be done, and at what risk.

    Attributes
    ----------
    allowed : bool or str
        True, False, or `UNTIL_CORRECTED`.
    barriers : tuple of str
        Why not, each with its probability.
    corrections : tuple of str
        What would open it.
    correction_hours : float
        How long that takes (corrections run side by side).
    look_up : tuple of str
        Conditions that are not known but likely enough to matter, each with its probability.
    openers : tuple of str
        The cheapest tests that settle those conditions.
    first : tuple of str
        Tests to be done first: the openers, and one that takes a missing sample.
    harms : mapping of str to float
        Probability of each harm in this patient.
    loss : float
        Expected utility lost through harm.
    """

    allowed: bool | str
    barriers: tuple[str, ...]
    corrections: tuple[str, ...]
    correction_hours: float
    look_up: tuple[str, ...]
    openers: tuple[str, ...]
    first: tuple[str, ...]
    harms: Mapping[str, float]
    loss: float


class Gatekeeper:
    """Judges tests for one patient.

    Parameters
    ----------
    catalog : Catalog
    variables : mapping of str to Variable
    panels : mapping of str to tuple of str
        Findings that every test reveals.
    tables : EvidenceTables
        The network after the patient's evidence.
    known : collection of str
        Findings that have been observed.
    """

    def __init__(
        self,
        catalog: Catalog,
        variables: Mapping[str, Variable],
        panels: Mapping[str, tuple[str, ...]],
        tables: EvidenceTables,
        known: Iterable[str],
    ) -> None:
        self._catalog = catalog
        self._variables = variables
        self._position = {name: i for i, name in enumerate(variables)}
        self._panels = panels
        self._known = frozenset(known)
        gates = [g for name in panels for g in catalog.gates.get(name, ())]
        for gate in gates:
            self._check(gate)
        self._conditions = {self._position[g.variable] for g in gates if g.variable}
        self._everything = tables
        self._at_hand: dict[str, bool] = {}

    @cached_property
    def _tables(self) -> EvidenceTables:
        """What is left of the network for questions about conditions."""
        open_ = self._everything.open_variables(sorted(self._conditions))
        return self._everything.shared(open_)

    def _check(self, gate: Gate) -> None:
        if gate.variable is None:
            return
        if gate.variable not in self._variables:
            raise ModelError(f"unknown variable {gate.variable!r}", name=gate.name)
        states = self._variables[gate.variable].states
        for state in gate.states:
            if state not in states:
                raise ModelError(f"{state!r} is no state of {gate.variable}", name=gate.name)

    def _holds(self, gate: Gate) -> FloatArray:
        """1 for every state of the gate's variable in which it holds."""
        assert gate.variable is not None
        states = self._variables[gate.variable].states
        return np.array([float(s in gate.states) for s in states])

    def probability(self, gate: Gate) -> float:
        """Return the probability that a gate's condition holds."""
        if gate.variable is None:
            return 1.0
        v = self._position[gate.variable]
        holds = self._holds(gate)
        if v in self._tables.fixed:
            return float(holds[self._tables.fixed[v]])
        return float(self._tables.joint((v,)) @ holds)

    def _expected_factors(self, gates: Sequence[Gate]) -> dict[str, float]:
        """Return the expected product of the multipliers of each harm (they may be dependent)."""
        open_: list[int] = []
        for g in gates:
            v = self._position[g.variable] if g.variable else -1
            if v >= 0 and v not in self._tables.fixed and v not in open_:
                open_.append(v)
        joint = self._tables.joint(open_) if open_ else np.ones(())
        factors = {}
        for harm in HARMS:
            product = np.ones([1] * len(open_))
            for g in gates:
                if harm not in g.multiplies:
                    continue
                if g.variable is None:
                    product = product * g.factor
                    continue
                v = self._position[g.variable]
                by_state = 1 + self._holds(g) * (g.factor - 1)
                if v in self._tables.fixed:
                    product = product * by_state[self._tables.fixed[v]]
                else:
                    shape = [1] * len(open_)
                    shape[open_.index(v)] = len(by_state)
                    product = product * by_state.reshape(shape)
            factors[harm] = float((joint * product).sum())
        return factors

    def _opener(self, variable: str) -> str | None:
        """Cheapest test that reveals a finding."""
        candidates = [
            entry_of(self._catalog, name)
            for name, findings in self._panels.items()
            if variable in findings
        ]
        if not candidates:
            return None
        return min(candidates, key=lambda t: (t.price_usd, t.turnaround_hours)).name

    def harms(self, test: str) -> tuple[dict[str, float], float]:
        """Return the probabilities of harm in this patient, and the utility they cost."""
        entry = entry_of(self._catalog, test)
        multipliers = [
            g for g in self._catalog.gates.get(test, ()) if g.effect == "risk_multiplier"
        ]
        factors = self._expected_factors(multipliers) if multipliers else {}
        harms = {h: min(1.0, p * factors.get(h, 1.0)) for h, p in entry.harms.items()}
        weights = self._catalog.weights.harm_loss
        return harms, math.fsum(harms[h] * weights[h] for h in HARMS)

    def has_been_read(self, test: str) -> bool:
        """Whether some finding of a test is known."""
        return bool(self._known & set(self._panels.get(test, ())))

    def at_hand(self, test: str) -> bool:
        """Whether a test has been done and what is left of it can be looked at again.

        It has been done if something is known that only it shows, or tests that contain it; and
        with every test that contains it.
        """
        if test not in self._at_hand:
            self._at_hand[test] = self._look_at_hand(test)
        return self._at_hand[test]

    def _look_at_hand(self, test: str) -> bool:
        if not entry_of(self._catalog, test).kept:
            return False
        findings = set(self._panels[test])
        if any(self.at_hand(t) for t, panel in self._panels.items() if findings < set(panel)):
            return True
        elsewhere = {
            f for other in self._panels.values() if not findings <= set(other) for f in other
        }
        return bool(self._known & (findings - elsewhere))

    def _sample_missing(self, entry: OrderedTest) -> bool:
        return bool(entry.needs) and not any(
            self.has_been_read(taker)
            for sample in entry.needs
            for taker in self._catalog.samples[sample]
        )

    def judge(self, test: str) -> Admission:
        """Return whether a test may be done now, why not, and what must come first."""
        if self.at_hand(test):
            return Admission(True, (), (), 0.0, (), (), (), dict.fromkeys(HARMS, 0.0), 0.0)
        weights = self._catalog.weights
        entry = entry_of(self._catalog, test)
        allowed: bool | str = True
        barriers: list[str] = []
        corrections: list[str] = []
        look_up: list[str] = []
        openers: list[str] = []
        hours = 0.0
        for gate in self._catalog.gates.get(test, ()):
            if gate.effect == "risk_multiplier":
                continue
            p = self.probability(gate)
            said = "always"
            if gate.variable is not None:
                said = f"{_condition(gate)} ({rounded_percent(p)})"
            known = gate.variable is None or gate.variable in self._known
            if not known and p >= weights.ask_above:
                assert gate.variable is not None
                opener = self._opener(gate.variable)
                look_up.append(said)
                if opener and opener not in openers:
                    openers.append(opener)
            if p < weights.bar_above:
                continue
            barriers.append(said)
            if gate.effect == "barred":
                allowed = False
            elif allowed is True:
                allowed = UNTIL_CORRECTED
            if gate.correction and gate.correction not in corrections:
                corrections.append(gate.correction)
            hours = max(hours, gate.correction_hours)
        first = list(openers)
        if self._sample_missing(entry):
            allowed = False
            takers = [t for s in entry.needs for t in self._catalog.samples[s]]
            barriers.append(f"needs a sample ({' or '.join(entry.needs)}) that is not at hand")
            first.append(min(takers, key=lambda t: self._catalog.tests[t].price_usd))
        harms, loss = self.harms(test)
        return Admission(
            allowed=allowed,
            barriers=tuple(barriers),
            corrections=tuple(corrections),
            correction_hours=hours,
            look_up=tuple(look_up),
            openers=tuple(openers),
            first=tuple(first),
            harms=harms,
            loss=loss,
        )


def _condition(gate: Gate) -> str:
    return f"{gate.variable} {' or '.join(gate.states)}".replace("_", " ")
