"""How sure: the posterior under joint draws of every parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epidural_dx.clinical.spelling import nearest
from epidural_dx.errors import EvidenceError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.inference import Bank
    from epidural_dx.model import Model, RawEvidence

Array = NDArray[np.float64]

#: Equal-tailed interval that answers show.
INTERVAL = 0.90
#: Draws, and results of large panels, behind the uncertainty of a ranking of tests.
RANKING_DRAWS = 40
RANKING_OUTCOMES = 256
#: Draws that a command uses when none are asked for.
DEFAULT_DRAWS = 200
#: What may be decided.
DECISIONS = ("cause", "treatment")


def posterior_draws(
    model: Model,
    evidence: Evidence | RawEvidence,
    target: str = "lesion_cause",
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    quasi_random: bool = False,
) -> Array:
    """Posterior of `target` under every draw of the parameters.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    target : str
        Any variable, the target of the diagnosis or a condition behind it.
    draws, seed : int
        The bank of draws; the same for every patient of a model, so that answers compare.
    quasi_random : bool
        A Latin hypercube in place of independent draws: means settle with fewer of them.

    Returns
    -------
    ndarray, shape (draws, states)
        Draws that make the evidence impossible are left out.

    Raises
    ------
    EvidenceError
        Draws below 1, an unknown variable, bad evidence.
    """
    if draws < 1:
        raise EvidenceError(f"draws must be at least 1, got {draws}", value=draws)
    at = model.position(target)
    arrays = model.arrays(model.read_evidence(evidence))
    bank = model.bank(draws, seed, quasi_random=quasi_random)
    if (at,) in model.plan.targets:
        result = model.engine.run(arrays, target=(at,), want=(), bank=bank)
        values = result.posterior[0]
    else:
        result = model.engine.run(arrays, want=("marginals",), bank=bank)
        assert result.marginals is not None
        values = result.marginals[at][0]
    return np.asarray(values[result.possible[0]])


def interval(draws: Array, prob: float = INTERVAL) -> Array:
    """Equal-tailed interval over the first axis, shape (2, ...)."""
    tail = (1 - prob) / 2
    return np.asarray(np.quantile(draws, [tail, 1 - tail], axis=0))


def to_datatree(
    model: Model,
    evidence: Evidence | RawEvidence,
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    chains: int = 4,
    quasi_random: bool = False,
    tests: Sequence[str] = (),
    decision: str | None = None,
) -> xr.DataTree | object:
    """Draws of the answer as arviz reads them.

    The draws are independent; chains only split them, so that arviz's summaries work. States that
    every draw rules out are left out, since their spread is no number.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    draws, seed : int
    chains : int
    quasi_random : bool
        As in :func:`posterior_draws`.
    tests : sequence of str
        Tests whose information about the cause is added.
    decision : {"cause", "treatment"}, optional
        Add the value of every option.

    Returns
    -------
    xarray.DataTree (arviz 1) or arviz.InferenceData (arviz 0.23)
        Group ``posterior`` with ``lesion_cause`` (chain, draw, cause) and ``etiology``
        (chain, draw, mechanism); with `tests` also ``information_bits`` (chain, draw, test), with
        `decision` one variable per choice, such as ``lesion_action_value``
        (chain, draw, lesion_action).

    Raises
    ------
    EvidenceError
        Draws that the chains do not divide, an unknown test or decision, bad evidence.
    """
    import arviz as az

    if chains < 1 or draws % chains:
        raise EvidenceError(f"{draws} draws cannot be split into {chains} chains", value=draws)
    read = model.read_evidence(evidence)
    parts: list[tuple[str, str, Sequence[str], Array]] = [
        (
            name,
            dimension,
            model.variables[name].states,
            posterior_draws(model, read, name, draws=draws, seed=seed, quasi_random=quasi_random),
        )
        for name, dimension in (("lesion_cause", "cause"), ("etiology", "mechanism"))
    ]
    if tests:
        frame = ranking_draws(model, read, tests, draws=draws, seed=seed, quasi_random=quasi_random)
        parts.append(("information_bits", "test", [str(t) for t in frame], frame.to_numpy()))
    if decision is not None:
        choices = decision_values(
            model, read, decision, draws=draws, seed=seed, quasi_random=quasi_random
        )
        parts += [(f"{c.name}_value", c.name, c.options, c.values) for c in choices]
    arrays, coords, dims = {}, {}, {}
    for name, dimension, labels, values in parts:
        varies = np.flatnonzero(np.ptp(values, axis=0) > 0).tolist()
        arrays[name] = values[:, varies].reshape(chains, -1, len(varies))
        coords[dimension] = [labels[i] for i in varies]
        dims[name] = [dimension]
    if _arviz_1():
        tree: xr.DataTree = az.from_dict({"posterior": arrays}, coords=coords, dims=dims)
        return tree
    data: object = az.from_dict(posterior=arrays, coords=coords, dims=dims)
    return data


# ---------------------------------------------------------------------------- tests


def ranking_draws(
    model: Model,
    evidence: Evidence | RawEvidence,
    tests: Sequence[str],
    target: str | Sequence[str] = "lesion_cause",
    *,
    draws: int = RANKING_DRAWS,
    outcomes: int = RANKING_OUTCOMES,
    seed: int = 0,
    quasi_random: bool = False,
) -> pd.DataFrame:
    """Information of tests under every draw of the parameters, for how sure a ranking is.

    Panels with at most `outcomes` joint results are enumerated. Larger ones are sampled from the
    present predictive distribution, the same results for all draws, and re-weighted by their
    probability under each draw (self-normalised importance sampling).

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    tests : sequence of str
        For example the first of :meth:`Model.rank_tests`.
    target : str or sequence of str
        ``lesion_cause``, ``etiology``, or etiology and marrow_infiltration together (what
        :meth:`Model.rank_tests` ranks by, and several times slower).
    draws, seed : int
    outcomes : int
    quasi_random : bool
        As in :func:`posterior_draws`.

    Returns
    -------
    pandas.DataFrame
        Bits, one row per draw, one column per test (see :func:`ranking_table`). ``attrs``: target,
        sampled (the tests whose results were sampled).

    Raises
    ------
    EvidenceError
        Unknown test or target, no draws, bad evidence.
    """
    import pandas as pd

    read = model.read_evidence(evidence)
    if draws < 1:
        raise EvidenceError(f"draws must be at least 1, got {draws}", value=draws)
    at = _target(model, target)
    bank = model.bank(draws, seed, quasi_random=quasi_random)
    base = model.engine.run(model.arrays(read), target=at, want=(), bank=bank)
    now = base.posterior[0]
    columns: dict[str, Array] = {}
    sampled = []
    for name in tests:
        panel = panel_results(model, read, name, outcomes=outcomes, seed=seed)
        if panel is None:
            columns[name] = np.zeros(len(now))
            continue
        if panel.sampled:
            sampled.append(name)
        got = model.engine.run(panel.rows, target=at, want=(), bank=bank)
        logs = got.log_evidence - base.log_evidence[0] + panel.log_weight[:, None]
        weight = np.exp(logs - logs.max(axis=0))
        weight /= weight.sum(axis=0)
        ratio = np.divide(got.posterior, now, out=np.ones_like(got.posterior), where=now > 0)
        bits = got.posterior * np.log2(np.where(ratio > 0, ratio, 1.0))
        columns[name] = np.asarray((weight * bits.sum(axis=-1)).sum(axis=0))
    frame = pd.DataFrame(columns)
    frame.attrs.update(target=target, sampled=tuple(sampled))
    return frame


def ranking_table(frame: pd.DataFrame) -> pd.DataFrame:
    """How often each test is the first under the draws, and what it tells.

    Parameters
    ----------
    frame : pandas.DataFrame
        From :func:`ranking_draws`.

    Returns
    -------
    pandas.DataFrame
        Columns test, first (share of the draws in which it tells most), rank (mean place, from
        1), bits_mean, bits_lower, bits_upper (90 % interval), draws; most often first on top.
    """
    import pandas as pd

    lower, upper = interval(frame.to_numpy())
    places = frame.rank(axis=1, ascending=False, method="first")
    table = pd.DataFrame(
        {
            "test": list(frame),
            "first": (places == 1).mean().to_numpy(),
            "rank": places.mean().to_numpy(),
            "bits_mean": frame.mean().to_numpy(),
            "bits_lower": lower,
            "bits_upper": upper,
            "draws": len(frame),
        }
    )
    return table.sort_values(["first", "rank"], ascending=[False, True], ignore_index=True)


def _target(model: Model, target: str | Sequence[str]) -> tuple[int, ...]:
    names = [target] if isinstance(target, str) else list(target)
    at = tuple(model.position(n) for n in names)
    if at not in model.plan.targets:
        by_position = list(model.variables)
        raise EvidenceError(
            f"the model is not compiled for draws of {' and '.join(names)}",
            variable=names[0],
            allowed=[" and ".join(by_position[i] for i in t) for t in model.plan.targets],
        )
    return at


@dataclass(frozen=True, eq=False)
class PanelResults:
    """Joint results of the open findings of a test.

    Attributes
    ----------
    findings : tuple of str
    rows : dict of int to ndarray
        Likelihood vectors by position, one row per result, the patient's findings included.
    log_weight : ndarray, shape (results,)
        Minus the log probability of a sampled result (up to a constant); 0 where enumerated.
    sampled : bool
    """

    findings: tuple[str, ...]
    rows: dict[int, Array]
    log_weight: Array
    sampled: bool


def panel_results(
    model: Model,
    evidence: Evidence,
    test: str,
    *,
    outcomes: int = RANKING_OUTCOMES,
    seed: int = 0,
) -> PanelResults | None:
    """Enumerate the joint results of a test, or sample them where they are too many.

    Parameters
    ----------
    model : Model
    evidence : Evidence
    test : str
    outcomes : int
        Most results.
    seed : int
        Of the sample.

    Returns
    -------
    PanelResults or None
        None where everything that the test reveals is known.

    Raises
    ------
    EvidenceError
        Unknown test.
    """
    if test not in model.tests:
        raise EvidenceError(
            f"unknown test {test!r}", variable=test, nearest=nearest(test, model.tests)
        )
    panel = [v for v in model.tests[test] if v not in evidence.likelihoods]
    if not panel:
        return None
    arrays = model.arrays(evidence)
    sizes = [len(model.variables[v].states) for v in panel]
    sampled = math.prod(sizes) > outcomes
    if sampled:
        results = _sampled_results(model, arrays, panel, outcomes, np.random.default_rng(seed))
    else:
        results = np.array(list(np.ndindex(*sizes)))
    rows = {p: np.tile(w, (len(results), 1)) for p, w in arrays.items()}
    for column, v in enumerate(panel):
        rows[model.position(v)] = np.eye(sizes[column])[results[:, column]]
    log_weight = np.zeros(len(results))
    if sampled:
        log_weight = -model.engine.run(rows, want=()).log_evidence
        log_weight -= log_weight.min()
    return PanelResults(tuple(panel), rows, log_weight, sampled)


def _sampled_results(
    model: Model,
    arrays: Mapping[int, Array],
    panel: Sequence[str],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Joint results of a panel drawn from the present predictive distribution, one by one."""
    rows = {p: np.tile(w, (count, 1)) for p, w in arrays.items()}
    results = np.zeros((count, len(panel)), dtype=np.int64)
    if not rows:
        first = model.position(panel[0])
        rows[first] = np.ones((count, len(model.variables[panel[0]].states)))
    for column, v in enumerate(panel):
        marginals = model.engine.run(rows, want=("marginals",)).marginals
        assert marginals is not None
        cumulative = marginals[model.position(v)].cumsum(axis=1)
        u = (rng.permutation(count) + rng.random(count)) / count  # stratified
        results[:, column] = (u[:, None] > cumulative).sum(axis=1).clip(0, cumulative.shape[1] - 1)
        rows[model.position(v)] = np.eye(cumulative.shape[1])[results[:, column]]
    return results


