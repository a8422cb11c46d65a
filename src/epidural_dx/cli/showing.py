"""Show an answer: causes with their drivers, what moved, what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from epidural_dx.cli.inputs import StageEvidence
from epidural_dx.cli.output import bar, indented, make_table, print_json, text
from epidural_dx.clinical.display import duration, percent, short_number
from epidural_dx.clinical.notes import RoutineNote
from epidural_dx.model import DEFAULT_TARGET

if TYPE_CHECKING:
    from rich.console import Console

    from epidural_dx.answer import Answer
    from epidural_dx.clinical.case import Case
    from epidural_dx.model import Model

#: Causes below this are summed up in one line.
SMALL = 0.005
#: Causes and conditions named at most.
MOST_CAUSES = 8
MOST_CONDITIONS = 6
MOST_TESTS = 6
MOST_CHANGES = 4
#: Drivers below this share of their cause are not named.
SMALL_DRIVER = 0.05
#: A driver with this share of its cause is named alone, without a number.
ALONE = 0.97
#: Pairs of causes that a test tells apart by less (bits) are not named.
SMALL_SEPARATION = 0.005
#: Column of what tests are ranked by, where that is not their bits.
RANKED_BY = {
    "value": "gain",
    "information_per_cost": "bits/100 USD",
    "information_per_hour": "bits/hour",
}
#: Characters from which a line has room for names that are not broken.
ROOMY = 100
#: A condition that moved less than this (total variation distance) is not worth a line.
MOVED = 0.03
#: A change of a probability below this is not worth mentioning.
CHANGED = 0.02

#: Shown first and always, unless observed: what may hide behind the lesion.
ALWAYS = ("marrow_infiltration", "hemostasis", "blood_disorder")
#: Functions of another variable that is shown itself.
REPEATED = frozenset(
    {
        "age_group",
        "sex",
        "lesion_subtype",
        "hemoglobinopathy",
        "myeloid_disorder",
        "lymphoid_disorder",
        "melanoma",
    }
)


def print_document(
    document: Mapping[str, Any], case: Case, stage: StageEvidence, **own: Any
) -> None:
    """Print a document as JSON, with the case and stage that it is about and what a file adds."""
    print_json(
        {
            "model": document["model"],
            "case": case.name,
            "stage": stage.name,
            **document,
            **own,
        }
    )


def print_answer(
    console: Console,
    title: str,
    stage: StageEvidence,
    answer: Answer,
    previous: tuple[StageEvidence, Answer] | None,
    tests: Sequence[Mapping[str, Any]] | None,
    *,
    with_intervals: bool = True,
) -> None:
    """Print one answer.

    Parameters
    ----------
    console : Console
    title : str
        Of the patient; empty where it has been shown before.
    stage : StageEvidence
    answer : Answer
    previous : (StageEvidence, Answer), optional
        The stage before.
    tests : sequence of mapping, optional
        Ranked tests as plain data; None leaves them out.
    with_intervals : bool
        Also show the 90 % interval of every cause.
    """
    if title:
        console.print(text(title, "bold"))
    console.print(stage_line(stage, answer.model.scenario))
    console.print()
    if previous is not None:
        _print_new_findings(console, stage, previous[0])
    _print_causes(
        console,
        answer,
        None if previous is None else previous[1],
        with_intervals=with_intervals,
    )
    _print_conditions(console, answer, None if previous is None else previous[1])
    if tests is not None:
        print_tests(console, tests[:MOST_TESTS], left_out=len(tests) - MOST_TESTS)
    print_warnings(console, answer)


def stage_line(stage: StageEvidence, scenario: str = "") -> Any:
    """Return one line on the stage: its place, findings, base rates, the case's note."""
    line = text("")
    if stage.name:
        line.append(stage.name, style="bold cyan")
        line.append(f" · stage {stage.number} of {stage.count} · ", style="dim")
    findings = len(stage.evidence)
    line.append(f"{findings} finding{'' if findings == 1 else 's'}", style="dim")
    if scenario:
        line.append(f" · base rates {scenario}", style="dim")
    if stage.note:
        line.append(f" · {stage.note}", style="dim")
    return line


def _print_new_findings(console: Console, stage: StageEvidence, before: StageEvidence) -> None:
    new = [
        f"{name} {entry.text}"
        for name, entry in stage.evidence.entries.items()
        if name not in before.evidence.entries
    ]
    if new:
        line = text("New: ", "bold")
        line.append(" · ".join(new))
        console.print(line)
    for change in stage.changes:
        line = text("Corrected: ", "bold")
        line.append(change)
        console.print(line)
    if new or stage.changes:
        console.print()


def drivers(answer: Answer, cause: str) -> str:
    """Return the drivers of a cause with their shares of it, in words."""
    named = [(driver, p) for _, c, driver, p in answer.ranked_etiology() if c == cause]
    total = sum(p for _, p in named)
    if len(named) < 2 or total <= 0:
        return "" if not named or named[0][0] in ("none", cause) else words(named[0][0])
    if named[0][1] >= ALONE * total:
        return "no driver" if named[0][0] == "none" else words(named[0][0])
    return ", ".join(
        f"{'no driver' if driver == 'none' else words(driver)} {percent(p / total)}"
        for driver, p in named
        if p >= SMALL_DRIVER * total
    )


