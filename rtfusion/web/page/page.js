"use strict";

const STATE_MS = 500;
const RETRY_MS = 1000;
const DIAL_MS = 100;
const SLOW_MS = 8000; // an answer that takes longer is given up
const LOADING_MS = 180000; // a model is loaded, and its precisions are measured
const HOLD_MS = 400; // a button that is held down this long repeats
const REPEAT_MS = 60;
const OVER = "the run has ended";
const REVERSED = "-reversed";

const at = (id) => document.getElementById(id);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const upright = matchMedia("(max-width: 760px) and (orientation: portrait)");

let view = "fused";
let told = "";
let over = ""; // why nothing comes any more; empty while the run goes on

function wanted() {
  if (view !== "all") return view;
  return upright.matches ? "stacked" : "side-by-side";
}

async function ask(path, { patience = SLOW_MS, ...options } = {}) {
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(patience) });
  if (answer.ok) return answer;
  if (answer.status === 401) location.reload(); // the form for the token
  if (answer.status === 410) end(OVER);
  throw new Error((await answer.text()).trim() || `the run answers ${answer.status}`);
}

async function post(path, wish, patience) {
  const options = { patience, method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(wish) };
  return (await ask(path, options)).json();
}

// -- the picture: ask for the next one when this one is drawn, so that nothing can pile up ---------------------------

async function watch() {
  let after = "", shown = "", url = "";
  for (;;) {
    if (document.hidden) {
      await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
      continue;
    }
    const asked = wanted();
    try {
      const answer = await ask(`/picture?view=${asked}${asked === shown ? `&after=${after}` : ""}`);
      if (answer.status === 204) continue;
      const next = URL.createObjectURL(await answer.blob());
      at("picture").src = next;
      await at("picture").decode().catch(() => {});
      if (url) URL.revokeObjectURL(url);
      url = next;
      after = answer.headers.get("X-Sequence");
      shown = asked;
      at("picture").dataset.view = shown;
      at("picture").hidden = false;
    } catch {
      await pause(RETRY_MS);
    }
  }
}

// -- the state -------------------------------------------------------------------------------------------------------

async function follow() {
  for (;;) {
    try {
      show(await (await ask("/state")).json());
    } catch {
      end(over || "no answer: the run has ended, or the connection is lost");
    }
    await pause(document.hidden ? RETRY_MS : STATE_MS);
  }
}

// everything that a dead page could be pressed for rests until an answer comes again
function end(why) {
  over = why;
  document.body.classList.toggle("over", Boolean(why));
  document.querySelector("aside fieldset").disabled = Boolean(why);
  if (why) {
    banner(why, true);
    at("recording").hidden = true;
    document.querySelectorAll(".source").forEach((one) => { one.className = "source"; });
  }
}

function show(state) {
  const run = state.run;
  if (state.over) return end(OVER);
  if (over) end("");
  showFigures(state);
  showBanner(state);
  showDials(state.scalars);
  showIntents(state.intents);
  showMarks(state.regions);
  showChoice("model", state.model);
  showChoice("look", state.look);
  at("nudging").hidden = !state.nudge;
  document.querySelector('[data-view="parallax"]').hidden = !state.parallax;
  showPalette(state);
  showRecord(state.record);
  if (!run.sources) return;
  at("fuser").textContent = [run.fuser, run.engine].filter(Boolean).join(" · ");
  at("sources").replaceChildren(...Object.entries(run.sources).map(([band, source]) => {
    const item = document.createElement("li");
    item.className = source.lost ? "source lost" : "source";
    item.textContent = source.lost ? `${band} lost` : band;
    item.title = source.lost || source.description || source.uri;
    return item;
  }));
  showDetails(state);
}

function number(value, digits, unit) {
  const node = document.createDocumentFragment();
  node.append(value === null || value === undefined ? "–" : value.toFixed(digits));
  if (unit) {
    const small = document.createElement("small");
    small.textContent = ` ${unit}`;
    node.append(small);
  }
  return node;
}

function showFigures(state) {
  const run = state.run;
  at("fps").replaceChildren(number(run.fps_recent, 1));
  at("latency").replaceChildren(number(state.age_ms?.p50, 0, "ms"));
  at("latency").title = state.age_ms ? `95 % below ${state.age_ms.p95.toFixed(0)} ms` : "";
  at("skew").replaceChildren(number(run.skew_ms?.p50, 1, "ms"));
  at("drops").replaceChildren(number(drops(run).reduce((sum, [, count]) => sum + count, 0), 0));
}

function drops(run) {
  const flat = (causes, path) => Object.entries(causes || {}).flatMap(([name, value]) =>
    typeof value === "number" ? [[`${path} ${name}`.replaceAll("_", " "), value]] : flat(value, `${path} ${name}`));
  return flat(run.drops, "").map(([name, count]) => [name.trim(), count]).filter(([, count]) => count > 0);
}

