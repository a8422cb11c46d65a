"""Compile a network into a plan: a fixed list of contractions that answers every query.

The plan is a rooted tree of pairwise contractions ``out = sum(left * right)`` over all factors
of the network (the *collect* pass, which ends in P(root, evidence)), followed by the reverse of
the same tree (the *distribute* pass), in which every table also carries the axis of the target.
The reverse pass is reverse-mode differentiation of the collect pass, so the product of a table
and its adjoint is the joint distribution of the target and the axes of that table. Consequences:

* factors stay factored; no clique table is ever multiplied out unless it is the cheapest way;
* *leaf findings* (children that no other factor mentions) never enter the tree. All leaf findings
  with the same parents form a *group*: observed, a finding multiplies one column into the message
  of its group; open, it is read out by one matrix product together with its whole group;
* the target axis is carried only where the root is not an axis already. A target that is a leaf
  child of the root (a coarser version of it) replaces the root as soon as the root would have to
  be carried along, so coarse targets cost less than fine ones;
* a variable that such a target is a function of, by the zeros of its table given the root, is a
  *relay*: a table that has the relay as an axis carries neither root nor target along;
* states of the root that tables treat alike share a slice: such a table has as axis a *partition*
  of the root's states, its classes, in place of the root (see `sharing`). Tables of different
  partitions meet in the coarsest one that tells apart what either does. A target that is a
  function of the root is a partition too, so carrying it costs little more than not carrying it;
* evidence on an inner variable shortens its axis to one state, in whatever table it occurs. A
  table that has seen no evidence below it is the same in every query and is kept.

A plan is plain data: frozen, picklable and the same on every machine.
"""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from epidural_dx.inference.elimination import candidate_orders, cliques, moral_graph
from epidural_dx.inference.network import FloatArray, Network
from epidural_dx.inference.sharing import (
    Shared,
    canonical,
    find_shared,
    joined,
    numbered,
    share_tables,
)

#: A target of a query: one variable, or several whose joint distribution is wanted.
Target = int | tuple[int, ...]

#: Marks an absent operand of a contraction.
NONE = -1

#: Groups of leaf findings with fewer states than this are laid out with the states first.
NARROW = 8

#: What a turn of an inner loop and a step cost besides their multiply-adds, and a cell along a map,
#: in multiply-adds (0.08 nanoseconds each in long vectors).
TURN, STEP, MAP_CELL = 8.0, 1000.0, 5.0

#: Share of the moves of variables that bring one next to a neighbour.
NEAR = 0.7

#: Seed of those moves. On the project's network others end up to a tenth worse, some 1 % better.
MOVES_SEED = 5

#: How much a question counts for which nothing is known of what is usually observed.
UNUSUAL = 0.15

#: An order whose collect pass is so many times that of the best one is looked at no further.
HOPELESS = 1.15

#: What a cell of a kernel costs, in multiply-adds: kernels are large and come from far away.
KERNEL_CELL = 5.0

#: A program that shares slices is kept where its effort is less than so many times the other's.
WORTH_SHARING = 1.0

#: Tables with a smaller share of cells that are not zero are searched for them.
SPARSE = 0.35

#: Largest number of cells of a kernel.
LARGEST_KERNEL = 100_000


@dataclass(frozen=True)
class Contraction:
    """One instruction ``out = sum(left * right)`` over the axes that ``out`` does not have.

    Parameters
    ----------
    out, left, right
        Numbers of tensors; ``right`` is -1 when ``left`` is only summed.
    """

    out: int
    left: int
    right: int = NONE


@dataclass(frozen=True)
class FactorInput:
    """A tensor that is a factor of the network with its axes permuted.

    Parameters
    ----------
    tensor
        Number of the tensor.
    factor
        Number of the factor, or -1 for a table of ones. The number after the last factor is the
        scale of the shared potentials.
    permutation
        ``tensor = factor.table.transpose(permutation)``.
    offset
        Where its cells start in the packed tables.
    """

    tensor: int
    factor: int
    permutation: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Relay:
    """A variable of which a carried target is a function.

    Parameters
    ----------
    variable
        The relay. Its table has the root as only parent, or shares a potential with it.
    target
        The target.
    tensor
        Its map: 1 where the state of the relay allows the state of the target, axes
        (relay, target).
    states
        The state of the target for every state of the relay.
    offset
        Where the map lies in the packed tables.
    factors
        The factors whose zeros make it a function: draws must keep them.
    """

    variable: int
    target: int
    tensor: int
    states: tuple[int, ...]
    offset: int
    factors: tuple[int, int]


@dataclass(frozen=True)
class AxisMap:
    """The classes of one partition of the root in terms of a coarser one.

    Parameters
    ----------
    tensor
        Its table: 1 where a class of the fine partition lies in a class of the coarse one. Its
        axes are the two, in the order of axes.
    fine, coarse
        The axes.
    states
        The coarse class of every fine class.
    offset
        Where the table lies in the packed tables.
    """

    tensor: int
    fine: int
    coarse: int
    states: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Leaf:
    """A leaf finding and its place in the stacked table of its group.

    Parameters
    ----------
    variable, factor
        The finding and its conditional probability table.
    permutation
        ``stacked[..., row : row + k] = factor.table.transpose(permutation)``, the group axis last.
    row
        First place on the group axis of the stacked table.
    """

    variable: int
    factor: int
    permutation: tuple[int, ...]
    row: int


@dataclass(frozen=True)
class LeafGroup:
    """Leaf findings that have the same parents.

    Parameters
    ----------
    message
        Tensor with the product of the messages of the observed members; axes = parents.
    stacked
        Tensor with all their tables, axes = (parents, states of all members), or (states of all
        members, parents) if `narrow`.
    leaves
        The members.
    rows
        Length of the group axis of the stacked table.
    offset
        Where the stacked table starts in the packed tables.
    narrow
        True for a group with few states.
    """

    message: int
    stacked: int
    leaves: tuple[Leaf, ...]
    rows: int
    offset: int
    narrow: bool


@dataclass(frozen=True)
class Reading:
    """Copy a finished tensor into the columns of the answer, shape (k_target, states).

    Parameters
    ----------
    tensor
        The tensor, axes (variable, target), (target, group) or (narrow group, target).
    row
        First column of the answer.
    variable
        The inner variable it belongs to, or -1 for a group.
    group
        The group it belongs to, or -1 for an inner variable.
    """

    tensor: int
    row: int
    variable: int = NONE
    group: int = NONE


@dataclass(frozen=True)
class Kernel:
    """A shortcut for a subtree without evidence, see `kernels`.

    Parameters
    ----------
    tensor
        Collect-pass tensor at the top of the subtree.
    table
        Tensor P(variables below | axes of ``tensor``), axes (axes of ``tensor``, kernel).
    first, columns
        Its answers are these columns of the answer.
    """

    tensor: int
    table: int
    first: int
    columns: int


#: What a step of the distribute pass is for: the adjoint of its owner, a reading from it, or the
#: kernel that replaces the readings of the subtree of its owner.
ADJOINT, READ, KERNEL = 0, 1, 2


