"""The published figures behind the model, and behind one variable or cause of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from epidural_dx.clinical.spelling import nearest
from epidural_dx.documents.answers import identity
from epidural_dx.documents.listings import known, known_variable
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from epidural_dx.literature.rows import Source
    from epidural_dx.literature.topics import Catalog, Row, Topic
    from epidural_dx.model import Model


def overview(catalog: Catalog) -> dict[str, Any]:
    """List every source, the most used first, and the topics."""
    counts: dict[str, int] = {}
    for one in catalog.rows:
        counts[one["source_id"]] = counts.get(one["source_id"], 0) + 1
    listed = sorted(catalog.sources.values(), key=lambda s: (-counts.get(s.id, 0), s.id))
    return {
        "topics": {t.name: t.label for t in catalog.topics.values()},
        "sources": [{**source(s), "rows": counts.get(s.id, 0)} for s in listed],
    }


def topic(catalog: Catalog, one: Topic) -> dict[str, Any]:
    """Give the figures of a topic."""
    return {
        "topic": one.name,
        "label": one.label,
        "parts": [
            {
                "label": part.label,
                "rows": [figure(row, catalog) for row in part.rows],
                "tallies": [tally(row, catalog) for row in part.tallies],
            }
            for part in one.parts
        ],
    }


def known_topic(catalog: Catalog, name: str) -> Topic:
    """Return a topic by name.

    Raises
    ------
    EvidenceError
        There is none.
    """
    return catalog.topics[known(name, "topic", catalog.topics)]


def check_subject(catalog: Catalog, variable: str | None, cause: str | None) -> None:
    """Refuse a variable or a cause that no row is on.

    Raises
    ------
    EvidenceError
        Names the nearest.
    """
    for what, wanted, columns in (
        ("variable", variable, ("variable", "model_variable")),
        ("cause", cause, ("cause",)),
    ):
        on_file = {row[column] for row in catalog.rows for column in columns}
        if wanted is not None and wanted not in on_file:
            raise EvidenceError(
                f"no row is on the {what} {wanted!r}",
                value=wanted,
                nearest=nearest(wanted, sorted(on_file), 1),
            )


def found(
    catalog: Catalog, query: str = "", variable: str | None = None, cause: str | None = None
) -> dict[str, Any]:
    """Give rows and sources by text, variable and cause.

    Raises
    ------
    EvidenceError
        No row is on that variable or cause.
    """
    check_subject(catalog, variable, cause)
    rows, sources = catalog.search(query, variable or "", cause or "")
    return {
        "query": query,
        "variable": variable,
        "cause": cause,
        "rows": [figure(row, catalog) for row in rows],
        "sources": [source(one) for one in sources],
    }


def behind_variable(model: Model, catalog: Catalog, spelled: str) -> dict[str, Any]:
    """Give what every column of a variable's table rests on, with its figures and sources.

    Returns
    -------
    dict
        ``columns``: each with ``given`` and ``state`` (P(variable | given = state)), ``context``,
        ``probabilities`` by state, ``effective_size`` in patients, ``grade``, the ids of its
        literature ``rows``, the share that rests on each of its ``sources``, and ``why`` a
        declared figure is what it is; ``rows`` and ``sources`` give those in full.

    Raises
    ------
    EvidenceError
        Unknown variable.
    """
    from epidural_dx.analysis.parameters import parameters_of, source_shares, state_names
    from epidural_dx.network.declared import read_stated

    v = known_variable(model, spelled)
    stated = read_stated(model.priors)
    own = {p.key: p for p in parameters_of(model) if p.kind == "column" and p.key[0] == v.name}
    shares = dict(zip(own, source_shares(model, list(own.values())), strict=True))
    columns: list[dict[str, Any]] = []
    for key, pooled in model.built.columns.items():
        name, given, state, context = key
        if name != v.name:
            continue
        declared = stated.get((context, name, state))
        columns.append(
            {
                "given": given,
                "state": state,
                "context": context,
                "probabilities": dict(
                    zip(
                        state_names(model, key, pooled, stated),
                        map(float, pooled.mean),
                        strict=True,
                    )
                ),
                "effective_size": float(pooled.ess),
                "grade": pooled.grade,
                "rows": list(pooled.rows),
                "sources": dict(sorted(shares.get(key, {}).items(), key=lambda item: -item[1])),
                "why": "" if declared is None else declared.why,
            }
        )
    rows = {row for column in columns for row in column["rows"]}
    figures = [row for row in catalog.rows if row["id"] in rows]
    cited = dict.fromkeys(one for column in columns for one in column["sources"])
    cited |= dict.fromkeys(row["source_id"] for row in figures)
    return {
        "model": identity(model),
        "variable": v.name,
        "columns": columns,
        "rows": [figure(row, catalog) for row in figures],
        "sources": [source(catalog.sources[one]) for one in cited if one in catalog.sources],
    }


def behind_cause(model: Model, catalog: Catalog, name: str) -> dict[str, Any]:
    """Give what the rate of every mechanism of a cause rests on.

    Returns
    -------
    dict
        ``rates``: each with ``mechanism``, ``per_100000_person_years``, ``log_sd``, ``rows``.

    Raises
    ------
    EvidenceError
        Unknown cause.
    """
    from epidural_dx.network.rates import read_rates

    known(name, "cause", model.causes)
    own = {m.name for m in model.mechanisms if m.cause == name}
    figures = {f.id: f for f in read_rates(model.priors)}
    rates: list[dict[str, Any]] = []
    for full_name, pooled in model.built.rates.items():
        mechanism, _, among = full_name.partition("@")
        if mechanism not in own:
            continue
        used = [figures[row] for row in pooled.rows if row in figures]
        rates.append(
            {
                "mechanism": mechanism,
                "among": among,
                "per_100000_person_years": float(pooled.rate),
                "log_sd": float(pooled.log_sd),
                "figures": [
                    {
                        "id": f.id,
                        "grade": f.grade,
                        "sources": [one for one in f.source_id.split("|") if one],
                    }
                    for f in used
                ],
            }
        )
    cited = dict.fromkeys(s for r in rates for f in r["figures"] for s in f["sources"])
    return {
        "model": identity(model),
        "cause": name,
        "rates": rates,
        "sources": [source(catalog.sources[one]) for one in cited if one in catalog.sources],
    }


def citation(row: Row, catalog: Catalog) -> str:
    """Return the source in one line; what the row itself calls it where no more is known."""
    one = catalog.sources.get(row["source_id"])
    return (one.citation if one else "") or row.get("source", "") or row["source_id"]


def figure(row: Row, catalog: Catalog) -> Mapping[str, Any]:
    """Give one published figure."""
    numbers = ("k", "n", "point", "low", "high")
    return {
        **{k: v for k, v in row.items() if k not in numbers},
        **{k: float(row[k]) if row[k] else None for k in numbers},
        "citation": citation(row, catalog) or None,
    }


def tally(row: Row, catalog: Catalog) -> Mapping[str, Any]:
    """Give one count of a patient table beside the printed one."""
    numbers = ("printed_k", "printed_n", "recomputed_k", "recomputed_n", "difference")
    return {
        **{k: v for k, v in row.items() if k not in numbers},
        **{k: int(row[k]) if row[k] else None for k in numbers},
        "citation": citation(row, catalog) or None,
    }


def source(one: Source) -> Mapping[str, Any]:
    """Give one publication."""
    return {**one.__dict__, "citation": one.citation}
