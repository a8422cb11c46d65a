"""``--set`` of the command line: ``platelets=24``, ``t1_signal='iso|hypo'``, ``x='!rim'``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from epidural_dx.errors import EvidenceError

__all__ = ["parse_setting", "parse_settings"]

_SETTING = re.compile(r"\s*([A-Za-z_][\w:]*)\s*(!=|=|(?=[<>≥≤]))(.*)\Z", re.DOTALL)


def parse_setting(text: str) -> tuple[str, object]:
    """Split one setting into a variable and a value for `read_evidence`.

    Parameters
    ----------
    text : str
        ``name=value``; the value may be a state, ``a|b``, ``!a``, a number with a unit, a bound,
        or JSON in braces or brackets. ``name>20`` and ``name!=a`` are read too.

    Returns
    -------
    tuple of str and object
        Name and raw value.

    Raises
    ------
    EvidenceError
        If there is no name, no sign or no value, or broken JSON.
    """
    match = _SETTING.match(text)
    if match is None:
        raise EvidenceError(f"{text!r} is not a setting of the form variable=state", value=text)
    name, sign, value = match.group(1), match.group(2), match.group(3).strip()
    if not value:
        raise EvidenceError(f"{text!r} sets nothing", variable=name, value=text)
    if value[0] in "{[":
        try:
            return name, json.loads(value, object_pairs_hook=lambda pairs: _unique(name, pairs))
        except json.JSONDecodeError as error:
            raise EvidenceError(
                f"{value!r} is not JSON ({error.msg} at character {error.pos + 1})",
                variable=name,
                value=value,
            ) from error
    return name, "!" + value if sign == "!=" else value


def parse_settings(texts: Iterable[str]) -> dict[str, object]:
    """Read several settings.

    Parameters
    ----------
    texts : iterable of str
        As in `parse_setting`.

    Returns
    -------
    dict of str to object
        Name to raw value.

    Raises
    ------
    EvidenceError
        If a variable is set twice.
    """
    raw: dict[str, object] = {}
    for text in texts:
        name, value = parse_setting(text)
        if name in raw:
            raise EvidenceError(
                f"is set twice, to {raw[name]!r} and {value!r}", variable=name, value=value
            )
        raw[name] = value
    return raw


def _unique(name: str, pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise EvidenceError("a key stands twice in its value", variable=name)
    return found
