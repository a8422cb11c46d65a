"""What a test costs, how long it takes, what it may do to the patient, and what bars it.

Read from ``priors/tests.csv``, ``priors/gates.csv`` and the section ``weights`` of
``priors/utilities.yaml``; no figure stands in the code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from epidural_dx.clinical.spelling import nearest
from epidural_dx.clinical.tables import Row, read_table
from epidural_dx.errors import ModelError
from epidural_dx.network.structure import read_yaml

#: What a gate does to a test.
EFFECTS = ("until_corrected", "barred", "risk_multiplier")
#: What may be left of a test.
KEPT = ("", "images")
#: Harms that a risk multiplier may multiply.
HARMS = ("minor", "serious", "death")
_TEST_COLUMNS = (
    "test",
    "label",
    "price_usd",
    "added_price_usd",
    "turnaround_hours",
    "minor_harm",
    "serious_harm",
    "death",
    "parallel_group",
    "needs",
    "kept",
    "source_ids",
    "grade",
)
_GATE_COLUMNS = (
    "gate",
    "test",
    "condition_variable",
    "states",
    "effect",
    "value",
    "multiplies",
    "correction",
    "correction_hours",
    "source_ids",
    "grade",
)


@dataclass(frozen=True)
class OrderedTest:
    """A test as it is ordered.

    Attributes
    ----------
    name, label : str
    price_usd : float
        Alone.
    added_price_usd : float or None
        Added to another test of its parallel group, whose session (and harm) it shares; None if it
        costs and harms the same then.
    turnaround_hours : float
        From order to result.
    harms : mapping of str to float
        Probability of each of `HARMS` in an ordinary patient.
    parallel_group : str
        Tests of one group are one session (one scan, one blood draw).
    needs : tuple of str
        Samples of which one must be at hand; empty if none is needed.
    kept : str
        What is left of it and can be looked at again (``images``), or nothing.
    source_ids : tuple of str
    grade : str
    """

    name: str
    label: str
    price_usd: float
    added_price_usd: float | None
    turnaround_hours: float
    harms: Mapping[str, float]
    parallel_group: str
    needs: tuple[str, ...]
    kept: str
    source_ids: tuple[str, ...]
    grade: str


@dataclass(frozen=True)
class Gate:
    """Something about the patient that bars a test or multiplies its harm.

    Attributes
    ----------
    name, test : str
    variable : str or None
        None: holds for everybody.
    states : tuple of str
        States of the variable in which it holds.
    effect : {"until_corrected", "barred", "risk_multiplier"}
    factor : float
        Of a risk multiplier; 1 otherwise.
    multiplies : tuple of str
        The harms that are multiplied.
    correction : str
        What opens it, in words.
    correction_hours : float
    source_ids : tuple of str
    """

    name: str
    test: str
    variable: str | None
    states: tuple[str, ...]
    effect: str
    factor: float
    multiplies: tuple[str, ...]
    correction: str
    correction_hours: float
    source_ids: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A number with its range and where it comes from."""

    value: float
    low: float
    high: float
    grade: str
    sources: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Weights:
    """Exchange rates between price, time and harm (``priors/utilities.yaml``).

    Attributes
    ----------
    usd_per_utility : float
        Price in US dollars that weighs as much as one unit of utility.
    usd_per_hour : float
        Price of an hour of a clinician; a test is never cheaper than ``floor_minutes`` of it.
    floor_minutes : float
    harm_loss : mapping of str to float
        Utility lost by each of `HARMS`.
    least_gain : float
        Net utility that a test must gain to be worth ordering.
    bar_above : float
        Probability of a gate's condition from which the test is barred or put off.
    ask_above : float
        Probability from which the condition must be looked up before the test.
    """

    usd_per_utility: float
    usd_per_hour: float
    floor_minutes: float
    harm_loss: Mapping[str, float]
    least_gain: float
    bar_above: float
    ask_above: float


