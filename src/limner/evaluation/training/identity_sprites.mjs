// Draws families of characters for the identity network as JSON on standard output: [[svg, svg, ...], ...].
// The members of a family differ in one to three traits. Arguments: families of each set, members of a family.
import { createAvatar } from "@dicebear/core";
import { faceToSvgString, generate } from "facesjs";

const [families, members] = process.argv.slice(2).map(Number);
let state = 7;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
Math.random = random; // facesjs draws by it
const choose = (list) => list[Math.floor(random() * list.length)];
const colour = () => [0, 0, 0].map(() => Math.floor(256 * random()).toString(16).padStart(2, "0")).join("");

function value(name, property) {
  if (name.endsWith("Probability")) return random() < (name.startsWith("head") || name.startsWith("hair") ? 0.9 : 0.4) ? 100 : 0;
  if (/^(hair|clothing|clothes|headContrast|hat|body)Color$/.test(name) && random() < 0.7) return [colour()];
  return property.default.length ? [choose(property.default)] : undefined;
}

const result = [];
for (const set of ["personas", "open-peeps", "big-smile", "adventurer", "pixel-art", "notionists"]) {
  const style = await import(`@dicebear/${set}`);
  const properties = Object.entries(style.schema.properties).filter(([name, p]) => name.endsWith("Probability") || p.type === "array");
  for (let f = 0; f < families; f++) {
    const own = Object.fromEntries(properties.map(([name, p]) => [name, value(name, p)]));
    const drawn = new Set();
    for (let m = 0; drawn.size < members && m < 40; m++) {
      const options = { ...own };
      for (let k = 0; m && k < 1 + Math.floor(3 * random()); k++) {
        const [name, p] = choose(properties);
        options[name] = value(name, p);
      }
      drawn.add(createAvatar(style, { seed: `${set} ${f}`, ...options }).toString());
    }
    result.push([...drawn]);
  }
}
for (let f = 0; f < families; f++) {
  const own = generate(undefined, { gender: choose(["male", "female"]) });
  const drawn = new Set();
  for (let m = 0; drawn.size < members && m < 40; m++) {
    const other = generate();
    const face = structuredClone(own);
    face.hair.color = face.hair.color ?? "#272421";
    if (m || f % 2) face.teamColors = [0, 1, 2].map(() => "#" + colour());
    for (let k = 0; m && k < 1 + Math.floor(3 * random()); k++) {
      const part = choose(["hair", "glasses", "facialHair", "mouth", "eye", "body", "accessories"]);
      face[part] = part === "hair" && random() < 0.5 ? { ...face.hair, color: "#" + colour() } : other[part];
    }
    drawn.add(faceToSvgString(face).replace(/ version="1.2" baseProfile="tiny" width="100%" height="100%"/, ""));
  }
  result.push([...drawn]);
}
process.stdout.write(JSON.stringify(result));
