/** The service's public HTTP interface: requests, streams of events, the key, and whether anybody answers. */

import { store, stored } from "./dom.js";
import { t } from "./words.js";

/** Where the service is: the page is served at its root, also behind a path prefix. */
export const BASE = new URL("..", import.meta.url);

const LONGEST_WAIT = 15_000; // milliseconds between two tries to find the service again
const SILENCE = 45_000; // milliseconds; a stream says something every 15 seconds, or its connection is dead

/** What went wrong: `sentence` is the service's own, `code` its number, "offline" where nobody answered. */
export class ApiError extends Error {
  constructor(code, status, sentence, retryAfter = null) {
    super(sentence);
    Object.assign(this, { code, status, sentence, retryAfter });
  }
}

let now = null; // the key
now = held();

/** @returns {string|null} the key that calls are made with */
export function key() {
  return now;
}

/**
 * Call with this key from now on; null forgets it. The document hears of it by "limner:key-changing" just before, while
 * calls are still made with the old one, and by "limner:key" after.
 * @param {string|null} text
 * @param {{remember?: boolean}} options keep it on this device; else until this tab is closed
 */
export function setKey(text, { remember = false } = {}) {
  store("key", remember ? text : null);
  session(remember ? null : text);
  change(text);
}

/** @returns {boolean} whether the key outlives this tab */
export function remembered() {
  return stored("key") !== null;
}

function change(text) {
  document.dispatchEvent(new CustomEvent("limner:key-changing"));
  now = text;
  document.dispatchEvent(new CustomEvent("limner:key"));
}

function held() {
  return session() ?? stored("key");
}

/** Another tab may have changed or forgotten the key that is remembered on this device. */
function look() {
  if (held() !== now) change(held());
}

addEventListener("storage", look);
addEventListener("pageshow", ({ persisted }) => persisted && look());

/** The key of this tab: kept for it where a text is given, forgotten where null is; else what it is. */
function session(text) {
  try {
    if (text === null) sessionStorage.removeItem("limner.key");
    else if (text !== undefined) sessionStorage.setItem("limner.key", text);
    return sessionStorage.getItem("limner.key");
  } catch {
    return now; // a browser that keeps nothing: the key lives as long as the page
  }
}

/**
 * One call.
 * @param {string} method
 * @param {string} path such as /v1/jobs
 * @param {{body?: Object, headers?: Object, signal?: AbortSignal, keepalive?: boolean}} options the body is sent as
 *   JSON; keepalive lets the call outlive the page
 * @returns {Promise<{status: number, headers: Headers, json: any, blob: Blob}>} json is null where the reply has no
 *   body, or is a picture
 * @throws {ApiError} what the service refused, under whatever status; an AbortError where the signal said so
 */
export async function request(method, path, { body, headers = {}, signal, keepalive } = {}) {
  const reply = await call(path, {
    method,
    signal,
    keepalive,
    headers: { Accept: "application/json", ...(body && { "Content-Type": "application/json" }), ...headers },
    body: body && JSON.stringify(body),
  });
  const blob = await reply.blob().catch((error) => {
    throw signal?.aborted ? error : lost();
  });
  const json = blob.type.startsWith("image/") ? null : read(reply, await blob.text());
  return { status: reply.status, headers: reply.headers, json, blob };
}

async function call(path, options) {
  const used = key();
  if (used !== null) options.headers.Authorization = `Bearer ${used}`;
  try {
    const reply = await fetch(new URL(path.replace(/^\//, ""), BASE), { ...options, cache: "no-store" });
    found();
    return Object.assign(reply, { used });
  } catch (error) {
    throw options.signal?.aborted ? error : lost();
  }
}

/** The JSON of a reply; throws what it says went wrong. MiniMax's routes say so under status 200, too. */
function read(reply, text) {
  let json = null;
  try {
    json = text ? JSON.parse(text) : null;
  } catch {
    if (reply.ok) throw new ApiError("form", reply.status, t("error.form"));
  }
  const { status_code: code = 0, status_msg: sentence } = json?.base_resp ?? {};
  if (reply.ok && code === 0) return json;
  const after = Number(reply.headers.get("Retry-After")) || null;
  const error = new ApiError(
    code || "http",
    reply.status,
    sentence ?? t("error.status", { status: `${reply.status}` }),
    after,
  );
  if (reply.status === 401 && key() === reply.used) {
    document.dispatchEvent(new CustomEvent("limner:key-wanted", { detail: error }));
  }
  throw error;
}

/**
 * A stream of server-sent events, taken up again where it broke off, for as long as the service has news.
 *
 * Beside the service's events there are two of our own: {name: "open"} when a connection stands, and {name: "offline",
 * data: ApiError} when it was lost; then it waits until the service, or a key, is there. `id` is the last that came.
 * @param {string} path
 * @param {{signal?: AbortSignal, lastEventId?: string}} options
 * @returns {AsyncGenerator<{name: string, id: string|null, data: any}>} ends when the service says that no more comes
 * @throws {ApiError} what coming again would not mend; an AbortError where the signal said so
 */
export async function* events(path, { signal, lastEventId = null } = {}) {
  let id = lastEventId;
  for (let tries = 0; ; tries += 1) {
    const used = key();
    try {
      const headers = { Accept: "text/event-stream", ...(id && { "Last-Event-ID": id }) };
      const reply = await call(path, { headers, signal });
      if (reply.status === 204) return;
      if (!reply.ok) read(reply, await reply.text());
      yield { name: "open", id, data: null };
      for await (const event of parsed(reply.body, signal)) {
        tries = 0;
        id = event.id ?? id;
        yield { ...event, id };
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status >= 400 && error.status < 500 && ![401, 429].includes(error.status)) throw error;
      yield { name: "offline", id, data: error };
      if (gone) await heard("limner:online", signal);
      else if (error.status === 401 && key() === used) await heard("limner:key", signal);
    }
    await pause(Math.min(500 * 2 ** tries, LONGEST_WAIT), signal);
  }
}

async function* parsed(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const silent = setTimeout(() => reader.cancel(), SILENCE);
      const { value, done } = await reader
        .read()
        .catch((error) => {
          throw signal?.aborted ? error : lost();
        })
        .finally(() => clearTimeout(silent));
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s, 2)));
        if (fields.data !== undefined) {
          yield { name: fields.event ?? "message", id: fields.id ?? null, data: JSON.parse(fields.data) };
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // who stops to listen closes the connection
  }
}

let gone = false;

function found() {
  if (!gone) return;
  gone = false;
  document.dispatchEvent(new CustomEvent("limner:online"));
}

/** Nobody answers: say so once, and look again, ever less often, until somebody does. */
function lost() {
  if (!gone) {
    gone = true;
    document.dispatchEvent(new CustomEvent("limner:offline"));
    seek(500);
  }
  return new ApiError("offline", 0, t("error.offline"));
}

async function seek(wait) {
  await Promise.race([pause(wait), heard("online", undefined, window)]);
  if (!gone) return;
  try {
    await fetch(new URL("healthz", BASE), { cache: "no-store" });
    found();
  } catch {
    seek(Math.min(2 * wait, LONGEST_WAIT));
  }
}

/**
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>} rejects with an AbortError where the signal says so
 */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
    if (signal?.aborted) reject(signal.reason);
  });
}

/**
 * @param {string} name of an event
 * @param {AbortSignal} [signal]
 * @param {EventTarget} [target]
 * @returns {Promise<void>} once it is fired; rejects with an AbortError where the signal says so
 */
export function heard(name, signal, target = document) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, () => resolve(), { once: true });
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    if (signal?.aborted) reject(signal.reason);
  });
}
