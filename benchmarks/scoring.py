"""Images scored a second on this CPU: the scorer on every core, against the loop that anyone would write.

python -m benchmarks.scoring [--bins 32] [--images 4096] [--rounds 5] [--processes 2] [--networks pairnet cnnc]

The plain loop: float32, the network as it was built, 256 pairs at a time, picture and mirror drawn and passed one after
the other, as many threads as torch takes. The scorer: so many processes of one thread, as Dask's workers are. Both in
turn, medians of rounds. Where others use the cores too, threads that wait for each other make the plain loop many times
slower, and `scorer_over_plain` flatters; `one_core_gain` is then the figure to trust: both on one thread, by the time
that its core spent on it. So measured as well: each ingredient alone, all of them (`prepared`), and bfloat16.
Random counts, untrained weights: neither changes the time. Prints JSON.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.networks import random_counts
from pairscape.model.networks import fast
from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.device import one_thread
from pairscape.model.networks.fast import Scorer
from pairscape.model.networks.prior import PriorCorrection
from pairscape.model.options import Rendering
from pairscape.pipeline.compute.allocator import keep_freed_memory

PLAIN_BATCH, SMALL_BATCH = 256, 32
CPU = torch.device("cpu")

Predict = Callable[[Tensor], Tensor]


def classifier_of(network: str, bins: int) -> PairClassifier:
    """An untrained classifier, the same in every process."""
    torch.manual_seed(0)
    return PairClassifier(network, Rendering(), bins, 2, mirror=True).eval()


def plain(classifier: PairClassifier) -> Predict:
    """Probabilities of counts, as anyone would write it."""
    network = classifier.network.to(memory_format=torch.contiguous_format)
    return lambda counts: _averaged(network(classifier.render(counts)), network(classifier.render(counts.mT)))


def _averaged(straight: Tensor, turned: Tensor) -> Tensor:
    return (straight.softmax(1) + turned.softmax(1)) / 2


def drawn_once(network: nn.Module, classifier: PairClassifier) -> Predict:
    """The mirror's picture is the picture's mirror."""

    def predict(counts: Tensor) -> Tensor:
        image = classifier.render(counts)
        return _averaged(network(image), network(image.mT.contiguous()))

    return predict


def bfloat16(classifier: PairClassifier) -> Predict:
    """The plain loop under autocast."""
    inner = plain(classifier)

    def predict(counts: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return inner(counts)

    return predict


def looped(predict: Predict, counts: Tensor, batch: int) -> Callable[[], Tensor]:
    """All counts, so many at a time."""

    @torch.inference_mode()
    def run() -> Tensor:
        return torch.cat([predict(part) for part in counts.split(batch)])

    return run


def prepared(classifier: PairClassifier) -> Predict:
    """What the scorer runs."""
    ready = fast.prepare(classifier, CPU)
    return lambda counts: ready(counts, torch.zeros(len(counts), dtype=torch.int32))


def ingredients(network: str, counts: Tensor, rounds: int) -> dict[str, float]:
    """Images a second of one core with each ingredient, by the time that the core itself spent."""
    made = [classifier_of(network, counts.shape[1]) for _ in range(5)]
    nchw = made[0].network.to(memory_format=torch.contiguous_format)
    large = len(counts)  # the scorer's batches are the same however many are asked for
    ways = {
        "plain": looped(plain(made[0]), counts, PLAIN_BATCH),
        "drawn_once": looped(drawn_once(nchw, made[0]), counts, PLAIN_BATCH),
        "small_batch": looped(plain(made[1]), counts, SMALL_BATCH),
        "channels_last": looped(lambda x: made[2].probabilities(x, x[:, 0, 0]), counts, PLAIN_BATCH),
        "bfloat16": looped(bfloat16(made[3]), counts[:SMALL_BATCH], SMALL_BATCH),
        "prepared": looped(prepared(made[4]), counts, large),
    }
    with one_thread():
        reference = ways["plain"]()
        apart = float((ways["prepared"]() - reference).abs().max())
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for name, way in [*ways.items()] * rounds:
            start = time.process_time()
            found = way()
            spent[name].append((time.process_time() - start) / len(found))
    return {name: round(1 / statistics.median(each)) for name, each in spent.items()} | {"largest_difference": apart}


def score_on_request(network: str, bins: int, images: int, seed: int, link: Connection) -> None:
    """A worker: scores its images each time it is told to."""
    keep_freed_memory()
    torch.set_num_threads(1)
    scorer = Scorer(classifier_of(network, bins), CPU, PriorCorrection(0.25), 0.01)
    counts = random_counts(images, bins, seed).numpy().astype(np.uint32)
    both_zero = np.zeros(images, np.int32)
    scorer(counts, both_zero)
    link.send("ready")
    while link.recv():
        scorer(counts, both_zero)
        link.send("done")


@contextmanager
def scorers(network: str, bins: int, images: int, processes: int) -> Iterator[Callable[[], None]]:
    """Processes that share the images; what it yields has them score all of them once."""
    context, links, started = multiprocessing.get_context("spawn"), [], []
    for seed in range(processes):
        here, there = context.Pipe()
        arguments = (network, bins, images // processes, seed, there)
        started.append(context.Process(target=score_on_request, args=arguments, daemon=True))
        started[-1].start()
        links.append(here)

    def score() -> None:
        for link in links:
            link.send(True)
        for link in links:
            link.recv()

    try:
        for link in links:
            link.recv()
        yield score
    finally:
        for process in started:
            process.terminate()
            process.join()


def throughput(network: str, bins: int, images: int, rounds: int, processes: int) -> dict[str, float]:
    """Images a second of the plain loop and of the scorer, on the whole machine, timed in turn."""
    loop = looped(plain(classifier_of(network, bins)), random_counts(images, bins), PLAIN_BATCH)
    loop()
    with scorers(network, bins, images, processes) as score:
        spent: dict[str, list[float]] = {"plain": [], "scorer": []}
        for name, work in [("plain", loop), ("scorer", score)] * rounds:
            start = time.perf_counter()
            work()
            spent[name].append(time.perf_counter() - start)
    median = {name: statistics.median(each) for name, each in spent.items()}
    return {
        "plain_images_per_s": round(images / median["plain"]),
        "scorer_images_per_s": round(images / median["scorer"]),
        "scorer_over_plain": round(median["plain"] / median["scorer"], 2),
    }


def measure(networks: list[str], bins: int, images: int, rounds: int, processes: int) -> dict[str, Any]:
    """All figures; `images` a round for pairnet, an eighth of them for the others, which take as long."""
    keep_freed_memory()
    figures: dict[str, Any] = {
        "bins": bins,
        "rounds": rounds,
        "processes": processes,
        "threads_of_the_plain_loop": torch.get_num_threads(),
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    for network in networks:
        n = images if network == "pairnet" else max(images // 8, 2 * processes)
        gains = ingredients(network, random_counts(n, bins), rounds)
        figures[network] = throughput(network, bins, n, rounds, processes) | {
            "one_core_gain": round(gains["prepared"] / gains["plain"], 2),
            "images_per_s_of_one_core": gains,
        }
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("bins", 32), ("images", 4096), ("rounds", 5), ("processes", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--networks", nargs="+", default=["pairnet", "cnnc"])
    given = parser.parse_args()
    print(json.dumps(measure(given.networks, given.bins, given.images, given.rounds, given.processes), indent=2))


if __name__ == "__main__":
    main()
