/** One picture, large, with what it was asked for by and all that can be done with it. */

import { announce, closer, copy, el, icon, open, toast } from "./dom.js";
import { asked, image, said, source } from "./picture.js";
import { locale, t } from "./words.js";

const SWIPE = 48; // CSS pixels that a finger goes sideways to mean the next picture
const COPIED = 1500; // milliseconds that a button says so
const FORMATS = ["jpeg", "png", "webp"];

/**
 * Open the viewer.
 * @param {import("./picture.js").Entry} entry
 * @param {Object} gallery
 * @param {(entry: Entry, by: -1|1) => Promise<Entry|null>} gallery.beside the picture before or after this one
 * @param {(entry: Entry) => void} gallery.focus called as the viewer closes, with what it showed last
 * @param {(entry: Entry) => void} gallery.compare choose what to compare this one with
 * @param {(job: Object) => void} gallery.remove delete the job
 */
export function view(entry, gallery) {
  let shown = entry;
  let going = false;

  const square = (key, name, onclick, kind) =>
    el("button", { type: "button", class: `button square quiet ${kind}`, "aria-label": t(key), onclick }, icon(name));
  const left = square("viewer.left", "left", () => go(-1), "go-left");
  const right = square("viewer.right", "right", () => go(1), "go-right");
  const stage = el("div", { class: "stage" }, left, right);
  const prompt = el("p", { class: "viewer-prompt", "aria-live": "polite" });
  const remove = el("button", { type: "button", class: "button quiet danger", onclick: discard });
  const facts = el("dl", { class: "facts" });
  const notes = el("ul", { class: "viewer-notes", "aria-label": t("viewer.notes") });
  const dialog = el(
    "dialog",
    { class: "viewer", "aria-label": t("viewer.title"), onkeydown: keys },
    stage,
    el(
      "div",
      { class: "viewer-side" },
      closer(t("page.close"), { autofocus: true }),
      prompt,
      el(
        "div",
        { class: "chips" },
        button("viewer.again", () => leave(() => again(shown)), "primary"),
        button("viewer.reference", use),
        button("viewer.compare", () => leave(() => gallery.compare(shown))),
      ),
      el(
        "div",
        { class: "chips viewer-row", role: "group", "aria-label": t("viewer.download") },
        icon("download"),
        FORMATS.map((format) =>
          el("button", { type: "button", class: "chip", onclick: () => save(format) }, said("format", format)),
        ),
      ),
      el(
        "div",
        { class: "chips viewer-row" },
        icon("copy"),
        copier("viewer.copy.prompt", "viewer.prompt", () => shown.job.request.prompt),
        copier("viewer.copy.seed", "viewer.seed", () => shown.picture.seed),
      ),
      notes,
      facts,
      remove,
    ),
  );

  function show() {
    const { job, picture } = shown;
    stage.querySelector("img, .absent")?.remove();
    stage.prepend(image(shown));
    if (prompt.textContent !== job.request.prompt) prompt.textContent = job.request.prompt;
    const n = finished(job);
    remove.replaceChildren(icon("trash"), t(n > 1 ? "viewer.delete.all" : "viewer.delete", { n }));
    notes.hidden = !job.notes.length;
    notes.replaceChildren(...job.notes.map((note) => el("li", {}, note)));
    facts.replaceChildren(
      ...[...Object.entries(asked(shown)).slice(1), ...Object.entries(told(shown))]
        .filter(([, value]) => value !== null)
        .map(([name, value]) => el("div", {}, el("dt", {}, t(`viewer.${name}`)), el("dd", {}, said(name, value)))),
    );
    for (const by of [1, -1]) {
      gallery.beside(shown, by).then((next) => {
        if (shown.picture === picture) (by < 0 ? left : right).setAttribute("aria-disabled", String(!next));
        if (next) new Image().src = source(next);
      });
    }
  }

  async function go(by) {
    if (going) return;
    going = true;
    const next = await gallery.beside(shown, by).finally(() => (going = false));
    if (!next || !dialog.open) return;
    shown = next;
    show();
  }

  function keys(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowLeft") go(-1);
    else if (event.key === "ArrowRight") go(1);
    else if (event.key === "Delete") discard();
  }

  /** Close, give the focus back, and do what follows on the page below. */
  function leave(then = () => {}) {
    dialog.addEventListener("close", then, { once: true });
    dialog.close();
  }

  function discard() {
    leave(() => gallery.remove(shown.job));
  }

  async function save(format) {
    const { blob } = await file(shown, format);
    if (blob) download(blob, named(shown));
  }

  async function use() {
    const detail = await file(shown);
    if (detail.blob) leave(() => document.dispatchEvent(new CustomEvent("limner:use-reference", { detail })));
  }

  swipes(stage, go);
  show();
  open(dialog);
  dialog.addEventListener("close", () => gallery.focus(shown));
}

