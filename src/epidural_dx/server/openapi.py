"""The OpenAPI description: FastAPI's, with problem details in place of its own errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from epidural_dx.documents.questions import BatchQuestion
from epidural_dx.documents.schema import SCHEMA_VERSION, ProblemDocument
from epidural_dx.server.problems import KINDS, MEDIA_TYPE
from epidural_dx.server.settings import Settings

#: Problems that every route may answer with, and those of questions besides.
ALWAYS = (400, 401, 404, 405, 421, 500, 503)
QUESTIONS = (408, 412, 413, 415, 422)


def describe(app: FastAPI, settings: Settings) -> None:
    """Let the application describe itself, once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app, settings)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _described(app: FastAPI, settings: Settings) -> dict[str, Any]:
    found = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    found["info"]["x-schema-version"] = SCHEMA_VERSION
    found["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    _, definitions = models_json_schema(
        [(ProblemDocument, "serialization"), (BatchQuestion, "validation")],
        ref_template="#/components/schemas/{model}",
    )
    schemas.update(definitions["$defs"])
    for path in found["paths"].values():
        for operation in path.values():
            _add_problems(operation)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    if settings.token is not None:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found


def _add_problems(operation: dict[str, Any]) -> None:
    """Say which problems an operation may answer with."""
    titles: dict[int, str] = {}
    for status, title in KINDS.values():
        titles.setdefault(status, title)
    body = "requestBody" in operation
    takes = body or operation.get("parameters")
    statuses = {*ALWAYS, *(QUESTIONS if body else ()), *((422,) if takes else ())}
    if not body and "422" in operation["responses"] and 422 not in statuses:
        del operation["responses"]["422"]
    for status in sorted(statuses):
        operation["responses"][str(status)] = {
            "description": titles[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
    if not body:
        operation["responses"]["304"] = {"description": "The listing is the one that you hold."}
