"""``sensitivity`` as a document: which figures, findings and sources the answer hangs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from epidural_dx.clinical.spelling import nearest
from epidural_dx.documents.answers import identity
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


def silent(_: str) -> AbstractContextManager[None]:
    """Show nothing."""
    return nullcontext()


def sensitivity(
    model: Model,
    evidence: Evidence,
    *,
    parameter: str | None = None,
    pair: tuple[str, str] | None = None,
    by: str | None = None,
    cause: str | None = None,
    top: int = 10,
    draws: int = 500,
    seed: int = 0,
    prefix: str = "",
    only: Any = None,
    say: Progress = silent,
) -> dict[str, Any]:
    """Say what the probability of a cause hangs on.

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
    cause : str, optional
        By default the leading one.
    top : int
        Figures given.
    draws, seed : int
        Behind the shares.
    prefix : str
        What the face writes before the name of an option, for errors.
    only : tuple of (bool, object), optional
        Leave out what the command line's one CSV table does not need.
    say : callable
        Called with a word on every slow step.

    Returns
    -------
    dict
        Members that end in ``frame`` are tables for other formats and not part of the document.

    Raises
    ------
    EvidenceError
        Options that exclude each other, an unknown cause or figure.
    """
    if cause is not None and cause not in model.causes:
        raise EvidenceError(
            f"{prefix}cause {cause!r} is unknown",
            value=cause,
            allowed=model.causes,
            nearest=nearest(cause, model.causes, 1),
        )
    check_alone(parameter, pair, by, prefix)
    answer = model.diagnose(evidence)
    leader = answer.ranked_causes()[0][0]
    of = cause or leader
    if parameter is not None:
        figure = known_parameter(model, f"{prefix}parameter", parameter, say)
        found = one(model, evidence, of, figure, say)
    elif pair is not None:
        option = f"{prefix}two-way" if prefix else "two_way"
        first, second = (known_parameter(model, option, p, say) for p in pair)
        found = two(model, evidence, of, first, second, say)
    else:
        found = overview(model, evidence, of, by, top, draws, seed, only=only, say=say)
    return {
        "model": identity(model),
        "cause": of,
        "probability": dict(answer.ranked_causes())[of],
        "leader": leader,
        **found,
        "warnings": [warning.as_dict() for warning in answer.warnings],
    }


def check_alone(
    parameter: str | None, pair: tuple[str, str] | None, by: str | None, prefix: str = ""
) -> None:
    """Refuse options that ask for different tables.

    Raises
    ------
    EvidenceError
        Names them.
    """
    given = {
        f"{prefix}parameter": parameter is not None,
        f"{prefix}two-way" if prefix else "two_way": pair is not None,
        f"{prefix}by": by is not None,
    }
    chosen = [option for option, is_given in given.items() if is_given]
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
    top: int,
    draws: int,
    seed: int,
    *,
    only: Any = None,
    say: Progress = silent,
) -> dict[str, Any]:
    """Return the tornado, the findings and the shares; with `only` the one table for CSV."""
    from epidural_dx.analysis.attribution import attribute
    from epidural_dx.analysis.sensitivity import evidence_sensitivity, tornado

    functions = _functions(model, evidence, say)
    found: dict[str, Any] = {}
    shares_only = bool(only) and only[0]
    if not shares_only or only[1] is not None:
        with say("Moving the figures"):
            frame = tornado(model, evidence, cause, top=top, functions=functions)
            kinds = {p.name: p.kind for p in functions.parameters}
            below, above = _overturning(functions, list(frame["parameter"]))
            frame["overturned_below"], frame["overturned_above"] = below, above
            frame.insert(1, "kind", [kinds[name] for name in frame["parameter"]])
        found["frame"] = frame
        found["tornado"] = _records(frame)
    if not only:
        with say("Exchanging the findings"):
            found["findings"] = _records(evidence_sensitivity(model, evidence, cause))
    if not only or shares_only:
        with say(f"Drawing every figure {draws} times (once for every change of the files)"):
            shares = attribute(
                model,
                evidence,
                cause,
                by=by or "source",
                draws=draws,
                seed=seed,
                functions=functions,
            )
        found["shares_frame"] = shares
        found["shares"] = {
            "by": by or "source",
            "draws": draws,
            "sd": float(shares.attrs["sd"]),
            "explained": float(shares.attrs["explained"]),
            "rows": _records(shares),
        }
    return found


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


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain data; what is no number becomes null."""
    return [
        {str(key): _plain(value) for key, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def one(
    model: Model, evidence: Evidence, cause: str, parameter: Parameter, say: Progress = silent
) -> dict[str, Any]:
    """Return everything about one figure."""
    import pandas as pd

    from epidural_dx.analysis.parameters import source_shares

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
    sources = model.literature.sources
    return {
        "parameter": {
            "name": parameter.name,
            "kind": parameter.kind,
            "grade": parameter.grade,
            "value": parameter.value,
            "low": low,
            "high": high,
            "overturned_below": _plain(below[0]),
            "overturned_above": _plain(above[0]),
            "sources": [
                {
                    "source": source,
                    "share": share,
                    "citation": sources[source].citation if source in sources else "",
                }
                for source, share in sorted(
                    source_shares(model, [parameter])[0].items(), key=lambda item: -item[1]
                )
            ],
        },
        "curve": _records(frame),
        "frame": frame,
    }


def two(
    model: Model,
    evidence: Evidence,
    cause: str,
    first: Parameter,
    second: Parameter,
    say: Progress = silent,
) -> dict[str, Any]:
    """Return the probability over a grid of two figures."""
    from epidural_dx.analysis.sensitivity import two_way

    with say("Moving both figures"):
        frame = two_way(model, evidence, first.name, second.name, hypothesis=cause, points=GRID)
    return {
        "first": {"name": first.name, "kind": first.kind, "value": first.value},
        "second": {"name": second.name, "kind": second.kind, "value": second.value},
        "grid": _records(frame),
        "frame": frame,
    }
