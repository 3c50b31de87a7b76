"""Write docs/architectures.md: paper, ours and the reference implementation side by side.

    python docs/make_architectures.py

Ours are counted again from the networks, the reference implementations from torchvision and timm, all on meta tensors.
The differences in float32 come from benchmarks/results/parity_float32.json.
"""

import json
import warnings
from itertools import groupby
from pathlib import Path

import torch
from torch import nn

from striate.anatomy import anatomy_of, count_macs, count_parameters
from striate.models import create_model, entries
from striate.spec import ModelEntry

HERE = Path(__file__).parent
PARITY = HERE.parent / "benchmarks" / "results" / "parity_float32.json"
HEAD = """# The architectures

Written by `python docs/make_architectures.py`; a test counts ours again.

**Parameters** are all learned values, biases and batch normalisation's scale and shift included, running statistics
not. **MACs** are the multiply-accumulates of convolutions and linear layers for one image at the paper's input size; a
count of floating-point operations would be twice that. Both leave auxiliary heads out. **Field** is the receptive
field, in pixels, of a unit of the last layer before flattening or global pooling, padding ignored. "Paper" is what the
paper prints, rounded as it prints it. **Reference** is the implementation compared with: its own count where that
differs from ours, and the largest difference of its logits to ours in float32 with the same random weights, as a part
of the largest logit (in float64 outputs and gradients agree to 1e-10: `tests/parity/`).
"""


def main() -> None:
    """Count everything and write the page."""
    parity = json.loads(PARITY.read_text())["networks"] if PARITY.exists() else {}
    parts = [HEAD]
    for paper, group in groupby(sorted(entries(), key=order), key=lambda entry: entry.paper):
        parts += [f"\n## {paper}\n", *table(list(group), parity)]
    HERE.joinpath("architectures.md").write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def order(entry: ModelEntry) -> tuple[int, str]:
    """Papers by year, with our own networks last; inside a paper the registry's order is kept."""
    return entry.year, entry.paper


def table(group: list[ModelEntry], parity: dict[str, float]) -> list[str]:
    """The networks of one paper, and below them why figures differ."""
    lines = [
        "| network | input | parameters | paper | MACs | paper | field | published error | reference |",
        "|---|---|---:|---:|---:|---:|---:|---|---|",
    ]
    notes = []
    for entry in group:
        model = create_model(entry.name, start=False)
        assert (count_parameters(model), count_macs(model)) == (entry.params, entry.macs), entry.name
        field = anatomy_of(model, training=False).receptive_field or "–"
        size = "×".join(map(str, (entry.input.channels, *entry.input.size)))
        lines.append(
            f"| `{entry.name}` | {size} | {entry.params:,} | {rounded(entry.paper_params)} | {entry.macs:,} "
            f"| {rounded(entry.paper_macs)} | {field} | {error(entry)} "
            f"| {reference(entry, parity)} |"
        )
        if entry.differs:
            notes.append(f"- `{entry.name}`: {entry.differs}")
    return [*lines, "", *notes] if notes else lines


def rounded(count: float | None) -> str:
    """What a paper prints: 60,000, 1.7 M, 3.6 G."""
    if count is None:
        return ""
    if count < 1e5:
        return f"{count:,.0f}"
    unit, factor = ("G", 1e9) if count >= 1e9 else ("M", 1e6)
    return f"{count / factor:.10g} {unit}"


def error(entry: ModelEntry) -> str:
    """The first published score: top-1/top-5 error in per cent."""
    for score in entry.published:
        errors = "/".join(f"{one:g}" for one in (score.top1_error, score.top5_error) if one is not None)
        return f"{errors} % on {score.dataset}" + (f", {score.protocol}" if score.protocol else "")
    return ""


def reference(entry: ModelEntry, parity: dict[str, float]) -> str:
    """Whom ours was compared with, and how the counts and logits differ."""
    if not entry.reference:
        return "none"
    theirs = reference_network(entry)
    params, macs = count_parameters(theirs), count_macs(theirs, entry.input.channels, entry.input.size)
    parts = [entry.reference.replace(":", " ")]
    if params != entry.params:
        parts.append(f"{params:,} parameters")
    if macs != entry.macs:
        parts.append(f"{macs:,} MACs")
    if entry.name in parity:
        parts.append(f"{parity[entry.name]:.0e}" if parity[entry.name] else "equal to the bit")
    return ", ".join(parts)


def reference_network(entry: ModelEntry) -> nn.Module:
    """The reference implementation without weights and without auxiliary heads, on the meta device."""
    publisher, name = entry.reference.split(", ")[0].split(":")
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if publisher == "timm":
            import timm

            return timm.create_model(name, pretrained=False)
        import torchvision

        extra = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        return torchvision.models.get_model(name, weights=None, **extra)


if __name__ == "__main__":
    main()
