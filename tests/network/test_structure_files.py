"""Reading networks/*.yaml: what is wrong is named with file, line and the nearest right name."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from epidural_dx.errors import ModelError
from epidural_dx.network.structure import Structure, read_structure, read_yaml

SOUND = """\
variables:
  etiology: {label: Etiology, group: target, table: {method: mechanisms}}
  lesion_cause:
    label: Cause
    group: target
    states: [hematoma, abscess]
    parents: [etiology]
    table: {method: lesion_cause}
  lesion_subtype:
    label: Subtype
    group: latent
    states: [early, late, abscess]
    parents: [etiology]
    table: {method: lesion_subtype}
  diabetes: {group: history, states: [absent, present], table: {method: prevalence}}
  fever:
    {label: Fever, group: symptom, states: [absent, present],
    parents: [lesion_subtype, diabetes], table: {method: pooled}}
"""
MECHANISMS = """\
mechanisms:
  clot: {cause: hematoma, driver: none, rate: {kind: baseline}}
  pus:
    cause: abscess
    driver: diabetes
    rate: {kind: excess, given: diabetes, state: present}
    requires: {diabetes: [present]}
subtypes:
  hematoma: {early: phase, late: phase}
"""
TESTS = """\
tests:
  bedside: [fever]
  everything: {contains: [bedside], findings: [diabetes]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a small, sound networks folder of three files."""
    for name, text in (("a", SOUND), ("b", MECHANISMS), ("c", TESTS)):
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def change(folder: Path, name: str, old: str, new: str) -> None:
    """Replace a piece of text that stands once in a file."""
    path = folder / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def failure(folder: Path) -> ModelError:
    """Read the folder and give the error, which is one line."""
    with pytest.raises(ModelError) as caught:
        read_structure(folder)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_sound_folder_is_read(folder: Path) -> None:
    """Parents come before children, mechanisms are the states of etiology, tests contain tests."""
    structure = read_structure(folder)
    order = list(structure.nodes)
    for name, node in structure.nodes.items():
        assert all(order.index(p) < order.index(name) for p in node.parents)
    assert structure.nodes["etiology"].states == ("clot", "pus")
    assert structure.tests["everything"] == ("fever", "diabetes")
    assert structure.mechanisms["pus"].requires == {"diabetes": ("present",)}
    assert (structure.nodes["fever"].file, structure.nodes["fever"].line) == ("a.yaml", 16)


ROW = "    {label: Fever, group: symptom, states: [absent, present],"


@pytest.mark.parametrize(
    ("name", "old", "new", "sentence", "where"),
    [
        (
            "a",
            "parents: [lesion_subtype, diabetes]",
            "parents: [lesion_subtype, diabetis]",
            "unknown parent 'diabetis'; did you mean 'diabetes'?",
            ("a.yaml", 16, "fever"),
        ),
        (
            "a",
            "states: [absent, present], table: {method: prevalence}",
            "states: [absent, present], parents: [fever], table: {method: prevalence}",
            "the arcs form a cycle: ",
            ("a.yaml", None, None),
        ),
        ("a", "  fever:", "  Fever:", "a name must be lower-case letters", ("a.yaml", 16, "Fever")),
        ("a", ROW, ROW.replace("absent", '">=5"'), "is no identifier", ("a.yaml", 16, "fever")),
        (
            "a",
            ROW,
            ROW.replace("absent", "1839"),
            "the state 1839 is no identifier",
            ("a.yaml", 16, "fever"),
        ),
        (
            "a",
            ROW,
            ROW.replace("[absent, present]", "[present]"),
            "a variable needs at least two states",
            ("a.yaml", 16, "fever"),
        ),
        (
            "a",
            ROW,
            ROW.replace("[absent, present]", "absent"),
            "states must be a list, got 'absent'",
            ("a.yaml", 16, "fever"),
        ),
        (
            "a",
            ROW,
            ROW.replace("absent", "present"),
            "a state stands twice",
            ("a.yaml", 16, "fever"),
        ),
        (
            "a",
            "parents: [lesion_subtype, diabetes]",
            "parents: diabetes",
            "parents must be a list, got 'diabetes'",
            ("a.yaml", 16, "fever"),
        ),
        (
            "a",
            "parents: [lesion_subtype, diabetes]",
            "parents: [diabetes, diabetes]",
            "a parent stands twice",
            ("a.yaml", 16, "fever"),
        ),
        ("a", ROW, ROW.replace("symptom", "symptoms"), "group 'symptoms'", ("a.yaml", 16, "fever")),
        (
            "a",
            ROW,
            ROW.replace("states", "state"),
            "unknown key 'state'; allowed are",
            ("a.yaml", 16, "fever"),
        ),
        (
            "a",
            "table: {method: pooled}",
            "table: {pooled: yes}",
            "the table needs a method",
            ("a.yaml", 16, "fever"),
        ),
        (
            "a",
            "  diabetes: {group",
            "  fever: {group",
            "the key 'fever' stands twice",
            ("a.yaml", 16, None),
        ),
        (
            "a",
            "variables:",
            "variable:",
            "unknown section 'variable'",
            ("a.yaml", None, "variable"),
        ),
        (
            "a",
            "  etiology: {",
            "  etiologie: {states: [a, b], ",
            "the variable 'etiology' is missing",
            (None, None, "etiology"),
        ),
        (
            "b",
            "cause: hematoma",
            "cause: hematome",
            "did you mean 'hematoma'?",
            ("b.yaml", 2, "clot"),
        ),
        (
            "b",
            "requires: {diabetes: [present]}",
            "requires: {diabetis: [present]}",
            "unknown condition 'diabetis'; did you mean 'diabetes'?",
            ("b.yaml", 3, "pus"),
        ),
        (
            "b",
            "requires: {diabetes: [present]}",
            "requires: {diabetes: [yes_it_is]}",
            "'yes_it_is' is no state of diabetes; states are absent, present",
            ("b.yaml", 3, "pus"),
        ),
        (
            "b",
            "given: diabetes",
            "given: diabetis",
            "unknown condition 'diabetis'",
            ("b.yaml", 3, "pus"),
        ),
        (
            "b",
            "rate: {kind: baseline}",
            "rate: {kind: base}",
            "rate.kind must be baseline, excess or by_state",
            ("b.yaml", 2, "clot"),
        ),
        (
            "b",
            "rate: {kind: baseline}",
            "rate: {kind: baseline}, known: diabetes_knwon",
            "unknown condition 'diabetes_knwon'",
            ("b.yaml", 2, "clot"),
        ),
        (
            "b",
            "{early: phase,",
            "{earli: phase,",
            "'earli' is no state of lesion_subtype; did you mean 'early'?",
            (None, None, "subtypes.hematoma"),
        ),
        (
            "c",
            "[fever]",
            "[fewer]",
            "unknown finding 'fewer'; did you mean 'fever'?",
            ("c.yaml", 2, "bedside"),
        ),
        (
            "c",
            "contains: [bedside]",
            "contains: [beside]",
            "unknown test 'beside'; did you mean 'bedside'?",
            ("c.yaml", 3, "everything"),
        ),
        (
            "c",
            "bedside: [fever]",
            "bedside: {contains: [everything]}",
            "tests contain each other",
            ("c.yaml", None, None),
        ),
        ("c", "bedside: [fever]", "bedside:", "must list its findings", ("c.yaml", 2, "bedside")),
    ],
)
def test_an_error_names_file_line_and_name(
    folder: Path,
    name: str,
    old: str,
    new: str,
    sentence: str,
    where: tuple[str | None, int | None, str | None],
) -> None:
    """Every kind of slip is one sentence with its place, and the nearest right name if any."""
    change(folder, name, old, new)
    error = failure(folder)
    assert sentence in error.problem
    file, line, named = where
    if file is not None:
        assert str(error.file).endswith(file)
    if line is not None:
        assert error.line == line
    if named is not None:
        assert error.name == named


def test_a_cycle_is_spelled_out(folder: Path) -> None:
    """The message walks round the cycle and ends where it began."""
    change(
        folder,
        "a",
        "states: [absent, present], table: {method: prevalence}",
        "states: [absent, present], parents: [fever], table: {method: prevalence}",
    )
    walk = failure(folder).problem.removeprefix("the arcs form a cycle: ").split(" -> ")
    assert walk[0] == walk[-1]
    assert set(walk) == {"fever", "diabetes"}


def test_a_variable_may_not_stand_in_two_files(folder: Path) -> None:
    """The second declaration names the place of the first."""
    extra = "variables:\n  fever: {group: symptom, states: [a, b], table: {method: pooled}}\n"
    (folder / "d.yaml").write_text(extra, encoding="utf-8")
    error = failure(folder)
    assert error.problem == "the variable stands already in a.yaml:16"
    assert (error.line, error.name) == (2, "fever")


@pytest.mark.parametrize("kind", ["mechanisms", "tests"])
def test_mechanisms_and_tests_may_not_stand_in_two_files(folder: Path, kind: str) -> None:
    """A mechanism or test that a second file declares again is not silently replaced."""
    text = {
        "mechanisms": "mechanisms:\n  clot: {cause: abscess, rate: {kind: baseline}}\n",
        "tests": "tests:\n  bedside: [diabetes]\n",
    }[kind]
    (folder / "d.yaml").write_text(text, encoding="utf-8")
    error = failure(folder)
    assert "stands already in" in error.problem
    assert error.line == 2


@pytest.mark.parametrize(
    ("text", "sentence", "line"),
    [
        ("variables: {a: [1, 2\n", "the file is no valid YAML", 2),
        ("a: 1\nb: 2\na: 3\n", "the key 'a' stands twice", 3),
        ("- a\n- b\n", "the file must hold a mapping", 1),
        ("", "the file must hold a mapping", 1),
        ("a:\n  ? [b, c]\n  : d\n", "a key must be a plain name", 2),
        ("a: !!python/object:os.system {}\n", "the file is no valid YAML", 1),
    ],
)
def test_broken_yaml_has_its_line(tmp_path: Path, text: str, sentence: str, line: int) -> None:
    """What is no YAML, no mapping, or doubles a key is reported with its line."""
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        read_yaml(path)
    assert sentence in caught.value.problem
    assert caught.value.line == line


def test_wrong_encodings_and_missing_files_are_named(tmp_path: Path) -> None:
    """A file in another encoding, a missing file and an empty folder are one sentence each."""
    path = tmp_path / "x.yaml"
    with pytest.raises(ModelError, match="the file does not exist"):
        read_yaml(path)
    with pytest.raises(ModelError, match="no network files"):
        read_structure(tmp_path)
    path.write_bytes("subject: Hämatom\n".encode("latin-1"))
    with pytest.raises(ModelError, match="not UTF-8"):
        read_yaml(path)


def test_sections_must_be_mappings(tmp_path: Path) -> None:
    """A list where names are expected is refused, not a crash."""
    (tmp_path / "x.yaml").write_text("variables: [a, b]\n", encoding="utf-8")
    with pytest.raises(ModelError, match="variables: the section must be a mapping of names"):
        read_structure(tmp_path)


def test_second_level_names_know_their_lines(tmp_path: Path) -> None:
    """The line of every variable is the line of its key."""
    text = textwrap.dedent(
        """\
        variables:

          a: {x: 1}
          b:
            x: 1
          c: {x: 1}
        """
    )
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_yaml(path)[1] == {"a": 3, "b": 4, "c": 6}


@pytest.fixture(scope="module")
def packaged(networks: Path) -> Structure:
    """Read the packaged structure."""
    return read_structure(networks)


def test_the_fixed_causes_are_all_there(packaged: Structure) -> None:
    """The sixteen causes have their fixed names, and each has a mechanism."""
    fixed = (
        "hematoma abscess tuberculosis metastasis_melanoma metastasis_other lymphoma leukemia "
        "myeloma emh disc lipomatosis nerve_sheath_tumor vascular_malformation "
        "primary_bone_tumor cyst other"
    ).split()
    assert list(packaged.nodes["lesion_cause"].states) == fixed
    assert {m.cause for m in packaged.mechanisms.values()} == set(fixed)


def test_every_finding_can_be_revealed_or_told(packaged: Structure) -> None:
    """Every laboratory value, image and tissue result belongs to a test that can be ordered."""
    revealed = {finding for findings in packaged.tests.values() for finding in findings}
    for node in packaged.nodes.values():
        if node.group in ("laboratory", "imaging", "tissue", "examination"):
            assert node.name in revealed, node.name


def test_the_lumbar_puncture_is_no_test(packaged: Structure) -> None:
    """A puncture below the block is never offered."""
    assert "lumbar_puncture" not in packaged.tests
