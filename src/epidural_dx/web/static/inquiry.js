// Asking the server about what is entered. Only the latest state counts: answers to an earlier one
// are given up, and a finding that cannot be read is left out, so that the rest still counts.

import { debounced } from "./elements.js";
import { Problem, post } from "./service.js";
import { evidenceOf, hypotheticalOf } from "./session.js";

/** A change waits this long (milliseconds) for the next one before the server is asked. */
const PAUSE = 120;

/**
 * The questions about one session.
 *
 * @param {Session} session
 * @param {object} show - What to do with what comes back:
 *   `answer(answer)`, `tests(ranked, by)`, `explanation(document or null)`,
 *   `busy(part, yes)` for the parts "answer", "tests" and "why", `settled()`, `failed(error)`.
 */
export class Inquiry {
  /** Problems of findings that the server could not read, by variable. */
  problems = new Map();
  /** The latest answer, or null. */
  answer = null;
  by = "information";
  #show;
  #session;
  #request = new AbortController();
  #parts = new Map();
  /** The answer to what is known, without what is only supposed; and what it was the answer to. */
  #known = { key: "", answer: null };
  #before = null;
  #cause = null;

  constructor(session, show) {
    this.#session = session;
    this.#show = show;
    this.ask = debounced(() => this.#ask(), PAUSE);
  }

  /** What changes are measured against: what is known, or the answer before the last change. */
  get reference() {
    return hypotheticalOf(this.#session.state).length ? this.#known.answer : this.#before;
  }

  /** The session has changed: ask anew. */
  changed() {
    const { findings } = this.#session.state;
    this.#before = this.answer;
    // A problem is over when its finding has another value.
    for (const [name, problem] of this.problems) {
      if (!(name in findings) || JSON.stringify(findings[name].value) !== problem.raw) this.problems.delete(name);
    }
    this.#show.busy("answer", true);
    this.ask();
  }

  /** Rank the tests by something else. */
  rank(by) {
    this.by = by;
    return this.#again((...question) => this.#rank(...question));
  }

  /** Explain another cause than the leading one; null for the leading one. */
  explain(cause) {
    this.#cause = cause;
    return this.#again((...question) => this.#explain(...question));
  }

  /** Forget which cause is explained (another patient). */
  forgetCause() {
    this.#cause = null;
  }

  async #ask() {
    this.#request.abort();
    this.#request = new AbortController();
    await this.#guarded(this.#request.signal, (signal) => this.#answerAll(signal));
  }

  async #again(question) {
    const { signal } = this.#request;
    await this.#guarded(signal, () => question(...this.#question(), signal));
  }

  async #guarded(signal, question) {
    try {
      await question(signal);
    } catch (error) {
      if (error.name !== "AbortError" && !signal.aborted) this.#show.failed(error);
    }
  }

  /** The body of a question about what is entered and can be read. */
  #question({ hypothetical = true } = {}) {
    const { state } = this.#session;
    const evidence = evidenceOf(state, { hypothetical, without: new Set(this.problems.keys()) });
    return [state.scenario ? { evidence, scenario: state.scenario } : { evidence }];
  }

  async #answerAll(signal) {
    // The probabilities come at once; intervals, tests and reasons take longer.
    const answer = await this.#readable(signal);
    const [question] = this.#question();
    if (hypotheticalOf(this.#session.state).length) await this.#findKnown(signal);
    else this.#known = { key: JSON.stringify(question), answer };
    signal.throwIfAborted();
    this.answer = answer;
    this.#show.answer(answer);
    await Promise.all([
      this.#intervals(question, signal),
      this.#rank(question, signal),
      this.#explain(question, signal),
    ]);
    this.#show.settled();
  }

  async #readable(signal) {
    for (;;) {
      const [question] = this.#question();
      try {
        return await post("/v1/diagnose", { ...question, intervals: false, next_tests: false }, signal);
      } catch (error) {
        const name = error instanceof Problem && error.kind === "evidence" ? error.variable : null;
        if (name === null || !(name in question.evidence)) throw error;
        error.raw = JSON.stringify(question.evidence[name]);
        this.problems.set(name, error);
      }
    }
  }

  async #findKnown(signal) {
    const [question] = this.#question({ hypothetical: false });
    const key = JSON.stringify(question);
    if (this.#known.key === key) return;
    const answer = await post("/v1/diagnose", { ...question, intervals: false, next_tests: false }, signal);
    this.#known = { key, answer };
  }

  async #intervals(question, signal) {
    const answer = await post("/v1/diagnose", { ...question, next_tests: false }, signal);
    this.answer = answer;
    if (!hypotheticalOf(this.#session.state).length) this.#known.answer = answer;
    this.#show.answer(answer);
    this.#show.busy("answer", false);
  }

  async #rank(question, signal) {
    const { by } = this;
    await this.#part("tests", signal, async (own) => {
      const { next_tests: ranked } = await post("/v1/next-tests", { ...question, by }, own);
      this.#show.tests(ranked, by);
    });
  }

  async #explain(question, signal) {
    await this.#part("why", signal, async (own) => {
      if (!Object.keys(question.evidence).length) {
        this.#show.explanation(null);
        return;
      }
      const cause = this.#cause ? { cause: this.#cause } : {};
      this.#show.explanation(await post("/v1/explain", { ...question, ...cause, only: "contributions" }, own));
    });
  }

  /** Ask for one part of the page; a later question for the same part takes its place. */
  async #part(name, signal, question) {
    this.#parts.get(name)?.abort();
    const own = new AbortController();
    this.#parts.set(name, own);
    this.#show.busy(name, true);
    try {
      await question(AbortSignal.any([signal, own.signal]));
      this.#show.busy(name, false);
    } catch (error) {
      // Given up for a later question on the same part: nothing has failed.
      if (!own.signal.aborted || signal.aborted) throw error;
    }
  }
}
