"""Training and scoring on a GPU: images a second, how busy the GPU is, and how near that is to tensors in memory.

python -m benchmarks.gpu [--store IMAGES.zarr] [--networks pairnet] [--images 200000] [--rounds 3]

Without a store one is made, of a simulated atlas of 2,000 cells with random labels: what a network costs does not
depend on what it learns. Training is `benchmarks.stream`'s, the same loop fed from the store and from memory in turn;
scoring is what `evaluate` does on all rows, beside the same images from memory. `gpu_busy` is the share of the time
in which the GPU computes. On a machine without a GPU all runs on the CPU, as a rehearsal. Prints a table and JSON.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import pairscape
from benchmarks.stream import training
from pairscape.model.networks.classifier import PairClassifier, score_images, score_rows
from pairscape.model.networks.device import choose_device
from pairscape.model.networks.fast import prepare
from pairscape.model.options import Rendering
from pairscape.pipeline.datasets.designs import Atlas
from pairscape.pipeline.heatmaps.images import Images, open_images
from pairscape.pipeline.heatmaps.read import read_images
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, Compute, PairSource

CELLS, DENSITY, POSITIVE = 2000, 0.13, 0.2
IN_MEMORY = 50_000  # images, 200 MB


def made_store(folder: Path, images: int) -> Images:
    """So many images of a simulated atlas, a fifth of them labelled positive at random."""
    genes = int(np.ceil(np.sqrt(2 * images))) + 1
    here = Compute("synchronous")
    pairscape.simulate(folder / "atlas.zarr", atlas=Atlas(CELLS, genes, DENSITY), compute=here, quiet=True)
    a, b = (side[:images] for side in np.triu_indices(genes, 1))
    names = np.asarray(open_expression(folder / "atlas.zarr").genes)
    label = np.random.default_rng(0).random(a.size) < POSITIVE
    pairs = folder / "pairs.csv"
    pd.DataFrame({"gene_a": names[a], "gene_b": names[b], "label": label.astype(int)}).to_csv(pairs, index=False)
    source, target = PairSource(pairs=pairs), folder / "images.zarr"
    binning = Binning("rank", 32)
    pairscape.heatmaps(folder / "atlas.zarr", target, source=source, binning=binning, compute=here, quiet=True)
    return open_images(target)


class Watched:
    """A function on the device that notes for how long the device computes."""

    def __init__(self, function: Any, device: torch.device) -> None:
        self.function, self.device, self.spans = function, device, list[list[torch.cuda.Event]]()

    def __call__(self, *batch: Tensor) -> Tensor:
        """What the function says."""
        if self.device.type != "cuda":
            return self.function(*batch)
        span = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        span[0].record()
        found: Tensor = self.function(*batch)
        span[1].record()
        self.spans.append(span)
        return found

    def seconds(self) -> float | None:
        """Of computing until now; None where there is no GPU."""
        if self.device.type != "cuda":
            return None
        torch.cuda.synchronize()
        return sum(first.elapsed_time(last) for first, last in self.spans) / 1000


def scoring(images: Images, network: str, rounds: int, device: torch.device) -> dict[str, Any]:
    """All rows of a store, beside some of its images from memory; the fastest of some rounds."""
    classifier = PairClassifier(network, Rendering(), images.spec.binning.bins, 2, mirror=True).to(device).eval()
    rows, ready = np.arange(images.spec.n_pairs), prepare(classifier, device)
    held = read_images(images, rows[:IN_MEMORY])
    score_rows(classifier, images, rows[:4096], lambda _: None, ready)  # warms up
    stored, memory, busy = list[float](), list[float](), list[float | None]()
    for _ in range(rounds):
        watched, started = Watched(ready, device), time.perf_counter()
        score_rows(classifier, images, rows, lambda _: None, watched)
        stored.append(time.perf_counter() - started)
        seconds, started = watched.seconds(), time.perf_counter()
        busy.append(None if seconds is None else seconds / stored[-1])
        score_images(classifier, *held, ready)
        memory.append(time.perf_counter() - started)
    best = int(np.argmin(stored))
    rate, from_memory = rows.size / stored[best], len(held[0]) / min(memory)
    return {
        "store_images_per_s": round(rate, 1),
        "memory_images_per_s": round(from_memory, 1),
        "store_over_memory": round(rate / from_memory, 3),
        "gpu_busy": None if busy[best] is None else round(float(busy[best] or 0), 3),
    }


def measure(images: Images, networks: Sequence[str], rounds: int) -> dict[str, Any]:
    """Both, of every network."""
    place = choose_device("auto")
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else place.type
    figures = {
        network: {
            "training": training(images, network, "down", rounds, resident=False),
            "scoring": scoring(images, network, rounds, place),
        }
        for network in networks
    }
    return {"device": name, "images": images.spec.n_pairs, "torch": torch.__version__, "networks": figures}


def main(given: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--networks", type=lambda text: text.split(","), default=["pairnet"])
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)

    arguments = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as folder:
        images = open_images(arguments.store) if arguments.store else made_store(Path(folder), arguments.images)
        found = measure(images, arguments.networks, arguments.rounds)
    print(f"{found['device']}, {found['images']:,} images")
    for network, parts in found["networks"].items():
        for part, own in parts.items():
            told = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in own.items() if value is not None)
            print(f"{network:14}{part:10}{told}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
