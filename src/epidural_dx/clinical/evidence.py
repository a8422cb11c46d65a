"""What was written about a patient, read into likelihoods over the states of variables.

Nothing is silently dropped: every finding becomes weights, or a note that it is not known, or an
`EvidenceError` with one sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from epidural_dx.clinical.aliases import Aliases, NameAlias
from epidural_dx.clinical.amounts import Amount, amount_of, parse_amount
from epidural_dx.clinical.display import is_unknown, plain, shown, words
from epidural_dx.clinical.measurement import (
    Measured,
    Measurement,
    UnreadableUnitError,
    amount_in,
    limit_in,
)
from epidural_dx.clinical.notes import RoutineNote
from epidural_dx.clinical.scores import ISTH_OVERT, ISTH_POINTS, isth_range
from epidural_dx.clinical.spelling import (
    american,
    nearest,
    normal_form,
    states_of,
    yaml_number_trap,
)
from epidural_dx.clinical.thresholds import SEXES, Patient
from epidural_dx.clinical.units import Units
from epidural_dx.errors import EvidenceError
from epidural_dx.network.variable import Interval, Variable

__all__ = ["Entry", "Evidence", "canonical_name", "read_evidence"]

_VALUE_KEYS = frozenset({"value", "unit", "comparator", "state", "lower_limit", "upper_limit"})


@dataclass(frozen=True)
class Entry:
    """How one variable's evidence was read.

    Parameters
    ----------
    variable : str
        The variable.
    raw : object
        The value as given; a mapping of spelling to value if the variable was given twice.
    text : str
        For display, such as ``24 ×10⁹/L → very_low``.
    states : tuple of str
        The states that remain possible.
    kind : {'state', 'states', 'not', 'likelihood', 'number', 'bound'}
        The form in which it was given.
    value : float or None
        A plain number in `unit`; None for bounds and words.
    unit : str or None
        The unit of `value`.
    """

    variable: str
    raw: object
    text: str
    states: tuple[str, ...]
    kind: str
    value: float | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Evidence:
    """Evidence that a network can take.

    Parameters
    ----------
    likelihoods : mapping of str to tuple of float
        For each observed variable one weight per state, in the variable's order: 1 for possible
        and 0 for excluded states, or the numbers given as likelihood. Not normalised.
    entries : mapping of str to Entry
        For each observed variable how it was read.
    notes : tuple of str
        Conversions, aliases, defaults and what is not known, in the order of the findings; plain
        conversions and other names are a :class:`~epidural_dx.clinical.notes.RoutineNote`.
    unknown : tuple of str
        Variables that were named as not known.
    """

    likelihoods: Mapping[str, tuple[float, ...]]
    entries: Mapping[str, Entry]
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of observed variables."""
        return len(self.likelihoods)

    @property
    def informative(self) -> tuple[str, ...]:
        """Variables whose weights differ between states (the others say nothing)."""
        return tuple(
            name for name, weights in self.likelihoods.items() if min(weights) != max(weights)
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle through plain dictionaries (batches run in other processes)."""
        return (
            _rebuild,
            (dict(self.likelihoods), dict(self.entries), self.notes, self.unknown),
        )


def _rebuild(
    likelihoods: dict[str, tuple[float, ...]],
    entries: dict[str, Entry],
    notes: tuple[str, ...],
    unknown: tuple[str, ...],
) -> Evidence:
    return Evidence(MappingProxyType(likelihoods), MappingProxyType(entries), notes, unknown)


def canonical_name(
    name: str, variables: Mapping[str, Variable], aliases: Aliases | None = None
) -> str | None:
    """Return the variable that a spelling stands for.

    Parameters
    ----------
    name : str
        As written.
    variables : mapping of str to Variable
        The variables of the network.
    aliases : Aliases, optional
        Other names.

    Returns
    -------
    str or None
        The variable; a finding of `Aliases.rewrites` stands for itself; None if unknown.
    """
    if name in variables:
        return name
    table = aliases or Aliases()
    for spelled in (normal_form(name), american(normal_form(name))):
        if spelled in variables or spelled in table.rewrites:
            return spelled
        alias = _alias(spelled, table)
        if alias is not None and alias.variable in variables:
            return alias.variable
    return None


def _alias(spelled: str, aliases: Aliases) -> NameAlias | None:
    alias = aliases.variables.get(spelled)
    if alias is None and spelled == "age_years":
        # The interface promises this name, with or without a file of aliases.
        return NameAlias("age_group", "years")
    return alias


def read_evidence(
    raw: Mapping[str, object],
    variables: Mapping[str, Variable],
    *,
    units: Units | None = None,
    aliases: Aliases | None = None,
    where: str | None = None,
) -> Evidence:
    """Read findings into evidence.

    Parameters
    ----------
    raw : mapping of str to object
        Spelling of a variable to one of: a state or an alias of states; True, False, yes, no; a
        number (canonical unit) or text with a number and a unit, a bound or a range; a list of
        these (one of them); ``{"not": ...}``; ``{"likelihood": {state: weight}}`` that names every
        state; ``{"value", "unit", "comparator", "state", "lower_limit", "upper_limit"}``; ``a|b``
        and ``!a`` as on the command line; None or "unknown" for not known.
    variables : mapping of str to Variable
        The variables, with cut-offs and aliases (see `complete_variables`).
    units : Units, optional
        Spellings of units; without it only the units of the cut-offs are understood.
    aliases : Aliases, optional
        Other names of variables.
    where : str, optional
        Where the findings came from, for errors.

    Returns
    -------
    Evidence
        The weights and how each was read.

    Raises
    ------
    EvidenceError
        If anything is unknown, misspelt, implausible or contradictory.
    """
    try:
        return _Reader(variables, units, aliases or Aliases()).read(raw)
    except UnreadableUnitError as error:
        raise EvidenceError(
            error.problem,
            variable=error.variable,
            value=error.value,
            allowed=error.allowed,
            nearest=error.nearest,
            where=where,
        ) from error
    except EvidenceError as error:
        if where and error.where is None:
            raise error.located(where) from error
        raise


@dataclass(frozen=True, slots=True)
class _Reading:
    """One finding: weights, how it was given, and for numbers what the number was."""

    weights: tuple[float, ...]
    kind: str
    text: str
    notes: tuple[str, ...] = ()
    value: float | None = None
    unit: str | None = None
    interval: Interval | None = None

    @property
    def is_hard(self) -> bool:
        return self.kind != "likelihood"

    def with_notes(self, *notes: str) -> _Reading:
        return replace(self, notes=(*self.notes, *notes))


class _Reader:
    """Reads the findings of one patient."""

    def __init__(
        self, variables: Mapping[str, Variable], units: Units | None, aliases: Aliases
    ) -> None:
        self.variables = variables
        self.units = units
        self.aliases = aliases
        self.patient = Patient()

    def read(self, raw: Mapping[str, object]) -> Evidence:
        if not isinstance(raw, Mapping):
            raise EvidenceError(
                f"evidence must map variables to values, not be a {type(raw).__name__}", value=raw
            )
        notes: list[str] = []
        found: dict[str, list[tuple[str, object, NameAlias | None]]] = {}
        for key, value in raw.items():
            self._place(key, value, found, notes)
        readings: dict[str, list[tuple[str, object, _Reading]]] = {}
        unknown: list[str] = []
        first = [name for name in ("age_group", "sex") if name in found]
        for name in [*first, *(name for name in found if name not in first)]:
            for spelled, value, alias in found[name]:
                reading = self._read_one(name, spelled, value, alias)
                if reading is None:
                    notes.append(f"{spelled}: not known")
                    if name not in unknown:
                        unknown.append(name)
                else:
                    readings.setdefault(name, []).append((spelled, value, reading))
            if name in first and name in readings:
                self._learn(name, readings[name])
        likelihoods: dict[str, tuple[float, ...]] = {}
        entries: dict[str, Entry] = {}
        for name in found:
            if name in readings:
                likelihoods[name], entries[name] = self._merge(name, readings[name], notes)
        self._check_score(entries)
        return Evidence(
            MappingProxyType(likelihoods),
            MappingProxyType(entries),
            tuple(dict.fromkeys(notes)),
            tuple(name for name in unknown if name not in likelihoods),
        )

    # Names ---------------------------------------------------------------------------------------

    def _place(
        self,
        key: object,
        value: object,
        found: dict[str, list[tuple[str, object, NameAlias | None]]],
        notes: list[str],
    ) -> None:
        if not isinstance(key, str):
            raise EvidenceError(f"a variable's name must be text, not {key!r}", value=key)
        name = canonical_name(key, self.variables, self.aliases)
        if name is None:
            raise self._unknown_variable(key, value)
        if name in self.aliases.rewrites and name not in self.variables:
            for target, meant in self._rewrite(key, name, value, notes).items():
                found.setdefault(target, []).append((key, meant, None))
            return
        alias = None
        if key != name:
            spelled = normal_form(key)
            alias = _alias(spelled, self.aliases) or _alias(american(spelled), self.aliases)
            notes.append(RoutineNote(f"{key} read as {name}"))
        found.setdefault(name, []).append((key, value, alias))

    def _rewrite(
        self, key: str, name: str, value: object, notes: list[str]
    ) -> Mapping[str, object]:
        table = self.aliases.rewrites[name]
        if is_unknown(value):
            notes.append(f"{key}: not known")
            return {}
        word = {True: "present", False: "absent"}.get(value) if isinstance(value, bool) else value
        stand_in = Variable(name=name, label=name, states=("absent", "present"))
        states = states_of(stand_in, word) if isinstance(word, str) else None
        if states is None or len(states) != 1 or states[0] not in table:
            raise EvidenceError(
                f"{value!r} is not a state of this finding",
                variable=key,
                value=value,
                allowed=tuple(table),
            )
        findings = table[states[0]]
        said = ", ".join(f"{target}={words(meant)}" for target, meant in findings.items())
        notes.append(RoutineNote(f"{key}={states[0]} read as {said}"))
        return findings

    def _unknown_variable(self, key: str, value: object) -> EvidenceError:
        spelled = american(normal_form(key))
        known = {**dict.fromkeys(self.variables), **dict.fromkeys(self.aliases.variables)}
        close = [
            name if name in self.variables else self.aliases.variables[name].variable
            for name in nearest(spelled, known, 3)
        ]
        return EvidenceError(
            "is not a variable of the model",
            variable=key,
            value=value,
            allowed=tuple(self.variables),
            nearest=tuple(dict.fromkeys(close)),
        )

    # Values --------------------------------------------------------------------------------------

    def _read_one(
        self, name: str, spelled: str, value: object, alias: NameAlias | None
    ) -> _Reading | None:
        variable = self.variables[name]
        value = plain(value)
        if is_unknown(value) and not (
            isinstance(value, str) and states_of(variable, value) is not None
        ):
            return None
        reading = self._value(variable, spelled, value, alias)
        if not any(reading.weights):
            raise EvidenceError(
                f"{shown(value)} leaves no state possible",
                variable=spelled,
                value=value,
                allowed=variable.states,
            )
        extra: tuple[str, ...] = ()
        if variable.latent:
            extra = (f"{name} is a latent variable: no test shows it directly",)
        elif min(reading.weights) == max(reading.weights):
            extra = (f"{name}: {shown(value)} leaves every state possible and says nothing",)
        return reading.with_notes(*extra)

    def _value(
        self, variable: Variable, spelled: str, value: object, alias: NameAlias | None
    ) -> _Reading:
        if isinstance(value, Mapping):
            return self._mapping(variable, spelled, value, alias)
        if isinstance(value, list | tuple | AbstractSet):
            return self._one_of(variable, spelled, value, alias)
        if isinstance(value, str):
            return self._text(variable, spelled, value, alias)
        if isinstance(value, bool):
            word = "yes" if value else "no"
            states = states_of(variable, word)
            if states is None:
                raise self._not_a_state(variable, spelled, value)
            return self._of_states(variable, states, word, value)
        if isinstance(value, int | float):
            return self._bare_number(variable, spelled, value, alias)
        raise EvidenceError(
            f"a {type(value).__name__} is not a value of evidence",
            variable=spelled,
            value=value,
            allowed=variable.states,
        )

    def _bare_number(
        self, variable: Variable, spelled: str, value: int | float, alias: NameAlias | None
    ) -> _Reading:
        if not math.isfinite(value):
            raise EvidenceError(f"{value} is not a number", variable=spelled, value=value)
        if isinstance(value, int):
            state = yaml_number_trap(variable, value)
            if state is not None:
                written = "_".join(part for part in state.split("_") if part.isdigit())
                note = (
                    f"{spelled}: the number {value} is {written} as YAML reads it without quotes; "
                    f"read as {state}"
                )
                return replace(self._of_states(variable, (state,), state, state), notes=(note,))
        if not variable.thresholds and value in (0, 1) and variable.is_yes_no:
            word = "yes" if value else "no"
            reading = self._of_states(variable, states_of(variable, word) or (), word, word)
            return replace(reading, notes=(RoutineNote(f"{spelled}: {value} read as {word}"),))
        amount = amount_of(float(value))
        assert amount is not None
        return self._amount(variable, spelled, value, amount, alias)

    def _text(
        self, variable: Variable, spelled: str, text: str, alias: NameAlias | None
    ) -> _Reading:
        bare = text.strip()
        if not bare:
            raise EvidenceError("is empty", variable=spelled, value=text, allowed=variable.states)
        if bare[0] == "!" or bare.casefold().startswith("not "):
            rest = bare.removeprefix("!").strip() if bare[0] == "!" else bare[4:].strip()
            return self._not(variable, spelled, rest.split("|"), text)
        if "|" in bare:
            return self._one_of(variable, spelled, bare.split("|"), alias)
        states = states_of(variable, bare)
        if states is not None:
            return self._of_states(variable, states, bare, text)
        amount = parse_amount(bare)
        if amount is not None and (variable.thresholds or not _looks_like_state(bare)):
            return self._amount(variable, spelled, text, amount, alias)
        raise self._not_a_state(variable, spelled, text)

    def _of_states(
        self, variable: Variable, states: Sequence[str], word: str, value: object
    ) -> _Reading:
        exact = len(states) == 1 and normal_form(word) == states[0]
        said = " or ".join(states)
        note = RoutineNote(f"{variable.name}: {word} = {said}")
        notes = () if exact or isinstance(value, bool) else (note,)
        return _Reading(
            weights=_indicator(variable, states),
            kind="state" if len(states) == 1 else "states",
            text=said if exact or isinstance(value, bool) else f"{word} → {said}",
            notes=notes,
        )

    def _one_of(
        self, variable: Variable, spelled: str, values: Any, alias: NameAlias | None
    ) -> _Reading:
        parts: list[_Reading] = []
        for value in values:
            value = plain(value)
            if isinstance(value, Mapping) and not _VALUE_KEYS.issuperset(value):
                raise EvidenceError(
                    f"{shown(value)} cannot stand in a list of possible states",
                    variable=spelled,
                    value=value,
                )
            if is_unknown(value) and not (
                isinstance(value, str) and states_of(variable, value) is not None
            ):
                raise EvidenceError(
                    f"{shown(value)} cannot stand in a list of possible states",
                    variable=spelled,
                    value=value,
                    allowed=variable.states,
                )
            if isinstance(value, list | tuple | AbstractSet):
                raise EvidenceError(
                    "a list cannot stand in a list of possible states",
                    variable=spelled,
                    value=value,
                )
            parts.append(self._value(variable, spelled, value, alias))
        if not parts:
            raise EvidenceError(
                "an empty list leaves no state possible",
                variable=spelled,
                value=values,
                allowed=variable.states,
            )
        if len(parts) == 1:
            return parts[0]
        weights = tuple(max(column) for column in zip(*(p.weights for p in parts), strict=True))
        return _Reading(
            weights=weights,
            kind="states",
            text=" or ".join(dict.fromkeys(part.text for part in parts)),
            notes=tuple(note for part in parts for note in part.notes),
        )

    def _not(
        self, variable: Variable, spelled: str, values: Sequence[object], raw: object
    ) -> _Reading:
        excluded: set[str] = set()
        for value in values:
            value = plain(value)
            states = None
            if isinstance(value, bool):
                states = states_of(variable, "yes" if value else "no")
            elif isinstance(value, str) and value.strip():
                states = states_of(variable, value)
            if states is None:
                raise self._not_a_state(variable, spelled, value)
            excluded.update(states)
        if not excluded:
            raise EvidenceError(
                "not of nothing says nothing", variable=spelled, value=raw, allowed=variable.states
            )
        remaining = tuple(state for state in variable.states if state not in excluded)
        said = " or ".join(state for state in variable.states if state in excluded)
        if not remaining:
            raise EvidenceError(
                f"not {said} leaves no state possible",
                variable=spelled,
                value=raw,
                allowed=variable.states,
            )
        return _Reading(_indicator(variable, remaining), "not", f"not {said}")

    def _mapping(
        self,
        variable: Variable,
        spelled: str,
        value: Mapping[Any, object],
        alias: NameAlias | None,
    ) -> _Reading:
        if not value:
            raise EvidenceError(
                "an empty mapping says nothing",
                variable=spelled,
                value=value,
                allowed=("not", "likelihood", "value", "state"),
            )
        keys = set(value)
        if keys == {"not"}:
            inner = plain(value["not"])
            values = inner if isinstance(inner, list | tuple | AbstractSet) else [inner]
            split = [
                part
                for one in values
                for part in (one.split("|") if isinstance(one, str) else [one])
            ]
            return self._not(variable, spelled, split, value)
        if keys == {"likelihood"}:
            return self._likelihood(variable, spelled, plain(value["likelihood"]))
        if keys <= _VALUE_KEYS and keys & {"value", "state"}:
            return self._value_with_unit(variable, spelled, value, alias)
        if {str(key) for key in keys} <= set(variable.states):
            raise EvidenceError(
                f"weights of states need the word likelihood: "
                f"{{likelihood: {{{', '.join(f'{k}: {v}' for k, v in value.items())}}}}}",
                variable=spelled,
                value=value,
            )
        odd = sorted(str(key) for key in keys - _VALUE_KEYS - {"not", "likelihood"})
        problem = (
            f"the key {odd[0]!r} has no meaning here"
            if odd
            else f"the keys {', '.join(sorted(map(str, keys)))} do not belong together"
        )
        raise EvidenceError(
            problem,
            variable=spelled,
            value=value,
            allowed=("not", "likelihood", *sorted(_VALUE_KEYS)),
            nearest=nearest(odd[0], ("not", "likelihood", *_VALUE_KEYS), 1) if odd else (),
        )

    def _likelihood(self, variable: Variable, spelled: str, given: object) -> _Reading:
        if not isinstance(given, Mapping) or not given:
            raise EvidenceError(
                "a likelihood must map every state to a weight",
                variable=spelled,
                value=given,
                allowed=variable.states,
            )
        weights: dict[str, float] = {}
        for word, raw in given.items():
            if isinstance(word, bool):
                word = "yes" if word else "no"
            states = states_of(variable, word) if isinstance(word, str) else None
            if states is None:
                raise self._not_a_state(variable, spelled, word)
            weight = plain(raw)
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise EvidenceError(
                    f"the weight {weight!r} of {word} is not a number",
                    variable=spelled,
                    value=given,
                )
            if not math.isfinite(weight) or weight < 0:
                raise EvidenceError(
                    f"the weight {weight!r} of {word} is not a number from 0 up",
                    variable=spelled,
                    value=given,
                )
            for state in states:
                if state in weights:
                    raise EvidenceError(
                        f"the likelihood names {state} twice", variable=spelled, value=given
                    )
                weights[state] = float(weight)
        missing = [state for state in variable.states if state not in weights]
        if missing:
            raise EvidenceError(
                f"the likelihood lacks {', '.join(missing)}",
                variable=spelled,
                value=given,
                allowed=variable.states,
            )
        if not any(weights.values()):
            raise EvidenceError("every weight is zero", variable=spelled, value=given)
        return _Reading(
            weights=tuple(weights[state] for state in variable.states),
            kind="likelihood",
            text="likelihood "
            + ", ".join(f"{state} {weights[state]:g}" for state in variable.states),
        )

    # Numbers -------------------------------------------------------------------------------------

    def _value_with_unit(
        self,
        variable: Variable,
        spelled: str,
        given: Mapping[Any, object],
        alias: NameAlias | None,
    ) -> _Reading:
        stated = self._stated(variable, spelled, given, alias)
        if is_unknown(plain(given.get("value"))):
            if stated is None:
                raise EvidenceError("has a unit but no value", variable=spelled, value=dict(given))
            return stated
        if stated is not None and not variable.thresholds:
            return stated.with_notes(
                f"{spelled}: the number is not used, {variable.name} takes states only"
            )
        measurement = Measurement(variable, spelled, dict(given), self.units, self.patient)
        remark = ""
        try:
            amount, remark = amount_in(spelled, given)
            measured = measurement.read(
                amount,
                alias,
                limit_in(spelled, given, "lower_limit"),
                limit_in(spelled, given, "upper_limit"),
            )
        except EvidenceError as error:
            # Published cases carry units such as "as printed": their stated state then counts.
            if stated is None or not (remark or isinstance(error, UnreadableUnitError)):
                raise
            return stated.with_notes(
                f"{spelled}: {error.problem}; the stated {stated.text} is used"
            )
        reading = _of_measured(variable, measured)
        if remark:
            reading = reading.with_notes(f"{spelled}: remark in the unit: {remark}")
        if stated is None:
            return reading
        both = tuple(a and b for a, b in zip(reading.weights, stated.weights, strict=True))
        if any(both):
            states = _possible(variable, both)
            text = f"{measured.text} → {' or '.join(states)}"
            return replace(reading, weights=_indicator(variable, states), text=text)
        said = frozenset(_possible(variable, stated.weights))
        if remark or measurement.is_near_limit(measured, said):
            why = f"with the remark {remark!r}" if remark else "the laboratory's limit may differ"
            return stated.with_notes(
                f"{spelled}: {reading.text}, but stated as {stated.text} ({why}); "
                "the stated state is used"
            )
        raise EvidenceError(
            f"the value means {reading.text}, but the state says {stated.text}",
            variable=spelled,
            value=dict(given),
        )

    def _stated(
        self,
        variable: Variable,
        spelled: str,
        given: Mapping[Any, object],
        alias: NameAlias | None,
    ) -> _Reading | None:
        value = plain(given.get("state"))
        if is_unknown(value) and not (
            isinstance(value, str) and states_of(variable, value) is not None
        ):
            return None
        if isinstance(value, Mapping):
            raise EvidenceError(
                "a state must be a word or a list of words", variable=spelled, value=dict(given)
            )
        return self._value(variable, spelled, value, alias)

    def _amount(
        self,
        variable: Variable,
        spelled: str,
        value: object,
        amount: Amount,
        alias: NameAlias | None,
    ) -> _Reading:
        measurement = Measurement(variable, spelled, value, self.units, self.patient)
        return _of_measured(variable, measurement.read(amount, alias))

    # Patient, merging, logic ---------------------------------------------------------------------

    def _learn(self, name: str, readings: Sequence[tuple[str, object, _Reading]]) -> None:
        variable = self.variables[name]
        if name == "sex":
            possible = [
                state
                for index, state in enumerate(variable.states)
                if all(reading.weights[index] for _, _, reading in readings)
            ]
            sexes = tuple(state for state in possible if state in SEXES)
            if sexes:
                self.patient = replace(self.patient, sexes=sexes)
            return
        exact = [r.interval for _, _, r in readings if r.interval is not None]
        if exact:
            self.patient = replace(self.patient, ages=(exact[0],), age_known=True)
            return
        bands = {row.state: row.interval for row in variable.thresholds}
        ages = tuple(
            Interval(max(bands[state].low, 0.0), bands[state].high, True, False)
            for index, state in enumerate(variable.states)
            if state in bands and all(reading.weights[index] for _, _, reading in readings)
        )
        if ages:
            self.patient = replace(self.patient, ages=ages, age_known=True)

    def _merge(
        self, name: str, readings: Sequence[tuple[str, object, _Reading]], notes: list[str]
    ) -> tuple[tuple[float, ...], Entry]:
        variable = self.variables[name]
        for _, _, reading in readings:
            notes.extend(reading.notes)
        spelled, raw, reading = readings[0]
        weights = reading.weights
        if len(readings) == 1:
            return weights, _entry(variable, raw, reading, weights)
        given = " and ".join(f"{key} = {shown(value)}" for key, value, _ in readings)
        if sum(not one.is_hard for _, _, one in readings) > 1:
            raise EvidenceError(
                f"two likelihoods for one variable ({given})",
                variable=name,
                value=dict(_raws(readings)),
            )
        for _, _, other in readings[1:]:
            weights = tuple(a * b for a, b in zip(weights, other.weights, strict=True))
        if not any(weights):
            raise EvidenceError(
                f"contradictory evidence: {given}",
                variable=name,
                value=dict(_raws(readings)),
            )
        exact = next((one for _, _, one in readings if one.value is not None), reading)
        notes.append(f"{name}: {given} taken together")
        texts = "; ".join(dict.fromkeys(one.text for _, _, one in readings))
        return weights, replace(_entry(variable, dict(_raws(readings)), exact, weights), text=texts)

    def _check_score(self, entries: Mapping[str, Entry]) -> None:
        score = entries.get("dic_isth_score")
        if score is None or set(score.states) - {"below_5", "at_least_5"}:
            return
        known: dict[str, tuple[str, ...]] = {}
        for component, points in ISTH_POINTS.items():
            variable = self.variables.get(component)
            if variable is None or not set(variable.states) <= set(points):
                return
            if component in entries:
                known[component] = entries[component].states
        least, greatest = isth_range(known)
        if score.value is not None:
            fits = least <= score.value <= greatest
            said = f"{score.value:g}"
        else:
            fits = ("below_5" in score.states and least < ISTH_OVERT) or (
                "at_least_5" in score.states and greatest >= ISTH_OVERT
            )
            said = " or ".join(score.states)
        if not fits:
            span = f"{least}" if least == greatest else f"{least} to {greatest}"
            parts = ", ".join(f"{name} {' or '.join(states)}" for name, states in known.items())
            raise EvidenceError(
                f"the score is said to be {said}, but {parts} give {span} points",
                variable="dic_isth_score",
                value=score.raw,
            )

    def _not_a_state(self, variable: Variable, spelled: str, value: object) -> EvidenceError:
        spellings = (*variable.states, *variable.aliases)
        close: list[str] = []
        if isinstance(value, str) and value.strip():
            for match in nearest(american(normal_form(value)), spellings):
                close.extend(states_of(variable, match) or ())
        return EvidenceError(
            f"{shown(value)} is not a state of {variable.name}",
            variable=spelled,
            value=value,
            allowed=variable.states,
            nearest=tuple(dict.fromkeys(close))[:2],
        )


def _entry(variable: Variable, raw: object, reading: _Reading, weights: tuple[float, ...]) -> Entry:
    states = _possible(variable, weights)
    return Entry(
        variable.name, raw, reading.text, states, reading.kind, reading.value, reading.unit
    )


def _raws(readings: Sequence[tuple[str, object, _Reading]]) -> list[tuple[str, object]]:
    return [(spelled, raw) for spelled, raw, _ in readings]


def _of_measured(variable: Variable, measured: Measured) -> _Reading:
    return _Reading(
        weights=_indicator(variable, measured.states),
        kind="bound" if measured.number is None else "number",
        text=f"{measured.text} → {' or '.join(measured.states)}",
        notes=measured.notes,
        value=measured.number,
        unit=measured.unit,
        interval=measured.interval,
    )


def _possible(variable: Variable, weights: Sequence[float]) -> tuple[str, ...]:
    return tuple(s for s, weight in zip(variable.states, weights, strict=True) if weight > 0)


def _indicator(variable: Variable, states: Sequence[str]) -> tuple[float, ...]:
    return tuple(1.0 if state in states else 0.0 for state in variable.states)


def _looks_like_state(text: str) -> bool:
    return any(letter.isalpha() for letter in text)
