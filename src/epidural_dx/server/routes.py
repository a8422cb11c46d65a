"""The questions about a patient: ``POST /v1/...``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request, Response

from epidural_dx.clinical.evidence import Evidence
from epidural_dx.documents import answers, schema
from epidural_dx.documents import sensitivity as varying
from epidural_dx.documents import uncertainty as spreading
from epidural_dx.documents.questions import (
    DiagnoseQuestion,
    ExplainQuestion,
    NextTestsQuestion,
    PatientQuestion,
    PlanQuestion,
    SensitivityQuestion,
    UncertaintyQuestion,
)
from epidural_dx.errors import EvidenceError
from epidural_dx.model import Model
from epidural_dx.server.replies import check_held, described, dump, etag, reply
from epidural_dx.server.service import Service

Document = dict[str, Any]

#: Draws (number, seed) that questions use by default: kept by the model.
USUAL_DRAWS = ((200, 0), (500, 0))


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


def check_draws(draws: int, most: int) -> None:
    """Refuse more draws than the server makes for one question.

    Raises
    ------
    EvidenceError
    """
    if draws > most:
        raise EvidenceError(
            f"must be at most {most} on this server, got {draws}", variable="draws", value=draws
        )


def own_draws(model: Model, draws: int, seed: int, quasi_random: bool = False) -> Model:
    """Return the model, set apart where the draws are not those that every question uses.

    Draws of a client's choice would fill memory and disk; they go when the question is answered.
    """
    usual = (draws, seed) in USUAL_DRAWS and not quasi_random
    return model if usual else model.apart()


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

    @router.post("/diagnose", responses=described(schema.Diagnosis))
    async def diagnose(request: Request, question: DiagnoseQuestion) -> Response:
        """Give the probability of every cause and driver, with intervals and next tests."""

        def work(model: Model, evidence: Evidence) -> Document:
            return model.diagnose(evidence).to_dict(
                next_tests=question.next_tests, intervals=question.intervals
            )

        return await answered(service, request, question, work)

    @router.post("/next-tests", responses=described(schema.NextTests))
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

    @router.post("/plan", responses=described(schema.PlanDocument))
    async def plan(request: Request, question: PlanQuestion) -> Response:
        """Say what to order now, what then for each likely result, and when to stop."""

        def work(model: Model, evidence: Evidence) -> Document:
            return answers.plan(
                model,
                evidence,
                question.by,
                exclude=question.exclude,
                max_hours=question.max_hours,
                hours_since_onset=question.hours_since_onset,
                steps=question.steps,
            )

        return await answered(service, request, question, work)

    @router.post("/explain", responses=described(schema.Explanation))
    async def explain(request: Request, question: ExplainQuestion) -> Response:
        """Say what speaks for the answer and against it, how much, through what, and what lacks."""

        def work(model: Model, evidence: Evidence) -> Document:
            if question.only is None:
                return answers.explanation(
                    model, evidence, cause=question.cause, against=question.against
                )
            return answers.weights(
                model,
                evidence,
                contributions=question.only == "contributions",
                cause=question.cause,
            )

        return await answered(service, request, question, work)

    @router.post("/uncertainty", responses=described(schema.Uncertainty))
    async def uncertainty(request: Request, question: UncertaintyQuestion) -> Response:
        """Say how sure the answer is when every figure may be off."""
        check_draws(question.draws, service.settings.draws)

        def work(model: Model, evidence: Evidence) -> Document:
            return spreading.uncertainty(
                own_draws(model, question.draws, question.seed, question.quasi_random),
                evidence,
                draws=question.draws,
                seed=question.seed,
                quasi_random=question.quasi_random,
                tests=question.tests,
            )

        return await answered(service, request, question, work)

    @router.post("/sensitivity", responses=described(schema.Sensitivity))
    async def sensitivity(request: Request, question: SensitivityQuestion) -> Response:
        """Say which figures, findings and sources the answer hangs on."""
        check_draws(question.draws, service.settings.draws)
        pair = question.two_way

        def work(model: Model, evidence: Evidence) -> Document:
            return varying.sensitivity(
                own_draws(model, question.draws, question.seed),
                evidence,
                parameter=question.parameter,
                pair=None if pair is None else (pair[0], pair[1]),
                by=question.by,
                ranking=question.ranking,
                total=question.total,
                cause=question.cause,
                top=question.top,
                draws=question.draws,
                seed=question.seed,
            ).document

        return await answered(service, request, question, work)

    return router
