r"""A longer plan: the tests that together tell most, one after another, whatever they show.

Each step takes the test that adds most to those before it,

.. math:: I(T; F_t | F_1, \ldots, F_k) = I(T; F_1, \ldots, F_k, F_t) - I(T; F_1, \ldots, F_k)

where results are not waited for. Greedy selection reaches at least 1 - 1/e of the best set where
findings are independent given the target (Krause and Guestrin, Near-optimal nonmyopic value of
information in graphical models, UAI 2005); here that is an orientation, no guarantee.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epidural_dx.decision.gates import UNTIL_CORRECTED
from epidural_dx.decision.panels import divergence
from epidural_dx.decision.workup import Workup, require_hours
from epidural_dx.errors import EvidenceError
from epidural_dx.inference.information import entropy

if TYPE_CHECKING:
    from epidural_dx.model import Model

#: Results of sampled panels that are looked at (a multiple of the shifted nets).
RESULTS = 256
#: Tests tried at every step: the best alone.
TRIED = 6
#: Longest sequence.
MOST_STEPS = 10
#: A test that adds less ends the sequence.
NEGLIGIBLE_BITS = 0.02


@dataclass(frozen=True)
class SequenceStep:
    """One test of the sequence.

    Attributes
    ----------
    test : str
    adds : float
        Bits that it adds to those before it.
    bits : float
        Bits of all tests so far together.
    share : float
        The same as a share of what is unknown about the target.
    price_usd : float
    hours : float
        From order to result.
    """

    test: str
    adds: float
    bits: float
    share: float
    price_usd: float
    hours: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "test": self.test,
            "adds": self.adds,
            "bits": self.bits,
            "share": self.share,
            "price_usd": self.price_usd,
            "hours": self.hours,
        }


def greedy_sequence(
    model: Model,
    evidence: Any,
    steps: int = 5,
    *,
    target: str | Sequence[str] = ("lesion_cause", "marrow_infiltration"),
    max_hours: float | None = None,
    exclude: Iterable[str] = (),
) -> tuple[SequenceStep, ...]:
    """Return the tests that together tell most, greedily.

    A test that a gate bars or an unknown finding might bar waits until the tests before it have
    opened it; operations are left out.

    Parameters
    ----------
    model : Model
    evidence : mapping or Evidence
    steps : int
        At most this many tests, 1 to 10.
    target : str or sequence of str
        What the information is about.
    max_hours : float, optional
        Leave out tests whose result takes longer.
    exclude : iterable of str
        Tests to leave out.

    Returns
    -------
    tuple of SequenceStep
        Shorter than asked for where nothing adds anything any more.

    Raises
    ------
    EvidenceError
        Bad evidence or option.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise EvidenceError(f"steps must be a whole number from 1 to {MOST_STEPS}, got {steps!r}")
    require_hours("max_hours", max_hours)
    workup = Workup(model, evidence, target, exclude=exclude)
    utilities = workup.problem.utilities
    operations = set() if utilities is None else {a.as_test for a in utilities.actions}
    admissions = {t: workup.gates.judge(t) for t in workup.panels if t not in operations}
    hours = {t: workup.hours(t, a) for t, a in admissions.items()}
    alone = {t: workup.calculator.outcomes(workup.positions[t]).information for t in admissions}
    unknown = float(entropy(workup.calculator.prior))
    found: list[SequenceStep] = []
    done: list[str] = []
    told = 0.0
    while len(found) < steps:
        open_ = [
            t
            for t in sorted(alone, key=lambda t: -alone[t])
            if t not in done
            and (max_hours is None or hours[t] <= max_hours)
            and _opened(workup, t, done)
        ][:TRIED]
        bits = {t: _together(workup, [*done, t]) for t in open_}
        best = max(bits, key=lambda t: bits[t], default=None)
        if best is None or bits[best] - told < NEGLIGIBLE_BITS:
            break
        found.append(
            SequenceStep(
                test=best,
                adds=bits[best] - told,
                bits=bits[best],
                share=min(bits[best] / unknown, 1.0),
                price_usd=workup.entry(best).price_usd,
                hours=hours[best],
            )
        )
        told = bits[best]
        done.append(best)
    return tuple(found)


def _opened(workup: Workup, test: str, done: Sequence[str]) -> bool:
    """Whether a test may be done once some others have been."""
    admission = workup.gates.judge(test)
    if set(admission.openers) - set(done):
        return False
    if admission.allowed is True or admission.allowed == UNTIL_CORRECTED:
        return True
    samples = workup.catalog.samples
    takers = {t for sample in workup.entry(test).needs for t in samples[sample]}
    return len(admission.barriers) == 1 and bool(takers & set(done))


def _together(workup: Workup, tests: Sequence[str]) -> float:
    """Bits of several tests together: counted if they are few outcomes, else sampled."""
    calculator = workup.calculator
    panel = workup.union(tests)
    if math.prod(calculator.sizes[v] for v in panel) <= calculator.exact_outcomes:
        return calculator.outcomes(panel).information
    draws = calculator.draws(RESULTS)
    posterior = calculator.posterior(panel, [draws[v] for v in panel])
    return float(divergence(posterior, calculator.prior).mean())
