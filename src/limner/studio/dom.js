/** Elements, icons, and what is said to the reader: in a live region, or in a note that goes again. */

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  auto: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16M12 4v16",
  check: "M5 12.5l4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  download: "M12 4v11m-5-4.5l5 5 5-5M5 20h14",
  key: "M10.8 12.2L20 3M15.5 7.5l3 3M8 11a4 4 0 1 0 0 8 4 4 0 0 0 0-8z",
  dark: "M19.5 14.5A8 8 0 1 1 9.5 4.5a6.5 6.5 0 0 0 10 10z",
  left: "M14.5 5.5L8 12l6.5 6.5",
  light:
    "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2" +
    "M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  picture: "M4 5h16v14H4zM4 16l4.5-4.5 3.5 3.5 3-3 5 5M15.5 9h.01",
  plus: "M12 5v14M5 12h14",
  right: "M9.5 5.5L16 12l-6.5 6.5",
  shuffle: "M4 17h3l9-10h4m-3-3l3 3-3 3M4 7h3l2.5 2.800M13.5 14.200L16 17h4m-3-3l3 3-3 3",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.200 10.5v5.5M13.800 10.5v5.5",
  unlock: "M6 11h12v9H6zM8.5 11V7.5a3.5 3.5 0 0 1 6.800-1.200",
  usage: "M5 19v-6M10 19V5M15 19v-9M20 19v-4",
};

/** Attributes that are set as properties: what the reader changes later lives there. */
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open"]);

/**
 * An element.
 * @param {string} tag
 * @param {Object} attributes `class`; `on...` functions listen; `style` is an object of properties, set one by one as
 *   the page's policy asks; true is an empty attribute; false, null and undefined are none.
 * @param {...(Node|string|number|null|Array)} children null, undefined and false are left out; arrays are flattened.
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (PROPERTIES.has(name)) element[name] = value;
    else if (value === true) element.setAttribute(name, name.startsWith("aria-") ? "true" : "");
    else if (value !== false || name.startsWith("aria-")) element.setAttribute(name, String(value));
  }
  return element;
}

/**
 * A line drawing in the colour of the text, hidden from screen readers: its button says what it is.
 * @param {keyof typeof ICONS} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * Open a dialog: all else is inert until it closes, and it leaves the page as it does.
 * @param {HTMLDialogElement} dialog
 */
export function open(dialog) {
  dialog.addEventListener("close", () => dialog.remove(), { once: true });
  document.body.append(dialog);
  dialog.showModal();
  settle();
}

/**
 * The head of a dialog: its title, what stands beside that, and the button that closes it.
 * @param {string} title
 * @param {string} close what the button is called
 * @param {...(Node|null|false)} beside
 * @returns {HTMLElement}
 */
export function head(title, close, ...beside) {
  return el("div", { class: "sheet-head" }, el("h2", {}, title), beside, closer(close));
}

/**
 * A button that closes the dialog it is in.
 * @param {string} label
 * @param {Object} [attributes] further ones
 * @returns {HTMLButtonElement}
 */
export function closer(label, attributes = {}) {
  const onclick = (event) => event.currentTarget.closest("dialog").close();
  const button = { type: "button", class: "button quiet square closer", "aria-label": label, onclick, ...attributes };
  return el("button", button, icon("close"));
}

const live = el("div", { id: "live", class: "visually-hidden", "aria-live": "polite" });
const toasts = el("div", { id: "toasts", class: "toasts" });

/** The dialog that makes all else inert, if there is one. */
const modal = () => [...document.querySelectorAll("dialog[open]")].at(-1);

/** What is said must be said, and what can be undone must be within reach, inside an open dialog. */
function settle() {
  const place = modal() ?? document.body;
  if (live.parentNode !== place) place.append(live, toasts);
}

document.addEventListener("close", settle, true); // of a dialog; it does not bubble
document.addEventListener("limner:key", () => {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close(); // it may show what is another key's
});

/**
 * Say something to who listens rather than looks; politely, after what is being read.
 * @param {string} sentence
 */
export function announce(sentence) {
  settle();
  live.textContent = "";
  setTimeout(() => (live.textContent = sentence), 50); // the same sentence again is news only to an empty region
}

/**
 * A note at the foot of the page that goes by itself; not while the pointer or the focus is on it.
 * @param {string} sentence
 * @param {Object} [options]
 * @param {string} [options.label] of a button
 * @param {() => void} [options.action] what the button does
 * @param {() => void} [options.after] called when the note goes and the button was not pressed
 * @param {number} [options.seconds]
 * @returns {() => void} takes the note away, as if its time were over
 */
export function toast(sentence, { action, label, after, seconds = 6 } = {}) {
  let there = true;
  const go = (then) => {
    if (!there) return;
    there = false;
    const held = note.contains(document.activeElement);
    note.remove();
    then?.();
    if (held && document.activeElement === document.body) modal()?.querySelector(".closer")?.focus();
  };
  const wait = () => setTimeout(() => (note.matches(":hover, :focus-within") ? wait() : go(after)), 1000 * seconds);
  const button = { type: "button", class: "button quiet", onclick: () => go(action) };
  const note = el("div", { class: "toast" }, el("p", {}, sentence), action && el("button", button, label));
  announce(sentence);
  toasts.append(note);
  wait();
  return () => go(after);
}

/**
 * Put a text on the clipboard.
 * @param {string} text
 * @returns {Promise<boolean>} whether it is there
 */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Only pages of https and of this machine have a clipboard; the older way is for all.
    const area = el("textarea", { class: "visually-hidden", value: text, "aria-hidden": "true" });
    const focused = document.activeElement;
    (modal() ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

/**
 * What was remembered on this device under a name; null where nothing was, or where the browser keeps nothing.
 * @param {string} name
 * @returns {string|null}
 */
export function stored(name) {
  try {
    return localStorage.getItem(`limner.${name}`);
  } catch {
    return null;
  }
}

/**
 * Remember a text on this device, or forget it (null).
 * @param {string} name
 * @param {string|null} text
 */
export function store(name, text) {
  try {
    if (text === null) localStorage.removeItem(`limner.${name}`);
    else localStorage.setItem(`limner.${name}`, text);
  } catch {
    // A browser that keeps nothing: the page works, and forgets.
  }
}
