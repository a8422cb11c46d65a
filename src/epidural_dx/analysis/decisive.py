"""Does the ranking of tests lead where the clinicians ended, and does one source carry the scores.

Position of the decisive test: of every patient whose decisive stage names what settled the matter
(tissue, culture, imaging …), the tests that reveal it are looked up in the ranking made from the
findings before. Chance: the first of k among N tests in random order stands at (N + 1)/(k + 1) on
average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from epidural_dx.analysis.scores import Array, log_scores, ranks
from epidural_dx.analysis.validation import ValidationReport, reweighted, stacked

if TYPE_CHECKING:
    from epidural_dx.clinical.case import Case
    from epidural_dx.decision.ranking import RankedTest
    from epidural_dx.model import Model

#: Tests that a stage of this name stands for, where its coded findings name none. Conclusions,
#: genetics and the course of the disease are no tests of the model.
SETTLED_BY: Mapping[str, tuple[str, ...]] = {
    "angiography": ("spinal_angiography",),
    "biopsy": ("ct_guided_biopsy", "surgical_pathology"),
    "culture": ("aspirate_culture", "blood_culture"),
    "ct": ("ct_spine",),
    "imaging": ("mri_plain", "mri_contrast", "ct_spine"),
    "immunohistochemistry": ("melanoma_ihc",),
    "marrow": ("bone_marrow_biopsy", "flow_cytometry"),
    "mri": ("mri_plain", "mri_contrast"),
    "operation": ("surgical_pathology",),
    "surgery": ("surgical_pathology", "ct_guided_biopsy"),
}
#: Orders in which the position is looked up.
ORDERS = ("information", "information_per_cost", "value")


def decisive_rows(
    model: Model, report: ValidationReport, cases: Sequence[Case]
) -> list[dict[str, Any]]:
    """Look up the decisive test of every patient in the ranking made before it.

    Parameters
    ----------
    model : Model
        The one that was validated.
    report : ValidationReport
    cases : sequence of Case
        The cases of the report.

    Returns
    -------
    list of dict
        ``case``, ``decisive``, ``tests`` (that settle it), ``ranked`` (number of tests), ``by``
        order the best position of a settling test, and ``chance`` (expected position by chance).
        Patients whose decisive stage is no test of the model are left out.
    """
    from epidural_dx.decision.ranking import rank_tests

    about = {case.name: case for case in cases}
    result = []
    for scored, evidence in zip(report.cases, report.evidence, strict=True):
        settling = _settling(model, about[scored.name], scored.decisive)
        if not settling:
            continue
        ranked = rank_tests(model, evidence, "lesion_cause", "information")
        allowed = [test for test in ranked if test.allowed is not False]
        hits = [test for test in allowed if test.test in settling]
        if not hits:
            continue
        result.append(
            {
                "case": scored.name,
                "decisive": scored.decisive,
                "tests": [test.test for test in hits],
                "ranked": len(allowed),
                **{by: min(_place(allowed, test, by) for test in hits) for by in ORDERS},
                "chance": (len(allowed) + 1) / (len(hits) + 1),
            }
        )
    return result


def _settling(model: Model, case: Case, decisive: str | None) -> tuple[str, ...]:
    if decisive is None:
        return ()
    stage = next(stage for stage in case.stages if stage.name == decisive)
    found = {model.canonical_name(str(name)) for name in stage.findings}
    named = tuple(test for test, findings in model.tests.items() if found & set(findings))
    return named or SETTLED_BY.get(decisive, ())


def _place(tests: Sequence[RankedTest], one: RankedTest, by: str) -> int:
    def worth(test: RankedTest) -> float:
        value = {
            "information": test.information_bits,
            "information_per_cost": test.information_per_cost,
            "value": test.value,
        }[by]
        return -np.inf if value is None else float(value)

    return sum(worth(test) >= worth(one) for test in tests)


def decisive_summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sum up `decisive_rows`: one row per order, and one for chance.

    Returns
    -------
    list of dict
        ``order``, ``patients``, ``mean_position``, ``median_position``, ``first``, ``first_three``
        (shares; None for chance).
    """
    if not rows:
        return []
    result = []
    for by in ORDERS:
        places = np.array([row[by] for row in rows], dtype=float)
        result.append(
            {
                "order": by,
                "patients": len(rows),
                "mean_position": float(places.mean()),
                "median_position": float(np.median(places)),
                "first": float((places == 1).mean()),
                "first_three": float((places <= 3).mean()),
            }
        )
    chance = np.array([row["chance"] for row in rows], dtype=float)
    result.append(
        {
            "order": "chance",
            "patients": len(rows),
            "mean_position": float(chance.mean()),
            "median_position": float(np.median(chance)),
            "first": None,
            "first_three": None,
        }
    )
    return result


def leave_sources_out_of_scores(
    model: Model, report: ValidationReport, prior: str = "mix"
) -> list[dict[str, Any]]:
    """Score the patients without each source in turn.

    Parameters
    ----------
    model : Model
        The one that was validated.
    report : ValidationReport
    prior : str
        Of the causes, see `validation.PRIORS`; the mix stays as it is.

    Returns
    -------
    list of dict
        Every source that feeds a column of an observed finding, largest change of the log score
        first: ``source``, ``citation``, ``figures`` (pooled rows left out), ``log_score``,
        ``change``, ``top_1``, ``leaders`` (patients whose leading cause changes) and ``largest``
        (largest total variation distance of one patient's posterior).
    """
    from epidural_dx.analysis.response import table_map

    observed = {name for one in report.evidence for name in one.informative}
    figures = {f.id: f for f in model.literature.figures}
    rows_of: dict[str, set[str]] = {}
    for key, column in model.built.columns.items():
        for row in column.rows:
            if key[0] in observed and row in figures:
                rows_of.setdefault(figures[row].source_id, set()).add(row)
    names = sorted(rows_of)
    if not names:
        return []
    tables = table_map(model)

    def without(source: str) -> dict[int, Array]:
        return tables.varied(keep=lambda figure: figure.source_id != source)

    bank = tables.stacked([without(name) for name in names])
    target = (model.position("lesion_cause"),)
    arrays = stacked(model, report.evidence)
    raw = model.engine.run(arrays, target=target, want=(), bank=bank).posterior
    base_rates = model.engine.run({}, target=target, want=(), bank=bank).posterior[0]
    wanted = report.priors[prior]
    present = report.forecasts[prior, "model"]
    scores = report.log_scores(prior)
    result = []
    for i, name in enumerate(names):
        before = base_rates[i]
        now = reweighted(
            np.asarray(raw[:, i]), before, before if prior == "base_rates" else wanted
        )
        logs = log_scores(now, report.final)
        source = model.literature.sources.get(name)
        result.append(
            {
                "source": name,
                "citation": (source.citation if source else "") or name,
                "figures": len(rows_of[name]),
                "log_score": float(logs.mean()),
                "change": float((logs - scores).mean()),
                "top_1": float((ranks(now, report.truth) == 1).mean()),
                "leaders": int((now.argmax(axis=1) != present.argmax(axis=1)).sum()),
                "largest": float((0.5 * np.abs(now - present).sum(axis=1)).max()),
            }
        )
    return sorted(result, key=lambda row: (-abs(row["change"]), row["source"]))
