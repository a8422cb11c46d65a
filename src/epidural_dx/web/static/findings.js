// What is known: every finding in its group, with its value, its editor and what is wrong with it.

import { cutOff, isNumeric, isQuick, offered, unitsOf } from "./catalogue.js";
import { byId, debounced, fill, h, say } from "./elements.js";
import * as words from "./words.js";
import { asRead, capital, group, state, unit } from "./words.js";

/** Typing pauses this long before a number is sent. */
const TYPING = 600;

/**
 * The panel of findings.
 *
 * @param {object} options
 * @param {Catalogue} options.catalogue
 * @param {(variable, value, what) => void} options.onSet
 * @param {(variable, what) => void} options.onRemove
 * @param {(variable, what) => void} options.onKeep - A hypothetical finding turns out true.
 * @param {(variable) => void} options.onSources
 */
export class Findings {
  #rows = new Map();
  #groups = new Map();

  constructor({ catalogue, ...act }) {
    this.act = act;
    const root = byId("findings");
    const sections = [];
    for (const [name, variables] of catalogue.groups) {
      if (!variables.length) continue;
      const rows = variables.map((variable) => new Row(variable, this.act));
      for (const row of rows) this.#rows.set(row.variable.name, row);
      const section = new Group(name, rows);
      this.#groups.set(name, section);
      sections.push(section.element);
    }
    fill(root, sections);
  }

  /**
   * Show a state.
   *
   * @param {State} current
   * @param {object} reading - How the server read every finding, by variable.
   * @param {Map<string, Problem>} problems - What it could not read.
   */
  show(current, reading, problems) {
    for (const [name, row] of this.#rows) {
      row.show(current.findings[name], reading[name], problems.get(name));
    }
    for (const section of this.#groups.values()) section.show();
  }

  /** Open the editor of a finding and put the focus in it. */
  edit(variable) {
    const row = this.#rows.get(variable.name);
    this.#groups.get(variable.group).reveal(row);
    row.edit();
  }

  /** Bring a finding into view. */
  reveal(variable) {
    const row = this.#rows.get(variable.name);
    this.#groups.get(variable.group).reveal(row);
    row.element.scrollIntoView({ block: "nearest" });
  }
}

class Group {
  #open;
  #wanted = new Set();

  constructor(name, rows) {
    this.rows = rows;
    // Who the patient is asks to be filled in; the rest waits until it is wanted.
    this.#open = name === "patient";
    const title = group(name);
    this.count = h("span.count");
    this.list = h("ul.rows", { id: `group-${name}` }, rows.map((row) => row.element));
    this.toggle = h("button.link", {
      type: "button",
      "aria-controls": `group-${name}`,
      "aria-label": `Show all ${rows.length} findings of ${title}`,
      onclick: () => {
        this.#open = !this.#open;
        this.#wanted.clear();
        this.show();
      },
    });
    this.element = h("section.group", { "aria-labelledby": `group-title-${name}`, "data-group": name },
      h("div.group-head", {},
        h("h3", { id: `group-title-${name}` }, title), this.count,
        name === "patient" ? null : this.toggle),
      this.list);
  }

  reveal(row) {
    this.#wanted.add(row);
    this.show();
  }

