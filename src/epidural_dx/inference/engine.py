"""Ask a compiled plan: one call, all answers."""

from __future__ import annotations

import importlib.util
import itertools
import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from epidural_dx.inference.bank import Bank, Repeated, build_bank
from epidural_dx.inference.derivatives import (
    Derivatives,
    log_evidence_derivatives,
    posterior_derivatives,
)
from epidural_dx.inference.evidence import (
    EvidenceRows,
    ImpossibleEvidence,
    Observation,
    read_evidence,
)
from epidural_dx.inference.information import stacked_information
from epidural_dx.inference.instructions import INFORMATION, JOINTS, MARGINALS
from epidural_dx.inference.log_space import LogProgram
from epidural_dx.inference.network import FloatArray
from epidural_dx.inference.numpy_backend import NumpyProgram, Outcome
from epidural_dx.inference.plan import NONE, Plan, Program, Target

if TYPE_CHECKING:
    from epidural_dx.inference.numba_backend import NumbaProgram

#: Programs that an engine keeps ready to run; those of old banks of draws go first.
MOST_RUNNERS = 16

#: Answers that `Engine.run` can keep for every case.
ALL_ANSWERS = ("marginals", "joints", "information")


def numba_available() -> bool:
    """Return whether numba is installed, without importing it."""
    try:
        return importlib.util.find_spec("numba") is not None
    except (ImportError, ValueError):
        return False


def available_threads() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Answers(Mapping[int, FloatArray]):
    """One array per variable, cut on demand out of a stack of rows.

    Parameters
    ----------
    stack
        Shape (..., columns) or (..., k_target, columns): the states of all variables one after
        another.
    starts
        First column of every variable.
    cardinalities
        Number of states of every variable.
    """

    def __init__(
        self, stack: FloatArray, starts: Sequence[int], cardinalities: Sequence[int]
    ) -> None:
        self.stack = stack
        self.starts = starts
        self._cardinalities = cardinalities

    def __getitem__(self, variable: int) -> FloatArray:
        """Return the array of one variable."""
        if not 0 <= variable < len(self.starts):
            raise KeyError(variable)
        start = self.starts[variable]
        stop = start + self._cardinalities[variable]
        return self.stack[..., start:stop]

    def __iter__(self) -> Iterator[int]:
        """Iterate over the variables."""
        return iter(range(len(self.starts)))

    def __len__(self) -> int:
        """Return the number of variables."""
        return len(self.starts)


@dataclass(frozen=True, eq=False)
class Result:
    """Answers for a batch of cases, or for cases x draws when a bank of draws was given.

    In the shapes below ``...`` is (batch,) or (batch, draws).

    Parameters
    ----------
    target
        The variables of the target.
    log_evidence
        Shape (...): log of the sum over everything of the product of all factors and likelihood
        vectors; -inf when the evidence is impossible.
    posterior
        Shape (..., k_target): P(target | evidence). A target of several variables is flattened
        in C order. Zeros when the evidence is impossible.
    marginals
        ``marginals[v]``, shape (..., k_v), for every variable, or None if not asked for.
    joints
        ``joints[v]``, shape (..., k_target, k_v): P(target, v | evidence) for every variable,
        or None.
    information
        Shape (..., variables): mutual information in bits of the target and every variable
        given the evidence, or None. It is 0 for a variable with hard evidence.
    """

    target: tuple[int, ...]
    log_evidence: FloatArray
    posterior: FloatArray
    marginals: Answers | None
    joints: Answers | None
    information: FloatArray | None

    @property
    def possible(self) -> npt.NDArray[np.bool_]:
        """Shape (...): False where the evidence is impossible."""
        return np.isfinite(self.log_evidence)


