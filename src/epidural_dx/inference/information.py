"""Information values from joint tables."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.network import FloatArray


def mutual_information(joint: FloatArray) -> FloatArray:
    """Return the mutual information of the last two axes in bits.

    ``I(X; Y) = sum p(x, y) log2(p(x, y) / (p(x) p(y)))`` with ``0 log 0 = 0``.

    Parameters
    ----------
    joint
        Shape (..., k_x, k_y); need not be normalised. An all-zero table gives 0.

    Returns
    -------
    ndarray, shape (...)
        Never negative.
    """
    joint = np.asarray(joint, dtype=np.float64)
    total = joint.sum(axis=(-2, -1), keepdims=True)
    p = joint / np.where(total > 0, total, 1.0)
    bits = (
        _entropy_terms(p.sum(axis=-1)).sum(axis=-1)
        + _entropy_terms(p.sum(axis=-2)).sum(axis=-1)
        - _entropy_terms(p).sum(axis=(-2, -1))
    )
    out: FloatArray = np.maximum(bits, 0.0)
    return out


def entropy(distribution: FloatArray) -> FloatArray:
    """Return the Shannon entropy of the last axis in bits.

    Parameters
    ----------
    distribution
        Shape (..., k), sums to 1 over the last axis (an all-zero row gives 0).

    Returns
    -------
    ndarray, shape (...)
    """
    out: FloatArray = _entropy_terms(np.asarray(distribution, dtype=np.float64)).sum(axis=-1)
    return out


def stacked_information(
    joint: FloatArray, posterior: FloatArray, starts: npt.NDArray[np.int64]
) -> FloatArray:
    """Return the mutual information of the target and each of many stacked variables in bits.

    Parameters
    ----------
    joint
        P(target, variable), shape (jobs, k_target, columns): the states of all variables one after
        another.
    posterior
        P(target), shape (jobs, k_target).
    starts
        First column of every variable, increasing.

    Returns
    -------
    ndarray, shape (jobs, variables)
    """
    terms = _entropy_terms(joint).sum(axis=1)
    terms -= _entropy_terms(joint.sum(axis=1))
    # H(target, state) - H(state) of every column; H(T) - their sum is the information.
    conditional = np.add.reduceat(terms, starts.astype(np.intp), axis=1)
    bits: FloatArray = entropy(posterior)[:, None] - conditional
    return np.maximum(bits, 0.0, out=bits)


def _entropy_terms(p: FloatArray) -> FloatArray:
    """Return ``-p log2 p``, 0 at 0."""
    out: FloatArray = np.log2(p, out=np.zeros_like(p), where=p > 0)
    out *= p
    return np.negative(out, out=out)
