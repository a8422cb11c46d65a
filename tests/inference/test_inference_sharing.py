"""Slices of tables that are alike for several states of the root are kept once, and exactly."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inference_networks import enumerate_joint, marginal, pair_marginal, random_evidence

import epidural_dx as edx
from epidural_dx.inference import (
    Engine,
    Factor,
    Network,
    Repeated,
    compile_network,
    mutual_information,
)
from epidural_dx.inference.plan import plan_sharing
from epidural_dx.inference.sharing import alike, canonical, find_shared, numbered

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def share_in_small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep programs with shared slices where tables are so small that they save nothing."""
    monkeypatch.setattr("epidural_dx.inference.plan.WORTH_SHARING", np.inf)


FIXTURE = [HealthCheck.function_scoped_fixture]
both = pytest.mark.parametrize("backend", ["numpy", "numba"])


def grouped_network(rng: np.random.Generator, relay: bool, zeros: bool = False) -> Network:
    """Root 0, target 1 that is a function of it, and tables that tell few of its states apart."""
    k = int(rng.integers(4, 9))
    group = np.sort(np.concatenate([np.arange(3), rng.integers(0, 3, size=k - 3)]))
    rng.shuffle(group)

    def columns(*shape: int) -> np.ndarray:
        table = rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])
        if zeros:
            table = table * (rng.random(table.shape) < 0.7) + 1e-9
            table /= table.sum(-1, keepdims=True)
        return table

    def by_class(classes: np.ndarray, *shape: int) -> np.ndarray:
        return columns(int(classes.max()) + 1, *shape)[classes]

    finer = np.unique(group * 2 + (rng.random(k) < 0.4), return_inverse=True)[1]
    coarse = rng.integers(0, 2, size=k)
    coarse[:2] = [0, 1]
    cards = [k, 3, 2, 3, 2, 3, 2, 2, 4]
    factors = [
        Factor((0,), rng.dirichlet(np.ones(k)), 0),
        Factor((0, 1), np.eye(3)[group], 1),
        Factor((2,), columns(2), 2),
        Factor((2, 0, 3), np.swapaxes(by_class(coarse, 2, 3), 0, 1), 3),
        Factor((0, 3, 4), by_class(finer, 3, 2), 4),
        Factor((3, 5), columns(3, 3), 5),
        Factor((0, 5, 6), by_class(group, 3, 2), 6),
        Factor((0, 7), columns(k, 2), 7),
    ]
    if relay:
        # Variable 8 tells the target: state s of it occurs with one group only.
        allowed = np.array([0, 0, 1, 2])[None, :] == group[:, None]
        table = columns(3, 4)[group] * allowed
        factors.append(Factor((0, 8), table / table.sum(1, keepdims=True), 8))
        factors.append(Factor((8, 0, 9), columns(4, 1, 2)[:, np.zeros(k, dtype=int)], 9))
        cards.append(2)
    else:
        factors.append(Factor((0, 8), by_class(coarse, 4), 8))
    for v in (2, 3, 5):
        # A rate: the same ratios for all states of a class, another size for each state.
        ratios = rng.random((2, cards[v]))
        if zeros:
            ratios[0, 0] = 0.0
        factors.append(Factor((0, v), ratios[coarse] * rng.random((k, 1)) * 3))
    return Network(tuple(cards), tuple(factors))


def expect_enumeration(network: Network, engine: Engine, evidence: dict) -> None:
    """Compare every answer about the target with brute force."""
    full = enumerate_joint(network, evidence)
    total = full.sum()
    result = engine.run(evidence, target=1)
    if total == 0:
        assert not result.possible[0]
        return
    assert result.log_evidence[0] == pytest.approx(np.log(total), abs=1e-10)
    for v in range(network.size):
        joint = pair_marginal(full, (1,), v) / total
        np.testing.assert_allclose(result.joints[v][0], joint, atol=1e-12)
        np.testing.assert_allclose(
            result.marginals[v][0], marginal(full, (v,)) / total, atol=1e-12
        )
        if np.count_nonzero(marginal(full, (v,))) > 1:
            assert result.information[0, v] == pytest.approx(mutual_information(joint), abs=1e-12)
    for want in ((), ("marginals",)):
        about_root = engine.run(evidence, target=0, want=want)
        np.testing.assert_allclose(
            about_root.posterior[0], marginal(full, (0,)) / total, atol=1e-12
        )