function showBanner(state) {
  const frame = state.frame;
  if (!frame) return banner("waiting for the first frame");
  if (state.silent_s > 2) return banner(`no frame for ${state.silent_s.toFixed(0)} s`, true);
  const degraded = { "no-visible": "thermal picture alone", "no-thermal": "visible picture alone",
    "held-visible": "last visible frame held", "held-thermal": "last thermal frame held" }[frame.degraded];
  if (degraded) return banner(`a camera is lost: ${degraded}`, true);
  if (frame.thermal.shutter) return banner("thermal camera calibrates itself");
  banner("");
}

function banner(text, bad = false) {
  at("banner").hidden = !text;
  at("banner").textContent = text;
  at("banner").classList.toggle("bad", bad);
}

function showDetails(state) {
  const run = state.run, rows = [];
  for (const [band, source] of Object.entries(run.sources)) {
    const rate = source.rate_hz ? `, ${source.rate_hz.toFixed(1)} Hz` : "";
    rows.push([band, `${source.size} ${source.pixel_format}${rate}`]);
    if (source.lost) rows.push([`${band} lost`, source.lost]);
    for (const [cause, count] of Object.entries(source.faults)) rows.push([`${band} ${cause}`, count]);
  }
  rows.push(["fused", run.fused]);
  for (const [name, count] of drops(run)) rows.push([`dropped: ${name}`, count]);
  if (state.age_ms) rows.push(["latency, 95 %", `${state.age_ms.p95.toFixed(1)} ms`]);
  if (run.skew_ms.count) rows.push(["skew, 95 %", `${run.skew_ms.p95.toFixed(1)} ms`]);
  for (const name of ["spot", "min", "max"]) {
    const value = state.frame?.thermal[name];
    if (value !== undefined) rows.push([name, `${value} ${state.frame.thermal.units}`]);
  }
  at("details").tBodies[0].replaceChildren(...rows.map(([name, value]) => {
    const row = document.createElement("tr"), head = document.createElement("th"), cell = document.createElement("td");
    head.textContent = name;
    cell.textContent = value;
    row.append(head, cell);
    return row;
  }));
  at("notes").replaceChildren(...run.notes.map((note) => {
    const item = document.createElement("li");
    item.textContent = note;
    return item;
  }));
}

// -- what a person may change ----------------------------------------------------------------------------------------

function say(text, bad = false) {
  told = text;
  at("message").hidden = !text;
  at("message").textContent = text;
  at("message").classList.toggle("bad", bad);
}

function showDials(scalars) {
  const names = Object.keys(scalars);
  if (at("dials").dataset.names !== names.join()) {
    at("dials").dataset.names = names.join();
    at("dials").replaceChildren(...names.map(dial));
  }
  for (const name of names) stand(`dial-${name}`, scalars[name]);
}

function stand(id, value) {
  const slider = at(id);
  if (slider.dataset.held) return; // a finger is on it
  slider.value = value;
  slider.nextElementSibling.value = value.toFixed(2);
}

// the wish for the picture: an axis each, from -1 to 1, presets by name, and sentences
function showIntents(intents) {
  at("wishes").hidden = at("saying").hidden = !intents;
  const wished = Object.entries(intents?.axes ?? {}).filter(([, value]) => value);
  at("wished").hidden = !wished.length;
  at("wished").textContent = "wished: " + wished.map(([name, value]) =>
    `${name.replaceAll("_", " ")} ${value > 0 ? "+" : ""}${value}`).join(", ");
  if (!intents) return;
  const names = Object.keys(intents.axes), presets = Object.keys(intents.presets), select = at("preset");
  if (at("axes").dataset.names !== names.join()) {
    at("axes").dataset.names = names.join();
    at("axes").replaceChildren(...names.map((name) =>
      slide(name, { id: `axis-${name}`, min: -1, max: 1, step: 0.05 }, (value) => ({ intents: { [name]: value } }))));
  }
  for (const name of names) stand(`axis-${name}`, intents.axes[name]);
  if (select.dataset.names !== presets.join()) {
    select.dataset.names = presets.join();
    select.replaceChildren(new Option("–", ""), ...presets.map((name) => new Option(name.replaceAll("-", " "), name)));
  }
  const same = (preset) => names.every((name) => intents.presets[preset][name] === intents.axes[name]);
  if (document.activeElement !== select) select.value = presets.find(same) ?? "";
}

const dial = (name) =>
  slide(name, { id: `dial-${name}`, min: 0, max: 1, step: 0.01 }, (value) => ({ [name]: value }));

