"""Images as Python code hands them over, and their codes as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import striate
from striate.checkpoint import SavedModel, load_model, save_model
from striate.data import PhotoImages, TensorImages, decode, fit, load_data, normalise
from striate.errors import DataError, ModelError, UnreadableImageError, UsageError
from striate.models import create_model
from striate.models.cut import places, pooled_codes
from striate.spec import InputSpec, Labels
from striate.transfer.handed import checked_range, split_of, value_range_of

SPEC = InputSpec(size=(16, 16), channels=3, mean=(0.4,), std=(0.3,))


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    torch.manual_seed(3)
    model = create_model("compact_s", classes=2, in_channels=3, input_size=16)
    with torch.no_grad():
        model.train()(torch.randn(32, 3, 16, 16))  # statistics of batch norm that are not those of the start
    save_model(path, model, SPEC, Labels(("a", "b")))
    return path


@pytest.fixture
def saved(model_file) -> SavedModel:
    return load_model(model_file)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)


@pytest.fixture
def files(pixels, tmp_path) -> list[Path]:
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(len(pixels))]
    paths[0].parent.mkdir()
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths


def taken(images, spec=SPEC, **reading) -> np.ndarray:
    split = split_of(images, **reading)
    return split.images.take(np.arange(len(split)), spec).numpy()


def by_hand(saved: SavedModel, pixels: np.ndarray) -> dict[str, np.ndarray]:
    stored = torch.from_numpy(np.stack([fit(image, saved.spec) for image in pixels]))
    with torch.inference_mode():
        return {name: one.numpy() for name, one in pooled_codes(saved.model, normalise(stored, saved.spec)).items()}


# reading --------------------------------------------------------------------------------------------------------------


def test_whatever_holds_the_same_pixels_is_read_alike(pixels, files):
    expected = np.moveaxis(pixels, -1, 1)
    in_hand = [Image.fromarray(image) for image in pixels]
    mixed = [str(files[0]), pixels[1], in_hand[2], files[3].read_bytes(), files[4], pixels[5]]
    for images in (pixels, list(pixels), in_hand, files, [str(path) for path in files], files[0].parent, mixed):
        assert np.array_equal(taken(images), expected)
    assert np.array_equal(taken(np.array([str(path) for path in files])), expected)
    assert np.array_equal(taken(np.array([[str(path)] for path in files], dtype=object)), expected)
    assert np.array_equal(taken(pixels.reshape(6, -1), image_shape=(16, 16, 3)), expected)


def test_images_of_different_sizes_are_resized_one_by_one(pixels):
    images = [pixels[0], pixels[1][:9, :12], Image.fromarray(pixels[2][:, :, 0])]
    split = split_of(images)
    assert (split.images.channels, split.images.sizes.tolist()) == (3, [[16, 16], [9, 12], [16, 16]])
    assert np.array_equal(taken(images), np.stack([fit(decode(image), SPEC) for image in images]))


def test_files_are_files_and_arrays_are_arrays(pixels, files):
    assert isinstance(split_of(files).images, PhotoImages)
    assert isinstance(split_of(pixels).images, TensorImages)
    assert split_of(files).paths == [str(path) for path in files]


@pytest.mark.parametrize(("length", "side"), [(1, 1), (4, 2), (5, 3), (64, 8), (65, 9)])
def test_rows_fill_the_smallest_square_from_the_top(length, side):
    rows = np.arange(1, 2 * length + 1, dtype=np.uint8).reshape(2, length)
    images = split_of(rows).images.pixels
    assert images.shape == (2, 1, side, side)
    flat = images.reshape(2, -1)
    assert np.array_equal(flat[:, :length], rows)
    assert not flat[:, length:].any()


def test_rows_of_another_length_are_refused():
    with pytest.raises(DataError, match="rows of 12 numbers are no images of 3 × 3"):
        split_of(np.zeros((2, 12)), image_shape=(3, 3))
    with pytest.raises(UsageError, match="image_shape"):
        split_of(np.zeros((2, 12)), image_shape=(12,))


def test_numbers_that_are_no_pixels_need_a_range():
    rows = np.array([[0.0, 8.0], [16.0, 20.0]])
    with pytest.raises(DataError, match="from 0 to 20") as caught:
        split_of(rows)
    assert "value_range" in str(caught.value.hint)
    images = split_of(rows, image_shape=(1, 2), value_range=(0, 16)).images.pixels
    assert images.ravel().tolist() == [0, 32768, 65535, 65535]  # beyond the range is white
    with pytest.raises(DataError, match="NaN"):
        split_of(np.array([[0.0, np.nan]]), value_range=(0, 1))


def test_the_type_says_what_is_white_or_the_numbers_do():
    assert checked_range([0, 16]) == (0.0, 16.0)
    for wrong in ((16, 0), (5, 5), (0, float("nan")), (1,), "ab"):
        with pytest.raises(UsageError, match="value_range = "):
            checked_range(wrong)
    assert value_range_of(np.zeros((1, 2), np.uint8)) is None
    assert value_range_of(np.zeros((1, 2), bool)) is None
    assert value_range_of(np.array([[0.2, 0.7]])) == (0.0, 1.0)
    assert value_range_of(np.array([[-3, 12]])) == (-3.0, 12.0)


def test_what_holds_no_images_is_refused(tmp_path, files):
    with pytest.raises(DataError, match="no images"):
        split_of([])
    with pytest.raises(DataError, match="no images"):
        split_of(np.zeros((0, 4, 4)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder without images"):
        split_of(tmp_path / "empty")
    with pytest.raises(DataError, match="channels") as caught:
        split_of(np.zeros((2, 3, 8, 8), np.uint8))
    assert "channels come last" in str(caught.value.hint)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"broken\.png"):
        split_of([*files, broken])


# codes ----------------------------------------------------------------------------------------------------------------


def test_codes_are_what_the_network_makes_of_the_images(saved, model_file, pixels):
    expected = by_hand(saved, pixels)
    last = places(saved.model)[-1]
    for network in (model_file, str(model_file), saved, striate.load(model_file, device="cpu")):
        found = striate.codes(pixels, network, device="cpu", progress=False)
        assert isinstance(found, np.ndarray)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[last], rtol=1e-4, atol=1e-5)


def test_codes_at_one_place_are_an_array_and_at_several_a_dictionary(saved, pixels):
    expected = by_hand(saved, pixels)
    there = list(places(saved.model))
    np.testing.assert_allclose(
        striate.codes(pixels, saved, at="stem", device="cpu", progress=False), expected["stem"], rtol=1e-4, atol=1e-5
    )
    some = striate.codes(pixels, saved, at=[there[-1], "stem"], device="cpu", progress=False)
    assert list(some) == [there[-1], "stem"]
    everything = striate.codes(pixels, saved, at="all", device="cpu", progress=False)
    assert list(everything) == there
    for name, values in everything.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-5)


def test_codes_of_files_are_kept_and_those_of_arrays_are_not(saved, pixels, files, tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "codes"
    of_arrays = striate.codes(pixels, saved, device="cpu", progress=False)
    striate.codes(files, saved, device="cpu", cache=False, progress=False)
    assert not kept.exists()
    of_files = striate.codes(files, saved, device="cpu", progress=False)
    np.testing.assert_allclose(of_files, of_arrays, rtol=1e-5, atol=1e-6)
    written = [path for path in kept.rglob("*") if path.is_file()]
    assert written
    again = striate.codes(files[::-1], saved, device="cpu", progress=False)
    assert np.array_equal(again, of_files[::-1])
    striate.codes(files, saved, at=["group1", "stem"], device="cpu", progress=False)
    assert [path for path in kept.rglob("*") if path.is_file()] == written


def test_codes_of_a_data_set_are_those_of_its_splits(saved):
    dataset = load_data("digits")
    found = striate.codes(dataset, saved, at="stem", device="cpu", progress=False)
    parts = [striate.codes(split, saved, at="stem", device="cpu", progress=False) for split in dataset.splits.values()]
    assert np.array_equal(found, np.concatenate(parts))
    assert len(found) == 1797


def test_random_weights_are_the_same_ones_and_nobody_else_notices(pixels):
    before = torch.get_rng_state()
    first, second = (striate.codes(pixels, "compact_s", device="cpu", progress=False) for _ in range(2))
    assert np.array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_wrong_places_and_networks(saved, pixels):
    with pytest.raises(ModelError, match="no place 'stage9'") as caught:
        striate.codes(pixels, saved, at="stage9", device="cpu", progress=False)
    assert "stem" in str(caught.value.hint)
    with pytest.raises(UsageError, match="at = "):
        striate.codes(pixels, saved, at=[], device="cpu", progress=False)
    with pytest.raises(UsageError, match="int"):
        striate.codes(pixels, 18, device="cpu", progress=False)