@both
@settings(max_examples=60, deadline=None, suppress_health_check=FIXTURE)
@given(seed=st.integers(0, 2**32 - 1), relay=st.booleans(), zeros=st.booleans())
def test_shared_slices_change_no_answer(
    backend: str, seed: int, relay: bool, zeros: bool
) -> None:
    """All answers equal brute force, with evidence on the root and the target too."""
    rng = np.random.default_rng(seed)
    network = grouped_network(rng, relay, zeros)
    plan = compile_network(network, 0, 1, tries=3)
    assert plan.programs[plan.shared_programs[1]].sharing
    engine = Engine(plan, backend)
    for _ in range(3):
        expect_enumeration(network, engine, random_evidence(rng, network, 6))


def repeating_network(rng: np.random.Generator) -> tuple[Network, int]:
    """Any network whose tables repeat slices along any of their axes; a root with a function of it.

    Returns the network and the root; the function is the last variable.
    """
    size = int(rng.integers(4, 8))
    cards = [int(k) for k in rng.integers(1 if rng.random() < 0.2 else 2, 4, size=size)]
    root = int(rng.integers(size))
    cards[root] = int(rng.integers(2, 6))
    factors = []
    for child in range(size):
        parents = tuple(int(p) for p in rng.permutation(child)[: rng.integers(0, 4)])
        table = rng.dirichlet(np.ones(cards[child]), size=[cards[p] for p in parents])
        if parents and rng.random() < 0.6:
            axis = int(rng.integers(len(parents)))
            k = cards[parents[axis]]
            table = np.take(table, rng.integers(0, k, size=k), axis=axis)
        factors.append(Factor((*parents, child), table, child))
    for _ in range(int(rng.integers(0, 3))):
        a, b = (int(v) for v in rng.permutation(size)[:2])
        factors.append(Factor((a, b), rng.random((cards[a], cards[b])) + 0.01))
    k = int(rng.integers(1, cards[root] + 1))
    function = np.eye(k)[rng.integers(0, k, size=cards[root])]
    factors.append(Factor((root, size), function, size))
    return Network((*cards, k), tuple(factors)), root


@both
@settings(max_examples=40, deadline=None, suppress_health_check=FIXTURE)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_repeated_slices_change_no_answer(backend: str, seed: int) -> None:
    """Whatever repeats in whichever tables, answers equal brute force, under draws too."""
    rng = np.random.default_rng(seed)
    network, root = repeating_network(rng)
    target = network.size - 1
    targets = (root, target) if rng.random() < 0.5 else (target,)
    engine = Engine(compile_network(network, *targets, tries=3), backend)
    tables = []
    for factor in network.factors:
        other = factor.table
        if factor.child is None:
            other = rng.random(other.shape) + 0.01
        elif factor.child != target and rng.random() < 0.5:
            other = rng.dirichlet(np.ones(other.shape[-1]), size=other.shape[:-1])
        tables.append(np.stack([factor.table, other]))
    drawn = Network(
        network.cardinalities,
        tuple(
            Factor(f.variables, t[1], f.child)
            for f, t in zip(network.factors, tables, strict=True)
        ),
    )
    evidence = random_evidence(rng, network, 4)
    alone = engine.run(evidence, target=target)
    under_draws = engine.run(evidence, target=target, bank=engine.bank(tables))
    for one, result, at in (
        (network, alone, (0,)), (network, under_draws, (0, 0)), (drawn, under_draws, (0, 1))
    ):
        full = enumerate_joint(one, evidence)
        assert result.possible[at] == (full.sum() > 0)
        if full.sum() > 0:
            for v in range(network.size):
                joint = pair_marginal(full, (target,), v) / full.sum()
                np.testing.assert_allclose(result.joints[v][at], joint, atol=1e-11)


