"""The table of codes that hospital systems send."""

from __future__ import annotations

import pytest

from epidural_dx.clinical.terminology import load_terminology, loinc_is_valid, sctid_is_valid
from epidural_dx.errors import ModelError


def test_the_table_loads_and_every_check_digit_fits(root):
    """All LOINC and SNOMED CT codes pass their check digits on loading."""
    codes = load_terminology(root / "priors" / "terminology.csv")
    assert len(codes) > 600
    assert {code.verified for code in codes} == {"seen", "recalled"}


def test_traps_are_kept_and_never_mean_their_item(root):
    """Codes that others confuse stay in the table as traps."""
    codes = load_terminology(root / "priors" / "terminology.csv")
    traps = {(code.item, code.code) for code in codes if code.item_type == "trap"}
    assert ("tb_igra", "71774-4") in traps and len(traps) == 8
    assert not traps & {(code.item, code.code) for code in codes if code.item_type != "trap"}


def test_check_digits_find_slips():
    """A code recalled wrongly fails its check digit."""
    assert loinc_is_valid("777-3") and not loinc_is_valid("777-4") and not loinc_is_valid("777")
    assert sctid_is_valid("94600009") and not sctid_is_valid("94600007")
    assert not sctid_is_valid("x")


HEADER = (
    "item_type,item,system,code,display,unit_ucum,normal_low,normal_high,verified,source,note\n"
)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("laboratory,platelets,http://loinc.org,777-4,x,,,,seen,y,\n", "check digit"),
        ("finding,emh,http://snomed.info/sct,94600007,x,,,,seen,y,\n", "check digit"),
        ("labs,platelets,http://loinc.org,777-3,x,,,,seen,y,\n", "not one of"),
        ("laboratory,,http://loinc.org,777-3,x,,,,seen,y,\n", "must not be empty"),
        ("laboratory,platelets,http://loinc.org,777-3,x,,few,,seen,y,\n", "not a number"),
        ("laboratory,platelets,http://loinc.org,777-3,x,,,,seen,y,\n" * 2, "twice"),
        (
            "laboratory,p,http://loinc.org,777-3,x,,,,seen,y,\n"
            "trap,p,http://loinc.org,777-3,x,,,,seen,y,\n",
            "both a trap",
        ),
    ],
)
def test_a_broken_table_is_refused(tmp_path, row, what):
    """Wrong codes, doubled rows and unknown words stop the loading."""
    file = tmp_path / "terminology.csv"
    file.write_text(HEADER + row, encoding="utf-8")
    with pytest.raises(ModelError, match=what):
        load_terminology(file)
