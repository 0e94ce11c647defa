"""What `plan` says against what `heatmaps` and `predict universal` then take, on matrices of three sizes.

python -m benchmarks.plan [--workers 2] [--rounds 1] [--folder DIR]

Each round plans, counts and scores all pairs of each simulated matrix, one after the other, each job with processes of
its own, and prints JSON: seconds as foretold and as they were, their ratio, and the same of the bytes of the images.
Other jobs beside it slow all of them: ratios are of one round, in which they are alike.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pairscape
from benchmarks.heatmaps import folder_of

SIZES = ((2000, 400), (10_000, 700), (20_000, 1000))  # cells, genes
DENSITY = 0.15


def taken(command: Sequence[str | Path], *makes: Path) -> float:
    """Seconds of a command whose results are not there yet."""
    for place in makes:
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pairscape", *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def foretold(store: Path, scheduler: str, workers: int) -> dict[str, float]:
    """What `plan` says, as a command of its own, and the seconds that it takes to say so."""
    code = (
        "import json, pairscape, sys\n"
        "if __name__ == '__main__':\n"
        "    where = {'scheduler': sys.argv[2], 'workers': int(sys.argv[3])}\n"
        "    cost = pairscape.plan(sys.argv[1], all_pairs=True, quiet=True, **where)\n"
        "    names = 'pairs', 'store_bytes', 'heatmaps_seconds', 'predict_seconds'\n"
        "    print(json.dumps({name: getattr(cost, name) for name in names}))\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(code)
        script.flush()
        started = time.perf_counter()
        command = [sys.executable, script.name, store, scheduler, str(workers)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(said.stdout) | {"seconds": time.perf_counter() - started}


def compare(cells: int, genes: int, workers: int, folder: Path, scheduler: str = "local") -> dict[str, float]:
    """Foretold and real figures of one size."""
    store = folder / f"{cells}x{genes}.zarr"
    if not store.exists():
        pairscape.simulate(store, cells=cells, genes=genes, density=DENSITY, scheduler="synchronous", quiet=True)
    images, scores, codes = folder / "i.zarr", folder / "s.parquet", folder / "i.codes.zarr"
    options = "--all-pairs", "--scheduler", scheduler, "--workers", str(workers), "--quiet"
    said = foretold(store, scheduler, workers)
    counted = taken(["heatmaps", store, images, *options], images, codes)
    others = folder / "s.html", folder / "s.codes.zarr"
    scored = taken(["predict", "universal", store, scores, *options], scores, *others)
    size = sum(file.stat().st_size for file in images.rglob("*") if file.is_file())
    return {
        "pairs": said["pairs"],
        "plan_s": said["seconds"],
        "heatmaps_said_s": said["heatmaps_seconds"],
        "heatmaps_s": counted,
        "heatmaps_said/real": said["heatmaps_seconds"] / counted,
        "predict_said_s": said["predict_seconds"],
        "predict_s": scored,
        "predict_said/real": said["predict_seconds"] / scored,
        "bytes_said/real": said["store_bytes"] / size,
    }


def measure(folder: Path, workers: int, rounds: int = 1, sizes: Any = SIZES) -> dict[str, dict[str, float]]:
    """Medians over the rounds, by size."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for _ in range(rounds):
        for cells, genes in sizes:
            found[f"{cells:,} cells x {genes:,} genes"].append(compare(cells, genes, workers, folder))
            print(json.dumps(found[f"{cells:,} cells x {genes:,} genes"][-1]), flush=True)
    return {
        size: {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}
        for size, rounds in found.items()
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with folder_of(given.folder) as folder:
        figures = measure(folder, given.workers, given.rounds)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
