"""`striate predict`: images to ranked classes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from striate.cli.common import json_flag, options_from, prepare_torch, print_json, progress_of, say, striate_command
from striate.options import InferenceOptions

if TYPE_CHECKING:
    from striate.spec import Prediction

# how the files of the formats that people pipe begin; anything else on standard input is taken for paths
_IMAGE_START = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8[79]a|BM.{4}\x00{4}|RIFF....WEBP|II[*+]\x00|MM\x00[*+]|\x93NUMPY|P[1-7]\s"
    rb"|\x00...ftyp|\x00\x00\x00\x0cjP  |\x00\x00\x01\x00",
    re.DOTALL,
)
_SIZED = (b"BM", b"RIFF", b"\x00")  # begin with a size, in which any byte may come, the end of a line too
_MARKS = {None: "", False: " ", True: "*"}  # behind labels of which an image may have any number
_BLOCK = 64  # lines that are lined up with one another


@striate_command("predict")
@click.argument("run")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--top-k", type=click.IntRange(min=1), default=5, show_default=True, help="Classes shown per image.")
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="Images passed at once [by their size: 32 of 224 pixels]."
)
@options_from(InferenceOptions)
@click.option("--offline", is_flag=True, help="Never use the network.")
@click.option("--runs", default="runs", show_default=True, metavar="FOLDER", help="Folder that holds the run folders.")
@json_flag
def command(
    run: str,
    images: tuple[str, ...],
    top_k: int,
    batch_size: int | None,
    options: InferenceOptions,
    offline: bool,
    runs: str,
    as_json: bool,
) -> None:
    """Rank the classes of each IMAGE with the network of RUN.

    RUN is a run folder, its name, `latest`, a model file, published weights (MODEL:WEIGHTS), or a file of weights,
    alone or as MODEL:FILE. IMAGE is a file, a folder, a pattern in quotes such as 'photos/**/*.jpg', or - for standard
    input: paths, one a line, or the bytes of one image. An image that cannot be read is named, the others go on, and
    the exit code is 1.

    Of a network for several labels an image, the labels that it chooses are marked *, by thresholds of its own;
    all of them are shown, however many --top-k says.

    Computes in fp32 unless --precision says otherwise. Standard error tells what computes and why and, for anything
    but PyTorch in fp32, how far its answers are from that; --json has it under `engine`.

    \b
    Examples:
      striate predict latest cat.jpg
      striate predict runs/photos holiday/ --top-k 1 --json
      striate predict runs/photos holiday/ --backend openvino --precision int8
      striate predict resnet18:imagenet1k_v1 cat.jpg
      find . -name '*.png' | striate predict model.safetensors -
    """
    prepare_torch()
    from striate.prediction import Classifier, count_paths
    from striate.runtime import pick_threads, set_threads

    progress = progress_of()
    threads = set_threads(pick_threads(options.threads, progress.say))
    classifier = Classifier.load(
        run, device=options.device, precision=options.precision or "fp32", backend=options.backend,
        calibration=options.calibration, threads=threads, images=None if "-" in images else count_paths(images),
        runs=runs, offline=offline, progress=progress,
    )  # fmt: skip
    counts = {"unreadable": 0}
    predictions = _counted(classifier.iter_predict(_sources(images), top_k, batch_size), counts)
    if as_json:
        rows = [one.to_dict() for one in predictions]
        print_json({"predictions": rows, "engine": classifier.engine.to_dict()})
    else:
        _show(predictions)
    if counts["unreadable"]:
        sys.exit(1)


def _sources(images: tuple[str, ...]) -> Iterator[Any]:
    for image in images:
        if image == "-":
            yield from _from_stdin(sys.stdin.buffer)
        else:
            yield image


def _from_stdin(stream: BinaryIO) -> Iterator[Any]:
    """The one image, or the paths line by line as they come."""
    start = stream.read(1)
    if not start:
        return
    # a pipe may hand over its bytes one by one: the first line or sixteen bytes decide
    while len(start) < 16 and not (start.endswith(b"\n") and not start.startswith(_SIZED)):
        if not (more := stream.read(1)):
            break
        start += more
    if _IMAGE_START.match(start):
        yield start + stream.read()
        return
    first = start if start.endswith(b"\n") else start + stream.readline()
    for line in first.split(b"\n"):
        yield from _path_of(line)
    for line in stream:
        yield from _path_of(line)


def _path_of(line: bytes) -> Iterator[str]:
    text = os.fsdecode(line.rstrip(b"\r\n"))
    if text:
        yield text


def _counted(predictions: Iterator[Prediction], counts: dict[str, int]) -> Iterator[Prediction]:
    for one in predictions:
        counts["unreadable"] += one.error is not None
        yield one


def _show(predictions: Iterator[Prediction]) -> None:
    """One line per image, a block at a time, so that they line up and still appear while the rest is computed."""
    block: list[Prediction] = []
    for one in predictions:
        block.append(one)
        if len(block) == _BLOCK:
            _show_block(block)
            block = []
    _show_block(block)


def _show_block(block: list[Prediction]) -> None:
    paths = [click.format_filename(one.path) for one in block]
    widths = [
        max((len(one.labels[place].label) for one in block if place < len(one.labels)), default=0)
        for place in range(max((len(one.labels) for one in block), default=0))
    ]
    longest = max(map(len, paths), default=0)
    for path, one in zip(paths, block, strict=True):
        if one.error is not None:
            say(f"{path:<{longest}}  error: {one.error}")
            continue
        ranks = (  # those of an image with several labels may be fewer than another's in the block
            f"{rank.label:<{width}} {rank.probability:6.1%}{_MARKS[rank.chosen]}"
            for rank, width in zip(one.labels, widths, strict=False)
        )
        say(f"{path:<{longest}}  {'   '.join(ranks)}".rstrip())
