"""Every candidate pair of a simulated atlas scored end to end on local workers: pace, counting, time left, memory.

python -m benchmarks.predict [--cells N] [--genes G] [--density D] [--pairs P] [--network pairnet] [--workers 2]
    [--screen FRACTION] [--memory-limit 3GB] [--plain-pairs P] [--folder DIR]

Simulates the atlas once (kept in the folder), makes a network of fresh weights, which take as long as learned ones, and
runs the job from the matrix to the file of scores and its report: encoding, the sample, the fan-out, the joining. The
time left is told once 5 % of the pairs are scored, as the bar tells it: from the pairs done since the scoring began.
Shares are of the workers' own seconds. The plain loop scores images that are counted already: float32, the network as
it was built, 256 at a time, on as many threads as there are workers. Prints JSON.
"""

import argparse
import json
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.heatmaps import folder_of, prepare
from benchmarks.scoring import classifier_of, plain
from pairscape.model.edges.scores import read_scores
from pairscape.model.networks.weights import NetworkFacts, class_names, save_weights
from pairscape.model.options import Prediction, Rendering
from pairscape.model.prediction.checked import check_prediction
from pairscape.model.prediction.predict import PredictionOutcome, predict_matrix
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.opening import open_session
from pairscape.pipeline.compute.tasks import peak_memory
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.heatmaps.job import resolve_request
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning, Compute, PairSource

BINS, SHOWN, NATURAL = 32, 0.25, 0.02
TOLD_AT = 0.05  # of the pairs, from which the time left should be right
PLAIN_BATCH = 256


def untrained_run(folder: Path, network: str) -> Path:
    """A run folder of fresh weights."""
    folder.mkdir(exist_ok=True)
    classifier = classifier_of(network, BINS)
    facts = NetworkFacts(
        network=network, rendering=Rendering(), bins=BINS, scale=Binning().scale, n_cells=1, classes=2,
        class_names=class_names(2, directed=False), mirror=True, shown=SHOWN, natural=NATURAL, loss_weights=None,
        gamma=0.0, epoch=1,
    )  # fmt: skip
    save_weights(folder / "model.safetensors", classifier.state_dict(), facts)
    return folder


@dataclass
class Clock:
    """Progress that notes when each stage began, and when how much of it was done."""

    stages: dict[str, float] = field(default_factory=dict)
    done: list[tuple[float, int]] = field(default_factory=list)
    total: int = 0

    def start(self, stage: str, total: int) -> None:
        """Note the beginning."""
        self.stages[stage] = time.perf_counter()
        if stage == "scoring pairs":
            self.total = total

    def advance(self, units: int) -> None:
        """Note what was scored."""
        if list(self.stages)[-1] == "scoring pairs":
            self.done.append((time.perf_counter(), units))

    def time_left(self) -> dict[str, float]:
        """What was told at 5 % of the pairs, and what came."""
        began, ended = self.stages["scoring pairs"], self.done[-1][0]
        scored = np.cumsum([units for _, units in self.done])
        at = int(np.argmax(scored >= TOLD_AT * self.total))
        elapsed, moment = self.done[at][0] - began, self.done[at][0]
        told = elapsed * (self.total - scored[at]) / scored[at]
        return {
            "told_after_share": round(float(scored[at] / self.total), 4),
            "told_s": round(float(told), 1),
            "came_s": round(ended - moment, 1),
            "told_over_came": round(float(told / max(ended - moment, 1e-9)), 3),
        }


def run_job(
    atlas: Path, out: Path, run: Path, source: PairSource, options: Prediction, compute: Compute
) -> tuple[PredictionOutcome, Clock, float]:
    """The job as the command does it, with a clock in place of the bar."""
    clock, started = Clock(), time.perf_counter()
    checked, matrix = check_prediction(run, out, options, 0, overwrite=True), open_expression(atlas)
    request = resolve_request(matrix, source, 0)
    with open_session(compute) as session:
        done = predict_matrix(matrix, request, None, checked, replace(session, progress=clock))
    return done, clock, time.perf_counter() - started


def plain_rate(codes: Path, network: str, pairs: int, threads: int) -> float:
    """Pairs a second of the plain loop, on images that are counted already."""
    genes = np.random.default_rng(0).integers(0, open_codes(codes).n_genes, (2, pairs))
    counts = torch.from_numpy(count_pairs(open_codes(codes), *genes)[0].astype(np.float32))
    predict, before = plain(classifier_of(network, BINS)), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            predict(counts[:PLAIN_BATCH])
            started = time.perf_counter()
            for part in counts.split(PLAIN_BATCH):
                predict(part)
            return pairs / (time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)


def measure(
    folder: Path, cells: int, genes: int, density: float, pairs: int, network: str = "pairnet",
    compute: Compute = Compute("local", 2, "3GB"), screen: float | None = None, plain_pairs: int = 4096,
) -> dict[str, Any]:  # fmt: skip
    """All figures of one atlas."""
    atlas, source = prepare(folder, cells, genes, density, pairs)
    run, out = untrained_run(folder / f"{network}-run", network), folder / "scores.parquet"
    shutil.rmtree(codes := folder / "scores.codes.zarr", ignore_errors=True)
    done, clock, seconds = run_job(atlas, out, run, source, Prediction(screen=screen), compute)
    table, spent, began = read_scores(out, ["score"]), done.cost, clock.stages["scoring pairs"]
    scoring = clock.done[-1][0] - began
    kinds = {name: getattr(spent, name) for name in ("reading", "counting", "deriving", "scoring", "writing")}
    busy, threads = sum(kinds.values()), compute.workers or 1
    return {
        "cells": cells, "genes": genes, "density": density, "pairs": table.num_rows, "network": network,
        "workers": threads, "screen": screen, "scored": table.num_rows - table["score"].null_count,
        "command_s": round(seconds, 1), "scoring_s": round(scoring, 1),
        "pairs_per_s": round(table.num_rows / scoring), "pairs_per_s_of_the_command": round(table.num_rows / seconds),
        "share": {name: round(value / busy, 4) for name, value in kinds.items()},
        "counting_share": round((spent.reading + spent.counting) / busy, 4),
        "busy_share": round(busy / (threads * scoring), 3),
        "time_left": clock.time_left(),
        "peak_gb_of_workers": [round(peak / 1e9, 2) for peak in done.usage.peak_bytes.values()],
        "peak_gb_here": round(peak_memory() / 1e9, 2),
        "plain_images_per_s": round(loop := plain_rate(codes, network, plain_pairs, threads)),
        "over_plain": round(table.num_rows / scoring / loop, 2),
    }  # fmt: skip


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=2_000)
    parser.add_argument("--density", type=float, default=0.13)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--network", default="pairnet")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--screen", type=float)
    parser.add_argument("--memory-limit", default="3GB")
    parser.add_argument("--plain-pairs", type=int, default=16_384)
    parser.add_argument("--folder", type=Path)
    a = parser.parse_args()
    compute = Compute("local", a.workers, a.memory_limit)
    with folder_of(a.folder) as folder:
        found = measure(folder, a.cells, a.genes, a.density, a.pairs, a.network, compute, a.screen, a.plain_pairs)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
