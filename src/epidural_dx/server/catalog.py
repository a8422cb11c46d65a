"""What can be looked up: ``GET /v1/variables``, tests, causes, sources, patients, the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from epidural_dx.clinical.spelling import nearest
from epidural_dx.documents import listings, schema, sources
from epidural_dx.documents.questions import LONGEST_NAME, LONGEST_TEXT
from epidural_dx.errors import EvidenceError
from epidural_dx.model import Model
from epidural_dx.server.problems import Problem
from epidural_dx.server.replies import described, dump, etag, is_held, reply, unchanged
from epidural_dx.server.service import Service

Name = Annotated[str, Path(min_length=1, max_length=LONGEST_NAME)]
Text = Annotated[str, Query(max_length=LONGEST_TEXT)]
MaybeName = Annotated[str | None, Query(min_length=1, max_length=LONGEST_NAME)]


def check_query(request: Request) -> None:
    """Refuse a parameter that the route does not have; it would be dropped in silence.

    Raises
    ------
    Problem
    """
    declared = getattr(request.scope.get("route"), "dependant", None)
    allowed = [parameter.alias for parameter in getattr(declared, "query_params", ())]
    for name in request.query_params:
        if name not in allowed:
            error = EvidenceError(
                "is no parameter of this path",
                variable=name[:LONGEST_NAME],
                allowed=allowed,
                nearest=nearest(name[:LONGEST_NAME], allowed, 1),
            )
            raise Problem(
                "request",
                str(error),
                variable=error.variable,
                allowed=error.allowed,
                nearest=error.nearest,
            )


def not_found(error: EvidenceError) -> Problem:
    """Turn an unknown name in a path into 404, with the sentence and the nearest match."""
    return Problem(
        "not-found",
        str(error),
        variable=error.variable,
        value=error.value,
        allowed=error.allowed,
        nearest=error.nearest,
    )


def make_router(service: Service) -> APIRouter:
    """Make the routes of everything that can be looked up."""
    router = APIRouter(prefix="/v1", tags=["catalog"])
    shelf = service.shelf

    async def listed(
        request: Request, work: Callable[[Model], Any], scenario: str | None = None
    ) -> Response:
        check_query(request)
        model = await shelf.get(scenario, None)
        tag = etag(model.digest, request.url.path, sorted(request.query_params.multi_items()))
        body = service.memory.get(tag)
        if body is None:
            try:
                body = await service.pool.run(lambda: dump(work(model)))
            except EvidenceError as error:
                if "name" not in request.path_params:
                    raise
                raise not_found(error) from None
            service.memory.put(tag, body)
        if is_held(request, tag):
            return unchanged(tag, model.digest)
        return reply(body, model.digest, tag, private=False)

    @router.get("/model", responses=described(schema.ModelDocument))
    async def about_model(request: Request) -> Response:
        """Say what the model is, and the limits of this server."""

        def work(model: Model) -> Any:
            settings = service.settings
            return {
                **listings.about_model(model),
                "limits": {
                    "findings": settings.findings,
                    "body_bytes": settings.body_bytes,
                    "batch_bytes": settings.batch_bytes,
                    "patients": settings.patients,
                    "streamed_patients": settings.streamed_patients,
                    "draws": settings.draws,
                    "seconds": settings.seconds,
                },
            }

        return await listed(request, work)

    @router.get("/scenarios", responses=described(schema.ScenarioList))
    async def scenarios(request: Request) -> Response:
        """List the base rates to choose from."""
        return await listed(request, lambda model: listings.scenarios(model.priors))

    @router.get("/variables", responses=described(schema.VariableList))
    async def variables(request: Request, group: MaybeName = None) -> Response:
        """List what can be known, with states, units and cut-offs."""
        return await listed(request, lambda model: listings.variables(model, group))

    @router.get("/variables/{name}", responses=described(schema.VariableDocument))
    async def variable(request: Request, name: Name) -> Response:
        """Give everything about one variable."""
        return await listed(
            request,
            lambda model: listings.variable(model, listings.known_variable(model, name)),
        )

    @router.get("/variables/{name}/sources", responses=described(schema.VariableSources))
    async def variable_sources(request: Request, name: Name) -> Response:
        """Give the published figures behind every column of the variable's table."""
        return await listed(
            request, lambda model: sources.behind_variable(model, shelf.catalog, name)
        )

    @router.get("/tests", responses=described(schema.TestList))
    async def tests(request: Request) -> Response:
        """List the tests, with what they reveal, cost and risk."""
        return await listed(request, listings.tests)

    @router.get("/causes", responses=described(schema.CauseList))
    async def causes(request: Request, scenario: MaybeName = None) -> Response:
        """List the causes with their mechanisms and base rates."""
        return await listed(request, listings.causes, scenario)

    @router.get("/causes/{name}/sources", responses=described(schema.CauseSources))
    async def cause_sources(request: Request, name: Name) -> Response:
        """Give the rates behind every mechanism of a cause, and their sources."""
        return await listed(request, lambda model: sources.behind_cause(model, shelf.catalog, name))

    @router.get("/sources", responses=described(schema.SourceList))
    async def all_sources(
        request: Request,
        query: Text = "",
        variable: MaybeName = None,
        cause: MaybeName = None,
        topic: MaybeName = None,
    ) -> Response:
        """Find published figures and their sources; without a condition, list all sources."""

        def work(_: Model) -> Any:
            catalog = shelf.catalog
            if topic is not None:
                return sources.topic(catalog, sources.known_topic(catalog, topic))
            if not query and variable is None and cause is None:
                return sources.overview(catalog)
            return sources.found(catalog, query, variable, cause)

        return await listed(request, work)

    @router.get("/cases", responses=described(schema.CaseList))
    async def cases(request: Request) -> Response:
        """List the published patients."""
        return await listed(request, lambda _: listings.cases(shelf.cases))

    @router.get("/cases/{name}", responses=described(schema.CaseDocument))
    async def case(request: Request, name: Name) -> Response:
        """Give one published patient, stage by stage."""

        def work(_: Model) -> Any:
            listings.known(name, "case", shelf.cases)
            return listings.case(name, shelf.cases[name])

        return await listed(request, work)

    return router


def make_probes(service: Service) -> APIRouter:
    """Make the routes by which a supervisor watches the server."""
    router = APIRouter(tags=["probes"])

    @router.get("/healthz")
    async def alive() -> schema.Probe:
        """Say that the process answers."""
        return schema.Probe(status="alive")

    @router.get("/readyz")
    async def ready() -> schema.ReadyProbe:
        """Say whether the model is loaded and warm."""
        if service.shelf.failure is not None:
            raise Problem("starting", "The model cannot be loaded; the log says why.")
        return schema.ReadyProbe(status="ready", digest=service.model().digest)

    return router
