"""``check``: is every file right, what do the numbers rest on, and where are they weakest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from epidural_dx.cli.inputs import open_model
from epidural_dx.cli.output import (
    indented,
    make_console,
    make_table,
    number,
    print_json,
    text,
    waiting,
)
from epidural_dx.cli.showing import ROOMY
from epidural_dx.cli.writing import check_place, written_whole
from epidural_dx.clinical.display import percent
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from rich.console import Console

    from epidural_dx.model import Model
    from epidural_dx.network.coverage import Coverage, WeakSpot

GRADES = ("counted", "estimated", "expert", "assumed")


def run(*, card: Path | None, as_json: bool, model_options: Mapping[str, Any]) -> None:
    """Load and check everything, then print what the numbers rest on, or write the model card.

    Raises
    ------
    EpiduralDxError
        A wrong file, with file, line and name.
    """
    from epidural_dx.analysis.literature_check import cause_shares, read_reasons
    from epidural_dx.clinical.fhir_codes import load_fhir_codes
    from epidural_dx.decision.workup import check_decision_files
    from epidural_dx.literature.topics import read_catalog
    from epidural_dx.network.build import unused_pool_rows
    from epidural_dx.network.coverage import (
        coverage_by_cause,
        coverage_by_variable,
        total_coverage,
        weakest_spots,
    )
    from epidural_dx.network.declared import read_scenarios
    from epidural_dx.store import data_folder, unread_files

    if card is not None:
        _write_card(card, as_json=as_json, model_options=model_options)
        return
    networks = data_folder("networks", model_options["networks"])
    priors = data_folder("priors", model_options["priors"])
    model = open_model(**model_options)
    check_decision_files(model)
    load_fhir_codes(priors)
    read_reasons(priors)
    with waiting("Building the tables"):
        built = model.built
        catalog = read_catalog(priors)
    shares = cause_shares(model, read_scenarios(priors), partial(waiting, piped=True))
    information = model.query({}).information
    bits = {name: float(information[i]) for i, name in enumerate(model.variables)}
    marginals = {name: p.tolist() for name, p in model.base_marginals.items()}
    document: dict[str, Any] = {
        "model": {
            "name": model.name,
            "version": model.version,
            "digest": model.digest,
            "scenario": model.scenario,
        },
        "size": {
            "variables": len(model.variables),
            "tests": len(model.tests),
            "mechanisms": len(model.mechanisms),
            "literature_rows": len(catalog.rows),
            "sources": len(catalog.sources),
            "multiply_adds": model.plan.multiply_adds(),
            "multiply_adds_of_patients": _work_of_patients(model),
        },
        "coverage": total_coverage(built).as_dict(),
        "by_cause": [c.as_dict() for c in coverage_by_cause(built)],
        "by_variable": [c.as_dict() for c in coverage_by_variable(built)],
        "weakest": [s.as_dict() for s in weakest_spots(built, marginals, bits)],
        "rates": [
            {
                "cause": c.cause,
                "given": c.given,
                "state": c.state,
                "figure": c.figure,
                "implied": c.implied,
                "residual": c.implied / c.figure - 1,
                "deviation": c.deviation,
                "verdict": c.verdict,
                "note": c.note,
                "fitted": c.used,
                "rows": list(c.rows),
            }
            for c in sorted(built.checks, key=lambda c: (not c.used, c.cause, c.given))
        ],
        "scenarios": shares,
        "without_effect": [
            {"id": f.id, "file": f.file, "line": f.line, "variable": f.variable, "given": f.given}
            for f in unused_pool_rows(built, model.literature.figures)
        ],
        "unread_files": [str(path) for path in unread_files(networks, priors)],
    }
    if as_json:
        print_json(document)
        return
    console = make_console()
    _print_head(console, document)
    _print_coverage(console, "Pooled columns by cause", coverage_by_cause(built))
    _print_coverage(console, "Pooled columns by finding", coverage_by_variable(built))
    _print_weakest(console, weakest_spots(built, marginals, bits))
    _print_rates(console, document["rates"])
    _print_shares(console, model.causes, shares)
    _print_unused(console, document["without_effect"])
    for path in document["unread_files"]:
        console.print(text(f"{path}: no such file is known, so nothing reads it", "yellow"))


def _write_card(card: Path, *, as_json: bool, model_options: Mapping[str, Any]) -> None:
    from epidural_dx.analysis.model_card import model_card

    if as_json:
        raise EvidenceError("--model-card and --json exclude each other")
    check_place(card, (".md", ".html"))
    model = open_model(**model_options)
    with waiting("Describing the model"):
        document = model_card(model, card.parent)
        page = document.html() if card.suffix.lower() == ".html" else document.markdown()
    with written_whole(card) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    print(f"{card}: {len(page.encode()):,} bytes")


def _work_of_patients(model: Model) -> dict[str, int]:
    """Multiply-adds of the main job (about the cause) for every published patient."""
    from epidural_dx.clinical.case import read_case
    from epidural_dx.store import published_patients

    counts = {}
    for name, path in published_patients().items():
        case = read_case(path)
        evidence = model.read_evidence(case.evidence(canonical=model.canonical_name).raw)
        observed = [
            position
            for position, weights in model.arrays(evidence).items()
            if np.count_nonzero(weights) == 1
        ]
        target = model.position("lesion_cause")
        counts[name] = model.plan.multiply_adds(target, observed=observed)
    return counts


def _print_head(console: Console, document: Mapping[str, Any]) -> None:
    size, coverage = document["size"], document["coverage"]
    console.print(text(f"epidural-dx {document['model']['version']}", "bold"))
    console.print(text(f"digest {document['model']['digest'][:16]} · all files are right", "dim"))
    console.print()
    table = make_table(None, "", "", right=(1,))
    table.show_header = False
    for label, value in (
        ("variables", size["variables"]),
        ("mechanisms", size["mechanisms"]),
        ("tests", size["tests"]),
        ("published figures", size["literature_rows"]),
        ("sources", size["sources"]),
        ("multiply-adds before any finding", size["multiply_adds"]),
        *(
            (f"  {name}", count)
            for name, count in sorted(size["multiply_adds_of_patients"].items())
        ),
        ("pooled columns", coverage["columns"]),
        *((f"  {grade}", coverage[grade]) for grade in GRADES),
    ):
        table.add_row(text(label), text(f"{value:,}"))
    console.print(indented(table))
    console.print()


def _print_coverage(console: Console, title: str, groups: Sequence[Coverage]) -> None:
    table = make_table(title, "", "all", *GRADES, "patients", "rows", right=tuple(range(1, 8)))
    for one in groups:
        table.add_row(
            text(one.name),
            text(str(one.columns)),
            *(text(str(one.grades[g]) if one.grades[g] else "·") for g in GRADES),
            text(number(one.ess, 2)),
            text(str(one.rows) if one.rows else "·"),
        )
    if console.width < ROOMY:
        table.padding = (0, 1, 0, 0)
    else:
        table.columns[0].no_wrap = True
    console.print(indented(table))
    console.print(
        indented(
            text("all: columns; patients: median effective sample size of a column", "dim")
        )
    )
    console.print()


def _print_weakest(console: Console, spots: Sequence[WeakSpot]) -> None:
    table = make_table(
        "Weakest spots: much used, resting on little",
        "finding",
        "given",
        "grade",
        "patients",
        "bits",
        right=(3, 4),
    )
    for spot in spots:
        given = f"{spot.given} {spot.state}" + (f" ({spot.context})" if spot.context else "")
        table.add_row(
            text(spot.variable),
            text(given),
            text(spot.grade, "yellow" if spot.grade == "assumed" else ""),
            text(number(spot.ess, 2)),
            text(f"{spot.use:.4f}"),
        )
    if console.width >= ROOMY:
        table.columns[0].no_wrap = True
    console.print(indented(table))
    console.print(
        indented(
            text(
                "bits: information of the finding about the cause × probability of what is given",
                "dim",
            )
        )
    )
    console.print()


def _print_rates(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    title = "Yearly rates per 100,000 people: the figure (mostly the experts') against the model"
    table = make_table(
        title, "cause", "in people with", "figure", "implied", "off", "verdict", right=(2, 3, 4)
    )
    if console.width < ROOMY:
        table.padding = (0, 1, 0, 0)
    for row in rows:
        matters = row["verdict"] == "differs"
        table.add_row(
            text(row["cause"]),
            text(f"{row['given']} {row['state']}"),
            text(number(row["figure"])),
            text(number(row["implied"])),
            text(f"{100 * row['residual']:+.0f} %", "yellow" if matters else ""),
            text(_verdict(row), "" if matters else "dim"),
        )
    console.print(indented(table))
    console.print(
        indented(
            text(
                "met: off by 10 % at most. within: off by less than the figure is uncertain by "
                "(2 standard deviations of its logarithm), which does not matter. differs: off by "
                "more, which matters unless the reason holds. Fitted figures are an input; the "
                "others are compared, never fed in.",
                "dim",
            )
        )
    )
    console.print()


def _verdict(row: Mapping[str, Any]) -> str:
    """Say whether a difference matters, and why it is there."""
    told = f"{row['verdict']}, fitted" if row["fitted"] else str(row["verdict"])
    if row["verdict"] != "differs":
        return told
    return f"{told}: {row['note'].partition(':')[0] or 'not explained'}"


def _print_shares(
    console: Console, causes: Sequence[str], shares: Sequence[Mapping[str, Any]]
) -> None:
    """Print the shares under every scenario, in two tables where one is too wide."""
    size = len(shares) if console.width >= ROOMY else (len(shares) + 1) // 2
    for start in range(0, len(shares), size):
        part = shares[start : start + size]
        table = make_table(
            "Share of lesions by cause, before any finding" if start == 0 else None,
            "cause",
            *(str(row["scenario"]).replace("_", " ") for row in part),
        )
        for cause in sorted(causes, key=lambda c: -shares[0][c]):
            table.add_row(text(cause), *(text(percent(row[cause])) for row in part))
        table.columns[0].no_wrap = True
        for column in table.columns[1:]:
            column.justify = "right"
        console.print(indented(table))
        console.print()


def _print_unused(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        console.print(text("Every row meant to be pooled is pooled.", "dim"))
        return
    console.print(
        text(f"{len(rows)} rows meant to be pooled have no effect (no such table):", "yellow")
    )
    for row in rows:
        console.print(
            indented(
                text(
                    f"{row['file']}:{row['line']} {row['id']}: {row['variable']} | {row['given']}",
                    "dim",
                )
            )
        )
