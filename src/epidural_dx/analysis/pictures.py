"""Pictures of an explanation: the waterfall of log odds, and the ways that findings take."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from epidural_dx.analysis.consultation import NAMED, SMALL, Consultation, share
from epidural_dx.analysis.paths import Path
from epidural_dx.analysis.wording import (
    cause_words,
    condition_words,
    finding_words,
    sentence,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Contributions drawn one by one; the rest is one bar.
BARS = 12
#: Characters in a line of a finding's label.
LABEL = 40
#: Findings drawn with their ways.
WAYS = 9
#: Distance of two boxes of conditions.
GAP = 0.17
#: Colours for and against; distinct for the colour-blind (Okabe and Ito), and by sign of the label.
FOR, AGAINST, NEUTRAL = "#0072B2", "#D55E00", "#666666"


def plot_waterfall(found: Consultation, axes: Axes) -> None:
    """Draw how the findings take the log odds of the cause from before to after.

    Parameters
    ----------
    found : Consultation
    axes : matplotlib.axes.Axes
        Filled from top to bottom, decibans across, the probability on a second scale above.
    """
    shares = found.contributions
    rows = shares.rows()
    steps = [(_finding(found, r["finding"]), float(r["decibans"])) for r in rows[:BARS]]
    if len(rows) > BARS:
        rest = sum(float(r["decibans"]) for r in rows[BARS:])
        steps.append((f"{len(rows) - BARS} more", rest))
    labels = ["before any finding", *(name for name, _ in steps), "given all findings"]
    axes.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    at = shares.prior
    axes.plot([at], [0], "o", color=NEUTRAL)
    low = high = at
    for place, (_, value) in enumerate(steps, start=1):
        axes.barh(place, value, left=at, height=0.6, color=FOR if value >= 0 else AGAINST)
        axes.plot([at + value, at + value], [place, place + 1], color="#999999", linewidth=0.8)
        low, high = min(low, at + value), max(high, at + value)
        at += value
    axes.plot([at], [len(labels) - 1], "o", color=NEUTRAL)
    margin = 0.16 * max(high - low, 1.0)
    at = shares.prior
    for place, (_, value) in enumerate(steps, start=1):
        side = "left" if value >= 0 else "right"
        shift = 0.015 * (high - low) * (1 if value >= 0 else -1)
        axes.text(at + value + shift, place, f"{value:+.1f}", va="center", ha=side, fontsize=8)
        at += value
    axes.set_xlim(low - margin, high + margin)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_xlabel("log odds in decibans", fontsize=9)
    axes.tick_params(axis="x", labelsize=8)
    above = axes.secondary_xaxis("top")
    ticks = [(0.001, "0.1 %"), (0.01, "1 %"), (0.1, "10 %"), (0.5, "50 %"), (0.9, "90 %"),
             (0.99, "99 %"), (0.999, "99.9 %")]
    shown = [(_decibans(p), label) for p, label in ticks if low - margin < _decibans(p) < high
             + margin]
    above.set_xticks([x for x, _ in shown], [label for _, label in shown], fontsize=8)
    axes.set_title(f"What takes {cause_words(found.cause)} where it is", fontsize=10)
    for side in ("right", "left"):
        axes.spines[side].set_visible(False)


def plot_paths(found: Consultation, axes: Axes) -> None:
    """Draw the ways of the strongest findings through conditions to the cause.

    Parameters
    ----------
    found : Consultation
    axes : matplotlib.axes.Axes
        Findings on the left, conditions between, the cause on the right; thicker lines weigh more.
    """
    named = {r["finding"]: float(r["decibans"]) for r in found.contributions.rows()}
    ways = {p.finding: p for p in found.paths}
    findings = list(named)[:WAYS]
    # what speaks for the conditions behind the cause belongs into the picture, however redundant
    for reasons in found.reasons:
        findings += [f for f, db in reasons.findings[:2] if db > 0 and f in reasons.direct]
    findings = list(dict.fromkeys(findings))
    edges: dict[tuple[str, str], float] = {}
    between: list[tuple[str, str]] = []
    level: dict[str, int] = {}
    chains = {f: _chain(found, f, ways[f], named[f]) for f in findings}
    # findings that act on the lesion directly stand above, so that lines cross less
    findings.sort(key=lambda f: [c[0] for c in chains[f]])
    for finding in findings:
        chain = chains[finding]
        nodes = [f"f:{finding}", *(f"c:{c}={s}" for c, s in chain), "lesion"]
        for a, b in zip(nodes, nodes[1:], strict=False):
            edges.setdefault((a, b), named.get(finding, 0.0))
        for depth, step in enumerate(chain):
            if step not in between:
                between.append(step)
            name = f"c:{step[0]}={step[1]}"
            level[name] = max(level.get(name, 0), depth)
    columns = 1 + max(level.values(), default=-1)
    x = {"lesion": 1.0}
    x |= {f"f:{f}": 0.0 for f in findings}
    x |= {name: (1 + depth) / (columns + 1) for name, depth in level.items()}
    y = {"lesion": 0.5}
    y |= _spread([f"f:{f}" for f in findings])
    for depth in range(columns):
        here = [f"c:{c}={s}" for c, s in between if level[f"c:{c}={s}"] == depth]
        y |= _apart({n: _mean([y[a] for a, b in edges if b == n and a in y]) for n in here})
    largest = max((abs(v) for v in edges.values()), default=1.0) or 1.0
    for (a, b), value in edges.items():
        axes.annotate(
            "",
            xy=(x[b], y[b]),
            xytext=(x[a], y[a]),
            arrowprops={
                "arrowstyle": "-|>",
                "color": FOR if value >= 0 else AGAINST,
                "linewidth": 0.6 + 2.4 * abs(value) / largest,
                "alpha": 0.75,
                "shrinkA": 3,
                "shrinkB": 18 if b == "lesion" else 10,
            },
        )
    for finding in findings:
        _box(axes, x[f"f:{finding}"], y[f"f:{finding}"], _finding(found, finding), "right")
    for condition, state in between:
        name = f"c:{condition}={state}"
        p = found.answer.marginals[condition][
            found.model.variables[condition].states.index(state)
        ]
        words = textwrap.fill(sentence(condition_words(condition, state)), 18)
        _box(axes, x[name], y[name], f"{words}\n{share(float(p))}", "center", "#eaf2f8")
    cause = textwrap.fill(sentence(cause_words(found.cause)), 16)
    _box(axes, 1.0, 0.5, f"{cause}\n{share(found.probability)}", "center", "#fdebd0")
    axes.set_xlim(-0.6, 1.2)
    axes.set_ylim(-0.05, 1.05)
    axes.set_axis_off()
    axes.set_title("Through what they act (blue: for, orange: against)", fontsize=10)


def _chain(
    found: Consultation, finding: str, path: Path, decibans: float
) -> list[tuple[str, str]]:
    """Conditions and their states between a finding and the cause, two at most."""
    steps = [
        (s.condition, s.state)
        for s in path.steps
        if s.probability >= NAMED and condition_words(s.condition, s.state)
    ][:2]
    if steps or abs(decibans) >= SMALL:
        return steps
    # a finding that repeats others still bears on a condition
    return [
        (r.condition, r.state)
        for r in found.reasons
        if finding in r.direct and dict(r.findings)[finding] >= SMALL
    ][:1]


def _box(axes: Axes, x: float, y: float, words: str, side: str, color: str = "white") -> None:
    axes.text(
        x,
        y,
        words,
        ha="right" if side == "right" else "center",
        va="center",
        fontsize=8,
        bbox={"boxstyle": "round,pad=0.3", "facecolor": color, "edgecolor": "#888888",
              "linewidth": 0.7},
    )


def _finding(found: Consultation, name: str) -> str:
    """Return a finding in two lines at most."""
    words = finding_words(found.model, found.evidence, name)
    return textwrap.fill(textwrap.shorten(words, 2 * LABEL - 6, placeholder=" …"), LABEL)


def _spread(names: Sequence[str]) -> dict[str, float]:
    """Positions from top to bottom."""
    count = len(names)
    return {name: 1 - (place + 0.5) / count for place, name in enumerate(names)}


def _apart(wanted: Mapping[str, float]) -> dict[str, float]:
    """Wanted positions from the lowest up, pushed apart where boxes would overlap."""
    placed: dict[str, float] = {}
    free = 0.0
    for name, at in sorted(wanted.items(), key=lambda item: item[1]):
        placed[name] = max(at, free)
        free = placed[name] + GAP
    excess = max(0.0, free - GAP - 1.0)
    return {name: at - excess for name, at in placed.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.5


def _decibans(probability: float) -> float:
    from math import log10

    return 10 * log10(probability / (1 - probability))
