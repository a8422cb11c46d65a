"""The labelled model: evidence with names in, answers with names out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx import __version__, store
from epidural_dx.clinical.aliases import Aliases, complete_variables, load_aliases
from epidural_dx.clinical.case import Case, Findings
from epidural_dx.clinical.evidence import Evidence, canonical_name, read_evidence
from epidural_dx.clinical.spelling import nearest
from epidural_dx.clinical.thresholds import load_thresholds
from epidural_dx.clinical.units import Units, load_units
from epidural_dx.errors import EvidenceError, ImpossibleEvidenceError, ModelError
from epidural_dx.inference import Bank, Engine, Plan, Result, compile_network
from epidural_dx.network.variable import Variable

if TYPE_CHECKING:
    import pandas as pd
    from pgmpy.models import DiscreteBayesianNetwork

    from epidural_dx.answer import Answer
    from epidural_dx.decision.plan import Plan as Plan_
    from epidural_dx.decision.stopping import Stopping
    from epidural_dx.literature.base import LiteratureBase
    from epidural_dx.network.build import Built

Array = NDArray[np.float64]
RawEvidence = Mapping[str, object]

#: Base rates where none are named; a mix of causes describes a collection of patients rather than
#: a clinic of adults, so there it is people of all ages everywhere.
DEFAULT_SCENARIO = "general_adult"
MIX_SCENARIO = "worldwide"

#: Default target of test ranking: finding the hidden driver counts.
DEFAULT_TARGET = ("etiology", "marrow_infiltration")


@dataclass(frozen=True)
class Mechanism:
    """One state of ``etiology``: which cause, driven by what."""

    name: str
    cause: str
    driver: str


@dataclass(frozen=True)
class CompiledModel:
    """Everything that answering needs, without the literature behind it; picklable."""

    variables: Mapping[str, Variable]
    plan: Plan
    mechanisms: tuple[Mechanism, ...]
    tests: Mapping[str, tuple[str, ...]]
    parents: Mapping[str, tuple[str, ...]]
    aliases: Aliases
    units: Units
    scenario: str
    digest: str
    version: str = __version__
    weakened: Mapping[str, tuple[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class QueryResult:
    """Plain arrays of the main job (:meth:`Model.query`).

    Attributes
    ----------
    etiology : ndarray, shape (mechanisms,)
    lesion_cause : ndarray, shape (16,)
    information : ndarray, shape (variables,)
        Bits about ``lesion_cause`` by position of the variable; 0 where observed.
    log_evidence : float
        Natural logarithm of P(evidence | a lesion exists).
    """

    etiology: Array
    lesion_cause: Array
    information: Array
    log_evidence: float


class Model:
    """A Bayesian network of spinal epidural lesions, ready for questions.

    Made by :func:`load_model`. Safe to share between threads.

    Attributes
    ----------
    variables : mapping of str to Variable
        All variables; those with ``latent=True`` are not observed but have posteriors.
    tests : mapping of str to tuple of str
        The findings that each test reveals.
    mechanisms : tuple of Mechanism
        The states of ``etiology`` with cause and driver.
    weakened : mapping of str to (str, float)
        Findings that something done before weakens: by what, and the share of telling results
        that is left.
    """

    def __init__(
        self,
        compiled: CompiledModel,
        networks: Path,
        priors: Path,
        cause_mix: Mapping[str, float] | None,
        backend: str,
        store_compiled: bool = True,
    ) -> None:
        self._compiled = compiled
        self.store_compiled = store_compiled
        self._networks = networks
        self._priors = priors
        self._cause_mix = cause_mix
        self.backend = backend
        self.variables = compiled.variables
        self.tests = compiled.tests
        self.mechanisms = compiled.mechanisms
        self.weakened = compiled.weakened
        self._position = {name: i for i, name in enumerate(compiled.variables)}
        self._banks: dict[tuple[int, int, bool], Bank] = {}

    def __repr__(self) -> str:
        """Name, scenario and size."""
        return (
            f"<Model {self.name} {self.version}, {self.scenario}: "
            f"{len(self.variables)} variables, {len(self.mechanisms)} mechanisms>"
        )

    # ------------------------------------------------------------- identity

    @property
    def name(self) -> str:
        """Name of the model."""
        return "epidural-dx"

    @property
    def version(self) -> str:
        """Version of the software that built it."""
        return self._compiled.version

    @property
    def digest(self) -> str:
        """SHA-256 over networks, priors and options."""
        return self._compiled.digest

    @property
    def scenario(self) -> str:
        """Name of the base rates."""
        return self._compiled.scenario

    @property
    def parents(self) -> Mapping[str, tuple[str, ...]]:
        """The parents of every variable in the network."""
        return self._compiled.parents

    @property
    def priors(self) -> Path:
        """The folder of the figures."""
        return self._priors

    @property
    def plan(self) -> Plan:
        """The compiled inference plan."""
        return self._compiled.plan

    @property
    def causes(self) -> tuple[str, ...]:
        """The 16 causes of a lesion."""
        return self.variables["lesion_cause"].states

    @cached_property
    def engine(self) -> Engine:
        """The inference engine."""
        return Engine(self._compiled.plan, self.backend)

    @cached_property
    def _log_lesion(self) -> float:
        """Logarithm of the weight of everything: what the rates leave of 1 before any evidence."""
        return float(self.engine.run({}, want=()).log_evidence[0])

    def log_probability(self, log_evidence: float) -> float:
        """Turn the engine's log evidence into log P(evidence | a lesion exists)."""
        return log_evidence - self._log_lesion

    @cached_property
    def literature(self) -> LiteratureBase:
        """The literature base behind the numbers (read on first use)."""
        from epidural_dx.literature.base import read_literature

        return read_literature(self._priors)

    @cached_property
    def built(self) -> Built:
        """Tables with the provenance of every column (built once for every state of the files)."""
        from epidural_dx.network.build import Built

        stored = f"{store.storage_key(self.digest)}-tables"
        built = store.read_stored(stored)
        if not isinstance(built, Built):
            built = _build(self._networks, self._priors, self.scenario, self._cause_mix)[0]
            if self.store_compiled:
                store.write_stored(stored, built)
        return built

    def bank(self, draws: int = 200, seed: int = 0, *, quasi_random: bool = False) -> Bank:
        """Joint draws of all parameters in the engine's order, made once per model.

        Parameters
        ----------
        draws, seed : int
        quasi_random : bool
            A Latin hypercube in place of independent draws.

        Returns
        -------
        Bank
        """
        key = (draws, seed, quasi_random)
        if key not in self._banks:
            kind = "hypercube" if quasi_random else "draws"
            stored = f"{store.storage_key(self.digest)}-{kind}-{draws}-{seed}"
            bank = store.read_stored(stored)
            if not isinstance(bank, Bank):
                bank = self._draw(draws, seed, quasi_random)
                if self.store_compiled:
                    store.write_stored(stored, bank)
            self._banks[key] = bank
        return self._banks[key]

    def _draw(self, draws: int, seed: int, quasi_random: bool) -> Bank:
        from epidural_dx.network.draws import draw_tables, factor_tables

        built = self.built
        drawn, _ = draw_tables(
            built,
            built.structure,
            self.literature,
            self._priors,
            draws,
            seed,
            quasi_random=quasi_random,
        )
        if self._cause_mix:
            factor = built.weights / self._unmixed_weights
            drawn = replace(drawn, weights=drawn.weights * factor)
        return self.engine.bank(factor_tables(drawn, self.plan.network))

    @cached_property
    def _unmixed_weights(self) -> Array:
        return _build(self._networks, self._priors, self.scenario, None)[0].weights

    def apart(self) -> Model:
        """Return this model with draws of its own, which are forgotten with it and never stored."""
        twin = copy(self)
        twin._banks = {}
        twin.store_compiled = False
        return twin

    def position(self, variable: str) -> int:
        """Position of a variable in the arrays.

        Raises
        ------
        EvidenceError
            No such variable.
        """
        try:
            return self._position[variable]
        except (KeyError, TypeError):
            raise EvidenceError(
                f"unknown variable {variable!r}",
                nearest=nearest(str(variable), self.variables),
            ) from None

    # ------------------------------------------------------------- evidence

    def read_evidence(
        self, evidence: RawEvidence | Evidence | Case | Findings, where: str | None = None
    ) -> Evidence:
        """Read findings with names, numbers and units into likelihoods.

        A :class:`~epidural_dx.clinical.case.Case` counts with all its stages, the result of
        ``case.evidence(stage)`` up to that stage.

        Raises
        ------
        EvidenceError
            Anything unknown, misspelt, implausible or contradictory.
        """
        if isinstance(evidence, Evidence):
            return evidence
        if isinstance(evidence, Case):
            where = where or evidence.where()
            evidence = evidence.evidence(canonical=self.canonical_name)
        if isinstance(evidence, Findings):
            evidence = evidence.raw
        return read_evidence(
            evidence,
            self.variables,
            units=self._compiled.units,
            aliases=self._compiled.aliases,
            where=where,
        )

    def canonical_name(self, spelled: str) -> str | None:
        """Return the variable that a spelling stands for, or None."""
        return canonical_name(spelled, self.variables, self._compiled.aliases)

    def other_names(self, name: str) -> list[str]:
        """Other names under which a value means the same as under the variable's own name."""
        return [
            spelled
            for spelled, alias in self._compiled.aliases.variables.items()
            if alias.variable == name
            and not alias.less_upper_limit
            and alias.unit in (None, self.variables[name].unit)
        ]

    def units_of(self, name: str) -> list[str]:
        """Units that numbers of a variable may have, one spelling of each, the usual one first."""
        distinct: dict[tuple[str, float, float], str] = {}
        for one in self._compiled.units.conversions(name):
            distinct.setdefault((one.unit, one.factor, one.offset), one.text)
        return list(distinct.values())

    def arrays(self, evidence: Evidence) -> dict[int, Array]:
        """Likelihood vectors by position."""
        return {
            self._position[name]: np.asarray(weights, dtype=float)
            for name, weights in evidence.likelihoods.items()
        }

    def run(
        self,
        evidence: Evidence,
        *,
        target: Sequence[str] = ("etiology",),
        want: Iterable[str] = ("marginals",),
    ) -> Result:
        """Run the engine on one patient.

        Raises
        ------
        ImpossibleEvidenceError
            The evidence has probability 0 under the model.
        """
        position = self._position
        result = self.engine.run(
            {position[name]: weights for name, weights in evidence.likelihoods.items()},
            target=tuple([position[t] for t in target]),
            want=tuple(want),
        )
        if result.log_evidence[0] == -math.inf:
            raise self._impossible(evidence)
        return result

    def _impossible(self, evidence: Evidence) -> ImpossibleEvidenceError:
        """Name a smallest set of findings that cannot stand together."""
        arrays = self.arrays(evidence)
        culprits = dict(arrays)
        for position in list(arrays):
            rest = {p: v for p, v in culprits.items() if p != position}
            if not bool(self.engine.run(rest, want=()).possible[0]):
                culprits = rest
        names = [n for n, i in self._position.items() if i in culprits]
        shown = ", ".join(
            f"{n} {evidence.entries[n].text if n in evidence.entries else ''}".strip()
            for n in names
        )
        return ImpossibleEvidenceError(
            f"these findings cannot occur together: {shown}",
            variable=names[0] if names else None,
        )

    # -------------------------------------------------------------- answers

    def query(self, evidence: RawEvidence | Evidence) -> QueryResult:
        """Do the main job as plain arrays: posterior, and information of every open finding.

        Parameters
        ----------
        evidence : mapping or Evidence

        Returns
        -------
        QueryResult

        Raises
        ------
        EvidenceError
            Evidence that cannot be read or is impossible.
        """
        read = self.read_evidence(evidence)
        result = self.run(read, target=("lesion_cause",), want=("marginals", "information"))
        assert result.marginals is not None and result.information is not None
        return QueryResult(
            etiology=result.marginals[self._position["etiology"]][0],
            lesion_cause=result.posterior[0],
            information=result.information[0],
            log_evidence=self.log_probability(float(result.log_evidence[0])),
        )

    def diagnose(self, evidence: RawEvidence | Evidence, *, where: str | None = None) -> Answer:
        """Posterior of every cause, mechanism and condition.

        Parameters
        ----------
        evidence : mapping
            Findings by name (see the README for every accepted form); ``{}`` gives the base rates.
        where : str, optional
            Where the evidence came from, for errors.

        Returns
        -------
        Answer

        Raises
        ------
        EvidenceError
            Evidence that cannot be read or is impossible.
        """
        from epidural_dx.answer import answer_from

        read = self.read_evidence(evidence, where)
        result = self.run(read, want=("marginals",))
        return answer_from(self, read, result)

    @cached_property
    def base_marginals(self) -> dict[str, Array]:
        """Marginals of every variable before any evidence."""
        marginals = self.engine.run({}, want=("marginals",)).marginals
        assert marginals is not None
        base = {n: marginals[i][0] for n, i in self._position.items()}
        for array in base.values():
            array.setflags(write=False)
        return base

    def rank_tests(
        self,
        evidence: RawEvidence | Evidence,
        target: str | Sequence[str] = DEFAULT_TARGET,
        by: str = "information",
        *,
        exclude: Iterable[str] = (),
        max_hours: float | None = None,
        hours_since_onset: float | None = None,
    ) -> pd.DataFrame:
        """Rank the tests that are still worth something, best first.

        Parameters
        ----------
        evidence : mapping or Evidence
        target : str or sequence of str
            What the information is about: ``lesion_cause``, ``etiology``, any variable, or several
            (their joint distribution).
        by : {"information", "information_per_cost", "information_per_hour", "value"}
            Order of the rows: bits, bits per 100 USD-equivalent of price, delay and harm, bits per
            hour, or the expected value of the result net of what the test costs the patient.
        exclude : iterable of str
            Tests to leave out.
        max_hours : float, optional
            Leave out tests whose result comes later.
        hours_since_onset : float, optional
            Time already lost, for the value.

        Returns
        -------
        pandas.DataFrame
            Columns test, information_bits, cost_usd, turnaround_hours, harm, value, allowed,
            reason, and more (see ``decision.ranking``).

        Raises
        ------
        EvidenceError
            Bad evidence or an unknown target.
        """
        import pandas as pd

        from epidural_dx.decision.ranking import rank_tests

        ranked = rank_tests(
            self,
            evidence,
            target,
            by,
            exclude=exclude,
            max_hours=max_hours,
            hours_since_onset=hours_since_onset,
        )
        return pd.DataFrame([r.as_row() for r in ranked])

    def plan_tests(
        self,
        evidence: RawEvidence | Evidence,
        *,
        by: str = "value",
        max_hours: float | None = None,
        exclude: Iterable[str] = (),
        hours_since_onset: float | None = None,
    ) -> Plan_:
        """Say what to order now and what then for each likely result, two steps ahead.

        Parameters
        ----------
        evidence : mapping or Evidence
        by : {"value", "information"}
        max_hours : float, optional
            Leave out tests whose result takes longer.
        exclude : iterable of str
            Tests to leave out.
        hours_since_onset : float, optional
            Time already lost.

        Returns
        -------
        epidural_dx.decision.plan.Plan
            With ``as_text()`` and ``as_dict()``.

        Raises
        ------
        EvidenceError
            Bad evidence or option.
        """
        from epidural_dx.decision.plan import plan_tests

        return plan_tests(
            self,
            evidence,
            by=by,
            max_hours=max_hours,
            exclude=exclude,
            hours_since_onset=hours_since_onset,
        )

    def same_decision_probability(
        self,
        evidence: RawEvidence | Evidence,
        tests: Iterable[str] | None = None,
        *,
        decision: str = "action",
        exclude: Iterable[str] = (),
        max_hours: float | None = None,
        hours_since_onset: float | None = None,
    ) -> Stopping:
        """Return the chance that today's decision stays after some tests, and whether to stop.

        Parameters
        ----------
        evidence : mapping or Evidence
        tests : iterable of str, optional
            The tests whose results are unseen; by default all that may be ordered.
        decision : {"action", "cause"}
            Whether the best actions or the leading cause must stay.
        exclude : iterable of str
            Tests to leave out.
        max_hours : float, optional
            Leave out tests whose result comes later.
        hours_since_onset : float, optional
            Time already lost.

        Returns
        -------
        epidural_dx.decision.stopping.Stopping
            With ``sentence`` and ``as_dict()``.

        Raises
        ------
        EvidenceError
            Bad evidence, an unknown decision or test, a negative time.
        """
        from epidural_dx.decision.stopping import same_decision_probability

        return same_decision_probability(
            self,
            evidence,
            tests,
            decision=decision,
            exclude=exclude,
            max_hours=max_hours,
            hours_since_onset=hours_since_onset,
        )

    def diagnose_batch(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Posterior of the causes and of etiology for many patients.

        Parameters
        ----------
        frame : pandas.DataFrame
            One row per patient, one column per finding; missing cells are unknown.

        Returns
        -------
        pandas.DataFrame
            Same index; columns ``cause.<cause>``, ``etiology.<mechanism>``, ``log_evidence``.

        Raises
        ------
        EvidenceError
            A cell that cannot be read, naming the row.
        """
        import pandas as pd

        if not hasattr(frame, "iterrows"):
            kind = type(frame).__name__
            raise EvidenceError(f"a batch is a pandas DataFrame, one row per patient, not a {kind}")
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise EvidenceError("the column stands twice", variable=str(twice[0]))
        rows = []
        for index, row in frame.iterrows():
            findings = {
                str(k): v
                for k, v in row.items()
                if not (v is None or (isinstance(v, float) and math.isnan(v)) or v is pd.NA)
            }
            rows.append(self.read_evidence(findings, where=f"row {index}"))
        arrays: dict[int, Array] = {}
        for i, read in enumerate(rows):
            for position, weights in self.arrays(read).items():
                if position not in arrays:
                    arrays[position] = np.ones((len(rows), len(weights)))
                arrays[position][i] = weights
        mechanisms = [m.name for m in self.mechanisms]
        columns = [f"cause.{c}" for c in self.causes] + [f"etiology.{m}" for m in mechanisms]
        if not rows:
            return pd.DataFrame(columns=[*columns, "log_evidence"])
        if not arrays:
            arrays = {0: np.ones((len(rows), len(next(iter(self.variables.values())).states)))}
        result = self.engine.run(
            arrays,
            target=(self._position["etiology"],),
            want=(),
        )
        dead = np.flatnonzero(~result.possible)
        if len(dead):
            error = self._impossible(rows[int(dead[0])])
            raise error.located(f"row {frame.index[int(dead[0])]}")
        cause_of = np.array([self.causes.index(m.cause) for m in self.mechanisms])
        causes = np.zeros((len(rows), len(self.causes)))
        np.add.at(causes.T, cause_of, result.posterior.T)
        log_evidence = result.log_evidence - self._log_lesion
        table = np.column_stack([causes, result.posterior, log_evidence])
        return pd.DataFrame(table, index=frame.index, columns=[*columns, "log_evidence"])

    def to_pgmpy(self, form: str = "selection") -> DiscreteBayesianNetwork:
        """Make the network for pgmpy.

        Parameters
        ----------
        form : {"selection", "absorbed"}
            With ``selection``, queries must carry :attr:`selection_evidence`.

        Returns
        -------
        pgmpy.models.DiscreteBayesianNetwork
        """
        from epidural_dx.network.export import to_pgmpy

        return to_pgmpy(self.built, form)

    @property
    def selection_evidence(self) -> dict[str, str]:
        """Evidence that queries on the selection form must carry."""
        return {f"select_{v}": "present" for v in self.built.selection}

    def explain(self, evidence: RawEvidence | Evidence) -> pd.DataFrame:
        """Weights of evidence of every finding for the leading cause against all others.

        Each finding's weight is the exact change of the log odds when it alone is taken away
        (leave one out), in decibans (ten times the decimal logarithm; Good, Probability and the
        Weighing of Evidence, 1950).

        Returns
        -------
        pandas.DataFrame
            Columns finding, text, decibans, probability_without, sorted by absolute weight.
        """
        import pandas as pd

        from epidural_dx.analysis.explanation import leave_one_out

        return pd.DataFrame(leave_one_out(self, self.read_evidence(evidence)))


def _build(
    networks: Path, priors: Path, scenario: str, cause_mix: Mapping[str, float] | None
) -> tuple[Built, Mapping[str, Any]]:
    """Build tables from files; with a cause mix, rescale the mechanisms."""
    from epidural_dx.literature.base import read_literature
    from epidural_dx.network.assembly import network
    from epidural_dx.network.build import build, check_cause_mix, with_cause_mix
    from epidural_dx.network.structure import read_structure

    structure = read_structure(networks)
    if cause_mix:
        check_cause_mix(structure, cause_mix)
    built = build(structure, read_literature(priors), priors, scenario)
    if cause_mix:
        arrays, names = network(built)
        cause = names.index("lesion_cause")
        plan = compile_network(arrays, cause, tries=1)
        marginal = Engine(plan, "numpy").run({}, want=()).posterior[0]
        prior = dict(zip(structure.nodes["lesion_cause"].states, marginal, strict=True))
        built = with_cause_mix(built, cause_mix, prior)
    return built, structure.nodes


def _compile(
    networks: Path,
    priors: Path,
    scenario: str,
    cause_mix: Mapping[str, float] | None,
    key: str,
) -> CompiledModel:
    from epidural_dx.network.assembly import network

    built, nodes = _build(networks, priors, scenario, cause_mix)
    variables = {
        n.name: Variable(
            name=n.name,
            label=n.label,
            states=n.states,
            group=n.group,
            kind=str(n.table["method"]),
            unit=n.unit,
            latent=n.group in ("latent", "target"),
        )
        for n in nodes.values()
    }
    aliases_file = networks / "aliases.yaml"
    thresholds_file = priors / "thresholds.csv"
    aliases = load_aliases(aliases_file)
    complete = complete_variables(
        variables,
        load_thresholds(thresholds_file),
        aliases,
        thresholds_file=thresholds_file,
        aliases_file=aliases_file,
    )
    arrays, names = network(built)
    at = {n: i for i, n in enumerate(names)}
    plan = compile_network(
        arrays,
        at["etiology"],
        at["lesion_cause"],
        (at["etiology"], at["marrow_infiltration"]),
        usually_observed=(at["age_group"], at["sex"]),
    )
    return CompiledModel(
        variables=complete,
        plan=plan,
        mechanisms=tuple(
            Mechanism(m.name, m.cause, m.driver) for m in built.structure.mechanisms.values()
        ),
        tests=dict(built.structure.tests),
        parents={n.name: n.parents for n in nodes.values()},
        aliases=aliases,
        units=load_units(priors / "units.csv"),
        scenario=scenario,
        digest=key,
        weakened={
            n.name: (
                n.table["weakened"]["by"],
                float(built.columns[(n.name, n.parents[-1], "present", "kept")].mean[0]),
            )
            for n in nodes.values()
            if "weakened" in n.table
        },
    )


def load_model(
    networks: str | PathLike[str] | None = None,
    priors: str | PathLike[str] | None = None,
    scenario: str | None = None,
    cause_mix: Mapping[str, float] | None = None,
    *,
    backend: str = "auto",
    store_compiled: bool = True,
) -> Model:
    """Load the packaged model, or one from your own files.

    Parameters
    ----------
    networks, priors : path-like, optional
        Folders of structure and figures; by default the packaged ones.
    scenario : str, optional
        Base rates (``priors/scenarios.yaml``): general_adult (the default), child,
        high_tuberculosis, high_thalassemia, cancer_center, all_ages, worldwide (the default
        with a mix).
    cause_mix : mapping of str to float, optional
        Wanted shares (or counts) of the causes before any evidence; what is left out is rare.
        Ages, conditions and drivers within each cause stay those of the scenario.
    backend : {"auto", "numpy", "numba"}
        ``auto`` takes numba when it is installed.
    store_compiled : bool
        Keep the compiled model and its draws in the user's cache. A server that takes any cause
        mix from its clients must not fill the disk.

    Returns
    -------
    Model
        Compiled once per state of the files and then read from the user's cache.

    Raises
    ------
    ModelError
        A network or prior file with an error: one sentence with file, line and name.
    """
    for name, folder in (("networks", networks), ("priors", priors)):
        if not isinstance(folder, str | PathLike | None):
            raise ModelError(f"the {name} folder must be a path, got {folder!r}")
    network_folder = store.data_folder("networks", networks)
    prior_folder = store.data_folder("priors", priors)
    if not isinstance(cause_mix, Mapping | None):
        raise ModelError(f"the cause mix must map causes to numbers, got {cause_mix!r}")
    mix = dict(cause_mix) if cause_mix else None
    if not isinstance(scenario, str | None):
        raise ModelError(f"a scenario is a name, got {scenario!r}")
    if scenario is None:
        scenario = MIX_SCENARIO if mix else DEFAULT_SCENARIO
    try:
        mix_text = json.dumps(mix, sort_keys=True)
    except (TypeError, ValueError):
        raise ModelError(f"the cause mix must map causes to numbers, got {cause_mix!r}") from None
    key = store.digest(network_folder, prior_folder, scenario, mix_text)
    stored = store.storage_key(key)
    compiled = store.read_stored(stored)
    if not isinstance(compiled, CompiledModel):
        compiled = _compile(network_folder, prior_folder, scenario, mix, key)
        if store_compiled:
            store.write_stored(stored, compiled)
    return Model(compiled, network_folder, prior_folder, mix, backend, store_compiled)
