"""Exact joint distributions of a few variables given evidence, by variable elimination.

The compiled engine answers for one target and every single finding. A test panel needs the joint
distribution of a target with *several* findings, another set for every panel. Tables that the
evidence has cut are contracted in greedy order (Koller and Friedman, Probabilistic Graphical
Models, 2009, chapter 9; Shachter and Peot 1989 for the pruning of barren nodes).

The tables are small, so that finding out what to multiply costs as much as multiplying: scopes are
bit masks, their sizes are remembered, and questions about the same tables share their first steps.

Arrays only: variables are integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.network import FloatArray, Network

IntArray = npt.NDArray[np.int64]

#: Variables whose elimination takes a larger product are left to the single question, which may
#: know some of their neighbours: in what all questions share, and in what some do.
SHARED_CELLS = 200_000
STEP_CELLS = 50_000
#: Larger tables do not take in others beforehand.
ABSORBING_CELLS = 20_000
#: Products with at most this many cells before summing, times tables, are left to one call of
#: einsum.
EINSUM_CELLS = 12_000
#: Most tables in one such call.
MOST_OPERANDS = 12
#: Cells of the innermost loop of a wide product.
INNER_CELLS = 256
#: Letters of einsum.
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: A table whose largest cell is below this is scaled up.
TINY = 1e-30
#: Stands for 0 under a logarithm.
SMALLEST = np.finfo(float).tiny


class Table:
    """A non-negative function of some variables.

    Parameters
    ----------
    variables : tuple of int
        The axes of ``values``: variables of the network, or the axes of patterns -1 and -2.
    values : ndarray

    Attributes
    ----------
    mask : int
        The variables as bits (:func:`bits`).
    """

    __slots__ = ("mask", "values", "variables")

    def __init__(
        self, variables: tuple[int, ...], values: FloatArray, mask: int | None = None
    ) -> None:
        self.variables = variables
        self.values = values
        self.mask = bits(variables) if mask is None else mask


def bits(variables: Iterable[int]) -> int:
    """Return a set of variables as a bit mask."""
    mask = 0
    for v in variables:
        mask |= 4 << v if v >= 0 else 1 << (v + 2)
    return mask


#: Steps of elimination by variable and identities of the tables, with those tables and the result.
Memory = dict[tuple[int, ...], tuple[list[Table], Table]]


#: Most sets of variables whose cells are remembered.
MOST_VOLUMES = 20_000


class Volumes(dict[int, float]):
    """Number of cells of every set of variables that was asked for."""

    def __init__(self, sizes: Mapping[int, int]) -> None:
        super().__init__()
        self._size = {bits((v,)): k for v, k in sizes.items()}

    def __missing__(self, mask: int) -> float:
        """Multiply the sizes of the variables in a mask."""
        product, rest = 1.0, mask
        while rest:
            bit = rest & -rest
            product *= self._size[bit]
            rest ^= bit
        if len(self) >= MOST_VOLUMES:
            self.clear()
        self[mask] = product
        return product


class _Prepared:
    """What the tables of one network share before any evidence."""

    def __init__(self, network: Network) -> None:
        self.sizes = dict(enumerate(network.cardinalities))
        self.volumes = Volumes(self.sizes)
        self.parents = {f.child: f.variables[:-1] for f in network.factors if f.child is not None}
        self.lineages: dict[int, frozenset[int]] = {}
        self.factors = [(f.child, _scaled(Table(f.variables, f.table))) for f in network.factors]
        # a variable that no factor mentions has all states alike
        mentioned = {v for f in network.factors for v in f.variables}
        self.factors += [
            (None, Table((v,), np.ones(k))) for v, k in self.sizes.items() if v not in mentioned
        ]


_PREPARED: WeakKeyDictionary[Network, _Prepared] = WeakKeyDictionary()


def _prepared(network: Network) -> _Prepared:
    found = _PREPARED.get(network)
    if found is None:
        found = _PREPARED[network] = _Prepared(network)
    return found


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
        Number of states of every variable.
    fixed : dict of int to int
        State of every variable with hard evidence; these have no axis any more.
    volumes : Volumes
        Cells of sets of variables.
    """

    def __init__(self, network: Network, evidence: Mapping[int, FloatArray]) -> None:
        prepared = _prepared(network)
        self.sizes: dict[int, int] = prepared.sizes
        self.volumes = prepared.volumes
        self.fixed: dict[int, int] = {}
        soft: list[Table] = []
        for v, weights in evidence.items():
            positive = np.flatnonzero(weights)
            if len(positive) == 1:
                self.fixed[v] = int(positive[0])
            elif weights.min() != weights.max() or not len(positive):
                # only ratios count, and products of large weights would overflow
                soft.append(_scaled(Table((v,), np.asarray(weights, dtype=float))))
        self._soft = tuple(soft)
        self._parents: Mapping[int, tuple[int, ...]] = prepared.parents
        self._lineages = prepared.lineages
        self._table_of: dict[int, Table] = {}
        self._potentials: list[Table] = []
        anchors = set(self.fixed) | {t.variables[0] for t in soft}
        known = bits(self.fixed)
        for child, whole in prepared.factors:
            table = _cut(whole, self.fixed) if whole.mask & known else whole
            if child is None:
                self._potentials.append(table)
                anchors.update(whole.variables)
            else:
                self._table_of[child] = table
        self._core = self._ancestors(anchors)
        self._interfaces: dict[tuple[tuple[int, ...], frozenset[int]], list[Table]] = {}
        self._memory: Memory = {}
        self._summed_out = False

    def _ancestors(self, start: Iterable[int]) -> frozenset[int]:
        """Return some variables with all that they hang on."""
        return frozenset().union(*[self._lineage(v) for v in start])

    def _lineage(self, v: int) -> frozenset[int]:
        found = self._lineages.get(v)
        if found is None:
            above = [self._lineage(p) for p in self._parents.get(v, ())]
            found = self._lineages[v] = frozenset((v,)).union(*above)
        return found

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
        other = object.__new__(EvidenceTables)
        other.sizes = self.sizes
        other.volumes = self.volumes
        other.fixed = self.fixed
        other._soft = ()
        other._parents = {v: p for v, p in self._parents.items() if v in stay}
        other._lineages = {}
        other._table_of = stay
        left = eliminate(reduce, protected, self.volumes, self._memory, SHARED_CELLS)
        other._potentials = absorbed(left)
        other._core = frozenset()
        other._interfaces = {}
        other._memory = {}
        other._summed_out = True
        return other

    @property
    def conditionals(self) -> dict[int, Table]:
        """Tables that sum to the same over a variable without evidence in every row."""
        return {v: t for v, t in self._table_of.items() if v not in self.fixed}

    def inner_variables(self) -> set[int]:
        """Variables of the tables that every question about a target needs."""
        return {v for t in (*self._potentials, *self._soft) for v in t.variables}

    def _interface(self, target: Sequence[int], kept: set[int]) -> frozenset[int]:
        """Variables through which some variables hang together with the rest of the network."""
        scope = set(kept)
        for v in self._ancestors(kept):
            if v in self._table_of:
                scope.update(self._table_of[v].variables)
        return frozenset((scope & self.inner_variables()).difference(target))

    def focused(self, target: Sequence[int], keep: Iterable[int]) -> list[Table]:
        """Tables whose product is the joint distribution of a target and some variables.

        As :meth:`relevant`, but everything beyond the interface between the wanted variables and
        the rest of the network is summed out, once for all questions with that interface.
        """
        kept = set(keep)
        if not self._summed_out:
            return self.relevant({*target, *kept})
        local = [self._table_of[v] for v in sorted(self._ancestors(kept)) if v in self._table_of]
        interface = self._interface(target, kept)
        key = (tuple(target), interface)
        if key not in self._interfaces:
            order = interface.union(target)
            rest = [*self._potentials, *self._soft]
            rest = eliminate(rest, order, self.volumes, self._memory, STEP_CELLS)
            self._interfaces[key] = rest
        return local + self._interfaces[key]

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
        table = self.product(keep, target).whole()
        total = table.sum()
        if total > 0:
            table /= total
        return table

    def product(self, keep: Sequence[int], target: Sequence[int] = ()) -> WideProduct:
        """Return what :meth:`joint` does up to a factor, not multiplied out yet."""
        if target:
            tables = self.focused(target, set(keep).difference(target))
        else:
            tables = self.relevant(keep)
        left = eliminate(tables, keep, self.volumes, self._memory)
        return WideProduct(left, keep, self.volumes)


