"""The parameters of a model by name: what each one is, where it belongs, what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import EvidenceError
from epidural_dx.network.declared import Stated, read_associations, read_stated
from epidural_dx.network.draws import draw_parameters
from epidural_dx.network.parameters import EXPERT_STATES, ColumnKey
from epidural_dx.network.rates import read_rates

if TYPE_CHECKING:
    from epidural_dx.literature.pooling import Pooled
    from epidural_dx.model import Model

Array = NDArray[np.float64]

#: Stands for experts whose names a column does not keep.
EXPERTS = "expert_tables"
#: Stands for declared defaults among the sources.
ASSUMED = "declared_default"
#: What these two are called for people.
STAND_INS = {EXPERTS: "experts' tables, not told apart", ASSUMED: "declared defaults"}
#: Groups of parameters that share is given for.
LEVELS = ("parameter", "group", "cause", "source")


@dataclass(frozen=True)
class Parameter:
    """One number that tables are made of.

    Attributes
    ----------
    name : str
        ``fever=present | lesion_subtype=cyst``, ``rate hematoma_dic``, ``association …``.
    key : tuple of str
        Key of the column in ``Built.columns``, or of the rate or association.
    state : int
        Position in the column; 0 for rates and associations.
    kind : {"column", "rate", "association"}
    group : str
        The finding or condition of a column, ``rate of <cause>``, or ``associations``.
    cause : str
        The cause that it tells about, or ``conditions``.
    value : float
        Pooled mean, rate per 100,000 person-years, or log odds ratio.
    grade : str
        What the figure rests on.
    """

    name: str
    key: ColumnKey
    state: int
    kind: str
    group: str
    cause: str
    value: float
    grade: str

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value that makes sense."""
        if self.kind == "column":
            return 0.0, 1.0
        return (0.0, np.inf) if self.kind == "rate" else (-np.inf, np.inf)


def parameters_of(model: Model) -> tuple[Parameter, ...]:
    """Every parameter of the model, in the order in which the tables use them.

    Of a column with two states only the second stands here (the first is its mirror image).

    Parameters
    ----------
    model : Model

    Returns
    -------
    tuple of Parameter
    """
    built = model.built
    stated = read_stated(model._priors)
    rate_grade = {f.id: f.grade for f in read_rates(model._priors)}
    found = []
    for key, pooled in built.columns.items():
        names = state_names(model, key, pooled, stated)
        for i in _free_states(names, pooled):
            found.append(
                Parameter(
                    name=_column_name(key, names[i]),
                    key=key,
                    state=i,
                    kind="column",
                    group=_column_group(key),
                    cause=_column_cause(model, key),
                    value=float(pooled.mean[i]),
                    grade=pooled.grade,
                )
            )
    for name, rate in built.rates.items():
        cause = built.structure.mechanisms[name.split("@")[0]].cause
        grades = {rate_grade[r] for r in rate.rows}
        found.append(
            Parameter(
                name=f"rate {name}",
                key=("rate", name, "", ""),
                state=0,
                kind="rate",
                group=f"rate of {cause}",
                cause=cause,
                value=rate.rate,
                grade="counted" if "counted" in grades else min(grades),
            )
        )
    for one in read_associations(model._priors).values():
        found.append(
            Parameter(
                name=f"association {one.id}",
                key=("association", one.id, "", ""),
                state=0,
                kind="association",
                group="associations",
                cause="conditions",
                value=one.log_odds_ratio,
                grade=one.grade,
            )
        )
    return tuple(found)


def _free_states(names: Sequence[str], pooled: Pooled) -> list[int]:
    """States that are varied: all with mass, or the second of two."""
    held = [i for i in range(len(names)) if pooled.mean[i] > 1e-9]
    if len(held) > 2:
        return held
    return [i for i in held if names[i] == "present"][:1] or held[1:]


def state_names(
    model: Model,
    key: ColumnKey,
    pooled: Pooled,
    stated: Mapping[tuple[str, str, str], Stated] | None = None,
) -> tuple[str, ...]:
    """Names of the states of a column, in the order of its mean."""
    variable, _, given_state, context = key
    if context.startswith("prevalence:"):
        state = context.removeprefix("prevalence:")
        return f"not_{state}", state
    nodes = model.built.structure.nodes
    names = nodes[variable].states if variable in nodes else EXPERT_STATES.get(variable, ())
    if variable == "lesion_subtype" and given_state in model.built.structure.subtypes:
        names = tuple(model.built.structure.subtypes[given_state])
    if len(names) == len(pooled.mean):
        return names
    declared = (stated or read_stated(model._priors)).get((context, variable, given_state))
    if declared is not None and len(declared.probabilities) + 1 == len(pooled.mean):
        rest = "not_" + next(iter(declared.probabilities))
        several = len(declared.probabilities) > 1
        return (*declared.probabilities, "rest" if several else rest)
    if len(names) == len(pooled.mean) + 1:  # the last one has a share of its own
        return tuple(names[: len(pooled.mean)])
    return tuple(f"state_{i}" for i in range(len(pooled.mean)))


def _column_name(key: ColumnKey, state: str) -> str:
    variable, given, given_state, context = key
    text = f"{variable}={state}"
    if given or given_state:
        text += f" | {given}={given_state}" if given else f" | {given_state}"
    return f"{text} [{context}]" if context and not context.startswith("prevalence:") else text


