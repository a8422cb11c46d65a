"""Hostile bodies: whatever is sent, the answer is 4xx, or 200 to a question that is one."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from server_patient import PATIENT
from starlette.testclient import TestClient

#: Hostile bodies that must be refused.
REFUSED = 10_000
PATHS = ("diagnose", "next-tests", "plan", "explain", "uncertainty", "sensitivity")

#: Values that trip readers of numbers, texts, markup, paths, formats and dates.
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, -(2**63), 10**300, 1e308, -0.0, 5e-324, 0.1,
    "", " ", "\u0000", "\u202e", "a\nb", "'", '"', "\\", "%s%n", "{0}", "{{x}}", "${x}", "$(x)",
    "../../etc/passwd", "file:///etc/passwd", "; DROP TABLE x", "<script>alert(1)</script>",
    "NaN", "Infinity", "-inf", "1e999", "٢٤", "２４", "½", "24 10^9/L", "24 K/uL", ">", "<>", "!",
    "!!python/object", "*alias", "&anchor", "0x10", "0o10", "1_000", "12:30", "2020-02-30", "|",
    "present|absent", "!present", "not", "unknown", "none", "null", "😀" * 50, "e\u0301" * 50,
    [], [[]], [None], ["present", "absent"], ["present", 1, None], {}, {"": 1}, {"not": None},
    {"not": {"not": "present"}}, {"not": []}, {"likelihood": None}, {"likelihood": {}},
    {"likelihood": {"present": -1, "absent": 0}}, {"likelihood": {"present": 1e308, "absent": 1}},
    {"likelihood": {"present": 0, "absent": 0}}, {"value": None}, {"value": {}, "unit": []},
    {"value": 1, "unit": "parsec"}, {"state": "present", "value": "x"}, {"value": 10**40},
    {"value": 1, "lower_limit": 5, "upper_limit": 2}, {"comparator": ">", "value": "x"},
    {"__proto__": {}}, {"constructor": 1},
)  # fmt: skip


class Fuzzer:
    """Makes bodies, the same ones for the same seed."""

    def __init__(self, names: list[str], seed: int) -> None:
        self.random = random.Random(seed)
        self.names = names

    def value(self, depth: int = 0) -> Any:
        """Return a hostile value, sometimes nested."""
        if depth < 3 and self.random.random() < 0.15:
            inner = [self.value(depth + 1) for _ in range(self.random.randrange(4))]
            return inner if self.random.random() < 0.5 else dict(zip("abcd", inner, strict=False))
        return self.random.choice(HOSTILE)

    def name(self) -> str:
        """Return a name: known, damaged, or hostile."""
        name = self.random.choice(self.names)
        roll = self.random.random()
        if roll < 0.5:
            return name
        if roll < 0.8:
            at = self.random.randrange(len(name))
            return name[:at] + chr(self.random.randrange(1, 0x500)) + name[at + 1 :]
        return str(self.random.choice(HOSTILE))[:90]

    def evidence(self) -> dict[str, Any]:
        """Return hostile findings."""
        return {self.name(): self.value() for _ in range(self.random.randrange(1, 6))}

    def body(self) -> bytes:
        """Return a body."""
        roll = self.random.random()
        if roll < 0.5:  # findings that are not
            return json.dumps({"evidence": self.evidence()}).encode()
        if roll < 0.75:  # options that are not
            known = ["evidence", "by", "target", "draws", "cause", "scenario", "cause_mix", "top"]
            wrong = {self.random.choice([*known, self.name()]): self.value() for _ in range(3)}
            return json.dumps({"evidence": PATIENT, **wrong}).encode()
        body = bytearray(json.dumps({"evidence": {**PATIENT, **self.evidence()}}).encode())
        for _ in range(self.random.randrange(1, 5)):  # bytes that are not
            at = self.random.randrange(len(body))
            action = self.random.randrange(3)
            if action == 0:
                body[at] = self.random.randrange(256)
            elif action == 1:
                del body[at : at + self.random.randrange(1, 9)]
            else:
                body[at:at] = bytes(self.random.randrange(256) for _ in range(3))
            if not body:
                break
        return bytes(body)


@pytest.mark.slow
def test_ten_thousand_hostile_bodies_are_refused_and_none_breaks_the_server(
    app: FastAPI, client: TestClient
) -> None:
    """No body gives 5xx or no answer; refusals are problem documents of one short sentence."""
    model = app.state.service.shelf.main
    fuzzer = Fuzzer([*model.variables, "wbc", "hb"], seed=7)
    # Questions that are fine are answered too: the cheap ones, to keep the test short.
    cheap = {"diagnose": ', "next_tests": false, "intervals": false}'}
    counts: dict[int, int] = {}

    async def attack() -> None:
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            number = 0
            while sum(n for status, n in counts.items() if status != 200) < REFUSED:
                number += 1
                body = fuzzer.body()
                path = PATHS[number % len(PATHS)] if number % 10 == 0 else "diagnose"
                if path != "diagnose" and b'"evidence"' in body:
                    # Only what is no question at all: answers here take seconds.
                    body = body.replace(b'"evidence"', b'"evidenc\xc3\xa9"')
                elif body.endswith(b"}"):
                    body = body[:-1] + cheap["diagnose"].encode()
                reply = await http.post(
                    f"/v1/{path}", content=body, headers={"Content-Type": "application/json"}
                )
                counts[reply.status_code] = counts.get(reply.status_code, 0) + 1
                assert reply.status_code < 500, (path, body, reply.text)
                if reply.status_code != 200:
                    assert reply.headers["content-type"] == "application/problem+json"
                    detail = reply.json()["detail"]
                    assert detail and len(detail) < 3000, (body, detail)
                    assert "Traceback" not in detail

    portal: Any = client.portal
    portal.call(attack)
    assert set(counts) <= {200, 400, 413, 422}
    assert counts[400] > 500
    assert counts[422] > 5000
    # Afterwards it answers as before.
    reply = client.post("/v1/explain", json={"evidence": PATIENT})
    assert reply.status_code == 200
