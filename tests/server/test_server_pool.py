"""Under more load than it takes the server refuses, and keeps its places in order."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from fastapi import FastAPI
from server_patient import PATIENT, ask
from starlette.testclient import TestClient
from threadpoolctl import threadpool_info

from epidural_dx.server.metrics import Metrics
from epidural_dx.server.pool import Pool
from epidural_dx.server.problems import Problem
from epidural_dx.server.replies import Memory


def test_more_questions_than_places_are_refused_at_once() -> None:
    """One computes, one waits, the third is refused with a time to come back; then all is free."""
    go = threading.Event()

    async def scene() -> None:
        pool = Pool(1, 1, 30, Metrics())
        first = asyncio.create_task(pool.run(lambda: go.wait(10)))
        second = asyncio.create_task(pool.run(lambda: "second"))
        await asyncio.sleep(0.05)
        with pytest.raises(Problem) as refused:
            await pool.run(lambda: "third")
        assert refused.value.status == 503
        assert int(refused.value.headers["Retry-After"]) >= 1
        go.set()
        assert await second == "second"
        assert await first
        await asyncio.sleep(0.05)
        assert pool.taken == 0
        assert await pool.run(lambda: "fourth") == "fourth"
        pool.close()

    asyncio.run(scene())


def test_a_question_that_takes_too_long_is_given_up_and_keeps_its_place_until_it_ends() -> None:
    """The client hears 503 in time; the thread's place is free only when the thread is."""
    go = threading.Event()

    async def scene() -> None:
        pool = Pool(1, 5, 0.1, Metrics())
        with pytest.raises(Problem) as slow:
            await pool.run(lambda: go.wait(10))
        assert slow.value.kind == "too-slow"
        begun: list[str] = []
        with pytest.raises(Problem):
            await pool.run(lambda: begun.append("waited in vain"))
        await asyncio.sleep(0.05)  # its place is given back in the loop's next round
        assert pool.taken == 1  # the one that waited has left, the one that computes has not
        go.set()
        await asyncio.sleep(0.1)
        assert (pool.taken, begun) == (0, [])
        pool.close()

    asyncio.run(scene())


def test_a_batch_that_has_begun_waits_for_a_place() -> None:
    """The rest of a batch is not refused when others take the places in between."""
    go = threading.Event()

    async def scene() -> None:
        pool = Pool(1, 0, 30, Metrics())
        first = asyncio.create_task(pool.run(lambda: go.wait(10)))
        await asyncio.sleep(0.05)
        rest = asyncio.create_task(pool.run(lambda: "rest", patiently=True))
        await asyncio.sleep(0.1)
        assert not rest.done()
        go.set()
        assert await rest == "rest"
        assert await first
        pool.close()

    asyncio.run(scene())


def test_an_error_frees_its_place() -> None:
    """A question that fails leaves no place taken."""

    async def scene() -> None:
        pool = Pool(1, 0, 30, Metrics())
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await pool.run(lambda: 1 / 0)
            await asyncio.sleep(0.01)
        assert pool.taken == 0
        pool.close()

    asyncio.run(scene())


def test_a_full_server_answers_503_and_its_probes_go_on(app: FastAPI, client: TestClient) -> None:
    """With every place taken questions are refused with Retry-After; probes and metrics answer."""
    service = app.state.service
    go = threading.Event()
    portal: Any = client.portal
    held = [
        portal.start_task_soon(service.pool.run, lambda: go.wait(30))
        for _ in range(service.pool.places)
    ]
    deadline = time.monotonic() + 10
    while service.pool.taken < service.pool.places and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        reply = ask(client, "diagnose", {"evidence": {"age_years": 33.25}})
        assert reply.status_code == 503
        assert reply.json()["type"] == "urn:epidural-dx:problem:busy"
        assert 1 <= int(reply.headers["retry-after"]) <= 30
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200
        metrics = client.get("/metrics").text
        assert f"epidural_dx_places_taken {float(service.pool.places)}" in metrics
        assert 'epidural_dx_refused_total{reason="busy"}' in metrics
    finally:
        go.set()
        for one in held:
            one.result(30)
    reply = ask(client, "diagnose", {"evidence": {"age_years": 33.25}, "next_tests": False})
    assert reply.status_code == 200


def test_questions_at_the_same_time_get_their_own_answers(client: TestClient) -> None:
    """Many threads asking different things at once each get the answer to what they asked."""
    bodies = [
        {
            "evidence": {**PATIENT, "age_years": 20 + i, "fever": "present" if i % 2 else "absent"},
            "next_tests": False,
            "intervals": i % 3 == 0,
        }
        for i in range(24)
    ]
    alone = [ask(client, "diagnose", body).json() for body in bodies]
    together: dict[int, Any] = {}

    def one(i: int) -> None:
        # Another member than before, so that the answer does not come from memory.
        body = {**bodies[i], "scenario": "general_adult"}
        together[i] = ask(client, "diagnose", body).json()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(len(bodies))] == alone


def test_a_question_takes_one_thread_of_matrix_products(client: TestClient) -> None:
    """Questions run beside one another, so none spreads over the processors of the others."""
    client.get("/readyz")
    blas = [one for one in threadpool_info() if one["user_api"] == "blas"]
    assert blas
    assert {one["num_threads"] for one in blas} == {1}


def test_metrics_count_requests_by_route(client: TestClient) -> None:
    """Routes are counted by their pattern, so that no name of a client's makes a new series."""
    for name in ("platelets", "inr", "crp"):
        client.get(f"/v1/variables/{name}")
    client.request("BREW", "/healthz")
    text = client.get("/metrics").text
    assert 'route="/v1/variables/{name}",status="200"' in text
    assert "/v1/variables/inr" not in text
    assert "BREW" not in text


def test_memory_is_bounded_and_gives_the_newest() -> None:
    """Beyond its size the oldest answers go; large ones are never kept."""
    memory = Memory(2)
    memory.put("a", b"1")
    memory.put("b", b"22")
    assert memory.get("a") == b"1"  # used again, so b is now the oldest
    memory.put("c", b"333")
    assert memory.get("b") is None
    assert (memory.get("a"), memory.get("c"), memory.bytes) == (b"1", b"333", 4)
    memory.put("d", b"x" * (5 * 1024 * 1024))
    assert memory.get("d") is None
    nothing = Memory(0)
    nothing.put("a", b"1")
    assert nothing.get("a") is None
