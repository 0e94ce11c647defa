"""Optimizer, learning rate, moving average, compilation and the losses of a training."""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.options import Training
from pairscape.pipeline.errors import InputError

WARM_UP = 0.1

Tensors = tuple[Tensor, ...] | list[Tensor]


def make_optimizer(classifier: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """The optimizer of a recipe; weights decay, biases and norms do not."""
    matrices = [p for p in classifier.parameters() if p.ndim > 1]
    vectors = [p for p in classifier.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=settings.learning_rate)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True)


def rate_at(done: float, schedule: str) -> float:
    """Share of the highest learning rate after a share of all steps."""
    if schedule == "constant":
        return 1.0
    if done < WARM_UP:
        return max(done / WARM_UP, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min((done - WARM_UP) / (1 - WARM_UP), 1.0)))


def moving_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Exponential average of weights that forgets faster at first, so that the random start does not linger."""

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
        counted = torch.as_tensor(steps, dtype=torch.float32)  # left where it is: asking a GPU would make it wait
        taken = 1 - ((1 + counted) / (10 + counted)).clamp_max(decay)
        for average, value in zip(averaged, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, taken)
            else:
                average.copy_(value)  # a counter

    return update


def compiled(classifier: PairClassifier) -> Callable[..., Tensor]:
    """The classifier through torch.compile; where that fails at the first batch, as it is, with a warning."""
    chosen: Callable[..., Tensor] = torch.compile(classifier)

    def forward(*batch: Tensor | None) -> Tensor:
        nonlocal chosen
        try:
            return chosen(*batch)
        except RuntimeError as error:
            if chosen is classifier:
                raise
            chosen, logits = classifier, classifier(*batch)  # whatever else went wrong is raised here again
            reason = " ".join(str(error).split())[:200]
            warnings.warn(f"torch.compile does not work here, so training goes on without: {reason}", stacklevel=2)
            return logits

    return forward


# ---------------------------------------------------------------- losses

Loss = Callable[[Tensor, Tensor], Tensor]
"""Mean loss in nats, a scalar, of logits (B, classes) and labels (B,) from 0 to classes - 1."""

LOSSES = ("cross-entropy", "weighted", "focal")

FOCAL_GAMMA = 2.0  # the value that Lin et al. found best


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``-log p_y``; see `Loss`."""
    return functional.cross_entropy(logits, labels.long())


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``-w_y log p_y`` over the images of the batch, `weight` (classes,); see `Loss`.

    With two classes this is ``-(w+ y log p + w- (1 - y) log(1 - p))``. The mean divides by the number of images, not by
    the sum of their weights (torch's habit): else a batch of one class only would not feel its weight at all.
    """
    weight = weight.to(logits)
    return functional.cross_entropy(logits, labels.long(), weight=weight, reduction="sum") / len(labels)


def focal(logits: Tensor, labels: Tensor, gamma: float = FOCAL_GAMMA) -> Tensor:
    """Mean of ``-(1 - p_y)^gamma log p_y``: images already answered well count little; see `Loss`.

    Gamma 0 gives the cross-entropy. Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.
    """
    log_p = functional.log_softmax(logits, dim=1).gather(1, labels.long()[:, None])[:, 0]  # (B,)
    missed = (-log_p.expm1()).clamp_min(1e-12)  # 1 - p_y; above 0, where a gamma below 1 has no slope
    return -(missed**gamma * log_p).mean()


def make_loss(name: str, *, classes: int, weight: Sequence[float] | None = None, gamma: float = FOCAL_GAMMA) -> Loss:
    """The loss of a name: ``cross-entropy``, ``weighted`` or ``focal``.

    Parameters
    ----------
    weight
        One weight per class, in the order of the labels; for ``weighted``.
    gamma
        Strength of the focus, 0 or more; for ``focal``.

    Raises
    ------
    InputError
        The name is unknown, or ``weighted`` lacks one finite, non-negative weight per class.
    """
    if name == "cross-entropy":
        return cross_entropy
    if name == "focal":
        return partial(focal, gamma=gamma)
    if name != "weighted":
        raise InputError(f"loss {name!r} is unknown, so nothing can be trained; choose one of {', '.join(LOSSES)}.")
    values = torch.as_tensor([] if weight is None else list(weight), dtype=torch.float32)
    if len(values) != classes or not bool((values.isfinite() & (values >= 0)).all()):
        raise InputError(
            f"loss 'weighted' got the class weights {weight}, but needs {classes} numbers of 0 or more, one per class; "
            "give them, or choose cross-entropy."
        )
    return lambda logits, labels: weighted_cross_entropy(logits, labels, values)
