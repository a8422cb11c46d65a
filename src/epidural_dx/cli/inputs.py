"""What commands take: a model, a case with its stages, settings, a mix of causes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epidural_dx.errors import CaseError, EvidenceError, ModelError

if TYPE_CHECKING:
    from epidural_dx.clinical.case import Case
    from epidural_dx.clinical.evidence import Evidence
    from epidural_dx.clinical.fhir_reading import FhirReading
    from epidural_dx.model import Model


@dataclass(frozen=True)
class StageEvidence:
    """Evidence gathered up to one stage.

    Attributes
    ----------
    name : str or None
        None for a flat case.
    number, count : int
        The stage's place among all, counted from 1.
    evidence : Evidence
    changes : tuple of str
        Findings that a later stage corrected, in words.
    note : str or None
    reading : FhirReading or None
        What became of every resource, if the case is a FHIR Bundle.
    """

    name: str | None
    number: int
    count: int
    evidence: Evidence
    changes: tuple[str, ...]
    note: str | None
    reading: FhirReading | None = None


def open_model(
    networks: Path | None,
    priors: Path | None,
    scenario: str | None,
    cause_mix: Path | None = None,
    *,
    backend: str = "numpy",
) -> Model:
    """Load the model; the first time, or after a change of the files, it is compiled.

    ``numpy`` is the right backend for one patient: numba takes longer to import than to answer.

    Raises
    ------
    ModelError
        A wrong network, prior or mix file, or an unknown scenario.
    """
    from epidural_dx.cli.output import waiting
    from epidural_dx.model import load_model

    mix = read_cause_mix(cause_mix) if cause_mix is not None else None
    with waiting("Compiling the model (once for every change of networks and priors)"):
        return load_model(networks, priors, scenario, mix, backend=backend)


def with_case_scenario(options: Mapping[str, Any], case: Case) -> dict[str, Any]:
    """Return the options of the command, with the case's own scenario where it names none.

    Raises
    ------
    CaseError
        The case's scenario is not a name.
    """
    own = case.about.get("scenario")
    if options["scenario"] is not None or own is None:
        return dict(options)
    if not isinstance(own, str):
        raise CaseError(f"scenario {own!r} is not a name", value=own, where=case.origin)
    return {**options, "scenario": own}


def read_cause_mix(path: Path) -> dict[str, float]:
    """Read shares of causes from a YAML or JSON mapping.

    Raises
    ------
    ModelError
        No such file, not UTF-8, no YAML, not a mapping, or a share that is no positive number.
    """
    from epidural_dx.clinical.yaml_text import load_yaml

    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"is not UTF-8 text (byte {error.start})", file=path) from None
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror or error})", file=path) from None
    try:
        document = load_yaml(content)
    except ModelError as error:
        raise ModelError(error.problem, file=path, line=error.line, name=error.name) from None
    if not isinstance(document, dict) or not document:
        raise ModelError("a cause mix must be a mapping of causes to shares", file=path)
    mix = {}
    for cause, share in document.items():
        value = _share(share)
        if value is None:
            raise ModelError(
                f"the share must be a positive number, got {share!r}", file=path, name=str(cause)
            )
        mix[str(cause)] = value
    return mix


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 < number < float("inf") else None


def find_case(name: str) -> str | Path:
    """Return what `read_case` takes: ``-``, text in braces, a file, or a published patient.

    Raises
    ------
    CaseError
        Neither a file nor the name of a published patient.
    """
    from epidural_dx.clinical.spelling import nearest
    from epidural_dx.store import published_patients

    if name == "-" or "\n" in name or name.lstrip()[:1] == "{" or Path(name).exists():
        return name
    published = published_patients()
    if name in published:
        return published[name]
    stem = Path(name).stem
    raise CaseError(
        "there is no such file and no published patient of that name",
        value=name,
        nearest=nearest(stem, published, 1),
        allowed=() if Path(name).suffix else published,
        where=name,
    )


def open_case(name: str) -> Case:
    """Read a case by file, name, or from standard input.

    Raises
    ------
    CaseError
        It cannot be found or read.
    """
    from epidural_dx.clinical.case import read_case

    if name == "-" and (sys.stdin is None or sys.stdin.isatty()):
        raise CaseError("nothing arrives (pipe a case into the command)", where="standard input")
    return read_case(find_case(name))


def from_record(
    model: Model, case: Case, as_of: str | None = None
) -> tuple[Case, FhirReading | None]:
    """Return a case whose findings were read from a FHIR Bundle, if it is one.

    Raises
    ------
    CaseError
        Another resource than a Bundle, several patients, or a date without a record to count in.
    """
    from dataclasses import replace

    from epidural_dx.clinical.fhir_reading import is_fhir, read_fhir

    step = case.stages[0]
    if not is_fhir(step.findings):
        if as_of is not None:
            raise CaseError("--as-of needs a FHIR Bundle; say age_years instead", where=case.origin)
        return case, None
    try:
        reading = read_fhir(step.findings, model, reference_date=as_of)
    except EvidenceError as error:
        raise (error if error.where else error.located(case.origin)) from error
    return replace(case, stages=(replace(step, findings=reading.evidence),)), reading


def stage_evidence(
    model: Model,
    case: Case,
    settings: Sequence[str],
    stage: str | None,
    as_of: str | None = None,
) -> list[StageEvidence]:
    """Read the evidence of every stage up to `stage` (all by default), in order.

    ``--set`` replaces the case's finding of the same variable at every stage. A FHIR Bundle is one
    stage; `as_of` is its reference date.

    Raises
    ------
    EvidenceError
        An unknown stage, or evidence that cannot be read.
    """
    from epidural_dx.clinical.settings import parse_settings

    given = parse_settings(settings)
    case, reading = from_record(model, case, as_of)
    last = case.evidence(stage).stage  # fails on an unknown stage before anything else
    staged = len(case.stages) > 1
    result = []
    for number, step in enumerate(case.stages, start=1):
        found = case.evidence(step.name, canonical=model.canonical_name)
        result.append(
            StageEvidence(
                name=step.name if staged else None,
                number=number,
                count=len(case.stages),
                evidence=_read(model, found.raw, given, case.where(step.name)),
                changes=tuple(
                    note for note in found.notes if note.endswith(f"at stage {step.name}")
                ),
                note=step.note,
                reading=reading,
            )
        )
        if step.name == last:
            break
    return result


def _read(
    model: Model, raw: Mapping[str, object], given: Mapping[str, object], where: str
) -> Evidence:
    if not given:
        return model.read_evidence(raw, where)
    try:
        model.read_evidence(given)
    except EvidenceError as error:
        raise error.located("--set") from None
    names: dict[str, Any] = {model.canonical_name(spelled) or spelled: spelled for spelled in given}
    kept = {k: v for k, v in raw.items() if (model.canonical_name(k) or k) not in names}
    return model.read_evidence({**kept, **given}, f"{where} with --set")
