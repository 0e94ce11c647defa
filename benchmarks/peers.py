"""Pairscape beside what else a user would install: the same matrix of raw counts, one run; time, memory, growth.

python -m benchmarks.peers [--folder DIR] [--genes 300,1000,3000,20000] [--cells 1000,10000,100000] [--density 0.1]
    [--limit SECONDS] [--memory GB] [--only NAME,…] [--json FILE] [--plot FILE]

Each case is a command in processes of its own, from the .h5ad of a simulated atlas to the result, start-up and imports
included, on all cores of the machine. Candidates are the regulators (a twentieth of the genes, at least twenty) times
all genes; of peers that know no regulators, all pairs. A package is installed into an environment of its own in the
folder, with the PyTorch version that is here; what cannot be installed or run is told with its last line. A case that
is beyond the limit of seconds or memory is stopped with all that it started; larger ones of that peer are not tried,
and their time is told by the fit. Recipes that go pair by pair or target by target are timed for --sample seconds and
multiplied (≈). Fitted, for each peer, over what ended: seconds, and bytes, = a × genes^p × cells^q.

FILE keeps every case, and what it has is not done again. Prints tables of markdown and where ours is behind.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np

from benchmarks import peer_recipes, watched
from benchmarks.heatmaps import folder_of
from benchmarks.independence import listed
from benchmarks.ingest import make
from benchmarks.packages import THREADS, last_line
from benchmarks.start import environment
from pairscape.pipeline.datasets.designs import Atlas

LEAST_REGULATORS, SHARE = 20, 0.05
EVERY = 0.25  # seconds between looks at the memory
TINY, FIRST = (60, 300, 0.3), 60  # genes, cells, density, and seconds of the first, unmeasured run
DONE = ("ended", "sampled")
CANDIDATES = {"regulators": "regulators × genes", "pairs": "all pairs", "directed": "all genes × all genes"}


@dataclass(frozen=True)
class Peer:
    """What is run.

    Attributes
    ----------
    name
        For the tables.
    candidates
        A key of `CANDIDATES`.
    requires
        What is installed for it; nothing where this environment has it. The first is its package.
    words
        Arguments of the command `pairscape`, without its last, the regulators; of peers nothing.
    """

    name: str
    candidates: str
    requires: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


BARE = ("scikit-learn", "h5py")
PEERS = {
    "heatmaps": Peer("**`pairscape heatmaps`**", "regulators", words=("heatmaps", "counts.h5ad", "images.zarr")),
    "predict": Peer(
        "**`pairscape predict universal`**", "regulators",
        words=("predict", "universal", "counts.h5ad", "scores.parquet", "--no-q-values"),
    ),
    "cnnc": Peer("CNNC's recipe", "regulators"),
    "cscore": Peer("CS-CORE's formulas", "regulators"),
    "rustscenic": Peer("rustscenic", "regulators", ("rustscenic", *BARE)),
    "hotspot": Peer("Hotspot", "pairs", ("hotspotsc", *BARE)),
    "regdiffusion": Peer("RegDiffusion", "directed", ("regdiffusion", "torch", *BARE)),
    "arboreto": Peer("arboreto", "regulators", ("arboreto", "distributed", *BARE)),
    "grnboost2_core": Peer("GRNBoost2's core", "regulators"),
}  # fmt: skip
OURS = {"heatmaps": ("cnnc",), "predict": ("cscore", "rustscenic", "hotspot", "regdiffusion", "grnboost2_core")}


# ── environments ─────────────────────────────────────────────────────────────────────────────────────────────────────


class NotRunError(Exception):
    """Why a peer cannot be run."""


def install(peer: Peer, folder: Path) -> tuple[Path, str]:
    """The Python of a peer, installed if it is not there, and what was installed."""
    if not peer.requires:
        return Path(sys.executable), ""
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if not done.exists():
        torch = version("torch").split("+")[0]  # what is here: a build for the CPU stays one
        requires = [f"torch=={torch}" if one == "torch" else one for one in peer.requires]
        for command in ([sys.executable, "-m", "venv", folder], [python, "-m", "pip", "install", "-q", *requires]):
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            if ran.returncode:
                raise NotRunError(f"cannot be installed: {last_line(ran.stderr or ran.stdout)}")
        told = f"from importlib.metadata import version as v; print(v({peer.requires[0]!r}))"
        done.write_text(subprocess.run([python, "-c", told], capture_output=True, text=True, check=True).stdout)
    return python, f"{peer.requires[0]} {done.read_text().strip()}"


# ── a case ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes at which a case is stopped, and seconds of a sample."""

    seconds: float
    most_bytes: float
    sample: float


