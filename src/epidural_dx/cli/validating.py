"""``validate``: scores on patients whose diagnosis is known, and the validation report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epidural_dx.cli.inputs import open_model, read_cause_mix
from epidural_dx.cli.output import make_console, print_json, waiting
from epidural_dx.cli.writing import written_whole
from epidural_dx.errors import CaseError, EvidenceError
from epidural_dx.store import cases_folder


def run(
    cases: str,
    prior: str,
    *,
    mix: Path | None,
    report_folder: Path | None,
    as_json: bool,
    model_options: Mapping[str, Any],
) -> None:
    """Score the cases of a file or folder and print the report, or write the whole report.

    Raises
    ------
    EpiduralDxError
        Bad input.
    """
    from epidural_dx.analysis.validation import PRIORS, text_report, validate
    from epidural_dx.clinical.case import read_cases
    from epidural_dx.clinical.spelling import nearest
    from epidural_dx.model import MIX_SCENARIO

    if prior not in PRIORS:
        raise EvidenceError(
            f"--prior {prior!r} is unknown", allowed=PRIORS, nearest=nearest(prior, PRIORS, 1)
        )
    if report_folder is not None:
        _check_report(cases, report_folder, as_json=as_json)
    shares = None if mix is None else read_cause_mix(mix)
    read = read_cases(Path(cases) if cases != "-" else "-")
    backend = "auto" if report_folder is not None else "numpy"
    model = open_model(**model_options, backend=backend)
    # a mix of published patients is about people everywhere, unless a scenario is asked for
    scenario = model_options["scenario"] or MIX_SCENARIO
    mix_model = open_model(**{**model_options, "scenario": scenario}, backend=backend)
    if report_folder is not None:
        from epidural_dx.analysis.validation_report import STEM, validation_report

        folder = cases_folder()
        with waiting(f"Validating on {len(read)} patients (one to three minutes)"):
            document, _ = validation_report(
                model,
                read,
                Path(cases),
                report_folder,
                published=() if folder is None else read_cases(folder),
                published_folder=folder,
                mix=shares,
                mix_model=mix_model,
            )
            pages = {f"{STEM}.md": document.markdown(), f"{STEM}.html": document.html()}
        for name, content in pages.items():
            with written_whole(report_folder / name) as temporary:
                temporary.write_text(content, encoding="utf-8", newline="\n")
            print(f"{report_folder / name}: {len(content.encode()):,} bytes")
        return
    with waiting(f"Scoring {len(read)} patients"):
        report = validate(model, read, shares, mix_model=mix_model)
    if as_json:
        print_json(report.to_dict())
        return
    console = make_console()
    console.width = max(console.width, 200)  # a table of figures must not be folded
    console.print(text_report(report, prior), soft_wrap=True)


def _check_report(cases: str, folder: Path, *, as_json: bool) -> None:
    """Refuse what cannot work before anything is computed."""
    if as_json:
        raise EvidenceError("--report and --json exclude each other")
    if cases == "-":
        raise EvidenceError("--report needs a file or folder of cases, not standard input")
    if not folder.is_dir():
        raise CaseError("is no folder", where=str(folder))
