r"""Published figures that were *not* fed in, against what the model implies for the same people.

Three kinds of figures are compared: literature rows with ``use=check``, rows meant for a table
that the structure does not have, and the experts' retrospective tables ("known cancer given a
metastasis") of variables that do not hang on the lesion. Each implied value is an exact posterior:
the figure's condition enters as evidence (a union of states as a disjunction).

Which people. A figure about patients with a lesion (given its cause, subtype or mechanism) is
compared inside the model, where everybody has a lesion. A figure about patients with a disease
is compared in the same network without the selection by a lesion wherever its variable does not
depend on one, since most such patients have none. A figure on children is asked of the scenario
``child`` with the age group set.

Deviation. The published share :math:`p_1` of :math:`n_1` effective patients and the implied share
:math:`p_2`, taken as known from :math:`n_2` patients, are compared by the signed root of the
two-sample likelihood ratio statistic (Wilks, Ann Math Stat 1938;9:60)

.. math:: z = \pm\sqrt{2 \textstyle\sum_j n_j\, KL(p_j \,\|\, \bar p)},\qquad
          \bar p = \frac{n_1 p_1 + n_2 p_2}{n_1 + n_2},

which, other than a Wald score, stays sensible at 0 and 1. :math:`n_1` carries the discounts of
pooling (quality, over-dispersion between series). :math:`n_2` is the effective size of the pooled
columns of the variable; where the share follows from rates, it is the size whose log odds have
the spread of a ratio of two rates, :math:`n_2 = 1/(p_2 (1 - p_2)\, 2 s^2)` with the median
logarithmic standard deviation :math:`s` of the rates.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx.analysis.validation import aligned
from epidural_dx.errors import ModelError
from epidural_dx.inference import Engine, Factor, Network, compile_network
from epidural_dx.literature.pooling import pool_experts
from epidural_dx.literature.rows import Figure, read_table

if TYPE_CHECKING:
    from epidural_dx.literature.base import LiteratureBase
    from epidural_dx.model import Model
    from epidural_dx.network.build import Built

Array = NDArray[np.float64]

#: Variables that say which lesion it is; a figure given one of them is about patients with it.
LESION = ("lesion_cause", "etiology", "lesion_subtype")
#: ``given`` of figures about everybody with a lesion; not a variable.
ENTRY = "lesion_entry"
#: A deviation of at least this size is worth a reason.
NOTABLE = 2.0
DEVIATION_COLUMNS = ("id_or_variable", "given", "why")
#: The experts judged two records of the model together.
EITHER = {"known_myeloproliferative_or_mds": ("known_myeloproliferative", "known_mds")}


@dataclass(frozen=True)
class Quantity:
    """One share with a name: P(variable in states | given in given_states)."""

    name: str
    given: str
    given_states: tuple[str, ...]
    variable: str
    states: tuple[str, ...]
    scenario: str = ""


#: Retrospective shares that readers know from case series; none of them is fed in.
RETROSPECTIVE = (
    Quantity(
        "thalassemia in EMH", "lesion_cause", ("emh",), "blood_disorder",
        ("tdt", "ntdt", "thalassemia_with_cml"),
    ),
    Quantity(
        "thalassemia in EMH, region with much thalassemia", "lesion_cause", ("emh",),
        "blood_disorder", ("tdt", "ntdt", "thalassemia_with_cml"), "high_thalassemia",
    ),
    Quantity(
        "myelofibrosis or polycythemia vera in EMH", "lesion_cause", ("emh",), "blood_disorder",
        ("myelofibrosis", "polycythemia_vera"),
    ),
    Quantity(
        "no blood disorder known in EMH", "lesion_cause", ("emh",), "blood_disorder_known",
        ("absent",),
    ),
    Quantity(
        "anticoagulant in hematoma", "lesion_cause", ("hematoma",), "anticoagulant_use",
        ("present",),
    ),
    Quantity("DIC in hematoma", "lesion_cause", ("hematoma",), "hemostasis", ("dic",)),
    Quantity(
        "no cause found in hematoma", "lesion_cause", ("hematoma",), "etiology",
        ("hematoma_spontaneous",),
    ),
    Quantity(
        "DIC in marrow infiltrated by melanoma", "marrow_disease", ("melanoma",), "hemostasis",
        ("dic",),
    ),
    Quantity("diabetes in abscess", "lesion_cause", ("abscess",), "diabetes", ("present",)),
    Quantity(
        "injection drug use in abscess", "lesion_cause", ("abscess",), "iv_drug_use", ("present",)
    ),
    Quantity("fever in abscess", "lesion_cause", ("abscess",), "fever", ("present",)),
    Quantity("rim enhancement in abscess", "lesion_cause", ("abscess",), "enhancement", ("rim",)),
    Quantity(
        "any weakness in metastasis", "lesion_cause", ("metastasis_other",), "limb_weakness",
        ("partial", "complete"),
    ),
    Quantity(
        "cancer known in metastasis", "lesion_cause", ("metastasis_other",), "known_cancer",
        ("present",),
    ),
    Quantity(
        "melanoma known in melanoma metastasis", "lesion_cause", ("metastasis_melanoma",),
        "known_melanoma", ("present",),
    ),
    Quantity(
        "myeloma known in myeloma", "lesion_cause", ("myeloma",), "known_myeloma", ("present",)
    ),
    Quantity(
        "leukemia known in leukemia", "lesion_cause", ("leukemia",), "known_leukemia", ("present",)
    ),
    Quantity(
        "lymphoma known in lymphoma", "lesion_cause", ("lymphoma",), "known_lymphoma", ("present",)
    ),
    Quantity("steroids in lipomatosis", "lesion_cause", ("lipomatosis",), "steroid_use",
             ("present",)),
    Quantity("obesity in lipomatosis", "lesion_cause", ("lipomatosis",), "obesity", ("present",)),
)


@dataclass(frozen=True)
class Reason:
    """Why a figure deviates, from ``deviations.csv``."""

    key: str
    given: str
    why: str


@dataclass(frozen=True)
class Asked:
    """A figure with what must be asked of which network to compare it.

    ``complement`` asks for 1 minus the probability that all of ``event`` holds.
    """

    figure: Mapping[str, Any]
    scenario: str
    population: bool
    given: Mapping[str, tuple[str, ...]]
    event: Mapping[str, tuple[str, ...]]
    share: float
    patients: float
    complement: bool = False
    problem: str = field(default="")


def read_reasons(priors: Path) -> tuple[Reason, ...]:
    """Read ``deviations.csv`` of the folder `priors`; none where the file does not exist.

    The first column holds a literature row's id, a variable, or ``role:<role>``; ``given`` may
    narrow a variable to a conditioning variable (``lesion_cause``) or to its states
    (``lesion_cause=emh``).

    Raises
    ------
    ModelError
        A malformed file, a row that stands twice, or a row without a reason.
    """
    path = priors / "deviations.csv"
    if not path.exists():
        return ()
    found: dict[tuple[str, str], Reason] = {}
    for line, row in read_table(path, DEVIATION_COLUMNS):
        where: dict[str, Any] = {"file": str(path), "line": line, "name": row["id_or_variable"]}
        if not row["why"].strip() or not row["id_or_variable"]:
            raise ModelError("a deviation needs id_or_variable and why", **where)
        key = (row["id_or_variable"], row["given"])
        if key in found:
            raise ModelError("the deviation stands twice", **where)
        found[key] = Reason(*key, row["why"])
    return tuple(found.values())


def literature_check(model: Model, *, experts: bool = True) -> list[dict[str, Any]]:
    """Set every figure that was not fed in against the implied value, largest deviation first.

    Parameters
    ----------
    model : Model
        Its scenario answers the figures that name none; others are loaded when figures name them.
    experts : bool
        Also compare the experts' retrospective tables.

    Returns
    -------
    list of dict
        ``id``, ``kind`` (published, unused or expert), ``role``, ``given``, ``given_states``,
        ``variable``, ``states``, ``scenario``, ``people`` (lesion or population), ``published``,
        ``patients`` (effective), ``implied``, ``implied_patients``, ``difference``,
        ``log_odds_ratio``, ``z`` (positive: published above implied), ``source``, ``note``,
        ``reason``. Figures that cannot be compared stand last, with ``z`` None and the reason.

    Raises
    ------
    ModelError
        A figure with an unknown variable or state, or a malformed ``deviations.csv``.
    """
    built = model.built
    literature = model.literature
    after_lesion = descendants(built, "etiology")
    asked = [ask_figure(model, figure, kind, after_lesion) for figure, kind in _figures(model)]
    if experts:
        asked += _ask_experts(model)
    implied = implied_shares(model, asked)
    reasons = read_reasons(model._priors)
    spread = _rate_spread(built)
    rows = []
    for one, value in zip(asked, implied, strict=True):
        row = dict(one.figure)
        row["reason"] = one.problem or _reason(reasons, row)
        if value is None:
            row.update(
                implied=None, implied_patients=None, difference=None, log_odds_ratio=None, z=None
            )
        else:
            known_from = _implied_patients(built, row, value, after_lesion, spread)
            row.update(
                implied=value,
                implied_patients=known_from,
                difference=row["published"] - value,
                log_odds_ratio=log_odds_ratio(one.share, one.patients, value),
                z=deviation(one.share, one.patients, value, known_from),
            )
        rows.append(row)
    _add_sources(rows, literature)
    return sorted(rows, key=lambda r: (r["z"] is None, -abs(r["z"] or 0.0), r["id"]))


def deviation(
    published: float, patients: float, implied: float, implied_patients: float
) -> float:
    """Signed root of the likelihood ratio statistic (module docstring).

    Parameters
    ----------
    published, implied : float
        Shares in 0..1.
    patients, implied_patients : float
        Effective sizes, above 0.

    Returns
    -------
    float
        Positive where the published share is the larger one.
    """
    both = (patients * published + implied_patients * implied) / (patients + implied_patients)
    statistic = 2 * (
        patients * _divergence(published, both) + implied_patients * _divergence(implied, both)
    )
    return math.copysign(math.sqrt(max(statistic, 0.0)), published - implied)


def _divergence(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two proportions in nats."""
    total = 0.0
    for a, b in ((p, q), (1 - p, 1 - q)):
        if a > 0:
            total += a * math.log(a / b)
    return total


