/** What the page says, in the reader's language. */

import { store, stored } from "./dom.js";
import * as compose from "./words/compose.js";
import * as gallery from "./words/gallery.js";

const WORDS = { en: { ...compose.en, ...gallery.en }, zh: { ...compose.zh, ...gallery.zh } };
const LOCALES = { en: "en-GB", zh: "zh-CN" };

/** The languages, each by its own name. */
export const LANGUAGES = { en: "English", zh: "中文" };

let now = stored("language") in WORDS ? stored("language") : preferred();
document.documentElement.lang = LOCALES[now];

function preferred() {
  const wanted = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
  return wanted.find((code) => code in WORDS) ?? "en";
}

/** @returns {"en"|"zh"} */
export function language() {
  return now;
}

/** @returns {string} the language as Intl knows it */
export function locale() {
  return LOCALES[now];
}

/**
 * Change the language and remember it; "limner:language" is fired on the document.
 * @param {"en"|"zh"} code
 */
export function setLanguage(code) {
  now = code;
  store("language", code);
  document.documentElement.lang = LOCALES[code];
  document.dispatchEvent(new CustomEvent("limner:language"));
}

/**
 * A style's name in the reader's language; one of the operator's own has its own name alone.
 * @param {string} style
 * @returns {string}
 */
export function styleName(style) {
  return WORDS[now][`style.${style}`] ?? style;
}

/**
 * A sentence. `{name}` is a value: a number as the language writes it, a text as it is. `{name|picture|pictures}` is
 * the word for one or for several.
 * @param {string} key
 * @param {Object<string, string|number>} values
 * @returns {string}
 */
export function t(key, values = {}) {
  const sentence = WORDS[now][key] ?? WORDS.en[key] ?? key;
  return sentence.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (whole, name, one, other) => {
    const value = values[name];
    if (value === undefined) return whole;
    if (other !== undefined) return new Intl.PluralRules(LOCALES[now]).select(Number(value)) === "one" ? one : other;
    return typeof value === "number" ? new Intl.NumberFormat(LOCALES[now]).format(value) : value;
  });
}
