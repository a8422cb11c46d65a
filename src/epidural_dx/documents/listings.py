"""What the model knows by name: variables, tests, causes, base rates, published patients."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epidural_dx.clinical.spelling import nearest
from epidural_dx.documents.answers import identity
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from epidural_dx.clinical.case import Case
    from epidural_dx.model import Model
    from epidural_dx.network.variable import Variable


def known(name: str, what: str, names: Iterable[str]) -> str:
    """Return a name that is on the list.

    Raises
    ------
    EvidenceError
        It is not; names the nearest.
    """
    listed = list(names)
    if name not in listed:
        raise EvidenceError(
            f"unknown {what} {name!r}",
            value=name,
            nearest=nearest(name, listed, 1),
            allowed=listed,
        )
    return name


def known_variable(model: Model, spelled: str) -> Variable:
    """Return a variable by its name or an alias.

    Raises
    ------
    EvidenceError
        There is none.
    """
    found = model.canonical_name(spelled)
    if found is None or found not in model.variables:
        found = known(spelled, "variable", model.variables)
    return model.variables[found]


def about_model(model: Model) -> dict[str, Any]:
    """Say what the model is: identity, size, base rates to choose from."""
    from epidural_dx.answer import RESEARCH_NOTICE

    return {
        "model": identity(model),
        "variables": len(model.variables),
        "observable": sum(not v.latent for v in model.variables.values()),
        "causes": len(model.causes),
        "mechanisms": len(model.mechanisms),
        "tests": len(model.tests),
        "notice": RESEARCH_NOTICE,
    }


def scenarios(priors: Path) -> dict[str, Any]:
    """List the base rates to choose from, with what each stands for."""
    from epidural_dx.network.declared import read_scenarios

    return {
        "scenarios": [
            {"name": s.name, "label": s.label, "age_group": dict(s.age_group), "why": s.why}
            for s in read_scenarios(priors).values()
        ]
    }


def variables(model: Model, group: str | None = None) -> dict[str, Any]:
    """List variables, of one group or all.

    Raises
    ------
    EvidenceError
        Unknown group.
    """
    if group is not None:
        known(group, "group", dict.fromkeys(v.group for v in model.variables.values()))
    chosen = [v for v in model.variables.values() if group in (None, v.group)]
    return {"variables": [variable(model, v) for v in chosen]}


def revealed_by(model: Model, name: str) -> list[str]:
    """Return the tests that reveal a finding."""
    return [test for test, findings in model.tests.items() if name in findings]


def variable(model: Model, v: Variable) -> dict[str, Any]:
    """Everything about one variable."""
    return {
        "name": v.name,
        "label": v.label,
        "group": v.group,
        "states": list(v.states),
        "unit": v.unit,
        "units": model.units_of(v.name),
        "other_names": model.other_names(v.name),
        "latent": v.latent,
        "parents": list(model.parents[v.name]),
        "tests": revealed_by(model, v.name),
        "aliases": {spelling: list(states) for spelling, states in v.aliases.items()},
        "thresholds": [
            {
                "state": t.state,
                "low": None if t.low == float("-inf") else t.low,
                "high": None if t.high == float("inf") else t.high,
                "unit": t.unit,
                "sex": t.sex,
                "age_low": t.age_low,
                "age_high": None if t.age_high == float("inf") else t.age_high,
                "source_id": t.source_id,
            }
            for t in v.thresholds
        ],
        "base_rate": dict(zip(v.states, map(float, model.base_marginals[v.name]), strict=True)),
    }


def tests(model: Model) -> dict[str, Any]:
    """List the tests with what they reveal, cost and risk.

    Raises
    ------
    ModelError
        A wrong file of tests.
    """
    from epidural_dx.decision.workup import check_decision_files
    from epidural_dx.literature.rows import read_table

    check_decision_files(model)
    details = {
        row["test"]: row
        for _, row in read_table(
            model.priors / "tests.csv", ["test", "label", "price_usd", "turnaround_hours"]
        )
    }
    return {
        "tests": [
            {
                "test": test,
                "findings": list(model.tests.get(test, ())),
                **{
                    column: _cell(value)
                    for column, value in details.get(test, {}).items()
                    if column != "test"
                },
            }
            for test in dict.fromkeys((*model.tests, *details))
        ]
    }


def _cell(value: str) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


def causes(model: Model, name: str | None = None) -> dict[str, Any]:
    """List the causes with their mechanisms and base rates, the likeliest first.

    Raises
    ------
    EvidenceError
        Unknown cause.
    """
    if name is not None:
        known(name, "cause", model.causes)
    answer = model.diagnose({})
    mechanisms: dict[str, list[dict[str, Any]]] = {cause: [] for cause in model.causes}
    for mechanism, cause, driver, p in answer.ranked_etiology():
        mechanisms[cause].append({"name": mechanism, "driver": driver, "base_rate": p})
    return {
        "scenario": model.scenario,
        "causes": [
            {"cause": cause, "base_rate": p, "mechanisms": mechanisms[cause]}
            for cause, p in answer.ranked_causes()
            if name in (None, cause)
        ],
    }


def cases(published: Mapping[str, Case]) -> dict[str, Any]:
    """List the published patients."""
    return {
        "cases": [
            {
                "name": name,
                "title": str(case.about.get("title") or name),
                "stages": list(case.stage_names),
            }
            for name, case in published.items()
        ]
    }


def case(name: str, one: Case) -> dict[str, Any]:
    """Give one patient: its stages with their findings, and everything that is no evidence."""
    return {
        "name": name,
        "title": str(one.about.get("title") or name),
        "about": _plain(one.about),
        "stages": [
            {
                "name": stage.name,
                "findings": _plain(stage.findings),
                "note": stage.note,
                "other_findings": list(stage.other_findings),
            }
            for stage in one.stages
        ],
    }


def _plain(content: object) -> Any:
    """YAML content as JSON content; a date is written as text."""

    def written(value: object) -> str:
        return value.isoformat() if isinstance(value, date) else str(value)

    return json.loads(json.dumps(content, default=written, allow_nan=False))
