"""How fast does a network answer: ours by default and by back end, beside torch, ONNX Runtime and OpenVINO by hand?

Latency is one image at a time, throughput batches of 32, both at 224. Every measurement is a process of its own, all
in turn, repeated; see README.md beside this file. `--bulk` measures `striate predict` on a folder of photos instead.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import BENCHMARKS, RESULTS, markdown_table, run_process, say, tail, versions
from resumable import ResultFile, Row

PEER_PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "numpy")
# the publisher's name of each network, and ours
NETWORKS = {
    "resnet50": ("resnet50", "resnet50_v1_5"),
    "resnet18": ("resnet18", "resnet18"),
    "googlenet": ("googlenet", "googlenet_torchvision"),
    "mobilenet_v2": ("timm:mobilenetv2_100", "timm:mobilenetv2_100"),
}
BATCHES = (1, 32)
DEFAULTS = ("striate first", "striate", "striate auto")  # what they take is written beside them


@dataclass(frozen=True)
class Contender:
    """One way to the answers; `precision` says whom it is compared with (None: what it reports itself)."""

    name: str
    ours: bool
    settings: tuple[str, ...]
    precision: str | None = None
    batches: tuple[int, ...] = BATCHES
    slow_start: bool = False  # compiles for minutes: only where asked for
    form: str | None = None  # needs this int8 file


def _ours(backend: str, *precisions: str) -> list[Contender]:
    return [
        Contender(f"striate {backend} {one}", True, ("--backend", backend, "--precision", one), one)
        for one in precisions
    ]


def _openvino(precision: str, form: str | None = None) -> list[Contender]:
    name = f"by hand: openvino {precision}" + (f" ({form})" if form else "")
    settings = ("--engine", "openvino", "--precision", precision, *(("--form", form) if form else ()))
    return [
        Contender(name, False, settings, precision, form=form),
        Contender(
            f"{name} throughput hint", False, (*settings, "--hint", "throughput"), precision, batches=(32,), form=form
        ),
    ]


def _by_hand(engine: str, precision: str, name: str | None = None, **more: Any) -> Contender:
    settings = ("--engine", engine, "--precision", precision)
    return Contender(f"by hand: {name or engine} {precision}", False, settings, precision, **more)


CONTENDERS = {
    one.name: one
    for one in (
        # as predict computes: the first few images, in float32; thousands, or any after them; the same in any precision
        Contender("striate first", True, ("--first",)),
        Contender("striate", True, ("--expected", "10000")),
        Contender("striate auto", True, ("--expected", "10000", "--precision", "auto")),
        *_ours("torch", "fp32", "bf16"),
        *_ours("onnxruntime", "fp32", "int8"),
        *_ours("openvino", "fp32", "bf16", "int8"),
        _by_hand("eager", "fp32", "torch"),
        _by_hand("eager", "bf16", "torch channels-last"),
        _by_hand("compile", "fp32", "torch.compile", slow_start=True),
        _by_hand("compile", "bf16", "torch.compile", slow_start=True),
        _by_hand("onnxruntime", "fp32"),
        _by_hand("onnxruntime", "int8"),
        *_openvino("fp32"),
        *_openvino("bf16"),
        *_openvino("int8", "qdq"),
        *_openvino("int8", "nncf"),
    )
}


def main() -> None:
    args = arguments()
    work = Path(args.work) if args.work else Path(tempfile.mkdtemp(prefix="inference-"))
    try:
        if args.bulk:
            from inference_bulk import run_bulk

            run_bulk(args, work)
        else:
            run(args, work)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)


def run(args: argparse.Namespace, work: Path) -> None:
    """Prepare, measure in turn, write after every measurement, print the tables."""
    result = ResultFile(
        Path(args.out or RESULTS / "inference.json"),
        "benchmarks/inference.py",
        ("network", "name", "batch", "repeat", "threads"),
        summary,
        fresh=args.fresh,
    )
    result.head["versions"] = found_versions(args)
    for network in args.networks:
        forms = prepare(network, args, work)
        names = [name for name in args.contenders if CONTENDERS[name].form in (None, *forms)]
        for repeat in range(args.repeats):
            turn = repeat % len(names)
            for name in names[turn:] + names[:turn]:  # another one is first each time: drift falls on all alike
                for batch in sorted(set(args.batches) & set(CONTENDERS[name].batches)):
                    key = {"network": network, "name": name, "batch": batch, "repeat": repeat, "threads": args.threads}
                    if not result.holds(**key):
                        row = measured(CONTENDERS[name], args, work / network, key)
                        say(f"{network}, batch {batch}, {repeat + 1}/{args.repeats}, {name}: {told(row)}")
                        result.add(row)
    result.write()
    print(tables(result))


def measured(contender: Contender, args: argparse.Namespace, folder: Path, key: Row) -> Row:
    """One process: loaded, warmed up, timed; its answers are compared with those of eager fp32."""
    theirs, ours = NETWORKS[key["network"]]
    if contender.ours:
        command = [args.python_of["striate"], str(BENCHMARKS / "inference_ours.py"), "--network", ours]
    else:
        command = [args.python_of["peers"], str(BENCHMARKS / "peers" / "inference_by_hand.py"), "--network", theirs]
    command += [*contender.settings, "--folder", str(folder), "--batch-size", str(key["batch"])]
    command += ["--seconds", str(args.seconds), "--warm", str(args.warm)]
    command += ["--threads", str(args.threads)] if args.threads else []
    answers = folder / "answers.npy"
    answers.unlink(missing_ok=True)
    done = run_process([*command, "--answers", str(answers)], timeout=args.timeout, keep_path=contender.ours)
    if done.returncode or done.json is None:
        return {**key, **done.costs(), "exit": done.returncode, "error": tail(done.err or done.out, 3)}
    row = {**key, "ours": contender.ours, "precision": contender.precision, **done.json, **done.costs()}
    return {**row, **differences(answers, folder / "reference.npy")}


def differences(answers: Path, reference: Path) -> Row:
    """Largest difference of a logit, as part of the largest logit, and the share of equal top-1 answers."""
    import numpy as np

    given, expected = np.load(answers), np.load(reference)
    expected = expected[: len(given)]
    return {
        "largest_difference": float(np.abs(given - expected).max() / np.abs(expected).max()),
        "top1_agreement": float((given.argmax(1) == expected.argmax(1)).mean()),
    }


def prepare(network: str, args: argparse.Namespace, work: Path) -> list[str]:
    """Weights, images, ONNX and int8 files of a network, made once by the peers' libraries; the int8 forms."""
    folder = work / network
    if not (folder / "ready.json").exists():
        say(f"{network}: preparing (not timed)")
        script = BENCHMARKS / "peers" / "inference_prepare.py"
        command = [args.python_of["peers"], str(script), "--network", NETWORKS[network][0], "--folder", str(folder)]
        done = run_process(command, timeout=args.timeout)
        if done.returncode:
            sys.exit(f"error: {network} could not be prepared\n{tail(done.err)}")
    return json.loads((folder / "ready.json").read_text())["int8"]


