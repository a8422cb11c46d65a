"""Drawings of sensitivity and uncertainty, for notebooks and the command line.

Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart; lines differ in
their dashes too.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from epidural_dx.analysis.parameters import find_parameter
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from epidural_dx.analysis.sensitivity import OneWay

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
)
GREY = "#767676"
#: Colour and dashes of the curves, the leading state first.
LINES = ((BLUE, "-"), (VERMILION, "--"), (GREEN, ":"), (ORANGE, "-."), (PURPLE, (0, (5, 1, 1, 1))))
#: Values of a parameter that a curve is drawn through.
POINTS = 41
#: Characters of a label in one line.
LABEL = 46


def axis_label(name: str) -> str:
    """Name of a parameter for an axis: the condition in a second line, or the unit of a rate."""
    if name.startswith("rate "):
        return f"{name}\n(per 100,000 person-years)"
    return name.replace(" | ", "\ngiven ")


def plot_tornado(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw a tornado table: bars from the posterior at the lower to that at the upper limit.

    Parameters
    ----------
    frame : pandas.DataFrame
        From :func:`~epidural_dx.analysis.sensitivity.tornado`.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib axes
    """
    from matplotlib.patches import Patch

    ax = ax or _axes(9, 0.42 * len(frame) + 1.3)
    now = frame.attrs["posterior"]
    for row, (low, high) in enumerate(zip(frame["at_low"], frame["at_high"], strict=True)):
        # the longer of two bars on one side stays visible behind the shorter
        for end, color in sorted(((low, BLUE), (high, VERMILION)), key=lambda e: -abs(e[0] - now)):
            ax.barh(row, end - now, left=now, color=color, height=0.7)
    ax.axvline(now, color="black", linewidth=1)
    ax.set_yticks(
        range(len(frame)),
        [f"{p}  ({v:.3g})" for p, v in zip(frame["parameter"], frame["value"], strict=True)],
    )
    ax.invert_yaxis()
    ax.set_xlabel(f"P({frame.attrs['hypothesis']} | findings)")
    ax.legend(
        [Patch(color=c) for c in (BLUE, VERMILION)],
        ["parameter at its 5 % quantile", "at its 95 % quantile"],
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        frameon=False,
    )
    return _open(ax)


def plot_curve(
    functions: OneWay, parameter: str, ax: Axes | None = None, *, most: int = 3, legend: bool = True
) -> Axes:
    """Draw the posterior of the leading states as a function of one parameter.

    Parameters
    ----------
    functions : OneWay
    parameter : str
        Over its 90 % range. A solid vertical line marks its present value, dash-dotted ones the
        values at which another state takes the lead.
    ax : matplotlib axes, optional
    most : int
        Curves, at most 5: those of the states that are largest somewhere in the range.
    legend : bool

    Returns
    -------
    matplotlib axes

    Raises
    ------
    EvidenceError
        Unknown parameter, or curves outside 1..5.
    """
    if not 1 <= most <= len(LINES):
        raise EvidenceError(f"curves must be 1 to {len(LINES)}, got {most}", value=most)
    i = find_parameter(functions.parameters, parameter)
    p = functions.parameters[i]
    ax = ax or _axes(6, 3.6)
    low, high = float(functions.response.low[i]), float(functions.response.high[i])
    x = np.linspace(low, high, POINTS)
    curve = functions.curve(p.name, x)
    shown = sorted(
        np.argsort(-curve.max(axis=0), kind="stable")[:most], key=lambda h: -curve[:, h].mean()
    )
    for h, (color, dashes) in zip(shown, LINES, strict=False):
        ax.plot(x, curve[:, h], color=color, linestyle=dashes, label=functions.states[h])
    ax.axvline(p.value, color="black", linewidth=0.8)
    for crossing in functions.overturning(p.name):
        if low < crossing < high:
            ax.axvline(crossing, color=GREY, linestyle="-.", linewidth=0.8)
    ax.set_ylim(0, 1)
    ax.set_xlabel(axis_label(p.name))
    ax.set_ylabel("posterior probability")
    if legend:
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _open(ax)


def plot_two_way(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the posterior over two parameters as a map.

    Parameters
    ----------
    frame : pandas.DataFrame
        From :func:`~epidural_dx.analysis.sensitivity.two_way`. A white line bounds where another
        state leads; the dot is where both parameters stand.
    ax : matplotlib axes, optional

    Returns
    -------
    matplotlib axes
    """
    ax = ax or _axes(6.5, 4.4)
    x, y = np.unique(frame["first"]), np.unique(frame["second"])
    by = frame.sort_values(["second", "first"])
    z, margin = (by[c].to_numpy().reshape(len(y), len(x)) for c in ("probability", "margin"))
    filled = ax.contourf(x, y, z, levels=np.linspace(0, 1, 11), cmap="cividis")
    if margin.min() < 0 < margin.max():
        ax.contour(x, y, margin, levels=[0], colors="white", linewidths=2)
    ax.plot(*frame.attrs["now"], "o", color="white", markeredgecolor="black", clip_on=False)
    ax.set_xlabel(axis_label(frame.attrs["first"]))
    ax.set_ylabel(axis_label(frame.attrs["second"]))
    ax.figure.colorbar(filled, ax=ax, label=f"P({frame.attrs['hypothesis']} | findings)")
    return ax


def plot_shares(frame: pd.DataFrame, ax: Axes | None = None, *, top: int = 10) -> Axes:
    """Draw the largest shares of a variance, with their standard errors.

    Parameters
    ----------
    frame : pandas.DataFrame
        From :func:`~epidural_dx.analysis.attribution.attribute` or
        :func:`~epidural_dx.analysis.attribution.attribute_ranking`.
    ax : matplotlib axes, optional
    top : int
        Rows.

    Returns
    -------
    matplotlib axes
    """
    rows = frame[frame["share"] > 0].head(top)
    names = list(rows["name"])
    if "citation" in rows:
        names = [c or n for n, c in zip(names, rows["citation"], strict=True)]
    labels = [textwrap.fill(_short(n), LABEL) for n in names]
    lines = sum(label.count("\n") + 1 for label in labels)
    ax = ax or _axes(8, 0.16 * lines + 0.2 * len(rows) + 0.9)
    at = np.arange(len(rows))
    ax.barh(
        at,
        100 * rows["share"],
        xerr=100 * rows["error"],
        color=BLUE,
        ecolor=GREY,
        capsize=2,
        height=0.7,
    )
    ax.set_yticks(at, labels, fontsize=9)
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set_xlabel("share of the variance (%, ± standard error)")
    return _open(ax)


def _short(name: str) -> str:
    """Leave the DOI away where authors and year stand before it."""
    head = name.split(" doi:")[0].split(" pmid:")[0].rstrip(". ")
    return head if len(head) > 12 else name


def _axes(width: float, height: float) -> Axes:
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    return ax


def _open(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    return ax
