"""How the weights of `--from` are used: what is cut off, what stays frozen, how fast the rest learns."""

from __future__ import annotations

from dataclasses import dataclass

from striate.options.declare import check_options, option

LINEAR = ("blend", "svm", "softmax")  # linear classifiers of codes
KEEP = "keep"  # the network as it is
WITHOUT_EPOCHS = (*LINEAR, KEEP)  # the others train by gradients
SCENARIOS = ("plan", *WITHOUT_EPOCHS, "head", "top", "all", "scratch")


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferOptions:
    """Transfer from the weights of --from.

    A place is `stem`, a stage's name, or `head.NAME` for a hidden layer of the head; `striate probe` lists a network's.
    """

    scenario: str | None = option(
        None,
        "what learns: plan measures which is best; svm and softmax are linear classifiers on the activations of a "
        "place, blend is both of all places as one; keep leaves a network as it is whose head knows the classes; "
        "head, top (the head and the upper half) and all train by gradients; scratch copies nothing "
        "[plan; all where a run goes on with its own images; by hand where another option of this section is given]",
        choices=SCENARIOS,
    )
    cut: str | None = option(
        None,
        "a place: what follows it is dropped, and the new head reads there [svm, softmax: the measured best; "
        "blend: the deepest that counts]",
    )
    freeze_to: str | None = option(
        None,
        "a place: all up to it stays as it is to the bit, batch-norm statistics too [top: the middle; head: all but "
        "the classifier]",
    )
    pretrained_lr: float | None = option(
        None,
        "peak rate of the copied layers as part of --lr [0.1 below a new head that starts randomly, else 1]",
        above=0.0,
        at_most=10.0,
    )
    layer_decay: float | None = option(
        None,
        "further factor of the rate for each place, from the top down [0.8 below a new head in scenario all, else 1]",
        above=0.0,
        at_most=1.0,
        source="Howard & Ruder 2018, arXiv:1801.06146, sec. 3.2",
    )
    unfreeze_every: int = option(
        0,
        "gradual unfreezing: epochs until the next place below learns too, from the top down; 0: all at once",
        at_least=0,
        source="Howard & Ruder 2018, sec. 3.3",
    )
    head_start: str | None = option(
        None,
        "how a new classifier starts; fitted: as the softmax classifier of its inputs for the training images, at most "
        "4000 of them [fitted, where all below it is copied and it ends in a linear layer]",
        choices=("fitted", "random"),
        source="Kumar et al. 2022, arXiv:2202.10054",
    )
    head_epochs: int | None = option(
        None,
        "epochs at the start in which only the classifier learns [0; 1, or --unfreeze-every, where a new one that "
        "starts randomly is all that is new and there are 3 epochs or more]",
        at_least=0,
    )
    grow: str = option(
        "random",
        "how layers start that the network of --from does not have; identity: so that the answers stay the same",
        choices=("random", "identity"),
        source="Simonyan & Zisserman 2014, arXiv:1409.1556, sec. 3.1",
    )
    probe_images: int | None = option(
        None, "probing looks at this many of the training images at most [2000, and 5 of each class]", at_least=1
    )

    def __post_init__(self) -> None:
        check_options(self, "transfer")
