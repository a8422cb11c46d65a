"""Random patients for the laws: findings that a patient may have, hard and uncertain."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

import epidural_dx as edx

#: What a bedside shows; functions of other findings are left out, they could contradict them.
GROUPS = ("patient", "history", "symptom", "examination", "laboratory", "imaging", "tissue")
LEFT_OUT = {"dic_isth_score"}


def observable(model: edx.Model) -> list[str]:
    """List the variables that random patients are made of."""
    return [
        n
        for n, v in model.variables.items()
        if v.group in GROUPS and not v.latent and n not in LEFT_OUT
    ]


def findings(model: edx.Model, most: int = 7) -> st.SearchStrategy[dict[str, Any]]:
    """Draw up to `most` findings: a state, one of several, not a state, or a likelihood."""

    @st.composite
    def draw_findings(draw: st.DrawFn) -> dict[str, Any]:
        names = draw(st.lists(st.sampled_from(observable(model)), max_size=most, unique=True))
        found: dict[str, Any] = {}
        for name in names:
            states = list(model.variables[name].states)
            kind = draw(st.sampled_from(["hard", "hard", "some", "not", "soft"]))
            if kind == "hard":
                found[name] = draw(st.sampled_from(states))
            elif kind == "some":
                found[name] = draw(st.lists(st.sampled_from(states), min_size=1, unique=True))
            elif kind == "not":
                found[name] = {"not": draw(st.sampled_from(states))}
            else:
                weights = [draw(st.sampled_from([0.05, 0.2, 0.5, 1.0])) for _ in states]
                found[name] = {"likelihood": dict(zip(states, weights, strict=True))}
        return found

    return draw_findings()


def seeded(model: edx.Model, seed: int, most: int = 9) -> dict[str, Any]:
    """Make one random patient from a seed, with hard and uncertain findings."""
    rng = np.random.default_rng(seed)
    names = rng.choice(observable(model), size=int(rng.integers(1, most)), replace=False)
    found: dict[str, Any] = {}
    for i, name in enumerate(map(str, names)):
        states = model.variables[name].states
        if i % 3 == 2:
            weights = rng.uniform(0.01, 1.0, len(states))
            found[name] = {"likelihood": dict(zip(states, map(float, weights), strict=True))}
        else:
            found[name] = str(rng.choice(states))
    return found
