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
from epidural_dx.inference.numpy_steps import BoundStep, Operation, operation
from epidural_dx.inference.plan import (
    ADJOINT,
    KERNEL,
    NONE,
    READ,
    Contraction,
    Distribution,
    Program,
)

_LETTERS = "abcdefghijklmnopqrstuvwxyABCDEFGHIJKLMNOPQRSTUVWXY"


# Where a tensor stands with respect to kernels: adjoints are needed everywhere but below one,
# readings where there is none, its own steps at its top.
SHOWN, TOP, BELOW = 0, 1, 2


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


class Visit(NamedTuple):
    """What the distribute pass does at one place of the tree.

    Parameters
    ----------
    place
        The place.
    adjoint, read, kernel
        Steps by their role.
    """

    place: int
    adjoint: list[BoundStep]
    read: list[BoundStep]
    kernel: list[BoundStep]


class NumpyProgram:
    """A program whose steps are bound to functions of numpy.

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
        self._walks = {d.target: self._walk(d) for d in program.distributions}
        # (place, tensor, first column, whether the target is the last axis, variable)
        self._readings = {
            d.target: [
                (
                    program.enter[owner],
                    one.tensor,
                    one.row,
                    program.axes[one.tensor][-1] in (d.target, program.root),
                    one.variable,
                )
                for one, owner in zip(d.readings, d.reading_owners, strict=True)
            ]
            for d in program.distributions
        }
        # For every group the tensor with its belief.
        self._beliefs = {
            d.target: [
                next(s.right for s in d.steps if s.left == group.stacked)
                for group in program.groups
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
        # Tensors below which a variable is summed out: hard evidence on it changes their values.
        self._above: dict[int, set[int]] = {}
        for t, summed in below.items():
            for v in summed:
                self._above.setdefault(v, set()).add(t)
        # Of a narrow group the states come first; here they are wanted last.
        self._last_order = [
            (0, *range(2, 2 + len(program.axes[group.message])), 1) if group.narrow else None
            for group in program.groups
        ]
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

    def _walk(self, distribution: Distribution) -> list[Visit]:
        """Bind the distribute pass, the steps for one tensor of the tree together."""
        visits: list[Visit] = []
        steps = zip(distribution.steps, distribution.owners, distribution.roles, strict=True)
        for step, owner, role in steps:
            place = self.program.enter[owner]
            if not visits or visits[-1].place != place:
                visits.append(Visit(place, [], [], []))
            visit = visits[-1]
            kinds = {ADJOINT: visit.adjoint, READ: visit.read, KERNEL: visit.kernel}
            kinds[role].append(self._bind(step))
        return visits

    def _bind(self, step: Contraction) -> BoundStep:
        return BoundStep(step.out, step.left, step.right, self._operation(step))

    # -- arithmetic: replaced by logs in the subclass ------------------------------------------

    def _operation(self, step: Contraction) -> Operation:
        """Return the function that does a contraction."""
        return operation(self.program, step)

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

    def _normalise(self, message: FloatArray) -> tuple[FloatArray, FloatArray | float]:
        """Divide by the largest entry of every job; return (scaled, log of what was taken out)."""
        if message.shape[0] == 1:
            single = float(message.max())
            return (message / single, math.log(single)) if single > 0.0 else (message, 0.0)
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
        # The last one is the operand that is not there, number -1.
        values: list[FloatArray | None] = [None] * (len(program.axes) + 1)
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
            for out, left, right, operate in self._collect:
                values[out] = operate(values[left], values[right])
            if with_kernels:
                single = [None if value is None else value[0] for value in values]
                tables_of = compute_kernels(program, single)
                for kernel, table in zip(program.kernels, tables_of, strict=True):
                    values[kernel.table] = None if table is None else table[None]
        kept = dict(list(self._clean.items())[-2:])
        self._clean = kept | {id(tables): (tables, values, with_kernels)}
        return values

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
        dirty: set[int] = set()
        for v in fixed:
            dirty |= self._above.get(v, set())
        for v, state in fixed.items():
            here = (slice(state, state + 1),)
            for t, before in self._with_axis.get(v, ()):
                value = values[t]
                if value is not None and t not in dirty:
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
        scale: FloatArray | float = 0.0
        lost: FloatArray | float = 0.0
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
        for out, left, right, operate in self._collect:
            if left in varying or right in varying or out in dirty or not use_clean:
                varying.add(out)
                values[out] = operate(values[left], values[right])

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
            scale=np.broadcast_to(scale, (jobs,)),
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
        stacked = self._states_last(g, values)
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
        for visit in self._walks[target]:
            state = hidden.get(visit.place, SHOWN)
            if state == BELOW:
                continue
            for out, left, right, operate in visit.adjoint:
                values[out] = operate(values[left], values[right])
            for out, left, right, operate in visit.read if state == SHOWN else visit.kernel:
                values[out] = operate(values[left], values[right])

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
        for place, tensor, start, swapped, variable in self._readings[target]:
            if place in hidden:
                continue
            block = values[tensor]
            assert block is not None
            if swapped:
                block = block.swapaxes(1, 2)
            if variable in fixed:
                start += fixed[variable]
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
        table = self._states_last(g, got.values)[..., leaf.row : leaf.row + k]
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
            rows = self._states_last(g, got.values)[..., leaf.row : leaf.row + k]
            # P(v, target | e) = w(v) sum_parents P(v | parents) P(parents, target | e) / message
            lifted = self._over(
                belief, message.reshape(message.shape + (1,) * (belief.ndim - message.ndim))
            )
            names = {a: _LETTERS[i] for i, a in enumerate(axes)}
            parents = "".join(names[a] for a in program.axes[group.message])
            everything = "".join(names[a] for a in axes)
            carried = self._carrier(target, axes)
            # Two operands at a time: einsum goes through all axes of three at once.
            weight = got.weights[v]
            by_state = weight.reshape(weight.shape[0], *[1] * (rows.ndim - 2), k)
            block: FloatArray = np.einsum(
                f"Z{parents}z,Z{everything}->Z{names[carried]}z",
                self._leave(rows) * by_state,
                self._relative(lifted),
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

    def _states_last(self, g: int, values: list[FloatArray | None]) -> FloatArray:
        stacked, order = values[self.program.groups[g].stacked], self._last_order[g]
        assert stacked is not None
        return stacked if order is None else stacked.transpose(order)

    def _group_belief(
        self, distribution: Distribution, g: int, values: list[FloatArray | None]
    ) -> tuple[FloatArray, tuple[int, ...]]:
        """Return P(parents, target, evidence) of a group, parents axes first, and its axes."""
        program = self.program
        group = program.groups[g]
        tensor = self._beliefs[distribution.target][g]
        value = values[tensor]
        assert value is not None
        axes = program.axes[tensor]
        parents = program.axes[group.message]
        wanted = (*parents, *(a for a in axes if a not in parents))
        return value.transpose(0, *(axes.index(a) + 1 for a in wanted)), wanted
