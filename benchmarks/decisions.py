"""Time test ranking and planning on the published patients, and check sampled panels.

    python benchmarks/decisions.py [--rounds N] [--check N] [--write docs/decision_timing.md]

Every patient and stage of `cases/` is asked in turn: the information of all tests about etiology
and marrow infiltration together, the whole ranking (with value, harm and reasons), and the two-step
plan. Times are processor times of one thread, the best of the rounds and the median; a busy machine
slows them all, so each is also given as a multiple of one main job of the engine, timed in the same
rounds. The information of all tests is timed once more in a process with the threads that numpy
takes by itself. `--check N` compares sampled panels of N random patients with enumeration. Run it
with PYTHONPATH=src.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import epidural_dx as edx
from epidural_dx.analysis.simulation import draw_patients
from epidural_dx.clinical.case import read_case
from epidural_dx.decision.plan import plan_tests
from epidural_dx.decision.ranking import rank_tests
from epidural_dx.decision.stopping import same_decision_probability
from epidural_dx.decision.workup import Workup

ROOT = Path(__file__).parents[1]
#: What the libraries below numpy read their number of threads from.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: Unions of tests with more outcomes than are enumerated by default, but few enough to count.
UNIONS = (("cbc", "coagulation_panel"), ("physical_examination", "ct_spine"))
#: Most outcomes that the check enumerates.
COUNTED = 80_000


def patients(model: edx.Model) -> list[tuple[str, Any]]:
    """Return every published patient at every stage: name and evidence."""
    found = []
    for path in sorted((ROOT / "cases").glob("*.yaml")):
        case = read_case(path)
        for stage in case.stage_names:
            raw = case.evidence(stage, canonical=model.canonical_name).raw
            found.append((f"{path.stem}, {stage}", model.read_evidence(raw)))
    return found


def information(model: edx.Model, evidence: Any) -> list[float]:
    """Return the bits of every test about etiology and marrow infiltration."""
    workup = Workup(model, evidence)
    return [workup.calculator.outcomes(p).information for p in workup.positions.values()]


def clock(call: Callable[[], Any]) -> float:
    """Return processor seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def timings(model: edx.Model, rounds: int) -> list[str]:
    """Return the table of times."""
    jobs: dict[str, Callable[[Any], Any]] = {
        "main job of the engine": lambda e: model.query(e),
        "information of all tests": lambda e: information(model, e),
        "whole ranking, with value and reasons": lambda e: rank_tests(model, e),
        "two-step plan": lambda e: plan_tests(model, e),
        "same-decision probability": lambda e: same_decision_probability(model, e),
    }
    found = patients(model)
    best: dict[str, list[float]] = {job: [] for job in jobs}
    for _, evidence in found:
        for job, call in jobs.items():
            call(evidence)
            best[job].append(min(clock(lambda: call(evidence)) for _ in range(rounds)))  # noqa: B023
    main = np.array(best["main job of the engine"])
    lines = [
        "| job | median of patients | worst patient | main jobs | goal |",
        "|---|---|---|---|---|",
    ]
    goals = {"information of all tests": "20 ms", "two-step plan": "1 s"}
    for job, seconds in best.items():
        each = np.array(seconds)
        lines.append(
            f"| {job} | {1e3 * np.median(each):.3g} ms | {1e3 * each.max():.3g} ms "
            f"| {np.median(each / main):.0f} | {goals.get(job, '')} |"
        )
    return lines


def in_threads(model: edx.Model, rounds: int) -> tuple[float, float]:
    """Return wall and processor seconds of the information of all tests, medians of patients."""
    wall, processor = [], []
    for _, evidence in patients(model):
        information(model, evidence)
        best = []
        for _ in range(rounds):
            start, work = time.perf_counter(), time.process_time()
            information(model, evidence)
            best.append((time.perf_counter() - start, time.process_time() - work))
        wall.append(min(w for w, _ in best))
        processor.append(min(p for _, p in best))
    return float(np.median(wall)), float(np.median(processor))


def by_default(rounds: int) -> str:
    """Time the information of all tests with the threads that numpy takes by itself."""
    environment = {k: v for k, v in os.environ.items() if k not in THREADS}
    command = [sys.executable, __file__, "--threads", "--rounds", str(rounds)]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    wall, processor = json.loads(told.stdout)
    return (
        f"With the threads that numpy takes by itself: information of all tests "
        f"{1e3 * wall:.3g} ms by the clock, {1e3 * processor:.3g} ms of processors."
    )


def check(model: edx.Model, count: int) -> list[str]:
    """Return how far sampled panels are from enumerated ones, in standard errors."""
    drawn = draw_patients(model, count, seed=7)
    rng = np.random.default_rng(7)
    names = [n for n, v in model.variables.items() if v.group in ("symptom", "history", "imaging")]
    scores: list[float] = []
    for patient in range(count):
        some = rng.choice(names, size=6, replace=False)
        evidence = {n: model.variables[n].states[int(drawn[n][patient])] for n in sorted(some)}
        exact = Workup(model, evidence, "lesion_cause", together=UNIONS, exact_outcomes=COUNTED)
        sampled = Workup(model, evidence, "lesion_cause", together=UNIONS, exact_outcomes=1)
        for tests in UNIONS:
            panel = exact.union(tests)
            one = exact.calculator.outcomes(panel)
            if one.method == "exact" and len(one.weights) > 4096:
                two = sampled.calculator.outcomes(panel)
                scores.append((two.information - one.information) / two.standard_error)
    z = np.abs(scores)
    return [
        f"Sampled against enumerated information of panels with 4,097 to {COUNTED:,} outcomes, "
        f"{len(z)} panels of {count} drawn patients: median {np.median(z):.1f} standard errors, "
        f"greatest {z.max():.1f}, within four {np.mean(z <= 4):.0%}."
    ]


def main() -> None:
    """Read the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", type=int, default=0)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--threads", action="store_true", help="the second process")
    arguments = parser.parse_args()
    if arguments.threads:
        print(json.dumps(in_threads(edx.load_model(), arguments.rounds)))
        return
    if any(os.environ.get(name) != "1" for name in THREADS):
        # numpy reads the number of threads when it is imported: begin again
        os.environ.update(dict.fromkeys(THREADS, "1"))
        os.execv(sys.executable, [sys.executable, *sys.argv])
    model = edx.load_model()
    load = f"load {os.getloadavg()[0]:.1f} at the start, " if hasattr(os, "getloadavg") else ""
    lines = [
        f"{os.cpu_count()} processors, {load}Python {platform.python_version()}, "
        f"numpy {np.__version__}; {arguments.rounds} rounds.",
        "",
        *timings(model, arguments.rounds),
        "",
        by_default(arguments.rounds),
    ]
    if arguments.check:
        lines += ["", *check(model, arguments.check)]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.write is not None:
        page = arguments.write.read_text(encoding="utf-8")
        first, rest = page.split("<!-- table -->\n")
        _, last = rest.split("<!-- end of table -->")
        page = f"{first}<!-- table -->\n{text}<!-- end of table -->{last}"
        arguments.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
