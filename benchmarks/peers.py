"""pgmpy and pyAgrum as their best users would use them, behind one call for a whole main job."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from epidural_dx.inference import Network

#: Evidence of one case: a likelihood vector for every observed variable.
Case = Mapping[int, np.ndarray]


def hard_state(weights: np.ndarray) -> int | None:
    """Return the only possible state, or None if there are several."""
    states = np.flatnonzero(weights)
    return int(states[0]) if len(states) == 1 else None


def accepted(table: np.ndarray) -> np.ndarray:
    """Return a potential as the table of an always-accepted binary child."""
    accept = table / table.max()
    return np.stack([accept, 1 - accept], axis=-1)


class PyAgrumPeer:
    """pyAgrum with joint targets {root, variable}, declared once, and one engine for all cases.

    Parameters
    ----------
    network
        The network; potentials become always-observed children.
    root
        The variable that the joint targets share.
    method
        Name of the inference class.
    """

    def __init__(self, network: Network, root: int, method: str) -> None:
        import pyagrum as gum

        self.network, self.root = network, root
        net = gum.BayesNet()
        for v, k in enumerate(network.cardinalities):
            net.add(gum.LabelizedVariable(f"v{v}", "", k))
        self.always: dict[str, int] = {}
        for number, factor in enumerate(network.factors):
            if factor.child is not None:
                child, table = f"v{factor.child}", factor.table
                parents = [f"v{p}" for p in factor.variables[:-1]]
            else:
                child, table = f"s{number}", accepted(factor.table)
                net.add(gum.LabelizedVariable(child, "", 2))
                parents = [f"v{p}" for p in factor.variables]
                self.always[child] = 0
            for parent in parents:
                net.addArc(parent, child)
            wanted = [*parents, child]
            have = list(net.cpt(child).names)[::-1]
            net.cpt(child)[:] = np.ascontiguousarray(
                table.transpose([wanted.index(name) for name in have])
            )
        self.engine = getattr(gum, method)(net)
        self.engine.setNumberOfThreads(1)
        for v in range(network.size):
            if v != root:
                self.engine.addJointTarget({f"v{root}", f"v{v}"})
        self._first = True

    def joints(self, case: Case) -> dict[int, np.ndarray]:
        """Return P(root, variable | evidence), root first, for every variable without a state."""
        evidence: dict[str, object] = dict(self.always)
        for v, weights in case.items():
            state = hard_state(weights)
            evidence[f"v{v}"] = (weights / weights.max()).tolist() if state is None else state
        self.engine.setEvidence(evidence)
        self.engine.makeInference()
        found = {}
        root = f"v{self.root}"
        for v in range(self.network.size):
            if v == self.root or (v in case and hard_state(case[v]) is not None):
                continue
            table = self.engine.jointPosterior({root, f"v{v}"})
            array: np.ndarray = table.toarray()
            found[v] = array if list(table.names)[::-1] == [root, f"v{v}"] else array.T
        return found

    def log_evidence(self) -> float:
        """Return log P(evidence, all potentials accepted) of the last case."""
        return float(np.log(self.engine.evidenceProbability()))


class PgmpyPeer:
    """pgmpy's variable elimination: one query for every open variable.

    Parameters
    ----------
    network
        The network; potentials become always-observed children.
    root
        The variable that every query contains.
    """

    def __init__(self, network: Network, root: int) -> None:
        from pgmpy.factors.discrete import TabularCPD
        from pgmpy.inference import VariableElimination
        from pgmpy.models import DiscreteBayesianNetwork

        self.network, self.root = network, root
        self._table, self._inference = TabularCPD, VariableElimination
        model = DiscreteBayesianNetwork()
        model.add_nodes_from([f"v{v}" for v in range(network.size)])
        tables = []
        self.always: dict[str, int] = {}
        for number, factor in enumerate(network.factors):
            if factor.child is not None:
                child, table = f"v{factor.child}", factor.table
                parents = factor.variables[:-1]
            else:
                child, table = f"s{number}", accepted(factor.table)
                parents = factor.variables
                self.always[child] = 0
                model.add_node(child)
            model.add_edges_from([(f"v{p}", child) for p in parents])
            k = table.shape[-1]
            tables.append(
                TabularCPD(
                    child, k, np.moveaxis(table, -1, 0).reshape(k, -1),
                    evidence=[f"v{p}" for p in parents] or None,
                    evidence_card=[network.cardinalities[p] for p in parents] or None,
                )
            )
        model.add_cpds(*tables)
        self.model = model
        self.engine = VariableElimination(model)

    def joint(self, case: Case, v: int) -> np.ndarray:
        """Return P(root, v | evidence), root first."""
        evidence = dict(self.always)
        soft = []
        for u, weights in case.items():
            state = hard_state(weights)
            if state is not None:
                evidence[f"v{u}"] = state
            else:
                column = (weights / weights.max())[:, None]
                soft.append(self._table(f"v{u}", len(weights), column))
        # Virtual evidence stays in the engine object: a new one for every such query.
        engine = self._inference(self.model) if soft else self.engine
        answer = engine.query(
            [f"v{self.root}", f"v{v}"], evidence=evidence, virtual_evidence=soft or None,
            show_progress=False,
        )
        table: np.ndarray = answer.values
        return table if list(answer.variables)[0] == f"v{self.root}" else table.T
