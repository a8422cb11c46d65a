"""Prometheus metrics: how many requests, how long, how full; never what was asked."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

#: Upper ends of the buckets of durations, in seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

MEDIA_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The metrics of one server.

    With several worker processes (``PROMETHEUS_MULTIPROC_DIR`` is set) every process reports the
    sum of all.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "epidural_dx_http_requests",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "epidural_dx_http_request_seconds",
            "Time from request to last byte.",
            ("route",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.refused = Counter(
            "epidural_dx_refused",
            "Questions refused for want of room or time.",
            ("reason",),
            registry=self.registry,
        )
        self.remembered = Counter(
            "epidural_dx_remembered_answers",
            "Questions answered from memory.",
            registry=self.registry,
        )
        self.places = Gauge(
            "epidural_dx_places_taken",
            "Questions computing or waiting.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.ready = Gauge(
            "epidural_dx_ready",
            "Processes whose model is loaded and warm.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Return the exposition text."""
        registry = self.registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
