"""Which pixels a network's answer depends on: one function a method, all in one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from striate.explanation.attribution.cam import gradcam, gradcam_plus_plus
from striate.explanation.attribution.deconvnet import deconvnet
from striate.explanation.attribution.deconvnet import reconstruct as reconstruct
from striate.explanation.attribution.gradients import gradient, integrated_gradients, smoothgrad
from striate.explanation.attribution.guided import guided_backprop
from striate.explanation.attribution.occlusion import occlusion
from striate.explanation.attribution.question import Answer as Answer
from striate.explanation.attribution.question import Question as Question
from striate.explanation.attribution.question import Unit as Unit


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table.

    `shown` is how a map is drawn: `heat` from 0 up over the image; `signed` around 0; `strength` as the largest
    absolute value of the channels; `pixels` as a picture of its own, in which grey is 0.
    """

    title: str
    ask: Callable[[Question], Answer]
    shown: Literal["heat", "signed", "strength", "pixels"]
    reads_layer: bool = False
    legend: str = ""


METHODS: dict[str, Method] = {
    "gradcam": Method("Grad-CAM", gradcam, "heat", reads_layer=True, legend="speaks for the class"),
    "gradcam++": Method("Grad-CAM++", gradcam_plus_plus, "heat", reads_layer=True, legend="speaks for the class"),
    "gradient": Method("gradient", gradient, "strength", legend="change of the score"),
    "smoothgrad": Method("SmoothGrad", smoothgrad, "strength", legend="change of the score"),
    "integrated-gradients": Method("integrated gradients", integrated_gradients, "signed", legend="part of the score"),
    "guided-backprop": Method("guided backpropagation", guided_backprop, "pixels", legend="signal"),
    "deconvnet": Method("deconvnet", deconvnet, "pixels", reads_layer=True, legend="signal"),
    "occlusion": Method("occlusion", occlusion, "signed", legend="fall of the score when covered"),
}