function button(key, onclick, kind = "") {
  return el("button", { type: "button", class: `button ${kind}`, onclick }, t(key));
}

/** A button that copies a text and says so for a moment. */
function copier(label, word, text) {
  const self = el("button", { type: "button", class: "chip", "aria-label": t(label), onclick: press }, t(word));
  async function press() {
    if (!(await copy(text()))) return toast(t("viewer.not_copied"));
    announce(t("viewer.copied"));
    self.replaceChildren(icon("check"), t("viewer.copied"));
    setTimeout(() => self.replaceChildren(t(word)), COPIED);
  }
  return self;
}

/** Its finished pictures, which are all that deleting it takes away. */
function finished(job) {
  return job.pictures.filter((picture) => picture.state === "done").length;
}

function again({ job, picture }) {
  const request = { ...job.request, seed: picture.seed, n: 1 };
  document.dispatchEvent(new CustomEvent("limner:again", { detail: { request } }));
}

/** What is known of the picture beside the request. */
function told({ job, picture, number }) {
  const day = new Intl.DateTimeFormat(locale(), { dateStyle: "medium", timeStyle: "short" });
  const took = (new Date(job.finished_at) - new Date(job.started_at)) / 1000;
  const n = job.pictures.length;
  return {
    picture: n > 1 ? t("viewer.number", { number: number + 1, n }) : null,
    made: day.format(new Date(job.finished_at ?? job.created_at)),
    took: job.started_at && job.finished_at ? duration(took) : null,
    kept: day.format(new Date(job.expires_at)),
  };
}

/** Seconds in words; below ten with their tenths, of which there is always one. */
function duration(seconds) {
  const digits = seconds < 9.95 ? 1 : 0;
  const unit = { style: "unit", unit: "second", unitDisplay: "long" };
  const format = { ...unit, minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(locale(), format).format(Math.max(0.1, seconds));
}

/** The file in a format, or as it is; without a blob, and after a sentence about it, where it cannot be had. */
async function file(entry, format) {
  const url = source(entry);
  try {
    const reply = await fetch(url, format && { headers: { Accept: `image/${format}` } });
    if (reply.ok) return { url, blob: await reply.blob() };
    toast(t(reply.status === 404 ? "gallery.gone" : "gallery.away"));
  } catch {
    toast(t("gallery.away"));
  }
  return { url, blob: null };
}

function download(blob, name) {
  const href = URL.createObjectURL(blob);
  el("a", { href, download: `${name}.${blob.type.slice(6).replace("jpeg", "jpg")}` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

/** A file name that says what is on it and from which seed. */
function named({ job, picture }) {
  const words = job.request.prompt.normalize("NFC").replace(/[^\p{L}\p{M}\p{N}]+/gu, "-");
  return `${[...words].slice(0, 60).join("").replace(/^-|-$/g, "") || "picture"}-${picture.seed}`;
}

/** Call `go` where one finger sweeps sideways over an element that is not zoomed. */
function swipes(element, go) {
  let from = null;
  element.addEventListener(
    "touchstart",
    ({ touches }) => (from = touches.length === 1 && visualViewport.scale === 1 ? touches[0] : null),
    { passive: true },
  );
  element.addEventListener("touchend", ({ changedTouches: [to] }) => {
    if (!from) return;
    const [across, down] = [to.clientX - from.clientX, to.clientY - from.clientY];
    from = null;
    if (Math.abs(across) > SWIPE && Math.abs(across) > 2 * Math.abs(down)) go(across < 0 ? 1 : -1);
  });
}
