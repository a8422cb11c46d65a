"""What every request passes: an id, a log line, security headers, the token, limits, strict JSON.

Pure ASGI, so that streamed answers stay streams.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from epidural_dx.server import strict_json
from epidural_dx.server.logs import log
from epidural_dx.server.metrics import Metrics
from epidural_dx.server.problems import MEDIA_TYPE, Problem
from epidural_dx.server.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Sent with every answer. No inline script or style, nothing from elsewhere, no frame around.
SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        b"form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)

#: Answered without a token: they say nothing about patients.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_LINES = ("application/x-ndjson", "application/jsonl", "application/ndjson")


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header of the request, or None where it is missing."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def media_type(scope: Scope) -> str:
    """Return the media type of the body, without parameters."""
    return (header(scope, b"content-type") or "").split(";")[0].strip().lower()


def is_lines(kind: str) -> bool:
    """Whether a media type means one JSON text per line."""
    return kind in _LINES


class Passage:
    """Outermost: gives a request its id, writes the log line and the metrics, catches all errors.

    Parameters
    ----------
    app : ASGI application
    metrics : Metrics
    """

    def __init__(self, app: App, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        given = header(scope, b"x-request-id") or ""
        request_id = given if _REQUEST_ID.match(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        size = 0

        async def send_marked(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {key.lower() for key, _ in message.get("headers", ())}
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode()),
                    *(pair for pair in SECURITY_HEADERS if pair[0] not in present),
                ]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, send_marked)
        except Exception as error:
            if not isinstance(error, Problem):
                log("failure", logging.ERROR, error=True, request_id=request_id)
                error = Problem("failure", "The server failed; its log names the request.")
            if status == 0:
                await send_problem(send_marked, error, request_id)
        finally:
            route = getattr(scope.get("route"), "path", None) or "none"
            seconds = time.perf_counter() - began
            self.metrics.requests.labels(method_of(scope), route, str(status or 499)).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            log(
                "request",
                request_id=request_id,
                method=method_of(scope),
                route=route,
                status=status or 499,
                milliseconds=round(seconds * 1000, 1),
                bytes=size,
            )


def method_of(scope: Scope) -> str:
    """Return the method if it is one of the common ones (a client may send any text)."""
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE") else "other"


async def send_problem(send: Send, problem: Problem, request_id: str | None) -> None:
    """Answer with a problem document."""
    body = problem.body(request_id)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *((k.lower().encode(), v.encode()) for k, v in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Guard:
    """Inner: refuses foreign names, missing tokens, and bodies that are too large or no JSON.

    Parameters
    ----------
    app : ASGI application
    settings : Settings
    open_paths : callable
        Says of a path whether it is answered without a token.
    """

    def __init__(self, app: App, settings: Settings, open_paths: Callable[[str], bool]) -> None:
        self.app = app
        self.settings = settings
        self.open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check_host(scope)
            self._check_token(scope)
            if scope["method"] in ("POST", "PUT", "PATCH"):
                receive = await self._checked_body(scope, receive)
        except Problem as problem:
            await send_problem(send, problem, scope["state"].get("request_id"))
            return
        await self.app(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        """Refuse other names: a page that rebinds its name to this machine must not ask."""
        if not self.settings.is_loopback and not self.settings.hosts:
            return  # the token protects it, and it cannot know by which names it is reached
        given = (header(scope, b"host") or "").strip().lower()
        name = given[1:].split("]")[0] if given.startswith("[") else given.rsplit(":", 1)[0]
        if name not in self.settings.known_hosts:
            raise Problem(
                "misdirected",
                f"This server does not go by the name {name[:80]!r}; --allow-host adds a name.",
            )

    def _check_token(self, scope: Scope) -> None:
        token = self.settings.token
        if token is None or self.open_paths(scope["path"]):
            return
        kind, _, given = (header(scope, b"authorization") or "").partition(" ")
        same = hmac.compare_digest(given.strip().encode("latin-1"), token.encode())
        if kind.lower() != "bearer" or not same:
            raise Problem(
                "unauthorized",
                "The question needs the header Authorization: Bearer followed by the token.",
                headers={"WWW-Authenticate": 'Bearer realm="epidural-dx"'},
            )

    async def _checked_body(self, scope: Scope, receive: Receive) -> Receive:
        """Read the body within its limits and check it, then hand it on."""
        kind = media_type(scope)
        batch = scope["path"].rstrip("/").endswith("/batch/diagnose")
        # the prefetched record of a CDS Hooks call is as large as a batch
        large = batch or scope["path"].startswith("/cds-services/")
        limit = self.settings.batch_bytes if large else self.settings.body_bytes
        length = header(scope, b"content-length")
        if length is not None and length.isdigit() and int(length[:20]) > limit:
            raise _too_large(limit)
        if header(scope, b"content-encoding") not in (None, "identity"):
            raise Problem("media-type", "The body must not be compressed.")
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                body = await _read(receive, limit)
        except TimeoutError:
            raise Problem(
                "timeout-of-client",
                f"The body did not arrive within {self.settings.body_seconds:g} s.",
                headers={"Connection": "close"},
            ) from None
        is_json = kind == "application/json" or (
            kind.startswith("application/") and kind.endswith("+json")
        )
        if is_json:
            # In a thread where it takes long enough to hold up others.
            if len(body) > 64 * 1024:
                await asyncio.to_thread(strict_json.parse, body)
            else:
                strict_json.parse(body)
        elif not (batch and is_lines(kind)):
            raise Problem(
                "media-type",
                "The body must be JSON, with the header Content-Type: application/json.",
                value=kind or None,
                allowed=["application/json", *(_LINES[:1] if batch else ())],
            )
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        return replay


async def _read(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem("malformed", "The client left before its body had arrived.")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _too_large(limit: int) -> Problem:
    return Problem(
        "too-large",
        f"The body has more than {limit:,} bytes.",
        headers={"Connection": "close"},
    )
