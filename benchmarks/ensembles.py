"""What do more views, snapshots, Polyak averages, soups and ensembles add to a small network on CIFAR-10?

Trained with the shipped recipe on fewer images and for fewer epochs: some seeds, one run with a cyclic schedule of the
same length, and some short trainings that go on from the first seed's end. Each row is scored by `striate evaluate` on
the test images; paired differences are over those images. Steps that the result file has are not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from harness import (
    RESULTS,
    Finished,
    markdown_table,
    provenance,
    run_process,
    say,
    spread,
    striate_command,
    tail,
    write_result,
)
from harness import versions as found_versions

DATA = "cifar10"
KEPT = ("protocol", "top1", "top1_interval", "top5", "loss", "ece", "n", "over_best", "best_member", "soup")
OF_MEMBER = ("name", "top1", "top1_interval", "loss", "without", "adds")


def main() -> None:
    args = arguments()
    path, work = Path(args.out or RESULTS / "ensembles.json"), Path(args.work)
    settings = settings_of(args)
    result = former(path, settings) or {
        **provenance("benchmarks/ensembles.py"),
        "settings": settings,
        "versions": found_versions(sys.executable, ("striate", "torch", "numpy"), ("striate",)),
        "trainings": {},
        "evaluations": {},
    }
    for name, command in trainings(args, work).items():
        if name in result["trainings"] and (work / name / "evaluation.json").exists():
            continue
        say(f"training {name}")
        finished = ran([*command, "--run-dir", str(work / name)], args)
        answer = finished.json or {}
        result["trainings"][name] = {**finished.costs(), "epochs": answer["epochs"], "seconds": answer["seconds"]}
        write_result(path, result)
    for name, command in evaluations(args, work).items():
        answers = work / f"{name}.parquet"
        if name in result["evaluations"] and answers.exists():
            continue
        say(f"evaluating {name}")
        finished = ran([*command, "--split", "test", "--predictions", str(answers)], args)
        result["evaluations"][name] = {**finished.costs(), **without_folders(figures(finished.json or {}), work)}
        say(f"  top-1 {result['evaluations'][name]['top1']:.4f}")
        write_result(path, result)
    result["summary"] = summary(result["evaluations"], args, work)
    write_result(path, result)
    print(table(result["summary"]))


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What must be the same for a result file to be gone on with."""
    names = ("model", "limit", "epochs", "cycles", "seeds", "tuned", "tuning_epochs", "tuning_lr", "ema", "threads")
    return {name: getattr(args, name) for name in names}


def trainings(args: argparse.Namespace, work: Path) -> dict[str, list[str]]:
    """Name of each training -> its command."""
    common = [
        *striate_command(), "train", DATA, "--recipe", "cifar-fast", "--model", args.model, "--limit", str(args.limit),
        "--data-root", args.data_root, "--ema", str(args.ema), "--best-by", "last", "--no-report", "--threads",
        str(args.threads), "--json",
    ]  # fmt: skip
    whole = [*common, "--epochs", str(args.epochs), "--evaluate-every", str(args.epochs)]
    found = {
        f"seed-{seed}": [*whole, "--seed", str(seed), "--snapshots", str(args.epochs)] for seed in range(args.seeds)
    }
    found["cyclic"] = [*whole, "--schedule", "cyclic", "--cycles", str(args.cycles)]
    for seed in range(1, args.tuned + 1):
        found[f"tuned-{seed}"] = [
            *common, "--from", str(work / "seed-0"), "--epochs", str(args.tuning_epochs), "--evaluate-every",
            str(args.tuning_epochs), "--schedule", "cosine", "--lr", str(args.tuning_lr), "--seed", str(seed),
        ]  # fmt: skip
    return found


def evaluations(args: argparse.Namespace, work: Path) -> dict[str, list[str]]:
    """Name of each row -> its command."""

    def scored(networks: list[Path], *words: str) -> list[str]:
        command = [*striate_command(), "evaluate", *map(str, networks), "--data", DATA, "--data-root", args.data_root]
        return [*command, "--threads", str(args.threads), "--json", *words]

    raw = [work / f"seed-{seed}/snapshots/epoch-{args.epochs:04d}.safetensors" for seed in range(args.seeds)]
    averaged = [one.with_name(f"{one.stem}-ema.safetensors") for one in raw]
    tuned = [work / f"tuned-{seed}" for seed in range(1, args.tuned + 1)]
    found = {}
    for seed in range(args.seeds):
        found[f"single-{seed}"] = scored([raw[seed]])
        found[f"polyak-{seed}"] = scored([averaged[seed]])
        found[f"flip-{seed}"] = scored([raw[seed]], "--views", "flip")
        found[f"ten-crop-{seed}"] = scored([raw[seed]], "--views", "ten-crop")
    found["snapshots"] = scored([work / "cyclic"], "--snapshots")
    for seed in range(1, args.tuned + 1):
        found[f"tuned-{seed}"] = scored([work / f"tuned-{seed}"])
    for by in ("uniform", "greedy"):
        soup = str(work / f"{by}.safetensors")
        found[f"tuned-ensemble-{by}-soup"] = scored(tuned, "--soup", soup, "--soup-by", by)
        found[f"soup-{by}"] = scored([Path(soup)])
    if args.seeds > 1:
        found["ensemble"] = scored(raw)
        found["ensemble-polyak-flip"] = scored(averaged, "--views", "flip")
    return found


