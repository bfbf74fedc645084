"use strict";
const element = (id) => document.getElementById(id);
const DECISIONS = { y: "duplicate", n: "different", u: "unsure" };
const BLINK_MILLISECONDS = 500;
const loaded = new Map(); // path -> promise of {bitmap, url, size, problem}
let state = null, images = null, view = "side", busy = true, timer = 0, shownSide = 0;

async function ask(path, body) {
  const options = body && { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  let answer;
  try { answer = await fetch(path, options); }
  catch { throw new Error("The server does not answer: start the review again, and open its new address."); }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

function load(path) {
  if (!loaded.has(path)) loaded.set(path, (async () => {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error((await answer.json()).error);
    const blob = await answer.blob();
    return {
      bitmap: await createImageBitmap(blob), url: URL.createObjectURL(blob),
      size: answer.headers.get("X-Image-Size"), problem: decodeURIComponent(answer.headers.get("X-Image-Problem") || ""),
    };
  })());
  loaded.get(path).catch(() => loaded.delete(path)); // another attempt asks again
  return loaded.get(path);
}

function forget() { // memory: only the images of the next pairs are kept
  const needed = new Set(state.pairs.flatMap((pair) => [pair.evaluation, pair.training]));
  for (const [path, promise] of loaded) if (!needed.has(path)) {
    loaded.delete(path);
    promise.then((image) => { URL.revokeObjectURL(image.url); image.bitmap.close(); }, () => {});
  }
}

const rate = ([value, low, high]) => `${(100 * value).toFixed(1)} % (${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)})`;

function showProgress() {
  element("reviewer").textContent = `· ${state.reviewer}`;
  element("progress").replaceChildren(...state.progress.map(({ dataset, judged, wanted, choice }) => {
    const row = document.createElement("tr");
    const cells = [dataset, `${judged} of ${wanted}`, ...(choice
      ? [choice.threshold.toFixed(4), `${choice.flagged} pairs`, rate(choice.precision), rate(choice.recall)]
      : ["–", "–", "–", "–"])];
    cells.forEach((text, place) => {
      const cell = document.createElement(place ? "td" : "th");
      if (!place) cell.scope = "row";
      cell.textContent = text;
      row.append(cell);
    });
    return row;
  }));
  element("agreement").replaceChildren(...state.agreement.map(({ reviewer, both, share, kappa }) => {
    const item = document.createElement("li");
    item.textContent = `Agreement with ${reviewer}: ${(100 * share).toFixed(0)} % of ${both} pairs`
      + (kappa === null ? "" : `, Cohen's kappa ${kappa.toFixed(2)}`);
    return item;
  }));
}

function fit(context, bitmap) {
  const { width, height } = context.canvas, scale = Math.min(width / bitmap.width, height / bitmap.height);
  const w = bitmap.width * scale, h = bitmap.height * scale;
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
}

function draw() {
  if (view === "side" || !images) return;
  const canvas = element("canvas"), context = canvas.getContext("2d", { willReadFrequently: true });
  context.globalCompositeOperation = "source-over";
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (view === "blink") {
    fit(context, images[shownSide].bitmap);
    element("stacked-name").textContent = ["Evaluation", "Nearest training image"][shownSide];
    canvas.setAttribute("aria-label", "Both images in turn");
  } else { // stretched to one shape: a copy may have another aspect
    context.drawImage(images[0].bitmap, 0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "difference";
    context.drawImage(images[1].bitmap, 0, 0, canvas.width, canvas.height);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0;
    for (let place = 0; place < pixels.length; place += 4) sum += pixels[place] + pixels[place + 1] + pixels[place + 2];
    const mean = (sum / (pixels.length * 0.75 * 2.55)).toFixed(1);
    element("stacked-name").textContent = `Difference: ${mean} % on average; black where both are equal`;
    canvas.setAttribute("aria-label", `Difference of both images, ${mean} % on average`);
  }
}

function setView(next) {
  view = next === view ? "side" : next;
  clearInterval(timer);
  shownSide = 0;
  if (view === "blink") timer = setInterval(() => { shownSide = 1 - shownSide; draw(); }, BLINK_MILLISECONDS);
  element("side").hidden = view !== "side";
  element("stacked").hidden = view === "side";
  element("b").setAttribute("aria-pressed", view === "blink");
  element("d").setAttribute("aria-pressed", view === "difference");
  draw();
}

async function show() {
  showProgress();
  element("z").disabled = !state.last;
  const [pair, following] = state.pairs;
  element("work").hidden = !pair;
  images = null;
  forget();
  if (!pair) {
    element("status").textContent = "Enough pairs are judged. The decisions are saved; end the command with Ctrl-C.";
    return;
  }
  const both = await Promise.all([load(pair.evaluation), load(pair.training)]);
  ["evaluation", "training"].forEach((side, place) => {
    const { url, size, problem } = both[place];
    element(side).src = url;
    element(side).alt = (place ? "Training image " : "Evaluation image ") + (problem && `: ${problem}`);
    element(`size-${side}`).textContent = problem || `${size} pixels`;
  });
  images = both;
  element("key").textContent = pair.key;
  element("nearest_key").textContent = pair.nearest_key;
  const row = state.progress.find(({ dataset }) => dataset === pair.dataset);
  // The score is not shown: it would influence the decision.
  element("status").textContent = `${pair.dataset}, pair ${row.judged + 1} of ${row.wanted}`;
  if (following) [following.evaluation, following.training].forEach((path) => load(path).catch(() => {}));
  draw();
}

async function act(path, body) {
  if (busy) return;
  busy = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    state = await ask(path, body);
    element("message").textContent = "";
    await show();
  } catch (error) {
    element("message").textContent = error.message;
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

function decide(decision) {
  if (!state || !images || !state.pairs.length) return;
  const { dataset, key, nearest_key } = state.pairs[0];
  act("decide", { dataset, key, nearest_key, decision });
}

const undo = () => { if (state && state.last) act("undo", state.last); };

for (const [name, decision] of Object.entries(DECISIONS)) element(name).addEventListener("click", () => decide(decision));
element("z").addEventListener("click", undo);
element("b").addEventListener("click", () => setView("blink"));
element("d").addEventListener("click", () => setView("difference"));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const name = event.key.toLowerCase();
  if (name in DECISIONS) decide(DECISIONS[name]);
  else if (name === "z") undo();
  else if ((name === "b" || name === "d") && images) setView(name === "b" ? "blink" : "difference");
});
busy = false;
act("state");
