"""Crops and dense views against references written plainly: Pillow resizes the image, loops cut, means are taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import striate.data.images
from striate.checkpoint import SavedModel
from striate.data import Split, load_data
from striate.data.images import DecodedImages
from striate.data.scaled import scaled
from striate.errors import ModelError, UnknownNameError, UsageError
from striate.evaluation import evaluate, evaluate_run
from striate.evaluation.protocols import VIEWS, answers, check_views
from striate.evaluation.protocols.crops import crops_of
from striate.evaluation.protocols.dense import Dense
from striate.models import create_model
from striate.options import DataOptions, TrainOptions, merged
from striate.spec import InputSpec, Labels
from striate.training import train

CPU = torch.device("cpu")
SIDE = 28
SPEC = InputSpec(size=(SIDE, SIDE), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.2), crop_fraction=0.875)
SHORT = {"ten-crop": [32], "multi-scale": [28, 32, 48, 60, 80], "144-crop": [32, 36, 40, 44], "dense": [32, 48, 64]}
SIZES = [(50, 70), (64, 41), (33, 33), (28, 28), (90, 30)]  # height, width
CROPS = ("ten-crop", "multi-scale", "144-crop")


def photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize(
        (size[1], size[0]), Image.Resampling.BICUBIC
    )
    return (0.8 * np.asarray(coarse) + 0.2 * rng.integers(0, 256, (*size, 3))).astype(np.uint8)


def split_of(images: list[np.ndarray]) -> Split:
    targets = np.arange(len(images)) % 3
    return Split(name="test", targets=targets, paths=[str(n) for n in targets], images=DecodedImages(images))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return create_model("compact_s", in_channels=3, input_size=SIDE, classes=3).eval()


# the references -------------------------------------------------------------------------------------------------------


def resized(image: np.ndarray, short: int) -> Image.Image:
    height, width = image.shape[:2]
    scale = short / min(height, width)
    size = (round(width * scale), round(height * scale))
    return Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)


def five(image: Image.Image) -> list[Image.Image]:
    width, height = image.size
    right, bottom = width - SIDE, height - SIDE
    places = [(0, 0), (right, 0), (0, bottom), (right, bottom), (right // 2, bottom // 2)]
    return [image.crop((left, top, left + SIDE, top + SIDE)) for left, top in places]


def middle(image: Image.Image, side: int) -> Image.Image:
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def squares(image: Image.Image, side: int) -> list[Image.Image]:
    right, bottom = image.width - side, image.height - side
    return [
        image.crop((0, 0, side, side)),
        middle(image, side),
        image.crop((right, bottom, right + side, bottom + side)),
    ]


def reference_crops(image: np.ndarray, views: str) -> list[Image.Image]:
    found = []
    for short in SHORT[views]:
        whole = resized(image, short)
        for side in (whole, whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
            if views == "ten-crop":
                found += five(middle(side, short))
            elif views == "multi-scale":
                found += five(side)
            else:
                for square in squares(side, short):
                    found += [*five(square), square.resize((SIDE, SIDE), Image.Resampling.BILINEAR)]
    return found


def as_input(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.asarray(image) / 255).permute(2, 0, 1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (SPEC.mean, SPEC.std))
    return ((pixels - mean) / std).float()[None]


@torch.inference_mode()
def reference_answer(network, image: np.ndarray, views: str) -> torch.Tensor:
    """The mean probabilities [classes], one pass a crop."""
    chances = [network(as_input(crop)).softmax(1)[0] for crop in reference_crops(image, views)]
    assert len(chances) == VIEWS[views]
    return torch.stack(chances).mean(0)


# crops ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", CROPS)
def test_crops_are_the_papers_averaged_in_probabilities(network, views):
    images = [photo(size, seed) for seed, size in enumerate(SIZES)]
    given, targets, indices = answers(
        network, split_of(images), SPEC, views, batch_size=13, device=CPU, precision="fp32"
    )
    expected = torch.stack([reference_answer(network, image, views) for image in images])
    torch.testing.assert_close(given.exp(), expected, atol=2e-5, rtol=1e-4)
    assert targets.tolist() == [0, 1, 2, 0, 1]
    assert indices.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("views", CROPS)
@pytest.mark.parametrize("size", SIZES)
def test_crops_are_pillows_to_the_byte(views, size):
    image = photo(size)
    counted: dict[bytes, int] = {}
    for pixels, count in crops_of(image, SPEC, views):
        key = np.moveaxis(pixels, 0, 2).tobytes()
        counted[key] = counted.get(key, 0) + count
    expected: dict[bytes, int] = {}
    for crop in reference_crops(image, views):
        expected[crop.tobytes()] = expected.get(crop.tobytes(), 0) + 1
    assert counted == expected
    assert sum(counted.values()) == VIEWS[views]


def test_ten_crop_of_photos_for_224_takes_256_in_the_middle():
    spec = InputSpec(size=(224, 224), channels=3)  # a network that was trained without a margin
    image = photo((300, 451))
    whole = np.asarray(Image.fromarray(image).resize((385, 256), Image.Resampling.BILINEAR))
    crops = [np.moveaxis(pixels, 0, 2) for pixels, _ in crops_of(image, spec, "ten-crop")]
    places = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    expected = [
        side[:, 64:320][top : top + 224, left : left + 224] for side in (whole, whole[:, ::-1]) for top, left in places
    ]
    np.testing.assert_array_equal(crops, expected)


@pytest.mark.parametrize("views", [*CROPS, "dense"])
@pytest.mark.parametrize("side", [28, 27])  # of which the second leaves margins of odd width
def test_an_image_and_its_mirror_image_are_answered_alike(network, views, side):
    spec = InputSpec(size=(side, side), channels=3, crop_fraction=0.875)
    images = [photo(size, seed) for seed, size in enumerate(SIZES)]
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
    one, other = (
        answers(network, split_of(some), spec, views, batch_size=64, device=CPU, precision="fp32")[0]
        for some in (images, mirrored)
    )
    torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("views", ["ten-crop", "144-crop", "dense"])
@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_every_image_once_whatever_the_batch_size(network, views, batch_size):
    images = [photo(SIZES[number % 3], number) for number in range(4)]
    saved = SavedModel(model=network, spec=SPEC, labels=Labels(("ant", "bee", "cow")))
    usual = evaluate(saved, split_of(images), views=views, device="cpu", batch_size=32)
    other = evaluate(saved, split_of(images), views=views, device="cpu", batch_size=batch_size)
    assert other.scores.n == 4
    assert other.predictions["path"].to_pylist() == usual.predictions["path"].to_pylist()
    assert other.scores.loss == pytest.approx(usual.scores.loss, rel=1e-4)


def test_memory_is_bounded_by_the_batch(network):
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            seen.append(len(batch))
            return network(batch)

    images = [photo((50, 70), number) for number in range(3)]
    answers(network, split_of(images), SPEC, "144-crop", batch_size=16, device=CPU, precision="fp32", asked=Watched())
    assert sum(seen) == 3 * 144
    assert set(seen) == {16}


def test_each_file_is_decoded_once_for_all_its_crops(network, tmp_path, monkeypatch):
    for label in ("ant", "bee", "cow"):
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.fromarray(photo((70, 90), number)).save(tmp_path / label / f"{number}.jpg")
    dataset = load_data(DataOptions(data=str(tmp_path)), scoring=True)
    read = []
    decode = striate.data.images.decode_bytes
    monkeypatch.setattr(striate.data.images, "decode_bytes", lambda *given: read.append(given[1]) or decode(*given))
    for split in dataset.splits.values():
        saved = SavedModel(model=network, spec=SPEC, labels=dataset.labels)
        result = evaluate(saved, split, views="multi-scale", device="cpu")
        assert result.scores.n == 9
    assert len(read) == len(set(read))


@pytest.mark.parametrize("resize", ["squash", "letterbox"])
def test_other_resize_rules_make_larger_versions_of_their_own(network, resize):
    spec = InputSpec(size=(SIDE, SIDE), channels=3, resize=resize)
    canvas = striate.data.fit(photo((50, 70)), InputSpec(size=(32, 32), channels=3, resize=resize))
    crops = [pixels for pixels, _ in crops_of(photo((50, 70)), spec, "ten-crop")]
    np.testing.assert_array_equal(crops[0], canvas[:, :SIDE, :SIDE])
    np.testing.assert_array_equal(crops[3], canvas[:, 4:, 4:])
    assert f"{resize} to 32" in check_views("ten-crop", network, spec)


@pytest.mark.parametrize(("size", "side", "place"), [((50, 70), 70, (0, 10)), ((20, 16), SIDE, (6, 4))])
def test_images_with_a_border_grow_with_it(size, side, place):
    image = photo(size)
    bordered = Image.new("RGB", (side, side))
    bordered.paste(Image.fromarray(image), place)
    larger = bordered.resize((48, 48), Image.Resampling.BILINEAR)
    pixels = scaled(image, (48, 48), InputSpec(size=(SIDE, SIDE), channels=3, resize="pad"))
    np.testing.assert_array_equal(np.moveaxis(pixels, 0, 2), np.asarray(larger))


def test_grey_and_16_bits_are_cropped_as_they_are_stored():
    image = (photo((50, 70))[..., :1].astype(np.uint16) << 8) + 3
    spec = InputSpec(size=(SIDE, SIDE), channels=1, bits=16)
    for views in CROPS:
        crops = crops_of(image, spec, views)
        assert {pixels.dtype for pixels, _ in crops} == {np.dtype(np.int32)}
        assert {pixels.shape for pixels, _ in crops} == {(1, SIDE, SIDE)}
        assert max(int(pixels.max()) for pixels, _ in crops) > 255


def test_outputs_that_are_no_logits_are_averaged_themselves():
    torch.manual_seed(0)
    network = create_model("lenet5_1998", input_size=32).eval()  # minus distances
    spec = InputSpec(size=(32, 32), channels=1, crop_fraction=0.875)
    images = [photo((50, 70))[..., :1], photo((44, 37))[..., :1]]
    given = answers(network, split_of(images), spec, "ten-crop", batch_size=4, device=CPU, precision="fp32")[0]
    for image, row in zip(images, given, strict=True):
        crops = [
            (torch.from_numpy(np.ascontiguousarray(pixels)) / 255 - 0.5) / 0.5
            for pixels, _ in crops_of(image, spec, "ten-crop")
        ]
        with torch.inference_mode():
            torch.testing.assert_close(row, network(torch.stack(crops)).mean(0), rtol=1e-4, atol=1e-3)
    assert "outputs averaged" in check_views("ten-crop", network, spec)


# dense ----------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def reference_dense(class_map, image: np.ndarray, short_sides: list[int]) -> torch.Tensor:
    """`class_map` of the image and its mirror image, averaged over places, then over all in probabilities."""
    wholes = [resized(image, short) for short in short_sides]
    sides = [side for whole in wholes for side in (whole, whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT))]
    return torch.stack([class_map(as_input(side)).mean((2, 3)).softmax(1)[0] for side in sides]).mean(0)


def test_dense_is_the_network_with_its_layers_turned_into_convolutions():
    torch.manual_seed(0)
    network = create_model("vgg_a", widths=(8, 8, 16, 16, 16), hidden=32, input_size=64, classes=3).eval()
    spec = InputSpec(size=(64, 64), channels=3, mean=SPEC.mean, std=SPEC.std)
    fc6, fc7, fc8 = (module for module in network.head.modules() if isinstance(module, torch.nn.Linear))

    def convolution(layer: torch.nn.Linear, maps: torch.Tensor, kernel: tuple[int, int]) -> torch.Tensor:
        weight = layer.weight.reshape(len(layer.weight), -1, *kernel)
        return torch.nn.functional.conv2d(maps, weight, layer.bias)

    def class_map(batch: torch.Tensor) -> torch.Tensor:
        units = convolution(fc6, network.features(batch), (2, 2)).relu()
        return convolution(fc8, convolution(fc7, units, (1, 1)).relu(), (1, 1))

    image = photo((150, 200))
    given = answers(network, split_of([image]), spec, "dense", batch_size=2, device=CPU, precision="fp32")[0]
    torch.testing.assert_close(given[0].exp(), reference_dense(class_map, image, [73, 110, 146]), rtol=1e-3, atol=1e-5)


def test_heads_that_pool_whole_maps_take_larger_ones_as_they_are(network):
    images = [photo(size, seed) for seed, size in enumerate(SIZES)]
    given = answers(network, split_of(images), SPEC, "dense", batch_size=3, device=CPU, precision="fp32")[0]
    expected = [
        reference_dense(lambda batch: network(batch)[..., None, None], image, SHORT["dense"]) for image in images
    ]
    torch.testing.assert_close(given.exp(), torch.stack(expected), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["lenet5_dense", "lenet5_1998"])
def test_without_borders_dense_is_the_sliding_of_crops(name):
    torch.manual_seed(0)
    network = create_model(name, input_size=32).eval()
    images = torch.randn(2, 1, 44, 36)
    with torch.inference_mode():
        crops = [  # LeNet-5's layers have no borders; its places are 4 pixels apart
            network(images[:, :, top : top + 32, left : left + 32])
            for top in range(0, 13, 4)
            for left in range(0, 5, 4)
        ]
        given = Dense(network, (32, 32))(images)
        torch.testing.assert_close(given, torch.stack(crops).mean(0), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(Dense(network, (32, 32))(images[..., :32, :32]), network(images[..., :32, :32]))


@pytest.mark.parametrize(
    ("name", "side"),
    [("squeezenet1_1", 64), ("cifar_resnet20", 32), ("nin_cifar", 32), ("lecun1989_net2", 16), ("vgg_a", 40)],
)
def test_at_its_own_size_dense_is_the_network(name, side):
    torch.manual_seed(0)
    small = {"widths": (8, 8, 16, 16, 16), "hidden": 32} if name == "vgg_a" else {}
    network = create_model(name, input_size=side, **small).eval()
    images = torch.randn(2, network.architecture.in_channels, side, side)
    with torch.inference_mode():
        torch.testing.assert_close(Dense(network, (side, side))(images), network(images))


def test_of_long_strips_the_middle_is_shown():
    image = photo((30, 400))
    whole = np.asarray(resized(image, 60))  # 800 pixels wide
    pixels = scaled(image, (60, 60), SPEC)
    assert pixels.shape == (3, 60, 240)
    np.testing.assert_allclose(np.moveaxis(pixels, 0, 2), whole[:, 280:520], atol=1)


def test_dense_is_refused_where_layers_are_tied_to_a_size():
    network = create_model("lenet_1989_zip", input_size=16)
    spec = InputSpec(size=(16, 16), channels=1)
    with pytest.raises(ModelError, match="lenet_1989_zip takes images of 16x16 pixels only") as caught:
        check_views("dense", network, spec)
    assert "ten-crop" in (caught.value.hint or "")
    assert check_views("ten-crop", network, spec).startswith("10 crops")


def test_dense_is_torchs_alone_and_names_are_checked(network):
    with pytest.raises(UsageError, match="own input size only"):
        check_views("dense", network, SPEC, backend="openvino")
    check_views("ten-crop", network, SPEC, backend="openvino")
    with pytest.raises(UnknownNameError, match="eleven"):
        check_views("eleven", network, SPEC)


def test_a_view_that_the_network_does_not_allow_is_no_training(tmp_path):
    sections = {
        "data": {"data": "digits", "limit": 64},
        "model": {"model": "lenet_1989_zip"},
        "schedule": {"epochs": 1},
        "training": {"run_dir": str(tmp_path / "run")},
        "evaluate": {"views": "dense"},
        "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
    }
    with pytest.raises(ModelError, match="dense views"):
        train(merged(TrainOptions(), sections))
    assert not (tmp_path / "run").exists()


def test_views_of_a_run_and_what_computes_them(tmp_path):
    sections = {
        "data": {"data": "digits", "limit": 64},
        "model": {"model": "compact_s"},
        "schedule": {"epochs": 1},
        "training": {"run_dir": str(tmp_path / "run")},
        "evaluate": {"views": "ten-crop"},
        "runtime": {"device": "cpu", "precision": "fp32", "threads": 1},
    }
    trained = train(merged(TrainOptions(), sections))
    again = evaluate_run(tmp_path / "run", views="ten-crop")
    assert again.protocol == trained.protocol
    assert again.protocol.startswith("10 crops of")
    assert trained.val is not None
    assert again.scores.loss == pytest.approx(trained.val.loss, rel=1e-5)
    dense = evaluate_run(tmp_path / "run", views="dense")
    assert dense.engine is not None
    assert dense.engine["backend"] == "torch"
    assert "dense views" in dense.engine["why"]
    with pytest.raises(UsageError, match="openvino"):
        evaluate_run(tmp_path / "run", views="dense", backend="openvino")