@dataclass(frozen=True)
class Catalog:
    """All tests and gates, and the exchange rates.

    Attributes
    ----------
    tests : mapping of str to OrderedTest
    gates : mapping of str to tuple of Gate
        Gates of every test.
    weights : Weights
    samples : mapping of str to tuple of str
        Tests that take each kind of sample.
    """

    tests: Mapping[str, OrderedTest]
    gates: Mapping[str, tuple[Gate, ...]]
    weights: Weights
    samples: Mapping[str, tuple[str, ...]]


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|") if part.strip())


def _probability(row: Row, column: str) -> float:
    value = row.number(column)
    if not 0 <= value <= 1:
        raise row.error(f"{value:g} is not a probability; allowed are 0 to 1", column)
    return value


def _not_negative(row: Row, column: str, default: float | None = None) -> float:
    value = row.number(column, default)
    if value < 0:
        raise row.error(f"{value:g} is negative; allowed are numbers from 0 on", column)
    return value


def _read_tests(path: Path, samples: Mapping[str, tuple[str, ...]]) -> dict[str, OrderedTest]:
    tests: dict[str, OrderedTest] = {}
    for row in read_table(path, _TEST_COLUMNS):
        name = row["test"]
        if name in tests:
            raise row.error("the test stands twice", name)
        needs = _list(row["needs"])
        for sample in needs:
            if sample not in samples:
                raise row.error(f"unknown sample {sample!r}; samples are {', '.join(samples)}")
        tests[name] = OrderedTest(
            name=name,
            label=row["label"],
            price_usd=_not_negative(row, "price_usd"),
            added_price_usd=(
                _not_negative(row, "added_price_usd") if row["added_price_usd"] else None
            ),
            turnaround_hours=_not_negative(row, "turnaround_hours"),
            harms={
                "minor": _probability(row, "minor_harm"),
                "serious": _probability(row, "serious_harm"),
                "death": _probability(row, "death"),
            },
            parallel_group=row["parallel_group"],
            needs=needs,
            kept=row.choice("kept", KEPT),
            source_ids=_list(row["source_ids"]),
            grade=row["grade"],
        )
    return tests


def _read_gates(path: Path, tests: Mapping[str, OrderedTest]) -> dict[str, tuple[Gate, ...]]:
    gates: dict[str, list[Gate]] = {name: [] for name in tests}
    for row in read_table(path, _GATE_COLUMNS):
        test = row["test"]
        if test not in tests:
            raise row.error(f"unknown test {test!r}", row["gate"])
        effect = row.choice("effect", EFFECTS)
        multiplies = _list(row["multiplies"])
        factor = 1.0
        if effect == "risk_multiplier":
            factor = row.number("value")
            if factor < 0:
                raise row.error(f"{factor:g} is negative; allowed are numbers from 0 on", "value")
            if not multiplies or any(h not in HARMS for h in multiplies):
                raise row.error(f"must name some of {', '.join(HARMS)}", "multiplies")
        gates[test].append(
            Gate(
                name=row["gate"],
                test=test,
                variable=row["condition_variable"] or None,
                states=_list(row["states"]),
                effect=effect,
                factor=factor,
                multiplies=multiplies,
                correction=row["correction"],
                correction_hours=_not_negative(row, "correction_hours", 0.0),
                source_ids=_list(row["source_ids"]),
            )
        )
    return {name: tuple(found) for name, found in gates.items()}


def read_figure(entry: Any, where: str, path: Path) -> Figure:
    """Read ``{value, low, high, grade, sources, why}`` with ``low <= value <= high``.

    Raises
    ------
    ModelError
        A key is missing or the numbers are no range.
    """
    if not isinstance(entry, dict):
        raise ModelError("must be a mapping with value, low and high", file=path, name=where)
    numbers = []
    for key in ("low", "value", "high"):
        number = entry.get(key)
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ModelError(f"{key} must be a number, got {number!r}", file=path, name=where)
        if not math.isfinite(number):
            raise ModelError(f"{key} must be finite", file=path, name=where)
        numbers.append(float(number))
    if not numbers[0] <= numbers[1] <= numbers[2]:
        raise ModelError(
            f"the value {numbers[1]:g} is outside its range {numbers[0]:g} to {numbers[2]:g}",
            file=path,
            name=where,
        )
    return Figure(
        value=numbers[1],
        low=numbers[0],
        high=numbers[2],
        grade=str(entry.get("grade", "assumed")),
        sources=tuple(entry.get("sources") or ()),
        why=str(entry.get("why", "")),
    )


