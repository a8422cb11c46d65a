"""Run the server: one process or several, until it is told to stop."""

from __future__ import annotations

import os
import tempfile

import uvicorn

from epidural_dx.server.logs import set_up
from epidural_dx.server.settings import Settings


def serve(settings: Settings, workers: int = 1) -> None:
    """Serve until SIGINT or SIGTERM; questions that are being answered are finished first.

    Parameters
    ----------
    settings : Settings
    workers : int
        Processes; each loads the model.
    """
    os.environ.update(settings.to_environment())
    set_up(settings.log_level)
    with tempfile.TemporaryDirectory(prefix="epidural-dx-") as folder:
        if workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        uvicorn.run(
            "epidural_dx.server.app:from_environment",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=workers,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=int(settings.seconds) + 1,
            h11_max_incomplete_event_size=64 * 1024,
            ws="none",
        )
