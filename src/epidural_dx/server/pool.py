"""A bounded pool of threads: so many questions at a time, so many waiting, no more."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from epidural_dx.server.metrics import Metrics
from epidural_dx.server.problems import Problem

T = TypeVar("T")


class Pool:
    """Computes questions in threads.

    Numba's kernels let go of the interpreter lock, so that threads overlap as far as a question
    is arithmetic.

    Parameters
    ----------
    threads : int
        Questions computed at the same time.
    waiting : int
        Questions that may wait besides.
    seconds : float
        Longest time for one question, waiting included.
    metrics : Metrics
    """

    def __init__(self, threads: int, waiting: int, seconds: float, metrics: Metrics) -> None:
        self.threads = threads
        self.places = threads + waiting
        self.seconds = seconds
        self.taken = 0
        self._metrics = metrics
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="epidural-dx")

    async def run(self, work: Callable[[], T], *, patiently: bool = False) -> T:
        """Compute something in a thread.

        Parameters
        ----------
        work : callable
        patiently : bool
            Wait for a place where none is free: the rest of a batch that has begun.

        Raises
        ------
        Problem
            No place is free, or it took too long. A question that no thread has begun is then
            forgotten; one that has begun keeps its place until it ends, because a thread cannot
            be stopped.
        """
        deadline = time.monotonic() + self.seconds
        while patiently and self.taken >= self.places and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        if self.taken >= self.places:
            self._metrics.refused.labels("busy").inc()
            raise Problem(
                "busy",
                f"All {self.places} places for questions are taken.",
                retry_after=self.retry_after(),
            )
        loop = asyncio.get_running_loop()
        self._take(1)
        try:
            job = self._executor.submit(work)
        except RuntimeError:
            self._take(-1)
            raise Problem("busy", "The server is shutting down.", retry_after=5) from None

        def free(_: Future[T]) -> None:
            # Called from the thread that ran it, or from here when it is cancelled.
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._take, -1)

        job.add_done_callback(free)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), self.seconds)
        except TimeoutError:
            self._metrics.refused.labels("too-slow").inc()
            raise Problem(
                "too-slow",
                f"The question was given up after {self.seconds:g} s.",
                retry_after=self.retry_after(),
            ) from None

    def retry_after(self) -> int:
        """Return seconds after which a place is likely free: a rough, bounded guess."""
        return max(1, min(30, math.ceil(self.taken / self.threads * 0.25)))

    def close(self) -> None:
        """Let running questions finish and forget those that wait."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _take(self, number: int) -> None:
        self.taken += number
        self._metrics.places.set(self.taken)
