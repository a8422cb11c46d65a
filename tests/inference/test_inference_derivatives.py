"""Derivatives with respect to table cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_networks import (
    enumerate_joint,
    marginal,
    random_evidence,
    random_network,
    weights_of,
)

from epidural_dx.inference import (
    Engine,
    Factor,
    ImpossibleEvidence,
    Network,
    compile_network,
)


def _without(network: Network, number: int) -> Network:
    """Replace one table by ones: P(evidence) is linear in it."""
    factors = list(network.factors)
    factors[number] = Factor(factors[number].variables, np.ones_like(factors[number].table))
    return Network(network.cardinalities, tuple(factors))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 6))
def test_derivatives_equal_the_linear_coefficients(seed: int, size: int) -> None:
    """Every derivative of log-evidence and of a posterior is exact, at zero cells too."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, size)
    engine = Engine(compile_network(network, int(rng.integers(size)), tries=3), backend="numpy")
    evidence = random_evidence(rng, network)
    full = enumerate_joint(network, evidence)
    total = full.sum()
    if total < 1e-200:
        return
    got = engine.derivatives(evidence)
    assert got.log_evidence[0] == pytest.approx(np.log(total), abs=1e-10)
    x = int(rng.integers(size))
    k = network.cardinalities[x]
    posterior, by_state = engine.posterior_derivatives(evidence, x)
    np.testing.assert_allclose(posterior[0], marginal(full, (x,)) / total, atol=1e-12)
    before = weights_of(network, x, evidence.get(x, np.ones(k)))
    for number, factor in enumerate(network.factors):
        rest = _without(network, number)
        slope = marginal(enumerate_joint(rest, evidence), factor.variables)
        size_of = 1 + np.abs(slope / total).max()
        np.testing.assert_allclose(got.tables[number][0], slope / total, atol=1e-11 * size_of)
        for state in range(k):
            narrowed = evidence | {x: before * np.eye(k)[state]}
            part = marginal(enumerate_joint(rest, narrowed), factor.variables)
            mass = enumerate_joint(network, narrowed).sum()
            expected = (part - mass / total * slope) / total
            np.testing.assert_allclose(
                by_state[number][0, state], expected, atol=1e-11 * size_of
            )


def test_expected_counts_sum_to_one_and_batch_equals_loop() -> None:
    """Cell times derivative is the probability of the configuration, case by case."""
    rng = np.random.default_rng(1)
    network = random_network(rng, 6)
    plan = compile_network(network, 0, tries=3)
    engine = Engine(plan, backend="numpy")
    states = np.array([0, 1, 0]) % network.cardinalities[3]
    batch = engine.derivatives({3: states})
    for table in batch.expected_counts(plan):
        np.testing.assert_allclose(table.reshape(3, -1).sum(axis=1), 1.0, atol=1e-12)
    for i, state in enumerate(states):
        one = engine.derivatives({3: int(state)})
        for a, b in zip(batch.tables, one.tables, strict=True):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-12)


def test_impossible_evidence_has_no_derivative() -> None:
    """Asking for a derivative at P(evidence) = 0 raises ImpossibleEvidence."""
    network = Network(
        (2, 2), (Factor((0,), np.array([0.5, 0.5]), 0), Factor((0, 1), np.eye(2), 1))
    )
    engine = Engine(compile_network(network, 0), backend="numpy")
    with pytest.raises(ImpossibleEvidence):
        engine.derivatives({0: 0, 1: 1})
    with pytest.raises(ImpossibleEvidence):
        engine.posterior_derivatives({0: 0, 1: 1}, 0)
