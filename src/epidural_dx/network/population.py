"""The conditions of people without a lesion: expectations that the rates are fitted with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx.errors import ModelError
from epidural_dx.network.structure import Structure

Array = NDArray[np.float64]
#: The mechanism that changes no condition: its row of a table is that of people without a lesion.
NEUTRAL = "hematoma_spontaneous"


class Population:
    """Exact expectations over the conditions, before any lesion is known to exist.

    Parameters
    ----------
    structure : Structure
    tables : mapping of str to ndarray
        Conditional probability tables. A table with ``etiology`` among its parents is read in
        the row of a mechanism that changes no condition (the spontaneous hematoma).

    Raises
    ------
    ModelError
        That mechanism is missing.
    """

    def __init__(self, structure: Structure, tables: Mapping[str, Array]) -> None:
        self._nodes = structure.nodes
        if NEUTRAL not in structure.mechanisms:
            raise ModelError(f"the mechanism {NEUTRAL!r} is missing", name=NEUTRAL)
        self._neutral = list(structure.mechanisms).index(NEUTRAL)
        self._tables: dict[str, tuple[tuple[str, ...], Array]] = {}
        for name, table in tables.items():
            parents = structure.nodes[name].parents
            if "etiology" in parents:
                table = np.take(table, self._neutral, axis=parents.index("etiology"))
                parents = tuple(p for p in parents if p != "etiology")
            self._tables[name] = (parents, table)

    def _sum(
        self, factors: Mapping[str, Array], given: Mapping[str, str], keep: str | None = None
    ) -> Array:
        wanted = [*factors, *given, *([keep] if keep else [])]
        needed: dict[str, None] = {}
        while wanted:
            name = wanted.pop()
            if name not in needed:
                needed[name] = None
                wanted += self._tables[name][0]
        axis = {name: i for i, name in enumerate(needed)}
        operands: list[Any] = []
        for name in needed:
            parents, table = self._tables[name]
            operands += [table, [*(axis[p] for p in parents), axis[name]]]
        for name, factor in factors.items():
            operands += [factor, [axis[name]]]
        for name, state in given.items():
            hot = np.zeros(len(self._nodes[name].states))
            hot[self._nodes[name].states.index(state)] = 1.0
            operands += [hot, [axis[name]]]
        operands.append([axis[keep]] if keep else [])
        result: Array = np.einsum(*operands, optimize="greedy")
        return result

    def expectation(self, factors: Mapping[str, Array], given: Mapping[str, str]) -> float:
        """E[product of factors | given], over everybody with the given states."""
        return float(self._sum(factors, given) / self._sum({}, given))

    def conditional(self, factors: Mapping[str, Array], variable: str) -> Array:
        """Distribution of `variable` among people weighted by the product of the factors."""
        weights = self._sum(factors, {}, keep=variable)
        result: Array = weights / weights.sum()
        return result
