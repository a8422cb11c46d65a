"""Run the server: one process or several, until it is told to stop."""

from __future__ import annotations

import os
import socket
import sys
import tempfile

import uvicorn

from epidural_dx.errors import ModelError
from epidural_dx.server.logs import set_up
from epidural_dx.server.settings import Settings


def serve(settings: Settings, workers: int = 1) -> None:
    """Serve until SIGINT or SIGTERM; questions that are being answered are finished first.

    Parameters
    ----------
    settings : Settings
    workers : int
        Processes; each loads the model.

    Raises
    ------
    ModelError
        The place to listen cannot be had.
    """
    check_place(settings.host, settings.port)
    os.environ.update(settings.to_environment())
    set_up(settings.log_level)
    # Standard output is for people, standard error for the log.
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"epidural-dx listens on http://{host}:{settings.port}/ (Ctrl+C stops it)")
    print("For research and teaching. Not a medical device; it must not guide treatment.")
    sys.stdout.flush()
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
            ws="none",
            h11_max_incomplete_event_size=64 * 1024,
            timeout_graceful_shutdown=int(settings.seconds) + 1,
        )


def check_place(host: str, port: int) -> None:
    """Refuse an address that does not exist here, or a port that is taken.

    Raises
    ------
    ModelError
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no such address"
        raise ModelError(f"cannot listen on {host}:{port} ({reason})") from None
