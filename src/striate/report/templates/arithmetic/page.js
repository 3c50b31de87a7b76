// The page around numbers.js: controls, grids, the window that slides.
"use strict";

const one = (selector) => document.querySelector(selector);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const placed = (element, places) => {
  for (const [name, value] of Object.entries(places)) element.style.setProperty(`--${name}`, value);
  return element;
};
const shown = (value) => (value === null ? "–" : String(+value.toPrecision(4)).replace("-", "−"));
const NUMBERS_UP_TO = 40; // larger sides are drawn to scale, without numbers
const SMALLEST = 27; // pixels of a cell that holds a number

const data = JSON.parse(one("#data").textContent);
const form = one("#settings").elements;
let example = null; // what is shown, as it began
let layer = null, axes = null, place = 0, timer = 0;
let inputCells = [], paddingCells = [], outputCells = [];

// -- the layer ---------------------------------------------------------------------------------------------------------

function begin(chosen) {
  example = chosen;
  layer = completed(structuredClone(chosen.layer));
  if (!layer.input && fits(layer.inputSize)) layer.input = filled(null, layer.inputSize, (i, j) => (i * 3 + j * 5 + i * j) % 5);
  if (!layer.kernel && layer.kind !== "pool") layer.kernel = filled(null, layer.kernelSize, (i, j) => ((i + 2 * j) % 3) - 1);
  one("#say").textContent = chosen.say;
  place = 0;
  stop();
  toControls();
  rebuild();
}

const fits = (size) => Math.max(...size) <= NUMBERS_UP_TO;

function filled(rows, [height, width], value) {
  return Array.from({ length: height }, (_, i) => Array.from({ length: width }, (_, j) => rows?.[i]?.[j] ?? value(i, j)));
}

function toControls() {
  for (const name of ["kind", "operation", "pool"]) form[name].value = layer[name];
  form.dims.value = layer.dims;
  [form.inputHeight.value, form.inputWidth.value] = layer.inputSize;
  [form.kernelHeight.value, form.kernelWidth.value] = layer.kernelSize;
  const word = Array.isArray(layer.padding) ? (Math.max(...layer.padding) ? "pixels" : "valid") : layer.padding;
  form.padding.value = word;
  form.pixels.value = word === "pixels" ? layer.padding[1] : 1;
  for (const name of ["stride", "dilation", "extra"]) form[name].value = layer[name][1];
  form.ceil.checked = layer.ceil;
  form.countPadding.checked = layer.countPadding;
}

function fromControls(changed) {
  for (const input of form) if (input.type === "number" && !input.closest("[hidden]") && !input.checkValidity()) return;
  const whole = (name) => Math.round(Number(form[name].value));
  const line = form.dims.value === "1";
  const before = layer;
  const pair = (name, kept) => (changed === name || changed === "dims" || !kept ? [line && name !== "pixels" ? neutral(name) : whole(name), whole(name)] : kept);
  const neutral = (name) => (name === "extra" ? 0 : 1);
  const inputSize = [line ? 1 : whole("inputHeight"), whole("inputWidth")];
  const kernelSize = [line ? 1 : whole("kernelHeight"), whole("kernelWidth")];
  layer = completed({
    kind: form.kind.value, operation: form.operation.value, pool: form.pool.value, dims: line ? 1 : 2, inputSize, kernelSize,
    input: fits(inputSize) ? filled(before.input, inputSize, (i, j) => (i * 3 + j * 5 + i * j) % 5) : null,
    kernel: filled(before.kernel, kernelSize, (i, j) => ((i + 2 * j) % 3) - 1),
    stride: pair("stride", before.stride), dilation: pair("dilation", before.dilation), extra: pair("extra", before.extra),
    padding: form.padding.value === "pixels" ? pair("pixels", changed !== "padding" && Array.isArray(before.padding) && before.padding) : form.padding.value,
    ceil: form.ceil.checked, countPadding: form.countPadding.checked,
  });
  if (changed === "dims") toControls();
  edited();
  rebuild();
}

function edited() {
  one("#example").value = "";
  one("#say").textContent = `Changed from “${example.title}”.`;
}

// -- grids -------------------------------------------------------------------------------------------------------------