@dataclass
class _Block:
    """Answers of cases x draws while they are being filled in."""

    log_evidence: FloatArray
    trusted: npt.NDArray[np.bool_]
    root: FloatArray
    posterior: FloatArray
    marginals: FloatArray | None
    joints: FloatArray | None
    information: FloatArray | None

    @classmethod
    def empty(
        cls, jobs: int, program: Program, k: int, variables: int, want: frozenset[str]
    ) -> _Block:
        """Make room for the answers that are wanted."""
        return cls(
            log_evidence=np.empty(jobs),
            trusted=np.ones(jobs, dtype=np.bool_),
            root=np.zeros((jobs, program.extents[program.root])),
            posterior=np.zeros((jobs, k)),
            marginals=np.zeros((jobs, program.row_count)) if "marginals" in want else None,
            joints=np.zeros((jobs, k, program.row_count)) if "joints" in want else None,
            information=np.zeros((jobs, variables)) if "information" in want else None,
        )

    def fill(self, here: slice, outcome: Outcome, program: Program) -> None:
        """Write the outcome of some jobs."""
        assert outcome.target is not None
        starts = np.asarray(program.rows)
        self.root[here] = outcome.root
        self.log_evidence[here] = outcome.log_evidence
        self.trusted[here] = outcome.trusted
        self.posterior[here] = outcome.target
        joint = outcome.joint
        if joint is None:
            return
        if self.joints is not None:
            self.joints[here] = joint
        if self.marginals is not None:
            root = program.rows[program.root]
            flat = joint.sum(axis=1)
            flat[:, root : root + outcome.root.shape[1]] = outcome.root
            self.marginals[here] = flat
        if self.information is not None:
            order = np.argsort(starts)
            bits = stacked_information(joint, outcome.target, starts[order])
            self.information[here, order] = bits
            self.information[here][outcome.observed] = 0.0

    def clear(self, dead: npt.NDArray[np.bool_]) -> None:
        """Leave nothing but zeros for impossible cases."""
        for block in (self.root, self.posterior, self.marginals, self.joints, self.information):
            if block is not None:
                block[dead] = 0.0


class _Single(NamedTuple):
    """A kind of question about single cases, ready to be asked with numba.

    Parameters
    ----------
    runner
        What answers, or None for a target of several variables.
    root
        A variable that must not be observed: another program is used then.
    layout, posterior
        Where the answers are, and where that about the target is.
    rows, cardinalities, columns
        First column and number of states of every variable, number of columns.
    tables
        Packed tables.
    target
        As in `Result`.
    """

    runner: NumbaProgram | None
    root: int
    layout: Any
    rows: tuple[int, ...]
    cardinalities: tuple[int, ...]
    tables: FloatArray
    target: tuple[int, ...]
    posterior: slice | None
    columns: int


_Key = TypeVar("_Key")
_Runner = TypeVar("_Runner")


def _remember(cache: dict[_Key, _Runner], key: _Key, runner: _Runner) -> None:
    """Keep a runner; forget the oldest of many (every bank of draws may bring its programs)."""
    for old in list(cache)[: max(0, len(cache) - MOST_RUNNERS + 1)]:
        cache.pop(old, None)
    cache[key] = runner


