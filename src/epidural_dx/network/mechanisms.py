"""Fit the competing rates: factors of single conditions and a scale for every mechanism."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from epidural_dx.errors import ModelError
from epidural_dx.literature.pooling import ExpertColumn, pool
from epidural_dx.network import tables as formulas
from epidural_dx.network.parameters import Parameters
from epidural_dx.network.population import Population
from epidural_dx.network.rates import RateCheck, RateFigure, RateTable, pool_rates, solve_excess
from epidural_dx.network.structure import Mechanism, nearest

Array = NDArray[np.float64]
Factors = dict[str, Array]

#: Effective patients of one expert's share of women and men, or of age groups.
PATIENT_EXPERT_ESS = 4.0
#: The age group of children.
CHILDREN = "age_0_17"
#: A driver whose excess vanishes keeps a trace: the mechanism exists, and no zero is honest.
TRACE = 1e-6


def fit_rates(
    parameters: Parameters, tables: Mapping[str, Array]
) -> tuple[dict[str, Array], Array, list[RateCheck]]:
    """Fit all mechanisms to the marginal rates.

    Parameters
    ----------
    parameters : Parameters
    tables : mapping of str to ndarray
        The finished conditional probability tables.

    Returns
    -------
    selection : dict of str to ndarray, shape (*lead, mechanisms, states)
        Factors of each condition.
    weights : ndarray, shape (*lead, mechanisms)
        Scales per 100,000 person-years.
    checks : list of RateCheck
        Marginal rates against what the fit implies (empty with draws).

    Raises
    ------
    ModelError
        A rate that is missing.
    """
    return _Fit(parameters, tables).run()


class _Fit:
    def __init__(self, parameters: Parameters, tables: Mapping[str, Array]) -> None:
        self.parameters = parameters
        self.mechanisms = list(parameters.structure.mechanisms.values())
        scenario = parameters.scenario
        self.rates = RateTable(parameters.rate_figures, scenario.contexts, scenario.context_share)
        # trends by age compare figures of one setting, and only the general one has them
        self.general_rates = RateTable(parameters.rate_figures)
        self.states = parameters.states
        # marginal rates hold for the reference population, not for the setting asked for
        ages = parameters.scenario.reference_ages
        reference = np.array([ages[a] for a in self.states("age_group")])
        conditions = {n: tables[n] for n in self._conditions()}
        self.population = Population(
            parameters.structure, {**conditions, "age_group": reference}, parameters.lead
        )
        self.lead = parameters.lead

        self._check_names()

    def _conditions(self) -> list[str]:
        """Every variable that a rate or a figure of one is about, and their ancestors."""
        nodes = self.parameters.structure.nodes
        wanted = ["age_group", "sex", "marrow_disease"]
        wanted += [f.given for f in self.parameters.rate_figures if f.given in nodes]
        for m in self.mechanisms:
            wanted += [*m.requires, *([m.known] if m.known else [])]
            wanted += [m.rate[k] for k in ("given", "of") if m.rate.get(k) in nodes]
        return self.parameters.structure.conditions_behind(wanted)

    def _check_names(self) -> None:
        """Refuse fitted rates about causes, conditions or states that do not exist."""
        nodes = self.parameters.structure.nodes
        known = {
            "cause": self.states("lesion_cause"),
            "age_group": ("", *self.states("age_group")),
            "given": ("", *nodes),
        }
        for figure in (f for f in self.parameters.rate_figures if f.use == "fit"):
            for column, allowed in known.items():
                value = getattr(figure, column)
                if value not in allowed:
                    raise ModelError(
                        f"unknown {column} {value!r}{nearest(value, allowed)}",
                        file="rates.csv",
                        name=figure.id,
                    )
            states = self.states(figure.given) if figure.given else ("",)
            if figure.state not in states:
                raise ModelError(
                    f"{figure.state!r} is no state of {figure.given}; "
                    f"states are {', '.join(states)}",
                    file="rates.csv",
                    name=figure.id,
                )

    def run(self) -> tuple[dict[str, Array], Array, list[RateCheck]]:
        factors = {m.name: self._factors(m) for m in self.mechanisms}
        for cause in dict.fromkeys(m.cause for m in self.mechanisms if m.age):
            self._age_as_presented(cause, factors)
        scales: dict[str, Array] = {}
        for m in self.mechanisms:
            if m.rate["kind"] == "by_state":
                self._present_as_published(m, factors[m.name])
                self._scale_by_state(m, factors[m.name])
            if m.rate["kind"] != "excess":
                scales[m.name] = np.ones(self.lead)
        for cause in self.states("lesion_cause"):
            scales.update(self._solve_cause(cause, factors))
        selection: dict[str, Array] = {}
        for i, m in enumerate(self.mechanisms):
            for variable, factor in factors[m.name].items():
                if variable not in selection:
                    shape = (len(self.mechanisms), len(self.states(variable)))
                    selection[variable] = self.parameters.filled(shape, 1.0)
                selection[variable][..., i, :] = factor
        weights = self.parameters.stack([scales[m.name] for m in self.mechanisms])
        checks = [] if self.lead else self._checks(factors, scales)
        for array in (*selection.values(), weights):
            array.setflags(write=False)
        return selection, weights, checks

    def _solve_cause(self, cause: str, factors: Mapping[str, Factors]) -> dict[str, Array]:
        """Scales of the drivers of one cause: what is left of their totals."""
        own = [m for m in self.mechanisms if m.cause == cause]
        drivers = [m for m in own if m.rate["kind"] == "excess"]
        others = [m for m in own if m.rate["kind"] != "excess"]
        if not drivers:
            return {}
        totals, fixed, exposure = [], [], []
        for m in drivers:
            figure = self.rates.need(cause, m.rate["given"], m.rate["state"])
            totals.append(self.parameters.rate(m.name, figure))
            people = {m.rate.get("of", m.rate["given"]): m.rate["state"]}
            fixed.append(sum(self.population.expectation(factors[o.name], people) for o in others))
            exposure.append(
                [
                    np.zeros(self.lead)
                    if other.apart and other is not m
                    else self.population.expectation(factors[other.name], people)
                    for other in drivers
                ]
            )
        total = np.stack(totals, axis=-1)
        rest = np.stack([np.broadcast_to(f, self.lead) for f in fixed], axis=-1)
        matrix = np.stack([np.stack(row, axis=-1) for row in exposure], axis=-2)
        if self.lead:
            solution = np.stack(
                [solve_excess(t, f, e) for t, f, e in zip(total, rest, matrix, strict=True)]
            )
        else:
            solution = solve_excess(total, rest, matrix)
        solution = np.maximum(solution, TRACE)
        return {m.name: solution[..., i] for i, m in enumerate(drivers)}

    # ---------------------------------------------------------------- factors

    def _factors(self, m: Mechanism) -> Factors:
        """Factors of single conditions: required states, age, rates by state, sex."""
        factors: Factors = {}
        for variable, states in m.requires.items():
            factors[variable] = np.array(
                [1.0 if s in states else 0.0 for s in self.states(variable)]
            )
        if m.rate["kind"] == "baseline":
            factors["age_group"] = self._baseline_by_age(m)
        else:
            trend = self._age_trend(m)
            if trend is not None:
                factors["age_group"] = trend
        if m.rate["kind"] == "by_state":
            factors.update(self._rates_by_state(m))
        if m.sex:
            factors["sex"] = self._sex_factor(m)
        return factors

    def _baseline_by_age(self, m: Mechanism) -> Array:
        ages = self.states("age_group")
        columns = [
            self.parameters.rate(f"{m.name}@{a}", self.rates.need(m.cause, "", "", a, "baseline"))
            for a in ages
        ]
        by_age = self.parameters.stack(columns)
        if "share" not in m.rate:
            return by_age
        id = m.rate["share"]
        by_cause = (id, "share", m.cause) in self.parameters.stated
        shares = [
            self.parameters.stated_value(id, "share", m.cause if by_cause else a, "present")
            for a in ages
        ]
        return np.asarray(by_age * self.parameters.stack(shares))

    def _age_trend(self, m: Mechanism) -> Array | None:
        """Rates by age over the rate of all ages, where figures by age stand; else None."""
        given = m.rate["given"]
        states = m.rate.get("states") or [m.rate["state"]]
        ages = self.states("age_group")
        logs = np.zeros(len(ages))
        for i, age in enumerate(ages):
            found = []
            for s in states:
                at_age = self.general_rates.find(m.cause, given, s, age)
                overall = self.general_rates.find(m.cause, given, s)
                if at_age and overall:
                    found.append(np.log(at_age.rate / overall.rate))
            logs[i] = float(np.mean(found)) if found else 0.0
        return np.exp(logs) if np.any(logs) else None

    def _rates_by_state(self, m: Mechanism) -> Factors:
        given = m.rate["given"]
        variable = m.rate.get("of", given)
        names = self.states(variable)
        values = self.parameters.filled((len(names),), 0.0)
        share = self._stated_known_share(m)
        for s in m.rate["states"]:
            total = self.rates.find(m.cause, given, s, "", "total")
            known = self.rates.find(m.cause, given, s, "", "known")
            parts: list[float] = []
            rows: list[str] = []
            if total:
                parts.append(total.rate)
                rows += total.rows
            if known:
                # a figure about known disease is the known share of all
                parts.append(known.rate / share)
                rows += known.rows
            if not parts:
                raise ModelError(
                    f"no rate for {m.cause} in {given}={s}", file="rates.csv", name=m.name
                )
            rate = self.parameters.rate(f"{m.name}@{s}", pool_rates(parts, rows))
            for target in m.rate.get("map", {}).get(s, [s]):
                values[..., names.index(target)] = rate
        for extra, like in m.rate.get("also", {}).items():
            values[..., names.index(extra)] = values[..., names.index(like)]
        return {variable: values}

    def _stated_known_share(self, m: Mechanism) -> float:
        """Known share as declared, whatever is drawn: a pooled rate is a parameter of its own."""
        if not m.known:
            return 1.0
        stated = self.parameters.stated_column(
            "known_at_presentation", "known", self._known_name(m)
        )
        return float(stated.probabilities["present"])

    def _known_share(self, m: Mechanism) -> Array | None:
        if not m.known:
            return None
        return self.parameters.stated_value(
            "known_at_presentation", "known", self._known_name(m), "present"
        )

    def _known_name(self, m: Mechanism) -> str:
        for name in (m.name, m.cause):
            if ("known_at_presentation", "known", name) in self.parameters.stated:
                return name
        raise ModelError(
            "no stated share of known disease at presentation", file="stated.csv", name=m.name
        )

    def _sex_factor(self, m: Mechanism) -> Array:
        """Return the share of women and men among the cause's patients over an even one."""
        own = m.name if m.name in self.states("lesion_subtype") else m.cause
        return self._patients(m.cause, own, "sex") * len(self.states("sex"))

    def _patients(self, cause: str, own: str, variable: str) -> Array:
        """Distribution of `variable` among the patients of a cause, shape ``(*lead, states)``.

        Pooled from published figures and from the experts' tables of `own` or, where the cause
        has phases or types, of all of them.
        """
        key = (variable, "lesion_cause", own, "")
        if key in self.parameters.known:
            return self.parameters.remember(key, self.parameters.known[key])
        literature = self.parameters.literature
        names = self.states(variable)
        position = {s: i for i, s in enumerate(names)}
        observations = [
            literature.observation(f, position)
            for f in literature.figures
            if f.variable == variable
            and f.use == "rate"
            and f.given == "lesion_cause"
            and cause in f.given_states
            and f.proportion is not None
            and (self.parameters.keep is None or self.parameters.keep(f))
        ]
        subtypes = tuple(self.parameters.structure.subtypes.get(cause, (own,)))
        experts = []
        judged = [
            c for c in literature.cells(variable, "lesion_subtype") if c.given_states[0] in subtypes
        ]
        for expert in sorted({c.expert for c in judged}):
            cells = [c for c in judged if c.expert == expert]
            mean = np.array(
                [np.mean([c.probability for c in cells if c.states == (s,)]) for s in names]
            )
            experts.append(ExpertColumn(expert, mean / mean.sum(), PATIENT_EXPERT_ESS))
        pooled = pool(len(names), observations, experts, literature.settings)
        return self.parameters.remember(key, pooled)

    def _age_as_presented(self, cause: str, factors: Mapping[str, Factors]) -> None:
        """Trend with age of the mechanisms that have no rates by age.

        The rate of a disease's lesion "in people with the disease" is one number, yet people who
        were cured long ago are old and seldom get it. One factor for all the cause's mechanisms
        with ``age: true`` makes their adult patients as old as the cause's patients are: the
        pooled age groups over those that constant rates imply in a population of all ages.
        Children keep the constant rate: their share of these cancers lies at the floor of the
        experts' tables (0.002), which is no information. Rates of all ages stay what they are
        (:meth:`_scale_by_state`).
        """
        own = [m for m in self.mechanisms if m.cause == cause and m.age]
        names, scenario = self.states("age_group"), self.parameters.scenario
        reference = np.array([scenario.reference_ages[a] for a in names])
        pyramid = np.array([scenario.patient_ages[a] for a in names])
        weights = sum(self.population.weights(factors[m.name], "age_group") for m in own)
        adults = np.array([a != CHILDREN for a in names])
        implied = formulas.normalized(np.asarray(weights) / reference * pyramid * adults)
        presented = formulas.normalized(self._patients(cause, cause, "age_group") * adults)
        factor = np.where(adults, formulas.reweighting(presented, np.where(adults, implied, 1)), 1)
        for m in own:
            factors[m.name]["age_group"] = factor

    def _present_as_published(self, m: Mechanism, factors: Factors) -> None:
        """Factors on *known* and on the marrow, so that patients present as published."""
        share = self._known_share(m)
        if m.known and share is not None:
            spread = self.population.conditional(factors, m.known)
            factors[m.known] = formulas.reweighting(
                self.parameters.stack([1 - share, share]), spread
            )
        if not m.marrow:
            return
        involved = self.parameters.stated_value(
            "marrow_involved", "marrow_disease", m.marrow["stated"], "present"
        )
        spread = self.population.conditional(factors, "marrow_disease")
        names = self.states("marrow_disease")
        spared = names.index(m.marrow["spared"])
        factor = self.parameters.filled((len(names),), 0.0)
        factor[...] = (involved / (1 - spread[..., spared]))[..., None]
        factor[..., spared] = (1 - involved) / spread[..., spared]
        factors["marrow_disease"] = factor

    def _scale_by_state(self, m: Mechanism, factors: Factors) -> None:
        """Divide by what the other factors do on average, so that each state keeps its rate."""
        given = m.rate["given"]
        variable = m.rate.get("of", given)
        rates = factors[variable]
        for i, state in enumerate(self.states(variable)):
            if not np.all(rates[..., i] > 0):
                continue
            people = {variable: state}
            if variable != given:
                people = {given: next(k for k, v in m.rate["map"].items() if state in v)}
            implied = self.population.expectation(factors, people)
            rates = rates.copy()
            rates[..., i] *= rates[..., i] / implied
            factors[variable] = rates

    # ----------------------------------------------------------------- checks

    def _exposed(self, given: str) -> str:
        """Name the true exposure behind a reported one (rates are about what happened)."""
        for m in self.mechanisms:
            if m.rate["kind"] == "excess" and m.rate["given"] == given:
                return str(m.rate.get("of", given))
        return given

    def _checks(
        self, factors: Mapping[str, Factors], scales: Mapping[str, Array]
    ) -> list[RateCheck]:
        """Every marginal rate figure against what the fitted rates imply."""
        nodes = self.parameters.structure.nodes
        grouped: dict[tuple[str, str, str, bool], list[RateFigure]] = {}
        settings = ("", *self.parameters.scenario.contexts)
        for f in self.parameters.rate_figures:
            if f.kind != "total" or f.scenario not in settings or f.age_group:
                continue
            if f.given in nodes and f.state in nodes[f.given].states:
                grouped.setdefault((f.cause, f.given, f.state, f.use == "fit"), []).append(f)
        checks = []
        for (cause, given, state, used), figures in grouped.items():
            pooled = pool_rates([f.rate for f in figures], [f.id for f in figures])
            people = {self._exposed(given): state}
            implied = sum(
                float(scales[m.name] * self.population.expectation(factors[m.name], people))
                for m in self.mechanisms
                if m.cause == cause and not (m.apart and m.rate["given"] != given)
            )
            note = "; ".join(dict.fromkeys(f.note for f in figures if f.note))
            checks.append(
                RateCheck(
                    cause,
                    given,
                    state,
                    pooled.rate,
                    implied,
                    used,
                    pooled.rows,
                    pooled.log_sd,
                    note,
                )
            )
        return checks
