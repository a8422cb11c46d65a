"""Literature rows as they stand in the files, with their sources, and named selections of them.

For people who look figures up; pooling reads :mod:`epidural_dx.literature.rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from epidural_dx.errors import ModelError
from epidural_dx.literature.rows import LITERATURE_COLUMNS, Source, read_sources, read_table

TALLY_COLUMNS = (
    "quantity,column,value,printed_k,printed_n,recomputed_k,recomputed_n,difference,source_id,"
    "explanation"
).split(",")

Row = Mapping[str, str]


@dataclass(frozen=True)
class TopicPart:
    """One heading of a topic.

    Attributes
    ----------
    label : str
    rows : tuple of mapping
        Literature rows, columns as text.
    tallies : tuple of mapping
        Counts of a patient table, beside those that its paper printed.
    """

    label: str
    rows: tuple[Row, ...]
    tallies: tuple[Row, ...]


@dataclass(frozen=True)
class Topic:
    """A named selection of figures."""

    name: str
    label: str
    parts: tuple[TopicPart, ...]


@dataclass(frozen=True)
class Catalog:
    """Every row and source below the priors folder, and the topics over them.

    Attributes
    ----------
    rows : tuple of mapping
        Literature rows in the order of files and lines, columns as text, plus ``file``.
    sources : mapping of str to Source
    topics : mapping of str to Topic
    """

    rows: tuple[Row, ...]
    sources: Mapping[str, Source]
    topics: Mapping[str, Topic]

    def search(
        self, query: str = "", variable: str = "", cause: str = ""
    ) -> tuple[tuple[Row, ...], tuple[Source, ...]]:
        """Rows and sources that match every given condition.

        Parameters
        ----------
        query : str
            Text, in any case, anywhere in a row or its citation.
        variable : str
            Variable of the model, or of the paper.
        cause : str
            Cause of the lesion that the row is about or conditioned on.

        Returns
        -------
        rows : tuple of mapping
        sources : tuple of Source
            Those of the rows; with a query alone, also sources that match without rows.
        """
        words = query.lower().split()

        def cited(source: Source | None) -> str:
            return "" if source is None else f"{source.id} {source.citation} {source.pmcid}".lower()

        rows = tuple(
            row
            for row in self.rows
            if (not variable or variable in (row["variable"], row["model_variable"]))
            and (not cause or _is_about(row, cause))
            and _holds(
                words, f"{' '.join(row.values())} {cited(self.sources.get(row['source_id']))}"
            )
        )
        found = {row["source_id"]: None for row in rows if row["source_id"] in self.sources}
        if not variable and not cause:
            found |= {s.id: None for s in self.sources.values() if _holds(words, cited(s))}
        return rows, tuple(self.sources[name] for name in found)


def _holds(words: list[str], text: str) -> bool:
    lowered = text.lower()
    return all(word in lowered for word in words)


def _is_about(row: Row, cause: str) -> bool:
    given = (
        row["given_states"].split("|") if row["given"].startswith(("lesion", "etiology")) else []
    )
    stated = row["model_states"].split("|") if row["model_variable"].startswith("lesion") else []
    return row["cause"] == cause or any(
        name == cause or name.startswith(f"{cause}_") for name in (*given, *stated)
    )


def read_catalog(priors: Path) -> Catalog:
    """Read rows, sources and topics below the folder `priors`.

    Raises
    ------
    ModelError
        A malformed file, or a topic that names an unknown column or selects nothing.
    """
    rows: list[Row] = []
    for path in sorted((priors / "literature").glob("*.csv")):
        for _, row in read_table(path, LITERATURE_COLUMNS):
            rows.append({**row, "file": path.name})
    return Catalog(tuple(rows), read_sources(priors), _read_topics(priors, rows))


def _read_topics(priors: Path, rows: list[Row]) -> dict[str, Topic]:
    path = priors / "topics.yaml"
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        listed = document["topics"].items()
    except (
        OSError,
        yaml.YAMLError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        AttributeError,
    ) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "strerror", None) or repr(error)
        raise ModelError(
            f"topics cannot be read: {problem}",
            file=path,
            line=mark.line + 1 if mark else None,
        ) from None
    topics = {}
    for name, entry in listed:
        try:
            parts = tuple(_part(priors, path, name, part, rows) for part in entry["parts"])
            topics[name] = Topic(name, str(entry["label"]), parts)
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"the topic is incomplete: {error!r}", file=path, name=name) from None
    return topics


def _part(
    priors: Path, path: Path, name: str, entry: Mapping[str, Any], rows: list[Row]
) -> TopicPart:
    selections = entry.get("rows", [])
    for column in (c for selection in selections for c in selection):
        if column not in LITERATURE_COLUMNS:
            raise ModelError(f"literature rows have no column {column!r}", file=path, name=name)
    chosen = tuple(row for row in rows if any(_matches(row, one) for one in selections))
    tallies = []
    for table, quantities in entry.get("tallies", {}).items():
        for _, row in read_table(priors / "patients" / f"{table}_tallies.csv", TALLY_COLUMNS):
            if any(fnmatchcase(row["quantity"], pattern) for pattern in quantities):
                tallies.append(row)
    if not chosen and not tallies:
        raise ModelError(f"the part {entry['label']!r} selects nothing", file=path, name=name)
    return TopicPart(str(entry["label"]), chosen, tuple(tallies))


def _matches(row: Row, selection: Mapping[str, Any]) -> bool:
    for column, wanted in selection.items():
        patterns = wanted if isinstance(wanted, list) else [wanted]
        if not any(fnmatchcase(row[column], str(pattern)) for pattern in patterns):
            return False
    return True
