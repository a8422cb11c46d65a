r"""Published cohorts, as the model would have predicted them.

Posterior predictive check of the series that *were* fed in, and of the 36 published patients with
melanoma in the marrow: does the finished model, in which every figure meets all the others, still
give each series back?

For a figure of k among n patients and the share p that the model implies for the same people, k is
predicted as beta-binomial with mean np and the between-series correlation :math:`\rho` of
``priors/pooling.yaml`` (a = p(1 - ρ)/ρ, b = (1 - p)(1 - ρ)/ρ). The two-sided mid-p value
:math:`2 \min(F(k) - f(k)/2,\, 1 - F(k) + f(k)/2)` is near uniform if the model is right (Meng, Ann
Stat 1994;22:1142); small values are figures that the model does not give back.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from epidural_dx.analysis.literature_check import (
    ENTRY,
    Asked,
    ask_figure,
    descendants,
    implied_shares,
)

if TYPE_CHECKING:
    from epidural_dx.model import Model

#: A series that the model gives back worse than this deserves a look.
NOTABLE = 0.05
#: The patients of the review and where they stand below ``priors``.
PATIENTS = "patients/melanoma_marrow_infiltration.csv"


@dataclass(frozen=True)
class Tally:
    """How a count of the patients' table is read.

    Attributes
    ----------
    name : str
    columns : mapping of str to tuple of str
        A patient counts if any of the columns holds one of its values.
    variable, states
        What the model is asked for.
    states : tuple of str
    reported : bool
        Only mentioned when present, so the count is a lower bound.
    """

    name: str
    columns: Mapping[str, tuple[str, ...]]
    variable: str
    states: tuple[str, ...]
    reported: bool = True


_YES = ("1",)
#: Counts of the table that the model can be asked for.
TALLIES = (
    Tally("male", {"sex": ("male",)}, "sex", ("male",), reported=False),
    *(
        Tally(f"age {age.replace('age_', '').replace('_', ' ')}", {"age": (age,)}, "age_group",
              (age,), reported=False)
        for age in ("age_0_17", "age_18_39", "age_40_59", "age_60_plus")
    ),
    *(
        Tally(f"primary site {site}", {"primary_site": (site,)}, "melanoma_primary_site", (site,),
              reported=False)
        for site in ("skin", "ocular", "nasal", "occult")
    ),
    Tally("DIC", {"dic": _YES}, "hemostasis", ("dic",)),
    Tally(
        "anemia",
        {"anemia": _YES, "pancytopenia": _YES, "microangiopathic_hemolytic_anemia": _YES},
        "hemoglobin",
        ("mild_anemia", "severe_anemia"),
    ),
    Tally(
        "thrombocytopenia",
        {"thrombocytopenia": _YES, "pancytopenia": _YES},
        "platelets",
        ("low_100_149", "low_50_99", "very_low"),
    ),
    Tally("pancytopenia", {"pancytopenia": _YES}, "cytopenia_pattern", ("pancytopenia",)),
    Tally("leukoerythroblastic smear", {"leukoerythroblastic": _YES}, "smear",
          ("leukoerythroblastic",)),
    Tally("splenomegaly", {"splenomegaly": _YES}, "splenomegaly", ("present",)),
    Tally("hepatomegaly", {"hepatomegaly": _YES}, "hepatomegaly", ("present",)),
    Tally("petechiae", {"petechiae": _YES}, "ecchymosis_petechiae", ("present",)),
    Tally("mucosal bleeding", {"mucosal_bleeding": _YES}, "mucosal_bleeding", ("present",)),
)


def marrow_melanoma(model: Model) -> list[dict[str, Any]]:
    """Set the 36 published patients beside patients whom the model thinks like them.

    Parameters
    ----------
    model : Model
        Asked about people with melanoma in the marrow, with or without a lesion.

    Returns
    -------
    list of dict
        ``quantity``, ``k``, ``n``, ``share``, ``implied``, ``p`` (two-sided mid-p; one-sided, only
        where the model implies too little, for what reports mention only when present), and
        ``lower_bound`` (such a count).
    """
    path = model._priors / PATIENTS
    with path.open(encoding="utf-8", newline="") as handle:
        patients = list(csv.DictReader(handle))
    for patient in patients:
        patient["age"] = _age_group(patient["age"])
    asked = [
        Asked(
            figure={},
            scenario=model.scenario,
            population=t.variable not in descendants(model.built, "etiology"),
            given={"marrow_disease": ("melanoma",)},
            event={t.variable: t.states},
            share=0.0,
            patients=1.0,
        )
        for t in TALLIES
    ]
    rows = []
    rho = model.literature.settings.correlation
    for tally, implied in zip(TALLIES, implied_shares(model, asked), strict=True):
        k = sum(
            any(patient[column] in values for column, values in tally.columns.items())
            for patient in patients
        )
        n = len(patients)
        low, high = tails(k, n, float(implied or 0.0), rho)
        rows.append(
            {
                "quantity": tally.name,
                "k": k,
                "n": n,
                "share": k / n,
                "implied": implied,
                # fewer than implied may just not have been written down
                "p": high if tally.reported else min(1.0, 2 * min(low, high)),
                "lower_bound": tally.reported,
            }
        )
    return rows


def _age_group(age: str) -> str:
    """Age group of an age in years as the table prints it, empty where it prints none."""
    try:
        years = float(age)
    except ValueError:
        return ""
    for limit, group in ((18, "age_0_17"), (40, "age_18_39"), (60, "age_40_59")):
        if years < limit:
            return group
    return "age_60_plus"


def pooled_series(model: Model) -> list[dict[str, Any]]:
    """Predict every counted series that was fed in, worst first.

    Parameters
    ----------
    model : Model

    Returns
    -------
    list of dict
        ``id``, ``variable``, ``states``, ``given``, ``given_states``, ``k``, ``n``, ``share``,
        ``implied``, ``p`` (two-sided mid-p), ``source``. Only rows of cases that were read in the
        source, with a denominator, about variables of the model.
    """
    after = descendants(model.built, "etiology")
    used = model.built.used_rows
    figures = [
        f
        for f in model.literature.figures
        if f.use == "pool"
        and f.id in used
        and f.role == "case"
        and f.verified == "seen"
        and f.n
        and f.proportion is not None
        and 0 <= f.proportion <= 1
        # some rows feed several tables at once and stand for no one variable
        and f.variable in model.variables
        and (f.given in model.variables or f.given in ("", ENTRY))
    ]
    asked = [ask_figure(model, figure, "pooled", after) for figure in figures]
    rho = model.literature.settings.correlation
    rows = []
    for figure, one, implied in zip(figures, asked, implied_shares(model, asked), strict=True):
        if implied is None:
            continue
        assert figure.n is not None and figure.proportion is not None
        n = max(1, round(figure.n))
        k = min(n, round(figure.proportion * n))
        low, high = tails(k, n, implied, rho)
        source = model.literature.sources.get(figure.source_id)
        rows.append(
            {
                "id": figure.id,
                "variable": figure.variable,
                "states": list(figure.states),
                "given": figure.given,
                "given_states": list(figure.given_states),
                "people": one.figure["people"],
                "k": k,
                "n": n,
                "share": figure.proportion,
                "implied": implied,
                "p": min(1.0, 2 * min(low, high)),
                "source": (source.citation if source else "") or figure.source_id,
            }
        )
    return sorted(rows, key=lambda row: (row["p"], row["id"]))


def tails(k: int, n: int, mean: float, correlation: float) -> tuple[float, float]:
    """Mid-p tail probabilities of k of n under a beta-binomial distribution.

    Parameters
    ----------
    k, n : int
    mean : float
        Expected share.
    correlation : float
        Between-series correlation, 0 for a plain binomial distribution.

    Returns
    -------
    lower, upper : float
        P(K < k) + P(K = k)/2 and P(K > k) + P(K = k)/2; they sum to 1.
    """
    from scipy.stats import betabinom, binom

    inside = min(max(mean, 1e-9), 1 - 1e-9)
    if correlation <= 0:
        distribution: Any = binom(n, inside)
    else:
        scale = (1 - correlation) / correlation
        distribution = betabinom(n, inside * scale, (1 - inside) * scale)
    here = float(distribution.pmf(k))
    below = float(distribution.cdf(k)) - here
    lower = min(1.0, max(0.0, below + here / 2))
    return lower, 1.0 - lower


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Count the series by how well they are given back.

    Returns
    -------
    dict
        ``n``, ``median_p``, ``below`` (number with p below :data:`NOTABLE`), ``share_below``
        and ``expected`` (the share expected of a model that is right).
    """
    if not rows:
        return {"n": 0, "median_p": None, "below": 0, "share_below": None, "expected": NOTABLE}
    p = np.array([row["p"] for row in rows])
    return {
        "n": len(rows),
        "median_p": float(np.median(p)),
        "below": int((p < NOTABLE).sum()),
        "share_below": float((p < NOTABLE).mean()),
        "expected": NOTABLE,
    }
