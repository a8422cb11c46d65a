"""Draw patients from the model itself: are their diagnoses calibrated, is conflict quiet.

Patients are drawn by ancestral sampling from the absorbed form of the network, table by table;
they are diagnosed by the inference engine on the selection form. A mistake in either form, in
the engine or in the scores makes the two disagree, so this checks the machinery from end to end.
It says nothing about real patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epidural_dx.analysis.explanation import UNEXPECTED
from epidural_dx.analysis.scores import (
    Array,
    CalibrationBin,
    calibration_error,
    calibration_table,
    log_scores,
    ranks,
)
from epidural_dx.analysis.validation import cause_marginals
from epidural_dx.answer import CONFLICT
from epidural_dx.network.assembly import absorbed_form

if TYPE_CHECKING:
    from epidural_dx.model import Model

@dataclass(frozen=True, eq=False)
class SelfConsistency:
    """How patients drawn from the model fare when the model diagnoses them.

    Attributes
    ----------
    patients, findings : int
        Patients drawn, and findings revealed of each.
    log_score, expected_log_score : float
        Mean log score of the true cause, and the mean that the stated probabilities promise.
    log_score_error : float
        Standard error of their difference.
    top_1, expected_top_1 : float
        Share of right leaders, and their mean stated probability.
    calibration_error : float
        Of the leading cause.
    calibration : tuple of CalibrationBin
    mean_posterior, prior : ndarray, shape (causes,)
        Mean posterior over patients and base rates; equal up to chance.
    conflicting : float
        Share of patients whose findings conflict by more than `CONFLICT` bits.
    unexpected : float
        Share with a finding that the others did not let expect
        (`explanation.unexplained_findings`).
    unexplained : float
        Share whose findings every cause explains worse than chance does
        (`explanation.surprise`).
    naive_log_score, naive_calibration_error : float
        Of naive Bayes with the model's own marginals on the same patients: what is lost when the
        dependencies are real and ignored.
    """

    patients: int
    findings: int
    log_score: float
    expected_log_score: float
    log_score_error: float
    top_1: float
    expected_top_1: float
    calibration_error: float
    calibration: tuple[CalibrationBin, ...]
    mean_posterior: Array
    prior: Array
    conflicting: float
    unexpected: float
    unexplained: float
    naive_log_score: float
    naive_calibration_error: float


def draw_patients(model: Model, patients: int, seed: int = 1) -> dict[str, NDArray[np.int64]]:
    """Draw complete patients from the joint distribution given that a lesion exists.

    Parameters
    ----------
    model : Model
    patients : int
    seed : int

    Returns
    -------
    dict of str to ndarray, shape (patients,)
        Position of the state of every variable.

    Raises
    ------
    ValueError
        Fewer than one patient.
    """
    if patients < 1:
        raise ValueError(f"at least one patient must be drawn, got {patients}")
    generator = np.random.default_rng(seed)
    waiting = list(absorbed_form(model.built))
    drawn: dict[str, NDArray[np.int64]] = {}
    while waiting:
        ready = [t for t in waiting if all(p in drawn for p in t.parents)]
        waiting = [t for t in waiting if any(p not in drawn for p in t.parents)]
        for table in ready:
            columns = table.table[tuple(drawn[p] for p in table.parents)]
            columns = np.broadcast_to(columns, (patients, table.table.shape[-1]))
            above = columns.cumsum(axis=1) > generator.random(patients)[:, None]
            # rounding may leave the last sum a hair below 1
            drawn[table.child] = np.where(
                above.any(axis=1), above.argmax(axis=1), columns.shape[1] - 1
            )
    return drawn


def self_consistency(
    model: Model,
    patients: int = 1000,
    findings: int = 12,
    *,
    seed: int = 1,
    bins: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
) -> SelfConsistency:
    """Diagnose drawn patients of whom a random set of findings is known.

    Parameters
    ----------
    model : Model
    patients : int
    findings : int
        Number of observable variables revealed of each patient, chosen at random.
    seed : int
    bins : tuple of float
        Edges of the calibration bins.

    Returns
    -------
    SelfConsistency

    Raises
    ------
    ValueError
        Fewer than one patient, or more findings than there are.
    """
    drawn = draw_patients(model, patients, seed)
    generator = np.random.default_rng([seed, 1])
    open_to_view = [
        name
        for name, variable in model.variables.items()
        if not variable.latent and variable.group not in ("condition", "target")
    ]
    if not 0 < findings <= len(open_to_view):
        raise ValueError(f"findings must be 1 to {len(open_to_view)}, got {findings}")
    shown = np.argsort(generator.random((patients, len(open_to_view))), axis=1) < findings
    evidence = {
        model.position(name): np.where(shown[:, i], drawn[name], -1)
        for i, name in enumerate(open_to_view)
    }
    marginals = cause_marginals(model)
    result = model.engine.run(evidence, target=(model.position("lesion_cause"),), want=())
    nothing = float(model.engine.run({}, want=()).log_evidence[0])
    posterior = np.asarray(result.posterior)
    truth = drawn["lesion_cause"]
    own = np.zeros(posterior.shape, dtype=np.bool_)
    own[np.arange(patients), truth] = True
    logs = log_scores(posterior, own)
    promised = (posterior * np.log(np.maximum(posterior, 1e-300))).sum(axis=1)
    confidence = posterior.max(axis=1)
    correct = (ranks(posterior, truth) == 1).astype(float)
    apart = np.zeros(patients)
    for i, name in enumerate(open_to_view):
        alone = np.log(np.maximum(model.base_marginals[name], 1e-300))[drawn[name]]
        apart += np.where(shown[:, i], alone, 0.0)
    separate = np.log(np.maximum(model.base_marginals["lesion_cause"], 1e-300)) + sum(
        np.where(shown[:, i, None], np.log(marginals[name][:, drawn[name]].T), 0.0)
        for i, name in enumerate(open_to_view)
    )
    naive = np.exp(separate - separate.max(axis=1, keepdims=True))
    naive /= naive.sum(axis=1, keepdims=True)
    together = result.log_evidence - nothing
    bits = (apart - together) / np.log(2)
    prior = np.asarray(model.base_marginals["lesion_cause"])
    under = together[:, None] + np.log(np.maximum(posterior, 1e-300) / prior)
    unexpected = np.zeros(patients, dtype=np.bool_)
    looked_at = [
        i for i, name in enumerate(open_to_view)
        if model.variables[name].group not in ("patient", "history")
    ]
    for place in range(findings):
        # the finding at this place among each patient's own is taken away
        column = np.argsort(~shown, axis=1, kind="stable")[:, place]
        rest = {
            model.position(name): np.where(shown[:, i] & (column != i), drawn[name], -1)
            for i, name in enumerate(open_to_view)
        }
        without = model.engine.run(rest, want=()).log_evidence
        chance = np.exp(result.log_evidence - without)
        unexpected |= (chance < UNEXPECTED) & np.isin(column, looked_at)
    return SelfConsistency(
        patients=patients,
        findings=findings,
        log_score=float(logs.mean()),
        expected_log_score=float(promised.mean()),
        log_score_error=float((logs - promised).std(ddof=1) / np.sqrt(patients))
        if patients > 1
        else float("nan"),
        top_1=float(correct.mean()),
        expected_top_1=float(confidence.mean()),
        calibration_error=calibration_error(confidence, correct, bins),
        calibration=calibration_table(confidence, correct, bins),
        mean_posterior=posterior.mean(axis=0),
        prior=prior,
        conflicting=float((bits > CONFLICT).mean()),
        unexpected=float(unexpected.mean()),
        unexplained=float((apart > under.max(axis=1)).mean()),
        naive_log_score=float(log_scores(naive, own).mean()),
        naive_calibration_error=calibration_error(
            naive.max(axis=1), (ranks(naive, truth) == 1).astype(float), bins
        ),
    )
