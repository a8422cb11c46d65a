r"""What the answer would be if a figure, or a finding, were different.

One-way sensitivity functions. With one parameter :math:`x` varied and the other states of its
column kept in proportion, a posterior is a quotient of two linear functions wherever P(e) is
linear in :math:`x` (see :mod:`epidural_dx.analysis.response`),

.. math:: P(h \mid e)(x) = \frac{p_h + D_h (x - x_0)}{1 + D_e (x - x_0)},

with :math:`p_h` the present posterior, :math:`D_h = \partial P(h, e) / \partial x / P(e)` and
:math:`D_e = \sum_h D_h`; one reverse pass yields all of them (Darwiche, J ACM 2003;50:280; Chan,
Darwiche, J Artif Intell Res 2002;17:265). From the function follow the sensitivity value
:math:`|D_h - p_h D_e|`, the vertex proximity, that is the distance to the value where the curve
turns from flat to steep (van der Gaag, Renooij, UAI 2001), and the admissible deviation: how far
the parameter may move either way before another hypothesis leads.

Where a parameter acts through fitted rates or several tables the derivative is that of the rebuilt
tables, and curves come from rebuilding (``form`` says which: ``quotient`` or ``rebuilt``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epidural_dx.analysis.parameters import Parameter, find_parameter
from epidural_dx.analysis.response import Response, column_with, table_map, table_response, variants
from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    import pandas as pd

    from epidural_dx.analysis.uncertainty import PanelResults
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.inference import Bank
    from epidural_dx.model import Model, RawEvidence

Array = NDArray[np.float64]

#: Results of a test that are differentiated at a time.
RESULT_ROWS = 16
#: How a curve is known.
FORMS = ("quotient", "rebuilt")


@dataclass(frozen=True, eq=False)
class OneWay:
    """All one-way sensitivity functions of one query.

    Attributes
    ----------
    model : Model
    evidence : Evidence
    variable : str
        Whose states are the hypotheses.
    states : tuple of str
    posterior : ndarray, shape (states,)
    response : Response
        The parameters, in the order of the rows below.
    by_state : ndarray, shape (parameters, states)
        Derivative of P(state, evidence) over the present P(evidence).
    """

    model: Model
    evidence: Evidence
    variable: str
    states: tuple[str, ...]
    posterior: Array
    response: Response
    by_state: Array

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters, one per row."""
        return self.response.parameters

    @cached_property
    def of_evidence(self) -> Array:
        """Derivative of log P(evidence), shape (parameters,)."""
        return np.asarray(self.by_state.sum(axis=1))

    @cached_property
    def derivative(self) -> Array:
        """Derivative of every posterior, shape (parameters, states)."""
        return np.asarray(self.by_state - self.of_evidence[:, None] * self.posterior)

    @property
    def leader(self) -> str:
        """The most probable state."""
        return self.states[int(np.argmax(self.posterior))]

    def state(self, hypothesis: str | None = None) -> int:
        """Position of a hypothesis (by default the leading one).

        Raises
        ------
        EvidenceError
            No such state.
        """
        name = self.leader if hypothesis is None else hypothesis
        if name not in self.states:
            raise EvidenceError(
                f"{name!r} is no state of {self.variable}",
                value=name,
                allowed=self.states,
                nearest=nearest(name, self.states),
            )
        return self.states.index(name)

    def coefficients(self, parameter: str, hypothesis: str | None = None) -> Array:
        """Coefficients a, b, c, d of (a x + b) / (c x + d), shape (4,).

        Raises
        ------
        EvidenceError
            Unknown parameter or hypothesis, or a parameter whose curve is no such quotient.
        """
        i, h = find_parameter(self.parameters, parameter), self.state(hypothesis)
        if not self.response.linear[i]:
            raise EvidenceError(
                "acts through fitted rates or several tables: its curve is no quotient of two "
                "linear functions; ask for the curve itself",
                variable=self.parameters[i].name,
            )
        x0 = self.parameters[i].value
        a, c = self.by_state[i, h], self.of_evidence[i]
        return np.array([a, self.posterior[h] - a * x0, c, 1 - c * x0])

    def curve(self, parameter: str, x: Sequence[float] | Array) -> Array:
        """Posterior of every state at the values `x` of a parameter, exact.

        Parameters
        ----------
        parameter : str
        x : sequence of float

        Returns
        -------
        ndarray, shape (len(x), states)

        Raises
        ------
        EvidenceError
            Unknown parameter.
        ModelError
            A value outside the parameter's bounds.
        """
        i = find_parameter(self.parameters, parameter)
        points = np.asarray(x, dtype=float)
        index = np.full(len(points), i)
        easy = self.response.quotient(index, points)
        found = np.empty((len(points), len(self.states)))
        found[easy] = self._quotient(index[easy], points[easy])
        if not easy.all():
            found[~easy] = self._ask(variants(self.model, self.parameters[i], points[~easy]))
        return found

    def _quotient(self, index: NDArray[np.intp], x: Array) -> Array:
        """Evaluate the quotients of some parameters at one value each, shape (n, states)."""
        step = (x - self.response.values[index])[:, None]
        top = self.posterior + self.by_state[index] * step
        return np.asarray(top / (1 + self.of_evidence[index][:, None] * step))

    def _ask(self, bank: Bank) -> Array:
        return _posterior(self.model, self.evidence, self.variable, bank)

    def vertex_proximity(self, hypothesis: str | None = None) -> Array:
        """Distance of every parameter from its curve's vertex, shape (parameters,).

        NaN where the curve is a line or no quotient.
        """
        h = self.state(hypothesis)
        x0 = self.response.values
        a, c = self.by_state[:, h], self.of_evidence
        with np.errstate(divide="ignore", invalid="ignore"):
            pole = x0 - 1 / c
            # (a x + b) / (c x + d) = t + r / (x - pole)
            r = (self.posterior[h] - a / c) / c
            vertex = np.where(pole < x0, pole + np.sqrt(np.abs(r)), pole - np.sqrt(np.abs(r)))
        usable = self.response.linear & (np.abs(c) > 1e-12)
        return np.where(usable, np.abs(vertex - x0), np.nan)

    def admissible_deviation(self) -> Array:
        """How far every parameter may fall and rise before another state leads.

        Exact for quotients: the leader's and a rival's numerators are lines, which meet once.
        NaN where the curve is no quotient (see :meth:`overturning`), infinite where no value in
        the tested range overturns.

        Returns
        -------
        ndarray, shape (parameters, 2)
        """
        leader = self.state()
        lead = self.posterior[leader] - self.posterior
        slope = self.by_state - self.by_state[:, [leader]]
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(np.abs(slope) > 1e-300, lead / slope, np.inf)
        step[:, leader] = np.inf
        x0 = self.response.values[:, None]
        tested = self.response.tested
        inside = (x0 + step >= tested[:, :1]) & (x0 + step <= tested[:, 1:])
        fall = np.min(np.where(inside & (step < 0), -step, np.inf), axis=1)
        rise = np.min(np.where(inside & (step > 0), step, np.inf), axis=1)
        found = np.stack([fall, rise], axis=1)
        found[~self.response.linear] = np.nan
        return found

    def overturning(self, parameter: str) -> tuple[float, float]:
        """Nearest values below and above at which another state leads, for any parameter.

        Searched over the tested range on a grid and refined by bisection on the curve itself.

        Returns
        -------
        below, above : float
            NaN where no value in the range overturns.

        Raises
        ------
        EvidenceError
            Unknown parameter.
        """
        i = find_parameter(self.parameters, parameter)
        name, x0 = self.parameters[i].name, self.parameters[i].value
        leader = self.state()
        found = []
        for end in self.response.tested[i]:
            near, far = x0, end
            for _ in range(6):
                grid = np.linspace(near, far, 17)[1:]
                other = np.flatnonzero(self.curve(name, grid).argmax(axis=1) != leader)
                if not len(other):
                    near = np.nan
                    break
                first = int(other[0])
                near, far = (grid[first - 1] if first else near), grid[first]
            found.append(float(far) if np.isfinite(near) else float("nan"))
        return found[0], found[1]

    def table(self, hypothesis: str | None = None) -> pd.DataFrame:
        """All parameters with their sensitivity, the largest first.

        Returns
        -------
        pandas.DataFrame
            Columns parameter, group, cause, grade, value, derivative, sensitivity_value,
            spread_effect (|derivative| times half the width of the 90 % range),
            vertex_proximity, may_fall, may_rise, form, tested_low, tested_high (outside them even
            a quotient is rebuilt).
        """
        import pandas as pd

        h = self.state(hypothesis)
        deviation = self.admissible_deviation()
        slope = self.derivative[:, h]
        frame = pd.DataFrame(
            {
                "parameter": [p.name for p in self.parameters],
                "group": [p.group for p in self.parameters],
                "cause": [p.cause for p in self.parameters],
                "grade": [p.grade for p in self.parameters],
                "value": self.response.values,
                "derivative": slope,
                "sensitivity_value": np.abs(slope),
                "spread_effect": np.abs(slope) * (self.response.high - self.response.low) / 2,
                "vertex_proximity": self.vertex_proximity(hypothesis),
                "may_fall": deviation[:, 0],
                "may_rise": deviation[:, 1],
                "form": np.where(self.response.linear, *FORMS),
                "tested_low": self.response.tested[:, 0],
                "tested_high": self.response.tested[:, 1],
            }
        )
        return frame.sort_values("spread_effect", ascending=False, kind="stable", ignore_index=True)


