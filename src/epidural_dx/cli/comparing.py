"""``robustness`` and ``diff``: whether the answer survives other figures, base rates and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from epidural_dx.cli.inputs import open_case, open_model, stage_evidence, with_case_scenario
from epidural_dx.cli.output import (
    indented,
    make_console,
    make_table,
    number,
    percent,
    print_json,
    text,
    waiting,
)
from epidural_dx.cli.showing import print_warnings, stage_line
from epidural_dx.documents.answers import identity
from epidural_dx.documents.sensitivity import records
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

#: Sources and figures that people are shown.
MOST_SOURCES, MOST_FIGURES = 8, 12
#: Causes that people are shown.
MOST_CAUSES = 8


def robustness(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    without: Sequence[str] | None,
    epsilon: float,
    finding: str | None,
    as_json: bool,
    as_csv: bool,
    model_options: Mapping[str, Any],
) -> None:
    """Print what becomes of the leading cause under other base rates, figures and models.

    Raises
    ------
    EpiduralDxError
        Bad input, a source that is not in the base, a share outside 0..1.
    """
    import pandas as pd

    from epidural_dx.analysis import robustness as analysis

    if as_json and as_csv:
        raise EvidenceError("--json and --csv exclude each other")
    if not 0 <= epsilon <= 1:
        raise EvidenceError(f"--epsilon must lie in 0..1, got {epsilon:g}", value=epsilon)
    case = open_case(name)
    model = open_model(**with_case_scenario(model_options, case))
    last = stage_evidence(model, case, settings, stage)[-1]
    answer = model.diagnose(last.evidence, where=case.where(last.name) if last.name else None)
    leader = answer.ranked_causes()[0][0]
    unseen = None
    if finding is not None:
        known = model.canonical_name(finding) or finding
        with waiting("Differentiating the answer (longer once for every change of the files)"):
            lower, upper = analysis.imprecise_dirichlet(model, last.evidence, known)
        unseen = {"finding": known, "patients": analysis.UNSEEN, "lower": lower, "upper": upper}
    with waiting("Leaving sources out"):
        left_out = analysis.leave_sources_out(model, last.evidence, without)
    with waiting("Exchanging base rates and figures"):
        variants = analysis.robustness(model, last.evidence)
    bounds = analysis.contamination_bounds(model, last.evidence, epsilon)
    if as_csv:
        print(pd.concat([variants, left_out]).to_csv(index=False), end="")
        return
    if as_json:
        print_json(
            {
                "model": identity(model),
                "case": case.name,
                "stage": last.name,
                "leader": leader,
                "probability": answer.ranked_causes()[0][1],
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
        )
        return
    console = make_console()
    console.print(text(str(case.about.get("title") or case.name), "bold"))
    console.print(stage_line(last))
    console.print()
    _print_variants(console, f"{leader} under other figures and models", variants, len(variants))
    survives = int(left_out["survives"].sum())
    title = f"One source left out ({leader} still leads without {survives} of {len(left_out)})"
    _print_variants(console, title, left_out, MOST_SOURCES)
    _print_bounds(console, bounds, leader, unseen)
    print_warnings(console, answer)


def _print_variants(console: Console, title: str, frame: pd.DataFrame, most: int) -> None:
    first = frame.attrs["leader"]
    table = make_table(title, "variant", "leads then", first, "change", right=(2, 3))
    for row in records(frame.head(most)):
        table.add_row(
            text(row.get("citation") or row["variant"]),
            text(row["leader"], "" if row["survives"] else "yellow"),
            text(percent(row["leader_before"])),
            text(f"{100 * row['change']:+.1f}"),
        )
    table.columns[1].no_wrap = True
    console.print(indented(table))
    console.print()


def _print_bounds(
    console: Console, bounds: pd.DataFrame, leader: str, unseen: Mapping[str, Any] | None
) -> None:
    lower, upper = (float(bounds[side][leader]) for side in ("lower", "upper"))
    epsilon, breakdown = bounds.attrs["epsilon"], bounds.attrs["breakdown"]
    lines = [
        f"If {percent(epsilon)} of the base rates may be anything, {leader} has "
        f"{percent(lower)} to {percent(upper)}; another cause can lead from "
        f"{percent(breakdown)} on."
    ]
    if unseen is not None:
        lines.append(
            f"If {unseen['patients']:g} unseen patient joined every column of "
            f"{unseen['finding']}, it has {percent(unseen['lower'])} to "
            f"{percent(unseen['upper'])}."
        )
    for line in lines:
        console.print(indented(text(line)))
    console.print()


def diff(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    as_json: bool,
    as_csv: bool,
    model_options: Mapping[str, Any],
    other_options: Mapping[str, Any],
) -> None:
    """Print how the answers of two models differ on one patient, and which figures do.

    Raises
    ------
    EpiduralDxError
        Bad input, or two models that are the same.
    """
    from epidural_dx.analysis.robustness import diff as compare

    if as_json and as_csv:
        raise EvidenceError("--json and --csv exclude each other")
    case = open_case(name)
    model = open_model(**with_case_scenario(model_options, case))
    other = open_model(**with_case_scenario(other_options, case))
    if model.digest == other.digest:
        raise EvidenceError(
            "both models are the same: give --other-priors, --other-networks or --other-scenario"
        )
    last, second = (stage_evidence(m, case, settings, stage)[-1] for m in (model, other))
    with waiting("Comparing the figures"):
        causes, parameters = compare(model, other, last.evidence, second.evidence)
    if as_csv:
        print(parameters.to_csv(index=False), end="")
        return
    if as_json:
        print_json(
            {
                "model": identity(model),
                "other": identity(other),
                "case": case.name,
                "stage": last.name,
                "causes": records(causes.reset_index(names="cause")),
                "parameters": records(parameters),
            }
        )
        return
    console = make_console()
    console.print(text(str(case.about.get("title") or case.name), "bold"))
    console.print(stage_line(last))
    console.print()
    table = make_table("The answers", "cause", "first", "second", "change", right=(1, 2, 3))
    for row in records(causes.reset_index(names="cause").head(MOST_CAUSES)):
        table.add_row(
            text(row["cause"]),
            text(percent(row["first"])),
            text(percent(row["second"])),
            text(f"{100 * row['change']:+.1f}"),
        )
    console.print(indented(table))
    console.print()
    if model.scenario != other.scenario:
        note = "Age groups and odds that a scenario declares are not among the figures below."
        console.print(indented(text(note, "dim")))
        console.print()
    if parameters.empty:
        console.print(indented(text("No figure differs.", "dim")))
        console.print()
        return
    title = f"{len(parameters):,} figures differ"
    if len(parameters) > MOST_FIGURES:
        title += f"; the {MOST_FIGURES} that differ most (all: --csv)"
    figures = make_table(title, "figure", "first", "second", right=(1, 2))
    for row in records(parameters.head(MOST_FIGURES)):
        figures.add_row(
            text(row["parameter"]),
            *(text("–" if row[k] is None else number(row[k])) for k in ("first", "second")),
        )
    console.print(indented(figures))
    console.print()
