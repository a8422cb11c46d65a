// The page: what the user enters goes to the server, what it answers comes back into view.

import { makeAppearance } from "./appearance.js";
import { readCatalogue } from "./catalogue.js";
import { Causes, Conditions } from "./causes.js";
import { isConnected, wasConnection } from "./connection.js";
import { byId, fill, h, say } from "./elements.js";
import { Findings, problemContent, rawText } from "./findings.js";
import { Inquiry } from "./inquiry.js";
import { makeSearch } from "./search.js";
import { Problem, get, post } from "./service.js";
import { EMPTY, Session, fromFragment, hypotheticalOf, kept } from "./session.js";
import { share } from "./sharing.js";
import { Sources } from "./sources.js";
import { Story, findingsAt } from "./story.js";
import { Tests } from "./tests.js";
import { Why } from "./why.js";
import * as words from "./words.js";
import { change, percent, spokenPercent } from "./words.js";

const BUSY = { answer: "answer", tests: "tests-body", why: "why-body" };

async function start() {
  try {
    const catalogue = await readCatalogue();
    isConnected();
    new Page(catalogue).open();
  } catch (error) {
    if (wasConnection(error, start)) return;
    fill(byId("connection"), h("strong", {}, error.message)).hidden = false;
    throw error;
  }
}

class Page {
  #session = new Session();
  /** Published patients that have been read, by name. */
  #cases = new Map();
  #best = null;

  constructor(catalogue) {
    const session = this.#session;
    this.catalogue = catalogue;
    this.inquiry = new Inquiry(session, {
      answer: (answer) => this.#showAnswer(answer),
      tests: (ranked, by) => this.#showTests(ranked, by),
      explanation: (explanation) => this.#showExplanation(explanation),
      busy: (part, yes) => byId(BUSY[part]).setAttribute("aria-busy", String(yes)),
      settled: () => this.#announceAnswer(),
      failed: (error) => this.#failed(error),
    });
    this.findings = new Findings({
      catalogue,
      onSet: (variable, value, what) => session.set(variable.name, value, {
        what, hypothetical: session.state.findings[variable.name]?.hypothetical,
      }),
      onRemove: (variable, what) => {
        if (session.state.findings[variable.name]) session.remove(variable.name, what);
      },
      onKeep: (variable, what) => session.set(variable.name, session.state.findings[variable.name].value, { what }),
      onSources: (variable) => this.sources.ofVariable(variable, this.inquiry.answer?.evidence[variable.name]),
    });
    this.sources = new Sources(catalogue);
    this.causes = new Causes({
      onSources: (cause) => this.sources.ofCause(cause),
      onWhy: (cause) => {
        this.inquiry.explain(cause);
        byId("why").scrollIntoView();
        byId("why").focus({ preventScroll: true });
      },
    });
    this.conditions = new Conditions(catalogue, {
      onSources: (variable) => this.sources.ofVariable(variable),
    });
    this.tests = new Tests(catalogue, {
      onWhatIf: (variable, state, test) => this.#whatIf(variable, state, test),
      onSources: (test) => this.sources.ofTest(test),
    });
    this.why = new Why(catalogue, {
      onSources: (variable) => this.sources.ofVariable(variable, this.inquiry.answer?.evidence[variable.name]),
      onCause: (cause) => this.inquiry.explain(cause),
    });
    this.story = new Story({
      onStage: (stage) => this.#toStage(stage),
      onClose: () => this.#leavePatient(),
    });
    this.search = makeSearch({
      catalogue,
      known: () => session.state.findings,
      onValue: (variable, value) => {
        this.#noSearchProblem();
        session.set(variable.name, value, { what: variable.label });
        this.findings.reveal(variable);
        announce(`${variable.label}: ${rawText(value, variable)}. Added.`);
      },
      onFinding: (variable) => {
        this.#noSearchProblem();
        this.findings.edit(variable);
      },
      onUnknown: (text) => this.#askUnknown(text),
    });
    this.#fillMenus();
    this.#listen();
  }

