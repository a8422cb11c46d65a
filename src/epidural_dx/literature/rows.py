"""Read the literature base: published figures, sources and the experts' tables.

Nothing is pooled here; a wrong cell in a file becomes one sentence with file, line and name.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from epidural_dx.errors import ModelError

ROLES = (
    "case",
    "control",
    "inverse",
    "severity_selected",
    "composite",
    "duplicate",
    "definition",
)
USES = ("pool", "rate", "prevalence", "check", "decision", "context")
LITERATURE_COLUMNS = (
    "id,kind,cause,context,variable,state,k,n,point,low,high,unit,population,source,doi_or_pmid,"
    "year,locator,verified,note,source_id,role,use,given,given_states,model_variable,"
    "model_states,scenario"
).split(",")
EXPERT_COLUMNS = (
    "expert,given,given_states,context,variable,states,probability,ess,basis,comment".split(",")
)


class Place(TypedDict):
    """Where something stands in a file: the keywords of :class:`ModelError`."""

    file: str
    line: int | None
    name: str


@dataclass(frozen=True)
class Figure:
    """One published figure, coded to the model's names.

    Attributes
    ----------
    id : str
        Unique name of the row, e.g. ``emh-037``.
    given, given_states : str, tuple of str
        The model variable that is conditioned on and its states (empty: nothing).
    variable, states : str, tuple of str
        The model variable and the union of states whose probability the figure states.
    k, n : float or None
        Counts; ``n`` may stand alone with ``point``.
    point, low, high : float or None
        Proportion (or quantity in ``unit``) with its interval.
    verified : {"seen", "recalled"}
        Whether the figure was read in a retrieved text.
    role, use : str
        See :data:`ROLES` and :data:`USES`.
    """

    id: str
    kind: str
    cause: str
    context: str
    given: str
    given_states: tuple[str, ...]
    variable: str
    states: tuple[str, ...]
    k: float | None
    n: float | None
    point: float | None
    low: float | None
    high: float | None
    unit: str
    population: str
    source: str
    source_id: str
    year: str
    verified: str
    role: str
    use: str
    scenario: str
    note: str
    file: str
    line: int

    @property
    def proportion(self) -> float | None:
        """The figure as a proportion: ``k / n`` where counted, else ``point``."""
        if self.k is not None and self.n:
            return self.k / self.n
        return self.point


@dataclass(frozen=True)
class ExpertCell:
    """One cell of one expert's table: P(variable in states | given = given_states)."""

    expert: str
    given: str
    given_states: tuple[str, ...]
    context: str
    variable: str
    states: tuple[str, ...]
    probability: float
    ess: float
    basis: str
    file: str = ""
    line: int | None = None


