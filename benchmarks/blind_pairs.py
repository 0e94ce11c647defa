"""Does a network find in real cells what a correlation is blind to: pairs called in one half, sought in other cells.

python -m benchmarks.blind_pairs RUN FIRST OTHER [--pairs 60000] [--expressing 0.2] [--seed 0]
    [--json FILE] [--plot FILE.png]

FIRST and OTHER are matrices of the same tissue, from different studies. The cells of FIRST are halved. Of random pairs
of genes that a fifth of the cells express everywhere, those are blind that Spearman's |z| in the first half is below
1.5; of these, called are those that score beyond 99.9 % of decoys, pairs whose second gene is dealt anew among
cells of like depth. How many of the called are called again in the second half, and in OTHER, each by decoys of its own
(99.9 % and 95 %), is set beside the base rate: the same among all blind pairs.

The plot shows the twelve called pairs of the highest score in the second half, as pictures of the dependence.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.classical import Sample
from benchmarks.independence import load_network
from pairscape.model.evaluation.association import spearman
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.heatmaps.drawn import draw_images
from pairscape.pipeline.heatmaps.pairwise import deal_places, strata_of
from pairscape.pipeline.matrix.prepare import prepared
from pairscape.pipeline.options import Binning

BLIND = 1.5  # standard deviations of Spearman's correlation
LEVELS = (0.999, 0.95)
AT_ONCE = 1000
DEAL_PAIRS = 1000  # decoys that share a dealing of the cells
SHOWN = 12

Scores = Callable[[Sample], Any]


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells that pairs are scored in.

    Attributes
    ----------
    values : (G, N) float32
        Expression of the genes that all sets have.
    stratum : (N,) uint8
        Of like depth.
    """

    values: NDArray[np.float32]
    stratum: NDArray[np.uint8]

    @classmethod
    def of(cls, matrix: sparse.csr_matrix, genes: NDArray[np.int64], seed: int) -> "Cells":
        """Some genes of a matrix, (N, G) log expression; depth is of all its genes."""
        depth = np.diff(matrix.indptr)
        values = np.ascontiguousarray(matrix[:, genes].toarray().T.astype(np.float32))
        return cls(values, strata_of(depth, seed))


@dataclass(frozen=True, eq=False)
class Found:
    """Pairs in some cells: log-odds of a dependence, kind, Spearman's z, all (P,), and log-odds of decoys."""

    odds: NDArray[np.float64]
    kind: NDArray[np.int64]
    z: NDArray[np.float64]
    decoys: NDArray[np.float64]

    def called(self, level: float) -> NDArray[np.bool_]:
        """Pairs beyond such a share of the decoys, (P,)."""
        return self.odds > np.quantile(self.decoys, level)


