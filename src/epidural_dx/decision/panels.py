r"""Information of test panels: what the joint outcome of several findings says about a target.

The information of a panel is the mutual information

.. math:: I(T; F) = \sum_f P(f) \, KL(P(T | f) \,\|\, P(T))

of the target and the *joint* outcome of the panel's open findings given the evidence (Cover and
Thomas, Elements of Information Theory, 2006, chapter 2). Panels with few outcomes are enumerated.
Larger ones are split by the chain rule into an exact and a sampled part,

.. math:: I(T; F) = I(T; F_A) + I(T; F_B | F_A),

with the most informative findings that can be enumerated in A. The rest is an average over
Sobol samples of whole outcomes, with the exact posterior of the target for each; several
independent random shifts of the net give the standard error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from epidural_dx.decision.elimination import (
    EvidenceTables,
    IntArray,
    RowMemory,
    dimensions,
    draw,
    posteriors,
)
from epidural_dx.decision.nets import random_nets
from epidural_dx.inference.network import FloatArray

#: Panels with at most this many joint outcomes are enumerated.
EXACT_OUTCOMES = 4096

#: Independent random shifts of the Sobol net, and its points (a power of two).
SHIFTS = 16
POINTS = 64

#: Outcomes of the exactly known part of a sampled panel.
CONTROL_OUTCOMES = 512

#: Seed of the shifts.
SEED = 20_240_229


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes of a panel with what each says about the target and about the cause.

    Attributes
    ----------
    weights : ndarray, shape (outcomes,)
        Probability of each outcome, or the share of each sample.
    target : ndarray, shape (outcomes, k)
        P(target | outcome, evidence).
    states : tuple of ndarray of shape (outcomes,)
        State of every finding of the panel.
    findings : tuple of int
        The findings of the panel.
    information : float
        I(target; findings | evidence) in bits.
    standard_error : float
        0 when exact.
    method : {"exact", "quasi_monte_carlo"}
    """

    weights: FloatArray
    target: FloatArray
    states: tuple[IntArray, ...]
    findings: tuple[int, ...]
    information: float
    standard_error: float
    method: str