def _cut(table: Table, fixed: Mapping[int, int]) -> Table:
    """Take the slice of a table that hard evidence leaves."""
    index = tuple(fixed.get(v, slice(None)) for v in table.variables)
    return _scaled(Table(tuple(v for v in table.variables if v not in fixed), table.values[index]))


def _scaled(table: Table) -> Table:
    """Divide a table by its largest cell, so that products of many do not vanish."""
    top = table.values.max(initial=0.0)
    return Table(table.variables, table.values / top) if top > 0 else table


def pair_product(left: Table, right: Table, drop: int | None = None) -> Table:
    """Multiply two tables, and sum over a variable of both as one matrix product."""
    x, y = left.values, right.values
    at_y = {v: i for i, v in enumerate(right.variables)}
    if drop is None:
        columns = [v for v in right.variables if v not in left.variables]
        both = [v for v in left.variables if v in at_y]
        shape = [y.shape[at_y[v]] if v in at_y else 1 for v in left.variables]
        y = y.transpose([at_y[v] for v in (*both, *columns)])
        if columns:
            x = x.reshape(x.shape + (1,) * len(columns))
            shape += y.shape[len(both) :]
        names = (*left.variables, *columns)
        return Table(names, x * y.reshape(shape), left.mask | right.mask)
    at_x = {v: i for i, v in enumerate(left.variables)}
    batch = [v for v in at_x if v in at_y and v != drop]
    rows = [v for v in at_x if v not in at_y]
    columns = [v for v in at_y if v not in at_x]
    kept = [x.shape[at_x[v]] for v in batch]
    high = [x.shape[at_x[v]] for v in rows]
    wide = [y.shape[at_y[v]] for v in columns]
    n, r, c = math.prod(kept), math.prod(high), math.prod(wide)
    if n > r * c * x.shape[at_x[drop]]:
        # many small matrices: one long product for each cell of the small ones
        x = x.transpose([at_x[v] for v in (drop, *rows, *batch)]).reshape(-1, r, n)
        y = y.transpose([at_y[v] for v in (drop, *columns, *batch)]).reshape(-1, c, n)
        values: FloatArray = np.einsum("srn,scn->rcn", x, y)
        return Table((*rows, *columns, *batch), values.reshape(high + wide + kept))
    x = x.transpose([at_x[v] for v in (*batch, *rows, drop)]).reshape(n, r, -1)
    y = y.transpose([at_y[v] for v in (*batch, drop, *columns)]).reshape(n, -1, c)
    return Table((*batch, *rows, *columns), np.matmul(x, y).reshape(kept + high + wide))


