// A published patient, stage by stage.

import { byId, fill, h } from "./elements.js";
import * as words from "./words.js";
import { citation } from "./sources.js";

/** Raw evidence of a case up to a stage: later findings replace earlier ones. */
function evidenceUpTo(one, stage, canonical) {
  const found = {};
  for (const step of one.stages) {
    for (const [name, value] of Object.entries(step.findings)) {
      const variable = canonical(name);
      delete found[variable];
      // A number under another name of the variable keeps its meaning with its unit.
      found[variable] = name === "age_years" && typeof value === "number" ? `${value} years` : value;
    }
    if (step.name === stage) break;
  }
  return found;
}

/**
 * The findings after a change of stage: those of the case up to it, and what the user entered.
 *
 * What stands as the case had it belongs to the case; everything else is the user's. Nothing
 * hypothetical survives a step: the next stage says what was found.
 */
export function findingsAt(one, stage, current, before, canonical) {
  const own = {};
  const old = before ? evidenceUpTo(one, before, canonical) : {};
  for (const [variable, finding] of Object.entries(current)) {
    const isCases = variable in old && JSON.stringify(old[variable]) === JSON.stringify(finding.value);
    if (!finding.hypothetical && !isCases) own[variable] = finding;
  }
  const findings = {};
  for (const [variable, value] of Object.entries(evidenceUpTo(one, stage, canonical))) findings[variable] = { value };
  return { ...findings, ...own };
}

/** The block above the findings that leads through a case. */
export class Story {
  constructor({ onStage, onClose }) {
    this.act = { onStage, onClose };
    this.root = byId("story");
  }

  hide() {
    this.root.hidden = true;
    fill(this.root);
  }

  /**
   * @param {object} one - The case, from /v1/cases/NAME.
   * @param {string} stage - Where it stands.
   */
  show(one, stage) {
    const names = one.stages.map((step) => step.name);
    const place = names.indexOf(stage);
    const step = one.stages[place];
    const hadFocus = this.root.contains(document.activeElement) ? document.activeElement.dataset.role : null;
    const go = (role, to, text) => h("button.quiet.small", {
      type: "button", "data-role": role, disabled: !names[to],
      onclick: () => this.act.onStage(names[to]),
    }, text);
    fill(this.root,
      h("p.story-title", {}, one.title),
      h("ol.stages", { "aria-label": "Stages of this patient" }, names.map((name, i) => h("li", {},
        h("button.stage", {
          type: "button",
          "data-role": `stage-${name}`,
          "aria-current": i === place ? "step" : null,
          onclick: () => this.act.onStage(name),
        }, words.stage(name))))),
      step.note ? h("p.hint", {}, words.capital(step.note.trim())) : null,
      h("p.actions", {}, go("back", place - 1, "Back"), go("next", place + 1, place + 1 < names.length ? `Next: ${words.stage(names[place + 1])}` : "Last stage"),
        h("button.link", { type: "button", "data-role": "close", onclick: () => this.act.onClose() }, "Leave this patient")),
      this.#ending(one.about));
    this.root.hidden = false;
    if (hadFocus) (this.root.querySelector(`[data-role="${hadFocus}"]:not(:disabled)`) ?? this.root.querySelector("[aria-current]")).focus();
  }

  #ending(about) {
    const source = about.source ?? {};
    const lines = [
      about.final_cause ? ["Final cause", words.cause(about.final_cause)] : null,
      about.underlying ? ["Behind it", about.underlying] : null,
      about.initially_misdiagnosed_as ? ["First taken for", about.initially_misdiagnosed_as] : null,
    ].filter(Boolean);
    const doi = source.doi ? `doi:${source.doi}` : "";
    return h("details.ending", {}, h("summary", {}, "What it turned out to be, and the source"),
      h("dl.facts-list", {}, lines.map(([term, text]) => [h("dt", {}, term), h("dd", {}, text)])),
      h("p.dim", {}, source.title ? `${source.title}. ` : "", doi ? citation(doi) : ""));
  }
}
