"""Table and picture of the simulation study (see workup.py)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from workup import ORDERS, Course

Array = NDArray[np.float64]

#: Colour (Okabe-Ito, told apart by colour-blind readers), line and mark of every order.
LOOKS: dict[str, tuple[str, str, str]] = {
    "information": ("#0072B2", "-", "o"),
    "information_per_cost": ("#56B4E9", "-", "s"),
    "value": ("#D55E00", "-", "^"),
    "two_step_information": ("#0072B2", ":", "o"),
    "two_step_value": ("#D55E00", ":", "^"),
    "guideline": ("#009E73", "--", "D"),
    "random": ("#555555", "-.", "x"),
}


#: Most points of a line.
POINTS = 150
#: Names beside the marks of the last panel.
SHORT = {
    "information_per_cost": "bits per cost",
    "value": "value",
    "two_step_information": "bits, two steps",
    "two_step_value": "value, two steps",
    "guideline": "guideline",
    "random": "random",
}


def read(path: Path) -> tuple[dict[str, Any], dict[str, list[Course]]]:
    """Read the stamp of the study and the courses of every order, in the order of patients."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found: dict[str, list[Course]] = {order: [] for order in ORDERS}
    for line in lines[1:]:
        course = Course(**json.loads(line))
        found[course.order].append(course)
    for courses in found.values():
        courses.sort(key=lambda c: c.patient)
    return json.loads(lines[0]), {o: c for o, c in found.items() if c}


def error(values: Array) -> float:
    """Return the half width of the 95 % interval of a mean."""
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def end_of(course: Course, *, stopped: bool) -> dict[str, Any]:
    """How a work-up ended; ``stopped``: at the moment at which the stop rule fired."""
    end = {
        "tests": len(course.tests),
        "usd": course.usd,
        "hours": course.hours,
        "serious": course.serious,
        "correct": course.correct,
        "probability": course.probability,
        "utility": course.utility,
    }
    return course.stop_rule if stopped and course.stop_rule is not None else end


def row(name: str, courses: Sequence[Course], *, stopped: bool = False) -> str:
    """One line of the table."""
    ends = [end_of(c, stopped=stopped) for c in courses]

    def mean(key: str) -> Array:
        return np.array([float(e[key]) for e in ends])

    certain = np.mean([e["probability"] >= 0.9 for e in ends])
    tests, right = mean("tests"), mean("correct")
    return (
        f"| {name} | {len(ends):,} | {certain:.0%} | {tests.mean():.1f} "
        f"({np.median(tests):.0f}) | {mean('usd').mean():,.0f} | {mean('hours').mean():.0f} | "
        f"{right.mean():.1%} ± {error(right):.1%} | {mean('probability').mean():.1%} | "
        f"{1000 * mean('serious').mean():.2f} | {mean('utility').mean():.4f} |"
    ).replace("%", " %")