@both
@pytest.mark.parametrize("relay", [False, True])
def test_shared_slices_in_batches(backend: str, relay: bool) -> None:
    """Batch = loop, whether or not some case has a hard observation of the root."""
    rng = np.random.default_rng(9)
    network = grouped_network(rng, relay)
    engine = Engine(compile_network(network, 0, 1, tries=3), backend, chunk=7)
    for observe_root in (False, True):
        cases = [random_evidence(rng, network, 6) for _ in range(21)]
        if not observe_root:
            for case in cases:
                case.pop(0, None)
        batch = {}
        for v in range(network.size):
            rows = []
            for case in cases:
                value = case.get(v, np.ones(network.cardinalities[v]))
                rows.append(
                    np.eye(network.cardinalities[v])[value] if isinstance(value, int) else value
                )
            batch[v] = np.stack(rows)
        together = engine.run(batch, target=1)
        for row, case in enumerate(cases):
            alone = engine.run(case, target=1)
            assert alone.possible[0] == together.possible[row]
            for v in range(network.size):
                np.testing.assert_allclose(
                    together.joints[v][row], alone.joints[v][0], atol=1e-12
                )
            np.testing.assert_allclose(together.information[row], alone.information[0], atol=1e-12)


@both
@settings(max_examples=15, deadline=None, suppress_health_check=FIXTURE)
@given(seed=st.integers(0, 2**32 - 1), apart=st.booleans(), function=st.booleans())
def test_draws_that_tell_more_states_apart_are_answered_exactly(
    backend: str, seed: int, apart: bool, function: bool
) -> None:
    """A bank whose slices differ where the compiled ones agree gets a program that fits it."""
    rng = np.random.default_rng(seed)
    network = grouped_network(rng, relay=False)
    plan = compile_network(network, 0, 1, tries=3)
    engine = Engine(plan, backend, chunk=4)
    draws = 9
    tables = []
    for number, factor in enumerate(network.factors):
        table = factor.table
        if factor.child == 1 and not function:
            table = np.repeat((0.9 * table + 0.1 / 3)[None], draws, axis=0)
        elif factor.child != 1 and number % 3:
            # The same change of every column keeps what is alike; noise does not.
            shape = table.shape if apart else table.shape[-1:]
            table = table * rng.uniform(0.5, 1.5, size=(draws, *[1] * (table.ndim - len(shape)),
                                                        *shape))
            if factor.child is not None:
                table = table / table.sum(axis=-1, keepdims=True)
        tables.append(table)
    bank = engine.bank(tables)
    number = plan.shared_programs[1]
    assert (bank.programs[number] is plan.programs[number]) == (not apart and function)
    evidence = random_evidence(rng, network, 4)
    together = engine.run(evidence, target=1, bank=pickle.loads(pickle.dumps(bank)))
    for draw in range(draws):
        alone = Network(
            network.cardinalities,
            tuple(
                Factor(f.variables, t[draw] if t.ndim > f.table.ndim else t, f.child)
                for f, t in zip(network.factors, tables, strict=True)
            ),
        )
        full = enumerate_joint(alone, evidence)
        assert (full.sum() > 0) == together.possible[0, draw]
        if full.sum() == 0:
            continue
        for v in range(network.size):
            np.testing.assert_allclose(
                together.joints[v][0, draw], pair_marginal(full, (1,), v) / full.sum(), atol=1e-11
            )


