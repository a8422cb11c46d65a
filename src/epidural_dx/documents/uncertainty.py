"""``uncertainty`` as a document: how sure the answer is, under joint draws of every figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from epidural_dx.documents.answers import identity
from epidural_dx.documents.sensitivity import Progress, silent
from epidural_dx.documents.tables import records

if TYPE_CHECKING:
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model

#: Tests whose rank is looked at.
RANKED = 5


def uncertainty(
    model: Model,
    evidence: Evidence,
    *,
    draws: int = 200,
    seed: int = 0,
    quasi_random: bool = False,
    tests: bool = False,
    say: Progress = silent,
) -> dict[str, Any]:
    """Say how the posterior of every cause and mechanism spreads over draws of all figures.

    Parameters
    ----------
    model : Model
    evidence : Evidence
    draws, seed : int
    quasi_random : bool
        A Latin hypercube in place of independent draws.
    tests : bool
        Also say how often each of the most telling tests tells most.
    say : callable
        Called with a word on every slow step.
    """
    from epidural_dx.analysis.uncertainty import (
        best_at_means,
        decision_table,
        decision_values,
        posterior_draws,
    )

    answer = model.diagnose(evidence)
    with say(f"Drawing every figure {draws} times (once for every change of the files)"):
        of_causes, of_mechanisms = (
            posterior_draws(model, evidence, v, draws=draws, seed=seed, quasi_random=quasi_random)
            for v in ("lesion_cause", "etiology")
        )
        choices = decision_values(
            model, evidence, draws=draws, seed=seed, quasi_random=quasi_random
        )
    ranks = None
    if tests:
        with say("Ranking the tests under the draws (up to a minute)"):
            ranks = test_ranks(model, evidence, seed)
    return {
        "model": identity(model),
        "draws": len(of_causes),
        "seed": seed,
        "quasi_random": quasi_random,
        "causes": spread("cause", model.causes, dict(answer.ranked_causes()), of_causes),
        "etiology": spread(
            "name",
            [m.name for m in model.mechanisms],
            {n: p for n, _, _, p in answer.ranked_etiology()},
            of_mechanisms,
        ),
        "decision": records(decision_table(choices)),
        "best_at_means": best_at_means(model, evidence),
        "tests": ranks,
        "warnings": [warning.as_dict() for warning in answer.warnings],
    }


def spread(
    label: str, names: Sequence[str], now: Mapping[str, float], draws: Any
) -> list[dict[str, Any]]:
    """Return one row per name, the largest mean first."""
    from epidural_dx.analysis.uncertainty import interval

    lower, upper = interval(draws)
    mean, sd = draws.mean(axis=0), draws.std(axis=0, ddof=1)
    leads = np.bincount(draws.argmax(axis=1), minlength=len(names)) / len(draws)
    return [
        {
            label: names[i],
            "probability": now[names[i]],
            "mean": float(mean[i]),
            "sd": float(sd[i]),
            "lower": float(lower[i]),
            "upper": float(upper[i]),
            "leads": float(leads[i]),
        }
        for i in np.argsort(-mean, kind="stable")
    ]


def test_ranks(model: Model, evidence: Evidence, seed: int) -> list[dict[str, Any]]:
    """Return how often each of the most telling tests is the first, best first."""
    from epidural_dx.analysis.uncertainty import ranking_draws, ranking_table
    from epidural_dx.decision.ranking import rank_tests

    names = [t.test for t in rank_tests(model, evidence, "lesion_cause")[:RANKED]]
    if not names:
        return []
    return records(ranking_table(ranking_draws(model, evidence, names, seed=seed)))
