r"""How the tables follow the parameters: rebuilt tables, and their derivatives once per model.

A posterior is :math:`P(h, e) / P(e)`, and both are sums of products that take one cell of every
table. Where a parameter :math:`x` enters one table only, as an affine function of it, both are
linear in :math:`x` (Castillo, Gutiérrez, Hadi, IEEE Trans Syst Man Cybern A 1997;27:412; Coupé,
van der Gaag, Ann Math Artif Intell 2002;36:323). The same holds where it enters several tables,
but no joint configuration meets two changed cells. Whether this is so is found out by rebuilding:
tables at two distant values must lie on one line with the present ones. All other parameters
(fitted rates, findings that share one figure) are smooth functions, and get central differences.

The derivative of every table by every parameter does not depend on the patient: it is computed
once per model and stored as a sparse matrix, so that a patient needs one reverse pass
(:mod:`epidural_dx.inference.derivatives`) and one sparse product (chain rule; Darwiche, J ACM
2003;50:280).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from epidural_dx import store
from epidural_dx.analysis.parameters import (
    Parameter,
    expert_source,
    parameter_draws,
    parameters_of,
)
from epidural_dx.errors import ModelError
from epidural_dx.inference import Bank
from epidural_dx.literature.rows import Figure
from epidural_dx.network.build import TableBuilder
from epidural_dx.network.declared import Scenario, read_scenarios
from epidural_dx.network.mechanisms import fit_rates
from epidural_dx.network.parameters import ColumnKey, Parameters
from epidural_dx.network.rates import PooledRate, RateFigure, read_rates

if TYPE_CHECKING:
    from epidural_dx.model import Model

Array = NDArray[np.float64]
Booleans = NDArray[np.bool_]

#: Step of central differences, relative to the distance from the nearer bound.
STEP = 1e-4
#: How near to 0 and 1 a share is tested for linearity, relative to its distance.
MARGIN = 0.02
#: Factor either way over which a rate is tested for linearity.
RATE_SPAN = 8.0
#: Largest deviation from a line, relative to the change, that still counts as rounding.
ROUNDING = 1e-10
#: Cells that one batch of rebuilt tables may hold.
BATCH_CELLS = 6_000_000
#: Rows of one batch that refits the rates.
FIT_ROWS = 256
#: Limits of the range that a tornado shows.
RANGE = (0.05, 0.95)
#: Draws that the ranges are read off.
RANGE_DRAWS = 1000


class _WatchedParameters(Parameters):
    """Parameters that note which of them are asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.seen: set[ColumnKey] = set()
        super().__init__(*args, **options)

    def value(self, key: ColumnKey) -> Array:
        """Note the column."""
        self.seen.add(key)
        return super().value(key)

    def association(self, id: str) -> Array:
        """Note the association."""
        self.seen.add(("association", id, "", ""))
        return super().association(id)

    def rate(self, name: str, pooled: PooledRate) -> Array:
        """Note the rate."""
        self.seen.add(("rate", name, "", ""))
        return super().rate(name, pooled)


