// SPDX-License-Identifier: Apache-2.0
// What the views of the page of nopspan convert --to html are made of. convert/page.h describes the data.
"use strict";

const byId = (id) => document.getElementById(id);
// An element with a text, which is never read as HTML, and children.
function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  made.append(...children);
  return made;
}
// Control characters and marks that change the direction of text become visible.
const visible = (text) => text.replace(/[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
const clamp = (x, low, high) => Math.max(low, Math.min(x, high));
const kPalette = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7"];
const kEnds = ["finished", "late", "evicted", "partial", "unfinished"];
const kSpan = 0, kEvent = 1, kRetry = 2;

// ---- Data

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; ++i) bytes[i] = text.charCodeAt(i);
  return bytes;
}
async function unzipped(node) {
  return new Response(new Blob([bytesOf(node.textContent)]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}
// Integers that a number cannot hold stay texts, in browsers that give a reviver the source (2023 or later).
const exact = (key, value, context) => (typeof value === "number" && !Number.isSafeInteger(value) && context && /^-?\d+$/.test(context.source) ? context.source : value);
const jsonOf = async (node, change) => JSON.parse(new TextDecoder().decode(await unzipped(node)), change);

// The columns of a block, by name.
async function readBlock(node) {
  const bytes = await unzipped(node), size = new DataView(bytes).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, size)));
  const types = { f64: Float64Array, u32: Uint32Array, i32: Int32Array, u8: Uint8Array };
  const block = { kind: head.kind, texts: head.texts, numbers: {} };
  let at = Math.ceil((4 + size) / 8) * 8;
  for (const [name, type, count] of head.columns) {
    block[name] = new types[type](bytes, at, count);
    at = Math.ceil((at + block[name].byteLength) / 8) * 8;
  }
  return block;
}

// One array of the arrays of all blocks.
function joined(blocks, name, Type) {
  const all = new Type(blocks.reduce((sum, block) => sum + block[name].length, 0));
  blocks.reduce((at, block) => { all.set(block[name], at); return at + block[name].length; }, 0);
  return all;
}

// The texts of all blocks, each once. Sets the numbers that they have here.
function tableOf(blocks, name) {
  const known = new Map();
  for (const block of blocks) {
    block.numbers[name] = Uint32Array.from(block.texts[name], (text) => {
      if (!known.has(text)) known.set(text, known.size);
      return known.get(text);
    });
  }
  return [...known.keys()];
}

const data = {};
async function load() {
  const blocks = [], details = [...document.querySelectorAll("script.details")];
  for (const node of document.querySelectorAll("script.columns")) {
    const block = await readBlock(node);
    node.textContent = "";
    if (block.kind === "requests") block.details = details.shift();
    blocks.push(block);
  }
  use(blocks, await jsonOf(document.querySelector("script.head")));
}
// What the views show from now on.
function use(blocks, head) {
  Object.assign(data, structuredClone(head));
  for (const file of data.files) for (const key of ["name", "remark", "losses"]) file[key] = visible(file[key]);
  data.stalls = data.files.flatMap((file) => file.stalls.map((stall) => ({ ...stall, stalled: visible(stall.stalled), by: visible(stall.by) })));
  data.blocks = blocks.filter((block) => block.kind === "requests");
  data.details = data.blocks.map((block) => block.details);
  data.steps = blocks.filter((block) => block.kind === "steps");
  const objectOf = (text) => JSON.parse(text.startsWith("{") ? text : "{}", (key, value) => (typeof value === "string" ? visible(value) : value));
  for (const name of ["names", "tenants", "models"]) data[name] = tableOf(data.blocks, name).map((text) => visible(text).replace(/^\ufffd(?=\(others\)$)/, ""));
  data.processes = tableOf(data.blocks, "processes").map(objectOf);
  for (const name of ["engines", "gauges"]) data[name] = tableOf(data.steps, name).map(objectOf);
  readRequests();
  readSteps();
}

// ---- Live: lines of nopspan serve (serve/live_frames.h), and the blocks among them that there is room for.