def one_way(
    model: Model, evidence: Evidence | RawEvidence, variable: str = "lesion_cause"
) -> OneWay:
    """All one-way sensitivity functions of P(variable | evidence), in one derivative pass.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    variable : str
        Whose states are the hypotheses.

    Returns
    -------
    OneWay

    Raises
    ------
    EvidenceError
        Evidence that cannot be read or is impossible, or an unknown variable.
    """
    read = model.read_evidence(evidence)
    at = model.position(variable)
    response = table_response(model)
    model.run(read, want=())  # names the culprits of impossible evidence
    arrays = model.arrays(read)
    posterior, tables = model.engine.posterior_derivatives(arrays, at)
    of_evidence = model.engine.derivatives(arrays).tables
    total = response.pull_back([t[:1] for t in of_evidence])[:, 0]
    by_posterior = response.pull_back([t[0] for t in tables])
    return OneWay(
        model=model,
        evidence=read,
        variable=variable,
        states=model.variables[variable].states,
        posterior=posterior[0],
        response=response,
        by_state=by_posterior + total[:, None] * posterior[0],
    )


def information_derivatives(
    model: Model, evidence: Evidence, panel: PanelResults, variable: str = "lesion_cause"
) -> tuple[float, Array]:
    r"""Information that a test gives about a variable, and its derivative by every parameter.

    .. math:: I = \sum_{r, c} P(c, r \mid e) \log_2 \frac{P(c, r \mid e)}{P(c \mid e) P(r \mid e)}

    has the differential :math:`\sum_{r,c} L_{cr}\, dP(c, r \mid e)` with the logarithms
    :math:`L_{cr}` held fixed, since the changes of all probabilities sum to 0. For one result r
    that is the probability of r with :math:`L_{\cdot r}` (and a constant that makes it positive) as
    a likelihood of the variable: one reverse pass per result.

    Parameters
    ----------
    model : Model
    evidence : Evidence
    panel : PanelResults
        From :func:`~epidural_dx.analysis.uncertainty.panel_results`; sampled results stand for all.
    variable : {"lesion_cause", "etiology"}

    Returns
    -------
    bits : float
    derivative : ndarray, shape (parameters,)
    """
    response = table_response(model)
    at = model.position(variable)
    arrays = model.arrays(evidence)
    base = model.engine.run(arrays, target=(at,), want=())
    after = model.engine.run(panel.rows, target=(at,), want=())
    logs = after.log_evidence - base.log_evidence[0] + panel.log_weight
    weight = np.exp(logs - logs.max())
    weight /= weight.sum()
    now, then = base.posterior, after.posterior
    lifted = np.log2(np.divide(then, now, out=np.ones_like(then), where=then > 0))
    bits = float((weight[:, None] * then * lifted).sum())
    shift = 1.0 - float(lifted.min())

    def of_log_evidence(rows: Mapping[int, Array], share: Array) -> Array:
        """Sum the derivatives of log P(row) with some weights."""
        found = np.zeros(len(response.parameters))
        for start in range(0, len(share), RESULT_ROWS):
            some = slice(start, start + RESULT_ROWS)
            tables = model.engine.derivatives({p: w[some] for p, w in rows.items()}).tables
            summed = [np.tensordot(share[some], t, axes=1)[None] for t in tables]
            found += response.pull_back(summed)[:, 0]
        return found

    weighted = {**panel.rows, at: (lifted + shift) * panel.rows.get(at, 1.0)}
    slope = of_log_evidence(weighted, weight * (then * (lifted + shift)).sum(axis=1))
    if not panel.sampled:
        whole = {p: w[None] for p, w in arrays.items()} or {at: np.ones((1, now.shape[1]))}
        return bits, slope - (bits + shift) * of_log_evidence(whole, np.ones(1))
    # weights are normalised to the sample, whose mean posterior is not quite the present one
    slope -= (bits + shift) * of_log_evidence(panel.rows, weight)
    missed = np.divide(weight @ then, now[0], out=np.zeros_like(now[0]), where=now[0] > 0)
    return bits, slope - one_way(model, evidence, variable).derivative @ missed / np.log(2)


