"""What :meth:`Model.diagnose` returns: names, numbers, warnings, and how to show them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx.clinical.display import rounded_percent

if TYPE_CHECKING:
    import pandas as pd

    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.decision.ranking import RankedTest
    from epidural_dx.inference import Result
    from epidural_dx.model import Model

Array = NDArray[np.float64]

RESEARCH_NOTICE = "For research and teaching. Not a medical device; it must not guide treatment."

#: Bits of conflict above which an answer warns. At most a quarter of the model's own patients
#: conflict as much (explanation.py); the validation report measures how many do.
CONFLICT = 2.0

#: Groups whose posteriors an answer carries as ``conditions``.
CONDITION_GROUPS = ("condition", "patient")
#: A condition is also a condition of the answer when it is a latent of medical meaning.
LATENT_CONDITIONS = ("lesion_subtype", "hematoma_phase", "emh_activity", "inflammation")


@dataclass(frozen=True)
class Caution:
    """One warning: a stable code, one sentence, and the variables it is about."""

    code: str
    message: str
    variables: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"code": self.code, "message": self.message, "variables": list(self.variables)}


@dataclass(frozen=True, eq=False)
class Answer:
    """Posterior of one patient.

    Attributes
    ----------
    model : Model
    evidence : Evidence
        The evidence as it was read.
    marginals : mapping of str to ndarray
        Posterior of every variable, in the order of its states.
    log_evidence : float
        Natural logarithm of P(evidence | a lesion exists).
    warnings : tuple of Caution
    """

    model: Model
    evidence: Evidence
    marginals: Mapping[str, Array]
    log_evidence: float
    warnings: tuple[Caution, ...] = field(default=())

    @cached_property
    def causes(self) -> pd.Series:
        """P(cause | evidence), sorted, sums to 1."""
        return self._series("lesion_cause")

    @cached_property
    def etiology(self) -> pd.Series:
        """P(mechanism | evidence), sorted, sums to 1."""
        return self._series("etiology")

    @cached_property
    def conditions(self) -> dict[str, pd.Series]:
        """Posterior of every underlying condition, states in their order."""
        import pandas as pd

        return {
            name: pd.Series(
                self.marginals[name], index=list(variable.states), name=name, dtype=float
            )
            for name, variable in self.model.variables.items()
            if is_condition(name, variable.group)
        }

    @cached_property
    def cause_limits(self) -> Array:
        """Lower and upper limits of the 90 % intervals in the order of the causes, (2, causes)."""
        from epidural_dx.analysis.uncertainty import interval, posterior_draws

        return interval(posterior_draws(self.model, self.evidence, "lesion_cause"))

    @cached_property
    def etiology_limits(self) -> Array:
        """Lower and upper limits of the 90 % intervals, shape (2, mechanisms)."""
        from epidural_dx.analysis.uncertainty import interval, posterior_draws

        return interval(posterior_draws(self.model, self.evidence, "etiology"))

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """90 % interval of every cause under joint draws of all parameters, best first."""
        import pandas as pd

        lower, upper = self.cause_limits
        frame = pd.DataFrame({"lower": lower, "upper": upper}, index=list(self.model.causes))
        return frame.loc[self.causes.index]

    @cached_property
    def next_tests(self) -> tuple[RankedTest, ...]:
        """The tests worth most next (about etiology and marrow infiltration jointly)."""
        from epidural_dx.decision.ranking import rank_tests

        return tuple(rank_tests(self.model, self.evidence))

    def _series(self, name: str) -> pd.Series:
        import pandas as pd

        states = list(self.model.variables[name].states)
        series = pd.Series(self.marginals[name], index=states, name=name, dtype=float)
        return series.sort_values(ascending=False, kind="stable")

    def ranked_causes(self) -> list[tuple[str, float]]:
        """Causes with probabilities, best first, without pandas."""
        return _ranked(self.model.variables["lesion_cause"].states, self.marginals["lesion_cause"])

    def ranked_etiology(self) -> list[tuple[str, str, str, float]]:
        """Mechanisms as (name, cause, driver, probability), best first, without pandas."""
        by_name = {m.name: m for m in self.model.mechanisms}
        return [
            (name, by_name[name].cause, by_name[name].driver, p)
            for name, p in _ranked(list(by_name), self.marginals["etiology"])
        ]

    def to_dict(self, *, next_tests: bool = True, intervals: bool = True) -> dict[str, Any]:
        """Return the answer as one JSON document.

        Parameters
        ----------
        next_tests : bool
            Also rank the tests.
        intervals : bool
            Also give the 90 % intervals; else they are null.
        """
        causes = _limits(self.model.causes, self.cause_limits if intervals else None)
        names = [m.name for m in self.model.mechanisms]
        mechanisms = _limits(names, self.etiology_limits if intervals else None)
        return {
            "model": {
                "name": self.model.name,
                "version": self.model.version,
                "digest": self.model.digest,
                "scenario": self.model.scenario,
            },
            "evidence": {
                name: {"text": entry.text, "states": list(entry.states)}
                for name, entry in self.evidence.entries.items()
            },
            "causes": [
                {"cause": c, "probability": p, "lower": causes[c][0], "upper": causes[c][1]}
                for c, p in self.ranked_causes()
            ],
            "etiology": [
                {
                    "name": n,
                    "cause": c,
                    "driver": d,
                    "probability": p,
                    "lower": mechanisms[n][0],
                    "upper": mechanisms[n][1],
                }
                for n, c, d, p in self.ranked_etiology()
            ],
            "conditions": {
                name: dict(zip(variable.states, map(float, self.marginals[name]), strict=True))
                for name, variable in self.model.variables.items()
                if is_condition(name, variable.group)
            },
            "next_tests": [t.as_dict() for t in self.next_tests] if next_tests else [],
            "warnings": [w.as_dict() for w in self.warnings],
            "notes": list(self.evidence.notes),
            "log_evidence": self.log_evidence,
            "notice": RESEARCH_NOTICE,
        }

    def _repr_html_(self) -> str:
        """Table with bars and intervals for notebooks."""
        lower, upper = self.cause_limits
        at = {c: i for i, c in enumerate(self.model.causes)}
        rows = "".join(
            f"<tr><td>{html.escape(cause.replace('_', ' '))}</td>"
            f"<td style='text-align:right'>{_percent(p)}</td>"
            f"<td style='text-align:right'>{_percent(lower[at[cause]])} to "
            f"{_percent(upper[at[cause]])}</td>"
            f"<td><div style='background:#0072B2;height:0.8em;width:{max(1, round(200 * p))}px'>"
            f"</div></td><td>{html.escape(self._drivers(cause))}</td></tr>"
            for cause, p in self.ranked_causes()[:8]
        )
        warnings = "".join(
            f"<li>{html.escape(w.message)}</li>" for w in self.warnings if w.code != "research_use"
        )
        return (
            f"<p>{len(self.evidence)} findings, base rates {html.escape(self.model.scenario)}</p>"
            "<table><thead><tr><th>cause</th><th>probability</th><th>90 % interval</th><th></th>"
            f"<th>driver</th></tr></thead><tbody>{rows}</tbody></table>"
            f"<ul>{warnings}</ul><p><small>{RESEARCH_NOTICE}</small></p>"
        )

    def _drivers(self, cause: str) -> str:
        """Drivers of a cause that hold at least a tenth of it, in words."""
        named = [(d, p) for _, c, d, p in self.ranked_etiology() if c == cause]
        total = sum(p for _, p in named) or 1.0
        return ", ".join(
            f"{'no driver' if d == 'none' else d.replace('_', ' ')} {rounded_percent(p / total)}"
            for d, p in named
            if p >= 0.1 * total
        )

    def __repr__(self) -> str:
        """Show the leading causes."""
        lead = ", ".join(f"{c} {p:.3f}" for c, p in self.ranked_causes()[:3])
        return f"<Answer: {lead}>"


def is_condition(name: str, group: str) -> bool:
    """Whether an answer carries the variable's posterior among its conditions."""
    return group in CONDITION_GROUPS or name in LATENT_CONDITIONS


