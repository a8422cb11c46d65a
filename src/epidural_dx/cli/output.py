"""How answers look: consoles, bars, percentages, JSON, and a sign of life while one waits."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Widest table; on a broader terminal lines stay readable.
WIDEST = 120

#: Seconds of silence before something moves on the terminal.
PATIENCE = 0.7


def make_console() -> Console:
    """Return a console on standard output: plain unless it is a terminal."""
    from rich.console import Console

    class Pipe(Console):
        """A console that leaves a closed pipe to :func:`epidural_dx.cli.run.main`."""

        def on_broken_pipe(self) -> None:
            """Raise instead of leaving with another exit code."""
            raise BrokenPipeError

    console = Pipe(highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 100
    console.width = min(console.width, WIDEST)
    return console


def make_table(title: str | None, *columns: str, right: Sequence[int] = ()) -> Table:
    """Return a table without lines between columns.

    Parameters
    ----------
    title : str or None
        Shown above, to the left.
    columns : str
        Headings.
    right : sequence of int
        Columns that are set to the right.
    """
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        box=None,
        padding=(0, 2, 0, 0),
        pad_edge=False,
    )
    for i, heading in enumerate(columns):
        table.add_column(
            heading,
            justify="right" if i in right else "left",
            no_wrap=i in right,
            overflow="fold",
        )
    return table


def text(content: str, style: str = "") -> Any:
    """Return styled text; nothing in it is read as markup."""
    from rich.text import Text

    return Text(content, style=style)


def indented(content: Any, by: int = 2) -> Any:
    """Return something printable set in from the left."""
    from rich.padding import Padding

    return Padding(content, (0, 0, 0, by), expand=False)


def percent(probability: float) -> str:
    """Return a probability for people; nothing possible is shown as 0% or 100%."""
    if probability >= 0.9995:
        return ">99.9%"
    if probability >= 0.995:
        return f"{100 * probability:.1f}%"
    if probability >= 0.0995:
        return f"{100 * probability:.0f}%"
    if probability >= 0.00095:
        return f"{100 * probability:.1f}%"
    return "<0.1%"


def fine_percent(probability: float) -> str:
    """Return a share with two significant digits, however small."""
    return f"{100 * probability:.2g}%"


def bar(probability: float, width: int, encoding: str) -> str:
    """Return a bar of eighths of a character (of ``#`` where the encoding has no blocks)."""
    if not encoding.lower().startswith("utf"):
        return "#" * round(probability * width)
    eighths = round(probability * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with few digits and thousands separated, or a dash for none."""
    if value is None or value != value:
        return "–"
    if value and abs(value) < 1e-3:
        return f"{value:.0e}"
    shown = f"{value:,.{max(0, digits - 1 - _magnitude(value))}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _magnitude(value: float) -> int:
    size = 0
    while abs(value) >= 10 ** (size + 1):
        size += 1
    return size


def print_json(document: Mapping[str, Any]) -> None:
    """Print exactly one JSON document."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
    sys.stdout.write("\n")


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a spinner on a terminal's standard error when the work takes longer than a moment."""
    if not sys.stderr.isatty():
        yield
        return
    shown: list[Any] = []
    lock = threading.Lock()
    done = False

    def show() -> None:
        from rich.console import Console

        with lock:
            if not done:
                status = Console(stderr=True).status(f"{what} …")
                status.start()
                shown.append(status)

    timer = threading.Timer(PATIENCE, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            done = True
        for status in shown:
            status.stop()
