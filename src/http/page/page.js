// The status page: asks the gateway every two seconds and shows what it says.
//
// Everything that comes from the gateway becomes text and nothing else: names, values and words of devices and
// platforms may hold anything.
"use strict";

const EVERY_MS = 2000;
const PATIENCE_MS = 10000;
const PAGE = 50; // endpoints at a time
const POINTS = 300; // of a sparkline: ten minutes
const WIDTH = 30; // and as many as its width is for at least
const LOOKS = 4; // endpoints looked at
const RESOURCES = 200; // of an endpoint that are shown
const FAULTS = 20;
const LETTERS_MS = 30000; // dead letters are asked for that often, and when their number changes
const LONGEST = 200; // characters of a text

const $ = (id) => document.getElementById(id);
const body = (id) => $(id).querySelector(".body");

// --- text and elements

// What would steer the direction of writing, or is not to be seen, is shown as its number.
function shown(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  const cut = text.length > LONGEST ? text.slice(0, LONGEST) + "… (" + text.length + " characters)" : text;
  return cut.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");
}

function el(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== "") made.append(child);
  }
  return made;
}

function pairs(entries) {
  const told = entries.filter(([, text]) => text !== null && text !== undefined && text !== "");
  return el("dl", "", told.map(([name, text]) => [el("dt", "", name), el("dd", "", text)]).flat());
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const pill = (text, kind) => el("span", "pill " + kind, text);
const count = (n) => (typeof n === "number" ? n.toLocaleString("en") : "0");
const some = (n, one, many) => count(n) + " " + (n === 1 ? one : many);

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 10) return (Math.floor(seconds * 10) / 10).toFixed(seconds < 1 ? 1 : 0) + " s";
  if (seconds < 120) return Math.floor(seconds) + " s";
  if (seconds < 7200) return Math.floor(seconds / 60) + " min";
  if (seconds < 172800) return Math.floor(seconds / 3600) + " h";
  return Math.floor(seconds / 86400) + " days";
}

function bytes(n) {
  for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (n >= size) return (n / size).toFixed(1) + " " + unit;
  }
  return Math.round(n) + " B";
}

// --- sparklines

// Values over time; what is older than its points is forgotten.
class Series {
  constructor() { this.points = []; }

  add(value) {
    const number = typeof value === "boolean" ? Number(value) : value;
    this.points.push(typeof number === "number" && Number.isFinite(number) ? number : null);
    if (this.points.length > POINTS) this.points.shift();
  }

  draw() {
    const known = this.points.filter((point) => point !== null);
    if (known.length < 2) return null;
    const [least, most] = [Math.min(...known), Math.max(...known)];
    const height = (point) => (most === least ? 15 : 29 - (28 * (point - least)) / (most - least));
    const right = Math.max(WIDTH, this.points.length) - 1;
    const from = right + 1 - this.points.length;
    let path = "";
    let pen = "M";
    this.points.forEach((point, n) => {
      if (point !== null) path += pen + (from + n) + " " + height(point).toFixed(2);
      pen = point === null ? "M" : "L";
    });
    const svg = (tag, attributes, ...children) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      made.append(...children);
      return made;
    };
    const words = document.createElementNS("http://www.w3.org/2000/svg", "title");
    words.textContent = "from " + least + " to " + most;
    return svg("svg", { class: "spark", viewBox: "0 0 " + right + " 30", preserveAspectRatio: "none", role: "img" },
      words, svg("line", { x1: 0, x2: right, y1: 29.5, y2: 29.5 }), svg("path", { d: path }));
  }
}

// --- what is shown of the status

const backlog = new Series();

function clockText(clock) {
  if (clock.known) return "time known by " + shown(clock.by);
  if (clock.holding_for_s === undefined) return "time not known since boot";
  return "time not known yet; " + some(clock.holding, "sample waits", "samples wait") + " for it, at most "
    + duration(clock.holding_for_s);
}

function faultsOf(status) {
  const uplink = status.uplink || {};
  return [
    status.store_full,
    status.configuration && status.configuration.fault,
    ...(status.faults || []),
    uplink.fault,
    ...(uplink.faults || []),
    ...(status.quotas || []).map((quota) => quota.fault),
    ...(status.units || []).flatMap((unit) => unit.faults || []),
  ].filter((fault) => fault);
}

// Endpoints over a quota that are counted, and not listed.
function unlistedOf(status) {
  const listed = (status.quotas || []).filter((quota) => quota.fault).length;
  return Math.max(0, (status.over_quota || 0) - listed);
}

