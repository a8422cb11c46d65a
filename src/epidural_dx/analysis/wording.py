"""Names of the model as words that a letter can use; nothing here changes a number.

What has no phrase of its own is written as its label and state in words, so a new variable needs
no entry. Phrases say what was found, never what it means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model

#: Causes as they stand in a sentence.
CAUSES: Mapping[str, str] = {
    "abscess": "epidural abscess",
    "cyst": "epidural cyst",
    "disc": "disc fragment",
    "emh": "extramedullary hematopoiesis",
    "hematoma": "epidural hematoma",
    "leukemia": "leukemia",
    "lipomatosis": "epidural lipomatosis",
    "lymphoma": "lymphoma",
    "metastasis_melanoma": "melanoma metastasis",
    "metastasis_other": "metastasis of another tumour",
    "myeloma": "myeloma",
    "nerve_sheath_tumor": "nerve sheath tumour",
    "other": "a lesion of another kind",
    "primary_bone_tumor": "primary bone tumour",
    "tuberculosis": "tuberculosis",
    "vascular_malformation": "vascular malformation",
}

#: Drivers of a mechanism; an empty phrase means that nothing drives it.
DRIVERS: Mapping[str, str] = {
    "none": "",
    "acute_leukemia": "acute leukemia",
    "adulthood": "of the kinds seen in adults",
    "anticoagulant": "anticoagulation",
    "antiplatelet": "antiplatelet drugs",
    "childhood": "of the kinds seen in children",
    "chronic_myeloid_disorder": "transformation of a chronic myeloid disorder",
    "dic": "disseminated intravascular coagulation",
    "epidural": "in the epidural space",
    "gastrointestinal": "gastrointestinal cancer",
    "hereditary_bleeding": "an inherited bleeding disorder",
    "immunosuppression": "immunosuppression",
    "iv_drug_use": "injection of drugs",
    "liver_failure": "liver failure",
    "other": "another primary tumour",
    "pediatric": "a childhood tumour",
    "recent_infection": "an infection elsewhere",
    "recent_spinal_procedure": "a procedure at the spine",
    "recent_trauma": "an injury",
    "steroid_use": "corticosteroids",
    "tb_exposure": "exposure to tuberculosis",
    "unknown_primary": "an unknown primary tumour",
    "vascular_malformation": "a vascular malformation",
    "vertebral": "in the vertebra",
    **{site: f"{site} cancer" for site in ("breast", "lung", "prostate", "kidney", "thyroid")},
}

#: Mechanisms whose cause and driver do not make a phrase.
MECHANISMS: Mapping[str, str] = {
    "leukemia_isolated": "myeloid sarcoma without leukemia in the marrow",
    "leukemia_acute": "epidural mass of an acute leukemia",
    "leukemia_transformation": "leukemia transformed from a chronic myeloid disorder",
    "lymphoma_primary": "primary epidural lymphoma",
    "lymphoma_secondary": "lymphoma spread from elsewhere",
    "metastasis_breast": "metastasis of breast cancer",
    "metastasis_gastrointestinal": "metastasis of gastrointestinal cancer",
    "metastasis_kidney": "metastasis of kidney cancer",
    "metastasis_lung": "metastasis of lung cancer",
    "metastasis_melanoma": "melanoma metastasis",
    "metastasis_other_primary": "metastasis of another solid tumour",
    "metastasis_pediatric": "metastasis of a childhood tumour",
    "metastasis_prostate": "metastasis of prostate cancer",
    "metastasis_thyroid": "metastasis of thyroid cancer",
    "metastasis_unknown_primary": "metastasis of an unknown primary tumour",
    "myeloma_solitary": "solitary plasmacytoma",
    "myeloma_systemic": "mass of a systemic myeloma",
    "emh_hemoglobinopathy": "extramedullary hematopoiesis of a hemoglobinopathy",
    "emh_myeloid_disorder": "extramedullary hematopoiesis of a myeloid disorder",
    "emh_no_known_disorder": "extramedullary hematopoiesis without a known disorder",
    "hematoma_spontaneous": "spontaneous epidural hematoma",
    "abscess_spontaneous": "epidural abscess without a known source",
    "disc_degenerative": "degenerative disc fragment",
    "lipomatosis_idiopathic": "idiopathic epidural lipomatosis",
}

#: Conditions in a chain, by variable and state; states without a phrase tell nothing.
CONDITIONS: Mapping[str, Mapping[str, str]] = {
    "melanoma_stage": {"localized": "localized melanoma", "metastatic": "metastatic melanoma"},
    "marrow_disease": {
        "tdt": "transfusion-dependent thalassemia",
        "ntdt": "non-transfusion-dependent thalassemia",
        "sickle_cell": "sickle cell disease",
        "other_hemolytic": "a hemolytic disorder",
        "myelofibrosis": "myelofibrosis",
        "polycythemia_vera": "polycythemia vera",
        "mds": "a myelodysplastic syndrome",
        "aml": "acute myeloid leukemia in the marrow",
        "cml": "chronic myeloid leukemia in the marrow",
        "all": "acute lymphoblastic leukemia in the marrow",
        "lymphoma_outside_marrow": "lymphoma outside the marrow",
        "lymphoma_in_marrow": "lymphoma in the marrow",
        "myeloma": "myeloma in the marrow",
        "carcinoma": "a solid tumour in the marrow",
        "melanoma": "melanoma in the marrow",
    },
    "hemostasis": {
        "anticoagulant": "anticoagulation",
        "antiplatelet": "platelet inhibition",
        "thrombocytopenia": "thrombocytopenia",
        "dic": "disseminated intravascular coagulation",
        "hereditary_bleeding": "an inherited bleeding disorder",
        "liver_failure": "liver failure",
    },
    "systemic_infection": {"local_focus": "a local infection", "bacteremia": "bacteremia"},
    "inflammation": {"moderate": "inflammation", "high": "marked inflammation"},
    "metastatic_cancer": {"present": "a metastatic tumour"},
    "solid_tumor": {
        "breast": "breast cancer",
        "lung": "lung cancer",
        "prostate": "prostate cancer",
        "kidney": "kidney cancer",
        "gastrointestinal": "gastrointestinal cancer",
        "thyroid": "thyroid cancer",
        "pediatric": "a childhood tumour",
        "other": "another solid tumour",
    },
    "melanoma_primary_site": {
        "skin": "melanoma of the skin",
        "ocular": "melanoma of the eye",
        "nasal": "melanoma of the nose",
        "occult": "melanoma without a visible primary",
    },
    "significant_injury": {"present": "an injury that can bleed"},
    "canal_procedure": {"present": "a procedure in the canal"},
    "steroid_exposure": {"present": "months of corticosteroids"},
    "liver_failure": {"present": "liver failure"},
    "hereditary_bleeding": {"present": "an inherited bleeding disorder"},
    "vascular_malformation_present": {"present": "a spinal vascular malformation"},
}

#: Findings, by variable and state.
FINDINGS: Mapping[str, Mapping[str, str]] = {
    "age_group": {
        "age_0_17": "age below 18",
        "age_18_39": "age 18 to 39",
        "age_40_59": "age 40 to 59",
        "age_60_plus": "age of 60 or more",
    },
    "sex": {"female": "female sex", "male": "male sex"},
    "level": {
        "cervical": "the cervical level",
        "thoracic": "the thoracic level",
        "thoracolumbar": "the thoracolumbar level",
        "lumbar": "the lumbar level",
        "sacral": "the sacral level",
    },
    "epidural_position": {
        "anterior": "the anterior position",
        "posterior": "the posterior position",
        "circumferential": "the circumferential shape",
        "lateral": "the lateral position",
    },
    "paravertebral_mass": {
        "none": "no paravertebral mass",
        "unilateral": "a mass on one side of the spine",
        "bilateral_lobulated": "lobulated masses on both sides of the spine",
    },
    "craniocaudal_extent": {
        "up_to_2_levels": "an extent of at most two levels",
        "over_2_levels": "an extent of more than two levels",
    },
    "multifocal": {"absent": "a single lesion", "present": "more than one lesion"},
    "t1_signal": {"hypo": "a dark T1 signal", "iso": "an isointense T1 signal",
                  "hyper": "a bright T1 signal"},
    "t2_signal": {"hypo": "a dark T2 signal", "iso": "an isointense T2 signal",
                  "hyper": "a bright T2 signal", "mixed": "a mixed T2 signal"},
    "fat_suppression_loss": {
        "absent": "no loss of signal on fat suppression",
        "present": "loss of signal on fat suppression",
    },
    "enhancement": {"none": "no enhancement", "faint": "faint enhancement",
                    "homogeneous": "homogeneous enhancement", "rim": "rim enhancement"},
    "dwi_restriction": {"absent": "no restricted diffusion", "present": "restricted diffusion"},
    "disc_endplate_involvement": {
        "absent": "spared disc and endplates",
        "present": "involvement of disc and endplates",
    },
    "vertebral_marrow": {
        "normal": "normal vertebral marrow",
        "diffuse_low_t1": "diffusely dark vertebral marrow",
        "focal_replacement": "focal replacement of the vertebral marrow",
        "edema": "edema of the vertebral marrow",
    },
    "ct_attenuation": {"hypodense": "a hypodense lesion on CT", "isodense":
                       "an isodense lesion on CT", "hyperdense": "a hyperdense lesion on CT"},
    "pet_uptake": {"none": "no FDG uptake", "mild": "mild FDG uptake",
                   "intense": "intense FDG uptake"},
    "hemoglobin": {"high": "high hemoglobin", "normal": "normal hemoglobin",
                   "mild_anemia": "mild anemia", "severe_anemia": "severe anemia"},
    "platelets": {
        "high": "high platelets",
        "normal": "normal platelets",
        "low_100_149": "platelets of 100 to 149 ×10⁹/L",
        "low_50_99": "platelets of 50 to 99 ×10⁹/L",
        "very_low": "platelets below 50 ×10⁹/L",
    },
    "wbc": {"low": "low leukocytes", "normal": "normal leukocytes", "high": "high leukocytes"},
    "cytopenia_pattern": {
        "none": "no cytopenia in the report",
        "isolated_anemia": "an isolated anemia in the report",
        "thrombocytopenia": "a thrombocytopenia in the report",
        "pancytopenia": "a pancytopenia in the report",
    },
    "pt_prolongation": {
        "under_3s": "a prothrombin time prolonged by less than 3 s",
        "from_3_to_6s": "a prothrombin time prolonged by 3 to 6 s",
        "over_6s": "a prothrombin time prolonged by more than 6 s",
    },
    "dic_isth_score": {
        "below_5": "an ISTH score below 5",
        "at_least_5": "an ISTH score of 5 or more",
    },
    "smear": {
        "normal": "a normal blood smear",
        "leukoerythroblastic": "a leukoerythroblastic blood smear",
        "schistocytes": "schistocytes in the blood smear",
        "blasts": "blasts in the blood smear",
        "target_cells": "target cells in the blood smear",
    },
    "blood_culture": {"negative": "a negative blood culture",
                      "positive": "a positive blood culture"},
    "lesion_culture": {
        "negative": "a negative culture of the lesion",
        "pyogenic": "pyogenic bacteria in the lesion",
        "mycobacteria": "mycobacteria in the lesion",
    },
    "tb_igra": {"negative": "a negative interferon-gamma release assay",
                "positive": "a positive interferon-gamma release assay"},
    "hb_electrophoresis": {"normal": "a normal hemoglobin electrophoresis",
                           "abnormal": "an abnormal hemoglobin electrophoresis"},
    "onset": {
        "chronic_months": "a course of months",
        "subacute_weeks": "a course of weeks",
        "acute_days": "an onset within days",
        "sudden": "a sudden onset",
    },
    "limb_weakness": {"none": "no weakness", "partial": "partial weakness",
                      "complete": "complete paralysis"},
    "sphincter_dysfunction": {
        "absent": "intact bladder and bowel",
        "present": "bladder or bowel dysfunction",
    },
    "marrow_biopsy": {
        "unclassified_cells": "unclassified cells in the marrow biopsy",
        "hypocellular": "a hypocellular marrow biopsy",
        "normal": "a normal marrow biopsy",
        **{
            state: f"{state.replace('_', ' ')} in the marrow biopsy"
            for state in (
                "leukemia", "melanoma", "carcinoma", "lymphoma", "plasma_cells", "myelofibrosis",
                "dysplasia", "erythroid_hyperplasia",
            )
        },
    },
    **{
        name: {
            "non_diagnostic": f"a non-diagnostic {what}",
            **{
                state: f"{words} in the {what}"
                for state, words in {
                    "hematoma_or_fibrin": "blood or fibrin",
                    "pus_or_organism": "pus or organisms",
                    "granuloma": "granulomas",
                    "melanoma": "melanoma",
                    "carcinoma_or_sarcoma": "carcinoma or sarcoma",
                    "lymphoma": "lymphoma",
                    "leukemia": "leukemia",
                    "plasma_cells": "plasma cells",
                    "hematopoietic_tissue": "hematopoietic tissue",
                    "benign_other": "other benign tissue",
                }.items()
            },
        }
        for name, what in {
            "lesion_biopsy": "needle biopsy",
            "lesion_surgical_pathology": "surgical specimen",
        }.items()
    },
    "melanoma_ihc": {
        "negative": "negative melanoma stains",
        "positive": "positive melanoma stains",
    },
    "flow_cytometry": {
        "negative": "no lineage in flow cytometry",
        "cd45_negative_population": "a CD45-negative population in flow cytometry",
        **{s: f"{s.replace('_', ' ')} in flow cytometry"
           for s in ("leukemia", "lymphoma", "plasma_cells")},
    },
    "recent_trauma": {"absent": "no recent injury", "present": "a recent injury"},
    "recent_spinal_procedure": {
        "absent": "no recent procedure at the spine",
        "present": "a recent procedure at the spine",
    },
    "immunosuppression": {"absent": "no immunosuppression", "present": "immunosuppression"},
    "transfusion_dependent": {"absent": "no regular transfusion", "present": "regular transfusion"},
    "back_pain": {"absent": "no back or neck pain", "present": "back or neck pain"},
    "pigmented_skin_lesion": {
        "absent": "no suspicious pigmented skin lesion",
        "present": "a suspicious pigmented skin lesion",
    },
}

#: Labels that keep their first capital inside a sentence.
_PROPER = ("FDG", "CT", "INR", "LDH", "M ", "T1", "T2", "ISTH", "D-dimer", "C-reactive")
#: Words that a phrase must not end with when its rest is said later.
_OPEN_ENDS = frozenset({"a", "an", "the", "of", "in", "on", "at", "than"})
#: Numbers of these are shown as given, with the variable's label before them.
_NUMBERS = ("number", "bound")


def plain(name: str) -> str:
    """Return an identifier as words."""
    return name.replace("_", " ")


def cause_words(cause: str) -> str:
    """Return a cause as it stands in a sentence."""
    return CAUSES.get(cause, plain(cause))


def driver_words(driver: str) -> str:
    """Return a driver in words; empty where nothing drives the mechanism."""
    return DRIVERS.get(driver, plain(driver))


def condition_words(variable: str, state: str) -> str:
    """Return a state of a condition in words; empty where there is nothing to tell."""
    known = CONDITIONS.get(variable)
    if known is not None:
        return known.get(state, "")
    telling = state not in ("none", "normal", "absent", "low")
    return f"{plain(variable)} {plain(state)}" if telling else ""


def label_words(model: Model, variable: str) -> str:
    """Return the label of a variable as it stands inside a sentence."""
    label = model.variables[variable].label or plain(variable)
    return label if label.startswith(_PROPER) else label[0].lower() + label[1:]


def state_words(model: Model, variable: str, state: str) -> str:
    """Return one state of a finding as a noun phrase, such as ``a bright T1 signal``."""
    phrase = FINDINGS.get(variable, {}).get(state)
    if phrase is not None:
        return phrase
    label = label_words(model, variable)
    if state == "present":
        return label
    if state == "absent":
        return f"no {label}"
    return f"{plain(state)} {label}"


def finding_words(model: Model, evidence: Evidence, variable: str) -> str:
    """Return an observed finding as a noun phrase, numbers with their unit as given.

    Parameters
    ----------
    model : Model
    evidence : Evidence
    variable : str
        One of its findings.
    """
    entry = evidence.entries.get(variable)
    if entry is None:
        return plain(variable)
    if entry.kind in _NUMBERS:
        # "79 g/L = 7.9 g/dL → severe_anemia": what was given is before the first sign
        given = entry.text.split(" → ")[0].split(" = ")[0].strip()
        if variable == "age_group":
            return f"the age of {given}"
        return f"{label_words(model, variable)} {given}"
    states = model.variables[variable].states
    if entry.kind == "likelihood":
        return f"an uncertain finding on {label_words(model, variable)}"
    if len(entry.states) > 1 and len(entry.states) == len(states) - 1:
        left_out = next(s for s in states if s not in entry.states)
        if entry.kind == "not":
            return f"not {state_words(model, variable, left_out)}"
    return alternatives([state_words(model, variable, state) for state in entry.states])


def alternatives(words: Sequence[str]) -> str:
    """Join phrases with commas and a final "or"; what they all end with is said once."""
    if len(words) > 1:
        ends = [phrase.split() for phrase in words]
        same = 0
        while all(len(e) > same + 1 for e in ends) and len({e[-same - 1] for e in ends}) == 1:
            same += 1
        if same and not any(e[-same - 1] in _OPEN_ENDS for e in ends):
            tail = " ".join(ends[0][-same:])
            return f"{_joined([' '.join(e[:-same]) for e in ends], 'or')} {tail}"
    return _joined(words, "or")


def listed(words: Sequence[str]) -> str:
    """Join words with commas and a final "and"."""
    return _joined(words, "and")


def _joined(words: Sequence[str], last: str) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def mechanism_words(name: str, cause: str, driver: str) -> str:
    """Return a mechanism in words, such as ``epidural hematoma from anticoagulation``."""
    if name in MECHANISMS:
        return MECHANISMS[name]
    words, by = cause_words(cause), driver_words(driver)
    if not by or driver == cause:
        return words
    if by.startswith(("of ", "in ")):
        return f"{words} {by}"
    return f"{words} from {by}"


def sentence(words: str) -> str:
    """Return a phrase with a capital first letter."""
    return words[:1].upper() + words[1:]
