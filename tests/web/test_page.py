"""The page in a real browser: what a person enters, sees, supposes, shares and gets wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="driving the page needs selenium")

from driving import Page, Server, decoded, until  # noqa: E402
from selenium.webdriver import Keys  # noqa: E402

import epidural_dx as edx  # noqa: E402
from epidural_dx.clinical.case import read_case  # noqa: E402
from epidural_dx.errors import EvidenceError  # noqa: E402
from epidural_dx.web import STATIC  # noqa: E402

MELANOMA = "melanoma_marrow_hematoma"


def percent(p: float) -> str:
    """Print a probability as the page does, computed apart from it."""
    x = 100 * p
    if 0 < x < 0.1:
        return "<0.1 %"
    if 99.9 < x < 100:
        return ">99.9 %"
    if 0 < x < 9.95 or 99 < x < 99.95:
        return f"{x:.1f} %"
    return f"{x:.0f} %"


def evidence_at(cases: Path, name: str, stage: str) -> dict[str, Any]:
    """Give the findings of a published patient up to a stage."""
    return dict(read_case(cases / f"{name}.yaml").evidence(stage).raw)


def shown_as(model: edx.Model, evidence: dict[str, Any], causes: list[str]) -> dict[str, str]:
    """Give what the page must show for some causes."""
    answer = model.diagnose(evidence).causes
    return {cause: percent(float(answer[cause])) for cause in causes}


# ------------------------------------------------------------------ a patient


def test_patient_from_admission_to_ranked_tests(page: Page, model: edx.Model, cases: Path) -> None:
    """A published patient goes through its stages; causes and tests are the model's at each."""
    page.choose("case", MELANOMA).settle()
    for stage in ("presentation", "blood", "mri"):
        assert page.text(".stage[aria-current]") == {"mri": "MRI"}.get(stage, stage.capitalize())
        evidence = evidence_at(cases, MELANOMA, stage)
        answer = model.diagnose(evidence)
        shown = page.causes()
        assert shown == shown_as(model, evidence, list(shown))
        assert list(shown)[:3] == list(answer.causes.index[:3])
        lower, upper = answer.intervals.loc[next(iter(shown))]
        interval = page.text(".cause .cause-interval").split()[-2:]
        assert percent(float(upper)) in " ".join(interval)
        assert percent(float(lower)).removesuffix(" %") in interval[0]
        ranked = [test for test in answer.next_tests if test.information_bits >= 0.005][:6]
        assert page.texts(".test h3") == [test.label for test in ranked]
        assert page.texts(".test .bits strong") == [f"{t.information_bits:.2f}" for t in ranked]
        page.click('[data-role="next"]').settle()
    page.keep_picture("patient")
    assert not page.errors()


def test_hidden_condition_comes_out(page: Page, model: edx.Model, cases: Path) -> None:
    """At the end the page names the melanoma in the marrow behind the hematoma."""
    page.patient(MELANOMA, "immunohistochemistry")
    marrow = model.diagnose(evidence_at(cases, MELANOMA, "immunohistochemistry")).conditions[
        "marrow_infiltration"
    ]
    first = page.text('[data-condition="marrow_infiltration"] .state').split("\n")
    assert marrow.idxmax() == "melanoma"
    assert first == ["Melanoma", percent(float(marrow["melanoma"]))]
    assert next(iter(page.causes())) == "hematoma"


def test_barred_test_says_why(page: Page, model: edx.Model, cases: Path) -> None:
    """Tests that platelets bar, or whose sample is missing, are marked with the reason."""
    page.patient(MELANOMA, "mri").click("#tests-body .rest button")
    tests = {t.test: t for t in model.diagnose(evidence_at(cases, MELANOMA, "mri")).next_tests}
    assert tests["ct_guided_biopsy"].allowed == "until corrected"
    put_off = page.text('[data-test="ct_guided_biopsy"] .gate')
    assert put_off.startswith("Barred until corrected")
    assert "Platelets very low (100 %)" in put_off and "platelet transfusion" in put_off
    assert tests["aspirate_culture"].allowed is False
    barred = page.text('[data-test="aspirate_culture"] .gate')
    assert barred.startswith("Barred now") and "First: CT-guided needle biopsy" in barred
    allowed = next(name for name, test in tests.items() if test.allowed is True)
    assert not page.one(f'[data-test="{allowed}"] .gate').is_displayed()


