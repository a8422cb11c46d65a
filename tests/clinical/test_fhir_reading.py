"""FHIR R4 Bundles into evidence: units, statuses, conflicts, and nothing silently dropped."""

from __future__ import annotations

import datetime
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from fhir_records import (
    ATC,
    DAY,
    ICD,
    LOINC,
    SNOMED,
    bundle,
    concept,
    condition,
    observation,
    patient,
    procedure,
    statement,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import epidural_dx as edx
from epidural_dx.clinical.fhir_reading import FhirReading, read_fhir
from epidural_dx.clinical.fhir_resources import problem_of
from epidural_dx.errors import CaseError, EpiduralDxError

MARKS = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
EXAMPLES = Path(__file__).parent / "fhir_examples"


def states(model: Any, record: dict[str, Any], variable: str) -> tuple[str, ...] | None:
    """Return the states that a record leaves possible; None if it sets nothing."""
    read = model.read_evidence(read_fhir(record, model).evidence)
    return read.entries[variable].states if variable in read.entries else None


def reasons(reading: FhirReading, reference: str) -> str:
    """Return why a resource was not used."""
    return " ".join(i.reason for i in reading.ignored if i.reference == reference)


# Units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "value", "unit", "ucum", "variable", "state"),
    [
        ("718-7", 7.9, "g/dL", "g/dL", "hemoglobin", "severe_anemia"),
        ("718-7", 79, "g/L", "g/L", "hemoglobin", "severe_anemia"),
        ("59260-0", 4.9, "mmol/L", "mmol/L", "hemoglobin", "severe_anemia"),
        ("777-3", 24, "10*9/L", "10*9/L", "platelets", "very_low"),
        ("777-3", 24, "10*3/uL", "10*3/uL", "platelets", "very_low"),
        ("777-3", 24, "K/uL", "K/uL", "platelets", "very_low"),
        ("777-3", 24, "thou/mm3", None, "platelets", "very_low"),
        ("777-3", 24000, "/uL", "/uL", "platelets", "very_low"),
        ("48065-7", 0.9, "mg/L", "mg/L", "d_dimer", "raised"),
        ("48065-7", 900, "ng/mL", "ng/mL{FEU}", "d_dimer", "raised"),
        ("48066-5", 900, "ng/mL", "ng/mL", "d_dimer", "raised"),
        ("48066-5", 300, "ng/mL DDU", "ng/mL{DDU}", "d_dimer", "raised"),
        ("48065-7", 300, "ng/mL", "ng/mL", "d_dimer", "normal"),
        ("1988-5", 1.2, "mg/dL", "mg/dL", "crp", "raised"),
        ("1988-5", 1.2, "mg/L", "mg/L", "crp", "normal"),
        ("3255-7", 90, "mg/dL", "mg/dL", "fibrinogen", "very_low"),
        ("3255-7", 0.9, "g/L", "g/L", "fibrinogen", "very_low"),
        ("6301-6", 1.9, "", "{INR}", "inr", "high"),
        ("6301-6", 1.9, "", None, "inr", "high"),
        ("2000-8", 3.1, "mmol/L", "mmol/L", "calcium", "high"),
        ("17849-1", 3.0, "%", "%", "reticulocytes", "high"),
        ("60474-4", 210, "10*9/L", "10*9/L", "reticulocytes", "high"),
        ("60474-4", 3.0, "%", "%", "reticulocytes", "high"),
        ("8310-5", 38.4, "C", "Cel", "fever", "present"),
        ("8310-5", 101.1, "F", "[degF]", "fever", "present"),
        ("8310-5", 98.6, "F", "[degF]", "fever", "absent"),
    ],
)
def test_units_are_converted(model, code, value, unit, ucum, variable, state):
    """One quantity in many units is one finding; K/uL is thousands, FEU or DDU is in the code."""
    record = bundle(observation(code, value, unit, ucum=ucum))
    assert states(model, record, variable) == (state,)


@given(grams=st.floats(3, 24), scale=st.sampled_from([("g/dL", 1), ("g/L", 10), ("mg/dL", 1000)]))
@settings(max_examples=60)
def test_hemoglobin_means_the_same_in_every_unit(model, grams, scale):
    """A number and its conversion give the same evidence, to twelve digits."""
    unit, factor = scale
    one = read_fhir(bundle(observation("718-7", grams, "g/dL", ucum="g/dL")), model)
    other = read_fhir(bundle(observation("718-7", grams * factor, unit, ucum=unit)), model)
    entries = [model.read_evidence(r.evidence).entries["hemoglobin"] for r in (one, other)]
    assert math.isclose(entries[0].value, entries[1].value, rel_tol=1e-11)
    cuts = {8, 13, 13.5, 17.5, 18}
    if all(abs(grams - cut) > 1e-9 for cut in cuts):
        assert entries[0].states == entries[1].states


@given(count=st.integers(1, 1500), time=st.sampled_from(["10*3/uL", "K/uL", "10*9/L", "G/L"]))
@settings(max_examples=40)
def test_platelets_per_microlitre_are_a_thousandfold(model, count, time):
    """Thousands per microlitre and single ones agree."""
    one = read_fhir(bundle(observation("777-3", count, time)), model)
    other = read_fhir(bundle(observation("777-3", count * 1000, "/uL")), model)
    entries = [model.read_evidence(r.evidence).entries["platelets"] for r in (one, other)]
    assert entries[0].value == entries[1].value and entries[0].states == entries[1].states


