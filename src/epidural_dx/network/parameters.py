"""The parameters of a model: pooled columns, declared figures and rates, each remembered.

A *parameter* is one pooled column, one declared column, one rate or one association. Tables are
functions of them (:mod:`epidural_dx.network.build`). Every accessor returns the pooled mean, or
the value that was put in its place: a single alternative (sensitivity) or an array of draws with
a leading axis (uncertainty).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from epidural_dx.errors import ModelError
from epidural_dx.literature.base import LiteratureBase
from epidural_dx.literature.pooling import Observation, Pooled, pool
from epidural_dx.literature.rows import Figure
from epidural_dx.network.declared import Scenario, Stated, read_associations, read_stated
from epidural_dx.network.rates import PooledRate, read_rates
from epidural_dx.network.structure import Structure

Array = NDArray[np.float64]
ColumnKey = tuple[str, str, str, str]

#: A state that no patient of the column is known to have: not zero, since only deterministic
#: nodes may hold zeros, and below every product of prevalences (metastatic melanoma in the marrow
#: of a child is 1e-7 of children), so that it changes no posterior.
NEVER = 1e-12
#: Names that only the experts' tables know, with their states.
EXPERT_STATES = {
    "tissue": ("melanoma", "other_tumor", "nerve_sheath_tumor", "non_tumor"),
    "bone_metastasis": ("absent", "present"),
}


class Parameters:
    """Access to every figure that tables are made of.

    Parameters
    ----------
    structure, literature, priors, scenario
        What to read from.
    keep : callable, optional
        Leaves out literature rows for which it returns False.
    values : mapping, optional
        Arrays that replace parameters, keyed as :attr:`columns`, shape ``(*lead, states)``;
        rates and associations are keyed ``("rate", name, "", "")`` and
        ``("association", id, "", "")`` with shape ``(*lead, 1)``.
    known : mapping, optional
        Columns of an earlier build from the same files, taken instead of pooled again.

    Attributes
    ----------
    columns : dict
        Every column used so far, by (variable, given, given state, context or id).
    rates : dict of str to PooledRate
    used_rows : set of str
        Literature rows that fed a column.
    lead : tuple of int
        ``()`` or ``(draws,)``.
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
        known: Mapping[ColumnKey, Pooled] | None = None,
    ) -> None:
        self.structure = structure
        self.literature = literature
        self.scenario = scenario
        self.keep = keep
        self.values = values or {}
        self.known = known or {}
        self.lead: tuple[int, ...] = next(
            (v.shape[:-1] for v in self.values.values() if v.ndim > 1), ()
        )
        self.stated = read_stated(priors)
        self.associations = read_associations(priors)
        self.rate_figures = read_rates(priors)
        self.columns: dict[ColumnKey, Pooled] = {}
        self.used_rows: set[str] = set()
        self.rates: dict[str, PooledRate] = {}
        self.subtype_shares: dict[str, Array] = {}
        self._mean_shares: dict[str, float] = {}
        self._pools: dict[tuple[str, str, str], dict[str, Pooled]] = {}

    def states(self, name: str) -> tuple[str, ...]:
        """States of a variable, or of a name that only the experts' tables know.

        Raises
        ------
        KeyError
            Neither.
        """
        if name in self.structure.nodes:
            return self.structure.nodes[name].states
        return EXPERT_STATES[name]

    @property
    def order(self) -> Literal["C", "F"]:
        """Memory order of arrays: draws are the first index and lie innermost."""
        return "F" if self.lead else "C"

    def stack(self, arrays: Sequence[Array], axis: int = -1) -> Array:
        """Join arrays along a new axis, counted from the end, in that memory order."""
        shape = list(arrays[0].shape)
        shape.insert(len(shape) + 1 + axis, len(arrays))
        out = np.empty(shape, order=self.order)
        return np.stack(arrays, axis=axis, out=out)

    def filled(self, shape: Sequence[int], value: float) -> Array:
        """Return an array of shape ``(*lead, *shape)`` in that memory order."""
        return np.full((*self.lead, *shape), value, order=self.order)

    def value(self, key: ColumnKey) -> Array:
        """Mean of a remembered column or what stands in its place, shape ``(*lead, states)``."""
        value = self.values.get(key, self.columns[key].mean)
        return np.broadcast_to(value, (*self.lead, value.shape[-1])) if self.lead else value

    def remember(self, key: ColumnKey, pooled: Pooled) -> Array:
        """Note a column with its rows and return its value."""
        self.columns[key] = pooled
        self.used_rows.update(pooled.rows)
        return self.value(key)

    # ------------------------------------------------------------- literature

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
        """Pooled P(variable | given), shape ``(*lead, given states, states)``.

        ``contexts`` names the experts' context per given state; ``leaves_out`` reads another
        given state's column instead (a finding that belongs to the condition, not the lesion).
        """
        names = tuple(states or self.states(variable))
        result = []
        for g in given_states or self.states(given):
            g = (leaves_out or {}).get(g, g)
            context = (contexts or {}).get(g, "")
            key = (variable, given, g, context)
            pooled = self.known.get(key) or self._pooled(variable, names, given, context)[g]
            result.append(self.remember(key, pooled))
        return self.stack(result, axis=-2)

    def _pooled(
        self, variable: str, names: tuple[str, ...], given: str, context: str
    ) -> dict[str, Pooled]:
        key = (variable, given, context)
        if key not in self._pools:
            self._pools[key] = self.literature.pooled_columns(
                variable,
                names,
                given,
                self.states(given),
                shares=self._mean_shares if given == "lesion_subtype" else None,
                context=context,
                keep=self.keep,
            )
        return self._pools[key]

    def figures_on(
        self, variable: str, given: str, given_state: str, states: Sequence[str]
    ) -> list[Observation]:
        """Pooled figures about exactly one given state, as observations on `states`."""
        position = {s: i for i, s in enumerate(states)}
        return [
            self.literature.observation(f, position)
            for f in self.literature.figures
            if f.use == "pool"
            and f.variable == variable
            and f.given == given
            and f.given_states == (given_state,)
            and (self.keep is None or self.keep(f))
        ]

    # --------------------------------------------------------------- declared

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

    def stated_value(self, id: str, variable: str, given_state: str, state: str) -> Array:
        """One probability of a declared column, shape ``lead``."""
        stated = self.stated_column(id, variable, given_state)
        names = tuple(stated.probabilities)
        shares = [*stated.probabilities.values(), 1 - sum(stated.probabilities.values())]
        mean = np.clip(np.array(shares), 1e-12, 1)
        key = (variable, stated.given, given_state, id)
        value = self.remember(key, _declared(mean / mean.sum(), stated))
        return np.asarray(value[..., names.index(state)])

    def stated_vector(self, id: str, variable: str, given_state: str) -> Array:
        """Return a whole declared column, moved by published counts; shape ``(*lead, states)``.

        Raises
        ------
        ModelError
            A state that the variable does not have, or a sum other than 1.
        """
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
        return self._moved_by_counts(mean / mean.sum(), stated, names)

    def _moved_by_counts(self, mean: Array, stated: Stated, names: Sequence[str]) -> Array:
        key = (stated.variable, stated.given, stated.given_state, stated.id)
        if key in self.known:
            return self.remember(key, self.known[key])
        observations = self.figures_on(stated.variable, stated.given, stated.given_state, names)
        if not observations:
            return self.remember(key, _declared(mean, stated))
        pooled = pool(
            len(mean), observations, (), self.literature.settings, prior=(mean, stated.ess)
        )
        return self.remember(key, pooled)

    def set_subtype_shares(self) -> None:
        """Fill :attr:`subtype_shares`: the stated shares, moved by published counts."""
        for cause, subtypes in self.structure.subtypes.items():
            stated = self.stated_column(next(iter(subtypes.values())), "lesion_subtype", cause)
            mean = np.array([stated.probabilities[s] for s in subtypes])
            value = self._moved_by_counts(mean / mean.sum(), stated, tuple(subtypes))
            key = ("lesion_subtype", stated.given, cause, stated.id)
            for i, subtype in enumerate(subtypes):
                self.subtype_shares[subtype] = value[..., i]
                # columns are pooled with the mean shares, whatever is drawn
                self._mean_shares[subtype] = float(self.columns[key].mean[i])

    def association(self, id: str) -> Array:
        """Log odds ratio, shape ``lead``.

        Raises
        ------
        ModelError
            Not in ``associations.csv``.
        """
        if id not in self.associations:
            raise ModelError(f"no association {id!r}", file="associations.csv", name=id)
        override = self.values.get(("association", id, "", ""))
        if override is not None:
            return np.asarray(override[..., 0])
        return np.full(self.lead, self.associations[id].log_odds_ratio)

    # ------------------------------------------------------------ prevalences

    def prevalence(self, variable: str, state: str, age: str, contexts: Mapping[str, str]) -> Array:
        """Share of people of an age group in a state, shape ``lead``.

        Geometric mean of the experts, or of prevalence rows where the experts are silent.

        Raises
        ------
        ModelError
            No figure.
        """
        key = (variable, "age_group", age, f"prevalence:{state}")
        if key in self.known:
            return np.asarray(self.remember(key, self.known[key])[..., 1])
        general = contexts.get("default", "")
        own = next((contexts[c] for c in self.scenario.contexts if c in contexts), general)
        share, rows = self._share(variable, state, age, own)
        if own != general and self.scenario.context_share < 1:
            elsewhere, more = self._share(variable, state, age, general)
            part = self.scenario.context_share
            share, rows = part * share + (1 - part) * elsewhere, (*rows, *more)
        pooled = Pooled(
            mean=np.array([1 - share, share]),
            ess=6.0,
            grade="estimated" if rows else "expert",
            rows=rows,
        )
        return np.asarray(self.remember(key, pooled)[..., 1])

    def _share(
        self, variable: str, state: str, age: str, context: str
    ) -> tuple[float, tuple[str, ...]]:
        found = self._log_mean(variable, state, age, context)
        if found is None and context:
            found = self._log_mean(variable, state, age, "")
        if found is None:
            raise ModelError(f"no prevalence of {state!r} at {age}", file="priors", name=variable)
        return found

    def _log_mean(
        self, variable: str, state: str, age: str, context: str
    ) -> tuple[float, tuple[str, ...]] | None:
        values = [
            c.probability
            for c in self.literature.cells(variable, "age_group")
            if c.states == (state,) and c.given_states == (age,) and c.context == context
        ]
        if values:
            return float(np.exp(np.mean(np.log(np.maximum(values, 1e-9))))), ()
        rows = [
            f
            for f in self.literature.figures
            if f.use == "prevalence"
            and f.variable == variable
            and f.states == (state,)
            and f.proportion
            and f.unit in ("proportion", "")
            and f.scenario in ("", self.scenario.name)
            and (not f.given_states or f.given_states == (age,))
            and (self.keep is None or self.keep(f))
        ]
        if not rows:
            return None
        logs = [np.log(f.proportion) for f in rows if f.proportion]
        return float(np.exp(np.mean(logs))), tuple(f.id for f in rows)

    def rate(self, name: str, pooled: PooledRate) -> Array:
        """Value of a pooled rate per 100,000 person-years, shape ``lead``."""
        self.rates[name] = pooled
        override = self.values.get(("rate", name, "", ""))
        if override is not None:
            return np.asarray(override[..., 0])
        return np.full(self.lead, pooled.rate)


def _declared(mean: Array, stated: Stated) -> Pooled:
    return replace(Pooled(mean=mean, ess=stated.ess, grade=stated.grade), rows=stated.rows)
