"""Sensitivity functions against the network rebuilt the long way."""

from __future__ import annotations

import numpy as np
import pytest
from parameter_cases import CASES, asked, rebuilt_whole, sentinel, varied
from scipy import special

from epidural_dx.analysis.attribution import attribute
from epidural_dx.analysis.parameters import Parameter
from epidural_dx.analysis.plots import plot_curve, plot_shares, plot_tornado, plot_two_way
from epidural_dx.analysis.response import table_map, variants
from epidural_dx.analysis.sensitivity import (
    OneWay,
    evidence_sensitivity,
    information_derivatives,
    one_way,
    tornado,
    two_way,
)
from epidural_dx.analysis.uncertainty import panel_results
from epidural_dx.clinical.case import read_case
from epidural_dx.errors import EvidenceError, ModelError
from epidural_dx.model import Model


@pytest.fixture(scope="module")
def functions(model: Model) -> OneWay:
    """All sensitivity functions of the sentinel patient after the MRI."""
    return one_way(model, sentinel(model))


def sample(functions: OneWay, moving: int, others: int) -> list[int]:
    """Draw parameters at random: some that the answer depends on, some that it need not."""
    rng = np.random.default_rng(5)
    moves = np.abs(functions.derivative).max(axis=1) > 1e-9
    return [
        *rng.choice(np.flatnonzero(moves), moving, replace=False).tolist(),
        *rng.choice(np.flatnonzero(~moves), others, replace=False).tolist(),
    ]


def brute(model: Model, functions: OneWay, points: list[tuple[int, float]]) -> np.ndarray:
    """Posterior with the whole model built again for every (parameter, value)."""
    tables = table_map(model)
    found = []
    for start in range(0, len(points), 200):
        some = points[start : start + 200]
        values: dict = {}
        for row, (i, x) in enumerate(some):
            p = functions.parameters[i]
            base = tables.column_value(p.key)
            every = values.setdefault(p.key, np.tile(base, (len(some), 1)))
            every[row] = varied(base, p.state, x)
        found.append(asked(model, rebuilt_whole(model, values), functions.evidence))
    return np.concatenate(found)


def five_points(parameter: Parameter) -> list[float]:
    """Values from one end of what makes sense to the other."""
    x = parameter.value
    if parameter.kind == "association":
        return [x + step for step in (-1.0, -0.4, 0.0, 0.5, 1.0)]
    if parameter.kind == "column" and not parameter.group.startswith("prevalence"):
        return [0.02, 0.2, 0.5, 0.8, 0.97]
    return [x * f for f in (0.3, 0.7, 1.0, 1.3, 1.8)]


@pytest.mark.slow
def test_curves_equal_the_rebuilt_network(model: Model, functions: OneWay) -> None:
    """One-way functions of 200 random parameters agree with brute force at five points."""
    chosen = sample(functions, 150, 50)
    kinds = {functions.parameters[i].kind for i in chosen}
    assert {"column", "rate"} <= kinds
    assert 20 < functions.response.linear[chosen].sum() < 200
    points = [(i, x) for i in chosen for x in five_points(functions.parameters[i])]
    expected = brute(model, functions, points).reshape(len(chosen), 5, -1)
    for n, i in enumerate(chosen):
        p = functions.parameters[i]
        got = functions.curve(p.name, five_points(p))
        np.testing.assert_allclose(got, expected[n], atol=1e-9, rtol=0, err_msg=p.name)


@pytest.mark.slow
def test_derivatives_equal_finite_differences(model: Model, functions: OneWay) -> None:
    """The gradient of every log posterior agrees with central differences of rebuilt networks."""
    chosen = sample(functions, 100, 20)
    steps = []
    for i in chosen:
        p = functions.parameters[i]
        near = {"column": min(p.value, 1 - p.value), "rate": p.value}
        steps.append(1e-4 * near.get(p.kind, 1.0))
    points = [
        (i, functions.parameters[i].value + sign * h)
        for i, h in zip(chosen, steps, strict=True)
        for sign in (-1, 1)
    ]
    rows = np.log(brute(model, functions, points)).reshape(len(chosen), 2, -1)
    possible = functions.posterior > 1e-250
    for i, h, (before, after) in zip(chosen, steps, rows, strict=True):
        p = functions.parameters[i]
        # in units of the parameter's own distance from its bound
        got = 1e4 * h * functions.derivative[i, possible] / functions.posterior[possible]
        expected = 1e4 * (after - before)[possible] / 2
        scale = 1 + np.abs(expected).max()
        np.testing.assert_allclose(got, expected, atol=1e-5 * scale, rtol=0, err_msg=p.name)


