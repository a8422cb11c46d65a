"""CDS Hooks 2.0: discovery, the services, feedback.

Two services: the differential when a record is opened (``patient-view``), and a check of draft
orders (``order-select``, ``order-sign``) against what the decision layer bars. Both are silent
unless the record names a lesion in the spinal epidural space; a needle into the spine names one.
Data come with the call (prefetch); nothing is fetched unless a fetcher is configured.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import date
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from epidural_dx import __version__
from epidural_dx.answer import RESEARCH_NOTICE
from epidural_dx.clinical.fhir_codes import FhirCodes, load_fhir_codes
from epidural_dx.clinical.fhir_reading import FhirReading, read_fhir
from epidural_dx.clinical.fhir_resources import codings, mappings, text_of, words_of
from epidural_dx.decision.order_check import check_orders
from epidural_dx.errors import CaseError, EpiduralDxError, EvidenceError
from epidural_dx.model import Model
from epidural_dx.server.cds_cards import CardMaker, DraftOrder
from epidural_dx.server.cds_models import (
    Card,
    Cards,
    Discovery,
    FeedbackRequest,
    HookRequest,
    OrderSelectContext,
    OrderSignContext,
    PatientViewContext,
    Service,
)
from epidural_dx.server.cds_trust import Trust
from epidural_dx.server.logs import log
from epidural_dx.server.problems import MEDIA_TYPE, Problem, from_error, from_validation

__all__ = ["DIFFERENTIAL", "ORDER_CHECK", "cds_router"]

DIFFERENTIAL = "epidural-lesion-differential"
ORDER_CHECK = "epidural-lesion-order-check"

#: Given a call, a key and its query, returns the resource (None for no data).
Fetch = Callable[[HookRequest, str, str], Mapping[str, Any] | None]
T = TypeVar("T")
Run = Callable[[Callable[[], Any]], Awaitable[Any]]

_OF_PATIENT = "patient={{context.patientId}}"
#: Queries in the subset that the specification recommends.
PREFETCH = {
    "patient": "Patient/{{context.patientId}}",
    "conditions": f"Condition?{_OF_PATIENT}",
    "laboratory": f"Observation?{_OF_PATIENT}&category=laboratory&_sort=-date&_count=200",
    "vitals": f"Observation?{_OF_PATIENT}&category=vital-signs&_sort=-date&_count=50",
    "statements": f"MedicationStatement?{_OF_PATIENT}&status=active",
    "requests": f"MedicationRequest?{_OF_PATIENT}&status=active",
    "procedures": f"Procedure?{_OF_PATIENT}&_sort=-date&_count=50",
}
#: Without these no answer is given (412); the others are only unknown when they are missing.
NEEDED = ("patient", "conditions", "laboratory")

#: A record with more resources than this is not read while a clinician waits.
MOST_RESOURCES = 5000

_USAGE = (
    "For research and teaching, not a medical device. Codes read: LOINC, ICD-10-CM, SNOMED CT, "
    "RxNorm ingredients, ATC."
)
_CONTEXTS: Mapping[str, type[PatientViewContext]] = {
    "patient-view": PatientViewContext,
    "order-select": OrderSelectContext,
    "order-sign": OrderSignContext,
}
SERVICES = (
    Service(
        hook="patient-view",
        id=DIFFERENTIAL,
        title="Cause of a spinal epidural lesion",
        description="Probability of every cause of a spinal epidural lesion, with intervals, and "
        "the tests worth most next. Silent unless the record names such a lesion.",
        prefetch=PREFETCH,
        usage_requirements=_USAGE,
    ),
    *(
        Service(
            hook=hook,
            id=ORDER_CHECK,
            title="Draft orders in a patient with a spinal epidural lesion",
            description="Warns when a draft lumbar puncture, spine biopsy or other test meets "
            "what bars it, such as low platelets.",
            prefetch=PREFETCH,
            usage_requirements=_USAGE,
        )
        for hook in ("order-select", "order-sign")
    ),
)


class _Route(APIRoute):
    """Answers every refusal with a problem document, also where the router is used alone."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except Problem as error:
                problem = error
            except RequestValidationError as error:
                broken = any(e["type"] == "json_invalid" for e in error.errors())
                problem = (
                    Problem("malformed", "The body is no JSON.")
                    if broken
                    else from_validation(error.errors())
                )
            except EpiduralDxError as error:
                problem = from_error(error)
            except RecursionError:
                problem = Problem("malformed", "The body is nested too deeply.")
            return Response(
                problem.body(getattr(request.state, "request_id", None)),
                status_code=problem.status,
                media_type=MEDIA_TYPE,
                headers={"Cache-Control": "no-store", **problem.headers},
            )

        return answered


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": told, "content": {MEDIA_TYPE: {}}}
    for status, told in (
        (400, "The body is no JSON"),
        (401, "The signed token is missing or wrong"),
        (404, "There is no such service"),
        (412, "Data that the service needs were not supplied"),
        (422, "The request has the wrong shape"),
        (503, "No room for the question now"),
    )
}


