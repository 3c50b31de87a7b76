"""How long a command takes that has little to do: `striate predict` on one image, beside torch's own import and peers.

    python benchmarks/cold_start.py --repeats 7 --output benchmarks/results/cold_start.json
    python benchmarks/cold_start.py --yolo path/to/peer/bin/yolo

Every program runs as a process of its own, in turns, so that a drift of the machine meets all alike. Byte code is kept
in a folder of this run and made by one run of each that is not counted, as on any machine where a program ran before;
the files are in the system's cache by then. What is compared is the wall clock from start to exit.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness import markdown_table, provenance, run_process, say, spread, striate_command, tail, versions, write_result

TORCHVISION_PREDICT = """
import sys
import torch
from PIL import Image
from torchvision import transforms
from torchvision.models import resnet18
prepare = transforms.Compose([
    transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])
network = resnet18()
network.load_state_dict(torch.load(sys.argv[1], weights_only=True))
network.eval()
with torch.inference_mode():
    chances = network(prepare(Image.open(sys.argv[2]).convert("RGB"))[None]).softmax(1)
print(chances.topk(5))
"""
MAKE = """
import sys
import numpy, torch
from PIL import Image
from striate.checkpoint import save_model
from striate.models import create_model
from striate.spec import InputSpec, Labels
torch.manual_seed(0)
network = create_model("resnet18", classes=1000, in_channels=3, input_size=(224, 224))
spec = InputSpec(size=(224, 224), channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize="crop")
save_model(sys.argv[1] + "/model.safetensors", network, spec, Labels(tuple(f"class {i}" for i in range(1000))))
pixels = numpy.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=numpy.uint8)
Image.fromarray(pixels).save(sys.argv[1] + "/one.jpg", quality=90)
try:
    from torchvision.models import resnet18
    torch.save(resnet18().state_dict(), sys.argv[1] + "/resnet18.pt")
except ImportError:
    pass
"""


def programs(folder: Path, yolo: str | None) -> dict[str, list[str]]:
    """Name and command of all that is timed, ours first."""
    python, striate = sys.executable, striate_command()
    found = {
        "striate predict": [*striate, "predict", str(folder / "model.safetensors"), str(folder / "one.jpg")],
        "striate --help": [*striate, "--help"],
        "python": [python, "-c", ""],
        "import torch": [python, "-c", "import torch"],
    }
    if (folder / "resnet18.pt").is_file():
        script = folder / "torchvision_predict.py"
        script.write_text(TORCHVISION_PREDICT, encoding="utf-8")
        found |= {
            "import torchvision": [python, "-c", "import torchvision"],
            "torchvision predict": [python, str(script), str(folder / "resnet18.pt"), str(folder / "one.jpg")],
        }
    return found | ({"yolo --help": [yolo, "--help"]} if yolo else {})


def measure(commands: dict[str, list[str]], repeats: int) -> dict[str, dict[str, Any]]:
    """Every program `repeats` times, in turns, after one run each that is not counted."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, command in commands.items():
            done = run_process(command, timeout=300, keep_path=True)
            if done.returncode:
                raise SystemExit(f"{name} ended with {done.returncode}:\n{tail(done.err)}")
            if turn:
                runs[name].append(done.costs())
        say(f"turn {turn} of {repeats}")
    return {
        name: {
            "seconds": statistics.median(one["wall_seconds"] for one in taken),
            "spread": spread([one["wall_seconds"] for one in taken]),
            "cpu_seconds": statistics.median(one["cpu_seconds"] for one in taken),
            "peak_mib": statistics.median(one["peak_mib"] for one in taken),
            "load_before": max(one["load_before"] for one in taken),
        }
        for name, taken in runs.items()
    }


def main() -> None:
    """Measure, print the table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--yolo", metavar="PROGRAM", help="the `yolo` of an environment with Ultralytics")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    result = provenance("cold_start.py")
    result["versions"] = versions(sys.executable, ("torch", "torchvision", "numpy", "pillow", "striate"), ("torch",))
    with tempfile.TemporaryDirectory() as name:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(name) / "bytecode")
        made = run_process([sys.executable, "-c", MAKE, name], timeout=300, keep_path=True)
        if made.returncode:
            raise SystemExit(tail(made.err))
        result["programs"] = measure(programs(Path(name), asked.yolo), asked.repeats)
    torch_alone = result["programs"]["import torch"]["seconds"]
    result["predict_beyond_torch_seconds"] = result["programs"]["striate predict"]["seconds"] - torch_alone
    rows = [
        (name, f"{one['seconds']:.2f}", f"{one['spread']['min']:.2f} to {one['spread']['max']:.2f}",
         f"{one['cpu_seconds']:.2f}", f"{one['seconds'] / torch_alone:.2f}", f"{one['peak_mib']:.0f}")
        for name, one in result["programs"].items()
    ]  # fmt: skip
    print(markdown_table(("program", "seconds", "range", "processor seconds", "of import torch", "MiB"), rows))
    print(f"\npredict takes {result['predict_beyond_torch_seconds']:+.2f} s beyond torch's own import")
    if asked.output:
        write_result(asked.output, result)


if __name__ == "__main__":
    main()
