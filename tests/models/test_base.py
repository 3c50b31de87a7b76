"""The anatomy itself: auxiliary heads, which no registered network has yet."""

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from striate.anatomy import count_macs, count_parameters
from striate.models import Architecture, ConvNet, Outputs


@dataclass(frozen=True, kw_only=True, slots=True)
class BranchedConfig:
    width: int = 4


class Branched(ConvNet):
    config_type = BranchedConfig

    def __init__(self) -> None:
        super().__init__("branched", BranchedConfig(), 1, 3, (8, 8))
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.stages = nn.Sequential(OrderedDict(first=nn.Conv2d(4, 4, 3, 2, 1), second=nn.Conv2d(4, 4, 3, 2, 1)))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        self.auxiliary["first"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    @classmethod
    def last_side(cls, config, side):
        return -(-side // 4)


def test_auxiliary_heads_speak_in_training_only_and_add_three_tenths_of_their_loss():
    """M088: loss = main + 0.3 * auxiliary; the evaluation does not depend on them."""
    torch.manual_seed(0)
    model, images, targets = Branched(), torch.randn(2, 1, 8, 8), torch.tensor([0, 2])
    outputs = model.train()(images)
    assert isinstance(outputs, Outputs)
    assert outputs.aux.keys() == {"first"}
    expected = F.cross_entropy(outputs.logits, targets) + 0.3 * F.cross_entropy(outputs.aux["first"], targets)
    torch.testing.assert_close(model.loss(outputs, targets), expected)
    logits = model.eval()(images)
    torch.testing.assert_close(logits, outputs.logits)
    nn.init.zeros_(model.auxiliary["first"][2].weight)
    assert torch.equal(model(images), logits)


def test_counts_leave_auxiliary_heads_out():
    model = Branched()
    assert count_parameters(model) == sum(parameter.numel() for parameter in model.parameters()) - 15
    assert count_macs(model.train()) == 64 * 4 * 9 + 16 * 4 * 36 + 4 * 4 * 36 + 12


def test_architecture_record_turns_lists_into_tuples_and_back():
    record = Architecture(name="x", config={"depths": (1, 2)}, in_channels=1, classes=2, input_size=(8, 9))
    values = record.to_dict()
    values["config"]["depths"] = [1, 2]
    values["input_size"] = [8, 9]
    assert Architecture.from_dict(values) == record