@given(value=st.floats(0.05, 49))  # twice that is still plausible
@settings(max_examples=40)
def test_a_dimer_unit_counts_double_in_feu(model, value):
    """The LOINC code says the basis of a D-dimer: x DDU are 2x FEU."""
    ddu = read_fhir(bundle(observation("48066-5", value, "mg/L", ucum="mg/L")), model)
    feu = read_fhir(bundle(observation("48065-7", 2 * value, "mg/L", ucum="mg/L")), model)
    entries = [model.read_evidence(r.evidence).entries["d_dimer"] for r in (ddu, feu)]
    assert math.isclose(entries[0].value, entries[1].value, rel_tol=1e-11)


def test_unit_text_and_code_that_disagree_are_not_guessed(model):
    """A Quantity whose UCUM code and text differ sets nothing and is a conflict."""
    reading = read_fhir(bundle(observation("718-7", 79, "g/dL", ucum="g/L")), model)
    # 79 g/dL is no hemoglobin: only the code can be read
    assert reading.evidence["hemoglobin"]["unit"] == "g/L"
    reading = read_fhir(bundle(observation("718-7", 15, "g/dL", ucum="mmol/L")), model)
    assert "hemoglobin" not in reading.evidence
    assert "disagree" in reasons(reading, "Observation/o-718-7") and reading.conflicts


def test_a_feu_code_with_a_ddu_unit_is_a_conflict(model):
    """Code and unit name another basis: neither is believed."""
    reading = read_fhir(bundle(observation("48065-7", 900, "ng/mL DDU")), model)
    assert "d_dimer" not in reading.evidence
    assert "FEU" in reasons(reading, "Observation/o-48065-7")


def test_arbitrary_units_need_the_upper_limit(model):
    """A D-dimer without a basis is read by the range sent with it, or not at all."""
    alone = read_fhir(bundle(observation("7799-0", 900, "AU")), model)
    assert "d_dimer" not in alone.evidence
    assert states(model, bundle(observation("7799-0", 900, "AU", high=200)), "d_dimer") == (
        "strongly_raised",
    )


@pytest.mark.parametrize("code", ["718-7", "777-3", "1988-5", "8310-5"])
def test_a_number_without_unit_is_not_read(model, code):
    """A bare number may mean anything."""
    reading = read_fhir(bundle(observation(code, 12)), model)
    assert reading.conflicts and "without unit" in reasons(reading, f"Observation/o-{code}")


def test_an_impossible_number_is_listed_with_its_likely_unit(model):
    """24000 x 10^9/L is not believed; the report says what it may have been."""
    reading = read_fhir(bundle(observation("777-3", 24000, "10*9/L", ucum="10*9/L")), model)
    assert "platelets" not in reading.evidence
    assert "plausible" in reasons(reading, "Observation/o-777-3")


@pytest.mark.parametrize(
    ("comparator", "value", "expected"),
    [
        (">", 20, ("strongly_raised",)),
        ("<", 0.3, ("normal",)),
        (">=", 0.6, ("raised", "strongly_raised")),
    ],
)
def test_a_comparator_is_a_bound(model, comparator, value, expected):
    """Less than and greater than leave every state possible that fits."""
    record = bundle(observation("48065-7", value, "mg/L", comparator=comparator))
    assert states(model, record, "d_dimer") == expected


def test_the_range_sent_wins_where_the_cut_is_a_reference_limit(model):
    """Ferritin 180 is raised under a limit of 150, normal under the table's 250."""
    assert states(model, bundle(observation("2276-4", 180, "ng/mL")), "ferritin") == ("normal",)
    sent = bundle(observation("2276-4", 180, "ng/mL", low=15, high=150))
    assert states(model, sent, "ferritin") == ("raised",)


def test_a_range_in_another_unit_or_several_ranges_are_not_used(model):
    """Only one clear range moves a limit."""
    other = observation("2276-4", 180, "ng/mL")
    other["referenceRange"] = [{"high": {"value": 150, "unit": "mg/L"}}]
    assert states(model, bundle(other), "ferritin") == ("normal",)
    other["referenceRange"] = [{"high": {"value": 150}}, {"high": {"value": 100}}]
    assert states(model, bundle(other), "ferritin") == ("normal",)


def test_a_prothrombin_time_counts_from_the_upper_limit(model):
    """19 s under a limit of 13 is a prolongation of 6 s; without a limit it is not read."""
    assert states(model, bundle(observation("5902-2", 19.5, "s", high=13)), "pt_prolongation") == (
        "over_6s",
    )
    reading = read_fhir(bundle(observation("5902-2", 19.5, "s")), model)
    assert "upper limit" in reasons(reading, "Observation/o-5902-2")


# Which result counts --------------------------------------------------------------------------