def table(found: dict[str, list[Course]]) -> list[str]:
    """Return the table of all orders."""
    lines = [
        "| order of tests | patients | certain | tests, mean (median) | USD | hours | "
        "right cause | said | serious harm per 1,000 | utility left |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for order, courses in found.items():
        lines.append(row(ORDERS[order], courses))
        if order.endswith("value"):
            lines.append(row(f"{ORDERS[order]}, stop rule", courses, stopped=True))
    return lines


def paired(found: dict[str, list[Course]]) -> list[str]:
    """Return the differences to one step by the same aim, on the same patients."""
    lines = [
        "| against | patients | tests | USD | hours | right cause | serious harm per 1,000 | "
        "utility left |",
        "|---|---|---|---|---|---|---|---|",
    ]
    pairs = [
        ("two_step_information", "information", False),
        ("two_step_value", "value", False),
        ("two_step_value", "value", True),
        ("value", "information", False),
        ("value", "information_per_cost", False),
        ("information_per_cost", "information", False),
        ("guideline", "information", False),
        ("guideline", "value", False),
        ("random", "information", False),
    ]
    for one, other, stopped in pairs:
        if one not in found or other not in found:
            continue
        here = {c.patient: end_of(c, stopped=stopped) for c in found[one]}
        there = {c.patient: end_of(c, stopped=stopped) for c in found[other]}
        both = sorted(here.keys() & there.keys())

        def difference(key: str, digits: int, times: float = 1.0) -> str:
            values = times * np.array(
                [float(here[p][key]) - float(there[p][key]) for p in both]  # noqa: B023
            )
            return f"{values.mean():+,.{digits}f} ± {error(values):,.{digits}f}"

        name = f"{ORDERS[one]} minus {ORDERS[other]}"
        lines.append(
            f"| {name}{', both with the stop rule' if stopped else ''} | {len(both):,} | "
            f"{difference('tests', 2)} | {difference('usd', 0)} | {difference('hours', 1)} | "
            f"{difference('correct', 3)} | {difference('serious', 2, 1000)} | "
            f"{difference('utility', 4)} |"
        )
    return lines


def draw(found: dict[str, list[Course]], out: Path) -> None:
    """Draw how many patients are certain after so many tests, dollars and hours, and utility."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.6), layout="constrained")
    axes = figure.subplots(2, 2)
    handles = []
    for order, courses in found.items():
        colour, line, mark = LOOKS[order]
        certain = [c for c in courses if c.reached]
        for ax, amounts, place in (
            (axes[0, 0], [len(c.tests) for c in certain], 0),
            (axes[0, 1], [c.usd for c in certain], 1),
            (axes[1, 0], [c.hours for c in certain], 2),
        ):
            x = np.sort(np.maximum(amounts, 0.1 if place else 0))
            y = np.arange(1, len(x) + 1) / len(courses)
            end = (12, 20_000, 500)[place]
            some = np.unique(np.linspace(0, len(x) - 1, POINTS).astype(int))  # a small file
            x, y = x[some], y[some]
            (handle,) = ax.step(
                [*x, end], [*y, y[-1]], where="post", color=colour, linestyle=line, linewidth=1.8
            )
        handles.append((handle, ORDERS[order]))
    for ax, name in (
        (axes[0, 0], "tests done"),
        (axes[0, 1], "US dollars spent on tests"),
        (axes[1, 0], "hours waited, one test after another"),
    ):
        ax.set_xlabel(name)
        ax.set_ylabel("patients with a cause at 0.9")
        ax.set_ylim(0, 1)
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_xlim(0, 12)
    axes[0, 1].set_xscale("log")
    axes[0, 1].set_xlim(3, 20_000)
    axes[1, 0].set_xscale("log")
    axes[1, 0].set_xlim(0.2, 500)
    _draw_utility(axes[1, 1], found)
    figure.legend(
        [h for h, _ in handles],
        [name for _, name in handles],
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    with matplotlib.rc_context({"svg.hashsalt": "epidural-dx"}):
        figure.savefig(out, dpi=130, metadata={"Date": None} if out.suffix == ".svg" else {})


def _draw_utility(ax: Any, found: dict[str, list[Course]]) -> None:
    """Draw the utility left against that of ranking by information, on the same patients."""
    base = {c.patient: c.utility for c in found["information"]}
    rows: list[tuple[str, str, Array]] = []
    for order, courses in found.items():
        if order != "information":
            rows.append(
                (order, SHORT[order], np.array([c.utility - base[c.patient] for c in courses]))
            )
        if order.endswith("value"):
            ends = [c.stop_rule["utility"] if c.stop_rule else c.utility for c in courses]
            values = [u - base[c.patient] for u, c in zip(ends, courses, strict=True)]
            rows.append((order, "… stop rule", np.array(values)))
    for i, (order, _, values) in enumerate(rows):
        colour, _, mark = LOOKS[order]
        ax.errorbar(
            values.mean(),
            -i,
            xerr=error(values),
            color=colour,
            marker=mark,
            capsize=3,
            linewidth=1.5,
        )
    ax.set_yticks([-i for i in range(len(rows))], [name for _, name, _ in rows], fontsize=8.5)
    ax.axvline(0, color="#555555", linewidth=0.8)
    ax.set_xlabel("utility left, minus that of ranking by bits (mean, 95 %)")
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def write_report(results: Path, out: Path) -> None:
    """Write tables between the marks of a page, and the picture beside it."""
    stamp, found = read(results)
    picture = out.with_suffix(".svg")
    draw(found, picture)
    first = (
        f"Seed {stamp['seed']}, {stamp['patients']:,} patients drawn; figures with digest "
        f"`{stamp['digest'][:12]}`."
    )
    lines = [
        first,
        "",
        f"![Simulation study]({picture.name})",
        "",
        *table(found),
        "",
        *paired(found),
    ]
    text = out.read_text(encoding="utf-8")
    marked = re.compile(r"(<!-- results -->\n).*?(<!-- end of results -->)", re.DOTALL)
    if not marked.search(text):
        raise SystemExit(f"{out} has no marks <!-- results --> and <!-- end of results -->")
    body = "\n".join(lines) + "\n"
    out.write_text(marked.sub(lambda m: m[1] + body + m[2], text), encoding="utf-8")
