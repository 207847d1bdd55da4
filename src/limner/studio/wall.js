/** The wall: pictures in rows, by day, the newest first. */

import { el } from "./dom.js";
import { image, source } from "./picture.js";
import { locale, t } from "./words.js";

/** What hangs, the newest first. */
export const entries = [];

/** The element that it hangs on. */
export const wall = el("div");

/**
 * Put a picture in its place by time.
 * @param {import("./picture.js").Entry} entry is given its `tile`, a button, and its `day`
 */
export function hang(entry) {
  const index = entries.findLastIndex((other) => before(other, entry)) + 1;
  const [newer, older] = [entries[index - 1], entries[index]];
  const date = new Date(entry.job.created_at);
  const here = (other) => other?.day.date.toDateString() === date.toDateString();
  entry.day = here(newer) ? newer.day : here(older) ? older.day : begin(date, older?.day.element);
  const small = { loading: "lazy", src: source(entry, 512), srcset: `${source(entry, 1024)} 2x` };
  entry.tile = el("button", { type: "button", class: "print", tabindex: "-1" }, image(entry, small));
  const ratio = entry.picture.width / entry.picture.height;
  const item = el("li", { style: { "--ratio": ratio } }, entry.tile);
  entry.day.list.insertBefore(item, here(older) ? older.tile.parentNode : null);
  entries.splice(index, 0, entry);
}

/**
 * @param {Entry} a
 * @param {Entry} b
 * @returns {boolean} whether a hangs before b: it is newer, or an earlier one of the same request
 */
export function before(a, b) {
  if (a.job.id === b.job.id) return a.number < b.number;
  const [one, other] = [a.job, b.job].map((job) => job.created_at + job.id);
  return one > other;
}

function begin(date, next = null) {
  const heading = el("h3", {}, named(date));
  const list = el("ul", { role: "list", class: "prints" });
  const element = el("section", { class: "day" }, heading, list);
  wall.insertBefore(element, next);
  return { date, heading, list, element };
}

function named(date) {
  const days = Math.round((new Date().setHours(12, 0, 0, 0) - new Date(date).setHours(12, 0, 0, 0)) / 86_400_000);
  if (days < 2) return new Intl.RelativeTimeFormat(locale(), { numeric: "auto" }).format(-days, "day");
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return new Intl.DateTimeFormat(locale(), { weekday: "long", day: "numeric", month: "long", year }).format(date);
}

/**
 * Take a job's pictures down.
 * @param {string} id
 */
export function takeDown(id) {
  for (let index = entries.length - 1; index >= 0; index -= 1) {
    if (entries[index].job.id !== id) continue;
    const [{ tile, day }] = entries.splice(index, 1);
    tile.parentNode.remove();
    if (!day.list.firstChild) day.element.remove();
  }
}

/** Take all down. */
export function clear() {
  entries.length = 0;
  wall.replaceChildren();
}

/** Write what is written on the wall in the language of now, and count the days from now. */
export function relabel() {
  for (const day of new Set(entries.map((entry) => entry.day))) day.heading.textContent = named(day.date);
  for (const note of wall.querySelectorAll("[data-say]")) note.textContent = t(note.dataset.say);
}

/**
 * The picture above or below: that of the next row whose middle is nearest.
 * @param {number} index in `entries`
 * @param {-1|1} by
 * @returns {Entry|undefined}
 */
export function across(index, by) {
  const middle = ({ left, width }) => left + width / 2;
  const from = entries[index].tile.getBoundingClientRect();
  let row = null;
  let best = null;
  for (let at = index + by; entries[at]; at += by) {
    const box = entries[at].tile.getBoundingClientRect();
    if (Math.abs(box.top - from.top) < 2) continue;
    row ??= box.top;
    if (Math.abs(box.top - row) > 2) break;
    const far = Math.abs(middle(box) - middle(from));
    if (!best || far < best.far) best = { far, entry: entries[at] };
  }
  return best?.entry;
}
