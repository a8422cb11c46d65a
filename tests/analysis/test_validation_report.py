"""Reports as documents, and that those in docs/ are about the present files."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import epidural_dx as edx
from epidural_dx.analysis import validation_report as module
from epidural_dx.analysis.document import Document, files_digest, read_record
from epidural_dx.analysis.model_card import model_card
from epidural_dx.analysis.validation_report import FINDINGS, LOG, validation_report
from epidural_dx.clinical.case import read_cases

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
#: The development patients lie beside the checkout where the project is developed, nowhere else.
DEVELOPMENT = ROOT.parent / "shared" / "cases" / "development.yaml"
REGENERATE = "regenerate: epidural-dx validate CASES --report docs; then epidural-dx check \
--model-card docs/model_card.md"


class Reader(HTMLParser):
    """Collects what a page loads from elsewhere, and whether its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note sources of scripts, pictures and styles."""
        values = dict(attrs)
        if tag in ("script", "link", "img", "iframe", "object"):
            self.loaded.append(f"{tag} {values.get('src') or values.get('href')}")
        if tag not in ("meta", "br", "hr", "img", "link", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Ignore what closes itself."""

    def handle_endtag(self, tag: str) -> None:
        """Check the order of the ends."""
        assert self.open.pop() == tag


# --------------------------------------------------------------------------- documents


@pytest.fixture
def document(tmp_path: Path) -> Document:
    """Build a document with every kind of block."""
    other = tmp_path / "other.md"
    other.write_text("# Title\n\n## Part\n\ntext\n\n- point\n", encoding="utf-8")
    made = Document("A title", {"digest": "a--b", "n": 1})
    made.heading("First")
    made.text("One sentence.", "", "Another with *stress*.")
    made.bullets(["x", "y"])
    made.table(("a", "b"), [("1 | 2", "<b>")], "A caption.")
    made.table(("nothing",), [])
    made.picture(lambda figure: figure.subplots().plot([0, 1]), (2, 2), "A <line>")
    assert made.include(other)
    assert not made.include(tmp_path / "absent.md")
    return made


def test_a_document_becomes_markdown(document: Document) -> None:
    """Blocks follow each other; cells keep their bars; headings of included files move down."""
    text = document.markdown()
    assert text.startswith("# A title\n\n<!-- epidural-dx ")
    assert "One sentence. Another with *stress*." in text
    assert "| 1 \\| 2 | <b> |" in text
    assert "### Part" in text and "# Title" not in text
    assert "nothing" not in text
    assert "<svg" not in text


def test_a_document_becomes_one_page(document: Document) -> None:
    """The page is closed, loads nothing, escapes what it is given, and shows the picture."""
    page = document.html()
    reader = Reader()
    reader.feed(page)
    assert reader.open == [] and reader.loaded == []
    assert page.count("<svg") == 1
    assert "A &lt;line&gt;" in page
    assert "<b>" not in page.replace("<body>", "")
    assert "<h3>Part</h3>" in page


def test_both_formats_carry_the_record(document: Document) -> None:
    """What the document was made from is read back from either, dashes included."""
    for text in (document.markdown(), document.html()):
        assert read_record(text) == {"digest": "a--b", "n": 1}
        comment = re.search(r"<!--(.*?)-->", text, re.DOTALL)
        assert comment is not None and "--" not in comment.group(1)
    with pytest.raises(ValueError, match="no record"):
        read_record("# nothing")


def test_the_same_drawing_is_the_same_text(document: Document) -> None:
    """A page does not change when it is made again."""
    assert document.html() == document.html()


def test_digests_follow_the_content(tmp_path: Path) -> None:
    """A changed or renamed case file changes the digest of its folder; line ends do not."""
    first = tmp_path / "a.yaml"
    first.write_bytes(b"x: 1\ny: 2\n")
    before = files_digest(tmp_path)
    first.write_bytes(b"x: 1\r\ny: 2\r\n")
    assert files_digest(tmp_path) == before
    first.rename(tmp_path / "b.yaml")
    assert files_digest(tmp_path) != before
    (tmp_path / "notes.txt").write_text("no case")
    digest = files_digest(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"x: 2\n")
    assert files_digest(tmp_path) != digest
    assert files_digest(tmp_path / "b.yaml") != files_digest(tmp_path)


# --------------------------------------------------------------------------- the report


