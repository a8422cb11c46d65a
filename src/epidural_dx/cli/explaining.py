"""``explain``: how much each finding speaks for or against the leading cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epidural_dx.cli.inputs import open_case, open_model, stage_evidence, with_case_scenario
from epidural_dx.cli.output import (
    bar,
    indented,
    make_console,
    make_table,
    percent,
    print_json,
    text,
    waiting,
)
from epidural_dx.cli.showing import print_warnings, stage_line


def run(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    as_json: bool,
    model_options: Mapping[str, Any],
) -> None:
    """Print the weights of evidence of a case.

    Raises
    ------
    EpiduralDxError
        Bad input.
    """
    from epidural_dx.documents.answers import explanation

    case = open_case(name)
    model = open_model(**with_case_scenario(model_options, case))
    last = stage_evidence(model, case, settings, stage)[-1]
    answer = model.diagnose(last.evidence, where=case.where(last.name) if last.name else None)
    with waiting("Weighing the findings"):
        document = explanation(model, last.evidence)
    rows, leader, probability = (document[k] for k in ("findings", "cause", "probability"))
    if as_json:
        print_json(
            {
                "model": document.pop("model"),
                "case": case.name,
                "stage": last.name,
                **document,
            }
        )
        return
    console = make_console()
    console.print(text(str(case.about.get("title") or case.name), "bold"))
    console.print(stage_line(last))
    console.print(text(f"What speaks for {leader} ({percent(probability)}) and against it", "dim"))
    console.print()
    largest = max((abs(row["decibans"]) for row in rows), default=0.0) or 1.0
    width = 8 if console.width < 100 else 20
    table = make_table(None, "finding", "as read", "decibans", "", "without it", right=(2,))
    for row in rows:
        decibans = row["decibans"]
        without = percent(row["probability_without"])
        if row.get("leader_without") not in (None, leader):
            without += f" ({row['leader_without']} leads)"
        table.add_row(
            text(row["finding"]),
            text(row["text"], "dim"),
            text(f"{decibans:+.1f}"),
            text(
                bar(abs(decibans) / largest, width, console.encoding),
                "cyan" if decibans > 0 else "yellow",
            ),
            text(without),
        )
    table.columns[0].no_wrap = True
    table.columns[3].no_wrap = True
    table.columns[3].min_width = width
    console.print(indented(table))
    console.print()
    console.print(
        indented(
            text(
                "Decibans: ten times the decimal logarithm of the odds gained by the finding; "
                "+10 makes the odds ten times as high. Each finding is taken away alone, all "
                "others stay.",
                "dim",
            )
        )
    )
    console.print()
    print_warnings(console, answer)