def cds_router(
    get_model: Callable[[], Model],
    *,
    trust: Trust | None = None,
    public_url: str | None = None,
    fetch: Fetch | None = None,
    today: Callable[[], date] | None = None,
    run: Run | None = None,
    snomed: bool = False,
) -> APIRouter:
    """Return the routes of the CDS Hooks services.

    Parameters
    ----------
    get_model : callable
        Returns the model; may raise `Problem` while it loads.
    trust : Trust, optional
        Clients that may call; without it every caller is answered (loopback, or a bearer token
        that the server checks itself).
    public_url : str, optional
        Address of the page, for the source and the link of cards; without it cards have neither.
    fetch : callable, optional
        Fetches what was not supplied from ``fhirServer``; without it nothing is fetched.
    today : callable, optional
        Gives the reference date; by default the newest date of the data.
    run : callable, optional
        Awaits a piece of work in a thread; by default Starlette's pool.
    snomed : bool
        Whether proposals carry SNOMED CT codes (needs the licence).

    Returns
    -------
    APIRouter
    """
    router = APIRouter(tags=["CDS Hooks"], route_class=_Route)

    async def compute(work: Callable[[], T]) -> T:
        if run is not None:
            done: T = await run(work)
            return done
        return await run_in_threadpool(work)

    def check(request: Request) -> None:
        if trust is not None:
            trust.verify(request.headers.get("authorization"), request.url.path)

    @router.get(
        "/cds-services",
        response_model=Discovery,
        response_model_exclude_none=True,
        responses={401: _PROBLEMS[401]},
    )
    async def discover(request: Request) -> Any:
        """List the services."""
        check(request)
        return Discovery(services=list(SERVICES)).as_json()

    @router.post(
        "/cds-services/{service}",
        response_model=Cards,
        response_model_exclude_none=True,
        responses=_PROBLEMS,
    )
    async def call(request: Request, service: str, body: HookRequest) -> Any:
        """Answer a call with cards."""
        check(request)
        context = _context(service, body)
        model = get_model()

        def work() -> Cards:
            codes = load_fhir_codes(model._priors)
            reading = _read(model, codes, body, context, fetch, today)
            maker = CardMaker(
                codes=codes,
                hook_instance=body.hook_instance,
                service=service,
                label=f"epidural-dx {__version__} (research)",
                url=public_url,
                snomed=snomed,
            )
            if isinstance(context, OrderSignContext):
                cards = _order_cards(model, codes, reading, context, maker)
            else:
                cards = _differential(model, reading, maker)
            return Cards(cards=cards)

        answer = await compute(work)
        return JSONResponse(answer.as_json(), headers={"Cache-Control": "no-store"})

    @router.post(
        "/cds-services/{service}/feedback",
        response_model=dict[str, str],
        responses={s: _PROBLEMS[s] for s in (400, 401, 404, 422)},
    )
    async def feedback(request: Request, service: str, body: FeedbackRequest) -> Any:
        """Take note of what users did with cards; only numbers go to the log, no comment."""
        check(request)
        _hooks_of(service)
        outcomes = [one.outcome for one in body.feedback]
        log(
            "cds feedback",
            service=service,
            accepted=outcomes.count("accepted"),
            overridden=outcomes.count("overridden"),
        )
        return {}

    return router


def _hooks_of(service: str) -> tuple[str, ...]:
    hooks = tuple(s.hook for s in SERVICES if s.id == service)
    if not hooks:
        raise Problem(
            "not-found",
            f"There is no service {service[:80]!r}.",
            value=service,
            allowed=dict.fromkeys(s.id for s in SERVICES),
        )
    return hooks


def _context(service: str, body: HookRequest) -> PatientViewContext:
    hooks = _hooks_of(service)
    if body.hook not in hooks:
        raise Problem(
            "request",
            f"The service {service} does not answer the hook {body.hook[:80]!r}.",
            variable="hook",
            value=body.hook,
            allowed=hooks,
        )
    return _checked(_CONTEXTS[body.hook], body.context)


def _checked(kind: type[PatientViewContext], context: Mapping[str, Any]) -> PatientViewContext:
    try:
        return kind.model_validate(context)
    except ValidationError as error:
        errors = [{**e, "loc": ("context", *e["loc"])} for e in error.errors()]
        raise from_validation(errors) from None


# Data -----------------------------------------------------------------------------------------


