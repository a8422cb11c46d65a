"""On the network of the package every number agrees with pyAgrum and pgmpy."""

import importlib.util
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import epidural_dx as edx
from epidural_dx.clinical.case import read_case
from epidural_dx.inference import Engine
from epidural_dx.store import published_patients

pytest.importorskip("numba")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """Load the benchmark, which knows how the peers are asked."""
    path = Path(__file__).parents[2] / "benchmarks" / "engine.py"
    spec = importlib.util.spec_from_file_location("engine_benchmark", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["engine_benchmark"] = module
    spec.loader.exec_module(module)
    return module


def test_random_patients_agree_with_the_peers(benchmark: ModuleType, model: edx.Model) -> None:
    """30 evidence sets of 0 to 40 findings, hard and uncertain, agree within 1e-9."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        to_pyagrum, to_pgmpy = benchmark.verify(model, 30)
    assert to_pyagrum < 1e-9
    assert 0 < to_pgmpy < 1e-9


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_batches_equal_single_patients(
    benchmark: ModuleType, model: edx.Model, backend: str
) -> None:
    """Batch = loop on the real network, whatever the chunk and the number of threads."""
    network = model.plan.network
    cause = list(model.variables).index("lesion_cause")
    cases = benchmark.random_cases(model, 70, 0, 30, 0.1, 5)
    batch = benchmark.as_batch(cases, network)
    results = [
        Engine(model.plan, backend, threads=threads, chunk=chunk).run(batch, target=cause)
        for threads, chunk in ((1, 64), (3, 7))
    ]
    np.testing.assert_allclose(results[0].information, results[1].information, atol=1e-12)
    single = Engine(model.plan, backend)
    for row in range(0, 70, 6):
        one = single.run(cases[row], target=cause)
        for result in results:
            assert result.log_evidence[row] == pytest.approx(one.log_evidence[0], abs=1e-10)
            np.testing.assert_allclose(result.information[row], one.information[0], atol=1e-11)
            np.testing.assert_allclose(result.joints.stack[row], one.joints.stack[0], atol=1e-12)


def test_impossible_patients_in_a_batch_are_flagged_alone(model: edx.Model) -> None:
    """A contradiction of functions is -inf and zeros; its neighbours keep their answers."""
    names = list(model.variables)
    cause = names.index("lesion_cause")
    blood, part = names.index("blood_disorder"), names.index("hemoglobinopathy")
    table = next(f.table for f in model.plan.network.factors if f.child == part)
    wrong = int(np.argmin(table[0]))
    states = np.full(20, int(table[0].argmax()))
    states[7] = wrong
    result = model.engine.run({blood: np.zeros(20, dtype=np.int64), part: states}, target=cause)
    assert not result.possible[7]
    assert not result.posterior[7].any() and not result.information[7].any()
    assert result.possible.sum() == 19
    alone = model.engine.run({blood: 0, part: int(states[0])}, target=cause)
    np.testing.assert_allclose(result.posterior[8], alone.posterior[0], atol=1e-12)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_blocks_of_patients_work_after_a_fork(model: edx.Model) -> None:
    """A forked child of a parent that has run batches in threads gives the same answers."""
    engine = Engine(model.plan, threads=2)
    age = list(model.variables).index("age_group")
    expected = engine.run({age: np.arange(100) % 4}, want=("information",)).information
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        got = engine.run({age: np.arange(100) % 4}, want=("information",)).information
        os.write(writer, b"1" if np.array_equal(got, expected) else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1) == b"1"
    os.close(reader)
    os.close(writer)


def test_published_patients_of_known_age_and_sex_stay_under_300_000(model: edx.Model) -> None:
    """The design's budget of multiply-adds, nothing cached."""
    cause = list(model.variables).index("lesion_cause")
    usual = set(model.plan.usually_observed)
    counted = 0
    for path in published_patients().values():
        arrays = model.arrays(model.read_evidence(read_case(path)))
        known = [v for v, weights in arrays.items() if np.count_nonzero(weights) == 1]
        if usual <= set(known):
            assert model.plan.multiply_adds(cause, known) < 300_000
            counted += 1
    assert counted >= 3
