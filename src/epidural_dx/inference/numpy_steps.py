"""How numpy does one contraction: a product, a matrix product or einsum, chosen beforehand.

A question of a few hundred contractions costs what the calls around them cost, so every contraction
becomes one function of two arrays with nothing left to decide that can be decided before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from epidural_dx.inference.network import FloatArray
from epidural_dx.inference.plan import NONE, Contraction, Program

#: A contraction of two arrays whose first axis is the jobs; some use the left one only.
Operation = Callable[[Any, Any], FloatArray]

#: Contractions of at least this many multiply-adds are done as matrix products: one without batch
#: axes for a single job, any for many.
MATRIX_PRODUCT, BATCH_PRODUCT = 300, 40_000

_LETTERS = "abcdefghijklmnopqrstuvwxyABCDEFGHIJKLMNOPQRSTUVWXY"


class BoundStep(NamedTuple):
    """A contraction and how it is done.

    Parameters
    ----------
    out, left, right
        Numbers of tensors; -1 for no right operand.
    operate
        The function that does it.
    """

    out: int
    left: int
    right: int
    operate: Operation


def operation(program: Program, step: Contraction) -> Operation:
    """Choose how numpy does a contraction."""
    axes = program.axes
    between = program.map_between.get(step.right)
    if between is not None and between.coarse in axes[step.left]:
        # From classes of the root's states to finer ones.
        return copied(axes[step.left].index(between.coarse) + 1, between.states)
    letters: dict[int, str] = {}

    def spell(tensor: int) -> str:
        return "Z" + "".join(letters.setdefault(a, _LETTERS[len(letters)]) for a in axes[tensor])

    left = spell(step.left)
    if step.right == NONE:
        formula = f"{left}->{spell(step.out)}"
        return lambda left, _right: np.einsum(formula, left)
    formula = f"{left},{spell(step.right)}->{spell(step.out)}"
    a, b, out = (set(axes[t]) for t in (step.left, step.right, step.out))
    if a | b == out:
        # Axes have one order everywhere, so it takes only new axes of length 1.
        return _product(
            *(
                None
                if axes[t] == axes[step.out]
                else (slice(None), *(slice(None) if x in axes[t] else None for x in axes[step.out]))
                for t in (step.left, step.right)
            )
        )
    size = math.prod(program.extents[x] for x in a | b)
    batch = [x for x in axes[step.out] if x in a and x in b]
    if (a | b) - out <= a & b and size >= (BATCH_PRODUCT if batch else MATRIX_PRODUCT):
        rows = [x for x in axes[step.out] if x in a and x not in b]
        columns = [x for x in axes[step.out] if x in b and x not in a]
        inner = [x for x in axes[step.left] if x not in out]
        made = [*batch, *rows, *columns]
        orders = (
            (0, *(1 + axes[step.left].index(x) for x in (*batch, *rows, *inner))),
            (0, *(1 + axes[step.right].index(x) for x in (*batch, *inner, *columns))),
            (0, *(1 + made.index(x) for x in axes[step.out])),
        )
        counts = (len(batch), len(rows), len(columns))
        return _matrix_product(orders, counts, formula, size)
    return lambda left, right: np.einsum(formula, left, right)


def copied(axis: int, states: tuple[int, ...]) -> Operation:
    """Make the copy of a tensor from classes to finer ones."""
    places = np.array(states, dtype=np.intp)
    return lambda left, _right: left.take(places, axis=axis)


def _product(
    spread_left: tuple[slice | None, ...] | None, spread_right: tuple[slice | None, ...] | None
) -> Operation:
    """Make a product of which nothing is summed; None for an operand that has all axes."""
    if spread_left is None and spread_right is None:
        return np.multiply
    if spread_left is None:
        return lambda left, right: left * right[spread_right]
    if spread_right is None:
        return lambda left, right: left[spread_left] * right
    return lambda left, right: left[spread_left] * right[spread_right]


def _matrix_product(
    orders: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    counts: tuple[int, int, int],
    formula: str,
    size: int,
) -> Operation:
    """Make a contraction by one (batched) matrix product.

    Parameters
    ----------
    orders
        How left, right and the result are transposed.
    counts
        Numbers of batch, row and column axes.
    formula, size
        For einsum, which is better for many small ones; multiply-adds.
    """
    batch, rows, columns = counts
    order_left, order_right, order_out = orders
    first_column = len(order_right) - columns
    # Calls that would change nothing are left out.
    in_place_left, in_place_right, in_place_out = (o == tuple(range(len(o))) for o in orders)

    # Shapes by the lengths of the axes, which evidence changes: working them out takes longer than
    # the product.
    shapes: dict[tuple[int, ...], tuple[tuple[int, int], tuple[int, int], tuple[int, ...]]] = {}

    def shapes_of(
        left: tuple[int, ...], right: tuple[int, ...]
    ) -> tuple[tuple[int, int], tuple[int, int], tuple[int, ...]]:
        left = tuple(left[i] for i in order_left)
        right = tuple(right[i] for i in order_right)
        of_rows, of_columns = left[1 : 1 + rows], right[first_column:]
        inner = math.prod(right[1:first_column])
        return (
            (math.prod(of_rows), inner),
            (inner, math.prod(of_columns)),
            (1, *of_rows, *of_columns),
        )

    def one(left: FloatArray, right: FloatArray) -> FloatArray:
        key = left.shape + right.shape
        found = shapes.get(key)
        if found is None:
            found = shapes[key] = shapes_of(left.shape, right.shape)
        if not in_place_left:
            left = left.transpose(order_left)
        if not in_place_right:
            right = right.transpose(order_right)
        out: FloatArray = left.reshape(found[0]).dot(right.reshape(found[1])).reshape(found[2])
        return out if in_place_out else out.transpose(order_out)

    def many(left: FloatArray, right: FloatArray) -> FloatArray:
        left, right = left.transpose(order_left), right.transpose(order_right)
        shape_batch = left.shape[1 : 1 + batch]
        shape_rows = left.shape[1 + batch : 1 + batch + rows]
        shape_columns = right.shape[first_column:]
        b, m, n = math.prod(shape_batch), math.prod(shape_rows), math.prod(shape_columns)
        product = np.matmul(
            left.reshape(left.shape[0], b, m, -1), right.reshape(right.shape[0], b, -1, n)
        )
        shaped = product.reshape(product.shape[0], *shape_batch, *shape_rows, *shape_columns)
        out: FloatArray = shaped.transpose(order_out)
        return out

    def choose(left: FloatArray, right: FloatArray) -> FloatArray:
        if left.shape[0] == right.shape[0] == 1:
            # A single batched product gains little from BLAS, and loses much when BLAS waits for
            # busy processors.
            out: FloatArray = np.einsum(formula, left, right) if batch else one(left, right)
            return out
        if size >= BATCH_PRODUCT:
            return many(left, right)
        out = np.einsum(formula, left, right)
        return out

    return choose
