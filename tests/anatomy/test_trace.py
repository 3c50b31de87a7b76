"""Following any module: what is counted, what is left alone, and memory."""

import pytest
import torch
import torchvision
from torch import nn

import striate
from striate.anatomy import anatomy_of, count_macs, count_parameters
from striate.errors import ModelError, UsageError
from striate.models import create_model


def test_a_small_network_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 16, 5)
    )
    found = striate.anatomy_of(net, 8, 3)
    assert [layer.op for layer in found] == ["conv 3x3", "batch norm", "relu", "max 2x2/2", "flatten", "linear"]
    assert [layer.output for layer in found] == [(8, 8, 8), (8, 8, 8), (8, 8, 8), (8, 4, 4), (128,), (5,)]
    assert [layer.params for layer in found] == [224, 16, 0, 0, 0, 645]
    assert [layer.weights for layer in found] == [216, 0, 0, 0, 0, 640]
    assert [layer.macs for layer in found] == [64 * 216, 0, 0, 0, 0, 640]
    assert [layer.other_ops for layer in found] == [512, 1024, 512, 512, 0, 5]
    assert [layer.activation_bytes for layer in found] == [2048, 2048, 2048, 512, 0, 20]
    assert [layer.receptive_field for layer in found] == [3, 3, 3, 4, 4, 10]
    assert [layer.stride for layer in found] == [1, 1, 1, 2, None, None]
    assert (found.receptive_field, found.stride, found.last_map.name) == (4, 2, "3")
    assert found.flops == 2 * found.macs
    # Autograd keeps: the image for the convolution, its output for the normalisation (with two numbers a map for the
    # batch), the rectified maps, the indices of the maxima (64 bits) and their values, which the linear layer reads.
    kept = [768, 2048 + 8 * 2 * 4 // 2, 2048, 128 * 8, 0, 512]
    assert [layer.training_bytes for layer in found] == kept
    assert found.training_bytes == sum(kept)


def test_peak_is_what_is_alive_at_once():
    class Skip(nn.Module):
        def forward(self, maps):  # 1 kB each: the image, its square, and their sum
            return maps + maps.square()

    assert anatomy_of(Skip(), 16, 1).peak_bytes == 3 * 1024
    chain = nn.Sequential(*[nn.Tanh() for _ in range(5)])
    # The caller holds the image, each layer its input and its output.
    assert anatomy_of(chain, 16, 1).peak_bytes == 3 * 1024
    in_place = nn.Sequential(nn.Tanh(), *[nn.ReLU(inplace=True) for _ in range(5)])
    assert anatomy_of(in_place, 16, 1).peak_bytes == 2 * 1024


def test_the_network_is_left_as_it_was_also_after_an_error():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, maps):
            return self.conv(maps) if maps.sum() > 0 else maps

    net = Looks().train()
    net.conv.eval()
    weight = net.conv.weight
    with pytest.raises(ModelError, match="cannot be followed"):
        anatomy_of(net, 8)
    with pytest.raises(ModelError, match="cannot be followed with an input of 3x8x8"):
        anatomy_of(nn.Conv2d(1, 1, 3), 8, 3)
    assert net.training
    assert not net.conv.training
    assert net.conv.weight is weight
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    model = create_model("cifar_resnet20")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    anatomy_of(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_sizes_have_to_be_known():
    with pytest.raises(UsageError, match="input size"):
        anatomy_of(nn.Conv2d(3, 4, 3))
    with pytest.raises(UsageError, match="input channels"):
        anatomy_of(nn.ReLU(), 8)
    assert anatomy_of(nn.Conv1d(2, 4, 3), (20,)).layers[0].output == (4, 18)


def test_unknown_operations_see_the_whole_image_and_say_so():
    class Sorted(nn.Module):
        def forward(self, maps):
            return maps.sort(dim=-1).values

    (layer,) = anatomy_of(Sorted(), (6, 9), 1).layers
    assert layer.centre == ((0, 5), (0, 8))
    assert "sort" in layer.note
    assert layer.receptive_field is None


def test_tensors_written_in_parts_are_never_taken_for_constants():
    class Parts(nn.Module):
        def forward(self, maps):
            out = torch.zeros_like(maps)
            out[:, :, 1:] = maps[:, :, :-1]
            return nn.functional.avg_pool2d(out, 2)

    layer = anatomy_of(Parts(), 8, 1).layers[-1]
    assert layer.centre == ((0, 7), (0, 7))


def test_shared_layers_count_once_in_parameters_and_each_time_in_operations():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, maps):
            return self.conv(self.conv(maps))

    found = anatomy_of(Twice(), 8)
    assert [layer.params for layer in found] == [38, 0]
    assert found.params == 38
    assert found.macs == 2 * 64 * 36


