"""Run the instructions of a program with numba: one compiled interpreter for every plan.

The interpreter is compiled once per machine and kept in numba's cache on disk; plans are data to
it, so a new network needs no compilation. It holds no lock and no threads of its own: batches are
cut into pieces for ordinary Python threads, so it works after a fork and inside other threads.
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba import uint64
from numba.core import cgutils
from numba.extending import intrinsic

from epidural_dx.inference.bank import LANES, Bank
from epidural_dx.inference.evidence import OPEN, EvidenceRows, IntArray
from epidural_dx.inference.instructions import (
    ADD,
    AXPY,
    CLEAN,
    DOT,
    EXPAND,
    FALLBACK,
    INNER,
    KIND,
    LEFT,
    LOOPS,
    MAP,
    MAP_COLUMNS,
    MULTIPLY,
    MULTIPLY_MAP,
    OUT,
    OUTER,
    OWNER,
    PREFIX,
    RELAY,
    RIGHT,
    ROLE,
    SKIP,
    SUM,
    SUM_SCALED,
    SUMMED,
    TABLES,
    WIDTH,
    WORK,
    flatten,
)
from epidural_dx.inference.kernels import compute_kernels
from epidural_dx.inference.network import FloatArray
from epidural_dx.inference.numpy_backend import LOG_FLOOR, Outcome
from epidural_dx.inference.plan import ADJOINT, READ, Distribution, Program

#: Blocks of jobs that are worth a thread of their own.
SMALLEST_PIECE = 4

#: From so many cases on, blocks of eight are faster than one case after the other.
FEWEST_LANES = 4


# Sums may be reordered and fused; infinities and NaN keep their meaning.
_FAST = {"reassoc", "contract", "nsz"}
_jit = numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")

def _without_owner(_context: Any, array: Any) -> Any:
    """Return the same array without an owner.

    Numba counts references at every assignment and every slice of an array, by atomic instructions
    that took two thirds of the time of a question. An array without an owner is not counted. The
    caller must hold the array as long as this one is used.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        make = context.make_array(signature.return_type)
        old, new = make(context, builder, arguments[0]), make(context, builder)
        for name in ("nitems", "itemsize", "data", "shape", "strides"):
            setattr(new, name, getattr(old, name))
        new.meminfo = cgutils.get_null_value(new.meminfo.type)  # type: ignore[no-untyped-call]
        new.parent = cgutils.get_null_value(new.parent.type)  # type: ignore[no-untyped-call]
        return new._getvalue()

    return array(array), generate


borrowed: Any = intrinsic(_without_owner)


# Offsets are unsigned: numba then leaves out the treatment of negative indices, and the loops
# become vector code.
@_jit
def _weighted_sum(out, oo, left, left0, right, right0, turns, count, n, weight, start):  # type: ignore[no-untyped-def]
    """Write ``sum_s right[s] * left[s, :n]`` to ``out[oo : oo + n]``.

    Deterministic tables are mostly zero: terms with weight zero are left out. Four terms are added
    at a time, so that the result is read and written four times less often.
    """
    m = 0
    for s in range(count):
        x = right[uint64(right0 + turns[s, 2])]
        weight[m] = x
        start[m] = left0 + turns[s, 1]
        if x != 0.0:
            m += 1
    first = m & 3
    if first == 0:
        for i in range(n):
            out[oo + i] = 0.0
    elif first == 1:
        x0, p0 = weight[0], uint64(start[0])
        for i in range(n):
            out[oo + i] = x0 * left[p0 + i]
    elif first == 2:
        x0, p0 = weight[0], uint64(start[0])
        x1, p1 = weight[1], uint64(start[1])
        for i in range(n):
            out[oo + i] = x0 * left[p0 + i] + x1 * left[p1 + i]
    else:
        x0, p0 = weight[0], uint64(start[0])
        x1, p1 = weight[1], uint64(start[1])
        x2, p2 = weight[2], uint64(start[2])
        for i in range(n):
            out[oo + i] = x0 * left[p0 + i] + x1 * left[p1 + i] + x2 * left[p2 + i]
    for s in range(first, m, 4):
        x0, p0 = weight[s], uint64(start[s])
        x1, p1 = weight[s + 1], uint64(start[s + 1])
        x2, p2 = weight[s + 2], uint64(start[s + 2])
        x3, p3 = weight[s + 3], uint64(start[s + 3])
        for i in range(n):
            out[oo + i] += (
                x0 * left[p0 + i] + x1 * left[p1 + i] + x2 * left[p2 + i] + x3 * left[p3 + i]
            )


@_jit
def _dot(a, ao, b, bo, n):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(n):
        total += a[ao + i] * b[bo + i]
    return total


@_jit
def _sum(a, ao, n):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(n):
        total += a[ao + i]
    return total