def test_waterfall_adds_up_and_leads_to_sources(page: Page, model: edx.Model, cases: Path) -> None:
    """The waterfall goes from the base rate to the posterior; a click shows the figures behind."""
    evidence = evidence_at(cases, "emh_thalassemia_major", "mri")
    page.patient("emh_thalassemia_major", "mri")
    answer = model.diagnose(evidence)
    lead = answer.causes.index[0]
    ends = page.texts(".step-end .step-weight")
    assert ends == [percent(float(model.diagnose({}).causes[lead])), percent(answer.causes[lead])]
    weights = [
        float(re.split(r"[ :]", w)[-1].replace("−", "-"))
        for w in page.texts(".step:not(.step-end) .step-weight")
    ]
    assert len(page.all(".waterfall svg rect")) == len(weights) > 3
    odds = {p: 10 * _log10_odds(p) for p in (model.diagnose({}).causes[lead], answer.causes[lead])}
    prior, posterior = odds.values()
    assert sum(weights) == pytest.approx(posterior - prior, abs=0.05 * (len(weights) + 1))
    page.click('[data-finding="paravertebral_mass"] button')
    until(lambda: page.all("#sources .columns-table tbody tr"), "the columns of the finding")
    assert page.text("#sources-title") == "Figures behind paravertebral mass"
    assert page.texts("#sources .columns-table thead th")[1:] == ["Share", "Worth", "Rests on"]
    page.keep_picture("sources")
    page.keys(Keys.ESCAPE)
    assert not page.shown("#sources")


def _log10_odds(p: float) -> float:
    import math

    return math.log10(p / (1 - p))


def test_sources_of_a_cause_and_of_a_test(page: Page) -> None:
    """A cause shows its rates and papers, a test the sources of price, time and harm."""
    page.click(".cause-line", 1).click(".cause-more button")
    until(lambda: page.all("#sources .columns-table tbody tr"), "rates")
    links = until(lambda: page.all("#sources .figure a"), "papers")
    assert all((a.get_attribute("href") or "").startswith("https://doi.org/10.") for a in links)
    page.click("#sources button").click(".test-more .link").click(".test-body .actions button")
    assert until(lambda: page.all("#sources .citations li"), "citations")
    assert "From order to result" in page.text("#sources")
    page.click("#sources button").click('[data-condition="hemostasis"] h3 button')
    assert until(lambda: page.all("#sources .columns-table tbody tr"), "what it rests on")
    page.click("#sources button").click('[data-condition="blood_disorder"] h3 button')
    until(lambda: "no table of its own" in page.text("#sources"), "how it comes about")
    page.click("#sources button").search("platelets").click(
        '[data-variable="platelets"] .editor .link'
    )
    cuts = until(lambda: page.texts("#sources section:last-of-type tbody tr"), "cut-offs")
    low = next(row for row in cuts if row.startswith("Very low"))
    assert "under 50" in low and "Taylor" in low


# ------------------------------------------------------------------ entering


def test_findings_entered_by_name_give_the_models_answer(page: Page, model: edx.Model) -> None:
    """Names with values, in the words people use, become the evidence that they mean."""
    page.search("age 71", "sex male", "plt 24", "fevr yes", "rim", "INR 2.4", "hb 79 g/L").settle()
    entered = page.entered()["e"]
    assert entered == {
        "age_group": "71",
        "sex": "male",
        "platelets": "24",
        "fever": "present",
        "enhancement": "rim",
        "inr": "2.4",
        "hemoglobin": "79 g/L",
    }
    shown = page.causes()
    assert shown == shown_as(model, entered, list(shown))
    assert page.text('[data-variable="platelets"] .finding-value') == "24 ×10⁹/L, very low"
    assert page.text("#known-count") == "7 findings"


