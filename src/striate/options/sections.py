"""Every option of `striate train`, once. A class is a section of a recipe; a field is a key and a flag. Sections
that stand alone have files of their own: `transfer`, `augment`, and `evaluate`, which `striate evaluate` shares.

`None` as default: decided from the data and the network (see `training/defaults.py`) and written, resolved, to the
run folder's recipe.toml.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from striate.errors import UsageError
from striate.options.augment import AugmentOptions
from striate.options.declare import check_options, option
from striate.options.evaluate import EvaluateOptions
from striate.options.transfer import TransferOptions
from striate.spec import CHANNEL_ORDERS, INTERPOLATIONS, RESIZE_RULES


@dataclass(frozen=True, kw_only=True, slots=True)
class DataOptions:
    """Where images come from, how they are split, and what the network is fed."""

    data: str = option("digits", "a named set, a folder of class folders, IDX or CIFAR files, a CSV or Parquet table")
    data_root: str | None = option(None, "folder where named sets lie or are downloaded to [~/.cache/striate/data]")
    offline: bool = option(False, "never use the network")
    image_column: str | None = option(None, "table column with the image paths [image, path, file or filename]")
    label_column: str | None = option(
        None, "table column with the labels, or several columns of 0 and 1: A,B,C [label, labels, class or category]"
    )
    label_delimiter: str | None = option(
        None, "several labels an image: what stands between them in the table column, such as | or ;"
    )
    split_column: str | None = option(None, "table column that says train, val or test [split, where there is one]")
    split_file: str | None = option(
        None,
        "the split of data in arrays (named sets, IDX, CIFAR) as `striate check --fix-split` writes it: a CSV table "
        "with hash, split and group of every image",
    )
    group: str | None = option(
        None,
        "keep images of one group on one side of every split: a table column, `parent` for the folder that holds the "
        "image, or a regular expression whose first bracket in the file's path names the group",
    )
    val_fraction: float | None = option(
        None, "part held out for validation [0.2; 0.1 where there is a test set]", above=0.0, at_most=0.9
    )
    test_fraction: float = option(
        0.0, "part held out for the final test, where no test set is given", at_least=0.0, at_most=0.9
    )
    split_seed: int = option(0, "another number gives another split", at_least=0)
    fold: str | None = option(None, "cross-validation: I/K makes part I of K (counted from 1) the validation images")
    limit: int | None = option(None, "use only this many training images, the same share of each class", at_least=1)
    input_size: int | None = option(
        None, "side in pixels of what the network sees [native for small images, else the network's]", at_least=1
    )
    channels: int | None = option(
        None, "1: grey, 3: colour, others only as the files have them [as the images are]", at_least=1
    )
    resize: str | None = option(
        None, "how an image comes to the input size [crop for photos]", choices=tuple(RESIZE_RULES)
    )
    crop_fraction: float | None = option(
        None, "part of the resized short side that the centre crop keeps", above=0.0, at_most=1.0
    )
    interpolation: str | None = option(None, "resampling filter, always antialiased", choices=INTERPOLATIONS)
    mean: tuple[float, ...] | None = option(
        None, "per-channel mean of the full pixel range [measured on the training images]"
    )
    std: tuple[float, ...] | None = option(
        None, "per-channel standard deviation [measured on the training images]", above=0.0
    )
    channel_order: str | None = option(
        None, "order of the colours that the network is fed [RGB, or as the weights of --from]", choices=CHANNEL_ORDERS
    )
    workers: int | None = option(None, "threads that decode photos [one per core]", at_least=0)
    reduced_decoding: bool = option(
        True, "decode photos of twice the needed size or more at a reduced scale for training; evaluations never do"
    )
    cache_limit: int | None = option(
        None,
        "MiB of decoded photos kept on disk for later epochs and runs, in ~/.cache/striate/photos or "
        "$STRIATE_CACHE/photos, which may be deleted at any time; 0 for none [a quarter of what is free, up to 32768]",
        at_least=0,
    )
    cache_memory: int | None = option(
        None,
        "MiB of photos kept in memory: those prepared for evaluations, and decoded ones that are not on disk "
        "[4096, or a quarter of the memory where that is less]",
        at_least=0,
    )

    def __post_init__(self) -> None:
        check_options(self, "data")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelOptions:
    """Which network, and the variations it allows."""

    model: str | None = option(
        None, "a registered name (`striate models`), timm:NAME, or FILE.py:CLASS for your own [by image size]"
    )
    from_: str | tuple[str, ...] = option(
        "auto",
        "start from: scratch, a run folder, a model file, MODEL:WEIGHTS such as resnet18:imagenet1k_v1, or weights as "
        "FILE or MODEL:FILE; may be given several times, and the best is found; auto looks for weights for photos",
    )
    activation: str | None = option(
        None,
        "activation, where the network allows the choice",
        choices=("relu", "relu6", "leaky_relu", "elu", "gelu", "maxout", "sigmoid", "tanh", "scaled_tanh", "linear"),
    )
    normalization: str | None = option(
        None,
        "normalisation, where the network allows the choice",
        choices=("batch", "group", "local_response", "contrast", "none"),
    )
    pooling: str | None = option(
        None,
        "pooling, where the network allows the choice",
        choices=("max", "average", "sum", "overlapping_max", "trainable"),
    )
    dropout: float | None = option(
        None, "drop probability before the classifier", at_least=0.0, at_most=0.95, source="Srivastava et al. 2014"
    )
    stochastic_depth: float | None = option(
        None,
        "drop probability of the last residual block, growing linearly",
        at_least=0.0,
        at_most=0.95,
        source="Huang et al. 2016, arXiv:1603.09382",
    )
    init: str = option(
        "paper",
        "how weights start",
        choices=("paper", "xavier", "he", "lsuv"),
        source="Glorot & Bengio 2010; He et al. 2015; Mishkin & Matas 2016",
    )

    def __post_init__(self) -> None:
        check_options(self, "model")
        if isinstance(self.from_, tuple):
            if not self.from_:
                raise UsageError("model.from = []: name at least one network")
            if len(self.from_) == 1:
                object.__setattr__(self, "from_", self.from_[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class RegularizeOptions:
    """What keeps the network from learning the training set by heart."""

    weight_decay: float | None = option(
        None,
        "L2: pull of the weights towards zero",
        at_least=0.0,
        source="Krizhevsky & Hinton 2009; Krizhevsky et al. 2012, sec. 5",
    )
    decay_norms_and_biases: bool = option(False, "apply weight decay to normalisation layers and biases too")
    head_weight_decay: float | None = option(None, "another weight decay for the head [as the rest]", at_least=0.0)
    l1: float = option(0.0, "L1: weight of the sum of absolute weights", at_least=0.0)
    max_filter_rms: float = option(
        0.0,
        "after each step, set convolution filters of a larger root mean square back to it, 0 for no limit",
        at_least=0.0,
        source="Zeiler & Fergus 2013, arXiv:1311.2901, sec. 3",
    )
    unit_kernels: bool = option(
        False,
        "after each step, scale every convolution's weights to a norm of sqrt(maps): where normalisation follows, only "
        "their direction matters",
        source="Jordan 2024, github.com/KellerJordan/cifar10-airbench",
    )
    label_smoothing: float | None = option(
        None,
        "part of the target spread over all classes",
        at_least=0.0,
        at_most=0.9,
        source="Szegedy et al. 2015, arXiv:1512.00567, sec. 7",
    )
    class_weights: str = option(
        "none", "weigh the loss by class: balanced gives every class the same total", choices=("none", "balanced")
    )
    sampling: str = option("shuffle", "balanced draws every class equally often", choices=("shuffle", "balanced"))

    def __post_init__(self) -> None:
        check_options(self, "regularize")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerOptions:
    """How weights move."""

    optimizer: str | None = option(
        None,
        "update rule; muon moves kernels and matrices by orthogonal steps, the head and all vectors as sgd does",
        choices=("sgd", "rmsprop", "adamw", "muon"),
        source="muon: Jordan et al. 2024",
    )
    lr: float | str | None = option(None, "peak learning rate, or auto for a range test before the first epoch")
    head_lr: float | None = option(
        None, "another peak rate for the weights of the head [as the rest; muon: as sgd]", above=0.0
    )
    bias_lr: float | None = option(
        None, "another peak rate for biases and normalisation layers [as the rest; muon: as sgd]", above=0.0
    )
    momentum: float | None = option(None, "momentum (sgd, muon, rmsprop)", at_least=0.0, at_most=0.999)
    nesterov: bool | None = option(None, "Nesterov's form of momentum (sgd, muon)")
    betas: tuple[float, float] = option(
        (0.9, 0.999), "averaging of gradient and its square (adamw)", at_least=0.0, at_most=0.99999
    )
    alpha: float = option(0.99, "averaging of the squared gradient (rmsprop)", at_least=0.0, at_most=0.99999)
    eps: float = option(1e-8, "added to the denominator (rmsprop, adamw)", above=0.0)
    batch_size: int | None = option(None, "images per step; halved with accumulation where it does not fit", at_least=1)
    accumulate: int = option(1, "gradient accumulation: this many batches make one step", at_least=1)
    micro_batches: int = option(
        1,
        "cut each batch into this many parts that are computed one after another; raised by itself on a full GPU",
        at_least=1,
    )
    clip_norm: float = option(0.0, "limit of the gradient's norm, 0 for none", at_least=0.0)

    def __post_init__(self) -> None:
        check_options(self, "optimizer")
        if isinstance(self.lr, str) and self.lr != "auto":
            raise UsageError(f"optimizer.lr = {self.lr!r}: expected a number or auto")
        if isinstance(self.lr, float) and not self.lr > 0:
            raise UsageError(f"optimizer.lr = {self.lr}: must be above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleOptions:
    """How the learning rate moves."""

    epochs: int | None = option(None, "passes over the training images", at_least=1)
    steps_per_epoch: int | None = option(
        None, "end an epoch after this many batches [when every image was seen]", at_least=1
    )
    schedule: str | None = option(
        None,
        "course of the learning rate",
        choices=(
            "constant",
            "step",
            "multistep",
            "polynomial",
            "plateau",
            "exponential",
            "cosine",
            "cyclic",
            "onecycle",
        ),
    )
    per: str = option("step", "what moves the schedule on (plateau: always the epoch)", choices=("step", "epoch"))
    warmup: float = option(0.0, "epochs over which the rate first rises linearly", at_least=0.0)
    step_epochs: float = option(30.0, "step: epochs between drops", above=0.0)
    milestones: tuple[float, ...] = option(
        (0.5, 0.75), "multistep: drops at these parts of training (below 1) or epochs", above=0.0
    )
    gamma: float = option(
        0.1, "step, multistep, plateau: factor of a drop; exponential: factor per epoch", above=0.0, at_most=1.0
    )
    power: float = option(1.0, "polynomial: exponent", above=0.0)
    patience: int = option(3, "plateau: epochs without improvement before a drop", at_least=0)
    rise: float = option(0.25, "onecycle: part of training in which the rate rises", above=0.0, at_most=0.9)
    cycles: int | None = option(
        None,
        "cyclic: falls from the peak along a cosine, each ending with an epoch and restarting from the peak [5, or one "
        "per epoch]",
        at_least=1,
        source="Loshchilov & Hutter 2017, arXiv:1608.03983; Huang et al. 2017, arXiv:1704.00109",
    )
    cycle_growth: float = option(1.0, "cyclic: length of a cycle as a multiple of the one before", at_least=1.0)
    final_lr: float = option(0.0, "cosine, cyclic, onecycle: last rate as part of the peak", at_least=0.0, at_most=1.0)

    def __post_init__(self) -> None:
        check_options(self, "schedule")
        if self.epochs is not None and self.cycles is not None and self.cycles > self.epochs:
            raise UsageError(
                f"schedule.cycles = {self.cycles} do not fit {self.epochs} epochs: a cycle ends with an epoch",
                f"--cycles {self.epochs} at most",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingOptions:
    """The run itself: repeats, averages, when to stop, what to keep."""

    seed: int = option(0, "everything random follows from it", at_least=0)
    seeds: int = option(1, "repeat with this many seeds, counted on from --seed; reports mean and spread", at_least=1)
    folds: int = option(1, "cross-validate over this many folds; reports mean and spread", at_least=1)
    ema: float | None = option(
        None,
        "decay of the Polyak average of the weights, 0 for none; evaluated beside the raw weights",
        at_least=0.0,
        at_most=0.99999,
        source="Polyak & Juditsky 1992",
    )
    best_by: str | None = option(
        None,
        "validation figure that picks the best epoch, of equal ones the loss, then the first [top1; of several labels "
        "an image map, mean average precision]",
        choices=("top1", "map", "loss", "balanced_accuracy", "last"),
    )
    early_stopping: int = option(
        0, "stop after this many epochs without improvement and keep the best weights, 0 for never", at_least=0
    )
    evaluate_every: int = option(1, "epochs between validations; the last is always validated", at_least=1)
    budget: str | None = option(None, "time for the training, such as 90s, 10m or 2h: the epochs are planned to fit")
    snapshots: int | None = option(
        None,
        "keep the weights every so many epochs, 0 for never, for `striate evaluate RUN --snapshots` [never; at the end "
        "of each cycle of a cyclic schedule]",
        at_least=0,
    )
    save_minutes: float = option(5.0, "minutes between resume states inside a long epoch", above=0.0)
    log_every: int = option(0, "write a metrics line every so many steps, 0 for epochs only", at_least=0)
    record: str = option(
        "none",
        "depth: also write to depth.jsonl, before the first and after each epoch, how strong activations and gradients "
        "are at every layer, which rectifiers are dead, and how the weights are spread; the report draws it",
        choices=("none", "depth"),
        source="Glorot & Bengio 2010; He et al. 2015; 2016, arXiv:1603.05027",
    )
    runs: str = option("runs", "folder that holds the run folders")
    run_dir: str | None = option(None, "this run's own folder [runs/<date-time>-<model>-<data>]")
    tensorboard: bool = option(False, "also write TensorBoard events, to the run folder's tensorboard/")
    report: bool = option(True, "write report.html at the end")

    def __post_init__(self) -> None:
        check_options(self, "training")
        if self.folds > 1 and self.seeds > 1:
            raise UsageError(
                "training.folds and training.seeds cannot be combined", "repeat the folds with another seed"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RuntimeOptions:
    """The hardware, and how it is used. Measured choices are made once, at the start, and recorded."""

    device: str = option("auto", "cpu, cuda, cuda:1, mps, or the best there is")
    precision: str = option(
        "auto",
        "arithmetic of the network; auto takes bf16 where the processor has it in hardware and it pays",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    channels_last: bool | None = option(None, "memory layout NHWC [measured default: on]")
    compile: str = option(
        "auto",
        "torch.compile the network; auto measures, where training is long enough, whether it pays for its warm-up",
        choices=("auto", "on", "off"),
    )
    threads: int | None = option(None, "processor threads [all cores that other processes leave free]", at_least=1)
    deterministic: bool = option(True, "on a GPU, choose kernels that repeat exactly")

    def __post_init__(self) -> None:
        if isinstance(self.compile, bool):  # as earlier recipes have it
            object.__setattr__(self, "compile", "on" if self.compile else "off")
        check_options(self, "runtime")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainOptions:
    """All sections together: what a recipe file holds and what recipe.toml records."""

    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    transfer: TransferOptions = field(default_factory=TransferOptions)
    augment: AugmentOptions = field(default_factory=AugmentOptions)
    regularize: RegularizeOptions = field(default_factory=RegularizeOptions)
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
