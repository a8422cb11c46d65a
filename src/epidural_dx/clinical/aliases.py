"""Other names of variables and states, from networks/aliases.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from epidural_dx.clinical.spelling import normal_form, states_of
from epidural_dx.clinical.yaml_text import load_yaml
from epidural_dx.errors import ModelError
from epidural_dx.network.variable import Threshold, Variable

__all__ = ["Aliases", "NameAlias", "complete_variables", "load_aliases"]


@dataclass(frozen=True, slots=True)
class NameAlias:
    """What another name of a variable stands for.

    Parameters
    ----------
    variable : str
        The variable.
    unit : str or None
        The unit of bare numbers under this name, such as months for ``age_months``.
    less_upper_limit : bool
        True if numbers under this name are totals from which the upper limit of the laboratory is
        taken away: a prothrombin time in seconds for its prolongation.
    """

    variable: str
    unit: str | None = None
    less_upper_limit: bool = False


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Aliases:
    """Other names of variables and states, and findings that stand for several.

    Parameters
    ----------
    variables : mapping of str to NameAlias
        Other names of variables, in `normal_form`.
    states : mapping of str to mapping of str to tuple of str
        For each variable its other spellings of states.
    rewrites : mapping
        Name to state to findings: a finding that says several things at once, such as
        ``known_myeloproliferative_or_mds``.
    """

    variables: Mapping[str, NameAlias] = field(default_factory=_nothing)
    states: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=_nothing)
    rewrites: Mapping[str, Mapping[str, Mapping[str, object]]] = field(default_factory=_nothing)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle through plain dictionaries."""
        return (
            type(self),
            (
                dict(self.variables),
                {name: dict(table) for name, table in self.states.items()},
                {
                    name: {state: dict(findings) for state, findings in table.items()}
                    for name, table in self.rewrites.items()
                },
            ),
        )


def load_aliases(path: str | Path) -> Aliases:
    """Read networks/aliases.yaml.

    Parameters
    ----------
    path : path-like
        The file, with the keys ``variables``, ``states`` and ``rewrites``.

    Returns
    -------
    Aliases
        The aliases, not yet checked against variables (`complete_variables` does).

    Raises
    ------
    ModelError
        If the file cannot be read or holds something else.
    """
    file = Path(path)
    try:
        document = load_yaml(file.read_bytes().decode("utf-8-sig"), aliases=True)
    except OSError as error:
        raise ModelError(
            f"cannot be read ({error.strerror or type(error).__name__})", file=file
        ) from error
    except UnicodeDecodeError as error:
        raise ModelError(f"is not UTF-8 (byte {error.start})", file=file) from error
    except ModelError as error:
        raise ModelError(error.problem, file=file, line=error.line, name=error.name) from error
    if not isinstance(document, dict):
        raise ModelError("holds no mapping", file=file)
    unknown = set(document) - {"variables", "states", "rewrites"}
    if unknown:
        raise ModelError("is no section of this file", file=file, name=str(min(unknown, key=str)))
    variables = {
        normal_form(str(name)): _name_alias(file, str(name), target)
        for name, target in _mapping(file, document, "variables").items()
    }
    states: dict[str, Mapping[str, tuple[str, ...]]] = {}
    for name, table in _mapping(file, document, "states").items():
        if not isinstance(table, dict):
            raise ModelError("needs a mapping of spellings", file=file, name=str(name))
        states[str(name)] = MappingProxyType(
            {str(spelling): _words(file, str(name), named) for spelling, named in table.items()}
        )
    rewrites: dict[str, Mapping[str, Mapping[str, object]]] = {}
    for name, table in _mapping(file, document, "rewrites").items():
        if not isinstance(table, dict) or not all(
            isinstance(findings, dict) for findings in table.values()
        ):
            raise ModelError("needs findings for each state", file=file, name=str(name))
        rewrites[normal_form(str(name))] = MappingProxyType(
            {str(state): MappingProxyType(dict(findings)) for state, findings in table.items()}
        )
    return Aliases(
        MappingProxyType(variables), MappingProxyType(states), MappingProxyType(rewrites)
    )


