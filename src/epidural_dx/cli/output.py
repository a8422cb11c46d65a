"""How answers look: consoles, bars, percentages, JSON, and a sign of life while one waits."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Widest table; on a broader terminal lines stay readable.
WIDEST = 120

#: Seconds of silence before something moves on the terminal.
PATIENCE = 0.7
#: Seconds of silence before a line tells a file or pipe what takes so long.
PIPED_PATIENCE = 5.0


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
    """Return styled text that wraps well; nothing in it is read as markup."""
    return _text_class()(content, style=style)


#: Stands for a space at which no line ends (rich ends lines at no-break spaces too).
_HELD = "\ue000"


@cache
def _text_class() -> Any:
    from rich.text import Text

    class WrappedText(Text):
        """Text that keeps a number and its % on one line, and breaks long names after ``_``."""

        def wrap(self, console: Any, width: int, **options: Any) -> Any:
            """Return the lines of the text."""
            held = Text.copy(self)
            held.plain = held.plain.replace(" %", f"{_HELD}%")
            cuts = _name_cuts(held.plain, width)
            if cuts:
                held = Text(" ").join(held.divide(cuts))
            lines = held.wrap(console, width, **options)
            for line in lines:
                line.plain = line.plain.replace(_HELD, " ")
            return lines

    return WrappedText


def _name_cuts(content: str, width: int) -> list[int]:
    """Return the places after underscores at which names longer than a line are broken."""
    cuts = []
    for word in re.finditer(r"\S+", content):
        start = word.start()
        while word.end() - start > width:
            cut = content.rfind("_", start, start + width) + 1
            if cut <= start:
                break
            cuts.append(cut)
            start = cut
    return cuts


def indented(content: Any, by: int = 2) -> Any:
    """Return something printable set in from the left."""
    from rich.padding import Padding

    return Padding(content, (0, 0, 0, by), expand=False)


def fine_percent(probability: float) -> str:
    """Return a share with two significant digits, however small."""
    return f"{100 * probability:.2g} %"


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
    if value and abs(value) < 0.01:
        return f"{value:.2g}"
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
def waiting(what: str, *, piped: bool = False) -> Iterator[None]:
    """Show a spinner on a terminal's standard error when the work takes longer than a moment.

    Parameters
    ----------
    what : str
        What is done.
    piped : bool
        A file or pipe gets a line too, later: where nothing can be refused any more, so that bad
        input leaves one line on standard error.
    """
    terminal = sys.stderr.isatty()
    if not (terminal or piped):
        yield
        return
    shown: list[Any] = []
    lock = threading.Lock()
    done = False

    def show() -> None:
        with lock:
            if done:
                return
            if not terminal:
                print(f"{what} …", file=sys.stderr, flush=True)
                return
            from rich.console import Console

            status = Console(stderr=True).status(f"{what} …")
            status.start()
            shown.append(status)

    timer = threading.Timer(PATIENCE if terminal else PIPED_PATIENCE, show)
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
