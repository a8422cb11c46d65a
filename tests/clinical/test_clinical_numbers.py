"""Numbers, units and limits: from what a laboratory prints to a state."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epidural_dx.clinical import complete_variables, load_thresholds, load_units
from epidural_dx.clinical.amounts import parse_amount
from epidural_dx.clinical.scores import isth_range
from epidural_dx.clinical.thresholds import Patient, cuts_of
from epidural_dx.errors import EvidenceError, ModelError
from epidural_dx.network.variable import Interval


def refused(read, raw):
    """Return the error of evidence that must be refused."""
    with pytest.raises(EvidenceError) as caught:
        read(raw)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "24 10^9/L",
        "24 10*9/L",
        "24 x10^9/L",
        "24 ×10⁹/L",
        "24x10E9/l",
        "24 E+9/L",
        "24 10**9/L",
        "24 109/L",
        "24 G/L",
        "24 K/uL",
        "24 k/µL",
        "24 10*3/uL",
        "24 10^3/mm³",
        "24 thou/mm3",
        "24 thousand per uL",
        "24000 /uL",
        "24,000/mm3",
        "24 000 cells/µL",
        "24000 cells/cu mm",
        "2.4 x10^4/μL",
        "0.24 lakh/cumm",
        "2.4e10 /L",
        "24",
        24,
        24.0,
        {"value": 24, "unit": "10^9/L"},
        {"value": "24", "unit": "K/uL"},
        {"value": "24 K/uL"},
        {"value": 24},
        {"value": 24, "unit": None},
    ],
)
def test_every_spelling_of_a_platelet_count_is_one_number(read, text):
    """What laboratories of many countries print for 24 ×10⁹/L is 24 ×10⁹/L."""
    entry = read({"platelets": text}).entries["platelets"]
    assert entry.states == ("very_low",)
    assert entry.value == 24 and entry.unit == "10^9/L" and entry.kind == "number"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("hemoglobin", "79 g/L", 7.9),
        ("hemoglobin", "7,9 g/dl", 7.9),
        ("hemoglobin", "4.9 mmol/L", 7.89537),
        ("hemoglobin", "7.9 g%", 7.9),
        ("hemoglobin", "79 kg/m^3", 7.9),
        ("crp", "8.5 mg/dL", 85),
        ("crp", "100 nmol/L", 10.5),
        ("fibrinogen", "150 mg/dL", 1.5),
        ("d_dimer", "500 ng/mL FEU", 0.5),
        ("d_dimer", "500 ng/mL{FEU}", 0.5),
        ("d_dimer", "0.5 ug{FEU}/mL", 0.5),
        ("d_dimer", "0.5 mg/L fibrinogen equivalent units", 0.5),
        ("d_dimer", "250 ng/mL DDU", 0.5),
        ("d_dimer", "0.5 mg/L (FEU)", 0.5),
        ("calcium", "2.4 mmol/L", 9.6192),
        ("bilirubin", "17.1 umol/L", 1.0),
        ("uric_acid", "59.48 µmol/L", 1.0),
        ("ferritin", "8500 ng/mL", 8500),
        ("procalcitonin", "0.5 ng/mL", 0.5),
        ("ldh", "25 ukat/L", 1500),
        ("inr", "1.3", 1.3),
        ("inr", {"value": 4.13, "unit": "ratio"}, 4.13),
        ("esr", "40 mm/hr", 40),
        ("reticulocytes", "1.2 %", 1.2),
        ("fever", "100.4 °F", 38.0),
        ("age_years", "18 months", 1.5),
        ("age_months", 18, 1.5),
        ("age", "14 y", 14),
    ],
)
def test_units_are_converted(read, name, text, value):
    """Each unit reaches the canonical one by the factor of the table."""
    (entry,) = read({name: text}).entries.values()
    assert entry.value == pytest.approx(value, rel=1e-4)


def test_a_lost_superscript_is_not_a_thousand(read):
    """350 109/L is 350 x 10^9/L copied without its superscript, never 350,109 per litre."""
    assert read({"platelets": "350 109/L"}).entries["platelets"].value == 350
    refused(read, {"platelets": "350,109/L"})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("platelets", "24.000 /uL", 24),
        ("platelets", {"value": "150.000", "unit": "/uL"}, 150),
        ("platelets", "1.250.000 /uL", 1250),
        ("ldh", "1.532 U/L", 1532),
        ("hemoglobin", "7.900 g/dL", 7.9),
        ("wbc", "12.500 10^9/L", 12.5),
        ("inr", "1.300", 1.3),
    ],
)
def test_a_dot_before_three_digits_is_what_makes_the_number_plausible(read, name, text, value):
    """Germans and Spaniards write 12.500 for twelve thousand five hundred."""
    assert read({name: text}).entries[name].value == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["12.500 /uL", ">12.500 /uL", {"value": "12.500", "unit": "/uL", "comparator": ">"}]
)
def test_a_dot_that_could_be_either_is_asked_about(read, text):
    """12.5 and 12,500 leukocytes per µL are both possible and mean opposite things."""
    error = refused(read, {"wbc": text})
    assert "decimal point or separate thousands" in error.problem
    assert any(allowed.endswith("12500 /uL") for allowed in error.allowed)


def test_a_lower_limit_above_the_upper_limit_is_refused(read):
    """Exchanged limits would turn a normal number into an abnormal one."""
    limits = {"value": 13, "unit": "g/dL", "lower_limit": 16, "upper_limit": 12}
    assert "16 is not below the upper limit 12" in refused(read, {"hemoglobin": limits}).problem


def test_a_bare_bilirubin_says_in_which_unit_it_was_read(read):
    """17 mg/dL is liver failure, 17 µmol/L is normal; people write just 17."""
    assert any("no unit given" in note for note in read({"bilirubin": 17}).notes)
    assert not any("no unit given" in note for note in read({"bilirubin": "17 umol/L"}).notes)
    assert not any("no unit given" in note for note in read({"crp": 40}).notes)


def test_a_unit_of_another_quantity_names_those_that_fit(read):
    """A wrong dimension is an error that lists units of the variable."""
    for name, text in [
        ("platelets", "24 mg/dL"),
        ("platelets", "24 g/L"),
        ("platelets", "24 kelvin/uL"),
        ("hemoglobin", "79 mL"),
        ("hemoglobin", "7.9 blobs"),
        ("crp", "10 U/L"),
        ("age_years", "30 kg"),
        ("crp", "10**10**10 g/L"),
    ]:
        error = refused(read, {name: text})
        assert "is not a unit of" in str(error) and error.allowed
    assert refused(read, {"platelets": "24 g/L"}).nearest == ("G/L",)


def test_units_that_look_right_and_are_not_say_why(read):
    """Ionized calcium and two-hour sedimentation are other quantities."""
    assert "ionized" in str(refused(read, {"calcium": "1.3 mmol/L ionized"}))
    assert "two hours" in str(refused(read, {"esr": "40 mm/2h"}))


def test_a_dimer_without_feu_or_ddu_is_asked_about_only_if_it_matters(read):
    """20 mg/L is strongly raised either way; 0.4 mg/L is not decided."""
    evidence = read({"d_dimer": "20 mg/L"})
    assert evidence.entries["d_dimer"].states == ("strongly_raised",)
    assert any("same state" in note for note in evidence.notes)
    error = refused(read, {"d_dimer": "0.4 mg/L"})
    assert error.allowed == ("mg/L FEU", "mg/L DDU")
    assert "FEU" in str(error) and "DDU" in str(error)


def test_the_limit_of_the_laboratory_settles_a_dimer_in_any_unit(read):
    """Value and upper limit share their unit, so their ratio needs none."""
    for unit in ("mg/L", "AU", None):
        sent = {"value": 1.5, "unit": unit, "upper_limit": 0.5}
        assert read({"d_dimer": sent}).entries["d_dimer"].states == ("raised",)


@pytest.mark.parametrize(
    ("name", "value", "offer"),
    [
        ("platelets", 24000, "24000 /uL"),
        ("platelets", "24000 10^9/L", "24000 /uL"),
        ("hemoglobin", 79, "79 g/L"),
        ("hemoglobin", "14 g/L", "14 g/dL"),
        ("calcium", 2.4, "2.4 mmol/L"),
        ("uric_acid", 420, "420 umol/L"),
        ("d_dimer", 500, "500 ng/mL FEU"),
        ("ldh", 2.4, "2.4 x upper limit"),
        ("fibrinogen", 150, "150 mg/dL"),
        ("wbc", 12000, "12000 /uL"),
        ("age_years", 200, "200 months"),
        ("fever", 101, "101 degF"),
    ],
)
def test_an_implausible_number_offers_the_unit_that_fits(read, name, value, offer):
    """Numbers outside of anything possible are refused with the likely unit."""
    error = refused(read, {name: value})
    assert "plausible" in str(error) and error.nearest == (offer,)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("platelets", -5),
        ("platelets", "<0"),
        ("age_years", -1),
        ("dic_isth_score", 9),
        ("dic_isth_score", 4.5),
        ("inr", 0.1),
        ("craniocaudal_extent", 2.5),
    ],
)
def test_impossible_numbers_are_refused(read, name, value):
    """Negative counts, scores above eight and half levels are errors."""
    refused(read, {name: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<50", "very_low"),
        ("<=50", "low_50_99 very_low"),
        ("< 120", "low_100_149 low_50_99 very_low"),
        (">=150", "high normal"),
        (">450", "high"),
        (">20", "high normal low_100_149 low_50_99 very_low"),
        ("100-120", "low_100_149"),
        ("90 to 110 K/uL", "low_100_149 low_50_99"),
        ("150+", "high normal"),
        ("at least 150", "high normal"),
        ({"value": 50, "comparator": "<", "unit": "10*9/L"}, "very_low"),
        ({"value": "<50", "unit": "10*9/L"}, "very_low"),
    ],
)
def test_a_bound_leaves_every_state_that_reaches_beyond_it(states, text, expected):
    """A bound is not a value: each state with a number on its side stays possible."""
    assert states("platelets", text) == tuple(expected.split())


@pytest.mark.parametrize(
    ("name", "below", "at", "above"),
    [
        ("platelets", (49.9, "very_low"), (50, "low_50_99"), (99.9, "low_50_99")),
        ("platelets", (149.9, "low_100_149"), (150, "normal"), (450, "normal")),
        ("hemoglobin", (7.9, "severe_anemia"), (8, "mild_anemia"), (11.9, "mild_anemia")),
        ("inr", (1.2, "normal"), (1.7, "raised"), (1.71, "high")),
        ("fibrinogen", (0.99, "very_low"), (1, "low"), (2, "normal")),
        ("pt_prolongation", (2.9, "under_3s"), (3, "from_3_to_6s"), (6, "over_6s")),
        ("d_dimer", (0.5, "normal"), (2, "raised"), (2.1, "strongly_raised")),
        ("crp", (10, "normal"), (100, "raised"), (101, "marked")),
        ("esr", (20, "normal"), (21, "raised"), (90, "raised")),
        ("procalcitonin", (0.49, "normal"), (0.5, "raised"), (9, "raised")),
        ("ferritin", (1000, "raised"), (1001, "very_high"), (5, "normal")),
        ("dic_isth_score", (4, "below_5"), (5, "at_least_5"), (8, "at_least_5")),
        ("s100b_serum", (0.15, "normal"), (0.16, "high"), (3, "high")),
        ("fever", (37.9, "absent"), (38, "present"), (40, "present")),
        ("age_years", (17.9, "age_0_17"), (18, "age_18_39"), (60, "age_60_plus")),
    ],
)
def test_cuts_lie_where_the_sources_put_them(states, name, below, at, above):
    """The value on a cut belongs to the side that the source says."""
    context = {} if name == "age_years" else {"age_years": 40, "sex": "female"}
    for value, state in (below, at, above):
        assert states(name, value, **context) == (state,)


@pytest.mark.parametrize(
    ("age", "sex", "hemoglobin", "expected"),
    [
        (30, "female", 12.5, "normal"),
        (30, "male", 12.5, "mild_anemia"),
        (30, "female", 17, "high"),
        (30, "male", 17, "normal"),
        (3, "male", 11.2, "normal"),
        (8, "male", 11.2, "mild_anemia"),
        (0.2, "female", 9.2, "normal"),
        (1, "female", 10.6, "normal"),
        (14, "female", 7.9, "severe_anemia"),
        (0.2, "female", 7.9, "severe_anemia"),
    ],
)
def test_hemoglobin_knows_age_and_sex(states, age, sex, hemoglobin, expected):
    """Limits follow age and sex; below 8 g/dL is severe at all ages."""
    context = {"age_years": age, "sex": sex}
    assert states("hemoglobin", f"{hemoglobin} g/dL", **context) == (expected,)


def test_without_sex_both_limits_stay_possible(read):
    """12.5 g/dL is normal in a woman and anemia in a man: both states, and a note."""
    evidence = read({"age_years": 30, "hemoglobin": "12.5 g/dL"})
    assert evidence.entries["hemoglobin"].states == ("normal", "mild_anemia")
    assert any("depend on sex" in note for note in evidence.notes)


def test_an_age_group_of_children_leaves_the_bands_open(read):
    """Known only as a child, a value is read by every band that a child can be in."""
    evidence = read({"age_group": "0_17", "wbc": 14})
    assert evidence.entries["wbc"].states == ("normal", "high")
    assert read({"age_group": "60_plus", "wbc": 14}).entries["wbc"].states == ("high",)
    noted = read({"wbc": 14})
    assert noted.entries["wbc"].states == ("high",)
    assert any("limits of adults" in note for note in noted.notes)


def test_limits_sent_with_the_result_win(read):
    """The interval printed beside a value replaces the one of the table."""
    own = {"value": 4.27, "unit": "E+9/L", "lower_limit": 4.1, "upper_limit": 11.0}
    girl = {"age_years": 14, "sex": "female"}
    assert read({**girl, "wbc": own}).entries["wbc"].states == ("normal",)
    assert read({**girl, "wbc": 4.27}).entries["wbc"].states == ("low",)
    long = {"value": 46.9, "unit": "s", "upper_limit": 43.0}
    assert read({**girl, "aptt": long}).entries["aptt"].states == ("prolonged",)
    ldh = {"value": 1532, "unit": "U/L", "upper_limit": 246}
    assert read({"ldh": ldh}).entries["ldh"].value == pytest.approx(6.2276, rel=1e-4)


def test_limits_do_not_move_fixed_cuts(read):
    """Platelets keep the cuts of the score; a limit that crosses a fixed cut is refused."""
    evidence = read({"platelets": {"value": 140, "lower_limit": 125}})
    assert evidence.entries["platelets"].states == ("low_100_149",)
    assert any("fixed" in note for note in evidence.notes)
    refused(read, {"hemoglobin": {"value": 9, "unit": "g/dL", "lower_limit": 7}})
    refused(read, {"ldh": {"value": 300, "upper_limit": 0}})
    refused(read, {"ldh": {"value": 300, "upper_limit": "high"}})


def test_prothrombin_time_counts_from_the_limit(read):
    """16.2 s with a limit of 15 s is 1.2 s of prolongation; without a limit it is asked for."""
    evidence = read({"pt": {"value": 16.2, "unit": "s", "upper_limit": 15}})
    assert evidence.entries["pt_prolongation"].states == ("under_3s",)
    assert evidence.entries["pt_prolongation"].value == pytest.approx(1.2)
    assert "upper limit" in str(refused(read, {"pt": "16.2 s"}))
    assert read({"pt_prolongation": "7 s"}).entries["pt_prolongation"].states == ("over_6s",)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("crp", {"state": "high", "value": 200, "unit": "mg/L (>)"}, "marked"),
        ("crp", {"state": "high", "value": 20, "unit": "unclear"}, "raised marked"),
        (
            "hemoglobin",
            {"state": "mild_anemia", "value": 10.7, "unit": "g/dL (printed as g/litre)"},
            "mild_anemia",
        ),
        (
            "hemoglobin",
            {"state": "severe_anemia", "value": 10.7, "unit": "g/dL (printed as g/litre)"},
            "severe_anemia",
        ),
        ("ferritin", {"state": "high", "value": 8500, "unit": "ug/L"}, "very_high"),
        ("inr", {"state": "high", "value": 4.13, "unit": "ratio"}, "high"),
        ("m_protein", {"state": "present", "value": 30, "unit": "g/L"}, "present"),
        ("d_dimer", {"state": "normal", "value": 0.3, "unit": "mg/L"}, "normal"),
        ("hemoglobin", {"state": "normal", "value": 11.6, "unit": "g/dL"}, "normal"),
    ],
)
def test_state_value_and_unit_as_in_case_files(states, name, value, expected):
    """A readable value wins; an unreadable unit or a remark leaves the stated state."""
    assert states(name, value, age_years=40, sex="female") == tuple(expected.split())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("platelets", {"state": "normal", "value": 24, "unit": "10^9/L"}),
        ("hemoglobin", {"state": "normal", "value": 6, "unit": "g/dL"}),
        ("wbc", {"state": "low", "value": 20, "unit": "10^9/L"}),
        ("platelets", {"state": "very_low", "value": 24000, "unit": "10^9/L"}),
    ],
)
def test_a_state_that_contradicts_its_value_is_refused(read, name, value):
    """A word and a number that cannot both be true are an error."""
    refused(read, {name: value})


@given(count=st.floats(0.5, 3000, allow_nan=False))
def test_every_count_has_exactly_one_state_and_units_agree(read, count):
    """The cuts cover the line without overlap, and 10^9/L and /uL lead to the same state."""
    states = read({"platelets": count}).entries["platelets"].states
    assert len(states) == 1
    rounded = float(f"{count:.6g}")
    one = read({"platelets": f"{rounded!r} K/uL"}).entries["platelets"].states
    other = read({"platelets": f"{rounded * 1000:.10f} /uL"}).entries["platelets"].states
    assert one == other


@given(
    number=st.floats(0.01, 1e5, allow_nan=False),
    sign=st.sampled_from(["", ">", ">=", "<", "≤"]),
    unit=st.sampled_from(["", "g/L", " 10^9/L", " mg/L FEU", "%"]),
)
def test_amounts_are_read_back(number, sign, unit):
    """A number, comparator and unit written together come apart again."""
    amount = parse_amount(f"{sign}{number!r}{unit}")
    assert amount is not None
    assert amount.unit == (unit.strip() or None)
    assert number in amount.ends


@given(low=st.floats(-10, 10), high=st.floats(-10, 10), point=st.floats(-10, 10), data=st.data())
def test_intervals_overlap_if_and_only_if_they_share_a_number(low, high, point, data):
    """The overlap of intervals is symmetric and agrees with membership of a point."""
    one = Interval(low, high, data.draw(st.booleans()), data.draw(st.booleans()))
    dot = Interval(point, point, True, True)
    inside = (low < point < high) or (
        not one.is_empty
        and ((point == low and one.low_closed) or (point == high and one.high_closed))
    )
    assert one.overlaps(dot) == dot.overlaps(one)
    if not one.is_empty:
        assert one.overlaps(dot) == inside


def test_the_isth_score_of_states():
    """The sentinel patient has five points; nothing known leaves nought to eight."""
    assert isth_range({}) == (0, 8)
    seed = {
        "platelets": ["very_low"],
        "d_dimer": ["strongly_raised"],
        "pt_prolongation": ["under_3s"],
        "fibrinogen": ["low"],
    }
    assert isth_range(seed) == (5, 5)
    assert isth_range({"platelets": ["very_low", "low_50_99"]}) == (1, 8)


def test_every_patient_has_complete_cuts(root):
    """For each sex and a grid of ages every variable has one state per number."""
    ages = [0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.9, 1.5, 3, 5, 7, 9, 11, 12, 13, 14, 15, 17, 30, 90]
    for rows in load_thresholds(root / "priors" / "thresholds.csv").values():
        for unit in {row.unit for row in rows}:
            for sex in ("female", "male"):
                for age in ages:
                    patient = Patient((sex,), (Interval(age, age, True, True),), True)
                    cuts = cuts_of(rows, unit, patient)
                    assert cuts is not None and len(cuts.bands) == 1
                    for number in {row.low for row in cuts.bands[0]} | {0.0, 1e6}:
                        if math.isfinite(number):
                            (found,) = cuts.states(Interval(number, number, True, True))
                            assert len(found) == 1


def test_every_cut_has_a_source_that_is_listed(root):
    """Each source id of the thresholds is a row of the table of sources."""
    import csv

    sources = root / "priors" / "sources.csv"
    with sources.open(encoding="utf-8", newline="") as stream:
        known = {row["source_id"] for row in csv.DictReader(stream)}
    for rows in load_thresholds(root / "priors" / "thresholds.csv").values():
        for row in rows:
            assert set(row.source_id.split("|")) <= known | {"model_definition", "expert_opinion"}


HEADER = (
    "variable,state,low,high,unit,sex,age_low_years,age_high_years,plausible_low,plausible_high,"
    "closed,basis,source_id,grade,note\n"
)
GOOD = (
    "x,a,,5,g,,,,,,none,absolute,s,seen,\n",
    "x,b,5,,g,,,,,,low,absolute,s,seen,\n",
)


@pytest.mark.parametrize(
    ("lines", "line", "what"),
    [
        ((GOOD[0], "x,b,6,,g,,,,,,low,absolute,s,seen,\n"), 3, "begins at 6"),
        ((GOOD[0], "x,b,5,,g,,,,,,none,absolute,s,seen,\n"), 3, "neither"),
        ((GOOD[0], "x,b,5,9,g,,,,,,low,absolute,s,seen,\n"), 2, "every number"),
        ((GOOD[0], "x,b,five,,g,,,,,,low,absolute,s,seen,\n"), 3, "not a number"),
        ((GOOD[0], "x,b,5,,g,,,,,,low,absolute,,seen,\n"), 3, "source_id"),
        ((GOOD[0], "x,b,5,,g,man,,,,,low,absolute,s,seen,\n"), 3, "not one of"),
        ((GOOD[0], "x,b,5,,g,,,,,,low,absolute,s,guess,\n"), 3, "not one of"),
        ((GOOD[0], "x,b,5\n"), 3, "cells"),
        (
            tuple(one.replace("g,,,", "g,,,18") for one in GOOD),
            2,
            "ages from 18 are not covered",
        ),
    ],
)
def test_a_broken_table_of_cuts_names_file_and_line(tmp_path, lines, line, what):
    """Gaps, overlaps, missing sources and typing errors stop the loading at their line."""
    file = tmp_path / "thresholds.csv"
    file.write_text(HEADER + "".join(lines), encoding="utf-8")
    with pytest.raises(ModelError, match=what) as caught:
        load_thresholds(file)
    assert caught.value.line == line and caught.value.file == str(file)
    file.write_text(HEADER + "".join(GOOD), encoding="utf-8")
    assert len(load_thresholds(file)["x"]) == 2


def test_cuts_of_unknown_variables_or_states_are_refused(tmp_path, bare, aliases, root):
    """A cut-off must belong to a variable and lead to each of its states."""
    file = tmp_path / "thresholds.csv"
    for name, what in (("platelet", "no variable"), ("crp", "unknown state")):
        file.write_text(HEADER + "".join(GOOD).replace("x,", f"{name},"), encoding="utf-8")
        with pytest.raises(ModelError, match=what):
            complete_variables(bare, load_thresholds(file), aliases)
    text = "".join(GOOD).replace("x,a", "crp,normal").replace("x,b", "crp,raised")
    file.write_text(HEADER + text, encoding="utf-8")
    with pytest.raises(ModelError, match="no cut-off leads to marked"):
        complete_variables(bare, load_thresholds(file), aliases)


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("x,g/L,0,0,g/L,\n", "not positive"),
        ("x,g/L,one,0,g/L,\n", "not a number"),
        ("x,g/L,1,0,g/L,\nx,g/l,2,0,g/L,\n", "two meanings"),
        ("x,g/L,,,,\n", "no reason"),
        ("", "no units"),
    ],
)
def test_a_broken_table_of_units_is_refused(tmp_path, rows, what):
    """Factors must be positive and spellings must have one meaning."""
    file = tmp_path / "units.csv"
    file.write_text("variable,unit_text,factor,offset,unit,note\n" + rows, encoding="utf-8")
    with pytest.raises(ModelError, match=what):
        load_units(file)


def test_every_unit_of_the_table_leads_to_a_cut(units, variables):
    """Each conversion ends in a unit in which its variable has cut-offs."""
    for name in units.spellings:
        for conversion in units.conversions(name):
            rows = variables[name].thresholds
            assert cuts_of(rows, conversion.unit, Patient()) is not None, (name, conversion)
