"""Where in a network one looks: a layer by the name that people give it, and the layer that makes sense by itself.

A layer is named as where a network can be cut (`stem`, `conv4_x`, `head.fc6`), or by the path of any of its modules
(`stages.conv4_x.0.conv1`). What it gives is what its module returns the last time it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from striate.anatomy.count import input_shape
from striate.anatomy.fields import Field
from striate.anatomy.trace import Trace, trace
from striate.errors import ModelError, UnknownNameError, UsageError
from striate.models import ConvNet
from striate.models.cut import modules_up_to, places

_FINE = 3  # places a side: coarser maps say hardly where something is


@dataclass(frozen=True, slots=True)
class Place:
    """A layer: the name it is called by, and the path of the module whose output it is.

    `centres` are, for the rows and the columns of its maps, the pixels in the middle of what the units there see, for
    the network's own input size; None where that is not known.
    """

    name: str
    path: str
    centres: tuple[tuple[float, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True, slots=True)
class MapPlace:
    """A layer whose output is maps, for one image."""

    place: Place
    shape: tuple[int, ...]  # channels, height, width


def find_place(model: nn.Module, name: str | None = None) -> Place:
    """The layer that `name` names, or by default the deepest with maps of at least 3 by 3.

    By default, the last of the places where the network can be cut (where it has none, of its modules) is taken whose
    units still lie side by side as the image's pixels do: before flattening or global pooling. Where no maps are that
    fine, 2 by 2 will do, then anything.

    Raises:
        UnknownNameError: no such place or module; the nearest ones are named.
        ModelError: no layer has maps, or the network cannot be followed.
    """
    if name is None:
        return _default(model)
    known = _cuts(model)
    modules = [path for path, _ in model.named_modules() if path]
    if name in known or name in modules:
        path = known.get(name, name)
        try:
            found = _maps(model, {name: path})
        except (ModelError, UsageError):  # a network that cannot be followed still has the layer
            found = []
        return found[0].place if found else Place(name, path)
    raise UnknownNameError("layer", name, [*known, *modules], _hint(name, known, modules))


def map_places(model: nn.Module) -> list[MapPlace]:
    """Every place where the network can be cut that gives maps, shallow to deep; without such places, every module.

    Raises:
        ModelError: the network cannot be followed.
    """
    known = _cuts(model)
    found = _maps(model, known)
    return found or _maps(model, {path: path for path, _ in model.named_modules() if path})


@contextmanager
def watched(model: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the modules at `paths` return, while the model runs inside; of several runs the last.

    What is kept is not what the next layer gets, but equal to it: layers that work in place cannot change it.

    Raises:
        ModelError: at the run, where a module returns no tensor; at a look, where it did not run.
    """
    outputs: dict[str, Tensor] = _Seen()
    handles = []

    def keep(path: str) -> None:
        def hook(_module: nn.Module, _inputs: object, output: object) -> Tensor:
            if not isinstance(output, Tensor):
                raise ModelError(f"{path} gives a {type(output).__name__}, not one tensor", "name another layer")
            outputs[path] = output
            return output.clone()

        handles.append(model.get_submodule(path).register_forward_hook(hook))

    try:
        for path in dict.fromkeys(paths):
            keep(path)
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def check_unit(unit: int | None, maps: int, layer: str) -> None:
    """Whether a layer of so many maps has the one that is asked for, if one is.

    Raises:
        UsageError: it has not.
    """
    if unit is not None and not 0 <= unit < maps:
        raise UsageError(f"{layer} has no map {unit}", f"it has the maps 0 to {maps - 1}")


class _Seen(dict[str, Tensor]):
    """Outputs by path; of auxiliary heads, and of containers whose parts are called one by one, there are none."""

    def __missing__(self, path: str) -> Tensor:
        raise ModelError(f"{path} gives nothing when the network answers", "name a layer on the way to the output")


def _default(model: nn.Module) -> Place:
    found = map_places(model)
    for least in (_FINE, 2, 1):
        fine = [one.place for one in found if min(one.shape[1:]) >= least]
        if fine:
            return fine[-1]
    raise ModelError(
        f"no layer of {type(model).__name__} has maps: nothing in it lies where it lies in the image",
        "gradient, smoothgrad, integrated-gradients and occlusion need no layer",
    )


def _cuts(model: nn.Module) -> dict[str, str]:
    """The places of a network of ours, with the path of the module that ends each."""
    if not isinstance(model, ConvNet):
        return {}
    paths = {module: path for path, module in model.named_modules()}
    return {name: paths[modules_up_to(model, name)[-1]] for name in places(model)}


def _maps(model: nn.Module, paths: dict[str, str]) -> list[MapPlace]:
    if not paths:
        return []
    found: Trace = trace(model, input_shape(model, None, None), wanted=list(paths.values()))
    maps = []
    for name, path in paths.items():
        if path in found.outputs:
            shape, field = found.outputs[path]
            if len(shape) == 4 and field.is_map:
                maps.append(MapPlace(Place(name, path, _centres(field)), tuple(shape[1:])))
    return maps


def _centres(field: Field) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The middle of what each row and each column of units sees, padding included."""
    if len(field.axes) != 2 or [field.axis_at(2), field.axis_at(3)] != [0, 1] or None in field.theories:
        return None
    rows, columns = (
        tuple((seen[0] + seen[1]) / 2 for unit in range(len(axis)) if axis.theory and (seen := axis.theory.at(unit)))
        for axis in field.axes
    )
    return rows, columns


def _hint(name: str, known: dict[str, str], modules: list[str]) -> str | None:
    inside = [path for path in modules if path.endswith(f".{name}")]
    if inside:
        return f"did you mean {' or '.join(inside[:3])}?"
    return f"it has: {', '.join(known)}; or the path of any module" if known else None