class _WatchedTables(dict[str, Array]):
    """Tables that note which of them are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Array:
        self.read.add(name)
        return super().__getitem__(name)


class TableMap:
    """Rebuilds the tables of a model for other values of its parameters, only as far as needed.

    Potentials are scaled by the constants of the present model, not by their own maxima, so that
    they follow the parameters as simply as the rates do; posteriors do not depend on it.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        built = model.built
        self.structure = built.structure
        scenario = read_scenarios(model._priors)[built.scenario.name]
        self._parameters = _WatchedParameters(
            built.structure, model.literature, model._priors, scenario
        )
        self._learn()
        top = {v: f.max(axis=-1) for v, f in built.selection.items()}
        self._top = top
        scale = np.array(built.weights)
        for t in top.values():
            scale = scale * t
        self._total = float(scale.sum())
        names = list(self.structure.nodes)
        self.factor_of = {n: i for i, n in enumerate(names)}
        for i, v in enumerate(built.selection):
            self.factor_of[f"select {v}"] = len(names) + i
        self.base = [
            np.ascontiguousarray(f.table, dtype=float) for f in model.plan.network.factors
        ]
        mixed = model.built.weights
        self._mix = mixed / self._fitted_weights

    def _learn(self) -> None:
        """Build once, noting which table asks for which parameter."""
        p = self._parameters
        builder = TableBuilder(p)
        tables = _WatchedTables()
        builder.tables = tables
        p.set_subtype_shares()
        shares = set(p.seen)
        self._own: dict[str, set[ColumnKey]] = {}
        reads: dict[str, set[str]] = {}
        for name, node in self.structure.nodes.items():
            if name == "etiology":
                continue
            p.seen, tables.read = set(), set()
            tables[name] = builder.table(node)
            self._own[name] = p.seen | (shares if name == "lesion_subtype" else set())
            reads[name] = set(tables.read) - {name}
        self._shares = shares
        self.tables: dict[str, Array] = dict(tables)
        self.touched: dict[ColumnKey, set[str]] = {}
        for name, own in self._own.items():
            for key in own:
                self.touched.setdefault(key, set()).add(name)
        self._direct = {key: set(names) for key, names in self.touched.items()}
        for names in self.touched.values():
            grown = True
            while grown:
                more = {x for x, r in reads.items() if r & names} - names
                names |= more
                grown = bool(more)
        p.seen = set()
        selection, weights, _ = fit_rates(p, self.tables)
        self._fitted_weights = weights
        nodes = self.structure.nodes
        wanted = list(selection)
        for m in self.structure.mechanisms.values():
            wanted += [m.rate[k] for k in ("given", "of") if m.rate.get(k) in nodes]
        self.population = set(self.structure.conditions_behind(wanted))
        self.fitting = set(p.seen) | {k for k, n in self.touched.items() if n & self.population}

    def column_value(self, key: ColumnKey) -> Array:
        """Return the present value of a parameter, shape (states,)."""
        built = self.model.built
        if key[0] == "rate" and key[1] in built.rates:
            return np.array([built.rates[key[1]].rate])
        if key[0] == "association" and key in self.touched:
            return np.array([self._parameters.associations[key[1]].log_odds_ratio])
        return built.columns[key].mean

    def rebuilt(
        self,
        values: Mapping[ColumnKey, Array],
        nodes: Collection[str] | None = None,
        *,
        refit: bool | None = None,
    ) -> dict[int, Array]:
        """Tables that differ when parameters take other values.

        Parameters
        ----------
        values : mapping
            Arrays of shape (rows, states) by parameter; one row per variant.
        nodes : collection of str, optional
            Build only these tables (by default all that a parameter enters).
        refit : bool, optional
            Fit the rates again; by default where a parameter has to do with them.

        Returns
        -------
        dict of int to ndarray
            Shape (rows, *shape of the factor), by position of the factor in the network.
        """
        rows = len(next(iter(values.values())))
        clone = copy.copy(self._parameters)
        clone.values, clone.lead, clone.seen = dict(values), (rows,), set()
        clone.known = self._parameters.columns
        clone.subtype_shares = dict(self._parameters.subtype_shares)
        if self._shares & set(values):
            clone.set_subtype_shares()
        touched: set[str] = set().union(*(self.touched.get(k, set()) for k in values))
        refit = bool(self.fitting & set(values)) if refit is None else refit
        chosen = touched if nodes is None else touched & set(nodes)
        builder = TableBuilder(clone)
        builder.tables = dict(self.tables)
        changed = {}
        for name, node in self.structure.nodes.items():
            if name in chosen:
                builder.tables[name] = builder.table(node)
                changed[self.factor_of[name]] = builder.tables[name]
        if refit:
            selection, weights, _ = fit_rates(clone, builder.tables)
            found = self._potentials(selection, weights)
            changed.update({i: t for i, t in found.items() if t.ndim > self.base[i].ndim})
        return changed

    def _potentials(self, selection: Mapping[str, Array], weights: Array) -> dict[int, Array]:
        prior = weights * self._mix
        for top in self._top.values():
            prior = prior * top
        found = {self.factor_of["etiology"]: prior / self._total}
        for variable, factor in selection.items():
            found[self.factor_of[f"select {variable}"]] = factor / self._top[variable][..., None]
        return found

    def varied(
        self, keep: Callable[[Figure], bool] | None = None, scenario: Scenario | None = None
    ) -> dict[int, Array]:
        """Tables that differ when literature rows are left out, or under other base rates.

        Only the columns that a left-out row fed are pooled again. Declared columns and elicited
        rates rest on no row that could be left out, and prevalence rows stay: they are read only
        where nothing else stands.

        Parameters
        ----------
        keep : callable, optional
            False for rows to leave out.
        scenario : Scenario, optional

        Returns
        -------
        dict of int to ndarray
            By position of the factor in the network.
        """
        clone = copy.copy(self._parameters)
        clone.columns, clone.seen = dict(clone.columns), set()
        clone.subtype_shares = dict(clone.subtype_shares)
        clone._mean_shares = dict(clone._mean_shares)
        nodes: Collection[str] = self.tables
        refit = True
        if scenario is not None:
            clone.scenario = scenario
        if keep is not None:
            clone.keep = lambda figure: figure.use == "prevalence" or keep(figure)
            dropped = {f.id for f in self.model.literature.figures if not clone.keep(f)}
            changed = {
                key for key, pooled in self.model.built.columns.items() if dropped & {*pooled.rows}
            }
            again = {(k[0], k[1]) for k in changed}
            clone._pools = {k: v for k, v in clone._pools.items() if (k[0], k[1]) not in again}
            if changed & self._shares:
                clone.set_subtype_shares()
                again |= {(k[0], "lesion_subtype") for k in self.touched}
                clone._pools = {k: v for k, v in clone._pools.items() if (k[0], k[1]) not in again}
            if scenario is None:
                whole = changed & self._shares
                touched = set().union(*(self.touched.get(k, set()) for k in changed))
                nodes = self.tables if whole else touched
                refit = bool(changed & self.fitting) or bool(whole)
        builder = TableBuilder(clone)
        builder.tables = dict(self.tables)
        found = {}
        for name, node in self.structure.nodes.items():
            if name in nodes:
                builder.tables[name] = builder.table(node)
                found[self.factor_of[name]] = builder.tables[name]
        if refit:
            selection, weights, _ = fit_rates(clone, builder.tables)
            found.update(self._potentials(selection, weights))
        return found

    def without(self, source: str) -> dict[int, Array]:
        """Tables without everything that rests on one source.

        Its figures are left out, its rates where another source gives the same one, and, of an
        expert, his tables. Declared columns stay.

        Parameters
        ----------
        source : str
            Source id.

        Returns
        -------
        dict of int to ndarray
            By position of the factor in the network; empty where nothing rests on it.
        """
        literature = self.model.literature
        experts = tuple(c for c in literature.experts if expert_source(c.expert) != source)
        rates = read_rates(self.model._priors)
        others = {_what(f) for f in rates if f.source_id != source}
        kept = tuple(f for f in rates if f.source_id != source or _what(f) not in others)
        if len(experts) == len(literature.experts) and len(kept) == len(rates):
            return self.varied(keep=lambda figure: figure.source_id != source)
        parameters = Parameters(
            self.structure,
            replace(literature, experts=experts),
            self.model._priors,
            self._parameters.scenario,
            keep=lambda figure: figure.use == "prevalence" or figure.source_id != source,
        )
        parameters.rate_figures = kept
        parameters.set_subtype_shares()
        builder = TableBuilder(parameters)
        found = {}
        for name, node in self.structure.nodes.items():
            if name != "etiology":
                builder.tables[name] = builder.table(node)
                found[self.factor_of[name]] = builder.tables[name]
        selection, weights, _ = fit_rates(parameters, builder.tables)
        return found | self._potentials(selection, weights)

    def stacked(self, variants: Sequence[Mapping[int, Array]]) -> Bank:
        """Return the engine's tables for variants of the model, one row each."""
        changed = set().union(*(v.keys() for v in variants)) or {0}
        tables = [
            np.stack([v.get(i, base) for v in variants]) if i in changed else base
            for i, base in enumerate(self.base)
        ]
        return self.model.engine.bank(tables)

    def bank(self, values: Mapping[ColumnKey, Array]) -> Bank:
        """Return the engine's tables for the variants, one per row of `values`."""
        changed = self.rebuilt(values)
        rows = len(next(iter(values.values())))
        tables = [changed.get(i, t) for i, t in enumerate(self.base)]
        if not changed:
            tables[0] = np.broadcast_to(tables[0], (rows, *tables[0].shape)).copy()
        return self.model.engine.bank(tables)