function rebuild() {
  for (const label of document.querySelectorAll("[data-for]")) label.hidden = !label.dataset.for.split(" ").includes(layer.kind);
  for (const input of document.querySelectorAll(".settings .tall")) input.hidden = layer.dims === 1;
  one("#pixels").hidden = form.padding.value !== "pixels";
  one("#counting").hidden = layer.kind !== "pool" || layer.pool !== "average";
  try {
    axes = axesOf(layer);
  } catch (problem) {
    axes = null;
    stop();
    one("#problem").textContent = `No output: ${problem.message}.`;
  }
  one("#problem").hidden = axes !== null;
  one("#works").hidden = axes === null;
  if (!axes) return;
  const last = axes[0].output * axes[1].output - 1;
  place = Math.min(place, last);
  one("#scrub").max = last;
  one("#stage").classList.toggle("line", layer.dims === 1);
  buildInput();
  buildKernels();
  buildOutput();
  fit();
  facts();
  show();
}

// The picture's frame along one axis: first place and number of places, the image always inside.
function frameOf(axis) {
  const first = Math.min(-axis.lead, 0);
  const end = Math.max(axis.length - axis.lead, (axis.input - 1) * axis.spread + 1);
  return { first, count: end - first };
}

function sized(grid, rows, columns, plain) {
  grid.classList.toggle("plain", plain);
  Object.assign(grid.dataset, { rows, columns });
  return placed(grid, { rows, columns });
}

function buildInput() {
  const [tall, wide] = axes.map(frameOf);
  const plain = !layer.input || !fits([tall.count, wide.count]);
  const grid = sized(one("#input"), tall.count, wide.count, plain);
  const cells = [];
  inputCells = [];
  paddingCells = new Map();
  const spans = axes.map((axis) => (axis.input - 1) * axis.spread + 1);
  if (plain) {
    cells.push(placed(make("div", { className: "area padding" }), { x: 0, y: 0, w: wide.count, h: tall.count }));
    cells.push(placed(make("div", { className: "area" }), { x: -wide.first, y: -tall.first, w: spans[1], h: spans[0] }));
  } else {
    for (let y = 0; y < tall.count; y += 1) {
      for (let x = 0; x < wide.count; x += 1) {
        const at = [y + tall.first, x + wide.first];
        const what = cellKind(at);
        let cell;
        if (what === "image") {
          const [i, j] = at.map((value, k) => value / axes[k].spread);
          cell = numberCell(layer.input, i, j, `input row ${i + 1}, column ${j + 1}`, inputCells);
        } else {
          cell = make("div", { className: `cell ${what}`, textContent: what === "beyond" || paddingIsNothing() ? "" : "0" });
          paddingCells.set(`${at}`, cell);
        }
        cells.push(placed(cell, { x, y }));
      }
    }
  }
  cells.push(make("div", { className: "window", id: "window" }));
  grid.replaceChildren(...cells);
  const pads = axes.some((axis) => axis.before || axis.after);
  const inserted = axes.some((axis) => axis.spread > 1);
  one("#input-note").textContent = [sizeText(layer.inputSize), inserted ? "spread apart by the stride" : "", pads && layer.kind !== "transposed" ? paddingText() : ""].filter(Boolean).join(", ");
  one("#window-key").textContent = layer.kernel && !plain ? "window at this position; small: the weight" : "window at this position";
  one("#padding-key").hidden = !(paddingCells.size || (plain && pads));
  one("#padding-key span").textContent = paddingIsNothing() ? "padding, which never wins" : inserted ? "zeros, put in between and around" : "padding, zero";
}

const paddingIsNothing = () => layer.kind === "pool" && (layer.pool === "max" || (layer.pool === "average" && !layer.countPadding));

function cellKind(at) {
  const kinds = at.map((value, i) => whatLies(value, axes[i]));
  return ["beyond", "padding", "zero"].find((kind) => kinds.includes(kind)) || "image";
}

const sizeText = ([height, width]) => (layer.dims === 1 ? `${width}` : `${height}×${width}`);
function paddingText() {
  const sides = [...new Set(axes.slice(layer.dims === 1 ? 1 : 0).map(({ before, after }) => (before === after ? `${before} each side` : `${before} before, ${after} after`)))];
  return `padding ${sides.join(" and ")}`;
}

