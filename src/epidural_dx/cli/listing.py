"""``variables``, ``tests``, ``causes``: what the model knows, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from epidural_dx.cli.inputs import open_model
from epidural_dx.cli.output import (
    bar,
    fine_percent,
    indented,
    make_console,
    make_table,
    number,
    percent,
    print_json,
    text,
)
from epidural_dx.cli.showing import amount, words
from epidural_dx.clinical.display import pretty
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    from epidural_dx.model import Model
    from epidural_dx.network.variable import Threshold, Variable


def _known(name: str, what: str, names: Iterable[str]) -> str:
    from epidural_dx.clinical.spelling import nearest

    listed = list(names)
    if name not in listed:
        raise EvidenceError(
            f"unknown {what} {name!r}", nearest=nearest(name, listed, 1), allowed=listed
        )
    return name


# ---------------------------------------------------------------------------- variables


def variables(
    name: str | None, group: str | None, *, as_json: bool, model_options: Mapping[str, Any]
) -> None:
    """List variables, or show one.

    Raises
    ------
    EpiduralDxError
        Unknown variable or group, or a wrong file.
    """
    model = open_model(**model_options)
    if name is not None:
        found = model.canonical_name(name)
        if found not in model.variables:
            _known(name, "variable", model.variables)
        assert found is not None
        _variable(model, model.variables[found], as_json=as_json)
        return
    groups = list(dict.fromkeys(v.group for v in model.variables.values()))
    if group is not None:
        _known(group, "group", groups)
    chosen = [v for v in model.variables.values() if group in (None, v.group)]
    if as_json:
        print_json({"variables": [_plain_variable(model, v) for v in chosen]})
        return
    console = make_console()
    for one in groups:
        members = [v for v in chosen if v.group == one]
        if not members:
            continue
        table = make_table(one, "variable", "states", "unit")
        for v in members:
            table.add_row(
                text(v.name),
                text("yes or no" if v.is_yes_no else ", ".join(v.states), "dim"),
                text(pretty(v.unit or ""), "dim"),
            )
        table.columns[0].no_wrap = True
        console.print(table)
        console.print()
    console.print(text(f"{len(chosen)} variables; epidural-dx variables NAME shows one.", "dim"))


def _revealed_by(model: Model, name: str) -> list[str]:
    return [test for test, findings in model.tests.items() if name in findings]


def _plain_variable(model: Model, v: Variable) -> dict[str, Any]:
    return {
        "name": v.name,
        "label": v.label,
        "group": v.group,
        "states": list(v.states),
        "unit": v.unit,
        "latent": v.latent,
        "parents": list(model._compiled.parents[v.name]),
        "tests": _revealed_by(model, v.name),
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


def _variable(model: Model, v: Variable, *, as_json: bool) -> None:
    if as_json:
        print_json(_plain_variable(model, v))
        return
    console = make_console()
    console.print(text(f"{v.name}: {v.label}", "bold"))
    facts = [v.group, f"unit {pretty(v.unit)}" if v.unit and pretty(v.unit) else ""]
    if model._compiled.parents[v.name]:
        facts.append(f"depends on {', '.join(model._compiled.parents[v.name])}")
    if _revealed_by(model, v.name):
        facts.append(f"shown by {', '.join(_revealed_by(model, v.name))}")
    elif v.latent:
        facts.append("not observed directly")
    console.print(text(" · ".join(fact for fact in facts if fact), "dim"))
    console.print()
    table = make_table("Before any finding, given a lesion", "state", "", "")
    for state, p in zip(v.states, model.base_marginals[v.name], strict=True):
        table.add_row(
            text(state), text(percent(float(p))), text(bar(float(p), 20, console.encoding), "cyan")
        )
    table.columns[1].justify = "right"
    console.print(indented(table))
    if v.thresholds:
        console.print()
        cuts = make_table("Cut-offs", "state", "number", "for", "source")
        for t in v.thresholds:
            cuts.add_row(
                text(t.state), text(_interval(t)), text(_people(t), "dim"), text(t.source_id, "dim")
            )
        console.print(indented(cuts))
    if v.aliases:
        console.print()
        spelled: dict[str, list[str]] = {}
        for spelling, states in v.aliases.items():
            spelled.setdefault(" or ".join(states), []).append(spelling)
        other = make_table("Also understood", "spelling", "means")
        for meaning, spellings in spelled.items():
            other.add_row(text(", ".join(spellings)), text(meaning, "dim"))
        console.print(indented(other))


def _interval(t: Threshold) -> str:
    if t.low == float("-inf"):
        sign = "≤" if t.high_closed else "<"
        return f"{sign} {number(t.high, 6)} {pretty(t.unit)}".strip()
    if t.high == float("inf"):
        sign = "≥" if t.low_closed else ">"
        return f"{sign} {number(t.low, 6)} {pretty(t.unit)}".strip()
    return f"{number(t.low, 6)} to {number(t.high, 6)} {pretty(t.unit)}".strip()


def _people(t: Threshold) -> str:
    parts = [t.sex] if t.sex else []
    if t.age_low > 0 or t.age_high < float("inf"):
        parts.append(
            f"{number(t.age_low)} years and older"
            if t.age_high == float("inf")
            else f"{number(t.age_low)} to {number(t.age_high)} years"
        )
    return ", ".join(parts) or "everybody"


# -------------------------------------------------------------------------------- tests


def tests(name: str | None, *, as_json: bool, model_options: Mapping[str, Any]) -> None:
    """List tests, or show one.

    Raises
    ------
    EpiduralDxError
        Unknown test, or a wrong file.
    """
    from epidural_dx.decision.workup import check_decision_files
    from epidural_dx.literature.rows import read_table
    from epidural_dx.store import data_folder

    model = open_model(**model_options)
    check_decision_files(model)
    path = data_folder("priors", model_options["priors"]) / "tests.csv"
    details = {
        row["test"]: row
        for _, row in read_table(path, ["test", "label", "price_usd", "turnaround_hours"])
    }
    names = list(dict.fromkeys((*model.tests, *details)))
    if name is not None:
        names = [_known(name, "test", names)]
    documents = [
        {
            "test": test,
            "findings": list(model.tests.get(test, ())),
            **{
                column: _cell(value)
                for column, value in details.get(test, {}).items()
                if column != "test"
            },
        }
        for test in names
    ]
    if as_json:
        print_json({"tests": documents} if name is None else documents[0])
        return
    console = make_console()
    if name is not None:
        _test(console, documents[0])
        return
    table = make_table(None, "test", "hours", "USD", "harm", "reveals", right=(1, 2, 3))
    for one in documents:
        findings = one["findings"]
        shown = ", ".join(findings[:4])
        if len(findings) > 4:
            shown += f" and {len(findings) - 4} more"
        table.add_row(
            text(one["test"]),
            text(amount(one.get("turnaround_hours"))),
            text(amount(one.get("price_usd"))),
            text(_risk(one.get("serious_harm"))),
            text(shown or "–", "dim"),
        )
    table.columns[0].no_wrap = True
    console.print(table)


def _test(console: Any, one: Mapping[str, Any]) -> None:
    console.print(text(f"{one['test']}: {one.get('label', '')}", "bold"))
    console.print()
    table = make_table(None, "", "")
    table.show_header = False
    for column, value in one.items():
        if column in ("test", "label") or value in (None, "", []):
            continue
        if isinstance(value, list):
            shown = ", ".join(value)
        elif column in ("minor_harm", "serious_harm", "death"):
            shown = _risk(value)
        else:
            shown = str(value).replace("|", ", ")
        table.add_row(text(words(column), "dim"), text(shown))
    table.columns[0].no_wrap = True
    console.print(indented(table))


def _cell(value: str) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


def _risk(value: object) -> str:
    if not isinstance(value, int | float):
        return "–"
    return fine_percent(value) if value >= 1e-5 else "<0.001%"


# ------------------------------------------------------------------------------- causes


def causes(name: str | None, *, as_json: bool, model_options: Mapping[str, Any]) -> None:
    """List causes with their drivers, or show one.

    Raises
    ------
    EpiduralDxError
        Unknown cause or scenario, or a wrong file.
    """
    model = open_model(**model_options)
    answer = model.diagnose({})
    if name is not None:
        _known(name, "cause", model.causes)
    drivers: dict[str, list[tuple[str, str, float]]] = {cause: [] for cause in model.causes}
    for mechanism, cause, driver, p in answer.ranked_etiology():
        drivers[cause].append((mechanism, driver, p))
    shares = [(c, p) for c, p in answer.ranked_causes() if name in (None, c)]
    if as_json:
        print_json(
            {
                "scenario": model.scenario,
                "causes": [
                    {
                        "cause": cause,
                        "base_rate": p,
                        "mechanisms": [
                            {"name": m, "driver": d, "base_rate": q} for m, d, q in drivers[cause]
                        ],
                    }
                    for cause, p in shares
                ],
            }
        )
        return
    console = make_console()
    table = make_table(
        f"Share of lesions before any finding ({model.scenario})",
        "cause",
        "",
        "",
        "mechanism",
        "",
        right=(1,),
    )
    for cause, p in shares:
        for i, (mechanism, _, q) in enumerate(drivers[cause]):
            table.add_row(
                text(cause if i == 0 else "", "bold"),
                text(fine_percent(p) if i == 0 else ""),
                text(bar(p, 16, console.encoding) if i == 0 else "", "cyan"),
                text(mechanism, "" if i == 0 else "dim"),
                text(fine_percent(q), "dim"),
            )
    table.columns[4].justify = "right"
    for column in (0, 3, 4):
        table.columns[column].no_wrap = True
    console.print(table)
    if name is not None:
        console.print()
        hint = f"epidural-dx sources --cause {name} shows the figures behind it."
        console.print(text(hint, "dim"))