@dataclass(frozen=True)
class Distribution:
    """The distribute pass for one carried target.

    Parameters
    ----------
    target
        The carried variable: the root or a leaf child of it.
    map_tensor
        Tensor P(target | root, evidence on target), axes (root, target); -1 when the target is
        the root.
    steps
        Contractions in order.
    owners, roles
        For every step the collect-pass tensor it works for, and how: 0 its adjoint, 1 a reading
        from it, 2 the kernel for its subtree.
    readings
        Which tensors are answers.
    reading_owners
        For every reading the collect-pass tensor it is read at.
    kernel_answers
        For every kernel the tensor with its answer, axes (target, kernel).
    """

    target: int
    map_tensor: int
    steps: tuple[Contraction, ...]
    owners: tuple[int, ...]
    roles: tuple[int, ...]
    readings: tuple[Reading, ...]
    reading_owners: tuple[int, ...]
    kernel_answers: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """Collect pass for one root, and one distribute pass for each target that hangs on it.

    Parameters
    ----------
    root
        The variable at which the collect pass ends.
    axes
        Axes of every tensor. Numbers from ``len(cardinalities)`` on are group axes: the stacked
        states of the members of a group.
    extents
        Number of states of every axis number.
    order
        Elimination order of the inner variables.
    inputs
        Tensors that are factors.
    groups
        Groups of leaf findings.
    collect
        Contractions of the collect pass.
    total
        Tensor P(root, evidence).
    distributions
        Distribute passes.
    rows
        First column of every variable in the answer.
    row_count
        Number of columns of the answer, the sum of all cardinalities.
    home
        For every inner variable the tensor that takes its likelihood, -1 for leaf findings.
    leaf_place
        For every variable (group, member), or (-1, -1) for inner variables.
    cells
        Number of packed table cells.
    density
        For every tensor that is a table of the network the share of its cells that are not zero;
        1 for the others.
    reads
        Pairs (collect-pass tensor, inner variable that is read there).
    enter, leave
        For every collect-pass tensor t its place in a walk from the total downwards, and the end
        of its subtree: the tensors below it are those with ``enter[t] < enter < leave[t]``.
    kernels
        Shortcuts for subtrees without evidence, outer ones first.
    relays
        Variables that targets are functions of.
    sharing
        Factors that are kept with one slice for each class of states of the root.
    axis_maps
        The maps between partitions of the root.
    partitions
        Pairs (axis, class of every state of the root): the axes that are partitions of the root,
        the root itself among them. None for a program that shares nothing.
    usually_observed
        Variables that the order was chosen for.
    """

    root: int
    axes: tuple[tuple[int, ...], ...]
    extents: tuple[int, ...]
    order: tuple[int, ...]
    inputs: tuple[FactorInput, ...]
    groups: tuple[LeafGroup, ...]
    collect: tuple[Contraction, ...]
    total: int
    distributions: tuple[Distribution, ...]
    rows: tuple[int, ...]
    row_count: int
    home: tuple[int, ...]
    leaf_place: tuple[tuple[int, int], ...]
    cells: int
    density: tuple[float, ...]
    reads: tuple[tuple[int, int], ...]
    enter: tuple[int, ...]
    leave: tuple[int, ...]
    kernels: tuple[Kernel, ...]
    relays: tuple[Relay, ...]
    sharing: tuple[Shared, ...] = ()
    axis_maps: tuple[AxisMap, ...] = ()
    partitions: tuple[tuple[int, tuple[int, ...]], ...] = ()
    usually_observed: tuple[int, ...] = ()

    def distribution(self, target: int) -> Distribution:
        """Return the distribute pass that carries `target`."""
        for distribution in self.distributions:
            if distribution.target == target:
                return distribution
        raise KeyError(target)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return the full shape of a tensor."""
        return tuple(self.extents[a] for a in self.axes[tensor])

    def step_size(self, step: Contraction, observed: frozenset[int] = frozenset()) -> float:
        """Return the multiply-adds of one contraction.

        Observed axes count once. The zeros of a table are not counted where the interpreter
        skips them: when a table that is mostly zero is used as a scalar in front of a vector, and
        in the map from the root to a target that is a function of it.
        """
        axes = set(self.axes[step.left])
        density = 1.0
        if step.right in self.map_between:
            # Along a map cells are only copied or added up.
            return max(
                math.prod(self.extents[a] for a in self.axes[t] if a not in observed)
                for t in (step.left, step.out)
            )
        if step.right != NONE:
            axes.update(self.axes[step.right])
            last = self.axes[step.out][-1] if self.axes[step.out] else NONE
            for t in (step.left, step.right):
                if t in self.maps or (self.density[t] < SPARSE and last not in self.axes[t]):
                    density = min(density, self.density[t])
        return math.prod(self.extents[a] for a in axes if a not in observed) * density

    @cached_property
    def maps(self) -> frozenset[int]:
        """Tensors that map the root or a relay to a target."""
        return (
            frozenset(d.map_tensor for d in self.distributions)
            | frozenset(relay.tensor for relay in self.relays)
            | frozenset(self.map_between)
        )

    @cached_property
    def map_between(self) -> dict[int, AxisMap]:
        """The maps between partitions by tensor."""
        return {one.tensor: one for one in self.axis_maps}

    @cached_property
    def relay_variables(self) -> frozenset[int]:
        """Variables that are relays of some target."""
        return frozenset(relay.variable for relay in self.relays)

    def multiply_adds(self, target: int | None, observed: Iterable[int] = ()) -> int:
        """Return the multiply-adds of a query without any caching; see `step_size` for zeros.

        Parameters
        ----------
        target
            The carried target; None counts the collect pass only.
        observed
            Variables with hard evidence.

        Returns
        -------
        int
        """
        seen = frozenset(observed)
        total = sum(self.step_size(step, seen) for step in self.collect)
        for group in self.groups:
            parents = math.prod(
                self.extents[a] for a in self.axes[group.message] if a not in seen
            )
            total += parents * sum(1 for leaf in group.leaves if leaf.variable in seen)
        if target is not None:
            distribution = self.distribution(target)
            fused = self.fused(distribution)
            total += sum(
                self.step_size(step, seen)
                for step, role in zip(distribution.steps, distribution.roles, strict=True)
                if role != KERNEL and step not in fused
            )
        return round(total)

    def fused(self, distribution: Distribution) -> frozenset[Contraction]:
        """Return the maps that are done together with the product before them.

        The product is multiplied and added in one step; it is needed for nothing else.
        """
        uses = Counter(t for step in distribution.steps for t in (step.left, step.right))
        uses.update(reading.tensor for reading in distribution.readings)
        uses.update(distribution.kernel_answers)
        pairs = zip(distribution.steps[:-1], distribution.steps[1:], strict=True)
        found = set()
        for product, mapping in pairs:
            if (
                mapping.left != product.out
                or mapping.right not in self.maps
                or product.right in (NONE, *self.maps)
                or uses[product.out] != 1
            ):
                continue
            # Both must run along the states that are mapped, and those must be added up.
            carrier, told = self.mapping(mapping.right)
            if self.axes[mapping.out][-1:] == (told,) and carrier not in self.axes[mapping.out]:
                operands = [self.axes[t] for t in (product.left, product.right)]
                if all(axes[-1] == carrier for axes in operands if carrier in axes):
                    found.add(mapping)
        return frozenset(found)

    def mapping(self, tensor: int) -> tuple[int, int]:
        """Return the axis that a map goes from, and the one it goes to."""
        between = self.map_between.get(tensor)
        if between is not None:
            return between.fine, between.coarse
        for relay in self.relays:
            if relay.tensor == tensor:
                return relay.variable, relay.target
        carrier, target = self.axes[tensor]
        return (carrier, target) if carrier == self.root else (target, carrier)

    def pack(self, tables: Sequence[FloatArray]) -> FloatArray:
        """Bring the tables of all factors into the order the plan works in.

        Parameters
        ----------
        tables
            One array per factor, shape of the factor's table, or ``(draws, *shape)`` for any of
            them to give parameter draws (the others are then the same in every draw).

        Returns
        -------
        ndarray, shape (draws, cells)
        """
        return self.place(self.adapt(tables))

    def adapt(self, tables: Sequence[FloatArray]) -> list[FloatArray]:
        """Return the tables with shared slices once, and the scale of the potentials after them.

        Parameters
        ----------
        tables
            As in `pack`.

        Returns
        -------
        list of ndarray
            Equal to `tables` for a program that shares nothing.
        """
        if not self.sharing:
            return list(tables)
        dimensions = [self.dimensions(number) for number in range(len(tables))]
        return share_tables(self.sharing, self.extents[self.root], tables, dimensions)

    def dimensions(self, factor: int) -> int:
        """Return the number of variables of a factor."""
        return self._dimensions[factor]

    @cached_property
    def _dimensions(self) -> dict[int, int]:
        found = {one.factor: len(one.permutation) for one in self.inputs}
        for group in self.groups:
            found |= {leaf.factor: len(leaf.permutation) for leaf in group.leaves}
        return found

    def place(self, tables: Sequence[FloatArray]) -> FloatArray:
        """Put adapted tables into the packed order; shapes as in `pack`."""
        draws = 1
        for factor_input in self.inputs:
            if factor_input.factor >= 0:
                draws = max(draws, _draws(tables[factor_input.factor], factor_input.permutation))
        for group in self.groups:
            for leaf in group.leaves:
                draws = max(draws, _draws(tables[leaf.factor], leaf.permutation))
        packed = np.ones((draws, self.cells))
        for factor_input in self.inputs:
            if factor_input.factor < 0:
                continue
            table = _with_draws(tables[factor_input.factor], factor_input.permutation)
            size = math.prod(table.shape[1:])
            block = packed[:, factor_input.offset : factor_input.offset + size]
            block[...] = table.reshape(table.shape[0], size)
        for relay in self.relays:
            size = len(relay.states) * self.extents[relay.target]
            one_hot = np.eye(self.extents[relay.target])[list(relay.states)]
            packed[:, relay.offset : relay.offset + size] = one_hot.ravel()
        for between in self.axis_maps:
            one_hot = np.eye(self.extents[between.coarse])[list(between.states)]
            if self.axes[between.tensor] != (between.fine, between.coarse):
                one_hot = one_hot.T
            packed[:, between.offset : between.offset + one_hot.size] = one_hot.ravel()
        for group in self.groups:
            shape = self.shape(group.stacked)
            size = math.prod(shape)
            block = packed[:, group.offset : group.offset + size].reshape(draws, *shape)
            states_last = np.moveaxis(block, 1, -1) if group.narrow else block
            for leaf in group.leaves:
                table = _with_draws(tables[leaf.factor], leaf.permutation)
                states_last[..., leaf.row : leaf.row + table.shape[-1]] = table
            packed[:, group.offset : group.offset + size] = block.reshape(draws, size)
        return packed


def _draws(table: FloatArray, permutation: tuple[int, ...]) -> int:
    return int(table.shape[0]) if table.ndim > len(permutation) else 1


def _with_draws(table: FloatArray, permutation: tuple[int, ...]) -> FloatArray:
    """Permute the variables of a table and give it a leading draws axis."""
    if table.ndim == len(permutation):
        table = table[None]
    return table.transpose(0, *(p + 1 for p in permutation))


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that can be known before the first question is asked.

    Parameters
    ----------
    network
        The compiled network.
    targets
        The targets, each a tuple of variables; the first is the default of every query.
    programs
        One program for each root that the targets need, then those with shared slices.
    target_programs
        For every target the number of its program.
    shared_programs
        For every target the number of a cheaper program that keeps slices of tables once that are
        alike for several states of the root, or -1. It takes no hard evidence on the root.
    carried
        For every target the variable that its program carries. The other variables of the target
        are enumerated as evidence.
    """

    network: Network
    targets: tuple[tuple[int, ...], ...]
    programs: tuple[Program, ...]
    target_programs: tuple[int, ...]
    carried: tuple[int, ...]
    usually_observed: tuple[int, ...] = field(default=())
    shared_programs: tuple[int, ...] = field(default=())

    def program_of(self, index: int) -> int:
        """Return the number of the cheapest program for the target number `index`."""
        shared = self.shared_programs[index] if self.shared_programs else NONE
        return self.target_programs[index] if shared == NONE else shared

    def target_index(self, target: Target | None) -> int:
        """Return the place of `target` among the targets; None is the first."""
        if target is None:
            return 0
        wanted = (target,) if isinstance(target, int) else tuple(target)
        if wanted not in self.targets:
            raise KeyError(f"{wanted} was not among the targets {self.targets} of the plan")
        return self.targets.index(wanted)

    def multiply_adds(
        self, target: Target | None = None, observed: Iterable[int] | None = None
    ) -> int:
        """Return the multiply-adds of one main job, nothing cached and no zero skipped.

        Parameters
        ----------
        target
            One of the targets, by default the first.
        observed
            Variables with hard evidence; by default those that are usually observed.

        Returns
        -------
        int
        """
        k = self.target_index(target)
        seen = self.usually_observed if observed is None else tuple(observed)
        passes = math.prod(
            self.network.cardinalities[v]
            for v in self.targets[k]
            if v != self.carried[k] and v not in seen
        )
        return passes * self.programs[self.program_of(k)].multiply_adds(self.carried[k], seen)

    def size(self) -> dict[str, int]:
        """Return how large the plan is.

        Returns
        -------
        dict
            ``variables``, ``table_cells``, ``programs``, ``contractions`` (collect pass and the
            distribute passes of all targets), ``kernel_cells`` and ``multiply_adds`` of the main
            job for the first target, the usually observed variables known.
        """
        contractions = kernel_cells = 0
        for program in self.programs:
            contractions += len(program.collect)
            contractions += sum(len(d.steps) for d in program.distributions)
            kernel_cells += sum(math.prod(program.shape(k.table)) for k in program.kernels)
        return {
            "variables": self.network.size,
            "table_cells": self.network.cells,
            "programs": len(self.programs),
            "contractions": contractions,
            "kernel_cells": kernel_cells,
            "multiply_adds": self.multiply_adds(),
        }

    @cached_property
    def packed(self) -> tuple[FloatArray, ...]:
        """Tables of the network in the order of every program, each of shape (1, cells)."""
        tables = [factor.table for factor in self.network.factors]
        return tuple(program.pack(tables) for program in self.programs)

    @cached_property
    def support(self) -> tuple[FloatArray, ...] | None:
        """Packed tables with every column spread evenly over its positive cells.

        With these, evidence has probability 0 exactly when it is impossible: no product is small
        enough to underflow. None for a network so large that one could be.
        """
        tables = []
        smallest = 0.0
        for factor in self.network.factors:
            table = (factor.table > 0).astype(np.float64)
            if factor.child is not None:
                table /= table.sum(axis=-1, keepdims=True)
            smallest += float(np.log(table[table > 0].min(initial=1.0)))
            tables.append(table)
        if smallest < -600.0:
            return None
        return tuple(program.pack(tables) for program in self.programs)


