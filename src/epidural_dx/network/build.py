"""Build every conditional probability table from structure and literature.

The tables of a model are functions of a few hundred pooled columns (the *parameters*) and of the
rates. `TableBuilder` pools each column once and remembers what it rests on; the formulas are in
:mod:`epidural_dx.network.tables`, the rates in :mod:`epidural_dx.network.rates`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from epidural_dx.errors import ModelError
from epidural_dx.literature.base import LiteratureBase
from epidural_dx.literature.pooling import ExpertColumn, Observation, Pooled, pool
from epidural_dx.literature.rows import Figure, read_table
from epidural_dx.network import tables as formulas
from epidural_dx.network.rates import (
    PooledRate,
    RateCheck,
    RateTable,
    pool_rates,
    read_rates,
    solve_excess,
)
from epidural_dx.network.structure import Mechanism, Node, Structure, read_yaml

Array = NDArray[np.float64]
ColumnKey = tuple[str, str, str, str]
STATED_COLUMNS = (
    "id,variable,given,given_state,state,probability,ess,grade,source_ids,rows,why".split(",")
)
#: A state that no patient of the column is known to have: not zero, since only deterministic
#: nodes may hold zeros, and small enough to change no posterior.
NEVER = 1e-6


@dataclass(frozen=True)
class Stated:
    """One declared column of ``priors/stated.csv``."""

    id: str
    variable: str
    given: str
    given_state: str
    probabilities: Mapping[str, float]
    ess: float
    grade: str
    source_ids: tuple[str, ...]
    rows: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Scenario:
    """Base rates of one setting; never likelihoods.

    Attributes
    ----------
    name, label : str
    age_group : mapping of str to float
        Share of each age group in the population.
    contexts : tuple of str
        Which expert columns replace the general ones (``high_tuberculosis`` …).
    odds : mapping of str to float
        Multipliers of the odds of a group of conditions (``cancer``).
    why : str
    source_ids : tuple of str
    """

    name: str
    label: str
    age_group: Mapping[str, float]
    contexts: tuple[str, ...]
    odds: Mapping[str, float]
    why: str
    source_ids: tuple[str, ...]


@dataclass(frozen=True)
class Built:
    """Everything that the labelled model needs, as arrays by name.

    Attributes
    ----------
    structure : Structure
    scenario : Scenario
    tables : mapping of str to ndarray
        ``tables[x]`` has one axis per parent of x, the states of x last. ``etiology`` is absent.
    selection : mapping of str to ndarray
        ``selection[c]`` of shape (mechanisms, states of c): the factors of the rates.
    weights : ndarray, shape (mechanisms,)
        Scale of every mechanism, per 100,000 person-years.
    columns : mapping
        What every pooled column rests on, keyed by (variable, given, state, context).
    rates : mapping of str to PooledRate
    checks : tuple of RateCheck
    """

    structure: Structure
    scenario: Scenario
    tables: Mapping[str, Array]
    selection: Mapping[str, Array]
    weights: Array
    columns: Mapping[ColumnKey, Pooled]
    rates: Mapping[str, PooledRate]
    checks: tuple[RateCheck, ...]
    used_rows: frozenset[str] = field(default=frozenset())


def read_stated(folder: Path) -> dict[tuple[str, str, str], Stated]:
    """Read ``stated.csv`` as columns keyed by (id, variable, given state).

    Raises
    ------
    ModelError
        A probability outside 0..1, a column whose sum exceeds 1, or a missing source.
    """
    path = folder / "stated.csv"
    collected: dict[tuple[str, str, str], list[tuple[int, dict[str, str]]]] = {}
    for line, row in read_table(path, STATED_COLUMNS):
        collected.setdefault((row["id"], row["variable"], row["given_state"]), []).append(
            (line, row)
        )
    result = {}
    for key, rows in collected.items():
        probabilities: dict[str, float] = {}
        for line, row in rows:
            where = {"file": str(path), "line": line, "name": "/".join(key)}
            try:
                value = float(row["probability"])
                ess = float(row["ess"])
            except ValueError:
                raise ModelError("probability and ess must be numbers", **where) from None
            if not 0 <= value <= 1:
                raise ModelError(f"the probability {value:g} is outside 0..1", **where)
            if row["state"] in probabilities:
                raise ModelError(f"the state {row['state']!r} stands twice", **where)
            if not row["source_ids"]:
                raise ModelError("the figure has no source", **where)
            probabilities[row["state"]] = value
        if sum(probabilities.values()) > 1 + 1e-9:
            raise ModelError(
                f"the column sums to {sum(probabilities.values()):g}, not to 1",
                file=str(path),
                line=rows[0][0],
                name="/".join(key),
            )
        first = rows[0][1]
        result[key] = Stated(
            id=first["id"],
            variable=first["variable"],
            given=first["given"],
            given_state=first["given_state"],
            probabilities=probabilities,
            ess=ess,
            grade=first["grade"],
            source_ids=tuple(first["source_ids"].split("|")),
            rows=tuple(r for r in first["rows"].split("|") if r),
            why=first["why"],
        )
    return result


def read_scenarios(folder: Path) -> dict[str, Scenario]:
    """Read ``scenarios.yaml``.

    Raises
    ------
    ModelError
        Age shares that do not sum to 1, or a malformed entry.
    """
    path = folder / "scenarios.yaml"
    document, lines = read_yaml(path)
    result = {}
    for name, entry in document.get("scenarios", {}).items():
        where = {"file": str(path), "line": lines.get(name), "name": name}
        try:
            ages = {k: float(v) for k, v in entry["age_group"].items()}
            scenario = Scenario(
                name=name,
                label=entry["label"],
                age_group=ages,
                contexts=tuple(entry.get("contexts", ())),
                odds={k: float(v) for k, v in entry.get("odds", {}).items()},
                why=entry["why"],
                source_ids=tuple(entry["sources"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"the scenario is incomplete: {error}", **where) from None
        if abs(sum(ages.values()) - 1) > 1e-9:
            raise ModelError(f"age_group sums to {sum(ages.values()):g}, not to 1", **where)
        result[name] = scenario
    return result


def read_associations(folder: Path) -> dict[str, float]:
    """Read ``associations.csv``: log odds ratios by id.

    Raises
    ------
    ModelError
        Not a number, or no source.
    """
    path = folder / "associations.csv"
    columns = "id,log_odds_ratio,low,high,grade,source_ids,why".split(",")
    result = {}
    for line, row in read_table(path, columns):
        where = {"file": str(path), "line": line, "name": row["id"]}
        try:
            result[row["id"]] = float(row["log_odds_ratio"])
        except ValueError:
            raise ModelError("log_odds_ratio must be a number", **where) from None
        if not row["source_ids"]:
            raise ModelError("the figure has no source", **where)
    return result


class TableBuilder:
    """Builds the tables of one structure from one literature base under one scenario.

    Parameters
    ----------
    structure, literature, priors, scenario
        What to build from.
    keep : callable, optional
        Leaves out literature rows for which it returns False.
    values : mapping, optional
        Values of parameters that replace the pooled means (sensitivity, parameter draws), keyed
        as :attr:`Built.columns`.
    """

    def __init__(
        self,
        structure: Structure,
        literature: LiteratureBase,
        priors: Path,
        scenario: Scenario,
        *,
        keep: Callable[[Figure], bool] | None = None,
        values: Mapping[ColumnKey, Array] | None = None,
    ) -> None:
        self.structure = structure
        self.literature = literature
        self.scenario = scenario
        self.keep = keep
        self.values = values or {}
        self.stated = read_stated(priors)
        self.associations = read_associations(priors)
        self.rate_figures = read_rates(priors)
        self.columns: dict[ColumnKey, Pooled] = {}
        self.used_rows: set[str] = set()
        self.rates: dict[str, PooledRate] = {}
        self.tables: dict[str, Array] = {}
        self._subtype_shares: dict[str, float] = {}

    # ---------------------------------------------------------------- columns

    def node(self, name: str) -> Node:
        """Return the declared variable `name`."""
        return self.structure.nodes[name]

    def states(self, name: str) -> tuple[str, ...]:
        """States of a variable; for the expert-only names, those of the experts' tables."""
        if name in self.structure.nodes:
            return self.structure.nodes[name].states
        if name == "tissue":
            return ("melanoma", "other_tumor", "nerve_sheath_tumor", "non_tumor")
        if name == "bone_metastasis":
            return ("absent", "present")
        raise KeyError(name)

    def matrix(
        self,
        variable: str,
        given: str,
        *,
        states: Sequence[str] | None = None,
        given_states: Sequence[str] | None = None,
        contexts: Mapping[str, str] | None = None,
        leaves_out: Mapping[str, str] | None = None,
    ) -> Array:
        """Pooled P(variable | given), shape (given states, states).

        ``contexts`` names the experts' context per given state; ``leaves_out`` reads another
        given state's column instead (a finding that belongs to the condition, not the lesion).
        """
        names = tuple(states or self.states(variable))
        rows = tuple(given_states or self.states(given))
        pooled = self._pooled(variable, names, given, self.states(given), "")
        result = []
        for g in rows:
            g = (leaves_out or {}).get(g, g)
            context = (contexts or {}).get(g, "")
            source = (
                self._pooled(variable, names, given, self.states(given), context)
                if context
                else pooled
            )
            key = (variable, given, g, context)
            self.columns[key] = source[g]
            self.used_rows.update(source[g].rows)
            result.append(self.values.get(key, source[g].mean))
        return np.stack(result, axis=-2)

    def _pooled(
        self,
        variable: str,
        names: tuple[str, ...],
        given: str,
        given_states: tuple[str, ...],
        context: str,
    ) -> dict[str, Pooled]:
        key = (variable, given, context)
        cache: dict[tuple[str, str, str], dict[str, Pooled]] = self.__dict__.setdefault("_c", {})
        if key not in cache:
            cache[key] = self.literature.pooled_columns(
                variable,
                names,
                given,
                given_states,
                shares=self._subtype_shares if given == "lesion_subtype" else None,
                context=context,
                keep=self.keep,
            )
        return cache[key]

    def stated_column(self, id: str, variable: str, given_state: str) -> Stated:
        """Return a declared column.

        Raises
        ------
        ModelError
            Not in ``stated.csv``.
        """
        try:
            return self.stated[(id, variable, given_state)]
        except KeyError:
            raise ModelError(
                f"no stated column {id!r} of {variable} for {given_state!r}",
                file="stated.csv",
                name=id,
            ) from None

    def stated_value(self, id: str, variable: str, given_state: str, state: str) -> float:
        """One probability of a declared column."""
        stated = self.stated_column(id, variable, given_state)
        key = (variable, stated.given, given_state, id)
        names = tuple(stated.probabilities)
        total = sum(stated.probabilities.values())
        mean = np.array([*stated.probabilities.values(), 1 - total])
        mean = np.clip(mean, 1e-12, 1)
        self._remember(key, mean / mean.sum(), stated)
        value = self.values.get(key, self.columns[key].mean)
        return float(value[..., names.index(state)])

    def stated_vector(self, id: str, variable: str, given_state: str) -> Array:
        """A whole declared column in the variable's order of states."""
        stated = self.stated_column(id, variable, given_state)
        names = self.states(variable)
        missing = [s for s in stated.probabilities if s not in names]
        if missing:
            raise ModelError(
                f"{missing[0]!r} is no state of {variable}; states are {', '.join(names)}",
                file="stated.csv",
                name=id,
            )
        mean = np.array([stated.probabilities.get(s, 0.0) for s in names])
        if abs(mean.sum() - 1) > 1e-6:
            raise ModelError(
                f"the column of {given_state!r} sums to {mean.sum():g}, not to 1",
                file="stated.csv",
                name=f"{id}/{variable}",
            )
        mean = np.maximum(mean, NEVER)
        mean = mean / mean.sum()
        key = (variable, stated.given, given_state, id)
        observations = self._figures_on(variable, stated.given, given_state)
        if observations:
            pooled = pool(
                len(names), observations, (), self.literature.settings, prior=(mean, stated.ess)
            )
            self.columns[key] = pooled
            self.used_rows.update(pooled.rows)
        else:
            self._remember(key, mean, stated)
        return self.values.get(key, self.columns[key].mean)

    def _pooled_shares(self, cause: str) -> Array:
        """Shares of a cause's subtypes: the stated ones, moved by published counts."""
        subtypes = self.structure.subtypes[cause]
        id = next(iter(subtypes.values()))
        stated = self.stated_column(id, "lesion_subtype", cause)
        mean = np.array([stated.probabilities[s] for s in subtypes])
        position = {s: i for i, s in enumerate(subtypes)}
        observations = [
            self.literature.observation(f, position)
            for f in self.literature.figures
            if f.use == "pool"
            and f.variable == "lesion_subtype"
            and f.given == "lesion_cause"
            and f.given_states == (cause,)
            and (self.keep is None or self.keep(f))
        ]
        pooled = pool(
            len(mean), observations, (), self.literature.settings,
            prior=(mean / mean.sum(), stated.ess),
        )
        if not observations:
            pooled = replace(pooled, grade=stated.grade, rows=stated.rows)
        key = ("lesion_subtype", "lesion_cause", cause, id)
        self.columns[key] = pooled
        self.used_rows.update(pooled.rows)
        return np.asarray(self.values.get(key, pooled.mean))

    def _remember(self, key: ColumnKey, mean: Array, stated: Stated) -> None:
        self.columns[key] = Pooled(mean=mean, ess=stated.ess, grade=stated.grade, rows=stated.rows)
        self.used_rows.update(stated.rows)

    def _figures_on(self, variable: str, given: str, given_state: str) -> list[Observation]:
        position = {s: i for i, s in enumerate(self.states(variable))}
        return [
            self.literature.observation(f, position)
            for f in self.literature.figures
            if f.use == "pool"
            and f.variable == variable
            and f.given == given
            and f.given_states == (given_state,)
            and (self.keep is None or self.keep(f))
        ]

    # ----------------------------------------------------------------- build

    def build(self) -> Built:
        """Build all tables, fit the rates, and check what came out.

        Raises
        ------
        ModelError
            A table that cannot be made or breaks the laws of probability.
        """
        for cause, subtypes in self.structure.subtypes.items():
            for subtype, share in zip(subtypes, self._pooled_shares(cause), strict=True):
                self._subtype_shares[subtype] = float(share)
        for node in self.structure.nodes.values():
            if node.name == "etiology":
                continue
            method = str(node.table["method"])
            maker = getattr(self, f"_make_{method}", None)
            where = {"file": node.file, "line": node.line, "name": node.name}
            if maker is None:
                known = [m[6:] for m in dir(self) if m.startswith("_make_")]
                raise ModelError(
                    f"unknown method {method!r}; methods are {', '.join(known)}", **where
                )
            try:
                table = maker(node)
            except ModelError:
                raise
            except (KeyError, ValueError, IndexError, TypeError) as error:
                raise ModelError(f"the table cannot be made: {error!r}", **where) from error
            self.tables[node.name] = self._checked(node, table)
        selection, weights, checks = self._fit_rates()
        return Built(
            structure=self.structure,
            scenario=self.scenario,
            tables=self.tables,
            selection=selection,
            weights=weights,
            columns=self.columns,
            rates=self.rates,
            checks=tuple(checks),
            used_rows=frozenset(self.used_rows),
        )

    def _checked(self, node: Node, table: Array) -> Array:
        where = {"file": node.file, "line": node.line, "name": node.name}
        shape = tuple(len(self.states(p)) for p in node.parents) + (len(node.states),)
        if table.shape != shape:
            raise ModelError(f"the table has the shape {table.shape}, not {shape}", **where)
        if not np.all(np.isfinite(table)) or np.any(table < 0):
            raise ModelError("the table has a negative or undefined cell", **where)
        off = float(np.max(np.abs(table.sum(-1) - 1)))
        if off > 1e-9:
            raise ModelError(f"a column sums to 1 {off:+.2g}", **where)
        if node.table["method"] not in DETERMINISTIC and np.any(table == 0):
            raise ModelError("a cell is zero outside a deterministic node", **where)
        table = table / table.sum(-1, keepdims=True)
        table.setflags(write=False)
        return table

    # --------------------------------------------------------------- methods

    def _make_scenario(self, node: Node) -> Array:
        shares = self.scenario.age_group
        return np.array([shares[s] for s in node.states])

    def _make_pooled(self, node: Node) -> Array:
        (parent,) = node.parents
        return self.matrix(node.name, parent, contexts=node.table.get("contexts"))

    def _make_pooled_state(self, node: Node) -> Array:
        (parent,) = node.parents
        variable, state = node.table["variable"], node.table["state"]
        column = self.matrix(variable, parent)[..., self.states(variable).index(state)]
        if "relative_to" in node.table:
            reference = column[self.states(parent).index(node.table["relative_to"])]
            column = np.maximum(formulas.excess_probability(column, reference), NEVER)
        return np.stack([1 - column, column], axis=-1)

    def _make_reported(self, node: Node) -> Array:
        """An exposure as patients report it: true ones seldom missed, and a level of false ones.

        The false level is the mean of the pooled columns of lesions that the exposure does not
        cause.
        """
        missed = self.stated_value("record_missed", "record", "any", "present")
        false = self.matrix(
            node.name, "lesion_subtype", given_states=node.table["unrelated"]
        )[:, 1].mean()
        return np.array([[1 - false, false], [missed, 1 - missed]])

    def _make_cells(self, node: Node) -> Array:
        (parent,) = node.parents
        return np.stack(
            [self.stated_vector(node.table["id"], node.name, g) for g in self.states(parent)]
        )

    def _make_deterministic(self, node: Node) -> Array:
        (parent,) = node.parents
        table = np.zeros((len(self.states(parent)), len(node.states)))
        for i, state in enumerate(self.states(parent)):
            result = node.table["map"].get(state, node.table["otherwise"])
            table[i, node.states.index(result)] = 1.0
        return table

    def _make_dominance(self, node: Node) -> Array:
        order = [
            (
                node.parents.index(p),
                self.states(p).index(s),
                node.states.index(r),
            )
            for p, s, r in node.table["order"]
        ]
        return formulas.dominance(
            [len(self.states(p)) for p in node.parents],
            order,
            node.states.index(node.table["otherwise"]),
            len(node.states),
        )

    def _make_lesion_cause(self, node: Node) -> Array:
        table = np.zeros((len(self.structure.mechanisms), len(node.states)))
        for i, m in enumerate(self.structure.mechanisms.values()):
            table[i, node.states.index(m.cause)] = 1.0
        return table

    def _make_lesion_subtype(self, node: Node) -> Array:
        table = np.zeros((len(self.structure.mechanisms), len(node.states)))
        for i, m in enumerate(self.structure.mechanisms.values()):
            shares = self.structure.subtypes.get(m.cause)
            if m.name in node.states:
                table[i, node.states.index(m.name)] = 1.0
            elif shares:
                for subtype in shares:
                    value = self._subtype_shares[subtype]
                    table[i, node.states.index(subtype)] = value
            else:
                table[i, node.states.index(m.cause)] = 1.0
        return table / table.sum(-1, keepdims=True)

    def _make_associated(self, node: Node) -> Array:
        spec = node.table
        base, partner = spec["base"], spec["partner"]
        child = self.matrix(node.name, base)
        other = self.matrix(partner, base)
        scores = spec.get("scores", {})
        child_scores = np.arange(len(node.states), dtype=float)
        partner_scores = np.arange(len(self.states(partner)), dtype=float)
        if scores and set(scores) <= set(self.states(partner)):
            partner_scores = np.array([float(scores.get(s, 0)) for s in self.states(partner)])
        elif scores:
            child_scores = np.array([float(scores.get(s, 0)) for s in node.states])
        strength = self.associations[spec["strength"]]
        theta = np.full(len(self.states(base)), strength)
        if "only" in spec:
            theta = np.array(
                [strength if s in spec["only"] else 0.0 for s in self.states(base)]
            )
        table = formulas.associated(child, other, theta, child_scores, partner_scores)
        return table if node.parents == (base, partner) else np.swapaxes(table, -3, -2)

    def _make_unless_removed(self, node: Node) -> Array:
        spec = node.table
        present = self.matrix(node.name, spec["base"])[..., 1]
        removed = self.matrix(spec["removed"], spec["base"])[..., 1]
        kept = np.clip(present / (1 - removed), None, 0.98)
        floor = np.full_like(kept, self.literature.settings.floor)
        both = np.stack([kept, floor], axis=-1)
        return np.stack([1 - both, both], axis=-1)

    def _make_ratio(self, node: Node) -> Array:
        spec = node.table
        if "base_fitted" in spec:
            base = self._fitted_columns(node, spec["base_fitted"])
        else:
            base = self.matrix(node.name, spec["base"])
        modifier = self.matrix(node.name, spec["modifier"])
        states = self.states(spec["modifier"])
        reference = states.index(spec["reference"])
        if "when" in spec:
            modifier = modifier.copy()
            for i, s in enumerate(states):
                if s not in spec["when"]:
                    modifier[i] = modifier[reference]
        only = [node.states.index(s) for s in spec["only"]] if "only" in spec else None
        return formulas.ratio(base, modifier, reference, only)

    def _expand(self, matrix: Array, given: str, parent: str) -> Array:
        """Rows by lesion subtype, mixed into rows by mechanism, when the parent is etiology."""
        if given == parent:
            return matrix
        if given == "lesion_subtype" and parent == "etiology":
            return np.asarray(self.tables["lesion_subtype"] @ matrix)
        raise ValueError(f"cannot read {given} by {parent}")

    def _make_noisy_or(self, node: Node) -> Array:
        links: dict[str, Array] = {}
        for spec in node.table["causes"]:
            parent = spec["parent"]
            if "prevalence" in spec:
                link = np.array(
                    [
                        self._prevalence(spec["prevalence"], "present", age, {})
                        for age in self.states(parent)
                    ]
                )
            elif "link" in spec:
                link = np.zeros(len(self.states(parent)))
                for state, cell in spec["link"].items():
                    column = self.matrix(node.name, cell["given"], given_states=[cell["state"]])
                    link[self.states(parent).index(state)] = column[0, 1]
            elif "fitted" in spec:
                link = self._fitted_link(node, parent, spec["fitted"])
            else:
                given = spec["given"]
                probability = self.matrix(
                    node.name, given, leaves_out=spec.get("leaves_out")
                )[..., 1]
                if "relative_to" in spec:
                    reference = self.matrix(
                        node.name, given, given_states=[spec["relative_to"]]
                    )[0, 1]
                    probability = formulas.excess_probability(probability, reference)
                link = self._expand(probability[:, None], given, parent)[:, 0]
            links[parent] = link
        return formulas.noisy_or([links[p] for p in node.parents])

    def _fitted_link(self, node: Node, parent: str, spec: Mapping[str, Any]) -> Array:
        """P(child | parent) that best gives back P(child | given) through the parent.

        Bounded least squares over the states of ``given``; the parent's distribution there is
        read off the variable ``through`` (ordered as the parent).
        """
        left_out = set(spec.get("leaves_out", ()))
        rows = [s for s in self.states(spec["given"]) if s not in left_out]
        through = self.matrix(spec["through"], spec["given"], given_states=rows)
        target = self.matrix(node.name, spec["given"], given_states=rows)[..., 1]
        fit = lsq_linear(through, target, bounds=(0.002, 0.998))
        return np.asarray(np.maximum.accumulate(fit.x), dtype=np.float64)

    def _fitted_columns(self, node: Node, spec: Mapping[str, Any]) -> Array:
        """P(child | parent) for any number of child states, fitted as :meth:`_fitted_link`."""
        left_out = set(spec.get("leaves_out", ()))
        rows = [s for s in self.states(spec["given"]) if s not in left_out]
        through = self.matrix(spec["through"], spec["given"], given_states=rows)
        target = self.matrix(node.name, spec["given"], given_states=rows)
        columns = [
            lsq_linear(through, target[:, k], bounds=(0.002, 0.998)).x
            for k in range(target.shape[1])
        ]
        return formulas.normalized(np.stack(columns, axis=-1))

    def _make_fitted(self, node: Node) -> Array:
        (parent,) = node.parents
        spec = node.table
        through = self.matrix(spec["through"], spec["given"])
        target = self.matrix(node.name, spec["given"])[..., 1]
        x = lsq_linear(through, target, bounds=(0.002, 0.998)).x
        return np.stack([1 - x, x], axis=-1)

    def _make_noisy_max(self, node: Node) -> Array:
        by_parent: dict[str, Array] = {}
        for spec in node.table["causes"]:
            parent, given = spec["parent"], spec["given"]
            variable = spec.get("variable", node.name)
            columns = self.matrix(
                variable,
                given,
                states=spec.get("states"),
                leaves_out=spec.get("leaves_out"),
            )
            if "relative_to" in spec:
                reference = self.matrix(
                    variable, given, states=spec.get("states"), given_states=[spec["relative_to"]]
                )
                cumulative = formulas.relative_cumulative(columns, reference)
            else:
                cumulative = np.cumsum(columns, -1)
                cumulative[..., -1] = 1.0
            by_parent[parent] = self._expand(cumulative, given, parent)
        table = formulas.noisy_max([by_parent[p] for p in node.parents])
        return formulas.normalized(np.maximum(table, NEVER))

    def _make_rules(self, node: Node) -> Array:
        shape = [len(self.states(p)) for p in node.parents]
        table = np.zeros((*shape, len(node.states)))
        causes = [m.cause for m in self.structure.mechanisms.values()]
        for index in np.ndindex(*shape):
            at = {p: self.states(p)[i] for p, i in zip(node.parents, index, strict=True)}
            if "etiology" in at:
                at["lesion_cause"] = causes[index[node.parents.index("etiology")]]
            table[index] = self._first_rule(node, at)
        return table

    def _first_rule(self, node: Node, at: Mapping[str, str]) -> Array:
        for rule in node.table["rules"]:
            conditions = {
                k: [v] if isinstance(v, str) else v for k, v in rule.get("when", {}).items()
            }
            if not all(at[k] in v for k, v in conditions.items()):
                continue
            if "state" in rule:
                column = np.full(len(node.states), NEVER)
                column[node.states.index(rule["state"])] = 1 - NEVER * (len(node.states) - 1)
                return column
            if "stated" in rule:
                given = next(
                    (g for (i, v, g) in self.stated if i == rule["stated"] and v == node.name), ""
                )
                return self.stated_vector(rule["stated"], node.name, given)
            spec = rule["column"]
            given = spec["given"]
            state = spec.get("state", at.get(given, ""))
            context = {state: spec["context"]} if "context" in spec else None
            return self.matrix(node.name, given, given_states=[state], contexts=context)[0]
        raise ValueError(f"no rule covers {dict(at)}")

    def _make_override(self, node: Node) -> Array:
        spec = node.table
        base = self.matrix(node.name, spec["base"], leaves_out=spec.get("leaves_out"))
        weight = self.stated_value(spec["weight"], "share", "present", "present")
        sure = np.zeros(len(node.states))
        sure[node.states.index(spec["state"])] = 1.0
        return np.stack([base, (1 - weight) * base + weight * sure], axis=-2)

    def _make_clot_with_tumor(self, node: Node) -> Array:
        spec = node.table
        base = self.matrix(node.name, spec["base"])
        weight = self.stated_value(spec["weight"], "share", "hematoma", "present")
        by = self.states(spec["by"])
        table = np.repeat(base[:, None, :], len(by), axis=1)
        for subtype in spec["clots"]:
            i = self.states(spec["base"]).index(subtype)
            for j, state in enumerate(by):
                if state in spec["states"]:
                    sure = np.zeros(len(node.states))
                    sure[node.states.index(spec["states"][state])] = 1.0
                    table[i, j] = (1 - weight) * base[i] + weight * sure
        return table

    def _make_unnamed_share(self, node: Node) -> Array:
        spec = node.table
        named = [s for s in node.states if s != spec["state"]]
        columns = self.matrix(node.name, spec["given"], states=named)
        share = np.array(
            [
                self.stated_value(spec["id"], node.name, g, spec["state"])
                for g in self.states(spec["given"])
            ]
        )
        table = np.empty((*columns.shape[:-1], len(node.states)))
        table[..., [node.states.index(s) for s in named]] = columns * (1 - share)[:, None]
        table[..., node.states.index(spec["state"])] = share
        return table

    def _make_isth_score(self, node: Node) -> Array:
        return formulas.isth_score()

    def _make_cytopenia_report(self, node: Node) -> Array:
        error = self.stated_value("report_error", node.name, "any", "error")
        hemoglobin, platelets, wbc = (self.states(p) for p in node.parents)
        table = np.empty((len(hemoglobin), len(platelets), len(wbc), len(node.states)))
        for i, h in enumerate(hemoglobin):
            for j, p in enumerate(platelets):
                for k, w in enumerate(wbc):
                    anemia, thrombocytopenia = h.endswith("anemia"), "low" in p
                    shown = {"none": 0.0, "isolated_anemia": 0.0, "thrombocytopenia": 0.0,
                             "pancytopenia": 0.0}
                    if anemia and thrombocytopenia and w == "low":
                        shown["pancytopenia"] = 1.0
                    elif anemia and thrombocytopenia:
                        # two lines: reports name the pattern after either, or after all three
                        shown.update(isolated_anemia=0.2, thrombocytopenia=0.4, pancytopenia=0.4)
                    elif anemia:
                        shown["isolated_anemia"] = 1.0
                    elif thrombocytopenia:
                        shown["thrombocytopenia"] = 1.0
                    else:
                        shown["none"] = 1.0
                    column = np.array([shown[s] for s in node.states])
                    table[i, j, k] = (1 - error) * column + error / len(node.states)
        return table

    def _make_record(self, node: Node) -> Array:
        spec = node.table
        missed = self.stated_value("record_missed", "record", "any", "present")
        wrong = self.stated_value("record_wrong", "record", node.name, "present")
        table = np.empty((*(len(self.states(p)) for p in node.parents), 2))
        for index in np.ndindex(table.shape[:-1]):
            at = {p: self.states(p)[i] for p, i in zip(node.parents, index, strict=True)}
            if "any_of" in spec:
                there = any(at[v] in states for v, states in spec["any_of"].items())
            else:
                there = at[spec["of"]] in spec["states"]
                if "known" in spec:
                    there = there and at[spec["known"]] == "present"
            present = 1 - missed if there else wrong
            table[index] = (1 - present, present)
        return table

    # ------------------------------------------------- conditions and marrow

    def _log_mean(self, variable: str, state: str, given: str, given_state: str,
                  context: str) -> tuple[float, tuple[str, ...]] | None:
        """Geometric mean of the experts' probability, or of prevalence rows where they are silent."""
        values = [
            c.probability
            for c in self.literature.experts
            if c.variable == variable
            and c.states == (state,)
            and c.given == given
            and c.given_states == (given_state,)
            and c.context == context
        ]
        if values:
            return float(np.exp(np.mean(np.log(np.maximum(values, 1e-9))))), ()
        rows = [
            f
            for f in self.literature.figures
            if f.use == "prevalence"
            and f.variable == variable
            and f.states == (state,)
            and f.proportion is not None
            and f.unit in ("proportion", "")
            and f.scenario in ("", self.scenario.name)
            and (not f.given_states or f.given_states == (given_state,))
        ]
        if not rows:
            return None
        self.used_rows.update(f.id for f in rows)
        mean = float(np.exp(np.mean([np.log(f.proportion) for f in rows if f.proportion])))
        return mean, tuple(f.id for f in rows)

    def _prevalence(self, variable: str, state: str, age: str, contexts: Mapping[str, str]
                    ) -> float:
        context = contexts.get("default", "")
        for name in self.scenario.contexts:
            context = contexts.get(name, context)
        found = self._log_mean(variable, state, "age_group", age, context)
        if found is None and context:
            found = self._log_mean(variable, state, "age_group", age, "")
        if found is None:
            raise ModelError(
                f"no prevalence of {state!r} at {age}", file="priors", name=variable
            )
        value, rows = found
        key = (variable, "age_group", age, f"prevalence:{state}")
        self.columns[key] = Pooled(
            mean=np.array([1 - value, value]),
            ess=6.0,
            grade="estimated" if rows else "expert",
            rows=rows,
        )
        override = self.values.get(key)
        return value if override is None else float(override[1])

    def _make_prevalence(self, node: Node) -> Array:
        spec = node.table
        ages = self.states("age_group")
        contexts = spec.get("contexts", {})
        columns = np.empty((len(ages), len(node.states)))
        for i, age in enumerate(ages):
            share: dict[str, float] = {}
            if "components" in spec:
                for variable, states in spec["components"].items():
                    own = contexts if variable == "hemoglobinopathy" else {}
                    for s in states:
                        share[s] = self._prevalence(variable, s, age, own)
                for s, groups in spec.get("products", {}).items():
                    share[s] = float(np.prod([sum(share[x] for x in g) for g in groups]))
            elif "split" in spec:
                total = self._prevalence(spec["from"], "present", age, contexts)
                for s in spec["split"]["states"]:
                    share[s] = total * self.stated_value(
                        spec["split"]["id"], node.name, "present", s
                    )
            else:
                source = spec.get("from", node.name)
                for s in node.states[1:]:
                    share[s] = self._prevalence(source, s, age, contexts)
            odds = self.scenario.odds.get("cancer", 1.0)
            weights = {s: v * (odds if s in spec.get("cancer", ()) else 1.0)
                       for s, v in share.items()}
            rest = 1 - sum(share.values())
            total = rest + sum(weights.values())
            columns[i] = [
                weights.get(s, 0.0) / total if j else rest / total
                for j, s in enumerate(node.states)
            ]
        if "sex" not in node.parents:
            return columns if node.parents else columns[0]
        by_sex = dict(spec.get("by_sex", {}))
        if "only" in spec:
            by_sex.update({s: spec["only"]["sex"] for s in node.states[1:]})
        table = np.empty((len(ages), 2, len(node.states)))
        for j, sex in enumerate(self.states("sex")):
            for k, s in enumerate(node.states[1:], start=1):
                factor = 1.0 if s not in by_sex else 2.0 if by_sex[s] == sex else 0.01
                table[:, j, k] = columns[:, k] * factor
            table[:, j, 0] = 1 - table[:, j, 1:].sum(-1)
        return table

    def _make_gated(self, node: Node) -> Array:
        spec = node.table["column"]
        parent = node.parents[0]
        present = np.full(len(self.states(parent)), NEVER)
        names = self.states("marrow_infiltration")
        for i, s in enumerate(self.states(parent)):
            if s != "none":
                column = self.matrix(
                    spec["variable"], spec["given"], given_states=[s],
                    contexts={s: spec["context"]},
                )[0]
                present[i] = column[names.index(spec["state"])]
        never = np.full_like(present, NEVER)
        both = np.stack([never, present], axis=-1)
        return np.stack([1 - both, both], axis=-1)

    def _make_marrow_dominance(self, node: Node) -> Array:
        spec = node.table["column"]
        with_bone = self.stated_value(spec["mix"], "bone_metastasis", "metastatic", "present")
        melanoma = self.states("marrow_infiltration").index("melanoma")
        reach = [
            float(
                self.matrix(
                    spec["variable"],
                    spec["given"],
                    given_states=["metastatic"],
                    contexts={"metastatic": context},
                )[0, melanoma]
            )
            for context in spec["contexts"]
        ]
        localized = self.stated_value(
            "tumor_in_marrow_without_metastasis", node.name, "localized", "present"
        )
        p = np.array([NEVER, localized, with_bone * reach[0] + (1 - with_bone) * reach[1]])
        table = np.empty((2, 3, 3))
        for carcinoma in range(2):
            other = 1 - NEVER if carcinoma else NEVER
            table[carcinoma, :, 2] = p
            table[carcinoma, :, 1] = (1 - p) * other
            table[carcinoma, :, 0] = (1 - p) * (1 - other)
        return table

    def _make_marrow_disease(self, node: Node) -> Array:
        blood = self.states("blood_disorder")
        table = np.full((len(blood), 3, len(node.states)), NEVER)
        index = {s: i for i, s in enumerate(node.states)}
        filled = {"lymphoma": "lymphoma_in_marrow", "thalassemia_with_cml": "cml"}
        for i, b in enumerate(blood):
            if b in SPARED:
                active = self.stated_value("marrow_active", node.name, b, "present")
                table[i, 0, index[filled.get(b, b)]] = active
                table[i, 0, index[SPARED[b]]] = 1 - active
            else:
                table[i, 0, index[b]] = 1.0
            table[i, 1, index["carcinoma"]] = 1.0
            table[i, 2, index["melanoma"]] = 1.0
        return formulas.normalized(table)

    def _make_marrow_infiltration(self, node: Node) -> Array:
        marrow = self.states("marrow_disease")
        table = np.full((len(marrow), len(node.states)), NEVER)
        sure = {"aml": "leukemia", "all": "leukemia", "lymphoma_in_marrow": "lymphoma",
                "carcinoma": "carcinoma", "melanoma": "melanoma"}
        for i, m in enumerate(marrow):
            if ("leukemic_marrow", node.name, m) in self.stated:
                leukemic = self.stated_value("leukemic_marrow", node.name, m, "leukemia")
                table[i, node.states.index("leukemia")] = leukemic
                table[i, 0] = 1 - leukemic
            else:
                table[i, node.states.index(sure.get(m, "none"))] = 1.0
        return formulas.normalized(table)

    def _make_coagulopathy(self, node: Node) -> Array:
        """Either the marrow or the infection may cause it; DIC rules thrombocytopenia."""
        names = self.states("hemostasis")
        t, d = names.index("thrombocytopenia"), names.index("dic")
        marrow = self.states("marrow_disease")
        background = self.stated_vector("background_coagulopathy", node.name, "none")
        chronic = self.stated_value("chronic_dic", node.name, "chronic", "dic")
        columns = self.matrix("hemostasis", "marrow_disease")
        acute = {"aml", "all", "lymphoma_in_marrow", "carcinoma", "melanoma"}
        low = np.empty(len(marrow))
        dic = np.empty(len(marrow))
        for i, m in enumerate(marrow):
            if m == "none":
                low[i], dic[i] = background[1], background[2]
            else:
                low[i] = columns[i, t]
                dic[i] = columns[i, d] if m in acute else chronic
        infection = self.matrix("hemostasis", "systemic_infection")
        # what infection adds: bacteremia as judged, a local focus and none nothing beyond the rest
        add_low = np.array([0.0, 0.0, infection[2, t]])
        add_dic = np.array([0.0, 0.0, infection[2, d]])
        p_dic = 1 - (1 - dic)[:, None] * (1 - add_dic)[None, :]
        p_low = (1 - (1 - low)[:, None] * (1 - add_low)[None, :]) * (1 - p_dic)
        return np.stack([1 - p_dic - p_low, p_low, p_dic], axis=-1)

    # ----------------------------------------------------------------- rates

    def _fit_rates(self) -> tuple[dict[str, Array], Array, list[RateCheck]]:
        from epidural_dx.network.population import Population

        mechanisms = list(self.structure.mechanisms.values())
        scenario = next((c for c in self.scenario.contexts), "")
        table = RateTable(self.rate_figures, scenario)
        population = Population(self.structure, self.tables)
        factors = {m.name: self._factors(m, table) for m in mechanisms}
        scales: dict[str, float] = {}
        for m in mechanisms:
            if m.rate["kind"] == "baseline":
                scales[m.name] = 1.0
            elif m.rate["kind"] == "by_state":
                self._present_as_published(m, factors[m.name], population)
                self._scale_by_state(m, factors[m.name], population)
                scales[m.name] = 1.0
        for cause in self.states("lesion_cause"):
            drivers = [m for m in mechanisms if m.cause == cause and m.rate["kind"] == "excess"]
            if not drivers:
                continue
            others = [m for m in mechanisms if m.cause == cause and m.rate["kind"] != "excess"]
            totals = np.array(
                [self._rate(m.name, table.need(cause, m.rate["given"], m.rate["state"]))
                 for m in drivers]
            )
            people = [{m.rate.get("of", m.rate["given"]): m.rate["state"]} for m in drivers]
            fixed = np.array(
                [sum(population.expectation(factors[o.name], p) for o in others) for p in people]
            )
            exposure = np.array(
                [
                    [
                        0.0
                        if m.apart and m is not own
                        else population.expectation(factors[m.name], p)
                        for m in drivers
                    ]
                    for own, p in zip(drivers, people, strict=True)
                ]
            )
            solution = solve_excess(totals, fixed, exposure)
            scales.update(zip((m.name for m in drivers), solution, strict=True))
        # A driver whose excess vanishes keeps a trace: the mechanism exists, and no zero is honest.
        trace = 1e-6
        for m in mechanisms:
            if m.rate["kind"] == "excess":
                scales[m.name] = max(scales[m.name], trace)
        selection: dict[str, Array] = {}
        for i, m in enumerate(mechanisms):
            for variable, factor in factors[m.name].items():
                if variable not in selection:
                    selection[variable] = np.ones(
                        (len(mechanisms), len(self.states(variable)))
                    )
                selection[variable][i] = factor
        weights = np.array([scales[m.name] for m in mechanisms])
        checks = self._rate_checks(table, population, factors, scales)
        for array in selection.values():
            array.setflags(write=False)
        weights.setflags(write=False)
        return selection, weights, checks

    def _rate(self, name: str, pooled: PooledRate) -> float:
        self.rates[name] = pooled
        override = self.values.get(("rate", name, "", ""))
        return pooled.rate if override is None else float(override[0])

    def _factors(self, m: Mechanism, table: RateTable) -> dict[str, Array]:
        """Factors of single conditions: age, sex, required states, rates by state."""
        ages = self.states("age_group")
        factors: dict[str, Array] = {}
        for variable, states in m.requires.items():
            factors[variable] = np.array(
                [1.0 if s in states else 0.0 for s in self.states(variable)]
            )
        if m.rate["kind"] == "baseline":
            by_age = np.array(
                [
                    self._rate(f"{m.name}@{a}", table.need(m.cause, "", "", a, "baseline"))
                    for a in ages
                ]
            )
            if "share" in m.rate:
                id = m.rate["share"]
                by_age = by_age * np.array(
                    [
                        self.stated_value(id, "share", g, "present")
                        for g in (
                            ages if (id, "share", ages[0]) in self.stated
                            else [m.cause] * len(ages)
                        )
                    ]
                )
            factors["age_group"] = by_age
        else:
            given = m.rate["given"]
            states = m.rate.get("states") or [m.rate["state"]]
            logs = np.zeros(len(ages))
            for i, age in enumerate(ages):
                found = []
                for s in states:
                    at_age = table.find(m.cause, given, s, age)
                    overall = table.find(m.cause, given, s)
                    if at_age and overall:
                        # the same experts on both sides: a figure of one expert alone is no trend
                        found.append(np.log(at_age.rate / overall.rate))
                logs[i] = float(np.mean(found)) if found else 0.0
            if np.any(logs):
                factors["age_group"] = np.exp(logs)
        if m.rate["kind"] == "by_state":
            factors.update(self._rates_by_state(m, table))
        if m.sex:
            factors["sex"] = self._sex_factor(m)
        return factors

    def _rates_by_state(self, m: Mechanism, table: RateTable) -> dict[str, Array]:
        given = m.rate["given"]
        variable = m.rate.get("of", given)
        values = np.zeros(len(self.states(variable)))
        share = self._known_share(m)
        for s in m.rate["states"]:
            total = table.find(m.cause, given, s, "", "total")
            known = table.find(m.cause, given, s, "", "known")
            parts, rows = [], []
            if total:
                parts.append(total.rate)
                rows += total.rows
            if known:
                # known disease is only a share of all; an unnamed share means the figure is total
                parts.append(known.rate / (share if share else 1.0))
                rows += known.rows
            if not parts:
                raise ModelError(
                    f"no rate for {m.cause} in {given}={s}", file="rates.csv", name=m.name
                )
            rate = self._rate(f"{m.name}@{s}", pool_rates(parts, rows))
            for target in m.rate.get("map", {}).get(s, [s]):
                values[self.states(variable).index(target)] = rate
        for extra, like in m.rate.get("also", {}).items():
            values[self.states(variable).index(extra)] = values[self.states(variable).index(like)]
        return {variable: values}

    def _known_share(self, m: Mechanism) -> float | None:
        if not m.known:
            return None
        for name in (m.name, m.cause):
            if ("known_at_presentation", "known", name) in self.stated:
                return self.stated_value("known_at_presentation", "known", name, "present")
        raise ModelError(
            "no stated share of known disease at presentation", file="stated.csv", name=m.name
        )

    def _sex_factor(self, m: Mechanism) -> Array:
        """Published share of women and men among the cause's patients, over the population's."""
        figures = [
            f
            for f in self.literature.figures
            if f.variable == "sex"
            and f.use == "rate"
            and f.given == "lesion_cause"
            and m.cause in f.given_states
            and (self.keep is None or self.keep(f))
            and f.proportion is not None
        ]
        position = {s: i for i, s in enumerate(self.states("sex"))}
        observations = [self.literature.observation(f, position) for f in figures]
        subtypes = self.structure.subtypes.get(m.cause) or {
            m.name if m.name in self.states("lesion_subtype") else m.cause: ""
        }
        experts = []
        for expert in ("A", "B"):
            cells = [
                c
                for c in self.literature.experts
                if c.expert == expert and c.variable == "sex" and c.given == "lesion_subtype"
                and c.given_states[0] in subtypes
            ]
            mean = np.array([
                np.mean([c.probability for c in cells if c.states == (s,)])
                for s in self.states("sex")
            ])
            experts.append(ExpertColumn(expert, mean / mean.sum(), 4.0))
        pooled = pool(2, observations, experts, self.literature.settings)
        key = ("sex", "lesion_cause", m.cause if len(subtypes) > 1 else next(iter(subtypes)), "")
        self.columns[key] = pooled
        self.used_rows.update(pooled.rows)
        return np.asarray(self.values.get(key, pooled.mean) / 0.5)

    def _present_as_published(self, m: Mechanism, factors: dict[str, Array], population: Any
                              ) -> None:
        """Factors on *known* and on the marrow, so that patients present as published."""
        if m.known:
            share = self._known_share(m)
            assert share is not None
            spread = population.conditional(factors, m.known)
            factors[m.known] = formulas.reweighting(np.array([1 - share, share]), spread)
        if not m.marrow:
            return
        involved = self.stated_value("marrow_involved", "marrow_disease", m.marrow, "present")
        spread = population.conditional(factors, "marrow_disease")
        names = self.states("marrow_disease")
        spared = names.index(SPARED[m.marrow])
        factor = np.full(len(names), involved / (1 - spread[spared]))
        factor[spared] = (1 - involved) / spread[spared]
        factors["marrow_disease"] = factor

    def _scale_by_state(self, m: Mechanism, factors: dict[str, Array], population: Any) -> None:
        """Divide by what the other factors do on average, so that each state keeps its rate."""
        variable = m.rate.get("of", m.rate["given"])
        rates = factors[variable]
        for i, state in enumerate(self.states(variable)):
            if rates[i] <= 0:
                continue
            given = m.rate["given"]
            people = {variable: state}
            if variable != given:
                people = {given: next(k for k, v in m.rate["map"].items() if state in v)}
            implied = population.expectation(factors, people)
            rates = rates.copy()
            rates[i] *= rates[i] / implied if implied > 0 else 1.0
            factors[variable] = rates

    def _exposed(self, given: str) -> str:
        """The true exposure behind a reported one (rates are about what happened)."""
        for m in self.structure.mechanisms.values():
            if m.rate["kind"] == "excess" and m.rate["given"] == given:
                return str(m.rate.get("of", given))
        return given

    def _rate_checks(
        self,
        table: RateTable,
        population: Any,
        factors: Mapping[str, Mapping[str, Array]],
        scales: Mapping[str, float],
    ) -> list[RateCheck]:
        """Every marginal rate figure against what the fitted rates imply."""
        grouped: dict[tuple[str, str, str, str, bool], list[Any]] = {}
        scenario = next((c for c in self.scenario.contexts), "")
        for f in self.rate_figures:
            if f.kind != "total" or f.scenario not in ("", scenario) or f.age_group:
                continue
            if f.given not in self.structure.nodes or f.state not in self.states(f.given):
                continue
            grouped.setdefault((f.cause, f.given, f.state, "", f.use == "fit"), []).append(f)
        checks = []
        for (cause, given, state, _, used), figures in grouped.items():
            pooled = pool_rates([f.rate for f in figures], [f.id for f in figures])
            people = {self._exposed(given): state}
            implied = sum(
                scales[m.name] * population.expectation(factors[m.name], people)
                for m in self.structure.mechanisms.values()
                if m.cause == cause and not (m.apart and m.rate["given"] != given)
            )
            checks.append(
                RateCheck(cause, given, state, pooled.rate, float(implied), used, pooled.rows)
            )
        return checks


