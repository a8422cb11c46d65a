"""Whether orders that somebody is about to sign are safe in this patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epidural_dx.decision.catalog import entry_of, read_catalog
from epidural_dx.decision.elimination import EvidenceTables
from epidural_dx.decision.gates import Admission, Gatekeeper

if TYPE_CHECKING:
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.model import Model


@dataclass(frozen=True)
class OrderCheck:
    """What the gates say about one order.

    Attributes
    ----------
    test, label : str
    admission : Admission
    sources : tuple of str
        Of the gates that can bar the test.
    """

    test: str
    label: str
    admission: Admission
    sources: tuple[str, ...]


def check_orders(model: Model, evidence: Evidence, tests: Iterable[str]) -> tuple[OrderCheck, ...]:
    """Judge tests by the gates that can bar them; tests without such a gate are left out.

    Parameters
    ----------
    model : Model
    evidence : Evidence
        What is known of the patient.
    tests : iterable of str
        Names of the catalog (``priors/tests.csv``); others are left out.

    Returns
    -------
    tuple of OrderCheck
        In the order of the tests, each once.

    Raises
    ------
    ImpossibleEvidenceError
        The evidence has probability 0 under the model.
    """
    catalog = read_catalog(model._priors)
    wanted = [t for t in dict.fromkeys(tests) if t in catalog.tests]
    barring = {
        test: [g for g in catalog.gates.get(test, ()) if g.effect != "risk_multiplier"]
        for test in wanted
    }
    wanted = [test for test in wanted if barring[test]]
    if not wanted:
        return ()
    model.run(evidence, want=())  # says which findings exclude each other
    tables = EvidenceTables(model.plan.network, model.arrays(evidence))
    gates = Gatekeeper(catalog, model.variables, model.tests, tables, evidence.likelihoods)
    return tuple(
        OrderCheck(
            test=test,
            label=entry_of(catalog, test).label,
            admission=gates.judge(test),
            sources=tuple(dict.fromkeys(s for g in barring[test] for s in g.source_ids)),
        )
        for test in wanted
    )