const isLive = "live" in document.body.dataset;
const kMostSpans = 300000, kMostText = 200e6, kMostBlocks = 10000;
const nothing = { isNew: true, next: 0, blocks: [], spans: 0, text: 0, requests: 0, isMissing: false, isShortened: false, head: undefined, pending: undefined, rates: undefined, open: undefined };
const live = { ...nothing, blocks: [], session: "", problem: "" };
const sizeOf = (block) => (block.kind === "requests" ? block.span_start.length : block.step_start.length + block.member_key.length + block.gauge.length);
const textOf = (block) => (block.details ? block.details.textContent.length : 0);
function keep(block) {
  live.blocks.push(block);
  live.spans += sizeOf(block);
  live.text += textOf(block);
  if (block.kind === "requests") live.requests += block.request_start.length;
  while (live.blocks.length > 1 && (live.spans > kMostSpans || live.text > kMostText || live.blocks.length > kMostBlocks)) {
    const old = live.blocks.shift();
    live.spans -= sizeOf(old);
    live.text -= textOf(old);
    live.isShortened = true;
  }
}
async function takeLine(line) {
  const [kind, number] = line.split(" ", 2), text = line.slice(kind.length + number.length + 2);
  if (kind === "session") Object.assign(live, nothing, { blocks: [], session: text });
  else if (kind === "missed") Object.assign(live, { isMissing: true, pending: undefined });
  else if (kind === "columns") {
    const block = await readBlock({ textContent: text });
    live.pending = block.kind === "requests" ? block : undefined;
    if (block.kind === "steps") keep(block);
  } else if (kind === "details") {
    if (live.pending) keep(Object.assign(live.pending, { details: { textContent: text } }));
    live.pending = undefined;
  } else live[kind] = JSON.parse(text);
  live.next = Math.max(live.next, Number(number) + 1);
}
// Follows for ever, also over restarts of nopspan, but not in a hidden tab: browsers open few connections to a server.
// Calls changed() after lines have arrived, or did not.
async function follow(changed) {
  for (;;) {
    while (document.hidden) await new Promise((resolve) => { document.addEventListener("visibilitychange", resolve, { once: true }); });
    let reader;
    const leaving = new AbortController(), leave = () => { if (document.hidden) leaving.abort(); };
    document.addEventListener("visibilitychange", leave);
    try {
      const answer = await fetch("/live?session=" + live.session + "&next=" + live.next, { signal: leaving.signal });
      reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      if (!answer.ok) throw new Error((await reader.read()).value);
      let rest = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        rest += part.value;
        if (!part.value.includes("\n")) continue;
        const lines = rest.split("\n");
        rest = lines.pop();
        for (const line of lines) await takeLine(line);
        live.problem = "";
        setTimeout(changed);
      }
      live.problem = "nopspan serve has ended.";
    } catch (error) {
      if (reader) reader.cancel().catch(() => {});
      if (!leaving.signal.aborted) live.problem = "nopspan serve does not answer: " + error.message;
    }
    document.removeEventListener("visibilitychange", leave);
    if (leaving.signal.aborted) continue;
    setTimeout(changed);
    await new Promise((resolve) => { setTimeout(resolve, 1000); });
  }
}

const kRequestColumns = { start: Float64Array, duration: Float64Array, input: Float64Array, output: Float64Array,
  name: Uint32Array, tenant: Uint32Array, model: Uint32Array, spans: Uint32Array, errors: Uint32Array,
  over_limit: Uint32Array, end: Uint8Array, id_size: Uint8Array };
