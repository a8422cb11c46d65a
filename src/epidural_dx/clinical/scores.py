"""The ISTH score of overt disseminated intravascular coagulation, from states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = ["ISTH_OVERT", "ISTH_POINTS", "isth_range"]

#: Points per state (Taylor and others, Thromb Haemost 2001;86:1327; fibrin marker 0, 2 or 3).
ISTH_POINTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "platelets": MappingProxyType(
            {"high": 0, "normal": 0, "low_100_149": 0, "low_50_99": 1, "very_low": 2}
        ),
        "d_dimer": MappingProxyType({"normal": 0, "raised": 2, "strongly_raised": 3}),
        "pt_prolongation": MappingProxyType({"under_3s": 0, "from_3_to_6s": 1, "over_6s": 2}),
        "fibrinogen": MappingProxyType({"normal": 0, "low": 0, "very_low": 1}),
    }
)

#: A score from here on is compatible with overt DIC.
ISTH_OVERT = 5


def isth_range(states: Mapping[str, Iterable[str]]) -> tuple[int, int]:
    """Return the least and the greatest score that fit what is known.

    .. math:: S = p_{platelets} + p_{fibrin} + p_{PT} + p_{fibrinogen}

    with 0 to 2, 0/2/3, 0 to 2 and 0 to 1 points.

    Parameters
    ----------
    states : mapping of str to iterable of str
        For each known component its possible states; a component that is missing may be anything.

    Returns
    -------
    tuple of int
        Least and greatest score, between 0 and 8.

    References
    ----------
    Taylor FB and others, Thromb Haemost 2001;86:1327 (the definition of the ISTH subcommittee).
    """
    least = greatest = 0
    for component, points in ISTH_POINTS.items():
        possible = [points[state] for state in states.get(component, points)]
        least += min(possible)
        greatest += max(possible)
    return least, greatest