def log_odds_ratio(published: float, patients: float, implied: float) -> float:
    """Natural log odds of the published share over the implied one, half a patient added.

    Half a patient is added to both outcomes of the published share (Haldane, Ann Hum Genet
    1956;20:309), so that 0 of n stays finite.
    """
    hits, misses = published * patients + 0.5, (1 - published) * patients + 0.5
    inside = min(max(implied, 1e-12), 1 - 1e-12)
    return math.log(hits / misses) - math.log(inside / (1 - inside))


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count the deviations of `literature_check`, overall and by kind and role.

    Returns
    -------
    dict
        ``groups``: one entry per group with n, ``median_z`` (absolute), ``within_1``,
        ``within_2`` (shares), ``above_2``, ``above_2_without_reason``; ``not_compared``: number
        of figures by reason.
    """
    compared = [row for row in rows if row["z"] is not None]
    groups: dict[str, list[Mapping[str, Any]]] = {"all": compared}
    for row in compared:
        label = row["kind"] if row["kind"] == "expert" else f"{row['kind']}, {row['role']}"
        groups.setdefault(label, []).append(row)
    skipped: dict[str, int] = {}
    for row in rows:
        if row["z"] is None:
            skipped[row["reason"]] = skipped.get(row["reason"], 0) + 1
    return {
        "groups": [{"group": name, **_counts(members)} for name, members in groups.items()],
        "not_compared": skipped,
    }


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {"n": 0, "median_z": None, "within_1": None, "within_2": None, "above_2": 0,
                "above_2_without_reason": 0}
    sizes = np.array([abs(row["z"]) for row in rows])
    large = [row for row in rows if abs(row["z"]) >= NOTABLE]
    return {
        "n": len(rows),
        "median_z": float(np.median(sizes)),
        "within_1": float((sizes < 1).mean()),
        "within_2": float((sizes < NOTABLE).mean()),
        "above_2": len(large),
        "above_2_without_reason": sum(not row["reason"] for row in large),
    }


def retrospective(
    model: Model,
    rows: Sequence[Mapping[str, Any]] | None = None,
    quantities: Sequence[Quantity] = RETROSPECTIVE,
) -> list[dict[str, Any]]:
    """Give the declared retrospective shares, implied and as published.

    Parameters
    ----------
    model : Model
    rows : sequence of dict, optional
        From `literature_check`; made when missing.
    quantities : sequence of Quantity
        What to ask.

    Returns
    -------
    list of dict
        ``quantity``, ``scenario``, ``implied``, ``published`` (list of id, share, patients: the
        figures on these states, or on nearly these with more than half of the states in common).
    """
    rows = literature_check(model) if rows is None else rows
    asked = [
        Asked(
            figure={},
            scenario=q.scenario or model.scenario,
            population=False,
            given={q.given: q.given_states},
            event={q.variable: q.states},
            share=0.0,
            patients=1.0,
        )
        for q in quantities
    ]
    result = []
    for q, value in zip(quantities, implied_shares(model, asked), strict=True):
        members = set(_subtypes(model, q))
        published = []
        for row in rows:
            same = row["variable"] == q.variable and row["scenario"] in ("", q.scenario)
            about = row["given"] == q.given and set(row["given_states"]) == set(q.given_states)
            whole = row["given"] == "lesion_subtype" and set(row["given_states"]) == members
            if same and (about or whole) and row["z"] is not None:
                near = len(set(row["states"]) & set(q.states)) / len(set(row["states"]) | set(
                    q.states
                ))
                if near > 0.5:
                    published.append(
                        {
                            "id": row["id"],
                            "share": row["published"],
                            "patients": row["patients"],
                        }
                    )
        result.append(
            {
                "quantity": q.name,
                "scenario": q.scenario or model.scenario,
                "implied": value,
                "published": published,
            }
        )
    return result


def _subtypes(model: Model, quantity: Quantity) -> tuple[str, ...]:
    """Subtypes of the cause that a quantity is given (empty for other conditions)."""
    if quantity.given != "lesion_cause":
        return ()
    subtypes = model.built.structure.subtypes
    found: list[str] = []
    for cause in quantity.given_states:
        found += list(subtypes.get(cause, {cause: ""}))
    return tuple(found)


def cause_shares(
    model: Model,
    scenarios: Iterable[str],
    say: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> list[dict[str, Any]]:
    """Share of every cause before any evidence, one row per scenario.

    Parameters
    ----------
    model : Model
    scenarios : iterable of str
    say : callable
        Called with a word on every scenario: the first time, each takes as long as the model did.
    """
    names = list(scenarios)
    rows = []
    for place, name in enumerate(names, start=1):
        with say(f"Compiling scenario {place} of {len(names)}, {name}"):
            shares = _scenario(model, name).base_marginals["lesion_cause"].tolist()
        rows.append({"scenario": name, **dict(zip(model.causes, shares, strict=True))})
    return rows


# ------------------------------------------------------------------ what to ask


def _figures(model: Model) -> list[tuple[Figure, str]]:
    used = model.built.used_rows
    found = []
    for figure in model.literature.figures:
        if figure.use == "check":
            found.append((figure, "published"))
        elif figure.use == "pool" and figure.id not in used:
            found.append((figure, "unused"))
    return found


def _described(figure: Figure, kind: str, share: float | None, patients: float | None) -> dict[
    str, Any
]:
    return {
        "id": figure.id,
        "kind": kind,
        "role": figure.role,
        "given": figure.given,
        "given_states": figure.given_states,
        "variable": figure.variable,
        "states": figure.states,
        "scenario": figure.scenario,
        "people": "lesion",
        "published": share,
        "patients": patients,
        "source": figure.source_id,
        "note": figure.note,
    }


def ask_figure(model: Model, figure: Figure, kind: str, after_lesion: frozenset[str]) -> Asked:
    """Turn a literature row into a question, or say why it is none."""
    share = figure.proportion
    row = _described(figure, kind, share, None)

    def none(problem: str) -> Asked:
        return Asked(row, "", False, {}, {}, 0.0, 1.0, problem=problem)

    for name, states in ((figure.variable, figure.states), (figure.given, figure.given_states)):
        if name and name != ENTRY:
            _check_states(model, figure, name, states)
    if not figure.variable:
        return none("names no variable of the model")
    if figure.unit != "proportion" or share is None or not 0 <= share <= 1:
        return none("a rate, not a share: compared among the fitted rates")
    about_lesion = figure.given in (*LESION, ENTRY)
    if figure.variable in LESION and not about_lesion:
        return none("a risk among people without a lesion, not a share among lesions")
    position = {s: i for i, s in enumerate(model.variables[figure.variable].states)}
    observation = model.literature.observation(figure, position)
    patients = observation.count
    if not observation.fixed:
        patients /= 1 + max(patients - 1, 0) * model.literature.settings.correlation
    row["patients"] = patients
    population = not about_lesion and not ({figure.variable, figure.given} & after_lesion)
    row["people"] = "population" if population else "lesion"
    given: dict[str, tuple[str, ...]] = {}
    if figure.given and figure.given != ENTRY:
        given[figure.given] = figure.given_states
    scenario = figure.scenario or model.scenario
    if scenario == "child" and figure.variable != "age_group" and figure.given != "age_group":
        given["age_group"] = ("age_0_17",)
        if population:  # with the age set, the population of children is the same everywhere
            scenario = model.scenario
    return Asked(
        figure=row,
        scenario=scenario,
        population=population,
        given=given,
        event={figure.variable: figure.states},
        share=share,
        patients=patients,
    )


def _check_states(model: Model, figure: Figure, name: str, states: Sequence[str]) -> None:
    where: dict[str, Any] = {"file": figure.file, "line": figure.line, "name": figure.id}
    if name not in model.variables:
        raise ModelError(f"{name!r} is no variable of the model", **where)
    known = model.variables[name].states
    unknown = [s for s in states if s not in known]
    if unknown or not states:
        raise ModelError(
            f"{(unknown or [''])[0]!r} is no state of {name}; states are {', '.join(known)}",
            **where,
        )


def _ask_experts(model: Model) -> list[Asked]:
    """Ask for the experts' tables given a lesion, of variables that do not hang on it."""
    built, literature = model.built, model.literature
    fed = {key[0] for key in built.columns if key[1] == "lesion_subtype"}
    names = {
        cell.variable
        for cell in literature.experts
        if cell.given == "lesion_subtype" and not cell.context
    }
    asked = []
    for name in sorted(names - fed):
        pair = EITHER.get(name)
        if pair is None and name not in model.variables:
            continue
        states = model.variables[pair[0] if pair else name].states
        position = {s: i for i, s in enumerate(states)}
        columns = literature._expert_columns(name, position, "lesion_subtype", "")
        for subtype, opinions in columns.items():
            mean, ess = pool_experts(opinions, len(states), literature.settings)
            for i, state in enumerate(states):
                if len(states) == 2 and i == 0:
                    continue
                row = {
                    "id": f"experts/{subtype}/{name}={state}",
                    "kind": "expert",
                    "role": "expert",
                    "given": "lesion_subtype",
                    "given_states": (subtype,),
                    "variable": name,
                    "states": (state,),
                    "scenario": "",
                    "people": "lesion",
                    "published": float(mean[i]),
                    "patients": ess,
                    "source": "two experts",
                    "note": "",
                }
                asked.append(
                    Asked(
                        figure=row,
                        scenario=model.scenario,
                        population=False,
                        given={"lesion_subtype": (subtype,)},
                        event={one: ("absent",) for one in pair} if pair else {name: (state,)},
                        share=float(mean[i]),
                        patients=ess,
                        complement=pair is not None,
                    )
                )
    return asked