def ran(command: list[str], args: argparse.Namespace) -> Finished:
    """The process, ended well; otherwise this script ends with what it said."""
    finished = run_process(command, keep_path=True, timeout=args.timeout)
    if finished.returncode or finished.json is None:
        sys.exit(f"error: {' '.join(command)}\n{tail(finished.err or finished.out)}")
    return finished


def figures(answer: dict[str, Any]) -> dict[str, Any]:
    """What the result file keeps of an evaluation."""
    kept = {name: answer[name] for name in KEPT if name in answer}
    if "members" in answer:
        kept["members"] = [{name: row[name] for name in OF_MEMBER} for row in answer["members"]]
        kept["greedy"] = [{name: row[name] for name in ("name", "top1", "loss", "adds")} for row in answer["greedy"]]
    return kept


def without_folders(value: Any, work: Path) -> Any:
    """The result file is to be read elsewhere too: networks are named from the folder of the runs on."""
    if isinstance(value, dict):
        return {key: without_folders(one, work) for key, one in value.items()}
    if isinstance(value, list):
        return [without_folders(one, work) for one in value]
    return value.replace(f"{work.resolve()}/", "").replace(f"{work}/", "") if isinstance(value, str) else value


def summary(rows: dict[str, Any], args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """By way: top-1 with its interval (of several seeds, mean and spread), and what it has over the single network."""
    ways = {
        f"{way}": [f"{way}-{seed}" for seed in range(args.seeds)] for way in ("single", "flip", "ten-crop", "polyak")
    }
    ways |= {"snapshots": ["snapshots"], "tuned alone": [f"tuned-{seed}" for seed in range(1, args.tuned + 1)]}
    ways |= {"uniform soup": ["soup-uniform"], "greedy soup": ["soup-greedy"]}
    ways |= {"ensemble of the tuned": ["tuned-ensemble-greedy-soup"], "ensemble of the seeds": ["ensemble"]}
    ways["ensemble of the seeds' averages, with flip"] = ["ensemble-polyak-flip"]
    found = {}
    for way, names in ways.items():
        there = [name for name in names if name in rows]
        if not there:
            continue
        # over the single network of its own seed, else of the first
        pairs = [
            (f"single-{place if len(there) == args.seeds and len(there) > 1 else 0}", name)
            for place, name in enumerate(there)
        ]
        gains = [gain(work / f"{one}.parquet", work / f"{other}.parquet") for one, other in pairs if one != other]
        found[way] = {
            "top1": spread([rows[name]["top1"] for name in there]),
            "intervals": [rows[name]["top1_interval"] for name in there],
            "loss": spread([rows[name]["loss"] for name in there]),
            "over_single": gains,
        }
    return found


def gain(single: Path, other: Path) -> dict[str, float]:
    """The difference of two networks' top-1 on the same images, with its 95 % interval (normal, paired)."""
    right = []
    for path in (single, other):
        rows = pq.read_table(path, columns=["path", "correct"]).to_pydict()
        right.append(dict(zip(rows["path"], rows["correct"], strict=True)))
    if right[0].keys() != right[1].keys():
        sys.exit(f"error: {single} and {other} are not of the same images")
    differences = np.array([float(right[1][name]) - float(right[0][name]) for name in right[0]])
    mean, half = float(differences.mean()), 1.96 * float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return {"difference": mean, "low": mean - half, "high": mean + half}


def table(found: dict[str, Any]) -> str:
    """The Markdown table that docs/evaluation.md quotes."""
    rows = []
    for way, one in found.items():
        top1, gains = one["top1"], one["over_single"]
        low, high = (np.mean([pair[end] for pair in one["intervals"]]) for end in (0, 1))
        ahead = "–"
        if gains:
            mean, least, most = (100 * np.mean([one[key] for one in gains]) for key in ("difference", "low", "high"))
            ahead = f"{mean:+.2f} ({least:+.2f} to {most:+.2f})"
        sd = f" ± {100 * top1['sd']:.2f}" if top1["sd"] is not None else ""
        rows.append(
            [
                way,
                top1["n"],
                f"{100 * top1['mean']:.2f} %{sd}",
                f"{100 * low:.2f} – {100 * high:.2f}",
                f"{one['loss']['mean']:.3f}",
                ahead,
            ]
        )
    return markdown_table(["", "networks or sets", "top-1", "95 % interval", "loss", "over single, points"], rows)


def former(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """An earlier result file of the same settings."""
    if not path.exists():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    if result["settings"] != settings:
        sys.exit(f"error: {path.name} was made with {result['settings']}\nhint: --out for another file")
    return result


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="where CIFAR-10 lies")
    parser.add_argument("--model", default="compact_m")
    parser.add_argument("--limit", type=int, default=10_000, help="training images [10000]")
    parser.add_argument("--epochs", type=int, default=9, help="of each seed, and of the cyclic run [9]")
    parser.add_argument("--cycles", type=int, default=3, help="of the cyclic run [3]")
    parser.add_argument("--seeds", type=int, default=3, help="networks of the ensemble [3]")
    parser.add_argument("--tuned", type=int, default=3, help="trainings that go on from the first seed [3]")
    parser.add_argument("--tuning-epochs", type=int, default=2)
    parser.add_argument("--tuning-lr", type=float, default=0.02)
    parser.add_argument("--ema", type=float, default=0.98)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for each process")
    parser.add_argument("--work", default="runs/ensembles", help="folder for the runs [runs/ensembles]")
    parser.add_argument("--out", help="the result file [benchmarks/results/ensembles.json]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
