"""Run a compiled program with numpy, many cases or parameter draws at a time.

Every tensor has a leading axis of jobs (cases or draws), of length 1 where it is the same for
all. Evidence that is the same hard state in every job of a chunk slices tables; evidence that
differs between the jobs multiplies them with a likelihood.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.evidence import OPEN, SOFT, EvidenceRows
from epidural_dx.inference.kernels import compute_kernels
from epidural_dx.inference.network import FloatArray
from epidural_dx.inference.plan import (
    ADJOINT,
    KERNEL,
    NONE,
    READ,
    Contraction,
    Distribution,
    LeafGroup,
    Program,
)

_LETTERS = "abcdefghijklmnopqrstuvwxyABCDEFGHIJKLMNOPQRSTUVWXY"


# Where a tensor stands with respect to kernels, and which roles of steps run there.
SHOWN, TOP, BELOW = 0, 1, 2
_RUNS = {ADJOINT: (SHOWN, TOP), READ: (SHOWN,), KERNEL: (TOP,)}


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
        P(variable | evidence), shape (jobs, columns of the program), or None: then they are the
        sums of `joint`.
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


#: Contractions of at least this many multiply-adds are done as matrix products.
MATRIX_PRODUCT = 2_000

#: Smallest log of a scaled evidence that is trusted: everything lost to underflow is then below
#: 1e-120 of the result.
LOG_FLOOR = -400.0


def _divide(left: FloatArray, right: FloatArray) -> FloatArray:
    """Divide with anything / 0 = 0."""
    shape = np.broadcast_shapes(left.shape, right.shape)
    out: FloatArray = np.divide(left, right, out=np.zeros(shape), where=right != 0)
    return out


@dataclass(frozen=True, eq=False)
class Collected:
    """State of a chunk of jobs after the collect pass.

    Parameters
    ----------
    fixed
        Variables that have the same hard state in every job; their axes have length 1.
    weights
        Likelihoods (rows, k) of the other variables with evidence.
    values
        All tensors, shape (jobs or 1, axes).
    messages
        Messages of observed leaf findings to their parents, largest entry 1.
    varying
        Tensors that evidence has changed.
    norm
        Sum of the total over the root, in the arithmetic of the program.
    scale
        Log of what was taken out of the messages, shape (jobs,).
    log_evidence, trusted, root
        As in `Outcome`.
    """

    fixed: dict[int, int]
    weights: dict[int, FloatArray]
    values: list[FloatArray | None]
    messages: dict[int, FloatArray]
    varying: set[int]
    norm: FloatArray
    scale: FloatArray
    log_evidence: FloatArray
    trusted: npt.NDArray[np.bool_]
    root: FloatArray


class BoundStep(NamedTuple):
    """A contraction and how numpy does it.

    Parameters
    ----------
    step
        The contraction.
    formula
        For einsum; the letter Z is the axis of jobs.
    spread
        Indices that align left and right for a plain product, if nothing is summed; None for an
        operand that has all axes.
    orders, counts
        For a matrix product: how left, right and the result are transposed, and the numbers of
        batch, row, column and summed axes.
    classes
        For a step from classes of the root's states to finer ones: the axis, and the class of
        every finer one.
    """

    step: Contraction
    formula: str
    spread: tuple[tuple[slice | None, ...] | None, tuple[slice | None, ...] | None] | None
    orders: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None
    counts: tuple[int, int, int, int] | None
    classes: tuple[int, npt.NDArray[np.intp]] | None = None


def _matrix_product(
    orders: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    counts: tuple[int, int, int, int],
    left: FloatArray,
    right: FloatArray,
) -> FloatArray:
    """Contract by one (batched) matrix product."""
    batch, rows, columns, _ = counts
    left = left.transpose(orders[0])
    right = right.transpose(orders[1])
    shape_batch = left.shape[1 : 1 + batch]
    shape_rows = left.shape[1 + batch : 1 + batch + rows]
    shape_columns = right.shape[right.ndim - columns :]
    b, m, n = math.prod(shape_batch), math.prod(shape_rows), math.prod(shape_columns)
    product = np.matmul(
        left.reshape(left.shape[0], b, m, -1), right.reshape(right.shape[0], b, -1, n)
    )
    shaped = product.reshape(product.shape[0], *shape_batch, *shape_rows, *shape_columns)
    out: FloatArray = shaped.transpose(orders[2])
    return out


def _single_product(
    orders: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]],
    counts: tuple[int, int, int, int],
    left: FloatArray,
    right: FloatArray,
) -> FloatArray:
    """Contract by one matrix product where there is one job and no batch axis."""
    _, rows, columns, _ = counts
    left, right = left.transpose(orders[0]), right.transpose(orders[1])
    shape_rows, shape_columns = left.shape[1 : 1 + rows], right.shape[right.ndim - columns :]
    product = np.dot(
        left.reshape(math.prod(shape_rows), -1), right.reshape(-1, math.prod(shape_columns))
    )
    out: FloatArray = product.reshape(1, *shape_rows, *shape_columns).transpose(orders[2])
    return out


class NumpyProgram:
    """A program bound to einsum strings.

    Parameters
    ----------
    program
        The compiled program.
    """

    uses_kernels = True
    #: Probability 0 in the arithmetic of this class.
    nothing = 0.0

    def __init__(self, program: Program) -> None:
        self.program = program
        self._collect = [self._bind(step) for step in program.collect]
        self._distribute_steps = {
            d.target: [
                (self._bind(step), program.enter[owner], role)
                for step, owner, role in zip(d.steps, d.owners, d.roles, strict=True)
            ]
            for d in program.distributions
        }
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
        self._columns = [
            np.arange(row, row + program.extents[v]) for v, row in enumerate(program.rows)
        ]
        # By identity of the tables; an entry holds its tables, so that the identity stays theirs.
        # Replaced as a whole, so that threads see the old or the new one.
        self._clean: dict[int, tuple[FloatArray, list[FloatArray | None], bool]] = {}
        # Tensors of the collect pass that hard evidence on a variable slices.
        self._with_axis: dict[int, list[tuple[int, tuple[slice, ...]]]] = {}
        sliced = [one.tensor for one in program.inputs] + [step.out for step in program.collect]
        sliced += [t for group in program.groups for t in (group.message, group.stacked)]
        sliced += [kernel.table for kernel in program.kernels]
        for relay in program.relays:
            self._with_axis.setdefault(relay.variable, []).append((relay.tensor, (slice(None),)))
        partitions = dict(program.partitions)
        for t in sliced:
            for position, a in enumerate(program.axes[t]):
                if a in partitions:
                    continue
                leading = (slice(None),) * (position + 1)
                self._with_axis.setdefault(a, []).append((t, leading))

    def _bind(self, step: Contraction) -> BoundStep:
        """Choose how numpy does a contraction: product, matrix product or einsum."""
        program = self.program
        axes = program.axes
        letters: dict[int, str] = {}

        def spell(tensor: int) -> str:
            return "Z" + "".join(
                letters.setdefault(a, _LETTERS[len(letters)]) for a in axes[tensor]
            )

        def spread(tensor: int) -> tuple[slice | None, ...] | None:
            # Axes have one order everywhere, so it takes only new axes of length 1.
            if axes[tensor] == axes[step.out]:
                return None
            index = tuple(slice(None) if a in axes[tensor] else None for a in axes[step.out])
            return (slice(None), *index)

        between = program.map_between.get(step.right)
        if between is not None and between.coarse in axes[step.left]:
            at = axes[step.left].index(between.coarse) + 1
            return BoundStep(
                step, "", None, None, None, (at, np.array(between.states, dtype=np.intp))
            )
        left = spell(step.left)
        if step.right == NONE:
            return BoundStep(step, f"{left}->{spell(step.out)}", None, None, None)
        formula = f"{left},{spell(step.right)}->{spell(step.out)}"
        a, b, out = (set(axes[t]) for t in (step.left, step.right, step.out))
        if a | b == out:
            return BoundStep(step, formula, (spread(step.left), spread(step.right)), None, None)
        summed = (a | b) - out
        size = math.prod(program.extents[x] for x in a | b)
        if summed <= a & b and size >= MATRIX_PRODUCT:
            batch = [x for x in axes[step.out] if x in a and x in b]
            rows = [x for x in axes[step.out] if x in a and x not in b]
            columns = [x for x in axes[step.out] if x in b and x not in a]
            inner = [x for x in axes[step.left] if x in summed]
            made = [*batch, *rows, *columns]
            return BoundStep(
                step,
                formula,
                None,
                (
                    (0, *(1 + axes[step.left].index(x) for x in (*batch, *rows, *inner))),
                    (0, *(1 + axes[step.right].index(x) for x in (*batch, *inner, *columns))),
                    (0, *(1 + made.index(x) for x in axes[step.out])),
                ),
                (len(batch), len(rows), len(columns), len(inner)),
            )
        return BoundStep(step, formula, None, None, None)

    # -- arithmetic: replaced by logs in the subclass ------------------------------------------

    def _contract(
        self, bound: BoundStep, left: FloatArray, right: FloatArray | None
    ) -> FloatArray:
        if bound.classes is not None:
            axis, states = bound.classes
            return left.take(states, axis=axis)
        if right is None:
            out: FloatArray = np.einsum(bound.formula, left)
            return out
        if bound.spread is not None:
            spread_left, spread_right = bound.spread
            if spread_left is not None:
                left = left[spread_left]
            return left * (right if spread_right is None else right[spread_right])
        if bound.orders is not None and bound.counts is not None:
            if left.shape[0] == right.shape[0] == 1 and not bound.counts[0]:
                return _single_product(bound.orders, bound.counts, left, right)
            return _matrix_product(bound.orders, bound.counts, left, right)
        out = np.einsum(bound.formula, left, right)
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
        inverse = _divide(np.ones(1), norm)
        return value * inverse.reshape(-1, *[1] * (value.ndim - 1))

    # -- running --------------------------------------------------------------------------------

    def _clean_values(self, tables: FloatArray, with_kernels: bool) -> list[FloatArray | None]:
        """Return every tensor of the collect pass without evidence, kept for the last tables.

        With more than one draw the steps are left out: they are run with every question. Kernels
        are computed when the distribute pass is first wanted.
        """
        with_kernels = with_kernels and self.uses_kernels
        found = self._clean.get(id(tables))
        if found is not None and (found[2] or not with_kernels):
            return found[1]
        program = self.program
        values: list[FloatArray | None] = [None] * len(program.axes)
        entered = self._enter(tables)
        sources = [(one.tensor, one.offset) for one in program.inputs]
        sources += [(group.stacked, group.offset) for group in program.groups]
        sources += [(relay.tensor, relay.offset) for relay in program.relays]
        sources += [(between.tensor, between.offset) for between in program.axis_maps]
        for tensor, offset in sources:
            shape = program.shape(tensor)
            size = math.prod(shape)
            values[tensor] = entered[:, offset : offset + size].reshape(-1, *shape)
        for group in program.groups:
            shape = (1, *program.shape(group.message))
            values[group.message] = self._enter(np.ones(shape))
        if tables.shape[0] == 1:
            for bound in self._collect:
                values[bound.step.out] = self._contract(
                    bound, *self._operands(bound.step, values)
                )
            if with_kernels:
                single = [None if value is None else value[0] for value in values]
                tables_of = compute_kernels(program, single)
                for kernel, table in zip(program.kernels, tables_of, strict=True):
                    values[kernel.table] = None if table is None else table[None]
        kept = dict(list(self._clean.items())[-2:])
        self._clean = kept | {id(tables): (tables, values, with_kernels)}
        return values

    @staticmethod
    def _operands(
        step: Contraction, values: list[FloatArray | None]
    ) -> tuple[FloatArray, FloatArray | None]:
        left = values[step.left]
        assert left is not None
        return left, None if step.right == NONE else values[step.right]

    def collect(
        self, evidence: EvidenceRows, tables: FloatArray, with_kernels: bool = False
    ) -> Collected:
        """Run the collect pass for one chunk of jobs; parameters as in `run`."""
        program = self.program
        jobs = max(evidence.rows, tables.shape[0])
        states = evidence.states
        fixed: dict[int, int] = {}
        weights: dict[int, FloatArray] = {}
        observed = np.flatnonzero((states != OPEN).any(axis=0))
        for v in observed.tolist():
            column = states[:, v]
            first = int(column[0])
            if first >= 0 and (len(column) == 1 or (column == first).all()):
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

        clean = self._clean_values(tables, with_kernels)
        values = list(clean)
        varying: set[int] = set()
        for v, state in fixed.items():
            here = (slice(state, state + 1),)
            for t, before in self._with_axis.get(v, ()):
                value = values[t]
                if value is not None:
                    values[t] = value[before + here]
        for v, weight in weights.items():
            home = program.home[v]
            if home == NONE:
                continue
            shape = [weight.shape[0]] + [1] * len(program.axes[home])
            shape[program.axes[home].index(v) + 1] = weight.shape[1]
            value = values[home]
            assert value is not None
            values[home] = self._times(value, self._enter(weight).reshape(shape))
            varying.add(home)

        # What is taken out of single messages is exact; only what products lose counts against
        # the trust in the result.
        scale = np.zeros(jobs)
        lost = np.zeros(jobs)
        messages: dict[int, FloatArray] = {}
        members: dict[int, list[int]] = {}
        for v in (*fixed, *weights):
            g = program.leaf_place[v][0]
            if g == NONE:
                continue
            message = self.raw_message(v, fixed, weights, values)
            messages[v], top = self._normalise(message)
            scale = scale + top
            members.setdefault(g, []).append(v)
        for g, observed_members in members.items():
            product = messages[observed_members[0]]
            for v in observed_members[1:]:
                product = self._times(product, messages[v])
            if len(observed_members) > 1:
                product, top = self._normalise(product)
                scale = scale + top
                lost = lost + top
            values[program.groups[g].message] = product
            varying.add(program.groups[g].message)

        use_clean = tables.shape[0] == 1
        hard_inner = {v for v in fixed if program.home[v] != NONE}
        for bound in self._collect:
            step = bound.step
            if (
                not use_clean
                or step.left in varying
                or step.right in varying
                or not hard_inner.isdisjoint(self._below[step.out])
            ):
                varying.add(step.out)
                values[step.out] = self._contract(bound, *self._operands(step, values))

        total = values[program.total]
        assert total is not None
        norm = self._sum(total, -1)
        inner = self._log(norm)
        root = np.zeros((jobs, program.extents[program.root]))
        if program.root in fixed:
            root[:, fixed[program.root]] = self._probability(total, norm)[:, 0]
        else:
            root[...] = self._probability(total, norm)
        return Collected(
            fixed=fixed,
            weights=weights,
            values=values,
            messages=messages,
            varying=varying,
            norm=norm,
            scale=scale,
            log_evidence=np.broadcast_to(inner + scale, (jobs,)).copy(),
            trusted=np.broadcast_to(inner + lost > LOG_FLOOR, (jobs,)).copy(),
            root=root,
        )

    def raw_message(
        self,
        v: int,
        fixed: dict[int, int],
        weights: dict[int, FloatArray],
        values: list[FloatArray | None],
    ) -> FloatArray:
        """Return what an observed leaf finding says about its parents, not scaled.

        Parameters
        ----------
        v
            The finding.
        fixed, weights, values
            As in `Collected`.

        Returns
        -------
        ndarray, shape (jobs or 1, parents)
        """
        g, n = self.program.leaf_place[v]
        group = self.program.groups[g]
        row = group.leaves[n].row
        stacked = self._states_last(group, values)
        if v in fixed:
            return stacked[..., row + fixed[v]]
        weight = weights[v]
        rows = stacked[..., row : row + weight.shape[1]]
        by_row = self._enter(weight).reshape(
            weight.shape[0], *[1] * (rows.ndim - 2), weight.shape[1]
        )
        return self._sum(self._times(rows, by_row), -1)

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
        got = self.collect(evidence, tables, distribution is not None)
        jobs = len(got.log_evidence)
        conditional: FloatArray | None = None
        posterior = got.root
        if carried != program.root:
            conditional = self._target_given_root(carried, got)
            wide = np.zeros(
                (conditional.shape[0], program.extents[program.root], conditional.shape[2])
            )
            rows: slice = slice(None)
            if program.root in got.fixed:
                rows = slice(got.fixed[program.root], got.fixed[program.root] + 1)
            wide[:, rows] = self._leave(conditional)
            posterior = np.matmul(got.root[:, None, :], wide)[:, 0]
        observed = np.broadcast_to(evidence.states >= 0, (jobs, evidence.states.shape[1]))
        if distribution is None:
            return Outcome(got.log_evidence, got.root, posterior, None, got.trusted, observed)
        if conditional is not None:
            got.values[distribution.map_tensor] = conditional
        joint = self._distribute(distribution, got, posterior)
        if conditional is not None:
            start = program.rows[program.root]
            block = np.swapaxes(got.root[:, :, None] * wide, 1, 2)
            joint[:, :, start : start + block.shape[2]] = block
        return Outcome(got.log_evidence, got.root, posterior, joint, got.trusted, observed)

    def _distribute(
        self, distribution: Distribution, got: Collected, posterior: FloatArray
    ) -> FloatArray:
        """Run the distribute pass; return P(target, variable | evidence) of all variables."""
        program = self.program
        target = distribution.target
        values, fixed, norm = got.values, got.fixed, got.norm
        jobs = len(got.log_evidence)
        hidden = self._hidden(got)
        contract = self._contract
        for bound, place, role in self._distribute_steps[target]:
            if hidden.get(place, SHOWN) in _RUNS[role]:
                out, first, second = bound.step.out, bound.step.left, bound.step.right
                operand = values[first]
                assert operand is not None
                values[out] = contract(bound, operand, None if second == NONE else values[second])

        k = program.extents[target]
        joint = np.full((jobs, k, program.row_count), self.nothing)
        # The root keeps its axis unless it is observed itself, and then one state of it is left.
        here: slice = slice(None)
        if target == program.root and target in fixed:
            here = slice(fixed[target], fixed[target] + 1)
        for kernel, tensor in zip(program.kernels, distribution.kernel_answers, strict=True):
            if hidden.get(program.enter[kernel.tensor]) == TOP:
                block = values[tensor]
                assert block is not None
                last = kernel.first + kernel.columns
                joint[:, here, kernel.first : last] = block
        for reading, owner in zip(
            distribution.readings, distribution.reading_owners, strict=True
        ):
            if program.enter[owner] in hidden:
                continue
            block = values[reading.tensor]
            assert block is not None
            start = reading.row
            if program.axes[reading.tensor][-1] in (target, program.root):
                block = np.swapaxes(block, 1, 2)
            if reading.variable in fixed:
                start += fixed[reading.variable]
            joint[:, here, start : start + block.shape[2]] = block
        joint = self._probability(joint, norm)
        self._observed_leaves(distribution, got, posterior, joint)
        start = program.rows[target]
        joint[:, :, start : start + k] = posterior[:, :, None] * np.eye(k)
        return joint

    def _hidden(self, got: Collected) -> dict[int, int]:
        """Return which places of the tree kernels answer for: TOP at a kernel, BELOW under it."""
        program = self.program
        hidden: dict[int, int] = {}
        for kernel in program.kernels:
            place = program.enter[kernel.tensor]
            if (
                place not in hidden
                and kernel.tensor not in got.varying
                and got.values[kernel.table] is not None
            ):
                hidden.update(dict.fromkeys(range(place, program.leave[kernel.tensor]), BELOW))
                hidden[place] = TOP
        return hidden

    def _target_given_root(self, target: int, got: Collected) -> FloatArray:
        """Return P(target | root, evidence on the target), shape (jobs, k_root, k_target)."""
        program = self.program
        g, n = program.leaf_place[target]
        group = program.groups[g]
        leaf = group.leaves[n]
        k = program.extents[target]
        table = self._states_last(group, got.values)[..., leaf.row : leaf.row + k]
        if target in got.fixed:
            weight = np.zeros((1, k))
            weight[0, got.fixed[target]] = 1.0
        elif target in got.weights:
            weight = got.weights[target]
        else:
            return table
        weighted = self._times(table, self._enter(weight)[:, None, :])
        return self._over(weighted, self._sum(weighted, -1)[..., None])

    def _observed_leaves(
        self,
        distribution: Distribution,
        got: Collected,
        posterior: FloatArray,
        joint: FloatArray,
    ) -> None:
        """Replace the columns of observed leaf findings, which were read as if they were open."""
        program = self.program
        target = distribution.target
        certain = [v for v in got.messages if v in got.fixed]
        if certain:
            joint[:, :, np.concatenate([self._columns[v] for v in certain])] = 0.0
            joint[:, :, [program.rows[v] + got.fixed[v] for v in certain]] = posterior[:, :, None]
        for v, message in got.messages.items():
            if v in got.fixed:
                continue
            k = program.extents[v]
            start = program.rows[v]
            g, n = program.leaf_place[v]
            group = program.groups[g]
            leaf = group.leaves[n]
            belief, axes = self._group_belief(distribution, g, got.values)
            rows = self._states_last(group, got.values)[..., leaf.row : leaf.row + k]
            # P(v, target | e) = w(v) sum_parents P(v | parents) P(parents, target | e) / message
            lifted = self._over(
                belief, message.reshape(message.shape + (1,) * (belief.ndim - message.ndim))
            )
            names = {a: _LETTERS[i] for i, a in enumerate(axes)}
            parents = "".join(names[a] for a in program.axes[group.message])
            everything = "".join(names[a] for a in axes)
            carried = self._carrier(target, axes)
            block: FloatArray = np.einsum(
                f"Z{parents}z,Z{everything},Zz->Z{names[carried]}z",
                self._leave(rows),
                self._relative(lifted),
                got.weights[v],
            )
            if carried != target:
                conditional = got.values[self._map(distribution, carried)]
                assert conditional is not None
                block = np.matmul(np.swapaxes(self._leave(conditional), 1, 2), block)
            scaled = _divide(block, block.sum(axis=(1, 2))[:, None, None])
            if target == program.root and target in got.fixed:
                joint[:, :, start : start + k] = 0.0
                here = got.fixed[target]
                joint[:, here : here + 1, start : start + k] = scaled
            else:
                joint[:, :, start : start + k] = scaled

    def _carrier(self, target: int, axes: tuple[int, ...]) -> int:
        """Return the axis that tells the target."""
        if target in axes:
            return target
        relays = {relay.variable for relay in self.program.relays if relay.target == target}
        classes = {m.fine for m in self.program.axis_maps if m.coarse == target}
        return min({self.program.root, *relays, *classes} & set(axes))

    def _map(self, distribution: Distribution, carrier: int) -> int:
        """Return the tensor that maps the root or a relay to the target."""
        for relay in self.program.relays:
            if (relay.variable, relay.target) == (carrier, distribution.target):
                return relay.tensor
        for between in self.program.axis_maps:
            if carrier != self.program.root and (between.fine, between.coarse) == (
                carrier, distribution.target
            ):
                return between.tensor
        return distribution.map_tensor

    @staticmethod
    def _states_last(group: LeafGroup, values: list[FloatArray | None]) -> FloatArray:
        stacked = values[group.stacked]
        assert stacked is not None
        return np.moveaxis(stacked, 1, -1) if group.narrow else stacked

    def _group_belief(
        self, distribution: Distribution, g: int, values: list[FloatArray | None]
    ) -> tuple[FloatArray, tuple[int, ...]]:
        """Return P(parents, target, evidence) of a group, parents axes first, and its axes."""
        program = self.program
        group = program.groups[g]
        tensor = next(s.right for s in distribution.steps if s.left == group.stacked)
        value = values[tensor]
        assert value is not None
        axes = program.axes[tensor]
        parents = program.axes[group.message]
        wanted = (*parents, *(a for a in axes if a not in parents))
        return value.transpose(0, *(axes.index(a) + 1 for a in wanted)), wanted
