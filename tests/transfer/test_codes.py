"""CNN codes: what the network gives, once; and a cache that survives whatever happens to those who write it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.checkpoint import SavedModel
from striate.data import Split, TensorImages, normalise
from striate.data.scan import array_digests
from striate.errors import ModelError
from striate.models import create_model
from striate.models.cut import places, pooled_codes
from striate.progress import Progress
from striate.spec import InputSpec, Labels
from striate.transfer import codes as room
from striate.transfer.codes import PIXELS, code_folder, codes_of, pixel_codes

SPEC = InputSpec(size=(16, 16), channels=3, mean=(0.4,), std=(0.3,))


def images(count: int, seed: int = 0) -> Split:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3, 16, 16)).astype(np.uint8)
    names = [f"train[{number}]" for number in range(count)]
    return Split("train", np.arange(count) % 3, names, TensorImages(pixels), digests=array_digests(pixels))


@pytest.fixture(scope="module")
def saved() -> SavedModel:
    torch.manual_seed(0)
    model = create_model("resnet20", classes=3, in_channels=3, input_size=16)
    return SavedModel(model=model.eval(), spec=SPEC, labels=Labels(("a", "b", "c")))


def take(saved: SavedModel, split: Split, cache: Path | None, **settings):
    return codes_of(saved, split, precision="fp32", device="cpu", cache=cache, **settings)


def test_codes_are_what_the_network_gives_at_every_place(saved):
    split = images(50)
    found = take(saved, split, None)
    inputs = normalise(split.images.take(np.arange(50), SPEC), SPEC)
    with torch.inference_mode():
        expected = pooled_codes(saved.model, inputs)
    assert found.places == places(saved.model) == tuple(found.by_place)
    for place, values in expected.items():
        np.testing.assert_allclose(found.by_place[place], values.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.pixels, pixel_codes(inputs).numpy(), rtol=1e-5)
    assert (found.targets == split.targets).all()
    assert not found.from_cache


def test_the_network_is_left_as_it_was(saved):
    saved.model.train()
    saved.model.stages.eval()
    before = {name: value.clone() for name, value in saved.model.state_dict().items()}
    take(saved, images(5), None)
    assert saved.model.training
    assert not saved.model.stages.training
    assert all(torch.equal(value, before[name]) for name, value in saved.model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in saved.model.modules())
    saved.model.eval()


def test_what_is_kept_is_what_was_computed(saved, tmp_path):
    first, second = (take(saved, images(20), tmp_path) for _ in range(2))
    assert (first.from_cache, second.from_cache) == (False, True)
    assert second.seconds_forward == 0
    assert second.statistics == first.statistics
    for place in first.places:
        assert np.array_equal(first.by_place[place], second.by_place[place])
    assert np.array_equal(first.pixels, second.pixels)


def test_only_new_images_are_computed(saved, tmp_path, monkeypatch):
    split, passed = images(30), []
    forward = room.cut.pooled_codes
    monkeypatch.setattr(
        room.cut, "pooled_codes", lambda model, batch, at: passed.append(len(batch)) or forward(model, batch, at)
    )
    rows = np.array([7, 3, 11, 3])
    some = take(saved, split, tmp_path, indices=rows)
    whole = take(saved, split, tmp_path)
    again = take(saved, split, tmp_path, indices=np.array([29, 7]))
    assert sum(passed) == 4 + 27
    assert again.from_cache
    last = whole.places[-1]
    assert np.array_equal(some.by_place[last], whole.by_place[last][rows])
    assert np.array_equal(again.by_place[last], whole.by_place[last][[29, 7]])
    assert take(saved, split, tmp_path, places=[last]).from_cache, "fewer places are among those that are kept"


def test_other_weights_inputs_and_precisions_have_codes_of_their_own(saved, tmp_path):
    split = images(6)
    take(saved, split, tmp_path)
    other = create_model("resnet20", classes=3, in_channels=3, input_size=16)
    other.load_state_dict(saved.model.state_dict())
    with torch.no_grad():
        next(other.stem.parameters()).view(-1)[0] += 1e-3
    assert not take(replace(saved, model=other.eval()), split, tmp_path).from_cache
    assert not take(replace(saved, spec=replace(SPEC, mean=(0.41,))), split, tmp_path).from_cache
    assert not codes_of(saved, split, precision="bf16", device="cpu", cache=tmp_path).from_cache
    assert not take(saved, images(6, seed=1), tmp_path).from_cache
    assert take(saved, split, tmp_path).from_cache


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_keys_differ_wherever_codes_may(saved, data):
    changes = {
        "size": st.tuples(st.integers(16, 64), st.integers(16, 64)), "mean": st.tuples(st.floats(0, 1)),
        "std": st.tuples(st.floats(0.1, 1)), "resize": st.sampled_from(["crop", "squash", "letterbox", "pad"]),
        "crop_fraction": st.floats(0.5, 1), "interpolation": st.sampled_from(["bilinear", "bicubic"]),
        "channel_order": st.sampled_from(["RGB", "BGR"]), "bits": st.sampled_from([8, 16]),
    }  # fmt: skip
    name = data.draw(st.sampled_from(sorted(changes)))
    spec = replace(SPEC, **{name: data.draw(changes[name])})
    cpu = torch.device("cpu")
    keys = [room._key(replace(saved, spec=one), "fp32", cpu) for one in (SPEC, spec)]
    assert (keys[0] == keys[1]) == (spec == SPEC)
    assert room._key(saved, "bf16", cpu) != keys[0] != room._key(saved, "fp32", torch.device("cuda"))


def test_batch_norms_tell_known_images_from_others(saved):
    split = images(200)
    model = create_model("resnet20", classes=3, in_channels=3, input_size=16)
    model.train()
    inputs = normalise(split.images.take(np.arange(200), SPEC), SPEC)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # running statistics become those of these images
    with torch.no_grad():
        model(inputs)
    known = replace(saved, model=model.eval())
    alike = take(known, split, None).statistics
    dark = replace(split, images=TensorImages(split.images.pixels // 8))
    other = take(known, dark, None).statistics
    assert alike is not None
    assert other is not None
    assert alike > 0.97
    assert other < alike - 0.2
    plain = create_model("squeezenet1_1", classes=3, in_channels=3, input_size=32).eval()
    small = replace(saved, model=plain, spec=replace(SPEC, size=(32, 32)))
    assert take(small, images(4), None).statistics is None


def test_grids_of_pixels():
    shapes = {(1, 28, 28): 784, (3, 224, 224): 3 * 18 * 18, (3, 8, 40): 192, (2000, 4, 4): 2000}
    for (channels, height, width), length in shapes.items():
        assert pixel_codes(torch.zeros(2, channels, height, width)).shape == (2, length)


def test_damaged_files_are_computed_again(saved, tmp_path):
    whole = take(saved, images(10), tmp_path)
    (file,) = tmp_path.glob("*/*.codes")
    content = bytearray(file.read_bytes())
    for damage in ("flipped", "cut", "empty", "noise"):
        broken = bytearray(content)
        if damage == "flipped":
            broken[-100] ^= 1
        file.write_bytes({"cut": broken[:-7], "empty": b"", "noise": os.urandom(500)}.get(damage, bytes(broken)))
        again = take(saved, images(10), tmp_path)
        assert not again.from_cache, damage
        assert np.array_equal(again.by_place["maps8"], whole.by_place["maps8"])
        assert take(saved, images(10), tmp_path).from_cache


def test_a_folder_that_cannot_be_written_to_is_said(saved, tmp_path):
    class Heard(Progress):
        lines: list[str] = []  # noqa: RUF012

        def warn(self, text: str) -> None:
            self.lines.append(text)

    (tmp_path / "file").write_text("")
    found = take(saved, images(3), tmp_path / "file" / "codes", progress=Heard())
    assert len(found) == 3
    assert "codes are not kept" in Heard.lines[0]


def test_what_was_unused_for_longest_makes_room(saved, tmp_path):
    for seed in range(3):
        take(saved, images(8, seed), tmp_path)
    files = sorted(tmp_path.glob("*/*.codes"), key=lambda path: path.stat().st_mtime)
    for age, file in enumerate(files):
        os.utime(file, (1e9 + age, 1e9 + age))
    take(saved, images(8, 0), tmp_path)  # used again
    left = files[0].with_name(".killed.codes.1-1.part")
    left.write_bytes(b"x")
    os.utime(left, (1e9, 1e9))
    room._make_room(tmp_path, 2 * files[0].stat().st_size + 10)
    assert not left.exists()
    assert [take(saved, images(8, seed), None if seed == 1 else tmp_path).from_cache for seed in range(3)] == [
        True, False, True,
    ]  # fmt: skip


def test_many_images_are_written_in_parts_and_only_as_far_as_there_is_room(saved, tmp_path, monkeypatch):
    whole = take(saved, images(50), None)
    monkeypatch.setattr(room, "_PART", 16)
    once = take(saved, images(50), tmp_path / "parts")
    assert len(list(tmp_path.glob("parts/*/*.codes"))) == 4
    again = take(saved, images(50), tmp_path / "parts")
    assert again.from_cache
    for place in whole.places:
        np.testing.assert_allclose(once.by_place[place], whole.by_place[place], rtol=1e-4, atol=1e-5)
        assert np.array_equal(again.by_place[place], once.by_place[place])
    assert again.seconds_forward == 0 < again.seconds_per_image

    take(saved, images(16, 1), tmp_path / "small")
    (file,) = earlier = set(tmp_path.glob("small/*/*.codes"))
    monkeypatch.setattr(room, "LARGEST_CACHE", int(4.5 * file.stat().st_size))
    os.utime(file, (1e9, 1e9))
    take(saved, images(100), tmp_path / "small")
    left = set(tmp_path.glob("small/*/*.codes"))
    assert earlier < left
    assert len(left) == 3


def test_the_same_bytes_in_another_shape_are_another_image(saved, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 32)).astype(np.uint8)
    wide, high = (
        replace(images(4), images=TensorImages(shaped), digests=array_digests(shaped))
        for shaped in (pixels, pixels.reshape(4, 3, 32, 8))
    )
    take(saved, wide, tmp_path)
    found = take(saved, high, tmp_path)
    assert not found.from_cache
    assert not np.array_equal(found.pixels, take(saved, wide, tmp_path).pixels)


def test_unknown_places_and_numbers_that_are_none(saved):
    with pytest.raises(ModelError, match="no place 'roof'"):
        take(saved, images(2), None, places=["roof"])
    broken = create_model("resnet20", classes=3, in_channels=3, input_size=16)
    with torch.no_grad():
        next(broken.stem.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="no finite numbers at stem"):
        take(replace(saved, model=broken.eval()), images(2), None)


def test_the_folder_is_that_of_the_other_caches(monkeypatch):
    monkeypatch.setenv("STRIATE_CACHE", "/somewhere")
    assert code_folder() == Path("/somewhere/codes")
    monkeypatch.delenv("STRIATE_CACHE")
    assert code_folder().parts[-3:] == (".cache", "striate", "codes")


WRITER = """
import sys, numpy as np
from pathlib import Path
from striate.transfer import codes
random = np.random.default_rng(int(sys.argv[2]))
print("ready", flush=True)
while True:
    digests = [bytes([number]) * 16 for number in random.permutation(40)[:20].tolist()]
    kept = codes._Kept(Path(sys.argv[1]) / "network", ("stem", "pixels"), digests)
    values = np.array([digest[0] for digest in digests], np.float32)[kept.missing]
    fresh = {place: np.repeat(values[:, None], 20_000, axis=1) for place in ("stem", "pixels")}
    if len(values):
        kept.add(kept.missing, fresh, None)
        print("wrote", flush=True)
    else:
        codes._make_room(Path(sys.argv[1]), 0)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_writers_that_are_killed_or_write_at_once_leave_nothing_wrong(tmp_path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(seed)], stdout=subprocess.PIPE, text=True)
        for seed in range(2)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        assert writer.stdout.readline() == "wrote\n"
    time.sleep(0.3)
    for writer in writers:
        assert writer.poll() is None, "they write until they are killed"
        writer.kill()
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
    digests = [bytes([number]) * 16 for number in range(40)]
    kept = room._Kept(tmp_path / "network", ("stem", PIXELS), digests)
    there = np.setdiff1d(np.arange(40), kept.missing)
    fresh = {place: np.repeat(kept.missing[:, None], 20_000, axis=1).astype(np.float32) for place in ("stem", PIXELS)}
    room._put(kept.found, kept.missing, fresh, 40)
    for values in kept.found.values():
        assert (values == np.arange(40)[:, None]).all(), "every row that is kept is whole, and that of its image"
    kept.add(kept.missing, fresh, None)
    assert not len(room._Kept(tmp_path / "network", ("stem", PIXELS), digests).missing), f"{len(there)} were there"
    shutil.rmtree(tmp_path)
