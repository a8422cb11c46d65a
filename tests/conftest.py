"""What several test folders share: the folders of the checkout and the model, loaded once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

import epidural_dx as edx
from epidural_dx.literature.base import LiteratureBase, read_literature

ROOT = Path(__file__).resolve().parents[1]

# Compiled models of the tests are kept apart from the user's own; the workers of one session
# inherit the folder, so that each model is compiled once.
if "EPIDURAL_DX_CACHE" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="epidural-dx-tests-")
    os.environ["EPIDURAL_DX_CACHE"] = _cache.name

# The same examples in every run; no deadline, since the first call of a compiled engine is slow.
settings.register_profile("epidural_dx", derandomize=True, deadline=None, database=None)
settings.load_profile("epidural_dx")


@pytest.fixture(scope="session")
def networks() -> Path:
    """Give the folder of network files."""
    return ROOT / "networks"


@pytest.fixture(scope="session")
def priors() -> Path:
    """Give the folder of figures."""
    return ROOT / "priors"


@pytest.fixture(scope="session")
def cases() -> Path:
    """Give the folder of published patients."""
    return ROOT / "cases"


@pytest.fixture(scope="session")
def literature(priors: Path) -> LiteratureBase:
    """Read the literature base."""
    return read_literature(priors)


@pytest.fixture(scope="session")
def model() -> edx.Model:
    """Load the model of adults in general."""
    return edx.load_model()


@pytest.fixture(scope="session")
def child_model() -> edx.Model:
    """Load the model of children."""
    return edx.load_model(scenario="child")


@pytest.fixture(scope="session")
def agrum_network(model: edx.Model) -> Any:
    """Build the selection form of the model in pyAgrum's memory, to full precision."""
    import pyagrum

    from epidural_dx.network.assembly import selection_form

    states = {name: variable.states for name, variable in model.variables.items()}
    network = pyagrum.BayesNet("selection form")
    tables = selection_form(model.built)
    for table in tables:
        labels = list(states.get(table.child, ("absent", "present")))
        network.add(pyagrum.LabelizedVariable(table.child, table.child, labels))
    for table in tables:
        for parent in table.parents:
            network.addArc(parent, table.child)
    for table in tables:
        cpt = network.cpt(table.child)
        # pyAgrum's arrays run over the parents in reverse order, the child last
        parents = [n for n in reversed(cpt.names) if n != table.child]
        order = [table.parents.index(p) for p in parents]
        cpt[:] = np.ascontiguousarray(table.table.transpose([*order, len(parents)]))
    return network
