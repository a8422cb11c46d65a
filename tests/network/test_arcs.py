"""Who may be a child of the lesion: images, tissue, course and symptoms, nothing else.

Exposures and condition-owned values reach the lesion through the rates. Hung on the lesion they
would be counted twice (once as a rate, once as a retrospective share).
"""

from __future__ import annotations

import networkx as nx
import pytest

import epidural_dx as edx
from epidural_dx.network.structure import Structure, read_structure

LESION = {"etiology", "lesion_cause", "lesion_subtype", "hematoma_phase", "emh_activity"}

EXPOSURES = """
    anticoagulant_use antiplatelet_use liver_failure hereditary_bleeding
    vascular_malformation_present recent_trauma recent_spinal_procedure iv_drug_use diabetes
    immunosuppression recent_infection steroid_use obesity hypertension tb_exposure pregnancy
    splenectomy transfusion_dependent
""".split()
CONDITIONS = """
    age_group sex blood_disorder blood_disorder_known solid_tumor metastatic_cancer
    solid_tumor_known melanoma_stage melanoma_known melanoma_primary_site marrow_disease
    marrow_infiltration hemostasis
""".split()
HISTORY = """
    known_thalassemia known_myeloproliferative known_mds known_leukemia known_lymphoma
    known_myeloma known_melanoma known_cancer known_bleeding_disorder
""".split()
CONDITION_OWNED = """
    hemoglobin wbc platelets cytopenia_pattern smear inr pt_prolongation aptt fibrinogen d_dimer
    dic_isth_score ferritin crp esr blood_culture m_protein hb_electrophoresis reticulocytes
    bilirubin uric_acid s100b_serum coarse_trabeculae splenomegaly hepatomegaly skeletal_facies
    pallor ecchymosis_petechiae mucosal_bleeding pigmented_skin_lesion ophthalmoscopy_mass
    nasal_endoscopy_mass marrow_biopsy flow_cytometry
""".split()

#: Values outside imaging, tissue and symptoms in which the lesion itself has a declared part.
LESION_HAS_A_PART = {
    "systemic_infection": "an abscess brings its own infection",
    "inflammation": "infection, tumour and clot inflame",
    "ldh": "tumour and clot release it",
    "calcium": "bone that the lesion destroys releases it",
    "procalcitonin": "an infected lesion raises it",
    "tb_igra": "tuberculosis of the spine is an infection with tuberculosis",
    "lymphadenopathy": "the lesion's disease may lie in the nodes",
    "spinal_tenderness": "a local sign of the lesion",
}


@pytest.fixture(scope="module")
def structure(model: edx.Model) -> Structure:
    """Give the packaged structure."""
    return model.built.structure


@pytest.mark.parametrize("name", EXPOSURES + CONDITIONS + HISTORY + CONDITION_OWNED)
def test_exposures_and_condition_owned_values_are_no_children_of_the_lesion(
    structure: Structure, name: str
) -> None:
    """No arc runs from the lesion to an exposure, a condition, a history or an owned value."""
    assert name in structure.nodes
    assert not LESION & set(structure.nodes[name].parents)


def test_only_declared_values_have_a_part_of_the_lesion(structure: Structure) -> None:
    """Outside imaging, tissue and symptoms the lesion's children are the declared exceptions."""
    free = {"imaging", "tissue", "symptom", "target"}
    found = {
        n.name
        for n in structure.nodes.values()
        if n.group not in free and n.name not in LESION and LESION & set(n.parents)
    }
    assert found == set(LESION_HAS_A_PART)


def test_the_lesion_reaches_conditions_only_through_infection(structure: Structure) -> None:
    """Downstream of the lesion there are no exposures or diseases except through an infection."""
    graph = nx.DiGraph((p, n.name) for n in structure.nodes.values() for p in n.parents)
    graph.remove_node("systemic_infection")
    below = nx.descendants(graph, "etiology")
    assert not below & {*EXPOSURES, *CONDITIONS, *HISTORY}


def test_marrow_acts_on_the_hematoma_through_hemostasis(model: edx.Model) -> None:
    """No hematoma rate depends on the marrow or the blood disorder: the chain has no shortcut."""
    built = model.built
    for i, mechanism in enumerate(built.structure.mechanisms.values()):
        if mechanism.cause != "hematoma":
            continue
        for variable in ("marrow_disease", "blood_disorder", "tumor_in_marrow", "melanoma_stage"):
            if variable in built.selection:
                factors = built.selection[variable][i]
                assert factors == pytest.approx(factors[0]), (mechanism.name, variable)


def test_known_disease_is_a_condition_of_rates_and_never_of_findings(
    structure: Structure,
) -> None:
    """Only records hang on "known at presentation": knowing a disease changes no image."""
    for node in structure.nodes.values():
        if any(p.endswith("_known") for p in node.parents):
            assert node.group == "history", node.name
            assert node.table["method"] == "record", node.name


def test_the_isth_score_is_a_function_of_its_four_values(structure: Structure) -> None:
    """The score has its four components as parents and nothing hangs on it."""
    parents = {"platelets", "d_dimer", "pt_prolongation", "fibrinogen"}
    assert set(structure.nodes["dic_isth_score"].parents) == parents
    assert not [n for n in structure.nodes.values() if "dic_isth_score" in n.parents]


def test_the_file_and_the_model_hold_the_same_arcs(model: edx.Model, structure: Structure) -> None:
    """The compiled model's parents are those of the files."""
    from epidural_dx.store import data_folder

    read = read_structure(data_folder("networks", None))
    assert {n: node.parents for n, node in read.nodes.items()} == {
        n: node.parents for n, node in structure.nodes.items()
    }
    assert set(model.variables) == set(read.nodes)