# ------------------------------------------------------------------ what is implied


def implied_shares(model: Model, asked: Sequence[Asked]) -> list[float | None]:
    """Implied value of every question; those on one network run as one batch."""
    result: list[float | None] = [None] * len(asked)
    groups: dict[tuple[str, bool], list[int]] = {}
    for i, one in enumerate(asked):
        if not one.problem:
            groups.setdefault((one.scenario, one.population), []).append(i)
    for (scenario, population), members in groups.items():
        other = _scenario(model, scenario)
        engine, position = _population(other.built) if population else (other.engine, None)
        if position is None:
            position = {name: i for i, name in enumerate(other.variables)}
        states = {name: variable.states for name, variable in other.variables.items()}
        given = [asked[i].given for i in members]
        both = [
            {n: tuple(s for s in e if s in g.get(n, e)) for n, e in asked[i].event.items()}
            for i, g in zip(members, given, strict=True)
        ]
        rows = [*given, *({**g, **b} for g, b in zip(given, both, strict=True))]
        logs = engine.run(_vectors(rows, position, states), want=()).log_evidence
        for place, i in enumerate(members):
            below, above = logs[place], logs[len(members) + place]
            if np.isfinite(below):
                share = min(1.0, float(np.exp(above - below)))
                result[i] = 1 - share if asked[i].complement else share
    return result


