"""Evenly spread points."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from epidural_dx.decision.nets import BITS, random_nets, sobol_net


def test_net_is_the_sobol_sequence() -> None:
    """The first ten dimensions are the published Sobol sequence."""
    expected = qmc.Sobol(10, scramble=False).random(64)
    assert np.allclose(sobol_net(64) / 2.0**BITS, expected, atol=1e-9)


def test_every_dimension_of_every_net_is_spread_evenly() -> None:
    """Each net has exactly one point in every stratum of every dimension, and nets differ."""
    points = random_nets(13, 32, 4, 7).reshape(4, 32, 13)
    assert points.min() >= 0 and points.max() < 1
    strata = np.sort(np.floor(points * 32).astype(int), axis=1)
    assert (strata == np.arange(32)[None, :, None]).all()
    assert not np.allclose(points[0], points[1])
    assert (random_nets(13, 32, 4, 7) == points.reshape(-1, 13)).all()