function faultView(fault) {
  return el("div", "fault",
    el("strong", "", fault.code + " "), shown(fault.what),
    pairs([["where", shown(fault.where)], ["cause", shown(fault.cause)], ["to do", shown(fault.todo)]]));
}

const UPLINK = {
  none: ["no platform", ""], connecting: ["not connected", "bad"], up: ["connected", "good"],
  degraded: ["connected, refused", "warn"],
};

function platformView(uplink) {
  const [word, kind] = UPLINK[uplink.state] || [shown(uplink.state), ""];
  if (uplink.state === "none") return [el("p", "big", word), el("p", "quiet", "uplink.kind is \"none\": values stay here")];
  const parked = uplink.parked || [];
  const refused = Object.values(uplink.parked_codes || {}).reduce((sum, n) => sum + n, 0);
  return [
    el("p", "big " + kind, word),
    pairs([
      ["address", shown(uplink.address || "")],
      ["since", uplink.for_s === undefined ? "" : duration(uplink.for_s)],
      ["connections", count(uplink.connections)],
      ["confirmed", some(uplink.delivered, "sample", "samples") + " since the start"],
      ["subscribing", uplink.subscribing ? "some endpoints still wait" : ""],
      ["refused", refused ? some(refused, "endpoint waits", "endpoints wait") + ": "
        + parked.slice(0, 3).map((p) => shown(p.endpoint) + " (" + p.code + ")").join(", ")
        + (refused > 3 ? ", …" : "") : ""],
      ["paused", uplink.budget && uplink.budget.used_up ? shown(uplink.budget.used_up) : ""],
      ["today", uplink.budget ? bytes(uplink.budget.used) + " of " + bytes(uplink.budget.limit) : ""],
      ["last error", uplink.fault || !uplink.last_error ? "" : shown(uplink.last_error)],
    ]),
  ];
}

function autonomyText(autonomy) {
  if (!autonomy) return "";
  const room = "room for " + bytes(autonomy.room_bytes);
  if (autonomy.hours === null || autonomy.bytes_per_s === null) return room + "; no rate is known yet";
  const then = autonomy.then === "refuse" ? "new readings are refused" : "the oldest readings are dropped";
  const long = autonomy.over_a_year ? "more than a year" : autonomy.hours < 0.1 ? "nothing"
    : autonomy.hours < 100 ? autonomy.hours.toFixed(1) + " h" : Math.floor(autonomy.hours / 24) + " days";
  return long + " at " + bytes(autonomy.bytes_per_s) + "/s, if nothing goes up; then " + then;
}

function backlogView(status) {
  const queued = status.ledger.queued;
  return [
    el("p", "big", count(queued), el("span", "quiet", queued === 1 ? " sample waits" : " samples wait")),
    backlog.draw(),
    pairs([
      ["lasts", autonomyText(status.autonomy)],
      ["dead letters", status.dead_letters ? count(status.dead_letters) : ""],
    ]),
  ];
}

function ledgerView(status) {
  const ledger = status.ledger;
  const terms = (...names) => pairs(names.map((name) => [name, count(ledger[name])]));
  const reasons = Object.entries(status.reasons || {}).slice(0, 6);
  return [
    el("p", status.balance ? "good" : "bad", status.balance ? "It adds up." : "It does not add up: see the faults."),
    el("div", "twin", terms("offered", "refused", "suppressed", "stored"),
      terms("landed", "queued", "dropped", "dead", "discarded")),
    pairs(reasons.map(([reason, samples]) => [shown(reason), count(samples)])),
  ];
}

function faultsView(status) {
  const faults = faultsOf(status);
  const all = faults.length + unlistedOf(status);
  if (!all) return [el("p", "good", "Nothing is wrong.")];
  const first = faults.slice(0, FAULTS);
  const more = all - first.length;
  return [...first.map(faultView), more > 0 ? el("p", "quiet", more + " more") : null];
}

