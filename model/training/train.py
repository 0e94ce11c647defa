"""The training of one network: folds in, the loop in the open, the weights of the best epoch out."""

import csv
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    turned_labels,
)
from pairscape.model.networks.device import choose_device, choose_precision, seed_everything
from pairscape.model.networks.prior import PriorCorrection, class_weights
from pairscape.model.networks.weights import NetworkFacts, class_names, save_weights, write_text
from pairscape.model.options import Recipe, Training
from pairscape.model.training.checkpoint import (
    Standing,
    job_of,
    machine_of,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from pairscape.model.training.learner import Learner, make_learner
from pairscape.model.training.optimize import make_loss
from pairscape.pipeline.compute.progress import Progress
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Stream
from pairscape.pipeline.storage.results import CHECKPOINT

VALIDATION_ROWS = 20_000  # scored after every epoch; a random part of a larger fold says the same
TRAINING = "training"  # the stage
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
AVERAGE_PRECISION = HISTORY.index("validation_average_precision")


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

    It goes on from the checkpoint that an interrupted call of the same job has left there, and leaves its own: the
    weights are those of a training in one piece, to the byte. `stop` gets the number of an epoch and its average
    precision on the validation fold, also of epochs of an interrupted call; training ends where it is true.
    """
    started, settings, label = time.perf_counter(), recipe.training, folds.pairs.label
    seed_everything(seed)
    stream = PairStream(images, folds.train, label, settings, seed)
    learner = make_learner(images, folds, recipe, stream, stream.share_of_positives, seed)
    facts = _facts(learner.classifier, images, folds, recipe, stream.share_of_positives)
    job, machine, watched = job_of(images, folds, recipe, seed), machine_of(recipe), _some(folds.validation, seed)
    found = read_checkpoint(run / CHECKPOINT, job)
    at = Standing() if found is None else restore(found, learner)
    stream.load_state_dict({"seed": seed, "epoch": len(at.rows), "batches": 0})
    progress.start(TRAINING, settings.epochs * stream.images_per_epoch)
    progress.advance(len(at.rows) * stream.images_per_epoch)
    write_history(run / "history.csv", at.rows)
    if at.rows:
        _write_best(run, at, facts)
    before, stopped = at.seconds, False
    for row in at.rows:  # of an interrupted call: only the last may be one to stop at
        stopped = stop is not None and stop(int(row[0]), row[AVERAGE_PRECISION])
    while not (stopped or at.failure or _is_over(at, settings)):
        at = _learn_epoch(learner, stream, images, watched, settings, at, progress)
        at = replace(at, seconds=before + time.perf_counter() - started)
        save_checkpoint(run / CHECKPOINT, job, machine, learner, at)
        write_history(run / "history.csv", at.rows)
        if at.best_epoch == len(at.rows) - 1:
            _write_best(run, at, facts)
        stopped = stop is not None and stop(len(at.rows) - 1, at.rows[-1][AVERAGE_PRECISION])
    network = TrainedNetwork.load(run)
    network.classifier.to(learner.device)
    return Fitted(network, before + time.perf_counter() - started, at.failure)


def _is_over(at: Standing, settings: Training) -> bool:
    """Whether all epochs are made, or the score has not risen for too long."""
    done = len(at.rows)
    return done >= settings.epochs or (done > 0 and done - 1 - at.best_epoch >= settings.patience)


def _learn_epoch(
    learner: Learner,
    stream: PairStream,
    images: AnyImages,
    watched: Rows,
    settings: Training,
    at: Standing,
    progress: Progress,
) -> Standing:
    """One epoch more: where the training stands after it."""
    began, epoch = time.perf_counter(), len(at.rows)
    rate, train_loss = float(learner.schedule.get_last_lr()[0]), _train_epoch(learner, stream, progress)
    scores = _validate(learner, images, watched, stream.label)
    row = (epoch, rate, train_loss, *scores, time.perf_counter() - began)
    failure = None if math.isfinite(train_loss) else _failure(settings, epoch)
    at = replace(at, rows=(*at.rows, row), failure=failure)
    rank = _rank_of(scores)
    if not (epoch == 0 or rank > at.best):
        return at
    weights = {name: tensor.detach().cpu().clone() for name, tensor in learner.evaluated.state_dict().items()}
    return replace(at, best=rank, best_epoch=epoch, best_weights=weights)


def _write_best(run: Path, at: Standing, facts: NetworkFacts) -> None:
    save_weights(run / "model.safetensors", at.best_weights, replace(facts, epoch=at.best_epoch))


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


def write_history(path: Path, rows: Sequence[Sequence[float]] = ()) -> None:
    """Write `history.csv` whole: a row an epoch, in the order of HISTORY."""
    text = io.StringIO(newline="")
    text.write(",".join(HISTORY) + "\n")
    csv.writer(text).writerows(rows)
    write_text(path, text.getvalue())
