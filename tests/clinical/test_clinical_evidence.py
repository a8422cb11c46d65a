"""Behaviour of `read_evidence`: everything the interface promises to accept and to refuse."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epidural_dx.clinical import Evidence, read_evidence
from epidural_dx.clinical.notes import RoutineNote
from epidural_dx.errors import EvidenceError
from epidural_dx.network.variable import Variable

PROMISED = {
    "age_years": 30,
    "sex": "male",
    "known_thalassemia": "present",
    "hemoglobin": "79 g/L",
    "t1_signal": ["iso", "hypo"],
    "enhancement": {"not": "rim"},
    "splenomegaly": {"likelihood": {"present": 0.9, "absent": 0.2}},
    "d_dimer": ">20 mg/L FEU",
    "platelets": {"value": 24, "unit": "10^9/L"},
}


def refused(read, raw):
    """Return the error of evidence that must be refused."""
    with pytest.raises(EvidenceError) as caught:
        read(raw)
    message = str(caught.value)
    assert type(caught.value) is EvidenceError
    assert message.count("\n") == 0 and message[-1] in ".?)"
    return caught.value


# What is accepted ---------------------------------------------------------------------------------


def test_the_example_of_the_interface_is_read(read):
    """The evidence shown in the design gives the likelihoods it means."""
    evidence = read(PROMISED)
    assert dict(evidence.likelihoods) == {
        "age_group": (0, 1, 0, 0),
        "sex": (0, 1),
        "known_thalassemia": (0, 1),
        "hemoglobin": (0, 0, 0, 1),
        "t1_signal": (1, 1, 0),
        "enhancement": (1, 1, 1, 0),
        "splenomegaly": (0.2, 0.9),
        "d_dimer": (0, 0, 1),
        "platelets": (0, 0, 0, 0, 1),
    }
    assert evidence.entries["platelets"].text == "24 ×10⁹/L → very_low"
    assert evidence.entries["hemoglobin"].text == "79 g/L = 7.9 g/dL → severe_anemia"


@pytest.mark.parametrize("value", [True, "yes", "present", "Positive", "y", 1, np.bool_(True), "+"])
def test_yes_is_present(states, value):
    """Every way of saying yes makes a yes/no variable present."""
    assert states("splenomegaly", value) == ("present",)


@pytest.mark.parametrize("value", [False, "no", "absent", "NEGATIVE", "n", 0, np.bool_(False), "-"])
def test_no_is_absent(states, value):
    """Every way of saying no makes a yes/no variable absent."""
    assert states("splenomegaly", value) == ("absent",)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("age_group", "60_plus", "age_60_plus"),
        ("age_group", "0_17", "age_0_17"),
        ("age_group", "18-39", "age_18_39"),
        ("craniocaudal_extent", ">2_levels", "over_2_levels"),
        ("craniocaudal_extent", "<=2_levels", "up_to_2_levels"),
        ("craniocaudal_extent", "≤2 levels", "up_to_2_levels"),
        ("craniocaudal_extent", 5, "over_2_levels"),
        ("dic_isth_score", ">=5", "at_least_5"),
        ("dic_isth_score", "<5", "below_5"),
        ("dic_isth_score", 7, "at_least_5"),
        ("platelets", "low", "low_100_149 low_50_99"),
        ("platelets", "low_50_149", "low_100_149 low_50_99"),
        ("crp", "high", "raised marked"),
        ("crp", "present", "raised marked"),
        ("d_dimer", "positive", "raised strongly_raised"),
        ("ferritin", "high", "raised very_high"),
        ("ferritin", "elevated", "raised very_high"),
        ("ldh", "raised", "high very_high"),
        ("ldh", "high", "high"),
        ("inr", "high", "high"),
        ("inr", "raised", "raised"),
        ("inr", "prolonged", "raised high"),
        ("hemoglobin", "high", "high"),
        ("hemoglobin", "anaemia", "mild_anemia severe_anemia"),
        ("blood_culture", "present", "positive"),
        ("tb_igra", False, "negative"),
        ("pet_uptake", "present", "mild intense"),
        ("limb_weakness", "partial_or_complete", "partial complete"),
        ("limb_weakness", "absent", "none"),
        ("vertebral_marrow", "abnormal", "diffuse_low_t1 focal_replacement edema"),
        ("vertebral_marrow", "oedema", "edema"),
        ("level", "cervicothoracic", "cervical thoracic"),
        ("myeloid_disorder", "polycythaemia vera", "polycythemia_vera"),
        ("hemoglobinopathy", "tdt", "tdt"),
        ("lymphoid_disorder", "myeloma", "myeloma"),
        ("lesion_culture", "positive", "pyogenic mycobacteria"),
        ("melanoma_primary_site", "not_reported", "not_reported"),
        ("etiology", "hematoma:dic", "hematoma_dic"),
        ("sex", "girl", "female"),
        ("pt_prolongation", ">6s", "over_6s"),
        ("pt_prolongation", "3_to_6s", "from_3_to_6s"),
    ],
)
def test_spellings_of_the_vocabulary_are_understood(states, name, value, expected):
    """Vocabulary, case files and common words lead to the model's states."""
    assert states(name, value) == tuple(expected.split())


