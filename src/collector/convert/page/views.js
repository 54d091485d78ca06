// SPDX-License-Identifier: Apache-2.0
// The views of the page, and what starts it. They use what base.js defines.
"use strict";

// ---- Requests: when they began and how long they took; a histogram; a table.

const orders = new Map();  // of all requests, by what the table is sorted by
function orderBy(key) {
  if (!orders.has(key)) {
    const column = kRequestTable.find((one) => one.key === key), values = new Float64Array(data.count);
    if (column.texts) {
      const rank = ranks(column.texts());
      for (let i = 0; i < data.count; ++i) values[i] = rank[column.value(i)];
    } else {
      for (let i = 0; i < data.count; ++i) values[i] = column.value(i);
    }
    orders.set(key, orderOf(values));
  }
  return orders.get(key);
}
// The requests that pass, in an order.
function selected(test, sort) {
  const order = orderBy(sort.replace("-", "")), found = new Uint32Array(order.length);
  let size = 0;
  for (let k = 0; k < order.length; ++k) if (test(order[k])) found[size++] = order[k];
  return sort.startsWith("-") ? found.subarray(0, size).reverse() : found.subarray(0, size);
}
const quantile = (sorted, q) => (sorted.length === 0 ? NaN : sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)]);  // nearest rank
const isLate = (i) => kEnds[data.request_end[i]] === "late";  // a part of a request that is counted already

const kRequestTable = [
  { key: "start", title: "start", number: true, value: (i) => data.request_start[i], text: (i) => timeText(data.request_start[i]) },
  { key: "duration", title: "duration", number: true, value: (i) => data.request_duration[i], text: (i) => durationText(data.request_duration[i]) },
  { key: "name", title: "name", value: (i) => data.request_name[i], texts: () => data.names },
  { key: "tenant", title: "tenant", value: (i) => data.request_tenant[i], texts: () => data.tenants },
  { key: "model", title: "model", value: (i) => data.request_model[i], texts: () => data.models },
  { key: "spans", title: "spans", number: true, value: (i) => data.request_spans[i] },
  { key: "errors", title: "failed spans", number: true, value: (i) => data.request_errors[i], style: (i) => (data.request_errors[i] > 0 ? "error" : "") },
  { key: "input", title: "tokens in", number: true, value: (i) => data.request_input[i] },
  { key: "output", title: "tokens out", number: true, value: (i) => data.request_output[i] },
  { key: "end", title: "parts missing", value: (i) => data.request_end[i], texts: () => kEnds, text: (i) => missingText(i) },
  { key: "id", title: "request", value: (i) => i, texts: () => Array.from({ length: data.count }, (_, i) => requestId(i)),
    node: (i) => element("a", { href: hashOf({ view: "request", request: requestId(i), from: 0, to: 0, span: -1 }) }, requestId(i)) },
];
for (const column of kRequestTable) {
  column.text = column.text || ((i) => (column.texts ? column.texts()[column.value(i)] : numberText(column.value(i))));
}
function missingText(i) {
  const limit = data.request_over_limit[i] > 0 ? numberText(data.request_over_limit[i]) + " beyond --max-spans" : "";
  return [kEnds[data.request_end[i]], limit].filter((text) => text && text !== "finished").join(", ");
}

function colorOf(i) {
  if (state.color === "tenant") return kPalette[data.request_tenant[i] % kPalette.length];
  if (state.color === "model") return kPalette[data.request_model[i] % kPalette.length];
  return data.request_errors[i] > 0 ? "--error" : "--c0";
}
// The colours and what they mean.
function legend() {
  const texts = state.color === "tenant" ? data.tenants : state.color === "model" ? data.models : undefined;
  if (!texts) return [["--c0", "no failed span"], ["--error", "failed spans"]];
  const used = texts.slice(0, kPalette.length).map((text, i) => [kPalette[i], text || "none"]);
  return texts.length > kPalette.length ? [...used, ["--dim", "and others"]] : used;
}

function showRequests(main) {
  const left = element("div", { class: "grow" }), right = element("div", { class: "side" }), key = element("div", { class: "legend" });
  main.append(element("div", { class: "row plots" }, left, right), key);
  const logs = Float32Array.from(data.request_duration, (ns) => Math.log10(Math.max(ns, 1)));
  let shown = [], durations = [], low = 0, high = 1;
  const y = (log, height) => height - 4 - (log - low) / (high - low) * (height - 24);
  const axis = new TimeAxis(data.first_ns, data.last_ns, () => scatter.ask());
  const scatter = new Canvas(left, "Requests: start from left to right, duration upwards", (context, width, height, ratio) => {
    const pixels = context.createImageData(Math.round(width * ratio), Math.round(height * ratio)), { width: columns, height: rows } = pixels;
    const dots = new Uint32Array(pixels.data.buffer), size = Math.max(2, Math.round((shown.length < 5000 ? 4 : 2) * ratio));
    const numbers = new Map(kPalette.concat("--error").map((name) => [name, rgba(name)]));
    // Errors come last, so that nothing covers them.
    for (const isError of [false, true]) {
      for (let k = 0; k < shown.length; ++k) {
        const i = shown[k];
        if ((data.request_errors[i] > 0) !== isError) continue;
        const x = Math.round(axis.x(data.request_start[i], columns)), top = Math.round(y(logs[i], height) * ratio);
        if (x < 0 || x > columns - size || top < 0 || top > rows - size) continue;
        const dot = numbers.get(colorOf(i));
        for (let row = 0, at = top * columns + x; row < size; ++row, at += columns) dots.fill(dot, at, at + size);
      }
    }
    context.putImageData(pixels, 0, 0);
    context.globalCompositeOperation = "destination-over";
    if (shown.length > 0) axis.draw(context, width, height);
    const powers = Array.from({ length: Math.max(0, Math.floor(high) - Math.ceil(low) + 1) }, (_, k) => Math.ceil(low) + k);
    for (const power of powers) context.fillRect(0, Math.round(y(power, height)), width, 0.5);
    context.globalCompositeOperation = "source-over";
    for (const power of powers) boxedText(context, durationText(Math.pow(10, power)), 4, y(power, height) - 7);
  });
  const histogram = new Canvas(right, "Histogram and quantiles of the durations", (context, width, height) => {
    const bins = new Uint32Array(48);
    for (const i of shown) ++bins[clamp(Math.floor((logs[i] - low) / (high - low) * bins.length), 0, bins.length - 1)];
    const most = Math.max(1, ...bins), size = (height - 24) / bins.length;
    context.fillStyle = color("--c0");
    bins.forEach((count, bin) => { if (count > 0) context.fillRect(0, height - 4 - (bin + 1) * size, Math.max(1, count / most * (width - 90)), Math.max(size - 1, 1)); });
    context.fillStyle = color("--text");
    context.textAlign = "right";
    let above = -6;
    for (const [title, q] of [["max", 1], ["p99", 0.99], ["p90", 0.9], ["p50", 0.5]]) {
      if (durations.length === 0) break;
      above = Math.max(above + 14, Math.min(y(Math.log10(Math.max(quantile(durations, q), 1)), height), height - 50));
      context.fillText(title + " " + durationText(quantile(durations, q)), width - 6, above);
    }
    context.textAlign = "left";
  });
  const open = (i) => go({ view: "request", request: requestId(i), from: 0, to: 0, span: -1 });
  const table = new Table(main, kRequestTable, { label: "Requests", opened: open,
    sort: (name) => { change({ sort: (state.sort === "-" + name ? "" : "-") + name }); refresh(); } });
  axis.listen(scatter);
  scatter.node.addEventListener("click", (event) => {
    if (axis.hasMoved) return;
    const { clientWidth: width, clientHeight: height } = scatter.node;
    let best = -1, least = 400;
    for (const i of shown) {
      const x = axis.x(data.request_start[i], width) - event.offsetX, up = y(logs[i], height) - event.offsetY, far = x * x + up * up;
      if (far < least) { least = far; best = i; }
    }
    if (best >= 0) open(best);
  });
  function refresh() {
    const filter = parsedFilter(state.filter);
    byId("found").textContent = filter.problem;
    if (filter.problem) return;
    if (!kRequestTable.some((column) => column.key === state.sort.replace("-", ""))) state.sort = defaults.sort;
    shown = selected(filter.test, state.sort);
    durations = Float64Array.from(selected((i) => !isLate(i) && filter.test(i), "duration"), (i) => data.request_duration[i]);
    low = durations.length > 0 ? Math.log10(Math.max(1, durations[0])) - 0.05 : 0.1;
    high = durations.length > 0 ? Math.max(low + 0.5, Math.log10(Math.max(1, durations[durations.length - 1])) + 0.05) : 0.9;
    const late = shown.length - durations.length;
    byId("found").textContent = (shown.length === data.count ? "" : numberText(shown.length) + " of ") + counted(data.count - (shown.length === data.count ? late : 0), "request") +
      (late > 0 ? ", " + counted(late, "late part") : "") + searchText();
    const last = state.request ? shown.findIndex((i) => requestId(i) === state.request) : 0;
    table.show(shown, state.sort, Math.max(0, last));
    redraw();
  }
  function redraw() {
    key.replaceChildren("Colour (c): " + state.color + " ", ...legend().flatMap(([name, text]) => [swatch(name), text + " "]));
    scatter.ask();
    histogram.ask();
  }
  refresh();
  return { refresh, redraw, follows: () => axis.isAll && table.scroll.scrollTop === 0, key: (event) => {
    if (event.key === "c") {
      change({ color: { error: "tenant", tenant: "model" }[state.color] || "error" });
      redraw();
      return true;
    }
    return table.key(event) || axis.key(event);
  } };
}
// A text over something else.
function boxedText(context, text, x, y) {
  context.globalAlpha = 0.75;
  context.fillStyle = color("--back");
  context.fillRect(x - 2, y - 6, context.measureText(text).width + 4, 12);
  context.globalAlpha = 1;
  context.fillStyle = color("--text");
  context.fillText(text, x, y);
}
function swatch(name) {
  const made = element("span", { class: "swatch", "aria-hidden": "true" });
  made.style.background = color(name);
  return made;
}