def test_states_are_chosen_excluded_and_combined(page: Page, model: edx.Model) -> None:
    """One state, one of several, and "is not" are told apart and sent as such."""
    page.search("onset").click('[data-variable="onset"] .chip', 3).settle()
    assert page.entered()["e"] == {"onset": "sudden"}
    page.click('[data-variable="onset"] .modes .pill', 1)
    page.click('[data-variable="onset"] .chip', 2).settle()
    assert sorted(page.entered()["e"]["onset"]) == ["acute_days", "sudden"]
    page.click('[data-variable="onset"] .chip', 2)
    page.click('[data-variable="onset"] .modes .pill', 2).settle()
    assert page.entered()["e"] == {"onset": {"not": "sudden"}}
    assert page.text('[data-variable="onset"] .finding-value') == "not sudden"
    shown = page.causes()
    assert shown == shown_as(model, {"onset": {"not": "sudden"}}, list(shown))
    page.click('[data-variable="onset"] .remove').settle()
    assert page.entered()["e"] == {}


def test_wrong_unit_is_explained_beside_the_field_and_repaired(
    page: Page, model: edx.Model
) -> None:
    """A wrong unit leaves the rest standing, says the command line's sentence, and offers a fix."""
    page.search("fever yes").settle()
    before = page.causes()
    page.search("hemoglobin 79").settle()
    with pytest.raises(EvidenceError) as error:
        model.diagnose({"hemoglobin": "79"})
    row = '[data-variable="hemoglobin"]'
    sentence = str(error.value).removeprefix("hemoglobin: ")
    assert page.text(f"{row} .problem p") == sentence
    assert page.causes() == before
    assert page.text(".caution-problem") == "One finding could not be read and does not count."
    page.keep_picture("error")
    page.click(f"{row} .finding-value")
    assert page.one("#number-hemoglobin").get_attribute("aria-invalid") == "true"
    page.click(f"{row} .problem button").settle()
    assert page.entered()["e"]["hemoglobin"] == "79 g/L"
    assert not page.shown(f"{row} .problem") and not page.all(".caution-problem")
    assert page.causes() != before

    page.search("platelets 24 10^9/mL").settle()
    assert page.texts('[data-variable="platelets"] .problem button') == ["Use 24 10^9/L"]
    page.click('[data-variable="platelets"] .problem button').settle()
    assert page.entered()["e"]["platelets"] == "24 10^9/L"


def test_unknown_name_offers_the_nearest(page: Page) -> None:
    """A name that matches nothing gets the model's sentence, and its nearest match as a button."""
    page.search("thrombocites_count")
    problem = until(lambda: page.texts("#search-problem p"), "a sentence")[0]
    assert "is not a variable of the model" in problem
    offers = page.texts("#search-problem button")
    assert "Platelets" in offers
    page.click("#search-problem button", offers.index("Platelets"))
    assert page.focused() == "number-platelets"
    assert not page.all("#search-problem p")


def test_impossible_findings_are_said_and_can_be_undone(page: Page) -> None:
    """Findings that exclude each other are named instead of an old answer shown as new."""
    page.search("blood disorder none").settle().search("hemoglobinopathy tdt").settle()
    assert page.text("#cautions .problem p") == (
        "These findings cannot occur together: blood disorder none, "
        "hemoglobinopathy transfusion-dependent thalassemia."
    )
    assert page.js("return document.body.classList.contains('is-stale')")
    assert page.axe() == []
    page.click("#cautions .problem button").settle()
    assert not page.js("return document.body.classList.contains('is-stale')")


