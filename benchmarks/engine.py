"""Time the inference engine against pgmpy and pyAgrum, in interleaved rounds on the same cases.

    python benchmarks/engine.py [NETWORK.pkl] [--target N] [--rounds N] [--public alarm,...]
                                [--without pgmpy,pyagrum] [--json FILE]

Without an argument the synthetic network of `synthetic_network.py` is used. NETWORK.pkl is a
pickled `epidural_dx.inference.Network`, or a pickled dict with the keys ``network``, ``target``,
``observed`` (usually observed variables), ``findings`` (variables cases may observe) and
optionally ``cases`` (list of dicts variable -> state). Run it with PYTHONPATH=src from a checkout.

The main job: posterior of the target, and the mutual information of the target and every open
variable given the evidence. pyAgrum is used as its best user would: joint targets declared once,
one engine for all cases. pgmpy answers with one variable elimination per open variable; it is
timed on fewer cases, and agreement is checked on every number.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pickle
import platform
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from epidural_dx.inference import (
    Engine,
    Factor,
    Network,
    compile_network,
    mutual_information,
)

sys.path.insert(0, str(Path(__file__).parent))
import synthetic_network  # noqa: E402

Case = dict[int, int]


def quartiles(seconds: list[float]) -> str:
    """Return median and quartiles in milliseconds."""
    q1, q2, q3 = np.percentile(np.array(seconds) * 1e3, [25, 50, 75])
    return f"{q2:9.3f} ms  [{q1:.3f}, {q3:.3f}]"


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return (seconds, result)."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


class PyAgrumPeer:
    """pyAgrum with joint targets {target, variable} declared once."""

    def __init__(self, network: Network, target: int, shared: int, method: str) -> None:
        import pyagrum as gum

        self.network, self.target, self.shared = network, target, shared
        bn = gum.BayesNet()
        for v, k in enumerate(network.cardinalities):
            bn.add(gum.LabelizedVariable(f"v{v}", "", k))
        self.always: dict[str, int] = {}
        for number, factor in enumerate(network.factors):
            if factor.child is not None:
                child, table = f"v{factor.child}", factor.table
                parents = [f"v{p}" for p in factor.variables[:-1]]
            else:
                child = f"s{number}"
                bn.add(gum.LabelizedVariable(child, "", 2))
                accept = factor.table / factor.table.max()
                table = np.stack([accept, 1 - accept], axis=-1)
                parents = [f"v{p}" for p in factor.variables]
                self.always[child] = 0
            for parent in parents:
                bn.addArc(parent, child)
            wanted = [*parents, child]
            have = list(bn.cpt(child).names)[::-1]
            bn.cpt(child)[:] = np.ascontiguousarray(
                table.transpose([wanted.index(name) for name in have])
            )
        self.engine = getattr(gum, method)(bn)
        self.engine.setNumberOfThreads(1)
        for v in range(network.size):
            if v not in (target, shared):
                self.engine.addJointTarget({f"v{shared}", f"v{v}"})
        self.engine.addJointTarget({f"v{shared}", f"v{target}"})

    def __call__(self, case: Case) -> np.ndarray:
        """Return the information of every open variable about the target."""
        network, shared, target = self.network, self.shared, self.target
        self.engine.setEvidence(self.always | {f"v{v}": s for v, s in case.items()})
        self.engine.makeInference()
        link = self._joint(shared, target)
        # The coarse target is a function of the variable in the joint targets: sum to it.
        given = np.divide(
            link, link.sum(axis=1, keepdims=True), out=np.zeros_like(link),
            where=link.sum(axis=1, keepdims=True) > 0,
        )
        bits = np.zeros(network.size)
        for v in range(network.size):
            if v in case or v in (target, shared):
                continue
            joint = self._joint(shared, v)
            bits[v] = mutual_information(given.T @ joint if target != shared else joint)
        return bits

    def _joint(self, a: int, b: int) -> np.ndarray:
        if a == b:
            return np.diag(self.engine.posterior(f"v{a}").toarray())
        table = self.engine.jointPosterior({f"v{a}", f"v{b}"})
        array: np.ndarray = table.toarray()
        return array if list(table.names)[::-1] == [f"v{a}", f"v{b}"] else array.T


class PgmpyPeer:
    """pgmpy's variable elimination, one query per open variable."""

    def __init__(self, network: Network, target: int) -> None:
        from pgmpy.factors.discrete import TabularCPD
        from pgmpy.inference import VariableElimination
        from pgmpy.models import DiscreteBayesianNetwork

        self.network, self.target = network, target
        model = DiscreteBayesianNetwork()
        model.add_nodes_from([f"v{v}" for v in range(network.size)])
        cpds = []
        self.always: dict[str, int] = {}
        for number, factor in enumerate(network.factors):
            if factor.child is not None:
                child, table = f"v{factor.child}", factor.table
                parents = factor.variables[:-1]
            else:
                child = f"s{number}"
                accept = factor.table / factor.table.max()
                table = np.stack([accept, 1 - accept], axis=-1)
                parents = factor.variables
                self.always[child] = 0
                model.add_node(child)
            model.add_edges_from([(f"v{p}", child) for p in parents])
            k = table.shape[-1]
            cpds.append(
                TabularCPD(
                    child, k, np.moveaxis(table, -1, 0).reshape(k, -1),
                    evidence=[f"v{p}" for p in parents] or None,
                    evidence_card=[network.cardinalities[p] for p in parents] or None,
                )
            )
        model.add_cpds(*cpds)
        self.engine = VariableElimination(model)

    def __call__(self, case: Case) -> np.ndarray:
        """Return the information of every open variable about the target."""
        evidence = self.always | {f"v{v}": s for v, s in case.items()}
        bits = np.zeros(self.network.size)
        for v in range(self.network.size):
            if v in case or v == self.target:
                continue
            answer = self.engine.query(
                [f"v{self.target}", f"v{v}"], evidence=evidence, show_progress=False
            )
            table = answer.values
            if list(answer.variables) != [f"v{self.target}", f"v{v}"]:
                table = table.T
            bits[v] = mutual_information(table)
        return bits


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


