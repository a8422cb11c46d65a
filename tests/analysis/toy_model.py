"""A model small enough for hand computation: two causes, three findings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from epidural_dx.clinical.aliases import Aliases
from epidural_dx.inference import Factor, Network, compile_network
from epidural_dx.model import Mechanism, Model
from epidural_dx.network.variable import Variable

#: P(cause); the mechanism is the cause itself.
PRIOR = np.array([0.3, 0.7])
#: P(fever | cause), P(rash | cause, fever), P(level | cause); states in the order of `STATES`.
FEVER = np.array([[0.2, 0.8], [0.9, 0.1]])
RASH = np.array([[[0.7, 0.3], [0.1, 0.9]], [[0.8, 0.2], [0.4, 0.6]]])
LEVEL = np.array([[0.1, 0.3, 0.6], [0.5, 0.25, 0.25]])
#: Everything is seen through a selection that this share of people pass.
SELECTED = 0.01
STATES = {
    "etiology": ("emh_x", "cyst_x"),
    "lesion_cause": ("emh", "cyst"),
    "fever": ("absent", "present"),
    "rash": ("absent", "present"),
    "level": ("low", "mid", "up"),
}


def toy_model() -> Model:
    """Build the small model as a `Model`, through the real engine and evidence reader."""
    names = list(STATES)
    at = {name: i for i, name in enumerate(names)}
    factors = (
        Factor((at["etiology"],), PRIOR, child=at["etiology"]),
        Factor((at["etiology"], at["lesion_cause"]), np.eye(2), child=at["lesion_cause"]),
        Factor((at["lesion_cause"], at["fever"]), FEVER, child=at["fever"]),
        Factor((at["lesion_cause"], at["fever"], at["rash"]), RASH, child=at["rash"]),
        Factor((at["lesion_cause"], at["level"]), LEVEL, child=at["level"]),
        Factor((at["etiology"],), np.full(2, SELECTED)),
    )
    network = Network(tuple(len(s) for s in STATES.values()), factors)
    variables = {
        name: Variable(
            name=name,
            label=name,
            states=states,
            group="target" if name in ("etiology", "lesion_cause") else "symptom",
            latent=name in ("etiology", "lesion_cause"),
        )
        for name, states in STATES.items()
    }
    compiled: Any = SimpleNamespace(
        variables=variables,
        plan=compile_network(network, at["etiology"], at["lesion_cause"]),
        mechanisms=(Mechanism("emh_x", "emh", "x"), Mechanism("cyst_x", "cyst", "x")),
        tests={},
        parents={},
        aliases=Aliases(),
        units=None,
        weakened={},
        scenario="toy",
        digest="0" * 64,
        version="0",
    )
    return Model(compiled, Path("networks"), Path("priors"), None, "numpy")