// ---- Request: a row for each span, below its parent.

const kStatuses = ["", "error", "cancelled", "exception"];

const kContent = /^gen_ai\.((input|output)\.messages|system_instructions|prompt|completion|tool\.call\.(arguments|result)|tool\.definitions)$/;
// The parts of a request: late ones, and those of other recordings, have the same id. In the order of their start.
function partsOf(id) {
  const test = /^[ -\[\]-~]+$/.test(id) ? inIds(id) : () => true, parts = [];
  for (let i = 0; i < data.count; ++i) if (test(i) && requestId(i) === id) parts.push(i);
  return parts.sort((a, b) => data.request_start[a] - data.request_start[b]);
}
// The spans and events of the parts, each after its parent: {place, name, kind, start, duration, parent, depth, …}.
function spansOf(parts) {
  const spans = [];
  for (const part of parts) {
    const block = data.blocks[data.request_block[part]], first = data.request_first[part], before = spans.length;
    for (let k = 0; k < data.request_spans[part]; ++k) {
      const at = first + k, parent = block.span_parent[at] < 0 ? -1 : before + block.span_parent[at];
      spans.push({ part, place: before + k, parent, name: data.names[block.numbers.names[block.span_name[at]]], kind: block.span_kind[at], start: block.span_start[at], duration: block.span_duration[at],
        status: block.span_status[at], process: block.numbers.processes[block.span_process[at]], depth: parent < 0 ? 0 : spans[parent].depth + 1, hasChildren: false });
      if (parent >= 0) spans[parent].hasChildren = true;
    }
  }
  return spans;
}
// The place of a span in spansOf().
function placeOf(part, span) {
  const parts = partsOf(requestId(part));
  return parts.slice(0, parts.indexOf(part)).reduce((sum, one) => sum + data.request_spans[one], 0) + span - data.request_first[part];
}
// Gives each its object in the details: spans are in the same order there, and their events are in them. Returns the
// requests of the details.
async function addDetails(parts, spans) {
  const requests = new Map(), blocks = new Map();
  for (const part of parts) {
    const block = data.request_block[part];
    if (!blocks.has(block)) blocks.set(block, await details(block, exact));
    requests.set(part, blocks.get(block)[data.request_of_block[part]]);
  }
  const events = new Map(), next = new Map();
  for (const span of spans) {
    const request = requests.get(span.part);
    if (span.kind === kSpan) {
      span.detail = request.spans[next.get(span.part) || 0];
      next.set(span.part, (next.get(span.part) || 0) + 1);
      continue;
    }
    const of = span.parent < 0 ? "part " + span.part : span.parent, number = events.get(of) || 0;
    events.set(of, number + 1);
    span.detail = (span.parent < 0 ? request : spans[span.parent].detail).events[number];
  }
  return [...requests.values()];
}
// The time of a span in which none of its children ran, which are sorted by their start.
function selfTime(span, children) {
  let at = span.start, own = 0;
  const end = span.start + span.duration;
  for (const child of children) {
    own += Math.max(0, Math.min(child.start, end) - at);
    at = Math.max(at, Math.min(child.start + child.duration, end));
  }
  return own + end - at;
}
// The spans in the order of the rows. With their details, the root span of a part is below its parent in another one.
function inOrder(spans) {
  const byId = new Map(), children = new Map(), order = [];
  for (const span of spans) if (span.kind === kSpan && span.detail) byId.set(span.detail.span_id, span.place);
  for (const span of spans) {
    const other = span.parent < 0 && span.kind === kSpan && span.detail && span.detail.parent_id ? byId.get(span.detail.parent_id) : undefined;
    const parent = other !== undefined && spans[other].part !== span.part ? other : span.parent;
    if (!children.has(parent)) children.set(parent, []);
    children.get(parent).push(span);
  }
  const open = [...(children.get(-1) || [])].reverse().map((span) => [span, 0]);
  while (open.length > 0) {
    const [span, depth] = open.pop(), inner = (children.get(span.place) || []).sort((a, b) => a.start - b.start);
    Object.assign(span, { depth, hasChildren: inner.length > 0 });
    if (inner.some((child) => child.part !== span.part)) span.detail.self_ns = selfTime(span, inner);
    order.push(span);
    for (let k = inner.length - 1; k >= 0; --k) open.push([inner[k], depth + 1]);
  }
  return order.length === spans.length ? order : spans;  // two parts may name each other
}
// Rows: brothers without children that are thinner than a pixel and have the same name are one.
function rowsOf(spans, axis, width) {
  const rows = [], isThin = (span) => !span.hasChildren && span.duration / (axis.to - axis.from) * width < 1;
  for (const span of spans) {
    const last = rows[rows.length - 1], first = last && last.spans[0];
    if (first && isThin(span) && first.parent === span.parent && first.name === span.name && first.kind === span.kind && first.status === span.status && isThin(first)) {
      last.spans.push(span);
    } else {
      rows.push({ spans: [span] });
    }
  }
  // Two are not worth it.
  return rows.flatMap((row) => (row.spans.length > 2 ? [row] : row.spans.map((span) => ({ spans: [span] }))));
}

