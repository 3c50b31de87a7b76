"""Transfer to a folder of photos: `striate train PHOTOS --from squeezenet1_1:FILE` beside fastai and torchvision.

The same file of weights, the same photos, each program's usual way, whole processes from the start to the exit, all in
turn, repeated, with all training photos and with a hundred of them. The classes are called `class-0` and so on: ours
keeps what a network knows of classes that it knows by name, which peers cannot; with their own names it is measured
apart. Peers tell their validation accuracy after each epoch and when it was, so that the seconds to any accuracy are
known too; see README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
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
    spread,
    striate_command,
    tail,
    versions,
    write_result,
)
from photo_folders import photos_under, renamed_classes
from time_to_accuracy import environment_phases
from transfer_plan import decided
from transfer_summary import half_width

OURS, KNOWN = "striate", "striate, classes known by name"


MANY, FEW = 900, 100  # training photos


@dataclass(frozen=True)
class Peer:
    """A peer's script, its `library`, which picks the interpreter, and its settings by the number of training photos.

    A tenth of the photos gives a tenth of the steps an epoch. Whoever has few takes smaller batches and more epochs,
    so that the steps are about as many, and the tutorial has its own number of epochs, which is made for few.
    """

    script: str
    library: str
    settings: dict[int, tuple[str, ...]]


def fastai(many: int | None, few: int | None) -> Peer:
    """`fine_tune` with these epochs; of its batches of 64 the last incomplete one is dropped, which suits many."""
    settings = {} if many is None else {MANY: ("--epochs", str(many))}
    settings |= {} if few is None else {FEW: ("--epochs", str(few), "--batch", "16")}
    return Peer("transfer_fastai.py", "fastai", settings)


def torchvision(*flags: str, many: tuple[str, ...], few: tuple[str, ...]) -> Peer:
    """The script of plain torchvision."""
    return Peer("transfer_torchvision.py", "torchvision", {MANY: (*many, *flags), FEW: (*few, *flags)})


_TUTORIAL: dict[str, Any] = {"many": ("--epochs", "8"), "few": ("--epochs", "25")}
_TUNED: dict[str, Any] = {"many": ("--epochs", "5"), "few": ("--epochs", "20", "--batch", "16")}
PEERS = {
    "fastai, fine_tune(1)": fastai(many=1, few=None),
    "fastai, fine_tune(4)": fastai(many=4, few=4),
    "fastai, fine_tune(10)": fastai(many=None, few=10),
    "torchvision, head": torchvision("--frozen", **_TUTORIAL),
    "torchvision, all": torchvision(**_TUTORIAL),
    "torchvision tuned, head": torchvision("--style", "tuned", "--frozen", **_TUNED),
    "torchvision tuned, all": torchvision("--style", "tuned", **_TUNED),
}
MODULES = {"fastai": ("fastai.vision.all",), "torchvision": ("torch", "torchvision")}
PACKAGES = {"fastai": ("fastai", "torch", "torchvision"), "torchvision": ("torch", "torchvision", "pillow")}


def main() -> None:
    args = arguments()
    result = provenance("benchmarks/transfer_peers.py")
    result |= {"data": args.data.name, "weights": args.weights.name, "repeats": args.repeats}
    result |= {"settings": {name: peer.settings for name, peer in PEERS.items()}, "runs": [], "missing": {}}
    programs = find_programs(args, result)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="transfer-peers-")))
        for repeat in range(args.repeats):
            for photos in args.photos:
                names = [name for name in programs if name not in PEERS or photos in PEERS[name].settings]
                turn = repeat % len(names)
                for name in names[turn:] + names[:turn]:  # another one is first each time: drift falls on all alike
                    data = laid_out(args.data, work, photos, repeat, known=name == KNOWN)
                    measure = measure_peer if name in PEERS else measure_ours
                    run = measure(name, photos, repeat, data, args)
                    say(f"repeat {repeat + 1}/{args.repeats}, {photos} photos, {name}: {told(run)}")
                    result["runs"].append({"name": name, "photos": photos, "repeat": repeat, **run})
                    result["summary"] = summary(result["runs"])
                    write_result(Path(args.out), result)
    print(tables(result))


def find_programs(args: argparse.Namespace, result: dict[str, Any]) -> list[str]:
    """Who can run here; versions, and the reason of those who cannot, go into the result."""
    ours = versions(sys.executable, ("striate", "torch", "torchvision", "scikit-learn"), ("striate", "torch"))
    if "error" in ours:
        sys.exit(f"error: {ours['error']}\nhint: install striate, or set PYTHONPATH=src")
    result["versions"] = {OURS: ours}
    for library in dict.fromkeys(PEERS[name].library for name in args.peers):
        found = versions(args.python_of[library], PACKAGES[library], MODULES[library])
        result["missing" if "error" in found else "versions"][library] = found.get("error", found)
        if "error" in found:
            say(f"{library}: missing: {found['error']}")
    peers = [name for name in args.peers if PEERS[name].library not in result["missing"]]
    return [OURS, *[KNOWN] * args.known, *(f"{OURS} {flags}" for flags in args.variant), *peers]


def laid_out(source: Path, work: Path, photos: int, repeat: int, known: bool) -> Path:
    """The photos in a folder of their own; with fewer than all to train on, other ones in each repeat."""
    target = work / f"photos-{photos}-{repeat}{'-known' * known}"
    if target.is_dir():
        return target
    renamed_classes(source, target)
    for number, name in enumerate(sorted({file.parent.name for file in photos_under(source)})):
        folder = target / "train" / f"class-{number}"
        files = sorted(folder.iterdir())
        share = photos // len(list(folder.parent.iterdir()))
        if share < len(files):
            first = repeat * share % (len(files) - share + 1)
            for file in files[:first] + files[first + share :]:
                file.unlink()
        for side in ("train", "val") if known else ():
            (target / side / f"class-{number}").rename(target / side / name)
    return target


def measure_ours(name: str, photos: int, repeat: int, data: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One `striate train`, from nothing to the report: no cache of an earlier run."""
    run, cache = data.parent / "run", data.parent / "cache"
    for folder in (run, cache):
        shutil.rmtree(folder, ignore_errors=True)
    os.environ["STRIATE_CACHE"] = str(cache)
    flags = "" if name == KNOWN else name.removeprefix(OURS)
    command = [*striate_command(), "train", str(data), "--from", f"squeezenet1_1:{args.weights}", "--json"]
    command += ["--run-dir", str(run), "--seed", str(repeat), *shlex.split(flags)]
    done = run_process(command, timeout=args.timeout, keep_path=True)
    answer = done.json
    if done.returncode or answer is None:
        return failed(done)
    val = answer["val"]
    return {
        **done.costs(),
        "accuracy": val["top1"],
        "n": val["n"],
        "chosen": decided(run),
        "seconds": {"train": answer["seconds"], **environment_phases(run).get("phases", {})},
    }