def small_product(tables: Sequence[Table], out: Sequence[int] | None = None) -> Table:
    """Multiply a few small tables and sum over everything but some variables, in one call."""
    letter: dict[int, str] = {}
    words: list[str] = []
    for t in tables:
        word = ""
        for v in t.variables:
            if v not in letter:
                letter[v] = LETTERS[len(letter)]
            word += letter[v]
        words.append(word)
    names = tuple(letter) if out is None else tuple(out)
    text = ",".join(words) + "->" + "".join([letter[v] for v in names])
    values: FloatArray = np.einsum(text, *[t.values for t in tables])
    return Table(names, values)


class Group:
    """Tables to be multiplied; small products are put off until they can be made in one call."""

    __slots__ = ("mask", "tables")

    def __init__(self, tables: list[Table], mask: int) -> None:
        self.tables = tables
        self.mask = mask

    def product(self) -> Table:
        """Multiply them."""
        return self.tables[0] if len(self.tables) == 1 else small_product(self.tables)


def pairwise(
    tables: Iterable[Table], volumes: Mapping[int, float], until: int, most: float = math.inf
) -> list[Group]:
    """Multiply tables two by two, small products first.

    Until few groups are left, or all products have more cells than ``most``.
    """
    left = [Group([t], t.mask) for t in tables]
    while len(left) > until:
        least, first, second = math.inf, 0, 0
        for i in range(1, len(left)):
            mask = left[i].mask
            for j in range(i):
                cells = volumes[mask | left[j].mask]
                if cells < least:
                    least, first, second = cells, i, j
        if least > most:
            break
        a, b = left[first], left[second]
        del left[first], left[second]
        count = len(a.tables) + len(b.tables)
        if least * count <= EINSUM_CELLS and count <= MOST_OPERANDS:
            left.append(Group(a.tables + b.tables, a.mask | b.mask))
        else:
            left.append(Group([pair_product(a.product(), b.product())], a.mask | b.mask))
    return left