def words(name: str) -> str:
    """Return an identifier as words."""
    return name.replace("_", " ")


def _print_causes(
    console: Console, answer: Answer, before: Answer | None, *, with_intervals: bool
) -> None:
    limits = {}
    if with_intervals:
        lower, upper = answer.cause_limits
        limits = {
            cause: f"{_short(float(a))}–{_short(float(b))} %"
            for cause, a, b in zip(answer.model.causes, lower, upper, strict=True)
        }
    ranked = answer.ranked_causes()
    shown = [(c, p) for i, (c, p) in enumerate(ranked) if i < 2 or p >= SMALL][:MOST_CAUSES]
    old = dict(before.ranked_causes()) if before is not None else {}
    width = 30 if console.width >= 100 else 12 if limits else 20
    headings = [*(["90 %"] if limits else []), *(["before"] if old else [])]
    numbers = tuple(range(3, 3 + len(headings)))
    table = make_table(None, "cause", "", "", *headings, "driven by", right=(1, *numbers))
    for i, (cause, p) in enumerate(shown):
        table.add_row(
            text(cause, "bold" if i == 0 else ""),
            text(percent(p), "bold" if i == 0 else ""),
            text(bar(p, width, console.encoding), "cyan"),
            *([text(limits[cause], "dim")] if limits else []),
            *([text(percent(old[cause]), "dim")] if old else []),
            text(drivers(answer, cause) if i == 0 or p >= 0.01 else "", "" if i < 3 else "dim"),
        )
    table.columns[2].min_width = width
    table.columns[2].no_wrap = True
    table.columns[0].no_wrap = True
    console.print(indented(table))
    rest = ranked[len(shown) :]
    if rest:
        total = sum(p for _, p in rest)
        console.print(indented(text(f"{len(rest)} others together {percent(total)}", "dim")))
    gone = [
        f"{cause} {percent(old[cause])} → {percent(p)}"
        for cause, p in rest
        if old and old[cause] - p >= CHANGED
    ]
    if gone:
        console.print(indented(text(f"fell: {', '.join(gone)}", "dim")))
    console.print()


def _print_conditions(console: Console, answer: Answer, before: Answer | None) -> None:
    rows = moved_conditions(answer, before)
    if not rows:
        return
    table = make_table(
        "Conditions behind it",
        "condition",
        "now",
        "before any finding" if before is None else "before this stage",
    )
    for name, now, then in rows:
        table.add_row(text(name), text(now), text(then, "dim"))
    table.columns[0].no_wrap = True
    console.print(indented(table))
    console.print()


def _short(probability: float) -> str:
    """Return one limit of an interval without its sign."""
    shown = 100 * probability
    return f"{shown:.0f}" if shown >= 9.95 or shown < 0.05 else f"{shown:.1f}"


def moved_conditions(answer: Answer, before: Answer | None) -> list[tuple[str, str, str]]:
    """Conditions worth a line: the main ones, and those that moved most.

    Returns
    -------
    list of (str, str, str)
        Name, distribution now, distribution before (the base rates where there is no stage
        before), each as its most probable states.
    """
    from epidural_dx.answer import is_condition

    model = answer.model
    base = model.base_marginals
    reference = base if before is None else before.marginals
    distances: dict[str, float] = {}
    for name, variable in model.variables.items():
        if not is_condition(name, variable.group) or name in REPEATED:
            continue
        if len(answer.evidence.likelihoods.get(name, ())) and max(answer.marginals[name]) > 0.9999:
            continue  # observed: nothing to infer
        now = answer.marginals[name]
        moved = float(abs(now - reference[name]).sum()) / 2
        overall = float(abs(now - base[name]).sum()) / 2
        if name in ALWAYS or moved >= MOVED or overall >= 5 * MOVED:
            distances[name] = max(moved, 0.5 * overall)
    chosen = sorted(distances, key=lambda n: (n not in ALWAYS, -distances[n]))[:MOST_CONDITIONS]
    return [
        (name, *_two_columns(model, name, answer.marginals[name], reference[name]))
        for name in chosen
    ]


def _two_columns(model: Model, name: str, now: Any, then: Any) -> tuple[str, str]:
    states = model.variables[name].states
    order = sorted(range(len(states)), key=lambda i: -now[i])
    # whatever is likely now, and whatever was likely before and no longer is
    shown = [i for i in order[:3] if now[i] >= 0.01 or i == order[0]]
    fell = [i for i in order if i not in shown and then[i] - now[i] >= 5 * CHANGED]
    left = ", ".join(f"{states[i]} {percent(now[i])}" for i in shown)
    right = ", ".join(f"{states[i]} {percent(then[i])}" for i in (*shown, *fell))
    return left, right


