"""Parameter draws in the order of a plan, each distinct number once.

Tables that combine few parameters repeat the same columns many times over (the column of a
finding that ignores one of its parents, say). A bank keeps every distinct column once and a map
from table cells to values; cells without draws are kept once for all draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.network import Factor, FloatArray
from epidural_dx.inference.plan import NONE, CannotShare, Plan, Program, plan_sharing, rebuilt
from epidural_dx.inference.sharing import canonical, share_tables

IntArray = npt.NDArray[np.int64]

#: Draws lie in blocks of so many, side by side.
LANES = 8

#: Columns are the same when they differ by no more than rounding does.
SAME = 4e-16

#: Numbers that are compared at a time: few enough to stay in the processor's cache.
COMPARED = 32_768


@dataclass(frozen=True, eq=False)
class Repeated:
    """A table of draws in which slices along a parent repeat.

    Parameters
    ----------
    kept
        Shape (draws, parents ..., states), with one slice for each class in place of one for each
        state.
    axis
        Which parent.
    classes
        For every state of that parent its class.
    """

    kept: FloatArray
    axis: int
    classes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole table."""
        shape = list(self.kept.shape)
        shape[self.axis + 1] = len(self.classes)
        return tuple(shape)

    def whole(self) -> FloatArray:
        """Return the whole table, all draws of a cell side by side in memory."""
        cells = np.take(np.moveaxis(self.kept, 0, -1), self.classes, axis=self.axis)
        cells.setflags(write=False)
        return np.moveaxis(cells, -1, 0)


def _whole(table: FloatArray | Repeated) -> FloatArray:
    return table.whole() if isinstance(table, Repeated) else table


@dataclass(frozen=True, eq=False)
class Bank:
    """Parameter draws in the order of the programs of a plan.

    Parameters
    ----------
    draws
        Number of draws.
    programs
        The programs of the plan. One that shares slices of tables is replaced where the draws
        differ in slices that are alike in the compiled tables, or the other way round.
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
    programs: tuple[Program, ...]
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


def build_bank(plan: Plan, tables: Sequence[FloatArray | Repeated]) -> Bank:
    """Bring parameter draws into the order of the plan, once for many questions.

    Parameters
    ----------
    plan
        The plan.
    tables
        One array per factor of the network: ``(draws, *shape)``, or the plain shape for factors
        that are the same in every draw. `Repeated` stands for a table of draws.

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
    # One draw is the same in every draw.
    tables = [
        _whole(table)[0] if table.shape == (1, *factor.table.shape) else table
        for factor, table in zip(factors, tables, strict=True)
    ]
    for relay in (relay for program in plan.programs for relay in program.relays):
        for number in relay.factors:
            if _new_cells(tables[number], factors[number]):
                raise ValueError(
                    f"a draw of the table of {factors[number].variables} has a positive cell "
                    "where the compiled table has 0"
                )
    # Numbers below 2 mark cells without draws: programs have ones and zeros of their own.
    numbers: list[FloatArray] = []
    fixed: list[FloatArray] = []
    kept = _Kept()
    kinds: dict[int, IntArray] = {}
    for number, (factor, table) in enumerate(zip(factors, tables, strict=True)):
        shape = factor.table.shape
        if not isinstance(table, Repeated) and table.shape == shape:
            fixed.append(table)
            numbers.append(np.zeros(shape))
            continue
        fixed.append(np.zeros(shape))
        width = shape[-1] if shape else 1
        part = table.kept if isinstance(table, Repeated) else table
        columns = np.moveaxis(part, 0, -1).reshape(-1, width, draws)
        firsts, place = _distinct(columns)
        every = np.array_equal(firsts, np.arange(len(columns)))
        first = kept.add(columns, None if every else firsts)
        place = place.reshape(part.shape[1:-1])
        if isinstance(table, Repeated):
            place = np.take(place, table.classes, axis=table.axis)
        ids = first + place[..., None] * width + np.arange(width)
        numbers.append(ids.reshape(shape).astype(np.float64))
        kinds[number] = place
    # What repeats slices is a conditional table, and `kinds` says how: only potentials are read.
    arrays = [
        f.table if isinstance(t, Repeated) else t for f, t in zip(factors, tables, strict=True)
    ]
    programs = _programs(plan, tables, arrays, kinds)
    shared, cells, sources = [], [], []
    for program in programs:
        marked, plain = list(numbers), list(fixed)
        if program.sharing:
            _share(program, arrays, kept, marked, plain)
        packed = program.place(marked)[0].astype(np.int64)
        drawn = np.flatnonzero(packed >= 2)
        shared.append(program.place(plain)[0])
        cells.append(drawn)
        sources.append(packed[drawn] - 2)
    return Bank(draws, programs, tuple(shared), tuple(cells), tuple(sources), kept.in_lanes(draws))