@_jit
def _offsets(loops, first, last, extents, store):  # type: ignore[no-untyped-def]
    """List the offsets of out, left and right over a nest of loops; return their number."""
    store[0, 0] = 0
    store[0, 1] = 0
    store[0, 2] = 0
    n = 1
    for r in range(first, last):
        k = extents[loops[r, 0]]
        if k == 1:
            continue
        s0, s1, s2 = loops[r, 1], loops[r, 2], loops[r, 3]
        # Written from the back, so that earlier axes stay the slower ones.
        for i in range(n - 1, -1, -1):
            b0, b1, b2 = store[i, 0], store[i, 1], store[i, 2]
            for j in range(k - 1, -1, -1):
                store[i * k + j, 0] = b0 + j * s0
                store[i * k + j, 1] = b1 + j * s1
                store[i * k + j, 2] = b2 + j * s2
        n *= k
    return n


@_jit
def _step(  # type: ignore[no-untyped-def]
    step, loops, extents, base, left, right, work, stores, weight, mapped, root_shift, k_target
):
    """Run one contraction.

    ``mapped`` holds the map of a step along one, from place ``root_shift`` on, and ``k_target`` is
    the number of states it maps to.
    """
    kind = step[KIND]
    if kind == EXPAND:
        count = _offsets(loops, step[LOOPS], step[LOOPS] + step[OUTER], extents, stores[0])
        width, shift = uint64(extents[step[INNER]]), uint64(root_shift)
        for o in range(count):
            oo = uint64(base[step[OUT]] + stores[0, o, 0])
            lo = uint64(base[step[LEFT]] + stores[0, o, 1])
            for i in range(uint64(step[PREFIX])):
                work[oo + i] = left[lo + i]
            for i in range(uint64(step[PREFIX]), width):
                work[oo + i] = left[lo + uint64(mapped[shift + i])]
        return
    outer_first = step[LOOPS]
    outer_last = outer_first + step[OUTER]
    sum_last = outer_last + step[SUMMED]
    inner = step[INNER]
    length = 1
    if inner >= 0:
        length = extents[inner]
    # Neighbouring axes that lie one after another in every operand become one long axis.
    if kind == AXPY or kind == ADD:
        while outer_last > outer_first:
            r = outer_last - 1
            k = extents[loops[r, 0]]
            if k > 1 and (loops[r, 1] != length or loops[r, 2] != length or loops[r, 3] != 0):
                break
            length *= k
            outer_last -= 1
    elif kind == MULTIPLY:
        while outer_last > outer_first:
            r = outer_last - 1
            k = extents[loops[r, 0]]
            if k > 1 and (loops[r, 1] != length or loops[r, 2] != length or loops[r, 3] != length):
                break
            length *= k
            outer_last -= 1
    elif kind == DOT:
        while sum_last > step[LOOPS] + step[OUTER]:
            r = sum_last - 1
            k = extents[loops[r, 0]]
            if k > 1 and (loops[r, 2] != length or loops[r, 3] != length):
                break
            length *= k
            sum_last -= 1
    outer_turns, sum_turns = stores[0], stores[1]
    outer = _offsets(loops, outer_first, outer_last, extents, outer_turns)
    summed = _offsets(loops, step[LOOPS] + step[OUTER], sum_last, extents, sum_turns)
    n = uint64(length)
    out0 = base[step[OUT]]
    left0 = base[step[LEFT]]
    right0 = np.int64(0)
    if step[RIGHT] >= 0:
        right0 = base[step[RIGHT]]
    if kind == AXPY and summed == 1:
        for o in range(outer):
            oo = uint64(out0 + outer_turns[o, 0])
            lo = uint64(left0 + outer_turns[o, 1])
            x = right[uint64(right0 + outer_turns[o, 2])]
            for i in range(n):
                work[oo + i] = x * left[lo + i]
    elif kind == AXPY:
        start = stores[2, :, 0]
        for o in range(outer):
            _weighted_sum(
                work, uint64(out0 + outer_turns[o, 0]), left, left0 + outer_turns[o, 1],
                right, right0 + outer_turns[o, 2], sum_turns, summed, n, weight, start,
            )
    elif kind == MULTIPLY:
        for o in range(outer):
            oo = uint64(out0 + outer_turns[o, 0])
            lo = left0 + outer_turns[o, 1]
            ro = right0 + outer_turns[o, 2]
            p0, q0 = uint64(lo + sum_turns[0, 1]), uint64(ro + sum_turns[0, 2])
            done = 1
            if summed == 1:
                for i in range(n):
                    work[oo + i] = left[p0 + i] * right[q0 + i]
            else:
                p1, q1 = uint64(lo + sum_turns[1, 1]), uint64(ro + sum_turns[1, 2])
                for i in range(n):
                    work[oo + i] = left[p0 + i] * right[q0 + i] + left[p1 + i] * right[q1 + i]
                done = 2
            for s in range(done, summed - 1, 2):
                p0, q0 = uint64(lo + sum_turns[s, 1]), uint64(ro + sum_turns[s, 2])
                p1, q1 = uint64(lo + sum_turns[s + 1, 1]), uint64(ro + sum_turns[s + 1, 2])
                for i in range(n):
                    work[oo + i] += left[p0 + i] * right[q0 + i] + left[p1 + i] * right[q1 + i]
            if (summed - done) & 1:
                s = summed - 1
                p0, q0 = uint64(lo + sum_turns[s, 1]), uint64(ro + sum_turns[s, 2])
                for i in range(n):
                    work[oo + i] += left[p0 + i] * right[q0 + i]
    elif kind == DOT:
        for o in range(outer):
            total = 0.0
            for s in range(summed):
                total += _dot(left, uint64(left0 + outer_turns[o, 1] + sum_turns[s, 1]),
                              right, uint64(right0 + outer_turns[o, 2] + sum_turns[s, 2]), n)
            work[uint64(out0 + outer_turns[o, 0])] = total
    elif kind == SUM_SCALED:
        for o in range(outer):
            total = 0.0
            for s in range(summed):
                scalar = right[uint64(right0 + outer_turns[o, 2] + sum_turns[s, 2])]
                if scalar != 0.0:
                    total += scalar * _sum(
                        left, uint64(left0 + outer_turns[o, 1] + sum_turns[s, 1]), n
                    )
            work[uint64(out0 + outer_turns[o, 0])] = total
    elif kind == ADD:
        for o in range(outer):
            oo = uint64(out0 + outer_turns[o, 0])
            lo = uint64(left0 + outer_turns[o, 1] + sum_turns[0, 1])
            for i in range(n):
                work[oo + i] = left[lo + i]
            for s in range(1, summed):
                lo = uint64(left0 + outer_turns[o, 1] + sum_turns[s, 1])
                for i in range(n):
                    work[oo + i] += left[lo + i]
    elif kind == SUM:
        for o in range(outer):
            total = 0.0
            for s in range(summed):
                total += _sum(left, uint64(left0 + outer_turns[o, 1] + sum_turns[s, 1]), n)
            work[uint64(out0 + outer_turns[o, 0])] = total
    elif kind == MAP or kind >= MULTIPLY_MAP:
        # States that keep their number are vector code; the others are added one by one.
        first, same = uint64(root_shift), min(uint64(step[PREFIX]), n)
        width = uint64(k_target)
        along = uint64(1 if kind == MULTIPLY_MAP else 0)
        for o in range(outer):
            oo = uint64(out0 + outer_turns[o, 0])
            lo, ro = left0 + outer_turns[o, 1], right0 + outer_turns[o, 2]
            for i in range(width):
                work[oo + i] = 0.0
            for s in range(summed):
                l0, r0 = uint64(lo + sum_turns[s, 1]), uint64(ro + sum_turns[s, 2])
                if kind == MAP:
                    for i in range(same):
                        work[oo + i] += left[l0 + i]
                elif along == 1:
                    for i in range(same):
                        work[oo + i] += left[l0 + i] * right[r0 + i]
                else:
                    x = right[r0]
                    for i in range(same):
                        work[oo + i] += x * left[l0 + i]
        if same == n:
            return
        for s in range(summed):
            lo, ro = left0 + sum_turns[s, 1], right0 + sum_turns[s, 2]
            o = 0
            # Four lines at a time: each addition waits for the one before it to the same cell.
            while o + 4 <= outer:
                o0, o1 = uint64(out0 + outer_turns[o, 0]), uint64(out0 + outer_turns[o + 1, 0])
                o2, o3 = uint64(out0 + outer_turns[o + 2, 0]), uint64(out0 + outer_turns[o + 3, 0])
                l0, l1 = uint64(lo + outer_turns[o, 1]), uint64(lo + outer_turns[o + 1, 1])
                l2, l3 = uint64(lo + outer_turns[o + 2, 1]), uint64(lo + outer_turns[o + 3, 1])
                if kind == MAP:
                    for i in range(same, n):
                        t = uint64(mapped[first + i])
                        x0, x1, x2, x3 = left[l0 + i], left[l1 + i], left[l2 + i], left[l3 + i]
                        work[o0 + t] += x0
                        work[o1 + t] += x1
                        work[o2 + t] += x2
                        work[o3 + t] += x3
                    o += 4
                    continue
                r0, r1 = uint64(ro + outer_turns[o, 2]), uint64(ro + outer_turns[o + 1, 2])
                r2, r3 = uint64(ro + outer_turns[o + 2, 2]), uint64(ro + outer_turns[o + 3, 2])
                for i in range(same, n):
                    t, j = uint64(mapped[first + i]), i * along
                    x0, x1 = left[l0 + i] * right[r0 + j], left[l1 + i] * right[r1 + j]
                    x2, x3 = left[l2 + i] * right[r2 + j], left[l3 + i] * right[r3 + j]
                    work[o0 + t] += x0
                    work[o1 + t] += x1
                    work[o2 + t] += x2
                    work[o3 + t] += x3
                o += 4
            while o < outer:
                o0, l0 = uint64(out0 + outer_turns[o, 0]), uint64(lo + outer_turns[o, 1])
                r0 = uint64(ro + outer_turns[o, 2])
                for i in range(same, n):
                    t = uint64(mapped[first + i])
                    if kind == MAP:
                        work[o0 + t] += left[l0 + i]
                    else:
                        work[o0 + t] += left[l0 + i] * right[r0 + i * along]
                o += 1
    else:
        stride_out, stride_left = loops[outer_first, 1], loops[outer_first, 2]
        for t in range(k_target):
            oo = uint64(out0 + t * stride_out)
            for i in range(n):
                work[oo + i] = 0.0
        for e in range(extents[loops[outer_first, 0]]):
            oo = uint64(out0 + mapped[root_shift + e] * stride_out)
            lo = uint64(left0 + e * stride_left)
            for i in range(n):
                work[oo + i] += left[lo + i]


