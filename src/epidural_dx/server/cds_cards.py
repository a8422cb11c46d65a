"""Cards of CDS Hooks from answers of the model: words around numbers, no number of their own."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import AnyHttpUrl

from epidural_dx.clinical.display import duration
from epidural_dx.clinical.fhir_codes import FhirCodes
from epidural_dx.clinical.fhir_reading import FhirReading
from epidural_dx.clinical.fhir_writing import (
    BASE,
    best_tests,
    drivers_of,
    interval_told,
    percent_told,
    service_requests,
)
from epidural_dx.decision.order_check import OrderCheck
from epidural_dx.server.cds_models import Action, Card, Coding, Link, Source, Suggestion

__all__ = ["CardMaker", "DraftOrder", "markdown"]

#: Key of the extension that names the model; reverse domain of a name that nobody owns (RFC 2606).
MODEL_KEY = "invalid.epidural-dx.model"

_LONGEST_SUMMARY = 139
_CAUSES = 5
_WARNINGS = 6
_NOT_READ = 8
_NO_NEWS = ("not in the table", "every patient of the model")
#: Findings that say that the cord or the cauda fails already.
_FAILING = {"limb_weakness": ("partial", "complete"), "sphincter_dysfunction": ("present",)}

#: Reasons for which a card on an order may be dismissed.
_REASONS = (
    ("corrected", "Already corrected, or newer results are at hand"),
    ("no-lesion", "There is no epidural lesion"),
    ("accepted", "The risk is known and accepted"),
)


def markdown(text: str) -> str:
    """Return text in which nothing is read as Markdown or HTML."""
    flat = " ".join(str(text).split())
    flat = re.sub(r"([\\`*_{}\[\]<>#|~!&@])", r"\\\1", flat)
    # GitHub's flavour makes links of bare addresses
    return re.sub(r"(:)(?=//)|(?<=www)(\.)", r"\\\g<0>", flat, flags=re.IGNORECASE)


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_SUMMARY else text[: _LONGEST_SUMMARY - 1].rstrip() + "…"


@dataclass(frozen=True)
class DraftOrder:
    """One draft order, and the test that it asks for.

    Attributes
    ----------
    test : str
    reference : str or None
        Such as ``ServiceRequest/12``, if the draft has an id.
    """

    test: str
    reference: str | None


@dataclass(frozen=True)
class CardMaker:
    """Makes cards for one call.

    Attributes
    ----------
    codes : FhirCodes
    hook_instance : uuid.UUID
        Of the call; cards of one call get the same identifiers when it is answered again.
    service : str
    label : str
        Whom the cards come from.
    url : str or None
        Public address of the service, absolute.
    snomed : bool
        Whether proposals carry SNOMED CT codes too.
    """

    codes: FhirCodes
    hook_instance: uuid.UUID
    service: str
    label: str
    url: str | None = None
    snomed: bool = False

    def _uuid(self, *parts: object) -> uuid.UUID:
        text = "/".join(str(p) for p in (self.service, *parts))
        return uuid.uuid5(self.hook_instance, text)

    @property
    def _source(self) -> Source:
        return Source(label=self.label, url=None if self.url is None else AnyHttpUrl(self.url))

    def _links(self) -> list[Link] | None:
        if self.url is None:
            return None
        return [Link(label="Explore the findings in epidural-dx", url=AnyHttpUrl(self.url))]

    def differential(self, document: Mapping[str, Any], reading: FhirReading) -> Card:
        """Return the card with the causes of the lesion and the best next tests.

        Parameters
        ----------
        document : mapping
            ``answer.to_dict()``.
        reading : FhirReading
            What the answer rests on.
        """
        first, second = document["causes"][:2]
        summary = f"Epidural lesion: {_words(first['cause'])} {percent_told(first['probability'])}"
        if first["lower"] is not None:
            summary += f" ({interval_told(first['lower'], first['upper'])})"
        summary += (
            f", then {_words(second['cause'])} {percent_told(second['probability'])}. Research only"
        )
        requests = service_requests(
            document, self.codes, subject=reading.subject, snomed=self.snomed
        )
        suggestions = [
            Suggestion(
                label=f"Propose: {request['code']['text']}",
                uuid=self._uuid("suggestion", request["id"]),
                is_recommended=True if place == 0 else None,
                actions=[
                    Action(
                        type="create",
                        description=f"Draft a proposal: {request['code']['text']}",
                        resource=request,
                    )
                ],
            )
            for place, request in enumerate(requests)
        ]
        return Card(
            uuid=self._uuid("differential", document["model"]["digest"]),
            summary=_shortened(summary),
            indicator=self._urgency(document, reading),
            source=self._source,
            detail=self._detail(document, reading),
            suggestions=suggestions or None,
            selection_behavior="any" if suggestions else None,
            links=self._links(),
            extension={MODEL_KEY: dict(document["model"])},
        )

    def _urgency(self, document: Mapping[str, Any], reading: FhirReading) -> Any:
        failing = any(
            set(document["evidence"].get(name, {}).get("states", ["?"])) <= set(states)
            for name, states in _FAILING.items()
        )
        barred = any(
            w["code"] == "contraindication" and w["variables"] for w in document["warnings"]
        )
        return "warning" if failing or barred or reading.conflicts else "info"

    def _detail(self, document: Mapping[str, Any], reading: FhirReading) -> str:
        lines = [
            "| Cause | Probability | 90 % interval | Drivers |",
            "| --- | ---: | ---: | --- |",
        ]
        for one in document["causes"][:_CAUSES]:
            interval = ""
            if one["lower"] is not None:
                interval = interval_told(one["lower"], one["upper"])
            cells = (
                _words(one["cause"]),
                percent_told(one["probability"]),
                interval,
                drivers_of(document, one["cause"]),
            )
            lines.append("| " + " | ".join(markdown(cell) for cell in cells) + " |")
        tests = [t for t in document["next_tests"] if t["allowed"] is True][:3]
        if tests:
            lines += ["", "**Next tests**", ""]
            lines += [f"- {markdown(t['label'])}: {markdown(t['reason'])}" for t in tests]
        ordered = {t["test"] for t in best_tests(document, self.codes)}
        if any(t["test"] not in ordered for t in tests):
            lines += ["", "What is done at the bedside is not proposed as an order."]
        warnings = [w["message"] for w in document["warnings"] if w["code"] != "research_use"]
        if warnings or reading.conflicts:
            lines += ["", "**Mind**", ""]
            lines += [f"- {markdown(w)}" for w in (*warnings, *reading.conflicts)[:_WARNINGS]]
        lines += ["", *self._record(reading), "", *self._footer(document["model"])]
        lines.append(f"*{markdown(document['notice'])}*")
        return "\n".join(lines)

    def _record(self, reading: FhirReading) -> list[str]:
        told = f"{len(reading.used)} findings used, {len(reading.ignored)} entries not used"
        if reading.reference_date is not None:
            told += f", as of {reading.reference_date}"
        lines = [f"**From the record**: {told}.", ""]
        # what is not in the table would be most of any record; that there is a lesion is no news
        telling = [i for i in reading.ignored if not any(told in i.reason for told in _NO_NEWS)]
        shown = [
            *reading.notes,
            *(f"not used: {i.code or i.reference}: {i.reason}" for i in telling),
        ]
        lines += [f"- {markdown(text)}" for text in shown[:_NOT_READ]]
        if len(shown) > _NOT_READ:
            lines.append(f"- and {len(shown) - _NOT_READ} more")
        return lines

    def _footer(self, model: Mapping[str, Any]) -> list[str]:
        return [
            f"Model {markdown(model['name'])} {markdown(model['version'])}, base rates "
            f"{markdown(_words(model['scenario']))}, digest {model['digest'][:12]}.",
            "",
        ]

    def contradiction(self, problem: str, model: Mapping[str, Any]) -> Card:
        """Return the card that says that the record cannot be answered.

        Parameters
        ----------
        problem : str
            One sentence.
        model : mapping
            Name, version, digest and scenario.
        """
        return Card(
            uuid=self._uuid("contradiction", model["digest"]),
            summary="Epidural lesion: the record contradicts itself, no probabilities are given",
            indicator="info",
            source=self._source,
            detail=f"{markdown(problem)}\n\n" + "\n".join(self._footer(model)),
            extension={MODEL_KEY: dict(model)},
        )

    def order(
        self,
        check: OrderCheck,
        drafts: Sequence[DraftOrder],
        model: Mapping[str, Any],
        notice: str,
        alike: OrderCheck | None = None,
    ) -> Card | None:
        """Return the card on an order that the patient should not have now; None if he may.

        Parameters
        ----------
        check : OrderCheck
            What the gates say.
        drafts : sequence of DraftOrder
            The draft orders for that test.
        model : mapping
            Name, version, digest and scenario.
        notice : str
        alike : OrderCheck, optional
            What the gates say about a test of the same kind that has more of them, such as another
            needle into the spine.
        """
        found = check.admission
        if found.allowed is True:
            return None
        never = found.allowed is False
        why = ", ".join(found.barriers)
        if why == "always":
            why = "never below an epidural mass that compresses the cord"
        held = "barred" if never else "hold until corrected"
        lines = [f"**{markdown(check.label)}**: {held} ({markdown(why)})."]
        if alike is not None and alike.admission.allowed is not True:
            told = markdown(", ".join(alike.admission.barriers))
            lines += ["", f"It would also meet what bars {markdown(alike.label)}: {told}."]
        if found.corrections:
            hours = found.correction_hours
            lines += [
                "",
                f"Corrected by {markdown('; '.join(found.corrections))}"
                + (f" (about {duration(hours)})." if hours else "."),
            ]
        if found.look_up:
            told = f"Not known and likely enough to matter: {markdown('; '.join(found.look_up))}."
            if found.first:
                told += f" Do first: {markdown(', '.join(_words(t) for t in found.first))}."
            lines += ["", told]
        lines += ["", f"Sources of the rule: {markdown(', '.join(check.sources))}.", ""]
        lines += [*self._footer(model), f"*{markdown(notice)}*"]
        named = [d.reference for d in drafts if d.reference is not None]
        suggestions = [
            Suggestion(
                label=f"Remove the draft: {check.label}",
                uuid=self._uuid("remove", reference),
                actions=[
                    Action(
                        type="delete",
                        description=f"Remove the draft order {reference}",
                        resource_id=reference,
                    )
                ],
            )
            for reference in dict.fromkeys(named)
        ]
        return Card(
            uuid=self._uuid("order", check.test, *named),
            summary=_shortened(f"{check.label}: {held} ({why})"),
            indicator="critical" if never else "warning",
            source=self._source,
            detail="\n".join(lines),
            suggestions=suggestions or None,
            selection_behavior="any" if suggestions else None,
            override_reasons=[
                Coding(code=code, system=f"{BASE}/CodeSystem/override-reason", display=display)
                for code, display in _REASONS
            ],
            extension={MODEL_KEY: dict(model)},
        )


def _words(name: str) -> str:
    return name.replace("_", " ")
