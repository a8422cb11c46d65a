"""From built tables to the arrays of the inference layer, and to standard networks for files.

Two equivalent forms of one model (DESIGN section 3):

selection
    ``etiology`` is a root; every condition that a rate depends on gets an always-true binary
    child with parents (etiology, condition) whose probability is the rate's factor over its
    maximum. Queries must carry ``present`` for all of them.
absorbed
    The selection factors are multiplied into the conditions: ``etiology`` becomes a parent of
    the conditions and co-parents get arcs, so that the file needs no evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx.inference import Factor, Network
from epidural_dx.network.build import Built

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LabelledTable:
    """A conditional probability table with names: parents first, child last."""

    child: str
    parents: tuple[str, ...]
    table: Array


def selection_scale(built: Built) -> tuple[Array, dict[str, Array]]:
    """Prior of etiology and selection probabilities in 0..1.

    Returns
    -------
    prior : ndarray, shape (*lead, mechanisms)
        Proportional to each mechanism's scale times the maxima of its factors.
    selection : dict of str to ndarray, shape (*lead, mechanisms, states)
        Factors divided by their maximum over the states.
    """
    prior = np.array(built.weights)
    scaled = {}
    for variable, factors in built.selection.items():
        top = factors.max(axis=-1, keepdims=True)
        scaled[variable] = factors / top
        prior = prior * top[..., 0]
    return prior / prior.sum(axis=-1, keepdims=True), scaled


def network(built: Built) -> tuple[Network, tuple[str, ...]]:
    """Arrays for the inference layer.

    Returns
    -------
    Network
        One factor per variable, then one potential per selection variable (etiology, condition).
    tuple of str
        Names of the variables by position.
    """
    names = tuple(built.structure.nodes)
    position = {n: i for i, n in enumerate(names)}
    prior, selection = selection_scale(built)
    factors = []
    for name, node in built.structure.nodes.items():
        axes = (*(position[p] for p in node.parents), position[name])
        table = prior if name == "etiology" else built.tables[name]
        factors.append(Factor(axes, table, child=position[name]))
    for variable, table in selection.items():
        factors.append(Factor((position["etiology"], position[variable]), table))
    cardinalities = tuple(len(n.states) for n in built.structure.nodes.values())
    return Network(cardinalities, tuple(factors)), names


def selection_form(built: Built) -> list[LabelledTable]:
    """Tables of the selection form; selection nodes are called ``select_<condition>``."""
    prior, selection = selection_scale(built)
    result = []
    for name, node in built.structure.nodes.items():
        table = prior if name == "etiology" else built.tables[name]
        result.append(LabelledTable(name, node.parents, np.asarray(table)))
    for variable, table in selection.items():
        pair = np.stack([1 - table, table], axis=-1)
        result.append(LabelledTable(f"select_{variable}", ("etiology", variable), pair))
    return result


def absorbed_form(built: Built) -> list[LabelledTable]:
    """Tables of the absorbed form, in an order in which parents come before children.

    The conditions (ancestors of the selected variables) are eliminated one by one, the last in
    the order first; what remains when a variable is summed out stays behind as its table given
    its neighbours, so the product of all tables is the joint distribution given a lesion
    (chain rule along the elimination order). All other variables keep their tables.
    """
    nodes = built.structure.nodes
    conditions = built.structure.conditions_behind(built.selection)
    prior, selection = selection_scale(built)
    factors: list[tuple[tuple[str, ...], Array]] = [(("etiology",), prior)]
    for name in nodes:
        if name in conditions:
            factors.append(((*nodes[name].parents, name), np.asarray(built.tables[name])))
    for variable, table in selection.items():
        factors.append((("etiology", variable), table))
    sizes = {n: len(nodes[n].states) for n in nodes}
    order = _elimination_order([set(scope) for scope, _ in factors], conditions, sizes)
    tables: list[LabelledTable] = []
    for name in order:
        touching = [f for f in factors if name in f[0]]
        factors = [f for f in factors if name not in f[0]]
        scope = tuple(n for n in nodes if any(n in s for s, _ in touching) and n != name)
        product = _product(touching, (*scope, name))
        total = product.sum(-1, keepdims=True)
        # a column that no mechanism allows is never asked for: any distribution serves
        safe = np.where(total > 0, product / np.where(total > 0, total, 1), 1 / sizes[name])
        tables.append(LabelledTable(name, scope, safe))
        factors.append((scope, total[..., 0]))
    root = _product(factors, ("etiology",))
    tables.append(LabelledTable("etiology", (), root / root.sum()))
    tables.reverse()
    done = {t.child for t in tables}
    for name, node in nodes.items():
        if name not in done:
            tables.append(LabelledTable(name, node.parents, np.asarray(built.tables[name])))
    return tables


def _elimination_order(
    scopes: Sequence[set[str]], candidates: Sequence[str], sizes: Mapping[str, int]
) -> list[str]:
    """Greedy order by the size of the table that elimination makes (etiology stays last)."""
    scopes = [set(s) for s in scopes]
    left = list(candidates)
    order = []
    while left:
        unions = {name: set().union(*(s for s in scopes if name in s)) for name in left}
        cost = {name: math.prod(float(sizes[n]) for n in unions[name]) for name in left}
        best = min((cost[name], name) for name in left)[1]
        scopes = [s for s in scopes if best not in s] + [unions[best] - {best}]
        left.remove(best)
        order.append(best)
    return order


def _product(factors: Sequence[tuple[tuple[str, ...], Array]], scope: tuple[str, ...]) -> Array:
    axis = {n: i for i, n in enumerate(scope)}
    operands: list[Any] = []
    for names, table in factors:
        operands += [table, [axis[n] for n in names]]
    operands.append(list(range(len(scope))))
    result: Array = np.einsum(*operands)
    return result
