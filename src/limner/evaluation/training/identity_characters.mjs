// Draws the characters of the reference task as JSON on standard output; identity_characters.py calls it and packs them.
// Needs the packages that are imported below in node's path. Colours are left open as {hair}, {skin}, {top} and {hat},
// a darker shade of one as {hair2} and so on, so that one drawing stands for every colour.
import { createRequire } from "module";
import { createAvatar } from "@dicebear/core";

const require = createRequire(process.cwd() + "/");
const React = require("react");
const { renderToStaticMarkup } = require("react-dom/server");
const bigheads = require("@bigheads/core");

const EACH = 25;
const OPEN = { hair: ["#010203", "#111213"], skin: ["#040506", "#141516"], top: ["#070809", "#171819"], hat: ["#0a0b0c", "#1a1b1c"] };
const plain = (part) => [OPEN[part][0].slice(1)];

function opened(svg) {
  for (const [part, [base, shade]] of Object.entries(OPEN)) svg = svg.replaceAll(base, `{${part}}`).replaceAll(shade, `{${part}2}`);
  svg = svg.replaceAll('style="transform-origin:center" transform="scale(1.12)"', 'transform="translate(-60 -59.4) scale(1.12)"');
  return svg.replace(/<metadata.*?<\/metadata>/s, "").replace(/<desc>.*?<\/desc>/s, "");
}

const toon = await import("@dicebear/toon-head");
const miniavs = await import("@dicebear/miniavs");
const micah = await import("@dicebear/micah");

// What can be worn and grown in each set. The first hat, glasses and beard is always "none".
const SETS = {
  "toon-head": {
    styles: ["sideComed", "undercut", "spiky", "bun"].flatMap((front) => ["none", "longStraight", "shoulderHigh"].map((rear) => `${front} ${rear}`)),
    glasses: ["none"], hats: ["none"], beards: ["none", "fullBeard", "longBeard", "chinMoustache"],
    kinds: ["turtleNeck", "openJacket", "dress", "shirt", "tShirt"],
    faces: ["happy laugh", "wide smile", "bow smile", "humble sad", "wide agape"],
    draw: (c) => createAvatar(toon, {
      seed: "limner", hair: [c.style.split(" ")[0]], rearHair: c.style.endsWith("none") ? [] : [c.style.split(" ")[1]],
      rearHairProbability: c.style.endsWith("none") ? 0 : 100, beard: [c.beard], beardProbability: c.beard === "none" ? 0 : 100,
      clothes: [c.kind], eyes: [c.face.split(" ")[0]], mouth: [c.face.split(" ")[1]], eyebrows: ["neutral"],
      hairColor: plain("hair"), skinColor: plain("skin"), clothesColor: plain("top"),
    }).toString(),
  },
  miniavs: {
    styles: ["slaughter", "ponyTail", "long", "curly", "stylish", "elvis", "classic02", "classic01"],
    glasses: ["none", "normal"], hats: ["none"], beards: ["none", "horshoe", "freddy"],
    kinds: ["tShirt", "golf"], faces: ["normal default", "happy default", "confident default", "normal missingTooth"],
    draw: (c) => createAvatar(miniavs, {
      seed: "limner", hair: [c.style], glasses: [c.glasses], glassesProbability: c.glasses === "none" ? 0 : 100, mustache: [c.beard],
      mustacheProbability: c.beard === "none" ? 0 : 100, body: [c.kind], eyes: [c.face.split(" ")[0]], mouth: [c.face.split(" ")[1]],
      head: ["normal"], blushesProbability: 0, hairColor: plain("hair"), skinColor: plain("skin"), bodyColor: plain("top"),
    }).toString(),
  },
  micah: {
    styles: ["fonze", "mrT", "dannyPhantom", "full", "pixie"],
    glasses: ["none", "round", "square"], hats: ["none", "turban"], beards: ["none", "beard", "scruff"],
    kinds: ["open", "crew", "collared"], faces: ["eyes smile", "round laughing", "smiling smirk", "eyes frown"],
    draw: (c) => createAvatar(micah, {
      seed: "limner", hair: [c.hat === "none" ? c.style : c.hat], glasses: [c.glasses], glassesProbability: c.glasses === "none" ? 0 : 100,
      glassesColor: ["262a36"], facialHair: [c.beard], facialHairProbability: c.beard === "none" ? 0 : 100, facialHairColor: plain("hair"),
      eyes: [c.face.split(" ")[0]], mouth: [c.face.split(" ")[1]], eyebrows: ["up"], nose: ["curve"], ears: ["attached"],
      earringsProbability: 0, shirt: [c.kind], hairColor: plain(c.hat === "none" ? "hair" : "hat"), baseColor: plain("skin"), shirtColor: plain("top"),
    }).toString(),
  },
  bigheads: {
    styles: ["long", "bun", "short", "pixie", "buzz", "afro", "bob"],
    glasses: ["none", "roundGlasses", "shades"], hats: ["none", "beanie", "turban"], beards: ["none", "mediumBeard"],
    kinds: ["shirt", "dressShirt", "vneck", "tankTop", "dress"], faces: ["normal grin", "happy openSmile", "content lips", "simple serious"],
    draw: (c) => {
      const { skin, hair, clothing } = bigheads.theme.colors;
      for (const [colour, part] of [[skin.light, "skin"], [hair.blonde, "hair"], [clothing.red, "top"], [clothing.green, "hat"]])
        [colour.base, colour.shadow] = OPEN[part];
      return renderToStaticMarkup(React.createElement(bigheads.BigHead, {
        skinTone: "light", hairColor: "blonde", clothingColor: "red", hatColor: "green", hair: c.style, accessory: c.glasses, hat: c.hat,
        facialHair: c.beard, clothing: c.kind, eyes: c.face.split(" ")[0], mouth: c.face.split(" ")[1], eyebrows: "raised", graphic: "none",
        body: "chest", lipColor: "red", mask: false, faceMask: false, lashes: false, circleColor: "blue",
      }));
    },
  },
};
const COLOURS = {
  hair: ["black", "brown", "blonde", "red", "grey", "blue", "pink", "green"],
  skin: ["pale", "light", "tan", "brown", "dark"],
  top: ["red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black"],
  hat: ["red", "yellow", "green", "blue", "purple", "black"],
};

