// The arithmetic of one layer, value by value. No page is needed: node runs this file as it stands.
"use strict";

const WORDS = ["valid", "same", "full", "causal"];

// A layer: { kind: "conv" | "transposed" | "pool", operation: "cross-correlation" | "convolution",
//   pool: "max" | "average" | "sum", input: rows or null, inputSize, kernel: rows or null, kernelSize,
//   stride, dilation, padding: a word or [height, width], extra, ceil, countPadding }. Sizes are [height, width].
function completed(layer) {
  const full = {
    kind: "conv", operation: "cross-correlation", pool: "max", dims: 2, input: null, kernel: null,
    stride: [1, 1], dilation: [1, 1], padding: "valid", extra: [0, 0], ceil: false, countPadding: true, ...layer,
  };
  if (full.input) full.inputSize = [full.input.length, full.input[0].length];
  if (full.kernel) full.kernelSize = [full.kernel.length, full.kernel[0].length];
  if (full.kind === "pool") full.kernel = null;
  return full;
}

// One axis: sizes, padding, the output and its formula with the numbers filled in.
// Throws a RangeError in words where there is no output.
function axisOf(layer, i) {
  const size = layer.inputSize[i], kernel = layer.kernelSize[i];
  const stride = layer.stride[i], dilation = layer.dilation[i];
  const extent = dilation * (kernel - 1) + 1;
  const alone = layer.dims === 1 && i === 0; // a line has no height to pad
  const [before, after] = alone ? [0, 0] : paddingOf(layer, i, size, extent, stride);
  const window = dilation === 1 ? `${kernel}` : `(${dilation}·(${kernel} - 1) + 1)`;
  const side = { input: size, kernel, stride, dilation, before, after, extent };
  if (layer.kind === "transposed") {
    const extra = alone ? 0 : layer.extra[i];
    if (extra >= Math.max(stride, dilation)) throw new RangeError(`extra ${extra} must be below the stride or the dilation`);
    side.output = (size - 1) * stride - before - after + extent + extra;
    if (side.output < 1) throw new RangeError(`padding ${before} leaves nothing of the output`);
    side.unused = 0;
    side.formula = `(${size} - 1)·${stride}${before ? ` - 2·${before}` : ""} + ${window}${extra ? ` + ${extra}` : ""} = ${side.output}`;
    return { ...side, step: 1, spread: stride, lead: extent - 1 - before, length: side.output + extent - 1 };
  }
  const room = size + before + after - extent;
  const up = layer.kind === "pool" && layer.ceil;
  if (room < 0 && !(up && room + stride > 0)) {
    const padded = before + after ? ` + ${before + after} of padding` : "";
    throw new RangeError(`a window of ${extent} does not fit into ${size}${padded}`);
  }
  const exact = room / stride + 1;
  side.output = up ? Math.ceil(exact) : Math.floor(exact);
  const beyond = up && (side.output - 1) * stride >= size + before; // a window must begin in the image or before it
  if (beyond) side.output -= 1;
  let rounded = exact === side.output ? "" : ` = ${side.output > exact ? "ceil" : "floor"}(${+exact.toPrecision(6)})`;
  if (beyond) rounded += " (a window more would begin beyond the image)";
  side.unused = Math.max(0, room - (side.output - 1) * stride);
  const padded = before || after ? ` + ${before} + ${after}` : "";
  side.formula = `(${size}${padded} - ${window}) / ${stride} + 1${rounded} = ${side.output}`;
  const length = Math.max(size + before + after, (side.output - 1) * stride + extent);
  return { ...side, step: stride, spread: 1, lead: before, length };
}

function paddingOf(layer, i, size, extent, stride) {
  const word = layer.padding;
  if (Array.isArray(word)) return [word[i], word[i]];
  if (layer.kind === "transposed" && word !== "valid") throw new RangeError(`padding ${word} is not defined for a transposed convolution`);
  if (word === "full") return [extent - 1, extent - 1];
  if (word === "causal") return [extent - 1, 0];
  if (word === "same") { // an odd total: the extra one comes after
    const total = Math.max((Math.ceil(size / stride) - 1) * stride + extent - size, 0);
    return [Math.floor(total / 2), total - Math.floor(total / 2)];
  }
  return [0, 0];
}

// Whether the kernel is turned by 180 degrees before it slides: convolution does; a transposed convolution spreads
// every input value over the kernel, and read from the output that turns the kernel once more.
function isTurned(layer) {
  return layer.kind !== "pool" && (layer.operation === "convolution") !== (layer.kind === "transposed");
}

function turned(kernel) {
  return kernel.map((row) => [...row].reverse()).reverse();
}

function axesOf(layer) {
  return [axisOf(layer, 0), axisOf(layer, 1)];
}

