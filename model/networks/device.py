"""Devices, precision and repeatability: seeds, deterministic algorithms, number of threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pairscape.pipeline.errors import InputError


def seed_everything(seed: int) -> None:
    """Make torch repeat itself: same seed, same weights, on the same machine and number of threads."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread meanwhile: sums of floats depend on how many share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_device(name: str) -> torch.device:
    """A device by name; `auto` is a CUDA GPU, else that of Apple, else the CPU. InputError where it is absent."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name, False):
        there = ", ".join(kind for kind, yes in available.items() if yes)
        raise InputError(f"device {name!r} is not available here; give auto or one of: {there}.")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """Type of the layers in training; None: float32. `auto` is bfloat16 on a CUDA GPU that has it.

    On CPUs without matrix units for it, bfloat16 trains 5 to 10 times more slowly, so there it is only taken if asked.
    InputError where a CUDA GPU lacks it.
    """
    if name == "float32" or (name == "auto" and device.type != "cuda"):
        return None
    if device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    if name == "auto":
        return None
    raise InputError(f"precision bfloat16 is not known to {torch.cuda.get_device_name(device)}; give auto or float32.")
