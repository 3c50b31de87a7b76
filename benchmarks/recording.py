"""What `--record depth` and `--snapshots 1` add to a training, and that neither changes a bit of its weights.

    python benchmarks/recording.py --data mnist --data-root ../shared/data --limit 6000 --epochs 3

Each round trains once plainly, once with each, in turns, so that a busy moment hits all of them; processor seconds of
this process say more than the clock on a machine that others use. A first round is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import harness
import torch
from safetensors.torch import load_file

import striate

KINDS: dict[str, dict[str, Any]] = {"plain": {}, "record depth": {"record": "depth"}, "snapshots 1": {"snapshots": 1}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-root")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--network", default="lenet5_dense")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    settings = {name: getattr(arguments, name) for name in ("data_root", "limit", "epochs", "threads")}
    settings |= {"model": arguments.network, "report": False, "progress": False, "device": "cpu"}
    seconds: dict[str, list[float]] = {name: [] for name in KINDS}
    clock: dict[str, list[float]] = {name: [] for name in KINDS}
    same = True
    for repeat in range(arguments.repeats + 1):
        weights = None
        for name, extra in KINDS.items():
            with tempfile.TemporaryDirectory() as folder:
                busy, begun = time.process_time(), time.perf_counter()
                result = striate.train(arguments.data, runs=folder, **settings, **extra)
                spent = time.process_time() - busy, time.perf_counter() - begun
                assert isinstance(result, striate.RunResult)
                found = load_file(result.run / "model.safetensors")
            weights = weights or found
            same = same and all(torch.equal(value, found[key]) for key, value in weights.items())
            if repeat:
                seconds[name].append(spent[0])
                clock[name].append(spent[1])
    plain = seconds["plain"]
    rows = []
    for name, values in seconds.items():
        pairs = [100 * (one / other - 1) for one, other in zip(values, plain, strict=True)]
        rows.append(
            {
                "kind": name, "cpu_seconds": statistics.median(values), "seconds": statistics.median(clock[name]),
                "added_percent": statistics.median(pairs), **harness.spread(pairs),
            }
        )  # fmt: skip
        harness.say(
            f"{name:14} {rows[-1]['cpu_seconds']:.2f} s of processor, {rows[-1]['added_percent']:+.1f} % "
            f"({min(pairs):+.1f} to {max(pairs):+.1f})"
        )
    harness.say(f"the same weights to the bit: {same}")
    described = {key: value for key, value in vars(arguments).items() if key != "data_root"}
    result = {"rows": rows, "same_weights": same, **described, **harness.provenance("recording.py")}
    harness.write_result(harness.RESULTS / f"recording_{arguments.data}.json", result)


if __name__ == "__main__":
    main()
