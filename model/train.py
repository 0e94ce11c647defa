"""The training job: folds, the loop in the open, and the weights of the best epoch. What they are worth: `evaluate`."""

import csv
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from model.checkpoint import load_weights, save_weights, seed_everything
from model.classifier import PairClassifier, choose_device, score_rows
from model.foldfile import given_folds
from model.losses import Loss, make_loss
from model.metrics import best_threshold, ranking_scores
from model.sampling import Rows, common_per_rare
from model.spec import Recipe, Splitting, Training
from model.splits import TEST, TRAIN, VALIDATION, FoldArray, Folds, assign_folds, match_negatives
from model.stream import PairStream, loader
from pipeline.errors import InputError
from pipeline.images import Images
from pipeline.naming import Vocabulary
from pipeline.pairs import Pairs
from pipeline.progress import Progress

VALIDATION_ROWS = 20_000  # scored after every epoch; a random part of a larger fold says the same
WARM_UP = 0.1

Tensors = tuple[Tensor, ...] | list[Tensor]

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


def make_folds(images: Images, recipe: Recipe, seed: int) -> Folds:
    """Deal the labelled pairs of a store to folds.

    Raises
    ------
    InputError
        No labels, a fold without both classes, or a file of folds that does not fit (see `model.foldfile`).
    """
    pairs = images.pairs()
    folds, notes = _assigned(images, pairs, recipe.splitting, seed)
    rows = [np.flatnonzero(folds == fold) for fold in (TRAIN, VALIDATION, TEST)]
    if not (pairs.label >= 0).any():
        raise InputError(
            f"{images.path} has no labels, so nothing can be learned; make it with --network or --labels replicate."
        )
    for name, part in zip(("training", "validation", "test"), rows, strict=True):
        positive, negative = int((pairs.label[part] > 0).sum()), int((pairs.label[part] == 0).sum())
        if not positive or not negative:
            raise InputError(
                f"the {name} fold of {images.path} has {positive:,} positive and {negative:,} negative pairs, both are "
                f"needed; give more labelled pairs, another --split than {recipe.splitting.split}, or larger shares."
            )
    return Folds(pairs, rows[0], rows[1], rows[2], is_directed(images), notes)


def _assigned(images: Images, pairs: Pairs, splitting: Splitting, seed: int) -> tuple[FoldArray, tuple[str, ...]]:
    """Fold of every pair, (P,) int8, and what is to be said of it."""
    genes = images.array("gene").tolist()
    if splitting.split != "file":
        return assign_folds(pairs, len(genes), splitting, seed), ()
    ignore_case = images.provenance.get("pairs", {}).get("ignore_case") == "True"  # as the lists of the store were read
    vocabulary = Vocabulary(genes, ignore_case=ignore_case)
    folds, notes = given_folds(pairs, vocabulary, splitting, is_directed(images), images.list_row())
    if splitting.negatives == "matched":
        folds = match_negatives(pairs, folds, len(genes), seed)
    return folds, notes


def is_directed(images: Images) -> bool:
    """Whether gene_a regulates gene_b in a positive pair (regulators were named, or a label says b→a)."""
    source = images.provenance.get("pairs", {})
    co_expression = "all_pairs" in source or source.get("labels") == "replicate"
    return not co_expression and ("regulators" in source or bool((images.array("label") == 2).any()))


