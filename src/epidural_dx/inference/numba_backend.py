"""Run the instructions of a program with numba: one compiled interpreter for every plan.

The interpreter is compiled once per machine and kept in numba's cache on disk; plans are data to
it, so a new network needs no compilation. It holds no lock and no threads of its own: batches are
cut into pieces for ordinary Python threads, so it works after a fork and inside other threads.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.bank import LANES, Bank
from epidural_dx.inference.evidence import OPEN, EvidenceRows, IntArray, Observation, read_single
from epidural_dx.inference.instructions import (
    INFORMATION,
    JOINTS,
    LOG_BLOCK,
    MARGINALS,
    flatten,
)
from epidural_dx.inference.kernels import compute_kernels
from epidural_dx.inference.network import FloatArray
from epidural_dx.inference.numba_jobs import run_jobs
from epidural_dx.inference.numpy_backend import LOG_FLOOR, Outcome
from epidural_dx.inference.plan import Distribution, Program

#: Blocks of jobs that are worth a thread of their own.
SMALLEST_PIECE = 4

#: Bytes of a large page of memory.
LARGE_PAGE = 1 << 21

#: From so many cases on, blocks of eight are faster than one case after the other.
FEWEST_LANES = 4


def roomy(cells: int) -> FloatArray:
    """Return zeros in memory that the system may keep in large pages.

    A question that finds the caches cold pays for every page it touches as well; a few large ones
    cost less than some hundred small ones. Numpy asks the system for them where an array has 4 MB.
    """
    if 8 * cells < LARGE_PAGE // 8:
        return np.zeros(cells)
    memory = np.zeros(max(cells + LARGE_PAGE // 8, 2 * LARGE_PAGE // 8))
    first = -int(memory.__array_interface__["data"][0]) % LARGE_PAGE // 8
    return memory[first : first + cells]


class Prepared(NamedTuple):
    """What depends on the tables but not on the evidence.

    Parameters
    ----------
    tables
        Packed tables, shape (draws, cells).
    code, maps, own_tables, clean
        As `run_jobs` wants them; the tables are those above, next to what else a question reads.
    complete
        Whether `clean` has the kernels at its end.
    """

    tables: FloatArray
    code: npt.NDArray[np.int32]
    maps: npt.NDArray[np.int32]
    own_tables: FloatArray
    clean: FloatArray
    complete: bool


class Space(NamedTuple):
    """Room of one thread for single jobs.

    Parameters
    ----------
    room, work
        As `run_jobs` wants them.
    states, soft
        Evidence of one case, as `run_jobs` wants it.
    found
        The memory of `states`, one integer after another.
    """

    room: IntArray
    work: FloatArray
    states: IntArray
    soft: FloatArray
    found: memoryview


class Layout(NamedTuple):
    """Where the answers of a job are in a row of results, and what is wanted, as bits."""

    wanted: int
    columns: int
    target: slice
    root: slice
    marginals: slice
    joints: slice
    information: slice


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
        self._local = threading.local()
        self._open = np.full(len(program.rows), OPEN, dtype=np.int64).data
        # Workspaces for blocks of jobs that no thread uses at the moment.
        self._spare: list[Workspace] = []
        # By identity of the tables; an entry holds its tables, so that the identity stays theirs.
        self._kept: dict[int, Prepared] = {}

    def _space(self) -> Space:
        """Return the workspace of this thread."""
        found: Space | None = getattr(self._local, "space", None)
        if found is None:
            code = self.instructions
            variables, columns = len(self.program.rows), self.program.row_count
            memory = roomy(code.room + code.workspace + variables + columns)
            room, work, states, soft = np.split(
                memory, np.cumsum([code.room, code.workspace, variables])
            )
            found = Space(
                room.view(np.int64),
                work,
                states.view(np.int64)[None],
                soft[None],
                states.view(np.int64).data,
            )
            self._local.space = found
        return found

    def layout(self, want: frozenset[str]) -> Layout:
        """Return where `run_jobs` writes the answers that are wanted."""
        k_target = int(self.instructions.extents[self.distribution.target])
        k_root = int(self.instructions.extents[self.program.root])
        rows = self.program.row_count
        wanted, place, ends = 0, 2, []
        for bit, name, size in (
            (0, "", k_target),
            (0, "", k_root),
            (MARGINALS, "marginals", rows),
            (JOINTS, "joints", rows * k_target),
            (INFORMATION, "information", len(self.program.rows)),
        ):
            kept = name in want or not name
            wanted |= bit if kept else 0
            ends.append(slice(place, place + size if kept else place))
            place = ends[-1].stop
        return Layout(wanted, place, *ends)

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
        instructions, mapped = self.instructions, self._function_of_root(tables)
        code = instructions.code
        none = np.zeros(len(self.program.kernels), dtype=np.int32)
        maps = np.concatenate([none, mapped])
        ready = Prepared(tables, code, maps, tables, np.zeros(0), True)
        if tables.shape[0] == 1:
            states = np.full((1, len(self.program.rows)), OPEN, dtype=np.int64)
            self._call(ready, states, np.zeros((0, 0)), self.layout(frozenset()))
            clean = self._space().work[: instructions.clean_size].copy()
            usable = none
            if with_kernels:
                clean, usable = self._with_kernels(tables, clean)
            maps = np.concatenate([usable, mapped])
            cells = code.size // 2
            memory = roomy(cells + tables.size + clean.size)
            memory[:cells].view(np.int32)[:] = code
            memory[cells : cells + tables.size] = tables[0]
            memory[cells + tables.size :] = clean
            ready = Prepared(
                tables,
                memory[:cells].view(np.int32),
                maps,
                memory[cells : cells + tables.size][None],
                memory[cells + tables.size :],
                with_kernels,
            )
        kept = dict(list(self._kept.items())[-2:])
        self._kept = kept | {id(tables): ready}
        return ready

    def _with_kernels(
        self, tables: FloatArray, clean: FloatArray
    ) -> tuple[FloatArray, npt.NDArray[np.int32]]:
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
            start = int(code.offset[t])
            values[t] = source[start : start + math.prod(shape)].reshape(shape)
        kernels = compute_kernels(program, values)
        usable = np.array([int(table is not None) for table in kernels], dtype=np.int32)
        whole = np.zeros(code.clean_size + code.kernel_cells)
        whole[: code.clean_size] = clean
        for kernel, table in zip(program.kernels, kernels, strict=True):
            if table is not None:
                start = int(code.offset[kernel.table])
                whole[start : start + table.size] = table.ravel()
        return whole, usable

    def _call(
        self, ready: Prepared, states: IntArray, soft: FloatArray, layout: Layout
    ) -> FloatArray:
        """Run all cases; return one row of results for each."""
        space = self._space()
        jobs = len(states) * len(ready.tables)
        out = np.empty((jobs, layout.columns))
        run_jobs(
            ready.code, ready.maps, ready.own_tables, ready.clean, states, soft, jobs,
            layout.wanted, space.room, space.work, out, 0.0,
        )
        return out

    def ask(
        self, evidence: Mapping[int, Observation], tables: FloatArray, layout: Layout
    ) -> FloatArray | None:
        """Answer about one case, without the detours that batches need.

        Parameters
        ----------
        evidence
            Observations by variable.
        tables
            Packed tables, shape (1, cells).
        layout
            What is wanted.

        Returns
        -------
        ndarray or None
            The row of results, shape (1, columns), the scale of the likelihoods in its
            log-evidence. None for anything unusual: several cases, evidence that cannot be read
            or is impossible, numbers that may have underflowed.
        """
        try:
            space: Space = self._local.space
        except AttributeError:
            space = self._space()
        space.found[:] = self._open
        scale = read_single(
            self.program.extents, evidence, space.found, space.soft, self.program.rows
        )
        if scale is None:
            return None
        ready = self._kept.get(id(tables))
        if ready is None or not ready.complete:
            ready = self._prepare(tables, layout.wanted != 0)
        out = np.empty((1, layout.columns))
        least = run_jobs(
            ready.code, ready.maps, ready.own_tables, ready.clean, space.states, space.soft, 1,
            layout.wanted, space.room, space.work, out, scale,
        )
        return out if least > LOG_FLOOR else None

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
        states = np.ascontiguousarray(evidence.states)
        layout = self.layout(want)
        if bank is None and jobs < FEWEST_LANES:
            out = self._call(self._prepare(tables, bool(want)), states, soft, layout)
        else:
            out = np.empty((jobs, layout.columns))
            self._run_blocks(states, soft, tables, bank, layout.wanted, out, threads)
        return Outcome(
            out[:, 0],
            out[:, layout.root],
            out[:, layout.target],
            out[:, layout.joints].reshape(jobs, -1, self.program.row_count)
            if "joints" in want
            else None,
            out[:, 1] > LOG_FLOOR,
            np.zeros((0, 0), dtype=np.bool_),
            out[:, layout.marginals] if "marginals" in want else None,
            out[:, layout.information] if "information" in want else None,
        )

    def _run_blocks(
        self,
        states: IntArray,
        soft: FloatArray,
        tables: FloatArray,
        bank: Bank | None,
        wanted: int,
        out: FloatArray,
        threads: int,
    ) -> None:
        """Run many jobs, eight at a time."""
        from epidural_dx.inference.numba_lanes import run_blocks

        cells: IntArray = np.zeros(0, dtype=np.int64)
        sources = cells
        drawn = np.zeros((0, 0, LANES))
        clean = np.zeros(0)
        draws = 0
        if bank is None:
            ready = self._prepare(tables, wanted != 0)
            maps, clean = ready.maps, ready.clean
            order = self._similar_together(states)
            blocks = -(-len(order) // LANES)
        else:
            cells, sources = bank.cells[self.number], bank.sources[self.number]
            drawn, draws = bank.values, bank.draws
            none = np.zeros(len(self.program.kernels), dtype=np.int32)
            mapped = self._function_of_root(bank.shared[self.number][None])
            maps = np.concatenate([none, mapped])
            order = np.arange(len(states))
            blocks = len(states) * drawn.shape[0]
        pieces = max(1, min(threads, blocks // SMALLEST_PIECE))

        def work(piece: int) -> None:
            space = self._take_workspace(bank)
            table = tables[0] if bank is None else space.table
            run_blocks(
                self.instructions.code, maps, table, clean, drawn, cells, sources, draws, order,
                states, soft, blocks * piece // pieces, blocks * (piece + 1) // pieces, wanted,
                space.work, space.scratch, space.stores, out,
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
            space = Workspace(
                np.zeros(code.workspace * LANES),
                np.zeros(max(code.longest, 2 * LOG_BLOCK)),
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
