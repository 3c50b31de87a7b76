"""`--from auto`: where a training starts that was told nothing about it.

Small images are learned from scratch: networks of their size train in seconds to minutes, and weights of photos are of
little use to them. For photos the best network is taken that can be had: runs in the run folder that saw other photos,
files of weights in this folder, weights in the cache, and where there are no such weights, light ones from the hub.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from striate.data import Dataset
from striate.errors import StriateError
from striate.hub.download import cache_folder, reachable
from striate.hub.files import SUFFIXES, is_ours, read_state
from striate.hub.published import TABLE, Weights, find_weights
from striate.hub.recognise import recognised
from striate.models import find_entry
from striate.options import TrainOptions
from striate.progress import Progress
from striate.runfolder import list_runs
from striate.spec import ModelEntry
from striate.training.defaults import kind_of
from striate.training.start import SCRATCH
from striate.transfer.ancestry import seen_by

LIGHT = "resnet18:imagenet1k_v1"  # fetched where nothing better is here: 45 MB
OFFLINE_VARIABLE = "STRIATE_OFFLINE"  # set to anything: auto fetches nothing
PHOTO_SIDE = 97  # pixels: networks that are fed less have not seen photos
MOST_EACH = 2  # networks of each kind that are probed
MOST_MACS = 5e9  # of one image: heavier networks are taken only by name
MOST_BYTES = 3 * 10**8  # of a file in this folder that is looked into, and of a download
_TIMM_FILE = re.compile(r"(?P<model>\w+)\.(?P<tag>\w+)-model\.safetensors")


@dataclass(frozen=True, slots=True)
class Start:
    """What to start from: spellings of networks to probe, or none, and why, in a few words."""

    sources: tuple[str, ...]
    why: str


def find_start(options: TrainOptions, dataset: Dataset, progress: Progress) -> Start:
    """The networks that a training on `dataset` may start from; none means from scratch."""
    if kind_of(dataset) != "photos":
        return Start((), "images this small are learned from scratch")
    if options.model.init != "paper" and options.transfer.scenario != SCRATCH:
        return Start((), f"--init {options.model.init} is how a network starts from scratch")
    wanted = find_entry(options.model.model) if options.model.model is not None else None
    own = list(_first(_runs(options, dataset, wanted)))
    files = list(_first(_files(Path(), dataset, wanted)))
    cached = list(_first(_cached(wanted)))
    sources = tuple(dict.fromkeys([*own, *files, *cached]))
    if files or cached:
        return Start(sources, f"{_listed(sources)} on this machine")
    light = _light(wanted)
    if light is None:
        why = f"there are no weights of {options.model.model} here" if not sources else _listed(sources)
        return Start(sources, why)
    if options.data.offline or os.environ.get(OFFLINE_VARIABLE):
        why = "offline, and no pretrained network is on this machine"
    elif not reachable(light.url):
        why = f"no pretrained network is on this machine, and {light.spelling} cannot be fetched now"
    else:
        return Start((*sources, light.spelling), f"{_listed((*sources, light.spelling))}")
    return Start(sources, f"{_listed(sources)}; {why}" if sources else why)


# runs -----------------------------------------------------------------------------------------------------------------


def _runs(options: TrainOptions, dataset: Dataset, wanted: ModelEntry | None) -> Iterator[str]:
    """Finished runs on other photos than these, those that saw most first."""
    found: list[tuple[int, str]] = []
    for run in list_runs(Path(options.training.runs)):
        record = description_of(run.model) if run.finished else {}
        if not _fits(record, wanted):
            continue
        if count := _images_if_others(str(run.path), dataset):
            found.append((count, str(run.path)))
    for _, path in sorted(found, key=lambda one: -one[0]):
        yield path


def _images_if_others(source: str, dataset: Dataset) -> int:
    """How many images a network has seen; 0 where any of these is among them, or may be."""
    seen = seen_by(source)
    if seen.unread is not None or any(seen.among(split).any() for split in dataset.splits.values()):
        return 0
    return len(seen.images)


def description_of(path: Path) -> dict[str, Any]:
    """What a model file of ours says of itself, without its weights; {} where it is none."""
    try:
        with safe_open(path, framework="numpy") as stored:
            return json.loads((stored.metadata() or {}).get("striate", "{}"))
    except (OSError, SafetensorError, ValueError):
        return {}


def _fits(record: dict[str, Any], wanted: ModelEntry | None) -> bool:
    """Whether a model file is of a network that was fed photos, and of the one that is wanted."""
    size = record.get("input", {}).get("size") or (0,)
    name = record.get("architecture", {}).get("name", "")
    return min(size) >= PHOTO_SIDE and ".py:" not in name and (wanted is None or wanted.name == name)


# weights --------------------------------------------------------------------------------------------------------------


def _files(folder: Path, dataset: Dataset, wanted: ModelEntry | None) -> Iterator[str]:
    """Files of weights in `folder` of networks that see photos, the smallest first.

    Our own only where it is known which images they have seen.
    """
    there = [path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file()]
    for path in sorted(there, key=lambda path: path.stat().st_size):
        if path.stat().st_size > MOST_BYTES:
            return
        try:
            if is_ours(path):
                if _fits(description_of(path), wanted) and _images_if_others(str(path), dataset):
                    yield str(path)
                continue
            fitting = [one.entry for one in recognised(read_state(path))]
        except (StriateError, OSError):
            continue
        fitting = [one for one in fitting if wanted is None or one.name == wanted.name]
        if len(fitting) == 1 and _light_enough(fitting[0]) and min(fitting[0].input.size) >= PHOTO_SIDE:
            yield f"{fitting[0].name}:{path}"


def _cached(wanted: ModelEntry | None) -> Iterator[str]:
    """Published weights in the cache, the most accurate first."""
    folder = cache_folder()
    for weights in sorted(TABLE, key=lambda one: -(one.top1 or 0.0)):
        if (folder / weights.file).is_file() and _usable(weights.spelling, wanted):
            yield weights.spelling
    if find_spec("timm") is not None:
        for path in sorted(folder.glob("*-model.safetensors")):
            match = _TIMM_FILE.fullmatch(path.name)
            if match and _usable(spelling := f"timm:{match['model']}:{match['tag']}", wanted):
                yield spelling


def _usable(spelling: str, wanted: ModelEntry | None) -> bool:
    try:
        entry, weights = find_weights(*spelling.rsplit(":", 1))
    except StriateError:
        return False
    if wanted is not None:
        return entry.name == wanted.name
    return _light_enough(entry) and min(weights.input.size) >= PHOTO_SIDE


def _light_enough(entry: ModelEntry) -> bool:
    return entry.macs <= MOST_MACS


def _light(wanted: ModelEntry | None) -> Weights | None:
    """What to fetch: the light default, or the weights of the network that is wanted where they are no burden."""
    if wanted is None:
        return find_weights(*LIGHT.split(":"))[1]
    theirs = [one for one in TABLE if _usable(one.spelling, wanted)]
    return theirs[-1] if theirs and 4 * wanted.params <= MOST_BYTES else None


def _first(found: Iterable[str]) -> Iterator[str]:
    for _, one in zip(range(MOST_EACH), found, strict=False):
        yield one


def _listed(sources: tuple[str, ...]) -> str:
    return " or ".join(sources)
