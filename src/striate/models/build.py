"""From a name, or from a model file's record, to a network. Importing this needs no torch; building does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from striate.errors import ModelError
from striate.models.registry import find_entry
from striate.models.sources import is_own, own_defaults, short_name
from striate.spec import ModelEntry

if TYPE_CHECKING:
    from striate.models.base import Architecture, ConvNet


def create_model(
    name: str,
    *,
    classes: int | None = None,
    in_channels: int | None = None,
    input_size: int | tuple[int, int] | None = None,
    start: bool = True,
    **variations: Any,
) -> ConvNet:
    """Build a network with fresh weights, drawn from torch's global generator.

    `name` is a registered one, `timm:NAME`, or `FILE.py:CLASS` for a network of one's own, whose file is run.

    With `start` False the weights are left as memory happens to be, which is quick: for weights that will be loaded.

    `classes`, `in_channels` and `input_size` (side, or height and width, in pixels) default to the paper's. Variations
    (`activation`, `normalization`, `pooling`, `dropout`, `stochastic_depth` and the other fields of the family's
    config) change the registered configuration; None stands for "as registered".

    Raises:
        UnknownNameError: no such network; the message names the nearest ones.
        ModelError: a variation that the network does not have, or an input too small for it.
    """
    entry = find_entry(name)
    if is_own(name):
        entry = _with_defaults(entry)
    given = {key: value for key, value in variations.items() if value is not None}
    size = entry.input.size if input_size is None else input_size
    return _build(
        entry,
        {**entry.config, **given},
        in_channels=entry.input.channels if in_channels is None else in_channels,
        classes=entry.classes if classes is None else classes,
        input_size=(size, size) if isinstance(size, int) else (size[0], size[1]),
        start=start,
    )


def rebuild(architecture: Architecture | Mapping[str, Any], *, start: bool = True, code: str | None = None) -> ConvNet:
    """The network that `architecture` records, with fresh weights, or with `start` False without any.

    A record of somebody's own class names it, but its file is run only where `code` is `FILE.py:CLASS` with the same
    names: a record, which may come from anywhere, makes no code run.

    Raises:
        UnknownNameError: a network that this version does not have.
        ModelError: a record that is incomplete, or does not fit the network; or one of a class that `code` is not.
    """
    from striate.models.base import Architecture

    record = architecture if isinstance(architecture, Architecture) else Architecture.from_dict(architecture)
    name, config = record.name, record.config
    if is_own(name):
        if code is None or short_name(code) != short_name(name):
            raise ModelError(
                f"this is a network of the class {short_name(name)}, whose code is not part of its file",
                f"name the code to run it: {code_hint(name)}",
            )
        name, config = code, {**config, "source": code}
    model = _build(
        find_entry(name),
        config,
        in_channels=record.in_channels,
        classes=record.classes,
        input_size=record.input_size,
        start=start,
    )
    if record.cut is not None:
        _cut(model, record, start)
    return model


def _cut(model: ConvNet, record: Architecture, start: bool) -> None:
    from striate.layers.initialise import without_random_start
    from striate.models.cut import end_at, start_classifier

    with without_random_start():
        own = model.architecture
        end_at(model, replace(record, name=own.name, config=own.config))
    if start:
        start_classifier(model)


def code_hint(name: str) -> str:
    """How a network of one's own class is spelt."""
    path = f"PATH/{short_name(name)}"
    return f"{path}:RUN or {path}:FILE; with --resume RUN, --model {path}"


def _with_defaults(entry: ModelEntry) -> ModelEntry:
    """The entry of one's own class with the figures that the class has by itself."""
    channels, classes, size = own_defaults(entry.name)
    spec = entry.input if channels == entry.input.channels else replace(entry.input, mean=(0.5,), std=(0.5,))
    return replace(entry, classes=classes, input=replace(spec, size=size, channels=channels))


def family_class(entry: ModelEntry) -> Any:
    """The class, a subclass of `ConvNet`, that builds the entry's network."""
    module, _, name = entry.build.partition(":")
    return getattr(import_module(module), name)


def _build(
    entry: ModelEntry,
    config: Mapping[str, Any],
    *,
    in_channels: int,
    classes: int,
    input_size: tuple[int, int],
    start: bool,
) -> ConvNet:
    from striate.layers.initialise import without_random_start

    if in_channels < 1 or classes < 1:
        raise ModelError(f"{entry.name}: {in_channels} input channels and {classes} classes: both must be at least 1")
    family = family_class(entry)
    known = [item.name for item in fields(family.config_type)]
    for key in config:
        if key not in known:
            raise ModelError(f"{entry.name} has no option {key!r}", f"it has: {', '.join(known)}")
    for field in fields(family.config_type):
        if field.default is MISSING and field.default_factory is MISSING and field.name not in config:
            raise ModelError(f"the record of {entry.name} is incomplete: it lacks {field.name}")
    with without_random_start():  # torch's own start would be overwritten at once
        model = family(
            family.config_type(**config),
            in_channels=in_channels,
            classes=classes,
            input_size=input_size,
            name=entry.name,
        )
    if start:
        model.reset_parameters()
    return model