def measure_peer(name: str, photos: int, repeat: int, data: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One peer; its accuracy is that of its best epoch, chosen by the very photos that score it, and the last's."""
    peer = PEERS[name]
    command = [args.python_of[peer.library], str(BENCHMARKS / "peers" / peer.script), "--data"]
    command += [str(data), "--weights", str(args.weights), "--seed", str(repeat), *peer.settings[photos]]
    if args.epochs:
        command += ["--epochs", str(args.epochs)]
    done = run_process(command, timeout=args.timeout)
    answer = done.json
    if done.returncode or answer is None:
        return failed(done)
    return {
        **done.costs(),
        "accuracy": max(answer["accuracies"]),
        "last_accuracy": answer["accuracies"][-1],
        "accuracies": answer["accuracies"],
        "epoch_ends": answer["epoch_ends"],
        "validating_seconds": answer["validating"],
        "seconds": answer["phases"],
    }


def failed(done: Finished) -> dict[str, Any]:
    """A run without a result, and why."""
    return {**done.costs(), "exit": done.returncode, "error": tail(done.err or done.out)}


def told(run: dict[str, Any]) -> str:
    """A run in one line."""
    if "error" in run:
        return f"failed (exit {run['exit']}) after {run['wall_seconds']:.1f} s: {run['error']}"
    chosen = f", chose {run['chosen']}" if "chosen" in run else ""
    return f"{run['accuracy']:.4f} in {run['wall_seconds']:.1f} s{chosen}"


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By number of photos and program."""
    return {
        str(photos): summary_of([run for run in runs if run["photos"] == photos])
        for photos in dict.fromkeys(run["photos"] for run in runs)
    }


def summary_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """By program: seconds and accuracy with their spread, seconds over ours, and seconds to our accuracy."""
    good = [run for run in runs if "error" not in run]
    ours = {run["repeat"]: run for run in good if run["name"] == OURS}
    figures: dict[str, Any] = {}
    for name in dict.fromkeys(run["name"] for run in runs):
        own = [run for run in good if run["name"] == name]
        if not own:
            figures[name] = {"failed": sum(run["name"] == name for run in runs)}
            continue
        beside = [(run, ours[run["repeat"]]) for run in own if run["repeat"] in ours]
        one: dict[str, Any] = {
            "seconds": spread([run["wall_seconds"] for run in own]),
            "median_seconds": statistics.median(run["wall_seconds"] for run in own),
            "accuracy": spread([run["accuracy"] for run in own]),
            "times_ours": median([run["wall_seconds"] / mine["wall_seconds"] for run, mine in beside]),
            "accuracy_minus_ours": median([run["accuracy"] - mine["accuracy"] for run, mine in beside]),
        }
        if name in PEERS:
            one["last_accuracy"] = spread([run["last_accuracy"] for run in own])
            one["times_ours_validating_once"] = median(
                [validating_once(run) / mine["wall_seconds"] for run, mine in beside]
            )
            reached = [seconds_to(run, mine["accuracy"]) for run, mine in beside]
            known = [seconds for seconds in reached if seconds is not None]
            one["seconds_to_our_accuracy"] = reached
            one["reached_our_accuracy"] = f"{len(known)} of {len(reached)}"
        figures[name] = one
    return figures


def validating_once(run: dict[str, Any]) -> float:
    """A peer's seconds, had it validated once: beside few training photos the validation is the greater part."""
    epochs = len(run["accuracies"])
    return run["wall_seconds"] - run["validating_seconds"] * (epochs - 1) / epochs


def median(values: list[float]) -> float | None:
    """The median, or null where there is nothing to compare."""
    return statistics.median(values) if values else None


def seconds_to(run: dict[str, Any], accuracy: float) -> float | None:
    """When a peer's epoch of at least this accuracy ended; None where none was."""
    pairs = zip(run["accuracies"], run["epoch_ends"], strict=True)
    return next((seconds for reached, seconds in pairs if reached >= accuracy - 1e-9), None)


def tables(result: dict[str, Any]) -> str:
    """The Markdown that docs quote."""
    machine = result["machine"]
    lines = [f"{machine['cpu']}, {machine['cores']} cores, {result['date'][:10]}, {result['revision']}"]
    for photos, programs in result["summary"].items():
        lines += ["", f"{photos} training photos:", "", table(programs)]
        mine = [run for run in result["runs"] if run["name"] == OURS and str(run["photos"]) == photos and "n" in run]
        if mine:
            n = mine[0]["n"]
            chance = 100 * half_width(round(statistics.fmean(run["accuracy"] for run in mine) * n), n)
            lines += ["", f"{n} validation photos: ± {chance:.1f} points of chance at 95 %."]
    return "\n".join(lines + [f"missing: {name}: {why}" for name, why in result["missing"].items()])


def table(programs: dict[str, Any]) -> str:
    """The programs with one number of photos."""
    head = [
        "program",
        "val accuracy, % (least to greatest)",
        "last epoch, %",
        "minus ours",
        "median s",
        "least–greatest s",
        "times ours",
    ]
    head += ["validating once", "came to our accuracy"]
    rows = []
    for name, one in programs.items():
        if "seconds" not in one:
            rows.append([name, "failed", *[""] * 7])
            continue
        accuracy, seconds, minus = one["accuracy"], one["seconds"], one["accuracy_minus_ours"]
        rows.append(
            [
                name,
                f"{100 * accuracy['mean']:.1f} ({100 * accuracy['min']:.1f} to {100 * accuracy['max']:.1f})",
                f"{100 * one['last_accuracy']['mean']:.1f}" if "last_accuracy" in one else "–",
                "–" if minus is None else f"{100 * minus:+.1f}",
                f"{one['median_seconds']:.1f}",
                f"{seconds['min']:.1f}–{seconds['max']:.1f}",
                ratio(one["times_ours"]),
                ratio(one.get("times_ours_validating_once")),
                one.get("reached_our_accuracy", ""),
            ]
        )
    return markdown_table(head, rows)


def ratio(value: float | None) -> str:
    """A ratio of seconds, where there is one."""
    return "–" if value is None else f"{value:.2f}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/photos", help="folder with train/CLASS and val/CLASS")
    parser.add_argument("--weights", default="../shared/data/weights/squeezenet1_1_caffe_rgbnorm.pth")
    parser.add_argument(
        "--photos", type=int, nargs="+", choices=(MANY, FEW), default=(MANY, FEW), help="to train on [both]"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--peers", action="append", metavar="NAME", help=f"several times, or none; [all]: {'; '.join(PEERS)}"
    )
    parser.add_argument(
        "--variant", action="append", default=[], metavar="FLAGS", help="ours once more with these flags of `train`"
    )
    parser.add_argument(
        "--known", action=argparse.BooleanOptionalAction, default=True, help="ours with the classes' own names, too"
    )
    parser.add_argument(
        "--python-of", action="append", default=[], metavar="LIBRARY=PYTHON", help="of fastai or torchvision"
    )
    parser.add_argument("--epochs", type=int, help="of every peer, to try the script [each its own]")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds after which a run is ended")
    parser.add_argument("--out", default=str(RESULTS / "transfer_peers.json"))
    args = parser.parse_args()
    args.peers = [] if args.peers == ["none"] else args.peers or list(PEERS)
    for name in args.peers:
        if name not in PEERS:
            parser.error(f"no peer {name!r}; there are {'; '.join(PEERS)}")
    pairs = (item.partition("=") for item in args.python_of)
    args.python_of = dict.fromkeys(MODULES, sys.executable) | {library: python for library, _, python in pairs}
    args.data, args.weights = Path(args.data).resolve(), Path(args.weights).resolve()
    return args


if __name__ == "__main__":
    main()
