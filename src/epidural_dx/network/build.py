"""Build every conditional probability table from structure and parameters.

Tables are functions of the parameters (:mod:`epidural_dx.network.parameters`); their formulas are
in :mod:`epidural_dx.network.tables`, the rates in :mod:`epidural_dx.network.mechanisms`. With draws
of the parameters every table gets a leading axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx.errors import ModelError
from epidural_dx.inference import Repeated
from epidural_dx.literature.base import LiteratureBase
from epidural_dx.literature.pooling import Pooled
from epidural_dx.literature.rows import Figure
from epidural_dx.network import tables as formulas
from epidural_dx.network.declared import Scenario, read_scenarios
from epidural_dx.network.mechanisms import fit_rates
from epidural_dx.network.parameters import NEVER, ColumnKey, Parameters
from epidural_dx.network.rates import PooledRate, RateCheck
from epidural_dx.network.structure import Mechanism, Node, Structure, nearest

Array = NDArray[np.float64]

#: Methods whose tables may hold zeros.
DETERMINISTIC = frozenset(
    {"deterministic", "dominance", "lesion_cause", "lesion_subtype", "isth_score"}
)
#: Methods that may have ``etiology`` as a parent: they ask for the cause, phase or type alone.
OF_KINDS = frozenset(
    {"lesion_cause", "lesion_subtype", "noisy_or", "noisy_max", "clot_with_tumor", "rules"}
)


class DrawnTables(Mapping[str, Array]):
    """Tables of draws by name; rows that repeat are kept once and repeated for who asks.

    Attributes
    ----------
    kept : dict of str to ndarray or Repeated
    """

    def __init__(self, kept: dict[str, Array | Repeated]) -> None:
        self.kept = kept

    def __getitem__(self, name: str) -> Array:
        """Return a whole table."""
        table = self.kept[name]
        return table.whole() if isinstance(table, Repeated) else table

    def __iter__(self) -> Iterator[str]:
        """Go through the names."""
        return iter(self.kept)

    def __len__(self) -> int:
        """Count the tables."""
        return len(self.kept)


@dataclass(frozen=True)
class Built:
    """Everything that the labelled model needs, as arrays by name.

    Attributes
    ----------
    structure : Structure
    scenario : Scenario
    tables : mapping of str to ndarray
        ``tables[x]`` has one axis per parent of x, the states of x last; with draws a leading
        axis (:class:`DrawnTables`). ``etiology`` is absent.
    selection : mapping of str to ndarray
        ``selection[c]`` of shape (mechanisms, states of c): the factors of the rates.
    weights : ndarray, shape (mechanisms,)
        Scale of every mechanism, per 100,000 person-years.
    columns : mapping
        What every pooled column rests on, keyed by (variable, given, state, context).
    rates : mapping of str to PooledRate
    checks : tuple of RateCheck
    used_rows : frozenset of str
        Literature rows that fed a table.
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


