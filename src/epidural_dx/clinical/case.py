"""A patient's findings from a YAML or JSON file, staged as they were learned."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from epidural_dx.clinical.spelling import nearest
from epidural_dx.clinical.yaml_text import load_yaml
from epidural_dx.errors import CaseError, ModelError

__all__ = ["Case", "Findings", "Stage", "read_case", "read_cases"]

#: Keys of a case that describe it and are never evidence.
ABOUT = frozenset(
    {
        "id",
        "name",
        "title",
        "summary",
        "description",
        "patient",
        "authors",
        "year",
        "source",
        "sources",
        "reference",
        "references",
        "doi",
        "pmid",
        "url",
        "doi_or_pmid",
        "doi_or_pmid_or_url",
        "license",
        "licence",
        "final_cause",
        "also_acceptable",
        "underlying",
        "initially_misdiagnosed_as",
        "misdiagnosed_cause",
        "trap",
        "text_read",
        "certainty",
        "decisive",
        "expected",
        "considered",
        "variant_of",
        "about",
        "scenario",
        "text",
        "note",
        "notes",
        "comment",
        "other_findings",
    }
)

_STAGE_ABOUT = frozenset(
    {"title", "day", "date", "time", "source", "page", "note", "notes", "text", "other_findings"}
)
_NAME = re.compile(r"[A-Za-z0-9][\w .-]*\Z")


@dataclass(frozen=True)
class Stage:
    """What was learned at one point of time.

    Parameters
    ----------
    name : str
        Such as ``presentation`` or ``mri``.
    findings : mapping of str to object
        Raw evidence of this stage alone.
    note : str or None
        For people.
    other_findings : tuple of str
        For people; never evidence.
    """

    name: str
    findings: Mapping[str, object]
    note: str | None = None
    other_findings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """Raw evidence gathered up to a stage.

    Parameters
    ----------
    raw : mapping of str to object
        For `read_evidence`.
    stage : str or None
        The last stage that counts; None before the first.
    changed : tuple of str
        Findings that a later stage gave another value.
    notes : tuple of str
        One sentence for each of them.
    """

    raw: Mapping[str, object]
    stage: str | None
    changed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One patient.

    Parameters
    ----------
    name : str
        The id or name in the file, else the name of the file.
    stages : tuple of Stage
        In the order in which things were learned; a flat file has one, named ``all``.
    about : mapping of str to object
        Everything in the file that is no evidence (final_cause, decisive, source, text …).
    origin : str
        Where it was read, for errors.
    """

    name: str
    stages: tuple[Stage, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "case"

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of the stages in order."""
        return tuple(stage.name for stage in self.stages)

    def where(self, stage: str | None = None) -> str:
        """Return the place of evidence, for `read_evidence`.

        Parameters
        ----------
        stage : str, optional
            A stage.

        Returns
        -------
        str
            Such as ``case.yaml, up to stage mri``.
        """
        if stage is None or len(self.stages) == 1:
            return self.origin
        return f"{self.origin}, up to stage {stage}"

    def evidence(
        self,
        stage: str | None = None,
        *,
        before: str | None = None,
        canonical: Callable[[str], str | None] | None = None,
    ) -> Findings:
        """Gather the findings up to a stage; later findings replace earlier ones.

        Parameters
        ----------
        stage : str, optional
            The last stage that counts; by default all do.
        before : str, optional
            Instead: the first stage that does not count (a case's ``decisive`` stage).
        canonical : callable, optional
            Spelling of a variable to the variable (None if unknown), so that ``hb`` at one stage
            and ``hemoglobin`` at the next are the same finding.

        Returns
        -------
        Findings
            The raw evidence and what changed.

        Raises
        ------
        CaseError
            If the case has no such stage.
        """
        last = len(self.stages)
        if stage is not None:
            last = self._index(stage) + 1
        if before is not None:
            last = min(last, self._index(before))

        def key_of(spelled: str) -> str:
            return (canonical(spelled) if canonical else None) or spelled

        raw: dict[str, object] = {}
        changed: list[str] = []
        notes: list[str] = []
        for step in self.stages[:last]:
            new = {key_of(spelled) for spelled in step.findings}
            earlier = {spelled: value for spelled, value in raw.items() if key_of(spelled) in new}
            for spelled in earlier:
                del raw[spelled]
            for spelled, value in step.findings.items():
                old = {k: v for k, v in earlier.items() if key_of(k) == key_of(spelled)}
                if old and value not in old.values():
                    was = " and ".join(_told(one) for one in old.values())
                    changed.append(spelled)
                    notes.append(
                        f"{spelled} changed from {was} to {_told(value)} at stage {step.name}"
                    )
                raw[spelled] = value
        return Findings(
            raw,
            self.stages[last - 1].name if last else None,
            tuple(dict.fromkeys(changed)),
            tuple(notes),
        )

    def _index(self, stage: str) -> int:
        names = self.stage_names
        if stage in names:
            return names.index(stage)
        raise CaseError(
            f"has no stage {stage!r}",
            value=stage,
            allowed=names,
            nearest=nearest(stage, names, 1),
            where=self.origin,
        )


def _told(value: object) -> str:
    if isinstance(value, Mapping) and "value" in value:
        return f"{value['value']} {value.get('unit') or ''}".strip()
    if isinstance(value, list):
        return " or ".join(map(str, value))
    return str(value)


def read_case(source: str | Path) -> Case:
    """Read one case.

    Parameters
    ----------
    source : str or Path
        A file of YAML or JSON; ``-`` for standard input; or the text itself if it has a line break
        or begins with a brace.

    Returns
    -------
    Case
        Its stages; a flat mapping of findings becomes one stage named ``all``.

    Raises
    ------
    CaseError
        If it cannot be read, is empty, is not UTF-8 or not YAML, or has the wrong shape.
    """
    document, origin = _document(source)
    if isinstance(document, list):
        raise CaseError("holds a list of cases, not one case", where=origin)
    return _case(document, origin)


def read_cases(source: str | Path) -> tuple[Case, ...]:
    """Read a file with a list of cases, or with one.

    Parameters
    ----------
    source : str or Path
        As in `read_case`; a directory is read file by file.

    Returns
    -------
    tuple of Case
        In order.

    Raises
    ------
    CaseError
        As `read_case`; also if two cases have one name.
    """
    if isinstance(source, Path) or "\n" not in source:
        folder = Path(source)
        if folder.is_dir():
            files = sorted(f for f in folder.iterdir() if f.suffix in (".yaml", ".yml", ".json"))
            if not files:
                raise CaseError("holds no case", where=str(folder))
            return _distinct([case for file in files for case in read_cases(file)], str(folder))
    document, origin = _document(source)
    if not isinstance(document, list):
        return (_case(document, origin),)
    if not document:
        raise CaseError("holds no case", where=origin)
    return _distinct(
        [_case(one, f"{origin}, case {place}") for place, one in enumerate(document, 1)], origin
    )


def _distinct(cases: list[Case], origin: str) -> tuple[Case, ...]:
    names = [case.name for case in cases]
    for name in names:
        if names.count(name) > 1:
            raise CaseError(f"two cases are named {name!r}", where=origin)
    return tuple(cases)


def _document(source: str | Path) -> tuple[object, str]:
    if isinstance(source, str) and ("\n" in source or source.lstrip()[:1] in ("{", "[")):
        return _parsed(source, "case"), "case"
    if source == "-":
        origin = "standard input"
        stream = getattr(sys.stdin, "buffer", None)
        data = stream.read() if stream is not None else sys.stdin.read().encode("utf-8")
    else:
        file = Path(source)
        origin = str(file)
        try:
            data = file.read_bytes()
        except IsADirectoryError as error:
            raise CaseError("is a directory, not a case", where=origin) from error
        except FileNotFoundError as error:
            raise CaseError("there is no such file", where=origin) from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CaseError(f"cannot be read ({reason})", where=origin) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise CaseError(
            f"is not UTF-8 text (byte {data[error.start]:#04x} in line {line})", where=origin
        ) from error
    return _parsed(text, origin), origin


def _parsed(text: str, origin: str) -> object:
    if not text.strip():
        raise CaseError("is empty", where=origin)
    try:
        if text.lstrip()[0] in "{[":
            try:
                return json.loads(text, object_pairs_hook=_unique, parse_int=_whole)
            except json.JSONDecodeError:
                # YAML also writes mappings in braces; its own error names the line if it is wrong.
                return load_yaml(text)
            except RecursionError as error:
                raise CaseError("is nested too deeply to be read", where=origin) from error
        document = load_yaml(text)
    except ModelError as error:
        place = "" if error.line is None else f" in line {error.line}"
        if error.name is not None:
            raise CaseError(
                f"the key {error.name!r} {error.problem}{place}", value=error.name, where=origin
            ) from error
        raise CaseError(f"{error.problem}{place}", where=origin) from error
    if document is None:
        raise CaseError("is empty", where=origin)
    return document


def _whole(digits: str) -> int | float:
    """Read a JSON integer; Python refuses those of thousands of digits."""
    return int(digits) if len(digits) <= 18 else float(digits)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ModelError("stands twice in one mapping", name=key)
        found[key] = value
    return found


def _case(document: object, origin: str) -> Case:
    if not isinstance(document, dict):
        raise CaseError(
            f"holds {_kind(document)} instead of a mapping of findings or stages", where=origin
        )
    for key in document:
        if not isinstance(key, str):
            raise CaseError(f"the key {key!r} is not text", value=key, where=origin)
    # A whole request body, as the HTTP interface takes it, is a case too.
    body = [key for key in ("stages", "findings", "evidence") if key in document]
    if len(body) > 1:
        raise CaseError(f"has both {body[0]} and {body[1]}", where=origin)
    about = {key: value for key, value in document.items() if key in ABOUT}
    rest = {k: v for k, v in document.items() if k not in ABOUT and k not in body}
    name = str(about.get("id") or about.get("name") or Path(origin).stem)
    if not body:
        if not rest:
            raise CaseError("holds no findings", where=origin)
        return Case(name, (Stage("all", rest),), about, origin)
    if rest:
        odd = next(iter(rest))
        raise CaseError(
            f"the key {odd!r} is neither a description of a case nor inside its {body[0]}",
            value=odd,
            nearest=nearest(odd, (*ABOUT, "stages"), 1),
            where=origin,
        )
    if body[0] != "stages":
        findings = _findings(document[body[0]], f"{origin}, {body[0]}")
        return Case(name, (Stage("all", findings),), about, origin)
    listed = document["stages"]
    if not isinstance(listed, list) or not listed:
        raise CaseError("stages must be a list of name and findings", where=origin)
    stages = tuple(_stage(one, place, origin) for place, one in enumerate(listed, 1))
    names = [stage.name for stage in stages]
    for one in names:
        if names.count(one) > 1:
            raise CaseError(f"two stages are named {one!r}", value=one, where=origin)
    return Case(name, stages, about, origin)


def _stage(document: object, place: int, origin: str) -> Stage:
    where = f"{origin}, stage {place}"
    if not isinstance(document, dict):
        raise CaseError(f"is {_kind(document)} instead of name and findings", where=where)
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise CaseError(f"the name {name!r} is not a word", value=name, where=where)
    where = f"{origin}, stage {name}"
    unknown = [key for key in document if key not in _STAGE_ABOUT | {"name", "findings"}]
    if unknown:
        raise CaseError(
            f"the key {unknown[0]!r} has no meaning in a stage (findings go under 'findings')",
            value=unknown[0],
            nearest=nearest(str(unknown[0]), ("name", "findings", *_STAGE_ABOUT), 1),
            where=where,
        )
    if "findings" not in document:
        raise CaseError("has no findings (write 'findings: {}' for none)", where=where)
    note = document.get("note")
    others = document.get("other_findings") or ()
    return Stage(
        name,
        _findings(document["findings"], where),
        None if note is None else str(note),
        (others,) if isinstance(others, str) else tuple(str(one) for one in others),
    )


def _findings(document: object, where: str) -> Mapping[str, object]:
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise CaseError(f"findings are {_kind(document)} instead of a mapping", where=where)
    for key in document:
        if not isinstance(key, str):
            raise CaseError(f"the key {key!r} is not text", value=key, where=where)
    return dict(document)


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return "plain text"
    return "nothing" if value is None else f"a {type(value).__name__}"
