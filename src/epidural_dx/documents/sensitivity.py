"""``sensitivity`` as a document: which figures, findings and sources the answer hangs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from epidural_dx.clinical.spelling import nearest
from epidural_dx.documents.answers import identity
from epidural_dx.documents.tables import plain, records
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    import pandas as pd

    from epidural_dx.analysis.parameters import Parameter
    from epidural_dx.analysis.sensitivity import OneWay
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model

#: Shows that something slow goes on, for faces with somebody in front of them.
Progress = Callable[[str], AbstractContextManager[None]]

#: Values of one parameter that are given, and of each of two.
POINTS, GRID = 9, 7
#: Groups or sources that total indices are drawn for.
TOTALS = 5


def silent(_: str) -> AbstractContextManager[None]:
    """Show nothing."""
    return nullcontext()


@dataclass(frozen=True)
class Found:
    """What one way of asking gives.

    Attributes
    ----------
    document : dict
        For JSON.
    frame : pandas.DataFrame
        The one table that CSV and a drawing show.
    shows : {"bars", "shares", "curve", "grid"}
        What that table is.
    functions : OneWay, optional
        What a curve is drawn from.
    """

    document: dict[str, Any]
    frame: pd.DataFrame
    shows: Literal["bars", "shares", "curve", "grid"]
    functions: OneWay | None = None


def sensitivity(
    model: Model,
    evidence: Evidence,
    *,
    parameter: str | None = None,
    pair: tuple[str, str] | None = None,
    by: str | None = None,
    ranking: bool = False,
    total: bool = False,
    cause: str | None = None,
    top: int = 10,
    draws: int = 500,
    seed: int = 0,
    prefix: str = "",
    only: Literal["bars", "shares"] | None = None,
    say: Progress = silent,
) -> Found:
    """Say what the probability of a cause, or the order of the tests, hangs on.

    Parameters
    ----------
    model : Model
    evidence : Evidence
    parameter : str, optional
        Everything about one figure, instead of the overview.
    pair : (str, str), optional
        Two figures at once, as a grid, instead of the overview.
    by : str, optional
        Level at which the uncertainty is split: parameter, group, cause or source.
    ranking : bool
        What the order of the two most telling tests hangs on, instead of the overview.
    total : bool
        Also the total indices of the largest shares.
    cause : str, optional
        By default the leading one.
    top : int
        Figures given.
    draws, seed : int
        Behind the shares.
    prefix : str
        What the face writes before the name of an option, for errors.
    only : {"bars", "shares"}, optional
        Of the overview only this table, for CSV.
    say : callable
        Called with a word on every slow step.

    Raises
    ------
    EvidenceError
        Options that exclude each other, an unknown cause or figure.
    """
    check_alone(parameter, pair, by, ranking, total, cause, prefix)
    if cause is not None and cause not in model.causes:
        raise EvidenceError(
            f"{prefix}cause {cause!r} is unknown",
            value=cause,
            allowed=model.causes,
            nearest=nearest(cause, model.causes, 1),
        )
    answer = model.diagnose(evidence)
    leader = answer.ranked_causes()[0][0]
    of = cause or leader
    if parameter is not None:
        figure = known_parameter(model, f"{prefix}parameter", parameter, say)
        found = one(model, evidence, of, figure, say)
    elif pair is not None:
        option = _two_way(prefix)
        first, second = (known_parameter(model, option, p, say) for p in pair)
        found = two(model, evidence, of, first, second, say)
    elif ranking:
        found = order_of_tests(model, evidence, by or "source", draws, seed, say)
    else:
        found = overview(model, evidence, of, by, total, top, draws, seed, only=only, say=say)
    document = {
        "model": identity(model),
        "cause": of,
        "probability": dict(answer.ranked_causes())[of],
        "leader": leader,
        **found.document,
        "warnings": [warning.as_dict() for warning in answer.warnings],
    }
    return Found(document, found.frame, found.shows, found.functions)


def _two_way(prefix: str) -> str:
    return f"{prefix}two-way" if prefix else "two_way"


def check_alone(
    parameter: str | None,
    pair: tuple[str, str] | None,
    by: str | None,
    ranking: bool,
    total: bool,
    cause: str | None,
    prefix: str = "",
) -> None:
    """Refuse options that ask for different tables; the order of the tests is of all causes.

    Raises
    ------
    EvidenceError
        Names them.
    """
    single = {f"{prefix}parameter": parameter is not None, _two_way(prefix): pair is not None}
    shares = {f"{prefix}by": by is not None, f"{prefix}ranking": ranking, f"{prefix}total": total}
    chosen = [option for option, given in single.items() if given]
    if chosen:
        chosen += [option for option, given in shares.items() if given]
    elif ranking:
        of_one = {f"{prefix}total": total, f"{prefix}cause": cause is not None}
        chosen = [f"{prefix}ranking", *(option for option, given in of_one.items() if given)]
    if len(chosen) > 1:
        raise EvidenceError(f"{' and '.join(chosen)} ask for different tables: give one of them")


def known_parameter(model: Model, option: str, wanted: str, say: Progress = silent) -> Parameter:
    """Return the parameter of that name.

    Raises
    ------
    EvidenceError
        There is none; names those that are near or hold the words.
    """
    from epidural_dx.analysis.parameters import find_parameter, parameters_of

    with say("Building the tables"):
        parameters = parameters_of(model)
    try:
        return parameters[find_parameter(parameters, wanted)]
    except EvidenceError as error:
        close = error.nearest or [p.name for p in parameters if wanted and wanted in p.name][:2]
        hint = "" if close else "; sensitivity without it lists the names that matter"
        raise EvidenceError(
            f"{option} {wanted!r} is no figure of the model{hint}", nearest=close
        ) from None


def _functions(model: Model, evidence: Evidence, say: Progress) -> OneWay:
    from epidural_dx.analysis.sensitivity import one_way

    with say("Differentiating the answer (longer once for every change of the files)"):
        return one_way(model, evidence)


def overview(
    model: Model,
    evidence: Evidence,
    cause: str,
    by: str | None,
    total: bool,
    top: int,
    draws: int,
    seed: int,
    *,
    only: Literal["bars", "shares"] | None = None,
    say: Progress = silent,
) -> Found:
    """Return the tornado, the findings and the shares, or `only` one of the tables for CSV.

    The one table is the shares where `by` asks for them, and the bars otherwise.
    """
    from epidural_dx.analysis.attribution import attribute
    from epidural_dx.analysis.sensitivity import evidence_sensitivity, tornado

    functions = _functions(model, evidence, say)
    document: dict[str, Any] = {}
    bars = shares = None
    if only != "shares":
        with say("Moving the figures"):
            bars = tornado(model, evidence, cause, top=top, functions=functions)
            kinds = {p.name: p.kind for p in functions.parameters}
            below, above = _overturning(functions, list(bars["parameter"]))
            bars["overturned_below"], bars["overturned_above"] = below, above
            bars.insert(1, "kind", [kinds[name] for name in bars["parameter"]])
        document["tornado"] = records(bars)
    if only is None:
        with say("Exchanging the findings"):
            document["findings"] = records(evidence_sensitivity(model, evidence, cause))
    if only != "bars":
        level = by or "source"
        with say(f"Drawing every figure {draws} times (once for every change of the files)"):
            shares = attribute(
                model, evidence, cause, by=level, draws=draws, seed=seed, functions=functions
            )
        if total:
            with say("Drawing anew for the total indices"):
                shares = _with_totals(model, evidence, cause, level, seed, shares)
        document["shares"] = _shares(shares, level, draws)
    if shares is not None and (by is not None or bars is None):
        return Found(document, shares, "shares")
    assert bars is not None
    return Found(document, bars, "bars")


def _shares(shares: pd.DataFrame, by: str, draws: int) -> dict[str, Any]:
    return {
        "by": by,
        "draws": draws,
        "sd": float(shares.attrs["sd"]),
        "explained": float(shares.attrs["explained"]),
        "rows": records(shares),
    }


def _with_totals(
    model: Model, evidence: Evidence, cause: str, by: str, seed: int, shares: pd.DataFrame
) -> pd.DataFrame:
    """Add the total indices of the largest shares; the others have none."""
    from epidural_dx.analysis.attribution import total_indices

    names = list(shares["name"].head(TOTALS))
    totals = total_indices(model, evidence, names, cause, by=by, seed=seed).set_index("name")
    attrs = shares.attrs
    for column in ("total", "total_error"):
        shares[column] = shares["name"].map(totals[column])
    shares.attrs = attrs
    return shares


def order_of_tests(
    model: Model,
    evidence: Evidence,
    by: str,
    draws: int,
    seed: int,
    say: Progress = silent,
) -> Found:
    """Return what the order of the two most telling tests hangs on."""
    from epidural_dx.analysis.attribution import attribute_ranking

    with say("Ranking the tests under the draws (up to a minute)"):
        shares = attribute_ranking(model, evidence, by=by, draws=draws, seed=seed)
    document = {
        "ranking": {
            "tests": list(shares.attrs["tests"]),
            "first": shares.attrs["first"],
            "margin_bits": shares.attrs["mean"],
            "sd_bits": shares.attrs["sd"],
        },
        "shares": _shares(shares, by, draws),
    }
    return Found(document, shares, "shares")


def _overturning(functions: OneWay, names: Sequence[str]) -> tuple[list[float], list[float]]:
    """Values below and above which another cause leads, NaN for none."""
    position = {p.name: i for i, p in enumerate(functions.parameters)}
    deviation = functions.admissible_deviation()
    below, above = [], []
    for name in names:
        i = position[name]
        if functions.response.linear[i]:
            x = functions.parameters[i].value
            low, high = x - deviation[i, 0], x + deviation[i, 1]
        else:
            low, high = functions.overturning(name)
        below.append(float(low) if np.isfinite(low) else float("nan"))
        above.append(float(high) if np.isfinite(high) else float("nan"))
    return below, above


def one(
    model: Model, evidence: Evidence, cause: str, parameter: Parameter, say: Progress = silent
) -> Found:
    """Return everything about one figure."""
    import pandas as pd

    from epidural_dx.analysis.parameters import source_citation, source_shares

    functions = _functions(model, evidence, say)
    i = [p.name for p in functions.parameters].index(parameter.name)
    response = functions.response
    low, high = float(response.low[i]), float(response.high[i])
    points = np.unique([*np.linspace(low, high, POINTS), parameter.value])
    with say("Moving the figure"):
        curve = functions.curve(parameter.name, points)
        below, above = _overturning(functions, [parameter.name])
    h = functions.state(cause)
    frame = pd.DataFrame(
        {
            "value": points,
            "probability": curve[:, h],
            "leader": [functions.states[k] for k in curve.argmax(axis=1)],
        }
    )
    document = {
        "parameter": {
            "name": parameter.name,
            "kind": parameter.kind,
            "grade": parameter.grade,
            "value": parameter.value,
            "low": low,
            "high": high,
            "overturned_below": plain(below[0]),
            "overturned_above": plain(above[0]),
            "sources": [
                {
                    "source": source,
                    "share": share,
                    "citation": source_citation(model, source),
                }
                for source, share in sorted(
                    source_shares(model, [parameter])[0].items(), key=lambda item: -item[1]
                )
            ],
        },
        "curve": records(frame),
    }
    return Found(document, frame, "curve", functions)


def two(
    model: Model,
    evidence: Evidence,
    cause: str,
    first: Parameter,
    second: Parameter,
    say: Progress = silent,
) -> Found:
    """Return the probability over a grid of two figures."""
    from epidural_dx.analysis.sensitivity import two_way

    with say("Moving both figures"):
        frame = two_way(model, evidence, first.name, second.name, hypothesis=cause, points=GRID)
    document = {
        "first": {"name": first.name, "kind": first.kind, "value": first.value},
        "second": {"name": second.name, "kind": second.kind, "value": second.value},
        "grid": records(frame),
    }
    return Found(document, frame, "grid")
