"""What the papers feed their networks, and the words that several tables share."""

from __future__ import annotations

from dataclasses import replace

from striate.spec import InputSpec

MNIST = InputSpec(size=(28, 28), channels=1, mean=(0.1307,), std=(0.3081,))
CIFAR = InputSpec(size=(32, 32), channels=3, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
# Today's habit with ImageNet: short side 256, centre 224, normalised by channel.
PHOTO = InputSpec(
    size=(224, 224), channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop_fraction=0.875
)
# The Inception line: -1 to 1, and 87.5 % of the image.
INCEPTION = InputSpec(size=(299, 299), channels=3, mean=(0.5,), std=(0.5,), crop_fraction=0.875)
# BVLC Caffe: blue first, 0 to 255 minus the mean of ImageNet.
CAFFE = InputSpec(
    size=(224, 224),
    channels=3,
    mean=(104 / 255, 117 / 255, 123 / 255),
    std=(1 / 255,),
    crop_fraction=0.875,
    channel_order="BGR",
)
# AlexNet's line: 227 of 256 pixels.
CAFFE_227 = replace(CAFFE, size=(227, 227), crop_fraction=227 / 256)

IMAGENET_VAL = "ImageNet val"
CIFAR10_TEST = "CIFAR-10 test"
MNIST_TEST = "MNIST test"


def sized(spec: InputSpec, side: int) -> InputSpec:
    """The same preprocessing for images of `side` pixels."""
    return replace(spec, size=(side, side))
