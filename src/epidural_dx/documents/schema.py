"""The shape of every document (pydantic models): for OpenAPI, and to read answers with.

Version 1. Within a version members are added and never renamed, removed or given another
meaning, so readers must pass over members that they do not know.

>>> from epidural_dx.documents.schema import Diagnosis
>>> diagnosis = Diagnosis.model_validate(answer.to_dict())  # doctest: +SKIP
>>> diagnosis.causes[0].probability  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: Rises when a member is renamed, removed, or means something else; it is in every path.
SCHEMA_VERSION = 1

Probability = Annotated[float, Field(ge=-1e-9, le=1 + 1e-9)]


class Document(BaseModel):
    """Base of all documents: unknown members are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class ModelIdentity(Document):
    """Which model answered. The digest is over networks, priors and options (SHA-256)."""

    name: str
    version: str
    digest: str
    scenario: str


class Caution(Document):
    """One warning: a stable code and one sentence."""

    code: str
    message: str
    variables: list[str]


class ReadFinding(Document):
    """How a finding was read."""

    text: str
    states: list[str]


class CauseProbability(Document):
    """Probability of a cause with the limits of its 90 % interval."""

    cause: str
    probability: Probability
    lower: Probability | None
    upper: Probability | None


class MechanismProbability(CauseProbability):
    """Probability of a mechanism: a cause with what drives it."""

    name: str
    driver: str


class TestResult(Document):
    """One result of a finding and what it would do."""

    finding: str
    state: str
    probability: Probability
    about: str = Field(description="lesion_cause or marrow_infiltration.")
    leader: str = Field(description="The leading state of that after the result.")
    leader_probability: Probability
    before: Probability = Field(description="The probability of that state now.")


class Separation(Document):
    """Two causes that a test tells apart."""

    causes: str
    bits: float


class StateSeparation(Document):
    """Two states of the marrow, or of another target, that a test tells apart."""

    states: str
    bits: float


class NextTest(Document):
    """One test with its worth for the patient."""

    test: str
    label: str
    findings: list[str] = Field(description="What it would still reveal.")
    information_bits: float
    standard_error: float = Field(description="Of the information; 0 when it is exact.")
    method: str
    cost_usd: float
    turnaround_hours: float
    harm: float
    serious_harm: Probability
    value: float | None
    information_per_cost: float
    information_per_hour: float
    cost_equivalent_usd: float
    allowed: bool | Literal["until corrected"]
    when: str = Field(description="Whether it may be ordered at once.")
    reason: str
    separates: list[Separation]
    separates_marrow: list[StateSeparation]
    separates_target: list[StateSeparation] = Field(
        description="Where the target is neither the cause nor the marrow: its states."
    )
    cause_bits: float
    marrow_bits: float
    changes_lead: Probability
    expected_lead: Probability
    images_at_hand: bool = Field(description="Done already: its images are looked at again.")
    first: list[str] = Field(description="Tests to be done before.")
    results: list[TestResult]
    explanation: str


class Diagnosis(Document):
    """Answer of ``diagnose``."""

    model: ModelIdentity
    evidence: dict[str, ReadFinding]
    causes: list[CauseProbability] = Field(description="The likeliest first; they sum to 1.")
    etiology: list[MechanismProbability] = Field(description="Causes with drivers; sum to 1.")
    conditions: dict[str, dict[str, Probability]]
    next_tests: list[NextTest]
    warnings: list[Caution]
    notes: list[str]
    log_evidence: float = Field(description="ln P(evidence | a lesion exists).")
    notice: str


class Action(Document):
    """What to do, and its expected utility."""

    action: str
    done: bool
    marrow_action: str | None
    expected_utility: float
    marrow_gain: float


class PlannedCause(Document):
    """A cause after some results."""

    cause: str
    probability: Probability


class PlanBranch(Document):
    """A group of results with what follows."""

    probability: Probability
    results: list[str]
    causes: list[PlannedCause]
    then: PlanStep | Action