  show() {
    let known = 0;
    for (const row of this.rows) {
      if (row.known) known += 1;
      row.element.hidden = !(this.#open || row.known || this.#wanted.has(row));
    }
    say(this.count, known ? String(known) : "");
    say(this.toggle, this.#open ? "Show known" : `Show all ${this.rows.length}`);
    this.toggle.setAttribute("aria-expanded", String(this.#open));
    this.list.hidden = this.rows.every((row) => row.element.hidden);
  }
}

class Row {
  known = false;
  #raw;
  #editor = null;
  #problemText = "";

  constructor(variable, act) {
    this.variable = variable;
    this.act = act;
    const { name, label } = variable;
    this.label = h("span.finding-label", { id: `label-${name}` }, label);
    this.badge = h("span.badge-what-if", { hidden: true }, "what if");
    this.value = h("button.finding-value", {
      type: "button",
      "aria-expanded": "false",
      "aria-controls": `editor-${name}`,
      onclick: () => (this.#isOpen ? this.#close() : this.edit()),
    });
    this.pair = isQuick(variable) ? this.#makePair() : null;
    this.remove = h("button.icon.remove", {
      type: "button",
      hidden: true,
      "aria-label": `Remove ${label}`,
      title: "Remove",
      onclick: () => this.#remove(),
    }, "×");
    this.keep = h("button.link.keep", {
      type: "button",
      hidden: true,
      "aria-label": `Take ${label} as known`,
      onclick: () => act.onKeep(variable, `keep ${label}`),
    }, "Keep");
    this.problem = h("div.problem", { id: `problem-${name}`, role: "alert", hidden: true });
    this.holder = h("div.editor", { id: `editor-${name}`, hidden: true });
    this.element = h("li.finding", { "data-variable": name },
      h("div.finding-line", {},
        this.label, this.badge,
        h("span.finding-control", {}, this.pair, this.value, this.keep, this.remove)),
      this.problem,
      this.holder);
  }

  get #isOpen() {
    return !this.holder.hidden;
  }

  #makePair() {
    const { name } = this.variable;
    this.radios = offered(this.variable).map((one) => h("input", {
      type: "radio",
      name: `pair-${name}`,
      value: one,
      onchange: () => this.#set(one),
    }));
    return h("span.pair", { role: "radiogroup", "aria-labelledby": `label-${name}`, "aria-describedby": `problem-${name}` },
      this.radios.map((radio) => h("label.pill", {}, radio, h("span", {}, state(radio.value)))));
  }

  #set(value) {
    const shown = typeof value === "string" && this.variable.states.includes(value) ? state(value) : null;
    this.act.onSet(this.variable, value, `${this.variable.label}${shown ? ` ${shown}` : ""}`);
  }

  #remove() {
    this.#close();
    this.act.onRemove(this.variable, `remove ${this.variable.label}`);
    // The button is gone: go on where a keyboard user was.
    (this.pair ? this.radios[0] : this.value).focus();
  }

  show(finding, reading, problem) {
    const { variable } = this;
    this.known = finding !== undefined;
    this.#raw = finding?.value;
    const text = !this.known ? "" : reading && !problem ? asRead(reading.text, variable) : rawText(this.#raw, variable);
    this.element.classList.toggle("is-known", this.known);
    this.element.classList.toggle("is-what-if", Boolean(finding?.hypothetical));
    this.element.classList.toggle("has-problem", Boolean(problem));
    this.badge.hidden = this.keep.hidden = !finding?.hypothetical;
    this.remove.hidden = !this.known;
    const only = this.known && reading?.states?.length === 1 ? reading.states[0] : null;
    const chosen = this.radios?.find((radio) => radio.value === (only ?? this.#raw));
    if (this.radios) for (const radio of this.radios) radio.checked = this.known && radio === chosen;
    // Two states need no editor, unless a number says more or something else was given.
    const plainPair = this.radios && (!this.known || this.#raw === chosen?.value);
    if (this.pair) this.pair.hidden = !plainPair;
    this.value.hidden = Boolean(plainPair && !isNumeric(variable));
    say(this.value, plainPair ? (unit(variable.unit) || "number") : text || "Add");
    this.value.classList.toggle("is-empty", !text || Boolean(plainPair));
    this.value.setAttribute("aria-label", text ? `${variable.label}: ${text}. Change` : `${variable.label}: add a value`);
    this.#showProblem(problem);
    this.#editor?.show(this.#raw, Boolean(problem));
  }

  #showProblem(problem) {
    this.problem.hidden = !problem;
    if (problem) this.value.setAttribute("aria-describedby", this.problem.id);
    else this.value.removeAttribute("aria-describedby");
    const text = problem ? words.beside(problem.message, this.variable.name) : "";
    if (text === this.#problemText) return;
    this.#problemText = text;
    fill(this.problem, problem && problemContent({ ...problem, message: text }, {
      label: (nearest) => `Use ${rawText(repaired(this.#raw, nearest, this.variable), this.variable)}`,
      use: (nearest) => this.#set(repaired(this.#raw, nearest, this.variable)),
    }));
  }

  edit() {
    if (this.pair && !isNumeric(this.variable) && this.value.hidden) {
      (this.radios.find((radio) => radio.checked) ?? this.radios[0]).focus();
      return;
    }
    if (!this.#editor) {
      this.#editor = new Editor(this.variable, `problem-${this.variable.name}`, {
        set: (value) => this.#set(value),
        remove: () => this.act.onRemove(this.variable, `remove ${this.variable.label}`),
        sources: () => this.act.onSources(this.variable),
        close: () => {
          this.#close();
          this.value.focus();
        },
      });
      fill(this.holder, this.#editor.element);
    }
    this.holder.hidden = false;
    this.value.setAttribute("aria-expanded", "true");
    this.#editor.show(this.#raw, !this.problem.hidden);
    this.#editor.focus();
  }

  #close() {
    this.holder.hidden = true;
    this.value.setAttribute("aria-expanded", "false");
  }
}

/** Chooses states, excludes them, or takes a number with its unit. */
class Editor {
  #mode = "is";
  #typed = "";

  constructor(variable, problemId, act) {
    this.variable = variable;
    this.act = act;
    const { name, label } = variable;
    const parts = [];
    if (isNumeric(variable)) parts.push(this.#numberField(problemId));
    parts.push(this.#stateField());
    if (variable.thresholds.length) parts.push(this.#cutOffs());
    parts.push(h("div.editor-foot", {},
      h("button.link", { type: "button", onclick: () => act.sources(), "aria-label": `Sources of ${label}` }, "Sources"),
      h("button.quiet.small", { type: "button", onclick: () => act.close(), "aria-label": `Done with ${label}` }, "Done")));
    this.element = h("div.editor-body", {
      role: "group",
      "aria-label": label,
      id: `editor-body-${name}`,
      onkeydown: (event) => {
        if (event.key === "Escape") act.close();
      },
    }, parts);
  }

  #numberField(problemId) {
    const { variable } = this;
    const id = `number-${variable.name}`;
    this.commit = debounced((text) => {
      if (text === this.#typed) return;
      this.#typed = text;
      if (text) this.act.set(text);
      else this.act.remove();
    }, TYPING);
    this.number = h("input.number", {
      id,
      type: "text",
      autocomplete: "off",
      spellcheck: false,
      "aria-describedby": `${id}-units ${problemId}`,
      oninput: () => this.commit(this.number.value.trim()),
      onchange: () => this.commit.now(this.number.value.trim()),
      onkeydown: (event) => {
        if (event.key === "Enter") this.commit.now(this.number.value.trim());
      },
    });
    const units = unitsOf(variable);
    return h("div.number-field", {},
      h("label", { for: id }, variable.unit === "years" ? "Age" : "Number, with its unit"),
      this.number,
      h("span.units", { id: `${id}-units` },
        units.map((one) => h("button.unit", {
          type: "button",
          "aria-label": `Unit ${unit(one)}`,
          onclick: () => {
            const figure = /^\s*[<>≤≥=~]*\s*[\d.,]+/.exec(this.number.value)?.[0].trim();
            this.number.value = figure ? `${figure} ${one}` : "";
            if (figure) this.commit.now(this.number.value);
            this.number.focus();
          },
        }, unit(one)))));
  }

  #stateField() {
    const { variable } = this;
    const { name } = variable;
    const several = variable.states.length > 2;
    this.modes = !several ? [] : [["is", "is"], ["any", "is one of"], ["not", "is not"]].map(([mode, text]) =>
      h("label.pill", {},
        h("input", { type: "radio", name: `mode-${name}`, value: mode, onchange: () => this.#toMode(mode) }),
        h("span", {}, text)));
    this.boxes = offered(variable).map((one) => h("input", {
      type: "radio",
      name: `state-${name}`,
      value: one,
      onchange: () => this.#chosen(),
    }));
    this.stateGroup = h("div.states", { role: "group", "aria-label": `${variable.label}: states` },
      this.boxes.map((box) => h("label.chip", {}, box, h("span", {}, capital(state(box.value))))));
    return h("div.state-field", {},
      several && h("div.pair.modes", { role: "radiogroup", "aria-label": `${variable.label}: how the states are meant` }, this.modes),
      this.stateGroup);
  }

  #cutOffs() {
    const cuts = this.variable.states
      .map((one) => [state(one), cutOff(this.variable, one)])
      .filter(([, range]) => range);
    if (!cuts.length) {
      return this.variable.thresholds.some((one) => one.sex || one.age_low || one.age_high)
        ? h("p.hint", {}, "Its cut-offs depend on age or sex, so enter those too.") : null;
    }
    return h("p.hint", {}, cuts.map(([name, range]) => `${name} ${range}`).join(" · "),
      unit(this.variable.unit) ? ` (${unit(this.variable.unit)})` : "");
  }

  #toMode(mode) {
    this.#mode = mode;
    const single = mode === "is";
    const chosen = this.boxes.filter((box) => box.checked);
    for (const box of this.boxes) box.type = single ? "radio" : "checkbox";
    if (single) for (const box of chosen.slice(1)) box.checked = false;
    this.stateGroup.classList.toggle("is-not", mode === "not");
    if (chosen.length) this.#chosen();
  }

  #chosen() {
    const chosen = this.boxes.filter((box) => box.checked).map((box) => box.value);
    if (!chosen.length) return this.act.remove();
    if (this.#mode === "not") return this.act.set({ not: chosen.length === 1 ? chosen[0] : chosen });
    return this.act.set(chosen.length === 1 ? chosen[0] : chosen);
  }

  show(raw, invalid) {
    const { states } = this.variable;
    const listed = Array.isArray(raw) ? raw : typeof raw === "string" ? raw.split("|") : null;
    const not = typeof raw === "object" && raw !== null && "not" in raw ? [raw.not].flat() : null;
    const chosen = (not ?? listed ?? []).filter((one) => states.includes(one));
    const mode = not ? "not" : chosen.length > 1 ? "any" : null;
    if (mode || (raw === undefined && !this.element.contains(document.activeElement))) this.#mode = mode ?? "is";
    for (const label of this.modes) label.firstChild.checked = label.firstChild.value === this.#mode;
    for (const box of this.boxes) {
      box.type = this.#mode === "is" ? "radio" : "checkbox";
      box.checked = chosen.includes(box.value);
    }
    this.stateGroup.classList.toggle("is-not", this.#mode === "not");
    if (!this.number) return;
    this.number.setAttribute("aria-invalid", String(invalid));
    // Never write over what is being typed.
    const text = chosen.length ? "" : rawText(raw, this.variable);
    if (document.activeElement !== this.number || text === "" && chosen.length) this.number.value = text;
    this.#typed = document.activeElement === this.number ? this.#typed : text;
  }

  focus() {
    const target = this.number ?? this.boxes.find((box) => box.checked) ?? this.boxes[0];
    target.focus();
    this.number?.select();
  }
}

/** Raw evidence in words. */
export function rawText(raw, variable) {
  if (raw === undefined || raw === null) return "";
  if (typeof raw === "number") return unit(variable.unit) ? `${raw} ${unit(variable.unit)}` : String(raw);
  if (typeof raw === "boolean") return raw ? "yes" : "no";
  if (Array.isArray(raw)) return raw.map((one) => rawText(one, variable)).join(" or ");
  if (typeof raw === "object") {
    if ("not" in raw) return `not ${[raw.not].flat().map((one) => rawText(one, variable)).join(" or ")}`;
    if ("value" in raw) return [raw.comparator, raw.value, raw.unit].filter((one) => one !== undefined && one !== null).join(" ");
    if ("state" in raw) return state(raw.state);
    if ("likelihood" in raw) return "uncertain";
  }
  return variable?.states.includes(raw) ? state(raw) : String(raw);
}

/** Evidence with the nearest match put in: a state, a whole quantity, or only its unit. */
function repaired(raw, nearest, variable) {
  if (variable.states.includes(nearest) || /^[<>≤≥=]*\s*[\d.,]+(?:\s|$)/.test(nearest)) return nearest;
  const figure = typeof raw === "string" ? /^\s*[<>≤≥=~]*\s*[\d.,]+/.exec(raw)?.[0].trim() : null;
  if (figure) return `${figure} ${nearest}`;
  if (raw && typeof raw === "object" && "value" in raw) return { ...raw, unit: nearest };
  return nearest;
}

/** A sentence of the server with its nearest matches as buttons. */
export function problemContent(problem, { label, use }) {
  return [
    h("p", {}, problem.message),
    problem.nearest.length ? h("p.repairs", {}, problem.nearest.map((one) =>
      h("button.quiet.small", { type: "button", onclick: () => use(one) }, label(one)))) : null,
  ];
}
