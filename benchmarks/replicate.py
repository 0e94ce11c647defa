"""Replicate labels: does a network of other cells rank pairs as one half of these cells labels them.

python -m benchmarks.replicate RUN --sets FILE [FILE …] [--genes 800] [--threshold 0.3] [--seeds 0,1,2] [--json FILE]

The cells of a set are halved, as `--labels replicate` does it. Pairs of the genes that most cells express are labelled
in one half, by |Spearman| and by |correlation of Pearson residuals| (where there are raw counts), and scored in the
other. Whoever makes the label is the favoured rival, so either is shown: average precision of the network, of
|Spearman| of the scored half, and of |correlation of residuals| there.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.metrics import average_precision_score

from benchmarks.classical import Sample
from benchmarks.independence import listed, load_network
from pairscape.model.evaluation.association import spearman
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.labels import THRESHOLD, correlations, replicate_labels, split_cells
from pairscape.pipeline.genes.pairs import Pairs, all_pairs
from pairscape.pipeline.genes.residuals import residuals_of
from pairscape.pipeline.heatmaps.drawn import draw_images
from pairscape.pipeline.matrix.expression import Expression
from pairscape.pipeline.matrix.prepare import counts_of, prepared
from pairscape.pipeline.options import Binning, LabelStatistic

AT_ONCE = 1000  # pairs whose values are laid out together
LABELS: tuple[LabelStatistic, ...] = ("spearman", "residual")
NETWORK, SPEARMAN, RESIDUALS = "network", "|Spearman|", "|residuals|"


def raw_counts(matrix: Expression) -> Expression | None:
    """Its raw counts, where it has any."""
    try:
        return counts_of(matrix)
    except InputError:
        return None


def measure(
    path: Path, genes: int, threshold: float, seed: int, network: tuple[Binning, Callable[[Sample], Any]]
) -> dict[str, dict[str, float]]:
    """Average precision by label and score."""
    with tempfile.TemporaryDirectory() as scratch:
        matrix = prepared(path, Path(scratch) / "set.zarr", compute=None, say=lambda *_: None)
        label_half, image_half = split_cells(matrix.n_cells, seed)
        whole, counted = matrix.rows(0, matrix.n_cells), raw_counts(matrix)
        counts = None if counted is None else counted.rows(0, matrix.n_cells)
    chosen = np.sort(np.argsort(-np.diff(whole.tocsc().indptr), kind="stable")[:genes])
    pairs = all_pairs(chosen.size)
    scores = scored(whole[image_half][:, chosen], pairs, *network)
    if counts is not None:
        scores[RESIDUALS] = np.abs(correlations(pairs, _residuals(counts[image_half], chosen)))
    found = dict[str, dict[str, float]]()
    for label in LABELS if counts is not None else LABELS[:1]:
        if label == "spearman":
            labelled, _ = replicate_labels(pairs, whole[label_half][:, chosen], threshold)
        else:
            assert counts is not None
            half = counts[label_half]
            labelled, _ = replicate_labels(pairs, half[:, chosen], threshold, statistic="residual", depth=_depth(half))
        positive = labelled.label == 1
        found[label] = {name: float(average_precision_score(positive, score)) for name, score in scores.items()}
        found[label]["positives"] = float(positive.mean())
    return found


def _residuals(counts: sparse.csr_matrix, chosen: NDArray[np.int64]) -> Any:
    return residuals_of(counts[:, chosen], _depth(counts))


def _depth(counts: sparse.csr_matrix) -> NDArray[np.float64]:
    """Counts of each cell over all genes."""
    return np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()


def scored(
    cells: sparse.csr_matrix, pairs: Pairs, binning: Binning, network: Callable[[Sample], Any]
) -> dict[str, NDArray[np.float64]]:
    """Scores of pairs of genes in some cells, (N, G) log expression."""
    values = np.ascontiguousarray(cells.toarray().T.astype(np.float32))
    odds, rank = np.empty(len(pairs)), np.empty(len(pairs))
    for start in range(0, len(pairs), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        a, b = values[pairs.gene_a[rows]], values[pairs.gene_b[rows]]
        counts, both_zero = draw_images(a, b, binning)
        odds[rows], rank[rows] = network(Sample(a, b, counts, both_zero))[0], np.abs(spearman(counts))
    return {NETWORK: odds, SPEARMAN: rank}


def print_table(runs: Sequence[dict[str, Any]]) -> None:
    """Mean, and lowest and highest over the seeds, of every set and label."""
    print(f"| set | label | positive | {NETWORK} | {SPEARMAN} | {RESIDUALS} | network less {SPEARMAN} |")
    print("|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(run["name"] for run in runs):
        for label in LABELS:
            own = [run["found"][label] for run in runs if run["name"] == name and label in run["found"]]
            if own:
                cells = [_spread([one.get(score, np.nan) for one in own]) for score in (NETWORK, SPEARMAN, RESIDUALS)]
                less = _spread([one[NETWORK] - one[SPEARMAN] for one in own], "+")
                share = np.mean([one["positives"] for one in own])
                print(f"| {name} | {label} | {share:.1%} | {' | '.join(cells)} | {less} |")


def _spread(values: Sequence[float], sign: str = "") -> str:
    return f"{np.mean(values):{sign}.3f} ({min(values):{sign}.3f} to {max(values):{sign}.3f})"


def main(given: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sets", type=Path, nargs="+", required=True)
    parser.add_argument("--genes", type=int, default=800)
    parser.add_argument("--threshold", type=float, default=THRESHOLD)
    parser.add_argument("--seeds", type=listed(int), default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(given)
    network, runs = load_network(arguments.run), list[dict[str, Any]]()
    for path in arguments.sets:
        for seed in arguments.seeds:
            found = measure(path, arguments.genes, arguments.threshold, seed, network)
            runs.append({"name": path.stem, "seed": seed, "found": found})
            if arguments.json:
                arguments.json.write_text(json.dumps(runs, indent=1) + "\n")
    print_table(runs)


if __name__ == "__main__":
    main()