function unitView(unit) {
  const devices = Object.values(unit.presence || {}).reduce((sum, n) => sum + n, 0);
  const { offline = 0, asleep = 0 } = unit.presence || {};
  const runs = unit.state === "running";
  const word = runs ? unit.health || "running" : unit.state;
  const kind = !runs ? "bad" : unit.health === "up" ? "good" : unit.health === "degraded" ? "warn" : "";
  const wires = Object.entries(unit.wires || {}).slice(0, 16).map(([wire, load]) => {
    const bar = el("progress", "");
    bar.max = 1;
    bar.value = load.busy;
    return el("li", "", bar, " " + Math.round(load.busy * 100) + " % busy: ", shown(wire));
  });
  const silent = Object.entries(unit.silent || {});
  const lines = silent.map(([name, device]) =>
    el("li", "", el("strong", "", shown(name)), " " + (device.code || "") + " " + shown(device.why || "")));
  return el("div", "unit",
    el("div", "head", el("h3", "", shown(unit.name)), pill(shown(word), kind), unit.why ? shown(unit.why) : null,
      el("span", offline ? "warn" : "quiet", offline
        ? offline + " of " + some(devices, "device", "devices") + " silent"
        : devices ? some(devices, "device", "devices") + ", none silent" : ""),
      asleep ? el("span", "quiet", asleep + " asleep") : null,
      unit.starts > 1 ? el("span", "quiet", "started " + count(unit.starts) + " times") : null),
    el("ul", "", wires, lines, offline > silent.length ? el("li", "quiet", (offline - silent.length) + " more") : null));
}

function showStatus(status) {
  const faults = faultsOf(status).length + unlistedOf(status);
  const overall = $("overall");
  const waits = status.uplink.state === "connecting";
  overall.className = "pill " + (faults || waits ? "warn" : "good");
  setText(overall, faults ? some(faults, "fault", "faults") : waits ? "not connected" : "all well");
  setText($("clock"), clockText(status.clock));
  setText($("version"), "version " + shown(status.version) + ", " + some(status.endpoints, "endpoint", "endpoints"));
  backlog.add(status.ledger.queued);
  body("platform").replaceChildren(...platformView(status.uplink));
  body("backlog").replaceChildren(...backlogView(status).filter((part) => part));
  body("ledger").replaceChildren(...ledgerView(status));
  body("faults").replaceChildren(...faultsView(status).filter((part) => part));
  const units = (status.units || []).map(unitView);
  body("adapters").replaceChildren(...(units.length ? units : [el("p", "quiet", "There is none.")]));
}

// --- endpoints

const rows = new Map();
let trail = [""]; // the names after which the pages so far begin

function remarks(endpoint) {
  return [
    endpoint.enabled === false ? "disabled" : "",
    endpoint.parked ? "refused by the platform: " + (endpoint.parked.code || "") + " " + shown(endpoint.parked.why || "") : "",
    endpoint.over_quota ? "over its quota" : "",
    endpoint.presence === "offline" ? (endpoint.code || "") + " " + shown(endpoint.why || "") : "",
  ].filter((remark) => remark).join("; ");
}

function makeRow(name) {
  const button = el("button", "name", shown(name));
  button.type = "button";
  button.addEventListener("click", () => look(name));
  const labels = ["", "", "age", "", "", "samples/s", "queued", ""];
  const cells = labels.map((label, n) => {
    const cell = el("td", n === 5 || n === 6 ? "number brief" : n === 2 ? "brief" : n === 1 || n === 7 ? "whole" : "");
    if (label) cell.dataset.label = label;
    return cell;
  });
  cells[0].append(button);
  return { row: el("tr", "", cells), cells };
}

function fillRow(cells, endpoint) {
  const last = endpoint.last;
  const quality = last ? last.quality : "";
  const rate = endpoint.samples_per_s;
  setText(cells[1], last ? shown(last.resource) + " = " + shown(last.value) : "");
  setText(cells[2], last && last.age_ms !== null ? duration(last.age_ms / 1000) : "");
  setText(cells[3], quality + (last && last.why ? " (" + shown(last.why) + ")" : ""));
  cells[3].className = quality === "bad" ? "bad" : quality === "uncertain" ? "warn" : "quiet";
  setText(cells[4], endpoint.presence || "");
  cells[4].className = endpoint.presence === "offline" ? "brief bad" : "brief quiet";
  setText(cells[5], typeof rate === "number" ? rate.toFixed(rate < 10 ? 2 : 0) : "");
  setText(cells[6], count(endpoint.queued));
  setText(cells[7], remarks(endpoint));
}

function showEndpoints(answer) {
  const endpoints = answer.endpoints || [];
  for (const name of [...rows.keys()]) {
    if (!endpoints.some((endpoint) => endpoint.name === name)) {
      rows.get(name).row.remove();
      rows.delete(name);
    }
  }
  endpoints.forEach((endpoint, n) => {
    if (!rows.has(endpoint.name)) rows.set(endpoint.name, makeRow(endpoint.name));
    const { row, cells } = rows.get(endpoint.name);
    // Moved only where it is not yet: whoever is on a button stays there.
    const there = $("rows").children[n] || null;
    if (there !== row) $("rows").insertBefore(row, there);
    fillRow(cells, endpoint);
  });
  setText($("count"), some(answer.total, "endpoint", "endpoints"));
  $("before").disabled = trail.length < 2;
  $("after").disabled = endpoints.length < PAGE;
}

