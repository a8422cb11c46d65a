"""What the routes of one server share."""

from __future__ import annotations

from dataclasses import dataclass

from epidural_dx.model import Model
from epidural_dx.server.metrics import Metrics
from epidural_dx.server.pool import Pool
from epidural_dx.server.replies import Memory
from epidural_dx.server.settings import Settings
from epidural_dx.server.shelf import Shelf


@dataclass(frozen=True)
class Service:
    """The parts of one server."""

    settings: Settings
    metrics: Metrics
    shelf: Shelf
    pool: Pool
    memory: Memory

    def model(self) -> Model:
        """Return the model of the server's own scenario.

        Raises
        ------
        Problem
            It is not ready yet.
        """
        return self.shelf.main


def make_service(settings: Settings) -> Service:
    """Make the parts of a server."""
    metrics = Metrics()
    return Service(
        settings,
        metrics,
        Shelf(settings),
        Pool(settings.threads, settings.waiting, settings.seconds, metrics),
        Memory(settings.remembered),
    )