def regulators_of(genes: int) -> np.ndarray:
    """Numbers of the regulators, evenly spaced."""
    number = min(max(round(SHARE * genes), LEAST_REGULATORS), genes)
    return np.unique(np.linspace(0, genes - 1, number).astype(int))


def run_case(key: str, python: Path, counts: Path, genes: int, limits: Limits) -> dict[str, Any]:
    """Figures of one peer on one matrix, in a folder that goes again."""
    with TemporaryDirectory(dir=counts.parent) as folder:
        return _run(key, python, counts, genes, limits, Path(folder))


def _run(key: str, python: Path, counts: Path, genes: int, limits: Limits, folder: Path) -> dict[str, Any]:
    log, words, threads = folder / "log.txt", PEERS[key].words, str(os.cpu_count())
    (folder / "counts.h5ad").symlink_to(counts)
    chosen = regulators_of(genes)
    (folder / "names.txt").write_text("".join(f"GENE{number}\n" for number in chosen))
    (folder / "numbers.txt").write_text("".join(f"{number}\n" for number in chosen))
    command: list[str | Path] = [python, "-m", "pairscape", *words, "--regulators", "names.txt"]
    env = environment()
    if not words:
        recipe = Path(peer_recipes.__file__)
        command = [python, "-I", recipe, key, "counts.h5ad", "numbers.txt", threads, str(limits.sample)]
        env = os.environ | dict.fromkeys(THREADS, threads)
    taken = watched.run(command, folder, log, env, limits.seconds, limits.most_bytes, EVERY)
    told: dict[str, Any] = {"seconds": taken.seconds, "bytes": taken.most_bytes_together}
    told |= {"cpu_seconds": taken.cpu_seconds, "cores_of_others": taken.cores_of_others}
    if taken.stopped:
        return told | {"state": taken.stopped}
    if taken.status:
        return told | {"state": "failed", "why": last_line(log.read_text(errors="replace"))}
    if words:
        return told | {"state": "ended", "pairs": pairs_of(folder)}
    return whole(told, json.loads(last_line(log.read_text(errors="replace"))))


def pairs_of(folder: Path) -> int:
    """Pairs that a command of ours made."""
    from pyarrow import parquet

    from pairscape.pipeline.heatmaps.images import open_images

    scores = folder / "scores.parquet"
    if scores.exists():
        return int(parquet.read_metadata(scores).num_rows)
    return open_images(folder / "images.zarr").spec.n_pairs


