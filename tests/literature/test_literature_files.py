"""Reading the literature base: every malformed file is one sentence with file, line and name."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from epidural_dx.errors import ModelError
from epidural_dx.literature.base import read_literature
from epidural_dx.literature.pooling import pool
from epidural_dx.literature.rows import EXPERT_COLUMNS, LITERATURE_COLUMNS

GOOD = {
    "id": "x-001",
    "kind": "finding",
    "cause": "hematoma",
    "variable": "fever",
    "state": "present",
    "k": "3",
    "n": "10",
    "unit": "proportion",
    "population": "adults",
    "verified": "seen",
    "source_id": "doi:10.1/x",
    "role": "case",
    "use": "pool",
    "given": "phase",
    "given_states": "early",
    "model_variable": "fever",
    "model_states": "present",
}
SOURCES = (
    "source_id,authors,title,journal,year,doi,pmid,pmcid,url\n"
    "doi:10.1/x,Doe,On fever,J Fever,2001,10.1/x,,,\n"
    "pmid:7,Roe,,J Chill,2002,,7,,\n"
)


def line(**cells: str) -> str:
    """Write one row of a literature file."""
    row = {**GOOD, **cells}
    return ",".join(row.get(c, "") for c in LITERATURE_COLUMNS) + "\n"


@pytest.fixture
def folder(tmp_path: Path, priors: Path) -> Path:
    """Make a small, sound priors folder."""
    (tmp_path / "literature").mkdir()
    (tmp_path / "elicited").mkdir()
    text = ",".join(LITERATURE_COLUMNS) + "\n" + line() + line(id="x-002")
    (tmp_path / "literature" / "area.csv").write_text(text, encoding="utf-8")
    (tmp_path / "sources.csv").write_text(SOURCES, encoding="utf-8")
    shutil.copy(priors / "pooling.yaml", tmp_path / "pooling.yaml")
    (tmp_path / "indirect.csv").write_text("id,why\n", encoding="utf-8")
    experts = ",".join(EXPERT_COLUMNS) + "\n"
    experts += "A,phase,early,,fever,present,0.4,4,judgement,\n"
    experts += "A,phase,early,,fever,absent,0.6,4,judgement,\n"
    (tmp_path / "elicited" / "lesion.csv").write_text(experts, encoding="utf-8")
    return tmp_path


def add(folder: Path, text: str, name: str = "literature/area.csv") -> None:
    """Append a row to a file of the folder."""
    path = folder / name
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def failure(folder: Path) -> ModelError:
    """Read the folder and give the error, which is one clear line."""
    with pytest.raises(ModelError) as caught:
        read_literature(folder)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_sound_folder_is_read(folder: Path) -> None:
    """Two figures, one source for each and one expert come out with the file's line numbers."""
    base = read_literature(folder)
    assert [f.id for f in base.figures] == ["x-001", "x-002"]
    assert [f.line for f in base.figures] == [2, 3]
    assert base.figure("x-002").proportion == pytest.approx(0.3)
    assert base.sources["pmid:7"].citation == "Roe. J Chill. 2002. PMID 7"
    columns = base.pooled_columns("fever", ["absent", "present"], "phase", ["early", "late"])
    assert columns["early"].rows == ("x-001", "x-002")
    assert columns["late"].grade == "assumed"


def test_an_unknown_row_is_a_key_error(folder: Path) -> None:
    """Asking for a row that does not exist fails instead of giving another."""
    with pytest.raises(KeyError, match="x-009"):
        read_literature(folder).figure("x-009")


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ({"id": "x-001"}, "the id stands already in area.csv:2"),
        ({"id": ""}, "the row has no id"),
        ({"k": "11"}, "k = 11 is above n = 10"),
        ({"k": "11", "use": "check"}, "k = 11 is above n = 10"),
        ({"k": "", "n": "", "point": "1.2"}, "the proportion 1.2 is outside 0..1"),
        ({"k": "", "n": "", "point": "-0.1"}, "the proportion -0.1 is outside 0..1"),
        ({"k": "", "n": "", "point": "7", "use": "check"}, "the proportion 7 is outside 0..1"),
        ({"k": "", "n": "", "point": ""}, "a pooled figure needs k and n, or point"),
        ({"k": "three"}, "k must be a number, got 'three'"),
        ({"n": "nan"}, "n must be a number, got 'nan'"),
        ({"role": "sase"}, "role 'sase' is not one of case, control"),
        ({"use": "pol"}, "use 'pol' is not one of pool, rate"),
        ({"source_id": ""}, "the figure has no source_id"),
        ({"source_id": "doi:10.1/y"}, "the source 'doi:10.1/y' is not in sources.csv"),
    ],
)
def test_a_wrong_figure_names_file_line_and_row(
    folder: Path, cells: dict[str, str], sentence: str
) -> None:
    """A wrong cell of the third row is reported with its file, line 4 and id."""
    row = {"id": "x-003", **cells}
    add(folder, line(**row))
    error = failure(folder)
    assert sentence in error.problem
    assert error.line == 4
    assert error.file is not None
    assert error.file.endswith("area.csv")
    assert error.name == (row["id"] or None) or (error.name, row["id"]) == ("", "")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x-003,finding\n", "the row has fewer cells than the header"),
        (line(id="x-003").rstrip("\n") + ",one,more\n", "the row has more cells than the header"),
        ('x-003,"open quote\n', "the file is no valid CSV"),
    ],
)
def test_a_ragged_row_is_refused(folder: Path, text: str, sentence: str) -> None:
    """Rows that are too short, too long or never closed are not read as something else."""
    add(folder, text)
    error = failure(folder)
    assert sentence in error.problem
    assert error.line == 4


