"""The conditions of people without a lesion: expectations that the rates are fitted with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from epidural_dx.network.structure import Structure

Array = NDArray[np.float64]


class Population:
    """Exact expectations over the conditions, before any lesion is known to exist.

    Parameters
    ----------
    structure : Structure
    tables : mapping of str to ndarray
        Conditional probability tables, with a leading axis where parameters are drawn. A table
        with ``etiology`` among its parents is read in the row of a mechanism that changes no
        condition (the spontaneous hematoma).
    lead : tuple of int
        ``()`` or ``(draws,)``.
    """

    def __init__(
        self, structure: Structure, tables: Mapping[str, Array], lead: tuple[int, ...] = ()
    ) -> None:
        self._nodes = structure.nodes
        self._lead = lead
        neutral = list(structure.mechanisms).index("hematoma_spontaneous")
        self._tables: dict[str, tuple[tuple[str, ...], Array]] = {}
        for name, table in tables.items():
            parents = structure.nodes[name].parents
            if "etiology" in parents:
                axis = table.ndim - 1 - len(parents) + parents.index("etiology")
                table = np.take(table, neutral, axis=axis)
                parents = tuple(p for p in parents if p != "etiology")
            self._tables[name] = (parents, self._draws_last(table, len(parents) + 1))
        self._of_everybody: dict[tuple[tuple[str, str], ...], Array] = {}

    def _draws_last(self, table: Array, axes: int) -> Array:
        """Put draws last, where they lie side by side: sums then run along them."""
        if table.ndim == axes:
            return table
        return np.ascontiguousarray(np.moveaxis(table, 0, -1))

    def _sum(
        self, factors: Mapping[str, Array], given: Mapping[str, str], keep: str | None = None
    ) -> Array:
        """Sum of the product of factors and tables over everything but the draws and `keep`."""
        wanted = [*factors, *given, *([keep] if keep else [])]
        needed: dict[str, None] = {}
        while wanted:
            name = wanted.pop()
            if name not in needed:
                needed[name] = None
                wanted += self._tables[name][0]
        axis = {name: i for i, name in enumerate(needed, start=1)}
        operands: list[object] = []

        def add(table: Array, names: tuple[str, ...]) -> None:
            own = [axis[n] for n in names]
            operands.extend([table, [*own, 0] if table.ndim > len(own) else own])

        for name in needed:
            parents, table = self._tables[name]
            add(table, (*parents, name))
        for name, factor in factors.items():
            add(self._draws_last(factor, 1), (name,))
        for name, state in given.items():
            hot = np.zeros(len(self._nodes[name].states))
            hot[self._nodes[name].states.index(state)] = 1.0
            add(hot, (name,))
        if self._lead:
            operands.extend([np.ones(self._lead), [0]])
        elif not needed:
            return np.ones(())
        operands.append([*([axis[keep]] if keep else []), *([0] if self._lead else [])])
        result: Array = np.einsum(*operands, optimize="greedy")  # type: ignore[call-overload]
        return np.moveaxis(result, -1, 0) if self._lead else result

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
