"""The check against the literature finds what was planted and compares like with like."""

from __future__ import annotations

import copy
import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency

import epidural_dx as edx
from epidural_dx.analysis.literature_check import (
    Reason,
    _reason,
    cause_shares,
    deviation,
    literature_check,
    log_odds_ratio,
    read_reasons,
    retrospective,
    summary,
    text_report,
    write_rows,
)
from epidural_dx.errors import ModelError
from epidural_dx.literature.rows import Figure


@pytest.fixture(scope="module")
def rows(model: edx.Model) -> list[dict[str, Any]]:
    """Compare the whole literature once."""
    return literature_check(model)


def planted(model: edx.Model, **changes: Any) -> edx.Model:
    """Give the model one figure more, and no other figures to check."""
    template = next(f for f in model.literature.figures if f.use == "check" and f.k is not None)
    figure = dataclasses.replace(
        template,
        **{
            "id": "planted-001",
            "given": "lesion_cause",
            "given_states": ("emh",),
            "variable": "sex",
            "states": ("male",),
            "k": 5.0,
            "n": 100.0,
            "point": None,
            "unit": "proportion",
            "role": "case",
            "scenario": "",
            "verified": "seen",
            **changes,
        },
    )
    fed = tuple(f for f in model.literature.figures if f.use != "check")
    other = copy.copy(model)
    other.__dict__["literature"] = dataclasses.replace(
        model.literature, figures=(*fed, figure)
    )
    return other


def one(model: edx.Model, **changes: Any) -> dict[str, Any]:
    """Check a single planted figure."""
    found = literature_check(planted(model, **changes), experts=False)
    return next(row for row in found if row["id"] == "planted-001")


def test_a_planted_deviation_leads_the_list(model: edx.Model) -> None:
    """A made-up series with far too few men comes first, with the right sign and no reason."""
    share = float(model.diagnose({"lesion_cause": "emh"}).marginals["sex"][1])
    assert share > 0.3
    found = literature_check(planted(model), experts=False)
    assert found[0]["id"] == "planted-001"
    assert found[0]["z"] < -2
    assert found[0]["implied"] == pytest.approx(share, abs=1e-9)
    assert found[0]["reason"] == ""


def test_a_planted_agreement_does_not_deviate(model: edx.Model) -> None:
    """A made-up series with the implied share has a deviation near 0."""
    share = float(model.diagnose({"lesion_cause": "emh"}).marginals["sex"][1])
    row = one(model, k=None, point=share)
    assert row["z"] == pytest.approx(0.0, abs=1e-6)


def test_a_union_is_conditioned_on_as_a_disjunction(model: edx.Model) -> None:
    """A figure on two causes and two states is the answer to a disjunctive question."""
    row = one(
        model,
        given_states=("leukemia", "lymphoma"),
        variable="limb_weakness",
        states=("partial", "complete"),
    )
    answer = model.diagnose({"lesion_cause": ["leukemia", "lymphoma"]})
    assert row["implied"] == pytest.approx(float(answer.marginals["limb_weakness"][1:].sum()))
    assert row["people"] == "lesion"


def test_a_figure_on_a_disease_is_about_people_without_a_lesion(model: edx.Model) -> None:
    """P(sex | disease) is compared without the selection by a lesion, which shifts it."""
    row = one(
        model, given="blood_disorder", given_states=("myeloma",), variable="age_group",
        states=("age_60_plus",),
    )
    assert row["people"] == "population"
    nodes = model.built.structure.nodes
    ages = model.built.tables["age_group"]
    assert nodes["blood_disorder"].parents == ("blood_state",)
    assert nodes["blood_state"].parents == ("age_group",)
    disorder = model.built.tables["blood_state"] @ model.built.tables["blood_disorder"]
    column = disorder[:, nodes["blood_disorder"].states.index("myeloma")]
    by_hand = ages * column / (ages * column).sum()
    assert row["implied"] == pytest.approx(float(by_hand[3]))
    inside = model.diagnose({"blood_disorder": "myeloma"}).marginals["age_group"][3]
    assert row["implied"] != pytest.approx(float(inside), abs=1e-3)