def _vectors(
    rows: Sequence[Mapping[str, tuple[str, ...]]],
    position: Mapping[str, int],
    states: Mapping[str, tuple[str, ...]],
) -> dict[int, Array]:
    """Disjunctions by name to likelihoods, each of shape (rows, states)."""
    names = {name for row in rows for name in row} or {next(iter(position))}
    vectors = {}
    for name in names:
        vector = np.ones((len(rows), len(states[name])))
        for i, row in enumerate(rows):
            if name in row:
                vector[i] = [float(s in row[name]) for s in states[name]]
        vectors[position[name]] = vector
    return vectors


def _scenario(model: Model, name: str) -> Model:
    """Load the same model under other base rates."""
    if name == model.scenario:
        return model
    from epidural_dx.model import load_model

    return load_model(model._networks, model._priors, name, backend=model.backend)


def descendants(built: Built, root: str) -> frozenset[str]:
    """Find a variable and everything below it."""
    found = {root}
    before = 0
    while before != len(found):
        before = len(found)
        for name, node in built.structure.nodes.items():
            if any(p in found for p in node.parents):
                found.add(name)
    return frozenset(found)


def _population(built: Built) -> tuple[Engine, dict[str, int]]:
    """Engine on people in general: no selection by a lesion, and nothing that depends on one."""
    after = descendants(built, "etiology")
    names = [name for name in built.structure.nodes if name not in after]
    position = {name: i for i, name in enumerate(names)}
    factors = tuple(
        Factor(
            (*(position[p] for p in built.structure.nodes[name].parents), position[name]),
            built.tables[name],
            child=position[name],
        )
        for name in names
    )
    sizes = tuple(len(built.structure.nodes[name].states) for name in names)
    plan = compile_network(Network(sizes, factors), position["age_group"], tries=1)
    return Engine(plan, "numpy"), position


