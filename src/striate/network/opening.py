"""From a spelling to a network that is ready to use, with what was changed for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from striate.checkpoint import SavedModel, load_model
from striate.errors import ModelError, UnknownNameError, UsageError
from striate.hub.classes import labels_of, numbered, rows_by_name
from striate.hub.download import fetched
from striate.hub.files import read_state
from striate.hub.published import Weights, find_weights, published_as, references
from striate.hub.recognise import fitted_to, recognised
from striate.models import create_model, entries, find_entry, rebuild
from striate.models.adapt import Adapted, adapted, fitted
from striate.models.reference import tensors_of
from striate.models.sources import is_own
from striate.network.spelling import Spelling, read_spelling
from striate.progress import Progress, Silent
from striate.spec import InputSpec, Labels, ModelEntry


def open_network(
    spelling: str | Path,
    *,
    weights: bool = True,
    classes: int | None = None,
    in_channels: int | None = None,
    input_size: int | tuple[int, int] | None = None,
    variations: Mapping[str, Any] | None = None,
    runs: str | Path = "runs",
    offline: bool = False,
    progress: Progress | None = None,
) -> SavedModel:
    """The network that `spelling` names (see above), in evaluation mode, with its input and class names.

    Whatever had to be changed for `classes`, `in_channels`, `input_size` or by the weights is a line of
    `notes["adapted"]`, and is told to `progress`.

    Args:
        spelling: see above.
        weights: False builds the network only: nothing is fetched, and its parameters are what memory happens to hold.
        classes: None for those of the weights; another number gets a new head, started randomly.
        in_channels: None for those of the weights; another number adapts the first layer (`models.adapt`).
        input_size: side, or height and width, in pixels; None for what the weights are fed.
        variations: fields of the family's config that are to differ.
        runs: the folder that holds the run folders.
        offline: never use the network.
        progress: is told what is fetched and changed.

    Raises:
        UnknownNameError: no such network, weights or run.
        UsageError: no classes or channels at all, or a colon with nothing after it.
        CheckpointError: a file that is missing, damaged, holds code, or is of another kind.
        ModelError: the weights do not fit the network, or fit none or several.
        OfflineError: weights would have to be fetched, and cannot be.
        MissingExtraError: the network or weights are timm's, and timm is not installed.
    """
    progress = progress or Silent()
    read = read_spelling(spelling, runs)
    asked = _Asked(
        classes=classes,
        in_channels=in_channels,
        input_size=(input_size, input_size) if isinstance(input_size, int) else input_size,
        variations={key: value for key, value in (variations or {}).items() if value is not None},
    )
    saved = _opened(read, asked, weights, offline, progress)
    saved.notes = {"source": str(spelling), **saved.notes}
    name = saved.model.architecture.name
    _tell(saved, progress)
    if saved.notes.get("weights") == "random" and weights:
        progress.warn(f"{name} has random weights: what it answers means nothing")
    return saved


def refitted(
    saved: SavedModel,
    labels: Labels,
    *,
    in_channels: int | None = None,
    input_size: tuple[int, int] | None = None,
    variations: Mapping[str, Any] | None = None,
    code: str | None = None,
    progress: Progress | None = None,
) -> SavedModel:
    """`saved` made to measure for classes `labels`, as `open_network` does it; `saved` stays what it was.

    The head keeps what it knows of the classes that `saved` has too, by name, in whatever order; it is new for others.

    Raises:
        ModelError: what is asked for does not go with the weights.
    """
    given = {key: value for key, value in (variations or {}).items() if value is not None}
    asked = _Asked(classes=len(labels), in_channels=in_channels, input_size=input_size, variations=given)
    result = _refitted(saved, asked, code, labels)
    _tell(result, progress or Silent())
    return result


def described(name: str) -> ModelEntry:
    """The entry of any MODEL with its parameters and multiply-accumulates; those of foreign networks are counted."""
    from striate.anatomy.count import count_macs, count_parameters

    entry = find_entry(name)
    if entry.params:
        return entry
    model = create_model(name, start=False)
    return replace(entry, params=count_parameters(model), macs=count_macs(model))


# opening --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What the caller wants otherwise than the weights have it."""

    classes: int | None
    in_channels: int | None
    input_size: tuple[int, int] | None
    variations: Mapping[str, Any]

    def __post_init__(self) -> None:
        for what, value in (("classes", self.classes), ("input channels", self.in_channels)):
            if value is not None and value < 1:
                raise UsageError(f"a network of {value} {what}", "there must be at least 1")

    def changes(self, saved: SavedModel) -> bool:
        record = saved.model.architecture
        same = (
            self.classes in (None, record.classes)
            and self.in_channels in (None, record.in_channels)
            and self.input_size in (None, record.input_size)
        )
        return not same or any(record.config.get(key) != value for key, value in self.variations.items())


