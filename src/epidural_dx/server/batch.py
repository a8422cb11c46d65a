"""Many patients at once: one document, or one line per patient as soon as it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from epidural_dx.documents import schema
from epidural_dx.documents.answers import identity
from epidural_dx.documents.questions import (
    LONGEST_NAME,
    BatchOptions,
    BatchPatient,
    BatchQuestion,
)
from epidural_dx.errors import EpiduralDxError, EvidenceError
from epidural_dx.model import Model
from epidural_dx.server import strict_json
from epidural_dx.server.gate import is_lines, media_type
from epidural_dx.server.problems import Problem, from_error, from_validation
from epidural_dx.server.replies import check_held, described, dump, etag, reply
from epidural_dx.server.service import Service

#: Patients that a thread answers before it lets other questions have a turn.
TURN = 16
#: Media type of one document per line.
LINES = "application/x-ndjson"


@dataclass(frozen=True)
class Unreadable:
    """A line that holds no patient."""

    problem: Problem


def _answer(
    model: Model, place: int, patient: BatchPatient | Unreadable, options: BatchOptions, most: int
) -> dict[str, Any]:
    """Answer one patient; what is wrong with one does not stop the others."""
    if isinstance(patient, Unreadable):
        return {"index": place, "id": None, "answer": None, "problem": patient.problem.as_dict()}
    entry: dict[str, Any] = {"index": place, "id": patient.id, "answer": None, "problem": None}
    try:
        if len(patient.evidence) > most:
            raise EvidenceError(
                f"{len(patient.evidence)} findings are more than the {most} that are taken",
                variable="evidence",
            )
        entry["answer"] = model.diagnose(patient.evidence).to_dict(
            next_tests=options.next_tests, intervals=options.intervals
        )
    except EpiduralDxError as error:
        entry["problem"] = from_error(error).as_dict()
    return entry


def make_router(service: Service) -> APIRouter:
    """Make the route of batches."""
    router = APIRouter(prefix="/v1", tags=["questions"])
    settings = service.settings

    def turns(count: int, options: BatchOptions) -> list[range]:
        size = 1 if options.next_tests else TURN
        return [range(at, min(at + size, count)) for at in range(0, count, size)]

    async def answered(
        model: Model,
        patients: Sequence[BatchPatient | Unreadable],
        options: BatchOptions,
        turn: range,
    ) -> list[dict[str, Any]]:
        return await service.pool.run(
            lambda: [_answer(model, i, patients[i], options, settings.findings) for i in turn],
            patiently=turn.start > 0,
        )

    async def one_document(request: Request, question: BatchQuestion) -> Response:
        if len(question.patients) > settings.patients:
            raise _too_many(len(question.patients), settings.patients)
        model = await service.shelf.get(question.scenario, question.cause_mix)
        tag = etag(model.digest, request.url.path, question.model_dump(mode="json"))
        check_held(request, tag)
        entries: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(settings.seconds):
                for turn in turns(len(question.patients), question):
                    entries += await answered(model, question.patients, question, turn)
        except TimeoutError:
            raise Problem(
                "too-slow",
                f"The batch was given up after {settings.seconds:g} s: send fewer patients, or "
                "ask for lines.",
                retry_after=service.pool.retry_after(),
            ) from None
        body = dump({"model": identity(model), "answers": entries})
        return reply(body, model.digest, tag)

    async def lines(
        model: Model, patients: Sequence[BatchPatient | Unreadable], options: BatchOptions
    ) -> StreamingResponse:
        async def stream() -> AsyncIterator[bytes]:
            for turn in turns(len(patients), options):
                try:
                    entries = await answered(model, patients, options, turn)
                except Problem as problem:
                    # The status has been sent: the last line says why no more follow.
                    yield dump({"problem": problem.as_dict()}) + b"\n"
                    return
                yield b"".join(dump(entry) + b"\n" for entry in entries)

        return StreamingResponse(
            stream(),
            media_type=LINES,
            headers={"Model-Digest": model.digest, "Cache-Control": "no-store"},
        )

    @router.post(
        "/batch/diagnose",
        responses=described(schema.BatchAnswers, lines=True),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/BatchQuestion"}},
                    LINES: {
                        "schema": {
                            "type": "string",
                            "description": "One patient per line, each as in `patients`; the "
                            "options in the query.",
                        }
                    },
                },
            }
        },
    )
    async def batch(
        request: Request,
        intervals: bool = False,
        next_tests: bool = False,
        scenario: Annotated[str | None, Query(min_length=1, max_length=LONGEST_NAME)] = None,
    ) -> Response:
        """Diagnose many patients: a JSON document, or line by line (application/x-ndjson).

        A body of lines holds one patient per line, and its options stand in the query. The answer
        comes line by line where the body did or the header Accept asks for it, and may then hold
        more patients. A patient that cannot be read gets a `problem` in place of an `answer`; the
        others are answered.
        """
        body = await request.body()
        wants_lines = LINES in request.headers.get("accept", "")
        if is_lines(media_type(request.scope)):
            patients = await asyncio.to_thread(_read_lines, body, settings.streamed_patients)
            options = BatchOptions(scenario=scenario, intervals=intervals, next_tests=next_tests)
            model = await service.shelf.get(scenario, None)
            return await lines(model, patients, options)
        question = await asyncio.to_thread(_read_question, body)
        if not wants_lines:
            return await one_document(request, question)
        if len(question.patients) > settings.streamed_patients:
            raise _too_many(len(question.patients), settings.streamed_patients)
        model = await service.shelf.get(question.scenario, question.cause_mix)
        return await lines(model, question.patients, question)

    return router


def _read_question(body: bytes) -> BatchQuestion:
    try:
        return BatchQuestion.model_validate(strict_json.parse(body))
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False), BatchQuestion.model_fields) from None


def _read_lines(body: bytes, most: int) -> list[BatchPatient | Unreadable]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > most:
        raise _too_many(len(lines), most)
    if not lines:
        raise Problem("request", "The body holds no patient.")
    return [_read_line(line) for line in lines]


def _read_line(line: bytes) -> BatchPatient | Unreadable:
    try:
        return BatchPatient.model_validate(strict_json.parse(line, "the line"))
    except Problem as problem:
        return Unreadable(problem)
    except ValidationError as error:
        return Unreadable(
            from_validation(error.errors(include_url=False), BatchPatient.model_fields)
        )


def _too_many(count: int, most: int) -> EvidenceError:
    return EvidenceError(
        f"{count} patients are more than the {most} that are taken at once", variable="patients"
    )