# ------------------------------------------------------------------------- decisions


@dataclass(frozen=True, eq=False)
class Choice:
    """One choice of a decision: what each option is worth under every draw.

    Attributes
    ----------
    name : str
        ``named_cause``, ``lesion_action`` or ``marrow_action``.
    options : tuple of str
    values : ndarray, shape (draws, options)
    weights : ndarray, shape (options, causes)
        Mean value of each option by cause.
    """

    name: str
    options: tuple[str, ...]
    values: Array
    weights: Array


def decision_values(
    model: Model,
    evidence: Evidence | RawEvidence,
    decision: str = "treatment",
    *,
    draws: int = DEFAULT_DRAWS,
    seed: int = 0,
    quasi_random: bool = False,
) -> tuple[Choice, ...]:
    """Value of every option of a decision under every draw of the parameters.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping
    decision : {"cause", "treatment"}
        Name the cause (1 if right), or choose an action on the lesion and one on the marrow with
        the utilities of ``priors/utilities.yaml`` (harms that depend on the patient's tests are
        left out).
    draws, seed : int
    quasi_random : bool
        As in :func:`posterior_draws`.

    Returns
    -------
    tuple of Choice
        What is gained in total is the sum over the choices.

    Raises
    ------
    EvidenceError
        Unknown decision, no draws, bad evidence.
    """
    if decision not in DECISIONS:
        raise EvidenceError(
            f"{decision!r} is no decision",
            value=decision,
            allowed=DECISIONS,
            nearest=nearest(decision, DECISIONS),
        )
    if draws < 1:
        raise EvidenceError(f"draws must be at least 1, got {draws}", value=draws)
    bank = model.bank(draws, seed, quasi_random=quasi_random)
    if decision == "cause":
        result = model.engine.run(
            model.arrays(model.read_evidence(evidence)),
            target=(model.position("lesion_cause"),),
            want=(),
            bank=bank,
        )
        size = len(model.causes)
        return (Choice("named_cause", model.causes, result.posterior[0], np.eye(size)),)
    return _treatment(model, evidence, bank)