def test_a_group_that_yaml_read_as_a_number_is_recognised(read):
    """An unquoted 18_39 arrives as 1839 and is read as the group, with an explanation."""
    evidence = read({"age_group": 1839})
    assert evidence.entries["age_group"].states == ("age_18_39",)
    assert any("YAML" in note for note in evidence.notes)
    # 0_17 is the octal number 15 in YAML; as an age it lies in the same group.
    assert read({"age_group": 15}).entries["age_group"].states == ("age_0_17",)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["iso", "hypo"], "hypo iso"),
        (("iso",), "iso"),
        ({"iso", "hyper"}, "iso hyper"),
        (np.array(["hypo", "hyper"]), "hypo hyper"),
        ("iso|hypo", "hypo iso"),
        ("!hyper", "hypo iso"),
        ("!hyper|iso", "hypo"),
        ("not hyper", "hypo iso"),
        ({"not": "hyper"}, "hypo iso"),
        ({"not": ["hyper", "iso"]}, "hypo"),
        ({"state": "iso"}, "iso"),
        ("bright", "hyper"),
    ],
)
def test_disjunction_and_negation(states, value, expected):
    """Lists, bars, exclamation marks and mappings mean one of, or anything but."""
    assert states("t1_signal", value) == tuple(expected.split())


@pytest.mark.parametrize(
    "value",
    [None, "unknown", "not known", "n/a", pd.NA, {"state": None, "value": None, "unit": "g/L"}],
)
def test_unknown_is_no_evidence_and_noted(read, value):
    """What is not known changes nothing and is listed, not dropped in silence."""
    if isinstance(value, dict):
        assert "no value" in str(refused(read, {"hemoglobin": value}))
        return
    evidence = read({"hemoglobin": value})
    assert not evidence.likelihoods
    assert evidence.unknown == ("hemoglobin",)
    assert evidence.notes == ("hemoglobin: not known",)


@given(
    weights=st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=4, max_size=4).filter(any)
)
def test_likelihoods_are_kept_as_given(read, variables, weights):
    """Likelihood evidence arrives unchanged, in the order of the states."""
    names = variables["enhancement"].states
    raw = dict(sorted(zip(names, weights, strict=True), reverse=True))
    evidence = read({"enhancement": {"likelihood": raw}})
    assert evidence.likelihoods["enhancement"] == tuple(weights)


@settings(max_examples=50)
@given(data=st.data())
def test_a_disjunction_is_the_union_of_its_parts(read, variables, data):
    """For any variable the weights of a list are those of its members together."""
    variable = variables[data.draw(st.sampled_from(sorted(variables)))]
    chosen = data.draw(st.sets(st.sampled_from(variable.states), min_size=1))
    evidence = read({variable.name: sorted(chosen)})
    assert evidence.likelihoods[variable.name] == tuple(
        float(state in chosen) for state in variable.states
    )
    if len(chosen) < len(variable.states):
        negated = read({variable.name: {"not": sorted(set(variable.states) - chosen)}})
        assert negated.likelihoods == evidence.likelihoods


def test_every_state_of_every_variable_is_its_own_name(read, variables):
    """No alias or rule gets in the way of an exact state."""
    for variable in variables.values():
        for state in variable.states:
            assert read({variable.name: state}).entries[variable.name].states == (state,)


def test_a_finding_that_says_nothing_is_noted(read):
    """A list of every state is accepted, noted, and not informative."""
    evidence = read({"t1_signal": ["hypo", "iso", "hyper"], "fever": True})
    assert evidence.informative == ("fever",)
    assert any("says nothing" in note for note in evidence.notes)


def test_names_may_be_aliases(read):
    """Common short names reach their variable, with a note."""
    evidence = read({"hb": "7.9 g/dL", "plt": 24, "dimer": "5 mg/L FEU", "Known Mds": "yes"})
    assert set(evidence.likelihoods) == {"hemoglobin", "platelets", "d_dimer", "known_mds"}
    assert "hb read as hemoglobin" in evidence.notes
    assert all(isinstance(note, RoutineNote) for note in evidence.notes)
    assert not any(isinstance(note, RoutineNote) for note in read({"age_group": 1839}).notes)


