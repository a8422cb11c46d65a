"""The model over HTTP: an ASGI application for other front ends (extra ``server``)."""

from __future__ import annotations

from epidural_dx.server.app import create_app
from epidural_dx.server.settings import Settings

__all__ = ["Settings", "create_app"]
