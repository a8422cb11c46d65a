"""``explain``: why this answer, as a letter with its table, a picture, or JSON."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epidural_dx.cli.inputs import open_case, open_model, stage_evidence, with_case_scenario
from epidural_dx.cli.output import bar, indented, make_console, make_table, text, waiting
from epidural_dx.cli.showing import print_document, print_warnings, stage_line
from epidural_dx.cli.writing import check_place, written_whole
from epidural_dx.clinical.display import percent

if TYPE_CHECKING:
    from rich.console import Console

    from epidural_dx.analysis.consultation import Consultation

#: Formats of the picture.
ENDINGS = (".png", ".svg", ".pdf")


def run(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    cause: str | None,
    against: str | None,
    table: bool,
    plot: Path | None,
    as_json: bool,
    model_options: Mapping[str, Any],
) -> None:
    """Print the explanation of a case.

    Raises
    ------
    EpiduralDxError
        Bad input.
    """
    from epidural_dx.analysis.consultation import consult
    from epidural_dx.documents.answers import explained

    if plot is not None:
        check_place(plot, ENDINGS)
    case = open_case(name)
    model = open_model(**with_case_scenario(model_options, case))
    last = stage_evidence(model, case, settings, stage)[-1]
    model.diagnose(last.evidence, where=case.where(last.name) if last.name else None)
    with waiting("Weighing the findings"):
        found = consult(model, last.evidence, cause=cause, against=against)
    if plot is not None:
        draw(found, plot)
    if as_json:
        print_document(explained(found), case, last)
        return
    console = make_console()
    console.print(text(str(case.about.get("title") or case.name), "bold"))
    console.print(stage_line(last))
    console.print()
    if table:
        _print_table(console, found)
    else:
        _print_letter(console, found)
    print_warnings(console, found.answer)
    if plot is not None:
        console.print(text(f"{plot}: the picture", "dim"))


def _print_letter(console: Console, found: Consultation) -> None:
    from epidural_dx.analysis.consultation import letter, references

    width = console.width - 2
    for heading, paragraph in letter(found):
        console.print(text(heading, "bold cyan"))
        for part in paragraph.splitlines():
            hanging = "   " if re.match(r"\d\. ", part) else ""
            # a number and its sign stay on one line
            held = part.replace(" %", "\u00a0%")
            for line in textwrap.wrap(held, width, subsequent_indent=hanging):
                console.print(indented(text(line.replace("\u00a0", " "))))
        console.print()
    for number, source in enumerate(references(found), start=1):
        hanging = " " * (len(str(number)) + 3)
        for line in textwrap.wrap(f"[{number}] {source}", width, subsequent_indent=hanging):
            console.print(indented(text(line, "dim")))
    console.print()


def _print_table(console: Console, found: Consultation) -> None:
    from epidural_dx.analysis.consultation import NAMED
    from epidural_dx.analysis.wording import condition_words, finding_words

    shares = found.contributions
    rows = shares.rows()
    alone = {row["finding"]: row for row in found.weights}
    ways = {path.finding: path for path in found.paths}
    ratios = {row["finding"]: row for row in found.comparison["findings"]}
    largest = max((abs(row["decibans"]) for row in rows), default=0.0) or 1.0
    width = 12 if console.width >= 100 else 6
    drawn = make_table(
        None,
        "finding",
        "decibans",
        "",
        "alone",
        f"against {found.rival}" if console.width >= 100 else "ratio",
        right=(1, 3, 4),
    )
    for row in rows:
        name, decibans = row["finding"], row["decibans"]
        words = text(finding_words(found.model, found.evidence, name))
        for s in ways[name].steps[:1] if name in ways else ():
            through = condition_words(s.condition, s.state)
            if through and s.probability >= NAMED:
                words.append(f" → {through}", style="dim")
        drawn.add_row(
            words,
            text(f"{decibans:+.1f}"),
            text(
                bar(abs(decibans) / largest, width, console.encoding),
                "cyan" if decibans > 0 else "yellow",
            ),
            text(f"{alone[name]['decibans']:+.1f}" if name in alone else "", "dim"),
            text(_ratio(ratios[name]) if name in ratios else ""),
        )
    drawn.columns[2].no_wrap = True
    drawn.columns[2].min_width = width
    console.print(text(f"{found.cause} {percent(found.probability)}", "bold"))
    console.print(indented(drawn))
    console.print()
    sampled = f", means over {shares.orders} sampled orders" if shares.orders else ""
    for line in textwrap.wrap(
        f"decibans: share of the finding in the way of the log odds from {shares.prior:+.1f} to "
        f"{shares.posterior:+.1f} (order-averaged{sampled}; they sum to it; +10 makes the odds ten "
        "times as high). alone: the change when this finding alone is taken away, all others stay; "
        f"for {found.weights[0]['cause'] if found.weights else found.cause}. → the condition "
        f"through which it acts most. against {found.rival}: likelihood ratio of the finding by "
        "itself with its 90 % interval.",
        console.width - 2,
    ):
        console.print(indented(text(line, "dim")))
    console.print()


def _ratio(row: Mapping[str, Any]) -> str:
    from epidural_dx.analysis.consultation import ratio

    return f"{ratio(row['likelihood_ratio'])} [{ratio(row['lower'])}, {ratio(row['upper'])}]"


def draw(found: Consultation, out: Path) -> None:
    """Write waterfall and paths as one picture, the same bytes for the same answer.

    Parameters
    ----------
    found : Consultation
    out : Path
        With one of the endings of :data:`ENDINGS`.

    Raises
    ------
    CaseError
        It cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    from epidural_dx.analysis.pictures import BARS, plot_paths, plot_waterfall

    matplotlib.use("Agg")
    bars = min(BARS + 1, len(found.contributions.contributions))
    figure = Figure(figsize=(13, 2.4 + 0.36 * bars))
    # labels and boxes reach over their axes: room for their borders at the edge of the picture
    figure.set_layout_engine("constrained", w_pad=0.15, h_pad=0.1)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    plot_waterfall(found, left)
    plot_paths(found, right)
    kind = out.suffix.lower().removeprefix(".")
    undated: dict[str, dict[str, Any]] = {
        "png": {},
        "svg": {"Date": None},
        "pdf": {"CreationDate": None},
    }
    with matplotlib.rc_context({"svg.hashsalt": "epidural-dx"}), written_whole(out) as temporary:
        figure.savefig(temporary, format=kind, dpi=130, metadata=undated[kind])