def check_recipe(images: Images, folds: Folds, recipe: Recipe) -> None:
    """Refuse choices that do not fit the store or this machine, before any run folder is touched.

    Raises
    ------
    InputError
        Unknown network, loss, channels or device; class weights, pool or bins that do not fit.
    """
    settings = recipe.training
    choose_device(settings.device)
    make_loss(settings.loss, classes=folds.classes, weight=_class_weights(settings, 0.5, folds.classes))
    PairClassifier(settings.network, recipe.rendering, images.spec.binning.bins, folds.classes, mirror=False)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained classifier, with the weights of its best epoch.

    Attributes
    ----------
    shown
        Share of positives in the batches it saw.
    seconds
        Of training.
    """

    classifier: PairClassifier
    device: torch.device
    shown: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Learner:
    """What changes while training.

    Attributes
    ----------
    classifier
        Learns from every batch.
    averaged
        Moving average of its weights, which is evaluated and saved; the classifier itself where averaging is off.
    flips
        Decides which images of a batch are shown mirrored; None where a mirror means something else.
    """

    classifier: PairClassifier
    averaged: AveragedModel | None
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    flips: torch.Generator | None
    device: torch.device

    @property
    def evaluated(self) -> PairClassifier:
        """The classifier whose predictions count."""
        return self.averaged.module if self.averaged is not None else self.classifier  # type: ignore[return-value]


def fit(images: Images, folds: Folds, recipe: Recipe, run: Path, seed: int, progress: Progress) -> Fitted:
    """Train a classifier; leaves `history.csv` and `model.safetensors` (the best epoch so far) in the run folder."""
    started, settings, label = time.perf_counter(), recipe.training, folds.pairs.label
    seed_everything(seed)
    ratio = settings.ratio if settings.balance == "down" else None
    stream = PairStream(images, folds.train, label, ratio=ratio, batch_size=settings.batch_size, seed=seed)
    shown = _share_of_positives(stream, label)
    learner = _make_learner(images, folds, recipe, stream, shown, seed)
    watched = _some(folds.validation, seed)
    history, best, since_best = _History(run / "history.csv"), (-math.inf, -math.inf), 0
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
            facts = learner.classifier.facts | {"shown": shown, "epoch": epoch}
            save_weights(run / "model.safetensors", learner.evaluated.state_dict(), facts)
        if since_best >= settings.patience or not math.isfinite(train_loss):
            break
    state, _ = load_weights(run / "model.safetensors")
    learner.classifier.load_state_dict(state)
    return Fitted(learner.classifier, learner.device, shown, time.perf_counter() - started)


def _make_learner(images: Images, folds: Folds, recipe: Recipe, stream: PairStream, shown: float, seed: int) -> Learner:
    settings, bins = recipe.training, images.spec.binning.bins
    device = choose_device(settings.device)
    mirror = settings.mirror if settings.mirror is not None else not folds.directed
    classifier = PairClassifier(settings.network, recipe.rendering, bins, folds.classes, mirror).to(device)
    loss = make_loss(settings.loss, classes=folds.classes, weight=_class_weights(settings, shown, folds.classes))
    optimizer = _make_optimizer(classifier, settings)
    steps = settings.epochs * max(stream.images_per_epoch // settings.batch_size, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_at(step / steps, settings.schedule))
    average = _moving_average(settings.averaging)
    averaged = AveragedModel(classifier, multi_avg_fn=average, use_buffers=True) if settings.averaging else None
    flips = torch.Generator().manual_seed(seed) if mirror else None
    return Learner(classifier, averaged, loss, optimizer, schedule, flips, device)


def _make_optimizer(classifier: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """Weights decay, biases and norms do not."""
    matrices = [p for p in classifier.parameters() if p.ndim > 1]
    vectors = [p for p in classifier.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=settings.learning_rate)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True)


def _rate_at(done: float, schedule: str) -> float:
    """Share of the highest learning rate after a share of all steps."""
    if schedule == "constant":
        return 1.0
    if done < WARM_UP:
        return max(done / WARM_UP, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min((done - WARM_UP) / (1 - WARM_UP), 1.0)))


def _moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Exponential average that forgets faster at first, so that the random start does not linger."""

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
        kept = min(decay, (1 + float(steps)) / (10 + float(steps)))
        for average, value in zip(averaged, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, 1 - kept)
            else:
                average.copy_(value)  # a counter

    return update


def _class_weights(settings: Training, shown: float, classes: int) -> tuple[float, ...] | None:
    """As given, or inverse to the share of the class in the batches, so that both classes weigh the same."""
    if settings.loss != "weighted":
        return None
    if settings.class_weights is not None:
        return settings.class_weights
    return (0.5 / (1 - shown), *[0.5 / shown] * (classes - 1))


def _share_of_positives(stream: PairStream, label: NDArray[np.int8]) -> float:
    population = stream.population
    rare, common = 1.0, common_per_rare(population, stream.drawing.ratio)
    positive = rare if label[population.rare[0]] > 0 else common
    return positive / (rare + common)


def _some(rows: Rows, seed: int) -> Rows:
    """The rows, or a random part of them, ascending."""
    if rows.size <= VALIDATION_ROWS:
        return rows
    return np.sort(np.random.default_rng([seed, 4]).choice(rows, VALIDATION_ROWS, replace=False))


def _train_epoch(learner: Learner, stream: PairStream, progress: Progress) -> float:
    """One pass over the stream; the mean loss over its images."""
    learner.classifier.train()
    total, seen = 0.0, 0
    for batch in loader(stream):
        counts = _mirrored(batch.counts, learner.flips).to(learner.device)
        logits = learner.classifier(counts, batch.both_zero.to(learner.device))
        loss = learner.loss(logits, batch.label.to(learner.device))
        learner.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        learner.optimizer.step()
        learner.schedule.step()
        if learner.averaged is not None:
            learner.averaged.update_parameters(learner.classifier)
        total, seen = total + float(loss.detach()) * len(logits), seen + len(logits)
        progress.advance(len(logits))
    return total / max(seen, 1)


def _mirrored(counts: Tensor, flips: torch.Generator | None) -> Tensor:
    """Each image transposed with probability one half: (a, b) and (b, a) are the same pair."""
    if flips is None:
        return counts
    flip = torch.rand(len(counts), generator=flips) < 0.5
    return torch.where(flip[:, None, None], counts.mT, counts)


def _validate(learner: Learner, images: Images, rows: Rows, label: NDArray[np.int8]) -> list[float]:
    """Loss, balanced accuracy (at these rows' best threshold), AUROC and average precision on the validation fold."""
    probability = score_rows(learner.evaluated, images, rows, label, learner.device, lambda _: None)
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


class _History:
    """`history.csv`, a row an epoch, on disk as soon as the epoch ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text(",".join(HISTORY) + "\n")

    def add(self, *values: float) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(values)