@pytest.mark.parametrize("relay", [False, True])
@pytest.mark.parametrize("draws", [1, 9])
def test_tables_that_repeat_slices_make_the_bank_of_the_whole_tables(
    relay: bool, draws: int
) -> None:
    """Slices given once with their classes are answered as the tables written out."""
    rng = np.random.default_rng(12)
    network = grouped_network(rng, relay=relay)
    plan = compile_network(network, 0, 1, tries=3)
    engine = Engine(plan)
    tables: list = []
    for factor in network.factors:
        table = factor.table
        if factor.child not in (None, 0, 1) and 0 in factor.variables:
            axis = factor.variables.index(0)
            classes = alike(np.moveaxis(table, axis, 0).reshape(table.shape[axis], -1))
            firsts = [classes.index(c) for c in range(max(classes) + 1)]
            kept = np.take(table, firsts, axis=axis)
            kept = kept * rng.uniform(0.5, 1.5, size=(draws, *kept.shape))
            table = Repeated(kept / kept.sum(-1, keepdims=True), axis, classes)
        tables.append(table)
    assert any(isinstance(t, Repeated) and t.kept.shape != t.shape for t in tables)
    whole = [t.whole() if isinstance(t, Repeated) else t for t in tables]
    assert all(w.shape == t.shape for t, w in zip(tables, whole, strict=True))
    one, other = engine.bank(tables), engine.bank(whole)
    assert one.draws == other.draws == draws
    assert len(one.programs) == len(other.programs)
    for number in range(len(one.programs)):
        np.testing.assert_array_equal(
            one.packed(number, 0, draws), other.packed(number, 0, draws)
        )
    got = engine.run({5: 1}, target=1, bank=one).joints.stack
    np.testing.assert_allclose(
        got, engine.run({5: 1}, target=1, bank=other).joints.stack, atol=1e-14
    )


@both
def test_a_table_with_one_draw_is_the_same_in_every_draw(backend: str) -> None:
    """Tables with a draws axis of length 1 stand beside tables with many draws."""
    rng = np.random.default_rng(4)
    network = grouped_network(rng, relay=False)
    engine = Engine(compile_network(network, 0, 1, tries=3), backend)
    one = [factor.table[None] for factor in network.factors]
    expected = engine.run({5: 1}, target=1)
    for draws in (1, 10):
        tables = [np.repeat(one[0], draws, axis=0), *one[1:]]
        together = engine.run({5: 1}, target=1, bank=engine.bank(tables))
        np.testing.assert_allclose(
            together.joints.stack[0], np.repeat(expected.joints.stack, draws, axis=0), atol=1e-12
        )


def test_classes_are_found_by_equal_and_proportional_slices() -> None:
    """Conditional tables share equal slices, potentials proportional ones, zeros included."""
    root = Factor((0,), np.full(4, 0.25), 0)
    child = Factor((0, 1), np.array([[0.2, 0.8], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9]]), 1)
    rate = Factor((1, 0), np.array([[1.0, 3.0, 0.0, 2.0], [2.0, 6.0, 0.0, 5.0]]))
    network = Network((4, 2), (root, child, rate))
    found = {one.factor: (one.classes, one.scaled) for one in find_shared(network, 0)}
    assert found == {1: ((0, 1, 0, 2), False), 2: ((0, 0, 1, 2), True)}


def test_rounding_does_not_part_a_class_and_differences_do() -> None:
    """A class holds what differs by a few units in the last place, nothing else."""
    row = np.array([0.1, 0.2, 0.7])
    rows = np.stack([row, row * (1 + 2e-16), row * (1 + 1e-9), row])
    assert alike(rows) == (0, 0, 1, 0)


def test_numbering_extends_the_target() -> None:
    """A partition that tells the target apart numbers its first classes as the target does."""
    grain = (1, 1, 0, 2, 0)
    finer = numbered(canonical([4, 5, 6, 7, 6]), grain)
    assert finer == (1, 3, 0, 2, 0)
    assert numbered((1, 0, 1, 0, 1), grain) == (0, 1, 0, 1, 0)


