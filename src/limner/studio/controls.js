/** The form's controls: each a piece of HTML whose inputs carry the names of the request's fields. */

import { el, icon } from "./dom.js";
import { FREE, RATIOS } from "./order.js";
import { styleName, t } from "./words.js";

const MOST_PICTURES = 9;

/** A group of controls under a heading. */
function group(name, label, ...content) {
  return el("fieldset", { class: `group ${name}`, id: `group-${name}` }, el("legend", {}, label), ...content);
}

/** A labelled control, and the place where an error about it is said. */
export function field(label, control, { hint = null, name = control.name } = {}) {
  control.id ||= `field-${name}`;
  return el(
    "div",
    { class: "field" },
    el("label", { for: control.id }, label),
    control,
    hint && el("p", { class: "muted small" }, hint),
  );
}

function radio(name, value, chosen, ...content) {
  return el(
    "label",
    { class: "option" },
    el("input", { type: "radio", name, value, checked: value === chosen }),
    ...content,
  );
}

/** Ratios as the shapes that they are; with `free`, also any width and height. */
export function ratios(chosen, free) {
  const shapes = Object.entries(RATIOS).map(([ratio, [width, height]]) => {
    const side = 1.5 / Math.sqrt(width * height); // rem: shapes of one area, as the pictures are
    const shape = el("span", { class: "shape", style: { width: `${width * side}rem`, height: `${height * side}rem` } });
    return radio("aspect_ratio", ratio, chosen, shape, el("span", { class: "ratio" }, ratio));
  });
  if (!free) return group("ratio", t("compose.ratio"), el("div", { class: "shapes" }, shapes));
  const side = (name) =>
    el("input", {
      type: "number",
      name,
      id: `field-${name}`,
      min: 512,
      max: 2048,
      step: 8,
      required: true,
      value: "1024",
      "aria-label": t(`compose.${name}`),
    });
  const any = radio(
    "aspect_ratio",
    FREE,
    chosen,
    el("span", { class: "shape any" }),
    el("span", {}, t("compose.free")),
  );
  const sides = el(
    "div",
    { class: "sides" },
    side("width"),
    el("span", { "aria-hidden": "true" }, "×"),
    side("height"),
  );
  return group(
    "ratio",
    t("compose.ratio"),
    el("div", { class: "shapes" }, shapes, any),
    el("div", { class: "free" }, sides, el("p", { class: "muted small" }, t("compose.free.hint"))),
  );
}

/** One of some names, as chips; the first is none of them. */
export function chips(name, label, names, none) {
  const chip = (value, text) => radio(name, value, "", el("span", {}, text));
  return group(
    name,
    label,
    el(
      "div",
      { class: "chips" },
      chip("", none),
      names.map((one) => chip(one, styleName(one))),
    ),
  );
}

/** How many pictures. */
export function count() {
  const range = { min: 1, max: MOST_PICTURES, required: true };
  const input = el("input", { type: "number", name: "n", id: "field-n", value: "1", ...range });
  const turn = (by, name) =>
    el(
      "button",
      {
        type: "button",
        class: "button square",
        "aria-label": t(name),
        onclick: () => {
          input.value = String(Math.min(MOST_PICTURES, Math.max(1, (Number(input.value) || 1) + by)));
          input.dispatchEvent(new Event("input", { bubbles: true }));
        },
      },
      by < 0 ? "−" : "+",
    );
  return el(
    "div",
    { class: "field" },
    el("label", { for: input.id }, t("compose.n")),
    el("div", { class: "joined" }, turn(-1, "compose.n.less"), input, turn(1, "compose.n.more")),
  );
}

/** A seed: text all the way, for JavaScript's numbers are too small for it. Locked, it is sent; else it is told. */
export function seed() {
  const input = el("input", {
    type: "text",
    inputmode: "numeric",
    name: "seed",
    id: "field-seed",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: t("compose.seed.any"),
  });
  const lock = el("input", { type: "checkbox", name: "locked", "aria-label": t("compose.seed.lock") });
  const set = (text) => {
    input.value = text;
    lock.checked = true;
    lock.dispatchEvent(new Event("input", { bubbles: true }));
  };
  input.addEventListener("input", () => (lock.checked = input.value.trim() !== ""));
  const shuffle = { type: "button", class: "button square", "aria-label": t("compose.seed.shuffle") };
  return el(
    "div",
    { class: "field grow" },
    el("label", { for: input.id }, t("compose.seed")),
    el(
      "div",
      { class: "joined" },
      input,
      el("label", { class: "toggle", title: t("compose.seed.lock") }, lock, icon("unlock"), icon("lock")),
      el("button", { ...shuffle, title: t("compose.seed.shuffle"), onclick: () => set(randomSeed()) }, icon("shuffle")),
    ),
  );
}

function randomSeed() {
  return String(crypto.getRandomValues(new Uint32Array(1))[0]);
}

/** A number that the model has a value of its own for, which stands until another is written. */
export function number(name, own, { min, max, step }) {
  const placeholder = typeof own === "number" ? t("compose.own", { value: own }) : t("compose.own.unknown");
  return field(t(`compose.${name}`), el("input", { type: "number", name, min, max, step, placeholder }));
}

/** One of some texts. */
export function choice(name, options) {
  const select = el(
    "select",
    { name },
    options.map(([value, text]) => el("option", { value }, text)),
  );
  return field(t(`compose.${name}`), select);
}

/** Yes or no. */
export function toggle(name) {
  return el(
    "label",
    { class: "switch" },
    el("span", {}, t(`compose.${name}`), el("span", { class: "muted small" }, t(`compose.${name}.hint`))),
    el("input", { type: "checkbox", role: "switch", name }),
  );
}
