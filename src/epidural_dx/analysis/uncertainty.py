"""How sure: the posterior under joint draws of every parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model, RawEvidence

Array = NDArray[np.float64]

#: Equal-tailed interval that answers show.
INTERVAL = 0.90
#: Draws, and results of large panels, behind the uncertainty of a ranking of tests.
RANKING_DRAWS = 40
RANKING_OUTCOMES = 128
#: Draws that a command uses when none are asked for.
DEFAULT_DRAWS = 200


def posterior_draws(
    model: Model,
    evidence: Evidence,
    target: str = "lesion_cause",
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
) -> Array:
    """Posterior of `target` under every draw of the parameters.

    Parameters
    ----------
    model : Model
    evidence : Evidence
    target : {"lesion_cause", "etiology"}
    draws, seed : int
        The bank of draws; the same for every patient of a model, so that answers compare.

    Returns
    -------
    ndarray, shape (draws, states)

    Raises
    ------
    EvidenceError
        Draws below 1, or another target.
    """
    if draws < 1:
        raise EvidenceError(f"draws must be at least 1, got {draws}", value=draws)
    if target not in ("lesion_cause", "etiology"):
        raise EvidenceError(
            f"draws are kept for lesion_cause and etiology, not for {target!r}",
            variable=target,
            allowed=("lesion_cause", "etiology"),
        )
    bank = model.bank(draws, seed)
    result = model.engine.run(
        model.arrays(evidence), target=(model.position(target),), want=(), bank=bank
    )
    possible = result.possible[0]
    return np.asarray(result.posterior[0][possible])


def interval(draws: Array, prob: float = INTERVAL) -> Array:
    """Equal-tailed interval over the first axis, shape (2, ...)."""
    tail = (1 - prob) / 2
    return np.asarray(np.quantile(draws, [tail, 1 - tail], axis=0))


def to_datatree(
    model: Model,
    evidence: Evidence,
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    chains: int = 4,
) -> xr.DataTree | object:
    """Draws of the posterior of causes and mechanisms as arviz reads them.

    Returns
    -------
    xarray.DataTree (arviz 1) or arviz.InferenceData (arviz 0.23)
        Group ``posterior`` with ``cause`` and ``etiology`` of shape (chain, draw, state). The
        draws are independent; chains only split them, so that arviz's summaries work.

    Raises
    ------
    EvidenceError
        Draws that the chains do not divide.
    """
    import arviz as az

    if chains < 1 or draws % chains:
        raise EvidenceError(f"{draws} draws cannot be split into {chains} chains", value=draws)
    names: dict[str, Sequence[str]] = {
        "cause": model.causes,
        "etiology": [m.name for m in model.mechanisms],
    }
    arrays = {}
    for name, variable in (("cause", "lesion_cause"), ("etiology", "etiology")):
        values = posterior_draws(model, evidence, variable, draws=draws, seed=seed)
        arrays[name] = values.reshape(chains, -1, values.shape[-1])
    coords = {f"{name}_name": list(states) for name, states in names.items()}
    dims = {name: [f"{name}_name"] for name in names}
    if _arviz_1():
        tree: xr.DataTree = az.from_dict({"posterior": arrays}, coords=coords, dims=dims)
        return tree
    data: object = az.from_dict(posterior=arrays, coords=coords, dims=dims)
    return data


def ranking_draws(
    model: Model,
    evidence: Evidence | RawEvidence,
    tests: Sequence[str],
    target: str = "lesion_cause",
    *,
    draws: int = RANKING_DRAWS,
    outcomes: int = RANKING_OUTCOMES,
    seed: int = 0,
) -> pd.DataFrame:
    """Information of tests under every draw of the parameters, for how sure a ranking is.

    Panels with at most `outcomes` joint results are enumerated. Larger ones are sampled from the
    present predictive distribution, the same results for all draws, and re-weighted by their
    probability under each draw (self-normalised importance sampling).

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    tests : sequence of str
        For example the first of :meth:`Model.rank_tests`.
    target : {"lesion_cause", "etiology"}
    draws, seed : int
    outcomes : int

    Returns
    -------
    pandas.DataFrame
        Bits, one row per draw, one column per test; ``(frame.idxmax(axis=1) == test).mean()`` is
        how often a test is the first. ``attrs``: sampled (the tests whose results were sampled).

    Raises
    ------
    EvidenceError
        Unknown test or target, no draws, bad evidence.
    """
    import pandas as pd

    read = model.read_evidence(evidence)
    for name in tests:
        if name not in model.tests:
            raise EvidenceError(
                f"unknown test {name!r}", variable=name, nearest=nearest(name, model.tests)
            )
    now = posterior_draws(model, read, target, draws=draws, seed=seed)
    bank = model.bank(draws, seed)
    at = model.position(target)
    arrays = model.arrays(read)
    base = model.engine.run(arrays, target=(at,), want=(), bank=bank).log_evidence[0]
    plain = float(model.run(read, want=()).log_evidence[0])
    rng = np.random.default_rng(seed)
    columns: dict[str, Array] = {}
    sampled = []
    for name in tests:
        panel = [v for v in model.tests[name] if v not in read.likelihoods]
        sizes = [len(model.variables[v].states) for v in panel]
        exact = math.prod(sizes) <= outcomes
        if not panel:
            columns[name] = np.zeros(len(now))
            continue
        if exact:
            results = np.array(list(np.ndindex(*sizes)))
        else:
            sampled.append(name)
            results = _sampled_results(model, arrays, panel, outcomes, rng)
        rows = {p: np.tile(w, (len(results), 1)) for p, w in arrays.items()}
        for column, v in enumerate(panel):
            rows[model.position(v)] = np.eye(sizes[column])[results[:, column]]
        got = model.engine.run(rows, target=(at,), want=(), bank=bank)
        logs = got.log_evidence - base
        if not exact:
            known = model.engine.run(rows, want=()).log_evidence - plain
            logs = logs - known[:, None]
        weight = np.exp(logs - logs.max(axis=0))
        weight /= weight.sum(axis=0)
        ratio = np.divide(got.posterior, now, out=np.ones_like(got.posterior), where=now > 0)
        bits = got.posterior * np.log2(np.where(ratio > 0, ratio, 1.0))
        columns[name] = np.asarray((weight * bits.sum(axis=-1)).sum(axis=0))
    frame = pd.DataFrame(columns)
    frame.attrs.update(target=target, sampled=tuple(sampled))
    return frame


def _sampled_results(
    model: Model,
    arrays: Mapping[int, Array],
    panel: Sequence[str],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Joint results of a panel drawn from the present predictive distribution, one by one."""
    rows = {p: np.tile(w, (count, 1)) for p, w in arrays.items()}
    results = np.zeros((count, len(panel)), dtype=np.int64)
    if not rows:
        first = model.position(panel[0])
        rows[first] = np.ones((count, len(model.variables[panel[0]].states)))
    for column, v in enumerate(panel):
        marginals = model.engine.run(rows, want=("marginals",)).marginals
        assert marginals is not None
        cumulative = marginals[model.position(v)].cumsum(axis=1)
        u = (rng.permutation(count) + rng.random(count)) / count  # stratified
        results[:, column] = (u[:, None] > cumulative).sum(axis=1).clip(0, cumulative.shape[1] - 1)
        rows[model.position(v)] = np.eye(cumulative.shape[1])[results[:, column]]
    return results


def _arviz_1() -> bool:
    from importlib.metadata import version

    return int(version("arviz").split(".")[0]) >= 1
