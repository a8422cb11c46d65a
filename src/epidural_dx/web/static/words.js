// Identifiers as people say them. Nothing here is a number of the model.

const CAUSES = {
  hematoma: "Hematoma",
  abscess: "Abscess",
  tuberculosis: "Tuberculosis",
  metastasis_melanoma: "Melanoma metastasis",
  metastasis_other: "Metastasis of another tumour",
  lymphoma: "Lymphoma",
  leukemia: "Leukemia",
  myeloma: "Myeloma",
  emh: "Extramedullary hematopoiesis",
  disc: "Disc fragment",
  lipomatosis: "Epidural lipomatosis",
  nerve_sheath_tumor: "Nerve sheath tumour",
  vascular_malformation: "Vascular malformation",
  primary_bone_tumor: "Primary bone tumour",
  cyst: "Cyst",
  other: "Something else",
};

// What drives a mechanism: the part of its name after the cause.
const DRIVERS = {
  acute: "acute leukemia",
  adult: "of adulthood",
  anticoagulant: "anticoagulant",
  antiplatelet: "antiplatelet drug",
  child: "of childhood",
  dic: "disseminated intravascular coagulation",
  exposure: "exposure to tuberculosis",
  hemoglobinopathy: "hemoglobinopathy",
  hereditary_bleeding: "hereditary bleeding disorder",
  isolated: "isolated",
  iv_drug_use: "injection of drugs",
  other_primary: "another primary",
  pediatric: "tumour of childhood",
  procedure: "spinal procedure",
  recent_infection: "infection elsewhere",
  secondary: "lymphoma elsewhere",
  solitary: "solitary",
  steroid: "corticosteroids",
  systemic: "systemic myeloma",
  transformation: "transformed myeloid disorder",
  trauma: "injury",
};

const CONDITIONS = {
  marrow_infiltration: "Marrow infiltration",
  hemostasis: "Hemostasis",
  blood_disorder: "Blood disorder",
  melanoma_stage: "Melanoma",
  melanoma_primary_site: "Primary site of the melanoma",
  solid_tumor: "Solid tumour",
  systemic_infection: "Systemic infection",
};

// State names that mean the same wherever they stand.
const STATES = {
  present: "yes",
  absent: "no",
  none: "none",
  tdt: "transfusion-dependent thalassemia",
  ntdt: "non-transfusion-dependent thalassemia",
  sickle_cell: "sickle cell disease",
  other_hemolytic: "another hemolytic anemia",
  mds: "myelodysplastic syndrome",
  aml: "acute myeloid leukemia",
  cml: "chronic myeloid leukemia",
  all: "acute lymphoblastic leukemia",
  thalassemia_with_cml: "thalassemia with chronic myeloid leukemia",
  dic: "disseminated intravascular coagulation",
  emh: "extramedullary hematopoiesis",
  age_0_17: "0 to 17",
  age_18_39: "18 to 39",
  age_40_59: "40 to 59",
  age_60_plus: "60 or older",
  low_100_149: "low (100–149)",
  low_50_99: "low (50–99)",
  up_to_2_levels: "up to 2 levels",
  over_2_levels: "over 2 levels",
  below_5: "below 5",
  at_least_5: "5 or more",
  under_3s: "under 3 s",
  from_3_to_6s: "3 to 6 s",
  over_6s: "over 6 s",
  acute_days: "acute, days",
  subacute_weeks: "subacute, weeks",
  chronic_months: "chronic, months",
  bilateral_lobulated: "bilateral, lobulated",
  diffuse_low_t1: "diffuse low T1",
  cd45_negative_population: "CD45-negative population",
  pus_or_organism: "pus or organism",
  hematoma_or_fibrin: "hematoma or fibrin",
  pediatric: "tumour of childhood",
  anorectal_genital: "anorectal or genital",
  non_diagnostic: "non-diagnostic",
  hypo: "hypointense",
  iso: "isointense",
  hyper: "hyperintense",
};

const GROUPS = {
  patient: "Patient",
  history: "History",
  symptom: "Symptoms",
  examination: "Examination",
  laboratory: "Laboratory",
  imaging: "Imaging",
  tissue: "Tissue",
  condition: "Known conditions",
};

const STAGES = {
  mri: "MRI",
  re_examination: "Re-examination",
  follow_up: "Follow-up",
};

const GRADES = {
  counted: "counted in patients",
  estimated: "estimated from published figures",
  expert: "judged by experts",
  assumed: "assumed",
};

/** Groups of findings in the order in which a patient is met. */
export const GROUP_ORDER = Object.keys(GROUPS);

export const plain = (name) => String(name).replaceAll("_", " ");
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const cause = (name) => CAUSES[name] ?? capital(plain(name));
export const group = (name) => GROUPS[name] ?? capital(plain(name));
export const stage = (name) => STAGES[name] ?? capital(plain(name));
export const grade = (name) => GRADES[name] ?? plain(name);
export const variable = ({ name, label }) => (name === "age_group" ? "Age" : label);
export const condition = (variable) => CONDITIONS[variable.name] ?? variable.label;

/** A state in words; that of a lesion is its cause with its phase: "hematoma, subacute". */
export function state(name) {
  if (STATES[name]) return STATES[name];
  if (CAUSES[name] && name !== "other") return inSentence(CAUSES[name]);
  const of = Object.keys(CAUSES).find((one) => one !== "other" && name.startsWith(`${one}_`));
  return of ? `${inSentence(CAUSES[of])}, ${plain(name.slice(of.length + 1))}` : plain(name);
}

