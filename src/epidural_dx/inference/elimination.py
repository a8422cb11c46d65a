"""Elimination orders: in which sequence the inner variables are summed out.

The order decides the size of every table of a compiled plan. Finding the best one is NP-hard;
greedy choices with seeded random tie-breaking, repeated and compared, come close on the networks
this package is meant for, and the result is the same on every machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence


def moral_graph(scopes: Iterable[Sequence[int]], variables: Iterable[int]) -> dict[int, set[int]]:
    """Return the graph in which variables that share a factor are neighbours.

    Parameters
    ----------
    scopes
        Variable sets of the factors.
    variables
        All nodes of the graph, also isolated ones.

    Returns
    -------
    dict
        Neighbours of every variable.
    """
    graph: dict[int, set[int]] = {v: set() for v in variables}
    for scope in scopes:
        for v in scope:
            graph[v].update(scope)
    for v, neighbours in graph.items():
        neighbours.discard(v)
    return graph


def _fill_in(graph: Mapping[int, set[int]], v: int) -> int:
    """Count the arcs that eliminating `v` would add."""
    neighbours = list(graph[v])
    missing = 0
    for i, a in enumerate(neighbours):
        row = graph[a]
        missing += sum(1 for b in neighbours[i + 1 :] if b not in row)
    return missing


def greedy_order(
    graph: Mapping[int, set[int]],
    log_weights: Sequence[float],
    last: int,
    rule: str,
    rng: random.Random,
    noise: float,
) -> tuple[tuple[int, ...], float]:
    """Eliminate greedily; `last` stays to the end.

    Parameters
    ----------
    graph
        Neighbours of every variable (not changed).
    log_weights
        Log of the number of states of every variable.
    last
        The root: it is never eliminated.
    rule
        ``"weight"`` (smallest clique table first), ``"fill"`` (fewest new arcs first) or
        ``"both"``.
    rng
        Source of the random tie-breaking.
    noise
        Size of the random term, in units of the score.

    Returns
    -------
    order : tuple of int
        All variables but `last`, first eliminated first.
    cost : float
        Sum of the sizes of the clique tables met.
    """
    work = {v: set(neighbours) for v, neighbours in graph.items()}
    scores: dict[int, float] = {}
    weights: dict[int, float] = {}

    def rescore(v: int) -> None:
        weight = log_weights[v] + sum(log_weights[u] for u in work[v])
        weights[v] = weight
        if rule == "weight":
            score = weight
        elif rule == "fill":
            score = float(_fill_in(work, v))
        else:
            score = weight + math.log1p(_fill_in(work, v))
        scores[v] = score + noise * rng.random()

    for v in sorted(work):
        if v != last:
            rescore(v)
    order: list[int] = []
    cost = 0.0
    while scores:
        v = min(scores, key=lambda u: (scores[u], u))
        cost += math.exp(weights[v])
        neighbours = work.pop(v)
        del scores[v]
        order.append(v)
        touched = set(neighbours)
        for a in neighbours:
            row = work[a]
            row.discard(v)
            if not neighbours <= row | {a}:
                row.update(neighbours)
                row.discard(a)
                if rule != "weight":
                    touched.update(row)
        for a in sorted(touched):
            if a in scores:
                rescore(a)
    return tuple(order), cost


def candidate_orders(
    graph: Mapping[int, set[int]],
    log_weights: Sequence[float],
    last: int,
    tries: int,
    keep: int,
) -> list[tuple[int, ...]]:
    """Return the `keep` cheapest distinct orders of `tries` seeded greedy runs.

    Parameters
    ----------
    graph, log_weights, last
        As in `greedy_order`.
    tries
        Number of greedy runs; the first three are without noise.
    keep
        How many orders to return, cheapest first.

    Returns
    -------
    list of tuple of int
    """
    found: dict[tuple[int, ...], float] = {}
    rules = ("weight", "both", "fill")
    for attempt in range(max(tries, 3)):
        rng = random.Random(attempt)
        noise = 0.0 if attempt < 3 else (0.3, 0.8, 1.5)[attempt // 3 % 3]
        order, cost = greedy_order(graph, log_weights, last, rules[attempt % 3], rng, noise)
        found.setdefault(order, cost)
    ranked = sorted(found.items(), key=lambda item: (item[1], item[0]))
    return [order for order, _ in ranked[:keep]]


def cliques(
    graph: Mapping[int, set[int]], order: Sequence[int]
) -> frozenset[tuple[int, frozenset[int]]]:
    """Return every variable with the neighbours it has when it is eliminated.

    Orders with the same cliques make the same tables, whatever comes first of things apart.

    Parameters
    ----------
    graph
        Neighbours of every variable (not changed).
    order
        The elimination order.

    Returns
    -------
    frozenset
        Pairs (variable, neighbours).
    """
    work = {v: set(neighbours) for v, neighbours in graph.items()}
    found = []
    for v in order:
        neighbours = work.pop(v)
        for a in neighbours:
            row = work[a]
            row |= neighbours
            row.discard(a)
            row.discard(v)
        found.append((v, frozenset(neighbours)))
    return frozenset(found)
