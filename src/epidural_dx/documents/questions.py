"""Questions as documents: what a body may hold, with its limits (pydantic models)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

#: Longest name of a finding, and longest text as its value. What is longer is no medicine, and
#: looking for the nearest spelling takes time that grows with the length.
LONGEST_NAME = 100
LONGEST_TEXT = 500

Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Hours = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]

EVIDENCE_HELP = (
    "Findings by variable: a state ('present'), a number with unit ('24 10^9/L'), a bound "
    "('>20 mg/L FEU'), a list of states (one of these), {'not': state}, {'likelihood': {state: "
    "weight}}, or {'value': number, 'unit': text}. What is left out is unknown, never absent."
)
EXAMPLE = {
    "age_years": 30,
    "sex": "male",
    "known_thalassemia": "present",
    "hemoglobin": "79 g/L",
    "enhancement": {"not": "rim"},
}


def check_evidence(evidence: dict[str, Any]) -> dict[str, Any]:
    """Refuse names and texts that are too long."""
    for name, value in evidence.items():
        if len(name) > LONGEST_NAME:
            raise ValueError(f"a name of a finding has more than {LONGEST_NAME} characters")
        _check_texts(value, name)
    return evidence


def _check_texts(value: object, where: str) -> None:
    """Refuse texts that are too long, at any depth."""
    waiting: list[object] = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and len(one) > LONGEST_TEXT:
            raise ValueError(f"the value of {where} has more than {LONGEST_TEXT} characters")
        if isinstance(one, Mapping):
            waiting.extend((*one.keys(), *one.values()))
        elif isinstance(one, list):
            waiting.extend(one)


RawFindings = Annotated[
    dict[str, JsonValue],
    Field(description=EVIDENCE_HELP, examples=[EXAMPLE]),
    AfterValidator(check_evidence),
]


class Question(BaseModel):
    """What every question holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    scenario: Name | None = Field(
        default=None,
        description="Base rates; GET /v1/scenarios lists them. By default the server's.",
    )
    cause_mix: dict[Name, Share] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Wanted share of each cause before any finding, instead of the scenario's.",
    )


class PatientQuestion(Question):
    """A question about one patient."""

    evidence: RawFindings


class DiagnoseQuestion(PatientQuestion):
    """Ask what the lesion is."""

    intervals: bool = Field(
        default=True, description="Also the 90 % interval of every probability."
    )
    next_tests: bool = Field(default=True, description="Also the tests, ranked by information.")


class NextTestsQuestion(PatientQuestion):
    """Ask which test is worth most next."""

    target: Name | Annotated[list[Name], Field(min_length=1, max_length=4)] | None = Field(
        default=None,
        description="Variable, or several together, that the tests should tell about. By default "
        "etiology and marrow_infiltration.",
    )
    by: Literal["information", "information_per_cost", "information_per_hour", "value"] = Field(
        default="information", description="Order of the tests."
    )
    exclude: list[Name] = Field(default=[], max_length=100, description="Tests to leave out.")
    max_hours: Hours | None = Field(default=None, description="Leave out tests that take longer.")
    hours_since_onset: Hours | None = Field(default=None, description="Time already lost.")


class PlanQuestion(PatientQuestion):
    """Ask what to order now, and what then."""

    by: Literal["value", "information"] = Field(
        default="value", description="What the plan maximises."
    )
    exclude: list[Name] = Field(default=[], max_length=100, description="Tests to do without.")
    max_hours: Hours | None = Field(default=None, description="Leave out tests that take longer.")
    hours_since_onset: Hours | None = Field(default=None, description="Time already lost.")
    steps: int | None = Field(
        default=None, ge=1, le=10, description="Also so many tests that tell most together."
    )


class ExplainQuestion(PatientQuestion):
    """Ask why the answer is what it is."""

    only: Literal["weights", "contributions"] | None = Field(
        default=None,
        description="A part that is quick: the weights of the findings, or also their "
        "contributions, which add up from the base rate to the probability.",
    )
    cause: Name | None = Field(default=None, description="Explain this cause, not the leading one.")
    against: Name | None = Field(
        default=None, description="Compare with this cause, not the likeliest other."
    )


class UncertaintyQuestion(PatientQuestion):
    """Ask how sure the answer is when every figure may be off."""

    draws: int = Field(default=200, ge=2, le=5000, description="Draws of every figure.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Of the draws.")
    quasi_random: bool = Field(
        default=False, description="A Latin hypercube in place of independent draws."
    )
    tests: bool = Field(default=False, description="Also how often each test tells most (slow).")


class SensitivityQuestion(PatientQuestion):
    """Ask which figures, findings and sources the answer hangs on."""

    parameter: Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)] | None = Field(
        default=None, description="Everything about one figure, instead of the overview."
    )
    two_way: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]],
            Field(min_length=2, max_length=2),
        ]
        | None
    ) = Field(default=None, description="Two figures at once, as a grid, instead of the overview.")
    by: Literal["parameter", "group", "cause", "source"] | None = Field(
        default=None, description="Level at which the uncertainty is split. By default source."
    )
    cause: Name | None = Field(
        default=None, description="Of this cause. By default the leading one."
    )
    ranking: bool = Field(
        default=False,
        description="Of the order of the tests, instead of a cause (slow).",
    )
    total: bool = Field(default=False, description="Also total indices of the largest shares.")
    top: int = Field(default=10, ge=1, le=50, description="Figures shown.")
    draws: int = Field(default=500, ge=50, le=5000, description="Draws behind the shares.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Of the draws.")


class BatchPatient(BaseModel):
    """One patient of a batch."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Annotated[str, Field(max_length=LONGEST_NAME)] | int | None = Field(
        default=None, description="Comes back with the answer."
    )
    evidence: RawFindings


class BatchOptions(Question):
    """How many patients are answered."""

    intervals: bool = Field(
        default=False, description="Also the 90 % interval of every probability."
    )
    next_tests: bool = Field(
        default=False, description="Also the tests, ranked by information (slow)."
    )


class BatchQuestion(BatchOptions):
    """Ask about many patients at once."""

    patients: list[BatchPatient] = Field(
        min_length=1, description="At most as many as `limits` of GET /v1/model says."
    )