def tornado(
    model: Model,
    evidence: Evidence | RawEvidence,
    hypothesis: str | None = None,
    *,
    variable: str = "lesion_cause",
    top: int = 15,
    functions: OneWay | None = None,
) -> pd.DataFrame:
    """Give the parameters that move a posterior most over their own 90 % ranges.

    Candidates are chosen by derivative times range; those that are no quotients are rebuilt at
    both ends, so every number shown is exact.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    hypothesis : str, optional
        By default the leading state.
    variable : str
    top : int
        Rows.
    functions : OneWay, optional
        Already computed functions of the same query.

    Returns
    -------
    pandas.DataFrame
        Columns parameter, group, grade, value, low, high (of the parameter), at_low, at_high (the
        posterior there), swing, leader_at_low, leader_at_high, form; largest swing first.

    Raises
    ------
    EvidenceError
        As :func:`one_way`, an unknown hypothesis, or `top` below 1.
    """
    import pandas as pd

    if top < 1:
        raise EvidenceError(f"top must be at least 1, got {top}", value=top)
    found = functions or one_way(model, evidence, variable)
    h = found.state(hypothesis)
    response = found.response
    every = np.arange(len(found.parameters))
    low, high = found._quotient(every, response.low), found._quotient(every, response.high)
    easy = response.quotient(every, response.low) & response.quotient(every, response.high)
    linear_swing = np.abs(found.derivative[:, h]) * (response.high - response.low)
    guess = np.where(easy, np.abs(high[:, h] - low[:, h]), linear_swing)
    chosen = np.argsort(-guess, kind="stable")[: 2 * top]
    curved = [int(i) for i in chosen if not easy[i]]
    if curved:
        ends = _rebuilt_ends(found, curved)
        low[curved], high[curved] = ends[:, 0], ends[:, 1]
    rows = [
        {
            "parameter": found.parameters[i].name,
            "group": found.parameters[i].group,
            "grade": found.parameters[i].grade,
            "value": found.parameters[i].value,
            "low": response.low[i],
            "high": response.high[i],
            "at_low": low[i, h],
            "at_high": high[i, h],
            "swing": abs(high[i, h] - low[i, h]),
            "leader_at_low": found.states[int(np.argmax(low[i]))],
            "leader_at_high": found.states[int(np.argmax(high[i]))],
            "form": FORMS[0] if easy[i] else FORMS[1],
        }
        for i in chosen
    ]
    frame = pd.DataFrame(rows).sort_values("swing", ascending=False, kind="stable")
    frame = frame.head(top).reset_index(drop=True)
    frame.attrs.update(
        hypothesis=found.states[h], variable=found.variable, posterior=float(found.posterior[h])
    )
    return frame


