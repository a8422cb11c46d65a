"""The published patients in cases/ speak the model's language."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import epidural_dx as edx

CASES = Path(__file__).parents[1] / "cases"
FIXED = {
    "melanoma_marrow_hematoma",
    "emh_no_known_disorder",
    "multifocal_aml",
    "multifocal_mds",
    "multifocal_myeloma",
    "emh_thalassemia_major",
    "emh_tdt_paraspinal",
}
KEYS = {"id", "title", "source", "final_cause", "underlying", "note", "stages", "decisive"}
OPTIONAL_KEYS = {"also_acceptable", "considered", "initially_misdiagnosed_as", "variant_of"}
# In the order in which they may follow each other.
STAGES = [
    "presentation",
    "blood",
    "mri",
    "biopsy",
    "operation",
    "marrow",
    "re_examination",
    "immunohistochemistry",
    "follow_up",
]
UNITS = {
    "aptt": {"s"},
    "bilirubin": {"umol/L"},
    "calcium": {"mmol/L"},
    "crp": {"mg/L"},
    "d_dimer": {"mg/L FEU"},
    "esr": {"mm/h"},
    "ferritin": {"ng/mL"},
    "fibrinogen": {"g/L"},
    "hemoglobin": {"g/L"},
    "ldh": {"U/L"},
    "platelets": {"10^9/L"},
    "procalcitonin": {"ng/mL"},
    "wbc": {"10^9/L"},
}
UNITLESS = {"age_years", "inr"}
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
QUANTITY = re.compile(r"[<>]?\d+(\.\d+)? (?P<unit>\S.*)")
PATHS = sorted(CASES.glob("*.yaml"))


def load(path: Path) -> dict[str, Any]:
    """Read one case file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def findings(case: dict[str, Any]) -> list[tuple[str, Any]]:
    """List every (variable, value) of every stage."""
    return [item for stage in case["stages"] for item in stage["findings"].items()]


@pytest.fixture(scope="module")
def variables() -> Any:
    """Load the model's variables with their states."""
    return edx.load_model().variables


def test_the_fixed_cases_are_there() -> None:
    """The files that other programs rely on exist under their names."""
    assert {path.stem for path in PATHS} >= FIXED


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_case_has_its_parts(path: Path) -> None:
    """A case has exactly the known keys, a source, and stages with known names in order."""
    case = load(path)
    assert set(case) >= KEYS
    assert set(case) <= KEYS | OPTIONAL_KEYS
    assert case["id"] == path.stem
    assert case["source"]["title"]
    assert case["source"]["read"]
    names = [stage["name"] for stage in case["stages"]]
    assert names == [name for name in STAGES if name in names]
    assert case["decisive"] in (names if case["final_cause"] else [None])
    assert all(set(stage) <= {"name", "findings", "note"} for stage in case["stages"])
    assert all(isinstance(stage["findings"], dict) for stage in case["stages"])
    assert len({variable for variable, _ in findings(case)}) == len(findings(case))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_numbers_have_units(path: Path) -> None:
    """A number is written with the unit it was reported in, unless it has none."""
    for variable, value in findings(load(path)):
        if variable in UNITLESS:
            assert isinstance(value, int | float), variable
            continue
        if isinstance(value, dict):
            assert isinstance(value["value"], int | float), (variable, value)
            assert value["unit"] in UNITS[variable], (variable, value)
            continue
        for state in value if isinstance(value, list) else [value]:
            assert isinstance(state, str), (variable, state)
            if not IDENTIFIER.fullmatch(state):
                quantity = QUANTITY.fullmatch(state)
                assert quantity, (variable, state)
                assert quantity["unit"] in UNITS[variable], (variable, state)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_findings_are_variables_and_states_of_the_model(path: Path, variables: Any) -> None:
    """Every finding is a variable of the model and every named state is one of its states."""
    for variable, value in findings(load(path)):
        if variable == "age_years":
            continue
        assert variable in variables, variable
        if isinstance(value, dict):
            continue
        states = value if isinstance(value, list) else [value]
        named = [s for s in states if isinstance(s, str) and IDENTIFIER.fullmatch(s)]
        assert set(named) <= set(variables[variable].states), (variable, named)
        assert len(set(states)) == len(states), variable


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_causes_are_those_of_the_model(path: Path, variables: Any) -> None:
    """The final cause, and what else was acceptable or considered, are causes of the model."""
    case = load(path)
    causes = [case["final_cause"], *case.get("also_acceptable", []), *case.get("considered", [])]
    assert {cause for cause in causes if cause} <= set(variables["lesion_cause"].states)
    assert case["final_cause"] or case["considered"]


@pytest.mark.parametrize("record", ["mds", "anemia", "myeloma"])
def test_variants_of_the_multifocal_patient_share_the_images(record: str) -> None:
    """The variants differ from the patient with leukemia in the record and nowhere else."""

    def images(name: str) -> Any:
        case = load(CASES / f"{name}.yaml")
        return next(stage["findings"] for stage in case["stages"] if stage["name"] == "mri")

    variant = load(CASES / f"multifocal_{record}.yaml")
    assert images(f"multifocal_{record}") == images(variant["variant_of"])
    assert len(variant["stages"]) == 2
