/** Between the form's values and the requests of POST /v1/pictures. Pure. */

/** The documented ratios and their pixels, from wide to tall. */
export const RATIOS = {
  "21:9": [1344, 576],
  "16:9": [1280, 720],
  "3:2": [1248, 832],
  "4:3": [1152, 864],
  "1:1": [1024, 1024],
  "3:4": [864, 1152],
  "2:3": [832, 1248],
  "9:16": [720, 1280],
};

/** What stands for a width and a height of one's own, where a ratio is chosen. */
export const FREE = "free";

/** What a model can until the service has said it (`limner` of GET /v1/models). */
export const UNKNOWN = {
  references: 1,
  steps: null,
  guidance: null,
  strength: false,
  samplers: [],
  negative_prompt: false,
  styles: [],
  live_styles: [],
  scene: false,
  free_size: false,
  prompt_chars: 1500,
  reference_bytes: 10_000_000,
};

const LIVE_STYLES = { 漫画: "comic", 元气: "vivid", 中世纪: "medieval", 水彩: "watercolor" };
const AS_THEY_ARE = [
  "model",
  "prompt",
  "n",
  "negative_prompt",
  "steps",
  "guidance",
  "strength",
  "sampler",
  "format",
  "prompt_optimizer",
  "watermark",
];

/**
 * The body of POST /v1/pictures, without what is the service's default anyway.
 * @param {Object} has the form's values, by the names of its controls
 * @param {Object} can the model's abilities, as `UNKNOWN`, and its name as `model`
 * @param {string[]} references URLs and data URLs
 * @param {{scene?: Object, loras?: Object}} kept what the form has no controls for
 * @returns {Object}
 */
export function body(has, can, references, kept) {
  const free = has.aspect_ratio === FREE;
  const asked = {
    model: can.model,
    prompt: has.prompt.trim(),
    aspect_ratio: free ? null : has.aspect_ratio,
    width: free ? Number(has.width) : null,
    height: free ? Number(has.height) : null,
    n: has.n === "1" ? null : Number(has.n),
    seed: has.locked ? has.seed.trim() : null,
    style: has.style,
    references: references.length > 0 ? references : null,
    negative_prompt: has.negative_prompt?.trim(),
    steps: has.steps && Number(has.steps),
    guidance: has.guidance && Number(has.guidance),
    strength: has.strength && Number(has.strength),
    sampler: has.sampler,
    prompt_optimizer: has.prompt_optimizer || null,
    watermark: has.watermark || null,
    format: has.format === "jpeg" ? null : has.format,
    scene: can.scene ? kept.scene : null,
    loras: kept.loras,
  };
  return Object.fromEntries(Object.entries(asked).filter(([, value]) => ![undefined, null, ""].includes(value)));
}

/**
 * The form's values for the request of a job (`request` of its document): those that it says something of.
 * @param {Object} request
 * @param {Object} can its model's abilities, as `UNKNOWN`
 * @returns {{values: Object, kept: Object, lost: Object<string, Object>}} `lost` is what POST /v1/pictures cannot be
 *   asked for again: by its name, what there is to say of it
 */
export function valuesOf(request, can) {
  const values = Object.fromEntries(AS_THEY_ARE.filter((name) => name in request).map((name) => [name, request[name]]));
  const { width, height, style, seed, references, mask } = request;
  const lost = {};
  if (references > 0) lost.references = { n: references };
  if (mask) lost.mask = {};
  if (width && height) {
    const ratio = Object.keys(RATIOS).find((each) => RATIOS[each][0] === width && RATIOS[each][1] === height);
    Object.assign(values, { aspect_ratio: ratio ?? FREE, width, height });
  }
  if (style?.style_type) {
    const live = can.live_styles.includes(style.style_type); // with another model it had no effect
    values.style = live ? LIVE_STYLES[style.style_type] : null;
    if (live && style.style_weight !== 1) lost.style_weight = { weight: style.style_weight };
  } else if (style !== undefined) values.style = style;
  if (seed !== undefined) Object.assign(values, { seed, locked: seed !== null });
  const kept = ["scene", "loras"].map((name) => [name, request[name]]);
  return { values, kept: Object.fromEntries(kept.filter(([, value]) => Object.keys(value ?? {}).length > 0)), lost };
}

/** Whether a text is a seed: a whole number that fits into 64 bits, with a sign. */
export function isSeed(text) {
  return (
    /^[+-]?\d{1,19}$/.test(text) && BigInt.asIntN(64, BigInt(text.replace("+", ""))) === BigInt(text.replace("+", ""))
  );
}
