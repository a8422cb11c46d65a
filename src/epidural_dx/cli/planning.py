"""``plan``: what to order now, what then for each likely result, and when to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epidural_dx.cli.inputs import open_case, open_model, stage_evidence, with_case_scenario
from epidural_dx.cli.output import indented, make_console, make_table, number, text, waiting
from epidural_dx.cli.showing import print_document, print_warnings, stage_line, words
from epidural_dx.cli.writing import PICTURES, check_place, save_picture
from epidural_dx.clinical.display import dollars, duration, percent, short_number
from epidural_dx.documents.answers import look_ahead, planned

if TYPE_CHECKING:
    from rich.console import Console
    from rich.tree import Tree

    from epidural_dx.decision.plan import Branch, Plan, PlanStep
    from epidural_dx.decision.sequence import SequenceStep
    from epidural_dx.decision.stopping import Stopping
    from epidural_dx.decision.value import Choice
    from epidural_dx.documents.answers import LookAhead

#: Results left out of the tree are mentioned from this probability on.
MENTIONED = 0.005


def run(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    by: str,
    exclude: tuple[str, ...],
    max_hours: float | None,
    hours_since_onset: float | None,
    steps: int | None,
    plot: Path | None,
    as_json: bool,
    model_options: Mapping[str, Any],
) -> None:
    """Plan two steps ahead for a case and print the plan.

    Raises
    ------
    EpiduralDxError
        Bad input, or nothing left to find out.
    """
    from epidural_dx.clinical.spelling import nearest
    from epidural_dx.decision.plan import AIMS
    from epidural_dx.errors import EvidenceError

    if by not in AIMS:
        raise EvidenceError(f"--by {by!r} is unknown", allowed=AIMS, nearest=nearest(by, AIMS, 1))
    if plot is not None:
        check_place(plot, tuple(PICTURES))
    case = open_case(name)
    model = open_model(**with_case_scenario(model_options, case))
    last = stage_evidence(model, case, settings, stage)[-1]
    answer = model.diagnose(last.evidence, where=case.where(last.name) if last.name else None)
    with waiting("Looking ahead"):
        ahead = look_ahead(
            model,
            last.evidence,
            by,
            exclude=exclude,
            max_hours=max_hours,
            hours_since_onset=hours_since_onset,
            steps=steps,
        )
    if plot is not None:
        draw(ahead.plan, plot)
    if as_json:
        file = None if plot is None else str(plot)
        print_document(planned(answer, ahead), case, last, file=file)
        return
    console = make_console()
    console.print(text(str(case.about.get("title") or case.name), "bold"))
    console.print(stage_line(last))
    console.print()
    print_plan(console, ahead)
    if plot is not None:
        console.print(text(f"{plot}: the plan as a picture"))
    print_warnings(console, answer)


def draw(plan: Plan, out: Path) -> None:
    """Write the plan as a picture.

    Raises
    ------
    CaseError
        It cannot be written.
    """
    from epidural_dx.decision.drawing import draw_plan

    save_picture(draw_plan(plan), out)


def print_plan(console: Console, ahead: LookAhead) -> None:
    """Print the plan as a tree, with what to do now and when to stop."""
    plan = ahead.plan
    _print_now(console, plan, ahead.stopping)
    _print_tree(console, plan, ahead.stopping)
    _print_considered(console, plan)
    console.print(
        indented(
            text(
                "Utility of what the lesion leaves: 0 death, 1 full health; treating the marrow "
                "adds to it. Gain: over acting at once"
                + (
                    ", net of harm, delay and price."
                    if plan.by == "value"
                    else ", in bits about the cause and the marrow."
                )
                + " Times count from now. Only the likeliest results are shown.",
                "dim",
            )
        )
    )
    console.print()
    if ahead.sequence is not None:
        _print_sequence(console, ahead.sequence)


def _print_now(console: Console, plan: Plan, stopping: Stopping) -> None:
    if plan.act_now is not None:
        line = text("Without any test: ", "bold")
        line.append(f"{plan.act_now.words}, {_worth(plan.act_now)}")
        console.print(line)
    line = text("Stop rule: ", "bold")
    line.append(stopping.sentence)
    console.print(line)
    line = text("Expected regret of acting now: ", "bold")
    line.append(
        f"{stopping.expected_regret:.3f} utility against knowing what the "
        f"{len(stopping.tests)} remaining tests would show, of {stopping.perfect_information:.3f} "
        "that knowing everything would gain"
    )
    console.print(line)
    console.print()


def _print_tree(console: Console, plan: Plan, stopping: Stopping) -> None:
    from rich.tree import Tree

    if plan.first is None:
        console.print(text("Order nothing: no test is worth its harm, delay and price.", "bold"))
        console.print()
        return
    unit = "bits" if plan.by == "information" else "utility"
    # two tests together may gain a trifle where the stop rule finds that no single one does
    verb = "If more is ordered all the same: " if stopping.stop else "Order now: "
    tree = Tree(_order(plan.first, verb, unit), guide_style="dim")
    _add(tree, plan.first, unit)
    console.print(tree)
    console.print()


def _order(step: PlanStep, verb: str, unit: str) -> Any:
    line = text(verb)
    line.append(step.words, style="bold cyan")
    line.append(
        f" · {duration(step.hours)} · {dollars(step.price_usd)} · gain {step.gain:+.3f} {unit}",
        style="dim",
    )
    return line


def _add(tree: Tree, step: PlanStep, unit: str) -> None:
    from epidural_dx.decision.plan import PlanStep

    for branch in step.branches:
        node = tree.add(_results(branch))
        if isinstance(branch.then, PlanStep):
            _add(node.add(_order(branch.then, "then order ", unit)), branch.then, unit)
        else:
            node.add(_action(branch.then))
    rest = 1 - sum(branch.probability for branch in step.branches)
    if step.branches and rest >= MENTIONED:
        tree.add(text(f"{percent(rest)} other results", "dim"))


def _results(branch: Branch) -> Any:
    line = text(percent(branch.probability), "bold")
    line.append(f" {', '.join(branch.results) or 'no telling result'}")
    leading = ", ".join(f"{words(cause)} {percent(p)}" for cause, p in branch.causes)
    line.append(f": {leading}", style="cyan")
    return line


def _action(choice: Choice) -> Any:
    line = text(f"do {choice.words}")
    line.append(f" · {_worth(choice)}", style="dim")
    return line


def _worth(choice: Choice) -> str:
    """Return the expected utility, the part from treating the marrow named apart."""
    worth = f"utility {choice.expected_utility - choice.marrow_gain:.2f}"
    return worth + (f" {choice.marrow_gain:+.2f} by the marrow" if choice.marrow_gain else "")


def _print_considered(console: Console, plan: Plan) -> None:
    if not plan.considered:
        return
    table = make_table(
        "First tests that were tried (on fewer results, so rougher)",
        "test",
        "gain alone",
        "with a second",
        right=(1, 2),
    )
    for test, one, two in plan.considered:
        chosen = plan.first is not None and test == plan.first.tests[0]
        table.add_row(
            text(words(test), "bold" if chosen else ""),
            text(_signed(one)),
            text(_signed(two)),
        )
    console.print(indented(table))
    console.print()


def _print_sequence(console: Console, sequence: Sequence[SequenceStep]) -> None:
    table = make_table(
        "One after another, whatever they show: bits about the cause and the marrow",
        "test",
        "adds",
        "together",
        "of all",
        "time",
        "USD",
        right=(1, 2, 3, 4, 5),
    )
    for step in sequence:
        table.add_row(
            text(words(step.test)),
            text(f"{step.adds:.2f}"),
            text(f"{step.bits:.2f}"),
            text(percent(step.share)),
            text(duration(step.hours)),
            text(short_number(step.price_usd)),
        )
    if not sequence:
        console.print(indented(text("No test adds anything.", "dim")))
    else:
        console.print(indented(table))
    console.print()


def _signed(value: float) -> str:
    return f"{value:+.3f}" if value > -100 else number(value)