def _column_group(key: ColumnKey) -> str:
    return f"prevalence of {key[0]}" if key[3].startswith("prevalence:") else key[0]


def _column_cause(model: Model, key: ColumnKey) -> str:
    structure = model.built.structure
    given_state = key[2]
    if key[1] not in ("lesion_subtype", "lesion_cause", "etiology", "known", "mechanism"):
        return "conditions"
    if given_state in structure.mechanisms:
        return structure.mechanisms[given_state].cause
    if given_state in model.causes:
        return given_state
    for cause, subtypes in structure.subtypes.items():
        if given_state in subtypes:
            return cause
    return "conditions"


def find_parameter(parameters: Sequence[Parameter], name: str) -> int:
    """Position of the parameter with that name (spaces do not matter).

    Raises
    ------
    EvidenceError
        No such parameter, with the nearest names.
    """
    wanted = "".join(name.split())
    names = ["".join(p.name.split()) for p in parameters]
    if wanted in names:
        return names.index(wanted)
    close = nearest(name, [p.name for p in parameters])
    raise EvidenceError(f"unknown parameter {name!r}", variable=name, nearest=close)


def parameter_draws(
    model: Model, draws: int, seed: int, *, quasi_random: bool = False
) -> dict[ColumnKey, Array]:
    """Return the draws of the parameters behind ``model.bank(draws, seed)``.

    Parameters
    ----------
    model : Model
    draws, seed : int
    quasi_random : bool
        A Latin hypercube in place of independent draws.

    Returns
    -------
    dict
        Arrays of shape (draws, states) by key.

    Raises
    ------
    EvidenceError
        Draws below 1.
    """
    if draws < 1:
        raise EvidenceError(f"draws must be at least 1, got {draws}", value=draws)
    ranges = {
        a.id: (a.log_odds_ratio, a.low, a.high) for a in read_associations(model._priors).values()
    }
    built = model.built
    return draw_parameters(
        built.columns,
        built.rates,
        ranges,
        model.literature.settings,
        draws,
        seed,
        quasi_random=quasi_random,
    )


def expert_source(expert: str) -> str:
    """Source id of an expert's tables."""
    return f"expert_{expert.lower()}"


def source_shares(model: Model, parameters: Sequence[Parameter]) -> list[dict[str, float]]:
    r"""How much of every parameter rests on each source; the shares of one parameter sum to 1.

    A literature row weighs with its effective patients :math:`n / (1 + (n - 1)\rho)` (see
    :mod:`epidural_dx.literature.pooling`), the experts with what is left of the column's effective
    size. A rate's rows weigh alike.

    Returns
    -------
    list of dict of str to float
        By source id, :data:`EXPERTS` or :data:`ASSUMED`; in the order of `parameters`.
    """
    literature = model.literature
    figures = {f.id: f for f in literature.figures}
    rates = {f.id: f.source_id for f in read_rates(model._priors)}
    stated = read_stated(model._priors)
    associations = read_associations(model._priors)
    found: dict[ColumnKey, dict[str, float]] = {}
    for p in parameters:
        if p.key in found:
            continue
        weights: dict[str, float] = {}
        if p.kind == "rate":
            for row in model.built.rates[p.key[1]].rows:
                _add(weights, rates[row].split("|"), 1.0)
        elif p.kind == "association":
            _add(weights, associations[p.key[1]].source_ids, 1.0)
        else:
            pooled = model.built.columns[p.key]
            declared = stated.get((p.key[3], p.key[0], p.key[2]))
            sizes: dict[str, float] = {}
            for row in pooled.rows:
                figure = figures.get(row)
                if figure is None:
                    continue
                share = figure.proportion
                if share is None:
                    continue
                position = {s: i for i, s in enumerate(figure.states)}
                seen = literature.observation(figure, position)
                size = seen.count
                if not seen.fixed:
                    size /= 1 + max(size - 1, 0) * pooled.correlation
                sizes[figure.source_id or EXPERTS] = (
                    sizes.get(figure.source_id or EXPERTS, 0.0) + size
                )
            published = sum(sizes.values())
            part = min(pooled.literature, pooled.ess) if pooled.literature else 0.0
            if published and not part:  # prevalences rest on their rows alone
                part = pooled.ess
            for source, size in sizes.items():
                weights[source] = part * size / published
            rest = pooled.ess - sum(weights.values())
            if rest > 1e-9:
                if declared is not None:
                    _add(weights, declared.source_ids, rest)
                else:
                    named = [expert_source(e) for e in pooled.experts]
                    default = ASSUMED if pooled.grade == "assumed" else EXPERTS
                    _add(weights, named or [default], rest)
        total = sum(weights.values())
        found[p.key] = {s: w / total for s, w in weights.items()}
    return [found[p.key] for p in parameters]


def source_citation(model: Model, name: str) -> str:
    """Return one line on a source of :func:`source_shares` for people; empty if none is known."""
    source = model.literature.sources.get(name)
    return STAND_INS.get(name, "") if source is None else source.citation


def _add(weights: dict[str, float], sources: Sequence[str], amount: float) -> None:
    for source in sources:
        weights[source] = weights.get(source, 0.0) + amount / len(sources)
