"""Exported networks: pgmpy and pyAgrum read the files and give the model's own answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

import epidural_dx as edx
from epidural_dx.errors import ModelError
from epidural_dx.network import export

ASKED = ("lesion_cause", "etiology", "marrow_infiltration")
EVIDENCE: dict[str, dict[str, str]] = {
    "nothing": {},
    "marrow": {
        "age_group": "age_0_17",
        "sex": "female",
        "platelets": "very_low",
        "d_dimer": "strongly_raised",
        "onset": "acute_days",
        "t1_signal": "iso",
    },
    "thalassemia": {
        "age_group": "age_18_39",
        "known_thalassemia": "present",
        "hemoglobin": "severe_anemia",
        "paravertebral_mass": "bilateral_lobulated",
        "enhancement": "faint",
    },
    "abscess": {
        "fever": "present",
        "crp": "marked",
        "enhancement": "rim",
        "iv_drug_use": "present",
        "blood_culture": "positive",
    },
    "cancer": {"known_cancer": "present", "bone_destruction": "present", "multifocal": "present"},
}

Posteriors = Mapping[str, Mapping[str, float]]


def expected(model: edx.Model, evidence: Mapping[str, str]) -> Posteriors:
    """Posteriors of the model itself."""
    answer = model.diagnose(evidence)
    return {
        name: dict(zip(model.variables[name].states, answer.marginals[name], strict=True))
        for name in ASKED
    }


def by_pgmpy(network: Any, evidence: Mapping[str, str]) -> Posteriors:
    """Posteriors by pgmpy's variable elimination; one query each, since several build a joint."""
    from pgmpy.inference import VariableElimination

    engine = VariableElimination(network)
    result = {}
    for name in ASKED:
        factor = engine.query([name], dict(evidence), show_progress=False)
        result[name] = {s: factor.get_value(**{name: s}) for s in factor.state_names[name]}
    return result


def by_pyagrum(network: Any, evidence: Mapping[str, str]) -> Posteriors:
    """Posteriors by pyAgrum's lazy propagation."""
    import pyagrum

    engine = pyagrum.LazyPropagation(network)
    for name in ASKED:
        engine.addTarget(name)
    engine.setEvidence(dict(evidence))
    engine.makeInference()
    result = {}
    for name in ASKED:
        posterior = engine.posterior(name)
        result[name] = {s: posterior[{name: s}] for s in network.variable(name).labels()}
    return result


def compare(found: Posteriors, wanted: Posteriors, tolerance: float) -> None:
    """Check every probability of every variable that was asked for."""
    for name in ASKED:
        assert dict(found[name]) == pytest.approx(dict(wanted[name]), abs=tolerance)


