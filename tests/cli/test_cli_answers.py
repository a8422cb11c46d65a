"""Good input: what the commands print, as documents and for people."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_runs import CASES, ROOT, Command, Ran

import epidural_dx as edx
from epidural_dx.clinical.case import read_case

CASE = str(CASES / "melanoma_marrow_hematoma.yaml")
STAGES = [
    "presentation",
    "blood",
    "mri",
    "operation",
    "marrow",
    "re_examination",
    "immunohistochemistry",
]
HEAVY = ("pandas", "pgmpy", "pint", "arviz", "matplotlib", "numba")
#: Needed to build tables and to sample large panels, not to answer.
BUILDING = ("scipy", "networkx")


def document(ran: Ran) -> dict[str, Any]:
    """Return the one document that a command printed."""
    assert (ran.code, ran.err) == (0, "")
    loaded = json.loads(ran.out)
    assert isinstance(loaded, dict)
    return loaded


def shown(ran: Ran) -> str:
    """Return what a command printed for people, on one line."""
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in ran.out
    return " ".join(ran.out.split())


def in_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from epidural_dx.cli import main; main()", *arguments],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        check=False,
    )


# ------------------------------------------------------------------------------ diagnose


def test_the_document_has_the_agreed_keys_and_the_models_numbers(
    command: Command, model: edx.Model
) -> None:
    """``diagnose --json`` prints one document, with the probabilities of the Python interface."""
    found = document(command("diagnose", CASE, "--stage", "mri", "--json"))
    answer = model.diagnose(read_case(CASE).evidence("mri").raw)
    assert {"model", "causes", "etiology", "conditions", "next_tests", "warnings"} <= set(found)
    assert found["model"]["digest"] == model.digest
    assert {"cause", "probability", "lower", "upper"} <= set(found["causes"][0])
    assert {"name", "cause", "driver", "probability"} <= set(found["etiology"][0])
    assert found["causes"][0]["cause"] == answer.causes.index[0]
    for row in found["causes"]:
        assert row["probability"] == pytest.approx(answer.causes[row["cause"]], abs=1e-9)
    assert sum(row["probability"] for row in found["etiology"]) == pytest.approx(1)
    for states in found["conditions"].values():
        assert sum(states.values()) == pytest.approx(1)
    assert {"test", "information_bits"} <= set(found["next_tests"][0])
    assert {"code", "message", "variables"} <= set(found["warnings"][0])
    assert found["stage"] == "mri"


def test_every_stage_is_one_entry_and_the_last_is_the_answer(command: Command) -> None:
    """``--all-stages --json`` lists the stages in order; the last equals the plain answer."""
    found = document(command("diagnose", CASE, "--all-stages", "--no-tests", "--json"))
    assert [stage["stage"] for stage in found["stages"]] == STAGES
    plain = document(command("diagnose", CASE, "--no-tests", "--json"))
    assert found["stages"][-1]["causes"] == plain["causes"]
    assert found["stages"][0]["changes"] is None
    assert "platelets" in found["stages"][1]["changes"]["new_findings"]


def test_changes_are_those_between_two_stages(command: Command) -> None:
    """What a stage changed is the difference between its answer and the one before."""
    found = document(command("diagnose", CASE, "--all-stages", "--no-tests", "--json"))
    for before, now in zip(found["stages"], found["stages"][1:], strict=False):
        old = {row["cause"]: row["probability"] for row in before["causes"]}
        new = {row["cause"]: row["probability"] for row in now["causes"]}
        moved = {row["cause"]: (row["before"], row["now"]) for row in now["changes"]["causes"]}
        for cause, (was, is_now) in moved.items():
            assert (was, is_now) == (old[cause], new[cause])
        assert set(moved) == {c for c in new if abs(new[c] - old[c]) >= 0.02}


def test_people_see_causes_drivers_conditions_tests_and_the_notice(command: Command) -> None:
    """The readable answer names the leading cause, what drives it, tests and the warning."""
    text = shown(command("diagnose", CASE, "--stage", "mri"))
    for words in (
        "stage 3 of 7",
        "hematoma",
        "dic",
        "marrow_infiltration",
        "hemostasis",
        "Next tests",
        "bone_marrow_biopsy",
        "New:",
        "t1_signal",
        "No lumbar puncture",
        "Not a medical device",
    ):
        assert words in text


def test_intervals_hold_the_probability_and_can_be_left_out(command: Command) -> None:
    """Every cause has a 90 % interval in order; without them the limits are null."""
    found = document(command("diagnose", CASE, "--stage", "mri", "--no-tests", "--json"))
    for row in found["causes"]:
        assert 0 <= row["lower"] <= row["upper"] <= 1
    lean = ("diagnose", CASE, "--stage", "mri", "--no-tests", "--no-intervals")
    for row in document(command(*lean, "--json"))["causes"]:
        assert row["lower"] is None and row["upper"] is None
    # the heading of the column, wherever a probability happens to be 90 % too
    assert "cause 90 %" not in shown(command(*lean))
    assert "cause 90 %" in shown(command(*lean[:-1]))


def test_all_stages_are_shown_in_turn(command: Command) -> None:
    """The README's first command shows every stage of the patient, in order."""
    text = shown(command("diagnose", CASE, "--all-stages", "--no-tests"))
    places = [text.index(f"{name} · stage {i} of 7") for i, name in enumerate(STAGES, start=1)]
    assert places == sorted(places)