function factsOf(object, skipped) {
  const list = element("dl");
  for (const [key, value] of Object.entries(object)) {
    if (skipped.includes(key) || value === undefined) continue;
    const text = typeof value === "string" ? value : JSON.stringify(value), isLong = kContent.test(key) || text.length > 300;
    const shown = /_ns$/.test(key) && typeof value === "number" && !/unix/.test(key) ? text + " (" + durationText(value) + ")" : text;
    const place = element("dd");
    if (isLong) {
      const button = element("button", { type: "button" }, "show " + counted(text.length, "character"));
      button.addEventListener("click", () => place.replaceChildren(visible(text)));
      place.append(button);
    } else {
      place.append(visible(shown));
    }
    list.append(element("dt", {}, visible(key)), place);
  }
  return list;
}

function showRequest(main) {
  const parts = partsOf(state.request);
  if (parts.length === 0) {
    main.append(element("p", { class: "hint" }, "This page has no request " + visible(state.request) + "."));
    return { refresh() {}, redraw() {}, follows: () => true, key: () => false };
  }
  const spans = spansOf(parts), processes = [...new Set(spans.map((span) => span.process))], colorOfProcess = (process) => kPalette[processes.indexOf(process) % kPalette.length], i = parts.reduce((a, b) => (data.request_duration[b] > data.request_duration[a] ? b : a)), start = data.request_start[parts[0]], panel = element("aside", { "aria-label": "Details" });
  const left = element("div", { class: "grow tall" });
  main.append(element("h1", {}, data.names[data.request_name[i]] + " · " + durationText(data.request_duration[i]) + " · " + timeText(start) + " · " + requestId(i),
    data.tenants[data.request_tenant[i]] ? " · " + data.tenants[data.request_tenant[i]] : "", missingText(i) ? " · " + missingText(i) : ""),
  element("div", { class: "legend" }, ...processes.slice(0, 8).flatMap((process) => [swatch(colorOfProcess(process)), processText(data.processes[process])]), processes.length > 8 ? " and others" : "", swatch("--error"), "failed"),
  element("div", { class: "row grow" }, left, panel));
  const kRow = 18, kTop = 20;
  let top = 0, rows = [], requests = null, order = spans;
  const axis = new TimeAxis(spans.reduce((from, span) => Math.min(from, span.start), start),
    spans.reduce((to, span) => Math.max(to, span.start + span.duration), start), () => canvas.ask());
  const canvas = new Canvas(left, "Spans of the request", (context, all, height) => {
    axis.gutter = Math.min(280, Math.round(all / 3));
    const width = all - axis.gutter;
    rows = rowsOf(order, axis, width);
    top = clamp(top, 0, Math.max(0, rows.length * kRow + kTop - height));
    context.save();
    context.translate(axis.gutter, 0);
    axis.draw(context, width, height, start);
    context.restore();
    for (let k = Math.floor(top / kRow); k < rows.length && kTop + k * kRow - top < height; ++k) {
      const { spans: [span], spans: { length: count } } = rows[k], last = rows[k].spans[count - 1], y = kTop + k * kRow - top;
      if (y < kTop - kRow / 2) continue;
      const from = axis.x(span.start, width), to = Math.max(axis.x(last.start + last.duration, width), from + 1);
      if (rows[k].spans.some((one) => one.place === state.span)) {
        context.fillStyle = color("--pick");
        context.fillRect(0, y, all, kRow);
      }
      const indent = 6 + 10 * Math.min(span.depth, 12);
      context.fillStyle = color("--text");
      context.fillText(fitted(context, (count > 1 ? numberText(count) + " × " : "") + span.name, axis.gutter - indent - 4), indent, y + kRow / 2);
      context.save();
      context.beginPath();
      context.rect(axis.gutter, y, width, kRow);
      context.clip();
      context.translate(axis.gutter, 0);
      context.fillStyle = color(span.status === 1 || span.status === 3 ? "--error" : colorOfProcess(span.process));
      if (span.kind !== kSpan) {
        context.beginPath();
        context.arc(from, y + kRow / 2, 4, 0, 7);
        context.fill();
      } else {
        context.globalAlpha = count > 1 ? 0.5 : 1;
        context.fillRect(Math.max(from, -1), y + 3, Math.min(to, width + 1) - Math.max(from, -1), kRow - 6);
        context.globalAlpha = 1;
        const text = to < 0 ? "◂" : from > width ? "▸" : [durationText(last.start + last.duration - span.start), kStatuses[span.status], span.status > 0 && span.detail && visible(span.detail.error_type || "")].filter((one) => one).join(" "), room = context.measureText(text).width;
        context.fillStyle = color("--text");
        if (to + 6 + room < width) context.fillText(text, Math.max(to, 0) + 6, y + kRow / 2);
        else if (from - 6 - room > 0) context.fillText(text, Math.min(from, width) - 6 - room, y + kRow / 2);
        else boxedText(context, text, Math.min(to, width) - 6 - room, y + kRow / 2);
      }
      context.restore();
    }
  });
  axis.listen(canvas, (pixels) => { top += pixels; canvas.ask(); });
  const pick = (place) => {
    change({ span: place });
    const k = rows.findIndex((row) => row.spans.some((span) => span.place === place));
    if (k >= 0) top = clamp(top, (k + 1) * kRow + kTop - canvas.node.clientHeight, k * kRow);
    canvas.ask();
    showPanel();
  };
  canvas.node.addEventListener("click", (event) => {
    const row = rows[Math.floor((event.offsetY - kTop + top) / kRow)];
    if (!axis.hasMoved && row) pick(row.spans[0].place);
  });
  function showPanel() {
    if (requests === null) { panel.replaceChildren("Reading …"); return; }
    const span = spans[state.span];
    if (span === undefined) {
      const own = new Map();
      for (const one of spans) {
        if (one.kind !== kSpan) continue;
        const sum = own.get(one.name) || { ns: 0, count: 0 };
        own.set(one.name, { ns: sum.ns + Number(one.detail.self_ns), count: sum.count + 1 });
      }
      const sums = [...own].sort((a, b) => b[1].ns - a[1].ns).slice(0, 40);
      panel.replaceChildren(element("h2", {}, "Self time"), element("p", { class: "hint" }, "The time of spans in which none of their children ran. Click on a span for its attributes."),
        element("table", {}, ...sums.map(([name, { ns, count }]) => element("tr", {}, element("td", {}, name), element("td", { class: "number" }, durationText(ns)), element("td", { class: "number" }, counted(count, "span"))))));
      const linked = requests.flatMap((request) => request.linked || []).map((one) => element("tr", {}, element("td", {}, visible(one.name)), element("td", { class: "number" }, counted(one.count, "step")), element("td", { class: "number" }, durationText(one.sum_ns))));
      if (linked.length > 0) panel.append(element("h2", {}, "Steps of engines"), element("table", {}, ...linked), ...stepsLinks(parts.flatMap((part) => data.requestKeys.get(part) || [])));
      return;
    }
    const { detail } = span;
    panel.replaceChildren(element("h2", {}, span.name), factsOf({ ...detail, start: timeText(span.start, 6), process: processText(data.processes[span.process]) }, ["name", "attributes", "events"]));
    if (detail.attributes) panel.append(element("h2", {}, "Attributes"), factsOf(detail.attributes, []));
    const own = (data.requestKeys.get(span.part) || []).find((one) => placeOf(span.part, one.span) === span.place);
    if (own) panel.firstChild.after(...stepsLinks([own]));
  }
  const stepsLinks = (keys) => keys.filter(({ key }) => data.engineOf(key) >= 0).map(({ key }) => {
    const { start: from, end: to } = spanOfKey(key), engine = data.engineOf(key);
    return element("p", {}, element("a", { href: hashOf({ view: "engine", engine, from: Math.round(from), to: Math.round(to), span: -1, step: -1 }) },
      counted(data.keys[key].steps.length, "step") + " of the engine " + data.engines[engine].name));
  });
  addDetails(parts, spans).then((found) => { requests = found; order = inOrder(spans); canvas.ask(); showPanel(); });
  showPanel();
  return { refresh() {}, redraw: () => canvas.ask(), key: (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20 }[event.key];
    if (event.key === "Escape" && state.span >= 0) { pick(-1); return true; }
    if (step === undefined || rows.length === 0) return axis.key(event);
    const k = rows.findIndex((row) => row.spans.some((span) => span.place === state.span));
    pick(rows[clamp(k < 0 ? 0 : k + step, 0, rows.length - 1)].spans[0].place);
    return true;
  } };
}

