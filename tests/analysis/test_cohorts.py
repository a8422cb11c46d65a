"""Published cohorts against what the model implies: counts, tails and who is compared."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from scipy.stats import binom

import epidural_dx as edx
from epidural_dx.analysis.cohorts import marrow_melanoma, pooled_series, summary, tails


def test_tails_are_those_of_a_binomial_without_correlation() -> None:
    """Mid-p tails by hand; they sum to 1 and reverse with the outcome."""
    low, high = tails(3, 10, 0.2, 0.0)
    pmf = binom(10, 0.2).pmf
    by_hand = sum(pmf(i) for i in range(3)) + pmf(3) / 2
    assert low == pytest.approx(by_hand)
    assert low + high == pytest.approx(1.0)
    assert tails(7, 10, 0.8, 0.0)[1] == pytest.approx(low)


def test_series_that_differ_among_themselves_surprise_less() -> None:
    """Between-series correlation makes the same deviation more usual."""
    plain = min(tails(9, 10, 0.5, 0.0))
    assert min(tails(9, 10, 0.5, 0.067)) > plain
    assert 0 <= min(tails(10, 10, 1.0, 0.067)) <= 1


def test_the_published_patients_are_counted_again(model: edx.Model, priors: Path) -> None:
    """Counts of the review's table are those of the recounted tallies, out of its 36 patients."""
    rows = {row["quantity"]: row for row in marrow_melanoma(model)}
    path = priors / "patients" / "melanoma_marrow_infiltration_tallies.csv"
    with path.open(encoding="utf-8", newline="") as handle:
        tallies = {row["quantity"]: row for row in csv.DictReader(handle)}
    for ours, theirs in (
        ("male", "male"),
        ("age 0 17", "age_0_17"),
        ("age 60 plus", "age_60_plus"),
        ("primary site skin", "primary_site_skin"),
        ("DIC", "dic"),
        ("pancytopenia", "pancytopenia"),
    ):
        assert rows[ours]["k"] == int(tallies[theirs]["recomputed_k"]), ours
        assert rows[ours]["n"] == int(tallies[theirs]["recomputed_n"]) == 36
    assert all(0 < row["implied"] < 1 and 0 <= row["p"] <= 1 for row in rows.values())


def test_a_figure_of_the_lesion_is_compared_with_the_answer(model: edx.Model) -> None:
    """The implied share of a series given one subtype is the model's own answer about it."""
    rows = [
        row
        for row in pooled_series(model)
        if row["given"] == "lesion_subtype" and len(row["given_states"]) == 1
    ]
    assert rows
    for row in rows[:3]:
        marginal = model.diagnose({"lesion_subtype": row["given_states"][0]}).marginals
        states = model.variables[row["variable"]].states
        share = sum(float(marginal[row["variable"]][states.index(s)]) for s in row["states"])
        assert row["implied"] == pytest.approx(share, abs=1e-9)


def test_series_come_worst_first_and_are_counted(model: edx.Model) -> None:
    """The order is that of the p values, and the summary counts the small ones."""
    rows = pooled_series(model)
    p = [row["p"] for row in rows]
    assert p == sorted(p)
    assert len(rows) > 100
    found = summary(rows)
    assert found["below"] == sum(value < 0.05 for value in p)
    assert summary([])["n"] == 0
