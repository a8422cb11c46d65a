"""Run the instructions of a program for eight jobs at a time: batches and parameter draws.

Every cell of the workspace is eight numbers side by side, one for each job of a block (*lanes*).
So every multiply-add is a vector instruction however short the axes of the tables are, and the
bookkeeping of a step is paid once for eight jobs. Tables and everything without evidence are the
same for all jobs of a batch and stay single numbers; with parameter draws the tables have lanes.

Hard evidence that all jobs of a block share slices tables as in the interpreter for single jobs
(batches are sorted so that this happens often); other evidence on inner variables becomes
likelihoods. Needs no lock and starts no threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import uint64
from numba.core import cgutils, types
from numba.extending import intrinsic

from epidural_dx.inference.bank import LANES
from epidural_dx.inference.instructions import (
    ADD,
    AXPY,
    CLEAN,
    DOT,
    EXPAND,
    FALLBACK,
    INFORMATION,
    INNER,
    JOINTS,
    KIND,
    LEFT,
    LOOPS,
    MAP,
    MAP_COLUMNS,
    MARGINALS,
    MULTIPLY,
    MULTIPLY_MAP,
    OUT,
    OUTER,
    RELAY,
    RIGHT,
    SCALE_MAP,
    SUM,
    SUMMED,
    TABLES,
    WIDTH,
    WORK,
)
from epidural_dx.inference.numba_steps import (
    append,
    borrowed,
    hide,
    jit,
    joined,
    log_terms,
    offsets,
    part,
    passed_over,
    rows_of,
)

_FUSED = ("contract",)


def _sum_of_products(
    left_wide: bool, right_wide: bool | None, *, add: bool = False, cells: int = 1, moves: int = 0
) -> Any:
    """Make the innermost operation, as vector code.

    For ``i < cells``, all lanes: ``out[at + i] = sum_s left[l0 + i + turns[s, 1]] *
    right[r0 + moves * i + turns[s, 2]]``, added to what is there if `add`. A wide operand has
    lanes, another is the same number in each; None leaves the right operand out. Several cells at
    a time keep as many sums in registers and read what does not move once.
    """

    @intrinsic
    def kernel(  # type: ignore[no-untyped-def]
        _context, out, at, left, left0, right, right0, turns, count
    ):
        signature = types.void(out, at, left, left0, right, right0, turns, count)

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            double, word = ir.DoubleType(), ir.IntType(64)
            vector = ir.VectorType(double, LANES)
            lanes = ir.Constant(word, LANES)

            def data(value: Any, kind: Any) -> Any:
                return context.make_array(kind)(context, builder, value).data

            def block(pointer: Any, cell: Any) -> Any:
                place = builder.gep(pointer, [builder.mul(cell, lanes)])
                return builder.bitcast(place, ir.PointerType(vector))

            def further(cell: Any, i: int) -> Any:
                return builder.add(cell, ir.Constant(word, i)) if i else cell

            def load(pointer: Any, cell: Any, wide: bool) -> Any:
                if wide:
                    value = builder.load(block(pointer, cell))
                    value.align = 8
                    return value
                nothing = ir.Constant(vector, ir.Undefined)
                number = builder.load(builder.gep(pointer, [cell]))
                first = builder.insert_element(
                    nothing, number, ir.Constant(ir.IntType(32), 0)
                )
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                return builder.shuffle_vector(first, nothing, zeros)

            out_data = data(arguments[0], out)
            left_data, right_data = data(arguments[2], left), data(arguments[4], right)
            turn_data = data(arguments[6], turns)
            totals = []
            for i in range(cells):
                totals.append(cgutils.alloca_once(builder, vector))  # type: ignore[no-untyped-call]
                before = ir.Constant(vector, [0.0] * LANES)
                if add:
                    before = load(out_data, further(arguments[1], i), True)
                builder.store(before, totals[i])
            with cgutils.for_range(builder, arguments[7], intp=word) as loop:
                row = builder.mul(loop.index, ir.Constant(word, 3))

                def turn(column: int, row: Any = row) -> Any:
                    place = builder.add(row, ir.Constant(word, column))
                    return builder.load(builder.gep(turn_data, [place]))

                left_cell = builder.add(arguments[3], turn(1))
                other = right_cell = None
                if right_wide is not None:
                    right_cell = builder.add(arguments[5], turn(2))
                    other = load(right_data, right_cell, right_wide)
                for i in range(cells):
                    term = load(left_data, further(left_cell, i), left_wide)
                    if right_wide is not None:
                        if i and moves:
                            other = load(right_data, further(right_cell, i), right_wide)
                        term = builder.fmul(term, other, flags=_FUSED)
                    total = builder.fadd(builder.load(totals[i]), term, flags=_FUSED)
                    builder.store(total, totals[i])
            for i in range(cells):
                target = block(out_data, further(arguments[1], i))
                builder.store(builder.load(totals[i]), target).align = 8
            return context.get_dummy_value()

        return signature, generate

    return kernel


_wide_wide = _sum_of_products(True, True)
_wide_narrow = _sum_of_products(True, False)
_narrow_wide = _sum_of_products(False, True)
_narrow_narrow = _sum_of_products(False, False)
_sum_wide = _sum_of_products(True, None)
_sum_narrow = _sum_of_products(False, None)
_add_narrow = _sum_of_products(False, None, add=True)
_wide_wide_4 = _sum_of_products(True, True, cells=4)
_wide_narrow_4 = _sum_of_products(True, False, cells=4)
_narrow_wide_4 = _sum_of_products(False, True, cells=4)
_wide_wide_moving_4 = _sum_of_products(True, True, cells=4, moves=1)
_wide_narrow_moving_4 = _sum_of_products(True, False, cells=4, moves=1)
_narrow_wide_moving_4 = _sum_of_products(False, True, cells=4, moves=1)


@jit
def _step(  # type: ignore[no-untyped-def]
    step, loops, extents, base, left, left_wide, right, right_wide, work, stores, one, maps,
    map_shift, k_target,
):
    """Run one contraction for all lanes."""
    kind = step[KIND]
    if kind == EXPAND:
        number = offsets(loops, step[LOOPS], step[LOOPS] + step[OUTER], extents, stores[0])
        for o in range(number):
            for i in range(extents[step[INNER]]):
                a = uint64((base[step[OUT]] + stores[0, o, 0] + i) * LANES)
                cell = base[step[LEFT]] + stores[0, o, 1] + maps[map_shift + i]
                if left_wide:
                    b = uint64(cell * LANES)
                    for lane in range(uint64(LANES)):
                        work[a + lane] = left[b + lane]
                else:
                    x = left[uint64(cell)]
                    for lane in range(uint64(LANES)):
                        work[a + lane] = x
        return
    outer_first = step[LOOPS]
    outer_last = outer_first + step[OUTER]
    sum_last = outer_last + step[SUMMED]
    inner = step[INNER]
    length = 1
    if inner >= 0:
        length = extents[inner]
    length, outer_last = joined(kind, loops, extents, outer_first, outer_last, length)
    outer_turns, turns = stores[0], stores[1]
    outer = offsets(loops, outer_first, outer_last, extents, outer_turns)
    count = offsets(loops, step[LOOPS] + step[OUTER], sum_last, extents, turns)
    out0 = base[step[OUT]]
    left0 = base[step[LEFT]]
    right0 = np.int64(0)
    if step[RIGHT] >= 0:
        right0 = base[step[RIGHT]]
    if kind == MAP or kind >= MULTIPLY_MAP:
        # The terms of every state of the target, one state after another.
        along = 0 if kind == SCALE_MAP else 1
        sorted_turns, last = stores[2], stores[3]
        m = 0
        for t in range(k_target):
            for i in range(length):
                if maps[map_shift + i] != t:
                    continue
                for s in range(count):
                    sorted_turns[m, 1] = turns[s, 1] + i
                    sorted_turns[m, 2] = turns[s, 2] + i * along
                    m += 1
            last[t, 0] = m
        for o in range(outer):
            oo = out0 + outer_turns[o, 0]
            lo = left0 + outer_turns[o, 1]
            ro = right0 + outer_turns[o, 2]
            m = 0
            for t in range(k_target):
                some, here = last[t, 0] - m, sorted_turns[m:]
                if kind == MAP:
                    if left_wide:
                        _sum_wide(work, oo + t, left, lo, left, ro, here, some)
                    else:
                        _sum_narrow(work, oo + t, left, lo, left, ro, here, some)
                elif left_wide and right_wide:
                    _wide_wide(work, oo + t, left, lo, right, ro, here, some)
                elif left_wide:
                    _wide_narrow(work, oo + t, left, lo, right, ro, here, some)
                elif right_wide:
                    _narrow_wide(work, oo + t, left, lo, right, ro, here, some)
                else:
                    _narrow_narrow(work, oo + t, left, lo, right, ro, here, some)
                m = last[t, 0]
        return
    if kind > MAP:
        stride_out, stride_left = loops[outer_first, 1], loops[outer_first, 2]
        for t in range(k_target):
            oo = (out0 + t * stride_out) * LANES
            for i in range(length * LANES):
                work[uint64(oo + i)] = 0.0
        for e in range(extents[loops[outer_first, 0]]):
            oo = out0 + maps[map_shift + e] * stride_out
            lo = left0 + e * stride_left
            if left_wide:
                a, b = uint64(oo * LANES), uint64(lo * LANES)
                for i in range(uint64(length * LANES)):
                    work[a + i] += left[b + i]
            else:
                for i in range(length):
                    _add_narrow(work, oo + i, left, lo + i, left, lo, one, np.int64(1))
        return
    # How far the right operand moves along the inner axis when that stays in the result.
    step_right = np.int64(1) if kind == MULTIPLY else np.int64(0)
    if kind != MULTIPLY and kind != AXPY and kind != ADD:
        if inner >= 0:
            count = append(turns, count, length, 0, 1, 1 if kind == DOT else 0)
        length = 1
    single = step[RIGHT] < 0
    if kind == MULTIPLY and count == 1 and left_wide and right_wide:
        for o in range(outer):
            a = uint64((out0 + outer_turns[o, 0]) * LANES)
            b = uint64((left0 + outer_turns[o, 1] + turns[0, 1]) * LANES)
            c = uint64((right0 + outer_turns[o, 2] + turns[0, 2]) * LANES)
            for i in range(uint64(length * LANES)):
                work[a + i] = left[b + i] * right[c + i]
        return
    fours = (length // 4) * 4
    for o in range(outer):
        oo = out0 + outer_turns[o, 0]
        lo = left0 + outer_turns[o, 1]
        ro = right0 + outer_turns[o, 2]
        if single:
            if left_wide:
                for i in range(length):
                    _sum_wide(work, oo + i, left, lo + i, left, ro, turns, count)
            else:
                for i in range(length):
                    _sum_narrow(work, oo + i, left, lo + i, left, ro, turns, count)
        elif left_wide and right_wide:
            if kind == MULTIPLY:
                for i in range(0, fours, 4):
                    _wide_wide_moving_4(work, oo + i, left, lo + i, right, ro + i, turns, count)
            else:
                for i in range(0, fours, 4):
                    _wide_wide_4(work, oo + i, left, lo + i, right, ro, turns, count)
            for i in range(fours, length):
                _wide_wide(work, oo + i, left, lo + i, right, ro + i * step_right, turns, count)
        elif left_wide:
            if kind == MULTIPLY:
                for i in range(0, fours, 4):
                    _wide_narrow_moving_4(work, oo + i, left, lo + i, right, ro + i, turns, count)
            else:
                for i in range(0, fours, 4):
                    _wide_narrow_4(work, oo + i, left, lo + i, right, ro, turns, count)
            for i in range(fours, length):
                _wide_narrow(work, oo + i, left, lo + i, right, ro + i * step_right, turns, count)
        elif right_wide:
            if kind == MULTIPLY:
                for i in range(0, fours, 4):
                    _narrow_wide_moving_4(work, oo + i, left, lo + i, right, ro + i, turns, count)
            else:
                for i in range(0, fours, 4):
                    _narrow_wide_4(work, oo + i, left, lo + i, right, ro, turns, count)
            for i in range(fours, length):
                _narrow_wide(work, oo + i, left, lo + i, right, ro + i * step_right, turns, count)
        else:
            for i in range(length):
                _narrow_narrow(work, oo + i, left, lo + i, right, ro + i * step_right, turns, count)


@jit
def run_blocks(  # type: ignore[no-untyped-def]
    code,
    maps,
    table,
    clean,
    drawn,
    drawn_cells,
    drawn_sources,
    draws,
    order,
    states,
    soft,
    first_block,
    last_block,
    wanted,
    work,
    scratch,
    stores,
    out,
):
    """Run blocks ``first_block .. last_block - 1`` of eight jobs each.

    Parameters
    ----------
    code, maps, clean, states, soft, wanted, out
        As in `run_jobs`; job = case or case * draws + draw.
    table
        Packed tables of one program, shape (cells,); with draws (cells * lanes,), a workspace in
        which the cells that are the same in every draw are filled in.
    drawn, drawn_cells, drawn_sources
        A bank: values, shape (blocks of draws, values, lanes); which packed cells are drawn, and
        from which value each comes. No cells without draws.
    draws
        Number of draws; 0 for a batch of cases.
    order
        The cases in the order in which they are put into blocks; with draws every case has as many
        blocks as the bank.
    work, scratch, stores
        Workspaces of this thread.
    """
    header = borrowed(part(code, 0))
    extents_full = borrowed(part(code, 1))
    variables = borrowed(rows_of(code, 2, 4))
    slices = borrowed(rows_of(code, 3, 2))
    offset = borrowed(part(code, 4))
    space = borrowed(part(code, 5))
    inputs = borrowed(rows_of(code, 6, 3))
    groups = borrowed(rows_of(code, 7, 9))
    leaves = borrowed(rows_of(code, 8, 2))
    pointer = borrowed(part(code, 9))
    axes = borrowed(part(code, 10))
    strides = borrowed(part(code, 11))
    steps = borrowed(rows_of(code, 12, 16))
    loops = borrowed(rows_of(code, 13, 4))
    relays = borrowed(part(code, 14))
    kernels = borrowed(rows_of(code, 15, 3))
    readings = borrowed(rows_of(code, 16, 4))
    prepared = borrowed(maps)
    usable, mapped = prepared[: kernels.shape[0]], prepared[kernels.shape[0] :]
    table = borrowed(table)
    clean = borrowed(clean)
    drawn = borrowed(drawn)
    drawn_cells = borrowed(drawn_cells)
    drawn_sources = borrowed(drawn_sources)
    order = borrowed(order)
    states = borrowed(states)
    out = borrowed(out)
    soft = borrowed(soft)
    work = borrowed(work)
    scratch = borrowed(scratch)
    stores = borrowed(stores)
    root, target, total, map_tensor = header[0], header[1], header[2], header[3]
    answer, rows = header[4], header[5]
    n_tensors = offset.size
    n_variables = variables.shape[0]
    k_root = extents_full[root]
    k_target = extents_full[target]
    root_at = 2 + k_target
    marginals_at = root_at + k_root
    joints_at = marginals_at + (rows if wanted & MARGINALS else 0)
    bits_at = joints_at + (rows * k_target if wanted & JOINTS else 0)
    own_extents = extents_full.copy()
    extents = borrowed(own_extents)
    own_base = np.empty(n_tensors, dtype=np.int64)
    base = borrowed(own_base)
    own_where = np.empty(n_tensors, dtype=np.int64)
    where = borrowed(own_where)
    own_changed = np.empty(n_tensors, dtype=np.bool_)
    changed = borrowed(own_changed)
    outer_store = stores[0]
    own_one = np.zeros((1, 3), dtype=np.int64)
    one = borrowed(own_one)
    scratch_bits = scratch.view(np.uint64)
    use_clean = clean.size > 0
    wide_tables = draws > 0
    table_lanes = LANES if wide_tables else 1
    own_hidden = np.zeros(header[10], dtype=np.int64)
    hidden = borrowed(own_hidden)
    own_fixed = np.empty(n_variables, dtype=np.int64)
    fixed = borrowed(own_fixed)
    own_case_of = np.empty(LANES, dtype=np.int64)
    case_of = borrowed(own_case_of)
    own_job_of = np.empty(LANES, dtype=np.int64)
    job_of = borrowed(own_job_of)
    own_scale = np.empty(LANES)
    scale = borrowed(own_scale)
    own_lost = np.empty(LANES)
    lost = borrowed(own_lost)
    own_norm = np.empty(LANES)
    norm = borrowed(own_norm)
    own_inverse = np.empty(LANES)
    inverse = borrowed(own_inverse)
    own_entropy = np.empty(LANES)
    entropy = borrowed(own_entropy)
    per_case = drawn.shape[0]
    own_terms = np.empty(rows * LANES)
    terms = borrowed(own_terms)
    deterministic = mapped.size > 0
    for block in range(first_block, last_block):
        if wide_tables:
            case = order[block // per_case]
            chunk = block % per_case
            used = min(LANES, draws - chunk * LANES)
            for lane in range(LANES):
                case_of[lane] = case
                job_of[lane] = case * draws + chunk * LANES + min(lane, used - 1)
            for i in range(drawn_cells.size):
                a, b = uint64(drawn_cells[i] * LANES), drawn_sources[i]
                for lane in range(LANES):
                    table[a + lane] = drawn[chunk, b, lane]
        else:
            used = min(LANES, order.size - block * LANES)
            for lane in range(LANES):
                case_of[lane] = order[block * LANES + min(lane, used - 1)]
                job_of[lane] = case_of[lane]
        # Evidence that all lanes share slices the tables.
        for v in range(n_variables):
            state = states[case_of[0], v]
            for lane in range(1, used):
                if states[case_of[lane], v] != state:
                    state = -3
            extents[v] = extents_full[v]
            if variables[v, 1] >= 0 and state >= 0:
                extents[v] = 1
            fixed[v] = state
        for t in range(uint64(n_tensors)):
            base[t] = offset[t]
            where[t] = space[t]
            changed[t] = False
        for v in range(n_variables):
            if fixed[v] >= 0 and variables[v, 1] >= 0:
                for i in range(variables[v, 2], variables[v, 3]):
                    base[slices[i, 0]] += fixed[v] * slices[i, 1]
        # Other evidence on inner variables multiplies one factor that mentions them.
        for v in range(n_variables):
            home = variables[v, 1]
            if home < 0 or fixed[v] >= -1:
                continue
            size, start = np.int64(0), np.int64(0)
            for r in range(inputs.shape[0]):
                if inputs[r, 0] == home:
                    start, size = inputs[r, 1], inputs[r, 2]
            if where[home] == TABLES:
                for i in range(size):
                    for lane in range(LANES):
                        here = (offset[home] + i) * table_lanes
                        if wide_tables:
                            here += lane
                        work[uint64((start + i) * LANES + lane)] = table[uint64(here)]
                base[home] += start - offset[home]
                where[home] = WORK
                changed[home] = True
            for i in range(pointer[home], pointer[home + 1]):
                if axes[i] != v:
                    continue
                st, k = strides[i], extents_full[v]
                for lane in range(LANES):
                    state = states[case_of[lane], v]
                    if state == -1:
                        continue
                    for c in range(size):
                        digit = (c // st) % k
                        x = 0.0
                        if state == -2:
                            x = soft[case_of[lane], variables[v, 0] + digit]
                        elif state == digit:
                            x = 1.0
                        work[uint64((start + c) * LANES + lane)] *= x
        # Messages of the groups of leaf findings.
        for lane in range(LANES):
            scale[lane] = 0.0
            lost[lane] = 0.0
        for g in range(groups.shape[0]):
            message, stacked = groups[g, 0], groups[g, 1]
            begin, end = pointer[message], pointer[message + 1]
            m0 = base[message]
            width, along = groups[g, 5], groups[g, 6]
            shift = (m0 - offset[message]) * width
            observed = 0
            cells = 0
            for leaf in range(groups[g, 2], groups[g, 3]):
                v = leaves[leaf, 0]
                if fixed[v] == -1:
                    continue
                if observed == 0:
                    cells = 1
                    outer_store[0, 0] = 0
                    for i in range(begin, end):
                        k = extents[axes[i]]
                        if k == 1:
                            continue
                        for c in range(cells - 1, -1, -1):
                            b0 = outer_store[c, 0]
                            for j in range(k - 1, -1, -1):
                                outer_store[c * k + j, 0] = b0 + j * strides[i]
                        cells *= k
                    for c in range(cells):
                        at = (m0 + outer_store[c, 0]) * LANES
                        for lane in range(LANES):
                            work[uint64(at + lane)] = 1.0
                observed += 1
                t0 = offset[stacked] + leaves[leaf, 1] * along + shift
                for lane in range(LANES):
                    case = case_of[lane]
                    state = states[case, v]
                    if state == -1:
                        continue
                    extra = lane if wide_tables else 0
                    top = 0.0
                    for c in range(cells):
                        x = 0.0
                        if state >= 0:
                            here = t0 + state * along + outer_store[c, 0] * width
                            x = table[uint64(here * table_lanes + extra)]
                        else:
                            for j in range(extents_full[v]):
                                here = t0 + j * along + outer_store[c, 0] * width
                                x += (
                                    table[uint64(here * table_lanes + extra)]
                                    * soft[case, variables[v, 0] + j]
                                )
                        scratch[c] = x
                        top = max(top, x)
                    if top == 0.0:
                        top = 1.0
                    scale[lane] += np.log(top)
                    top = 1.0 / top
                    for c in range(cells):
                        work[uint64((m0 + outer_store[c, 0]) * LANES + lane)] *= scratch[c] * top
            if observed == 0:
                if use_clean:
                    where[message] = CLEAN
                else:
                    size = np.int64(1)
                    for i in range(begin, end):
                        size *= extents_full[axes[i]]
                    for i in range(size * LANES):
                        work[uint64(offset[message] * LANES + i)] = 1.0
                continue
            changed[message] = True
            if observed > 1:
                for lane in range(LANES):
                    top = 0.0
                    for c in range(cells):
                        top = max(top, work[uint64((m0 + outer_store[c, 0]) * LANES + lane)])
                    if top == 0.0:
                        top = 1.0
                    for c in range(cells):
                        work[uint64((m0 + outer_store[c, 0]) * LANES + lane)] /= top
                    scale[lane] += np.log(top)
                    lost[lane] += np.log(top)
        root_shift = np.int64(0)
        if fixed[root] >= 0:
            root_shift = fixed[root]
        # Collect pass.
        for number in range(header[11]):
            step = steps[number]
            made = step[OUT]
            left, right = step[LEFT], step[RIGHT]
            run = changed[left] or not use_clean
            if right >= 0 and changed[right]:
                run = True
            if not run:
                first = step[LOOPS] + step[OUTER]
                for r in range(first, first + step[SUMMED]):
                    if extents[loops[r, 0]] != extents_full[loops[r, 0]]:
                        run = True
                inner = step[INNER]
                if inner >= 0 and extents[inner] != extents_full[inner]:
                    if step[KIND] == DOT or step[KIND] >= SUM or step[KIND] == 3:
                        run = True
            if not run:
                where[made] = CLEAN
                continue
            changed[made] = True
            a, a_wide = table, wide_tables
            if where[left] == CLEAN:
                a, a_wide = clean, False
            elif where[left] == WORK:
                a, a_wide = work, True
            b, b_wide = table, wide_tables
            if right >= 0:
                if where[right] == CLEAN:
                    b, b_wide = clean, False
                elif where[right] == WORK:
                    b, b_wide = work, True
            _step(step, loops, extents, base, a, a_wide, b, b_wide, work, stores, one, relays,
                  step[RELAY], step[WIDTH])
        # Evidence and posterior of the root.
        source, source_lanes = table, table_lanes
        if where[total] == CLEAN:
            source, source_lanes = clean, 1
        elif where[total] == WORK:
            source, source_lanes = work, LANES
        shift = base[total] - offset[total]
        for lane in range(LANES):
            extra = lane if source_lanes > 1 else 0
            job = job_of[lane]
            z = 0.0
            for e in range(extents[root]):
                z += source[uint64((base[total] + e) * source_lanes + extra)]
            norm[lane] = z
            inverse[lane] = 0.0
            if z > 0.0:
                inverse[lane] = 1.0 / z
                out[job, 0] = np.log(z) + scale[lane]
                out[job, 1] = np.log(z) + lost[lane]
            else:
                out[job, 0] = -np.inf
                out[job, 1] = -np.inf
            for e in range(k_root):
                out[job, root_at + e] = 0.0
            for e in range(extents[root]):
                x = source[uint64((base[total] + e) * source_lanes + extra)]
                out[job, root_at + shift + e] = x * inverse[lane]
            if map_tensor < 0:
                for e in range(k_root):
                    out[job, 2 + e] = out[job, root_at + e]
                continue
            for j in range(k_target):
                out[job, 2 + j] = 0.0
            if deterministic:
                for e in range(k_root):
                    out[job, 2 + mapped[e]] += out[job, root_at + e]
                continue
            # P(target | root, evidence on the target).
            extra = lane if wide_tables else 0
            state = states[case_of[lane], target]
            width, along = groups[header[7], 5], groups[header[7], 6]
            t0 = offset[groups[header[7], 1]] + header[8] * along
            for e in range(k_root):
                column = 0.0
                for j in range(k_target):
                    x = table[uint64((t0 + j * along + e * width) * table_lanes + extra)]
                    if state >= 0 and state != j:
                        x = 0.0
                    elif state == -2:
                        x *= soft[case_of[lane], variables[target, 0] + j]
                    work[uint64((offset[map_tensor] + e * k_target + j) * LANES + lane)] = x
                    column += x
                if column > 0.0:
                    for j in range(k_target):
                        here = uint64((offset[map_tensor] + e * k_target + j) * LANES + lane)
                        work[here] /= column
                        out[job, 2 + j] += out[job, root_at + e] * work[here]
        if wanted == 0:
            continue

        # Distribute pass.
        for i in range(uint64(rows * k_target * LANES)):
            work[uint64(answer * LANES) + i] = 0.0
        for i in range(hidden.size):
            hidden[i] = 0
        if use_clean:
            hide(kernels, usable, changed, hidden)
        for number in range(header[11], header[11] + header[9]):
            step = steps[number]
            if passed_over(step, hidden, deterministic):
                continue
            maps, map_shift, map_width = mapped, root_shift, k_target
            if step[KIND] >= MAP:
                if step[RELAY] >= 0:
                    carrier = step[INNER]
                    if step[KIND] == MAP_COLUMNS:
                        carrier = loops[step[LOOPS], 0]
                    maps, map_shift, map_width = relays, step[RELAY], step[WIDTH]
                    if (
                        carrier < n_variables
                        and fixed[carrier] >= 0
                        and variables[carrier, 1] >= 0
                    ):
                        map_shift += fixed[carrier]
                elif not deterministic:
                    step = steps[step[FALLBACK]]
            left, right = step[LEFT], step[RIGHT]
            a, a_wide = table, wide_tables
            if where[left] == CLEAN:
                a, a_wide = clean, False
            elif where[left] == WORK:
                a, a_wide = work, True
            b, b_wide = table, wide_tables
            if right >= 0:
                if where[right] == CLEAN:
                    b, b_wide = clean, False
                elif where[right] == WORK:
                    b, b_wide = work, True
            _step(step, loops, extents, base, a, a_wide, b, b_wide, work, stores, one, maps,
                  map_shift, map_width)
        for r in range(readings.shape[0]):
            # Answers with the axes (variable or group, target).
            if hidden[readings[r, 3]] != 0:
                continue
            t, v = readings[r, 0], readings[r, 2]
            source, source_lanes = table, table_lanes
            if where[t] == CLEAN:
                source, source_lanes = clean, 1
            elif where[t] == WORK:
                source, source_lanes = work, LANES
            column = answer + readings[r, 1]
            if v < n_variables and fixed[v] >= 0:
                column += fixed[v]
            if target == root:
                column += root_shift * rows
            from_v, from_t = np.int64(0), np.int64(0)
            for i in range(pointer[t], pointer[t + 1]):
                if axes[i] == v:
                    from_v = strides[i]
                else:
                    from_t = strides[i]
            turns = k_target if target != root else extents[root]
            for i in range(extents[v]):
                for j in range(turns):
                    to = uint64((column + j * rows + i) * LANES)
                    at = uint64((base[t] + i * from_v + j * from_t) * source_lanes)
                    for lane in range(LANES):
                        extra = lane if source_lanes > 1 else 0
                        work[to + lane] = source[at + extra]
        for i in range(uint64(rows * k_target)):
            here = (uint64(answer) + i) * LANES
            for lane in range(LANES):
                work[here + lane] *= inverse[lane]
        # Columns that the passes leave open: root, target, observed leaf findings.
        for lane in range(used):
            job = job_of[lane]
            case = case_of[lane]
            if map_tensor >= 0:
                r0 = answer + variables[root, 0]
                for e in range(k_root):
                    if deterministic:
                        here = uint64((r0 + e + mapped[e] * rows) * LANES + lane)
                        work[here] = out[job, root_at + e]
                        continue
                    for j in range(k_target):
                        here = uint64((offset[map_tensor] + e * k_target + j) * LANES + lane)
                        work[uint64((r0 + e + j * rows) * LANES + lane)] = (
                            out[job, root_at + e] * work[here]
                        )
            for g in range(groups.shape[0]):
                if not changed[groups[g, 0]]:
                    continue
                for leaf in range(groups[g, 2], groups[g, 3]):
                    v = leaves[leaf, 0]
                    state = states[case, v]
                    if state == -1:
                        continue
                    k = extents_full[v]
                    r0 = answer + variables[v, 0]
                    for j in range(k_target):
                        for i in range(k):
                            work[uint64((r0 + j * rows + i) * LANES + lane)] = 0.0
                    if state >= 0:
                        for j in range(k_target):
                            work[uint64((r0 + state + j * rows) * LANES + lane)] = out[
                                job, 2 + j]
                        continue
                    message, stacked, belief = groups[g, 0], groups[g, 1], groups[g, 4]
                    source, source_lanes = table, table_lanes
                    if where[belief] == CLEAN:
                        source, source_lanes = clean, 1
                    elif where[belief] == WORK:
                        source, source_lanes = work, LANES
                    extra = lane if source_lanes > 1 else 0
                    extra_table = lane if wide_tables else 0
                    width, step_v = groups[g, 5], groups[g, 6]
                    t0 = offset[stacked] + leaves[leaf, 1] * step_v
                    cells = 1
                    for i in range(pointer[belief], pointer[belief + 1]):
                        cells *= extents[axes[i]]
                    mass_of_all = 0.0
                    for c in range(cells):
                        rest = c
                        at = base[belief]
                        parent = base[message] - offset[message]
                        told = np.int64(-1)
                        for i in range(pointer[belief + 1] - 1, pointer[belief] - 1, -1):
                            axis = axes[i]
                            digit = rest % extents[axis]
                            rest //= extents[axis]
                            at += digit * strides[i]
                            for m in range(pointer[message], pointer[message + 1]):
                                if axes[m] == axis:
                                    parent += digit * strides[m]
                            if axis == groups[g, 7]:
                                told = digit
                                if (
                                    axis < n_variables
                                    and fixed[axis] >= 0
                                    and variables[axis, 1] >= 0
                                ):
                                    told = fixed[axis]
                                if groups[g, 8] >= 0:
                                    told = relays[groups[g, 8] + told]
                        mass = source[uint64(at * source_lanes + extra)]
                        if mass == 0.0:
                            continue
                        own = 0.0
                        for s in range(k):
                            here = uint64((t0 + s * step_v + parent * width) * table_lanes)
                            own += table[here + extra_table] * soft[case, variables[v, 0] + s]
                        if own == 0.0:
                            continue
                        for s in range(k):
                            here = uint64((t0 + s * step_v + parent * width) * table_lanes)
                            x = (
                                mass * soft[case, variables[v, 0] + s]
                                * table[here + extra_table] / own
                            )
                            mass_of_all += x
                            if groups[g, 7] != root or target == root:
                                work[uint64((r0 + s + told * rows) * LANES + lane)] += x
                            elif deterministic:
                                work[uint64((r0 + s + mapped[told] * rows) * LANES + lane)] += x
                            else:
                                for j in range(k_target):
                                    m = offset[map_tensor] + told * k_target + j
                                    work[uint64((r0 + s + j * rows) * LANES + lane)] += (
                                        x * work[uint64(m * LANES + lane)]
                                    )
                    if mass_of_all > 0.0:
                        for j in range(k_target):
                            for i in range(k):
                                work[uint64((r0 + j * rows + i) * LANES + lane)] /= mass_of_all
            r0 = answer + variables[target, 0]
            for i in range(k_target):
                for j in range(k_target):
                    work[uint64((r0 + j * rows + i) * LANES + lane)] = 0.0
                work[uint64((r0 + i * rows + i) * LANES + lane)] = out[job, 2 + i]

        if wanted & JOINTS:
            for lane in range(used):
                record = out[job_of[lane]]
                for i in range(rows * k_target):
                    record[uint64(joints_at + i)] = work[uint64((answer + i) * LANES + lane)]
        if wanted & (MARGINALS | INFORMATION) == 0:
            continue
        sums = uint64((answer + rows * k_target) * LANES)
        width_u = uint64(rows * LANES)
        for i in range(width_u):
            work[sums + i] = 0.0
        for j in range(uint64(k_target)):
            r1 = uint64(answer * LANES) + j * width_u
            for i in range(width_u):
                work[sums + i] += work[r1 + i]
        if wanted & INFORMATION:
            for i in range(width_u):
                terms[i] = work[sums + i]
            log_terms(terms, 0, rows * LANES, scratch, scratch_bits)
            for i in range(width_u):
                terms[i] = -terms[i]
            for j in range(k_target):
                first = (answer + j * rows) * LANES
                log_terms(work, first, rows * LANES, scratch, scratch_bits)
                for i in range(width_u):
                    terms[i] += work[uint64(first) + i]
            for lane in range(LANES):
                entropy[lane] = 0.0
                for j in range(k_target):
                    p = out[job_of[lane], 2 + j]
                    if p > 0.0:
                        entropy[lane] -= p * np.log2(p)
            for v in range(n_variables):
                start = variables[v, 0]
                for lane in range(used):
                    bits = entropy[lane]
                    for i in range(start, start + extents_full[v]):
                        bits += terms[uint64(i * LANES + lane)]
                    if bits < 0.0 or states[case_of[lane], v] >= 0:
                        bits = 0.0
                    out[job_of[lane], bits_at + v] = bits
        if wanted & MARGINALS:
            for lane in range(used):
                job = job_of[lane]
                for i in range(rows):
                    out[job, marginals_at + i] = work[sums + uint64(i * LANES + lane)]
                for e in range(k_root):
                    out[job, marginals_at + variables[root, 0] + e] = out[job, root_at + e]
    # Used last here, so that they live that long.
    return (
        own_extents.size + own_base.size + own_where.size + own_changed.size
        + own_one.size + own_hidden.size + own_fixed.size + own_case_of.size
        + own_job_of.size + own_scale.size + own_lost.size + own_norm.size
        + own_inverse.size + own_entropy.size + own_terms.size
    )
