"""From the spellings of people, vocabularies and case files to identifiers of the model."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from epidural_dx.network.variable import Variable

__all__ = ["NOT_KNOWN", "american", "nearest", "normal_form", "states_of", "yaml_number_trap"]

#: Words that say that nothing is known.
NOT_KNOWN = frozenset(
    {
        "unknown",
        "not_known",
        "nk",
        "n/a",
        "na",
        "?",
        "not_done",
        "not_available",
        "not_assessed",
        "not_measured",
        "not_stated",
        "not_recorded",
        "missing",
        "null",
        "nan_unknown",
    }
)

_BASELINES = ("absent", "negative", "none", "normal")
_NO = frozenset({"absent", "no", "n", "none", "negative", "neg", "false", "not_present", "-"})
_YES = frozenset({"present", "yes", "y", "positive", "pos", "true", "+", "detected"})
_NORMAL = frozenset({"normal", "unremarkable", "within_normal_limits", "wnl", "not_raised"})
_UP = frozenset({"high", "raised", "very_high", "strongly_raised", "marked", "prolonged"})
_UP_WORDS = frozenset({"high", "raised", "elevated", "increased", "above_normal", "prolonged"})
_DOWN = re.compile(r"(?:very_)?low(?:_\d+_\d+)?\Z|(?:mild|severe)_anemia\Z")
_DOWN_WORDS = frozenset({"reduced", "decreased", "lowered", "below_normal"})
_AMERICAN = (
    ("haem", "hem"),
    ("aemi", "emi"),
    ("aemat", "emat"),
    ("oedema", "edema"),
    ("tumour", "tumor"),
    ("oesoph", "esoph"),
    ("fibre", "fiber"),
    ("colour", "color"),
    ("paediatric", "pediatric"),
)


@functools.lru_cache(maxsize=4096)
def normal_form(text: str) -> str:
    """Return a spelling in lower case with underscores and plain signs.

    Parameters
    ----------
    text : str
        Such as ``"Low T1 - diffuse"`` or ``"≥5"``.

    Returns
    -------
    str
        Such as ``"low_t1_diffuse"`` or ``">=5"``.
    """
    text = text.strip().strip("'\"").casefold()
    text = text.replace("≥", ">=").replace("≤", "<=").replace("–", "-").replace("—", "-")
    text = re.sub(r"(?<=[a-z])\s*-\s*(?=[a-z0-9])|\s*:\s*|\s+", "_", text.strip())
    return re.sub(r"(?<=\d)-(?=\d)", "_", text) if re.match(r"\d+-\d+\Z", text) else text


def american(text: str) -> str:
    """Return a spelling with British digraphs replaced.

    Parameters
    ----------
    text : str
        Such as ``"anaemia"``.

    Returns
    -------
    str
        Such as ``"anemia"``.
    """
    for british, plain in _AMERICAN:
        text = text.replace(british, plain)
    return text


def nearest(text: str, candidates: Iterable[str], count: int = 2) -> tuple[str, ...]:
    """Return the closest spellings.

    Parameters
    ----------
    text : str
        What was written.
    candidates : iterable of str
        What exists.
    count : int
        At most this many.

    Returns
    -------
    tuple of str
        Best first; empty if nothing is close.
    """
    from difflib import get_close_matches

    return tuple(get_close_matches(normal_form(text), list(candidates), n=count, cutoff=0.6))


@functools.lru_cache(maxsize=2048)
def _spellings(variable: Variable) -> Mapping[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {state: (state,) for state in variable.states}
    for spelling, states in variable.aliases.items():
        table.setdefault(normal_form(spelling), states)
    return MappingProxyType(table)


def states_of(variable: Variable, text: str) -> tuple[str, ...] | None:
    """Return the states that a spelling stands for.

    Parameters
    ----------
    variable : Variable
        The variable.
    text : str
        An exact state, an alias, or a word that a rule covers: yes/no and positive/negative, high
        and present for every raised state together, low, abnormal, ``a_or_b``, the numbers of a
        state without its word (``18_39``), British spelling.

    Returns
    -------
    tuple of str or None
        States in the variable's order; None if the spelling means nothing here.
    """
    spelled = normal_form(text)
    table = _spellings(variable)
    if spelled in table:
        return _in_order(variable, table[spelled])
    plain = american(spelled)
    if plain in table:
        return _in_order(variable, table[plain])
    if plain[:1].isdigit():
        endings = [state for state in variable.states if state.endswith("_" + plain)]
        return tuple(endings) if len(endings) == 1 else None
    by_word = _by_word(variable, plain)
    if by_word:
        return by_word
    if "_or_" in plain:
        parts = [states_of(variable, part) for part in plain.split("_or_")]
        if all(parts):
            return _in_order(variable, {state for part in parts if part for state in part})
    return None


def _in_order(variable: Variable, states: Iterable[str]) -> tuple[str, ...]:
    wanted = set(states)
    return tuple(state for state in variable.states if state in wanted)


def _by_word(variable: Variable, word: str) -> tuple[str, ...] | None:
    states = variable.states
    baseline = next((state for state in _BASELINES if state in states), None)
    others = tuple(state for state in states if state != baseline)
    raised = tuple(state for state in states if state in _UP)
    lowered = tuple(state for state in states if _DOWN.match(state))
    found: tuple[str, ...] = ()
    if baseline == "normal":
        if word in _NORMAL or (word in _NO and others == raised):
            found = ("normal",)
        elif word in _YES and others == raised:
            found = raised
        elif word == "abnormal":
            found = others
    elif baseline is not None:
        if word in _NO:
            found = (baseline,)
        elif word in _YES:
            found = others
    if not found and word in _UP_WORDS:
        found = raised
    if not found and word == "low":
        found = tuple(state for state in lowered if state.startswith("low")) or lowered
    if not found and word in _DOWN_WORDS:
        found = lowered
    return found or None


def yaml_number_trap(variable: Variable, number: int) -> str | None:
    """Return the state whose spelling YAML reads as a number.

    An unquoted ``18_39`` is the integer 1839 in YAML.

    Parameters
    ----------
    variable : Variable
        The variable.
    number : int
        What arrived.

    Returns
    -------
    str or None
        The state, or None if no state looks like that.
    """
    if variable.group != "patient":
        return None
    for state in variable.states:
        tail = re.sub(r"\A[a-z_]+", "", state)
        if re.fullmatch(r"[1-9]\d*(?:_\d+)+", tail) and int(tail.replace("_", "")) == number:
            return state
    return None
