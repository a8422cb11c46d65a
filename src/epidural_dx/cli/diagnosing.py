"""``diagnose``: one answer, or one for every stage of a case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from epidural_dx.cli.inputs import (
    StageEvidence,
    open_case,
    open_model,
    stage_evidence,
    with_case_scenario,
)
from epidural_dx.cli.output import indented, make_console, print_json, text, waiting
from epidural_dx.cli.showing import print_answer, stage_changes
from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import CaseError

if TYPE_CHECKING:
    from rich.console import Console

    from epidural_dx.answer import Answer
    from epidural_dx.clinical.case import Case
    from epidural_dx.clinical.fhir_reading import FhirReading
    from epidural_dx.model import Model


#: At most this many lines about a record; --json has all.
_RECORD_LINES = 30

#: Forms in which an answer is printed.
FORMS = ("text", "json", "fhir")


def form_of(form: str | None, *, as_json: bool, all_stages: bool, snomed: bool = False) -> str:
    """Return the form of the answer that the options ask for.

    Raises
    ------
    CaseError
        No such form, or options that do not go together.
    """
    if form is not None and form not in FORMS:
        raise CaseError(f"unknown format {form!r}", allowed=FORMS, nearest=nearest(form, FORMS, 1))
    if as_json and form not in (None, "json"):
        raise CaseError(f"--json and --format {form} do not go together")
    if form == "fhir" and all_stages:
        raise CaseError("--format fhir answers one stage, leave out --all-stages")
    if snomed and form != "fhir":
        raise CaseError("--snomed is about --format fhir, give both or neither")
    return "json" if as_json else form or "text"


def run(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    all_stages: bool,
    with_tests: bool,
    with_intervals: bool,
    form: str,
    as_of: str | None = None,
    snomed: bool = False,
    model_options: Mapping[str, Any],
) -> None:
    """Diagnose a case and print the answer.

    Every stage is answered before anything is printed, so that bad input leaves nothing behind.

    Raises
    ------
    EpiduralDxError
        Bad input.
    """
    case = open_case(name)
    model = open_model(**with_case_scenario(model_options, case))
    stages = stage_evidence(model, case, settings, stage, as_of)
    wanted = stages if all_stages else stages[-2:]
    answers = [
        (s, model.diagnose(s.evidence, where=case.where(s.name) if s.name else None))
        for s in wanted
    ]
    if with_intervals:
        with waiting("Drawing the parameters (once for every change of networks and priors)"):
            for _, answer in answers if all_stages else answers[-1:]:
                answer.cause_limits  # noqa: B018  (kept by the answer)
    parts = {
        "all_stages": all_stages,
        "with_tests": with_tests,
        "with_intervals": with_intervals,
    }
    if form == "fhir":
        _print_bundle(model, case, answers[-1], with_tests, with_intervals, snomed)
    elif form == "json":
        _print_documents(model, case, answers, **parts)
    else:
        _print_for_people(case, answers, **parts)


def _print_documents(
    model: Model,
    case: Case,
    answers: Sequence[tuple[StageEvidence, Answer]],
    *,
    all_stages: bool,
    with_tests: bool,
    with_intervals: bool,
) -> None:
    documents = []
    for i, (stage, answer) in enumerate(answers):
        if not all_stages and i < len(answers) - 1:
            continue
        with waiting("Ranking the tests"):
            document = answer.to_dict(next_tests=with_tests, intervals=with_intervals)
        document["case"] = case.name
        document["stage"] = stage.name
        document["changes"] = stage_changes(answer, answers[i - 1][1]) if i else None
        if stage.reading is not None:
            document["record"] = stage.reading.as_dict()
        documents.append(document)
    if not all_stages:
        print_json(documents[0])
        return
    print_json(
        {
            "model": documents[0]["model"],
            "case": case.name,
            "stages": [{k: v for k, v in d.items() if k != "model"} for d in documents],
        }
    )


def _print_bundle(
    model: Model,
    case: Case,
    answered: tuple[StageEvidence, Answer],
    with_tests: bool,
    with_intervals: bool,
    snomed: bool,
) -> None:
    from epidural_dx.clinical.fhir_codes import load_fhir_codes
    from epidural_dx.clinical.fhir_writing import answer_bundle

    stage, answer = answered
    with waiting("Ranking the tests"):
        document = answer.to_dict(next_tests=with_tests, intervals=with_intervals)
    bundle = answer_bundle(
        document,
        load_fhir_codes(model._priors),
        reading=stage.reading,
        subject={"display": case.name},
        snomed=snomed,
    )
    print_json(bundle)


def _print_record(console: Console, reading: FhirReading) -> None:
    """Say what became of the resources of a record."""
    console.print(
        text(
            f"From the record: {len(reading.used)} findings used, "
            f"{len(reading.ignored)} resources or codes not used.",
            "bold",
        )
    )
    lines = [*reading.conflicts, *reading.notes]
    if not reading.has_lesion:
        lines.insert(0, "the record names no lesion in the spinal epidural space; one is assumed")
    lines += [
        f"not used: {i.reference}, {i.code or 'no code'}: {i.reason}" for i in reading.ignored
    ]
    for line in lines[:_RECORD_LINES]:
        console.print(indented(text(line, "dim")))
    if len(lines) > _RECORD_LINES:
        console.print(
            indented(text(f"and {len(lines) - _RECORD_LINES} more lines (--json has all)", "dim"))
        )


def _print_for_people(
    case: Case,
    answers: Sequence[tuple[StageEvidence, Answer]],
    *,
    all_stages: bool,
    with_tests: bool,
    with_intervals: bool,
) -> None:
    console = make_console()
    title = str(case.about.get("title") or case.name)
    for i, (stage, answer) in enumerate(answers):
        if not all_stages and i < len(answers) - 1:
            continue
        tests = None
        if with_tests:
            with waiting("Ranking the tests"):
                tests = [test.as_dict() for test in answer.next_tests]
        if all_stages and i:
            console.rule(style="dim", characters="─" if console.encoding.startswith("utf") else "-")
        previous = answers[i - 1] if i else None
        print_answer(
            console,
            "" if all_stages and i else title,
            stage,
            answer,
            previous,
            tests,
            with_intervals=with_intervals,
        )
        console.print()
        if stage.reading is not None:
            _print_record(console, stage.reading)
            console.print()