def test_the_newest_result_wins_and_the_others_are_named(model):
    """Times are compared across zones; the older result is listed."""
    record = bundle(
        observation("777-3", 24, "10*9/L", id="new", time="2024-03-02T01:00:00+01:00"),
        observation("26515-7", 180, "10*9/L", id="old", time="2024-03-01T22:00:00-01:00"),
    )
    reading = read_fhir(record, model)
    assert reading.evidence["platelets"]["value"] == 24
    assert "newer" in reasons(reading, "Observation/old")
    (used,) = [u for u in reading.used if u.variable == "platelets"]
    assert used.reference == "Observation/new" and "newest of 2" in used.note


@given(order=st.permutations([0, 1, 2]))
@settings(max_examples=6)
def test_the_order_of_entries_does_not_matter(model, order):
    """The same record gives the same evidence however it is sorted."""
    three = [
        observation("777-3", 100 + i, "10*9/L", id=f"r{i}", time=f"2024-03-0{i + 1}")
        for i in range(3)
    ]
    reading = read_fhir(bundle(*(three[i] for i in order)), model)
    assert reading.evidence["platelets"]["value"] == 102


def test_outdated_and_later_results_do_not_count(model):
    """A count of last year says nothing of today, nor does one that was not yet there."""
    record = bundle(
        observation("777-3", 24, "10*9/L", time="2023-06-01"),
        observation("1988-5", 90, "mg/L", time="2024-03-04"),
        observation("4551-8", 5.1, "%", high=3.5, time="2012-06-01"),
        condition("D65", date="2024-03-04"),
    )
    reading = read_fhir(record, model, reference_date=DAY)
    assert set(reading.evidence) == {"sex", "age_group", "hb_electrophoresis"}
    assert "outdated" in reasons(reading, "Observation/o-777-3")
    assert "later than" in reasons(reading, "Observation/o-1988-5")
    assert "later than" in reasons(reading, "Condition/c-D65")


def test_an_old_symptom_without_a_status_has_passed(model):
    """Encounter diagnoses carry no clinicalStatus: an old fever is not taken as present."""
    old = condition("R50.9", clinical=None, date="2019-01-01")
    reading = read_fhir(bundle(old), model, reference_date=DAY)
    assert "fever" not in reading.evidence and "clinicalStatus" in reasons(
        reading, "Condition/c-R50.9"
    )
    new = read_fhir(bundle(condition("R50.9", clinical=None)), model, reference_date=DAY)
    assert new.evidence["fever"] == "present"
    lasting = condition("C50.919", clinical=None, date="2019-01-01")
    assert read_fhir(bundle(lasting), model, reference_date=DAY).evidence["solid_tumor"] == "breast"


def test_an_unreadable_newest_result_is_not_replaced_by_an_old_one(model):
    """An outdated value must not pass for the present state."""
    record = bundle(
        observation("777-3", 180, "10*9/L", id="old", time="2024-02-01"),
        observation("777-3", 24000, "10*9/L", id="new", time="2024-03-02"),
    )
    reading = read_fhir(record, model)
    assert "platelets" not in reading.evidence
    assert any("newest result (Observation/new)" in c for c in reading.conflicts)


@pytest.mark.parametrize(
    "status", ["registered", "preliminary", "cancelled", "entered-in-error", "unknown"]
)
def test_results_that_are_not_final_do_not_count(model, status):
    """Only final, amended and corrected results are read."""
    reading = read_fhir(bundle(observation("777-3", 24, "10*9/L", status=status)), model)
    assert "platelets" not in reading.evidence
    assert status in reasons(reading, "Observation/o-777-3")


@pytest.mark.parametrize("status", ["final", "amended", "corrected"])
def test_final_results_count(model, status):
    """All three final statuses are read."""
    record = bundle(observation("777-3", 24, "10*9/L", status=status))
    assert states(model, record, "platelets") == ("very_low",)


def test_a_reason_for_no_data_is_no_result(model):
    """DataAbsentReason leaves the variable unknown."""
    absent = observation("33959-8", dataAbsentReason=concept("x", "not-performed"))
    reading = read_fhir(bundle(absent), model)
    assert "procalcitonin" not in reading.evidence
    assert "no result" in reasons(reading, "Observation/o-33959-8")


def test_components_are_read_with_the_time_of_their_panel(model):
    """A panel in one Observation is as good as single results."""
    panel = observation("58410-2", None)
    panel["component"] = [
        {"code": concept(LOINC, code), "valueQuantity": {"value": value, "unit": unit}}
        for code, value, unit in (("718-7", 7.1, "g/dL"), ("777-3", 24, "10*9/L"))
    ]
    reading = read_fhir(bundle(panel), model)
    assert {"hemoglobin", "platelets"} <= set(reading.evidence)
    assert reading.basis == ("Patient/p", "Observation/o-58410-2")


# Traps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "variable"),
    [
        (observation("71774-4", 8.0, "[IU]/mL"), "tb_igra"),
        (observation("1995-0", 1.4, "mmol/L"), "calcium"),
        (observation("18184-2", 60, "mm"), "esr"),
        (observation("1968-7", 9, "mg/dL"), "bilirubin"),
        (observation("7796-6", 1, "1"), "platelets"),
        (condition("55921005", SNOMED), "lymphoid_disorder"),
        (condition("17788007", SNOMED), "myeloid_disorder"),
        (condition("128841001", SNOMED), "myeloid_disorder"),
        (condition("D47.2"), "lymphoid_disorder"),
        (condition("Z79.02"), "antiplatelet_use"),
        (condition("F19.10"), "iv_drug_use"),
        (condition("C69.30"), "melanoma_primary_site"),
        (condition("D68.9"), "hemostasis"),
    ],
)
def test_traps_never_set_a_variable(model, resource, variable):
    """Codes that others confuse are listed with the reason and set nothing."""
    reading = read_fhir(bundle(resource), model)
    assert set(reading.evidence) == {"sex", "age_group"}
    assert variable not in reading.evidence
    assert reasons(reading, f"{resource['resourceType']}/{resource['id']}")


