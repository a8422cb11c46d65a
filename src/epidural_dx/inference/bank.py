"""Parameter draws in the order of a plan, each distinct number once.

Tables that combine few parameters repeat the same columns many times over (the column of a
finding that ignores one of its parents, say). A bank keeps every distinct column once and a map
from table cells to values; cells without draws are kept once for all draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.network import FloatArray
from epidural_dx.inference.plan import Plan

IntArray = npt.NDArray[np.int64]

#: Draws lie in blocks of so many, side by side.
LANES = 8

#: Columns are the same when they differ by no more than rounding does.
SAME = 4e-16


@dataclass(frozen=True, eq=False)
class Bank:
    """Parameter draws in the order of the programs of a plan.

    Parameters
    ----------
    draws
        Number of draws.
    shared
        For every program its packed tables, shape (cells,); cells with draws hold 0.
    cells
        For every program the packed cells that have draws, increasing.
    sources
        For every program and each of these cells the number of its value.
    values
        Shape (blocks, values, lanes): draw ``d`` is block ``d // lanes``, lane ``d % lanes``. The
        last draw fills up the last block.
    """

    draws: int
    shared: tuple[FloatArray, ...]
    cells: tuple[IntArray, ...]
    sources: tuple[IntArray, ...]
    values: FloatArray

    @property
    def bytes(self) -> int:
        """Memory of the bank."""
        blocks = (*self.shared, *self.cells, *self.sources, self.values)
        return sum(int(block.nbytes) for block in blocks)

    def packed(self, program: int, first: int, last: int) -> FloatArray:
        """Return the packed tables of some draws.

        Parameters
        ----------
        program
            Number of the program.
        first, last
            The draws ``first .. last - 1``.

        Returns
        -------
        ndarray, shape (last - first, cells)
        """
        start = first // LANES
        some = self.values[start : (last - 1) // LANES + 1]
        by_draw = np.swapaxes(some, 1, 2).reshape(len(some) * LANES, some.shape[1])
        by_draw = by_draw[first - start * LANES : last - start * LANES]
        rows = np.repeat(self.shared[program][None], last - first, axis=0)
        rows[:, self.cells[program]] = by_draw[:, self.sources[program]]
        return rows


def build_bank(plan: Plan, tables: Sequence[FloatArray]) -> Bank:
    """Bring parameter draws into the order of the plan, once for many questions.

    Parameters
    ----------
    plan
        The plan.
    tables
        One array per factor of the network: ``(draws, *shape)``, or the plain shape for factors
        that are the same in every draw.

    Returns
    -------
    Bank

    Raises
    ------
    ValueError
        For a wrong number of tables, wrong shapes, different numbers of draws, or a positive cell
        where the plan relies on a zero.
    """
    factors = plan.network.factors
    if len(tables) != len(factors):
        raise ValueError(f"{len(tables)} tables for {len(factors)} factors")
    counts = {1}
    for factor, table in zip(factors, tables, strict=True):
        shape = factor.table.shape
        if table.shape != shape:
            if table.shape[1:] != shape:
                raise ValueError(f"table of shape {table.shape}, expected (draws, {shape})")
            counts.add(int(table.shape[0]))
    if len(counts) > 2:
        raise ValueError(f"different numbers of draws: {sorted(counts)}")
    draws = max(counts)
    for relay in (relay for program in plan.programs for relay in program.relays):
        for number in relay.factors:
            if np.any(tables[number][..., factors[number].table == 0]):
                raise ValueError(
                    f"a draw of the table of {factors[number].variables} has a positive cell "
                    "where the compiled table has 0"
                )
    blocks = -(-draws // LANES)
    # Numbers below 2 mark cells without draws: programs have ones and zeros of their own.
    numbers: list[FloatArray] = []
    fixed: list[FloatArray] = []
    kept: list[FloatArray] = []
    count = 2
    for factor, table in zip(factors, tables, strict=True):
        shape = factor.table.shape
        if table.shape == shape or table.shape[0] == 1:
            fixed.append(table.reshape(shape))
            numbers.append(np.zeros(shape))
            continue
        fixed.append(np.zeros(shape))
        width = shape[-1] if shape else 1
        columns = table.reshape(draws, -1, width)
        firsts, place = _distinct(columns)
        kept.append(columns[:, firsts].reshape(draws, -1))
        ids = count + place[:, None] * width + np.arange(width)
        numbers.append(ids.reshape(shape).astype(np.float64))
        count += len(firsts) * width
    values = np.empty((blocks, count - 2, LANES))
    at = 0
    for block in kept:
        width = block.shape[1]
        for lane in range(LANES):
            rows = np.minimum(np.arange(blocks) * LANES + lane, draws - 1)
            values[:, at : at + width, lane] = block[rows]
        at += width
    shared, cells, sources = [], [], []
    for program in plan.programs:
        ids = program.pack(numbers)[0].astype(np.int64)
        drawn = np.flatnonzero(ids >= 2)
        shared.append(program.pack(fixed)[0])
        cells.append(drawn)
        sources.append(ids[drawn] - 2)
    return Bank(draws, tuple(shared), tuple(cells), tuple(sources), values)


def _distinct(columns: FloatArray) -> tuple[IntArray, IntArray]:
    """Find the columns that differ.

    Parameters
    ----------
    columns
        Shape (draws, columns, states).

    Returns
    -------
    firsts : ndarray, shape (distinct,)
        One column of each kind.
    place : ndarray, shape (columns,)
        The kind of every column.
    """
    count = columns.shape[1]
    if count == 1:
        return np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    # A few draws, rounded, tell which columns may be the same; all draws decide.
    sample = columns[:4].astype(np.float32).transpose(1, 0, 2).reshape(count, -1)
    _, firsts, place = np.unique(sample, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    if len(firsts) == count:
        return np.arange(count), np.arange(count)
    gap = np.abs(columns - columns[:, firsts[place]])
    same = (gap <= SAME * columns).all(axis=(0, 2))
    own = np.flatnonzero(~same)
    place[own] = len(firsts) + np.arange(len(own))
    return np.concatenate([firsts, own]), place.astype(np.int64)
