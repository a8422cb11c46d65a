"""Make the application: routes, limits and errors in one place."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from threadpoolctl import threadpool_limits

from epidural_dx import __version__
from epidural_dx.errors import EpiduralDxError
from epidural_dx.server import batch, catalog, routes
from epidural_dx.server.gate import OPEN_PATHS, Guard, Passage
from epidural_dx.server.logs import log, set_up
from epidural_dx.server.metrics import MEDIA_TYPE as METRICS_TYPE
from epidural_dx.server.openapi import describe
from epidural_dx.server.problems import (
    MEDIA_TYPE,
    Problem,
    from_error,
    from_validation,
)
from epidural_dx.server.service import Service, make_service
from epidural_dx.server.settings import Settings

#: The page, where it is installed.
PAGE = Path(__file__).resolve().parent.parent / "web" / "static"

DESCRIPTION = (
    "What is this spinal epidural lesion, and which test next? A Bayesian network seeded from "
    "published figures. For research and teaching. Not a medical device; it must not guide "
    "treatment."
)


def from_environment() -> FastAPI:
    """Make the application in a worker process, from the settings of the command."""
    settings = Settings.from_environment()
    set_up(settings.log_level)
    return create_app(settings)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    settings : Settings, optional
        By default loopback with all limits at their defaults.

    Returns
    -------
    FastAPI
        An ASGI application; its model is loaded when it starts (``GET /readyz``).
    """
    settings = settings or Settings()
    service = make_service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Questions run beside one another: threads within one only take the processors of others.
        # Only libraries that are loaded by then can be told so, and scipy brings one of its own.
        importlib.import_module("scipy.linalg")
        with threadpool_limits(limits=1, user_api="blas"):
            warming = asyncio.create_task(_warm_up(service))
            try:
                yield
            finally:
                warming.cancel()
                # In threads: questions that still compute are waited for.
                await asyncio.to_thread(service.pool.close)
                await asyncio.to_thread(service.shelf.close)
                log("stopped")

    app = FastAPI(
        title="epidural-dx",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(routes.make_router(service))
    app.include_router(batch.make_router(service))
    app.include_router(catalog.make_router(service))
    app.include_router(catalog.make_probes(service))

    @app.get("/metrics", tags=["probes"], include_in_schema=False)
    async def metrics() -> Response:
        """Give the metrics of all workers, for Prometheus."""
        return Response(service.metrics.text(), media_type=METRICS_TYPE)

    signed = _include_clinical(app, service)
    describe(app, settings)
    page = _mount_page(app)
    _answer_errors(app)
    # The last one added is the outermost.
    app.add_middleware(
        Guard,
        settings=settings,
        open_paths=lambda path: path in OPEN_PATHS or path in page or path.startswith(signed),
    )
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "X-Request-ID"],
            expose_headers=["ETag", "Model-Digest", "Retry-After", "X-Request-ID"],
        )
    app.add_middleware(Passage, metrics=service.metrics)
    return app


async def _warm_up(service: Service) -> None:
    try:
        await service.shelf.warm_up()
    except asyncio.CancelledError:
        raise
    except Exception as error:
        # The error of a model file names the file, which is the server's own, and no patient.
        reason = str(error) if isinstance(error, EpiduralDxError) else type(error).__name__
        log("model cannot be loaded", logging.ERROR, error=True, reason=reason)
        return
    service.metrics.ready.set(1)
    log("ready", digest=service.model().digest, scenario=service.model().scenario)


def _include_clinical(app: FastAPI, service: Service) -> tuple[str, ...]:
    """Add CDS Hooks where the extra ``fhir`` is installed.

    Returns the beginnings of paths that check signed tokens of their own and need no bearer token:
    those of CDS Hooks where ``EPIDURAL_DX_CDS_CLIENTS`` names the file of clients.
    """
    if find_spec("fhirclient") is None:
        return ()
    from epidural_dx.server.cds_hooks import cds_router
    from epidural_dx.server.cds_trust import CLIENTS, read_trust

    file = os.environ.get(CLIENTS)
    trust = read_trust(file) if file else None
    app.include_router(
        cds_router(
            service.model,
            trust=trust,
            public_url=None if trust is None else f"{trust.base_url.rstrip('/')}/",
            run=service.pool.run,
        )
    )
    return () if trust is None else ("/cds-services",)


def _mount_page(app: FastAPI) -> frozenset[str]:
    """Serve the page at ``/``; returns the paths of its files, which need no token."""
    if not (PAGE / "index.html").is_file():
        return frozenset()
    files = StaticFiles(directory=PAGE)
    paths = {"/": "index.html"}
    for file in PAGE.rglob("*"):
        if file.is_file():
            name = file.relative_to(PAGE).as_posix()
            paths[f"/{name}"] = name
    # One route per file: mounted at / as a whole it would also answer wrong methods elsewhere.
    for path, name in paths.items():

        async def page(request: Request, name: str = name) -> Response:
            return await files.get_response(name, request.scope)

        app.router.add_route(path, page, methods=["GET", "HEAD"], include_in_schema=False)
    return frozenset(paths)


def _answer_errors(app: FastAPI) -> None:
    def answer(request: Request, problem: Problem) -> Response:
        return Response(
            problem.body(request.state.request_id),
            status_code=problem.status,
            media_type=MEDIA_TYPE,
            headers={"Cache-Control": "no-store", **problem.headers},
        )

    @app.exception_handler(Problem)
    async def on_problem(request: Request, error: Problem) -> Response:
        return answer(request, error)

    @app.exception_handler(EpiduralDxError)
    async def on_error(request: Request, error: EpiduralDxError) -> Response:
        problem = from_error(error)
        if problem.kind == "failure":
            # A wrong file of the server: no value of a question is in its sentence.
            log("model cannot be used", logging.ERROR, error=True, reason=str(error))
        return answer(request, problem)

    @app.exception_handler(RequestValidationError)
    async def on_validation(request: Request, error: RequestValidationError) -> Response:
        return answer(request, from_validation(error.errors(), _members(app, request)))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return answer(request, Problem("not-found", "There is nothing at this path."))
        if error.status_code == 405:
            return answer(
                request,
                Problem(
                    "method",
                    f"The path does not take the method {request.method[:20]}.",
                    headers=error.headers,
                ),
            )
        return answer(request, Problem("malformed", "The request cannot be read."))


def _members(app: FastAPI, request: Request) -> list[str]:
    """Return what the body of the request's route may hold."""
    field = getattr(request.scope.get("route"), "body_field", None)
    model: Any = getattr(getattr(field, "field_info", None), "annotation", None)
    return list(getattr(model, "model_fields", ()))