// An editable number: arrow keys go to its neighbours.
function numberCell(rows, i, j, label, cells) {
  const cell = make("input", { className: "cell", inputMode: "decimal", value: shown(rows[i][j]), autocomplete: "off" });
  cell.setAttribute("aria-label", label);
  (cells[i] ??= [])[j] = cell;
  cell.addEventListener("focus", () => cell.select());
  cell.addEventListener("input", () => {
    const value = Number(cell.value.replace("−", "-").replace(",", "."));
    if (cell.value.trim() === "" || !Number.isFinite(value)) return;
    rows[i][j] = value;
    edited();
    refreshValues();
    show();
  });
  cell.addEventListener("blur", () => { cell.value = shown(rows[i][j]); });
  cell.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Enter: [1, 0] }[event.key];
    if (!steps) return;
    const all = cell.selectionStart === 0 && cell.selectionEnd === cell.value.length;
    if (steps[1] && !all && cell.selectionStart !== (steps[1] < 0 ? 0 : cell.value.length)) return;
    event.preventDefault();
    cells[i + steps[0]]?.[j + steps[1]]?.focus();
  });
  return cell;
}

function buildKernels() {
  const pool = layer.kind === "pool";
  one("#kernels").hidden = pool;
  if (pool) return;
  const plain = !fits(layer.kernelSize) || !layer.input;
  const grid = sized(one("#kernel"), ...layer.kernelSize, plain);
  const cells = [];
  grid.replaceChildren(...(plain
    ? [placed(make("div", { className: "area" }), { x: 0, y: 0, w: layer.kernelSize[1], h: layer.kernelSize[0] })]
    : layer.kernel.flatMap((row, i) => row.map((_, j) => placed(numberCell(layer.kernel, i, j, `kernel row ${i + 1}, column ${j + 1}`, cells), { x: j, y: i })))));
  one("#kernel-note").textContent = sizeText(layer.kernelSize) + (isTurned(layer) || plain ? "" : ", slides as it stands");
  one("#turned-part").hidden = plain || !isTurned(layer);
  sized(one("#turned"), ...layer.kernelSize, false);
}

function buildOutput() {
  const size = axes.map((axis) => axis.output);
  const plain = !layer.input || !fits(size);
  const grid = sized(one("#output"), ...size, plain);
  outputCells = [];
  if (plain) {
    grid.replaceChildren(placed(make("div", { className: "area" }), { x: 0, y: 0, w: size[1], h: size[0] }));
  } else {
    for (let i = 0; i < size[0] * size[1]; i += 1) {
      const cell = make("button", { type: "button", className: "cell", tabIndex: -1 });
      cell.addEventListener("click", () => { stop(); go(i); });
      outputCells.push(placed(cell, { x: i % size[1], y: Math.floor(i / size[1]) }));
    }
    grid.replaceChildren(...outputCells);
  }
  grid.append(make("div", { className: "window now", id: "now" }));
  one("#output-note").textContent = sizeText(size);
  refreshValues();
}

function refreshValues() {
  if (outputCells.length) outputOf(layer).flat().forEach((value, i) => { outputCells[i].textContent = shown(value); outputCells[i].dataset.value = value; });
  if (layer.kernel && isTurned(layer)) {
    const rows = turned(layer.kernel);
    one("#turned").replaceChildren(...rows.flatMap((row, y) => row.map((value, x) => placed(make("div", { className: "cell met", textContent: shown(value) }), { x, y }))));
  }
}

// Cells as large as the page has room for.
function fit() {
  if (!axes) return;
  const room = one("#stage").clientWidth - 12;
  const beside = layer.dims === 2 && room > 700;
  const grids = [["#input", 0.44], ["#kernel", 0.2], ["#turned", 0.2], ["#output", 0.3]];
  for (const [name, share] of grids) {
    const grid = one(name);
    const columns = Number(grid.dataset.columns) || 1, plain = grid.classList.contains("plain");
    const sides = Math.max(columns, Number(grid.dataset.rows) || 1);
    const width = beside ? room * share : room;
    const cell = plain ? Math.min(width, 420) / (name === "#input" || layer.dims === 1 ? sides : Math.max(...axes.map((axis) => frameOf(axis).count))) : Math.max(SMALLEST, Math.min(46, width / columns));
    placed(grid, { cell: `${plain ? cell : Math.floor(cell)}px` });
  }
}

// -- one position ------------------------------------------------------------------------------------------------------

