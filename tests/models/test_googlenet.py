"""GoogLeNet and BN-Inception: what sections G and H of the methods say of them, their geometry, and that they learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from striate.errors import ModelError
from striate.models import Outputs, create_model, family_class
from striate.models.blocks import make_block
from striate.models.bn_inception import HalvingMaxPool
from striate.models.googlenet import AverageTo, Inception
from striate.models.registry import find_entry

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos" / "train"


def test_the_pool_branch_keeps_size_and_depth():
    """M046: 3x3 max pooling at stride 1 with padding 1."""
    pool = make_block("inception_naive").get_submodule("branch3")
    maps = torch.randn(2, 256, 28, 28)
    pooled = pool(maps)
    assert pooled.shape == maps.shape
    assert (pooled >= maps).all()


def test_the_module_concatenates_several_scales():
    """M117, M126: depths add up; the branches see 1, 3, 5 and 3 pixels, and sizes that differ are refused."""
    block = make_block("inception_reduced", 8).double()
    images = torch.randn(1, 8, 9, 9, dtype=torch.float64)
    parts = block(images).split([128, 192, 96, 64], dim=1)
    assert sum(part.shape[1] for part in parts) == block.channels == 480
    assert all(torch.equal(part, branch(images)) for part, branch in zip(parts, block.children(), strict=True))
    seen = []
    for branch in block.children():
        linear = [
            nn.AvgPool2d(3, 1, 1) if isinstance(module, nn.MaxPool2d) else module  # all of its window counts
            for module in branch.modules()
            if isinstance(module, nn.Conv2d | nn.MaxPool2d)
        ]
        image = torch.randn(1, 8, 9, 9, dtype=torch.float64, requires_grad=True)
        nn.Sequential(*linear)(image)[0, :, 4, 4].sum().backward()
        assert image.grad is not None
        touched = image.grad[0].abs().sum(0).nonzero()
        seen.append(int(touched[:, 0].max() - touched[:, 0].min()) + 1)
    assert seen == [1, 3, 5, 3]
    block.branch1.b_3x3.conv.padding = (0, 0)
    with pytest.raises(RuntimeError, match=r"[Ss]izes of tensors must match"):
        block(images)


def test_a_reduction_is_a_factorised_convolution():
    """M127: 1x1 then 3x3 is one 3x3 of low rank where nothing bends between them, and is not where ReLU does."""
    torch.manual_seed(0)
    branch = make_block("inception_reduced", 100).branch1.double()
    reduce, spatial = branch.a_1x1, branch.b_3x3
    nn.init.zeros_(reduce.conv.bias)  # a constant would be cut off at the border
    images = torch.randn(2, 100, 7, 7, dtype=torch.float64)
    whole = torch.einsum("orhw,ri->oihw", spatial.conv.weight, reduce.conv.weight[:, :, 0, 0])
    expected = F.conv2d(images, whole, spatial.conv.bias, padding=1)
    torch.testing.assert_close(spatial.conv(reduce.conv(images)), expected)
    assert torch.linalg.matrix_rank(whole[:, :, 1, 1].detach()) == 64 < 100
    assert not torch.allclose(spatial.conv(reduce(images)), expected)


def test_evaluation_does_not_depend_on_the_auxiliary_classifiers():
    """M088, and the loss: main + 0.3 (auxiliary 1 + auxiliary 2)."""
    torch.manual_seed(0)
    model = create_model("googlenet", classes=4, input_size=48, dropout=0.0, auxiliary_dropout=0.0)
    bare = create_model("googlenet", classes=4, input_size=48, auxiliary=False)
    assert not len(bare.auxiliary)
    bare.load_state_dict({key: value for key, value in model.state_dict().items() if not key.startswith("auxiliary.")})
    images, targets = torch.randn(3, 3, 48, 48), torch.tensor([0, 1, 3])
    logits = model.eval()(images)
    assert torch.equal(logits, bare.eval()(images))
    with torch.no_grad():
        for parameter in model.auxiliary.parameters():
            parameter.normal_()
    assert torch.equal(logits, model(images))
    outputs = model.train()(images)
    assert isinstance(outputs, Outputs)
    first, second = (F.cross_entropy(one, targets) for one in outputs.aux.values())
    expected = F.cross_entropy(outputs.logits, targets) + 0.3 * (first + second)
    torch.testing.assert_close(model.loss(outputs, targets), expected)


def test_stem_and_stages_have_the_papers_maps():
    """M119 and table 1: 28x28x192 from the stem, nine modules, 7x7x1024 at the end."""
    with torch.device("meta"):
        model = create_model("googlenet", start=False).eval()
        maps = model.stem(torch.empty(1, 3, 224, 224))
    assert maps.shape[1:] == (192, 28, 28)
    assert sum(isinstance(stage, Inception) for stage in model.stages) == 9
    shapes = {}
    for name, stage in model.stages.named_children():
        maps = stage(maps)
        shapes[name] = tuple(maps.shape[1:])
    assert shapes == {
        "inception_3a": (256, 28, 28),
        "inception_3b": (480, 28, 28),
        "pool3": (480, 14, 14),
        "inception_4a": (512, 14, 14),
        "inception_4b": (512, 14, 14),
        "inception_4c": (512, 14, 14),
        "inception_4d": (528, 14, 14),
        "inception_4e": (832, 14, 14),
        "pool4": (832, 7, 7),
        "inception_5a": (832, 7, 7),
        "inception_5b": (1024, 7, 7),
    }


def test_auxiliary_pooling_is_the_papers_at_its_size_and_works_at_any():
    """5x5/3 on 14x14. Adaptive pooling, torchvision's, takes windows of 4 there: not the same."""
    maps = torch.randn(2, 3, 14, 14)
    assert torch.equal(AverageTo(4)(maps), F.avg_pool2d(maps, 5, 3))
    assert not torch.allclose(F.adaptive_avg_pool2d(maps, 4), F.avg_pool2d(maps, 5, 3))
    for height in range(1, 24):
        for width in (1, 5, 14):
            pooled = AverageTo(4)(torch.full((1, 1, height, width), 3.0))
            assert pooled.shape == (1, 1, 4, 4)
            assert torch.equal(pooled, torch.full_like(pooled, 3.0))


