"""A plan as a picture: a small tree, from what to order now on the left to what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from epidural_dx.clinical.display import dollars, duration
from epidural_dx.decision.plan import Branch, Plan, PlanStep
from epidural_dx.decision.value import Choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe-Ito colours, told apart by colour-blind readers too: orders, actions, results.
ORDER, ACTION, RESULT = "#0072B2", "#009E73", "#555555"
#: Inches: height of a line, space inside and between boxes, width of a column, gap for the lines.
LINE, INSIDE, BETWEEN, WIDTH, GAP = 0.165, 0.08, 0.10, 3.55, 0.65
#: Characters of 8.5 point that fit into a column.
CHARACTERS = 50
#: Branches that are left out are mentioned from this probability on.
MENTIONED = 0.005


@dataclass
class _Box:
    """A box of the tree: its lines with their colours, and what follows."""

    lines: list[tuple[str, str, bool]]
    share: float
    then: list[_Box] = field(default_factory=list)
    top: float = 0.0

    @property
    def own(self) -> float:
        return len(self.lines) * LINE + 2 * INSIDE

    @property
    def height(self) -> float:
        """Height of the box with everything that follows it."""
        if not self.then:
            return self.own
        return max(self.own, sum(b.height for b in self.then) + BETWEEN * (len(self.then) - 1))

    @property
    def depth(self) -> int:
        return 1 + max((b.depth for b in self.then), default=0)


def draw_plan(plan: Plan) -> Figure:
    """Draw a plan.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    matplotlib.figure.Figure
        Sized to its text; the caller saves it. Lines are as wide as their branch is likely.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    root = _root(plan)
    columns = root.depth
    width = columns * WIDTH + (columns - 1) * GAP + 2 * BETWEEN
    note = _wrapped(_note(plan), int(CHARACTERS * width / WIDTH))
    height = root.height + 3 * BETWEEN + len(note) * LINE
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_axis_off()

    def draw(box: _Box, left: float, top: float) -> tuple[float, float]:
        """Draw a box in the middle of its room; return where lines to it end."""
        room = box.height
        y = top - (room - box.own) / 2
        border = box.lines[-1][1]
        axes.add_patch(
            FancyBboxPatch(
                (left + INSIDE, y - box.own + INSIDE),
                WIDTH - 2 * INSIDE,
                box.own - 2 * INSIDE,
                boxstyle=f"round,pad={INSIDE},rounding_size=0.06",
                facecolor="white",
                edgecolor=border,
                linewidth=1.2,
            )
        )
        for i, (line, colour, bold) in enumerate(box.lines):
            axes.text(
                left + INSIDE,
                y - INSIDE - (i + 0.5) * LINE,
                line,
                color=colour,
                fontsize=8.5,
                fontweight="bold" if bold else "normal",
                va="center",
            )
        middle = y - box.own / 2
        below = top - (room - _following(box)) / 2
        for child in box.then:
            x, end = draw(child, left + WIDTH + GAP, below)
            axes.plot(
                (left + WIDTH, x),
                (middle, end),
                color=RESULT,
                alpha=0.6,
                linewidth=0.8 + 5 * child.share,
                solid_capstyle="round",
                zorder=0,
            )
            below -= child.height + BETWEEN
        return left, middle

    draw(root, BETWEEN, height - BETWEEN)
    for i, line in enumerate(note):
        y = BETWEEN + (len(note) - i - 0.5) * LINE
        axes.text(BETWEEN, y, line, fontsize=8, color=RESULT, va="center")
    return figure


def _following(box: _Box) -> float:
    return sum(b.height for b in box.then) + BETWEEN * max(len(box.then) - 1, 0)


def _wrapped(text: str, characters: int = CHARACTERS) -> list[str]:
    return textwrap.wrap(text, characters) or [""]


def _lines(text: str, colour: str, bold: bool = False) -> list[tuple[str, str, bool]]:
    # bold letters are wider
    width = CHARACTERS - 5 if bold else CHARACTERS
    return [(line, colour, bold) for line in _wrapped(text, width)]


def _root(plan: Plan) -> _Box:
    if plan.first is None:
        lines = _lines("No test is worth its harm, delay and price.", RESULT)
        if plan.act_now is not None:
            lines += _lines(f"Do: {plan.act_now.words}", ACTION, bold=True)
        return _Box(lines, 1.0)
    lines = []
    if plan.act_now is not None:
        lines += _lines(f"Without any test: {plan.act_now.words}", RESULT)
    lines += _order(plan.first, "Order now", plan.by)
    return _Box(lines, 1.0, _branches(plan.first.branches, plan.by))


def _order(step: PlanStep, verb: str, by: str) -> list[tuple[str, str, bool]]:
    unit = "bits" if by == "information" else "utility"
    figures = (
        f"result at {duration(step.hours)}, {dollars(step.price_usd)}, "
        f"gain {step.gain:+.3f} {unit}"
    )
    return [*_lines(f"{verb}: {step.words}", ORDER, bold=True), *_lines(figures, ORDER)]


def _branches(branches: Sequence[Branch], by: str) -> list[_Box]:
    boxes = []
    for branch in branches:
        causes = ", ".join(f"{c.replace('_', ' ')} {_percent(p)}" for c, p in branch.causes)
        lines = _lines(f"{_percent(branch.probability)}: {_results(branch)}", RESULT)
        lines += _lines(f"then {causes}", RESULT)
        if isinstance(branch.then, PlanStep):
            lines += _order(branch.then, "Then order", by)
            then = _branches(branch.then.branches, by)
        else:
            lines += _action(branch.then)
            then = []
        boxes.append(_Box(lines, branch.probability, then))
    rest = 1 - sum(b.probability for b in branches)
    if branches and rest >= MENTIONED:
        boxes.append(_Box(_lines(f"{_percent(rest)}: other results", RESULT), rest))
    return boxes


def _results(branch: Branch) -> str:
    return "; ".join(branch.results).replace(" %", "\u00a0%") or "no telling result"


def _action(choice: Choice) -> list[tuple[str, str, bool]]:
    return _lines(f"Do: {choice.words}", ACTION, bold=True)


def _percent(p: float) -> str:
    # number and sign stay on one line
    if 0 < p < 0.01:
        return "under 1\u00a0%"
    return "over 99\u00a0%" if 0.995 <= p < 1 else f"{100 * p:.0f}\u00a0%"


def _note(plan: Plan) -> str:
    gain = (
        "bits about the cause and the marrow"
        if plan.by == "information"
        else "utility (0 death, 1 full health) net of harm, delay and price"
    )
    return (
        f"Gain: over acting at once, in {gain}. A share in brackets is that of the result in its "
        "branch; only the likeliest results are shown. For research and teaching. Not a medical "
        "device; it must not guide treatment."
    )
