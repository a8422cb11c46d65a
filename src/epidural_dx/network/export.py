"""The network for other programs: pgmpy in memory, and files in BIF, XMLBIF and JSON.

Two forms (see :mod:`epidural_dx.network.assembly`). The *absorbed* form needs no evidence: read
the file, ask. The *selection* form is far smaller and keeps the published arcs, but every
query must carry ``present`` for its selection nodes; a reader who forgets it gets the share of
causes of a population without lesions, which is wrong. A file cannot carry evidence, so the
selection form is written with a second file beside it.

Which formats
-------------
Offered is what pgmpy 1.1 and pyAgrum 3.3 both read back as it was written:

xmlbif
    Exact in both (pyAgrum reads it when the file is called ``.bifxml``).
bif
    Exact in pgmpy, which needs minutes for large tables; pyAgrum reads it in single precision
    (3e-8).
json
    Exact; plain arrays with names, labels and units.

Not offered: XDSL, because pgmpy and pyAgrum read its parents in opposite order (the same file,
permuted tables, no error); NET, because pgmpy keeps eight digits and needs minutes to read it; UAI,
because it has no names and pgmpy cannot read back what it wrote.

The files are written here and not by pgmpy's writers, whose numbers are right: they leave the
network without a name and digest, need 5 to 7 s for the absorbed form (one string grows cell by
cell) where this needs less than one, and would make ``export`` import pgmpy for another 2 s.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from epidural_dx.errors import ModelError
from epidural_dx.network.assembly import LabelledTable, absorbed_form, selection_form
from epidural_dx.network.build import Built
from epidural_dx.network.structure import nearest

if TYPE_CHECKING:
    from pgmpy.models import DiscreteBayesianNetwork

Array = NDArray[np.float64]

FORMS = ("absorbed", "selection")

#: A table above this many cells makes a file that other programs read slowly or not at all.
LARGE_TABLE = 1_000_000

#: How far a column of an exported table may be from 1; pgmpy's own check passes 1.007.
COLUMN_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    path : Path
        The file.
    evidence_path : Path or None
        The evidence that queries on the selection form must carry.
    variables, arcs, cells : int
        Size of the network; `cells` counts every number of every table.
    largest : str
        The variable with the largest table.
    largest_cells : int
        Its cells.
    """

    path: Path
    evidence_path: Path | None
    variables: int
    arcs: int
    cells: int
    largest: str
    largest_cells: int

    @property
    def is_large(self) -> bool:
        """Whether a table is so large that other programs may fail on it."""
        return self.largest_cells > LARGE_TABLE


def selection_evidence(built: Built) -> dict[str, str]:
    """Evidence that every query on the selection form must carry."""
    return {f"select_{variable}": "present" for variable in built.selection}


def check_choice(format: str, form: str) -> None:
    """Refuse a format or a form that does not exist.

    Raises
    ------
    ModelError
        Naming what there is.
    """
    for what, value, known in (("format", format, tuple(FORMATS)), ("form", form, FORMS)):
        if value not in known:
            raise ModelError(
                f"unknown {what} {value!r}; {what}s are {', '.join(known)}{nearest(value, known)}"
            )


def form_tables(built: Built, form: str) -> list[LabelledTable]:
    """Tables of a form, parents before children.

    Parameters
    ----------
    built : Built
    form : {"absorbed", "selection"}

    Raises
    ------
    ModelError
        Unknown form, or a column that does not sum to 1.
    """
    if form not in FORMS:
        raise ModelError(
            f"unknown form {form!r}; forms are {', '.join(FORMS)}{nearest(form, FORMS)}"
        )
    tables = absorbed_form(built) if form == "absorbed" else selection_form(built)
    for table in tables:
        off = float(np.max(np.abs(table.table.sum(-1) - 1)))
        if not off <= COLUMN_TOLERANCE:
            raise ModelError(f"a column of the {form} form sums to 1 {off:+.2g}", name=table.child)
    return _ordered(tables)


