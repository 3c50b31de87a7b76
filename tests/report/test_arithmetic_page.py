"""The page of convolution arithmetic: its own script is run, and torch and NumPy say what has to come out."""

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from striate.anatomy.arithmetic import layer_arithmetic, parse
from striate.cli.anatomy import command as anatomy
from striate.errors import UsageError
from striate.report.arithmetic_page import examples_of_lectures, write_arithmetic

EXAMPLES = examples_of_lectures()
LAYERS = {example["id"]: example for example in EXAMPLES["layers"]}
NUMBERS = Path(write_arithmetic.__code__.co_filename).parent / "templates" / "arithmetic" / "numbers.js"
NODE = shutil.which("node") or shutil.which("nodejs")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PLAIN = {"kind": "conv", "operation": "cross-correlation", "pool": "max", "dims": 2, "padding": "valid",
         "stride": [1, 1], "dilation": [1, 1], "extra": [0, 0], "ceil": False, "countPadding": True}  # fmt: skip

ASK = """
const numbers = require(process.argv[1]);
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const answers = asked.map((given) => {
  if (given.stack) return numbers.stackFields(numbers.parseStack(given.stack)).map((row) => row.field);
  const layer = numbers.completed(given);
  try {
    const axes = numbers.axesOf(layer);
    return { axes, field: numbers.fieldOf(layer, axes), output: layer.input && numbers.outputOf(layer) };
  } catch (problem) {
    if (problem instanceof RangeError) return { problem: problem.message };
    throw problem;
  }
});
console.log(JSON.stringify(answers));
"""


