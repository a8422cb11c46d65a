"""Case files and settings of the command line."""

from __future__ import annotations

import io
import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epidural_dx.clinical import (
    canonical_name,
    load_aliases,
    parse_setting,
    parse_settings,
    read_case,
    read_cases,
)
from epidural_dx.clinical.yaml_text import load_yaml
from epidural_dx.errors import CaseError, EvidenceError, ModelError

STAGED = """\
id: girl
source: a published report
stages:
- name: presentation
  note: as she came
  findings:
    age_years: 14
    age_group: '0_17'
    limb_weakness: partial
    hb: 90 g/L
  other_findings:
  - a month of back pain
- name: blood
  findings:
    hemoglobin: 79 g/L
    platelets: {value: 24, unit: 10^9/L}
    d_dimer: '>20 mg/L FEU'
- name: mri
  findings:
    limb_weakness: complete
    t1_signal: [iso, hypo]
- name: operation
  findings: {}
"""


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a case file."""

    def writer(content: str | bytes, name: str = "case.yaml"):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return file

    return writer


def test_stages_add_up(write, variables, aliases, read):
    """Evidence up to a stage holds what was learned so far; the newest finding counts."""
    case = read_case(write(STAGED))
    assert case.name == "girl" and case.about["source"] == "a published report"
    assert case.stage_names == ("presentation", "blood", "mri", "operation")
    first = case.evidence("presentation")
    assert dict(first.raw)["limb_weakness"] == "partial" and first.changed == ()
    canonical = partial(canonical_name, variables=variables, aliases=aliases)
    last = case.evidence(canonical=canonical)
    assert last.raw["limb_weakness"] == "complete"
    assert last.changed == ("hemoglobin", "limb_weakness")
    assert "limb_weakness changed from partial to complete at stage mri" in last.notes
    assert "hb" not in last.raw and last.raw["hemoglobin"] == "79 g/L"
    assert {"age_years", "age_group"} <= set(last.raw)
    assert read(last.raw).entries["platelets"].states == ("very_low",)


def test_evidence_before_the_decisive_stage(write):
    """Scoring a published case uses the stages before the one that settled it."""
    case = read_case(write(STAGED))
    before = case.evidence(before="mri")
    assert before.stage == "blood" and before.raw["limb_weakness"] == "partial"
    nothing = case.evidence(before="presentation")
    assert nothing.stage is None and not nothing.raw


def test_an_unknown_stage_names_those_that_exist(write):
    """Asking for a stage that is not there lists the stages."""
    with pytest.raises(CaseError) as caught:
        read_case(write(STAGED)).evidence("mr")
    assert caught.value.nearest == ("mri",)
    assert caught.value.allowed == ("presentation", "blood", "mri", "operation")


def test_a_flat_file_is_one_stage(write):
    """A mapping of findings is a case with one stage; its text is no evidence."""
    case = read_case(write("fever: yes\nplatelets: 24\nnote: seen at night\n"))
    assert case.name == "case" and case.stage_names == ("all",)
    assert case.evidence().raw == {"fever": True, "platelets": 24}


def test_json_text_and_standard_input_are_read(monkeypatch):
    """A case may be JSON, a text, the body of a request, or come from standard input."""
    body = json.dumps({"evidence": {"fever": "present"}})
    assert read_case(body).evidence().raw == {"fever": "present"}
    assert read_case("fever: present\n").evidence().raw == {"fever": "present"}
    assert read_case("{fever: present}").evidence().raw == {"fever": "present"}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(STAGED.encode()), "utf-8"))
    case = read_case("-")
    assert len(case.stages) == 4 and case.where("mri") == "standard input, up to stage mri"


def test_yaml_keeps_what_a_person_wrote():
    """Age groups, dates, times and scores stay text; decimal numbers are numbers."""
    document = load_yaml("a: 18_39\nb: 0_17\nc: 2024-10-23\nd: 12:30\ne: 007\nf: 1.5e3\ng: <5\n")
    assert document == {
        "a": "18_39",
        "b": "0_17",
        "c": "2024-10-23",
        "d": "12:30",
        "e": 7,
        "f": 1500.0,
        "g": "<5",
    }


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("---\n", "is empty"),
        ("just words", "plain text"),
        ("- a\n- b\n", "list of cases"),
        ("a: [1, 2\nb: 3\n", r"not YAML .* in line"),
        ("fever: present\nfever: absent\n", r"'fever' stands twice .* line 2"),
        ('{"fever": 1, "fever": 2}', "'fever' stands twice"),
        ('{"fever": 1,}}', "not YAML"),
        (b"fever: \xe9\n", r"not UTF-8 text \(byte 0xe9 in line 1\)"),
        ("fever: present\n".encode("utf-16"), "not UTF-8"),
        ("note: no findings\n", "no findings"),
        ("3: present\n", "is not text"),
        ("stages: []\n", "must be a list"),
        ("stages: {a: b}\n", "must be a list"),
        ("stages:\n- mri\n", "stage 1: is plain text"),
        ("stages:\n- findings: {}\n", "name None"),
        ("stages:\n- name: mri\n", "stage mri: has no findings"),
        ("stages:\n- name: mri\n  findings: [a]\n", "are a list"),
        ("stages:\n- name: mri\n  finding: {}\n", "'finding' has no meaning"),
        ("stages:\n- {name: a, findings: {}}\n- {name: a, findings: {}}\n", "two stages"),
        ("stages:\n- {name: a, findings: {}}\nsex: male\n", "'sex' is neither"),
        ("stages:\n- {name: a, findings: {}}\nevidence: {}\n", "has both"),
        ("a: 1\n--- \nb: 2\n", "not YAML"),
        ("dic_isth_score: >=5\n", "needs quotes"),
        ("a: !!python/object:os.system x\n", "not YAML"),
        ("a: {b: " * 3000, "nested too deeply|not YAML"),
        ("[" * 100000, "nested too deeply|not YAML"),
    ],
)
def test_broken_files_give_one_clear_sentence(write, content, what):
    """Whatever is wrong with a file, the error is one sentence that names it."""
    file = write(content)
    with pytest.raises(CaseError, match=what) as caught:
        read_case(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_directories_are_named(tmp_path):
    """A path that is no file is an error, not a traceback."""
    with pytest.raises(CaseError, match="no such file"):
        read_case(tmp_path / "nowhere.yaml")
    with pytest.raises(CaseError, match="is a directory"):
        read_case(tmp_path)
    with pytest.raises(CaseError, match="holds no case"):
        read_cases(tmp_path)


def test_a_collection_of_cases_is_read(write):
    """A list of cases is read in order; names must differ."""
    one = "\n".join("  " + line for line in STAGED.splitlines())[2:]
    file = write(f"- {one}\n- {one.replace('girl', 'boy')}\n")
    assert [case.name for case in read_cases(file)] == ["girl", "boy"]
    assert len(read_cases(write(STAGED))) == 1
    with pytest.raises(CaseError, match="two cases"):
        read_cases(write(f"- {one}\n- {one}\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fever=present", ("fever", "present")),
        ("t1_signal=iso|hypo", ("t1_signal", "iso|hypo")),
        ("enhancement=!rim", ("enhancement", "!rim")),
        ("enhancement!=rim", ("enhancement", "!rim")),
        ("d_dimer=>20 mg/L FEU", ("d_dimer", ">20 mg/L FEU")),
        ("dic_isth_score=>=5", ("dic_isth_score", ">=5")),
        ("dic_isth_score>=5", ("dic_isth_score", ">=5")),
        ("platelets<50", ("platelets", "<50")),
        ('x={"value": 24, "unit": "K/uL"}', ("x", {"value": 24, "unit": "K/uL"})),
        ('x=["a", "b"]', ("x", ["a", "b"])),
    ],
)
def test_settings_are_split(text, expected):
    """The command line's settings become a name and a raw value."""
    assert parse_setting(text) == expected


