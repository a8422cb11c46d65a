// Light, dark, or as the system says; remembered in this browser.

import { byId, say } from "./elements.js";

const KEPT = "epidural-dx theme";
/** Name, text of the button, what a screen reader says. */
const THEMES = [["auto", "Auto", "as the system"], ["light", "Light", "light"], ["dark", "Dark", "dark"]];

/** Show the remembered appearance and let the button change it. */
export function makeAppearance() {
  const button = byId("theme");
  let place = Math.max(0, THEMES.findIndex(([name]) => name === remembered()));
  const show = () => {
    const [name, text, spoken] = THEMES[place];
    document.documentElement.dataset.theme = name;
    say(button, text);
    button.setAttribute("aria-label", `Appearance: ${spoken}`);
  };
  button.addEventListener("click", () => {
    place = (place + 1) % THEMES.length;
    show();
    try {
      localStorage.setItem(KEPT, THEMES[place][0]);
    } catch {
      // Forgotten when the page is closed.
    }
  });
  show();
}

function remembered() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null;
  }
}