#: What the marrow holds where a blood cancer spares it.
SPARED = {
    "aml": "none",
    "all": "none",
    "lymphoma": "lymphoma_outside_marrow",
    "thalassemia_with_cml": "ntdt",
}
#: Methods whose tables may hold zeros.
DETERMINISTIC = frozenset(
    {"deterministic", "dominance", "lesion_cause", "lesion_subtype", "isth_score"}
)


def build(
    structure: Structure,
    literature: LiteratureBase,
    priors: Path,
    scenario: str = "general_adult",
    *,
    keep: Callable[[Figure], bool] | None = None,
    values: Mapping[ColumnKey, Array] | None = None,
) -> Built:
    """Build the tables of `structure` under the scenario of that name.

    Raises
    ------
    ModelError
        Unknown scenario or a table that cannot be made.
    """
    scenarios = read_scenarios(priors)
    if scenario not in scenarios:
        raise ModelError(
            f"unknown scenario {scenario!r}; scenarios are {', '.join(scenarios)}",
            file="scenarios.yaml",
            name=scenario,
        )
    return TableBuilder(
        structure, literature, priors, scenarios[scenario], keep=keep, values=values
    ).build()


def with_cause_mix(built: Built, shares: Mapping[str, float], prior: Mapping[str, float]) -> Built:
    """Rescale the mechanisms so that the causes have the given shares before any evidence.

    Parameters
    ----------
    built : Built
    shares : mapping of str to float
        Wanted share of each cause, positive; normalised here.
    prior : mapping of str to float
        Shares of the causes in `built` before any evidence.

    Raises
    ------
    ModelError
        A cause that does not exist, or a share that is not positive.
    """
    causes = built.structure.nodes["lesion_cause"].states
    for cause, share in shares.items():
        if cause not in causes:
            raise ModelError(f"unknown cause {cause!r}; causes are {', '.join(causes)}", name=cause)
        if not share > 0:
            raise ModelError(f"the share of {cause!r} must be positive, got {share!r}", name=cause)
    total = sum(shares.values())
    missing = [c for c in causes if c not in shares]
    if missing:
        raise ModelError(f"the cause mix lacks {', '.join(missing)}", name=missing[0])
    factor = np.array(
        [
            shares[m.cause] / total / prior[m.cause]
            for m in built.structure.mechanisms.values()
        ]
    )
    weights = built.weights * factor
    weights.setflags(write=False)
    return replace(built, weights=weights)


def unused_pool_rows(built: Built, figures: Iterable[Figure]) -> list[Figure]:
    """Rows meant to be pooled whose cell the structure does not have: compared, never fed in."""
    return [f for f in figures if f.use == "pool" and f.id not in built.used_rows]
