"""Convolution arithmetic: the lectures' facts, torch's operations, and the helper for one layer."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from striate.anatomy import anatomy_of
from striate.anatomy.arithmetic import layer_arithmetic, parse
from striate.errors import UnknownNameError, UsageError

IMAGE = [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [0, 1, 1, 0, 0]]
CROSS = [[1, 0, 1], [0, 1, 0], [1, 0, 1]]  # symmetric: convolution and cross-correlation agree
LINE = torch.arange(1.0, 6.0)


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)[None, None]


def correlated(image, kernel, **settings):
    return F.conv2d(tensor(image), tensor(kernel), **settings)[0, 0].int().tolist()


def line(values, kernel, padding=0):
    return F.conv1d(values[None, None], torch.tensor(kernel)[None, None], padding=padding)[0, 0].tolist()


def test_one_image_every_way():
    """W1 to W4."""
    assert correlated(IMAGE, CROSS) == [[4, 3, 4], [2, 4, 3], [2, 3, 4]]
    assert correlated(IMAGE, CROSS, padding=1) == [
        [2, 2, 3, 1, 1], [1, 4, 3, 4, 1], [1, 2, 4, 3, 3], [1, 2, 3, 4, 1], [0, 2, 2, 1, 1],
    ]  # fmt: skip
    assert correlated(IMAGE, CROSS, padding=2) == [
        [1, 1, 2, 1, 1, 0, 0], [0, 2, 2, 3, 1, 1, 0], [1, 1, 4, 3, 4, 1, 1], [0, 1, 2, 4, 3, 3, 0],
        [0, 1, 2, 3, 4, 1, 1], [0, 0, 2, 2, 1, 1, 0], [0, 1, 1, 1, 1, 0, 0],
    ]  # fmt: skip
    assert sum(map(sum, correlated(IMAGE, CROSS, padding=2))) == 5 * sum(map(sum, IMAGE))
    assert correlated(IMAGE, CROSS, stride=2) == [[4, 4], [2, 4]]
    assert correlated(IMAGE, CROSS, padding=2, dilation=2) == [
        [2, 2, 2, 0, 1], [1, 2, 1, 1, 1], [2, 0, 2, 3, 3], [1, 1, 1, 2, 1], [1, 2, 2, 0, 1],
    ]  # fmt: skip
    for word, side in (("valid", 3), ("same", 5), ("full", 7)):
        assert layer_arithmetic(5, 3, padding=word).output == (1, side, side)


def test_convolution_and_cross_correlation_of_a_line():
    """M001, M003, M006, W14."""
    assert np.convolve([1, 2, 3, 4, 5], [1, 0, -1], "full").tolist() == [1, 2, 2, 2, 2, -4, -5]
    assert line(LINE, [-1.0, 0.0, 1.0]) == [2, 2, 2]  # convolution: the kernel turned round
    assert line(LINE, [1.0, 0.0, -1.0]) == [-2, -2, -2]
    assert line(LINE, [3.0, 2.0, 1.0]) == [10, 16, 22]
    assert line(LINE, [1.0, 2.0, 3.0]) == [14, 20, 26]
    assert line(LINE, [-1.0, 0.0, 1.0], padding=2) == [1, 2, 2, 2, 2, -4, -5]


def test_convolution_turns_the_kernel_and_commutes():
    """M002, M004."""
    generator = torch.Generator().manual_seed(0)
    image, kernel = torch.randn(6, 5, generator=generator), torch.randn(3, 2, generator=generator)
    by_hand = torch.stack(
        [torch.stack([(image[i : i + 3, j : j + 2] * kernel).sum() for j in range(4)]) for i in range(4)]
    )
    torch.testing.assert_close(F.conv2d(image[None, None], kernel[None, None])[0, 0], by_hand)
    full = F.conv2d(image[None, None], kernel.flip(0, 1)[None, None], padding=(2, 1))
    other = F.conv2d(F.pad(kernel, (4, 4, 5, 5))[None, None], image.flip(0, 1)[None, None])
    torch.testing.assert_close(full, other)


def test_learning_does_not_care_which_it_is():
    """M005: trained from mirrored weights, the mirrored kernel is learned."""
    torch.manual_seed(0)
    plain, turned = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)
    turned.load_state_dict({"weight": plain.weight.flip(2, 3), "bias": plain.bias})
    images, wanted = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 6, 6)
    for _ in range(5):
        for net, weight in ((plain, plain.weight), (turned, turned.weight.flip(2, 3))):
            net.zero_grad()
            F.mse_loss(F.conv2d(images, weight, net.bias), wanted).backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter -= 0.1 * parameter.grad
    torch.testing.assert_close(turned.weight.flip(2, 3), plain.weight)


def test_causal_padding_knows_nothing_of_the_future():
    """M010."""
    layer = layer_arithmetic((1, 20), (1, 3), dilation=(1, 4), padding="causal")
    assert (layer.sides[1].before, layer.sides[1].after, layer.sides[1].output) == (8, 0, 20)
    signal = torch.randn(1, 1, 20)
    changed = signal.clone()
    changed[..., 12:] += 1
    kernel = torch.randn(1, 1, 3)
    before, after = (F.conv1d(F.pad(one, (8, 0)), kernel, dilation=4) for one in (signal, changed))
    assert torch.equal(before[..., :12], after[..., :12])
    assert not torch.equal(before[..., 12], after[..., 12])


def test_strides():
    """M011, M012: 28 by 3 gives 26 and 13; a stride takes every second value."""
    assert [layer_arithmetic(28, 3, stride=stride).output[1] for stride in (1, 2)] == [26, 13]
    assert [layer_arithmetic(5, 3, stride=stride).output for stride in (1, (2, 2))] == [(1, 3, 3), (1, 2, 2)]
    image, kernel = torch.randn(1, 1, 28, 28), torch.randn(1, 1, 3, 3)
    torch.testing.assert_close(F.conv2d(image, kernel, stride=2), F.conv2d(image, kernel)[:, :, ::2, ::2])


def test_dilation_is_a_kernel_with_holes():
    """M014."""
    image, kernel = torch.randn(1, 1, 9, 9), torch.randn(1, 1, 3, 3)
    holes = torch.zeros(1, 1, 5, 5)
    holes[..., ::2, ::2] = kernel
    torch.testing.assert_close(F.conv2d(image, kernel, dilation=2), F.conv2d(image, holes))
    assert layer_arithmetic(9, 3, dilation=2).sides[0].extent == 5


def test_alexnet_sizes():
    """M016, W8."""
    conv1 = parse("input 227 kernel 11 stride 4 channels 3 filters 96")
    assert (conv1.output, conv1.weights, conv1.padding) == ((96, 55, 55), 34_848, "valid")
    assert parse("pool input 55 kernel 3 stride 2 channels 96").output == (96, 27, 27)
    uneven = parse("input 224 kernel 11 stride 4").sides[0]
    assert (uneven.exact, uneven.output, uneven.unused) == (54.25, 54, 1)
    assert parse("input 224 kernel 11 stride 4 padding 2").sides[0].exact == 55.25


def test_parameters():
    """M019, M020, M030, M035 to M037, W7, W10, W11, W13."""
    layer = layer_arithmetic(100, 3, channels=3, filters=100)
    assert (layer.weights, layer.weights + layer.biases) == (2700, 2800)
    assert layer_arithmetic(56, 1, channels=64, filters=32).weights == 2048
    assert layer_arithmetic(1000, 10, filters=100).weights == 10_000
    assert layer_arithmetic(27, 5, channels=96, filters=256).weights + 256 == 614_656
    assert layer_arithmetic(27, 5, channels=96, filters=256, groups=2).weights + 256 == 307_456
    # W11 gives 8 filters on 24 x 24 and 224 parameters: three channels.
    keras = layer_arithmetic(24, 3, channels=3, filters=8, padding="same")
    assert (keras.output, keras.weights + keras.biases) == ((8, 24, 24), 224)
    three, seven = (layer_arithmetic(9, side, channels=64, filters=64).weights for side in (3, 7))
    assert seven / (3 * three) == pytest.approx(1.815, abs=1e-3)
    five = layer_arithmetic(9, 5, channels=64, filters=64).weights
    assert five / three == pytest.approx(2.78, abs=0.01)
    assert 2 * three / five == 0.72
    # M028, M029: a unit for each of a million pixels, with fields of 10 x 10, or all of them.
    assert 1000**2 * 10 * 10 == 10**8
    assert nn.Linear(10**6, 10**6, device="meta").weight.numel() == 10**12


def test_depthwise_separable_cost():
    """M033: 1/C_out + 1/K²."""
    depthwise = layer_arithmetic(14, 3, channels=512, filters=512, groups=512, padding="same").macs
    pointwise = layer_arithmetic(14, 1, channels=512, filters=512).macs
    whole = layer_arithmetic(14, 3, channels=512, filters=512, padding="same").macs
    assert (depthwise + pointwise, whole) == (52_283_392, 462_422_016)
    assert (depthwise + pointwise) / whole == pytest.approx(1 / 512 + 1 / 9)


def test_transposed_convolution_is_the_adjoint():
    """M032."""
    image, kernel = torch.randn(1, 1, 7, 7, dtype=torch.float64), torch.randn(1, 1, 3, 3, dtype=torch.float64)
    out = F.conv2d(image, kernel, stride=2, padding=1)
    other = torch.randn_like(out)
    back = F.conv_transpose2d(other, kernel, stride=2, padding=1)
    assert back.shape == image.shape
    torch.testing.assert_close((out * other).sum(), (image * back).sum())
    assert layer_arithmetic(4, 3, stride=2, padding=1, kind="transposed").output == (1, 7, 7)


def test_one_by_one_is_a_linear_map_of_the_channels():
    """M020."""
    conv = nn.Conv2d(6, 4, 1)
    maps = torch.randn(2, 6, 5, 5)
    by_pixel = F.linear(maps.permute(0, 2, 3, 1), conv.weight[:, :, 0, 0], conv.bias).permute(0, 3, 1, 2)
    torch.testing.assert_close(conv(maps), by_pixel)


def test_groups_are_convolutions_side_by_side():
    """M035."""
    conv = nn.Conv2d(4, 6, 3, groups=2)
    maps = torch.randn(1, 4, 8, 8)
    halves = [
        F.conv2d(maps[:, 2 * i : 2 * i + 2], conv.weight[3 * i : 3 * i + 3], conv.bias[3 * i : 3 * i + 3])
        for i in (0, 1)
    ]
    torch.testing.assert_close(conv(maps), torch.cat(halves, 1))


def test_equivariance_to_shifts():
    """M025, M026: a shifted image gives shifted maps, with stride 2 at even shifts only; global pooling forgets."""
    image = F.pad(torch.randn(1, 1, 8, 8), (8, 8, 8, 8))
    kernel = torch.randn(1, 1, 3, 3)

    def moved(values, steps):
        return torch.roll(values, (steps, steps), (2, 3))

    torch.testing.assert_close(F.conv2d(moved(image, 1), kernel), moved(F.conv2d(image, kernel), 1))
    strided = F.conv2d(image, kernel, stride=2)
    torch.testing.assert_close(F.conv2d(moved(image, 2), kernel, stride=2), moved(strided, 1))
    assert not torch.allclose(F.conv2d(moved(image, 1), kernel, stride=2).sort().values, strided.sort().values)
    torch.testing.assert_close(F.conv2d(moved(image, 3), kernel).amax((2, 3)), F.conv2d(image, kernel).amax((2, 3)))


def test_fully_connected_as_convolution():
    """M038: one fc on 7 x 7 maps is a 7 x 7 convolution, which on 12 x 12 gives 6 x 6 scores."""
    linear = nn.Linear(3 * 49, 5)
    weight = linear.weight.reshape(5, 3, 7, 7)
    maps = torch.randn(1, 3, 7, 7)
    torch.testing.assert_close(F.conv2d(maps, weight, linear.bias).flatten(1), linear(maps.flatten(1)))
    assert layer_arithmetic(12, 7).output == (1, 6, 6)


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
    groups=st.integers(1, 2),
    kind=st.sampled_from(["conv", "transposed"]),
)
def test_sizes_and_counts_are_those_of_torch(size, kernel, stride, padding, dilation, groups, kind):
    make = nn.Conv2d if kind == "conv" else nn.ConvTranspose2d
    layer = make(4, 6, kernel, stride, padding, dilation=dilation, groups=groups, device="meta")
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "channels": 4, "filters": 6}
    try:
        expected = tuple(layer(torch.empty(1, 4, *size, device="meta")).shape[1:])
    except RuntimeError:
        expected = (6, 0, 0)
    if min(expected) < 1:
        with pytest.raises(UsageError):
            layer_arithmetic(size, kernel, **settings, groups=groups, kind=kind)
        return
    found = layer_arithmetic(size, kernel, **settings, groups=groups, kind=kind)
    assert found.output == expected
    assert found.weights + found.biases == sum(value.numel() for value in layer.parameters())
    assert found.macs == anatomy_of(layer, size).macs


@settings(max_examples=80, deadline=None)
@given(
    size=st.integers(1, 14),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 5),
    padding=st.integers(0, 2),
    up=st.booleans(),
)
def test_pools_are_those_of_torch_rounded_either_way(size, kernel, stride, padding, up):
    padding = min(padding, kernel // 2)  # torch takes no more
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=up)
    text = f"pool input {size} kernel {kernel} stride {stride} pad {padding}{' ceil' if up else ''}"
    try:
        expected = tuple(pool(torch.zeros(1, 1, size, size)).shape[1:])
    except RuntimeError as error:
        if "Output size is too small" not in str(error):
            raise
        with pytest.raises(UsageError):
            parse(text)
        return
    assert parse(text).output == expected


@settings(max_examples=60, deadline=None)
@given(kernel=st.integers(1, 6), stride=st.integers(1, 4), dilation=st.integers(1, 3))
def test_what_an_output_of_a_transposed_convolution_sees(kernel, stride, dilation):
    layer = layer_arithmetic(30, kernel, stride=stride, dilation=dilation, kind="transposed")
    found = layer.to_dict()["receptive_field"]
    weight = torch.ones(1, 1, kernel)
    out = F.conv_transpose1d(torch.eye(30)[:, None], weight, stride=stride, dilation=dilation)[:, 0]
    spans = [hit.nonzero().max() - hit.nonzero().min() + 1 for hit in out.T != 0 if hit.any()]
    assert found == max(spans)
    if dilation == 1:
        assert found == -(-kernel // stride)


def test_short_forms():
    assert parse("input 9 kernel 3 pad 1") == parse("input 9 kernel 3 padding 1")
    assert parse("input 9 kernel 3 pad=same no bias filters 4").biases == 0
    assert parse("pool input 55 kernel 3 stride 2").sides[0].output == 27
    uneven = parse("pool ceil input 56 kernel 3 stride 2").sides[0]
    assert (uneven.exact, uneven.output, uneven.unused) == (27.5, 28, 0)
    assert "ceil(27.5) = 28" in uneven.formula


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input 224 kernal 3", "unknown word 'kernal'"),
        ("input 224", "needs `kernel`"),
        ("input 224 kernel", "kernel is followed by nothing"),
        ("input 224 kernel three", "kernel 'three' cannot be read"),
        ("input 2 kernel 3", "a window of 3 pixels does not fit into 2"),
        ("input 8 kernel 3 stride 0", "stride 0: must be at least 1"),
        ("input 8 kernel 3 padding some", "padding 'some' cannot be read"),
        ("input 8 kernel 3 channels 4 filters 6 groups 4", "4 groups do not divide"),
        ("input 8x8x8 kernel 3", "has 3 values"),
        ("input 8 kernel 3 ceil", "`ceil` belongs to pooling"),
        ("pool input 8 kernel 3 no bias", "pooling has no biases"),
        ("input 8 kernel 3 no", "unknown word 'no'"),
        ("input 8 kernel 3 pad 1 padding 2", "padding is given twice"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse(text)
    if "kernal" in text:
        assert isinstance(caught.value, UnknownNameError)
        assert "did you mean kernel" in (caught.value.hint or "")
