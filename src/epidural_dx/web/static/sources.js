// The published figures behind what is shown, each with its paper.

import { get } from "./service.js";
import { byId, fill, h, say } from "./elements.js";
import * as words from "./words.js";
import { few, percent } from "./words.js";

const SHOWN = 60;

/** The sheet of sources. */
export class Sources {
  #request = null;

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

  ofCause(cause) {
    return this.#show(`Sources: ${words.cause(cause)}`, `cause=${encodeURIComponent(cause)}`, []);
  }

  ofVariable(variable, before = []) {
    return this.#show(`Sources: ${variable.label}`, `variable=${encodeURIComponent(variable.name)}`, before);
  }

  /** Price, time and harm of a test: its row of the catalogue, with the sources named there. */
  async ofTest(name) {
    const test = this.catalogue.tests.get(name);
    this.#open(`Sources: ${test.label}`);
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
    ].filter(([, value]) => value);
    const ids = String(test.source_ids).split("|").filter(Boolean);
    const list = h("ul.citations");
    fill(this.body,
      h("dl.facts-list", {}, facts.map(([term, value]) => [h("dt", {}, term), h("dd", {}, String(value))])),
      h("h3", {}, "Sources"), list);
    for (const id of ids) list.append(h("li", {}, citation(id)));
  }

  #open(title) {
    this.#request?.abort();
    say(this.title, title);
    fill(this.body, h("p.hint", {}, "Reading the sources …"));
    if (!this.dialog.open) this.dialog.showModal();
    this.body.scrollTop = 0;
  }

  async #show(title, query, before) {
    this.#open(title);
    const request = new AbortController();
    this.#request = request;
    try {
      const { rows } = await get(`/v1/sources?${query}`, request.signal);
      this.#fill(rows, before);
    } catch (error) {
      if (error.name !== "AbortError") fill(this.body, h("p.problem", {}, error.message));
    }
  }

  #fill(rows, before) {
    const used = rows.filter((row) => row.use !== "check");
    const checks = rows.filter((row) => row.use === "check");
    fill(this.body, before,
      !rows.length && h("p", {}, "No published figure is on this alone. What the model uses here is judged by experts; its mean and spread are in priors/elicited."),
      used.length ? this.#table("Figures that the model uses", used) : null,
      checks.length ? this.#table("Figures that the model is checked against", checks) : null);
  }

  #table(title, rows) {
    const list = h("ul.figures");
    const show = (some) => list.append(...some.map((row) => this.#figure(row)));
    show(rows.slice(0, SHOWN));
    const more = rows.length > SHOWN && h("button.link", {
      type: "button",
      onclick: (event) => {
        event.target.remove();
        show(rows.slice(SHOWN));
      },
    }, `Show ${rows.length - SHOWN} more`);
    return h("section", {}, h("h3", {}, `${title} (${rows.length})`), list, more);
  }

  #figure(row) {
    const variable = this.catalogue.variables.get(row.model_variable);
    const about = [
      row.cause && words.cause(row.cause),
      variable?.label ?? words.plain(row.model_variable || row.variable),
      words.state(row.state),
      row.context && words.plain(row.context).replace("=", ": "),
    ].filter(Boolean).join(" · ");
    return h("li.figure", {},
      h("p.figure-head", {}, h("span", {}, about), h("strong", {}, quantity(row))),
      row.population ? h("p.dim", {}, row.population) : null,
      h("p.figure-source", {}, citation(row.citation || row.source),
        row.locator ? h("span.dim", {}, ` (${row.locator})`) : null,
        row.verified === "recalled" ? h("span.tag", {}, "recalled, low weight") : null),
      row.note ? h("p.figure-note", {}, row.note) : null);
  }
}

function quantity(row) {
  const share = row.unit === "proportion" || !row.unit;
  const shown = (x) => (share ? percent(x) : few(x));
  if (row.k !== null && row.n) return `${row.k} of ${row.n}${share ? ` (${percent(row.k / row.n)})` : ""}`;
  const unit = share ? "" : ` ${words.unit(row.unit)}`;
  const range = row.low !== null || row.high !== null
    ? `${row.low === null ? "" : shown(row.low)}–${row.high === null ? "" : shown(row.high)}` : "";
  if (row.point !== null) return `${shown(row.point)}${unit}${range ? ` (${range})` : ""}`;
  return range ? `${range}${unit}` : "";
}

/** A citation in which the DOI leads to the paper. The link is followed only when it is clicked. */
export function citation(text) {
  const match = /^(.*?)doi:(10\.\d{4,9}\/[^\s|]+?)([.)]*)$/s.exec(text);
  if (!match) return words.plain(text);
  return [match[1], h("a", {
    href: `https://doi.org/${encodeURI(match[2])}`,
    rel: "noreferrer noopener external",
    target: "_blank",
  }, `doi:${match[2]}`, h("span.for-readers", {}, " (opens in a new tab)")), match[3]];
}
