"""Does every family learn? One network of each, trained from scratch on real images by `striate train`.

    python benchmarks/families_learn.py [--only PATTERN] [--mnist FOLDER] [--cifar10 FOLDER]

Small jobs: ten thousand images of CIFAR-10 (MNIST for the grey networks), enlarged where the geometry needs it, and a
few epochs. The score asked for is far above chance (10 %) and far below what the network can reach; what it shows is
that gradients, initialisation, auxiliary heads and normalisation work together. Scores are on the official test images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from harness import RESULTS, markdown_table, provenance, run_process, say, striate_command, versions, write_result


@dataclass(frozen=True, slots=True)
class Job:
    """A network, the images it learns from and the score that it has to reach."""

    model: str
    data: str
    asked: float  # top-1 on the test images
    settings: tuple[str, ...]


def _mnist(model: str, asked: float, *settings: str) -> Job:
    return Job(model, "mnist", asked, ("--limit", "10000", "--epochs", "4", "--preset", "none", *settings))


def _cifar(model: str, asked: float, side: int, rate: float, *settings: str) -> Job:
    job = ("--limit", "10000", "--epochs", "6", "--preset", "none", "--batch-size", "64")
    return Job(model, "cifar10", asked, (*job, "--input-size", str(side), "--lr", str(rate), *settings))


JOBS = (
    _mnist("lenet_1989_zip", 0.90, "--lr", "0.05"),
    _mnist("lenet1_1990", 0.90, "--lr", "0.05"),
    _mnist("lenet5_1998", 0.90, "--lr", "0.002"),
    _cifar("alexnet_2012", 0.40, 67, 0.01),  # without normalisation of batches these two take a while to get going
    _cifar("alexnet_owt", 0.40, 64, 0.01),
    _cifar("zfnet_fig3", 0.40, 64, 0.01),
    _cifar("nin_cifar", 0.40, 32, 0.01),
    _cifar("vgg_a", 0.40, 32, 0.01),
    _cifar("vgg11_bn", 0.50, 32, 0.02),
    _cifar("googlenet", 0.40, 64, 0.01),
    _cifar("googlenet_torchvision", 0.50, 64, 0.02),
    _cifar("bn_inception", 0.50, 64, 0.02),
    _cifar("inception_v3", 0.50, 80, 0.02),
    _cifar("inception_v4", 0.45, 80, 0.02),
    _cifar("inception_resnet_v1", 0.45, 80, 0.02),
    _cifar("xception", 0.45, 64, 0.02),
    _cifar("resnet50", 0.45, 64, 0.02),
    _cifar("plain18", 0.45, 64, 0.02),
    _cifar("cifar_plain20", 0.45, 32, 0.1),
    _cifar("preact_resnet164", 0.45, 32, 0.05),
    _cifar("stochdepth_resnet110", 0.35, 32, 0.05),
    _cifar("mobilenet_v1_0.5_128", 0.45, 64, 0.05),
    _cifar("squeezenet1_1", 0.40, 64, 0.01),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names of networks")
    parser.add_argument("--mnist", default="mnist", help="where MNIST lies")
    parser.add_argument("--cifar10", default="cifar10", help="where CIFAR-10 lies")
    parser.add_argument("--out", default=str(RESULTS / "families_learn.json"))
    args = parser.parse_args()
    result = provenance("benchmarks/families_learn.py")
    result |= {"versions": versions(sys.executable, ("striate", "torch"), ("striate",)), "jobs": []}
    for job in JOBS:
        if fnmatch(job.model, args.only):
            row = learn(job, {"mnist": args.mnist, "cifar10": args.cifar10}[job.data])
            result["jobs"].append(row)
            say(f"{job.model:24} {row['top1']} (asked {job.asked}), {row['seconds']} s")
            write_result(Path(args.out), result)
    head = ["network", "data", "top-1", "asked", "training"]
    rows = [[row["model"], row["data"], row["top1"], row["asked"], f"{row['seconds']} s"] for row in result["jobs"]]
    print(markdown_table(head, rows))
    sys.exit(any(not row["learned"] for row in result["jobs"]))


def learn(job: Job, data: str) -> dict:
    """Train once; the score is that of the official test images."""
    with tempfile.TemporaryDirectory() as runs:
        command = [*striate_command(), "train", data, "--model", job.model, *job.settings]
        done = run_process([*command, "--no-report", "--runs", runs, "--json"], keep_path=True)
    answer = done.json
    if done.returncode or answer is None:
        raise SystemExit(f"{job.model} failed:\n{done.err}")
    top1 = round(answer["test"]["top1"], 4)
    return {
        "model": job.model,
        "data": job.data,
        "settings": list(job.settings),
        "top1": top1,
        "asked": job.asked,
        "learned": top1 >= job.asked,
        "seconds": round(answer["seconds"], 1),
        "train_images": 10_000,
    }


if __name__ == "__main__":
    main()
