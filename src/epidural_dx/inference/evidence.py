"""Evidence as likelihood vectors, checked and sorted into hard and soft.

An observation of a variable is a non-negative vector with one weight per state: one-hot for a
hard observation, several ones for "one of these", anything else for an uncertain observation.
Only ratios matter for posteriors; the scale goes into the log-evidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.network import FloatArray

IntArray = npt.NDArray[np.int64]

#: What a caller may give for one variable: a state, states per row, a likelihood vector of shape
#: (k,), or one likelihood vector per row, shape (batch, k).
Observation = int | Sequence[float] | npt.NDArray[np.float64] | npt.NDArray[np.int64]

FLOAT = np.dtype(np.float64)

#: State codes of variables without a hard observation.
OPEN = -1
SOFT = -2


class ImpossibleEvidence(ValueError):
    """The evidence has probability zero under the network."""


@dataclass(frozen=True, eq=False)
class EvidenceRows:
    """Checked evidence for a batch of cases.

    Parameters
    ----------
    rows
        Number of cases.
    states
        Shape (rows, variables): the observed state, -1 for open, -2 for soft evidence.
    soft
        For every variable with soft evidence in some row: shape (rows, k), largest entry 1 in
        every row (all ones where the row has no soft evidence on it, one-hot where it is hard).
    log_scale
        Shape (rows,): log of the factors taken out of the likelihood vectors; -inf for a row
        with an all-zero vector, which is impossible whatever the network says.
    """

    rows: int
    states: IntArray
    soft: dict[int, FloatArray]
    log_scale: FloatArray

    def take(self, start: int, stop: int) -> EvidenceRows:
        """Return the cases ``start .. stop - 1``."""
        return EvidenceRows(
            stop - start,
            self.states[start:stop],
            {v: weights[start:stop] for v, weights in self.soft.items()},
            self.log_scale[start:stop],
        )

    def pick(self, cases: IntArray) -> EvidenceRows:
        """Return the cases with the given numbers."""
        return EvidenceRows(
            len(cases),
            self.states[cases],
            {v: weights[cases] for v, weights in self.soft.items()},
            self.log_scale[cases],
        )

    def support(self) -> EvidenceRows:
        """Return the same evidence with 1 for every positive weight."""
        soft = {v: (weights > 0).astype(np.float64) for v, weights in self.soft.items()}
        return EvidenceRows(self.rows, self.states, soft, self.log_scale)

    def repeat(self, times: int) -> EvidenceRows:
        """Return every case `times` times, copies next to each other."""
        return EvidenceRows(
            self.rows * times,
            np.repeat(self.states, times, axis=0),
            {v: np.repeat(weights, times, axis=0) for v, weights in self.soft.items()},
            np.repeat(self.log_scale, times),
        )

    def observe(self, variable: int, states: IntArray) -> EvidenceRows:
        """Add a hard observation to whatever is known of a variable.

        Parameters
        ----------
        variable
            The variable.
        states
            Shape (rows,): its state in every case. A case in which the earlier evidence excludes
            it becomes impossible.

        Returns
        -------
        EvidenceRows
        """
        before = self.states[:, variable]
        log_scale = self.log_scale.copy()
        log_scale[(before >= 0) & (before != states)] = -np.inf
        soft = self.soft
        if variable in soft:
            with np.errstate(divide="ignore"):
                weight = np.log(soft[variable][np.arange(self.rows), states])
            log_scale = log_scale + np.where(before == SOFT, weight, 0.0)
            soft = {v: weights for v, weights in soft.items() if v != variable}
        changed = self.states.copy()
        changed[:, variable] = states
        return EvidenceRows(self.rows, changed, soft, log_scale)


def read_evidence(
    cardinalities: Sequence[int], evidence: Mapping[int, Observation], rows: int | None = None
) -> EvidenceRows:
    """Check evidence and sort it into hard and soft observations.

    Parameters
    ----------
    cardinalities
        Number of states of every variable.
    evidence
        For every observed variable: an integer (hard evidence in every row), an integer array of
        shape (batch,) (states per row, -1 where open), a likelihood vector of shape (k,), or
        likelihood vectors of shape (batch, k) (a row of ones where open).
    rows
        Number of cases; by default found from the arrays, 1 if none has a batch axis.

    Returns
    -------
    EvidenceRows

    Raises
    ------
    ValueError
        For an unknown variable, a state that does not exist, a wrong shape, or weights that are
        negative or not finite.
    """
    count = 1 if rows is None else rows
    if rows is None:
        for v, value in evidence.items():
            if isinstance(value, np.ndarray) and not (value.ndim == 1 and value.dtype == FLOAT):
                per_row = value.ndim == 2 or (value.ndim == 1 and value.dtype.kind in "iu")
                if per_row and value.shape[0] != 1:
                    if count not in (1, value.shape[0]):
                        raise ValueError(
                            f"variable {v}: {value.shape[0]} rows of evidence, others have {count}"
                        )
                    count = int(value.shape[0])
    size = len(cardinalities)
    states = np.full((count, size), OPEN, dtype=np.int64)
    soft: dict[int, FloatArray] = {}
    log_scale = np.zeros(count)
    plain: dict[int, int] = {}
    for v, value in evidence.items():
        if not 0 <= v < size:
            raise ValueError(f"unknown variable {v}")
        k = cardinalities[v]
        if isinstance(value, tuple) or (
            type(value) is np.ndarray and value.dtype == FLOAT and value.ndim == 1
        ):
            # The usual case, a state as one-hot vector: plain Python is faster on few numbers.
            few: Sequence[float] = value if isinstance(value, tuple) else value.tolist()
            if len(few) == k and few.count(0.0) == k - 1 and 1.0 in few:
                plain[v] = few.index(1.0)
                continue
        if isinstance(value, (int, np.integer)):
            if not 0 <= value < k:
                raise ValueError(f"variable {v} has no state {value}")
            states[:, v] = value
            continue
        array = np.asarray(value)
        if array.ndim == 1 and array.dtype.kind in "iu" and isinstance(value, np.ndarray):
            if array.shape[0] not in (1, count):
                raise ValueError(f"variable {v}: {array.shape[0]} rows, expected {count}")
            if array.size and (array.min() < OPEN or array.max() >= k):
                raise ValueError(f"variable {v} has {k} states; states -1 to {k - 1} are allowed")
            states[:, v] = array
            continue
        if array.ndim not in (1, 2) or array.shape[-1] != k:
            raise ValueError(f"variable {v}: likelihood of shape {array.shape}, expected ({k},)")
        if array.ndim == 1:
            state, relative, top = _read_vector(v, array.tolist())
            if top == 0.0:
                log_scale -= np.inf
                continue
            if top != 1.0:
                log_scale += math.log(top)
            states[:, v] = state
            if relative is not None:
                one = np.array(relative)
                soft[v] = one[None] if count == 1 else np.broadcast_to(one, (count, k))
            continue
        weights = array.astype(np.float64)
        if not np.all(np.isfinite(weights)) or weights.min() < 0:
            raise ValueError(f"variable {v}: a likelihood is negative or not finite")
        if weights.shape[0] not in (1, count):
            raise ValueError(f"variable {v}: {weights.shape[0]} rows, expected {count}")
        weights = np.broadcast_to(weights, (count, k))
        tops = weights.max(axis=1)
        with np.errstate(divide="ignore"):
            log_scale += np.log(tops)
        dead = tops == 0
        scaled = weights / np.where(dead, 1.0, tops)[:, None]
        scaled[dead] = 1.0
        positives = np.count_nonzero(scaled, axis=1)
        codes = np.where(positives == 1, scaled.argmax(axis=1), SOFT)
        codes[scaled.min(axis=1) == 1.0] = OPEN
        if k == 1:
            codes[:] = 0
        states[:, v] = codes
        if np.any(codes == SOFT):
            soft[v] = scaled
    if plain:
        states[:, list(plain)] = list(plain.values())
    return EvidenceRows(count, states, soft, log_scale)


def _read_vector(
    variable: int, numbers: Sequence[float]
) -> tuple[int, list[float] | None, float]:
    """Return the code of a likelihood vector, its weights if it is soft, and its largest one.

    Plain Python is several times faster than array functions on a few numbers.
    """
    few = [float(x) for x in numbers]
    top = max(few)
    if not (min(few) >= 0.0 and top < math.inf and not any(x != x for x in few)):
        raise ValueError(f"variable {variable}: a likelihood is negative or not finite")
    positive = [state for state, x in enumerate(few) if x > 0.0]
    if len(positive) == 1:
        return positive[0], None, top
    if min(few) == top:
        return OPEN, None, top
    return SOFT, [x / top for x in few], top


def read_single(
    cardinalities: Sequence[int],
    evidence: Mapping[int, Observation],
    states: memoryview,
    soft: FloatArray,
    starts: Sequence[int],
) -> float | None:
    """Read the evidence of one case, as `read_evidence` does, into arrays that are there already.

    Parameters
    ----------
    cardinalities
        Number of states of every variable.
    evidence
        Observations by variable.
    states
        One integer for every variable, the code for open: states and the code for soft are written
        into it. (A memoryview is the fastest array for single items.)
    soft
        Shape (1, columns): the weights of variables with soft evidence are put there.
    starts
        First column of every variable.

    Returns
    -------
    float or None
        Log of the factors taken out of the likelihoods. None for evidence that has several rows,
        is impossible or has to be refused: `read_evidence` then says how.
    """
    size = len(states)
    scale = 0.0
    for v, value in evidence.items():
        if not 0 <= v < size:
            return None
        k = cardinalities[v]
        if type(value) is tuple:
            few: Sequence[float] = value
        elif type(value) is np.ndarray and value.dtype == FLOAT and value.ndim == 1:
            few = value.tolist()
        elif type(value) is int and 0 <= value < k:
            states[v] = value
            continue
        else:
            return None
        if len(few) != k:
            return None
        if few.count(0.0) == k - 1 and 1.0 in few:
            states[v] = few.index(1.0)
            continue
        state, scaled, top = _read_vector(v, few)
        if top == 0.0:
            return None
        scale += math.log(top)
        states[v] = state
        if scaled is not None:
            soft[0, starts[v] : starts[v] + k] = scaled
    return scale