def whole(told: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Figures of a whole run, where only a share of its items was done."""
    share, work = said["share"], said["work_seconds"]
    more = work / share - work
    longer = 1 + more / told["seconds"]
    state = "ended" if share == 1 else "sampled"
    told |= {name: round(told[name] * longer, 2) for name in ("seconds", "cpu_seconds")}
    return told | {"pairs": said["pairs"], "work_seconds": round(work + more, 2), "state": state, "share": share}


# ── all cases ────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Figures of every peer at every size, smaller ones first; each is kept as it comes."""
    settings = {name: getattr(asked, name) for name in ("density", "memory", "sample")}
    found: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    if found.get("settings") != settings:
        found = {"settings": settings, "date": time.strftime("%Y-%m-%d"), "peers": {}}
    peers, limits = found["peers"], Limits(asked.limit, asked.memory * 1e9, asked.sample)
    pythons = {key: python for key in asked.only if (python := ready(key, peers, folder, limits))}
    for genes, cells in sorted(product(asked.genes, asked.cells), key=lambda size: (size[0] * size[1], size)):
        for key, python in pythons.items():
            old = case_of(peers[key], genes, cells)
            if old and (old["state"] in DONE or old["limit"] >= asked.limit):
                continue
            peers[key]["cases"] = [case for case in peers[key]["cases"] if case is not old]
            case = {"genes": genes, "cells": cells, "limit": asked.limit, "state": "not tried"}
            if not beyond(peers[key], genes, cells):
                case |= run_case(key, python, matrix(folder, genes, cells, asked.density), genes, limits)
            peers[key]["cases"].append(case)
            say(f"{genes:,} genes × {cells:,} cells, {key}: {json.dumps(case)}")
            if asked.json:
                asked.json.write_text(json.dumps(found, indent=1) + "\n")
    for peer in peers.values():
        peer["growth"] = {name: growth(peer["cases"], name) for name in ("seconds", "bytes")}
    return found


def ready(key: str, peers: dict[str, Any], folder: Path, limits: Limits) -> Path | None:
    """The Python of a peer that ran once, unmeasured, so that its files and compiled code are at hand; or nothing."""
    kept = peers.setdefault(key, {"cases": []})
    try:
        python, kept["version"] = install(PEERS[key], folder / key)
        tried = run_case(key, python, matrix(folder, *TINY), TINY[0], replace(limits, seconds=FIRST, sample=1))
        if tried["state"] == "failed":
            raise NotRunError(f"does not run: {tried['why']}")
    except NotRunError as reason:
        kept |= {"cases": [], "reason": str(reason)}
        say(f"{key} {reason}")
        return None
    kept.pop("reason", None)
    return python


def matrix(folder: Path, genes: int, cells: int, density: float) -> Path:
    """The counts of a simulated atlas."""
    return make(folder / f"counts-{cells}x{genes}x{density:g}.h5ad", Atlas(cells, genes, density))


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def case_of(peer: dict[str, Any], genes: int, cells: int) -> dict[str, Any] | None:
    """A peer's figures at one size, if it has any."""
    return next((case for case in peer["cases"] if (case["genes"], case["cells"]) == (genes, cells)), None)


def beyond(peer: dict[str, Any], genes: int, cells: int) -> bool:
    """Whether a smaller case did not end."""
    return any(
        case["state"] not in DONE and case["genes"] <= genes and case["cells"] <= cells for case in peer["cases"]
    )


def growth(cases: Sequence[dict[str, Any]], figure: str) -> list[float] | None:
    """Of figure = a × genes^p × cells^q: log a, p, q by least squares of logarithms; nothing where they are few."""
    done = [case for case in cases if case["state"] in DONE]
    if len(done) < 3:
        return None
    design = np.array([[1, np.log(case["genes"]), np.log(case["cells"])] for case in done])
    if np.linalg.matrix_rank(design) < 3:
        return None
    return [float(one) for one in np.linalg.lstsq(design, np.log([case[figure] for case in done]))[0]]


def foretold(fit: Sequence[float] | None, genes: int, cells: int) -> float | None:
    """What a fit says of a size."""
    return None if fit is None else float(np.exp(fit[0] + fit[1] * np.log(genes) + fit[2] * np.log(cells)))


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def tables(found: dict[str, Any]) -> str:
    """Seconds and memory by size, and what each peer is."""
    peers = {key: peer for key, peer in found["peers"].items() if "reason" not in peer}
    sizes = sorted({(case["genes"], case["cells"]) for peer in peers.values() for case in peer["cases"]})
    names = [PEERS[key].name for key in peers]
    lines = list[str]()
    for title, shown in (("seconds", seconds_shown), ("CPU seconds", cpu_shown), ("GB", memory_shown)):
        lines += [f"| {title}: genes × cells | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
        for genes, cells in sizes:
            row = [shown(peer, genes, cells, found["settings"]) for peer in peers.values()]
            lines.append(f"| {genes:,} × {cells:,} | {' | '.join(row)} |")
        lines.append("")
    return "\n".join([*lines, *about(found), "", *behind(found)])


def seconds_shown(peer: dict[str, Any], genes: int, cells: int, settings: dict[str, Any]) -> str:
    """Seconds of a case, in words where there are none."""
    case = case_of(peer, genes, cells)
    if case is None:
        return ""
    if case["state"] in DONE:
        return ("≈ " if case["state"] == "sampled" else "") + figure(case["seconds"])
    if case["state"] == "not tried":
        told = foretold(peer.get("growth", {}).get("seconds"), genes, cells)
        return "not tried" if told is None else f"not tried (fit: {figure(told)})"
    if case["state"] == "failed":
        return "failed"
    return f"> {case['limit']:g}" if case["state"] == "time" else f"> {settings['memory']:g} GB"


def cpu_shown(peer: dict[str, Any], genes: int, cells: int, _: dict[str, Any]) -> str:
    """CPU seconds of a case that ended."""
    case = case_of(peer, genes, cells)
    return figure(case["cpu_seconds"]) if case and case["state"] in DONE else ""


def memory_shown(peer: dict[str, Any], genes: int, cells: int, settings: dict[str, Any]) -> str:
    """Memory of a case; of a stopped one what it had come to."""
    case = case_of(peer, genes, cells)
    if case is None or case["state"] in ("not tried", "failed"):
        return "" if case is None else "–"
    return ("" if case["state"] in DONE else "> ") + f"{case['bytes'] / 1e9:.2f}"


def figure(value: float) -> str:
    """Three digits, with commas."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def about(found: dict[str, Any]) -> list[str]:
    """A line for each peer: candidates, microseconds a pair at the largest size that ended, growth."""
    head = ("peer", "candidates", "µs a pair, at genes × cells", "s of the smallest case: all, without start-up",
            "seconds grow with genes, cells", "memory with genes, cells", "not run, or not all, since")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for key, peer in found["peers"].items():
        done = [case for case in peer["cases"] if case["state"] in DONE]
        why = [case["why"] for case in peer["cases"] if "why" in case] + [peer[k] for k in ("reason",) if k in peer]
        pair = small = ""
        if done:
            most = max(done, key=lambda case: (case["genes"] * case["cells"], case["pairs"]))
            us = 1e6 * most["seconds"] / most["pairs"]
            pair = f"{figure(us)} ({most['pairs']:,} at {most['genes']:,} × {most['cells']:,})"
            small = ", ".join(figure(done[0][name]) for name in ("seconds", "work_seconds") if name in done[0])
        name = PEERS[key].name + (f" ({peer['version']})" if peer.get("version") else "")
        grown = [power_shown(peer.get("growth", {}).get(one)) for one in ("seconds", "bytes")]
        row = [name, CANDIDATES[PEERS[key].candidates], pair, small, *grown, "; ".join(why)]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def power_shown(fit: Sequence[float] | None) -> str:
    """Exponents of a fit."""
    return "" if fit is None else f"{fit[1]:.2f}, {fit[2]:.2f}"


FIGURES: dict[str, Callable[[dict[str, Any]], float]] = {
    "slower than": lambda case: case["seconds"],
    "above the CPU seconds of": lambda case: case["cpu_seconds"],
    "above the memory (GB) of": lambda case: case["bytes"] / 1e9,
}


def behind(found: dict[str, Any]) -> Iterator[str]:
    """Where ours takes longer, or more memory, than a peer: ours / theirs, by genes × cells."""
    for own, others in OURS.items():
        for what, value in FIGURES.items():
            told = list[str]()
            for key in others:
                sizes = [
                    f"{case['genes']:,} × {case['cells']:,} ({figure(value(ours))} / {figure(value(case))})"
                    for case, ours in both_done(found["peers"], own, key)
                    if value(ours) > value(case)
                ]
                told += [f"{PEERS[key].name} at {', '.join(sizes)}"] if sizes else []
            yield f"- `{own}` is {what}: {'; '.join(told) or 'none'}."


def both_done(peers: dict[str, Any], own: str, key: str) -> Iterator[tuple[Any, Any]]:
    """Cases that a peer and ours ended."""
    for case in peers.get(key, {"cases": []})["cases"]:
        ours = case_of(peers.get(own, {"cases": []}), case["genes"], case["cells"])
        if ours and case["state"] in DONE and ours["state"] in DONE:
            yield case, ours


# ── the plot ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def plot(found: dict[str, Any], file: Path) -> None:
    """Seconds and memory against cells, a panel for each number of genes."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    peers = {key: peer["cases"] for key, peer in found["peers"].items() if peer["cases"]}
    genes = sorted({case["genes"] for cases in peers.values() for case in cases})
    figure_, axes = plt.subplots(
        2, len(genes), figsize=(3.4 * len(genes) + 1.6, 6.4), sharex=True, sharey="row", squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for column, number in enumerate(genes):
        for row, (name, unit, label) in enumerate((("seconds", 1, "seconds"), ("bytes", 1e9, "peak memory, GB"))):
            axis = axes[row, column]
            for place, (key, cases) in enumerate(peers.items()):
                draw(axis, [c for c in cases if c["genes"] == number], name, unit, key, f"C{place}")
            axis.set(xscale="log", yscale="log")
            axis.set(**({"title": f"{number:,} genes"} if row == 0 else {"xlabel": "cells"}))
            axis.set(**({"ylabel": label} if column == 0 else {}))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure_.legend(handles, labels, loc="outside right center", frameon=False)
    figure_.savefig(file, dpi=110)
    plt.close(figure_)


def draw(axis: Any, cases: Sequence[dict[str, Any]], name: str, unit: float, key: str, colour: str) -> None:
    """A peer's line: hollow where it was multiplied, an arrow up where it was stopped."""
    done = sorted((c["cells"], c[name] / unit, c["state"]) for c in cases if c["state"] in DONE)
    stopped = [(c["cells"], c[name] / unit) for c in cases if c["state"] in ("time", "memory")]
    label, width = PEERS[key].name.replace("*", "").replace("`", ""), 2.6 if key in OURS else 1.2
    x, y = ([one[at] for one in done] for at in (0, 1))
    hollow = any(one[2] == "sampled" for one in done)
    axis.plot(x, y, "o-", color=colour, linewidth=width, markersize=4, label=label, mfc="white" if hollow else colour)
    axis.plot(*([one[at] for one in stopped] for at in (0, 1)), "^", color=colour, markersize=7)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number: Callable[[str], list[Any]] = listed(int)
    made.add_argument("--folder", type=Path, help="where environments and matrices are made and kept; absent: nowhere")
    made.add_argument("--genes", type=number, default=[300, 1000, 3000, 20_000])
    made.add_argument("--cells", type=number, default=[1000, 10_000, 100_000])
    made.add_argument("--density", type=float, default=0.1)
    made.add_argument("--limit", type=float, default=120, help="seconds of a case")
    made.add_argument("--memory", type=float, default=14, help="GB of a case")
    made.add_argument("--sample", type=float, default=10, help="seconds, of recipes that go item by item")
    made.add_argument("--only", type=listed(str), default=list(PEERS), help=f"of {', '.join(PEERS)}")
    made.add_argument("--json", type=Path)
    made.add_argument("--plot", type=Path)
    return made


def main(given: Sequence[str] | None = None) -> None:
    """Print the tables."""
    made = parser()
    asked = made.parse_args(given)
    if unknown := set(asked.only) - set(PEERS):
        made.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    with folder_of(asked.folder) as folder:
        found = measure(asked, folder.resolve())
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    if asked.plot:
        plot(found, asked.plot)
    print(tables(found))


if __name__ == "__main__":
    main()
