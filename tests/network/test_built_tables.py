"""The tables of the packaged model: distributions, without zeros, the same in every setting."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml

import epidural_dx as edx
from epidural_dx.analysis.parameters import parameter_draws
from epidural_dx.errors import ModelError
from epidural_dx.literature.base import LiteratureBase
from epidural_dx.network.build import DETERMINISTIC, Built, build
from epidural_dx.network.draws import draw_tables
from epidural_dx.network.structure import read_structure

SCENARIOS = (
    "general_adult",
    "child",
    "high_tuberculosis",
    "high_thalassemia",
    "cancer_center",
    "worldwide",
    "all_ages",
)
LIKELIHOOD_GROUPS = ("symptom", "examination", "laboratory", "imaging", "tissue")


@pytest.fixture(scope="module")
def scenarios(
    model: edx.Model, networks: Path, priors: Path, literature: LiteratureBase
) -> Mapping[str, Built]:
    """Build the tables of every scenario."""
    structure = read_structure(networks)
    built = {"general_adult": model.built}
    for name in SCENARIOS[1:]:
        built[name] = build(structure, literature, priors, name)
    return built


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_table_is_a_distribution_of_the_right_shape(
    scenarios: Mapping[str, Built], name: str
) -> None:
    """Rows sum to 1 within 1e-12; one axis per parent in order, the variable's own last."""
    built = scenarios[name]
    nodes = built.structure.nodes
    assert set(built.tables) == set(nodes) - {"etiology"}
    for variable, table in built.tables.items():
        shape = (*(len(nodes[p].states) for p in nodes[variable].parents),)
        assert table.shape == (*shape, len(nodes[variable].states)), variable
        assert np.all(np.isfinite(table)), variable
        assert np.max(np.abs(table.sum(-1) - 1)) < 1e-12, variable
        assert np.all(table >= 0), variable


@pytest.mark.parametrize("name", SCENARIOS)
def test_zeros_stand_only_in_deterministic_tables(
    scenarios: Mapping[str, Built], name: str
) -> None:
    """No conditional probability is 0 or 1 except where one state follows from others."""
    built = scenarios[name]
    for variable, table in built.tables.items():
        if built.structure.nodes[variable].table["method"] not in DETERMINISTIC:
            assert table.min() > 0, variable
            assert table.max() < 1, variable


def test_tables_cannot_be_changed_by_accident(model: edx.Model) -> None:
    """Tables, factors and weights are read-only."""
    for array in (
        *model.built.tables.values(),
        *model.built.selection.values(),
        model.built.weights,
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize("name", SCENARIOS[1:])
def test_scenarios_change_base_rates_and_never_likelihoods(
    scenarios: Mapping[str, Built], name: str
) -> None:
    """P(finding | its parents) is the same, to the last bit, in every setting."""
    general, other = scenarios["general_adult"], scenarios[name]
    for variable, node in general.structure.nodes.items():
        if node.group in LIKELIHOOD_GROUPS or "lesion_subtype" in node.parents:
            assert np.array_equal(general.tables[variable], other.tables[variable]), variable
    assert not np.array_equal(general.tables["age_group"], other.tables["age_group"]) or (
        not np.array_equal(general.tables["blood_state"], other.tables["blood_state"])
    )


def test_the_scenario_says_whose_ages_it_has(scenarios: Mapping[str, Built], priors: Path) -> None:
    """P(age_group) is the age pyramid printed in scenarios.yaml."""
    text = (priors / "scenarios.yaml").read_text(encoding="utf-8")
    printed = yaml.safe_load(text)["scenarios"]
    for name, built in scenarios.items():
        states = built.structure.nodes["age_group"].states
        ages = [printed[name]["age_group"][s] for s in states]
        assert built.tables["age_group"] == pytest.approx(ages)


def test_an_unknown_scenario_names_the_known_ones(
    model: edx.Model, priors: Path, literature: LiteratureBase
) -> None:
    """A misspelt scenario is one sentence that lists the scenarios."""
    with pytest.raises(ModelError, match="unknown scenario 'chld'; scenarios are general_adult"):
        build(model.built.structure, literature, priors, "chld")


def test_an_unknown_table_method_names_the_known_ones(
    tmp_path: Path, networks: Path, priors: Path, literature: LiteratureBase
) -> None:
    """A method that does not exist is reported with variable, file and line."""
    for path in networks.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        if path.name == "imaging.yaml":
            lines = text.splitlines()
            at = next(i for i, row in enumerate(lines, 1) if row.startswith("  t1_signal:"))
            text = text.replace(lines[at - 1], lines[at - 1].replace("pooled", "poold"))
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="unknown method 'poold'; methods are .*pooled") as caught:
        build(read_structure(tmp_path), literature, priors)
    assert (caught.value.file, caught.value.line, caught.value.name) == (
        "imaging.yaml",
        at,
        "t1_signal",
    )


