"""The letter: it says what the numbers say, for every published patient and for none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import epidural_dx as edx
from epidural_dx.analysis.consultation import (
    Consultation,
    consult,
    letter,
    ratio,
    references,
    share,
)
from epidural_dx.analysis.simulation import self_consistency
from epidural_dx.analysis.wording import (
    CAUSES,
    CONDITIONS,
    DRIVERS,
    FINDINGS,
    MECHANISMS,
    alternatives,
    finding_words,
    listed,
    state_words,
)
from epidural_dx.answer import CONFLICT
from epidural_dx.clinical.case import read_cases
from epidural_dx.errors import EvidenceError

BLEEDING = {
    "age_years": 30,
    "platelets": "24 10^9/L",
    "fibrinogen": "very_low",
    "t1_signal": "hyper",
    "onset": "sudden",
}


@pytest.fixture(scope="module")
def bleeding(model: edx.Model) -> Consultation:
    """Explain a patient who bleeds."""
    return consult(model, BLEEDING, orders=10)


def text(found: Consultation) -> str:
    """Return the whole letter as one string."""
    return "\n".join(f"{heading}: {paragraph}" for heading, paragraph in letter(found))


def test_the_letter_names_leader_probability_and_interval(
    bleeding: Consultation, model: edx.Model
) -> None:
    """The impression carries the figures of the answer itself."""
    impression = dict(letter(bleeding))["Impression"]
    answer = model.diagnose(BLEEDING)
    leader, probability = answer.ranked_causes()[0]
    assert leader == "hematoma"
    assert "epidural hematoma" in impression
    assert share(probability) in impression
    assert f"{100 * answer.intervals.loc[leader, 'lower']:.0f} to" in impression


def test_every_published_patient_gets_a_readable_letter(model: edx.Model, cases: Path) -> None:
    """Short paragraphs in words: no identifier, no empty part, no unfinished number."""
    for case in read_cases(cases):
        read = model.read_evidence(case)
        for heading, paragraph in letter(consult(model, read, orders=6)):
            assert heading and paragraph.endswith("."), (case.name, heading)
            assert not re.search(r"[a-z]_[a-z]", paragraph), (case.name, paragraph)
            assert not re.search(r"\bnan\b|\binf\b|  | ,|\(\)", paragraph), (case.name, paragraph)
            assert len(paragraph) < 2500


def test_contributions_in_the_letter_sum_to_the_posterior(bleeding: Consultation) -> None:
    """Findings and groups both take the log odds from before to after."""
    for shares in (bleeding.contributions, bleeding.groups):
        assert sum(shares.contributions.values()) == pytest.approx(
            shares.posterior - shares.prior, abs=1e-9
        )


def test_numbers_in_brackets_are_sources(bleeding: Consultation, model: edx.Model) -> None:
    """Every number cited has a source of the literature base, and every source is cited."""
    named = references(bleeding)
    cited = {
        int(n)
        for group in re.findall(r"\[([\d, ]+)\]", text(bleeding))
        for n in group.split(",")
    }
    assert cited == set(range(1, len(named) + 1))
    known = {source.citation for source in model.literature.sources.values()}
    assert set(named) <= known


def test_a_hidden_driver_is_told_with_its_reasons(bleeding: Consultation) -> None:
    """The paragraph on what lies behind names DIC and the coagulation values."""
    behind = dict(letter(bleeding))["What lies behind it"]
    assert "isseminated intravascular coagulation" in behind
    assert "fibrinogen" in behind or "platelets" in behind


def test_other_causes_can_be_explained_and_compared(model: edx.Model) -> None:
    """A cause that does not lead is explained as such, against the one asked for."""
    found = consult(model, BLEEDING, cause="leukemia", against="abscess", orders=6)
    assert (found.cause, found.rival) == ("leukemia", "abscess")
    assert found.comparison["cause_a"] == "leukemia"
    assert "which is explained here" in text(found)
    assert found.contributions.cause == "leukemia"


def test_the_next_tests_are_those_of_the_ranking(bleeding: Consultation, model: edx.Model) -> None:
    """The first test that is named is the most informative one that is allowed."""
    told = dict(letter(bleeding))["Next tests"]
    ranked = model.rank_tests(BLEEDING)
    best = ranked[ranked["allowed"].map(lambda a: a is True)].iloc[0]
    first = best["label"].split()[0].lower()
    assert told.lower().index(first) < 140
    assert f"{best['information_bits']:.2f} bits" in told


def test_without_findings_the_letter_gives_the_base_rates(model: edx.Model) -> None:
    """Nothing known is said plainly, and what would help is named."""
    parts = dict(letter(consult(model, {})))
    assert parts["Impression"].startswith("Nothing is known yet")
    assert "would make" in parts["What is not known and would matter"]
    assert "assumed, not inferred" in parts["Do the findings fit together"]


def test_the_explanation_is_plain_json(bleeding: Consultation) -> None:
    """Everything fits one JSON document without NaN."""
    document = json.loads(json.dumps(bleeding.as_dict(), allow_nan=False))
    assert document["cause"] == "hematoma"
    assert {"letter", "paths", "conditions", "stories", "counterfactuals"} <= set(document)


def test_a_planted_contradiction_is_told(model: edx.Model) -> None:
    """Findings that cannot go together well are named, with the measure."""
    against = {
        "back_pain": "present",
        "limb_weakness": "complete",
        "sensory_level": "absent",
        "sphincter_dysfunction": "absent",
    }
    found = consult(model, against)
    assert found.conflict["bits"] > CONFLICT
    told = dict(letter(found))["Do the findings fit together"]
    assert "conflict by" in told
    assert "complete paralysis" in told
    assert any(w.code == "conflict" for w in model.diagnose(against).warnings)


def test_unexpected_tissue_names_the_rare_cause(model: edx.Model, cases: Path) -> None:
    """The patient whose biopsy shows blood-forming tissue without a blood disorder is flagged."""
    case = next(c for c in read_cases(cases) if c.name == "emh_no_known_disorder")
    found = consult(model, model.read_evidence(case))
    if found.cause != "emh":
        told = dict(letter(found))["Do the findings fit together"]
        assert "unexpected" in told
        assert "xtramedullary hematopoiesis would explain it" in told


def test_warnings_are_quiet_on_the_models_own_patients(model: edx.Model) -> None:
    """Conflict keeps its stated bound; the other two speak up for few."""
    for findings in (12, 30):
        found = self_consistency(model, 600, findings, seed=3)
        assert found.conflicting <= 2.0**-CONFLICT
        assert found.conflicting < 0.06
        assert found.unexpected < 0.12
        assert found.unexplained < 0.08


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cause": "hematom"}, "hematoma"),
        ({"against": "leukaemiaa"}, "not a cause"),
        ({"cause": "emh", "against": "emh"}, "with itself"),
    ],
)
def test_bad_causes_are_refused(model: edx.Model, options: dict[str, str], message: str) -> None:
    """An unknown cause, or one against itself, is one clear sentence."""
    with pytest.raises(EvidenceError, match=message):
        consult(model, BLEEDING, **options)


# --------------------------------------------------------------------------- words


def test_phrases_are_about_the_models_own_names(model: edx.Model) -> None:
    """No phrase is left over from a variable, state, cause or driver that no longer exists."""
    for phrases in (FINDINGS, CONDITIONS):
        for variable, states in phrases.items():
            assert variable in model.variables, variable
            assert set(states) <= set(model.variables[variable].states), variable
    assert set(CAUSES) == set(model.causes)
    assert set(MECHANISMS) <= {m.name for m in model.mechanisms}
    assert set(DRIVERS) <= {m.driver for m in model.mechanisms}


@pytest.mark.parametrize(
    ("phrases", "expected"),
    [
        (["a"], "a"),
        (["a dark T1 signal", "a bright T1 signal"], "a dark or a bright T1 signal"),
        (["one of the spine", "two of the spine"], "one or two of the spine"),
        (["edema of the marrow", "normal marrow"], "edema of the marrow or normal marrow"),
        (["x", "y", "z"], "x, y or z"),
    ],
)
def test_alternatives_say_a_common_end_once(phrases: list[str], expected: str) -> None:
    """What all phrases end with stands once, unless a phrase would be left hanging."""
    assert alternatives(phrases) == expected
    assert listed(["x", "y", "z"]) == "x, y and z"


def test_findings_read_as_they_were_given(model: edx.Model) -> None:
    """Numbers keep their unit, alternatives are joined, a negation is one."""
    read = model.read_evidence(
        {
            "hemoglobin": "79 g/L",
            "t1_signal": ["iso", "hypo"],
            "enhancement": {"not": "rim"},
            "fever": "absent",
            "age_years": 30,
        }
    )
    words = {name: finding_words(model, read, name) for name in read.entries}
    assert words["hemoglobin"] == "hemoglobin 79 g/L"
    assert words["t1_signal"] == "a dark or an isointense T1 signal"
    assert words["enhancement"] == "not rim enhancement"
    assert words["fever"] == "no fever"
    assert words["age_group"] == "the age of 30 years"
    assert state_words(model, "fever", "present") == "fever"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.99999, "more than 99.9 %"), (0.5, "50 %"), (0.012, "1.2 %"), (0.0004, "0.04 %"),
     (0.0, "less than 0.01 %")],
)
def test_nothing_possible_is_written_as_certain(value: Any, expected: str) -> None:
    """Probabilities near 0 and 1 are bounded in words."""
    assert share(value) == expected
    assert ratio(1.04) == "1.0"
    assert ratio(0.123) == "0.12"
    assert ratio(20.4) == "20"
    assert ratio(1234.5) == "1,200"
    assert ratio(3e9) == "over a million"


def test_a_cause_that_the_findings_exclude_can_be_asked_about(model: edx.Model) -> None:
    """An excluded cause gets a letter too: its likelihood ratio is 0 or infinite, not an error."""
    found = consult(model, {"lesion_cause": "cyst"}, cause="emh", orders=10)
    assert dict(letter(found))["Impression"]
    json.dumps(found.as_dict(), allow_nan=True)
