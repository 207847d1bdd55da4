/** One job on the page: its words, where it stands, and its pictures, which sharpen as they come. */

import { pause, request } from "./api.js";
import { announce, el, icon } from "./dom.js";
import { t } from "./words.js";

const TRIES = 3; // to load a finished picture
const RETRY = 1000; // milliseconds between them
const ENDED = ["done", "failed", "cancelled"];

/**
 * A strip, for a request that is about to be accepted as a job or was.
 * @param {Object} asked
 * @param {string} asked.prompt
 * @param {[number, number][]} asked.sizes width and height of each picture
 * @param {number} asked.began when, milliseconds
 * @param {AbortController} asked.abort of all that is done for it
 * @param {() => void} asked.close takes the strip off the page
 * @returns {Object} `element`, and what may be told to it
 */
export function strip({ prompt, sizes, began, abort, close }) {
  let job = null;
  let gone = null; // what keeps it from being up to date
  let failed = null; // why it will never be
  let cancelled = false;
  let last = began; // when it was last seen to go on
  const ended = () => failed !== null || ENDED.includes(job?.state);
  const slots = sizes.map((size, number) => slot(size, number, () => job));
  const state = el("p", { class: "state" });
  const time = el("span", { class: "time muted", "aria-hidden": "true" });
  const seed = sizes.length === 1 && el("span", {});
  const notes = el("ul", { class: "notes" });
  const bar = el("div", { class: "bar", role: "progressbar", "aria-label": prompt }, el("span"));
  const button = el("button", { type: "button", class: "button quiet", onclick: () => (ended() ? close() : cancel()) });
  const element = el(
    "article",
    { class: "strip", tabindex: "-1", style: columns(sizes) },
    el(
      "div",
      { class: "slots" },
      slots.map((each) => each.element),
    ),
    el(
      "div",
      { class: "strip-foot" },
      bar,
      el(
        "div",
        { class: "grow" },
        el("p", { class: "title" }, prompt),
        el("div", { class: "status" }, state, time, seed),
        notes,
      ),
      button,
    ),
  );

  /** Before it is accepted there is no job to cancel, and there may be one any moment: update() sends it then. */
  function cancel() {
    if (cancelled || ended()) return;
    cancelled = true;
    tell();
    if (job) sendCancel();
  }

  async function sendCancel() {
    try {
      update((await request("POST", `/v1/jobs/${job.id}/cancel`)).json);
    } catch (error) {
      cancelled = false;
      if (error.status === 404) fail(error.sentence);
      else away(error.sentence);
    }
  }

  function update(now) {
    const before = job?.state;
    const accepted = job === null;
    if (ended() || now.version < (job?.version ?? 0)) return; // an older one that came late
    job = now;
    if (ended()) last = Date.parse(job.finished_at) || Date.now();
    job.pictures.forEach((picture, number) => slots[number].update(picture, ended()));
    element.dataset.state = job.state;
    tell();
    if (job.state !== before) announce(state.textContent);
    if (accepted && cancelled && !ended()) sendCancel();
  }

  function away(sentence) {
    gone = sentence;
    tell();
  }

  function fail(sentence) {
    failed = sentence;
    element.dataset.state = "failed";
    slots.forEach((each) => each.update({ state: "failed" }, true));
    tell();
    announce(sentence);
  }

  /** Where it stands, in words. */
  function standing() {
    if (failed !== null) return failed;
    if (gone !== null && !ended()) return gone;
    if (cancelled && !ended()) return t("painting.cancelling");
    const { step = 0, steps = null } = job?.progress ?? {};
    switch (job?.state) {
      case undefined:
        return t("painting.sending");
      case "queued":
        return job.queue_place ? t("painting.queued", { n: job.queue_place }) : t("painting.next");
      case "running":
        if (steps === null) return t("painting.planning");
        return step < steps ? t("painting.step", { step: step + 1, steps }) : t("painting.finishing");
      case "done":
        return t("painting.done", { n: job.pictures.filter((each) => each.state === "done").length });
      case "failed":
        return job.error?.status_msg ?? t("painting.failed");
      default:
        return t("painting.cancelled");
    }
  }

  function tell() {
    const { step = 0, steps = null } = job?.progress ?? {};
    const share = job?.state === "done" ? 1 : steps ? step / steps : 0;
    state.textContent = standing();
    state.classList.toggle("error", failed !== null || job?.state === "failed");
    bar.style.setProperty("--share", share);
    bar.setAttribute("aria-valuenow", Math.round(100 * share));
    bar.setAttribute("aria-valuetext", state.textContent);
    bar.hidden = ended();
    notes.replaceChildren(...(job?.notes ?? []).map((note) => el("li", {}, note)));
    const label = ended() ? t("painting.close") : t("painting.cancel");
    button.replaceChildren(ended() ? icon("close") : label);
    button.classList.toggle("square", ended());
    button.setAttribute("aria-label", ended() ? label : t("painting.cancel.of", { prompt }));
    button.disabled = cancelled && !ended();
    slots.forEach((each) => each.tell());
    if (seed && job?.state === "done") seed.textContent = t("painting.seed", { seed: job.pictures[0].seed });
    tick();
  }

  function tick() {
    const seconds = Math.max(0, (ended() ? last : Date.now()) - began) / 1000;
    const text = t("painting.seconds", { seconds: Math.round(10 * seconds) / 10 });
    if (time.textContent !== text) time.textContent = text;
  }

  tell();
  return {
    element,
    signal: abort.signal,
    id: () => job?.id ?? null,
    job: () => job,
    stop: () => abort.abort(),
    preview: ({ number, base64 }) => slots[number].sketch(base64),
    ended,
    cancelled: () => cancelled,
    cancel,
    update,
    away,
    fail,
    tell,
    tick,
  };
}