// mulberry32, so that the same characters come out everywhere
let state = 20261122;
function random() {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const choose = (list) => list[Math.floor(random() * list.length)];
const often = (list, share) => (list.length > 1 && random() < share ? choose(list.slice(1)) : list[0]);

function cast(set) {
  const colours = Object.fromEntries(Object.entries(COLOURS).map(([part, names]) => [part, choose(names)]));
  return {
    colours, style: choose(set.styles), glasses: often(set.glasses, 0.45), hat: often(set.hats, 0.3), beard: often(set.beards, 0.35),
    kind: choose(set.kinds), face: choose(set.faces),
  };
}

const traits = (c) => [c.style, c.glasses, c.hat, c.beard, c.colours.hair, c.colours.skin, c.colours.top];
const apart = (a, b) => traits(a).filter((trait, k) => trait !== traits(b)[k]).length;

const characters = [];
for (const [name, set] of Object.entries(SETS)) {
  const those = [];
  while (those.length < EACH) {
    const c = cast(set);
    if (those.some((other) => apart(c, other) < 3)) continue;
    const others = {};
    const instead = (key, list) => list.map((value) => opened(set.draw({ ...c, [key]: value })));
    for (const [trait, key, list] of [["glasses", "glasses", set.glasses], ["hat", "hat", set.hats], ["beard", "beard", set.beards]])
      if (list.length > 1) others[trait] = instead(key, c[key] === "none" ? [list[1]] : ["none"]);
    if (c.hat === "none") {
      const rest = set.styles.filter((style) => style !== c.style);
      others["hair style"] = instead("style", [0, 1, 2].map(() => rest.splice(Math.floor(random() * rest.length), 1)[0]));
    }
    those.push(c);
    characters.push({ name: `${name}-${those.length}`, colours: c.colours, svg: opened(set.draw(c)), others });
  }
}
process.stdout.write(JSON.stringify(characters));
