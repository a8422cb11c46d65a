// What the model knows: variables, tests, base rates, published patients.

import { get } from "./service.js";
import * as words from "./words.js";

/** Letters of both states that fit beside the name of a finding. */
const QUICK = 18;
/** Units offered beside a number; the server takes more. */
const MOST_UNITS = 6;

/** Read everything that does not depend on the patient. */
export async function readCatalogue(signal) {
  const [variables, tests, scenarios, cases, model] = await Promise.all(
    ["variables", "tests", "scenarios", "cases", "model"].map((name) => get(`/v1/${name}`, signal)));
  return new Catalogue(variables.variables, tests.tests, scenarios.scenarios, cases.cases, model);
}

export class Catalogue {
  constructor(variables, tests, scenarios, cases, about) {
    for (const one of variables) one.label = words.variable(one);
    this.variables = new Map(variables.map((one) => [one.name, one]));
    this.tests = new Map(tests.map((one) => [one.test, one]));
    this.scenarios = scenarios;
    this.cases = cases;
    this.model = about.model;
    /** Base rates where none are chosen. */
    this.scenario = about.model.scenario;
    /** Findings that can be entered, by group in the order in which a patient is met. */
    this.groups = new Map(words.GROUP_ORDER.map((name) => [
      name, variables.filter((one) => one.group === name && !one.latent)]));
    this.#others = new Map(variables.flatMap((one) =>
      (one.other_names ?? []).map((name) => [name, one.name])));
  }

  #others;

  /** The variable that a name in a published case or a link stands for. */
  canonical(name) {
    if (this.variables.has(name)) return name;
    return this.#others.get(name) ?? name;
  }
}

/** Whether a finding has two short states that are offered beside it, without an editor. */
export const isQuick = (variable) =>
  isPair(variable) && !(variable.group === "laboratory" && isNumeric(variable))
  && variable.states.map(words.state).join("").length <= QUICK;
export const isNumeric = (variable) => Boolean(variable.unit) || variable.thresholds.length > 0;
const isPair = (variable) => variable.states.length === 2;

/** States in the order in which they are offered: yes before no. */
export const offered = (variable) =>
  isPair(variable) && variable.states[0] === "absent" ? [...variable.states].reverse() : variable.states;

/** Units that a number of this variable may have, the usual one first. */
export const unitsOf = (variable) => variable.units.filter(Boolean).slice(0, MOST_UNITS);

/** Where a state begins and ends, if that is the same for everybody; else "". */
export function cutOff(variable, state) {
  const everybody = variable.thresholds.every((one) => one.sex === "" && !one.age_low && one.age_high === null);
  const cut = variable.thresholds.filter((one) => one.state === state);
  if (!everybody || cut.length !== 1 || variable.unit === "years" || variable.unit === "levels") return "";
  const [{ low, high }] = cut;
  if (low === null && high === null) return "";
  if (low === null) return `under ${high}`;
  if (high === null) return `from ${low}`;
  return `${low}–${high}`;
}
