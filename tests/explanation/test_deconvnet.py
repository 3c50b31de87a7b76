"""The deconvnet against transposed convolutions worked by hand, and a pattern that it has to bring back."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.errors import UsageError
from striate.explanation.attribution.deconvnet import reconstruct
from striate.explanation.places import Place, find_place
from striate.explanation.undisturbed import undisturbed
from striate.layers.normalization import LocalResponse
from striate.models import create_model

from .networks import WAYS, images, plain


def back(model: nn.Module, given: Tensor, path: str, channels=None):
    with undisturbed(model):
        return reconstruct(model, given, Place(path, path), channels)


def two_layers() -> nn.Sequential:
    """One map of ones by 2x2, a bias, a rectifier and a pooling; then twice the map."""
    first, second = nn.Conv2d(1, 1, 2), nn.Conv2d(1, 1, 1, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
        first.bias.fill_(-5.0)
        second.weight.fill_(2.0)
    return nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU())


def test_a_transposed_convolution_with_switches_worked_by_hand():
    # image 5x5 with two spots; conv1 (1 2 / 3 4) - 5, ReLU, max 2x2, times 2
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 1, 2] = 3.0  # alone under the kernel's 4 at output (0, 1): 12 - 5 = 7, the maximum of its window
    image[0, 0, 4, 4] = 2.0  # at output (3, 3): 8 - 5 = 3
    model = two_layers()
    answer = back(model, image, "4")
    # the strongest of the last maps: 2 * 7 = 14 at place (0, 0), whose switch points to (0, 1)
    unit = answer.units[0]
    assert (unit.channel, unit.row, unit.column, unit.value) == (0, 0, 0, 14.0)
    # down: 14 rectified, times 2 = 28, to (0, 1), rectified, then the kernel laid with its corner at (0, 1)
    expected = torch.zeros(5, 5)
    expected[0:2, 1:3] = 28 * torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(answer.maps[0, 0], expected)


def test_signals_are_rectified_and_not_gated():
    # conv1 gives -1 where the image is 1, so ReLU's gate is shut everywhere but at one pixel
    first, second = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=True)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        second.weight.copy_(torch.tensor([-1.0, 2.0]).view(1, 2, 1, 1))
        second.bias.fill_(3.0)
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
    image = torch.ones(1, 1, 1, 1)  # maps 1 and 0 after ReLU; then 3 - 1 = 2
    # 2 back through -1 and 2: -2 is rectified to 0, 4 passes though its gate is shut; times -1
    assert back(model, image, "3").maps.item() == -4.0


def by_layers(model: nn.Module, given: Tensor, channel: int) -> Tensor:
    """Zeiler & Fergus for `plain`, written out with torch's own unpooling."""
    pooled, switches = F.max_pool2d(model.conv1(given).relu(), 2, return_indices=True)
    maps = model.conv2(pooled).relu()[:, channel]
    spot = maps.flatten(1).argmax(1)
    signal = torch.zeros_like(model.conv2(pooled))
    for row, place in enumerate(spot.tolist()):
        signal[row, channel].view(-1)[place] = maps[row].reshape(-1)[place]
    signal = F.conv_transpose2d(signal.clamp_min(0), model.conv2.weight, padding=1)
    signal = F.max_unpool2d(signal, switches, 2).clamp_min(0)
    return F.conv_transpose2d(signal, model.conv1.weight, padding=1).detach()


@pytest.mark.parametrize("way", [way for way in WAYS if way.startswith("module")])
def test_it_is_unpooling_rectifying_and_filtering_layer_by_layer(way):
    model, given = plain(way), images(3)
    for channel in range(6):
        found = back(model, given, "rectify", [channel] * 3)  # a shared module: what it gives the last time
        torch.testing.assert_close(found.maps, by_layers(plain(), given, channel))


@pytest.mark.parametrize("way", WAYS)
def test_the_way_a_rectifier_is_written_makes_no_difference(way):
    given = images(2)
    torch.testing.assert_close(back(plain(way), given, "conv2").maps, back(plain(), given, "conv2").maps)


def test_the_answers_of_the_network_are_not_changed_by_it():
    model, given = plain("in place, old name"), images(2)
    before = model(given)
    back(model, given, "conv2")
    assert torch.equal(model(given), before)


def test_overlapping_windows_add_their_parts():
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.MaxPool2d(3, 2), nn.Conv2d(1, 1, 2, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[2].weight.fill_(1.0)
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1.0  # the maximum of all four windows
    answer = back(model, image, "2")
    assert answer.units[0].value == 4.0
    assert answer.maps[0, 0, 2, 2] == 16.0  # four windows bring 4 each
    assert answer.maps.count_nonzero() == 1


def test_contrast_normalisation_is_passed_by():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3), nn.ReLU(), LocalResponse(), nn.Conv2d(6, 4, 3), nn.ReLU()]
    with_contrast = nn.Sequential(*layers).eval()
    image = images(1).float()
    found = back(with_contrast, image, "4", [1])
    unit = found.units[0]
    signal = torch.zeros(1, 4, 8, 8)
    signal[0, unit.channel, unit.row, unit.column] = unit.value
    down = F.conv_transpose2d(signal, layers[3].weight).clamp_min(0)
    torch.testing.assert_close(found.maps, F.conv_transpose2d(down, layers[0].weight).detach())
    torch_s = nn.Sequential(layers[0], layers[1], nn.LocalResponseNorm(5), layers[3], layers[4])
    assert back(torch_s, image, "4", [1]).maps.count_nonzero() > 0


def test_a_planted_pattern_comes_back_where_it_lies():
    """A kernel that looks for a cross finds the cross, and the deconvnet draws one there."""
    cross = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    first, second = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 1, bias=False)
    with torch.no_grad():
        first.weight[0, 0], first.weight[1, 0] = cross - 0.4, 0.4 - cross
        first.bias.zero_()
        second.weight.copy_(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    model = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU())
    generator = torch.Generator().manual_seed(0)
    for top, left in ((1, 2), (6, 3), (8, 8)):
        image = 0.2 * torch.rand(1, 1, 12, 12, generator=generator)
        image[0, 0, top : top + 3, left : left + 3] += cross
        drawn = back(model, image, "4").maps[0, 0]
        patch = drawn[top : top + 3, left : left + 3]
        assert drawn.count_nonzero() == patch.count_nonzero()  # nothing beside it
        together = torch.stack([patch.flatten(), cross.flatten()])
        assert torch.corrcoef(together)[0, 1] > 0.99


def test_a_layer_of_units_and_a_wrong_map():
    model, given = create_model("lenet5_dense").eval(), torch.rand(1, 1, 32, 32)
    with undisturbed(model):
        answer = reconstruct(model, given, find_place(model, "head.f6"), [3])
        assert answer.maps.shape == given.shape
        assert (answer.units[0].channel, answer.units[0].row) == (3, None)
        with pytest.raises(UsageError, match="no map 84"):
            reconstruct(model, given, find_place(model, "head.f6"), [84])


def test_a_silent_layer_is_said_to_be():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU())
    with torch.no_grad():
        model[0].weight.fill_(-1.0)
        model[0].bias.zero_()
    answer = back(model, torch.ones(1, 1, 2, 2), "1")
    assert not answer.maps.any()
    assert "no positive activation" in answer.each[0][0]
