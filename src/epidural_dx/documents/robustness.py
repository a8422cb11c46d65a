"""``robustness`` and ``diff`` as documents: other figures, base rates and models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from epidural_dx.documents.answers import identity
from epidural_dx.documents.sensitivity import Progress, silent
from epidural_dx.documents.tables import records

if TYPE_CHECKING:
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model

#: Members of a figure that differs between two models.
FIGURE = ["parameter", "first", "second", "log_ratio"]


def robustness(
    model: Model,
    evidence: Evidence,
    *,
    without: Sequence[str] | None = None,
    epsilon: float = 0.05,
    finding: str | None = None,
    say: Progress = silent,
) -> dict[str, Any]:
    """Say what becomes of the leading cause under other base rates, figures and models.

    Parameters
    ----------
    model : Model
    evidence : Evidence
    without : sequence of str, optional
        Sources left out in turn; by default each that bears on the findings.
    epsilon : float
        Share of the base rates that may be anything, in 0..1.
    finding : str, optional
        Also the bounds when one unseen patient joins every column of this finding.
    say : callable
        Called with a word on every slow step.

    Raises
    ------
    EvidenceError
        An unknown source or finding, a share outside 0..1, bad or impossible evidence.
    """
    from epidural_dx.analysis import robustness as analysis

    answer = model.diagnose(evidence)
    leader, probability = answer.ranked_causes()[0]
    unseen = None
    if finding is not None:
        known = model.canonical_name(finding) or finding
        with say("Differentiating the answer (longer once for every change of the files)"):
            lower, upper = analysis.imprecise_dirichlet(model, evidence, known)
        unseen = {"finding": known, "patients": analysis.UNSEEN, "lower": lower, "upper": upper}
    with say("Leaving sources out"):
        left_out = analysis.leave_sources_out(model, evidence, without)
    with say("Exchanging base rates and figures"):
        variants = analysis.robustness(model, evidence)
    bounds = analysis.contamination_bounds(model, evidence, epsilon)
    return {
        "model": identity(model),
        "leader": leader,
        "probability": probability,
        "variants": records(variants),
        "sources": records(left_out),
        "contamination": {
            "epsilon": epsilon,
            "breakdown": bounds.attrs["breakdown"],
            "survives": bounds.attrs["survives"],
            "bounds": records(bounds.reset_index(names="cause")),
        },
        "unseen_patients": unseen,
        "warnings": [warning.as_dict() for warning in answer.warnings],
    }


def difference(
    model: Model, other: Model, evidence: Evidence, other_evidence: Evidence
) -> dict[str, Any]:
    """Compare two models on one patient: the answers, and the figures that differ.

    Parameters and errors as :func:`epidural_dx.analysis.robustness.diff`.
    """
    from epidural_dx.analysis.robustness import diff

    causes, parameters = diff(model, other, evidence, other_evidence)
    return {
        "model": identity(model),
        "other": identity(other),
        "causes": records(causes.reset_index(names="cause")),
        "parameters": records(parameters),
    }
