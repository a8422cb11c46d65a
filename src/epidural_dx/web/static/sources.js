// The published figures behind what is shown, each with its paper.

import { get } from "./service.js";
import { byId, fill, h, say } from "./elements.js";
import * as words from "./words.js";
import { few, percent } from "./words.js";

/** Figures shown before "Show more". */
const SHOWN = 40;
/** Columns of a table shown before "Show more". */
const COLUMNS = 8;
/** Sources that are no publication. */
const JUDGEMENT = {
  expert_a: "Expert A's complete table, elicited for this model",
  expert_b: "Expert B's complete table, elicited for this model",
  expert_opinion: "Expert opinion",
};

/** The sheet of sources. */
export class Sources {
  #request = null;
  #all = null;

  constructor(catalogue) {
    this.catalogue = catalogue;
    this.dialog = byId("sources");
    this.title = h("h2", { id: "sources-title" });
    this.body = h("div.sheet-body", { tabIndex: 0, role: "region", "aria-labelledby": "sources-title" });
    fill(this.dialog,
      h("div.sheet-head", {}, this.title,
        h("button.quiet", { type: "button", onclick: () => this.dialog.close() }, "Close")),
      this.body);
    this.dialog.addEventListener("close", () => this.#request?.abort());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  /** How often a cause occurs, by what drives it. */
  ofCause(cause) {
    return this.#show(`Figures behind ${words.inSentence(words.cause(cause))}`, async (signal) => {
      const [behind, found] = await Promise.all([
        get(`/v1/causes/${encodeURIComponent(cause)}/sources`, signal),
        get(`/v1/sources?cause=${encodeURIComponent(cause)}`, signal),
      ]);
      return [
        h("p", {}, "Its base rate is the sum of the rates of what can drive it. Findings then move it."),
        this.#rates(behind.rates, cause),
        behind.sources.length ? h("section", {}, h("h3", {}, "Sources of these rates"), citations(behind.sources)) : null,
        this.#figures("Published figures on it", found.rows.toSorted((a, b) => (b.cause === cause) - (a.cause === cause))),
      ];
    });
  }