def test_every_trap_of_the_table_is_refused(model, priors):
    """No row marked trap becomes evidence, as Condition or as Observation."""
    from epidural_dx.clinical.terminology import load_terminology

    traps = [c for c in load_terminology(priors / "terminology.csv") if c.item_type == "trap"]
    assert traps
    for code in traps:
        for resource in (
            condition(code.code, code.system),
            observation(code.code, 5, "1", system=code.system),
        ):
            reading = read_fhir(bundle(resource), model)
            assert set(reading.evidence) == {"sex", "age_group"}, code.code
            assert any("is not" in i.reason for i in reading.ignored)


def test_every_cause_of_the_table_is_the_question_and_not_evidence(model, priors):
    """A code that only names a cause of the lesion never sets anything but where it is."""
    from epidural_dx.clinical.terminology import load_terminology

    rows = load_terminology(priors / "terminology.csv")
    told = {(c.system, c.code) for c in rows if c.item_type in ("condition", "finding", "history")}
    causes = [c for c in rows if c.item_type == "cause" and (c.system, c.code) not in told]
    assert len(causes) > 40
    for code in causes:
        reading = read_fhir(bundle(condition(code.code.removesuffix("-"), code.system)), model)
        extra = set(reading.evidence) - {"sex", "age_group", "level", "melanoma", "known_melanoma"}
        assert not any(name.startswith(("lesion", "etiology")) for name in extra), code.code


# Conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "variable", "expected"),
    [
        ("D57.1", "hemoglobinopathy", ("sickle_cell",)),
        ("D57.419", "hemoglobinopathy", ("sickle_cell",)),
        ("D57.3", "hemoglobinopathy", ("none", "tdt", "ntdt", "other_hemolytic")),
        ("D56.1", "hemoglobinopathy", ("tdt", "ntdt")),
        ("D56.1", "known_thalassemia", ("present",)),
        ("C34.10", "solid_tumor", ("lung",)),
        ("C34.10", "known_cancer", ("present",)),
        ("C83.39", "lymphoid_disorder", ("lymphoma",)),
        ("C92.00", "myeloid_disorder", ("aml",)),
        ("C92.00", "known_leukemia", ("present",)),
        ("D66", "hereditary_bleeding", ("present",)),
        ("D69.6", "platelets", ("low_100_149", "low_50_99", "very_low")),
        ("D69.3", "hemostasis", ("thrombocytopenia", "dic", "liver_failure")),
        ("E11.65", "diabetes", ("present",)),
        ("G82.21", "limb_weakness", ("complete",)),
        ("A41.9", "systemic_infection", ("bacteremia",)),
    ],
)
def test_diagnoses_set_their_variable_by_the_longest_match(model, code, variable, expected):
    """ICD-10-CM categories match by prefix, and a longer code beats its category."""
    assert states(model, bundle(condition(code)), variable) == expected


@pytest.mark.parametrize("verification", ["unconfirmed", "provisional", "differential"])
def test_what_is_not_confirmed_is_no_evidence(model, verification):
    """A suspicion leaves the variable unknown."""
    reading = read_fhir(bundle(condition("C34.10", verification=verification)), model)
    assert "solid_tumor" not in reading.evidence
    assert verification in reasons(reading, "Condition/c-C34.10")


def test_an_error_says_nothing_and_a_refutation_says_no(model):
    """Entered in error is unknown; refuted means that this state is excluded."""
    wrong = read_fhir(bundle(condition("C34.10", verification="entered-in-error")), model)
    assert "solid_tumor" not in wrong.evidence
    refuted = bundle(condition("C34.10", verification="refuted"))
    left = states(model, refuted, "solid_tumor")
    assert left is not None and "lung" not in left and "none" in left
    assert "known_cancer" not in read_fhir(refuted, model).evidence


@pytest.mark.parametrize("code", ["E11.9", "D57.3", "D56.3", "D69.3", "D68.32", "C83.39", "M46.24"])
def test_refuting_a_narrow_code_says_nothing(model, code):
    """No type 2 is not no diabetes, no trait is not the disease, no ITP is not no DIC."""
    reading = read_fhir(bundle(condition(code, verification="refuted")), model)
    assert set(reading.evidence) == {"sex", "age_group"}
    assert "says nothing" in reasons(reading, f"Condition/c-{code}")


def test_no_refutation_ever_names_a_disease(model, priors):
    """Whatever is refuted, the state of health stays possible."""
    from epidural_dx.clinical.terminology import load_terminology

    for row in load_terminology(priors / "terminology.csv"):
        if row.item_type in ("condition", "finding", "history"):
            code = row.code.removesuffix("-").removesuffix(".")
            record = bundle(condition(code, row.system, verification="refuted"))
            read = model.read_evidence(read_fhir(record, model).evidence)
            for name, entry in read.entries.items():
                if name not in ("sex", "age_group"):
                    healthy = {"none", "absent", "normal"} & set(model.variables[name].states)
                    assert healthy & set(entry.states), (row.code, name, entry.states)