def test_a_finding_that_stands_for_several_is_rewritten(read):
    """The experts' joint history of myeloproliferation or myelodysplasia says what it means."""
    absent = read({"known_myeloproliferative_or_mds": "absent"})
    assert absent.likelihoods["known_mds"] == (1, 0)
    assert absent.likelihoods["known_myeloproliferative"] == (1, 0)
    present = read({"known_myeloproliferative_or_mds": True})
    assert "mds" in present.entries["blood_disorder"].states
    assert "none" not in present.entries["blood_disorder"].states


def test_two_spellings_of_one_variable_are_taken_together(read):
    """Age in years and age group agree and count once."""
    evidence = read({"age_years": 14, "age_group": "0_17"})
    assert evidence.likelihoods["age_group"] == (1, 0, 0, 0)
    assert evidence.entries["age_group"].value == 14


def test_evidence_survives_pickling(read):
    """Batches hand evidence to other processes."""
    evidence = read(PROMISED)
    again = pickle.loads(pickle.dumps(evidence))
    assert isinstance(again, Evidence)
    assert dict(again.likelihoods) == dict(evidence.likelihoods)


def test_no_table_of_units_is_needed_for_words_and_canonical_units(variables):
    """Without the table of units, states, plain numbers and canonical units still work."""
    evidence = read_evidence({"platelets": "24 10*9/L", "age_years": 70}, variables)
    assert evidence.entries["platelets"].states == ("very_low",)


# What is refused ----------------------------------------------------------------------------------


def test_an_unknown_variable_names_the_nearest(read):
    """A misspelt variable is an error with the nearest match."""
    error = refused(read, {"platlets": "low"})
    assert error.variable == "platlets" and error.value == "low"
    assert error.nearest[0] == "platelets"
    assert "platelets" in error.allowed


def test_a_misspelt_alias_leads_to_its_variable(read):
    """The nearest match of a misspelt alias is the variable itself."""
    assert "lymphadenopathy" in refused(read, {"lymph_node": True}).nearest


@pytest.mark.parametrize(
    "value", ["presnt", "maybe", 2, 0.5, "38", object(), b"present", "[present"]
)
def test_an_unknown_state_names_what_is_allowed(read, value):
    """A misspelt state is an error that names variable, value and allowed states."""
    error = refused(read, {"splenomegaly": value})
    assert error.variable == "splenomegaly"
    assert error.allowed == ("absent", "present")


def test_a_misspelt_state_names_the_nearest(read):
    """The nearest state is offered."""
    assert refused(read, {"splenomegaly": "presnt"}).nearest == ("present",)
    assert refused(read, {"enhancement": ["rim", "homogenous"]}).nearest == ("homogeneous",)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_no_number_is_no_evidence(read, value):
    """NaN and infinity are errors, also inside mappings and likelihoods."""
    refused(read, {"platelets": value})
    refused(read, {"platelets": {"value": value, "unit": "10^9/L"}})
    refused(read, {"splenomegaly": {"likelihood": {"present": value, "absent": 1}}})
    refused(read, {"ldh": {"value": 300, "upper_limit": value}})


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        "",
        "  ",
        "!",
        "|",
        {"not": []},
        {"not": ["none", "faint", "homogeneous", "rim"]},
        {"not": {"not": "rim"}},
        {"not": "unknown"},
        {"not": 3},
        {"likelihood": {}},
        {"likelihood": {"rim": 1}},
        {"likelihood": {"none": 0, "faint": 0, "homogeneous": 0, "rim": 0}},
        {"likelihood": {"none": -1, "faint": 0, "homogeneous": 0, "rim": 1}},
        {"likelihood": {"none": True, "faint": 0, "homogeneous": 0, "rim": 1}},
        {"likelihood": {"none": "1", "faint": 0, "homogeneous": 0, "rim": 1}},
        {"likelihood": {"none": 1, "absent": 1, "faint": 0, "homogeneous": 0, "rim": 1}},
        {"likelihood": {"none": 1, "faint": 0, "homogeneous": 0, "rim": 1, "spotty": 1}},
        {"likelyhood": {"rim": 1}},
        {"not": "rim", "likelihood": {"rim": 1}},
        {"state": {"not": "rim"}},
        {"unit": "g/L"},
        ["rim", None],
        ["rim", ["faint"]],
        ["rim", {"not": "faint"}],
        {"value": 3, "unit": "cm"},
        "3 cm",
    ],
)
def test_malformed_evidence_is_refused(read, value):
    """Empty, contradictory or misshapen values are errors, never guesses."""
    refused(read, {"enhancement": value})


def test_keys_and_evidence_must_have_the_right_shape(read):
    """Evidence is a mapping from text."""
    refused(read, {3: "present"})
    refused(read, ["fever"])
    refused(read, "fever")