# ------------------------------------------------------------------ what if


def test_what_if_is_marked_compared_kept_or_dropped(
    page: Page, model: edx.Model, cases: Path
) -> None:
    """A test's possible result is tried, marked as supposed, compared, and taken back."""
    page.patient(MELANOMA, "mri")
    known = evidence_at(cases, MELANOMA, "mri")
    # What a sampled test promises is right only to its standard error.
    tests = [t for t in model.diagnose(known).next_tests[:3] if t.method == "exact" and t.results]
    result = tests[0].results[-1]
    button = f'[data-test="{tests[0].test}"] .results li:nth-child({len(tests[0].results)}) button'
    promised = page.text(f"{button} .result-then")
    page.click(button)
    assert page.focused() == "what-if"
    page.settle()
    supposed = {**known, result.finding: result.state}
    shown = page.causes()
    assert shown == shown_as(model, supposed, list(shown))
    lead = next(iter(shown))
    assert shown[lead] in promised
    row = f'[data-variable="{result.finding}"]'
    assert "is-what-if" in (page.one(row).get_attribute("class") or "")
    assert "what if" in page.text(row)
    banner = page.text("#what-if")
    assert percent(float(model.diagnose(known).causes[lead])) in banner and shown[lead] in banner
    assert page.all(".weight.supposed"), "the waterfall marks what is only supposed"
    assert page.shown(".bar-before") and page.shown(".cause-change")
    page.keep_picture("what-if")

    page.click("#what-if button", 1).settle()
    assert result.finding not in page.entered()["e"]
    shown = page.causes()
    assert shown == shown_as(model, known, list(shown))
    assert not page.shown("#what-if")

    page.click(".test .result").settle().click("#what-if button").settle()
    assert "h" not in page.entered() and not page.all(".is-what-if")


# ------------------------------------------------------------------ sharing, undoing, choosing


def test_link_holds_everything_and_no_server_sees_it(
    page: Page, server: Server, driver: Any
) -> None:
    """A shared link opens the same findings and suppositions; its fragment reaches no log."""
    page.choose("scenario", "high_tuberculosis").settle()
    page.search("platelets 24", "rim").settle().click(".test .result").settle()
    entered, causes = page.entered(), page.causes()
    assert entered["h"] and entered["s"] == "high_tuberculosis"
    page.click("#share")
    link = str(page.one("#share-link").get_attribute("value"))
    assert link.startswith(f"{server.url}#") and decoded(link) == entered
    driver.get(f"{server.url}icon.svg")
    page.js("sessionStorage.clear()")
    page.open(link.removeprefix(server.url))
    assert page.entered() == entered and page.causes() == causes
    assert page.one("#scenario").get_attribute("value") == "high_tuberculosis"
    assert driver.current_url == server.url, "the address tells nothing once it has been read"
    log = server.log.read_text()
    assert link.split("#")[1][:20] not in log and "platelets" not in log
    assert not page.errors()


@pytest.mark.parametrize("fragment", ["#1.e30", "#1.eyJlIjp7", "#9.abc", "#1.bnVsbA"])
def test_damaged_link_is_refused(page: Page, fragment: str) -> None:
    """A link that was cut off says so and shows the page without findings."""
    page.open(fragment)
    assert "link is damaged" in page.text("#search-problem").lower()
    assert page.text("#known-count") == "0 findings"
    assert not page.errors()


def test_link_with_an_unknown_variable_still_shows_the_rest(page: Page) -> None:
    """A name that this model does not have is named and can be removed; the rest counts."""
    import base64

    content = json.dumps({"e": {"fever": "present", "no_such_thing": "present"}}).encode()
    page.open("#1." + base64.urlsafe_b64encode(content).decode().rstrip("="))
    assert "no_such_thing is not a variable" in page.text("#search-problem")
    page.click("#search-problem button").settle()
    assert page.entered()["e"] == {"fever": "present"}
    assert not page.all("#search-problem p")


