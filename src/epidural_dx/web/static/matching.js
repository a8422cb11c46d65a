// Which findings a few typed words may mean, with their value: "platelets 24", "fever no", "rim".

import { state, group } from "./words.js";
import { isNumeric } from "./catalogue.js";

const YES = ["yes", "present", "positive", "y", "+"];
const NO = ["no", "absent", "negative", "none", "n", "-", "without"];
const NUMBER = /^(?:[<>≤≥=]=?\s*)?\d/;
const MOST = 12;

const simple = (text) => text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "")
  .replace(/tumou?r/g, "tumor").replace(/haem/g, "hem").replace(/oede/g, "ede");
const wordsOf = (text) => simple(text).split(/[^a-z0-9.]+/).filter(Boolean);

/** An index of the findings that can be entered. */
export function makeIndex(catalogue) {
  const entries = [];
  for (const findings of catalogue.groups.values()) {
    for (const variable of findings) {
      const names = [variable.label, variable.name, ...(variable.other_names ?? [])];
      entries.push({
        variable,
        names: names.map((name) => wordsOf(name)),
        states: variable.states.map((name) => ({ name, words: wordsOf(`${state(name)} ${name}`) })),
        group: wordsOf(group(variable.group)),
      });
    }
  }
  return entries;
}

/**
 * Find what a text may mean, best first.
 *
 * @returns {Array<{variable: object, value: string|null}>} `value` is a state, or a number with
 *   its unit as typed; null where only the finding is named.
 */
export function match(index, text) {
  const typed = text.trim().split(/\s+/).filter(Boolean);
  if (!typed.length) return [];
  const found = new Map();
  const keep = (entry, value, score) => {
    const old = found.get(entry);
    if (!old || score < old.score) found.set(entry, { variable: entry.variable, value, score });
  };
  for (const entry of index) {
    for (let cut = typed.length; cut >= 1; cut -= 1) {
      const score = nameScore(entry, typed.slice(0, cut));
      if (score === null) continue;
      const rest = typed.slice(cut).join(" ");
      const value = rest ? valueOf(entry, rest) : null;
      if (rest && value === null) continue;
      keep(entry, value, score);
    }
    // The state alone may name the finding: "rim", "schistocytes".
    const own = onlyState(entry, typed);
    if (own) keep(entry, own.name, own.isWhole ? 2.5 : 6);
  }
  return [...found.values()]
    .sort((a, b) => a.score - b.score || a.variable.label.length - b.variable.label.length)
    .slice(0, MOST)
    .map(({ variable, value }) => ({ variable, value }));
}

/** How badly words fit the names of a finding: 0 is the name itself; null is no match. */
function nameScore(entry, typed) {
  const tokens = typed.flatMap(wordsOf);
  if (!tokens.length) return null;
  let best = null;
  for (const [place, name] of entry.names.entries()) {
    let score = null;
    if (name.join(" ") === tokens.join(" ")) score = 0;
    else if (name.join("") === tokens.join("")) score = 0.5;
    else if (name.join(" ").startsWith(tokens.join(" "))) score = 1;
    else if (tokens.every((token) => name.some((word) => word.startsWith(token)))) score = 2;
    else if (tokens.every((token) => token.length > 3 && name.some((word) => word.includes(token)))) score = 3;
    else if (tokens.every((token) => name.some((word) => isClose(token, word)))) score = 5;
    if (score !== null) {
      score += place > 1 ? 0.2 : 0;
      if (best === null || score < best) best = score;
    }
  }
  if (best === null && tokens.length === 1 && tokens[0].length > 2 && entry.group[0].startsWith(tokens[0])) return 8;
  return best;
}

/** The raw evidence that a text means for a finding, or null. */
function valueOf(entry, text) {
  const { variable } = entry;
  if (NUMBER.test(text)) return isNumeric(variable) ? text : null;
  const tokens = wordsOf(text);
  const yesNo = variable.states.includes("present");
  const negative = variable.states.includes("negative");
  const word = text.toLowerCase();
  if (yesNo || negative) {
    if (YES.some((one) => one === word)) return yesNo ? "present" : "positive";
    if (NO.some((one) => one === word)) return yesNo ? "absent" : "negative";
  }
  return stateOf(entry, tokens);
}

function stateOf(entry, tokens) {
  if (!tokens.length) return null;
  const fits = entry.states.filter(({ words }) =>
    tokens.every((token) => words.some((one) => one.startsWith(token))));
  const exact = fits.filter(({ name, words }) =>
    name === tokens.join("_") || words.slice(0, tokens.length).join(" ") === tokens.join(" "));
  return (exact[0] ?? fits[0])?.name ?? null;
}

function onlyState(entry, typed) {
  const tokens = typed.flatMap(wordsOf);
  if (!tokens.length || tokens.join("").length < 3) return null;
  const common = ["present", "absent", "none", "normal", "negative", "positive", "low", "high", "raised", "yes"];
  const name = stateOf(entry, tokens);
  if (!name || common.includes(name)) return null;
  const { words } = entry.states.find((one) => one.name === name);
  return { name, isWhole: tokens.every((token) => words.includes(token)) };
}

/** Whether two words differ by a slip: one letter, or two in long words (swaps count once). */
function isClose(a, b) {
  const most = a.length >= 7 ? 2 : a.length >= 4 ? 1 : 0;
  if (!most) return false;
  const target = b.length > a.length + most ? b.slice(0, a.length) : b;
  if (Math.abs(a.length - target.length) > most) return false;
  let before = [];
  let row = Array.from({ length: target.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= target.length; j += 1) {
      const same = a[i - 1] === target[j - 1] ? 0 : 1;
      let cost = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + same);
      if (i > 1 && j > 1 && a[i - 1] === target[j - 2] && a[i - 2] === target[j - 1]) {
        cost = Math.min(cost, before[j - 2] + 1);
      }
      next.push(cost);
    }
    before = row;
    row = next;
  }
  return row[target.length] <= most;
}
