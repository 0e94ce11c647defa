"""A training that is killed at random moments, and goes on each time; its bytes against those of one in one piece.

python -m benchmarks.interrupted [--kills 10] [--network pairnet] [--genes 100] [--epochs 40] [--seed 0]

The command `pairscape train` runs as a process of its own and is killed (SIGKILL) at a moment that is drawn from the
whole of it: its start, an epoch, the writing of a file. The same command goes on. Prints JSON: kills, how many of them
fell into the start of the process, the training and the evaluation, finished epochs that were made again (lost), files
of the run that differ (clocks left out), and seconds.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import pairscape
from pairscape.pipeline.datasets.designs import Atlas

CLOCKS = (r'"seconds": {[^}]*}', r"(?m),[^,\n]*$")  # of metrics.json, and the last column of history.csv
COMPARED = ("model.safetensors", "reference.safetensors", "config.toml", "predictions.parquet", "examples.npz")
HERE = {"scheduler": "synchronous", "quiet": True}


def make_images(folder: Path, genes: int) -> Path:
    """A store of labelled images of a simulated atlas."""
    pairscape.simulate(folder / "e.zarr", atlas=Atlas(1500, genes, 0.3, 3), counts=False, **HERE)
    pairscape.heatmaps(
        folder / "e.zarr", folder / "i.zarr", all_pairs=True, labels="replicate", scale="rank", bins=16, **HERE
    )
    return folder / "i.zarr"


def epochs_in(run: Path) -> int:
    """Epochs that are finished."""
    history = run / "history.csv"
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def killed(command: list[str], run: Path, said: Path, wanted: int | None, seconds: float) -> int | None:
    """Start a training and kill it; epochs that it left, None where it had ended before.

    Parameters
    ----------
    wanted
        Epochs that are to be finished first. None: it is killed while it starts.
    seconds
        From then, or from the start of the process, to the kill.
    """
    first = epochs_in(run) == 0
    with said.open("w") as file, subprocess.Popen(command, stdout=file) as process:
        while wanted is not None and process.poll() is None and not under_way(run, said, wanted, first=first):
            time.sleep(0.005)
        time.sleep(seconds)
        if process.poll() is not None:
            return None
        os.kill(process.pid, signal.SIGKILL)
    return epochs_in(run)


def under_way(run: Path, said: Path, wanted: int, *, first: bool) -> bool:
    """Whether a training that has begun, or goes on, has finished so many epochs."""
    return (run / "history.csv").exists() and epochs_in(run) >= wanted and (first or "it goes on" in said.read_text())


def differing(one: Path, other: Path) -> list[str]:
    """Files of two runs that are not the same, but for clocks."""
    found = [name for name in COMPARED if (one / name).read_bytes() != (other / name).read_bytes()]
    for name, clock in zip(("metrics.json", "history.csv"), CLOCKS, strict=True):
        texts = [re.sub(clock, "", (run / name).read_text()) for run in (one, other)]
        found += [name] * (texts[0] != texts[1])
    names = [{path.name for path in run.iterdir()} for run in (one, other)]
    return found + sorted(names[0] ^ names[1])


def measure(folder: Path, kills: int, network: str, genes: int, epochs: int, seed: int) -> dict[str, Any]:
    """The figures."""
    images, said, rng, begun = make_images(folder, genes), folder / "said", np.random.default_rng(seed), time.time()
    options = {"network": network, "epochs": epochs, "patience": epochs}
    options |= {"channels": "counts"} if network == "momentnet" else {}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    run = folder / "parts"
    command = [sys.executable, "-m", "pairscape", "train", str(images), str(run), *words]
    metrics = pairscape.train(images, folder / "whole", quiet=True, **options)
    length, tally, left = metrics["seconds"]["train"], {"starting": 0, "training": 0, "evaluating": 0, "lost": 0}, 0
    for number in range(kills):
        wanted = None if rng.random() < 0.2 else min(left + int(rng.integers(0, 2 * epochs // kills)), epochs)
        seconds = rng.uniform(0, 3.0 if wanted is None or left == epochs else 1.5 * length / epochs)
        now = killed(command, run, said, wanted, seconds)
        if now is None:  # it had ended before
            break
        after = re.search(r"it goes on after epoch (\d+)", said.read_text())
        tally["lost"] += max(left - int(after[1]), 0) if after else 0
        tally["starting" if wanted is None else "evaluating" if now == epochs else "training"] += 1
        print(number, f"{left} epochs before, {now} after", file=sys.stderr)
        left = now
    else:
        with said.open("w") as file, redirect_stdout(file):
            pairscape.train(images, run, **options)
        after = re.search(r"it goes on after epoch (\d+)", said.read_text())
        tally["lost"] += max(left - int(after[1]), 0) if after else left
    return {
        "network": network,
        "kills": sum(tally.values()) - tally["lost"],
        **tally,
        "differing": differing(folder / "whole", run),
        "seconds": round(time.time() - begun),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--network", default="pairnet")
    parser.add_argument("--genes", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    with TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), a.kills, a.network, a.genes, a.epochs, a.seed)))


if __name__ == "__main__":
    main()
