"""Read ``networks/*.yaml``: variables, mechanisms and tests, checked line by line.

A structure is what the files say, nothing more; :mod:`epidural_dx.network.build` makes the tables.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import yaml

from epidural_dx.errors import ModelError
from epidural_dx.literature.rows import Place
from epidural_dx.network.variable import GROUPS, IDENTIFIER


@dataclass(frozen=True)
class Node:
    """One variable as its file declares it.

    Attributes
    ----------
    name, label, group : str
    states : tuple of str
    parents : tuple of str
    table : mapping
        How the conditional probability table is made; ``table["method"]`` names the method.
    unit : str or None
    file, line : str, int
        Where it stands.
    """

    name: str
    label: str
    group: str
    states: tuple[str, ...]
    parents: tuple[str, ...]
    table: Mapping[str, Any]
    unit: str | None
    file: str
    line: int


@dataclass(frozen=True)
class Mechanism:
    """One competing rate: a cause with its driver (see ``networks/mechanisms.yaml``)."""

    name: str
    cause: str
    driver: str
    rate: Mapping[str, Any]
    requires: Mapping[str, tuple[str, ...]]
    known: str | None
    marrow: Mapping[str, str] | None
    apart: bool
    sex: bool
    age: bool
    file: str
    line: int


@dataclass(frozen=True)
class Structure:
    """All variables, mechanisms, lesion subtypes and tests.

    Attributes
    ----------
    nodes : dict of str to Node
        In an order in which parents come before children.
    mechanisms : dict of str to Mechanism
    subtypes : dict of str to dict of str to str
        ``subtypes[cause][lesion_subtype]`` is the id of the stated shares.
    tests : dict of str to tuple of str
        Findings that each test reveals.
    """

    nodes: Mapping[str, Node]
    mechanisms: Mapping[str, Mechanism]
    subtypes: Mapping[str, Mapping[str, str]]
    tests: Mapping[str, tuple[str, ...]]

    def conditions_behind(self, names: Iterable[str]) -> list[str]:
        """Return variables and all their ancestors, ``etiology`` and what is behind it left out.

        Parameters
        ----------
        names : iterable of str

        Returns
        -------
        list of str
            In the order of :attr:`nodes`.
        """
        wanted = list(names)
        found: set[str] = set()
        while wanted:
            name = wanted.pop()
            if name not in found and name != "etiology":
                found.add(name)
                wanted += self.nodes[name].parents
        return [name for name in self.nodes if name in found]


class _Loader(yaml.SafeLoader):
    """A loader that refuses a key that stands twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    result: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool | None):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a plain name", key_node.start_mark
            )
        if key in result:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Read one YAML file.

    Returns
    -------
    document : dict
    lines : dict of str to int
        Line of every key on the second level (names of variables, mechanisms, tests).

    Raises
    ------
    ModelError
        Missing file, wrong encoding, no YAML, duplicate keys, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelError("the file does not exist", file=str(path)) from None
    except UnicodeDecodeError as error:
        raise ModelError(f"the file is not UTF-8 (byte {error.start})", file=str(path)) from None
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ModelError(
            f"the file is no valid YAML: {getattr(error, 'problem', None) or error}",
            file=str(path),
            line=mark.line + 1 if mark else None,
        ) from None
    if not isinstance(document, dict):
        raise ModelError("the file must hold a mapping", file=str(path), line=1)
    lines: dict[str, int] = {}
    if isinstance(tree, yaml.MappingNode):
        for _, value in tree.value:
            if isinstance(value, yaml.MappingNode):
                for key, _ in value.value:
                    lines[str(key.value)] = key.start_mark.line + 1
    return document, lines


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for messages, or an empty string."""
    found = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def read_structure(folder: Path) -> Structure:
    """Read and check every file of the networks folder.

    Raises
    ------
    ModelError
        A malformed file, a name that is no identifier, a variable that stands twice, an unknown
        parent or finding, a cycle, or a mechanism whose condition or state does not exist.
    """
    nodes: dict[str, Node] = {}
    mechanisms: dict[str, Mechanism] = {}
    subtypes: dict[str, Mapping[str, str]] = {}
    raw_tests: dict[str, Any] = {}
    test_lines: dict[str, tuple[str, int]] = {}
    paths = sorted(p for p in folder.glob("*.yaml") if p.name != "aliases.yaml")
    if not paths:
        raise ModelError("no network files (*.yaml) in the folder", file=str(folder))
    for path in paths:
        document, lines = read_yaml(path)
        allowed = {"subject", "variables", "mechanisms", "subtypes", "tests"}
        for key in document:
            if key not in allowed:
                raise ModelError(
                    f"unknown section {key!r}; allowed are {', '.join(sorted(allowed))}"
                    + nearest(str(key), allowed),
                    file=str(path),
                    name=str(key),
                )
        sections = {key: _section(document, key, path) for key in allowed - {"subject"}}
        for name, entry in sections["variables"].items():
            node = _read_node(name, entry, path, lines.get(name, 1))
            if name in nodes:
                other = nodes[name]
                raise ModelError(
                    f"the variable stands already in {other.file}:{other.line}",
                    file=str(path),
                    line=node.line,
                    name=name,
                )
            nodes[name] = node
        for name, entry in sections["mechanisms"].items():
            mechanism = _read_mechanism(name, entry, path, lines.get(name, 1))
            if name in mechanisms:
                raise ModelError(
                    f"the mechanism stands already in {mechanisms[name].file}",
                    file=str(path),
                    line=mechanism.line,
                    name=name,
                )
            mechanisms[name] = mechanism
        subtypes.update(sections["subtypes"])
        for name, entry in sections["tests"].items():
            if name in raw_tests:
                raise ModelError(
                    f"the test stands already in {test_lines[name][0]}",
                    file=str(path),
                    line=lines.get(name, 1),
                    name=name,
                )
            raw_tests[name] = entry
            test_lines[name] = (str(path), lines.get(name, 1))
    if "etiology" not in nodes:
        raise ModelError("the variable 'etiology' is missing", file=str(folder), name="etiology")
    etiology = nodes["etiology"]
    nodes["etiology"] = Node(
        **{**etiology.__dict__, "states": tuple(mechanisms)}  # its states are the mechanisms
    )
    for node in nodes.values():
        for parent in node.parents:
            if parent not in nodes:
                raise ModelError(
                    f"unknown parent {parent!r}" + nearest(parent, nodes),
                    file=node.file,
                    line=node.line,
                    name=node.name,
                )
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(nodes)
    graph.add_edges_from((p, n.name) for n in nodes.values() for p in n.parents)
    try:
        order = list(nx.lexicographical_topological_sort(graph, key=list(nodes).index))
    except nx.NetworkXUnfeasible:
        cycle = [a for a, _ in nx.find_cycle(graph)]
        node = nodes[cycle[0]]
        raise ModelError(
            f"the arcs form a cycle: {' -> '.join([*cycle, cycle[0]])}",
            file=node.file,
            line=node.line,
            name=node.name,
        ) from None
    ordered = {name: nodes[name] for name in order}
    _check_mechanisms(mechanisms, ordered)
    _check_subtypes(subtypes, ordered, folder)
    tests = _read_tests(raw_tests, test_lines, ordered)
    return Structure(ordered, mechanisms, subtypes, tests)


def _section(document: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    """Return a section of a file, which must be a mapping of names."""
    section = document.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ModelError("the section must be a mapping of names", file=str(path), name=key)
    return section


def _names(value: Any, what: str, where: Place) -> tuple[Any, ...]:
    """Return a list of names as a tuple; a bare name is refused, not read letter by letter."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ModelError(f"{what} must be a list, got {value!r}", **where)
    return tuple(value)


