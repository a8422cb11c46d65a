r"""Actions and what they are worth: the utility layer of the influence diagram.

Read from ``priors/utilities.yaml``. For the lesion, an action a taken h hours from now in a patient
with cause c and limb weakness w is worth

.. math::

    U(a, c, w, h) = (1 - d) \, [g \, u_{good} + (1 - g) \, u_{bad}] - harm(a) - extra(a, c)

    g = g_{untreated} + E(a, c) \, \max(0, g_{treated}(h) - g_{untreated})

    d = d_{untreated} - E(a, c) \, \max(0, d_{untreated} - d_{treated}(h))

with the share E of the benefit of the right treatment that the action brings,
:math:`g_{treated}(h) = g_0 (1 - \lambda)^{h/24}` or an interpolated curve of hours since onset, and
:math:`d_{treated}(h) = d_0 + \delta h / 24`. Treatment of a marrow that holds tumour adds a utility
of its own, :math:`G(b, m) (1 - \lambda_b)^{h/24} - harm(b)`; it is chosen independently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from epidural_dx.clinical.spelling import nearest
from epidural_dx.decision.catalog import read_figure, stamp
from epidural_dx.errors import ModelError
from epidural_dx.inference.network import FloatArray
from epidural_dx.network.structure import read_yaml

#: Which end of the ranges to read: the figures themselves, or all their lower or upper limits.
ENDS = ("value", "low", "high")


@dataclass(frozen=True)
class Action:
    """One thing that can be done.

    Attributes
    ----------
    name, label : str
    bridge : bool
        It can be started at once and changed when a result comes.
    as_test : str or None
        Its harm is that of this test in this patient.
    """

    name: str
    label: str
    bridge: bool = False
    as_test: str | None = None


@dataclass(frozen=True, eq=False)
class Utilities:
    """Outcomes, actions and delay, as arrays.

    Attributes
    ----------
    causes, weakness, marrow : tuple of str
        States of the variables that utility depends on.
    actions, marrow_actions : tuple of Action
    effect, extra_harm : ndarray, shape (actions, causes)
    harm : ndarray, shape (actions,)
        Without that of an action that is also a test.
    good_treated, good_untreated, lost_per_day : ndarray, shape (causes, weakness)
    curve_hours, curve_good : mapping of int to ndarray
        By cause, where P(good) follows hours since onset: (points,) and (weakness, points).
    utility_good, utility_bad, death_treated, death_untreated, death_per_day : ndarray, (causes,)
    marrow_gain : ndarray, shape (marrow actions, marrow states)
    marrow_harm, marrow_lost : ndarray, shape (marrow actions,)
    hours_since_onset : float
        Used where the caller gives none.
    """

    causes: tuple[str, ...]
    weakness: tuple[str, ...]
    marrow: tuple[str, ...]
    actions: tuple[Action, ...]
    marrow_actions: tuple[Action, ...]
    effect: FloatArray
    extra_harm: FloatArray
    harm: FloatArray
    good_treated: FloatArray
    good_untreated: FloatArray
    lost_per_day: FloatArray
    curve_hours: Mapping[int, FloatArray]
    curve_good: Mapping[int, FloatArray]
    utility_good: FloatArray
    utility_bad: FloatArray
    death_treated: FloatArray
    death_untreated: FloatArray
    death_per_day: FloatArray
    marrow_gain: FloatArray
    marrow_harm: FloatArray
    marrow_lost: FloatArray
    hours_since_onset: float

    def good(self, delay_hours: float, since_onset: float) -> FloatArray:
        """P(good outcome) under the right treatment after a delay, shape (causes, weakness)."""
        good = self.good_treated * (1.0 - self.lost_per_day) ** (delay_hours / 24.0)
        for cause, hours in self.curve_hours.items():
            for w in range(len(self.weakness)):
                good[cause, w] = np.interp(
                    since_onset + delay_hours, hours, self.curve_good[cause][w]
                )
        return good

    def lesion(self, delay_hours: float = 0.0, since_onset: float | None = None) -> FloatArray:
        """Return the utility of every action without harms, shape (actions, causes, weakness).

        Parameters
        ----------
        delay_hours : float
            Hours from now until the action.
        since_onset : float, optional
            Hours from the onset until now.
        """
        onset = self.hours_since_onset if since_onset is None else since_onset
        benefit = np.maximum(self.good(delay_hours, onset) - self.good_untreated, 0.0)
        good = self.good_untreated + self.effect[:, :, None] * benefit
        treated = self.death_treated + self.death_per_day * (delay_hours / 24.0)
        saved = np.maximum(self.death_untreated - treated, 0.0)
        death = (self.death_untreated - self.effect * saved)[:, :, None]
        quality = good * self.utility_good[:, None] + (1 - good) * self.utility_bad[:, None]
        value: FloatArray = (1 - death) * quality
        return value

    def marrow_value(self, delay_hours: float = 0.0) -> FloatArray:
        """Return the utility of marrow actions without harm, shape (actions, marrow states)."""
        kept = (1.0 - self.marrow_lost) ** (delay_hours / 24.0)
        value: FloatArray = self.marrow_gain * kept[:, None]
        return value

    def loss_per_hour(self, since_onset: float | None = None) -> FloatArray:
        """Return the utility lost per hour of waiting, shape (causes, weakness).

        The mean of the first day, under the right treatment.
        """
        onset = self.hours_since_onset if since_onset is None else since_onset
        value = []
        for hours in (0.0, 24.0):
            good = np.maximum(self.good(hours, onset), self.good_untreated)
            death = np.minimum(
                self.death_treated + self.death_per_day * hours / 24.0, self.death_untreated
            )
            quality = good * self.utility_good[:, None] + (1 - good) * self.utility_bad[:, None]
            value.append((1 - death)[:, None] * quality)
        loss: FloatArray = (value[0] - value[1]) / 24.0
        return loss


def read_utilities(
    priors: Path,
    causes: Sequence[str],
    weakness: Sequence[str],
    marrow: Sequence[str],
    end: str = "value",
) -> Utilities:
    """Read ``utilities.yaml`` (once, until it changes).

    Parameters
    ----------
    priors : Path
    causes, weakness, marrow : sequence of str
        States of lesion_cause, limb_weakness and marrow_infiltration.
    end : {"value", "low", "high"}
        Which end of the ranges to use.

    Raises
    ------
    ModelError
        A hole (a cause without outcome, an action without an effect on some cause), an unknown
        cause, a number outside its range: one sentence with file and name.
    """
    if end not in ENDS:
        raise ModelError(f"{end!r} is not one of {', '.join(ENDS)}")
    found = stamp(priors, "utilities.yaml")
    path = priors / "utilities.yaml"
    return _read(path, found, tuple(causes), tuple(weakness), tuple(marrow), end)


@lru_cache(maxsize=8)
def _read(
    path: Path,
    _: object,
    causes: tuple[str, ...],
    weakness: tuple[str, ...],
    marrow: tuple[str, ...],
    end: str,
) -> Utilities:
    document, _lines = read_yaml(path)
    reader = _Reader(path, document, end)
    outcomes = reader.section("outcomes")
    reader.complete(outcomes, causes, "outcomes")

    def column(name: str) -> FloatArray:
        return np.array([reader.number(outcomes[c], name, f"outcomes.{c}", c) for c in causes])

    def grid(name: str) -> FloatArray:
        rows = []
        for c in causes:
            if name not in outcomes[c] and "good_by_hours" in outcomes[c]:
                rows.append([0.0] * len(weakness))
                continue
            entry = reader.mapping(outcomes[c], name, f"outcomes.{c}")
            reader.complete(entry, weakness, f"outcomes.{c}.{name}")
            rows.append([reader.number(entry, w, f"outcomes.{c}.{name}", c) for w in weakness])
        return np.array(rows)

    hours: dict[int, FloatArray] = {}
    curves: dict[int, FloatArray] = {}
    for i, c in enumerate(causes):
        if "good_by_hours" in outcomes[c]:
            hours[i], curves[i] = reader.curve(outcomes[c]["good_by_hours"], weakness, c)
    section = reader.section("actions")
    marrow_section = reader.section("marrow_actions")
    for title, part in (("actions", section), ("marrow_actions", marrow_section)):
        if not part:
            raise ModelError(f"the section {title!r} is empty", file=path)
    effect = np.array(
        [reader.by_state(section[a], "effect", causes, f"actions.{a}") for a in section]
    )
    extra = np.array(
        [reader.by_state(section[a], "extra_harm", causes, f"actions.{a}") for a in section]
    )
    return Utilities(
        causes=causes,
        weakness=weakness,
        marrow=marrow,
        actions=tuple(
            Action(a, str(e.get("label", a)), bool(e.get("bridge", False)), e.get("as_test"))
            for a, e in section.items()
        ),
        marrow_actions=tuple(
            Action(a, str(e.get("label", a)), True) for a, e in marrow_section.items()
        ),
        effect=effect,
        extra_harm=extra,
        harm=np.array(
            [
                0.0 if "as_test" in e else reader.number(e, "harm", f"actions.{a}", None)
                for a, e in section.items()
            ]
        ),
        good_treated=grid("good_treated"),
        good_untreated=grid("good_untreated"),
        lost_per_day=grid("lost_per_day"),
        curve_hours=hours,
        curve_good=curves,
        utility_good=column("utility_good"),
        utility_bad=column("utility_bad"),
        death_treated=column("death_treated"),
        death_untreated=column("death_untreated"),
        death_per_day=column("death_per_day"),
        marrow_gain=np.array(
            [
                reader.by_state(e, "gain", marrow, f"marrow_actions.{a}")
                for a, e in marrow_section.items()
            ]
        ),
        marrow_harm=np.array(
            [
                reader.number(e, "harm", f"marrow_actions.{a}", None)
                for a, e in marrow_section.items()
            ]
        ),
        marrow_lost=np.array(
            [
                reader.number(e, "lost_per_day", f"marrow_actions.{a}", None)
                for a, e in marrow_section.items()
            ]
        ),
        hours_since_onset=reader.pick(
            read_figure(document.get("hours_since_onset"), "hours_since_onset", path)
        ),
    )


class _Reader:
    """Takes numbers out of the document, with their ranges."""

    def __init__(self, path: Path, document: Mapping[str, Any], end: str) -> None:
        self.path = path
        self.document = document
        self.end = end
        self.factors = self.section("ranges")

    def error(self, problem: str, name: str) -> ModelError:
        return ModelError(problem, file=self.path, name=name)

    def section(self, name: str) -> dict[str, Any]:
        part = self.document.get(name)
        if not isinstance(part, dict):
            raise self.error("the section is missing", name)
        for key, entry in part.items():
            if name != "ranges" and not isinstance(entry, dict):
                raise self.error("must be a mapping", f"{name}.{key}")
        return part

    def mapping(self, entry: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
        part = entry.get(key)
        if not isinstance(part, dict):
            raise self.error("is missing or no mapping", f"{where}.{key}")
        return part

    def complete(self, entry: Mapping[str, Any], states: Sequence[str], where: str) -> None:
        for key in entry:
            if key not in (*states, "otherwise"):
                close = nearest(str(key), states, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise self.error(f"unknown name {key!r}{hint}", where)
        missing = [s for s in states if s not in entry]
        if missing and "otherwise" not in entry:
            raise self.error(f"has a hole: nothing for {', '.join(missing)}", where)

    def by_state(
        self, entry: Mapping[str, Any], key: str, states: Sequence[str], where: str
    ) -> list[float]:
        part = self.mapping(entry, key, where)
        self.complete(part, states, f"{where}.{key}")
        grade = str(entry.get("grade"))
        return [
            self._value(part.get(s, part.get("otherwise")), f"{where}.{key}.{s}", grade)
            for s in states
        ]

    def number(self, entry: Mapping[str, Any], key: str, where: str, cause: str | None) -> float:
        if key not in entry:
            raise self.error("is missing", f"{where}.{key}")
        block = self.document["outcomes"][cause] if cause else entry
        return self._value(entry[key], f"{where}.{key}", str(block.get("grade")))

    def pick(self, figure: Any) -> float:
        return float(getattr(figure, self.end))

    def _value(self, given: Any, where: str, grade: str) -> float:
        """One probability or utility: a bare number, or [value, low, high]."""
        if isinstance(given, list):
            if len(given) != 3:
                raise self.error("must be a number or [value, low, high]", where)
            figure = read_figure(
                {"value": given[0], "low": given[1], "high": given[2]}, where, self.path
            )
        else:
            if isinstance(given, bool) or not isinstance(given, int | float):
                raise self.error(f"{given!r} is no number", where)
            if grade not in self.factors:
                raise self.error(
                    f"the grade {grade!r} is not one of {', '.join(self.factors)}", where
                )
            low, high = _odds_range(float(given), float(self.factors[grade]))
            figure = read_figure({"value": given, "low": low, "high": high}, where, self.path)
        if not (0 <= figure.low and figure.high <= 1):
            raise self.error(f"{given} is not between 0 and 1", where)
        return self.pick(figure)

    def curve(
        self, entry: Any, weakness: Sequence[str], cause: str
    ) -> tuple[FloatArray, FloatArray]:
        where = f"outcomes.{cause}.good_by_hours"
        if not isinstance(entry, dict) or not isinstance(entry.get("hours"), list):
            raise self.error("needs a list of hours", where)
        hours = np.array(entry["hours"], dtype=float)
        if len(hours) < 2 or np.any(np.diff(hours) <= 0):
            raise self.error("the hours must increase", where)
        grade = str(self.document["outcomes"][cause].get("grade"))
        rows = []
        for w in weakness:
            points = entry.get(w)
            if not isinstance(points, list) or len(points) != len(hours):
                raise self.error(f"needs {len(hours)} numbers for {w}", where)
            rows.append([self._value(p, f"{where}.{w}", grade) for p in points])
        return hours, np.array(rows)


def _odds_range(p: float, factor: float) -> tuple[float, float]:
    """Range of a probability whose odds may be off by a factor."""
    if not 0 < p < 1:
        return p, p

    def moved(by: float) -> float:
        odds = p / (1 - p) * by
        return odds / (1 + odds)

    low, high = moved(1 / factor), moved(factor)
    return (low, high) if math.isfinite(high) else (p, p)
