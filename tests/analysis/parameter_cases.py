"""What the tests of parameters share: one patient, and models rebuilt the long way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epidural_dx.clinical.case import read_case
from epidural_dx.clinical.evidence import Evidence
from epidural_dx.model import Model
from epidural_dx.network.build import Built, build
from epidural_dx.network.draws import factor_tables
from epidural_dx.network.parameters import ColumnKey

Array = NDArray[np.float64]
CASES = Path(__file__).parents[2] / "cases"


def sentinel(model: Model, stage: str = "mri") -> Evidence:
    """Read the 14-year-old up to a stage."""
    case = read_case(CASES / "melanoma_marrow_hematoma.yaml")
    return model.read_evidence(case.evidence(stage).raw)


def rebuilt_whole(model: Model, values: Mapping[ColumnKey, Array]) -> Built:
    """Build every table from files again, with some parameters replaced."""
    return build(
        model.built.structure, model.literature, model._priors, model.scenario, values=values
    )


def asked(model: Model, built: Built, evidence: Evidence) -> Array:
    """P(lesion_cause | evidence) per row of a model built with rows of values."""
    bank = model.engine.bank(factor_tables(built, model.plan.network))
    at = model.position("lesion_cause")
    return model.engine.run(model.arrays(evidence), target=(at,), want=(), bank=bank).posterior[0]


def varied(base: Array, state: int, x: float) -> Array:
    """Put one state of a column at `x`; the others keep their proportions."""
    if len(base) == 1:
        return np.array([x])
    column = base * (1 - x) / (1 - base[state])
    column[state] = x
    return column
