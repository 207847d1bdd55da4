/** The form: what to paint and how, shown as the chosen model can, and read as the body of POST /v1/pictures. */

import { key, request } from "./api.js";
import { chips, choice, count, field, number, ratios, seed, toggle } from "./controls.js";
import { announce, el, icon, toast } from "./dom.js";
import { body, FREE, isSeed, RATIOS, UNKNOWN, valuesOf } from "./order.js";
import * as painting from "./painting.js";
import * as references from "./reference.js";
import { t } from "./words.js";

const EXAMPLES = 8;
const EXAMPLES_AT_ONCE = 4;
const LONG = 120; // characters; a longer prompt is set in smaller type
const DRAFT = "limner.draft";
const FIELDS =
  /\b(negative_prompt|prompt|seed|n|width|height|style|steps|guidance|strength|sampler|model|[Rr]eference)\b/;

let form;
let prompt; // the one control that stays as the others come and go: it is written in all the while
let models = [];
let memory = {}; // values that were given, also those that the model of now has no controls for
let kept = {}; // the scene and the LoRAs of a request that is painted again: the form has no controls for them
let shown = 0; // the first of the examples that are shown
let lastSent = null; // id of the job that was begun last

/**
 * Fill a section with the form.
 * @param {HTMLElement} root
 */
export function mount(root) {
  prompt = el("textarea", { name: "prompt", id: "prompt", rows: 2, "aria-describedby": "prompt-count" });
  form = el(
    "form",
    { novalidate: true, onsubmit: submit, oninput: changed },
    el(
      "div",
      { class: "field prompt" },
      el("label", { for: "prompt", class: "visually-hidden" }),
      prompt,
      el("p", { id: "prompt-count", class: "muted small count" }),
      el("div", { class: "examples", id: "examples" }),
    ),
  );
  root.append(form);
  render(draft());
  references.mount(() => render(values()), refuse);
  for (const name of ["limner:key", "limner:online"]) document.addEventListener(name, look);
  document.addEventListener("limner:key", () => (key() === null ? clear() : blame(null)));
  document.addEventListener("limner:language", () => (blame(null), render(values())));
  document.addEventListener("limner:again", (event) => fillWith(event.detail.request));
  document.addEventListener("limner:painted", (event) => tellSeed(event.detail.job));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    form.requestSubmit();
  });
  look();
}

/** Ask what there is to paint with; the form is left alone where it is what it was. */
async function look() {
  const { json } = await request("GET", "/v1/models").catch(() => ({}));
  if (!json || JSON.stringify(json.data) === JSON.stringify(models)) return;
  models = json.data;
  render(values());
}

/** Who forgets the key leaves nothing behind. */
function clear() {
  [memory, kept, lastSent] = [{}, {}, null];
  references.clear();
  blame(null);
  render({ prompt: "" });
}

/** What the model of this name can; of the first where there is none of this name. */
function abilities(name) {
  const found = models.find(({ id }) => id === name) ?? models[0];
  return { ...UNKNOWN, ...found?.limner, model: found?.id ?? "image-01" };
}

/** Build the controls that the model has, and put into them what was given now and before. */
function render(given) {
  memory = { ...memory, ...given };
  const can = abilities(memory.model);
  const open = form.querySelector(".more")?.open ?? false;
  const back = focusHeld();
  prompt.placeholder = t("compose.placeholder");
  prompt.labels[0].textContent = t("compose.prompt");
  const [first, ...others] = form.children;
  for (const each of others) each.remove();
  first.after(...controls(can).filter(Boolean));
  form.querySelector(".more").open = open;
  for (const [name, value] of Object.entries({ ...memory, model: can.model })) {
    const control = form.elements[name];
    if (control?.type === "checkbox") control.checked = value === true;
    else if (control && control.value !== `${value ?? ""}`) control.value = value ?? ""; // the same ends a composition
  }
  back();
  refresh();
}

/** Remember where the focus is in the form; what it gives puts it there again, though the control is a new one. */
function focusHeld() {
  const now = document.activeElement;
  if (now === prompt || !form.contains(now)) return () => {};
  const { selectionStart, selectionEnd } = now;
  const mark = (each) =>
    each.id || [each.tagName, each.name, each.type === "radio" && each.value, each.ariaLabel].join("\n");
  return () => {
    const all = [...form.querySelectorAll("input, textarea, select, button, summary")];
    const then = all.find((each) => mark(each) === mark(now));
    then?.focus({ preventScroll: true });
    if (typeof selectionStart === "number") then?.setSelectionRange(selectionStart, selectionEnd);
  };
}

