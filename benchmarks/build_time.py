"""How long does building a network take, with its paper's start and, for weights that will be loaded, without?

    python benchmarks/build_time.py [--only PATTERN] [--repeats 3]

Every registered network at its paper's input size, one thread, median of the repeats; imports are not counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from fnmatch import fnmatch

import torch
from harness import RESULTS, markdown_table, provenance, say, versions, write_result

from striate.models import create_model, entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names of networks")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    create_model("lenet5")  # what the first network of a process pays once
    result = provenance("benchmarks/build_time.py")
    result |= {"versions": versions(sys.executable, ("striate", "torch"), ("striate",)), "networks": {}}
    for entry in entries():
        if fnmatch(entry.name, args.only):
            seconds = {start: built(entry.name, start, args.repeats) for start in (False, True)}
            result["networks"][entry.name] = {"without_start": seconds[False], "with_start": seconds[True]}
            say(f"{entry.name:28} {seconds[False]:.3f} s without a start, {seconds[True]:.3f} s with")
    write_result(RESULTS / "build_time.json", result)
    slowest = sorted(result["networks"].items(), key=lambda item: -item[1]["with_start"])[:5]
    rows = [[name, row["without_start"], row["with_start"]] for name, row in slowest]
    print(markdown_table(["the slowest", "without a start, s", "with, s"], rows))


def built(name: str, start: bool, repeats: int) -> float:
    """Median seconds to build it."""
    figures = []
    for _ in range(repeats):
        begun = time.perf_counter()
        create_model(name, start=start)
        figures.append(time.perf_counter() - begun)
    return round(statistics.median(figures), 3)


if __name__ == "__main__":
    main()
