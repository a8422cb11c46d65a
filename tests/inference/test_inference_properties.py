"""Laws that hold for every network and every evidence."""

import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_networks import (
    enumerate_joint,
    marginal,
    pair_marginal,
    random_evidence,
    random_network,
    synthetic_module,
)

from epidural_dx.inference import (
    Engine,
    Factor,
    ImpossibleEvidence,
    Network,
    compile_network,
    entropy,
)

pytest.importorskip("numba")
BACKENDS = ("numpy", "numba")
both = pytest.mark.parametrize("backend", BACKENDS)
seeds = st.integers(0, 2**32 - 1)


def _setup(seed: int, backend: str, size: int = 6):  # noqa: ANN202
    rng = np.random.default_rng(seed)
    network = random_network(rng, size)
    plan = compile_network(network, int(rng.integers(size)), tries=3)
    return rng, network, plan, Engine(plan, backend=backend)


def _same(a, b, atol: float = 1e-12) -> None:  # noqa: ANN001
    np.testing.assert_allclose(a.log_evidence, b.log_evidence, atol=1e-9)
    np.testing.assert_allclose(a.posterior, b.posterior, atol=atol)
    np.testing.assert_allclose(a.joints.stack, b.joints.stack, atol=atol)
    np.testing.assert_allclose(a.marginals.stack, b.marginals.stack, atol=atol)
    np.testing.assert_allclose(a.information, b.information, atol=atol)


@both
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_order_of_evidence_does_not_matter(backend: str, seed: int) -> None:
    """The same observations in another order give the same numbers."""
    rng, network, _, engine = _setup(seed, backend)
    evidence = random_evidence(rng, network)
    shuffled = {v: evidence[v] for v in rng.permutation(list(evidence)).astype(int).tolist()}
    _same(engine.run(evidence), engine.run(shuffled))


@both
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_hard_evidence_is_extreme_likelihood(backend: str, seed: int) -> None:
    """A state, a one-hot vector and a likelihood with vanishing rest agree."""
    rng, network, _, engine = _setup(seed, backend)
    states = {
        int(v): int(rng.integers(network.cardinalities[v])) for v in rng.permutation(6)[:3]
    }
    hard = engine.run(states)
    one_hot = engine.run({v: np.eye(network.cardinalities[v])[s] for v, s in states.items()})
    _same(hard, one_hot)
    if hard.log_evidence[0] > -50:
        almost = engine.run(
            {
                v: np.where(np.arange(network.cardinalities[v]) == s, 1.0, 1e-200)
                for v, s in states.items()
            }
        )
        _same(hard, almost, atol=1e-10)


@both
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_marginals_of_joints_agree(backend: str, seed: int) -> None:
    """Every joint sums to the posterior of the target and to the marginal of its variable."""
    rng, network, _, engine = _setup(seed, backend)
    result = engine.run(random_evidence(rng, network))
    for v in range(network.size):
        np.testing.assert_allclose(result.joints[v].sum(axis=-1), result.posterior, atol=1e-12)
        np.testing.assert_allclose(result.joints[v].sum(axis=-2), result.marginals[v], atol=1e-12)
        assert result.information[0, v] <= entropy(result.posterior)[0] + 1e-12


@both
@settings(max_examples=30, deadline=None)
@given(seed=seeds)
def test_a_barren_node_changes_nothing(backend: str, seed: int) -> None:
    """An unobserved child added to the network leaves all other answers alone."""
    rng, network, plan, engine = _setup(seed, backend)
    parents = tuple(int(v) for v in rng.permutation(6)[:2])
    table = rng.dirichlet(np.ones(3), size=[network.cardinalities[p] for p in parents])
    child = network.size
    wider = Network(
        (*network.cardinalities, 3), (*network.factors, Factor((*parents, child), table, child))
    )
    other = Engine(compile_network(wider, plan.targets[0], tries=3), backend=backend)
    evidence = random_evidence(rng, network)
    a, b = engine.run(evidence), other.run(evidence)
    np.testing.assert_allclose(a.log_evidence, b.log_evidence, atol=1e-10)
    for v in range(network.size):
        np.testing.assert_allclose(a.joints[v], b.joints[v], atol=1e-12)


