/** Past pictures, the newest first, by day: more as one scrolls, opened large, compared, deleted with a way back. */

import { request } from "./api.js";
import { el, toast } from "./dom.js";
import { across, before, clear, entries, hang, relabel, takeDown, wall } from "./wall.js";
import { t } from "./words.js";

const PAGE = 48; // jobs that are asked for at a time
const AHEAD = "1500px"; // how far below the window the next page is asked for
const REGRET = 6; // seconds in which deleting can be undone

const known = new Map(); // every job that was listed, by id; those that are shown and those that show nothing
const leaving = new Map(); // ids of jobs whose deletion can still be undone, and what ends that time
const deleted = new Set(); // ids of those whose cannot
const parts = {}; // elements that are found again
let cursor; // of the next page; undefined before the first, null after the last
let loading = null; // the page that is on its way
let round = 0; // grows when all begins anew: what was asked for before that is another key's, perhaps
let trouble = null; // why the last one did not come
let current = null; // the one tile that Tab reaches
let picked = null; // entries to compare; null while nobody chooses

/**
 * Fill the section with the gallery, and keep it up to date.
 * @param {HTMLElement} root
 */
export function mount(root) {
  parts.root = root;
  parts.title = el("h2", { id: "gallery-title", tabindex: "-1" });
  parts.compare = el("button", { type: "button", class: "button quiet", onclick: () => pick(picked ? null : []) });
  parts.hint = el("p", { class: "muted hint", role: "status" });
  parts.more = el("button", { type: "button", class: "button further", onclick: more });
  parts.empty = el("div", { class: "empty" });
  parts.trouble = el("p", { class: "trouble", role: "alert" });
  root.replaceChildren(
    el("div", { class: "gallery-head" }, parts.title, parts.hint, parts.compare),
    wall,
    parts.empty,
    parts.trouble,
    parts.more,
  );
  wall.addEventListener("keydown", move);
  wall.addEventListener("click", press);
  wall.addEventListener("focusin", reach);
  const near = (seen) => seen.at(-1).isIntersecting && !trouble && load();
  parts.sight = new IntersectionObserver(near, { rootMargin: AHEAD });
  const on = (name, act) => document.addEventListener(name, act);
  on("limner:language", label);
  on("limner:key-changing", settle);
  on("limner:key", restart);
  on("limner:online", () => (trouble ? load() : refresh()));
  on("limner:painted", ({ detail }) => add([detail.job]));
  on("visibilitychange", () => document.visibilityState === "visible" && (label(), refresh()));
  on("limner:open", open);
  addEventListener("pagehide", settle);
  document.addEventListener("keydown", escape, true); // first: elsewhere on the page Escape cancels a painting
  label();
  load();
}

function label() {
  parts.title.textContent = t("gallery.title");
  parts.empty.replaceChildren(
    el("p", { class: "empty-says" }, t("gallery.empty")),
    el("p", { class: "muted" }, t("gallery.empty.how")),
    el(
      "button",
      { type: "button", class: "button", onclick: () => document.getElementById("prompt")?.focus() },
      t("gallery.empty.go"),
    ),
  );
  relabel();
  update();
}

/** Bring what depends on how many pictures there are, or on what is being done, up to date. */
function update() {
  parts.root.setAttribute("aria-busy", String(Boolean(loading)));
  parts.empty.hidden = entries.length > 0 || cursor !== null;
  parts.more.hidden = cursor === null || (loading !== null && cursor === undefined);
  parts.more.textContent = t(trouble ? "gallery.again" : loading ? "gallery.loading" : "gallery.more");
  const said = trouble?.code === "offline"; // by the head of the page
  parts.trouble.textContent = said ? "" : (trouble?.sentence ?? "");
  parts.compare.hidden = entries.length < 2;
  parts.compare.textContent = t(picked ? "gallery.pick.end" : "gallery.compare");
  parts.hint.textContent = picked ? t(picked.length ? "gallery.pick.second" : "gallery.pick") : "";
  wall.classList.toggle("picking", picked !== null);
  if (!entries.includes(current)) current = entries[0] ?? null;
  current?.tile.setAttribute("tabindex", "0");
}

// What is there

function load() {
  if (loading) return loading;
  const mine = page(cursor, round).finally(() => {
    if (loading !== mine) return;
    loading = null;
    update();
    parts.sight.disconnect(); // a button that stays in sight is told of only anew
    if (!trouble) parts.sight.observe(parts.more);
  });
  loading = mine;
  update();
  return mine;
}

async function page(from, asked) {
  try {
    const { jobs, next } = await list(from);
    if (asked !== round) return;
    trouble = null;
    cursor = next;
    add(jobs);
  } catch (error) {
    if (asked === round) trouble = error;
  }
}

async function list(from) {
  const more = from ? `&cursor=${from}` : "";
  return (await request("GET", `/v1/jobs?state=done,cancelled&limit=${PAGE}${more}`)).json;
}

/** Look quietly what came and what went elsewhere. */
async function refresh() {
  if (loading || cursor === undefined) return load();
  const asked = round;
  const before = [...known.values()]; // what is painted meanwhile is not in the list
  const { jobs, next } = await list().catch(() => ({ jobs: null }));
  if (!jobs || asked !== round) return;
  if (next !== null && known.size && !jobs.some((job) => known.has(job.id))) return restart();
  const listed = new Set(jobs.map((job) => job.id));
  const reach = next === null ? "" : jobs.at(-1).created_at;
  for (const job of before) {
    if (job.finished_at && job.created_at > reach && !listed.has(job.id)) drop(job);
  }
  add(jobs);
}

