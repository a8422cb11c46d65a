// Making and updating elements. Text always goes in as text, never as markup.

/**
 * Make an element.
 *
 * @param {string} tag - Such as "button" or "button.quiet.small".
 * @param {object} [props] - Properties; on… are listeners, aria-… and data-… attributes,
 *   `vars` custom properties of style.
 * @param {...(Node|string|null|false|Array)} children
 */
export function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  assign(element, props);
  element.append(...nodes(children));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an SVG element. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  return children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false && one !== "");
}

function assign(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (name === "vars") {
      for (const [property, content] of Object.entries(value)) element.style.setProperty(property, content);
    } else if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (name.includes("-") || name === "role" || name === "for" || name === "list") {
      element.setAttribute(name, value);
    } else {
      element[name] = value;
    }
  }
}

/** Replace what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Set the text of an element if it is another one (so that nothing is announced twice). */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Make the children of a list match items: made once by key, updated in place, kept in order.
 *
 * @param {Element} list
 * @param {Array} items
 * @param {(item) => string} key
 * @param {(item) => Element} make
 * @param {(element, item, index) => void} update
 */
export function keyed(list, items, key, make, update) {
  const focused = document.activeElement;
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let place = list.firstElementChild;
  items.forEach((item, index) => {
    const name = key(item);
    let element = old.get(name);
    if (element) {
      old.delete(name);
    } else {
      element = make(item);
      element.dataset.key = name;
    }
    update(element, item, index);
    if (element === place) place = place.nextElementSibling;
    else list.insertBefore(element, place);
  });
  for (const element of old.values()) element.remove();
  // Moving an element drops its focus.
  if (focused && focused !== document.activeElement && list.contains(focused)) focused.focus();
}

export const byId = (id) => document.getElementById(id);

/** Call a function once its calls have paused. */
export function debounced(call, milliseconds) {
  let timer = 0;
  const later = (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), milliseconds);
  };
  later.now = (...given) => {
    clearTimeout(timer);
    call(...given);
  };
  return later;
}
