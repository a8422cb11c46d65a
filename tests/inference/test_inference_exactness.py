"""The engine gives the numbers of enumeration, pgmpy and pyAgrum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_networks import (
    enumerate_joint,
    marginal,
    pair_marginal,
    public_model,
    public_network,
    random_evidence,
    random_network,
    synthetic_module,
    to_pyagrum,
)

from epidural_dx.inference import Engine, compile_network, mutual_information

pytest.importorskip("numba")
BACKENDS = ("numpy", "numba")


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 7))
def test_every_answer_equals_enumeration(backend: str, seed: int, size: int) -> None:
    """Log-evidence, marginals, joints and information equal brute force, any kind of target."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, size)
    targets: list[int | tuple[int, ...]] = [int(rng.integers(size)), int(rng.integers(size))]
    if size > 1:
        targets.append(tuple(int(v) for v in rng.permutation(size)[:2]))
    plan = compile_network(network, *targets, tries=3)
    engine = Engine(plan, backend=backend, chunk=2)
    evidence = random_evidence(rng, network)
    full = enumerate_joint(network, evidence)
    total = full.sum()
    for target in targets:
        result = engine.run(evidence, target=target)
        if total == 0:
            assert result.log_evidence[0] == -np.inf
            assert not result.posterior.any()
            continue
        assert result.log_evidence[0] == pytest.approx(np.log(total), abs=1e-10)
        variables = (target,) if isinstance(target, int) else target
        posterior = marginal(full, variables).ravel() / total
        np.testing.assert_allclose(result.posterior[0], posterior, atol=1e-12)
        for v in range(size):
            np.testing.assert_allclose(
                result.marginals[v][0], marginal(full, (v,)) / total, atol=1e-12
            )
            joint = pair_marginal(full, variables, v) / total
            np.testing.assert_allclose(result.joints[v][0], joint, atol=1e-12)
            if np.count_nonzero(marginal(full, (v,))) > 1:
                assert result.information[0, v] == pytest.approx(
                    mutual_information(joint), abs=1e-12
                )


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_joint_of_a_set_equals_enumeration(backend: str, seed: int) -> None:
    """The joint table of a few variables, with and without the target, equals brute force."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, 5)
    engine = Engine(compile_network(network, 0, tries=3), backend=backend)
    evidence = random_evidence(rng, network)
    full = enumerate_joint(network, evidence)
    panel = [int(v) for v in rng.permutation(np.arange(1, 5))[:2]]
    expected = np.zeros([network.cardinalities[v] for v in panel])
    with_target = np.zeros((network.cardinalities[0], *expected.shape))
    if full.sum() > 0:
        expected = marginal(full, tuple(panel)) / full.sum()
        with_target = marginal(full, (0, *panel)) / full.sum()
    np.testing.assert_allclose(engine.joint(evidence, panel)[0], expected, atol=1e-12)
    np.testing.assert_allclose(
        engine.joint(evidence, panel, target=0)[0], with_target, atol=1e-12
    )


@pytest.mark.parametrize("name", ["asia", "alarm", "insurance", "hailfinder", "child"])
def test_public_networks_agree_with_pyagrum(name: str) -> None:
    """Marginals and joints with a target agree with pyAgrum within 1e-9."""
    import pyagrum as gum

    network, _ = public_network(name)
    rng = np.random.default_rng(7)
    target = int(rng.integers(network.size))
    engines = [Engine(compile_network(network, target, tries=8), backend=b) for b in BACKENDS]
    bn, _ = to_pyagrum(network)
    for _ in range(6):
        states = _forward_sample(network, rng)
        seen = rng.choice(network.size, size=int(rng.integers(0, 9)), replace=False)
        evidence = {int(v): states[int(v)] for v in seen if v != target}
        reference = gum.LazyPropagation(bn)
        open_variables = [v for v in range(network.size) if v not in evidence and v != target]
        some = [int(v) for v in rng.permutation(open_variables)[:4]]
        for v in some:
            reference.addJointTarget({f"v{target}", f"v{v}"})
        reference.setEvidence({f"v{v}": s for v, s in evidence.items()})
        reference.makeInference()
        for engine in engines:
            result = engine.run(evidence)
            for v in some:
                table = reference.jointPosterior({f"v{target}", f"v{v}"})
                joint = table.toarray()
                if list(table.names)[::-1] != [f"v{target}", f"v{v}"]:
                    joint = joint.T
                np.testing.assert_allclose(result.joints[v][0], joint, atol=1e-9)


@pytest.mark.parametrize("name", ["asia", "alarm"])
def test_public_networks_agree_with_pgmpy(name: str) -> None:
    """Posteriors agree with pgmpy's variable elimination within 1e-9, virtual evidence too."""
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination

    network, names = public_network(name)
    model = public_model(name)
    rng = np.random.default_rng(3)
    for trial in range(4):
        states = _forward_sample(network, rng)
        target, soft, *seen = (int(v) for v in rng.permutation(network.size)[: 5 + trial // 2])
        weights = rng.random(network.cardinalities[soft])
        evidence = {v: states[v] for v in seen} | {soft: weights}
        labels = {v: model.get_cpds(names[v]).state_names[names[v]] for v in range(network.size)}
        virtual = TabularCPD(
            names[soft], len(weights), weights[:, None], state_names={names[soft]: labels[soft]}
        )
        answer = VariableElimination(model).query(
            [names[target]],
            evidence={names[v]: labels[v][states[v]] for v in seen},
            virtual_evidence=[virtual],
            show_progress=False,
        )
        for backend in BACKENDS:
            engine = Engine(compile_network(network, target, tries=4), backend=backend)
            got = engine.run(evidence).posterior[0]
            order = [labels[target].index(s) for s in answer.state_names[names[target]]]
            np.testing.assert_allclose(got[order], answer.values, atol=1e-9)


def test_synthetic_network_agrees_with_pyagrum_on_many_patients() -> None:
    """On the network of the real shape, hard and soft evidence, both backends, within 1e-9."""
    import pyagrum as gum

    made = synthetic_module().build(seed=1)
    network, names = made.network, made.names
    age, sex = names["age_group"], names["sex"]
    cause, etiology = names["lesion_cause"], names["etiology"]
    plan = compile_network(network, cause, etiology, usually_observed=(age, sex), tries=8)
    engines = [Engine(plan, backend=b) for b in BACKENDS]
    bn, always = to_pyagrum(network)
    reference = gum.LazyPropagation(bn)
    rng = np.random.default_rng(11)
    for trial in range(40):
        evidence: dict[int, int | np.ndarray] = dict(
            synthetic_module().random_case(made, rng, int(rng.integers(0, 39)))
        )
        for v in list(evidence):
            if rng.random() < 0.15:
                weights = rng.random(network.cardinalities[v]) + 0.05
                evidence[v] = weights
        if trial % 5 == 0:
            evidence.pop(age, None)
        reference.setEvidence(
            always
            | {
                f"v{v}": (s if isinstance(s, int) else s.tolist()) for v, s in evidence.items()
            }
        )
        reference.makeInference()
        checked = [etiology, cause, *(int(v) for v in rng.choice(network.size, 8))]
        for engine in engines:
            result = engine.run(evidence)
            for v in checked:
                np.testing.assert_allclose(
                    result.marginals[v][0], reference.posterior(f"v{v}").toarray(), atol=1e-9
                )


def _forward_sample(network, rng: np.random.Generator) -> dict[int, int]:  # noqa: ANN001
    states: dict[int, int] = {}
    left = list(network.factors)
    while left:
        for factor in list(left):
            *parents, child = factor.variables
            if all(p in states for p in parents):
                column = factor.table[tuple(states[p] for p in parents)]
                states[child] = int(rng.choice(len(column), p=column / column.sum()))
                left.remove(factor)
    return states