def look(cells: Cells, pairs: NDArray[np.int64], binning: Binning, network: Scores, seed: int) -> Found:
    """Score pairs (P, 2) and as many decoys."""
    odds, decoys = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    kind, z = list[NDArray[np.int64]](), list[NDArray[np.float64]]()
    for start in range(0, len(pairs), AT_ONCE):
        a, b = (cells.values[ends] for ends in pairs[start : start + AT_ONCE].T)
        place = deal_places(cells.stratum, seed, start // DEAL_PAIRS)
        for values, into in ((b, odds), (b[:, place], decoys)):
            counts, both_zero = draw_images(a, values, binning)
            _, shares = network(Sample(a, values, counts, both_zero))
            into.append(np.log(shares[:, 1:].sum(1)) - np.log(np.maximum(shares[:, 0], 1e-300)))
            if into is odds:
                kind.append(shares[:, 1:].argmax(1) + 1)
                z.append(spearman(counts) * np.sqrt(a.shape[1]))
    return Found(np.concatenate(odds), np.concatenate(kind), np.concatenate(z), np.concatenate(decoys))


def again(first: Found, others: dict[str, Found]) -> dict[str, Any]:
    """How many of the blind pairs that are called are called again, beside the base rate."""
    blind = np.abs(first.z) < BLIND
    called = blind & first.called(LEVELS[0])
    figures: dict[str, Any] = {"pairs": int(blind.size), "blind": int(blind.sum()), "called": int(called.sum())}
    figures["kinds"] = {name: int((first.kind[called] == number).sum()) for number, name in enumerate(KINDS) if number}
    for name, other in others.items():
        for level in LEVELS:
            calls = other.called(level)
            rate, base = float(calls[called].mean()) if called.any() else None, float(calls[blind].mean())
            times = None if rate is None or not base else rate / base
            figures[f"{name}, {level:.1%} of decoys"] = {"again": rate, "base": base, "times": times}
    return figures


def draw(
    path: Path, cells: Cells, pairs: NDArray[np.int64], rows: NDArray[np.int64], found: Found, names: list[str],
    binning: Binning,
) -> None:  # fmt: skip
    """Pictures of the dependence of some pairs: what is more, and less, than of independent genes."""
    figure = Figure(figsize=(12, 9.5), layout="constrained")
    every = figure.subplots(3, 4).flat
    for axes in every[len(rows) :]:
        axes.axis("off")
    for axes, row in zip(every, rows, strict=False):
        a, b = pairs[row]
        counts = draw_images(cells.values[[a]], cells.values[[b]], binning)[0][0].astype(float)
        pooled = counts.reshape(8, counts.shape[0] // 8, 8, -1).sum((1, 3))
        expected = pooled.sum(1, keepdims=True) * pooled.sum(0, keepdims=True) / pooled.sum()
        residual = (pooled - expected) / np.sqrt(expected + 0.25)
        axes.imshow(residual, origin="lower", cmap="RdBu_r", vmin=-4, vmax=4)
        axes.set(xlabel=names[a], ylabel=names[b], xticks=[], yticks=[])
        axes.set_title(f"{KINDS[found.kind[row]]}, Spearman z {found.z[row]:.1f}", fontsize=10)
    figure.savefig(path, dpi=110)


def cells_of(first: Path, other: Path, share: float, seed: int) -> tuple[dict[str, Cells], list[str]]:
    """Both halves of the first matrix, and the other, over the genes that enough cells of all express; their names."""
    with tempfile.TemporaryDirectory() as scratch:
        read = [prepared(path, Path(scratch, f"{path.stem}.zarr"), compute=None, say=print) for path in (first, other)]
        matrices = [matrix.rows(0, matrix.n_cells) for matrix in read]
    names = [[str(name) for name in (matrix.symbols or matrix.genes)] for matrix in read]
    shared = sorted(set(names[0]) & set(names[1]))
    of_first, of_other = (np.array([known.index(name) for name in shared]) for known in names)
    half = np.random.default_rng(seed).permutation(matrices[0].shape[0]) < matrices[0].shape[0] // 2
    parts = {
        "first half": (matrices[0][half], of_first),
        "second half": (matrices[0][~half], of_first),
        other.stem: (matrices[1], of_other),
    }
    expressing = [np.diff(part[:, genes].tocsc().indptr) / part.shape[0] for part, genes in parts.values()]
    kept = np.flatnonzero(np.min(expressing, axis=0) >= share)
    cells = {name: Cells.of(part, genes[kept], seed) for name, (part, genes) in parts.items()}
    return cells, [shared[gene] for gene in kept]


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("run", "first", "other"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--pairs", type=int, default=60_000)
    parser.add_argument("--expressing", type=float, default=0.2, help="share of the cells that express each gene")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    binning, network = load_network(given.run)
    cells, names = cells_of(given.first, given.other, given.expressing, given.seed)
    upper = np.stack(np.triu_indices(len(names), 1), axis=1)
    rng = np.random.default_rng(given.seed)
    pairs = upper[np.sort(rng.choice(len(upper), min(given.pairs, len(upper)), replace=False))]
    found = {name: look(some, pairs, binning, network, given.seed) for name, some in cells.items()}
    figures = again(found["first half"], {name: one for name, one in found.items() if name != "first half"})
    figures |= {"genes": len(names), "cells": {name: some.stratum.size for name, some in cells.items()}}
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    if given.plot:
        called = np.flatnonzero((np.abs(found["first half"].z) < BLIND) & found["first half"].called(LEVELS[0]))
        best = called[np.argsort(-found["second half"].odds[called], kind="stable")[:SHOWN]]
        draw(given.plot, cells["second half"], pairs, best, found["second half"], names, binning)


if __name__ == "__main__":
    main()
