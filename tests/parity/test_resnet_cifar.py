"""The published weights of the CIFAR ResNet-20 in our network, with their accuracy."""

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from striate.models import create_model, load_reference
from striate.models.resnet_cifar import PUBLISHED_INPUT

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
WEIGHTS = DATA / "weights" / "resnet20-12fca82f.th"
CIFAR = DATA / "cifar-10-python.tar.xz"

needs_weights = pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"{WEIGHTS.name} is not there")


@pytest.fixture
def resnet20():
    model = create_model("cifar_resnet20", start=False)
    fit = load_reference(model, torch.load(WEIGHTS, map_location="cpu", weights_only=True))
    assert fit.naming.input == PUBLISHED_INPUT
    return model.eval()


@needs_weights
def test_published_weights_load_with_their_prefix(resnet20):
    state = torch.load(WEIGHTS, map_location="cpu", weights_only=True)["state_dict"]
    loaded = resnet20.state_dict()
    assert torch.equal(loaded["stages.maps16.0.conv1.weight"], state["module.layer2.0.conv1.weight"])
    assert torch.equal(loaded["head.linear.bias"], state["module.linear.bias"])
    assert torch.equal(loaded["stem.norm1.running_var"], state["module.bn1.running_var"])


def test_what_the_published_weights_are_fed():
    assert PUBLISHED_INPUT.size == (32, 32)
    assert PUBLISHED_INPUT.crop_fraction == 1
    assert PUBLISHED_INPUT.mean == (0.485, 0.456, 0.406)
    assert PUBLISHED_INPUT.std == (0.229, 0.224, 0.225)


@pytest.mark.slow
@needs_weights
@pytest.mark.skipif(not CIFAR.is_file(), reason=f"{CIFAR.name} is not there")
def test_published_accuracy(resnet20, tmp_path):
    """91.73 % on the 10,000 test images, fp32, with the mean and deviation that the weights were trained with."""
    with tarfile.open(CIFAR) as archive:
        archive.extract("cifar-10-batches-py/test_batch", tmp_path, filter="data")
    batch = pickle.loads((tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes(), encoding="bytes")
    pixels = torch.from_numpy(batch[b"data"]).view(-1, 3, 32, 32)
    targets = torch.from_numpy(np.asarray(batch[b"labels"]))
    mean = torch.tensor(PUBLISHED_INPUT.mean).view(3, 1, 1)
    std = torch.tensor(PUBLISHED_INPUT.std).view(3, 1, 1)
    right = 0
    with torch.inference_mode():
        for start in range(0, len(pixels), 500):
            logits = resnet20((pixels[start : start + 500].float() / 255 - mean) / std)
            right += int((logits.argmax(1) == targets[start : start + 500]).sum())
    assert right == 9173
