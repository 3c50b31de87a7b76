"""Is the recommended plan within one point of the best of all scenarios, run exhaustively?

Each case is a network that knows something and a set of other images (see `transfer_cases.py`). `striate train DATA
--from SOURCE` is run by its plan, and once by every scenario there is: a linear SVM and a softmax on the activations of
one place, both of all places, the network as it is where it knows the classes, the head alone, the top, all layers, and
from scratch. Whole processes, the same flags for all; see README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

from harness import RESULTS, markdown_table, run_process, say, striate_command, tail, versions
from photo_folders import few_to_learn, renamed_classes
from resumable import ResultFile, Row
from transfer_cases import CASES, GROWTH_SCALES, PLAN, QUICK, RENAMED, SCENARIOS, SOURCES, TRAINED, Case
from transfer_summary import MARGIN, packed, summary

# No epoch is chosen by its validation score: where there is no test set, those are the images that are scored.
SHARED = ("--best-by", "last", "--evaluate-every", "1000000", "--no-report", "--offline")
# what a plan decides, as the run's recipe records it
DECIDED = ("scenario", "cut", "freeze_to", "pretrained_lr", "layer_decay", "head_start", "head_epochs")


def main() -> None:
    args = arguments()
    key = ("case", "scenario", "seed", "scale", "extra")
    result = ResultFile(Path(args.out), "benchmarks/transfer_plan.py", key, summary, fresh=args.fresh)
    packages = ("striate", "torch", "torchvision", "numpy", "scikit-learn", "pillow")
    result.head["versions"] = versions(sys.executable, packages, ("striate", "torch", "sklearn"))
    result.head["margin"] = MARGIN
    if "error" in result.head["versions"]:
        sys.exit(f"error: {result.head['versions']['error']}\nhint: install striate, or set PYTHONPATH=src")
    with contextlib.ExitStack() as stack:
        work = Path(args.work or stack.enter_context(tempfile.TemporaryDirectory(prefix="transfer-plan-"))).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for seed in range(args.seeds):
            for name in args.cases:
                for scale in args.scales:
                    measure(name, seed, scale, args, work, result)
    result.write()
    print(tables(result))


def measure(name: str, seed: int, scale: float, args: argparse.Namespace, work: Path, result: ResultFile) -> None:
    """Whatever of one case is not in the result file yet: the plan first, then every scenario."""
    case = CASES[name]
    for scenario in args.scenarios:
        if scenario != PLAN and scenario not in case.scenarios:
            continue
        key = {"case": name, "scenario": scenario, "seed": seed, "scale": scale, "extra": args.extra}
        if result.holds(**key):
            continue
        start = "scratch" if scenario == "scratch" else opened(case.source, args, work, result)
        row = {**key, **trained(case, scenario, seed, scale, start, args, work)}
        say(f"{name}, seed {seed}, {scenario}: {told(row)}")
        result.add(row)


def trained(
    case: Case, scenario: str, seed: int, scale: float, start: str, args: argparse.Namespace, work: Path
) -> Row:
    """The trainings of one scenario, over the parts of its case: images right, seconds, and what was chosen."""
    epochs = max(1, round(case.epochs * scale))
    command = [*striate_command(), "train", "--data-root", str(data_root(case.data, args, work))]
    command += ["--from", start, *case.settings, "--seed", str(seed), *SHARED]
    if scenario != "scratch":
        command += ["--scenario", scenario]
    if scenario in (PLAN, *TRAINED):
        command += ["--epochs", str(epochs)]
    total: Row = {"wall_seconds": 0.0, "training_seconds": 0.0, "phases": {}, "chosen": []}
    answers: list[bool] = []
    for number, part in [(seed * case.splits + one, part) for one in range(case.splits) for part in case.parts]:
        images = [where(case, number, args, work), "--split-seed", str(number), *part]
        cache = work / "cache"  # nobody finds what another process has kept
        run = work / "run"
        for folder in (cache, run):
            shutil.rmtree(folder, ignore_errors=True)
        os.environ["STRIATE_CACHE"] = str(cache)
        done = run_process(
            [*command, *images, *args.extra, "--run-dir", str(run), "--json"], timeout=args.timeout, keep_path=True
        )
        answer = done.json
        if done.returncode or answer is None:
            return {**done.costs(), "exit": done.returncode, "error": tail(done.err or done.out, 4)}
        scored = "test" if answer.get("test") else "val"
        total |= {"split": scored, "model": answer["model"], "epochs": answer["epochs"]}
        right = correct(run / "predictions.parquet", scored)
        assert abs(sum(right) / len(right) - answer[scored]["top1"]) < 1e-6, (right, answer)
        answers += right
        total["wall_seconds"] += round(done.seconds, 2)
        total["training_seconds"] += round(answer["seconds"], 2)
        for phase, seconds in phases(run).items():
            total["phases"][phase] = round(total["phases"].get(phase, 0.0) + seconds, 2)
        total["chosen"].append(decided(run))
        if scenario == PLAN:
            total.setdefault("expected", []).append(expected(answer))
        total["load_before"] = done.load_before
    total |= {"right": sum(answers), "n": len(answers), "top1": sum(answers) / len(answers), "answers": packed(answers)}
    shutil.rmtree(work / "run", ignore_errors=True)
    return total


def phases(run: Path) -> dict[str, float]:
    """Seconds by phase, as the run folder has them."""
    try:
        return json.loads((run / "environment.json").read_text(encoding="utf-8"))["phases"]
    except (OSError, KeyError, json.JSONDecodeError):
        return {}


def correct(predictions: Path, split: str) -> list[bool]:
    """Whether each image of a split was recognised, in the order of their paths."""
    import pyarrow.parquet as pq

    rows = pq.read_table(predictions, columns=["path", "correct", "split"]).sort_by("path").to_pydict()
    return [bool(right) for right, place in zip(rows["correct"], rows["split"], strict=True) if place == split]


def decided(run: Path) -> Row:
    """What the run's recipe says of the transfer."""
    recipe = tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8"))
    transfer = recipe.get("transfer", {})
    found = {name: transfer[name] for name in DECIDED if transfer.get(name) is not None}
    return found | {"lr": recipe.get("optimizer", {}).get("lr")}


