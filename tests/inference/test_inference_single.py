"""One case takes a shorter way than a batch: it must read, count and answer the same."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_networks import random_evidence, random_network

import epidural_dx as edx
from epidural_dx.inference import Engine, compile_network, read_evidence
from epidural_dx.inference.evidence import OPEN, SOFT, read_single

SEEDS = st.integers(0, 2**32 - 1)


def read_alone(network, evidence):
    """Read evidence by `read_single`; return its scale, states and weights."""
    starts = np.cumsum([0, *network.cardinalities[:-1]])
    states = np.full(network.size, OPEN, dtype=np.int64)
    soft = np.full((1, sum(network.cardinalities)), np.nan)
    return read_single(network.cardinalities, evidence, states.data, soft, starts), states, soft[0]


@given(SEEDS)
def test_one_case_is_read_as_a_batch_of_one(seed: int) -> None:
    """States, weights and scale are those of the general reader, or the case is left to it."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, 6)
    evidence = random_evidence(rng, network)
    if rng.random() < 0.5:
        evidence = {v: x if isinstance(x, int) else tuple(x.tolist()) for v, x in evidence.items()}
    scale, states, soft = read_alone(network, evidence)
    expected = read_evidence(network.cardinalities, evidence)
    if scale is None:
        assert expected.log_scale[0] == -np.inf
        return
    np.testing.assert_allclose(scale, expected.log_scale[0], rtol=1e-14, atol=1e-15)
    np.testing.assert_array_equal(states, expected.states[0])
    starts = np.cumsum([0, *network.cardinalities[:-1]])
    for v in np.flatnonzero(states == SOFT):
        weights = soft[starts[v] : starts[v] + network.cardinalities[v]]
        np.testing.assert_array_equal(weights, expected.soft[v][0])


def test_what_is_not_one_plain_case_is_left_to_the_general_reader() -> None:
    """Batches, excluded findings, unknown variables and wrong lengths."""
    network = random_network(np.random.default_rng(0), 4)
    k = network.cardinalities[0]
    for unusual in (
        {0: np.ones((2, k))},
        {0: np.zeros(2, dtype=np.int64)},
        {0: np.zeros(k)},
        {9: 0},
        {0: k},
        {0: (1.0,) * (k + 1)},
    ):
        assert read_alone(network, unusual)[0] is None
    with pytest.raises(ValueError, match="variable 0"):
        read_alone(network, {0: (math.nan,) * k})


def test_a_later_question_leaves_earlier_answers_alone() -> None:
    """Answers of single cases are arrays of their own, though the workspace is used again."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(3)
    network = random_network(rng, 8)
    engine = Engine(compile_network(network, 0, tries=3), backend="numba")
    first = engine.run({3: 0})
    kept = [np.array(a) for a in (first.posterior, first.information, first.joints.stack)]
    engine.run({4: 0, 5: (0.3,) * network.cardinalities[5]})
    for before, array in zip(
        kept, (first.posterior, first.information, first.joints.stack), strict=True
    ):
        np.testing.assert_array_equal(before, array)


def test_counted_steps_are_the_steps_that_run(model: edx.Model) -> None:
    """A map counts together with the product before it exactly where one loop does both."""
    instructions = pytest.importorskip("epidural_dx.inference.instructions")
    for program in model.plan.programs:
        for distribution in program.distributions:
            code = instructions.flatten(program, distribution).code
            steps = code[code[24] : code[25]].reshape(-1, 16)
            together = np.count_nonzero(steps[:, instructions.SKIP])
            assert together == len(program.fused(distribution))
    shared = model.plan.programs[-1]
    assert shared.sharing and shared.fused(shared.distributions[0])


def test_kernels_older_than_what_they_were_compiled_from_are_forgotten(tmp_path: Path) -> None:
    """After an update of any file behind it a kernel on disk is compiled anew, not run."""
    numba_steps = pytest.importorskip("epidural_dx.inference.numba_steps")
    old, new = tmp_path / "numba_jobs.run_jobs-1.py311.nbi", tmp_path / "numba_steps.part-2.nbi"
    other = tmp_path / "somebody_else-3.nbi"
    for path in (old, new, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    numba_steps.forget_outdated(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([new.name, other.name])
