"""Run notebooks from a clean kernel and keep what they print and draw.

    python notebooks/execute.py [NOTEBOOK.ipynb ...] [--check]

Without names every notebook of this folder; with ``--check`` nothing is written. Time stamps are
left out, so that an unchanged answer leaves an unchanged file.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent


def execute(path: Path, *, check: bool) -> None:
    """Run one notebook; raises what a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    start = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - start
    # the version of the interpreter would change the file on another machine
    notebook.metadata.pop("language_info", None)
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell-{number}"
    text = nbformat.writes(notebook, version=4) + "\n"
    if not check:
        path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {seconds:.0f} s, {len(text) / 1000:,.0f} kB")


def main() -> None:
    """Run the notebooks that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    # the kernel is this interpreter's, whatever the path holds
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for path in options.notebooks or sorted(FOLDER.glob("*.ipynb")):
        execute(path, check=options.check)


if __name__ == "__main__":
    main()
