"""Load the HTTP service on loopback, check every answer, and watch its memory.

    python benchmarks/server.py [--clients N] [--seconds S] [--requests N] [--write docs/server.md]

Starts `epidural-dx serve` by itself. Three parts:

1. *diagnose + next tests* (`POST /v1/diagnose`: posterior, intervals, ranked tests) by N clients at
   once for S seconds, with one worker and with two, the server's memory of answers switched off.
   Questions are the published patients stage by stage, each with the age in years varied. Every
   answer is compared with what the Python interface answers in this process; a refusal (503) is
   counted, not repeated. One client alone gives the latency without a queue.
2. The same questions with the memory on, as a page that is used asks them, and with `wrk` if it is
   installed, for the cost of HTTP itself.
3. N different short questions (no tests, no intervals) over one connection after another, and the
   resident memory of the server as it answers them.

"CPU ms each" is the processor time of the server and its workers per answer, which other programs
on the machine hardly change, while the times on the clock are theirs too: the clients run on the
same machine, and the load average is printed beside the numbers.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import epidural_dx as edx

ROOT = Path(__file__).resolve().parents[1]
MARK = "<!-- benchmarks/server.py writes below -->"


class Server:
    """`epidural-dx serve` as a process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def ask(self, connection: http.client.HTTPConnection, path: str, body: bytes) -> Any:
        """Return status and body."""
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)

    def processes(self) -> list[Path]:
        """Return the folders of the server and its workers below /proc."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [Path(f"/proc/{pid}") for pid in (self.process.pid, *children.read_text().split())]

    def resident_mebibytes(self) -> float:
        """Return the memory of the server and its workers."""
        pages = sum(int((one / "statm").read_text().split()[1]) for one in self.processes())
        return pages * os.sysconf("SC_PAGESIZE") / 2**20

    def processor_seconds(self) -> float:
        """Return the processor time that the server and its workers have used."""
        ticks = 0
        for one in self.processes():
            fields = (one / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    """Run the server and wait until every worker is warm."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    workers = int(arguments[arguments.index("--workers") + 1]) if "--workers" in arguments else 1
    process = subprocess.Popen(
        [sys.executable, "-c", "from epidural_dx.cli import main; main()", "serve",
         "--port", str(port), "--log-level", "warning", *arguments],
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    server = Server(process, port)
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                connection = server.connect()
                connection.request("GET", "/metrics")
                if f"epidural_dx_ready {workers:.1f}" in connection.getresponse().read().decode():
                    break
            except (ConnectionError, http.client.HTTPException):
                pass
            time.sleep(0.2)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def questions(model: edx.Model, count: int) -> list[dict[str, Any]]:
    """Return findings of published patients stage by stage, the age varied."""
    found: list[dict[str, Any]] = []
    cases = [edx.read_case(path) for path in sorted((ROOT / "cases").glob("*.yaml"))]
    stages = [
        {k: v for k, v in case.evidence(name).raw.items() if not k.startswith("age")}
        for case in cases
        for name in case.stage_names
    ]
    for i in range(count):
        found.append({**stages[i % len(stages)], "age_years": 1 + (i * 7) % 95})
    return [json.loads(json.dumps(one, default=str)) for one in found]


def same(one: Any, other: Any) -> bool:
    """Whether two documents agree, numbers to 1e-9."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def hammer(
    server: Server, bodies: list[bytes], expected: list[Any], clients: int, seconds: float
) -> dict[str, Any]:
    """Let clients ask for some seconds; compare every answer."""
    lock = threading.Lock()
    times: list[float] = []
    kept: list[tuple[int, bytes]] = []
    counts = {"refused": 0, "lost": 0, "wrong": 0}
    stop = time.monotonic() + seconds

    def client(start: int) -> None:
        connection = server.connect()
        i = start
        while time.monotonic() < stop:
            began = time.perf_counter()
            try:
                status, answer = server.ask(connection, "/v1/diagnose", bodies[i % len(bodies)])
            except (OSError, http.client.HTTPException):
                with lock:
                    counts["lost"] += 1
                connection = server.connect()
                continue
            took = time.perf_counter() - began
            with lock:
                if status == 200:
                    times.append(took)
                    kept.append((i % len(bodies), answer))
                elif status == 503:
                    counts["refused"] += 1
                else:
                    counts["wrong"] += 1
            i += clients
        connection.close()

    began, used = time.monotonic(), server.processor_seconds()
    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, used = time.monotonic() - began, server.processor_seconds() - used
    # Compared afterwards, so that the comparison does not slow the clients.
    checked: dict[tuple[int, bytes], bool] = {}
    for key in kept:
        if key not in checked:
            checked[key] = same(json.loads(key[1]), expected[key[0]])
        counts["wrong"] += not checked[key]
    times.sort()
    return {
        "answers": len(times),
        "per second": len(times) / took,
        "cpu ms": 1000 * used / len(times) if times else float("nan"),
        "p50 ms": 1000 * times[len(times) // 2] if times else float("nan"),
        "p99 ms": 1000 * times[int(len(times) * 0.99)] if times else float("nan"),
        **counts,
        "load": os.getloadavg()[0],
    }


def run_wrk(server: Server, body: bytes, clients: int, seconds: float) -> str | None:
    """Return wrk's requests per second for one question, or None where it is not installed."""
    if shutil.which("wrk") is None:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f"wrk.method='POST'; wrk.body=[==[{body.decode()}]==]; "
            "wrk.headers['Content-Type']='application/json'"
        )
        script.flush()
        done = subprocess.run(
            ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "120s", "--latency",
             "-s", script.name, f"http://127.0.0.1:{server.port}/v1/diagnose"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    wanted = ("50%", "99%", "Requests/sec", "Non-2xx", "Socket errors")
    return "; ".join(line for line in lines if line.startswith(wanted))


def watch_memory(
    server: Server, evidence: list[dict[str, Any]], requests: int
) -> list[tuple[int, float]]:
    """Ask many short questions, every one different, and read the memory on the way."""
    readings = [(0, server.resident_mebibytes())]
    done = 0
    lock = threading.Lock()
    connections = 8

    def client(number: int) -> None:
        nonlocal done
        connection = server.connect()
        for i in range(number, requests, connections):
            body = {
                "evidence": {
                    **evidence[i % len(evidence)],
                    "hemoglobin": f"{4 + i / 5000:.4f} g/dL",
                },
                "next_tests": False,
                "intervals": False,
            }
            status, _ = server.ask(connection, "/v1/diagnose", json.dumps(body).encode())
            if status != 200:
                raise SystemExit(f"status {status}")
            with lock:
                done += 1
                if done % (requests // 10) == 0:
                    readings.append((done, server.resident_mebibytes()))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return readings


def main() -> None:
    """Run the parts and print, or write, a report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--write", type=Path, help="replace what follows the mark in this file")
    options = parser.parse_args()

    model = edx.load_model()
    evidence = questions(model, options.questions)
    bodies = [json.dumps({"evidence": one}).encode() for one in evidence]
    model.diagnose(evidence[0]).to_dict()
    began, used = time.perf_counter(), time.process_time()
    expected = [json.loads(json.dumps(model.diagnose(one).to_dict())) for one in evidence]
    direct = (time.perf_counter() - began) / len(evidence)
    used = (time.process_time() - used) / len(evidence)

    lines = [
        f"`python benchmarks/server.py --clients {options.clients} --seconds {options.seconds:g} "
        f"--requests {options.requests}`, Python {platform.python_version()}, "
        f"{os.cpu_count()} processors, shared with the clients and other programs "
        f"(load average beside each line).",
        "",
        f"The same {len(evidence)} questions asked in Python directly, one after another: "
        f"{1000 * direct:.0f} ms each, {1000 * used:.0f} ms of it processor time.",
        "",
        "| server | clients | answers | per second | CPU ms each | p50 ms | p99 ms | refused "
        "| lost | wrong | load |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]

    def add(name: str, clients: int, row: dict[str, Any]) -> None:
        lines.append(
            f"| {name} | {clients} | {row['answers']} | {row['per second']:.1f} | "
            f"{row['cpu ms']:.1f} | "
            f"{row['p50 ms']:.0f} | {row['p99 ms']:.0f} | {row['refused']} | {row['lost']} | "
            f"{row['wrong']} | {row['load']:.1f} |"
        )
        print(lines[-1], flush=True)

    wrk = None
    for workers in (1, 2):
        threads = str(max(1, 2 // workers))
        name = f"{workers} worker{'s' if workers > 1 else ''}"
        with serving("--workers", str(workers), "--threads", threads, "--remember", "0") as server:
            add(name, 1, hammer(server, bodies, expected, 1, options.seconds / 3))
            add(name, options.clients, hammer(server, bodies, expected, options.clients,
                                              options.seconds))  # fmt: skip
    with serving() as server:
        connection = server.connect()
        for body in bodies:  # so that it remembers
            server.ask(connection, "/v1/diagnose", body)
        add("1 worker, remembered", options.clients,
            hammer(server, bodies, expected, options.clients, options.seconds))  # fmt: skip
        wrk = run_wrk(server, bodies[0], options.clients, 10)
        if wrk:
            lines += ["", f"`wrk -t1 -c{options.clients} -d10s` on one remembered question: {wrk}."]
    with serving("--remember", "512") as server:
        began = time.monotonic()
        readings = watch_memory(server, evidence, options.requests)
        took = time.monotonic() - began
    lines += [
        "",
        f"Memory over {options.requests:,} different short questions "
        f"({options.requests / took:.0f} per second, 8 connections), in MiB after so many: "
        + ", ".join(f"{count:,}: {size:.0f}" for count, size in readings)
        + ".",
    ]
    report = "\n".join(lines) + "\n"
    print(report)
    if options.write:
        text = options.write.read_text(encoding="utf-8")
        options.write.write_text(text.split(MARK)[0] + MARK + "\n\n" + report, encoding="utf-8")


if __name__ == "__main__":
    main()