def test_a_missing_column_is_named(folder: Path) -> None:
    """A file without the column `use` says so, on its first line."""
    path = folder / "literature" / "area.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",use,", ",usage,"), encoding="utf-8")
    error = failure(folder)
    assert error.problem.startswith("column 'use' is missing; found id, kind")
    assert (error.line, error.name) == (1, "use")


def test_another_encoding_is_refused_with_its_line(folder: Path) -> None:
    """A file in Latin-1 is not UTF-8; byte and line are those of the first wrong letter."""
    path = folder / "literature" / "area.csv"
    good = path.read_bytes()
    path.write_bytes(good + line(id="x-003", note="Köln").encode("latin-1"))
    error = failure(folder)
    wrong = good + line(id="x-003", note="Köln").encode("latin-1")
    assert f"not UTF-8 (byte {wrong.index(0xF6)})" in error.problem
    assert error.line == 4


def test_a_missing_file_is_named(folder: Path) -> None:
    """Without sources.csv nothing is read."""
    (folder / "sources.csv").unlink()
    error = failure(folder)
    assert error.problem == "the file does not exist"
    assert error.file is not None
    assert error.file.endswith("sources.csv")


def test_a_source_stands_once(folder: Path) -> None:
    """The second row of one source is an error with its line."""
    add(folder, "pmid:7,Roe,,,,,,,\n", "sources.csv")
    error = failure(folder)
    assert (error.problem, error.line, error.name) == ("the source stands twice", 4, "pmid:7")


@pytest.mark.parametrize("value", ["-0.1", "often", ""])
def test_an_expert_probability_is_a_number(folder: Path, value: str) -> None:
    """A negative, worded or empty probability of an expert is refused."""
    add(folder, f"A,phase,late,,fever,present,{value},4,judgement,\n", "elicited/lesion.csv")
    error = failure(folder)
    assert error.problem.startswith("probability must be a number")
    assert (error.line, error.name) == (4, "phase=late")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: "", "pooling settings cannot be read"),
        (lambda t: t.replace("recalled_count:", "remembered:"), "recalled_count"),
        (lambda t: "{", "pooling settings cannot be read"),
    ],
)
def test_pooling_settings_must_be_complete(
    folder: Path, change: Callable[[str], str], sentence: str
) -> None:
    """An empty, incomplete or broken pooling.yaml is one sentence."""
    path = folder / "pooling.yaml"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ModelError, match=re.escape(sentence)) as caught:
        read_literature(folder)
    assert caught.value.file == str(path)


def test_unknown_states_are_found_when_a_variable_is_pooled(folder: Path) -> None:
    """A pooled row on a state or a given state that the model lacks names row, file and line."""
    base = read_literature(folder)
    with pytest.raises(ModelError, match="'present' is no state of fever") as caught:
        base.pooled_columns("fever", ["no", "yes"], "phase", ["early", "late"])
    assert (caught.value.name, caught.value.line) == ("x-001", 2)
    with pytest.raises(ModelError, match="'early' is no state of phase") as caught:
        base.pooled_columns("fever", ["absent", "present"], "phase", ["late", "later"])
    assert (caught.value.name, caught.value.line) == ("x-001", 2)


def test_an_expert_state_that_does_not_exist_is_located(folder: Path) -> None:
    """An expert's cell on an unknown state is reported with the line of the table."""
    add(folder, "A,phase,late,,fever,sometimes,0.4,4,judgement,\n", "elicited/lesion.csv")
    base = read_literature(folder)
    with pytest.raises(ModelError, match="'sometimes' is no state of fever") as caught:
        base.pooled_columns("fever", ["absent", "present"], "phase", ["early", "late"])
    assert (caught.value.file, caught.value.line) == ("lesion.csv", 4)


