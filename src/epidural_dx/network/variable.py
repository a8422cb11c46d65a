"""What a variable is: its states, its unit, its spellings, the cut-offs of its numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from epidural_dx.errors import ModelError

__all__ = ["GROUPS", "IDENTIFIER", "Interval", "Threshold", "Variable"]

#: What a variable may be about.
GROUPS = frozenset(
    {
        "patient",
        "condition",
        "history",
        "symptom",
        "examination",
        "laboratory",
        "imaging",
        "tissue",
        "target",
        "latent",
    }
)

#: Every name of a variable or state.
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval of the real line.

    Parameters
    ----------
    low, high : float
        The ends; infinite where the interval has none.
    low_closed, high_closed : bool
        Whether the end belongs to the interval.
    """

    low: float
    high: float
    low_closed: bool
    high_closed: bool

    @property
    def is_empty(self) -> bool:
        """Whether no number lies in the interval."""
        if self.low < self.high:
            return False
        return not (self.low == self.high and self.low_closed and self.high_closed)

    def overlaps(self, other: Interval) -> bool:
        """Say whether some number lies in both intervals.

        Parameters
        ----------
        other : Interval
            The other interval.

        Returns
        -------
        bool
            True if they share a number.
        """
        if self.low == other.low:
            low, low_closed = self.low, self.low_closed and other.low_closed
        else:
            upper = self if self.low > other.low else other
            low, low_closed = upper.low, upper.low_closed
        if self.high == other.high:
            high, high_closed = self.high, self.high_closed and other.high_closed
        else:
            lower = self if self.high < other.high else other
            high, high_closed = lower.high, lower.high_closed
        return not Interval(low, high, low_closed, high_closed).is_empty


@dataclass(frozen=True, slots=True)
class Threshold:
    """The numbers that make one state of a variable, for one sex and age band.

    Parameters
    ----------
    state : str
        The state.
    low, high : float
        The ends of its interval in ``unit``; infinite where it is open.
    unit : str
        The unit of both ends; empty for a pure number.
    sex : {'', 'female', 'male'}
        The sex it holds for; empty for both.
    age_low, age_high : float
        Ages in years it holds for, the lower included, the upper not.
    source_id : str
        The source of the cut-off.
    low_closed, high_closed : bool
        Whether an end belongs to the state.
    basis : {'absolute', 'limit', 'multiple'}
        ``absolute``: a fixed cut. ``limit``: the reference limit of the laboratory, which a limit
        sent with the result replaces. ``multiple``: a multiple of the upper limit, likewise.
    plausible_low, plausible_high : float
        Numbers outside are refused as slips of the unit or the pen.
    grade : str
        ``seen``, ``recalled``, ``derived`` or ``assumed``.
    note : str
        In words.
    """

    state: str
    low: float
    high: float
    unit: str = ""
    sex: str = ""
    age_low: float = 0.0
    age_high: float = math.inf
    source_id: str = ""
    low_closed: bool = True
    high_closed: bool = False
    basis: str = "absolute"
    plausible_low: float = -math.inf
    plausible_high: float = math.inf
    grade: str = "assumed"
    note: str = ""

    @property
    def interval(self) -> Interval:
        """The numbers of the state."""
        return Interval(self.low, self.high, self.low_closed, self.high_closed)


def _no_aliases() -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Variable:
    """One variable of the network.

    Parameters
    ----------
    name : str
        Identifier, such as ``platelets``.
    label : str
        For people, such as ``Platelet count``.
    states : tuple of str
        Identifiers from least to most; a yes/no variable has ``('absent', 'present')``.
    group : str
        One of `GROUPS`.
    kind : str
        How its table is made, such as ``finding`` or ``deterministic``; free for the network layer.
    unit : str or None
        The canonical unit of its numbers; None if it takes none.
    aliases : mapping of str to tuple of str
        Other spellings of states, each with the states it stands for.
    thresholds : tuple of Threshold
        The cut-offs of its numbers; empty if it takes none.
    description : str
        One or two sentences.
    latent : bool
        True if nothing at the bedside shows it directly.

    Raises
    ------
    ModelError
        If a name is no identifier, a state is doubled, the group is unknown, or an alias or a
        threshold names a state that does not exist.
    """

    name: str
    label: str
    states: tuple[str, ...]
    group: str = "condition"
    kind: str = "finding"
    unit: str | None = None
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=_no_aliases)
    thresholds: tuple[Threshold, ...] = ()
    description: str = ""
    latent: bool = False

    def __post_init__(self) -> None:
        """Check the names and freeze the mapping of aliases."""
        if not IDENTIFIER.match(self.name):
            raise ModelError("is not an identifier ([a-z][a-z0-9_]*)", name=self.name)
        states = tuple(self.states)
        object.__setattr__(self, "states", states)
        if len(states) < 2:
            raise ModelError("needs at least two states", name=self.name)
        for state in states:
            if not IDENTIFIER.match(state):
                raise ModelError(
                    f"state {state!r} is not an identifier ([a-z][a-z0-9_]*)", name=self.name
                )
        if len(set(states)) != len(states):
            raise ModelError("names a state twice", name=self.name)
        if self.group not in GROUPS:
            raise ModelError(
                f"group {self.group!r} is not one of {', '.join(sorted(GROUPS))}", name=self.name
            )
        aliases = {spelling: tuple(named) for spelling, named in self.aliases.items()}
        for spelling, named in aliases.items():
            for state in named:
                if state not in states:
                    raise ModelError(
                        f"alias {spelling!r} names the unknown state {state!r}", name=self.name
                    )
        object.__setattr__(self, "aliases", MappingProxyType(aliases))
        object.__setattr__(self, "thresholds", tuple(self.thresholds))
        for threshold in self.thresholds:
            if threshold.state not in states:
                raise ModelError(
                    f"a threshold names the unknown state {threshold.state!r}", name=self.name
                )

    @property
    def is_yes_no(self) -> bool:
        """Whether the states are ``absent`` and ``present``."""
        return self.states == ("absent", "present")

    def __hash__(self) -> int:
        """Hash by name and states (the mapping of aliases has no hash)."""
        return hash((self.name, self.states))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle and copy through the constructor (a mapping proxy cannot be pickled)."""
        return (
            type(self),
            (
                self.name,
                self.label,
                self.states,
                self.group,
                self.kind,
                self.unit,
                dict(self.aliases),
                self.thresholds,
                self.description,
                self.latent,
            ),
        )