@dataclass(frozen=True)
class Source:
    """One publication (or declared opinion) that rows refer to."""

    id: str
    authors: str
    title: str
    journal: str
    year: str
    doi: str
    pmid: str
    pmcid: str
    url: str
    labels: str = ""

    @property
    def citation(self) -> str:
        """One line for people: authors, title, journal, year, identifier.

        Where none of them is known: what the rows call it.
        """
        parts = [p for p in (self.authors, self.title, self.journal, self.year) if p]
        code = f"doi:{self.doi}" if self.doi else f"PMID {self.pmid}" if self.pmid else self.pmcid
        return ". ".join([*parts, code] if code else parts) or self.labels.split(" | ")[0]


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield ``(line, row)`` of a UTF-8 CSV file that must hold `columns`.

    Raises
    ------
    ModelError
        File missing, wrong encoding, missing column, or a row with too many or too few cells.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ModelError("the file does not exist", file=str(path)) from None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ModelError(
            f"the file is not UTF-8 (byte {error.start})", file=str(path), line=line
        ) from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = [c for c in columns if c not in (reader.fieldnames or ())]
        if missing:
            raise ModelError(
                f"column {missing[0]!r} is missing; found {', '.join(reader.fieldnames or ())}",
                file=str(path),
                line=1,
                name=missing[0],
            )
        for row in reader:
            if None in row or None in row.values():
                raise ModelError(
                    f"the row has {'more' if None in row else 'fewer'} cells than the header",
                    file=str(path),
                    line=reader.line_num,
                    name=str(next(iter(row.values()))),
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise ModelError(
            f"the file is no valid CSV: {error}", file=str(path), line=reader.reader.line_num
        ) from None


def _number(text: str, column: str, path: Path, line: int, name: str) -> float | None:
    if text == "":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ModelError(
            f"{column} must be a number, got {text!r}", file=str(path), line=line, name=name
        )
    return value


def _states(text: str) -> tuple[str, ...]:
    return tuple(s for s in text.split("|") if s)


def read_figures(folder: Path) -> tuple[Figure, ...]:
    """Read every ``literature/*.csv`` below `folder` (the priors folder).

    Returns
    -------
    tuple of Figure
        In the order of files and lines.

    Raises
    ------
    ModelError
        Duplicate id, unknown role or use, a count above its denominator, a proportion outside
        0..1, or a pooled row without a source or a number.
    """
    figures: list[Figure] = []
    seen: dict[str, str] = {}
    for path in sorted((folder / "literature").glob("*.csv")):
        for line, row in read_table(path, LITERATURE_COLUMNS):
            name = row["id"]
            where: Place = {"file": str(path), "line": line, "name": name}
            k, n, point, low, high = (
                _number(row[column], column, path, line, name)
                for column in ("k", "n", "point", "low", "high")
            )
            if not name:
                raise ModelError("the row has no id", **where)
            if name in seen:
                raise ModelError(f"the id stands already in {seen[name]}", **where)
            seen[name] = f"{path.name}:{line}"
            for column, allowed in (("role", ROLES), ("use", USES)):
                if row[column] not in allowed:
                    raise ModelError(
                        f"{column} {row[column]!r} is not one of {', '.join(allowed)}", **where
                    )
            figure = Figure(
                id=name,
                kind=row["kind"],
                cause=row["cause"],
                context=row["context"],
                given=row["given"],
                given_states=_states(row["given_states"]),
                variable=row["model_variable"],
                states=_states(row["model_states"]),
                k=k,
                n=n,
                point=point,
                low=low,
                high=high,
                unit=row["unit"],
                population=row["population"],
                source=row["source"],
                source_id=row["source_id"],
                year=row["year"],
                verified=row["verified"],
                role=row["role"],
                use=row["use"],
                scenario=row["scenario"],
                note=row["note"],
                file=path.name,
                line=line,
            )
            if figure.use in ("pool", "prevalence", "rate") and not figure.source_id:
                raise ModelError("the figure has no source_id", **where)
            share = figure.proportion
            if k is not None and n is not None and k > n:
                raise ModelError(f"k = {k:g} is above n = {n:g}", **where)
            if figure.use == "pool" and share is None:
                raise ModelError("a pooled figure needs k and n, or point", **where)
            is_share = figure.use == "pool" or figure.unit == "proportion"
            if is_share and share is not None and not 0 <= share <= 1:
                raise ModelError(f"the proportion {share:g} is outside 0..1", **where)
            figures.append(figure)
    return tuple(figures)


def read_indirect(folder: Path, figures: Sequence[Figure]) -> dict[str, str]:
    """Read ``indirect.csv``: figures about other people or another definition than the model's.

    Parameters
    ----------
    folder : Path
        The priors folder.
    figures : sequence of Figure
        The rows that may be named.

    Returns
    -------
    dict of str to str
        The reason, by row id.

    Raises
    ------
    ModelError
        A row that does not exist or stands twice, or a row without a reason.
    """
    path = folder / "indirect.csv"
    known = {f.id for f in figures}
    reasons: dict[str, str] = {}
    for line, row in read_table(path, ("id", "why")):
        where: Place = {"file": str(path), "line": line, "name": row["id"]}
        if row["id"] not in known:
            raise ModelError("no figure has this id", **where)
        if row["id"] in reasons:
            raise ModelError("the figure stands twice", **where)
        if not row["why"]:
            raise ModelError("why is empty", **where)
        reasons[row["id"]] = row["why"]
    return reasons


def read_sources(folder: Path) -> dict[str, Source]:
    """Read ``sources.csv``: one row per source, keyed by its id.

    Raises
    ------
    ModelError
        A source that stands twice, or a malformed file.
    """
    path = folder / "sources.csv"
    columns = "source_id,authors,title,journal,year,doi,pmid,pmcid,url".split(",")
    sources: dict[str, Source] = {}
    for line, row in read_table(path, columns):
        name = row["source_id"]
        if name in sources:
            raise ModelError("the source stands twice", file=str(path), line=line, name=name)
        sources[name] = Source(name, *(row.get(c, "") for c in (*columns[1:], "labels_seen")))
    return sources


def check_source_ids(folder: Path, sources: Mapping[str, Source]) -> None:
    """Check that every source that any file below `folder` names is in ``sources.csv``.

    Raises
    ------
    ModelError
        An unknown source, with file and line.
    """
    for path in sorted(folder.rglob("*.csv")):
        for line, row in read_table(path, ()):
            cell = row.get("source_id") or row.get("source_ids") or ""
            for name in filter(None, cell.split("|")):
                if name not in sources:
                    raise ModelError(
                        f"the source {name!r} is not in sources.csv",
                        file=str(path),
                        line=line,
                        name=row.get("id") or row.get("variable"),
                    )


def read_experts(folder: Path) -> tuple[ExpertCell, ...]:
    """Read both experts' tables from ``elicited/*.csv``.

    Raises
    ------
    ModelError
        A probability (or rate) that is negative, or a malformed file.
    """
    cells: list[ExpertCell] = []
    for path in sorted((folder / "elicited").glob("*.csv")):
        for line, row in read_table(path, EXPERT_COLUMNS):
            name = f"{row['given']}={row['given_states']}"
            value = _number(row["probability"], "probability", path, line, name)
            ess = _number(row["ess"], "ess", path, line, name)
            if value is None or value < 0:
                raise ModelError(
                    f"probability must be a number of at least 0, got {row['probability']!r}",
                    file=str(path),
                    line=line,
                    name=name,
                )
            cells.append(
                ExpertCell(
                    expert=row["expert"],
                    given=row["given"],
                    given_states=_states(row["given_states"]),
                    context=row["context"],
                    variable=row["variable"],
                    states=_states(row["states"]),
                    probability=value,
                    ess=ess if ess is not None else 1.0,
                    basis=row["basis"],
                    file=path.name,
                    line=line,
                )
            )
    return tuple(cells)
