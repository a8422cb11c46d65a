"""Read what is declared beside the literature: stated columns, scenarios, associations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from epidural_dx.errors import ModelError
from epidural_dx.literature.rows import read_table
from epidural_dx.network.structure import read_yaml

STATED_COLUMNS = (
    "id,variable,given,given_state,state,probability,ess,grade,source_ids,rows,why".split(",")
)
ASSOCIATION_COLUMNS = "id,log_odds_ratio,low,high,grade,source_ids,why".split(",")


@dataclass(frozen=True)
class Stated:
    """One declared column of ``priors/stated.csv``.

    Attributes
    ----------
    id, variable, given, given_state : str
    probabilities : mapping of str to float
        By state; may sum to less than 1 where the rest is left to other figures.
    ess : float
        Effective patients it is worth.
    grade : str
    source_ids, rows : tuple of str
        Sources, and literature rows that it was derived from.
    why : str
    """

    id: str
    variable: str
    given: str
    given_state: str
    probabilities: Mapping[str, float]
    ess: float
    grade: str
    source_ids: tuple[str, ...]
    rows: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Scenario:
    """Base rates of one setting; never likelihoods.

    Attributes
    ----------
    name, label : str
    age_group : mapping of str to float
        Share of each age group in the population.
    contexts : tuple of str
        Which expert columns and rates replace the general ones (``high_tuberculosis`` …).
    context_share : float
        Share of the people who live in those contexts; the others have the general figures.
    odds : mapping of str to float
        Multipliers of the odds of a group of conditions (``cancer``).
    why : str
    source_ids : tuple of str
    reference_ages : mapping of str to float
        Ages of the reference scenario, in which marginal rates hold.
    patient_ages : mapping of str to float
        Ages of the population whose patients the experts' age groups of each lesion describe.
    """

    name: str
    label: str
    age_group: Mapping[str, float]
    contexts: tuple[str, ...]
    context_share: float
    odds: Mapping[str, float]
    why: str
    source_ids: tuple[str, ...]
    reference_ages: Mapping[str, float]
    patient_ages: Mapping[str, float]


@dataclass(frozen=True)
class Association:
    """A declared log odds ratio between two findings of one process, with its range."""

    id: str
    log_odds_ratio: float
    low: float
    high: float
    grade: str
    source_ids: tuple[str, ...]
    why: str


def read_stated(folder: Path) -> dict[tuple[str, str, str], Stated]:
    """Read ``stated.csv`` as columns keyed by (id, variable, given state).

    Raises
    ------
    ModelError
        A probability outside 0..1, a column whose sum exceeds 1, or a missing source.
    """
    path = folder / "stated.csv"
    collected: dict[tuple[str, str, str], list[tuple[int, dict[str, str]]]] = {}
    for line, row in read_table(path, STATED_COLUMNS):
        collected.setdefault((row["id"], row["variable"], row["given_state"]), []).append(
            (line, row)
        )
    result = {}
    for key, rows in collected.items():
        probabilities: dict[str, float] = {}
        for line, row in rows:
            name = "/".join(key)
            try:
                value = float(row["probability"])
                ess = float(row["ess"])
            except ValueError:
                raise ModelError(
                    "probability and ess must be numbers", file=path, line=line, name=name
                ) from None
            if not 0 <= value <= 1:
                raise ModelError(
                    f"the probability {value:g} is outside 0..1", file=path, line=line, name=name
                )
            if row["state"] in probabilities:
                raise ModelError(
                    f"the state {row['state']!r} stands twice", file=path, line=line, name=name
                )
            if not row["source_ids"]:
                raise ModelError("the figure has no source", file=path, line=line, name=name)
            probabilities[row["state"]] = value
        if sum(probabilities.values()) > 1 + 1e-9:
            raise ModelError(
                f"the column sums to {sum(probabilities.values()):g}, not to 1",
                file=path,
                line=rows[0][0],
                name="/".join(key),
            )
        first = rows[0][1]
        result[key] = Stated(
            id=first["id"],
            variable=first["variable"],
            given=first["given"],
            given_state=first["given_state"],
            probabilities=probabilities,
            ess=ess,
            grade=first["grade"],
            source_ids=tuple(first["source_ids"].split("|")),
            rows=tuple(r for r in first["rows"].split("|") if r),
            why=first["why"],
        )
    return result


def read_scenarios(folder: Path) -> dict[str, Scenario]:
    """Read ``scenarios.yaml``.

    Raises
    ------
    ModelError
        Age shares that do not sum to 1, or a malformed entry.
    """
    path = folder / "scenarios.yaml"
    document, lines = read_yaml(path)
    entries = document.get("scenarios") or {}
    reference, patients = document.get("reference"), document.get("patients")
    for key, named in (("reference", reference), ("patients", patients)):
        if named not in entries:
            raise ModelError(
                f"{named!r} is none of the scenarios {', '.join(entries)}",
                file=path,
                line=lines.get(key, 1),
                name=key,
            )
    result = {}
    for name, entry in entries.items():
        line = lines.get(name)
        try:
            ages = {k: float(v) for k, v in entry["age_group"].items()}
            scenario = Scenario(
                name=name,
                label=entry["label"],
                age_group=ages,
                contexts=tuple(entry.get("contexts", ())),
                context_share=float(entry.get("context_share", 1.0)),
                odds={k: float(v) for k, v in entry.get("odds", {}).items()},
                why=entry["why"],
                source_ids=tuple(entry["sources"]),
                reference_ages={k: float(v) for k, v in entries[reference]["age_group"].items()},
                patient_ages={k: float(v) for k, v in entries[patients]["age_group"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"the scenario is incomplete: {error}", file=path, line=line, name=name
            ) from None
        if abs(sum(ages.values()) - 1) > 1e-9:
            raise ModelError(
                f"age_group sums to {sum(ages.values()):g}, not to 1",
                file=path,
                line=line,
                name=name,
            )
        if not 0 < scenario.context_share <= 1:
            raise ModelError(
                f"context_share {scenario.context_share:g} is outside 0..1",
                file=path,
                line=line,
                name=name,
            )
        if any(not share > 0 for share in ages.values()):
            raise ModelError(
                "every age group needs a positive share", file=path, line=line, name=name
            )
        result[name] = scenario
    return result


def read_associations(folder: Path) -> dict[str, Association]:
    """Read ``associations.csv``: log odds ratios by id.

    Raises
    ------
    ModelError
        Not a number, a range that does not hold the value, or no source.
    """
    path = folder / "associations.csv"
    result = {}
    for line, row in read_table(path, ASSOCIATION_COLUMNS):
        name = row["id"]
        try:
            value, low, high = (float(row[c]) for c in ASSOCIATION_COLUMNS[1:4])
        except ValueError:
            raise ModelError(
                "log_odds_ratio, low and high must be numbers", file=path, line=line, name=name
            ) from None
        if not low <= value <= high:
            raise ModelError(
                f"the range {low:g}..{high:g} does not hold {value:g}",
                file=path,
                line=line,
                name=name,
            )
        if not row["source_ids"]:
            raise ModelError("the figure has no source", file=path, line=line, name=name)
        result[name] = Association(
            name, value, low, high, row["grade"], tuple(row["source_ids"].split("|")), row["why"]
        )
    return result
