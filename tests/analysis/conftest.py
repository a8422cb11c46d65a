"""What the tests of the analyses share."""

from __future__ import annotations

import pytest
from toy_model import toy_model

from epidural_dx.model import Model


@pytest.fixture(scope="session")
def toy() -> Model:
    """Build a model small enough for hand computation."""
    return toy_model()
