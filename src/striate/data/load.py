"""`load_data`: recognise what DATA is, look into it, split it, and hand over a `Dataset`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from striate.data.dataset import Dataset, LeftOut, Split
from striate.data.images import Images, PhotoImages, TensorImages
from striate.data.scan import FileInfo, PhotoStore, array_digests, canvas_side, scan
from striate.data.sources.cifar import ARCHIVE_SUFFIXES, cifar_place, find_cifar
from striate.data.sources.folder import find_folder
from striate.data.sources.found import Found
from striate.data.sources.idx import find_idx, idx_folder
from striate.data.sources.named import ALIASES, NAMES, canonical_name, find_named
from striate.data.sources.table import TABLE_SUFFIXES, find_table
from striate.data.split import Interval, assign, by_number, shares, unit_digests, unit_numbers
from striate.errors import DataError, UnknownNameError, UsageError
from striate.options.sections import DataOptions
from striate.progress import Progress, Silent
from striate.spec import Labels

ItemT = TypeVar("ItemT")

_USUAL_INPUT = 224  # side for which photos are prepared while they are first read, where none is asked for


def load_data(options: DataOptions | str, *, progress: Progress | None = None) -> Dataset:
    """A data set, read, checked and split.

    Args:
        options: what to load and how to split it; text stands for ``DataOptions(data=text)``: a named set, a folder,
            IDX or CIFAR files, a CSV or Parquet table.
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
    found = find_source(options, progress)
    if not len(found.targets):
        raise DataError(f"{options.data} holds no images")
    photos = found.files is not None
    dataset = _Photos(found, options, progress).dataset() if photos else _array_dataset(found, options)
    return replace(dataset, options=options)


def find_source(options: DataOptions, progress: Progress) -> Found:
    """Recognise `options.data` and list its images.

    Raises:
        As `load_data`.
    """
    name = canonical_name(options.data)
    if name is not None:
        found = find_named(name, options.data_root, offline=options.offline, progress=progress)
    else:
        found = _find_path(Path(options.data).expanduser(), options)
    if found.files is None and options.group is not None:
        raise UsageError(f"data.group needs image files; {found.name} has none")
    return found


def _find_path(path: Path, options: DataOptions) -> Found:
    if not path.exists():
        raise _unknown(options.data, path)
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return find_table(path, options)
    folder = idx_folder(path)
    if folder is not None:
        return find_idx(folder, _set_name(folder))
    place = cifar_place(path)
    if place is not None:
        return find_cifar(place)
    if path.is_dir():
        return find_folder(path, options.group)
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


# splitting ------------------------------------------------------------------------------------------------------------


class _Sides:
    """The rule that divides what the source gives as training images, and the words for it."""

    def __init__(self, found: Found, options: DataOptions) -> None:
        self.seed, self.exact = options.split_seed, found.fixed
        self.notes: list[str] = []
        fold = _fold(options.fold)
        given = set(np.unique(found.given).tolist())
        self.official_test = "test" in given
        self.merge_val = fold is not None and "val" in given
        val, test = 0.0, 0.0
        if "val" in given and fold is None:
            if options.val_fraction is not None:
                self.notes.append("the data have a val split of their own: val_fraction is not used")
        else:
            val = options.val_fraction or (0.1 if self.official_test else 0.2)
        if self.official_test and options.test_fraction:
            self.notes.append("the data have a test split of their own: test_fraction is not used")
        elif not self.official_test:
            test = options.test_fraction
        if val + test >= 1:
            raise UsageError(f"val_fraction {val:g} and test_fraction {test:g} leave nothing to train on")
        self.val: Interval = (0.0, val)
        self.test: Interval = (val, val + test)
        if fold is not None:
            self._set_fold(*fold)
        if self.val[1] > self.val[0]:
            share = f"fold {fold[0]} of {fold[1]}" if fold else f"{100 * val:g} %"
            how = "by group and content hash" if found.groups else "by content hash"
            self.notes.append(f"val is {share} of the training images, {how}, split seed {self.seed}")

    def _set_fold(self, number: int, folds: int) -> None:
        if self.test[1] > self.test[0]:
            raise UsageError("folds and test_fraction do not go together", "give a test split, or leave it out")
        self.val = ((number - 1) / folds, number / folds)

    def of(
        self, given: np.ndarray, digests: np.ndarray, targets: np.ndarray, groups: Sequence[str | None] | None
    ) -> np.ndarray:
        """The side of each image."""
        sides = given.astype("<U5")
        pool = np.flatnonzero((given == "train") | (self.merge_val & (given == "val")))
        chosen = _picked(groups, pool) if groups is not None else None
        sides[pool] = assign(
            digests[pool],
            targets[pool],
            groups=chosen,
            seed=self.seed,
            val=self.val,
            test=self.test,
            exact=self.exact,
        )
        return sides

    def of_unreadable(self, given: str, digest: bytes, group: str | None) -> str:
        """The side that an unreadable image would be on, were it like any other."""
        if given != "train" and not (self.merge_val and given == "val"):
            return given
        unit = unit_digests(np.frombuffer(digest, np.uint8)[None], [group])
        return str(by_number(unit_numbers(unit, self.seed), self.val, self.test)[0])


