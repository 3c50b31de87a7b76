"""How many images a second do networks train at, ours by default beside PyTorch's and Keras' usual ways?

Ours is `striate bench NETWORK --train --default`: the step of `striate train` as users get it, and the machine's peaks
in the same process. Each program is a process of its own, without our tuning; all run in turn, repeated, another one
first each time.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness import (
    BENCHMARKS,
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

# network: (our name, batch size, side)
CASES = {
    "resnet18": ("resnet18", 64, 224),
    "resnet50": ("resnet50_v1_5", 32, 224),  # torchvision's strides; Keras has those of the paper, 6 % less work
    "mobilenet_v1": ("mobilenet_v1", 64, 224),
    "mobilenet_v2": ("timm:mobilenetv2_100", 64, 224),
    "resnet20": ("cifar_resnet20", 128, 32),
}
# program: (script, its own options)
PEERS = {
    "torch eager": ("train_torch.py", ()),
    "torch channels_last": ("train_torch.py", ("--channels-last",)),
    "torch channels_last bf16": ("train_torch.py", ("--channels-last", "--bf16")),
    "torch compile": ("train_torch.py", ("--channels-last", "--compile")),
    "torch compile bf16": ("train_torch.py", ("--channels-last", "--compile", "--bf16")),
    "keras": ("train_keras.py", ()),
}
OURS = {"striate": (), "striate fp32": ("--precision", "fp32")}
BASELINE = "torch eager"
KERAS_PACKAGES = ("keras", "tensorflow-cpu", "numpy")


def main() -> None:
    args = arguments()
    result = provenance("benchmarks/training_throughput.py")
    result |= {"seconds": args.seconds, "repeats": args.repeats, "versions": {}, "missing": {}, "runs": []}
    programs = find_programs(args, result)
    for repeat in range(args.repeats):
        for case in args.networks:
            turn = repeat % len(programs)
            for program in programs[turn:] + programs[:turn]:
                record = measured(case, program, args)
                say(f"repeat {repeat + 1}/{args.repeats} {case} {program}: {told(record)}")
                result["runs"].append({"network": case, "program": program, "repeat": repeat, **record})
                result["summary"] = summary(result["runs"])
                write_result(Path(args.out), result)
    print(tables(result))


def find_programs(args: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    """Who can run here: versions into the result, those who cannot into its `missing`, with the reason."""
    wanted = [name for name in PEERS if name != "keras" or args.keras]
    wanted = [name for name in wanted if "compile" not in name or args.compile]
    found = {"striate": versions(args.python, ("striate", "torch", "numpy"), ("striate", "torch"))}
    if any(name.startswith("torch") for name in wanted):
        found["torch"] = versions(args.python, ("torch", "torchvision"), ("torch", "torchvision"))
    if args.keras:
        args.keras_python = args.keras_python or environment(Path(args.environments) / "keras", KERAS_PACKAGES)
        found["keras"] = versions(args.keras_python, KERAS_PACKAGES, ("tensorflow", "keras"))
    for name, record in found.items():
        result["missing" if "error" in record else "versions"][name] = record
    if "striate" in result["missing"]:
        sys.exit("error: striate itself cannot be imported\nhint: install it, or set PYTHONPATH=src")
    return [name for name in (*OURS, *wanted) if name.split()[0] not in result["missing"]]


def environment(folder: Path, packages: tuple[str, ...]) -> str:
    """The interpreter of a peer's environment, which is set up where it is not there yet."""
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"setting up {folder.name} ({', '.join(packages)}), once")
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=True)
    return str(python)


def measured(case: str, program: str, args: argparse.Namespace) -> dict[str, Any]:
    """One process: images per second, and for ours what the machine does at most."""
    ours, batch, side = CASES[case]
    batch = args.batch_size or batch
    if program in OURS:
        command = [*striate_command(args.python), "bench", ours, "--train", "--default", "--batch-size", str(batch)]
        command += ["--input-size", str(side), "--seconds", str(args.seconds), "--repeats", "1", *OURS[program]]
        done = run_process([*command, "--json"], timeout=args.timeout, keep_path=True)
    else:
        script, own = PEERS[program]
        python = args.keras_python if program == "keras" else args.python
        command = [python, str(BENCHMARKS / "peers" / script), "--network", case, "--batch-size", str(batch)]
        done = run_process([*command, "--side", str(side), "--seconds", str(args.seconds), *own], timeout=args.timeout)
    answer = done.json
    if done.returncode or answer is None:
        return failed(done)
    if program not in OURS:
        return {**done.costs(), **answer}
    row, peak = answer["train"], answer["peak"]
    if row["error"]:
        return {**done.costs(), "error": row["error"]}
    kept = ("images_per_second", "gflops", "share_of_peak", "share_of_limit", "limit", "precision", "layout")
    peaks = {name: peak[name] for name in ("fp32_gflops", "bf16_gflops", "copy_gb_per_second")}
    return {**done.costs(), **{name: row[name] for name in kept}, "peak": peaks, "parameters": answer["params"]}


