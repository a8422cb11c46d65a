"""Run a compiled program with numpy, many cases or parameter draws at a time.

Every tensor has a leading axis of jobs (cases or draws), of length 1 where it is the same for
all. Evidence that is the same hard state in every job of a chunk slices tables; evidence that
differs between the jobs multiplies them with a likelihood.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.evidence import OPEN, SOFT, EvidenceRows
from epidural_dx.inference.network import FloatArray
from epidural_dx.inference.plan import NONE, Contraction, Distribution, LeafGroup, Program

_LETTERS = "abcdefghijklmnopqrstuvwxyABCDEFGHIJKLMNOPQRSTUVWXY"


class Outcome(NamedTuple):
    """What a run returns for a chunk of jobs.

    Parameters
    ----------
    log_evidence
        Shape (jobs,), -inf when impossible. The scale of the likelihood vectors is not in it.
    root
        P(root | evidence), shape (jobs, k_root); zeros when impossible.
    target
        P(target | evidence), shape (jobs, k_target), or None when no target was carried.
    joint
        P(target, variable | evidence), shape (jobs, k_target, columns of the program), or None.
    trusted
        Shape (jobs,): False where numbers may have underflowed, so that the job must be run
        again in log space.
    observed
        Shape (jobs, variables): True for hard evidence.
    marginals
        P(variable | evidence), shape (jobs, columns of the program), or None: then they are the sums
        of `joint`.
    information
        Bits, shape (jobs, variables), or None: then they follow from `joint`.
    """

    log_evidence: FloatArray
    root: FloatArray
    target: FloatArray | None
    joint: FloatArray | None
    trusted: npt.NDArray[np.bool_]
    observed: npt.NDArray[np.bool_]
    marginals: FloatArray | None = None
    information: FloatArray | None = None


#: Smallest log of a scaled evidence that is trusted: everything lost to underflow is then below
#: 1e-120 of the result.
LOG_FLOOR = -400.0


def _divide(left: FloatArray, right: FloatArray) -> FloatArray:
    """Divide with anything / 0 = 0."""
    shape = np.broadcast_shapes(left.shape, right.shape)
    out: FloatArray = np.divide(left, right, out=np.zeros(shape), where=right != 0)
    return out


class NumpyProgram:
    """A program bound to einsum strings.

    Parameters
    ----------
    program
        The compiled program.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        steps = {step for d in program.distributions for step in d.steps} | set(program.collect)
        self._formula = {step: self._einsum(step) for step in steps}
        self._collect_variables: list[frozenset[int]] = [frozenset()] * len(program.axes)
        below: dict[int, frozenset[int]] = {}
        for step in program.collect:
            before = set(program.axes[step.left])
            seen = below.get(step.left, frozenset())
            if step.right != NONE:
                before |= set(program.axes[step.right])
                seen |= below.get(step.right, frozenset())
            gone = before - set(program.axes[step.out])
            below[step.out] = seen | gone
        # Variables summed out below a tensor: hard evidence on them changes its values.
        self._below = below
        # Replaced as a whole, so that threads see either the old or the new pair.
        self._clean: tuple[FloatArray | None, dict[int, FloatArray]] = (None, {})

    def _einsum(self, step: Contraction) -> str:
        axes = self.program.axes
        letters: dict[int, str] = {}

        def spell(tensor: int) -> str:
            return "Z" + "".join(
                letters.setdefault(a, _LETTERS[len(letters)]) for a in axes[tensor]
            )

        left = spell(step.left)
        if step.right == NONE:
            return f"{left}->{spell(step.out)}"
        right = spell(step.right)
        return f"{left},{right}->{spell(step.out)}"

    # -- arithmetic: replaced by logs in the subclass ------------------------------------------

    def _contract(self, step: Contraction, left: FloatArray, right: FloatArray | None) -> FloatArray:
        if right is None:
            out: FloatArray = np.einsum(self._formula[step], left)
        else:
            out = np.einsum(self._formula[step], left, right)
        return out

    def _enter(self, table: FloatArray) -> FloatArray:
        """Bring probabilities into the arithmetic of this class."""
        return table

    def _times(self, left: FloatArray, right: FloatArray) -> FloatArray:
        return left * right

    def _over(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Divide with 0 / 0 = 0."""
        return _divide(left, right)

    def _sum(self, table: FloatArray, axis: int | tuple[int, ...]) -> FloatArray:
        out: FloatArray = table.sum(axis=axis)
        return out

    def _log(self, value: FloatArray) -> FloatArray:
        """Return the natural logarithm of probabilities in the arithmetic of this class."""
        with np.errstate(divide="ignore"):
            out: FloatArray = np.log(value)
        return out

    def _leave(self, value: FloatArray) -> FloatArray:
        """Bring values of this arithmetic back to probabilities."""
        return value

    def _relative(self, value: FloatArray) -> FloatArray:
        """Bring values back to probabilities up to one factor for each job."""
        return value

    def _normalise(self, message: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Divide by the largest entry of every job; return (scaled, log of what was taken out)."""
        top = message.reshape(message.shape[0], -1).max(axis=1)
        safe = np.where(top > 0, top, 1.0)
        return message / safe.reshape(-1, *[1] * (message.ndim - 1)), np.log(safe)

    def _probability(self, value: FloatArray, norm: FloatArray) -> FloatArray:
        """Divide by the evidence; zeros when it is impossible."""
        return _divide(value, norm.reshape(-1, *[1] * (value.ndim - 1)))

    # -- running --------------------------------------------------------------------------------

    def _clean_values(self, tables: FloatArray) -> dict[int, FloatArray]:
        """Return the collect pass without evidence, kept for the tables last used."""
        key, clean = self._clean
        if key is not tables:
            values: dict[int, FloatArray | None] = {}
            self._load(values, tables, {}, 1)
            for group in self.program.groups:
                shape = (1, *self.program.shape(group.message))
                values[group.message] = self._enter(np.ones(shape))
            for step in self.program.collect:
                left = values[step.left]
                right = None if step.right == NONE else values[step.right]
                assert left is not None
                values[step.out] = self._contract(step, left, right)
            clean = {t: value for t, value in values.items() if value is not None}
            self._clean = (tables, clean)
        return clean

    def _load(
        self,
        values: dict[int, FloatArray | None],
        tables: FloatArray,
        fixed: dict[int, int],
        jobs: int,
    ) -> None:
        program = self.program
        entered = self._enter(tables)
        for one in program.inputs:
            shape = program.shape(one.tensor)
            size = int(np.prod(shape, dtype=np.int64))
            block = entered[:, one.offset : one.offset + size].reshape(-1, *shape)
            values[one.tensor] = self._slice(block, one.tensor, fixed)
        for group in program.groups:
            shape = program.shape(group.stacked)
            size = int(np.prod(shape, dtype=np.int64))
            block = entered[:, group.offset : group.offset + size].reshape(-1, *shape)
            values[group.stacked] = self._slice(block, group.stacked, fixed)

    def _slice(self, value: FloatArray, tensor: int, fixed: dict[int, int]) -> FloatArray:
        axes = self.program.axes[tensor]
        if not any(a in fixed for a in axes):
            return value
        index = tuple(
            slice(fixed[a], fixed[a] + 1) if a in fixed else slice(None) for a in axes
        )
        return value[(slice(None), *index)]

    def run(
        self,
        evidence: EvidenceRows,
        tables: FloatArray,
        distribution: Distribution | None,
        carried: int,
    ) -> Outcome:
        """Run one chunk of jobs.

        Parameters
        ----------
        evidence
            The cases of the chunk: as many as there are draws, or one of the two is single.
        tables
            Packed tables, shape (draws, cells).
        distribution
            The distribute pass to run after the collect pass, or None.
        carried
            The target whose posterior is wanted: the root or a leaf child of it.

        Returns
        -------
        Outcome
        """
        program = self.program
        jobs = max(evidence.rows, tables.shape[0])
        states = evidence.states
        fixed: dict[int, int] = {}
        weights: dict[int, FloatArray] = {}
        observed = np.flatnonzero((states != OPEN).any(axis=0))
        for v in observed.tolist():
            column = states[:, v]
            first = int(column[0])
            if first >= 0 and (column == first).all():
                fixed[v] = first
                continue
            k = program.extents[v]
            weight = np.ones((evidence.rows, k))
            hard = column >= 0
            weight[hard] = np.arange(k) == column[hard, None]
            if v in evidence.soft:
                soft = column == SOFT
                weight[soft] = evidence.soft[v][soft]
            weights[v] = weight

        values: dict[int, FloatArray | None] = {}
        self._load(values, tables, fixed, jobs)
        varying: set[int] = set()
        for v, weight in weights.items():
            home = program.home[v]
            if home == NONE:
                continue
            axis = program.axes[home].index(v)
            shape = [weight.shape[0]] + [1] * len(program.axes[home])
            shape[axis + 1] = weight.shape[1]
            value = values[home]
            assert value is not None
            values[home] = self._times(value, self._enter(weight).reshape(shape))
            varying.add(home)

        # What is taken out of single messages is exact; only what products lose counts against
        # the trust in the result.
        scale = np.zeros(jobs)
        lost = np.zeros(jobs)
        messages: dict[int, FloatArray] = {}
        for group in program.groups:
            product: FloatArray | None = None
            stacked = self._states_last(group, values)
            for leaf in group.leaves:
                v = leaf.variable
                if v in fixed:
                    message = stacked[..., leaf.row + fixed[v]]
                elif v in weights:
                    weight = weights[v]
                    rows = stacked[..., leaf.row : leaf.row + weight.shape[1]]
                    shape = (weight.shape[0], *[1] * (rows.ndim - 2), weight.shape[1])
                    by_row = self._enter(weight).reshape(shape)
                    message = self._sum(self._times(rows, by_row), -1)
                else:
                    continue
                message, top = self._normalise(message)
                scale = scale + top
                messages[v] = message
                product = message if product is None else self._times(product, message)
            if product is None:
                shape = (1, *program.shape(group.message))
                ones = self._enter(np.broadcast_to(1.0, shape))
                values[group.message] = self._slice(ones, group.message, fixed)
            else:
                if len(group.leaves) > 1:
                    product, top = self._normalise(product)
                    scale = scale + top
                    lost = lost + top
                values[group.message] = product
                varying.add(group.message)

        use_clean = tables.shape[0] == 1
        clean = self._clean_values(tables) if use_clean else {}
        hard_inner = {v for v in fixed if program.home[v] != NONE}
        for step in program.collect:
            changed = (
                not use_clean
                or step.left in varying
                or step.right in varying
                or not hard_inner.isdisjoint(self._below[step.out])
            )
            if changed:
                varying.add(step.out)
                left = values[step.left]
                right = None if step.right == NONE else values[step.right]
                assert left is not None
                values[step.out] = self._contract(step, left, right)
            else:
                values[step.out] = self._slice(clean[step.out], step.out, fixed)

        total = values[program.total]
        assert total is not None
        norm = self._sum(total, -1)
        inner = self._log(norm)
        log_evidence = inner + scale
        trusted = np.broadcast_to(inner + lost > LOG_FLOOR, (jobs,)).copy()
        root = np.zeros((jobs, program.extents[program.root]))
        posterior = self._probability(total, norm)
        if program.root in fixed:
            root[:, fixed[program.root]] = np.broadcast_to(posterior[:, 0], (jobs,))
        else:
            root[...] = posterior
        log_evidence = np.broadcast_to(log_evidence, (jobs,)).copy()
        conditional: FloatArray | None = None
        posterior = root
        if carried != program.root:
            conditional = self._target_given_root(carried, values, fixed, weights)
            wide = np.zeros(
                (conditional.shape[0], program.extents[program.root], conditional.shape[2])
            )
            rows: slice = slice(None)
            if program.root in fixed:
                rows = slice(fixed[program.root], fixed[program.root] + 1)
            wide[:, rows] = self._leave(conditional)
            posterior = np.matmul(root[:, None, :], wide)[:, 0]
        observed_cells = np.broadcast_to(states >= 0, (jobs, states.shape[1]))
        if distribution is None:
            return Outcome(log_evidence, root, posterior, None, trusted, observed_cells)
        if conditional is not None:
            values[distribution.map_tensor] = conditional
        joint = self._distribute(
            distribution, values, fixed, weights, messages, posterior, norm, jobs
        )
        start = program.rows[program.root]
        if conditional is not None:
            joint[:, :, start : start + root.shape[1]] = np.swapaxes(root[:, :, None] * wide, 1, 2)
        return Outcome(log_evidence, root, posterior, joint, trusted, observed_cells)

    def _distribute(
        self,
        distribution: Distribution,
        values: dict[int, FloatArray | None],
        fixed: dict[int, int],
        weights: dict[int, FloatArray],
        messages: dict[int, FloatArray],
        posterior: FloatArray,
        norm: FloatArray,
        jobs: int,
    ) -> FloatArray:
        program = self.program
        target = distribution.target
        for step in distribution.steps:
            left = values[step.left]
            right = None if step.right == NONE else values[step.right]
            assert left is not None
            values[step.out] = self._contract(step, left, right)

        k = program.extents[target]
        joint = np.zeros((jobs, k, program.row_count))
        # The root keeps its axis unless it is observed itself, and then one state of it is left.
        here: slice = slice(None)
        if target == program.root and target in fixed:
            here = slice(fixed[target], fixed[target] + 1)
        for reading in distribution.readings:
            value = values[reading.tensor]
            assert value is not None
            block = self._probability(value, norm)
            start = reading.row
            if program.axes[reading.tensor][-1] in (target, program.root):
                block = np.swapaxes(block, 1, 2)
            if reading.variable in fixed:
                start += fixed[reading.variable]
            joint[:, here, start : start + block.shape[2]] = block

        self._observed_leaves(distribution, values, fixed, weights, messages, posterior, norm, joint)
        start = program.rows[target]
        joint[:, :, start : start + k] = posterior[:, :, None] * np.eye(k)
        return joint

    def _target_given_root(
        self,
        target: int,
        values: dict[int, FloatArray | None],
        fixed: dict[int, int],
        weights: dict[int, FloatArray],
    ) -> FloatArray:
        """Return P(target | root, evidence on the target), shape (jobs, k_root, k_target)."""
        program = self.program
        g, n = program.leaf_place[target]
        group = program.groups[g]
        leaf = group.leaves[n]
        k = program.extents[target]
        stacked = self._states_last(group, values)
        table = stacked[..., leaf.row : leaf.row + k]
        if target in fixed:
            weight = np.zeros((1, k))
            weight[0, fixed[target]] = 1.0
        elif target in weights:
            weight = weights[target]
        else:
            return table
        weighted = self._times(table, self._enter(weight)[:, None, :])
        return self._over(weighted, self._sum(weighted, -1)[..., None])

    def _observed_leaves(
        self,
        distribution: Distribution,
        values: dict[int, FloatArray | None],
        fixed: dict[int, int],
        weights: dict[int, FloatArray],
        messages: dict[int, FloatArray],
        posterior: FloatArray,
        norm: FloatArray,
        joint: FloatArray,
    ) -> None:
        """Replace the rows of observed leaf findings, which were read as if they were open."""
        program = self.program
        for v in messages:
            k = program.extents[v]
            start = program.rows[v]
            if v in fixed:
                joint[:, :, start : start + k] = 0.0
                joint[:, :, start + fixed[v]] = posterior
                continue
            g, n = program.leaf_place[v]
            group = program.groups[g]
            leaf = group.leaves[n]
            belief, axes = self._group_belief(distribution, g, values)
            stacked = self._states_last(group, values)
            rows = stacked[..., leaf.row : leaf.row + k]
            message = messages[v]
            # P(v, target | e) = w(v) sum_parents P(v | parents) P(parents, target | e) / message
            by_parents = message.reshape(
                message.shape + (1,) * (belief.ndim - message.ndim)
            )
            lifted = self._over(belief, by_parents)
            names = {a: _LETTERS[i] for i, a in enumerate(axes)}
            parents = "".join(names[a] for a in program.axes[group.message])
            everything = "".join(names[a] for a in axes)
            weight = weights[v]
            carried = distribution.target if distribution.target in axes else program.root
            block = np.einsum(
                f"Z{parents}z,Z{everything},Zz->Zz{names[carried]}",
                self._leave(rows),
                self._relative(lifted),
                weight,
            )
            if carried != distribution.target:
                conditional = values[distribution.map_tensor]
                assert conditional is not None
                block = block @ self._leave(conditional)
            total = block.sum(axis=(1, 2))
            scaled = _divide(block, total[:, None, None])
            if carried == program.root and program.root in fixed and carried == distribution.target:
                wide = np.zeros((*scaled.shape[:2], program.extents[program.root]))
                wide[:, :, fixed[program.root] : fixed[program.root] + 1] = scaled
                scaled = wide
            joint[:, :, start : start + k] = np.swapaxes(scaled, 1, 2)

    @staticmethod
    def _states_last(group: LeafGroup, values: dict[int, FloatArray | None]) -> FloatArray:
        stacked = values[group.stacked]
        assert stacked is not None
        return np.moveaxis(stacked, 1, -1) if group.narrow else stacked

    def _group_belief(
        self, distribution: Distribution, g: int, values: dict[int, FloatArray | None]
    ) -> tuple[FloatArray, tuple[int, ...]]:
        """Return P(parents, target, evidence) of a group, parents axes first, and its axes."""
        program = self.program
        group = program.groups[g]
        tensor = NONE
        for step in distribution.steps:
            if step.left == group.stacked:
                tensor = step.right
        value = values[tensor]
        assert value is not None
        axes = program.axes[tensor]
        parents = program.axes[group.message]
        wanted = (*parents, *(a for a in axes if a not in parents))
        value = value.transpose(0, *(axes.index(a) + 1 for a in wanted))
        return value, wanted