class Engine:
    """Answers questions about a compiled plan; safe to share between threads.

    Parameters
    ----------
    plan
        The compiled network.
    backend
        ``"numpy"``, ``"numba"``, or ``"auto"``: numba when it is installed.
    threads
        Number of threads for batches with numba; by default one for each processor that this
        process may use. Numpy runs in one.
    chunk
        Number of jobs (cases or draws) that numpy works on at a time; bounds its memory.
    """

    def __init__(
        self,
        plan: Plan,
        backend: str = "auto",
        *,
        threads: int | None = None,
        chunk: int = 64,
    ) -> None:
        if backend not in ("auto", "numpy", "numba"):
            raise ValueError(f"backend {backend!r}: 'auto', 'numpy' or 'numba'")
        if chunk < 1:
            raise ValueError("chunk must be at least 1")
        self.plan = plan
        if backend == "auto":
            backend = "numba" if numba_available() else "numpy"
        elif backend == "numba" and not numba_available():
            raise ImportError("backend 'numba' needs numba: install epidural-dx[fast]")
        self.backend = backend
        self.threads = available_threads() if threads is None else max(1, threads)
        self.chunk = chunk
        self._forget()

    def _forget(self) -> None:
        # By identity of the program; an entry holds its program, so that the identity stays its.
        self._numpy: dict[int, NumpyProgram] = {}
        self._log: dict[int, LogProgram] = {}
        self._numba: dict[tuple[int, int], NumbaProgram] = {}
        self._single: dict[tuple[Target | None, tuple[str, ...]], _Single] = {}

    def __getstate__(self) -> dict[str, object]:
        """Leave out what belongs to this process."""
        kept = ("plan", "backend", "threads", "chunk")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start with nothing remembered."""
        self.__dict__.update(state)
        self._forget()

    # -- parameter draws --------------------------------------------------------------------------

    def bank(self, tables: Sequence[FloatArray | Repeated]) -> Bank:
        """Bring parameter draws into the order of the plan, once for many questions.

        Parameters
        ----------
        tables
            One array per factor of the network: ``(draws, *shape)``, or the plain shape for
            factors that are the same in every draw. `Repeated` stands for a table of draws.

        Returns
        -------
        Bank

        Raises
        ------
        ValueError
            See `build_bank`.
        """
        return build_bank(self.plan, tables)

    # -- questions --------------------------------------------------------------------------------

    def run(
        self,
        evidence: Mapping[int, Observation],
        *,
        target: Target | None = None,
        want: Collection[str] = ALL_ANSWERS,
        bank: Bank | None = None,
        on_impossible: str = "flag",
    ) -> Result:
        """Answer everything about one case, a batch of cases, or cases under parameter draws.

        Parameters
        ----------
        evidence
            Observations by variable, see `read_evidence`: an integer state, an array of states
            per row (-1 open), or likelihood vectors of shape (k,) or (batch, k).
        target
            One of the targets of the plan; by default the first.
        want
            Which answers to keep besides log-evidence and posterior of the target: any of
            ``"marginals"``, ``"joints"``, ``"information"``. An empty collection runs the
            collect pass only.
        bank
            Parameter draws; the results then have the axes (batch, draws).
        on_impossible
            ``"flag"``: impossible cases have log-evidence -inf and zeros everywhere else;
            ``"raise"``: `ImpossibleEvidence` if any case is impossible.

        Returns
        -------
        Result
        """
        if on_impossible not in ("flag", "raise"):
            raise ValueError("on_impossible must be 'flag' or 'raise'")
        if bank is None and self.backend == "numba":
            single = self._run_single(evidence, target, tuple(want))
            if single is not None:
                return single
        unknown = set(want) - set(ALL_ANSWERS)
        if unknown:
            raise ValueError(f"unknown answers {sorted(unknown)}; possible: {ALL_ANSWERS}")
        rows = read_evidence(self.plan.network.cardinalities, evidence)
        result = self._run(rows, self.plan.target_index(target), frozenset(want), bank)
        if on_impossible == "raise" and not result.possible.all():
            raise ImpossibleEvidence("the evidence has probability 0 under the network")
        return result

    def log_evidence_many(
        self,
        evidence: Mapping[int, Observation],
        *,
        target: Target | None = None,
        bank: Bank | None = None,
    ) -> Result:
        """Return only log-evidence and posterior of the target for many rows of evidence.

        The cheap question behind panels and lookahead: the collect pass without the distribute
        pass. Parameters as in `run`; ``marginals``, ``joints`` and ``information`` are None.
        """
        return self.run(evidence, target=target, want=(), bank=bank)

    def joint(
        self,
        evidence: Mapping[int, Observation],
        variables: Sequence[int],
        *,
        target: Target | None = None,
        limit: int = 1_000_000,
    ) -> FloatArray:
        """Return the exact joint distribution of a small set of variables.

        Parameters
        ----------
        evidence
            As in `run`; may have a batch axis.
        variables
            Distinct variables, for example the findings of a test panel.
        target
            If given, the joint distribution of the target (first axis, flattened) and the
            variables.
        limit
            Refuse when batch x joint states is larger.

        Returns
        -------
        ndarray, shape (batch, [k_target,] k_1, k_2, ...)
            Sums to 1 for every case; zeros for an impossible case.
        """
        cardinalities = self.plan.network.cardinalities
        names = [int(v) for v in variables]
        if len(set(names)) != len(names):
            raise ValueError(f"a variable occurs twice in {names}")
        shape = tuple(cardinalities[v] for v in names)
        combinations = math.prod(shape)
        rows = read_evidence(cardinalities, evidence)
        if rows.rows * combinations > limit:
            raise ValueError(
                f"{rows.rows} x {combinations} joint states are more than the limit of {limit}"
            )
        wide = rows.repeat(combinations)
        outcomes = np.tile(
            np.array(list(np.ndindex(*shape)), dtype=np.int64).reshape(combinations, len(names)),
            (rows.rows, 1),
        )
        for column, v in enumerate(names):
            wide = wide.observe(v, outcomes[:, column])
        index = self.plan.target_index(target)
        result = self._run(wide, index, frozenset(), None)
        logs = result.log_evidence.reshape(rows.rows, combinations)
        top = logs.max(axis=1, keepdims=True)
        weight = np.exp(logs - np.where(np.isfinite(top), top, 0.0))
        total = weight.sum(axis=1, keepdims=True)
        weight = weight / np.where(total > 0, total, 1.0)
        if target is None:
            return weight.reshape(rows.rows, *shape)
        table = result.posterior.reshape(rows.rows, combinations, -1) * weight[:, :, None]
        return np.moveaxis(table, -1, 1).reshape(rows.rows, -1, *shape)

    def derivatives(self, evidence: Mapping[int, Observation]) -> Derivatives:
        """Differentiate log P(evidence) by every table cell: see `log_evidence_derivatives`."""
        return log_evidence_derivatives(self.plan, evidence)

    def posterior_derivatives(
        self, evidence: Mapping[int, Observation], variable: int
    ) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        """Differentiate P(variable | evidence) by every table cell: see `posterior_derivatives`."""
        return posterior_derivatives(self.plan, evidence, variable)

    # -- machinery --------------------------------------------------------------------------------

    def _run(
        self, rows: EvidenceRows, index: int, want: frozenset[str], bank: Bank | None
    ) -> Result:
        target = self.plan.targets[index]
        carried = self.plan.carried[index]
        others = [v for v in target if v != carried]
        if not others:
            return self._run_carried(rows, index, want, bank)
        return self._run_enumerated(rows, index, others, want, bank)

    def _run_single(
        self,
        evidence: Mapping[int, Observation],
        target: Target | None,
        want: tuple[str, ...],
    ) -> Result | None:
        """Answer about one case by the shortest way; None where only the general one will do.

        What costs in a single question is how much of Python it touches: a question that finds the
        caches cold pays for every line of code and every object.
        """
        question = self._single.get((target, want))
        if question is None:
            if not set(want) <= set(ALL_ANSWERS):
                return None
            question = self._single_question(self.plan.target_index(target), frozenset(want))
            _remember(self._single, (target, want), question)
        runner, root, layout, rows, cardinalities = question[:5]
        if runner is None or root in evidence:
            return None
        out = runner.ask(evidence, question.tables, layout)
        if out is None:
            return None
        wanted = layout.wanted
        marginals = joints = information = None
        if wanted & MARGINALS:
            marginals = Answers(out[:, layout.marginals], rows, cardinalities)
        if wanted & JOINTS:
            stack = out[:, layout.joints].reshape(1, -1, question.columns)
            joints = Answers(stack, rows, cardinalities)
        if wanted & INFORMATION:
            information = out[:, layout.information]
        return Result(
            question.target, out[:, 0], out[:, question.posterior], marginals, joints, information
        )

    def _single_question(self, index: int, want: frozenset[str]) -> _Single:
        """Prepare a kind of question about single cases."""
        plan = self.plan
        open_rows = read_evidence(plan.network.cardinalities, {})
        number, carried = self._choose(open_rows, index, want)
        program = plan.programs[number]
        runner = layout = posterior = None
        if len(plan.targets[index]) == 1:
            runner = self._numba_program(number, carried, program)
            layout = runner.layout(want)
            posterior = layout.target if carried == plan.carried[index] else layout.root
        return _Single(
            runner=runner,
            root=program.root,
            layout=layout,
            rows=program.rows,
            cardinalities=plan.network.cardinalities,
            tables=plan.packed[number],
            target=plan.targets[index],
            posterior=posterior,
            columns=program.row_count,
        )

    def _choose(
        self, rows: EvidenceRows, index: int, want: frozenset[str]
    ) -> tuple[int, int]:
        """Return the number of the program that answers, and the target that it carries."""
        plan = self.plan
        number, carried = plan.target_programs[index], plan.carried[index]
        if not plan.shared_programs or (rows.states[:, plan.programs[number].root] >= 0).any():
            return number, carried
        if plan.shared_programs[index] != NONE:
            return plan.shared_programs[index], carried
        if carried == plan.programs[number].root and want <= {"marginals"}:
            # Posterior of the root and marginals are the same whatever is carried.
            for other, shared in enumerate(plan.shared_programs):
                if shared != NONE and plan.programs[shared].root == carried:
                    return shared, plan.carried[other]
        return number, carried

    def _program(self, number: int, bank: Bank | None) -> Program:
        return self.plan.programs[number] if bank is None else bank.programs[number]

    def _numpy_program(self, program: Program) -> NumpyProgram:
        runner = self._numpy.get(id(program))
        if runner is None:
            runner = NumpyProgram(program)
            _remember(self._numpy, id(program), runner)
        return runner

    def _numba_program(self, number: int, carried: int, program: Program) -> NumbaProgram:
        key = (id(program), carried)
        runner = self._numba.get(key)
        if runner is None:
            from epidural_dx.inference.numba_backend import NumbaProgram

            runner = NumbaProgram(program, program.distribution(carried), number)
            _remember(self._numba, key, runner)
        return runner

    def _run_carried(
        self, rows: EvidenceRows, index: int, want: frozenset[str], bank: Bank | None
    ) -> Result:
        """Run with one carried target: one collect and one distribute pass."""
        number, carried = self._choose(rows, index, want)
        program = self._program(number, bank)
        cardinalities = self.plan.network.cardinalities
        draws = 1 if bank is None else bank.draws
        lead: tuple[int, ...] = (rows.rows,) if bank is None else (rows.rows, draws)
        k = cardinalities[carried]
        if self.backend == "numba":
            block = self._run_numba(number, carried, rows, self.plan.packed[number], bank, want)
        else:
            block = _Block.empty(rows.rows * draws, program, k, len(cardinalities), want)
            for first, last, part, some in self._chunks(rows, number, bank):
                distribution = program.distribution(carried) if want else None
                outcome = self._numpy_program(program).run(part, some, distribution, carried)
                block.fill(slice(first, last), outcome, program)
        self._rescue(block, number, carried, rows, bank, bool(want))
        block.log_evidence += rows.log_scale if draws == 1 else np.repeat(rows.log_scale, draws)
        possible = np.isfinite(block.log_evidence)
        if not possible.all():
            block.clear(~possible)
        posterior = block.posterior if carried == self.plan.carried[index] else block.root
        return Result(
            target=self.plan.targets[index],
            log_evidence=block.log_evidence.reshape(lead),
            posterior=posterior.reshape(*lead, -1),
            marginals=None
            if block.marginals is None
            else Answers(block.marginals.reshape(*lead, -1), program.rows, cardinalities),
            joints=None
            if block.joints is None
            else Answers(
                block.joints.reshape(*lead, k, program.row_count), program.rows, cardinalities
            ),
            information=None
            if block.information is None
            else block.information.reshape(*lead, -1),
        )

    def _run_numba(
        self,
        number: int,
        carried: int,
        rows: EvidenceRows,
        tables: FloatArray,
        bank: Bank | None,
        want: frozenset[str],
    ) -> _Block:
        runner = self._numba_program(number, carried, self._program(number, bank))
        outcome = runner.run(rows, tables, bank, want, self.threads)
        assert outcome.target is not None
        return _Block(
            outcome.log_evidence,
            outcome.trusted,
            outcome.root,
            outcome.target,
            outcome.marginals,
            outcome.joint,
            outcome.information,
        )

    def _chunks(
        self, rows: EvidenceRows, number: int, bank: Bank | None
    ) -> Iterator[tuple[int, int, EvidenceRows, FloatArray]]:
        """Cut cases x draws into pieces that have one of the two single."""
        if bank is None or bank.draws == 1:
            tables = self.plan.packed[number] if bank is None else bank.packed(number, 0, 1)
            for start in range(0, rows.rows, self.chunk):
                stop = min(start + self.chunk, rows.rows)
                yield start, stop, rows.take(start, stop), tables
            return
        for start in range(0, bank.draws, self.chunk):
            stop = min(start + self.chunk, bank.draws)
            tables = bank.packed(number, start, stop)
            for case in range(rows.rows):
                first = case * bank.draws
                yield first + start, first + stop, rows.take(case, case + 1), tables

    def _rescue(
        self,
        block: _Block,
        number: int,
        carried: int,
        rows: EvidenceRows,
        bank: Bank | None,
        distribute: bool,
    ) -> None:
        """Run jobs that may have underflowed again in log space."""
        if block.trusted.all():
            return
        doubtful = np.flatnonzero(~block.trusted)
        if bank is None and self.plan.support is not None:
            # Most doubtful cases are simply impossible (functions of each other, say): the fast
            # pass over supports finds them.
            part = rows.pick(doubtful).support()
            supports = self.plan.support[number]
            if self.backend == "numba":
                found = self._run_numba(number, carried, part, supports, None, frozenset())
                possible = np.isfinite(found.log_evidence)
            else:
                possible = np.concatenate(
                    [
                        np.isfinite(
                            self._numpy_program(self.plan.programs[number])
                            .run(some, supports, None, carried)
                            .log_evidence
                        )
                        for _, _, some, _ in self._chunks(part, number, None)
                    ]
                )
            impossible = doubtful[~possible]
            block.log_evidence[impossible] = -np.inf
            doubtful = doubtful[possible]
        program = self._program(number, bank)
        runner = self._log.get(id(program))
        if runner is None:
            runner = LogProgram(program)
            _remember(self._log, id(program), runner)
        distribution = program.distribution(carried) if distribute else None
        draws = 1 if bank is None else bank.draws
        tables = self.plan.packed[number]
        for job in doubtful.tolist():
            case, draw = divmod(job, draws)
            if not np.isfinite(rows.log_scale[case]):
                block.log_evidence[job] = -np.inf
                continue
            part = rows.take(case, case + 1)
            if bank is not None:
                tables = bank.packed(number, draw, draw + 1)
            outcome = runner.run(part, tables, distribution, carried)
            block.fill(slice(job, job + 1), outcome, program)

    def _run_enumerated(
        self,
        rows: EvidenceRows,
        index: int,
        others: list[int],
        want: frozenset[str],
        bank: Bank | None,
    ) -> Result:
        """Run a target of several variables: all but one are set to each of their states."""
        plan = self.plan
        cardinalities = plan.network.cardinalities
        target = plan.targets[index]
        carried = plan.carried[index]
        combos = list(itertools.product(*(range(cardinalities[v]) for v in others)))
        inner: set[str] = set(want) - {"information"}
        if "information" in want:
            inner.add("joints")
        if "marginals" in want:
            inner.add("marginals")
        parts: list[Result] = []
        for combo in combos:
            part = rows
            for v, state in zip(others, combo, strict=True):
                part = part.observe(v, np.full(rows.rows, state, dtype=np.int64))
            parts.append(self._run_carried(part, index, frozenset(inner), bank))
        logs = np.stack([part.log_evidence for part in parts], axis=-1)
        top = logs.max(axis=-1, keepdims=True)
        safe = np.where(np.isfinite(top), top, 0.0)
        weight = np.exp(logs - safe)
        total = weight.sum(axis=-1, keepdims=True)
        with np.errstate(divide="ignore"):
            log_evidence = (np.log(total) + safe)[..., 0]
        weight = weight / np.where(total > 0, total, 1.0)

        def merge(blocks: list[FloatArray]) -> FloatArray:
            """Put blocks, whose axis after the leading ones is the carried target, together."""
            lead = weight.ndim - 1
            scaled = [
                block * weight[..., n].reshape(weight.shape[:-1] + (1,) * (block.ndim - lead))
                for n, block in enumerate(blocks)
            ]
            table = np.stack(scaled, axis=lead + 1)
            tail = table.shape[lead + 2 :]
            sizes = [cardinalities[v] for v in others]
            table = table.reshape(*table.shape[: lead + 1], *sizes, *tail)
            present = [carried, *others]
            moved = [lead + present.index(v) for v in target]
            rest = range(lead + len(target), table.ndim)
            table = np.transpose(table, (*range(lead), *moved, *rest))
            return np.ascontiguousarray(table).reshape(*table.shape[:lead], -1, *tail)

        lead = log_evidence.ndim
        posterior = merge([part.posterior for part in parts])
        marginals = joints = information = None
        if "marginals" in want:
            found = [part.marginals for part in parts if part.marginals is not None]
            stack = sum(one.stack * weight[..., n, None] for n, one in enumerate(found))
            marginals = Answers(np.asarray(stack), found[0].starts, cardinalities)
        if "joints" in inner:
            tables = [part.joints for part in parts if part.joints is not None]
            stack = merge([one.stack for one in tables])
            if "joints" in want:
                joints = Answers(stack, tables[0].starts, cardinalities)
            if "information" in want:
                starts = np.asarray(tables[0].starts)
                by_row = np.argsort(starts)
                flat = stack.reshape(-1, *stack.shape[lead:])
                bits = stacked_information(
                    flat, posterior.reshape(-1, posterior.shape[-1]), starts[by_row]
                )
                information = np.zeros((*log_evidence.shape, len(cardinalities)))
                information[..., by_row] = bits.reshape(*log_evidence.shape, -1)
        return Result(target, log_evidence, posterior, marginals, joints, information)
