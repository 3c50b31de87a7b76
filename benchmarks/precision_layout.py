"""Which precision and memory layout train fastest on this processor?

Forward, backward and step of the networks below on random images, fp32 and bf16 autocast, NCHW and NHWC; the answer is
the default that `training/defaults.py` chooses. Imports Striate for the networks; needs no data.
"""

from __future__ import annotations

from striate.runtime import tune_allocator, usable_cores

tune_allocator()  # before torch is imported

import argparse  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import torch  # noqa: E402
from harness import RESULTS, markdown_table, provenance, say, versions, write_result  # noqa: E402

import striate  # noqa: E402

# network, channels, side, batch
CASES = (
    ("compact_s", 1, 8, 64),
    ("compact_s", 1, 28, 128),
    ("lenet5_dense", 1, 32, 128),
    ("compact_l", 3, 32, 256),
    ("cifar_resnet20", 3, 32, 128),
    ("resnet18", 3, 224, 32),
)
SETTINGS = tuple((precision, layout) for precision in ("fp32", "bf16") for layout in ("nchw", "nhwc"))


def images_per_second(case: tuple[str, int, int, int], precision: str, layout: str, seconds: float) -> list[float]:
    """One figure per step, after two that warm up, for about `seconds`."""
    name, channels, side, batch = case
    torch.manual_seed(0)
    memory = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    model = striate.create_model(name, in_channels=channels, input_size=side, classes=10).to(memory_format=memory)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    images = torch.randn(batch, channels, side, side).contiguous(memory_format=memory)
    targets = torch.randint(10, (batch,))
    figures: list[float] = []
    begun = time.perf_counter()
    while len(figures) < 7 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        model.loss(logits.float(), targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        figures.append(batch / (time.perf_counter() - start))
    return figures[2:]


def main() -> None:
    """Measure every case in every setting and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each case and setting")
    parser.add_argument("--out", default=str(RESULTS / "precision_layout.json"))
    args = parser.parse_args()
    torch.set_num_threads(usable_cores())
    torch.set_flush_denormal(True)
    result = provenance("benchmarks/precision_layout.py")
    result |= {"versions": versions(sys.executable, ("striate", "torch"), ("striate",)), "runs": []}
    rows = []
    for case in CASES:
        row = [f"{case[0]}, {case[2]}x{case[2]}, batch {case[3]}"]
        for precision, layout in SETTINGS:
            figures = images_per_second(case, precision, layout, args.seconds)
            middle = statistics.median(figures)
            record = {"network": case[0], "side": case[2], "batch": case[3], "precision": precision, "layout": layout}
            record |= {"images_per_second": round(middle, 1), "steps": len(figures)}
            record |= {"least": round(min(figures), 1), "greatest": round(max(figures), 1)}
            result["runs"].append(record)
            row.append(f"{middle:,.0f}")
            say(f"{row[0]} {precision} {layout}: {middle:,.0f} images/s")
        rows.append(row)
    write_result(Path(args.out), result)
    print(markdown_table(["images/s, training step", *(f"{p} {m}" for p, m in SETTINGS)], rows))


if __name__ == "__main__":
    main()