function show() {
  const columns = axes[1].output;
  const row = Math.floor(place / columns), column = place % columns;
  const frames = axes.map(frameOf);
  one("#scrub").value = place;
  const where = layer.dims === 1 ? `position ${column + 1} of ${columns}` : `row ${row + 1}, column ${column + 1}`;
  one("#position").textContent = where;
  one("#scrub").setAttribute("aria-valuetext", where);
  const taps = tapsAt(layer, axes, row, column);
  placed(one("#window"), {
    x: taps[0].at[1] - frames[1].first, y: taps[0].at[0] - frames[0].first, w: axes[1].extent, h: axes[0].extent,
  });
  placed(one("#now"), { x: column, y: row, w: 1, h: 1 });
  outputCells.forEach((cell, i) => {
    cell.classList.toggle("now", i === place);
    cell.classList.toggle("later", i > place);
    cell.tabIndex = i === place ? 0 : -1;
    cell.setAttribute("aria-label", `output ${layer.dims === 1 ? "" : `row ${Math.floor(i / columns) + 1}, `}column ${(i % columns) + 1}: ${cell.textContent}`);
  });
  marks(taps, frames);
  sum(taps, row, column);
  for (const [pan, cell] of [["#input", one("#window")], ["#output", one("#now")]]) keepInView(one(pan).parentElement, cell);
}

function marks(taps, frames) {
  const grid = one("#input");
  for (const old of grid.querySelectorAll(".met, .chosen-one")) old.classList.remove("met", "chosen-one");
  for (const old of grid.querySelectorAll(".weight")) old.remove();
  if (grid.classList.contains("plain")) return;
  const best = layer.kind === "pool" && layer.pool === "max" ? Math.max(...taps.filter((tap) => tap.what === "image").map((tap) => tap.value)) : null;
  for (const tap of taps) {
    const cell = tap.index ? inputCells[tap.index[0]][tap.index[1]] : paddingCells.get(`${tap.at}`);
    cell?.classList.add("met");
    if (best !== null && tap.index && tap.value === best) cell.classList.add("chosen-one");
    if (layer.kernel) grid.append(placed(make("span", { className: "weight", textContent: `×${shown(tap.weight)}` }), { x: tap.at[1] - frames[1].first, y: tap.at[0] - frames[0].first }));
  }
}

function sum(taps, row, column) {
  const box = one("#sum");
  if (!layer.input) {
    box.replaceChildren(make("p", { textContent: `The window covers rows ${taps[0].at[0] + 1} to ${taps.at(-1).at[0] + 1} and columns ${taps[0].at[1] + 1} to ${taps.at(-1).at[1] + 1} of the input. Sides above ${NUMBERS_UP_TO} are drawn to scale, without numbers.` }));
    return;
  }
  const value = make("b", { className: "is", textContent: `= ${shown(valueAt(layer, axes, row, column))}` });
  const text = [];
  const joined = (parts, between) => parts.forEach((part, i) => text.push(...(i ? [between] : []), part));
  if (layer.kind === "pool") {
    const seen = taps.filter((tap) => tap.what === "image" || (tap.what === "padding" && !paddingIsNothing()));
    const terms = seen.map((tap) => make("span", { className: tap.what === "image" ? "term" : "term nothing", textContent: bracketed(tap.value, layer.pool !== "max") }));
    text.push(layer.pool === "max" ? "max(" : "(");
    joined(terms, layer.pool === "max" ? ", " : " + ");
    text.push(") ", ...(layer.pool === "average" ? [`/ ${divisorOf(layer, taps)} `] : []));
  } else {
    const long = taps.length > 49;
    const kept = long ? taps.filter((tap) => tap.value * tap.weight) : taps;
    const terms = kept.map((tap) => make("span", { className: tap.what === "image" ? "term" : "term nothing" }, `${bracketed(tap.value, false)}·`, make("em", { textContent: bracketed(tap.weight, true) })));
    joined(terms, " + ");
    if (long) text.push(kept.length ? ` + ${taps.length - kept.length} products that are 0 ` : "every product is 0 ");
  }
  box.replaceChildren(make("p", {}, ...text, " ", value));
}

const bracketed = (value, inner) => (value < 0 && inner ? `(${shown(value)})` : shown(value));

function keepInView(pan, cell) {
  const size = pan.firstElementChild;
  if (size.offsetWidth <= pan.clientWidth) return;
  const unit = parseFloat(size.style.getPropertyValue("--cell"));
  const left = Number(cell.style.getPropertyValue("--x")) * unit, width = Number(cell.style.getPropertyValue("--w")) * unit;
  if (left < pan.scrollLeft + 4 || left + width > pan.scrollLeft + pan.clientWidth - 4) pan.scrollLeft = left - (pan.clientWidth - width) / 2;
}

