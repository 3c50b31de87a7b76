"""`striate.explain`: one call from a network and images to maps.

Torch is imported by the call, not with this module: a tuned process imports it only once there is something to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from striate.errors import UnknownNameError
from striate.options import ExplainOptions, merged, options_of
from striate.progress import Console, Progress, Silent
from striate.runtime import prepare_torch

if TYPE_CHECKING:
    from striate.checkpoint import SavedModel
    from striate.explanation.result import Explanation
    from striate.explanation.views.view import View


@overload
def explain(
    network: str | Path | SavedModel | Any, images: Any, method: str | Sequence[str] = "gradcam",
    layer: str | None = None, target: str | int | None = None, *, runs: str | Path = "runs", offline: bool = False,
    progress: bool | Progress = True, **settings: Any,
) -> list[Explanation]: ...  # fmt: skip


@overload
def explain(
    network: str | Path | SavedModel | Any, images: Any = None, *, show: str | Sequence[str],
    layer: str | None = None, data: str | None = None, runs: str | Path = "runs", offline: bool = False,
    progress: bool | Progress = True, **settings: Any,
) -> list[View]: ...  # fmt: skip


def explain(
    network: str | Path | SavedModel | Any,
    images: Any = None,
    method: str | Sequence[str] = "gradcam",
    layer: str | None = None,
    target: str | int | None = None,
    *,
    show: str | Sequence[str] | None = None,
    data: str | None = None,
    runs: str | Path = "runs",
    offline: bool = False,
    progress: bool | Progress = True,
    **settings: Any,
) -> list[Explanation] | list[View]:
    """Which pixels of each image a network's answer depends on; with `show` what the network itself looks like.

    Each `Explanation` has the map as an array and `.figure()`, and so have the views. The network stays as it was: its
    modes, hooks, gradients and random state, also after an exception.

    Args:
        network: every spelling of a network, a `Classifier`, or a model file that was loaded.
        images: all that `Classifier.predict` takes: a path, a folder, a pattern, arrays, Pillow images, or several.
        method: one of `gradcam`, `gradcam++`, `gradient`, `smoothgrad`, `integrated-gradients`, `guided-backprop`,
            `deconvnet` and `occlusion`, several of them, or `all`; the explanations of an image follow one another.
        layer: of Grad-CAM and deconvnet: a place such as `conv4_x` or the path of a module; None takes the deepest
            with maps of at least 3 by 3.
        target: the class to ask about, by name or number; None takes the one that is predicted.
        show: `filters`, `maps`, `strongest`, `field`, `codes`, `preferred`, `evolution`, or several: views instead of
            explanations. Of no images they take those that the run of the network held out.
        data: a data set whose images are shown, by its name, folder or table.
        runs: the folder that holds the run folders.
        offline: never use the network.
        progress: whether to show bars, or a `Progress` of your own.
        **settings: other options of `striate explain` by their names, such as ``window=32`` or ``samples=50``.

    Raises:
        UnknownNameError, CheckpointError, ModelError, OfflineError: no usable network, or no such option, method, layer
            or class.
        UsageError: a value that does not fit.
        MissingExtraError: integrated gradients without Captum (`striate[explain]`).
        DataError: not one image could be read.
        ModelError: the network has nothing of the kind that is to be shown.
    """
    known = [one.name for one in options_of(ExplainOptions)]
    for name in settings:
        if name not in known:
            raise UnknownNameError("option of explain", name, known)
    methods = (method,) if isinstance(method, str) else tuple(method)
    views = (show,) if isinstance(show, str) else None if show is None else tuple(show)
    asked = {"method": methods, "show": views, "layer": layer, "target": None if target is None else str(target)}
    options = merged(ExplainOptions(), {**asked, **settings}, "explain")
    options.check_unit_is_read()
    prepare_torch()
    from striate.checkpoint import SavedModel
    from striate.explanation.chosen import found_images
    from striate.explanation.explaining import explain_images
    from striate.explanation.views.showing import Asked
    from striate.explanation.views.showing import show as views_of
    from striate.network import open_network

    shown = progress if isinstance(progress, Progress) else Console() if progress else Silent()
    saved = getattr(network, "saved", network)  # a classifier's
    if not isinstance(saved, SavedModel):
        saved = open_network(saved, runs=runs, offline=offline, progress=shown)
    if options.show is not None:
        return list(views_of(Asked(saved, options, images, data, offline, shown)))
    if data is None:
        return [one for group in explain_images(saved, images, options, progress=shown) for one in group]
    found = found_images(saved, images, data=data, offline=offline, progress=shown)
    groups = explain_images(saved, found.images, options, names=found.names, truths=found.truths, progress=shown)
    return [one for group in groups for one in group]