def _fold(text: str | None) -> tuple[int, int] | None:
    """ "2/5" as (2, 5)."""
    if text is None:
        return None
    part, _, count = text.partition("/")
    if not (part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count) and int(count) >= 2):
        raise UsageError(f"data.fold = {text!r}: expected I/K with I from 1 to K, such as 2/5")
    return int(part), int(count)


def _limited(
    sides: np.ndarray, digests: np.ndarray, targets: np.ndarray, options: DataOptions, notes: list[str]
) -> np.ndarray:
    """`sides` with "" for the training images beyond the limit."""
    training = np.flatnonzero(sides == "train")
    if options.limit is None or options.limit >= len(training):
        return sides
    kept = training[shares(targets[training], digests[training], options.limit, options.split_seed)]
    sides[training] = ""
    sides[kept] = "train"
    notes.append(f"only {options.limit} of {len(training)} training images are used, the same share of each class")
    return sides


def _beyond_limit(found: Found, rows: np.ndarray, digests: np.ndarray) -> tuple[LeftOut, ...]:
    return tuple(
        LeftOut(
            path=found.paths[row],
            reason="beyond the limit",
            split="train",
            label=found.class_names[found.targets[row]],
            target=int(found.targets[row]),
            digest=digests[row].tobytes(),
            group=found.groups[row] if found.groups is not None else None,
        )
        for row in map(int, rows)
    )


def _picked(values: Sequence[ItemT], rows: np.ndarray) -> list[ItemT]:
    return [values[row] for row in map(int, rows)]


def _check_splits(splits: dict[str, Split], labels: Labels, name: str) -> None:
    """Every class must have something to train on, and there must be something to validate on."""
    counts = splits["train"].class_counts(len(labels))
    empty = [labels.names[target] for target in np.flatnonzero(counts == 0)]
    if empty:
        raise DataError(
            f"{name}: no training image of {', '.join(empty[:8])}", "add readable images, or remove the class"
        )
    if not len(splits["val"]):
        raise DataError(f"{name}: {len(splits['train'])} images are too few to hold any out for validation")


def _missing_in_val(splits: dict[str, Split], labels: Labels) -> list[str]:
    absent = [labels.names[target] for target in np.flatnonzero(splits["val"].class_counts(len(labels)) == 0)]
    listed = ", ".join(absent[:8]) + (f" and {len(absent) - 8} more" if len(absent) > 8 else "")
    return [f"val has no image of {listed}"] if absent else []


# data sets in arrays --------------------------------------------------------------------------------------------------


