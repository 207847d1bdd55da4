/** A picture of a past job: where it is, how it is shown, what it was asked for by. */

import { BASE } from "./api.js";
import { el } from "./dom.js";
import { locale, styleName, t } from "./words.js";

/**
 * A picture of the gallery.
 * @typedef {{job: Object, number: number, picture: Object}} Entry
 *   `picture` is `job.pictures[number]`; all as docs/http.md has them
 */

/**
 * Where a picture's file is. The service's own files are asked for where the page came from, by whatever name that was.
 * @param {Entry} entry
 * @param {256|512|1024} [side] of a smaller copy, where the service makes such: pixels of the longer side
 * @returns {string}
 */
export function source({ picture }, side) {
  const name = /\/files\/([^/?#]+)$/.exec(picture.url)?.[1];
  if (!name) return picture.url;
  return new URL(`files/${name}${side ? `?side=${side}` : ""}`, BASE).href;
}

/**
 * The picture as an element that keeps its room; a sentence takes its place where the file is gone.
 * @param {Entry} entry
 * @param {Object} attributes further ones of the `img`
 * @returns {HTMLImageElement}
 */
export function image(entry, attributes = {}) {
  const { width, height } = entry.picture;
  const alt = entry.job.request.prompt;
  const src = source(entry);
  const img = el("img", { alt, width, height, src, onerror: () => missing(entry, img, attributes), ...attributes });
  return img;
}

async function missing(entry, img, attributes) {
  const status = await fetch(source(entry), { method: "HEAD" }).then(
    (reply) => reply.status,
    () => 0,
  );
  const key = status === 404 ? "gallery.gone" : "gallery.away";
  const retry = () => note.isConnected && note.replaceWith(image(entry, attributes));
  const note = el("span", { class: "absent", "data-say": key }, t(key));
  if (status !== 404) document.addEventListener("limner:online", retry, { once: true });
  img.replaceWith(note);
}

/**
 * What a picture was asked for by, and what came of the choices that were left to the service.
 * @param {Entry} entry
 * @returns {Object} JSON values by name; null where there is none
 */
export function asked({ job, picture }) {
  const { request } = job;
  return {
    prompt: request.prompt,
    negative_prompt: request.negative_prompt,
    seed: picture.seed,
    size: `${picture.width} × ${picture.height}`,
    model: job.model,
    style: request.style,
    steps: picture.steps ?? request.steps,
    guidance: request.guidance,
    strength: request.strength,
    sampler: request.sampler,
    loras: Object.keys(request.loras).length ? request.loras : null,
    references: request.references || null,
    mask: request.mask || null,
    scene: request.scene,
    prompt_optimizer: request.prompt_optimizer || null,
    watermark: request.watermark || null,
    format: request.format,
  };
}

/**
 * A value of `asked` in the reader's words.
 * @param {string} name
 * @param {any} value
 * @returns {string}
 */
export function said(name, value) {
  if (value === null) return "–";
  if (value === true) return t("viewer.yes");
  if (name === "scene") return t("viewer.things", { n: value.items?.length ?? 0 });
  if (name === "style" && value.style_type) return `${value.style_type} ${value.style_weight}`;
  if (name === "style") return styleName(value);
  if (name === "format") return { jpeg: "JPEG", png: "PNG", webp: "WebP" }[value] ?? value;
  if (typeof value === "object") return Object.entries(value).map((pair) => pair.join(" ")).join(", ");
  return typeof value === "number" ? new Intl.NumberFormat(locale()).format(value) : value;
}
