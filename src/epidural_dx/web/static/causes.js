// The causes with their probability, interval, driver and change; and the conditions behind them.

import { byId, fill, h, keyed, say } from "./elements.js";
import * as words from "./words.js";
import { change, interval, percent } from "./words.js";

/** Causes below this are summed up in one line, beyond the first few. */
const SMALL = 0.005;
const ALWAYS_SHOWN = 3;
const MOST_SHOWN = 8;
/** Drivers below this share of their cause are not named in its line. */
const SMALL_DRIVER = 0.05;

/** The list of causes. */
export class Causes {
  #all = false;
  #open = new Set();
  #last = null;

  /** @param {{onSources: (cause) => void, onWhy: (cause) => void}} act */
  constructor(act) {
    this.act = act;
    this.list = h("ol.causes");
    this.rest = h("button.link", {
      type: "button",
      "aria-expanded": "false",
      onclick: () => {
        this.#all = !this.#all;
        this.show(...this.#last);
      },
    });
    fill(byId("causes-body"), this.list, h("p.rest", {}, this.rest));
  }

  /**
   * Show an answer.
   *
   * @param {object} answer - The document of /v1/diagnose.
   * @param {object|null} before - The answer that changes are shown against.
   */
  show(answer, before) {
    this.#last = [answer, before];
    const old = new Map((before?.causes ?? []).map((one) => [one.cause, one.probability]));
    const ranked = answer.causes;
    const worth = (one, i) => i < ALWAYS_SHOWN || (i < MOST_SHOWN && one.probability >= SMALL) || this.#open.has(one.cause);
    const shown = this.#all ? ranked : ranked.filter(worth);
    keyed(this.list, shown, (one) => one.cause, (one) => this.#make(one), (row, one, i) =>
      this.#update(row, one, i, answer.etiology.filter((each) => each.cause === one.cause), old.get(one.cause)));
    const hidden = ranked.filter((one) => !shown.includes(one));
    const total = hidden.reduce((sum, one) => sum + one.probability, 0);
    this.rest.hidden = !hidden.length && !this.#all;
    this.rest.setAttribute("aria-expanded", String(this.#all));
    say(this.rest, this.#all ? "Show fewer" : `Show ${hidden.length} others, together ${percent(total)}`);
  }

  /** Whether a difference between two answers can be seen. */
  moved(answer, before) {
    const old = new Map(before.causes.map((one) => [one.cause, one.probability]));
    return answer.causes.some((one) => change(one.probability, old.get(one.cause)) !== "");
  }

  #make({ cause }) {
    const id = `cause-${cause}`;
    const line = h("button.cause-line", {
      type: "button",
      "aria-expanded": "false",
      "aria-controls": id,
      onclick: () => {
        if (this.#open.has(cause)) this.#open.delete(cause);
        else this.#open.add(cause);
        this.show(...this.#last);
      },
    },
    h("span.cause-name", {}, words.cause(cause)),
    h("span.cause-driver"),
    h("span.cause-p"),
    h("span.cause-change"),
    h("span.bar", { "aria-hidden": "true" },
      h("span.bar-fill"), h("span.bar-interval"), h("span.bar-before")),
    h("span.cause-interval"));
    return h("li.cause", { "data-cause": cause }, line, h("div.cause-more", { id, hidden: true }));
  }

  #update(row, one, place, mechanisms, old) {
    const { cause, probability, lower, upper } = one;
    const [line, more] = row.children;
    const [, driver, p, delta, bar, range] = line.children;
    row.classList.toggle("is-first", place === 0);
    say(driver, driversOf(mechanisms));
    say(p, percent(probability));
    const moved = old === undefined ? "" : change(probability, old);
    fill(delta, moved && [h("span", { "aria-hidden": "true" }, moved),
      h("span.for-readers", {}, ` (${moved.replace("−", "minus ").replace("+", "plus ")} points)`)]);
    delta.classList.toggle("is-up", moved.startsWith("+"));
    draw(bar, probability, lower, upper, moved ? old : null);
    fill(range, lower === null ? "" : [h("span.for-readers", {}, "90 percent interval "), interval(lower, upper)]);
    const open = this.#open.has(cause);
    line.setAttribute("aria-expanded", String(open));
    more.hidden = !open;
    if (open) fill(more, this.#details(cause, mechanisms));
  }

  #details(cause, mechanisms) {
    const several = mechanisms.length > 1;
    return [
      several && h("table.mechanisms", {},
        h("caption.for-readers", {}, `What drives it, if it is ${words.inSentence(words.cause(cause))}`),
        h("thead.for-readers", {}, h("tr", {}, h("th", { scope: "col" }, "Driver"), h("th", { scope: "col" }, "Probability"), h("th", { scope: "col" }, "90 % interval"))),
        h("tbody", {}, mechanisms.map((one) => h("tr", {},
          h("th", { scope: "row" }, words.capital(words.drivenBy(one) || words.cause(cause))),
          h("td", {}, percent(one.probability)),
          h("td.dim", {}, one.lower === null ? "" : interval(one.lower, one.upper)))))),
      h("p.actions", {},
        h("button.quiet.small", { type: "button", onclick: () => this.act.onSources(cause) }, "Sources of its figures"),
        h("button.quiet.small", { type: "button", onclick: () => this.act.onWhy(cause) }, "Why this probability")),
    ];
  }
}

function driversOf(mechanisms) {
  const total = mechanisms.reduce((sum, one) => sum + one.probability, 0);
  if (total <= 0) return "";
  const named = mechanisms.filter((one) => one.probability >= SMALL_DRIVER * total).slice(0, 3);
  if (named.length === 1) return words.drivenBy(named[0]);
  return named.map((one) => `${words.drivenBy(one)} ${percent(one.probability / total)}`).join(", ");
}

function draw(bar, probability, lower, upper, before) {
  const [, range, old] = bar.children;
  bar.style.setProperty("--p", probability);
  range.hidden = lower === null;
  if (lower !== null) {
    bar.style.setProperty("--lower", lower);
    bar.style.setProperty("--upper", upper);
  }
  old.hidden = before === null;
  if (before !== null) bar.style.setProperty("--before", before);
}

// ---------------------------------------------------------------- conditions

/** Shown always: what may hide behind the lesion. */
const ALWAYS = ["marrow_infiltration", "hemostasis", "blood_disorder"];
/** Functions of another variable that is shown itself, and what the patient panel shows. */
const REPEATED = new Set(["age_group", "sex", "lesion_subtype", "hemoglobinopathy", "myeloid_disorder",
  "lymphoid_disorder", "melanoma", "metastatic_cancer", "melanoma_primary_site"]);
const NOTHING = new Set(["none", "normal", "absent", "low", "no_hematoma", "no_emh"]);
/** Another condition is shown when something is the matter with at least this probability. */
const LIKELY = 0.1;
const MOST_CONDITIONS = 6;
const MOST_STATES = 3;

/** The panel of hidden conditions. */
export class Conditions {
  /**
   * @param {Catalogue} catalogue
   * @param {{onSources: (variable) => void}} act
   */
  constructor(catalogue, act) {
    this.catalogue = catalogue;
    this.act = act;
    this.list = h("ul.conditions");
    fill(byId("conditions-body"), this.list);
  }

  show(answer, before) {
    const { conditions, evidence } = answer;
    const amiss = (name) => Object.entries(conditions[name])
      .reduce((sum, [state, p]) => sum + (NOTHING.has(state) ? 0 : p), 0);
    const names = Object.keys(conditions).filter((name) =>
      !REPEATED.has(name) && !(name in evidence) && (ALWAYS.includes(name) || amiss(name) >= LIKELY));
    names.sort((a, b) => rank(a) - rank(b) || amiss(b) - amiss(a));
    keyed(this.list, names.slice(0, MOST_CONDITIONS), (name) => name,
      (name) => this.#make(name),
      (row, name) => this.#states(row.lastChild, conditions[name], before?.conditions?.[name]));
  }

  #make(name) {
    const variable = this.catalogue.variables.get(name);
    return h("li.condition", { "data-condition": name },
      h("h3", {}, h("button.link.figure-link", {
        type: "button", title: "Figures behind it", onclick: () => this.act.onSources(variable),
      }, words.condition(variable))),
      h("ul.states-list"));
  }

  #states(list, shares, old) {
    const ranked = Object.entries(shares).sort((a, b) => b[1] - a[1])
      .filter(([, p], i) => i === 0 || p >= 0.01).slice(0, MOST_STATES);
    keyed(list, ranked, ([state]) => state,
      ([state]) => h("li.state", {}, h("span.state-name", {}, words.capital(words.state(state))),
        h("span.bar.bar-thin", { "aria-hidden": "true" }, h("span.bar-fill"), h("span.bar-interval", { hidden: true }), h("span.bar-before")),
        h("span.state-p")),
      (row, [state, p]) => {
        const moved = old && change(p, old[state]);
        row.classList.toggle("is-nothing", NOTHING.has(state));
        draw(row.children[1], p, null, null, moved ? old[state] : null);
        say(row.children[2], percent(p));
      });
  }
}

const rank = (name) => (ALWAYS.includes(name) ? ALWAYS.indexOf(name) : ALWAYS.length);
