"""Run the command ``serve`` as a process and ask it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A running server and how to ask it."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return status and answer; raises what a client would see."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            if body is None:
                connection.request("GET", path, headers=headers)
            else:
                connection.request(
                    "POST", path, json.dumps(body), {"Content-Type": "application/json", **headers}
                )
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        is_json = "json" in reply.headers["Content-Type"]
        return reply.status, json.loads(text) if is_json else text.decode()

    def wait_until_ready(self) -> None:
        """Wait for a model in one process."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                if self.ask("/readyz")[0] == 200:
                    return
            except (ConnectionError, http.client.HTTPException):
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError("the server did not become ready")


@contextmanager
def serving(folder: Path, *arguments: str, port: int | None = None) -> Iterator[Served]:
    """Run the command and wait until it is ready; kill it if it still runs at the end."""
    port = port or free_port()
    log = folder / f"log-{port}-{time.monotonic_ns()}.txt"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", "from epidural_dx.cli import main; main()",
             "serve", "--port", str(port), *arguments],
            stdout=subprocess.PIPE, stderr=stream, text=True,
            env={**os.environ, "PYTHONWARNINGS": "default"}, start_new_session=True,
        )  # fmt: skip
    served = Served(process, port, log)
    try:
        served.wait_until_ready()
        yield served
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