@pytest.mark.parametrize("width", ["80", "120"])
def test_lines_fit_the_terminal(
    command: Command, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    """No line is longer than the terminal is wide."""
    monkeypatch.setenv("COLUMNS", width)
    for arguments in (
        ("diagnose", CASE, "--all-stages", "--no-tests"),
        ("explain", CASE),
        ("tests",),
        ("causes",),
        ("sources", "--topic", "marrow-complications"),
    ):
        ran = command(*arguments)
        assert ran.code == 0
        assert max(map(len, ran.out.splitlines())) <= int(width)


def test_settings_add_replace_and_deny_findings(command: Command, model: edx.Model) -> None:
    """``--set`` replaces the case's finding; a|b is one of these, !a anything but."""
    found = document(
        command(
            "diagnose",
            "emh_tdt_paraspinal",
            "--no-tests",
            "--json",
            *("--set", "age=70", "--set", "t1_signal=iso|hypo", "--set", "enhancement=!rim"),
        )
    )
    evidence = found["evidence"]
    assert evidence["age_group"]["states"] == ["age_60_plus"]
    assert evidence["t1_signal"]["states"] == ["hypo", "iso"]
    others = [s for s in model.variables["enhancement"].states if s != "rim"]
    assert evidence["enhancement"]["states"] == others


def test_a_flat_case_from_standard_input_and_from_an_argument(
    command: Command, model: edx.Model
) -> None:
    """A case may be piped in or stand on the command line; both give the same answer."""
    flat = '{"age_years": 67, "sex": "male", "known_myeloma": "present"}'
    piped = document(command("diagnose", "-", "--no-tests", "--json", stdin=flat.encode()))
    typed = document(command("diagnose", flat, "--no-tests", "--json"))
    assert piped["causes"] == typed["causes"]
    expected = model.diagnose(json.loads(flat)).ranked_causes()
    assert [row["cause"] for row in piped["causes"]] == [cause for cause, _ in expected]


def test_scenario_and_mix_change_the_base_rates(command: Command, tmp_path: Path) -> None:
    """``--scenario`` and ``--cause-mix`` reach the model: before any finding, the mix comes out."""
    plain = document(command("diagnose", '{"sex": "unknown"}', "--no-tests", "--json"))
    child = document(
        command("diagnose", '{"sex": "unknown"}', "--no-tests", "--json", "--scenario", "child")
    )
    assert child["model"]["scenario"] == "child"
    assert child["causes"] != plain["causes"]
    names = sorted(row["cause"] for row in plain["causes"])
    mix = tmp_path / "mix.yaml"
    mix.write_text("".join(f"{name}: {i + 1}\n" for i, name in enumerate(names)))
    mixed = document(
        command("diagnose", '{"sex": "unknown"}', "--no-tests", "--json", "--cause-mix", str(mix))
    )
    shares = {row["cause"]: row["probability"] for row in mixed["causes"]}
    total = sum(range(1, len(names) + 1))
    for i, name in enumerate(names):
        assert shares[name] == pytest.approx((i + 1) / total, abs=1e-6)


# ------------------------------------------------------------------- next-tests, explain


def test_tests_come_best_first_in_the_order_asked_for(command: Command) -> None:
    """``next-tests`` sorts the tests that can be done now by what it is asked for."""
    found = document(command("next-tests", CASE, "--stage", "mri", "--json"))
    assert found["target"] == ["etiology", "marrow_infiltration"]
    bits = [row["information_bits"] for row in found["next_tests"] if row["when"] == "now"]
    assert bits == sorted(bits, reverse=True)
    assert min(bits) >= -1e-12
    about_cause = document(
        command("next-tests", CASE, "--stage", "mri", "--target", "lesion_cause", "--json")
    )
    assert about_cause["target"] == ["lesion_cause"]
    by_test = {row["test"]: row["information_bits"] for row in found["next_tests"]}
    for row in about_cause["next_tests"]:
        # the cause is a function of the etiology: a test cannot tell more about it
        slack = 4 * row["standard_error"] + 0.02
        assert row["information_bits"] <= by_test[row["test"]] + slack


def test_the_tests_of_diagnose_are_those_of_next_tests(command: Command) -> None:
    """Both commands rank alike."""
    one = document(command("diagnose", "emh_tdt_paraspinal", "--json"))["next_tests"]
    other = document(command("next-tests", "emh_tdt_paraspinal", "--json"))["next_tests"]
    assert one == other


def test_explain_takes_each_finding_away(command: Command, model: edx.Model) -> None:
    """The probability without a finding is the answer to the case without it."""
    found = document(command("explain", "emh_tdt_paraspinal", "--json"))
    case = read_case(CASES / "emh_tdt_paraspinal.yaml")
    raw = dict(case.evidence(canonical=model.canonical_name).raw)
    assert found["findings"]
    for row in found["findings"][:3]:
        rest = {k: v for k, v in raw.items() if model.canonical_name(k) != row["finding"]}
        assert row["probability_without"] == pytest.approx(
            dict(model.diagnose(rest).ranked_causes())[found["cause"]], abs=1e-9
        )


def test_explain_writes_a_letter_with_its_sources(command: Command) -> None:
    """The letter has its paragraphs, numbered sources, and the notice."""
    text = shown(command("explain", CASE, "--stage", "mri"))
    for words in (
        "Impression",
        "Full stories",
        "For and against epidural hematoma",
        "What lies behind it",
        "Epidural hematoma or leukemia?",
        "What would change this",
        "What is not known and would matter",
        "Do the findings fit together",
        "[1]",
        "Not a medical device",
    ):
        assert words in text


def test_explain_compares_and_tabulates_what_is_asked_for(command: Command) -> None:
    """``--cause`` and ``--against`` choose the two; ``--table`` gives a row for every finding."""
    asked = ("explain", "emh_tdt_paraspinal", "--cause", "lymphoma", "--against", "leukemia")
    found = document(command(*asked, "--json"))
    assert (found["cause"], found["rival"]) == ("lymphoma", "leukemia")
    assert {p["heading"] for p in found["letter"]} >= {"Impression"}
    total = sum(row["decibans"] for row in found["contributions"]["findings"])
    assert total == pytest.approx(
        found["contributions"]["posterior_decibans"] - found["contributions"]["prior_decibans"]
    )
    text = shown(command(*asked, "--table"))
    assert "regular transfusion" in text and "alone" in text


def test_explain_draws_the_same_picture_for_the_same_answer(
    command: Command, tmp_path: Path, model: edx.Model
) -> None:
    """``--plot`` writes the format of its ending, byte by byte the same."""
    from epidural_dx.analysis.consultation import consult
    from epidural_dx.cli.explaining import draw

    first = tmp_path / "first.svg"
    assert command("explain", "multifocal_aml", "--plot", str(first)).code == 0
    found = consult(model, model.read_evidence(read_case(CASES / "multifocal_aml.yaml")))
    for ending, start in ((".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF-")):
        pictures = []
        for name in ("one", "two"):
            out = tmp_path / f"{name}{ending}"
            draw(found, out)
            pictures.append(out.read_bytes())
        assert pictures[0] == pictures[1]
        assert pictures[0].startswith(start)
    assert first.read_bytes().startswith(b"<?xml")


# ---------------------------------------------------------------------- score, validate


def test_a_cohort_is_scored_row_by_row(command: Command, tmp_path: Path, model: edx.Model) -> None:
    """``score`` writes one row per patient, equal to its single diagnosis; empty is unknown."""
    path, out = tmp_path / "cohort.csv", tmp_path / "out.csv"
    path.write_text(
        "patient,age_years,sex,known_myeloma,platelets,t1_signal\n"
        "a,67,male,yes,,\nb,14,female,,24 10^9/L,iso|hyper\nc,,,,,\n"
    )
    ran = command("score", str(path), "--out", str(out))
    assert (ran.code, ran.err) == (0, "")
    with out.open(newline="") as handle:
        rows = {row["patient"]: row for row in csv.DictReader(handle)}
    assert list(rows) == ["a", "b", "c"]
    cases: dict[str, dict[str, object]] = {
        "a": {"age_years": 67, "sex": "male", "known_myeloma": "present"},
        "b": {
            "age_years": 14,
            "sex": "female",
            "platelets": "24 10^9/L",
            "t1_signal": ["iso", "hyper"],
        },
        "c": {},
    }
    for name, findings in cases.items():
        expected = model.diagnose(findings).ranked_causes()
        assert rows[name]["leading_cause"] == expected[0][0]
        for cause, p in expected:
            assert float(rows[name][f"cause.{cause}"]) == pytest.approx(p, abs=1e-9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cohort.csv", "out.csv"]


def test_cases_with_a_known_cause_are_validated(command: Command) -> None:
    """``validate`` scores the published patients of the checkout under both priors."""
    found = document(command("validate", str(CASES), "--json"))
    assert {row["prior"] for row in found["scores"]} == {"base_rates", "mix"}
    text = shown(command("validate", str(CASES)))
    assert "log score" in text and "model minus naive Bayes" in text
    assert "bootstrap over patients" in text

    alone = shown(command("validate", CASE))
    assert "No intervals" in alone and not re.search(r"\d \[-?\d", alone)


def test_a_mix_of_ones_own_replaces_that_of_the_collection(
    command: Command, tmp_path: Path, model: edx.Model
) -> None:
    """``--cause-mix`` becomes the second prior, scaled to 1."""
    path = tmp_path / "mix.yaml"
    path.write_text("".join(f"{cause}: {i + 1}\n" for i, cause in enumerate(model.causes)))
    found = document(command("validate", str(CASES), "--cause-mix", str(path), "--json"))
    shares = list(found["priors"]["mix"].values())
    assert sum(shares) == pytest.approx(1.0)
    assert shares[3] == pytest.approx(4 * shares[0])


# -------------------------------------------------------------------------------- check


def test_check_counts_every_column_once_and_compares_the_scenarios(command: Command) -> None:
    """Coverage by cause and by variable each add up to all columns; shares add up to 1."""
    ran = command("check", "--json")
    assert ran.code == 0
    assert all(line.startswith("Compiling scenario ") for line in ran.err.splitlines())
    found = json.loads(ran.out)
    for grade in ("columns", "counted", "estimated", "expert", "assumed"):
        assert sum(c[grade] for c in found["by_cause"]) == found["coverage"][grade]
        assert sum(c[grade] for c in found["by_variable"]) == found["coverage"][grade]
    assert len(found["weakest"]) == 10
    assert all(spot["ess"] > 0 and spot["use_bits"] >= 0 for spot in found["weakest"])
    assert {"general_adult", "child", "high_tuberculosis"} <= {
        row["scenario"] for row in found["scenarios"]
    }
    for row in found["scenarios"]:
        assert sum(v for k, v in row.items() if k != "scenario") == pytest.approx(1)
    assert any(row["fitted"] for row in found["rates"])
    for row in found["rates"]:
        assert row["verdict"] in ("met", "within", "differs")
        assert (row["verdict"] == "met") == (abs(row["residual"]) <= 0.1)
    assert not [r for r in found["rates"] if r["fitted"] and r["verdict"] == "differs"]
    assert found["size"]["multiply_adds"] > 0
    assert {p.stem for p in CASES.glob("*.yaml")} == set(found["size"]["multiply_adds_of_patients"])


# ------------------------------------------------------- variables, tests, causes, sources


def test_what_the_model_knows_is_listed(command: Command, model: edx.Model) -> None:
    """``variables``, ``tests`` and ``causes`` list everything, as documents and for people."""
    variables = document(command("variables", "--json"))["variables"]
    assert [v["name"] for v in variables] == list(model.variables)
    tests = document(command("tests", "--json"))["tests"]
    assert set(model.tests) <= {t["test"] for t in tests}
    causes = document(command("causes", "--json"))["causes"]
    assert {c["cause"] for c in causes} == set(model.causes)
    for cause in causes:
        parts = sum(m["base_rate"] for m in cause["mechanisms"])
        assert parts == pytest.approx(cause["base_rate"])
    assert "bone_marrow_biopsy" in shown(command("tests"))
    assert "hematoma_dic" in shown(command("causes", "hematoma"))
    one = shown(command("variables", "plt"))
    assert "platelets" in one and "very_low" in one and "cbc" in one


MISSION = {
    "primary-sites": ["All melanomas", "Melanoma in the bone marrow"],
    "marrow-complications": [
        "Disseminated intravascular coagulation",
        "Anemia",
        "Leukocytosis",
        "Thrombocytopenia",
        "Pancytopenia",
        "Coagulopathy",
        "Carcinocythemia",
        "Microangiopathic hemolytic anemia",
        "Leukoerythroblastic smear",
        "Hypercalcemia",
    ],
    "skeletal-events": [
        "Bone pain",
        "Pathological fracture",
        "Cord compression",
        "Hypercalcemia",
        "Radiotherapy to bone",
        "Bone surgery",
    ],
    "emh-in-thalassemia": ["TDT", "NTDT", "beside the spine", "spinal canal"],
}


@pytest.mark.parametrize("topic", list(MISSION))
def test_every_topic_of_the_mission_is_reachable_with_its_sources(
    command: Command, topic: str
) -> None:
    """Each figure of a topic has a number and a citation; every heading is there."""
    found = document(command("sources", "--topic", topic, "--json"))
    labels = [part["label"] for part in found["parts"]]
    for heading in MISSION[topic]:
        assert any(heading in label for label in labels)
    for part in found["parts"]:
        assert part["rows"] or part["tallies"]
        for row in part["rows"]:
            assert row["point"] is not None or row["k"] is not None
            assert row["citation"]
        for row in part["tallies"]:
            assert row["recomputed_k"] is not None and row["citation"]
    text = shown(command("sources", "--topic", topic))
    assert "[1]" in text
    for label in labels:
        assert label in text


def test_tallies_of_the_patient_table_stand_beside_the_printed_ones(command: Command) -> None:
    """The marrow complications hold the recounted tallies, with the two that differ."""
    parts = document(command("sources", "--topic", "marrow-complications", "--json"))["parts"]
    tallies = {row["quantity"]: row for part in parts for row in part["tallies"]}
    path = ROOT / "priors" / "patients" / "melanoma_marrow_infiltration_tallies.csv"
    with path.open(newline="") as handle:
        for row in csv.DictReader(handle):
            if row["quantity"] in tallies:
                assert tallies[row["quantity"]]["recomputed_k"] == int(row["recomputed_k"])
    differing = {q for q, row in tallies.items() if row["difference"]}
    assert differing == {"pancytopenia", "leukoerythroblastic"}


def test_sources_are_found_by_text_variable_and_cause(command: Command) -> None:
    """A search returns exactly the rows that hold the words, the variable, the cause."""
    by_doi = document(command("sources", "10.3389/fmed.2025.1601774", "--json"))
    assert by_doi["rows"]
    assert all("10.3389/fmed.2025.1601774" in json.dumps(row) for row in by_doi["rows"])
    by_variable = document(command("sources", "--variable", "enhancement", "--json"))
    assert by_variable["rows"]
    for row in by_variable["rows"]:
        assert "enhancement" in (row["variable"], row["model_variable"])
    both = document(command("sources", "--variable", "enhancement", "--cause", "abscess", "--json"))
    ids = {row["id"] for row in both["rows"]}
    assert ids and ids < {row["id"] for row in by_variable["rows"]}
    assert "No figure and no source matches" in shown(command("sources", "zzzyx"))
    assert "primary-sites" in shown(command("sources"))


# ---------------------------------------------------------------------------- behaviour


def test_version_and_help_are_short(command: Command) -> None:
    """``--version`` prints one line; ``--help`` lists every verb and fits a screen."""
    assert command("--version").out == f"epidural-dx {edx.__version__}\n"
    text = command("--help").out
    for verb in (
        *("diagnose", "next-tests", "explain", "score", "validate"),
        *("check", "variables", "tests", "causes", "sources", "export"),
    ):
        assert verb in text
        assert command(verb, "--help").code == 0
    assert len(text.splitlines()) < 30
    assert command().out == text


def test_diagnosing_imports_nothing_heavy(command: Command) -> None:
    """From the stored model, one patient is answered without the libraries that start slowly."""
    command("diagnose", CASE, "--no-tests", "--json")  # stores the model and its draws
    code = (
        "import sys\n"
        "from epidural_dx.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n"
        f"    print(*(m for m in {HEAVY + BUILDING!r} if m in sys.modules), file=sys.stderr)\n"
    )
    for extra in (["--no-tests"], ["--no-tests", "--json"], []):
        ran = subprocess.run(
            [sys.executable, "-c", code, "diagnose", CASE, *extra],
            capture_output=True,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            check=False,
        )
        assert ran.returncode == 0
        loaded = ran.stderr.decode().split()
        assert not set(loaded) & set(HEAVY)
        if extra:
            assert not set(loaded) & set(BUILDING)


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """A closed pipe ends the program quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    ran = subprocess.run(
        [sys.executable, "-c", "from epidural_dx.cli import main; main()", "sources"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    os.close(writer)
    assert ran.returncode == 0
    assert ran.stderr == b""


def test_an_old_encoding_shows_plain_bars() -> None:
    """Where the terminal knows no blocks, bars are made of # and nothing breaks."""
    ran = in_process("causes", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert ran.returncode == 0
    assert b"####" in ran.stdout
    assert ran.stdout.isascii()


def test_colour_appears_only_where_it_is_wanted() -> None:
    """Colour is forced on by FORCE_COLOR, off by NO_COLOR, and off when not on a terminal."""
    assert b"\x1b[" not in in_process("causes").stdout
    forced = in_process("causes", FORCE_COLOR="1", TERM="xterm-256color").stdout
    assert b"\x1b[" in forced
    plain = in_process("causes", NO_COLOR="1", FORCE_COLOR="1", TERM="xterm-256color").stdout
    assert b"\x1b[36m" in forced and b"\x1b[36m" not in plain
