/** Pictures of who or what to paint: dropped, pasted, chosen, by URL, or from the gallery. */

import { BASE, request } from "./api.js";
import { announce, el, icon } from "./dom.js";
import { t } from "./words.js";

const TYPES = { "image/jpeg": /^\xff\xd8\xff/, "image/png": /^\x89PNG/, "image/webp": /^RIFF[^]{4}WEBP/ };

const SCHEMES = ["http:", "https:", "data:"];
const LONGEST = 200; // characters of an address that are said

/** @type {{source: string, file: string|null, preview: string}[]} source is what is sent: a URL, or a data URL */
let held = [];
let most = 1;
let mostBytes = 10_000_000;
let typed = ""; // an address that is not added yet
let changed = () => {};
let refuse = () => {};

/**
 * Take pictures from wherever the reader brings them to this page.
 * @param {() => void} onchange called when there are others
 * @param {(sentence: string|null) => void} onrefuse told why one cannot be had
 */
export function mount(onchange, onrefuse) {
  [changed, refuse] = [onchange, onrefuse];
  const veil = document.getElementById("drop");
  const brings = ({ dataTransfer }) =>
    most > 0 && ["Files", "text/uri-list"].some((type) => dataTransfer?.types.includes(type));
  const over = (event, is) => {
    if (!brings(event)) return;
    event.preventDefault();
    veil.textContent = t("reference.drop");
    veil.hidden = !is;
  };
  document.addEventListener("dragover", (event) => over(event, true));
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && over(event, false));
  document.addEventListener("drop", (event) => {
    over(event, false);
    if (brings(event)) take(event.dataTransfer);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length > 0 && !document.querySelector("dialog[open]")) take(event.clipboardData);
  });
  document.addEventListener("limner:use-reference", async ({ detail: { url, blob } }) => {
    await (blob ? addFile(blob, nameOf(url)) : addUrl(url));
    document.getElementById("references")?.scrollIntoView({ block: "center" });
  });
}

/** @returns {{source: string, file: string|null}[]} in order; `file` is the name of one that was read here */
export function all() {
  return held;
}

/** Let go of them all. */
export function clear() {
  for (const { preview } of held) URL.revokeObjectURL(preview);
  [held, typed] = [[], ""];
}

/**
 * The panel: what is there, with a way to take it away, and ways to add to it.
 * @param {number} count how many the model takes
 * @param {number} bytes how large one may be
 * @returns {HTMLElement}
 */
export function panel(count, bytes) {
  [most, mostBytes] = [count, bytes];
  const file = el("input", {
    type: "file",
    accept: Object.keys(TYPES).join(),
    multiple: count > 1,
    class: "visually-hidden",
    id: "reference-file",
    onchange: () => take({ files: file.files }),
  });
  const url = el("input", {
    type: "url",
    id: "reference-url",
    value: typed,
    oninput: () => (typed = url.value),
    placeholder: t("reference.url.short"),
    "aria-label": t("reference.url"),
    onkeydown: (event) => event.key === "Enter" && !event.ctrlKey && !event.metaKey && (event.preventDefault(), add()),
  });
  const add = () => typed.trim() && addUrl(typed.trim());
  return el(
    "fieldset",
    { class: "group references", id: "references" },
    el("legend", {}, t("reference.title")),
    held.length > 0 && el("div", { class: "refs" }, held.map(tile)),
    held.length < count &&
      el(
        "div",
        { class: "ref-new" },
        el("label", { class: "ref-add" }, file, icon("picture"), t("reference.add")),
        el(
          "div",
          { class: "joined" },
          url,
          el(
            "button",
            {
              type: "button",
              class: "button square",
              id: "reference-add",
              "aria-label": t("reference.url.add"),
              onclick: add,
            },
            icon("plus"),
          ),
        ),
      ),
  );
}

function tile({ source, file, preview }, place) {
  const name = file ?? called(source);
  return el(
    "div",
    { class: "ref" },
    el("img", { src: preview, alt: t("reference.picture", { name }) }),
    el(
      "button",
      {
        type: "button",
        class: "button square",
        "aria-label": t("reference.remove", { name }),
        onclick: () => remove(place),
      },
      icon("close"),
    ),
  );
}

function remove(place) {
  const [gone] = held.splice(place, 1);
  URL.revokeObjectURL(gone.preview);
  changed();
  document.getElementById("reference-file")?.focus();
}

async function take(data) {
  const files = [...data.files];
  if (files.length > 0) for (const file of files) await addFile(file, file.name);
  else if (data.getData)
    await addUrl(
      data
        .getData("text/uri-list")
        .split(/[\r\n]+/)
        .find((line) => !line.startsWith("#")),
    );
}

async function addFile(blob, name) {
  refuse(null);
  if (blob.size > mostBytes) return refuse(t("reference.large", { name, most: megabytes(mostBytes) }));
  const head = String.fromCharCode(...new Uint8Array(await blob.slice(0, 12).arrayBuffer()));
  const type = Object.keys(TYPES).find((each) => TYPES[each].test(head));
  if (!type) return refuse(t("reference.type", { name }));
  hold(await dataUrl(new Blob([blob], { type })), name, blob);
}

function hold(source, file, blob) {
  if (held.length >= most) return refuse(t("reference.full", { n: most }));
  typed = "";
  held.push({ source, file, preview: URL.createObjectURL(blob) });
  announce(t("reference.picture", { name: file ?? called(source) }));
  changed();
}

/** One that the service fetches; what it sees there is shown. A picture of this service's own is read here. */
async function addUrl(text) {
  refuse(null);
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!SCHEMES.includes(url?.protocol)) return refuse(t("reference.address"));
  if (held.length >= most) return refuse(t("reference.full", { n: most }));
  const button = document.getElementById("reference-add");
  button?.setAttribute("aria-busy", "true");
  announce(t("reference.reading"));
  try {
    if (url.origin === BASE.origin) await addOwn(url);
    else hold(text, null, (await request("POST", "/v1/reference_preview", { body: { image_file: text } })).blob);
  } catch (error) {
    refuse(error.sentence ?? t("reference.unread"));
  } finally {
    button?.removeAttribute("aria-busy");
  }
}

async function addOwn(url) {
  url.searchParams.delete("side"); // the gallery shows smaller copies
  const reply = await fetch(url);
  if (reply.ok) await addFile(await reply.blob(), nameOf(url));
  else refuse(t("reference.unread"));
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function nameOf(url) {
  return decodeURIComponent(new URL(url ?? "picture", BASE).pathname.split("/").pop()) || "picture";
}

/** What an address is called: a data URL may be very long. */
function called(url) {
  return url.length > LONGEST ? `${url.slice(0, LONGEST)}…` : url;
}

function megabytes(bytes) {
  return Math.floor(bytes / 1e5) / 10;
}
