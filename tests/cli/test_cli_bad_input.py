"""Bad input: exit 2, one clear line on standard error, nothing on standard output, no file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from cli_runs import CASES, ROOT, Command, Ran

CASE = str(CASES / "melanoma_marrow_hematoma.yaml")


def refused(ran: Ran, *words: str) -> None:
    """Check the exit code, the one line, and that it says what is wrong."""
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("epidural-dx: ")
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        ({"platlets": "low"}, ("platlets", "platelets")),
        ({"onset": "suden"}, ("onset", "suden", "sudden")),
        ({"hemoglobin": "7.9 furlong"}, ("hemoglobin", "furlong")),
        ({"platelets": "24000000 10^9/L"}, ("platelets",)),
        ({"age_years": 8, "age_group": "60_plus"}, ("age",)),
        ({"melanoma_stage": "none", "melanoma": "present"}, ("melanoma_stage", "melanoma")),
        ({"age_years": 340}, ("340",)),
        ({"fever": {"likelihood": {"present": 0.5}}}, ("fever", "absent")),
        ({"fever": {"not": "perhaps"}}, ("fever", "perhaps")),
        ({"fever": {"likelihood": {"present": 0, "absent": 0}}}, ("fever",)),
    ],
    ids=[
        "unknown variable",
        "unknown state",
        "wrong unit",
        "out of range",
        "contradiction",
        "impossible",
        "implausible age",
        "half a likelihood",
        "negation of nothing",
        "likelihood zero",
    ],
)
@pytest.mark.parametrize("verb", ["diagnose", "next-tests", "explain"])
def test_bad_findings_are_refused(
    command: Command, tmp_path: Path, verb: str, findings: dict[str, object], words: tuple[str, ...]
) -> None:
    """Findings that cannot be read or cannot be true are refused by every command on a case."""
    path = tmp_path / "case.json"
    path.write_text(json.dumps(findings))
    refused(command(verb, str(path)), *words)
    assert [p.name for p in tmp_path.iterdir()] == ["case.json"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"  \n# nothing\n", "empty"),
        (b"age_years: [14\nsex: female", "line"),
        ("pati\u00ebnt: \u00e9".encode("latin-1"), "UTF-8"),
        (b"- 1\n- 2\n", ""),
        (b"just words", ""),
        (b"age_years: 14\nage_years: 15\n", "age_years"),
        (b"stages:\n  - name: a\n    findngs: {}\n", "findngs"),
        (b"\x00\x01", ""),
    ],
    ids=["empty", "comment", "no YAML", "encoding", "list", "text", "twice", "key", "binary"],
)
def test_files_that_are_no_case_are_refused(
    command: Command, tmp_path: Path, content: bytes, word: str
) -> None:
    """A file, or standard input, that holds no case is refused with its name."""
    path = tmp_path / "case.yaml"
    path.write_bytes(content)
    refused(command("diagnose", str(path)), "case.yaml", word)
    refused(command("diagnose", "-", stdin=content), "standard input", word)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["diagnose", CASE, "--stage", "mrii"], ["mrii", "mri?"]),
        (["diagnose", CASE, "--scenario", "chld"], ["chld", "child"]),
        (["diagnose", "melanoma_marow_hematoma"], ["did you mean melanoma_marrow_hematoma?"]),
        (["diagnose", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["diagnose", str(CASES)], ["directory"]),
        (["diagnose", CASE, "--set", "fever"], ["fever", "variable=state"]),
        (["diagnose", CASE, "--set", "fevr=present"], ["--set", "fevr", "fever"]),
        (["diagnose", CASE, "--set", "fever=absent", "--set", "fever=present"], ["twice"]),
        (["diagnose"], ["CASE"]),
        (["diagnose", CASE, "--snomed"], ["--snomed", "--format fhir"]),
        (["diagnose", CASE, "--frobnicate"], ["--frobnicate"]),
        (["diagnos", CASE], ["diagnos"]),
        (["next-tests", CASE, "--by", "informatoin"], ["informatoin", "information"]),
        (["next-tests", CASE, "--target", "etiologi"], ["etiologi", "etiology"]),
        (["variables", "platlets"], ["platlets", "platelets"]),
        (["variables", "--group", "labratory"], ["labratory", "laboratory"]),
        (["tests", "mri_contrst"], ["mri_contrst", "mri_contrast"]),
        (["causes", "hematom"], ["hematom", "hematoma"]),
        (["sources", "--topic", "primary-site"], ["primary-sites"]),
        (["sources", "--variable", "platlets"], ["platelets"]),
        (["sources", "--cause", "hematom"], ["hematoma"]),
        (["validate", CASE, "--prior", "mixx"], ["mixx"]),
        (["validate", "nowhere.yaml"], ["nowhere.yaml"]),
        (["validate", CASE, "--report", "nowhere"], ["nowhere", "no folder"]),
        (["validate", "-", "--report", "."], ["standard input"]),
        (["validate", CASE, "--report", ".", "--json"], ["exclude"]),
        (["validate", CASE, "--cause-mix", "nowhere.yaml"], ["nowhere.yaml"]),
        (["explain", CASE, "--cause", "hematomma"], ["hematoma"]),
        (["explain", CASE, "--against", "hematomma"], ["hematoma"]),
        (["explain", CASE, "--cause", "emh", "--against", "emh"], ["itself"]),
        (["explain", CASE, "--plot", "picture.gif"], ["picture.gif", ".svg"]),
        (["explain", CASE, "--plot", "nowhere/picture.svg"], ["nowhere"]),
        (["check", "--model-card", "card.txt"], ["card.txt", ".md"]),
        (["check", "--model-card", "card.md", "--json"], ["exclude"]),
        (["check", "--priors", "nowhere"], ["nowhere"]),
    ],
    ids=lambda value: "-".join(Path(v).stem for v in value) if isinstance(value, list) else None,
)
def test_unknown_names_are_refused_with_the_nearest(
    command: Command, arguments: list[str], words: list[str]
) -> None:
    """An unknown stage, scenario, patient, test, cause or option is named, with what was meant."""
    refused(command(*arguments), *words)


def test_check_also_reads_what_only_other_programs_need(command: Command, copies: Path) -> None:
    """A table of codes that is gone is an error before the first record from a hospital."""
    data = ["--networks", str(copies / "networks"), "--priors", str(copies / "priors")]
    (copies / "priors" / "terminology.csv").rename(copies / "priors" / "terminolgy.csv")
    refused(command("check", *data), "terminology.csv", "does not exist")


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("networks/symptoms.yaml", "parents:", "parnets:", ("symptoms.yaml", "line", "parnets")),
        ("networks/symptoms.yaml", "variables:", "variables: [", ("symptoms.yaml", "line")),
        ("networks/lesion.yaml", "parents: [etiology]", "parents: [etiologi]", ("etiologi",)),
        ("networks/tests.yaml", "[smear]", "[smaer]", ("smaer", "tests.yaml", "smear")),
        ("networks/mechanisms.yaml", "cause: hematoma", "cause: hematom", ("hematom",)),
        (
            "priors/scenarios.yaml",
            "age_18_39: 0.355",
            "age_18_39: 0.455",
            ("scenarios.yaml", "sum"),
        ),
        ("priors/literature/emh.csv", ",pool,", ",pol,", ("emh.csv", "line", "pol")),
        ("priors/literature/emh.csv", "id,kind", "id,kid", ("emh.csv", "kind")),
        ("priors/sources.csv", "source_id,", "source,", ("sources.csv", "source_id")),
        ("priors/thresholds.csv", "platelets,", "platlets,", ("platlets",)),
        ("priors/pooling.yaml", "floor:", "flor:", ("pooling.yaml", "floor")),
    ],
)
def test_a_typing_error_in_the_data_is_named_with_its_file(
    command: Command, copies: Path, file: str, old: str, new: str, words: tuple[str, ...]
) -> None:
    """A network or prior file with one wrong word stops every command, and nothing is written."""
    path = copies / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    data = ["--networks", str(copies / "networks"), "--priors", str(copies / "priors")]
    refused(command("diagnose", CASE, *data), *words)
    refused(command("check", *data), *words)
    out = copies / "out.bif"
    refused(command("export", "--format", "bif", "--out", str(out), *data), *words)
    assert sorted(p.name for p in copies.iterdir()) == ["networks", "priors"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("variable: radiotherapy_to_bone", "variable: radiotherapy_too", ("Radiotherapy",)),
        ("variable: radiotherapy_to_bone", "varable: radiotherapy_to_bone", ("varable",)),
        ("topics:", "topcs:", ("topics",)),
        ("topics:", "topics: [", ("line",)),
    ],
)
def test_a_typing_error_in_a_topic_is_an_error(
    command: Command, copies: Path, old: str, new: str, words: tuple[str, ...]
) -> None:
    """A topic that selects nothing, or by a column that does not exist, is refused."""
    path = copies / "priors" / "topics.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    refused(
        command("sources", "--topic", "primary-sites", "--priors", str(copies / "priors")),
        "topics.yaml",
        *words,
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("hematom: 1\n", ("hematom",)),
        ("hematoma: many\n", ("hematoma", "many")),
        ("hematoma: -1\n", ("hematoma", "-1")),
        ("- hematoma\n", ("mapping",)),
        ("", ("mapping",)),
        ("hematoma: [1\n", ("mix.yaml",)),
    ],
)
def test_a_wrong_mix_of_causes_is_refused(
    command: Command, tmp_path: Path, content: str, words: tuple[str, ...]
) -> None:
    """A mix maps causes that exist to positive shares."""
    mix = tmp_path / "mix.yaml"
    mix.write_text(content)
    refused(command("diagnose", CASE, "--cause-mix", str(mix)), *words)


@pytest.mark.parametrize(
    ("cohort", "words"),
    [
        ("id,platlets\np1,24\n", ("platlets", "p1")),
        ("id,fever\np1,present\np2,maybe\n", ("p2", "fever", "maybe")),
        ("id,fever\np1,present,1\n", ("row 1",)),
        ("id,fever,fever\np1,present,absent\n", ("fever",)),
        ("id,melanoma_stage,melanoma\np1,,\np2,none,present\n", ("p2", "melanoma")),
        ("id,fever\n", ("no patient",)),
        ("", ("empty",)),
    ],
)
def test_a_wrong_cohort_writes_nothing(
    command: Command, tmp_path: Path, cohort: str, words: tuple[str, ...]
) -> None:
    """One bad row stops the whole table; an older result stays as it was."""
    path, out = tmp_path / "cohort.csv", tmp_path / "out.csv"
    path.write_text(cohort)
    out.write_text("older")
    refused(command("score", str(path), "--out", str(out)), "cohort.csv", *words)
    assert out.read_text() == "older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cohort.csv", "out.csv"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "xdsl", "--out", "x"], ["xdsl", "bif, xmlbif, json"]),
        (["--format", "xmlbf", "--out", "x"], ["xmlbf", "xmlbif"]),
        (["--format", "bif", "--out", "x", "--form", "absorbd"], ["absorbd", "absorbed"]),
        (["--format", "bif", "--out", "nowhere/x.bif"], ["nowhere/x.bif"]),
        (["--format", "bif"], ["--out"]),
    ],
)
def test_an_export_that_cannot_be_writes_nothing(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    words: list[str],
) -> None:
    """An unknown format or form, or a folder that is not there, leaves no file behind."""
    monkeypatch.chdir(tmp_path)
    refused(command("export", *options), *words)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_to_the_installed_program_shows_no_traceback(tmp_path: Path) -> None:
    """In a process of its own, too: exit code 2, one line, nothing printed."""
    ran = subprocess.run(
        [sys.executable, "-c", "from epidural_dx.cli import main; main()", "diagnose", "-"],
        input=b"fever: perhaps\n",
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stdout == b""
    assert ran.stderr.count(b"\n") == 1
    assert b"perhaps" in ran.stderr and b"Traceback" not in ran.stderr


def test_a_pipe_is_not_replaced_by_a_file(command: Command, tmp_path: Path) -> None:
    """Output to something that is no ordinary file is refused, and it stays what it was."""
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    cohort = tmp_path / "cohort.csv"
    cohort.write_text("id,fever\n1,present\n", encoding="utf-8")
    for arguments in (("score", str(cohort)), ("export", "--format", "json")):
        ran = command(*arguments, "--out", str(pipe))
        assert ran.code == 2
        assert "no ordinary file" in ran.err
        assert pipe.is_fifo()


def test_a_link_is_followed(command: Command, tmp_path: Path) -> None:
    """Output to a link goes into the file that the link names."""
    target, link = tmp_path / "target.csv", tmp_path / "link.csv"
    target.write_text("old", encoding="utf-8")
    link.symlink_to(target)
    cohort = tmp_path / "cohort.csv"
    cohort.write_text("id,fever\n1,present\n", encoding="utf-8")
    assert command("score", str(cohort), "--out", str(link)).code == 0
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8").startswith("id,")


def test_an_unknown_source_of_a_rate_is_refused(command: Command, copies: Path) -> None:
    """A rate whose source is not listed is named with file and line."""
    path = copies / "priors" / "rates.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[2, "source_id"] = "nosuch_source"
    table.to_csv(path, index=False)
    ran = command("causes", "--priors", str(copies / "priors"))
    assert ran.code == 2
    assert "nosuch_source" in ran.err and "rates.csv, line 4" in ran.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fever: &a {not: *a}\n", "alias *a"),
        ("fever: !!int abc\n", "tag"),
        (f"hemoglobin: {'9' * 400}\n", "not a number"),
        (f'{{"hemoglobin": {"9" * 5000}}}', "not a number"),
    ],
)
def test_hostile_values_get_one_sentence(command: Command, text: str, words: str) -> None:
    """Aliases, tags that do not fit and endless integers are refused, not a traceback."""
    ran = command("diagnose", "-", "--no-tests", stdin=text.encode())
    assert ran.code == 2
    assert words in ran.err