def _percent(p: float) -> str:
    """Write a probability for people: never a bare 0 or 100 %."""
    if p < 0.001:
        return "<0.1 %"
    return ">99.9 %" if p > 0.999 else f"{100 * p:.2g} %"


def _limits(
    names: Sequence[str], limits: Array | None
) -> dict[str, tuple[float | None, float | None]]:
    if limits is None:
        return {n: (None, None) for n in names}
    return {n: (float(limits[0, i]), float(limits[1, i])) for i, n in enumerate(names)}


def _ranked(states: Sequence[str], probabilities: Array) -> list[tuple[str, float]]:
    order = np.argsort(-probabilities, kind="stable")
    return [(states[i], float(probabilities[i])) for i in order]


def answer_from(model: Model, evidence: Evidence, result: Result) -> Answer:
    """Wrap the engine's result for one patient, with its warnings."""
    assert result.marginals is not None
    marginals = {n: result.marginals[i][0] for i, n in enumerate(model.variables)}
    log_evidence = model.log_probability(float(result.log_evidence[0]))
    return Answer(
        model=model,
        evidence=evidence,
        marginals=marginals,
        log_evidence=log_evidence,
        warnings=_warnings(model, evidence, marginals, log_evidence),
    )


def _warnings(
    model: Model, evidence: Evidence, marginals: Mapping[str, Array], log_evidence: float
) -> tuple[Caution, ...]:
    found = [
        Caution("research_use", RESEARCH_NOTICE),
        Caution(
            "contraindication",
            "No lumbar puncture below an epidural mass that compresses the cord.",
        ),
    ]
    bars = {
        "platelets": ("very_low", "platelets below 50 ×10⁹/L"),
        "inr": ("high", "INR above 1.7"),
        "fibrinogen": ("very_low", "fibrinogen below 1 g/L"),
    }
    likely = {
        name: float(marginals[name][model.variables[name].states.index(state)])
        for name, (state, _) in bars.items()
    }
    if 1 - np.prod([1 - p for p in likely.values()]) >= 0.5:
        reasons = [f"{bars[n][1]} ({rounded_percent(p)})" for n, p in likely.items() if p >= 0.05]
        found.append(
            Caution(
                "contraindication",
                f"Needle into the spine barred until corrected: {', '.join(reasons)}.",
                tuple(n for n, p in likely.items() if p >= 0.05),
            )
        )
    conflict = _conflict(model, evidence, log_evidence)
    if conflict > CONFLICT:
        found.append(
            Caution(
                "conflict",
                f"The findings agree less with each other than chance would "
                f"(conflict {conflict:.1f} bits): one may be wrong, or a rare cause explains them.",
                tuple(evidence.entries),
            )
        )
    return tuple(found)


def _conflict(model: Model, evidence: Evidence, log_evidence: float) -> float:
    r"""Conflict measure :math:`\log_2 \prod_i P(e_i) / P(e)` in bits.

    Positive values mean that the findings are less likely together than apart
    (Jensen, Chamberlain, Nordahl, Jensen, UAI 1990).
    """
    base = model.base_marginals
    apart = sum(
        float(np.log(np.dot(base[name], weights))) for name, weights in evidence.likelihoods.items()
    )
    return (apart - log_evidence) / float(np.log(2))