def found_versions(args: argparse.Namespace) -> dict[str, Any]:
    """Versions of both sides; each library is imported once, so that the first one pays for no cold files."""
    ours = ("striate", "torch", "onnxruntime", "openvino", "numpy")
    return {
        "striate": versions(args.python_of["striate"], ours, ("striate", "torch", "onnxruntime", "openvino")),
        "peers": versions(args.python_of["peers"], PEER_PACKAGES, ("torchvision", "onnxruntime", "openvino")),
    }


def summary(rows: list[Row]) -> dict[str, Any]:
    """By network and batch: ms of everyone, and of each of ours the best by hand at its precision over it."""
    figures: dict[str, Any] = {}
    for network, batch in sorted({(row["network"], row["batch"]) for row in rows}):
        here = [row for row in rows if (row["network"], row["batch"]) == (network, batch)]
        names = list(dict.fromkeys(row["name"] for row in here))
        figures.setdefault(network, {})[str(batch)] = {
            name: {**spread_of(mine := [row for row in here if row["name"] == name]), **against(mine, here)}
            for name in names
        }
    return figures


def spread_of(rows: list[Row]) -> Row:
    """Median, least and greatest of the processes' medians."""
    values = [row["ms"] for row in rows]
    return {
        "ms": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
        "images_per_second": 1000 * rows[0]["batch"] / statistics.median(values),
        "precision": rows[0]["precision"],
        "backend": rows[0].get("backend"),
        "largest_difference": max(row["largest_difference"] for row in rows),
        "top1_agreement": min(row["top1_agreement"] for row in rows),
    }


def against(mine: list[Row], everyone: list[Row]) -> Row:
    """For one of ours: the best by hand of each repeat, at the same precision, over it; above 1 ours is faster."""
    if not mine[0]["ours"]:
        return {}
    ratios, best = [], None
    for row in mine:
        by_hand = [
            other
            for other in everyone
            if not other["ours"] and other["precision"] == row["precision"] and other["repeat"] == row["repeat"]
        ]
        if by_hand:
            best = min(by_hand, key=lambda other: other["ms"])
            ratios.append(best["ms"] / row["ms"])
    if best is None:
        return {}
    return {"best_by_hand_over_ours": statistics.median(ratios), "best_by_hand": best["name"], "ratios": ratios}


