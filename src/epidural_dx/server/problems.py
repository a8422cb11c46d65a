"""Errors as RFC 9457 problem details, with the sentence that the command line prints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import EpiduralDxError, EvidenceError, ImpossibleEvidenceError, ModelError

#: Media type of a problem.
MEDIA_TYPE = "application/problem+json"
#: A value is echoed up to this many characters.
ECHO = 200

#: Kind of problem: status and title.
KINDS: Mapping[str, tuple[int, str]] = {
    "malformed": (400, "The body is not what JSON allows"),
    "unauthorized": (401, "A bearer token is needed"),
    "not-found": (404, "There is no such thing"),
    "method": (405, "The method is not allowed here"),
    "timeout-of-client": (408, "The body did not arrive in time"),
    "unchanged": (412, "The answer is the one that you hold"),
    "precondition": (412, "Data that the service needs are missing"),
    "too-large": (413, "The body is too large"),
    "media-type": (415, "The body must be JSON"),
    "misdirected": (421, "The server does not go by this name"),
    "request": (422, "The question has the wrong shape"),
    "evidence": (422, "A finding or option cannot be read"),
    "impossible": (422, "The findings cannot occur together"),
    "failure": (500, "The server failed"),
    "busy": (503, "The server has no room for the question now"),
    "starting": (503, "The server is not ready yet"),
    "too-slow": (503, "The question took too long"),
}


class Problem(Exception):
    """A request that is answered with a problem document.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    detail : str
        One sentence.
    variable, value, allowed, nearest
        As in :class:`epidural_dx.errors.EvidenceError`.
    retry_after : int, optional
        Seconds until it is worth trying again.
    headers : mapping of str to str, optional
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        variable: str | None = None,
        value: object = None,
        allowed: Iterable[str] = (),
        nearest: Iterable[str] = (),
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.status, self.title = KINDS[kind]
        self.detail = detail
        self.variable = variable
        self.value = value
        self.allowed = list(allowed)
        self.nearest = list(nearest)
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)

    def as_dict(self, request_id: str | None = None) -> dict[str, Any]:
        """Return the members of the problem document."""
        document: dict[str, Any] = {
            "type": f"urn:epidural-dx:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "variable": self.variable,
            "value": _echo(self.value),
            "allowed": self.allowed,
            "nearest": self.nearest,
        }
        if request_id is not None:
            document["request_id"] = request_id
        return document

    def body(self, request_id: str | None = None) -> bytes:
        """Return the problem document as bytes."""
        return json.dumps(self.as_dict(request_id)).encode()


def from_error(error: EpiduralDxError) -> Problem:
    """Turn an error of the package into a problem with the same sentence."""
    if isinstance(error, EvidenceError):
        return Problem(
            "impossible" if isinstance(error, ImpossibleEvidenceError) else "evidence",
            str(error),
            variable=error.variable,
            value=error.value,
            allowed=error.allowed,
            nearest=error.nearest,
        )
    if isinstance(error, ModelError) and error.file in (None, "cause mix"):
        return Problem("evidence", str(error), variable=error.name)
    # A file of the server is no business of the client.
    return Problem("failure", "The model of the server cannot be used; its log says why.")


#: What pydantic's kinds of error ask for, in words.
SHAPES = {
    "model_type": "a JSON object",
    "model_attributes_type": "a JSON object",
    "dict_type": "a JSON object",
    "list_type": "a list",
    "string_type": "a text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
}


def from_validation(errors: Sequence[Mapping[str, Any]], members: Iterable[str] = ()) -> Problem:
    """Turn the first of pydantic's errors into one sentence.

    Parameters
    ----------
    errors : sequence of mapping
        ``loc``, ``type``, ``msg`` and ``input`` of each.
    members : iterable of str
        What the body may hold, for members that it may not.
    """
    # A misspelt member also makes the right one missing: the misspelling is the news.
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    place = [str(part) for part in first["loc"] if part != "body"]
    name = ".".join(place) or None
    value = first.get("input")
    allowed: Sequence[str] = ()
    close: Sequence[str] = ()
    if first["type"] == "extra_forbidden":
        allowed = tuple(members) if len(place) == 1 else ()
        close = nearest(place[-1], allowed, 1)
        value = None
        problem = "is no member of the question"
    elif first["type"] == "missing":
        problem, value = "is missing", None
    elif first["type"] == "literal_error":
        allowed = [part.strip("' ") for part in _expected(first).split(",") if part]
        close = nearest(str(value), allowed, 1) if isinstance(value, str) else ()
        problem = f"{_echo(value)!r} is not allowed"
    elif first["type"] in SHAPES:
        problem = f"must be {SHAPES[first['type']]}"
    else:
        message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
        problem = message[:1].lower() + message[1:]
    if name is None:
        problem = f"The body {problem}"
    error = EvidenceError(problem, variable=name, value=value, allowed=allowed, nearest=close)
    return Problem(
        "request", str(error), variable=name, value=value, allowed=allowed, nearest=close
    )


def _expected(error: Mapping[str, Any]) -> str:
    return str((error.get("ctx") or {}).get("expected", "")).replace(" or ", ",")


def _echo(value: object) -> Any:
    """Return a value short enough to be sent back."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if abs(value) < 1e15 else str(value)[:ECHO]
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= ECHO else text[: ECHO - 1] + "…"
