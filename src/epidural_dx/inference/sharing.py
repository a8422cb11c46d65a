"""States of the root that tables treat alike: one column for all of them.

Most tables of a network with a fine-grained root (etiology) tell only some of its states apart: a
finding depends on the cause and not on what drove it, a rate on the presence of one condition.
Such a table is kept with one slice for each *class* of states. A conditional table shares slices
that are equal, a potential slices that are proportional: its slices are divided by their largest
cell, and the product of these divisors over all potentials becomes one more table of the root, the
*scale*. Nothing is approximated; the classes are those of the numbers (Boutilier, Friedman,
Goldszmidt and Koller, Context-specific independence in Bayesian networks, UAI 1996).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.network import FloatArray, Network

IntArray = npt.NDArray[np.int64]

#: Slices are alike when no cell differs by more than this part of itself: rounding of a product.
ALIKE = 1e-13


@dataclass(frozen=True)
class Shared:
    """A factor whose slices along the root repeat.

    Parameters
    ----------
    factor
        Number of the factor.
    axis
        Place of the root among its variables.
    classes
        For every state of the root its class.
    scaled
        True for a potential: its slices are proportional within a class, not equal.
    """

    factor: int
    axis: int
    classes: tuple[int, ...]
    scaled: bool

    @property
    def firsts(self) -> tuple[int, ...]:
        """The first state of every class."""
        return tuple(self.classes.index(c) for c in range(max(self.classes) + 1))


def canonical(labels: Sequence[object]) -> tuple[int, ...]:
    """Return numbers for labels in order of appearance."""
    number: dict[object, int] = {}
    return tuple(number.setdefault(label, len(number)) for label in labels)


@lru_cache(maxsize=10_000)
def joined(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the classes that two partitions tell apart together, in order of appearance."""
    return canonical(list(zip(a, b, strict=True)))


@lru_cache(maxsize=10_000)
def numbered(labels: tuple[int, ...], grain: tuple[int, ...]) -> tuple[int, ...]:
    """Return a numbering of the classes of a partition of the root's states.

    A partition that tells apart what `grain` does gives the first state of grain class k the
    number k. Then two such partitions map the first classes to themselves, and most of a map
    between them is a plain copy.

    Parameters
    ----------
    labels
        What makes the classes, one for each state of the root.
    grain
        A partition of the states.

    Returns
    -------
    tuple of int
        Class of every state.
    """
    states = range(max(grain) + 1)
    finer = len(set(zip(labels, grain, strict=True))) == len(set(labels))
    if not finer or len(set(grain)) < len(states):
        return canonical(labels)
    number = {labels[grain.index(k)]: k for k in states}
    for label in labels:
        number.setdefault(label, len(number))
    return tuple(number[label] for label in labels)


def alike(rows: FloatArray) -> tuple[int, ...]:
    """Return classes of rows that are the same up to rounding.

    Parameters
    ----------
    rows
        Shape (rows, cells), not negative.

    Returns
    -------
    tuple of int
        Class of every row, in order of appearance.
    """
    # Some cells, rounded, tell which rows may be alike; all cells decide.
    sample = rows[:, :: max(1, rows.shape[1] // 64)].astype(np.float32)
    groups: dict[bytes, list[int]] = {}
    labels: list[int] = []
    for i in range(len(rows)):
        group = groups.setdefault(sample[i].tobytes(), [])
        for j in group:
            if np.all(np.abs(rows[i] - rows[j]) <= ALIKE * rows[j]):
                labels.append(j)
                break
        else:
            group.append(i)
            labels.append(i)
    return canonical(labels)


def _slices(table: FloatArray, axis: int, scaled: bool) -> FloatArray:
    """Return the slices along the root as rows, shape (states, other cells * draws)."""
    rows = np.moveaxis(table, (axis + 1, 0), (0, -1))
    rows = rows.reshape(len(rows), -1, rows.shape[-1])
    if scaled:
        top = rows.max(axis=1, keepdims=True)
        rows = rows / np.where(top > 0, top, 1.0)
    return rows.reshape(len(rows), -1)


def find_shared(
    network: Network,
    root: int,
    tables: Sequence[FloatArray] | None = None,
    known: Mapping[int, tuple[int, ...]] | None = None,
) -> tuple[Shared, ...]:
    """Find the factors whose slices along the root repeat.

    Parameters
    ----------
    network
        The network.
    root
        The root.
    tables
        Tables to look at in place of those of the network: one array per factor, with or without
        a leading axis of draws. Slices must then be alike in every draw.
    known
        For some factors which states of the root have equal slices.

    Returns
    -------
    tuple of Shared
    """
    found = []
    for number, factor in enumerate(network.factors):
        if root not in factor.variables or len(factor.variables) < 2 or factor.child == root:
            continue
        axis = factor.variables.index(root)
        scaled = factor.child is None
        if known is not None and number in known:
            classes = known[number]
        else:
            table = factor.table if tables is None else tables[number]
            if table.ndim == factor.table.ndim:
                table = table[None]
            classes = alike(_slices(table, axis, scaled))
        if max(classes) + 1 < len(classes):
            found.append(Shared(number, axis, classes, scaled))
    return tuple(found)


def share_tables(
    shared: Sequence[Shared], root_states: int, tables: Sequence[FloatArray],
    dimensions: Sequence[int],
) -> list[FloatArray]:
    """Bring tables into the form of a program that shares slices.

    Parameters
    ----------
    shared
        What is shared.
    root_states
        Number of states of the root.
    tables
        One array per factor, with or without a leading axis of draws.
    dimensions
        Number of variables of every factor.

    Returns
    -------
    list of ndarray
        The tables, shared ones with one slice for each class; the scale, shape (root_states,) or
        (draws, root_states), last.
    """
    out = list(tables)
    scale: FloatArray = np.ones(root_states)
    for one in shared:
        table = tables[one.factor]
        lead = table.ndim - dimensions[one.factor]
        axis = one.axis + lead
        kept = np.moveaxis(np.moveaxis(table, axis, 0)[list(one.firsts)], 0, axis)
        if one.scaled:
            others = tuple(a for a in range(lead, table.ndim) if a != axis)
            top = table.max(axis=others)
            top = np.where(top > 0, top, 1.0)
            scale = scale * top
            shape = [1] * kept.ndim
            shape[axis] = len(one.firsts)
            if lead:
                shape[0] = kept.shape[0]
            kept = kept / top[..., list(one.firsts)].reshape(shape)
        out[one.factor] = kept
    return [*out, scale]
