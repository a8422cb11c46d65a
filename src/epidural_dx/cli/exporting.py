"""``export``: the network for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epidural_dx.cli.inputs import open_model
from epidural_dx.cli.output import make_console, text, waiting


def run(format: str, out: Path, form: str, *, model_options: Mapping[str, Any]) -> None:
    """Write the network and say what was written.

    Raises
    ------
    EpiduralDxError
        A wrong network or prior file, an unknown format or form, or a path that cannot be written.
    """
    from epidural_dx.network.export import check_choice, write

    check_choice(format, form)
    model = open_model(**model_options)
    with waiting("Building the tables"):
        built = model.built
    with waiting(f"Writing {out}"):
        done = write(
            built,
            out,
            format,
            form,
            about={
                "name": model.name,
                "version": model.version,
                "digest": model.digest,
                "cause_mix": str(model_options["cause_mix"] or "none"),
                "scenario": model.scenario,
            },
        )
    console = make_console()
    console.print(
        text(
            f"{done.path}: {form} form, {done.variables} variables, {done.arcs} arcs, "
            f"{done.cells:,} probabilities; largest table {done.largest} "
            f"({done.largest_cells:,}).",
        )
    )
    if done.evidence_path is not None:
        console.print(
            text(
                f"{done.evidence_path}: evidence that every query must carry; without it every "
                "answer is wrong.",
                "yellow",
            )
        )
    if done.is_large:
        console.print(
            text(
                "A table this large may be too much for other programs: try --form selection.",
                "yellow",
            )
        )
    if format == "xmlbif" and out.suffix != ".bifxml":
        console.print(text("pyAgrum reads XMLBIF only from a file called .bifxml.", "dim"))
