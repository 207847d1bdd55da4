/** The page: its parts in their places, the language, the colours, and whether the service is there. */

import * as compose from "./compose.js";
import { announce, el, icon, store, stored } from "./dom.js";
import * as gallery from "./gallery.js";
import * as key from "./key.js";
import * as painting from "./painting.js";
import * as usage from "./usage.js";
import { LANGUAGES, language, setLanguage, t } from "./words.js";

const SCHEMES = ["auto", "light", "dark"];

const place = (id) => document.getElementById(id);

function label() {
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]")) {
    element.setAttribute("aria-label", t(element.dataset.tLabel));
  }
}

/** A button that goes on to the next of some names. */
function turn(id, names, now, choose, attributes, ...content) {
  const next = names[(names.indexOf(now) + 1) % names.length];
  const act = () => (choose(next), settings(), place(id).focus());
  return el("button", { type: "button", class: "button quiet", id, onclick: act, ...attributes(next) }, ...content);
}

function settings() {
  const scheme = document.documentElement.dataset.scheme;
  const named = () => ({
    "aria-label": `${t("page.scheme")}: ${t(`page.scheme.${scheme}`)}`,
    title: t(`page.scheme.${scheme}`),
  });
  const inOwn = (next) => ({ lang: next, title: t("page.language") });
  const languages = Object.keys(LANGUAGES);
  const other = LANGUAGES[languages[(languages.indexOf(language()) + 1) % languages.length]];
  place("settings").replaceChildren(
    turn("scheme", SCHEMES, scheme, paintIn, named, icon(scheme)),
    turn("language", languages, language(), setLanguage, inOwn, other),
  );
}

function paintIn(scheme) {
  document.documentElement.dataset.scheme = scheme;
  store("scheme", scheme === "auto" ? null : scheme);
}

function gone(is) {
  const note = place("gone");
  note.hidden = !is;
  note.textContent = is ? t("error.offline") : "";
  if (!is) announce(t("page.back"));
}

paintIn(SCHEMES.includes(stored("scheme")) ? stored("scheme") : "auto");
label();
settings();
document.addEventListener("limner:language", () => (label(), settings()));
document.addEventListener("limner:offline", () => gone(true));
document.addEventListener("limner:online", () => gone(false));

key.mount(place("key"));
compose.mount(place("compose"));
painting.mount(place("painting"));
usage.mount(place("usage"));
gallery.mount(place("gallery"));
