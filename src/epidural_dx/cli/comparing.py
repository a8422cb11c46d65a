"""``robustness`` and ``diff``: whether the answer survives other figures, base rates and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from epidural_dx.cli.inputs import open_case, open_model, stage_evidence, with_case_scenario
from epidural_dx.cli.output import indented, make_console, make_table, number, text, waiting
from epidural_dx.cli.showing import print_document, print_warnings, stage_line
from epidural_dx.clinical.display import percent
from epidural_dx.documents import robustness as documents
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
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
    if as_json and as_csv:
        raise EvidenceError("--json and --csv exclude each other")
    if not 0 <= epsilon <= 1:
        raise EvidenceError(f"--epsilon must lie in 0..1, got {epsilon:g}", value=epsilon)
    case = open_case(name)
    model = open_model(**with_case_scenario(model_options, case))
    last = stage_evidence(model, case, settings, stage)[-1]
    answer = model.diagnose(last.evidence, where=case.where(last.name) if last.name else None)
    document = documents.robustness(
        model, last.evidence, without=without, epsilon=epsilon, finding=finding, say=waiting
    )
    if as_csv:
        _print_csv([*document["variants"], *document["sources"]])
        return
    if as_json:
        print_document(document, case, last)
        return
    console = make_console()
    console.print(text(str(case.about.get("title") or case.name), "bold"))
    console.print(stage_line(last))
    console.print()
    leader, left_out = document["leader"], document["sources"]
    title = f"{leader} under other figures and models"
    _print_variants(console, title, leader, document["variants"])
    survives = sum(row["survives"] for row in left_out)
    title = f"One source left out ({leader} still leads without {survives} of {len(left_out)})"
    _print_variants(console, title, leader, left_out[:MOST_SOURCES])
    _print_bounds(console, document)
    print_warnings(console, answer)


def _print_csv(rows: Sequence[Mapping[str, Any]], columns: list[str] | None = None) -> None:
    import pandas as pd

    print(pd.DataFrame(rows, columns=columns).to_csv(index=False), end="")


def _print_variants(
    console: Console, title: str, leader: str, rows: Sequence[Mapping[str, Any]]
) -> None:
    table = make_table(title, "variant", "leads then", leader, "change", right=(2, 3))
    for row in rows:
        table.add_row(
            text(row.get("citation") or row["variant"]),
            text(row["leader"], "" if row["survives"] else "yellow"),
            text(percent(row["leader_before"])),
            text(f"{100 * row['change']:+.1f}"),
        )
    table.columns[1].no_wrap = True
    console.print(indented(table))
    console.print()


def _print_bounds(console: Console, document: Mapping[str, Any]) -> None:
    leader, unseen = document["leader"], document["unseen_patients"]
    contamination = document["contamination"]
    epsilon, breakdown = contamination["epsilon"], contamination["breakdown"]
    own = next(row for row in contamination["bounds"] if row["cause"] == leader)
    lower, upper = own["lower"], own["upper"]
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
        document = documents.difference(model, other, last.evidence, second.evidence)
    causes, parameters = document["causes"], document["parameters"]
    if as_csv:
        _print_csv(parameters, documents.FIGURE)
        return
    if as_json:
        print_document(document, case, last)
        return
    console = make_console()
    console.print(text(str(case.about.get("title") or case.name), "bold"))
    console.print(stage_line(last))
    console.print()
    table = make_table("The answers", "cause", "first", "second", "change", right=(1, 2, 3))
    for row in causes[:MOST_CAUSES]:
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
    if not parameters:
        console.print(indented(text("No figure differs.", "dim")))
        console.print()
        return
    title = f"{len(parameters):,} figures differ"
    if len(parameters) > MOST_FIGURES:
        title += f"; the {MOST_FIGURES} that differ most (all: --csv)"
    figures = make_table(title, "figure", "first", "second", right=(1, 2))
    for row in parameters[:MOST_FIGURES]:
        figures.add_row(
            text(row["parameter"]),
            *(text("–" if row[k] is None else number(row[k])) for k in ("first", "second")),
        )
    console.print(indented(figures))
    console.print()
