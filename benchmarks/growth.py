"""Time against cells, density, pairs and workers: a line of figures each, and the plot docs/growth.png.

python -m benchmarks.growth [--folder DIR] [--plot FILE]

Cells and density: one core, codes in memory to complete images, of 64 × 256 pairs; all sizes take turns. Fitted: time =
a + b × events ^ p, where events are the cells that express both genes and a is what an image costs without any. Pairs
and workers: whole jobs with the codes cached, from a cluster that stands to the last receipt, beside two copies of the
C floor at once, since two virtual cores may be less than two; a worker comes with a core, on which driver and disk take
their share too. Prints JSON.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy.optimize import curve_fit

from benchmarks.heatmaps import folder_of, prepare, run_job
from benchmarks.kernel import BINS, GENES_A, GENES_B, PAIRS, dense_codes, floor, medians, simulate
from pairscape.pipeline.heatmaps.gene_cells import GeneCells
from pairscape.pipeline.heatmaps.kernel import GeneBlock, Margins, finish
from pairscape.pipeline.options import Compute

CELLS, JOB_PAIRS = (25_000, 50_000, 100_000, 200_000, 400_000), (125, 250, 500, 1000)
SCALED_CELLS, SCALES = 100_000, (0.12, 0.3, 0.6, 1.0, 2.0)


def kernel(codes: np.ndarray) -> Callable[[], None]:
    """From codes to images, ready to run."""
    genes_a, genes_b = GeneCells.from_codes(codes[:GENES_A]), GeneCells.from_codes(codes[GENES_A:])
    block, images = GeneBlock.lay_out(genes_b, BINS), np.empty((PAIRS, BINS, BINS), np.uint32)
    first, member = np.arange(GENES_A + 1) * GENES_B, np.tile(np.arange(GENES_B), GENES_A)
    row_a = np.repeat(np.arange(GENES_A), GENES_B)
    margins = [Margins(g.margins(BINS), np.zeros(g.start.size - 1, np.int64)) for g in (genes_a, genes_b)]

    def work() -> None:
        block.count(genes_a, first, member, images, add=False)
        finish(images, row_a, member, *margins, codes.shape[1])

    work()
    return work


def events_per_pair(codes: np.ndarray) -> float:
    """Cells that express both genes, on average over the pairs."""
    expressed = (codes > 0).astype(np.float32)
    return float((expressed[:GENES_A] @ expressed[GENES_A:].T).mean())


def kernel_growth() -> dict[str, Any]:
    """Time per pair over cells and over density, and the exponent of its growth with the events."""
    sizes = [("cells", cells, 1.0) for cells in CELLS] + [("density", SCALED_CELLS, scale) for scale in SCALES]
    works: dict[str, Callable[[], object]] = {}
    grown: dict[str, list[list[float]]] = {"cells": [], "density": []}
    for number, (name, cells, scale) in enumerate(sizes):
        codes = dense_codes(simulate(cells, GENES_A + GENES_B, scale))
        grown[name].append([cells if name == "cells" else float((codes > 0).mean()), events_per_pair(codes)])
        works[str(number)] = kernel(codes)
    for seconds, row in zip(medians(works).values(), [*grown["cells"], *grown["density"]], strict=True):
        row.append(1e6 * seconds / PAIRS)
    fits: dict[str, float] = {}
    for name, rows in grown.items():
        _, events, us = np.array(rows).T
        (image, _, power), _ = curve_fit(
            growth_of, events, us, p0=(2.0, 1e-3, 1.0), sigma=us, bounds=(0, np.inf), maxfev=100_000
        )
        fits |= {f"image_us_{name}": round(image, 2), f"exponent_{name}": round(power, 3)}
    return {**fits, **grown}


def growth_of(events: np.ndarray, image: float, event: float, power: float) -> np.ndarray:
    """Microseconds of an image with so many events."""
    return image + event * events**power


def floor_seconds(folder: str, _: int) -> float:
    """The C floor for a few seconds, in a process of its own."""
    codes = dense_codes(simulate(100_000, GENES_A + GENES_B, 1.0))
    block = GeneBlock.lay_out(GeneCells.from_codes(codes[GENES_A:]), BINS)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        run = floor(GeneCells.from_codes(codes[:GENES_A]), block, Path(own))
        started = time.perf_counter()
        for _ in range(20):
            run()
        return time.perf_counter() - started


def machine_scaling(folder: Path) -> float:
    """How many times the work of one core two of them do, in rounds that take turns: 2 where they are whole cores."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for copies in [1, 2] * 3:
        with ProcessPoolExecutor(copies, mp_context=get_context("spawn")) as pool:
            seconds[copies].append(float(np.mean(list(pool.map(partial(floor_seconds, str(folder)), range(copies))))))
    return 2 * float(np.median(seconds[1]) / np.median(seconds[2]))


