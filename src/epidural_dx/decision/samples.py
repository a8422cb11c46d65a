"""Samples of whole patients, and the exact posterior after each of many sampled outcomes.

Samples are drawn backwards through an elimination of everything (Koller and Friedman,
Probabilistic Graphical Models, 2009, chapter 12). Posteriors share work: in a part of the network
that holds few findings, many samples have the same pattern of results, and every pattern is worked
out once.

Arrays only: variables are integers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from epidural_dx.decision.elimination import (
    STEP_CELLS,
    TINY,
    IntArray,
    Memory,
    Table,
    Volumes,
    bits,
    buckets,
    eliminate,
    multiply_out,
    pair_product,
    pairwise,
    plogp,
    sum_out,
)
from epidural_dx.inference.network import FloatArray

#: Axes of patterns in a table with one slice for every distinct pattern of sampled variables.
PATTERNS, OTHERS = -1, -2
PATTERN_BIT = bits((PATTERNS,))
#: Patterns of two tables are combined without looking at the samples as long as there are at most
#: this many of them.
COMBINED = 32
#: A table with at most this many patterns is multiplied pattern by pattern.
FEW_PATTERNS = 16
#: Tables are multiplied before the samples cut them as long as products have at most so many cells.
TOGETHER_CELLS = 4_000
#: Cells of a table that are copied at a time, one slice for each pattern.
COPIED_CELLS = 32_000
#: Samples that are worked on at a time where tables are wide: new memory is slow.
BLOCK = 64
#: With at most this many pairs of patterns for each sample, all pairs are worked out.
ALL_PAIRS = 8
#: A conditional table with at most this many cells is cumulated before the samples look it up.
CUMULATED_CELLS = 6_000


class Draws(Mapping[int, IntArray]):
    """Joint samples of all variables of some tables by inverse sampling, one after another.

    Everything is summed out in greedy order and then drawn in the reverse order, each variable
    given those drawn before it. Findings that nothing hangs on are drawn when they are asked for.

    Parameters
    ----------
    tables : sequence of Table
    conditionals : mapping of int to Table
        Those among them that sum to the same over a variable in every row, by that variable.
    volumes : Volumes
    first : sequence of int
        Variables drawn first (and thus from the first, best columns of a Sobol sequence).
    uniforms : ndarray, shape (samples, dimensions)
        Points in the unit cube; column i serves the i-th variable drawn.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        conditionals: Mapping[int, Table],
        volumes: Volumes,
        first: Sequence[int],
        uniforms: FloatArray,
    ) -> None:
        left, leaves = _leaves_off(tables, conditionals, set(first))
        self._volumes = volumes
        self._columns = np.ascontiguousarray(uniforms.T)
        order: list[tuple[int, list[Table]]] = []
        for stay in (first, ()):
            for v, bucket in buckets(left, stay, volumes):
                order.append((v, bucket))
                left.append(sum_out(bucket, v, volumes))
        order.reverse()
        self._states: dict[int, IntArray] = {}
        for column, (v, bucket) in enumerate(order):
            self._states[v] = self._drawn(v, bucket, column)
        # in the order of drawing: those that others hang on first
        self._leaves = {v: (len(order) + i, t) for i, (v, t) in enumerate(reversed(leaves))}

    def __getitem__(self, v: int) -> IntArray:
        """State of a variable in every sample."""
        found = self._states.get(v)
        if found is None:
            column, table = self._leaves[v]
            for w in table.variables:
                if w != v:
                    self[w]
            found = self._states[v] = self._drawn(v, [table], column)
        return found

    def __iter__(self) -> Iterator[int]:
        """Numbers of all variables."""
        return iter((*self._states, *(v for v in self._leaves if v not in self._states)))

    def __len__(self) -> int:
        """Count all variables."""
        return len({*self._states, *self._leaves})

    def _drawn(self, v: int, bucket: list[Table], column: int) -> IntArray:
        """Draw one variable given those drawn before: count the thresholds below the point."""
        mask = 0
        for t in bucket:
            mask |= t.mask
        given = tuple(dict.fromkeys([w for t in bucket for w in t.variables if w != v]))
        if self._volumes[mask] <= CUMULATED_CELLS:
            if len(bucket) == 1:
                weights = np.moveaxis(bucket[0].values, bucket[0].variables.index(v), 0)
            else:
                weights = multiply_out(bucket, (v, *given), self._volumes)
            weights = weights.reshape(len(weights), -1)
        else:
            weights = np.ones((int(self._volumes[bits((v,))]), self._columns.shape[1]))
            for t in bucket:
                axis = t.variables.index(v)
                others = [w for w in t.variables if w != v]
                sizes = [k for w, k in zip(t.variables, t.values.shape, strict=True) if w != v]
                rows = np.moveaxis(t.values, axis, 0).reshape(len(weights), -1)
                weights *= rows.take(self._code(others, sizes), axis=1) if others else rows
            given = ()
        cumulated = np.cumsum(weights, axis=0)
        total = cumulated[-1]
        thresholds = cumulated[:-1] / np.where(total > 0, total, 1.0)
        if given:
            sizes = [int(self._volumes[bits((w,))]) for w in given]
            thresholds = thresholds.take(self._code(given, sizes), axis=1)
        states: IntArray = (thresholds <= self._columns[column]).sum(axis=0)
        return states

    def _code(self, given: Sequence[int], sizes: Sequence[int]) -> IntArray:
        """Return numbers of the joint states of variables that have been drawn."""
        code = self._states[given[0]]
        for w, k in zip(given[1:], sizes[1:], strict=True):
            code = code * k + self._states[w]
        return code