@_jit
def _log_terms(values, first, count, scratch, scratch_bits, part):  # type: ignore[no-untyped-def]
    """Write ``p log2 p`` of ``p = values[first : first + count]`` into scratch; 0 at 0.

    ``scratch_bits`` is the same memory as unsigned integers; the pieces ``part`` and ``2 part``
    cells further on are used. The exponent is split off by bit operations; the logarithm of the
    mantissa is a series of the inverse hyperbolic tangent, accurate to about two units in the
    last place. All of it is arithmetic that becomes vector code, where calls of a library's
    logarithm would not.
    """
    n = uint64(count)
    first_u = uint64(first)
    second, third = uint64(part), uint64(2 * part)
    for i in range(n):
        scratch[i] = values[first_u + i]
    for i in range(n):
        bits = scratch_bits[i]
        # An exponent below 2^52 in the mantissa of 2^52: subtracting 2^52 makes it a number.
        scratch_bits[second + i] = (bits >> uint64(52)) | uint64(0x4330000000000000)
        scratch_bits[third + i] = (bits & uint64(0x000FFFFFFFFFFFFF)) | uint64(0x3FF0000000000000)
    for i in range(n):
        exponent = scratch[second + i] - (4503599627370496.0 + 1023.0)
        m = scratch[third + i]
        large = m > 1.4142135623730951
        m = 0.5 * m if large else m
        exponent = exponent + 1.0 if large else exponent
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        series = 1.0 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (
            1 / 11 + z * (1 / 13 + z * (1 / 15 + z * (1 / 17 + z * (1 / 19 + z / 21)))))))))
        scratch[i] = scratch[i] * (exponent + 2.8853900817779268 * s * series)


