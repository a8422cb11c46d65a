"""Errors that epidural-dx raises on purpose, each with one clear sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "CaseError",
    "EpiduralDxError",
    "EvidenceError",
    "ImpossibleEvidenceError",
    "ModelError",
]

#: At most this many allowed values are spelled out in a message; the rest is in ``allowed``.
_SHOWN = 16

#: Longer words and problems are cut in messages: input may be megabytes long.
_WORD, _PROBLEM = 80, 400

#: Problems that begin with one of these follow their variable without a colon.
_VERBS = ("is ", "has ", "takes ", "needs ")


def _readable(text: str) -> str:
    """Cut what nobody would read to the end."""
    text = re.sub(rf"\S{{{_WORD + 1},}}", lambda word: f"{word[0][:_WORD]}…", text)
    if len(text) <= _PROBLEM:
        return text
    return f"{text[: _PROBLEM // 2]} … {text[-_PROBLEM // 2 :]}"


class EpiduralDxError(Exception):
    """Base class of every error that this package raises on purpose."""


class EvidenceError(EpiduralDxError, ValueError):
    """Evidence that is unknown, misspelt, out of range, contradictory or unreadable.

    Parameters
    ----------
    problem : str
        What is wrong, without the final full stop; must name the value it speaks of.
    variable : str, optional
        The variable (or the spelling the user gave) that the problem is about.
    value : object, optional
        The value as the user gave it.
    allowed : iterable of str, optional
        What would have been accepted.
    nearest : iterable of str, optional
        The closest matches, best first.
    where : str, optional
        Where the evidence came from, such as ``"stage mri of case.yaml"``.

    Attributes
    ----------
    variable, value, where
        As given.
    allowed, nearest : tuple of str
        As given.
    problem : str
        The problem without place, allowed values and nearest match.
    """

    def __init__(
        self,
        problem: str,
        *,
        variable: str | None = None,
        value: object = None,
        allowed: Iterable[str] = (),
        nearest: Iterable[str] = (),
        where: str | None = None,
    ) -> None:
        self.problem = _readable(problem)
        self.variable = None if variable is None else _readable(variable)
        self.value = value
        self.allowed = tuple(allowed)
        self.nearest = tuple(nearest)
        self.where = where
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        text = self.problem
        if self.variable:
            join = " " if self.problem.startswith(_VERBS) else ": "
            text = f"{self.variable}{join}{self.problem}"
        if self.where:
            text = f"{self.where}: {text}"
        if self.nearest:
            text += f"; did you mean {' or '.join(self.nearest)}?"
        if self.allowed and len(self.allowed) <= _SHOWN:
            text += f" (allowed: {', '.join(self.allowed)})"
        return text if text.endswith("?") else text + "."

    def located(self, where: str) -> EvidenceError:
        """Return the same error with the place it came from.

        Parameters
        ----------
        where : str
            Such as ``"stage mri of case.yaml"``.

        Returns
        -------
        EvidenceError
            An error of the same class.
        """
        return type(self)(
            self.problem,
            variable=self.variable,
            value=self.value,
            allowed=self.allowed,
            nearest=self.nearest,
            where=where,
        )

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with every attribute (batches run in other processes)."""
        return (
            _rebuild_evidence_error,
            (
                type(self),
                self.problem,
                self.variable,
                self.value,
                self.allowed,
                self.nearest,
                self.where,
            ),
        )


def _rebuild_evidence_error(
    kind: type[EvidenceError],
    problem: str,
    variable: str | None,
    value: object,
    allowed: tuple[str, ...],
    nearest: tuple[str, ...],
    where: str | None,
) -> EvidenceError:
    return kind(
        problem, variable=variable, value=value, allowed=allowed, nearest=nearest, where=where
    )


class ImpossibleEvidenceError(EvidenceError):
    """Evidence to which the model gives probability zero."""


class CaseError(EvidenceError):
    """A case file that cannot be read: missing, empty, wrong encoding, no YAML, wrong shape."""


class ModelError(EpiduralDxError, ValueError):
    """A network or prior file that does not hold what it should.

    Parameters
    ----------
    problem : str
        What is wrong, without the final full stop.
    file : path-like or str, optional
        The file.
    line : int, optional
        The line in the file, counted from 1.
    name : str, optional
        The variable, state, row or key that the problem is about.

    Attributes
    ----------
    problem, line, name
        As given.
    file : str or None
        The file as text.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        line: int | None = None,
        name: str | None = None,
    ) -> None:
        self.problem = _readable(problem)
        self.file = None if file is None else str(file)
        self.line = line
        self.name = name = None if name is None else _readable(name)
        place = self.file or ""
        if line is not None:
            place = f"{place}, line {line}" if place else f"line {line}"
        text = f"{name}: {self.problem}" if name else self.problem
        if place:
            text = f"{place}: {text}"
        super().__init__(text if text.endswith(("?", ".")) else text + ".")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with every attribute."""
        return (_rebuild_model_error, (self.problem, self.file, self.line, self.name))


def _rebuild_model_error(
    problem: str, file: str | None, line: int | None, name: str | None
) -> ModelError:
    return ModelError(problem, file=file, line=line, name=name)
