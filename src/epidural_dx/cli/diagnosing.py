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
from epidural_dx.cli.output import make_console, print_json, waiting
from epidural_dx.cli.showing import print_answer, stage_changes

if TYPE_CHECKING:
    from epidural_dx.answer import Answer
    from epidural_dx.clinical.case import Case
    from epidural_dx.model import Model


def run(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    all_stages: bool,
    with_tests: bool,
    with_intervals: bool,
    as_json: bool,
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
    stages = stage_evidence(model, case, settings, stage)
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
    if as_json:
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
