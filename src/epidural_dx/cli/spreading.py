"""``uncertainty``: how sure the answer is, under joint draws of every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from epidural_dx.cli.inputs import open_case, open_model, stage_evidence, with_case_scenario
from epidural_dx.cli.output import bar, indented, make_console, make_table, text, waiting
from epidural_dx.cli.showing import print_document, print_warnings, stage_line, words
from epidural_dx.cli.writing import check_place, written_whole
from epidural_dx.clinical.display import percent
from epidural_dx.documents.uncertainty import uncertainty
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from rich.console import Console

    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model

#: Draws that fit into memory (a tenth of a megabyte each).
MOST_DRAWS = 5000
#: Chains that arviz's summaries are given, where they divide the draws.
CHAINS = (4, 3, 2, 1)
#: Causes below this mean that never lead are summed up in one line.
SMALL = 0.005
#: Formats of the file of draws.
ENDINGS = (".nc", ".csv")


def run(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    draws: int,
    seed: int,
    quasi_random: bool,
    with_tests: bool,
    out: Path | None,
    as_json: bool,
    as_csv: bool,
    model_options: Mapping[str, Any],
) -> None:
    """Print the spread of the posterior of every cause; write the draws if asked to.

    Raises
    ------
    EpiduralDxError
        Bad input, draws or a seed outside their range, or a file that cannot be written.
    """
    check_draws(draws, seed, 2)
    if as_json and as_csv:
        raise EvidenceError("--json and --csv exclude each other")
    if out is not None:
        check_place(out, ENDINGS)
    case = open_case(name)
    backend = "auto" if with_tests else "numpy"
    model = open_model(**with_case_scenario(model_options, case), backend=backend)
    last = stage_evidence(model, case, settings, stage)[-1]
    answer = model.diagnose(last.evidence, where=case.where(last.name) if last.name else None)
    document = uncertainty(
        model,
        last.evidence,
        draws=draws,
        seed=seed,
        quasi_random=quasi_random,
        tests=with_tests,
        say=waiting,
    )
    causes, decision, tests = (document[part] for part in ("causes", "decision", "tests"))
    if out is not None:
        with waiting(f"Writing {out}"):
            names = [row["test"] for row in tests or ()]
            options = {"draws": draws, "seed": seed, "quasi_random": quasi_random}
            _write(out, model, last.evidence, options, names)
    if as_csv:
        import pandas as pd

        print(pd.DataFrame(causes).to_csv(index=False), end="")
        return
    if as_json:
        print_document(document, case, last, file=None if out is None else str(out))
        return
    console = make_console()
    console.print(text(str(case.about.get("title") or case.name), "bold"))
    console.print(stage_line(last))
    console.print()
    _print_causes(console, causes, document["draws"])
    _print_decision(console, decision, document["best_at_means"])
    if tests is not None:
        _print_tests(console, tests)
    if out is not None:
        console.print(text(f"{out}: {document['draws']:,} draws of causes and mechanisms"))
        console.print()
    print_warnings(console, answer)


def check_draws(draws: int, seed: int, fewest: int) -> None:
    """Refuse a number of draws, or a seed, outside its range.

    Raises
    ------
    EvidenceError
        Names the option and its limits.
    """
    if not fewest <= draws <= MOST_DRAWS:
        raise EvidenceError(f"--draws must be {fewest} to {MOST_DRAWS}, got {draws}", value=draws)
    if seed < 0:
        raise EvidenceError(f"--seed must be 0 or more, got {seed}", value=seed)


def _write(
    out: Path,
    model: Model,
    evidence: Evidence,
    options: Mapping[str, Any],
    tests: Sequence[str],
) -> None:
    """Write the draws: causes and mechanisms, for arviz also tests and actions."""
    from epidural_dx.analysis.uncertainty import posterior_draws, to_datatree

    if out.suffix.lower() == ".nc":
        chains = next(c for c in CHAINS if options["draws"] % c == 0)
        tree: Any = to_datatree(
            model, evidence, chains=chains, decision="treatment", tests=tests, **options
        )
        with written_whole(out) as temporary:
            tree.to_netcdf(str(temporary), engine="h5netcdf")
        return
    import pandas as pd

    parts = [posterior_draws(model, evidence, v, **options) for v in ("lesion_cause", "etiology")]
    frame = pd.DataFrame(
        np.concatenate(parts, axis=1),
        columns=[
            *(f"cause.{c}" for c in model.causes),
            *(f"etiology.{m.name}" for m in model.mechanisms),
        ],
        index=pd.RangeIndex(len(parts[0]), name="draw"),
    )
    with written_whole(out) as temporary:
        frame.to_csv(temporary, encoding="utf-8")


def _print_causes(console: Console, rows: Sequence[Mapping[str, Any]], draws: int) -> None:
    width = 24 if console.width >= 100 else 12
    table = make_table(
        None, "cause", "answer", "mean", "sd", "90 %", "leads in", "", right=(1, 2, 3, 4, 5)
    )
    shown = [r for i, r in enumerate(rows) if i < 2 or r["mean"] >= SMALL or r["leads"] > 0]
    for i, row in enumerate(shown):
        table.add_row(
            text(row["cause"], "bold" if i == 0 else ""),
            text(percent(row["probability"]), "bold" if i == 0 else ""),
            text(percent(row["mean"])),
            text(f"{100 * row['sd']:.1f}"),
            text(f"{_limit(row['lower'])}–{_limit(row['upper'])} %"),
            text(percent(row["leads"]) if row["leads"] else "never"),
            text(bar(row["leads"], width, console.encoding), "cyan"),
        )
    table.columns[0].no_wrap = True
    table.columns[6].no_wrap = True
    table.columns[6].min_width = width
    console.print(indented(table))
    rest = rows[len(shown) :] if len(shown) < len(rows) else ()
    if rest:
        console.print(indented(text(f"{len(rest)} others never lead, each below 0.5 %", "dim")))
    console.print()
    margin = 164.5 * (0.25 / draws) ** 0.5
    console.print(
        indented(
            text(
                f"{draws} draws of every figure behind the model, each within what its patients "
                "and experts allow; the patient's findings stay. Answer: with every figure at its "
                "mean. Mean, sd (points) and 90 %: over the draws. Leads in: share of the draws in "
                f"which the cause is the most probable (±{margin:.0f} points at most).",
                "dim",
            )
        )
    )
    console.print()


def _limit(probability: float) -> str:
    shown = 100 * probability
    return f"{shown:.0f}" if shown >= 9.95 or shown < 0.05 else f"{shown:.1f}"


def _print_decision(
    console: Console, rows: Sequence[Mapping[str, Any]], at_means: Mapping[str, str]
) -> None:
    """Print the options of each choice that are the best somewhere, and how the means differ."""
    table = make_table(
        "Action with the largest expected utility",
        "choice",
        "option",
        "best in",
        "lost if wrong",
        right=(2, 3),
    )
    last = ""
    for row in rows:
        leads = row["choice"] != last
        if leads or row["best_in"] > 0:
            table.add_row(
                text(words(row["choice"]) if leads else ""),
                text(row["option"], "bold" if leads else ""),
                text(percent(row["best_in"]) if row["best_in"] else "never"),
                text(f"{row['regret']:.3f}"),
            )
        last = row["choice"]
    console.print(indented(table))
    console.print(
        indented(
            text(
                "Best in: share of the draws in which the option has the largest expected utility. "
                "Lost if wrong: mean utility lost against the best option of each draw; utilities "
                "run from 0 to 1 (priors/utilities.yaml).",
                "dim",
            )
        )
    )
    for difference in _other_than_at_means(rows, at_means):
        console.print(indented(text(difference, "yellow")))
    console.print()


def _other_than_at_means(
    rows: Sequence[Mapping[str, Any]], at_means: Mapping[str, str]
) -> list[str]:
    """Say where the draws and the figures at their means choose differently."""
    by_draws: dict[str, str] = {}
    for row in rows:
        by_draws.setdefault(row["choice"], row["option"])
    return [
        f"{words(choice).capitalize()}: on average over the draws {words(option)} is the best, "
        f"with every figure at its mean {words(at_means[choice])}."
        for choice, option in by_draws.items()
        if at_means[choice] != option
    ]


def _print_tests(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        console.print(indented(text("No test would add anything.", "dim")))
        console.print()
        return
    table = make_table("Most telling test", "test", "first in", "bits", "90 %", right=(1, 2, 3))
    for row in rows:
        table.add_row(
            text(row["test"]),
            text(percent(row["first"]) if row["first"] else "never"),
            text(f"{row['bits_mean']:.2f}"),
            text(f"{row['bits_lower']:.2f}–{row['bits_upper']:.2f}"),
        )
    console.print(indented(table))
    console.print(
        indented(
            text(
                f"Bits about the cause, under {rows[0]['draws']} draws; the {len(rows)} tests "
                "that tell most today.",
                "dim",
            )
        )
    )
    console.print()