def _opened(read: Spelling, asked: _Asked, weights: bool, offline: bool, progress: Progress) -> SavedModel:
    if read.kind == "saved":
        return _of_ours(read, asked)
    if read.kind == "model":
        return _without_weights(find_entry(read.model), asked, None, weights)
    if read.kind == "weights":
        entry, published = find_weights(read.model, read.weights)
        if not weights:
            return _without_weights(entry, asked, published, False)
        spelling = f"{read.model}:{read.weights}"
        path = fetched(
            published.url, published.file, published.sha256, spelling=spelling, offline=offline, progress=progress
        )
        note = {"weights": f"{published.publisher} {published.model} {published.name}"}
        return _of_state(entry, read_state(path), asked, published, note)
    return _of_file(read, asked)


def _of_ours(read: Spelling, asked: _Asked) -> SavedModel:
    own = is_own(read.model)
    saved = load_model(read.path, code=read.model if own else None)
    name = saved.model.architecture.name
    if read.model and not own and find_entry(read.model).name != name:
        raise ModelError(f"{read.path} holds a {name}, not a {find_entry(read.model).name}", "leave MODEL: out")
    if saved.notes.pop("code_changed", False):
        line = f"the file of {name} has changed since these weights were saved"
        saved.notes["adapted"] = [*saved.notes.get("adapted", []), line]
    return _refitted(saved, asked, read.model if own else None) if asked.changes(saved) else saved


def knows_all(saved: SavedModel, labels: Labels, *, code: str | None = None) -> bool:
    """Whether `refitted` keeps what the head of `saved` knows of each class, and starts nothing anew.

    Raises:
        ModelError: as `refitted`.
    """
    if labels == saved.labels:
        return True
    if None in _rows(labels, saved.labels):
        return False
    asked = _Asked(classes=None, in_channels=None, input_size=None, variations={})
    return fitted(_maker(saved, asked, code), saved.model.state_dict()).row_for_each_class


def _rows(wanted: Labels, known: Labels) -> list[int | None]:
    """`rows_by_name`; a head that chooses one class knows nothing of one for any number of labels, nor vice versa."""
    if wanted.multi_label != known.multi_label:
        return [None] * len(wanted)
    return rows_by_name(wanted, known)


def _maker(saved: SavedModel, asked: _Asked, code: str | None) -> Any:
    """What builds the network of `saved` with other figures."""
    record = saved.model.architecture

    def make(*, start: bool = True, classes: int | None = None, in_channels: int | None = None, **changes: Any) -> Any:
        figures = replace(
            record, classes=record.classes if classes is None else classes,
            in_channels=record.in_channels if in_channels is None else in_channels,
            input_size=asked.input_size or record.input_size, config={**record.config, **asked.variations, **changes},
        )  # fmt: skip
        return rebuild(figures, start=start, code=code)

    return make


def _refitted(saved: SavedModel, asked: _Asked, code: str | None, wanted: Labels | None = None) -> SavedModel:
    make = _maker(saved, asked, code)
    rows = None if wanted is None or wanted == saved.labels else _rows(wanted, saved.labels)
    result = adapted(
        make, saved.model.state_dict(), classes=asked.classes, in_channels=asked.in_channels, rows=rows,
        blue_first=saved.spec.reverses_channels,
    )  # fmt: skip
    labels = wanted or (saved.labels if len(saved.labels) == result.model.architecture.classes else None)
    refit = _saved(result, saved.spec, labels, saved.notes, saved.path)
    # the same logits, in whatever order, are as sure of themselves; a head that gained or lost classes is another one
    same = knows_all(saved, refit.labels, code=code) and len(refit.labels) == len(saved.labels)
    if not same:
        return refit
    thresholds = saved.thresholds
    if thresholds is not None and refit.labels != saved.labels:
        thresholds = tuple(thresholds[row] for row in _rows(refit.labels, saved.labels) if row is not None)
    return replace(refit, temperature=saved.temperature, thresholds=thresholds)


def _without_weights(entry: ModelEntry, asked: _Asked, published: Weights | None, start: bool) -> SavedModel:
    """The network alone, with random weights, or with `start` False with none at all."""
    classes = published.classes if published and asked.classes is None else asked.classes
    size = asked.input_size or (_of_size(entry, published.input).size if published else None)
    model = create_model(
        entry.name, classes=classes, in_channels=asked.in_channels, input_size=size, start=start, **asked.variations
    )
    spec = _for_network(published.input if published else entry.input, model.architecture)
    note = {"weights": "random" if start else "none"}
    return SavedModel(model=model.eval(), spec=spec, labels=labels_of(entry, model.architecture.classes), notes=note)