function endpointsQuestion() {
  const question = new URLSearchParams({ limit: PAGE });
  if (trail[trail.length - 1]) question.set("after", trail[trail.length - 1]);
  const filter = $("filter").value.trim();
  if (filter) question.set("filter", /[*?]/.test(filter) ? filter : "*" + filter + "*");
  return "/api/endpoints?" + question;
}

// --- endpoints looked at

const looks = new Map();

function look(name) {
  if (!looks.has(name)) {
    const close = el("button", "", "Close");
    close.type = "button";
    const rowsOf = el("tbody", "");
    const view = el("div", "look",
      el("div", "head", el("h3", "", shown(name)),
        errand("Disable", "/api/endpoint/" + encodeURIComponent(name) + "/disable", null, () => "Read nothing more from " + name + "?"),
        errand("Enable", "/api/endpoint/" + encodeURIComponent(name) + "/enable", null), close),
      el("table", "", el("thead", "", el("tr", "", ["Resource", "Value", "Age", "Quality", ""].map((t) => el("th", "", t)))), rowsOf));
    close.addEventListener("click", () => unlook(name));
    looks.set(name, { view, rows: rowsOf, series: new Map() });
    body("looked").prepend(view);
    if (looks.size > LOOKS) unlook(looks.keys().next().value);
  }
  $("looked").hidden = false;
  $("looked").scrollIntoView({ block: "nearest" });
  soon();
}

function unlook(name) {
  looks.get(name).view.remove();
  looks.delete(name);
  $("looked").hidden = looks.size === 0;
}

function showLook(name, answer) {
  const looked = looks.get(name);
  if (!looked) return;
  if (answer === null) {
    looked.rows.replaceChildren(el("tr", "", el("td", "quiet", "no such endpoint any more")));
    return;
  }
  const values = (answer.values || []).slice(0, RESOURCES);
  const known = new Set(values.map((value) => value.resource));
  for (const resource of [...looked.series.keys()]) if (!known.has(resource)) looked.series.delete(resource);
  const made = values.map((value) => {
    if (!looked.series.has(value.resource)) looked.series.set(value.resource, new Series());
    const series = looked.series.get(value.resource);
    series.add(value.quality === "bad" ? null : value.value);
    const age = el("td", "", value.age_ms === null ? "" : duration(value.age_ms / 1000));
    age.dataset.label = "age";
    return el("tr", "", el("td", "", shown(value.resource)), el("td", "", shown(value.value)), age,
      el("td", value.quality === "bad" ? "bad" : value.quality === "uncertain" ? "warn" : "quiet",
        value.quality + (value.why ? " (" + shown(value.why) + ")" : "")),
      el("td", "whole", series.draw()));
  });
  const more = (answer.values || []).length - values.length;
  if (more > 0) made.push(el("tr", "", el("td", "quiet", more + " more: tidegate read " + shown(name))));
  looked.rows.replaceChildren(...(made.length ? made : [el("tr", "", el("td", "quiet", "nothing read yet"))]));
}

// --- changes

let token = ""; // what was typed; kept by this page only, until it is closed

function outcomeText(told) {
  if (told.letters === undefined) return "Done. " + shown(told);
  const left = (told.orphaned || []).length;
  return some(told.letters, "letter ", "letters ") + told.done
    + (left ? "; " + left + " stay: their endpoint is not in the configuration" : "");
}

// No time-out: what was asked for is done, and what came of it is told.
async function change(path, which) {
  const answer = await fetch(path, {
    method: "POST", cache: "no-store", body: which === null ? "" : JSON.stringify(which),
    headers: { "Authorization": "Bearer " + token, "Content-Type": "application/json" },
  });
  const told = await answer.json();
  if (answer.status === 401) unlock("");
  if (!answer.ok) throw new Error(told.error || "HTTP " + answer.status);
  return outcomeText(told);
}

// A button, only there with the token. What it asks for is done once, after a question if there is one.
function errand(word, path, which, question) {
  const button = el("button", "needs-token", word);
  button.type = "button";
  button.addEventListener("click", async () => {
    if (question && !confirm(question())) return;
    button.disabled = true;
    setText($("outcome"), word + " ...");
    try {
      setText($("outcome"), await change(path, which));
    } catch (error) {
      setText($("outcome"), shown(String(error.message || error)));
    }
    button.disabled = false;
    lettersAsked = 0;
    soon();
  });
  return button;
}

