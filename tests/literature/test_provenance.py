"""Every number of the model leads back to a row, and every row to a source."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import epidural_dx as edx
from epidural_dx.literature.base import LiteratureBase
from epidural_dx.literature.pooling import GRADES
from epidural_dx.literature.rows import Source


def test_every_figure_has_a_source_or_is_context(literature: LiteratureBase) -> None:
    """A row without a source in sources.csv is used for nothing."""
    assert len(literature.figures) > 1_200
    for figure in literature.figures:
        if figure.use != "context":
            assert figure.source_id in literature.sources, figure.id


def test_rows_that_would_bias_are_never_pooled(literature: LiteratureBase) -> None:
    """Inverse, severity-selected, composite and duplicate rows and definitions stay out."""
    barred = {"inverse", "severity_selected", "composite", "duplicate", "definition"}
    for figure in literature.figures:
        if figure.role in barred:
            assert figure.use != "pool", figure.id


def test_every_figure_was_seen_or_is_recalled(literature: LiteratureBase) -> None:
    """The column `verified` says of every row whether somebody read it in the source."""
    assert {figure.verified for figure in literature.figures} == {"seen", "recalled"}


def test_retrospective_figures_are_checks(literature: LiteratureBase, model: edx.Model) -> None:
    """History, age, sex and exposures given a lesion are compared, never pooled."""
    groups = {"history", "patient", "condition"}
    owned = {n for n, v in model.variables.items() if v.group in groups}
    # what patients report of an exposure is calibrated on lesions that it does not cause
    reported = {
        n for n, v in model.built.structure.nodes.items() if v.table["method"] == "reported"
    }
    for figure in literature.figures:
        if figure.use == "pool" and figure.given in ("lesion_subtype", "lesion_cause"):
            assert figure.variable not in owned - reported, figure.id


def test_every_pooled_column_names_rows_that_exist(
    model: edx.Model, literature: LiteratureBase
) -> None:
    """The rows behind every column stand in the literature base, and the grade is a known one."""
    known = {figure.id for figure in literature.figures}
    columns = model.built.columns
    assert len(columns) > 500
    for key, pooled in columns.items():
        assert set(pooled.rows) <= known, key
        assert pooled.grade in GRADES, key
        assert pooled.mean.sum() == pytest.approx(1.0), key
        assert pooled.ess > 0, key
        if pooled.grade == "counted":
            assert pooled.rows, key


def test_every_pooled_row_feeds_a_column(model: edx.Model) -> None:
    """No row is marked as pooled without a cell of the model that uses it."""
    from epidural_dx.network.build import unused_pool_rows

    unused = unused_pool_rows(model.built, model.literature.figures)
    assert [f.id for f in unused] == []


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("stated.csv", "source_ids"),
        ("associations.csv", "source_ids"),
        ("rates.csv", "source_id"),
        ("thresholds.csv", "source_id"),
    ],
)
def test_declared_figures_have_sources_too(
    priors: Path, literature: LiteratureBase, name: str, column: str
) -> None:
    """Stated columns, odds ratios, rates and cut-offs name sources that are in sources.csv."""
    with (priors / name).open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert rows
    for row in rows:
        sources = [s for s in row[column].split("|") if s]
        assert sources, row
        assert set(sources) <= set(literature.sources), row


def test_rows_named_by_stated_columns_exist(priors: Path, literature: LiteratureBase) -> None:
    """The literature rows that a stated column quotes are rows of the base."""
    known = {figure.id for figure in literature.figures}
    with (priors / "stated.csv").open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            assert {r for r in row["rows"].split("|") if r} <= known, row["id"]


def test_a_source_without_authors_is_named_as_its_rows_call_it() -> None:
    """No reader meets a raw id: the first label stands in for a citation, and only then."""
    labels = "series of 324 episodes | the same as summarised"
    nameless = Source("series_324", *[""] * 8, labels)
    assert nameless.citation == "series of 324 episodes"
    known = Source("doi:10/x", "Lam NG", "", "World Neurosurg", "2024", "10/x", "", "", "", labels)
    assert known.citation == "Lam NG. World Neurosurg. 2024. doi:10/x"
