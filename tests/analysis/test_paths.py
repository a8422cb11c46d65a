"""Through which conditions findings act: shares that follow from the tables, and from the graph."""

from __future__ import annotations

import math

import networkx as nx
import pytest

import epidural_dx as edx
from epidural_dx.analysis.paths import conditions_between, paths
from epidural_dx.errors import EvidenceError

BLEEDING = {
    "platelets": "24 10^9/L",
    "fibrinogen": "very_low",
    "d_dimer": "strongly_raised",
    "t1_signal": "hyper",
}


def test_a_condition_that_separates_carries_all_of_a_finding(model: edx.Model) -> None:
    """Fibrinogen hangs on hemostasis alone, so hemostasis carries its whole weight."""
    (found,), _ = paths(model, {"fibrinogen": "very_low"}, "hematoma")
    assert [step.condition for step in found.steps] == ["hemostasis"]
    assert found.steps[0].state == "dic"
    assert found.steps[0].share == pytest.approx(1.0, abs=1e-9)


def test_a_finding_of_the_lesion_acts_directly(model: edx.Model) -> None:
    """The T1 signal hangs on the lesion: no condition stands between."""
    found = {path.finding: path for path in paths(model, BLEEDING, "hematoma")[0]}
    assert found["t1_signal"].steps == ()
    assert found["t1_signal"].decibans > 0


def test_a_single_finding_changes_the_odds_by_its_weight(model: edx.Model) -> None:
    """With one finding the mean change is the change from the base rates to the posterior."""
    (found,), _ = paths(model, {"t1_signal": "hyper"}, "hematoma", "leukemia")
    after = model.query({"t1_signal": "hyper"}).lesion_cause
    before = model.query({}).lesion_cause
    a, b = (model.causes.index(c) for c in ("hematoma", "leukemia"))
    assert found.decibans == pytest.approx(
        10 * math.log10(after[a] / after[b] * before[b] / before[a]), abs=1e-9
    )


def test_reasons_of_a_condition_sum_to_the_change_of_its_odds(model: edx.Model) -> None:
    """What made DIC likely adds up to the way of its log odds; it holds the coagulation values."""
    _, reasons = paths(model, BLEEDING)
    dic = next(r for r in reasons if r.condition == "hemostasis")
    assert dic.state == "dic"
    place = model.variables["hemostasis"].states.index("dic")
    before = float(model.base_marginals["hemostasis"][place])
    now = float(model.diagnose(BLEEDING).marginals["hemostasis"][place])
    assert (dic.before, dic.probability) == pytest.approx((before, now))
    change = 10 * math.log10(now / (1 - now) * (1 - before) / before)
    assert sum(db for _, db in dic.findings) == pytest.approx(change, abs=1e-9)
    assert {"platelets", "fibrinogen", "d_dimer"} <= dic.direct
    assert "t1_signal" not in dic.direct


def test_only_conditions_between_the_finding_and_the_lesion_count() -> None:
    """A side branch is not between, however close it is."""
    graph: nx.Graph[str] = nx.Graph(
        [("finding", "near"), ("near", "far"), ("far", "lesion"), ("near", "side"), ("lesion", "x")]
    )
    assert conditions_between(graph, "finding", ["far", "side", "near", "x"]) == ["near", "far"]
    assert conditions_between(graph, "absent", ["near"]) == []


def test_paths_depend_on_the_seed_only(model: edx.Model) -> None:
    """The same seed gives the same ways; without findings there are none."""
    assert paths(model, BLEEDING, seed=3) == paths(model, BLEEDING, seed=3)
    assert paths(model, {}) == ([], [])


def test_bad_input_is_refused(model: edx.Model) -> None:
    """Impossible findings and unknown causes are named."""
    with pytest.raises(EvidenceError, match="cannot occur together"):
        paths(model, {"lesion_cause": "emh", "lesion_subtype": "disc"})
    with pytest.raises(EvidenceError, match="not a cause"):
        paths(model, BLEEDING, "hematomaa")
