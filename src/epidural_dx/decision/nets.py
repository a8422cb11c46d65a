"""Evenly spread random points: Sobol nets for the first dimensions, Latin hypercubes beyond.

Written out here because importing a statistics library for it takes longer than ranking the tests.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.network import FloatArray

#: Primitive polynomials and initial direction numbers of the second to tenth dimension
#: (Joe and Kuo, Constructing Sobol sequences with better two-dimensional projections, SIAM J Sci
#: Comput 2008, table new-joe-kuo-6): degree, coefficients, m_1, m_2, ...
DIRECTIONS = (
    (1, 0, (1,)),
    (2, 1, (1, 3)),
    (3, 1, (1, 3, 1)),
    (3, 2, (1, 1, 1)),
    (4, 1, (1, 1, 3, 3)),
    (4, 4, (1, 3, 5, 13)),
    (5, 2, (1, 1, 5, 5, 17)),
    (5, 4, (1, 1, 5, 5, 5)),
    (5, 7, (1, 1, 7, 11, 19)),
)
#: Binary digits of a point.
BITS = 30


def sobol_net(points: int) -> npt.NDArray[np.int64]:
    """Return the first points of the Sobol sequence as integers of `BITS` binary digits.

    Parameters
    ----------
    points : int
        A power of two.

    Returns
    -------
    ndarray, shape (points, 10)
        In the order of a Gray code; divided by 2 ** BITS they lie in [0, 1).
    """
    columns = [np.array([1 << (BITS - 1 - i) for i in range(BITS)], dtype=np.int64)]
    for degree, coefficients, initial in DIRECTIONS:
        v = np.zeros(BITS, dtype=np.int64)
        for i in range(BITS):
            if i < degree:
                v[i] = initial[i] << (BITS - 1 - i)
                continue
            v[i] = v[i - degree] ^ (v[i - degree] >> degree)
            for k in range(1, degree):
                if (coefficients >> (degree - 1 - k)) & 1:
                    v[i] ^= v[i - k]
        columns.append(v)
    directions = np.stack(columns, axis=1)
    net = np.zeros((points, directions.shape[1]), dtype=np.int64)
    for n in range(1, points):
        lowest_zero = (~(n - 1) & n).bit_length() - 1
        net[n] = net[n - 1] ^ directions[lowest_zero]
    return net


@lru_cache(maxsize=8)
def random_nets(dimensions: int, points: int, nets: int, seed: int) -> FloatArray:
    """Return independent random nets, one after the other.

    The first ten dimensions are a Sobol net under a random digital shift (exclusive or with the
    same random bits; L'Ecuyer and Lemieux 2002), the others a Latin hypercube (McKay, Beckman,
    Conover 1979). Every point is uniform, so averages are unbiased, and the spread between the
    nets gives the error.

    Parameters
    ----------
    dimensions : int
    points : int
        Points of one net, a power of two.
    nets : int
    seed : int

    Returns
    -------
    ndarray, shape (nets x points, dimensions)
        In [0, 1); read only.
    """
    rng = np.random.default_rng(seed)
    base = sobol_net(points)[:, :dimensions]
    width = base.shape[1]
    shifts = rng.integers(0, 2**BITS, size=(nets, 1, width))
    fine = rng.random((nets, points, width))
    shifted = ((base[None] ^ shifts) + fine) / 2.0**BITS
    rest = (nets, points, dimensions - width)
    strata = rng.permuted(np.broadcast_to(np.arange(points)[None, :, None], rest), axis=1)
    spread = (strata + rng.random(rest)) / points
    result: FloatArray = np.concatenate([shifted, spread], axis=2).reshape(-1, dimensions)
    result = np.minimum(result, 1.0 - 1e-12)
    result.setflags(write=False)
    return result
