/** The request that the form makes, as a program: curl, Python, JavaScript. Pure but for the dialog that shows it. */

import { BASE, key } from "./api.js";
import { announce, copy, el, head, icon, open } from "./dom.js";
import { t } from "./words.js";

const KEY = "LIMNER_API_KEY";
const FILE = "\u0000"; // stands in a text for the content of the file of this number

/** Each language's name, and what makes a program of a body, its references' file names, and whether there is a key. */
export const PROGRAMS = { curl, Python: python, JavaScript: javascript };

/** JSON with every reference that is a file left to be read: its place is marked. */
function marked(body, files) {
  const references = body.references?.map((source, place) => (files[place] ? `${FILE}${place}${FILE}` : source));
  return { ...body, references };
}

/** A text with its marks replaced by what `read` makes of a file's name. The marks are JSON's: \u00000\u0000. */
function reading(text, files, read) {
  return text.replace(/"\\u0000(\d+)\\u0000"/g, (_, place) => read(files[place]));
}

/** For a POSIX shell: nothing inside single quotes is special but the quote itself. */
function quoted(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function curl(body, files, keyed) {
  const address = new URL("v1/pictures", BASE).href;
  const json = JSON.stringify(marked(body, files), null, 2);
  const lines = [`curl ${quoted(address)}`, `-H 'Content-Type: application/json'`];
  if (keyed) lines.push(`-H "Authorization: Bearer $${KEY}"`);
  const join = (last) => [...lines, last].join(" \\\n  ");
  if (!files.some(Boolean)) return join(`-d ${quoted(json)}`);
  // A file in an argument would be too long for the system; in a here-document the shell reads $, ` and \ itself.
  const escaped = json.replace(/"\\u0000\d+\\u0000"|[\\$`]/g, (found) => (found.length > 1 ? found : `\\${found}`));
  const text = reading(escaped, files, (name) => `"$(base64 < ${quoted(`./${name}`)} | tr -d '\\n')"`);
  return `${join("--data-binary @- <<JSON")}\n${text}\nJSON`;
}

function python(body, files, keyed) {
  const address = JSON.stringify(BASE.href.replace(/\/$/, ""));
  const literal = (value) =>
    JSON.stringify(value, null, 4)
      .replace(
        /"(?:[^"\\]|\\.)*"|\b(true|false|null)\b/g,
        (found, word) => ({ true: "True", false: "False", null: "None" })[word] ?? found,
      )
      .replaceAll("\n", "\n        ");
  const { prompt, ...named } = marked(body, files);
  const lines = Object.entries({ prompt, ...named }) // what has no name comes first
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => {
      const text = name === "seed" ? String(BigInt(value)) : literal(value);
      const read = reading(text, files, (file) => `Path(${JSON.stringify(file)})`);
      return `        ${name === "prompt" ? "" : `${name}=`}${read},`;
    });
  return [
    ...(keyed ? ["import os"] : []),
    ...(files.some(Boolean) ? ["from pathlib import Path"] : []),
    ...(keyed || files.some(Boolean) ? [""] : []),
    "from limner.client import Client",
    "",
    `with Client(${address}${keyed ? `, api_key=os.environ["${KEY}"]` : ""}) as client:`,
    "    result = client.generate(",
    ...lines,
    "    )",
  ].join("\n");
}

function javascript(body, files, keyed) {
  const json = JSON.stringify(marked(body, files), null, 2).replaceAll("\n", "\n  ");
  const read = (name) => `(await readFile(${JSON.stringify(name)})).toString("base64")`;
  return [
    ...(files.some(Boolean) ? ['import { readFile } from "node:fs/promises";', ""] : []),
    `const reply = await fetch(${JSON.stringify(new URL("v1/pictures", BASE).href)}, {`,
    '  method: "POST",',
    "  headers: {",
    '    "Content-Type": "application/json",',
    ...(keyed ? [`    Authorization: \`Bearer \${process.env.${KEY}}\`,`] : []),
    "  },",
    `  body: JSON.stringify(${reading(json, files, read)}),`,
    "});",
    "const result = await reply.json();",
  ].join("\n");
}

/**
 * Show a request as programs, each to be copied.
 * @param {Object} body of POST /v1/pictures
 * @param {(string|null)[]} files the name of the file of each reference; null for one by URL
 */
export function show(body, files) {
  const names = Object.keys(PROGRAMS);
  const text = el("code");
  const pre = el("pre", { tabindex: "0", id: "program", "aria-live": "off" }, text);
  let shown = names[0];
  const choose = (name) => {
    shown = name;
    text.textContent = PROGRAMS[name](body, files, key() !== null);
    pre.setAttribute("aria-label", name);
  };
  const option = (name) =>
    el(
      "label",
      { class: "option" },
      el("input", {
        type: "radio",
        name: "program",
        value: name,
        checked: name === shown,
        onchange: () => choose(name),
      }),
      el("span", {}, name),
    );
  const copied = async () => {
    const done = await copy(text.textContent);
    label.textContent = done ? t("code.copied") : t("code.uncopied");
    announce(label.textContent);
    setTimeout(() => (label.textContent = t("code.copy")), 2000);
  };
  const label = el("span", {}, t("code.copy"));
  const dialog = el(
    "dialog",
    { class: "sheet code", "aria-label": t("code.title") },
    head(t("code.title"), t("page.close")),
    el("fieldset", { class: "chips", "aria-label": t("code.language") }, names.map(option)),
    pre,
    el(
      "div",
      { class: "sheet-foot" },
      el("p", { class: "muted small" }, key() === null ? "" : t("code.key", { name: KEY })),
      el("button", { type: "button", class: "button primary", onclick: copied }, icon("copy"), label),
    ),
  );
  choose(shown);
  open(dialog);
}