  /**
   * What a finding weighs with: its probability in every column of its table.
   *
   * @param {object} variable
   * @param {{states: string[]}} [read] - How the patient's value was read.
   */
  ofVariable(variable, read) {
    return this.#show(`Figures behind ${words.inSentence(variable.label)}`, async (signal) => {
      const behind = await get(`/v1/variables/${encodeURIComponent(variable.name)}/sources`, signal);
      const cutOffs = await this.#cutOffs(variable, signal);
      if (!behind.columns.length) return [await this.#withoutTable(variable, signal), cutOffs];
      return [
        this.#columns(behind.columns, variable, read),
        this.#figures("Published figures in this table", behind.rows),
        behind.rows.length ? null : h("p", {}, "No published figure is in this table: experts judged it, and its weight is small, so that the intervals are wide."),
        cutOffs,
      ];
    });
  }

  /** Where numbers become states, for whom, and who says so. */
  async #cutOffs(variable, signal) {
    if (!variable.thresholds.length) return null;
    const sources = await this.#sources(signal);
    const said = (ids) => ids.split("|").map((id) => sources.get(id)?.citation || JUDGEMENT[id] || words.plain(id));
    return table(`Cut-offs${words.unit(variable.unit) ? ` in ${words.unit(variable.unit)}` : ""}`, ["State", "Number", "Source"],
      variable.thresholds.map((one) => [
        [words.capital(words.state(one.state)), people(one)].filter(Boolean).join(", "),
        range(one) + (one.unit.replace("^", "*") === variable.unit || !one.unit ? "" : ` ${words.unit(one.unit)}`),
        said(one.source_id).map((text) => h("span.cited", {}, citation(text))),
      ]));
  }

  /** Every source by its id, read once. */
  async #sources(signal) {
    this.#all ??= new Map((await get("/v1/sources", signal)).sources.map((one) => [one.id, one]));
    return this.#all;
  }

  /** A finding that acts through the rates of the causes, or follows from others by a rule. */
  async #withoutTable(variable, signal) {
    // The server knows no row on some of them, and says so.
    const { rows } = await get(`/v1/sources?variable=${encodeURIComponent(variable.name)}`, signal)
      .catch((error) => (error.status === 422 ? { rows: [] } : Promise.reject(error)));
    return [
      h("p", {}, "This finding has no table of its own: it follows from other variables by a rule, or acts through base rates and the rates of the causes that it drives. The sources of a cause show those rates."),
      this.#figures("Published figures on it", rows),
    ];
  }

  /** Price, time and harm of a test. */
  ofTest(name) {
    const test = this.catalogue.tests.get(name);
    return this.#show(`Figures behind ${words.inSentence(test.label)}`, async (signal) => {
      const all = await this.#sources(signal);
      const facts = [
        ["Price", `US$ ${test.price_usd}`],
        ["From order to result", words.hours(test.turnaround_hours)],
        ["Minor harm", percent(test.minor_harm)],
        ["Serious harm", percent(test.serious_harm)],
        ["Death", percent(test.death)],
        ["Needs", test.needs],
        ["Preparation", test.preparation],
        ["Rests on", words.grade(test.grade)],
        ["Note", test.note],
      ].filter(([, value]) => value !== "" && value !== undefined && value !== null);
      const ids = String(test.source_ids).split("|").filter(Boolean);
      return [
        h("p", {}, "Before anything about this patient; its harm here also depends on the findings."),
        h("dl.facts-list", {}, facts.map(([term, value]) => [h("dt", {}, term), h("dd", {}, String(value))])),
        h("section", {}, h("h3", {}, "Sources"), citations(ids.map((id) => all.get(id) ?? { id, citation: "" }))),
      ];
    });
  }

  async #show(title, read) {
    this.#request?.abort();
    const request = new AbortController();
    this.#request = request;
    say(this.title, title);
    fill(this.body, h("p.hint", {}, "Reading the sources …"));
    if (!this.dialog.open) this.dialog.showModal();
    this.body.scrollTop = 0;
    try {
      fill(this.body, await read(request.signal));
    } catch (error) {
      if (error.name !== "AbortError") fill(this.body, h("p.problem", { role: "alert" }, error.message));
    }
  }

  #rates(rates, cause) {
    return table("Rates in 100,000 people in a year", ["What drives it, in whom", "Rate", "Rests on"],
      rates.map((one) => [
        words.capital(words.drivenBy({ name: one.mechanism, cause }) || words.cause(cause)) + (one.among ? `, ${this.#among(one.among)}` : ""),
        few(one.per_100000_person_years),
        [...new Set(one.figures.map((figure) => figure.grade))].map(words.grade).join(", "),
      ]));
  }

  #among(text) {
    return text.split(/[,&+@]/).map((part) => {
      const [name, state] = part.split("=");
      const variable = this.catalogue.variables.get(name);
      if (state) return `${variable ? words.inSentence(variable.label) : words.plain(name)} ${words.state(state)}`;
      return /^age_/.test(name) ? `age ${words.state(name)}` : words.state(name);
    }).join(", ");
  }

  #columns(columns, variable, read) {
    const states = read?.states ?? [];
    const share = (column) => states.reduce((sum, state) => sum + (column.probabilities[state] ?? 0), 0);
    const what = states.length && states.length < variable.states.length ? states.map(words.state).join(" or ") : null;
    const sorted = what ? [...columns].sort((a, b) => share(b) - share(a)) : columns;
    const parent = this.catalogue.variables.get(sorted[0].given);
    const caption = what ? `How often ${words.inSentence(variable.label)} is ${what}` : `How well ${words.inSentence(variable.label)} is known`;
    return table(caption, [parent ? `In ${words.inSentence(parent.label)}` : "In", ...(what ? ["Share"] : []), "Worth", "Rests on"],
      sorted.map((column) => [
        words.capital(words.state(column.state)) + (column.context ? `, ${this.#among(column.context)}` : ""),
        ...(what ? [percent(share(column))] : []),
        words.patients(column.effective_size),
        restsOn(column),
      ]));
  }

  #figures(title, rows) {
    if (!rows.length) return null;
    const used = rows.filter((row) => row.use !== "check");
    const checks = rows.filter((row) => row.use === "check");
    return [
      used.length ? this.#list(title, used) : null,
      checks.length ? this.#list(used.length ? "The model is checked against" : `${title}, against which the model is checked`, checks) : null,
    ];
  }

  #list(title, rows) {
    const list = h("ul.figures");
    return h("section", {}, h("h3", {}, `${title} (${rows.length})`), list,
      inPortions(rows, SHOWN, (some) => list.append(...some.map((row) => this.#figure(row)))));
  }

  #figure(row) {
    const variable = this.catalogue.variables.get(row.model_variable);
    const about = [
      row.cause && words.cause(row.cause),
      variable?.label ?? words.plain(row.model_variable || row.variable),
      words.state(row.state),
      row.context && words.plain(row.context).replaceAll("=", ": "),
    ].filter(Boolean).join(" · ");
    return h("li.figure", {},
      h("p.figure-head", {}, h("span", {}, about), h("strong", {}, quantity(row))),
      row.population ? h("p.dim", {}, row.population) : null,
      h("p.figure-source", {}, citation(row.citation || row.source || row.source_id),
        row.locator ? h("span.dim", {}, ` (${row.locator})`) : null,
        row.verified === "recalled" ? h("span.tag", {}, "recalled, low weight") : null),
      row.note ? h("p.figure-note", {}, row.note) : null);
  }
}

function table(caption, head, rows) {
  const body = h("tbody");
  const add = (some) => body.append(...some.map(([first, ...others]) => h("tr", {},
    h("th", { scope: "row" }, first), others.map((one) => h("td", {}, one)))));
  return h("section", {},
    h("h3", {}, caption),
    h("table.columns-table", { "aria-label": caption },
      h("thead", {}, h("tr", {}, head.map((one) => h("th", { scope: "col" }, one)))), body),
    inPortions(rows, COLUMNS, add));
}

/** Add the first items, and a button for the rest. */
function inPortions(items, first, add) {
  add(items.slice(0, first));
  if (items.length <= first) return null;
  const more = h("button.link", {
    type: "button",
    onclick: () => {
      add(items.slice(first));
      more.remove();
    },
  }, `Show ${items.length - first} more`);
  return more;
}

function restsOn({ grade, sources }) {
  const papers = Object.keys(sources).filter((id) => !(id in JUDGEMENT)).length;
  return words.grade(grade) + (papers ? `, ${papers} ${papers === 1 ? "publication" : "publications"}` : "");
}

function people({ sex, age_low: from, age_high: to }) {
  const months = (years) => Math.round(12 * years);
  const young = to !== null && to < 2;
  const age = young ? `${months(from)} to ${months(to)} months`
    : to !== null ? `${from < 2 && from > 0 ? `${months(from)} months` : from} to ${to} years`
      : from > 0 ? `from ${from} years` : "";
  return [sex, age].filter(Boolean).join(", ");
}

function range({ low, high }) {
  if (low === null) return `under ${high}`;
  return high === null ? `from ${low}` : `${low} to ${high}`;
}

function quantity(row) {
  const share = row.unit === "proportion" || !row.unit;
  const shown = (x) => (share ? percent(x) : few(x));
  if (row.k !== null && row.n) return `${row.k} of ${row.n}${share ? ` (${percent(row.k / row.n)})` : ""}`;
  const unit = share ? "" : ` ${words.plain(words.unit(row.unit))}`;
  const range = row.low !== null || row.high !== null
    ? `${row.low === null ? "" : shown(row.low)}–${row.high === null ? "" : shown(row.high)}` : "";
  if (row.point !== null) return `${shown(row.point)}${unit}${range ? ` (${range})` : ""}`;
  return range ? `${range}${unit}` : "";
}

const citations = (sources) => h("ul.citations", {}, sources.map((one) =>
  h("li", {}, citation(one.citation || JUDGEMENT[one.id] || one.id))));

/** A citation in which the DOI leads to the paper. The link is followed only when it is clicked. */
export function citation(text) {
  if (JUDGEMENT[text]) return JUDGEMENT[text];
  const match = /^(.*?)doi:(10\.\d{4,9}\/[^\s|]+?)([.)]*)$/s.exec(text);
  if (!match) return /^\w+(?:_\w+)+$/.test(text) ? words.capital(words.plain(text)) : text;
  return [match[1], h("a", {
    href: `https://doi.org/${encodeURI(match[2])}`,
    rel: "noreferrer noopener external",
    target: "_blank",
  }, `doi:${match[2]}`, h("span.for-readers", {}, " (opens in a new tab)")), match[3]];
}
