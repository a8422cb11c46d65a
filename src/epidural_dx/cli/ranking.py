"""``next-tests``: the tests worth most next, for a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from epidural_dx.cli.inputs import open_case, open_model, stage_evidence, with_case_scenario
from epidural_dx.cli.output import indented, make_console, print_json, text, waiting
from epidural_dx.cli.showing import print_tests, print_warnings, stage_line
from epidural_dx.documents import answers

#: Tests that tell less than this are only named.
NEGLIGIBLE = 0.005


def run(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    target: tuple[str, ...],
    by: str,
    as_json: bool,
    model_options: Mapping[str, Any],
) -> None:
    """Rank the tests for a case and print them.

    Raises
    ------
    EpiduralDxError
        Bad input.
    """
    case = open_case(name)
    model = open_model(**with_case_scenario(model_options, case))
    last = stage_evidence(model, case, settings, stage)[-1]
    targets = answers.target_variables(model, target, "--target")
    answer = model.diagnose(last.evidence, where=case.where(last.name) if last.name else None)
    with waiting("Ranking the tests"):
        document = answers.next_tests(model, last.evidence, targets, by)
    ranked = document["next_tests"]
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
    console.print(text(f"information about {' and '.join(targets)}, by {by}", "dim"))
    console.print()
    telling = [row for row in ranked if row["information_bits"] >= NEGLIGIBLE]
    print_tests(console, telling, title="Tests", by=by)
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
    print_warnings(console, answer)
