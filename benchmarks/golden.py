"""One golden store of each kind from the demo's cells, and the hash of every file of it: what a change of code must not
change.

    python -m benchmarks.golden FOLDER                          # makes the stores, writes FOLDER/hashes.json
    python -m benchmarks.golden FOLDER --against OLD.json       # and tells what differs from an earlier run

Both runs must have the same FOLDER, since stores tell where their matrix lies. Commands run as a user types them, in
the checkout that is the current folder. Floats of a trained run repeat on the same machine only; the stores' bytes
repeat on all.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

EXPORTS = {
    "scenic.csv": [],
    "rankedEdges.csv": [],
    "decoupler.csv": ["--format", "decoupler", "--signed"],
    "cytoscape.csv": ["--format", "cytoscape"],
    "edges.sif": [],
    "edges.graphml": [],
    "edges.parquet": [],
    "edges.h5ad": [],
}  # file: options

JOBS = [
    "demo {out}/demo --quiet",
    "simulate {out}/atlas.zarr --cells 2000 --genes 300 --density 0.1 --scheduler synchronous --quiet",
    "heatmaps {out}/atlas.zarr {out}/atlas-images.zarr --all-pairs --bins 16 --quiet",
    "plant {out}/demo/expression.zarr {out}/planted.zarr --kinds linear,u-shaped,simpson --planted-pairs 60 --quiet",
    "heatmaps {out}/planted.zarr {out}/planted-images.zarr --pairs {out}/planted.tsv --scale rank --quiet",
    "train {out}/planted-images.zarr {out}/planted-run --network cnnc --epochs 1 --quiet",
    "evaluate {out}/demo/run {out}/planted-images.zarr --out {out}/on-planted --quiet",
    "predict {out}/demo/run {out}/demo/expression.zarr {out}/scores.parquet --pairs {out}/planted.tsv "
    "--q-values --quiet",
]


def run(words: list[str]) -> None:
    """One command, its last lines shown if it fails."""
    done = subprocess.run([sys.executable, "-m", "pairscape", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"pairscape {' '.join(words)}\n{(done.stdout + done.stderr)[-2000:]}")


def make(out: Path) -> None:
    """Every kind of store, run, scores and export below `out`."""
    for job in JOBS:
        run(job.format(out=out).split())
    for name, options in EXPORTS.items():
        run(["export", f"{out}/scores.parquet", f"{out}/{name}", "--top", "50", *options, "--quiet"])


def hashes(out: Path) -> dict[str, str]:
    """SHA-256 of every file below `out`, by its path."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != "hashes.json")
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def differences(found: dict[str, str], known: dict[str, str]) -> list[str]:
    """A line for each file that is new, gone or different."""
    words = {(True, True): "differs", (True, False): "is new", (False, True): "is gone"}
    return [
        f"{name} {words[name in found, name in known]}"
        for name in sorted(found.keys() | known.keys())
        if found.get(name) != known.get(name)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--against", type=Path, help="hashes.json of an earlier run")
    given = parser.parse_args()
    known = json.loads(given.against.read_text()) if given.against else {}
    shutil.rmtree(given.folder, ignore_errors=True)
    given.folder.mkdir(parents=True)
    make(given.folder)
    found = hashes(given.folder)
    (given.folder / "hashes.json").write_text(json.dumps(found, indent=1))
    print(f"{len(found)} files in {given.folder}")
    if known:
        print(*differences(found, known) or ["all as before"], sep="\n")


if __name__ == "__main__":
    main()
