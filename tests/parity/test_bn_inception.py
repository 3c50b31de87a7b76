"""BN-Inception against the layers of its Caffe version, under the names that its PyTorch copies have."""

import torch
import torch.nn.functional as F
from torch import Tensor

from striate.models import create_model, load_reference

from .agreement import relative

# 1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3, pool proj; 0: no such branch, the module halves its maps
MODULES = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}


def published_state() -> dict[str, Tensor]:
    shapes = {"conv1_7x7_s2": (64, 3, 7), "conv2_3x3_reduce": (64, 64, 1), "conv2_3x3": (192, 64, 3)}
    channels = 192
    for module, (one, reduce3, three, reduce_double, double, pool) in MODULES.items():
        name = f"inception_{module}"
        if one:
            shapes[f"{name}_1x1"] = (one, channels, 1)
            shapes[f"{name}_pool_proj"] = (pool, channels, 1)
        shapes |= {
            f"{name}_3x3_reduce": (reduce3, channels, 1),
            f"{name}_3x3": (three, reduce3, 3),
            f"{name}_double_3x3_reduce": (reduce_double, channels, 1),
            f"{name}_double_3x3_1": (double, reduce_double, 3),
            f"{name}_double_3x3_2": (double, double, 3),
        }
        channels = one + three + double + (pool or channels)
    state = {}
    for name, (maps, inputs, kernel) in shapes.items():
        state |= {
            f"{name}.weight": torch.randn(maps, inputs, kernel, kernel) * (2 / (inputs * kernel**2)) ** 0.5,
            f"{name}.bias": torch.randn(maps) / 10,
            f"{name}_bn.weight": torch.rand(maps) + 0.5,
            f"{name}_bn.bias": torch.randn(maps) / 10,
            f"{name}_bn.running_mean": torch.randn(maps) / 10,
            f"{name}_bn.running_var": torch.rand(maps) + 0.5,
        }
    state |= {"last_linear.weight": torch.randn(5, 1024), "last_linear.bias": torch.randn(5)}
    return {name: tensor.double() for name, tensor in state.items()}


def published_forward(state: dict[str, Tensor], data: Tensor) -> Tensor:
    def unit(name: str, maps: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        maps = F.conv2d(maps, weight, state[f"{name}.bias"], stride, padding=weight.shape[-1] // 2)
        moments = state[f"{name}_bn.running_mean"], state[f"{name}_bn.running_var"]
        return F.relu(F.batch_norm(maps, *moments, state[f"{name}_bn.weight"], state[f"{name}_bn.bias"], eps=1e-5))

    def halve(maps: Tensor) -> Tensor:
        return F.max_pool2d(maps, 3, stride=2, ceil_mode=True)

    maps = halve(unit("conv1_7x7_s2", data, 2))
    maps = halve(unit("conv2_3x3", unit("conv2_3x3_reduce", maps)))
    for module, filters in MODULES.items():
        name, pace = f"inception_{module}", 1 if filters[0] else 2
        branches = [
            unit(f"{name}_3x3", unit(f"{name}_3x3_reduce", maps), pace),
            unit(
                f"{name}_double_3x3_2",
                unit(f"{name}_double_3x3_1", unit(f"{name}_double_3x3_reduce", maps)),
                pace,
            ),
        ]
        if pace == 2:
            branches.append(halve(maps))
        else:
            pooled = F.max_pool2d(maps, 3, 1, 1) if module == "5b" else F.avg_pool2d(maps, 3, 1, 1)
            branches = [unit(f"{name}_1x1", maps), *branches, unit(f"{name}_pool_proj", pooled)]
        maps = torch.cat(branches, 1)
    return F.linear(maps.mean((-2, -1)), state["last_linear.weight"], state["last_linear.bias"])


def test_the_caffe_versions_files_give_what_its_layers_give():
    torch.manual_seed(0)
    state = published_state()
    variations = {"stem": "dense", "bias": True, "epsilon": 1e-5, "pool_counts_padding": True}
    ours = create_model("bn_inception_fig5", classes=5, input_size=64, start=False, **variations).double().eval()
    fit = load_reference(ours, state)
    assert fit.complete
    assert fit.naming.variations == {"pool_4cd": 128, **variations}
    assert fit.naming.input is not None
    assert fit.naming.input.channel_order == "BGR"
    assert [round(255 * mean) for mean in fit.naming.input.mean] == [104, 117, 128]
    data = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert relative(ours(data), published_forward(state, data)) < 1e-10