def _what(figure: RateFigure) -> tuple[str, ...]:
    """Say what a rate is about; figures of one scenario replace the general ones."""
    return (
        figure.use,
        figure.scenario,
        figure.cause,
        figure.given,
        figure.state,
        figure.age_group,
        figure.kind,
    )


_MAPS: WeakKeyDictionary[Model, TableMap] = WeakKeyDictionary()


def table_map(model: Model) -> TableMap:
    """Return the table map of a model, made once."""
    if model not in _MAPS:
        _MAPS[model] = TableMap(model)
    return _MAPS[model]


@dataclass(frozen=True, eq=False)
class Response:
    """Derivatives of all tables by all parameters.

    Attributes
    ----------
    parameters : tuple of Parameter
    matrix : csr_array, shape (parameters, cells)
        Derivative of every cell of all factors one after another; in a column the other states
        keep their proportions.
    linear : ndarray of bool, shape (parameters,)
        P(evidence) is exactly linear in the parameter, as far as it was tested.
    tested : ndarray, shape (parameters, 2)
        Lowest and highest value at which linearity was tested.
    low, high : ndarray, shape (parameters,)
        5 % and 95 % quantiles of the drawn parameter.
    """

    parameters: tuple[Parameter, ...]
    matrix: sparse.csr_array
    linear: Booleans
    tested: Array
    low: Array
    high: Array

    @property
    def values(self) -> Array:
        """Present values, shape (parameters,)."""
        return np.array([p.value for p in self.parameters])

    def quotient(self, index: NDArray[np.intp], x: Array) -> Booleans:
        """Whether the quotient holds for parameters at the values `x`."""
        low, high = self.tested[index].T
        return np.asarray(self.linear[index] & (x >= low) & (x <= high))

    def pull_back(self, tables: Sequence[Array]) -> Array:
        """Chain rule: derivatives by table cells into derivatives by parameters.

        Parameters
        ----------
        tables : sequence of ndarray, shape (k, *shape of the factor)

        Returns
        -------
        ndarray, shape (parameters, k)
        """
        cells = np.concatenate([t.reshape(len(t), -1) for t in tables], axis=1)
        return np.array(self.matrix @ cells.T, dtype=np.float64)