function readRequests() {
  for (const name in kRequestColumns) data["request_" + name] = joined(data.blocks, "request_" + name, kRequestColumns[name]);
  const count = data.count = data.request_start.length;
  for (const name of ["block", "first", "file", "of_block", "id"]) data["request_" + name] = new Uint32Array(count + 1);
  data.keyOf = new Map();  // the request of a key, which is of a file
  let i = 0;
  data.blocks.forEach((block, number) => {
    let first = 0;
    const begin = i, firsts = [];
    for (let k = 0; k < block.request_start.length; ++k, ++i) {
      data.request_block[i] = number;
      data.request_of_block[i] = k;
      data.request_first[i] = first;
      for (const name of ["name", "tenant", "model"]) data["request_" + name][i] = block.numbers[name + "s"][data["request_" + name][i]];
      data.request_file[i] = block.file[0];
      data.request_id[i + 1] = data.request_id[i] + data.request_id_size[i];
      firsts.push(first);
      first += data.request_spans[i];
    }
    let request = 0;
    block.key.forEach((key, k) => {
      while (request + 1 < firsts.length && firsts[request + 1] <= block.key_span[k]) ++request;
      data.keyOf.set(block.file[0] + "/" + key, { request: begin + request, span: block.key_span[k] });
    });
  });
  // One character for each byte, so that a place in it is a place in the column.
  data.ids = "";
  const bytes = joined(data.blocks, "id", Uint8Array);
  for (i = 0; i < bytes.length; i += 8192) data.ids += String.fromCharCode(...bytes.subarray(i, i + 8192));
  data.first_ns = Infinity;
  data.last_ns = -Infinity;
  for (i = 0; i < count; ++i) {
    data.first_ns = Math.min(data.first_ns, data.request_start[i]);
    data.last_ns = Math.max(data.last_ns, data.request_start[i] + data.request_duration[i]);
  }
  if (count === 0) Object.assign(data, { first_ns: 0, last_ns: 1 });
}
const requestId = (i) => {
  const text = data.ids.slice(data.request_id[i], data.request_id[i + 1]);
  return visible(new TextDecoder().decode(Uint8Array.from(text, (c) => c.charCodeAt(0))));
};
const processText = ({ comm, pid, host } = {}) => (comm === undefined ? "one of many processes" : visible(comm + " " + pid + (host ? " on " + host : "")));

// Requests of a block, as `nopspan trace --json` prints them.
const details = (block, change) => jsonOf(data.details[block], change);

// ---- Texts

function durationText(ns) {  // three digits at least
  if (ns < 0) return "-" + durationText(-ns);
  for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["µs", 1e3]]) {
    if (ns >= size) return (ns / size).toFixed(ns >= 100 * size ? 0 : ns >= 10 * size ? 1 : 2) + " " + unit;
  }
  return Math.round(ns) + " ns";
}
const unixNs = (ns) => BigInt(data.begin_unix_ns) + BigInt(Math.round(ns));
// With so many digits after the second.
function timeText(ns, digits = 3) {
  const all = unixNs(ns), time = new Date(Number(all / 1000000n)), two = (n) => String(n).padStart(2, "0");
  const part = String(all % 1000000000n).padStart(9, "0").slice(0, digits);
  return two(time.getHours()) + ":" + two(time.getMinutes()) + ":" + two(time.getSeconds()) + (digits > 0 ? "." + part : "");
}
// With the date, as filters take it.
function dateText(ns) {
  const time = new Date(Number(unixNs(ns) / 1000000n));
  return new Date(time.getTime() - time.getTimezoneOffset() * 60000).toISOString().slice(0, 23);
}
const numberText = (n) => n.toLocaleString("en");
const counted = (n, one, many) => numberText(n) + " " + (n === 1 ? one : many || one + "s");

// ---- Order: of numbers, ascending and stable, in linear time.

function orderOf(values) {
  const count = values.length;
  let least = Infinity;
  for (let i = 0; i < count; ++i) least = Math.min(least, values[i]);
  const keys = new Float64Array(count);
  for (let i = 0; i < count; ++i) keys[i] = values[i] - least;  // the bits of numbers from 0 on are in their order
  const digits = new Uint16Array(keys.buffer);
  let from = new Uint32Array(count), to = new Uint32Array(count);
  for (let i = 0; i < count; ++i) from[i] = i;
  for (let digit = 0; digit < 4; ++digit) {
    const places = new Uint32Array(65537);
    for (let i = 0; i < count; ++i) ++places[digits[4 * i + digit] + 1];
    if (places.includes(count)) continue;  // all have the same
    for (let k = 0; k < 65536; ++k) places[k + 1] += places[k];
    for (let i = 0; i < count; ++i) to[places[digits[4 * from[i] + digit]]++] = from[i];
    [from, to] = [to, from];
  }
  return from;
}
const ranks = (texts) => {
  const sorted = texts.map((text, i) => [text, i]).sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  const rank = new Float64Array(texts.length);
  sorted.forEach(([, i], k) => { rank[i] = k; });
  return rank;
};

