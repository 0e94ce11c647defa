"""The training of one network: folds in, the loop in the open, the weights of the best epoch out."""

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from pairscape.model.batches.folds import Folds
from pairscape.model.batches.many import AnyImages, ManyStores
from pairscape.model.batches.order import Rows
from pairscape.model.batches.stream import Batch, PairStream
from pairscape.model.evaluation.evaluate_many import score_many
from pairscape.model.evaluation.metrics import best_threshold, ranking_scores
from pairscape.model.networks.classifier import (
    PairClassifier,
    TrainedNetwork,
    describe_batch,
    require_genes_known,
    surroundings,
    turned_labels,
)
from pairscape.model.networks.device import choose_device, choose_precision, seed_everything
from pairscape.model.networks.gene_context import Loadings, Neighbourhoods
from pairscape.model.networks.prior import PriorCorrection, class_weights
from pairscape.model.networks.weights import NetworkFacts, class_names, save_weights
from pairscape.model.options import Recipe, Training
from pairscape.model.training.optimize import Loss, compiled, make_loss, make_optimizer, moving_average, rate_at
from pairscape.pipeline.compute.progress import Progress
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Stream

VALIDATION_ROWS = 20_000  # scored after every epoch; a random part of a larger fold says the same
CHECKED = 20  # batches after which the loss is looked at

HISTORY = (
    "epoch",
    "learning_rate",
    "train_loss",
    "validation_loss",
    "validation_balanced_accuracy",
    "validation_auroc",
    "validation_average_precision",
    "seconds",
)


