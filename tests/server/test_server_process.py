"""The command ``serve`` as a process: started, stopped, killed, with several workers."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from served_process import Served, serving
from server_patient import PATIENT

pytestmark = pytest.mark.slow

#: Takes about a second: long enough to be interrupted.
LONG = ("/v1/plan", {"evidence": PATIENT})


def in_background(served: Served, outcome: dict[str, Any]) -> threading.Thread:
    """Ask the long question in a thread; its answer, or the error, goes into `outcome`."""

    def ask() -> None:
        try:
            outcome["status"], outcome["answer"] = served.ask(*LONG)
        except Exception as error:
            outcome["error"] = error

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def wait_until_computing(served: Served) -> None:
    """Wait until a question has a place."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if re.search(r"^epidural_dx_places_taken [1-9]", served.ask("/metrics")[1], re.M):
            return
        time.sleep(0.005)
    raise AssertionError("the question did not begin")


def test_shutdown_finishes_the_question_in_flight(tmp_path: Path) -> None:
    """After SIGTERM the question that computes is answered whole, new ones are not taken."""
    with serving(tmp_path, "--remember", "0") as served:
        outcome: dict[str, Any] = {}
        thread = in_background(served, outcome)
        wait_until_computing(served)
        served.process.send_signal(signal.SIGTERM)
        thread.join(60)
        assert outcome["status"] == 200, outcome
        assert outcome["answer"]["stopping"]["sentence"]
        assert served.process.wait(60) in (0, -signal.SIGTERM)
        assert "stopped" in served.log.read_text()
        with pytest.raises(ConnectionError):
            served.ask("/healthz")


def test_killed_in_mid_request_it_starts_again_and_answers_the_same(tmp_path: Path) -> None:
    """SIGKILL gives the client a clean connection error; the next server on the port is whole."""
    with serving(tmp_path) as served:
        _, before = served.ask("/v1/explain", {"evidence": PATIENT})
        outcome: dict[str, Any] = {}
        thread = in_background(served, outcome)
        wait_until_computing(served)
        os.killpg(served.process.pid, signal.SIGKILL)
        thread.join(60)
        assert isinstance(outcome["error"], (ConnectionError, http.client.HTTPException)), outcome
        served.process.wait()
    with serving(tmp_path, port=served.port) as again:
        assert again.ask("/v1/explain", {"evidence": PATIENT}) == (200, before)
        assert again.ask(*LONG)[0] == 200


def test_several_workers_answer_alike_and_count_together(tmp_path: Path) -> None:
    """Two processes give the same answers; the metrics of either are those of both."""
    with serving(tmp_path, "--workers", "2", "--threads", "1") as served:
        deadline = time.monotonic() + 120
        while "epidural_dx_ready 2.0" not in served.ask("/metrics")[1]:
            assert time.monotonic() < deadline, served.ask("/metrics")[1]
            time.sleep(0.2)
        body = {"evidence": PATIENT, "next_tests": False}
        answers = [served.ask("/v1/diagnose", body) for _ in range(12)]
        assert all(answer == answers[0] for answer in answers)
        assert answers[0][0] == 200
        pids = set(re.findall(r"Started server process \[(\d+)\]", served.log.read_text()))
        assert len(pids) == 2
        text = served.ask("/metrics")[1]
        counted = re.search(r'route="/v1/diagnose",status="200"\} ([0-9.]+)', text)
        assert counted is not None and float(counted[1]) == 12
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) in (0, -signal.SIGTERM)


def test_logs_of_the_command_are_json_lines_without_findings(tmp_path: Path) -> None:
    """Everything on standard error is JSON; standard output says where to look."""
    with serving(tmp_path) as served:
        served.ask("/v1/diagnose", {"evidence": {"platelets": "31.4159 10^9/L"}})
        served.ask("/v1/diagnose?x=31.4159", {"evidence": {"x31.4159": 1}})
        served.process.send_signal(signal.SIGINT)
        served.process.wait(60)
        assert served.process.stdout is not None
        told = served.process.stdout.read()
        lines = [json.loads(line) for line in served.log.read_text().splitlines()]
    assert f"http://127.0.0.1:{served.port}/" in told
    assert {"ready", "request", "stopped"} <= {line["event"] for line in lines}
    assert "31.4159" not in served.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "needs a bearer token"),
        (["--workers", "0"], "1 to 64"),
        (["--threads", "0"], "more than 0"),
        (["--waiting", "-1"], "at least 0"),
        (["--seconds", "nan"], "more than 0"),
        (["--port", "70000"], "0 to 65535"),
        (["--scenario", "chld"], "chld"),
        (["--token-file", "no such file"], "cannot be read"),
        (["--log-level", "loud"], "loud"),
        (["--allow-origin", "*"], "name every origin"),
        (["--host", "192.0.2.77", "--token-file", "TOKEN"], "cannot listen on 192.0.2.77"),
        (["--priors", "no such folder"], "no such folder"),
    ],
)
def test_wrong_options_are_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    """A wrong option ends with exit code 2 and one clear line, before anything listens."""
    from epidural_dx.cli import main

    monkeypatch.delenv("EPIDURAL_DX_TOKEN", raising=False)
    token = tmp_path / "token"
    token.write_text("0123456789abcdef-for-tests\n")
    with pytest.raises(SystemExit) as left:
        main(["serve", *(str(token) if a == "TOKEN" else a for a in arguments)])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert words in error
    assert len(error.strip().splitlines()) == 1


def test_a_taken_port_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """A port that another program has is named."""
    from epidural_dx.cli import main

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SystemExit) as left:
            main(["serve", "--port", str(port)])
    assert left.value.code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err