def _read(
    model: Model,
    codes: FhirCodes,
    body: HookRequest,
    context: PatientViewContext,
    fetch: Fetch | None,
    today: Callable[[], date] | None,
) -> FhirReading:
    """Read the prefetched data into evidence.

    Raises
    ------
    Problem
        412 if needed data were neither supplied nor reachable; 422 if they are of somebody else.
    """
    supplied = body.prefetch or {}
    resources: list[Mapping[str, Any]] = []
    notes: list[str] = []
    lacking: list[str] = []
    for key, template in PREFETCH.items():
        value: object
        if key in supplied:
            value = supplied[key]
        elif fetch is not None and body.fhir_server is not None:
            query = template.replace("{{context.patientId}}", context.patient_id)
            value = fetch(body, key, query)
        else:
            if key in NEEDED:
                lacking.append(key)
            else:
                notes.append(f"{key} were not supplied and are not known")
            continue
        if value is None:
            continue  # the client has no such data
        if not isinstance(value, Mapping) or not isinstance(value.get("resourceType"), str):
            raise Problem(
                "request", f"prefetch.{key} is no FHIR resource.", variable=f"prefetch.{key}"
            )
        if value["resourceType"] == "OperationOutcome":
            if key in NEEDED:
                lacking.append(key)
            else:
                notes.append(f"{key} could not be read by the client and are not known")
            continue
        resources.append(value)
    entries = sum(len(mappings(one.get("entry"))) for one in resources)
    if entries > MOST_RESOURCES:
        raise Problem(
            "request",
            f"The prefetch holds {entries:,} resources; at most {MOST_RESOURCES:,} are read.",
            variable="prefetch",
        )
    if lacking:
        raise Problem(
            "precondition",
            f"The service needs the prefetch {' and '.join(lacking)}, which "
            f"{'was' if len(lacking) == 1 else 'were'} not supplied.",
            variable="prefetch",
            allowed=PREFETCH,
        )
    named = [r for r in resources if r["resourceType"] == "Patient"]
    for patient in named:
        if patient.get("id") not in (None, context.patient_id):
            raise Problem(
                "request",
                "The prefetched Patient is not the patient of the context.",
                variable="prefetch.patient",
            )
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            # a Patient without an id is the one of the context
            {"resource": {"id": context.patient_id, **r} if r in named else r}
            for r in resources
        ],
    }
    try:
        reading = read_fhir(
            bundle, model, reference_date=None if today is None else today(), codes=codes
        )
    except CaseError as error:
        raise Problem("evidence", str(error), variable="prefetch") from None
    subject = reading.subject or {"reference": f"Patient/{context.patient_id}"}
    return FhirReading(
        evidence=reading.evidence,
        used=reading.used,
        ignored=reading.ignored,
        conflicts=reading.conflicts,
        notes=(*notes, *reading.notes),
        subject=subject,
        reference_date=reading.reference_date,
        has_lesion=reading.has_lesion,
    )


# Services -------------------------------------------------------------------------------------


def _identity(model: Model) -> dict[str, str]:
    return {
        "name": model.name,
        "version": model.version,
        "digest": model.digest,
        "scenario": model.scenario,
    }


def _differential(model: Model, reading: FhirReading, maker: CardMaker) -> list[Card]:
    if not reading.has_lesion:
        return []
    try:
        document = model.diagnose(reading.evidence).to_dict()
    except EvidenceError as error:
        return [maker.contradiction(str(error), _identity(model))]
    return [maker.differential(document, reading)]


def _order_cards(
    model: Model,
    codes: FhirCodes,
    reading: FhirReading,
    context: OrderSignContext,
    maker: CardMaker,
) -> list[Card]:
    drafts = _drafts(codes, context)
    if not reading.has_lesion:
        implied = codes.rule("implies_lesion")
        drafts = [d for d in drafts if d.test in implied]
    if not drafts:
        return []
    alike: Mapping[str, str] = codes.rule("barred_alike")
    tests = [d.test for d in drafts]
    try:
        checks = check_orders(
            model,
            model.read_evidence(reading.evidence),
            (*tests, *(alike[t] for t in tests if t in alike)),
        )
    except EvidenceError as error:
        return [maker.contradiction(str(error), _identity(model))]
    by_test = {check.test: check for check in checks}
    cards = (
        maker.order(
            check,
            [d for d in drafts if d.test == check.test],
            _identity(model),
            RESEARCH_NOTICE,
            by_test.get(alike.get(check.test, "")),
        )
        for check in checks
        if check.test in tests
    )
    return [card for card in cards if card is not None]


def _drafts(codes: FhirCodes, context: OrderSignContext) -> list[DraftOrder]:
    """Return the draft orders for tests that the model knows; for order-select the selected ones.

    Raises
    ------
    Problem
        ``draftOrders`` is no Bundle.
    """
    bundle = context.draft_orders
    if bundle.get("resourceType") != "Bundle" or not isinstance(bundle.get("entry", []), list):
        raise Problem(
            "request", "context.draftOrders is no FHIR Bundle.", variable="context.draftOrders"
        )
    selected: Sequence[str] | None = None
    if isinstance(context, OrderSelectContext):
        selected = context.selections
    found = []
    for entry in mappings(bundle.get("entry", [])):
        order = entry.get("resource")
        if not isinstance(order, Mapping) or order.get("resourceType") != "ServiceRequest":
            continue
        name = text_of(order.get("id"))
        reference = f"ServiceRequest/{name}" if name else None
        if selected is not None and reference not in selected and name not in selected:
            continue
        concept = order.get("code")
        test = codes.ordered_test(codings(concept), " ".join(words_of(concept)))
        if test is not None:
            found.append(DraftOrder(test, reference))
    return found
