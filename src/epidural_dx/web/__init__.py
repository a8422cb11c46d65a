"""The page that ``epidural-dx serve`` shows: plain HTML, style sheets and ES modules.

It holds no probability: everything it shows it asks of the HTTP interface beside it.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["STATIC"]

#: Folder of the files that are served at ``/``.
STATIC = Path(__file__).parent / "static"