def test_children_are_asked_of_the_scenario_of_children(
    model: edx.Model, child_model: edx.Model
) -> None:
    """A figure on children is an answer of the child scenario with the age set."""
    row = one(model, scenario="child", given_states=("hematoma",))
    answer = child_model.diagnose({"lesion_cause": "hematoma", "age_group": "age_0_17"})
    assert row["implied"] == pytest.approx(float(answer.marginals["sex"][1]), abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"unit": "per_100k_person_years"}, "a rate"),
        (
            {
                "given": "solid_tumor",
                "given_states": ("lung",),
                "variable": "lesion_cause",
                "states": ("metastasis_other",),
            },
            "a risk",
        ),
        ({"variable": "", "states": ()}, "names no variable"),
    ],
)
def test_what_cannot_be_compared_says_why(
    model: edx.Model, changes: dict[str, Any], reason: str
) -> None:
    """A rate, a risk and a figure without a variable stand in the list with the reason."""
    row = one(model, **changes)
    assert row["z"] is None
    assert row["implied"] is None
    assert row["reason"].startswith(reason)


@pytest.mark.parametrize(
    "changes", [{"variable": "sexes"}, {"states": ("men",)}, {"given_states": ("emhh",)}]
)
def test_a_figure_with_an_unknown_name_is_refused(
    model: edx.Model, changes: dict[str, Any]
) -> None:
    """A misspelt variable or state is an error that names the row."""
    with pytest.raises(ModelError, match="planted-001"):
        one(model, **changes)


def test_no_figure_that_was_fed_in_is_checked(
    model: edx.Model, rows: list[dict[str, Any]]
) -> None:
    """Rows that feed a table are not compared with it."""
    used = model.built.used_rows
    by_id = {figure.id: figure for figure in model.literature.figures}
    checked = [row["id"] for row in rows if row["kind"] != "expert"]
    assert checked
    for name in checked:
        figure: Figure = by_id[name]
        assert figure.use == "check" or name not in used


def test_experts_are_checked_only_where_their_table_is_not_fed_in(
    model: edx.Model, rows: list[dict[str, Any]]
) -> None:
    """Their views of age, exposures and known diseases are compared, those on imaging are not."""
    names = {row["variable"] for row in rows if row["kind"] == "expert"}
    assert {"age_group", "diabetes", "known_melanoma"} <= names
    assert names.isdisjoint({"t1_signal", "enhancement", "level"})
    fed = {key[0] for key in model.built.columns if key[1] == "lesion_subtype"}
    assert names.isdisjoint(fed)


def test_the_list_is_sorted_and_sums_up(rows: list[dict[str, Any]]) -> None:
    """Deviations fall from first to last; what is not compared stands at the end and is counted."""
    sizes = [abs(row["z"]) for row in rows if row["z"] is not None]
    assert sizes == sorted(sizes, reverse=True)
    assert all(row["z"] is None for row in rows[len(sizes) :])
    counts = summary(rows)
    assert counts["groups"][0]["n"] == len(sizes)
    assert sum(group["n"] for group in counts["groups"][1:]) == len(sizes)
    assert sum(counts["not_compared"].values()) == len(rows) - len(sizes)
    assert all(0 <= row["implied"] <= 1 for row in rows if row["implied"] is not None)


def test_retrospective_shares_are_answers_of_the_model(
    model: edx.Model, rows: list[dict[str, Any]]
) -> None:
    """A named quantity is the posterior of the model, with the figures about it beside it."""
    found = {row["quantity"]: row for row in retrospective(model, rows)}
    answer = model.diagnose({"lesion_cause": "hematoma"})
    known = found["anticoagulant in hematoma"]
    assert known["implied"] == pytest.approx(float(answer.marginals["anticoagulant_use"][1]))
    assert "hematoma_and_hemostasis-017" in {figure["id"] for figure in known["published"]}