  #fillMenus() {
    const { scenarios, cases, model } = this.catalogue;
    const options = (items, text) => items.map((one) => h("option", { value: one.name }, text(one)));
    fill(byId("scenario"), options(scenarios, (one) => one.label));
    byId("case").append(h("optgroup", { label: "Published patients" }, options(cases, (one) => one.title)));
    say(byId("model"), `epidural-dx ${model.version} · networks and priors ${model.digest.slice(0, 12)}`);
  }

  #listen() {
    const session = this.#session;
    const on = (id, event, call) => byId(id).addEventListener(event, call);
    on("scenario", "change", () => {
      const chosen = byId("scenario").value;
      session.change({ ...session.state, scenario: chosen === this.catalogue.scenario ? null : chosen }, "base rates");
    });
    on("case", "change", () => this.#toCase(byId("case").value));
    on("rank-by", "change", () => this.inquiry.rank(byId("rank-by").value));
    on("undo", "click", () => this.#undo());
    on("reset", "click", () => {
      session.change(EMPTY, "reset");
      announce("Everything has been reset. Undo brings it back.");
      this.search.focus();
    });
    on("share", "click", () => share(session.state));
    on("print", "click", () => window.print());
    document.addEventListener("keydown", (event) => this.#shortcut(event));
    window.addEventListener("hashchange", () => this.#openLink());
    window.addEventListener("online", () => this.inquiry.ask.now());
    window.addEventListener("beforeprint", () => say(byId("printed"), `Printed ${new Date().toLocaleString()}`));
    session.addEventListener("change", () => {
      this.#showEntered();
      this.inquiry.changed();
    });
  }

  #shortcut(event) {
    const typing = event.target.closest("input[type=text], input[type=password]");
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key === "z" && !typing) {
      event.preventDefault();
      this.#undo();
    }
  }

  #undo() {
    const what = this.#session.undo();
    if (what) announce(`Undone: ${what}.`);
  }

  // -------------------------------------------------------------- opening

  /** Show the state of the link, else that of before a reload, else nothing. */
  open() {
    if (!this.#openLink()) this.#session.open(kept() ?? EMPTY);
  }

  /** Open the state behind the # of the address; says whether there was one. */
  #openLink() {
    const { hash, pathname } = location;
    if (!hash.includes(".")) return false;
    // After the first change the address would no longer tell the truth.
    history.replaceState(null, "", pathname);
    try {
      const state = fromFragment(hash);
      if (!state) return false;
      const { scenarios, cases } = this.catalogue;
      this.#session.open({
        findings: Object.fromEntries(Object.entries(state.findings)
          .map(([name, finding]) => [this.catalogue.canonical(name), finding])),
        scenario: scenarios.some((one) => one.name === state.scenario) ? state.scenario : null,
        patient: cases.some((one) => one.name === state.patient?.name && one.stages.includes(state.patient.stage)) ? state.patient : null,
      });
      return true;
    } catch (error) {
      fill(byId("search-problem"), h("div.problem", {}, h("p", {}, error.message)));
      return false;
    }
  }

  // -------------------------------------------------------------- published patients

  async #case(name) {
    if (!this.#cases.has(name)) this.#cases.set(name, await get(`/v1/cases/${encodeURIComponent(name)}`));
    return this.#cases.get(name);
  }

  #leavePatient() {
    const { scenario } = this.#session.state;
    this.inquiry.forgetCause();
    this.#session.change({ ...EMPTY, scenario }, "leave the patient");
    byId("case").focus();
  }

  async #toCase(name) {
    if (!name) {
      this.#leavePatient();
      return;
    }
    try {
      const one = await this.#case(name);
      const { state } = this.#session;
      const [{ name: stage }] = one.stages;
      this.inquiry.forgetCause();
      this.#session.change({
        findings: findingsAt(one, stage, {}, null, (key) => this.catalogue.canonical(key)),
        scenario: one.about.scenario ?? state.scenario,
        patient: { name, stage },
      }, "open the patient");
    } catch (error) {
      byId("case").value = this.#session.state.patient?.name ?? "";
      if (!wasConnection(error, () => this.#toCase(name))) throw error;
    }
  }

  async #toStage(stage) {
    const { state } = this.#session;
    const one = await this.#case(state.patient.name);
    this.#session.change({
      ...state,
      findings: findingsAt(one, stage, state.findings, state.patient.stage, (key) => this.catalogue.canonical(key)),
      patient: { ...state.patient, stage },
    }, `go to ${words.stage(stage)}`);
  }

  async #showStory(patient) {
    if (!patient) {
      this.story.hide();
      return;
    }
    try {
      const one = await this.#case(patient.name);
      if (this.#session.state.patient === patient) this.story.show(one, patient.stage);
    } catch (error) {
      if (!wasConnection(error, () => this.#showStory(this.#session.state.patient))) throw error;
    }
  }

  // -------------------------------------------------------------- what if

  #whatIf(variable, state, test) {
    this.#session.set(variable.name, state, {
      hypothetical: true, what: `what if ${words.inSentence(variable.label)} is ${words.predicate(state)}`,
    });
    announce(`What if ${words.inSentence(variable.label)} is ${words.predicate(state)}? From ${test.label}.`);
    // The button that was pressed goes with the old ranking; what it did is told here.
    byId("what-if").focus();
  }

  #endWhatIf(end) {
    end();
    byId("tests").focus({ preventScroll: true });
  }

  /** @param {object} [answer] - The answer to what is supposed now, once it is there. */
  #showWhatIf(answer) {
    const session = this.#session;
    const supposed = hypotheticalOf(session.state);
    const banner = byId("what-if");
    banner.hidden = !supposed.length;
    if (!supposed.length) return;
    const said = supposed.map((name) => {
      const variable = this.catalogue.variables.get(name);
      const { value } = session.state.findings[name];
      const text = typeof value === "string" && variable?.states.includes(value) ? words.predicate(value) : rawText(value, variable);
      return `${variable ? words.inSentence(variable.label) : name} is ${text}`;
    });
    const button = (text, end) => h("button.quiet.small", { type: "button", onclick: () => this.#endWhatIf(end) }, text);
    fill(banner,
      h("div", {},
        h("p.what-if-title", {}, h("strong", {}, "What if "), said.join(" and "), "?"),
        answer ? this.#moved(answer, this.inquiry.reference) : null),
      h("div.what-if-tools", {},
        button("Take as known", () => session.keepHypothetical("take as known")),
        button("Drop it", () => session.dropHypothetical("drop what if"))));
  }

  /** What a supposition does to the leading cause, and to what the marrow holds. */
  #moved(answer, known) {
    const [lead] = answer.causes;
    const was = known.causes.find((one) => one.cause === lead.cause).probability;
    const ahead = known.causes[0].cause;
    const line = (name, before, now, rest = null) => h("p.what-if-change", {}, `${name} `,
      h("span.dim", {}, percent(before)),
      h("span", { "aria-hidden": "true" }, " → "), h("span.for-readers", {}, " to "),
      h("strong", {}, percent(now)), rest);
    const marrow = answer.conditions.marrow_infiltration;
    const [held] = Object.keys(marrow).sort((a, b) => marrow[b] - marrow[a]);
    const heldBefore = known.conditions.marrow_infiltration[held];
    return [
      line(words.cause(lead.cause), was, lead.probability,
        ahead === lead.cause ? null : `, ahead of ${words.inSentence(words.cause(ahead))}`),
      change(marrow[held], heldBefore) ? line(words.inMarrow(held), heldBefore, marrow[held]) : null,
    ];
  }

  // -------------------------------------------------------------- what cannot be read

  /** Let the server say what is wrong with a name, and offer what it finds nearest. */
  async #askUnknown(text) {
    const [, name, value] = /^(\D*\S*?)(?:\s+([<>≤≥=]*\s*\d.*))?$/.exec(text);
    const evidence = { [name.trim().replaceAll(/\s+/g, "_").slice(0, 100)]: value ?? "present" };
    try {
      await post("/v1/diagnose", { evidence, intervals: false, next_tests: false });
    } catch (error) {
      if (error instanceof Problem && error.status === 422) this.#showSearchProblem(error, value);
      else if (!wasConnection(error, () => this.#askUnknown(text))) throw error;
    }
  }

  #showSearchProblem(problem, value) {
    const { variables } = this.catalogue;
    const nearest = problem.nearest.filter((name) => variables.has(name));
    fill(byId("search-problem"), h("div.problem", {}, problemContent({ message: problem.message, nearest }, {
      label: (name) => variables.get(name).label,
      use: (name) => {
        this.#noSearchProblem();
        const variable = variables.get(name);
        if (value) this.#session.set(name, value, { what: variable.label });
        this.findings.edit(variable);
      },
    })));
  }

  #noSearchProblem() {
    fill(byId("search-problem"));
  }

  /** Names that the model does not have come only with a link. */
  #showUnknownNames() {
    const names = Object.keys(this.#session.state.findings).filter((name) => !this.catalogue.variables.has(name));
    if (!names.length) return;
    fill(byId("search-problem"), names.map((name) => h("div.problem", {},
      h("p", {}, this.inquiry.problems.get(name)?.message ?? `${name} is not a variable of the model.`),
      h("p.repairs", {}, h("button.quiet.small", {
        type: "button",
        onclick: () => {
          this.#noSearchProblem();
          this.#session.remove(name, `remove ${name}`);
        },
      }, `Remove ${name}`)))));
  }

  #failed(error) {
    document.body.classList.add("is-stale");
    if (wasConnection(error, () => this.inquiry.ask.now())) return;
    if (!(error instanceof Problem)) throw error;
    // The findings cannot be true together, or the question as a whole is refused.
    const { undoable } = this.#session;
    fill(byId("cautions"), h("div.problem", { role: "alert" },
      h("p", {}, words.capital(words.sentence(withoutPlace(error), this.catalogue.variables))),
      undoable ? h("p.repairs", {}, h("button.quiet.small", { type: "button", onclick: () => this.#undo() }, `Undo: ${undoable}`)) : null));
    for (const id of Object.values(BUSY)) byId(id).setAttribute("aria-busy", "false");
  }

  // -------------------------------------------------------------- showing

  #showEntered() {
    const { state, undoable } = this.#session;
    const { answer, problems } = this.inquiry;
    this.findings.show(state, answer?.evidence ?? {}, problems);
    const count = Object.keys(state.findings).length;
    say(byId("known-count"), count === 1 ? "1 finding" : `${count} findings`);
    byId("undo").disabled = !undoable;
    byId("undo").title = undoable ? `Undo: ${undoable}` : "";
    byId("reset").disabled = !count && !state.scenario && !state.patient;
    const scenario = this.catalogue.scenarios.find((one) => one.name === (state.scenario ?? this.catalogue.scenario));
    byId("scenario").value = scenario.name;
    say(byId("scenario-why"), `Base rates: ${scenario.label}. ${words.capital(scenario.why)}.`);
    byId("case").value = state.patient?.name ?? "";
    this.#showStory(state.patient);
    this.#showWhatIf();
    this.#showUnknownNames();
  }

  #showAnswer(answer) {
    isConnected();
    document.body.classList.remove("is-stale");
    const before = this.inquiry.reference;
    this.findings.show(this.#session.state, answer.evidence, this.inquiry.problems);
    this.#showUnknownNames();
    const key = byId("key-before");
    key.hidden = !before || !this.causes.moved(answer, before);
    say(key.lastChild, hypotheticalOf(this.#session.state).length ? "without the what-if" : "before the last change");
    this.causes.show(answer, before);
    this.conditions.show(answer, before);
    this.#showCautions(answer.warnings.filter((one) => one.code !== "research_use"));
    this.#showWhatIf(answer);
    const [first] = answer.causes;
    fill(byId("jump-lead"), h("span", {}, words.cause(first.cause)), h("strong", {}, percent(first.probability)));
  }

  #showCautions(cautions) {
    const left = this.inquiry.problems.size;
    const lines = cautions.map((one) => h("li.caution", {}, words.sentence(one.message, this.catalogue.variables)));
    if (left) {
      lines.unshift(h("li.caution.caution-problem", {},
        left === 1 ? "One finding could not be read and does not count." : `${left} findings could not be read and do not count.`));
    }
    fill(byId("cautions"), lines.length ? h("ul.cautions", { "aria-label": "Cautions" }, lines) : null);
  }

  #showTests(ranked, by) {
    this.tests.show(ranked, by);
    this.#best = ranked.find((one) => one.allowed === true);
  }

  #showExplanation(explanation) {
    if (!explanation) {
      this.why.empty();
      return;
    }
    const supposed = new Set(hypotheticalOf(this.#session.state));
    this.why.show(explanation, this.inquiry.answer, (name) => supposed.has(name));
  }

  #announceAnswer() {
    const { answer, reference } = this.inquiry;
    const [first, second] = answer.causes;
    const old = reference?.causes.find((one) => one.cause === first.cause).probability;
    const moved = old !== undefined && change(first.probability, old) ? ` (was ${spokenPercent(old)})` : "";
    announce(`Most likely ${words.cause(first.cause)}, ${spokenPercent(first.probability)}${moved}, `
      + `then ${words.cause(second.cause)}, ${spokenPercent(second.probability)}.`
      + `${this.#best ? ` Best next test: ${this.#best.label}.` : ""}`);
  }
}

/** The sentence of a problem with several findings, without the one it happened to name first. */
const withoutPlace = ({ kind, message, variable }) =>
  (kind === "impossible" && variable ? message.replace(`${variable}: `, "") : message);

/** Tell a screen reader. */
function announce(text) {
  say(byId("announce"), text);
}

makeAppearance();
start();
