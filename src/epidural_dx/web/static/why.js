// The waterfall of evidence: from the base rate of a cause, finding by finding, to where it stands.

import { byId, fill, h, s } from "./elements.js";
import * as words from "./words.js";
import { asRead, few, percent, spokenPercent } from "./words.js";

/** Findings with a row of their own; the smaller ones are one row together. */
const ROWS = 12;
/** A weight below this (decibans) goes with the smaller ones. */
const SMALL = 0.15;
/** Height of a row in its own units; the width is always WIDTH. */
const WIDTH = 1000;
const HEIGHT = 24;
const TICKS = [0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999];

const decibans = (p) => 10 * Math.log10(p / (1 - p));
const probability = (db) => 1 / (1 + 10 ** (-db / 10));

/** The panel that says why. */
export class Why {
  /**
   * @param {Catalogue} catalogue
   * @param {{onSources: (variable) => void, onCause: (cause: string) => void}} act
   */
  constructor(catalogue, act) {
    this.catalogue = catalogue;
    this.act = act;
    this.body = byId("why-body");
  }

  /** Say that there is nothing to explain yet. */
  empty() {
    fill(this.body, h("p.empty", {}, "Enter a finding to see what speaks for and against a cause."));
  }

  /**
   * Show an explanation.
   *
   * @param {object} explanation - The document of /v1/explain with its contributions.
   * @param {object} answer - The document of /v1/diagnose that it explains.
   * @param {(variable: string) => boolean} isHypothetical
   */
  show(explanation, answer, isHypothetical) {
    const { contributions } = explanation;
    const weighed = contributions.findings.filter((one) => one.decibans !== 0);
    if (!weighed.length) {
      this.empty();
      return;
    }
    const { cause } = contributions;
    const own = weighed.slice(0, ROWS).filter((one, i) => i === 0 || Math.abs(one.decibans) >= SMALL);
    const others = weighed.slice(own.length);
    const steps = [];
    let at = contributions.prior_decibans;
    for (const one of own) {
      const variable = this.catalogue.variables.get(one.finding);
      const read = answer.evidence[one.finding];
      steps.push({
        from: at, to: at + one.decibans, weight: one.decibans, variable,
        label: variable.label, value: read ? asRead(read.text, variable) : "",
        hypothetical: isHypothetical(one.finding),
      });
      at += one.decibans;
    }
    if (others.length) {
      const sum = others.reduce((total, one) => total + one.decibans, 0);
      steps.push({ from: at, to: at + sum, weight: sum, label: others.length === 1 ? "1 smaller finding" : `${others.length} smaller findings`, value: "", variable: null });
      at += sum;
    }
    const scale = scaleOf([contributions.prior_decibans, at, ...steps.map((one) => one.to)]);
    fill(this.body,
      h("div.why-head", {},
        h("label.field.field-small", {}, h("span", {}, "Evidence for"),
          this.#causeMenu(answer, cause)),
        h("p.hint", {}, "Right speaks for it, left against. Every finding moves the odds by the weight shown.")),
      h("ol.waterfall", {},
        this.#end("Before any finding", contributions.prior_decibans, scale),
        steps.map((one) => this.#step(one, scale, words.cause(cause))),
        this.#end("Now", at, scale, true)),
      this.#axis(scale),
      this.#pivots(explanation, answer),
      h("p.hint", {}, `Weights are in decibans: +10 makes the odds ten times as high. They are averaged over the orders in which the findings could have come in${contributions.orders ? ` (${contributions.orders} sampled)` : ""}, so that they add up.`));
  }

  #causeMenu(answer, cause) {
    const menu = h("select", { onchange: () => this.act.onCause(menu.value) },
      answer.causes.map((one) => h("option", { value: one.cause }, `${words.cause(one.cause)}, ${spokenPercent(one.probability)}`)));
    menu.value = cause;
    return menu;
  }

  #step(one, scale, cause) {
    const sign = one.weight >= 0 ? "+" : "−";
    const size = Math.abs(one.weight);
    const content = [
      h("span.step-label", {}, one.label, one.value ? h("span.dim", {}, ` ${one.value}`) : null,
        one.hypothetical ? h("span.badge-what-if", {}, "what if") : null),
      h("span.step-chart", { "aria-hidden": "true" }, stepChart(one, scale)),
      h("span.step-weight", {}, h("span.for-readers", {}, one.weight >= 0 ? `, for ${cause}: ` : `, against ${cause}: `),
        `${sign}${size.toFixed(1)}`),
    ];
    const line = one.variable
      ? h("button.step-line", { type: "button", title: "Sources of this figure", onclick: () => this.act.onSources(one.variable) },
        content, h("span.for-readers", {}, " decibans. Show its sources"))
      : h("div.step-line", {}, content);
    return h("li.step", { "data-finding": one.variable?.name }, line);
  }

  #end(label, at, scale, last = false) {
    return h(last ? "li.step.step-end.step-last" : "li.step.step-end", {},
      h("div.step-line", {},
        h("span.step-label", {}, label),
        h("span.step-chart", { "aria-hidden": "true" }, endChart(at, scale)),
        h("span.step-weight", {}, percent(probability(at)))));
  }

  #axis(scale) {
    const ticks = TICKS.filter((p) => scale.inside(decibans(p)));
    return h("div.axis", { "aria-hidden": "true" }, h("span"), h("span.axis-line", {}, ticks.map((p) =>
      h("span.tick", { vars: { "--x": scale.place(decibans(p)) / WIDTH } }, few(100 * p), "\u202f%"))), h("span"));
  }

  #pivots(explanation, answer) {
    const lead = answer.causes[0].cause;
    const pivots = explanation.findings.filter((one) => one.leader_without !== lead && one.cause === lead).slice(0, 3);
    if (!pivots.length) return null;
    return h("p.pivots", {}, pivots.map((one) => {
      const variable = this.catalogue.variables.get(one.finding);
      return h("span", {}, `Without ${words.inSentence(variable.label)}, ${words.inSentence(words.cause(one.leader_without))} would lead. `);
    }));
  }
}

function scaleOf(points) {
  const low = Math.min(...points);
  const high = Math.max(...points);
  const pad = Math.max(2, 0.06 * (high - low));
  const [from, to] = [low - pad, high + pad];
  return {
    place: (db) => (WIDTH * (db - from)) / (to - from),
    inside: (db) => db >= from && db <= to,
  };
}

function chart(scale, ...marks) {
  const even = scale.inside(0) ? s("line", { class: "even", x1: scale.place(0), x2: scale.place(0), y1: 0, y2: HEIGHT }) : null;
  return s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", focusable: "false" }, even, marks);
}

function stepChart(one, scale) {
  const [from, to] = [scale.place(one.from), scale.place(one.to)];
  return chart(scale,
    s("line", { class: "link", x1: from, x2: from, y1: 0, y2: 6 }),
    s("rect", {
      class: `weight ${one.weight >= 0 ? "for" : "against"}${one.hypothetical ? " supposed" : ""}`,
      x: Math.min(from, to), width: Math.max(1.5, Math.abs(to - from)), y: 6, height: HEIGHT - 12,
    }),
    s("line", { class: "link", x1: to, x2: to, y1: HEIGHT - 6, y2: HEIGHT }));
}

function endChart(at, scale) {
  const x = scale.place(at);
  return chart(scale, s("line", { class: "stand", x1: x, x2: x, y1: 2, y2: HEIGHT - 2 }));
}
