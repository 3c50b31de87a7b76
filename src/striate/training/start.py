"""What a run starts from: the network the options name, its first weights, or another network's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from striate.checkpoint import load_model
from striate.errors import ModelError
from striate.layers.initialise import initialise
from striate.models import ConvNet, create_model
from striate.options import TrainOptions
from striate.progress import Progress
from striate.runfolder import find_run
from striate.spec import InputSpec, Labels
from striate.training.session import Session

VARIATIONS = ("activation", "normalization", "pooling", "dropout", "stochastic_depth")


def build_model(options: TrainOptions, spec: InputSpec, labels: Labels) -> ConvNet:
    """The network that the options name, for this input and these classes; weights by the paper's initialisation."""
    assert options.model.model is not None
    given = {name: getattr(options.model, name) for name in VARIATIONS if getattr(options.model, name) is not None}
    return create_model(
        options.model.model, classes=len(labels), in_channels=spec.channels, input_size=spec.size, **given
    )


def locate_start(options: TrainOptions) -> TrainOptions:
    """`--from` as a path that means the same tomorrow and elsewhere: `latest` is another run then.

    Raises:
        UnknownNameError, CheckpointError: there is no such run.
    """
    source = options.model.from_
    if source == "scratch":
        return options
    path = Path(source) if Path(source).is_file() else find_run(source, Path(options.training.runs)).path
    return replace(options, model=replace(options.model, from_=str(path.resolve())))


def start_weights(session: Session, progress: Progress) -> None:
    """Apply `--init`, or copy the weights of `--from`."""
    options = session.options.model
    if options.from_ != "scratch":
        _copy_weights(session, progress)
    elif options.init != "paper":
        sample = next(iter(session.batches.epoch(0))).images if options.init == "lsuv" else None
        initialise(session.model, options.init, sample=sample)
    if session.average is not None:  # the average starts where the weights do
        session.average.module.load_state_dict(session.model.state_dict())


def _copy_weights(session: Session, progress: Progress) -> None:
    """Copy from a run or model file every weight of the same name and shape; say what was and was not."""
    source = session.options.model.from_
    theirs = load_model(source).model.state_dict()
    ours = session.model.state_dict()
    fitting = {name: value for name, value in theirs.items() if name in ours and ours[name].shape == value.shape}
    if not any(torch.is_floating_point(value) for value in fitting.values()):
        raise ModelError(f"no weight of {source} fits {session.model.architecture.name}", "use the same --model")
    session.model.load_state_dict(fitting, strict=False)
    left = sorted({name.rsplit(".", 1)[0] for name in ours if name not in fitting})
    progress.say(
        f"copied {len(fitting)} of {len(ours)} tensors from {source}" + (f"; new: {', '.join(left)}" if left else "")
    )
