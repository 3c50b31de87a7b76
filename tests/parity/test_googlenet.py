"""GoogLeNet against torchvision with its auxiliary classifiers, and against the layers that Caffe's files describe."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.models import Outputs, create_model, load_reference
from striate.models.registry.inputs import CAFFE

from .agreement import randomise_normalisations, relative

CLASSES = 5
TOLERANCE = 1e-10


def torchvisions() -> nn.Module:
    torchvision = pytest.importorskip("torchvision", reason="torchvision is the reference")
    model = torchvision.models.GoogLeNet(num_classes=CLASSES, init_weights=False, dropout=0.0, dropout_aux=0.0)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):  # its own start leaves next to nothing of the signal
            nn.init.kaiming_normal_(module.weight)
    randomise_normalisations(model)
    return model.double()


def with_5x5(model: nn.Module) -> nn.Module:
    """What torchvision would be with the paper's kernel and last pooling."""
    for module in model.modules():
        if hasattr(module, "branch3"):
            old = module.branch3[1].conv
            module.branch3[1].conv = nn.Conv2d(old.in_channels, old.out_channels, 5, padding=2, bias=False).double()
            nn.init.kaiming_normal_(module.branch3[1].conv.weight)
    model.maxpool4 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    return model


def without_dropout(name: str, **changes):
    settings = {"classes": CLASSES, "dropout": 0.0, "auxiliary_dropout": 0.0, "start": False, **changes}
    return create_model(name, **settings).double()


@pytest.mark.parametrize(
    ("paper", "side"),
    [(False, 80), pytest.param(True, 96, marks=pytest.mark.slow), pytest.param(False, 224, marks=pytest.mark.slow)],
)
def test_outputs_and_gradients_equal_torchvision(paper, side):
    torch.manual_seed(0)
    theirs = with_5x5(torchvisions()) if paper else torchvisions()
    changes = {"wide_kernel": 5, "last_pool": 3} if paper else {}
    ours = without_dropout("googlenet_torchvision", input_size=side, **changes)
    fit = load_reference(ours, theirs.state_dict())
    assert fit.complete
    assert fit.naming.publisher == "torchvision"
    assert not fit.no_auxiliary
    images = torch.randn(3, 3, side, side, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 2, 4])

    with torch.no_grad():
        assert relative(ours.eval()(images), theirs.eval()(images)) < TOLERANCE

    main, second, first = theirs.train()(images)
    expected = F.cross_entropy(main, targets) + 0.3 * (
        F.cross_entropy(first, targets) + F.cross_entropy(second, targets)
    )
    expected.backward()
    slope, images.grad = images.grad, None
    outputs = ours.train()(images)
    assert isinstance(outputs, Outputs)
    assert list(outputs.aux) == ["inception_4a", "inception_4d"]
    for mine, their in zip((outputs.logits, *outputs.aux.values()), (main, first, second), strict=True):
        assert relative(mine, their) < TOLERANCE
    loss = ours.loss(outputs, targets)
    assert relative(loss, expected) < TOLERANCE
    loss.backward()
    assert images.grad is not None
    assert slope is not None
    assert relative(images.grad, slope) < TOLERANCE

    # Gradients, and the statistics that training moved, travel through the same renaming as weights.
    wanted = without_dropout("googlenet_torchvision", input_size=side, **changes)
    slopes = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    load_reference(wanted, {**theirs.state_dict(), **slopes})
    named = dict(wanted.named_parameters())
    for key, parameter in ours.named_parameters():
        assert parameter.grad is not None, key
        assert relative(parameter.grad, named[key]) < TOLERANCE, key
    for key, value in ours.named_buffers():
        if "running" in key:
            torch.testing.assert_close(value, dict(wanted.named_buffers())[key], rtol=1e-12, atol=1e-12)


def test_auxiliary_classifiers_may_be_missing_on_either_side():
    full = torchvisions().state_dict()
    bare = {key: value for key, value in full.items() if not key.startswith("aux")}
    for auxiliary, state in ((True, bare), (False, full)):
        fit = load_reference(without_dropout("googlenet_torchvision", auxiliary=auxiliary), state)
        assert fit.complete
        assert fit.no_auxiliary


# The layers of Caffe's bvlc_googlenet: what its train_val.prototxt says, by its names.
MODULES = {
    "3a": (192, (64, 96, 128, 16, 32, 32)),
    "3b": (256, (128, 128, 192, 32, 96, 64)),
    "4a": (480, (192, 96, 208, 16, 48, 64)),
    "4b": (512, (160, 112, 224, 24, 64, 64)),
    "4c": (512, (128, 128, 256, 24, 64, 64)),
    "4d": (512, (112, 144, 288, 32, 64, 64)),
    "4e": (528, (256, 160, 320, 32, 128, 128)),
    "5a": (832, (256, 160, 320, 32, 128, 128)),
    "5b": (832, (384, 192, 384, 48, 128, 128)),
}


