"""One warm server in this process for all tests of its behaviour."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from server_patient import wait_until_ready
from starlette.testclient import TestClient

from epidural_dx.server import Settings, create_app


@pytest.fixture(scope="session")
def app() -> FastAPI:
    """Make an application as ``serve`` does, reached under the test client's name."""
    return create_app(Settings(hosts=("testserver",)))


@pytest.fixture(scope="session")
def client(app: FastAPI) -> Iterator[TestClient]:
    """Give a client of the warm application."""
    with TestClient(app, raise_server_exceptions=False) as one:
        wait_until_ready(one)
        yield one
