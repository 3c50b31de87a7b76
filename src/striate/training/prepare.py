"""From options that leave things open to a network and options that do not: what every training begins with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from striate.checkpoint import SavedModel
from striate.data import Dataset
from striate.evaluation import check_views
from striate.models import ConvNet
from striate.options import TrainOptions
from striate.progress import Progress
from striate.runtime import seed_everything
from striate.spec import InputSpec
from striate.training.defaults import kind_of, resolve, resolve_rate, resolve_runtime
from striate.training.head_start import FITTED
from striate.training.planning import RANGE_TEST_RATES, fit_batch, plan_for_budget, range_test
from striate.training.session import Session, open_session
from striate.training.start import Built, build_model, from_scratch
from striate.training.transferring import (
    check_new_layers,
    default_rate_share,
    learns_alone,
    resolve_transfer,
    with_head_epochs,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """Ready for `open_session`, but for what is measured."""

    options: TrainOptions  # resolved; the epochs of the head alone are open where a budget is to be planned for
    spec: InputSpec
    model: ConvNet
    new_head: bool  # a classifier started anew and at random on copied layers, which may learn alone


def resolved_for(
    options: TrainOptions, dataset: Dataset, *, given: ConvNet | None = None, start: SavedModel | None = None
) -> tuple[TrainOptions, InputSpec, SavedModel | None]:
    """Options with nothing left open but what the network or a measurement decides, and the weights that are copied.

    Raises:
        UsageError: a combination that cannot be.
    """
    if start is not None and options.transfer.scenario == "scratch":
        options, start = from_scratch(options, start), None
    options, spec = resolve(options, dataset, given=given, start=start)
    return options, spec, start


def prepare(
    options: TrainOptions, spec: InputSpec, dataset: Dataset, *, given: ConvNet | None, start: SavedModel | None,
    budgeted: bool, progress: Progress,
) -> Prepared:  # fmt: skip
    """The network, seeded and with its first weights, and its options; those are what `resolved_for` made of them.

    Raises:
        UsageError, ModelError: options that do not go together, or not with the network.
    """
    labels = dataset.labels
    seed_everything(options.training.seed, deterministic=options.runtime.deterministic)
    built = build_model(options, spec, labels, start, progress) if given is None else Built(given)
    model = built.model
    model.check_labels(multi_label=labels.multi_label)
    options = resolve_transfer(options, model, labels, start=start, given=given is not None)
    check_new_layers(options, model, built.started, progress)
    options = resolve_rate(options, dataset, model, default_rate_share(options, start, labels, kind_of(dataset)))
    options = resolve_runtime(options, progress)
    new_head = learns_alone(options, start, labels, model)
    if options.transfer.head_start == FITTED and not len(model.auxiliary):  # auxiliary heads start randomly
        new_head = False
    check_views(options.evaluate.views, model, spec)  # before the training, not at its end
    if not budgeted:
        options = with_head_epochs(options, new_head)
    return Prepared(options=options, spec=spec, model=model, new_head=new_head)


def provisional(options: TrainOptions) -> TrainOptions:
    """`options` with some rate where it is yet to be measured."""
    rate = options.optimizer.lr if options.optimizer.lr != "auto" else RANGE_TEST_RATES[0]
    return replace(options, optimizer=replace(options.optimizer, lr=rate))


def measure_once(
    prepared: Prepared, session: Session, budget: float | None, progress: Progress, *, spent: float = 0.0
) -> Session:
    """Measure what is left to measuring (a batch that fits, `--lr auto`, `--budget`) and open the session with it.

    `spent` are seconds of the budget that the start took.
    """
    options = prepared.options
    if session.device.type != "cpu":
        parts = fit_batch(session, progress)
        options = replace(options, optimizer=replace(options.optimizer, micro_batches=parts))
        session = replace(session, micro_batches=parts)
    if options.optimizer.lr == "auto":
        options = replace(options, optimizer=replace(options.optimizer, lr=range_test(session, progress)))
    if budget is not None:
        options = replace(options, schedule=plan_for_budget(session, max(budget - spent, 0.0), progress))
        options = with_head_epochs(options, prepared.new_head)
    if options == session.options:
        return session
    return open_session(options, session.spec, session.dataset, session.run, session.model)
