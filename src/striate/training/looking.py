"""Where the network looked when it was most surely wrong: Grad-CAM of a few mistakes, for the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from striate.anatomy import anatomy_of
from striate.checkpoint import SavedModel
from striate.data.normalise import denormalise, normalise
from striate.errors import ModelError, UsageError
from striate.explanation.attribution import METHODS, Question
from striate.explanation.figures import heat_over
from striate.explanation.places import Place, find_place
from striate.explanation.undisturbed import undisturbed
from striate.progress import Progress

MISTAKES = 12
# of all maps together, a forward pass counted for each: what keeps the end of a run short
MACS = 100e9


def where_it_looked(
    saved: SavedModel, stored: torch.Tensor, answers: list[dict[str, Any]], progress: Progress
) -> dict[str, np.ndarray]:
    """Arrays for the report, or {} where no layer has maps or the network is too large for that to be cheap.

    Args:
        saved: the network.
        stored: pixels [n, C, H, W] of wrongly answered images as they come from a data set.
        answers: their rows of the predictions.
        progress: is told why there is nothing, where that is odd.

    Returns:
        `looked`, uint8 [m, k, H, W, 3], of the first m images: Grad-CAM over the image for the class that was said and
        for the one that it is (k = 2); of several labels an image for one that was misjudged (k = 1).
        `looked_classes` [m, k], their names; `looked_layer`, the layer's.
    """
    if not len(stored):
        return {}
    try:
        place = find_place(saved.model)
        if not _tells_where(saved.model, place):
            return {}
        asked = [_classes_of(row) for row in answers[: _affordable(saved, answers)]]
        if not asked:
            return {}
        return {
            "looked": _maps(saved, stored[: len(asked)], asked, place),
            "looked_classes": np.array(asked),
            "looked_layer": np.array(place.name),
        }
    except (ModelError, UsageError):  # nothing in it lies where it lies in the image, or nobody can follow it
        return {}
    except Exception as error:  # own networks may be anything: a picture must not cost a run its end
        progress.warn(f"the report goes without Grad-CAM of the mistakes ({type(error).__name__}: {error})")
        return {}


def _tells_where(model: nn.Module, place: Place) -> bool:
    """Whether there is more than one unit a side, and more in them than the image itself."""
    single = place.centres is not None and min(map(len, place.centres)) == 1
    return not single and not isinstance(model.get_submodule(place.path), nn.Identity)


def _affordable(saved: SavedModel, answers: list[dict[str, Any]]) -> int:
    """How many images."""
    each = anatomy_of(saved.model, training=False).macs * len(_classes_of(answers[0]))
    return min(MISTAKES, len(answers), int(MACS // max(1, each)))


def _classes_of(row: dict[str, Any]) -> list[str]:
    """The classes to ask about: said and true, or of several labels one that is too many, else one that is missing."""
    if "labels" not in row:
        return [row["predicted"], row["label"]]
    extra = [one for one in row["chosen"] if one not in row["labels"]]
    missing = [one for one in row["labels"] if one not in row["chosen"]]
    return [(extra + missing)[0]]


def _maps(saved: SavedModel, stored: torch.Tensor, asked: list[list[str]], place: Place) -> np.ndarray:
    device = next((one.device for one in saved.model.parameters()), torch.device("cpu"))
    images = normalise(stored.to(device), saved.spec)
    pictures = denormalise(images, saved.spec).permute(0, 2, 3, 1).cpu().numpy()
    columns = []
    for names in zip(*asked, strict=True):
        targets = torch.tensor([saved.labels.index(name) for name in names], device=device)
        with undisturbed(saved.model):
            question = Question(model=saved.model, images=images, targets=targets, place=place)
            maps = METHODS["gradcam"].ask(question).maps.nan_to_num(0.0, 0.0, 0.0).float().cpu().numpy()
        columns.append([heat_over(image, heat) for image, heat in zip(pictures, maps, strict=True)])
    return np.stack([np.stack(column) for column in columns], axis=1)