class CannotShare(Exception):
    """A program with shared slices cannot be written in some order; the plain one can."""


def compile_network(
    network: Network,
    target: Target,
    *further_targets: Target,
    usually_observed: Sequence[int] = (),
    tries: int = 48,
) -> Plan:
    """Compile a network once for many queries.

    Parameters
    ----------
    network
        Any discrete network.
    target
        The default target: a variable, or a tuple of variables whose joint distribution is
        wanted.
    *further_targets
        More targets that queries may ask for. A target that is a leaf child of another target
        shares its program; of a tuple, one variable is carried through the tables and the others
        are enumerated.
    usually_observed
        Variables that most questions come with (age, sex): the plan is made cheap for them. Any
        variable may be observed or not all the same.
    tries
        Number of greedy elimination runs to choose from.

    Returns
    -------
    Plan
    """
    targets: list[tuple[int, ...]] = []
    for one in (target, *further_targets):
        as_tuple = (int(one),) if isinstance(one, (int, np.integer)) else tuple(map(int, one))
        if not as_tuple or len(set(as_tuple)) != len(as_tuple):
            raise ValueError(f"a target needs distinct variables: {as_tuple}")
        for v in as_tuple:
            if not 0 <= v < network.size:
                raise ValueError(f"unknown target variable {v}")
        if as_tuple not in targets:
            targets.append(as_tuple)

    leaf_parents = _leaf_parents(network)
    mentioned = {v for as_tuple in targets for v in as_tuple}
    # The carried variable of a tuple is the one with most states: the others are enumerated.
    carried: list[int] = []
    for as_tuple in targets:
        carried.append(max(as_tuple, key=lambda v: (network.cardinalities[v], -v)))
    roots: list[int] = []
    root_of: list[int] = []
    for v in carried:
        parents = leaf_parents.get(v, ())
        # A leaf child of another target shares that target's collect pass. A lone coarse target
        # is rooted at its parent as well: its table is then one factor fewer in the tree.
        root = parents[0] if len(parents) == 1 else v
        if root not in mentioned and network.cardinalities[root] > network.cardinalities[v] ** 2:
            root = v
        root_of.append(root)
        if root not in roots:
            roots.append(root)
    seen = tuple(usually_observed)
    programs = [
        _compile_program(
            network,
            root,
            tuple(dict.fromkeys(v for v, r in zip(carried, root_of, strict=True) if r == root)),
            seen,
            tries,
        )
        for root in roots
    ]
    shared: dict[tuple[int, int], int] = {}
    for v, root in dict.fromkeys(zip(carried, root_of, strict=True)):
        sharing = plan_sharing(network, root, v)
        if not sharing:
            continue
        plain = programs[roots.index(root)]
        try:
            cheaper = _compile_program(network, root, (v,), seen, tries, sharing)
        except CannotShare:
            continue
        if _effort(cheaper, v, seen) < _effort(plain, v, seen) * WORTH_SHARING:
            shared[v, root] = len(programs)
            programs.append(cheaper)
    return Plan(
        network=network,
        targets=tuple(targets),
        programs=tuple(programs),
        target_programs=tuple(roots.index(r) for r in root_of),
        shared_programs=tuple(
            shared.get(pair, NONE) for pair in zip(carried, root_of, strict=True)
        ),
        carried=tuple(carried),
        usually_observed=tuple(usually_observed),
    )


def _leaf_parents(network: Network) -> dict[int, tuple[int, ...]]:
    """Return the parents of every leaf finding: a child that no other factor mentions."""
    uses: dict[int, int] = {}
    for factor in network.factors:
        for v in factor.variables:
            uses[v] = uses.get(v, 0) + 1
    return {
        factor.child: factor.variables[:-1]
        for factor in network.factors
        if factor.child is not None and uses[factor.child] == 1
    }


def _functions_of(
    network: Network, root: int, targets: Sequence[int]
) -> dict[tuple[int, int], tuple[tuple[int, ...], tuple[int, int]]]:
    """Find the variables that targets are functions of, given the zeros of two tables.

    Returns
    -------
    dict
        For (variable, target) the state of the target for every state of the variable, and the
        numbers of the two factors: P(target | root), and that of the variable and the root.
    """
    found: dict[tuple[int, int], tuple[tuple[int, ...], tuple[int, int]]] = {}
    leaves = _leaf_parents(network)
    for target in targets:
        if target == root:
            continue
        own = next(n for n, f in enumerate(network.factors) if f.child == target)
        possible = network.factors[own].table > 0
        if not (possible.sum(axis=1) == 1).all():
            continue
        state = possible.argmax(axis=1)
        for number, factor in enumerate(network.factors):
            if len(factor.variables) != 2 or root not in factor.variables or number == own:
                continue
            v = next(x for x in factor.variables if x != root)
            if v in leaves or (v, target) in found:
                continue
            table = factor.table if factor.variables[0] == root else factor.table.T
            # (states of the variable, states of the target): which pairs can occur.
            pairs = (table > 0).T.astype(int) @ possible.astype(int) > 0
            if (pairs.sum(axis=1) > 1).any():
                continue
            chosen = [int(state[np.flatnonzero(c)[0]]) if c.any() else 0 for c in table.T > 0]
            found[v, target] = (tuple(chosen), (own, number))
    return found


