"""``validate``: scores on patients whose diagnosis is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epidural_dx.cli.inputs import open_model
from epidural_dx.cli.output import make_console, print_json, waiting
from epidural_dx.errors import EvidenceError


def run(cases: str, prior: str, *, as_json: bool, model_options: Mapping[str, Any]) -> None:
    """Score the cases of a file or folder and print the report.

    Raises
    ------
    EpiduralDxError
        Bad input.
    """
    from pathlib import Path

    from epidural_dx.analysis.validation import PRIORS, text_report, validate
    from epidural_dx.clinical.case import read_cases
    from epidural_dx.clinical.spelling import nearest
    from epidural_dx.model import MIX_SCENARIO

    if prior not in PRIORS:
        raise EvidenceError(
            f"--prior {prior!r} is unknown", allowed=PRIORS, nearest=nearest(prior, PRIORS, 1)
        )
    read = read_cases(Path(cases) if cases != "-" else "-")
    model = open_model(**model_options)
    # a mix of published patients is about people everywhere, unless a scenario is asked for
    scenario = model_options["scenario"] or MIX_SCENARIO
    mix_model = open_model(**{**model_options, "scenario": scenario})
    with waiting(f"Scoring {len(read)} patients"):
        report = validate(model, read, mix_model=mix_model)
    if as_json:
        print_json(report.to_dict())
        return
    console = make_console()
    console.width = max(console.width, 200)  # a table of figures must not be folded
    console.print(text_report(report, prior), soft_wrap=True)
