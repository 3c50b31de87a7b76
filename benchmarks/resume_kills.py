"""Does a run that is killed at random moments end with the same weights, to the bit, as one that is not?

Each network is trained once undisturbed; then again and again with `kill -9` at random moments, resumed each time with
`striate train --resume RUN` until it ends by itself. The tensors of the model file and the last resume state must come
out identical; the figures of each epoch, but for the clock's, are compared too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import (
    RESULTS,
    Finished,
    markdown_table,
    provenance,
    run_process,
    say,
    striate_command,
    tail,
    versions,
    write_result,
)

# Augmentation, weight average, dropout and schedule on; a state is written every 0.3 seconds.
COMMON = ["digits", "--preset", "digits", "--rotate", "10", "--elastic", "20", "--mixup", "0.2", "--ema", "0.98"]
COMMON += ["--schedule", "cosine", "--save-minutes", "0.005", "--batch-size", "16", "--seed", "3"]
NETWORKS = {
    "lenet5": ["--model", "lenet5", "--dropout", "0.2", "--epochs", "8"],
    "resnet20": ["--model", "resnet20", "--dropout", "0.1", "--stochastic-depth", "0.2", "--epochs", "2"],
}
KILLED_AT_WORK = 0.75  # part of the kills timed from a process's first state on; the others from its start
MOST_KILLS = 6  # of one run; after that it may finish
NOTHING_TO_RESUME = ("before the run folder", "before the first state")
# Figures of the clock differ from run to run and are no part of the promise.
CLOCK = ("second", "wait", "time", "date")


def main() -> None:
    args = arguments()
    result = provenance("benchmarks/resume_kills.py")
    result |= {"settings": COMMON, "networks": {name: NETWORKS[name] for name in args.networks}, "seed": args.seed}
    result["versions"] = versions(sys.executable, ("striate", "torch", "numpy"), ("striate",))
    result |= {"undisturbed": {}, "runs": []}
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="resume-kills-") as scratch:
        for name in args.networks:
            result["undisturbed"][name] = undisturbed(name, Path(scratch))
        for number in range(args.runs):
            name = args.networks[number % len(args.networks)]
            record = killed_run(name, Path(scratch) / f"killed-{number}", result["undisturbed"][name], chance)
            result["runs"].append({"number": number, "network": name, **record})
            result["summary"] = summary(result["runs"])
            write_result(Path(args.out), result)
            say(f"run {number + 1}/{args.runs} {name}: {told(record)}")
    print(table(result))
    if result["summary"]["identical"] < len(result["runs"]):
        sys.exit(1)


def undisturbed(name: str, scratch: Path) -> dict[str, Any]:
    """The run to compare with, made twice: if it does not repeat itself, comparing killed ones would mean nothing."""
    seconds, training, fingerprints = [], [], []
    for attempt in ("first", "second"):
        folder = scratch / f"{name}-{attempt}"
        done = launch(first_command(name, folder))
        if done.returncode:
            sys.exit(f"error: {name}, undisturbed, ended with {done.returncode}:\n{tail(done.err)}")
        say(f"{name}, undisturbed, {attempt} time: {done.seconds:.1f} s")
        seconds.append(round(done.seconds, 3))
        training.append(read_json(folder / "environment.json")["phases"]["train"])
        fingerprints.append(fingerprint(folder))
        shutil.rmtree(folder)
    if fingerprints[0] != fingerprints[1]:
        sys.exit(f"error: {name} does not repeat itself even undisturbed: {differing(*fingerprints)}")
    return {"seconds": min(seconds), "training_seconds": round(min(training), 3), "sha256": fingerprints[0]}


def killed_run(name: str, folder: Path, reference: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Train with kills until the run ends by itself; what happened, and whether the end is the same."""
    kills: list[dict[str, Any]] = []
    command = first_command(name, folder)
    while True:
        at_work = chance.random() < KILLED_AT_WORK
        wait = chance.uniform(0.0, reference["training_seconds" if at_work else "seconds"])
        if len(kills) < MOST_KILLS:
            done = launch(command, kill_after=wait, clock_from=new_state(folder) if at_work else None)
        else:
            done = launch(command)
        if done.returncode == 0:
            break
        if done.returncode != -signal.SIGKILL:
            shutil.rmtree(folder, ignore_errors=True)
            return {
                "kills": kills,
                "identical": False,
                "figures": False,
                "error": f"exit {done.returncode}: {tail(done.err)}",
            }
        counted = "its first state" if at_work else "the start"
        kills.append({"seconds": round(wait, 3), "counted_from": counted, **state_of(folder)})
        if kills[-1]["at"] in NOTHING_TO_RESUME:  # one begins again
            shutil.rmtree(folder, ignore_errors=True)
            command = first_command(name, folder)
        else:
            command = [*striate_command(), "train", "--resume", str(folder), "--json"]
    there = fingerprint(folder)
    shutil.rmtree(folder, ignore_errors=True)
    wrong = differing(there, reference["sha256"])
    record = {"kills": kills, "identical": not {"weights", "resume"} & set(wrong), "figures": "metrics" not in wrong}
    return {**record, "differing": wrong, "sha256": there} if wrong else record