def sum_out(bucket: Sequence[Table], v: int, volumes: Mapping[int, float]) -> Table:
    """Multiply the tables of a bucket, which all have a variable, and sum that one out."""
    mask = 0
    for t in bucket:
        mask |= t.mask
    if len(bucket) == 1:
        only = bucket[0]
        axis = only.variables.index(v)
        names = only.variables[:axis] + only.variables[axis + 1 :]
        table = Table(names, only.values.sum(axis))
    elif volumes[mask] * len(bucket) <= EINSUM_CELLS and len(bucket) <= MOST_OPERANDS:
        scope = dict.fromkeys([w for t in bucket for w in t.variables])
        del scope[v]
        table = small_product(bucket, tuple(scope))
    else:
        left, right = pairwise(bucket, volumes, 2)
        table = pair_product(left.product(), right.product(), v)
    top = table.values.max(initial=0.0)
    if 0 < top < TINY:
        table = Table(table.variables, table.values / top)
    return table


def buckets(
    left: list[Table], keep: Iterable[int], volumes: Mapping[int, float], most: float = math.inf
) -> Iterator[tuple[int, list[Table]]]:
    """Take the tables of one variable after another out of a list.

    The caller puts the product of each bucket, without its variable, back at the end of the list
    before it asks for the next one.

    Parameters
    ----------
    left : list of Table
        Changed.
    keep : iterable of int
        Variables that stay.
    volumes : mapping of int to float
        Cells of sets of variables.
    most : float
        Variables stay too once all products have more cells than this.

    Yields
    ------
    variable : int
        Next always the one whose bucket has the smallest product.
    bucket : list of Table
    """
    around: dict[int, int] = {}
    for t in left:
        mask = t.mask
        for v in t.variables:
            around[v] = around.get(v, 0) | mask
    for v in keep:
        around.pop(v, None)
    cells = {v: volumes[mask] for v, mask in around.items()}
    while cells:
        least = min(cells.values())
        if least > most:
            return
        v = min([w for w, c in cells.items() if c == least])
        bit = 4 << v
        bucket = [t for t in left if t.mask & bit]
        left[:] = [t for t in left if not t.mask & bit]
        yield v, bucket
        scope = 0
        for t in bucket:
            scope |= t.mask
        del cells[v], around[v]
        for t in bucket:
            for w in t.variables:
                if w in cells:
                    around[w] = mask = (around[w] | scope) & ~bit
                    cells[w] = volumes[mask]


def eliminate(
    tables: Iterable[Table],
    keep: Iterable[int],
    volumes: Mapping[int, float],
    memory: Memory,
    most: float = math.inf,
) -> list[Table]:
    """Sum out everything but some variables, next always the one that leaves the smallest table.

    Parameters
    ----------
    tables : iterable of Table
    keep : iterable of int
    volumes : mapping of int to float
        Cells of sets of variables.
    memory : dict
        Steps done before, which are not done again; filled. Questions about the same tables begin
        with the same steps.
    most : float
        Variables stay too once all products have more cells than this.

    Returns
    -------
    list of Table
        Their product is proportional to the joint distribution of the kept variables.
    """
    left = list(tables)
    for v, bucket in buckets(left, keep, volumes, most):
        step = (v, *sorted([id(t) for t in bucket]))
        if step not in memory:
            # the bucket is kept with the result: its identities stay its own
            memory[step] = (bucket, sum_out(bucket, v, volumes))
        left.append(memory[step][1])
    return left


def absorbed(tables: Iterable[Table]) -> list[Table]:
    """Multiply tables into small ones that have all their variables, so that fewer are left."""
    left: list[Table] = []
    for table in sorted(tables, key=lambda t: -len(t.variables)):
        mask = table.mask
        for i in range(len(left) - 1, -1, -1):
            if left[i].mask | mask == left[i].mask and left[i].values.size <= ABSORBING_CELLS:
                left[i] = pair_product(left[i], table)
                break
        else:
            left.append(table)
    return left


