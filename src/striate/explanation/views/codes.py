"""The codes of a data set in two dimensions: which images a network takes for alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from striate.checkpoint import SavedModel
from striate.errors import DataError, MissingExtraError
from striate.explanation.attribution.question import logits_of
from striate.explanation.chosen import Chosen, spread
from striate.explanation.undisturbed import undisturbed
from striate.explanation.views.reading import as_seen, batches, names_of
from striate.explanation.views.view import View
from striate.models.cut import places, pooled_codes
from striate.options.explain import USUAL_PROJECTIONS
from striate.progress import Progress

_IMAGES = 2000  # t-SNE of more takes minutes, and their points lie upon each other
_FEW = 3  # images: below, there is nothing to project
_BEFORE = 50  # principal components that t-SNE starts from: van der Maaten & Hinton 2008, sec. 4.2
_PERPLEXITY = 30.0  # the same, at most
THUMBNAIL = 40  # pixels a side


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes(View):
    """Images as points: float32 [n, D] codes, and for each projection float32 [n, 2]."""

    kind: ClassVar[str] = "codes"
    about: str  # which images
    paths: tuple[str, ...]
    labels: tuple[str | None, ...]  # as the data name the class of each; else what the network answers
    answered: bool  # whether the labels are the network's answers
    codes: np.ndarray = field(repr=False)
    points: Mapping[str, np.ndarray] = field(repr=False)
    explained: tuple[float, float]  # share of the variance along the first two principal components
    neighbours: float | None  # share of the images whose nearest one, by codes, has the same label
    thumbnails: np.ndarray = field(repr=False)  # uint8 [n, 40, 40, 3]

    def figure(self) -> Any:
        """See `View.figure`."""
        from striate.explanation.views.codes_figure import draw_codes

        return draw_codes(self)

    def to_dict(self) -> dict[str, Any]:
        """See `View.to_dict`."""
        points = {name: found.tolist() for name, found in self.points.items()}
        return View.to_dict(self) | {
            "images": len(self.paths), "about": self.about, "explained": list(self.explained),
            "neighbours": self.neighbours, "paths": list(self.paths), "labels": list(self.labels), "points": points,
        }  # fmt: skip


def codes_of_images(
    saved: SavedModel,
    chosen: Chosen,
    layer: str | None = None,
    *,
    projections: tuple[str, ...] = USUAL_PROJECTIONS,
    seed: int = 0,
    network: str = "",
    batch: int | None = None,
    progress: Progress | None = None,
) -> Codes:
    """What the network makes of the images at a place (None: the last, which the classifier reads), and projections.

    Maps are averaged over a grid as `pooled_codes` says. Of more than 2000 images as many are taken, evenly spread.

    Raises:
        ModelError: no such place; the hint lists those there are.
        DataError: fewer than three images can be read.
        MissingExtraError: UMAP without umap-learn.
    """
    progress = progress or Progress()
    if "umap" in projections:
        _umap()  # before anything is computed
    place = layer or places(saved.model)[-1]
    known = chosen.labels if chosen.labels is not None else chosen.truths
    answered = all(label is None for label in known)
    rows: list[int] = []
    parts: list[np.ndarray] = []
    small: list[np.ndarray] = []
    answers: list[str] = []
    wanted = spread(len(chosen.images), _IMAGES)
    for read in batches(saved, chosen, wanted, batch=batch, progress=progress, title=f"codes at {place}"):
        with undisturbed(saved.model), torch.no_grad():
            parts.append(pooled_codes(saved.model, read.images, [place])[place].cpu().numpy())
            if answered:
                best = logits_of(saved.model, read.images).argmax(1).tolist()
                answers += [saved.labels.names[number] for number in best]
        rows += read.rows
        small.append(_thumbnails(as_seen(saved, read.images)))
    if len(rows) < _FEW:
        raise DataError(f"{len(rows)} images are too few to project", f"name {_FEW} or more")
    codes = np.concatenate(parts)
    labels = tuple(answers) if answered else tuple(known[row] for row in rows)
    points, explained = _projected(codes, projections, seed, progress)
    notes = (
        (f"{len(wanted)} of {len(chosen.images)} images, evenly spread",) if len(wanted) < len(chosen.images) else ()
    )
    return Codes(
        network=network, layer=place, about=chosen.about, paths=tuple(names_of(chosen, rows)), labels=labels,
        answered=answered, codes=codes, points=points, explained=explained, neighbours=_agreement(codes, labels),
        thumbnails=np.concatenate(small), notes=notes,
    )  # fmt: skip


def _projected(
    codes: np.ndarray, projections: tuple[str, ...], seed: int, progress: Progress
) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    """[n, 2] by projection, and the shares of the variance along the first two principal components."""
    from sklearn.decomposition import PCA

    components = max(2, min(_BEFORE, *codes.shape))
    wide = np.pad(codes, ((0, 0), (0, max(0, 2 - codes.shape[1])))).astype(np.float64)
    found = PCA(components, random_state=seed).fit(wide)
    main = found.transform(wide)
    points: dict[str, np.ndarray] = {}
    with progress.task("projecting", len(projections)) as task:
        for name in projections:
            points[name] = {"pca": lambda: main[:, :2], "tsne": lambda: _tsne(main, seed), "umap": lambda: (
                _umap()(random_state=seed, n_neighbors=min(15, len(wide) - 1)).fit_transform(wide)
            )}[name]().astype(np.float32)  # fmt: skip
            task.advance()
    shares = np.nan_to_num(found.explained_variance_ratio_)
    return points, (float(shares[0]), float(shares[1]))


def _tsne(main: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(main) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(main)


def _umap() -> Any:
    try:
        from umap import UMAP  # pyright: ignore[reportMissingImports]
    except ImportError:
        error = MissingExtraError("the projection umap", "umap-learn", "explain")
        error.hint = "pip install umap-learn; or --projection tsne"
        raise error from None
    return UMAP


def _agreement(codes: np.ndarray, labels: tuple[str | None, ...]) -> float | None:
    """How many of the images with a label have their nearest image in their own class."""
    if any(label is None for label in labels) or len(set(labels)) < 2:
        return None
    rows = torch.from_numpy(codes)
    distances = torch.cdist(rows, rows)
    distances.fill_diagonal_(torch.inf)
    nearest = distances.argmin(1).tolist()
    return sum(labels[row] == labels[near] for row, near in enumerate(nearest)) / len(labels)


def _thumbnails(images: np.ndarray) -> np.ndarray:
    """[n, H, W, C] from 0 to 1 as uint8 [n, 40, 40, 3]."""
    shown = F.adaptive_avg_pool2d(torch.from_numpy(images).permute(0, 3, 1, 2), THUMBNAIL)
    shown = shown if shown.shape[1] == 3 else shown[:, :1].expand(-1, 3, -1, -1)
    return (255 * shown).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
