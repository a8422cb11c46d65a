"""Derivatives with respect to every table cell, by one reverse pass through the collect pass.

For a cell ``c`` of a factor, ``d log P(e) / d c = P(x, e) / (c P(e))`` with ``x`` the configuration
of the cell, and the derivative exists for cells that are zero as well. No division is used, so
these come out right too. Cells are treated as free numbers: a caller who keeps columns at sum 1
combines derivatives of several cells (co-variation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from epidural_dx.inference.evidence import (
    EvidenceRows,
    ImpossibleEvidence,
    Observation,
    read_evidence,
)
from epidural_dx.inference.network import FloatArray
from epidural_dx.inference.numpy_backend import Collected, NumpyProgram
from epidural_dx.inference.plan import NONE, Plan


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Derivatives of log P(evidence).

    Parameters
    ----------
    log_evidence
        Shape (batch,).
    tables
        For every factor of the network an array of shape (batch, *shape of its table):
        ``d log P(evidence) / d cell``.
    """

    log_evidence: FloatArray
    tables: tuple[FloatArray, ...]

    def expected_counts(self, plan: Plan) -> tuple[FloatArray, ...]:
        """Return P(configuration of the cell | evidence) for every cell.

        Summed over cases these are the expected counts of the EM algorithm.

        Parameters
        ----------
        plan
            The plan that the derivatives come from.

        Returns
        -------
        tuple of ndarray
            Shapes as in ``tables``; every array sums to 1 for every case.
        """
        factors = plan.network.factors
        return tuple(
            gradient * factor.table
            for gradient, factor in zip(self.tables, factors, strict=True)
        )


def log_evidence_derivatives(plan: Plan, evidence: Mapping[int, Observation]) -> Derivatives:
    """Differentiate log P(evidence) with respect to every table cell.

    Parameters
    ----------
    plan
        A compiled network.
    evidence
        Observations as in `Engine.run`; may have a batch axis.

    Returns
    -------
    Derivatives

    Raises
    ------
    ImpossibleEvidence
        If P(evidence) is 0, or below what float64 can hold, for any case.
    """
    rows = read_evidence(plan.network.cardinalities, evidence)
    gradient, total, scale = _differentiate(plan, rows)
    if not np.all((total >= np.finfo(float).tiny) & np.isfinite(rows.log_scale)):
        raise ImpossibleEvidence("log P(evidence) has no derivative where P(evidence) is 0")
    with np.errstate(divide="ignore"):
        log_evidence = np.log(total) + scale + rows.log_scale
    tables = tuple(_by_case(block, 1.0 / total) for block in gradient)
    return Derivatives(log_evidence, tables)


def posterior_derivatives(
    plan: Plan, evidence: Mapping[int, Observation], variable: int
) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    """Differentiate P(variable | evidence) with respect to every table cell.

    ``d P(x | e) = (d P(x, e) - P(x | e) d P(e)) / P(e)``; the derivatives of all states of the
    variable come from one batch of reverse passes.

    Parameters
    ----------
    plan
        A compiled network.
    evidence
        Observations as in `Engine.run`; may have a batch axis.
    variable
        The variable whose posterior is differentiated.

    Returns
    -------
    posterior : ndarray, shape (batch, k)
        P(variable | evidence).
    tables : tuple of ndarray
        For every factor an array of shape (batch, k, *shape of its table).

    Raises
    ------
    ImpossibleEvidence
        If P(evidence) is 0 for any case.
    """
    rows = read_evidence(plan.network.cardinalities, evidence)
    k = plan.network.cardinalities[variable]
    wide = rows.repeat(k).observe(variable, np.tile(np.arange(k, dtype=np.int64), rows.rows))
    gradient, total, scale = _differentiate(plan, wide)
    # Joint terms P(x, e) of one case have different scales: bring them to the largest.
    logs = (scale + wide.log_scale).reshape(rows.rows, k)
    top = logs.max(axis=1, keepdims=True)
    if not np.all(np.isfinite(top)):
        raise ImpossibleEvidence("P(variable | evidence) is not defined where P(evidence) is 0")
    factor = np.exp(logs - top)
    mass = total.reshape(rows.rows, k) * factor
    evidence_mass = mass.sum(axis=1)
    if not np.all(evidence_mass > 0):
        raise ImpossibleEvidence("P(variable | evidence) is not defined where P(evidence) is 0")
    posterior = mass / evidence_mass[:, None]
    weight = (factor / evidence_mass[:, None]).reshape(-1)
    tables = []
    for block in gradient:
        joint = _by_case(block, weight)
        joint = joint.reshape(rows.rows, k, *joint.shape[1:])
        spread = posterior.reshape(rows.rows, k, *[1] * (joint.ndim - 2))
        tables.append(joint - spread * joint.sum(axis=1, keepdims=True))
    return posterior, tuple(tables)


def _by_case(block: FloatArray, weight: FloatArray) -> FloatArray:
    return block * weight.reshape(-1, *[1] * (block.ndim - 1))


