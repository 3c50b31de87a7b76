"""Weights by name: torchvision's as a literal table, whose listing needs no torch; timm's as timm records them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from striate.errors import UnknownNameError
from striate.models.registry import entries, find_entry
from striate.models.sources import TIMM, is_foreign, timm_config, timm_input, timm_tags
from striate.spec import InputSpec, ModelEntry

TORCHVISION = "https://download.pytorch.org/models/"
HUGGING_FACE = "https://huggingface.co/"
Values = tuple[float, ...]
_ENUM = "_weights."  # ResNet18_Weights.IMAGENET1K_V1
_USUAL: tuple[Values, Values] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and deviation by channel
# These two undo the usual normalisation inside (`transform_input`): what their first layer sees is -1 to 1.
_UNDONE: tuple[Values, Values] = ((0.5,), (0.5,))


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """One file of published weights."""

    publisher: str  # "torchvision" or "timm"
    model: str  # the publisher's name of the network
    name: str  # of the weights: "imagenet1k_v1", "a1_in1k"
    url: str
    sha256: str  # its beginning at least; empty where the publisher gives none
    input: InputSpec
    classes: int = 1000
    top1: float | None = None  # accuracy on ImageNet's validation images, per cent, as published

    @property
    def spelling(self) -> str:
        """How the publisher's users write it: `resnet18:imagenet1k_v1`."""
        return f"{self.model}:{self.name}"

    @property
    def file(self) -> str:
        """The file's name in the cache."""
        name = self.url.rsplit("/", 1)[1]
        return name if self.url.startswith(TORCHVISION) or self.sha256 else f"{self.model}.{self.name}-{name}"


def _torchvision(
    model: str,
    name: str,
    file: str,
    top1: float,
    resized: int = 256,
    side: int = 224,
    values: tuple[Values, Values] = _USUAL,
) -> Weights:
    """The sha256 of the file begins as its name ends."""
    spec = InputSpec(size=(side, side), channels=3, mean=values[0], std=values[1], crop_fraction=side / resized)
    digest = file.removesuffix(".pth").rsplit("-", 1)[1]
    return Weights(
        publisher="torchvision", model=model, name=name, url=TORCHVISION + file, sha256=digest, input=spec, top1=top1
    )


# The later of a network's weights come last; `default` means them.
TABLE: tuple[Weights, ...] = (
    _torchvision("alexnet", "imagenet1k_v1", "alexnet-owt-7be5be79.pth", 56.522),
    _torchvision("vgg11", "imagenet1k_v1", "vgg11-8a719046.pth", 69.020),
    _torchvision("vgg11_bn", "imagenet1k_v1", "vgg11_bn-6002323d.pth", 70.370),
    _torchvision("vgg13", "imagenet1k_v1", "vgg13-19584684.pth", 69.928),
    _torchvision("vgg13_bn", "imagenet1k_v1", "vgg13_bn-abd245e5.pth", 71.586),
    _torchvision("vgg16", "imagenet1k_v1", "vgg16-397923af.pth", 71.592),
    _torchvision("vgg16_bn", "imagenet1k_v1", "vgg16_bn-6c64b313.pth", 73.360),
    _torchvision("vgg19", "imagenet1k_v1", "vgg19-dcbb9e9d.pth", 72.376),
    _torchvision("vgg19_bn", "imagenet1k_v1", "vgg19_bn-c79401a0.pth", 74.218),
    _torchvision("googlenet", "imagenet1k_v1", "googlenet-1378be20.pth", 69.778, values=_UNDONE),
    _torchvision("inception_v3", "imagenet1k_v1", "inception_v3_google-0cc3c7bd.pth", 77.294, 342, 299, _UNDONE),
    _torchvision("resnet18", "imagenet1k_v1", "resnet18-f37072fd.pth", 69.758),
    _torchvision("resnet34", "imagenet1k_v1", "resnet34-b627a593.pth", 73.314),
    _torchvision("resnet50", "imagenet1k_v1", "resnet50-0676ba61.pth", 76.130),
    _torchvision("resnet50", "imagenet1k_v2", "resnet50-11ad3fa6.pth", 80.858, 232),
    _torchvision("resnet101", "imagenet1k_v1", "resnet101-63fe2227.pth", 77.374),
    _torchvision("resnet101", "imagenet1k_v2", "resnet101-cd907fc2.pth", 81.886, 232),
    _torchvision("resnet152", "imagenet1k_v1", "resnet152-394f9c45.pth", 78.312),
    _torchvision("resnet152", "imagenet1k_v2", "resnet152-f82ba261.pth", 82.284, 232),
    _torchvision("squeezenet1_0", "imagenet1k_v1", "squeezenet1_0-b66bff10.pth", 58.092),
    _torchvision("squeezenet1_1", "imagenet1k_v1", "squeezenet1_1-b8a52dc0.pth", 58.178),
)