def print_tests(
    console: Console,
    tests: Sequence[Mapping[str, Any]],
    *,
    left_out: int = 0,
    title: str = "Next tests",
    by: str = "information",
    target: Sequence[str] = DEFAULT_TARGET,
) -> None:
    """Print ranked tests: what they tell, what they cost, whether they are allowed.

    Where they are ranked by something else than information, that has a column of its own. What a
    test tells apart is shown for the causes or for the marrow, whichever the target holds, else
    for the states of the target. Why a test cannot be done at once stands below the table.
    """
    if not tests:
        console.print(indented(text("No test would add anything.", "dim")))
        console.print()
        return
    extra = RANKED_BY.get(by)
    headings = [*([extra] if extra else []), "bits", "time", "USD", "new\nlead"]
    table = make_table(
        title,
        "test",
        *headings,
        "tells apart (bits)",
        right=tuple(range(1, 1 + len(headings))),
    )
    if console.width < ROOMY:
        table.padding = (0, 1, 0, 0)
    else:
        table.columns[0].no_wrap = True
    barred = []
    for row in tests:
        allowed = row["when"] == "now"
        if not allowed:
            barred.append(row)
        bits = f"{row['information_bits']:.3f}"
        if row["standard_error"] >= 0.0005:
            bits += f" ±{row['standard_error']:.3f}"
        table.add_row(
            text(_test_name(row), "" if allowed else "yellow"),
            *([text(_rank_figure(row, by))] if extra else []),
            text(bits),
            text(duration(row["turnaround_hours"])),
            text(short_number(row["cost_usd"])),
            text(percent(row["changes_lead"])),
            text(separation(row, target)),
        )
    console.print(indented(table))
    about = " and ".join(name.replace("_", " ") for name in target)
    more = f"; {left_out} more: epidural-dx next-tests" if left_out > 0 else ""
    console.print(indented(text(f"bits: about {about}{more}", "dim")))
    console.print()
    for row in barred:
        line = text(_test_name(row), "yellow")
        line.append(f": {row['reason']}", style="dim")
        console.print(indented(line))
    if barred:
        console.print()


def _test_name(row: Mapping[str, Any]) -> str:
    return f"{row['test']} (look again)" if row["images_at_hand"] else str(row["test"])


def _rank_figure(row: Mapping[str, Any], by: str) -> str:
    if by != "value":
        return f"{row[by]:.3f}"
    return "–" if row["value"] is None else f"{row['value']:+.4f}"


def separation(row: Mapping[str, Any], target: Sequence[str] = DEFAULT_TARGET) -> str:
    """Return what a test tells apart best, with bits: causes, the marrow, or what was asked."""
    causes = [(pair["causes"], pair["bits"]) for pair in row["separates"]]
    marrow = [(f"marrow {pair['states']}", pair["bits"]) for pair in row["separates_marrow"]]
    if not {"etiology", "lesion_cause"}.isdisjoint(target):
        told = marrow if row["marrow_bits"] > row["cause_bits"] else causes
    elif "marrow_infiltration" in target:
        told = marrow
    else:
        told = [(pair["states"], pair["bits"]) for pair in row["separates_target"]]
    pairs = [f"{names} {bits:.2f}" for names, bits in told if bits >= SMALL_SEPARATION][:2]
    return ", ".join(pairs) or "–"


#: At most this many notes on how findings were read; --json has all.
READ_WITH_CARE = 8


def print_warnings(console: Console, answer: Answer) -> None:
    """Print warnings, what was read with a grain of salt, and the research notice last."""
    notice = ""
    for warning in answer.warnings:
        if warning.code == "research_use":
            notice = warning.message
            continue
        console.print(indented(text(f"! {warning.message}", "yellow")))
    # other names and plain conversions of units are told in JSON only
    choices = [note for note in answer.evidence.notes if not isinstance(note, RoutineNote)]
    for note in choices[:READ_WITH_CARE]:
        console.print(indented(text(f"· {note}", "dim")))
    if notice:
        console.print(indented(text(notice, "dim")))


def stage_changes(answer: Answer, before: Answer) -> dict[str, Any]:
    """Return what a stage changed: causes and conditions that moved, new findings."""
    old = dict(before.ranked_causes())
    causes = sorted(answer.ranked_causes(), key=lambda item: -abs(item[1] - old[item[0]]))
    conditions: list[dict[str, Any]] = []
    for name, now in answer.marginals.items():
        variable = answer.model.variables[name]
        if variable.group != "condition":
            continue
        for i, state in enumerate(variable.states):
            change = float(now[i] - before.marginals[name][i])
            if abs(change) >= CHANGED:
                conditions.append(
                    {
                        "variable": name,
                        "state": state,
                        "before": float(before.marginals[name][i]),
                        "now": float(now[i]),
                    }
                )
    conditions.sort(key=lambda row: -abs(row["now"] - row["before"]))
    return {
        "new_findings": [n for n in answer.evidence.entries if n not in before.evidence.entries],
        "causes": [
            {"cause": c, "before": old[c], "now": p}
            for c, p in causes
            if abs(p - old[c]) >= CHANGED
        ],
        "conditions": conditions,
    }
