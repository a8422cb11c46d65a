r"""Information of test panels: what the joint outcome of several findings says about a target.

The information of a panel is the mutual information

.. math:: I(T; F) = \sum_f P(f) \, KL(P(T | f) \,\|\, P(T))

of the target and the *joint* outcome of the panel's open findings given the evidence (Cover and
Thomas, Elements of Information Theory, 2006, chapter 2). Panels with few outcomes are enumerated.
Larger ones are split by the chain rule into an exact and a sampled part,

.. math:: I(T; F) = I(T; F_A) + I(T; F_B | F_A),

with the most informative findings that can be enumerated in A. The rest,

.. math:: I(T; F_B | F_A) = E_f[H(T | f_A) - H(T | f)],

is an average over Sobol samples of whole outcomes f, with both exact posteriors of the target for
each; several independent random shifts of the net give the standard error. (Averages of divergences
have the same mean, but rare outcomes make them large; entropies are bounded.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from epidural_dx.decision.elimination import SMALLEST, EvidenceTables, IntArray
from epidural_dx.decision.nets import random_nets
from epidural_dx.decision.samples import (
    Draws,
    Posteriors,
    RowMemory,
    dimensions,
    posteriors,
)
from epidural_dx.inference.information import stacked_information
from epidural_dx.inference.network import FloatArray

#: Panels with at most this many joint outcomes are enumerated.
EXACT_OUTCOMES = 4096

#: Independent random shifts of the Sobol net, and its points (a power of two).
SHIFTS = 16
POINTS = 32

#: Outcomes of the exactly known part of a sampled panel.
CONTROL_OUTCOMES = 256

#: With fewer panels than this, all are asked about the same tables.
FEW_PANELS = 4
#: Cells that are worked on at a time: new memory is slow.
BLOCK_CELLS = 8_192

#: Seed of the shifts.
SEED = 20_240_229


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes of a panel with what each says about the target and about the cause.

    Attributes
    ----------
    weights : ndarray, shape (outcomes,)
        Probability of each outcome, or the share of each sample.
    told : callable
        Gives :attr:`rows`: they are large, and most are never looked at.
    findings : tuple of int
        The findings of the panel.
    information : float
        I(target; findings | evidence) in bits.
    standard_error : float
        0 when exact.
    method : {"exact", "quasi_monte_carlo"}
    sizes : tuple of int
        Number of states of every finding.
    sampled : tuple of ndarray of shape (outcomes,)
        States of every finding in every sample; empty when exact.
    log_sums : ndarray, shape (outcomes,), optional
        Sum of p log2 p over each row, if it is known.
    control : tuple of int
        The most telling findings of a sampled panel, whose joint outcomes can be enumerated.
    control_outcome : ndarray, shape (outcomes,), optional
        Number of the joint outcome of ``control`` in every sample.
    """

    weights: FloatArray
    told: Callable[[], FloatArray]
    findings: tuple[int, ...]
    information: float
    standard_error: float
    method: str
    sizes: tuple[int, ...]
    sampled: tuple[IntArray, ...] = ()
    log_sums: FloatArray | None = None
    control: tuple[int, ...] = ()
    control_outcome: IntArray | None = None

    @cached_property
    def rows(self) -> FloatArray:
        """P(target, outcome | evidence), or P(target | sample), shape (outcomes, k)."""
        return self.told()

    @cached_property
    def target(self) -> FloatArray:
        """P(target | outcome, evidence), shape (outcomes, k)."""
        if self.sampled:
            return self.rows
        weights = self.weights[:, None]
        result: FloatArray = self.rows / np.where(weights > 0, weights, 1.0)
        return result

    @cached_property
    def entropy(self) -> FloatArray:
        """H(target | outcome) in bits, shape (outcomes,)."""
        if self.sampled or self.log_sums is None:
            found = -log_sums(self.target.T)
        else:
            weights = np.where(self.weights > 0, self.weights, 1.0)
            found = np.log2(weights) - self.log_sums / weights
        result: FloatArray = np.maximum(found, 0.0)
        return result

    @cached_property
    def states(self) -> tuple[IntArray, ...]:
        """State of every finding of the panel, each of shape (outcomes,)."""
        if self.sampled:
            return self.sampled
        states = np.unravel_index(np.arange(len(self.weights)), self.sizes)
        return tuple(np.asarray(s, dtype=np.int64) for s in states)


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
        False: the information of several findings is not asked for (it stays 0).
    singles : mapping of int to ndarray of shape (k, states), optional
        P(target, finding | evidence) of open findings, where somebody has them already (the
        compiled engine gives all of them in one pass).
    prior : ndarray of shape (k,), optional
        P(target | evidence), likewise.
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
        prior: FloatArray | None = None,
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
        self._narrow, self._reach = self._without_widest()
        self.prior = (
            self._tables.joint(self.target).reshape(-1) if prior is None else np.asarray(prior)
        )
        self._prior_log_sum = float(log_sums(self.prior[:, None])[0])
        self._samples: Mapping[int, IntArray] | None = None
        self._known: dict[tuple[int, ...], Outcomes] = {}
        self._bits: dict[int, float] = {}

    def _without_widest(self) -> tuple[EvidenceTables, frozenset[int]]:
        """Sum out what only one panel asks for, and return what the others ask for.

        The history reaches far into the network; all other panels are asked about what is left
        without it.
        """
        if len(self._panels) < FEW_PANELS:
            return self._tables, frozenset()
        inner = self._tables.inner_variables()
        widest = max(self._panels, key=lambda p: len(inner.intersection(p)))
        rest = {v for p in self._panels if p != widest for v in p}
        return self._tables.shared(rest.union(self.target), self.target), frozenset(rest)

    def _tables_for(self, findings: Iterable[int]) -> EvidenceTables:
        """Return the smallest tables that hold some findings."""
        return self._narrow if self._reach.issuperset(findings) else self._tables

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
            self._tables_for((*observed, *findings)).focused(self.target, {*observed, *other}),
            observed,
            (*self.target, *other),
            self._tables.volumes,
            memory,
        ).whole()
        rows = len(joint)
        shape = [self.sizes[v] for v in self.target]
        joint = joint.reshape(rows, *shape, -1)
        for v in inside:
            axis = self.target.index(v)
            same = np.eye(shape[axis]).reshape(
                [1, *(shape[axis] if i == axis else 1 for i in range(len(shape))), 1, shape[axis]]
            )
            joint = (joint[..., None] * same).reshape(rows, *shape, -1)
        made = [*other, *inside]
        table = joint.reshape(rows, len(self.prior), *(self.sizes[f] for f in made))
        table = table.transpose(0, 1, *(2 + made.index(f) for f in findings))
        return table.reshape(rows, len(self.prior), -1)

    def _exact(self, panel: tuple[int, ...]) -> Outcomes:
        """Return the enumerated outcomes of a few findings, whatever the limit is."""
        found = self._known.get(panel)
        if found is None or found.method != "exact":
            found = self._enumerated(panel)
            if self._count(panel) <= self.exact_outcomes:
                self._known[panel] = found
        return found

    def _single_bits(self, v: int) -> float:
        """Return the information of one finding."""
        if v not in self._singles:
            return self._exact((v,)).information
        if not self._bits:
            # all at once: it takes as long as one or two of them alone
            tables = list(self._singles.values())
            ends = np.cumsum([t.shape[1] for t in tables])
            starts = ends - [t.shape[1] for t in tables]
            joint = np.concatenate(tables, axis=1)
            bits = stacked_information(joint[None], self.prior[None], starts)[0]
            self._bits = dict(zip(self._singles, bits.tolist(), strict=True))
        return self._bits[v]

    def _diagonal(self, panel: tuple[int, ...]) -> FloatArray:
        """P(target, panel | evidence), shape (k, outcomes), where they have findings in common.

        The axis of such a finding is repeated as a diagonal.
        """
        extra = tuple(v for v in self.target if v not in panel)
        joint = self._tables.joint((*extra, *panel))
        shape = [self.sizes[v] for v in self.target]
        full = np.zeros((*shape, *(self.sizes[v] for v in panel)))
        for outcome in np.ndindex(*(self.sizes[v] for v in panel)):
            known = dict(zip(panel, outcome, strict=True))
            index = tuple(known.get(v, slice(None)) for v in self.target)
            full[(*index, *outcome)] = joint[(..., *outcome)]
        return full.reshape(len(self.prior), -1)

    def _enumerated(self, panel: tuple[int, ...]) -> Outcomes:
        told: Callable[[], FloatArray]
        sums: FloatArray | None = None
        bits = 0.0
        if len(panel) == 1 and panel[0] in self._singles:
            joint = self._singles[panel[0]]
            weights, told = joint.sum(axis=0), lambda: joint.T
            bits = self._single_bits(panel[0])
        elif not set(panel).isdisjoint(self.target):
            joint = self._diagonal(panel)
            weights, sums, told = joint.sum(axis=0), log_sums(joint), lambda: joint.T
        elif not self._informative and len(panel) > 1:
            joint = self._tables_for(panel).joint((*self.target, *panel), self.target)
            joint = joint.reshape(len(self.prior), -1)
            weights, told = joint.sum(axis=0), lambda: joint.T
        else:
            product = self._tables_for(panel).product((*self.target, *panel), self.target)
            weights, sums = product.sums(len(self.target))
            total = weights.sum() or 1.0
            weights /= total
            sums = sums / total - weights * np.log2(total)

            # without the calculator, which holds the outcomes: no cycle keeps them in memory
            k = len(self.prior)

            def told() -> FloatArray:
                return product.whole().reshape(k, -1).T / total

        if sums is not None:
            bits = float(sums.sum() - log_sums(weights[:, None])[0] - self._prior_log_sum)
        return Outcomes(
            weights=weights,
            told=told,
            findings=panel,
            information=max(bits, 0.0),
            standard_error=0.0,
            method="exact",
            sizes=tuple(self.sizes[v] for v in panel),
            log_sums=sums,
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
            self._samples = Draws(
                tables, self._tables.conditionals, self._tables.volumes, self.target, uniforms
            )
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
        return self._posteriors(panel, states).whole()

    def _posteriors(self, panel: Sequence[int], states: Sequence[IntArray]) -> Posteriors:
        return posteriors(
            self._tables_for(panel).focused(self.target, panel),
            dict(zip(panel, states, strict=True)),
            self.target,
            self._tables.volumes,
        )

    def _control(self, panel: tuple[int, ...], limit: int) -> tuple[int, ...]:
        single = {v: self._single_bits(v) for v in panel}
        chosen: list[int] = []
        for v in sorted(panel, key=lambda v: -single[v]):
            if self._count([*chosen, v]) <= limit:
                chosen.append(v)
        return tuple(v for v in panel if v in chosen)

    def _sampled(self, panel: tuple[int, ...]) -> Outcomes:
        draws = self._draws()
        states = tuple(draws[v] for v in panel)
        posterior = self._posteriors(panel, states)
        count = SHIFTS * self.points
        known = self._control(panel, min(CONTROL_OUTCOMES, self.exact_outcomes))
        outcome = None
        if known:
            shape = tuple(self.sizes[v] for v in known)
            outcome = np.ravel_multi_index(tuple(draws[v] for v in known), shape)
        base, means = 0.0, np.zeros(SHIFTS)
        if self._informative:
            base, means = self._sampled_information(known, outcome, posterior)
        return Outcomes(
            weights=np.full(count, 1.0 / count),
            told=posterior.whole,
            findings=panel,
            information=base + max(float(means.mean()), 0.0),
            standard_error=float(means.std(ddof=1) / math.sqrt(SHIFTS)),
            method="quasi_monte_carlo",
            sizes=tuple(self.sizes[v] for v in panel),
            sampled=states,
            control=known,
            control_outcome=outcome,
        )

    def _sampled_information(
        self, known: tuple[int, ...], outcome: IntArray | None, posterior: Posteriors
    ) -> tuple[float, FloatArray]:
        """Return the exact part of the information, and what each net says about the rest."""
        base, before = 0.0, np.asarray(-self._prior_log_sum)
        if outcome is not None:
            exact = self._exact(known)
            base = exact.information
            before = exact.entropy[outcome]
        rest = before + posterior.log_sums()
        means: FloatArray = rest.reshape(SHIFTS, -1).mean(axis=1)
        return base, means


def log_sums(p: FloatArray) -> FloatArray:
    """Return the sum of p log2 p over the first axis, 0 at 0.

    Parameters
    ----------
    p : ndarray, shape (k, outcomes)
        May be a transposed view.

    Returns
    -------
    ndarray, shape (outcomes,)
    """
    sums = np.zeros(p.shape[1])
    by_rows = p.flags.c_contiguous
    step = max(1, BLOCK_CELLS // max(1, p.shape[1 if by_rows else 0]))
    for start in range(0, p.shape[0 if by_rows else 1], step):
        some = slice(start, start + step)
        block = p[some] if by_rows else p[:, some].T
        logs = np.maximum(block, SMALLEST)
        np.log2(logs, out=logs)
        if by_rows:
            sums += np.einsum("ij,ij->j", block, logs)
        else:
            sums[some] = np.einsum("ij,ij->i", block, logs)
    return sums


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
    logs = posterior / np.where(prior > 0, prior, 1.0)
    np.maximum(logs, SMALLEST, out=logs)
    np.log2(logs, out=logs)
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
    joint = np.ascontiguousarray(posterior.T * weights)
    k = len(joint)
    prior = joint.sum(axis=1)
    single = log_sums(joint.T) - log_sums(prior[None])
    first, second = np.triu_indices(k, 1)
    both = log_sums((joint[first] + joint[second]).T)
    both -= log_sums((prior[first] + prior[second])[None])
    bits = np.zeros((k, k))
    bits[first, second] = np.maximum(single[first] + single[second] - both, 0.0)
    result: FloatArray = bits + bits.T
    return result