class TableBuilder:
    """Builds the tables of one structure.

    Findings tell mechanisms of one cause (or of one phase or type that is a mechanism itself)
    not apart: tables with ``etiology`` as a parent are made with one row for each such *kind*,
    and the rows are repeated when it is finished.

    Parameters
    ----------
    parameters : Parameters
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.structure = parameters.structure
        self.matrix = parameters.matrix
        self.stack = parameters.stack
        self.filled = parameters.filled
        self.stated_value = parameters.stated_value
        self.stated_vector = parameters.stated_vector
        self.lead = parameters.lead
        self.tables: dict[str, Array] = {}
        self._made: dict[str, Array] = {}
        mechanisms = list(self.structure.mechanisms.values())
        kinds = [self._kind(m) for m in mechanisms]
        self._kinds = list(dict.fromkeys(kinds))
        self._kind_of = tuple(self._kinds.index(kind) for kind in kinds)
        self._firsts = [kinds.index(kind) for kind in self._kinds]
        self._causes = [mechanisms[i].cause for i in self._firsts]

    def _kind(self, mechanism: Mechanism) -> str:
        own = self.structure.nodes["lesion_subtype"].states
        return mechanism.name if mechanism.name in own else mechanism.cause

    def states(self, name: str) -> tuple[str, ...]:
        """States of a variable as tables are made for: kinds of mechanisms for etiology."""
        return tuple(self._kinds) if name == "etiology" else self.parameters.states(name)

    def build(self) -> Built:
        """Build all tables and fit the rates.

        Raises
        ------
        ModelError
            A table that cannot be made or breaks the laws of probability.
        """
        self.parameters.set_subtype_shares()
        for node in self.structure.nodes.values():
            if node.name == "etiology":
                continue
            self._made[node.name] = self._make(node)
        kept = {name: self._finished(name, table) for name, table in self._made.items()}
        tables = DrawnTables(kept)
        selection, weights, checks = fit_rates(self.parameters, tables)
        return Built(
            structure=self.structure,
            scenario=self.parameters.scenario,
            tables=tables if self.lead else dict(tables),
            selection=selection,
            weights=weights,
            columns=self.parameters.columns,
            rates=self.parameters.rates,
            checks=tuple(checks),
            used_rows=frozenset(self.parameters.used_rows),
        )

    def table(self, node: Node) -> Array:
        """Make the table of one node, shape (*lead, *parents, states).

        Raises
        ------
        ModelError
            A table that cannot be made or breaks the laws of probability.
        """
        table = self._finished(node.name, self._make(node))
        return table.whole() if isinstance(table, Repeated) else table

    def _make(self, node: Node) -> Array:
        """Make the table of one node with a row for each kind of mechanisms."""
        method = str(node.table["method"])
        maker = getattr(self, f"_make_{method}", None)
        if maker is None:
            known = sorted(m[6:] for m in dir(self) if m.startswith("_make_"))
            raise ModelError(
                f"unknown method {method!r}; methods are {', '.join(known)}",
                file=node.file,
                line=node.line,
                name=node.name,
            )
        if "etiology" in node.parents and method not in OF_KINDS:
            raise ModelError(
                f"{method} has no use for etiology as a parent; "
                f"methods that have are {', '.join(sorted(OF_KINDS))}",
                file=node.file,
                line=node.line,
                name=node.name,
            )
        try:
            table = self._weakened(node, maker) if "weakened" in node.table else maker(node)
            return self._checked(node, np.asarray(table, dtype=float))
        except ModelError:
            raise
        except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the table cannot be made: {type(error).__name__}: {error}",
                file=node.file,
                line=node.line,
                name=node.name,
            ) from error

    def _weakened(self, node: Node, maker: Callable[[Node], Array]) -> Array:
        """Make a test's finding that something done before weakens (antibiotics, transfusion).

        The last parent is what was done. The pooled columns are series in which some had it, so
        they stay the margin over it.
        """
        spec = node.table["weakened"]
        by = node.parents[-1]
        if spec["by"] != by:
            raise ValueError(f"the last parent must be {spec['by']}, what weakens the test")
        table = maker(replace(node, parents=node.parents[:-1]))
        kept = self.stated_value("kept", node.name, "present", "kept")
        done = self._by_kind(by)[..., 1]
        open_axes = len(node.parents)  # the finding's parents but the last, and its states
        for parent in self.structure.nodes[by].parents:  # itself a sign of the first parent
            done = np.einsum("...pq,...q->...p", self._by_kind(parent), done)
            open_axes -= 1
        done = np.asarray(done).reshape(*np.shape(done), *(1 for _ in range(open_axes)))
        quiet = node.states.index(spec["quiet"])
        weak = [node.states.index(s) for s in spec.get("only", node.states)]
        return formulas.weakened(table, kept, done, quiet, [s for s in weak if s != quiet])

    def _checked(self, node: Node, table: Array) -> Array:
        where: dict[str, Any] = {"file": node.file, "line": node.line, "name": node.name}
        shape = tuple(len(self.states(p)) for p in node.parents) + (len(node.states),)
        if table.shape[-len(shape) :] != shape or table.shape[: -len(shape)] not in ((), self.lead):
            raise ModelError(f"the table has the shape {table.shape}, not {shape}", **where)
        total, least = table.sum(-1, keepdims=True), table.min()
        # cells that are not negative and have a finite sum are finite
        if not least >= 0 or not np.all(np.isfinite(total)):
            raise ModelError("the table has a negative or undefined cell", **where)
        off = float(np.max(np.abs(total - 1)))
        if off > 1e-9:
            raise ModelError(f"a column sums to 1 {off:+.2g}", **where)
        if node.table["method"] not in DETERMINISTIC and least == 0:
            raise ModelError("a cell is zero outside a deterministic node", **where)
        # all draws of a cell side by side, cell after cell
        drawn = table.ndim > len(shape)
        result = np.moveaxis(np.empty((*shape, *self.lead)), -1, 0) if drawn else np.empty(shape)
        np.divide(table, total, out=result)
        result.setflags(write=False)
        return result

    def _finished(self, name: str, table: Array) -> Array | Repeated:
        """Give a table with a row for each kind a row for each mechanism."""
        parents = self.structure.nodes[name].parents
        if "etiology" not in parents:
            return table
        axis = parents.index("etiology")
        if table.ndim > len(parents) + 1:
            return Repeated(table, axis, self._kind_of)
        whole = np.take(table, self._kind_of, axis=axis)
        whole.setflags(write=False)
        return whole

    def _by_kind(self, name: str) -> Array:
        """Return a table that was made before, with a row for each kind of mechanisms."""
        if name in self._made:
            return self._made[name]
        table, parents = self.tables[name], self.structure.nodes[name].parents
        if "etiology" not in parents:
            return table
        axis = parents.index("etiology") - len(parents) - 1
        return np.moveaxis(np.moveaxis(table, axis, 0)[self._firsts], 0, axis)

    def _sure(self, node: Node, state: str) -> Array:
        """All mass on one state."""
        column = np.zeros(len(node.states))
        column[node.states.index(state)] = 1.0
        return column

    # --------------------------------------------------------------- methods

    def _make_scenario(self, node: Node) -> Array:
        shares = self.parameters.scenario.age_group
        return np.array([shares[s] for s in node.states])

    def _make_pooled(self, node: Node) -> Array:
        (parent,) = node.parents
        return self.matrix(node.name, parent, contexts=node.table.get("contexts"))

    def _make_pooled_state(self, node: Node) -> Array:
        """P(present) is the share of one state of another variable, as an excess if asked."""
        (parent,) = node.parents
        variable, state = node.table["variable"], node.table["state"]
        column = self.matrix(variable, parent)[..., self.states(variable).index(state)]
        if "relative_to" in node.table:
            at = self.states(parent).index(node.table["relative_to"])
            column = formulas.excess_probability(column, column[..., at : at + 1])
            column = np.maximum(column, NEVER)
        return formulas.binary(column)

    def _make_reported(self, node: Node) -> Array:
        """Make an exposure as patients report it: true ones seldom missed, some false ones.

        The false level is the mean of the pooled columns of lesions that the exposure does not
        cause.
        """
        missed = self.stated_value("record_missed", "record", "any", "present")
        unrelated = self.matrix(node.name, "lesion_subtype", given_states=node.table["unrelated"])
        false = unrelated[..., 1].mean(-1)
        return formulas.binary(self.stack([false, 1 - missed]))

    def _make_cells(self, node: Node) -> Array:
        if not node.parents:
            return self.stated_vector(node.table["id"], node.name, "any")
        (parent,) = node.parents
        columns = [self.stated_vector(node.table["id"], node.name, g) for g in self.states(parent)]
        return self.stack(columns, axis=-2)

    def _make_deterministic(self, node: Node) -> Array:
        (parent,) = node.parents
        results = [
            node.table["map"].get(state, node.table["otherwise"]) for state in self.states(parent)
        ]
        return np.stack([self._sure(node, r) for r in results])

    def _make_dominance(self, node: Node) -> Array:
        order = [
            (node.parents.index(p), self.states(p).index(s), node.states.index(r))
            for p, s, r in node.table["order"]
        ]
        return formulas.dominance(
            [len(self.states(p)) for p in node.parents],
            order,
            node.states.index(node.table["otherwise"]),
            len(node.states),
        )

    def _make_lesion_cause(self, node: Node) -> Array:
        return np.stack([self._sure(node, cause) for cause in self._causes])

    def _make_lesion_subtype(self, node: Node) -> Array:
        table = self.filled((len(self._kinds), len(node.states)), 0.0)
        for i, (kind, cause) in enumerate(zip(self._kinds, self._causes, strict=True)):
            subtypes = self.structure.subtypes.get(cause)
            if kind in node.states or not subtypes:
                table[..., i, node.states.index(kind)] = 1.0
                continue
            for subtype in subtypes:
                share = self.parameters.subtype_shares[subtype]
                table[..., i, node.states.index(subtype)] = share
        return formulas.normalized(table)

    def _make_associated(self, node: Node) -> Array:
        spec = node.table
        base, partner = spec["base"], spec["partner"]
        scores = spec.get("scores", {})
        child_scores = np.arange(len(node.states), dtype=float)
        partner_scores = np.arange(len(self.states(partner)), dtype=float)
        if scores and set(scores) <= set(self.states(partner)):
            partner_scores = np.array([float(scores.get(s, 0)) for s in self.states(partner)])
        elif scores:
            child_scores = np.array([float(scores.get(s, 0)) for s in node.states])
        only = spec.get("only", self.states(base))
        here = np.array([float(s in only) for s in self.states(base)])
        theta = self.parameters.association(spec["strength"])[..., None] * here
        table = formulas.associated(
            self.matrix(node.name, base),
            self.matrix(partner, base),
            theta,
            child_scores,
            partner_scores,
        )
        return table if node.parents == (base, partner) else np.swapaxes(table, -3, -2)

    def _make_unless_removed(self, node: Node) -> Array:
        """Make a sign of an organ that may have been removed; the margin stays as pooled."""
        spec = node.table
        present = self.matrix(node.name, spec["base"])[..., 1]
        removed = self.matrix(spec["removed"], spec["base"])[..., 1]
        kept = np.clip(present / (1 - removed), None, 0.98)
        floor = np.full_like(kept, self.parameters.literature.settings.floor)
        return formulas.binary(self.stack([kept, floor]))

    def _make_ratio(self, node: Node) -> Array:
        spec = node.table
        if "base_fitted" in spec:
            base = self._fitted(node, spec["base_fitted"])
        else:
            base = self.matrix(node.name, spec["base"])
        modifier = self.matrix(node.name, spec["modifier"])
        states = self.states(spec["modifier"])
        reference = states.index(spec["reference"])
        if "when" in spec:
            modifier = modifier.copy()
            for i, s in enumerate(states):
                if s not in spec["when"]:
                    modifier[..., i, :] = modifier[..., reference, :]
        only = [node.states.index(s) for s in spec["only"]] if "only" in spec else None
        return formulas.ratio(base, modifier, reference, only)

    def _expand(self, matrix: Array, given: str, parent: str) -> Array:
        """Rows by lesion subtype, mixed into rows by mechanism, when the parent is etiology."""
        if given == parent:
            return matrix
        if given == "lesion_subtype" and parent == "etiology":
            mixed: Array = np.einsum("...ms,...sk->...mk", self._by_kind("lesion_subtype"), matrix)
            return mixed
        raise ValueError(f"cannot read {given} by {parent}")

    def _make_noisy_or(self, node: Node) -> Array:
        links = {spec["parent"]: self._link(node, spec) for spec in node.table["causes"]}
        return formulas.noisy_or([links[p] for p in node.parents])

    def _link(self, node: Node, spec: Mapping[str, Any]) -> Array:
        """Link probability per state of one parent of a noisy-OR, shape (*lead, states)."""
        parent = spec["parent"]
        names = self.states(parent)
        if "prevalence" in spec:
            shares = [
                self.parameters.prevalence(spec["prevalence"], "present", age, {}) for age in names
            ]
            return self.stack(shares)
        if "link" in spec:
            link = self.filled((len(names),), 0.0)
            for state, cell in spec["link"].items():
                column = self.matrix(node.name, cell["given"], given_states=[cell["state"]])
                link[..., names.index(state)] = column[..., 0, 1]
            return link
        if "fitted" in spec:
            return np.asarray(np.maximum.accumulate(self._fitted(node, spec["fitted"])[..., 1], -1))
        given = spec["given"]
        probability = self.matrix(node.name, given, leaves_out=spec.get("leaves_out"))[..., 1]
        if "relative_to" in spec:
            reference = self._reference(node.name, spec)[..., 1]
            probability = formulas.excess_probability(probability, reference)
        return self._expand(probability[..., None], given, parent)[..., 0]

    def _reference(self, variable: str, spec: Mapping[str, Any]) -> Array:
        """Columns over which a link is an excess, shape (*lead, 1 or given states, states).

        ``relative_to`` names a state of the link's own condition, or (``of``, ``given``,
        ``state``) a column of another condition for all its states but ``of``: the experts judged
        a marrow disease in patients whose lesion mostly comes from it, and no disease in patients
        with every other lesion, tumours included, so the excess is over a benign lesion.
        """
        to, states = spec["relative_to"], spec.get("states")
        if not isinstance(to, Mapping):
            return self.matrix(variable, spec["given"], states=states, given_states=[to])
        own = self.matrix(variable, spec["given"], states=states, given_states=[to["of"]])
        other = self.matrix(variable, to["given"], states=states, given_states=[to["state"]])
        names = self.states(spec["given"])
        return np.concatenate([own if s == to["of"] else other for s in names], axis=-2)

    def _fitted(self, node: Node, spec: Mapping[str, Any]) -> Array:
        """P(child | parent) that best gives back P(child | given) through the parent.

        Least squares within bounds over the states of ``given``; the parent's distribution there
        is read off the variable ``through`` (ordered as the parent). Shape (*lead, parent, child).
        """
        left_out = set(spec.get("leaves_out", ()))
        rows = [s for s in self.states(spec["given"]) if s not in left_out]
        through = self.matrix(spec["through"], spec["given"], given_states=rows)
        target = self.matrix(node.name, spec["given"], given_states=rows)
        columns = [
            formulas.bounded_least_squares(through, target[..., k], 0.002, 0.998)
            for k in range(target.shape[-1])
        ]
        return formulas.normalized(self.stack(columns))

    def _make_fitted(self, node: Node) -> Array:
        return self._fitted(node, node.table)

    def _make_noisy_max(self, node: Node) -> Array:
        by_parent: dict[str, Array] = {}
        for spec in node.table["causes"]:
            parent, given = spec["parent"], spec["given"]
            variable, states = spec.get("variable", node.name), spec.get("states")
            columns = self.matrix(variable, given, states=states, leaves_out=spec.get("leaves_out"))
            if "relative_to" in spec:
                reference = self._reference(variable, spec)
                cumulative = formulas.relative_cumulative(columns, reference)
            else:
                cumulative = np.cumsum(columns, -1)
                cumulative[..., -1] = 1.0
            by_parent[parent] = self._expand(cumulative, given, parent)
        table = formulas.noisy_max([by_parent[p] for p in node.parents])
        return formulas.normalized(np.maximum(table, NEVER))

    def _make_rules(self, node: Node) -> Array:
        shape = [len(self.states(p)) for p in node.parents]
        table = self.filled((*shape, len(node.states)), 0.0)
        for index in np.ndindex(*shape):
            at = {p: self.states(p)[i] for p, i in zip(node.parents, index, strict=True)}
            if at.pop("etiology", None):
                at["lesion_cause"] = self._causes[index[node.parents.index("etiology")]]
            table[(..., *index, slice(None))] = self._first_rule(node, at)
        return table

    def _first_rule(self, node: Node, at: Mapping[str, str]) -> Array:
        """Column of the first rule that covers the parents' states."""
        for rule in node.table["rules"]:
            conditions = {
                k: [v] if isinstance(v, str) else v for k, v in rule.get("when", {}).items()
            }
            if not all(at[k] in v for k, v in conditions.items()):
                continue
            if "state" in rule:
                return formulas.normalized(np.maximum(self._sure(node, rule["state"]), NEVER))
            if "stated" in rule:
                given = next(
                    (
                        g
                        for (i, v, g) in self.parameters.stated
                        if i == rule["stated"] and v == node.name
                    ),
                    "",
                )
                return self.stated_vector(rule["stated"], node.name, given)
            spec = rule["column"]
            given = spec["given"]
            state = spec.get("state", at.get(given, ""))
            contexts = {state: spec["context"]} if "context" in spec else None
            column = self.matrix(node.name, given, given_states=[state], contexts=contexts)
            return column[..., 0, :]
        raise ValueError(f"no rule covers {dict(at)}")

    def _make_override(self, node: Node) -> Array:
        """Let a condition show one state whatever the lesion shows.

        The lesions named under ``without`` bring that condition with them: their column is read
        given that the state is not shown, so that it is not counted twice.
        """
        spec = node.table
        base = self.matrix(node.name, spec["base"])
        state = node.states.index(spec["state"])
        kept = np.ones((len(self.states(spec["base"])), len(node.states)))
        kept[[self.states(spec["base"]).index(s) for s in spec["without"]], state] = NEVER
        base = formulas.normalized(base * kept)
        weight = self.stated_value(spec["weight"], "share", "present", "present")[..., None, None]
        sure = self._sure(node, spec["state"])
        return self.stack([base, (1 - weight) * base + weight * sure], axis=-2)

    def _make_clot_with_tumor(self, node: Node) -> Array:
        """Make tissue of the lesion; a clot in infiltrated marrow may hold the tumour's cells."""
        spec = node.table
        base = self._expand(self.matrix(node.name, spec["given"]), spec["given"], "etiology")
        weight = self.stated_value(spec["weight"], "share", "hematoma", "present")[..., None]
        by = self.states(spec["by"])
        table = self.stack([base] * len(by), axis=-2)
        for i, cause in enumerate(self._causes):
            for j, state in enumerate(by):
                if cause in spec["clots"] and state in spec["states"]:
                    sure = self._sure(node, spec["states"][state])
                    table[..., i, j, :] = (1 - weight) * base[..., i, :] + weight * sure
        return table

    def _make_unnamed_share(self, node: Node) -> Array:
        spec = node.table
        named = [s for s in node.states if s != spec["state"]]
        columns = self.matrix(node.name, spec["given"], states=named)
        share = self.stack(
            [
                self.stated_value(spec["id"], node.name, g, spec["state"])
                for g in self.states(spec["given"])
            ]
        )
        table = self.filled((len(self.states(spec["given"])), len(node.states)), 0.0)
        for k, s in enumerate(named):
            table[..., node.states.index(s)] = columns[..., k] * (1 - share)
        table[..., node.states.index(spec["state"])] = share
        return table

    def _make_isth_score(self, node: Node) -> Array:
        return formulas.isth_score()

    def _make_cytopenia_report(self, node: Node) -> Array:
        """Make the pattern that a report names after two counts, with a share of wrong names."""
        spec = node.table
        error = self.stated_value("report_error", node.name, "any", "error")[..., None]
        shape = [len(self.states(p)) for p in node.parents]
        table = self.filled((*shape, len(node.states)), 0.0)
        for index in np.ndindex(*shape):
            h, p = (self.states(v)[i] for v, i in zip(node.parents, index, strict=True))
            anemia, thrombocytopenia = h in spec["anemia"], p in spec["thrombocytopenia"]
            if anemia and thrombocytopenia:
                shown = spec["both"]
            elif anemia:
                shown = {"isolated_anemia": 1.0}
            elif thrombocytopenia:
                shown = {"thrombocytopenia": 1.0}
            else:
                shown = {"none": 1.0}
            named = np.array([shown.get(s, 0.0) for s in node.states])
            table[(..., *index, slice(None))] = (1 - error) * named + error / len(node.states)
        return table

    def _make_record(self, node: Node) -> Array:
        spec = node.table
        missed = self.stated_value("record_missed", "record", "any", "present")
        wrong = self.stated_value("record_wrong", "record", node.name, "present")
        shape = tuple(len(self.states(p)) for p in node.parents)
        present = self.filled(shape, 0.0)
        for index in np.ndindex(*shape):
            at = {p: self.states(p)[i] for p, i in zip(node.parents, index, strict=True)}
            if "any_of" in spec:
                there = any(at[v] in states for v, states in spec["any_of"].items())
            else:
                there = at[spec["of"]] in spec["states"]
                if "known" in spec:
                    there = there and at[spec["known"]] == "present"
            present[(..., *index)] = 1 - missed if there else wrong
        return formulas.binary(present)

    # ------------------------------------------------- conditions and marrow

    def _make_prevalence(self, node: Node) -> Array:
        ages = self.states("age_group")
        if "sex" not in node.parents:
            columns = self.stack([self._prevalence_column(node, age) for age in ages], axis=-2)
            return columns if node.parents else columns[..., 0, :]
        spec = node.table
        by_sex = dict(spec.get("by_sex", {}))
        if "only" in spec:
            by_sex.update({s: spec["only"]["sex"] for s in node.states[1:]})
        by_age = []
        for age in ages:
            # elicited over both sexes: doubled in the one that has it, a trace in the other
            columns_of_age = [
                self._prevalence_column(
                    node, age, {s: 2.0 if own == sex else 0.01 for s, own in by_sex.items()}
                )
                for sex in self.states("sex")
            ]
            by_age.append(self.stack(columns_of_age, axis=-2))
        return self.stack(by_age, axis=-3)

    def _prevalence_column(
        self, node: Node, age: str, factors: Mapping[str, float] | None = None
    ) -> Array:
        """Distribution of a condition at one age, shape (*lead, states).

        ``factors`` multiply the shares of some states before the setting multiplies odds, so that
        what is common in a setting and bound to a sex stays a probability.
        """
        spec = node.table
        contexts = spec.get("contexts", {})
        prevalence = self.parameters.prevalence
        share: dict[str, Array] = {}
        if "components" in spec:
            for variable, states in spec["components"].items():
                own = contexts if variable == "hemoglobinopathy" else {}
                for s in states:
                    share[s] = prevalence(variable, s, age, own)
            for s, groups in spec.get("products", {}).items():
                product: Array = np.ones(())
                for group in groups:
                    product = product * sum(share[x] for x in group)
                share[s] = product
        elif "split" in spec:
            total = prevalence(spec["from"], "present", age, contexts)
            for s in spec["split"]["states"]:
                share[s] = total * self.stated_value(spec["split"]["id"], node.name, "present", s)
        else:
            source = spec.get("from", node.name)
            for s in node.states[1:]:
                share[s] = prevalence(source, s, age, contexts)
        for s, factor in (factors or {}).items():
            share[s] = share[s] * factor
        odds = self.parameters.scenario.odds.get("cancer", 1.0)
        weight = {s: v * (odds if s in spec.get("cancer", ()) else 1.0) for s, v in share.items()}
        for s, (involved, spared) in spec.get("marrow", {}).items():
            active = self.stated_value("marrow_active", "marrow_disease", s, "present")
            whole = weight.pop(s)
            weight[involved], weight[spared] = whole * active, whole * (1 - active)
        column = self.filled((len(node.states),), 0.0)
        column[..., 0] = 1 - sum(share.values())
        for k, s in enumerate(node.states[1:], start=1):
            column[..., k] = weight[s]
        return formulas.normalized(column)

    def _make_gated(self, node: Node) -> Array:
        """Present only behind a gate: a solid tumour reaches the marrow once it is metastatic."""
        spec = node.table["column"]
        parent = node.parents[0]
        at = self.states("marrow_infiltration").index(spec["state"])
        present = self.filled((len(self.states(parent)), 2), NEVER)
        for i, s in enumerate(self.states(parent)):
            if s != "none":
                column = self.matrix(
                    spec["variable"],
                    spec["given"],
                    given_states=[s],
                    contexts={s: spec["context"]},
                )
                present[..., i, 1] = column[..., 0, at]
        return formulas.binary(present)

    def _make_marrow_dominance(self, node: Node) -> Array:
        """Melanoma rules carcinoma; its share in stage IV is mixed over bone metastasis."""
        spec = node.table["column"]
        with_bone = self.stated_value(spec["mix"], "bone_metastasis", "metastatic", "present")
        at = self.states("marrow_infiltration").index("melanoma")
        reach = [
            self.matrix(
                spec["variable"],
                spec["given"],
                given_states=["metastatic"],
                contexts={"metastatic": context},
            )[..., 0, at]
            for context in spec["contexts"]
        ]
        localized = self.stated_value(
            "tumor_in_marrow_without_metastasis", node.name, "localized", "present"
        )
        p = self.filled((3,), NEVER)
        p[..., 1] = localized
        p[..., 2] = with_bone * reach[0] + (1 - with_bone) * reach[1]
        table = self.filled((2, 3, 3), 0.0)
        for carcinoma in range(2):
            other = 1 - NEVER if carcinoma else NEVER
            table[..., carcinoma, :, 2] = p
            table[..., carcinoma, :, 1] = (1 - p) * other
            table[..., carcinoma, :, 0] = (1 - p) * (1 - other)
        return table

    def _make_marrow_infiltration(self, node: Node) -> Array:
        marrow = self.states("marrow_disease")
        table = self.filled((len(marrow), len(node.states)), NEVER)
        for i, m in enumerate(marrow):
            if ("leukemic_marrow", node.name, m) in self.parameters.stated:
                leukemic = self.stated_value("leukemic_marrow", node.name, m, "leukemia")
                table[..., i, node.states.index("leukemia")] = leukemic
                table[..., i, 0] = 1 - leukemic
            else:
                certain = node.table["certain"].get(m, node.table["otherwise"])
                table[..., i, node.states.index(certain)] = 1.0
        return formulas.normalized(table)

    def _make_coagulopathy(self, node: Node) -> Array:
        """Either the marrow or the infection may cause it; DIC rules thrombocytopenia."""
        names = self.states("hemostasis")
        t, d = names.index("thrombocytopenia"), names.index("dic")
        marrow = self.states("marrow_disease")
        background = self.stated_vector("background_coagulopathy", node.name, "none")
        chronic = self.stated_value("chronic_dic", node.name, "chronic", "dic")
        columns = self.matrix("hemostasis", "marrow_disease")
        low = columns[..., t].copy()
        dic = columns[..., d].copy()
        for i, m in enumerate(marrow):
            if m == "none":
                low[..., i], dic[..., i] = background[..., 1], background[..., 2]
            elif m not in node.table["acute"]:
                dic[..., i] = chronic
        infection = self.matrix("hemostasis", "systemic_infection")
        # bacteremia adds what was judged; a local focus and none add nothing to the rest
        add_low, add_dic = self.filled((3,), 0.0), self.filled((3,), 0.0)
        add_low[..., 2] = infection[..., 2, t]
        add_dic[..., 2] = infection[..., 2, d]
        p_dic = 1 - (1 - dic)[..., :, None] * (1 - add_dic)[..., None, :]
        p_low = (1 - (1 - low)[..., :, None] * (1 - add_low)[..., None, :]) * (1 - p_dic)
        return self.stack([1 - p_dic - p_low, p_low, p_dic])


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

    Parameters
    ----------
    structure, literature, priors
        What to build from.
    scenario : str
    keep : callable, optional
        Leaves out literature rows for which it returns False.
    values : mapping, optional
        Replacements of parameters, see :class:`~epidural_dx.network.parameters.Parameters`.

    Raises
    ------
    ModelError
        Unknown scenario or a table that cannot be made.
    """
    scenarios = read_scenarios(priors)
    if scenario not in scenarios:
        raise ModelError(
            f"unknown scenario {scenario!r}; scenarios are {', '.join(scenarios)}"
            + nearest(scenario, scenarios),
            file="scenarios.yaml",
            name=scenario,
        )
    parameters = Parameters(
        structure, literature, priors, scenarios[scenario], keep=keep, values=values
    )
    return TableBuilder(parameters).build()


#: Share of a cause that a mix leaves out or counts as 0: rare, never impossible.
LEAST_SHARE = 1e-6


def check_cause_mix(structure: Structure, shares: Mapping[str, float]) -> dict[str, float]:
    """Return a mix with a positive share for every cause, sum 1.

    Causes that the mix leaves out or counts as 0 get :data:`LEAST_SHARE`.

    Raises
    ------
    ModelError
        A cause that does not exist, a share that is no number of at least 0, or all of them 0.
    """
    causes = structure.nodes["lesion_cause"].states
    for cause, share in shares.items():
        if cause not in causes:
            raise ModelError(
                f"unknown cause {cause!r}{nearest(str(cause), causes)}; "
                f"causes are {', '.join(causes)}",
                file="cause mix",
                name=str(cause),
            )
        if not isinstance(share, int | float) or not 0 <= share < float("inf"):
            raise ModelError(
                f"the share of {cause!r} must be a number of at least 0, got {share!r}",
                file="cause mix",
                name=cause,
            )
    total = sum(shares.values())
    if not total > 0:
        raise ModelError("all shares are 0", file="cause mix")
    full = {c: max(shares.get(c, 0.0) / total, LEAST_SHARE) for c in causes}
    whole = sum(full.values())
    return {c: share / whole for c, share in full.items()}


def with_cause_mix(built: Built, shares: Mapping[str, float], prior: Mapping[str, float]) -> Built:
    """Rescale the mechanisms so that the causes have the given shares before any evidence.

    Parameters
    ----------
    built : Built
    shares : mapping of str to float
        Wanted share of each cause; see :func:`check_cause_mix`.
    prior : mapping of str to float
        Shares of the causes in `built` before any evidence.

    Raises
    ------
    ModelError
        A cause that does not exist, or a share that is not positive.
    """
    full = check_cause_mix(built.structure, shares)
    factor = np.array([full[m.cause] / prior[m.cause] for m in built.structure.mechanisms.values()])
    weights = built.weights * factor
    weights.setflags(write=False)
    return replace(built, weights=weights)


def unused_pool_rows(built: Built, figures: Iterable[Figure]) -> list[Figure]:
    """Rows meant to be pooled whose cell the structure does not have: compared, never fed in."""
    return [f for f in figures if f.use == "pool" and f.id not in built.used_rows]
