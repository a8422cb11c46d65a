"""Shortcuts for parts of the tree that have seen no evidence.

Below a collect-pass tensor ``t`` whose subtree has no evidence, P(variable | axes of t) is the
same in every question. Such a *kernel*, a table (axes of t, stacked states of all variables below),
answers for the whole subtree with one product instead of a walk through it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from epidural_dx.inference.network import FloatArray
from epidural_dx.inference.plan import NONE, Program

#: A kernel divides by the values of its tensor; smaller ones would overflow.
SMALLEST = 1e-280

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def contract(
    operands: Sequence[tuple[tuple[int, ...], FloatArray]], wanted: tuple[int, ...]
) -> FloatArray:
    """Sum the product of labelled arrays over the axes that are not wanted.

    Parameters
    ----------
    operands
        Pairs (axes, array).
    wanted
        Axes of the result; all must occur in the operands.

    Returns
    -------
    ndarray
    """
    letters: dict[int, str] = {}

    def spell(axes: tuple[int, ...]) -> str:
        return "".join(letters.setdefault(a, _LETTERS[len(letters)]) for a in axes)

    inputs = ",".join([spell(axes) for axes, _ in operands])
    out: FloatArray = np.einsum(f"{inputs}->{spell(wanted)}", *(array for _, array in operands))
    return out


def compute_kernels(
    program: Program, values: Sequence[FloatArray | None]
) -> list[FloatArray | None]:
    """Return the tables of all kernels.

    Parameters
    ----------
    program
        The program.
    values
        Every tensor of the collect pass without evidence, without a leading axis.

    Returns
    -------
    list of ndarray or None
        For every kernel the table, shape (axes of its tensor, columns); None for one that must
        not be used because its tensor has values too small to divide by.
    """
    group_at = {group.message: group for group in program.groups}
    reads: dict[int, list[int]] = {}
    for tensor, variable in program.reads:
        reads.setdefault(tensor, []).append(variable)
    tables: list[FloatArray | None] = []
    for kernel in program.kernels:
        top = values[kernel.tensor]
        assert top is not None
        if np.any((top > 0) & (top < SMALLEST)):
            tables.append(None)
            continue
        carry = program.axes[kernel.tensor]
        table = np.zeros((*top.shape, kernel.columns))
        inverse = np.divide(1.0, top, out=np.zeros_like(top), where=top > 0)
        adjoint: dict[int, tuple[tuple[int, ...], FloatArray]] = {kernel.tensor: (carry, inverse)}
        first, last = program.enter[kernel.tensor], program.leave[kernel.tensor]
        inside = [s for s in program.collect if first <= program.enter[s.out] < last]

        def answer(
            t: int,
            carry: tuple[int, ...] = carry,
            table: FloatArray = table,
            adjoint: dict[int, tuple[tuple[int, ...], FloatArray]] = adjoint,
            start: int = kernel.first,
        ) -> None:
            above = adjoint[t]
            value = values[t]
            assert value is not None
            axes = program.axes[t]
            if t in group_at:
                group = group_at[t]
                stacked = values[group.stacked]
                assert stacked is not None
                every = tuple(dict.fromkeys((*carry, *axes)))
                belief = contract([above, (axes, value)], every)
                axis = next(a for a in program.axes[group.stacked] if a not in axes)
                block = contract(
                    [(every, belief), (program.axes[group.stacked], stacked)], (*carry, axis)
                )
                column = program.rows[group.leaves[0].variable] - start
                table[..., column : column + group.rows] = block
            for v in reads.get(t, ()):
                column = program.rows[v] - start
                k = program.extents[v]
                if v in carry:
                    block = contract([above, (axes, value)], carry)
                    shape = [1] * (len(carry) + 1)
                    shape[carry.index(v)] = shape[-1] = k
                    block = block[..., None] * np.eye(k).reshape(shape)
                else:
                    block = contract([above, (axes, value)], (*carry, v))
                table[..., column : column + k] = block

        answer(kernel.tensor)
        for step in reversed(inside):
            above = adjoint[step.out]
            for t, other in ((step.left, step.right), (step.right, step.left)):
                if t == NONE:
                    continue
                operands = [above]
                if other != NONE:
                    partner = values[other]
                    assert partner is not None
                    operands.append((program.axes[other], partner))
                have = {a for axes, _ in operands for a in axes}
                kept = tuple(
                    a for a in dict.fromkeys((*carry, *program.axes[t])) if a in have
                )
                adjoint[t] = (kept, contract(operands, kept))
                answer(t)
        tables.append(table)
    return tables