@pytest.mark.parametrize(
    "raw",
    [
        {"age_years": 8, "age_group": "60_plus"},
        {"age_years": 30, "age": 70},
        {"hb": "11 g/dL", "hemoglobin": "70 g/L"},
        {"plt": "low", "platelets": "normal"},
        {"known_myeloproliferative_or_mds": "absent", "known_mds": "present"},
    ],
)
def test_contradictions_within_one_variable_are_refused(read, raw):
    """Two spellings of a variable without a common state are an error that shows both."""
    error = refused(read, raw)
    assert "contradictory" in str(error)
    assert all(name in str(error) for name in raw)


def test_two_likelihoods_of_one_variable_are_refused(read):
    """Two uncertain observations of the same thing are not independent: no guess."""
    weights = {"likelihood": {"present": 0.9, "absent": 0.2}}
    refused(read, {"incontinence": weights, "sphincter_dysfunction": weights})


SEED = {
    "platelets": 24,
    "d_dimer": ">20 mg/L FEU",
    "pt": {"value": 16.2, "unit": "s", "upper_limit": 15.0},
    "fibrinogen": "1.5 g/L",
}


def test_the_isth_score_must_fit_its_components(read):
    """Five points cannot be called below five; four and six contradict the sum."""
    assert read({**SEED, "dic_isth_score": 5}).entries["dic_isth_score"].states == ("at_least_5",)
    for said in ("<5", "below_5", 4, 6):
        assert refused(read, {**SEED, "dic_isth_score": said}).variable == "dic_isth_score"


def test_the_isth_score_may_stand_alone_or_with_some_components(read):
    """Missing components leave room; impossible scores are still found."""
    read({"dic_isth_score": 8})
    read({"dic_isth_score": ">=5", "platelets": "normal"})
    refused(read, {"dic_isth_score": ">=5", "platelets": "normal", "d_dimer": "normal"})


def test_errors_say_where(variables, units, aliases):
    """The place of the evidence stands in front of the sentence."""
    with pytest.raises(EvidenceError, match=r"^stage mri of a.yaml: t1_signal: 'grey'"):
        read_evidence(
            {"t1_signal": "grey"},
            variables,
            units=units,
            aliases=aliases,
            where="stage mri of a.yaml",
        )


@settings(max_examples=200)
@given(
    value=st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["not", "likelihood", "value", "unit", "state", "present", "x"]),
                inner,
                max_size=3,
            ),
        ),
        max_leaves=4,
    ),
    name=st.sampled_from(["platelets", "splenomegaly", "age_years", "d_dimer", "t1_signal", "pt"]),
)
def test_anything_is_read_or_refused_with_one_sentence(read, name, value):
    """No input whatever raises another error, gives a negative weight or all zeros."""
    try:
        evidence = read({name: value})
    except EvidenceError as error:
        assert error.problem
        return
    for weights in evidence.likelihoods.values():
        assert min(weights) >= 0 and max(weights) > 0


def test_reading_needs_no_heavy_library(root):
    """The fast path imports neither pint nor pandas nor pgmpy nor numpy nor yaml."""
    code = (
        "import sys\n"
        "from epidural_dx.clinical.evidence import read_evidence\n"
        "from epidural_dx.clinical.units import load_units\n"
        "from epidural_dx.clinical.thresholds import load_thresholds\n"
        "from epidural_dx.network.variable import Variable\n"
        "rows = load_thresholds('priors/thresholds.csv')\n"
        "units = load_units('priors/units.csv')\n"
        "names = ('high', 'normal', 'low_100_149', 'low_50_99', 'very_low')\n"
        "v = {'platelets': Variable('platelets', 'x', names, thresholds=rows['platelets'])}\n"
        "read_evidence({'platelets': '24 K/uL'}, v, units=units)\n"
        "heavy = {'pint', 'pandas', 'pgmpy', 'yaml', 'numpy', 'networkx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=root,
        env={"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_latent_variable_may_be_set_with_a_note(read):
    """Nothing forbids a what-if on a latent variable, but the note says what it is."""
    evidence = read({"inflammation": "high"})
    assert evidence.likelihoods["inflammation"] == (0, 0, 1)
    assert any("latent" in note for note in evidence.notes)


def test_variables_are_checked_when_made():
    """A variable refuses broken names, doubled states and aliases of unknown states."""
    from epidural_dx.errors import ModelError

    for arguments in (
        {"name": "T1", "states": ("a", "b")},
        {"name": "t1", "states": ("a",)},
        {"name": "t1", "states": ("a", "a")},
        {"name": "t1", "states": ("a", ">b")},
        {"name": "t1", "states": ("a", "b"), "group": "other"},
        {"name": "t1", "states": ("a", "b"), "aliases": {"c": ("d",)}},
    ):
        with pytest.raises(ModelError):
            Variable(label="x", **arguments)
    variable = Variable("t1", "T1", ("a", "b"), aliases={"c": ("a", "b")})
    assert pickle.loads(pickle.dumps(variable)) == variable
