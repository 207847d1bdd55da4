/** The key: asked for when the service wants one, remembered only where the reader says so, forgotten on demand. */

import { key, remembered, setKey } from "./api.js";
import { el, head, icon, open } from "./dom.js";
import { t } from "./words.js";

const USABLE = /^[\x21-\x7e]+$/; // what a header can carry

/**
 * Put the button into the page, and ask for a key when the service does.
 * @param {HTMLElement} place
 */
export function mount(place) {
  const press = () => ask("");
  const button = el("button", { type: "button", class: "button quiet square", id: "key-button", onclick: press });
  const label = () => {
    for (const name of ["aria-label", "title"]) button.setAttribute(name, t("key.title"));
    button.classList.toggle("on", key() !== null);
  };
  button.append(icon("key"));
  place.append(button);
  label();
  for (const name of ["limner:language", "limner:key"]) document.addEventListener(name, label);
  document.addEventListener("limner:key-wanted", () => {
    if (!document.querySelector("dialog.key")) ask(key() === null ? "" : t("key.wrong"));
  });
}

function ask(error) {
  const input = el("input", {
    type: "password",
    id: "key-text",
    name: "key",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "key-error",
    "aria-invalid": error ? true : null,
  });
  const remember = el("input", { type: "checkbox", checked: remembered(), id: "key-remember" });
  const refusal = el("p", { class: "error", id: "key-error", role: "alert" }, error);
  const use = (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!USABLE.test(text)) {
      refusal.textContent = t("key.unusable");
      input.setAttribute("aria-invalid", "true");
      return input.focus();
    }
    dialog.close();
    setKey(text, { remember: remember.checked });
  };
  const forget = () => (dialog.close(), setKey(null));
  const dialog = el(
    "dialog",
    { class: "sheet key", "aria-label": t("key.title") },
    head(t("key.title"), t("page.close")),
    el(
      "form",
      { onsubmit: use, novalidate: true },
      el("p", { class: "muted" }, t("key.why")),
      el("div", { class: "field" }, el("label", { for: input.id }, t("key.label")), input, refusal),
      el("label", { class: "check" }, remember, el("span", {}, t("key.remember"))),
      el(
        "div",
        { class: "sheet-foot" },
        key() !== null && el("button", { type: "button", class: "button quiet", onclick: forget }, t("key.forget")),
        el("button", { class: "button primary" }, t("key.use")),
      ),
    ),
  );
  open(dialog);
  input.focus();
}