function slide(name, range, wish) {
  const label = document.createElement("label"), title = document.createElement("span");
  const slider = document.createElement("input"), value = document.createElement("output");
  label.className = "field";
  title.textContent = name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
  Object.assign(slider, { type: "range", ...range });
  label.append(title, slider, value);
  let sending = false;
  slider.addEventListener("input", async () => {
    value.value = Number(slider.value).toFixed(2);
    slider.dataset.held = "yes";
    if (sending) return; // the loop below takes the newest value
    sending = true;
    for (let sent = null; sent !== slider.value;) {
      sent = slider.value;
      try {
        await post("/control", wish(Number(sent)));
        say("");
      } catch (error) {
        say(error.message, true);
      }
      await pause(DIAL_MS);
    }
    sending = false;
    delete slider.dataset.held;
  });
  return label;
}

// rectangles over the picture, in fractions of it: what is in them stands out
let marks = [], drawn = null;

function showMarks(regions) {
  at("marking").hidden = !regions;
  if (regions) marks = regions;
  at("unmark").disabled = marks.length === 0;
  placeMarks();
}

function placeMarks() {
  const picture = at("picture"), stage = picture.parentElement.getBoundingClientRect(), seen = pictureBox();
  const whole = ["fused", "thermal", "visible"].includes(picture.dataset.view);
  const shown = whole && seen ? [...marks, ...(drawn ? [drawn] : [])] : [];
  if (seen) {
    Object.assign(at("marks").style, { left: `${seen.left - stage.left}px`, top: `${seen.top - stage.top}px`,
      width: `${seen.width}px`, height: `${seen.height}px` });
  }
  at("marks").replaceChildren(...shown.map(({ left, top, right, bottom }) => {
    const mark = document.createElement("div"), percent = (share) => `${100 * share}%`;
    Object.assign(mark.style, { left: percent(left), top: percent(top), width: percent(right - left),
      height: percent(bottom - top) });
    return mark;
  }));
}

function pictureBox() { // the picture is as large as fits, in the middle of its element
  const picture = at("picture"), box = picture.getBoundingClientRect();
  if (!picture.naturalWidth || !box.width) return null;
  const scale = Math.min(box.width / picture.naturalWidth, box.height / picture.naturalHeight);
  const width = picture.naturalWidth * scale, height = picture.naturalHeight * scale;
  return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height };
}

function pointAt(event) {
  const seen = pictureBox(), share = (px, length) => Math.min(Math.max(px / length, 0), 1);
  return seen && { x: share(event.clientX - seen.left, seen.width), y: share(event.clientY - seen.top, seen.height) };
}

