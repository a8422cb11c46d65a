"""What one run of the command line leaves, and where the published patients lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CASES = ROOT / "cases"


@dataclass(frozen=True)
class Ran:
    """What one command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Command = Callable[..., Ran]