def expected(answer: Row) -> Row:
    """What the plan said of the scenarios before anything was trained; nothing where there was nothing to plan."""
    plan = (answer.get("transfer") or {}).get("plan") or {}
    found = {
        name: plan[name]
        for name in ("expected_top1", "low", "high", "seconds", "why", "linear_exponent")
        if name in plan
    }
    kept = ("scenario", "expected_top1", "low", "high", "seconds", "measured", "cut")
    return found | {"scenarios": [{name: one.get(name) for name in kept} for one in plan.get("scenarios", [])]}


# sources and data -----------------------------------------------------------------------------------------------------


def opened(name: str, args: argparse.Namespace, work: Path, result: ResultFile) -> str:
    """A source as `--from` takes it; one of our own is trained the first time and kept in the work folder."""
    source = SOURCES[name]
    if source.weights is not None:
        model, _, file = source.weights.partition(":")
        return f"{model}:{args.data / 'weights' / file}"
    run = work / "sources" / name
    if not (run / "evaluation.json").exists():
        shutil.rmtree(run, ignore_errors=True)
        data, *settings = source.train
        command = [*striate_command(), "train", data, "--data-root", str(data_root(data, args, work)), *settings]
        command += ["--from", "scratch", "--no-report", "--run-dir", str(run), "--json", *args.source_extra]
        done = run_process(command, timeout=args.timeout, keep_path=True)
        if done.returncode or done.json is None:
            sys.exit(f"error: the source {name} could not be trained\n{tail(done.err)}")
        kept = {"test_top1": done.json["test"]["top1"], "epochs": done.json["epochs"], **done.costs()}
        result.head["sources"] = result.head.get("sources", {}) | {name: kept}
        say(f"source {name}: {kept['test_top1']:.4f} on its own test images, {done.seconds:.1f} s")
    return str(run)


def where(case: Case, seed: int, args: argparse.Namespace, work: Path) -> str:
    """A folder, or a set's name."""
    if not case.data.startswith("photos"):
        return case.data
    renamed = case.data == RENAMED
    folder = renamed_classes(args.data / "photos", work / "photos-renamed") if renamed else args.data / case.data
    if case.learn is not None:
        few = work / f"{folder.name}-{case.learn}-of-seed-{seed}"
        folder = few_to_learn(folder, few, case.learn, seed)
    return str(folder)


def data_root(data: str, args: argparse.Namespace, work: Path) -> Path:
    """Where a named set lies: DATA, or for CIFAR-10 a folder in which its archive has been unpacked."""
    if data != "cifar10" or (args.data / "cifar-10-batches-py").is_dir():
        return args.data
    unpacked = work / "unpacked"
    archive = next(args.data.glob("cifar-10-python.tar*"), None)
    if not unpacked.is_dir():
        if archive is None:
            sys.exit(f"error: no CIFAR-10 under {args.data}\nhint: --data wants it there, unpacked or as archive")
        part = unpacked.with_name("unpacked.part")
        with tarfile.open(archive) as file:
            file.extractall(part, filter="data")
        part.rename(unpacked)
    return unpacked


# what it comes to -----------------------------------------------------------------------------------------------------


