"""The inner loops of the interpreters: one contraction, and the logarithms.

Compiled by numba once per machine and kept in its cache on disk; plans are data to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import uint64
from numba.core import cgutils, types
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
    OWNER,
    PREFIX,
    RIGHT,
    ROLE,
    SKIP,
    SUM,
    SUM_SCALED,
    SUMMED,
    TOGETHER,
    ZEROS,
)
from epidural_dx.inference.plan import ADJOINT, READ

# Sums may be reordered and fused; infinities and NaN keep their meaning.
_FAST = {"reassoc", "contract", "nsz"}
jit = numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
# Closures over intrinsics are found again in the cache of what calls them only.
_jit_uncached = numba.njit(nogil=True, fastmath=_FAST, error_model="numpy")


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


def _line(width: int, vectors: int, right_moves: bool | None) -> Any:
    """Make the innermost operation of a step along lines of its operands, as vector code.

    For some cells i that lie next to each other: ``out[at + i] = sum_s left[l0 + i + turns[s, 1]] *
    right[r0 + i + turns[s, 2]]``, the right operand moving with i or not, or left out for None. The
    cells are `vectors` vectors of `width`, each after the one before, but the last from cell `last`
    on: so lines whose length is no multiple of the width need no other code for their rest, which
    is only computed twice. The sums stay in registers.
    """

    @intrinsic
    def kernel(  # type: ignore[no-untyped-def]
        _context, out, at, left, left0, right, right0, turns, count, last
    ):
        signature = types.void(out, at, left, left0, right, right0, turns, count, last)

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            double, word = ir.DoubleType(), ir.IntType(64)
            vector = ir.VectorType(double, width)
            lane = ir.IntType(32)

            def data(value: Any, kind: Any) -> Any:
                return context.make_array(kind)(context, builder, value).data

            def block(pointer: Any, cell: Any, i: int) -> Any:
                shift = arguments[8] if i == vectors - 1 else ir.Constant(word, i * width)
                place = builder.gep(pointer, [builder.add(cell, shift)])
                return builder.bitcast(place, ir.PointerType(vector))

            def load(pointer: Any, cell: Any, i: int) -> Any:
                value = builder.load(block(pointer, cell, i))
                value.align = 8
                return value

            out_data, left_data = data(arguments[0], out), data(arguments[2], left)
            right_data, turn_data = data(arguments[4], right), data(arguments[6], turns)
            totals = []
            for i in range(vectors):
                totals.append(cgutils.alloca_once(builder, vector))  # type: ignore[no-untyped-call]
                builder.store(ir.Constant(vector, [0.0] * width), totals[i])
            with cgutils.for_range(builder, arguments[7], intp=word) as loop:
                row = builder.mul(loop.index, ir.Constant(word, 3))

                def turn(column: int) -> Any:
                    place = builder.add(row, ir.Constant(word, column))
                    return builder.load(builder.gep(turn_data, [place]))

                left_cell = builder.add(arguments[3], turn(1))
                right_cell = other = None
                if right_moves is not None:
                    right_cell = builder.add(arguments[5], turn(2))
                if right_moves is False:
                    number = builder.load(builder.gep(right_data, [right_cell]))
                    nothing = ir.Constant(vector, ir.Undefined)
                    first = builder.insert_element(nothing, number, ir.Constant(lane, 0))
                    zeros = ir.Constant(ir.VectorType(lane, width), [0] * width)
                    other = builder.shuffle_vector(first, nothing, zeros)
                for i in range(vectors):
                    term = load(left_data, left_cell, i)
                    if right_moves:
                        other = load(right_data, right_cell, i)
                    if other is not None:
                        term = builder.fmul(term, other, flags=("contract",))
                    total = builder.fadd(builder.load(totals[i]), term, flags=("contract",))
                    builder.store(total, totals[i])
            for i in range(vectors):
                builder.store(builder.load(totals[i]), block(out_data, arguments[1], i)).align = 8
            return context.get_dummy_value()

        return signature, generate

    return kernel


def _lines(right_moves: bool | None) -> Any:
    """Make the innermost operation for many lines of n cells, as one call.

    For every line o the result begins at ``out0 + places[o, 0]``, the operands begin at ``left0 +
    outer[o, 1]`` and ``right0 + outer[o, 2]``.
    """
    eight_1, eight_2, eight_3, eight_4 = (_line(8, v, right_moves) for v in (1, 2, 3, 4))
    four_1, four_2 = (_line(4, v, right_moves) for v in (1, 2))
    two_1, two_2 = (_line(2, v, right_moves) for v in (1, 2))
    one = _line(1, 1, right_moves)
    moves = 1 if right_moves else 0

    @_jit_uncached
    def lines(  # type: ignore[no-untyped-def]
        out, out0, places, left, left0, right, right0, outer, lines, turns, count, n
    ):
        # Where the last of several vectors begins.
        last = n - (8 if n >= 8 else 4 if n >= 4 else 2 if n >= 2 else 1)
        if n > 32:
            for o in range(lines):
                a, b = out0 + places[o, 0], left0 + outer[o, 1]
                c = right0 + outer[o, 2]
                i = np.int64(0)
                while n - i >= 32:
                    eight_4(out, a + i, left, b + i, right, c + i * moves, turns, count,
                            np.int64(24))
                    i += 32
                while i < n:
                    i = min(i, last)
                    eight_1(out, a + i, left, b + i, right, c + i * moves, turns, count,
                            np.int64(0))
                    i += 8
        elif n > 24:
            for o in range(lines):
                eight_4(out, out0 + places[o, 0], left, left0 + outer[o, 1], right,
                        right0 + outer[o, 2], turns, count, last)
        elif n > 16:
            for o in range(lines):
                eight_3(out, out0 + places[o, 0], left, left0 + outer[o, 1], right,
                        right0 + outer[o, 2], turns, count, last)
        elif n > 8:
            for o in range(lines):
                eight_2(out, out0 + places[o, 0], left, left0 + outer[o, 1], right,
                        right0 + outer[o, 2], turns, count, last)
        elif n == 8:
            for o in range(lines):
                eight_1(out, out0 + places[o, 0], left, left0 + outer[o, 1], right,
                        right0 + outer[o, 2], turns, count, last)
        elif n > 4:
            for o in range(lines):
                four_2(out, out0 + places[o, 0], left, left0 + outer[o, 1], right,
                       right0 + outer[o, 2], turns, count, last)
        elif n == 4:
            for o in range(lines):
                four_1(out, out0 + places[o, 0], left, left0 + outer[o, 1], right,
                       right0 + outer[o, 2], turns, count, last)
        elif n == 3:
            for o in range(lines):
                two_2(out, out0 + places[o, 0], left, left0 + outer[o, 1], right,
                      right0 + outer[o, 2], turns, count, last)
        elif n == 2:
            for o in range(lines):
                two_1(out, out0 + places[o, 0], left, left0 + outer[o, 1], right,
                      right0 + outer[o, 2], turns, count, last)
        else:
            for o in range(lines):
                one(out, out0 + places[o, 0], left, left0 + outer[o, 1], right,
                    right0 + outer[o, 2], turns, count, last)

    return lines


_scaled, _multiplied, _added = _lines(False), _lines(True), _lines(None)


# Offsets are unsigned: numba then leaves out the treatment of negative indices, and the loops
# become vector code.
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
def append(store, n, k, s0, s1, s2):  # type: ignore[no-untyped-def]
    """Add an innermost loop to a list of offsets; return the new length."""
    # Written from the back, so that earlier axes stay the slower ones.
    for i in range(n - 1, -1, -1):
        b0, b1, b2 = store[i, 0], store[i, 1], store[i, 2]
        for j in range(k - 1, -1, -1):
            store[i * k + j, 0] = b0 + j * s0
            store[i * k + j, 1] = b1 + j * s1
            store[i * k + j, 2] = b2 + j * s2
    return n * k


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
        n = append(store, n, k, loops[r, 1], loops[r, 2], loops[r, 3])
    return n


@jit
def joined(kind, loops, extents, first, last, length):  # type: ignore[no-untyped-def]
    """Make one long axis of the inner one and outer ones that lie beside it in every operand.

    Returns the length of the inner axis and the end of the outer loops.
    """
    if kind == AXPY or kind == ADD or kind == MULTIPLY:
        while last > first:
            r = last - 1
            k = extents[loops[r, 0]]
            right = length if kind == MULTIPLY else 0
            if k > 1 and (loops[r, 1] != length or loops[r, 2] != length or loops[r, 3] != right):
                break
            length *= k
            last -= 1
    return length, last


@jit
def hide(kernels, usable, changed, hidden):  # type: ignore[no-untyped-def]
    """Find subtrees without evidence that kernels answer for: 1 at the top of one, 2 below."""
    for r in range(kernels.shape[0]):
        top = kernels[r, 1]
        if usable[r] == 1 and hidden[top] == 0 and changed[kernels[r, 0]] == 0:
            for i in range(top + 1, kernels[r, 2]):
                hidden[i] = 2
            hidden[top] = 1


@jit
def passed_over(step, hidden, deterministic):  # type: ignore[no-untyped-def]
    """Whether a step of the distribute pass is not needed: a kernel or another step does it."""
    state, role = hidden[step[OWNER]], step[ROLE]
    if role == ADJOINT:
        needed = state != 2
    elif role == READ:
        needed = state == 0
    else:
        needed = state == 1
    return not needed or step[SKIP] == 1 or (step[SKIP] == 2 and deterministic)


@jit
def run_step(  # type: ignore[no-untyped-def]
    step, loops, extents, base, left, right, work, stores, scratch, mapped, root_shift, k_target
):
    """Run one contraction.

    ``mapped`` holds the map of a step along one, from place ``root_shift`` on, and ``k_target`` is
    the number of states it maps to.
    """
    kind = step[KIND]
    if kind == EXPAND:
        count = offsets(loops, np.int64(step[LOOPS]), step[LOOPS] + step[OUTER], extents, stores[0])
        width, shift = uint64(extents[step[INNER]]), uint64(root_shift)
        for o in range(count):
            oo = uint64(base[step[OUT]] + stores[0, o, 0])
            lo = uint64(base[step[LEFT]] + stores[0, o, 1])
            for i in range(uint64(step[PREFIX])):
                work[oo + i] = left[lo + i]
            for i in range(uint64(step[PREFIX]), width):
                work[oo + i] = left[lo + uint64(mapped[shift + i])]
        return
    # Literals would make further versions of the functions that take them.
    zero, one = np.int64(0), np.int64(1)
    outer_first = np.int64(step[LOOPS])
    outer_last = outer_first + step[OUTER]
    sum_last = outer_last + step[SUMMED]
    inner = step[INNER]
    length = 1
    if inner >= 0:
        length = extents[inner]
    # Neighbouring axes that lie one after another in every operand become one long axis.
    length, outer_last = joined(kind, loops, extents, outer_first, outer_last, length)
    if kind == DOT:
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
    if kind == AXPY and step[ZEROS] == 1 and summed > 2:
        kept = stores[2]
        for o in range(outer):
            ro, terms = right0 + outer_turns[o, 2], np.int64(0)
            for s in range(summed):
                kept[terms, 1], kept[terms, 2] = sum_turns[s, 1], sum_turns[s, 2]
                terms += 1 if right[uint64(ro + sum_turns[s, 2])] != 0.0 else 0
            here = outer_turns[o:]
            _scaled(work, out0, here, left, left0, right, right0, here, one, kept, terms, length)
    elif kind == AXPY:
        _scaled(work, out0, outer_turns, left, left0, right, right0, outer_turns, outer,
                sum_turns, summed, length)
    elif kind == MULTIPLY:
        _multiplied(work, out0, outer_turns, left, left0, right, right0, outer_turns, outer,
                    sum_turns, summed, length)
    elif kind == ADD:
        _added(work, out0, outer_turns, left, left0, left, left0, outer_turns, outer,
               sum_turns, summed, length)
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
    elif kind == SUM:
        for o in range(outer):
            total = 0.0
            for s in range(summed):
                total += _sum(left, uint64(left0 + outer_turns[o, 1] + sum_turns[s, 1]), n)
            work[uint64(out0 + outer_turns[o, 0])] = total
    elif kind == MAP or kind >= MULTIPLY_MAP:
        # Lines of the fine states first; their first states keep their number, the others are added
        # to those they are mapped to.
        same, n = min(uint64(step[PREFIX]), uint64(length)), uint64(length)
        width, shift = uint64(k_target), uint64(root_shift)
        places = stores[2]
        for line in range(min(outer, TOGETHER)):
            places[line, 0] = line * length
        for first in range(0, outer, TOGETHER):
            count = min(outer - first, TOGETHER)
            here = outer_turns[first:]
            if kind == MAP:
                _added(scratch, zero, places, left, left0, left, left0, here, count, sum_turns,
                       summed, length)
            elif kind == MULTIPLY_MAP:
                _multiplied(scratch, zero, places, left, left0, right, right0, here, count,
                            sum_turns, summed, length)
            else:
                _scaled(scratch, zero, places, left, left0, right, right0, here, count, sum_turns,
                        summed, length)
            for line in range(count):
                a, b = uint64(out0 + here[line, 0]), uint64(line * length)
                for i in range(same):
                    work[a + i] = scratch[b + i]
                for i in range(same, width):
                    work[a + i] = 0.0
            line = 0
            # Four lines at a time: each addition waits for the one before it to the same cell.
            while line + 4 <= count:
                a0, a1 = uint64(out0 + here[line, 0]), uint64(out0 + here[line + 1, 0])
                a2, a3 = uint64(out0 + here[line + 2, 0]), uint64(out0 + here[line + 3, 0])
                b0 = uint64(line) * n
                for i in range(same, n):
                    t = uint64(mapped[shift + i])
                    work[a0 + t] += scratch[b0 + i]
                    work[a1 + t] += scratch[b0 + n + i]
                    work[a2 + t] += scratch[b0 + n + n + i]
                    work[a3 + t] += scratch[b0 + n + n + n + i]
                line += 4
            while line < count:
                a0, b0 = uint64(out0 + here[line, 0]), uint64(line) * n
                for i in range(same, n):
                    work[a0 + uint64(mapped[shift + i])] += scratch[b0 + i]
                line += 1
        return
    else:
        n = uint64(length)
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


def forget_outdated(kept: Path | None = None) -> None:
    """Delete kernels on disk that are older than a file they were compiled from.

    Numba compares a kernel with its own file only. After an update that changes another one (the
    numbers of the instructions, a step that another file calls) it would run the old kernel.

    Parameters
    ----------
    kept
        Where numba keeps the kernels; found out by default.
    """
    folder = kept if kept is not None else part.stats.cache_path
    if folder is None:
        return
    here = Path(__file__).parent
    others = ("instructions.py", "plan.py", "bank.py")
    sources = [*here.glob("numba_*.py"), *(here / name for name in others)]
    newest = max(path.stat().st_mtime_ns for path in sources)
    for index in Path(folder).glob("numba_*.nbi"):
        try:
            if index.stat().st_mtime_ns < newest:
                index.unlink()
        except OSError:  # another process was faster, or may not be written
            continue


forget_outdated()