def best_at_means(model: Model, evidence: Evidence | RawEvidence) -> dict[str, str]:
    """Option of every treatment choice that is the best with every figure at its mean.

    Parameters
    ----------
    model : Model
    evidence : Evidence or mapping

    Returns
    -------
    dict of str to str
        By the name of the choice, as in :func:`decision_values`. What has the largest mean value
        over the draws may be another, where the posterior is skewed by the spread of a figure.

    Raises
    ------
    EvidenceError
        Bad evidence.
    """
    choices = _treatment(model, evidence, None)
    return {c.name: c.options[int(c.values[0].argmax())] for c in choices}


def _treatment(
    model: Model, evidence: Evidence | RawEvidence, bank: Bank | None
) -> tuple[Choice, ...]:
    """Values of the actions on lesion and marrow: by draw, or one row with the means."""
    from epidural_dx.decision.utilities import read_utilities  # diagnose does without

    result = model.engine.run(
        model.arrays(model.read_evidence(evidence)),
        target=(model.position("lesion_cause"),),
        want=("joints",),
        bank=bank,
    )
    assert result.joints is not None
    states = [model.variables[v].states for v in ("limb_weakness", "marrow_infiltration")]
    u = read_utilities(model._priors, model.causes, states[0], states[1])
    lesion = u.lesion() - u.extra_harm[:, :, None] - u.harm[:, None, None]
    marrow = u.marrow_value() - u.marrow_harm[:, None]
    with_weakness, with_marrow = (
        joint.reshape(-1, *joint.shape[-2:])
        for joint in (
            result.joints[model.position(v)] for v in ("limb_weakness", "marrow_infiltration")
        )
    )
    by_cause = [j.mean(axis=0) for j in (with_weakness, with_marrow)]
    shares = [j / np.maximum(j.sum(axis=1, keepdims=True), 1e-300) for j in by_cause]
    return (
        Choice(
            "lesion_action",
            tuple(a.name for a in u.actions),
            np.einsum("ncw,acw->na", with_weakness, lesion),
            np.einsum("cw,acw->ac", shares[0], lesion),
        ),
        Choice(
            "marrow_action",
            tuple(a.name for a in u.marrow_actions),
            np.einsum("ncm,am->na", with_marrow, marrow),
            np.einsum("cm,am->ac", shares[1], marrow),
        ),
    )