# ------------------------------------------------------------------ how well it is known


def _rate_spread(built: Built) -> float:
    """Median logarithmic standard deviation of the pooled rates."""
    spreads = [rate.log_sd for rate in built.rates.values()]
    return float(np.median(spreads)) if spreads else math.log(2.0)


def _implied_patients(
    built: Built,
    row: Mapping[str, Any],
    implied: float,
    after_lesion: frozenset[str],
    spread: float,
) -> float:
    """Count the patients that the implied share is worth (module docstring)."""
    variable = row["variable"]
    from_rates = variable in LESION or (
        row["people"] == "lesion" and variable not in after_lesion
    )
    columns = [pooled for key, pooled in built.columns.items() if key[0] == variable]
    if from_rates or not columns:
        inside = max(implied * (1 - implied), 1e-9)
        return 1.0 / (inside * 2 * spread**2)
    direct = [
        pooled.ess
        for key, pooled in built.columns.items()
        if key[0] == variable and key[1] == row["given"] and key[2] in row["given_states"]
    ]
    sizes = direct or [pooled.ess for pooled in columns]
    return len(sizes) / sum(1 / max(size, 1e-6) for size in sizes)


def _reason(reasons: Sequence[Reason], row: Mapping[str, Any]) -> str:
    """Pick the most specific declared reason that fits a figure."""
    states = "|".join(row["given_states"])
    order = (
        (row["id"], None),
        (row["variable"], f"{row['given']}={states}"),
        (row["variable"], row["given"]),
        (row["variable"], ""),
        (f"role:{row['role']}", None),
    )
    for key, given in order:
        for reason in reasons:
            if reason.key == key and (given is None or reason.given == given):
                return reason.why
    return ""


