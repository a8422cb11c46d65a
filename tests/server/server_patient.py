"""A patient to ask about, and a wait until the server is warm."""

from __future__ import annotations

import time
from typing import Any

import httpx2
from starlette.testclient import TestClient

#: Findings whose spelling occurs nowhere else: a log that holds one of them tells on a patient.
PATIENT: dict[str, Any] = {
    "age_years": 67,
    "sex": "male",
    "back_pain": "present",
    "platelets": "24.125 10^9/L",
    "enhancement": {"not": "rim"},
    "t1_signal": ["iso", "hypo"],
}


def wait_until_ready(client: TestClient, seconds: float = 300) -> None:
    """Wait until the model is loaded and warm."""
    deadline = time.monotonic() + seconds
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline, "the server did not become ready"
        time.sleep(0.1)


def ask(
    client: TestClient, path: str, body: Any, headers: dict[str, str] | None = None
) -> httpx2.Response:
    """Ask a question."""
    return client.post(f"/v1/{path}", json=body, headers=headers)