# ------------------------------------------------------ what a row weighs


def weight(folder: Path, **cells: str) -> float:
    """Give the effective count of one row before over-dispersion."""
    path = folder / "literature" / "area.csv"
    path.write_text(",".join(LITERATURE_COLUMNS) + "\n" + line(**cells), encoding="utf-8")
    base = read_literature(folder)
    return base.observation(base.figures[0], {"absent": 0, "present": 1}).count


def test_kinds_of_figures_weigh_as_declared(folder: Path) -> None:
    """Counts weigh n, bare percentages and recalled ones little, intervals by their width."""
    rule = read_literature(folder).settings
    bare = {"k": "", "n": "", "point": "0.3"}
    assert weight(folder) == pytest.approx(10 * rule.seen)
    assert weight(folder, k="", n="200", point="0.3") == pytest.approx(200 * rule.seen)
    assert weight(folder, **bare) == pytest.approx(rule.point_without_n * rule.seen)
    assert weight(folder, **bare, verified="recalled") == rule.recalled_count
    assert weight(folder, n="84836", k="900", verified="recalled") == rule.recalled_count
    wide = weight(folder, **bare, low="0.1", high="0.6")
    narrow = weight(folder, **bare, low="0.29", high="0.31")
    assert wide < rule.interval_cap * rule.seen
    assert narrow == pytest.approx(rule.interval_cap * rule.seen)


def test_own_tallies_are_discounted(folder: Path) -> None:
    """A reader's tally of case reports weighs its declared part of a published count."""
    rule = read_literature(folder).settings
    add(folder, "own_count_emh,,,,,,,,\n", "sources.csv")
    assert weight(folder, source_id="own_count_emh") == pytest.approx(10 * rule.own_count)


def test_a_group_row_moves_every_member(folder: Path) -> None:
    """A row on both phases moves both columns, and their mixture is the pooled mean."""
    rows = line(k="90", n="100", given_states="early|late")
    text = ",".join(LITERATURE_COLUMNS) + "\n" + rows
    base = read_literature(folder)
    before = base.pooled_columns("fever", ["absent", "present"], "phase", ["early", "late"])
    (folder / "literature" / "area.csv").write_text(text, encoding="utf-8")
    moved = read_literature(folder).pooled_columns(
        "fever",
        ["absent", "present"],
        "phase",
        ["early", "late"],
        shares={"early": 3.0, "late": 1.0},
    )
    assert before["late"].grade == "assumed"
    assert moved["early"].rows == moved["late"].rows == ("x-001",)
    mixture = 0.75 * moved["early"].mean[1] + 0.25 * moved["late"].mean[1]
    assert 0.8 < mixture < 0.9


def test_rows_left_out_do_not_count(folder: Path) -> None:
    """The `keep` function leaves out a source, as a leave-one-out analysis needs it."""
    base = read_literature(folder)
    columns = base.pooled_columns(
        "fever",
        ["absent", "present"],
        "phase",
        ["early", "late"],
        keep=lambda figure: figure.id != "x-001",
    )
    assert columns["early"].rows == ("x-002",)


def test_the_header_of_every_file_is_the_declared_one(priors: Path) -> None:
    """Every literature file has exactly the declared columns in the declared order."""
    paths = sorted((priors / "literature").glob("*.csv"))
    assert len(paths) >= 6
    for path in paths:
        with path.open(encoding="utf-8", newline="") as handle:
            assert next(csv.reader(handle)) == LITERATURE_COLUMNS, path.name


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("x-009,another site\n", "no figure has this id"),
        ("x-002,another site\n", "the figure stands twice"),
        ("x-001,\n", "why is empty"),
    ],
)
def test_a_wrong_row_of_the_indirect_figures_is_named(
    folder: Path, row: str, sentence: str
) -> None:
    """A figure that does not exist, stands twice or has no reason is one sentence with its line."""
    add(folder, "x-002,another site\n" + row, "indirect.csv")
    error = failure(folder)
    assert sentence in str(error)
    assert error.line == 3


def test_an_indirect_figure_counts_for_less(folder: Path) -> None:
    """Of two equal series the one about other people has fewer effective patients."""
    add(folder, "x-002,another site\n", "indirect.csv")
    base = read_literature(folder)
    direct, indirect = (base.observation(f, {"absent": 0, "present": 1}) for f in base.figures)
    assert (direct.indirect, indirect.indirect) == (False, True)
    one, other = (pool(2, [o], (), base.settings).literature for o in (direct, indirect))
    within = base.settings.indirect_correlation
    assert one > other
    assert other == pytest.approx(10 / (1 + 9 * within))