def plan_sharing(
    network: Network,
    root: int,
    target: int,
    tables: Sequence[FloatArray] | None = None,
    known: Mapping[int, tuple[int, ...]] | None = None,
) -> tuple[Shared, ...]:
    """Decide which factors a program for `target` keeps with shared slices.

    Parameters
    ----------
    network
        The network.
    root, target
        Root of the program, and what it carries.
    tables, known
        Tables with draws to look at in place of those of the network, see `find_shared`.

    Returns
    -------
    tuple of Shared
        None if the target is not a function of the root coarser than the root itself, or has
        states that never occur.
    """
    own = next((f for f in network.factors if f.child == target), None)
    if own is None or own.variables != (root, target):
        return ()
    possible = own.table > 0
    onto = bool(possible.any(axis=0).all())
    if not (possible.sum(axis=1) == 1).all() or not onto or possible.shape[1] == len(possible):
        return ()
    grain = tuple(int(x) for x in possible.argmax(axis=1))
    leaves = _leaf_parents(network)
    relays = {v for v, _ in _functions_of(network, root, (target,))}
    kept: list[Shared] = []
    groups: dict[frozenset[int], list[tuple[int, ...]]] = {}
    # Findings with the same parents share a group, and a group has one partition: the finest
    # ones come first. Where the target is read from a table, the table tells its states apart.
    found = find_shared(network, root, tables, known)
    for one in sorted(found, key=lambda s: (-max(s.classes), s.factor)):
        factor = network.factors[one.factor]
        if factor.child == target:
            continue
        classes = one.classes
        if factor.child in leaves or not relays.isdisjoint(factor.variables):
            classes = joined(classes, grain)
        if factor.child in leaves:
            others = groups.setdefault(frozenset(factor.variables) - {factor.child}, [])
            for other in others:
                if joined(other, classes) == canonical(other):
                    classes = other
                    break
            else:
                others.append(classes)
        if max(classes) + 1 < len(classes):
            kept.append(replace(one, classes=numbered(classes, grain)))
    return tuple(sorted(kept, key=lambda s: s.factor))


def rebuilt(network: Network, program: Program, sharing: tuple[Shared, ...]) -> Program:
    """Return a program with the same order and targets that shares other slices.

    Parameters
    ----------
    network
        The network of the program.
    program
        A program that shares slices.
    sharing
        What to share instead.

    Returns
    -------
    Program

    Raises
    ------
    CannotShare
    """
    leaves = {v: pa for v, pa in _leaf_parents(network).items() if v != program.root}
    targets = tuple(d.target for d in program.distributions)
    builder = _Builder(
        network, program.root, targets, leaves, program.order, program.usually_observed, sharing
    )
    return builder.build(with_kernels=True)


