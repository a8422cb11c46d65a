"""A network's variables without the network: the contract's names, cut-offs and spellings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from epidural_dx.clinical import (
    Aliases,
    Evidence,
    Units,
    complete_variables,
    load_aliases,
    load_thresholds,
    load_units,
    read_evidence,
)
from epidural_dx.network.variable import Variable

ROOT = Path(__file__).resolve().parents[2]

_YES_NO = {
    "condition": """melanoma metastatic_cancer solid_tumor_known blood_disorder_known melanoma_known
        vascular_malformation_present liver_failure hereditary_bleeding""",
    "history": """known_thalassemia known_myeloproliferative known_mds known_leukemia known_lymphoma
        known_myeloma known_melanoma known_cancer known_bleeding_disorder anticoagulant_use
        antiplatelet_use recent_trauma recent_spinal_procedure iv_drug_use diabetes
        immunosuppression recent_infection steroid_use obesity hypertension tb_exposure pregnancy
        splenectomy transfusion_dependent weight_loss""",
    "symptom": """back_pain radicular_pain fever sensory_level sphincter_dysfunction night_sweats
        fatigue bone_pain mucosal_bleeding""",
    "examination": """spinal_tenderness pigmented_skin_lesion ecchymosis_petechiae splenomegaly
        hepatomegaly lymphadenopathy skeletal_facies pallor ophthalmoscopy_mass
        nasal_endoscopy_mass""",
    "laboratory": "m_protein",
    "imaging": """multifocal fat_suppression_loss dwi_restriction bone_destruction
        pathological_fracture disc_endplate_involvement foraminal_extension flow_voids
        cord_signal_change coarse_trabeculae marrow_scintigraphy_uptake other_organ_mass
        angiography_shunt""",
}

_TISSUE = """non_diagnostic hematoma_or_fibrin pus_or_organism granuloma melanoma
    carcinoma_or_sarcoma lymphoma leukemia plasma_cells hematopoietic_tissue benign_other"""

_STATES = {
    "patient": {
        "age_group": "age_0_17 age_18_39 age_40_59 age_60_plus",
        "sex": "female male",
    },
    "condition": {
        "blood_disorder": """none tdt ntdt sickle_cell other_hemolytic myelofibrosis
            polycythemia_vera mds aml cml all lymphoma myeloma thalassemia_with_cml""",
        "hemoglobinopathy": "none tdt ntdt sickle_cell other_hemolytic",
        "myeloid_disorder": "none myelofibrosis polycythemia_vera mds aml cml",
        "lymphoid_disorder": "none all lymphoma myeloma",
        "solid_tumor": """none breast lung prostate kidney gastrointestinal thyroid pediatric
            other""",
        "melanoma_primary_site": """none skin ocular nasal occult retroperitoneal
            anorectal_genital not_reported""",
        "marrow_infiltration": "none melanoma leukemia lymphoma carcinoma",
        "hemostasis": """normal anticoagulant antiplatelet thrombocytopenia dic
            hereditary_bleeding liver_failure""",
        "systemic_infection": "none local_focus bacteremia",
    },
    "symptom": {
        "onset": "chronic_months subacute_weeks acute_days sudden",
        "limb_weakness": "none partial complete",
    },
    "laboratory": {
        "hemoglobin": "high normal mild_anemia severe_anemia",
        "wbc": "low normal high",
        "platelets": "high normal low_100_149 low_50_99 very_low",
        "cytopenia_pattern": "none isolated_anemia thrombocytopenia pancytopenia",
        "smear": "normal leukoerythroblastic schistocytes blasts target_cells",
        "inr": "normal raised high",
        "pt_prolongation": "under_3s from_3_to_6s over_6s",
        "aptt": "normal prolonged",
        "fibrinogen": "normal low very_low",
        "d_dimer": "normal raised strongly_raised",
        "dic_isth_score": "below_5 at_least_5",
        "ldh": "normal high very_high",
        "ferritin": "normal raised very_high",
        "crp": "normal raised marked",
        "esr": "normal raised",
        "procalcitonin": "normal raised",
        "blood_culture": "negative positive",
        "calcium": "normal high",
        "hb_electrophoresis": "normal abnormal",
        "reticulocytes": "low normal high",
        "bilirubin": "normal high",
        "uric_acid": "normal high",
        "tb_igra": "negative positive",
        "s100b_serum": "normal high",
    },
    "imaging": {
        "level": "cervical thoracic thoracolumbar lumbar sacral",
        "epidural_position": "anterior posterior circumferential lateral",
        "craniocaudal_extent": "up_to_2_levels over_2_levels",
        "t1_signal": "hypo iso hyper",
        "t2_signal": "hypo iso hyper mixed",
        "enhancement": "none faint homogeneous rim",
        "vertebral_marrow": "normal diffuse_low_t1 focal_replacement edema",
        "paravertebral_mass": "none unilateral bilateral_lobulated",
        "ct_attenuation": "hypodense isodense hyperdense",
        "pet_uptake": "none mild intense",
    },
    "tissue": {
        "lesion_biopsy": _TISSUE,
        "lesion_surgical_pathology": _TISSUE,
        "lesion_culture": "negative pyogenic mycobacteria",
        "marrow_biopsy": """normal leukemia melanoma carcinoma lymphoma plasma_cells myelofibrosis
            dysplasia erythroid_hyperplasia hypocellular unclassified_cells""",
        "flow_cytometry": "negative leukemia lymphoma plasma_cells cd45_negative_population",
        "melanoma_ihc": "negative positive",
    },
    "target": {
        "lesion_cause": """hematoma abscess tuberculosis metastasis_melanoma metastasis_other
            lymphoma leukemia myeloma emh disc lipomatosis nerve_sheath_tumor
            vascular_malformation primary_bone_tumor cyst other""",
        "etiology": "hematoma_dic hematoma_anticoagulant emh_hemoglobinopathy disc",
    },
    "latent": {"inflammation": "low moderate high"},
}


def contract_variables() -> dict[str, Variable]:
    """Return the contract's variables, bare."""
    found = {}
    for group, table in _STATES.items():
        for name, states in table.items():
            found[name] = Variable(
                name, name, tuple(states.split()), group, latent=group == "latent"
            )
    for group, names in _YES_NO.items():
        for name in names.split():
            found[name] = Variable(name, name, ("absent", "present"), group)
    return found