def sample(
    network: Network,
    rng: np.random.Generator,
    candidates: list[int],
    count: int,
    always: tuple[int, ...] = (),
) -> Case:
    """Draw a possible case from the tables (potentials left out).

    The variables of `always` and `count` of the candidates are observed.
    """
    states: Case = {}
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
    others = [v for v in candidates if v in states and v not in always]
    chosen = rng.choice(others, size=min(count, len(others)), replace=False)
    return {int(v): states[int(v)] for v in (*always, *chosen) if v in states}


def drawn_tables(network: Network, draws: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return tables that vary by a tenth between draws; zeros stay zeros."""
    tables = []
    for factor in network.factors:
        table = factor.table * rng.uniform(0.9, 1.1, size=(draws, *factor.table.shape))
        if factor.child is not None:
            table = table / table.sum(axis=-1, keepdims=True)
        tables.append(table)
    return tables


def memory_bandwidth() -> float:
    """Return bytes per second of reading a large array once."""
    block = np.ones(8_000_000)
    best = min(timed(lambda: block.sum())[0] for _ in range(3))
    return float(block.nbytes / best)


def bench(
    label: str,
    network: Network,
    target: int,
    observed: tuple[int, ...],
    cases: list[Case],
    rounds: int,
    without: set[str],
    shared: int | None = None,
) -> dict[str, Any]:
    """Time one network; return the figures."""
    out: dict[str, Any] = {"network": label}
    seconds, plan = timed(lambda: compile_network(network, target, usually_observed=observed))
    program = plan.programs[plan.target_programs[0]]
    out["compile_s"] = seconds
    out["multiply_adds"] = plan.multiply_adds()
    floor = network.cells * 8 / memory_bandwidth()
    out["floor_ms"] = floor * 1e3
    print(f"\n== {label}: {network.size} variables, {network.cells} cells, "
          f"target of {network.cardinalities[target]} states")
    print(f"compile {seconds:.2f} s; {len(program.collect)} + "
          f"{len(program.distribution(plan.carried[0]).steps)} contractions, "
          f"{plan.multiply_adds():,} multiply-adds; floor (tables read once) {floor * 1e6:.0f} us")

    engines = {b: Engine(plan, backend=b) for b in ("numpy", "numba") if b not in without}
    jobs: dict[str, Callable[[Case], Any]] = {}
    for backend, engine in engines.items():
        jobs[f"{backend} main job"] = lambda c, e=engine: e.run(c, want=("information",))
        jobs[f"{backend} posterior only"] = lambda c, e=engine: e.log_evidence_many(c)
    peers: dict[str, Callable[[Case], np.ndarray]] = {}
    if "pyagrum" not in without:
        for method in ("ShaferShenoyInference", "LazyPropagation"):
            peers[f"pyAgrum {method}"] = PyAgrumPeer(
                network, target, target if shared is None else shared, method
            )
    if "pgmpy" not in without:
        peers["pgmpy VariableElimination"] = PgmpyPeer(network, target)
    for job in jobs.values():
        job(cases[0])
    seconds_by: dict[str, list[float]] = {name: [] for name in (*jobs, *peers)}
    worst = 0.0
    for number in range(rounds):
        case = cases[number % len(cases)]
        expected = None
        for name, job in jobs.items():
            seconds, result = timed(lambda j=job, c=case: j(c))
            seconds_by[name].append(seconds)
            if "main job" in name:
                expected = result.information[0]
        for name, peer in peers.items():
            if "pgmpy" in name and number >= max(1, rounds // 10):
                continue
            seconds, bits = timed(lambda p=peer, c=case: p(c))
            seconds_by[name].append(seconds)
            if expected is not None:
                open_variables = [v for v in range(network.size) if v not in case]
                skip = {target, shared}
                difference = [abs(bits[v] - expected[v]) for v in open_variables if v not in skip]
                worst = max(worst, *difference)
    # Many more rounds for what is fast.
    for _ in range(5):
        for case in cases:
            for name, job in jobs.items():
                seconds_by[name].append(timed(lambda j=job, c=case: j(c))[0])
    out["median_ms"] = {n: statistics.median(s) * 1e3 for n, s in seconds_by.items() if s}
    for name, values in seconds_by.items():
        print(f"  {name:32s} {quartiles(values)}  (n={len(values)})")
    if peers:
        print(f"  largest difference of any information value: {worst:.1e} bits")
        out["worst_difference_bits"] = worst
        mine = out["median_ms"][f"{list(engines)[-1]} main job"]
        for name in peers:
            ratio = out["median_ms"][name] / mine
            print(f"  {name} / {list(engines)[-1]} main job: {ratio:.0f}x")
        print(f"  {list(engines)[-1]} main job / floor: {mine / (floor * 1e3):.1f}x")
    return out


def bench_batches(
    network: Network, target: int, observed: tuple[int, ...], cases: list[Case], backend: str
) -> dict[str, float]:
    """Time batches and draws of one backend."""
    plan = compile_network(network, target, usually_observed=observed)
    out: dict[str, float] = {}
    print(f"\n-- batches, {backend}")
    for rows in (1_000, 10_000) if backend == "numba" else (200,):
        states = np.full((rows, network.size), -1, dtype=np.int64)
        for i in range(rows):
            for v, s in cases[i % len(cases)].items():
                states[i, v] = s
        batch = {v: states[:, v].copy() for v in range(network.size) if (states[:, v] >= 0).any()}
        for threads in (1, 2) if backend == "numba" else (1,):
            engine = Engine(plan, backend=backend, threads=threads)
            for label, want in (("main jobs", ("information",)), ("posteriors", ())):
                engine.run({v: s[:64] for v, s in batch.items()}, want=want)
                seconds = min(timed(lambda e=engine, w=want, b=batch: e.run(b, want=w))[0]
                              for _ in range(2))
                out[f"{label}_{rows}_{threads}"] = rows / seconds
                print(f"  {rows:6d} {label:10s} {threads} thread(s): {rows / seconds:10,.0f} / s")
    draws = 1_000 if backend == "numba" else 100
    engine = Engine(plan, backend=backend)
    tables = drawn_tables(network, draws, np.random.default_rng(0))
    seconds, bank = timed(lambda: engine.bank(tables))
    print(f"  bank of {draws} draws: {bank.bytes / 1e6:.0f} MB, packed in {seconds:.2f} s")
    engine.run(cases[0], bank=bank, want=("information",))
    seconds = min(
        timed(lambda: engine.run(cases[0], bank=bank, want=("information",)))[0] for _ in range(3)
    )
    out[f"draws_{draws}_s"] = seconds
    print(f"  {draws} draws x main job: {seconds:.3f} s")
    pair = [v for v in range(network.size) if v not in cases[0] and v != target][-2:]
    seconds, _ = timed(lambda: engine.joint(cases[0], pair, target=target))
    print(f"  joint of the target and a panel of two: {seconds * 1e3:.2f} ms")
    tracemalloc.start()
    engine.run(cases[0], want=("information",))
    print(f"  memory of one main job: {tracemalloc.get_traced_memory()[1] / 1e6:.2f} MB")
    tracemalloc.stop()
    return out


def cold_start(backend: str) -> None:
    """Time the import and first answer in a fresh process (the interpreter's cache on disk)."""
    code = (
        "import time; t=time.perf_counter(); import numpy as np\n"
        "from epidural_dx.inference import *\n"
        "n=Network((2,2),(Factor((0,),np.array([.4,.6]),0),"
        "Factor((0,1),np.array([[.9,.1],[.2,.8]]),1)))\n"
        f"Engine(compile_network(n,0),backend={backend!r}).run({{1:1}})\n"
        "print(time.perf_counter()-t)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    print(f"  import + first answer, {backend}: {float(answer.stdout):.2f} s")


def machine() -> str:
    """Describe the machine in one line."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists(
        "/proc/cpuinfo"
    ) else []:
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    return (f"{model}, {os.cpu_count()} processors, {platform.system()}, "
            f"Python {platform.python_version()}, numpy {np.__version__}")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", help="pickled network (default: synthetic)")
    parser.add_argument("--target", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--without", default="", help="numba,numpy,pyagrum,pgmpy,batches")
    parser.add_argument("--public", default="", help="asia,alarm,insurance,hailfinder,…")
    parser.add_argument("--json", help="write the figures to this file")
    options = parser.parse_args()
    without = {name for name in options.without.split(",") if name}
    print(machine())
    rng = np.random.default_rng(0)
    shared = None
    if options.network:
        content = pickle.loads(Path(options.network).read_bytes())
        given = content if isinstance(content, dict) else {"network": content}
        network = given["network"]
        target = options.target if options.target is not None else given.get("target", 0)
        observed = tuple(given.get("observed", ()))
        shared = given.get("shared")
        cases = given.get("cases") or [
            sample(
                network,
                rng,
                given.get("findings") or [v for v in range(network.size) if v != target],
                int(rng.integers(4, 15)),
                observed,
            )
            for _ in range(30)
        ]
        label = Path(options.network).stem
    else:
        made = synthetic_network.build()
        network, names = made.network, made.names
        target, shared = names["lesion_cause"], names["etiology"]
        observed = (names["age_group"], names["sex"])
        cases = [
            synthetic_network.random_case(made, rng, int(rng.integers(4, 15))) for _ in range(30)
        ]
        label = "synthetic"
    figures: dict[str, Any] = {"machine": machine()}
    figures[label] = bench(
        label, network, target, observed, cases, options.rounds, without, shared
    )
    if "batches" not in without:
        for backend in ("numba", "numpy"):
            if backend not in without:
                figures[label][backend] = bench_batches(network, target, observed, cases, backend)
                cold_start(backend)
    for name in filter(None, options.public.split(",")):
        public = public_network(name)
        goal = max(range(public.size), key=lambda v: public.cardinalities[v])
        few = min(8, public.size - 2)
        open_ones = [v for v in range(public.size) if v != goal]
        some = [sample(public, rng, open_ones, int(rng.integers(0, few))) for _ in range(10)]
        figures[name] = bench(name, public, goal, (), some, min(options.rounds, 10), without)
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