// ---- Engine: its requests over its steps.

function readSteps() {
  const names = { start: Float64Array, duration: Float64Array, number: Float64Array, host: Float64Array, device: Float64Array, engine: Uint32Array,
    prefill: Uint32Array, decode: Uint32Array, batch: Uint32Array };
  const whole = [];  // [block, place] of each step, and of its parts
  const byId = new Map();
  for (const block of data.steps) {
    let member = 0;
    for (let k = 0; k < block.step_start.length; member += block.step_members[k++]) {
      const id = [block.file[0], block.step_process[k], block.step_id_high[k], block.step_id_low[k]].join("/"), part = { block, k, member };
      if (!byId.has(id)) {
        byId.set(id, { parts: [] });
        whole.push(byId.get(id));
      }
      const step = byId.get(id);
      step.parts.push(part);
      if (!block.step_is_part[k]) step.own = part;
    }
  }
  // Parts whose step was lost are no step.
  const steps = whole.filter((step) => step.own).sort((a, b) => a.own.block.step_start[a.own.k] - b.own.block.step_start[b.own.k]);
  data.strayParts = whole.length - steps.length;
  for (const name in names) data["step_" + name] = names[name].from(steps, ({ own: { block, k } }) => block["step_" + name][k]);
  steps.forEach(({ own: { block, k } }, step) => { data.step_engine[step] = block.numbers.engines[block.step_engine[k]]; });
  // Members: of each step, and of each key.
  const count = steps.reduce((sum, step) => sum + step.parts.reduce((of, { block, k }) => of + block.step_members[k], 0), 0);
  data.member_first = new Uint32Array(steps.length + 1);
  for (const name of ["request", "prefill", "context", "decode"]) data["member_" + name] = name === "request" ? new Int32Array(count) : new Uint32Array(count);
  data.keys = [];  // {request, span, steps}, of requests on this page
  const keyNumbers = new Map();
  let at = 0;
  steps.forEach((step, number) => {
    data.member_first[number] = at;
    for (const { block, k, member } of step.parts) {
      for (let m = member; m < member + block.step_members[k]; ++m, ++at) {
        const id = block.file[0] + "/" + block.member_key[m];
        if (!keyNumbers.has(id)) {
          const known = data.keyOf.get(id);
          keyNumbers.set(id, known ? data.keys.push({ ...known, steps: [] }) - 1 : -1);
        }
        const key = keyNumbers.get(id);
        data.member_request[at] = key;
        data.member_prefill[at] = block.member_prefill[m];
        data.member_context[at] = block.member_context[m];
        data.member_decode[at] = block.member_decode[m];
        if (key >= 0) data.keys[key].steps.push(at);
      }
    }
  });
  data.member_first[steps.length] = at;
  data.member_step = new Uint32Array(count);
  for (let step = 0; step < steps.length; ++step) data.member_step.fill(step, data.member_first[step], data.member_first[step + 1]);
  data.requestKeys = new Map();  // by request: [{key, span}], where span is its place in the block
  data.keys.forEach(({ request, span }, key) => {
    if (!data.requestKeys.has(request)) data.requestKeys.set(request, []);
    data.requestKeys.get(request).push({ key, span });
  });
  data.engineOf = (key) => (data.keys[key].steps.length > 0 ? data.step_engine[data.member_step[data.keys[key].steps[0]]] : -1);
  data.gaugeSeries = data.gauges.map(() => []);
  for (const block of data.steps) block.gauge.forEach((gauge, k) => data.gaugeSeries[block.numbers.gauges[gauge]].push([block.gauge_time[k], block.gauge_value[k]]));
  for (const series of data.gaugeSeries) series.sort((a, b) => a[0] - b[0]);
}
// The times of the span that steps name.
function spanOfKey(key) {
  const { request, span } = data.keys[key], block = data.blocks[data.request_block[request]];
  return { start: block.span_start[span], end: block.span_start[span] + block.span_duration[span] };
}
const engineText = (number) => {
  const { name, instance, process } = data.engines[number];
  return name + (instance ? " " + instance : "") + " of " + processText(process);
};

// Which tenants lost time to which, in all engines.
function stallsTable() {
  const stalls = data.stalls.filter(({ ns }) => ns > 0).sort((a, b) => b.ns - a.ns), unsure = data.files.reduce((sum, file) => sum + file.unsure, 0);
  if (stalls.length === 0) return [];
  const columns = ["stalled", "by", "lost", "share", "requests"];
  return [element("h2", {}, "Time lost to others"), element("table", {}, element("tr", {}, ...columns.map((text) => element("th", { scope: "col" }, text))),
    ...stalls.slice(0, 20).map(({ stalled, by, ns, of_ns: all, requests }) => element("tr", {}, element("td", {}, stalled), element("td", {}, by),
      ...[durationText(ns), all > 0 ? Math.round(100 * ns / all) + " %" : "", numberText(requests)].map((text) => element("td", { class: "number" }, text))))),
  element("p", { class: "hint" }, "By tenant, as nopspan blame charges it" + (unsure > 0 ? ". " + counted(unsure, "request") + " not charged, because the steps do not show what prompts cost." : "."))];
}