/** All but the prompt. */
function controls(can) {
  return [
    can.references > 0 && references.panel(can.references, can.reference_bytes),
    el("div", { class: "chips", id: "kept" }),
    ratios("1:1", can.free_size),
    can.styles.length > 0 && chips("style", t("compose.style"), can.styles, t("style.none")),
    el("div", { class: "row" }, count(), seed()),
    el("details", { class: "more" }, el("summary", {}, t("compose.more")), fine(can)),
    el(
      "div",
      { class: "actions" },
      el("p", { class: "error", id: "form-error", role: "alert" }),
      el("button", { class: "button primary", id: "paint" }, t("compose.paint"), el("kbd", {}, shortcut())),
      el("button", { type: "button", class: "button quiet", id: "code", onclick: showCode }, t("code.open")),
    ),
  ];
}

function fine(can) {
  const own = [["", t("compose.own.unknown")]];
  return el(
    "div",
    { class: "fine" },
    models.length > 1 &&
      choice(
        "model",
        models.map(({ id }) => [id, id]),
      ),
    can.negative_prompt && field(t("compose.negative_prompt"), el("textarea", { name: "negative_prompt", rows: 2 })),
    el(
      "div",
      { class: "grid" },
      can.steps !== null && number("steps", can.steps, { min: 1, max: 200, step: 1 }),
      can.guidance !== null && number("guidance", can.guidance, { min: 1, max: 30, step: "any" }),
      can.strength && number("strength", null, { min: 0, max: 1, step: "any" }),
      can.samplers.length > 1 && choice("sampler", own.concat(can.samplers.map((name) => [name, name]))),
      choice(
        "format",
        ["jpeg", "png", "webp"].map((name) => [name, name.toUpperCase()]),
      ),
    ),
    toggle("prompt_optimizer"),
    toggle("watermark"),
  );
}

function shortcut() {
  return /Mac|iP/.test(navigator.platform) ? "⌘ ↵" : "Ctrl ↵";
}

/** What the form holds, by the names of its controls. */
function values() {
  const held = [...form.elements].filter((control) => control.name && (control.type !== "radio" || control.checked));
  return Object.fromEntries(held.map((each) => [each.name, each.type === "checkbox" ? each.checked : each.value]));
}

/** What is to be sent. */
function asked() {
  const has = values();
  const can = abilities(has.model);
  return body(
    has,
    can,
    references
      .all()
      .slice(0, can.references)
      .map(({ source }) => source),
    kept,
  );
}

function changed(event) {
  const { name, id } = event.target;
  if (name === "model") render(values());
  else refresh();
  sayAt(form.querySelector(`[aria-describedby~="error-${id}"]`)?.id, null);
  form.querySelector("#form-error").textContent = "";
}

/** Bring what is derived from the values up to date. */
function refresh() {
  const has = values();
  const can = abilities(has.model);
  const length = [...has.prompt.trim()].length;
  const counted = form.querySelector("#prompt-count");
  counted.textContent = length > can.prompt_chars / 2 ? t("compose.count", { n: length, most: can.prompt_chars }) : "";
  counted.classList.toggle("over", length > can.prompt_chars);
  prompt.classList.toggle("long", length > LONG);
  prompt.style.setProperty("height", "auto");
  prompt.style.setProperty("height", `${prompt.scrollHeight}px`);
  examples(has.prompt);
  form.querySelector("#kept").replaceChildren(...keptChips());
  const [width, height] = RATIOS[has.aspect_ratio] ?? [Number(has.width) || 1024, Number(has.height) || 1024];
  painting.blank(width, height, Number(has.n) || 1);
  try {
    sessionStorage.setItem(DRAFT, JSON.stringify({ ...memory, ...has }));
  } catch {
    // A browser that keeps nothing: a reload empties the form.
  }
}

function draft() {
  try {
    return JSON.parse(sessionStorage.getItem(DRAFT)) ?? {};
  } catch {
    return {};
  }
}

/** Prompts to begin with, for as long as there is none of the reader's own. */
function examples(written) {
  const texts = Array.from({ length: EXAMPLES }, (_, number) => t(`example.${number}`));
  const place = form.querySelector("#examples");
  place.hidden = written.trim() !== "" && !texts.includes(written);
  const now = Array.from({ length: EXAMPLES_AT_ONCE }, (_, number) => texts[(shown + number) % EXAMPLES]);
  if (place.dataset.shown === now.join()) return; // else the focus would be lost with the button that was pressed
  place.dataset.shown = now.join();
  const use = (text) => ((prompt.value = text), refresh());
  const turn = () => ((shown = (shown + EXAMPLES_AT_ONCE) % EXAMPLES), refresh(), place.lastElementChild.focus());
  place.replaceChildren(
    ...now.map((text) => el("button", { type: "button", class: "example", onclick: () => use(text) }, text)),
    el("button", { type: "button", class: "example other", onclick: turn }, icon("shuffle"), t("compose.examples")),
  );
}

