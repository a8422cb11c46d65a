// The page: what the user enters goes to the server, what it answers comes back into view.

import { readCatalogue } from "./catalogue.js";
import { Causes, Conditions } from "./causes.js";
import { byId, debounced, fill, h, say } from "./elements.js";
import { Findings, problemContent, rawText } from "./findings.js";
import { makeSearch } from "./search.js";
import { Problem, Unreachable, get, post, setToken } from "./service.js";
import { EMPTY, Session, evidenceOf, fromFragment, hypotheticalOf, kept, toFragment } from "./session.js";
import { Sources } from "./sources.js";
import { Story, findingsAt } from "./story.js";
import { Tests } from "./tests.js";
import { Why } from "./why.js";
import * as words from "./words.js";
import { change, percent, spokenPercent } from "./words.js";

/** A change waits this long for the next one before the server is asked. */
const PAUSE = 120;
/** An unreachable server is asked again after this long, then ever later. */
const RETRY_FIRST = 2000;
const RETRY_LAST = 30000;
const THEMES = [["auto", "Auto", "as the system"], ["light", "Light", "light"], ["dark", "Dark", "dark"]];
const THEME = "epidural-dx theme";

const session = new Session();

// ---------------------------------------------------------------- appearance

function showTheme(name) {
  const [, text, spoken] = THEMES.find(([one]) => one === name) ?? THEMES[0];
  document.documentElement.dataset.theme = name;
  say(byId("theme"), text);
  byId("theme").setAttribute("aria-label", `Appearance: ${spoken}`);
}

function stored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

showTheme(stored(THEME) ?? "auto");
byId("theme").addEventListener("click", () => {
  const place = THEMES.findIndex(([one]) => one === document.documentElement.dataset.theme);
  const [next] = THEMES[(place + 1) % THEMES.length];
  try {
    localStorage.setItem(THEME, next);
  } catch {
    // Forgotten when the page is closed.
  }
  showTheme(next);
});

// ---------------------------------------------------------------- the server's absence

let retryIn = RETRY_FIRST;
let retryTimer = 0;

/** Say that the server is gone and try again, now by hand or later by itself. */
function showUnreachable(error, again) {
  clearTimeout(retryTimer);
  const banner = byId("connection");
  const retry = () => {
    clearTimeout(retryTimer);
    again();
  };
  if (banner.hidden || !banner.dataset.kind) {
    fill(banner,
      h("span", {}, h("strong", {}, error.message), " What you entered is kept here; the answers below may be old."),
      h("button.quiet.small", { type: "button", onclick: () => banner.retry() }, "Try again"));
    banner.hidden = false;
    banner.dataset.kind = "unreachable";
  }
  banner.retry = retry;
  retryTimer = setTimeout(retry, retryIn);
  retryIn = Math.min(2 * retryIn, RETRY_LAST);
}

function showReachable() {
  clearTimeout(retryTimer);
  retryIn = RETRY_FIRST;
  const banner = byId("connection");
  banner.hidden = true;
  delete banner.dataset.kind;
  fill(banner);
}

/** Ask for the bearer token that a server open to others wants. */
function showTokenForm(again) {
  const field = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const banner = byId("connection");
  fill(banner, h("form.token", {
    onsubmit: (event) => {
      event.preventDefault();
      setToken(field.value.trim());
      showReachable();
      again();
    },
  }, h("label", { for: "token" }, "This server asks for its token"), field, h("button.quiet.small", { type: "submit" }, "Continue")));
  banner.hidden = false;
  field.focus();
}

// ---------------------------------------------------------------- start

async function start() {
  let catalogue;
  try {
    catalogue = await readCatalogue();
  } catch (error) {
    if (error instanceof Problem && error.status === 401) showTokenForm(start);
    else if (error instanceof Unreachable || error.status === 503) showUnreachable(error, start);
    else fill(byId("connection"), h("strong", {}, error.message)).hidden = false;
    return;
  }
  showReachable();
  new Page(catalogue).open();
}