def _leaves_off(
    tables: Sequence[Table], conditionals: Mapping[int, Table], stay: set[int]
) -> tuple[list[Table], list[tuple[int, Table]]]:
    """Take off findings that nothing hangs on.

    Summing them out changes nothing, so that they can be drawn last, from their own table.

    Returns
    -------
    left : list of Table
    leaves : list of (int, Table)
        In the order of taking off.
    """
    left = {id(t): t for t in tables}
    holders: dict[int, int] = {}
    for t in tables:
        for v in t.variables:
            holders[v] = holders.get(v, 0) + 1
    leaves: list[tuple[int, Table]] = []
    stack = [v for v in conditionals if holders.get(v) == 1]
    while stack:
        v = stack.pop()
        table = conditionals[v]
        if v in stay or holders[v] != 1 or id(table) not in left:
            continue
        if any(holders[w] == 1 and w not in conditionals for w in table.variables if w != v):
            continue  # it alone tells of a variable that has no table of its own
        del left[id(table)]
        leaves.append((v, table))
        for w in table.variables:
            holders[w] -= 1
            if holders[w] == 1 and w in conditionals:
                stack.append(w)
    return list(left.values()), leaves


def dimensions(tables: Sequence[Table]) -> int:
    """Return how many variables :class:`Draws` draws."""
    return len({v for t in tables for v in t.variables})


class _Rows:
    """A table with one slice for every distinct pattern of the sampled variables in it.

    Attributes
    ----------
    table : Table
        First axis: the patterns (numbered `PATTERNS`).
    pattern : ndarray of shape (samples,), or None
        Pattern of every sample; None if there is one pattern only.
    """

    __slots__ = ("count", "pattern", "table")

    def __init__(self, table: Table, pattern: IntArray | None) -> None:
        self.table = table
        self.pattern = pattern
        self.count = len(table.values)


def _rows(table: Table, samples: Mapping[int, IntArray], count: int) -> _Rows:
    """Cut a table at the sampled states, once for each pattern."""
    seen = [i for i, v in enumerate(table.variables) if v in samples]
    rest = [i for i in range(len(table.variables)) if i not in seen]
    names = (PATTERNS, *[table.variables[i] for i in rest])
    if not seen:
        return _Rows(Table(names, table.values[None]), None)
    shape = [table.values.shape[i] for i in seen]
    code = samples[table.variables[seen[0]]]
    for i in seen[1:]:
        code = code * table.values.shape[i] + samples[table.variables[i]]
    values = table.values.transpose(seen + rest)
    values = values.reshape(math.prod(shape), *values.shape[len(seen) :])
    if len(values) > min(count, COMBINED):
        patterns, code = np.unique(code, return_inverse=True)
        values = values[patterns]
    return _Rows(Table(names, values), code)


