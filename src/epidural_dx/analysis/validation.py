r"""Score the model on patients whose diagnosis is known.

A patient's posterior is taken from the findings of the stages *before* the decisive one. Every
score is given under two priors: the model's base rates, and the collection's own mix of causes
(reports of rare mimics are published more often than they occur).

Formulas
--------
Mix as prior. ``load_model(cause_mix=...)`` multiplies every mechanism's rate by one factor per
cause, so its posterior is that of the same scenario without a mix, reweighted:
:math:`P'(c \mid e) \propto P(c \mid e)\, q_c / P(c)` with the wanted shares :math:`q`. Ages,
conditions and drivers within each cause stay those of the scenario (``mix_model``).

Naive Bayes with the same tables. :math:`P(c \mid e) \propto P(c) \prod_i P(e_i \mid c)`, where
:math:`P(e_i \mid c) = \sum_x w_i(x) P(x \mid c)` are the model's own marginals: only the
dependencies are ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from epidural_dx.analysis.scores import (
    Array,
    Booleans,
    Difference,
    Integers,
    bootstrap_interval,
    brier_scores,
    calibration_error,
    calibration_table,
    log_scores,
    paired_difference,
    ranks,
    resamples,
    wilson,
)
from epidural_dx.clinical.case import Case, read_cases
from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import CaseError, ModelError

if TYPE_CHECKING:
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model

#: Declared bins of stated probability; few, since collections are small.
BINS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
#: Where the prior over causes comes from.
PRIORS = ("base_rates", "mix")
#: What is scored: the model, and the two baselines.
METHODS = ("model", "naive_bayes", "prior")
#: A cause that the collection does not hold gets the share of this many cases, so that it stays
#: possible.
ABSENT_CAUSE_CASES = 0.5
#: Fewest patients that a bootstrap over patients says anything about.
FEWEST_RESAMPLED = 5
#: A wrong leader with at least this probability is called over-confident.
OVERCONFIDENT = 0.8


@dataclass(frozen=True)
class ScoredCase:
    """One patient with a known diagnosis.

    Attributes
    ----------
    name, title : str
        Name in the file, and one line for people.
    final_cause : str
        The diagnosis.
    acceptable : tuple of str
        The diagnosis and every other label that is true too.
    misdiagnosed : tuple of str
        Causes that were first, and wrongly, diagnosed.
    stage : str or None
        Last stage that counts; None where nothing was known before the decisive stage.
    decisive : str or None
        The stage that settled the diagnosis.
    findings : int
        Observed variables that say something.
    trap : str
        Why the case misleads.
    """

    name: str
    title: str
    final_cause: str
    acceptable: tuple[str, ...]
    misdiagnosed: tuple[str, ...]
    stage: str | None
    decisive: str | None
    findings: int
    trap: str


@dataclass(frozen=True)
class StagePosteriors:
    """Posteriors, by prior, after one stage of the patients who have it, up to the decisive one."""

    stage: str
    cases: tuple[int, ...]
    posterior: Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class ValidationReport:
    """What `validate` found.

    Attributes
    ----------
    model : mapping
        Name, version, digest, scenario, and the scenario that the mix was applied to.
    causes : tuple of str
        The classes, in the order of every array.
    cases : tuple of ScoredCase
    evidence : tuple of Evidence
        What was known of each before the decisive stage.
    skipped : tuple of (str, str)
        Name of a case that could not be scored, and why.
    priors : mapping of str to ndarray
        Shape (causes,), by ``base_rates`` and ``mix``.
    forecasts : mapping of (str, str) to ndarray
        Shape (cases, causes), by prior and method.
    stages : tuple of StagePosteriors
    bins : tuple of float
        Edges of the calibration bins.
    bootstrap, seed, confidence
        Of the intervals.
    notes : tuple of str
        What a reader must know.
    """

    model: Mapping[str, str]
    causes: tuple[str, ...]
    cases: tuple[ScoredCase, ...]
    evidence: tuple[Evidence, ...]
    skipped: tuple[tuple[str, str], ...]
    priors: Mapping[str, Array]
    forecasts: Mapping[tuple[str, str], Array]
    stages: tuple[StagePosteriors, ...]
    bins: tuple[float, ...]
    bootstrap: int
    seed: int
    confidence: float
    notes: tuple[str, ...]

    # ------------------------------------------------------------------ truth

    @cached_property
    def truth(self) -> Integers:
        """Position of every final cause, shape (cases,)."""
        return np.array([self.causes.index(c.final_cause) for c in self.cases], dtype=np.int64)

    @cached_property
    def final(self) -> Booleans:
        """The final cause alone, shape (cases, causes)."""
        table = np.zeros((len(self.cases), len(self.causes)), dtype=np.bool_)
        table[np.arange(len(self.cases)), self.truth] = True
        return table

    @cached_property
    def accepted(self) -> Booleans:
        """The final cause and every other that is acceptable, shape (cases, causes)."""
        return np.array([[c in case.acceptable for c in self.causes] for case in self.cases])

    def log_scores(
        self, prior: str = "mix", method: str = "model", *, union: bool = False
    ) -> Array:
        """Natural-log score of every case, shape (cases,).

        Parameters
        ----------
        prior, method : str
            See `PRIORS` and `METHODS`.
        union : bool
            Score the acceptable causes together instead of the final cause alone.
        """
        accepted = self.accepted if union else self.final
        return log_scores(self.forecasts[prior, method], accepted)

    # ----------------------------------------------------------------- tables

    def rows(self) -> list[dict[str, Any]]:
        """Scores of every method under every prior, one row each.

        Returns
        -------
        list of dict
            ``prior``, ``method``, ``cases`` and, for top_1, top_3, log_score (final cause),
            log_score_acceptable (final and also-acceptable causes together), brier and
            calibration_error (of the leading cause): the value and ``<name>_lower``, ``_upper``.
        """
        draws = resamples(len(self.cases), self.bootstrap, self.seed)
        result = []
        for prior in PRIORS:
            for method in METHODS:
                row: dict[str, Any] = {"prior": prior, "method": method, "cases": len(self.cases)}
                for name, statistic in self._statistics(prior, method).items():
                    row[name] = statistic(np.arange(len(self.cases), dtype=np.int64))
                    row[f"{name}_lower"], row[f"{name}_upper"] = bootstrap_interval(
                        statistic, draws, self.confidence
                    )
                result.append(row)
        return result

    def _statistics(self, prior: str, method: str) -> dict[str, Callable[[Integers], float]]:
        forecast = self.forecasts[prior, method]
        place = ranks(forecast, self.truth)
        confidence = forecast.max(axis=1)
        correct = (place == 1).astype(float)

        def mean(values: Array) -> Callable[[Integers], float]:
            return lambda draw: float(values[draw].mean())

        return {
            "top_1": mean(correct),
            "top_3": mean((place <= 3).astype(float)),
            "log_score": mean(self.log_scores(prior, method)),
            "log_score_acceptable": mean(self.log_scores(prior, method, union=True)),
            "brier": mean(brier_scores(forecast, self.truth)),
            "calibration_error": lambda draw: calibration_error(
                confidence[draw], correct[draw], self.bins
            ),
        }

    def calibration_rows(
        self, prior: str = "mix", method: str = "model", *, every_cause: bool = False
    ) -> list[dict[str, Any]]:
        """Stated probability against observed share, bin by bin, with 95 % bands (Wilson).

        Parameters
        ----------
        prior, method : str
        every_cause : bool
            Take every (case, cause) pair as a forecast instead of the leading cause alone. The
            pairs of one case depend on each other, so the bands are then too narrow.

        Returns
        -------
        list of dict
            low, high, n, stated, observed, lower, upper, ``inside`` (stated within the band).
        """
        forecast = self.forecasts[prior, method]
        if every_cause:
            stated, true = forecast.ravel(), self.final.ravel().astype(float)
        else:
            stated = forecast.max(axis=1)
            true = (ranks(forecast, self.truth) == 1).astype(float)
        return [
            {
                **asdict(one),
                "inside": None if one.stated is None else one.lower <= one.stated <= one.upper,
            }
            for one in calibration_table(stated, true, self.bins)
        ]

    def confusion_rows(self, prior: str = "mix", method: str = "model") -> list[dict[str, Any]]:
        """Cross final and leading cause: one row per pair that occurs, with the cases."""
        leaders = self.forecasts[prior, method].argmax(axis=1)
        found: dict[tuple[int, int], list[str]] = {}
        for case, true, leader in zip(self.cases, self.truth, leaders, strict=True):
            found.setdefault((int(true), int(leader)), []).append(case.name)
        return [
            {
                "final_cause": self.causes[true],
                "leading_cause": self.causes[leader],
                "n": len(names),
                "cases": names,
            }
            for (true, leader), names in sorted(found.items())
        ]

    def cause_rows(self, prior: str = "mix", method: str = "model") -> list[dict[str, Any]]:
        """Scores by final cause: cause, cases, top_1, top_3, log_score, mean probability."""
        forecast = self.forecasts[prior, method]
        place = ranks(forecast, self.truth)
        logs = self.log_scores(prior, method)
        result = []
        for i, cause in enumerate(self.causes):
            here = self.truth == i
            if here.any():
                result.append(
                    {
                        "cause": cause,
                        "cases": int(here.sum()),
                        "top_1": float((place[here] == 1).mean()),
                        "top_3": float((place[here] <= 3).mean()),
                        "log_score": float(logs[here].mean()),
                        "probability": float(forecast[here, i].mean()),
                    }
                )
        return result

    def stage_rows(self, prior: str = "mix") -> list[dict[str, Any]]:
        """Scores of the model after each stage, each over the patients who have it.

        A stage called ``before <decisive>`` holds the posterior that is scored; the decisive
        stage itself is shown too (it should settle the matter) but never scored.

        Returns
        -------
        list of dict
            stage, cases, top_1, top_3, log_score, in the order in which stages were met.
        """
        result = []
        for stage in self.stages:
            posterior = stage.posterior[prior]
            here = list(stage.cases)
            place = ranks(posterior, self.truth[here])
            result.append(
                {
                    "stage": stage.stage,
                    "cases": len(here),
                    "top_1": float((place == 1).mean()),
                    "top_3": float((place <= 3).mean()),
                    "log_score": float(log_scores(posterior, self.final[here]).mean()),
                }
            )
        return result

    def misdiagnosis_rows(self, prior: str = "mix", method: str = "model") -> list[dict[str, Any]]:
        """Tell whether the true cause ranks above a wrong first diagnosis.

        Returns
        -------
        list of dict
            case, final_cause, misdiagnosed, probability (of the final cause),
            probability_misdiagnosed (of the likeliest wrong one), ``above``.
        """
        forecast = self.forecasts[prior, method]
        result = []
        for i, case in enumerate(self.cases):
            if not case.misdiagnosed:
                continue
            own = float(forecast[i, self.truth[i]])
            wrong = max(float(forecast[i, self.causes.index(c)]) for c in case.misdiagnosed)
            result.append(
                {
                    "case": case.name,
                    "final_cause": case.final_cause,
                    "misdiagnosed": list(case.misdiagnosed),
                    "probability": own,
                    "probability_misdiagnosed": wrong,
                    "above": own > wrong,
                }
            )
        return result

    def case_rows(self, prior: str = "mix", method: str = "model") -> list[dict[str, Any]]:
        """Patient by patient, worst log score first.

        Returns
        -------
        list of dict
            case, final_cause, probability, rank, leading_cause, leading_probability, log_score,
            log_score_acceptable, findings, stage, ``verdict`` (right, listed in the first three,
            missed) and ``overconfident`` (a leader of `OVERCONFIDENT` or more that is wrong).
        """
        forecast = self.forecasts[prior, method]
        place = ranks(forecast, self.truth)
        logs = self.log_scores(prior, method)
        unions = self.log_scores(prior, method, union=True)
        result = []
        for i in np.argsort(logs, kind="stable"):
            leader = int(forecast[i].argmax())
            rank = int(place[i])
            result.append(
                {
                    "case": self.cases[i].name,
                    "final_cause": self.cases[i].final_cause,
                    "probability": float(forecast[i, self.truth[i]]),
                    "rank": rank,
                    "leading_cause": self.causes[leader],
                    "leading_probability": float(forecast[i, leader]),
                    "log_score": float(logs[i]),
                    "log_score_acceptable": float(unions[i]),
                    "findings": self.cases[i].findings,
                    "stage": self.cases[i].stage,
                    "verdict": "right" if rank == 1 else "listed" if rank <= 3 else "missed",
                    "overconfident": bool(
                        not self.accepted[i, leader] and forecast[i, leader] >= OVERCONFIDENT
                    ),
                }
            )
        return result

    def comparison_rows(self) -> list[dict[str, Any]]:
        """Compare the model with each baseline: paired bootstrap of the log score.

        Returns
        -------
        list of dict
            ``prior``, ``score`` (final_cause, or acceptable for all acceptable causes together),
            ``first``, ``second``, and the fields of `Difference`.
        """
        return [
            {
                "prior": prior,
                "score": "acceptable" if union else "final_cause",
                "first": "model",
                "second": method,
                **asdict(
                    paired_difference(
                        self.log_scores(prior, union=union),
                        self.log_scores(prior, method, union=union),
                        times=self.bootstrap,
                        seed=self.seed,
                        confidence=self.confidence,
                    )
                ),
            }
            for prior in PRIORS
            for method in METHODS[1:]
            for union in (False, True)
        ]

    def dependence_rows(self) -> list[dict[str, Any]]:
        """Tell whether the dependencies help: model minus naive Bayes, paired bootstrap.

        Returns
        -------
        list of dict
            ``prior``, ``score`` (calibration_error or brier, both better when lower), ``model``,
            ``naive_bayes``, ``difference``, ``lower``, ``upper``.
        """
        draws = resamples(len(self.cases), self.bootstrap, self.seed)
        whole = np.arange(len(self.cases), dtype=np.int64)
        result = []
        for prior in PRIORS:
            ours, theirs = (self._statistics(prior, m) for m in ("model", "naive_bayes"))
            for score in ("calibration_error", "brier"):
                first, second = ours[score], theirs[score]

                def gap(
                    draw: Integers,
                    first: Callable[[Integers], float] = first,
                    second: Callable[[Integers], float] = second,
                ) -> float:
                    return first(draw) - second(draw)

                lower, upper = bootstrap_interval(gap, draws, self.confidence)
                result.append(
                    {
                        "prior": prior,
                        "score": score,
                        "model": first(whole),
                        "naive_bayes": second(whole),
                        "difference": gap(whole),
                        "lower": lower,
                        "upper": upper,
                    }
                )
        return result

    @property
    def has_intervals(self) -> bool:
        """Whether there are enough patients for a bootstrap over them."""
        return len(self.cases) >= FEWEST_RESAMPLED

    def to_dict(self) -> dict[str, Any]:
        """Everything as one JSON document."""
        return {
            "model": dict(self.model),
            "cases": len(self.cases),
            "skipped": [{"case": name, "reason": why} for name, why in self.skipped],
            "settings": {
                "bins": list(self.bins),
                "bootstrap": self.bootstrap,
                "seed": self.seed,
                "confidence": self.confidence,
            },
            "priors": {
                name: dict(zip(self.causes, shares.tolist(), strict=True))
                for name, shares in self.priors.items()
            },
            "scores": self.rows(),
            "comparisons": self.comparison_rows(),
            "dependence": self.dependence_rows(),
            "by_prior": {
                prior: {
                    "calibration": self.calibration_rows(prior),
                    "calibration_every_cause": self.calibration_rows(prior, every_cause=True),
                    "confusion": self.confusion_rows(prior),
                    "causes": self.cause_rows(prior),
                    "stages": self.stage_rows(prior),
                    "misdiagnosed": self.misdiagnosis_rows(prior),
                    "cases": self.case_rows(prior),
                }
                for prior in PRIORS
            },
            "notes": list(self.notes),
        }


def validate(
    model: Model,
    cases: str | PathLike[str] | Iterable[Case],
    mix: Mapping[str, float] | None = None,
    *,
    mix_model: Model | None = None,
    bins: Sequence[float] = BINS,
    bootstrap: int = 2000,
    seed: int = 1,
    confidence: float = 0.95,
) -> ValidationReport:
    """Score the model, and two baselines, on patients whose diagnosis is known.

    Parameters
    ----------
    model : Model
    cases : path-like, or cases
        A file or folder (``-`` for standard input), or cases already read. One without
        ``final_cause`` is skipped and listed; one without ``decisive`` counts with all stages.
    mix : mapping of str to float, optional
        Share of each cause as the second prior; by default the collection's own.
    mix_model : Model, optional
        The scenario that the mix is applied to; by default `model`.
    bins : sequence of float
        Edges of the calibration bins, rising from 0 to 1.
    bootstrap, seed, confidence
        Resamples, seed and mass of the intervals.

    Returns
    -------
    ValidationReport

    Raises
    ------
    CaseError, EvidenceError
        A file that cannot be read, a cause that the model does not have, evidence that is bad or
        impossible, or no case that can be scored.
    ModelError
        A mix with an unknown or missing cause or a share that is not positive.
    ValueError
        Bins that do not rise from 0 to 1, fewer than one resample, or a confidence outside 0..1.
    """
    edges = tuple(float(edge) for edge in bins)
    rising = all(a < b for a, b in zip(edges, edges[1:], strict=False))
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or not rising:
        raise ValueError(f"bins must rise from 0 to 1, got {edges}")
    if bootstrap < 1 or not 0 < confidence < 1:
        raise ValueError("bootstrap must be at least 1 and confidence between 0 and 1")
    if isinstance(cases, str | PathLike):
        read = read_cases("-" if cases == "-" else Path(cases))
    else:
        read = tuple(cases)
    given = [case for case in read if case.about.get("final_cause")]
    skipped = tuple(
        (case.name, "no final_cause") for case in read if not case.about.get("final_cause")
    )
    if not given:
        raise CaseError("no case has a final_cause", where=read[0].origin if read else "cases")
    staged = [_staged(model, case) for case in given]
    scored = tuple(one.case for one in staged)
    base = np.asarray(model.base_marginals["lesion_cause"], dtype=float)
    shares, notes = _mix(model, scored, mix)
    evidence = [e for one in staged for e in one.evidence]
    mixed = mix_model or model
    priors = {"base_rates": base, "mix": shares}
    forecasts, by_prior = {}, {}
    for (name, prior), used in zip(priors.items(), (model, mixed), strict=True):
        own = np.asarray(used.base_marginals["lesion_cause"], dtype=float)
        by_prior[name] = reweighted(posteriors(used, evidence), own, prior)
        likelihood = naive_likelihoods(used, [one.scored_evidence for one in staged])
        forecasts[name, "naive_bayes"] = _normalised(likelihood + np.log(prior))
    last, by_stage = _split(staged, by_prior)
    for name, prior in priors.items():
        forecasts[name, "model"] = by_prior[name][last]
        forecasts[name, "prior"] = np.tile(prior, (len(scored), 1))
    return ValidationReport(
        model={
            "name": model.name,
            "version": model.version,
            "digest": model.digest,
            "scenario": model.scenario,
            "mix_scenario": mixed.scenario,
        },
        causes=model.causes,
        cases=scored,
        evidence=tuple(one.scored_evidence for one in staged),
        skipped=skipped,
        priors=priors,
        forecasts=forecasts,
        stages=by_stage,
        bins=edges,
        bootstrap=bootstrap,
        seed=seed,
        confidence=confidence,
        notes=notes,
    )


def compare_reports(
    first: ValidationReport,
    second: ValidationReport,
    prior: str = "mix",
    *,
    union: bool = False,
    times: int = 2000,
    seed: int = 1,
) -> Difference:
    """Paired bootstrap of the log scores of two models, to decide between versions.

    Parameters
    ----------
    first, second : ValidationReport
        Of the same cases.
    prior : str
        See `PRIORS`.
    union : bool
        Score the acceptable causes together.
    times, seed
        Of the bootstrap.

    Raises
    ------
    ValueError
        The reports are not about the same cases.
    """
    names = [case.name for case in first.cases]
    others = [case.name for case in second.cases]
    if sorted(names) != sorted(others):
        odd = sorted(set(names) ^ set(others))
        raise ValueError(f"the reports are not about the same cases: {', '.join(odd[:3])}")
    order = [others.index(name) for name in names]
    return paired_difference(
        first.log_scores(prior, union=union),
        second.log_scores(prior, union=union)[order],
        times=times,
        seed=seed,
    )


def trace_misses(
    model: Model, report: ValidationReport, prior: str = "mix", *, findings: int = 4
) -> list[dict[str, Any]]:
    """Say which findings kept the true cause from leading, for every patient where it does not.

    Parameters
    ----------
    model : Model
        The one that was validated.
    report : ValidationReport
    prior : str
        See `PRIORS`; decides who leads.
    findings : int
        How many findings to name on either side.

    Returns
    -------
    list of dict
        The row of the patient (`ValidationReport.case_rows`), worst first, with ``trap``,
        ``against`` and ``for``: findings with ``decibans`` of the true cause over the leader (leave
        one out), their marginal ``likelihood_ratio``, the ``grade`` of the column that speaks for
        the true cause and its literature ``rows``.
    """
    from epidural_dx.analysis.explanation import compare

    position = {case.name: i for i, case in enumerate(report.cases)}
    result = []
    for row in report.case_rows(prior):
        if row["rank"] == 1:
            continue
        i = position[row["case"]]
        found = compare(model, report.evidence[i], row["final_cause"], row["leading_cause"])
        told = [
            {
                "finding": one["finding"],
                "text": one["text"],
                "decibans": one["decibans"],
                "likelihood_ratio": one["likelihood_ratio"],
                "grade": one["sources_a"][0]["grade"] if one["sources_a"] else None,
                "rows": one["sources_a"][0]["rows"] if one["sources_a"] else [],
            }
            for one in found["findings"]
        ]
        told.sort(key=lambda one: float(one["decibans"]))
        result.append(
            {
                **row,
                "trap": report.cases[i].trap,
                "against": [one for one in told if one["decibans"] < 0][:findings],
                "for": [one for one in reversed(told) if one["decibans"] > 0][:findings],
            }
        )
    return result


# ------------------------------------------------------------------- posteriors


def posteriors(model: Model, evidence: Sequence[Evidence]) -> Array:
    """P(cause | evidence) of many patients in one run, shape (patients, causes).

    Raises
    ------
    ImpossibleEvidenceError
        Evidence with probability 0, naming the findings.
    """
    arrays = stacked(model, evidence)
    result = model.engine.run(arrays, target=(model.position("lesion_cause"),), want=())
    for i in np.flatnonzero(~result.possible):
        model.run(evidence[int(i)])  # raises, naming the findings that cannot stand together
    return np.asarray(result.posterior)


def stacked(model: Model, evidence: Sequence[Evidence]) -> dict[int, Array]:
    """Likelihoods of many patients by position, each of shape (patients, states)."""
    arrays: dict[int, Array] = {}
    for i, one in enumerate(evidence):
        for position, weights in model.arrays(one).items():
            if position not in arrays:
                arrays[position] = np.ones((len(evidence), len(weights)))
            arrays[position][i] = weights
    if not arrays:
        # the batch axis comes from the evidence: ones say nothing
        arrays[0] = np.ones((len(evidence), len(next(iter(model.variables.values())).states)))
    return arrays


def cause_marginals(model: Model) -> dict[str, Array]:
    """P(variable | cause) before any evidence: by variable, shape (causes, states)."""
    result = model.engine.run({}, target=(model.position("lesion_cause"),), want=("joints",))
    assert result.joints is not None
    prior = result.posterior[0][:, None]
    return {name: result.joints[i][0] / prior for i, name in enumerate(model.variables)}


def naive_likelihoods(model: Model, evidence: Sequence[Evidence]) -> Array:
    """Sum of the logs of P(finding | cause) of every finding by itself.

    Returns
    -------
    ndarray, shape (patients, causes)
    """
    marginals = cause_marginals(model)
    total = np.zeros((len(evidence), len(model.causes)))
    for i, one in enumerate(evidence):
        for name, weights in one.likelihoods.items():
            with np.errstate(divide="ignore"):  # a finding may exclude a cause
                total[i] += np.log(marginals[name] @ np.asarray(weights, dtype=float))
    return total


def reweighted(posterior: Array, old: Array, new: Array) -> Array:
    """Posterior under another prior of the causes, shapes (cases, causes), (causes,), (causes,).

    Exact for a change of prior that scales all mechanisms of a cause alike.
    """
    weighted = posterior * (new / old)
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True))


def _normalised(logs: Array) -> Array:
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


# ------------------------------------------------------------------- one patient


@dataclass(frozen=True)
class _Staged:
    """A case with the evidence after every stage up to the decisive one.

    ``scored`` is the position of the evidence that counts.
    """

    case: ScoredCase
    stages: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    scored: int

    @property
    def scored_evidence(self) -> Evidence:
        return self.evidence[self.scored]


def _staged(model: Model, case: Case) -> _Staged:
    final = _cause(model, case, "final_cause", case.about["final_cause"])
    also = _causes(model, case, "also_acceptable")
    decisive = case.about.get("decisive")
    if decisive is not None and not isinstance(decisive, str):
        raise CaseError(
            f"decisive must name a stage, got {decisive!r}",
            allowed=case.stage_names,
            where=case.origin,
        )
    names = case.stage_names
    if decisive is not None:
        case.evidence(before=decisive)  # refuses a stage that does not exist
        names = names[: names.index(decisive) + 1]
    evidence = [model.read_evidence({})]
    for name in names:
        raw = case.evidence(name, canonical=model.canonical_name).raw
        evidence.append(model.read_evidence(raw, where=case.where(name)))
    scored = len(names) - 1 if decisive is not None else len(names)
    return _Staged(
        case=ScoredCase(
            name=case.name,
            title=str(case.about.get("title") or case.about.get("source") or ""),
            final_cause=final,
            acceptable=tuple(dict.fromkeys((final, *also))),
            misdiagnosed=tuple(c for c in _causes(model, case, "misdiagnosed_cause") if c != final),
            stage=names[scored - 1] if scored else None,
            decisive=decisive,
            findings=len(evidence[scored].informative),
            trap=str(case.about.get("trap") or ""),
        ),
        stages=("base rates", *names),
        evidence=tuple(evidence),
        scored=scored,
    )


def _causes(model: Model, case: Case, key: str) -> tuple[str, ...]:
    value = case.about.get(key)
    if value is None:
        return ()
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list):
        raise CaseError(f"{key} must be a cause or a list of causes", where=case.origin)
    return tuple(_cause(model, case, key, one) for one in listed)


def _cause(model: Model, case: Case, key: str, value: object) -> str:
    if isinstance(value, str) and value in model.causes:
        return value
    raise CaseError(
        f"the {key} {value!r} is not a cause",
        value=value,
        allowed=model.causes,
        nearest=nearest(str(value), model.causes, 1),
        where=case.origin,
    )


def _split(
    staged: Sequence[_Staged], posterior: Mapping[str, Array]
) -> tuple[Integers, tuple[StagePosteriors, ...]]:
    """Rows that are scored, and the rows of every stage."""
    scored: list[int] = []
    rows: dict[str, list[tuple[int, int]]] = {}
    row = 0
    for number, one in enumerate(staged):
        for place, stage in enumerate(one.stages):
            decisive = one.case.decisive is not None and place > one.scored
            label = "decisive stage" if decisive else stage
            rows.setdefault(label, []).append((number, row + place))
        rows.setdefault("all before the decisive stage", []).append((number, row + one.scored))
        scored.append(row + one.scored)
        row += len(one.stages)
    for label in ("all before the decisive stage", "decisive stage"):  # last, in this order
        if label in rows:
            rows[label] = rows.pop(label)
    stages = tuple(
        StagePosteriors(
            stage,
            tuple(n for n, _ in found),
            {prior: rows_of[[r for _, r in found]] for prior, rows_of in posterior.items()},
        )
        for stage, found in rows.items()
    )
    return np.array(scored, dtype=np.int64), stages


def _mix(
    model: Model, cases: Sequence[ScoredCase], mix: Mapping[str, float] | None
) -> tuple[Array, tuple[str, ...]]:
    """Second prior over the causes and what to say about it."""
    if mix is not None:
        for cause, share in mix.items():
            if cause not in model.causes:
                raise ModelError(
                    f"unknown cause {cause!r}; causes are {', '.join(model.causes)}", name=cause
                )
            if not share > 0:
                raise ModelError(f"the share of {cause!r} must be positive, got {share!r}")
        missing = [c for c in model.causes if c not in mix]
        if missing:
            raise ModelError(f"the cause mix lacks {', '.join(missing)}", name=missing[0])
        shares = np.array([mix[c] for c in model.causes], dtype=float)
        return shares / shares.sum(), ("The mix was given by the user.",)
    counts = Counter(case.final_cause for case in cases)
    absent = [c for c in model.causes if not counts[c]]
    notes = [
        "The mix is the plain share of each final cause in this collection, so under it every "
        "method has seen how often each cause occurs here."
    ]
    if absent:
        notes.append(
            f"Causes without a case here ({', '.join(absent)}) get the share of "
            f"{ABSENT_CAUSE_CASES:g} cases each in the mix."
        )
    shares = np.array([counts[c] or ABSENT_CAUSE_CASES for c in model.causes], dtype=float)
    return shares / shares.sum(), tuple(notes)


# ------------------------------------------------------------------- for people


def summary_table(report: ValidationReport) -> list[list[str]]:
    """Lay out the main scores as text cells, header first; intervals where they mean something."""
    header = ["prior", "method", "top 1", "top 3", "log score", "acceptable", "Brier", "ECE"]
    names = ["top_1", "top_3", "log_score", "log_score_acceptable", "brier", "calibration_error"]
    table = [header]
    for row in report.rows():
        cells = [f"{row[n]:.2f}" for n in names]
        if report.has_intervals:
            cells = [
                f"{cell} [{row[n + '_lower']:.2f}, {row[n + '_upper']:.2f}]"
                for n, cell in zip(names, cells, strict=True)
            ]
        table.append([row["prior"], row["method"], *cells])
    return table


def misdiagnosis_summary(report: ValidationReport, prior: str = "mix") -> dict[str, Any]:
    """Share of the wrong first diagnoses below the true cause: n, above, share, lower, upper."""
    rows = report.misdiagnosis_rows(prior)
    above = sum(bool(row["above"]) for row in rows)
    lower, upper = wilson(above, len(rows))
    return {
        "prior": prior,
        "n": len(rows),
        "above": above,
        "share": above / len(rows) if rows else None,
        "lower": lower,
        "upper": upper,
    }


def text_report(report: ValidationReport, prior: str = "mix") -> str:
    """Write the report as plain text: scores, comparisons, calibration, stages, patients."""
    parts = [
        f"{len(report.cases)} patients scored before their decisive stage"
        + (f", {len(report.skipped)} skipped" if report.skipped else "")
        + f" (base rates: scenario {report.model['scenario']}; mix: within each cause the ages, "
        f"conditions and drivers of {report.model['mix_scenario']}).",
        *report.notes,
        *(f"Skipped: {name} ({why})." for name, why in report.skipped),
        f"Intervals: {100 * report.confidence:g} %, bootstrap over patients, "
        f"{report.bootstrap} resamples, seed {report.seed}."
        if report.has_intervals
        else f"No intervals: resampling fewer than {FEWEST_RESAMPLED} patients says nothing about "
        "others.",
        "",
        aligned(summary_table(report)),
        "",
        "log score: natural log of the probability of the final cause; acceptable: of the final "
        "and also-acceptable causes together.",
        "",
    ]
    for row in report.comparison_rows():
        span = f" [{row['lower']:+.3f}, {row['upper']:+.3f}]" if report.has_intervals else ""
        parts.append(
            f"{row['prior']}, {row['score']}: model minus {row['second']}: {row['mean']:+.3f}"
            f"{span} nats per patient; better in {row['better']}, worse in {row['worse']}"
        )
    wrong = misdiagnosis_summary(report, prior)
    if wrong["n"]:
        parts.append(
            f"{prior}: the true cause stands above the first, wrong diagnosis in "
            f"{wrong['above']} of {wrong['n']} patients"
        )
    dependence = report.dependence_rows()
    if not report.has_intervals:
        dependence = [
            {k: v for k, v in row.items() if k not in ("lower", "upper")} for row in dependence
        ]
    for title, rows in (
        ("calibration of the leading cause", report.calibration_rows(prior)),
        ("by final cause", report.cause_rows(prior)),
        ("by stage", report.stage_rows(prior)),
        ("model minus naive Bayes", dependence),
        ("who is taken for whom", _taken_for(report, prior)),
        ("patients, worst first", report.case_rows(prior)),
    ):
        if not rows:
            continue
        table = [list(rows[0])] + [[_shown(v) for v in row.values()] for row in rows]
        parts += ["", f"{title} ({prior})", aligned(table)]
    return "\n".join(parts)


def _taken_for(report: ValidationReport, prior: str) -> list[dict[str, Any]]:
    """Rows of the confusion table off its diagonal, most patients first."""
    wrong = [r for r in report.confusion_rows(prior) if r["final_cause"] != r["leading_cause"]]
    wrong.sort(key=lambda r: -int(r["n"]))
    return [{**row, "cases": ", ".join(row["cases"])} for row in wrong]


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Set a table of text cells in columns, left-aligned.

    Parameters
    ----------
    table : sequence of sequence of str
        Rows of equal length, the header first.
    """
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