def tables(result: ResultFile) -> str:
    """The Markdown that docs quote."""
    found = result.summary()
    head = ["case", "scored on", *SCENARIOS, "plan", "chosen", "best − plan, points (± paired)"]
    head += ["± of the test set, points", "plan, s", "of it planning, s", "all scenarios, s"]
    rows = []
    for name, case in found["cases"].items():
        accuracies = [percent(case["top1"].get(scenario), case["best"] == scenario) for scenario in SCENARIOS]
        spent = "–" if case["planning_seconds"] is None else f"{case['planning_seconds']:.0f}"
        exhaustive = sum(seconds for scenario, seconds in case["seconds"].items() if scenario != PLAN)
        rows.append(
            [
                name, f"{case['n']:,} {case['split']}", *accuracies, percent(case["plan"]),
                ", ".join(dict.fromkeys(case["chosen"])),
                f"{100 * case['best_minus_plan']:+.1f} (± {100 * case['paired_half_width_95']:.1f})",
                f"{100 * case['half_width_95']:.1f}",
                f"{case['seconds'][PLAN]:.0f}", spent, f"{exhaustive:.0f}",
            ]
        )  # fmt: skip
    machine = result.head["machine"]
    lines = [f"{machine['cpu']}, {machine['cores']} cores, {result.head['date'][:10]}, {result.head['revision']}", ""]
    lines += [markdown_table(head, rows), ""]
    for flags, one in found["within_margin"].items():
        share, mean = f"{one['within_margin']} of {one['of']} cases", 100 * one["mean_difference"]
        lines.append(f"Within one point of the best ({flags}): {share}; {mean:.1f} points below it on average;")
        lines.append(f"more than one point below it beyond the chance of the images: {one['beyond_chance']}.")
    for scenario, one in found["growth"].items():
        lines.append(f"{scenario}: error goes as epochs ** {-one['median']:.2f}, median of {len(one['by_case'])} cases")
    for scenario, one in found["growth_from_trials"].items():
        how = f"{-one['median']:.2f}, spread {one['spread']:.2f}, {len(one['by_case'])} cases"
        lines.append(f"{scenario}: the same from trials to the whole, {how}")
    gains = found["gains"]
    near = f"{gains['count']} of {gains['of']}, within {gains['within']} of its error"
    lines.append(f"all and top beside the better linear classifier: {near}")
    failed = [f"{r['case']} {r['scenario']} seed {r['seed']}: {r['error']}" for r in result.rows if "error" in r]
    return "\n".join([*lines, *(f"Failed: {one}" for one in failed)])


def percent(value: float | None, best: bool = False) -> str:
    """An accuracy; the best in bold."""
    if value is None:
        return "–"
    return f"**{100 * value:.1f}**" if best else f"{100 * value:.1f}"


def told(row: Row) -> str:
    """A row in one line."""
    if "error" in row:
        return f"failed (exit {row['exit']}): {row['error']}"
    chosen = f", chose {row['chosen']}" if row["scenario"] == PLAN else ""
    return f"{row['top1']:.4f} of {row['n']} {row['split']} images, {row['wall_seconds']:.1f} s{chosen}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What follows -- is handed to every `striate train` of a case, and recorded; its rows stand beside "
        "those without it.\n\ncases:\n  " + "\n  ".join(CASES),
    )
    parser.add_argument("--data", default="../shared/data", help="folder with photos, weights, mnist and CIFAR-10")
    parser.add_argument("--cases", default="all", help="comma-separated, or all, or quick: " + ", ".join(QUICK))
    parser.add_argument("--scenarios", help=f"comma-separated [{PLAN},{','.join(SCENARIOS)}]")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=1.0, metavar="SCALE", help="factor of every case's epochs")
    parser.add_argument(
        "--growth",
        action="store_true",
        help=f"what trains, at {GROWTH_SCALES} of its epochs: how errors fall with them",
    )
    parser.add_argument("--work", help="keep trained sources and unpacked data here [a temporary folder]")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds after which a run is ended")
    parser.add_argument("--fresh", action="store_true", help="forget what the result file holds")
    parser.add_argument("--try-out", action="store_true", help="sources of a few images, to try the script")
    parser.add_argument("--out", default=str(RESULTS / "transfer_plan.json"))
    given, extra = sys.argv[1:], []
    if "--" in given:
        cut = given.index("--")
        given, extra = given[:cut], given[cut + 1 :]
    args = parser.parse_args(given)
    args.extra, args.data = extra, Path(args.data).resolve()
    args.source_extra = ["--limit", "500", "--epochs", "1"] if args.try_out else []
    several = {"all": list(CASES), "quick": list(QUICK)}
    args.cases = several.get(args.cases) or args.cases.split(",")
    args.scales = GROWTH_SCALES if args.growth else (args.epochs,)
    usual = TRAINED if args.growth else (PLAN, *SCENARIOS)
    args.scenarios = args.scenarios.split(",") if args.scenarios else usual
    scenarios = (PLAN, *SCENARIOS)
    for name, known in (*((case, CASES) for case in args.cases), *((one, scenarios) for one in args.scenarios)):
        if name not in known:
            parser.error(f"no {name!r}; there are {', '.join(known)}")
    return args


if __name__ == "__main__":
    main()
