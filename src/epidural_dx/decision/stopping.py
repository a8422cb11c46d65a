r"""When to stop testing: whether anything that could still be learned would change the decision.

The same-decision probability is the chance that today's decision stays after the unseen tests
(Choi, Xue, Darwiche, Same-decision probability, Int J Approx Reason 2012),

.. math:: SDP = \sum_f P(f | e) \, [d(e, f) = d(e)]

and the expected regret of acting now is what those tests would have gained if they came at once,
without harm and price (their expected value of sample information).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from epidural_dx.clinical.display import rounded_percent
from epidural_dx.decision.gates import UNTIL_CORRECTED
from epidural_dx.decision.panels import SHIFTS
from epidural_dx.decision.value import EQUAL
from epidural_dx.decision.workup import Workup, require_hours
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from epidural_dx.model import Model

#: What may be decided: the actions, or which cause to name.
DECISIONS = ("action", "cause")
#: Results of all remaining tests together that are looked at.
RESULTS = 128


@dataclass(frozen=True)
class Stopping:
    """Whether to stop, and how sure that is.

    Attributes
    ----------
    decision : tuple of str
        Today's actions (lesion, marrow), or today's leading cause.
    decided : str
        The same in words.
    same_decision_probability : float
        Chance that the decision stays after the tests.
    standard_error : float
        Of that chance; 0 when all results have been looked at.
    expected_regret : float
        Utility lost on average by acting now instead of after the tests, if they cost nothing.
    perfect_information : float
        The most that any information could be worth.
    best_test : str or None
        The allowed test with the greatest value net of harm, delay and price.
    best_value : float or None
        Its net value.
    tests : tuple of str
        The tests that have been looked at.
    stop : bool
        No allowed test is worth its harm, delay and price.
    """

    decision: tuple[str, ...]
    decided: str
    same_decision_probability: float
    standard_error: float
    expected_regret: float
    perfect_information: float
    best_test: str | None
    best_value: float | None
    tests: tuple[str, ...]
    stop: bool

    @property
    def sentence(self) -> str:
        """The stop rule in words."""
        share = rounded_percent(self.same_decision_probability)
        kept = (
            f"{self.decided} would stay the choice after {share} of what the remaining tests "
            "can show"
        )
        if self.best_test is None or self.best_value is None:
            return f"Stop: no test is left that may be ordered; {kept}."
        test = self.best_test.replace("_", " ")
        if self.stop:
            return (
                f"Stop: no test is worth its harm, delay and price (the best, {test}, "
                f"{'loses' if self.best_value < 0 else 'gains'} {_small(self.best_value)} "
                f"utility); {kept}, and acting now costs {_small(self.expected_regret)} utility "
                f"on average."
            )
        return (
            f"Go on: {test} gains {self.best_value:.3f} utility net of harm, delay and price; "
            f"{kept}."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return {
            "decision": list(self.decision),
            "decided": self.decided,
            "same_decision_probability": self.same_decision_probability,
            "standard_error": self.standard_error,
            "expected_regret": self.expected_regret,
            "perfect_information": self.perfect_information,
            "best_test": self.best_test,
            "best_value": self.best_value,
            "tests": list(self.tests),
            "stop": self.stop,
            "sentence": self.sentence,
        }


def _small(utility: float) -> str:
    size = abs(utility)
    return f"{size:.4f}" if size >= 0.00005 else "less than 0.0001"


def same_decision_probability(
    model: Model,
    evidence: Any,
    tests: Iterable[str] | None = None,
    *,
    decision: str = "action",
    exclude: Iterable[str] = (),
    max_hours: float | None = None,
    hours_since_onset: float | None = None,
) -> Stopping:
    """Return the chance that the decision stays after some tests, and whether to stop.

    Parameters
    ----------
    model : Model
    evidence : mapping or Evidence
    tests : iterable of str, optional
        The tests whose results are unseen; by default all that may be ordered, now or once
        something has been corrected, operations left out.
    decision : {"action", "cause"}
        Whether the best actions or the leading cause must stay.
    exclude : iterable of str
        Tests to leave out.
    max_hours : float, optional
        Leave out tests whose result comes later.
    hours_since_onset : float, optional

    Returns
    -------
    Stopping

    Raises
    ------
    EvidenceError
        Bad evidence, an unknown decision or test, a test with nothing left to reveal, a negative
        time.
    """
    if decision not in DECISIONS:
        raise EvidenceError(f"unknown decision {decision!r}", allowed=DECISIONS)
    require_hours("max_hours", max_hours)
    latest = math.inf if max_hours is None else max_hours
    named = None if tests is None else ((tests,) if isinstance(tests, str) else tuple(tests))
    workup = Workup(
        model,
        evidence,
        "lesion_cause",
        exclude=exclude,
        together=() if named is None else (named,),
        hours_since_onset=hours_since_onset,
    )
    problem = workup.problem
    if problem.utilities is None:
        raise EvidenceError("the network has no decision variables to decide on")
    for test in named or ():
        if test not in model.tests:
            raise EvidenceError(f"unknown test {test!r}", allowed=tuple(model.tests))
        if test not in workup.panels:
            raise EvidenceError(f"the test {test!r} has nothing left to reveal")
    operations = {a.as_test for a in problem.utilities.actions if a.as_test}
    admissions = {t: workup.gates.judge(t) for t in workup.panels}
    orderable = tuple(
        t
        for t, a in admissions.items()
        if (a.allowed is True or a.allowed == UNTIL_CORRECTED) and workup.hours(t, a) <= latest
    )
    chosen = named if named is not None else tuple(t for t in orderable if t not in operations)
    best_test, best_value = None, None
    for test in orderable:
        entry = workup.entry(test)
        value = problem.net_value(workup.positions[test], entry, admissions[test])
        if value is not None and (best_value is None or value > best_value):
            best_test, best_value = test, value
    panel = workup.union(chosen)
    names, words = _decision_names(workup, decision)
    same, error, regret = 1.0, 0.0, 0.0
    if panel:
        same, error, regret = _look_ahead(workup, panel, decision)
        regret = min(regret, problem.perfect_information)
    return Stopping(
        decision=names,
        decided=words,
        same_decision_probability=same,
        standard_error=error,
        expected_regret=regret,
        perfect_information=problem.perfect_information,
        best_test=best_test,
        best_value=best_value,
        tests=chosen,
        stop=best_value is None or best_value <= workup.catalog.weights.least_gain,
    )


def _decision_names(workup: Workup, decision: str) -> tuple[tuple[str, ...], str]:
    problem = workup.problem
    if decision == "cause":
        cause = problem.open_causes[int(problem.causes_of(problem.prior)[0].argmax())]
        return (cause,), cause.replace("_", " ")
    choice = problem.choice()
    if choice.marrow_gain == 0:
        return (choice.action,), choice.words
    return (choice.action, choice.marrow_action), choice.words


def _look_ahead(
    workup: Workup, panel: tuple[int, ...], decision: str
) -> tuple[float, float, float]:
    """Chance that the decision stays, its standard error, and the regret of not knowing."""
    problem = workup.problem
    calculator = problem.calculator
    exact = math.prod(calculator.sizes[v] for v in panel) <= calculator.exact_outcomes
    if exact:
        outcomes = problem.outcomes(panel)
        weights, posterior = outcomes.weights, outcomes.target
    else:
        draws = calculator.draws(RESULTS)
        posterior = calculator.posterior(panel, [draws[v] for v in panel])
        weights = np.full(RESULTS, 1.0 / RESULTS)
    lesion, marrow = problem.utilities_of(posterior)
    lesion_now, marrow_now = problem.utilities_of(problem.prior)
    a, b = int(lesion_now[0].argmax()), int(marrow_now[0].argmax())
    lost = lesion.max(axis=1) - lesion[:, a] + marrow.max(axis=1) - marrow[:, b]
    if decision == "cause":
        causes = problem.causes_of(posterior)
        same = causes.argmax(axis=1) == int(problem.causes_of(problem.prior)[0].argmax())
    else:
        same = lost <= EQUAL
    error = 0.0
    if not exact:
        means = same.reshape(SHIFTS, -1).mean(axis=1)
        error = float(means.std(ddof=1) / math.sqrt(SHIFTS))
    return float(weights @ same), error, float(weights @ lost)