@pytest.mark.parametrize("outcomes", [64, 8])
def test_information_has_its_derivative(model: Model, functions: OneWay, outcomes: int) -> None:
    """Bits of a test, enumerated or sampled, change with the figures as rebuilt networks do."""
    evidence = functions.evidence
    panel = panel_results(model, evidence, "pet_ct", outcomes=outcomes)
    assert panel is not None and panel.sampled == (outcomes == 8)
    bits, slope = information_derivatives(model, evidence, panel)
    if not panel.sampled:
        ranked = model.rank_tests(evidence, "lesion_cause").set_index("test")
        assert bits == pytest.approx(ranked.loc["pet_ct", "information_bits"], abs=1e-9)
    width = functions.response.high - functions.response.low
    for i in np.argsort(-np.abs(slope) * width)[:12]:
        p = functions.parameters[i]
        h = 1e-4 * (min(p.value, 1 - p.value) if p.kind == "column" else p.value)
        bank = variants(model, p, [p.value - h, p.value + h])
        at = model.position("lesion_cause")
        now = model.engine.run(model.arrays(evidence), target=(at,), want=(), bank=bank)
        then = model.engine.run(panel.rows, target=(at,), want=(), bank=bank)
        weight = np.exp(then.log_evidence - now.log_evidence + panel.log_weight[:, None])
        weight /= weight.sum(axis=0) if panel.sampled else 1.0
        told = special.rel_entr(then.posterior, now.posterior).sum(axis=-1) / np.log(2)
        before, after = (weight * told).sum(axis=0)
        assert slope[i] * h == pytest.approx((after - before) / 2, rel=1e-5, abs=1e-10)


@pytest.fixture(scope="module")
def doubtful(model: Model) -> OneWay:
    """Give the functions of a patient with several causes in the running."""
    return one_way(model, read_case(CASES / "multifocal_mds.yaml").evidence().raw)


def test_admissible_deviation_ends_at_a_tie(doubtful: OneWay) -> None:
    """At the admissible deviation two causes lead together, and a little further another one."""
    deviation = doubtful.admissible_deviation()
    found = 0
    for i, p in enumerate(doubtful.parameters):
        for side, sign in ((0, -1), (1, 1)):
            step = deviation[i, side]
            x = p.value + sign * step * np.array([0.99, 1.0, 1.01])
            if not np.isfinite(step) or x.min() <= p.bounds[0] or x.max() >= p.bounds[1]:
                continue
            before, tie, after = np.sort(doubtful.curve(p.name, x), axis=1)[:, -2:]
            leaders = doubtful.curve(p.name, x).argmax(axis=1)
            assert tie[0] == pytest.approx(tie[1], abs=1e-9)
            assert leaders[0] == doubtful.state()
            assert leaders[2] != doubtful.state()
            found += 1
        if found >= 6:
            break
    assert found


def test_overturning_values_are_ties(doubtful: OneWay) -> None:
    """The searched overturning value of a rebuilt parameter is where the lead changes."""
    reach = np.abs(doubtful.derivative).max(axis=1) * (
        doubtful.response.high - doubtful.response.low
    )
    rebuilt = np.flatnonzero(~doubtful.response.linear)
    found = 0
    for i in rebuilt[np.argsort(-reach[rebuilt])][:8]:
        p = doubtful.parameters[i]
        for x, sign in zip(doubtful.overturning(p.name), (-1, 1), strict=True):
            if np.isfinite(x):
                step = sign * 1e-5 * abs(x - p.value)
                before, after = doubtful.curve(p.name, [x - step, x + step])
                assert before.argmax() == doubtful.state()
                assert after.argmax() != doubtful.state()
                found += 1
        if found >= 2:
            break
    assert found


def test_vertex_is_where_the_slope_is_one(functions: OneWay) -> None:
    """The curve of a parameter has slope 1 at its vertex (rectangular hyperbola)."""
    name = "level=thoracolumbar | lesion_subtype=leukemia"
    i = next(n for n, p in enumerate(functions.parameters) if p.name == name)
    a, b, c, d = functions.coefficients(name)
    distance = functions.vertex_proximity()[i]
    x0 = functions.parameters[i].value
    slopes = [abs((a * d - b * c) / (c * x + d) ** 2) for x in (x0 - distance, x0 + distance)]
    assert min(abs(s - 1) for s in slopes) < 1e-9


def test_tornado_ends_are_exact(model: Model, functions: OneWay) -> None:
    """The bars of a tornado end at the posteriors of the rebuilt network, largest bar first."""
    frame = tornado(model, functions.evidence, functions=functions, top=6)
    names = [p.name for p in functions.parameters]
    points = [(names.index(r.parameter), x) for r in frame.itertuples() for x in (r.low, r.high)]
    expected = brute(model, functions, points)[:, functions.state()].reshape(-1, 2)
    np.testing.assert_allclose(frame[["at_low", "at_high"]], expected, atol=1e-9)
    assert frame["swing"].is_monotonic_decreasing
    assert set(frame["form"]) <= {"quotient", "rebuilt"}