class PlanStep(Document):
    """Tests ordered together, and what follows."""

    order: list[str]
    images_at_hand: list[str] = Field(
        description="Those of the order that are done already: their images are looked at again."
    )
    hours: float
    price_usd: float
    gain: float
    branches: list[PlanBranch]


class Stopping(Document):
    """Whether to stop testing."""

    decision: list[str]
    decided: str
    same_decision_probability: Probability
    standard_error: float
    expected_regret: float
    perfect_information: float = Field(description="What knowing everything would gain.")
    best_test: str | None
    best_value: float | None
    stop: bool
    sentence: str
    tests: list[str]


class SequenceStep(Document):
    """One of the tests that together tell most, one after another."""

    test: str
    adds: float = Field(description="Bits that it adds to those before it.")
    bits: float = Field(description="Of all tests so far together.")
    share: Probability = Field(description="The same, of what is unknown.")
    price_usd: float
    hours: float


class LookAhead(Document):
    """What to order now, what then for each likely result, and when to stop."""

    by: str
    act_now: Action | None
    plan: PlanStep | None
    considered: list[dict[str, Any]]
    stopping: Stopping
    sequence: list[SequenceStep] | None


class PlanDocument(LookAhead):
    """Answer of ``plan``."""

    model: ModelIdentity
    warnings: list[Caution]


class NextTests(Document):
    """Answer of ``next-tests``."""

    model: ModelIdentity
    target: list[str]
    by: str
    next_tests: list[NextTest]
    plan: LookAhead | None = None
    warnings: list[Caution]


class Weight(Document):
    """What taking away one finding alone does to the leading cause, in decibans."""

    finding: str
    text: str
    decibans: float
    cause: str = Field(description="The leading cause.")
    probability_without: Probability
    leader_without: str


class Contribution(Document):
    """Order-averaged share of one finding in the change of the log odds."""

    finding: str
    decibans: float
    error: float = Field(description="Standard error; 0 where exact.")


class GroupContribution(Document):
    """The same for findings of one kind together."""

    group: str
    decibans: float
    error: float


class Contributions(Document):
    """Contributions of all findings; they sum from the base rate to the posterior."""

    cause: str
    against: str
    prior_decibans: float
    posterior_decibans: float
    orders: int = Field(description="Sampled orders; 0 where all subsets were asked.")
    findings: list[Contribution]
    groups: list[GroupContribution] | None = None


class PathStep(Document):
    """One condition on the way of a finding to the lesion."""

    condition: str
    state: str
    gain: float
    probability: Probability
    share: float


class FindingPath(Document):
    """Through which conditions a finding acts; no steps where it acts directly."""

    finding: str
    decibans: float
    steps: list[PathStep]


class ConditionReasons(Document):
    """What made a condition behind the cause likely."""

    condition: str
    state: str
    before: Probability
    probability: Probability
    findings: list[dict[str, Any]]


class Comparison(Document):
    """Two causes, finding by finding."""

    cause_a: str
    cause_b: str
    prior_decibans: float
    posterior_decibans: float
    probability_a: Probability
    probability_b: Probability
    findings: list[dict[str, Any]]


class Story(Document):
    """A most probable joint reading of everything."""

    text: str
    cause: str
    probability: Probability
    states: dict[str, str]


class Counterfactuals(Document):
    """The smallest changes of the findings that take the lead from the leading cause."""

    leader: str
    size: int | None
    exact: bool
    found: list[dict[str, Any]]


class OpenFinding(Document):
    """A finding that is not known, and what it would do."""

    finding: str
    information_bits: float
    changes_lead: Probability
    tests: list[str]
    outcomes: list[dict[str, Any]]


class Conflict(Document):
    """Whether the findings fit together."""

    bits: float
    bits_given_cause: float
    chance: Probability
    findings: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    explained_by: list[dict[str, Any]]


class LetterPart(Document):
    """One paragraph of the letter."""

    heading: str
    text: str