@both
@settings(max_examples=25, deadline=None)
@given(seed=seeds, chunk=st.integers(1, 9), threads=st.integers(1, 3))
def test_batch_equals_loop_whatever_chunk_and_threads(
    backend: str, seed: int, chunk: int, threads: int
) -> None:
    """Rows of a batch, with different evidence each, give what single calls give."""
    rng, network, plan, engine = _setup(seed, backend)
    rows = 8
    cases = [random_evidence(rng, network) for _ in range(rows)]
    batch = {}
    for v in range(network.size):
        k = network.cardinalities[v]
        weights = np.ones((rows, k))
        for i, case in enumerate(cases):
            if v in case:
                seen = case[v]
                weights[i] = np.eye(k)[seen] if isinstance(seen, int) else seen
        if not (weights == 1).all():
            batch[v] = weights
    other = Engine(plan, backend=backend, chunk=chunk, threads=threads)
    if not batch:
        return
    together = other.run(batch)
    for i, case in enumerate(cases):
        one = engine.run(case)
        assert together.log_evidence[i] == pytest.approx(one.log_evidence[0], abs=1e-10)
        np.testing.assert_allclose(together.posterior[i], one.posterior[0], atol=1e-12)
        np.testing.assert_allclose(together.joints.stack[i], one.joints.stack[0], atol=1e-12)
        np.testing.assert_allclose(together.marginals.stack[i], one.marginals.stack[0], atol=1e-12)


def test_threads_change_no_bit_of_a_large_batch() -> None:
    """Two threads give bit for bit what one gives, on more cases than one piece."""
    made = synthetic_module().build()
    plan = compile_network(made.network, made.names["lesion_cause"], tries=3)
    rng = np.random.default_rng(0)
    states = np.full((300, made.network.size), -1, dtype=np.int64)
    for i in range(300):
        for v, s in synthetic_module().random_case(made, rng, 6).items():
            states[i, v] = s
    batch = {v: states[:, v] for v in range(made.network.size) if (states[:, v] >= 0).any()}
    one = Engine(plan, backend="numba", threads=1).run(batch, want=("information",))
    two = Engine(plan, backend="numba", threads=2).run(batch, want=("information",))
    assert np.array_equal(one.information, two.information)
    assert np.array_equal(one.log_evidence, two.log_evidence)
    slow = Engine(plan, backend="numpy").run(batch, want=("information",))
    np.testing.assert_allclose(one.information, slow.information, atol=1e-12)


@both
@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_draws_equal_networks_of_their_own(backend: str, seed: int) -> None:
    """A bank of parameter draws gives what compiling every draw would give, cases x draws."""
    rng, network, plan, engine = _setup(seed, backend)
    draws = 3
    tables = []
    for factor in network.factors:
        table = factor.table * rng.uniform(0.5, 1.5, size=(draws, *factor.table.shape))
        if factor.child is not None:
            table = table / table.sum(axis=-1, keepdims=True)
        tables.append(table)
    bank = engine.bank(tables)
    v = int(rng.integers(network.size))
    states = np.arange(2) % network.cardinalities[v]
    result = engine.run({v: states}, bank=bank)
    assert result.log_evidence.shape == (2, draws)
    for d in range(draws):
        drawn = Network(
            network.cardinalities,
            tuple(
                Factor(f.variables, t[d], f.child)
                for f, t in zip(network.factors, tables, strict=True)
            ),
        )
        for i in range(2):
            full = enumerate_joint(drawn, {v: int(states[i])})
            if full.sum() == 0:
                assert result.log_evidence[i, d] == -np.inf
                continue
            assert result.log_evidence[i, d] == pytest.approx(np.log(full.sum()), abs=1e-10)
            for u in range(network.size):
                np.testing.assert_allclose(
                    result.marginals[u][i, d], marginal(full, (u,)) / full.sum(), atol=1e-12
                )


