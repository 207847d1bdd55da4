/** What was painted, day by day, and what the key has left. */

import { request } from "./api.js";
import { el, head, icon, open, toast } from "./dom.js";
import { locale, t } from "./words.js";

/**
 * Put the button that opens the panel into its slot.
 * @param {HTMLElement} slot
 */
export function mount(slot) {
  const label = () => {
    const title = t("usage.title");
    const named = { type: "button", class: "button quiet", "aria-label": title, title, onclick: ask };
    slot.replaceChildren(el("button", named, icon("usage"), el("span", {}, title)));
  };
  document.addEventListener("limner:language", label);
  label();
}

async function ask() {
  try {
    const { json } = await request("GET", "/v1/usage");
    show(json);
  } catch (error) {
    toast(error.sentence);
  }
}

function show(usage) {
  const dialog = el(
    "dialog",
    { class: "sheet usage", "aria-label": t("usage.title") },
    head(t("usage.title"), t("page.close")),
    figures(usage),
    bars(usage),
    el("ul", { role: "list", class: "muted" }, lines(usage).map((line) => el("li", {}, line))),
  );
  open(dialog);
}

const sum = (rows, name) => rows.reduce((total, row) => total + row[name], 0);

function figures({ days, limits, today, to }) {
  const painted = (rows) => t("usage.pictures", { n: sum(rows, "images") });
  const left = today.left === null ? t("usage.no_limit") : t("usage.of", { left: today.left, daily: limits.daily });
  const told = { today: painted(days.filter(({ day }) => day === to)), month: painted(days), left };
  return el(
    "dl",
    { class: "figures" },
    Object.entries(told).map(([name, text]) => el("div", {}, el("dt", {}, t(`usage.${name}`)), el("dd", {}, text))),
  );
}

/** One bar a day, from the month's first to today. */
function bars({ days, from, to }) {
  const all = [];
  for (let day = new Date(from); day <= new Date(to); day.setUTCDate(day.getUTCDate() + 1)) {
    const name = day.toISOString().slice(0, 10);
    all.push({ date: new Date(day), n: sum(days.filter((row) => row.day === name), "images") });
  }
  const most = Math.max(...all.map(({ n }) => n));
  if (!most) return el("p", { class: "muted" }, t("usage.none"));
  const written = new Intl.DateTimeFormat(locale(), { day: "numeric", month: "short", timeZone: "UTC" });
  const item = ({ date, n }) => {
    const title = t("usage.day", { day: written.format(date), n });
    return el("li", { title, style: { "--share": n / most } }, el("span", { class: "visually-hidden" }, title));
  };
  const ends = [all[0], all.at(-1)].map(({ date }) => el("span", {}, written.format(date)));
  return el(
    "figure",
    { class: "chart" },
    el("figcaption", {}, t("usage.bars", { n: most })),
    el("ol", { role: "list", class: "bars" }, all.map(item)),
    el("p", { class: "axis muted", "aria-hidden": true }, ends),
  );
}

/** What else is worth a sentence. */
function lines({ days, limits: { rate, concurrent, expires } }) {
  const date = new Intl.DateTimeFormat(locale(), { dateStyle: "long" });
  const failed = sum(days, "failed");
  return [
    failed && t("usage.failed", { n: failed }),
    rate && t("usage.rate", { n: rate }),
    concurrent && t("usage.concurrent", { n: concurrent }),
    expires && t("usage.expires", { day: date.format(new Date(1000 * expires)) }),
    t("usage.utc"),
  ].filter(Boolean);
}
