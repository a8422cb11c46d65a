"""Melanoma in the marrow, patient by patient, against its printed and recounted tallies."""

from pathlib import Path

import pandas as pd
import pytest

PATIENTS = Path(__file__).parents[1] / "priors" / "patients"
REVIEW = "doi:10.3389/fmed.2025.1601774"
DAYS = {"days": 1.0, "weeks": 7.0, "months": 30.4375}
FLAGS = [
    "dic",
    "anemia",
    "leukocytosis",
    "thrombocytopenia",
    "pancytopenia",
    "unspecified_cytopenia",
    "coagulopathy",
    "carcinocythemia",
    "microangiopathic_hemolytic_anemia",
    "leukoerythroblastic",
    "hypercalcemia",
    "back_pain",
    "other_bone_or_limb_pain",
    "fever",
    "fatigue",
    "weight_loss",
    "dyspnea",
    "mucosal_bleeding",
    "petechiae",
    "bleeding",
    "splenomegaly",
    "hepatomegaly",
    "primary_site_certain",
    "died",
]
STATES = {
    "sex": {"female", "male"},
    "primary_site": {
        "skin",
        "ocular",
        "nasal",
        "occult",
        "retroperitoneal",
        "anorectal_genital",
        "not_reported",
    },
    "treatment_class": {
        "chemotherapy",
        "ipilimumab",
        "nivolumab",
        "nivolumab_ipilimumab",
        "pembrolizumab",
        "supportive",
        "not_available",
    },
    "outcome_class": {"death", "response", "complete_response", "unknown"},
    "survival_unit": {"", "days", "weeks", "months"},
}
# Where the printed tallies and the printed table disagree: table minus text.
KNOWN_DIFFERENCES = {"pancytopenia": -1, "leukoerythroblastic": 1}


def read(name: str) -> pd.DataFrame:
    """Read one of the two tables as text, so that a blank stays a blank."""
    return pd.read_csv(PATIENTS / name, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def patients() -> pd.DataFrame:
    """Read the 36 patients."""
    return read("melanoma_marrow_infiltration.csv")


@pytest.fixture(scope="module")
def tallies() -> pd.DataFrame:
    """Read the printed and the recounted tallies."""
    return read("melanoma_marrow_infiltration_tallies.csv")


def age_group(age: int) -> str:
    """Give the model's age group of an age in years."""
    if age < 18:
        return "age_0_17"
    if age < 40:
        return "age_18_39"
    return "age_40_59" if age < 60 else "age_60_plus"


def test_patients_are_numbered_and_coded_with_known_states(patients: pd.DataFrame) -> None:
    """Every cell of the patient table holds one of the codes that its column allows."""
    assert patients["patient"].tolist() == [str(number) for number in range(1, 37)]
    assert set(patients["source_id"]) == {REVIEW}
    assert patients["age"].astype(int).between(0, 110).all()
    assert patients["year"].astype(int).between(1950, 2025).all()
    assert patients["year"].astype(int).is_monotonic_increasing
    for column, states in STATES.items():
        assert set(patients[column]) <= states, column
    for column in FLAGS:
        assert set(patients[column]) <= {"", "0", "1"}, column


def test_derived_columns_follow_from_the_coded_ones(patients: pd.DataFrame) -> None:
    """Bleeding, death, doubt about the site and survival in days agree with what they rest on."""
    bleeding = patients["mucosal_bleeding"].eq("1") | patients["petechiae"].eq("1")
    assert patients["bleeding"].eq("1").equals(bleeding)
    died = {"death": "1", "response": "0", "complete_response": "0", "unknown": ""}
    assert patients["died"].equals(patients["outcome_class"].map(died))
    unsited = patients["primary_site"].isin(["occult", "not_reported"])
    assert patients["primary_site_certain"].eq("").equals(unsited)
    assert (patients.loc[patients["survival_unit"] != "", "died"] == "1").all()
    for row in patients.itertuples():
        if row.survival_value == "":
            assert row.survival_days == "", row.patient
        else:
            days = float(row.survival_value) * DAYS[row.survival_unit]
            assert float(row.survival_days) == pytest.approx(days, abs=0.06), row.patient


def test_a_pancytopenia_is_not_counted_again_as_its_parts(patients: pd.DataFrame) -> None:
    """Printed findings are exclusive where the review lists only one of them."""
    pancytopenia = patients["pancytopenia"].eq("1")
    parts = ["anemia", "thrombocytopenia", "leukocytosis", "unspecified_cytopenia"]
    assert not patients.loc[pancytopenia, parts].eq("1").any(axis=None)


def test_recounted_tallies_are_those_of_the_patient_table(
    patients: pd.DataFrame, tallies: pd.DataFrame
) -> None:
    """Counting the patient table again gives every recomputed figure of the tallies file."""
    coded = patients.assign(age=patients["age"].astype(int).map(age_group))
    assert tallies["quantity"].is_unique
    assert set(tallies["source_id"]) == {REVIEW}
    for row in tallies.itertuples():
        assert int(row.recomputed_n) == len(coded), row.quantity
        assert int(row.recomputed_k) == int(coded[row.column].eq(row.value).sum()), row.quantity


def test_only_the_recorded_differences_from_print_exist(tallies: pd.DataFrame) -> None:
    """Table and printed text disagree in exactly the known places, each with an explanation."""
    printed = tallies[tallies["printed_k"] != ""]
    assert len(printed) == 23
    assert set(printed["printed_n"]) == {"36"}
    unprinted = tallies.loc[tallies["printed_k"] == "", ["printed_n", "difference"]]
    assert (unprinted == "").all(axis=None)
    difference = printed["recomputed_k"].astype(int) - printed["printed_k"].astype(int)
    assert printed["difference"].astype(int).equals(difference)
    differing = printed[difference != 0]
    assert dict(zip(differing["quantity"], difference[difference != 0], strict=True)) == (
        KNOWN_DIFFERENCES
    )
    assert (differing["explanation"] != "").all()


@pytest.mark.parametrize(
    ("prefix", "members"),
    [("", ["male", "female"]), ("primary_site_", sorted(STATES["primary_site"]))],
)
def test_printed_shares_add_up_to_all_patients(
    tallies: pd.DataFrame, prefix: str, members: list[str]
) -> None:
    """The printed counts of the sexes and of the primary sites add up to the 36 patients."""
    printed = tallies.set_index("quantity")["printed_k"]
    assert sum(int(printed[prefix + member]) for member in members) == 36