def to_pgmpy(built: Built, form: str = "selection") -> DiscreteBayesianNetwork:
    """Return the network for pgmpy.

    Parameters
    ----------
    built : Built
    form : {"selection", "absorbed"}
        Queries on the selection form must carry :func:`selection_evidence`.

    Returns
    -------
    pgmpy.models.DiscreteBayesianNetwork
        Checked; states by name, in the model's order.

    Raises
    ------
    ModelError
        Unknown form.
    """
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.models import DiscreteBayesianNetwork

    tables = form_tables(built, form)
    states = _states(built, tables)
    model = DiscreteBayesianNetwork()
    model.add_nodes_from([t.child for t in tables])
    model.add_edges_from([(parent, t.child) for t in tables for parent in t.parents])
    for t in tables:
        columns = np.moveaxis(t.table, -1, 0).reshape(t.table.shape[-1], -1)
        model.add_cpds(
            TabularCPD(
                t.child,
                t.table.shape[-1],
                columns,
                evidence=list(t.parents),
                evidence_card=list(t.table.shape[:-1]),
                state_names={name: list(states[name]) for name in (t.child, *t.parents)},
            )
        )
    model.check_model()
    return model


def write(
    built: Built,
    path: str | os.PathLike[str],
    format: str = "xmlbif",
    form: str = "absorbed",
    *,
    about: Mapping[str, str] | None = None,
) -> Exported:
    """Write the network to a file, whole or not at all.

    Parameters
    ----------
    built : Built
    path : path-like
        The file; an existing one is replaced. The selection form also writes
        ``<path>.evidence.json``.
    format : {"bif", "xmlbif", "json"}
        See the module's notes on what each keeps.
    form : {"absorbed", "selection"}
    about : mapping of str to str, optional
        Written into the file as properties of the network (version, digest, scenario).

    Returns
    -------
    Exported
        What was written, with the sizes of the tables.

    Raises
    ------
    ModelError
        Unknown format or form, or a path that cannot be written.
    """
    check_choice(format, form)
    tables = form_tables(built, form)
    properties = {**(about or {}), "form": form, "scenario": built.scenario.name}
    target = Path(path)
    contents: list[tuple[Path, Callable[[IO[str]], None]]] = []
    evidence_path = None
    if form == "selection":
        properties["evidence"] = (
            f"queries must carry the evidence of {target.name}.evidence.json; without it every "
            "answer is wrong"
        )
        evidence_path = target.with_name(f"{target.name}.evidence.json")
        contents.append(
            (evidence_path, lambda handle: _write_json(handle, selection_evidence(built)))
        )
    contents.append((target, lambda handle: FORMATS[format](handle, built, tables, properties)))
    _write_whole(contents)
    largest = max(tables, key=lambda t: t.table.size)
    return Exported(
        path=target,
        evidence_path=evidence_path,
        variables=len(tables),
        arcs=sum(len(t.parents) for t in tables),
        cells=sum(t.table.size for t in tables),
        largest=largest.child,
        largest_cells=largest.table.size,
    )


def _ordered(tables: Sequence[LabelledTable]) -> list[LabelledTable]:
    """Put parents before children, otherwise in the order given."""
    waiting = {t.child: t for t in tables}
    done: dict[str, LabelledTable] = {}
    while waiting:
        ready = [t for t in waiting.values() if all(p in done for p in t.parents)]
        if not ready:
            raise ModelError("the arcs form a cycle", name=next(iter(waiting)))
        for t in ready:
            done[t.child] = waiting.pop(t.child)
    return list(done.values())


def _states(built: Built, tables: Sequence[LabelledTable]) -> dict[str, tuple[str, ...]]:
    nodes = built.structure.nodes
    return {
        t.child: nodes[t.child].states if t.child in nodes else ("absent", "present")
        for t in tables
    }


def _numbers(values: Array) -> str:
    """Shortest decimal texts that read back as the same double-precision numbers."""
    return " ".join(map(repr, values.tolist()))


def _write_bif(
    handle: IO[str], built: Built, tables: Sequence[LabelledTable], properties: Mapping[str, str]
) -> None:
    """Interchange format of Cozman (JavaBayes, version 0.15): one row per parents' states."""
    states = _states(built, tables)
    # Comments, because pyAgrum refuses the quoted properties that the format has for this.
    for key, value in properties.items():
        handle.write(f"// {key} = {value}\n")
    handle.write("network epidural_dx {\n}\n")
    for t in tables:
        names = states[t.child]
        handle.write(
            f"variable {t.child} {{\n"
            f"    type discrete [ {len(names)} ] {{ {', '.join(names)} }};\n}}\n"
        )
    for t in tables:
        if not t.parents:
            row = ", ".join(map(repr, t.table.tolist()))
            handle.write(f"probability ( {t.child} ) {{\n    table {row};\n}}\n")
            continue
        handle.write(f"probability ( {t.child} | {', '.join(t.parents)} ) {{\n")
        for given, column in _columns(t, states):
            row = ", ".join(map(repr, column.tolist()))
            handle.write(f"    ({', '.join(given)}) {row};\n")
        handle.write("}\n")


