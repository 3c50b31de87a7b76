"""What a run starts from: the network the options name with its first weights, or another network's weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from striate.checkpoint import SavedModel
from striate.errors import ModelError, UsageError
from striate.layers.initialise import initialise
from striate.models import ConvNet, create_model, find_entry
from striate.models.cut import cut_at
from striate.models.grow import check_growth, grown_to
from striate.models.sources import full_name, is_own, short_name
from striate.network import open_network, read_spelling, refitted
from striate.options import TrainOptions
from striate.progress import Bars, Progress
from striate.spec import InputSpec, Labels
from striate.training.head_start import FITTED, fit_head
from striate.training.session import Session

VARIATIONS = ("activation", "normalization", "pooling", "dropout", "stochastic_depth")
SCRATCH = "scratch"
AUTO = "auto"  # somebody else finds a start for it; training itself starts from scratch


def source_of(options: TrainOptions) -> str:
    """The one network that `--from` names, or `scratch`.

    Raises:
        UsageError: it names several, of which one is yet to be chosen.
    """
    source = options.model.from_
    if isinstance(source, tuple):
        raise UsageError(f"--from names {len(source)} networks: {', '.join(source)}", "training starts from one")
    return source


def locate_start(options: TrainOptions) -> TrainOptions:
    """`--model` and `--from` spelt so that they mean the same tomorrow and elsewhere: `latest` is another run then.

    Raises:
        UnknownNameError, CheckpointError: there is no such run, file or network.
    """
    model = options.model
    if model.model is not None:
        model = replace(model, model=full_name(model.model))
    if (source := source_of(options)) == AUTO:
        model = replace(model, from_=SCRATCH)
    elif source != SCRATCH:
        read = read_spelling(source, Path(options.training.runs))
        model = replace(model, from_=read.absolute)
        if model.model is None and is_own(read.model):
            model = replace(model, model=full_name(read.model))
    return replace(options, model=model)


def from_scratch(options: TrainOptions, start: SavedModel) -> TrainOptions:
    """`options` for training the network of `start` without its weights."""
    model = options.model.model or start.model.architecture.name
    return replace(options, model=replace(options.model, model=model, from_=SCRATCH))


def open_start(options: TrainOptions, progress: Progress) -> SavedModel | None:
    """The network of `--from` as it is, or None for a start from scratch.

    Raises:
        UsageError: a network without weights, or options that say how it starts otherwise.
        ModelError: another network than `--model`, which does not grow into that.
        Also what `open_network` raises.
    """
    source, model = source_of(options), options.model.model
    if source in (SCRATCH, AUTO):
        return None
    copies = options.transfer.scenario != SCRATCH
    if copies and options.model.init != "paper":
        raise UsageError(
            f"--init {options.model.init} is how a network starts from scratch, and --from {source} gives it weights",
            "leave --init out, or use --from scratch",
        )
    start = open_network(  # what is adapted is told when it is fitted to these classes
        source, weights=read_spelling(source).kind != "model", offline=options.data.offline, progress=Bars(progress)
    )
    name = start.model.architecture.name
    if start.notes.get("weights") == "none":
        raise UsageError(f"--from {source} names no weights", f"{source}:WEIGHTS or {source}:FILE, or --model {source}")
    if copies and options.transfer.grow != "random" and not grows(options, start):
        raise UsageError(
            f"--grow {options.transfer.grow}: nothing grows, since --model names no deeper network than {source}",
            "name one with --model, or leave --grow out",
        )
    if model is not None and grows(options, start):
        try:
            check_growth(model, start.model)
        except ModelError as error:
            other = find_entry(model).name
            hint = "leave --model out, or --from"
            raise ModelError(f"{source} is a {name}, not a {other}, and {error.message}", hint) from error
    progress.say(f"starting from {source}")
    return start


def grows(options: TrainOptions, start: SavedModel) -> bool:
    """Whether `--model` is another network than that of `start`: then it takes over what it can of it."""
    model = options.model.model
    return model is not None and short_name(find_entry(model).name) != start.model.architecture.name


@dataclass(frozen=True, slots=True)
class Built:
    """A network, and the paths of its units that start randomly below its classifier, among copied ones."""

    model: ConvNet
    started: tuple[str, ...] = ()


def build_model(
    options: TrainOptions, spec: InputSpec, labels: Labels, start: SavedModel | None, progress: Progress
) -> Built:
    """The network for this input and these classes: with the weights of `start`, or the paper's initialisation.

    Raises:
        UsageError: a dropout of layers that are cut off.
        ModelError: what is asked for does not go with the weights, or a place to cut at that is not there.
    """
    assert options.model.model is not None
    given = {name: getattr(options.model, name) for name in VARIATIONS if getattr(options.model, name) is not None}
    if start is None:
        return Built(create_model(
            options.model.model, classes=len(labels), in_channels=spec.channels, input_size=spec.size, **given
        ))  # fmt: skip
    code = options.model.model if is_own(options.model.model) else None
    fitted = refitted(
        start, labels, in_channels=spec.channels, input_size=spec.size, variations=given, code=code,
        progress=progress,
    )  # fmt: skip
    started: tuple[str, ...] = ()
    if grows(options, start):
        identity = options.transfer.grow == "identity"
        grown = grown_to(options.model.model, fitted.model, identity=identity, **given)
        started = () if identity else grown.new
        for line in grown.lines:
            progress.say(f"{grown.model.architecture.name}: {line}")
        fitted = replace(fitted, model=grown.model)
    if options.transfer.cut is None:
        return Built(fitted.model, started)
    cut = cut_at(fitted.model, options.transfer.cut, len(labels))
    if given.get("dropout") and not any("dropout" in type(one).__name__.lower() for one in cut.modules()):
        raise UsageError(
            f"--dropout {given['dropout']:g}: {cut.architecture.title} has no dropout, which lay in what is cut off",
            "leave --dropout out",
        )
    return Built(cut, started)


def start_weights(session: Session, progress: Progress) -> float:
    """Apply `--init` where the run starts from scratch; the paper's own start may look at training images, too.

    What such a start sets is never trained. So every network gets it that does not have it yet: with other weights by
    `--init`, or made elsewhere. A new head is fitted where `--head-start` says so; the seconds that it took are
    returned.
    """
    options, model = session.options.model, session.model
    scheme = options.init if options.from_ == SCRATCH else "paper"
    if scheme != "paper":
        initialise(model, scheme, sample=_first_images(session) if scheme == "lsuv" else None)
    if model.starts_from_images:
        model.fit_start(_first_images(session))
    seconds = fit_head(session, progress) if session.options.transfer.head_start == FITTED else 0.0
    if session.average is not None:  # the average starts where the weights do
        session.average.module.load_state_dict(session.model.state_dict())
    return seconds


def _first_images(session: Session) -> Tensor:
    return next(iter(session.batches.epoch(0))).images