def _rebuilt_ends(found: OneWay, index: Sequence[int]) -> Array:
    """Posterior at both ends of the ranges by rebuilding, shape (len(index), 2, states)."""
    tables = table_map(found.model)
    values: dict[tuple[str, str, str, str], Array] = {}
    for n, i in enumerate(index):
        p = found.parameters[i]
        base = tables.column_value(p.key)
        if p.key not in values:
            values[p.key] = np.tile(base, (2 * len(index), 1))
        ends = np.array([found.response.low[i], found.response.high[i]])
        values[p.key][2 * n : 2 * n + 2] = column_with(base, p.state, ends)
    return found._ask(tables.bank(values)).reshape(len(index), 2, -1)


def two_way(
    model: Model,
    evidence: Evidence | RawEvidence,
    first: str,
    second: str,
    *,
    hypothesis: str | None = None,
    variable: str = "lesion_cause",
    points: int = 15,
) -> pd.DataFrame:
    """Posterior over a grid of two parameters, everything rebuilt at each point.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    first, second : str
        Names of parameters of different columns; each runs over its 90 % range.
    hypothesis : str, optional
        By default the leading state.
    variable : str
    points : int
        Values of each parameter.

    Returns
    -------
    pandas.DataFrame
        Columns first, second (values), probability (of the hypothesis), margin (by which it leads
        the best other state; negative where another one leads), leader. ``attrs``: first, second,
        hypothesis, now (the present values).

    Raises
    ------
    EvidenceError
        Unknown parameter, two states of one column, fewer than 2 points, bad evidence.
    """
    import pandas as pd

    if points < 2:
        raise EvidenceError(f"points must be at least 2, got {points}", value=points)
    read = model.read_evidence(evidence)
    states = model.variables[variable].states if variable in model.variables else ()
    now = model.run(read, target=("lesion_cause",)).marginals
    assert now is not None
    posterior = now[model.position(variable)][0]
    leader = states[int(np.argmax(posterior))]
    if hypothesis is not None and hypothesis not in states:
        raise EvidenceError(
            f"{hypothesis!r} is no state of {variable}",
            value=hypothesis,
            allowed=states,
            nearest=nearest(hypothesis, states),
        )
    response = table_response(model)
    i, j = (find_parameter(response.parameters, name) for name in (first, second))
    one, two = response.parameters[i], response.parameters[j]
    if one.key == two.key:
        raise EvidenceError(
            "two states of one column cannot be varied apart", variable=f"{one.name}; {two.name}"
        )
    tables = table_map(model)
    x = np.linspace(response.low[i], response.high[i], points)
    y = np.linspace(response.low[j], response.high[j], points)
    grid_x, grid_y = (g.reshape(-1) for g in np.meshgrid(x, y, indexing="ij"))
    bank = tables.bank(
        {
            one.key: column_with(tables.column_value(one.key), one.state, grid_x),
            two.key: column_with(tables.column_value(two.key), two.state, grid_y),
        }
    )
    answers = _posterior(model, read, variable, bank)
    h = states.index(hypothesis or leader)
    frame = pd.DataFrame(
        {
            "first": grid_x,
            "second": grid_y,
            "probability": answers[:, h],
            "margin": answers[:, h] - np.delete(answers, h, axis=1).max(axis=1),
            "leader": [states[k] for k in answers.argmax(axis=1)],
        }
    )
    frame.attrs.update(
        first=one.name,
        second=two.name,
        hypothesis=hypothesis or leader,
        now=(one.value, two.value),
    )
    return frame


