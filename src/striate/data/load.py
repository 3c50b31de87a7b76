"""`load_data`: recognise what DATA is, look into it, split it, and hand over a `Dataset`."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from striate.data.canvases import open_canvases
from striate.data.dataset import Dataset, LeftOut, Split
from striate.data.images import Images, PhotoImages, TensorImages
from striate.data.scan import FileInfo, PhotoStore, array_digests, canvas_side, scan
from striate.data.sources.cifar import ARCHIVE_SUFFIXES, cifar_place, find_cifar
from striate.data.sources.folder import find_folder, find_images
from striate.data.sources.found import Found
from striate.data.sources.idx import find_idx, idx_folder
from striate.data.sources.named import ALIASES, NAMES, canonical_name, find_named
from striate.data.sources.sides import AsGiven, Sides, picked
from striate.data.sources.table import TABLE_SUFFIXES, find_table
from striate.data.sources.written import use_split_file
from striate.data.wording import counted
from striate.errors import DataError, UnknownNameError, UsageError
from striate.options.sections import DataOptions
from striate.progress import Progress, Silent
from striate.runtime import usable_memory

_USUAL_INPUT = 224  # side for which photos are prepared while they are first read, where none is asked for
_USUAL_MEMORY = 4 * 2**30  # bytes of photos kept there


def load_data(
    options: DataOptions | str, *, scoring: bool = False, labelled: bool = True, progress: Progress | None = None
) -> Dataset:
    """A data set, read, checked and split.

    Args:
        options: what to load and how to split it; text stands for ``DataOptions(data=text)``: a named set, a folder,
            IDX or CIFAR files, a CSV or Parquet table.
        scoring: the images are only scored, not trained on. They stay in the splits that the data give, of which any
            may be missing, or together in one, `all`, where they give none; whatever is said about splitting them and
            limiting them is left aside, and so are the demands of training: two classes, each with an image to train
            on, and one to validate on. Photos are expected to be looked at once: none is kept for later.
        labelled: False: nobody asks for the labels of what is scored; a folder may hold images anyhow, and a table
            paths alone.
        progress: where it is said how far the reading is.

    Raises:
        UnknownNameError: no named set and no path; the nearest names are given.
        DataError: the data cannot be used; the message says what to change.
        OfflineError: a named set is not here and cannot be fetched.
        UsageError: options that contradict each other or the data.
    """
    if isinstance(options, str):
        options = DataOptions(data=options)
    progress = progress or Silent()
    found = find_source(options, progress, scoring=scoring, labelled=labelled)
    if not len(found.targets):
        raise DataError(f"{options.data} holds no images")
    photos = found.files is not None
    rule = AsGiven(found) if scoring else Sides(found, options)
    dataset = _Photos(found, rule, options, progress, scoring).dataset() if photos else _array_dataset(found, rule)
    return replace(dataset, options=options)


def find_source(options: DataOptions, progress: Progress, *, scoring: bool = False, labelled: bool = True) -> Found:
    """Recognise `options.data` and list its images; `scoring` and `labelled` as for `load_data`.

    Raises:
        As `load_data`.
    """
    if not options.data:  # a path of nothing would be the current folder
        raise UsageError("'' is given as data, and names nothing", f"the current folder is .; sets: {', '.join(NAMES)}")
    name = canonical_name(options.data)
    if name is not None:
        found = find_named(name, options.data_root, offline=options.offline, progress=progress)
    else:
        found = _find_path(Path(options.data).expanduser(), options, scoring, labelled)
    if options.split_file is not None and not scoring:
        use_split_file(found, Path(options.split_file).expanduser())
    elif found.files is None and options.group is not None:
        raise UsageError(f"data.group needs image files; {found.name} has none")
    if options.label_delimiter is not None and found.targets.ndim == 1:
        raise UsageError(
            f"--label-delimiter {options.label_delimiter!r}: {found.name} has one label to an image",
            "several labels an image come from a CSV or Parquet table",
        )
    return found


def _find_path(path: Path, options: DataOptions, scoring: bool, labelled: bool) -> Found:
    if not path.exists():
        raise _unknown(options.data, path)
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return find_table(path, options, scoring=scoring, labelled=labelled)
    folder = idx_folder(path)
    if folder is not None:
        return find_idx(folder, _set_name(folder), scoring=scoring)
    place = cifar_place(path)
    if place is not None:
        return find_cifar(place)
    if path.is_dir():
        return find_folder(path, options.group, scoring=scoring) if labelled else find_images(path)
    known = ", ".join((*TABLE_SUFFIXES, "IDX files (train-images-idx3-ubyte)", *ARCHIVE_SUFFIXES[:3]))
    raise DataError(f"{path} is a file of no known kind of data", f"known: a folder of class folders, {known}")


def _unknown(text: str, path: Path) -> UnknownNameError:
    """No such set and no such path: the nearest names of sets, and of what lies beside it."""
    known = [*NAMES, *ALIASES]
    if path.parent.is_dir():
        prefix = "" if path.parent == Path(".") and not text.startswith("./") else f"{path.parent}/"
        known += [prefix + entry.name for entry in path.parent.iterdir() if not entry.name.startswith(".")]
    hint = f"named sets: {', '.join(NAMES)}; or the path of a folder, a table, IDX or CIFAR files"
    error = UnknownNameError("data set", text, known, hint)
    if error.nearest:
        error.hint = f"did you mean {' or '.join(error.nearest)}? {hint}"
    return error


def _set_name(folder: Path) -> str:
    """What a folder of IDX files is called: its own name, or that of the folder above `raw`."""
    folder = folder.resolve()
    return (folder.parent if folder.name == "raw" else folder).name or "idx"


# data sets in arrays --------------------------------------------------------------------------------------------------


def _array_dataset(found: Found, rule: Sides | AsGiven) -> Dataset:
    assert found.pixels is not None
    digests = array_digests(found.pixels)
    sides = rule.of(found.given, digests, found.targets, found.groups)
    splits: dict[str, Split] = {}
    for name in rule.names:
        rows = np.flatnonzero(sides == name)
        if not len(rows) and name not in rule.always:
            continue
        splits[name] = Split(
            name=name,
            targets=found.targets[rows],
            paths=picked(found.paths, rows),
            images=TensorImages(_rows(found.pixels, rows)),
            digests=digests[rows],
            groups=picked(found.groups, rows) if found.groups is not None else None,
        )
    labels = found.labels
    notes = rule.check(splits, labels, found.name)
    return Dataset(
        name=found.name,
        labels=labels,
        splits=splits,
        official_test=rule.official_test,
        channels=found.pixels.shape[1],
        bits=8 * found.pixels.dtype.itemsize,
        native_size=(found.pixels.shape[2], found.pixels.shape[3]),
        kind="tensor",
        notes=(*found.notes, *rule.notes, *notes),
        beyond_limit=_beyond_limit(found, np.flatnonzero(sides == ""), digests),
    )


def _beyond_limit(found: Found, rows: np.ndarray, digests: np.ndarray) -> tuple[LeftOut, ...]:
    return tuple(
        LeftOut(
            path=found.paths[row],
            reason="beyond the limit",
            split="train",
            **found.labelled(row),
            digest=digests[row].tobytes(),
            group=found.groups[row] if found.groups is not None else None,
        )
        for row in map(int, rows)
    )


def _rows(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The chosen images; without a copy where they lie together."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return pixels[rows[0] : rows[-1] + 1]
    return pixels[rows]


# data sets in files ---------------------------------------------------------------------------------------------------


def _cache_memory(options: DataOptions) -> int:
    """Bytes of photos that are kept in memory; where nothing is said, no more than a quarter of all there is."""
    if options.cache_memory is not None:
        return options.cache_memory * 2**20
    memory = usable_memory()
    return _USUAL_MEMORY if memory is None else min(_USUAL_MEMORY, memory // 4)


class _Photos:
    """A data set of image files: one pass over all of them, then the splits."""

    def __init__(
        self, found: Found, rule: Sides | AsGiven, options: DataOptions, progress: Progress, scoring: bool
    ) -> None:
        assert found.files is not None
        self.found, self.rule, self.files = found, rule, found.files
        limit = None if options.cache_limit is None else options.cache_limit * 2**20
        if scoring:
            limit = 0  # what is looked at once would only push out what epochs come back to
        owner = str(Path(options.data).expanduser().absolute())
        canvases, no_canvases = open_canvases(limit, owner, progress.warn)
        self.no_canvases = [] if no_canvases is None else [no_canvases]
        self.store = PhotoStore(_cache_memory(options), options.workers, canvases, once=scoring)
        self.reduced = options.reduced_decoding
        side = canvas_side(options.input_size or _USUAL_INPUT) if self.reduced else None
        self.infos = scan(found.files, found.paths, self.store, side, progress)
        self.errors = self._errors()

    def dataset(self) -> Dataset:
        """The splits and everything about them."""
        found, infos = self.found, self.infos
        left_out = self._left_out()
        readable = np.array([not error for error in self.errors], bool)
        if not readable.any():
            raise DataError(
                f"{found.name}: none of {len(infos)} images can be read", f"{left_out[0].path}: {left_out[0].reason}"
            )
        digests = np.frombuffer(b"".join(info.digest for info in infos), np.uint8).reshape(-1, 16)
        rows = np.flatnonzero(readable)
        groups = picked(found.groups, rows) if found.groups is not None else None
        sides = np.full(len(infos), "out", "<U5")
        sides[rows] = self.rule.of(found.given[rows], digests[rows], found.targets[rows], groups)
        channels, bits = self._channels([infos[row] for row in rows]), max(infos[row].bits for row in rows)
        splits = {
            name: self._split(name, np.flatnonzero(sides == name), left_out, digests, channels, bits)
            for name in self.rule.names
            if name in self.rule.always or name in sides or any(one.split == name for one in left_out)
        }
        labels = found.labels
        notes = self.rule.check(splits, labels, found.name)
        sizes = {infos[row].size for row in rows}
        return Dataset(
            name=found.name,
            labels=labels,
            splits=splits,
            left_out=left_out,
            official_test=self.rule.official_test,
            channels=channels,
            bits=bits,
            native_size=sizes.pop() if len(sizes) == 1 else None,
            kind="photos",
            notes=(*found.notes, *self.rule.notes, *self._image_notes(rows, bits), *self.no_canvases, *notes),
            beyond_limit=_beyond_limit(found, np.flatnonzero(sides == ""), digests),
        )

    def _split(
        self, name: str, rows: np.ndarray, left_out: tuple[LeftOut, ...], digests: np.ndarray, channels: int, bits: int
    ) -> Split:
        found = self.found
        files, infos = picked(self.files, rows), picked(self.infos, rows)
        images: Images = PhotoImages(files, infos, self.store, channels, bits, reduced=self.reduced)
        return Split(
            name=name,
            targets=found.targets[rows],
            paths=picked(found.paths, rows),
            images=images,
            unreadable=tuple(one for one in left_out if one.split == name),
            digests=digests[rows],
            groups=picked(found.groups, rows) if found.groups is not None else None,
        )

    def _errors(self) -> list[str | None]:
        """Why each image is left out: unreadable, or with a channel count that does not go with the others."""
        errors = [info.error for info in self.infos]
        counts = Counter(info.channels for info in self.infos if info.error is None)
        families = Counter({"grey or colour": counts[1] + counts[3]})
        families.update({str(channels): count for channels, count in counts.items() if channels not in (1, 3)})
        usual = families.most_common(1)[0][0]
        for position, info in enumerate(self.infos):
            family = "grey or colour" if info.channels in (1, 3) else str(info.channels)
            if info.error is None and family != usual:
                errors[position] = f"has {info.channels} channels where most images have {usual}"
        return errors

    def _left_out(self) -> tuple[LeftOut, ...]:
        found = self.found
        result = []
        for row, (info, error) in enumerate(zip(self.infos, self.errors, strict=True)):
            if error is not None:
                group = found.groups[row] if found.groups is not None else None
                split = self.rule.of_unreadable(str(found.given[row]), info.digest, group)
                result.append(
                    LeftOut(found.paths[row], error, split, digest=info.digest, group=group, **found.labelled(row))
                )
        return tuple(result)

    def _channels(self, infos: list[FileInfo]) -> int:
        return max(info.channels for info in infos)

    def _image_notes(self, rows: np.ndarray, bits: int) -> list[str]:
        infos = [self.infos[row] for row in rows]
        notes = []
        grey = sum(info.channels == 1 for info in infos)
        if 0 < grey < len(infos):
            some = counted(grey, "grey image", "grey images")
            notes.append(f"{some} among {len(infos) - grey:,} in colour: grey is repeated in three channels")
        narrow = sum(info.bits < bits for info in infos)
        if narrow:
            some = counted(narrow, "image", "images")
            notes.append(f"{some} of 8 bits among {len(infos) - narrow:,} of 16: the range of 8 bits is scaled up")
        if len(infos) < len(self.infos):
            some = counted(len(self.infos) - len(infos), "image", "images")
            notes.append(f"{some} cannot be read: left out in training, counted as wrong in scores")
        return notes