async function mark(boxes) {
  const short = (share) => Number(share.toFixed(4));
  const regions = boxes.map(({ target = "marked", left, top, right, bottom }) =>
    ({ target, left: short(left), top: short(top), right: short(right), bottom: short(bottom) }));
  try {
    showMarks((await post("/control", { regions })).regions);
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

function showPalette(state) {
  const select = at("palette");
  if (select.options.length === 0) select.replaceChildren(...state.palettes.map((name) => new Option(name, name)));
  if (document.activeElement === select) return;
  at("reversed").checked = state.palette.endsWith(REVERSED);
  select.value = at("reversed").checked ? state.palette.slice(0, -REVERSED.length) : state.palette;
}

function showChoice(name, choice) { // what this run cannot change is not there
  const select = at(name);
  at(`${name}s`).hidden = !choice;
  if (!choice) return;
  const names = choice.names.includes(choice.used) ? choice.names : [choice.used, ...choice.names];
  if (select.dataset.names !== names.join()) {
    select.dataset.names = names.join();
    select.replaceChildren(...names.map((one) => new Option(one, one)));
  }
  if (document.activeElement !== select && !select.disabled) select.value = choice.used;
}

for (const name of ["model", "look"]) {
  at(name).addEventListener("change", async () => {
    const select = at(name), wanted = select.value;
    select.blur();
    select.disabled = true;
    if (name === "model") say(`loading ${wanted}`);
    try {
      const state = await post("/control", { [name]: wanted }, LOADING_MS);
      select.disabled = false;
      show(state);
      say("");
    } catch (error) {
      say(error.message, true);
    }
    select.disabled = false;
  });
}

// -- the registration: steps that come while one is under way are gathered ------------------------------------------

let steps = null, moving = false;

async function nudge(step) {
  const sum = steps ?? { right_px: 0, down_px: 0, turn_deg: 0, scale: 1 };
  for (const [name, value] of Object.entries(step)) sum[name] = name === "scale" ? sum.scale * value : sum[name] + value;
  steps = sum;
  if (moving) return;
  moving = true;
  while (steps) {
    const next = steps;
    steps = null;
    await move(next);
  }
  moving = false;
}

async function move(step) {
  try {
    await post("/control", { nudge: step });
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

for (const button of document.querySelectorAll("[data-nudge]")) {
  const step = JSON.parse(button.dataset.nudge);
  let timer = 0, held = false;
  const press = () => {
    held = true;
    nudge(step);
    timer = setTimeout(press, REPEAT_MS);
  };
  const leave = () => clearTimeout(timer);
  button.addEventListener("pointerdown", () => {
    held = false;
    timer = setTimeout(press, HOLD_MS);
  });
  for (const kind of ["pointerup", "pointerleave", "pointercancel"]) button.addEventListener(kind, leave);
  button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press of a finger
  button.addEventListener("click", () => {
    if (!held) nudge(step);
    held = false;
  });
}

at("back").addEventListener("click", () => move("back"));
at("keep").addEventListener("click", () => download("/calibration", "--calibration takes it"));

function showRecord(record) {
  const on = Boolean(record && record.on);
  at("record").setAttribute("aria-pressed", on);
  at("record").textContent = on ? "Stop" : "Record";
  at("record").disabled = !record;
  at("record").title = record ? "" : "no folder was named: start the run with ?record=FOLDER in the address of the page";
  at("recording").hidden = !on;
  if (on) at("recording").textContent = `REC ${clock(record.elapsed_s)}`;
  if (record && record.error && record.error !== told) say(record.error, true);
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

at("views").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  view = button.dataset.view;
  for (const other of at("views").children) other.setAttribute("aria-pressed", other === button);
});

async function paint() {
  const palette = at("palette").value + (at("reversed").checked ? REVERSED : "");
  at("palette").blur();
  try {
    showPalette(await post("/control", { palette }));
    say("");
  } catch (error) {
    say(error.message, true);
  }
}

at("palette").addEventListener("change", paint);
at("reversed").addEventListener("change", paint);

at("preset").addEventListener("change", async () => {
  const name = at("preset").value;
  at("preset").blur();
  if (!name) return;
  try {
    showIntents((await post("/control", { intents: name })).intents);
    say("");
  } catch (error) {
    say(error.message, true);
  }
});

at("saying").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = at("sentence").value.trim();
  if (!text) return;
  let told, bad = false;
  try {
    const said = await post("/say", { text });
    [told, bad] = [said.told, said.refused];
    showIntents(said.intents);
    if (!bad) at("sentence").value = "";
  } catch (error) {
    [told, bad] = [error.message, true];
  }
  at("understood").hidden = false;
  at("understood").textContent = told;
  at("understood").classList.toggle("bad", bad);
});
at("mark").addEventListener("click", () => {
  const on = at("mark").getAttribute("aria-pressed") !== "true";
  at("mark").setAttribute("aria-pressed", on);
  at("picture").parentElement.classList.toggle("marking", on);
});

at("unmark").addEventListener("click", () => mark([]));

{
  const stage = at("picture").parentElement;
  let from = null;
  stage.addEventListener("pointerdown", (event) => {
    if (!stage.classList.contains("marking") || event.button !== 0) return;
    event.preventDefault();
    from = pointAt(event);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    const to = from && pointAt(event);
    if (!to) return;
    drawn = { left: Math.min(from.x, to.x), top: Math.min(from.y, to.y),
      right: Math.max(from.x, to.x), bottom: Math.max(from.y, to.y) };
    placeMarks();
  });
  stage.addEventListener("pointerup", () => {
    const made = drawn;
    from = drawn = null;
    if (made && made.right - made.left > 0.005 && made.bottom - made.top > 0.005) mark([...marks, made]);
    placeMarks();
  });
  stage.addEventListener("pointercancel", () => {
    from = drawn = null;
    placeMarks();
  });
  new ResizeObserver(placeMarks).observe(stage);
}

at("snapshot").addEventListener("click", () => download(`/snapshot?view=${wanted()}`));

async function download(path, hint) {
  try {
    const answer = await ask(path);
    const name = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition"))[1];
    const url = URL.createObjectURL(await answer.blob());
    const link = Object.assign(document.createElement("a"), { href: url, download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), RETRY_MS);
    say(hint ? `saved ${name}: ${hint}` : `saved ${name}`);
  } catch (error) {
    say(error.message, true);
  }
}

at("record").addEventListener("click", async () => {
  const on = at("record").getAttribute("aria-pressed") !== "true";
  at("record").disabled = true;
  try {
    const record = await post("/record", { on });
    showRecord(record);
    if (!record.error) say(on ? `recording ${record.file}` : `recorded ${record.file}: ${record.frames} frames`);
  } catch (error) {
    say(error.message, true);
  }
  at("record").disabled = false;
});

watch();
follow();