def test_a_method_that_would_need_single_mechanisms_refuses_them(
    tmp_path: Path, networks: Path, priors: Path, literature: LiteratureBase
) -> None:
    """Etiology as a parent of a variable whose method cannot read it is reported."""
    for path in networks.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        if path.name == "lesion.yaml":
            assert "parents: [lesion_subtype]" in text
            text = text.replace("parents: [lesion_subtype]", "parents: [etiology]")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="no use for etiology as a parent; methods that have are"):
        build(read_structure(tmp_path), literature, priors)


def test_given_values_replace_the_pooled_means(
    model: edx.Model, priors: Path, literature: LiteratureBase
) -> None:
    """A parameter set to another column changes that column of the table and nothing else."""
    key = ("t1_signal", "lesion_subtype", "cyst", "")
    other = np.array([0.2, 0.3, 0.5])
    structure = model.built.structure
    changed = build(structure, literature, priors, values={key: other})
    cyst = structure.nodes["lesion_subtype"].states.index("cyst")
    assert changed.tables["t1_signal"][cyst] == pytest.approx(other)
    rest = np.arange(len(model.built.tables["t1_signal"])) != cyst
    assert np.array_equal(changed.tables["t1_signal"][rest], model.built.tables["t1_signal"][rest])
    assert np.array_equal(changed.weights, model.built.weights)


def test_tables_of_draws_are_those_of_every_draw_alone(
    model: edx.Model, priors: Path, literature: LiteratureBase
) -> None:
    """Tables, selection and scales built from many draws equal those of each draw by itself."""
    built = model.built
    drawn, values = draw_tables(built, built.structure, literature, priors, 3, 5)
    assert set(drawn.tables) == set(built.tables)
    for i in range(3):
        one = {key: value[i] for key, value in values.items()}
        alone = build(built.structure, literature, priors, values=one)
        assert drawn.weights[i] == pytest.approx(alone.weights, rel=1e-10)
        for many, single in ((drawn.tables, alone.tables), (drawn.selection, alone.selection)):
            for name, table in single.items():
                row = many[name][i] if many[name].ndim > table.ndim else many[name]
                np.testing.assert_allclose(row, table, rtol=1e-9, atol=1e-14, err_msg=name)


def test_columns_are_pooled_once_and_not_for_every_drawing(
    model: edx.Model, priors: Path, literature: LiteratureBase
) -> None:
    """The columns behind draws are those of the model, in the same order, not pooled again.

    Declared columns without figures are read anew.
    """
    built = model.built
    drawn, _ = draw_tables(built, built.structure, literature, priors, 2, 0)
    assert list(drawn.columns) == list(built.columns)
    for key, pooled in built.columns.items():
        if pooled.literature:
            assert drawn.columns[key] is pooled, key


def test_a_draw_does_not_depend_on_how_many_follow(model: edx.Model) -> None:
    """The first of many independent draws are those of a few with the same seed."""
    few, many = (parameter_draws(model, draws, 11) for draws in (30, 230))
    for key, values in few.items():
        assert np.array_equal(values, many[key][:30]), key