@pytest.mark.parametrize("text", ["", "fever", "=present", "fever=", "x={", 'x={"a": 1, "a": 2}'])
def test_broken_settings_are_refused(text):
    """A setting without name, sign or value is an error."""
    with pytest.raises(EvidenceError):
        parse_setting(text)


def test_a_variable_set_twice_is_refused():
    """Two settings of one name contradict each other."""
    assert parse_settings(["a=1", "b=2"]) == {"a": "1", "b": "2"}
    with pytest.raises(EvidenceError, match="set twice"):
        parse_settings(["a=1", "a=2"])


@given(st.text(max_size=200))
def test_any_text_is_a_case_or_a_sentence(text):
    """No text at all raises anything but a case error."""
    try:
        read_case(text + "\n")
    except CaseError as error:
        assert error.problem


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("variables: {hb: 3}\n", "hb"),
        ("variables: {pt: {variable: aptt, less: more}}\n", "pt"),
        ("variable: {}\n", "no section"),
        ("states: {sex: f}\n", "sex"),
        ("states: {sex: {f: 1}}\n", "sex"),
        ("states: {sex: {f: female, f: male}}\n", "line 1"),
        ("[a]\n", "no mapping"),
        ("a: [\n", "not YAML"),
    ],
)
def test_a_broken_file_of_aliases_is_refused(tmp_path, text, what):
    """Aliases must name variables and states; the error says where."""
    file = tmp_path / "aliases.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=what) as caught:
        load_aliases(file)
    assert caught.value.file == str(file)
