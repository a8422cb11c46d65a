r"""Through which conditions a finding acts on the cause.

Carried share. A finding :math:`i`, added to findings :math:`S`, changes the log odds :math:`v` of a
cause by :math:`v(S \cup i) - v(S)`. Let only the probabilities of a condition :math:`C` take their
new values, everything given :math:`C` staying as it was (Jeffrey's rule; Jeffrey, The Logic of
Decision, 1965):

.. math:: P_C(h) = \sum_c P(h \mid c, S)\, P(c \mid S, i).

Its log odds less :math:`v(S)` is the part of the change that :math:`C` carries: all of it where
:math:`C` separates the finding from the cause, none where the finding says nothing about
:math:`C`. Both are averaged over the same orders of the findings, so a finding that repeats others
(platelets beside D-dimer) still shows its way. Shares of conditions in one chain overlap and do
not sum to 1.

A condition can carry only if it lies on a path between the finding and the lesion: the moral graph
of the ancestors of what is observed and of the selection by a lesion holds two disjoint ways from
the condition, to the finding and to the lesion (Lauritzen, Graphical Models, 1996).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from epidural_dx.analysis.explanation import (
    DECIBANS,
    NOTHING,
    cause_position,
    log_odds,
    subset_batch,
)
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    import networkx as nx

    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model, RawEvidence

Array = NDArray[np.float64]

#: Conditions that can carry a finding, from the lesion's own process to the remote disease. Those
#: that are functions of one of these are left out.
MEDIATORS = (
    "inflammation",
    "systemic_infection",
    "hemostasis",
    "marrow_disease",
    "melanoma_primary_site",
    "melanoma_stage",
    "metastatic_cancer",
    "solid_tumor",
    "significant_injury",
    "canal_procedure",
    "steroid_exposure",
    "vascular_malformation_present",
)
#: The lesion itself: the cause and what is a part of it.
LESION = ("etiology", "lesion_cause", "lesion_subtype", "hematoma_phase", "emh_activity")
#: Smallest carried share that makes a condition a step of a path.
CARRIES = 0.5
#: Conditions whose own reasons are told: the chain that leads to the lesion, its start first.
REASONED = ("melanoma_stage", "marrow_disease", "hemostasis", "systemic_infection")
#: A state of these needs at least this probability, and must have gained this much.
LIKELY, GAINED = 0.2, 0.1
#: Smallest mean change, in decibans, of which it makes sense to ask who carries it.
CHANGE = 0.3


@dataclass(frozen=True)
class Step:
    """One condition on the way from a finding to the cause.

    Attributes
    ----------
    condition : str
    state : str
        Of the states that gain at least a fifth as much as the one that gains most, the
        likeliest in the end.
    gain : float
        Mean change of its probability.
    probability : float
        Its probability given everything.
    share : float
        Share of the finding's change of the log odds that the condition carries.
    """

    condition: str
    state: str
    gain: float
    probability: float
    share: float


@dataclass(frozen=True)
class Reasons:
    """What made a state of a condition likely.

    Attributes
    ----------
    condition, state : str
    before, probability : float
        Before any finding, and given all of them.
    findings : tuple of (str, float)
        Mean change of the log odds of the state, in decibans, by finding; largest first. The
        changes sum to that from ``before`` to ``probability``.
    direct : frozenset of str
        Findings that bear on the condition other than through the lesion alone.
    """

    condition: str
    state: str
    before: float
    probability: float
    findings: tuple[tuple[str, float], ...]
    direct: frozenset[str]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "condition": self.condition,
            "state": self.state,
            "before": self.before,
            "probability": self.probability,
            "findings": [
                {"finding": name, "decibans": value, "direct": name in self.direct}
                for name, value in self.findings
            ],
        }


@dataclass(frozen=True)
class Path:
    """The way of one finding to the cause.

    Attributes
    ----------
    finding : str
    decibans : float
        Mean change of the log odds over the sampled orders.
    steps : tuple of Step
        From the finding to the lesion; empty where it acts on the lesion directly, or where no
        condition carries :data:`CARRIES` of it.
    """

    finding: str
    decibans: float
    steps: tuple[Step, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "finding": self.finding,
            "decibans": self.decibans,
            "steps": [
                {
                    "condition": s.condition,
                    "state": s.state,
                    "gain": s.gain,
                    "probability": s.probability,
                    "share": s.share,
                }
                for s in self.steps
            ],
        }


def paths(
    model: Model,
    evidence: Evidence | RawEvidence,
    cause: str | None = None,
    against: str | None = None,
    *,
    mediators: Sequence[str] = MEDIATORS,
    orders: int = 6,
    seed: int = 1,
) -> tuple[list[Path], list[Reasons]]:
    """Find the way of every finding to the cause, and what made the conditions likely.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    cause : str, optional
        By default the leading one.
    against : str, optional
        By default all other causes together.
    mediators : sequence of str
        Conditions that are asked about; those that are observed or unknown to the model are
        passed over.
    orders, seed : int
        Sampled orders of the findings, each taken forwards and backwards.

    Returns
    -------
    paths : list of Path
        One for every informative finding, largest change first.
    reasons : list of Reasons
        For the likeliest telling state of every unobserved condition of :data:`REASONED` that is
        likely, and likelier than before.

    Raises
    ------
    EvidenceError
        Bad or impossible evidence, or an unknown cause.
    """
    read = model.read_evidence(evidence)
    names = read.informative
    n = len(names)
    model.run(read, want=())  # names the findings if they are impossible
    if not n:
        return [], []
    hidden = [m for m in mediators if m in model.variables and m not in read.likelihoods]
    generator = np.random.default_rng(seed)
    ways: list[NDArray[np.int64]] = []
    for _ in range(max(1, (orders + 1) // 2)):
        order = generator.permutation(n)
        ways += [order, order[::-1]]
    kept = np.zeros((len(ways), n + 1, n), dtype=np.bool_)
    for row, way in enumerate(ways):
        for place, finding in enumerate(way):
            kept[row, place + 1 :, finding] = True
    result = model.engine.run(
        subset_batch(model, read, names, kept.reshape(-1, n)),
        target=(model.position("lesion_cause"),),
        want=("joints",),
    )
    if not result.possible.all():
        raise EvidenceError("some of the findings cannot occur together")
    posterior = result.posterior.reshape(len(ways), n + 1, -1)
    first = [int(posterior[0, -1].argmax()) if cause is None else cause_position(model, cause)]
    second = None if against is None else [cause_position(model, against)]

    def odds(p: Array) -> Array:
        flat = p.reshape(-1, p.shape[-1])
        return np.asarray(DECIBANS * log_odds(flat, first, second)).reshape(p.shape[:-1])

    values = odds(posterior)
    change = np.zeros((len(ways), n))
    for row, way in enumerate(ways):
        change[row, way] = np.diff(values[row])
    graph = _moral_graph(model, read)
    carried: dict[str, Array] = {}
    moved: dict[str, Array] = {}
    final: dict[str, Array] = {}
    reasons = []
    assert result.joints is not None
    for name in hidden:
        joint = result.joints[model.position(name)].reshape(
            len(ways), n + 1, posterior.shape[-1], -1
        )
        marginal = joint.sum(axis=2)
        final[name] = marginal[0, -1]
        given = joint / np.maximum(marginal[:, :, None, :], 1e-300)
        carried[name] = np.zeros((len(ways), n))
        moved[name] = np.zeros((n, marginal.shape[-1]))
        for row, way in enumerate(ways):
            # conditions as they are after the finding, the rest as it was before
            mixed = np.einsum("shc,sc->sh", given[row, :-1], marginal[row, 1:])
            carried[name][row, way] = odds(mixed) - values[row, :-1]
            moved[name][way] += (marginal[row, 1:] - marginal[row, :-1]) / len(ways)
        if name in REASONED:
            direct = frozenset(f for f in names if conditions_between(graph, f, [name]))
            reasons += _reasons(model, name, names, ways, marginal, direct)
    found = []
    for i, name in enumerate(names):
        mean = float(change[:, i].mean())
        steps = []
        if abs(mean) >= CHANGE:
            between = conditions_between(graph, name, hidden)
            for condition in between:
                share = float(carried[condition][:, i].mean()) / mean
                if share >= CARRIES:
                    gain = moved[condition][i]
                    state = int(np.where(5 * gain >= gain.max(), final[condition], -1.0).argmax())
                    steps.append(
                        Step(
                            condition=condition,
                            state=model.variables[condition].states[state],
                            gain=float(moved[condition][i, state]),
                            probability=float(final[condition][state]),
                            share=share,
                        )
                    )
        found.append(Path(finding=name, decibans=mean, steps=tuple(steps)))
    reasons.sort(key=lambda r: REASONED.index(r.condition))
    return sorted(found, key=lambda path: -abs(path.decibans)), reasons


def _reasons(
    model: Model,
    condition: str,
    names: Sequence[str],
    ways: Sequence[NDArray[np.int64]],
    marginal: Array,
    direct: frozenset[str],
) -> list[Reasons]:
    """Reasons of the likeliest telling state of one condition; none where nothing is told.

    ``marginal`` has the shape (orders, findings + 1, states).
    """
    states = model.variables[condition].states
    telling = [i for i, s in enumerate(states) if s not in NOTHING]
    state = max(telling, key=lambda i: float(marginal[0, -1, i]))
    before, now = (float(marginal[0, place, state]) for place in (0, -1))
    if now < LIKELY or now - before < GAINED:
        return []
    tiny = np.finfo(float).tiny
    p = marginal[:, :, state]
    rest = marginal.sum(axis=-1) - p
    odds = DECIBANS * (np.log(np.maximum(p, tiny)) - np.log(np.maximum(rest, tiny)))
    change = np.zeros(len(names))
    for row, way in enumerate(ways):
        change[way] += np.diff(odds[row]) / len(ways)
    order = np.argsort(-np.abs(change), kind="stable")
    found = tuple((names[i], float(change[i])) for i in order)
    return [Reasons(condition, states[state], before, now, found, direct)]


def conditions_between(
    graph: nx.Graph[str], finding: str, conditions: Sequence[str]
) -> list[str]:
    """Conditions that lie on a path from the finding to the lesion, nearest the finding first.

    Parameters
    ----------
    graph : networkx.Graph
        The moral graph, the lesion as one node called ``lesion``.
    finding : str
    conditions : sequence of str
        Who may lie between.
    """
    import networkx as nx

    if finding not in graph:
        return []
    if not nx.has_path(graph, finding, "lesion"):
        return []
    # a simple path through v exists where v shares a block with the edge finding - lesion
    closed = graph.copy()
    closed.add_edge(finding, "lesion")
    blocks: list[Any] = list(nx.biconnected_components(closed))
    block = next(b for b in blocks if finding in b and "lesion" in b)
    distance = nx.single_source_shortest_path_length(graph, finding)
    between = [c for c in conditions if c in block and c in distance]
    return sorted(between, key=lambda c: (distance[c], conditions.index(c)))


def _moral_graph(model: Model, evidence: Evidence) -> nx.Graph[str]:
    """Moral graph of the ancestors of the findings and of the selection, the lesion as one node."""
    import networkx as nx

    names = list(model.variables)
    factors = model.plan.network.factors
    parents = {f.child: f.variables for f in factors if f.child is not None}
    wanted = [model.position(name) for name in evidence.likelihoods]
    selections = [f.variables for f in factors if f.child is None]
    wanted += [axis for axes in selections for axis in axes]
    relevant: set[int] = set()
    while wanted:
        one = wanted.pop()
        if one not in relevant:
            relevant.add(one)
            wanted += [axis for axis in parents.get(one, ()) if axis != one]
    graph: nx.Graph[str] = nx.Graph()
    graph.add_node("lesion")

    def node(axis: int) -> str:
        return "lesion" if names[axis] in LESION else names[axis]

    for axes in [*selections, *(parents[one] for one in sorted(relevant) if one in parents)]:
        for a, b in _pairs([node(axis) for axis in axes]):
            graph.add_edge(a, b)
    return graph


def _pairs(nodes: Sequence[str]) -> Iterator[tuple[str, str]]:
    for i, a in enumerate(nodes):
        for b in nodes[i + 1 :]:
            if a != b:
                yield a, b
