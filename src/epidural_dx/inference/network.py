"""Discrete factor networks as frozen arrays: what a model *is*, before anything is compiled.

Variables are the integers ``0 .. n-1``; nothing here has a name, a label or a unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

#: How far a column of a conditional probability table may be from 1.
COLUMN_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Factor:
    """One conditional probability table or potential.

    Parameters
    ----------
    variables
        Axes of ``table``. For a conditional probability table the parents come first and the
        child last.
    table
        Non-negative, finite float64 array, shape = cardinalities of ``variables``. It is copied
        and made read-only.
    child
        The child variable (``table`` then sums to 1 over its last axis within 1e-9), or None for
        a potential, for example the slice of an always-true selection node.
    """

    variables: tuple[int, ...]
    table: FloatArray
    child: int | None = None

    def __post_init__(self) -> None:
        """Copy and freeze the table, and refuse one that is not a table."""
        table = np.array(self.table, dtype=np.float64, order="C")
        variables = tuple(int(v) for v in self.variables)
        if table.ndim != len(variables):
            raise ValueError(f"table has {table.ndim} axes, variables {variables} need as many")
        if len(set(variables)) != len(variables):
            raise ValueError(f"a variable occurs twice in {variables}")
        if not np.all(np.isfinite(table)) or np.any(table < 0):
            raise ValueError(f"table of {variables} has negative or non-finite cells")
        if self.child is not None:
            if not variables or variables[-1] != self.child:
                raise ValueError(f"child {self.child} must be the last of {variables}")
            worst = float(np.max(np.abs(table.sum(axis=-1) - 1.0), initial=0.0))
            if worst > COLUMN_TOLERANCE:
                raise ValueError(
                    f"table of child {self.child} does not sum to 1: off by {worst:.3g}"
                )
        table.setflags(write=False)
        object.__setattr__(self, "variables", variables)
        object.__setattr__(self, "table", table)


@dataclass(frozen=True, eq=False)
class Network:
    """A product of factors over discrete variables.

    Parameters
    ----------
    cardinalities
        Number of states of every variable.
    factors
        The factors. Every variable is the child of at most one of them; a variable that is the
        child of none (a pure Markov field) is allowed.
    """

    cardinalities: tuple[int, ...]
    factors: tuple[Factor, ...]

    def __post_init__(self) -> None:
        """Check that shapes, cardinalities and children fit together."""
        cardinalities = tuple(int(k) for k in self.cardinalities)
        if any(k < 1 for k in cardinalities):
            raise ValueError("every variable needs at least one state")
        object.__setattr__(self, "cardinalities", cardinalities)
        object.__setattr__(self, "factors", tuple(self.factors))
        children: set[int] = set()
        for factor in self.factors:
            for v in factor.variables:
                if not 0 <= v < len(cardinalities):
                    raise ValueError(f"unknown variable {v} in a factor")
            shape = tuple(cardinalities[v] for v in factor.variables)
            if factor.table.shape != shape:
                raise ValueError(
                    f"table of {factor.variables} has shape {factor.table.shape}, expected {shape}"
                )
            if factor.child is not None:
                if factor.child in children:
                    raise ValueError(f"variable {factor.child} is the child of two tables")
                children.add(factor.child)

    @property
    def size(self) -> int:
        """Number of variables."""
        return len(self.cardinalities)

    @property
    def cells(self) -> int:
        """Number of table cells over all factors."""
        return sum(factor.table.size for factor in self.factors)
