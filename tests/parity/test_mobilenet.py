"""MobileNet against timm: its random weights copied over, outputs and gradients equal in float64."""

import pytest
import torch

from striate.models import create_model
from striate.models.reference import fit_state

from .agreement import assert_equal_in_float64

timm = pytest.importorskip("timm", reason="timm is the reference")


@pytest.mark.parametrize(
    ("reference", "alpha", "size"),
    [("mobilenetv1_100", 1.0, (64, 64)), pytest.param("mobilenetv1_125", 1.25, (70, 53), marks=pytest.mark.slow)],
)
def test_outputs_and_gradients_equal_timm(reference, alpha, size):
    torch.manual_seed(0)
    theirs = timm.create_model(reference, num_classes=5)
    ours = create_model("mobilenet_v1", classes=5, input_size=size, alpha=alpha, activation="relu6", start=False)
    assert_equal_in_float64(ours, theirs, torch.randn(4, 3, *size))


def test_timms_weights_come_with_their_activation_and_input():
    theirs = timm.create_model("mobilenetv1_100")
    fit = fit_state(create_model("mobilenetv1_100", start=False), theirs.state_dict())
    assert fit.complete
    assert fit.naming.publisher == "timm"
    assert fit.naming.variations == {"activation": "relu6"}
    fed, stated = fit.naming.input, theirs.pretrained_cfg
    assert fed is not None
    assert (fed.channels, *fed.size) == stated["input_size"]
    assert fed.mean * 3 == stated["mean"]
    assert fed.std * 3 == stated["std"]
    assert fed.interpolation == stated["interpolation"]
    assert fed.crop_fraction == stated["crop_pct"]


def test_networks_that_timm_lacks_take_no_weights_of_its():
    state = timm.create_model("mobilenetv1_100").state_dict()
    for name in ("mobilenet_v1_conv", "mobilenet_v1_shallow", "mobilenet_v1_0.5"):
        assert not fit_state(create_model(name, start=False), state).complete