@pytest.mark.parametrize(
    ("name", "macs", "field"),  # as torchvision states them in its metadata: 10^9 operations
    [("resnet18", 1.814e9, 435), ("densenet121", 2.834e9, None), ("convnext_tiny", 4.456e9, None)],
)
def test_networks_from_elsewhere(name, macs, field):
    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    found = anatomy_of(model, 224)
    assert found.macs == pytest.approx(macs, rel=1e-3)
    assert sum(layer.params for layer in found.layers) == found.params == count_parameters(model)
    assert found.macs == count_macs(model, 3, 224)
    assert not [layer for layer in found.layers if layer.note]
    assert found.receptive_field is not None
    assert field is None or found.receptive_field == field


def test_counting_a_deep_network_does_not_load_the_compiler():
    import subprocess
    import sys

    code = (
        "import sys; from striate.models import create_model; from striate.anatomy import anatomy_of;"
        "anatomy_of(create_model('cifar_resnet20', start=False)); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_any_precision_is_accounted_for_in_single_precision():
    for dtype in (torch.float64, torch.bfloat16):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).to(dtype)
        found = anatomy_of(model, 16, 3)
        assert found.receptive_field == 3
        assert found["0"].activation_bytes == 4 * 14 * 14 * 4
        assert model[0].weight.dtype == dtype


@pytest.mark.parametrize(("name", "size", "beside"), [("googlenet", 224, 6_379_984), ("inception_v3", 299, 3_326_696)])
def test_what_only_training_uses_is_auxiliary(name, size, beside):
    with torch.device("meta"):
        model = getattr(torchvision.models, name)(weights=None, init_weights=False)
    found = anatomy_of(model, size, training=False)
    assert found.params_aux == sum(layer.params for layer in found.auxiliary_layers) == beside
    assert found.params == sum(layer.params for layer in found.layers)
    assert found.params + beside == sum(value.numel() for value in model.parameters())
    assert {layer.name.split(".")[0].lower()[:3] for layer in found.auxiliary_layers} == {"aux"}
    head = found.auxiliary_layers[-1]
    assert (head.op, head.output, head.macs, head.other_ops) == ("linear", (1000,), head.params - 1000, 1000)


def test_parameters_that_nothing_uses_stay_with_the_network():
    class Spare(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(1, 2, 3))
            self.spare = [nn.Linear(4, 4)]  # as a plain list first: no part of the Sequential's forward
            self.register_parameter("scale", nn.Parameter(torch.ones(5)))

    found = anatomy_of(Spare(), 8)
    assert (found.params, found.params_aux, found.auxiliary_layers) == (20 + 5, 0, ())


def test_copies_of_parameters_belong_to_the_operation_that_uses_them():
    class Copies(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(6, 3, 1, 1)), nn.Parameter(torch.ones(6))

        def forward(self, maps):
            weight = torch.zeros_like(self.weight)
            weight[:3] = self.weight[:3]
            bias = self.bias.clone().to(torch.float64).to(maps.dtype)
            bias[:3].zero_()
            return nn.functional.conv2d(maps, weight, bias)

    (layer,) = anatomy_of(Copies(), 8, 3).layers
    assert (layer.params, layer.weights) == (24, 18)
    with torch.device("meta"):
        found = anatomy_of(torchvision.models.swin_v2_t(), 256, training=False)
    assert found.params == sum(layer.params for layer in found.layers) == 28_351_570


def test_weights_leave_out_biases_and_scales_of_normalisation():
    norms = nn.BatchNorm1d(3), nn.GroupNorm(1, 3), nn.LayerNorm([3, 6]), nn.RMSNorm(6)
    net = nn.Sequential(nn.Conv1d(2, 3, 3), *norms, nn.PReLU(), nn.Flatten(), nn.Linear(18, 2))
    found = anatomy_of(net, (8,), 2)
    assert found.weights == sum(layer.weights for layer in found) == 18 + 1 + 36
    # As counted from the papers' tables.
    for name, weights in (("alexnet_2012", 60_954_656), ("googlenet", 6_990_272), ("bn_inception_fig5", 11_264_192)):
        assert anatomy_of(create_model(name, start=False), training=False).weights == weights
    # The trained coefficients of LeNet-5's pooling are weights: 22 beside those of its filters and units.
    found = anatomy_of(create_model("lenet5_1998", start=False), training=False)
    pools = [layer for layer in found if layer.params in (12, 32)]
    assert [layer.weights for layer in pools] == [6, 16]