def _read_node(name: str, entry: Any, path: Path, line: int) -> Node:
    where: Place = {"file": str(path), "line": line, "name": str(name)}
    if not IDENTIFIER.match(str(name)):
        raise ModelError("a name must be lower-case letters, digits and underscores", **where)
    if not isinstance(entry, dict):
        raise ModelError("a variable must be a mapping", **where)
    allowed = {"label", "group", "states", "parents", "table", "unit", "description"}
    for key in entry:
        if key not in allowed:
            raise ModelError(
                f"unknown key {key!r}; allowed are {', '.join(sorted(allowed))}"
                + nearest(str(key), allowed),
                **where,
            )
    group = entry.get("group")
    if group not in GROUPS:
        raise ModelError(f"group {group!r} is not one of {', '.join(sorted(GROUPS))}", **where)
    states = _names(entry.get("states"), "states", where)
    for state in states:
        if not isinstance(state, str) or not IDENTIFIER.match(state):
            raise ModelError(f"the state {state!r} is no identifier", **where)
    if len(set(states)) != len(states):
        raise ModelError("a state stands twice", **where)
    if len(states) < 2 and name != "etiology":
        raise ModelError("a variable needs at least two states", **where)
    parents = _names(entry.get("parents"), "parents", where)
    if len(set(map(str, parents))) != len(parents):
        raise ModelError("a parent stands twice", **where)
    table = entry.get("table")
    if not isinstance(table, dict) or "method" not in table:
        raise ModelError("the table needs a method", **where)
    return Node(
        name=name,
        label=str(entry.get("label", name)),
        group=group,
        states=states,
        parents=tuple(map(str, parents)),
        table=table,
        unit=entry.get("unit"),
        file=path.name,
        line=line,
    )


