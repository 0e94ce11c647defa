"""What a training changes: the network and its average, the optimizer and its schedule, the draw of the mirrors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from pairscape.model.batches.folds import Folds
from pairscape.model.batches.many import AnyImages, ManyStores
from pairscape.model.batches.stream import PairStream
from pairscape.model.networks.classifier import PairClassifier, surroundings
from pairscape.model.networks.device import choose_device, choose_precision
from pairscape.model.networks.gene_context import Loadings, Neighbourhoods
from pairscape.model.networks.prior import class_weights
from pairscape.model.options import Recipe, Training
from pairscape.model.training.optimize import Loss, compiled, make_loss, make_optimizer, moving_average, rate_at


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

    @property
    def groups(self) -> list[dict[str, Any]]:
        """Weights with the options that the optimizer has for them."""
        return self.optimizer.param_groups


def make_learner(
    images: AnyImages, folds: Folds, recipe: Recipe, stream: PairStream, shown: float, seed: int
) -> Learner:
    """The untrained network of a recipe on its device, with all that trains it; `shown` is the share of positives."""
    settings, bins = recipe.training, images.spec.binning.bins
    device = choose_device(settings.device)
    mirror = shows_mirrors(settings, folds)
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


def shows_mirrors(settings: Training, folds: Folds) -> bool:
    """Whether images are shown transposed too, and predictions averaged over both."""
    # a store with label 2 says what a transposed image means; one with label 1 alone, of regulator → target, does not
    return settings.mirror if settings.mirror is not None else folds.classes == 3 or not folds.directed
