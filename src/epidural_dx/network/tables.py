r"""Formulas that turn pooled columns into conditional probability tables. Arrays only.

Every function takes columns of shape ``(..., given, states)`` and returns a table whose last
axis is the child and sums to 1. A leading axis are parameter draws. Draws are the first index but
lie innermost in memory: a table has few states and many draws, so that operations run along draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def order_of(array: Array) -> Literal["C", "F"]:
    """Memory order in which the first axis lies innermost where it does in `array`."""
    return "F" if array.ndim > 1 and array.strides[0] == array.itemsize else "C"


def normalized(table: Array) -> Array:
    """Divide by the sum over the last axis."""
    result: Array = table / table.sum(-1, keepdims=True)
    return result


def binary(present: Array) -> Array:
    """Table of an absent/present variable from the probability of *present*."""
    table = np.empty((*present.shape, 2), order=order_of(present))
    np.subtract(1, present, out=table[..., 0])
    table[..., 1] = present
    return table


def bounded_least_squares(
    design: Array, target: Array, low: float, high: float, sweeps: int = 400
) -> Array:
    """Least squares with every coefficient in ``[low, high]``, by cyclic coordinate descent.

    Parameters
    ----------
    design : ndarray, shape (..., rows, coefficients)
    target : ndarray, shape (..., rows)
    low, high : float
    sweeps : int
        Passes over the coefficients; the problem is convex, so they converge to the optimum.

    Returns
    -------
    ndarray, shape (..., coefficients)
    """
    square = np.einsum("...ri,...rj->...ij", design, design)
    product = np.einsum("...ri,...r->...i", design, target)
    size = square.shape[-1]
    x: Array = np.full_like(product, 0.5 * (low + high))
    for _ in range(sweeps):
        before = x.copy()
        for i in range(size):
            rest = np.einsum("...j,...j->...", square[..., i, :], x) - square[..., i, i] * x[..., i]
            x[..., i] = np.clip((product[..., i] - rest) / square[..., i, i], low, high)
        if np.max(np.abs(x - before)) < 1e-12:
            break
    return x


def associated(
    child: Array,
    partner: Array,
    log_odds_ratio: Array | float,
    child_scores: Array,
    partner_scores: Array,
) -> Array:
    r"""Make two findings dependent given their base without moving either margin.

    The joint given the base has margins ``child`` and ``partner`` and the odds ratios of the
    linear-by-linear association model (Goodman, J Am Stat Assoc 1979;74:537): starting from
    :math:`\exp(\theta\, u_x v_l)` the margins are fitted iteratively (Deming, Stephan,
    Ann Math Stat 1940;11:427), which leaves all odds ratios as they were.

    Parameters
    ----------
    child : ndarray, shape (..., base, child)
        P(child | base).
    partner : ndarray, shape (..., base, partner)
        P(partner | base).
    log_odds_ratio : ndarray, shape (..., base) or float
        :math:`\theta` per unit of both scores.
    child_scores, partner_scores : ndarray, shapes (child,), (partner,)

    Returns
    -------
    ndarray, shape (..., base, partner, child)
        P(child | base, partner).
    """
    theta = np.asarray(log_odds_ratio, dtype=float)[..., None, None]
    seed = np.exp(theta * partner_scores[:, None] * child_scores[None, :])
    lead = np.broadcast_shapes(child.shape[:-1], partner.shape[:-1], seed.shape[:-2])

    def flat(array: Array, axes: int) -> Array:
        """Put the last axes first and the others, in reverse, into one: draws lie side by side."""
        wide = np.broadcast_to(array, (*lead, *array.shape[array.ndim - axes :]))
        order = (*range(len(lead), wide.ndim), *reversed(range(len(lead))))
        result: Array = wide.transpose(order).reshape(*wide.shape[len(lead) :], -1)
        return result

    # The fitted joint is rows[l] * seed[l, x] * columns[x]: only the two vectors are iterated.
    kernel = flat(seed, 2)
    rows, columns = _fitted_margins(flat(partner, 1), flat(child, 1), kernel)
    joint = rows[:, None] * kernel * columns
    joint = joint.reshape(*joint.shape[:2], *reversed(lead))
    order = (*reversed(range(2, joint.ndim)), 0, 1)
    return normalized(joint.transpose(order))


def _fitted_margins(goal_rows: Array, goal_columns: Array, kernel: Array) -> tuple[Array, Array]:
    """Scale rows and columns of many small tables until they have the margins wanted.

    Parameters
    ----------
    goal_rows, goal_columns, kernel : ndarray, shapes (l, n), (x, n), (l, x, n)

    Returns
    -------
    ndarray, ndarray
        Factors of the rows, shape (l, n), and of the columns, shape (x, n). A table keeps those
        of the first round that moves it by no more than rounding.
    """
    rows, columns = np.empty_like(goal_rows), np.empty_like(goal_columns)
    here = np.arange(rows.shape[1])
    moving = np.ones(len(here), dtype=bool)
    u = goal_rows
    for _ in range(200):
        v = goal_columns / np.einsum("ln,lxn->xn", u, kernel)
        new = goal_rows / np.einsum("lxn,xn->ln", kernel, v)
        before, u = u, new
        still = moving & (np.abs(new - before) >= 1e-13 * before).any(axis=0)
        done = np.flatnonzero(moving & ~still)
        rows[:, here[done]], columns[:, here[done]] = new[:, done], v[:, done]
        left = np.count_nonzero(still)
        if not left:
            return rows, columns
        moving = still
        if 2 * left < len(still):
            at = np.flatnonzero(still)
            here, moving, u = here[at], moving[at], u[:, at]
            goal_rows, goal_columns = goal_rows[:, at], goal_columns[:, at]
            kernel, v = kernel[..., at], v[:, at]
    rows[:, here[moving]], columns[:, here[moving]] = u[:, moving], v[:, moving]
    return rows, columns


def ratio(base: Array, modifier: Array, reference: int, only: Sequence[int] | None = None) -> Array:
    r"""Let a second parent shift a column by its likelihood ratio against a reference state.

    :math:`P(x \mid a, b) \propto P(x \mid a)\, P(x \mid b) / P(x \mid b_0)`: exact where the two
    parents act independently on the odds of the child's states.

    Parameters
    ----------
    base : ndarray, shape (..., a, states)
    modifier : ndarray, shape (..., b, states)
    reference : int
        Position of :math:`b_0`.
    only : sequence of int, optional
        States whose odds the modifier moves; the others keep their proportions.

    Returns
    -------
    ndarray, shape (..., a, b, states)
    """
    factor = modifier / modifier[..., reference : reference + 1, :]
    if only is not None:
        # odds of a state against all others, so that the remaining states keep their proportions
        odds = modifier / (1 - modifier)
        keep = np.ones_like(factor)
        for state in only:
            keep[..., state] = odds[..., state] / odds[..., reference : reference + 1, state]
        factor = keep
    return normalized(base[..., :, None, :] * factor[..., None, :, :])


def weakened(table: Array, kept: Array, done: Array, quiet: int, states: Sequence[int]) -> Array:
    r"""Let something done before a test take a share of its telling results away.

    With the share k that is left and the share q of patients in whom it was done,
    :math:`P(x \mid \text{not done}) = P(x) / (1 - q (1 - k))` (the telling states together at
    most 0.98), :math:`P(x \mid \text{done}) = k \, P(x \mid \text{not done})`; the quiet state
    takes the rest. The margin over q is P(x).

    Parameters
    ----------
    table : ndarray, shape (..., parents, states)
    kept : ndarray, shape (...)
        k.
    done : ndarray
        q, to be broadcast against the table without its last axis kept (shape (..., 1)).
    quiet : int
        State that stands for nothing found.
    states : sequence of int
        Telling states that are weakened.

    Returns
    -------
    ndarray, shape (..., parents, 2, states)
    """
    k = np.asarray(kept).reshape(*np.shape(kept), *(1 for _ in range(table.ndim - np.ndim(kept))))
    telling = table[..., states]
    others = 1 - telling.sum(-1, keepdims=True) - table[..., quiet : quiet + 1]
    total = np.maximum(telling.sum(-1, keepdims=True), 1e-300)
    most = np.maximum((0.98 - others) / total, 1.0)
    before = telling * np.clip(1 / (1 - done * (1 - k)), 1.0, most)
    result = np.empty((*table.shape[:-1], 2, table.shape[-1]), order=order_of(table))
    result[...] = table[..., None, :]
    for place, share in enumerate((before, before * k)):
        result[..., place, states] = share
        result[..., place, quiet] = (1 - others - share.sum(-1, keepdims=True))[..., 0]
    return result


def excess_probability(probability: Array, reference: Array | float) -> Array:
    """Link of a noisy-OR cause: what it adds to the reference, ``1 - (1 - p) / (1 - r)``, >= 0."""
    result: Array = np.clip(1 - (1 - probability) / (1 - np.asarray(reference)), 0.0, 1.0)
    return result


def noisy_or(links: Sequence[Array]) -> Array:
    r"""Any of several independent causes makes the finding present.

    :math:`P(\text{absent} \mid \ldots) = \prod_i (1 - q_i)` (Pearl, Probabilistic Reasoning in
    Intelligent Systems, 1988, section 4.3.2).

    Parameters
    ----------
    links : sequence of ndarray, shape (..., k_i)
        Link probability of every state of every parent, in the order of the parents.

    Returns
    -------
    ndarray, shape (..., k_1, ..., k_n, 2)
        States absent, present.
    """
    count = len(links)
    absent: Array = np.ones(1)
    for i, link in enumerate(links):
        lead = link.shape[:-1]
        shape = (*lead, *(1 for _ in range(i)), link.shape[-1], *(1 for _ in range(count - 1 - i)))
        absent = absent * (1 - link).reshape(shape)
    table = np.empty((*absent.shape, 2), order=order_of(absent))
    table[..., 0] = absent
    np.subtract(1, absent, out=table[..., 1])
    return table


def noisy_max(cumulatives: Sequence[Array]) -> Array:
    r"""Take the highest of several independent contributions (ordered states only).

    :math:`P(X \le x) = \prod_i P_i(X_i \le x)` (Díez, UAI 1993).

    Parameters
    ----------
    cumulatives : sequence of ndarray, shape (..., k_i, states)
        Cumulative distribution of every parent state's contribution.

    Returns
    -------
    ndarray, shape (..., k_1, ..., k_n, states)
    """
    count = len(cumulatives)
    product: Array = np.ones(1)
    for i, c in enumerate(cumulatives):
        lead = c.shape[:-2]
        shape = (
            *lead,
            *(1 for _ in range(i)),
            c.shape[-2],
            *(1 for _ in range(count - 1 - i)),
            c.shape[-1],
        )
        product = product * c.reshape(shape)
    table = product.copy(order="K")
    table[..., 1:] -= product[..., :-1]
    return table


def relative_cumulative(columns: Array, reference: Array) -> Array:
    """Cumulative contribution of a cause beyond a reference column, made a distribution.

    ``F(x) / F_reference(x)``, clipped to 1 and made non-decreasing: the contribution that,
    joined to the reference by noisy-MAX, gives back the column where it exceeds the reference.
    """
    share = np.minimum(np.cumsum(columns, -1) / np.cumsum(reference, -1), 1.0)
    share[..., -1] = 1.0
    result: Array = np.minimum.accumulate(share[..., ::-1], axis=-1)[..., ::-1]
    return result


def dominance(
    shapes: Sequence[int], order: Sequence[tuple[int, int, int]], otherwise: int, states: int
) -> Array:
    """Deterministic table: the first rule that applies names the state.

    Parameters
    ----------
    shapes : sequence of int
        Cardinalities of the parents.
    order : sequence of (parent axis, parent state, child state)
    otherwise : int
        Child state when no rule applies.
    states : int

    Returns
    -------
    ndarray, shape (*shapes, states)
    """
    table = np.zeros((*shapes, states))
    for index in np.ndindex(*shapes):
        winner = otherwise
        for axis, state, result in order:
            if index[axis] == state:
                winner = result
                break
        table[(*index, winner)] = 1.0
    return table


def isth_score() -> Array:
    """Deterministic table of the ISTH overt DIC score, at least 5 points or below.

    Points: platelets <100 one, <50 two (×10⁹/L); D-dimer raised two, strongly raised three;
    prothrombin time prolonged by 3 to 6 s one, over 6 s two; fibrinogen below 1 g/L one
    (Taylor et al., Thromb Haemost 2001;86:1327). Overt DIC: five points or more.

    Returns
    -------
    ndarray, shape (5, 3, 3, 3, 2)
        Platelets (high, normal, low_100_149, low_50_99, very_low), D-dimer, prothrombin time,
        fibrinogen (normal, low, very_low), score (below_5, at_least_5).
    """
    points = (
        np.array([0, 0, 0, 1, 2])[:, None, None, None]
        + np.array([0, 2, 3])[None, :, None, None]
        + np.array([0, 1, 2])[None, None, :, None]
        + np.array([0, 0, 1])[None, None, None, :]
    )
    overt = (points >= 5).astype(float)
    return np.stack([1 - overt, overt], axis=-1)


def reweighting(share: Array, population: Array) -> Array:
    """Factor per state that turns the population's share into the share at presentation.

    ``share / population``: multiplied into a rate it leaves the rate of the whole group as it is.
    """
    result: Array = share / population
    return result