def test_reload_keeps_and_undo_and_reset_go_back(page: Page, driver: Any) -> None:
    """A reload keeps what is entered; Undo takes one step back, also after Reset."""
    page.search("fever yes", "rim").settle()
    driver.refresh()
    page.settle()
    assert page.entered()["e"] == {"fever": "present", "enhancement": "rim"}
    page.search("platelets 24").settle().click("#undo").settle()
    assert list(page.entered()["e"]) == ["fever", "enhancement"]
    page.click("#reset").settle()
    assert page.entered()["e"] == {} and page.focused() == "search"
    page.js("document.activeElement.blur()")
    page.keys(Keys.CONTROL, "z", Keys.NULL).settle()
    assert list(page.entered()["e"]) == ["fever", "enhancement"]


def test_base_rates_are_chosen(page: Page, child_model: edx.Model) -> None:
    """Other base rates give the answer of their scenario, and the page says what they stand for."""
    page.choose("scenario", "child").settle()
    shown = page.causes()
    assert shown == shown_as(child_model, {}, list(shown))
    assert "patients below 18 years" in page.text("#scenario-why").lower()


def test_own_findings_survive_a_step_to_another_stage(page: Page) -> None:
    """A finding that the user adds to a patient stays when the stage changes."""
    page.patient(MELANOMA).search("diabetes yes").settle()
    page.click('[data-role="stage-blood"]').settle()
    entered = page.entered()["e"]
    assert entered["diabetes"] == "present" and entered["platelets"] == "24 10^9/L"
    page.click('[data-role="stage-presentation"]').settle()
    entered = page.entered()["e"]
    assert entered["diabetes"] == "present" and "platelets" not in entered


def test_tests_are_ranked_by_what_is_chosen(page: Page, model: edx.Model) -> None:
    """The order of the tests follows the menu."""
    known = {"enhancement": "rim"}
    page.search("rim").settle()
    page.choose("rank-by", "information_per_cost").settle()
    ranked = model.rank_tests(known, by="information_per_cost")
    labels = [model.diagnose(known).next_tests[0].label]
    by_test = {t.test: t.label for t in model.diagnose(known).next_tests}
    telling = ranked[ranked["information_bits"] >= 0.005]["test"][:6]
    assert page.texts(".test h3") == [by_test[test] for test in telling]
    assert page.texts(".test h3")[:1] != labels


# ------------------------------------------------------------------ trouble


def test_late_answer_to_an_earlier_state_is_dropped(page: Page, model: edx.Model) -> None:
    """An answer that arrives after a newer question is never shown."""
    page.js(
        """
        const ask = window.fetch;
        window.late = 0;
        window.fetch = async (path, options) => {
          const slow = options?.body?.includes('"fever":"absent"');
          // As a network may: the answer comes late, whether or not the page still wants it.
          const answer = await ask(path, slow ? {...options, signal: undefined} : options);
          if (slow) {
            await new Promise((resolve) => setTimeout(resolve, 1500));
            window.late += 1;
          }
          return answer;
        };
        """
    )
    page.search("fever no")
    until(lambda: page.js("return performance.now()"), "time")
    page.js("return new Promise((resolve) => setTimeout(resolve, 400))")
    page.click('[data-variable="fever"] .pill').settle()
    until(lambda: page.js("return window.late"), "the late answer")
    page.js("return new Promise((resolve) => setTimeout(resolve, 500))")
    assert page.entered()["e"] == {"fever": "present"}
    shown = page.causes()
    assert shown == shown_as(model, {"fever": "present"}, list(shown))