def decision_table(choices: Sequence[Choice]) -> pd.DataFrame:
    """How sure the decision is: in what share of the draws each option is the best one.

    Parameters
    ----------
    choices : sequence of Choice
        From :func:`decision_values`.

    Returns
    -------
    pandas.DataFrame
        Columns choice, option, best_in (share of the draws), value (mean), lower, upper (90 %
        interval of the value), regret (mean loss against the best option of each draw; that of the
        option with the largest mean value is its EVPI), draws; the largest mean value first.
    """
    import pandas as pd

    rows = []
    for choice in choices:
        v = choice.values
        lower, upper = interval(v)
        best = np.bincount(v.argmax(axis=1), minlength=v.shape[1]) / len(v)
        regret = (v.max(axis=1, keepdims=True) - v).mean(axis=0)
        rows += [
            (
                choice.name,
                choice.options[i],
                float(best[i]),
                float(v[:, i].mean()),
                float(lower[i]),
                float(upper[i]),
                float(regret[i]),
                len(v),
            )
            for i in np.argsort(-v.mean(axis=0), kind="stable")
        ]
    columns = "choice,option,best_in,value,lower,upper,regret,draws".split(",")
    return pd.DataFrame(rows, columns=columns)


def _arviz_1() -> bool:
    from importlib.metadata import version

    return int(version("arviz").split(".")[0]) >= 1