class Explanation(Document):
    """Answer of ``explain``; with ``only`` the members that stand first."""

    model: ModelIdentity
    cause: str
    probability: Probability
    findings: list[Weight]
    warnings: list[Caution]
    contributions: Contributions | None = None
    lower: Probability | None = None
    upper: Probability | None = None
    rival: str | None = None
    paths: list[FindingPath] | None = None
    conditions: list[ConditionReasons] | None = None
    comparison: Comparison | None = None
    stories: list[Story] | None = None
    counterfactuals: Counterfactuals | None = None
    missing: list[OpenFinding] | None = None
    conflict: Conflict | None = None
    unexpected: list[dict[str, Any]] | None = None
    surprise: list[dict[str, Any]] | None = None
    unexplained: bool | None = None
    letter: list[LetterPart] | None = None
    sources: list[str] | None = None


class Spread(Document):
    """How a probability spreads over draws of all figures."""

    probability: Probability
    mean: Probability
    sd: float
    lower: Probability
    upper: Probability
    leads: Probability = Field(description="Share of the draws in which it is the largest.")


class CauseSpread(Spread):
    """Spread of a cause."""

    cause: str


class MechanismSpread(Spread):
    """Spread of a mechanism."""

    name: str


class OptionSpread(Document):
    """One option of a choice, and how sure it is under draws of all figures."""

    choice: str
    option: str
    best_in: Probability = Field(description="Share of the draws in which it is the best.")
    value: float
    lower: float
    upper: float
    regret: float = Field(description="Mean loss against the best option of each draw.")
    draws: int


class TestSpread(Document):
    """How often a test tells most under draws of all figures."""

    test: str
    first: Probability
    rank: float
    bits_mean: float
    bits_lower: float
    bits_upper: float
    draws: int


class Uncertainty(Document):
    """Answer of ``uncertainty``."""

    model: ModelIdentity
    draws: int
    seed: int
    quasi_random: bool
    causes: list[CauseSpread]
    etiology: list[MechanismSpread]
    decision: list[OptionSpread]
    best_at_means: dict[str, str] = Field(
        description="Option of every choice that is the best with every figure at its mean."
    )
    tests: list[TestSpread] | None
    warnings: list[Caution]


class Sensitivity(Document):
    """Answer of ``sensitivity``.

    The overview holds ``tornado``, ``findings`` and ``shares``; one figure ``parameter`` and
    ``curve``; two figures ``first``, ``second`` and ``grid``; the order of the tests ``ranking``
    and ``shares``.
    """

    model: ModelIdentity
    cause: str
    probability: Probability
    leader: str
    tornado: list[dict[str, Any]] | None = None
    findings: list[dict[str, Any]] | None = None
    shares: dict[str, Any] | None = None
    parameter: dict[str, Any] | None = None
    curve: list[dict[str, Any]] | None = None
    first: dict[str, Any] | None = None
    second: dict[str, Any] | None = None
    grid: list[dict[str, Any]] | None = None
    ranking: dict[str, Any] | None = None
    warnings: list[Caution]


class ProblemDocument(Document):
    """An error (RFC 9457), with the sentence that the command line prints as ``detail``."""

    type: str
    title: str
    status: int
    detail: str
    variable: str | None = Field(description="The variable or member that it is about.")
    value: Any = Field(description="The value as given, shortened.")
    allowed: list[str]
    nearest: list[str]


class BatchEntry(Document):
    """One patient of a batch: an answer or a problem."""

    index: int
    id: str | int | None
    answer: Diagnosis | None
    problem: ProblemDocument | None


class BatchAnswers(Document):
    """Answer of ``batch/diagnose``."""

    model: ModelIdentity
    answers: list[BatchEntry]


# ------------------------------------------------------------------------------ the catalogue


class Threshold(Document):
    """A cut-off of a number, with its source."""

    state: str
    low: float | None
    high: float | None
    unit: str
    source_id: str