function keptChips() {
  return Object.keys(kept).map((name) => {
    const drop = () => (delete kept[name], refresh(), prompt.focus());
    const label = t(`compose.kept.${name}`);
    return el(
      "button",
      { type: "button", class: "chip", "aria-label": t("compose.kept.drop", { what: label }), onclick: drop },
      label,
      icon("close"),
    );
  });
}

async function submit(event) {
  event.preventDefault();
  blame(null);
  const [wrong] = faults();
  if (wrong) return sayAt(...wrong, true);
  try {
    lastSent = await painting.paint(asked());
  } catch (error) {
    if (error.sentence) blame(error.sentence, error.code);
    else throw error;
  }
}

/** The controls that cannot be sent, by their ids, and why. */
function faults() {
  const has = values();
  const most = abilities(has.model).prompt_chars;
  const found = [];
  if (!has.prompt.trim()) found.push(["prompt", t("error.prompt")]);
  if ([...has.prompt.trim()].length > most) found.push(["prompt", t("error.prompt.long", { most })]);
  if (has.locked && !isSeed(has.seed.trim())) found.push(["field-seed", t("error.seed")]);
  const sized = has.aspect_ratio === FREE ? [] : ["width", "height"]; // no matter where a ratio is chosen
  for (const { id, name, type, validity, min, max, step } of form.elements) {
    if (type !== "number" || validity.valid || sized.includes(name)) continue;
    found.push([id, t(step === "8" ? "error.side" : step === "any" ? "error.number" : "error.whole", { min, max })]);
  }
  return found;
}

/** Say what the service refused: beside the field that its sentence names, else over the button; null takes it back. */
function blame(sentence, errorCode) {
  for (const { id } of form.querySelectorAll("[aria-invalid]")) sayAt(id, null);
  const place = form.querySelector("#form-error");
  place.textContent = "";
  if (sentence === null) return;
  const [name] = [1026, 1042].includes(errorCode) ? ["prompt"] : (FIELDS.exec(sentence) ?? [""]);
  if (name.toLowerCase() === "reference") refuse(sentence);
  else if (form.elements[name]?.id) sayAt(form.elements[name].id, sentence, true);
  else place.textContent = sentence;
}

/** Why a reference cannot be had; null takes it back. */
function refuse(sentence) {
  if (document.getElementById("reference-url")) sayAt("reference-url", sentence);
  else form.querySelector("#form-error").textContent = sentence ?? "";
}

/** A sentence under a control; null takes it away. */
function sayAt(id, sentence, focus = false) {
  const control = id && document.getElementById(id);
  if (!control) return;
  document.getElementById(`error-${id}`)?.remove();
  if (sentence === null) control.removeAttribute("aria-invalid");
  else control.setAttribute("aria-invalid", "true");
  const described = (control.getAttribute("aria-describedby") ?? "")
    .split(" ")
    .filter((each) => each && each !== `error-${id}`);
  if (sentence !== null) {
    const error = el("p", { class: "error", id: `error-${id}`, role: "alert" }, sentence);
    described.push(error.id);
    control.closest("details")?.setAttribute("open", "");
    control.closest(".field, fieldset").append(error);
    if (focus) control.focus();
    error.scrollIntoView({ block: "nearest" });
  }
  control.setAttribute("aria-describedby", described.join(" "));
}

/** The request of an earlier job, put into the form. What it does not say stays as it is. */
function fillWith(request) {
  const given = valuesOf(request, abilities(request.model));
  kept = given.kept;
  if (request.references === 0) references.clear();
  blame(null);
  render({ ...values(), ...given.values });
  form.scrollIntoView({ block: "start" });
  prompt.focus({ preventScroll: true });
  const lost = Object.entries(given.lost).map(([name, said]) => t(`compose.again.${name}`, said));
  if (lost.length > 0) toast(lost.join(" "), { seconds: 6 * lost.length });
  else announce(t("compose.again"));
}

/** The seed of the picture that was begun last is shown, to be kept by the lock. */
function tellSeed(job) {
  const { seed: input, locked } = form.elements;
  if (job.id === lastSent && !locked.checked) input.value = job.pictures[0]?.seed ?? "";
}

async function showCode() {
  const wrong = faults().find(([id]) => id !== "prompt");
  if (wrong) return sayAt(...wrong, true);
  const { model, ...rest } = asked();
  const files = references.all().map(({ file }) => file);
  const { show } = await import("./code.js"); // most visitors never ask for it
  show({ model, prompt: t(`example.${shown}`), ...rest }, files); // an example stands in for an empty prompt
}