def _rows_product(left: _Rows, right: _Rows, drop: int | None = None) -> _Rows:
    """Multiply two tables pattern by pattern and sum over a variable."""
    if left.count < right.count:
        left, right = right, left
    a, b = left.table, right.table
    if right.pattern is None or left.pattern is None:
        if left.pattern is None:
            left, right, a, b = right, left, b, a
        one = Table(b.variables[1:], b.values[0])
        return _Rows(_patterns_first(pair_product(a, one, drop)), left.pattern)
    if left.pattern is right.pattern:
        return _Rows(_patterns_first(pair_product(a, b, drop)), left.pattern)
    if left.count * right.count <= COMBINED:
        other = Table((OTHERS, *b.variables[1:]), b.values)
        code = left.pattern * right.count + right.pattern
        return _Rows(_patterns_first(pair_product(a, other, drop)), code)
    # sorted by the pattern of the table that has fewer of them
    code, pattern = np.unique(right.pattern * left.count + left.pattern, return_inverse=True)
    second, first = np.divmod(code, left.count)
    if right.count <= FEW_PATTERNS and drop is not None:
        # one matrix product for each of the few, nothing wide is copied
        cuts = np.searchsorted(second, np.arange(right.count + 1)).tolist()
    else:
        widest = max(a.values.size // left.count, b.values.size // right.count)
        step = max(1, COPIED_CELLS // widest)
        cuts = [*range(0, len(code), step), len(code)]
    parts = []
    for start, stop in itertools.pairwise(cuts):
        if start == stop:
            continue
        one = Table(a.variables, a.values[first[start:stop]], a.mask)
        if second[start] == second[stop - 1]:
            other = Table(b.variables[1:], b.values[second[start]])
        else:
            other = Table(b.variables, b.values[second[start:stop]], b.mask)
        parts.append(_patterns_first(pair_product(one, other, drop)))
    names = parts[0].variables
    if len(parts) == 1:
        return _Rows(parts[0], pattern)
    whole = [p.values.transpose([p.variables.index(v) for v in names]) for p in parts]
    return _Rows(Table(names, np.concatenate(whole)), pattern)


def _patterns_first(table: Table) -> Table:
    """Put the axes of patterns in front, as one."""
    order = sorted(range(len(table.variables)), key=lambda i: -_place(table.variables[i], i))
    values = table.values.transpose(order)
    names = [table.variables[i] for i in order]
    if len(names) > 1 and names[1] == OTHERS:
        values = values.reshape(-1, *values.shape[2:])
        del names[1]
    return Table(tuple(names), values)


def _place(v: int, axis: int) -> int:
    return 1_000 + v if v < 0 else -axis


class RowMemory:
    """What has been worked out about one set of samples."""

    def __init__(self) -> None:
        self._cut: dict[int, tuple[Table, _Rows]] = {}
        self._steps: dict[tuple[int, ...], tuple[list[_Rows], _Rows]] = {}
        self._together: dict[tuple[int, ...], tuple[list[Table], Table]] = {}
        self.tables: Memory = {}

    def together(self, tables: Sequence[Table], seen: int, volumes: Volumes) -> list[Table]:
        """Multiply tables of the same open variables as long as their products are small."""
        alike: dict[int, list[Table]] = {}
        for t in tables:
            alike.setdefault(t.mask & ~seen, []).append(t)
        found = []
        for some in alike.values():
            for group in pairwise(some, volumes, 1, TOGETHER_CELLS):
                key = tuple([id(t) for t in group.tables])
                if key not in self._together:
                    self._together[key] = (group.tables, group.product())
                found.append(self._together[key][1])
        return found

    def rows(self, table: Table, samples: Mapping[int, IntArray], count: int) -> _Rows:
        """Cut a table at the samples."""
        if id(table) not in self._cut:
            self._cut[id(table)] = (table, _rows(table, samples, count))
        return self._cut[id(table)][1]

    def fold(self, bucket: list[_Rows], v: int, volumes: Volumes, count: int) -> _Rows:
        """Multiply the tables of a bucket and sum one variable out."""
        step = (v, *sorted(id(r) for r in bucket))
        if step not in self._steps:
            self._steps[step] = (bucket, _fold(bucket, v, volumes, count))
        return self._steps[step][1]


def posteriors(
    tables: Iterable[Table],
    samples: Mapping[int, IntArray],
    keep: Sequence[int],
    volumes: Volumes,
    memory: RowMemory | None = None,
) -> Posteriors:
    """Return the exact posterior of some variables for many joint outcomes of others.

    Samples that agree in the findings of a part of the network share the work of that part.

    Parameters
    ----------
    tables : iterable of Table
    samples : mapping of int to ndarray of shape (samples,)
        Outcomes of the observed variables.
    keep : sequence of int
    volumes : Volumes
    memory : RowMemory, optional
        Steps done before with the same samples, which are not done again; filled.

    Returns
    -------
    Posteriors
    """
    count = len(next(iter(samples.values())))
    memory = RowMemory() if memory is None else memory
    # what has few cells is summed out and multiplied for all outcomes at once
    few = eliminate(tables, {*keep, *samples}, volumes, memory.tables, STEP_CELLS)
    left = [memory.rows(t, samples, count) for t in memory.together(few, bits(samples), volumes)]
    sizes = [int(volumes[bits((v,))]) for v in keep]
    for v, k in zip(keep, sizes, strict=True):
        if v in samples:
            left.append(_Rows(Table((PATTERNS, v), np.eye(k)), samples[v]))
    hidden = {v for r in left for v in r.table.variables}.difference(keep, (PATTERNS,))

    def cost(v: int) -> float:
        scope, patterns = 0, 1
        for r in left:
            if v in r.table.variables:
                scope |= r.table.mask
                patterns *= r.count
        return min(patterns, count) * volumes[scope & ~PATTERN_BIT]

    costs = {v: cost(v) for v in hidden}
    while costs:
        v = min(costs, key=lambda w: (costs[w], w))
        bucket = [r for r in left if v in r.table.variables]
        left = [r for r in left if v not in r.table.variables]
        left.append(memory.fold(bucket, v, volumes, count))
        del costs[v]
        for w in {w for r in bucket for w in r.table.variables}:
            if w in costs:
                costs[w] = cost(w)
    if not left:
        left.append(_Rows(Table((PATTERNS,), np.ones(1)), None))
    return Posteriors(_pairwise_rows(left, volumes, count, 2), keep, sizes, count)


class Posteriors:
    """Posteriors of some variables for many outcomes.

    Every row sums to 1 (all zeros for an impossible outcome).
    """

    def __init__(
        self, rows: Sequence[_Rows], keep: Sequence[int], sizes: Sequence[int], count: int
    ) -> None:
        self._count = count
        self._sizes = tuple(sizes)
        self._parts: list[tuple[FloatArray, IntArray | None]] = []
        for r in rows:
            axes = [r.table.variables.index(v) for v in keep if v in r.table.variables]
            shape = [k if v in r.table.variables else 1 for v, k in zip(keep, sizes, strict=True)]
            values = r.table.values.transpose(0, *axes).reshape(r.count, *shape)
            self._parts.append((values, r.pattern))

    def _fill(self, block: FloatArray, start: int) -> None:
        shaped = block.reshape(-1, *self._sizes)
        first, *others = [
            values if pattern is None else values[pattern[start : start + BLOCK]]
            for values, pattern in self._parts
        ]
        if others:
            np.multiply(first, others[0], out=shaped)
        else:
            shaped[...] = first
        total = block.sum(axis=1, keepdims=True)
        block /= np.where(total > 0, total, 1.0)

    def whole(self) -> FloatArray:
        """Return all of them, shape (samples, product of the sizes of the variables)."""
        result = np.empty((self._count, math.prod(self._sizes)))
        for start in range(0, self._count, BLOCK):
            self._fill(result[start : start + BLOCK], start)
        return result

    def log_sums(self) -> FloatArray:
        """Return the sum of p log2 p of every row, without making the rows.

        As in :meth:`WideProduct.sums`; of tables with few patterns all pairs are worked out.

        Returns
        -------
        ndarray, shape (samples,)
        """
        only = (np.ones((1,) * (len(self._sizes) + 1)), None)
        (x, first), (y, second) = [*self._parts, only][:2]
        lengths = zip(self._sizes, x.shape[1:], y.shape[1:], strict=True)
        unmentioned = [k for k, i, j in lengths if i == j == 1]
        log_x, log_y = plogp(x), plogp(y)
        for axis in range(1, x.ndim):
            # what one of them lacks is summed out of the other first
            if y.shape[axis] == 1:
                x, log_x = x.sum(axis, keepdims=True), log_x.sum(axis, keepdims=True)
            elif x.shape[axis] == 1:
                y, log_y = y.sum(axis, keepdims=True), log_y.sum(axis, keepdims=True)
        x, log_x, y, log_y = (part.reshape(len(part), -1) for part in (x, log_x, y, log_y))
        one = np.zeros(self._count, dtype=np.int64)
        first, second = (one if pattern is None else pattern for pattern in (first, second))
        if len(x) * len(y) <= ALL_PAIRS * self._count:
            p = np.matmul(x, y.T)[first, second]
            p_log_p = (np.matmul(log_x, y.T) + np.matmul(x, log_y.T))[first, second]
        else:
            x, log_x, y, log_y = x[first], log_x[first], y[second], log_y[second]
            p = np.einsum("ij,ij->i", x, y)
            p_log_p = np.einsum("ij,ij->i", log_x, y) + np.einsum("ij,ij->i", x, log_y)
        p = np.where(p > 0, p, 1.0)
        result: FloatArray = p_log_p / p - np.log2(p)
        return result - sum(math.log2(k) for k in unmentioned)


def _fold(bucket: Sequence[_Rows], v: int, volumes: Volumes, count: int) -> _Rows:
    """Multiply several tables and sum one variable out of the last product."""
    if all(r.pattern is None for r in bucket):
        plain = [Table(r.table.variables[1:], r.table.values[0]) for r in bucket]
        whole = sum_out(plain, v, volumes)
        return _Rows(Table((PATTERNS, *whole.variables), whole.values[None]), None)
    if len(bucket) == 1:
        only = bucket[0].table
        axis = only.variables.index(v)
        names = only.variables[:axis] + only.variables[axis + 1 :]
        found = _Rows(Table(names, only.values.sum(axis=axis)), bucket[0].pattern)
    else:
        left, right = _pairwise_rows(bucket, volumes, count, 2)
        found = _rows_product(left, right, v)
    values = found.table.values
    top = values.reshape(len(values), -1).max(axis=1, initial=0.0)
    if top.min() < TINY:
        top = np.where(top > 0, top, 1.0).reshape(-1, *([1] * (values.ndim - 1)))
        found = _Rows(Table(found.table.variables, values / top), found.pattern)
    return found


def _pairwise_rows(rows: Sequence[_Rows], volumes: Volumes, count: int, until: int) -> list[_Rows]:
    """Multiply tables two by two, few cells first, until few tables are left."""
    left = list(rows)

    def cells(a: _Rows, b: _Rows) -> float:
        patterns = a.count if a.pattern is b.pattern else min(a.count * b.count, count)
        return patterns * volumes[(a.table.mask | b.table.mask) & ~PATTERN_BIT]

    while len(left) > until:
        _, i, j = min((cells(left[i], left[j]), i, j) for i in range(len(left)) for j in range(i))
        product = _rows_product(left[i], left[j])
        del left[i], left[j]
        left.append(product)
    return left