function showEngine(main) {
  if (data.engines.length === 0) {
    main.append(element("p", { class: "hint" }, "This page has no steps of an engine" + (data.gauges.length > 0 ? ", and its " + counted(data.gauges.length, "gauge") + " can only be seen beside them." : ".")));
    return { refresh() {}, redraw() {}, key: () => false };
  }
  const engine = clamp(state.engine, 0, data.engines.length - 1);
  const choice = element("select", { "aria-label": "Engine" }, ...data.engines.slice(0, 1000).map((_, i) => element("option", { value: i, ...(i === engine ? { selected: "" } : {}) }, engineText(i))));
  choice.addEventListener("change", () => go({ engine: Number(choice.value), from: 0, to: 0, step: -1 }));
  const steps = [], lanes = [], prefillOf = (step) => data.step_prefill[step];
  for (let step = 0; step < data.step_start.length; ++step) if (data.step_engine[step] === engine) steps.push(step);
  const isHere = new Set();
  for (const step of steps) for (let m = data.member_first[step]; m < data.member_first[step + 1]; ++m) if (data.member_request[m] >= 0) isHere.add(data.member_request[m]);
  for (const key of isHere) {
    const { request, steps: members } = data.keys[key];
    lanes.push({ key, request, members: members.filter((m) => data.step_engine[data.member_step[m]] === engine), isMine: requestId(request) === state.request, ...spanOfKey(key) });
  }
  lanes.sort((a, b) => a.start - b.start);
  // Rows of requests, one after the other. `busy` are those that have not ended, the first to end last.
  const rows = [], busy = [], free = [];
  for (const lane of lanes) {
    while (busy.length > 0 && busy[busy.length - 1].end <= lane.start) free.push(busy.pop().row);
    const row = free.length > 0 ? free.pop() : rows.push([]) - 1;
    rows[row].push(lane);
    let low = 0, high = busy.length;
    while (low < high) { const middle = (low + high) >> 1; if (busy[middle].end > lane.end) low = middle + 1; else high = middle; }
    busy.splice(low, 0, { end: lane.end, row });
  }
  const first = steps.length ? Math.min(data.step_start[steps[0]], ...lanes.slice(0, 1).map((lane) => lane.start)) : 0;
  let last = first + 1;
  for (const step of steps) last = Math.max(last, data.step_start[step] + data.step_duration[step]);
  const left = element("div", { class: "grow tall" }), lower = element("div", { class: "charts" }), panel = element("aside", { "aria-label": "Details" });
  const keys = element("div", { class: "legend" }, choice, " ", swatch("--c7"), "queue ", swatch("--c1"), "prefill ", swatch("--c0"), "decode ", swatch("--stall"), "no step for it ");
  main.append(keys, element("div", { class: "row grow" }, element("div", { class: "grow column" }, left, lower), panel));
  const axis = new TimeAxis(first, last, () => redraw());
  const kRow = 16, kTop = 20;
  let top = 0;
  const isMember = (step, key) => { for (let m = data.member_first[step]; m < data.member_first[step + 1]; ++m) if (data.member_request[m] === key) return true; return false; };
  function drawLane(context, lane, y, width) {
    const from = axis.x(lane.start, width), to = Math.max(axis.x(lane.end, width), from + 1);
    context.globalAlpha = lane.isOut ? 0.2 : 1;
    const firstStep = lane.members.length ? axis.x(data.step_start[data.member_step[lane.members[0]]], width) : to;
    context.fillStyle = color("--c7");
    context.fillRect(from, y + 5, firstStep - from, kRow - 10);
    context.fillStyle = color("--stall");
    context.fillRect(firstStep, y + 5, to - firstStep, kRow - 10);
    // Steps that share a pixel are drawn as one: prefill is seen above decode.
    let drawn = -1, kind = 0;
    for (const m of lane.members) {
      const step = data.member_step[m], x = axis.x(data.step_start[step], width), end = axis.x(data.step_start[step] + data.step_duration[step], width);
      if (end < 0 || x > width) continue;
      const isPrefill = data.member_prefill[m] > 0 ? 2 : 1;
      if (Math.floor(end) === drawn && isPrefill <= kind) continue;
      drawn = Math.floor(end);
      kind = isPrefill;
      context.fillStyle = color(isPrefill === 2 ? "--c1" : "--c0");
      context.fillRect(x, y + 2, Math.max(end - x, 1), kRow - 4);
    }
    context.globalAlpha = 1;
    if (lane.isMine || (state.step >= 0 && isMember(state.step, lane.key))) {
      context.strokeStyle = color(lane.isMine ? "--error" : "--text");
      context.lineWidth = lane.isMine ? 2 : 1;
      context.strokeRect(Math.max(from, 0) + 0.5, y + 0.5, Math.min(to, width) - Math.max(from, 0), kRow - 1);
    }
  }
  const laneCanvas = new Canvas(left, "Requests of the engine over its steps", (context, width, height) => {
    top = clamp(top, 0, Math.max(0, rows.length * kRow + kTop - height));
    axis.draw(context, width, height);
    for (let k = Math.floor(top / kRow); k < rows.length && kTop + k * kRow - top < height; ++k) {
      const y = kTop + k * kRow - top;
      if (y < kTop - kRow / 2) continue;
      for (const lane of rows[k]) if (lane.end >= axis.from && lane.start <= axis.to) drawLane(context, lane, y, width);
    }
    if (state.step >= 0) {
      context.fillStyle = color("--mark");
      context.globalAlpha = 0.25;
      context.fillRect(axis.x(data.step_start[state.step], width), 0, Math.max(1, data.step_duration[state.step] / (axis.to - axis.from) * width), height);
      context.globalAlpha = 1;
    }
  });
  axis.listen(laneCanvas, (pixels) => { top += pixels; laneCanvas.ask(); });
  // A curve of values at the steps: of what is in one pixel, the most is drawn.
  const mine = data.gauges.map((gauge, i) => ({ ...gauge, series: data.gaugeSeries[i] }))
    .filter((gauge) => processText(gauge.process) === processText(data.engines[engine].process) && (!gauge.engine || gauge.engine === data.engines[engine].name));
  const charts = [["step duration", [["--c0", (step) => data.step_duration[step]]], durationText],
    ["tokens of a step: prefill, decode", [["--c1", prefillOf], ["--c0", (step) => data.step_decode[step]]], numberText],
    ["requests in a step", [["--c2", (step) => data.step_batch[step]]], numberText]];
  const canvases = [];
  const chart = (title, draw) => {
    const made = new Canvas(lower, title, (context, width, height) => {
      const most = draw(context, width, height);
      context.fillStyle = color("--dim");
      context.fillText(title + (most === undefined ? "" : ", up to " + most), 4, 8);
    });
    axis.listen(made);
    made.node.addEventListener("click", (event) => { if (!axis.hasMoved) pick(stepAt(axis.ns(event.offsetX, made.node.clientWidth))); });
    canvases.push(made);
  };
  for (const [title, series, text] of charts) {
    chart(title, (context, width, height) => {
      const columns = Math.ceil(width), heights = series.map(() => new Float64Array(columns));
      let most = 0;
      for (const step of steps) {
        const x = Math.floor(axis.x(data.step_start[step], width)), end = Math.floor(axis.x(data.step_start[step] + data.step_duration[step], width));
        if (end < 0 || x >= columns) continue;
        let sum = 0;
        series.forEach(([, value], k) => {
          for (let at = Math.max(x, 0); at <= Math.min(end, columns - 1); ++at) heights[k][at] = Math.max(heights[k][at], value(step));
          sum += value(step);
        });
        most = Math.max(most, sum);
      }
      for (let at = 0; at < columns; ++at) {
        let y = height;
        series.forEach(([name], k) => {
          const size = most > 0 ? heights[k][at] / most * (height - 16) : 0;
          context.fillStyle = color(name);
          context.fillRect(at, y - size, 1, size);
          y -= size;
        });
      }
      return text(most);
    });
  }
  const hidden = data.gauges.length - Math.min(mine.length, 6);
  if (hidden > 0) keys.append(element("span", {}, " · " + counted(hidden, "gauge") + " of other engines, or more than six, not shown"));
  for (const gauge of mine.slice(0, 6)) {
    const labels = Object.entries(gauge.attributes || {}).map(([key, value]) => key + "=" + value).join(" ");
    chart("gauge " + gauge.name + (labels ? " " + labels : ""), (context, width, height) => {
      let most = 0;
      gauge.series.forEach(([time, value], k) => {
        if (time <= axis.to && (k + 1 === gauge.series.length || gauge.series[k + 1][0] >= axis.from)) most = Math.max(most, value);
      });
      context.fillStyle = color("--c4");
      gauge.series.forEach(([time, value], k) => {
        const x = axis.x(time, width), end = k + 1 < gauge.series.length ? axis.x(gauge.series[k + 1][0], width) : width;
        const size = most > 0 ? value / most * (height - 16) : 0;
        if (end >= 0 && x <= width) context.fillRect(x, height - size, Math.max(end - x, 1), size);
      });
      return numberText(most);
    });
  }
  function stepAt(ns) {
    let best = -1, least = Infinity;
    for (const step of steps) {
      const far = Math.max(data.step_start[step] - ns, ns - data.step_start[step] - data.step_duration[step], 0);
      if (far < least) { least = far; best = step; }
    }
    return best;
  }
  laneCanvas.node.addEventListener("click", (event) => {
    if (axis.hasMoved) return;
    const ns = axis.ns(event.offsetX, laneCanvas.node.clientWidth), row = rows[Math.floor((event.offsetY - kTop + top) / kRow)] || [];
    const lane = row.find((one) => one.start <= ns && ns <= one.end);
    const isIn = lane && lane.members.some((m) => { const step = data.member_step[m]; return data.step_start[step] <= ns && ns <= data.step_start[step] + data.step_duration[step]; });
    pick(stepAt(ns), lane && !isIn ? { lane, ns } : undefined);
  });
  function pick(step, gap) {
    change({ step });
    redraw();
    showPanel(gap);
  }
  function showPanel(gap) {
    const step = state.step;
    if (!(step >= 0 && step < data.step_start.length)) {
      panel.replaceChildren(element("p", { class: "hint" }, "Click on a step to see its requests, and on a gap of a request to see the steps in it."), ...stallsTable());
      return;
    }
    panel.replaceChildren();
    if (gap) {
      const before = gap.lane.members.map((m) => data.member_step[m]).filter((one) => data.step_start[one] + data.step_duration[one] <= gap.ns).pop();
      const from = before === undefined ? gap.lane.start : data.step_start[before] + data.step_duration[before];
      const after = gap.lane.members.map((m) => data.member_step[m]).find((one) => data.step_start[one] > gap.ns);
      const to = after === undefined ? gap.lane.end : data.step_start[after];
      const inside = steps.filter((one) => data.step_start[one] < to && data.step_start[one] + data.step_duration[one] > from).sort((a, b) => data.step_duration[b] - data.step_duration[a]);
      panel.append(element("h2", {}, "Gap of " + durationText(to - from)), element("p", {}, "Request " + requestId(gap.lane.request) + " was in no step" +
        (inside.length === 0 ? ", and the engine made none." : ". The engine made " + counted(inside.length, "step") + ", of which the longest took " + durationText(data.step_duration[inside[0]]) + ":")));
      if (inside.length > 0) panel.append(element("p", {}, stepLink(inside[0])));
    }
    panel.append(element("h2", {}, "Step " + numberText(data.step_number[step])), factsOf({ start: timeText(data.step_start[step]), duration_ns: data.step_duration[step], requests: data.step_batch[step],
      prefill_tokens: data.step_prefill[step], decode_tokens: data.step_decode[step], host_ns: data.step_host[step] || undefined, device_ns: data.step_device[step] || undefined }, []));
    const members = Array.from({ length: data.member_first[step + 1] - data.member_first[step] }, (_, k) => data.member_first[step] + k)
      .sort((a, b) => data.member_prefill[b] - data.member_prefill[a]);
    panel.append(element("h2", {}, "Requests in it"), element("table", {}, element("tr", {}, ...["request", "prefill", "decode", "context"].map((text) => element("th", { scope: "col" }, text))),
      ...members.slice(0, 200).map((m) => {
        const key = data.member_request[m], request = key >= 0 ? data.keys[key].request : -1;
        const link = request >= 0 ? element("a", { class: requestId(request) === state.request ? "mine" : "", href: hashOf({ view: "request", request: requestId(request), from: 0, to: 0, span: placeOf(request, data.keys[key].span) }) }, requestId(request)) : "another request";
        return element("tr", {}, element("td", {}, link), ...["prefill", "decode", "context"].map((name) => element("td", { class: "number" }, numberText(data["member_" + name][m]))));
      })));
    if (members.length > 200) panel.append(element("p", { class: "hint" }, "and " + numberText(members.length - 200) + " others"));
  }
  const stepLink = (step) => element("a", { href: hashOf({ step }) }, "step " + numberText(data.step_number[step]) + ", " + counted(data.step_prefill[step], "prefill token") + ", " + counted(data.step_batch[step], "request"));
  function redraw() {
    laneCanvas.ask();
    for (const canvas of canvases) canvas.ask();
  }
  // Requests that the filter leaves out are pale.
  function refresh() {
    const filter = parsedFilter(state.filter);
    byId("found").textContent = filter.problem || searchText().trim();
    for (const lane of lanes) lane.isOut = !filter.problem && !filter.test(lane.request);
    redraw();
  }
  showPanel();
  refresh();
  return { refresh, redraw, key: (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key], down = { ArrowDown: kRow, ArrowUp: -kRow, PageDown: 20 * kRow, PageUp: -20 * kRow }[event.key];
    if (down) { top += down; laneCanvas.ask(); return true; }
    if (by === undefined) return axis.key(event);
    const at = steps.indexOf(state.step), next = steps[clamp(at < 0 ? 0 : at + by, 0, steps.length - 1)], begin = data.step_start[next];
    if (begin < axis.from || begin > axis.to) axis.pan((begin - (axis.from + axis.to) / 2) / (axis.to - axis.from));
    pick(next);
    return true;
  } };
}

