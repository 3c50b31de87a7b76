"""`explain`: images through a network, and one map for each image and method."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from striate.checkpoint import SavedModel
from striate.data.given import expand, pixels_or_reason
from striate.data.normalise import denormalise, normalise
from striate.errors import DataError, UnknownNameError, UsageError
from striate.explanation.attribution import METHODS, Answer, Question
from striate.explanation.attribution.question import logits_of
from striate.explanation.figures import in_rgb
from striate.explanation.places import Place, find_place
from striate.explanation.result import Explanation
from striate.explanation.undisturbed import undisturbed
from striate.hub.classes import meanings
from striate.metrics import probabilities, ranked
from striate.network.engines import usual_batch
from striate.options.explain import ExplainOptions
from striate.progress import Progress
from striate.spec import Labels, Prediction, RankedLabel

_SHOWN_CLASSES = 5


def explain_images(
    saved: SavedModel,
    images: Any,
    options: ExplainOptions | None = None,
    *,
    names: Sequence[str] | None = None,
    truths: Sequence[str | None] | None = None,
    progress: Progress | None = None,
) -> Iterator[list[Explanation]]:
    """For each image in order one `Explanation` per method of `options.methods`, lazily.

    The network stays as it is: see `undisturbed`. It computes where its parameters are.

    Args:
        saved: the network with what belongs to it.
        images: all that `predict` takes: paths, folders, patterns, arrays, Pillow images.
        options: methods, layer, class and figures of the methods.
        names: what each image is called; None takes its path, or `image[0]` and so on.
        truths: the class of each image where it is known; None takes the name of an image's folder where that is one of
            the network's classes.
        progress: shows how far it is, and names images that cannot be read, which are left out.

    Raises:
        UnknownNameError: no such layer or class.
        UsageError: a class number or map that there is not.
        ModelError: a method that the network has no layer for.
        MissingExtraError: integrated gradients without Captum.
        DataError: not one image could be read.
    """
    options, progress = options or ExplainOptions(), progress or Progress()
    target = target_number(options.target, saved.labels)
    place = _place_for(saved, options)
    readable, counted = 0, 0
    named = expand(images)
    while chunk := list(islice(named, usual_batch(saved.spec))):
        paths, stored, known = [], [], []
        for name, source in chunk:
            pixels = pixels_or_reason(source, saved.spec)
            truth = truths[counted] if truths is not None else folder_truth(name, saved.labels)
            name = names[counted] if names is not None else name
            counted += 1
            if isinstance(pixels, str):
                progress.warn(f"{name}: {pixels}")
                continue
            paths.append(name)
            stored.append(pixels)
            known.append(truth)
        if stored:
            readable += len(stored)
            batch = torch.from_numpy(np.stack(stored))
            yield from _explained(saved, paths, batch, known, target, place, options, progress)
    if not readable:
        raise DataError("there is no image to explain", "name image files, a folder of them, or a pattern in quotes")


def target_number(target: str | int | None, labels: Labels) -> int | None:
    """The output that stands for a class given by name, or by number where no class is called so.

    Raises:
        UnknownNameError: no such class.
    """
    if target is None:
        return None
    if str(target) in labels.names:
        return labels.index(str(target))
    text = str(target)
    if text.isdecimal() and int(text) < len(labels):
        return int(text)
    raise UnknownNameError("class", text, labels.names)


def _place_for(saved: SavedModel, options: ExplainOptions) -> Place | None:
    """The layer, found once and not for each batch; None where no method reads one."""
    if any(METHODS[name].reads_layer for name in options.methods):
        return find_place(saved.model, options.layer)
    if options.layer is not None:
        reading = ", ".join(name for name, method in METHODS.items() if method.reads_layer)
        raise UsageError(f"{', '.join(options.methods)} look at no layer", f"a layer is for {reading}")
    return None


def _explained(
    saved: SavedModel, paths: list[str], stored: Tensor, truths: list[str | None], target: int | None,
    place: Place | None, options: ExplainOptions, progress: Progress,
) -> Iterator[list[Explanation]]:  # fmt: skip
    """The explanations of one batch of stored pixels [n, C, H, W]."""
    device = next((one.device for one in saved.model.parameters()), torch.device("cpu"))
    images = normalise(stored.to(device), saved.spec)
    black = normalise(torch.zeros_like(stored[:1, :, :1, :1]).to(device), saved.spec)[0]
    with undisturbed(saved.model):
        with torch.no_grad():
            logits = logits_of(saved.model, images)
        chances = chances_of(logits, saved)
        targets = logits.argmax(1) if target is None else torch.full_like(logits[:, 0], target, dtype=torch.int64)
        question = Question(
            model=saved.model, images=images, targets=targets, place=place, black=black, options=options,
            progress=progress,
        )  # fmt: skip
        answers = {name: _finite(METHODS[name].ask(question), name) for name in options.methods}
    shown = denormalise(images, saved.spec).permute(0, 2, 3, 1).cpu().numpy()
    maps = {name: _as_seen(answer, saved) for name, answer in answers.items()}
    for row, path in enumerate(paths):
        number = int(targets[row])
        base = Explanation(
            path=path, prediction=_prediction(path, chances[row], saved.labels), target=saved.labels.names[number],
            probability=float(chances[row, number]), truth=truths[row], method="", image=shown[row],
            map=np.zeros((1, 1), np.float32),
        )  # fmt: skip
        yield [
            replace(
                base, method=name, map=maps[name][row],
                layer=answer.place.name if answer.place else None, unit=answer.units[row] if answer.units else None,
                notes=(*answer.notes, *(answer.each[row] if answer.each else ())),
            )
            for name, answer in answers.items()
        ]  # fmt: skip


def _as_seen(answer: Answer, saved: SavedModel) -> np.ndarray:
    """The maps [n, H, W] or [n, C, H, W], colours as RGB."""
    maps = answer.maps.detach().float().cpu().numpy()
    return np.ascontiguousarray(in_rgb(maps, saved.spec)) if maps.ndim == 4 else maps


def _finite(answer: Answer, name: str) -> Answer:
    if answer.maps.isfinite().all():
        return answer
    note = f"{METHODS[name].title} overflows in places, which are shown as 0"
    return replace(answer, maps=answer.maps.nan_to_num(0.0, 0.0, 0.0), notes=(*answer.notes, note))


def chances_of(logits: Tensor, saved: SavedModel) -> Tensor:
    """The probabilities [n, classes] on the processor."""
    return probabilities(logits.cpu(), saved.temperature, multi_label=saved.labels.multi_label)


def _prediction(path: str, chances: Tensor, labels: Labels) -> Prediction:
    values, classes = ranked(chances[None], _SHOWN_CLASSES)
    pairs = zip(classes[0].tolist(), values[0].tolist(), strict=True)
    return Prediction(path=path, labels=tuple(RankedLabel(labels.names[number], chance) for number, chance in pairs))


def folder_truth(name: str, labels: Labels) -> str | None:
    """The class that an image's folder is called by, if it is one; ImageNet's go by their synsets, too.

    Where an image may have several labels, a folder does not tell them.
    """
    return None if labels.multi_label else class_called(Path(name).parent.name, labels)


@lru_cache(maxsize=1024)
def class_called(name: str, labels: Labels) -> str | None:
    """The class of the network that data call `name`; ImageNet's go by their synsets, too."""
    numbers = meanings([name], labels)[name] if name else ()
    return labels.names[numbers[0]] if len(numbers) == 1 else None


def worst_first(explained: Iterable[list[Explanation]]) -> list[list[Explanation]]:
    """The images with the surest mistakes first, then those whose class is unknown, then the right ones, least sure
    first."""

    def order(one: list[Explanation]) -> tuple[int, float]:
        wrong, best = one[0].wrong_by, one[0].prediction.labels[0].probability
        if wrong is None:
            return 1, best
        return (2, best) if wrong < 0 else (0, -wrong)

    return sorted(explained, key=order)
