"""Reading the CSV tables of priors/ with errors that name file and line."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from epidural_dx.errors import ModelError

__all__ = ["Row", "read_table"]


class Row:
    """One line of a table.

    Parameters
    ----------
    cells : dict of str to str
        Column to text, stripped.
    file : Path
        The file.
    line : int
        The line on which the row ends, counted from 1.
    """

    def __init__(self, cells: dict[str, str], file: Path, line: int) -> None:
        self.cells = cells
        self.file = file
        self.line = line

    def __getitem__(self, column: str) -> str:
        """Return the text of a column."""
        return self.cells[column]

    def number(self, column: str, default: float | None = None) -> float:
        """Return a column as a finite number.

        Parameters
        ----------
        column : str
            The column.
        default : float, optional
            What an empty cell stands for; an empty cell is an error without it.

        Returns
        -------
        float
            The number.

        Raises
        ------
        ModelError
            If the cell is empty without a default, or no finite number.
        """
        text = self.cells[column]
        if text == "" and default is not None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"{text!r} is not a number", column)
        return value

    def choice(self, column: str, allowed: Sequence[str]) -> str:
        """Return a column that must hold one of a few words.

        Parameters
        ----------
        column : str
            The column.
        allowed : sequence of str
            The words.

        Returns
        -------
        str
            The word.

        Raises
        ------
        ModelError
            If it is another word.
        """
        text = self.cells[column]
        if text not in allowed:
            shown = ", ".join(word or "(empty)" for word in allowed)
            raise self.error(f"{text!r} is not one of {shown}", column)
        return text

    def error(self, problem: str, name: str | None = None) -> ModelError:
        """Return an error that names this file and line.

        Parameters
        ----------
        problem : str
            What is wrong.
        name : str, optional
            The column or thing.

        Returns
        -------
        ModelError
            To be raised.
        """
        return ModelError(problem, file=self.file, line=self.line, name=name)


def read_table(path: str | Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a CSV file that must have the given columns.

    Parameters
    ----------
    path : path-like
        The file, UTF-8, with a header.
    columns : sequence of str
        The columns that must be there; more may be.

    Yields
    ------
    Row
        One per line.

    Raises
    ------
    ModelError
        If the file cannot be read, a column is missing, or a line has too many or too few cells.
    """
    file = Path(path)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ModelError(
            f"cannot be read ({error.strerror or type(error).__name__})", file=file
        ) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"is not UTF-8 (byte {error.start})", file=file) from error
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        missing = [column for column in columns if column not in header]
        if missing:
            raise ModelError(f"lacks the column {', '.join(missing)}", file=file, line=1)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise ModelError(
                    f"has {len(cells)} cells instead of {len(header)}",
                    file=file,
                    line=reader.line_num,
                )
            stripped = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
            yield Row(stripped, file, reader.line_num)
    except csv.Error as error:
        raise ModelError(f"is not CSV ({error})", file=file, line=reader.line_num) from error
