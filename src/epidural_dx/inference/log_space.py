"""The same programs in logarithms: slow, and safe from underflow at any depth.

Used only for the rare case in which evidence is so contradictory that products of probabilities
leave the range of float64 (about 1e-308). It decides what is impossible and what is only very
unlikely.
"""

from __future__ import annotations

import numpy as np

from epidural_dx.inference.network import FloatArray
from epidural_dx.inference.numpy_backend import NumpyProgram
from epidural_dx.inference.numpy_steps import Operation, copied
from epidural_dx.inference.plan import NONE, Contraction


def log_sum(table: FloatArray, axis: int | tuple[int, ...]) -> FloatArray:
    """Return ``log(sum(exp(table)))`` over `axis`; an all -inf slice gives -inf."""
    top = table.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        out: FloatArray = np.log(np.exp(table - top).sum(axis=axis)) + np.squeeze(top, axis=axis)
    return out


class LogProgram(NumpyProgram):
    """A program whose tensors hold logarithms; same interface as `NumpyProgram`."""

    uses_kernels = False
    nothing = -np.inf

    def _operation(self, step: Contraction) -> Operation:
        axes = self.program.axes
        between = self.program.map_between.get(step.right)
        if between is not None and between.coarse in axes[step.left]:
            return copied(axes[step.left].index(between.coarse) + 1, between.states)
        summed: list[int] = list(axes[step.left])
        if step.right != NONE:
            summed += [a for a in axes[step.right] if a not in summed]
        wanted = (*axes[step.out], *(a for a in summed if a not in axes[step.out]))
        gone = tuple(range(1 + len(axes[step.out]), 1 + len(wanted)))

        def operate(left: FloatArray, right: FloatArray | None) -> FloatArray:
            value = _spread(left, axes[step.left], wanted)
            if right is not None:
                value = value + _spread(right, axes[step.right], wanted)
            return log_sum(value, gone) if gone else value

        return operate

    def _enter(self, table: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            out: FloatArray = np.log(table)
        return out

    def _times(self, left: FloatArray, right: FloatArray) -> FloatArray:
        return left + right

    def _over(self, left: FloatArray, right: FloatArray) -> FloatArray:
        finite = np.isfinite(right)
        return np.where(finite, left - np.where(finite, right, 0.0), -np.inf)

    def _sum(self, table: FloatArray, axis: int | tuple[int, ...]) -> FloatArray:
        return log_sum(table, axis)

    def _log(self, value: FloatArray) -> FloatArray:
        return value

    def _leave(self, value: FloatArray) -> FloatArray:
        out: FloatArray = np.exp(value)
        return out

    def _relative(self, value: FloatArray) -> FloatArray:
        top = value.max(axis=tuple(range(1, value.ndim)), keepdims=True)
        out: FloatArray = np.exp(value - np.where(np.isfinite(top), top, 0.0))
        return out

    def _normalise(self, message: FloatArray) -> tuple[FloatArray, FloatArray | float]:
        # Nothing needs scaling in log space.
        return message, np.zeros(1)

    def _probability(self, value: FloatArray, norm: FloatArray) -> FloatArray:
        by_job = norm.reshape(-1, *[1] * (value.ndim - 1))
        possible = np.isfinite(by_job)
        out: FloatArray = np.where(
            possible, np.exp(value - np.where(possible, by_job, 0.0)), 0.0
        )
        return out


def _spread(
    value: FloatArray, axes: tuple[int, ...], wanted: tuple[int, ...]
) -> FloatArray:
    """Order the axes of `value` as in `wanted`, with length 1 where it has none."""
    order = [axes.index(a) + 1 for a in wanted if a in axes]
    value = value.transpose(0, *order)
    index = tuple(slice(None) if a in axes else None for a in wanted)
    return value[(slice(None), *index)]
