"""A synthetic network of the shape of the epidural one: about 110 variables, seeded.

A root with 46 states (the mechanism) and one selection potential for each competing condition; a
nearly deterministic 22-state lesion subtype with about 40 findings; blood conditions that act
through marrow disease and a dominance chain on hemostasis, with about 25 laboratory findings; a
score that is a function of four of them. The numbers mean nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epidural_dx.inference import Factor, Network


@dataclass(frozen=True)
class SyntheticNetwork:
    """A network with the variables that benchmarks and tests talk about.

    Parameters
    ----------
    network
        The factors.
    names
        Variable numbers by name.
    findings
        Variables that a case may observe.
    """

    network: Network
    names: dict[str, int]
    findings: tuple[int, ...]


class _Builder:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.names: dict[str, int] = {}
        self.cardinalities: list[int] = []
        self.factors: list[Factor] = []

    def variable(self, name: str, states: int) -> int:
        self.names[name] = len(self.cardinalities)
        self.cardinalities.append(states)
        return self.names[name]

    def child(self, name: str, states: int, *parents: str, sharpness: float = 0.5) -> int:
        """Add a child with a random table without zeros."""
        v = self.variable(name, states)
        above = tuple(self.names[p] for p in parents)
        shape = [self.cardinalities[p] for p in above]
        table = self.rng.gamma(sharpness, size=(*shape, states)) + 0.01
        table /= table.sum(axis=-1, keepdims=True)
        self.factors.append(Factor((*above, v), table, v))
        return v

    def function(self, name: str, states: int, *parents: str, noise: float = 0.0) -> int:
        """Add a child that is a random function of its parents, with `noise` spread evenly."""
        v = self.variable(name, states)
        above = tuple(self.names[p] for p in parents)
        shape = [self.cardinalities[p] for p in above]
        chosen = self.rng.integers(states, size=shape)
        if len(parents) == 1:
            chosen = np.sort(np.concatenate(
                [np.arange(states), self.rng.integers(states, size=max(0, shape[0] - states))]
            ))[: shape[0]]
        table = np.eye(states)[chosen] * (1 - noise) + noise / states
        self.factors.append(Factor((*above, v), table, v))
        return v

    def dominance(self, name: str, states: int, above: str, trigger: str, level: int) -> int:
        """Add a link of a dominance chain: `trigger` present sets state `level` unless above."""
        v = self.variable(name, states)
        a, t = self.names[above], self.names[trigger]
        k, m = self.cardinalities[a], self.cardinalities[t]
        table = np.zeros((k, m, states))
        for i in range(k):
            for j in range(m):
                state = min(i, states - 1)
                if state == 0 and j > 0:
                    state = level
                table[i, j, state] = 1.0
        self.factors.append(Factor((a, t, v), table, v))
        return v

    def noisy_or(self, name: str, *parents: str) -> int:
        """Add a binary noisy-OR child of binary or multi-valued parents."""
        v = self.variable(name, 2)
        above = tuple(self.names[p] for p in parents)
        shape = [self.cardinalities[p] for p in above]
        absent = np.full(shape, 0.95)
        for i, k in enumerate(shape):
            strength = np.concatenate([[1.0], self.rng.uniform(0.2, 0.9, size=k - 1)])
            absent = absent * strength.reshape([-1 if j == i else 1 for j in range(len(shape))])
        self.factors.append(Factor((*above, v), np.stack([absent, 1 - absent], axis=-1), v))
        return v

    def selection(self, condition: str) -> None:
        """Add the potential of an always-true selection node on (etiology, condition)."""
        e, c = self.names["etiology"], self.names[condition]
        shape = (self.cardinalities[e], self.cardinalities[c])
        table = np.ones(shape)
        some = self.rng.random(shape[0]) < 0.4
        table[some] = self.rng.uniform(0.001, 1.0, size=(int(some.sum()), shape[1])) ** 2
        self.factors.append(Factor((e, c), table, None))


def build(seed: int = 0) -> SyntheticNetwork:
    """Build the network.

    Parameters
    ----------
    seed
        Seed of the tables; the structure is always the same.

    Returns
    -------
    SyntheticNetwork
    """
    b = _Builder(seed)
    rng = b.rng
    b.child("etiology", 46)
    b.child("age_group", 4)
    b.child("sex", 2)
    # Root conditions and their selection potentials.
    b.child("blood_disorder", 14, "age_group")
    b.child("solid_tumor", 9, "age_group", "sex")
    b.child("metastatic", 2, "solid_tumor")
    b.child("melanoma_status", 3, "age_group")
    b.child("carcinoma_in_marrow", 2, "metastatic")
    b.child("melanoma_in_marrow", 2, "melanoma_status")
    b.child("systemic_infection", 2, "age_group")
    b.child("liver_failure", 2, "age_group")
    b.child("hereditary_bleeding", 2, "sex")
    for name in ("age_group", "sex", "blood_disorder", "solid_tumor", "metastatic",
                 "melanoma_status", "systemic_infection", "liver_failure", "hereditary_bleeding"):
        b.selection(name)
    exposures = [
        "anticoagulant_use", "antiplatelet_use", "procedure", "trauma", "steroid", "diabetes",
        "drug_injection", "immunosuppression", "tuberculosis_exposure", "dialysis", "pregnancy",
        "anesthesia",
    ]
    for name in exposures:
        b.child(name, 2, "age_group")
        b.selection(name)
    b.function("marrow_disease", 17, "blood_disorder", "carcinoma_in_marrow",
               "melanoma_in_marrow", noise=0.0)
    b.function("marrow_infiltration", 5, "marrow_disease")
    # Hemostasis: a dominance chain.
    b.child("dic", 2, "marrow_disease", "systemic_infection")
    b.child("marrow_output", 3, "marrow_disease")
    b.dominance("hemostasis_1", 3, "dic", "liver_failure", 2)
    b.dominance("hemostasis_2", 4, "hemostasis_1", "marrow_output", 3)
    b.dominance("hemostasis_3", 5, "hemostasis_2", "hereditary_bleeding", 4)
    b.dominance("hemostasis_4", 6, "hemostasis_3", "anticoagulant_use", 5)
    b.dominance("hemostasis", 7, "hemostasis_4", "antiplatelet_use", 6)
    # The lesion and what hangs on it.
    v = b.variable("lesion_subtype", 22)
    subtype = np.sort(np.concatenate([np.arange(22), rng.integers(22, size=24)]))
    table = np.eye(22)[subtype]
    for e in rng.choice(46, size=11, replace=False):
        table[e, rng.integers(22)] += 0.3
    table /= table.sum(axis=1, keepdims=True)
    b.factors.append(Factor((b.names["etiology"], v), table, v))
    b.function("lesion_cause", 16, "etiology")
    b.child("severity", 3, "lesion_subtype")
    b.child("inflammation", 3, "etiology", "systemic_infection")
    states = [2] * 15 + [3] * 10 + [4] * 4 + [5] * 2 + [11]
    for i, k in enumerate(states):
        b.child(f"lesion_finding_{i}", k, "lesion_subtype")
    for i in range(5):
        b.child(f"symptom_{i}", 2 + i % 2, "lesion_subtype", "severity")
    for i in range(4):
        b.child(f"inflammation_finding_{i}", 3, "inflammation")
    b.noisy_or("fever", "inflammation", "systemic_infection", "tuberculosis_exposure")
    b.noisy_or("weight_loss", "metastatic", "systemic_infection", "tuberculosis_exposure")
    b.child("tissue_stain", 4, "lesion_subtype", "marrow_infiltration")
    b.child("known_blood_disorder", 2, "blood_disorder")
    b.child("known_tumor", 2, "solid_tumor")
    # Laboratory findings.
    for i in range(10):
        b.child(f"marrow_lab_{i}", 2 + i % 3, "marrow_disease")
    for name, k, parents in (
        ("platelets", 5, ("hemostasis", "marrow_output")), ("d_dimer", 4, ("hemostasis",)),
        ("inr", 3, ("hemostasis",)), ("fibrinogen", 3, ("hemostasis",)),
        ("aptt", 3, ("hemostasis",)), ("hemoglobin", 4, ("marrow_disease",)),
        ("white_cells", 4, ("marrow_output", "inflammation")),
        ("splenomegaly", 2, ("blood_disorder",)), ("ldh", 3, ("marrow_disease",)),
        ("blasts", 2, ("marrow_disease",)), ("bilirubin", 2, ("liver_failure",)),
        ("albumin", 2, ("liver_failure", "inflammation")),
    ):
        b.child(name, k, *parents)
    b.function("isth_score", 2, "platelets", "d_dimer", "inr", "fibrinogen")
    network = Network(tuple(b.cardinalities), tuple(b.factors))
    hidden = {"etiology", "lesion_cause", "lesion_subtype", "marrow_disease", "hemostasis_1",
              "hemostasis_2", "hemostasis_3", "hemostasis_4", "hemostasis", "inflammation",
              "severity", "marrow_output", "dic", "marrow_infiltration", "carcinoma_in_marrow",
              "melanoma_in_marrow", "blood_disorder", "solid_tumor", "metastatic"}
    findings = tuple(v for name, v in b.names.items() if name not in hidden)
    return SyntheticNetwork(network, b.names, findings)


def random_case(
    synthetic: SyntheticNetwork, rng: np.random.Generator, count: int
) -> dict[int, int]:
    """Draw a possible case: a forward sample, of which age, sex and `count` findings are seen.

    Parameters
    ----------
    synthetic
        The network.
    rng
        Source of randomness.
    count
        Number of findings besides age and sex.

    Returns
    -------
    dict
        State of every observed variable.
    """
    network = synthetic.network
    state: dict[int, int] = {}
    for factor in network.factors:
        if factor.child is not None:
            column = factor.table[tuple(state[p] for p in factor.variables[:-1])]
            cumulative = np.cumsum(column)
            state[factor.child] = int(
                min(np.searchsorted(cumulative, rng.random()), len(column) - 1)
            )
    always = (synthetic.names["age_group"], synthetic.names["sex"])
    others = [v for v in synthetic.findings if v not in always]
    seen = [*always, *(int(v) for v in rng.choice(others, size=count, replace=False))]
    return {v: state[v] for v in seen}