def test_the_report_shows_every_notable_deviation(
    model: edx.Model, rows: list[dict[str, Any]]
) -> None:
    """The text names each figure that deviates by two or more, and no other, with its reason."""
    told = text_report(model, rows).split("published  implied  figure")[1]
    large = {row["id"] for row in rows if row["z"] is not None and abs(row["z"]) >= 2}
    assert all(f"  {name}  " in told for name in large)
    assert len(told.strip().splitlines()) - 1 == len(large)


def test_rows_can_be_written_and_read_back(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """The table survives a round trip through CSV."""
    path = tmp_path / "check.csv"
    write_rows(rows, path)
    with path.open(encoding="utf-8", newline="") as handle:
        found = list(csv.DictReader(handle))
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert [row["states"].split("|") for row in found] == [
        list(row["states"]) or [""] for row in rows
    ]


def test_shares_of_causes_by_scenario_sum_to_one(model: edx.Model) -> None:
    """Each scenario's row is its base rates."""
    default, child = cause_shares(model, [model.scenario, "child"])
    for row in (default, child):
        assert sum(row[cause] for cause in model.causes) == pytest.approx(1.0)
    assert child["primary_bone_tumor"] > default["primary_bone_tumor"]


@pytest.mark.parametrize(
    ("k", "n", "j", "m"), [(3, 10, 40, 60), (12, 15, 2, 20), (1, 30, 10, 20)]
)
def test_the_deviation_is_the_root_of_the_likelihood_ratio(k: int, n: int, j: int, m: int) -> None:
    """For whole patients the statistic is scipy's G test of a two by two table."""
    table = np.array([[k, n - k], [j, m - j]])
    statistic = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    found = deviation(k / n, n, j / m, m)
    assert found**2 == pytest.approx(statistic)
    assert math.copysign(1, found) == math.copysign(1, k / n - j / m)


def test_shares_of_nought_and_one_have_finite_deviations() -> None:
    """No patients of seven, or all, is no infinite surprise."""
    both = 6 / 27
    statistic = 2 * (
        7 * math.log(1 / (1 - both))
        + 20 * (0.3 * math.log(0.3 / both) + 0.7 * math.log(0.7 / (1 - both)))
    )
    assert deviation(0.0, 7, 0.3, 20) == pytest.approx(-math.sqrt(statistic))
    assert math.isfinite(deviation(1.0, 7, 0.0, 20))
    assert math.isfinite(log_odds_ratio(0.0, 7, 0.3))
    assert deviation(0.2, 7, 0.2, 20) == 0.0


def test_the_most_specific_reason_wins() -> None:
    """A row's own reason stands before its variable's, and that before its role's."""
    row = {
        "id": "x-1",
        "variable": "sex",
        "given": "lesion_cause",
        "given_states": ("emh",),
        "role": "control",
    }
    order = [
        Reason("role:control", "", "role"),
        Reason("sex", "", "variable"),
        Reason("sex", "lesion_cause", "given"),
        Reason("sex", "lesion_cause=emh", "state"),
        Reason("x-1", "", "row"),
    ]
    for i, reason in enumerate(order, 1):
        assert _reason(order[:i], row) == reason.why
    assert _reason(order[1:2], {**row, "variable": "level"}) == ""


def test_declared_reasons_are_about_figures_that_exist(
    model: edx.Model, priors: Path, rows: list[dict[str, Any]]
) -> None:
    """Every key of the file is a checked figure, a variable of the model, or a role."""
    reasons = read_reasons(priors)
    assert reasons
    known = {row["id"] for row in rows} | set(model.variables)
    known |= {f"role:{row['role']}" for row in rows}
    assert [reason.key for reason in reasons if reason.key not in known] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id_or_variable,given,why\nx,,\n", "why"),
        ("id_or_variable,given,why\nx,,a\nx,,b\n", "twice"),
        ("id_or_variable,why\nx,a\n", "given"),
    ],
)
def test_a_malformed_file_of_reasons_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """A missing reason, a double row and a missing column are named."""
    (tmp_path / "deviations.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        read_reasons(tmp_path)


def test_without_a_file_there_are_no_reasons(tmp_path: Path) -> None:
    """A priors folder of one's own needs no file of reasons."""
    assert read_reasons(tmp_path) == ()