@pytest.fixture(scope="module")
def files(model: edx.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write every format in both forms."""
    folder = tmp_path_factory.mktemp("export")
    for form in export.FORMS:
        for format, suffix in (("bif", "bif"), ("xmlbif", "bifxml"), ("json", "json")):
            export.write(model.built, folder / f"{form}.{suffix}", format, form)
    return folder


def carried(form: str, files: Path) -> dict[str, str]:
    """Evidence that the file beside the selection form asks for; none for the absorbed form."""
    if form == "absorbed":
        return {}
    loaded = json.loads((files / "selection.bifxml.evidence.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


# ------------------------------------------------------------------------ same posteriors


@pytest.mark.parametrize("form", export.FORMS)
def test_xmlbif_gives_pgmpy_the_models_posteriors(model: edx.Model, files: Path, form: str) -> None:
    """Through the XMLBIF file pgmpy's exact inference agrees with the model within 1e-9."""
    from pgmpy.readwrite import XMLBIFReader

    network = XMLBIFReader(path=str(files / f"{form}.bifxml")).get_model()
    for evidence in EVIDENCE.values():
        found = by_pgmpy(network, {**evidence, **carried(form, files)})
        compare(found, expected(model, evidence), 1e-9)


@pytest.mark.parametrize("form", export.FORMS)
@pytest.mark.parametrize(("suffix", "tolerance"), [("bifxml", 1e-9), ("bif", 1e-6)])
def test_files_give_pyagrum_the_models_posteriors(
    model: edx.Model, files: Path, form: str, suffix: str, tolerance: float
) -> None:
    """PyAgrum agrees within 1e-9 through XMLBIF, and 1e-6 through BIF (single precision)."""
    import pyagrum

    network = pyagrum.loadBN(str(files / f"{form}.{suffix}"))
    for evidence in EVIDENCE.values():
        found = by_pyagrum(network, {**evidence, **carried(form, files)})
        compare(found, expected(model, evidence), tolerance)


@pytest.mark.parametrize("form", export.FORMS)
def test_pgmpy_in_memory_gives_the_models_posteriors(model: edx.Model, form: str) -> None:
    """``Model.to_pgmpy`` agrees within 1e-9, with the evidence of its selection nodes."""
    network = model.to_pgmpy(form)
    always = model.selection_evidence if form == "selection" else {}
    for evidence in EVIDENCE.values():
        compare(by_pgmpy(network, {**evidence, **always}), expected(model, evidence), 1e-9)


@pytest.mark.slow
def test_bif_is_exact_in_pgmpy(model: edx.Model, files: Path) -> None:
    """Every table comes back from the BIF file to the last digit."""
    from pgmpy.readwrite import BIFReader

    network = BIFReader(str(files / "selection.bif")).get_model()
    for table in export.form_tables(model.built, "selection"):
        cpd = network.get_cpds(table.child)
        order = [cpd.variables.index(name) for name in (*table.parents, table.child)]
        back = np.transpose(cpd.values, order)
        for axis, name in enumerate((*table.parents, table.child)):
            states = (
                model.variables[name].states if name in model.variables else ("absent", "present")
            )
            places = [cpd.state_names[name].index(s) for s in states]
            back = np.take(back, places, axis=axis)
        assert np.array_equal(back, table.table)


def test_json_is_exact(model: edx.Model, files: Path) -> None:
    """Every table comes back from JSON to the last digit, with states, parents and evidence."""
    for form in export.FORMS:
        document = json.loads((files / f"{form}.json").read_text())
        variables = {v["name"]: v for v in document["variables"]}
        assert document["evidence"] == carried(form, files)
        for table in export.form_tables(model.built, form):
            found = variables[table.child]
            assert tuple(found["parents"]) == table.parents
            assert np.array_equal(np.array(found["table"]), table.table.ravel())
            if table.child in model.variables:
                assert tuple(found["states"]) == model.variables[table.child].states


# -------------------------------------------------------------------------- the two forms


def test_the_selection_form_is_wrong_without_its_evidence(model: edx.Model, files: Path) -> None:
    """A reader who forgets the evidence file gets other shares of the causes: why it exists."""
    import pyagrum

    network = pyagrum.loadBN(str(files / "selection.bifxml"))
    found = by_pyagrum(network, {})["lesion_cause"]
    wanted = expected(model, {})["lesion_cause"]
    assert max(abs(found[cause] - wanted[cause]) for cause in wanted) > 0.01


def test_the_absorbed_form_has_no_selection_nodes(model: edx.Model) -> None:
    """It holds exactly the model's variables, with etiology as root; parents come first."""
    tables = export.form_tables(model.built, "absorbed")
    assert {t.child for t in tables} == set(model.variables)
    assert next(t for t in tables if t.child == "etiology").parents == ()
    seen: set[str] = set()
    for table in tables:
        assert set(table.parents) <= seen
        seen.add(table.child)


def test_what_was_written_is_reported(model: edx.Model, tmp_path: Path) -> None:
    """Sizes are those of the tables; no table is too large for other programs."""
    done = export.write(model.built, tmp_path / "x.json", "json", "absorbed")
    tables = export.form_tables(model.built, "absorbed")
    assert done.variables == len(tables)
    assert done.cells == sum(t.table.size for t in tables)
    assert done.largest_cells == max(t.table.size for t in tables)
    assert done.arcs == sum(len(t.parents) for t in tables)
    assert done.evidence_path is None
    assert not done.is_large


# ------------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("form", export.FORMS)
def test_a_full_disk_leaves_nothing_behind(
    model: edx.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """When writing fails half way, an older file stays as it was and no part is left."""
    (tmp_path / "x.bif").write_text("older")

    def fails(handle: IO[str], *rest: object) -> None:
        handle.write("half")
        raise OSError(28, "No space left on device")

    writers: dict[str, Callable[..., None]] = {**export.FORMATS, "bif": fails}
    monkeypatch.setattr(export, "FORMATS", writers)
    with pytest.raises(ModelError, match="x.bif: cannot be written .No space left"):
        export.write(model.built, tmp_path / "x.bif", "bif", form)
    assert [p.name for p in tmp_path.iterdir()] == ["x.bif"]
    assert (tmp_path / "x.bif").read_text() == "older"


@pytest.mark.parametrize(
    ("format", "form", "message"),
    [
        ("xmlbf", "absorbed", "unknown format 'xmlbf'.*did you mean 'xmlbif'"),
        ("net", "absorbed", "unknown format 'net'; formats are bif, xmlbif, json"),
        ("bif", "absorbd", "unknown form 'absorbd'.*did you mean 'absorbed'"),
    ],
)
def test_unknown_formats_and_forms_are_refused(
    model: edx.Model, tmp_path: Path, format: str, form: str, message: str
) -> None:
    """What other programs would misread is not offered, and nothing is written."""
    with pytest.raises(ModelError, match=message):
        export.write(model.built, tmp_path / "x", format, form)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_file(model: edx.Model, tmp_path: Path) -> None:
    """Writing onto a folder, or into one that is not there, is refused with its name."""
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "nowhere" / "x.bif"):
        with pytest.raises(ModelError, match=path.name):
            export.write(model.built, path, "bif", "selection")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
