"""FHIR on the command line: a Bundle as the case, a Bundle as the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epidural_dx.clinical.fhir_writing import probabilities_of

EXAMPLES = Path(__file__).parents[1] / "clinical" / "fhir_examples"
RECORD = str(EXAMPLES / "hematoma_dic.json")


def test_every_command_takes_a_bundle(command):
    """A Bundle is recognised by its resourceType, also from standard input."""
    text = command("diagnose", RECORD, "--no-tests", "--no-intervals")
    assert text.code == 0 and "From the record: 21 findings used" in text.out
    piped = command(
        "diagnose", "-", "--no-tests", "--no-intervals", stdin=Path(RECORD).read_bytes()
    )
    assert piped.out == text.out
    assert command("explain", RECORD).code == 0


def test_json_carries_the_report(command):
    """The document says what became of every resource."""
    ran = command("diagnose", RECORD, "--json", "--no-tests", "--no-intervals")
    document = json.loads(ran.out)
    assert {u["variable"] for u in document["record"]["used"]} >= {"platelets", "level"}
    assert any("71774-4" in i["code"] for i in document["record"]["ignored"])


def test_the_answer_can_be_fhir(command):
    """--format fhir prints one Bundle whose percentages are those of --json."""
    answer = json.loads(command("diagnose", RECORD, "--format", "json", "--no-tests").out)
    bundle = json.loads(command("diagnose", RECORD, "--format", "fhir", "--no-tests").out)
    back = probabilities_of(bundle["entry"][0]["resource"])
    for one in answer["causes"]:
        assert back[one["cause"]][0] == pytest.approx(one["probability"], rel=1e-5)


def test_settings_and_dates_apply_to_a_record(command):
    """--set replaces what the record says, --as-of moves the reference date."""
    ran = command(
        "diagnose", RECORD, "--set", "platelets=250 10^9/L", "--as-of", "2034-05-14",
        "--json", "--no-tests", "--no-intervals",
    )  # fmt: skip
    document = json.loads(ran.out)
    assert document["evidence"]["platelets"]["states"] == ["normal"]
    assert document["evidence"]["age_group"]["states"] == ["age_60_plus"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (['{"resourceType": "Patient"}'], "FHIR Patient instead of a FHIR Bundle"),
        ([RECORD, "--as-of", "yesterday"], "not a date"),
        ([RECORD, "--as-of", "1960-01-01"], "after the reference date"),
        ([RECORD, "--format", "fihr"], "did you mean fhir"),
        ([RECORD, "--format", "fhir", "--json"], "do not go together"),
        ([RECORD, "--format", "fhir", "--all-stages"], "leave out --all-stages"),
        (["multifocal_aml", "--as-of", "2020-01-01"], "needs a FHIR Bundle"),
        ([RECORD, "--set", "level=moon"], "not a state of level"),
    ],
)
def test_bad_input_gets_one_sentence(command, arguments, what):
    """Exit 2, one line on standard error, nothing on standard output."""
    ran = command("diagnose", *arguments)
    assert ran.code == 2 and what in ran.err and ran.err.count("\n") == 1 and not ran.out