/** A state after "is": a finding is present, where its field says yes. */
export const predicate = (name) => (name === "present" || name === "absent" ? name : state(name));

/** What drives a mechanism, in words; empty where the cause says it all. */
export function drivenBy({ name, cause: of }) {
  if (name === of) return "";
  const own = name.replace(/^metastasis_/, "").replace(new RegExp(`^${of}_`), "");
  return DRIVERS[own] ?? plain(own);
}

/** What the marrow holds. */
export const inMarrow = (name) => (name === "none" ? "No tumour in the marrow" : `${capital(state(name))} in the marrow`);

/** A label inside a sentence: its first letter small, unless it is an abbreviation. */
export const inSentence = (label) => (/^[A-Z][a-z]/.test(label) ? label.charAt(0).toLowerCase() + label.slice(1) : label);

const ABBREVIATIONS = { aptt: "aPTT", crp: "CRP", ct: "CT", dic: "DIC", esr: "ESR", inr: "INR", ldh: "LDH", mri: "MRI" };
const ABBREVIATED = new RegExp(`\\b(?:${Object.keys(ABBREVIATIONS).join("|")})\\b`, "g");

/** Causes as the server spells them in a sentence, where that is not how people say them. */
const SPOKEN = new RegExp(`\\b(?:${Object.keys(CAUSES).filter((name) => name.includes("_") || name === "emh").map(plain).join("|")})\\b`, "g");

/** Replace the identifiers in a sentence of the server by words. */
export function sentence(text, variables) {
  const said = text.replace(/\b([a-z][a-z0-9_]*) ([a-z][a-z0-9_]*)/g, (both, name, value) =>
    (variables?.get(name)?.states.includes(value) ? `${inSentence(variables.get(name).label)} ${predicate(value)}` : both));
  return said.replace(SPOKEN, (name) => inSentence(CAUSES[name.replaceAll(" ", "_")])).replace(/\b[a-z][a-z0-9]*(?:_[a-z0-9]+)+\b/g, (name) => {
    if (variables?.has(name)) return inSentence(variables.get(name).label);
    if (CAUSES[name]) return inSentence(CAUSES[name]);
    return STATES[name] ?? plain(name);
  }).replace(ABBREVIATED, (short) => ABBREVIATIONS[short]);
}

/** A piece of evidence as the server read it, for one variable. */
export function asRead(text, variable) {
  const names = new Set(variable.states);
  const humanized = (part) => part.replace(/[a-z][a-z0-9_]*/g, (word) =>
    names.has(word) ? state(word) : word);
  const arrow = text.lastIndexOf(" → ");
  if (arrow < 0) return humanized(text);
  // The number as it was given is enough; what it became in another unit is for the notes.
  const given = text.slice(0, arrow).split(" = ")[0];
  if (variable.unit === "years") return given;
  return `${given}, ${humanized(text.slice(arrow + 3))}`;
}

// ---------------------------------------------------------------- numbers

const NARROW = "\u202f";

/** A probability as a percentage that never pretends to be certain. */
export function percent(p) {
  if (p === null || p === undefined) return "";
  const x = 100 * p;
  if (x > 0 && x < 0.1) return `<0.1${NARROW}%`;
  if (x > 99.9 && x < 100) return `>99.9${NARROW}%`;
  if (x < 9.95 && x > 0) return `${x.toFixed(1)}${NARROW}%`;
  if (x > 99 && x < 99.95) return `${x.toFixed(1)}${NARROW}%`;
  return `${Math.round(x)}${NARROW}%`;
}

/** A percentage in words for screen readers and sentences. */
export const spokenPercent = (p) => percent(p).replace(NARROW, " ").replace("<", "under ").replace(">", "over ");

/** A 90 % interval without repeated signs. */
export function interval(lower, upper) {
  if (percent(lower) === percent(upper)) return percent(upper);
  const bare = (p) => percent(p).replace(`${NARROW}%`, "");
  return `${bare(lower)}–${percent(upper)}`;
}

/** A change in percentage points; empty where nobody would see it. */
export function change(now, before) {
  const points = 100 * (now - before);
  if (Math.abs(points) < 0.95) return "";
  return `${points > 0 ? "+" : "−"}${Math.abs(points).toFixed(0)}`;
}

export function hours(h) {
  if (h < 1) return `${Math.max(1, Math.round(h * 60))}${NARROW}min`;
  if (h < 48) return `${Number(h.toFixed(h < 10 ? 1 : 0))}${NARROW}h`;
  return `${Number((h / 24).toFixed(1))} days`;
}

export const dollars = (usd) => `US$${NARROW}${usd < 10 ? usd.toFixed(usd < 1 ? 2 : 0) : Math.round(usd).toLocaleString("en")}`;

/** How many patients a figure is worth. */
export const patients = (x) => `${x < 10 ? Number(x.toFixed(1)) : Math.round(x)} patients`;

/** What the server says of a finding, beside that finding: its name need not be repeated. */
export function beside(message, name) {
  const own = message.startsWith(`${name}: `) ? message.slice(name.length + 2) : message;
  return capital(own);
}

/** A quantity with few digits. */
export const few = (x) => String(Number(Number(x).toPrecision(3)));

/** A unit as printed: 10*9/L as ×10⁹/L. */
export function unit(name) {
  if (!name || name === "1") return "";
  return name.replace(/^10[*^](\d+)/, (_, digits) =>
    `×10${[...digits].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("")}`).replace(/^Cel$/, "°C");
}
