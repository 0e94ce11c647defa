"""What small jobs cost from the command line: CPU seconds of each command with all its processes, and the first word.

python -m benchmarks.start [--repeats 5] [--only NAME] [--folder DIR]

Makes a simulated matrix of 1,000 cells × 200 genes, lists of 10 and 100 pairs, and what the commands read. Each command
runs once unmeasured, so that compiled kernels lie in the cache, then so many times, on targets that are not there.
Prints, of each, medians: `cpu_s` (user and system, with the processes that it started), `wall_s`, and until the first
byte of output `first_word_cpu_s` and `first_word_s`. CPU seconds are what other jobs beside it disturb least.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from itertools import combinations, islice
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.heatmaps import folder_of

CELLS, GENES = 1000, 200
COMMAND = (sys.executable, "-m", "pairscape")


class Case(NamedTuple):
    """A command, what it makes (removed before each run), and the exit status it is to have."""

    words: str
    makes: tuple[str, ...] = ()
    status: int = 0


PAIR = "GENE000 GENE001"
CASES: dict[str, Case] = {
    "--help": Case("--help"),
    "show, of images": Case(f"show images.zarr {PAIR} -o pair.png", ("pair.png",)),
    "show, of scores": Case(f"show scores.parquet {PAIR} -o pair.png", ("pair.png",)),
    "plan, 100 pairs": Case("plan cells.zarr --pairs hundred.csv"),
    "heatmaps, 10 pairs": Case("heatmaps cells.zarr made.zarr --pairs ten.csv", ("made.zarr", "made.codes.zarr")),
    "predict universal, 100 pairs": Case(
        "predict universal cells.zarr made.parquet --pairs hundred.csv",
        ("made.parquet", "made.html", "made.codes.zarr"),
    ),
    "ingest": Case("ingest counts.h5ad made.zarr", ("made.zarr",)),
    "train, 1 epoch": Case("train labelled.zarr run --epochs 1", ("run",)),
    "refused: the file of scores exists": Case("predict universal cells.zarr scores.parquet --pairs ten.csv", (), 2),
    "refused: its report exists": Case("predict universal cells.zarr taken.parquet --pairs ten.csv", (), 2),
    "refused: no such matrix": Case("heatmaps none.zarr made.zarr --pairs ten.csv", (), 2),
    "refused: the run exists": Case("train labelled.zarr taken", (), 2),
}


class Taken(NamedTuple):
    """Seconds of one run."""

    cpu_s: float
    wall_s: float
    first_word_cpu_s: float
    first_word_s: float


def make_fixture(folder: Path) -> None:
    """What the commands read, made by the commands themselves."""
    import anndata

    atlas = f"--cells {CELLS} --genes {GENES} --density 0.15"
    call(f"simulate cells.zarr {atlas} --scheduler synchronous --quiet", folder)
    genes = anndata.read_zarr(folder / "cells.zarr")
    genes.X = genes.layers.pop("counts")
    genes.uns.clear()
    genes.write_h5ad(folder / "counts.h5ad")
    names = list(genes.var_names)
    for name, number in (("ten", 10), ("hundred", 100)):
        rows = "\n".join(",".join(pair) for pair in islice(combinations(names, 2), number))
        (folder / f"{name}.csv").write_text(f"gene_a,gene_b\n{rows}\n")
    call("heatmaps cells.zarr images.zarr --pairs ten.csv --quiet", folder)
    call("heatmaps cells.zarr labelled.zarr --all-pairs --labels replicate --threshold 0.1 --quiet", folder)
    call("predict universal cells.zarr scores.parquet --pairs hundred.csv --quiet", folder)
    shutil.copy(folder / "scores.html", folder / "taken.html")
    (folder / "taken").mkdir()
    (folder / "taken" / "notes.txt").write_text("mine\n")


def call(words: str, folder: Path) -> None:
    """Run a command to its end."""
    subprocess.run([*COMMAND, *words.split()], cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)


def environment() -> dict[str, str]:
    """With this checkout as the package, from any folder, and compiled files kept, as where it is installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPATH": str(Path(__file__).parents[1])}


def take(case: Case, folder: Path) -> Taken:
    """Run a command once."""
    for name in case.makes:
        place = folder / name
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    started = time.perf_counter()
    run = subprocess.Popen(
        [*COMMAND, *case.words.split()], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert run.stdout is not None
    with run.stdout as output:
        said = output.read(1)
        first, until_first = time.perf_counter() - started, sum(psutil.Process(run.pid).cpu_times()[:2])
        said += output.read()
    _, status, spent = os.wait4(run.pid, 0)
    run.returncode = code = os.waitstatus_to_exitcode(status)
    if code != case.status:
        raise RuntimeError(f"pairscape {case.words} ended with {code}: {said.decode(errors='replace')[-2000:]}")
    return Taken(spent.ru_utime + spent.ru_stime, time.perf_counter() - started, until_first, first)


def measure(folder: Path, repeats: int, only: str | None = None) -> dict[str, dict[str, float]]:
    """Medians of each command."""
    make_fixture(folder)
    figures = {}
    for name, case in CASES.items():
        if only is None or only in name:
            take(case, folder)
            taken = [take(case, folder) for _ in range(repeats)]
            figures[name] = {
                column: round(statistics.median(values), 2)
                for column, values in zip(Taken._fields, zip(*taken, strict=True), strict=True)
            }
            print(name, figures[name], file=sys.stderr, flush=True)
    return figures


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", help="commands whose name has this")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with folder_of(given.folder) as folder:
        figures: dict[str, Any] = measure(folder, given.repeats, given.only)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
