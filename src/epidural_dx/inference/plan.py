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
* evidence on an inner variable shortens its axis to one state, in whatever table it occurs. A
  table that has seen no evidence below it is the same in every query and is kept.

A plan is plain data: frozen, picklable and the same on every machine.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from epidural_dx.inference.elimination import candidate_orders, moral_graph
from epidural_dx.inference.network import FloatArray, Network

#: A target of a query: one variable, or several whose joint distribution is wanted.
Target = int | tuple[int, ...]

#: Marks an absent operand of a contraction.
NONE = -1

#: Groups of leaf findings with fewer states than this are laid out with the states first.
NARROW = 8

#: What a turn of an inner loop and a step cost besides their multiply-adds, in multiply-adds.
TURN, STEP = 12.0, 400.0

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
        Number of the factor, or -1 for a table of ones or the map of a relay.
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
        skips them: when the table is used as a scalar in front of a vector along the root or the
        target, and in the map from the root to a target that is a function of it.
        """
        axes = set(self.axes[step.left])
        density = 1.0
        if step.right != NONE:
            axes.update(self.axes[step.right])
            last = self.axes[step.out][-1] if self.axes[step.out] else NONE
            for t in (step.left, step.right):
                if self.density[t] < 1.0 and (last not in self.axes[t] or t in self.maps):
                    density = min(density, self.density[t])
        return math.prod(self.extents[a] for a in axes if a not in observed) * density

    @cached_property
    def maps(self) -> frozenset[int]:
        """Tensors that map the root or a relay to a target."""
        return frozenset(d.map_tensor for d in self.distributions) | frozenset(
            relay.tensor for relay in self.relays
        )

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
            total += sum(
                self.step_size(step, seen)
                for step, role in zip(distribution.steps, distribution.roles, strict=True)
                if role != KERNEL
            )
        return round(total)

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
        One program for each root that the targets need.
    target_programs
        For every target the number of its program.
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
        return passes * self.programs[self.target_programs[k]].multiply_adds(self.carried[k], seen)

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
    programs = tuple(
        _compile_program(
            network,
            root,
            tuple(dict.fromkeys(v for v, r in zip(carried, root_of, strict=True) if r == root)),
            tuple(usually_observed),
            tries,
        )
        for root in roots
    )
    return Plan(
        network=network,
        targets=tuple(targets),
        programs=programs,
        target_programs=tuple(roots.index(r) for r in root_of),
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


def _compile_program(
    network: Network,
    root: int,
    targets: tuple[int, ...],
    usually_observed: tuple[int, ...],
    tries: int,
) -> Program:
    """Choose the cheapest of several elimination orders by the cost of the whole program."""
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
    best_cost = math.inf
    best_order: tuple[int, ...] = ()

    # The order is chosen for the coarsest target: the one that is asked for most of the time.
    coarsest = min(targets, key=lambda v: (network.cardinalities[v], v))

    def attempt(order: tuple[int, ...]) -> None:
        nonlocal best_cost, best_order
        program = _Builder(network, root, (coarsest,), leaves, order, usually_observed).build()
        cost = _effort(program, coarsest, usually_observed)
        if cost < best_cost:
            best_cost, best_order = cost, order

    for order in candidate_orders(graph, weights, root, tries, keep=max(3, tries // 8)):
        attempt(order)
    # Then move single variables of the best order about.
    rng = random.Random(tries)
    for _ in range(5 * tries if len(inner) > 3 else 0):
        changed = list(best_order)
        v = changed.pop(rng.randrange(len(changed)))
        changed.insert(rng.randrange(len(changed) + 1), v)
        attempt(tuple(changed))
    builder = _Builder(network, root, targets, leaves, best_order, usually_observed)
    return builder.build(with_kernels=True)


def _effort(program: Program, target: int, usually_observed: tuple[int, ...]) -> float:
    """Estimate the time of a main job in units of one multiply-add in a long vector."""
    seen = frozenset(usually_observed)
    effort = 0.0
    for step in (*program.collect, *program.distribution(target).steps):
        size = program.step_size(step, seen)
        axes = program.axes[step.out] or program.axes[step.left]
        vector = program.extents[axes[-1]] if axes and axes[-1] not in seen else 1
        if step.right in program.maps:
            vector = program.extents[program.root]
        effort += size + TURN * size / vector + STEP
    return effort


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
    ) -> None:
        self.network = network
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
        self.functions = _functions_of(network, root, targets)
        for v in {v for v, _ in self.functions}:
            self.position[v] = len(order) - 0.5
        self.position[root] = len(order)
        for i, target in enumerate(targets):
            self.position.setdefault(target, len(order) + 1 + i)
        for v in leaves:
            self.position.setdefault(v, len(order) + 1 + len(targets) + v)
        self.typical = [float(k) for k in network.cardinalities]
        for v in usually_observed:
            self.typical[v] = 1.0
        # True for tensors with a group of leaf findings below: they change with most questions.
        self.varying: list[bool] = []
        self.density: dict[int, float] = {}
        self.collect: list[Contraction] = []
        self._carriers: dict[int, frozenset[int]] = {}
        self.cells = 0

    # -- small pieces -------------------------------------------------------------------------

    def sort(self, axes: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(axes, key=lambda a: self.position[a]))

    def tensor(self, axes: Iterable[int], varying: bool = False) -> int:
        self.axes.append(self.sort(axes))
        self.varying.append(varying)
        return len(self.axes) - 1

    def size(self, axes: Iterable[int]) -> float:
        return math.prod(self.typical[a] for a in axes)

    def contract(self, left: int, right: int, keep: set[int]) -> int:
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
                members.setdefault(self.sort(factor.variables[:-1]), []).append(number)
                continue
            tensor = self.tensor(factor.variables)
            covered.update(factor.variables)
            permutation = tuple(factor.variables.index(a) for a in self.axes[tensor])
            self.inputs.append(FactorInput(tensor, number, permutation, self.cells))
            self.density[tensor] = np.count_nonzero(factor.table) / factor.table.size
            self.cells += factor.table.size
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
                variables = self.network.factors[number].variables
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
        done: set[int] = set()
        for v in self.order:
            if v in done:
                continue
            bucket = [t for t in active if v in self.axes[t]]
            rest = [t for t in active if v not in self.axes[t]]
            elsewhere = {a for t in rest for a in self.axes[t]} | {self.root}
            gone = {a for t in bucket for a in self.axes[t]} - elsewhere
            done |= gone
            active = [*rest, self.reduce_bucket(bucket, elsewhere)]
        return self.reduce_bucket(active, {self.root})

    def reduce_bucket(self, bucket: list[int], keep: set[int]) -> int:
        """Contract all tensors of a bucket into one, summing each axis as early as possible."""
        by_axes: dict[tuple[int, ...], list[int]] = {}
        for t in bucket:
            by_axes.setdefault(self.axes[t], []).append(t)
        merged: list[int] = []
        for axes, tensors in by_axes.items():
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
        if not set(self.axes[only]) <= keep:
            only = self.contract(only, NONE, keep)
        return only

    def contract_all(self, tensors: list[int], keep: set[int]) -> int:
        """Contract a few tensors in the cheapest sequence, found by going through all."""
        if len(tensors) == 1:
            return tensors[0]
        axes = [frozenset(self.axes[t]) for t in tensors]
        full = (1 << len(tensors)) - 1
        union = [frozenset[int]()] * (full + 1)
        varies = [False] * (full + 1)
        for subset in range(1, full + 1):
            low = (subset & -subset).bit_length() - 1
            rest = subset & (subset - 1)
            union[subset] = union[rest] | axes[low]
            varies[subset] = varies[rest] or self.varying[tensors[low]]
        result = [frozenset[int]()] * (full + 1)
        best: list[tuple[float, int]] = [(0.0, 0)] * (full + 1)
        for subset in range(1, full + 1):
            single = subset & (subset - 1) == 0
            result[subset] = (
                union[subset] if single else union[subset] & (keep | union[full ^ subset])
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
                        cost += self.size(result[part] | result[other]) * changes
                        if cost < choice[0]:
                            choice = (cost, part)
                part = (part - 1) & subset
            best[subset] = choice

        def build(subset: int) -> int:
            if subset & (subset - 1) == 0:
                return tensors[subset.bit_length() - 1]
            part = best[subset][1]
            left, right = build(part), build(subset ^ part)
            return self.contract(left, right, keep | set(union[full ^ subset]))

        return build(full)

    # -- distribute pass ----------------------------------------------------------------------

    def span(self, t: int, target: int) -> float:
        """Return the size of a collect-pass tensor that carries a target."""
        extra = (target,) if self.carriers(target).isdisjoint(self.axes[t]) else ()
        return self.size((*self.axes[t], *extra))

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
            for t in (step.left, step.right):
                if t != NONE:
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
            before = set(self.axes[step.left])
            if step.right != NONE:
                before |= set(self.axes[step.right])
            for v in sorted(before - set(self.axes[step.out])):
                # Any tensor that has the variable will do; one whose adjoint is needed anyway
                # costs only the reading.
                best: tuple[float, int] | None = None
                stack = [t for t in (step.left, step.right) if t != NONE]
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
                        made = producer[t]
                        stack.extend(u for u in (made.left, made.right) if u != NONE)
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
                made = producer[t]
                pending.extend((u, False) for u in (made.right, made.left) if u != NONE)
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
            cells = math.prod(self.extents[a] for a in self.axes[t]) * columns
            if t not in made or t == total or columns == 0 or cells > LARGEST_KERNEL:
                continue
            span = self.span(t, target)
            cost = span + span * columns + TURN * span + 2 * STEP
            held = self.carriers(target) & set(self.axes[t])
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
            kernels.append(Kernel(t, self.tensor((*self.axes[t], axis)), first, columns))
        return kernels

    def distribute(self, target: int, total: int, kernels: list[Kernel]) -> Distribution:
        """Write the distribute pass that carries `target`."""
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

    # -- everything ---------------------------------------------------------------------------

    def build(self, with_kernels: bool = False) -> Program:
        self.make_inputs()
        total = self.eliminate()
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
        )
