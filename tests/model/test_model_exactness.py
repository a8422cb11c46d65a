"""Posteriors against pyAgrum on the selection form, built in memory to full precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyagrum
import pytest
from random_patients import seeded

import epidural_dx as edx


def exact(model: edx.Model, network: Any, patient: dict[str, Any]) -> Any:
    """Give pyAgrum's engine after inference on a patient, with the selection evidence."""
    engine = pyagrum.LazyPropagation(network)
    evidence: dict[str, Any] = dict.fromkeys(model.selection_evidence, 1)
    for name, value in patient.items():
        states = model.variables[name].states
        evidence[name] = (
            states.index(value)
            if isinstance(value, str)
            else [value["likelihood"][s] for s in states]
        )
    engine.setEvidence(evidence)
    engine.makeInference()
    return engine


@pytest.mark.parametrize("seed", range(25))
def test_every_posterior_agrees_with_an_independent_engine(
    model: edx.Model, agrum_network: Any, seed: int
) -> None:
    """Hard and uncertain findings: all variables agree with pyAgrum within 1e-9."""
    patient = seeded(model, seed)
    engine = exact(model, agrum_network, patient)
    answer = model.diagnose(patient)
    for name, marginal in answer.marginals.items():
        other = engine.posterior(name).toarray()
        assert np.max(np.abs(marginal - other)) < 1e-9, (name, patient)


def test_the_base_rates_agree_with_an_independent_engine(
    model: edx.Model, agrum_network: Any
) -> None:
    """Without any finding the posterior is that of the selection form."""
    engine = exact(model, agrum_network, {})
    answer = model.diagnose({})
    for name in ("etiology", "lesion_cause", "hemostasis", "blood_disorder", "marrow_disease"):
        other = engine.posterior(name).toarray()
        assert np.max(np.abs(answer.marginals[name] - other)) < 1e-12, name


@pytest.mark.parametrize("seed", range(5))
def test_the_probability_of_the_evidence_agrees(
    model: edx.Model, agrum_network: Any, seed: int
) -> None:
    """P(evidence | lesion) is the ratio of two evidence probabilities of pyAgrum."""
    patient = seeded(model, seed)
    with_patient = exact(model, agrum_network, patient).evidenceProbability()
    alone = exact(model, agrum_network, {}).evidenceProbability()
    difference = model.diagnose(patient).log_evidence - model.diagnose({}).log_evidence
    assert difference == pytest.approx(float(np.log(with_patient / alone)), abs=1e-8)


@pytest.mark.parametrize("seed", [0, 1])
def test_information_agrees_with_the_joint_of_an_independent_engine(
    model: edx.Model, agrum_network: Any, seed: int
) -> None:
    """Bits about the cause are those of pyAgrum's joint posterior of cause and finding."""
    patient = seeded(model, seed, most=5)
    open_findings = [n for n in ("fever", "hemoglobin", "enhancement", "marrow_biopsy", "smear")]
    open_findings = [n for n in open_findings if n not in patient]
    engine = exact(model, agrum_network, patient)
    for name in open_findings:
        engine.addJointTarget({"lesion_cause", name})
    engine.makeInference()
    bits = model.query(patient).information
    for name in open_findings:
        joint = engine.jointPosterior({"lesion_cause", name}).toarray()
        outer = joint.sum(0, keepdims=True) * joint.sum(1, keepdims=True)
        inside = joint > 0
        expected = float((joint[inside] * np.log2(joint[inside] / outer[inside])).sum())
        assert bits[model.position(name)] == pytest.approx(expected, abs=1e-9), name


def test_the_model_of_children_is_another_model(model: edx.Model, child_model: edx.Model) -> None:
    """The scenario of children starts from children, and has its own digest."""
    assert child_model.diagnose({}).conditions["age_group"]["age_0_17"] > 0.9
    assert model.diagnose({}).conditions["age_group"]["age_0_17"] < 0.1
    assert model.digest != child_model.digest
