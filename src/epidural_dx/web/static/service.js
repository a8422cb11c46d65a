// Asking the HTTP interface beside this page, and telling its errors apart.

/** What the server says is wrong with a request (RFC 9457). */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `The server answered with status ${status}.`);
    this.status = status;
    /** "evidence" where one finding cannot be read, "impossible" where findings exclude each other, … */
    this.kind = String(document.type ?? "").split(":").at(-1);
    this.variable = document.variable ?? null;
    this.value = document.value ?? null;
    this.allowed = document.allowed ?? [];
    this.nearest = document.nearest ?? [];
  }
}

/** The server did not answer. */
export class Unreachable extends Error {}

/** How often a server that is busy (503) is asked again. */
const TRIES = 4;
const TOKEN = "epidural-dx token";

export const setToken = (token) => sessionStorage.setItem(TOKEN, token);

export const get = (path, signal) => ask("GET", path, undefined, signal);
export const post = (path, body, signal) => ask("POST", path, body, signal);

async function ask(method, path, body, signal) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await send(method, path, body, signal);
    if (response.ok) return readJson(response);
    const problem = new Problem(response.status, await readJson(response).catch(() => ({})));
    if (response.status !== 503 || attempt === TRIES) throw problem;
    await pause(1000 * Math.min(10, Number(response.headers.get("Retry-After")) || attempt), signal);
  }
}

async function send(method, path, body, signal) {
  const headers = { Accept: "application/json, application/problem+json" };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, {
      method,
      headers,
      signal,
      body: body === undefined ? undefined : JSON.stringify(body),
      // What a patient has belongs in no cache.
      cache: method === "GET" ? "no-cache" : "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("The server does not answer.", { cause: error });
  }
}

async function readJson(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable("The server broke off its answer.", { cause: error });
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("aborted", "AbortError"));
    });
  });
}
