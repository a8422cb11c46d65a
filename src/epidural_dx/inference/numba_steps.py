"""The inner loops of the interpreters: one contraction, and the logarithms.

Compiled by numba once per machine and kept in its cache on disk; plans are data to them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import uint64
from numba.core import cgutils
from numba.extending import intrinsic

from epidural_dx.inference.instructions import (
    ADD,
    AXPY,
    DOT,
    EXPAND,
    INNER,
    KIND,
    LEFT,
    LOG_BLOCK,
    LOOPS,
    MAP,
    MULTIPLY,
    MULTIPLY_MAP,
    OUT,
    OUTER,
    PREFIX,
    RIGHT,
    SUM,
    SUM_SCALED,
    SUMMED,
)


# Sums may be reordered and fused; infinities and NaN keep their meaning.
_FAST = {"reassoc", "contract", "nsz"}
jit = numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")


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


@jit
def part(code, number):  # type: ignore[no-untyped-def]
    """Return one of the sections of the packed instructions."""
    return code[code[2 * number] : code[2 * number + 1]]


@jit
def rows_of(code, number, columns):  # type: ignore[no-untyped-def]
    """Return one of the sections of the packed instructions as rows."""
    found = part(code, number)
    return found.reshape((found.size // columns, columns))


# Offsets are unsigned: numba then leaves out the treatment of negative indices, and the loops
# become vector code.
@jit
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


@jit
def _dot(a, ao, b, bo, n):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(n):
        total += a[ao + i] * b[bo + i]
    return total


@jit
def _sum(a, ao, n):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(n):
        total += a[ao + i]
    return total


@jit
def offsets(loops, first, last, extents, store):  # type: ignore[no-untyped-def]
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


@jit
def run_step(  # type: ignore[no-untyped-def]
    step, loops, extents, base, left, right, work, stores, weight, mapped, root_shift, k_target
):
    """Run one contraction.

    ``mapped`` holds the map of a step along one, from place ``root_shift`` on, and ``k_target`` is
    the number of states it maps to.
    """
    kind = step[KIND]
    if kind == EXPAND:
        count = offsets(loops, step[LOOPS], step[LOOPS] + step[OUTER], extents, stores[0])
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
    outer = offsets(loops, outer_first, outer_last, extents, outer_turns)
    summed = offsets(loops, step[LOOPS] + step[OUTER], sum_last, extents, sum_turns)
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


@jit
def log_terms(values, first, count, scratch, scratch_bits):  # type: ignore[no-untyped-def]
    """Replace ``p = values[first : first + count]`` by ``p log2 p``; 0 at 0.

    ``scratch_bits`` is the memory of ``scratch`` as unsigned integers. The exponent is split off by
    bit operations; the logarithm of the mantissa is a series of the inverse hyperbolic tangent,
    accurate to about two units in the last place. All of it is arithmetic that becomes vector
    code, where calls of a library's logarithm would not.
    """
    second = uint64(LOG_BLOCK)
    for start in range(first, first + count, LOG_BLOCK):
        n = uint64(min(LOG_BLOCK, first + count - start))
        here = uint64(start)
        for i in range(n):
            scratch[i] = values[here + i]
        for i in range(n):
            bits = scratch_bits[i]
            # An exponent below 2^52 in the mantissa of 2^52: subtracting 2^52 makes it a number.
            scratch_bits[i] = (bits >> uint64(52)) | uint64(0x4330000000000000)
            scratch_bits[second + i] = (
                (bits & uint64(0x000FFFFFFFFFFFFF)) | uint64(0x3FF0000000000000)
            )
        for i in range(n):
            exponent = scratch[i] - (4503599627370496.0 + 1023.0)
            m = scratch[second + i]
            large = m > 1.4142135623730951
            m = 0.5 * m if large else m
            exponent = exponent + 1.0 if large else exponent
            s = (m - 1.0) / (m + 1.0)
            z = s * s
            series = 1.0 + z * (1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (
                1 / 11 + z * (1 / 13 + z * (1 / 15 + z * (1 / 17 + z * (1 / 19 + z / 21)))))))))
            values[here + i] *= exponent + 2.8853900817779268 * s * series
