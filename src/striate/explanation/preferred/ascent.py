"""The ascent: gradient steps on an image until a class or a map responds to it as strongly as can be.

Erhan, Bengio, Courville, Vincent 2009, "Visualizing higher-layer features of a deep network"; what keeps the image from
being noise that only this network sees is Olah, Mordvintsev, Schubert 2017, "Feature Visualization".
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from striate.checkpoint import SavedModel
from striate.errors import ModelError, UsageError
from striate.explanation.attribution.question import logits_of
from striate.explanation.attribution.rectified import rectified_backward
from striate.explanation.places import Place, find_place, watched
from striate.explanation.preferred.painting import Painting, as_fed
from striate.explanation.preferred.result import PreferredInput
from striate.explanation.undisturbed import undisturbed
from striate.options.explain import ExplainOptions
from striate.progress import Progress

_AT_ONCE_PIXELS = 2**20  # of the images that climb together
MOST = 12  # classes or maps, unless asked otherwise: each takes as long as some hundred images
_NOISES = 16  # images of noise, for comparison


def preferred_inputs(
    saved: SavedModel,
    layer: str | None = None,
    numbers: Sequence[int] | None = None,
    options: ExplainOptions | None = None,
    *,
    progress: Progress | None = None,
) -> Iterator[PreferredInput]:
    """The preferred input of the classes, or of the maps of `layer`, that `numbers` names, in their order, lazily.

    What an image becomes depends on `options.seed`, on its class or map and on the network, not on what else is asked
    for. The network stays as it is: see `undisturbed`. It computes where its parameters are.

    Args:
        saved: the network with what belongs to it.
        layer: a place or the path of a module, the units of a vector being its maps; None asks for the classes.
        numbers: of classes or maps; None takes the first `options.most`.
        options: the figures of the ascent.
        progress: shows how far it is.

    Raises:
        UnknownNameError: no such layer.
        UsageError: no such class or map.
        ModelError: the layer gives neither maps nor a vector for an image.
    """
    options, progress = options or ExplainOptions(), progress or Progress()
    goal = _Goal(saved.model, None if layer is None else find_place(saved.model, layer), options.goal == "unit")
    device = next((one.device for one in saved.model.parameters()), torch.device("cpu"))
    count = _count(goal, saved, device)
    wanted = list(range(min(count, options.most or MOST)) if numbers is None else numbers)
    for number in wanted:
        if not 0 <= number < count:
            where, what = ("the network", "class") if goal.place is None else (goal.place.name, "map")
            raise UsageError(f"{where} has no {what} {number}", f"they are 0 to {count - 1}")
    together = max(1, min(64, _AT_ONCE_PIXELS // (saved.spec.size[0] * saved.spec.size[1])))
    with progress.task("preferred inputs", len(wanted) * options.ascent_steps) as task:
        for first in range(0, len(wanted), together):
            chunk = wanted[first : first + together]
            with undisturbed(saved.model):
                climb = _Climb(saved, goal, chunk, options, device)
                noise = climb.noise()
                begun, _ = climb.reached()
                for step in range(options.ascent_steps):
                    climb.step(step)
                    task.advance(len(chunk))
                values, images = climb.reached()
            for place, number in enumerate(chunk):
                yield PreferredInput(
                    label=saved.labels.names[number] if goal.place is None else f"map {number}", number=number,
                    layer=None if goal.place is None else goal.place.name, activation=values[place],
                    noise=noise[place], begun=begun[place], image=images[place],
                )  # fmt: skip


class _Goal:
    """What is to become large: the score of a class, or a map of a layer."""

    def __init__(self, model: nn.Module, place: Place | None, middle: bool) -> None:
        self._model, self.place, self._middle = model, place, middle

    def values(self, fed: Tensor) -> Tensor:
        """Of each of the images `fed` the value of every class or map, [n, classes or maps]."""
        if self.place is None:
            return logits_of(self._model, fed)
        with watched(self._model, [self.place.path]) as seen:
            logits_of(self._model, fed)
        outputs = seen[self.place.path]
        if outputs.ndim == 4:
            if self._middle:
                return outputs[:, :, outputs.shape[2] // 2, outputs.shape[3] // 2]
            return outputs.mean((2, 3))
        if outputs.ndim != 2:
            raise ModelError(
                f"{self.place.name} gives {list(outputs.shape[1:])} for an image, neither maps nor a vector",
                "name another layer",
            )
        return outputs


class _Climb:
    """Some images on their way up together."""

    def __init__(
        self, saved: SavedModel, goal: _Goal, numbers: Sequence[int], options: ExplainOptions, device: torch.device
    ) -> None:
        self._saved, self._goal, self._options = saved, goal, options
        self._columns = torch.tensor(numbers, device=device)[:, None]
        place = "" if goal.place is None else goal.place.path
        seeds = [(options.seed, zlib.crc32(place.encode()), number) for number in numbers]
        side = max(saved.spec.size)
        jitter = side / 16 if options.jitter is None else options.jitter
        turn = math.radians(options.turn)
        self._moves = _moves(seeds, options.ascent_steps, jitter, turn, options.zoom).to(device)
        self._painting = Painting(
            saved.spec, [(*seed, 1) for seed in seeds], margin=jitter + side / 2 * (options.zoom + min(turn, 0.5)),
            fourier=options.paint == "fourier", decorrelate=options.decorrelate, device=device,
        )  # fmt: skip
        self._adam = torch.optim.AdamW([self._painting.numbers], lr=options.ascent_rate, weight_decay=options.decay)

    def step(self, number: int) -> None:
        """One step up."""
        left = 1 - number / self._options.ascent_steps
        self._adam.param_groups[0]["lr"] = self._options.ascent_rate * min(1.0, 2 * left)
        images = self._painting.seen(self._moves[number])
        upwards = _even(self._gradient(images.detach()))
        if self._options.variation:
            upwards -= self._options.variation * _variation_gradient(images.detach())
        self._adam.zero_grad()
        images.backward(-upwards)
        self._adam.step()
        self._painting.blur(self._options.smooth * left)

    def reached(self) -> tuple[list[float], np.ndarray]:
        """The value of each image as it is now, and the images [n, H, W, C]."""
        with torch.no_grad():
            images = self._painting.images()
            values = self._values(images)
        return values.tolist(), images.permute(0, 2, 3, 1).float().cpu().numpy()

    def noise(self) -> list[float]:
        """For each class or map the highest value of images whose pixels are drawn evenly from 0 to 1."""
        spec = self._saved.spec
        pixels = np.random.default_rng(self._options.seed).random((_NOISES, spec.channels, *spec.size))
        with torch.no_grad():
            values = self._goal.values(as_fed(torch.from_numpy(pixels).to(self._columns.device).float(), spec))
        return values.amax(0)[self._columns[:, 0]].tolist()

    def _values(self, images: Tensor) -> Tensor:
        return self._goal.values(as_fed(images, self._saved.spec)).gather(1, self._columns)[:, 0]

    def _gradient(self, images: Tensor) -> Tensor:
        """The gradient of each image's value.

        A unit that is silent has none: for it rectifiers let the signal through, so that the ascent finds its way to
        where the unit responds (Olah et al. 2017 do so for the first steps).
        """
        found = self._way_back(images)
        silent = ~found.flatten(1).any(1)
        if silent.any():
            with rectified_backward(self._saved.model, "open"):
                found = torch.where(silent[:, None, None, None], self._way_back(images), found)
        return found

    def _way_back(self, images: Tensor) -> Tensor:
        leaf = images.clone().requires_grad_()
        return torch.autograd.grad(self._values(leaf.clone()).sum(), leaf)[0]


def _moves(seeds: Sequence[tuple[int, ...]], steps: int, jitter: float, turn: float, zoom: float) -> Tensor:
    """Of each step and image the pixels down and right, the angle and the enlargement, [steps, n, 4]."""
    drawn = np.stack([np.random.default_rng(seed).uniform(-1, 1, (steps, 4)) for seed in seeds], axis=1)
    drawn *= (jitter, jitter, turn, zoom)
    drawn[..., 3] += 1
    return torch.from_numpy(drawn).float()


def _even(gradients: Tensor) -> Tensor:
    """Gradients of deviation 1: units whose values are large would otherwise outdo what keeps images smooth."""
    return gradients / gradients.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-20)


def _variation_gradient(images: Tensor) -> Tensor:
    """The derivative of the sum of absolute differences of neighbours, [n, C, H, W]."""
    found = torch.zeros_like(images)
    for dim in (2, 3):
        signs = images.diff(dim=dim).sign()
        found.narrow(dim, 0, images.shape[dim] - 1).sub_(signs)
        found.narrow(dim, 1, images.shape[dim] - 1).add_(signs)
    return found


def _count(goal: _Goal, saved: SavedModel, device: torch.device) -> int:
    """How many classes or maps there are."""
    if goal.place is None:
        return len(saved.labels)
    with undisturbed(saved.model), torch.no_grad():
        shape = (1, saved.spec.channels, *saved.spec.size)
        return goal.values(torch.zeros(shape, device=device)).shape[1]
