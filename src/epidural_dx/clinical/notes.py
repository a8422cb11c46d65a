"""Notes on how findings were read."""

from __future__ import annotations

__all__ = ["RoutineNote"]


class RoutineNote(str):
    """A note on another name, another spelling or a plain conversion of units.

    All other notes tell of a choice that whoever gave the findings should look at.
    """

    __slots__ = ()
