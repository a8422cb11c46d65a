"""The documents of CDS Hooks 2.0 as pydantic models; resources in them stay plain JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

__all__ = [
    "Action",
    "Card",
    "Cards",
    "Coding",
    "Discovery",
    "FeedbackRequest",
    "HookRequest",
    "Link",
    "OrderSelectContext",
    "OrderSignContext",
    "PatientViewContext",
    "Service",
    "Source",
    "Suggestion",
]

Text = Annotated[str, Field(min_length=1, max_length=1000)]


class Document(BaseModel):
    """Written in camel case; elements without a value are left out, never null."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        written: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return written


class Coding(Document):
    """A code with its system."""

    code: Text
    system: Text
    display: str | None = None


# What a client sends --------------------------------------------------------------------------


class FhirAuthorization(Document):
    """Access to the client's FHIR server."""

    model_config = ConfigDict(alias_generator=None)

    access_token: Text
    token_type: Literal["Bearer"]
    expires_in: int
    scope: str
    subject: str
    patient: str | None = None


class HookRequest(Document):
    """One call of a service."""

    hook: Text
    hook_instance: UUID
    context: dict[str, Any]
    fhir_server: AnyHttpUrl | None = None
    fhir_authorization: FhirAuthorization | None = None
    prefetch: dict[str, Any] | None = None
    extension: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _has_server(self) -> HookRequest:
        if self.fhir_authorization is not None and self.fhir_server is None:
            raise ValueError("fhirAuthorization needs fhirServer beside it")
        return self


class PatientViewContext(Document):
    """Whose record was opened."""

    user_id: Text
    patient_id: Text
    encounter_id: str | None = None


class OrderSignContext(PatientViewContext):
    """Which orders are about to be signed."""

    draft_orders: dict[str, Any]


class OrderSelectContext(OrderSignContext):
    """Which orders were just selected."""

    selections: list[str]


class AcceptedSuggestion(Document):
    """A suggestion that was taken."""

    id: Text


class OverrideReason(Document):
    """Why a card was dismissed."""

    reason: Coding | None = None
    user_comment: str | None = None


class Feedback(Document):
    """What a user did with a card."""

    card: Text
    outcome: Literal["accepted", "overridden"]
    outcome_timestamp: datetime
    accepted_suggestions: list[AcceptedSuggestion] | None = None
    override_reason: OverrideReason | None = None

    @model_validator(mode="after")
    def _names_what_was_accepted(self) -> Feedback:
        if self.outcome == "accepted" and not self.accepted_suggestions:
            raise ValueError("the outcome accepted needs acceptedSuggestions")
        return self


class FeedbackRequest(Document):
    """What users did with cards."""

    feedback: list[Feedback]


# What a service answers -----------------------------------------------------------------------


class Service(Document):
    """One service as discovery describes it."""

    hook: Text
    id: Text
    title: Text
    description: Text
    prefetch: dict[str, str] | None = None
    usage_requirements: str | None = None


class Discovery(Document):
    """All services."""

    services: list[Service]


class Source(Document):
    """Whom a card comes from."""

    label: Text
    url: AnyHttpUrl | None = None
    topic: Coding | None = None


class Action(Document):
    """One change of the record that a suggestion makes."""

    type: Literal["create", "update", "delete"]
    description: Text
    resource: dict[str, Any] | None = None
    resource_id: str | None = None

    @model_validator(mode="after")
    def _names_its_object(self) -> Action:
        if (self.type == "delete") != (self.resource is None):
            raise ValueError("create and update carry a resource, delete its resourceId")
        if self.type == "delete" and not self.resource_id:
            raise ValueError("delete needs a resourceId")
        return self


class Suggestion(Document):
    """What a user may take with one click."""

    label: Text
    uuid: UUID | None = None
    is_recommended: bool | None = None
    actions: list[Action] | None = None


class Link(Document):
    """A page to read; links that launch a SMART app are not made here."""

    label: Text
    url: AnyHttpUrl
    type: Literal["absolute"] = "absolute"


class Card(Document):
    """One piece of decision support."""

    summary: Annotated[str, Field(min_length=1, max_length=139)]
    indicator: Literal["info", "warning", "critical"]
    source: Source
    uuid: UUID | None = None
    detail: str | None = None
    suggestions: list[Suggestion] | None = None
    selection_behavior: Literal["at-most-one", "any"] | None = None
    override_reasons: list[Coding] | None = None
    links: list[Link] | None = None
    extension: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _says_how_to_select(self) -> Card:
        if bool(self.suggestions) != (self.selection_behavior is not None):
            raise ValueError("selectionBehavior goes with suggestions")
        return self


class Cards(Document):
    """The answer of a service."""

    cards: list[Card]
    extension: dict[str, Any] | None = None
