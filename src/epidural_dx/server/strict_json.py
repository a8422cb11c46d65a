"""JSON as RFC 8259 and I-JSON want it: what Python's reader lets pass is refused."""

from __future__ import annotations

import json
from typing import Any

from epidural_dx.server.problems import Problem

#: Deepest nesting of a body; evidence needs four levels.
DEEPEST = 32


def parse(body: bytes, what: str = "the body") -> Any:
    """Read one JSON text.

    Parameters
    ----------
    body : bytes
    what : str
        What it is, for the sentence.

    Raises
    ------
    Problem
        Not UTF-8, no JSON, a number that is not finite, a member given twice (one of them would
        be silently dropped), half a surrogate pair, or nesting deeper than :data:`DEEPEST`.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem("malformed", f"{what} is not UTF-8 (byte {error.start}).") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_members,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except json.JSONDecodeError as error:
        raise Problem(
            "malformed",
            f"{what} is no JSON: {error.msg} (line {error.lineno}, column {error.colno}).",
        ) from None
    except RecursionError:
        raise Problem("malformed", f"{what} is nested too deeply.") from None
    except _RefusedError as error:
        raise Problem("malformed", f"{what} {error}.") from None
    except ValueError:
        raise Problem("malformed", f"{what} holds a number with too many digits.") from None
    _check(value, what)
    return value


class _RefusedError(ValueError):
    """Something that Python reads but JSON does not allow."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _RefusedError(f"gives {twice[:80]!r} twice")
    return found


def _no_constant(text: str) -> float:
    raise _RefusedError(f"holds {text}, which is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _RefusedError("holds a number beyond all floating-point numbers")
    return value


def _check(value: Any, what: str) -> None:
    level = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(one.keys())
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
            elif isinstance(one, str) and not one.isascii():
                try:
                    one.encode()
                except UnicodeEncodeError:
                    raise Problem(
                        "malformed", f"{what} holds half a surrogate pair, which is no text."
                    ) from None
        if not below:
            return
        level = below
    raise Problem("malformed", f"{what} is nested deeper than {DEEPEST} levels.")