def answers(*given: dict) -> list:
    """What the page's script makes of layers or stacks."""
    if NODE is None:
        pytest.skip("node runs the page's script, and is not installed")
    done = subprocess.run(
        [NODE, "-e", ASK, str(NUMBERS)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def settings_of(layer: dict) -> dict:
    """The same layer for `layer_arithmetic`."""
    size = layer.get("inputSize") or [len(layer["input"]), len(layer["input"][0])]
    kernel = layer.get("kernelSize") or [len(layer["kernel"]), len(layer["kernel"][0])]
    padding = layer["padding"]
    return {
        "input": tuple(size),
        "kernel": tuple(kernel),
        "stride": tuple(layer["stride"]),
        "dilation": tuple(layer["dilation"]),
        "padding": padding if isinstance(padding, str) else tuple(padding),
        "extra": tuple(layer["extra"]) if layer["kind"] == "transposed" else 0,
        "kind": layer["kind"],
        "ceil": layer["ceil"],
    }


def pads_of(layer: dict) -> tuple[int, int, int, int]:
    """Top, bottom, left, right."""
    size = layer.get("inputSize") or [len(layer["input"]), len(layer["input"][0])]
    kernel = layer.get("kernelSize") or [len(layer["kernel"]), len(layer["kernel"][0])]
    pads = []
    for axis in (0, 1):
        extent = layer["dilation"][axis] * (kernel[axis] - 1) + 1
        total = max((-(-size[axis] // layer["stride"][axis]) - 1) * layer["stride"][axis] + extent - size[axis], 0)
        words = {"valid": (0, 0), "full": (extent - 1,) * 2, "causal": (extent - 1, 0)}
        words["same"] = (total // 2, total - total // 2)
        pad = words[layer["padding"]] if isinstance(layer["padding"], str) else (layer["padding"][axis],) * 2
        pads += (0, 0) if layer["dims"] == 1 and axis == 0 else pad
    return tuple(pads)


def reference(layer: dict) -> list[list[float]]:
    """What torch makes of a layer with numbers."""
    image = torch.tensor(layer["input"], dtype=torch.float64)[None, None]
    top, bottom, left, right = pads_of(layer)
    stride, dilation = layer["stride"], layer["dilation"]
    if layer["kind"] == "pool":
        kernel = layer["kernelSize"]
        if layer["pool"] == "max":
            padded = F.pad(image, (left, right, top, bottom), value=-torch.inf)
            return F.max_pool2d(padded, kernel, stride, 0, dilation, layer["ceil"])[0, 0].tolist()
        if layer["pool"] == "sum":
            padded, ones = F.pad(image, (left, right, top, bottom)), torch.ones(1, 1, *kernel).double()
            return F.conv2d(padded, ones, stride=stride)[0, 0].tolist()
        # torch pads both sides of an average alike
        assert top == bottom
        assert left == right
        found = F.avg_pool2d(image, kernel, stride, (top, left), layer["ceil"], layer["countPadding"])
        return found[0, 0].tolist()
    weights = torch.tensor(layer["kernel"], dtype=torch.float64)[None, None]
    if layer["operation"] == "convolution":
        weights = weights.flip(2, 3)
    if layer["kind"] == "transposed":
        found = F.conv_transpose2d(
            image, weights, stride=stride, padding=(top, left), output_padding=layer["extra"], dilation=dilation
        )
    else:
        found = F.conv2d(F.pad(image, (left, right, top, bottom)), weights, stride=stride, dilation=dilation)
    return found[0, 0].tolist()


@pytest.mark.parametrize("name", LAYERS)
def test_examples_are_what_torch_computes(name):
    layer = PLAIN | LAYERS[name]["layer"]
    if "output" in LAYERS[name]:
        assert reference(layer) == LAYERS[name]["output"]
    else:
        sides = layer_arithmetic(**settings_of(layer)).sides
        assert [side.output for side in sides] == LAYERS[name]["size"]


LINES = [name for name, one in LAYERS.items() if one["layer"].get("dims") == 1]


@pytest.mark.parametrize("name", [name for name in LINES if not {"stride", "dilation"} & LAYERS[name]["layer"].keys()])
def test_lines_are_what_numpy_computes(name):
    layer = PLAIN | LAYERS[name]["layer"]
    line, kernel = layer["input"][0], layer["kernel"][0]
    mode = {"causal": "full"}.get(layer["padding"], layer["padding"])
    found = (np.convolve if layer["operation"] == "convolution" else np.correlate)(line, kernel, mode).tolist()
    expected = LAYERS[name].get("output", [found])[0]
    assert found[: len(expected)] == expected  # causal: the full one without its tail


def test_the_page_computes_the_examples():
    found = answers(*(example["layer"] for example in LAYERS.values()))
    for example, answer in zip(LAYERS.values(), found, strict=True):
        if "output" in example:
            assert answer["output"] == example["output"], example["id"]
        else:
            assert [axis["output"] for axis in answer["axes"]] == example["size"], example["id"]


def test_the_page_computes_the_stacks():
    """M133 to M140, and the networks' fields as the anatomy has them."""
    found = answers(*({"stack": one["stack"]} for one in EXAMPLES["stacks"]))
    assert [fields[-1] for fields in found] == [one["field"] for one in EXAMPLES["stacks"]]
    by_stack = {one["id"]: fields for one, fields in zip(EXAMPLES["stacks"], found, strict=True)}
    assert by_stack["lenet"] == [5, 6, 14, 16]
    assert by_stack["doubling"] == [3, 7, 15, 31, 63, 127, 255, 511]


def some_layer(draw: random.Random) -> dict:
    """Any layer that the page offers, sizes small, now and then one that does not work out."""
    kind = draw.choice(["conv", "conv", "transposed", "pool"])
    dims = draw.choice([1, 2])
    sides = [1 if dims == 1 else draw.randint(1, 7), draw.randint(1, 9)]
    kernel = [1 if dims == 1 else draw.randint(1, 4), draw.randint(1, 4)]
    pool = draw.choice(["max", "average", "sum"])
    plain_window = kind == "pool" and pool != "max"  # torch averages without dilation
    words = ["valid"] if kind == "transposed" else ["valid", "same", "full", "causal"]
    pixels = [0 if dims == 1 else draw.randint(0, kernel[0] // 2), draw.randint(0, kernel[1] // 2)]
    padding = draw.choice([pixels, pixels, draw.choice(words)])
    if kind == "pool" and pool == "average":
        padding = pixels
    numbers = [[draw.randint(-9, 9) for _ in range(sides[1])] for _ in range(sides[0])]
    layer = PLAIN | {
        "kind": kind, "dims": dims, "pool": pool, "padding": padding, "input": numbers,
        "operation": draw.choice(["convolution", "cross-correlation"]),
        "stride": [1 if dims == 1 else draw.randint(1, 3), draw.randint(1, 3)],
        "dilation": [1, 1] if plain_window else [1 if dims == 1 else draw.randint(1, 2), draw.randint(1, 2)],
        "ceil": kind == "pool" and pool == "average" and draw.random() < 0.4,
        "countPadding": draw.random() < 0.5,
    }  # fmt: skip
    if kind == "transposed":
        layer["extra"] = [0 if dims == 1 else draw.randint(0, 1), draw.randint(0, 1)]
    if kind == "pool":
        return layer | {"kernelSize": kernel}
    return layer | {"kernel": [[draw.randint(-3, 3) for _ in range(kernel[1])] for _ in range(kernel[0])]}


def test_the_page_agrees_with_the_command_and_with_torch():
    """Sizes, formulas, fields and values of some hundred layers; what one refuses the other refuses."""
    draw = random.Random(5)
    layers = [some_layer(draw) for _ in range(400)]
    refused = 0
    for layer, answer in zip(layers, answers(*layers), strict=True):
        settings = settings_of(layer)
        if "problem" in answer:
            refused += 1
            with pytest.raises(UsageError):
                layer_arithmetic(**settings)
            continue
        wanted = layer_arithmetic(**settings)
        for side, axis in zip(wanted.sides, answer["axes"], strict=True):
            for name in ("output", "before", "after", "unused", "formula"):
                assert axis[name] == getattr(side, name), (layer, name)
        assert tuple(answer["field"]) == wanted.receptive_field_hw, layer
        found = [[-np.inf if value is None else value for value in row] for row in answer["output"]]
        np.testing.assert_allclose(found, reference(layer), rtol=1e-9, atol=1e-9, err_msg=str(layer))
    assert 0 < refused < 200


def data_of(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.S)
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize(
    "text",
    [
        "input 5 kernel 3 padding same",
        "input 224 kernel 3 stride 2 padding 1",
        "input 224 kernel 3 stride 2 padding same",
        "pool input 56 kernel 3 stride 2 ceil",
        "transposed input 7 kernel 4 stride 2 padding 1",
        "transposed input 7x5 kernel 3 stride 2 padding 1 extra 1x0",
        "input 1x30 kernel 1x3 padding causal dilation 2",
    ],
)
def test_the_page_opens_at_the_layer_of_the_command(text, tmp_path):
    page = tmp_path / "conv.html"
    result = CliRunner().invoke(anatomy, ["--conv", text, "--html", str(page), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["html"] == str(page)
    first = data_of(page)["layers"][0]
    assert first["size"] == printed["output"][1:]
    (answer,) = answers(first["layer"])
    for axis, side in zip(answer["axes"], parse(text).sides, strict=True):
        assert (axis["before"], axis["after"], axis["output"]) == (side.before, side.after, side.output)


def test_the_page_needs_nothing_else(tmp_path):
    source = write_arithmetic(tmp_path / "page.html").read_text("utf-8")
    assert "default-src 'none'" in source
    assert not re.search(r'(src|href)="(https?:)?//', source)


def test_the_page_is_of_one_layer(tmp_path):
    result = CliRunner().invoke(anatomy, ["lenet5", "--html", str(tmp_path / "page.html")])
    assert result.exit_code != 0
    assert not (tmp_path / "page.html").exists()


DRIVE = """
const results = { errors: [] };
addEventListener("error", (event) => results.errors.push(event.message));
const seen = () => [...document.querySelectorAll("#output button")].map((cell) => Number(cell.dataset.value));
const pick = (id) => { one("#example").value = id; one("#example").dispatchEvent(new Event("change")); };
const typed = (cell) => cell.dispatchEvent(new Event("input", { bubbles: true }));
const set = (name, value) => { form[name].value = value; typed(form[name]); };
results.examples = data.layers.map((entry) => {
  pick(entry.id);
  return { id: entry.id, output: seen(), sum: one("#sum b")?.textContent };
});
pick("image-valid");
const corner = document.querySelector("#input input");
corner.focus(); corner.value = "10"; typed(corner);
results.edited = [seen()[0], one("#sum b").textContent, one("#example").value];
one("#output button").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
results.moved = [one("#position").textContent, document.activeElement.getAttribute("aria-label")];
one("#scrub").value = 8; typed(one("#scrub"));
results.scrubbed = one("#position").textContent;
set("padding", "full"); results.full = seen().length;
set("kernelWidth", "9"); results.works = !one("#works").hidden;
set("padding", "valid"); results.problem = one("#problem").textContent;
set("kernelWidth", "3"); set("kind", "pool"); results.pooled = seen();
set("dims", "1"); results.line = seen();
one("#reset").click(); results.again = seen();
results.wide = document.documentElement.scrollWidth <= innerWidth;
document.body.append(make("pre", { id: "results", textContent: JSON.stringify(results) }));
"""


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [500, 1600])
def test_the_page_in_a_browser(width, tmp_path):
    page = write_arithmetic(tmp_path / "page.html")
    source = page.read_text("utf-8").replace("</body>", f"<script>{DRIVE}</script></body>")
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source)  # for the script of this test
    page.write_text(source, "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = [str(BROWSER), *flags, f"--window-size={width},1000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'<pre id="results">(.*?)</pre>', dom, re.S)
    assert found, dom[-500:]
    results = json.loads(found[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert results["errors"] == []
    for one in results["examples"]:
        if "output" in (example := LAYERS[one["id"]]):
            flat = [value for row in example["output"] for value in row]
            assert one["output"] == flat, one["id"]
            assert float(one["sum"].removeprefix("= ").replace("−", "-")) == pytest.approx(flat[0], rel=1e-3)
    assert results["edited"] == [13, "= 13", ""]  # 4 with a one in the corner
    assert results["moved"] == ["row 1, column 2", "output row 1, column 2: 3"]
    assert results["scrubbed"] == "row 3, column 3"
    assert results["full"] == 49
    assert results["works"]
    assert results["problem"] == "No output: a window of 9 does not fit into 5."
    assert len(results["pooled"]) == 9
    assert len(results["line"]) == 3
    assert results["again"] == [value for row in LAYERS["image-valid"]["output"] for value in row]
    assert results["wide"]