def test_a_resolved_symptom_is_past_and_a_resolved_cancer_is_history(model):
    """What lasts is kept, what passes is not."""
    fever = read_fhir(bundle(condition("R50.9", clinical="resolved")), model)
    assert "fever" not in fever.evidence
    cancer = read_fhir(bundle(condition("C50.919", clinical="remission")), model)
    assert cancer.evidence["known_cancer"] == "present" and "solid_tumor" not in cancer.evidence
    melanoma = read_fhir(bundle(condition("C43.59", clinical="inactive")), model)
    assert melanoma.evidence["melanoma"] == "present"


def test_an_absent_code_is_unknown(model):
    """An empty record sets nothing at all."""
    reading = read_fhir(bundle(with_patient=False), model)
    assert not reading.evidence and not reading.ignored


def test_a_finding_with_the_value_no_is_absent(model):
    """An Observation says present or absent by its value."""
    yes = observation("386661006", system=SNOMED, valueBoolean=True)
    no = observation("16294009", system=SNOMED, valueCodeableConcept=concept(LOINC, "LA9634-2"))
    words = observation("30746006", system=SNOMED, valueString="not detected")
    unclear = observation("80515008", system=SNOMED, valueString="borderline")
    reading = read_fhir(bundle(yes, no, words, unclear), model)
    assert reading.evidence["fever"] == "present"
    assert reading.evidence["splenomegaly"] == "absent"
    assert reading.evidence["lymphadenopathy"] == "absent"
    assert "hepatomegaly" not in reading.evidence


def test_eye_tumours_are_melanoma_only_beside_a_melanoma(model):
    """ICD-10-CM has no histology at C69.3."""
    both = bundle(condition("C69.30"), condition("C43.9"))
    assert states(model, both, "melanoma_primary_site") == ("ocular",)


def test_contradicting_diagnoses_are_reported_and_the_newest_counts(model):
    """Two exclusive states of one variable are a conflict."""
    record = bundle(condition("C50.919", date="2024-02-01"), condition("C34.10", date="2024-03-01"))
    reading = read_fhir(record, model)
    assert reading.evidence["solid_tumor"] == "lung"
    assert any("contradict" in c for c in reading.conflicts)
    assert reasons(reading, "Condition/c-C50.919")


def test_codes_that_agree_narrow_each_other(model):
    """Beta thalassemia and thalassemia major together are the transfusion-dependent form."""
    record = bundle(condition("D56.1"), condition("75451007", SNOMED))
    assert read_fhir(record, model).evidence["hemoglobinopathy"] == "tdt"


def test_a_measured_count_beats_a_coded_one(model):
    """A number says more than a diagnosis of thrombocytopenia, and a contradiction is reported."""
    low = read_fhir(bundle(condition("D69.6"), observation("777-3", 24, "10*9/L")), model)
    assert low.evidence["platelets"]["value"] == 24 and not low.conflicts
    normal = read_fhir(bundle(condition("D69.6"), observation("777-3", 240, "10*9/L")), model)
    assert normal.evidence["platelets"]["value"] == 240 and normal.conflicts


def test_a_named_fever_outlasts_one_normal_temperature(model):
    """Fever comes and goes: the symptom counts, the contradiction is reported."""
    record = bundle(condition("R50.9"), observation("8310-5", 36.8, "Cel", ucum="Cel"))
    reading = read_fhir(record, model)
    assert reading.evidence["fever"] == "present" and reading.conflicts


@pytest.mark.parametrize("code", ["G95.20", "G83.4", "G06.1", "C79.49"])
def test_the_record_of_a_lesion_is_recognised(model, code):
    """Compression, or a lesion in the epidural space, opens the model; a suspicion does too."""
    assert read_fhir(bundle(condition(code)), model).has_lesion
    assert read_fhir(bundle(condition(code, verification="provisional")), model).has_lesion
    assert not read_fhir(bundle(condition(code, verification="refuted")), model).has_lesion
    assert not read_fhir(bundle(condition(code, clinical="resolved")), model).has_lesion


def test_the_level_comes_from_the_site_of_the_lesion_only(model):
    """The body site of the compression is its level; an old disc elsewhere is not."""
    site = concept(SNOMED, "54785003")
    assert states(model, bundle(condition("G95.20", bodySite=[site])), "level") == ("cervical",)
    assert states(model, bundle(condition("427787004", SNOMED)), "level") == ("cervical",)
    assert states(model, bundle(condition("M50.20")), "level") is None