class Page {
  /** Cases that have been read, by name. */
  #cases = new Map();
  #request = null;
  #problems = new Map();
  #answer = null;
  /** The last answer with everything that is known and nothing supposed, and its evidence. */
  #known = { key: "", answer: null };
  /** The settled answer before the last change, for showing what it did. */
  #before = null;
  #whyCause = null;

  constructor(catalogue) {
    this.catalogue = catalogue;
    this.findings = new Findings({
      catalogue,
      onSet: (variable, value, what) => session.set(variable.name, value, {
        what, hypothetical: session.state.findings[variable.name]?.hypothetical,
      }),
      onRemove: (variable, what) => {
        if (session.state.findings[variable.name]) session.remove(variable.name, what);
      },
      onKeep: (variable, what) => session.set(variable.name, session.state.findings[variable.name].value, { what }),
    });
    this.sources = new Sources(catalogue);
    this.causes = new Causes({
      onSources: (cause) => this.sources.ofCause(cause),
      onWhy: (cause) => {
        this.#explain(cause);
        byId("why").scrollIntoView({ block: "start" });
      },
    });
    this.conditions = new Conditions(catalogue);
    this.tests = new Tests(catalogue, {
      onWhatIf: (variable, state, test) => this.#whatIf(variable, state, test),
      onSources: (test) => this.sources.ofTest(test),
    });
    this.why = new Why(catalogue, {
      onSources: (variable) => this.sources.ofVariable(variable, this.#answer?.evidence[variable.name]),
      onCause: (cause) => this.#explain(cause),
    });
    this.story = new Story({
      onStage: (stage) => this.#toStage(stage),
      onClose: () => session.change(EMPTY_WITH(session.state.scenario), "leave the patient"),
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
    this.ask = debounced(() => this.#ask(), PAUSE);
    this.#settings();
    this.#toolbar();
  }

  // -------------------------------------------------------------- settings and tools

  #settings() {
    const { catalogue } = this;
    fill(byId("scenario"), catalogue.scenarios.map((one) => h("option", { value: one.name }, one.label)));
    byId("scenario").addEventListener("change", () => {
      const chosen = byId("scenario").value;
      session.change({ ...session.state, scenario: chosen === catalogue.scenario ? null : chosen }, "base rates");
    });
    byId("case").append(h("optgroup", { label: "Published patients" }, catalogue.cases.map((one) => h("option", { value: one.name }, one.title))));
    byId("case").addEventListener("change", () => this.#toCase(byId("case").value));
    byId("rank-by").addEventListener("change", () => this.#rank());
    const { version, digest } = catalogue.model;
    say(byId("model"), `epidural-dx ${version} · networks and priors ${digest.slice(0, 12)}`);
  }

  #toolbar() {
    byId("undo").addEventListener("click", () => this.#undo());
    byId("reset").addEventListener("click", () => {
      session.change(EMPTY, "reset");
      announce("Everything has been reset. Undo brings it back.");
      this.search.focus();
    });
    byId("print").addEventListener("click", () => window.print());
    byId("share").addEventListener("click", () => this.#share());
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest("input[type=text], input[type=password], textarea");
      if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key === "z" && !typing) {
        event.preventDefault();
        this.#undo();
      }
      if (event.key === "/" && !event.target.closest("input, select, textarea, dialog")) {
        event.preventDefault();
        this.search.focus();
      }
    });
    window.addEventListener("hashchange", () => this.#openLink());
    window.addEventListener("beforeprint", () => say(byId("printed"), `Printed ${new Date().toLocaleString()}`));
    window.addEventListener("online", () => this.ask.now());
  }

  #undo() {
    const what = session.undo();
    if (what) announce(`Undone: ${what}.`);
  }

  #share() {
    const link = `${location.origin}${location.pathname}${toFragment(session.state)}`;
    const field = h("input", { type: "text", readOnly: true, value: link, id: "share-link", "aria-describedby": "share-hint" });
    const done = h("span", { role: "status" });
    const dialog = byId("share-dialog");
    fill(dialog,
      h("div.sheet-head", {}, h("h2", { id: "share-title" }, "Share"),
        h("button.quiet", { type: "button", onclick: () => dialog.close() }, "Close")),
      h("div.sheet-body", {},
        h("label", { for: "share-link" }, "A link to what is entered now"),
        h("div.share-line", {}, field,
          h("button.primary", {
            type: "button",
            onclick: async () => {
              field.select();
              try {
                await navigator.clipboard.writeText(link);
                say(done, "Copied.");
              } catch {
                say(done, "Press Ctrl+C to copy.");
              }
            },
          }, "Copy")),
        h("p", {}, done),
        h("p.hint", { id: "share-hint" }, "The findings stand behind the # of the link. Browsers keep that part to themselves, so no server sees or logs it. Whoever has the link has the findings.")));
    dialog.showModal();
    field.select();
  }

  // -------------------------------------------------------------- opening

  open() {
    session.addEventListener("change", () => this.#changed());
    if (!this.#openLink()) session.open(kept() ?? EMPTY);
  }

  /** Open the state behind the # of the address; says whether there was one. */
  #openLink() {
    try {
      const state = fromFragment(location.hash);
      if (!state) return false;
      // The address would no longer tell the truth after the first change.
      history.replaceState(null, "", location.pathname);
      if (state.scenario && !this.catalogue.scenarios.some((one) => one.name === state.scenario)) state.scenario = null;
      if (state.patient && !this.catalogue.cases.some((one) => one.name === state.patient.name)) state.patient = null;
      session.open(state);
      return true;
    } catch (error) {
      history.replaceState(null, "", location.pathname);
      fill(byId("search-problem"), h("div.problem", {}, h("p", {}, error.message)));
      return false;
    }
  }

  // -------------------------------------------------------------- patients

  async #case(name) {
    if (!this.#cases.has(name)) this.#cases.set(name, await get(`/v1/cases/${encodeURIComponent(name)}`));
    return this.#cases.get(name);
  }

  async #toCase(name) {
    if (!name) {
      session.change(EMPTY_WITH(session.state.scenario), "leave the patient");
      return;
    }
    try {
      const one = await this.#case(name);
      const [first] = one.stages;
      this.#whyCause = null;
      session.change({
        findings: findingsAt(one, first.name, {}, null, (key) => this.catalogue.canonical(key)),
        scenario: one.about.scenario && one.about.scenario !== this.catalogue.scenario ? one.about.scenario : session.state.scenario,
        patient: { name, stage: first.name },
      }, "open the patient");
    } catch (error) {
      byId("case").value = session.state.patient?.name ?? "";
      if (error instanceof Unreachable) showUnreachable(error, () => this.#toCase(name));
      else throw error;
    }
  }

  async #toStage(stage) {
    const { patient, findings } = session.state;
    const one = await this.#case(patient.name);
    session.change({
      ...session.state,
      findings: findingsAt(one, stage, findings, patient.stage, (key) => this.catalogue.canonical(key)),
      patient: { ...patient, stage },
    }, `go to ${words.stage(stage)}`);
  }

  // -------------------------------------------------------------- what if

  #whatIf(variable, state, test) {
    session.set(variable.name, state, { hypothetical: true, what: `what if ${variable.label} ${words.predicate(state)}` });
    announce(`What if ${words.inSentence(variable.label)} is ${words.predicate(state)}? From ${test.label}.`);
    // The button that was pressed goes with the old ranking; what it did is told here.
    byId("what-if").focus();
  }

  #endWhatIf(end) {
    end();
    byId("tests").focus({ preventScroll: true });
  }

