"""`striate.explain`: one call from a network and images to maps.

Torch is imported by the call, not with this module: a tuned process imports it only once there is something to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from striate.errors import UnknownNameError
from striate.options import ExplainOptions, merged, options_of
from striate.progress import Console, Progress, Silent
from striate.runtime import prepare_torch

if TYPE_CHECKING:
    from striate.checkpoint import SavedModel
    from striate.explanation.result import Explanation


def explain(
    network: str | Path | SavedModel | Any,
    images: Any,
    method: str | Sequence[str] = "gradcam",
    layer: str | None = None,
    target: str | int | None = None,
    *,
    runs: str | Path = "runs",
    offline: bool = False,
    progress: bool | Progress = True,
    **settings: Any,
) -> list[Explanation]:
    """Which pixels of each image a network's answer depends on.

    Each `Explanation` has the map as an array and `.figure()`. The network stays as it was: its modes, hooks,
    gradients and random state, also after an exception.

    Args:
        network: every spelling of a network, a `Classifier`, or a model file that was loaded.
        images: all that `Classifier.predict` takes: a path, a folder, a pattern, arrays, Pillow images, or several.
        method: one of `gradcam`, `gradcam++`, `gradient`, `smoothgrad`, `integrated-gradients`, `guided-backprop`,
            `deconvnet` and `occlusion`, several of them, or `all`; the explanations of an image follow one another.
        layer: of Grad-CAM and deconvnet: a place such as `conv4_x` or the path of a module; None takes the deepest
            with maps of at least 3 by 3.
        target: the class to ask about, by name or number; None takes the one that is predicted.
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
    """
    known = [one.name for one in options_of(ExplainOptions)]
    for name in settings:
        if name not in known:
            raise UnknownNameError("option of explain", name, known)
    methods = (method,) if isinstance(method, str) else tuple(method)
    asked = None if target is None else str(target)
    options = merged(ExplainOptions(), {"method": methods, "layer": layer, "target": asked, **settings}, "explain")
    prepare_torch()
    from striate.checkpoint import SavedModel
    from striate.explanation.explaining import explain_images
    from striate.network import open_network

    shown = progress if isinstance(progress, Progress) else Console() if progress else Silent()
    saved = getattr(network, "saved", network)  # a classifier's
    if not isinstance(saved, SavedModel):
        saved = open_network(saved, runs=runs, offline=offline, progress=shown)
    return [one for group in explain_images(saved, images, options, progress=shown) for one in group]
