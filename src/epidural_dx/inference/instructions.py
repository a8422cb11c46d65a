"""Flatten a program into plain integer arrays for a compiled interpreter.

Every tensor of a program gets a fixed place and fixed strides, whatever the evidence. Hard
evidence on a variable only changes two numbers: the extent of its axis becomes 1 and the start of
every tensor that has it moves to the observed state. So one flat list of instructions serves all
patterns of evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.plan import NONE, SPARSE, Contraction, Distribution, Program

IntArray = npt.NDArray[np.int32]

#: Cells whose logarithms are taken at a time, in two pieces of scratch of that size.
LOG_BLOCK = 512

#: Lines that are mapped at a time.
TOGETHER = 16

# Answers besides posterior and log-evidence, as bits.
MARGINALS, JOINTS, INFORMATION = 1, 2, 4

# Where a tensor lives.
TABLES, CLEAN, WORK = 0, 1, 2

# Inner loops. "axis" is the innermost axis; each operand either runs along it or stays.
AXPY = 0  # out and left run, right stays
MULTIPLY = 1  # out, left and right run
DOT = 2  # left and right run, out stays
SUM_SCALED = 3  # left runs, right and out stay
ADD = 4  # out and left run, no right
SUM = 5  # left runs, out stays, no right
MAP = 6  # left runs along the root, out is addressed through the map root -> target
MAP_COLUMNS = 7  # out and left run along a group, the root is mapped to the target
MULTIPLY_MAP = 8  # a product and the map of its result in one: left and right run
SCALE_MAP = 9  # the same, right stays
EXPAND = 10  # out runs along a partition of the root, left is addressed through its map

# Columns of the step table. RELAY is the place of the map of a relay or between partitions, -1 for
# the map of the root; WIDTH the number of states it maps to, PREFIX how many states it maps to
# their own number before the first that it does not. SKIP is 1 for a step that the next one does as
# well, 2 if it does so only where the target is a function of the root. ZEROS is 1 where the
# scalars are mostly zero.
(
    KIND, OUT, LEFT, RIGHT, LOOPS, OUTER, SUMMED, INNER, FALLBACK, RELAY, SKIP, WIDTH, PREFIX,
    OWNER, ROLE, ZEROS,
) = range(16)


@dataclass(frozen=True, eq=False)
class Instructions:
    """A program and one of its distribute passes as arrays.

    Parameters
    ----------
    code
        All arrays one after another, so that one argument brings them and a question reads them
        from one place. It begins with start and end of every section. The sections are

        0 header
            root, target, total tensor, map tensor, start of the answer in the workspace, columns
            of the answer, cells of the workspace before its scratch, group of the target, row of
            the target in that group, steps of the distribute pass, number of places in the tree,
            steps of the collect pass, `longest`.
        1 extents
            Number of states of every axis.
        2 variables
            Rows (first column of the answer, home tensor or -1, first and last + 1 of its slices):
            one per variable.
        3 slices
            Rows (tensor, stride): which tensors hard evidence on an inner variable moves, and how
            far for each state.
        4, 5 offset, space
            Start of every tensor, and where: packed tables (0), kept (1) or workspace (2).
        6 inputs
            Rows (tensor, place of its copy in the workspace, cells): where soft evidence is
            entered.
        7 groups
            Rows (message tensor, stacked tensor, first leaf, last leaf + 1, belief tensor, stride
            of the parents and stride of the states in the stacked table, the axis of the belief
            that tells the target, place of its map if it is a relay or -1).
        8 leaves
            Rows (variable, first place on the group axis of the stacked table).
        9, 10, 11 pointer, axes, strides
            Axes and strides of tensor t are the entries ``pointer[t] : pointer[t+1]``.
        12 steps
            One row per contraction, see the column names in this module; the collect pass first.
        13 loops
            Rows (axis, stride of out, stride of left, stride of right): for every step first the
            outer axes, then the summed axes.
        14 relays
            The states of the target for the states of every relay, one relay after another, then
            the classes of the coarse partition for those of the fine one, one map after another.
        15 kernels
            Rows (tensor, place in the tree, end of its subtree), outer ones first.
        16 readings
            Rows (tensor, first column of the answer, variable or group axis, place in the tree) of
            the answers that are copied.
    header, extents, offset
        Sections 0, 1 and 4.
    workspace
        Number of cells of the workspace, its scratch included.
    room
        Number of integers that a question needs as workspace.
    clean_size
        How many cells of the workspace, from the first, the collect pass writes.
    kernel_cells
        Cells of the kernels; they are kept behind the clean collect pass.
    longest
        Largest number of turns of the outer or of the summed loops of any step, the innermost axis
        included if it is summed.
    """

    code: IntArray
    header: IntArray
    extents: IntArray
    offset: IntArray
    workspace: int
    room: int
    clean_size: int
    kernel_cells: int
    longest: int


def flatten(program: Program, distribution: Distribution) -> Instructions:
    """Return the instructions of a program with one of its distribute passes."""
    count = len(program.axes)
    shapes = [program.shape(t) for t in range(count)]
    sizes = [math.prod(shape) for shape in shapes]
    strides = [_strides(shape) for shape in shapes]
    offset = [0] * count
    space = [WORK] * count
    kernel_cells = 0
    for kernel in program.kernels:
        # Kernels lie behind the clean collect pass; that offset is added below.
        offset[kernel.table], space[kernel.table] = kernel_cells, CLEAN
        kernel_cells += sizes[kernel.table]
    for one in program.inputs:
        offset[one.tensor], space[one.tensor] = one.offset, TABLES
    for group in program.groups:
        offset[group.stacked], space[group.stacked] = group.offset, TABLES
    relay_states: list[int] = []
    # For every map its place, and the axes from and to which it goes.
    relay_places: dict[int, tuple[int, int, int]] = {}
    for relay in program.relays:
        offset[relay.tensor], space[relay.tensor] = relay.offset, TABLES
        relay_places[relay.tensor] = (len(relay_states), relay.variable, relay.target)
        relay_states += relay.states
    for between in program.axis_maps:
        offset[between.tensor], space[between.tensor] = between.offset, TABLES
        relay_places[between.tensor] = (len(relay_states), between.fine, between.coarse)
        relay_states += between.states

    place = 0
    # Collect pass: everything stays until the end of the distribute pass.
    for group in program.groups:
        offset[group.message] = place
        place += sizes[group.message]
    for step in program.collect:
        offset[step.out] = place
        place += sizes[step.out]
    clean_size = place
    for kernel in program.kernels:
        offset[kernel.table] += clean_size
    copies = []
    for one in program.inputs:
        copies.append((one.tensor, place, sizes[one.tensor]))
        place += sizes[one.tensor]
    if distribution.map_tensor != NONE:
        offset[distribution.map_tensor] = place
        place += sizes[distribution.map_tensor]
    answer = place
    width = program.extents[distribution.target]
    place += program.row_count * width

    # The answer is (target, columns); behind it is room for the sums of the columns and the
    # posterior of the target, so that one pass takes all logarithms. Answers of wide
    # groups are computed in place, with the columns of the whole answer as stride; the others are
    # (states, target) and are copied.
    columns = program.row_count
    in_place: set[int] = set()
    readings = []
    for kernel, tensor in zip(program.kernels, distribution.kernel_answers, strict=True):
        strides[tensor] = (columns, 1)
        offset[tensor] = answer + kernel.first
        in_place.add(tensor)
    for reading, owner in zip(distribution.readings, distribution.reading_owners, strict=True):
        if reading.group == NONE or program.groups[reading.group].narrow:
            axis = program.axes[reading.tensor][0]
            readings.append((reading.tensor, reading.row, axis, program.enter[owner]))
            continue
        if program.axes[reading.tensor][:-1] != (distribution.target,):
            raise AssertionError("the answer of a group has the axes (target, group)")
        strides[reading.tensor] = (columns, 1)
        offset[reading.tensor] = answer + reading.row
        in_place.add(reading.tensor)
    place += columns * (width + 1) + width
    place = _allocate(program, distribution, sizes, offset, in_place, readings, place)

    step_rows: list[list[int]] = []
    loop_rows: list[tuple[int, int, int, int]] = []
    for step in (*program.collect, *distribution.steps):
        step_rows.append(
            _encode(program, distribution, step, strides, loop_rows, relay_places)
        )
    _fuse(program, distribution, strides, step_rows, loop_rows)
    places = [(0, 0)] * len(program.collect) + [
        (program.enter[owner], role)
        for owner, role in zip(distribution.owners, distribution.roles, strict=True)
    ]
    for encoded, place_and_role in zip(step_rows, places, strict=True):
        zeros = encoded[KIND] == AXPY and encoded[RIGHT] != NONE
        zeros = zeros and program.density[encoded[RIGHT]] < SPARSE
        encoded.extend((*place_and_role, int(zeros)))
    if distribution.map_tensor != NONE:
        # The same maps as ordinary contractions, for a target that is not a function of the root.
        for number, step in enumerate((*program.collect, *distribution.steps)):
            row = step_rows[number]
            if row[KIND] >= MAP and row[RELAY] == NONE:
                row[FALLBACK] = len(step_rows)
                step_rows.append([*_encode(program, None, step, strides, loop_rows, {}), 0, 0, 0])

    belief = [NONE] * len(program.groups)
    stacked = {group.stacked: g for g, group in enumerate(program.groups)}
    for step in distribution.steps:
        if step.left in stacked:
            belief[stacked[step.left]] = step.right
    map_at = {
        carrier: place_of
        for place_of, carrier, told in relay_places.values()
        if told == distribution.target and carrier != program.root
    }
    group_rows: list[tuple[int, ...]] = []
    leaf_rows: list[tuple[int, int]] = []
    for g, group in enumerate(program.groups):
        first = len(leaf_rows)
        leaf_rows += [(leaf.variable, leaf.row) for leaf in group.leaves]
        axes = program.axes[belief[g]]
        told = {distribution.target, program.root, *map_at} & set(axes)
        carrier = distribution.target if distribution.target in told else min(told)
        group_rows.append(
            (
                group.message,
                group.stacked,
                first,
                len(leaf_rows),
                belief[g],
                1 if group.narrow else group.rows,
                sizes[group.message] if group.narrow else 1,
                carrier,
                map_at.get(carrier, NONE),
            )
        )
    target_group, target_row = NONE, 0
    if distribution.map_tensor != NONE:
        target_group, member = program.leaf_place[distribution.target]
        target_row = program.groups[target_group].leaves[member].row
    used = {t for step in (*program.collect, *distribution.steps)
            for t in (step.out, step.left, step.right) if t != NONE}
    used |= {one.tensor for one in program.inputs}
    used |= {t for group in program.groups for t in (group.message, group.stacked)}
    moved: dict[int, list[tuple[int, int]]] = {}
    for t in sorted(used):
        for a, stride in zip(program.axes[t], strides[t], strict=True):
            if a < len(program.rows) and program.home[a] != NONE:
                moved.setdefault(a, []).append((t, stride))
    slice_rows: list[tuple[int, int]] = []
    slice_ends = []
    for v in range(len(program.rows)):
        first = len(slice_rows)
        slice_rows += moved.get(v, [])
        slice_ends.append((first, len(slice_rows)))
    pointer = np.cumsum([0, *(len(axes) for axes in program.axes)])
    longest = _longest(program, step_rows, loop_rows)
    header = [
        program.root,
        distribution.target,
        program.total,
        distribution.map_tensor,
        answer,
        program.row_count,
        place,
        target_group,
        target_row,
        len(distribution.steps),
        max(program.leave) + 1,
        len(program.collect),
        longest,
    ]
    variables = [
        (program.rows[v], program.home[v], *slice_ends[v]) for v in range(len(program.rows))
    ]
    kernels = [
        (kernel.tensor, program.enter[kernel.tensor], program.leave[kernel.tensor])
        for kernel in program.kernels
    ]
    sections: list[Sequence[object]] = [
        header,
        program.extents,
        variables,
        slice_rows,
        offset,
        space,
        copies,
        group_rows,
        leaf_rows,
        pointer.tolist(),
        [a for axes in program.axes for a in axes],
        [s for one in strides for s in one],
        step_rows,
        loop_rows,
        relay_states,
        kernels,
        readings,
    ]
    return Instructions(
        code=_packed(sections),
        header=np.array(header, dtype=np.int32),
        extents=np.array(program.extents, dtype=np.int32),
        offset=np.array(offset, dtype=np.int32),
        workspace=place + max(longest, 2 * LOG_BLOCK, TOGETHER * max(program.extents)),
        # Turns of loops; base and two bytes for every tensor; extents; places in the tree.
        room=9 * longest + count + -(-count // 4) + len(program.extents) + header[10] + 1,
        clean_size=clean_size,
        kernel_cells=kernel_cells,
        longest=longest,
    )


def _packed(sections: Sequence[Sequence[object]]) -> IntArray:
    """Put arrays one behind another, each from the start of a cache line."""
    # Half the memory of the usual integers: a question that finds the cache cold reads it all.
    flat = [np.array(rows, dtype=np.int32).ravel() for rows in sections]
    place = _aligned(2 * len(flat))
    ends = []
    for one in flat:
        ends += [place, place + one.size]
        place = _aligned(place + one.size)
    code = np.zeros(place, dtype=np.int32)
    code[: len(ends)] = ends
    for i, one in enumerate(flat):
        code[ends[2 * i] : ends[2 * i + 1]] = one
    return code


def _aligned(place: int) -> int:
    return -(-place // 16) * 16


def _fuse(
    program: Program,
    distribution: Distribution,
    strides: list[tuple[int, ...]],
    step_rows: list[list[int]],
    loop_rows: list[tuple[int, int, int, int]],
) -> None:
    """Let a map do the product before it as well where nothing else needs that product."""
    fused = program.fused(distribution)
    first_row = len(program.collect)
    pairs = zip(distribution.steps[:-1], distribution.steps[1:], strict=True)
    for number, (product, mapping) in enumerate(pairs, start=first_row):
        row = step_rows[number + 1]
        if mapping not in fused or row[KIND] != MAP:
            continue
        carrier = row[INNER]

        def stride(tensor: int, axis: int) -> int:
            axes = program.axes[tensor]
            return strides[tensor][axes.index(axis)] if axis in axes else 0

        left, right = product.left, product.right
        if stride(left, carrier) == 0:
            left, right = right, left
        if stride(left, carrier) != 1 or stride(right, carrier) not in (0, 1):
            continue
        every = dict.fromkeys((*program.axes[left], *program.axes[right]))
        out = program.axes[mapping.out]
        outer = [a for a in out if a in every]
        summed = [a for a in every if a not in out and a != carrier]
        first = len(loop_rows)
        for a in (*outer, *summed):
            loop_rows.append((a, stride(mapping.out, a), stride(left, a), stride(right, a)))
        kind = MULTIPLY_MAP if stride(right, carrier) == 1 else SCALE_MAP
        row[:] = [kind, mapping.out, left, right, first, len(outer), len(summed), carrier, NONE,
                  row[RELAY], 0, row[WIDTH], row[PREFIX]]
        step_rows[number][SKIP] = 2 if row[RELAY] == NONE else 1


def _longest(
    program: Program, steps: list[list[int]], loops: list[tuple[int, int, int, int]]
) -> int:
    longest = max((math.prod(program.shape(g.message)) for g in program.groups), default=1)
    longest = max(longest, TOGETHER, *program.extents)
    for step in steps:
        first, middle = step[LOOPS], step[LOOPS] + step[OUTER]
        for rows in (loops[first:middle], loops[middle : middle + step[SUMMED]]):
            turns = math.prod(program.extents[row[0]] for row in rows)
            longest = max(longest, turns)
        if step[KIND] not in (AXPY, MULTIPLY, ADD, MAP_COLUMNS) and step[INNER] != NONE:
            longest = max(longest, turns * program.extents[step[INNER]])
    return longest


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)


def _allocate(
    program: Program,
    distribution: Distribution,
    sizes: list[int],
    offset: list[int],
    in_place: set[int],
    readings: list[tuple[int, int, int, int]],
    start: int,
) -> int:
    """Place the tensors of the distribute pass; space of dead ones is used again.

    A small workspace stays in the cache of one core, which is worth more than any instruction.
    """
    last: dict[int, int] = {}
    for number, step in enumerate(distribution.steps):
        # The map of a product may do the product as well, from its operands.
        following = distribution.steps[number + 1 : number + 2]
        mapped = any(s.left == step.out and s.right in program.maps for s in following)
        for t in (step.left, step.right, step.out):
            last[t] = max(last.get(t, 0), number + mapped)
    end = len(distribution.steps)
    for tensor, _, _, _ in readings:
        last[tensor] = end
    # Beliefs of groups are read again for soft evidence on their members.
    stacked = {group.stacked for group in program.groups}
    for step in distribution.steps:
        if step.left in stacked:
            last[step.right] = end
    free: list[tuple[int, int]] = []
    top = start
    fixed = {group.message for group in program.groups} | {step.out for step in program.collect}
    made = {step.out for step in distribution.steps} - in_place - fixed
    dying: dict[int, list[int]] = {}
    for t, number in last.items():
        if t in made:
            dying.setdefault(number, []).append(t)
    for number, step in enumerate(distribution.steps):
        if step.out in made:
            size = sizes[step.out]
            chosen = min((block for block in free if block[1] >= size), default=None,
                         key=lambda block: (block[1], block[0]))
            if chosen is None:
                offset[step.out] = top
                top += size
            else:
                free.remove(chosen)
                offset[step.out] = chosen[0]
                if chosen[1] > size:
                    free.append((chosen[0] + size, chosen[1] - size))
        for t in sorted(dying.get(number, ())):
            free.append((offset[t], sizes[t]))
    return top


def _encode(
    program: Program,
    distribution: Distribution | None,
    step: Contraction,
    strides: list[tuple[int, ...]],
    loop_rows: list[tuple[int, int, int, int]],
    relay_places: dict[int, tuple[int, int, int]],
) -> list[int]:
    """Choose the innermost axis of a contraction and write its loops."""
    axes = program.axes

    def stride(tensor: int, axis: int) -> int:
        if tensor == NONE or axis not in axes[tensor]:
            return 0
        return strides[tensor][axes[tensor].index(axis)]

    left, right = step.left, step.right
    every = list(axes[left])
    if right != NONE:
        every += [a for a in axes[right] if a not in every]
    if distribution is not None and right != NONE and right in program.maps:
        place, carrier, target = relay_places.get(right, (NONE, program.root, distribution.target))
        width = program.extents[target]
        prefix = 0
        if right in program.map_between:
            states = program.map_between[right].states
            while prefix < len(states) and states[prefix] == prefix:
                prefix += 1
        first = len(loop_rows)
        last = axes[left][-1]
        rest = [a for a in axes[left] if a != carrier]
        if right in program.map_between and target in axes[left]:
            # From classes to finer ones; the tables have the partition as last axis.
            if stride(left, target) != 1 or stride(step.out, carrier) != 1:
                raise AssertionError("a partition is the last axis of a table")
            outer = [a for a in axes[left] if a != target]
            for a in outer:
                loop_rows.append((a, stride(step.out, a), stride(left, a), 0))
            return [EXPAND, step.out, left, right, first, len(outer), 0, carrier, NONE, place, 0,
                    width, prefix]
        if carrier in axes[step.out]:
            pass  # an ordinary product
        elif last == carrier and axes[step.out][-1] == target:
            outer = [a for a in rest if a in axes[step.out]]
            summed = [a for a in rest if a not in axes[step.out]]
            for a in (*outer, *summed):
                loop_rows.append((a, stride(step.out, a), stride(left, a), 0))
            return [MAP, step.out, left, right, first, len(outer), len(summed), carrier, NONE,
                    place, 0, width, prefix]
        elif axes[left] == (carrier, last) and axes[step.out] == (target, last):
            loop_rows.append((carrier, stride(step.out, target), stride(left, carrier), 0))
            return [MAP_COLUMNS, step.out, left, right, first, 0, 1, last, NONE, place, 0, width,
                    prefix]
        elif place == NONE:
            raise AssertionError("the root is the last axis of a table")

    def fit(axis: int) -> tuple[int, int, int]:
        run = [stride(t, axis) for t in (step.out, left, right)]
        usable = all(s in (0, 1) for s in run)
        return (int(usable), int(run[0] == 1), program.extents[axis])

    inner = max(every, key=lambda a: (fit(a), -a), default=NONE)
    if inner != NONE and not fit(inner)[0]:
        inner = NONE
    if inner != NONE and stride(left, inner) == 0:
        left, right = right, left
    runs_out = inner != NONE and stride(step.out, inner) == 1
    if right == NONE:
        kind = ADD if runs_out or inner == NONE else SUM
    elif inner == NONE:
        kind = AXPY
    elif stride(right, inner) == 0:
        kind = AXPY if runs_out else SUM_SCALED
    else:
        kind = MULTIPLY if runs_out else DOT
    outer = [a for a in axes[step.out] if a != inner]
    summed = [a for a in every if a not in axes[step.out] and a != inner]
    first = len(loop_rows)
    for a in (*outer, *summed):
        loop_rows.append((a, stride(step.out, a), stride(left, a), stride(right, a)))
    return [kind, step.out, left, right, first, len(outer), len(summed), inner, NONE, NONE, 0, 0,
            0]
