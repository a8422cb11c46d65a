"""Time the inference engine against pgmpy and pyAgrum on the real network, in one run.

    python benchmarks/engine.py [--rounds N] [--seconds S] [--draws N] [--without pgmpy,numpy,...]
                                [--public alarm,...] [--verify N] [--write docs/performance.md]

The main job is what `model.query(evidence)` returns: posterior of etiology and lesion_cause, and
the information of every open variable about lesion_cause, as plain arrays. Cases are the published
patients in `cases/`, stage by stage. All engines answer the same cases in interleaved rounds, so
that a busy machine slows them alike: trust the ratios. pyAgrum has the joint targets {etiology,
variable} declared once and keeps its engine; pgmpy needs one variable elimination per open
variable, and so is timed on few cases.

`--verify N` compares every number of N random evidence sets (0 to 40 findings, a fifth of them
uncertain) with pyAgrum, three joint tables of each set with pgmpy, and times nothing. Run it with
PYTHONPATH=src.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

import epidural_dx as edx
from epidural_dx.clinical.case import read_case
from epidural_dx.inference import Engine, Factor, Network, compile_network, mutual_information

sys.path.insert(0, str(Path(__file__).parent))
from peers import PgmpyPeer, PyAgrumPeer, hard_state  # noqa: E402

ROOT = Path(__file__).parents[1]
warnings.filterwarnings("ignore", category=FutureWarning, module="pgmpy")

#: Rows of the table: (job, measured, goal).
Row = tuple[str, str, str]


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return (seconds, result)."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def clocked(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return (seconds, processor seconds of all threads, result)."""
    start, processor = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - start, time.process_time() - processor, result


def quartiles(seconds: list[float]) -> str:
    """Return median and quartiles in milliseconds."""
    q1, q2, q3 = np.percentile(np.array(seconds) * 1e3, [25, 50, 75])
    return f"{q2:.3g} ms [{q1:.3g}, {q3:.3g}]"


