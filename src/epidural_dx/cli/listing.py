"""``variables``, ``tests``, ``causes``: what the model knows, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from epidural_dx.cli.inputs import open_model
from epidural_dx.cli.output import (
    bar,
    fine_percent,
    indented,
    make_console,
    make_table,
    number,
    print_json,
    text,
)
from epidural_dx.cli.showing import words
from epidural_dx.clinical.display import duration, percent, pretty, short_number
from epidural_dx.documents import listings

if TYPE_CHECKING:
    from epidural_dx.model import Model
    from epidural_dx.network.variable import Threshold, Variable


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
        _variable(model, listings.known_variable(model, name), as_json=as_json)
        return
    groups = list(dict.fromkeys(v.group for v in model.variables.values()))
    if group is not None:
        listings.known(group, "group", groups)
    if as_json:
        print_json(listings.variables(model, group))
        return
    chosen = [v for v in model.variables.values() if group in (None, v.group)]
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


def _variable(model: Model, v: Variable, *, as_json: bool) -> None:
    if as_json:
        print_json(listings.variable(model, v))
        return
    console = make_console()
    console.print(text(f"{v.name}: {v.label}", "bold"))
    facts = [v.group, f"unit {pretty(v.unit)}" if v.unit and pretty(v.unit) else ""]
    if model.parents[v.name]:
        facts.append(f"depends on {', '.join(model.parents[v.name])}")
    if listings.revealed_by(model, v.name):
        facts.append(f"shown by {', '.join(listings.revealed_by(model, v.name))}")
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
    documents = listings.tests(open_model(**model_options))["tests"]
    if name is not None:
        listings.known(name, "test", [one["test"] for one in documents])
        documents = [one for one in documents if one["test"] == name]
    if as_json:
        print_json({"tests": documents} if name is None else documents[0])
        return
    console = make_console()
    if name is not None:
        _test(console, documents[0])
        return
    table = make_table(None, "test", "time", "USD", "harm", "reveals", right=(1, 2, 3))
    for one in documents:
        findings = one["findings"]
        shown = ", ".join(findings[:4])
        if len(findings) > 4:
            shown += f" and {len(findings) - 4} more"
        table.add_row(
            text(one["test"]),
            text(_told(one.get("turnaround_hours"), duration)),
            text(_told(one.get("price_usd"), short_number)),
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


def _told(value: object, words: Callable[[float], str]) -> str:
    return words(value) if isinstance(value, int | float) and value == value else "–"


def _risk(value: object) -> str:
    if not isinstance(value, int | float):
        return "–"
    return fine_percent(value) if value >= 1e-5 else "<0.001 %"


# ------------------------------------------------------------------------------- causes


def causes(name: str | None, *, as_json: bool, model_options: Mapping[str, Any]) -> None:
    """List causes with their drivers, or show one.

    Raises
    ------
    EpiduralDxError
        Unknown cause or scenario, or a wrong file.
    """
    model = open_model(**model_options)
    document = listings.causes(model, name)
    if as_json:
        print_json(document)
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
    for one in document["causes"]:
        for i, mechanism in enumerate(one["mechanisms"]):
            table.add_row(
                text(one["cause"] if i == 0 else "", "bold"),
                text(fine_percent(one["base_rate"]) if i == 0 else ""),
                text(bar(one["base_rate"], 16, console.encoding) if i == 0 else "", "cyan"),
                text(mechanism["name"], "" if i == 0 else "dim"),
                text(fine_percent(mechanism["base_rate"]), "dim"),
            )
    table.columns[4].justify = "right"
    for column in (0, 3, 4):
        table.columns[column].no_wrap = True
    console.print(table)
    if name is not None:
        console.print()
        hint = f"epidural-dx sources --cause {name} shows the figures behind it."
        console.print(text(hint, "dim"))
