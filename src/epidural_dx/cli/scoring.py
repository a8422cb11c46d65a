"""``score``: every row of a table, written whole or not at all."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from epidural_dx.cli.inputs import open_model
from epidural_dx.cli.writing import written_whole
from epidural_dx.errors import CaseError

#: Patients per call of the engine, and per step of the progress bar.
CHUNK = 500
#: Columns that name the patient when ``--id`` does not say.
IDENTIFIERS = ("id", "patient", "patient_id", "case", "name")


def run(cohort: Path, out: Path, id: str | None, *, model_options: Mapping[str, Any]) -> None:
    """Diagnose every row of `cohort` and write the posteriors to `out`.

    Raises
    ------
    EpiduralDxError
        A file that cannot be read or written, an unknown column, or a bad cell (names the row).
    """
    import pandas as pd

    identifier, columns, names, rows = _read(cohort, id)
    if out.exists() and out.samefile(cohort):
        raise CaseError("is the cohort itself", where=str(out))
    model = open_model(**model_options, backend="auto")
    parts = []
    with _progress(len(rows)) as advance:
        for start in range(0, len(rows), CHUNK):
            frame = pd.DataFrame(
                rows[start : start + CHUNK],
                columns=columns,
                index=pd.Index(names[start : start + CHUNK], name=identifier),
                dtype=object,
            )
            try:
                parts.append(model.diagnose_batch(frame))
            except ValueError as error:
                located = getattr(error, "located", None)
                if located is None:
                    raise
                where = getattr(error, "where", None)
                raise located(f"{cohort}, {where}" if where else str(cohort)) from None
            advance(len(frame))
    result = pd.concat(parts)
    causes = [column for column in result.columns if column.startswith("cause.")]
    leaders = [str(leader).removeprefix("cause.") for leader in result[causes].idxmax(axis=1)]
    result.insert(0, "leading_cause", leaders)
    with written_whole(out) as temporary:
        result.to_csv(temporary, encoding="utf-8")
    patients = "1 patient" if len(result) == 1 else f"{len(result):,} patients"
    print(f"{out}: {patients}, {len(result.columns)} columns")


def _read(path: Path, id: str | None) -> tuple[str, list[str], list[str], list[list[str | None]]]:
    """Read a CSV file: name of the identifier, other columns, identifiers, cells."""
    where = str(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            lines = [line for line in csv.reader(handle, strict=True) if line]
    except UnicodeDecodeError as error:
        raise CaseError(f"is not UTF-8 text (byte {error.start})", where=where) from None
    except csv.Error as error:
        raise CaseError(f"is no valid CSV ({error})", where=where) from None
    except OSError as error:
        raise CaseError(f"cannot be read ({error.strerror or error})", where=where) from None
    if not lines:
        raise CaseError("is empty", where=where)
    header = [name.strip() for name in lines[0]]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise CaseError(f"two columns are named {twice!r}", where=where)
    if id is not None and id not in header:
        raise CaseError(f"has no column {id!r}", allowed=header, where=where)
    if len(lines) == 1:
        raise CaseError("holds no patient", where=where)
    for number, line in enumerate(lines[1:], start=1):
        if len(line) != len(header):
            raise CaseError(
                f"row {number} has {len(line)} cells, the header {len(header)}", where=where
            )
    chosen = id or next((name for name in header if name.lower() in IDENTIFIERS), None)
    place = header.index(chosen) if chosen else None
    columns = [name for i, name in enumerate(header) if i != place]
    names = [
        line[place] if place is not None else str(number)
        for number, line in enumerate(lines[1:], start=1)
    ]
    cells: list[list[str | None]] = [
        [cell.strip() or None for i, cell in enumerate(line) if i != place] for line in lines[1:]
    ]
    return chosen or "row", columns, names, cells


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Yield a function that moves the bar; without a terminal it does nothing."""
    if not sys.stderr.isatty() or total <= CHUNK:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Diagnosing", total=total)
        yield lambda count: bar.advance(task, count)
