"""The published patients, stage by stage: what the evidence forces, and nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import epidural_dx as edx
from epidural_dx.clinical.case import read_case

CASES = sorted((Path(__file__).parents[2] / "cases").glob("*.yaml"))


def until(cases: Path, name: str, stage: str) -> dict[str, Any]:
    """Collect the findings of a case up to and including a stage."""
    found: dict[str, Any] = {}
    for part in read_case(cases / f"{name}.yaml").stages:
        found.update(part.findings)
        if part.name == stage:
            return found
    raise KeyError(stage)


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_every_stage_of_every_patient_has_an_answer(model: edx.Model, path: Path) -> None:
    """Each stage gives a distribution, and no published patient is impossible."""
    found: dict[str, Any] = {}
    for stage in read_case(path).stages:
        found.update(stage.findings)
        answer = model.diagnose(found, where=stage.name)
        assert answer.causes.sum() == pytest.approx(1.0)
        assert answer.etiology.sum() == pytest.approx(1.0)


def test_hematopoiesis_leads_in_thalassemia_major_before_a_biopsy(
    model: edx.Model, cases: Path
) -> None:
    """History, blood and MRI of the man of 30 put EMH by hemoglobinopathy first."""
    answer = model.diagnose(until(cases, "emh_thalassemia_major", "mri"))
    assert answer.causes.index[0] == "emh"
    assert answer.etiology.index[0] == "emh_hemoglobinopathy"


def test_hematopoiesis_leads_in_transfusion_dependent_thalassemia_before_a_biopsy(
    model: edx.Model, cases: Path
) -> None:
    """History and MRI of the man of 26 put EMH by hemoglobinopathy first."""
    answer = model.diagnose(until(cases, "emh_tdt_paraspinal", "mri"))
    assert answer.causes.index[0] == "emh"
    assert answer.etiology.index[0] == "emh_hemoglobinopathy"


def test_hematopoietic_tissue_in_the_needle_raises_hematopoiesis_most(
    model: edx.Model, cases: Path
) -> None:
    """Without any blood disorder EMH is one lesion in ten thousand; the biopsy raises it most."""
    before = model.diagnose(until(cases, "emh_no_known_disorder", "mri")).causes
    after = model.diagnose(until(cases, "emh_no_known_disorder", "biopsy")).causes
    ratio = after / before
    assert ratio.idxmax() == "emh"
    assert ratio["emh"] > 50


def test_the_record_decides_for_leukemia(model: edx.Model, cases: Path) -> None:
    """The multifocal images with leukemia in the record are leukemia first."""
    assert model.diagnose(until(cases, "multifocal_aml", "mri")).causes.index[0] == "leukemia"


def test_the_record_decides_for_myeloma(model: edx.Model, cases: Path) -> None:
    """The same images with myeloma in the record are plasmacytoma first."""
    assert model.diagnose(until(cases, "multifocal_myeloma", "mri")).causes.index[0] == "myeloma"


@pytest.mark.parametrize("record", ["mds", "anemia"])
def test_the_record_leaves_hematopoiesis_and_leukemia_open(
    model: edx.Model, cases: Path, record: str
) -> None:
    """With MDS or severe anemia EMH and leukemia lie within a factor of about three."""
    causes = model.diagnose(until(cases, f"multifocal_{record}", "mri")).causes
    assert 1 / 3.5 < causes["emh"] / causes["leukemia"] < 3.5


def test_both_open_causes_are_shown_with_dysplasia(model: edx.Model, cases: Path) -> None:
    """With MDS in the record both EMH and leukemia are among the three leading causes."""
    leading = list(model.diagnose(until(cases, "multifocal_mds", "mri")).causes.index[:3])
    assert {"emh", "leukemia"} <= set(leading)


def test_both_open_causes_are_shown_with_severe_anemia(model: edx.Model, cases: Path) -> None:
    """With severe anemia alone both are among the eight causes that a person is shown."""
    leading = list(model.diagnose(until(cases, "multifocal_anemia", "mri")).causes.index[:8])
    assert {"emh", "leukemia"} <= set(leading)


COAGULOPATHY = {"hematoma_dic", "hematoma_thrombocytopenia"}


def test_a_hematoma_with_coagulopathy_leads_in_the_girl_of_14(
    model: edx.Model, cases: Path
) -> None:
    """After blood and MRI a hematoma leads, driven by DIC or low platelets."""
    answer = model.diagnose(until(cases, "melanoma_marrow_hematoma", "mri"))
    assert answer.causes.index[0] == "hematoma"
    assert answer.etiology.index[0] in COAGULOPATHY
    assert answer.conditions["hemostasis"]["dic"] > 0.5


def test_the_marrow_is_the_leading_test_about_the_hidden_driver(
    model: edx.Model, cases: Path
) -> None:
    """After blood and MRI a look into the marrow tells most about what infiltrates it."""
    found = until(cases, "melanoma_marrow_hematoma", "mri")
    ranked = model.rank_tests(found, target="marrow_infiltration")
    assert ranked["test"].iloc[0] in {"bone_marrow_biopsy", "flow_cytometry"}


def test_skin_and_melanoma_stain_lead_after_cells_without_a_name(
    model: edx.Model, cases: Path
) -> None:
    """After a marrow with unclassified cells stain and skin are the tests about melanoma.

    About *what is in the marrow* other tests tell more: in children other solid tumours fill it
    two hundred times as often as melanoma, and no age band finer than 0 to 17 says otherwise.
    """
    found = until(cases, "melanoma_marrow_hematoma", "marrow")
    ranked = list(model.rank_tests(found, target="melanoma")["test"])
    new = [t for t in ranked if t != "history_review"]
    assert new[0] == "melanoma_ihc"
    assert "full_skin_examination" in new[:3]


def test_hematoma_and_melanoma_both_come_out_in_the_end(model: edx.Model, cases: Path) -> None:
    """The last stage says what compresses (a clot by DIC) and why (melanoma in the marrow)."""
    answer = model.diagnose(until(cases, "melanoma_marrow_hematoma", "immunohistochemistry"))
    assert answer.etiology.index[0] == "hematoma_dic"
    assert answer.conditions["marrow_infiltration"].idxmax() == "melanoma"
    assert answer.conditions["melanoma_primary_site"].idxmax() == "skin"


def test_each_step_raises_melanoma_in_the_marrow(model: edx.Model, cases: Path) -> None:
    """Marrow, skin and stain raise the probability of melanoma in the marrow step by step."""
    steps = ["operation", "marrow", "re_examination", "immunohistochemistry"]
    seen = [
        model.diagnose(until(cases, "melanoma_marrow_hematoma", step)).conditions[
            "marrow_infiltration"
        ]["melanoma"]
        for step in steps
    ]
    assert seen == sorted(seen)
    assert seen[-1] > 0.5
