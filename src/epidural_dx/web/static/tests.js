// The tests worth most next: what each tells, costs and risks, what bars it, what it may show.

import { byId, fill, h, keyed, say } from "./elements.js";
import * as words from "./words.js";
import { dollars, few, hours, percent } from "./words.js";

/** The likely results are offered at once for this many tests; for the others on opening. */
const WITH_RESULTS = 3;
/** Tests that tell less than this (bits) are only named. */
const NEGLIGIBLE = 0.005;
const MOST_SHOWN = 6;

/** The list of tests. */
export class Tests {
  #all = false;
  #open = new Set();
  #last = null;

  /**
   * @param {Catalogue} catalogue
   * @param {{onWhatIf: (variable, state, test) => void, onSources: (test) => void}} act
   */
  constructor(catalogue, act) {
    this.catalogue = catalogue;
    this.act = act;
    this.list = h("ol.tests");
    this.more = h("button.link", {
      type: "button",
      "aria-expanded": "false",
      onclick: () => {
        this.#all = !this.#all;
        this.show(...this.#last);
      },
    });
    this.silent = h("p.hint");
    this.none = h("p.empty", { hidden: true }, "No test would add anything.");
    fill(byId("tests-body"), this.none, this.list, h("p.rest", {}, this.more), this.silent);
  }

  /**
   * Show a ranking.
   *
   * @param {Array} ranked - `next_tests` of the interface.
   * @param {string} by - What it is ranked by.
   */
  show(ranked, by) {
    this.#last = [ranked, by];
    const telling = ranked.filter((one) => one.information_bits >= NEGLIGIBLE);
    const shown = this.#all ? telling : telling.slice(0, MOST_SHOWN);
    const most = Math.max(...telling.map((one) => one.information_bits), 0.05);
    this.none.hidden = telling.length > 0;
    keyed(this.list, shown, (one) => one.test, (one) => this.#make(one),
      (card, one, i) => this.#update(card, one, i, most, by));
    this.more.hidden = telling.length <= MOST_SHOWN;
    this.more.setAttribute("aria-expanded", String(this.#all));
    say(this.more, this.#all ? "Show the best six" : `Show ${telling.length - MOST_SHOWN} more tests`);
    const silent = ranked.filter((one) => one.information_bits < NEGLIGIBLE);
    say(this.silent, this.#all && silent.length
      ? `Tell next to nothing now: ${silent.map((one) => words.inSentence(one.label)).join(", ")}.` : "");
  }

  #make({ test, label }) {
    return h("li.test", { "data-test": test },
      h("div.test-head", {}, h("span.rank", { "aria-hidden": "true" }), h("h3", {}, label), h("span.bits")),
      h("span.bar.bar-thin", { "aria-hidden": "true" }, h("span.bar-fill")),
      h("ul.facts"),
      h("div.gate", { hidden: true }),
      h("div.results"),
      h("div.test-more"));
  }

  #update(card, one, place, most, by) {
    const [head, bar, facts, gate, results, more] = card.children;
    const barred = one.allowed === false;
    const put_off = one.allowed !== true && !barred;
    card.classList.toggle("is-barred", barred);
    card.classList.toggle("is-put-off", put_off);
    say(head.children[0], String(place + 1));
    fill(head.children[2], h("strong", {}, one.information_bits.toFixed(2)), " bits",
      one.standard_error >= 0.0005 ? h("span.dim", {}, ` ±${one.standard_error.toFixed(3)}`) : null);
    bar.style.setProperty("--p", one.information_bits / most);
    fill(facts, this.#facts(one, by).map((text) => h("li", {}, text)));
    gate.hidden = !barred && !put_off;
    if (!gate.hidden) fill(gate, this.#gate(one, barred));
    fill(results, place < WITH_RESULTS || this.#open.has(one.test) ? this.#results(one) : null);
    this.#details(more, one);
  }

  #facts(one, by) {
    const facts = [];
    if (by === "value" && one.value !== null) facts.push(`benefit ${one.value.toFixed(3)}`);
    if (by === "information_per_cost") facts.push(`${few(one.information_per_cost)} bits per US$ 100`);
    facts.push(hours(one.turnaround_hours), dollars(one.cost_usd));
    if (one.changes_lead >= 0.01) facts.push(`${percent(one.changes_lead)} to change the lead`);
    return facts;
  }

  #gate(one, barred) {
    const { why } = parts(one.reason);
    return [
      h("strong", {}, barred ? "Barred now" : "Barred until corrected"),
      h("span", {}, words.capital(words.sentence(why, this.catalogue.variables))),
      one.first.length ? h("span", {}, ` First: ${one.first.map((name) => this.#label(name)).join(", ")}.`) : null,
    ];
  }

  #label(test) {
    return this.catalogue.tests.get(test)?.label ?? words.plain(test);
  }

  #results(one) {
    if (!one.results.length) return null;
    const variable = this.catalogue.variables.get(one.results[0].finding);
    return [
      h("p.results-title", { id: `results-${one.test}` }, "What if ", words.inSentence(variable.label), " is"),
      h("ul", { "aria-labelledby": `results-${one.test}` }, one.results.map((result) => h("li", {},
        h("button.result", {
          type: "button",
          onclick: () => this.act.onWhatIf(variable, result.state, one),
        },
        h("span.result-state", {}, words.capital(words.predicate(result.state))),
        h("span.dim", {}, ` ${percent(result.probability)} likely`),
        h("span.result-then", {},
          h("span", { "aria-hidden": "true" }, "→ "), h("span.for-readers", {}, ", then "),
          `${leader(result)} ${percent(result.leader_probability)}`))))),
    ];
  }

  #details(holder, one) {
    const id = `more-${one.test}`;
    const open = this.#open.has(one.test);
    const old = holder.querySelector("button.link");
    const toggle = old ?? h("button.link", {
      type: "button",
      "aria-controls": id,
      onclick: () => {
        if (this.#open.has(one.test)) this.#open.delete(one.test);
        else this.#open.add(one.test);
        this.show(...this.#last);
      },
    }, "Reasons, other results, sources", h("span.for-readers", {}, ` of ${one.label}`));
    toggle.setAttribute("aria-expanded", String(open));
    let body = holder.querySelector(".test-body");
    if (!body) {
      body = h("div.test-body", { id });
      fill(holder, toggle, body);
    }
    body.hidden = !open;
    if (open) fill(body, this.#body(one));
  }

  #body(one) {
    const { rest } = parts(one.reason);
    return [
      h("p", {}, words.capital(words.sentence(rest, this.catalogue.variables))),
      one.separates.length ? h("table.separates", {},
        h("caption", {}, "Tells apart"),
        h("tbody", {}, one.separates.map((pair) => h("tr", {},
          h("th", { scope: "row" }, pair.causes.split(" | ").map(words.cause).join(" from ")),
          h("td", {}, `${pair.bits.toFixed(2)} bits`))))) : null,
      h("p.results-title", {}, "What if it shows"),
      h("ul.what-if-list", {}, one.findings.map((name) => {
        const variable = this.catalogue.variables.get(name);
        return h("li", {}, h("span", { id: `whatif-${one.test}-${name}` }, variable.label),
          h("span.what-if-states", { role: "group", "aria-labelledby": `whatif-${one.test}-${name}` },
            variable.states.map((state) => h("button.unit", {
              type: "button",
              onclick: () => this.act.onWhatIf(variable, state, one),
            }, words.predicate(state)))));
      })),
      h("p.actions", {}, h("button.quiet.small", { type: "button", onclick: () => this.act.onSources(one.test) }, "Sources of price, time and harm")),
    ];
  }
}

/** What leads after a result: a cause, or what the marrow holds. */
const leader = (result) =>
  (result.about === "marrow_infiltration" ? words.inMarrow(result.leader) : words.cause(result.leader));

/**
 * The reason of a test: why it is put off, and what it tells.
 *
 * The interface gives one sentence; a barred test's begins with the bar and ends with what it
 * would tell.
 */
function parts(reason) {
  const match = /^(?:Put off|Not now): (.*?)(?=, (?:tells |hardly ))(?:, )(.*)$/s.exec(reason);
  if (!match) return { why: "", rest: reason };
  return { why: `${match[1].replace(/, first .*$/, "")}.`, rest: match[2] };
}