def _posterior(model: Model, evidence: Evidence, variable: str, bank: Bank) -> Array:
    """P(variable | evidence) under every row of a bank, shape (rows, states)."""
    at = model.position(variable)
    arrays = model.arrays(evidence)
    if variable in ("lesion_cause", "etiology"):
        return np.asarray(
            model.engine.run(arrays, target=(at,), want=(), bank=bank).posterior[0]
        )
    marginals = model.engine.run(arrays, want=("marginals",), bank=bank).marginals
    assert marginals is not None
    return np.asarray(marginals[at][0])


def evidence_sensitivity(
    model: Model, evidence: Evidence | RawEvidence, hypothesis: str | None = None
) -> pd.DataFrame:
    """Answer without every finding, and with each other state in its place.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    hypothesis : str, optional
        A cause; by default the leading one.

    Returns
    -------
    pandas.DataFrame
        Columns finding, observed, instead (None where the finding is removed), probability (of
        the hypothesis), change, leader, overturns, probability_of_state (of the other state given
        the rest; small values are hardly believable alternatives). States that the rest makes
        impossible are left out.

    Raises
    ------
    EvidenceError
        Evidence that cannot be read or is impossible, or an unknown cause.
    """
    import pandas as pd

    read = model.read_evidence(evidence)
    base = model.run(read, target=("lesion_cause",), want=()).posterior[0]
    name = model.causes[int(np.argmax(base))] if hypothesis is None else hypothesis
    if name not in model.causes:
        raise EvidenceError(
            f"{name!r} is no cause",
            value=name,
            allowed=model.causes,
            nearest=nearest(name, model.causes),
        )
    h = model.causes.index(name)
    columns = (
        "finding,observed,instead,probability,change,leader,overturns,probability_of_state"
    ).split(",")
    arrays = model.arrays(read)
    names = list(read.informative)
    rows: list[tuple[str, str | None, int]] = []
    stacked: dict[int, list[Array]] = {p: [] for p in arrays}
    for finding in names:
        states = model.variables[finding].states
        observed = arrays[model.position(finding)]
        for k in range(-1, len(states)):
            if k >= 0 and observed[k] > 0 and np.count_nonzero(observed) == 1:
                continue
            changed = np.ones(len(states)) if k < 0 else np.eye(len(states))[k]
            rows.append((finding, None if k < 0 else states[k], k))
            for p, weights in arrays.items():
                stacked[p].append(changed if p == model.position(finding) else weights)
    if not rows:
        return pd.DataFrame(columns=columns)
    result = model.engine.run(
        {p: np.stack(w) for p, w in stacked.items()},
        target=(model.position("lesion_cause"),),
        want=(),
    )
    removed = {f: result.log_evidence[n] for n, (f, _, k) in enumerate(rows) if k < 0}
    table = []
    for n, (finding, instead, _) in enumerate(rows):
        if not result.possible[n]:
            continue
        p = result.posterior[n]
        entry = read.entries.get(finding)
        table.append(
            {
                "finding": finding,
                "observed": entry.text if entry is not None else "",
                "instead": instead,
                "probability": float(p[h]),
                "change": float(p[h] - base[h]),
                "leader": model.causes[int(np.argmax(p))],
                "overturns": bool(np.argmax(p) != np.argmax(base)),
                "probability_of_state": (
                    float("nan")
                    if instead is None
                    else float(np.exp(result.log_evidence[n] - removed[finding]))
                ),
            }
        )
    frame = pd.DataFrame(table, columns=columns)
    frame.attrs.update(hypothesis=name, posterior=float(base[h]))
    return frame
