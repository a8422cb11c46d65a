"""The OpenAPI description is true: schemathesis makes questions from it, and no answer is wrong."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from epidural_dx.server import Settings, create_app

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
#: Operations whose answers take seconds get fewer questions.
SLOW = r"/v1/(next-tests|plan|explain|uncertainty|sensitivity)"


@schemathesis.serializer("application/x-ndjson")
def send_lines(_: Any, value: Any) -> bytes:
    """Send text as it is."""
    return str(value).encode(errors="replace")


described: Any = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
limits: dict[str, Any] = {
    "phases": [Phase.explicit, Phase.generate],
    "suppress_health_check": list(HealthCheck),
    "derandomize": True,
    "database": None,
    "deadline": None,
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve in a thread of this process and give the address once it is warm."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = uvicorn.Config(
        create_app(Settings(seconds=1800)), port=port, log_config=None, access_log=False, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    base = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"{base}/readyz").close()
            break
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "the server did not become ready"
            time.sleep(0.1)
    yield base
    server.should_exit = True
    thread.join()


@described.exclude(path_regex=SLOW).parametrize()
@settings(max_examples=25, **limits)
def test_questions_made_from_the_description_get_described_answers(case: Any, address: str) -> None:
    """Right and wrong questions get a status, type and shape that the description names."""
    case.validate_response(case.call(base_url=address, timeout=1800), checks=CHECKS)


@pytest.mark.slow
@described.include(path_regex=SLOW).parametrize()
@settings(max_examples=8, **limits)
def test_slow_questions_made_from_the_description_get_described_answers(
    case: Any, address: str
) -> None:
    """As above, for the questions that rank, plan or draw."""
    case.validate_response(case.call(base_url=address, timeout=1800), checks=CHECKS)