# Results that are words -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "variable", "expected"),
    [
        (observation("600-7", valueString="No growth"), "blood_culture", ("negative",)),
        (
            observation("600-7", interpretation=[concept(MARKS, "POS")]),
            "blood_culture",
            ("positive",),
        ),
        (
            observation("71773-6", valueCodeableConcept=concept(SNOMED, "10828004")),
            "tb_igra",
            ("positive",),
        ),
        (observation("800-3", valueString="Present"), "smear", ("schistocytes",)),
        (
            observation("800-3", valueString="Absent"),
            "smear",
            ("normal", "leukoerythroblastic", "blasts", "target_cells"),
        ),
        (observation("26446-5", 12, "%"), "smear", ("blasts",)),
        (observation("33358-3", 2.1, "g/dL"), "m_protein", ("present",)),
        (observation("33358-3", 0, "g/dL"), "m_protein", ("absent",)),
        (observation("4551-8", 5.1, "%", high=3.5), "hb_electrophoresis", ("abnormal",)),
        (
            observation("82810-3", valueCodeableConcept=concept(LOINC, "LA26683-5")),
            "pregnancy",
            ("absent",),
        ),
    ],
)
def test_words_and_marks_are_read(model, resource, variable, expected):
    """Present and absent in words, answer codes and interpretations."""
    assert states(model, bundle(resource), variable) == expected


def test_a_normal_fraction_says_nothing_about_the_electrophoresis(model):
    """One normal part does not make the whole normal."""
    reading = read_fhir(bundle(observation("4551-8", 2.5, "%", high=3.5)), model)
    assert "hb_electrophoresis" not in reading.evidence and reasons(reading, "Observation/o-4551-8")


# Medication and procedures --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "variable"),
    [
        (statement("1364430"), "anticoagulant_use"),
        (statement("B01AA04", ATC), "anticoagulant_use"),
        (statement("B01AC06", ATC), "antiplatelet_use"),
        (statement("N02BA01", ATC), "antiplatelet_use"),
        (statement("8640", effectivePeriod={"start": "2023-01-01"}), "steroid_use"),
    ],
)
def test_drugs_are_read_by_ingredient_and_class(model, resource, variable):
    """RxNorm ingredients and classes of the ATC."""
    assert states(model, bundle(resource, observation("2951-2", 1, "x")), variable) == ("present",)


@pytest.mark.parametrize(
    ("resource", "why"),
    [
        (statement("1364430", status="completed"), "completed"),
        (statement("1364430", status="not-taken"), "not-taken"),
        (statement("B01AB02", ATC), "antithrombin"),
        (statement("617993"), "ingredient"),
        (
            statement("3264", effectivePeriod={"start": DAY}, dateAsserted=DAY),
            "treatment of the lesion",
        ),
        (statement("1364430", effectivePeriod={"end": "2023-01-01"}, dateAsserted=DAY), "ended"),
    ],
)
def test_drugs_that_are_no_exposure_are_listed(model, resource, why):
    """Stopped, never taken, not in the sense of the class, or given for the lesion."""
    reading = read_fhir(bundle(resource), model)
    assert set(reading.evidence) <= {"sex", "age_group"}
    assert why in reasons(reading, f"MedicationStatement/{resource['id']}")


def test_a_medication_is_found_where_the_reference_points(model):
    """Contained, or elsewhere in the Bundle."""
    drug = {"resourceType": "Medication", "id": "d", "code": concept(ATC, "B01AA03")}
    order = {
        "resourceType": "MedicationRequest",
        "id": "r",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p"},
        "medicationReference": {"reference": "Medication/d"},
    }
    assert states(model, bundle(order, drug), "anticoagulant_use") == ("present",)
    inside = {**order, "contained": [drug], "medicationReference": {"reference": "#d"}}
    assert states(model, bundle(inside), "anticoagulant_use") == ("present",)
    assert states(model, bundle(order), "anticoagulant_use") is None


@pytest.mark.parametrize(
    ("date", "is_recent"),
    [("2024-02-20", True), ("2023-11-20", False), (None, False), ("2024-03-05", False)],
)
def test_a_spinal_procedure_is_recent_within_its_window(model, date, is_recent):
    """Four weeks before the reference date, by the definition of the variable."""
    record = bundle(procedure("18946005", date))
    reading = read_fhir(record, model, reference_date=DAY)
    assert ("recent_spinal_procedure" in reading.evidence) == is_recent
    assert is_recent or reasons(reading, "Procedure/x-18946005")


def test_a_procedure_that_was_not_done_is_no_history(model):
    """Only completed and running procedures count."""
    reading = read_fhir(bundle(procedure("234319005", DAY, status="not-done")), model)
    assert "splenectomy" not in reading.evidence
    done = read_fhir(bundle(procedure("234319005", "1999-01-01")), model)
    assert done.evidence["splenectomy"] == "present"


# The patient ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("born", "day", "state"),
    [
        ("2006-03-03", "2024-03-02", ("age_0_17",)),
        ("2006-03-02", "2024-03-02", ("age_18_39",)),
        ("2004-02-29", "2022-02-28", ("age_0_17",)),
        ("2004-02-29", "2022-03-01", ("age_18_39",)),
        ("1964", "2024-03-02", ("age_40_59", "age_60_plus")),
        ("1950-07", "2024-03-02", ("age_60_plus",)),
    ],
)
def test_the_age_is_that_of_the_reference_date(model, born, day, state):
    """Birthdays, leap days and dates without day or month."""
    record = bundle(patient(birthDate=born), with_patient=False)
    reading = read_fhir(record, model, reference_date=day)
    assert model.read_evidence(reading.evidence).entries["age_group"].states == state