// What one position of the window meets, tap by tap. `at` is the place in the picture's coordinates (the image
// begins at 0, its pixels `spread` apart), `index` the pixel of the image or null, `what` what lies there.
function tapsAt(layer, axes, row, column) {
  const weights = layer.kernel && (isTurned(layer) ? turned(layer.kernel) : layer.kernel);
  const taps = [];
  for (let m = 0; m < axes[0].kernel; m += 1) {
    for (let n = 0; n < axes[1].kernel; n += 1) {
      const at = [row * axes[0].step + m * axes[0].dilation - axes[0].lead, column * axes[1].step + n * axes[1].dilation - axes[1].lead];
      const kinds = at.map((place, i) => whatLies(place, axes[i]));
      const what = ["beyond", "padding", "zero"].find((kind) => kinds.includes(kind)) || "image";
      const index = what === "image" ? at.map((place, i) => place / axes[i].spread) : null;
      const value = index && layer.input ? layer.input[index[0]][index[1]] : 0;
      taps.push({ at, what, index, value, weight: weights ? weights[m][n] : 1 });
    }
  }
  return taps;
}

function whatLies(place, axis) {
  const last = (axis.input - 1) * axis.spread;
  if (place >= 0 && place <= last) return place % axis.spread ? "zero" : "image";
  // A pool that rounds up may hang over the padded image; of what hangs over nothing counts.
  return axis.spread === 1 && axis.step * (axis.output - 1) + axis.extent > axis.input + axis.before + axis.after &&
    place >= axis.input + axis.after ? "beyond" : "padding";
}

// The value of one output, and the sum (or the choice) that gives it. null: a window without any pixel of the image.
function valueAt(layer, axes, row, column) {
  const taps = tapsAt(layer, axes, row, column);
  if (layer.kind !== "pool") return tidy(taps.reduce((sum, tap) => sum + tap.value * tap.weight, 0));
  const seen = taps.filter((tap) => tap.what === "image");
  if (layer.pool === "max") return seen.length ? Math.max(...seen.map((tap) => tap.value)) : null;
  const sum = seen.reduce((total, tap) => total + tap.value, 0);
  if (layer.pool === "sum") return tidy(sum);
  const count = divisorOf(layer, taps);
  return count ? tidy(sum / count) : null;
}

// What an average divides by: the window's values, those of the padding only where they count.
function divisorOf(layer, taps) {
  return taps.filter((tap) => tap.what === "image" || (layer.countPadding && tap.what === "padding")).length;
}

function outputOf(layer) {
  const axes = axesOf(layer);
  return Array.from({ length: axes[0].output }, (_, row) =>
    Array.from({ length: axes[1].output }, (_, column) => valueAt(layer, axes, row, column)));
}

// Without what binary fractions add: 0.1 + 0.2 is 0.3.
function tidy(value) {
  return +value.toPrecision(12);
}

// Pixels of the layer's input, first to last, that one output sees at most, for each axis.
function fieldOf(layer, axes) {
  return axes.map((axis) => {
    if (layer.kind !== "transposed") return axis.extent;
    let most = 0;
    for (let phase = 0; phase < axis.stride; phase += 1) {
      const seen = [];
      for (let tap = 0; tap < axis.kernel; tap += 1) {
        const place = phase - axis.dilation * tap;
        if (place % axis.stride === 0) seen.push(place / axis.stride);
      }
      if (seen.length) most = Math.max(most, Math.max(...seen) - Math.min(...seen) + 1);
    }
    return most;
  });
}

// A stack of layers in short: "3", "3/2" with stride 2, "3d4" dilated by 4, "3*5" five times.
function parseStack(text) {
  const layers = [];
  for (const word of text.split(/[\s,]+/).filter(Boolean)) {
    const found = /^(\d+)(?:\/(\d+))?(?:d(\d+))?(?:[*x×](\d+))?$/.exec(word);
    const [kernel, stride, dilation, times] = found ? [found[1], found[2] ?? 1, found[3] ?? 1, found[4] ?? 1].map(Number) : [];
    if (!found || !kernel || !stride || !dilation || !times) throw new RangeError(`“${word}” is no layer such as 3, 3/2, 3d2 or 3*5`);
    if (layers.length + times > 2000) throw new RangeError("more than 2,000 layers");
    for (let i = 0; i < times; i += 1) layers.push({ kernel, stride, dilation });
  }
  return layers;
}

// The recursion r ← r + (k - 1) d j, j ← j s: field and jump (pixels between neighbours) after every layer.
function stackFields(layers) {
  let field = 1, jump = 1;
  return layers.map((layer) => {
    const grown = (layer.kernel - 1) * layer.dilation * jump;
    field += grown;
    const before = jump;
    jump *= layer.stride;
    return { ...layer, field, jump, before, grown };
  });
}

if (typeof module !== "undefined") {
  module.exports = { WORDS, completed, axesOf, tapsAt, valueAt, outputOf, fieldOf, isTurned, turned, parseStack, stackFields };
}