def check_recipe(images: AnyImages, folds: Folds, recipe: Recipe) -> None:
    """Refuse choices that do not fit the store or this machine, before any run folder is touched.

    Raises
    ------
    InputError
        Unknown network, loss, channels or device; class weights, pool or bins that do not fit; a precision that the
        device lacks; codes that the network needs and that are gone.
    """
    settings = recipe.training
    choose_precision(settings.precision, choose_device(settings.device))
    make_loss(settings.loss, classes=folds.classes, weight=class_weights(settings, 0.5, folds.classes))
    bins = images.spec.binning.bins
    classifier = PairClassifier(settings.network, recipe.rendering, bins, folds.classes, mirror=False)
    if not isinstance(images, ManyStores):
        require_genes_known(classifier, images)
    elif classifier.knows_genes:
        raise InputError(
            f"network {settings.network} looks at other genes of the matrix beside the pair, which stores of several "
            "matrices do not share; train it on one store, or take another network, such as pairnet."
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained network, with the weights of its best epoch, on the device; and why training broke off, if it did."""

    network: TrainedNetwork
    seconds: float
    failure: str | None = None


@dataclass(frozen=True, eq=False)
class Learner:
    """Everything that training changes.

    Attributes
    ----------
    classifier, forward
        Learns from every batch; the same, compiled if that is asked for.
    averaged
        Moving average of its weights, which is evaluated and saved; None where averaging is off.
    flips
        Random choice of the images of a batch that are mirrored; None: none are.
    around
        Images of the genes' neighbours, or their loadings; None where the network takes the pair alone.
    precision
        Of the layers, under autocast; None: float32.
    """

    classifier: PairClassifier
    forward: Callable[..., Tensor]
    averaged: AveragedModel | None
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    flips: torch.Generator | None
    around: Neighbourhoods | Loadings | None
    device: torch.device
    precision: torch.dtype | None

    @property
    def evaluated(self) -> PairClassifier:
        """The classifier whose predictions count."""
        return self.averaged.module if self.averaged is not None else self.classifier  # type: ignore[return-value]


def fit(
    images: AnyImages,
    folds: Folds,
    recipe: Recipe,
    run: Path,
    seed: int,
    progress: Progress,
    stop: Callable[[int, float], bool] | None = None,
) -> Fitted:
    """Train a classifier; leaves `history.csv` and `model.safetensors` (the best epoch so far) in the run folder.

    `stop` gets the number of an epoch and its average precision on the validation fold; training ends where it is true.
    """
    started, settings, label = time.perf_counter(), recipe.training, folds.pairs.label
    seed_everything(seed)
    stream = PairStream(images, folds.train, label, settings, seed)
    shown = stream.share_of_positives
    learner = _make_learner(images, folds, recipe, stream, shown, seed)
    facts = _facts(learner.classifier, images, folds, recipe, shown)
    watched = _some(folds.validation, seed)
    history, best, since_best, failure = History(run / "history.csv"), (-math.inf, -math.inf), 0, None
    progress.start("training", settings.epochs * stream.images_per_epoch)
    for epoch in range(settings.epochs):
        began = time.perf_counter()
        rate, train_loss = float(learner.schedule.get_last_lr()[0]), _train_epoch(learner, stream, progress)
        scores = _validate(learner, images, watched, label)
        history.add(epoch, rate, train_loss, *scores, time.perf_counter() - began)
        since_best += 1
        score = _rank_of(scores)
        if epoch == 0 or score > best:
            best, since_best = score, 0
            save_weights(run / "model.safetensors", learner.evaluated.state_dict(), replace(facts, epoch=epoch))
        if not math.isfinite(train_loss):
            failure = _failure(settings, epoch)
        if since_best >= settings.patience or failure or (stop and stop(epoch, scores[-1])):
            break
    network = TrainedNetwork.load(run)
    network.classifier.to(learner.device)
    return Fitted(network, time.perf_counter() - started, failure)


def _facts(classifier: PairClassifier, images: AnyImages, folds: Folds, recipe: Recipe, shown: float) -> NetworkFacts:
    correction = PriorCorrection.of(recipe.training, shown, folds.classes)
    return NetworkFacts(
        network=recipe.training.network,
        rendering=recipe.rendering,
        bins=images.spec.binning.bins,
        scale=images.spec.binning.scale,
        n_cells=images.typical_cells if isinstance(images, ManyStores) else images.spec.n_cells,
        classes=folds.classes,
        class_names=class_names(folds.classes, folds.directed),
        mirror=classifier.mirror,
        shown=shown,
        natural=folds.natural,
        loss_weights=correction.weights,
        gamma=correction.gamma,
        epoch=0,
    )


def _failure(settings: Training, epoch: int) -> str:
    kept = "nothing was learned" if epoch == 0 else "the best epoch before it is kept"
    return (
        f"training broke off in epoch {epoch + 1} of {settings.epochs}, as the loss is no finite number: {kept}; "
        f"lower the learning rate (now {settings.learning_rate:g}) or take another optimizer than {settings.optimizer}"
    )


def _make_learner(
    images: AnyImages, folds: Folds, recipe: Recipe, stream: PairStream, shown: float, seed: int
) -> Learner:
    settings, bins = recipe.training, images.spec.binning.bins
    device = choose_device(settings.device)
    # a store with label 2 says what a transposed image means; one with label 1 alone, of regulator → target, does not
    mirror = settings.mirror if settings.mirror is not None else folds.classes == 3 or not folds.directed
    classifier = PairClassifier(settings.network, recipe.rendering, bins, folds.classes, mirror).to(device)
    weight = class_weights(settings, shown, folds.classes)
    loss = make_loss(settings.loss, classes=folds.classes, weight=weight, gamma=settings.gamma)
    optimizer = make_optimizer(classifier, settings)
    steps = settings.epochs * stream.batches_per_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step / steps, settings.schedule))
    average = moving_average(settings.averaging)
    averaged = AveragedModel(classifier, multi_avg_fn=average, use_buffers=True) if settings.averaging else None
    flips = torch.Generator().manual_seed(seed) if mirror else None
    around = None if isinstance(images, ManyStores) else surroundings(classifier, images)
    forward = compiled(classifier) if settings.compile else classifier
    precision = choose_precision(settings.precision, device)
    return Learner(classifier, forward, averaged, loss, optimizer, schedule, flips, around, device, precision)


def _some(rows: Rows, seed: int) -> Rows:
    """The rows, or a random part of them, ascending."""
    if rows.size <= VALIDATION_ROWS:
        return rows
    return np.sort(np.random.default_rng([seed, Stream.VALIDATION_ROWS]).choice(rows, VALIDATION_ROWS, replace=False))


def _train_epoch(learner: Learner, stream: PairStream, progress: Progress) -> float:
    """One pass over the stream; the mean loss over its images. Not finite: the pass was broken off."""
    learner.classifier.train()
    losses, sizes = list[Tensor](), list[int]()
    for batch in stream:
        loss = _loss_of(learner, batch)
        learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learner.optimizer.step()
        learner.schedule.step()
        if learner.averaged is not None:
            learner.averaged.update_parameters(learner.classifier)
        losses.append(loss.detach())  # asking a GPU for the number would make it wait
        sizes.append(batch.label.numel())
        progress.advance(sizes[-1])
        if len(losses) % CHECKED == 0 and not bool(torch.stack(losses[-CHECKED:]).isfinite().all()):
            break
    return float(np.average(torch.stack(losses).cpu().numpy(), weights=sizes))


def _loss_of(learner: Learner, batch: Batch) -> Tensor:
    counts, label, flip = batch.counts, batch.label, None
    if learner.flips is not None:
        flip = torch.rand(len(counts), generator=learner.flips) < 0.5
        counts, label = mirrored(counts, label, flip, learner.classifier.classes)
    counts, both_zero = counts.to(learner.device), batch.both_zero.to(learner.device)
    with torch.autocast(learner.device.type, learner.precision, enabled=learner.precision is not None):
        genes = describe_batch(learner.classifier, learner.around, batch.row, learner.device)
        if genes is not None and flip is not None:
            genes = torch.where(flip.to(learner.device)[:, None, None], genes.flip(1), genes)
        logits = learner.forward(counts, both_zero, genes)
    return learner.loss(logits, label.to(learner.device))


def mirrored(counts: Tensor, label: Tensor, flip: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Some images (B, K, K) transposed, those of `flip` (B,), and their labels: a→b (1) is then b→a (2)."""
    turned = torch.tensor(turned_labels(classes))[label]
    return torch.where(flip[:, None, None], counts.mT, counts), torch.where(flip, turned, label)


def _validate(learner: Learner, images: AnyImages, rows: Rows, label: NDArray[np.int8]) -> list[float]:
    """Loss, balanced accuracy (at these rows' best threshold), AUROC and average precision on the validation fold."""
    probability = score_many(learner.evaluated, images, rows)
    if not np.isfinite(probability).all():
        return [math.nan] * 4
    truth = label[rows]
    loss = float(learner.loss(torch.from_numpy(np.log(np.maximum(probability, 1e-12))), torch.from_numpy(truth)))
    score = 1 - probability[:, 0]
    found = ranking_scores(truth, score, best_threshold(truth, score))
    return [loss, *(float(value) if value is not None else math.nan for value in found.values())]


def _rank_of(scores: list[float]) -> tuple[float, float]:
    """Better epochs are higher: average precision; where it is level but for rounding (as at 1), the lower loss."""
    loss, average_precision = scores[0], scores[-1]
    return (-math.inf, -math.inf) if math.isnan(average_precision) else (round(average_precision, 6), -loss)


class History:
    """`history.csv`, a row an epoch in the order of HISTORY, on disk as soon as the epoch ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text(",".join(HISTORY) + "\n", encoding="utf-8")

    def add(self, *values: float) -> None:
        """One epoch more, its values in the order of HISTORY."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(values)