def test_the_clock_is_never_asked(model):
    """Without any date the age is unknown; the newest date of the record counts if there is one."""
    alone = read_fhir(bundle(), model)
    assert "age_group" not in alone.evidence and "birthDate" in {i.code for i in alone.ignored}
    dated = read_fhir(bundle(observation("2951-2", 140, "mmol/L", time="2010-06-01")), model)
    assert dated.reference_date == datetime.date(2010, 6, 1)
    assert dated.evidence["age_group"]["value"] == pytest.approx(42.05, abs=0.01)


def test_sex_other_than_female_and_male_is_left_unknown(model):
    """The model has two states; anything else is listed."""
    reading = read_fhir(bundle(patient(gender="other"), with_patient=False), model)
    assert "sex" not in reading.evidence and reasons(reading, "Patient/p")


def test_another_patient_is_refused_or_left_out(model):
    """One Bundle, one patient."""
    other = {**observation("777-3", 24, "10*9/L"), "subject": {"reference": "Patient/q"}}
    reading = read_fhir(bundle(other), model)
    assert "platelets" not in reading.evidence
    assert "another patient" in reasons(reading, "Observation/o-777-3")
    with pytest.raises(CaseError, match="several patients"):
        read_fhir(bundle(patient(id="q")), model)
    with pytest.raises(CaseError, match="several patients"):
        read_fhir(bundle(other, condition("D65"), with_patient=False), model)


def test_absolute_and_urn_references_name_the_same_patient(model):
    """FullUrl, absolute and relative references are one patient."""
    record = bundle(observation("777-3", 24, "10*9/L"), condition("D65"))
    record["entry"][0]["fullUrl"] = "urn:uuid:1b0b7e5e-5a0f-4d0c-8a8b-0d8c9a2c8b11"
    record["entry"][1]["resource"]["subject"] = {"reference": record["entry"][0]["fullUrl"]}
    record["entry"][2]["resource"]["subject"] = {
        "reference": "https://ehr.example.org/r4/Patient/p"
    }
    assert {"platelets", "hemostasis"} <= set(read_fhir(record, model).evidence)


# The report -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(p.stem for p in EXAMPLES.glob("*.json")))
def test_every_resource_of_an_example_is_used_or_ignored(model, name):
    """Nothing is silently dropped: each entry is in one of the two lists."""
    record = json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    reading = read_fhir(record, model)
    told = {u.reference for u in reading.used} | {i.reference for i in reading.ignored}
    entries = {
        f"{e['resource']['resourceType']}/{e['resource']['id']}"
        for e in record["entry"]
        if e["resource"]["resourceType"] != "Medication"
    }
    assert entries <= told
    answer = model.diagnose(reading.evidence)
    assert answer.causes.sum() == pytest.approx(1)
    assert json.loads(json.dumps(reading.as_dict()))["evidence"]


def test_the_package_offers_the_reader():
    """``edx.read_fhir`` is the function of this module, imported only when it is asked for."""
    assert edx.read_fhir is read_fhir and "read_fhir" in edx.__all__


def test_unknown_codes_and_types_are_listed(model):
    """A code outside of the table and a type that is not read are named with their reason."""
    allergy = {
        "resourceType": "AllergyIntolerance",
        "id": "a",
        "patient": {"reference": "Patient/p"},
    }
    reading = read_fhir(
        bundle(observation("2951-2", 140, "mmol/L"), allergy, condition("M48.02")), model
    )
    assert "not in the table" in reasons(reading, "Observation/o-2951-2")
    assert "not in the table" in reasons(reading, "Condition/c-M48.02")
    assert "not read" in reasons(reading, "AllergyIntolerance/a")


def test_pages_and_bundles_in_bundles_are_read_once(model):
    """Pages inside a Bundle count, a resource sent twice counts once, a next page is noted."""
    page = bundle(observation("777-3", 24, "10*9/L"), with_patient=False)
    page["link"] = [{"relation": "next", "url": "https://ehr.example.org/next"}]
    outer = bundle(page, observation("777-3", 24, "10*9/L"))
    reading = read_fhir(outer, model)
    assert reading.evidence["platelets"]["value"] == 24
    assert "twice" in reasons(reading, "Observation/o-777-3")
    assert any("further pages" in note for note in reading.notes)


def test_without_snomed_rows_everything_else_works(model, priors, tmp_path):
    """The SNOMED CT rows of the table can be left out where there is no licence."""
    from epidural_dx.clinical.fhir_codes import load_fhir_codes

    lines = (priors / "terminology.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if "http://snomed.info/sct" not in line]
    assert len(lines) - len(kept) > 150
    (tmp_path / "terminology.csv").write_text("".join(kept), encoding="utf-8")
    (tmp_path / "fhir.yaml").write_bytes((priors / "fhir.yaml").read_bytes())
    codes = load_fhir_codes(tmp_path)
    record = json.loads((EXAMPLES / "hematoma_dic.json").read_text(encoding="utf-8"))
    reading = read_fhir(record, model, codes=codes)
    assert "platelets" in reading.evidence and "level" not in reading.evidence


# Hostile and broken input ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "Bundle",
        3,
        {},
        {"resourceType": "Patient"},
        {"resourceType": 3},
        {"resourceType": "Bundle", "entry": {}},
    ],
)
def test_what_is_no_bundle_gets_one_sentence(model, document):
    """The error says what it is and what is wanted."""
    with pytest.raises(CaseError) as caught:
        read_fhir(document, model)
    assert str(caught.value).count("\n") == 0


