"""One JSON document per question about a patient; the same for every face."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epidural_dx.clinical.spelling import nearest, normal_form
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from epidural_dx.analysis.consultation import Consultation
    from epidural_dx.answer import Answer
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.decision.plan import Plan
    from epidural_dx.decision.sequence import SequenceStep
    from epidural_dx.decision.stopping import Stopping
    from epidural_dx.model import Model


def identity(model: Model) -> dict[str, str]:
    """Say which model answered: name, version, digest of networks and priors, base rates."""
    return {
        "name": model.name,
        "version": model.version,
        "digest": model.digest,
        "scenario": model.scenario,
    }


def target_variables(
    model: Model, spelled: Sequence[str], option: str = "target"
) -> tuple[str, ...]:
    """Return the variables that tests should tell about, by default etiology and marrow.

    Parameters
    ----------
    model : Model
    spelled : sequence of str
        Names or their aliases.
    option : str
        What the face calls the option, for the error.

    Raises
    ------
    EvidenceError
        A name that is no variable, or an abbreviation of several.
    """
    from epidural_dx.model import DEFAULT_TARGET

    found = []
    for one in spelled:
        name = model.canonical_name(one)
        if name is None:
            raise EvidenceError(
                f"{option} {one!r} is no variable",
                value=one,
                nearest=nearest(one, model.variables, 1),
            )
        same = abbreviated(model, one, name)
        if len(same) > 1:
            raise EvidenceError(
                f"{option} {one!r} is short for several variables", value=one, nearest=same
            )
        found.append(name)
    return tuple(found) or DEFAULT_TARGET


def abbreviated(model: Model, spelled: str, name: str) -> tuple[str, ...]:
    """Return the variables whose first words `spelled` are, if `name` is only one of them.

    As the name of a finding such a short form is understood by its value (``marrow: melanoma`` is
    a biopsy); alone it may mean any of them.
    """
    start = f"{normal_form(spelled)}_"
    if not name.startswith(start):
        return ()
    same = [v for v in model.variables if v.startswith(start)]
    return tuple(sorted(same, key=lambda v: model.variables[v].group != "condition"))


def next_tests(
    model: Model,
    evidence: Evidence,
    targets: Sequence[str],
    by: str = "information",
    *,
    exclude: Iterable[str] = (),
    max_hours: float | None = None,
    hours_since_onset: float | None = None,
    ahead: LookAhead | None = None,
) -> dict[str, Any]:
    """Rank the tests.

    Parameters and errors as :func:`epidural_dx.decision.ranking.rank_tests`, with `ahead` from
    :func:`look_ahead` where the plan is wanted too.
    """
    from epidural_dx.decision.ranking import rank_tests

    answer = model.diagnose(evidence)
    ranked = rank_tests(
        model,
        evidence,
        targets,
        by,
        exclude=exclude,
        max_hours=max_hours,
        hours_since_onset=hours_since_onset,
    )
    return {
        "model": identity(model),
        "target": list(targets),
        "by": by,
        "next_tests": [test.as_dict() for test in ranked],
        **({} if ahead is None else {"plan": ahead.as_dict()}),
        "warnings": [warning.as_dict() for warning in answer.warnings],
    }


def explanation(
    model: Model, evidence: Evidence, *, cause: str | None = None, against: str | None = None
) -> dict[str, Any]:
    """Explain an answer in full: what speaks for and against it, through what, and what is missing.

    Parameters and errors as :func:`epidural_dx.analysis.consultation.consult`.
    """
    from epidural_dx.analysis.consultation import consult

    return explained(consult(model, evidence, cause=cause, against=against))


def explained(found: Consultation) -> dict[str, Any]:
    """Write an explanation as a document."""
    return {
        "model": identity(found.model),
        **found.as_dict(),
        "warnings": [warning.as_dict() for warning in found.answer.warnings],
    }


def weights(
    model: Model, evidence: Evidence, *, contributions: bool = False, cause: str | None = None
) -> dict[str, Any]:
    """Say what every finding weighs for the leading cause against all others, in decibans.

    The part of :func:`explanation` that takes milliseconds.

    Parameters
    ----------
    model : Model
    evidence : Evidence
    contributions : bool
        Also the order-averaged contributions, which add up from the base rate to the posterior
        (:func:`epidural_dx.analysis.explanation.shapley`).
    cause : str, optional
        Of the contributions; by default the leading one.

    Raises
    ------
    EvidenceError
        Unknown cause, or impossible evidence.
    """
    from epidural_dx.analysis.explanation import leave_one_out

    answer = model.diagnose(evidence)
    leader, probability = answer.ranked_causes()[0]
    return {
        "model": identity(model),
        "cause": leader,
        "probability": probability,
        "findings": leave_one_out(model, evidence),
        **({"contributions": _contributions(model, evidence, cause)} if contributions else {}),
        "warnings": [warning.as_dict() for warning in answer.warnings],
    }


def _contributions(model: Model, evidence: Evidence, cause: str | None) -> dict[str, Any]:
    from epidural_dx.analysis.explanation import shapley

    return shapley(model, evidence, cause).as_dict()


@dataclass(frozen=True)
class LookAhead:
    """What to order now, what then for each likely result, and when to stop.

    Attributes
    ----------
    plan : Plan
    stopping : Stopping
    sequence : tuple of SequenceStep, optional
        The tests that tell most together, where they were asked for.
    """

    plan: Plan
    stopping: Stopping
    sequence: tuple[SequenceStep, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        steps = self.sequence
        return {
            **self.plan.as_dict(),
            "stopping": self.stopping.as_dict(),
            "sequence": None if steps is None else [step.as_dict() for step in steps],
        }


def look_ahead(
    model: Model,
    evidence: Evidence,
    by: str = "value",
    *,
    exclude: Iterable[str] = (),
    max_hours: float | None = None,
    hours_since_onset: float | None = None,
    steps: int | None = None,
) -> LookAhead:
    """Plan two steps ahead and say when to stop.

    Parameters
    ----------
    model : Model
    evidence : Evidence
    by : str
        What the plan maximises; any order of tests but value stands for information.
    exclude, max_hours, hours_since_onset
        As :func:`epidural_dx.decision.plan.plan_tests`.
    steps : int, optional
        Also this many tests that tell most together
        (:func:`epidural_dx.decision.sequence.greedy_sequence`).

    Raises
    ------
    EpiduralDxError
        A bad option, or nothing left to find out.
    """
    from epidural_dx.decision.plan import plan_tests
    from epidural_dx.decision.ranking import ORDERS
    from epidural_dx.decision.sequence import greedy_sequence
    from epidural_dx.decision.stopping import same_decision_probability

    excluded = tuple(exclude)
    sequence = None
    if steps is not None:
        sequence = greedy_sequence(model, evidence, steps, max_hours=max_hours, exclude=excluded)
    found = plan_tests(
        model,
        evidence,
        by="information" if by in ORDERS and by != "value" else by,
        exclude=excluded,
        max_hours=max_hours,
        hours_since_onset=hours_since_onset,
    )
    stopping = same_decision_probability(
        model,
        evidence,
        exclude=excluded,
        max_hours=max_hours,
        hours_since_onset=hours_since_onset,
    )
    return LookAhead(found, stopping, sequence)


def planned(answer: Answer, ahead: LookAhead) -> dict[str, Any]:
    """Write a plan and its stop rule as a document."""
    return {
        "model": identity(answer.model),
        **ahead.as_dict(),
        "warnings": [warning.as_dict() for warning in answer.warnings],
    }