def column_with(value: Array, state: int, x: Array) -> Array:
    """Columns with one state at `x` and the others in their proportions, shape (rows, states)."""
    x = np.asarray(x, dtype=float)
    if len(value) == 1:
        return x[:, None]
    rest = 1 - value[state]
    column: Array = value * ((1 - x) / rest)[:, None]
    column[:, state] = x
    return column


def table_response(model: Model) -> Response:
    """Differentiate all tables of the model: from the user's cache or computed now.

    Parameters
    ----------
    model : Model

    Returns
    -------
    Response
    """
    key = f"{store.storage_key(model.digest)}-response"
    found = _RESPONSES.get(model) or store.read_stored(key)
    if not isinstance(found, Response):
        found = _Differentiation(table_map(model), parameters_of(model)).run()
        store.write_stored(key, found)
    _RESPONSES[model] = found
    return found


_RESPONSES: WeakKeyDictionary[Model, Response] = WeakKeyDictionary()


class _Differentiation:
    """Rebuilds tables at two distant and two near values of every parameter."""

    def __init__(self, tables: TableMap, parameters: Sequence[Parameter]) -> None:
        self.map = tables
        self.parameters = tuple(parameters)
        self.offset = np.concatenate([[0], np.cumsum([t.size for t in tables.base])])
        self.rows: list[dict[int, tuple[NDArray[np.int64], Array]]] = [{} for _ in parameters]
        self.straight = np.ones(len(parameters), dtype=bool)
        self.points = np.array([_points(p) for p in self.parameters])

    def run(self) -> Response:
        index_of: dict[ColumnKey, list[int]] = {}
        for i, p in enumerate(self.parameters):
            index_of.setdefault(p.key, []).append(i)
        for name, own in self.map._own.items():
            # tables of the conditions are done with the rates below
            direct = [k for k in own if name in self.map._direct[k] and k in index_of]
            own_entries = [i for k in direct for i in index_of[k]]
            size = self.map.tables[name].size
            self._difference(own_entries, [name], False, max(1, BATCH_CELLS // (4 * size)))
        indirect = [k for k, names in self.map.touched.items() if names - self.map._direct[k]]
        for k in indirect:
            others = self.map.touched[k] - self.map._direct[k]
            everything = self.map.touched[k]
            self._difference(index_of[k], everything, False, FIT_ROWS // 4, keep=others)
        fitting = [i for k, at in index_of.items() if k in self.map.fitting for i in at]
        self._difference(fitting, self.map.population, True, FIT_ROWS // 4, keep=())
        draws = parameter_draws(self.map.model, RANGE_DRAWS, 0)
        low, high = np.array(
            [np.quantile(draws[p.key][:, p.state], RANGE) for p in self.parameters]
        ).T
        return Response(
            parameters=self.parameters,
            matrix=self._matrix(),
            linear=self.straight & np.array([self._apart(r) for r in self.rows]),
            tested=self.points[:, :2],
            low=low,
            high=high,
        )

    def _difference(
        self,
        entries: Sequence[int],
        nodes: Collection[str],
        refit: bool,
        batch: int,
        keep: Collection[str] | None = None,
    ) -> None:
        """Differentiate the named tables (and, with `refit`, the potentials) by some parameters."""
        kept = {self.map.factor_of[n] for n in (nodes if keep is None else keep)}
        for start in range(0, len(entries), batch):
            some = list(entries[start : start + batch])
            changed = self.map.rebuilt(self._values(some), nodes, refit=refit)
            for factor, table in changed.items():
                if factor in kept or (refit and self._potential(factor)):
                    self._store(some, factor, table)

    def _potential(self, factor: int) -> bool:
        return factor == self.map.factor_of["etiology"] or factor >= len(self.map.structure.nodes)

    def _values(self, some: Sequence[int]) -> dict[ColumnKey, Array]:
        """Rows of four per parameter: two distant values, two near ones."""
        values: dict[ColumnKey, Array] = {}
        for n, i in enumerate(some):
            p = self.parameters[i]
            base = self.map.column_value(p.key)
            if p.key not in values:
                values[p.key] = np.tile(base, (4 * len(some), 1))
            values[p.key][4 * n : 4 * n + 4] = column_with(base, p.state, self.points[i])
        return values

    def _store(self, some: Sequence[int], factor: int, table: Array) -> None:
        base = self.map.base[factor].reshape(-1)
        rows = table.reshape(len(some), 4, -1)
        for n, i in enumerate(some):
            low, high, before, after = rows[n]
            cells = np.flatnonzero((low != base) | (high != base) | (before != after))
            if not len(cells):
                continue
            x0 = self.parameters[i].value
            a, b, c, d = self.points[i]
            slope = (high[cells] - low[cells]) / (b - a)
            off = np.abs(low[cells] - base[cells] - slope * (a - x0))
            size = np.max(np.abs(base[cells])) + np.max(np.abs(slope)) * (b - a)
            if np.max(off) > ROUNDING * size:
                self.straight[i] = False
                slope = (after[cells] - before[cells]) / (d - c)
            real = np.abs(slope) * (b - a) > 1e-14 * size
            if np.any(real):
                self.rows[i][factor] = (cells[real], slope[real])

    def _apart(self, row: Mapping[int, tuple[NDArray[np.int64], Array]]) -> bool:
        """Whether no joint configuration meets changed cells of two factors."""
        factors = self.map.model.plan.network.factors
        supports = []
        for f, (cells, _) in row.items():
            where = np.unravel_index(cells, self.map.base[f].shape)
            supports.append(
                {v: set(w.tolist()) for v, w in zip(factors[f].variables, where, strict=True)}
            )
        for i, one in enumerate(supports):
            for two in supports[:i]:
                if not any(not (one[v] & two[v]) for v in one.keys() & two.keys()):
                    return False
        return True

    def _matrix(self) -> sparse.csr_array:
        index, data, ends = [], [], [0]
        for row in self.rows:
            count = 0
            for factor, (cells, slope) in sorted(row.items()):
                index.append(cells + self.offset[factor])
                data.append(slope)
                count += len(cells)
            ends.append(ends[-1] + count)
        return sparse.csr_array(
            (
                np.concatenate(data) if data else np.zeros(0),
                np.concatenate(index) if index else np.zeros(0, dtype=np.int64),
                np.array(ends),
            ),
            shape=(len(self.rows), int(self.offset[-1])),
        )


def _points(parameter: Parameter) -> tuple[float, float, float, float]:
    """Two distant values and two near ones on both sides of the present value."""
    x = parameter.value
    if parameter.kind == "column":
        h = STEP * min(x, 1 - x)
        high = 1 - MARGIN * (1 - x)
        # prevalences of the states of one condition are parameters of their own: no sum above 1
        if parameter.group.startswith("prevalence"):
            high = min(2 * x, (1 + x) / 2)
        return MARGIN * x, high, x - h, x + h
    if parameter.kind == "rate":
        return x / RATE_SPAN, RATE_SPAN * x, x * (1 - STEP), x * (1 + STEP)
    return x - 0.5, x + 0.5, x - STEP, x + STEP


def variants(model: Model, parameter: Parameter, x: Sequence[float] | Array) -> Bank:
    """Engine's tables with one parameter at the values `x`, everything rebuilt.

    Raises
    ------
    ModelError
        A value outside the parameter's bounds.
    """
    points = np.asarray(x, dtype=float)
    low, high = parameter.bounds
    bad = points[~((points > low) & (points < high))]
    if len(bad):
        raise ModelError(
            f"{bad[0]:g} is outside {low:g}..{high:g} (both excluded)", name=parameter.name
        )
    tables = table_map(model)
    base = tables.column_value(parameter.key)
    return tables.bank({parameter.key: column_with(base, parameter.state, points)})
