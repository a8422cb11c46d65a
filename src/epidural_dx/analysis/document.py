"""A report as blocks, written as Markdown and as one HTML file without anything outside it."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What surrounds the record that says which files a document was made from.
_RECORD = re.compile(r"<!-- epidural-dx (\{.*?\}) -->", re.DOTALL)

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; margin-top: 2rem; }
table { border-collapse: collapse; font-size: .875rem; display: block; overflow-x: auto; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td { font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; background: #fff; color: #000; border-radius: .3rem; padding: .5rem; }
figure svg { max-width: 100%; height: auto; }
figcaption { font-size: .875rem; color: #444; }
code { font-size: .9em; }
"""


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Text; Markdown marks are kept."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of points."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Cells as text, the header first in its own field."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A drawing as SVG, shown in HTML only."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Included:
    """Another Markdown file, its headings moved down."""

    text: str


Block = Heading | Paragraph | Bullets | Table | Picture | Included


@dataclass
class Document:
    """Blocks under one title, and a record of what they were made from.

    Attributes
    ----------
    title : str
    record : mapping
        Plain data that both formats carry, for a test of freshness (:func:`read_record`).
    blocks : list of Block
    """

    title: str
    record: Mapping[str, Any]
    blocks: list[Block] = field(default_factory=list)

    def heading(self, text: str, level: int = 2) -> None:
        """Add a heading."""
        self.blocks.append(Heading(text, level))

    def text(self, *sentences: str) -> None:
        """Add a paragraph of sentences; empty ones are left out."""
        told = " ".join(s for s in sentences if s)
        if told:
            self.blocks.append(Paragraph(told))

    def bullets(self, items: Sequence[str]) -> None:
        """Add a list of points."""
        if items:
            self.blocks.append(Bullets(tuple(items)))

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = ""
    ) -> None:
        """Add a table; one without rows is left out."""
        if rows:
            self.blocks.append(Table(tuple(header), tuple(map(tuple, rows)), caption))

    def picture(
        self, draw: Callable[[Figure], None], size: tuple[float, float], caption: str
    ) -> None:
        """Add a drawing that `draw` makes on a figure of that size in inches."""
        self.blocks.append(Picture(_svg(draw, size), caption))

    def include(self, path: Path) -> bool:
        """Add another Markdown file below the present heading; say whether there is one."""
        if not path.is_file():
            return False
        self.blocks.append(Included(_moved_down(path.read_text(encoding="utf-8"))))
        return True

    # ------------------------------------------------------------------ formats

    def markdown(self) -> str:
        """Return the document as Markdown, without its pictures."""
        parts = [f"# {self.title}", _written(self.record)]
        parts += [told for block in self.blocks if (told := _markdown(block))]
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """Return the document as one HTML page that needs nothing else."""
        from markdown_it import MarkdownIt

        render = MarkdownIt("commonmark", {"html": False}).enable("table").render
        body = []
        for block in self.blocks:
            if isinstance(block, Picture):
                body.append(
                    f"<figure>{block.svg}<figcaption>{html.escape(block.caption)}</figcaption>"
                    "</figure>"
                )
            else:
                body.append(render(_markdown(block)))
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(self.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"<h1>{html.escape(self.title)}</h1>\n{_written(self.record)}\n"
            + "\n".join(body)
            + "\n</body>\n</html>\n"
        )


def read_record(text: str) -> dict[str, Any]:
    """Return the record of a document in either format.

    Raises
    ------
    ValueError
        It carries none.
    """
    found = _RECORD.search(text)
    if found is None:
        raise ValueError("the document carries no record of what it was made from")
    record: dict[str, Any] = json.loads(found.group(1))
    return record


def files_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the YAML and JSON files of a folder.

    Line endings count alike on every system.
    """
    sha = hashlib.sha256()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml", ".json"))
    else:
        files = [path]
    for one in files:
        name = one.relative_to(path).as_posix() if path.is_dir() else ""
        sha.update(b"\0" + name.encode() + b"\0" + one.read_bytes().replace(b"\r\n", b"\n"))
    return sha.hexdigest()


def _written(record: Mapping[str, Any]) -> str:
    # "--" would end the comment early; JSON may escape any character
    told = json.dumps(record, sort_keys=True, ensure_ascii=True).replace("--", "-\\u002d")
    return f"<!-- epidural-dx {told} -->"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph | Included):
        return block.text
    if isinstance(block, Bullets):
        return "\n".join(f"- {item}" for item in block.items)
    if isinstance(block, Picture):
        return ""
    lines = [
        "| " + " | ".join(map(_cell, block.header)) + " |",
        "|" + " --- |" * len(block.header),
        *("| " + " | ".join(map(_cell, row)) + " |" for row in block.rows),
    ]
    if block.caption:
        lines += ["", f"*{block.caption}*"]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ") or " "


def _moved_down(text: str) -> str:
    """Drop the title of a Markdown file and make its other headings one level deeper."""
    lines = text.strip().splitlines()
    if lines and lines[0].startswith("# "):
        lines = lines[1:]
    return "\n".join(f"#{line}" if re.match(r"#{2,5} ", line) else line for line in lines).strip()


def _svg(draw: Callable[[Figure], None], size: tuple[float, float]) -> str:
    """Draw with matplotlib; the same drawing gives the same text."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[str, Any] = {
        "svg.hashsalt": "epidural-dx",
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return re.sub(r"\s+", " ", text[text.index("<svg") :]).strip()
