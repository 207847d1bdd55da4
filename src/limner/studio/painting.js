/** What is being painted: a strip for each job, with a place for each picture that is there before the picture is. */

import { ApiError, events, heard, key, pause, request } from "./api.js";
import { announce, el } from "./dom.js";
import { RATIOS } from "./order.js";
import { columns, strip } from "./strip.js";
import { t } from "./words.js";

const STREAMS = 2; // at once: a browser opens six connections to a server, for all its tabs together
const POLL = 2000; // milliseconds between two looks at a job that has no stream

const strips = []; // the newest first
let list; // the element that holds theirs
const sheets = el("div", { class: "blank" }); // what stands there before anything is painted
let streams = 0;

/**
 * Fill a section with what is being painted, also what was begun before the page was opened.
 * @param {HTMLElement} root
 */
export function mount(root) {
  list = el("div", { class: "strips" });
  root.append(sheets, list);
  setInterval(() => strips.forEach((each) => each.tick()), 100);
  document.addEventListener("limner:language", () => strips.forEach((each) => each.tell()));
  document.addEventListener("limner:deleted", ({ detail }) =>
    strips.filter((each) => each.id() === detail.id).forEach(take),
  );
  document.addEventListener("limner:key", () => ([...strips].forEach(take), resume())); // they may be another's
  document.addEventListener("limner:online", resume);
  document.addEventListener("keydown", (event) => {
    const other = event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]");
    if (event.key === "Escape" && !other) meant(event.target)?.cancel();
  });
  resume();
}

/** The strip that Escape is for: the one that has the focus, or, where painting was begun, the newest under way. */
function meant(focused) {
  const around = strips.find((each) => each.element.contains(focused));
  return around ?? (focused.matches("body, #prompt, #paint") ? strips.find((each) => !each.ended()) : null);
}

/**
 * Show the shape of the pictures that would be painted, where none are.
 * @param {number} width
 * @param {number} height pixels
 * @param {number} n
 */
export function blank(width, height, n) {
  const sizes = Array(n).fill([width, height]);
  for (const [name, value] of Object.entries(columns(sizes))) sheets.style.setProperty(name, value);
  const sheet = () => el("div", { class: "leaf", style: { "--w": width, "--h": height } });
  sheets.replaceChildren(...sizes.map(sheet));
  sheets.firstChild.append(el("p", {}, t("painting.blank", { n })));
}

/**
 * Paint. What is there already and has ended makes room.
 * @param {Object} body of POST /v1/pictures
 * @returns {Promise<string|null>} the job's id, once it is accepted; null where nobody waits for it any more
 * @throws {ApiError} the service refused the request
 */
export async function paint(body) {
  strips.filter((each) => each.ended()).forEach(take);
  const [width, height] = RATIOS[body.aspect_ratio] ?? [body.width ?? 1024, body.height ?? 1024];
  const abort = new AbortController();
  const one = add({ prompt: body.prompt, sizes: Array(body.n ?? 1).fill([width, height]), began: Date.now(), abort });
  one.element.scrollIntoView({ block: one.element.offsetHeight > innerHeight ? "start" : "nearest" });
  announce(t("painting.sending"));
  try {
    const job = await accepted({ ...body, previews: true }, one, abort.signal);
    // Where the reply to a first try was lost, the list of jobs under way may have told of it meanwhile.
    strips.filter((each) => each !== one && each.id() === job.id).forEach(take);
    one.update(job);
    follow(one, job.id);
    return job.id;
  } catch (error) {
    const unwanted = abort.signal.aborted || one.cancelled();
    take(one);
    if (unwanted) return null;
    throw error;
  }
}

/** Send until it is accepted; a try that nobody answered may have arrived, hence the key that makes two tries one. */
async function accepted(body, one, signal) {
  const idempotency = [...crypto.getRandomValues(new Uint32Array(4))].map((number) => number.toString(16)).join("-");
  const headers = { Prefer: "respond-async", "Idempotency-Key": idempotency };
  for (;;) {
    try {
      return (await request("POST", "/v1/pictures", { body, headers, signal })).json;
    } catch (error) {
      if (error.code !== "offline") throw error;
      one.away(error.sentence);
      await heard("limner:online", signal);
      one.away(null);
    }
  }
}

function add(asked) {
  const one = strip({ ...asked, close: () => take(one) });
  strips.unshift(one);
  list.prepend(one.element);
  return one;
}

function take(one) {
  const place = strips.indexOf(one);
  if (place < 0) return;
  const focused = one.element.contains(document.activeElement);
  strips.splice(place, 1);
  one.stop();
  one.element.remove();
  if (focused) ((strips[place] ?? strips.at(-1))?.element ?? document.getElementById("prompt")).focus();
}

/** Jobs that are under way, begun by an earlier page or by another program with this key. */
async function resume() {
  const used = key();
  try {
    const { json } = await request("GET", "/v1/jobs?state=queued,running&limit=100");
    if (key() !== used) return;
    for (const job of json.jobs.reverse()) {
      if (strips.some((each) => each.id() === job.id)) continue;
      const sizes = job.pictures.map(({ width, height }) => [width, height]);
      const one = add({
        prompt: job.request.prompt,
        sizes,
        began: Date.parse(job.created_at),
        abort: new AbortController(),
      });
      one.update(job);
      follow(one, job.id);
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error; // it is asked again once the service, or a key, is there
  }
}

/** Keep a strip up to date to its job's end: by a stream while the page is seen and one is free, else by looking. */
async function follow(one, id) {
  try {
    while (!one.ended()) {
      if (streams < STREAMS && !document.hidden) await stream(one, id);
      else await look(one, id);
    }
    document.dispatchEvent(new CustomEvent("limner:painted", { detail: { job: one.job() } }));
  } catch (error) {
    if (error instanceof ApiError)
      one.fail(error.sentence); // the job is gone, or is not ours
    else if (!one.signal.aborted) throw error;
  }
}

async function stream(one, id) {
  const hidden = new AbortController();
  const away = () => document.hidden && hidden.abort();
  document.addEventListener("visibilitychange", away);
  streams += 1;
  try {
    const signal = AbortSignal.any([one.signal, hidden.signal]);
    for await (const { name, data } of events(`/v1/jobs/${id}/events?previews=true`, { signal })) {
      if (name === "preview") one.preview(data);
      else if (name === "offline") one.away(data.sentence);
      else if (name === "open") one.away(null);
      else one.update(data);
      if (one.ended()) return;
    }
  } catch (error) {
    if (!hidden.signal.aborted) throw error;
  } finally {
    streams -= 1;
    document.removeEventListener("visibilitychange", away);
  }
}

async function look(one, id) {
  await pause(POLL, one.signal);
  const used = key();
  try {
    one.update((await request("GET", `/v1/jobs/${id}`, { signal: one.signal })).json);
    one.away(null);
  } catch (error) {
    if (error.code === "offline") {
      one.away(error.sentence);
      await heard("limner:online", one.signal);
    } else if (error.status === 401) {
      if (key() === used) await heard("limner:key", one.signal);
    } else if (!(error.status >= 500 || error.status === 429)) throw error;
  }
}
