// What the user has entered: one frozen value, its history, and how it is shared and kept.

/**
 * @typedef {object} Finding
 * @property {*} value - Raw evidence, as the interface takes it.
 * @property {boolean} [hypothetical] - Asked "what if", not known.
 *
 * @typedef {object} State
 * @property {Record<string, Finding>} findings - By variable, in the order entered.
 * @property {string|null} scenario - Base rates; null for the server's own.
 * @property {{name: string, stage: string}|null} patient - The published patient shown.
 */

const KEPT = "epidural-dx session";
const MOST_UNDO = 100;

export const EMPTY = Object.freeze({ findings: {}, scenario: null, patient: null });

export class Session extends EventTarget {
  /** @type {State} */
  state = EMPTY;
  #past = [];

  /** Replace the state; `what` says what Undo would take back. */
  change(next, what) {
    this.#past.push({ state: this.state, what });
    if (this.#past.length > MOST_UNDO) this.#past.shift();
    this.#show(next);
  }

  /** Replace the state without history (on opening the page). */
  open(next) {
    this.#past = [];
    this.#show(next);
  }

  undo() {
    const last = this.#past.pop();
    if (last) this.#show(last.state);
    return last?.what ?? null;
  }

  get undoable() {
    return this.#past.at(-1)?.what ?? null;
  }

  #show(next) {
    this.state = next;
    keep(next);
    this.dispatchEvent(new Event("change"));
  }

  set(variable, value, { hypothetical = false, what } = {}) {
    const finding = hypothetical ? { value, hypothetical } : { value };
    const findings = { ...this.state.findings, [variable]: finding };
    this.change({ ...this.state, findings }, what);
  }

  remove(variable, what) {
    const { [variable]: _, ...findings } = this.state.findings;
    this.change({ ...this.state, findings }, what);
  }

  /** Take every hypothetical finding away. */
  dropHypothetical(what) {
    const findings = Object.fromEntries(
      Object.entries(this.state.findings).filter(([, finding]) => !finding.hypothetical));
    this.change({ ...this.state, findings }, what);
  }

  /** Make every hypothetical finding a known one. */
  keepHypothetical(what) {
    const findings = Object.fromEntries(
      Object.entries(this.state.findings).map(([variable, { value }]) => [variable, { value }]));
    this.change({ ...this.state, findings }, what);
  }
}

/** Raw evidence of a state; without the hypothetical if asked, and without some variables. */
export function evidenceOf(state, { hypothetical = true, without = new Set() } = {}) {
  return Object.fromEntries(
    Object.entries(state.findings)
      .filter(([variable, finding]) => (hypothetical || !finding.hypothetical) && !without.has(variable))
      .map(([variable, finding]) => [variable, finding.value]));
}

export const hypotheticalOf = (state) =>
  Object.keys(state.findings).filter((variable) => state.findings[variable].hypothetical);

// ---------------------------------------------------------------- sharing
// A link carries the state behind the #, which no browser sends to a server.

/** The fragment that holds a state. */
export function toFragment(state) {
  const small = { e: {} };
  for (const [variable, { value, hypothetical }] of Object.entries(state.findings)) {
    small.e[variable] = value;
    if (hypothetical) (small.h ??= []).push(variable);
  }
  if (state.scenario) small.s = state.scenario;
  if (state.patient) small.p = [state.patient.name, state.patient.stage];
  const bytes = new TextEncoder().encode(JSON.stringify(small));
  const binary = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  return `#1.${btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`;
}

/** The state in a fragment; null where there is none. Throws where it is damaged. */
export function fromFragment(fragment) {
  const match = /^#1\.([\w-]+)$/.exec(fragment);
  if (!match) {
    if (/^#\d+\./.test(fragment)) throw new Error("This link is damaged or from a newer version.");
    return null;
  }
  let small;
  try {
    const binary = atob(match[1].replaceAll("-", "+").replaceAll("_", "/"));
    small = JSON.parse(new TextDecoder("utf-8", { fatal: true })
      .decode(Uint8Array.from(binary, (one) => one.charCodeAt(0))));
  } catch (error) {
    throw new Error("This link is damaged: part of it is missing.", { cause: error });
  }
  return fromSmall(small);
}

function fromSmall(small) {
  const isObject = (one) => typeof one === "object" && one !== null && !Array.isArray(one);
  if (!isObject(small) || !isObject(small.e)) throw new Error("This link is damaged: it holds no findings.");
  const supposed = new Set(Array.isArray(small.h) ? small.h : []);
  const patient = Array.isArray(small.p) && small.p.every((one) => typeof one === "string") && small.p.length === 2
    ? { name: small.p[0], stage: small.p[1] } : null;
  return {
    findings: Object.fromEntries(Object.entries(small.e).map(([variable, value]) =>
      [variable, supposed.has(variable) ? { value, hypothetical: true } : { value }])),
    scenario: typeof small.s === "string" ? small.s : null,
    patient,
  };
}

// ---------------------------------------------------------------- keeping
// A reload keeps what was entered; closing the tab forgets it.

function keep(state) {
  try {
    sessionStorage.setItem(KEPT, toFragment(state));
  } catch {
    // Storage may be full or forbidden: the page works without.
  }
}

/** The state before the page was reloaded, or null. */
export function kept() {
  try {
    return fromFragment(sessionStorage.getItem(KEPT) ?? "");
  } catch {
    return null;
  }
}