@_jit
def run_jobs(  # type: ignore[no-untyped-def]
    extents_full,
    pointer,
    axes,
    strides,
    offset,
    space,
    steps,
    loops,
    inputs,
    groups,
    leaves,
    readings,
    relays,
    kernels,
    variables,
    slices,
    header,
    mapped,
    usable,
    tables,
    clean,
    states,
    soft,
    collect_steps,
    first_job,
    last_job,
    distribute,
    work,
    scratch,
    stores,
    log_evidence,
    trust,
    root_out,
    target_out,
    marginal_out,
    joint_out,
    information_out,
    clean_out,
):
    """Run jobs ``first_job .. last_job - 1``; job = case * draws + draw.

    Parameters
    ----------
    extents_full .. header
        The arrays of `Instructions`.
    mapped
        Target state of every root state when the target is a function of the root, else empty.
    usable
        For every kernel 1 if it may be used.
    tables
        Packed tables, shape (draws, cells).
    clean
        The collect pass without evidence, or empty: then every step is run.
    states
        Shape (cases, variables): state, -1 open, -2 soft.
    soft
        Shape (cases, rows of the answer): likelihoods of soft variables, or no rows at all.
    collect_steps
        Number of steps of the collect pass.
    first_job, last_job
        Which jobs to run.
    distribute
        Whether to run the distribute pass.
    work, scratch, stores
        Workspaces of this thread.
    log_evidence, trust, root_out, target_out
        Results of every job; `trust` is the log that must stay above a floor.
    marginal_out, joint_out, information_out
        Results, left alone where they have no rows.
    clean_out
        If not empty, the workspace of the collect pass is copied into it.
    """
    extents_full = borrowed(extents_full)
    pointer = borrowed(pointer)
    axes = borrowed(axes)
    strides = borrowed(strides)
    offset = borrowed(offset)
    space = borrowed(space)
    steps = borrowed(steps)
    loops = borrowed(loops)
    inputs = borrowed(inputs)
    groups = borrowed(groups)
    leaves = borrowed(leaves)
    readings = borrowed(readings)
    relays = borrowed(relays)
    kernels = borrowed(kernels)
    variables = borrowed(variables)
    slices = borrowed(slices)
    header = borrowed(header)
    mapped = borrowed(mapped)
    usable = borrowed(usable)
    tables = borrowed(tables)
    clean = borrowed(clean)
    states = borrowed(states)
    soft = borrowed(soft)
    work = borrowed(work)
    scratch = borrowed(scratch)
    stores = borrowed(stores)
    log_evidence = borrowed(log_evidence)
    trust = borrowed(trust)
    root_out = borrowed(root_out)
    target_out = borrowed(target_out)
    marginal_out = borrowed(marginal_out)
    joint_out = borrowed(joint_out)
    information_out = borrowed(information_out)
    clean_out = borrowed(clean_out)
    root, target, total, map_tensor = header[0], header[1], header[2], header[3]
    answer, rows = header[4], header[5]
    n_tensors = offset.size
    n_variables = variables.shape[0]
    k_root = extents_full[root]
    k_target = extents_full[target]
    own_extents = extents_full.copy()
    own_base = np.empty(n_tensors, dtype=np.int64)
    own_where = np.empty(n_tensors, dtype=np.int64)
    own_changed = np.empty(n_tensors, dtype=np.bool_)
    extents, base = borrowed(own_extents), borrowed(own_base)
    where, changed = borrowed(own_where), borrowed(own_changed)
    outer_store = stores[0]
    draws = tables.shape[0]
    scratch_bits = scratch.view(np.uint64)
    part = scratch.size // 3
    use_clean = clean.size > 0
    own_hidden = np.zeros(header[10], dtype=np.int64)
    hidden = borrowed(own_hidden)
    for job in range(first_job, last_job):
        case = job // draws
        table = tables[job - case * draws]
        row = states[case]
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
            changed[t] = False
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
                            changed[home] = True
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
                changed[message] = True
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
            out = step[OUT]
            left, right = step[LEFT], step[RIGHT]
            run = changed[left] or not use_clean
            if right >= 0 and changed[right]:
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
                where[out] = CLEAN
                continue
            changed[out] = True
            a = table
            if where[left] == CLEAN:
                a = clean
            elif where[left] == WORK:
                a = work
            b = table
            if right >= 0:
                if where[right] == CLEAN:
                    b = clean
                elif where[right] == WORK:
                    b = work
            _step(step, loops, extents, base, a, b, work, stores, scratch, relays,
                  step[RELAY], step[WIDTH])
        if clean_out.size > 0:
            for i in range(clean_out.size):
                clean_out[i] = work[i]
        # Evidence and posterior of the root.
        source = table
        if where[total] == CLEAN:
            source = clean
        elif where[total] == WORK:
            source = work
        z = 0.0
        for e in range(extents[root]):
            z += source[base[total] + e]
        if z > 0.0:
            inverse = 1.0 / z
            log_evidence[job] = np.log(z) + scale
            trust[job] = np.log(z) + lost
        else:
            inverse = 0.0
            log_evidence[job] = -np.inf
            trust[job] = -np.inf
        for e in range(k_root):
            root_out[job, e] = 0.0
        shift = base[total] - offset[total]
        for e in range(extents[root]):
            root_out[job, shift + e] = source[base[total] + e] * inverse
        deterministic = mapped.size > 0
        if map_tensor >= 0:
            for j in range(k_target):
                target_out[job, j] = 0.0
            if deterministic:
                for e in range(k_root):
                    target_out[job, mapped[e]] += root_out[job, e]
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
                            target_out[job, j] += (
                                root_out[job, e] * work[offset[map_tensor] + e * k_target + j]
                            )
        else:
            for e in range(k_root):
                target_out[job, e] = root_out[job, e]
        if not distribute:
            continue

        # Distribute pass.
        for i in range(rows * k_target):
            work[answer + i] = 0.0
        # Kernels answer for subtrees without evidence: 1 at the top of such a subtree, 2 below.
        for i in range(hidden.size):
            hidden[i] = 0
        if use_clean:
            for r in range(kernels.shape[0]):
                top_place = kernels[r, 1]
                if usable[r] == 1 and hidden[top_place] == 0 and not changed[kernels[r, 0]]:
                    for i in range(top_place + 1, kernels[r, 2]):
                        hidden[i] = 2
                    hidden[top_place] = 1
        for number in range(collect_steps, collect_steps + header[9]):
            step = steps[number]
            state_here = hidden[step[OWNER]]
            role = step[ROLE]
            if role == ADJOINT:
                if state_here == 2:
                    continue
            elif role == READ:
                if state_here != 0:
                    continue
            elif state_here != 1:
                continue
            if step[SKIP] == 1 or (step[SKIP] == 2 and deterministic):
                continue
            maps, map_shift, map_width = mapped, root_shift, k_target
            if step[KIND] >= MAP:
                if step[RELAY] >= 0:
                    carrier = step[INNER]
                    if step[KIND] == MAP_COLUMNS:
                        carrier = loops[step[LOOPS], 0]
                    maps, map_shift, map_width = relays, step[RELAY], step[WIDTH]
                    if carrier < n_variables and row[carrier] >= 0 and variables[carrier, 1] >= 0:
                        map_shift += row[carrier]
                elif not deterministic:
                    step = steps[step[FALLBACK]]
            left, right = step[LEFT], step[RIGHT]
            a = table
            if where[left] == CLEAN:
                a = clean
            elif where[left] == WORK:
                a = work
            b = table
            if right >= 0:
                if where[right] == CLEAN:
                    b = clean
                elif where[right] == WORK:
                    b = work
            _step(step, loops, extents, base, a, b, work, stores, scratch, maps,
                  map_shift, map_width)
        for r in range(readings.shape[0]):
            # Answers with the axes (variable or group, target).
            if hidden[readings[r, 3]] != 0:
                continue
            t, v = readings[r, 0], readings[r, 2]
            source = table
            if where[t] == CLEAN:
                source = clean
            elif where[t] == WORK:
                source = work
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
                    work[r0 + e + mapped[e] * rows] = root_out[job, e]
                else:
                    for j in range(k_target):
                        work[r0 + e + j * rows] = (
                            root_out[job, e] * work[offset[map_tensor] + e * k_target + j]
                        )
        for g in range(groups.shape[0]):
            if not changed[groups[g, 0]]:
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
                        work[r0 + row[v] + j * rows] = target_out[job, j]
                    continue
                # P(v, target | e) = w(v) sum P(v | parents) P(parents, target | e) / message(v)
                source = table
                if where[belief] == CLEAN:
                    source = clean
                elif where[belief] == WORK:
                    source = work
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
            work[r0 + i * rows + i] = target_out[job, i]

        if joint_out.shape[0] > 0:
            flat = joint_out[job]
            for j in range(k_target):
                for i in range(rows):
                    flat[j, i] = work[answer + j * rows + i]
        need = marginal_out.shape[0] > 0 or information_out.shape[0] > 0
        if not need:
            continue
        sums = uint64(answer + rows * k_target)
        width_u = uint64(rows)
        for i in range(width_u):
            work[sums + i] = 0.0
        for j in range(uint64(k_target)):
            r1 = uint64(answer) + j * width_u
            for i in range(width_u):
                work[sums + i] += work[r1 + i]
        if information_out.shape[0] > 0:
            for j in range(k_target):
                work[answer + rows * (k_target + 1) + j] = target_out[job, j]
            count = rows * (k_target + 1) + k_target
            _log_terms(work, answer, count, scratch, scratch_bits, part)
            entropy = 0.0
            for j in range(k_target):
                entropy -= scratch[rows * (k_target + 1) + j]
            # In place of the first line of terms: its sum over the target, less the sums.
            for i in range(width_u):
                scratch[i] -= scratch[uint64(rows * k_target) + i]
            for j in range(uint64(1), uint64(k_target)):
                r1 = j * width_u
                for i in range(width_u):
                    scratch[i] += scratch[r1 + i]
            for v in range(n_variables):
                start = variables[v, 0]
                bits = entropy
                for i in range(start, start + extents_full[v]):
                    bits += scratch[i]
                if bits < 0.0 or row[v] >= 0:
                    bits = 0.0
                information_out[job, v] = bits
        if marginal_out.shape[0] > 0:
            for i in range(rows):
                marginal_out[job, i] = work[answer + rows * k_target + i]
            for e in range(k_root):
                marginal_out[job, variables[root, 0] + e] = root_out[job, e]
    # Used last here, so that they live that long.
    return own_extents.size + own_base.size + own_where.size + own_changed.size + own_hidden.size


