"""How sure: the posterior under joint draws of every parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    import xarray as xr

    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model

Array = NDArray[np.float64]

#: Equal-tailed interval that answers show.
INTERVAL = 0.90
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
    return (
        az.from_dict({"posterior": arrays}, coords=coords, dims=dims)
        if _arviz_1()
        else (az.from_dict(posterior=arrays, coords=coords, dims=dims))
    )


def _arviz_1() -> bool:
    from importlib.metadata import version

    return int(version("arviz").split(".")[0]) >= 1
