"""Every architecture on this machine: its parameters, and images a second in training and at prediction.

python -m benchmarks.networks [--bins 32] [--batch 250] [--seconds 2] [--device auto] [--precision auto]

Random images of 1,000 cells, drawn and learned from in memory, so that nothing is read. `deepdrim` learns from pairs of
`--genes` genes, described once a batch; at prediction genes count as described already, as in a store that is scored
whole. Prints JSON.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.device import choose_device, choose_precision
from pairscape.model.networks.pairnet import GENE_LOADINGS
from pairscape.model.networks.published import GENE_FEATURES, IMAGES_PER_GENE, NETWORKS, usual_rendering
from pairscape.model.options import Training
from pairscape.model.training.optimize import compiled, cross_entropy, make_optimizer

CELLS = 1000


@dataclass(frozen=True)
class Size:
    """What is measured: side length of the images, images a batch, genes that their pairs are of."""

    bins: int
    batch: int
    genes: int


def random_counts(n: int, bins: int, seed: int = 0) -> Tensor:
    """(n, bins, bins) int32 images of 1,000 cells that gather in a corner, as expression does."""
    rng = np.random.default_rng(seed)
    side = rng.exponential(bins / 8, (n, 2, CELLS)).astype(np.int64).clip(max=bins - 1)
    flat = side[:, 0] * bins + side[:, 1] + np.arange(n)[:, None] * bins**2
    counts = np.bincount(flat.ravel(), minlength=n * bins**2).reshape(n, bins, bins)
    return torch.from_numpy(counts.astype(np.int32))


def rate(step: Callable[[], Any], images: int, seconds: float, device: torch.device) -> float:
    """Images a second over so many seconds, one step warmed up before."""
    step()
    _wait(device)
    started, steps = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or not steps:
        step()
        steps += 1
        _wait(device)
    return images * steps / (time.perf_counter() - started)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(name: str, size: Size, seconds: float, settings: Training) -> dict[str, Any]:
    """Figures of one architecture on images as it usually takes them."""
    torch.manual_seed(0)
    device = choose_device(settings.device)
    precision = choose_precision(settings.precision, device)
    classifier = PairClassifier(name, usual_rendering(name), size.bins, 2, mirror=False).to(device)
    forward = compiled(classifier) if settings.compile else classifier
    optimizer = make_optimizer(classifier, settings)
    counts, neither = random_counts(size.batch, size.bins).to(device), torch.zeros(size.batch, device=device)
    label = (torch.arange(size.batch) % 2).to(device)
    pair = torch.randint(size.genes, (size.batch, 2))
    genes, place = pair.unique(return_inverse=True)
    around = random_counts(len(genes) * IMAGES_PER_GENE, size.bins).unflatten(0, (-1, IMAGES_PER_GENE)).to(device)
    around_neither = torch.zeros(around.shape[:2], device=device)

    told = GENE_FEATURES if classifier.needs_neighbours else GENE_LOADINGS
    known = torch.zeros(size.batch, 2, told, device=device) if classifier.knows_genes else None

    def train() -> None:
        with torch.autocast(device.type, precision, enabled=precision is not None):
            described = classifier.describe(around, around_neither)[place] if classifier.needs_neighbours else known
            logits = forward(counts, neither, described)
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(logits, label).backward()
        optimizer.step()

    @torch.inference_mode()
    def predict() -> None:
        classifier.probabilities(counts, neither, known)

    training = rate(train, size.batch, seconds, device)
    classifier.eval()
    return {
        "parameters": sum(parameter.numel() for parameter in classifier.parameters()),
        "train_images_per_s": round(training),
        "predict_images_per_s": round(rate(predict, size.batch, seconds, device)),
    }


def main() -> None:
    """Print the figures of all architectures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("bins", 32), ("batch", 250), ("genes", 400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    given = parser.parse_args()
    size = Size(given.bins, given.batch, given.genes)
    settings = Training(device=given.device, precision=given.precision, compile=given.compile)
    figures: dict[str, Any] = {
        "device": str(choose_device(given.device)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **vars(size),
    }
    print(
        json.dumps(figures | {"networks": {n: measure(n, size, given.seconds, settings) for n in NETWORKS}}, indent=2)
    )


if __name__ == "__main__":
    main()