def tables(result: ResultFile) -> str:
    """The Markdown that docs/results.md quotes: one table per network and batch."""
    machine, texts = result.head["machine"], []
    head = [
        "program",
        "ms a batch",
        "min–max",
        "images/s",
        "best by hand / ours",
        "largest difference",
        "top-1 as fp32",
    ]
    for network, batches in result.summary().items():
        for batch, figures in batches.items():
            rows = [
                [
                    name + (f" ({one['backend']} {one['precision']})" if name in DEFAULTS else ""),
                    f"{one['ms']:.1f}",
                    f"{one['min']:.1f}–{one['max']:.1f}",
                    f"{one['images_per_second']:.1f}",
                    f"{one['best_by_hand_over_ours']:.2f} ({one['best_by_hand'].removeprefix('by hand: ')})"
                    if "best_by_hand" in one
                    else "",
                    f"{one['largest_difference']:.1e}",
                    f"{100 * one['top1_agreement']:.0f} %",
                ]
                for name, one in sorted(figures.items(), key=lambda item: item[1]["ms"])
            ]
            texts += [f"{network}, batch {batch}", "", markdown_table(head, rows), ""]
    missing = [name for name in CONTENDERS if all(row["name"] != name for row in result.rows)]
    failed = sorted({f"{row['name']} on {row['network']}" for row in result.rows if "error" in row})
    texts += [f"Not measured: {', '.join(missing)}."] if missing else []
    texts += [f"Failed: {', '.join(failed)}."] if failed else []
    place = f"{machine['cpu']}, {machine['cores']} cores, {result.head['date'][:10]}, {result.head['revision']}"
    return "\n".join([place, "", *texts])


def told(row: Row) -> str:
    """A measurement in one line."""
    if "error" in row:
        return f"failed (exit {row['exit']}): {row['error']}"
    return f"{row['ms']:.1f} ms a batch ({row['ms_p10']:.1f}–{row['ms_p90']:.1f}), top-1 {row['top1_agreement']:.0%}"


def make_environment(folder: Path) -> str:
    """The peers' Python with their libraries, installed by pip on the first use; its interpreter."""
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"making the peers' environment in {folder}")
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
    return str(python)


def chosen(parser: argparse.ArgumentParser, text: str | None, known: Iterable[str], default: list[str]) -> list[str]:
    """The names of a comma-separated list; a beginning stands for all names that begin so."""
    if text is None:
        return default
    names = []
    for word in (part.strip() for part in text.split(",")):
        matches = [word] if word in known else [name for name in known if name.startswith(word)]
        if not matches:
            parser.error(f"no {word!r}; there are {', '.join(known)}")
        names += [name for name in matches if name not in names]
    return names


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", help=f"comma-separated [all: {', '.join(NETWORKS)}]")
    parser.add_argument(
        "--only", help="these contenders: names or their beginnings, comma-separated; rows of others stay"
    )
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile too, which warms up for a minute each time"
    )
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="measured in each process, after the warm-up")
    parser.add_argument("--warm", type=float, default=1.5)
    parser.add_argument("--threads", type=int, help="the same for all [what each takes by itself]")
    parser.add_argument("--setup-peers", metavar="DIR", help="make the peers' environment here, or use the one there")
    parser.add_argument(
        "--python-of",
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="interpreter of striate or of the peers [the one that runs this]",
    )
    parser.add_argument("--work", help="keep what is prepared here for another time [a temporary folder]")
    parser.add_argument("--timeout", type=float, default=900)
    parser.add_argument("--fresh", action="store_true", help="forget what the result file holds")
    parser.add_argument("--out", help="result file [results/inference.json; with --bulk inference_bulk.json]")
    bulk = parser.add_argument_group("--bulk: a folder of photos, whole process")
    bulk.add_argument("--bulk", action="store_true")
    bulk.add_argument("--photos", help="folder with photos, whose hard links make the folders that are predicted")
    bulk.add_argument("--count", type=int, default=2000, help="photos; and four times as many, for the memory")
    bulk.add_argument("--network", default="resnet18", choices=NETWORKS)
    bulk.add_argument(
        "--variant", action="append", default=[], metavar="FLAGS", help="`striate predict` with these too"
    )
    args = parser.parse_args()
    args.networks = chosen(parser, args.networks, NETWORKS, list(NETWORKS))
    usual = [name for name, one in CONTENDERS.items() if args.compile or not one.slow_start]
    args.contenders = chosen(parser, args.only, CONTENDERS, usual)
    args.batches = [int(word) for word in args.batches.split(",")]
    known = {"striate": sys.executable, "peers": sys.executable}
    if args.setup_peers:
        known["peers"] = make_environment(Path(args.setup_peers).resolve())
    for item in args.python_of:
        name, _, python = item.partition("=")
        if name not in known or not python:
            parser.error(f"--python-of {item!r}: expected striate or peers, = and a path")
        known[name] = python
    args.python_of = known
    return args


if __name__ == "__main__":
    main()
