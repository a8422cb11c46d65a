"""Time intervals and sensitivity on the published patients, against doing it the long way.

    PYTHONPATH=src python benchmarks/sensitivity.py [--rounds N] [--draws N]
                                                    [--write docs/sensitivity.md]

*The long way* is what a user of another library would do: for intervals, write every draw into a
pyAgrum network and ask it; for sensitivity functions, build the model again at two values of every
parameter (timed on a few and multiplied). All are asked in interleaved rounds, so that a busy
machine slows them alike: trust the ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyagrum

import epidural_dx as edx
from epidural_dx.analysis.attribution import attribute
from epidural_dx.analysis.response import table_response, variants
from epidural_dx.analysis.sensitivity import evidence_sensitivity, one_way, tornado
from epidural_dx.analysis.uncertainty import decision_values, posterior_draws
from epidural_dx.clinical.case import read_case
from epidural_dx.network.assembly import selection_form
from epidural_dx.network.draws import draw_tables

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- table -->", "<!-- /table -->"
#: Draws that pyAgrum is timed on, and parameters that are varied the long way.
AGRUM_DRAWS, VARIED = 5, 4


def timed(call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def agrum_network(model: edx.Model) -> Any:
    """Build the selection form in pyAgrum's memory, without numbers."""
    network = pyagrum.BayesNet()
    tables = selection_form(model.built)
    for table in tables:
        known = model.variables.get(table.child)
        labels = list(known.states if known else ("absent", "present"))
        network.add(pyagrum.LabelizedVariable(table.child, table.child, labels))
    for table in tables:
        for parent in table.parents:
            network.addArc(parent, table.child)
    return network


def ask_agrum(network: Any, built: Any, findings: dict[str, Any]) -> Any:
    """Write one draw into the network and ask for the cause."""
    for table in selection_form(built):
        cpt = network.cpt(table.child)
        parents = [n for n in reversed(cpt.names) if n != table.child]
        order = [table.parents.index(p) for p in parents]
        cpt[:] = np.ascontiguousarray(table.table.transpose([*order, len(parents)]))
    engine = pyagrum.LazyPropagation(network)
    engine.setEvidence(findings)
    engine.addTarget("lesion_cause")
    engine.makeInference()
    return engine.posterior("lesion_cause")[:]


def one_draw(model: edx.Model, drawn: Any, i: int) -> Any:
    """Take one draw out of the tables of many."""

    def row(table: Any, base: Any) -> Any:
        return table[i] if table.ndim > base.ndim else table

    base = model.built
    return replace(
        drawn,
        tables={n: row(t, base.tables[n]) for n, t in drawn.tables.items()},
        selection={n: row(t, base.selection[n]) for n, t in drawn.selection.items()},
        weights=drawn.weights[i],
    )


def measure(rounds: int, draws: int) -> dict[str, list[float]]:
    """Time everything once per round, another patient and stage in each."""
    model = edx.load_model()
    patients = []
    for path in sorted((ROOT / "cases").glob("*.yaml")):
        case = read_case(path)
        patients += [model.read_evidence(case.evidence(s).raw) for s in case.stage_names]
    first = patients[0]
    model.bank(draws, 0)
    response = table_response(model)
    drawn, _ = draw_tables(
        model.built, model.built.structure, model.literature, model._priors, AGRUM_DRAWS, 0
    )
    network = agrum_network(model)
    # once before the clock starts: compiled kernels, caches
    posterior_draws(model, first, draws=draws)
    one_way(model, first)
    attribute(model, first, draws=draws)
    ask_agrum(network, one_draw(model, drawn, 0), {})
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}

    def note(job: str, seconds: float) -> None:
        found.setdefault(job, []).append(seconds)

    for n in range(rounds):
        evidence = patients[n % len(patients)]
        findings = {k: list(w) for k, w in evidence.likelihoods.items()} | model.selection_evidence
        note("draws", timed(lambda e=evidence: posterior_draws(model, e, draws=draws)))
        built = one_draw(model, drawn, n % AGRUM_DRAWS)
        note("agrum", timed(lambda b=built, f=findings: ask_agrum(network, b, f)) * draws)
        note("decision", timed(lambda e=evidence: decision_values(model, e, draws=draws)))
        note("one_way", timed(lambda e=evidence: one_way(model, e)))
        seconds = 0.0
        for i in rng.choice(len(response.parameters), VARIED, replace=False):
            p = response.parameters[i]
            x = [p.value * 0.9, p.value * 0.95] if p.value > 0 else [p.value - 0.1, p.value - 0.2]
            seconds += timed(
                lambda p=p, x=x, e=evidence: model.engine.run(
                    model.arrays(e), want=(), bank=variants(model, p, x)
                )
            )
        note("rebuilt", seconds / VARIED * len(response.parameters))
        functions = one_way(model, evidence)
        note("tornado", timed(lambda e=evidence, f=functions: tornado(model, e, functions=f)))
        note("evidence", timed(lambda e=evidence: evidence_sensitivity(model, e)))
        note(
            "attribute",
            timed(
                lambda e=evidence, f=functions: attribute(
                    model, e, by="source", draws=draws, functions=f
                )
            ),
        )
    found["parameters"] = [float(len(response.parameters))]
    return found


def quartiles(seconds: list[float]) -> str:
    """Return median and quartiles in milliseconds."""
    low, middle, high = np.percentile(np.array(seconds) * 1e3, [25, 50, 75])
    return f"{middle:,.0f} ms [{low:,.0f}, {high:,.0f}]"


def ratio(slow: list[float], fast: list[float]) -> str:
    """Return median and quartiles of the ratio of paired times."""
    low, middle, high = np.percentile(np.array(slow) / np.array(fast), [25, 50, 75])
    return f"{middle:,.0f} x [{low:,.0f}, {high:,.0f}]"


def table(found: dict[str, list[float]], draws: int) -> str:
    """Return the results as a Markdown table."""
    count = int(found["parameters"][0])
    rows = [
        (f"posterior under {draws:,} draws, bank in memory", quartiles(found["draws"]), "150 ms"),
        (
            "... pyAgrum, every draw written and asked / this",
            ratio(found["agrum"], found["draws"]),
            "",
        ),
        (f"value of every action under {draws:,} draws", quartiles(found["decision"]), ""),
        (f"all {count:,} one-way functions", quartiles(found["one_way"]), "well under 1 s"),
        ("... every model built again twice / this", ratio(found["rebuilt"], found["one_way"]), ""),
        ("tornado of 15", quartiles(found["tornado"]), ""),
        ("every finding removed and flipped", quartiles(found["evidence"]), ""),
        (f"shares of every source from {draws:,} draws", quartiles(found["attribute"]), ""),
    ]
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    lines = [
        f"{os.cpu_count()} processors{load}, {platform.system()}, Python "
        f"{platform.python_version()}, numpy {np.__version__}; {len(found['draws'])} rounds",
        "",
        "| job | measured | goal |",
        "|---|---|---|",
        *(f"| {job} | {measured} | {goal} |" for job, measured, goal in rows),
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write into a document if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--write", type=Path, help="replace the table of this document")
    options = parser.parse_args()
    text = table(measure(options.rounds, options.draws), options.draws)
    print(text)
    if options.write:
        old = options.write.read_text(encoding="utf-8")
        head, _, rest = old.partition(BEGIN)
        _, _, tail = rest.partition(END)
        options.write.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