def references(entry: ModelEntry) -> list[tuple[str, str]]:
    """(publisher, their name) of the implementations that the entry is compared with, whose weights it takes."""
    return re.findall(r"(torchvision|timm):([\w.]+)", entry.reference)


def listed(entry: ModelEntry) -> list[str]:
    """How torchvision's weights for a registered network are spelt; timm's are many, and found by their tags."""
    theirs = {model for publisher, model in references(entry) if publisher == "torchvision"}
    return [one.spelling for one in TABLE if one.model in theirs]


def find_weights(model: str, name: str) -> tuple[ModelEntry, Weights]:
    """The network and the published weights that `MODEL:WEIGHTS` names; `default` are the publisher's own choice.

    torchvision's own spelling `ResNet18_Weights.IMAGENET1K_V1` is understood, in any case of letters.
    The model's name is the publisher's first (`resnet50` builds `resnet50_v1_5`), then ours.

    Raises:
        UnknownNameError: no such network or weights; those that there are are named.
        MissingExtraError: they can only be timm's, and timm is not installed.
    """
    family, enum, wanted = name.lower().rpartition(_ENUM)
    if is_foreign(model):
        return _of_timm(find_entry(model), model.lower().removeprefix(TIMM), wanted)
    if enum and family not in {theirs for _, publisher, theirs in _meanings(model) if publisher == "torchvision"}:
        family_weights = [one.spelling for one in TABLE if one.model == family]
        raise UnknownNameError(f"weights of {model}", name, family_weights, f"they are of another network: {family}")
    known: list[str] = []
    for entry, publisher, theirs in _meanings(model):
        there = [one for one in TABLE if (one.publisher, one.model) == (publisher, theirs)]
        found = there[-1:] if wanted == "default" else [one for one in there if one.name == wanted]
        if found:
            return entry, found[0]
        known += [one.name for one in there]
        if publisher == "timm" or not (there or wanted.startswith("imagenet1k_")):
            return _of_timm(entry, theirs, wanted)
    for entry, _, theirs in _meanings(model):  # timm has torchvision's networks under the same names
        if not wanted.startswith("imagenet1k_") and wanted in timm_tags(theirs):
            return _of_timm(entry, theirs, wanted)
    if not known:
        raise UnknownNameError("weights", f"{model}:{name}", [one.spelling for one in TABLE], _without(model))
    hint = f"torchvision has: {', '.join(dict.fromkeys(known))}; timm's go by their tags"
    raise UnknownNameError(f"weights of {model}", name, known, hint)


def _without(model: str) -> str:
    find_entry(model)  # an unknown network is the error then
    return f"nobody's weights for {model} are known by name; a file is given as {model}:FILE"


def _meanings(model: str) -> list[tuple[ModelEntry, str, str]]:
    """(entry, publisher, their name) for everything that `model` may mean, publishers' names first."""
    found = [
        (entry, publisher, theirs)
        for entry in entries()
        for publisher, theirs in references(entry)
        if theirs == model.lower()
    ]
    try:
        ours = find_entry(model)
    except UnknownNameError:
        if not found:
            raise
        return found
    return found + [(ours, publisher, theirs) for publisher, theirs in references(ours) if theirs != model.lower()]


def _of_timm(entry: ModelEntry, model: str, name: str) -> tuple[ModelEntry, Weights]:
    """timm's weights by their tag."""
    if name == "default":
        tags = timm_tags(model)
        if not tags:
            raise UnknownNameError(f"weights of {TIMM}{model}", name, [], "timm publishes none for it")
        name = tags[0]
    config = timm_config(f"{TIMM}{model}.{name}")
    url, digest = config.url or "", ""
    if config.hf_hub_id:  # the same weights, in a file that cannot run code
        url = f"{HUGGING_FACE}{config.hf_hub_id}/resolve/main/model.safetensors"
    else:
        ending = re.search(r"-([0-9a-f]{8,64})\.pth$", url)
        digest = ending[1] if ending else ""
    weights = Weights(
        publisher="timm", model=model, name=name, url=url, sha256=digest, input=timm_input(config),
        classes=config.num_classes,
    )  # fmt: skip
    return entry, weights


def published_as(digest: str) -> Weights | None:
    """The weights whose file has this sha256, whatever it is called."""
    return next((one for one in TABLE if digest.startswith(one.sha256)), None)