def _differentiate(
    plan: Plan, rows: EvidenceRows
) -> tuple[list[FloatArray], FloatArray, FloatArray]:
    """Return (dZ / d cell for every factor, Z, scale) with P(evidence) = Z exp(scale)."""
    program = plan.programs[0]
    runner = NumpyProgram(program)
    got = runner.collect(rows, plan.packed[0])
    jobs = rows.rows
    total = np.broadcast_to(got.norm, (jobs,)).copy()
    adjoint: dict[int, FloatArray] = {}
    top = got.values[program.total]
    assert top is not None
    adjoint[program.total] = np.ones((1, top.shape[1]))
    for step in reversed(program.collect):
        above = adjoint.pop(step.out)
        out_axes = program.axes[step.out]
        left = got.values[step.left]
        assert left is not None
        right = None if step.right == NONE else got.values[step.right]
        for t, other, value in ((step.left, step.right, left), (step.right, step.left, right)):
            if t == NONE or value is None:
                continue
            partner = None if other == NONE else got.values[other]
            adjoint[t] = _pull_back(program.axes, t, value, above, out_axes, other, partner)
    tables: list[FloatArray] = [np.zeros(0)] * len(plan.network.factors)
    for one in program.inputs:
        if one.factor == NONE:
            continue
        axes = program.axes[one.tensor]
        gradient = adjoint[one.tensor]
        for v, weight in got.weights.items():
            if program.home[v] == one.tensor:
                shape = [weight.shape[0]] + [1] * len(axes)
                shape[axes.index(v) + 1] = weight.shape[1]
                gradient = gradient * weight.reshape(shape)
        full = np.zeros((jobs, *program.shape(one.tensor)))
        full[_place(axes, got.fixed)] = gradient
        tables[one.factor] = _unpermute(full, one.permutation)
    for group in program.groups:
        axes = program.axes[group.message]
        scale_out = adjoint[group.message]
        # The product of the group may have been scaled down; undo it for the cells.
        members = [leaf.variable for leaf in group.leaves if leaf.variable in got.messages]
        value = got.values[group.message]
        assert value is not None
        ratio = _group_scale(got, members, value)
        before, after = _products(got, members, value.shape)
        for leaf in group.leaves:
            v = leaf.variable
            k = program.extents[v]
            full = np.zeros((jobs, *program.shape(group.message), k))
            inside = _place(axes, got.fixed)
            if v in got.messages:
                n = members.index(v)
                others = before[n] * after[n] * ratio
                message_scale = _message_scale(runner, got, v)
                gradient = scale_out * others / message_scale
                if v in got.fixed:
                    full[..., got.fixed[v]][inside] = gradient
                else:
                    weight = got.weights[v]
                    full[inside] = gradient[..., None] * weight.reshape(
                        weight.shape[0], *[1] * len(axes), k
                    )
            else:
                full[inside] = (scale_out * value)[..., None]
            tables[leaf.factor] = _unpermute(full, leaf.permutation)
    return tables, total, np.broadcast_to(got.scale, (jobs,))


def _pull_back(
    axes: tuple[tuple[int, ...], ...],
    tensor: int,
    value: FloatArray,
    above: FloatArray,
    out_axes: tuple[int, ...],
    other: int,
    partner: FloatArray | None,
) -> FloatArray:
    """Return the adjoint of one operand: ``sum(adjoint of the result * other operand)``."""
    names: dict[int, str] = {}
    letters = iter("abcdefghijklmnopqrstuvwxyABCDEFGHIJKLMNOPQRSTUVWXY")

    def spell(which: tuple[int, ...]) -> str:
        for a in which:
            if a not in names:
                names[a] = next(letters)
        return "Z" + "".join(names[a] for a in which)

    wanted = axes[tensor]
    inputs = [spell(out_axes)]
    operands = [above]
    if partner is not None:
        inputs.append(spell(axes[other]))
        operands.append(partner)
    present = set(out_axes) | (set(axes[other]) if partner is not None else set())
    kept = tuple(a for a in wanted if a in present)
    result: FloatArray = np.einsum(f"{','.join(inputs)}->{spell(kept)}", *operands)
    # Axes that only this operand has were summed out: the adjoint is the same along them.
    index = tuple(slice(None) if a in present else None for a in wanted)
    result = result[(slice(None), *index)]
    wide: FloatArray = np.broadcast_to(result, (result.shape[0], *value.shape[1:]))
    return wide


def _place(axes: tuple[int, ...], fixed: dict[int, int]) -> tuple[slice, ...]:
    """Return where a table with observed axes lies in the full table."""
    return (
        slice(None),
        *(slice(fixed[a], fixed[a] + 1) if a in fixed else slice(None) for a in axes),
    )


def _unpermute(table: FloatArray, permutation: tuple[int, ...]) -> FloatArray:
    """Bring the axes of a tensor back to the order of the factor's table."""
    return table.transpose(0, *(p + 1 for p in np.argsort(permutation)))


def _products(
    got: Collected, members: list[int], shape: tuple[int, ...]
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return for every member the products of the messages before it and after it."""
    ones = np.ones((1, *shape[1:]))
    before, after = [ones], [ones]
    for v in members[:-1]:
        before.append(before[-1] * got.messages[v])
    for v in reversed(members[1:]):
        after.append(after[-1] * got.messages[v])
    return before, after[::-1]


def _group_scale(got: Collected, members: list[int], value: FloatArray) -> FloatArray:
    """Return stored product / true product of the messages of a group, one number per job."""
    if not members:
        return np.ones((1,) * value.ndim)
    product = got.messages[members[0]]
    for v in members[1:]:
        product = product * got.messages[v]
    top = product.reshape(product.shape[0], -1).max(axis=1)
    stored = value.reshape(value.shape[0], -1).max(axis=1)
    ratio: FloatArray = np.divide(stored, top, out=np.ones_like(stored + top), where=top > 0)
    return ratio.reshape(-1, *[1] * (value.ndim - 1))


def _message_scale(runner: NumpyProgram, got: Collected, v: int) -> FloatArray:
    """Return true message / stored message of an observed leaf finding, one number per job."""
    true = runner.raw_message(v, got.fixed, got.weights, got.values)
    top = true.reshape(true.shape[0], -1).max(axis=1)
    scale: FloatArray = np.where(top > 0, top, 1.0)
    return scale.reshape(-1, *[1] * (true.ndim - 1))