class Prepared(NamedTuple):
    """What depends on the tables but not on the evidence.

    Parameters
    ----------
    tables
        Packed tables, shape (draws, cells).
    mapped, usable, clean
        As `run_jobs` wants them.
    complete
        Whether `clean` has the kernels at its end.
    """

    tables: FloatArray
    mapped: npt.NDArray[np.int32]
    usable: IntArray
    clean: FloatArray
    complete: bool


class Workspace(NamedTuple):
    """Room of one thread for blocks of jobs.

    Parameters
    ----------
    work, scratch, stores
        As `run_blocks` wants them.
    table, bank
        Packed tables with lanes, and the bank whose undrawn cells they hold.
    """

    work: FloatArray
    scratch: FloatArray
    stores: IntArray
    table: FloatArray
    bank: Bank | None


class NumbaProgram:
    """A program with one of its distribute passes, ready to run.

    Parameters
    ----------
    program
        The compiled program.
    distribution
        The distribute pass.
    number
        Number of the program in its plan.
    """

    def __init__(self, program: Program, distribution: Distribution, number: int = 0) -> None:
        self.program = program
        self.distribution = distribution
        self.number = number
        self.instructions = flatten(program, distribution)
        code = self.instructions
        self._code = (
            code.extents,
            code.tensor_pointer,
            code.tensor_axes,
            code.tensor_strides,
            code.tensor_offset,
            code.tensor_space,
            code.steps,
            code.loops,
            code.inputs,
            code.groups,
            code.leaves,
            code.readings,
            code.relays,
            code.kernels,
            code.variables,
            code.slices,
            code.header,
        )
        self._local = threading.local()
        # Workspaces for blocks of jobs that no thread uses at the moment.
        self._spare: list[Workspace] = []
        # By identity of the tables; an entry holds its tables, so that the identity stays theirs.
        self._kept: dict[int, Prepared] = {}

    def _workspace(self) -> tuple[FloatArray, FloatArray, IntArray]:
        """Return the workspaces of this thread."""
        found: tuple[FloatArray, FloatArray, IntArray] | None
        found = getattr(self._local, "workspace", None)
        if found is None:
            code = self.instructions
            width = code.extents[self.distribution.target]
            cells = (self.program.row_count + 1) * (int(width) + 1)
            found = (
                np.zeros(code.workspace),
                np.zeros(3 * max(cells, code.longest)),
                np.zeros((3, code.longest, 3), dtype=np.int64),
            )
            self._local.workspace = found
        return found

    def _function_of_root(self, tables: FloatArray) -> npt.NDArray[np.int32]:
        """Return the map from root to target as `run_jobs` wants it, empty if it is none."""
        header = self.instructions.header
        if header[3] < 0:
            return np.zeros(0, dtype=np.int32)
        k_root = int(self.instructions.extents[header[0]])
        k_target = int(self.instructions.extents[header[1]])
        group = self.program.groups[int(header[7])]
        first = int(header[8])
        size = k_root * group.rows
        stacked = tables[:, group.offset : group.offset + size]
        if group.narrow:
            stacked = np.swapaxes(stacked.reshape(-1, group.rows, k_root), 1, 2)
        else:
            stacked = stacked.reshape(-1, k_root, group.rows)
        table = stacked[:, :, first : first + k_target]
        # With draws of its own the table is no function (its shared cells are zero).
        states = table[0].argmax(axis=1)
        if np.array_equal(
            table, np.broadcast_to(np.eye(k_target)[states], table.shape)
        ):
            return np.ascontiguousarray(states, dtype=np.int32)
        return np.zeros(0, dtype=np.int32)

    def _prepare(self, tables: FloatArray, with_kernels: bool) -> Prepared:
        """Return what depends on the tables only, kept for the tables last used.

        Kernels take longer than everything else and serve the distribute pass only: they are
        computed when it is first wanted.
        """
        found = self._kept.get(id(tables))
        if found is not None and (found.complete or not with_kernels):
            return found
        usable = np.zeros(len(self.program.kernels), dtype=np.int64)
        ready = Prepared(tables, self._function_of_root(tables), usable, np.zeros(0), True)
        if tables.shape[0] == 1:
            clean = np.zeros(self.instructions.clean_size)
            states = np.full((1, len(self.program.rows)), OPEN, dtype=np.int64)
            self._call(ready, states, np.zeros((0, 0)), 0, 1, False,
                       self._outputs(1, frozenset(), True), clean)
            if with_kernels:
                clean, usable = self._with_kernels(tables, clean)
            ready = Prepared(tables, ready.mapped, usable, clean, with_kernels)
        kept = dict(list(self._kept.items())[-2:])
        self._kept = kept | {id(tables): ready}
        return ready

    def _with_kernels(
        self, tables: FloatArray, clean: FloatArray
    ) -> tuple[FloatArray, IntArray]:
        """Append the kernels to the collect pass without evidence; tell which may be used."""
        program, code = self.program, self.instructions
        values: list[FloatArray | None] = [None] * len(program.axes)
        sources = [(one.tensor, tables[0]) for one in program.inputs]
        sources += [(group.stacked, tables[0]) for group in program.groups]
        sources += [(relay.tensor, tables[0]) for relay in program.relays]
        sources += [(group.message, clean) for group in program.groups]
        sources += [(step.out, clean) for step in program.collect]
        for t, source in sources:
            shape = program.shape(t)
            start = int(code.tensor_offset[t])
            values[t] = source[start : start + math.prod(shape)].reshape(shape)
        kernels = compute_kernels(program, values)
        usable = np.array([int(table is not None) for table in kernels], dtype=np.int64)
        whole = np.zeros(code.clean_size + code.kernel_cells)
        whole[: code.clean_size] = clean
        for kernel, table in zip(program.kernels, kernels, strict=True):
            if table is not None:
                start = int(code.tensor_offset[kernel.table])
                whole[start : start + table.size] = table.ravel()
        return whole, usable

    def _outputs(self, jobs: int, want: frozenset[str], posterior_only: bool) -> list[FloatArray]:
        header = self.instructions.header
        k_root = int(self.instructions.extents[header[0]])
        k_target = int(self.instructions.extents[header[1]])
        rows = self.program.row_count

        def shape(name: str, *tail: int) -> tuple[int, ...]:
            kept = name in want and not posterior_only
            return (jobs, *tail) if kept else (0, *([0] * len(tail)))

        return [
            np.empty(jobs),
            np.empty(jobs),
            np.empty((jobs, k_root)),
            np.empty((jobs, k_target)),
            np.empty(shape("marginals", rows)),
            np.empty(shape("joints", k_target, rows)),
            np.empty(shape("information", len(self.program.rows))),
        ]

    def _call(
        self,
        ready: Prepared,
        states: IntArray,
        soft: FloatArray,
        first: int,
        last: int,
        distribute: bool,
        outputs: list[FloatArray],
        clean_out: FloatArray,
    ) -> None:
        work, scratch, stores = self._workspace()
        run_jobs(  # type: ignore[call-arg]
            *self._code, ready.mapped, ready.usable, ready.tables, ready.clean, states, soft,
            self.instructions.collect_steps, first, last, distribute, work, scratch, stores,
            *outputs, clean_out,
        )

    def run(
        self,
        evidence: EvidenceRows,
        tables: FloatArray,
        bank: Bank | None,
        want: frozenset[str],
        threads: int,
    ) -> Outcome:
        """Run all cases x draws.

        Parameters
        ----------
        evidence
            The cases.
        tables
            Packed tables, shape (1, cells); not used with a bank.
        bank
            Parameter draws.
        want
            Answers to keep, as in `Engine.run`; none runs the collect pass only.
        threads
            Number of threads to use.

        Returns
        -------
        Outcome
            With job = case * draws + draw.
        """
        draws = 0 if bank is None else bank.draws
        jobs = evidence.rows * max(draws, 1)
        soft = np.zeros((0, 0))
        if evidence.soft:
            soft = np.ones((evidence.rows, self.program.row_count))
            for v, weights in evidence.soft.items():
                start = self.program.rows[v]
                soft[:, start : start + weights.shape[1]] = weights
        outputs = self._outputs(jobs, want, not want)
        states = np.ascontiguousarray(evidence.states)
        if bank is None and jobs < FEWEST_LANES:
            ready = self._prepare(tables, bool(want))
            self._call(ready, states, soft, 0, jobs, bool(want), outputs, np.zeros(0))
        else:
            self._run_blocks(states, soft, tables, bank, bool(want), outputs, threads)
        log_evidence, trust, root, target, marginals, joints, information = outputs
        return Outcome(
            log_evidence,
            root,
            target,
            joints if "joints" in want else None,
            trust > LOG_FLOOR,
            np.zeros((0, 0), dtype=np.bool_),
            marginals if "marginals" in want else None,
            information if "information" in want else None,
        )

    def _run_blocks(
        self,
        states: IntArray,
        soft: FloatArray,
        tables: FloatArray,
        bank: Bank | None,
        distribute: bool,
        outputs: list[FloatArray],
        threads: int,
    ) -> None:
        """Run many jobs, eight at a time."""
        from epidural_dx.inference.numba_lanes import run_blocks

        cells: IntArray = np.zeros(0, dtype=np.int64)
        sources = cells
        drawn = np.zeros((0, 0, LANES))
        clean = np.zeros(0)
        usable = np.zeros(len(self.program.kernels), dtype=np.int64)
        draws = 0
        if bank is None:
            ready = self._prepare(tables, distribute)
            mapped, usable, clean = ready.mapped, ready.usable, ready.clean
            order = self._similar_together(states)
            blocks = -(-len(order) // LANES)
        else:
            cells, sources = bank.cells[self.number], bank.sources[self.number]
            drawn, draws = bank.values, bank.draws
            mapped = self._function_of_root(bank.shared[self.number][None])
            order = np.arange(len(states))
            blocks = len(states) * drawn.shape[0]
        pieces = max(1, min(threads, blocks // SMALLEST_PIECE))

        def work(piece: int) -> None:
            space = self._take_workspace(bank)
            table = tables[0] if bank is None else space.table
            run_blocks(
                *self._code, mapped, usable, table, clean, drawn, cells, sources, draws, order,
                states, soft, self.instructions.collect_steps, blocks * piece // pieces,
                blocks * (piece + 1) // pieces, distribute, space.work, space.scratch,
                space.stores, *outputs,
            )
            self._spare.append(space)

        if pieces == 1:
            work(0)
        else:
            with ThreadPoolExecutor(pieces) as pool:
                list(pool.map(work, range(pieces)))

    def _similar_together(self, states: IntArray) -> IntArray:
        """Order cases so that neighbours share evidence on inner variables, which slices tables."""
        inner = [v for v, home in enumerate(self.program.home) if home >= 0]
        often = np.count_nonzero(states[:, inner] >= 0, axis=0)
        # The last key of a lexical sort counts most.
        keys = [inner[i] for i in np.argsort(often, kind="stable")[-6:] if often[i]]
        if not keys or len(states) <= LANES:
            return np.arange(len(states))
        return np.lexsort([states[:, v] for v in keys]).astype(np.int64)

    def _take_workspace(self, bank: Bank | None) -> Workspace:
        """Return a workspace for blocks of jobs that no other thread uses."""
        code = self.instructions
        try:
            space = self._spare.pop()
        except IndexError:
            size = max(self.program.row_count * LANES, code.longest)
            space = Workspace(
                np.zeros(code.workspace * LANES),
                np.zeros(3 * size),
                np.zeros((4, code.longest, 3), dtype=np.int64),
                np.zeros(0),
                None,
            )
        if bank is not None and space.bank is not bank:
            table = np.repeat(bank.shared[self.number], LANES)
            space = space._replace(table=table, bank=bank)
        return space

    def __getstate__(self) -> dict[str, object]:
        """Leave out what belongs to this process."""
        return {
            "program": self.program, "distribution": self.distribution, "number": self.number
        }

    def __setstate__(self, state: dict[str, object]) -> None:
        """Flatten again."""
        self.__init__(**state)  # type: ignore[misc]