function unlock(typed) {
  token = typed;
  document.body.classList.toggle("unlocked", token !== "");
}

// --- dead letters

const letters = new Map();
let lettersKnown = null; // how many there were when they were asked for
let lettersAsked = 0; // and when

function showLetters(dead) {
  const ids = new Set(dead.map((letter) => letter.id));
  for (const id of [...letters.keys()]) {
    if (!ids.has(id)) {
      letters.get(id).remove();
      letters.delete(id);
    }
  }
  // Each stays where it is while others come: nobody presses the wrong button.
  for (const letter of dead.filter((one) => !letters.has(one.id))) {
    const line = el("li", "letter",
      el("span", "", el("strong", "", shown(letter.endpoint)), " " + shown(letter.reason), " ",
        el("span", "quiet", letter.sample ? shown(letter.sample) : "")),
      el("span", "pager", errand("Send again", "/api/dead/requeue", { ids: [letter.id] }),
        errand("Discard", "/api/dead/discard", { ids: [letter.id] }, () => "Discard this letter for good?")));
    letters.set(letter.id, line);
    $("letters").append(line);
  }
}

async function turnLetters(known) {
  $("dead").hidden = known === 0;
  const stale = Date.now() - lettersAsked > LETTERS_MS;
  if (known === 0) showLetters([]);
  else if (known !== lettersKnown || stale) {
    lettersAsked = Date.now();
    showLetters((await ask("/api/dead")).dead);
  }
  lettersKnown = known;
}

$("dead-all").append(
  errand("Send all again", "/api/dead/requeue", "all"),
  errand("Discard all", "/api/dead/discard", "all", () => "Discard all " + count(lettersKnown) + " dead letters for good?"));
$("errands").append(errand("Reload the configuration", "/api/reload", null));
$("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  unlock($("token").value.trim());
  $("token").value = "";
});

// --- asking

let answered = null; // when the last answer came
let version = null; // of the gateway that served this page
let timer = null;
let asking = false;
let asks = 0;
let hurried = false; // somebody has asked for something else meanwhile

// What is no more, as after a change of the configuration, is null.
async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  const told = await answer.json();
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(told.error || "HTTP " + answer.status);
  return told;
}

function silent(error) {
  const since = answered === null ? "" : " since " + new Date(answered).toLocaleTimeString()
    + " (" + duration((Date.now() - answered) / 1000) + ")";
  setText($("silent"), "No answer" + since + ": " + shown(String(error.message || error)) + ". It is asked again.");
  $("silent").hidden = false;
  $("main").classList.add("stale");
}

// Nothing is known of the time in which nobody was asked: the lines are interrupted.
function interrupt() {
  backlog.add(null);
  for (const { series } of looks.values()) for (const one of series.values()) one.add(null);
}

async function turn() {
  if (asking) return;
  asking = true;
  hurried = false;
  clearTimeout(timer);
  try {
    const status = await ask("/api/status");
    if (version !== null && version !== status.version) location.reload();
    version = status.version;
    if (answered !== null && Date.now() - answered > 5 * EVERY_MS) interrupt();
    showStatus(status);
    if (asks % 15 === 0) $("changes").hidden = !(await ask("/api/changes")).possible;
    asks += 1;
    await turnLetters(status.dead_letters);
    const question = endpointsQuestion();
    const endpoints = await ask(question);
    if (endpoints && question === endpointsQuestion()) showEndpoints(endpoints);
    for (const name of [...looks.keys()]) showLook(name, await ask("/api/latest/" + encodeURIComponent(name)));
    answered = Date.now();
    $("silent").hidden = true;
    $("main").classList.remove("stale");
  } catch (error) {
    silent(error);
  }
  asking = false;
  // Nobody looks: nobody is asked.
  if (!document.hidden) timer = setTimeout(turn, hurried ? 50 : EVERY_MS);
}

function soon() {
  hurried = true;
  clearTimeout(timer);
  timer = setTimeout(turn, 50);
}

$("filter").addEventListener("input", () => { trail = [""]; soon(); });
$("before").addEventListener("click", () => { if (trail.length > 1) trail.pop(); soon(); });
$("after").addEventListener("click", () => {
  const last = [...$("rows").children].pop();
  const name = [...rows.entries()].find(([, made]) => made.row === last);
  if (name) trail.push(name[0]);
  soon();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
turn();