// ---- Compare: two filters side by side, by the name of the request.

const kCompared = [
  { key: "name", title: "name", text: (row) => row.name },
  ...[["count", "requests", numberText], ["p50", "p50", durationText], ["p99", "p99", durationText], ["errors", "with failed spans", numberText], ["tokens", "tokens out", numberText]]
    .flatMap(([key, title, text]) => ["a", "b"].map((side) => ({ key: key + "_" + side, title: title + " " + side.toUpperCase(), number: true,
      text: (row) => (Number.isNaN(row[side][key]) ? "" : text(row[side][key])), style: (row) => (key === "errors" && row[side].errors > 0 ? "error" : "") }))),
  { key: "change", title: "p50, B against A", number: true, text: (row) => (Number.isNaN(row.change) ? "" : (row.change > 0 ? "+" : "") + row.change.toFixed(0) + " %"),
    style: (row) => (row.change > 10 ? "error" : "") },
];
function comparedRows(a, b) {
  const names = new Map(), empty = () => ({ count: 0, errors: 0, tokens: 0, durations: [] });
  for (const i of orderBy("duration")) {
    for (const [side, test] of [["a", a], ["b", b]]) {
      if (isLate(i) || !test(i)) continue;
      const name = data.names[data.request_name[i]];
      if (!names.has(name)) names.set(name, { name, a: empty(), b: empty() });
      const of = names.get(name)[side];
      ++of.count;
      of.errors += data.request_errors[i] > 0 ? 1 : 0;
      of.tokens += data.request_output[i];
      of.durations.push(data.request_duration[i]);
    }
  }
  for (const row of names.values()) {
    for (const of of [row.a, row.b]) Object.assign(of, { p50: quantile(of.durations, 0.5), p99: quantile(of.durations, 0.99) });
    row.change = (row.b.p50 / row.a.p50 - 1) * 100;
  }
  return [...names.values()].sort((x, y) => y.a.count + y.b.count - x.a.count - x.b.count);
}
function showCompare(main) {
  if (!state.a && !state.b) {
    const [one, two] = data.files.map((file) => 'file:"' + file.name + '"'), middle = dateText((data.first_ns + data.last_ns) / 2);
    Object.assign(state, two ? { a: one, b: two } : { a: "before:" + middle, b: "after:" + middle });
  }
  const input = (side) => {
    const node = element("input", { type: "search", spellcheck: "false", "aria-label": side.toUpperCase(), value: state[side] });
    node.addEventListener("input", () => { change({ [side]: node.value }); refresh(); });
    node.addEventListener("focus", () => node.select());
    return element("label", {}, side.toUpperCase() + " ", node);
  };
  main.append(element("div", { class: "legend compared" }, input("a"), " ", input("b"), element("span", { class: "hint" }, " Filters, such as version:1.2, file:before, after:14:05, tenant:acme. The filter above applies to both.")));
  const table = new Table(main, kCompared, { label: "Comparison by name" });
  function refresh() {
    const both = parsedFilter(state.filter), a = parsedFilter(state.a), b = parsedFilter(state.b);
    byId("found").textContent = both.problem || a.problem || b.problem || searchText().trim();
    if (both.problem || a.problem || b.problem) { table.show([], ""); return; }
    table.show(comparedRows((i) => both.test(i) && a.test(i), (i) => both.test(i) && b.test(i)), "");
  }
  refresh();
  return { refresh, redraw: () => table.ask(), key: (event) => table.key(event) };
}

