"""How far float32 logits of our networks and of the reference implementations lie apart, with the same random weights.

    python benchmarks/parity_float32.py [--only PATTERN]

Every registered network that names a torchvision or timm counterpart is built at its paper's input size, gets the
counterpart's random weights, and both see the same two images. Reported: the largest difference of the logits, as a
part of the largest logit. In float64 they agree to 1e-10 (tests/parity/); what is left here is the order of summation.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from fnmatch import fnmatch

import torch
from harness import RESULTS, provenance, say, versions, write_result
from torch import nn

from striate.models import create_model, entries, load_reference
from striate.models.reference import fit_state
from striate.spec import ModelEntry


def main() -> None:
    """Measure each network and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="names of networks")
    chosen = parser.parse_args().only
    result = provenance("benchmarks/parity_float32.py")
    result |= {"versions": versions(sys.executable, ("striate", "torch", "torchvision", "timm"), ("striate",))}
    rows: dict[str, float] = {}
    for entry in entries():
        if entry.reference and fnmatch(entry.name, chosen):
            rows[entry.name] = difference(entry)
            say(f"{entry.name:32} {entry.reference:36} {rows[entry.name]:.1e}")
    write_result(RESULTS / "parity_float32.json", {**result, "networks": rows})


def difference(entry: ModelEntry) -> float:
    """The largest difference of the logits over the largest logit, for two random images."""
    torch.manual_seed(0)
    theirs = counterpart(entry).eval()
    shake(theirs)
    naming = fit_state(create_model(entry.name, start=False), theirs.state_dict()).naming
    ours = create_model(entry.name, start=False, **naming.variations).eval()
    load_reference(ours, theirs.state_dict())
    images = torch.randn(2, entry.input.channels, *entry.input.size)
    with torch.inference_mode():
        expected, given = theirs(images), ours(images)
    return float((given - expected).abs().max() / expected.abs().max())


def counterpart(entry: ModelEntry) -> nn.Module:
    """The reference implementation with random weights."""
    publisher, name = entry.reference.split(", ")[0].split(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if publisher == "timm":
            import timm

            return timm.create_model(name, pretrained=False)
        import torchvision

        extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(name, weights=None, **extra)


@torch.no_grad()
def shake(model: nn.Module) -> None:
    """Statistics and affine parameters of batch normalisation that are not all 0 and 1."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            module.weight.uniform_(0.8, 1.2)
            module.bias.normal_(0, 0.1)


if __name__ == "__main__":
    main()