def _compile_program(
    network: Network,
    root: int,
    targets: tuple[int, ...],
    usually_observed: tuple[int, ...],
    tries: int,
    sharing: tuple[Shared, ...] = (),
) -> Program:
    """Choose the cheapest of several elimination orders by the cost of the whole program.

    Raises
    ------
    CannotShare
        In none of them the slices can be shared.
    """
    leaves = {v: pa for v, pa in _leaf_parents(network).items() if v != root}
    inner = [v for v in range(network.size) if v not in leaves]
    scopes = [
        tuple(v for v in factor.variables if v not in leaves) for factor in network.factors
    ]
    weights = [
        0.05 if v in usually_observed else math.log(max(k, 1.05))
        for v, k in enumerate(network.cardinalities)
    ]
    graph = moral_graph(scopes, inner)
    # The order is chosen for the coarsest target: the one that is asked for most of the time.
    coarsest = min(targets, key=lambda v: (network.cardinalities[v], v))
    common = _Common(network, root, (coarsest,), sharing)
    costs: dict[object, tuple[float, float]] = {}
    collects: dict[tuple[int, ...], float] = {}

    def cost_of(order: tuple[int, ...], limit: float, limit_collect: float) -> float:
        """Return the cost of an order, or infinity for one that is hopeless."""
        # Orders that differ only in what comes first of things apart make the same contractions.
        signature = cliques(graph, order)
        if signature not in costs:
            builder = _Builder(
                network, root, (coarsest,), leaves, order, usually_observed, sharing, common
            )
            builder.start()
            collect = builder.collect_size()
            cost = math.inf
            if collect <= HOPELESS * limit_collect:
                try:
                    program = builder.build()
                    cost = _effort(program, coarsest, usually_observed)
                    if usually_observed and cost < limit:
                        cost += UNUSUAL * _effort(program, coarsest, ())
                except CannotShare:
                    pass
            costs[signature] = cost, collect
        cost, collects[order] = costs[signature]
        return cost

    starts = candidate_orders(graph, weights, root, tries, keep=max(3, tries // 4))
    pool = sorted((cost_of(order, math.inf, math.inf), order) for order in starts)[:4]
    # Then move single variables of the best orders about, most often next to a neighbour; half of
    # the orders are given up after every round.
    rng = random.Random(MOVES_SEED)
    # The program that shares slices answers nearly every question.
    moves = (3 if sharing else 2) * tries
    while pool and len(inner) > 3:
        moved = []
        for best_cost, best_order in pool:
            for _ in range(moves // len(pool)):
                changed = list(best_order)
                v = changed.pop(rng.randrange(len(changed)))
                near = sorted(graph[v] - {root})
                if near and rng.random() < NEAR:
                    place = changed.index(rng.choice(near)) + rng.randrange(2)
                else:
                    place = rng.randrange(len(changed) + 1)
                changed.insert(place, v)
                order = tuple(changed)
                cost = cost_of(order, best_cost, collects[best_order])
                if cost <= best_cost:
                    best_cost, best_order = cost, order
            moved.append((best_cost, best_order))
        moved.sort()
        if len(moved) == 1:
            pool = moved
            break
        pool = moved[: len(moved) // 2]
    best_order = pool[0][1] if pool else ()
    builder = _Builder(network, root, targets, leaves, best_order, usually_observed, sharing)
    return builder.build(with_kernels=True)


def _effort(program: Program, target: int, usually_observed: tuple[int, ...]) -> float:
    """Estimate the time of a main job in units of one multiply-add in a long vector."""
    seen = frozenset(usually_observed)
    effort = 0.0
    distribution = program.distribution(target)
    fused = program.fused(distribution)
    walked = [
        step
        for step, role in zip(distribution.steps, distribution.roles, strict=True)
        if role != KERNEL and step not in fused
    ]
    produced = {mapping.left for mapping in fused}
    for step in (*program.collect, *walked):
        size = program.step_size(step, seen)
        axes = program.axes[step.out] or program.axes[step.left]
        vector = program.extents[axes[-1]] if axes and axes[-1] not in seen else 1
        if step.right in program.maps:
            vector = program.extents[program.root]
        weight = MAP_CELL if step.out in produced or step.right in program.maps else 1.0
        effort += size * weight + TURN * size / vector + STEP
    return effort


class _Common:
    """What the builders for all orders of one program have in common.

    Parameters
    ----------
    network, root, targets, sharing
        As in `_Builder`.
    """

    def __init__(
        self,
        network: Network,
        root: int,
        targets: tuple[int, ...],
        sharing: tuple[Shared, ...],
    ) -> None:
        self.functions = _functions_of(network, root, targets)
        self.tables = [factor.table for factor in network.factors]
        self.classes = [canonical(one.classes) for one in sharing]
        if sharing:
            dimensions = [table.ndim for table in self.tables]
            states = network.cardinalities[root]
            self.tables = share_tables(sharing, states, self.tables, dimensions)
        # Sequences of contractions found for other orders: most of two orders is the same.
        self.sequences: dict[object, list[int]] = {}
        self._density: dict[int, float] = {}

    def density(self, factor: int) -> float:
        """Return the share of cells of a table that are not zero."""
        if factor not in self._density:
            table = self.tables[factor]
            self._density[factor] = np.count_nonzero(table) / table.size
        return self._density[factor]


class _Builder:
    """Builds the program for one elimination order."""

    def __init__(
        self,
        network: Network,
        root: int,
        targets: tuple[int, ...],
        leaves: dict[int, tuple[int, ...]],
        order: tuple[int, ...],
        usually_observed: tuple[int, ...],
        sharing: tuple[Shared, ...] = (),
        common: _Common | None = None,
    ) -> None:
        self.network = network
        self.common = common or _Common(network, root, targets, sharing)
        self.sharing = sharing
        self.root = root
        self.targets = targets
        self.leaves = leaves
        self.order = order
        self.axes: list[tuple[int, ...]] = []
        self.extents: list[int] = list(network.cardinalities)
        # Axes are sorted by this position everywhere: usually observed ones first (what is touched
        # then stays together), then by elimination, the root, a carried target, and the stacked
        # states of a group. So inner loops run along the last of these in every operand.
        self.position: dict[int, float] = {v: i for i, v in enumerate(order)}
        for v in usually_observed:
            if v in self.position:
                self.position[v] -= len(order)
        # A relay is carried as the root is: it comes right before it.
        self.functions = self.common.functions
        for v in {v for v, _ in self.functions}:
            self.position[v] = len(order) - 0.5
        self.position[root] = len(order)
        for i, target in enumerate(targets):
            self.position.setdefault(target, len(order) + 1 + i)
        for v in leaves:
            self.position.setdefault(v, len(order) + 1 + len(targets) + v)
        self.relay_variables = frozenset(v for v, _ in self.functions)
        self.typical = [float(k) for k in network.cardinalities]
        for v in usually_observed:
            self.typical[v] = 1.0
        # True for tensors with a group of leaf findings below: they change with most questions.
        self.varying: list[bool] = []
        self.density: dict[int, float] = {}
        self.usually_observed = usually_observed
        # Partitions of the root's states by axis; the root and targets that are functions of it
        # are such partitions themselves. Empty for a program that shares nothing.
        self.partition: dict[int, tuple[int, ...]] = {}
        self.axis_of: dict[tuple[int, ...], int] = {}
        self.classes_of: dict[int, str] = {}
        self._joins: dict[tuple[int, int], int] = {}
        self._spans: dict[tuple[tuple[int, ...], int], float] = {}
        self._meets: dict[frozenset[int], frozenset[int]] = {}
        self.axis_maps: list[AxisMap] = []
        self._map_between: dict[tuple[int, int], int] = {}
        self.map_tensors: set[int] = set()
        self.scopes = [factor.variables for factor in network.factors]
        self.collect: list[Contraction] = []
        self._carriers: dict[int, frozenset[int]] = {}
        self.cells = 0
        if sharing:
            self.start_partitions()

    # -- partitions of the root's states -------------------------------------------------------

    def start_partitions(self) -> None:
        """Give every shared factor the axis of its classes in place of the root."""
        k = self.extents[self.root]
        self.partition[self.root] = tuple(range(k))
        self.axis_of[self.partition[self.root]] = self.root
        # The target is what the distribute pass carries.
        (self.grain,) = self.targets
        table = next(f.table for f in self.network.factors if f.child == self.grain)
        states = tuple(int(x) for x in table.argmax(axis=1))
        self.partition[self.grain] = states
        self.axis_of[canonical(states)] = self.grain
        self.position[self.grain] = self.place_of(states)
        for one, classes in zip(self.sharing, self.common.classes, strict=True):
            scope = list(self.scopes[one.factor])
            scope[one.axis] = self.partition_axis(classes)
            self.scopes[one.factor] = tuple(scope)

    def place_of(self, classes: tuple[int, ...]) -> float:
        """Return the position of a partition among the axes: coarser ones after finer ones."""
        return len(self.order) + 0.9 * (1.0 - len(set(classes)) / len(classes))

    def partition_axis(self, classes: tuple[int, ...]) -> int:
        """Return the axis of a partition given by classes in order of appearance."""
        axis = self.axis_of.get(classes)
        if axis is None:
            axis = len(self.extents)
            self.axis_of[classes] = axis
            self.partition[axis] = numbered(classes, self.partition[self.grain])
            self.classes_of[axis] = sys.intern(str(classes))
            self.extents.append(max(classes) + 1)
            self.typical.append(float(max(classes) + 1))
            self.position[axis] = self.place_of(classes)
        return axis

    def join(self, a: int, b: int) -> int:
        """Return the coarsest partition that tells apart what `a` or `b` does."""
        if a == b:
            return a
        key = (a, b) if a < b else (b, a)
        found = self._joins.get(key)
        if found is None:
            classes = joined(self.partition[key[0]], self.partition[key[1]])
            found = self._joins[key] = self.partition_axis(classes)
        return found

    def family(self, tensor: int) -> int:
        """Return the partition that a tensor has as axis, or -1."""
        for a in self.axes[tensor]:
            if a in self.partition:
                return a
        return NONE

    def meet(self, axes: Iterable[int]) -> frozenset[int]:
        """Replace several partitions by their join.

        With a relay among the axes it tells the targets apart as well: then whatever sums the
        relay out keeps them.
        """
        axes = frozenset(axes)
        found = self._meets.get(axes)
        if found is not None:
            return found
        partitions = sorted(axes & self.partition.keys())
        if not partitions:
            return axes
        met = partitions[0]
        for other in partitions[1:]:
            met = self.join(met, other)
        if not self.relay_variables.isdisjoint(axes):
            met = self.join(met, self.grain)
        found = self._meets[axes] = axes.difference(partitions) | {met}
        return found

    def map_between(self, fine: int, coarse: int) -> int:
        """Return the tensor of the map from one partition to a coarser one."""
        key = (fine, coarse)
        if key not in self._map_between:
            tensor = self.tensor(key)
            states = [0] * self.extents[fine]
            for a, b in zip(self.partition[fine], self.partition[coarse], strict=True):
                states[a] = b
            self.axis_maps.append(AxisMap(tensor, fine, coarse, tuple(states), self.cells))
            self.cells += self.extents[fine] * self.extents[coarse]
            self._map_between[key] = tensor
            self.map_tensors.add(tensor)
        return self._map_between[key]

    def align(self, left: int, right: int) -> tuple[int, int]:
        """Bring two tensors of the collect pass to the same partition."""
        both = self.meet((*self.axes[left], *self.axes[right]))
        aligned = []
        for t in (left, right):
            have = self.family(t)
            if have != NONE and have not in both:
                (wanted,) = both & self.partition.keys()
                out = self.tensor((set(self.axes[t]) - {have}) | {wanted}, self.varying[t])
                self.collect.append(Contraction(out, t, self.map_between(wanted, have)))
                t = out
            aligned.append(t)
        return aligned[0], aligned[1]

    def operands(self, step: Contraction) -> list[int]:
        """Return the tensors of the tree that a contraction of the collect pass joins."""
        return [t for t in (step.left, step.right) if t != NONE and t not in self.map_tensors]

    # -- small pieces -------------------------------------------------------------------------

    def sort(self, axes: Iterable[int]) -> tuple[int, ...]:
        # Relays share a position: the same order everywhere all the same.
        return tuple(sorted(axes, key=lambda a: (self.position[a], a)))

    def tensor(self, axes: Iterable[int], varying: bool = False) -> int:
        self.axes.append(self.sort(axes))
        self.varying.append(varying)
        return len(self.axes) - 1

    def size(self, axes: Iterable[int]) -> float:
        typical = self.typical
        return math.prod([typical[a] for a in axes])

    def contract(self, left: int, right: int, keep: set[int]) -> int:
        if self.partition:
            if right != NONE:
                left, right = self.align(left, right)
            keep = keep | self.partition.keys()
        axes = set(self.axes[left])
        varying = self.varying[left]
        if right != NONE:
            axes |= set(self.axes[right])
            varying = varying or self.varying[right]
        out = self.tensor(axes & keep, varying)
        self.collect.append(Contraction(out, left, right))
        return out

    # -- inputs -------------------------------------------------------------------------------

    def make_inputs(self) -> None:
        self.inputs: list[FactorInput] = []
        self.groups: list[LeafGroup] = []
        members: dict[tuple[int, ...], list[int]] = {}
        covered: set[int] = set()
        for number, factor in enumerate(self.network.factors):
            if factor.child is not None and factor.child in self.leaves:
                members.setdefault(self.sort(self.scopes[number][:-1]), []).append(number)
                continue
            scope, table = self.scopes[number], self.common.tables[number]
            tensor = self.tensor(scope)
            covered.update(scope)
            permutation = tuple(scope.index(a) for a in self.axes[tensor])
            self.inputs.append(FactorInput(tensor, number, permutation, self.cells))
            self.density[tensor] = self.common.density(number)
            self.cells += table.size
        if self.partition:
            tensor = self.tensor((self.root,))
            covered.add(self.root)
            self.inputs.append(
                FactorInput(tensor, len(self.network.factors), (0,), self.cells)
            )
            self.cells += self.extents[self.root]
        for v in (*self.order, self.root):
            if v not in covered:
                # A variable that only leaf findings mention still needs a place in the tree.
                tensor = self.tensor((v,))
                self.inputs.append(FactorInput(tensor, NONE, (0,), self.cells))
                self.cells += self.extents[v]
        self.relays: list[Relay] = []
        self.map_of: dict[tuple[int, int], int] = {}
        for (v, target), (states, factors) in self.functions.items():
            tensor = self.tensor((v, target))
            self.density[tensor] = 1.0 / self.extents[target]
            self.relays.append(Relay(v, target, tensor, states, self.cells, factors))
            self.map_of[v, target] = tensor
            self.cells += self.extents[v] * self.extents[target]
        for parents in sorted(members):
            axis = len(self.extents)
            leaves: list[Leaf] = []
            row = 0
            for number in members[parents]:
                variables = self.scopes[number]
                child = variables[-1]
                permutation = tuple(variables.index(a) for a in (*parents, child))
                leaves.append(Leaf(child, number, permutation, row))
                row += self.network.cardinalities[child]
            self.extents.append(row)
            self.typical.append(float(row))
            # Inner loops run along the longer of target and group.
            narrow = row < NARROW
            self.position[axis] = -(1 << 30) if narrow else 1 << 30
            message = self.tensor(parents, varying=True)
            stacked = self.tensor((*parents, axis))
            self.groups.append(
                LeafGroup(message, stacked, tuple(leaves), row, self.cells, narrow)
            )
            self.cells += row * math.prod(self.extents[a] for a in parents)

    # -- collect pass -------------------------------------------------------------------------

    def eliminate(self) -> int:
        active = [one.tensor for one in self.inputs] + [group.message for group in self.groups]
        holders: dict[int, set[int]] = {}
        for t in active:
            for a in self.axes[t]:
                holders.setdefault(a, set()).add(t)
        left = set(active)
        for v in self.order:
            bucket = sorted(holders.get(v, ()))
            if not bucket:
                continue
            inside = {a for t in bucket for a in self.axes[t]}
            left.difference_update(bucket)
            for a in inside:
                holders[a].difference_update(bucket)
            made = self.reduce_bucket(bucket, {a for a in inside if holders[a]} | {self.root})
            left.add(made)
            for a in self.axes[made]:
                holders.setdefault(a, set()).add(made)
        return self.reduce_bucket(sorted(left), {self.root})

    def reduce_bucket(self, bucket: list[int], keep: set[int]) -> int:
        """Contract all tensors of a bucket into one, summing each axis as early as possible."""
        by_axes: dict[tuple[int, ...], list[int]] = {}
        for t in bucket:
            by_axes.setdefault(self.axes[t], []).append(t)
        merged: list[int] = []
        for axes, tensors in by_axes.items():
            if len(tensors) == 1:
                merged.append(tensors[0])
                continue
            # Tables that most questions leave alone are multiplied first: the product is kept.
            tensors.sort(key=lambda t: (self.varying[t], t))
            held = {a for t in bucket if t not in tensors for a in self.axes[t]}
            first = tensors[0]
            for i, other in enumerate(tensors[1:], start=2):
                last = i == len(tensors)
                first = self.contract(first, other, keep | held if last else set(axes) | keep)
            merged.append(first)
        # A very full bucket is thinned out greedily before the exhaustive search.
        while len(merged) > 7:
            _, i, j = min(
                (self.size(set(self.axes[a]) | set(self.axes[b])), i, j)
                for i, a in enumerate(merged)
                for j, b in enumerate(merged)
                if i < j
            )
            left, right = merged[i], merged[j]
            others = [t for n, t in enumerate(merged) if n not in (i, j)]
            held = {a for t in others for a in self.axes[t]}
            merged = [*others, self.contract(left, right, keep | held)]
        only = self.contract_all(merged, keep)
        if not set(self.axes[only]) <= keep | self.partition.keys():
            only = self.contract(only, NONE, keep)
        return only

    def contract_all(self, tensors: list[int], keep: set[int]) -> int:
        """Contract a few tensors in the cheapest sequence, found by going through all."""
        if len(tensors) == 1:
            return tensors[0]
        if len(tensors) == 2:
            return self.contract(tensors[1], tensors[0], keep)
        axes = [frozenset(self.axes[t]) for t in tensors]
        full = (1 << len(tensors)) - 1

        def build(subset: int, keep: frozenset[int]) -> int:
            if subset & (subset - 1) == 0:
                return tensors[subset.bit_length() - 1]
            sides = (parts[subset], subset ^ parts[subset])
            have = [
                frozenset[int]().union(*[a for i, a in enumerate(axes) if side >> i & 1])
                for side in sides
            ]
            left, right = build(sides[0], keep | have[1]), build(sides[1], keep | have[0])
            return self.contract(left, right, set(keep))

        every = frozenset[int]().union(*axes)
        wanted = frozenset(keep)
        key = (
            tuple([(self.spell(a), self.varying[t]) for a, t in zip(axes, tensors, strict=True)]),
            (every & wanted).difference(self.partition),
        )
        parts = self.common.sequences.get(key, [])
        if parts:
            return build(full, wanted)
        union = [frozenset[int]()] * (full + 1)
        varies = [False] * (full + 1)
        for subset in range(1, full + 1):
            low = (subset & -subset).bit_length() - 1
            rest = subset & (subset - 1)
            union[subset] = union[rest] | axes[low]
            if self.partition:
                union[subset] = self.meet(union[subset])
            varies[subset] = varies[rest] or self.varying[tensors[low]]
        result = [frozenset[int]()] * (full + 1)
        best: list[tuple[float, int]] = [(0.0, 0)] * (full + 1)
        for subset in range(1, full + 1):
            single = subset & (subset - 1) == 0
            result[subset] = (
                union[subset]
                if single
                else union[subset] & (keep | union[full ^ subset] | self.partition.keys())
            )
            if single:
                continue
            changes = 1.0 if varies[subset] else 0.5
            choice = (math.inf, 0)
            part = (subset - 1) & subset
            while part:
                other = subset ^ part
                if part > other:
                    cost = best[part][0] + best[other][0]
                    if cost < choice[0]:
                        both = result[part] | result[other]
                        if self.partition:
                            both = self.meet(both)
                            # An operand of a coarser partition is copied to the common one.
                            for one in (result[part], result[other]):
                                own = one & self.partition.keys()
                                if not own <= both:
                                    cost += self.size(one - own | (both & self.partition.keys()))
                        cost += self.size(both) * changes
                        if cost < choice[0]:
                            choice = (cost, part)
                part = (part - 1) & subset
            best[subset] = choice

        parts = self.common.sequences[key] = [part for _, part in best]
        return build(full, wanted)

    def spell(self, axes: Iterable[int]) -> frozenset[object]:
        """Return axes in a form that other builders understand: partitions by their classes."""
        return frozenset([self.classes_of.get(a, a) for a in axes])

    # -- distribute pass ----------------------------------------------------------------------

    def span(self, t: int, target: int) -> float:
        """Return the size of a collect-pass tensor that carries a target."""
        key = (self.axes[t], target)
        found = self._spans.get(key)
        if found is None:
            found = self._spans[key] = self.size(self.carrying(self.axes[t], target))
        return found

    def carrying(self, axes: Iterable[int], target: int) -> frozenset[int]:
        """Return the axes of a tensor that also tells the target."""
        axes = frozenset(axes)
        if self.partition:
            if not self.relay_variables.isdisjoint(axes):
                return axes
            return self.meet(axes | {self.grain})
        return axes | {target} if self.carriers(target).isdisjoint(axes) else axes

    def carriers(self, target: int) -> frozenset[int]:
        """Return the variables that a target is a function of: the root, relays, itself."""
        found = self._carriers.get(target)
        if found is None:
            relays = {v for v, t in self.functions if t == target}
            found = self._carriers[target] = frozenset({self.root, target, *relays})
        return found

    def place_readings(self, total: int) -> None:
        """Decide at which tensor every inner variable is read, and number the tree."""
        target = min(self.targets, key=lambda v: (self.extents[v], v))
        self.parent: dict[int, int] = {}
        for step in self.collect:
            for t in self.operands(step):
                self.parent[t] = step.out
        self.needed: set[int] = set()

        def need(t: int) -> None:
            while t not in self.needed:
                self.needed.add(t)
                if t == total:
                    return
                t = self.parent[t]

        need(total)
        for group in self.groups:
            need(group.message)
        messages = {group.message for group in self.groups}
        producer = {step.out: step for step in self.collect}
        self.reads: dict[int, list[int]] = {}
        for step in reversed(self.collect):
            before = {a for t in self.operands(step) for a in self.axes[t]}
            for v in sorted(before - set(self.axes[step.out]) - self.partition.keys()):
                # Any tensor that has the variable will do; one whose adjoint is needed anyway
                # costs only the reading.
                best: tuple[float, int] | None = None
                stack = self.operands(step)
                while stack:
                    t = stack.pop()
                    if v not in self.axes[t]:
                        continue
                    cost = self.span(t, target) + (0.0 if t in messages else 6.0)
                    walk = t
                    while walk not in self.needed:
                        above = self.parent[walk]
                        cost += self.span(above, target) + 6.0
                        walk = above
                    if best is None or (cost, t) < best:
                        best = (cost, t)
                    if t in producer:
                        stack.extend(self.operands(producer[t]))
                assert best is not None
                self.reads.setdefault(best[1], []).append(v)
                need(best[1])

        # Columns of the answer in the order of a walk through the tree: those of a subtree are
        # neighbours.
        self.enter: dict[int, int] = {}
        self.leave: dict[int, int] = {}
        self.columns: dict[int, tuple[int, int]] = {}
        self.rows = [0] * self.network.size
        self.group_rows = [0] * len(self.groups)
        group_of = {group.message: g for g, group in enumerate(self.groups)}
        row = 0
        started: dict[int, int] = {}
        pending: list[tuple[int, bool]] = [(total, False)]
        while pending:
            t, finished = pending.pop()
            if finished:
                self.leave[t] = len(self.enter)
                self.columns[t] = (started[t], row - started[t])
                continue
            self.enter[t] = len(self.enter)
            started[t] = row
            if t in group_of:
                group = self.groups[group_of[t]]
                self.group_rows[group_of[t]] = row
                for leaf in group.leaves:
                    self.rows[leaf.variable] = row + leaf.row
                row += group.rows
            for v in self.reads.get(t, ()):
                self.rows[v] = row
                row += self.network.cardinalities[v]
            pending.append((t, True))
            if t in producer:
                pending.extend((u, False) for u in reversed(self.operands(producer[t])))
        self.rows[self.root] = row
        self.row_count = row + self.network.cardinalities[self.root]

    def choose_kernels(self, total: int) -> list[Kernel]:
        """Choose the subtrees for which a kernel is cheaper than a walk."""
        target = min(self.targets, key=lambda v: (self.extents[v], v))
        walk = self.distribute(target, total, [])
        own: dict[int, float] = {}
        reading: dict[int, float] = {}
        for step, owner, role in zip(walk.steps, walk.owners, walk.roles, strict=True):
            axes = set(self.axes[step.left])
            if step.right != NONE:
                axes |= set(self.axes[step.right])
            size = self.size(axes) * self.density.get(step.right, 1.0)
            last = self.axes[step.out][-1:] or self.axes[step.left][-1:]
            cost = size * (1.0 + TURN / max(self.size(last), 1.0)) + STEP
            book = reading if role == READ else own
            book[owner] = book.get(owner, 0.0) + cost
        chosen: list[int] = []
        # For every tensor: cost of the walk below it, and the best saving below it.
        below: dict[int, float] = {}
        saving: dict[int, float] = {}
        made = {step.out for step in self.collect}
        children: dict[int, list[int]] = {}
        for t, above in self.parent.items():
            children.setdefault(above, []).append(t)
        for t in sorted(self.enter, key=lambda t: -self.enter[t]):
            kids = children.get(t, [])
            below[t] = reading.get(t, 0.0) + sum(own.get(u, 0.0) + below[u] for u in kids)
            saving[t] = sum(saving[u] for u in kids)
            columns = self.columns[t][1]
            cells = columns * math.prod(self.extents[a] for a in self.kernel_axes(t))
            if t not in made or t == total or columns == 0 or cells > LARGEST_KERNEL:
                continue
            span = self.span(t, target)
            cost = span + span * columns * KERNEL_CELL + TURN * span + 2 * STEP
            held = self.carriers(target) & set(self.axes[t])
            if self.partition:
                held = self.carrying(self.axes[t], target) - {target}
                held &= self.partition.keys() | self.relay_variables
            if held and target != self.root:
                cost += min(self.size((v,)) for v in held) * (columns + TURN) + STEP
            if below[t] - cost > saving[t]:
                saving[t] = below[t] - cost
                chosen.append(t)
        kernels = []
        for t in sorted(chosen, key=lambda t: self.enter[t]):
            axis = len(self.extents)
            first, columns = self.columns[t]
            self.extents.append(columns)
            self.typical.append(float(columns))
            self.position[axis] = 1 << 30
            kernels.append(Kernel(t, self.tensor((*self.kernel_axes(t), axis)), first, columns))
            if self.partition and self.family(t) not in (NONE, self.family(kernels[-1].table)):
                self.map_between(self.family(kernels[-1].table), self.family(t))
        return kernels

    def kernel_axes(self, t: int) -> tuple[int, ...]:
        """Return the axes of a kernel but the last: it tells the targets where `t` has the root."""
        if self.partition and self.family(t) != NONE:
            return self.sort(self.carrying(self.axes[t], self.grain))
        return self.axes[t]

    def distribute(self, target: int, total: int, kernels: list[Kernel]) -> Distribution:
        """Write the distribute pass that carries `target`."""
        if self.partition:
            return self.distribute_shared(target, total, kernels)
        steps: list[Contraction] = []
        owners: list[int] = []
        roles: list[int] = []
        readings: list[Reading] = []
        reading_owners: list[int] = []
        kernel_at = {kernel.tensor: kernel for kernel in kernels}
        kernel_answers: dict[int, int] = {}
        map_tensor = NONE
        if target != self.root:
            map_tensor = self.tensor((self.root, target))
            table = next(f.table for f in self.network.factors if f.child == target)
            if (np.count_nonzero(table, axis=1) == 1).all():
                self.density[map_tensor] = 1.0 / table.shape[1]
        carriers = self.carriers(target)

        def emit(left: int, right: int, keep: set[int], owner: int, role: int) -> int:
            """Contract to the axes in `keep`, and to something that tells the target."""
            axes = set(self.axes[left])
            if right != NONE:
                axes |= set(self.axes[right])
            told = carriers & axes
            if told and carriers.isdisjoint(keep):
                best = target if target in told else min(told, key=lambda v: (self.extents[v], v))
                keep = keep | {best}
            out = self.tensor(axes & keep)
            steps.append(Contraction(out, left, right))
            owners.append(owner)
            roles.append(role)
            return out

        def to_target(tensor: int, owner: int, keep: set[int], role: int) -> int:
            """Replace a carried root or relay by the target where neither is an axis in `keep`."""
            told = carriers & set(self.axes[tensor])
            if not carriers.isdisjoint(keep) or told <= {target}:
                return tensor
            (carrier,) = told
            by = map_tensor if carrier == self.root else self.map_of[carrier, target]
            return emit(tensor, by, keep | {target}, owner, role)

        adjoint: dict[int, int] = {total: NONE}
        group_of = {group.message: g for g, group in enumerate(self.groups)}

        def read(t: int) -> None:
            """Emit the answers that are read at collect-pass tensor `t`."""
            if t in kernel_at:
                kernel = kernel_at[t]
                axis = self.axes[kernel.table][-1]
                belief = t
                if adjoint[t] != NONE:
                    belief = emit(adjoint[t], t, set(self.axes[t]), t, KERNEL)
                answer = emit(kernel.table, belief, {axis}, t, KERNEL)
                kernel_answers[t] = to_target(answer, t, {axis}, KERNEL)
            belief = NONE
            if t in group_of:
                g = group_of[t]
                group = self.groups[g]
                belief = t
                if adjoint[t] != NONE:
                    belief = emit(adjoint[t], t, set(self.axes[t]), t, READ)
                axis = self.axes[group.stacked][0 if group.narrow else -1]
                answer = emit(group.stacked, belief, {axis}, t, READ)
                answer = to_target(answer, t, {axis}, READ)
                readings.append(Reading(answer, self.group_rows[g], group=g))
                reading_owners.append(t)
            for v in self.reads.get(t, ()):
                if belief != NONE:
                    answer = emit(belief, NONE, {v}, t, READ)
                elif adjoint[t] != NONE:
                    answer = emit(adjoint[t], t, {v}, t, READ)
                else:
                    answer = emit(t, NONE, {v}, t, READ)
                if v in carriers and v != self.root:
                    answer = emit(answer, self.map_of[v, target], {v, target}, t, READ)
                else:
                    answer = to_target(answer, t, {v}, READ)
                readings.append(Reading(answer, self.rows[v], variable=v))
                reading_owners.append(t)

        read(total)
        for step in reversed(self.collect):
            if step.out not in self.needed:
                continue
            above = adjoint[step.out]
            for t, other in ((step.left, step.right), (step.right, step.left)):
                if t == NONE or t not in self.needed:
                    continue
                keep = set(self.axes[t])
                operands = [x for x in (above, other) if x != NONE]
                if not operands:
                    adjoint[t] = NONE
                elif len(operands) == 1 and set(self.axes[operands[0]]) <= keep | {target}:
                    adjoint[t] = operands[0]
                else:
                    second = operands[1] if len(operands) == 2 else NONE
                    adjoint[t] = emit(operands[0], second, keep, t, ADJOINT)
                if adjoint[t] != NONE:
                    adjoint[t] = to_target(adjoint[t], t, keep, ADJOINT)
                read(t)
        return Distribution(
            target=target,
            map_tensor=map_tensor,
            steps=tuple(steps),
            owners=tuple(owners),
            roles=tuple(roles),
            readings=tuple(readings),
            reading_owners=tuple(reading_owners),
            kernel_answers=tuple(kernel_answers[kernel.tensor] for kernel in kernels),
        )

    def distribute_shared(self, target: int, total: int, kernels: list[Kernel]) -> Distribution:
        """Write the distribute pass of a program with partitions.

        A tensor of the collect pass is a function of the root's states that is the same within a
        class; an adjoint is a sum over the states of a class. So a product of the two needs the
        finer partition of both, and an adjoint may be summed to a coarser one at any time.
        """
        steps: list[Contraction] = []
        owners: list[int] = []
        roles: list[int] = []
        readings: list[Reading] = []
        reading_owners: list[int] = []
        kernel_at = {kernel.tensor: kernel for kernel in kernels}
        kernel_answers: dict[int, int] = {}
        map_tensor = self.tensor((self.root, target))
        partitions = self.partition.keys()
        relays = {v for v, t in self.functions if t == target}

        def write(left: int, right: int, out: Iterable[int], owner: int, role: int) -> int:
            tensor = self.tensor(out)
            steps.append(Contraction(tensor, left, right))
            owners.append(owner)
            roles.append(role)
            return tensor

        def change(t: int, to: int, owner: int, role: int) -> int:
            """Copy or sum a tensor to another partition."""
            have = self.family(t)
            if have == to:
                return t
            finer = self.extents[to] > self.extents[have]
            by = self.map_between(to, have) if finer else self.map_between(have, to)
            return write(t, by, {a for a in self.axes[t] if a != have} | {to}, owner, role)

        def emit(
            left: int, right: int, keep: Iterable[int], wanted: int, owner: int, role: int
        ) -> int:
            """Contract to the axes in `keep`, and to the partition `wanted` (-1 for none)."""
            present = [self.family(t) for t in (left, right) if t != NONE]
            present = [a for a in present if a != NONE]
            common = NONE
            if present:
                common = present[0] if len(present) == 1 else self.join(present[0], present[1])
                if self.family(left) not in (NONE, common):
                    raise CannotShare("a sum over a class cannot be taken apart")
                if right != NONE and self.family(right) != NONE:
                    right = change(right, common, owner, role)
            have = set(self.axes[left]) | (set(self.axes[right]) if right != NONE else set())
            out = {a for a in have if a in keep and a not in partitions}
            if wanted == NONE:
                return write(left, right, out, owner, role)
            if common != NONE:
                if have - {common} == out and right == NONE:
                    return change(left, wanted, owner, role)
                return change(
                    write(left, right, out | {common}, owner, role), wanted, owner, role
                )
            relay = min(relays & have, key=lambda v: (self.extents[v], v))
            carried = write(left, right, out | {relay}, owner, role)
            return write(carried, self.map_of[relay, target], out | {target}, owner, role)

        def told(axes: Iterable[int]) -> int:
            """Return the partition that a tensor with these axes has beside a relay or without."""
            axes = frozenset(axes)
            own = axes & partitions
            if not relays.isdisjoint(axes):
                return min(own, default=NONE)
            (found,) = self.meet(own | {self.grain})
            return found

        def answer_of(tensor: int, t: int, keep: set[int], role: int) -> int:
            """Bring an answer from the partition it has to the target."""
            if self.family(tensor) != NONE:
                return change(tensor, target, t, role)
            (relay,) = relays & set(self.axes[tensor])
            return write(tensor, self.map_of[relay, target], keep | {target}, t, role)

        adjoint: dict[int, int] = {total: NONE}
        group_of = {group.message: g for g, group in enumerate(self.groups)}

        def belief_at(t: int, role: int) -> int:
            if adjoint[t] == NONE:
                return t
            axes = self.axes[t]
            return emit(adjoint[t], t, axes, told(axes), t, role)

        def against(table: int, belief: int, axis: int, t: int, role: int) -> int:
            """Sum a stacked table or kernel against a belief; the answer tells the target."""
            out = {axis}
            shared = set(self.axes[table]) & set(self.axes[belief])
            if self.family(belief) != NONE:
                out.add(self.family(belief))
            else:
                out.add(min(relays & shared, key=lambda v: (self.extents[v], v)))
            answer = write(table, belief, out, t, role)
            return answer_of(answer, t, {axis}, role)

        def read(t: int) -> None:
            """Emit the answers that are read at collect-pass tensor `t`."""
            if t in kernel_at:
                kernel = kernel_at[t]
                axis = self.axes[kernel.table][-1]
                belief = belief_at(t, KERNEL)
                kernel_answers[t] = against(kernel.table, belief, axis, t, KERNEL)
            belief = NONE
            if t in group_of:
                group = self.groups[group_of[t]]
                belief = belief_at(t, READ)
                axis = self.axes[group.stacked][0 if group.narrow else -1]
                answer = against(group.stacked, belief, axis, t, READ)
                readings.append(Reading(answer, self.group_rows[group_of[t]], group=group_of[t]))
                reading_owners.append(t)
            for v in self.reads.get(t, ()):
                wanted = NONE if v in relays else target
                if belief != NONE:
                    answer = emit(belief, NONE, {v}, wanted, t, READ)
                elif adjoint[t] != NONE:
                    answer = emit(adjoint[t], t, {v}, wanted, t, READ)
                else:
                    answer = emit(t, NONE, {v}, wanted, t, READ)
                if v in relays:
                    by = self.map_of[v, target]
                    answer = write(answer, by, {v, target}, t, READ)
                readings.append(Reading(answer, self.rows[v], variable=v))
                reading_owners.append(t)

        read(total)
        for step in reversed(self.collect):
            if step.out not in self.needed:
                continue
            above = adjoint[step.out]
            tensors = self.operands(step)
            for t in tensors:
                if t not in self.needed:
                    continue
                others = [x for x in tensors if x != t]
                wanted = told(self.axes[t])
                if above != NONE:
                    other = others[0] if others else NONE
                    adjoint[t] = emit(above, other, self.axes[t], wanted, t, ADJOINT)
                elif others:
                    # At the top the other table itself is summed, over single states of the root.
                    if self.family(others[0]) != self.root:
                        raise CannotShare("the total is not made of tables of the root")
                    adjoint[t] = emit(others[0], NONE, self.axes[t], wanted, t, ADJOINT)
                else:
                    adjoint[t] = NONE
                read(t)
        return Distribution(
            target=target,
            map_tensor=map_tensor,
            steps=tuple(steps),
            owners=tuple(owners),
            roles=tuple(roles),
            readings=tuple(readings),
            reading_owners=tuple(reading_owners),
            kernel_answers=tuple(kernel_answers[kernel.tensor] for kernel in kernels),
        )

    # -- everything ---------------------------------------------------------------------------

    def start(self) -> None:
        """Write the collect pass."""
        self.make_inputs()
        self.total = self.eliminate()

    def collect_size(self) -> float:
        """Return the multiply-adds of the collect pass, usual evidence known."""
        total = 0.0
        for step in self.collect:
            axes = set(self.axes[step.left])
            if step.right != NONE and step.right not in self.map_tensors:
                axes.update(self.axes[step.right])
            total += self.size(axes)
        return total

    def build(self, with_kernels: bool = False) -> Program:
        if not self.axes:
            self.start()
        total = self.total
        self.place_readings(total)
        kernels = self.choose_kernels(total) if with_kernels else []
        home = [NONE] * self.network.size
        for v in (*self.order, self.root):
            home[v] = min(
                (one.tensor for one in self.inputs if v in self.axes[one.tensor]),
                key=lambda t: (self.size(self.axes[t]), t),
            )
        place = [(NONE, NONE)] * self.network.size
        for g, group in enumerate(self.groups):
            for n, leaf in enumerate(group.leaves):
                place[leaf.variable] = (g, n)
        distributions = tuple(self.distribute(t, total, kernels) for t in self.targets)
        count = len(self.axes)
        return Program(
            root=self.root,
            axes=tuple(self.axes),
            extents=tuple(self.extents),
            order=self.order,
            inputs=tuple(self.inputs),
            groups=tuple(self.groups),
            collect=tuple(self.collect),
            total=total,
            distributions=distributions,
            rows=tuple(self.rows),
            row_count=self.row_count,
            home=tuple(home),
            leaf_place=tuple(place),
            cells=self.cells,
            density=tuple(self.density.get(t, 1.0) for t in range(count)),
            reads=tuple((t, v) for t, variables in self.reads.items() for v in variables),
            enter=tuple(self.enter.get(t, NONE) for t in range(count)),
            leave=tuple(self.leave.get(t, NONE) for t in range(count)),
            kernels=tuple(kernels),
            relays=tuple(self.relays),
            sharing=self.sharing,
            axis_maps=tuple(self.axis_maps),
            partitions=tuple(self.partition.items()),
            usually_observed=self.usually_observed,
        )
