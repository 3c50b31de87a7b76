"""Pre-activation ResNets against a slow transcription of the paper, and against timm's resnetv2 set to its strides."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers.residual import ARRANGEMENTS
from striate.models import ConvNet, create_model

STAGES = {"3x3": ("maps32", "maps16", "maps8"), "7x7": ("conv2_x", "conv3_x", "conv4_x", "conv5_x")}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize(("unit", "shortcut"), [("basic", "A"), ("bottleneck", "B")])
def test_small_networks_equal_the_transcription(arrangement, unit, shortcut):
    ours = create_model(
        "preact_resnet110", depths=(2, 2, 2), unit=unit, shortcut=shortcut, arrangement=arrangement, input_size=16
    )
    assert_equal(ours, arrangement)


@pytest.mark.parametrize("name", ["preact_resnet110", "preact_resnet164", "preact_resnet152", "preact_resnet200"])
@pytest.mark.slow
def test_the_registered_networks_equal_the_transcription(name):
    side = (
        64 if name in ("preact_resnet152", "preact_resnet200") else 32
    )  # normalising single pixels magnifies rounding
    assert_equal(create_model(name, input_size=side, classes=10), "full_preactivation")


def assert_equal(ours: ConvNet, arrangement: str) -> None:
    """Outputs in evaluation and training, and every gradient, to 1e-10 of its norm."""
    torch.manual_seed(0)
    ours = ours.double()
    nothing_hides(ours)
    side = ours.architecture.input_size[0]
    images = torch.randn(3, 3, side, side, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 3, 9])
    weights = {key: value.detach().clone().requires_grad_(value.is_floating_point()) for key, value in tensors(ours)}

    def theirs(training: bool) -> Tensor:
        return transcribed(weights, images, ours, arrangement, training)

    assert relative(ours.eval()(images), theirs(False)) < 1e-10
    ours.train()
    expected, logits = theirs(True), ours(images)
    assert relative(logits, expected) < 1e-10
    names = [key for key, _ in ours.named_parameters()]
    wanted = torch.autograd.grad(F.cross_entropy(expected, targets), [images, *(weights[key] for key in names)])
    given = torch.autograd.grad(ours.loss(logits, targets), [images, *ours.parameters()])
    # Where a later norm takes a shift away again its gradient is nothing but rounding.
    least = 1e-4 * max(gradient.norm().item() for gradient in wanted)
    for key, one, other in zip(["images", *names], given, wanted, strict=True):
        assert relative(one, other, least) < 1e-10, key


def tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def transcribed(weights: dict[str, Tensor], images: Tensor, model: ConvNet, arrangement: str, training: bool) -> Tensor:
    """The network from its weights alone: fig. 4 and the appendix of 1603.05027, line by line."""
    config = model.architecture.config

    def norm(maps: Tensor, name: str) -> Tensor:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        if training:
            mean, variance = maps.mean((0, 2, 3)), maps.var((0, 2, 3), unbiased=False)
        scaled = (maps - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"][:, None, None] + weights[f"{name}.bias"][:, None, None]

    def convolve(maps: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        return F.conv2d(maps, weight, None, stride, weight.shape[-1] // 2)

    def find(unit: str, layer: str) -> str:
        (found,) = {key.rpartition(".")[0] for key in weights if re.match(rf"{unit}\.(\w+\.)?{layer}\.weight", key)}
        return found

    def residual(x: Tensor, unit: str, stride: int, activated: bool) -> Tensor:
        count = 3 if config["unit"] == "bottleneck" else 2
        conv = [find(unit, f"conv{number}") for number in range(1, count + 1)]
        strides = [stride, *[1] * (count - 1)]
        grows = f"{unit}.shortcut.conv.weight" in weights
        y = common = x
        for number, (name, step) in enumerate(zip(conv, strides, strict=True), start=1):
            last = number == count
            if arrangement == "full_preactivation":
                if not (number == 1 and activated):
                    y = norm(y, find(unit, f"norm{number}")).relu()
                common = y if number == 1 else common
                y = convolve(y, name, step)
            elif arrangement == "relu_only_preactivation":
                if not (number == 1 and activated):
                    y = y.relu()
                common = y if number == 1 else common
                y = norm(convolve(y, name, step), find(unit, f"norm{number}"))
            elif arrangement == "bn_after_addition" and last:
                y = convolve(y, name, step)
            else:
                y = norm(convolve(y, name, step), find(unit, f"norm{number}"))
                if not last or arrangement == "relu_before_addition":
                    y = y.relu()
        if grows:
            skip = convolve(common, f"{unit}.shortcut.conv", stride)
            if f"{unit}.shortcut.norm.weight" in weights:
                skip = norm(skip, f"{unit}.shortcut.norm")
        else:
            skip = x[:, :, ::stride, ::stride]
            zeros = torch.zeros_like(skip)[:, : (y.shape[1] - skip.shape[1]) // 2]
            skip = torch.cat([zeros, skip, zeros], dim=1)
        total = y + skip
        if arrangement == "bn_after_addition":
            return norm(total, find(unit, f"norm{count}")).relu()
        return total.relu() if arrangement == "original" else total

    photos = config["stem"] == "7x7"
    maps = norm(convolve(images, "stem.conv1", 2 if photos else 1), "stem.norm1").relu()
    if photos:
        maps = F.max_pool2d(maps, 3, 2, 1)
    unit = ""
    for index, (stage, depth) in enumerate(zip(STAGES[config["stem"]], config["depths"], strict=False)):
        for number in range(depth):
            unit = f"stages.{stage}.{number}"
            first = index == number == 0
            maps = residual(maps, unit, 2 if index and not number else 1, first)
    if arrangement == "full_preactivation":
        maps = norm(maps, f"{unit}.after.norm")
    if "preactivation" in arrangement:
        maps = maps.relu()
    return maps.mean((2, 3)) @ weights["head.linear.weight"].T + weights["head.linear.bias"]


@pytest.mark.slow
@pytest.mark.parametrize("depths", [(1, 2, 1, 1), (3, 8, 36, 3)], ids=["small", "preact_resnet152"])
def test_photos_equal_timm(depths):
    resnetv2 = pytest.importorskip("timm.models.resnetv2", reason="timm is the reference")
    torch.manual_seed(0)
    theirs = resnetv2.ResNetV2(
        depths, num_classes=10, norm_layer=resnetv2.BatchNormAct2d, conv_layer=resnetv2.create_conv2d
    ).double()
    as_published(theirs)
    nothing_hides(theirs)
    ours = create_model("preact_resnet152", depths=depths, classes=10, input_size=40, start=False).double()
    renamed = {our_name(key, depths): value for key, value in theirs.state_dict().items()}
    ours.load_state_dict({key: value.reshape(ours.state_dict()[key].shape) for key, value in renamed.items()})

    images = torch.randn(3, 3, 40, 40, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 3, 9])
    assert relative(ours.eval()(images), theirs.eval()(images)) < 1e-10
    ours.train()
    theirs.train()
    (wanted,) = torch.autograd.grad(F.cross_entropy(theirs(images), targets), images, retain_graph=True)
    F.cross_entropy(theirs(images), targets).backward()
    images.grad = None
    ours.loss(ours(images), targets).backward()
    assert images.grad is not None
    assert relative(images.grad, wanted) < 1e-10
    gradients = {our_name(key, depths): one.grad for key, one in theirs.named_parameters()}
    for key, parameter in ours.named_parameters():
        gradient = gradients[key]
        assert gradient is not None
        assert parameter.grad is not None
        assert relative(parameter.grad, gradient.reshape(parameter.shape)) < 1e-10, key


def as_published(theirs: nn.Module) -> None:
    """The stride in the first 1x1, and the first norm and activation right after conv1, before the pooling."""
    for stage in list(theirs.stages)[1:]:
        stage.blocks[0].conv1.stride, stage.blocks[0].conv2.stride = (2, 2), (1, 1)
    first = theirs.stages[0].blocks[0]
    theirs.stem.pool = nn.Sequential(first.norm1, theirs.stem.pool)
    first.norm1 = nn.Identity()


def our_name(key: str, depths: tuple[int, ...]) -> str:
    """timm's name of a parameter, rearranged as above, in ours."""
    stages = STAGES["7x7"]
    key = key.replace("stem.conv.", "stem.conv1.").replace("stem.pool.0.", "stem.norm1.")
    key = re.sub(r"^norm\.", f"stages.conv5_x.{depths[-1] - 1}.after.norm.", key).replace("head.fc.", "head.linear.")
    key = re.sub(r"^stages\.(\d)\.blocks\.", lambda found: f"stages.{stages[int(found[1])]}.", key)
    key = re.sub(r"(\d)\.norm1\.", r"\1.before.norm1.", key).replace("downsample", "shortcut")
    return re.sub(r"(\d)\.(conv\d|norm[23])\.", r"\1.branch.\2.", key)


def nothing_hides(model: nn.Module) -> None:
    """Scales, shifts and running statistics that a fresh network would have as ones and zeros."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)


def relative(ours: Tensor, theirs: Tensor, least: float = 0.0) -> float:
    return ((ours - theirs).norm() / theirs.norm().clamp_min(least)).item()