class WideProduct:
    """Tables multiplied into one array with the axes in a given order, or sums of that array.

    Parameters
    ----------
    tables : iterable of Table
        Over subsets of ``order``.
    order : sequence of int
    volumes : mapping of int to float
        Cells of sets of variables.

    Attributes
    ----------
    shape : tuple of int
    """

    def __init__(
        self, tables: Iterable[Table], order: Sequence[int], volumes: Mapping[int, float]
    ) -> None:
        self._order = tuple(order)
        self.shape = tuple([int(volumes[4 << v]) for v in order])
        found = [group.product() for group in pairwise(tables, volumes, 2)]
        found += [Table((), np.ones(()))] * (2 - len(found))
        self._tables = sorted(found, key=lambda t: -t.values.size)

    def whole(self) -> FloatArray:
        """Return the array, C-contiguous and the caller's own."""
        # the last axes are made one in both parts: loops over axes of two states are slow
        split = len(self.shape)
        while split > 1 and math.prod(self.shape[split:]) < INNER_CELLS:
            split -= 1
        inner = self.shape[split:]
        parts = []
        for table in self._tables:
            part = _aligned(table, self._order)
            part = np.broadcast_to(part, (*part.shape[:split], *inner))
            parts.append(part.reshape(*part.shape[:split], -1))
        result = np.empty((*self.shape[:split], math.prod(inner)))
        np.multiply(parts[0], parts[1], out=result)
        return result.reshape(self.shape)

    def sums(self, count: int) -> tuple[FloatArray, FloatArray]:
        """Return the sums of p and of p log2 p over some axes, without making the array p.

        The logarithm of a product is a sum of logarithms, so that both are matrix products of the
        two tables and of their own p log2 p.

        Parameters
        ----------
        count : int
            How many axes are summed over, from the first.

        Returns
        -------
        p, p_log_p : ndarray, shape (cells,)
            Over the other axes.
        """
        x, y = self._tables
        size = dict(zip(self._order, self.shape, strict=True))
        # in the order of the larger table, which then need not be copied
        order = [*x.variables, *(v for v in self._order if v not in x.variables)]
        over = [v for v in order if v in self._order[:count]]
        rest = [v for v in order if v not in over]
        both = [v for v in rest if x.mask & y.mask & (4 << v)]
        rows = [v for v in rest if v not in both and x.mask & (4 << v)]
        columns = [v for v in rest if v not in both and v not in rows]
        n, r, c, s = (math.prod([size[v] for v in some]) for some in (both, rows, columns, over))
        if order[0] in over:
            left = _filled(x, [*both, *over, *rows], size).reshape(n, s, r).transpose(0, 2, 1)
        else:
            left = _filled(x, [*both, *rows, *over], size).reshape(n, r, s)
        right = _filled(y, [*both, *over, *columns], size).reshape(n, s, c)
        p = np.matmul(left, right)
        p_log_p = np.matmul(plogp(left), right)
        p_log_p += np.matmul(left, plogp(right))
        made = [*both, *rows, *columns]
        back = [made.index(v) for v in self._order[count:]]
        p, p_log_p = (
            each.reshape([size[v] for v in made]).transpose(back).reshape(-1)
            for each in (p, p_log_p)
        )
        return p, p_log_p


def _aligned(table: Table, order: Sequence[int]) -> FloatArray:
    """Return a table with one axis for each of some variables, of length 1 for those it lacks."""
    axis = {v: i for i, v in enumerate(table.variables)}
    values = table.values.transpose([axis[v] for v in order if v in axis])
    return values.reshape([table.values.shape[axis[v]] if v in axis else 1 for v in order])


def _filled(table: Table, order: Sequence[int], size: Mapping[int, int]) -> FloatArray:
    """Return a table over more variables, repeated along those it lacks."""
    return np.broadcast_to(_aligned(table, order), [size[v] for v in order])


def plogp(p: FloatArray) -> FloatArray:
    """Return p log2 p of every cell, 0 at 0."""
    result: FloatArray = np.log2(p if p.min(initial=1.0) > 0 else np.maximum(p, SMALLEST))
    result *= p
    return result


def multiply_out(
    tables: Iterable[Table], order: Sequence[int], volumes: Mapping[int, float]
) -> FloatArray:
    """Multiply tables into one array with the axes in a given order, C-contiguous."""
    return WideProduct(tables, order, volumes).whole()