class PanelCalculator:
    """Outcome distributions of panels for one patient and one target.

    Parameters
    ----------
    tables : EvidenceTables
        The network after the patient's evidence.
    target : sequence of int
        Variables without hard evidence.
    panels : sequence of sequence of int
        Open findings of every panel that will be asked for.
    exact_outcomes : int
        Panels with more joint outcomes are sampled.
    points : int
        Points of the Sobol net.
    draws_of : PanelCalculator, optional
        Use its samples: another target of the same patient and panels.
    informative : bool
        False: the information of sampled panels is not asked for (it stays 0).
    singles : mapping of int to ndarray of shape (k, states), optional
        P(target, finding | evidence) of open findings, where somebody has them already (the
        compiled engine gives all of them in one pass).
    """

    def __init__(
        self,
        tables: EvidenceTables,
        target: Sequence[int],
        panels: Sequence[Sequence[int]],
        *,
        exact_outcomes: int = EXACT_OUTCOMES,
        points: int = POINTS,
        draws_of: PanelCalculator | None = None,
        informative: bool = True,
        singles: Mapping[int, FloatArray] | None = None,
    ) -> None:
        self._singles = singles or {}
        self.target = tuple(target)
        self.sizes = dict(tables.sizes)
        self.exact_outcomes = exact_outcomes
        self.points = points
        self._draws_of = draws_of
        self._informative = informative
        self._panels = [tuple(p) for p in panels]
        everything = {v for p in panels for v in p} | set(self.target)
        self._tables = tables.shared(everything, self.target)
        self.prior = self._tables.joint(self.target).reshape(-1)
        self._samples: Mapping[int, IntArray] | None = None
        self._known: dict[tuple[int, ...], Outcomes] = {}

    def _count(self, panel: Sequence[int]) -> int:
        return math.prod(self.sizes[v] for v in panel)

    def outcomes(self, panel: Sequence[int]) -> Outcomes:
        """Return the outcomes of a panel.

        Parameters
        ----------
        panel : sequence of int
            Open findings; must be among those given at the start.

        Returns
        -------
        Outcomes
        """
        key = tuple(panel)
        if key not in self._known:
            if self._count(key) <= self.exact_outcomes:
                self._known[key] = self._enumerated(key)
            else:
                self._known[key] = self._sampled(key)
        return self._known[key]

    def most_telling(self, panel: Sequence[int], outcomes: int) -> tuple[int, ...]:
        """Return the most informative findings of a panel with few joint outcomes together.

        Parameters
        ----------
        panel : sequence of int
        outcomes : int
            Most joint outcomes of those chosen.
        """
        return self._control(tuple(panel), outcomes)

    def given(
        self,
        observed: Mapping[int, IntArray],
        findings: Sequence[int],
        memory: RowMemory | None = None,
    ) -> FloatArray:
        """Return P(target, findings | observed outcome) for many outcomes of other findings.

        Parameters
        ----------
        observed : mapping of int to ndarray of shape (rows,)
            States of findings that have been observed by then.
        findings : sequence of int
            None of them observed.
        memory : RowMemory, optional
            Of earlier calls with the same outcomes.

        Returns
        -------
        ndarray, shape (rows, k, outcomes of the findings)
            Every row sums to 1.
        """
        inside = [f for f in findings if f in self.target]
        other = [f for f in findings if f not in self.target]
        joint = posteriors(
            self._tables.focused(self.target, {*observed, *other}),
            observed,
            (*self.target, *other),
            self.sizes,
            memory,
        )
        rows = len(joint)
        shape = [self.sizes[v] for v in self.target]
        joint = joint.reshape(rows, *shape, -1)
        for v in inside:
            axis = self.target.index(v)
            same = np.eye(shape[axis]).reshape(
                [1, *(shape[axis] if i == axis else 1 for i in range(len(shape))), 1, shape[axis]]
            )
            joint = (joint[..., None] * same).reshape(rows, *shape, -1)
        return joint.reshape(rows, len(self.prior), -1)

    def _exact(self, panel: tuple[int, ...]) -> Outcomes:
        """Return the enumerated outcomes of a few findings, whatever the limit is."""
        found = self._known.get(panel)
        if found is None or found.method != "exact":
            found = self._enumerated(panel)
            if self._count(panel) <= self.exact_outcomes:
                self._known[panel] = found
        return found

    def _joint(self, panel: tuple[int, ...]) -> FloatArray:
        """P(target, panel | evidence), shape (k, outcomes)."""
        if len(panel) == 1 and panel[0] in self._singles:
            return self._singles[panel[0]]
        extra = tuple(v for v in self.target if v not in panel)
        if len(extra) == len(self.target):
            joint = self._tables.joint((*self.target, *panel), self.target)
            return joint.reshape(len(self.prior), -1)
        # A finding that belongs to the target: its axis is repeated as a diagonal.
        joint = self._tables.joint((*extra, *panel))
        shape = [self.sizes[v] for v in self.target]
        full = np.zeros((*shape, *(self.sizes[v] for v in panel)))
        for outcome in np.ndindex(*(self.sizes[v] for v in panel)):
            known = dict(zip(panel, outcome, strict=True))
            index = tuple(known.get(v, slice(None)) for v in self.target)
            full[(*index, *outcome)] = joint[(..., *outcome)]
        return full.reshape(len(self.prior), -1)

    def _enumerated(self, panel: tuple[int, ...]) -> Outcomes:
        joint = self._joint(panel)
        weights = joint.sum(axis=0)
        posterior = (joint / np.where(weights > 0, weights, 1.0)).T
        bits = float(weights @ divergence(posterior, self.prior))
        shape = tuple(self.sizes[v] for v in panel)
        states = np.unravel_index(np.arange(joint.shape[1]), shape)
        return Outcomes(
            weights=weights,
            target=posterior,
            states=tuple(np.asarray(s, dtype=np.int64) for s in states),
            findings=panel,
            information=max(bits, 0.0),
            standard_error=0.0,
            method="exact",
        )

    # -------------------------------------------------------------- sampling

    def _draws(self) -> Mapping[int, IntArray]:
        """Sobol samples of everything that the large panels need, net by net."""
        if self._samples is None and self._draws_of is not None:
            self._samples = self._draws_of._draws()
        if self._samples is None:
            wanted = {v for p in self._panels for v in p} | set(self.target)
            tables = self._tables.relevant(wanted)
            uniforms = random_nets(dimensions(tables), self.points, SHIFTS, SEED)
            self._samples = draw(tables, self.sizes, self.target, uniforms)
        return self._samples

    def draws(self, count: int) -> dict[int, IntArray]:
        """Return some of the samples of findings, spread over the shifted nets.

        Parameters
        ----------
        count : int
            A multiple of the number of nets, at most their points together.
        """
        each = count // SHIFTS
        rows = (np.arange(SHIFTS)[:, None] * self.points + np.arange(each)[None, :]).reshape(-1)
        return {v: states[rows] for v, states in self._draws().items()}

    def posterior(self, panel: Sequence[int], states: Sequence[IntArray]) -> FloatArray:
        """Return the exact posterior of the target for given outcomes of a panel.

        Parameters
        ----------
        panel : sequence of int
        states : sequence of ndarray of shape (outcomes,)

        Returns
        -------
        ndarray, shape (outcomes, k)
        """
        return posteriors(
            self._tables.focused(self.target, panel),
            dict(zip(panel, states, strict=True)),
            self.target,
            self.sizes,
        )

    def _control(self, panel: tuple[int, ...], limit: int) -> tuple[int, ...]:
        single = {v: self._exact((v,)).information for v in panel}
        chosen: list[int] = []
        for v in sorted(panel, key=lambda v: -single[v]):
            if self._count([*chosen, v]) <= limit:
                chosen.append(v)
        return tuple(v for v in panel if v in chosen)

    def _sampled(self, panel: tuple[int, ...]) -> Outcomes:
        draws = self._draws()
        states = tuple(draws[v] for v in panel)
        posterior = self.posterior(panel, states)
        base, means = 0.0, np.zeros(SHIFTS)
        if self._informative:
            base, means = self._sampled_information(panel, posterior)
        return Outcomes(
            weights=np.full(len(posterior), 1.0 / len(posterior)),
            target=posterior,
            states=states,
            findings=panel,
            information=max(base + float(means.mean()), base),
            standard_error=float(means.std(ddof=1) / math.sqrt(SHIFTS)),
            method="quasi_monte_carlo",
        )

    def _sampled_information(
        self, panel: tuple[int, ...], posterior: FloatArray
    ) -> tuple[float, FloatArray]:
        """Return the exact part of the information, and what each net says about the rest."""
        draws = self._draws()
        known = self._control(panel, min(CONTROL_OUTCOMES, self.exact_outcomes))
        base = 0.0
        control = np.zeros(len(posterior))
        if known:
            exact = self._exact(known)
            base = exact.information
            shape = tuple(self.sizes[v] for v in known)
            row = np.ravel_multi_index(tuple(draws[v] for v in known), shape)
            control = divergence(exact.target, self.prior)[row]
        rest = divergence(posterior, self.prior) - control
        means: FloatArray = rest.reshape(SHIFTS, -1).mean(axis=1)
        return base, means


