"""``sources``: published figures with their sources, by text, variable, cause or topic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from epidural_dx.cli.output import indented, make_console, make_table, number, print_json, text
from epidural_dx.documents import sources as documents

if TYPE_CHECKING:
    from rich.console import Console

    from epidural_dx.literature.topics import Catalog, Row, Topic


def run(
    query: str,
    variable: str | None,
    cause: str | None,
    topic: str | None,
    *,
    as_json: bool,
    priors: Path | None,
    networks: Path | None,
) -> None:
    """Print literature rows and their sources.

    Raises
    ------
    EpiduralDxError
        A wrong prior file, or a topic, variable or cause that does not exist.
    """
    from epidural_dx.literature.topics import read_catalog
    from epidural_dx.store import data_folder

    data_folder("networks", networks)
    catalog = read_catalog(data_folder("priors", priors))
    if topic is not None:
        _topic(catalog, documents.known_topic(catalog, topic), as_json=as_json)
        return
    documents.check_subject(catalog, variable, cause)
    if not query and variable is None and cause is None:
        _overview(catalog, as_json=as_json)
        return
    if as_json:
        print_json(documents.found(catalog, query, variable, cause))
        return
    rows, sources = catalog.search(query, variable or "", cause or "")
    console = make_console()
    if not rows and not sources:
        console.print(text("No figure and no source matches.", "yellow"))
        return
    references = _References(catalog)
    _print_rows(console, rows, references)
    without = [s for s in sources if s.id not in references.numbers]
    references.print(console)
    for source in without:
        console.print(indented(text(f"{source.citation}  (no row)", "dim")))


class _References:
    """Numbers sources in the order in which they are first cited."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.numbers: dict[str, int] = {}
        self.labels: dict[str, str] = {}

    def cite(self, row: Row) -> str:
        """Return ``[n]``, or nothing where there is no source."""
        source_id = row["source_id"]
        if not source_id:
            return ""
        self.labels.setdefault(source_id, documents.citation(row, self.catalog))
        return f"[{self.numbers.setdefault(source_id, len(self.numbers) + 1)}]"

    def print(self, console: Console) -> None:
        """Print the cited sources."""
        if not self.numbers:
            return
        table = make_table("Sources", "", "")
        table.show_header = False
        for source_id, number_ in self.numbers.items():
            table.add_row(text(f"[{number_}]", "dim"), text(self.labels[source_id]))
        table.columns[0].no_wrap = True
        console.print(table)


def _topic(catalog: Catalog, topic: Topic, *, as_json: bool) -> None:
    if as_json:
        print_json(documents.topic(catalog, topic))
        return
    console = make_console()
    console.print(text(topic.label, "bold"))
    console.print()
    references = _References(catalog)
    for part in topic.parts:
        console.print(text(part.label, "bold cyan"))
        if part.rows:
            _print_rows(console, part.rows, references)
        if part.tallies:
            _print_tallies(console, part.tallies, references)
        console.print()
    references.print(console)


def _print_rows(console: Console, rows: Sequence[Row], references: _References) -> None:
    wide = console.width >= 100
    table = make_table(
        None, "figure", "k/n", "value", *(["read", "use"] if wide else []), "", right=(1, 2)
    )
    table.padding = (0, 2, 1, 0)
    for row in rows:
        figure = text(_figure(row))
        about = " · ".join(part for part in (row["cause"], row["context"]) if part)
        if about:
            figure.append(f"\n{about}", style="dim")
        if row["population"]:
            figure.append(f"\n{row['population']}", style="dim")
        figure.append(f"\n{row['id']}", style="dim")
        if row["note"]:
            figure.append(f": {row['note']}", style="dim")
        if not wide:
            figure.append(f"\n{row['verified']}, {_use(row)}", style="dim")
        table.add_row(
            figure,
            text(_counts(row["k"], row["n"])),
            text(_value(row)),
            *([text(row["verified"], "dim"), text(_use(row), "dim")] if wide else []),
            text(references.cite(row), "dim"),
        )
    console.print(indented(table))


def _print_tallies(console: Console, rows: Sequence[Row], references: _References) -> None:
    table = make_table(None, "recounted patient by patient", "printed", "counted", "", right=(1, 2))
    for row in rows:
        figure = text(row["quantity"])
        if row["explanation"]:
            figure.append(f"\n{row['explanation']}", style="dim")
        differs = row["difference"] not in ("", "0")
        table.add_row(
            figure,
            text(_counts(row["printed_k"], row["printed_n"]) or "–"),
            text(
                _counts(row["recomputed_k"], row["recomputed_n"]), "bold yellow" if differs else ""
            ),
            text(references.cite(row), "dim"),
        )
    console.print(indented(table))


def _overview(catalog: Catalog, *, as_json: bool) -> None:
    listed = documents.overview(catalog)
    if as_json:
        print_json(listed)
        return
    sources = listed["sources"]
    console = make_console()
    table = make_table(
        f"{len(catalog.rows):,} figures from {len(sources)} sources", "rows", "source", right=(0,)
    )
    for source in sources:
        table.add_row(text(str(source["rows"])), text(source["citation"] or source["id"]))
    console.print(table)
    console.print()
    console.print(text("Topics (--topic NAME):", "bold"))
    for topic in catalog.topics.values():
        console.print(indented(text(f"{topic.name}: {topic.label}")))


def _figure(row: Row) -> str:
    return f"{row['variable']} = {row['state']}" if row["state"] else row["variable"]


def _use(row: Row) -> str:
    return row["use"] if row["role"] == "case" else f"{row['use']} ({row['role']})"


def _counts(k: str, n: str) -> str:
    if not n:
        return k
    return f"{number(float(k), 9) if k else '?'}/{number(float(n), 9)}"


def _value(row: Row) -> str:
    """Return a share as a percentage, anything else with its unit; the interval below."""
    share = row["unit"] in ("proportion", "")

    def shown(cell: str) -> str:
        try:
            value = float(cell)
        except ValueError:
            return cell
        if share and 0 <= value <= 1:
            return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"
        return number(value)

    point = row["point"]
    if not point and row["k"] and row["n"] and float(row["n"]):
        point = str(float(row["k"]) / float(row["n"]))
    result = shown(point) if point else ""
    if not share:
        result += f" {row['unit'].replace('_', ' ')}"
    if row["low"] or row["high"]:
        result += f"\n{shown(row['low'])} to {shown(row['high'])}"
    return result.strip()
