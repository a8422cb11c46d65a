"""The questions about a patient: ``POST /v1/...``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from epidural_dx.clinical.evidence import Evidence
from epidural_dx.documents import answers
from epidural_dx.documents.questions import (
    DiagnoseQuestion,
    ExplainQuestion,
    NextTestsQuestion,
    PatientQuestion,
    PlanQuestion,
)
from epidural_dx.errors import EvidenceError
from epidural_dx.model import Model
from epidural_dx.server.replies import check_held, dump, etag, reply
from epidural_dx.server.service import Service

Document = dict[str, Any]


def read_evidence(model: Model, question: PatientQuestion, most: int) -> Evidence:
    """Read the findings of a question.

    Raises
    ------
    EvidenceError
        They cannot be read, or are too many.
    """
    if len(question.evidence) > most:
        raise EvidenceError(
            f"{len(question.evidence)} findings are more than the {most} that are taken",
            variable="evidence",
        )
    return model.read_evidence(question.evidence)


async def answered(
    service: Service,
    request: Request,
    question: PatientQuestion,
    work: Callable[[Model, Evidence], Document],
) -> Response:
    """Answer a question: from memory, or in a thread of the pool.

    Raises
    ------
    EpiduralDxError
        Bad evidence or option.
    Problem
        No room, not ready, too slow, or the client holds the answer.
    """
    model = await service.shelf.get(question.scenario, question.cause_mix)
    # By name of the route and all options: an option that is left out and its default are one.
    tag = etag(model.digest, request.url.path, question.model_dump(mode="json"))
    check_held(request, tag)
    body = service.memory.get(tag)
    if body is not None:
        service.metrics.remembered.inc()
        return reply(body, model.digest, tag)

    def compute() -> bytes:
        evidence = read_evidence(model, question, service.settings.findings)
        return dump(work(model, evidence))

    body = await service.pool.run(compute)
    service.memory.put(tag, body)
    return reply(body, model.digest, tag)


def make_router(service: Service) -> APIRouter:
    """Make the routes of questions about a patient."""
    router = APIRouter(prefix="/v1", tags=["questions"])

    @router.post("/diagnose")
    async def diagnose(request: Request, question: DiagnoseQuestion) -> Response:
        """Give the probability of every cause and driver, with intervals and next tests."""

        def work(model: Model, evidence: Evidence) -> Document:
            return model.diagnose(evidence).to_dict(
                next_tests=question.next_tests, intervals=question.intervals
            )

        return await answered(service, request, question, work)

    @router.post("/next-tests")
    async def next_tests(request: Request, question: NextTestsQuestion) -> Response:
        """Rank the tests by what they would tell, with what each likely result would do."""
        wanted = question.target
        spelled = (wanted,) if isinstance(wanted, str) else tuple(wanted or ())

        def work(model: Model, evidence: Evidence) -> Document:
            return answers.next_tests(
                model,
                evidence,
                answers.target_variables(model, spelled),
                question.by,
                exclude=question.exclude,
                max_hours=question.max_hours,
                hours_since_onset=question.hours_since_onset,
            )

        return await answered(service, request, question, work)

    @router.post("/plan")
    async def plan(request: Request, question: PlanQuestion) -> Response:
        """Say what to order now, what then for each likely result, and when to stop."""

        def work(model: Model, evidence: Evidence) -> Document:
            return answers.plan(
                model,
                evidence,
                question.by,
                exclude=question.exclude,
                hours_since_onset=question.hours_since_onset,
            )

        return await answered(service, request, question, work)

    @router.post("/explain")
    async def explain(request: Request, question: ExplainQuestion) -> Response:
        """Say how much every finding speaks for or against the leading cause."""
        return await answered(service, request, question, answers.explanation)

    return router