// ---- Filters: words, all of which must match.

const kUnits = { ns: 1, us: 1e3, "µs": 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };
function parsedDuration(text) {
  const [, amount, unit] = text.match(/^([\d.]+)(ns|us|µs|ms|s|m|h|)$/) || [];
  return amount === undefined ? NaN : amount * kUnits[unit || "s"];
}
const sinceBegin = (unix_ms) => Number(BigInt(Math.round(unix_ms * 1000)) * 1000n - BigInt(data.begin_unix_ns));
// A date and time, or a time of day: the first one within the recording, or the nearest to it.
function parsedTime(text) {
  if (/^\d{4}-\d\d-\d\dt\d\d:\d\d(:\d\d([.]\d+)?)?$/.test(text)) return sinceBegin(Date.parse(text.toUpperCase()));
  const [hours, minutes, seconds] = text.split(":").map(Number).concat(0, 0);
  if (!/^\d\d?(:\d\d(:\d\d([.]\d+)?)?)?$/.test(text) || hours > 23 || minutes > 59 || seconds >= 60) return NaN;
  const [first, last] = [data.first_ns, data.last_ns].map((ns) => Number(unixNs(ns) / 1000000n)), kDay = 86400e3;
  const far = (time) => Math.max(first - 1000 - time, time - last, 0);
  let best = new Date(first - kDay).setHours(hours, minutes, 0, seconds * 1000);
  for (const day of [first, first + kDay]) {
    const time = new Date(day).setHours(hours, minutes, 0, seconds * 1000);
    if (far(time) < far(best)) best = time;
  }
  return sinceBegin(best);
}
// A part of the text, or all of it in quotation marks.
const matches = (text, value) => (/^".*"$/.test(value) ? text.toLowerCase() === value.slice(1, -1) : text.toLowerCase().includes(value));
const inTexts = (texts, column, value) => {
  const wanted = Uint8Array.from(texts, (text) => (matches(text, value) ? 1 : 0));
  return (i) => wanted[column[i]] === 1;
};
// Requests with a span in one of these processes.
function inProcesses(test) {
  const wanted = Uint8Array.from(data.processes, (process) => (test(process) ? 1 : 0)), found = new Uint8Array(data.count);
  for (let i = 0; i < data.count; ++i) {
    const block = data.blocks[data.request_block[i]], first = data.request_first[i];
    for (let k = first; k < first + data.request_spans[i] && found[i] === 0; ++k) found[i] = wanted[block.numbers.processes[block.span_process[k]]];
  }
  return (i) => found[i] === 1;
}
const ofProcess = (field, value) => inProcesses((process) => matches(String(process[field] ?? ""), value));
function inIds(value) {
  const wanted = new Uint8Array(data.count), text = String.fromCharCode(...new TextEncoder().encode(value));
  for (let at = data.ids.indexOf(text), i = 0; at >= 0 && text; at = data.ids.indexOf(text, at + 1)) {
    while (data.request_id[i + 1] <= at) ++i;
    if (at + text.length <= data.request_id[i + 1]) wanted[i] = 1;
  }
  return (i) => wanted[i] === 1;
}
const kAttribute = /^([^=]+)=(.+)$/;
// Requests that have an attribute, as "key=value", or whose process has it: a bit for each. Filled block by block.
const searched = new Map();
function withAttribute(word) {
  if (!searched.has(word)) {
    const found = { marks: new Uint8Array(data.count), blocks: 0 };
    searched.set(word, found);
    searchDetails(word, found);
  }
  const { marks } = searched.get(word), [, key, value] = word.match(kAttribute);
  const has = inProcesses(({ resource = {} }) => Object.hasOwn(resource, key) && matches(resource[key], value.toLowerCase()));
  return (i) => marks[i] === 1 || has(i);
}
async function searchDetails(word, found) {
  const [, key, value] = word.match(kAttribute);
  const has = (object) => {
    const is = (of) => of !== undefined && Object.hasOwn(of, key) && String(of[key]).toLowerCase().includes(value.toLowerCase());
    return is(object.attributes) || is(object) || (object.events || []).some(has);
  };
  for (let block = 0, i = 0; block < data.details.length; ++block) {
    if (!state.filter.includes(word) && !state.a.includes(word) && !state.b.includes(word)) { searched.delete(word); return; }
    const requests = await details(block, /\d{16}/.test(value) ? exact : undefined);
    if (searched.get(word) !== found) return;
    for (const request of requests) {
      if (request.spans.some(has) || (request.events || []).some(has)) found.marks[i] = 1;
      ++i;
    }
    found.blocks = block + 1;
    if (block % 8 === 7 || found.blocks === data.details.length) view.refresh();
  }
}
// {word, key, rest, value} of each word: key is "" without a colon, and value is rest in small letters.
const filterWords = (text) => (text.match(/(?:[^\s"]|"[^"]*"?)+/g) || []).map((word) => {
  const [, key, rest] = word.match(/^([A-Za-z_-]+):(.*)$/) || [null, "", word];
  return { word, key: key.toLowerCase(), rest, value: rest.toLowerCase() };
});
// {test} or {problem}
function parsedFilter(text) {
  const tests = [];
  let problem = "";
  for (const { word, key, rest, value } of filterWords(text)) {
    const number = (parsed, example) => { if (Number.isNaN(parsed)) problem = word + " is not understood. Write " + example + "."; return parsed; };
    const known = {
      name: () => inTexts(data.names, data.request_name, value),
      tenant: () => inTexts(data.tenants, data.request_tenant, value),
      model: () => inTexts(data.models, data.request_model, value),
      service: () => ofProcess("service", value),
      version: () => ofProcess("version", value),
      host: () => ofProcess("host", value),
      file: () => inTexts(data.files.map((file) => file.name), data.request_file, value),
      id: () => inIds(rest),
      end: () => inTexts(kEnds, data.request_end, value),
      slower: () => { const least = number(parsedDuration(value), "slower:2s"); return (i) => data.request_duration[i] >= least; },
      faster: () => { const most = number(parsedDuration(value), "faster:20ms"); return (i) => data.request_duration[i] <= most; },
      after: () => { const first = number(parsedTime(value), "after:14:05:00"); return (i) => data.request_start[i] >= first; },
      before: () => { const last = number(parsedTime(value), "before:14:05:00"); return (i) => data.request_start[i] < last; },
    };
    if (key && !Object.hasOwn(known, key)) problem = "There is no filter " + key + ":. There are " + Object.keys(known).map((one) => one + ":").join(" ") + ".";
    else if (key) tests.push(known[key]());
    else if (word === "error") tests.push((i) => data.request_errors[i] > 0);
    else if (kAttribute.test(word)) tests.push(withAttribute(word));
    else {
      const any = [inTexts(data.names, data.request_name, value), inTexts(data.tenants, data.request_tenant, value), inTexts(data.models, data.request_model, value), inIds(rest)];
      tests.push((i) => any.some((test) => test(i)));
    }
  }
  return { problem, test: (i) => tests.every((test) => test(i)) };
}
// How much of the details has not been searched yet.
function searchText() {
  const open = [...searched.values()].filter((found) => found.blocks < data.details.length);
  return open.length === 0 ? "" : " (searching attributes: " + Math.round(100 * open[0].blocks / data.details.length) + " %)";
}

// ---- State: in the URL's fragment, so that a link shows the same.

const defaults = { view: isLive && location.pathname === "/perfetto" ? "perfetto" : isLive ? "live" : "requests", request: "", filter: "", sort: "-duration", from: 0, to: 0, span: -1, color: "error", engine: 0, step: -1, a: "", b: "" };
const state = { ...defaults };
function readState() {
  Object.assign(state, defaults);
  const [view, query] = location.hash.slice(1).split("?");
  if (Object.hasOwn(kViews, view)) state.view = view;
  for (const [key, value] of new URLSearchParams(query || "")) {
    if (Object.hasOwn(defaults, key) && key !== "view") state[key] = typeof defaults[key] === "number" ? Math.round(Number(value)) || 0 : value;
  }
}
function hashOf(changes) {
  const all = { ...state, ...changes }, query = new URLSearchParams();
  for (const key in defaults) if (key !== "view" && all[key] !== defaults[key]) query.set(key, all[key]);
  return "#" + all.view + (query.toString() && "?" + query);
}
// Changes what is shown, and after a moment the address: browsers limit how often it may change.
let addressTimer = 0;
function change(changes) {
  Object.assign(state, changes);
  showViews();
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => history.replaceState(null, "", hashOf({})), 200);
}
let visits = 0;  // of this page, which the browser can go back from
function goTo(hash) {
  clearTimeout(addressTimer);
  ++visits;
  // The way back leads to the row of this request.
  state.request = new URLSearchParams(hash.split("?")[1]).get("request") || state.request;
  history.replaceState(null, "", hashOf({}));
  history.pushState(null, "", hash);
  show();
}
const go = (changes) => goTo(hashOf(changes));

// ---- Canvases

const colors = new Map();
function color(name) {
  if (!colors.has(name)) colors.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return colors.get(name);
}
function rgba(name) {  // as a number of an ImageData, whose bytes are red, green, blue, alpha
  const [, red, green, blue] = color(name).match(/^#(..)(..)(..)$/);
  return (0xff000000 | parseInt(blue, 16) << 16 | parseInt(green, 16) << 8 | parseInt(red, 16)) >>> 0;
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { colors.clear(); view.redraw(); });

// Draws when it is asked to, once a frame, in CSS pixels.
class Canvas {
  constructor(parent, label, draw) {
    this.node = element("canvas", { tabindex: "0", role: "img", "aria-label": label });
    parent.append(this.node);
    this.draw = draw;
    this.isAsked = false;
    new ResizeObserver(() => this.ask()).observe(this.node);
  }
  ask() {
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => {
      this.isAsked = false;
      const { clientWidth: width, clientHeight: height } = this.node, ratio = devicePixelRatio || 1;
      if (!width || !height || !this.node.isConnected) return;
      if (this.node.width !== Math.round(width * ratio) || this.node.height !== Math.round(height * ratio)) {
        this.node.width = Math.round(width * ratio);
        this.node.height = Math.round(height * ratio);
      }
      const context = this.node.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      context.font = "12px system-ui, sans-serif";
      context.textBaseline = "middle";
      this.draw(context, width, height, ratio);
    });
  }
}

// A range of time on canvases, which wheel, dragging and WASD change.
class TimeAxis {
  constructor(least, most, changed) {
    this.least = least;
    this.most = Math.max(most, least + 1);
    this.changed = changed;
    this.narrowest = Math.max(20, 1e-13 * Math.max(Math.abs(least), Math.abs(this.most)));  // numbers have 16 digits
    this.gutter = 0;  // pixels to the left of the axis
    this.isAll = !(state.to > state.from);
    this.from = this.isAll ? this.least : clamp(state.from, this.least, this.most);
    this.to = this.isAll ? this.most : clamp(state.to, this.from, this.most);
    if (this.to - this.from < this.narrowest) Object.assign(this, { from: this.least, to: this.most });
  }
  x(ns, width) { return (ns - this.from) / (this.to - this.from) * width; }
  ns(x, width) { return this.from + x / width * (this.to - this.from); }
  set(from, to) {
    const width = clamp(to - from, Math.min(this.narrowest, this.most - this.least), this.most - this.least);
    this.from = clamp(from, this.least, this.most - width);
    this.to = this.from + width;
    this.isAll = this.from === this.least && this.to === this.most;
    change(this.isAll ? { from: 0, to: 0 } : { from: Math.round(this.from), to: Math.round(this.to) });
    this.changed();
  }
  zoom(factor, part) {
    const width = this.to - this.from, wanted = clamp(width * factor, Math.min(this.narrowest, this.most - this.least), this.most - this.least);
    this.set(this.from + (width - wanted) * part, this.from + (width - wanted) * part + wanted);
  }
  pan(part) {
    const by = clamp((this.to - this.from) * part, this.least - this.from, this.most - this.to);
    this.set(this.from + by, this.to + by);
  }
  // `scroll(pixels)` receives the wheel without the control key, if it is given.
  listen(canvas, scroll) {
    const { node } = canvas;
    node.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan((event.deltaX || event.deltaY) / node.clientWidth);
      else if (scroll && !event.ctrlKey) scroll(event.deltaY);
      else this.zoom(Math.pow(1.0015, event.deltaY), clamp((event.offsetX - this.gutter) / (node.clientWidth - this.gutter), 0, 1));
    }, { passive: false });
    let from = null;
    node.addEventListener("pointerdown", (event) => { from = event.offsetX; this.hasMoved = false; });
    node.addEventListener("pointermove", (event) => {
      if (from === null || !(event.buttons & 1)) return;
      if (!this.hasMoved && Math.abs(event.offsetX - from) < 4) return;
      if (!this.hasMoved) node.setPointerCapture(event.pointerId);
      this.hasMoved = true;
      this.pan((from - event.offsetX) / (node.clientWidth - this.gutter));
      from = event.offsetX;
    });
    node.addEventListener("pointerup", () => { from = null; });
    node.addEventListener("pointermove", (event) => { this.pointer = clamp((event.offsetX - this.gutter) / (node.clientWidth - this.gutter), 0, 1); });
    node.addEventListener("pointerleave", () => { this.pointer = undefined; });
  }
  key(event) {
    const act = { w: () => this.zoom(0.7, this.pointer ?? 0.5), s: () => this.zoom(1 / 0.7, this.pointer ?? 0.5), a: () => this.pan(-0.2), d: () => this.pan(0.2), 0: () => this.set(this.least, this.most) }[event.key.toLowerCase()];
    if (act) act();
    return act !== undefined;
  }
  // Lines and texts of the time, at the top; with the time of day, or since `origin`.
  draw(context, width, height, origin) {
    const room = origin === undefined ? 130 : 80, span = this.to - this.from;
    let step = Math.pow(10, Math.ceil(Math.log10(span / Math.max(1, width / room))));
    for (const part of [5, 2]) if (span / (step / part) <= width / room) { step /= part; break; }
    const zero = origin === undefined ? -Number(BigInt(data.begin_unix_ns) % 86400000000000n) : origin, digits = step >= 1e9 ? 0 : step >= 1e6 ? 3 : step >= 1e3 ? 6 : 9;
    const since = (ns) => { const [unit, size] = [["s", 1e9], ["ms", 1e6], ["µs", 1e3], ["ns", 1]].find(([, one]) => step >= one) || ["ns", 1]; return numberText(Math.round(ns / size)) + " " + unit; };
    context.strokeStyle = color("--line");
    context.fillStyle = color("--dim");
    const first = Math.ceil((this.from - zero) / step);
    for (let k = 0; k < 100 && (first + k) * step + zero <= this.to; ++k) {
      const at = (first + k) * step;
      const x = Math.round(this.x(at + zero, width)) + 0.5;
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, height);
      context.stroke();
      context.fillText(origin === undefined ? timeText(at + zero, digits) : since(at), x + 3, 8);
    }
  }
}
// A text in a box of so many pixels, or as much of it as there is room for.
function fitted(context, text, width) {
  if (width < 14) return "";
  const most = Math.floor(width / 6);
  if (text.length > most) text = text.slice(0, Math.max(1, most - 1)) + "…";
  while (text.length > 1 && context.measureText(text).width > width) text = text.slice(0, -2) + "…";
  return text;
}