@pytest.fixture(scope="session")
def bare() -> dict[str, Variable]:
    """Return the contract's variables without cut-offs and aliases."""
    return contract_variables()


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the top of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def units() -> Units:
    """Return the project's table of units."""
    return load_units(ROOT / "priors" / "units.csv")


@pytest.fixture(scope="session")
def aliases() -> Aliases:
    """Return the project's aliases."""
    return load_aliases(ROOT / "networks" / "aliases.yaml")


@pytest.fixture(scope="session")
def variables(aliases: Aliases) -> dict[str, Variable]:
    """Return the contract's variables with the project's cut-offs and aliases."""
    return complete_variables(
        contract_variables(), load_thresholds(ROOT / "priors" / "thresholds.csv"), aliases
    )


@pytest.fixture(scope="session")
def read(
    variables: dict[str, Variable], units: Units, aliases: Aliases
) -> Callable[[Mapping[str, object]], Evidence]:
    """Return `read_evidence` with the project's tables."""

    def reader(raw: Mapping[str, object]) -> Evidence:
        return read_evidence(raw, variables, units=units, aliases=aliases)

    return reader


@pytest.fixture(scope="session")
def states(
    read: Callable[[Mapping[str, object]], Evidence],
) -> Callable[..., tuple[str, ...]]:
    """Return the states left possible by one finding in a context."""

    def reader(name: str, value: object, **context: object) -> tuple[str, ...]:
        evidence = read({**context, name: value})
        target = list(evidence.entries)[-1]
        return evidence.entries[target].states

    return reader
