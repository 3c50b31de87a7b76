"""Does every family learn? One network of each, trained from scratch on real images by `striate train`.

    python benchmarks/families_learn.py [--only PATTERN]

With --only, the other rows of the result file stay as they are.

Small jobs on the embedded handwritten digits (1,438 to learn from, 359 held out), enlarged to what the geometry of the
network needs, with its paper's start and a plain SGD. The score asked for is far above chance (10 %) and below what the
network can reach; what it shows is that gradients, initialisation, auxiliary heads, towers and normalisation work
together.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from harness import RESULTS, markdown_table, provenance, run_process, say, striate_command, tail, versions, write_result


@dataclass(frozen=True, slots=True)
class Job:
    """A network, the side of the images in pixels, how it is trained, and the top-1 that it has to reach."""

    model: str
    side: int
    rate: float
    epochs: int
    asked: float = 0.9
    settings: tuple[str, ...] = ()


PLAIN = ("--preset", "none", "--schedule", "onecycle", "--best-by", "last", "--no-report")
JOBS = (
    Job("lenet_1989_zip", 16, 0.1, 12),
    Job("lenet1_1990", 28, 0.1, 12),
    Job("lenet5_1998", 32, 0.002, 10),
    # From N(0, 0.01²) AlexNet stays at chance for longer than a small job lasts.
    Job("alexnet_2012", 67, 0.01, 12, settings=("--init", "he")),
    Job("alexnet_owt", 64, 0.01, 12, settings=("--init", "he")),
    Job("zfnet_fig3", 64, 0.01, 12),
    # Without normalisation NiN's rectified logits stay at chance for longer than a small job lasts.
    Job("nin_cifar", 32, 0.05, 6, settings=("--normalization", "batch")),
    Job("vgg_a", 32, 0.01, 12, settings=("--init", "he")),  # Glorot's start gives logits of 1e-2: slow to get going
    Job("vgg11_bn", 32, 0.01, 8),
    Job("googlenet", 64, 0.01, 15),
    Job("googlenet_torchvision", 64, 0.05, 6),
    Job("bn_inception", 64, 0.05, 6),
    # Deep and without shortcuts, these two begin with gradients hundreds of times as large as later ones. A rate per
    # weight, as in the papers' RMSProp, copes; by SGD at 0.05, v3 came to 78 % in six epochs and v4 stayed at chance.
    Job("inception_v3", 80, 0.001, 6, settings=("--optimizer", "adamw")),
    Job("inception_v4", 80, 0.001, 10, settings=("--optimizer", "adamw")),
    Job("inception_resnet_v1", 80, 0.05, 6),
    Job("xception", 64, 0.05, 6),
    Job("resnet50", 64, 0.05, 6),
    Job("plain18", 64, 0.05, 6),
    Job("cifar_resnet20", 32, 0.1, 6),
    Job("cifar_plain20", 32, 0.1, 6),
    Job("preact_resnet110", 32, 0.05, 6),
    Job("stochdepth_resnet110", 32, 0.05, 10),
    Job("mobilenet_v1_0.5_128", 64, 0.1, 8),
    Job("squeezenet1_1", 64, 0.0005, 15, settings=("--optimizer", "adamw")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names of networks")
    parser.add_argument("--out", default=str(RESULTS / "families_learn.json"))
    args = parser.parse_args()
    result = provenance("benchmarks/families_learn.py")
    rows = former(Path(args.out))
    result |= {"versions": versions(sys.executable, ("striate", "torch"), ("striate",)), "jobs": []}
    for job in JOBS:
        if fnmatch(job.model, args.only):
            row = rows[job.model] = {**learn(job), "revision": result["revision"]}
            result["jobs"] = [rows[one.model] for one in JOBS if one.model in rows]
            say(f"{job.model:24} {row['top1']} (asked {job.asked}), {row['seconds']} s")
            write_result(Path(args.out), result)
    head = ["network", "side", "epochs", "top-1 held out", "asked", "training"]
    cells = [
        [row["model"], row["side"], row["epochs"], row["top1"], row["asked"], f"{row['seconds']} s"]
        for row in result["jobs"]
    ]
    print(markdown_table(head, cells))
    sys.exit(any(not row["learned"] for row in result["jobs"]))


def former(path: Path) -> dict[str, dict]:
    """The rows of a result file that is there, by network."""
    return {row["model"]: row for row in json.loads(path.read_text())["jobs"]} if path.exists() else {}


def learn(job: Job) -> dict:
    """Train once; the score is that of the held-out digits."""
    settings = ["--input-size", job.side, "--lr", job.rate, "--epochs", job.epochs, "--batch-size", 32, *job.settings]
    with tempfile.TemporaryDirectory() as runs:
        command = [*striate_command(), "train", "digits", "--model", job.model, *map(str, settings), *PLAIN]
        done = run_process([*command, "--runs", runs, "--json"], keep_path=True)
    answer = done.json
    if done.returncode or answer is None:
        raise SystemExit(f"{job.model} failed:\n{tail(done.err)}")
    top1 = round(answer["val"]["top1"], 4)
    return {
        "model": job.model,
        "side": job.side,
        "epochs": job.epochs,
        "rate": job.rate,
        "settings": list(job.settings),
        "top1": top1,
        "asked": job.asked,
        "learned": top1 >= job.asked,
        "seconds": round(answer["seconds"], 1),
    }


if __name__ == "__main__":
    main()
