"""Structured logs: one JSON object per line, with a request id, never with what was asked."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

logger = logging.getLogger("epidural_dx.server")


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON.

    Of an exception only its class and the places in the code are written: its message, and the
    values in its frames, may hold findings of a patient.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        entry.update(getattr(record, "members", {}))
        if record.exc_info and record.exc_info[1] is not None:
            entry["error"] = type(record.exc_info[1]).__name__
            entry["places"] = places(record.exc_info[2])
        return json.dumps(entry, ensure_ascii=False)


def places(trace: TracebackType | None) -> list[str]:
    """Return file, line and function of every frame, the innermost last, without values."""
    return [
        f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(trace, limit=-12)
    ]


def log(event: str, level: int = logging.INFO, *, error: bool = False, **members: Any) -> None:
    """Write one event."""
    logger.log(level, event, extra={"members": members}, exc_info=error)


def set_up(level: str) -> None:
    """Send the events of this package, of uvicorn and of libraries to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("epidural_dx.server", "uvicorn", "uvicorn.error"):
        one = logging.getLogger(name)
        one.handlers = [handler] if name != "uvicorn.error" else []
        one.setLevel(level.upper())
        one.propagate = name == "uvicorn.error"
    # What libraries report would else be written with its message, which may hold findings.
    logging.getLogger().handlers = [handler]
    # Uvicorn's access log repeats the path with its query; ours names the route.
    logging.getLogger("uvicorn.access").disabled = True