// A table of which only the visible rows exist. columns: {title, number, text(row), node(row), key}
class Table {
  static kRow = 22;
  constructor(parent, columns, { label, sort, opened }) {
    Object.assign(this, { columns, opened, rows: [], picked: 0 });
    this.scroll = element("div", { class: "scroll", tabindex: "0" });
    this.head = element("tr");
    for (const column of columns) {
      const title = sort ? element("button", { type: "button" }, column.title) : column.title;
      const cell = element("th", { scope: "col", class: column.number ? "number" : "" }, title);
      if (sort) cell.addEventListener("click", () => sort(column.key));
      this.head.append(cell);
    }
    this.body = element("tbody");
    this.above = element("tr", { "aria-hidden": "true" }, element("td", { class: "gap" }));
    this.below = this.above.cloneNode(true);
    this.table = element("table", { "aria-label": label }, element("thead", {}, this.head), this.body);
    this.scroll.append(this.table);
    parent.append(this.scroll);
    this.isAsked = false;
    this.scroll.addEventListener("scroll", () => this.ask());
    new ResizeObserver(() => this.ask()).observe(this.scroll);
  }
  // `picked` is a place in the rows.
  show(rows, sorted, picked = 0) {
    this.rows = rows;
    this.picked = picked;
    this.scroll.scrollTop = Math.max(0, (picked - 8) * Table.kRow);
    [...this.head.children].forEach((cell, k) => {
      const { key } = this.columns[k];
      cell.setAttribute("aria-sort", sorted === key ? "ascending" : sorted === "-" + key ? "descending" : "none");
    });
    this.ask();
  }
  // Other rows, at the same place.
  update(rows) {
    this.rows = rows;
    this.picked = clamp(this.picked, 0, Math.max(0, rows.length - 1));
    this.ask();
  }
  ask() {
    if (this.isAsked) return;
    this.isAsked = true;
    requestAnimationFrame(() => { this.isAsked = false; this.draw(); });
  }
  draw() {
    if (!this.scroll.isConnected) return;  // its rows may be of data that were replaced
    const first = clamp(Math.floor(this.scroll.scrollTop / Table.kRow) - 5, 0, this.rows.length);
    const last = Math.min(this.rows.length, first + Math.ceil(this.scroll.clientHeight / Table.kRow) + 10);
    this.table.setAttribute("aria-rowcount", this.rows.length + 1);
    const made = [];
    for (let k = first; k < last; ++k) {
      const row = element("tr", { "aria-rowindex": k + 2, class: k === this.picked ? "picked" : "" });
      for (const column of this.columns) {
        row.append(element("td", { class: (column.number ? "number " : "") + (column.style ? column.style(this.rows[k]) : "") },
          column.node ? column.node(this.rows[k]) : String(column.text(this.rows[k]))));
      }
      row.addEventListener("click", () => { this.picked = k; this.ask(); });
      row.addEventListener("dblclick", () => this.opened && this.opened(this.rows[k]));
      made.push(row);
    }
    // Browsers do not draw elements of more than some millions of pixels.
    this.above.firstChild.style.height = first * Table.kRow + "px";
    this.below.firstChild.style.height = (this.rows.length - last) * Table.kRow + "px";
    this.body.replaceChildren(this.above, ...made, this.below);
  }
  key(event) {
    if (event.key === "Enter" && this.opened && this.rows.length > 0) { this.opened(this.rows[this.picked]); return true; }
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -this.rows.length, End: this.rows.length }[event.key];
    if (step === undefined) return false;
    this.picked = clamp(this.picked + step, 0, Math.max(0, this.rows.length - 1));
    const top = this.picked * Table.kRow, room = this.scroll.clientHeight - 2 * Table.kRow;
    this.scroll.scrollTop = clamp(this.scroll.scrollTop, top - room, top);
    this.ask();
    return true;
  }
}
