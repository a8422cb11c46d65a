"""``sensitivity``: which figures, findings and sources the answer hangs on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epidural_dx.cli.inputs import open_case, open_model, stage_evidence, with_case_scenario
from epidural_dx.cli.output import bar, indented, make_console, make_table, number, text, waiting
from epidural_dx.cli.showing import print_document, print_warnings, stage_line
from epidural_dx.cli.spreading import check_draws
from epidural_dx.cli.writing import PICTURES, check_place, save_picture
from epidural_dx.clinical.display import percent
from epidural_dx.documents.sensitivity import GRID, check_alone, sensitivity
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from rich.console import Console

    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.documents.sensitivity import Found
    from epidural_dx.model import Model

#: Rows of the tornado: by default, and at most.
ROWS, MOST_ROWS = 10, 50
#: Values of each of two on a drawing.
PLOT_GRID = 21
#: Findings and shares that people are shown.
MOST_FINDINGS, MOST_SHARES = 6, 8
#: Results of a finding that are less likely than this, given the rest, overturn nothing in earnest.
BELIEVABLE = 0.01


def run(
    name: str,
    settings: Sequence[str],
    stage: str | None,
    *,
    parameter: str | None,
    pair: tuple[str, str] | None,
    by: str | None,
    ranking: bool,
    total: bool,
    cause: str | None,
    top: int,
    draws: int,
    seed: int,
    plot: Path | None,
    as_json: bool,
    as_csv: bool,
    model_options: Mapping[str, Any],
) -> None:
    """Print what the probability of a cause, or the order of the tests, hangs on.

    Raises
    ------
    EpiduralDxError
        Bad input, options that exclude each other, or a file that cannot be written.
    """
    _check_options(
        parameter, pair, by, ranking, total, cause, top, draws, seed, plot, as_json, as_csv
    )
    case = open_case(name)
    model = open_model(**with_case_scenario(model_options, case))
    last = stage_evidence(model, case, settings, stage)[-1]
    answer = model.diagnose(last.evidence, where=case.where(last.name) if last.name else None)
    found = sensitivity(
        model,
        last.evidence,
        parameter=parameter,
        pair=pair,
        by=by,
        ranking=ranking,
        total=total,
        cause=cause,
        top=top,
        draws=draws,
        seed=seed,
        prefix="--",
        # CSV is one table: the bars, or with --by the shares
        only=None if not as_csv else "bars" if by is None else "shares",
        say=waiting,
    )
    if plot is not None:
        _draw(plot, model, last.evidence, found)
    if as_csv:
        print(found.frame.to_csv(index=False), end="")
        return
    document = found.document
    if as_json:
        print_document(document, case, last, file=None if plot is None else str(plot))
        return
    console = make_console()
    console.print(text(str(case.about.get("title") or case.name), "bold"))
    console.print(stage_line(last))
    console.print()
    if parameter is not None:
        _print_one(console, document)
    elif pair is not None:
        _print_two(console, document)
    elif ranking:
        _print_ranking(console, document)
    else:
        _print_tornado(console, document)
        _print_findings(console, document)
        _print_shares(console, document)
    if plot is not None:
        console.print(text(f"{plot}: the {found.shows} as a drawing"))
        console.print()
    print_warnings(console, answer)


def _check_options(
    parameter: str | None,
    pair: tuple[str, str] | None,
    by: str | None,
    ranking: bool,
    total: bool,
    cause: str | None,
    top: int,
    draws: int,
    seed: int,
    plot: Path | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    from epidural_dx.analysis.attribution import FEWEST_DRAWS
    from epidural_dx.analysis.parameters import LEVELS
    from epidural_dx.clinical.spelling import nearest

    check_alone(parameter, pair, by, ranking, total, cause, "--")
    if as_json and as_csv:
        raise EvidenceError("--json and --csv exclude each other")
    if by is not None and by not in LEVELS:
        raise EvidenceError(
            f"--by {by!r} is unknown", allowed=LEVELS, nearest=nearest(by, LEVELS, 1)
        )
    if not 1 <= top <= MOST_ROWS:
        raise EvidenceError(f"--top must be 1 to {MOST_ROWS}, got {top}", value=top)
    check_draws(draws, seed, FEWEST_DRAWS)
    if plot is not None:
        check_place(plot, tuple(PICTURES))


def _draw(out: Path, model: Model, evidence: Evidence, found: Found) -> None:
    """Write what was asked for as a drawing, the same bytes for the same table."""
    import matplotlib
    from matplotlib.figure import Figure

    from epidural_dx.analysis import plots

    matplotlib.use("Agg")
    sizes = {
        "bars": (11, 0.42 * len(found.frame) + 1.3),
        "shares": (9, 4.5),
        "curve": (8, 4.5),
        "grid": (8, 5),
    }
    figure = Figure(figsize=sizes[found.shows], layout="constrained")
    ax = figure.subplots()
    if found.shows == "bars":
        plots.plot_tornado(found.frame, ax)
    elif found.shows == "shares":
        plots.plot_shares(found.frame, ax, top=MOST_SHARES)
    elif found.functions is not None:
        plots.plot_curve(found.functions, found.document["parameter"]["name"], ax)
    else:
        from epidural_dx.analysis.sensitivity import two_way

        # a finer grid than people are shown, for smooth lines
        first, second = (found.document[one]["name"] for one in ("first", "second"))
        cause = found.document["cause"]
        fine = two_way(model, evidence, first, second, hypothesis=cause, points=PLOT_GRID)
        plots.plot_two_way(fine, ax)
    save_picture(figure, out)


# ----------------------------------------------------------------------------- for people


def _value(kind: str, value: float | None) -> str:
    """Return the value of a figure in its unit."""
    if value is None:
        return "–"
    if kind == "column":
        return percent(value)
    return number(value, 2) if abs(value) < 100 else number(value, 3)


def _range_bar(low: float, now: float, high: float, width: int, encoding: str) -> str:
    """Draw a range on the scale from 0 to 1, with a mark where the probability is now."""
    plain = not encoding.lower().startswith("utf")
    line, rail, mark = ("=", ".", "|") if plain else ("━", "·", "┃")
    first, last = sorted((low, high))
    start, end, here = (min(int(p * width), width - 1) for p in (first, last, now))
    cells = [line if start <= i <= end else rail for i in range(width)]
    cells[here] = mark
    return "".join(cells)


def _limits(row: Mapping[str, Any]) -> str:
    """Say in words from which value another cause leads."""
    parts = []
    if row["overturned_below"] is not None:
        parts.append(f"below {_value(row['kind'], row['overturned_below'])}")
    if row["overturned_above"] is not None:
        parts.append(f"above {_value(row['kind'], row['overturned_above'])}")
    return " or ".join(parts) or "never"


def _print_tornado(console: Console, document: Mapping[str, Any]) -> None:
    cause, now, leader = document["cause"], document["probability"], document["leader"]
    rows = document["tornado"]
    width = 30 if console.width >= 100 else 16
    table = make_table(
        f"Figures that move {cause} ({percent(now)} now) most",
        "figure",
        "5 %",
        "95 %",
        "0 % to 100 %".ljust(width),
        f"{leader} lost" if console.width >= 100 else "overturned",
        right=(1, 2),
    )
    table.padding = (0, 2, 1, 0)
    for row in rows:
        figure = text(row["parameter"])
        kind = row["kind"]
        figure.append(
            f"\n{row['grade']}: {_value(kind, row['value'])} "
            f"({_value(kind, row['low'])} to {_value(kind, row['high'])})",
            style="dim",
        )
        earnest = {row["leader_at_low"], row["leader_at_high"]} != {leader}
        table.add_row(
            figure,
            text(percent(row["at_low"])),
            text(percent(row["at_high"])),
            text(_range_bar(row["at_low"], now, row["at_high"], width, console.encoding), "cyan"),
            text(_limits(row), "yellow" if earnest else "dim"),
        )
    table.columns[3].no_wrap = True
    table.columns[3].min_width = width
    table.columns[4].min_width = 11
    console.print(indented(table))
    mark = "┃" if console.encoding.lower().startswith("utf") else "|"
    lost = f"{leader} lost" if console.width >= 100 else "overturned"
    console.print(
        indented(
            text(
                f"A bar runs from the probability of {cause} with one figure at the 5 % end of its "
                f"own 90 % range to that with it at the 95 % end, all else kept; {mark} is now. "
                f"“{lost}”: the values of the figure at which {leader} no longer leads; yellow "
                "where its range reaches them. Rates are per 100,000 people and year, "
                "associations log odds ratios.",
                "dim",
            )
        )
    )
    console.print()


def _print_findings(console: Console, document: Mapping[str, Any]) -> None:
    rows = [
        row
        for row in document["findings"]
        if row["overturns"]
        and (row["instead"] is None or row["probability_of_state"] >= BELIEVABLE)
    ]
    if not rows:
        console.print(
            indented(
                text("No single finding, taken away or read otherwise, changes the leader.", "dim")
            )
        )
        console.print()
        return
    rows.sort(key=lambda r: -(2.0 if r["instead"] is None else r["probability_of_state"]))
    table = make_table(
        "Findings that would change the leader",
        "finding",
        "instead",
        "leads then",
        document["cause"],
        "chance of it",
        right=(3, 4),
    )
    for row in rows[:MOST_FINDINGS]:
        instead = row["instead"]
        table.add_row(
            text(f"{row['finding']}: {row['observed']}"),
            text(instead or "(not known)"),
            text(row["leader"]),
            text(percent(row["probability"])),
            text("–" if instead is None else percent(row["probability_of_state"])),
        )
    console.print(indented(table))
    left = len(rows) - MOST_FINDINGS
    console.print(
        indented(
            text(
                "Chance of it: of this result, given all other findings."
                + (f" {left} more: --json." if left > 0 else ""),
                "dim",
            )
        )
    )
    console.print()


def _print_ranking(console: Console, document: Mapping[str, Any]) -> None:
    found, shares = document["ranking"], document["shares"]
    tests = found["tests"]
    margin = f"{found['margin_bits']:.2f} ± {found['sd_bits']:.2f} bits"
    if len(tests) == 2:
        console.print(
            text(
                f"{tests[0]} tells more about the cause than {tests[1]} in "
                f"{percent(found['first']) if found['first'] else 'none'} of {shares['draws']} "
                f"draws of every figure (by {margin})."
            )
        )
    else:
        console.print(text(f"{tests[0]} is the only test left: {margin} about the cause."))
    console.print()
    of = f"the lead of {tests[0]} over {tests[1]}" if len(tests) == 2 else tests[0]
    _print_shares_of(console, shares, of, f"{found['sd_bits']:.2f} bits")


def _print_shares(console: Console, document: Mapping[str, Any]) -> None:
    shares = document["shares"]
    spread = f"{100 * shares['sd']:.0f} points"
    _print_shares_of(console, shares, document["cause"], spread)


def _print_shares_of(console: Console, shares: Mapping[str, Any], of: str, spread: str) -> None:
    by = shares["by"]
    rows = [r for r in shares["rows"] if r["share"] is not None and r["share"] > 0][:MOST_SHARES]
    totals = any(r.get("total") is not None for r in rows)
    width = 16 if console.width >= 100 and not totals else 8
    largest = max((r["share"] for r in rows), default=1.0)
    extra = ("total", "±") if totals else ()
    table = make_table(
        f"Where the uncertainty of {of} comes from, by {by}",
        by,
        "share",
        "±",
        "",
        *extra,
        "figures",
        right=(1, 2, *range(4, 5 + len(extra))),
    )
    for row in rows:
        cells = [
            text(row.get("citation") or row["name"]),
            text(percent(row["share"])),
            text(f"{100 * row['error']:.1f}"),
            text(bar(row["share"] / largest, width, console.encoding), "cyan"),
        ]
        if totals:
            has = row["total"] is not None
            cells.append(text(percent(max(row["total"], 0.0)) if has else "–"))
            cells.append(text(f"{100 * row['total_error']:.1f}" if has else "–"))
        table.add_row(*cells, text(f"{row['parameters']:,}"))
    table.columns[3].no_wrap = True
    table.columns[3].min_width = width
    console.print(indented(table))
    note = (
        f"Share of the variance over {shares['draws']} draws (standard deviation {spread}), "
        "± standard error. Single figures make "
        f"{percent(min(max(shares['explained'], 0.0), 1.0))} of it one by one, figures acting "
        "together most of the rest."
    )
    if totals:
        note += " Total: with everything in which it acts together with others."
    console.print(indented(text(note, "dim")))
    console.print()


def _print_one(console: Console, document: Mapping[str, Any]) -> None:
    one, cause = document["parameter"], document["cause"]
    kind = one["kind"]
    unit = {"rate": " per 100,000 people and year", "association": " (log odds ratio)"}.get(
        kind, ""
    )
    console.print(text(one["name"], "bold cyan"))
    console.print(
        text(
            f"{one['grade']}: {_value(kind, one['value'])}{unit}, 90 % range "
            f"{_value(kind, one['low'])} to {_value(kind, one['high'])}"
        )
    )
    limits = _limits({"kind": kind, **one})
    leader = document["leader"]
    console.print(
        text(
            f"No value that can be tried takes the lead from {leader}."
            if limits == "never"
            else f"{leader} no longer leads {limits}."
        )
    )
    console.print()
    width = 30 if console.width >= 100 else 20
    table = make_table(None, "figure", cause, "", "leads", right=(0, 1))
    for row in document["curve"]:
        is_now = row["value"] == one["value"]
        table.add_row(
            text(_value(kind, row["value"]) + (" now" if is_now else "    "), "bold" * is_now),
            text(percent(row["probability"]), "bold" * is_now),
            text(bar(row["probability"], width, console.encoding), "cyan"),
            text(row["leader"], "" if row["leader"] == leader else "yellow"),
        )
    table.columns[2].no_wrap = True
    table.columns[2].min_width = width
    console.print(indented(table))
    console.print()
    sources = make_table("Rests on", "source", "share", right=(1,))
    for row in one["sources"]:
        sources.add_row(text(row["citation"] or row["source"]), text(percent(row["share"])))
    console.print(indented(sources))
    console.print()


def _print_two(console: Console, document: Mapping[str, Any]) -> None:
    first, second, rows = document["first"], document["second"], document["grid"]
    leader = document["leader"]
    down = sorted({row["first"] for row in rows})
    across = sorted({row["second"] for row in rows})
    at = {(row["first"], row["second"]): row for row in rows}
    console.print(text(f"{document['cause']}, by two figures over their 90 % ranges", "bold"))
    for side, one in (("down", first), ("across", second)):
        console.print(text(f"{side}: {one['name']} (now {_value(one['kind'], one['value'])})"))
    console.print()
    table = make_table(
        None, "", *(_value(second["kind"], y) for y in across), right=tuple(range(GRID + 1))
    )
    for x in down:
        cells = [at[x, y] for y in across]
        table.add_row(
            text(_value(first["kind"], x), "dim"),
            *(
                text(
                    percent(c["probability"]) + (" " if c["leader"] == leader else "*"),
                    "" if c["leader"] == leader else "yellow",
                )
                for c in cells
            ),
        )
    console.print(indented(table))
    others = sorted({row["leader"] for row in rows} - {leader})
    if others:
        note = f"* {' or '.join(others)} leads there."
    else:
        note = f"{leader} leads everywhere."
    console.print(indented(text(note, "dim")))
    console.print()