// ---- Live: rates by name, and the requests in flight.

const innermost = (request) => request.spans.filter((span) => span.is_innermost).sort((a, b) => a.age_ns - b.age_ns)[0] || {};
const kInFlight = [
  { key: "age", title: "age", number: true, text: (row) => (row.age_is_least ? "≥ " : "") + durationText(row.age_ns) },
  { key: "where", title: "where it is now", text: (row) => visible(row.spans.filter((span, i) => span.is_innermost || i === 0).map((span) => span.name).slice(0, 4).join(" > ")) },
  { key: "in", title: "in it for", number: true, text: (row) => durationText(innermost(row).age_ns ?? row.age_ns) },
  { key: "tokens", title: "tokens out", number: true, text: (row) => numberText(row.output_tokens) },
  { key: "tenant", title: "tenant", text: (row) => visible(row.tenant || "") },
  { key: "model", title: "model", text: (row) => visible(row.model || "") },
  { key: "id", title: "request", text: (row) => visible(row.request_id) },
];
const perSecond = (key) => (row) => row.window[key + "_per_s"].toFixed(row.window[key + "_per_s"] < 10 ? 1 : 0), ofWindow = (key) => (row) => (row.window[key] ? durationText(row.window[key]) : "");
const kRates = [
  { key: "name", title: "name", text: (row) => visible(row.name) },
  { key: "model", title: "model", text: (row) => visible(row.model) },
  { key: "spans", title: "spans/s", number: true, text: perSecond("spans") },
  { key: "errors", title: "errors/s", number: true, text: perSecond("errors"), style: (row) => (row.window.errors > 0 ? "error" : "") },
  { key: "p50", title: "p50", number: true, text: ofWindow("duration_p50_ns") },
  { key: "p99", title: "p99", number: true, text: ofWindow("duration_p99_ns") },
  { key: "ttft", title: "first token p50", number: true, text: ofWindow("ttft_p50_ns") },
  { key: "output", title: "tokens out/s", number: true, text: perSecond("output_tokens") },
];
function showLive(main) {
  const rates = element("h1"), flight = element("h1"), known = element("p", { class: "hint", hidden: "" });
  main.append(rates);
  const table = new Table(main, kRates, { label: "Rates by name" });
  main.append(flight, known);
  const open = new Table(main, kInFlight, { label: "Requests in flight", opened: (row) => go({ view: "request", request: row.request_id, from: 0, to: 0, span: -1 }) });
  function refresh() {
    const { rates: now, open: inFlight } = live, words = filterWords(byId("filter").value);
    // Words about what a row does not have are for the other views.
    const has = (row) => words.every(({ key, value }) => {
      const isPlain = key === "" && !kAttribute.test(value) && value !== "error";
      if (key === "slower" && row.age_ns !== undefined) return row.age_ns >= parsedDuration(value);
      if (!isPlain && !Object.hasOwn(row, key)) return true;
      return (isPlain ? [row.id, row.tenant, row.model, row.name] : [row[key]]).flat().some((text) => matches(text || "", value));
    });
    if (now) {
      rates.textContent = visible(now.host) + " · " + perSecond("requests")(now) + " requests/s · " + perSecond("spans")(now) + " spans/s · " + perSecond("errors")(now) + " errors/s · last " + durationText(now.window_ns);
      table.update(now.rows.filter(({ name, model }) => has({ name, model })));
    }
    byId("found").textContent = parsedFilter(byId("filter").value).problem;
    if (!inFlight || inFlight.problem) {
      flight.textContent = "Requests in flight: " + (inFlight ? visible(inFlight.problem) : "not read yet");
      open.update([]);
      return;
    }
    const requests = inFlight.requests.filter((row) => has({ age_ns: row.age_ns, id: row.request_id, tenant: row.tenant, model: row.model, name: row.spans.map((span) => span.name) })).sort((a, b) => b.age_ns - a.age_ns);
    const early = inFlight.processes.reduce((sum, process) => sum + (process.early_request_keys || []).length + (process.early_requests_unread || 0), 0);
    const more = inFlight.all_requests - inFlight.requests.length;
    flight.textContent = counted(requests.length, "request") + " in flight" + (more > 0 ? " (and " + numberText(more) + " younger ones, not shown)" : "") + (early > 0 ? ", and " + numberText(early) + " that began before the attach" : "") +
      (inFlight.skipped.length > 0 ? ". Not read: " + counted(inFlight.skipped.length, "process", "processes") : "");
    const remarks = [...inFlight.skipped.map(({ comm, pid, reason }) => comm + " " + pid + ": " + reason), ...inFlight.known.split("\n").map((line) => line.replace(/^nopspan: /, ""))].filter((line) => line.trim());
    known.replaceChildren(...remarks.slice(0, 5).map((line) => element("div", {}, visible(line))), remarks.length > 5 ? "… and " + numberText(remarks.length - 5) + " more" : "");
    known.hidden = remarks.length === 0;
    open.update(requests);
  }
  refresh();
  return { refresh, redraw: refresh, follows: () => true, key: (event) => open.key(event) };
}

// ---- Perfetto: ten seconds for another viewer.

