"""Where do the milliseconds of a training step go: into convolutions, or into what passes over memory between them?

The step of `striate train`, as `striate bench` times it, under torch's profiler, with the machine's matrix peak
measured between the repeats. The share of the peak that the convolutions reach alone is the most the step could, if
normalisation, rectifiers, sums and pooling were free. ONEDNN_MAX_CPU_ISA, where it is set, is recorded: with
AVX512_CORE_BF16 a processor with matrix units computes as those without do.
"""

from __future__ import annotations

from striate.runtime import tune_allocator, usable_cores

tune_allocator()  # before torch is imported

import argparse  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
from collections import defaultdict  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from harness import RESULTS, markdown_table, provenance, say, versions, write_result  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from striate.anatomy import anatomy_of  # noqa: E402
from striate.bench.limits import operations  # noqa: E402
from striate.bench.peaks import Peaks  # noqa: E402
from striate.bench.runners import Machine, TrainingRunner  # noqa: E402
from striate.bench.settings import Setting  # noqa: E402
from striate.network import open_network  # noqa: E402
from striate.runtime import denormals_flushed, pick_device, set_threads  # noqa: E402

# network, batch, as `benchmarks/training_throughput.py` has them
CASES = (("resnet18", 64), ("resnet50_v1_5", 64), ("mobilenet_v1", 64), ("cifar_resnet20", 128))
# operators by what they do; the first whose beginning fits counts
KINDS = {
    "convolution": ("mkldnn_convolution", "convolution", "_convolution", "conv", "addmm", "mm"),
    "normalisation": ("native_batch_norm", "batch_norm", "_batch_norm"),
    "rectifiers": ("clamp_min", "relu", "threshold", "hardtanh", "clamp"),
    "sums": ("add", "sum", "mean"),
    "pooling": ("max_pool", "avg_pool", "adaptive", "_adaptive"),
}
OTHERS = "other"  # the loss, the update, casts, filling with zeros


def kind_of(operator: str) -> str:
    """Of one of torch's operators."""
    name = operator.removeprefix("aten::")
    return next((kind for kind, names in KINDS.items() if name.startswith(names)), OTHERS)


@denormals_flushed()
def measure(model: str, batch: int, precision: str, repeats: int, threads: int) -> dict[str, Any]:
    """Milliseconds of a step by kind of operator, medians over `repeats`, and the peak between them."""
    device = pick_device("cpu")
    saved = open_network(model)
    anatomy = anatomy_of(saved.model, saved.spec.size, saved.spec.channels)
    setting = Setting("train", "torch", "nhwc", precision, batch)
    runner = TrainingRunner(setting, Machine(saved, device, threads, name=model))
    peaks = Peaks([precision], device, seconds=1.0)
    runner.run(2)
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        peaks.measure()
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            found["step"].append(1000 * runner.run(1))
        by_kind = dict.fromkeys((*KINDS, OTHERS), 0.0)
        for event in profiled.key_averages():
            by_kind[kind_of(event.key)] += event.self_cpu_time_total / 1000
        for kind, milliseconds in by_kind.items():
            found[kind].append(milliseconds)
    medians = {kind: statistics.median(values) for kind, values in found.items()}
    peak, gigaflop = peaks.gflops(precision) or float("nan"), operations(anatomy, "train") * batch / 1e9
    return {
        "model": model, "batch_size": batch, "precision": precision, "repeats": repeats, "milliseconds": medians,
        "range": {kind: [min(values), max(values)] for kind, values in found.items()},
        "peak_gflops": peak, "gigaflop": gigaflop,
        "share_of_peak": 1000 * gigaflop / medians["step"] / peak,
        "share_of_peak_convolutions_alone": 1000 * gigaflop / medians["convolution"] / peak,
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The Markdown that docs quote."""
    kinds = (*KINDS, OTHERS)
    head = ["network", "precision", "step, ms", *kinds, "of the matrix peak", "the convolutions alone"]
    lines = []
    for row in rows:
        spent = row["milliseconds"]
        shares = [f"{100 * spent[kind] / sum(spent[one] for one in kinds):.0f} %" for kind in kinds]
        alone = (f"{100 * row[name]:.0f} %" for name in ("share_of_peak", "share_of_peak_convolutions_alone"))
        lines.append(
            [f"{row['model']}, batch {row['batch_size']}", row["precision"], f"{spent['step']:.0f}", *shares, *alone]
        )
    return markdown_table(head, lines)


def main() -> None:
    """Profile every case in both precisions and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(name for name, _ in CASES))
    parser.add_argument("--precision", default="bf16,fp32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--out", default=str(RESULTS / "step_by_operator.json"))
    args = parser.parse_args()
    torch.manual_seed(0)
    threads = set_threads(args.threads)
    rows = []
    for name, batch in CASES:
        for precision in args.precision.split(",") if name in args.networks.split(",") else ():
            rows.append(measure(name, batch, precision, args.repeats, threads))
            say(f"{name} {precision}: {rows[-1]['milliseconds']['step']:.0f} ms")
    result = provenance("benchmarks/step_by_operator.py") | {
        "versions": versions(sys.executable, ("striate", "torch"), ("striate", "torch")),
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "threads": threads,
        "rows": rows,
    }
    write_result(Path(args.out), result)
    print(table(rows))


if __name__ == "__main__":
    main()