def failed(done: Finished) -> dict[str, Any]:
    """A run without a result, and why."""
    return {**done.costs(), "exit": done.returncode, "error": tail(done.err or done.out)}


def told(record: dict[str, Any]) -> str:
    """A run in one line."""
    return f"failed: {record['error']}" if "error" in record else f"{record['images_per_second']:,.1f} images/s"


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By network and program: median, least and greatest; our default over it, by repeat, and the median of that."""
    figures: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for run in runs:
        if "error" not in run:
            figures.setdefault(run["network"], {}).setdefault(run["program"], {})[run["repeat"]] = run
    found: dict[str, Any] = {}
    for network, programs in figures.items():
        ours = programs.get("striate", {})
        for program, by_repeat in programs.items():
            speeds = [run["images_per_second"] for run in by_repeat.values()]
            ratios = [
                ours[repeat]["images_per_second"] / run["images_per_second"]
                for repeat, run in by_repeat.items()
                if repeat in ours
            ]
            found.setdefault(network, {})[program] = {
                "median": round(statistics.median(speeds), 2),
                "min": round(min(speeds), 2),
                "max": round(max(speeds), 2),
                "runs": len(speeds),
                "ours_over_it": round(statistics.median(ratios), 3) if ratios else None,
                **shares(list(by_repeat.values())),
            }
    return found


def shares(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of what only our runs have: the share of the matrix peak and of what memory allows, the peaks."""
    kept: dict[str, Any] = {}
    for name in ("gflops", "share_of_peak", "share_of_limit"):
        values = [run[name] for run in runs if run.get(name) is not None]
        if values:
            kept[name] = round(statistics.median(values), 4)
    peaks = [run["peak"] for run in runs if "peak" in run]
    if peaks:
        kept["peak"] = {name: round(statistics.median(one[name] for one in peaks), 1) for name in peaks[0]}
        kept["bound_by"] = statistics.mode(run["limit"]["bound_by"] for run in runs)
    return kept


def tables(result: dict[str, Any]) -> str:
    """The Markdown that docs/results.md quotes."""
    rows = []
    for network, programs in result["summary"].items():
        for program, one in programs.items():
            ratio = f"{one['ours_over_it']:.2f}" if one["ours_over_it"] is not None else "–"
            of = [f"{100 * one[name]:.0f} %" if name in one else "" for name in ("share_of_peak", "share_of_limit")]
            rows.append([network, program, f"{one['median']:,.1f}", f"{one['min']:,.1f}–{one['max']:,.1f}", ratio, *of])
    machine = result["machine"]
    head = ["network", "program", "images/s", "least–greatest", "ours over it", "of the matrix peak", "of the roofline"]
    missing = [f"missing: {name}: {record['error']}" for name, record in result["missing"].items()]
    return "\n".join(
        [
            f"Training steps, {machine['cpu']}, {machine['cores']} cores, {result['date'][:10]}, "
            f"revision {result['revision']}, {result['repeats']} repeats",
            "",
            markdown_table(head, rows),
            *missing,
        ]
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(CASES), help=f"comma-separated: {', '.join(CASES)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured in each process, after its warm-up")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: half a minute more a process")
    parser.add_argument("--no-keras", dest="keras", action="store_false")
    parser.add_argument("--python", default=sys.executable, help="interpreter of striate and torch [this one]")
    parser.add_argument("--keras-python", help="interpreter of Keras [its environment is set up under --environments]")
    parser.add_argument("--environments", default=str(Path.home() / ".cache" / "striate" / "peers"))
    parser.add_argument("--batch-size", type=int, help="another one, to try the script; measures nothing")
    parser.add_argument("--timeout", type=float, default=900, help="seconds after which a process is ended")
    parser.add_argument("--out", default=str(RESULTS / "training_throughput.json"))
    args = parser.parse_args()
    args.networks = args.networks.split(",")
    for name in args.networks:
        if name not in CASES:
            parser.error(f"no network {name!r}; there are {', '.join(CASES)}")
    return args


if __name__ == "__main__":
    main()