@pytest.mark.parametrize("name", ["googlenet", "googlenet_torchvision", "bn_inception"])
def test_the_last_side_at_every_size(name):
    config = family_class(find_entry(name)).config_type(**find_entry(name).config)
    family = family_class(find_entry(name))
    with torch.device("meta"):
        model = create_model(name, start=False).eval()
        smallest = family.smallest_size(config)
        for side in (smallest, smallest + 1, 33, 36, 47, 48, 63, 64, 65, 99):
            assert model.features(torch.empty(1, 3, side, 67)).shape[2] == family.last_side(config, side), side


@pytest.mark.parametrize("side", [1, 2, 7, 14, 17, 28])
def test_halving_is_tensorflows_same(side):
    """SAME: ceil(side / 2) windows, the padding split with the larger part at the end."""
    maps = torch.randn(1, 2, side, 28)
    found = HalvingMaxPool()(maps)
    total = max(2 * (-(-side // 2) - 1) + 3 - side, 0)
    padded = F.pad(maps, (0, 1, total // 2, total - total // 2), value=-torch.inf)
    assert torch.equal(found, F.max_pool2d(padded, 3, 2))
    assert found.shape[2] == -(-side // 2)


def test_normalisation_stands_where_its_paper_puts_it():
    """LRN twice in the stem; batch normalisation after every convolution, whose bias it makes superfluous."""
    published = create_model("googlenet", start=False)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in published.modules())
    assert (published.stem.norm1.k, published.stem.norm1.alpha) == (1.0, 1e-4 / 5)
    maps = 100 * torch.randn(2, 64, 3, 3)
    torch.testing.assert_close(published.stem.norm1(maps), nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)(maps))
    batch = create_model("googlenet", normalization="batch", start=False)
    convolutions = [module for module in batch.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == sum(isinstance(module, nn.BatchNorm2d) for module in batch.modules()) == 59
    assert all(module.bias is None for module in convolutions)
    assert type(batch.stem.norm1) is type(batch.stem.norm2) is nn.Identity


def test_the_start_is_caffes():
    """Uniform with variance 1 / fan-in; biases 0.2, those of the three classifiers 0."""
    torch.manual_seed(0)
    model = create_model("googlenet")
    weight = model.stages.inception_4d.branch1.b_3x3.conv.weight.detach()
    bound = (3 / (144 * 9)) ** 0.5
    assert float(weight.abs().max()) == pytest.approx(bound, rel=1e-3)
    assert float(weight.var()) == pytest.approx(1 / (144 * 9), rel=0.02)
    biases = {name: set(value.tolist()) for name, value in model.named_parameters() if name.endswith("bias")}
    zero = {name for name, values in biases.items() if values == {0.0}}
    assert zero == {
        "head.linear.bias",
        "auxiliary.inception_4a.classifier.bias",
        "auxiliary.inception_4d.classifier.bias",
    }
    assert all(list(values) == pytest.approx([0.2]) for name, values in biases.items() if name not in zero)


def test_choices_that_do_not_exist():
    with pytest.raises(ModelError, match="no wide kernel 7"):
        create_model("googlenet", wide_kernel=7)
    with pytest.raises(ModelError, match="no stem 'depthwise'"):
        create_model("bn_inception", stem="depthwise")
    assert create_model("inception_v1", start=False).architecture.name == "googlenet"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "googlenet_torchvision"])
def test_a_training_step_at_the_papers_size_moves_every_head(name):
    torch.manual_seed(0)
    model = create_model(name).train()
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss = model.loss(model(torch.randn(2, 3, 224, 224)), torch.tensor([3, 5]))
    loss.backward()
    optimizer.step()
    for key, parameter in model.named_parameters():
        assert parameter.isfinite().all(), key
        assert not torch.equal(parameter, before[key]), key


def some_photos(classes: int, each: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    folders = sorted(folder for folder in PHOTOS.iterdir() if folder.is_dir())[:classes]
    images, targets = [], []
    for target, folder in enumerate(folders):
        for file in sorted(folder.iterdir())[:each]:
            pixels = np.asarray(Image.open(file).convert("RGB").resize((side, side)))
            images.append(torch.tensor(pixels).permute(2, 0, 1).float() / 127.5 - 1)
            targets.append(target)
    return torch.stack(images), torch.tensor(targets)


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the sample photos are not here")
@pytest.mark.parametrize(
    ("name", "rate", "steps"),
    [("googlenet", 3e-4, 40), ("googlenet_torchvision", 1e-3, 10), ("bn_inception", 1e-3, 10)],
)
def test_photos_are_learnt(name, rate, steps):
    """Sixteen photos of four classes at 48 pixels: the loss of every head falls below a fifth of that of guessing."""
    torch.manual_seed(0)
    images, targets = some_photos(4, 4, 48)
    changes = {} if name == "bn_inception" else {"auxiliary_dropout": 0.0}
    model = create_model(name, classes=4, input_size=48, dropout=0.0, **changes).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(model(images), targets).backward()
        optimizer.step()
    outputs = model(images)
    assert isinstance(outputs, Outputs) == bool(len(model.auxiliary))
    heads = [outputs.logits, *outputs.aux.values()] if isinstance(outputs, Outputs) else [outputs]
    assert len(heads) == 1 + len(model.auxiliary)
    for logits in heads:
        assert F.cross_entropy(logits, targets) < np.log(4) / 5