class _Kept:
    """The values of a bank while they are being gathered."""

    def __init__(self) -> None:
        self.blocks: list[tuple[FloatArray, IntArray | None]] = []
        self.count = 2

    def add(self, values: FloatArray, chosen: IntArray | None = None) -> int:
        """Add values of shape (columns, ..., draws), or some columns; return the first's number."""
        first = self.count
        self.blocks.append((values, chosen))
        columns = len(values) if chosen is None else len(chosen)
        self.count += columns * math.prod(values.shape[1:-1])
        return first

    def in_lanes(self, draws: int) -> FloatArray:
        """Return all values, draws in blocks side by side."""
        blocks = -(-draws // LANES)
        out = np.empty((blocks, self.count - 2, LANES))
        at = 0
        for values, chosen in self.blocks:
            block = values if chosen is None else values[chosen]
            block = block.reshape(-1, draws)
            size = len(block)
            whole = draws // LANES
            by_lane = block[:, : whole * LANES].reshape(size, whole, LANES)
            out[:whole, at : at + size] = by_lane.transpose(1, 0, 2)
            if whole < blocks:
                rest = np.minimum(np.arange(whole * LANES, blocks * LANES), draws - 1)
                out[whole, at : at + size] = block[:, rest]
            at += size
        return out


def _new_cells(table: FloatArray | Repeated, factor: Factor) -> bool:
    """Whether a cell is positive in some draw where the compiled table has 0."""
    return bool(np.any(_whole(table)[..., factor.table == 0]))


def _programs(
    plan: Plan,
    tables: Sequence[FloatArray | Repeated],
    arrays: Sequence[FloatArray],
    kinds: Mapping[int, IntArray],
) -> tuple[Program, ...]:
    """Return the programs of a plan, those that share slices made to fit the draws.

    Parameters
    ----------
    plan, tables
        As in `build_bank`.
    arrays
        The same tables, of those in `kinds` any of the right shape.
    kinds
        For every factor with draws which of its columns are the same, shape (parents).
    """
    factors = plan.network.factors
    programs = list(plan.programs)
    for index, number in enumerate(plan.shared_programs):
        if number == NONE:
            continue
        program = plan.programs[number]
        target = program.distributions[0].target
        plain = plan.programs[plan.target_programs[index]]
        own = next(n for n, f in enumerate(factors) if f.child == target)
        if _new_cells(tables[own], factors[own]):
            # The target is no function of the root in some draw.
            programs[number] = plain
            continue
        known = {}
        for factor_number, kind in kinds.items():
            factor = factors[factor_number]
            if program.root in factor.variables[:-1] and factor.child is not None:
                slices = np.moveaxis(kind, factor.variables.index(program.root), 0)
                known[factor_number] = canonical([row.tobytes() for row in slices])
        sharing = plan_sharing(plan.network, program.root, target, arrays, known)
        if not sharing:
            programs[number] = plain
        elif sharing != program.sharing:
            try:
                programs[number] = rebuilt(plan.network, program, sharing)
            except CannotShare:
                programs[number] = plain
    return tuple(programs)


def _share(
    program: Program,
    tables: Sequence[FloatArray],
    kept: _Kept,
    marked: list[FloatArray],
    plain: list[FloatArray],
) -> None:
    """Bring numbers of values and tables without draws into the form of a program that shares."""
    scaled = [one for one in program.sharing if one.scaled]
    dimensions = [program.dimensions(number) for number in range(len(tables))]
    adapted = share_tables(scaled, program.extents[program.root], tables, dimensions)
    for one in program.sharing:
        if not one.scaled:
            marked[one.factor] = np.take(marked[one.factor], one.firsts, axis=one.axis)
            plain[one.factor] = np.take(plain[one.factor], one.firsts, axis=one.axis)
    # Divided slices and the scale are values of their own.
    marked.append(np.zeros(0))
    plain.append(np.zeros(0))
    for number in (*sorted(one.factor for one in scaled), len(adapted) - 1):
        table = adapted[number]
        drawn = table.ndim > program.dimensions(number)
        shape = table.shape[1:] if drawn else table.shape
        marked[number] = np.zeros(shape)
        plain[number] = np.zeros(shape) if drawn else table
        if drawn:
            first = kept.add(np.moveaxis(table, 0, -1))
            marked[number] = np.arange(first, first + math.prod(shape), dtype=float).reshape(shape)


def _distinct(columns: FloatArray) -> tuple[IntArray, IntArray]:
    """Find the columns that differ.

    Parameters
    ----------
    columns
        Shape (columns, states, draws).

    Returns
    -------
    firsts : ndarray, shape (distinct,)
        One column of each kind.
    place : ndarray, shape (columns,)
        The kind of every column.
    """
    count = len(columns)
    if count == 1:
        return np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    # A few draws, rounded, tell which columns may be the same; all draws decide.
    sample = columns[:, :, :4].astype(np.float32).reshape(count, -1)
    _, firsts, place = np.unique(sample, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    if len(firsts) == count:
        return np.arange(count), np.arange(count)
    again = np.flatnonzero(firsts[place] != np.arange(count))
    same = np.empty(len(again), dtype=bool)
    step = max(1, COMPARED // columns[0].size)
    for start in range(0, len(again), step):
        some = again[start : start + step]
        one, other = columns[some], columns[firsts[place[some]]]
        equal = (one == other).all(axis=(1, 2))
        if not equal.all():
            equal = (np.abs(one - other) <= SAME * one).all(axis=(1, 2))
        same[start : start + step] = equal
    own = again[~same]
    place[own] = len(firsts) + np.arange(len(own))
    return np.concatenate([firsts, own]), place.astype(np.int64)
