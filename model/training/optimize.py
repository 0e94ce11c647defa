"""How the weights move: optimizer, learning rate, moving average, and what the layers are computed in."""

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.options import Training
from pairscape.pipeline.errors import InputError

WARM_UP = 0.1

Tensors = tuple[Tensor, ...] | list[Tensor]


def make_optimizer(classifier: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """Weights decay, biases and norms do not."""
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
    """Exponential average that forgets faster at first, so that the random start does not linger."""

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


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """What the layers are computed in while training; None: float32. `auto` takes bfloat16 on a CUDA GPU that has it.

    On CPUs without matrix units for it, bfloat16 trains 5 to 10 times more slowly, so there it is only taken if asked.

    Raises
    ------
    InputError
        bfloat16 on a CUDA GPU that has it not.
    """
    if name == "float32" or (name == "auto" and device.type != "cuda"):
        return None
    if device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    if name == "auto":
        return None
    raise InputError(f"precision bfloat16 is not known to {torch.cuda.get_device_name(device)}; give auto or float32.")


def compiled(classifier: PairClassifier) -> Callable[..., Tensor]:
    """The classifier through torch.compile; with a warning as it is where that fails, which shows at the first batch.

    Torch compiles with a compiler of the machine, and many have none.
    """
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
