"""The conditions of people without a lesion: expectations that the rates are fitted with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx.network.structure import Structure

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Term:
    """A factor of a product: one axis for each of `names`, then draws (one where none differ)."""

    names: tuple[str, ...]
    values: Array


def _term(names: tuple[str, ...], values: Array) -> _Term:
    """Put draws last, where they lie side by side: sums then run along them."""
    if values.ndim == len(names):
        return _Term(names, values[..., None])
    return _Term(names, np.ascontiguousarray(np.moveaxis(values, 0, -1)))


def _summed(terms: tuple[_Term, ...], name: str) -> _Term:
    """Multiply terms and sum one variable out."""
    # The largest comes last: its product with the others is summed as it is made.
    first, *rest = sorted(terms, key=lambda t: len(t.names))
    product = first
    for i, term in enumerate(rest, start=1):
        names = tuple(dict.fromkeys((*product.names, *term.names)))
        kept = tuple(n for n in names if n != name) if i == len(rest) else names
        axis = {n: i for i, n in enumerate(names)}
        operands: list[Any] = []
        for t in (product, term):
            operands += [t.values, [*(axis[n] for n in t.names), len(names)]]
        values = np.einsum(*operands, [*(axis[n] for n in kept), len(names)])
        product = _Term(kept, values)
    if rest:
        return product
    at = first.names.index(name)
    return _Term(tuple(n for n in first.names if n != name), first.values.sum(axis=at))


def _elimination_order(scopes: Iterable[set[str]], sizes: Mapping[str, int]) -> list[str]:
    """Greedy order by the size of the table that summing a variable out leaves."""
    near: dict[str, set[str]] = {n: set() for n in sizes}
    for scope in scopes:
        for name in scope:
            near[name] |= scope - {name}
    order = []
    while near:
        best = min(near, key=lambda n: (math.prod(sizes[m] for m in near[n]), sizes[n]))
        around = near.pop(best)
        for name in around:
            near[name] = (near[name] | around) - {name, best}
        order.append(best)
    return order


class Population:
    """Exact expectations over the conditions, before any lesion is known to exist.

    Variables are summed out one by one in one order for all questions, and every partial sum is
    kept (bucket elimination; Dechter, Artif Intell 1999;113:41): the mechanisms ask hundreds of
    questions that differ in one factor or one given state.

    Parameters
    ----------
    structure : Structure
    tables : mapping of str to ndarray
        Conditional probability tables of the conditions and all their ancestors, with a leading
        axis where parameters are drawn. A table with ``etiology`` among its parents is read in
        the row of a mechanism that changes no condition (the spontaneous hematoma).
    lead : tuple of int
        ``()`` or ``(draws,)``.
    """

    def __init__(
        self, structure: Structure, tables: Mapping[str, Array], lead: tuple[int, ...] = ()
    ) -> None:
        self._nodes = structure.nodes
        self._lead = lead
        neutral = list(structure.mechanisms).index("hematoma_spontaneous")
        self._tables: dict[str, _Term] = {}
        for name, table in tables.items():
            parents = structure.nodes[name].parents
            if "etiology" in parents:
                axis = table.ndim - 1 - len(parents) + parents.index("etiology")
                table = np.take(table, neutral, axis=axis)
                parents = tuple(p for p in parents if p != "etiology")
            self._tables[name] = _term((*parents, name), table)
        self._order = _elimination_order(
            [set(t.names) for t in self._tables.values()],
            {n: len(structure.nodes[n].states) for n in tables},
        )
        self._factors: dict[tuple[str, object], tuple[Array, _Term]] = {}
        self._slices: dict[tuple[_Term, tuple[tuple[str, str], ...]], _Term] = {}
        self._sums: dict[tuple[str, tuple[_Term, ...]], _Term] = {}
        self._of_everybody: dict[tuple[tuple[str, str], ...], Array] = {}

    def _factor(self, name: str, factor: Array) -> _Term:
        """Return the same term for the same factor, whichever mechanism it belongs to."""
        key = (name, factor.tobytes() if factor.ndim == 1 else id(factor))
        if key not in self._factors:
            # The array is kept so that its id stays its own.
            self._factors[key] = factor, _term((name,), factor)
        return self._factors[key][1]

    def _given(self, term: _Term, given: Mapping[str, str]) -> _Term:
        """Read a term in the given states."""
        own = tuple((n, given[n]) for n in term.names if n in given)
        if not own:
            return term
        if (term, own) not in self._slices:
            index = tuple(
                self._nodes[n].states.index(given[n]) if n in given else slice(None)
                for n in term.names
            )
            names = tuple(n for n in term.names if n not in given)
            self._slices[term, own] = _Term(names, term.values[index])
        return self._slices[term, own]

    def _sum(
        self, factors: Mapping[str, Array], given: Mapping[str, str], keep: str | None = None
    ) -> Array:
        """Sum of the product of factors and tables over everything but the draws and `keep`."""
        needed: set[str] = set()
        wanted = [*factors, *given, *([keep] if keep else [])]
        while wanted:
            name = wanted.pop()
            if name not in needed:
                needed.add(name)
                wanted += self._tables[name].names
        terms = [t for n, t in self._tables.items() if n in needed]
        terms += [self._factor(n, f) for n, f in factors.items()]
        terms = [self._given(t, given) for t in terms]
        for name in self._order:
            if name in needed and name not in given and name != keep:
                here = tuple(t for t in terms if name in t.names)
                terms = [t for t in terms if name not in t.names]
                if (name, here) not in self._sums:
                    self._sums[name, here] = _summed(here, name)
                terms.append(self._sums[name, here])
        result = np.ones(1)
        for term in terms:
            result = result * term.values
        if not self._lead:
            return np.asarray(result[..., 0])
        return np.moveaxis(np.broadcast_to(result, (*result.shape[:-1], *self._lead)), -1, 0)

    def expectation(self, factors: Mapping[str, Array], given: Mapping[str, str]) -> Array:
        """E[product of factors | given] over everybody with the given states, shape ``lead``."""
        key = tuple(sorted(given.items()))
        if key not in self._of_everybody:
            self._of_everybody[key] = self._sum({}, given)
        return np.asarray(self._sum(factors, given) / self._of_everybody[key])

    def weights(self, factors: Mapping[str, Array], variable: str) -> Array:
        """P(variable) times E[product of factors | variable], shape ``(*lead, states)``."""
        return self._sum(factors, {}, keep=variable)

    def conditional(self, factors: Mapping[str, Array], variable: str) -> Array:
        """Distribution of `variable` among people weighted by the factors, ``(*lead, states)``."""
        weights = self.weights(factors, variable)
        return np.asarray(weights / weights.sum(-1, keepdims=True))