@pytest.fixture(scope="module")
def report(model: edx.Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Write the report on the published patients, with few simulated ones."""
    folder = tmp_path_factory.mktemp("report")
    (folder / LOG).write_text("# Log\n\n| # | change |\n|---|---|\n| 1 | first |\n")
    (folder / FINDINGS).write_text("# Findings\n\n## case one\n\nA missing finding.\n")
    cases = ROOT / "cases"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DRAWN", 150)
        document, scores = validation_report(
            model, read_cases(cases), cases, folder, published_folder=cases, bootstrap=50
        )
    return {"markdown": document.markdown(), "html": document.html(), "scores": scores}


@pytest.mark.slow
def test_the_report_says_what_the_scores_say(report: dict[str, Any]) -> None:
    """Headline figures in the text and in the record are those of the validation."""
    text, scores = report["markdown"], report["scores"]
    row = next(r for r in scores.rows() if (r["prior"], r["method"]) == ("mix", "model"))
    assert f"{row['top_1']:.2f} [{row['top_1_lower']:.2f}, {row['top_1_upper']:.2f}]" in text
    record = read_record(text)
    assert record["scores"]["mix/model"]["log_score"] == pytest.approx(row["log_score"], abs=1e-4)
    assert record["cases"] == len(scores.cases)
    for case in scores.cases:
        assert f"| {case.name} |" in text


@pytest.mark.slow
def test_the_report_has_every_section(report: dict[str, Any]) -> None:
    """Scores, calibration, tests, consistency, cohorts, sources, patients, findings, changes."""
    text = report["markdown"]
    for heading in (
        "In short",
        "Calibration",
        "Against the first diagnoses of the reports",
        "Does the ranking of tests lead where the clinicians ended?",
        "Do the dependencies help?",
        "Is the model consistent with itself?",
        "Melanoma in the marrow: the 36 published patients",
        "Does one source carry the result?",
        "Patient by patient",
        "What the misses taught",
        "Every change since the first scored run, before and after",
        "What this does not show",
    ):
        assert f"# {heading}\n" in text, heading
    assert "### case one" in text and "| 1 | first |" in text
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text)


@pytest.mark.slow
def test_the_page_is_small_and_needs_nothing_else(report: dict[str, Any]) -> None:
    """Pictures are inside as SVG; nothing is loaded; the whole stays below half a megabyte."""
    page = report["html"]
    reader = Reader()
    reader.feed(page)
    assert reader.loaded == [] and reader.open == []
    assert page.count("<svg") >= 4
    assert len(page.encode()) < 500_000
    assert read_record(page) == read_record(report["markdown"])


# --------------------------------------------------------------------------- in docs/


@pytest.mark.parametrize("name", ["validation_report.md", "validation_report.html"])
def test_the_report_in_docs_is_about_the_present_files(model: edx.Model, name: str) -> None:
    """Networks, figures, cases and the included files are those that the report was made from."""
    record = read_record((DOCS / name).read_text(encoding="utf-8"))
    assert record["model_digest"] == model.digest, REGENERATE
    assert record["published_cases_digest"] == files_digest(ROOT / "cases"), REGENERATE
    for file, digest in record["included"].items():
        path = DOCS / file
        assert (files_digest(path) if path.is_file() else None) == digest, REGENERATE
    if DEVELOPMENT.is_file():
        assert record["cases_digest"] == files_digest(DEVELOPMENT), REGENERATE
    assert record["cases"] == 46


def test_the_model_card_in_docs_is_that_of_the_present_model(model: edx.Model) -> None:
    """Written anew, the card differs in nothing but the last digit of a number."""
    number = re.compile(r"(?<![\w.])[+-]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
    written = (DOCS / "model_card.md").read_text(encoding="utf-8")
    made = model_card(model, DOCS).markdown()
    assert number.sub("#", written) == number.sub("#", made), REGENERATE
    for old, new in zip(number.findall(written), number.findall(made), strict=True):
        digits = len(old.partition(".")[2])
        assert float(old.replace(",", "")) == pytest.approx(
            float(new.replace(",", "")), abs=1.01 * 10.0**-digits if digits else 0.0
        ), REGENERATE


def test_the_card_quotes_scores_of_its_own_model_only(model: edx.Model, tmp_path: Path) -> None:
    """A report on other figures is not quoted; without a report the card says so."""
    assert "There is no validation report" in model_card(model, tmp_path).markdown()
    scores = {"mix/model": dict.fromkeys(
        ("top_1", "top_3", "log_score", "brier", "calibration_error"), 0.125)}
    for digest, quoted in ((model.digest, True), ("0" * 64, False)):
        other = Document("x", {"model_digest": digest, "cases": 7, "scores": scores})
        (tmp_path / "validation_report.md").write_text(other.markdown(), encoding="utf-8")
        text = model_card(model, tmp_path).markdown()
        assert ("On 7 published patients" in text) is quoted
