"""Guided backpropagation: the gradient, with negative signals stopped at every rectifier."""

from __future__ import annotations

from striate.explanation.attribution.gradients import gradient_of
from striate.explanation.attribution.question import Answer, Question
from striate.explanation.attribution.rectified import rectified_backward

NO_RECTIFIER = "no rectifier in the network: this is the plain way back"


def guided_backprop(question: Question) -> Answer:
    """The derivative of the score by the image with the signal rectified at every rectifier, [n, C, H, W].

    Springenberg et al. 2015, 1412.6806, sec. 3.4. In a network without rectifiers it is the gradient, and a note says
    so.
    """
    with rectified_backward(question.model, "guided") as mode:
        maps = gradient_of(question, question.images)
    return Answer(maps, notes=() if mode.caught else (NO_RECTIFIER,))
