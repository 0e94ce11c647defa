"""How fast an image store is read into batches, how well they are mixed, and what that costs in memory.

python -m benchmarks.stream STORE [--network pairnet] [--rounds 3] [--threads T] [--million 50]

Raw reading is in one process, from the page cache: whole epochs of the natural balance as batches of tensors, beside
zarr-python and, where they are installed, zarrs reading whole shards, and single images at random. Training is the same
loop fed from the store and from tensors in memory, in turn. Memory is that of a new process which holds labels and rows
of a store of so many million images, plans epochs and turns over windows; its images are made up. Prints JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch.nn.functional import cross_entropy

from pairscape.model.batches.order import Window, epoch_windows, images_shown
from pairscape.model.batches.stream import Batch, BlockReader, HeldWindow, PairStream
from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.device import choose_device
from pairscape.model.options import Balance, Rendering, Training
from pairscape.pipeline.compute.tasks import peak_memory
from pairscape.pipeline.heatmaps.images import Images, ImageSpec, open_images, stored_array
from pairscape.pipeline.heatmaps.read import read_images
from pairscape.pipeline.options import Binning

BATCH, RATIO, SINGLE, PARTS = 250, 9.0, 200, 64
BALANCES: tuple[Balance, ...] = ("down", "over", "natural")


def stream_of(images: Images, balance: Balance, *, resident: bool = False) -> PairStream:
    """A stream of all labelled rows, which are read anew in every epoch unless `resident`."""
    label = images.array("label")
    rows = np.flatnonzero(label >= 0)
    stream = PairStream(images, rows, label, Training(balance=balance, ratio=RATIO, batch_size=BATCH), 0)
    stream.resident_images = stream.resident_images if resident else 0
    return stream


def best_rate(read: Callable[[], int], rounds: int) -> dict[str, float]:
    """Images a second of the fastest round, and processor seconds a million images of the cheapest."""
    wall, cpu = [], []
    for _ in range(rounds):
        started, used = time.perf_counter(), time.process_time()
        images = read()
        wall.append((time.perf_counter() - started) / images)
        cpu.append((time.process_time() - used) / images)
    return {"images_per_s": round(1 / min(wall), 1), "cpu_s_per_million": round(min(cpu) * 1e6, 3)}


def by_shard(images: Images) -> int:
    """Read whole shards through zarr."""
    for shard in range(images.spec.n_shards):
        rows = images.spec.shard_rows(shard)
        images.counts(slice(rows.start, rows.stop))
    return images.spec.n_pairs


def one_by_one(images: Images, read: Callable[[int], Any]) -> int:
    """Read single images at random."""
    for row in np.random.default_rng(0).integers(0, images.spec.n_pairs, SINGLE).tolist():
        read(row)
    return SINGLE


def reading(images: Images, rounds: int) -> dict[str, Any]:
    """Images a second of every way to read the store."""
    stream = stream_of(images, "natural")
    found = {
        "stream": best_rate(lambda: sum(len(batch.row) for batch in stream), rounds + 1),  # the first warms up
        "zarr_whole_shards": best_rate(lambda: by_shard(images), rounds),
        "single_images": best_rate(
            lambda: one_by_one(images, lambda row: read_images(images, np.array([row]))), rounds
        ),
        "single_images_with_zarr": best_rate(
            lambda: one_by_one(images, lambda row: images.counts(slice(row, row + 1))), rounds
        ),
    }
    try:
        import zarrs  # noqa: F401
    except ImportError:
        return found
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        stored_array.cache_clear()
        found["zarrs_whole_shards"] = best_rate(lambda: by_shard(images), rounds)
    stored_array.cache_clear()
    return found


def from_memory(batches: list[Batch], epoch_batches: int) -> Iterator[Batch]:
    """As many batches of the same sizes, gathered from tensors in memory."""
    held = Batch(*(torch.cat(columns) for columns in zip(*batches, strict=True)))
    rng = np.random.default_rng(0)
    for _ in range(epoch_batches):
        some = torch.from_numpy(rng.integers(0, len(held.row), BATCH))
        yield Batch(*(column[some] for column in held))


def train_on(batches: Iterable[Batch], learner: tuple[PairClassifier, torch.optim.Optimizer]) -> dict[str, float]:
    """The loop of `model.training.train`; images, seconds, processor seconds, and seconds that a GPU was busy."""
    classifier, optimizer = learner
    device = next(classifier.parameters()).device
    cuda, spans, images = device.type == "cuda", [], 0
    started, used = time.perf_counter(), time.process_time()
    for batch in batches:
        span = [torch.cuda.Event(enable_timing=True) for _ in range(2)] if cuda else []
        _ = span and span[0].record()
        logits = classifier(batch.counts.to(device), batch.both_zero.to(device))
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(logits, batch.label.to(device)).backward()
        optimizer.step()
        _ = span and span[1].record()
        spans.append(span)
        images += len(batch.row)
    if cuda:
        torch.cuda.synchronize()
    busy = sum(span[0].elapsed_time(span[1]) for span in spans) / 1000 if cuda else 0.0
    seconds = time.perf_counter() - started
    return {"images": images, "s": seconds, "cpu_s": time.process_time() - used, "busy_s": busy}


def training(images: Images, network: str, balance: Balance, rounds: int, *, resident: bool) -> dict[str, Any]:
    """Epochs from the store and from memory in turn; the ratio of their medians."""
    device, stream = choose_device("auto"), stream_of(images, balance, resident=resident)
    classifier = PairClassifier(network, Rendering(), images.spec.binning.bins, 2, mirror=False).to(device).train()
    learner = classifier, torch.optim.AdamW(classifier.parameters(), lr=1e-3)
    held = [batch for _, batch in zip(range(40), stream, strict=False)]
    train_on(held[:5], learner)
    steps = min(stream.batches_per_epoch, 400)
    spells: dict[str, list[dict[str, float]]] = {"stream": [], "memory": []}
    for _ in range(rounds):
        stream.epoch, stream.batches = stream.epoch + 1, 0
        spells["stream"].append(train_on(iterate(stream, steps), learner))
        spells["memory"].append(train_on(from_memory(held, steps), learner))
    rate = {name: float(np.median([s["images"] / s["s"] for s in spell])) for name, spell in spells.items()}
    cpu = {name: float(np.median([s["cpu_s"] / s["images"] for s in spell])) for name, spell in spells.items()}
    busy = [s["busy_s"] / s["s"] for s in spells["stream"]]
    return {
        "device": device.type,
        "stream_images_per_s": round(rate["stream"], 1),
        "memory_images_per_s": round(rate["memory"], 1),
        "stream_over_memory": round(rate["stream"] / rate["memory"], 3),
        "cpu_stream_over_memory": round(cpu["stream"] / cpu["memory"], 3),
        "gpu_busy": round(float(np.median(busy)), 3) if device.type == "cuda" else None,
    }


def iterate(stream: PairStream, steps: int) -> Iterator[Batch]:
    """The first batches of an epoch, whatever is made ahead for more is part of their price."""
    for _, batch in zip(range(steps), stream, strict=False):
        yield batch


def entropy(values: np.ndarray) -> float:
    """Bits of the distribution of values."""
    share = np.unique(values, return_counts=True)[1] / values.size
    return float(-(share * np.log2(share)).sum())


def mixing(images: Images, balance: Balance) -> dict[str, Any]:
    """Class ratio of all batches; entropy inside batches, over that of a random draw of rows of the same epoch."""
    stream, label, gene = stream_of(images, balance), images.array("label"), images.array("gene_a")
    windows = epoch_windows(stream.population, stream.drawing, 0, 0)
    drawn = [window.rows[batch] for window in windows for batch in window.batches]
    part, shown = np.arange(label.size) * PARTS // label.size, images_shown(stream.population, stream.drawing)
    positives = np.array([np.count_nonzero(label[rows] > 0) for rows in drawn])
    expected = stream.share_of_positives * np.array([rows.size for rows in drawn])
    everything, rng = np.concatenate(drawn), np.random.default_rng(0)
    random = [everything[rng.integers(0, everything.size, rows.size)] for rows in drawn]
    ratio = {
        f"{name}_entropy_over_random": round(
            float(np.mean([entropy(of[rows]) for rows in drawn]) / np.mean([entropy(of[rows]) for rows in random])), 4
        )
        for name, of in (("position", part), ("gene_a", gene), ("class", label))
    }
    return {
        "images": sum(shown),
        "positives_off_by_at_most": round(float(np.abs(positives - expected).max()), 3),
        **ratio,
    }


class MadeUp(BlockReader):
    """Windows of images that no store holds."""

    def windows(self, windows: Iterator[Window]) -> Iterator[HeldWindow]:
        """Each window with images of ones."""
        for window in windows:
            counts = self._next_memory(window.rows.size)
            counts[:] = 1
            yield window, counts, np.zeros(window.rows.size, np.int32)


def memory_of(n: int, balance: Balance) -> dict[str, Any]:
    """Peak memory of this process with a stream of n labelled images, 2 % positive, through three windows."""
    imports = peak_memory()
    label, rng = np.zeros(n, np.int8), np.random.default_rng(0)
    label[rng.integers(0, n, n // 50)] = 1
    images = Images(Path("none"), ImageSpec("", "", Binning(), 1000, n, ""), {})
    rows = np.arange(n, dtype=np.int32)
    stream = PairStream(images, rows, label, Training(balance=balance, ratio=RATIO, batch_size=BATCH), 0)
    stream.reader = MadeUp(images)
    started = time.perf_counter()
    shown = sum(len(batch.row) for _, batch in zip(range(3 * 262), stream, strict=False))
    return {
        "images": n,
        "shown": shown,
        "s": round(time.perf_counter() - started, 2),
        "imports_gb": round(imports / 1e9, 3),
        "given_gb": round((rows.nbytes + label.nbytes) / 1e9, 3),
        "peak_gb": round(peak_memory() / 1e9, 3),
    }


def memory(million: float, balance: Balance) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.stream", "--memory-of", str(int(million * 1e6)), "--balance", balance]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout)


def measure(store: Path, network: str, rounds: int, million: float) -> dict[str, Any]:
    """All figures of a store."""
    images = open_images(store)
    read = reading(images, rounds)
    single = max(read[name]["images_per_s"] for name in read if name.startswith("single"))
    files = sum(file.stat().st_size for file in (store / "counts").rglob("*") if file.is_file())
    return {
        "store": {"images": images.spec.n_pairs, "cells": images.spec.n_cells, "shards": images.spec.n_shards},
        "bytes_per_image": round(files / images.spec.n_pairs, 1),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "reading": read,
        "stream_over_single_images": round(read["stream"]["images_per_s"] / single, 1),
        "training": {
            "down": training(images, network, "down", rounds, resident=False),
            "down_resident": training(images, network, "down", rounds, resident=True),
            "natural": training(images, network, "natural", rounds, resident=False),
        },
        "mixing": {balance: mixing(images, balance) for balance in BALANCES},
        "memory": {balance: memory(million, balance) for balance in BALANCES},
    }


def main() -> None:
    """Parse and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, nargs="?")
    parser.add_argument("--network", default="pairnet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--million", type=float, default=50)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--balance", default="down", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    if chosen.memory_of:
        found = memory_of(chosen.memory_of, chosen.balance)
    else:
        found = measure(chosen.store, chosen.network, chosen.rounds, chosen.million)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