@both
def test_impossible_evidence_is_reported(backend: str) -> None:
    """Contradictory evidence has log-evidence -inf, zeros, no NaN, and can be an exception."""
    network = Network(
        (2, 2), (Factor((0,), np.array([0.5, 0.5]), 0), Factor((0, 1), np.eye(2), 1))
    )
    engine = Engine(compile_network(network, 0), backend=backend)
    result = engine.run({0: 0, 1: 1})
    assert result.log_evidence[0] == -np.inf
    assert not result.possible[0]
    for block in (result.posterior, result.joints.stack, result.marginals.stack):
        assert not block.any()
    assert not engine.run({0: np.zeros(2)}).possible[0]
    mixed = engine.run({0: np.array([0, 0]), 1: np.array([0, 1])})
    assert mixed.possible.tolist() == [True, False]
    with pytest.raises(ImpossibleEvidence):
        engine.run({0: 0, 1: 1}, on_impossible="raise")


@both
def test_sixty_rare_findings_do_not_underflow(backend: str) -> None:
    """Products far below 1e-308 keep their ratios, also when findings contradict each other."""
    rare = 60
    p = 1e-12
    factors = [Factor((0,), np.array([0.3, 0.3, 0.4]), 0)]
    for v in range(1, rare + 1):
        hit = np.array([1e-6, p, p] if v <= rare // 2 else [p, 1e-6, p])
        factors.append(Factor((0, v), np.stack([hit, 1 - hit], axis=1), v))
    network = Network((3, *[2] * rare), tuple(factors))
    engine = Engine(compile_network(network, 0), backend=backend)
    all_seen = dict.fromkeys(range(1, rare + 1), 0)
    result = engine.run(all_seen)
    np.testing.assert_allclose(result.posterior[0], [0.5, 0.5, 0.0], atol=1e-12)
    expected = np.log(0.6) + 30 * (np.log(1e-6) + np.log(p))
    assert result.log_evidence[0] == pytest.approx(expected, rel=1e-12)
    assert np.isfinite(result.joints.stack).all()
    soft = {v: np.array([1.0, 0.0]) * 1e-300 for v in all_seen}
    again = engine.run(soft)
    np.testing.assert_allclose(again.posterior, result.posterior, atol=1e-12)


@both
def test_contradiction_beyond_float_range_is_unlikely_not_impossible(backend: str) -> None:
    """What underflows every product of float64 is still told apart from the impossible."""
    tiny = 1e-200
    table = np.array([[tiny, 1 - tiny], [1 - tiny, tiny]])
    factors = [Factor((0,), np.array([0.5, 0.5]), 0)]
    factors += [Factor((0, v), table, v) for v in range(1, 9)]
    engine = Engine(compile_network(Network((2,) * 9, tuple(factors)), 0), backend=backend)
    result = engine.run({v: v % 2 for v in range(1, 9)})
    assert result.possible[0]
    np.testing.assert_allclose(result.posterior[0], [0.5, 0.5], atol=1e-12)
    assert result.log_evidence[0] == pytest.approx(4 * np.log(tiny), rel=1e-12)


@both
def test_cells_of_1e_minus_300_do_not_turn_to_nan(backend: str) -> None:
    """A chain of tables with cells near the smallest number gives finite, exact answers."""
    tiny = 1e-300
    table = np.array([[1 - tiny, tiny], [tiny, 1 - tiny]])
    factors = [Factor((0,), np.array([0.5, 0.5]), 0)]
    factors += [Factor((v - 1, v), table, v) for v in range(1, 6)]
    engine = Engine(compile_network(Network((2,) * 6, tuple(factors)), 0), backend=backend)
    result = engine.run({0: 0, 2: 1, 4: 0})
    assert result.log_evidence[0] == pytest.approx(np.log(0.5) + 2 * np.log(2 * tiny), rel=1e-12)
    assert np.isfinite(result.marginals.stack).all()
    np.testing.assert_allclose(result.marginals[1][0], [0.5, 0.5], atol=1e-12)


@both
def test_scale_of_a_likelihood_moves_only_the_log_evidence(backend: str) -> None:
    """Weights need not be at most 1: 4 : 2 says what 2 : 1 says."""
    rng, network, _, engine = _setup(5, backend)
    a = engine.run({1: np.linspace(1, 2, network.cardinalities[1])})
    b = engine.run({1: 4 * np.linspace(1, 2, network.cardinalities[1])})
    np.testing.assert_allclose(a.posterior, b.posterior, atol=1e-14)
    np.testing.assert_allclose(b.log_evidence - a.log_evidence, np.log(4), atol=1e-12)


@both
def test_cheap_question_agrees_with_the_full_one(backend: str) -> None:
    """The collect pass alone gives the same log-evidence and posterior."""
    made = synthetic_module().build()
    names = made.names
    plan = compile_network(made.network, names["lesion_cause"], names["etiology"], tries=3)
    engine = Engine(plan, backend=backend)
    case = synthetic_module().random_case(made, np.random.default_rng(2), 10)
    for target in (names["lesion_cause"], names["etiology"]):
        full, cheap = engine.run(case, target=target), engine.log_evidence_many(case, target=target)
        np.testing.assert_allclose(full.posterior, cheap.posterior, atol=1e-14)
        np.testing.assert_allclose(full.log_evidence, cheap.log_evidence, atol=1e-12)
        assert cheap.joints is None


def test_one_engine_serves_many_threads() -> None:
    """Threads that share an engine get what each would get alone."""
    made = synthetic_module().build()
    engine = Engine(compile_network(made.network, made.names["lesion_cause"], tries=3))
    rng = np.random.default_rng(5)
    cases = [synthetic_module().random_case(made, rng, 6) for _ in range(24)]
    alone = [engine.run(case).joints.stack for case in cases]
    with ThreadPoolExecutor(4) as pool:
        shared = list(pool.map(lambda case: engine.run(case).joints.stack, cases))
    for a, b in zip(alone, shared, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_an_engine_works_after_a_fork() -> None:
    """A forked child, of a parent that has run batches in threads, gives the same answer."""
    made = synthetic_module().build()
    engine = Engine(compile_network(made.network, made.names["lesion_cause"], tries=3), threads=2)
    age = made.names["age_group"]
    expected = engine.run({age: np.arange(200) % 4}, want=()).posterior
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        got = engine.run({age: np.arange(200) % 4}, want=()).posterior
        os.write(writer, b"1" if np.array_equal(got, expected) else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"1"
    os.close(reader)
    os.close(writer)


def test_without_numba_the_engine_falls_back_to_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend "auto" is numpy when numba is missing, and asking for numba says so."""
    monkeypatch.setitem(sys.modules, "numba", None)
    plan = compile_network(Network((2,), (Factor((0,), np.array([0.5, 0.5]), 0),)), 0)
    assert Engine(plan).backend == "numpy"
    with pytest.raises(ImportError, match="fast"):
        Engine(plan, backend="numba")


def test_importing_the_package_compiles_and_imports_no_numba() -> None:
    """The interpreter is loaded with the first question, not with the import."""
    code = "import sys, epidural_dx.inference; print('numba' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "False", answer.stderr


@both
def test_a_kernel_is_not_used_where_evidence_is(backend: str) -> None:
    """Subtrees are answered by shortcuts or by walking; both agree, whatever is observed."""
    made = synthetic_module().build(seed=3)
    names = made.names
    plan = compile_network(
        made.network, names["lesion_cause"],
        usually_observed=(names["age_group"], names["sex"]), tries=4,
    )
    assert plan.programs[0].kernels
    engine = Engine(plan, backend=backend)
    # A bank of two equal draws never uses kernels.
    same = [np.stack([f.table, f.table]) for f in made.network.factors]
    bank = engine.bank(same)
    rng = np.random.default_rng(8)
    for count in (0, 0, 1, 2, 4, 8, 16):
        case = synthetic_module().random_case(made, rng, count)
        if count == 0:
            case.pop(names["sex"])
        with_kernels, walked = engine.run(case), engine.run(case, bank=bank)
        for d in range(2):
            np.testing.assert_allclose(
                with_kernels.joints.stack[0], walked.joints.stack[0, d], atol=1e-12
            )


def test_plans_are_deterministic_and_survive_pickling() -> None:
    """Compiling twice gives the same program; a pickled plan gives the same answers."""
    made = synthetic_module().build()
    target = made.names["lesion_cause"]
    first = compile_network(made.network, target, tries=3)
    second = compile_network(made.network, target, tries=3)
    assert first.programs == second.programs
    copy = pickle.loads(pickle.dumps(first))
    case = synthetic_module().random_case(made, np.random.default_rng(4), 8)
    a = Engine(first, backend="numpy").run(case)
    b = Engine(copy, backend="numpy").run(case)
    assert np.array_equal(a.joints.stack, b.joints.stack)


@both
def test_an_engine_that_has_answered_survives_pickling(backend: str) -> None:
    """A copy sent to another process gives the same answers, whatever was asked before."""
    rng, network, _, engine = _setup(5, backend)
    evidence = random_evidence(rng, network, 2)
    expected = engine.run(evidence)
    copy = pickle.loads(pickle.dumps(engine))
    assert np.array_equal(copy.run(evidence).joints.stack, expected.joints.stack)
    assert (copy.backend, copy.threads, copy.chunk) == (
        engine.backend, engine.threads, engine.chunk
    )


def test_a_chunk_bounds_the_memory_of_a_batch() -> None:
    """Beside its answers a batch needs room for one chunk, not for all cases."""
    made = synthetic_module().build()
    plan = compile_network(made.network, made.names["lesion_cause"], tries=3)
    age = made.names["age_group"]
    peaks = []
    for chunk in (8, 512):
        engine = Engine(plan, "numpy", chunk=chunk)
        engine.run({age: 0}, want=())
        tracemalloc.start()
        engine.run({age: np.arange(512) % 4}, want=())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] * 8 < peaks[1]


def test_typical_case_stays_under_300_000_multiply_adds() -> None:
    """The plan of the synthetic network keeps to the budget of the design (age, sex known)."""
    made = synthetic_module().build()
    names = made.names
    plan = compile_network(
        made.network, names["lesion_cause"], usually_observed=(names["age_group"], names["sex"])
    )
    typical = [names[n] for n in ("age_group", "sex", "platelets", "d_dimer", "inr", "fibrinogen")]
    assert plan.multiply_adds(observed=typical) < 300_000


def test_bad_input_is_refused() -> None:
    """Wrong tables, states, shapes and weights raise ValueError that names the variable."""
    with pytest.raises(ValueError, match="sum to 1"):
        Factor((0,), np.array([0.5, 0.507]), 0)
    with pytest.raises(ValueError, match="negative"):
        Factor((0,), np.array([1.5, -0.5]))
    with pytest.raises(ValueError, match="shape"):
        Network((3,), (Factor((0,), np.array([0.5, 0.5]), 0),))
    network = Network((2,), (Factor((0,), np.array([0.5, 0.5]), 0),))
    engine = Engine(compile_network(network, 0), backend="numpy")
    for evidence in ({0: 2}, {1: 0}, {0: np.array([1.0, -1.0])}, {0: np.ones(3)},
                     {0: np.array([np.nan, 1.0])}):
        with pytest.raises(ValueError, match="variable"):
            engine.run(evidence)


def _relay_network() -> Network:
    """Return root 0 of six states, target 1 and relay 2 that are functions of it, findings."""
    rng = np.random.default_rng(12)
    target = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    relay = np.zeros((6, 5))
    for state, allowed in enumerate([(0,), (0, 1), (2,), (2, 3), (4,), (4,)]):
        relay[state, list(allowed)] = rng.dirichlet(np.ones(len(allowed)))

    def table(*shape: int) -> np.ndarray:
        return rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])

    return Network(
        (6, 3, 5, 2, 2, 3, 2),
        (
            Factor((0,), rng.dirichlet(np.ones(6)), 0),
            Factor((0, 1), target, 1),
            Factor((0, 2), relay, 2),
            Factor((2, 3), table(5, 2), 3),
            Factor((3, 2, 4), table(2, 5, 2), 4),
            Factor((0, 3, 5), table(6, 2, 3), 5),
            Factor((2, 6), table(5, 2), 6),
        ),
    )


@both
def test_a_relay_stands_for_the_target(backend: str) -> None:
    """Tables that tell the target by another variable give the joints of full enumeration."""
    network = _relay_network()
    plan = compile_network(network, 0, 1)
    assert [(r.variable, r.states) for r in plan.programs[0].relays] == [(2, (0, 0, 1, 1, 2))]
    engine = Engine(plan, backend=backend)
    rng = np.random.default_rng(1)
    for _ in range(40):
        evidence = random_evidence(rng, network, 4)
        full = enumerate_joint(network, evidence)
        result = engine.run(evidence, target=1)
        if full.sum() == 0:
            assert not result.possible[0]
            continue
        for v in range(network.size):
            expected = pair_marginal(full, (1,), v) / full.sum()
            np.testing.assert_allclose(result.joints[v][0], expected, atol=1e-12)


def test_draws_must_keep_the_zeros_that_a_relay_rests_on() -> None:
    """A draw that makes the target no function of the relay is refused, not answered wrongly."""
    network = _relay_network()
    engine = Engine(compile_network(network, 0, 1), backend="numpy")
    tables = [factor.table for factor in network.factors]
    tables[2] = np.full((2, 6, 5), 0.2)
    with pytest.raises(ValueError, match="positive cell"):
        engine.bank(tables)


@both
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), draws=st.integers(1, 20))
def test_a_bank_answers_as_every_draw_alone(backend: str, seed: int, draws: int) -> None:
    """Blocks of draws, repeated columns and tables without draws change nothing."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, 6)
    plan = compile_network(network, 0, tries=3)
    engine = Engine(plan, backend=backend, chunk=5)
    tables = []
    for factor in network.factors:
        table = factor.table
        if rng.random() < 0.7:
            # The same factor for all columns: equal columns stay equal.
            table = table * rng.uniform(0.5, 1.5, size=(draws, *[1] * (table.ndim - 1), 1))
            if factor.child is not None:
                table = table * rng.uniform(0.5, 1.5, size=table.shape[-1])
                table = table / table.sum(axis=-1, keepdims=True)
        tables.append(table)
    bank = engine.bank(tables)
    evidence = random_evidence(rng, network, 3)
    together = engine.run(evidence, bank=bank)
    for draw in range(bank.draws):
        alone = Network(
            network.cardinalities,
            tuple(
                Factor(f.variables, t[draw] if t.ndim > f.table.ndim else t, f.child)
                for f, t in zip(network.factors, tables, strict=True)
            ),
        )
        one = Engine(compile_network(alone, 0, tries=3), backend="numpy").run(evidence)
        assert one.possible[0] == together.possible[0, draw]
        if one.possible[0]:
            assert together.log_evidence[0, draw] == pytest.approx(one.log_evidence[0], abs=1e-10)
            for v in range(network.size):
                np.testing.assert_allclose(
                    together.joints[v][0, draw], one.joints[v][0], atol=1e-11
                )


@both
def test_columns_that_part_in_a_late_draw_stay_apart(backend: str) -> None:
    """Columns that are the same in the first draws only keep their own values."""
    rng = np.random.default_rng(6)
    table = rng.dirichlet(np.ones(2), size=5)
    network = Network(
        (5, 2),
        (Factor((0,), np.full(5, 0.2), 0), Factor((0, 1), table[[1, 0, 1, 0, 2]], 1)),
    )
    draws = np.repeat(network.factors[1].table[None], 9, axis=0)
    draws[6] = rng.dirichlet(np.ones(2), size=5)
    engine = Engine(compile_network(network, 0), backend)
    bank = engine.bank([network.factors[0].table, draws])
    got = engine.run({1: 0}, bank=bank).posterior[0]
    expected = draws[:, :, 0] / draws[:, :, 0].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_a_bank_keeps_repeated_columns_once() -> None:
    """Memory follows the distinct columns, not the cells of the tables."""
    rng = np.random.default_rng(0)
    network = Network(
        (40, 2),
        (Factor((0,), np.full(40, 1 / 40), 0), Factor((0, 1), np.full((40, 2), 0.5), 1)),
    )
    engine = Engine(compile_network(network, 1), backend="numpy")
    p = rng.random((100, 1))
    column = np.stack([p, 1 - p], axis=-1)
    bank = engine.bank([network.factors[0].table, np.repeat(column, 40, axis=1)])
    assert bank.values.shape[1] == 2
    np.testing.assert_array_equal(np.unique(bank.packed(0, 17, 18)[0, bank.cells[0]]),
                                  np.sort(column[17, 0]))
