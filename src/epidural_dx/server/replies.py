"""Replies that can be reproduced: the model's digest and an ETag on each, and a small memory."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from epidural_dx.server.problems import Problem

#: Largest memory of answers, in bytes.
MOST_BYTES = 64 * 1024 * 1024


def dump(document: Any) -> bytes:
    """Write a document as compact JSON."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def etag(model_digest: str, *question: object) -> str:
    """Return the entity tag: digest of the model, and of the question with all its options."""
    asked = json.dumps(question, separators=(",", ":"), default=str).encode()
    return f'"{model_digest[:16]}-{hashlib.sha256(asked).hexdigest()[:24]}"'


def is_held(request: Request, tag: str) -> bool:
    """Whether the client says that it holds the answer with this tag (RFC 9110, 13.1.2)."""
    given = request.headers.get("if-none-match", "")
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in given.split(","))


def check_held(request: Request, tag: str) -> None:
    """Refuse a question whose answer the client holds: 412 for POST.

    Raises
    ------
    Problem
    """
    if is_held(request, tag):
        raise Problem("unchanged", "The answer is the one that you hold.", headers={"ETag": tag})


def reply(body: bytes, model_digest: str, tag: str, *, private: bool = True) -> Response:
    """Return a JSON answer with its digests.

    Parameters
    ----------
    body : bytes
    model_digest : str
    tag : str
    private : bool
        An answer about a patient, which nobody may store; else it may be kept and asked for anew.
    """
    return Response(
        body,
        media_type="application/json",
        headers={
            "ETag": tag,
            "Model-Digest": model_digest,
            "Cache-Control": "no-store" if private else "no-cache",
        },
    )


def unchanged(tag: str, model_digest: str) -> Response:
    """Return 304 for a listing that the client holds."""
    return Response(status_code=304, headers={"ETag": tag, "Model-Digest": model_digest})


def described(document: type[BaseModel], *, lines: bool = False) -> dict[int | str, dict[str, Any]]:
    """Describe the replies of a route for OpenAPI: the document, or a problem."""
    ok: dict[str, Any] = {
        "model": document,
        "description": "The answer.",
        "headers": {
            "ETag": {"schema": {"type": "string"}},
            "Model-Digest": {
                "description": "SHA-256 of networks, priors and options.",
                "schema": {"type": "string"},
            },
        },
    }
    if lines:
        ok["content"] = {"application/x-ndjson": {"schema": {"type": "string"}}}
    return {200: ok}


class Memory:
    """Keeps the last answers by tag; the tag holds the digests of model and question.

    Parameters
    ----------
    most : int
        Answers kept; 0 keeps none.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.bytes = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, tag: str) -> bytes | None:
        """Return an answer, or None."""
        with self._lock:
            found = self._kept.get(tag)
            if found is not None:
                self._kept.move_to_end(tag)
            return found

    def put(self, tag: str, body: bytes) -> None:
        """Keep an answer; the oldest make room."""
        if self.most == 0 or len(body) > MOST_BYTES // 16:
            return
        with self._lock:
            self.bytes += len(body) - len(self._kept.pop(tag, b""))
            self._kept[tag] = body
            while len(self._kept) > self.most or self.bytes > MOST_BYTES:
                _, dropped = self._kept.popitem(last=False)
                self.bytes -= len(dropped)