def _array_dataset(found: Found, options: DataOptions) -> Dataset:
    assert found.pixels is not None
    digests = array_digests(found.pixels)
    rule = _Sides(found, options)
    notes = [*found.notes, *rule.notes]
    sides = _limited(rule.of(found.given, digests, found.targets, None), digests, found.targets, options, notes)
    splits: dict[str, Split] = {}
    for name in ("train", "val", "test"):
        rows = np.flatnonzero(sides == name)
        if not len(rows) and name == "test":
            continue
        splits[name] = Split(
            name=name,
            targets=found.targets[rows],
            paths=_picked(found.paths, rows),
            images=TensorImages(_rows(found.pixels, rows)),
            digests=digests[rows],
        )
    labels = Labels(found.class_names)
    _check_splits(splits, labels, found.name)
    notes += _missing_in_val(splits, labels)
    return Dataset(
        name=found.name,
        labels=labels,
        splits=splits,
        official_test=rule.official_test,
        channels=found.pixels.shape[1],
        bits=8 * found.pixels.dtype.itemsize,
        native_size=(found.pixels.shape[2], found.pixels.shape[3]),
        kind="tensor",
        notes=tuple(notes),
        beyond_limit=_beyond_limit(found, np.flatnonzero(sides == ""), digests),
    )


def _rows(pixels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The chosen images; without a copy where they lie together."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return pixels[rows[0] : rows[-1] + 1]
    return pixels[rows]


# data sets in files ---------------------------------------------------------------------------------------------------


class _Photos:
    """A data set of image files: one pass over all of them, then the splits."""

    def __init__(self, found: Found, options: DataOptions, progress: Progress) -> None:
        assert found.files is not None
        self.found, self.options, self.files = found, options, found.files
        self.store = PhotoStore(options.cache_memory * 2**20, options.workers)
        side = canvas_side(options.input_size or _USUAL_INPUT)
        self.infos = scan(found.files, found.paths, self.store, side, progress)
        self.rule = _Sides(found, options)
        self.notes = [*found.notes, *self.rule.notes]
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
        groups = _picked(found.groups, rows) if found.groups is not None else None
        sides = np.full(len(infos), "out", "<U5")
        sides[rows] = self.rule.of(found.given[rows], digests[rows], found.targets[rows], groups)
        sides = _limited(sides, digests, found.targets, self.options, self.notes)
        channels, bits = self._channels([infos[row] for row in rows]), max(infos[row].bits for row in rows)
        splits = {
            name: self._split(name, np.flatnonzero(sides == name), left_out, digests, channels, bits)
            for name in ("train", "val", "test")
            if name != "test" or name in sides or any(one.split == name for one in left_out)
        }
        labels = Labels(found.class_names)
        _check_splits(splits, labels, found.name)
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
            notes=(*self.notes, *self._image_notes(rows, bits), *_missing_in_val(splits, labels)),
            beyond_limit=_beyond_limit(found, np.flatnonzero(sides == ""), digests),
        )

    def _split(
        self, name: str, rows: np.ndarray, left_out: tuple[LeftOut, ...], digests: np.ndarray, channels: int, bits: int
    ) -> Split:
        found = self.found
        files, infos = _picked(self.files, rows), _picked(self.infos, rows)
        images: Images = PhotoImages(files, infos, self.store, channels, bits)
        return Split(
            name=name,
            targets=found.targets[rows],
            paths=_picked(found.paths, rows),
            images=images,
            unreadable=tuple(one for one in left_out if one.split == name),
            digests=digests[rows],
            groups=_picked(found.groups, rows) if found.groups is not None else None,
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
                target = int(found.targets[row])
                label = found.class_names[target]
                result.append(LeftOut(found.paths[row], error, split, label, info.digest, group, target))
        return tuple(result)

    def _channels(self, infos: list[FileInfo]) -> int:
        return max(info.channels for info in infos)

    def _image_notes(self, rows: np.ndarray, bits: int) -> list[str]:
        infos = [self.infos[row] for row in rows]
        notes = []
        grey = sum(info.channels == 1 for info in infos)
        if 0 < grey < len(infos):
            notes.append(f"{grey} grey images among {len(infos) - grey} in colour: grey is repeated in three channels")
        narrow = sum(info.bits < bits for info in infos)
        if narrow:
            notes.append(f"{narrow} images of 8 bits among {len(infos) - narrow} of 16: their range is scaled up")
        if len(infos) < len(self.infos):
            notes.append(f"{len(self.infos) - len(infos)} images cannot be read and are left out")
        return notes
