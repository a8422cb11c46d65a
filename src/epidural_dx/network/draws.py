r"""Joint draws of all parameters of a model, and the tables that they make.

A pooled column with Dirichlet parameters :math:`\alpha_i` is drawn as normalised independent
variables with mean :math:`\alpha_i` and the variance of the gamma variables that make a
Dirichlet, taken log-normal, :math:`s_i^2 = \log(1 + 1/\alpha_i)`, with :math:`s_i` capped (see
``priors/pooling.yaml``): a true gamma of shape 0.003 is zero nearly always. Dividing by the sum
pulls the means of thin columns towards each other (a share of 0.86 on 1.5 patients fell to 0.81),
so the locations are shifted until every column keeps its mean. Rates are log-normal around their
geometric mean, log odds ratios normal over their declared range.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from epidural_dx.inference import Network, Repeated
from epidural_dx.literature.base import LiteratureBase
from epidural_dx.literature.pooling import Pooled, Settings
from epidural_dx.network.assembly import selection_scale
from epidural_dx.network.build import Built, DrawnTables, TableBuilder
from epidural_dx.network.declared import read_associations
from epidural_dx.network.parameters import ColumnKey, Parameters
from epidural_dx.network.rates import PooledRate
from epidural_dx.network.structure import Structure

Array = NDArray[np.float64]

#: Width of a 95 % interval in standard deviations.
INTERVAL_95 = 3.919928


def draw_parameters(
    columns: Mapping[ColumnKey, Pooled],
    rates: Mapping[str, PooledRate],
    associations: Mapping[str, tuple[float, float, float]],
    settings: Settings,
    draws: int,
    seed: int,
    *,
    quasi_random: bool = False,
) -> dict[ColumnKey, Array]:
    """Draw every parameter jointly.

    Parameters
    ----------
    columns, rates
        Of a :class:`~epidural_dx.network.build.Built` model.
    associations : mapping of str to (value, low, high)
        Declared log odds ratios with their 95 % ranges.
    settings : Settings
    draws : int
        At least 1.
    seed : int
        Same seed, same draws.
    quasi_random : bool
        Latin hypercube instead of independent draws.

    Returns
    -------
    dict
        Arrays of shape (draws, states) by parameter, for
        :class:`~epidural_dx.network.parameters.Parameters`.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    sizes = [len(p.mean) for p in columns.values()]
    width = sum(sizes) + len(rates) + len(associations)
    # Draws lie side by side in memory, see `epidural_dx.network.tables`.
    z = _normals(draws, width, seed, quasi_random)
    values: dict[ColumnKey, Array] = {}
    at = 0
    spread = {key: _log_sd(key, pooled, settings) for key, pooled in columns.items()}
    centre = _centres({key: pooled.mean for key, pooled in columns.items()}, spread)
    for key, size in zip(columns, sizes, strict=True):
        weights = np.exp(centre[key][:, None] + spread[key][:, None] * z[at : at + size])
        values[key] = (weights / weights.sum(axis=0)).T
        at += size
    for name, rate in rates.items():
        values[("rate", name, "", "")] = rate.rate * np.exp(rate.log_sd * z[at, :, None])
        at += 1
    for name, (value, low, high) in associations.items():
        sd = (high - low) / INTERVAL_95
        values[("association", name, "", "")] = value + sd * z[at, :, None]
        at += 1
    return values


def _log_sd(key: ColumnKey, pooled: Pooled, settings: Settings) -> Array:
    """Return the standard deviation of the logarithm of every state's weight, shape (states,)."""
    cap = settings.prevalence_log_sd if key[3].startswith("prevalence:") else settings.log_sd_cap
    return np.minimum(np.sqrt(np.log1p(1 / np.maximum(pooled.alpha, 1e-300))), cap)


def _centres(
    means: Mapping[ColumnKey, Array], spread: Mapping[ColumnKey, Array]
) -> dict[ColumnKey, Array]:
    """Logarithmic centres with which the normalised weights of every column keep its mean.

    Fixed-point iteration on the expected shares: Gauss-Hermite quadrature over the one log ratio
    of two states, a fixed antithetic Sobol sequence for more.
    """
    by_size: dict[int, list[ColumnKey]] = {}
    for key, mean in means.items():
        by_size.setdefault(len(mean), []).append(key)
    centre: dict[ColumnKey, Array] = {}
    for size, keys in by_size.items():
        target = np.maximum(np.stack([means[k] for k in keys]), 1e-300)
        sd = np.stack([spread[k] for k in keys])
        if size == 2:
            nodes, node_weights = np.polynomial.hermite_e.hermegauss(41)
            noise = np.hypot(sd[:, :1], sd[:, 1:])[..., None] / 2 * np.stack([-nodes, nodes])
        else:
            half = ndtri(qmc.Sobol(size, rng=np.random.default_rng(0)).random(512))
            noise = sd[..., None] * np.concatenate([half, -half]).T
            node_weights = np.ones(noise.shape[-1])
        node_weights = node_weights / node_weights.sum()
        at = np.log(target)
        factor = np.exp(noise)
        for _ in range(60):
            weights = np.exp(at)
            total = np.einsum("ksn,ks->kn", factor, weights)
            expected = weights * np.einsum("ksn,kn->ks", factor, node_weights / total)
            step = np.log(target / expected)
            at = at + step
            if np.max(np.abs(step)) < 1e-4:
                break
        centre.update(zip(keys, at, strict=True))
    return centre


def _normals(draws: int, width: int, seed: int, quasi_random: bool) -> Array:
    """Return standard normal numbers, shape (width, draws): one draw is made after the other."""
    if quasi_random:
        uniform = qmc.LatinHypercube(width, rng=np.random.default_rng(seed)).random(draws)
        return np.ascontiguousarray(ndtri(np.clip(uniform, 1e-12, 1 - 1e-12)).T)
    rng = np.random.default_rng(seed)
    z = np.empty((width, draws))
    for start in range(0, draws, 100):
        some = z[:, start : start + 100]
        some[...] = rng.standard_normal((some.shape[1], width)).T
    return z


def draw_tables(
    built: Built,
    structure: Structure,
    literature: LiteratureBase,
    priors: Path,
    draws: int,
    seed: int,
    *,
    quasi_random: bool = False,
) -> tuple[Built, dict[ColumnKey, Array]]:
    """Rebuild all tables from joint draws of the parameters.

    Returns
    -------
    Built
        With a leading axis of draws on tables, selection and weights.
    dict
        The parameters that were drawn.
    """
    associations = {
        a.id: (a.log_odds_ratio, a.low, a.high) for a in read_associations(priors).values()
    }
    values = draw_parameters(
        built.columns,
        built.rates,
        associations,
        literature.settings,
        draws,
        seed,
        quasi_random=quasi_random,
    )
    parameters = Parameters(
        structure, literature, priors, built.scenario, values=values, known=built.columns
    )
    return TableBuilder(parameters).build(), values


def factor_tables(drawn: Built, network: Network) -> list[Array | Repeated]:
    """Tables in the order of the factors of `network`, for the engine's bank.

    Each has the shape (draws, *shape), or the plain shape where nothing was drawn.
    """
    prior, selection = selection_scale(drawn)
    kept = drawn.tables.kept if isinstance(drawn.tables, DrawnTables) else drawn.tables
    tables = [prior if name == "etiology" else kept[name] for name in drawn.structure.nodes]
    tables += list(selection.values())
    if len(tables) != len(network.factors):
        raise ValueError("the draws belong to another network")
    return tables
