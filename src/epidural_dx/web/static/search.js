// The field in which a finding is named: a combobox after the ARIA authoring practices.

import { byId, fill, h } from "./elements.js";
import { isNumeric } from "./catalogue.js";
import { makeIndex, match } from "./matching.js";
import { group, state, unit } from "./words.js";

/**
 * Bring the search field to life.
 *
 * @param {object} options
 * @param {Catalogue} options.catalogue
 * @param {() => object} options.known - Findings that have a value, by variable.
 * @param {(variable, value) => void} options.onValue - A finding with its value was chosen.
 * @param {(variable) => void} options.onFinding - A finding without a value was chosen.
 * @param {(text) => void} options.onUnknown - Enter was pressed on what matches nothing.
 */
export function makeSearch({ catalogue, known, onValue, onFinding, onUnknown }) {
  const input = byId("search");
  const list = byId("search-list");
  const index = makeIndex(catalogue);
  let matches = [];
  let active = -1;

  const close = () => {
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };

  const choose = (one) => {
    input.value = "";
    close();
    if (one.value === null) onFinding(one.variable);
    else onValue(one.variable, one.value);
  };

  const mark = (place) => {
    active = place;
    for (const [i, option] of [...list.children].entries()) {
      option.setAttribute("aria-selected", String(i === active));
      if (i === active) {
        input.setAttribute("aria-activedescendant", option.id);
        option.scrollIntoView({ block: "nearest" });
      }
    }
    if (active < 0) input.removeAttribute("aria-activedescendant");
  };

  const open = () => {
    matches = match(index, input.value);
    if (!input.value.trim()) return close();
    fill(list, matches.length
      ? matches.map((one, i) => option(one, i))
      : h("li.option.option-none", { role: "option", "aria-disabled": "true", "aria-selected": "false", id: "option-none" },
        `No finding called “${input.value.trim()}”. Enter asks the model.`));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    mark(matches.length ? 0 : -1);
  };

  const option = ({ variable, value }, i) => h("li.option", {
    role: "option",
    id: `option-${i}`,
    "aria-selected": "false",
    // The field must keep the focus while an option is pressed.
    onpointerdown: (event) => event.preventDefault(),
    onclick: () => choose(matches[i]),
  },
  h("span.option-name", {}, variable.label),
  value !== null && h("span.option-value", {}, shownValue(variable, value)),
  h("span.option-group", {}, group(variable.group), known()[variable.name] ? " · known" : ""));

  input.addEventListener("input", open);
  input.addEventListener("focus", () => input.value && open());
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const last = matches.length - 1;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) return open();
      if (last < 0) return undefined;
      const step = event.key === "ArrowDown" ? 1 : -1;
      return mark((active + step + last + 1) % (last + 1));
    }
    if (event.key === "Escape") {
      if (list.hidden) input.value = "";
      return close();
    }
    if (event.key === "Enter" && input.value.trim()) {
      event.preventDefault();
      // What was typed last may not have been matched yet.
      if (list.hidden) open();
      if (matches[Math.max(active, 0)]) return choose(matches[Math.max(active, 0)]);
      const text = input.value.trim();
      close();
      return onUnknown(text);
    }
    return undefined;
  });
  return { focus: () => input.focus() };
}

function shownValue(variable, value) {
  if (variable.states.includes(value)) return state(value);
  const bare = isNumeric(variable) && /^[<>≤≥=]*\s*[\d.,]+$/.test(value);
  return bare && unit(variable.unit) ? `${value} ${unit(variable.unit)}` : value;
}