def _of_state(
    entry: ModelEntry, state: Mapping[str, Any], asked: _Asked, published: Weights | None, note: dict[str, Any]
) -> SavedModel:
    """A state dict in the network of `entry`."""

    def maker(size: tuple[int, int] | None) -> Any:
        return lambda **figures: create_model(entry.name, input_size=size, **{**asked.variations, **figures})

    tensors_of(state)  # or there is nothing to fit
    first = fitted(maker(asked.input_size), state)
    spec = _of_size(entry, published.input if published else first.fit.naming.input or entry.input)
    size = asked.input_size or (None if is_own(entry.name) else spec.size)
    result = adapted(
        maker(size), state, classes=asked.classes, in_channels=asked.in_channels, blue_first=spec.reverses_channels
    )
    labels = labels_of(entry, result.classes) if result.classes == result.model.architecture.classes else None
    naming = {} if published else {"naming": result.fit.naming.publisher}
    return _saved(result, spec, labels, {**note, **naming}, Path())


def _of_file(read: Spelling, asked: _Asked) -> SavedModel:
    """A file of weights in the network that is named, or in the one that it fits."""
    state = read_state(read.path)
    with open(read.path, "rb") as file:
        published = published_as(hashlib.file_digest(file, "sha256").hexdigest())
    note = {"weights": read.path.name}
    if not read.model:
        return _of_state(_only_fit(read.path, state, published), state, asked, published, note)
    candidates = _named(read.model)
    if published is not None:  # the publisher's name says which of the networks with these keys it is
        candidates.sort(key=lambda entry: (published.publisher, published.model) not in references(entry))
    failure: ModelError | None = None
    for entry in candidates:
        try:
            saved = _of_state(entry, state, asked, published, note)
        except ModelError as error:
            failure = failure or error
            continue
        if published is None and (other := _another(entry, candidates, state)):
            line = f"{read.model} is also what a publisher calls {other}: for that, spell {other}:FILE"
            saved.notes["adapted"] = [*saved.notes.get("adapted", []), line]
        return saved
    assert failure is not None
    raise failure


def _named(model: str) -> list[ModelEntry]:
    """The networks that MODEL may mean before a file: ours first, then those whose publisher calls them so."""
    others = [entry for entry in entries() if any(theirs == model.lower() for _, theirs in references(entry))]
    try:
        ours = find_entry(model)
    except UnknownNameError:
        if not others:
            raise
        return others
    return [ours, *(entry for entry in others if entry is not ours)]


def _another(entry: ModelEntry, candidates: list[ModelEntry], state: Mapping[str, Any]) -> str | None:
    """The first of the others that the weights fit too, and that is another network then."""
    others = [one for one in candidates if one is not entry]
    this = fitted_to(entry, state) if others else None
    fitting = (fitted_to(one, state) for one in others)
    return next((one.entry.name for one in fitting if one and this and one.network != this.network), None)


def _only_fit(path: Path, state: Mapping[str, Any], published: Weights | None) -> ModelEntry:
    fitting = [one.entry for one in recognised(state)]
    if published is not None:
        named = [one for one in fitting if (published.publisher, published.model) in references(one)]
        fitting = named or fitting
    if len(fitting) > 1:
        names = [entry.name for entry in fitting]
        raise ModelError(
            f"the weights in {path} fit several networks: {', '.join(names)}",
            f"say which of them they are of: {names[0]}:{path}",
        )
    return fitting[0]


def _of_size(entry: ModelEntry, spec: InputSpec) -> InputSpec:
    """`spec` with the entry's size, where networks are registered that differ in nothing else."""
    same = [one for one in entries() if (one.build, one.config) == (entry.build, entry.config)]
    return replace(spec, size=entry.input.size) if len(same) > 1 else spec


# what belongs to it ---------------------------------------------------------------------------------------------------


def _saved(result: Adapted, spec: InputSpec, labels: Labels | None, notes: Mapping[str, Any], path: Path) -> SavedModel:
    record = result.model.architecture
    lines = [*notes.get("adapted", []), *result.changes]
    return SavedModel(
        model=result.model.eval(),
        spec=_for_network(spec, record),
        labels=labels or numbered(record.classes),
        notes={**notes, **({"adapted": lines} if lines else {})},
        path=path,
    )


def _for_network(spec: InputSpec, record: Any) -> InputSpec:
    """`spec` for the network as it was built: its size, and for other channels the mean over the colours."""
    if record.in_channels != spec.channels:
        mean, std = sum(spec.mean) / len(spec.mean), sum(spec.std) / len(spec.std)
        spec = replace(spec, channels=record.in_channels, mean=(mean,), std=(std,), channel_order="RGB")
    return replace(spec, size=record.input_size)


def _tell(saved: SavedModel, progress: Progress) -> None:
    name = saved.model.architecture.name
    for line in saved.notes.get("adapted", []):
        progress.say(f"{name}: {line}")