def test_server_goes_away_and_comes_back(driver: Any, own_server: Server, server: Server) -> None:
    """Without a server the page keeps what is entered, says so, and goes on when it is back."""
    own_server.start()
    page = Page(driver, own_server.url).size(1440, 900).open()
    page.search("fever yes").settle()
    own_server.stop()
    page.search("rim")
    until(lambda: page.shown("#connection"), "a message")
    assert "The server does not answer" in page.text("#connection")
    assert page.js("return document.body.classList.contains('is-stale')")
    page.keep_picture("server-gone")
    own_server.start()
    page.click("#connection button")
    until(lambda: not page.shown("#connection"), "the message gone")
    page.settle()
    assert page.entered()["e"] == {"fever": "present", "enhancement": "rim"}
    assert not page.js("return document.body.classList.contains('is-stale')")


def test_token_is_asked_for(driver: Any, own_server: Server) -> None:
    """A server with a token asks for it once and then answers."""
    own_server.environment["EPIDURAL_DX_TOKEN"] = "a-token-for-this-test"
    own_server.start()
    page = Page(driver, own_server.url).size(1440, 900)
    driver.get(own_server.url)
    until(lambda: page.shown("#token"), "a field for the token")
    page.keys("a-token-for-this-test", Keys.ENTER).settle()
    assert page.causes()


# ------------------------------------------------------------------ everybody


def test_keyboard_alone_is_enough(page: Page) -> None:
    """Findings, a supposition, its end and undo, without a pointer and without getting lost."""
    page.keys(Keys.TAB)
    assert page.focused().startswith("A Skip to the findings")
    page.keys(Keys.ENTER)
    assert page.focused() == "search"
    page.keys("platelets 24", Keys.ENTER).settle()
    assert page.focused() == "search"
    page.keys("spl", Keys.ARROW_DOWN, Keys.ARROW_UP)
    active = page.one("#search").get_attribute("aria-activedescendant")
    assert page.one(f"#{active}").get_attribute("aria-selected") == "true"
    page.keys(Keys.ENTER)
    assert "pair-splen" in str(page.js("return document.activeElement.name"))
    page.keys(Keys.SPACE).settle()
    assert "present" in page.entered()["e"].values()
    for _ in range(400):
        page.keys(Keys.TAB)
        if page.js("return document.activeElement.className") == "result":
            break
        ring = page.js("return getComputedStyle(document.activeElement).outlineStyle")
        hidden = page.js("return document.activeElement.type === 'radio'")
        assert hidden or ring != "none", f"no focus to be seen on {page.focused()}"
    page.keys(Keys.ENTER)
    assert page.focused() == "what-if"
    page.settle().keys(Keys.TAB)
    assert page.focused() == "BUTTON Take as known"
    page.keys(Keys.TAB).keys(Keys.ENTER).settle()
    assert "h" not in page.entered() and page.focused() == "tests"
    page.keys(Keys.CONTROL, "z", Keys.NULL).settle()
    assert page.entered()["h"]


def test_changes_are_announced(page: Page) -> None:
    """A screen reader hears the leading causes and the best test after a change."""
    page.search("fever yes").settle()
    said = until(
        lambda: (
            (text := page.js("return document.getElementById('announce').textContent"))
            and text.startswith("Most likely")
            and text
        ),
        "an announcement",
    )
    assert "Best next test:" in said


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 360])
def test_axe_finds_no_barrier(page: Page, scheme: str, width: int) -> None:
    """axe-core finds nothing (WCAG 2.2 AA and good practice), whatever is open."""
    page.size(width, 800, phone=width < 600).media(prefers_color_scheme=scheme).open()
    assert page.axe() == [], "empty"
    page.patient(MELANOMA, "mri").click(".test .result").settle()
    page.search("hemoglobin 79", "onset").settle()
    page.click(".cause-line").click(".test-more .link").click("#tests-body .rest button")
    page.click('[data-variable="hemoglobin"] .finding-value').click(".group-head .link")
    page.one("#search").send_keys("pla")
    page.js("scrollTo(0, 0)")
    page.keep_picture(f"full-{scheme}-{width}")
    assert page.axe() == [], "full"
    page.one("#search").send_keys(Keys.ESCAPE, Keys.ESCAPE)
    page.click(".cause-more button")
    until(lambda: page.all("#sources .figure"), "sources")
    assert page.axe() == [], "sources"
    page.click("#sources button").click("#share")
    assert page.axe() == [], "share"