def first_command(name: str, folder: Path) -> list[str]:
    """The training's first start."""
    return [*striate_command(), "train", *COMMON, *NETWORKS[name], "--run-dir", str(folder), "--json"]


def launch(
    command: list[str], kill_after: float | None = None, clock_from: Callable[[], bool] | None = None
) -> Finished:
    """Run a command; with `kill_after`, its process group gets SIGKILL when so many seconds have gone by."""
    return run_process(command, timeout=kill_after, clock_from=clock_from, keep_path=True)


def new_state(folder: Path) -> Callable[[], bool]:
    """A function that says whether a resume state was written since this call: the process is then at work."""
    pointer = folder / "resume" / "latest.json"

    def written() -> int:
        try:
            return pointer.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    before = written()
    return lambda: written() != before


def state_of(folder: Path) -> dict[str, Any]:
    """Where in its life the run was killed, from the files that it left."""
    if not (folder / "recipe.toml").exists():
        return {"at": "before the run folder"}
    epochs = sum('"kind": "epoch"' in line or '"kind":"epoch"' in line for line in metrics_lines(folder))
    unfinished = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if ".part" in path.name)
    if (folder / "evaluation.json").exists():
        at = "after the evaluation"
    elif not any((folder / "resume").glob("*")):
        at = "before the first state"
    else:
        at = "in the training or the evaluation"
    return {"at": at, "epochs_done": epochs, **({"half_written": unfinished} if unfinished else {})}


def fingerprint(folder: Path) -> dict[str, str]:
    """sha256 of what must be equal: the model's tensors, the last state's values, the epochs' figures."""
    figures = {str(number): json.loads(line) for number, line in enumerate(metrics_lines(folder))}
    return {
        "weights": digest(leaves(read_tensors(folder / "model.safetensors"))),
        "resume": digest(leaves(read_tensors(last_state(folder / "resume")))),
        "metrics": digest(leaves(figures)),
    }


def last_state(folder: Path) -> Path:
    """The file of the newest resume state; older ones beside it depend on when they were written."""
    return folder / read_json(folder / "latest.json")["file"]


def metrics_lines(folder: Path) -> list[str]:
    """The lines of metrics.jsonl, none where there is no such file yet."""
    path = folder / "metrics.jsonl"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file, {} where it is missing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def read_tensors(path: Path) -> Any:
    """The tensors and plain values of a model file or a resume state."""
    import torch
    from safetensors.torch import load_file

    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, bytes]]:
    """Every tensor and plain value with its path, in a fixed order, the clock's figures left out."""
    import torch

    if isinstance(value, dict):
        for key in sorted(value, key=str):
            if not any(word in str(key).lower() for word in CLOCK) or isinstance(value[key], torch.Tensor):
                yield from leaves(value[key], f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from leaves(item, f"{name}/{number}")
    elif isinstance(value, torch.Tensor):
        bits = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        yield f"{name} {value.dtype} {tuple(value.shape)}", bits.numpy().tobytes()
    else:
        yield name, repr(value).encode()


def digest(items: Iterator[tuple[str, bytes]]) -> str:
    """sha256 over names and bytes."""
    total = hashlib.sha256()
    for name, data in items:
        total.update(name.encode() + b"\0" + len(data).to_bytes(8, "big") + data)
    return total.hexdigest()


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Which of the fingerprints differ."""
    return [name for name in one if one[name] != other[name]]


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts over all runs; the kills that hit a run at work are those after its folder was begun."""
    kills = [kill for run in runs for kill in run["kills"]]
    places: dict[str, int] = {}
    for kill in kills:
        places[kill["at"]] = places.get(kill["at"], 0) + 1
    return {
        "runs": len(runs),
        "runs_killed": sum(bool(run["kills"]) for run in runs),
        "identical": sum(run["identical"] for run in runs),
        "identical_epoch_figures": sum(run["figures"] for run in runs),
        "kills": len(kills),
        "kills_by_place": places,
        "half_written_files_seen": sum("half_written" in kill for kill in kills),
    }


def told(record: dict[str, Any]) -> str:
    """A run in one line."""
    verdict = "identical" if record["identical"] and record["figures"] else "NOT identical: "
    verdict += record.get("error") or ", ".join(record.get("differing", ()))
    return f"{len(record['kills'])} kills, {verdict}"


def table(result: dict[str, Any]) -> str:
    """The Markdown that docs/results.md quotes."""
    rows = []
    for name in result["networks"]:
        figures = summary([run for run in result["runs"] if run["network"] == name])
        places = ", ".join(f"{count} {place}" for place, count in figures["kills_by_place"].items())
        rows.append(
            [name, figures["runs"], figures["kills"], places or "–", f"{figures['identical']}/{figures['runs']}"]
        )
    return markdown_table(["network", "runs", "kills", "where they fell", "identical to the bit"], rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="runs that are killed, each possibly several times")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which they are")
    parser.add_argument("--networks", default=",".join(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--out", default=str(RESULTS / "resume_kills.json"))
    args = parser.parse_args()
    args.networks = args.networks.split(",")
    for name in args.networks:
        if name not in NETWORKS:
            parser.error(f"no settings for {name!r}; there are {', '.join(NETWORKS)}")
    return args


if __name__ == "__main__":
    main()
