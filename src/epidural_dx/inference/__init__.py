"""Exact inference on discrete networks: compile once, ask many times.

Arrays only: variables and states are integers, nothing is read or written. Typical use::

    plan = compile_network(network, target, usually_observed=(age, sex))
    engine = Engine(plan)
    result = engine.run({finding: 1, other_finding: np.array([0.9, 0.2])})
    result.posterior, result.information, result.joints[another_finding]
"""

from epidural_dx.inference.bank import Bank, Repeated
from epidural_dx.inference.derivatives import (
    Derivatives,
    log_evidence_derivatives,
    posterior_derivatives,
)
from epidural_dx.inference.engine import ALL_ANSWERS, Answers, Engine, Result
from epidural_dx.inference.evidence import ImpossibleEvidence, Observation, read_evidence
from epidural_dx.inference.information import entropy, mutual_information
from epidural_dx.inference.network import Factor, Network
from epidural_dx.inference.plan import Plan, Program, Target, compile_network

__all__ = [
    "ALL_ANSWERS",
    "Answers",
    "Bank",
    "Derivatives",
    "Engine",
    "Factor",
    "ImpossibleEvidence",
    "Network",
    "Observation",
    "Plan",
    "Program",
    "Repeated",
    "Result",
    "Target",
    "compile_network",
    "entropy",
    "log_evidence_derivatives",
    "mutual_information",
    "posterior_derivatives",
    "read_evidence",
]