def _mapping(file: Path, document: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    table = document.get(section) or {}
    if not isinstance(table, dict):
        raise ModelError("is no mapping", file=file, name=section)
    return table


def _name_alias(file: Path, name: str, target: object) -> NameAlias:
    if isinstance(target, str):
        return NameAlias(target)
    if isinstance(target, dict) and isinstance(target.get("variable"), str):
        unknown = set(target) - {"variable", "unit", "less"}
        if not unknown and target.get("less") in (None, "upper_limit"):
            unit = target.get("unit")
            return NameAlias(
                target["variable"],
                None if unit is None else str(unit),
                target.get("less") == "upper_limit",
            )
    raise ModelError(
        "needs the name of a variable, or a mapping of variable, unit, less: upper_limit",
        file=file,
        name=name,
    )


def _words(file: Path, name: str, named: object) -> tuple[str, ...]:
    words = [named] if isinstance(named, str) else named
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        raise ModelError("an alias needs a state or a list of states", file=file, name=name)
    return tuple(words)


def complete_variables(
    variables: Mapping[str, Variable],
    thresholds: Mapping[str, Sequence[Threshold]],
    aliases: Aliases,
    *,
    thresholds_file: str | Path = "priors/thresholds.csv",
    aliases_file: str | Path = "networks/aliases.yaml",
) -> dict[str, Variable]:
    """Give the variables of a network their cut-offs and spellings, and check that all fit.

    Parameters
    ----------
    variables : mapping of str to Variable
        From the network files.
    thresholds : mapping of str to sequence of Threshold
        From `load_thresholds`.
    aliases : Aliases
        From `load_aliases`.
    thresholds_file, aliases_file : path-like
        For errors.

    Returns
    -------
    dict of str to Variable
        The same variables in the same order, completed; a unit missing in the network is that of
        the first cut-off.

    Raises
    ------
    ModelError
        If a cut-off or an alias names a variable or state that does not exist, a name is both a
        variable and an alias, or the states with cut-offs are not all states of the variable.
    """
    for name in thresholds:
        if name not in variables:
            raise ModelError(
                "has cut-offs but is no variable of the network", file=thresholds_file, name=name
            )
    for name in aliases.states:
        if name not in variables:
            raise ModelError("is no variable of the network", file=aliases_file, name=name)
    for name, alias in aliases.variables.items():
        if name in variables:
            raise ModelError("is both a variable and an alias", file=aliases_file, name=name)
        if alias.variable not in variables:
            raise ModelError(
                f"stands for {alias.variable}, which is no variable of the network",
                file=aliases_file,
                name=name,
            )
    completed = {}
    for name, variable in variables.items():
        rows = tuple(thresholds.get(name, variable.thresholds))
        reached = {row.state for row in rows}
        for state in sorted(reached - set(variable.states)):
            raise ModelError(
                f"a cut-off leads to the unknown state {state}", file=thresholds_file, name=name
            )
        missing = set(variable.states) - reached
        if rows and missing:
            raise ModelError(
                f"no cut-off leads to {', '.join(sorted(missing))}",
                file=thresholds_file,
                name=name,
            )
        spellings = {**variable.aliases, **aliases.states.get(name, {})}
        try:
            completed[name] = replace(
                variable,
                thresholds=rows,
                aliases=spellings,
                unit=variable.unit
                if variable.unit is not None or not rows
                else (rows[0].unit or None),
            )
        except ModelError as error:
            raise ModelError(error.problem, file=aliases_file, name=name) from error
    _check_rewrites(completed, aliases, aliases_file)
    return completed


def _check_rewrites(variables: Mapping[str, Variable], aliases: Aliases, file: str | Path) -> None:
    for name, table in aliases.rewrites.items():
        if name in variables or name in aliases.variables:
            raise ModelError("is both a variable and a rewritten finding", file=file, name=name)
        for findings in table.values():
            for target, value in findings.items():
                variable = variables.get(target)
                if variable is None:
                    raise ModelError(f"names the unknown variable {target}", file=file, name=name)
                for word in value if isinstance(value, list) else [value]:
                    if states_of(variable, str(word)) is None:
                        raise ModelError(
                            f"names the unknown state {word!r} of {target}", file=file, name=name
                        )
