"""What real matrices are taken for, under treatments that users' files have been through.

python -m benchmarks.value_kinds FOLDER

FOLDER holds .h5ad of raw counts. Every matrix is treated in each of the ways below, and judged. A treatment's line has
how many matrices were taken for each kind, and how many of these wrongly ("unclear" is refused, not wrong).
`corrected` counts are multiplied by draws from 0.6 to 1 (as SoupX leaves them), `shared` ones moved in thirds between
neighbouring genes (as STARsolo shares out multimapped reads), `thinned` ones are 5 % of the molecules; `subset` keeps
the 300 genes of highest mean after the treatment.
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

from pairscape.pipeline.matrix.value_kinds import judge

Matrix = sparse.csr_matrix


def _each(x: Matrix, function: Callable[..., np.ndarray]) -> Matrix:
    return Matrix((function(x.data), x.indices, x.indptr), shape=x.shape)


def _scaled(x: Matrix, total: float = 1e4) -> Matrix:
    sums = np.asarray(x.sum(axis=1)).ravel()
    return Matrix(sparse.diags(total / np.where(sums > 0, sums, 1)) @ x)


def _corrected(x: Matrix) -> Matrix:
    return _each(x, lambda data: data * np.random.default_rng(0).uniform(0.6, 1, data.size))


def _shared(x: Matrix) -> Matrix:
    """A tenth of the genes give a third of their molecules to the next gene."""
    giving = np.arange(x.shape[1] - 1)[::10]
    moves = sparse.eye(x.shape[1], format="lil")
    for gene in giving:
        moves[gene, gene], moves[gene, gene + 1] = 2 / 3, 1 / 3
    return Matrix(x @ moves.tocsr())


def _thinned(x: Matrix) -> Matrix:
    kept = _each(x, lambda data: np.random.default_rng(1).binomial(data.astype(np.int64), 0.05).astype(float))
    kept.eliminate_zeros()
    return kept


def _subset(x: Matrix) -> Matrix:
    return x[:, np.sort(np.argsort(np.asarray(x.mean(axis=0)).ravel())[-300:])]


TREATMENTS: dict[str, tuple[Callable[[Matrix], Matrix], set[str]]] = {
    "raw": (lambda x: x, {"raw counts"}),
    "raw, float noise": (lambda x: _each(x, lambda d: np.expm1(np.log1p(d.astype(np.float32)))), {"raw counts"}),
    "corrected": (_corrected, {"fractional counts"}),
    "corrected, thinned": (lambda x: _corrected(_thinned(x)), {"fractional counts"}),
    "shared": (_shared, {"fractional counts"}),
    "to 10,000": (_scaled, {"normalised"}),
    "to 1": (lambda x: _scaled(x, 1.0), {"shares"}),
    "to 1,000,000, subset": (lambda x: _subset(_scaled(x, 1e6)), {"normalised"}),
    "corrected, to 10,000, subset": (lambda x: _subset(_scaled(_corrected(x))), {"normalised", "fractional counts"}),
    "log1p of 10,000": (lambda x: _each(_scaled(x), np.log1p), {"log"}),
    "log1p of 10,000, subset": (lambda x: _subset(_each(_scaled(x), np.log1p)), {"log"}),
    "log2 of 1,000,000, subset": (lambda x: _subset(_each(_scaled(x, 1e6), lambda d: np.log2(d + 1))), {"log"}),
    "corrected, log1p of 10,000, subset": (lambda x: _subset(_each(_scaled(_corrected(x)), np.log1p)), {"log"}),
    "log1p of raw": (lambda x: _each(x, np.log1p), {"log"}),
    "square roots of raw": (lambda x: _each(x, np.sqrt), {"square roots"}),
    "square roots of 10,000": (lambda x: _each(_scaled(x), np.sqrt), {"square roots"}),
}


def main(folder: Path) -> None:
    """Print the table."""
    matrices = [Matrix(ad.read_h5ad(path).X, dtype=np.float64) for path in sorted(folder.glob("*.h5ad"))]
    counts = [x for x in matrices if (x.data == np.rint(x.data)).all()]
    print(f"{len(counts)} matrices of raw counts")
    for name, (treat, right) in TREATMENTS.items():
        found = Counter(judge([Matrix(treat(x), dtype=np.float32)], name).kind for x in counts)
        said = ", ".join(f"{kind} {n}" for kind, n in found.most_common())
        wrong = sum(n for kind, n in found.items() if kind not in right and kind != "unclear")
        print(f"| {name} | {said} | {wrong} wrong |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