def _read_mechanism(name: str, entry: Any, path: Path, line: int) -> Mechanism:
    where: Place = {"file": str(path), "line": line, "name": str(name)}
    if not IDENTIFIER.match(str(name)) or not isinstance(entry, dict):
        raise ModelError("a mechanism must be an identifier with a mapping", **where)
    allowed = {"cause", "driver", "rate", "requires", "known", "marrow", "apart", "sex", "age"}
    for key in entry:
        if key not in allowed:
            raise ModelError(
                f"unknown key {key!r}; allowed are {', '.join(sorted(allowed))}", **where
            )
    rate = entry.get("rate")
    kind = rate.get("kind") if isinstance(rate, dict) else None
    if kind not in ("baseline", "excess", "by_state"):
        raise ModelError("rate.kind must be baseline, excess or by_state", **where)
    requires = entry.get("requires") or {}
    if not isinstance(requires, dict):
        raise ModelError("requires must map conditions to lists of states", **where)
    return Mechanism(
        name=name,
        cause=str(entry.get("cause")),
        driver=str(entry.get("driver", "none")),
        rate=entry["rate"],
        requires={k: _names(v, f"requires.{k}", where) for k, v in requires.items()},
        known=entry.get("known"),
        marrow=entry.get("marrow"),
        apart=bool(entry.get("apart", False)),
        sex=bool(entry.get("sex", False)),
        age=bool(entry.get("age", False)),
        file=path.name,
        line=line,
    )


def _check_mechanisms(mechanisms: Mapping[str, Mechanism], nodes: Mapping[str, Node]) -> None:
    causes = nodes["lesion_cause"].states if "lesion_cause" in nodes else ()
    for m in mechanisms.values():
        where: Place = {"file": m.file, "line": m.line, "name": m.name}
        if m.cause not in causes:
            raise ModelError(
                f"cause {m.cause!r} is no state of lesion_cause" + nearest(m.cause, causes), **where
            )
        for variable, states in m.requires.items():
            if variable not in nodes:
                raise ModelError(
                    f"unknown condition {variable!r}" + nearest(variable, nodes), **where
                )
            for state in states:
                if state not in nodes[variable].states:
                    raise ModelError(
                        f"{state!r} is no state of {variable}; "
                        f"states are {', '.join(nodes[variable].states)}",
                        **where,
                    )
        # `given` may be a name of rates.csv only; what the rate really depends on is a variable
        depends = m.rate.get("of", m.rate.get("given"))
        for condition in (m.known, depends):
            if condition is not None and condition not in nodes:
                raise ModelError(
                    f"unknown condition {condition!r}" + nearest(str(condition), nodes), **where
                )


def _check_subtypes(subtypes: Mapping[str, Any], nodes: Mapping[str, Node], folder: Path) -> None:
    for cause, shares in subtypes.items():
        for name, variable in ((cause, "lesion_cause"), *((s, "lesion_subtype") for s in shares)):
            states = nodes[variable].states if variable in nodes else ()
            if name not in states:
                raise ModelError(
                    f"{name!r} is no state of {variable}" + nearest(str(name), states),
                    file=str(folder),
                    name=f"subtypes.{cause}",
                )


def _read_tests(
    raw: Mapping[str, Any], lines: Mapping[str, tuple[str, int]], nodes: Mapping[str, Node]
) -> dict[str, tuple[str, ...]]:
    tests: dict[str, tuple[str, ...]] = {}

    def findings(name: str, seen: tuple[str, ...] = ()) -> tuple[str, ...]:
        file, line = lines[name]
        where: Place = {"file": file, "line": line, "name": name}
        if name in seen:
            raise ModelError("tests contain each other", **where)
        entry = raw[name]
        if not isinstance(entry, list | dict):
            raise ModelError("a test must list its findings", **where)
        own = entry if isinstance(entry, list) else entry.get("findings", [])
        contained = [] if isinstance(entry, list) else entry.get("contains", [])
        result: list[str] = []
        for other in contained:
            if other not in raw:
                raise ModelError(f"unknown test {other!r}" + nearest(other, raw), **where)
            result += findings(other, (*seen, name))
        for finding in own:
            if finding not in nodes:
                raise ModelError(f"unknown finding {finding!r}" + nearest(finding, nodes), **where)
            result.append(finding)
        return tuple(dict.fromkeys(result))

    for name in raw:
        tests[name] = findings(name)
    return tests
