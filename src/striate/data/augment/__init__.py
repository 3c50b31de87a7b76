"""Distortions of training images: batched tensor operations, one file per kind, that `pipeline.augment` puts in order.

Whatever is drawn belongs to (seed, epoch, image); whatever is switched off costs nothing.
"""

from striate.data.augment.boxes import training_boxes
from striate.data.augment.pipeline import augment, check_augment
from striate.data.augment.presets import resolve_augment