def test_phone_width_needs_no_sideways_scrolling(page: Page) -> None:
    """At 360 px nothing sticks out, and everything that can be tapped is large enough."""

    def fits() -> None:
        assert page.js("return document.documentElement.scrollWidth") == 360
        small = page.js(
            """
            return [...document.querySelectorAll('button, select, input, summary, .jump a')]
              .filter((e) => e.checkVisibility() && !e.closest('.pill, .chip'))
              .map((e) => [e.outerHTML.slice(0, 90), e.getBoundingClientRect()])
              .filter(([, box]) => box.height < 24 || box.width < 24 || box.right > 360.5)
              .map(([html]) => html);
            """
        )
        assert small == []

    page.size(360, 740, phone=True).open()
    fits()
    page.keep_picture("phone")
    page.patient(MELANOMA, "mri").click(".test .result").settle()
    page.search("hemoglobin 79").settle().click('[data-variable="hemoglobin"] .finding-value')
    page.click(".cause-line").click(".test-more .link").click("#tests-body .rest button")
    for link in range(len(page.all(".group-head .link"))):
        page.click(".group-head .link", link)
    fits()
    assert page.shown(".jump"), "the parts of the page are within reach of a thumb"
    page.click(".jump a", 2)
    assert page.js("return document.getElementById('causes').getBoundingClientRect().top") < 200
    page.click(".cause-more button")
    until(lambda: page.all("#sources .figure"), "sources")
    fits()


def test_light_and_dark(page: Page) -> None:
    """The page follows the system, and the button overrules it and is remembered."""

    def brightness() -> int:
        colour = page.js("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert brightness() > 600
    page.media(prefers_color_scheme="dark")
    assert brightness() < 150
    page.click("#theme")
    assert page.text("#theme") == "Light" and brightness() > 600
    page.open()
    assert page.text("#theme") == "Light" and brightness() > 600
    page.click("#theme").media(prefers_color_scheme="light")
    assert page.text("#theme") == "Dark" and brightness() < 150


def test_notice_is_always_there_also_on_paper(page: Page) -> None:
    """The notice stands on screen and on paper; paper has no controls."""
    assert "Not a medical device" in page.text("#notice")
    page.search("fever yes").settle().media(media="print")
    assert page.shown("#notice") and page.shown("#causes") and page.shown("#tests")
    assert not page.shown(".search") and not page.shown(".tools") and not page.shown(".result")
    assert page.shown('[data-variable="fever"]') and not page.shown('[data-variable="diabetes"]')


def test_nothing_comes_from_elsewhere(page: Page, server: Server, driver: Any) -> None:
    """All requests go to this server, and the content security policy has nothing to refuse."""
    page.patient(MELANOMA, "mri")
    requests = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in driver.get_log("performance")
        if '"Network.requestWillBeSent"' in entry["message"]
    ]
    assert any("/v1/diagnose" in url for url in requests)
    elsewhere = [url for url in requests if not url.startswith((server.url, "about:", "data:"))]
    assert elsewhere == []
    assert page.errors() == []


def test_files_name_no_address_but_that_of_a_paper() -> None:
    """The files hold no address outside the server, except the resolver of DOIs to be clicked."""
    allowed = {"http://www.w3.org/2000/svg", "https://doi.org/$"}
    for path in STATIC.iterdir():
        found = set(re.findall(r"(?:https?:)?//[a-z][\w./$-]*", path.read_text(encoding="utf-8")))
        assert {address for address in found if "://" in address} <= allowed, path.name
        if path.suffix == ".html":
            content = path.read_text(encoding="utf-8")
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", content)
