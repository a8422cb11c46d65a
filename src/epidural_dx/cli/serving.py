"""``serve``: answer over HTTP."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from epidural_dx.cli.output import waiting
from epidural_dx.errors import CaseError, ModelError

#: Processes at most.
MOST_WORKERS = 64


def run(*, token_file: Path | None, workers: int, **options: Any) -> None:
    """Serve until told to stop.

    Raises
    ------
    EpiduralDxError
        A wrong option, a missing token or extra, or networks and priors that cannot be read.
    """
    try:
        from epidural_dx.server.serving import serve
        from epidural_dx.server.settings import TOKEN, Settings
    except ImportError as error:
        raise ModelError(
            f"serve needs the extra 'server' ({error.name} is missing): "
            "pip install 'epidural-dx[server]'"
        ) from None
    from epidural_dx.model import load_model

    if not 1 <= workers <= MOST_WORKERS:
        raise ModelError(f"must be 1 to {MOST_WORKERS}, got {workers}", name="--workers")
    token = os.environ.get(TOKEN) or None
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not UTF-8 text"
            raise CaseError(f"cannot be read ({reason})", where=str(token_file)) from None
    settings = Settings(token=token, **options)
    # Compiled once here, so that a wrong file is one sentence and every worker finds it compiled.
    with waiting("Compiling the model (once for every change of networks and priors)"):
        load_model(settings.networks, settings.priors, settings.scenario, backend="numpy")
    if sys.stderr.isatty():  # elsewhere every line is a log record
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        print(f"The page is at http://{host}:{settings.port}/ (Ctrl+C stops it)", file=sys.stderr)
    serve(settings, workers)
