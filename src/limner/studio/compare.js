/** Two pictures, side by side or one wiped over the other, and what their requests differ in. */

import { el, head, open } from "./dom.js";
import { asked, image, said } from "./picture.js";
import { t } from "./words.js";

/**
 * Show two pictures beside each other.
 * @param {import("./picture.js").Entry} first
 * @param {import("./picture.js").Entry} second
 * @param {() => void} done called once it is closed
 */
export function compare(first, second, done) {
  const place = el("div", { class: "compare-place" });
  const same = ["width", "height"].every((side) => first.picture[side] === second.picture[side]);
  const ways = same ? { beside, wipe } : { beside };
  const buttons = Object.entries(ways).map(([name, make]) => {
    const press = (event) => show(make, event.currentTarget);
    return el("button", { type: "button", class: "chip", onclick: press }, t(`compare.${name}`));
  });

  function show(make, pressed) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === pressed));
    place.replaceChildren(make(first, second));
  }

  const chosen = same && el("div", { class: "chips", role: "group", "aria-label": t("compare.title") }, buttons);
  const dialog = el(
    "dialog",
    { class: "compare", "aria-label": t("compare.title") },
    head(t("compare.title"), t("page.close"), chosen),
    place,
    differences(first, second),
  );
  show(beside, buttons[0]);
  open(dialog);
  dialog.addEventListener("close", done);
}

function beside(first, second) {
  const figure = (entry, key) => el("figure", {}, image(entry), el("figcaption", { class: "muted" }, t(key)));
  return el("div", { class: "beside" }, figure(first, "compare.first"), figure(second, "compare.second"));
}

/** The first picture over the second, up to where the pointer or the arrow keys put the edge. */
function wipe(first, second) {
  const slider = el("input", { type: "range", "aria-label": t("compare.at"), oninput: () => put(slider.value) });
  const { width, height } = first.picture;
  const drag = (event) => {
    if (!event.buttons) return;
    const { left, width } = frame.getBoundingClientRect();
    put((100 * (event.clientX - left)) / width);
  };
  const frame = el(
    "div",
    { class: "wipe", style: { "--ratio": width / height }, onpointermove: drag },
    image(second),
    image(first, { class: "over" }),
    slider,
    el("span", { class: "edge" }),
  );
  frame.addEventListener("pointerdown", (event) => (frame.setPointerCapture(event.pointerId), drag(event)));
  function put(share) {
    slider.value = share;
    frame.style.setProperty("--at", `${slider.value}%`);
  }
  put(50);
  return frame;
}

function differences(first, second) {
  const [one, other] = [asked(first), asked(second)];
  const names = Object.keys(one).filter((name) => JSON.stringify(one[name]) !== JSON.stringify(other[name]));
  if (!names.length) return el("p", { class: "muted" }, t("compare.same"));
  const head = ["compare.what", "compare.first", "compare.second"].map((key) => el("th", { scope: "col" }, t(key)));
  return el(
    "table",
    { class: "differences" },
    el("caption", {}, t("compare.differ")),
    el("thead", {}, el("tr", {}, head)),
    el(
      "tbody",
      {},
      names.map((name) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, t(`viewer.${name}`)),
          [one, other].map((values) => el("td", {}, said(name, values[name]))),
        ),
      ),
    ),
  );
}