/**
 * How many pictures stand side by side: few, so that they are large; fewer still on a narrow page.
 * @param {[number, number][]} sizes
 * @returns {Object<string, number>} properties for the style
 */
export function columns(sizes) {
  const wide = sizes[0][0] > 1.4 * sizes[0][1];
  const most = sizes.length === 1 ? 1 : sizes.length === 2 || sizes.length === 4 || wide ? 2 : 3;
  return { "--n": most, "--n-narrow": wide ? 1 : Math.min(most, 2) };
}

/** The place of a picture: of its shape from the beginning, so that nothing moves when it comes. */
function slot([width, height], number, job) {
  const preview = el("img", { class: "preview", alt: "", hidden: true });
  const finished = el("img", { class: "finished", width, height, hidden: true });
  const open = (event) => {
    const asked = new CustomEvent("limner:open", { detail: { job: job(), number }, cancelable: true });
    if (!document.dispatchEvent(asked)) event.preventDefault(); // somebody shows it large; else the link is followed
  };
  const link = el("a", { class: "paper", onclick: open }, preview, finished);
  const failure = el("figcaption", { class: "error" });
  const element = el("figure", { class: "slot", style: { "--w": width, "--h": height } }, link, failure);

  function update({ state, step, steps, url, error }, last) {
    failure.textContent = error?.status_msg ?? "";
    if (link.href) return;
    link.style.setProperty("--left", steps ? 1 - step / steps : 1);
    element.dataset.state = last && state !== "done" ? "failed" : state;
    if (!url) return;
    link.href = url;
    show(url, TRIES);
  }

  async function show(url, tries) {
    finished.src = url;
    try {
      await finished.decode();
      finished.hidden = false;
      element.dataset.state = "shown";
    } catch {
      if (tries === 0) return; // the preview stays
      await pause(RETRY);
      finished.removeAttribute("src");
      show(url, tries - 1);
    }
  }

  function sketch(base64) {
    preview.src = `data:image/jpeg;base64,${base64}`;
    preview.hidden = false;
  }

  function tell() {
    finished.alt = t("painting.picture", { n: number + 1, prompt: job()?.request.prompt ?? "" });
  }

  return { element, update, sketch, tell };
}