def test_tornado_is_drawn(model: Model, functions: OneWay) -> None:
    """The picture has one labelled bar pair per parameter."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    frame = tornado(model, functions.evidence, functions=functions, top=4)
    ax = plot_tornado(frame)
    assert len(ax.patches) == 8
    assert "hematoma" in ax.get_xlabel()
    plt.close(ax.figure)


def test_curves_maps_and_shares_are_drawn(model: Model, functions: OneWay) -> None:
    """Every drawing is labelled with the parameters, and marks where they stand."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    first, second = "rate hematoma_dic", "level=thoracolumbar | lesion_subtype=leukemia"
    ax = plot_curve(functions, first, most=3)
    legend = ax.get_legend()
    assert legend is not None
    assert functions.leader in {text.get_text() for text in legend.get_texts()}
    assert "100,000 person-years" in ax.get_xlabel()
    grid = two_way(model, functions.evidence, first, second, points=3)
    ax = plot_two_way(grid)
    assert "lesion_subtype=leukemia" in ax.get_ylabel()
    rate = next(p.value for p in functions.parameters if p.name == first)
    assert rate in ax.lines[-1].get_xdata()
    shares = attribute(model, functions.evidence, by="source", draws=60, functions=functions)
    ax = plot_shares(shares, top=5)
    assert len(ax.patches) == len(ax.get_yticklabels()) <= 5
    plt.close("all")
    with pytest.raises(EvidenceError, match="1 to 5"):
        plot_curve(functions, first, most=9)


def test_two_way_corners_equal_the_rebuilt_network(model: Model, functions: OneWay) -> None:
    """Both parameters of a two-way analysis are moved together, exactly."""
    first, second = "rate hematoma_dic", "level=thoracolumbar | lesion_subtype=leukemia"
    frame = two_way(model, functions.evidence, first, second, points=2)
    tables = table_map(model)
    by_name = {p.name: p for p in functions.parameters}
    values = {}
    for name, column in ((first, "first"), (second, "second")):
        p = by_name[name]
        base = tables.column_value(p.key)
        values[p.key] = np.stack([varied(base, p.state, x) for x in frame[column]])
    expected = asked(model, rebuilt_whole(model, values), functions.evidence)
    np.testing.assert_allclose(frame["probability"], expected[:, functions.state()], atol=1e-9)
    assert list(frame["leader"]) == [model.causes[k] for k in expected.argmax(axis=1)]


def test_findings_removed_and_flipped_equal_new_answers(model: Model) -> None:
    """Each row of the sensitivity to evidence is the answer to the changed findings."""
    raw = {"age_group": "age_40_59", "fever": "present", "back_pain": "present", "crp": "marked"}
    frame = evidence_sensitivity(model, raw)
    leader = frame.attrs["hypothesis"]
    assert set(frame["finding"]) == set(raw)
    for row in frame.itertuples():
        changed = {k: v for k, v in raw.items() if k != row.finding}
        if row.instead is not None and row.instead == row.instead:
            changed[row.finding] = row.instead
        causes = model.diagnose(changed).causes
        assert row.probability == pytest.approx(causes[leader], abs=1e-12)
        assert row.leader == causes.index[0]
        assert row.overturns == (row.leader != leader)


def test_no_findings_have_no_evidence_sensitivity(model: Model) -> None:
    """Without findings the table is empty, and the functions are those of the base rates."""
    assert evidence_sensitivity(model, {}).empty
    base = one_way(model, {})
    np.testing.assert_allclose(base.posterior, model.base_marginals["lesion_cause"], atol=1e-12)


def test_derivatives_of_all_causes_cancel(functions: OneWay) -> None:
    """Probabilities that sum to 1 have derivatives that sum to 0."""
    slopes = functions.derivative
    assert np.abs(slopes.sum(axis=1)).max() < 1e-9 * (1 + np.abs(slopes).max())


def test_wrong_names_and_values_get_a_sentence(model: Model, functions: OneWay) -> None:
    """Unknown parameters name the nearest ones; values outside the bounds are refused."""
    with pytest.raises(EvidenceError, match="rate hematoma_dic"):
        functions.curve("rate hematoma_dik", [1.0])
    with pytest.raises(ModelError, match="outside 0..1"):
        functions.curve("level=thoracolumbar | lesion_subtype=leukemia", [0.5, 1.5])
    with pytest.raises(ModelError, match="outside 0..1"):
        functions.curve("t1_signal=hyper | lesion_subtype=leukemia", [1.5])
    with pytest.raises(EvidenceError, match="no quotient"):
        functions.coefficients("t1_signal=hyper | lesion_subtype=leukemia")
    with pytest.raises(EvidenceError, match="no state of lesion_cause"):
        functions.table("haematoma")
    with pytest.raises(EvidenceError, match="varied apart"):
        two_way(
            model,
            functions.evidence,
            "level=thoracic | lesion_subtype=leukemia",
            "level=lumbar | lesion_subtype=leukemia",
        )