def machine() -> str:
    """Describe the machine in one line."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":")[1].strip()
                break
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return (
        f"{model}, {os.cpu_count()} processors{load}, {platform.system()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )


def memory_bandwidth() -> float:
    """Return bytes per second of reading a large array once."""
    block = np.ones(8_000_000)
    return float(block.nbytes / min(timed(block.sum)[0] for _ in range(3)))


def patients(model: edx.Model) -> list[tuple[str, Any]]:
    """Return the published patients, one entry per stage: name and evidence."""
    found = []
    for path in sorted((ROOT / "cases").glob("*.yaml")):
        case = read_case(path)
        for stage in case.stage_names:
            raw = case.evidence(stage, canonical=model.canonical_name).raw
            found.append((f"{path.stem}, {stage}", model.read_evidence(raw)))
    return found


def sample_states(network: Network, rng: np.random.Generator) -> dict[int, int]:
    """Draw all variables from the tables (potentials left out)."""
    states: dict[int, int] = {}
    left = [f for f in network.factors if f.child is not None]
    while left:
        rest = []
        for factor in left:
            *parents, child = factor.variables
            if any(p not in states for p in parents):
                rest.append(factor)
                continue
            column = np.cumsum(factor.table[tuple(states[p] for p in parents)])
            states[child] = int(min(np.searchsorted(column, rng.random()), len(column) - 1))
        left = rest
    return states


def random_cases(
    model: edx.Model, count: int, fewest: int, most: int, soft: float, seed: int
) -> list[dict[int, np.ndarray]]:
    """Draw patients and let some of their findings be known; a share of them uncertain."""
    rng = np.random.default_rng(seed)
    names = list(model.variables)
    candidates = [i for i, n in enumerate(names) if not model.variables[n].latent]
    network = model.plan.network
    pool = [sample_states(network, rng) for _ in range(min(count, 300))]
    cases = []
    for i in range(count):
        states = pool[i % len(pool)]
        case: dict[int, np.ndarray] = {}
        some = rng.permutation(candidates)[: int(rng.integers(fewest, most + 1))]
        for v in some.tolist():
            k = network.cardinalities[v]
            case[v] = np.eye(k)[states[v]]
            if rng.random() < soft:
                case[v] = 0.9 * case[v] + 0.1 * rng.random(k)
        cases.append(case)
    return cases


def stack(cases: list[dict[int, np.ndarray]], network: Network) -> dict[int, np.ndarray]:
    """Return cases with hard findings as one batch of states."""
    states = np.full((len(cases), network.size), -1, dtype=np.int64)
    for row, case in enumerate(cases):
        for v, weights in case.items():
            states[row, v] = int(weights.argmax())
    return {v: states[:, v].copy() for v in range(network.size) if (states[:, v] >= 0).any()}


def bits_of(joints: dict[int, np.ndarray], cause_of: np.ndarray) -> dict[int, float]:
    """Return the information of every variable about the causes, summed from mechanisms."""
    by_cause = np.eye(cause_of.max() + 1)[cause_of].T
    return {v: float(mutual_information(by_cause @ joint)) for v, joint in joints.items()}


def single_jobs(
    model: edx.Model, options: argparse.Namespace, out: dict[str, Any]
) -> list[Row]:
    """Time main jobs and posteriors of single patients; check every number on the way."""
    without = options.without
    position = {n: i for i, n in enumerate(model.variables)}
    etiology, cause = position["etiology"], position["lesion_cause"]
    network = model.plan.network
    cause_of = next(f.table for f in network.factors if f.child == cause).argmax(axis=1)
    cases = patients(model)
    models = {b: edx.load_model(backend=b) for b in ("numba", "numpy") if b not in without}
    jobs: dict[str, Callable[[Any], Any]] = {}
    for backend, one in models.items():
        jobs[f"{backend} main job"] = lambda e, m=one: m.query(e)
        jobs[f"{backend} posterior only"] = lambda e, m=one: m.run(
            e, target=("lesion_cause",), want=()
        )
        jobs[f"{backend} labelled diagnose"] = lambda e, m=one: m.diagnose(e)
    peers = {}
    if "pyagrum" not in without:
        for method in ("ShaferShenoyInference", "LazyPropagation"):
            peers[f"pyAgrum {method}"] = PyAgrumPeer(network, etiology, method)
    pgmpy = None if "pgmpy" in without else PgmpyPeer(network, etiology)
    for job in jobs.values():
        job(cases[0][1])
    spent: dict[str, list[float]] = {}
    worst = 0.0
    worked: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}
    work_ratios: dict[str, list[float]] = {}
    settled_ratios: dict[str, list[float]] = {}
    settled: list[float] = []
    first = "numba" if "numba" in models else "numpy"
    for number in range(options.rounds):
        name, evidence = cases[(number * 5) % len(cases)]
        arrays = model.arrays(evidence)
        mine, mine_processor = {}, {}
        for label, job in jobs.items():
            # Ratios take the first of the three calls: like the peers' only one, it finds the
            # cache full of another engine's tables. (A second call of a peer would be answered
            # from what it kept of the first.)
            runs = [clocked(lambda j=job, e=evidence: j(e)) for _ in range(3)]
            mine[label], mine_processor[label], _ = runs[0]
            spent.setdefault(label, []).extend(seconds for seconds, _, _ in runs)
            worked.setdefault(label, []).extend(seconds for _, seconds, _ in runs)
        # Settled: every engine has just answered another patient and has its own tables at hand.
        before = cases[(number * 5 + 1) % len(cases)][1]
        before_arrays = model.arrays(before)
        models[first].query(before)
        own, _, expected = clocked(lambda e=evidence: models[first].query(e))
        settled.append(own)
        for label, peer in peers.items():
            seconds, processor, joints = clocked(lambda p=peer, c=arrays: p.joints(c))
            peer.joints(before_arrays)
            again, _, _ = clocked(lambda p=peer, c=arrays: p.joints(c))
            settled_ratios.setdefault(label, []).append(again / own)
            spent.setdefault(label, []).append(seconds)
            worked.setdefault(label, []).append(processor)
            ratios.setdefault(label, []).append(seconds / mine[f"{first} main job"])
            work_ratios.setdefault(label, []).append(
                processor / mine_processor[f"{first} main job"]
            )
            difference = max(
                abs(bits - expected.information[v])
                for v, bits in bits_of(joints, cause_of).items()
            )
            worst = max(worst, difference)
        if pgmpy is not None and number < options.pgmpy:
            open_ones = [
                v
                for v in range(network.size)
                if v != etiology and not (v in arrays and hard_state(arrays[v]) is not None)
            ]
            seconds, processor, joints = clocked(
                lambda a=arrays, o=open_ones: {v: pgmpy.joint(a, v) for v in o}
            )
            label = "pgmpy VariableElimination"
            worked.setdefault(label, []).append(processor)
            spent.setdefault(label, []).append(seconds)
            ratios.setdefault(label, []).append(seconds / mine[f"{first} main job"])
            for v, bits in bits_of(joints, cause_of).items():
                worst = max(worst, abs(bits - expected.information[v]))
    out["median_ms"] = {n: statistics.median(s) * 1e3 for n, s in spent.items()}
    for label, seconds_of in spent.items():
        print(f"  {label:34s} {quartiles(seconds_of)}  (n={len(seconds_of)}); of a processor "
              f"{quartiles(worked[label])}")
    print(f"  largest difference to the peers: {worst:.1e} bits")
    out["worst_difference_bits"] = worst
    goals = {
        "numba main job": "0.5 ms",
        "numpy main job": "1.5 ms",
    }
    rows = [
        (n, f"{quartiles(s)}; of a processor {statistics.median(worked[n]) * 1e3:.3g} ms",
         goals.get(n, ""))
        for n, s in spent.items()
    ]
    best = [r for n, r in ratios.items() if "pyAgrum" in n]
    if best:
        fewest = [min(pair) for pair in zip(*best, strict=True)]
        out["times_pyagrum"] = statistics.median(fewest)
        rows.append((f"pyAgrum's best / {first} main job", f"{statistics.median(fewest):.0f} x "
                     f"[{min(fewest):.0f}, {max(fewest):.0f}]", "60 x"))
        works = [r for n, r in work_ratios.items() if "pyAgrum" in n]
        fewest = [min(pair) for pair in zip(*works, strict=True)]
        out["times_pyagrum_processor"] = statistics.median(fewest)
        rows.append(("the same by processor time", f"{statistics.median(fewest):.0f} x "
                     f"[{min(fewest):.0f}, {max(fewest):.0f}]", "60 x"))
        both = [r for n, r in settled_ratios.items() if "pyAgrum" in n]
        fewest = [min(pair) for pair in zip(*both, strict=True)]
        out["times_pyagrum_settled"] = statistics.median(fewest)
        rows.append((f"the same, each engine having just answered another patient ({first} "
                     f"{statistics.median(settled) * 1e3:.3g} ms)",
                     f"{statistics.median(fewest):.0f} x [{min(fewest):.0f}, {max(fewest):.0f}]",
                     "60 x"))
    if pgmpy is not None:
        times = ratios["pgmpy VariableElimination"]
        rows.append((f"pgmpy / {first} main job", f"{statistics.median(times):,.0f} x", "1,000 x"))
    rows.append(("largest difference to pgmpy and pyAgrum", f"{worst:.1e} bits", "1e-9"))
    floor = network.cells * 8 / memory_bandwidth()
    adds = [
        model.plan.multiply_adds(
            cause, [v for v, w in model.arrays(e).items() if hard_state(w) is not None]
        )
        for _, e in cases
    ]
    rows.append(("multiply-adds of a patient", f"{statistics.median(adds):,.0f} "
                 f"[{min(adds):,}, {max(adds):,}]", "300,000"))
    took = out["median_ms"][f"{first} main job"] / 1e3
    rows.append((f"{first} main job / reading all tables once ({floor * 1e6:.0f} us)",
                 f"{took / floor:.0f} x", ""))
    return rows


def batches(model: edx.Model, options: argparse.Namespace, out: dict[str, Any]) -> list[Row]:
    """Time batches and the two-step look-ahead."""
    network, rows = model.plan.network, []
    position = {n: i for i, n in enumerate(model.variables)}
    cause = position["lesion_cause"]
    some = random_cases(model, 10_000, 4, 24, 0.0, 1)
    for case in some:
        for v in model.plan.usually_observed:
            case.setdefault(v, np.eye(network.cardinalities[v])[0])
    every = stack(some, network)
    for backend in ("numba", "numpy"):
        if backend in options.without:
            continue
        count = 10_000 if backend == "numba" else 400
        batch = {v: states[:count] for v, states in every.items()}
        engine = Engine(model.plan, backend)
        for label, want, goal in (
            ("main jobs", ("information",), "10,000 / s"), ("posteriors", (), "40,000 / s")
        ):
            engine.run({v: s[:64] for v, s in batch.items()}, target=cause, want=want)
            clocks = [
                clocked(lambda e=engine, w=want, b=batch: e.run(b, target=cause, want=w))[:2]
                for _ in range(3)
            ]
            seconds = min(wall for wall, _ in clocks)
            processor = min(work for _, work in clocks)
            out[f"{backend} {label}"] = count / seconds
            rows.append((f"{backend} batch of {count:,}, {label}",
                         f"{count / seconds:,.0f} / s; {processor / count * 1e6:.0f} us of a "
                         "processor each", goal if backend == "numba" else ""))
        if backend == "numba":
            # 100,000 in chunks, no longer than the time that is left for it.
            tracemalloc.start()
            start, done = time.perf_counter(), 0
            while done < 100_000 and time.perf_counter() - start < options.seconds:
                engine.run(batch, target=cause, want=("information",))
                done += count
            seconds = time.perf_counter() - start
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            rows.append((f"numba {done:,} of 100,000 main jobs, chunks of {count:,}",
                         f"{done / seconds:,.0f} / s, {peak / 1e6:.0f} MB", "bounded memory"))
        evidence = model.arrays(patients(model)[-1][1])
        ahead = []
        for v, name in enumerate(model.variables):
            if v not in evidence and not model.variables[name].latent:
                k = network.cardinalities[v]
                ahead += [evidence | {v: np.eye(k)[state]} for state in range(k)]
        wide = {
            v: np.stack([case.get(v, np.ones(network.cardinalities[v])) for case in ahead])
            for v in {v for case in ahead for v in case}
        }
        engine.run(wide, target=cause, want=("information",))
        seconds, _ = timed(
            lambda e=engine, w=wide: e.run(w, target=cause, want=("information",))
        )
        rows.append((f"{backend} two-step look-ahead = {len(ahead)} main jobs",
                     f"{seconds * 1e3:.0f} ms", ""))
    return rows


def parameter_draws(
    model: edx.Model, options: argparse.Namespace, out: dict[str, Any]
) -> list[Row]:
    """Time the bank of draws and the main job under all draws."""
    from epidural_dx.network.draws import draw_tables, factor_tables

    count = options.draws
    cause = list(model.variables).index("lesion_cause")
    built, literature = model.built, model.literature
    priors = ROOT / "priors"
    drawing, drawing_work, drawn = clocked(
        lambda: draw_tables(built, built.structure, literature, priors, count, 0)[0]
    )
    engine = Engine(model.plan)
    packing, packing_work, bank = clocked(
        lambda: engine.bank(factor_tables(drawn, model.plan.network))
    )
    rows = [
        (f"drawing {count:,} parameter sets",
         f"{drawing:.1f} s; of a processor {drawing_work:.1f} s", "2 s with packing"),
        ("packing them", f"{packing:.1f} s; of a processor {packing_work:.1f} s", ""),
        ("bank of draws in memory", f"{bank.bytes / 1e6:.0f} MB", "200 MB"),
    ]
    name, evidence = max(patients(model), key=lambda p: len(p[1].likelihoods))
    arrays = model.arrays(evidence)
    engine.run(arrays, target=cause, want=("information",), bank=bank)
    clocks = [
        clocked(lambda: engine.run(arrays, target=cause, want=("information",), bank=bank))[:2]
        for _ in range(5)
    ]
    seconds = [wall for wall, _ in clocks]
    out["draws_s"] = min(seconds)
    rows.append((f"{count:,} draws x main job ({engine.backend}; {name})",
                 f"{min(seconds):.3f} s, median {statistics.median(seconds):.3f} s; of a "
                 f"processor {min(work for _, work in clocks):.3f} s", "0.15 s"))
    return rows


def starts(model: edx.Model) -> list[Row]:
    """Time compilation, pickling and cold starts of the command."""
    plan = model.plan
    seconds, _ = timed(
        lambda: compile_network(
            plan.network, *plan.targets, usually_observed=plan.usually_observed
        )
    )
    size = plan.size()
    rows = [
        ("compiling the plan", f"{seconds:.1f} s, {size['contractions']} contractions for "
         f"{len(plan.targets)} targets, {size['table_cells']:,} table cells", ""),
    ]
    case = ROOT / "cases" / "melanoma_marrow_hematoma.yaml"
    code = "import sys; from epidural_dx.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "diagnose", str(case), "--no-tests"]
    with tempfile.TemporaryDirectory() as folder:
        settings = os.environ | {"EPIDURAL_DX_CACHE": folder}

        def ask(*options: str) -> float:
            seconds, answer = timed(
                lambda: subprocess.run(
                    [*command, *options], capture_output=True, env=settings, check=False
                )
            )
            if answer.returncode:
                raise RuntimeError(answer.stderr.decode())
            return seconds

        first = ask("--no-intervals")
        bare = [ask("--no-intervals") for _ in range(5)]
        drawing = ask()
        whole = [ask() for _ in range(5)]
    name = "epidural-dx diagnose CASE --no-tests"
    rows.append((f"{name} --no-intervals, nothing compiled", f"{first:.1f} s", ""))
    rows.append(("the same, compiled model on disk",
                 f"{statistics.median(bare):.2f} s (best {min(bare):.2f})", "0.8 s"))
    rows.append((f"{name}, 200 draws to be made", f"{drawing:.1f} s", ""))
    rows.append(("the same, draws on disk",
                 f"{statistics.median(whole):.2f} s (best {min(whole):.2f})", ""))
    tracemalloc.start()
    model.query(patients(model)[-1][1])
    peak = tracemalloc.get_traced_memory()[1]
    rows.append(("memory of a first main job (kernels included)", f"{peak / 1e6:.0f} MB", ""))
    tracemalloc.stop()
    return rows


def public_network(name: str) -> Network:
    """Read a public network from the files inside the installed pgmpy package."""
    from pgmpy.readwrite import BIFReader

    packed = files("pgmpy").joinpath("utils", "example_models", f"{name}.bif.gz").read_bytes()
    model = BIFReader(string=gzip.decompress(packed).decode()).get_model()
    names = sorted(model.nodes())
    number = {node: i for i, node in enumerate(names)}
    factors = []
    for node in names:
        cpd = model.get_cpds(node)
        table = np.moveaxis(cpd.values, 0, -1)
        table = table / table.sum(axis=-1, keepdims=True)
        variables = (*(number[p] for p in cpd.variables[1:]), number[node])
        factors.append(Factor(variables, table, number[node]))
    return Network(tuple(int(model.get_cardinality(n)) for n in names), tuple(factors))


def public_jobs(name: str, rounds: int) -> list[Row]:
    """Time main jobs on a public network."""
    network = public_network(name)
    rng = np.random.default_rng(0)
    target = max(range(network.size), key=lambda v: network.cardinalities[v])
    engine = Engine(compile_network(network, target))
    peer = PyAgrumPeer(network, target, "LazyPropagation")
    mine, theirs, worst = [], [], 0.0
    for _ in range(rounds):
        states = sample_states(network, rng)
        seen = rng.permutation(network.size)[: int(rng.integers(0, 8))]
        case = {
            int(v): np.eye(network.cardinalities[v])[states[int(v)]] for v in seen if v != target
        }
        engine.run(case, want=("joints", "information"))
        seconds, result = timed(lambda c=case: engine.run(c, want=("joints", "information")))
        mine.append(seconds)
        seconds, joints = timed(lambda c=case: peer.joints(c))
        theirs.append(seconds)
        worst = max(worst, *(np.abs(result.joints[v][0] - j).max() for v, j in joints.items()))
    ratio = statistics.median(theirs) / statistics.median(mine)
    return [(f"{name}: main job, pyAgrum Lazy / {engine.backend}",
             f"{quartiles(mine)}, {ratio:.0f} x, difference {worst:.0e}", "")]


def verify(model: edx.Model, count: int, seed: int = 0) -> tuple[float, float]:
    """Compare every number with pyAgrum on random evidence sets, three of each with pgmpy.

    Returns
    -------
    tuple of float
        Largest difference of any probability to pyAgrum and to pgmpy.
    """
    network = model.plan.network
    etiology = list(model.variables).index("etiology")
    cause = list(model.variables).index("lesion_cause")
    by_cause = next(f.table for f in network.factors if f.child == cause).T
    peer = PyAgrumPeer(network, etiology, "LazyPropagation")
    pgmpy = PgmpyPeer(network, etiology)
    engines = [Engine(model.plan, b) for b in ("numba", "numpy")]
    scale = sum(np.log(f.table.max()) for f in network.factors if f.child is None)
    rng = np.random.default_rng(seed)
    to_pyagrum = to_pgmpy = 0.0
    cases = random_cases(model, count, 0, 40, 0.2, seed)
    whole = as_batch(cases, network)
    batch = engines[0].run(whole, target=etiology)
    about_cause = engines[0].run(whole, target=cause)
    for number, case in enumerate(cases):
        results = [(e.run(case, target=etiology), 0) for e in engines] + [(batch, number)]
        if not all(bool(r.possible[i]) for r, i in results):
            if any(bool(r.possible[i]) for r, i in results):
                raise AssertionError("backends disagree on what is impossible")
            continue
        joints = peer.joints(case)
        # Another program answers about the causes: it is checked against the same tables summed.
        causes = [(e.run(case, target=cause), 0) for e in engines] + [(about_cause, number)]
        for result, i in causes:
            for v, joint in joints.items():
                difference = np.abs(result.joints[v][i] - by_cause @ joint).max()
                to_pyagrum = max(to_pyagrum, float(difference))
                difference = abs(result.information[i, v] - mutual_information(by_cause @ joint))
                to_pyagrum = max(to_pyagrum, float(difference))
        for result, i in results:
            difference = abs(result.log_evidence[i] - sum(
                np.log(w.max()) for w in case.values()
            ) - scale - peer.log_evidence())
            to_pyagrum = max(to_pyagrum, float(difference))
            for v, joint in joints.items():
                difference = np.abs(result.joints[v][i] - joint).max()
                to_pyagrum = max(to_pyagrum, float(difference))
        for v in rng.permutation(list(joints))[:3].tolist():
            difference = np.abs(results[0][0].joints[v][0] - pgmpy.joint(case, v)).max()
            to_pgmpy = max(to_pgmpy, float(difference))
    return to_pyagrum, to_pgmpy


def as_batch(cases: list[dict[int, np.ndarray]], network: Network) -> dict[int, np.ndarray]:
    """Return cases of any kind as likelihoods per row."""
    batch = {}
    for v in sorted({v for case in cases for v in case}):
        open_one = np.ones(network.cardinalities[v])
        batch[v] = np.stack([case.get(v, open_one) for case in cases])
    return batch


def report(rows: list[Row]) -> str:
    """Return the table in Markdown."""
    lines = ["| job | measured | goal |", "|---|---|---|"]
    return "\n".join(lines + [f"| {a} | {b} | {c} |" for a, b, c in rows])


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=26)
    parser.add_argument("--pgmpy", type=int, default=2, help="rounds with pgmpy (10 s each)")
    parser.add_argument("--seconds", type=float, default=20.0, help="for the 100,000 main jobs")
    parser.add_argument("--draws", type=int, default=1_000)
    parser.add_argument("--without", default="", help="numba,numpy,pyagrum,pgmpy,batches,draws")
    parser.add_argument("--public", default="asia,alarm,insurance,hailfinder")
    parser.add_argument("--verify", type=int, default=0, help="compare so many evidence sets")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--write", help="put the table into this Markdown file")
    options = parser.parse_args()
    options.without = {name for name in options.without.split(",") if name}
    model = edx.load_model()
    if options.verify:
        to_pyagrum, to_pgmpy = verify(model, options.verify)
        print(f"{options.verify} evidence sets: largest difference to pyAgrum {to_pyagrum:.1e}, "
              f"to pgmpy {to_pgmpy:.1e}")
        if max(to_pyagrum, to_pgmpy) > 1e-9:
            sys.exit("differences above 1e-9")
        return
    about = machine()
    print(about)
    figures: dict[str, Any] = {"machine": about}
    rows = single_jobs(model, options, figures)
    if "batches" not in options.without:
        rows += batches(model, options, figures)
    if "draws" not in options.without:
        rows += parameter_draws(model, options, figures)
    rows += starts(model)
    for name in filter(None, options.public.split(",")):
        rows += public_jobs(name, min(options.rounds, 10))
    table = report(rows)
    print(table)
    if options.json:
        Path(options.json).write_text(json.dumps(figures | {"rows": rows}, indent=2))
    if options.write:
        page = Path(options.write)
        text = page.read_text()
        begin, end = "<!-- table -->", "<!-- end of table -->"
        head, rest = text.split(begin)
        tail = rest.split(end)[1]
        page.write_text(f"{head}{begin}\n{about}\n\n{table}\n{end}{tail}")


if __name__ == "__main__":
    main()
