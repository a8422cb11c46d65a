"""Exact joint distributions of a few variables given evidence, by variable elimination.

The compiled engine answers for one target and every single finding. A test panel needs the joint
distribution of a target with *several* findings, another set for every panel. Tables that the
evidence has cut are contracted in greedy order; samples of whole patients are drawn backwards
through the same elimination (Koller and Friedman, Probabilistic Graphical Models, 2009, chapter 9;
Shachter and Peot 1989 for the pruning of barren nodes).

Arrays only: variables are integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.network import FloatArray, Network

IntArray = npt.NDArray[np.int64]

#: Largest joint table of a target and the interface of a panel that is kept for other panels.
INTERFACE_CELLS = 400_000


@dataclass(frozen=True, eq=False)
class Table:
    """A non-negative function of some variables.

    Attributes
    ----------
    variables : tuple of int
        The axes of ``values``.
    values : ndarray
    """

    variables: tuple[int, ...]
    values: FloatArray


#: Steps of elimination by variable and identities of the tables, with those tables and the result.
Memory = dict[tuple[int, ...], tuple[list[Table], Table]]


class EvidenceTables:
    """The tables of a network after evidence.

    Parameters
    ----------
    network : Network
    evidence : mapping of int to ndarray
        Likelihood vector of every observed variable, shape (k,).

    Attributes
    ----------
    sizes : dict of int to int
        Number of states of every variable; a numbered sample axis may be added by callers.
    fixed : dict of int to int
        State of every variable with hard evidence; these have no axis any more.
    """

    def __init__(self, network: Network, evidence: Mapping[int, FloatArray]) -> None:
        self.sizes: dict[int, int] = dict(enumerate(network.cardinalities))
        self.fixed: dict[int, int] = {}
        soft: list[Table] = []
        for v, weights in evidence.items():
            positive = np.flatnonzero(weights)
            if len(positive) == 1:
                self.fixed[v] = int(positive[0])
            elif weights.min() != weights.max():
                soft.append(Table((v,), np.asarray(weights, dtype=float)))
        self._soft = tuple(soft)
        self._parents: dict[int, tuple[int, ...]] = {}
        self._table_of: dict[int, Table] = {}
        self._potentials: list[Table] = []
        anchors = set(self.fixed) | {t.variables[0] for t in soft}
        for factor in network.factors:
            table = _cut(factor.variables, factor.table, self.fixed)
            if factor.child is None:
                self._potentials.append(table)
                anchors.update(factor.variables)
            else:
                self._parents[factor.child] = factor.variables[:-1]
                self._table_of[factor.child] = table
        self._core = self._ancestors(anchors)
        self._interfaces: dict[tuple[tuple[int, ...], frozenset[int]], Table] = {}
        self._memory: Memory = {}

    def _ancestors(self, start: Iterable[int]) -> frozenset[int]:
        found: set[int] = set()
        stack = list(start)
        while stack:
            v = stack.pop()
            if v not in found:
                found.add(v)
                stack.extend(self._parents.get(v, ()))
        return frozenset(found)

    def open_variables(self, variables: Iterable[int]) -> tuple[int, ...]:
        """Those of the variables that still have an axis, in their order."""
        return tuple(v for v in variables if v not in self.fixed)

    def relevant(self, keep: Iterable[int]) -> list[Table]:
        """Tables that matter for the joint distribution of some variables.

        Children that are neither observed nor wanted, nor lead to such, sum to one and are left
        out (barren nodes).
        """
        wanted = self._core | self._ancestors(keep)
        tables = [self._table_of[v] for v in sorted(wanted) if v in self._table_of]
        return tables + self._potentials + list(self._soft)

    def shared(self, protect: Iterable[int], target: Sequence[int] = ()) -> EvidenceTables:
        """Sum out once what no later question asks for.

        Parameters
        ----------
        protect : iterable of int
            Variables that later calls of :meth:`relevant` may keep. They and their parents stay.
        target : sequence of int
            Those among them that every later question is about.

        Returns
        -------
        EvidenceTables
            Gives the same joint distributions of protected variables, up to a common factor.
        """
        protected = set(protect)
        for v in list(protected):
            protected.update(self._parents.get(v, ()))
        later = self._ancestors(protected)
        core = self._core | self._ancestors(target)
        stay: dict[int, Table] = {}
        reduce: list[Table] = []
        for v, table in self._table_of.items():
            if v in core:
                reduce.append(table)
            elif v in later:
                stay[v] = table
        for table in stay.values():
            protected.update(table.variables)
        reduce += self._potentials + list(self._soft)
        left = eliminate(reduce, protected, self.sizes)
        other = object.__new__(EvidenceTables)
        other.sizes = self.sizes
        other.fixed = self.fixed
        other._soft = ()
        other._parents = {v: p for v, p in self._parents.items() if v in stay}
        other._table_of = stay
        other._potentials = left
        other._core = frozenset()
        other._interfaces = {}
        other._memory = {}
        return other

    def focused(self, target: Sequence[int], keep: Iterable[int]) -> list[Table]:
        """Tables whose product is the joint distribution of a target and some variables.

        As :meth:`relevant`, but everything beyond the interface between the wanted variables and
        the rest of the network is summed out, once for all questions with that interface.
        """
        kept = set(keep)
        if self._core:  # nothing has been summed out yet
            return self.relevant({*target, *kept})
        local = [self._table_of[v] for v in sorted(self._ancestors(kept)) if v in self._table_of]
        rest = [*self._potentials, *self._soft]
        beyond = {v for t in rest for v in t.variables}
        scope = {v for t in local for v in t.variables} | kept
        interface = frozenset((scope & beyond) - set(target))
        cells = 1.0
        for v in interface | set(target):
            cells *= self.sizes[v]
        if cells > INTERFACE_CELLS or not set(target) <= beyond:
            return self.relevant({*target, *kept})
        key = (tuple(target), interface)
        if key not in self._interfaces:
            order = (*target, *sorted(interface))
            values = multiply_out(
                eliminate(rest, order, self.sizes, self._memory), order, self.sizes
            )
            self._interfaces[key] = Table(order, values)
        return [*local, self._interfaces[key]]

    def joint(self, keep: Sequence[int], target: Sequence[int] = ()) -> FloatArray:
        """Return the exact joint distribution of unobserved variables.

        Parameters
        ----------
        keep : sequence of int
            Distinct variables without hard evidence.
        target : sequence of int
            Those among them that many questions have in common.

        Returns
        -------
        ndarray
            One axis per variable in the order given; sums to 1 (all zeros for impossible
            evidence).
        """
        tables = self.focused(target, set(keep) - set(target)) if target else self.relevant(keep)
        table = multiply_out(eliminate(tables, keep, self.sizes), keep, self.sizes)
        total = table.sum()
        return table / total if total > 0 else table


def _cut(variables: Sequence[int], values: FloatArray, fixed: Mapping[int, int]) -> Table:
    """Take the slice of a table that hard evidence leaves."""
    index = tuple(fixed.get(v, slice(None)) for v in variables)
    return _scaled(Table(tuple(v for v in variables if v not in fixed), values[index]))


def _scaled(table: Table) -> Table:
    """Divide a table by its largest cell, so that products of many do not vanish."""
    top = table.values.max(initial=0.0)
    return Table(table.variables, table.values / top) if top > 0 else table


def pair_product(left: Table, right: Table, drop: Iterable[int] = ()) -> Table:
    """Multiply two tables and sum over the variables in ``drop`` (as one matrix product)."""
    x, y = left.values, right.values
    of_x, of_y = left.variables, right.variables
    for v in drop:
        if v not in of_y:
            axis = of_x.index(v)
            x, of_x = x.sum(axis), of_x[:axis] + of_x[axis + 1 :]
        elif v not in of_x:
            axis = of_y.index(v)
            y, of_y = y.sum(axis), of_y[:axis] + of_y[axis + 1 :]
    at_x = {v: i for i, v in enumerate(of_x)}
    at_y = {v: i for i, v in enumerate(of_y)}
    batch = [v for v in of_x if v in at_y and v not in drop]
    summed = [v for v in of_x if v in at_y and v in drop]
    rows = [v for v in of_x if v not in at_y]
    columns = [v for v in of_y if v not in at_x]
    shape_x, shape_y = x.shape, y.shape
    kept = [shape_x[at_x[v]] for v in batch]
    high = [shape_x[at_x[v]] for v in rows]
    wide = [shape_y[at_y[v]] for v in columns]
    n, r, c = math.prod(kept), math.prod(high), math.prod(wide)
    x = x.transpose([at_x[v] for v in (*batch, *rows, *summed)]).reshape(n, r, -1)
    y = y.transpose([at_y[v] for v in (*batch, *summed, *columns)]).reshape(n, -1, c)
    values = np.matmul(x, y) if summed else x * y
    return Table((*batch, *rows, *columns), values.reshape(kept + high + wide))


def _bucket(tables: list[Table], v: int) -> tuple[list[Table], list[Table]]:
    return [t for t in tables if v in t.variables], [t for t in tables if v not in t.variables]


def _cheapest(tables: Sequence[Table], candidates: Iterable[int], sizes: Mapping[int, int]) -> int:
    """Return the variable whose elimination makes the smallest table."""
    scopes: dict[int, set[int]] = {v: set() for v in candidates}
    for table in tables:
        for v in table.variables:
            if v in scopes:
                scopes[v].update(table.variables)

    def cost(v: int) -> tuple[float, int]:
        product = 1.0
        for w in scopes[v]:
            product *= sizes[w]
        return product, v

    return min(scopes, key=cost)


def _small_products_first(tables: Sequence[Table]) -> list[int]:
    """Return an order of multiplication in which the product grows as late as possible."""
    size: dict[int, int] = {}
    for table in tables:
        for v, k in zip(table.variables, table.values.shape, strict=True):
            size[v] = max(k, size.get(v, 1))

    def volume(variables: Iterable[int]) -> float:
        product = 1.0
        for v in variables:
            product *= size[v]
        return product

    rest = list(range(len(tables)))
    first = min(rest, key=lambda i: tables[i].values.size)
    rest.remove(first)
    order, scope = [first], set(tables[first].variables)
    while rest:
        following = min(rest, key=lambda i: volume(scope.union(tables[i].variables)))
        rest.remove(following)
        order.append(following)
        scope.update(tables[following].variables)
    return order


def _sum_out(bucket: list[Table], v: int) -> Table:
    """Multiply the tables of a bucket and sum one variable out."""
    if len(bucket) > 2:
        bucket = [bucket[i] for i in _small_products_first(bucket)]
    if len(bucket) == 1:
        only = bucket[0]
        axis = only.variables.index(v)
        table = Table(only.variables[:axis] + only.variables[axis + 1 :], only.values.sum(axis))
    else:
        product = bucket[0]
        for other in bucket[1:-1]:
            product = _scaled(pair_product(product, other))
        table = pair_product(product, bucket[-1], (v,))
    return _scaled(table)


def eliminate(
    tables: Iterable[Table],
    keep: Iterable[int],
    sizes: Mapping[int, int],
    memory: Memory | None = None,
) -> list[Table]:
    """Sum out everything but some variables.

    Parameters
    ----------
    tables : iterable of Table
    keep : iterable of int
    sizes : mapping of int to int
        Number of states of every variable.
    memory : dict, optional
        Steps done before, which are not done again; filled. Questions about the same tables begin
        with the same steps.

    Returns
    -------
    list of Table
        Their product is proportional to the joint distribution of the kept variables.
    """
    left = list(tables)
    kept = set(keep)
    hidden = {v for t in left for v in t.variables} - kept
    while hidden:
        v = _cheapest(left, sorted(hidden), sizes)
        bucket, left = _bucket(left, v)
        if memory is None:
            left.append(_sum_out(bucket, v))
        else:
            step = (v, *sorted(id(t) for t in bucket))
            if step not in memory:
                # the bucket is kept with the result: its identities stay its own
                memory[step] = (bucket, _sum_out(bucket, v))
            left.append(memory[step][1])
        hidden.discard(v)
    return left


def multiply_out(
    tables: Iterable[Table], order: Sequence[int], sizes: Mapping[int, int]
) -> FloatArray:
    """Multiply tables into one array with the axes in a given order.

    Parameters
    ----------
    tables : iterable of Table
        Over subsets of ``order``.
    order : sequence of int
    sizes : mapping of int to int

    Returns
    -------
    ndarray
    """
    at = {v: i for i, v in enumerate(order)}
    result = np.ones([sizes[v] for v in order])
    for table in sorted(tables, key=lambda t: t.values.size):
        axes = sorted(range(len(table.variables)), key=lambda i: at[table.variables[i]])
        shape = [1] * len(order)
        for i in axes:
            shape[at[table.variables[i]]] = table.values.shape[i]
        result *= table.values.transpose(axes).reshape(shape)
    return result


def draw(
    tables: Sequence[Table], sizes: Mapping[int, int], first: Sequence[int], uniforms: FloatArray
) -> dict[int, IntArray]:
    """Draw joint samples of all variables of some tables by inverse sampling, one after another.

    Everything is summed out in greedy order and then drawn in the reverse order, each variable
    given those drawn before it.

    Parameters
    ----------
    tables : sequence of Table
    sizes : mapping of int to int
    first : sequence of int
        Variables drawn first (and thus from the first, best columns of a Sobol sequence).
    uniforms : ndarray, shape (samples, dimensions)
        Points in the unit cube; column i serves the i-th variable drawn.

    Returns
    -------
    dict of int to ndarray of shape (samples,)
        The state of every variable in every sample.
    """
    left, leaves = _leaves_off(list(tables), set(first))
    hidden = {v for t in left for v in t.variables}
    buckets: list[tuple[int, list[Table]]] = [(v, [t]) for v, t in leaves]
    for late in (hidden - set(first), hidden & set(first)):
        while late:
            v = _cheapest(left, sorted(late), sizes)
            bucket, left = _bucket(left, v)
            buckets.append((v, bucket))
            left.append(_sum_out(bucket, v))
            late.discard(v)
    samples: dict[int, IntArray] = {}
    for column, (v, bucket) in enumerate(reversed(buckets)):
        weights = np.ones((len(uniforms), sizes[v]))
        for table in bucket:
            weights = weights * _at(table, samples, v)
        cumulated = np.cumsum(weights, axis=1)
        point = uniforms[:, column] * cumulated[:, -1]
        state = (cumulated <= point[:, None]).sum(axis=1)
        samples[v] = np.minimum(state, sizes[v] - 1)
    return samples


def _leaves_off(tables: list[Table], stay: set[int]) -> tuple[list[Table], list[tuple[int, Table]]]:
    """Take off variables that one table alone holds and that sum to the same in every row of it.

    These are findings that nothing hangs on. Summing them out changes nothing, so that they can be
    drawn last, from their own table.

    Returns
    -------
    left : list of Table
    leaves : list of (int, Table)
        In the order of taking off.
    """
    leaves: list[tuple[int, Table]] = []
    while True:
        holders: dict[int, list[Table]] = {}
        for table in tables:
            for v in table.variables:
                holders.setdefault(v, []).append(table)
        taken: dict[int, Table] = {}
        for v, found in holders.items():
            table = found[0]
            if len(found) > 1 or v in stay or id(table) in {id(t) for t in taken.values()}:
                continue
            sums = table.values.sum(axis=table.variables.index(v))
            if sums.max() - sums.min() <= 1e-12 * sums.max():
                taken[v] = table
        if not taken:
            return tables, leaves
        gone = {id(t) for t in taken.values()}
        tables = [t for t in tables if id(t) not in gone]
        leaves += taken.items()


def dimensions(tables: Sequence[Table]) -> int:
    """Return how many variables :func:`draw` draws."""
    return len({v for t in tables for v in t.variables})


def _at(table: Table, samples: Mapping[int, IntArray], free: int) -> FloatArray:
    """Rows of a table at sampled states, shape (samples, states of the free variable)."""
    axis = table.variables.index(free)
    values = np.moveaxis(table.values, axis, -1)
    index = tuple(samples[v] for v in table.variables if v != free)
    rows: FloatArray = values[index] if index else values[None, :]
    return rows


@dataclass(frozen=True, eq=False)
class _Rows:
    """A table with one row for every distinct pattern of the sampled variables in it.

    Attributes
    ----------
    table : Table
        First axis: the patterns (numbered `PATTERNS`).
    pattern : ndarray of shape (samples,)
        Pattern of every sample.
    """

    table: Table
    pattern: IntArray


#: Number of the axis of patterns in the tables of :func:`posteriors`.
PATTERNS = -1
#: A table with at most this many patterns is multiplied pattern by pattern.
FEW_PATTERNS = 16


def _rows(table: Table, samples: Mapping[int, IntArray], count: int) -> _Rows:
    """Cut a table at the sampled states, once for each pattern."""
    seen = [i for i, v in enumerate(table.variables) if v in samples]
    rest = [i for i in range(len(table.variables)) if i not in seen]
    names = (PATTERNS, *(table.variables[i] for i in rest))
    if not seen:
        return _Rows(Table(names, table.values[None]), np.zeros(count, dtype=np.int64))
    shape = tuple(table.values.shape[i] for i in seen)
    code = np.ravel_multi_index(tuple(samples[table.variables[i]] for i in seen), shape)
    patterns, pattern = np.unique(code, return_inverse=True)
    values = table.values.transpose(seen + rest)
    values = values.reshape(-1, *values.shape[len(seen) :])[patterns]
    return _Rows(Table(names, values), np.asarray(pattern, dtype=np.int64).reshape(-1))


def _rows_product(left: _Rows, right: _Rows, drop: tuple[int, ...] = ()) -> _Rows:
    """Multiply two tables pattern by pattern and sum over the variables in ``drop``."""
    if len(left.table.values) < len(right.table.values):
        left, right = right, left
    a, b = left.table.values, right.table.values
    if len(b) == 1:
        product = pair_product(left.table, Table(right.table.variables[1:], b[0]), drop)
        return _scaled_rows([product], left.pattern)
    patterns, pattern = np.unique(left.pattern * len(b) + right.pattern, return_inverse=True)
    first, second = patterns // len(b), patterns % len(b)
    pattern = np.asarray(pattern, dtype=np.int64).reshape(-1)
    if len(b) > FEW_PATTERNS:
        whole = pair_product(
            Table(left.table.variables, a[first]), Table(right.table.variables, b[second]), drop
        )
        return _scaled_rows([whole], pattern)
    # Few patterns on one side: one matrix product for each of them, nothing is copied.
    order = np.argsort(second, kind="stable")
    parts = []
    for q in range(len(b)):
        rows = order[second[order] == q]
        if len(rows):
            parts.append(
                pair_product(
                    Table(left.table.variables, a[first[rows]]),
                    Table(right.table.variables[1:], b[q]),
                    drop,
                )
            )
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return _scaled_rows(parts, place[pattern])


def _scaled_rows(parts: Sequence[Table], pattern: IntArray) -> _Rows:
    """Put tables with the same axes below each other and divide every pattern by its top."""
    axis = parts[0].variables.index(PATTERNS)
    rest = tuple(v for v in parts[0].variables if v != PATTERNS)
    moved = [np.moveaxis(p.values, axis, 0) for p in parts]
    values = moved[0] if len(moved) == 1 else np.concatenate(moved)
    top = values.reshape(len(values), -1).max(axis=1, initial=0.0)
    values = values / np.where(top > 0, top, 1.0).reshape(-1, *([1] * len(rest)))
    return _Rows(Table((PATTERNS, *rest), values), pattern)


class RowMemory:
    """What has been worked out about one set of samples."""

    def __init__(self) -> None:
        self._cut: dict[int, tuple[Table, _Rows]] = {}
        self._steps: dict[tuple[int, ...], tuple[list[_Rows], _Rows]] = {}

    def rows(self, table: Table, samples: Mapping[int, IntArray], count: int) -> _Rows:
        """Cut a table at the samples."""
        if id(table) not in self._cut:
            self._cut[id(table)] = (table, _rows(table, samples, count))
        return self._cut[id(table)][1]

    def fold(self, bucket: list[_Rows], v: int) -> _Rows:
        """Multiply the tables of a bucket and sum one variable out."""
        step = (v, *sorted(id(r) for r in bucket))
        if step not in self._steps:
            self._steps[step] = (bucket, _fold(bucket, (v,)))
        return self._steps[step][1]


def posteriors(
    tables: Iterable[Table],
    samples: Mapping[int, IntArray],
    keep: Sequence[int],
    sizes: Mapping[int, int],
    memory: RowMemory | None = None,
) -> FloatArray:
    """Return the exact posterior of some variables for many joint outcomes of others.

    Samples that agree in the findings of a part of the network share the work of that part.

    Parameters
    ----------
    tables : iterable of Table
    samples : mapping of int to ndarray of shape (samples,)
        Outcomes of the observed variables.
    keep : sequence of int
    sizes : mapping of int to int
    memory : RowMemory, optional
        Steps done before with the same samples, which are not done again; filled.

    Returns
    -------
    ndarray, shape (samples, product of the sizes of ``keep``)
        Every row sums to 1 (all zeros for an impossible outcome).
    """
    count = len(next(iter(samples.values())))
    memory = RowMemory() if memory is None else memory
    left = [memory.rows(t, samples, count) for t in tables]
    for v in keep:
        if v in samples:
            left.append(_Rows(Table((PATTERNS, v), np.eye(sizes[v])), samples[v]))
    hidden = {v for r in left for v in r.table.variables} - set(keep) - {PATTERNS}

    def cost(v: int) -> tuple[float, int]:
        scope: set[int] = set()
        patterns = 1.0
        for r in left:
            if v in r.table.variables:
                scope.update(r.table.variables)
                patterns = min(patterns * len(r.table.values), float(count))
        product = patterns
        for w in scope - {PATTERNS}:
            product *= sizes[w]
        return product, v

    while hidden:
        v = min(hidden, key=cost)
        bucket = [r for r in left if v in r.table.variables]
        left = [r for r in left if v not in r.table.variables]
        left.append(memory.fold(bucket, v))
        hidden.discard(v)
    missing = [v for v in keep if all(v not in r.table.variables for r in left)]
    if missing or not left:
        shape = (1, *(sizes[v] for v in missing))
        left.append(_Rows(Table((PATTERNS, *missing), np.ones(shape)), np.zeros(count, np.int64)))
    final = _fold(left, ())
    at = {v: i for i, v in enumerate(final.table.variables)}
    values = final.table.values.transpose([0, *(at[v] for v in keep)])
    values = values.reshape(len(values), -1)
    total = values.sum(axis=1, keepdims=True)
    result: FloatArray = (values / np.where(total > 0, total, 1.0))[final.pattern]
    return result


def _fold(rows: Sequence[_Rows], drop: tuple[int, ...]) -> _Rows:
    """Multiply several tables and sum some variables out of the last product."""
    ordered = _cheap_products_first(rows) if len(rows) > 2 else list(rows)
    if len(ordered) == 1:
        only = ordered[0].table
        axes = tuple(only.variables.index(v) for v in drop)
        names = tuple(v for v in only.variables if v not in drop)
        return _Rows(Table(names, only.values.sum(axis=axes)), ordered[0].pattern)
    # Likelihoods of the dropped variable alone are multiplied apart from the wide tables, so that
    # the last product is one matrix product.
    narrow = [r for r in ordered if r.table.values.ndim == 2]
    wide = [r for r in ordered if r.table.values.ndim != 2]
    if not drop or not wide or _patterns(narrow) <= FEW_PATTERNS * _patterns(wide):
        narrow, wide = ordered[:-1], ordered[-1:]
    return _rows_product(_chain(narrow), _chain(wide), drop)


def _patterns(rows: Sequence[_Rows]) -> int:
    """Most patterns that a product of tables can have; 0 without tables."""
    if not rows:
        return 0
    return min(math.prod(len(r.table.values) for r in rows), len(rows[0].pattern))


def _chain(rows: Sequence[_Rows]) -> _Rows:
    product = rows[0]
    for other in rows[1:]:
        product = _rows_product(product, other)
    return product


def _cheap_products_first(rows: Sequence[_Rows]) -> list[_Rows]:
    """Return an order of multiplication in which few patterns and cells come first."""
    size = {
        v: k for r in rows for v, k in zip(r.table.variables, r.table.values.shape, strict=True)
    }
    count = len(rows[0].pattern)

    def cells(patterns: int, scope: set[int]) -> float:
        product = float(min(patterns, count))
        for v in scope:
            if v != PATTERNS:
                product *= size[v]
        return product

    rest = sorted(rows, key=lambda r: r.table.values.size)
    ordered = [rest.pop(0)]
    scope, patterns = set(ordered[0].table.variables), len(ordered[0].table.values)
    while rest:
        following = min(
            rest,
            key=lambda r: cells(patterns * len(r.table.values), scope.union(r.table.variables)),
        )
        rest.remove(following)
        ordered.append(following)
        scope.update(following.table.variables)
        patterns = min(patterns * len(following.table.values), count)
    return ordered