  /** @param {boolean} answered - Whether the answer is to what is supposed now. */
  #showWhatIf(answered) {
    const banner = byId("what-if");
    const supposed = hypotheticalOf(session.state);
    banner.hidden = !supposed.length;
    if (!supposed.length) return;
    const { answer: known } = this.#known;
    const lead = this.#answer?.causes[0];
    const was = known?.causes.find((one) => one.cause === lead?.cause)?.probability;
    const current = answered && lead && was !== undefined;
    fill(banner,
      h("div", {},
        h("p.what-if-title", {}, h("strong", {}, "What if "), supposed.map((name, i) => {
          const variable = this.catalogue.variables.get(name);
          return [i ? " and " : "", `${variable ? words.inSentence(variable.label) : name} is ${supposedText(session.state.findings[name].value, variable)}`];
        }), "?"),
        current ? h("p.what-if-change", {}, `${words.cause(lead.cause)} `,
          h("span.dim", {}, percent(was)), h("span", { "aria-hidden": "true" }, " → "), h("span.for-readers", {}, " to "), h("strong", {}, percent(lead.probability)),
          known.causes[0].cause === lead.cause ? null : h("span", {}, `, ahead of ${words.inSentence(words.cause(known.causes[0].cause))}`)) : null),
      h("div.what-if-tools", {},
        h("button.quiet.small", { type: "button", onclick: () => this.#endWhatIf(() => session.keepHypothetical("take as known")) }, "Take as known"),
        h("button.quiet.small", { type: "button", onclick: () => this.#endWhatIf(() => session.dropHypothetical("drop what if")) }, "Drop it")));
  }

  // -------------------------------------------------------------- what cannot be read

  /** Let the server say what is wrong with a name, and offer what it finds nearest. */
  async #askUnknown(text) {
    const [, name, value] = /^(\S+(?:\s+[a-z]\S*)*)\s*(.*)$/i.exec(text) ?? [null, text, ""];
    try {
      await post("/v1/diagnose", { evidence: { [name.replaceAll(/\s+/g, "_").slice(0, 100)]: value || "present" }, intervals: false, next_tests: false });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#searchProblem(error, value);
    }
  }

  #searchProblem(problem, value) {
    fill(byId("search-problem"), h("div.problem", {}, problemContent({
      message: problem.message,
      nearest: problem.nearest.filter((one) => this.catalogue.variables.has(one)),
    }, {
      label: (name) => this.catalogue.variables.get(name).label,
      use: (name) => {
        this.#noSearchProblem();
        const variable = this.catalogue.variables.get(name);
        if (value) session.set(name, value, { what: variable.label });
        this.findings.edit(variable);
      },
    })));
  }

  #noSearchProblem() {
    fill(byId("search-problem"));
  }

  // -------------------------------------------------------------- asking

  #changed() {
    const { state } = session;
    // What the last change did is measured from the last answer to a state without problems.
    this.#before = this.#answer;
    this.#problems = new Map([...this.#problems].filter(([name, one]) =>
      name in state.findings && JSON.stringify(state.findings[name].value) === one.raw));
    this.#showEntered();
    byId("answer").setAttribute("aria-busy", "true");
    this.ask();
  }

  #showEntered() {
    const { state } = session;
    this.findings.show(state, this.#answer?.evidence ?? {}, this.#problems);
    const count = Object.keys(state.findings).length;
    say(byId("known-count"), count === 1 ? "1 finding" : `${count} findings`);
    byId("undo").disabled = !session.undoable;
    byId("undo").title = session.undoable ? `Undo: ${session.undoable}` : "";
    byId("reset").disabled = !count && !state.scenario && !state.patient;
    const scenario = state.scenario ?? this.catalogue.scenario;
    byId("scenario").value = scenario;
    const about = this.catalogue.scenarios.find((one) => one.name === scenario);
    say(byId("scenario-why"), about ? `Base rates: ${about.label}. ${words.capital(about.why)}.` : "");
    byId("case").value = state.patient?.name ?? "";
    this.#showStory(state.patient);
    this.#showWhatIf(false);
    this.#showUnknownNames(state);
  }

  async #showStory(patient) {
    if (!patient) {
      this.story.hide();
      return;
    }
    const one = await this.#case(patient.name).catch(() => null);
    if (one && session.state.patient === patient) this.story.show(one, patient.stage);
  }

  /** Names that the model does not have can only come with a link. */
  #showUnknownNames(state) {
    const names = Object.keys(state.findings).filter((name) => !this.catalogue.variables.has(name));
    if (!names.length) return;
    fill(byId("search-problem"), names.map((name) => h("div.problem", {},
      h("p", {}, this.#problems.get(name)?.message ?? `${name} is not a variable of this model.`),
      h("p.repairs", {}, h("button.quiet.small", { type: "button", onclick: () => {
        this.#noSearchProblem();
        session.remove(name, `remove ${name}`);
      } }, `Remove ${name}`)))));
  }

  async #ask() {
    this.#request?.abort();
    const request = new AbortController();
    this.#request = request;
    try {
      await this.#answerWith(request.signal);
      showReachable();
    } catch (error) {
      if (error.name === "AbortError" || request.signal.aborted) return;
      if (error instanceof Unreachable || error.status === 503) showUnreachable(error, () => this.ask.now());
      else if (error instanceof Problem && error.status === 401) showTokenForm(() => this.ask.now());
      else if (error instanceof Problem) this.#showImpossible(error);
      else throw error;
      document.body.classList.add("is-stale");
    }
  }

  async #answerWith(signal) {
    const { state } = session;
    const scenario = state.scenario ? { scenario: state.scenario } : {};
    // Fast first: the probabilities; the intervals, tests and reasons follow.
    const answer = await this.#readable((evidence) =>
      post("/v1/diagnose", { evidence, ...scenario, intervals: false, next_tests: false }, signal), state);
    const without = new Set(this.#problems.keys());
    const evidence = evidenceOf(state, { without });
    await this.#findKnown(state, answer, scenario, without, signal);
    if (signal.aborted) return;
    this.#answer = answer;
    document.body.classList.remove("is-stale");
    this.#showEntered();
    this.#showAnswer();
    byId("tests-body").setAttribute("aria-busy", "true");
    await Promise.all([
      post("/v1/diagnose", { evidence, ...scenario, intervals: true, next_tests: false }, signal).then((full) => {
        this.#answer = full;
        if (!hypotheticalOf(state).length) this.#known.answer = full;
        this.#showAnswer();
        byId("answer").setAttribute("aria-busy", "false");
      }),
      this.#rankWith(evidence, scenario, signal),
      this.#explainWith(evidence, scenario, signal),
    ]);
    this.#announceAnswer();
  }

  /** Ask, and leave out what cannot be read, so that the rest still counts. */
  async #readable(question, state) {
    for (;;) {
      try {
        return await question(evidenceOf(state, { without: new Set(this.#problems.keys()) }));
      } catch (error) {
        const name = error instanceof Problem && error.status === 422 ? error.variable : null;
        if (name === null || !(name in state.findings) || this.#problems.has(name)) throw error;
        error.raw = JSON.stringify(state.findings[name].value);
        this.#problems.set(name, error);
      }
    }
  }

  /** Find what is so without the hypothetical, to compare with. */
  async #findKnown(state, answer, scenario, without, signal) {
    if (!hypotheticalOf(state).length) {
      this.#known = { key: keyOf(evidenceOf(state, { without }), scenario), answer };
      return;
    }
    const evidence = evidenceOf(state, { hypothetical: false, without });
    const key = keyOf(evidence, scenario);
    if (this.#known.key === key) return;
    this.#known = { key, answer: await post("/v1/diagnose", { evidence, ...scenario, intervals: false, next_tests: false }, signal) };
  }

  #current() {
    const { state } = session;
    return [
      evidenceOf(state, { without: new Set(this.#problems.keys()) }),
      state.scenario ? { scenario: state.scenario } : {},
    ];
  }

  async #rank() {
    const [evidence, scenario] = this.#current();
    byId("tests-body").setAttribute("aria-busy", "true");
    await this.#guarded((signal) => this.#rankWith(evidence, scenario, signal));
  }

  async #rankWith(evidence, scenario, signal) {
    const by = byId("rank-by").value;
    const { next_tests: ranked } = await post("/v1/next-tests", { evidence, ...scenario, by }, signal);
    this.tests.show(ranked, by);
    this.#best = ranked.find((one) => one.allowed === true);
    byId("tests-body").setAttribute("aria-busy", "false");
  }

  #best = null;

  async #explain(cause) {
    this.#whyCause = cause;
    const [evidence, scenario] = this.#current();
    await this.#guarded((signal) => this.#explainWith(evidence, scenario, signal));
  }

  async #explainWith(evidence, scenario, signal) {
    const body = byId("why-body");
    if (!Object.keys(evidence).length) {
      this.why.empty();
      body.setAttribute("aria-busy", "false");
      return;
    }
    body.setAttribute("aria-busy", "true");
    const cause = this.#whyCause ? { cause: this.#whyCause } : {};
    const explanation = await post("/v1/explain", { evidence, ...scenario, ...cause, contributions: true }, signal);
    const supposed = new Set(hypotheticalOf(session.state));
    this.why.show(explanation, this.#answer, (name) => supposed.has(name));
    body.setAttribute("aria-busy", "false");
  }

  /** One more question about the state that is shown; dies with it. */
  async #guarded(question) {
    try {
      await question(this.#request?.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error instanceof Unreachable) showUnreachable(error, () => this.ask.now());
      else throw error;
    }
  }

  // -------------------------------------------------------------- showing

  #reference() {
    return hypotheticalOf(session.state).length ? this.#known.answer : this.#before;
  }

  #showAnswer() {
    const before = this.#reference();
    const supposed = hypotheticalOf(session.state).length > 0;
    byId("key-before").hidden = !before || !this.causes.moved(this.#answer, before);
    say(byId("key-before").lastChild, supposed ? "without the what-if" : "before the last change");
    this.causes.show(this.#answer, before);
    this.conditions.show(this.#answer, before);
    this.#showCautions(this.#answer.warnings.filter((one) => one.code !== "research_use"));
    this.#showWhatIf(true);
    const [first] = this.#answer.causes;
    fill(byId("jump-lead"), h("span", {}, words.cause(first.cause)), h("strong", {}, percent(first.probability)));
  }

  #showCautions(cautions) {
    const left = this.#problems.size;
    const lines = [
      left ? h("li.caution.caution-problem", {}, `${left === 1 ? "One finding" : `${left} findings`} could not be read and ${left === 1 ? "does" : "do"} not count.`) : null,
      ...cautions.map((one) => h("li.caution", {}, words.sentence(one.message, this.catalogue.variables))),
    ].filter(Boolean);
    fill(byId("cautions"), lines.length ? h("ul.cautions", { "aria-label": "Cautions" }, lines) : null);
  }

  /** The findings cannot be true together, or the server refuses the question as a whole. */
  #showImpossible(problem) {
    fill(byId("cautions"), h("div.problem", { role: "alert" },
      h("p", {}, words.sentence(problem.message, this.catalogue.variables)),
      session.undoable ? h("p.repairs", {}, h("button.quiet.small", { type: "button", onclick: () => this.#undo() }, `Undo: ${session.undoable}`)) : null));
    byId("answer").setAttribute("aria-busy", "false");
    byId("tests-body").setAttribute("aria-busy", "false");
  }

  #announceAnswer() {
    const [first, second] = this.#answer.causes;
    const old = this.#reference()?.causes.find((one) => one.cause === first.cause)?.probability;
    const moved = old === undefined ? "" : change(first.probability, old);
    announce(`Most likely ${words.cause(first.cause)}, ${spokenPercent(first.probability)}`
      + `${moved ? ` (was ${spokenPercent(old)})` : ""}, then ${words.cause(second.cause)}, ${spokenPercent(second.probability)}.`
      + `${this.#best ? ` Best next test: ${this.#best.label}.` : ""}`);
  }
}

const supposedText = (value, variable) =>
  (typeof value === "string" && variable?.states.includes(value) ? words.predicate(value) : rawText(value, variable));
const EMPTY_WITH = (scenario) => ({ ...EMPTY, scenario });
const keyOf = (evidence, scenario) => JSON.stringify([evidence, scenario]);

/** Tell a screen reader. */
function announce(text) {
  say(byId("announce"), text);
}

start();
