"""Ask what a spinal epidural lesion is, and which test is worth most next.

A Bayesian network seeded from published figures. Research use; not a medical device.

>>> import epidural_dx as edx
>>> model = edx.load_model()
>>> answer = model.diagnose({"age_years": 67, "sex": "male", "known_myeloma": "present"})
>>> answer.causes.index[0]
'myeloma'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "EpiduralDxError",
    "EvidenceError",
    "ImpossibleEvidenceError",
    "Model",
    "ModelError",
    "__version__",
    "load_model",
    "read_case",
    "read_fhir",
]

if TYPE_CHECKING:
    from epidural_dx.answer import Answer
    from epidural_dx.clinical.case import read_case
    from epidural_dx.clinical.fhir_reading import read_fhir
    from epidural_dx.errors import (
        EpiduralDxError,
        EvidenceError,
        ImpossibleEvidenceError,
        ModelError,
    )
    from epidural_dx.model import Model, load_model

_HOMES = {
    "Answer": "epidural_dx.answer",
    "EpiduralDxError": "epidural_dx.errors",
    "EvidenceError": "epidural_dx.errors",
    "ImpossibleEvidenceError": "epidural_dx.errors",
    "Model": "epidural_dx.model",
    "ModelError": "epidural_dx.errors",
    "load_model": "epidural_dx.model",
    "read_case": "epidural_dx.clinical.case",
    "read_fhir": "epidural_dx.clinical.fhir_reading",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that a command pays only for what it needs."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
