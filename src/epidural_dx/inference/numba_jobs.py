"""The interpreter for single jobs: all evidence of a patient in, all answers out."""

from __future__ import annotations

import numpy as np
from numba import uint64

from epidural_dx.inference.instructions import (
    CLEAN,
    DOT,
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
    OUT,
    OUTER,
    RELAY,
    RIGHT,
    SUM,
    SUM_SCALED,
    SUMMED,
    TABLES,
    WIDTH,
    WORK,
)
from epidural_dx.inference.numba_steps import (
    borrowed,
    hide,
    jit,
    log_terms,
    part,
    passed_over,
    rows_of,
    run_step,
)


@jit
def held(space, table, clean, work):  # type: ignore[no-untyped-def]
    """Return the array that holds a tensor."""
    if space == CLEAN:
        return clean
    return work if space == WORK else table


@jit
def run_jobs(  # type: ignore[no-untyped-def]
    code, maps, tables, clean, states, soft, jobs, wanted, room, work, out, taken
):
    """Run some jobs, one after another; job = case * draws + draw.

    Few arguments, because each costs about as much as a step does.

    Parameters
    ----------
    code
        The packed arrays of `Instructions`.
    maps
        For every kernel 1 if it may be used, then the target state of every root state; the latter
        only when the target is a function of the root.
    tables
        Packed tables, shape (draws, cells).
    clean
        The collect pass without evidence, or empty: then every step is run. Kernels follow.
    states
        Shape (cases, variables): state, -1 open, -2 soft.
    soft
        Shape (cases, rows of the answer): likelihoods of soft variables, or no rows at all.
    jobs
        How many.
    wanted
        Answers to write, as bits; 0 runs the collect pass only.
    room, work
        Workspaces of this thread, integers and numbers, see `Instructions`.
    out
        Shape (jobs, columns): log-evidence, the log that must stay above a floor, posterior of the
        target and of the root; then what is wanted of marginals, joint tables and information.
    taken
        Log of what was taken out of the likelihoods, added to every log-evidence.

    Returns
    -------
    float
        The smallest of the logs that must stay above a floor.
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
    root, target, total, map_tensor = header[0], header[1], header[2], header[3]
    answer, rows = header[4], header[5]
    n_tensors = offset.size
    n_variables = variables.shape[0]
    k_root = extents_full[root]
    k_target = extents_full[target]
    collect_steps, longest = header[11], np.int64(header[12])
    prepared = borrowed(maps)
    usable, mapped = prepared[: kernels.shape[0]], prepared[kernels.shape[0] :]
    tables, clean = borrowed(tables), borrowed(clean)
    states, soft, out = borrowed(states), borrowed(soft), borrowed(out)
    room, work = borrowed(room), borrowed(work)
    stores = room[: 9 * longest].reshape((3, longest, 3))
    place = 9 * longest
    base = room[place : place + n_tensors]
    place += n_tensors
    extents = room[place : place + extents_full.size]
    place += extents_full.size
    hidden = room[place : place + header[10]]
    place += header[10]
    bytes_left = room[place:].view(np.int8)
    where, changed = bytes_left[:n_tensors], bytes_left[n_tensors : 2 * n_tensors]
    scratch = work[header[6] :]
    scratch_bits = scratch.view(np.uint64)
    outer_store = stores[0]
    draws = tables.shape[0]
    use_clean = clean.size > 0
    root_at = 2 + k_target
    marginals_at = root_at + k_root
    joints_at = marginals_at + (rows if wanted & MARGINALS else 0)
    bits_at = joints_at + (rows * k_target if wanted & JOINTS else 0)
    for axis in range(uint64(extents_full.size)):
        extents[axis] = extents_full[axis]
    least = np.inf
    for job in range(jobs):
        case = job // draws
        table = tables[job - case * draws]
        row = states[case]
        record = out[job]
        any_soft = False
        for v in range(n_variables):
            extents[v] = extents_full[v]
            if row[v] >= 0 and variables[v, 1] >= 0:
                extents[v] = 1
            elif row[v] == -2:
                any_soft = True
        for t in range(uint64(n_tensors)):
            base[t] = offset[t]
            where[t] = space[t]
            changed[t] = 0
        for v in range(n_variables):
            if row[v] >= 0 and variables[v, 1] >= 0:
                for i in range(variables[v, 2], variables[v, 3]):
                    base[slices[i, 0]] += row[v] * slices[i, 1]
        # Soft evidence on inner variables multiplies one factor that mentions them.
        if any_soft:
            for v in range(n_variables):
                home = variables[v, 1]
                if row[v] != -2 or home < 0:
                    continue
                if where[home] == TABLES:
                    for r in range(inputs.shape[0]):
                        if inputs[r, 0] == home:
                            shift = inputs[r, 1] - offset[home]
                            for i in range(inputs[r, 2]):
                                work[inputs[r, 1] + i] = table[offset[home] + i]
                            base[home] += shift
                            where[home] = WORK
                            changed[home] = 1
                            size = inputs[r, 2]
                            start = inputs[r, 1]
                else:
                    for r in range(inputs.shape[0]):
                        if inputs[r, 0] == home:
                            size = inputs[r, 2]
                            start = inputs[r, 1]
                for i in range(pointer[home], pointer[home + 1]):
                    if axes[i] == v:
                        st = strides[i]
                        k = extents_full[v]
                        for c in range(size):
                            work[start + c] *= soft[case, variables[v, 0] + (c // st) % k]
        # Messages of the groups of leaf findings.
        scale = 0.0
        lost = 0.0
        for g in range(groups.shape[0]):
            message = groups[g, 0]
            stacked = groups[g, 1]
            begin, end = pointer[message], pointer[message + 1]
            block = 1
            for i in range(begin, end):
                block *= extents_full[axes[i]]
            observed = 0
            cells = 0
            m0 = base[message]
            # How far apart parents and states are in the stacked table, and where the evidence on
            # the parents points in it.
            width, along = groups[g, 5], groups[g, 6]
            shift = (m0 - offset[message]) * width
            for leaf in range(groups[g, 2], groups[g, 3]):
                v = leaves[leaf, 0]
                state = row[v]
                if state == -1:
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
                        work[m0 + outer_store[c, 0]] = 1.0
                t0 = offset[stacked] + leaves[leaf, 1] * along + shift
                top = 0.0
                if state >= 0:
                    t0 += state * along
                    for c in range(cells):
                        x = table[uint64(t0 + outer_store[c, 0] * width)]
                        scratch[c] = x
                        top = max(top, x)
                else:
                    for c in range(cells):
                        x = 0.0
                        for j in range(extents_full[v]):
                            x += (
                                table[t0 + j * along + outer_store[c, 0] * width]
                                * soft[case, variables[v, 0] + j]
                            )
                        scratch[c] = x
                        top = max(top, x)
                if top == 0.0:
                    top = 1.0
                scale += np.log(top)
                top = 1.0 / top
                for c in range(cells):
                    work[m0 + outer_store[c, 0]] *= scratch[c] * top
                observed += 1
            if observed == 0:
                if use_clean:
                    where[message] = CLEAN
                else:
                    for i in range(block):
                        work[offset[message] + i] = 1.0
            else:
                changed[message] = 1
                if observed > 1:
                    top = 0.0
                    for c in range(cells):
                        top = max(top, work[m0 + outer_store[c, 0]])
                    if top == 0.0:
                        top = 1.0
                    for c in range(cells):
                        work[m0 + outer_store[c, 0]] /= top
                    scale += np.log(top)
                    lost += np.log(top)
        root_shift = np.int64(0)
        if row[root] >= 0:
            root_shift = row[root]
        # Collect pass.
        for number in range(collect_steps):
            step = steps[number]
            made = step[OUT]
            left, right = step[LEFT], step[RIGHT]
            run = changed[left] == 1 or not use_clean
            if right >= 0 and changed[right] == 1:
                run = True
            if not run:
                # Evidence on a variable that is summed out here changes the sum.
                first = step[LOOPS] + step[OUTER]
                for r in range(first, first + step[SUMMED]):
                    if extents[loops[r, 0]] != extents_full[loops[r, 0]]:
                        run = True
                inner = step[INNER]
                if inner >= 0 and extents[inner] != extents_full[inner]:
                    if step[KIND] == DOT or step[KIND] == SUM or step[KIND] == SUM_SCALED:
                        run = True
            if not run:
                where[made] = CLEAN
                continue
            changed[made] = 1
            a = held(where[left], table, clean, work)
            b = held(where[right], table, clean, work) if right >= 0 else table
            run_step(step, loops, extents, base, a, b, work, stores, scratch, relays,
                     np.int64(step[RELAY]), np.int64(step[WIDTH]))
        # Evidence and posterior of the root.
        source = held(where[total], table, clean, work)
        z = 0.0
        for e in range(extents[root]):
            z += source[base[total] + e]
        if z > 0.0:
            inverse = 1.0 / z
            record[0] = np.log(z) + scale + taken
            record[1] = np.log(z) + lost
        else:
            inverse = 0.0
            record[0] = -np.inf
            record[1] = -np.inf
        least = min(least, record[1])
        for e in range(k_root):
            record[root_at + e] = 0.0
        shift = base[total] - offset[total]
        for e in range(extents[root]):
            record[root_at + shift + e] = source[base[total] + e] * inverse
        deterministic = mapped.size > 0
        if map_tensor >= 0:
            for j in range(k_target):
                record[2 + j] = 0.0
            if deterministic:
                for e in range(k_root):
                    record[2 + mapped[e]] += record[root_at + e]
            else:
                # P(target | root, evidence on the target).
                width, along = groups[header[7], 5], groups[header[7], 6]
                t0 = offset[groups[header[7], 1]] + header[8] * along
                for e in range(k_root):
                    column = 0.0
                    for j in range(k_target):
                        x = table[t0 + j * along + e * width]
                        if row[target] >= 0 and row[target] != j:
                            x = 0.0
                        elif row[target] == -2:
                            x *= soft[case, variables[target, 0] + j]
                        work[offset[map_tensor] + e * k_target + j] = x
                        column += x
                    if column > 0.0:
                        for j in range(k_target):
                            work[offset[map_tensor] + e * k_target + j] /= column
                            record[2 + j] += (
                                record[root_at + e] * work[offset[map_tensor] + e * k_target + j]
                            )
        else:
            for e in range(k_root):
                record[2 + e] = record[root_at + e]
        if wanted == 0:
            continue

        # Distribute pass.
        for i in range(rows * k_target):
            work[answer + i] = 0.0
        for i in range(hidden.size):
            hidden[i] = 0
        if use_clean:
            hide(kernels, usable, changed, hidden)
        for number in range(collect_steps, collect_steps + header[9]):
            step = steps[number]
            if passed_over(step, hidden, deterministic):
                continue
            targets, map_shift, map_width = mapped, root_shift, k_target
            if step[KIND] >= MAP:
                if step[RELAY] >= 0:
                    carrier = step[INNER]
                    if step[KIND] == MAP_COLUMNS:
                        carrier = loops[step[LOOPS], 0]
                    targets, map_shift, map_width = relays, step[RELAY], step[WIDTH]
                    if carrier < n_variables and row[carrier] >= 0 and variables[carrier, 1] >= 0:
                        map_shift += row[carrier]
                elif not deterministic:
                    step = steps[step[FALLBACK]]
            left, right = step[LEFT], step[RIGHT]
            a = held(where[left], table, clean, work)
            b = held(where[right], table, clean, work) if right >= 0 else table
            run_step(step, loops, extents, base, a, b, work, stores, scratch, targets,
                     np.int64(map_shift), np.int64(map_width))
        for r in range(readings.shape[0]):
            # Answers with the axes (variable or group, target).
            if hidden[readings[r, 3]] != 0:
                continue
            t, v = readings[r, 0], readings[r, 2]
            source = held(where[t], table, clean, work)
            begin = pointer[t]
            column = answer + readings[r, 1]
            if v < n_variables and row[v] >= 0:
                column += row[v]
            if target == root:
                column += root_shift * rows
            from_v, from_t = np.int64(0), np.int64(0)
            for i in range(begin, pointer[t + 1]):
                if axes[i] == v:
                    from_v = strides[i]
                else:
                    from_t = strides[i]
            turns = k_target if target != root else extents[root]
            for i in range(extents[v]):
                for j in range(turns):
                    work[column + j * rows + i] = source[base[t] + i * from_v + j * from_t]
        for i in range(uint64(rows * k_target)):
            work[uint64(answer) + i] *= inverse
        # Columns that the passes leave open: root, target, observed leaf findings.
        r0 = answer + variables[root, 0]
        if map_tensor >= 0:
            for e in range(k_root):
                if deterministic:
                    work[r0 + e + mapped[e] * rows] = record[root_at + e]
                else:
                    for j in range(k_target):
                        work[r0 + e + j * rows] = (
                            record[root_at + e] * work[offset[map_tensor] + e * k_target + j]
                        )
        for g in range(groups.shape[0]):
            if changed[groups[g, 0]] == 0:
                continue
            message, stacked, belief = groups[g, 0], groups[g, 1], groups[g, 4]
            for leaf in range(groups[g, 2], groups[g, 3]):
                v = leaves[leaf, 0]
                if row[v] == -1:
                    continue
                k = extents_full[v]
                r0 = answer + variables[v, 0]
                for j in range(k_target):
                    for i in range(k):
                        work[r0 + j * rows + i] = 0.0
                if row[v] >= 0:
                    for j in range(k_target):
                        work[r0 + row[v] + j * rows] = record[2 + j]
                    continue
                # P(v, target | e) = w(v) sum P(v | parents) P(parents, target | e) / message(v)
                source = held(where[belief], table, clean, work)
                width, step_v = groups[g, 5], groups[g, 6]
                t0 = offset[stacked] + leaves[leaf, 1] * step_v
                cells = 1
                for i in range(pointer[belief], pointer[belief + 1]):
                    cells *= extents[axes[i]]
                total_mass = 0.0
                for c in range(cells):
                    rest = c
                    at = base[belief]
                    parent = base[message] - offset[message]
                    along = np.int64(-1)
                    for i in range(pointer[belief + 1] - 1, pointer[belief] - 1, -1):
                        axis = axes[i]
                        digit = rest % extents[axis]
                        rest //= extents[axis]
                        at += digit * strides[i]
                        for m in range(pointer[message], pointer[message + 1]):
                            if axes[m] == axis:
                                parent += digit * strides[m]
                        if axis == groups[g, 7]:
                            along = digit
                            if axis < n_variables and row[axis] >= 0 and variables[axis, 1] >= 0:
                                along = row[axis]
                            if groups[g, 8] >= 0:
                                along = relays[groups[g, 8] + along]
                            if axis != root or target == root:
                                along += 1 << 40
                    mass = source[at]
                    if mass == 0.0:
                        continue
                    own = 0.0
                    for s in range(k):
                        own += (
                            table[t0 + s * step_v + parent * width]
                            * soft[case, variables[v, 0] + s]
                        )
                    if own == 0.0:
                        continue
                    for s in range(k):
                        x = (
                            mass * soft[case, variables[v, 0] + s]
                            * table[t0 + s * step_v + parent * width] / own
                        )
                        total_mass += x
                        if along >= 1 << 40:
                            work[r0 + s + (along - (1 << 40)) * rows] += x
                        elif deterministic:
                            work[r0 + s + mapped[along] * rows] += x
                        else:
                            for j in range(k_target):
                                work[r0 + s + j * rows] += (
                                    x * work[offset[map_tensor] + along * k_target + j]
                                )
                if total_mass > 0.0:
                    for j in range(k_target):
                        for i in range(k):
                            work[r0 + j * rows + i] /= total_mass
        r0 = answer + variables[target, 0]
        for i in range(k_target):
            for j in range(k_target):
                work[r0 + j * rows + i] = 0.0
            work[r0 + i * rows + i] = record[2 + i]

        if wanted & JOINTS:
            for i in range(uint64(rows * k_target)):
                record[uint64(joints_at) + i] = work[uint64(answer) + i]
        if wanted & (MARGINALS | INFORMATION) == 0:
            continue
        sums = uint64(answer + rows * k_target)
        width_u = uint64(rows)
        for i in range(width_u):
            work[sums + i] = 0.0
        for j in range(uint64(k_target)):
            r1 = uint64(answer) + j * width_u
            for i in range(width_u):
                work[sums + i] += work[r1 + i]
        if wanted & MARGINALS:
            for i in range(width_u):
                record[uint64(marginals_at) + i] = work[sums + i]
            for e in range(k_root):
                record[marginals_at + variables[root, 0] + e] = record[root_at + e]
        if wanted & INFORMATION:
            for j in range(k_target):
                work[answer + rows * (k_target + 1) + j] = record[2 + j]
            count = rows * (k_target + 1) + k_target
            log_terms(work, answer, count, scratch, scratch_bits)
            entropy = 0.0
            for j in range(k_target):
                entropy -= work[answer + rows * (k_target + 1) + j]
            # In place of the first line of terms: its sum over the target, less the sums.
            first_u = uint64(answer)
            for i in range(width_u):
                work[first_u + i] -= work[sums + i]
            for j in range(uint64(1), uint64(k_target)):
                r1 = first_u + j * width_u
                for i in range(width_u):
                    work[first_u + i] += work[r1 + i]
            for v in range(n_variables):
                start = answer + variables[v, 0]
                bits = entropy
                for i in range(start, start + extents_full[v]):
                    bits += work[i]
                if bits < 0.0 or row[v] >= 0:
                    bits = 0.0
                record[bits_at + v] = bits
    return least
