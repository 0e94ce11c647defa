"""A whole atlas, once: a million cells from counts to pictures and scores of every regulator with every gene.

python -m benchmarks.atlas FOLDER [--cells 1000000] [--genes 20000] [--density 0.05] [--regulators 1839] [--workers 2]

Makes an uncompressed .h5ad of simulated raw counts (8 GB at this size) and runs, one after the other, the commands
`ingest`, `plan`, `heatmaps` and `predict universal`, each in processes of its own. Kept in FOLDER: what they make, what
they say (`NAME.log`), and in `figures.json` of each its seconds, CPU seconds, the most memory of one of its processes
and of all together (looked at every half second; a page that several share counts once), and the bytes of what it made.
A step whose figures are there is not done again. The .h5ad is removed when it is ingested.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import watched
from benchmarks.ingest import make
from benchmarks.start import environment
from pairscape.pipeline.datasets.designs import Atlas


def run(name: str, words: Sequence[str], folder: Path, *makes: str) -> dict[str, Any]:
    """Run a command of Pairscape, and take its figures."""
    log = folder / f"{name}.log"
    taken = watched.run([sys.executable, "-m", "pairscape", *words], folder, log, environment())
    if taken.status:
        raise SystemExit(f"pairscape {' '.join(words)} failed: see {log}")
    return {
        "seconds": round(taken.seconds, 1),
        "cpu_seconds": round(taken.cpu_seconds, 1),
        "most_bytes_of_a_process": taken.most_bytes_of_a_process,
        "most_bytes_together": taken.most_bytes_together,
        "cores_of_others": taken.cores_of_others,
        "bytes": {made: size(folder / made) for made in makes},
    }


def size(path: Path) -> int:
    """Bytes of a file or folder."""
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def measure(folder: Path, atlas: Atlas, regulators: int, workers: int) -> dict[str, Any]:
    """Figures of every step, those that are there as they are."""
    kept = folder / "figures.json"
    figures: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    counts, candidates = folder / "counts.h5ad", folder / "regulators.txt"
    here, pairs = ("--workers", str(workers)), ("--regulators", candidates.name)
    candidates.write_text("".join(f"GENE{number}\n" for number in range(regulators)))
    steps: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
        "ingest": (("ingest", counts.name, "cells.zarr", *here), ("counts.h5ad", "cells.zarr")),
        "plan": (("plan", "cells.zarr", *pairs, *here), ()),
        "heatmaps": (("heatmaps", "cells.zarr", "images.zarr", *pairs, *here), ("images.zarr", "images.codes.zarr")),
        "predict": (
            ("predict", "universal", "cells.zarr", "scores.parquet", *pairs, *here, "--codes", "images.codes.zarr"),
            ("scores.parquet", "scores.html"),
        ),
    }
    for name, (words, makes) in steps.items():
        if name in figures:
            continue
        if name == "ingest":
            make(counts, atlas)
        figures[name] = run(name, words, folder, *makes)
        kept.write_text(json.dumps(figures, indent=2))
        print(name, json.dumps(figures[name]), flush=True)
        counts.unlink(missing_ok=True)
    return figures


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--regulators", type=int, default=1839)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    atlas = Atlas(asked.cells, asked.genes, asked.density)
    print(json.dumps(measure(asked.folder, atlas, asked.regulators, asked.workers), indent=2))


if __name__ == "__main__":
    main()