const kPerfetto = "https://ui.perfetto.dev";
// The bytes of the lines, up to the last one. Calls said() with how many there are.
async function captured(said) {
  const answer = await fetch("/capture"), reader = answer.body.pipeThrough(new TextDecoderStream()).getReader(), parts = [];
  if (answer.status === 404) throw new Error("for a recording, use nopspan convert --to perfetto");
  if (!answer.ok) throw new Error((await reader.read()).value);
  let rest = "", size = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    for (const [kind, , text] of lines.map((line) => line.split(" "))) {
      if (kind === "end" || kind === "missed") reader.cancel();
      if (kind === "missed" || (kind === "session" && size > 0)) throw new Error("this browser was too slow");
      if (kind === "end") return new Blob(parts).arrayBuffer();
      if (kind === "bytes") size += parts[parts.push(bytesOf(text)) - 1].length;
    }
    said(size);
  }
  throw new Error("nopspan serve has ended");
}
function showPerfetto(main) {
  const button = element("button", { type: "button" }, "Record 10 s and open Perfetto"), saved = element("button", { type: "button" }, "Record 10 s to a file"), state = element("p", { class: "hint", role: "status" });
  main.append(element("div", { class: "legend" }, button, " ", saved), element("p", { class: "hint" }, "Perfetto is a viewer at " + kPerfetto + ", which this needs. The bytes go from here to its tab in this browser. Perfetto sends them nowhere. With a file, open it there, or keep it. It has the requests that end while it is recorded and began after this page was opened, without arrows to the steps of engines; nopspan convert has these."), state);
  const record = async (use) => {
    try {
      state.textContent = "Recording …";
      await use(await captured((size) => { state.textContent = "Recording … " + numberText(size) + " bytes"; }));
    } catch (error) { state.textContent = "Not recorded: " + error.message; }
  };
  button.addEventListener("click", () => {
    const tab = window.open(kPerfetto);  // browsers allow that only at a click
    if (tab === null) { state.textContent = "The browser does not open a tab. Record to a file."; return; }
    record(async (buffer) => {
      state.textContent = "Waiting for " + kPerfetto + " …";
      // It answers once it listens.
      let isThere = false;
      addEventListener("message", (event) => { isThere = isThere || (event.origin === kPerfetto && event.data === "PONG"); });
      for (let tries = 0; !isThere; ++tries) {
        if (tab.closed || tries === 300) throw new Error(kPerfetto + " does not answer");
        tab.postMessage("PING", kPerfetto);
        await new Promise((resolve) => { setTimeout(resolve, 200); });
      }
      tab.postMessage({ perfetto: { buffer, title: "nopspan" } }, kPerfetto);
      state.textContent = numberText(buffer.byteLength) + " bytes are in the tab of Perfetto.";
    });
  });
  saved.addEventListener("click", () => record((buffer) => {
    const link = element("a", { href: URL.createObjectURL(new Blob([buffer])), download: "nopspan.pftrace" }, "Save nopspan.pftrace, " + numberText(buffer.byteLength) + " bytes");
    state.replaceChildren(link);
  }));
  return { refresh() {}, redraw() {}, key: () => false };
}

// ---- The page

const kViews = { ...(isLive ? { live: ["Live", showLive] } : {}), requests: ["Requests", showRequests], request: ["Request", showRequest], engine: ["Engine", showEngine], compare: ["Compare", showCompare], ...(isLive ? { perfetto: ["Perfetto", showPerfetto] } : {}) };
let view = { refresh() {}, redraw() {}, key: () => false };
function showViews() {
  byId("views").replaceChildren(...Object.entries(kViews).map(([name, [title]], k) => element("a",
    { href: hashOf({ view: name, from: 0, to: 0, span: -1, step: -1 }), title: title + " (" + (k + 1) + ")", ...(name === state.view ? { "aria-current": "page" } : {}), ...(name === "request" && !state.request ? { hidden: "" } : {}) }, title)));
}
function show() {
  readState();
  if (isLive && state.view !== "live" && live.requests > shownRequests && !live.isNew) { takeNews(); return; }
  const main = byId("view");
  main.replaceChildren();
  byId("filter").value = state.filter;
  byId("found").textContent = "";
  showViews();
  document.title = "nopspan: " + (state.view === "request" ? visible(state.request) : kViews[state.view][0]);
  view = kViews[state.view][1](main);
}
// What the reader must know about losses, and about what was selected.
function remarks() {
  const texts = [live.problem, ...data.notes].filter((text) => text);
  if (live.isMissing) texts.push("Some requests did not arrive here in time, and are not shown");
  if (live.isShortened) texts.push("The oldest requests are no longer here");
  for (const { name, remark, losses, outside } of data.files) {
    const of = data.files.length > 1 ? name + ": " : "";
    if (remark) texts.push(remark);
    if (losses) texts.push(of + losses.trim().replace(/\n\s*/g, "; "));
    if (outside > 0) texts.push(of + counted(outside, "span or event is", "spans and events are") + " in no request, and not shown");
  }
  if (data.strayParts > 0) texts.push(counted(data.strayParts, "step has", "steps have") + " lost the entry with its times, and is not shown");
  return texts;
}
function showRemarks() {
  const texts = remarks();
  byId("remark").textContent = texts.join(" · ");
  byId("remark").hidden = texts.length === 0;
  byId("footer").textContent = "nopspan " + data.version + " · " + [...data.files.map((file) => file.name), new Date(Number(unixNs(data.first_ns) / 1000000n)).toString().slice(0, 33)].filter((text) => text).join(" · ") +
    " · keys: W S or Ctrl+wheel zoom, A D or drag move, 0 all, arrows, Enter, / filter, Esc back, c colour, " + Object.keys(kViews).map((_, k) => k + 1).join(" ") + " views" + (isLive ? ", r show what is new" : "");
}
// Shows what is new at once where nobody would be disturbed, and otherwise says how much there is.
let quietUntil = 0, quietTimer = 0, shownRequests = 0;
function takeNews() {
  if (live.head === undefined) return;
  const began = performance.now();
  shownRequests = live.requests;
  live.isNew = false;
  orders.clear();
  searched.clear();
  use([...live.blocks], live.head);
  showRemarks();
  clearTimeout(addressTimer);
  history.replaceState(null, "", hashOf({}));
  show();
  // A tenth of the time at most.
  quietUntil = performance.now() + Math.min(5000, 10 * (performance.now() - began));
}
function followed() {
  const isFirst = data.version === undefined;
  if (live.head === undefined && isFirst) { byId("view").textContent = live.problem || "Waiting for data …"; return; }
  const news = live.requests - shownRequests, isFree = view.follows && view.follows() && !byId("view").contains(document.activeElement);
  const quiet = quietUntil - performance.now(), isWanted = news > 0 && state.view !== "live" && isFree;
  clearTimeout(quietTimer);
  if (isWanted && quiet > 0) quietTimer = setTimeout(followed, quiet);  // perhaps nothing more arrives
  if (live.head !== undefined && (live.isNew || (isWanted && quiet <= 0))) takeNews();
  else if (state.view === "live") view.refresh();
  if (!isFirst) showRemarks();
  byId("news").hidden = live.isNew || state.view === "live" || live.requests === shownRequests;
  byId("news").textContent = counted(live.requests - shownRequests, "new request");
}
byId("news").addEventListener("click", () => { takeNews(); byId("news").hidden = true; });

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const input = event.target.closest && event.target.closest("input, select, button, a");
  if (event.key === "Escape") {
    event.preventDefault();  // a search field would lose its text
    if (input) input.blur();
    else if (view.key(event)) return;
    else if (visits > 0) history.back();
    else if (state.view === "request") go({ view: "requests", from: 0, to: 0, span: -1 });
    else if (state.filter) { byId("filter").value = ""; change({ filter: "" }); view.refresh(); }
    return;
  }
  if (input && (input.matches("input, select") || event.key === "Enter" || event.key === " ")) return;
  const wanted = Object.keys(kViews)[event.key - 1];
  if (event.key === "/") byId("filter").focus();
  else if (event.key === "r" && isLive) byId("news").click();
  else if (wanted && (wanted !== "request" || state.request)) go({ view: wanted, from: 0, to: 0, span: -1, step: -1 });
  else if (!view.key(event)) return;
  event.preventDefault();
});
byId("filter").addEventListener("input", () => { change({ filter: byId("filter").value }); view.refresh(); });
addEventListener("popstate", () => { visits = Math.max(0, visits - 1); show(); });
addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  goTo(link.getAttribute("href"));
});

(async () => {
  try {
    if (isLive) {
      readState();
      follow(followed);
    } else {
      await load();
      showRemarks();
      show();
    }
  } catch (error) {
    const old = typeof DecompressionStream === "undefined" ? "It needs a browser of 2023 or later." : "";
    byId("view").textContent = "This page cannot be shown. " + old + " " + error;
    throw error;
  }
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