@contextmanager
def cores(number: int) -> Iterator[None]:
    """So many cores for this process and all that it starts: driver and disk have their share of each worker's core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def job_growth(folder: Path) -> dict[str, Any]:
    """Seconds of whole jobs over pairs, and over workers."""
    by_pairs = []
    for thousands in JOB_PAIRS:
        atlas, source = prepare(folder, 100_000, 2_000, 0.13, 1000 * thousands)
        store, codes = folder / "growth.images.zarr", folder / f"{atlas.stem}.codes.zarr"
        run_job(atlas, store, codes, source, Compute("local", 2, "3GB"))
        by_pairs.append([1000 * thousands, run_job(atlas, store, codes, source, Compute("local", 2, "3GB"))["job_s"]])
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for workers in [1, 2] * 3:
        with cores(workers):
            seconds[workers].append(run_job(atlas, store, codes, source, Compute("local", workers, "3GB"))["job_s"])
    by_workers = [[workers, float(np.median(spent))] for workers, spent in seconds.items()]
    shutil.rmtree(store)
    scaling = by_workers[0][1] / by_workers[1][1]
    return {
        "pairs": by_pairs, "workers": by_workers, "speedup_2_workers": round(scaling, 2),
        "speedup_of_the_c_floor_on_2_cores": round(machine_scaling(folder), 2),
    }  # fmt: skip


def plot(found: dict[str, Any], file: Path) -> None:
    """Four panels: cells, density, pairs, workers."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    for axis, name, form in zip(axes[:2], ("cells", "density"), ("{:,.0f}", "{:.0%}"), strict=True):
        x, _, us = np.array(found[name]).T
        axis.loglog(x, us, "o-", label="kernel")
        axis.axhline(found[f"image_us_{name}"], color="grey", linestyle=":", label="an image without events, fitted")
        axis.set(xlabel="cells" if name == "cells" else "share of non-zero values, 100,000 cells", ylabel="µs per pair")
        axis.set_xticks(x, [form.format(value) for value in x])
        axis.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
        axis.minorticks_off()
        axis.set_title(f"a + b × events ^ {found[f'exponent_{name}']:.2f}")
        axis.legend(loc="upper left")
    for axis, name, label in zip(
        axes[2:], ("pairs", "workers"), ("pairs", "workers with a core each, 1,000,000 pairs"), strict=True
    ):
        x, seconds = np.array(found[name]).T
        axis.plot(x, seconds, "o-")
        axis.set(xlabel=label, ylabel="seconds, whole job", ylim=(0, None))
    axes[3].set_xticks([1, 2])
    axes[3].set_title(f"{found['speedup_2_workers']}× (the C floor: {found['speedup_of_the_c_floor_on_2_cores']}×)")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the figures and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--plot", type=Path, default=Path("docs/growth.png"))
    a = parser.parse_args()
    with folder_of(a.folder) as folder:
        found = {**kernel_growth(), **job_growth(folder)}
    plot(found, a.plot)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