function facts() {
  const line = layer.dims === 1;
  const sides = line ? [["size", axes[1]]] : axes[0].formula === axes[1].formula ? [["side", axes[0]]] : [["height", axes[0]], ["width", axes[1]]];
  const rows = sides.map(([name, axis]) => [`output ${name}`, axis.formula]);
  rows.push(["rule", layer.kind === "transposed" ? "(N - 1)·S - 2P + D·(K - 1) + 1 + extra" : `${layer.kind === "pool" && layer.ceil ? "ceil" : "floor"}((N + padding - D·(K - 1) - 1) / S) + 1`]);
  const field = fieldOf(layer, axes);
  rows.push(["receptive field of one output", `${layer.kind === "transposed" ? "at most " : ""}${sizeText(field)} input values`]);
  if (sides[0][1].dilation > 1) rows.push(["reach of the window", `${sizeText(axes.map((axis) => axis.extent))}, with ${layer.kernelSize[0] * layer.kernelSize[1]} taps`]);
  const unused = sides.filter(([, axis]) => axis.unused).map(([name, axis]) => `${axis.unused} at the end${line || sides.length === 1 ? "" : ` of the ${name}`}`);
  if (unused.length) rows.push(["never read", unused.join(", ")]);
  const weights = layer.kind === "pool" ? 0 : layer.kernelSize[0] * layer.kernelSize[1];
  const places = layer.kind === "transposed" ? layer.inputSize[0] * layer.inputSize[1] : axes[0].output * axes[1].output;
  rows.push(["weights", layer.kind === "pool" ? "0: pooling learns nothing" : `${weights}, the same at every position`]);
  if (weights) rows.push(["multiply-accumulates", `${weights} × ${places.toLocaleString("en")} = ${(weights * places).toLocaleString("en")}`]);
  one("#facts").replaceChildren(...rows.map(([name, text]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: text }))));
}

// -- moving ------------------------------------------------------------------------------------------------------------

function go(to) {
  place = Math.max(0, Math.min(Number(one("#scrub").max), to));
  show();
}

function stop() {
  clearInterval(timer);
  timer = 0;
  one("#play").textContent = "play";
  one("#sum").setAttribute("aria-live", "polite");
}

function play() {
  if (timer) return stop();
  const last = Number(one("#scrub").max);
  if (place === last) go(0);
  one("#play").textContent = "pause";
  one("#sum").setAttribute("aria-live", "off"); // a moving window is not read out
  timer = setInterval(() => (place < last ? go(place + 1) : stop()), Number(one("#pace").value));
}

one("#play").addEventListener("click", play);
one("#pace").addEventListener("change", () => { if (timer) { stop(); play(); } });
for (const [name, step] of [["first", () => 0], ["back", () => place - 1], ["next", () => place + 1]]) {
  one(`#${name}`).addEventListener("click", () => { stop(); go(step()); });
}
one("#scrub").addEventListener("input", (event) => { stop(); go(Number(event.target.value)); });
one("#output").addEventListener("keydown", (event) => {
  const wide = axes[1].output;
  const to = { ArrowLeft: place - 1, ArrowRight: place + 1, ArrowUp: place - wide, ArrowDown: place + wide, Home: 0, End: Infinity }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  stop();
  if (to === Infinity || (to >= 0 && to <= Number(one("#scrub").max))) go(to);
  outputCells[place].focus();
});
one("#settings").addEventListener("input", (event) => fromControls(event.target.name));
one("#settings").addEventListener("submit", (event) => event.preventDefault());
one("#reset").addEventListener("click", () => { one("#example").value = example.id; begin(example); });
new ResizeObserver(() => { fit(); if (axes) show(); }).observe(one("#stage"));

function choices(select, entries, named) {
  const groups = new Map();
  select.append(make("option", { value: "", textContent: "your own", hidden: true }));
  for (const entry of entries) {
    const option = make("option", { value: entry.id, textContent: named(entry) });
    if (!entry.group) { select.append(option); continue; }
    if (!groups.has(entry.group)) select.append(groups.set(entry.group, make("optgroup", { label: entry.group })).get(entry.group));
    groups.get(entry.group).append(option);
  }
}

choices(one("#example"), data.layers, (entry) => entry.title);
one("#example").addEventListener("change", (event) => begin(data.layers.find((entry) => entry.id === event.target.value)));
one("#example").value = data.layers[0].id;
begin(data.layers[0]);
