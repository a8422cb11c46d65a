"""Variable elimination against brute-force enumeration on random small networks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epidural_dx.decision.elimination import (
    EvidenceTables,
    Table,
    Volumes,
    WideProduct,
    plogp,
)
from epidural_dx.decision.nets import random_nets
from epidural_dx.decision.panels import PanelCalculator
from epidural_dx.decision.samples import Draws, RowMemory, dimensions, posteriors
from epidural_dx.inference.network import Factor, Network

SEEDS = st.integers(0, 2**32 - 1)


def random_network(rng: np.random.Generator, size: int = 8) -> Network:
    """Make a network with up to three parents a variable and two potentials."""
    cardinalities = tuple(int(k) for k in rng.integers(2, 4, size=size))
    factors = []
    for child in range(size):
        count = int(rng.integers(0, min(child, 3) + 1))
        parents = tuple(int(p) for p in rng.choice(child, size=count, replace=False))
        shape = [cardinalities[p] for p in parents]
        table = rng.dirichlet(np.full(cardinalities[child], 0.7), size=shape)
        factors.append(Factor((*parents, child), table, child))
    for _ in range(2):
        a, b = (int(v) for v in rng.choice(size, size=2, replace=False))
        factors.append(Factor((a, b), rng.random((cardinalities[a], cardinalities[b]))))
    return Network(cardinalities, tuple(factors))


def random_evidence(rng: np.random.Generator, network: Network) -> dict[int, np.ndarray]:
    """Observe one variable surely and one doubtfully."""
    sure, doubtful = (int(v) for v in rng.choice(network.size, size=2, replace=False))
    return {
        sure: np.eye(network.cardinalities[sure])[rng.integers(network.cardinalities[sure])],
        doubtful: rng.random(network.cardinalities[doubtful]) + 0.05,
    }


def enumerated(network: Network, evidence: dict[int, np.ndarray]) -> np.ndarray:
    """Multiply everything out: the joint distribution of all variables."""
    full = np.ones(network.cardinalities)
    for factor in network.factors:
        shape = [1] * network.size
        order = np.argsort(factor.variables)
        for v in factor.variables:
            shape[v] = network.cardinalities[v]
        full = full * factor.table.transpose(order).reshape(shape)
    for v, weights in evidence.items():
        shape = [1] * network.size
        shape[v] = len(weights)
        full = full * weights.reshape(shape)
    return full / full.sum()


def marginal(full: np.ndarray, variables: tuple[int, ...]) -> np.ndarray:
    """Joint distribution of some variables, in their order."""
    rest = tuple(v for v in range(full.ndim) if v not in variables)
    kept = sorted(variables)
    return full.sum(axis=rest).transpose([kept.index(v) for v in variables])


@given(SEEDS)
def test_joints_equal_enumeration(seed: int) -> None:
    """Joint distributions, direct and through the shared interfaces, equal enumeration."""
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    evidence = random_evidence(rng, network)
    full = enumerated(network, evidence)
    tables = EvidenceTables(network, evidence)
    open_ = tables.open_variables(range(network.size))
    chosen = tuple(int(v) for v in rng.choice(open_, size=4, replace=False))
    target, panel = chosen[:2], chosen[2:]
    expected = marginal(full, chosen)
    assert tables.joint(chosen) == pytest.approx(expected, abs=1e-12)
    shared = tables.shared(chosen, target)
    for _ in range(2):  # the second time from memory
        assert shared.joint(chosen, target) == pytest.approx(expected, abs=1e-12)
        alone = marginal(full, (*target, panel[0]))
        assert shared.joint((*target, panel[0]), target) == pytest.approx(alone, abs=1e-12)


@given(SEEDS, st.integers(1, 5), st.integers(1, 4))
def test_sums_of_a_product_equal_those_of_the_whole_array(
    seed: int, count: int, summed: int
) -> None:
    """Sums of p and p log2 p, zeros included, are those of the array that is never made."""
    rng = np.random.default_rng(seed)
    sizes = dict(enumerate(int(k) for k in rng.integers(1, 4, size=6)))
    order = tuple(int(v) for v in rng.permutation(6))
    tables = []
    for _ in range(count):
        some = tuple(int(v) for v in rng.permutation(6)[: rng.integers(1, 7)])
        values = rng.random([sizes[v] for v in some]) + 0.1
        tables.append(Table(some, values * (rng.random(values.shape) > 0.2)))
    product = WideProduct(tables, order, Volumes(sizes))
    whole = product.whole().reshape(int(np.prod([sizes[v] for v in order[:summed]])), -1)
    p, p_log_p = product.sums(summed)
    assert p == pytest.approx(whole.sum(axis=0), rel=1e-12)
    assert p_log_p == pytest.approx(plogp(whole).sum(axis=0), abs=1e-10)


@given(SEEDS)
def test_posteriors_of_outcomes_equal_enumeration(seed: int) -> None:
    """The posterior for each of many outcomes equals the conditional of the enumeration."""
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    evidence = random_evidence(rng, network)
    full = enumerated(network, evidence)
    tables = EvidenceTables(network, evidence)
    open_ = tables.open_variables(range(network.size))
    a, b, x, y = (int(v) for v in rng.choice(open_, size=4, replace=False))
    rows = 150
    states = {v: rng.integers(0, network.cardinalities[v], size=rows) for v in (x, y)}
    joint = marginal(full, (x, y, a, b))
    expected = joint[states[x], states[y]].reshape(rows, -1)
    total = expected.sum(axis=1, keepdims=True)
    expected = expected / np.where(total > 0, total, 1.0)
    memory = RowMemory()
    for _ in range(2):
        wanted = tables.relevant((a, b, x, y))
        found = posteriors(wanted, states, (a, b), tables.volumes, memory)
        assert found.whole() == pytest.approx(expected, abs=1e-12)
        assert found.log_sums() == pytest.approx(plogp(found.whole()).sum(axis=1), abs=1e-12)
    shared = tables.shared((a, b, x, y), (a,))
    found = posteriors(shared.focused((a,), (x, y)), states, (a,), tables.volumes).whole()
    alone = expected.reshape(rows, network.cardinalities[a], -1).sum(axis=2)
    assert found == pytest.approx(alone, abs=1e-12)
    # a variable that has been observed and is asked for is certain
    sure = posteriors(tables.relevant((x, y)), states, (x,), tables.volumes).whole()
    possible = total[:, 0] > 0
    assert sure[possible] == pytest.approx(
        np.eye(network.cardinalities[x])[states[x]][possible], abs=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_samples_have_the_joint_distribution(seed: int) -> None:
    """Shares of sampled pairs equal their probabilities within the error of sampling."""
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    evidence = random_evidence(rng, network)
    full = enumerated(network, evidence)
    tables = EvidenceTables(network, evidence)
    open_ = tables.open_variables(range(network.size))
    wanted = tables.relevant(open_)
    uniforms = random_nets(dimensions(wanted), 256, 16, seed)
    samples = Draws(wanted, tables.conditionals, tables.volumes, open_[:2], uniforms)
    for a, b in ((open_[0], open_[-1]), (open_[1], open_[2])):
        shares = np.zeros((network.cardinalities[a], network.cardinalities[b]))
        np.add.at(shares, (samples[a], samples[b]), 1.0 / len(uniforms))
        assert shares == pytest.approx(marginal(full, (a, b)), abs=0.03)


@given(SEEDS)
def test_information_laws_hold_on_random_networks(seed: int) -> None:
    """Information is at least that of each part, at most the entropy, and never negative."""
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    evidence = random_evidence(rng, network)
    tables = EvidenceTables(network, evidence)
    open_ = tables.open_variables(range(network.size))
    t, x, y = (int(v) for v in rng.choice(open_, size=3, replace=False))
    calculator = PanelCalculator(tables, (t,), [(x, y)])
    both = calculator.outcomes((x, y)).information
    parts = [calculator.outcomes((v,)).information for v in (x, y)]
    prior = calculator.prior
    entropy = -float(prior[prior > 0] @ np.log2(prior[prior > 0]))
    assert all(p >= 0 for p in parts)
    assert both >= max(parts) - 1e-12
    assert both <= entropy + 1e-9
    joint = marginal(enumerated(network, evidence), (t, x, y)).reshape(len(prior), -1)
    outside = joint.sum(axis=0) * joint.sum(axis=1, keepdims=True)
    positive = joint > 0
    expected = float((joint[positive] * np.log2(joint[positive] / outside[positive])).sum())
    assert both == pytest.approx(expected, abs=1e-9)


def chance(*shape: int) -> np.ndarray:
    """Draw a conditional table."""
    return np.random.default_rng(0).dirichlet(np.ones(shape[-1]), size=shape[:-1])


def test_outcomes_of_more_findings_come_in_the_order_asked_for() -> None:
    """A finding that is part of the target takes the place that it was asked for in."""
    network = Network(
        (2, 2, 3),
        (
            Factor((0,), np.array([0.3, 0.7]), 0),
            Factor((0, 1), chance(2, 2), 1),
            Factor((0, 2), chance(2, 3), 2),
        ),
    )
    calculator = PanelCalculator(EvidenceTables(network, {}), (0,), [(1,), (0, 2)])
    found = calculator.given({1: np.array([0])}, (0, 2))[0]
    given_result = enumerated(network, {})[:, 0] / enumerated(network, {})[:, 0].sum()
    expected = np.eye(2)[:, :, None] * given_result[:, None, :]
    assert found == pytest.approx(expected.reshape(2, -1), abs=1e-12)


def test_a_variable_without_a_table_of_its_own_has_all_states_alike() -> None:
    """Parents without a table, and variables that no table mentions, are summed and sampled."""
    network = Network(
        (2, 2, 2, 3), (Factor((0,), np.array([0.3, 0.7]), 0), Factor((0, 1, 2), chance(2, 2, 2), 2))
    )
    panel = (2, 3)
    exact = PanelCalculator(EvidenceTables(network, {}), (0,), [panel]).outcomes(panel)
    sampled = PanelCalculator(
        EvidenceTables(network, {}), (0,), [panel], exact_outcomes=1
    ).outcomes(panel)
    assert exact.weights.reshape(2, 3) == pytest.approx(
        marginal(enumerated(network, {}), panel), abs=1e-12
    )
    assert sampled.information == pytest.approx(exact.information, abs=0.02)


def test_tables_without_evidence_and_with_impossible_evidence() -> None:
    """Nothing known leaves the prior of every variable; a likelihood of zeros leaves nothing."""
    network = Network(
        (2, 2), (Factor((0,), np.array([0.3, 0.7]), 0), Factor((1,), np.array([0.4, 0.6]), 1))
    )
    joint = EvidenceTables(network, {}).joint((0, 1), (0,))
    assert joint == pytest.approx(np.outer([0.3, 0.7], [0.4, 0.6]), abs=1e-12)
    assert not EvidenceTables(network, {1: np.zeros(2)}).joint((0,)).any()
