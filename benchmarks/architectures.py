"""Every architecture on one image store, by the same recipe: scores, parameters and speed, with the audit beside them.

python -m benchmarks.architectures IMAGES.zarr FOLDER [--networks pairnet cnnc …] [--epochs 6] [--ratio 3] [--seed 0]

Split `both`. Each network trains into FOLDER/NAME, unless it was before. `pairnet`, `pairnet-factors` and `deepdrim`
take the default learning rate, the networks without normalisation layers a third of it. Images a second are of training
on images in memory, as `benchmarks.networks` measures it. Prints a Markdown table.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pairscape
from benchmarks.networks import Size, measure
from pairscape.model.networks.published import NETWORKS, usual_rendering
from pairscape.model.options import Training
from pairscape.pipeline.heatmaps.images import Images, open_images

COLUMNS = ("balanced_accuracy", "auroc", "average_precision")


def training_of(name: str, epochs: int, ratio: float) -> Training:
    """The recipe, which differs between networks in the learning rate alone."""
    rate = Training.learning_rate if name in ("pairnet", "pairnet-factors", "deepdrim") else Training.learning_rate / 3
    return Training(network=name, epochs=epochs, ratio=ratio, learning_rate=rate)


def trained(images: Path, run: Path, training: Training, seed: int) -> dict[str, Any]:
    """What `metrics.json` of the run holds."""
    metrics = run / "metrics.json"
    if metrics.exists():
        return dict(json.loads(metrics.read_text()))
    rendering = usual_rendering(training.network)
    return pairscape.train(images, run, rendering=rendering, training=training, seed=seed, overwrite=True, quiet=True)


def row_of(name: str, images: Images, metrics: dict[str, Any], seconds: float) -> str:
    """One network's row of the table."""
    found = measure(name, Size(images.spec.binning.bins, 250, 400), seconds, Training())
    collapsed = "**yes**" if metrics["collapsed"] else "no"
    speed = f"{found['parameters']:,} | {found['train_images_per_s']:,}"
    return f"| {name} | {scores_of(metrics['test'])} | {collapsed} | {speed} |"


def scores_of(scores: dict[str, Any]) -> str:
    """The columns that networks and audit share."""
    return " | ".join(f"{scores[column]:.3f}" for column in COLUMNS)


def main() -> None:
    """Train what is not trained yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--ratio", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    print("| network | balanced accuracy | AUROC | AP | collapsed | parameters | images/s |")
    print("|---|---|---|---|---|---|---|")
    for name in given.networks:
        run = given.folder / name
        metrics = trained(given.images, run, training_of(name, given.epochs, given.ratio), given.seed)
        print(row_of(name, open_images(given.images), metrics, given.seconds), flush=True)
    for name, scores in metrics["audit"].items():
        print(f"| {name.replace('_', ' ')} | {scores_of(scores)} | | | |")


if __name__ == "__main__":
    main()