def _add_sources(rows: Sequence[dict[str, Any]], literature: LiteratureBase) -> None:
    """Replace source ids by one line for people, the id where nothing is known of it."""
    for row in rows:
        source = literature.sources.get(row["source"])
        row["source_id"] = row["source"]
        row["source"] = source.citation if source else row["source"]


def text_report(model: Model, rows: Sequence[Mapping[str, Any]] | None = None) -> str:
    """Write the check as plain text: counts, named quantities, and every notable deviation.

    Parameters
    ----------
    model : Model
    rows : sequence of dict, optional
        From `literature_check`; made when missing.

    Returns
    -------
    str
    """
    rows = literature_check(model) if rows is None else rows
    found = summary(rows)
    groups = [["figures", "n", "median |z|", "|z| < 1", "|z| < 2", "above 2", "unexplained"]]
    for group in found["groups"]:
        if group["n"]:
            groups.append(
                [
                    group["group"],
                    str(group["n"]),
                    f"{group['median_z']:.2f}",
                    f"{group['within_1']:.0%}",
                    f"{group['within_2']:.0%}",
                    str(group["above_2"]),
                    str(group["above_2_without_reason"]),
                ]
            )
    named = [["quantity", "scenario", "implied", "published"]]
    for share in retrospective(model, rows):
        figures = [f"{one['share']:.2f} ({one['id']})" for one in share["published"]]
        implied = "" if share["implied"] is None else f"{share['implied']:.2f}"
        named.append([share["quantity"], share["scenario"], implied, ", ".join(figures)])
    large = [["z", "published", "implied", "figure", "row", "why"]]
    for row in rows:
        if row["z"] is not None and abs(row["z"]) >= NOTABLE:
            given = f" | {row['given']}={'|'.join(row['given_states'])}" if row["given"] else ""
            large.append(
                [
                    f"{row['z']:+.1f}",
                    f"{row['published']:.2f}",
                    f"{row['implied']:.2f}",
                    f"{row['variable']}={'|'.join(row['states'])}{given}",
                    row["id"],
                    row["reason"] or "not explained",
                ]
            )
    skipped = [f"Not compared: {n} ({why})." for why, n in found["not_compared"].items()]
    return "\n".join(
        [
            "Figures that were not fed in, against what the model implies (z: signed root of the "
            "likelihood ratio statistic; positive where the published share is larger).",
            aligned(groups),
            *skipped,
            "",
            aligned(named),
            "",
            aligned(large),
        ]
    )


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the rows of `literature_check` as CSV, unions joined by ``|``."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]) if rows else ["id"])
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: "|".join(v) if isinstance(v, tuple) else v for k, v in row.items()}
            )