def test_a_broken_resource_is_listed_and_the_rest_is_read(model):
    """Wrong types, missing and unknown elements make one resource unusable, not the record."""
    broken = [
        {**observation("777-3", 24, "10*9/L"), "status": 7},
        {**observation("718-7", "7.9", "g/dL"), "id": "text"},
        {k: v for k, v in observation("1988-5", 5, "mg/L").items() if k != "status"},
        {**condition("D65"), "code": "D65"},
        {**condition("C34.10"), "colour": "red"},
    ]
    reading = read_fhir(bundle(*broken, observation("3255-7", 90, "mg/dL")), model)
    assert set(reading.evidence) == {"sex", "age_group", "fibrinogen"}
    assert sum("is not FHIR R4" in i.reason for i in reading.ignored) == len(broken)


@pytest.mark.parametrize(
    ("resource", "what"),
    [
        (observation("777-3", 24, "10*9/L", status=7), "status has the wrong type"),
        (observation("718-7", "7.9", "g/dL"), "valueQuantity.value has the wrong type"),
        ({"resourceType": "Observation", "code": {}}, "status is missing"),
        ({**condition("C34.10"), "colour": "red", "zeal": 1}, "colour is no element of it"),
        (observation("1", 2, "x", time="yesterday"), "effectiveDateTime has the wrong format"),
        ({"resourceType": "Foo"}, "'Foo' is no resource of FHIR R4"),
    ],
)
def test_what_is_wrong_with_a_resource_is_told_in_words(resource, what):
    """The element and the problem, the same in every run."""
    assert problem_of(resource) == what


def test_without_the_extra_there_is_one_sentence(model, monkeypatch):
    """FHIR without fhirclient says what to install."""
    monkeypatch.setitem(sys.modules, "fhirclient.models.fhirelementfactory", None)
    with pytest.raises(EpiduralDxError, match="epidural-dx\\[fhir\\]"):
        read_fhir(bundle(), model)


def test_plans_and_errors_do_not_date_a_record(model):
    """A planned procedure or a preliminary result in the future is not the reference date."""
    planned = procedure("234319005", "2031-01-01", status="preparation")
    later = observation("777-3", 24, "10*9/L", time="2030-01-01", status="preliminary")
    crp = observation("1988-5", 90, "mg/L")
    assert str(read_fhir(bundle(planned, later, crp), model).reference_date) == DAY


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["coding", "code", "system", "value", "unit", "reference", "low", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
VALID = (
    observation("718-7", 7.9, "g/dL", ucum="g/dL", low=13, high=17),
    observation("48065-7", 20, "mg/L", comparator=">"),
    condition("C34.10"),
    statement("1364430", effectivePeriod={"start": "2020-01-01"}),
    procedure("234319005", DAY),
    patient(),
)


@given(data=st.data())
@settings(max_examples=150)
def test_malformed_records_give_a_reading_or_one_clear_error(model, data):
    """Any JSON in any element: never another exception, and evidence that the model can read."""
    resource = dict(data.draw(st.sampled_from(VALID)))
    for _ in range(data.draw(st.integers(1, 2))):
        key = data.draw(st.sampled_from(sorted(resource)))
        resource[key] = data.draw(JSON)
        inner = resource.get("valueQuantity")
        if isinstance(inner, dict) and data.draw(st.booleans()):
            part = data.draw(st.sampled_from(["value", "unit", "code", "comparator"]))
            resource["valueQuantity"] = {**inner, part: data.draw(JSON)}
    record = bundle(resource, with_patient=resource.get("resourceType") != "Patient")
    try:
        reading = read_fhir(record, model)
    except EpiduralDxError as error:
        assert str(error).count("\n") == 0
        return
    model.read_evidence(reading.evidence)
    json.dumps(reading.as_dict())


FRAME = st.recursive(
    JSON,
    lambda inner: st.dictionaries(
        st.sampled_from(["resourceType", "entry", "resource", "link"]), inner, max_size=3
    ),
    max_leaves=6,
)


@given(document=FRAME)
@settings(max_examples=60)
def test_any_json_as_a_bundle_gives_a_clear_error_or_nothing(model, document):
    """The frame of the Bundle may be anything."""
    record = document if isinstance(document, dict) else {"entry": document}
    try:
        reading = read_fhir({**record, "resourceType": "Bundle"}, model)
    except EpiduralDxError:
        return
    assert not reading.used


def test_a_deep_nest_is_refused(model):
    """Nesting without end is one unusable resource."""
    deep: Any = "x"
    for _ in range(5000):
        deep = {"extension": [deep]}
    resource = {**observation("777-3", 24, "10*9/L"), "extension": [deep]}
    reading = read_fhir(bundle(resource), model)
    assert "platelets" not in reading.evidence and reasons(reading, "Observation/o-777-3")


def test_icd_codes_need_their_own_system(model):
    """The same letters in another system are another code."""
    assert read_fhir(bundle(condition("D65", "http://hl7.org/fhir/sid/icd-9-cm")), model).ignored
    assert states(model, bundle(condition("D65", ICD)), "hemostasis") == ("dic",)