def _columns(
    table: LabelledTable, states: Mapping[str, tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], Array]]:
    for index in np.ndindex(table.table.shape[:-1]):
        given = tuple(states[p][i] for p, i in zip(table.parents, index, strict=True))
        yield given, table.table[index]


def _write_xmlbif(
    handle: IO[str], built: Built, tables: Sequence[LabelledTable], properties: Mapping[str, str]
) -> None:
    """XML interchange format 0.3 (Cozman 1998): the child's states run fastest."""
    states = _states(built, tables)
    nodes = built.structure.nodes
    handle.write('<?xml version="1.0" encoding="UTF-8"?>\n<BIF VERSION="0.3">\n<NETWORK>\n')
    handle.write("<NAME>epidural_dx</NAME>\n")
    for key, value in properties.items():
        handle.write(f"<PROPERTY>{escape(key)} = {escape(value)}</PROPERTY>\n")
    for t in tables:
        label = nodes[t.child].label if t.child in nodes else "a lesion exists (always present)"
        handle.write(f'<VARIABLE TYPE="nature">\n  <NAME>{t.child}</NAME>\n')
        for state in states[t.child]:
            handle.write(f"  <OUTCOME>{state}</OUTCOME>\n")
        handle.write(f"  <PROPERTY>label = {escape(label)}</PROPERTY>\n</VARIABLE>\n")
    for t in tables:
        handle.write(f"<DEFINITION>\n  <FOR>{t.child}</FOR>\n")
        for parent in t.parents:
            handle.write(f"  <GIVEN>{parent}</GIVEN>\n")
        handle.write(f"  <TABLE>{_numbers(t.table.ravel())}</TABLE>\n</DEFINITION>\n")
    handle.write("</NETWORK>\n</BIF>\n")


def _write_network_json(
    handle: IO[str], built: Built, tables: Sequence[LabelledTable], properties: Mapping[str, str]
) -> None:
    states = _states(built, tables)
    nodes = built.structure.nodes
    _write_json(
        handle,
        {
            "name": "epidural_dx",
            **properties,
            "layout": "table is flat, parents in their order, the child's states run fastest",
            "evidence": selection_evidence(built) if properties["form"] == "selection" else {},
            "variables": [
                {
                    "name": t.child,
                    "label": nodes[t.child].label if t.child in nodes else t.child,
                    "group": nodes[t.child].group if t.child in nodes else "selection",
                    "unit": nodes[t.child].unit if t.child in nodes else None,
                    "states": list(states[t.child]),
                    "parents": list(t.parents),
                    "table": t.table.ravel().tolist(),
                }
                for t in tables
            ],
        },
    )


def _write_json(handle: IO[str], document: object) -> None:
    json.dump(document, handle, ensure_ascii=False, allow_nan=False)
    handle.write("\n")


def _write_whole(contents: Sequence[tuple[Path, Callable[[IO[str]], None]]]) -> None:
    """Write several files; none appears before all of them are complete."""
    ready: list[tuple[str, Path]] = []
    try:
        for given, content in contents:
            path = given.resolve()  # what a link points to is written, not the link replaced
            if path.is_dir():
                raise ModelError("is a folder, not a file", file=given)
            if path.exists() and not path.is_file():
                raise ModelError("is no ordinary file", file=given)
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", newline="\n", dir=path.parent, prefix=".", delete=False
            ) as handle:
                ready.append((handle.name, path))
                content(handle)
        mask = os.umask(0)
        os.umask(mask)
        while ready:
            name, path = ready[0]
            os.chmod(name, 0o666 & ~mask)
            os.replace(name, path)
            ready.pop(0)
    except OSError as error:
        raise ModelError(
            f"cannot be written ({error.strerror or error})", file=contents[-1][0]
        ) from None
    finally:
        for name, _ in ready:
            os.unlink(name)


Writer = Callable[[IO[str], Built, Sequence[LabelledTable], Mapping[str, str]], None]

#: Formats that pgmpy and pyAgrum read alike, with their writers.
FORMATS: Mapping[str, Writer] = {
    "bif": _write_bif,
    "xmlbif": _write_xmlbif,
    "json": _write_network_json,
}
