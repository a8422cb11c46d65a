// What the page says when the server is gone, busy, or wants its token; and how it comes back.

import { byId, fill, h } from "./elements.js";
import { Problem, Unreachable, setToken } from "./service.js";

/** A server that does not answer is asked again after this long, then ever later. */
const FIRST = 2000;
const LAST = 30000;

let wait = FIRST;
let timer = 0;
let retry = () => {};

/**
 * Deal with an error that says nothing about the findings.
 *
 * @param {Error} error
 * @param {() => void} again - Asks the same once more.
 * @returns {boolean} Whether it was such an error.
 */
export function wasConnection(error, again) {
  if (error instanceof Unreachable || error.status === 503) showGone(error, again);
  else if (error instanceof Problem && error.status === 401) showTokenForm(again);
  else return false;
  return true;
}

/** The server answers: take the message away. */
export function isConnected() {
  clearTimeout(timer);
  wait = FIRST;
  const banner = byId("connection");
  if (banner.hidden) return;
  banner.hidden = true;
  fill(banner);
}

function showGone(error, again) {
  clearTimeout(timer);
  retry = again;
  const banner = byId("connection");
  // Said once: a message that is written anew is read out anew.
  if (banner.hidden || banner.dataset.message !== error.message) {
    banner.dataset.message = error.message;
    fill(banner,
      h("span", {}, h("strong", {}, error.message), " What you entered is kept here. Trying again …"),
      h("button.quiet.small", { type: "button", onclick: () => retry() }, "Try now"));
    banner.hidden = false;
  }
  timer = setTimeout(() => retry(), wait);
  wait = Math.min(2 * wait, LAST);
}

/** A server that others can reach asks for its token; it is kept until the tab is closed. */
function showTokenForm(again) {
  clearTimeout(timer);
  const banner = byId("connection");
  const field = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const submit = (event) => {
    event.preventDefault();
    setToken(field.value.trim());
    isConnected();
    again();
  };
  fill(banner, h("form.token", { onsubmit: submit },
    h("label", { for: "token" }, "This server asks for its token"), field,
    h("button.quiet.small", { type: "submit" }, "Continue")));
  banner.hidden = false;
  field.focus();
}
