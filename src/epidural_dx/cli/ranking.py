"""``next-tests``: the tests worth most next, for a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from epidural_dx.cli.inputs import open_case, open_model, stage_evidence, with_case_scenario
from epidural_dx.cli.output import indented, make_console, text, waiting
from epidural_dx.cli.showing import print_document, print_tests, print_warnings, stage_line
from epidural_dx.cli.writing import PICTURES, check_place
from epidural_dx.documents import answers
from epidural_dx.errors import EvidenceError

#: Tests that tell less than this are only named.
NEGLIGIBLE = 0.005


def run(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    target: tuple[str, ...],
    by: str,
    exclude: tuple[str, ...],
    max_hours: float | None,
    hours_since_onset: float | None,
    with_plan: bool,
    plot: Path | None,
    as_json: bool,
    model_options: Mapping[str, Any],
) -> None:
    """Rank the tests for a case and print them.

    Raises
    ------
    EpiduralDxError
        Bad input.
    """
    from epidural_dx.cli import planning
    from epidural_dx.clinical.spelling import nearest
    from epidural_dx.decision.ranking import ORDERS

    spelled, by = by, by.replace("-", "_")
    if by not in ORDERS:
        orders = [order.replace("_", "-") for order in ORDERS]
        raise EvidenceError(
            f"--by {spelled!r} is unknown",
            allowed=orders,
            nearest=nearest(spelled.replace("_", "-"), orders, 1),
        )
    if plot is not None:
        check_place(plot, tuple(PICTURES))
        with_plan = True
    case = open_case(name)
    model = open_model(**with_case_scenario(model_options, case))
    last = stage_evidence(model, case, settings, stage)[-1]
    targets = answers.target_variables(model, target, "--target")
    answer = model.diagnose(last.evidence, where=case.where(last.name) if last.name else None)
    options: dict[str, Any] = {
        "exclude": exclude,
        "max_hours": max_hours,
        "hours_since_onset": hours_since_onset,
    }
    ahead = None
    if with_plan:
        with waiting("Looking ahead"):
            ahead = answers.look_ahead(model, last.evidence, by, **options)
        if plot is not None:
            planning.draw(ahead.plan, plot)
    with waiting("Ranking the tests"):
        document = answers.next_tests(model, last.evidence, targets, by, ahead=ahead, **options)
    ranked = document["next_tests"]
    if as_json:
        print_document(document, case, last)
        return
    console = make_console()
    console.print(text(str(case.about.get("title") or case.name), "bold"))
    console.print(stage_line(last))
    about, order = " and ".join(targets), by.replace("_", "-")
    console.print(text(f"information about {about}, by {order}", "dim"))
    console.print()
    telling = [row for row in ranked if row["information_bits"] >= NEGLIGIBLE]
    print_tests(console, telling, title="Tests", by=by, target=targets)
    if by == "value":
        console.print(
            indented(
                text(
                    "gain: expected utility over acting now, net of harm, delay and price "
                    "(0 death, 1 full health); below 0 the test costs more than it tells",
                    "dim",
                )
            )
        )
    if any(row["standard_error"] >= 0.0005 for row in telling):
        console.print(indented(text("± standard error of a sampled figure", "dim")))
    silent = [row["test"] for row in ranked if row["information_bits"] < NEGLIGIBLE]
    if silent and telling:
        console.print(indented(text(f"below {NEGLIGIBLE} bits: {', '.join(silent)}", "dim")))
        console.print()
    if ahead is not None:
        planning.print_plan(console, ahead)
        if plot is not None:
            console.print(text(f"{plot}: the plan as a picture"))
    print_warnings(console, answer)
