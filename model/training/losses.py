"""The losses: cross-entropy, class-weighted cross-entropy, focal. Each takes logits and labels, returns the mean."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from pairscape.pipeline.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES = ("cross-entropy", "weighted", "focal")

FOCAL_GAMMA = 2.0  # the value that Lin et al. found best


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of ``-log p_y``.

    Parameters
    ----------
    logits
        (B, classes) float, before the softmax.
    labels
        (B,) of any integer dtype, 0 .. classes - 1.

    Returns
    -------
    Tensor
        () float, in nats.
    """
    return functional.cross_entropy(logits, labels.long())


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``-w_y log p_y`` over the images of the batch.

    With two classes this is ``-(w+ y log p + w- (1 - y) log(1 - p))``, ``weight`` being (w-, w+). The mean divides by
    the number of images, not by the sum of their weights (torch's habit): else a batch of one class only would not feel
    its weight at all.

    Parameters
    ----------
    logits
        (B, classes) float, before the softmax.
    labels
        (B,) of any integer dtype, 0 .. classes - 1.
    weight
        (classes,) float, the weight of each class.

    Returns
    -------
    Tensor
        () float, in nats.
    """
    weight = weight.to(logits)
    return functional.cross_entropy(logits, labels.long(), weight=weight, reduction="sum") / len(labels)


def focal(logits: Tensor, labels: Tensor, gamma: float = FOCAL_GAMMA) -> Tensor:
    """Mean of ``-(1 - p_y)^gamma log p_y``: images already answered well count little.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017.

    Parameters
    ----------
    logits
        (B, classes) float, before the softmax.
    labels
        (B,) of any integer dtype, 0 .. classes - 1.
    gamma
        Strength of the focus; 0 gives the cross-entropy.

    Returns
    -------
    Tensor
        () float, in nats.
    """
    log_p = functional.log_softmax(logits, dim=1).gather(1, labels.long()[:, None])[:, 0]  # (B,)
    missed = (-log_p.expm1()).clamp_min(1e-12)  # 1 - p_y; above 0, where a gamma below 1 has no slope
    return -(missed**gamma * log_p).mean()


def make_loss(name: str, *, classes: int, weight: Sequence[float] | None = None, gamma: float = FOCAL_GAMMA) -> Loss:
    """Choose the loss by name.

    Parameters
    ----------
    name
        ``cross-entropy``, ``weighted`` or ``focal``.
    classes
        Number of classes, the width of the logits.
    weight
        One weight per class, in the order of the labels. Needed by ``weighted``, ignored by the others.
    gamma
        Strength of the focus of ``focal``, 0 or more; ignored by the others.

    Returns
    -------
    Callable
        (logits (B, classes), labels (B,)) to the mean loss, a scalar.

    Raises
    ------
    InputError
        If the name is unknown, or ``weighted`` lacks one finite, non-negative weight per class.
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
