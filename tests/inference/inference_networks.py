"""Networks and reference answers for the tests of the inference engine."""

from __future__ import annotations

import gzip
import importlib.util
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import numpy as np

from epidural_dx.inference import Factor, Network


@cache
def synthetic_module() -> ModuleType:
    """Load the generator of the synthetic network, which lives with the benchmarks."""
    path = Path(__file__).parents[2] / "benchmarks" / "synthetic_network.py"
    spec = importlib.util.spec_from_file_location("synthetic_network", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthetic_network"] = module
    spec.loader.exec_module(module)
    return module


def random_network(rng: np.random.Generator, size: int, potentials: int = 2) -> Network:
    """Draw a network with up to three parents each, some zeros and some free potentials."""
    cards = tuple(int(k) for k in rng.integers(1 if rng.random() < 0.2 else 2, 4, size=size))
    factors = []
    for v in range(size):
        count = int(rng.integers(0, min(v, 3) + 1))
        parents = tuple(int(x) for x in rng.permutation(v)[:count])
        table = rng.random([cards[p] for p in parents] + [cards[v]])
        if rng.random() < 0.3:
            table = table * (rng.random(table.shape) < 0.6)
        table = table + 1e-300 * (table.sum(-1, keepdims=True) == 0)
        factors.append(Factor((*parents, v), table / table.sum(-1, keepdims=True), v))
    for _ in range(potentials if size > 1 else 0):
        a, b = (int(x) for x in rng.permutation(size)[:2])
        factors.append(Factor((a, b), rng.random((cards[a], cards[b])) * 3))
    return Network(cards, tuple(factors[i] for i in rng.permutation(len(factors))))


def random_evidence(
    rng: np.random.Generator, network: Network, most: int | None = None
) -> dict[int, int | np.ndarray]:
    """Draw hard, soft, disjunctive and uninformative observations of random variables."""
    most = network.size if most is None else most
    evidence: dict[int, int | np.ndarray] = {}
    for v in rng.permutation(network.size)[: int(rng.integers(0, most + 1))]:
        k = network.cardinalities[v]
        kind = rng.random()
        if kind < 0.5:
            evidence[int(v)] = int(rng.integers(k))
        elif kind < 0.9:
            weights = rng.random(k) * 5 * (rng.random(k) < 0.8)
            evidence[int(v)] = weights if weights.any() else np.ones(k)
        else:
            evidence[int(v)] = np.ones(k)
    return evidence


def weights_of(network: Network, v: int, observation: int | np.ndarray) -> np.ndarray:
    """Return an observation as a likelihood vector."""
    if isinstance(observation, int):
        return np.eye(network.cardinalities[v])[observation]
    return np.asarray(observation, dtype=float)


def enumerate_joint(network: Network, evidence: dict[int, int | np.ndarray]) -> np.ndarray:
    """Multiply everything out: one axis per variable."""
    full = np.ones(network.cardinalities)

    def spread(table: np.ndarray, variables: tuple[int, ...]) -> np.ndarray:
        shape = [1] * network.size
        for v in variables:
            shape[v] = network.cardinalities[v]
        return table.transpose(np.argsort(variables)).reshape(shape)

    for factor in network.factors:
        full = full * spread(factor.table, factor.variables)
    for v, observation in evidence.items():
        full = full * spread(weights_of(network, v, observation), (v,))
    return full


def marginal(full: np.ndarray, variables: tuple[int, ...]) -> np.ndarray:
    """Sum an enumerated joint down to distinct variables, axes in the order given."""
    keep = sorted(variables)
    table = full.sum(axis=tuple(i for i in range(full.ndim) if i not in keep))
    return table.transpose([keep.index(v) for v in variables])


def pair_marginal(full: np.ndarray, target: tuple[int, ...], v: int) -> np.ndarray:
    """Return P(target, v), target flattened, also when v is part of the target."""
    if v not in target:
        return marginal(full, (*target, v)).reshape(-1, full.shape[v])
    table = marginal(full, target)
    position = target.index(v)
    states = np.moveaxis(
        np.broadcast_to(np.eye(full.shape[v]), (*table.shape[:position],
                        *table.shape[position + 1:], full.shape[v], full.shape[v])), -2, position
    )
    return (table[..., None] * states).reshape(-1, full.shape[v])


@cache
def public_model(name: str):  # noqa: ANN201 - a pgmpy model
    """Read a public network from the files inside the installed pgmpy package."""
    from pgmpy.readwrite import BIFReader

    packed = files("pgmpy").joinpath("utils", "example_models", f"{name}.bif.gz").read_bytes()
    return BIFReader(string=gzip.decompress(packed).decode()).get_model()


@cache
def public_network(name: str) -> tuple[Network, tuple[str, ...]]:
    """Return a public network and the names of its variables."""
    model = public_model(name)
    names = tuple(sorted(model.nodes()))
    number = {node: i for i, node in enumerate(names)}
    cards = tuple(int(model.get_cardinality(node)) for node in names)
    factors = []
    for node in names:
        cpd = model.get_cpds(node)
        table = np.moveaxis(cpd.values, 0, -1)
        table = table / table.sum(axis=-1, keepdims=True)
        variables = (*(number[p] for p in cpd.variables[1:]), number[node])
        factors.append(Factor(variables, table, number[node]))
    return Network(cards, tuple(factors)), names


def to_pyagrum(network: Network):  # noqa: ANN201 - a pyagrum network
    """Build the network in memory in pyAgrum; potentials become always-observed children.

    Returns the network and the evidence that its selection nodes need.
    """
    import pyagrum as gum

    bn = gum.BayesNet()
    for v, k in enumerate(network.cardinalities):
        bn.add(gum.LabelizedVariable(f"v{v}", "", k))
    always: dict[str, int] = {}
    for number, factor in enumerate(network.factors):
        if factor.child is not None:
            child, table = f"v{factor.child}", factor.table
            parents = [f"v{p}" for p in factor.variables[:-1]]
        else:
            child = f"selection{number}"
            bn.add(gum.LabelizedVariable(child, "", 2))
            accept = factor.table / factor.table.max()
            table = np.stack([accept, 1 - accept], axis=-1)
            parents = [f"v{p}" for p in factor.variables]
            always[child] = 0
        for parent in parents:
            bn.addArc(parent, child)
        wanted = [*parents, child]
        have = list(bn.cpt(child).names)[::-1]
        ordered = table.transpose([wanted.index(name) for name in have])
        bn.cpt(child)[:] = np.ascontiguousarray(ordered)
    return bn, always