class VariableDocument(Document):
    """One variable."""

    name: str
    label: str
    group: str
    states: list[str] = Field(description="From least to most.")
    unit: str | None
    units: list[str] = Field(description="Units of its numbers, one spelling of each.")
    other_names: list[str] = Field(description="Names under which a value means the same.")
    latent: bool = Field(description="Has a posterior and is not observed.")
    parents: list[str]
    tests: list[str] = Field(description="Tests that reveal it.")
    aliases: dict[str, list[str]]
    thresholds: list[Threshold]
    base_rate: dict[str, Probability]


class VariableList(Document):
    """All variables."""

    variables: list[VariableDocument]


class Figure(Document):
    """One published figure, as it stands in the literature base."""

    id: str
    variable: str
    state: str
    k: float | None
    n: float | None
    point: float | None
    low: float | None
    high: float | None
    unit: str
    population: str
    source_id: str
    use: str
    citation: str | None


class SourceDocument(Document):
    """One publication, or a declared opinion."""

    id: str
    authors: str
    title: str
    journal: str
    year: str
    doi: str
    pmid: str
    url: str
    citation: str


class Column(Document):
    """One column P(variable | given = state) and what it rests on."""

    given: str
    state: str
    context: str
    probabilities: dict[str, Probability]
    effective_size: float = Field(description="In patients.")
    grade: str = Field(description="counted, estimated, expert or assumed.")
    rows: list[str] = Field(description="Ids of the figures pooled into it.")
    sources: dict[str, Probability] = Field(description="Share that rests on each source.")
    why: str


class VariableSources(Document):
    """The published figures behind one variable."""

    model: ModelIdentity
    variable: str
    columns: list[Column]
    rows: list[Figure]
    sources: list[SourceDocument]


class Rate(Document):
    """Rate of one mechanism."""

    mechanism: str
    among: str = Field(description="Age group, or empty for everybody.")
    per_100000_person_years: float
    log_sd: float
    figures: list[dict[str, Any]]


class CauseSources(Document):
    """The rates behind one cause."""

    model: ModelIdentity
    cause: str
    rates: list[Rate]
    sources: list[SourceDocument]


class SourceList(Document):
    """Sources, with the figures that a search found."""

    sources: list[SourceDocument] | None = None
    rows: list[Figure] | None = None
    topics: dict[str, str] | None = None


class TestDocument(Document):
    """One test."""

    test: str
    label: str
    findings: list[str]


class TestList(Document):
    """All tests."""

    tests: list[TestDocument]


class CauseDocument(Document):
    """One cause with its mechanisms and base rates."""

    cause: str
    base_rate: Probability
    mechanisms: list[dict[str, Any]]


class CauseList(Document):
    """All causes."""

    scenario: str
    causes: list[CauseDocument]


class ScenarioDocument(Document):
    """One set of base rates."""

    name: str
    label: str
    age_group: dict[str, Probability]
    why: str


class ScenarioList(Document):
    """All base rates to choose from."""

    scenarios: list[ScenarioDocument]


class ModelDocument(Document):
    """What the model is, and the limits of the server."""

    model: ModelIdentity
    variables: int
    observable: int
    causes: int
    mechanisms: int
    tests: int
    notice: str
    limits: dict[str, float]


class CaseSummary(Document):
    """One published patient, without the findings."""

    name: str
    title: str
    stages: list[str]


class CaseList(Document):
    """All published patients."""

    cases: list[CaseSummary]


class CaseStage(Document):
    """What was learned at one point of time."""

    name: str
    findings: dict[str, Any]
    note: str | None
    other_findings: list[str]


class CaseDocument(Document):
    """One published patient, stage by stage."""

    name: str
    title: str
    about: dict[str, Any]
    stages: list[CaseStage]


class Probe(Document):
    """Whether the server lives."""

    status: str


class ReadyProbe(Probe):
    """Whether the server is ready, and with which model."""

    digest: str


PlanBranch.model_rebuild()
