"""Work up simulated patients by different orders of tests, and compare how they fare.

    python benchmarks/workup.py --out FILE.jsonl [--patients N] [--two-step N] [--seed S]
                                [--orders information,value,...] [--chunk N]
    python benchmarks/workup.py --out FILE.jsonl --write docs/simulation_study.md

Patients are drawn from the model itself, so the model is right by construction: the study compares
orders of tests, it says nothing about real patients. Each begins with age, sex, back pain and limb
weakness. One test at a time is done, and shows what the drawn patient has, until the leading cause
reaches 0.9, nothing that may be ordered is left, or twelve tests have been done. Operations are no
tests here. Results are appended chunk by chunk: an interrupted run goes on where it stopped. Run it
with PYTHONPATH=src.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import epidural_dx as edx
from epidural_dx.analysis.simulation import draw_patients
from epidural_dx.decision.catalog import Catalog, read_catalog
from epidural_dx.decision.elimination import EvidenceTables
from epidural_dx.decision.gates import Gatekeeper
from epidural_dx.decision.plan import plan_tests
from epidural_dx.decision.workup import Workup

Array = NDArray[np.float64]

#: What is known at the door.
AT_THE_DOOR = ("age_group", "sex", "back_pain", "limb_weakness")
#: The work-up ends when one cause is this likely, or after this many tests.
CERTAIN = 0.9
MOST_TESTS = 12
#: Operations, which are treatment: they end a work-up and are not part of it.
OPERATIONS = ("surgical_pathology",)
#: The order that guidelines give for a spinal lesion with neurological signs and possible infection
#: or cancer (NICE NG234, ACR myelopathy and spine infection, IDSA vertebral osteomyelitis):
#: examination, blood with two cultures, MRI with contrast, then the needle with its culture.
GUIDELINE = (
    "history_review",
    "physical_examination",
    "neurological_examination",
    "cbc",
    "inflammatory_markers",
    "blood_culture",
    "coagulation_panel",
    "mri_contrast",
    "ct_guided_biopsy",
    "aspirate_culture",
)
#: Orders, each with its name in the table. Two steps ahead are looked at in fewer patients.
ORDERS = {
    "information": "bits about the cause",
    "information_per_cost": "bits per price, delay and harm",
    "value": "value (utility net of harm, delay, price)",
    "two_step_information": "bits, two steps ahead",
    "two_step_value": "value, two steps ahead",
    "guideline": "fixed guideline order",
    "random": "random order",
}
Key = tuple[tuple[str, str], ...]


@dataclass
class Course:
    """How one patient fared under one order of tests.

    ``loss`` is the expected utility lost through the harm of the tests, ``utility`` what the
    patient is left with (0 death, 1 full health) after the actions that look best at the end, net
    of harm and price of the tests. ``stop_rule`` holds the same at the moment at which no test was
    worth its harm, delay and price.
    """

    order: str
    patient: int
    truth: str
    tests: list[str] = field(default_factory=list)
    usd: float = 0.0
    hours: float = 0.0
    loss: float = 0.0
    serious: float = 0.0
    lead: str = ""
    probability: float = 0.0
    utility: float = 0.0
    stop_rule: dict[str, Any] | None = None

    @property
    def reached(self) -> bool:
        """Whether one cause became certain."""
        return self.probability >= CERTAIN

    @property
    def correct(self) -> bool:
        """Whether the leading cause at the end is the true one."""
        return self.lead == self.truth


class Study:
    """Drawn patients and everything that choosing and doing tests needs."""

    def __init__(self, model: edx.Model, patients: int, seed: int) -> None:
        self.model = model
        self.seed = seed
        self.drawn = draw_patients(model, patients, seed)
        self.catalog: Catalog = read_catalog(model._priors)
        self.chosen: dict[str, Callable[[Key], tuple[str | None, bool]]] = {
            name: lru_cache(maxsize=None)(getattr(self, f"_{name}"))
            for name in ORDERS
            if name not in ("random", "guideline")
        }

    # ---------------------------------------------------------------- situations

    def known(self, patient: int, findings: Sequence[str]) -> Key:
        """States of some findings of a drawn patient."""
        variables = self.model.variables
        return tuple(
            (f, variables[f].states[int(self.drawn[f][patient])]) for f in sorted(set(findings))
        )

    def workup(self, known: Key, *target: str) -> Workup:
        """Everything about the next test, with what is known."""
        return Workup(self.model, dict(known), target, exclude=OPERATIONS)

    def gatekeeper(self, known: Key) -> Gatekeeper:
        """Judge of tests alone, for orders that compute nothing."""
        read = self.model.read_evidence(dict(known))
        tables = EvidenceTables(self.model.plan.network, self.model.arrays(read))
        return Gatekeeper(
            self.catalog, self.model.variables, self.model.tests, tables, read.likelihoods
        )

    def open_tests(self, known: Key) -> list[str]:
        """Return the tests that would still show something."""
        seen = {name for name, _ in known}
        return [
            t
            for t, findings in self.model.tests.items()
            if t not in OPERATIONS and not set(findings) <= seen
        ]

    @staticmethod
    def orderable(gates: Gatekeeper, test: str) -> bool:
        """Whether a test may be ordered now, if need be after a correction."""
        admission = gates.judge(test)
        return not admission.openers and admission.allowed is not False

    # -------------------------------------------------------------------- orders

    def _best(
        self, workup: Workup, score: Callable[[str], float], enough: float
    ) -> tuple[str | None, bool]:
        """Return the test with the highest score, and whether it is enough to go on."""
        tests = [t for t in workup.panels if self.orderable(workup.gates, t)]
        if not tests:
            return None, False
        scores = {t: score(t) for t in tests}
        best = max(tests, key=lambda t: scores[t])
        return best, scores[best] > enough

    def _information(self, known: Key) -> tuple[str | None, bool]:
        workup = self.workup(known, "lesion_cause")
        return self._best(
            workup, lambda t: workup.calculator.outcomes(workup.positions[t]).information, 0.0
        )

    def _information_per_cost(self, known: Key) -> tuple[str | None, bool]:
        workup = self.workup(known, "lesion_cause")
        weights = workup.catalog.weights

        def score(test: str) -> float:
            admission = workup.gates.judge(test)
            entry = workup.catalog.tests[test]
            delay = workup.hours(test, admission) * workup.problem.loss_per_hour
            cost = entry.price_usd + (delay + admission.loss) * weights.usd_per_utility
            floor = weights.floor_minutes / 60 * weights.usd_per_hour
            bits = workup.calculator.outcomes(workup.positions[test]).information
            return bits / max(cost, floor)

        return self._best(workup, score, 0.0)

    def _value(self, known: Key) -> tuple[str | None, bool]:
        workup = self.workup(known, "lesion_cause", "marrow_infiltration")

        def score(test: str) -> float:
            value = workup.problem.net_value(
                workup.positions[test], workup.catalog.tests[test], workup.gates.judge(test)
            )
            assert value is not None
            return value

        return self._best(workup, score, workup.catalog.weights.least_gain)

    def _two_step(self, known: Key, by: str) -> tuple[str | None, bool]:
        plan = plan_tests(self.model, dict(known), by=by, exclude=OPERATIONS)
        if not plan.considered:
            return None, False
        return max(plan.considered, key=lambda row: row[2])[0], plan.first is not None

    def _two_step_information(self, known: Key) -> tuple[str | None, bool]:
        return self._two_step(known, "information")

    def _two_step_value(self, known: Key) -> tuple[str | None, bool]:
        return self._two_step(known, "value")

    def choose(self, order: str, patient: int, known: Key) -> tuple[str | None, bool]:
        """Return the next test (None: none may be ordered), and whether it is worth ordering."""
        if order in self.chosen:
            return self.chosen[order](known)
        still_open = self.open_tests(known)
        if order == "guideline":
            candidates = [t for t in GUIDELINE if t in still_open]
        else:
            stream = np.random.default_rng([self.seed, patient, len(known)])
            candidates = [still_open[i] for i in stream.permutation(len(still_open))]
        gates = self.gatekeeper(known)
        return next((t for t in candidates if self.orderable(gates, t)), None), True

    # ------------------------------------------------------------------- courses

    def causes(self, known: Sequence[Key]) -> Array:
        """Posterior of the cause for many patients at once, shape (patients, causes)."""
        evidence: dict[int, NDArray[np.int64]] = {}
        for row, one in enumerate(known):
            for name, state in one:
                position = self.model.position(name)
                if position not in evidence:
                    evidence[position] = np.full(len(known), -1)
                evidence[position][row] = self.model.variables[name].states.index(state)
        target = (self.model.position("lesion_cause"),)
        return np.asarray(self.model.engine.run(evidence, target=target, want=()).posterior)

    def courses(self, order: str, patients: Sequence[int]) -> list[Course]:
        """Work some patients up together, one test each in every round."""
        causes = self.model.causes
        found = [Course(order, p, causes[int(self.drawn["lesion_cause"][p])]) for p in patients]
        known = {p: self.known(p, AT_THE_DOOR) for p in patients}
        active = list(range(len(patients)))
        while active:
            posterior = self.causes([known[found[i].patient] for i in active])
            going = []
            for i, row in zip(active, posterior, strict=True):
                course = found[i]
                course.lead, course.probability = causes[int(row.argmax())], float(row.max())
                if course.reached or len(course.tests) >= MOST_TESTS:
                    continue
                test, worth = self.choose(order, course.patient, known[course.patient])
                if not worth and course.stop_rule is None:
                    course.stop_rule = self._snapshot(course, known[course.patient])
                if test is None:
                    continue
                known[course.patient] = self._do(course, test, known[course.patient])
                going.append(i)
            active = going
        for course in found:
            course.utility = self.utility(course, known[course.patient])
        return found

    def _do(self, course: Course, test: str, known: Key) -> Key:
        """Do a test: what it costs, and what it shows."""
        admission = self.gatekeeper(known).judge(test)
        entry = self.catalog.tests[test]
        course.tests.append(test)
        course.usd += entry.price_usd
        course.hours += entry.turnaround_hours + admission.correction_hours
        course.loss += admission.loss
        course.serious += admission.harms["serious"] + admission.harms["death"]
        seen = [name for name, _ in known]
        return self.known(course.patient, [*seen, *self.model.tests[test]])

    def _snapshot(self, course: Course, known: Key) -> dict[str, Any]:
        return {
            "tests": len(course.tests),
            "usd": course.usd,
            "hours": course.hours,
            "loss": course.loss,
            "serious": course.serious,
            "correct": course.correct,
            "probability": course.probability,
            "utility": self.utility(course, known),
        }

    def utility(self, course: Course, known: Key) -> float:
        """Return what the patient is left with, net of harm and price of the tests.

        The best action that can be changed later is started at the door; when the work-up ends it
        is kept or replaced, whatever looks better then.
        """
        door = self._problem(self.known(course.patient, AT_THE_DOOR))
        problem = self._problem(known)
        truth = np.zeros_like(problem.prior)
        shape = problem._shape
        at = [int(self.drawn[v][course.patient]) for v in ("lesion_cause", "marrow_infiltration")]
        truth[0, np.ravel_multi_index((at[0], 0, at[1]), shape)] = 1.0
        utilities = problem.utilities
        assert utilities is not None
        total = 0.0
        for part, actions in enumerate((utilities.actions, utilities.marrow_actions)):
            first = door.utilities_of(door.prior)[part][0]
            bridges = [i for i, a in enumerate(actions) if a.bridge]
            start = max(bridges, key=lambda i: first[i])
            kept = problem.utilities_of(problem.prior)[part][0, start]
            late = problem.utilities_of(problem.prior, course.hours)[part][0]
            switched = int(late.argmax())
            harm = problem.start_harms(problem.prior)[part][0, start]
            if kept >= late[switched] - harm:
                total += float(problem.utilities_of(truth)[part][0, start])
            else:
                total += float(problem.utilities_of(truth, course.hours)[part][0, switched])
                total -= float(problem.start_harms(truth)[part][0, start])
        return total - course.loss - course.usd / self.catalog.weights.usd_per_utility

    @lru_cache(maxsize=256)  # noqa: B019  (one study lives as long as the program)
    def _problem(self, known: Key) -> Any:
        return self.workup(known, "lesion_cause", "marrow_infiltration").problem


# -------------------------------------------------------------------------------- running


def read_courses(out: Path, stamp: Mapping[str, Any]) -> list[Course]:
    """Courses of an earlier run of the same study; a torn last line is done again."""
    if not out.exists():
        out.write_text(json.dumps(stamp) + "\n", encoding="utf-8")
        return []
    lines = out.read_text(encoding="utf-8").splitlines()
    if not lines or json.loads(lines[0]) != dict(stamp):
        sys.exit(f"{out} belongs to another study (model, seed or patients): name a new file")
    found = []
    for line in lines[1:]:
        try:
            found.append(Course(**json.loads(line)))
        except json.JSONDecodeError:
            break
    whole = [json.dumps(stamp), *(json.dumps(asdict(c)) for c in found)]
    out.write_text("\n".join(whole) + "\n", encoding="utf-8")
    return found


def chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Cut a sequence into pieces."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def simulate(arguments: argparse.Namespace) -> None:
    """Run what is missing and append it."""
    model = edx.load_model()
    study = Study(model, arguments.patients, arguments.seed)
    done = read_courses(arguments.out, stamp_of(model, arguments))
    for order in arguments.orders.split(","):
        count = arguments.two_step if order.startswith("two_step") else arguments.patients
        finished = {c.patient for c in done if c.order == order}
        missing = [p for p in range(count) if p not in finished]
        started = time.perf_counter()
        for number, some in enumerate(chunks(missing, arguments.chunk), start=1):
            with arguments.out.open("a", encoding="utf-8") as file:
                for course in study.courses(order, some):
                    file.write(json.dumps(asdict(course)) + "\n")
            ran = min(number * arguments.chunk, len(missing))
            seconds = time.perf_counter() - started
            print(f"{order}: {len(finished) + ran} of {count}, {seconds:.0f} s", flush=True)


def stamp_of(model: edx.Model, arguments: argparse.Namespace) -> dict[str, Any]:
    """Say what a file of results belongs to."""
    return {"digest": model.digest, "patients": arguments.patients, "seed": arguments.seed}


def main() -> None:
    """Read the options, then run or write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="results, one line a patient")
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--two-step", type=int, default=2000, help="patients for two steps ahead")
    parser.add_argument("--seed", type=int, default=20_240_229)
    parser.add_argument("--orders", default=",".join(ORDERS))
    parser.add_argument("--chunk", type=int, default=100)
    parser.add_argument("--write", type=Path, help="write table and picture instead of running")
    arguments = parser.parse_args()
    unknown = set(arguments.orders.split(",")) - set(ORDERS)
    if unknown:
        parser.error(f"unknown order {', '.join(sorted(unknown))}; orders are {', '.join(ORDERS)}")
    if arguments.write is not None:
        from workup_report import write_report

        write_report(arguments.out, arguments.write)
    else:
        simulate(arguments)


if __name__ == "__main__":
    main()
