"""What the tables of a model rest on: pooled columns by grade, cause and finding; the weakest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epidural_dx.literature.pooling import GRADES
from epidural_dx.network.build import Built

#: Columns with these conditioning variables belong to a cause of the lesion.
_OF_THE_LESION = ("lesion_subtype", "lesion_cause", "etiology")

#: Where a column belongs that is conditioned on something else than the lesion.
CONDITIONS = "(conditions)"


@dataclass(frozen=True)
class Coverage:
    """Pooled columns of one group by grade.

    Attributes
    ----------
    name : str
        A cause or a finding.
    grades : mapping of str to int
        Number of columns by grade, every grade present.
    ess : float
        Median effective sample size of the columns.
    rows : int
        Literature rows that fed them.
    """

    name: str
    grades: Mapping[str, int]
    ess: float
    rows: int

    @property
    def columns(self) -> int:
        """Number of columns."""
        return sum(self.grades.values())

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "name": self.name,
            "columns": self.columns,
            **self.grades,
            "median_ess": self.ess,
            "literature_rows": self.rows,
        }


@dataclass(frozen=True)
class WeakSpot:
    """One column that much rests on and that rests on little.

    Attributes
    ----------
    variable, given, state, context : str
        The column P(variable | given = state).
    grade : str
    ess : float
        Effective sample size, in patients.
    use : float
        Bits about the cause that the finding brings before any evidence, times the probability
        of the given state: how often, and how much, answers lean on the column.
    """

    variable: str
    given: str
    state: str
    context: str
    grade: str
    ess: float
    use: float

    @property
    def weakness(self) -> float:
        """Bits per effective patient."""
        return self.use / self.ess

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "variable": self.variable,
            "given": self.given,
            "state": self.state,
            "context": self.context,
            "grade": self.grade,
            "ess": self.ess,
            "use_bits": self.use,
            "bits_per_patient": self.weakness,
        }


def coverage_by_cause(built: Built) -> list[Coverage]:
    """Columns by cause of the lesion; columns of conditions stand under :data:`CONDITIONS`."""
    causes = built.structure.nodes["lesion_cause"].states
    owner = {cause: cause for cause in causes}
    owner |= {m.name: m.cause for m in built.structure.mechanisms.values()}
    for cause, subtypes in built.structure.subtypes.items():
        owner |= {subtype: cause for subtype in subtypes}
    groups: dict[str, list[Any]] = {cause: [] for cause in causes}
    groups[CONDITIONS] = []
    for (_, given, state, _), column in built.columns.items():
        name = owner.get(state, CONDITIONS) if given in _OF_THE_LESION else CONDITIONS
        groups[name].append(column)
    return [_coverage(name, columns) for name, columns in groups.items() if columns]


def coverage_by_variable(built: Built) -> list[Coverage]:
    """Columns by the variable whose distribution they give, in the order of the network."""
    groups: dict[str, list[Any]] = {name: [] for name in built.structure.nodes}
    for (variable, _, _, _), column in built.columns.items():
        groups.setdefault(variable, []).append(column)
    return [_coverage(name, columns) for name, columns in groups.items() if columns]


def total_coverage(built: Built) -> Coverage:
    """All columns together."""
    return _coverage("all", list(built.columns.values()))


def weakest_spots(
    built: Built,
    marginals: Mapping[str, Sequence[float]],
    information: Mapping[str, float],
    count: int = 10,
) -> list[WeakSpot]:
    """Columns with the most use per effective patient.

    Parameters
    ----------
    built : Built
    marginals : mapping of str to sequence of float
        Distribution of every variable before any evidence.
    information : mapping of str to float
        Bits that every variable brings about the cause of the lesion before any evidence.
    count : int
        How many.

    Returns
    -------
    list of WeakSpot
        Weakest first. Columns of parameters that are no variable of the network (shares, error
        rates) have no information of their own and do not compete.
    """
    nodes = built.structure.nodes
    spots = []
    for (variable, given, state, context), column in built.columns.items():
        if variable not in information or given not in nodes or state not in nodes[given].states:
            continue
        chance = float(marginals[given][nodes[given].states.index(state)])
        spots.append(
            WeakSpot(
                variable=variable,
                given=given,
                state=state,
                context=context,
                grade=column.grade,
                ess=float(column.ess),
                use=chance * information[variable],
            )
        )
    spots.sort(key=lambda s: (-s.weakness, s.variable, s.given, s.state, s.context))
    # the shares of one distribution (prevalences) are one spot
    first = {(s.variable, s.given, s.state): s for s in reversed(spots)}
    return [s for s in spots if first[s.variable, s.given, s.state] is s][:count]


def _coverage(name: str, columns: Iterable[Any]) -> Coverage:
    listed = list(columns)
    sizes = sorted(float(c.ess) for c in listed)
    middle = len(sizes) // 2
    median = sizes[middle] if len(sizes) % 2 else (sizes[middle - 1] + sizes[middle]) / 2
    return Coverage(
        name=name,
        grades={g: sum(c.grade == g for c in listed) for g in GRADES},
        ess=median,
        rows=len({row for c in listed for row in c.rows}),
    )
