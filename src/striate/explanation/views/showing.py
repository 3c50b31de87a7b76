"""`explain --show`: the pictures of a network that are asked for, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from striate.checkpoint import SavedModel
from striate.explanation.chosen import Chosen, found_images, has_images
from striate.explanation.views.codes import codes_of_images
from striate.explanation.views.evolution import evolution_of
from striate.explanation.views.filters import filters_of
from striate.explanation.views.maps import feature_maps
from striate.explanation.views.preferred import preferred
from striate.explanation.views.receptive import receptive_field
from striate.explanation.views.strongest import strongest_images
from striate.explanation.views.view import View
from striate.options.explain import ExplainOptions
from striate.progress import Progress


@dataclass(frozen=True)
class Asked:
    """A network, what is asked about it, and the images for it, which are only read where a view needs them."""

    saved: SavedModel
    options: ExplainOptions
    given: Any = None
    data: str | None = None
    offline: bool = False
    progress: Progress = field(default_factory=Progress)

    @property
    def network(self) -> str:
        """What to call it."""
        return self.saved.model.architecture.title

    @cached_property
    def images(self) -> Chosen:
        """See `found_images`."""
        return found_images(self.saved, self.given, data=self.data, offline=self.offline, progress=self.progress)


def show(asked: Asked) -> Iterator[View]:
    """Each view of `options.show` in order, lazily; of `maps` one for each image.

    The network stays as it was.

    Raises:
        UsageError: no images where some are needed, or options that do not fit the network.
        UnknownNameError: no such layer.
        ModelError: the network has nothing of the kind.
        DataError: not one image could be read.
        MissingExtraError: UMAP without umap-learn.
    """
    for kind in dict.fromkeys(asked.options.show or ()):
        yield from _VIEWS[kind](asked)


def _filters(asked: Asked) -> Iterator[View]:
    options = asked.options
    yield filters_of(asked.saved.model, options.layer, spec=asked.saved.spec, network=asked.network, most=options.most)


def _maps(asked: Asked) -> Iterator[View]:
    options = asked.options
    yield from feature_maps(
        asked.saved, asked.images, options.layer, unit=options.unit, most=options.most, network=asked.network,
        progress=asked.progress,
    )  # fmt: skip


def _strongest(asked: Asked) -> Iterator[View]:
    options = asked.options
    yield strongest_images(
        asked.saved, asked.images, options.layer, top=options.top, unit=options.unit, most=options.most,
        deconvnet="deconvnet" in (options.method or ()), network=asked.network, progress=asked.progress,
    )  # fmt: skip


def _preferred(asked: Asked) -> Iterator[View]:
    yield preferred(asked.saved, asked.options, network=asked.network, progress=asked.progress)


def _field(asked: Asked) -> Iterator[View]:
    options = asked.options
    images = asked.images if has_images(asked.saved, asked.given, asked.data) else None
    yield receptive_field(
        asked.saved, images, options.layer, unit=options.unit, at=options.at, seed=options.seed, network=asked.network,
        progress=asked.progress,
    )  # fmt: skip


def _evolution(asked: Asked) -> Iterator[View]:
    options = asked.options
    yield from evolution_of(
        asked.saved, asked.images, options.layer, unit=options.unit, most=options.most, network=asked.network,
        progress=asked.progress,
    )  # fmt: skip


def _codes(asked: Asked) -> Iterator[View]:
    options = asked.options
    yield codes_of_images(
        asked.saved, asked.images, options.layer, projections=options.projections, seed=options.seed,
        network=asked.network, progress=asked.progress,
    )  # fmt: skip


_VIEWS: dict[str, Callable[[Asked], Iterator[View]]] = {
    "filters": _filters,
    "maps": _maps,
    "strongest": _strongest,
    "field": _field,
    "codes": _codes,
    "preferred": _preferred,
    "evolution": _evolution,
}