def divergence(posterior: FloatArray, prior: FloatArray) -> FloatArray:
    """Return KL(posterior || prior) in bits for every row.

    Parameters
    ----------
    posterior : ndarray, shape (outcomes, k)
    prior : ndarray, shape (k,) or (outcomes, k)

    Returns
    -------
    ndarray, shape (outcomes,)
    """
    ratio = posterior / np.where(prior > 0, prior, 1.0)
    logs = np.log2(ratio, out=np.zeros_like(ratio), where=ratio > 0)
    result: FloatArray = np.einsum("ij,ij->i", posterior, logs)
    return result


def pair_information(weights: FloatArray, posterior: FloatArray) -> FloatArray:
    r"""Return what a panel says about each pair of states of a variable.

    For the pair (a, b) it is :math:`P(a \vee b) \, I(X; F | X \in \{a, b\})`, the share of the
    information that goes into telling a from b once it is one of the two. By the chain rule it is
    never more than I(X; F).

    Parameters
    ----------
    weights : ndarray, shape (outcomes,)
    posterior : ndarray, shape (outcomes, k)

    Returns
    -------
    ndarray, shape (k, k)
        Bits; symmetric with zeros on the diagonal.
    """
    joint = posterior.T * weights
    prior = joint.sum(axis=1)
    pairs = joint[:, None, :] + joint[None, :, :]

    def negative_entropy(p: FloatArray) -> FloatArray:
        logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
        out: FloatArray = p * logs
        return out

    single = negative_entropy(joint).sum(axis=-1) - negative_entropy(prior)
    both = negative_entropy(pairs).sum(axis=-1) - negative_entropy(prior[:, None] + prior)
    bits = single[:, None] + single[None, :] - both
    np.fill_diagonal(bits, 0.0)
    result: FloatArray = np.maximum(bits, 0.0)
    return result