def caffe_state() -> dict[str, Tensor]:
    shapes = {"conv1/7x7_s2": (64, 3, 7, 7), "conv2/3x3_reduce": (64, 64, 1, 1), "conv2/3x3": (192, 64, 3, 3)}
    for module, (channels, (one, reduce3, three, reduce5, five, pool)) in MODULES.items():
        shapes |= {
            f"inception_{module}/1x1": (one, channels, 1, 1),
            f"inception_{module}/3x3_reduce": (reduce3, channels, 1, 1),
            f"inception_{module}/3x3": (three, reduce3, 3, 3),
            f"inception_{module}/5x5_reduce": (reduce5, channels, 1, 1),
            f"inception_{module}/5x5": (five, reduce5, 5, 5),
            f"inception_{module}/pool_proj": (pool, channels, 1, 1),
        }
    for loss, channels in (("loss1", 512), ("loss2", 528)):
        shapes |= {f"{loss}/conv": (128, channels, 1, 1), f"{loss}/fc": (1024, 2048), f"{loss}/classifier": (5, 1024)}
    shapes["loss3/classifier"] = (5, 1024)
    state = {}
    for name, shape in shapes.items():
        weight = torch.randn(shape, dtype=torch.float64)
        state[f"{name}.weight"] = weight * (2 / weight[0].numel()) ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[0], dtype=torch.float64)  # and large inputs: LRN has work to do
    return state


def caffe_forward(state: dict[str, Tensor], data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """loss1, loss2 and loss3 before their softmax, without dropout."""

    def conv(name: str, maps: Tensor, **how: int) -> Tensor:
        return F.relu(F.conv2d(maps, state[f"{name}.weight"], state[f"{name}.bias"], **how))

    def dense(name: str, units: Tensor) -> Tensor:
        return F.linear(units, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(maps: Tensor) -> Tensor:
        return F.local_response_norm(maps, size=5, alpha=1e-4, beta=0.75, k=1.0)  # divides alpha by size, as Caffe does

    def halve(maps: Tensor) -> Tensor:
        return F.max_pool2d(maps, 3, stride=2, ceil_mode=True)  # Caffe's only mode

    def auxiliary(name: str, maps: Tensor) -> Tensor:
        maps = conv(f"{name}/conv", F.avg_pool2d(maps, 5, stride=3))
        return dense(f"{name}/classifier", F.relu(dense(f"{name}/fc", maps.flatten(1))))

    maps = norm(halve(conv("conv1/7x7_s2", data, stride=2, padding=3)))
    maps = halve(norm(conv("conv2/3x3", conv("conv2/3x3_reduce", maps), padding=1)))
    losses = []
    for module in MODULES:
        if module in ("4a", "5a"):
            maps = halve(maps)
        name = f"inception_{module}"
        branches = [
            conv(f"{name}/1x1", maps),
            conv(f"{name}/3x3", conv(f"{name}/3x3_reduce", maps), padding=1),
            conv(f"{name}/5x5", conv(f"{name}/5x5_reduce", maps), padding=2),
            conv(f"{name}/pool_proj", F.max_pool2d(maps, 3, stride=1, padding=1)),
        ]
        maps = torch.cat(branches, 1)
        if module in ("4a", "4d"):
            losses.append(auxiliary(f"loss{len(losses) + 1}", maps))
    return losses[0], losses[1], dense("loss3/classifier", F.avg_pool2d(maps, 7).flatten(1))


def test_caffes_files_give_what_its_layers_give():
    torch.manual_seed(0)
    state = caffe_state()
    ours = without_dropout("googlenet", input_size=224)
    fit = load_reference(ours, state)
    assert fit.complete
    assert not fit.no_auxiliary
    assert fit.naming.publisher == "caffe"
    assert fit.naming.input == CAFFE
    data = 60 * torch.randn(1, 3, 224, 224, dtype=torch.float64)  # 0 to 255 minus the mean
    with torch.no_grad():
        first, second, main = caffe_forward(state, data)
        outputs = ours.train()(data)
    assert relative(outputs.logits, main) < TOLERANCE
    assert relative(outputs.aux["inception_4a"], first) < TOLERANCE
    assert relative(outputs.aux["inception_4d"], second) < TOLERANCE