function restart() {
  pick(null);
  clear();
  known.clear();
  cursor = undefined;
  trouble = null;
  loading = null;
  round += 1;
  return load();
}

function more(event) {
  const last = entries.at(-1);
  const keyboard = event.detail === 0;
  load().then(() => keyboard && entries[entries.indexOf(last) + 1]?.tile.focus());
}

/** Hang what jobs have finished; one that goes on comes again with more. */
function add(jobs) {
  for (const job of jobs) {
    if (known.get(job.id)?.version >= job.version || leaving.has(job.id) || deleted.has(job.id)) continue;
    known.set(job.id, job);
    job.pictures.forEach((picture, number) => {
      const there = entryOf(job, number);
      if (there) Object.assign(there, { job, picture });
      else if (picture.state === "done") hang({ job, number, picture });
    });
  }
  update();
}

function entryOf(job, number) {
  return entries.find((entry) => entry.job.id === job.id && entry.number === number);
}

function drop(job) {
  known.delete(job.id);
  takeDown(job.id);
}

// By pointer and by keyboard

function entryAt(element) {
  const tile = element.closest(".print");
  return tile && entries.find((entry) => entry.tile === tile);
}

function press(event) {
  const entry = entryAt(event.target);
  if (!entry) return;
  if (picked) choose(entry);
  else show(entry);
}

function reach(event) {
  const entry = entryAt(event.target);
  if (!entry || entry === current) return;
  current?.tile.setAttribute("tabindex", "-1");
  current = entry;
  entry.tile.setAttribute("tabindex", "0");
}

function move(event) {
  const entry = entryAt(event.target);
  if (!entry || event.altKey || event.ctrlKey || event.metaKey) return;
  const index = entries.indexOf(entry);
  const to = {
    ArrowLeft: () => entries[index - 1],
    ArrowRight: () => entries[index + 1],
    ArrowUp: () => across(index, -1),
    ArrowDown: () => across(index, 1),
    Home: () => entries[0],
    End: () => entries.at(-1),
    Delete: () => (remove(entry.job), null),
  }[event.key];
  if (!to) return;
  event.preventDefault();
  to()?.tile.focus();
}

/** What the viewer asks of the gallery. */
const viewing = {
  async beside(entry, by) {
    if (by < 0) return entries.findLast((other) => before(other, entry)) ?? null;
    if (!before(entry, entries.at(-1) ?? entry) && cursor && !trouble) await load();
    return entries.find((other) => before(entry, other)) ?? null;
  },
  focus: (entry) => entry.tile?.focus(),
  compare: (entry) => pick([entry]),
  remove,
};

function open(event) {
  const { job, number } = event.detail;
  add([job]);
  const entry = entryOf(job, number);
  if (!entry) return;
  event.preventDefault();
  show(entry);
}

async function show(entry) {
  const part = await import("./viewer.js").catch(away);
  if (!document.querySelector("dialog[open]")) part?.view(entry, viewing);
}

function away() {
  toast(t("error.offline"));
}

// Comparing

function escape(event) {
  if (event.key !== "Escape" || event.isComposing || !picked || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  pick(null);
}

function pick(chosen) {
  picked = chosen;
  for (const { tile } of entries) {
    if (picked) tile.setAttribute("aria-pressed", "false");
    else tile.removeAttribute("aria-pressed");
  }
  for (const { tile } of picked ?? []) tile.setAttribute("aria-pressed", "true");
  update();
}

async function choose(entry) {
  if (picked.length > 1) return; // they are about to be shown
  const chosen = picked.includes(entry) ? picked.filter((other) => other !== entry) : [...picked, entry];
  pick(chosen);
  if (chosen.length < 2) return;
  const part = await import("./compare.js").catch(away);
  if (part) part.compare(...chosen, () => (pick(null), chosen[0].tile.focus()));
  else pick(null);
}

// Deleting

function remove(job) {
  const at = entries.findIndex((entry) => entry.job.id === job.id);
  const n = entries.filter((entry) => entry.job.id === job.id).length;
  drop(job);
  const note = toast(t(n > 1 ? "gallery.deleted.all" : "gallery.deleted", { n }), {
    label: t("gallery.undo"),
    action: () => restore(job),
    after: () => send(job),
    seconds: REGRET,
  });
  leaving.set(job.id, note);
  update();
  (entries[at] ?? entries[at - 1])?.tile.focus() ?? parts.title.focus();
  document.dispatchEvent(new CustomEvent("limner:deleted", { detail: { id: job.id } }));
}

/** No more regrets: the page goes away, or the key does that may delete. */
function settle() {
  leaving.forEach((end) => end());
}

function restore(job) {
  if (!leaving.delete(job.id)) return;
  add([job]);
  entries.find((entry) => entry.job.id === job.id)?.tile.focus();
}

/** Have it deleted for good, also while the page goes away. Where that fails its pictures come back. */
async function send(job) {
  if (!leaving.delete(job.id)) return;
  deleted.add(job.id);
  const asked = round;
  try {
    await request("DELETE", `/v1/jobs/${job.id}`, { keepalive: true });
  } catch (error) {
    if (error.status === 404) return;
    deleted.delete(job.id);
    if (asked !== round) return;
    add([job]);
    toast(error.sentence);
  }
}