def test_a_target_that_is_no_function_of_the_root_shares_nothing() -> None:
    """Sharing rests on the target being a coarser root; otherwise one program answers all."""
    rng = np.random.default_rng(0)
    network = grouped_network(rng, relay=False)
    assert plan_sharing(network, 0, 1)
    assert not plan_sharing(network, 0, 7)
    assert not plan_sharing(network, 0, 0)
    assert compile_network(network, 0, 7, tries=3).shared_programs == (-1, -1)


def test_sharing_that_saves_nothing_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second program has to be the cheaper one."""
    network = grouped_network(np.random.default_rng(0), relay=False)
    monkeypatch.setattr("epidural_dx.inference.plan.WORTH_SHARING", 0.0)
    plan = compile_network(network, 0, 1, tries=3)
    assert plan.shared_programs == (-1, -1) and len(plan.programs) == 1


def test_on_the_real_network_sharing_changes_nothing(model: edx.Model) -> None:
    """Patients of all kinds: the program with shared slices gives the answers of the other."""
    plan = model.plan
    cause = list(model.variables).index("lesion_cause")
    number = plan.program_of(plan.target_index(cause))
    assert plan.programs[number].sharing and plan.programs[number].kernels
    assert plan.multiply_adds(cause) < 0.6 * plan.programs[0].multiply_adds(cause)
    plain = Engine(replace(plan, shared_programs=()), "numpy")
    engines = [Engine(plan, "numba"), Engine(plan, "numpy")]
    rng = np.random.default_rng(2)
    latent = [n for n, v in enumerate(model.variables.values()) if v.latent]
    for count in (0, 0, 1, 2, 4, 8, 16, 32):
        evidence = random_evidence(rng, plan.network, count)
        for v in latent:
            evidence.pop(v, None)
        expected = plain.run(evidence, target=cause)
        for engine in engines:
            got = engine.run(evidence, target=cause)
            assert got.possible[0] == expected.possible[0]
            np.testing.assert_allclose(got.information, expected.information, atol=1e-12)
            for v in range(plan.network.size):
                np.testing.assert_allclose(got.joints[v], expected.joints[v], atol=1e-12)


def test_a_total_without_single_states_of_the_root_is_answered_by_the_plain_program() -> None:
    """Where slices cannot be shared in any order the network compiles all the same, exactly."""
    rng = np.random.default_rng(0)
    cards = (2, 3, 3, 2, 2, 3, 2)

    def column(*variables: int) -> Factor:
        shape = [cards[v] for v in variables]
        return Factor(variables, rng.dirichlet(np.ones(shape[-1]), size=shape[:-1]), variables[-1])

    same = rng.dirichlet(np.ones(2), size=3)
    same[2] = same[0]
    factors = (
        column(5), column(0), column(0, 1), Factor((1, 3), same, 3), column(0, 1, 2),
        column(3, 0, 2, 4), Factor((1, 6), np.eye(2)[[1, 0, 0]], 6),
    )
    network = Network(cards, factors)
    engine = Engine(compile_network(network, 1, 6, tries=3))
    full = enumerate_joint(network, {4: 1})
    result = engine.run({4: 1}, target=6)
    for v in range(network.size):
        np.testing.assert_allclose(
            result.joints[v][0], pair_marginal(full, (6,), v) / full.sum(), atol=1e-12
        )


@both
@pytest.mark.parametrize("states", [[1, 2, 2], [0, 2, 2]])
def test_a_target_with_a_state_that_never_occurs_is_answered_exactly(
    backend: str, states: list[int]
) -> None:
    """A target that is a function of the root, but not onto, changes no answer."""
    rng = np.random.default_rng(5)
    k = len(states)
    cards = (k, 3, 2, max(states) + 1)
    alike = np.repeat(rng.dirichlet(np.ones(2), size=(1, 3)), k, axis=0)
    factors = (
        Factor((0,), rng.dirichlet(np.ones(k)), 0),
        Factor((1,), rng.dirichlet(np.ones(3)), 1),
        Factor((0, 1, 2), alike, 2),
        Factor((0, 1), rng.random((k, 3))),
        Factor((0, 3), np.eye(max(states) + 1)[states], 3),
    )
    network = Network(cards, factors)
    engine = Engine(compile_network(network, 0, 3, tries=3), backend)
    for evidence in ({}, {2: 1}, {1: 2, 2: 0}):
        full = enumerate_joint(network, evidence)
        result = engine.run(evidence, target=3)
        assert result.log_evidence[0] == pytest.approx(np.log(full.sum()), abs=1e-12)
        for v in range(network.size):
            np.testing.assert_allclose(
                result.joints[v][0], pair_marginal(full, (3,), v) / full.sum(), atol=1e-12
            )


def test_draws_of_tables_whose_axes_stand_in_another_order() -> None:
    """Under draws numpy multiplies tables by the names of their axes, not by their places."""
    rng = np.random.default_rng(0)
    cards = (3, 2, 3, 3, 3, 2, 2)

    def column(*variables: int) -> Factor:
        shape = [cards[v] for v in variables]
        return Factor(variables, rng.dirichlet(np.ones(shape[-1]), size=shape[:-1]), variables[-1])

    factors = (
        column(0), column(2), column(3), column(5), column(0, 1),
        Factor((2, 0), rng.random((3, 3))), column(2, 3, 1, 4),
        Factor((0, 6), np.eye(2)[[1, 1, 1]], 6),
    )
    network = Network(cards, factors)
    plan = compile_network(network, 6)
    tables = [np.stack([f.table, f.table]) for f in factors]
    tables[5][1] = rng.random((3, 3))
    drawn = tuple(
        Factor(f.variables, t[1], f.child) for f, t in zip(factors, tables, strict=True)
    )
    engine = Engine(plan, "numpy")
    result = engine.run({3: 2}, bank=engine.bank(tables))
    for draw, one in enumerate((network, Network(cards, drawn))):
        full = enumerate_joint(one, {3: 2})
        for v in range(network.size):
            np.testing.assert_allclose(
                result.joints[v][0, draw], pair_marginal(full, (6,), v) / full.sum(), atol=1e-12
            )


@both
def test_two_relays_in_one_table_keep_their_axes_apart(backend: str) -> None:
    """Tables of two variables that both tell the target are read in one order of their axes."""
    rng = np.random.default_rng(0)
    k = 60
    group = np.arange(k) % 3

    def columns(*shape: int) -> np.ndarray:
        return rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])

    def relay() -> np.ndarray:
        table = columns(k, 6) * (np.arange(6) % 3 == group[:, None])
        return table / table.sum(axis=1, keepdims=True)

    factors = [
        Factor((0,), np.full(k, 1 / k), 0),
        Factor((0, 1), np.eye(3)[group], 1),
        Factor((0, 2), relay(), 2),
        Factor((0, 3), relay(), 3),
        *(Factor((3, 2, 0, v), columns(6, 6, 3, 4)[:, :, group], v) for v in (4, 5, 6)),
    ]
    network = Network((k, 3, 6, 6, 4, 4, 4), tuple(factors))
    tables = [f.table for f in factors]
    joint = np.einsum(
        "a,ab,ac,ad,dca,dca,dca->b",
        *tables[:4], tables[4][..., 1], tables[5][..., 2], tables[6][..., 0],
    )
    engine = Engine(compile_network(network, 0, 1, tries=3), backend)
    result = engine.run({4: 1, 5: 2, 6: 0}, target=1)
    assert result.log_evidence[0] == pytest.approx(np.log(joint.sum()), abs=1e-12)
    np.testing.assert_allclose(result.posterior[0], joint / joint.sum(), atol=1e-12)