def _read_weights(document: Mapping[str, Any], path: Path) -> Weights:
    section = document.get("weights")
    if not isinstance(section, dict):
        raise ModelError("the section 'weights' is missing", file=path)

    def value(name: str, positive: bool = False) -> float:
        if name not in section:
            raise ModelError("the weight is missing", file=path, name=name)
        figure = read_figure(section[name], name, path)
        if figure.low < 0 or (positive and figure.low <= 0):
            raise ModelError("must not be negative (or zero, if a price)", file=path, name=name)
        return figure.value

    return Weights(
        usd_per_utility=value("usd_per_utility", positive=True),
        usd_per_hour=value("usd_per_hour", positive=True),
        floor_minutes=value("floor_minutes", positive=True),
        harm_loss={h: value(f"{h}_harm_loss") for h in HARMS},
        least_gain=value("least_gain"),
        bar_above=value("bar_above"),
        ask_above=value("ask_above"),
    )


def _read_samples(document: Mapping[str, Any], path: Path) -> dict[str, tuple[str, ...]]:
    section = document.get("samples")
    if not isinstance(section, dict) or not all(isinstance(v, list) for v in section.values()):
        raise ModelError(
            "must map each sample to the tests that take it", file=path, name="samples"
        )
    return {str(k): tuple(map(str, v)) for k, v in section.items()}


def stamp(priors: Path, *names: str) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of files, so that what was read is kept until they change."""
    found = []
    for name in names:
        path = priors / name
        try:
            status = path.stat()
        except OSError:
            raise ModelError("the file does not exist", file=path) from None
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return tuple(found)


def read_catalog(priors: Path) -> Catalog:
    """Read tests, gates and weights of a folder of priors (once, until the files change).

    Raises
    ------
    ModelError
        A missing file or column, a negative price, an unknown test, effect or sample: one sentence
        with file, line and name.
    """
    return _read_catalog(priors, stamp(priors, "tests.csv", "gates.csv", "utilities.yaml"))


@lru_cache(maxsize=4)
def _read_catalog(priors: Path, _: object) -> Catalog:
    path = priors / "utilities.yaml"
    document, _lines = read_yaml(path)
    samples = _read_samples(document, path)
    tests = _read_tests(priors / "tests.csv", samples)
    for sample, takers in samples.items():
        for test in takers:
            if test not in tests:
                raise ModelError(f"unknown test {test!r}", file=path, name=sample)
    return Catalog(
        tests=tests,
        gates=_read_gates(priors / "gates.csv", tests),
        weights=_read_weights(document, path),
        samples=samples,
    )


def looked_at_again(entry: OrderedTest, weights: Weights) -> OrderedTest:
    """Return what a test costs that has been done and whose images are at hand: minutes."""
    hours = weights.floor_minutes / 60
    return replace(
        entry,
        price_usd=hours * weights.usd_per_hour,
        added_price_usd=None,
        turnaround_hours=hours,
        harms=dict.fromkeys(HARMS, 0.0),
    )


def entry_of(catalog: Catalog, test: str) -> OrderedTest:
    """Return the catalog's entry for a test of the network.

    Raises
    ------
    ModelError
        The network has a test without price and harm.
    """
    if test not in catalog.tests:
        close = nearest(test, catalog.tests)
        raise ModelError(
            "the test has no row in tests.csv" + (f"; did you mean {close[0]!r}?" if close else ""),
            name=test,
        )
    return catalog.tests[test]
